"""What a reader who mistrusts the results of an ablation can object: limits that its own numbers show."""

from hourglass.analysis.evaluation import Evaluation
from hourglass.corpora.overlap import NGRAM
from hourglass.reports.phrases import listing

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
    gains = {
        name: f"{name} {100 * own.doubling.gain:.1f} %" if own.doubling is not None else name
        for name, own in evaluation.variants.items()
        if own.converged is not True
    }
    if not gains:
        return ""
    tokens = max(training.target_tokens for own in evaluation.variants.values() for training in own.seeds)
    gained = (
        " (by how much doubling the budget lowered the dev loss)" if any("%" in item for item in gains.values()) else ""
    )
    return (
        f"The budget. After {tokens / 1e6:.1f} million target tokens these had not converged, or it cannot be told: "
        f"{listing(list(gains.values()))}{gained}. A difference from them is one of learning within the budget, and "
        "says nothing of what the architecture can reach."
    )


def _seeds(evaluation: Evaluation) -> str:
    fewest = min(len(own.seeds) for own in evaluation.variants.values())
    if fewest >= FEW_SEEDS:
        return ""
    alone = [name for name, own in evaluation.variants.items() if len(own.seeds) == 1]
    text = f"Seeds. The variants have {fewest} or more: " if fewest > 1 else "Seeds. "
    if alone:
        return f"{text}{listing(alone)} {'has' if len(alone) == 1 else 'have'} one, and no spread of its own."
    return f"{text}the spread over trainings is estimated from so few, and its intervals lean on Student's t."


def _search(evaluation: Evaluation) -> str:
    shares = [
        max(candidate.target_tokens for candidate in own.tuning.candidates) / own.seeds[0].target_tokens
        for own in evaluation.variants.values()
        if len(own.tuning.candidates) > 1
    ]
    if not shares:
        return "The search. No setting was searched: a variant may be far from its best."
    if max(shares) >= SHORT_SEARCH:
        return ""
    return (
        f"The search. Each variant's learning rate was chosen by runs of {100 * max(shares):.0f} % of the budget, with "
        "the first seed. A rate that starts well need not end well, and a variant that learns late is judged before it "
        "has begun. Widths, dropout and batches were not searched."
    )


def _parameters(evaluation: Evaluation) -> str:
    sizes = {name: own.parameters for name, own in evaluation.variants.items()}
    least, most = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    if sizes[least] == sizes[most]:
        return ""
    return (
        f"Parameters. {most} has {100 * (sizes[most] / sizes[least] - 1):.0f} % more than {least} ({sizes[most]:,} and "
        f"{sizes[least]:,}): the variants differ in their sizes, too."
    )


def _languages(evaluation: Evaluation) -> str:
    copied = next(iter(evaluation.variants.values())).copied
    if copied is None or copied < CLOSE_LANGUAGES:
        return ""
    return (
        f"The task. The source as its own translation has {copied:.1f} {evaluation.metric.heading}: much of a "
        "reference can be copied, which favours a decoder that sees the source's words. It is one corpus and one pair "
        "of languages."
    )


def _overlap(evaluation: Evaluation) -> str:
    overlap = evaluation.corpus.overlap
    if overlap is None or not overlap["test"]["target"].sharing:
        return ""
    facts = overlap["test"]["target"]
    return (
        f"Overlap. {100 * facts.sharing / facts.sentences:.1f} % of the test references share {NGRAM} words in a row "
        "with a training reference; the scores of the rest stand beside those of all."
    )
