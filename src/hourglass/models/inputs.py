"""What is below the layers of an encoder: an embedding of ids, or a projection of features. Every encoder reads either.

Shapes: B batch, S regions or frames, F numbers of each, E embedding.
"""

import torch
from torch import Tensor, nn


class FeatureProjection(nn.Module):
    """Features of regions as vectors of length about 1, as embeddings are (build.py), whatever the features' scale.

        e_s = U (f_s - mean) / spread + u

    Mean and spread are of each of the F numbers over regions of train. Without that, what all regions have in common
    (the grey of a background, activations above 0) hides in what they differ, and training shuts the layer before it
    has learnt to read it (tried, with a layer norm after the map).

    Args:
        feature_size: F.
        width: E.
    """

    mean: Tensor  # [F]
    spread: Tensor  # [F]

    def __init__(self, feature_size: int, width: int):
        super().__init__()
        self.embedding_dim = width  # As nn.Embedding calls it.
        self.project = nn.Linear(feature_size, width)
        nn.init.normal_(self.project.weight, 0, (feature_size * width) ** -0.5)
        nn.init.zeros_(self.project.bias)
        self.register_buffer("mean", torch.zeros(feature_size))
        self.register_buffer("spread", torch.ones(feature_size))

    def standardise(self, regions: Tensor) -> None:
        """Take mean and spread from regions [R, F] of train; a number that does not vary stays as it is."""
        spread = regions.std(0, correction=0)
        self.mean.copy_(regions.mean(0))
        self.spread.copy_(torch.where(spread > 0, spread, torch.ones_like(spread)))

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, S, E] of features [B, S, F]."""
        features = features.to(self.project.weight.dtype)
        vectors: Tensor = self.project((features - self.mean) / self.spread)
        return vectors


# What is below the layers of an encoder: of ids, or of features.
SourceInput = nn.Embedding | FeatureProjection
