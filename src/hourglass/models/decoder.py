"""The decoder: a recurrent layer stack, attention asked before, between or after its layers, and a readout.

Independent switches make the published orders: `query` (Bahdanau et al. 2014 ask with the previous state and feed the
context to the recurrence; Luong et al. 2015 ask with the current one), `query_layer` and `context_to_all` (Wu et al.
2016 ask with the bottom layer and hand the context to all layers), and `input_feeding`.

Shapes: B batch, T target length, N rows of one step (K beams of each of B sentences, N = B*K, K = 1 outside search),
E embedding, H state, C context, D summary, R readout.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.attention import Attention, Prepared
from hourglass.models.encoder import Dropout, Memory, check_residual
from hourglass.models.recurrent import LOOPED, Cell, CellState, Known, RecurrentLayer

# Weights [B, T, S] that exist at once, where they are not returned.
WEIGHTS_LIMIT = 2**27


class State(NamedTuple):
    """What the decoder carries from one step to the next."""

    layers: tuple[CellState, ...]  # of each layer, [N, H] tensors
    feed: Tensor  # [N, R] with input feeding: the last readout; [N, 0] without
    context: Tensor  # [N, C] where layers read the last step's context; [N, 0] elsewhere

    def select(self, index: Tensor) -> "State":
        """Take the rows `index` [N'], in that order, of everything carried."""
        return State(
            tuple(tuple(part.index_select(0, index) for part in layer) for layer in self.layers),
            self.feed.index_select(0, index),
            self.context.index_select(0, index),
        )


class Decoder(nn.Module):
    """Stacked recurrent layers with attention.

    Args:
        attention: any variant.
        embedding_size: E.
        summary_size: D of the encoder.
        cell: lstm, gru, ...: see `RecurrentLayer`.
        layers: how many are stacked.
        hidden_size: H.
        residual_from: each layer from this one up, counted from 1, adds its input to its output (Wu et al. 2016,
            equation 6); 0: none does.
        readout: what the output layer reads, of the top layer's h, the context c and the embedding e of the last word:
            "tanh": tanh(W [h; c]) (Luong et al. 2015, equation 5); "deep": tanh(W [h; c; e]) (Pascanu et al. 2014,
            section 3.3.2); "maxout": the larger of each pair of W [h; c; e] (Cho et al. 2014, appendix A; Bahdanau et
            al. 2014, appendix A.2.2); "state": h (Sutskever et al. 2014, Wu et al. 2016).
        readout_size: R, its width.
        dropout: between layers and on the readout.
        query: "previous": attention is asked with the state before the step, and its context enters the step;
            "current": with the state after it.
        query_layer: whose state asks, the top layer's or the bottom layer's; with query=current what a residual layer
            asks with is its output, its input added.
        context_to_all: every layer reads the newest context there is (Wu et al. 2016, section 3): with query=previous
            this step's; with query=current this step's above the layer that asks, the last step's up to it. Otherwise
            the bottom layer reads it, where it is there before the step.
        input_feeding: the last readout enters the step (Luong et al. 2015, section 3.3).
        start: "dense": the first state is a learned map of the summary; "pass": it is the summary, which then is the
            encoder's final states; "zero": it is zero, so that with attention nothing of the source comes by way of
            the summary.

    Raises:
        UserError: options contradict each other.
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
        residual_from: NonNegativeInt,
        readout: Literal["tanh", "deep", "maxout", "state"],
        readout_size: PositiveInt,
        dropout: Dropout,
        query: Literal["previous", "current"],
        query_layer: Literal["top", "bottom"],
        context_to_all: bool,
        input_feeding: bool,
        start: Literal["dense", "pass", "zero"],
    ):
        super().__init__()
        if query_layer == "bottom" and layers == 1:
            raise UserError(
                "decoder.query_layer=bottom: with decoder.layers=1 the bottom layer is the top one: set "
                "decoder.layers=2 or more, or decoder.query_layer=top"
            )
        check_residual("decoder", residual_from, layers)
        if readout == "state" and readout_size != hidden_size:
            raise UserError(
                f"decoder.readout=state reads the top layer as it is: set decoder.readout_size={hidden_size}, which is "
                f"decoder.hidden_size, not {readout_size}, or decoder.readout=tanh"
            )
        if readout == "state" and query == "current" and attention.context_size and not context_to_all:
            raise UserError(
                f"decoder.readout=state with decoder.query=current leaves the context of attention={attention.name} "
                "unread: set decoder.readout=tanh, decoder.query=previous or decoder.context_to_all=true"
            )
        self.attention = attention
        self.query = query
        self.query_depth = layers - 1 if query_layer == "top" else 0
        self.context_to_all = context_to_all
        self.residual_from = residual_from
        self.hidden_size = hidden_size
        self.readout_size = readout_size
        self.start_from = start
        self.feed_size = readout_size if input_feeding else 0
        self.dropout = nn.Dropout(dropout)
        to_bottom = attention.context_size if query == "previous" or context_to_all else 0
        above = hidden_size + (attention.context_size if context_to_all else 0)
        self.layers = nn.ModuleList(
            RecurrentLayer(cell, width, hidden_size)
            for width in [embedding_size + self.feed_size + to_bottom] + [above] * (layers - 1)
        )
        self.carried_size = to_bottom if query == "current" else 0
        parts = self._layer(0).parts
        state_size = layers * parts * hidden_size
        if start == "pass" and summary_size != state_size:
            raise UserError(
                f"decoder.start=pass takes {state_size} numbers, the states of decoder.layers={layers}: set "
                f"encoder.summary_size={state_size}, not {summary_size}, or decoder.start=dense"
            )
        self.bridge = nn.Linear(summary_size, state_size) if start == "dense" else None
        self.readout_kind = readout
        read = hidden_size + attention.context_size + (embedding_size if readout in ("deep", "maxout") else 0)
        written = readout_size * (2 if readout == "maxout" else 1)
        self.readout = nn.Linear(read, written) if readout != "state" else None

    @property
    def one_pass(self) -> bool:
        """Whether a known target can be read in one pass: no step's input hangs on the step before it."""
        carries = self.feed_size > 0 or self.carried_size > 0
        return not carries and (self.query == "current" or not self.attention.reads_query)

    def start(self, memory: Memory) -> State:
        """Return the state before the first step, N = B."""
        rows, like = len(memory.summary), memory.summary
        if self.start_from == "zero":
            layers = tuple(self._layer(i).zero_state(rows, like) for i in range(len(self.layers)))
        else:
            flat = self.bridge(memory.summary) if self.bridge is not None else memory.summary
            parts = flat.view(rows, len(self.layers), self._layer(0).parts, self.hidden_size).unbind(2)
            if self.bridge is not None:
                # tanh keeps h in a cell's range (Bahdanau et al. 2014, appendix A.2.2); an LSTM's c has no range.
                parts = (parts[0].tanh(), *parts[1:])
            layers = tuple(tuple(part[:, i] for part in parts) for i in range(len(self.layers)))
        return State(layers, like.new_zeros(rows, self.feed_size), like.new_zeros(rows, self.carried_size))

    def step(
        self, embedding: Tensor, state: State, prepared: Prepared, t: int, *, rows: Tensor | None = None
    ) -> tuple[Tensor, State, Tensor | None]:
        """Advance all rows by one target position.

        Args:
            embedding: [N, E] of the tokens before position t.
            state: of N rows; rows of one sentence are neighbours.
            prepared: of the B sentences, N a multiple of B.
            t: the target position, from 0.
            rows: [N]; then `embedding` has each token once, and these say whose each row is: what hangs on the token
                alone is not computed again for each row.

        Returns:
            the readout [N, R], the next state, and the weights [N, S] or None.
        """
        known = None
        if rows is not None:
            known = self._know(embedding)
            known = known and known._replace(gates=known.gates[rows])
            embedding = embedding[rows]
        hidden, context, after, weights = self._advance(embedding, state, prepared, t, known)
        output = self._read(hidden, context, embedding)
        return output, after._replace(feed=output) if self.feed_size else after, weights

    def _know(self, embeddings: Tensor) -> Known | None:
        """What the bottom layer takes of embeddings [..., E]; None where a GPU does it in a step by one fused call."""
        layer = self._layer(0)
        return layer.know(embeddings) if layer.cell in LOOPED or embeddings.device.type == "cpu" else None

    def _advance(
        self, embedding: Tensor, state: State, prepared: Prepared, t: int, known: Known | None
    ) -> tuple[Tensor, Tensor, State, Tensor | None]:
        """Do a step but for its readout: hidden [N, H], context [N, C], the next state and the weights [N, S]."""
        context, weights = state.context, None
        if self.query == "previous":
            context, weights = self._attend(state.layers[self.query_depth][0], prepared, t)
        below = torch.cat([embedding, state.feed], -1) if known is None else state.feed
        layers = []
        for depth, before in enumerate(state.layers):
            inputs = self._input(below, context, depth)
            layers.append(self._layer(depth).step(inputs, before, known if depth == 0 else None))
            below = self._output(layers[-1][0], below, depth)
            if self.query == "current" and depth == self.query_depth:
                context, weights = self._attend(below, prepared, t)
        return (
            below,
            context,
            State(tuple(layers), state.feed, context if self.carried_size else state.context),
            weights,
        )

    def forward(
        self, embeddings: Tensor, memory: Memory, step_loop: bool = False, with_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Read a known target (teacher forcing).

        Args:
            embeddings: [B, T, E], beginning-of-sentence first.
            memory: of the B sentences.
            step_loop: take the steps one by one also where one pass would do, and nothing ahead of its step.
            with_weights: return the weights; without, T and S may be so long that they would not fit into memory.

        Returns:
            the readouts [B, T, R] and the weights [B, T, S] or None.
        """
        prepared = self.attention.prepare(memory)
        state = self.start(memory)
        if self.one_pass and not step_loop:
            return self._forward_at_once(embeddings, state, prepared, with_weights)
        hidden, contexts, outputs, weights = [], [], [], []
        ahead = None if step_loop else self._know(embeddings)
        gates = ahead.gates.unbind(1) if ahead else ()
        for t, embedding in enumerate(embeddings.unbind(1)):
            known = ahead and ahead._replace(gates=gates[t])
            below, context, state, weight = self._advance(embedding, state, prepared, t, known)
            if self.feed_size:  # The next step reads it; elsewhere all steps are read out at once.
                outputs.append(self._read(below, context, embedding))
                state = state._replace(feed=outputs[-1])
            else:
                hidden.append(below)
                contexts.append(context)
            weights.append(weight if with_weights else None)
        if self.feed_size:
            read = torch.stack(outputs, 1)
        else:
            read = self._read(torch.stack(hidden, 1), torch.stack(contexts, 1), embeddings)
        return read, None if weights[0] is None else torch.stack(weights, 1)  # type: ignore[arg-type]

    def _forward_at_once(
        self, embeddings: Tensor, state: State, prepared: Prepared, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        below, context = embeddings, embeddings.new_empty(*embeddings.shape[:2], 0)
        if self.query == "previous":  # An attention that does not read its query: only its shape counts.
            unread = embeddings.new_empty(*embeddings.shape[:2], self.hidden_size)
            context, weights = self._attend_at_once(unread, prepared, with_weights)
        for depth, start in enumerate(state.layers):
            below = self._output(self._layer(depth)(self._input(below, context, depth), start), below, depth)
            if self.query == "current" and depth == self.query_depth:
                context, weights = self._attend_at_once(below, prepared, with_weights)
        return self._read(below, context, embeddings), weights

    def _input(self, below: Tensor, context: Tensor, depth: int) -> Tensor:
        """What a layer reads: what is below it, and the newest context where it is one of those that read it."""
        if depth == 0:
            return torch.cat([below, context], -1) if self.query == "previous" or self.carried_size else below
        return self.dropout(torch.cat([below, context], -1) if self.context_to_all else below)

    def _output(self, hidden: Tensor, below: Tensor, depth: int) -> Tensor:
        return hidden + below if 0 < self.residual_from <= depth + 1 else hidden

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

    def _read(self, hidden: Tensor, context: Tensor, embedding: Tensor) -> Tensor:
        """The readout [..., R] of hidden [..., H], context [..., C] and embedding [..., E]."""
        if self.readout is None:
            return self.dropout(hidden)
        if self.readout_kind == "tanh":
            return self.dropout(self.readout(torch.cat([hidden, context], -1)).tanh())
        mixed = self.readout(torch.cat([hidden, context, embedding], -1))
        if self.readout_kind == "deep":
            return self.dropout(mixed.tanh())
        return self.dropout(mixed.unflatten(-1, (-1, 2)).amax(-1))

    def _layer(self, depth: int) -> RecurrentLayer:
        layer = self.layers[depth]
        assert isinstance(layer, RecurrentLayer)
        return layer
