"""Translate lines with a trained model: python src/translate.py RUN < in.txt > out.txt"""

import io
import itertools
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import build
from hourglass.corpora.features import FeaturesInFile, check_features, open_features
from hourglass.corpora.languages import words_of
from hourglass.corpora.lines import decode_line
from hourglass.corpora.pictures import is_pictures, open_pictures
from hourglass.corpora.recipe import FeatureArray
from hourglass.data.pieces import EOS
from hourglass.data.tokenizer import Tokenizer
from hourglass.decoding.copied import check_copies, copied_shares, mark_copied
from hourglass.decoding.precision import all_in_precision, check_machine, check_model
from hourglass.decoding.search import SearchSettings, check_source_words
from hourglass.decoding.translate import ScoredTranslation, clean, translate_n_best
from hourglass.decoding.word_alignment import (
    align_words,
    caption_to_json,
    check_weights,
    draw_alignment,
    read_weights,
    to_json,
    to_pharaoh,
)
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_average, load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.runs.folder import RunFolder, open_run
from hourglass.system.bars import Bar
from hourglass.system.devices import Accelerator, find_device, prepare_torch
from hourglass.system.markup import visible

# What messages call standard input.
INPUT = "standard input"
# Translations whose attention weights are computed at once, and the weights themselves: 100 MB.
ALIGNED_TOGETHER = 64
WEIGHTS_TOGETHER = 12_000_000
# Words of a side that the prompt draws weights of, at most.
LONGEST_DRAWN = 100


@dataclass(frozen=True)
class TranslateSettings:
    """conf/translate.yaml without the group `search`.

    Attributes:
        run: the run folder, or several whose models translate together.
        checkpoint: the best on dev, the last, or the average of those that trainer.keep kept.
        n_best: translations of each line; if more than one, each is on a line of its own with its score.
        prefix: what every translation begins with; None: nothing.
        prefix_column: whether each line is a source, a tab, and what its translation begins with.
        output: text; text with word alignments in Pharaoh's format; JSON with the weights of pieces, and of models that
            copy with the share of copying; or text with copied words in square brackets.
        interactive: prompt for lines, and draw the attention weights.
        seed: of sampling, with search.temperature above 0.
        accelerator: cpu, gpu, or auto for the best that the machine has.
        threads: CPU threads; 0: torch decides.
        features: a file of features, see `open_features`, in place of lines; for models that read features.
    """

    run: RunPaths
    checkpoint: Literal["best", "last", "average"]
    n_best: PositiveInt
    prefix: str | None
    prefix_column: bool
    output: Literal["text", "pharaoh", "json", "marked"]
    interactive: bool
    seed: NonNegativeInt
    accelerator: Accelerator
    threads: NonNegativeInt
    features: str | None = None


def main(values: Mapping[str, Any]) -> None:
    """Translate standard input to standard output, line by line."""
    options = dict(values)
    search_options = options.pop("search", None)
    check_prefix_text(options.get("prefix"))
    settings = build(TranslateSettings, options, "")
    runs = [open_run(path, "run") for path in settings.run]
    search = build(SearchSettings, search_options or runs[0][1].get("search", {}), "search")
    check_options(settings, search)
    trained = [load_run(run, settings.checkpoint) for run, _ in runs]
    check_models(trained, [run.path for run, _ in runs], search)
    check_input(settings, search, trained)
    prepare_torch(settings.threads, settings.seed)
    device = find_device(settings.accelerator)
    check_machine(search.precision, device)
    models = [each.model.to(device) for each in trained]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # In every locale.
    if settings.output != "text":
        check_weights(models, f"output={settings.output}", "set output=text")
    if settings.output == "marked":
        check_copies(models, "output=marked", "set output=text, or take a run with decoder.copy=true")
    if settings.interactive:
        prompt_for_lines(models, trained[0], search, settings.prefix)
        return
    if settings.features is not None:
        for line in describe_pictures(models, trained[0], search, settings):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        return
    sources, copies, prefixes = split_columns(read_sources(decode_lines(sys.stdin.buffer), settings), settings)
    with Bar("translating", None, "lines") as bar:
        translations = translate_n_best(
            models,
            trained[0].vocabularies,
            sources,
            search,
            settings.n_best,
            prefixes=prefixes,
            progress=bar.update,
            place=f"{INPUT}:{{}}".format,
        )
        for line in format_translations(models, trained[0], copies, translations, settings):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()


def check_prefix_text(prefix: object) -> None:
    """Check that a prefix was read as text: 5 and true are a number and a truth value, unless they are in quotes.

    Raises:
        UserError: it was not; the message says what to write.
    """
    if prefix is None or isinstance(prefix, str):
        return
    if isinstance(prefix, bool | int | float):
        word = str(prefix).lower()
        raise UserError(f"prefix={word}: is no text as it stands: write 'prefix=\"{word}\"'")
    raise UserError("prefix: one text for all lines: write 'prefix=\"TEXT\"', or set prefix_column=true")


def check_options(settings: TranslateSettings, search: SearchSettings) -> None:
    """Check options against each other.

    Raises:
        UserError: they contradict each other.
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
    if settings.prefix_column and settings.prefix is not None:
        raise UserError(
            f"prefix={settings.prefix} and prefix_column=true: either all lines have one prefix, or each has its own: "
            "leave one out"
        )
    if settings.prefix_column and settings.interactive:
        raise UserError("prefix_column=true with interactive=true: set prefix=TEXT, or interactive=false")


def check_input(settings: TranslateSettings, search: SearchSettings, trained: Sequence[Trained]) -> None:
    """Check that models that read features are given some, and others none.

    Raises:
        UserError: they are not, or an option is of texts alone.
    """
    widths = [each.config["data"].get("feature_size") for each in trained]
    width = widths[0]
    if len(set(widths)) > 1:
        raise UserError(
            "run: the models read features of different widths, or some of them texts: name runs of one corpus"
        )
    if width is None:
        if settings.features is not None:
            raise UserError(f"features={settings.features}: {settings.run[0]} reads texts: leave it out")
        return
    if settings.features is None:
        raise UserError(
            f"features: not set, and {settings.run[0]} reads features of {width} numbers a region, not lines: set "
            "features=FILE (.npy, .npz or .arrow; of data=pictures a picture or a folder)"
        )
    check_source_words(search)
    for option, is_set in (
        ("prefix_column=true", settings.prefix_column),
        ("interactive=true", settings.interactive),
        ("output=pharaoh", settings.output == "pharaoh"),
    ):
        if is_set:
            raise UserError(f"{option} is for lines of text, and features={settings.features} has none: leave it out")


def describe_pictures(
    models: Sequence[Seq2Seq], trained: Trained, search: SearchSettings, settings: TranslateSettings
) -> Iterator[str]:
    """Yield the lines of output for the pictures of a file of features, in its order.

    Args:
        models: in float32; with attention weights, unless settings.output is text.
        trained: one of them.
        search: how to translate.
        settings: with the file and the format.
    """
    file, width = Path(str(settings.features)).expanduser(), trained.config["data"]["feature_size"]
    if not file.exists():
        raise UserError(f"features={settings.features}: no such file")

    def opened() -> FeaturesInFile:
        return open_pictures(file, trained.config["data"], "features") if is_pictures(file) else open_features(file)

    def read() -> Iterator[FeatureArray]:
        rows = enumerate(opened().rows, 1)
        return (check_features(features, width, f"{file}: picture {number}") for number, features in rows)

    count = opened().pictures
    vocabularies = trained.vocabularies
    with Bar("translating", count, "pictures") as bar:
        translations = translate_n_best(
            models,
            vocabularies,
            read(),
            search,
            settings.n_best,
            prefixes=None if settings.prefix is None else itertools.repeat(settings.prefix, count),
            progress=bar.update,
            place=f"{file}: picture {{}}".format,
        )
        for number, (features, best) in enumerate(zip(read(), translations, strict=True)):
            for caption in best:
                if settings.output == "text":
                    scored = f"{number} ||| {caption.text} ||| {caption.score:.6f}"
                    yield caption.text if settings.n_best == 1 else scored
                    continue
                (weights,) = read_weights(models, [features], [caption.tokens])
                yield caption_to_json(vocabularies, caption, weights, line=number)


class Line(NamedTuple):
    """A line of input."""

    source: str
    prefix: str  # what its translation begins with; empty: nothing


def read_sources(lines: Iterable[str], settings: TranslateSettings) -> Iterator[Line]:
    """Yield each line with its prefix.

    Raises:
        UserError: with prefix_column=true, a line does not have two columns.
    """
    for number, line in enumerate(lines, 1):
        if not settings.prefix_column:
            yield Line(line, settings.prefix or "")
            continue
        columns = line.split("\t")
        if len(columns) != 2:
            raise UserError(
                f"{INPUT}:{number}: {len(columns)} column{'s'[: len(columns) != 1]} instead of two, with "
                "prefix_column=true: write source, one tab, prefix (which may be empty)"
            )
        yield Line(*columns)


def split_columns(
    lines: Iterable[Line], settings: TranslateSettings
) -> tuple[Iterator[str], Iterator[str], Iterator[str] | None]:
    """Return the sources of lines twice, and their prefixes; None where no translation has one.

    A line is kept until all that are returned have passed it, so each has to be read.
    """
    if not settings.prefix_column and settings.prefix is None:
        sources, copies = itertools.tee(line.source for line in lines)
        return sources, copies, None
    first, second, third = itertools.tee(lines, 3)
    return (line.source for line in first), (line.source for line in second), (line.prefix for line in third)


def format_translations(
    models: Sequence[Seq2Seq],
    trained: Trained,
    lines: Iterable[str],
    translations: Iterable[list[ScoredTranslation]],
    settings: TranslateSettings,
) -> Iterator[str]:
    """Yield the lines of output, in the order of the input.

    Args:
        models: in float32; with attention weights, unless settings.output is text.
        trained: one of them, whose vocabularies and languages are those of all.
        lines: the input.
        translations: of each line, best first.
        settings: with the format.
    """
    rows = (
        (number, clean(line), translation)
        for number, (line, best) in enumerate(zip(lines, translations, strict=True))
        for translation in best
    )
    if settings.output == "text":
        for number, _, best in rows:
            yield best.text if settings.n_best == 1 else f"{number} ||| {best.text} ||| {best.score:.6f}"
        return
    vocabularies, languages = trained.vocabularies, trained.languages
    for batch, sources in batch_for_weights(rows, vocabularies.source):
        matrices = read_weights(models, sources, [translation.tokens for *_, translation in batch])
        copied: Sequence[np.ndarray | None] = [None] * len(batch)
        if all(model.copies for model in models):
            copied = copied_shares(models, sources, [[*translation.tokens, EOS] for *_, translation in batch])
        for (number, line, translation), weights, shares in zip(batch, matrices, copied, strict=True):
            if settings.output == "json":
                more = {} if shares is None else {"copied": shares.round(3).tolist()}
                yield to_json(vocabularies, languages, line, translation, weights, line=number, **more)
                continue
            if settings.output == "marked" and shares is not None:
                shown = mark_copied(vocabularies, languages[1], translation, shares[:-1])
            else:
                words = align_words(vocabularies, languages, line, translation, weights)
                shown = f"{translation.text} ||| {to_pharaoh(words)}"
            yield shown if settings.n_best == 1 else f"{number} ||| {shown} ||| {translation.score:.6f}"


def batch_for_weights(
    rows: Iterable[tuple[int, str, ScoredTranslation]], tokenizer: Tokenizer
) -> Iterator[tuple[list[tuple[int, str, ScoredTranslation]], list[list[int]]]]:
    """Yield rows in order, with the ids of their sources, as many at a time as memory holds weights of.

    Args:
        rows: number of the line, source and translation.
        tokenizer: of the sources.
    """
    batch: list[tuple[int, str, ScoredTranslation]] = []
    sources: list[list[int]] = []
    weights = 0
    for row in rows:
        (source,) = tokenizer.encode([row[1]])
        more = (len(source) + 1) * (len(row[2].tokens) + 1)
        if batch and (len(batch) == ALIGNED_TOGETHER or weights + more > WEIGHTS_TOGETHER):
            yield batch, sources
            batch, sources, weights = [], [], 0
        batch.append(row)
        sources.append(source)
        weights += more
    if batch:
        yield batch, sources


def prompt_for_lines(
    models: Sequence[Seq2Seq], trained: Trained, search: SearchSettings, prefix: str | None = None
) -> None:
    """Read lines until the input ends; print the translation and the weights of each, or why it has none."""
    converted = all_in_precision(models, search.precision)
    on_terminal = sys.stdin.isatty()
    if on_terminal:
        print("A line to translate; Ctrl-D ends.")
    for number in itertools.count(1):
        if on_terminal:
            sys.stdout.write("> ")
            sys.stdout.flush()
        raw = sys.stdin.buffer.readline()
        if not raw:
            break
        try:
            line = decode_line(raw, INPUT, number)
            place = f"{INPUT}:{number}"
            print(translate_and_draw(models, converted, trained, search, line, prefix=prefix, place=place), flush=True)
        except UserError as error:
            print(f"error: {error}", flush=True)


def translate_and_draw(
    models: Sequence[Seq2Seq],
    converted: Sequence[Seq2Seq],
    trained: Trained,
    search: SearchSettings,
    text: str,
    *,
    prefix: str | None = None,
    place: str = INPUT,
) -> str:
    """Return the translation of a text, and below it a drawing of the attention weights.

    Args:
        models: in float32, which the weights are of.
        converted: the same in the precision of the search.
        trained: one of them.
        search: how to translate.
        text: one sentence.
        prefix: what the translation begins with; None: nothing.
        place: what warnings and errors call the text.
    """
    line, vocabularies, languages = clean(text), trained.vocabularies, trained.languages
    prefixes = None if prefix is None else [prefix]
    ((best,),) = translate_n_best(converted, vocabularies, [line], search, 1, prefixes=prefixes, place=lambda _: place)
    shown = visible(best.text)
    if not all(model.decoder.attention.has_weights for model in models):
        return f"{shown}\n(attention={models[0].decoder.attention.name} has no weights to draw)"
    if not best.tokens or not line:
        return shown
    source, target = words_of(line, languages[0]), words_of(best.text, languages[1])
    if max(len(source), len(target)) > LONGEST_DRAWN:
        return f"{shown}\n(more than {LONGEST_DRAWN} words: nothing is drawn)"
    (weights,) = read_weights(models, vocabularies.source.encode([line]), [best.tokens])
    words = align_words(vocabularies, languages, line, best, weights)
    if (len(target), len(source) + 1) != words.shape:  # Byte pieces that make no character, for example.
        return f"{shown}\n(the words of its pieces are not those of its text: nothing is drawn)"
    return f"{shown}\n\n{draw_alignment(words, source, target, shutil.get_terminal_size().columns)}\n"


def load_run(run: RunFolder, checkpoint: str) -> Trained:
    """Load the model of a run: of its checkpoint best or last, or the average of those of its validations."""
    if checkpoint == "average":
        return load_average(run.all_validated)
    return load_trained(run.best if checkpoint == "best" else run.last)


def check_models(trained: Sequence[Trained], paths: Sequence[Path], search: SearchSettings) -> None:
    """Check that all models have the same vocabularies, and what the search needs.

    Raises:
        UserError: a model does not.
    """
    for each, path in zip(trained, paths, strict=True):
        if each.vocabularies.digest != trained[0].vocabularies.digest:
            raise UserError(
                f"run: {path} and {paths[0]} have different vocabularies, so they cannot translate together: "
                "name runs of one corpus and tokenizer"
            )
        search.check_attention(each.model.decoder.attention)
        check_model(search.precision, each.model.encoder, type(each.model.decoder.cell))
        search.check_words(each.config["tokenizer"]["model"])


def decode_lines(stream: BinaryIO) -> Iterator[str]:
    """Yield the lines of a UTF-8 stream, one sentence each, decoded as the lines of a corpus are.

    Raises:
        UserError: a line is not UTF-8 or contains a NUL.
    """
    for number, raw in enumerate(stream, 1):
        yield decode_line(raw, INPUT, number)


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("translate", "run..."))
