"""Translating text: lines in, lines out, in order, in bounded memory. Used wherever a trained model translates."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import EOS, UNK
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.search import Hypothesis, SearchSettings, n_best
from hourglass.models.checkpoint import Trained
from hourglass.models.seq2seq import Seq2Seq

log = logging.getLogger(__name__)


# Lines are taken so many at a time, or up to so many characters, and sorted by length within.
WINDOW = 4096


WINDOW_CHARACTERS = 2_000_000


class Translation(NamedTuple):
    """One translation of a text, its score (see `Hypothesis`) and its pieces, without end-of-sentence."""

    text: str
    score: float
    tokens: list[int]


def translate(
    model: Seq2Seq,
    vocabularies: Vocabularies,
    texts: Iterable[str],
    settings: SearchSettings,
    *,
    progress: Callable[[int], object] = lambda lines: None,
    name: str = "line",
) -> Iterator[str]:
    """Yield the best translation of each text by one model; see `translate_n_best`."""
    lists = translate_n_best([model], vocabularies, texts, settings, 1, progress=progress, name=name)
    return (best.text for best, *_ in lists)


def translate_n_best(
    models: Sequence[Seq2Seq],
    vocabularies: Vocabularies,
    texts: Iterable[str],
    settings: SearchSettings,
    count: int,
    *,
    progress: Callable[[int], object] = lambda lines: None,
    name: str = "line",
) -> Iterator[list[Translation]]:
    """Yield the translations of each text, best first, in order, reading ahead no more than `WINDOW` of them.

    A text without words has an empty translation. One that is too long for the output limit is translated up to it,
    and a warning says so.

    Args:
        models: in evaluation mode, on the device that is to do the work; several vote.
        vocabularies: the models' own.
        texts: one sentence each.
        settings: the search's.
        count: translations wanted of each text; `settings.beam` at most.
        progress: told how many texts more are done.
        name: what a text is called in warnings and errors, with its number.

    Raises:
        UserError: a text is longer than a model can take (attention=luong_location).
    """
    first = 1
    for window in _windows(texts):
        cleaned = list(map(clean, window))
        sources = [[*ids, EOS] for ids in vocabularies.source.encode(cleaned)]
        for number, ids in enumerate(sources, first):
            for model in models:
                model.decoder.attention.check_length(len(ids), f"{name} {number}")
        _warn_of_long(sources, settings, name, first)
        first += len(window)
        for text, found in zip(cleaned, _search_all(models, sources, settings, count, progress), strict=True):
            yield [Translation(_write(vocabularies, text, one, settings), one.score, one.tokens) for one in found]


def clean(text: str) -> str:
    """Return a text as corpora are: one space between words, whatever it was, and none at the ends."""
    return " ".join(text.split())


def _windows(texts: Iterable[str]) -> Iterator[list[str]]:
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) >= WINDOW or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def progress_bar(total: int | None, unit: str) -> Any:
    """Return a bar on standard error; a file gets a line now and then, where a terminal gets ten a second."""
    interval = 0.1 if sys.stderr.isatty() else 10.0
    return tqdm(total=total, desc="translating", unit=f" {unit}", file=sys.stderr, mininterval=interval)


def translate_split(
    trained: Trained, split: Any, settings: SearchSettings, device: torch.device, name: str
) -> list[str]:
    """Translate all sources of a split of a corpus, called `name`, with a progress bar on standard error."""
    model, sources = trained.model.to(device), list(split["source"])
    with progress_bar(len(sources), "sentences") as bar:
        return list(
            translate(model, trained.vocabularies, sources, settings, progress=bar.update, name=f"{name} sentence")
        )


def _search_all(
    models: Sequence[Seq2Seq],
    sources: list[list[int]],
    settings: SearchSettings,
    count: int,
    progress: Callable[[int], object],
) -> list[list[Hypothesis]]:
    """Translate sources of any length, those of similar length together."""
    device = next(models[0].parameters()).device
    lengths = np.array([len(ids) for ids in sources])
    lists = [[_EMPTY] for _ in sources]
    worded = np.flatnonzero(lengths > 1)
    progress(len(sources) - len(worded))
    if not len(worded):
        return lists
    for rows in in_order(lengths[worded], lengths[worded], max(1, settings.batch_tokens // settings.beam)):
        batch = worded[rows]
        source = pad([sources[i] for i in batch]).to(device)
        found = n_best(models, source, torch.from_numpy(lengths[batch]).to(device), settings, count)
        for i, best in zip(batch, found, strict=True):
            lists[i] = best
        progress(len(batch))
    return lists


_EMPTY = Hypothesis([], 0.0, 0.0, True)


def _write(vocabularies: Vocabularies, text: str, one: Hypothesis, settings: SearchSettings) -> str:
    """Return a hypothesis as text, with the source words of `text` in place of unknown ones where that is wanted."""
    if not settings.replace_unknown or UNK not in one.tokens or one.attended is None:
        return vocabularies.target.decode([one.tokens])[0]
    words = vocabularies.source.surfaces(text)
    unknown = [j for j, token in enumerate(one.tokens) if token == UNK and one.attended[j] < len(words)]
    return vocabularies.target.decode_with(one.tokens, {j: words[one.attended[j]] for j in unknown})


def _warn_of_long(sources: list[list[int]], settings: SearchSettings, name: str, first: int) -> None:
    """Say which texts are longer than the absolute limit of any output."""
    for number, ids in enumerate(sources, first):
        if len(ids) > settings.output_most:
            log.warning(
                "%s %d has %d pieces: its translation ends at search.output_most=%d pieces at the latest",
                name,
                number,
                len(ids),
                settings.output_most,
            )
