"""The first screen of the ablation's report: the answer with its interval, how sure it is, what would change it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hourglass.analysis.evaluation import Evaluation
from hourglass.analysis.information import BitsDifference, Information
from hourglass.analysis.ladder import Course, Ladder
from hourglass.corpora.recipes import terms_of
from hourglass.metrics.metrics import spell_out
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports.ablation_figures import draw_differences, recipe_of
from hourglass.reports.bits import course_of, draw_bits_differences
from hourglass.reports.document import Block, Heading, Paragraph, Picture, Table
from hourglass.reports.objections import FEW_SEEDS, copied_score
from hourglass.reports.phrases import NOT_CHOOSING, ONCE, REREAD, show_range
from hourglass.reports.sentences import say

Verdict = Literal["helps", "harms", "cannot be told"]
# How a decoder sees the source.
Way = Literal["once", "again", "average", "states"]
# The code of what is in no language, such as phonemes.
NO_LANGUAGE = "zxx"


@dataclass(frozen=True)
class Answer:
    """What an ablation says of one corpus: what a variant has beyond another, in bits or in a score.

    Attributes:
        corpus: its name.
        unit: of the difference: bits a sentence, or the heading of a metric.
        higher_is_better: of that unit.
        variant: the one.
        reference: the other, which is subtracted.
        choosing: whether the decoder of the variant chooses at each step what to read.
        difference: of the two.
        seeds: of the reference and of the variant.
        reference_converged: None where that cannot be told.
        variant_converged: the same.
    """

    corpus: str
    unit: str
    higher_is_better: bool
    variant: str
    reference: str
    choosing: bool
    difference: Difference
    seeds: tuple[int, int]
    reference_converged: bool | None
    variant_converged: bool | None

    @property
    def value(self) -> float:
        """The difference."""
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
        """Whether the variant is better than the reference, by the interval."""
        # Not `holds(0)`: no number is in an interval without numbers.
        if self.interval is None or not (self.interval.low > 0 or self.interval.high < 0):
            return "cannot be told"
        return "helps" if (self.value > 0) == self.higher_is_better else "harms"


@dataclass(frozen=True)
class ScoreAnswer(Answer):
    """The answer in a score: the best variant on dev against the baseline.

    Attributes:
        spelt_out: the unit, with the words that it stands for.
        variant_score: mean over seeds.
        reference_score: mean over seeds.
    """

    spelt_out: str
    variant_score: float
    reference_score: float


class PairScores(NamedTuple):
    """What the two variants of a difference in bits score.

    Attributes:
        unit: the metric, spelt out.
        higher_is_better: of the metric.
        variant: mean over seeds.
        reference: mean over seeds.
        difference: of the two; None of a pair whose scores are not compared.
    """

    unit: str
    higher_is_better: bool
    variant: float
    reference: float
    difference: Difference | None


@dataclass(frozen=True)
class BitsAnswer(Answer):
    """The answer in the primary estimand, which conf/ablation fixes before the runs.

    Attributes:
        way: how the decoder of the reference sees the source.
        curve: of the difference over the length of the source; None in older results.
        scores: of the same two variants.
    """

    way: Way
    curve: Saturation | None
    scores: PairScores


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


def find_answer(
    evaluation: Evaluation, information: Information | None = None, estimands: Sequence[tuple[str, str]] = ()
) -> BitsAnswer | ScoreAnswer:
    """Return the answer of one corpus: of the first estimand, in bits; in the score where its bits are not known.

    Args:
        evaluation: of its variants.
        information: bits that reach their decoders; None: they were not measured.
        estimands: pairs of variants, the primary one first.
    """
    for variant, reference in estimands[:1]:
        difference = None if information is None else information.differences.get((variant, reference))
        if difference is not None and {variant, reference} <= set(evaluation.variants):
            return _bits_answer(evaluation, variant, reference, difference)
    return score_answer(evaluation)


def score_answer(evaluation: Evaluation) -> ScoreAnswer:
    """Return the answer of one corpus in its score."""
    best = best_attention(evaluation)
    of_baseline, of_best = evaluation.variants[evaluation.baseline], evaluation.variants[best]
    assert of_best.difference is not None
    return ScoreAnswer(
        corpus=evaluation.corpus.name,
        unit=evaluation.metric.heading,
        higher_is_better=evaluation.metric.higher_is_better,
        variant=best,
        reference=evaluation.baseline,
        choosing=chooses(best),
        difference=of_best.difference.whole,
        seeds=(len(of_baseline.seeds), len(of_best.seeds)),
        reference_converged=of_baseline.converged,
        variant_converged=of_best.converged,
        spelt_out=spell_out(evaluation.main, evaluation.metric.heading),
        variant_score=of_best.score.mean,
        reference_score=of_baseline.score.mean,
    )


def _bits_answer(evaluation: Evaluation, variant: str, reference: str, difference: BitsDifference) -> BitsAnswer:
    of_variant, of_reference = evaluation.variants[variant], evaluation.variants[reference]
    return BitsAnswer(
        corpus=evaluation.corpus.name,
        unit="bits a sentence",
        higher_is_better=True,
        variant=variant,
        reference=reference,
        choosing=chooses(of_variant.config["attention"]["name"]),
        difference=difference.whole,
        seeds=(len(of_reference.seeds), len(of_variant.seeds)),
        reference_converged=of_reference.converged,
        variant_converged=of_variant.converged,
        way=_way(of_reference.config["attention"]["name"]),
        curve=difference.curve,
        scores=PairScores(
            spell_out(evaluation.main, evaluation.metric.heading),
            evaluation.metric.higher_is_better,
            of_variant.score.mean,
            of_reference.score.mean,
            _score_difference(evaluation, variant, reference),
        ),
    )


def _score_difference(evaluation: Evaluation, variant: str, reference: str) -> Difference | None:
    """Return the score of a variant less that of another; None where the two are not compared."""
    of_variant = evaluation.variants[variant].difference
    if reference == evaluation.baseline:
        return None if of_variant is None else of_variant.whole
    pairs = {(pair.first, pair.second): pair.difference for pair in evaluation.pairs}
    turned = pairs.get((reference, variant))
    return pairs.get((variant, reference)) or (None if turned is None else turned.reversed)


def say_answers(answers: Sequence[BitsAnswer | ScoreAnswer]) -> str:
    """Return the answer on one corpus, or on several, in one sentence with its intervals; of bits, the score second."""
    if len(answers) == 1:
        (answer,) = answers
        if isinstance(answer, ScoreAnswer):
            return say("answer", "claim", a=answer, metric=answer.spelt_out)
        course = (None, "") if answer.curve is None else course_of(answer.curve)
        return say("answer", "claim_in_bits", a=answer, interval=course[0])
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
    tokens = max(training.target_tokens for training in evaluation.variants[answer.reference].seeds)
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
        pair=NO_LANGUAGE not in (facts.source, facts.target),
        copied=copied_score(evaluation),
        unit=evaluation.metric.heading,
    )
    return f"{training} {task}"


def _course(answer: Answer, ladder: Ladder | None) -> LadderCourse | None:
    """Return the course of the gap that is nearest to the answer; None without a ladder of two budgets."""
    if ladder is None or len(ladder.rungs) < 2 or not ladder.estimands:
        return None
    pairs = dict(zip(ladder.estimands, ladder.whole, strict=True))
    ranks = {pair: (answer.variant not in pair, answer.reference not in pair) for pair in pairs}
    pair = min(pairs, key=ranks.__getitem__)
    return LadderCourse(*pair, pairs[pair].course, pairs[pair].closes_at)


def answer_blocks(
    evaluation: Evaluation,
    answer: BitsAnswer | ScoreAnswer,
    information: Information | None,
    ladder: Ladder | None,
    level: int,
) -> list[Block]:
    """Return the first screen of a corpus, below its sentence.

    Args:
        evaluation: of its variants.
        answer: of `find_answer`.
        information: what that was found in.
        ladder: the gaps against the budget; None: there is none.
        level: of the headings.
    """
    terms = terms_of(recipe_of(evaluation))
    if isinstance(answer, BitsAnswer) and information is not None:
        shown: list[Block] = [
            bits_figure(evaluation, information, answer.reference),
            bits_table(evaluation, information, answer.reference),
        ]
    else:
        shown = [answer_figure(evaluation), answer_table(evaluation)]
    return [
        *([] if terms is None else [Paragraph(say("answer", "terms", t=terms))]),
        *shown,
        Heading(level, say("reading", "how_sure")),
        Paragraph(how_sure(answer, evaluation)),
        Heading(level, say("reading", "what_would_change_it")),
        Paragraph(what_would_change_it(answer, evaluation, ladder)),
    ]


def main_variants(evaluation: Evaluation) -> list[str]:
    """Return the variants with most seeds, and those of the answer: not the controls, which have one seed."""
    most = max(len(own.seeds) for own in evaluation.variants.values())
    always = (evaluation.baseline, best_attention(evaluation))
    return [name for name, own in evaluation.variants.items() if len(own.seeds) == most or name in always]


def bits_figure(evaluation: Evaluation, information: Information, reference: str) -> Picture:
    """Return the bits that the main variants receive more than another, by length of the source."""
    variants = [name for name in main_variants(evaluation) if information.less(name, reference) is not None]
    return draw_bits_differences(information, f"{evaluation.corpus.name}-answer-by-length", reference, variants)


def bits_table(evaluation: Evaluation, information: Information, reference: str) -> Table:
    """Return, of the main variants, the bits that they receive more than another, and their scores, in five columns."""
    name, unit = evaluation.corpus.name, evaluation.metric.heading
    rows = []
    for variant in dict.fromkeys([*main_variants(evaluation), reference]):
        own, difference = evaluation.variants[variant], information.less(variant, reference)
        rows.append(
            [
                variant,
                say("answer", "sees", way=_way(own.config["attention"]["name"])),
                "-" if difference is None else f"{difference.value:+z.1f}",
                "-" if difference is None else show_range(difference.widest, 1),
                f"{own.score.mean:z.1f}",
            ]
        )
    caption = say("answer", "bits_table", reference=reference, scores=_caption_facts(evaluation, len(rows)))
    head = ["variant", "what its decoder sees of the source", f"bits more than {reference}", "95 % interval", unit]
    return Table(f"{name}-answer", head, rows, caption, text_columns=2)


def answer_figure(evaluation: Evaluation) -> Picture:
    """Return the difference of the main variants to the baseline by length of the source, in the score."""
    return draw_differences(evaluation, "answer", main_variants(evaluation))


def answer_table(evaluation: Evaluation) -> Table:
    """Return the scores of the main variants in five columns."""
    name, baseline, unit = evaluation.corpus.name, evaluation.baseline, evaluation.metric.heading
    rows = []
    for variant in main_variants(evaluation):
        own = evaluation.variants[variant]
        difference = None if own.difference is None else own.difference.whole
        rows.append(
            [
                variant,
                say("answer", "sees", way=_way(own.config["attention"]["name"])),
                f"{own.score.mean:z.1f}",
                "-" if difference is None else f"{difference.value:+z.1f}",
                "-" if difference is None else show_range(difference.widest, 1),
            ]
        )
    caption = say("answer", "table", scores=_caption_facts(evaluation, len(rows)))
    head = ["variant", "what its decoder sees of the source", unit, f"minus {baseline}", "95 % interval"]
    return Table(f"{name}-answer", head, rows, caption, text_columns=2)


def _caption_facts(evaluation: Evaluation, rows: int) -> dict[str, object]:
    unit = evaluation.metric.heading
    return {
        "unit": spell_out(evaluation.main, unit),
        "direction": "" if evaluation.metric.higher_is_better else evaluation.metric.direction,
        "hundred": unit == "BLEU",
        "others": rows < len(evaluation.variants),
    }


def _way(attention: str) -> Way:
    """Return how a decoder with this attention sees the source."""
    if attention == ONCE:
        return "once"
    if attention == REREAD:
        return "again"
    return "average" if attention in NOT_CHOOSING else "states"
