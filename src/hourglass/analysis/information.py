"""The result of `bits.measure_bits`, and the file information.json that holds it.

Unless a name says otherwise, a number of bits is a mean over test sentences, in bits per sentence.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hourglass.analysis.convergence import all_converged
from hourglass.analysis.evaluation import GridEnd, grid_end
from hourglass.corpora.recipe import ItemNames
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.significance import Difference, Estimate
from hourglass.system.records import read_record, write_record

# Of the dataclasses below: add 1 whenever a field is removed, renamed, or changes its meaning. A new field is optional.
SCHEMA_VERSION = 1

# The blind decoder among the names of `SettingDifference.values`.
BLIND = "blind decoder"


@dataclass(frozen=True)
class Provenance:
    """How the runs of one variant were made.

    Attributes:
        seeds: one for each run.
        commits: 12 digits each, with a note where files differed from the commit.
        target_tokens: read in training, one for each run.
        config: settings of the first run; the others differ in the seed alone.
    """

    seeds: list[int]
    commits: list[str]
    target_tokens: list[int]
    config: dict[str, Any]


@dataclass(frozen=True)
class LengthBucket:
    """Test sentences of similar length.

    Attributes:
        source_words: first and last number of source words; None: no upper end.
        sentences: number of sentences.
        mean_source_words: None for a bucket without sentences.
        exact_bits: information in a reference; None where it is not known, or there are no sentences.
        blind_bits: bits that the blind decoder needs; None where there are no sentences.
    """

    source_words: tuple[int, int | None]
    sentences: int
    mean_source_words: float | None
    exact_bits: float | None
    blind_bits: float | None


@dataclass(frozen=True)
class PositionBucket:
    """Neighbouring positions in the reference.

    Attributes:
        pieces: first and last position, counted from 1; None: no upper end.
        sentences: number of references that are long enough to have the first position.
    """

    pieces: tuple[int, int | None]
    sentences: int


@dataclass(frozen=True)
class DigitBucket:
    """Test sentences of one size, in a corpus whose information is known: see `Information.item_names`.

    Attributes:
        digits: the size: digits of a number, shapes of a picture.
        sentences: number of sentences.
        exact_bits: information in such an item.
        variants: bits of it that each variant's decoder has received, by variant.
    """

    digits: int
    sentences: int
    exact_bits: float
    variants: dict[str, Estimate]


class LearningPoint(NamedTuple):
    """A validation during training: target tokens read so far, and bits per dev sentence."""

    target_tokens: float
    bits: float


@dataclass(frozen=True)
class JoinedBits:
    """Bits when several consecutive test sentences are one input, ends of sentence not counted.

    Attributes:
        bits: per original sentence.
        gain: the same less the bits of the same sentences read one by one.
    """

    bits: Estimate
    gain: Estimate


@dataclass(frozen=True)
class BitsDifference:
    """Bits of a variant less bits of another, sentence by sentence; the blind decoder cancels.

    Attributes:
        whole: over all test sentences.
        by_length: for each length bucket; None for a bucket without sentences.
        curve: slope and plateau of the difference over source words.
        joined: per original sentence, by the number of sentences joined to one input, ends of sentence not counted.
    """

    whole: Difference
    by_length: list[Difference | None]
    curve: Saturation | None = None  # Older results lack it.
    joined: dict[int, Difference] = field(default_factory=dict)  # Older results lack it.


@dataclass(frozen=True)
class Contrast:
    """Two variants that see the source, and their difference.

    Attributes:
        variant: name of the one.
        reference: name of the other, which is subtracted.
        difference: of their bits.
    """

    variant: str
    reference: str
    difference: BitsDifference


@dataclass(frozen=True)
class SettingDifference:
    """A setting in which the runs differ, beside what tells the variants apart.

    Attributes:
        option: GROUP.KEY.
        values: by variant, and under `BLIND` that of the blind decoder if it has the option.
    """

    option: str
    values: dict[str, Any]


@dataclass(frozen=True)
class BlindBits:
    """The decoder that never sees the source.

    Attributes:
        run: name of the run folder.
        provenance: how it was made; None in an old result, which was recorded without it.
        dev_loss: nats per target token.
        converged: whether the last fifth of its budget gained next to nothing; None where that cannot be told.
        last_fifth_bits: bits per test sentence that the last fifth of its budget saved.
        temperature: that divides the logits, fitted on dev; 1 without label smoothing.
        bits: that it needs, at this temperature.
        raw_bits: that it needs at temperature 1.
        end_bits: part of `bits` that end-of-sentence needs.
        joined: bits per original sentence by the number of sentences joined to one input, ends not counted.
        target_pieces: mean length of a reference, end-of-sentence included.
        target_words: mean length of a reference.
        learning: bits that it needs per dev sentence at each of its validations, at temperature 1. Empty in older
            results, whose `VariantBits.learning` is against its best validation throughout.
        learning_rates: that were tried for it; empty in older results.
        other_seeds: `bits` of each other run of it, which differs in the seed alone. It was not chosen, because its dev
            loss is higher; empty in older results.
    """

    run: str
    provenance: Provenance | None
    dev_loss: float
    converged: bool | None
    last_fifth_bits: float
    temperature: float
    bits: float
    raw_bits: float
    end_bits: float
    joined: dict[int, float]
    target_pieces: float
    target_words: float
    learning: list[LearningPoint] = field(default_factory=list)  # Older results lack it.
    learning_rates: list[float] = field(default_factory=list)  # Older results lack it.
    other_seeds: list[float] = field(default_factory=list)  # Older results lack it.

    @property
    def edge(self) -> GridEnd | None:
        """The end of the learning rates tried at which its own lies; None inside them, and of fewer than two."""
        if self.provenance is None or not self.learning_rates:
            return None
        return grid_end(self.provenance.config["optimizer"]["learning_rate"], self.learning_rates)


@dataclass(frozen=True)
class ContrastiveBits:
    """A lower bound on the information that reached a decoder, which needs no blind one; see `metrics.contrastive`.

    Attributes:
        bits: per sentence.
        sources: that a reference is scored under.
        sentences: of test that were read.
        classes: length classes of the sources; with 1, the bound includes what the length of the source tells.
    """

    bits: Estimate
    sources: int
    sentences: int
    classes: int

    @property
    def cap(self) -> float:
        """The most that a sentence can have, in bits."""
        return math.log2(self.sources)


@dataclass(frozen=True)
class NulledBits:
    """Bits that the source gives, by runs that have read a share of their items without it; see `metrics.nulled`.

    Attributes:
        share: of the training items (trainer.null_source).
        bits: of all sentences.
        word_bits: per target word, ends of sentence left out.
        by_length: bits in each length bucket; None for a bucket without sentences.
    """

    share: float
    bits: Estimate
    word_bits: Estimate
    by_length: list[Estimate | None]


@dataclass(frozen=True)
class VariantBits:
    """Bits that reach the decoder of one variant: those of the blind decoder less the variant's own.

    Lists have one entry for each seed, if not said otherwise.

    Attributes:
        attention: `attention.name` of its runs.
        provenance: how they were made; None in an old result, which was recorded without it.
        dev_loss: nats per target token.
        converged: whether the last fifth of the budget gained next to nothing; None where that cannot be told.
        temperatures: see `BlindBits.temperature`.
        parameters: of the model.
        bits: of all sentences.
        raw_bits: the same, all models at temperature 1.
        end_bits: part of `bits` that belongs to end-of-sentence.
        exact_bits: information in a reference less the bits that the variant needs; no blind decoder takes part. None
            where that information is not known.
        by_length: bits in each length bucket; None for a bucket without sentences.
        by_position: bits per piece in each position bucket; None for a bucket without pieces.
        joined: by the number of sentences joined to one input.
        saturation: does the curve over sentence length flatten?
        slopes: of the straight line over sentence length, bits per source word.
        learning: bits per dev sentence during training, a curve for each seed: against the blind decoder after the same
            number of target tokens.
        difference: to the baseline; None for the baseline itself.
        contrastive: a lower bound without the blind decoder; None where it was not measured.
        nulled: None for runs of trainer.null_source=0.
        frozen_encoder: the variant whose encoders its own are, frozen, or the name of a run that is no variant's; None
            where its encoders were trained with it.
    """

    attention: str
    provenance: Provenance | None
    dev_loss: list[float]
    converged: list[bool | None]
    temperatures: list[float]
    parameters: int
    bits: Estimate
    raw_bits: Estimate
    end_bits: Estimate
    exact_bits: Estimate | None
    by_length: list[Estimate | None]
    by_position: list[Estimate | None]
    joined: dict[int, JoinedBits]
    saturation: Saturation
    slopes: list[float]
    learning: list[list[LearningPoint]]
    difference: BitsDifference | None
    contrastive: ContrastiveBits | None = None  # Older results lack it.
    nulled: NulledBits | None = None  # Older results lack it.
    frozen_encoder: str | None = None  # Older results lack it.

    @property
    def reading(self) -> Estimate:
        """`exact_bits` where the information in a reference is known, else `bits`."""
        return self.exact_bits or self.bits

    @property
    def verdict(self) -> bool | None:
        """Whether all seeds had converged; None where that cannot be told."""
        return all_converged(self.converged)


@dataclass(frozen=True)
class Information:
    """Bits that reach the decoders of several variants on one test set.

    Attributes:
        corpus: its name.
        baseline: the variant that all others are compared with.
        resamples: of the bootstrap.
        sentences: of the test set.
        lengths: length buckets.
        positions: position buckets.
        digits: buckets by size: digits of a number, shapes of a picture; None where the information is not known.
        exact_bits: information in a reference; None where it is not known.
        blind: the decoder that never sees the source.
        variants: by name.
        contrasts: pairs of variants beside those with the baseline.
        setting_differences: what beside the variants themselves may make a difference.
        item_names: what `digits` counts, and of what; older results, which lack it, are of `numbers`.
    """

    corpus: str
    baseline: str
    resamples: int
    sentences: int
    lengths: list[LengthBucket]
    positions: list[PositionBucket]
    digits: list[DigitBucket] | None
    exact_bits: float | None
    blind: BlindBits
    variants: dict[str, VariantBits]
    contrasts: list[Contrast] = field(default_factory=list)  # Older results lack it.
    setting_differences: list[SettingDifference] = field(default_factory=list)  # Older results lack it.
    item_names: ItemNames | None = None  # Older results lack it.

    @property
    def all_contrasts(self) -> list[Contrast]:
        """Every pair of variants that is compared, those with the baseline first."""
        with_baseline = [
            Contrast(name, self.baseline, own.difference)
            for name, own in self.variants.items()
            if own.difference is not None
        ]
        return [*with_baseline, *self.contrasts]

    @property
    def differences(self) -> dict[tuple[str, str], BitsDifference]:
        """Of each pair that is compared, a variant and its reference, the bits of the one less those of the other."""
        return {(contrast.variant, contrast.reference): contrast.difference for contrast in self.all_contrasts}

    def less(self, variant: str, reference: str, bucket: int | None = None) -> Difference | None:
        """Return the bits that a variant receives more than another; None where the two are not compared.

        Args:
            variant: the one.
            reference: the other.
            bucket: number of a length bucket; None: over all test sentences.
        """
        differences = self.differences
        turned = (variant, reference) not in differences
        difference = differences.get((reference, variant) if turned else (variant, reference))
        if difference is None:
            return None
        own = difference.whole if bucket is None else difference.by_length[bucket]
        return own.reversed if own is not None and turned else own

    def frozen_from(self, variant: str) -> str | None:
        """Return the variant that has a fresh decoder on the frozen encoders of another; None if there is none."""
        return next((name for name, own in self.variants.items() if own.frozen_encoder == variant), None)


def write_information(file: Path, information: Information) -> None:
    """Write information.json."""
    write_record(file, information, SCHEMA_VERSION)


def read_information(file: Path, command: str) -> Information:
    """Read information.json.

    Args:
        file: where it is.
        command: makes the file again.

    Raises:
        UserError: the file is missing, damaged, or of another version; the message names `command`.
    """
    return read_record(file, Information, SCHEMA_VERSION, command)
