"""The convolutional encoder: gated convolutions over embeddings with learned positions.

Shapes: B batch, S source length, E embedding, M memory, K kernel.
"""

import math
from dataclasses import dataclass

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.errors import UserError
from hourglass.models.inputs import SourceInput
from hourglass.models.summary import PooledEncoder, PooledEncoderSettings


@dataclass(frozen=True, kw_only=True)
class ConvolutionalEncoderSettings(PooledEncoderSettings):
    """conf/encoder/convolution.yaml.

    `dropout` is on embeddings and on the input of each convolution.

    Attributes:
        layers: how many convolutions are stacked.
        kernel_size: K, how many positions a convolution reads, as many on either side; a state sees
            layers * (K - 1) / 2 pieces on either side.
        longest_source: how many source positions have an embedding, in tokens with end-of-sentence.

    Raises:
        UserError: a convolution would read more on one side.
    """

    layers: PositiveInt
    kernel_size: PositiveInt
    longest_source: PositiveInt

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise UserError(
                f"encoder.kernel_size={self.kernel_size} reads more on one side: set "
                f"encoder.kernel_size={self.kernel_size + 1} or another odd number"
            )


class ConvolutionalEncoder(PooledEncoder):
    """Stacked gated convolutions with residual connections (Gehring et al. 2017, sections 3.1 to 3.3).

        e_s = embedding_s + position_s
        h0_s = W e_s + b
        [a; g]_s = C [h_(s - (K-1)/2); ...; h_(s + (K-1)/2)] + c
        h'_s = (a_s * sigmoid(g_s) + h_s) sqrt(0.5)

    What lies outside of the sentence reads as zeros. Weights are drawn as in section 3.5, so that activations keep
    their variance; without weight normalisation. The paper's decoder adds e_s to the states that attention sums
    (equation 2); here attention has the states alone, as with the other encoders.

    Args:
        settings: see `ConvolutionalEncoderSettings`.
        embedding: of ids, [V, E], or of features.
        final_states: see `PooledEncoder`.
    """

    name = "convolution"
    settings_class = ConvolutionalEncoderSettings
    longest_source: int

    def __init__(self, settings: ConvolutionalEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__(settings, embedding, final_states=final_states)
        width, size, kept = settings.embedding_size, settings.hidden_size, 1 - settings.dropout
        self.longest_source = settings.longest_source
        # As long as the embeddings, see build.py. No nn.Embedding: position 0 is not padding.
        self.positions = nn.Parameter(torch.empty(settings.longest_source, width).normal_(0, width**-0.5))
        self.project = nn.Linear(width, size)
        self.layers = nn.ModuleList(
            nn.Conv1d(size, 2 * size, settings.kernel_size, padding=settings.kernel_size // 2)
            for _ in range(settings.layers)
        )
        self._draw(self.project, kept)
        for layer in self.layers:
            self._draw(layer, 4 * kept)  # The gate halves what passes (appendix A).

    @staticmethod
    def _draw(layer: nn.Module, gain: float) -> None:
        """Draw weights of variance `gain` / inputs, and set biases to zero."""
        assert isinstance(layer, nn.Linear | nn.Conv1d)
        assert layer.bias is not None
        nn.init.normal_(layer.weight, 0, math.sqrt(gain / layer.weight[0].numel()))
        nn.init.zeros_(layer.bias)

    def check_length(self, longest: int, where: str) -> None:
        """See `Encoder.check_length`."""
        if longest > self.longest_source:
            raise UserError(
                f"encoder={self.name} has {self.longest_source} source positions and a sentence of {where} has "
                f"{longest} tokens: set encoder.longest_source={longest} or more and train again"
            )

    def read(self, source: Tensor, mask: Tensor) -> Tensor:
        """See `PooledEncoder.read`.

        Raises:
            UserError: the source has more positions than have an embedding.
        """
        longest = source.shape[1]
        self.check_length(longest, "the input")
        padding = ~mask.unsqueeze(-1)  # [B, S, 1]
        states = self.project(self.dropout(self.embedding(source) + self.positions[:longest]))  # [B, S, M]
        for layer in self.layers:
            inputs = self.dropout(states).masked_fill(padding, 0)
            gated = F.glu(layer(inputs.mT).mT, -1)
            states = (gated + states) * math.sqrt(0.5)
        return states
