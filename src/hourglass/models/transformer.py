"""The Transformer encoder.

Shapes: B batch, S source length, E embedding, M memory, N heads, W width of a head (M = N W), F feed-forward.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.errors import UserError
from hourglass.models.inputs import SourceInput
from hourglass.models.summary import PooledEncoder, PooledEncoderSettings

# The wavelengths of positions go from 2 pi to 2 pi times this (Vaswani et al. 2017, section 3.5).
LONGEST_WAVE = 10_000


@dataclass(frozen=True, kw_only=True)
class TransformerEncoderSettings(PooledEncoderSettings):
    """conf/encoder/transformer.yaml.

    `dropout` is on embeddings, attention weights, hidden layers and what a sublayer adds.

    Attributes:
        layers: how many are stacked.
        heads: N, of the self-attention.
        feedforward_size: F, the width of the hidden layer of the feed-forward sublayers.
        positions: "sinusoidal": added to the embeddings (Vaswani et al. 2017, section 3.5); "rotary": queries and keys
            are rotated by angles that grow with the position (Su et al. 2021, section 3.2.2).

    Raises:
        UserError: the heads do not divide the states, or their halves.
    """

    layers: PositiveInt
    heads: PositiveInt
    feedforward_size: PositiveInt
    positions: Literal["sinusoidal", "rotary"]

    def __post_init__(self) -> None:
        check_heads("encoder.heads", self.heads, self.hidden_size)
        if self.positions == "rotary" and self.hidden_size // self.heads % 2:
            raise UserError(
                f"encoder.positions=rotary rotates pairs of components, and encoder.heads={self.heads} of "
                f"encoder.hidden_size={self.hidden_size} are each {self.hidden_size // self.heads} wide: make that "
                "even, or set encoder.positions=sinusoidal"
            )


def check_heads(option: str, heads: int, size: int) -> None:
    """Check that heads share out a state of `size` numbers evenly.

    Raises:
        UserError: they do not; the message begins with `option` and names the next lower number that does.
    """
    if size % heads:
        fitting = max(each for each in range(1, min(heads, size) + 1) if size % each == 0)
        raise UserError(
            f"{option}={heads} does not divide encoder.hidden_size={size}: set {option}={fitting}, or make "
            f"encoder.hidden_size a multiple of {heads}"
        )


class TransformerEncoder(PooledEncoder):
    """A Transformer encoder with the norms before the sublayers (Vaswani et al. 2017; pre-norm: Xiong et al. 2020).

        x = W sqrt(E) embedding + b, plus sinusoidal positions
        x = x + Attend(LN(x))        Attend: self-attention, see `SelfAttention`
        x = x + V relu(U LN(x) + u) + v
        states = LN(x) of the last layer

    The layers are those of torch's nn.TransformerEncoderLayer with norm_first, and tests/models/test_encoder.py
    compares them. They are written out here because that class has no place where rotary positions could rotate
    queries and keys: it projects them inside nn.MultiheadAttention.

    Args:
        settings: see `TransformerEncoderSettings`.
        embedding: of ids, [V, E], or of features.
        final_states: see `PooledEncoder`.
    """

    name = "transformer"
    settings_class = TransformerEncoderSettings

    def __init__(self, settings: TransformerEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__(settings, embedding, final_states=final_states)
        self.rotary = settings.positions == "rotary"
        self.head_size = settings.hidden_size // settings.heads
        # To the components of embeddings of length 1 (build.py), sqrt(E) gives the size of those of the positions.
        self.embedding_scale = math.sqrt(settings.embedding_size)
        self.project = nn.Linear(settings.embedding_size, settings.hidden_size)
        self.layers = nn.ModuleList(TransformerLayer(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.hidden_size)

    def read(self, source: Tensor, mask: Tensor) -> Tensor:
        """See `PooledEncoder.read`."""
        states = self.project(self.embedding(source) * self.embedding_scale)  # [B, S, M]
        angles = None
        if self.rotary:
            angles = position_angles(source.shape[1], self.head_size, states)
        else:
            states = states + sinusoids(source.shape[1], self.memory_size, states)
        states = self.dropout(states)
        for layer in self.layers:
            states = layer(states, mask, angles)
        normed: Tensor = self.norm(states)
        return normed


class TransformerLayer(nn.Module):
    """One layer: self-attention and a feed-forward network, each with its norm before it and its input added to it.

    Args:
        settings: see `TransformerEncoderSettings`.
    """

    def __init__(self, settings: TransformerEncoderSettings):
        super().__init__()
        size = settings.hidden_size
        self.attention = SelfAttention(size, settings.heads, settings.dropout)
        self.attention_norm, self.feedforward_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.expand = nn.Linear(size, settings.feedforward_size)
        self.contract = nn.Linear(settings.feedforward_size, size)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, states: Tensor, mask: Tensor, angles: Tensor | None) -> Tensor:
        """Return the next states [B, S, M] of states [B, S, M]; for the others see `SelfAttention.forward`."""
        states = states + self.dropout(self.attention(self.attention_norm(states), mask, angles))
        hidden = self.dropout(self.expand(self.feedforward_norm(states)).relu())
        next_states: Tensor = states + self.dropout(self.contract(hidden))
        return next_states


class SelfAttention(nn.Module):
    """Multi-head attention of states to each other (Vaswani et al. 2017, section 3.2.2).

        head_n = softmax(Q_n K_n^T / sqrt(W)) V_n        Q_n, K_n, V_n: projections of the states to W numbers each
        output = [head_1; ...; head_N] O + o

    Args:
        size: M.
        heads: N.
        dropout: on the weights.
    """

    def __init__(self, size: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(size, 3 * size)  # queries, keys and values, of all heads
        self.output = nn.Linear(size, size)

    def forward(self, states: Tensor, mask: Tensor, angles: Tensor | None) -> Tensor:
        """Attend.

        Args:
            states: [B, S, M].
            mask: [B, S], True at real positions; others are not attended to.
            angles: [S, W/2], by which queries and keys are rotated, or None.

        Returns:
            [B, S, M].
        """
        query, key, value = self.inputs(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)  # [B, N, S, W]
        heads = F.scaled_dot_product_attention(
            query, key, value, mask[:, None, None], dropout_p=self.dropout if self.training else 0.0
        )
        output: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return output


def position_angles(longest: int, width: int, like: Tensor) -> Tensor:
    """Return the angles s / 10000^(2i / width) [longest, ceil(width / 2)] of position s and pair i.

    They are in float32 or wider, whatever the type of `like`: bfloat16 has whole positions up to 256 only.
    """
    wide = torch.promote_types(like.dtype, torch.float32)
    pairs = torch.arange(0, width, 2, device=like.device, dtype=wide)
    return torch.arange(longest, device=like.device, dtype=wide).unsqueeze(1) * LONGEST_WAVE ** (-pairs / width)


def sinusoids(longest: int, width: int, like: Tensor) -> Tensor:
    """Return the positions [longest, width] (Vaswani et al. 2017, section 3.5), in the type of `like`.

    position_s,2i = sin(s / 10000^(2i / width)), position_s,2i+1 = cos(s / 10000^(2i / width)).
    """
    angles = position_angles(longest, width, like)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width].to(like.dtype)


def rotate(vectors: Tensor, angles: Tensor) -> Tensor:
    """Rotate each pair of neighbouring components by the angle of its position (Su et al. 2021, section 3.2.2).

    Args:
        vectors: [..., S, W], W even.
        angles: [S, W/2].

    Returns:
        [..., S, W], in the type of `vectors`.
    """
    cos, sin = angles.cos().to(vectors.dtype), angles.sin().to(vectors.dtype)
    first, second = vectors[..., 0::2], vectors[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)
