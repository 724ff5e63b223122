"""Translating text: lines in, lines out, in order, in bounded memory. Used wherever a trained model translates.

A source may be features [S, F], S regions of F numbers, in place of a text: then the translation is its caption.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch

from hourglass.corpora.corpus import prefixes_of
from hourglass.corpora.recipe import FeatureArray
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad_sources
from hourglass.data.pieces import UNK
from hourglass.data.sources import Source, encode_sources, positions_of, sources_of
from hourglass.data.tokenizer import Vocabularies
from hourglass.decoding.precision import all_in_precision
from hourglass.decoding.search import Hypothesis, SearchSettings, n_best
from hourglass.models.checkpoint import Trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.bars import Bar

log = logging.getLogger(__name__)


# A window is this number of texts, or of characters; texts are sorted by length within it.
WINDOW = 4096
WINDOW_CHARACTERS = 2_000_000  # Or numbers of features.


class ScoredTranslation(NamedTuple):
    """A translation of a text."""

    text: str
    score: float  # see `Hypothesis`
    tokens: list[int]  # its pieces, with the prefix, without end-of-sentence
    prefix_pieces: int = 0  # how many of these are the prefix
    replaced: Mapping[int, str] | None = None  # the text that stands for unknown pieces, by position: see `surfaces`


def translate(
    model: Seq2Seq,
    vocabularies: Vocabularies,
    texts: Iterable[str] | Iterable[FeatureArray],
    settings: SearchSettings,
    *,
    prefixes: Iterable[str] | None = None,
    with_prefix: bool = True,
    progress: Callable[[int], object] = lambda lines: None,
    place: Callable[[int], str] = "line {}".format,
) -> Iterator[str]:
    """Yield the best translation of each text by one model; see `translate_n_best`."""
    options: dict[str, Any] = {"prefixes": prefixes, "with_prefix": with_prefix, "progress": progress, "place": place}
    lists = translate_n_best([model], vocabularies, texts, settings, 1, **options)
    return (best.text for best, *_ in lists)


def translate_n_best(
    models: Sequence[Seq2Seq],
    vocabularies: Vocabularies,
    texts: Iterable[str] | Iterable[FeatureArray],
    settings: SearchSettings,
    count: int,
    *,
    prefixes: Iterable[str] | None = None,
    with_prefix: bool = True,
    progress: Callable[[int], object] = lambda lines: None,
    place: Callable[[int], str] = "line {}".format,
) -> Iterator[list[ScoredTranslation]]:
    """Yield the translations of each text in order, best first; at most `WINDOW` texts are read ahead.

    A text without words has an empty translation, or its prefix alone. The translation of a text that is longer than
    the output limit ends at the limit, with a warning.

    Args:
        models: in evaluation mode, on one device, in float32 or in `settings.precision`, which they are converted to;
            the probability of a piece is the mean over models.
        vocabularies: of the models.
        texts: one sentence each, or the features of one picture each.
        settings: of the search.
        count: translations of each text, at most `settings.beam`.
        prefixes: what the translation of each text begins with, cut into pieces by itself; None: nothing.
        with_prefix: whether the text of a translation holds its prefix; its pieces always do.
        progress: called with the number of texts that were finished since the last call.
        place: returns what warnings and errors call a text, given its number from 1.

    Raises:
        UserError: a text is longer than a model can read (attention=luong_location, encoder=convolution), a prefix is
            longer than the output limit, or the precision is not one of this machine or of a model.
    """
    models = all_in_precision(models, settings.precision)
    first = 1
    of_texts = None if prefixes is None else iter(prefixes)
    for window in _windows(texts):
        cleaned = [clean(each) if isinstance(each, str) else "" for each in window]
        sources = encode_sources(vocabularies, cleaned if isinstance(window[0], str) else window)
        lengths = list(map(positions_of, sources))
        for number, length in enumerate(lengths, first):
            for model in models:
                model.check_length(length, place(number))
        starts = [clean(prefix) for prefix in islice(of_texts, len(window))] if of_texts is not None else None
        given = None if starts is None else vocabularies.target.encode(starts)
        for number, (length, prefix) in enumerate(zip(lengths, given or [], strict=False), first):
            settings.check_prefix(len(prefix), settings.limit(length), place(number))
        _warn_of_long(lengths, settings, place, first)
        first += len(window)
        lists = _search_all(models, sources, settings, count, progress=progress, prefixes=given)
        for row, (text, hypotheses) in enumerate(zip(cleaned, lists, strict=True)):
            start, own = ("", 0) if starts is None or given is None else (starts[row], len(given[row]))
            first_shown = 0 if with_prefix else own
            best = []
            for each in hypotheses:
                replaced = _replace_unknown(vocabularies, text, each, settings, prefix=start, prefix_pieces=own)
                pieces = each.tokens[first_shown:]
                shown = {place - first_shown: word for place, word in replaced.items() if place >= first_shown}
                (written,) = vocabularies.target.decode([pieces])
                if shown:
                    written = vocabularies.target.decode_with(pieces, shown)
                best.append(ScoredTranslation(written, each.score, each.tokens, own, replaced))
            yield best


def clean(text: str) -> str:
    """Return a text with white space as in a corpus: one space between words, none at the ends."""
    return " ".join(text.split())


def _windows(texts: Iterable[str] | Iterable[FeatureArray]) -> Iterator[list[Any]]:
    window: list[Any] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text) if isinstance(text, str) else text.size
        if len(window) >= WINDOW or characters >= WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def translate_split(
    trained: Trained, split: Any, settings: SearchSettings, device: torch.device, name: str
) -> list[str]:
    """Return the translations of a split's sources, with a progress bar on standard error.

    Args:
        trained: the model.
        split: rows with the column source, or features, and prefix where the translations continue one, which they are
            without.
        settings: of the search.
        device: where the model is moved to.
        name: of the split, for messages.
    """
    model, sources = trained.model.to(device), sources_of(split)
    with Bar(f"translating {name}", len(split), "sentences") as bar:
        return list(
            translate(
                model,
                trained.vocabularies,
                sources,
                settings,
                prefixes=prefixes_of(split),
                with_prefix=False,
                progress=bar.update,
                place=lambda number: f"{name} sentence {number}",
            )
        )


def _search_all(
    models: Sequence[Seq2Seq],
    sources: list[Source],
    settings: SearchSettings,
    count: int,
    *,
    progress: Callable[[int], object],
    prefixes: list[list[int]] | None,
) -> list[list[Hypothesis]]:
    """Search for translations of all sources, in batches of similar length; return a list for each, in order."""
    device = next(models[0].parameters()).device
    lengths = np.array(list(map(positions_of, sources)))
    lists = [[_EMPTY._replace(tokens=list(prefix))] for prefix in prefixes or [[]] * len(sources)]
    with_words = np.flatnonzero([len(source) > 0 for source in sources])
    progress(len(sources) - len(with_words))
    if not len(with_words):
        return lists
    for rows in in_order(lengths[with_words], lengths[with_words], max(1, settings.batch_tokens // settings.beam)):
        batch = with_words[rows]
        source = pad_sources([sources[i] for i in batch]).to(device)
        given = None if prefixes is None else [prefixes[i] for i in batch]
        results = n_best(models, source, torch.from_numpy(lengths[batch]).to(device), settings, count, prefixes=given)
        for i, best in zip(batch, results, strict=True):
            lists[i] = best
        progress(len(batch))
    return lists


_EMPTY = Hypothesis([], 0.0, 0.0, True)


def _replace_unknown(
    vocabularies: Vocabularies,
    source: str,
    hypothesis: Hypothesis,
    settings: SearchSettings,
    *,
    prefix: str,
    prefix_pieces: int,
) -> dict[int, str]:
    """Return the text of unknown pieces by position; those of the prefix are the words of the prefix.

    Others are replaced with search.replace_unknown alone, by words of `source`. A prefix may end within a word, so the
    pieces are joined as one.
    """
    tokens, attended = hypothesis.tokens, hypothesis.attended
    if UNK not in tokens:
        return {}
    spelt = vocabularies.target.surfaces(prefix)
    replaced = {j: spelt[j] for j in range(prefix_pieces) if tokens[j] == UNK}
    if settings.replace_unknown and attended is not None:
        words = vocabularies.source.surfaces(source)
        later = [j for j in range(prefix_pieces, len(tokens)) if tokens[j] == UNK and attended[j] < len(words)]
        replaced |= {j: words[attended[j]] for j in later}
    return replaced


def _warn_of_long(lengths: list[int], settings: SearchSettings, place: Callable[[int], str], first: int) -> None:
    """Warn of texts that are longer than the absolute output limit."""
    for number, length in enumerate(lengths, first):
        if length > settings.output_most:
            log.warning(
                "%s has %d pieces: its translation ends at search.output_most=%d pieces at the latest",
                place(number),
                length,
                settings.output_most,
            )
