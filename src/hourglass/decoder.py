"""The decoder: a recurrent layer stack, attention asked before or after each step, and a readout.

Two independent switches make the published orders: `query` (Bahdanau et al. 2014 ask with the previous state and
feed the context to the recurrence; Luong et al. 2015 ask with the current one) and `input_feeding`.

Shapes: B batch, T target length, N rows of one step (K beams of each of B sentences, N = B*K, K = 1 outside search),
E embedding, H state, C context, D summary, R readout.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from hourglass.attention import Attention, Prepared
from hourglass.encoder import Dropout, Memory
from hourglass.recurrent import Cell, CellState, RecurrentLayer

# Weights [B, T, S] that exist at once, where they are not returned.
WEIGHTS_LIMIT = 2**27


class State(NamedTuple):
    """What the decoder carries from one step to the next."""

    layers: tuple[CellState, ...]  # of each layer, [N, H] tensors
    feed: Tensor  # [N, R] with input feeding: the last readout; [N, 0] without

    def select(self, index: Tensor) -> "State":
        """Take the rows `index` [N'], in that order, of everything carried."""
        return State(
            tuple(tuple(part.index_select(0, index) for part in layer) for layer in self.layers),
            self.feed.index_select(0, index),
        )


class Decoder(nn.Module):
    """Stacked recurrent layers with attention.

    The readout is tanh(W [h; c]) (Luong et al. 2015, equation 5), for all variants.

    Args:
        attention: any variant; asked with the top layer's state.
        embedding_size: E.
        summary_size: D of the encoder.
        cell: lstm or gru.
        layers: how many are stacked.
        hidden_size: H.
        readout_size: R, what the output layer reads.
        dropout: between layers and on the readout.
        query: "previous": attention is asked with the state before the step, and its context enters the step;
            "current": with the state after it.
        input_feeding: the last readout enters the step (Luong et al. 2015, section 3.3).
        start: "dense": the first state is a learned map of the summary; "zero": it is zero, so that with attention
            nothing of the source comes by way of the summary.
    """

    def __init__(
        self,
        *,
        attention: Attention,
        embedding_size: int,
        summary_size: int,
        cell: Cell,
        layers: PositiveInt,
        hidden_size: PositiveInt,
        readout_size: PositiveInt,
        dropout: Dropout,
        query: Literal["previous", "current"],
        input_feeding: bool,
        start: Literal["dense", "zero"],
    ):
        super().__init__()
        self.attention = attention
        self.query = query
        self.hidden_size = hidden_size
        self.feed_size = readout_size if input_feeding else 0
        self.dropout = nn.Dropout(dropout)
        first = embedding_size + self.feed_size + (attention.context_size if query == "previous" else 0)
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, width, hidden_size) for width in [first] + [hidden_size] * (layers - 1)
        )
        parts = self._layer(0).parts
        self.bridge = nn.Linear(summary_size, layers * parts * hidden_size) if start == "dense" else None
        self.readout = nn.Linear(hidden_size + attention.context_size, readout_size)

    @property
    def one_pass(self) -> bool:
        """Whether a known target can be read in one pass: no step's input hangs on the step before it."""
        return self.feed_size == 0 and (self.query == "current" or not self.attention.reads_query)

    def start(self, memory: Memory) -> State:
        """Return the state before the first step, N = B."""
        rows, like = len(memory.summary), memory.summary
        if self.bridge is None:
            layers = tuple(self._layer(i).zero_state(rows, like) for i in range(len(self.layers)))
        else:
            # tanh keeps h in a cell's range (Bahdanau et al. 2014, appendix A.2.2); an LSTM's c has no range.
            parts = self.bridge(memory.summary).view(rows, len(self.layers), -1, self.hidden_size).unbind(2)
            hidden = [parts[0].tanh(), *parts[1:]]
            layers = tuple(tuple(part[:, i] for part in hidden) for i in range(len(self.layers)))
        return State(layers, like.new_zeros(rows, self.feed_size))

    def step(self, embedding: Tensor, state: State, prepared: Prepared, t: int) -> tuple[Tensor, State, Tensor | None]:
        """Advance all rows by one target position.

        Args:
            embedding: [N, E] of the tokens before position t.
            state: of N rows; rows of one sentence are neighbours.
            prepared: of the B sentences, N a multiple of B.
            t: the target position, from 0.

        Returns:
            the readout [N, R], the next state, and the weights [N, S] or None.
        """
        inputs = [embedding, state.feed]
        if self.query == "previous":
            context, weights = self._attend(state.layers[-1][0], prepared, t)
            inputs.append(context)
        below = torch.cat(inputs, -1)
        layers = []
        for depth, before in enumerate(state.layers):
            layers.append(self._layer(depth).step(self.dropout(below) if depth else below, before))
            below = layers[-1][0]
        if self.query == "current":
            context, weights = self._attend(below, prepared, t)
        output = self._read(below, context)
        return output, State(tuple(layers), output if self.feed_size else state.feed), weights

    def forward(
        self, embeddings: Tensor, memory: Memory, step_loop: bool = False, with_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Read a known target (teacher forcing).

        Args:
            embeddings: [B, T, E], beginning-of-sentence first.
            memory: of the B sentences.
            step_loop: take the steps one by one also where one pass would do.
            with_weights: return the weights; without, T and S may be so long that they would not fit into memory.

        Returns:
            the readouts [B, T, R] and the weights [B, T, S] or None.
        """
        prepared = self.attention.prepare(memory)
        state = self.start(memory)
        if self.one_pass and not step_loop:
            return self._forward_at_once(embeddings, state, prepared, with_weights)
        outputs, weights = [], []
        for t, embedding in enumerate(embeddings.unbind(1)):
            output, state, weight = self.step(embedding, state, prepared, t)
            outputs.append(output)
            weights.append(weight if with_weights else None)
        return torch.stack(outputs, 1), None if weights[0] is None else torch.stack(weights, 1)  # type: ignore[arg-type]

    def _forward_at_once(
        self, embeddings: Tensor, state: State, prepared: Prepared, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        below = embeddings
        if self.query == "previous":  # An attention that does not read its query: only its shape counts.
            unread = embeddings.new_empty(*embeddings.shape[:2], self.hidden_size)
            context, weights = self._attend_at_once(unread, prepared, with_weights)
            below = torch.cat([embeddings, context], -1)
        for depth, start in enumerate(state.layers):
            below = self._layer(depth)(self.dropout(below) if depth else below, start)
        if self.query == "current":
            context, weights = self._attend_at_once(below, prepared, with_weights)
        return self._read(below, context), weights

    def _attend_at_once(self, queries: Tensor, prepared: Prepared, with_weights: bool) -> tuple[Tensor, Tensor | None]:
        """Ask with all T queries; where nobody wants the weights, so many at a time that they stay bounded."""
        steps = torch.arange(queries.shape[1], device=queries.device)
        if with_weights:
            return self.attention(queries, prepared, steps)
        size = max(1, WEIGHTS_LIMIT // prepared.mask.numel())
        parts = zip(queries.split(size, 1), steps.split(size), strict=True)
        return torch.cat([self.attention(part, prepared, at)[0] for part, at in parts], 1), None

    def _attend(self, query: Tensor, prepared: Prepared, t: int) -> tuple[Tensor, Tensor | None]:
        """Ask with one query a row; the beams of a sentence are queries to one copy of its memory."""
        sentences = len(prepared.mask)
        steps = torch.full((len(query) // sentences,), t, device=query.device)
        context, weights = self.attention(query.view(sentences, -1, self.hidden_size), prepared, steps)
        return context.flatten(0, 1), None if weights is None else weights.flatten(0, 1)

    def _read(self, hidden: Tensor, context: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.readout(torch.cat([hidden, context], -1))))

    def _layer(self, depth: int) -> RecurrentLayer:
        layer = self.layers[depth]
        assert isinstance(layer, RecurrentLayer)
        return layer
