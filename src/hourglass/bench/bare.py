"""What a training step on a device is compared with: its library calls alone, and the loop that toolkits write.

Shapes: B batch, S source length, T target length, E embedding, F feed, H decoder state, C context, M memory, V
vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.errors import UserError
from hourglass.models.attention import BahdanauAttention, GeneralAttention
from hourglass.models.cells import LSTM
from hourglass.models.encoder import RecurrentEncoder
from hourglass.models.seq2seq import Seq2Seq, TokenLoss


class _Layers(nn.Module):
    """Library layers of the sizes of a model's.

    One bidirectional LSTM layer encodes, one LSTM layer decodes; scores are general, additive, or missing.

    Raises:
        UserError: the model has other layers or another attention.
    """

    def __init__(self, model: Seq2Seq):
        super().__init__()
        decoder, attention, embedding = model.decoder, model.decoder.attention, model.embedding.embedding_dim
        scored = type(attention) in (GeneralAttention, BahdanauAttention)
        single_lstm = len(decoder.layers) == 1 and decoder.settings.cell == LSTM.name
        if not isinstance(model.encoder, RecurrentEncoder):
            raise UserError(f"encoder={model.encoder.name}: bare calls are not implemented for this encoder")
        further = decoder.carried_size > 0 or attention.reads_coverage or model.copies
        if not single_lstm or (attention.reads_query and not scored) or further:
            raise UserError(f"attention={attention.name}: bare calls are not implemented for this model")
        self.previous_query = decoder.query == "previous"
        self.additive = isinstance(attention, BahdanauAttention)
        self.scored = attention.reads_query
        self.context, self.feed, self.state = attention.context_size, decoder.feed_size, decoder.hidden_size
        memory = attention.sizes.memory
        self.source = nn.Embedding(model.embedding.num_embeddings, embedding)
        self.target = nn.Embedding(model.embedding.num_embeddings, embedding)
        self.encoder = nn.LSTM(embedding, memory // 2, bidirectional=True, batch_first=True)
        further_inputs = self.feed + (self.context if self.previous_query else 0)
        self.decoder = nn.LSTM(embedding + further_inputs, self.state, batch_first=True)
        keys = attention.energy.numel() if isinstance(attention, BahdanauAttention) else self.state
        self.keys = nn.Linear(memory, keys, bias=False)
        self.query = nn.Linear(self.state, keys, bias=False) if self.additive else nn.Identity()
        self.energy = nn.Parameter(torch.randn(keys) / keys**0.5)
        self.readout = nn.Linear(self.state + self.context, decoder.readout_size)
        self.output = nn.Linear(decoder.readout_size, model.embedding.num_embeddings)


class BareCalls(_Layers):
    """One call of each layer for all positions, and the products of scores and contexts: the necessary work.

    There is no softmax, tanh, dropout or loss, and no step reads the step before. The result has no use; it takes the
    fewest calls in which the same products can be computed.
    """

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return logits [B, T, V] of ids [B, S] and [B, T]."""
        states, _ = self.encoder(self.source(source))  # [B, S, M]
        embeddings = self.target(target)
        width = self.decoder.input_size - embeddings.shape[-1]
        further_inputs = embeddings.new_zeros(*embeddings.shape[:2], width)
        hidden, _ = self.decoder(torch.cat([embeddings, further_inputs], -1))  # [B, T, H]
        context = hidden.new_zeros(*hidden.shape[:2], self.context)
        if self.scored:
            # [B, T, S]. Additive scores take as many products, so they are computed as general ones are.
            scores = self.query(hidden) @ self.keys(states).transpose(1, 2)
            context = scores @ states
        logits: Tensor = self.output(self.readout(torch.cat([hidden, context], -1)))
        return logits


class PlainLoop(_Layers):
    """A loop over target positions as toolkits write it: one-step calls of the layer, keys projected in every step."""

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return logits [B, T, V] of ids [B, S] and [B, T]."""
        states, _ = self.encoder(self.source(source))
        rows = len(source)
        state: tuple[Tensor, Tensor] = (states.new_zeros(1, rows, self.state), states.new_zeros(1, rows, self.state))
        feed = states.new_zeros(rows, self.feed)
        context = states.new_zeros(rows, self.context)
        readouts = []
        for embedding in self.target(target).unbind(1):
            inputs = [embedding, feed]
            if self.previous_query:
                context = self._attend(state[0][0], states, context)
                inputs.append(context)
            hidden, state = self.decoder(torch.cat(inputs, -1).unsqueeze(1), state)
            if not self.previous_query:
                context = self._attend(hidden.squeeze(1), states, context)
            readout = self.readout(torch.cat([hidden.squeeze(1), context], -1)).tanh()
            feed = readout if self.feed else feed
            readouts.append(readout)
        logits: Tensor = self.output(torch.stack(readouts, 1))
        return logits

    def loss(self, source: Tensor, lengths: Tensor, target: Tensor) -> TokenLoss:
        """Return the loss of target [B, T+1], as `Seq2Seq.loss` does. Padding is not masked; `lengths` are not read."""
        nll = F.cross_entropy(self(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten(), reduction="sum")
        return TokenLoss(nll, nll)

    def _attend(self, query: Tensor, states: Tensor, context: Tensor) -> Tensor:
        """Return the context [B, C] of queries [B, H]; without scores, the context that there is."""
        if not self.scored:
            return context
        query, keys = self.query(query).unsqueeze(1), self.keys(states)
        scores = (query + keys).tanh() @ self.energy if self.additive else (keys @ query.transpose(1, 2)).squeeze(2)
        return (scores.softmax(-1).unsqueeze(1) @ states).squeeze(1)
