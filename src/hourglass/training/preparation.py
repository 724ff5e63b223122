"""Prepare the data of a training: corpus, vocabularies, encoded splits and batches, each cached."""

from dataclasses import dataclass
from pathlib import Path

from hourglass.config.options import Config
from hourglass.corpora.corpus import Corpus, load_corpus
from hourglass.data.batches import TrainingStream
from hourglass.data.encoded import EncodedSplit, encode_corpus
from hourglass.data.pieces import FIXED_PIECES
from hourglass.data.tokenizer import Vocabularies, train_vocabularies
from hourglass.errors import UserError
from hourglass.training.settings import Settings


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
    vocabularies = train_vocabularies(settings.tokenizer, corpus.splits["train"], corpus.digest, cache)
    size = min(vocabularies.source.size, vocabularies.target.size)
    if config["data"].get("calibrated") and size < settings.tokenizer.vocabulary_size:
        raise UserError(
            f"data.calibrated=true: train has only {size - FIXED_PIECES} of the {config['data']['symbols']} symbols, "
            "so that the others would be unknown: raise data.train_pairs"
        )
    splits = encode_corpus(corpus, vocabularies, cache)
    stream = TrainingStream(
        splits["train"].source_lengths,
        splits["train"].target_lengths,
        batch_tokens=settings.trainer.batch_tokens,
        target_tokens=settings.trainer.target_tokens,
        validations=settings.trainer.validations,
        seed=config["seed"],
    )
    return PreparedData(corpus, vocabularies, splits, stream)
