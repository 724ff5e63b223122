"""The whole model: embeddings, encoder, attention, decoder and the output layer, and its likelihood.

Shapes: B batch, S source length, T target length, E embedding, R readout, V target vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hourglass.data.pieces import BOS, PAD
from hourglass.models.decoder import Decoder
from hourglass.models.encoder import Encoder, Memory
from hourglass.models.recurrent import RecurrentLayer

# Rows of logits that exist at once: [LOGIT_ROWS, V].
LOGIT_ROWS = 8192


class TokenLoss(NamedTuple):
    """Sums over the target tokens of a batch, end-of-sentence included, padding left out."""

    smoothed: Tensor  # [], cross-entropy against the smoothed target, nats: what training minimises
    nll: Tensor  # [], negative log-likelihood, nats: what is reported


class Seq2Seq(nn.Module):
    """A sequence-to-sequence model put together from its parts.

    Args:
        encoder: holds the source embedding.
        decoder: holds the attention.
        embedding: the target embedding [V, E].
        dropout: on the target embeddings.
        tie_output: the output layer's weights are the target embedding (Press and Wolf 2017); then R must be E.
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, embedding: nn.Embedding, dropout: float, tie_output: bool):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embedding = embedding
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(decoder.readout_size, embedding.num_embeddings)
        if tie_output:
            self.output.weight = embedding.weight

    @property
    def parameter_count(self) -> int:
        """The number of trainable numbers; tied parameters count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode source ids [B, S] of lengths [B]."""
        return self.encoder(source, lengths)

    def readouts(self, target: Tensor, memory: Memory, step_loop: bool = False) -> Tensor:
        """Return the readouts [B, T, R] for the target prefix ids [B, T], beginning-of-sentence first."""
        return self.decoder(self.dropout(self.embedding(target)), memory, step_loop, with_weights=False)[0]

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor, step_loop: bool = False) -> Tensor:
        """Return the logits [B, T, V] of every next token; arguments as in `encode` and `readouts`."""
        return self.output(self.readouts(target, self.encode(source, lengths), step_loop))

    def sampled_readouts(self, target: Tensor, memory: Memory, sampling: float) -> Tensor:
        """Return the readouts [B, T, R] for the target prefix ids [B, T], with some of them replaced on the way.

        Each token but the first is, with probability `sampling`, one drawn from what the model itself predicts there
        (scheduled sampling: Bengio et al. 2015, section 2.4). No gradient passes through the draw.
        """
        prepared, state = self.decoder.attention.prepare(memory), self.decoder.start(memory)
        readouts, tokens = [], target[:, 0]
        for t in range(target.shape[1]):
            readout, state, _ = self.decoder.step(self.dropout(self.embedding(tokens)), state, prepared, t)
            readouts.append(readout)
            if t + 1 < target.shape[1]:
                with torch.no_grad():
                    logits = self.output(readout).float()
                    logits[:, [PAD, BOS]] = float("-inf")  # Never said.
                    drawn = torch.multinomial(logits.softmax(-1), 1).squeeze(1)
                    own = torch.rand(len(target), device=target.device) < sampling
                    tokens = torch.where(own, drawn, target[:, t + 1])
        return torch.stack(readouts, 1)

    def loss(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        smoothing: float = 0.0,
        *,
        sampling: float = 0.0,
        step_loop: bool = False,
    ) -> TokenLoss:
        """Return the loss of target [B, T+1], from beginning-of-sentence to end-of-sentence, padded on the right.

        Label smoothing spreads `smoothing` evenly over all V tokens (Szegedy et al. 2016, section 7). `sampling`: see
        `sampled_readouts`; what is to be predicted stays the reference. `step_loop`: see `Decoder.forward`.
        """
        memory = self.encode(source, lengths)
        prefix = target[:, :-1]
        if sampling:
            readouts = self.sampled_readouts(prefix, memory, sampling)
        else:
            readouts = self.readouts(prefix, memory, step_loop)
        wanted = target[:, 1:]
        if readouts.device.type == "cpu":
            real = wanted != PAD
            rows, labels = readouts[real], wanted[real]  # No logits for padding.
        else:  # To count what is no padding would wait for all that a GPU still has to do.
            rows, labels = readouts.flatten(0, 1), wanted.flatten()

        def block(part: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            logits = self.output(part)
            log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
            nll = F.nll_loss(log_probabilities, label, ignore_index=PAD, reduction="sum")
            uniform = -(log_probabilities.mean(-1) * (label != PAD)).sum() if smoothing else nll
            return (1 - smoothing) * nll + smoothing * uniform, nll

        if len(rows) <= LOGIT_ROWS:
            return TokenLoss(*block(rows, labels))
        sums = [
            checkpoint(block, part, label, use_reentrant=False, preserve_rng_state=False)
            for part, label in zip(rows.split(LOGIT_ROWS), labels.split(LOGIT_ROWS), strict=True)
        ]
        smoothed, nll = (torch.stack(column).sum() for column in zip(*sums, strict=True))
        return TokenLoss(smoothed, nll)


@torch.no_grad()
def draw_evenly(model: Seq2Seq, width: float) -> None:
    """Draw all weights evenly from -width to width (Sutskever et al. 2014, section 3.4; Luong et al. 2015, 4.1).

    Forget gates are opened again, the embedding of padding is zero; norms and an attention's one factor stay as they
    are.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(module, nn.LayerNorm) and name != "scale":
                parameter.uniform_(-width, width)
    for module in model.modules():
        if isinstance(module, RecurrentLayer) and module.cell == "lstm":
            module.open_forget_gates()
        if isinstance(module, nn.Embedding):
            module.weight[PAD].zero_()
