"""Attention: what the decoder sees of the source at each step. The one thing that most ablations change.

Shapes: B batch, T queries (target steps in one pass; beams of one sentence in search), S source length,
H query width, M memory width, D summary width, C context width, A width of keys.

To add a variant, subclass `ScoredAttention`, write `scores`, give it a name and a file conf/attention/NAME.yaml.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hourglass.errors import UserError
from hourglass.models.encoder import Memory

# Additive scores of T queries build [B, T, S, A]: above so many elements T is cut and each cut computed again in the
# backward pass, so that memory stays bounded.
ADDITIVE_LIMIT = 2**26


class Prepared(NamedTuple):
    """A memory with what can be computed from it once for all steps."""

    states: Tensor  # [B, S, M]
    keys: Tensor  # [B, S, A], the states as the score wants them
    mask: Tensor  # [B, S] bool
    lengths: Tensor  # [B]
    summary: Tensor  # [B, D]

    def close_up(self, index: Tensor) -> "Prepared":
        """Keep the sentences `index` [B'], B' at most B, and lose the others: in place, only what moves is copied."""
        moves = (index != torch.arange(len(index), device=index.device)).nonzero().flatten()

        def moved(part: Tensor) -> Tensor:
            part[moves] = part[index[moves]]
            return part[: len(index)]

        states = moved(self.states)
        keys = states if self.keys is self.states else moved(self.keys)
        return Prepared(states, keys, *(part.index_select(0, index) for part in self[2:]))


class Attention(nn.Module):
    """Base of all variants.

    Class attributes: `name` as in conf/attention; `reads_query`: whether the context depends on the decoder's state;
    `has_weights`: whether it weighs source positions.
    Instance attributes: `context_size`, C; `longest_source`, the most positions it can weigh, None where there is no
    such limit.

    Args:
        query_size: H, width of the decoder state that asks.
        memory_size: M.
        summary_size: D.
    """

    name: str
    reads_query = True
    has_weights = True
    context_size: int
    longest_source: int | None = None

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int):
        super().__init__()
        self.query_size, self.memory_size, self.summary_size = query_size, memory_size, summary_size

    def check_length(self, longest: int, where: str) -> None:
        """See that a source of `longest` tokens can be attended to.

        Args:
            longest: tokens, with end-of-sentence.
            where: what the sentence is of, for messages: train, dev, ...

        Raises:
            UserError: it cannot.
        """

    def prepare(self, memory: Memory) -> Prepared:
        """Compute once what all steps share. Returned, never kept on the module."""
        return Prepared(memory.states, self.keys(memory.states), memory.mask, memory.lengths, memory.summary)

    def keys(self, states: Tensor) -> Tensor:
        """Return the keys [B, S, A] of states [B, S, M]."""
        return states

    def forward(self, query: Tensor, prepared: Prepared, steps: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the context [B, T, C] and the weights [B, T, S] (None where there are none).

        Args:
            query: [B, T, H].
            prepared: of the B sentences.
            steps: [T], the target position of each query, from 0 (all the same when T counts beams).
        """
        raise NotImplementedError


class NoAttention(Attention):
    """No context at all: the summary only starts the decoder (Sutskever et al. 2014)."""

    name = "none"
    reads_query = False
    has_weights = False
    context_size = 0

    def forward(self, query: Tensor, prepared: Prepared, steps: Tensor) -> tuple[Tensor, None]:
        """See `Attention.forward`; C is 0."""
        return query.new_zeros(*query.shape[:2], 0), None


class FixedContext(Attention):
    """The summary at every step (Cho et al. 2014, section 2.2).

    Args:
        width: C, which one linear map takes the summary to, so that D may be swept while the decoder stays as it is;
            0: the context is the summary itself.
    """

    name = "fixed"
    reads_query = False
    has_weights = False

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int, width: NonNegativeInt = 0):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.context_size = width or summary_size
        self.widen = nn.Linear(summary_size, width) if width else None

    def forward(self, query: Tensor, prepared: Prepared, steps: Tensor) -> tuple[Tensor, None]:
        """See `Attention.forward`."""
        context = self.widen(prepared.summary) if self.widen else prepared.summary
        return context.unsqueeze(1).expand(-1, query.shape[1], -1), None


class ScoredAttention(Attention):
    """Softmax of scores, then the weighted sum of the states (Bahdanau et al. 2014, equations 5 and 6)."""

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        if memory_size == 0:
            raise UserError(
                f"attention={self.name} reads encoder states and encoder=blind has none: set attention=none"
            )
        self.context_size = memory_size

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """Return the scores [B, T, S] of queries [B, T, H]; padding need not be minded."""
        raise NotImplementedError

    def forward(self, query: Tensor, prepared: Prepared, steps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`; C is M."""
        weights = self.normalise(self.scores(query, prepared), self.window(query, prepared, steps))
        return weights @ prepared.states, weights

    def window(self, query: Tensor, prepared: Prepared, steps: Tensor) -> Tensor:
        """Return the positions that may be attended to, [B, 1 or T, S] bool."""
        return prepared.mask.unsqueeze(1)

    @staticmethod
    def normalise(scores: Tensor, allowed: Tensor) -> Tensor:
        """Softmax over the allowed positions, in float32 or wider as 16 bits lose the small weights."""
        masked = scores.to(torch.promote_types(scores.dtype, torch.float32)).masked_fill(~allowed, float("-inf"))
        return masked.softmax(-1).to(scores.dtype)


class MeanAttention(ScoredAttention):
    """Uniform weights: a control between one vector and a chosen one. C is M, nothing is chosen."""

    name = "mean"
    reads_query = False

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return query.new_zeros(*query.shape[:2], prepared.mask.shape[1])


class BahdanauAttention(ScoredAttention):
    """score = v . tanh(W q + U k) (Bahdanau et al. 2014, appendix A.1.2).

    Args:
        size: A, width of the hidden layer.
    """

    name = "bahdanau"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int, size: PositiveInt):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.query_layer = nn.Linear(query_size, size, bias=False)
        self.key_layer = nn.Linear(memory_size, size, bias=False)
        self.energy = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))

    def keys(self, states: Tensor) -> Tensor:
        """U k."""
        return self.key_layer(states)

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return additive_scores(self.query_layer(query), prepared.keys, self.energy)


class NormedBahdanauAttention(BahdanauAttention):
    """score = g v/|v| . tanh(W q + U k + b): weight-normalised (Salimans and Kingma 2016; TensorFlow NMT).

    Args:
        size: A, width of the hidden layer.
    """

    name = "bahdanau_normed"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int, size: PositiveInt):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size, size=size)
        self.scale = nn.Parameter(torch.tensor(size**-0.5))
        self.bias = nn.Parameter(torch.zeros(size))

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        energy = self.scale * self.energy / self.energy.norm()
        return additive_scores(self.query_layer(query) + self.bias, prepared.keys, energy)


class DotAttention(ScoredAttention):
    """score = q . k (Luong et al. 2015, section 3.1)."""

    name = "luong_dot"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        need_equal_widths(f"attention={self.name}", query_size, memory_size, "use attention=luong_general")

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return query @ prepared.keys.mT


class GeneralAttention(ScoredAttention):
    """score = q . W k (Luong et al. 2015, section 3.1)."""

    name = "luong_general"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.key_layer = nn.Linear(memory_size, query_size, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        """W k."""
        return self.key_layer(states)

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return query @ prepared.keys.mT


class ScaledAttention(GeneralAttention):
    """score = g q . W k with one learned g (TensorFlow NMT's scaled_luong, whose memory layer is W)."""

    name = "luong_scaled"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.scale = nn.Parameter(torch.tensor(1.0))

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return self.scale * super().scores(query, prepared)


class ConcatAttention(BahdanauAttention):
    """score = v . tanh(W [q; k]) (Luong et al. 2015, section 3.1).

    W [q; k] = W_q q + W_k k, so this is Bahdanau's score; the published systems differ in the order of the step (the
    decoder's `query`), and so do the two configs.

    Args:
        size: A, width of the hidden layer.
    """

    name = "luong_concat"


class LocationAttention(ScoredAttention):
    """score = W q, one row of W for each source position (Luong et al. 2015, section 3.1).

    Args:
        longest_source: how many positions W has, in tokens with end-of-sentence; longer input is refused.
    """

    name = "luong_location"

    def __init__(self, *, query_size: int, memory_size: int, summary_size: int, longest_source: PositiveInt):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.longest_source: int = longest_source
        self.position_layer = nn.Linear(query_size, longest_source, bias=False)

    def check_length(self, longest: int, where: str) -> None:
        """See `Attention.check_length`."""
        if longest > self.longest_source:
            raise UserError(
                f"attention={self.name} has {self.longest_source} source positions and a sentence of {where} has "
                f"{longest} tokens: set attention.longest_source={longest} or more and train again"
            )

    def prepare(self, memory: Memory) -> Prepared:
        """See `Attention.prepare`.

        Raises:
            UserError: a source sentence is longer than W has positions.
        """
        self.check_length(memory.mask.shape[1], "the input")
        return super().prepare(memory)

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """See `ScoredAttention.scores`."""
        return self.position_layer(query)[..., : prepared.mask.shape[1]]


ContentScore = Literal["dot", "general"]  # those of the paper's local systems (table 4)


CONTENT_SCORES: dict[ContentScore, type[ScoredAttention]] = {"dot": DotAttention, "general": GeneralAttention}


class LocalMonotonicAttention(ScoredAttention):
    """local-m: softmax over a window round the step's own position (Luong et al. 2015, section 3.2).

    The centre is the target position, clamped to the sentence. Memory keeps the source's own order, so with
    `encoder.reverse_source` too the centre of step t is source token t.

    Args:
        score: the content score inside the window: dot or general.
        window: D in the paper; positions within this distance of the centre are attended to.
    """

    name = "luong_local_m"

    def __init__(
        self,
        *,
        query_size: int,
        memory_size: int,
        summary_size: int,
        score: ContentScore,
        window: PositiveInt,
    ):
        super().__init__(query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        if score == "dot":
            option = f"attention={self.name} with attention.score=dot"
            need_equal_widths(option, query_size, memory_size, "set attention.score=general")
        self.content = CONTENT_SCORES[score](query_size=query_size, memory_size=memory_size, summary_size=summary_size)
        self.half_width = window

    def keys(self, states: Tensor) -> Tensor:
        """Those of the content score."""
        return self.content.keys(states)

    def scores(self, query: Tensor, prepared: Prepared) -> Tensor:
        """Those of the content score."""
        return self.content.scores(query, prepared)

    def centre(self, query: Tensor, prepared: Prepared, steps: Tensor) -> Tensor:
        """Return the centre of each query's window, [B, T] in source positions, exact where `query` is in 16 bits."""
        return torch.minimum(steps, prepared.lengths.unsqueeze(1) - 1)

    def distance(self, query: Tensor, prepared: Prepared, steps: Tensor) -> Tensor:
        """Return the signed distance of each source position from each query's centre, [B, T, S]."""
        position = torch.arange(prepared.mask.shape[1], device=query.device)
        return position - self.centre(query, prepared, steps).unsqueeze(-1)

    def window(self, query: Tensor, prepared: Prepared, steps: Tensor) -> Tensor:
        """See `ScoredAttention.window`."""
        near = self.distance(query, prepared, steps).abs() <= self.half_width
        return near & prepared.mask.unsqueeze(1)


class LocalPredictiveAttention(LocalMonotonicAttention):
    """local-p: a window round a predicted centre, with a Gaussian (Luong et al. 2015, equations 9 and 10).

    The centre is S sigmoid(v . tanh(W q)). The Gaussian, of deviation D/2, multiplies the weights after the softmax
    and they are not normalised again.

    Args:
        score: the content score inside the window: dot or general.
        size: width of the predictor's hidden layer.
        window: D in the paper.
    """

    name = "luong_local_p"

    def __init__(
        self,
        *,
        query_size: int,
        memory_size: int,
        summary_size: int,
        score: ContentScore,
        size: PositiveInt,
        window: PositiveInt,
    ):
        super().__init__(
            query_size=query_size,
            memory_size=memory_size,
            summary_size=summary_size,
            score=score,
            window=window,
        )
        self.predictor = nn.Sequential(
            nn.Linear(query_size, size, bias=False), nn.Tanh(), nn.Linear(size, 1, bias=False)
        )

    def centre(self, query: Tensor, prepared: Prepared, steps: Tensor) -> Tensor:
        """See `LocalMonotonicAttention.centre`."""
        share = self.predictor(query).squeeze(-1)  # bfloat16 holds whole positions only up to 256.
        return prepared.lengths.unsqueeze(1) * share.to(torch.promote_types(share.dtype, torch.float32)).sigmoid()

    def forward(self, query: Tensor, prepared: Prepared, steps: Tensor) -> tuple[Tensor, Tensor]:
        """See `Attention.forward`."""
        distance = self.distance(query, prepared, steps)
        allowed = (distance.abs() <= self.half_width) & prepared.mask.unsqueeze(1)
        deviation = self.half_width / 2
        gaussian = torch.exp(-(distance**2) / (2 * deviation**2))
        weights = self.normalise(self.scores(query, prepared), allowed) * gaussian.to(query.dtype)
        return weights @ prepared.states, weights


ATTENTIONS: dict[str, type[Attention]] = {
    kind.name: kind
    for kind in (
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
        LocalMonotonicAttention,
        LocalPredictiveAttention,
    )
}


def need_equal_widths(option: str, query_size: int, memory_size: int, remedy: str) -> None:
    """Raise UserError unless queries and states can be multiplied as they are."""
    if query_size != memory_size:
        raise UserError(
            f"{option} multiplies states of one width, and decoder.hidden_size={query_size} is not "
            f"encoder.hidden_size={memory_size}: make them equal, or {remedy}"
        )


def additive_scores(query: Tensor, keys: Tensor, energy: Tensor) -> Tensor:
    """Return energy . tanh(query + keys), [B, T, S], of query [B, T, A], keys [B, S, A] and energy [A]."""

    def block(part: Tensor) -> Tensor:
        return torch.tanh(part.unsqueeze(2) + keys.unsqueeze(1)) @ energy

    steps = max(1, ADDITIVE_LIMIT // max(1, keys.numel()))
    if steps >= query.shape[1]:
        return block(query)
    parts = [checkpoint(block, part, use_reentrant=False, preserve_rng_state=False) for part in query.split(steps, 1)]
    return torch.cat(parts, 1)
