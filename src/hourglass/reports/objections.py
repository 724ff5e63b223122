"""What a reader who mistrusts the results of an ablation can object: limits that its own numbers show."""

from hourglass.analysis.evaluation import Evaluation
from hourglass.corpora.overlap import NGRAM
from hourglass.reports.sentences import say

# Seeds of a variant below which its spread is hardly known.
FEW_SEEDS = 5
# Share of the budget of a candidate of the search below which it may prefer a rate that only starts well.
SHORT_SEARCH = 0.5
# Score of the source as its own output, from which source and target are close.
CLOSE_LANGUAGES = 10.0


def list_objections(evaluation: Evaluation) -> list[str]:
    """Return the objections that hold for a corpus, a few sentences each, the gravest first."""
    objections = (_budget, _seeds, _search, _parameters, _languages, _overlap)
    return [text for objection in objections if (text := objection(evaluation))]


def _budget(evaluation: Evaluation) -> str:
    unfinished = {name: own.doubling for name, own in evaluation.variants.items() if own.converged is not True}
    if not unfinished:
        return ""
    return say(
        "objections",
        "budget",
        tokens=max(training.target_tokens for own in evaluation.variants.values() for training in own.seeds) / 1e6,
        unfinished=[name if own is None else f"{name} {100 * own.gain:z.1f} %" for name, own in unfinished.items()],
        gained=any(unfinished.values()),
    )


def _seeds(evaluation: Evaluation) -> str:
    counts = [len(own.seeds) for own in evaluation.variants.values()]
    if min(counts) >= FEW_SEEDS:
        return ""
    alone = [name for name, own in evaluation.variants.items() if len(own.seeds) == 1]
    return say("objections", "seeds", fewest=min(counts), most=max(counts), alone=alone)


def _search(evaluation: Evaluation) -> str:
    shares = [
        max(candidate.target_tokens for candidate in own.tuning.candidates if candidate.dropout is None)
        / own.seeds[0].target_tokens
        for own in evaluation.variants.values()
        if len(own.tuning.candidates) > 1
    ]
    if not shares:
        return say("objections", "unsearched")
    return say("objections", "short_search", share=max(shares)) if max(shares) < SHORT_SEARCH else ""


def _parameters(evaluation: Evaluation) -> str:
    sizes = {name: own.parameters for name, own in evaluation.variants.items()}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[least] == sizes[most]:
        return ""
    return say("objections", "parameters", most=most, least=least, sizes=sizes)


def _languages(evaluation: Evaluation) -> str:
    copied = copied_score(evaluation)
    return "" if copied is None else say("objections", "languages", copied=copied, unit=evaluation.metric.heading)


def copied_score(evaluation: Evaluation) -> float | None:
    """Return the score of the source as its own translation where it shows that the languages are close."""
    copied = next(iter(evaluation.variants.values())).copied
    return None if copied is None or copied < CLOSE_LANGUAGES else copied


def _overlap(evaluation: Evaluation) -> str:
    overlap = evaluation.corpus.overlap
    if overlap is None or not overlap["test"]["target"].sharing:
        return ""
    facts, rest = overlap["test"]["target"], evaluation.clean_part is not None
    return say("objections", "overlap", share=facts.sharing / facts.sentences, ngram=NGRAM, rest=rest)
