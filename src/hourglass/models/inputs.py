"""What is below the layers of an encoder: an embedding of ids, or a projection of features. Every encoder reads either.

Shapes: B batch, S regions or frames, F numbers of each, E embedding.
"""

from torch import Tensor, nn


class FeatureProjection(nn.Module):
    """Features of regions as vectors of length about 1, as embeddings are (build.py), whatever the features' scale.

        e_s = LN(W f_s + b) / sqrt(E)

    Args:
        feature_size: F.
        width: E.
    """

    def __init__(self, feature_size: int, width: int):
        super().__init__()
        self.embedding_dim = width  # As nn.Embedding calls it.
        self.project = nn.Linear(feature_size, width)
        self.norm = nn.LayerNorm(width)
        nn.init.constant_(self.norm.weight, width**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, S, E] of features [B, S, F]."""
        vectors: Tensor = self.norm(self.project(features.to(self.project.weight.dtype)))
        return vectors


# What is below the layers of an encoder: of ids, or of features.
SourceInput = nn.Embedding | FeatureProjection
