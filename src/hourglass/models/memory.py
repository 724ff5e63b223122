"""What an encoder is given and what it returns: the base of all encoders, and the memory.

Shapes: B batch, S source length, F numbers of a region, E embedding, M memory, D summary.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.models.copying import Copyable
from hourglass.models.inputs import PatchReading

Dropout = Annotated[float, Field(ge=0, lt=1)]


class Memory(NamedTuple):
    """What an encoder returns: `summary` is the neck, `states` are what attention reads past it."""

    states: Tensor  # [B, S, M]; position s belongs to source token s, also where the source is read in reverse
    mask: Tensor  # [B, S] bool, True at real tokens
    lengths: Tensor  # [B]
    summary: Tensor  # [B, D], the fixed vector
    copyable: Copyable | None = None  # added by the model, with decoder.copy

    def select(self, index: Tensor) -> "Memory":
        """Return the sentences `index` [B'], in this order."""
        states, mask, lengths, summary = (part.index_select(0, index) for part in self[:4])
        copyable = None if self.copyable is None else self.copyable.select(index)
        return Memory(states, mask, lengths, summary, copyable)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """The options of the config group `encoder` that every encoder has.

    Attributes:
        embedding_size: E, width of the source embeddings.
        summary_size: D, width of the fixed vector; 0 where nothing reads it.
        patches: what makes vectors of the patches of a picture, where sources are such: see models/inputs.py.
    """

    embedding_size: PositiveInt
    summary_size: NonNegativeInt
    patches: PatchReading = "projected"  # Checkpoints of earlier versions lack it.


class Encoder(nn.Module, ABC):
    """Base of all encoders. A subclass is called with its settings, the layer below it and `final_states`.

    That layer (models/inputs.py) gives vectors [B, S, E]: the source embedding, or a projection of features.

    Class attributes: `name`, as in conf/encoder; `settings_class`, the type of its settings.
    Instance attributes: `memory_size`, M (0: no states); `summary_size`, D; `summary_bits`, to how many bits a
    component of the summary is rounded (0: not); `longest_source`, the number of source positions that it has
    parameters for, None without such a limit; `final_shapes`, the shapes of the parts of each layer's final state, for
    a decoder that starts in them (empty: the encoder has no such states).
    """

    name: str
    settings_class: type[EncoderSettings] = EncoderSettings
    memory_size: int
    summary_size: int
    summary_bits: int = 0
    longest_source: int | None = None
    final_shapes: tuple[tuple[tuple[int, ...], ...], ...] = ()

    def check_length(self, longest: int, where: str) -> None:
        """Check that a source of `longest` tokens can be encoded.

        Args:
            longest: tokens, with end-of-sentence.
            where: the origin of the sentence, for messages: train, dev, ...

        Raises:
            UserError: the sentence is too long.
        """

    @abstractmethod
    def forward(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode a batch.

        Args:
            source: ids [B, S], padded on the right, each row ending in end-of-sentence; or features [B, S, F].
            lengths: [B], with end-of-sentence; or the regions of each.
        """


def mask_of(lengths: Tensor, longest: int) -> Tensor:
    """Return [B, longest] bool, True at the first lengths[b] positions of row b."""
    return torch.arange(longest, device=lengths.device) < lengths.unsqueeze(1)
