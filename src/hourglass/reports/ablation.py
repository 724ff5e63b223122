"""The report of an ablation: the answer first, then all that it rests on, folded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hourglass.analysis.evaluation import CorpusFacts, Evaluation
from hourglass.analysis.information import Information
from hourglass.analysis.ladder import Ladder
from hourglass.corpora.overlap import NGRAM
from hourglass.metrics.scoring import FEW
from hourglass.reports.ablation_figures import (
    brevity_figure,
    difference_figure,
    learning_figure,
    length_figures,
    premature_figure,
    ratio_figure,
)
from hourglass.reports.ablation_tables import (
    clean_table,
    doubling_table,
    has_early_ends,
    lengths_table,
    pairs_table,
    search_table,
    show_clean_part,
    variants_table,
)
from hourglass.reports.answer import (
    Answer,
    answer_blocks,
    best_attention,
    find_answer,
    main_variants,
    say_answers,
    score_answer,
)
from hourglass.reports.bits import BITS_DEFINED, bits_section, summarise_bits
from hourglass.reports.document import Block, Bullets, Example, Folded, Heading, Paragraph, Table
from hourglass.reports.ladder import ladder_section, summarise_ladder
from hourglass.reports.objections import list_objections
from hourglass.reports.phrases import ONCE, REREAD, in_brackets, widest
from hourglass.reports.run_table import link_runs, run_table
from hourglass.reports.sentences import say
from hourglass.reports.width import find_causes, width_section
from hourglass.runs.origin import RunOrigins

TITLE = "What a fixed context vector costs, and what attention buys back"


@dataclass(frozen=True)
class ReportOrigin:
    """Where a report comes from.

    Attributes:
        commit: git commit of the code that wrote it.
        date: of writing.
        command: that makes the ablation.
    """

    commit: str
    date: str
    command: str = "dvc repro"


def write_ablation(
    evaluations: Mapping[str, Evaluation],
    origin: ReportOrigin,
    information: Mapping[str, Information] | None = None,
    ladders: Mapping[str, Ladder] | None = None,
    runs: Mapping[str, RunOrigins] | None = None,
    *,
    estimands: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> list[Block]:
    """Return the report of an ablation: the answer, then all else in folded parts.

    Args:
        evaluations: by corpus.
        origin: of the report.
        information: bits that reach the decoders, by corpus; a corpus without them has no part on bits.
        ladders: the gaps against the budget, by corpus; a corpus without them has no part on budgets.
        runs: where the runs lie, by corpus; a corpus without them has their numbers alone.
        estimands: pairs of variants, by corpus, the primary one first: the answer is the bits that the first of it
            receives more than the second. Where they are not known, it is the score.
    """
    information, ladders, runs, estimands = information or {}, ladders or {}, runs or {}, estimands or {}
    several = len(evaluations) > 1
    answers = [
        find_answer(evaluation, information.get(name), estimands.get(name, ()))
        for name, evaluation in evaluations.items()
    ]
    blocks: list[Block] = [Heading(1, TITLE), Paragraph(say_answers(answers), lead=True)]
    for answer, (name, evaluation) in zip(answers, evaluations.items(), strict=True):
        if several:
            blocks += [Heading(2, name), Paragraph(say_answers([answer]))]
        level = 3 if several else 2
        shown = answer_blocks(evaluation, answer, information.get(name), ladders.get(name), level)
        blocks += link_runs(shown, evaluation)
    blocks.append(Folded(2, say("reading", "heading"), _explain_reading(evaluations)))
    for name, evaluation in evaluations.items():
        parts = _corpus_parts(evaluation, information.get(name), ladders.get(name))
        linked = {part: link_runs(own, evaluation) for part, own in parts.items()}
        # The runs of a search are not these.
        others: dict[str, list[Block]] = {
            "search": [search_table(evaluation)],
            "runs": [run_table(evaluation, runs.get(name, {}))],
        }
        facts = {"corpus": name if several else "", "unit": evaluation.metric.heading}
        blocks += [Folded(2, say("reading", part, **facts), own) for part, own in {**linked, **others}.items() if own]
    return [*blocks, _provenance(evaluations, origin)]


def _corpus_parts(
    evaluation: Evaluation, information: Information | None, ladder: Ladder | None
) -> dict[str, list[Block]]:
    """Return what the report has of a corpus beside the answer, by the name of the part; some parts may be empty."""
    parts: dict[str, list[Block]] = {}
    causes = find_causes(information, ladder) if information and ladder else []
    if information:
        summary = [*map(Paragraph, summarise_bits(information))]
        parts["bits"] = [Paragraph(BITS_DEFINED), *summary, *bits_section(information)[1:]]
    if ladder:
        told = summarise_ladder(ladder, causes)
        parts["ladder"] = ladder_section(ladder, causes)[1:] or ([Paragraph(" ".join(told))] if told else [])
    if information:
        parts["width"] = width_section(information, best_attention(evaluation))[1:]
    return parts | {
        "findings": [Bullets(summarise_scores(evaluation))],
        "objections": [Bullets(objections)] if (objections := list_objections(evaluation)) else [],
        "scores": _scores_part(evaluation),
        "lengths": _lengths_part(evaluation),
        "learning": [learning_figure(evaluation)],
        "doubling": [doubling] if (doubling := doubling_table(evaluation)) else [],
        "pairs": [pairs_table(evaluation)],
        "examples": _examples_part(evaluation),
    }


def _explain_reading(evaluations: Mapping[str, Evaluation]) -> list[Block]:
    """Return how to read the report, of the variants and searches that this ablation has."""
    variants = [item for evaluation in evaluations.values() for item in evaluation.variants.items()]
    reversing = dict.fromkeys(name for name, own in variants if own.tuning.tries_reversed_source)
    copied = [own for own in evaluations.values() if next(iter(own.variants.values())).copied is not None]
    units = list(dict.fromkeys(own.metric.heading for own in copied))
    texts = [
        say(
            "reading",
            "variants",
            searched=any(len({each.learning_rate for each in own.tuning.candidates}) > 1 for _, own in variants),
        ),
        *([say("reading", "once", variant=ONCE)] if any(name == ONCE for name, _ in variants) else []),
        *([say("reading", "reversing", variants=list(reversing))] if reversing else []),
        *([say("reading", "copied", units=units)] if units else []),
        say("reading", "intervals"),
        say("reading", "marks", few=FEW),
    ]
    return [Paragraph(say("reading", "question")), Bullets(texts)]


def summarise_scores(evaluation: Evaluation) -> list[str]:
    """Return the findings on scores, a few sentences each: the difference that attention makes, and the caveats."""
    answer, variants = score_answer(evaluation), evaluation.variants
    interval, covers = widest(answer.difference)
    findings = [
        say(
            "scores",
            "difference",
            a=answer,
            once=answer.reference == ONCE,
            direction="" if answer.higher_is_better else evaluation.metric.direction,
            interval=in_brackets(interval, covers),
        )
    ]
    if part := evaluation.clean_part:
        clean = part.variants[answer.variant].difference
        assert clean is not None
        findings.append(
            say(
                "scores",
                "clean",
                part=show_clean_part(evaluation, part),
                value=clean.value,
                unit=answer.unit,
                interval=in_brackets(*widest(clean)),
            )
        )
    if REREAD in variants and answer.reference != REREAD:
        score = variants[REREAD].score.mean
        findings.append(say("scores", "reread", variant=REREAD, score=score, unit=answer.unit))
    return [*findings, _growth(evaluation, answer), *_caveats(evaluation)]


def _caveats(evaluation: Evaluation) -> list[str]:
    name, baseline = evaluation.baseline, evaluation.variants[evaluation.baseline]
    edges: dict[str, list[str]] = {}
    for variant, result in evaluation.variants.items():
        if result.tuning.edge:
            edges.setdefault(result.tuning.edge, []).append(variant)
    return [
        *([] if baseline.converged else [say("scores", "unfinished", variant=name, converged=baseline.converged)]),
        *(say("scores", "edge", variants=names, edge=edge) for edge, names in edges.items()),
    ]


def _growth(evaluation: Evaluation, answer: Answer) -> str:
    """Return whether the lead of the best attention grows with the length of the source."""
    if evaluation.slopes_refused:
        return say("scores", "growth_refused", reason=evaluation.slopes_refused)
    slope = evaluation.slopes[answer.variant]
    return say("scores", "growth", value=slope.value, unit=answer.unit, interval=in_brackets(*widest(slope)))


def _scores_part(evaluation: Evaluation) -> list[Block]:
    facts, first = evaluation.corpus, next(iter(evaluation.variants.values()))
    read = say(
        "scores",
        "read",
        train=facts.pairs["train"],
        test=facts.pairs["test"],
        tokens=first.seeds[0].target_tokens,
        copied=first.copied,
        unit=evaluation.metric.heading,
    )
    return [
        Paragraph(read),
        variants_table(evaluation),
        *([clean_table(evaluation, evaluation.clean_part)] if evaluation.clean_part else []),
    ]


def _lengths_part(evaluation: Evaluation) -> list[Block]:
    of_bleu = next(iter(evaluation.variants.values())).brevity_penalty is not None
    return [
        *length_figures(evaluation, main_variants(evaluation)),
        difference_figure(evaluation),
        lengths_table(evaluation),
        *([ratio_figure(evaluation), brevity_figure(evaluation)] if of_bleu else []),
        *([premature_figure(evaluation)] if has_early_ends(evaluation) else []),
    ]


def _examples_part(evaluation: Evaluation) -> list[Block]:
    return [
        Example(
            f"{example.id}, {example.source_words} words",
            [("source", example.source), ("reference", example.reference), *example.translations.items()],
        )
        for example in evaluation.examples
    ]


def _provenance(evaluations: Mapping[str, Evaluation], origin: ReportOrigin) -> Folded:
    columns = [_provenance_column(evaluation) for evaluation in evaluations.values()]
    facts = dict.fromkeys(fact for column in columns for fact in column)  # Corpora may have other metrics.
    rows = [[fact, *(column.get(fact, "-") for column in columns)] for fact in facts]
    table = Table("provenance", ["", *evaluations], rows, say("tables", "provenance"), text_columns=1 + len(columns))
    made = say("reading", "made", command=origin.command, date=origin.date, commit=origin.commit)
    return Folded(2, say("reading", "provenance"), [Paragraph(made), table])


def _provenance_column(evaluation: Evaluation) -> dict[str, str]:
    facts, variants = evaluation.corpus, list(evaluation.variants.values())
    first, machine = variants[0], variants[0].machine
    commits = sorted({commit[:12] for variant in variants for commit in variant.commits})
    dirty = " (files differed from it)" if any(variant.dirty for variant in variants) else ""
    threads = sorted({number for variant in variants for number in variant.threads})
    training = sum(result.seconds for variant in variants for result in variant.seeds)
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in facts.dropped.items())
    return {
        "training pairs": f"{facts.pairs['train']:,}",
        "dev pairs": f"{facts.pairs['dev']:,}",
        "test pairs": f"{facts.pairs['test']:,}",
        "dropped from train": dropped if facts.leaks_removed else f"{dropped}; synthetic pairs are not searched",
        "training pairs with a sentence of dev or test": f"{facts.leaks:,}"
        + (f" (searched on the {' and '.join(facts.leak_sides)} side alone)" if facts.leak_sides else ""),
        f"test targets that share an {NGRAM}-gram of words with a training target": _show_overlap(facts),
        "digest of the corpus": facts.digest[:12],
        "tokenizer": f"{facts.tokenizer.pieces:,} pieces, digest {facts.tokenizer.digest[:12]}",
        "seeds": ", ".join(str(result.seed) for result in first.seeds),
        "commit of the trainings": ", ".join(commits) + dirty,
        "precision of the trainings": _show_precisions(evaluation),
        "training": f"{training / 60:z.0f} minutes",
        "search": f"{sum(variant.tuning.seconds for variant in variants) / 60:z.0f} minutes",
        "machine": f"{machine['gpu'] or machine['processor']}; CPU threads: {' or '.join(map(str, threads))}",
        "torch": str(machine["torch"]),
        "bootstrap resamples": f"{evaluation.resamples:,}",
        **{facts.heading: facts.signature for facts in evaluation.metrics.values()},
    }


def _show_precisions(evaluation: Evaluation) -> str:
    """Return trainer.precision of the variants; of several precisions, each with its variants."""
    names: dict[str, list[str]] = {}
    for name, variant in evaluation.variants.items():
        names.setdefault(variant.config["trainer"]["precision"], []).append(name)
    if len(names) == 1:
        return next(iter(names))
    return "; ".join(f"{precision}: {', '.join(variants)}" for precision, variants in names.items())


def _show_overlap(facts: CorpusFacts) -> str:
    """Return the share of test targets that have an n-gram of train, and the share of their words in such n-grams."""
    if facts.overlap is None:
        return "not counted"
    own = facts.overlap["test"]["target"]
    sharing, covered = 100 * own.sharing / own.sentences, 100 * own.covered / max(own.words, 1)
    return f"{sharing:z.1f} %, with {covered:z.1f} % of all words"
