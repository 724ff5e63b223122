"""What a training step is held against on a GPU: its library calls alone, and the loop that toolkits take.

Shapes: B batch, S source length, T target length, E embedding, F feed, H decoder state, C context, M memory, V
vocabulary.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.errors import UserError
from hourglass.models.attention import BahdanauAttention, GeneralAttention
from hourglass.models.seq2seq import Seq2Seq, TokenLoss


class _Like(nn.Module):
    """Layers of the sizes of `model`'s: one bidirectional LSTM layer, one LSTM layer, general, additive or no scores.

    Raises:
        UserError: the model is of another kind.
    """

    def __init__(self, model: Seq2Seq):
        super().__init__()
        decoder, attention, embedding = model.decoder, model.decoder.attention, model.embedding.embedding_dim
        scored = type(attention) in (GeneralAttention, BahdanauAttention)
        one = len(decoder.layers) == 1 and getattr(decoder.layers[0], "cell", "") == "lstm"
        if not one or (attention.reads_query and not scored) or decoder.carried_size:
            raise UserError(f"attention={attention.name}: no bare calls are written for such a model")
        self.asks_first = decoder.query == "previous"
        self.additive = isinstance(attention, BahdanauAttention)
        self.scored = attention.reads_query
        self.context, self.feed, self.state = attention.context_size, decoder.feed_size, decoder.hidden_size
        memory = attention.memory_size
        self.source = nn.Embedding(model.embedding.num_embeddings, embedding)
        self.target = nn.Embedding(model.embedding.num_embeddings, embedding)
        self.encoder = nn.LSTM(embedding, memory // 2, bidirectional=True, batch_first=True)
        entered = self.feed + (self.context if self.asks_first else 0)
        self.decoder = nn.LSTM(embedding + entered, self.state, batch_first=True)
        keys = attention.energy.numel() if isinstance(attention, BahdanauAttention) else self.state
        self.keys = nn.Linear(memory, keys, bias=False)
        self.query = nn.Linear(self.state, keys, bias=False) if self.additive else nn.Identity()
        self.energy = nn.Parameter(torch.randn(keys) / keys**0.5)
        self.readout = nn.Linear(self.state + self.context, decoder.readout_size)
        self.output = nn.Linear(decoder.readout_size, model.embedding.num_embeddings)


class BareCalls(_Like):
    """One call of each layer over all positions, and the products of scores and contexts: what nothing can leave out.

    No softmax, no tanh, no dropout, no loss, and each step reads nothing of the step before: it computes nothing of
    use, in the fewest calls that the same products take.
    """

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Return logits [B, T, V] of ids [B, S] and [B, T]."""
        states, _ = self.encoder(self.source(source))  # [B, S, M]
        embeddings = self.target(target)
        width = self.decoder.input_size - embeddings.shape[-1]
        entered = embeddings.new_zeros(*embeddings.shape[:2], width)
        hidden, _ = self.decoder(torch.cat([embeddings, entered], -1))  # [B, T, H]
        context = hidden.new_zeros(*hidden.shape[:2], self.context)
        if self.scored:
            scores = self.query(hidden) @ self.keys(states).transpose(1, 2)  # [B, T, S]; additive: as many products
            context = scores @ states
        logits: Tensor = self.output(self.readout(torch.cat([hidden, context], -1)))
        return logits


class PlainLoop(_Like):
    """A loop over steps as toolkits write it: a one-step call of the layer, and the keys projected again each time."""

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
            if self.asks_first:
                context = self._ask(state[0][0], states, context)
                inputs.append(context)
            hidden, state = self.decoder(torch.cat(inputs, -1).unsqueeze(1), state)
            if not self.asks_first:
                context = self._ask(hidden.squeeze(1), states, context)
            readout = self.readout(torch.cat([hidden.squeeze(1), context], -1)).tanh()
            feed = readout if self.feed else feed
            readouts.append(readout)
        logits: Tensor = self.output(torch.stack(readouts, 1))
        return logits

    def loss(self, source: Tensor, lengths: Tensor, target: Tensor) -> TokenLoss:
        """Return the loss of target [B, T+1], as `Seq2Seq.loss` does; nothing may be padded, `lengths` are not read."""
        nll = F.cross_entropy(self(source, target[:, :-1]).flatten(0, 1), target[:, 1:].flatten(), reduction="sum")
        return TokenLoss(nll, nll)

    def _ask(self, query: Tensor, states: Tensor, context: Tensor) -> Tensor:
        """The context [B, C] of queries [B, H]; without scores the one there is."""
        if not self.scored:
            return context
        query, keys = self.query(query).unsqueeze(1), self.keys(states)
        scores = (query + keys).tanh() @ self.energy if self.additive else (keys @ query.transpose(1, 2)).squeeze(2)
        return (scores.softmax(-1).unsqueeze(1) @ states).squeeze(1)
