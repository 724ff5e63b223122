"""Translating text: lines in, lines out, in order, in bounded memory. Used wherever a trained model translates."""

import itertools
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

# Lines are taken so many at a time, and sorted by length within.
WINDOW = 4096


def translate(
    model: Seq2Seq,
    vocabularies: Vocabularies,
    texts: Iterable[str],
    settings: SearchSettings,
    progress: Callable[[int], object] = lambda lines: None,
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

    Raises:
        UserError: a text is longer than the model can take (attention=luong_location).
    """
    texts, first = iter(texts), 1
    while window := list(itertools.islice(texts, WINDOW)):
        # As the corpus was cleaned: one space between words.
        sources = [[*ids, EOS] for ids in vocabularies.source.encode([" ".join(text.split()) for text in window])]
        _warn_of_long(sources, settings, first)
        first += len(window)
        yield from _translate(model, vocabularies, sources, settings, progress)


def translate_split(trained: Trained, split: Any, settings: SearchSettings, device: torch.device) -> list[str]:
    """Translate all sources of a split of a corpus, with a progress bar on standard error."""
    model, sources = trained.model.to(device), list(split["source"])
    with tqdm(total=len(sources), desc="translating", unit=" sentences", file=sys.stderr) as bar:
        return list(translate(model, trained.vocabularies, sources, settings, bar.update))


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


def _warn_of_long(sources: list[list[int]], settings: SearchSettings, first: int) -> None:
    """Say which lines are so long that the absolute limit of the output holds, not the one that grows with them."""
    for number, ids in enumerate(sources, first):
        if settings.limit(len(ids)) < settings.output_ratio * len(ids):
            log.warning(
                "line %d has %d pieces: its translation ends at search.output_most=%d pieces at the latest",
                number,
                len(ids),
                settings.output_most,
            )
