"""Greedy and beam search, n-best lists and sampling, for a whole batch, by one model or an ensemble.

Shapes: B sentences not yet finished, K beams (one before the first step), N = B*K rows, V vocabulary, S source length,
P longest prefix.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from hourglass.data.pieces import BOS, EOS, PAD, UNK
from hourglass.decoding.precision import SearchPrecision, check_precision
from hourglass.errors import UserError
from hourglass.models.attention import Attention, PreparedMemory
from hourglass.models.copying import Copyable
from hourglass.models.decoder import DecoderState
from hourglass.models.seq2seq import Seq2Seq

# The least coverage of a source position in the coverage penalty, which is a logarithm.
UNCOVERED = 1e-6

# Pieces of a block, in whose maxima the best continuations are looked for.
BLOCK = 64


@dataclass(frozen=True)
class SearchSettings:
    """The config group `search`.

    Attributes:
        beam: K; 1 is greedy search.
        temperature: 0: search. Above 0: each piece is sampled from p^(1/temperature), and beam is 1.
        length_penalty: alpha of Wu et al. 2016 (equation 14); 0: log-probabilities are compared as they are.
        coverage_penalty: beta of Wu et al. 2016 (equation 14); 0: none.
        replace_unknown: whether an unknown word is replaced by the source word with the largest weight (Luong et al.
            2015, section 4.2); for word vocabularies.
        output_ratio: output pieces allowed for each source piece.
        output_extra: output pieces allowed beside those.
        output_most: an absolute limit, so that one very long line cannot hold up all others.
        batch_tokens: source tokens of a batch (padded), times K.
        precision: 32: float32; bf16: bfloat16; int8: the decoder in 8-bit integers.

    Raises:
        UserError: options contradict each other.
    """

    beam: PositiveInt
    temperature: NonNegativeFloat
    length_penalty: Annotated[float, Field(ge=0)]
    coverage_penalty: NonNegativeFloat
    replace_unknown: bool
    output_ratio: Annotated[float, Field(gt=0)]
    output_extra: PositiveInt
    output_most: PositiveInt
    batch_tokens: PositiveInt
    precision: SearchPrecision = 32  # Older runs lack it.

    def __post_init__(self) -> None:
        if self.temperature and self.beam > 1:
            raise UserError(
                f"search.temperature={self.temperature} samples one translation: set search.beam=1, or "
                "search.temperature=0"
            )

    @property
    def greedy(self) -> "SearchSettings":
        """These settings with a beam of 1, no sampling and no replacement: how training decodes dev."""
        return replace(self, beam=1, temperature=0.0, coverage_penalty=0.0, replace_unknown=False)

    def check_attention(self, attention: Attention) -> None:
        """Check that the attention has weights if these settings need them.

        Raises:
            UserError: it has none.
        """
        for option, value in (("coverage_penalty", self.coverage_penalty), ("replace_unknown", self.replace_unknown)):
            if value and not attention.has_weights:
                off = "false" if option == "replace_unknown" else "0"
                raise UserError(
                    f"search.{option}={str(value).lower()} needs attention weights and attention={attention.name} "
                    f"has none: set search.{option}={off}"
                )

    def check_words(self, pieces: str) -> None:
        """Check that the pieces of the vocabularies are words if unknown words are to be replaced.

        Args:
            pieces: tokenizer.model.

        Raises:
            UserError: they are not.
        """
        if self.replace_unknown and pieces != "word":
            raise UserError(
                f"search.replace_unknown=true inserts whole words, and tokenizer.model={pieces} has none: set "
                "search.replace_unknown=false, or train with tokenizer=word"
            )

    def check_prefix(self, pieces: int, limit: int, name: str) -> None:
        """Check that a prefix leaves room for a piece, or for end-of-sentence.

        Args:
            pieces: of the prefix.
            limit: of the translation, see `limit`.
            name: what the message calls the sentence.

        Raises:
            UserError: it does not.
        """
        if pieces >= limit:
            option = "search.output_extra" if self.output_most > pieces else "search.output_most"
            raise UserError(
                f"{name}: the prefix has {pieces} pieces and the translation may have {limit}, end-of-sentence "
                f"included: shorten the prefix, or raise {option}"
            )

    def limit(self, source_tokens: int) -> int:
        """Return the most pieces, with end-of-sentence, of a translation of `source_tokens` tokens."""
        return min(math.ceil(self.output_ratio * source_tokens) + self.output_extra, self.output_most)


def check_source_words(search: SearchSettings) -> None:
    """Check that a search that reads features does not look for words of the source.

    Raises:
        UserError: it does.
    """
    if search.replace_unknown:
        raise UserError(
            "search.replace_unknown=true inserts words of the source, and features have none: set "
            "search.replace_unknown=false"
        )


class Hypothesis(NamedTuple):
    """A translation of one sentence."""

    tokens: list[int]  # with the prefix, without end-of-sentence
    log_probability: float  # nats, of the tokens after the prefix and, if finished, of end-of-sentence
    score: float  # log_probability / length penalty + coverage penalty
    finished: bool  # False: cut at the limit
    attended: list[int] | None = None  # the source position with the largest weight of each token


def length_penalty(length: int | Tensor, alpha: float) -> float | Tensor:
    """Return ((5 + length) / 6)^alpha (Wu et al. 2016, equation 14); `length` includes end-of-sentence."""
    return ((5 + length) / 6) ** alpha


def coverage_penalty(coverage: Tensor, mask: Tensor, beta: float) -> Tensor:
    """Return beta * sum over source positions of log(min(coverage, 1)) (Wu et al. 2016, equation 14).

    Args:
        coverage: the sum of a hypothesis' weights at each position, [..., S].
        mask: [..., S], True at real positions, end-of-sentence included.
        beta: 0: no penalty.
    """
    return beta * coverage.clamp(UNCOVERED, 1.0).log().masked_fill(~mask, 0.0).sum(-1)


def search(
    model: Seq2Seq,
    source: Tensor,
    lengths: Tensor,
    settings: SearchSettings,
    *,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[Hypothesis]:
    """Return the best translation of each sentence by one model; for the arguments see `n_best`."""
    return [best for best, *_ in n_best([model], source, lengths, settings, 1, prefixes=prefixes)]


@torch.inference_mode()
def n_best(
    models: Sequence[Seq2Seq],
    source: Tensor,
    lengths: Tensor,
    settings: SearchSettings,
    count: int,
    *,
    prefixes: Sequence[Sequence[int]] | None = None,
) -> list[list[Hypothesis]]:
    """Find the best translations of each sentence.

    At each step, the best K continuations of a sentence that do not end it stay live; those among its best K that end
    it are finished. A sentence leaves the search

    - when K hypotheses have finished and the best live one, at its present length and without coverage penalty, scores
      below the last of the list (of `count`);
    - when no live hypothesis can reach the list any more;
    - at its limit, where the best live ones fill the list if too few have finished.

    With K = 1 this is greedy search.

    K finished hypotheses alone are no reason to stop: a model that is sure of every word finds all alternatives
    equally unlikely, an early end among them, and K early ends fill the list before the good translation is complete.

    A translation may have to begin with a prefix. The decoder reads it as if it had chosen it, at no cost: neither the
    log-probability nor the length of the length penalty counts it, so that the search is one over continuations. The
    limit and the coverage penalty are of the whole translation.

    Args:
        models: in evaluation mode, of one vocabulary, and in `settings.precision` (`in_precision`); the probability of
            a piece is the mean over models.
        source: ids [B, S].
        lengths: [B].
        settings: of the search.
        count: translations of each sentence, at most K.
        prefixes: B lists of ids that the translations begin with, without special ones but UNK; None: all are empty.

    Returns:
        B lists of `count` hypotheses, best first; fewer where the vocabulary allows fewer.

    Raises:
        UserError: a prefix leaves no piece to search for before the limit.
    """
    check_precision(models, settings.precision)
    limits = [settings.limit(int(n)) for n in lengths]
    if prefixes is not None:
        for prefix, limit in zip(prefixes, limits, strict=True):
            settings.check_prefix(len(prefix), limit, "a sentence")
    beam, alpha = settings.beam, settings.length_penalty
    results: list[list[Hypothesis]] = [[] for _ in range(len(source))]
    memories = [model.encode(source, lengths) for model in models]
    prepared = [model.decoder.attention.prepare(memory) for model, memory in zip(models, memories, strict=True)]
    states = [model.decoder.start(memory) for model, memory in zip(models, memories, strict=True)]
    copyable = next((memory.copyable for memory in memories if memory.copyable is not None), None)
    now = _start(memories[0].mask, limits, settings, prefixes)

    t = 0
    while len(now.sentence):
        last = now.tokens[:, :, -1].flatten()
        predictions, states, weights = _step(models, last, states, prepared, t, copyable=copyable)
        t += 1
        width = now.live.shape[1]
        if weights is not None:
            weights = weights.view(*now.live.shape, -1)
            now = now._replace(attended=torch.cat([now.attended, weights.argmax(-1, keepdim=True)], -1))
            if settings.coverage_penalty:
                now = now._replace(coverage=now.coverage + weights)
        penalty = None
        if settings.coverage_penalty:
            penalty = coverage_penalty(now.coverage, now.mask, settings.coverage_penalty).double()
        score, origin, token = _continue(now.live, predictions, settings)  # each [B, 2K]
        if t <= now.prefix.shape[1]:
            score, origin, token = _force(now, t, score, origin, token)
        ends = token == EOS
        scored = now.scored(t)

        _add_finished(results, now, _Ranked(scored, score, origin, ends, penalty), settings, count)

        # Live: the best K that do not.
        live, kept = score.masked_fill(ends, -math.inf).topk(min(beam, score.shape[1]), -1)
        origin, token = origin.gather(1, kept), token.gather(1, kept)
        now = now._replace(
            live=live,
            tokens=torch.cat([_of_rows(now.tokens, origin), token.unsqueeze(-1)], -1),
            attended=_attended_to(now.attended, origin, token, weights, copyable),
            coverage=_of_rows(now.coverage, origin),
        )
        at_limit = t >= now.limit
        _add_cut_off(results, now, at_limit, _penalised(live, penalty, origin, scored, alpha), count)

        # The bound on a live hypothesis: its log-probability only falls, its length penalty rises to that of the limit,
        # and its coverage penalty to 0.
        best_live = live[:, :1].double()
        reachable = (best_live / length_penalty(now.scored(now.limit), alpha)).squeeze(1)
        standing = (best_live / length_penalty(scored, alpha)).squeeze(1)
        full = (now.finished >= beam) & (now.worst >= standing)
        leave = at_limit | full | (now.worst >= reachable) | live[:, 0].isinf()
        stay = _close_up(leave)
        if width > 1 or live.shape[1] > 1 or len(stay) < len(now.sentence):  # Otherwise all rows stay where they are.
            rows = (stay.unsqueeze(1) * width + origin[stay]).flatten()
            states = [state.select(rows) for state in states]
        if len(stay) < len(now.sentence):
            prepared = [memory.keep_sentences(stay) for memory in prepared]
            copyable = copyable and copyable.select(stay)
            now = _Beams(*(part[stay] for part in now))
    # A model whose weights have become NaN has no hypothesis.
    return [best or [Hypothesis([], -math.inf, -math.inf, False)] for best in results]


def _attended_to(
    attended: Tensor, origin: Tensor, token: Tensor, weights: Tensor | None, copyable: Copyable | None
) -> Tensor:
    """Return the source positions that the rows that go on attended to, [B, K, t].

    Where a model copies and the last piece is UNK, its position is that of the unknown piece of the source that has
    most weight: a vocabulary that is extended by the unknown words of a source (See et al. 2017, section 2.2) can copy
    these alone in its place. A source without any has the position of the largest weight.

    Args:
        attended: [B, K', t].
        origin: [B, K], the rows that go on.
        token: [B, K], their last pieces.
        weights: [B, K', S], of the last step; None: the attention has none.
        copyable: of the sources; None: no model copies.
    """
    attended = _of_rows(attended, origin)
    if weights is None or copyable is None:
        return attended
    unknown = (copyable.pieces == UNK).unsqueeze(1)  # [B, 1, S]
    most = _of_rows(weights, origin).masked_fill(~unknown, -1.0).argmax(-1)
    last = torch.where((token == UNK) & unknown.any(-1), most, attended[..., -1])
    return torch.cat([attended[..., :-1], last.unsqueeze(-1)], -1)


class _Beams(NamedTuple):
    """The state of a search: B sentences of K rows."""

    sentence: Tensor  # [B] index into the batch as given
    mask: Tensor  # [B, 1, S] of the source
    limit: Tensor  # [B] pieces
    live: Tensor  # [B, K] log-probabilities
    tokens: Tensor  # [B, K, t+1]
    attended: Tensor  # [B, K, t] source positions; [B, K, 0] without weights
    coverage: Tensor  # [B, K, S] sums of weights; [B, K, 0] without coverage penalty
    finished: Tensor  # [B] number of finished hypotheses
    worst: Tensor  # [B] the last score of a full list; -inf before
    prefix: Tensor  # [B, P] ids that the tokens begin with, padded on the right; [B, 0] without prefixes
    prefix_lengths: Tensor  # [B]

    def scored(self, t: int | Tensor) -> int | Tensor:
        """Return how many of t pieces the length penalty counts: those after the prefix, [B, 1], or all of them.

        Args:
            t: pieces of every sentence, or of each, [B].
        """
        if self.prefix.shape[1] == 0:
            return t if isinstance(t, int) else t.unsqueeze(1)
        return (t - self.prefix_lengths).clamp(min=0).double().unsqueeze(1)


class _Ranked(NamedTuple):
    """The best 2K continuations of each sentence, best first."""

    length: int | Tensor  # pieces of each that the length penalty counts; [B, 1] where they differ
    score: Tensor  # [B, 2K] log-probabilities
    origin: Tensor  # [B, 2K] the row of each
    ends: Tensor  # [B, 2K] bool, those that end the sentence
    penalty: Tensor | None  # [B, K] the coverage penalty of each row


def _penalised(score: Tensor, penalty: Tensor | None, origin: Tensor, length: int | Tensor, alpha: float) -> Tensor:
    """Return scores in float64 with length penalty, and with the coverage penalty [B, K] of their rows of origin."""
    scored = score.double() / length_penalty(length, alpha)
    return scored if penalty is None else scored + penalty.gather(1, origin)


def _add_finished(
    results: list[list[Hypothesis]], now: "_Beams", best: _Ranked, settings: SearchSettings, count: int
) -> None:
    """Add the finished hypotheses: those of the best K that end.

    They are read from lists: to index a tensor for each of them would take longer.
    """
    ending = best.ends[:, : settings.beam] & best.score[:, : settings.beam].isfinite()
    places = ending.nonzero().tolist()
    if not places:
        return
    numbers, scores, origins = now.sentence.tolist(), best.score.tolist(), best.origin.tolist()
    scored = _penalised(best.score, best.penalty, best.origin, best.length, settings.length_penalty).tolist()
    worst: dict[int, float] = {}
    for b, k in places:
        tokens, attended = _row(now, b, origins[b][k])
        finished = Hypothesis(tokens, scores[b][k], scored[b][k], True, attended)
        kept = _keep(results[numbers[b]], finished, count)
        if len(kept) == count:
            worst[b] = kept[-1].score
    now.finished.add_(ending.sum(1))
    if worst:
        now.worst[list(worst)] = now.worst.new_tensor(list(worst.values()))


def _add_cut_off(
    results: list[list[Hypothesis]], now: "_Beams", at_limit: Tensor, standing: Tensor, count: int
) -> None:
    """Fill the lists of sentences that are at their limit and have too few finished hypotheses.

    Args:
        results: the lists of all sentences.
        now: the search after this step.
        at_limit: [B] bool.
        standing: [B, K] the penalised scores of the live hypotheses.
        count: of hypotheses in a list.
    """
    for b in (at_limit & now.worst.isinf()).nonzero().flatten().tolist():
        best = results[int(now.sentence[b])]
        for k in standing[b].argsort(descending=True).tolist():
            if len(best) < count and now.live[b, k].isfinite():
                tokens, attended = _row(now, b, k)
                cut_off = Hypothesis(tokens, float(now.live[b, k]), float(standing[b, k]), False, attended)
                _keep(best, cut_off, count)


def _start(
    mask: Tensor, limits: list[int], settings: SearchSettings, prefixes: Sequence[Sequence[int]] | None
) -> _Beams:
    count, longest = mask.shape
    forced = [list(prefix) for prefix in prefixes] if prefixes is not None else [[]] * count
    most = max(map(len, forced), default=0)
    live = torch.zeros(count, 1, device=mask.device)
    tokens = torch.full((count, 1, 1), BOS, device=mask.device)
    return _Beams(
        sentence=torch.arange(count, device=mask.device),
        mask=mask.unsqueeze(1),
        limit=torch.tensor(limits, device=mask.device),
        live=live,
        tokens=tokens,
        attended=tokens[..., 1:],
        coverage=live.new_zeros(count, 1, longest if settings.coverage_penalty else 0),
        finished=torch.zeros(count, dtype=torch.long, device=mask.device),
        worst=torch.full((count,), -math.inf, device=mask.device, dtype=torch.float64),
        prefix=torch.tensor([ids + [PAD] * (most - len(ids)) for ids in forced], device=mask.device).view(count, most),
        prefix_lengths=torch.tensor([len(ids) for ids in forced], device=mask.device),
    )


def _force(now: _Beams, t: int, score: Tensor, origin: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Replace the continuations [B, 2K] of sentences whose piece t, from 1, is of the prefix: one is left, at no cost.

    Its row of origin is the first, the only live one of a sentence that is still in its prefix.
    """
    inside = (t <= now.prefix_lengths).unsqueeze(1)
    only = torch.full_like(score, -math.inf)
    only[:, 0] = now.live[:, 0]
    return (
        torch.where(inside, only, score),
        origin.masked_fill(inside, 0),
        torch.where(inside, now.prefix[:, t - 1 : t], token),
    )


def _continue(live: Tensor, predictions: Tensor, settings: SearchSettings) -> tuple[Tensor, Tensor, Tensor]:
    """Return the score, the row of origin and the piece of the best 2K continuations, each [B, 2K]; greedy: [B, 1]."""
    predictions = predictions.view(*live.shape, -1)  # [B, K, V]
    for never in (PAD, BOS):  # Never part of a translation. (A list of them would be made a tensor at every step.)
        predictions[..., never] = -math.inf
    if settings.temperature:
        piece = torch.multinomial((predictions[:, 0] / settings.temperature).softmax(-1), 1)
        return live + predictions[:, 0].gather(1, piece), torch.zeros_like(piece), piece
    if settings.beam == 1 and not settings.coverage_penalty:
        # Without penalties, the best continuation is enough: if it ends the sentence, that is the translation.
        top, piece = predictions[:, 0].max(-1, keepdim=True)
        return live + top, torch.zeros_like(piece), piece
    # 2K, as at most K of them end the sentence: K that continue it are always among them.
    return _best_continuations(live, predictions, min(2 * settings.beam, live.shape[1] * predictions.shape[-1]))


def _best_continuations(live: Tensor, predictions: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the score, the row and the piece of the best continuations of each sentence, best first, [B, count] each.

    The best `count` lie in the `count` blocks of pieces with the best maxima. To find them there takes a fraction of
    the time of `topk` over all rows and pieces.

    Args:
        live: the log-probability of each row, [B, K].
        predictions: the log-probability of each piece after each row, [B, K, V].
        count: at most K*V.
    """
    vocabulary = predictions.shape[-1]
    parts = predictions.split([vocabulary - vocabulary % BLOCK, vocabulary % BLOCK], -1)
    maxima = [parts[0].unflatten(-1, (-1, BLOCK)).amax(-1)] if vocabulary >= BLOCK else []
    if vocabulary % BLOCK:
        maxima.append(parts[1].amax(-1, keepdim=True))
    blocks = live.unsqueeze(-1) + torch.cat(maxima, -1)  # [B, K, V / BLOCK, rounded up]
    best = blocks.flatten(1).topk(min(count, blocks[0].numel()), -1).indices  # [B, at most count]
    row, first = best // blocks.shape[-1], best % blocks.shape[-1] * BLOCK
    pieces = first.unsqueeze(-1) + torch.arange(BLOCK, device=live.device)  # [B, count, BLOCK]
    beyond = pieces >= vocabulary  # In a last block that is not full.
    pieces = pieces.clamp(max=vocabulary - 1)
    flat = (row.unsqueeze(-1) * vocabulary + pieces).flatten(1)
    scores = live.gather(1, row).unsqueeze(-1) + predictions.flatten(1).gather(1, flat).view_as(pieces)
    score, place = scores.masked_fill(beyond, -math.inf).flatten(1).topk(count, -1)
    return score, row.gather(1, place // BLOCK), pieces.flatten(1).gather(1, place)


def _close_up(leave: Tensor) -> Tensor:
    """Return the indices [B'] of the sentences that do not `leave` [B].

    Those beyond the first B' take the places of sentences that leave. All others stay in place: little is copied.
    """
    remaining = len(leave) - int(leave.sum())
    stay = torch.arange(remaining, device=leave.device)
    stay[leave[:remaining]] = (~leave[remaining:]).nonzero().flatten() + remaining
    return stay


def _row(now: _Beams, b: int, k: int) -> tuple[list[int], list[int] | None]:
    """Return the pieces of row k of sentence b, and the source position that each attended to."""
    tokens = now.tokens[b, k, 1:].tolist()
    return tokens, now.attended[b, k, : len(tokens)].tolist() if now.attended.shape[-1] else None


def _keep(best: list[Hypothesis], hypothesis: Hypothesis, count: int) -> list[Hypothesis]:
    """Add a hypothesis to a list of at most `count`, finished ones first, and return the list."""
    best.append(hypothesis)
    best.sort(key=lambda each: (-each.finished, -each.score))
    del best[count:]
    return best


def _step(
    models: Sequence[Seq2Seq],
    last: Tensor,
    states: list[DecoderState],
    prepared: list[PreparedMemory],
    t: int,
    *,
    copyable: Copyable | None,
) -> tuple[Tensor, list[DecoderState], Tensor | None]:
    """Advance all models by one piece.

    Returns:
        log-probabilities [N, V] of the mean over models, the states after the step, and the mean weights [N, S].
    """
    pieces, rows = last.unique(return_inverse=True)  # Many rows have the same last piece.
    predictions, after, all_weights = [], [], []
    for model, state, memory in zip(models, states, prepared, strict=True):
        output, state_after, weights = model.decoder.step(model.embedding(pieces), state, memory, t, rows=rows)
        scores = model.scores(model.with_copies(output, weights, copyable))
        predictions.append(scores.to(torch.promote_types(scores.dtype, torch.float32)).log_softmax(-1))
        after.append(state_after)
        if weights is not None:
            all_weights.append(weights.to(torch.promote_types(weights.dtype, torch.float32)))
    mean = predictions[0]
    if len(models) > 1:
        mean = torch.stack(predictions).logsumexp(0) - math.log(len(models))
    return mean, after, torch.stack(all_weights).mean(0) if all_weights else None


def _of_rows(values: Tensor, origin: Tensor) -> Tensor:
    """Return `values` [B, K, ...] in the order of rows `origin` [B, K]."""
    return values.gather(1, origin.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
