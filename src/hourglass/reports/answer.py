"""The first screen of the ablation's report: the answer with its interval, how sure it is, what would change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hourglass.analysis.evaluation import Evaluation
from hourglass.analysis.ladder import Course, Ladder
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.ablation_figures import draw_differences
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.objections import FEW_SEEDS, copied_score
from hourglass.reports.phrases import NOT_CHOOSING, ONCE, REREAD
from hourglass.reports.sentences import say

Verdict = Literal["helps", "harms", "cannot be told"]


@dataclass(frozen=True)
class Answer:
    """What an ablation says of one corpus: the best variant on dev against the baseline.

    Attributes:
        corpus: its name.
        unit: heading of the metric.
        higher_is_better: of the metric.
        baseline: the variant that all others are compared with.
        best: the variant that stands against it.
        choosing: whether the decoder of that variant chooses at each step what to read.
        baseline_score: mean over seeds.
        best_score: mean over seeds.
        difference: of the scores.
        seeds: of the baseline and of the best.
        baseline_converged: None where that cannot be told.
        best_converged: the same.
    """

    corpus: str
    unit: str
    higher_is_better: bool
    baseline: str
    best: str
    choosing: bool
    baseline_score: float
    best_score: float
    difference: Difference
    seeds: tuple[int, int]
    baseline_converged: bool | None
    best_converged: bool | None

    @property
    def value(self) -> float:
        """The difference of the scores."""
        return self.difference.value

    @property
    def interval(self) -> Interval | None:
        """Its widest interval; None where the test set is too small for one."""
        return self.difference.widest

    @property
    def over_seeds(self) -> bool:
        """Whether the interval covers other trainings, too."""
        return self.interval is not self.difference.trained

    @property
    def verdict(self) -> Verdict:
        """Whether the best is better than the baseline, by the interval."""
        # Not `holds(0)`: no number is in an interval without numbers.
        if self.interval is None or not (self.interval.low > 0 or self.interval.high < 0):
            return "cannot be told"
        return "helps" if (self.value > 0) == self.higher_is_better else "harms"


class LadderCourse(NamedTuple):
    """How a gap in bits goes on as the budget doubles: see `analysis.ladder.GapCourse`."""

    first: str
    second: str
    course: Course
    closes_at: float | None


def chooses(name: str) -> bool:
    """Whether a variant's decoder chooses at each step what to read."""
    return name != ONCE and name not in NOT_CHOOSING


def best_attention(evaluation: Evaluation) -> str:
    """Return the variant with attention that has the lowest dev loss; a choice on test would favour it."""
    others = [name for name in evaluation.variants if name != evaluation.baseline]
    attentions = [name for name in others if chooses(name)] or others
    return min(attentions, key=lambda name: evaluation.variants[name].dev_loss)


def find_answer(evaluation: Evaluation) -> Answer:
    """Return the answer of one corpus."""
    best = best_attention(evaluation)
    of_baseline, of_best = evaluation.variants[evaluation.baseline], evaluation.variants[best]
    assert of_best.difference is not None
    return Answer(
        corpus=evaluation.corpus.name,
        unit=evaluation.metric.heading,
        higher_is_better=evaluation.metric.higher_is_better,
        baseline=evaluation.baseline,
        best=best,
        choosing=chooses(best),
        baseline_score=of_baseline.score.mean,
        best_score=of_best.score.mean,
        difference=of_best.difference.whole,
        seeds=(len(of_baseline.seeds), len(of_best.seeds)),
        baseline_converged=of_baseline.converged,
        best_converged=of_best.converged,
    )


def say_answers(answers: Sequence[Answer]) -> str:
    """Return the answer on one corpus, or on several, in one sentence with its intervals."""
    if len(answers) == 1:
        return say("answer", "claim", a=answers[0])
    return say(
        "answer",
        "overall",
        better=[answer for answer in answers if answer.verdict == "helps"],
        worse=[answer for answer in answers if answer.verdict == "harms"],
        unknown=[answer for answer in answers if answer.verdict == "cannot be told"],
        choosing=all(answer.choosing for answer in answers),
    )


def how_sure(answer: Answer, evaluation: Evaluation) -> str:
    """Return two sentences: what the interval covers, and whether the two variants had converged."""
    tokens = max(training.target_tokens for training in evaluation.variants[answer.baseline].seeds)
    covered = say("answer", "covered", a=answer, fewest=FEW_SEEDS)
    return f"{covered} {say('answer', 'trained', a=answer, tokens=tokens)}"


def what_would_change_it(answer: Answer, evaluation: Evaluation, ladder: Ladder | None) -> str:
    """Return two sentences: what more training would do, and what another task would."""
    facts = evaluation.corpus
    training = say("answer", "more_training", a=answer, ladder=_course(answer, ladder))
    task = say(
        "answer",
        "another_task",
        source=facts.source,
        target=facts.target,
        copied=copied_score(evaluation),
        unit=answer.unit,
    )
    return f"{training} {task}"


def _course(answer: Answer, ladder: Ladder | None) -> LadderCourse | None:
    """Return the course of the gap that is nearest to the answer; None without a ladder of two budgets."""
    if ladder is None or len(ladder.rungs) < 2 or not ladder.estimands:
        return None
    pairs = dict(zip(ladder.estimands, ladder.whole, strict=True))
    ranks = {pair: (answer.best not in pair, answer.baseline not in pair) for pair in pairs}
    pair = min(pairs, key=ranks.__getitem__)
    return LadderCourse(*pair, pairs[pair].course, pairs[pair].closes_at)


def answer_blocks(evaluation: Evaluation, ladder: Ladder | None, level: int) -> list[Block]:
    """Return the first screen of a corpus, below its sentence.

    Args:
        evaluation: of its variants.
        ladder: its gaps against the budget; None: there is none.
        level: of the headings.
    """
    answer = find_answer(evaluation)
    return [
        answer_figure(evaluation),
        answer_table(evaluation),
        Heading(level, "How sure"),
        Paragraph(how_sure(answer, evaluation)),
        Heading(level, "What would change it"),
        Paragraph(what_would_change_it(answer, evaluation, ladder)),
    ]


def _main_variants(evaluation: Evaluation) -> list[str]:
    """Return the variants with as many seeds as the one that has most: not the controls, which have one."""
    most = max(len(own.seeds) for own in evaluation.variants.values())
    always = (evaluation.baseline, best_attention(evaluation))
    return [name for name, own in evaluation.variants.items() if len(own.seeds) == most or name in always]


def answer_figure(evaluation: Evaluation) -> Picture:
    """Return the difference of the main variants to the baseline by length of the source."""
    return draw_differences(evaluation, "answer", _main_variants(evaluation))


def answer_table(evaluation: Evaluation) -> Table:
    """Return the scores of the main variants in five columns."""
    name, baseline, unit = evaluation.corpus.name, evaluation.baseline, evaluation.metric.heading
    rows = []
    for variant in _main_variants(evaluation):
        own = evaluation.variants[variant]
        difference = None if own.difference is None else own.difference.whole
        interval = None if difference is None else difference.widest
        rows.append(
            [
                variant,
                say("answer", "sees", way=_way(own.config["attention"]["name"])),
                f"{own.score.mean:.1f}",
                "-" if difference is None else f"{difference.value:+.1f}",
                f"[{interval.low:.1f}, {interval.high:.1f}]" if interval else "-",
            ]
        )
    caption = say(
        "answer",
        "table",
        unit=unit,
        direction="" if evaluation.metric.higher_is_better else evaluation.metric.direction,
        hundred=unit == "BLEU",
        others=len(rows) < len(evaluation.variants),
    )
    head = ["variant", "what its decoder sees of the source", unit, f"minus {baseline}", "95 % interval"]
    return Table(f"{name}-answer", head, rows, caption, text_columns=2)


def _way(attention: str) -> Literal["once", "again", "average", "states"]:
    """Return how a decoder with this attention sees the source."""
    if attention == ONCE:
        return "once"
    if attention == REREAD:
        return "again"
    return "average" if attention in NOT_CHOOSING else "states"
