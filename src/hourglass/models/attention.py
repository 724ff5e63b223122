"""Attention: what the decoder reads of the source at each step. The part that most ablations change.

Shapes: B batch, T queries (target steps in one pass; beams of one sentence in search), S source length,
H query, M memory, D summary, C context, A keys (and the hidden layer of additive scores).

To add a variant, subclass `ScoredAttention`, write `scores`, register the class in `ATTENTIONS`, and write the file
attention/NAME.yaml (docs/add-an-attention.md).
"""

from abc import ABC, abstractmethod
from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hourglass.config.registry import Registry
from hourglass.errors import UserError
from hourglass.models.memory import Memory
from hourglass.models.transformer import check_heads

# Additive scores of T queries are [B, T, S, A] before the sum over A. Above this number of elements, T is split and
# each part is computed again in the backward pass, so that memory stays bounded.
ADDITIVE_LIMIT = 2**26


class Sizes(NamedTuple):
    """The widths that an attention is built for, known at run time only."""

    query: int  # H, of the decoder's state
    memory: int  # M, of an encoder state; 0: the encoder has none
    summary: int  # D


class PreparedMemory(NamedTuple):
    """A memory, with what an attention computes from it once for all steps."""

    # multi_head has both for each of its N heads, [B, N, S, A].
    values: Tensor  # [B, S, M], what a context is a weighted sum of: the states, or a projection of them
    keys: Tensor  # [B, S, A], what queries are scored against: the states, or a projection of them
    mask: Tensor  # [B, S] bool, True at real positions
    lengths: Tensor  # [B]
    summary: Tensor  # [B, D]

    def keep_sentences(self, index: Tensor) -> "PreparedMemory":
        """Return the sentences `index` [B'] in this order, B' <= B. Rows are moved in place: this memory is lost."""
        moves = (index != torch.arange(len(index), device=index.device)).nonzero().flatten()

        def move_rows(part: Tensor) -> Tensor:
            part[moves] = part[index[moves]]
            return part[: len(index)]

        values = move_rows(self.values)
        keys = values if self.keys is self.values else move_rows(self.keys)
        return PreparedMemory(values, keys, *(part.index_select(0, index) for part in self[2:]))


class Attention(nn.Module, ABC):
    """Base of all variants.

    Class attributes: `name` as in conf/attention; `reads_query`, whether the context depends on the decoder's state;
    `has_weights`, whether there are weights over source positions; `sums_to_one`, whether their sum is 1.
    Instance attributes: `context_size`, C; `heads`, how many weights it computes for each source position (it returns
    their mean); `longest_source`, the number of source positions that it has parameters for, None without such a limit;
    `reads_coverage`, whether it is called with the sum of the weights of earlier steps; `coverage_loss`, the weight of
    the loss for attending again (`coverage_losses`).

    Args:
        sizes: the widths of query, memory and summary.
    """

    name: str
    reads_query = True
    has_weights = True
    sums_to_one = True
    context_size: int
    heads: int = 1
    longest_source: int | None = None
    reads_coverage: bool = False
    coverage_loss: float = 0.0

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes

    def check_length(self, longest: int, where: str) -> None:
        """Check that a source of `longest` tokens can be attended to.

        Args:
            longest: tokens, with end-of-sentence.
            where: the origin of the sentence, for messages: train, dev, ...

        Raises:
            UserError: the sentence is too long.
        """

    def prepare(self, memory: Memory) -> PreparedMemory:
        """Compute what all steps share. It is returned and never kept on the module, where it could become stale."""
        values, keys = self.values(memory.states), self.keys(memory.states)
        return PreparedMemory(values, keys, memory.mask, memory.lengths, memory.summary)

    def keys(self, states: Tensor) -> Tensor:
        """Return the keys [B, S, A] of states [B, S, M]."""
        return states

    def values(self, states: Tensor) -> Tensor:
        """Return the values [B, S, M] of states [B, S, M]."""
        return states

    @abstractmethod
    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the context.

        Args:
            query: [B, T, H].
            prepared: the memory of the B sentences.
            steps: [T], the target position of each query, from 0 (all equal where T counts beams).

        Returns:
            the context [B, T, C], and the weights [B, T, S] or None if the variant has none.
        """


class NoAttention(Attention):
    """No context: the source reaches the decoder through its first state alone (Sutskever et al. 2014)."""

    name = "none"
    reads_query = False
    has_weights = False
    context_size = 0

    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, None]:
        """See `Attention.forward`: C is 0, and there are no weights."""
        return query.new_zeros(*query.shape[:2], 0), None


class FixedContext(Attention):
    """The context is the summary, the same at every step (Cho et al. 2014, section 2.2).

    Args:
        sizes: see `Attention`.
        width: C; the context is a linear map of the summary to this width, so that a sweep of D leaves the decoder's
            sizes alone. 0: the context is the summary itself.
    """

    name = "fixed"
    reads_query = False
    has_weights = False

    def __init__(self, sizes: Sizes, *, width: NonNegativeInt = 0):
        super().__init__(sizes)
        self.context_size = width or sizes.summary
        self.widen = nn.Linear(sizes.summary, width) if width else None

    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, None]:
        """See `Attention.forward`: no weights."""
        context = self.widen(prepared.summary) if self.widen else prepared.summary
        return context.unsqueeze(1).expand(-1, query.shape[1], -1), None


class ScoredAttention(Attention):
    """Base of the variants with weights: softmax of scores, weighted sum of states (Bahdanau et al. 2014, eq. 5 and 6).

        weights_ts = exp(score_ts) / sum over s' of exp(score_ts')
        context_t = sum over s of weights_ts state_s

    A subclass writes `scores`, and `keys` where a part of the score depends on the states alone.

    Raises:
        UserError: the encoder has no states.
    """

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        if sizes.memory == 0:
            raise UserError(
                f"attention={self.name} reads encoder states and encoder=blind has none: set attention=none"
            )
        self.context_size = sizes.memory

    @abstractmethod
    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """Return the scores [B, T, S] of queries [B, T, H]; those at padding may be anything, they are masked later."""

    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`; C is M."""
        weights = self.normalise(self.scores(query, prepared), self.window(query, prepared, steps))
        return weights @ prepared.values, weights

    def window(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> Tensor:
        """Return the positions that may be attended to, [B, 1 or T, S] bool."""
        return prepared.mask.unsqueeze(1)

    @staticmethod
    def normalise(scores: Tensor, allowed: Tensor) -> Tensor:
        """Return the softmax over the allowed positions, in float32 or wider: 16 bits lose the small weights."""
        masked = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~allowed, float("-inf"))
        return masked.softmax(-1).to(scores.dtype)


class MeanAttention(ScoredAttention):
    """Equal weights for all source positions: the control between one fixed vector and a context chosen per step."""

    name = "mean"
    reads_query = False

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`: all equal."""
        return query.new_zeros(*query.shape[:2], prepared.mask.shape[1])


class BahdanauAttention(ScoredAttention):
    """score = v . tanh(W q + U k) (Bahdanau et al. 2014, appendix A.1.2).

    With coverage, score_s = v . tanh(W q + U k_s + w coverage_s), where coverage is the sum of the weights of all
    earlier steps (See, Liu and Manning 2017, equations 10 and 11).

    Args:
        sizes: see `Attention`.
        size: A, the width of the hidden layer.
        coverage: whether the score reads coverage.
        coverage_loss: the weight of the loss for attending again (equation 13).

    Raises:
        UserError: there is such a loss without coverage.
    """

    name = "bahdanau"

    def __init__(
        self, sizes: Sizes, *, size: PositiveInt, coverage: bool = False, coverage_loss: NonNegativeFloat = 0.0
    ):
        super().__init__(sizes)
        if coverage_loss and not coverage:
            raise UserError(
                f"attention.coverage_loss={coverage_loss:g} trains an attention that reads its coverage: set "
                "attention.coverage=true, or attention.coverage_loss=0.0"
            )
        self.reads_coverage, self.coverage_loss = coverage, coverage_loss
        self.query_layer = nn.Linear(sizes.query, size, bias=False)
        self.key_layer = nn.Linear(sizes.memory, size, bias=False)
        self.energy = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))
        # Drawn last: without it, a seed gives the same other weights.
        self.coverage_column = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5)) if coverage else None

    def keys(self, states: Tensor) -> Tensor:
        """Return U k."""
        return self.key_layer(states)

    def forward(
        self, query: Tensor, prepared: PreparedMemory, steps: Tensor, coverage: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`; C is M.

        Args:
            query: [B, T, H].
            prepared: see `Attention.forward`.
            steps: see `Attention.forward`.
            coverage: [B, T, S] the sum of the weights of earlier steps, where the score reads it.
        """
        weights = self.normalise(self.scores(query, prepared, coverage), self.window(query, prepared, steps))
        return weights @ prepared.values, weights

    def scores(self, query: Tensor, prepared: PreparedMemory, coverage: Tensor | None = None) -> Tensor:
        """See `ScoredAttention.scores` and `forward`."""
        return additive_scores(self.query_layer(query), prepared.keys, self.energy, coverage, self.coverage_column)


class NormedBahdanauAttention(BahdanauAttention):
    """score = g v/|v| . tanh(W q + U k + b): weight-normalised (Salimans and Kingma 2016; TensorFlow NMT).

    Args:
        sizes: see `Attention`.
        size: A, the width of the hidden layer.
        coverage: see `BahdanauAttention`.
        coverage_loss: see `BahdanauAttention`.
    """

    name = "bahdanau_normed"

    def __init__(
        self, sizes: Sizes, *, size: PositiveInt, coverage: bool = False, coverage_loss: NonNegativeFloat = 0.0
    ):
        super().__init__(sizes, size=size, coverage=coverage, coverage_loss=coverage_loss)
        self.scale = nn.Parameter(torch.tensor(size**-0.5))
        self.bias = nn.Parameter(torch.zeros(size))

    def scores(self, query: Tensor, prepared: PreparedMemory, coverage: Tensor | None = None) -> Tensor:
        """See `BahdanauAttention.scores`."""
        energy = self.scale * self.energy / self.energy.norm()
        shifted = self.query_layer(query) + self.bias
        return additive_scores(shifted, prepared.keys, energy, coverage, self.coverage_column)


class DotAttention(ScoredAttention):
    """score = q . k (Luong et al. 2015, section 3.1)."""

    name = "luong_dot"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        check_equal_widths(sizes, f"attention={self.name}", "use attention=luong_general")

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`."""
        return query @ prepared.keys.mT


class GeneralAttention(ScoredAttention):
    """score = q . W k (Luong et al. 2015, section 3.1)."""

    name = "luong_general"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.key_layer = nn.Linear(sizes.memory, sizes.query, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Return W k."""
        return self.key_layer(states)

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`."""
        return query @ prepared.keys.mT


class ScaledAttention(GeneralAttention):
    """score = g q . W k with one learned g (TensorFlow NMT's scaled_luong, whose memory layer is W)."""

    name = "luong_scaled"

    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`."""
        return self.scale * super().scores(query, prepared)


class ConcatAttention(BahdanauAttention):
    """score = v . tanh(W [q; k]) (Luong et al. 2015, section 3.1).

    W [q; k] = W_q q + W_k k, so the score is that of `BahdanauAttention`. The published systems differ in when the
    decoder computes its context (decoder.query), and so do the two configs.

    Args:
        sizes: see `Attention`.
        size: A, the width of the hidden layer.
        coverage: see `BahdanauAttention`.
        coverage_loss: see `BahdanauAttention`.
    """

    name = "luong_concat"


class LocationAttention(ScoredAttention):
    """scores = W q, with a row of W for each source position (Luong et al. 2015, section 3.1).

    Args:
        sizes: see `Attention`.
        longest_source: the number of rows of W: source tokens with end-of-sentence. Longer input is refused.
    """

    name = "luong_location"

    def __init__(self, sizes: Sizes, *, longest_source: PositiveInt):
        super().__init__(sizes)
        self.longest_source: int = longest_source
        self.position_layer = nn.Linear(sizes.query, longest_source, bias=False)

    def check_length(self, longest: int, where: str) -> None:
        """See `Attention.check_length`."""
        if longest > self.longest_source:
            raise UserError(
                f"attention={self.name} has {self.longest_source} source positions and a sentence of {where} has "
                f"{longest} tokens: set attention.longest_source={longest} or more and train again"
            )

    def prepare(self, memory: Memory) -> PreparedMemory:
        """See `Attention.prepare`.

        Raises:
            UserError: a source sentence has more tokens than W has rows.
        """
        self.check_length(memory.mask.shape[1], "the input")
        return super().prepare(memory)

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`."""
        return self.position_layer(query)[..., : prepared.mask.shape[1]]


class MultiHeadAttention(ScoredAttention):
    """Several dot products side by side, each with projections of its own (Vaswani et al. 2017, section 3.2.2).

        head_n = softmax((W_n q) . (U_n k) / sqrt(A)) (V_n k)
        context = O [head_1; ...; head_N]

    N heads, each A = M / N wide; the context is M wide. The weights that are returned, and that pictures, alignments
    and the coverage penalty read, are the mean over the heads. The projections have no biases, as in the equations.

    Args:
        sizes: see `Attention`.
        heads: N.

    Raises:
        UserError: the heads do not divide M.
    """

    name = "multi_head"

    def __init__(self, sizes: Sizes, *, heads: PositiveInt):
        super().__init__(sizes)
        check_heads("attention.heads", heads, sizes.memory)
        self.heads = heads
        self.query_layer = nn.Linear(sizes.query, sizes.memory, bias=False)
        self.key_layer = nn.Linear(sizes.memory, sizes.memory, bias=False)
        self.value_layer = nn.Linear(sizes.memory, sizes.memory, bias=False)
        self.output_layer = nn.Linear(sizes.memory, sizes.memory, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """Return U k of each head, [B, N, S, A]: head by head in memory, as the products of every step read them."""
        return self._heads(self.key_layer(states)).contiguous()

    def values(self, states: Tensor) -> Tensor:
        """Return V k of each head, [B, N, S, A]."""
        return self._heads(self.value_layer(states)).contiguous()

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """See `ScoredAttention.scores`; those of each head, [B, N, T, S]."""
        queries = self._heads(self.query_layer(query)) * prepared.keys.shape[-1] ** -0.5
        return queries @ prepared.keys.mT

    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`; C is M, and the weights are the mean over the heads."""
        allowed = self.window(query, prepared, steps).unsqueeze(1)  # [B, 1, 1, S]
        weights = self.normalise(self.scores(query, prepared), allowed)  # [B, N, T, S]
        heads = (weights @ prepared.values).transpose(1, 2).flatten(2)  # [B, T, M]
        return self.output_layer(heads), weights.mean(1)

    def _heads(self, vectors: Tensor) -> Tensor:
        """Return vectors [B, L, M] of L queries or states as those of each head, [B, N, L, A]."""
        return vectors.unflatten(-1, (self.heads, -1)).transpose(1, 2)


ContentScore = Literal["dot", "general"]  # The scores of the local systems in Luong et al. 2015, table 4.


CONTENT_SCORES: dict[ContentScore, type[ScoredAttention]] = {"dot": DotAttention, "general": GeneralAttention}


class LocalMonotonicAttention(ScoredAttention):
    """local-m: softmax over a window around the target position (Luong et al. 2015, section 3.2).

    The centre of the window is the target position t, or the last source position where the source is shorter. The
    memory keeps the order of the source, so the centre is source token t with encoder.reverse_source as well.

    Args:
        sizes: see `Attention`.
        score: the content score inside the window: dot or general.
        window: D in the paper, source positions on either side of the centre.
    """

    name = "luong_local_m"

    def __init__(self, sizes: Sizes, *, score: ContentScore, window: PositiveInt):
        super().__init__(sizes)
        if score == "dot":
            option = f"attention={self.name} with attention.score=dot"
            check_equal_widths(sizes, option, "set attention.score=general")
        self.content = CONTENT_SCORES[score](sizes)
        self.half_width = window

    def keys(self, states: Tensor) -> Tensor:
        """Return the keys of the content score."""
        return self.content.keys(states)

    def scores(self, query: Tensor, prepared: PreparedMemory) -> Tensor:
        """Return the content score."""
        return self.content.scores(query, prepared)

    def centre(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> Tensor:
        """Return the centre of each query's window, [B, T] in source positions, exact in 16-bit models as well."""
        return torch.minimum(steps, prepared.lengths.unsqueeze(1) - 1)

    def distance(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> Tensor:
        """Return the signed distance of each source position from each query's centre, [B, T, S]."""
        position = torch.arange(prepared.mask.shape[1], device=query.device)
        return position - self.centre(query, prepared, steps).unsqueeze(-1)

    def window(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> Tensor:
        """See `ScoredAttention.window`."""
        near = self.distance(query, prepared, steps).abs() <= self.half_width
        return near & prepared.mask.unsqueeze(1)


class LocalPredictiveAttention(LocalMonotonicAttention):
    """local-p: a window around a predicted centre, with a Gaussian (Luong et al. 2015, equations 9 and 10).

        centre p_t = S sigmoid(v . tanh(W q_t))
        weights_ts = softmax over the window * exp(-(s - p_t)^2 / (2 (D/2)^2))

    The weights are not normalised again after the Gaussian.

    Args:
        sizes: see `Attention`.
        score: the content score inside the window: dot or general.
        size: width of the hidden layer of v and W.
        window: D in the paper, source positions on either side of the centre.
    """

    name = "luong_local_p"
    sums_to_one = False

    def __init__(self, sizes: Sizes, *, score: ContentScore, size: PositiveInt, window: PositiveInt):
        super().__init__(sizes, score=score, window=window)
        self.predictor = nn.Sequential(
            nn.Linear(sizes.query, size, bias=False), nn.Tanh(), nn.Linear(size, 1, bias=False)
        )

    def centre(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> Tensor:
        """See `LocalMonotonicAttention.centre`."""
        share = self.predictor(query).squeeze(-1)  # In float32 below: bfloat16 has whole positions up to 256 only.
        return prepared.lengths.unsqueeze(1) * share.to(torch.promote_types(share.dtype, torch.float32)).sigmoid()

    def forward(self, query: Tensor, prepared: PreparedMemory, steps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`."""
        distance = self.distance(query, prepared, steps)
        allowed = (distance.abs() <= self.half_width) & prepared.mask.unsqueeze(1)
        deviation = self.half_width / 2
        gaussian = torch.exp(-(distance**2) / (2 * deviation**2))
        weights = self.normalise(self.scores(query, prepared), allowed) * gaussian.to(query.dtype)
        return weights @ prepared.values, weights


ATTENTIONS: Registry[Attention] = Registry(
    "attention.name",
    Attention,  # type: ignore[type-abstract]
    (
        NoAttention,
        FixedContext,
        MeanAttention,
        BahdanauAttention,
        NormedBahdanauAttention,
        DotAttention,
        GeneralAttention,
        ScaledAttention,
        ConcatAttention,
        LocationAttention,
        MultiHeadAttention,
        LocalMonotonicAttention,
        LocalPredictiveAttention,
    ),
    arguments=("sizes",),
)


def check_equal_widths(sizes: Sizes, option: str, remedy: str) -> None:
    """Check that queries and states have one width, which their dot product needs.

    Raises:
        UserError: the widths differ; the message begins with `option` and ends with `remedy`.
    """
    if sizes.query != sizes.memory:
        raise UserError(
            f"{option} multiplies query and state, which need one width: decoder.hidden_size={sizes.query} is not "
            f"encoder.hidden_size={sizes.memory}: make them equal, or {remedy}"
        )


def additive_scores(
    query: Tensor, keys: Tensor, energy: Tensor, coverage: Tensor | None = None, column: Tensor | None = None
) -> Tensor:
    """Return energy . tanh(query + keys), or with coverage energy . tanh(query + keys + coverage column).

    The memory that it takes is bounded.

    Args:
        query: [B, T, A].
        keys: [B, S, A].
        energy: [A].
        coverage: [B, T, S].
        column: [A], what coverage is multiplied by.

    Returns:
        scores [B, T, S].
    """

    def score_part(part: Tensor, covered: Tensor | None = None) -> Tensor:
        hidden = part.unsqueeze(2) + keys.unsqueeze(1)
        if covered is not None and column is not None:
            hidden = hidden + covered.to(hidden.dtype).unsqueeze(-1) * column
        return torch.tanh(hidden) @ energy

    steps = max(1, ADDITIVE_LIMIT // max(1, keys.numel()))
    if steps >= query.shape[1]:
        return score_part(query, coverage)
    queries = query.split(steps, 1)
    covered = [None] * len(queries) if coverage is None else coverage.split(steps, 1)
    parts = [
        checkpoint(score_part, part, more, use_reentrant=False, preserve_rng_state=False)
        for part, more in zip(queries, covered, strict=True)
    ]
    return torch.cat(parts, 1)
