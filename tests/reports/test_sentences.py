"""Every branch of every template of sentences is rendered by a report of made-up results, and none misses a fact."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, UndefinedError, nodes
from made_bits import bits, difference, exactly_known, frozen, measured, rereading, result, slope, variant, with_variant
from made_evaluation import (
    made_evaluation,
    made_ladder,
    made_variant,
    reversing,
    unfinished,
    with_variant_result,
)
from made_sentences import FACTS

from hourglass.analysis.convergence import Convergence
from hourglass.analysis.evaluation import CleanPart, CleanScores, Evaluation, Tuning, VariantPair, VariantResult
from hourglass.analysis.information import Contrast, Information, LearningPoint, Provenance, SettingDifference
from hourglass.analysis.ladder import GapCourse, Ladder
from hourglass.analysis.schedules import ScheduledGap, Schedules
from hourglass.corpora.overlap import OverlapFacts
from hourglass.corpora.recipes import terms_of
from hourglass.corpora.shapes import Shapes
from hourglass.metrics.metric import MetricFacts
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.significance import Difference, Interval
from hourglass.reports import ablation_figures, sentences, width
from hourglass.reports import bits as reports_bits
from hourglass.reports import ladder as ladder_module
from hourglass.reports.ablation import ReportOrigin, write_ablation
from hourglass.reports.bits import ABSOLUTE, BITS_DEFINED, report_bits
from hourglass.reports.document import Paragraph, to_html, to_markdown, unfolded
from hourglass.reports.ladder import ladder_section
from hourglass.reports.plots import Line, draw_lines
from hourglass.reports.schedules import write_schedules_report
from hourglass.reports.sentences import say
from hourglass.runs.origin import RunOrigin

TEMPLATES = Path(sentences.__file__).parent / "templates"
# What no text has.
UGLY = r"\w \.|\( | \)|\w  \w|\w ,|\.\."
ORIGIN = ReportOrigin("c" * 40, "today")


class Branches(Environment):
    """Reads templates with a mark at the start of each macro, loop and branch, and of branches that are not written."""

    known: set[str]
    seen: set[str]

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for macro in tree.find_all(nodes.Macro):
            macro.body.insert(0, self._mark(f"{name}: {macro.name}", macro))
        choices = list(tree.find_all(nodes.If))
        further = {id(each) for choice in choices for each in choice.elif_}
        for choice in choices:
            place = f"{name}:{choice.lineno}"
            choice.body.insert(0, self._mark(f"{place} if", choice))
            if id(choice) not in further:
                choice.else_.insert(0, self._mark(f"{place} else", choice))
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, self._mark(f"{name}:{loop.lineno} for", loop))
        for inline in list(tree.find_all(nodes.CondExpr)):
            place = f"{name}:{inline.lineno} inline {inline.expr1}"
            inline.expr1 = self._marked(f"{place} if", inline.expr1)
            inline.expr2 = self._marked(f"{place} else", inline.expr2 or nodes.Const("", lineno=inline.lineno))
        tree.set_environment(self)
        return tree

    def _marked(self, mark: str, value: nodes.Expr) -> nodes.Call:
        self.known.add(mark)
        return nodes.Call(nodes.Name("see", "load"), [nodes.Const(mark), value], [], None, None, lineno=value.lineno)

    def _mark(self, mark: str, at: nodes.Node) -> nodes.Output:
        return nodes.Output([self._marked(mark, nodes.Const("", lineno=at.lineno))], lineno=at.lineno)


@pytest.fixture
def branches(monkeypatch: pytest.MonkeyPatch) -> Branches:
    monkeypatch.setattr(sentences, "Environment", Branches)
    made = sentences.make_environment()
    assert isinstance(made, Branches)
    made.known, made.seen = set(), set()

    def see(mark: str, value: Any) -> Any:
        made.seen.add(mark)
        return value

    made.globals["see"] = see
    monkeypatch.setattr(sentences, "SENTENCES", made)
    for name in made.list_templates(["txt"]):
        assert made.get_template(name).module
    return made


def evaluations() -> Iterator[dict[str, Evaluation]]:
    """Yield ablations of one corpus and of several, each for branches that no other one has."""
    plain = made_evaluation()
    yield {"verses": plain}
    yield {
        "better": made_evaluation("better"),
        "also": made_evaluation("also"),
        "unclear": two(made_variant("luong_general", 11.0, 1.0)),
        "worse": two(made_variant("luong_general", 4.0, -6.0)),
    }
    yield {
        "unclear": two(made_variant("luong_general", 11.0, 1.0)),
        "worse": two(made_variant("mean", 4.0, -6.0), "mean"),
    }
    yield {"worse": two(made_variant("mean", 4.0, -6.0, half=1.0), "mean")}
    yield {name: made_evaluation(name) for name in ("better", "also", "third")}
    yield {"better": two(made_variant("mean", 40.0, 30.0), "mean")}
    yield {"small": two(made_variant("luong_general", 40.0, 30.0, half=None))}
    once = two(made_variant("luong_general", 40.0, 30.0, seeds=1))
    yield {"one of two": once}
    yield {"three and four": two(made_variant("luong_general", 40.0, 30.0, seeds=4))}
    yield {"both": replace(once, variants={**once.variants, "none": made_variant("none", 10.0, seeds=1)})}
    alone = made_variant("luong_general", 40.0, 30.0, seeds=1)
    assert alone.difference is not None
    no_seeds = replace(alone.difference, whole=replace(alone.difference.whole, architecture=None))
    yield {"alone": two(replace(alone, difference=no_seeds))}
    many = [made_variant("none", 10.0, seeds=5), made_variant("luong_general", 40.0, 30.0, seeds=5)]
    yield {"many": replace(plain, variants=dict(zip(("none", "luong_general"), many, strict=True)), pairs=[])}
    for converged in (False, None):
        variants = {name: unfinished(own, converged) for name, own in plain.variants.items()}
        yield {"unfinished": replace(plain, variants=variants, slopes={}, slopes_refused="none had not converged")}
    yield {
        "best unfinished": with_variant_result(
            plain, "luong_general", **vars(unfinished(plain.variants["luong_general"], False))
        )
    }
    older = {name: replace(own, doubling=None) for name, own in plain.variants.items()}
    yield {"older": replace(plain, variants=older)}
    short = {name: still_falling(own) for name, own in plain.variants.items()}
    yield {"older and unfinished": replace(plain, variants=short)}
    edges = {
        name: replace(reversing(own), tuning=replace(own.tuning, chosen=own.tuning.candidates[-1].overrides))
        for name, own in plain.variants.items()
    }
    yield {"edges": replace(plain, variants={**edges, "none": reversing(plain.variants["none"])})}
    unsearched = {
        name: made_variant(
            own.config["attention"]["name"], 10.0, 1.0 if own.difference else None, rates=[0.001], copied=60.0
        )
        for name, own in plain.variants.items()
    }
    yield {"unsearched": replace(plain, variants=unsearched)}
    searched = [replace(candidate, target_tokens=1000) for candidate in plain.variants["none"].tuning.candidates]
    searched.append(
        replace(searched[0], overrides=[*searched[0].overrides, "decoder.dropout=0.2"], target_tokens=10**9)
    )
    brief = {
        name: replace(
            own,
            tuning=Tuning(searched[-1].overrides, searched),
            copied=None,
            parameters=1000 + place,
            brevity_penalty=None,
            premature=12.5,
            buckets=[replace(bucket, premature=12.5) for bucket in own.buckets],
        )
        for place, (name, own) in enumerate(plain.variants.items())
    }
    yield {"brief": replace(plain, variants=brief, metrics={"per": MetricFacts("PER", 2, "per", False)})}
    yield {"phonemes": replace(plain, corpus=replace(plain.corpus, target="zxx"))}
    scores = {
        name: CleanScores(own.score, None if own.difference is None else own.difference.whole)
        for name, own in plain.variants.items()
    }
    facts = OverlapFacts(sentences=40, short=0, sharing=10, half_covered=0, words=400, covered=0)
    shared = replace(plain.corpus, overlap={"test": {"target": facts}})
    yield {"clean": replace(plain, corpus=shared, clean_part=CleanPart(30, 5.0, scores))}
    yield {"no rest": replace(plain, corpus=shared, clean_part=None)}
    renamed = {"fixed": plain.variants["fixed"], "luong_general": plain.variants["luong_general"]}
    yield {
        "no none": replace(
            plain, baseline="fixed", variants={**renamed, "fixed": replace(renamed["fixed"], difference=None)}
        )
    }


def answers_in_bits() -> Iterator[tuple[Evaluation, Information]]:
    """Yield an evaluation with bits for each branch of the answer; test_answer.py has its words."""
    plain, level = made_evaluation(), replace(slope(0.5), plateau=9.0, plateau_interval=Interval(8, 10))
    for curve in (None, slope(0.5), slope(-0.5), slope(0.05), level, replace(level, flat=True)):
        yield plain, measured(7.0, 6.0, 8.0, curve)
    yield plain, measured(-7.0, -8.0, -6.0, replace(slope(0.05), slope_interval=None))
    few = Difference(1.0, None, None, None, None)
    yield replace(plain, pairs=[VariantPair("luong_general", "fixed", ["score"], few)]), measured()
    full = replace(few, trained=Interval(0.5, 1.5))
    pair = VariantPair("fixed", "luong_general", ["score"], full)
    yield replace(plain, pairs=[pair], metrics={"per": MetricFacts("PER", 2, "per", False)}), measured()


def still_falling(own: VariantResult) -> VariantResult:
    """Return a variant of an older result that had not converged by the last fifth of its budget."""
    seeds = [replace(seed, convergence=Convergence(False, 0.1)) for seed in own.seeds]
    return replace(own, doubling=None, seeds=seeds)


def two(other: Any, name: str = "luong_general") -> Evaluation:
    """Return none and one other variant."""
    made = made_evaluation()
    lead = other.difference.whole
    return replace(made, variants={"none": made.variants["none"], name: other}, slopes={name: lead}, pairs=[])


def ladders() -> Iterator[Ladder]:
    yield made_ladder("falls", 32e6)
    yield made_ladder("falls")
    yield made_ladder("falls", half=None)
    yield made_ladder("grows")
    yield made_ladder("flattened")
    yield made_ladder("not shown", half=20.0)
    yield made_ladder("cannot be told")
    yield made_ladder("cannot be told", rungs=1)


def widths() -> Information:
    """Return none, an attention, and a vector of two widths that is read at every step."""
    made = rereading()

    def provenance(attention: str, width: int) -> Provenance:
        config = {"encoder": {"name": "rnn", "summary_size": width}, "decoder": {"start": "dense"}}
        return Provenance([1], ["c"], [6000], {**config, "attention": {"name": attention}})

    variants = {
        "none": replace(made.variants["none"], provenance=provenance("none", 256)),
        "fixed": replace(made.variants["fixed"], provenance=provenance("fixed", 256)),
        "fixed_16": replace(made.variants["fixed"], provenance=provenance("fixed", 16)),
        "luong_general": replace(made.variants["plain"], provenance=provenance("luong_general", 256)),
    }
    pairs = [("luong_general", "fixed"), ("luong_general", "fixed_16"), ("fixed", "fixed_16")]
    contrasts = [Contrast(*pair, difference(7.0, 6.0, 8.0, slope(0.5))) for pair in pairs]
    return replace(made, variants=variants, contrasts=contrasts)


def informations() -> Iterator[Information]:
    yield result()
    yield rereading()
    yield frozen()
    yield exactly_known(result(), plain=bits(30.0))
    yield replace(exactly_known(result(), plain=bits(30.0)), item_names=Shapes.item_names)
    unused = replace(frozen().variants["fresh"], difference=difference(0.1, -0.25, 0.45))
    yield replace(frozen(), variants={**frozen().variants, "fresh": unused})
    worse = replace(frozen().variants["fresh"], difference=difference(-9.0, -10.0, -8.0))
    yield replace(frozen(), variants={**frozen().variants, "fresh": worse})
    yield replace(frozen(), contrasts=[], variants={k: v for k, v in frozen().variants.items() if k != "fixed"})
    lost = frozen().contrasts[0]
    yield replace(frozen(), contrasts=[replace(lost, difference=difference(0.1, -1.0, 1.0))])
    for value, low, high in ((-2.0, -3.0, -1.0), (2.0, -1.0, 3.0)):
        yield with_variant(rereading(), "fixed", difference=difference(value, low, high), bits=bits(9.0))
    received = with_variant(rereading(), "fixed", bits=bits(9.0))
    yield received
    yield with_variant(received, "none", converged=[False])
    yield with_variant(with_variant(rereading(), "plain", converged=[None]), "none", converged=[False])
    yield with_variant(result(), "plain", attention="mean")
    yield with_variant(rereading(), "fixed", attention="mean")
    yield with_variant(result(), "plain", bits=bits(7.0, 6.0, 8.0))
    yield with_variant(result(), "plain", bits=replace(bits(7.0, 6.0, 8.0), own_spread=None))
    yield with_variant(rereading(), "fixed", bits=bits(0.5))
    yield with_variant(result(), "none", bits=bits(0.5))
    yield with_variant(result(), "none", bits=bits(-5.0))
    yield result(blind=replace(result().blind, converged=False, last_fifth_bits=4.1, other_seeds=[63.0, 61.5]))
    joined = replace(difference(9.0, 8.0, 10.0), joined={2: difference(9.0, 8.0, 10.0).whole})
    yield with_variant(result(), "plain", difference=joined)
    yield with_variant(result(), "none", learning=[[]], provenance=None, slopes=[1.0, 2.0])
    for flat in (True, False):
        level = Saturation(-0.4, Interval(-1, 1), 0.0, 1.0, 5.0, Interval(4, 6), flat, 2.0, 9.0)
        levelling = difference(9.0, 8.0, 10.0, level)
        yield with_variant(
            with_variant(result(), "plain", difference=levelling), "none", saturation=level, bits=bits(9.0)
        )
    no_interval = replace(slope(0.5), slope_interval=None)
    yield with_variant(result(), "plain", difference=difference(9.0, 8.0, 10.0, no_interval), joined={})
    yield result(
        variants={"none": result().variants["none"], "fixed": variant("fixed", slopes=[1.0, 2.0], bits=bits(9.0))}
    )
    blind = replace(result().blind, converged=False, last_fifth_bits=0.1, learning=[LearningPoint(1000.0, 70.0)])
    yield result(
        blind=blind, setting_differences=[SettingDifference("optimizer.warmup", {"none": 0.05, "plain": True})]
    )
    made = result().blind.provenance
    assert made is not None
    rates = replace(made, config={"optimizer": {"learning_rate": 0.004}})
    for tried in ([0.002, 0.004], [0.004]):
        yield result(blind=replace(result().blind, learning_rates=tried, provenance=rates, joined={}))


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_every_branch_of_every_sentence_is_rendered(branches: Branches, monkeypatch: pytest.MonkeyPatch) -> None:
    """With strict facts: a branch that needs one that it was not given would raise an error."""
    assert to_html(write_ablation({"verses": made_evaluation()}, ORIGIN))  # The readings of points.
    blank = draw_lines({"a": Line([1.0], [1.0])}, x_label="", y_label="")
    for module in (ablation_figures, reports_bits, ladder_module, width):  # Figures take longer than sentences.
        monkeypatch.setattr(module, "draw_lines", lambda *_, **__: blank)
    for number, made in enumerate(evaluations()):
        for ladder in ladders() if number == 0 else [made_ladder("falls", 32e6)] if number % 2 else [None]:
            names = {name: ladder for name in made if ladder is not None}
            information = {name: replace(widths(), corpus=name) for name in made} if number == 0 else {}
            origins = {name: {("none", 1): RunOrigin("a", "a/c", "train", "c")} for name in made} if number == 0 else {}
            text = to_markdown(write_ablation(made, ORIGIN, information, names, origins), "figures")
            assert not re.search(UGLY, text)
    assert say("answer", "terms", t=terms_of("scan"))
    primary = {"verses": [("luong_general", "fixed")]}
    for evaluation, bits_of in answers_in_bits():
        blocks = write_ablation({"verses": evaluation}, ORIGIN, {"verses": bits_of}, estimands=primary)
        assert not re.search(UGLY, to_markdown(blocks, "figures"))
    assert to_html(write_ablation({"verses": made_evaluation()}, ORIGIN))  # The readings of points.
    unmeasured = replace(difference(1.0, 0.5, 1.5).whole, trained=None)
    for course in ("learning", "capacity", "encoder or decoder", None):
        ladder_section(made_ladder("falls", 32e6), [[course, None]])
    for information_of in informations():
        text = to_markdown(report_bits(information_of), "figures")
        assert not re.search(UGLY, text)
    for topic, facts in FACTS.items():
        for sentence, known in facts():
            text = say(topic, sentence, **known)
            assert text
            assert not re.search(UGLY, text), text
    for gained in (difference(1.0, 0.5, 1.5).whole, difference(1.0, -0.5, 1.5).whole, unmeasured):
        gap = ScheduledGap("luong_general", "fixed", 1_000_000, gained, gained, gained)
        write_schedules_report(Schedules("verses", ("sqrt", "wsd"), 1, 40, "BLEU", [], [gap]))
    assert (say("bits", "defined"), say("bits", "absolute")) == (BITS_DEFINED, ABSOLUTE)
    unrendered = branches.known - branches.seen
    assert not sorted(unrendered)


def test_every_template_is_rendered() -> None:
    """Those of sentences by the test above; those of the page by a report."""
    page = to_html(write_ablation({"verses": made_evaluation()}, ORIGIN))
    for name in ("page.css", "page.js"):
        assert (TEMPLATES / name).read_text().strip() in page
    others = {file.name for file in TEMPLATES.iterdir()} - {"page.css", "page.js", "page.html", "blocks.html"}
    assert all(name.endswith(".txt") for name in others)
    macros = [
        f"{file[:-4]}: {name}"
        for file in others
        for name in re.findall(r"{% macro (\w+)", (TEMPLATES / file).read_text())
    ]
    assert len(set(macros)) == len(macros) > 100


def test_a_fact_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'share' was not provided"):
        say("objections", "short_search")


def test_a_sentence_is_one_line() -> None:
    texts = [
        block.text
        for block in unfolded(
            write_ablation({"verses": made_evaluation()}, ORIGIN, {}, {"verses": made_ladder("falls")})
        )
        if isinstance(block, Paragraph)
    ]
    assert len(texts) > 5
    assert not [text for text in texts if "\n" in text or text != text.strip() or not text.endswith((".", ":"))]


def test_the_course_of_a_gap_has_its_words() -> None:
    judged = GapCourse("cannot be told", None, None, None)
    facts = {"budget": 5, "first": "a", "second": "b", "value": 1.0, "interval": None, "covers": "", "cause": None}
    assert say("ladder", "gap", course_of=judged, **facts).endswith(
        "more than b; how this hangs on the budget cannot be told."
    )
