"""The summary, the neck: its projection and rounding, and the pooling of states where there is no final state.

Shapes: B batch, S source length, E embedding, M memory, D summary, F what a summary is projected from.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.cells import StateRange
from hourglass.models.inputs import SourceInput
from hourglass.models.memory import Dropout, Encoder, EncoderSettings, Memory, mask_of

SummaryBits = Annotated[int, Field(ge=0, le=16)]


class SummaryProjection(nn.Linear):
    """summary = W f + b, or its tanh, or that tanh rounded to a number of bits a component.

    Args:
        inputs: F.
        summary_size: D.
        tanh: the summary is the tanh of the projection (Cho et al. 2014, appendix A).
        bits: the tanh of the projection is rounded to so many bits a component; 0: not rounded.
    """

    def __init__(self, inputs: int, summary_size: int, *, tanh: bool, bits: int):
        super().__init__(inputs, summary_size)
        self.tanh = tanh or bits > 0
        self.bits = bits

    def forward(self, input: Tensor) -> Tensor:
        """Return the summary [B, D] of [B, F]."""
        summary = super().forward(input)
        summary = summary.tanh() if self.tanh else summary
        return round_to_bits(summary, self.bits) if self.bits else summary


def project_summary(inputs: int, summary_size: int, *, tanh: bool, bits: int) -> SummaryProjection | None:
    """Return the layer that makes a summary, see `SummaryProjection`; None for a summary of width 0, which has none."""
    return SummaryProjection(inputs, summary_size, tanh=tanh, bits=bits) if summary_size else None


def round_to_bits(values: Tensor, bits: int) -> Tensor:
    """Round values from -1 to 1 to 2^bits evenly spaced levels, -1 and 1 included; the gradient is that of `values`.

    Levels are computed in float32 or wider: in bfloat16, more than 8 bits have no levels of their own.
    """
    steps = 2**bits - 1
    wide = values.detach().to(torch.promote_types(values.dtype, torch.float32))
    level = (((wide + 1) / 2 * steps).round() / steps * 2 - 1).to(values.dtype)
    return level + (values - values.detach())  # In this order the sum is exactly the level.


class StateRounding(nn.Module):
    """Rounds a state that is handed on as it is (decoder.start=pass) to a number of bits a component.

        u = x                   of a part between -1 and 1
        u = (x - 1) / (x + 1)   of a part above 0
        u = x / (1 + |x|)       of any other
        u' = the middle of that of 2^bits equal intervals from -1 to 1 in which u lies
        x' = the x that gives u'

    so that a component takes 2^bits values, close together near 0, or 1, and far apart where it is large (companding:
    Smith 1957). The gradient is that of x (straight-through). A linear map would need a range for the cells whose
    states have none.

    Args:
        ranges: of each of the F numbers of a state.
        bits: 1 or more.
    """

    unit: Tensor  # [F] bool
    positive: Tensor  # [F] bool

    def __init__(self, ranges: Sequence[StateRange], bits: int):
        super().__init__()
        self.bits = bits
        for kind in ("unit", "positive"):
            self.register_buffer(kind, torch.tensor([own == kind for own in ranges]), persistent=False)

    def forward(self, state: Tensor) -> Tensor:
        """Return the rounded state [B, F] of [B, F]; computed in float32 or wider."""
        x = state.detach().to(torch.promote_types(state.dtype, torch.float32))
        above = x.clamp(min=0.0)
        u = torch.where(self.unit, x, torch.where(self.positive, (above - 1) / (above + 1), x / (1 + x.abs())))
        levels = 2**self.bits
        u = (((u + 1) / 2 * levels).floor().clamp(0, levels - 1) + 0.5) / levels * 2 - 1
        x = torch.where(self.unit, u, torch.where(self.positive, (1 + u) / (1 - u), u / (1 - u.abs())))
        return x.to(state.dtype) + (state - state.detach())  # In this order the sum is exactly the level.


class AttentionPooling(nn.Module):
    """The mean of the states, weighted by a learned query (Raffel and Ellis 2015, equation 1, with a linear score).

        weights_s = exp(q . state_s) / sum over s' of exp(q . state_s')
        pooled = sum over s of weights_s state_s

    Args:
        memory_size: M.
    """

    def __init__(self, memory_size: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(memory_size).uniform_(-(memory_size**-0.5), memory_size**-0.5))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled states [B, M] of states [B, S, M] with the mask [B, S]; the softmax is in float32."""
        scores = states @ self.query  # [B, S]
        wide = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~mask, float("-inf"))
        weights = wide.softmax(-1).to(states.dtype)
        return (weights.unsqueeze(1) @ states).squeeze(1)


@dataclass(frozen=True, kw_only=True)
class PooledEncoderSettings(EncoderSettings):
    """The options that all encoders without a final state have.

    Attributes:
        embedding_file: text file of word2vec or GloVe with the first source embeddings; None: they are drawn.
        hidden_size: M, the width of a memory state.
        summary: which states the summary is projected from: "mean": the mean of all; "last": that of
            end-of-sentence; "attention": a mean with learned weights, see `AttentionPooling`.
        summary_tanh: see `SummaryProjection`.
        summary_bits: see `SummaryProjection`, and `RecurrentEncoderSettings` of models/encoder.py.
        dropout: where an encoder says.
    """

    embedding_file: str | None
    hidden_size: PositiveInt
    summary: Literal["mean", "last", "attention"]
    summary_tanh: bool
    summary_bits: SummaryBits
    dropout: Dropout


class PooledEncoder(Encoder):
    """Base of the encoders without a final state: the summary is a projection of their pooled states.

        summary = W pool(state_1 ... state_S) + b, or its tanh, which may be rounded

    A subclass writes `read`.

    Args:
        settings: see `PooledEncoderSettings`.
        embedding: of ids, [V, E], or of features.
        final_states: whether the decoder starts in the final states themselves.

    Raises:
        UserError: `final_states` is set.
    """

    def __init__(self, settings: PooledEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__()
        if final_states:
            raise UserError(
                f"decoder.start=pass hands over final states, and encoder={self.name} has none: set decoder.start=dense"
            )
        self.embedding = embedding
        self.memory_size, self.summary_size = settings.hidden_size, settings.summary_size
        self.summary_bits = settings.summary_bits
        self.dropout = nn.Dropout(settings.dropout)
        self.pooling = settings.summary
        read = settings.summary_size > 0
        self.pool = AttentionPooling(self.memory_size) if read and settings.summary == "attention" else None
        self.summarise = project_summary(
            self.memory_size, settings.summary_size, tanh=settings.summary_tanh, bits=settings.summary_bits
        )

    @abstractmethod
    def read(self, source: Tensor, mask: Tensor) -> Tensor:
        """Return the states [B, S, M] of a source with the mask [B, S]; those at padding may be anything finite.

        Args:
            source: ids [B, S], or features [B, S, F].
            mask: True at real positions.
        """

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`."""
        mask = mask_of(lengths, source.shape[1])
        states = self.read(source, mask)
        if self.summarise is None:
            return Memory(states, mask, lengths, states.new_zeros(len(source), 0))
        return Memory(states, mask, lengths, self.summarise(self._pooled(states, mask, lengths)))

    def _pooled(self, states: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
        """Return what the summary is projected from, [B, M]."""
        if self.pool is not None:
            return self.pool(states, mask)
        if self.pooling == "last":
            last = (lengths - 1).view(-1, 1, 1).expand(-1, 1, self.memory_size)  # [B, 1, M]
            return states.gather(1, last).squeeze(1)
        return states.masked_fill(~mask.unsqueeze(-1), 0).sum(1) / lengths.unsqueeze(1)
