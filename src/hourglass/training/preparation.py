"""Prepare the data of a training: corpus, vocabularies, encoded splits and batches, each cached."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hourglass.config.compose import compose_settings
from hourglass.config.options import Config
from hourglass.corpora.corpus import Corpus, check_recipe, load_corpus
from hourglass.corpora.sampling import evenly_spaced
from hourglass.corpora.synthetic import ChannelRecipe
from hourglass.data.batches import TrainingStream
from hourglass.data.encoded import EncodedSplit, encode_corpus
from hourglass.data.pieces import FIXED_PIECES, UNK
from hourglass.data.tokenizer import Vocabularies, pieces_option, train_vocabularies
from hourglass.errors import UserError
from hourglass.system.commands import path_override
from hourglass.training.settings import Settings

log = logging.getLogger(__name__)
# Sentences of train in which unknown pieces are counted, and the share of them from which they are worth a warning.
_SAMPLE, _UNKNOWN = 1000, 0.001


@dataclass(frozen=True)
class PreparedData:
    """The data of a training.

    Attributes:
        corpus: cleaned sentence pairs.
        vocabularies: of source and target.
        splits: train, dev and test, encoded.
        stream: the batches of train, in the order in which the run reads them.
    """

    corpus: Corpus
    vocabularies: Vocabularies
    splits: dict[str, EncodedSplit]
    stream: TrainingStream


def prepare(config: Config, settings: Settings) -> PreparedData:
    """Load or build the corpus, its vocabularies and its encoded splits.

    Raises:
        UserError: an input is missing or malformed, the text has too many characters for the vocabulary, or too few
            symbols for a calibrated channel.
    """
    cache = Path(config["cache"]).expanduser()
    corpus = load_corpus(config["data"], cache)
    vocabularies = train_vocabularies(
        settings.tokenizer, corpus.splits["train"], corpus.digest, cache, pieces_option(config)
    )
    size = min(vocabularies.source.size, vocabularies.target.size)
    _, recipe = check_recipe(config["data"])
    if isinstance(recipe, ChannelRecipe) and recipe.calibrated and size < settings.tokenizer.vocabulary_size:
        raise UserError(
            f"data.calibrated=true: train has only {size - FIXED_PIECES} of the {recipe.all_symbols} symbols, "
            "so that the others would be unknown: raise data.train_pairs"
        )
    splits = encode_corpus(corpus, vocabularies, cache)
    for name in ("dev", "test"):
        _check_prefixes(name, splits[name], settings)
    stream = TrainingStream(
        splits["train"].source_lengths,
        splits["train"].target_lengths,
        batch_tokens=settings.trainer.batch_tokens,
        target_tokens=settings.trainer.target_tokens,
        validations=settings.trainer.validations,
        seed=config["seed"],
        null_source=settings.trainer.null_source,
        prefix_lengths=splits["train"].prefix_lengths,
        joined=recipe.joined,
        curriculum=settings.curriculum,
    )
    return PreparedData(corpus, vocabularies, splits, stream)


def warn_of_unknown_pieces(config: Config, prepared: PreparedData) -> None:
    """Warn, before a training, where more than a thousandth of the pieces of train are unknown; a sample is counted."""
    train = prepared.splits["train"]
    rows = np.array(evenly_spaced(len(train), _SAMPLE))
    shares = []
    for side, lists in (("source", train.sources), ("target", train.target_ids)):
        if side == "source" and train.has_features:
            continue
        pieces = np.concatenate([np.empty(0, np.int64), *lists.rows(rows)])
        share = float((pieces == UNK).mean()) if len(pieces) else 0.0
        if share > _UNKNOWN:
            shares.append(f"{100 * share:.1f} % of the {side} pieces")
    if shares:
        log.warning(
            "train: %s are unknown, so that a model cannot tell them apart: raise %s",
            " and ".join(shares),
            pieces_option(config),
        )


def _check_prefixes(name: str, split: EncodedSplit, settings: Settings) -> None:
    """Check, before any training, that the search has room behind every prefix of a split.

    Raises:
        UserError: it has not; the message names the pair.
    """
    if split.prefix_lengths is None:
        return
    for row, (source, prefix) in enumerate(zip(split.source_lengths, split.prefix_lengths, strict=True), 1):
        settings.search.check_prefix(int(prefix), settings.search.limit(int(source)), f"{name} sentence {row}")


def folder_override(folder: str, overrides: Sequence[str]) -> str:
    """Return the override that sets the folder of a corpus's raw files, all of which are there.

    Args:
        folder: as the user has set it.
        overrides: that choose the corpus, its languages and its test sets.

    Raises:
        UserError: the corpus reads no folder, or the folder does not exist, or lacks a file.
    """
    path = Path(folder).expanduser().resolve()
    override = path_override("data.folder", path)
    corpus = compose_settings(overrides)["data"]
    if "folder" not in corpus:
        raise UserError(f"data.folder={folder}: data={corpus['name']} reads no folder of raw files: leave it out")
    options = compose_settings([*overrides, override])["data"]
    if not path.is_dir():
        raise UserError(f"{folder}: no such folder; it should have the raw files of data={options['name']}")
    _, recipe = check_recipe(options)
    for _ in recipe.inputs():  # Each is looked for.
        pass
    return override
