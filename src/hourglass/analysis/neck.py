"""The neck of a model: how many numbers of the source reach the decoder by one vector, and how many bits they hold."""

from typing import NamedTuple

from hourglass.config.options import Config

# Of a number in float32, in which dev and test are read.
FLOAT_BITS = 32
# The heading of a column of tables, and what it says.
NECK = "vector"
NECK_DEFINED = (
    "Vector: the numbers that reach the decoder by one vector of fixed size, and the bits that they can hold as they "
    "are stored; a state: the decoder starts in the encoder's final state, which is not projected."
)


class Neck(NamedTuple):
    """The vector of fixed size between encoder and decoder."""

    numbers: int  # D, or of the final states of all layers; 0: no vector reaches the decoder
    bits: int  # that they can hold as they are stored: 32 a number, fewer where they are rounded
    is_state: bool  # the decoder starts in the encoder's final state itself (decoder.start=pass)

    def __str__(self) -> str:
        if not self.numbers:
            return "none"
        return f"{self.numbers:,}{' (a state)' if self.is_state else ''}, {self.bits:,} bits"


def neck_of(config: Config) -> Neck:
    """Return the neck of a run, given its settings.

    Nothing of the source passes where the encoder reads none, nor where neither the decoder's start nor its context
    reads the vector. The mean of all states (attention=mean) is a vector of fixed size, too.
    """
    encoder, start, attention = config["encoder"], config["decoder"]["start"], config["attention"]["name"]
    if encoder["name"] == "blind":
        return Neck(0, 0, False)
    summary = encoder["summary_size"] if start != "zero" or attention == "fixed" else 0
    # An encoder of one's own may name the width of its states otherwise.
    mean = encoder.get("hidden_size", 0) if attention == "mean" else 0
    bits = summary * (encoder.get("summary_bits") or FLOAT_BITS) + mean * FLOAT_BITS
    return Neck(summary + mean, bits, start == "pass")
