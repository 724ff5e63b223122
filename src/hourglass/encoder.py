"""Encoders: from source ids to a memory of states and one fixed vector, the summary.

Shapes: B batch, S source length, E embedding, M memory width, D summary width, L layers.
"""

from typing import Annotated, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.recurrent import Cell, RecurrentLayer

Dropout = Annotated[float, Field(ge=0, lt=1)]


class Memory(NamedTuple):
    """What an encoder hands over: `states` are the way round the neck, `summary` is the neck."""

    states: Tensor  # [B, S, M], position s belongs to source token s, also when the source was read in reverse
    mask: Tensor  # [B, S] bool, True at real tokens
    lengths: Tensor  # [B]
    summary: Tensor  # [B, D], the fixed vector


class Encoder(nn.Module):
    """Base of all encoders. `memory_size` is M (0: no states), `summary_size` is D."""

    name: str
    memory_size: int
    summary_size: int

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode source ids [B, S] of `lengths` [B], padded on the right, each row ending in end-of-sentence."""
        raise NotImplementedError


class RecurrentEncoder(Encoder):
    """Stacked recurrent layers; the summary is one projection of all their final states.

    One direction is the encoder of Sutskever et al. 2014 and Cho et al. 2014, two directions that of Bahdanau et
    al. 2014 (section 3.2). As the summary is a projection, its width D is swept without touching the layers.

    Args:
        embedding: the source embedding, [V, E].
        cell: lstm or gru.
        layers: how many are stacked.
        hidden_size: M, the width of a memory state; two directions get half of it each.
        bidirectional: whether every layer reads both ways.
        reverse_source: read the words last to first, end-of-sentence still last (Sutskever et al. 2014, section
            3.3). The memory keeps the source's own order.
        summary_size: D, the width of the fixed vector; 0 where nothing reads it.
        dropout: on embeddings and between layers.

    Raises:
        UserError: two directions and an odd `hidden_size`.
    """

    name = "rnn"

    def __init__(
        self,
        *,
        embedding: nn.Embedding,
        cell: Cell,
        layers: PositiveInt,
        hidden_size: PositiveInt,
        bidirectional: bool,
        reverse_source: bool,
        summary_size: NonNegativeInt,
        dropout: Dropout,
    ):
        super().__init__()
        if bidirectional and hidden_size % 2:
            raise UserError(
                f"encoder.hidden_size={hidden_size}: two directions share it half and half; make it even, "
                "or set encoder.bidirectional=false"
            )
        self.embedding = embedding
        self.reverse_source = reverse_source
        self.memory_size = hidden_size
        self.summary_size = summary_size
        self.dropout = nn.Dropout(dropout)
        directions = 2 if bidirectional else 1
        widths = [embedding.embedding_dim] + [hidden_size] * (layers - 1)
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, width, hidden_size // directions, bidirectional) for width in widths
        )
        final_size = layers * hidden_size * (2 if cell == "lstm" else 1)
        self.summarise = nn.Linear(final_size, summary_size) if summary_size else None

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`."""
        mask = mask_of(lengths, source.shape[1])
        if self.reverse_source:
            order = reversed_order(lengths - 1, source.shape[1])
            source = source.gather(1, order)
        states = self.dropout(self.embedding(source))
        finals = []
        for depth, layer in enumerate(self.layers):
            assert isinstance(layer, RecurrentLayer)
            states, final = layer.encode(self.dropout(states) if depth else states, mask)
            finals.append(final)
        if self.reverse_source:
            states = states.gather(1, order.unsqueeze(-1).expand_as(states))
        summary = self.summarise(torch.cat(finals, -1)) if self.summarise else states.new_zeros(len(source), 0)
        return Memory(states, mask, lengths, summary)


class BlindEncoder(Encoder):
    """Sees nothing: zero summary, no states. Its decoder is a language model of the target side.

    Args:
        summary_size: D, so that the decoder behind it is the very decoder that it is compared with.
    """

    name = "blind"
    memory_size = 0
    nothing: Tensor  # [D]

    def __init__(self, *, embedding: nn.Embedding, summary_size: NonNegativeInt):
        super().__init__()
        del embedding  # reads no source
        self.summary_size = summary_size
        # A buffer, to be of the type and on the device of the model.
        self.register_buffer("nothing", torch.zeros(summary_size), persistent=False)

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`; states are [B, S, 0] and the summary is zero."""
        batch, longest = source.shape
        states = self.nothing.new_zeros(batch, longest, 0)
        return Memory(states, mask_of(lengths, longest), lengths, self.nothing.expand(batch, -1))


ENCODERS: dict[str, type[Encoder]] = {kind.name: kind for kind in (RecurrentEncoder, BlindEncoder)}


def mask_of(lengths: Tensor, longest: int) -> Tensor:
    """Return [B, longest] bool, True at the first lengths[b] positions of row b."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)


def reversed_order(lengths: Tensor, longest: int) -> Tensor:
    """Return the indices [B, longest] that turn round the first lengths[b] positions of row b and keep the rest."""
    position = torch.arange(longest, device=lengths.device).expand(len(lengths), -1)
    mirrored = lengths.unsqueeze(1) - 1 - position
    return torch.where(mirrored >= 0, mirrored, position)
