"""The decoder: recurrent layers, attention computed before, between or after them, and a readout.

Independent options make the published orders of a step: `query` (Bahdanau et al. 2014 query with the previous state,
and the context enters the recurrence; Luong et al. 2015 query with the current state), `query_layer` and
`context_to_all` (Wu et al. 2016 query with the bottom layer, and all layers read the context), and `input_feeding`.

Shapes: B batch, T target length, N rows of one step (K beams of each of B sentences, N = B*K, K = 1 outside search),
E embedding, H state, C context, D summary, R readout, S source length.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hourglass.errors import UserError
from hourglass.models.attention import Attention, PreparedMemory
from hourglass.models.cells import CELLS, Cell, CellName, CellState, PartialProjection
from hourglass.models.encoder import Dropout, Memory, check_residual, check_width
from hourglass.models.loop_weights import LoopWeight
from hourglass.models.recurrent import RecurrentLayer

# Weights [B, T, S] that exist at once, where they are not returned.
WEIGHTS_LIMIT = 2**27


class DecoderState(NamedTuple):
    """What the decoder carries from one step to the next."""

    layers: tuple[CellState, ...]  # the state of each layer, parts of N rows
    feed: Tensor  # [N, R] with input feeding: the last readout; [N, 0] without
    context: Tensor  # [N, C] where layers read the last step's context; [N, 0] elsewhere
    coverage: Tensor | None = None  # [N, S] the sum of all weights so far, where attention reads it

    def select(self, index: Tensor) -> "DecoderState":
        """Return the rows `index` [N'], in this order."""
        return DecoderState(
            tuple(tuple(part.index_select(0, index) for part in layer) for layer in self.layers),
            self.feed.index_select(0, index),
            self.context.index_select(0, index),
            None if self.coverage is None else self.coverage.index_select(0, index),
        )


@dataclass(frozen=True, kw_only=True)
class DecoderSettings:
    """The config group `decoder`.

    Attributes:
        cell: a key of `CELLS`.
        layers: how many are stacked.
        hidden_size: H.
        residual_from: each layer from this one up, counted from 1, adds its input to its output (Wu et al. 2016,
            equation 6); 0: none does.
        embedding_size: E, width of the target embeddings.
        embedding_file: text file of word2vec or GloVe with the first target embeddings; None: they are drawn.
        readout: what the output layer reads, of the top layer's output h, the context c and the embedding e of the
            last token: "tanh": tanh(W [h; c]) (Luong et al. 2015, equation 5); "deep": tanh(W [h; c; e]) (Pascanu et
            al. 2014, section 3.3.2); "maxout": the larger of each pair of W [h; c; e] (Cho et al. 2014, appendix A;
            Bahdanau et al. 2014, appendix A.2.2); "state": h (Sutskever et al. 2014, Wu et al. 2016).
        readout_size: R, its width.
        tie: "output": the weights of the output layer are the target embedding (Press and Wolf 2017); "all": the
            source embedding, too; "none".
        query: "previous": the query is the state before the step, and the context enters the step; "current": the
            query is the state after the step.
        query_layer: the layer whose state is the query, top or bottom; with query=current the query of a residual
            layer is its output, its input added.
        context_to_all: every layer reads the newest context (Wu et al. 2016, section 3): with query=previous that of
            this step; with query=current that of this step above the layer with the query, that of the last step up
            to it. Otherwise the bottom layer reads it, if it is known before the step.
        input_feeding: the last readout enters the step (Luong et al. 2015, section 3.3).
        start: the first state. "dense": a learned map of the summary; "pass": the summary, which then is the final
            states of the encoder; "zero": zero, so that with attention nothing of the source comes through the
            summary.
        dropout: on embeddings, between layers and on the readout.
        gate_context: the context is multiplied by sigmoid(w q + b), where q is the query (Xu et al. 2015, section
            4.2.1).
        doubly_stochastic: of the penalty on attention weights, see `doubly_stochastic_penalty`; 0: none.
        copy: the next piece is generated or copied from the source, by a learned switch (models/copying.py).

    Raises:
        UserError: options contradict each other.
    """

    cell: CellName
    layers: PositiveInt
    hidden_size: PositiveInt
    residual_from: NonNegativeInt
    embedding_size: PositiveInt
    embedding_file: str | None
    readout: Literal["tanh", "deep", "maxout", "state"]
    readout_size: PositiveInt
    tie: Literal["none", "output", "all"]
    query: Literal["previous", "current"]
    query_layer: Literal["top", "bottom"]
    context_to_all: bool
    input_feeding: bool
    start: Literal["dense", "pass", "zero"]
    dropout: Dropout
    # Checkpoints of earlier versions lack these.
    copy: bool = False
    gate_context: bool = False
    doubly_stochastic: NonNegativeFloat = 0.0

    def __post_init__(self) -> None:
        if self.query_layer == "bottom" and self.layers == 1:
            raise UserError(
                "decoder.query_layer=bottom: with decoder.layers=1 the bottom layer is the top one: set "
                "decoder.layers=2 or more, or decoder.query_layer=top"
            )
        check_residual("decoder", self.residual_from, self.layers)
        check_width("decoder", self.cell, self.hidden_size)
        if self.readout == "state" and self.readout_size != self.hidden_size:
            raise UserError(
                f"decoder.readout=state reads the top layer as it is: set decoder.readout_size={self.hidden_size}, "
                f"which is decoder.hidden_size, not {self.readout_size}, or decoder.readout=tanh"
            )
        if self.tie != "none" and self.readout_size != self.embedding_size:
            raise UserError(
                f"decoder.tie={self.tie} needs decoder.readout_size equal to decoder.embedding_size "
                f"({self.embedding_size}): set decoder.readout_size={self.embedding_size}, or decoder.tie=none"
            )

    @property
    def state_size(self) -> int:
        """How many numbers the first state has, all layers together."""
        return self.layers * CELLS[self.cell].state_size(self.hidden_size)

    @property
    def first_reads_context(self) -> bool:
        """Whether the bottom layer reads a context."""
        return self.query == "previous" or self.context_to_all


class Decoder(nn.Module):
    """Stacked recurrent layers with attention; see models/checks.py for the combinations that are refused.

    Args:
        settings: see `DecoderSettings`.
        attention: any variant.
        summary_size: D of the encoder.
    """

    def __init__(self, settings: DecoderSettings, attention: Attention, summary_size: int):
        super().__init__()
        self.settings = settings
        self.attention = attention
        self.query = settings.query
        self.hidden_size = settings.hidden_size
        self.readout_size = settings.readout_size
        self.query_depth = settings.layers - 1 if settings.query_layer == "top" else 0
        self.feed_size = settings.readout_size if settings.input_feeding else 0
        self.dropout = nn.Dropout(settings.dropout)
        to_bottom = attention.context_size if settings.first_reads_context else 0
        above = settings.hidden_size + (attention.context_size if settings.context_to_all else 0)
        self.layers = nn.ModuleList(
            RecurrentLayer(settings.cell, width, settings.hidden_size)
            for width in [settings.embedding_size + self.feed_size + to_bottom] + [above] * (settings.layers - 1)
        )
        self.carried_size = to_bottom if settings.query == "current" else 0
        self.bridge = nn.Linear(summary_size, settings.state_size) if settings.start == "dense" else None
        reads_embedding = settings.readout in ("deep", "maxout")
        read = settings.hidden_size + attention.context_size + (settings.embedding_size if reads_embedding else 0)
        written = settings.readout_size * (2 if settings.readout == "maxout" else 1)
        self.readout = nn.Linear(read, written) if settings.readout != "state" else None
        self.gate = nn.Linear(settings.hidden_size, 1) if settings.gate_context else None
        # Last, so that without it a seed gives the same other weights. Its inputs are those of See et al. 2017, eq. 8.
        switched = settings.hidden_size + attention.context_size + settings.embedding_size
        self.switch = nn.Linear(switched, 1) if settings.copy else None

    @property
    def one_pass(self) -> bool:
        """Whether a known target can be read in one pass: no input of a step depends on the step before it."""
        carries = self.feed_size > 0 or self.carried_size > 0 or self.attention.reads_coverage
        reads_query = self.attention.reads_query or self.gate is not None
        return not carries and (self.query == "current" or not reads_query)

    def start(self, memory: Memory) -> DecoderState:
        """Return the state before the first step, N = B."""
        rows, like = len(memory.summary), memory.summary
        cells = [self._layer(depth).cell for depth in range(len(self.layers))]
        if self.settings.start == "zero":
            layers = tuple(cell.zero_state(rows, like) for cell in cells)
        else:
            numbers = self.bridge(memory.summary) if self.bridge is not None else memory.summary
            parts = numbers.chunk(len(cells), -1)
            layers = tuple(cell.unflatten_state(part) for cell, part in zip(cells, parts, strict=True))
            if self.bridge is not None:
                layers = tuple(cell.bound_state(layer) for cell, layer in zip(cells, layers, strict=True))
        state = DecoderState(layers, like.new_zeros(rows, self.feed_size), like.new_zeros(rows, self.carried_size))
        if not self.attention.reads_coverage:
            return state
        # In float32 or wider: in 16 bits, small weights would not add up.
        wide = torch.promote_types(like.dtype, torch.float32)
        return state._replace(coverage=like.new_zeros(*memory.mask.shape, dtype=wide))

    def step(
        self, embedding: Tensor, state: DecoderState, prepared: PreparedMemory, t: int, *, rows: Tensor | None = None
    ) -> tuple[Tensor, DecoderState, Tensor | None]:
        """Advance all rows by one target position.

        Args:
            embedding: [N, E] of the tokens before position t.
            state: of N rows; the rows of a sentence are adjacent.
            prepared: the memory of the B sentences, N a multiple of B.
            t: the target position, from 0.
            rows: [N]; with it, `embedding` has each distinct token once, and row n is of token `rows[n]`: what depends
                on the token alone is computed once.

        Returns:
            the readout [N, R], with decoder.copy [N, R+1], the logit of p_gen last; the next state; and the weights
            [N, S] or None.
        """
        ahead = None
        if rows is not None:
            ahead = self._project_ahead(embedding)
            ahead = ahead and ahead._replace(projected=ahead.projected[rows])
            embedding = embedding[rows]
        hidden, context, after, weights = self._advance(embedding, state, prepared, t, ahead)
        readout = self._read(hidden, context, embedding)
        return readout, after._replace(feed=self._feed(readout)) if self.feed_size else after, weights

    def _project_ahead(self, embeddings: Tensor) -> PartialProjection | None:
        """Project embeddings [..., E] by the bottom layer, where its cell can do that apart from its other inputs."""
        return self._layer(0).cell.project_ahead(embeddings)

    def _advance(
        self,
        embedding: Tensor,
        state: DecoderState,
        prepared: PreparedMemory,
        t: int,
        ahead: PartialProjection | None,
    ) -> tuple[Tensor, Tensor, DecoderState, Tensor | None]:
        """Take a step without its readout: hidden [N, H], context [N, C], the next state and the weights [N, S]."""
        context, weights = state.context, None
        if self.query == "previous":
            cell = self._layer(self.query_depth).cell
            context, weights = self._attend(cell.query(state.layers[self.query_depth]), prepared, t, state.coverage)
        below = torch.cat([embedding, state.feed], -1) if ahead is None else state.feed
        layers = []
        for depth, before in enumerate(state.layers):
            inputs = self._input(below, context, depth)
            hidden, after = self._layer(depth).step(inputs, before, ahead if depth == 0 else None)
            layers.append(after)
            below = self._output(hidden, below, depth)
            if self.query == "current" and depth == self.query_depth:
                context, weights = self._attend(below, prepared, t, state.coverage)
        carried = context if self.carried_size else state.context
        coverage = state.coverage if state.coverage is None or weights is None else state.coverage + weights
        return below, context, DecoderState(tuple(layers), state.feed, carried, coverage), weights

    def forward(
        self, embeddings: Tensor, memory: Memory, step_loop: bool = False, with_weights: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Read a known target (teacher forcing).

        Args:
            embeddings: [B, T, E], beginning-of-sentence first.
            memory: of the B sentences.
            step_loop: take one step after the other, with nothing computed ahead, also where one pass would do.
            with_weights: return the weights; without, T and S may be so long that the weights would not fit in memory.

        Returns:
            the readouts [B, T, R], with decoder.copy [B, T, R+1], and the weights [B, T, S] or None.
        """
        prepared = self.attention.prepare(memory)
        state = self.start(memory)
        if self.one_pass and not step_loop:
            return self._forward_at_once(embeddings, state, prepared, with_weights)
        hiddens, contexts, readouts, weights = [], [], [], []
        ahead = None if step_loop else self._project_ahead(embeddings)
        projections = ahead.projected.unbind(1) if ahead else ()
        of_readout = LoopWeight(self.readout.weight) if self.feed_size and self.readout and not step_loop else None
        for t, embedding in enumerate(embeddings.unbind(1)):
            now = ahead and ahead._replace(projected=projections[t])
            hidden, context, state, weight = self._advance(embedding, state, prepared, t, now)
            if self.feed_size:  # The next step reads the readout; without feeding, all are computed at once below.
                readouts.append(self._read(hidden, context, embedding, of_readout))
                state = state._replace(feed=self._feed(readouts[-1]))
            else:
                hiddens.append(hidden)
                contexts.append(context)
            weights.append(weight if with_weights else None)
        if self.feed_size:
            readout = torch.stack(readouts, 1)
        else:
            readout = self._read(torch.stack(hiddens, 1), torch.stack(contexts, 1), embeddings)
        return readout, None if weights[0] is None else torch.stack(weights, 1)  # type: ignore[arg-type]

    def _forward_at_once(
        self, embeddings: Tensor, state: DecoderState, prepared: PreparedMemory, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        below, context = embeddings, embeddings.new_empty(*embeddings.shape[:2], 0)
        if self.query == "previous":  # The attention does not read the values of its query, only the shape.
            query = embeddings.new_empty(*embeddings.shape[:2], self.hidden_size)
            context, weights = self._attend_at_once(query, prepared, with_weights)
        for depth, start in enumerate(state.layers):
            below = self._output(self._layer(depth)(self._input(below, context, depth), start), below, depth)
            if self.query == "current" and depth == self.query_depth:
                context, weights = self._attend_at_once(below, prepared, with_weights)
        return self._read(below, context, embeddings), weights

    def _input(self, below: Tensor, context: Tensor, depth: int) -> Tensor:
        """Return the input of a layer: what is below it, and the newest context if this layer reads it."""
        if depth == 0:
            return torch.cat([below, context], -1) if self.query == "previous" or self.carried_size else below
        return self.dropout(torch.cat([below, context], -1) if self.settings.context_to_all else below)

    def _output(self, hidden: Tensor, below: Tensor, depth: int) -> Tensor:
        """Return what the layer above reads: the cell's output, plus the layer's input if this layer is residual."""
        return hidden + below if 0 < self.settings.residual_from <= depth + 1 else hidden

    def _attend_at_once(
        self, queries: Tensor, prepared: PreparedMemory, with_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the contexts of T queries [B, T, H]; without weights a part at a time, so that memory is bounded."""
        steps = torch.arange(queries.shape[1], device=queries.device)
        if with_weights:
            context, weights = self.attention(queries, prepared, steps)
            return self._gated(context, queries), weights
        size = max(1, WEIGHTS_LIMIT // (prepared.mask.numel() * self.attention.heads))
        parts = zip(queries.split(size, 1), steps.split(size), strict=True)
        context = torch.cat([self.attention(part, prepared, at)[0] for part, at in parts], 1)
        return self._gated(context, queries), None

    def _gated(self, context: Tensor, query: Tensor) -> Tensor:
        """Return contexts [..., C], multiplied by their gates if the decoder has them; of queries [..., H]."""
        return context if self.gate is None else context * self.gate(query).sigmoid()

    def _attend(
        self, query: Tensor, prepared: PreparedMemory, t: int, coverage: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the context of one query a row [N, H]; the beams of a sentence share one copy of its memory."""
        sentences = len(prepared.mask)
        steps = torch.full((len(query) // sentences,), t, device=query.device)
        inputs = query.view(sentences, -1, self.hidden_size), prepared, steps
        if coverage is None:
            context, weights = self.attention(*inputs)
        else:
            context, weights = self.attention(*inputs, coverage.view(sentences, -1, coverage.shape[-1]))
        return self._gated(context.flatten(0, 1), query), None if weights is None else weights.flatten(0, 1)

    def _read(self, hidden: Tensor, context: Tensor, embedding: Tensor, weight: LoopWeight | None = None) -> Tensor:
        """Return the readout [..., R] of hidden [..., H], context [..., C] and embedding [..., E]; see `step`.

        With `weight`, that of the readout in a loop, they have N rows.
        """
        readout = self._read_out(hidden, context, embedding, weight)
        if self.switch is None:
            return readout
        return torch.cat([readout, self.switch(torch.cat([hidden, context, embedding], -1))], -1)

    def _read_out(self, hidden: Tensor, context: Tensor, embedding: Tensor, weight: LoopWeight | None) -> Tensor:
        """Return what the output layer reads."""
        if self.readout is None:
            return self.dropout(hidden)
        parts = [hidden, context] if self.settings.readout == "tanh" else [hidden, context, embedding]
        read = torch.cat(parts, -1)
        mixed = self.readout(read) if weight is None else weight.multiply(read, self.readout.bias)
        if self.settings.readout == "maxout":
            return self.dropout(mixed.unflatten(-1, (-1, 2)).amax(-1))
        return self.dropout(mixed.tanh())

    def _feed(self, readout: Tensor) -> Tensor:
        """Return the part [N, R] of a readout that enters the next step."""
        return readout if self.switch is None else readout[:, :-1]

    @property
    def cell(self) -> Cell:
        """The cell of the bottom layer; all layers have the same kind."""
        return self._layer(0).cell

    def _layer(self, depth: int) -> RecurrentLayer:
        layer = self.layers[depth]
        assert isinstance(layer, RecurrentLayer)
        return layer
