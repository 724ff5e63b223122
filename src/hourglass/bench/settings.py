"""What pipelines/bench.py measures: the settings of conf/bench.yaml."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from hourglass.errors import UserError
from hourglass.system.primitives import CAPACITY
from hourglass.system.project import ROOT
from hourglass.system.waiting import WAITING

log = logging.getLogger(__name__)

# The shape of a batch: sentences, and source and target tokens of each (the means of Multi30k).
BATCH_SENTENCES, SOURCE_LENGTH, TARGET_LENGTH = 64, 15, 15

STANDARD_ERROR = 2  # Its file descriptor, whatever sys.stderr is.

Precision = Literal["32-true", "bf16-mixed"]
# Two sizes at least: the exponent of growth is a slope.
_Sizes = Annotated[list[PositiveInt], Field(min_length=2)]


@dataclass(frozen=True)
class BenchSettings:
    """The settings in conf/bench.yaml, without the command and its arguments.

    Attributes:
        overrides: command line of src/train.py that all variants share.
        decoder_sizes: H, the sizes of the decoder state.
        variants: name and further overrides of each variant; `{size}` stands for H.
        precisions: of the timed trainings.
        target_tokens: length of a timed training.
        decoding_target_tokens: length of the training of the model that decodes: first variant, largest size.
        search_sentences: test sentences that are translated in each precision of the search, evenly spaced.
        exact_sentences: test sentences whose translations are compared with those of the plain search.
        rounds: repetitions of each measurement.
        between: command that `bench.py train` and `bench.py decode` run after each of their measurements, such as
            another toolkit's turn; None: nothing.
        seconds: duration of the measurement of a step or of a rate of products.
        lengths: tokens a sentence, for growth.
        beams: widths of the search, for growth.
        corpus_pairs: sizes of a corpus, for growth.
        compared_variants: numbers of variants compared by paired bootstrap, for growth.
        device_sentences: batch sizes of `bench.py device` and `bench.py compiled`.
        device_precisions: precisions of these two and of `bench.py gpu`.
        device_seconds: duration of the measurement of a step in these two.
        gpu_target_tokens: length of a whole training on a GPU: first variant, one seed for each round.
        default_variants: name and overrides of variants of the default settings of src/train.py, whose training steps
            `bench.py precisions` and `bench.py profile` measure beside that of the first of `variants`; of the first of
            them, `bench.py cells` measures all cells.
        default_length: source and target pieces of the sentences of their batches.
        threads: threads of every measurement.
    """

    overrides: list[str]
    decoder_sizes: list[PositiveInt]
    variants: dict[str, str]
    precisions: Annotated[list[Precision], Field(min_length=1)]
    target_tokens: PositiveInt
    decoding_target_tokens: PositiveInt
    search_sentences: PositiveInt
    exact_sentences: PositiveInt
    rounds: PositiveInt
    between: str | None
    seconds: PositiveFloat
    lengths: _Sizes
    beams: _Sizes
    corpus_pairs: _Sizes
    compared_variants: _Sizes
    device_sentences: Annotated[list[PositiveInt], Field(min_length=1)]
    device_precisions: Annotated[list[Precision], Field(min_length=1)]
    device_seconds: PositiveFloat
    gpu_target_tokens: PositiveInt
    default_variants: dict[str, str]
    default_length: PositiveInt
    threads: PositiveInt

    def __post_init__(self) -> None:
        """Check the command of `between`.

        Raises:
            UserError: it cannot be read, or there is no such program.
        """
        if self.between is None:
            return
        try:
            words = shlex.split(self.between)
        except ValueError as error:
            raise UserError(f"between={self.between}: {error}") from None
        if not words or shutil.which(words[0]) is None:
            raise UserError(f"between={self.between}: no such program")

    @property
    def first_variant(self) -> str:
        """The variant that decodes, and that is trained to its end on a GPU."""
        return next(iter(self.variants))

    def overrides_of(self, variant: str, size: int) -> list[str]:
        """Return the overrides of a variant at a decoder size. The readout is as wide as the state, as in the peers."""
        return [
            *self.overrides,
            *self.variants[variant].format(size=size).split(),
            f"decoder.hidden_size={size}",
            f"decoder.readout_size={size}",
        ]


def run_between(settings: BenchSettings, name: str, precision: str) -> None:
    """Run the command of `between`, if any; its last two words are the name and the precision of our measurement.

    The variables by which Hourglass has threads wait and kernels kept are not set for it. What it prints goes to
    standard error, as standard output is for measurements only. If it fails, a warning says so: our measurements go on.
    """
    if settings.between is None:
        return
    environment = {key: value for key, value in os.environ.items() if key not in (*WAITING, CAPACITY)}
    command = [*shlex.split(settings.between), name, precision]
    done = subprocess.run(command, env=environment, stdout=STANDARD_ERROR, check=False)
    if done.returncode:
        log.warning("between=%s: ended with status %d after %s, %s", settings.between, done.returncode, name, precision)


def part_command(command: str, *words: str) -> list[str]:
    """Return the command line of bench.py for a part of a command, with the settings of this process.

    Args:
        command: of this process.
        words: the part and its arguments; a setting takes the place of that of this process.
    """
    own = (command, f"command={command}", f"--command={command}")
    keys = tuple(f"{word.partition('=')[0]}=" for word in words if "=" in word)
    kept = [word for word in sys.argv[1:] if word not in own and not word.startswith(keys)]
    return [sys.executable, str(ROOT / "pipelines" / "bench.py"), *words, *kept]
