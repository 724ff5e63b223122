"""Translate lines by a trained model: python src/translate.py run=PATH < in.txt > out.txt"""

import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeInt, PositiveInt

from hourglass.checkpoints import Trained, load_average, load_trained
from hourglass.corpora_recipes import decode_line
from hourglass.devices import Accelerator, find_device
from hourglass.errors import UserError, check_command_line, one_line_errors
from hourglass.options import build, plain_values
from hourglass.runs import RunFolder, open_run
from hourglass.search import SearchSettings
from hourglass.translation import progress_bar, translate_n_best


@dataclass(frozen=True)
class TranslateSettings:
    """conf/translate.yaml, but for the group `search`.

    Attributes:
        run: the run folder, or several, whose models translate together.
        checkpoint: best on dev, the last, or the average of those that trainer.keep kept.
        n_best: translations written of each line; more than one: each on a line of its own, with its score.
        seed: of what is drawn, with search.temperature above 0.
        accelerator: cpu, gpu, or auto for the best there is.
        threads: CPU threads; 0 leaves torch's choice.
    """

    run: str | list[str]
    checkpoint: Literal["best", "last", "average"]
    n_best: PositiveInt
    seed: NonNegativeInt
    accelerator: Accelerator
    threads: NonNegativeInt


@hydra.main(config_path="../conf", config_name="translate", execution_whitelist=())
def main(composed: DictConfig) -> None:
    """Translate standard input to standard output, line by line."""
    with one_line_errors():
        if OmegaConf.is_missing(composed, "run"):
            raise UserError("run: not set; python src/translate.py run=PATH < in.txt > out.txt, PATH a run folder")
        config = plain_values(composed)
        chosen = config.pop("search", None)
        settings = build(TranslateSettings, config, "translate")
        runs = [open_run(path, "run") for path in ([settings.run] if isinstance(settings.run, str) else settings.run)]
        if not runs:
            raise UserError("run=[]: names no run folder; give one or several")
        search = build(SearchSettings, chosen or runs[0][1].get("search", {}), "search")
        if settings.n_best > search.beam:
            raise UserError(
                f"n_best={settings.n_best} is more than search.beam={search.beam} finds: set search=beam "
                f"search.beam={settings.n_best} or more"
            )
        trained = [load(run, settings.checkpoint) for run, _ in runs]
        check_together(trained, [run.path for run, _ in runs], search)
        torch.manual_seed(settings.seed)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        models = [one.model.to(find_device(settings.accelerator)) for one in trained]
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
        lines = read(sys.stdin.buffer)
        with progress_bar(None, "lines") as bar:
            found = translate_n_best(
                models, trained[0].vocabularies, lines, search, settings.n_best, progress=bar.update
            )
            for number, best in enumerate(found):
                for one in best:
                    sys.stdout.write(
                        f"{one.text}\n" if settings.n_best == 1 else f"{number} ||| {one.text} ||| {one.score:.6f}\n"
                    )
                sys.stdout.flush()


def load(run: RunFolder, checkpoint: str) -> Trained:
    """Return the model of a run's checkpoint of that name."""
    if checkpoint == "average":
        return load_average(run.all_validated)
    return load_trained(run.best if checkpoint == "best" else run.last)


def check_together(trained: Sequence[Trained], paths: Sequence[Path], search: SearchSettings) -> None:
    """See that all models have one vocabulary, and what the search wants of them.

    Raises:
        UserError: they do not.
    """
    for one, path in zip(trained, paths, strict=True):
        if one.vocabularies.digest != trained[0].vocabularies.digest:
            raise UserError(
                f"run: {path} and {paths[0]} have different vocabularies, and cannot vote on one text: "
                "name runs of one corpus and tokenizer"
            )
        search.check_attention(one.model.decoder.attention)
        search.check_words(one.config["tokenizer"]["model"])


def read(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream as a corpus has them, one sentence each.

    Raises:
        UserError: a line is not UTF-8 or holds a NUL.
    """
    for number, raw in enumerate(stream, 1):
        yield decode_line(raw, "standard input", number)


if __name__ == "__main__":
    check_command_line("translate")
    main()
