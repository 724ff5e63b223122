"""The LightningDataModule of a training: batches of train, and of dev for validation."""

import numpy as np
import pytorch_lightning as pl
from torch.utils.data import DataLoader

from hourglass.corpora.sampling import evenly_spaced
from hourglass.data.batches import Part, StreamSampler, TrainingStream, in_order
from hourglass.data.encoded import Batch, EncodedSplit
from hourglass.errors import UserError


class TranslationData(pl.LightningDataModule):
    """Batches of the training stream and of the dev split, each rank with its share.

    Args:
        splits: the encoded train and dev splits.
        stream: the order in which train is read.
        batch_tokens: padded tokens of a dev batch.
        dev_sentences: number of dev sentences to read at a validation, evenly spaced; 0: all.
    """

    def __init__(
        self, splits: dict[str, EncodedSplit], stream: TrainingStream, *, batch_tokens: int, dev_sentences: int
    ):
        super().__init__()
        self.splits, self.stream, self.batch_tokens = splits, stream, batch_tokens
        self.dev_rows = np.array(evenly_spaced(len(splits["dev"]), dev_sentences))
        self.first_step = 0

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the rest of the stream: a resumed run starts with the batch after the last of the checkpoint."""
        assert self.trainer is not None
        sampler = StreamSampler(
            self.stream,
            first_step=self.first_step,
            rank=self.trainer.global_rank,
            ranks=self.trainer.world_size,
            accumulate=self.trainer.accumulate_grad_batches,
        )
        return DataLoader(self.splits["train"], batch_size=None, sampler=sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return this rank's dev batches; every sentence is read once, by one rank.

        Raises:
            UserError: there are fewer sentences than ranks.
        """
        assert self.trainer is not None
        dev, ranks = self.splits["dev"], self.trainer.world_size
        rows = self.dev_rows
        if len(rows) < ranks:
            raise UserError(f"trainer.dev_sentences: {len(rows)} for {ranks} processes: set {ranks} or more")
        order = in_order(dev.source_lengths[rows], dev.target_lengths[rows], self.batch_tokens)
        batches = [rows[batch] for batch in order]
        if len(batches) < ranks:
            # Lightning skips validation on a rank without a batch, and the other ranks would wait for it for ever.
            batches = np.array_split(np.concatenate(batches), ranks)
        share = batches[self.trainer.global_rank :: ranks]
        parts = [Part(batch, dev.loss_tokens(batch)) for batch in share]
        return DataLoader(dev, batch_size=None, sampler=parts)

    def state_dict(self) -> dict[str, int]:
        """Return the position in the stream, for the checkpoint."""
        assert self.trainer is not None
        return {"first_step": self.trainer.global_step}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Restore the position in the stream."""
        self.first_step = state_dict["first_step"]
