"""Text to ids and back: SentencePiece (Kudo and Richardson, 2018), trained on the training split only.

Translations are scored against raw references, so the tokenizer must not rewrite text: with the normalization
`identity`, decode(encode(text)) is the text, except for runs of white space and characters that training did not see.
This holds for texts that spell `<s>` or contain a character that SentencePiece reserves: see `_protect`.
The checkpoint of a model contains its vocabularies, as bytes.
"""

import hashlib
import io
import itertools
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import sentencepiece as spm
import torch
from pydantic import Field
from torch import Tensor

from hourglass.corpora.recipe import FEATURES
from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD, UNK
from hourglass.errors import UserError
from hourglass.system.cache import fill_cache, reading

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)


_BYTE_PIECES = 256


# Part of the cache's key. Raise it when the same settings train another model than before.
_VERSION = 3


# Bytes of a line, at most. Longer lines add nothing to a vocabulary, and some hundred thousand characters without a
# space overflow the sums of unigram's training. SentencePiece's default of 4,192 would drop long lines silently.
_LONGEST_LINE = 65_536


# SentencePiece reads U+2581 as a space, and leaves lines with U+2585 out of its training. Inside it, noncharacters of
# Unicode (The Unicode Standard, section 23.7), which hardly any text has, stand for these two, and begin the special
# pieces, whose usual spellings a text may have. For a text that has them nevertheless, control characters stand for
# them in turn: those of a text itself become spaces.
_RESERVED = {0x2581: 0xFDD0, 0x2585: 0xFDD1}
_SPECIAL = 0xFDD2
_OWN = {0xFDD0: 0x01, 0xFDD1: 0x02, 0xFDD2: 0x03}
_PROTECTED = {**_RESERVED, **_OWN, **dict.fromkeys(_OWN.values(), ord(" "))}
_RESTORED = {own: original for original, own in {**_RESERVED, **_OWN}.items()}

# What stands for the special pieces where pieces are shown.
_LABELS = ("<pad>", "<s>", "</s>", "<unk>")


# White space, control characters but those of `_OWN`, and SentencePiece's mark of a space, which byte fallback spells
# out.
_GAPS = re.compile("[\\s\x00\x04-\x20\x7f-\x9f\u2581]+")


# SentencePiece writes warnings to stderr; its errors are raised as well. 2: errors only.
spm.set_min_log_level(2)


@dataclass(frozen=True)
class TokenizerSettings:
    """The config group `tokenizer`.

    Attributes:
        model: what pieces are: units of a unigram language model (unigram: Kudo, 2018), merges of frequent pairs (bpe:
            Sennrich et al., 2016), single characters (char), or words separated by white space (word).
        vocabulary_size: number of pieces, the four special ones included, at most: a small text yields fewer.
        joint: one vocabulary for both languages, trained on both sides; otherwise one of this size for each.
        character_coverage: the least share of the characters of the training text that are pieces; the rarest are not.
        byte_fallback: characters without a piece are spelt in bytes, instead of UNK; takes 256 pieces.
        normalization: SentencePiece's rule for rewriting text before it is cut into pieces. All but `identity` change
            what the model learns to write, and so the score against raw references.
        lines: training pairs to learn from, at most: an evenly spaced sample of the split.

    Raises:
        UserError: byte fallback leaves no room in the vocabulary.
    """

    model: Literal["unigram", "bpe", "char", "word"]
    vocabulary_size: Annotated[int, Field(gt=FIXED_PIECES)]
    joint: bool
    # The range that SentencePiece's trainer admits.
    character_coverage: Annotated[float, Field(ge=0.98, le=1)]
    byte_fallback: bool
    normalization: Literal["identity", "nfkc", "nmt_nfkc"]
    lines: Annotated[int, Field(gt=0)]

    def __post_init__(self) -> None:
        least = FIXED_PIECES + _BYTE_PIECES + 1
        if self.byte_fallback and self.vocabulary_size < least:
            raise UserError(
                f"{PIECES_OPTION}={self.vocabulary_size}: tokenizer.byte_fallback=true needs {least} or more"
            )


class Tokenizer:
    """The vocabulary of one language, or of two that share it.

    Attributes:
        model: the serialised SentencePiece model.
        size: V, number of pieces.
        digest: SHA-256 of `model`, in hex.
    """

    def __init__(self, model: bytes) -> None:
        """Load a model.

        Raises:
            ValueError: `model` is no SentencePiece model, or has other ids for PAD, BOS, EOS and UNK.
        """
        if not model:
            raise ValueError("not a SentencePiece model: it is empty")
        try:
            self._processor = spm.SentencePieceProcessor(model_proto=model)
        except RuntimeError:
            raise ValueError("not a SentencePiece model") from None
        processor = self._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != (PAD, BOS, EOS, UNK):
            raise ValueError("a SentencePiece model with other ids for padding, begin, end and unknown")
        self.model = model
        self.size: int = processor.get_piece_size()
        self.digest = hashlib.sha256(model).hexdigest()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, without BOS and EOS; an empty text has none."""
        return self._processor.encode(list(map(_protect, texts)))

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Return the text of each row of ids, up to the first EOS, without PAD and BOS.

        A text is always one line and one field of a TSV, as in a corpus: a run of white space or control characters
        becomes one space, and there is none at either end.
        """
        return [_restore(self._processor.decode(self._content(row))) for row in ids]

    def surfaces(self, text: str) -> list[str]:
        """Return SentencePiece's spelling of each piece of `text`, of unknown ones too; a space is U+2581.

        Of a character that is spelt in bytes, the first byte has the character, and the others have nothing. All that
        `decode` makes a space is one.
        """
        protected = _protect(text)
        spellings = self._processor.encode(protected, out_type=str)
        return self._spell_bytes(self._processor.encode(protected), spellings)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return where in `text` each of its pieces begins and ends, in characters.

        Of a character that is spelt in several pieces (bytes, or normalised to several characters), the last piece has
        the character, and the others are empty.
        """
        offsets: list[tuple[int, int]] = self._processor.encode(_protect(text), return_type="offset_mapping")["offsets"]
        return offsets

    def written(self, ids: Sequence[int]) -> list[str]:
        """Return SentencePiece's spelling of what `decode` makes of each id, of UNK too; a space is U+2581."""
        unknown = self._processor.decode([UNK]).replace(" ", "\u2581")
        spellings = [unknown if index == UNK else self._processor.id_to_piece(int(index)) for index in ids]
        return self._spell_bytes(ids, spellings)

    def _spell_bytes(self, ids: Sequence[int], spellings: Sequence[str]) -> list[str]:
        """Replace the names of bytes, such as <0xE2>, by the characters that they spell, and gaps by U+2581."""
        result = list(spellings)
        for is_byte, run in itertools.groupby(range(len(ids)), lambda i: self._processor.is_byte(int(ids[i]))):
            if not is_byte:
                continue
            positions = list(run)
            encoded = bytes(int(spellings[i][3:5], 16) for i in positions)
            # Each byte that is no part of a character becomes U+FFFD, as in SentencePiece.
            for i in positions:
                result[i] = ""
            offset = 0
            for character in encoded.decode("utf-8", errors="surrogateescape"):
                broken = "\udc80" <= character <= "\udcff"
                result[positions[offset]] = "\ufffd" if broken else character
                offset += 1 if broken else len(character.encode())
        return [_GAPS.sub("\u2581", spelling) for spelling in result]

    def decode_with(self, ids: Sequence[int], written: Mapping[int, str]) -> str:
        """Return the text of one row of ids as `decode` does, with other text for some of them.

        Args:
            ids: one row.
            written: the text by position, up to the first EOS and without PAD and BOS, in the spelling of `surfaces`.
        """
        row = self._content(ids)
        pieces = [written.get(i, self._processor.id_to_piece(index)) for i, index in enumerate(row)]
        return _restore(self._processor.decode(pieces))

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return a label of each id, to be read: a space is U+2581, and U+2581 of the text is \\u2581; PAD is <pad>."""
        return [_LABELS[index] if index < FIXED_PIECES else self._label(int(index)) for index in ids]

    def _label(self, index: int) -> str:
        piece: str = self._processor.id_to_piece(index)
        return piece.replace("\ufdd0", "\\u2581").translate(_RESTORED)

    @staticmethod
    def _content(row: Sequence[int]) -> list[int]:
        ids = [int(index) for index in row]
        if EOS in ids:
            ids = ids[: ids.index(EOS)]
        return [index for index in ids if index not in (PAD, BOS)]


@dataclass(frozen=True)
class Vocabularies:
    """The tokenizers of both sides; a joint vocabulary is both."""

    source: Tokenizer
    target: Tokenizer

    @property
    def joint(self) -> bool:
        """Whether an id means the same on both sides."""
        return self.source.digest == self.target.digest

    @cached_property
    def digest(self) -> str:
        """SHA-256 over both models, in hex."""
        return hashlib.sha256(f"{self.source.digest} {self.target.digest}".encode()).hexdigest()

    def state_dict(self) -> dict[str, Tensor]:
        """Return both models as uint8 tensors, which torch.load can read with weights_only=True."""
        source = torch.frombuffer(bytearray(self.source.model), dtype=torch.uint8)
        # torch stores one tensor under two names once.
        target = source if self.joint else torch.frombuffer(bytearray(self.target.model), dtype=torch.uint8)
        return {"source": source, "target": target}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor]) -> "Vocabularies":
        """Return the vocabularies of a `state_dict`.

        Raises:
            ValueError: a part is missing, or is no model with our special pieces.
        """
        if set(state) != {"source", "target"}:
            raise ValueError(f"vocabularies need the parts source and target, not {', '.join(sorted(state))}")
        source, target = (state[side].cpu().numpy().tobytes() for side in ("source", "target"))
        return cls._of_models(source, target)

    @classmethod
    def _of_models(cls, source: bytes, target: bytes) -> "Vocabularies":
        first = Tokenizer(source)
        return cls(first, first if source == target else Tokenizer(target))


# The setting of the number of pieces. By default it takes the value of the corpus's, which is what users write.
PIECES_OPTION, CORPUS_OPTION = "tokenizer.vocabulary_size", "data.vocabulary_size"


def pieces_option(config: Mapping[str, Any]) -> str:
    """Return the setting that the number of pieces comes from, for messages: the corpus's, or the tokenizer's own.

    Args:
        config: all settings, as plain values.
    """
    own, corpus = config["tokenizer"].get("vocabulary_size"), config["data"].get("vocabulary_size")
    return CORPUS_OPTION if own == corpus else PIECES_OPTION


def train_vocabularies(
    settings: TokenizerSettings,
    train_split: "datasets.Dataset",
    corpus_digest: str,
    cache: Path,
    option: str = PIECES_OPTION,
) -> Vocabularies:
    """Train the vocabularies on the training split, or take them from the cache.

    Args:
        settings: see `TokenizerSettings`.
        train_split: rows with the columns source and target, and prefix, which counts as text of the target side. Where
            sources are features, the vocabulary of the target side is that of both.
        corpus_digest: names the content of the split.
        cache: the cache folder; the models are SentencePiece files in its folder tokenizer/KEY.
        option: the setting that the number of pieces comes from: see `pieces_option`.

    Raises:
        UserError: the text has too many characters for the vocabulary, or the cache cannot be written or is damaged.
    """
    target_side = ["target", "prefix"] if "prefix" in train_split.column_names else ["target"]
    sides = {"joint": ["source", *target_side]} if settings.joint else {"source": ["source"], "target": target_side}
    if FEATURES in train_split.column_names:
        sides = {"target": target_side}

    def write(folder: Path) -> None:
        sample = train_split.select(evenly_spaced(len(train_split), settings.lines))
        log.info("training the tokenizer on %d pairs", len(sample))
        for side, columns in sides.items():
            (folder / f"{side}.model").write_bytes(_train(settings, sample, columns, option))

    folder = fill_cache(cache, "tokenizer", _cache_key(settings, corpus_digest), write)
    with reading(folder):
        models = [(folder / f"{side}.model").read_bytes() for side in sides]
        vocabularies = Vocabularies._of_models(models[0], models[-1])
    for tokenizer, columns in zip((vocabularies.source, vocabularies.target), sides.values(), strict=False):
        if tokenizer.size < settings.vocabulary_size and settings.model != "char":
            log.info(
                "%s=%d: the training split's %s text yields only %d pieces, and has these",
                option,
                settings.vocabulary_size,
                " and ".join(columns),
                tokenizer.size,
            )
    return vocabularies


def _protect(text: str) -> str:
    """Return a text in which nothing has a meaning for SentencePiece but spaces."""
    return text.translate(_PROTECTED)


def _restore(decoded: str) -> str:
    """Return the text that SentencePiece decodes as one line, without the marks of `_protect`."""
    return _GAPS.sub(" ", decoded).strip(" ").translate(_RESTORED)


def _cache_key(settings: TokenizerSettings, corpus_digest: str) -> str:
    """Return a digest of all that the models depend on; another release of SentencePiece may train another model."""
    parts = {"settings": asdict(settings), "corpus": corpus_digest, "version": _VERSION, "library": spm.__version__}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def _lines(rows: Any, columns: Sequence[str]) -> Iterator[str]:
    for column in columns:
        yield from map(_protect, rows[column])


def _train(settings: TokenizerSettings, rows: Any, columns: Sequence[str], option: str) -> bytes:
    """Train a model on these columns, with fewer pieces if they yield no more; return it serialised."""
    try:
        return _train_exactly(settings, rows, columns)
    except RuntimeError as error:
        message = str(error)
        if not (most := re.search(r"set it to a value <= (\d+)", message)):
            raise _explain(message, settings, columns, option) from None
    return _train_exactly(replace(settings, vocabulary_size=int(most[1])), rows, columns)


def _train_exactly(settings: TokenizerSettings, rows: Any, columns: Sequence[str]) -> bytes:
    """Train a model of exactly this number of pieces; return it serialised.

    Raises:
        RuntimeError: the text has more or fewer.
    """
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=_lines(rows, columns),
        model_writer=model,
        model_type=settings.model,
        vocab_size=settings.vocabulary_size,
        character_coverage=settings.character_coverage,
        byte_fallback=settings.byte_fallback,
        normalization_rule_name=settings.normalization,
        max_sentence_length=_LONGEST_LINE,
        pad_id=PAD,
        bos_id=BOS,
        eos_id=EOS,
        unk_id=UNK,
        pad_piece=f"{chr(_SPECIAL)}pad",
        bos_piece=f"{chr(_SPECIAL)}s",
        eos_piece=f"{chr(_SPECIAL)}/s",
        unk_piece=f"{chr(_SPECIAL)}unk",
        # By default an unknown piece has spaces around it, which would cut a word with one rare letter in three.
        unk_surface=" \u2047 " if settings.model == "word" else "\u2047",
        # Unigram sums its counts per thread: the vocabulary depends on the number of threads (tried).
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()


def _explain(message: str, settings: TokenizerSettings, columns: Sequence[str], option: str) -> UserError:
    """Turn an error of SentencePiece's trainer into one that names the option and a value that works."""
    text = f"the training split's {' and '.join(columns)} text"
    if match := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return UserError(
            f"{option}={settings.vocabulary_size}: {text} has too many different characters for it; set "
            f"{option}={match[1]} or more, or a lower tokenizer.character_coverage"
        )
    return UserError(f"tokenizer.model={settings.model} cannot be trained: {text} is empty or unusable ({message})")
