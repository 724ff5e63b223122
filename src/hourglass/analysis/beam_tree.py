"""The tree of a beam search: every continuation that its steps kept, finished or pruned.

This is the search of one sentence by one model, written to be looked at; `hourglass.decoding.search` is the one that
translates. Both return the same hypothesis (tests/analysis/test_beam_tree.py).

Shapes: K live hypotheses (one before the first step), V vocabulary, S source length.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.tokenizer import Tokenizer
from hourglass.decoding.search import SearchSettings, coverage_penalty, length_penalty
from hourglass.models.seq2seq import Seq2Seq

# The beam of a tree where the search of the run has none: of one hypothesis, there is no tree.
USUAL_BEAM = 5

# "kept": live at the next step. "finished": it ends the sentence, among the best K. "cut off": live at the limit of the
# length. "pruned": among the best 2K of its step, and none of these.
Fate = Literal["pruned", "kept", "finished", "cut off"]


# A page has a fate as its number here.
FATES: tuple[Fate, ...] = ("pruned", "kept", "finished", "cut off")


# Pruned branches of each step on a page.
PRUNED = 2


@dataclass(frozen=True)
class Branch:
    """A hypothesis and one piece more.

    Attributes:
        origin: the place of the hypothesis among those that the step before kept, best first; 0 at the first step.
        piece: its id.
        log_probability: of the whole, in nats.
        fate: what the step did with it.
        score: the log-probability with its penalties, of what is finished or cut off; None of others.
    """

    origin: int
    piece: int
    log_probability: float
    fate: Fate
    score: float | None = None


@dataclass(frozen=True)
class BeamTree:
    """A search, step by step.

    Attributes:
        beam: K.
        alpha: of the length penalty.
        steps: the branches of each step, best first.
    """

    beam: int
    alpha: float
    steps: list[list[Branch]]

    @property
    def leaves(self) -> list[tuple[int, int]]:
        """Step and place of the hypotheses that the search could return, best first: finished ones before others."""
        found = [
            (step, place)
            for step, branches in enumerate(self.steps)
            for place, branch in enumerate(branches)
            if branch.score is not None
        ]
        ranked = [(self.steps[step][place], step, place) for step, place in found]
        ranked.sort(key=lambda item: (item[0].fate != "finished", -float(item[0].score or 0.0)))
        return [(step, place) for _, step, place in ranked]

    def tokens(self, step: int, place: int) -> list[int]:
        """Return the pieces of a branch from the first on, without end-of-sentence."""
        pieces: list[int] = []
        while step >= 0:
            branch = self.steps[step][place]
            pieces.append(branch.piece)
            step -= 1
            if step >= 0:
                place = kept_places(self.steps[step])[branch.origin]
        return [piece for piece in reversed(pieces) if piece != EOS]


def kept_places(branches: Sequence[Branch]) -> list[int]:
    """Return the places of the branches that are live at the next step, which `Branch.origin` counts."""
    return [place for place, branch in enumerate(branches) if branch.fate in ("kept", "cut off")]


def of_a_tree(settings: SearchSettings) -> SearchSettings:
    """Return the search of a run as it is drawn: no sampling, in float32, and with a beam of 2 or more."""
    beam = settings.beam if settings.beam > 1 else USUAL_BEAM
    return replace(settings, beam=beam, temperature=0.0, precision=32)


def as_plain(tree: BeamTree, greedy: BeamTree, vocabulary: Tokenizer, readable: Callable[[str], str]) -> dict[str, Any]:
    """Return a tree as the explorer page reads it.

    Args:
        tree: of the search.
        greedy: of the same search with a beam of 1.
        vocabulary: of the target.
        readable: returns a piece, or a text, as the page shows it.
    """
    steps = [shown_branches(branches) for branches in tree.steps]
    step, place = greedy.leaves[0]
    alone = greedy.steps[step][place]
    return {
        "width": tree.beam,
        "alpha": tree.alpha,
        "steps": [
            [
                [one.origin, readable(piece), round(one.log_probability, 2), FATES.index(one.fate)]
                + ([] if one.score is None else [round(one.score, 3)])
                for one, piece in zip(branches, vocabulary.pieces([one.piece for one in branches]), strict=True)
            ]
            for branches in steps
        ],
        "found": [
            [readable(vocabulary.decode([tree.tokens(at, rank)])[0]), at, steps[at].index(tree.steps[at][rank])]
            for at, rank in tree.leaves[: tree.beam]
        ],
        "greedy": [
            readable(vocabulary.decode([greedy.tokens(step, place)])[0]),
            round(alone.log_probability, 2),
            round(float(alone.score or 0.0), 3),
            step + 1,
        ],
    }


def shown_branches(branches: Sequence[Branch]) -> list[Branch]:
    """Return the branches of a step without those that are pruned, but for the likeliest `PRUNED` of these."""
    pruned = [branch for branch in branches if branch.fate == "pruned"]
    return [branch for branch in branches if branch.fate != "pruned" or branch in pruned[:PRUNED]]


@torch.inference_mode()
def grow(model: Seq2Seq, source: Tensor, settings: SearchSettings) -> BeamTree:
    """Search for the translation of a sentence, and return all branches of the search.

    Args:
        model: in evaluation mode, in float32.
        source: ids [1, S], without padding, or features [1, S, numbers of a region].
        settings: of a search without sampling; its beam, limit, length penalty and coverage penalty count.
    """
    length = source.shape[1]
    memory = model.encode(source, torch.tensor([length]))
    prepared, state = model.decoder.attention.prepare(memory), model.decoder.start(memory)
    limit, alpha, beta = settings.limit(length), settings.length_penalty, settings.coverage_penalty
    live = torch.zeros(1)  # [K] log-probabilities
    last = torch.tensor([BOS])  # [K]
    coverage = torch.zeros(1, length)  # [K, S] sums of weights
    steps: list[list[Branch]] = []
    finished: list[float] = []
    for t in range(1, limit + 1):
        output, state, weights = model.decoder.step(model.embedding(last), state, prepared, t - 1)
        logits_KV = model.scores(model.with_copies(output, weights, memory.copyable))
        predictions_KV = logits_KV.log_softmax(-1)
        predictions_KV[:, [PAD, BOS]] = -math.inf  # Never in a translation.
        penalty = torch.zeros(len(live), dtype=torch.float64)
        if beta and weights is not None:
            coverage = coverage + weights
            penalty = coverage_penalty(coverage, memory.mask, beta).double()
        total = (live.unsqueeze(-1) + predictions_KV).flatten()
        best, flat = total.topk(min(2 * settings.beam, len(total)))
        seen = best.isfinite()
        best, rows, pieces = best[seen], flat[seen] // logits_KV.shape[1], flat[seen] % logits_KV.shape[1]
        with_penalties = (best.double() / length_penalty(t, alpha) + penalty[rows]).tolist()
        branches = _sort(best, rows, pieces, with_penalties, settings.beam, at_limit=t == limit)
        steps.append(branches)
        finished += [float(each.score or 0.0) for each in branches if each.fate == "finished"]
        chosen = torch.tensor(kept_places(branches), dtype=torch.long)
        if not len(chosen) or _is_over(float(best[chosen[0]]), finished, t, limit, settings):
            break
        live, last, coverage = best[chosen], pieces[chosen], coverage[rows[chosen]]
        state = state.select(rows[chosen])
    return BeamTree(settings.beam, alpha, steps)


def _sort(
    best: Tensor, rows: Tensor, pieces: Tensor, scores: Sequence[float], beam: int, *, at_limit: bool
) -> list[Branch]:
    """Return the best continuations of a step with their fates: of the best K those that end; K others go on."""
    branches: list[Branch] = []
    going_on = 0
    columns = zip(rows.tolist(), pieces.tolist(), best.tolist(), scores, strict=True)
    for place, (origin, piece, log_probability, score) in enumerate(columns):
        fate: Fate = "pruned"
        if piece == EOS:
            fate = "finished" if place < beam else "pruned"
        elif going_on < beam:
            fate = "cut off" if at_limit else "kept"
            going_on += 1
        ends = fate in ("finished", "cut off")
        branches.append(Branch(origin, piece, log_probability, fate, score if ends else None))
    return branches


def _is_over(best_live: float, finished: Sequence[float], t: int, limit: int, settings: SearchSettings) -> bool:
    """Tell whether the best live hypothesis, of t pieces, ends the search of one translation; see `search.n_best`."""
    if not finished:
        return False
    standing, reachable = (best_live / float(length_penalty(n, settings.length_penalty)) for n in (t, limit))
    full = len(finished) >= settings.beam and max(finished) >= standing
    return full or max(finished) >= reachable
