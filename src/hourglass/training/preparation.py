"""Prepare the data of a training: corpus, vocabularies, encoded splits and batches, each cached."""

from dataclasses import dataclass
from pathlib import Path

from hourglass.config.options import Config
from hourglass.corpora.corpus import Corpus, load_corpus
from hourglass.data.batches import TrainingStream
from hourglass.data.encoded import EncodedSplit, encode_corpus
from hourglass.data.tokenizer import Vocabularies, train_vocabularies
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
        UserError: an input is missing or malformed, or the vocabulary is larger than the corpus allows.
    """
    cache = Path(config["cache"]).expanduser()
    corpus = load_corpus(config["data"], cache)
    vocabularies = train_vocabularies(settings.tokenizer, corpus.splits["train"], corpus.digest, cache)
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
