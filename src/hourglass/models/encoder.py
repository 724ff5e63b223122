"""Encoders: from source ids, or features, to a memory of states and one fixed vector, the summary.

Here are the recurrent encoder, the one that reads nothing, and the list of all; the others have a file each. What all
have in common is in models/memory.py, and the summary of those without a final state in models/summary.py.

Shapes: B batch, S source length, E embedding, M memory, D summary.

To add an encoder, see docs/add-an-encoder.md.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.config.registry import Registry
from hourglass.errors import UserError
from hourglass.models.bag import BagEncoder
from hourglass.models.cells import CELLS, CellName, StateRange
from hourglass.models.convolution import ConvolutionalEncoder
from hourglass.models.features import FeatureEncoder
from hourglass.models.inputs import SourceInput
from hourglass.models.memory import Dropout, Encoder, EncoderSettings, Memory, mask_of
from hourglass.models.recurrent import RecurrentLayer
from hourglass.models.summary import StateRounding, SummaryBits, project_summary
from hourglass.models.transformer import TransformerEncoder


@dataclass(frozen=True, kw_only=True)
class RecurrentEncoderSettings(EncoderSettings):
    """conf/encoder/rnn.yaml.

    Attributes:
        embedding_file: text file of word2vec or GloVe with the first source embeddings; None: they are drawn.
        cell: a key of `CELLS`.
        layers: how many are stacked.
        hidden_size: M, the width of a memory state; two directions get half of it each.
        bidirectional: whether every layer reads both ways; "first": the bottom layer alone (Wu et al. 2016, section
            3.2); "split": half of the layers read each way, as two stacks side by side (TensorFlow NMT's "bi").
        residual_from: each layer from this one up, counted from 1, adds its input to its output (Wu et al. 2016,
            equation 6); 0: none does.
        reverse_source: read the words last to first, end-of-sentence still last (Sutskever et al. 2014, section
            3.3). The memory keeps the order of the source.
        summary_tanh: the summary is the tanh of the projection (Cho et al. 2014, appendix A).
        summary_bits: the tanh of the projection is rounded to this number of bits a component, so that the neck holds
            D times as many bits and no more. The gradient passes as if nothing were rounded (straight-through: Bengio
            et al. 2013, "Estimating or propagating gradients through stochastic neurons"). A final state that is handed
            on as it is has no tanh: see `StateRounding`. 0: not rounded.
        dropout: on embeddings and between layers.

    Raises:
        UserError: directions, widths or layers contradict each other.
    """

    embedding_file: str | None
    cell: CellName
    layers: PositiveInt
    hidden_size: PositiveInt
    bidirectional: Literal[True, False, "first", "split"]
    residual_from: NonNegativeInt
    reverse_source: bool
    summary_tanh: bool
    summary_bits: SummaryBits = 0  # Checkpoints of earlier versions lack it.
    dropout: Dropout

    def __post_init__(self) -> None:
        if self.bidirectional and self.hidden_size % 2:
            raise UserError(
                f"encoder.hidden_size={self.hidden_size}: two directions share it half and half; make it even, "
                "or set encoder.bidirectional=false"
            )
        if self.bidirectional == "split" and self.layers % 2:
            raise UserError(
                f"encoder.bidirectional=split shares out encoder.layers={self.layers} half and half: make it even, "
                "or set encoder.bidirectional=true"
            )
        check_residual("encoder", self.residual_from, self.stack_layers)
        check_width("encoder", self.cell, self.hidden_size, directions=2 if self.bidirectional else 1)

    @property
    def stack_layers(self) -> int:
        """The number of layers on top of each other."""
        return self.layers // 2 if self.bidirectional == "split" else self.layers


class RecurrentEncoder(Encoder):
    """Stacked recurrent layers; the summary is one projection of the final states of all layers.

        summary = W [s_1; s_2; ...] + b, or its tanh

    One direction is the encoder of Sutskever et al. 2014 and Cho et al. 2014, two directions that of Bahdanau et
    al. 2014 (section 3.2). As the summary is a projection, a sweep of its width D leaves the layers alone.

    Args:
        settings: see `RecurrentEncoderSettings`.
        embedding: of ids, [V, E], or of features.
        final_states: the summary is the final states themselves, for a decoder that starts in them.
    """

    name = "rnn"
    settings_class = RecurrentEncoderSettings

    def __init__(self, settings: RecurrentEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__()
        self.embedding = embedding
        self.cell = settings.cell
        self.residual_from = settings.residual_from
        self.reverse_source = settings.reverse_source
        self.memory_size = settings.hidden_size
        self.summary_size = settings.summary_size
        self.summary_bits = settings.summary_bits
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = self._stack(settings)
        self.backward_layers = self._stack(settings) if settings.bidirectional == "split" else None
        stacks = [self.layers] if self.backward_layers is None else [self.layers, self.backward_layers]
        self.final_shapes = tuple(layer.final_shapes for level in zip(*stacks, strict=True) for layer in level)
        projected = 0 if final_states else settings.summary_size
        self.summarise = project_summary(
            self.final_size, projected, tanh=settings.summary_tanh, bits=settings.summary_bits
        )
        hands_on = settings.summary_size > 0 and final_states
        self.round_state = (
            StateRounding(self._ranges(), settings.summary_bits) if hands_on and self.summary_bits else None
        )

    @staticmethod
    def _stack(settings: RecurrentEncoderSettings) -> nn.ModuleList:
        width = settings.hidden_size // 2 if settings.bidirectional == "split" else settings.hidden_size
        layers, below = [], settings.embedding_size
        for depth in range(settings.stack_layers):
            both = settings.bidirectional is True or (settings.bidirectional == "first" and depth == 0)
            layers.append(RecurrentLayer(settings.cell, below, width // (2 if both else 1), both))
            below = width
        return nn.ModuleList(layers)

    @property
    def final_size(self) -> int:
        """How many numbers the final states of all layers have."""
        return sum(math.prod(shape) for layer in self.final_shapes for shape in layer)

    def _ranges(self) -> list[StateRange]:
        """Return where each of the numbers of the final states lies, [final_size]."""
        cell = CELLS[self.cell]
        return [
            cell.state_ranges.get(part, "real")
            for layer in self.final_shapes
            for part, shape in zip(cell.state_parts, layer, strict=True)
            for _ in range(math.prod(shape))
        ]

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`."""
        longest = source.shape[1]
        mask = mask_of(lengths, longest)
        if self.reverse_source:
            # Features have no end-of-sentence.
            order = reversed_order(lengths if source.is_floating_point() else lengths - 1, longest)
            source = source.gather(1, order.view(*order.shape, *[1] * (source.ndim - 2)).expand_as(source))
        states = self.dropout(self.embedding(source))
        if self.backward_layers is None:
            states, finals = self._climb(self.layers, states, mask)
        else:
            order_back = reversed_order(lengths, longest).unsqueeze(-1)
            reversed_states = states.gather(1, order_back.expand_as(states))
            states, forward_finals = self._climb(self.layers, states, mask)
            reversed_states, backward_finals = self._climb(self.backward_layers, reversed_states, mask)
            states = torch.cat([states, reversed_states.gather(1, order_back.expand_as(reversed_states))], -1)
            finals = [final for pair in zip(forward_finals, backward_finals, strict=True) for final in pair]
        if self.reverse_source:
            states = states.gather(1, order.unsqueeze(-1).expand_as(states))
        if self.summary_size == 0:
            return Memory(states, mask, lengths, states.new_zeros(len(source), 0))
        final = torch.cat(finals, -1)  # [B, final_size]: layer by layer, part by part, direction by direction
        hand_on = self.summarise or self.round_state
        return Memory(states, mask, lengths, hand_on(final) if hand_on else final)

    def _climb(self, layers: nn.ModuleList, states: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run a stack over [B, S, E]: return the outputs of its top layer [B, S, width] and all final states."""
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
    """Reads nothing: a zero summary and no states, which makes the decoder a language model of the target side.

    Args:
        settings: `summary_size` is that of the encoder it is compared with, so that the decoders have equal sizes.
        embedding: not kept.
        final_states: without effect, a zero summary is a zero state.
    """

    name = "blind"
    memory_size = 0
    zero_summary: Tensor  # [D]

    def __init__(self, settings: EncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__()
        del embedding, final_states
        self.summary_size = settings.summary_size
        # A buffer has the type of the model and is on its device.
        self.register_buffer("zero_summary", torch.zeros(settings.summary_size), persistent=False)

    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """See `Encoder.forward`; states are [B, S, 0] and the summary is zero."""
        batch, longest = source.shape[:2]
        states = self.zero_summary.new_zeros(batch, longest, 0)
        return Memory(states, mask_of(lengths, longest), lengths, self.zero_summary.expand(batch, -1))


ENCODERS: Registry[Encoder] = Registry(
    "encoder.name",
    Encoder,  # type: ignore[type-abstract]
    (RecurrentEncoder, BlindEncoder, BagEncoder, ConvolutionalEncoder, TransformerEncoder, FeatureEncoder),
    arguments=("settings", "embedding", "final_states"),
    settings="settings_class",
)


def reversed_order(lengths: Tensor, longest: int) -> Tensor:
    """Return the indices [B, longest] that reverse the first lengths[b] positions of row b and keep the others."""
    position = torch.arange(longest, device=lengths.device).expand(len(lengths), -1)
    mirrored = lengths.unsqueeze(1) - 1 - position
    return torch.where(mirrored >= 0, mirrored, position)


def check_residual(group: str, residual_from: int, layers: int) -> None:
    """Check that `residual_from` is 0 or the number of a layer, of `layers` in a stack, with a layer below it.

    Raises:
        UserError: it is not; the message names the option of `group`.
    """
    if residual_from == 1:
        raise UserError(
            f"{group}.residual_from=1: the bottom layer reads embeddings, which are no state: set 2 or more"
        )
    if residual_from > layers:
        raise UserError(
            f"{group}.residual_from={residual_from}: there are {layers} layers in a stack: "
            f"set {group}.residual_from=0, or more of {group}.layers"
        )


def check_width(group: str, cell: str, hidden_size: int, *, directions: int = 1) -> None:
    """Check that a cell can be as wide as it is to be.

    Args:
        group: encoder or decoder.
        cell: a key of `CELLS`.
        hidden_size: the option of `group`.
        directions: how many cells share it.

    Raises:
        UserError: it cannot; the message names the options of `group`.
    """
    multiple = CELLS[cell].width_multiple * directions
    if hidden_size % multiple:
        halves = " in each of two directions" if directions > 1 else ""
        lower = hidden_size - hidden_size % multiple
        widths = f"{lower} or {lower + multiple}" if lower else f"{multiple}"
        raise UserError(
            f"{group}.hidden_size={hidden_size}: {group}.cell={cell} has {CELLS[cell].width_multiple} heads of equal "
            f"width{halves}: set {group}.hidden_size to a multiple of {multiple}, such as {widths}"
        )
