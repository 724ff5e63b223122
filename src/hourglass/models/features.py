"""The encoder of features that reads each region, or frame, by itself.

Every other encoder reads features as well, where the corpus has them: see models/inputs.py.

Shapes: B batch, S regions or frames, E embedding, M memory.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.inputs import FeatureInput, SourceInput
from hourglass.models.summary import PooledEncoder, PooledEncoderSettings


@dataclass(frozen=True, kw_only=True)
class FeatureEncoderSettings(PooledEncoderSettings):
    """conf/encoder/features.yaml.

    `dropout` is on the projected features.

    Attributes:
        positions: learned: to each region a vector of its place is added; none: regions have no order but what their
            features tell (Xu et al. 2015).
        longest_source: regions that have such a vector.
    """

    embedding_file: None = None  # Features have no embedding.
    positions: Literal["learned", "none"]
    longest_source: PositiveInt


class FeatureEncoder(PooledEncoder):
    """Reads each region by itself: a state hangs on the features of its region, and on its place.

        state_s = W relu(sqrt(E) (e_s + position_s)) + b

    The rectifier lets a state tell which features are where, also in a mean over states. No other region is read: what
    brings regions together is attention, or encoder=rnn, transformer or convolution, which read features as well.

    Args:
        settings: see `FeatureEncoderSettings`.
        embedding: of features.
        final_states: see `PooledEncoder`.

    Raises:
        UserError: the source is a text.
    """

    name = "features"
    settings_class = FeatureEncoderSettings

    def __init__(self, settings: FeatureEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__(settings, embedding, final_states=final_states)
        if not isinstance(embedding, FeatureInput):
            raise UserError(
                "encoder=features reads features and the corpus has texts: set encoder=rnn, or a corpus of features, "
                "data=shapes, data=features or data=pictures"
            )
        width = settings.embedding_size
        self.scale = width**0.5
        self.longest_source = settings.longest_source if settings.positions == "learned" else None
        # As long as the vectors of regions. No nn.Embedding: position 0 is not padding.
        self.positions = (
            nn.Parameter(torch.empty(settings.longest_source, width).normal_(0, width**-0.5))
            if settings.positions == "learned"
            else None
        )
        self.project = nn.Linear(width, settings.hidden_size)

    def check_length(self, longest: int, where: str) -> None:
        """See `Encoder.check_length`."""
        if self.longest_source is not None and longest > self.longest_source:
            raise UserError(
                f"encoder=features has positions of {self.longest_source} regions and a source of {where} has "
                f"{longest}: set encoder.longest_source={longest} or more and train again, or encoder.positions=none"
            )

    def read(self, source: Tensor, mask: Tensor) -> Tensor:
        """See `PooledEncoder.read`."""
        vectors = self.embedding(source)  # [B, S, E]
        if self.positions is not None:
            self.check_length(source.shape[1], "the input")
            vectors = vectors + self.positions[: source.shape[1]]
        states: Tensor = self.project(self.dropout((self.scale * vectors).relu()))
        return states
