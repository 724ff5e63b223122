"""The neck of a model: how many numbers of the source reach the decoder by one vector, and how many bits they hold."""

from typing import NamedTuple

from hourglass.config.options import Config
from hourglass.models.recurrent import CELLS

# Of a number in float32, in which dev and test are read, and in bfloat16, in which search.precision=bf16 translates.
FLOAT_BITS, BFLOAT_BITS = 32, 16
# The heading of a column of tables, and what it says.
NECK = "vector"
NECK_DEFINED = (
    "Vector: the numbers that reach the decoder by one vector of fixed size, and the bits that they can hold as they "
    f"are stored: {FLOAT_BITS} a number in float32 ({BFLOAT_BITS} in bfloat16), fewer where they are rounded. It is a "
    "projection of the encoder's states, but for a state: there the decoder starts in the encoder's final state itself."
)


class Neck(NamedTuple):
    """The vector of fixed size between encoder and decoder."""

    numbers: int  # D, or those of the final states of all layers that the decoder reads; 0: no vector reaches it
    bits: int  # that they can hold as they are stored: 32 a number, fewer where they are rounded
    is_state: bool  # the decoder starts in the encoder's final state itself (decoder.start=pass)

    def __str__(self) -> str:
        if not self.numbers:
            return "none"
        return f"{self.numbers:,}{' (a state)' if self.is_state else ''}, {self.bits:,} bits"


def neck_of(config: Config) -> Neck:
    """Return the neck of a run, given its settings.

    Nothing of the source passes where the encoder reads none, nor where neither the decoder's start nor its context
    reads the vector. The mean of all states (attention=mean) is a vector of fixed size, too. Of a state that is handed
    on, the parts that no step reads (`Cell.unread_parts`) do not count, unless the context or a query reads them.
    """
    encoder, decoder, attention = config["encoder"], config["decoder"], config["attention"]["name"]
    start = decoder["start"]
    if encoder["name"] == "blind":
        return Neck(0, 0, False)
    summary = encoder["summary_size"] if start != "zero" or attention == "fixed" else 0
    # The cell of a plugin that is not loaded is unknown: all of its state counts.
    if start == "pass" and attention != "fixed" and decoder["query"] == "current" and decoder["cell"] in CELLS:
        summary = decoder["layers"] * CELLS[decoder["cell"]].read_size(decoder["hidden_size"])
    # An encoder of one's own may name the width of its states otherwise.
    mean = encoder.get("hidden_size", 0) if attention == "mean" else 0
    bits = summary * (encoder.get("summary_bits") or FLOAT_BITS) + mean * FLOAT_BITS
    return Neck(summary + mean, bits, start == "pass")
