"""Translating text: lines in, lines out, in order, in bounded memory. Used wherever a trained model translates."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from hourglass.checkpoints import Trained
from hourglass.data import in_order, pad
from hourglass.model import Seq2Seq
from hourglass.search import SearchSettings, search
from hourglass.tokenizer import EOS, Vocabularies

log = logging.getLogger(__name__)

# Lines are taken so many at a time, or up to so many characters, and sorted by length within.
WINDOW = 4096
WINDOW_CHARACTERS = 2_000_000


def translate(
    model: Seq2Seq,
    vocabularies: Vocabularies,
    texts: Iterable[str],
    settings: SearchSettings,
    *,
    progress: Callable[[int], object] = lambda lines: None,
    name: str = "line",
) -> Iterator[str]:
    """Yield the translation of each text, in order, reading ahead no more than `WINDOW` of them.

    A text without words has an empty translation. One that is too long for the output limit is translated up to it,
    and a warning says so.

    Args:
        model: in evaluation mode, on the device that is to do the work.
        vocabularies: the model's own.
        texts: one sentence each.
        settings: the search's.
        progress: told how many texts more are done.
        name: what a text is called in warnings and errors, with its number.

    Raises:
        UserError: a text is longer than the model can take (attention=luong_location).
    """
    first = 1
    for window in _windows(texts):
        # As the corpus was cleaned: one space between words.
        sources = [[*ids, EOS] for ids in vocabularies.source.encode([" ".join(text.split()) for text in window])]
        for number, ids in enumerate(sources, first):
            model.decoder.attention.check_length(len(ids), f"{name} {number}")
        _warn_of_long(sources, settings, name, first)
        first += len(window)
        yield from _translate(model, vocabularies, sources, settings, progress)


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


def _translate(
    model: Seq2Seq,
    vocabularies: Vocabularies,
    sources: list[list[int]],
    settings: SearchSettings,
    progress: Callable[[int], object],
) -> list[str]:
    device = next(model.parameters()).device
    lengths = np.array([len(ids) for ids in sources])
    translations = [""] * len(sources)
    worded = np.flatnonzero(lengths > 1)
    progress(len(sources) - len(worded))
    if not len(worded):
        return translations
    for rows in in_order(lengths[worded], lengths[worded], max(1, settings.batch_tokens // settings.beam)):
        batch = worded[rows]
        source = pad([sources[i] for i in batch]).to(device)
        found = search(model, source, torch.from_numpy(lengths[batch]).to(device), settings)
        for i, text in zip(batch, vocabularies.target.decode([one.tokens for one in found]), strict=True):
            translations[i] = text
        progress(len(batch))
    return translations


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
