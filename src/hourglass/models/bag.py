"""The encoder that does not see the order of the words: embeddings alone, the floor of all encoders."""

from dataclasses import dataclass

from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.inputs import SourceInput
from hourglass.models.summary import PooledEncoder, PooledEncoderSettings


@dataclass(frozen=True, kw_only=True)
class BagEncoderSettings(PooledEncoderSettings):
    """conf/encoder/bag.yaml.

    `dropout` is on embeddings.

    Raises:
        UserError: the summary would be the same for every source.
    """

    def __post_init__(self) -> None:
        if self.summary == "last":
            raise UserError(
                "encoder.summary=last with encoder=bag is the embedding of end-of-sentence, the same for every source: "
                "set encoder.summary=mean or encoder.summary=attention"
            )


class BagEncoder(PooledEncoder):
    """Reads each piece by itself: a state is the projected embedding of its piece, wherever the piece stands.

        state_s = W embedding_s + b

    The projection gives the states the width M that other encoders have, so that attention and decoder keep their
    sizes. It is linear, and so no more than another table of embeddings.

    Args:
        settings: see `BagEncoderSettings`.
        embedding: of ids, [V, E], or of features.
        final_states: see `PooledEncoder`.
    """

    name = "bag"
    settings_class = BagEncoderSettings

    def __init__(self, settings: BagEncoderSettings, embedding: SourceInput, *, final_states: bool):
        super().__init__(settings, embedding, final_states=final_states)
        self.project = nn.Linear(settings.embedding_size, settings.hidden_size)

    def read(self, source: Tensor, mask: Tensor) -> Tensor:
        """See `PooledEncoder.read`."""
        states: Tensor = self.project(self.dropout(self.embedding(source)))
        return states
