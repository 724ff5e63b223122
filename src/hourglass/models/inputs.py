"""What is below the layers of an encoder: an embedding of ids, or a layer that reads features. Every encoder reads
either.

Shapes: B batch, S regions or frames, F numbers of each, P pixels of a side of a patch, E embedding, C channels.
"""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# What encoder.patches may be.
PatchReading = Literal["projected", "convolved"]
# C, and pixels of a side of a convolution's kernel.
_CHANNELS, _KERNEL = 32, 3
_COLOURS = 3


class FeatureInput(nn.Module, ABC):
    """Base of the layers that turn features of regions into vectors of length about 1, as embeddings are (build.py),
    whatever the features' scale: mean and spread over regions of train are taken out first.

    Without that, what all regions have in common (the grey of a background, activations above 0) hides in what they
    differ, and training shuts the layer before it has learnt to read it (tried, with a layer norm after the map).

    Args:
        size: how many means and spreads there are.
        width: E.
    """

    mean: Tensor  # [size]
    spread: Tensor  # [size]

    def __init__(self, size: int, width: int):
        super().__init__()
        self.embedding_dim = width  # As nn.Embedding calls it.
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    @abstractmethod
    def standardise(self, regions: Tensor) -> None:
        """Take mean and spread from regions [R, F] of train; what does not vary stays as it is."""

    def _take(self, numbers: Tensor) -> None:
        """Take mean and spread from numbers [N, size]."""
        spread = numbers.std(0, correction=0)
        self.mean.copy_(numbers.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))


class FeatureProjection(FeatureInput):
    """Features of regions, projected; mean and spread are of each of the F numbers.

        e_s = U (f_s - mean) / spread + u

    Args:
        feature_size: F.
        width: E.
    """

    def __init__(self, feature_size: int, width: int):
        super().__init__(feature_size, width)
        self.project = nn.Linear(feature_size, width)
        nn.init.normal_(self.project.weight, 0, (feature_size * width) ** -0.5)
        nn.init.zeros_(self.project.bias)

    def standardise(self, regions: Tensor) -> None:
        """See `FeatureInput.standardise`."""
        self._take(regions)

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, S, E] of features [B, S, F]."""
        features = features.to(self.project.weight.dtype)
        vectors: Tensor = self.project((features - self.mean) / self.spread)
        return vectors


class PatchConvolution(FeatureInput):
    """Patches of a picture, by two convolutions over the pixels of each: a front end that is trained with the rest.

        h = pool(relu(K_1 * (x - mean) / spread))        e = U pool(relu(K_2 * h)) + u

    The kernels have 3 x 3 pixels, zeros stand outside of the patch, and a pool is the largest of 2 x 2 pixels. No patch
    sees another: that is left to the encoder and to attention. Mean and spread are of each colour.

    Args:
        patch: P; a region is P * P pixels, row by row, of red, green and blue each.
        width: E.
    """

    def __init__(self, patch: int, width: int):
        super().__init__(_COLOURS, width)
        self.patch = patch
        self.first = nn.Conv2d(_COLOURS, _CHANNELS, _KERNEL, padding="same")
        self.second = nn.Conv2d(_CHANNELS, _CHANNELS, _KERNEL, padding="same")
        for layer in (self.first, self.second):  # The rectifier halves what passes (He et al. 2015).
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        left = (patch + 3) // 4  # Pixels of a side after both pools.
        self.project = nn.Linear(_CHANNELS * left**2, width)
        nn.init.normal_(self.project.weight, 0, (2 * _CHANNELS * left**2 * width) ** -0.5)
        nn.init.zeros_(self.project.bias)

    def standardise(self, regions: Tensor) -> None:
        """See `FeatureInput.standardise`."""
        self._take(regions.reshape(-1, _COLOURS))

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, S, E] of patches [B, S, 3 * P * P]."""
        batch, regions = features.shape[:2]
        pixels = features.to(self.project.weight.dtype).reshape(-1, self.patch, self.patch, _COLOURS)
        pixels = ((pixels - self.mean) / self.spread).permute(0, 3, 1, 2)  # [B * S, 3, P, P]
        for layer in (self.first, self.second):
            pixels = F.max_pool2d(layer(pixels).relu(), 2, ceil_mode=True)
        vectors: Tensor = self.project(pixels.flatten(1)).view(batch, regions, self.embedding_dim)
        return vectors


# What is below the layers of an encoder: of ids, or of features.
SourceInput = nn.Embedding | FeatureInput
