"""The whole model: embeddings, encoder, attention, decoder and output layer; and the likelihood of a target.

Shapes: B batch, S source length, T target length, E embedding, R readout, V target vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hourglass.data.pieces import BOS, PAD
from hourglass.models.cells import Cell
from hourglass.models.copying import Copyable, Readouts, copy_readouts, coverage_losses, mix_copies
from hourglass.models.decoder import Decoder
from hourglass.models.encoder import Encoder, Memory
from hourglass.models.loss import doubly_stochastic_penalty, token_losses, without_prefixes

# Rows of logits that exist at once: [LOGIT_ROWS, V].
LOGIT_ROWS = 8192


class TokenLoss(NamedTuple):
    """Sums over the target tokens of a batch, with end-of-sentence, without padding and forced prefixes."""

    # [], nats, cross-entropy against the smoothed target, and the penalties of attention.coverage_loss and of
    # decoder.doubly_stochastic: what training minimises
    smoothed: Tensor
    nll: Tensor  # [], nats, negative log-likelihood: what is reported


class Seq2Seq(nn.Module):
    """A sequence-to-sequence model: p(y_t | y_<t, x) = softmax(W readout_t + b).

    With decoder.tie=output or all, W is the target embedding (Press and Wolf 2017); then R is E. With decoder.copy,
    pieces of the source are copied, too (models/copying.py).

    Args:
        encoder: with the source embedding.
        decoder: with the attention; its settings have the dropout of the target embeddings, and the tie.
        embedding: the target embedding, [V, E].
    """

    def __init__(self, encoder: Encoder, decoder: Decoder, embedding: nn.Embedding):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.embedding = embedding
        self.dropout = nn.Dropout(decoder.settings.dropout)
        self.output = nn.Linear(decoder.readout_size, embedding.num_embeddings)
        if decoder.settings.tie != "none":
            self.output.weight = embedding.weight

    @property
    def parameter_count(self) -> int:
        """How many parameters the model has; tied ones count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def longest_source(self) -> int | None:
        """The number of source positions that encoder and attention have parameters for, None without a limit."""
        limits = [self.encoder.longest_source, self.decoder.attention.longest_source]
        return min((limit for limit in limits if limit is not None), default=None)

    def check_length(self, longest: int, where: str) -> None:
        """Check that a source of `longest` tokens can be read; see `Encoder.check_length`.

        Raises:
            UserError: the sentence is too long for the encoder or the attention.
        """
        self.encoder.check_length(longest, where)
        self.decoder.attention.check_length(longest, where)

    @property
    def copies(self) -> bool:
        """Whether pieces may be copied from the source."""
        return self.decoder.settings.copy

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """Encode a source, ids [B, S] or features [B, S, F], of `lengths` [B]; see `Encoder.forward`."""
        memory: Memory = self.encoder(source, lengths)
        return memory._replace(copyable=Copyable.of(source)) if self.copies else memory

    def with_copies(self, readouts: Tensor, weights: Tensor | None, copyable: Copyable | None) -> Readouts:
        """Return what `scores` reads.

        Args:
            readouts: of the decoder, [B, T, R] or [N, R]; with decoder.copy one wider.
            weights: of the attention, [B, T, S] or [N, S].
            copyable: of the B sentences.
        """
        if not self.copies:
            return readouts
        assert weights is not None
        assert copyable is not None
        if not self.decoder.attention.sums_to_one:
            weights = weights / weights.sum(-1, keepdim=True)
        return copy_readouts(readouts, weights, copyable)

    def scores(self, readouts: Readouts) -> Tensor:
        """Return scores [..., V] of the next piece, whose softmax is its distribution."""
        if isinstance(readouts, Tensor):
            return self.output(readouts)
        return mix_copies(self.output(readouts.vectors), readouts)

    def readouts(self, target: Tensor, memory: Memory, step_loop: bool = False) -> Readouts:
        """Return the readouts [B, T, R] of a known target.

        Args:
            target: ids [B, T], beginning-of-sentence first.
            memory: of the B sentences.
            step_loop: see `Decoder.forward`.
        """
        return self._read(target, memory, step_loop)[0]

    def _read(self, target: Tensor, memory: Memory, step_loop: bool) -> tuple[Readouts, Tensor | None]:
        """Return the readouts of a known target, and the weights [B, T, S] where something reads them."""
        with_weights = self._reads_weights
        readouts, weights = self.decoder(self.dropout(self.embedding(target)), memory, step_loop, with_weights)
        return self.with_copies(readouts, weights, memory.copyable), weights

    @property
    def _reads_weights(self) -> bool:
        """Whether the loss reads the weights of the attention."""
        penalised = self.decoder.attention.coverage_loss > 0 or self.decoder.settings.doubly_stochastic > 0
        return self.copies or penalised

    def forward(self, source: Tensor, lengths: Tensor, target: Tensor, step_loop: bool = False) -> Tensor:
        """Return the scores [B, T, V] of every next token; for the arguments see `encode` and `readouts`."""
        return self.scores(self.readouts(target, self.encode(source, lengths), step_loop))

    def sampled_readouts(
        self, target: Tensor, memory: Memory, sampling: float, prefix_lengths: Tensor | None = None
    ) -> Readouts:
        """Return the readouts [B, T, R] of a target in which the model replaces some tokens by its own.

        Each token but the first, and those of a prefix, is replaced with probability `sampling`, by a draw from the
        model's prediction (scheduled sampling: Bengio et al. 2015, section 2.4). No gradient passes through the draw.

        Args:
            target: ids [B, T], beginning-of-sentence first.
            memory: of the B sentences.
            sampling: from 0 to 1.
            prefix_lengths: see `loss`.
        """
        return self._sample(target, memory, sampling, prefix_lengths)[0]

    def _sample(
        self, target: Tensor, memory: Memory, sampling: float, prefix_lengths: Tensor | None
    ) -> tuple[Readouts, Tensor | None]:
        """Return `sampled_readouts`, and the weights [B, T, S] where something reads them."""
        prepared, state = self.decoder.attention.prepare(memory), self.decoder.start(memory)
        readouts, all_weights, tokens = [], [], target[:, 0]
        for t in range(target.shape[1]):
            readout, state, weights = self.decoder.step(self.dropout(self.embedding(tokens)), state, prepared, t)
            readouts.append(readout)
            if weights is not None and self._reads_weights:
                all_weights.append(weights)
            if t + 1 < target.shape[1]:
                with torch.no_grad():
                    logits = self.scores(self.with_copies(readout, weights, memory.copyable)).float()
                    logits[:, [PAD, BOS]] = float("-inf")  # Never part of a target.
                    drawn = torch.multinomial(logits.softmax(-1), 1).squeeze(1)
                    own = torch.rand(len(target), device=target.device) < sampling
                    if prefix_lengths is not None:
                        own &= t >= prefix_lengths
                    tokens = torch.where(own, drawn, target[:, t + 1])
        stacked = torch.stack(all_weights, 1) if all_weights else None
        return self.with_copies(torch.stack(readouts, 1), stacked, memory.copyable), stacked

    def loss(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        smoothing: float = 0.0,
        *,
        sampling: float = 0.0,
        step_loop: bool = False,
        prefix_lengths: Tensor | None = None,
    ) -> TokenLoss:
        """Compute the loss of a batch.

        Args:
            source: ids [B, S], padded on the right, each row ending in end-of-sentence; or features [B, S, F].
            lengths: [B], of the source.
            target: ids [B, T+1], from beginning-of-sentence to end-of-sentence, padded on the right.
            smoothing: the probability that label smoothing spreads evenly over all V tokens (Szegedy et al. 2016,
                section 7).
            sampling: see `sampled_readouts`; the tokens to predict stay those of `target`.
            step_loop: see `Decoder.forward`.
            prefix_lengths: [B] tokens after beginning-of-sentence that are given: the decoder reads them, and the sums
                do not count them. None: 0 of each.
        """
        memory = self.encode(source, lengths)
        inputs, labels = target[:, :-1], target[:, 1:]
        if sampling:
            readouts, weights = self._sample(inputs, memory, sampling, prefix_lengths)
        else:
            readouts, weights = self._read(inputs, memory, step_loop)
        if prefix_lengths is not None:
            labels = without_prefixes(labels, prefix_lengths)
        of_tokens = self._token_loss(readouts, labels, smoothing)
        penalty = self._penalty(weights, memory.mask, labels)
        return of_tokens if penalty is None else of_tokens._replace(smoothed=of_tokens.smoothed + penalty)

    def _penalty(self, weights: Tensor | None, mask: Tensor, labels: Tensor) -> Tensor | None:
        """Return what the loss adds for attention weights [B, T, S], summed over a batch []; None: nothing.

        Args:
            weights: None, if nothing reads them.
            mask: [B, S], True at real source positions.
            labels: [B, T].
        """
        coverage, doubly_stochastic = self.decoder.attention.coverage_loss, self.decoder.settings.doubly_stochastic
        if not (coverage or doubly_stochastic):
            return None
        assert weights is not None
        real = labels != PAD
        penalty = weights.new_zeros(())
        if coverage:
            penalty = penalty + coverage * (coverage_losses(weights) * real).sum()
        if doubly_stochastic:
            penalty = penalty + doubly_stochastic * doubly_stochastic_penalty(weights, mask, real)
        return penalty

    def _token_loss(self, readouts: Readouts, labels: Tensor, smoothing: float) -> TokenLoss:
        """Return the loss of labels [B, T] after readouts [B, T, R]."""
        # Read here: a backward pass computes parts of the logits again, when other weights may be in their place.
        weight, bias = self.output.weight, self.output.bias
        if _leaves_padding_out(labels):
            real = labels != PAD
            rows, labels = readouts[real], labels[real]
        else:
            rows, labels = readouts.flatten(0, 1), labels.flatten()

        def losses(part: Readouts, label: Tensor) -> tuple[Tensor, Tensor]:
            scores = F.linear(part if isinstance(part, Tensor) else part.vectors, weight, bias)
            return token_losses(scores if isinstance(part, Tensor) else mix_copies(scores, part), label, smoothing)

        if len(rows) <= LOGIT_ROWS:
            smoothed, nll = losses(rows, labels)
        else:
            sums = [
                checkpoint(losses, part, label, use_reentrant=False, preserve_rng_state=False)
                for part, label in zip(rows.split(LOGIT_ROWS), labels.split(LOGIT_ROWS), strict=True)
            ]
            smoothed, nll = (torch.stack(column).sum() for column in zip(*sums, strict=True))
        return TokenLoss(smoothed, nll)


def _leaves_padding_out(labels: Tensor) -> bool:
    """Return whether no logits are computed for padding: on a GPU, counting the real tokens would wait for all work."""
    return labels.device.type == "cpu"


@torch.no_grad()
def draw_evenly(model: Seq2Seq, width: float) -> None:
    """Draw all weights evenly from -width to width (Sutskever et al. 2014, section 3.4; Luong et al. 2015, 4.1).

    Forget gates get their 1 again and the embedding of padding is zero. Layer norms and the learned factor `scale` of
    an attention keep their values.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not isinstance(module, nn.LayerNorm) and name != "scale":
                parameter.uniform_(-width, width)
    for module in model.modules():
        if isinstance(module, Cell):
            module.open_forget_gates()
        if isinstance(module, nn.Embedding):
            module.weight[PAD].zero_()
