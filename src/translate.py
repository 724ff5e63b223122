"""Translate lines by a trained model: python src/translate.py run=PATH < in.txt > out.txt"""

import io
import itertools
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from pydantic import NonNegativeInt, PositiveInt

from hourglass.config.command_line import check_command_line, one_line_errors
from hourglass.config.compose import plain_values
from hourglass.config.options import build
from hourglass.corpora.lines import decode_line
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.search import SearchSettings
from hourglass.decoding.translate import Translation, clean, progress_bar, translate_n_best
from hourglass.decoding.word_alignment import (
    check_weights,
    draw,
    read_weights,
    source_words,
    target_words,
    to_json,
    to_pharaoh,
    word_weights,
)
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_average, load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder, open_run
from hourglass.system.devices import Accelerator, find_device

# Translations whose weights are read at once.
ALIGNED_TOGETHER = 64


@dataclass(frozen=True)
class TranslateSettings:
    """conf/translate.yaml, but for the group `search`.

    Attributes:
        run: the run folder, or several, whose models translate together.
        checkpoint: best on dev, the last, or the average of those that trainer.keep kept.
        n_best: translations written of each line; more than one: each on a line of its own, with its score.
        output: text alone; with word alignments in Pharaoh's format; or as JSON with the weights over pieces.
        interactive: ask for lines on a terminal, and draw what the model looks at.
        seed: of what is drawn, with search.temperature above 0.
        accelerator: cpu, gpu, or auto for the best there is.
        threads: CPU threads; 0 leaves torch's choice.
    """

    run: str | list[str]
    checkpoint: Literal["best", "last", "average"]
    n_best: PositiveInt
    output: Literal["text", "pharaoh", "json"]
    interactive: bool
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
        check_options(settings, search)
        trained = [load(run, settings.checkpoint) for run, _ in runs]
        check_together(trained, [run.path for run, _ in runs], search)
        torch.manual_seed(settings.seed)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        models = [one.model.to(find_device(settings.accelerator)) for one in trained]
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says
        if settings.output != "text":
            check_weights(models, f"output={settings.output}", "set output=text")
        if settings.interactive:
            talk(models, trained[0].vocabularies, search)
            return
        lines, copies = itertools.tee(read(sys.stdin.buffer))
        with progress_bar(None, "lines") as bar:
            found = translate_n_best(
                models, trained[0].vocabularies, lines, search, settings.n_best, progress=bar.update
            )
            written = write(models, trained[0].vocabularies, copies, found, settings)
            for line in written:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()


def check_options(settings: TranslateSettings, search: SearchSettings) -> None:
    """See that options go together.

    Raises:
        UserError: they do not.
    """
    if settings.n_best > search.beam:
        raise UserError(
            f"n_best={settings.n_best} is more than search.beam={search.beam} finds: set search=beam "
            f"search.beam={settings.n_best} or more"
        )
    if settings.interactive and (settings.n_best > 1 or settings.output != "text"):
        raise UserError(
            "interactive=true draws one translation of each line: leave out n_best and output, or set interactive=false"
        )


def write(
    models: Sequence[Seq2Seq],
    vocabularies: Vocabularies,
    lines: Iterable[str],
    found: Iterable[list[Translation]],
    settings: TranslateSettings,
) -> Iterator[str]:
    """Yield the lines that are written of the translations of each line; what is aligned is aligned some at a time."""
    pairs = (
        (number, clean(line), one) for number, (line, best) in enumerate(zip(lines, found, strict=True)) for one in best
    )
    if settings.output == "text":
        for number, _, one in pairs:
            yield one.text if settings.n_best == 1 else f"{number} ||| {one.text} ||| {one.score:.6f}"
        return
    while some := list(itertools.islice(pairs, ALIGNED_TOGETHER)):
        sources = vocabularies.source.encode([line for _, line, _ in some])
        read = read_weights(models, sources, [one.tokens for *_, one in some])
        for (number, line, one), weights in zip(some, read, strict=True):
            if settings.output == "json":
                more: dict[str, Any] = {"line": number, "score": round(one.score, 6)}
                yield to_json(vocabularies, line, one.text, one.tokens, weights, **more)
                continue
            words = word_weights(weights, source_words(vocabularies, line), target_words(vocabularies, one.tokens))
            aligned = f"{one.text} ||| {to_pharaoh(words)}"
            yield aligned if settings.n_best == 1 else f"{number} ||| {aligned} ||| {one.score:.6f}"


def talk(models: Sequence[Seq2Seq], vocabularies: Vocabularies, search: SearchSettings) -> None:
    """Ask for a line, translate it, draw the weights; until the input ends. A line that cannot be is said to."""
    asks = sys.stdin.isatty()
    if asks:
        print("A line to translate; Ctrl-D ends.")
    for number in itertools.count(1):
        if asks:
            sys.stdout.write("> ")
            sys.stdout.flush()
        raw = sys.stdin.buffer.readline()
        if not raw:
            break
        try:
            print(answer(models, vocabularies, search, decode_line(raw, "standard input", number)), flush=True)
        except UserError as error:
            print(f"error: {error}", flush=True)


def answer(models: Sequence[Seq2Seq], vocabularies: Vocabularies, search: SearchSettings, raw: str) -> str:
    """Return the translation of a line, and below it what the models look at."""
    line = clean(raw)
    ((best,),) = translate_n_best(models, vocabularies, [line], search, 1)
    if not all(model.decoder.attention.has_weights for model in models):
        return f"{best.text}\n(attention={models[0].decoder.attention.name} has no weights to draw)"
    if not best.tokens or not line:
        return best.text
    (weights,) = read_weights(models, vocabularies.source.encode([line]), [best.tokens])
    words = word_weights(weights, source_words(vocabularies, line), target_words(vocabularies, best.tokens))
    source, target = line.split(), best.text.split()
    if (len(target), len(source) + 1) != words.shape:  # Bytes that make no character, and the like.
        return f"{best.text}\n(its pieces do not make words one by one: nothing is drawn)"
    return f"{best.text}\n\n{draw(words, source, target, shutil.get_terminal_size().columns)}\n"


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
