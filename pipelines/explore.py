"""Write the attention explorer: python pipelines/explore.py run=PATH, or 'run=[PATH,PATH]' for several side by side."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import hydra
from omegaconf import DictConfig, OmegaConf
from pydantic import Field, PositiveInt

from hourglass.checkpoints import load_trained
from hourglass.corpus import load_corpus
from hourglass.errors import UserError, check_command_line, one_line_errors
from hourglass.explorer import choose_sentences, describe, write_page
from hourglass.options import build, plain_values
from hourglass.runs import open_run, write_whole
from hourglass.settings import check_to_read


@dataclass(frozen=True)
class ExploreSettings:
    """conf/explore.yaml.

    Attributes:
        run: the run folder, or several that are shown side by side.
        sentences: test sentences on the page.
        output: the page.
    """

    run: str | list[str]
    sentences: PositiveInt
    output: Annotated[str, Field(min_length=1)]


@hydra.main(config_path="../conf", config_name="explore", execution_whitelist=())
def main(composed: DictConfig) -> None:
    """Follow the models through some test sentences and write the page."""
    with one_line_errors():
        if OmegaConf.is_missing(composed, "run"):
            raise UserError("run: not set; python pipelines/explore.py run=PATH, PATH a run folder")
        settings = build(ExploreSettings, plain_values(composed), "explore")
        paths = [settings.run] if isinstance(settings.run, str) else settings.run
        if not paths:
            raise UserError("run=[]: names no run folder; give one or several")
        runs = [open_run(path, "run") for path in paths]
        models = [load_trained(run.best) for run, _ in runs]
        for path, model in zip(paths, models, strict=True):
            if model.corpus_digest != models[0].corpus_digest:
                raise UserError(f"run: {path} and {paths[0]} are runs of different corpora: name runs of one")
        checked = [check_to_read(config) for _, config in runs]
        config = runs[0][1]
        corpus = load_corpus(config["data"], Path(config["cache"]).expanduser())
        if corpus.digest != models[0].corpus_digest:
            raise UserError(f"run: the corpus of {paths[0]} has changed since: restore it, or train again")
        test = corpus.splits["test"]
        chosen = choose_sentences(test["source_words"][:], settings.sentences)
        rows = [(test[i]["id"], test[i]["source"], test[i]["target"]) for i in chosen]
        names = name_runs([one for _, one in runs])
        content = describe(
            dict(zip(names, models, strict=True)),
            rows,
            {name: one.search for name, one in zip(names, checked, strict=True)},
            f"Watch it translate: {config['data']['name']}, {corpus.source_language} to {corpus.target_language}",
        )
        output = Path(settings.output).expanduser()
        write_whole(output, write_page(content))
        size = output.stat().st_size / 1e6
        print(f"written: {output} ({size:.1f} MB, {len(rows)} sentences, {', '.join(names)})")


def name_runs(configs: list[dict[str, Any]]) -> list[str]:
    """Return a name for each run: its attention, with the seed or a number where that is not enough."""
    names = [config["attention"]["name"] for config in configs]
    if len(set(names)) < len(names):
        names = [f"{name}, seed {config['seed']}" for name, config in zip(names, configs, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    return names


if __name__ == "__main__":
    check_command_line("explore")
    main()
