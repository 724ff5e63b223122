"""Encoders: from source ids to a memory of states and one fixed vector, the summary.

Shapes: B batch, S source length, E embedding, M memory width, D summary width, L layers.
"""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.recurrent import Cell, RecurrentLayer, parts_of

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
        final_states: the summary is the final states themselves, for a decoder that starts in them.
        cell: lstm, gru, ...: see `RecurrentLayer`.
        layers: how many are stacked.
        hidden_size: M, the width of a memory state; two directions get half of it each.
        bidirectional: whether every layer reads both ways; "first": the bottom layer alone (Wu et al. 2016, section
            3.2); "split": half of the layers read each way, as two stacks side by side (TensorFlow NMT's "bi").
        residual_from: each layer from this one up, counted from 1, adds its input to its output (Wu et al. 2016,
            equation 6); 0: none does.
        reverse_source: read the words last to first, end-of-sentence still last (Sutskever et al. 2014, section
            3.3). The memory keeps the source's own order.
        summary_size: D, the width of the fixed vector; 0 where nothing reads it.
        summary_tanh: the summary is the tanh of the projection (Cho et al. 2014, appendix A).
        summary_bits: the tanh of the projection is rounded to so many bits a component, so that the neck holds D times
            as many and no more; the gradient passes as if it were not (straight-through: Bengio et al. 2013,
            "Estimating or propagating gradients through stochastic neurons"). 0: not rounded.
        dropout: on embeddings and between layers.

    Raises:
        UserError: directions and widths, layers or summary do not fit each other.
    """

    name = "rnn"

    def __init__(
        self,
        *,
        embedding: nn.Embedding,
        final_states: bool,
        cell: Cell,
        layers: PositiveInt,
        hidden_size: PositiveInt,
        bidirectional: Literal[True, False, "first", "split"],
        residual_from: NonNegativeInt,
        reverse_source: bool,
        summary_size: NonNegativeInt,
        summary_tanh: bool,
        dropout: Dropout,
        summary_bits: Annotated[int, Field(ge=0, le=16)] = 0,
    ):
        super().__init__()
        if bidirectional and hidden_size % 2:
            raise UserError(
                f"encoder.hidden_size={hidden_size}: two directions share it half and half; make it even, "
                "or set encoder.bidirectional=false"
            )
        if bidirectional == "split" and layers % 2:
            raise UserError(
                f"encoder.bidirectional=split shares out encoder.layers={layers} half and half: make it even, "
                "or set encoder.bidirectional=true"
            )
        check_residual("encoder", residual_from, layers // 2 if bidirectional == "split" else layers)
        self.embedding = embedding
        self.residual_from = residual_from
        self.reverse_source = reverse_source
        self.memory_size = hidden_size
        self.summary_size = summary_size
        self.summary_tanh = summary_tanh or summary_bits > 0
        self.summary_bits = summary_bits
        self.dropout = nn.Dropout(dropout)
        width = hidden_size // 2 if bidirectional == "split" else hidden_size
        both = [bidirectional is True or (bidirectional == "first" and depth == 0) for depth in range(layers)]

        def stack(depth: int) -> nn.ModuleList:
            below = [embedding.embedding_dim] + [width] * (depth - 1)
            ways = zip(below, both, strict=False)
            return nn.ModuleList(RecurrentLayer(cell, b, width // (2 if two else 1), two) for b, two in ways)

        self.layers = stack(layers // 2 if bidirectional == "split" else layers)
        self.backward_layers = stack(layers // 2) if bidirectional == "split" else None
        self.final_shape = (layers, parts_of(cell), width)
        final_size = math.prod(self.final_shape)
        if final_states and summary_size != final_size:
            raise UserError(
                f"decoder.start=pass hands over the final states as they are, {final_size} numbers: set "
                f"encoder.summary_size={final_size}, not {summary_size}, or decoder.start=dense"
            )
        if final_states and (summary_tanh or summary_bits):
            option, off = ("summary_tanh=true", "false") if summary_tanh else (f"summary_bits={summary_bits}", "0")
            raise UserError(
                f"encoder.{option} contradicts decoder.start=pass, which hands over the final states as they are: "
                f"set encoder.{option.split('=')[0]}={off}, or decoder.start=dense"
            )
        self.summarise = nn.Linear(final_size, summary_size) if summary_size and not final_states else None

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`."""
        longest = source.shape[1]
        mask = mask_of(lengths, longest)
        if self.reverse_source:
            order = reversed_order(lengths - 1, longest)
            source = source.gather(1, order)
        states = self.dropout(self.embedding(source))
        if self.backward_layers is None:
            states, finals = self._climb(self.layers, states, mask)
        else:
            turn = reversed_order(lengths, longest).unsqueeze(-1)
            turned = states.gather(1, turn.expand_as(states))
            states, forwards = self._climb(self.layers, states, mask)
            turned, backwards = self._climb(self.backward_layers, turned, mask)
            states = torch.cat([states, turned.gather(1, turn.expand_as(turned))], -1)
            finals = [final for pair in zip(forwards, backwards, strict=True) for final in pair]
        if self.reverse_source:
            states = states.gather(1, order.unsqueeze(-1).expand_as(states))
        if self.summary_size == 0:
            return Memory(states, mask, lengths, states.new_zeros(len(source), 0))
        final = torch.cat(finals, -1)  # [B, layers * parts * width], in this order
        summary = self.summarise(final) if self.summarise else final
        summary = summary.tanh() if self.summary_tanh else summary
        return Memory(states, mask, lengths, rounded(summary, self.summary_bits) if self.summary_bits else summary)

    def _climb(self, layers: nn.ModuleList, states: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run a stack from [B, S, E] to the states of its top [B, S, width]; and the final state of each layer."""
        finals = []
        for number, layer in enumerate(layers, 1):
            assert isinstance(layer, RecurrentLayer)
            below = states
            states, final = layer.encode(self.dropout(below) if number > 1 else below, mask)
            if 0 < self.residual_from <= number:
                states = states + below
            finals.append(final)
        return states, finals


class BlindEncoder(Encoder):
    """Sees nothing: zero summary, no states. Its decoder is a language model of the target side.

    Args:
        summary_size: D, so that the decoder behind it is the very decoder that it is compared with.
    """

    name = "blind"
    memory_size = 0
    nothing: Tensor  # [D]

    def __init__(self, *, embedding: nn.Embedding, final_states: bool, summary_size: NonNegativeInt):
        super().__init__()
        del embedding, final_states  # reads no source
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


def rounded(values: Tensor, bits: int) -> Tensor:
    """Round values from -1 to 1 to 2^bits even levels, both ends among them; the gradient is that of the values."""
    steps = 2**bits - 1
    level = ((values + 1) / 2 * steps).round() / steps * 2 - 1
    return level.detach() + (values - values.detach())  # In this order it is exactly the level.


def check_residual(group: str, residual_from: int, layers: int) -> None:
    """Raise UserError unless `residual_from` is 0 or one of `layers` layers that has a layer below it."""
    if residual_from == 1:
        raise UserError(
            f"{group}.residual_from=1: the bottom layer reads embeddings, which are no state: set 2 or more"
        )
    if residual_from > layers:
        raise UserError(
            f"{group}.residual_from={residual_from}: there are {layers} layers in a stack: "
            f"set {group}.residual_from=0, or more of {group}.layers"
        )
