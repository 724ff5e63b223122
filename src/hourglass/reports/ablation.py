"""The report of an ablation: findings first, then how to read it, then tables and figures by corpus."""

from collections.abc import Mapping
from dataclasses import dataclass

from hourglass.analysis.convergence import describe_verdict
from hourglass.analysis.evaluation import CorpusFacts, Evaluation
from hourglass.analysis.information import Information
from hourglass.analysis.ladder import Ladder
from hourglass.corpora.overlap import NGRAM
from hourglass.metrics.scoring import FEW
from hourglass.reports.ablation_figures import (
    brevity_figure,
    difference_figure,
    learning_figure,
    length_figure,
    ratio_figure,
)
from hourglass.reports.ablation_tables import (
    clean_table,
    doubling_table,
    lengths_table,
    pairs_table,
    search_table,
    show_clean_part,
    variants_table,
)
from hourglass.reports.bits import BITS_DEFINED, bits_section, summarise_bits
from hourglass.reports.document import Block, Bullets, Example, Heading, Paragraph, Table
from hourglass.reports.ladder import ladder_section, summarise_ladder
from hourglass.reports.objections import list_objections
from hourglass.reports.phrases import NOT_CHOOSING, ONCE, REREAD, in_brackets, listing, show_tokens, widest
from hourglass.reports.width import find_causes, width_section

TITLE = "What a fixed context vector costs, and what attention buys back"


QUESTION = (
    "A sequence-to-sequence model without attention hands the source to its decoder as one vector of fixed size. With "
    "attention, the decoder looks at all encoder states at every step. This report compares such models, otherwise "
    "alike, on the same test sentences."
)


@dataclass(frozen=True)
class ReportOrigin:
    """Where a report comes from.

    Attributes:
        commit: git commit of the code that wrote it.
        date: of writing.
    """

    commit: str
    date: str


def write_ablation(
    evaluations: Mapping[str, Evaluation],
    origin: ReportOrigin,
    information: Mapping[str, Information] | None = None,
    ladders: Mapping[str, Ladder] | None = None,
) -> list[Block]:
    """Return the report of an ablation.

    Args:
        evaluations: by corpus.
        origin: of the report.
        information: bits that reach the decoders, by corpus; a corpus without them has no section on bits.
        ladders: the gaps against the budget, by corpus; a corpus without them has no section on budgets.
    """
    information, ladders = information or {}, ladders or {}
    causes = {name: find_causes(information[name], own) for name, own in ladders.items() if name in information}
    blocks: list[Block] = [Heading(1, TITLE), Paragraph(QUESTION), _headline_table(evaluations)]
    for name, evaluation in evaluations.items():
        languages = f"{evaluation.corpus.source} to {evaluation.corpus.target}"
        quality = "Translation quality" if evaluation.main == "bleu" else evaluation.metric.heading
        blocks += [Heading(2, f"{quality} on {name} ({languages})"), Bullets(summarise_scores(evaluation))]
    if information:
        blocks += [Heading(2, "Bits that reach the decoder"), Paragraph(BITS_DEFINED)]
    for name, bits in information.items():
        blocks += [Heading(3, f"Bits on {name}"), *map(Paragraph, summarise_bits(bits))]
        if name in ladders:
            blocks += map(Paragraph, summarise_ladder(ladders[name], causes[name]))
    blocks += [Heading(2, "How to read the tables and figures"), Bullets(_explain_reading(evaluations))]
    for name, evaluation in evaluations.items():
        if objections := list_objections(evaluation):
            blocks += [Heading(2, f"What can be objected to the results on {name}"), Bullets(objections)]
    for name, evaluation in evaluations.items():
        blocks += _corpus_section(evaluation)
        if name in information:
            blocks += bits_section(information[name])
        if name in ladders:
            blocks += ladder_section(ladders[name], causes.get(name, ()))
        if name in information:
            blocks += width_section(information[name], best_attention(evaluation))
    return [*blocks, *_provenance(evaluations, origin)]


def _explain_reading(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Return how to read the report, of the variants and searches that this ablation has."""
    variants = [item for evaluation in evaluations.values() for item in evaluation.variants.items()]
    searched = any(len({each.learning_rate for each in own.tuning.candidates}) > 1 for _, own in variants)
    texts = [
        "The variants of a corpus share encoder, decoder, data and training budget. They differ in how the decoder "
        "sees the source"
        + (", and in the learning rate, which a small search on dev chose for each." if searched else "."),
    ]
    if any(name == ONCE for name, _ in variants):
        texts.append(
            f"Variant {ONCE}: one vector, the summary of the encoder, sets the first state of the decoder, which sees "
            "nothing else of the source."
        )
    reversing = dict.fromkeys(name for name, own in variants if own.tuning.tries_reversed_source)
    if reversing:
        tried = (
            f"The search for {' and '.join(reversing)} also tried the source in reverse order; with a bidirectional "
            "encoder, which is the default, that changes little."
        )
        texts = [*texts[:-1], f"{texts[-1]} {tried}"] if list(reversing) == [ONCE] else [*texts, tried]
    return [
        *texts,
        *_explain_copies(evaluations),
        "Each difference has up to three 95 % intervals. These trained models: another test set would give other "
        "scores. This architecture: so would other seeds. Its pooled interval uses the variance over seeds of all "
        "variants; its own-spread interval uses that of the two variants alone. Few seeds make both wide. Quote own "
        "spread where some variants vary more between seeds than others.",
        f"Intervals of single lengths are pointwise. A filled mark stands for {FEW} sentences or more.",
    ]


def _explain_copies(evaluations: Mapping[str, Evaluation]) -> list[str]:
    """Return what the line `copy` is, in figures that have it."""
    having = [own for own in evaluations.values() if next(iter(own.variants.values())).copied is not None]
    titles = dict.fromkeys(own.metric.heading for own in having)
    return [f"copy: {' or '.join(titles)} of the source as its own translation."] if titles else []


def _direction(evaluation: Evaluation) -> str:
    """Return, of a metric of which less is better, that it is so."""
    return "" if evaluation.metric.higher_is_better else f" ({evaluation.metric.direction})"


def best_attention(evaluation: Evaluation) -> str:
    """Return the variant with attention that has the lowest dev loss; a choice on test would favour it."""
    others = [name for name in evaluation.variants if name != evaluation.baseline]
    attentions = [name for name in others if _chooses(name)] or others
    return min(attentions, key=lambda name: evaluation.variants[name].dev_loss)


def _chooses(name: str) -> bool:
    """Whether a variant's decoder chooses at each step what to read."""
    return name != ONCE and name not in NOT_CHOOSING


def summarise_scores(evaluation: Evaluation) -> list[str]:
    """Return the findings on scores, a few sentences each: the difference that attention makes, and the caveats."""
    name, best, variants = evaluation.baseline, best_attention(evaluation), evaluation.variants
    baseline, unit = variants[name], evaluation.metric.heading
    difference = variants[best].difference
    assert difference is not None
    interval, covers = widest(difference.whole)
    of_best = "The best model with attention" if _chooses(best) else "The best other model"
    of_baseline = "The baseline"
    if name == ONCE:
        of_baseline = "The model whose decoder receives one fixed vector before its first step"
    findings = [
        f"{of_best} (variant {best}) scores {variants[best].score.mean:.1f} {unit}"
        f"{_direction(evaluation)}. {of_baseline} (variant {name}) scores {baseline.score.mean:.1f}. "
        f"The difference is {difference.whole.value:.1f} {unit}{in_brackets(interval, covers)}."
    ]
    if part := evaluation.clean_part:
        clean = part.variants[best].difference
        assert clean is not None
        interval, covers = widest(clean)
        findings.append(
            f"On {show_clean_part(evaluation, part)}, the difference is {clean.value:.1f} {unit}"
            f"{in_brackets(interval, covers)}."
        )
    if REREAD in variants and name != REREAD:
        findings.append(
            f"A decoder that reads the fixed vector again at every step (variant {REREAD}) scores "
            f"{variants[REREAD].score.mean:.1f} {unit}."
        )
    return [*findings, _growth(evaluation, best), *_caveats(evaluation)]


def _caveats(evaluation: Evaluation) -> list[str]:
    caveats = []
    name, baseline = evaluation.baseline, evaluation.variants[evaluation.baseline]
    if not baseline.converged:
        verdict = describe_verdict(baseline.converged)
        caveats.append(f"Variant {name} {verdict} when its training ended. More training may raise its score.")
    edges: dict[str, list[str]] = {}
    for variant, result in evaluation.variants.items():
        if result.tuning.edge:
            edges.setdefault(result.tuning.edge, []).append(variant)
    for edge, names in edges.items():
        caveats.append(
            f"For {listing(names)} the search chose the {edge} learning rate that it tried. A better one may lie "
            "beyond it."
        )
    return caveats


def _growth(evaluation: Evaluation, best: str) -> str:
    """Return whether the lead of the best attention grows with the length of the source."""
    if evaluation.slopes_refused:
        return f"Does the difference grow with sentence length? That cannot be told here: {evaluation.slopes_refused}."
    slope = evaluation.slopes[best]
    interval, covers = widest(slope)
    return (
        f"For every 10 more source words the difference grows by {slope.value:.1f} "
        f"{evaluation.metric.heading}{in_brackets(interval, covers)}."
    )


def _headline_table(evaluations: Mapping[str, Evaluation]) -> Table:
    rows = []
    for name, evaluation in evaluations.items():
        best, variants = best_attention(evaluation), evaluation.variants
        difference = variants[best].difference
        assert difference is not None
        interval, _ = widest(difference.whole)
        reread = f"{variants[REREAD].score.mean:.1f}" if REREAD in variants else "-"
        rows.append(
            [
                name,
                f"{variants[evaluation.baseline].score.mean:.1f}",
                reread,
                f"{variants[best].score.mean:.1f} ({best})",
                f"{difference.whole.value:+.1f}",
                f"{interval.low:.1f} to {interval.high:.1f}" if interval else "-",
            ]
        )
    baselines = " or ".join(dict.fromkeys(evaluation.baseline for evaluation in evaluations.values()))
    of_baseline = "fixed vector, once" if baselines == ONCE else "baseline"
    choosing = all(_chooses(best_attention(evaluation)) for evaluation in evaluations.values())
    of_best = "attention" if choosing else "other"
    head = ["corpus", f"{of_baseline} ({baselines})", f"fixed vector, every step ({REREAD})"]
    head += [f"{of_best} (the best on dev)", f"{of_best} minus {baselines}", "95 % interval"]
    metrics = {evaluation.metric.heading: evaluation for evaluation in evaluations.values()}
    titles = " or ".join(f"{title}{_direction(evaluation)}" for title, evaluation in metrics.items())
    range_ = ", from 0 to 100" if list(metrics) == ["BLEU"] else ""
    caption = f"{titles} on the test set{range_}: means over seeds."
    return Table("headline", head, rows, caption)


def _corpus_section(evaluation: Evaluation) -> list[Block]:
    facts, first = evaluation.corpus, next(iter(evaluation.variants.values()))
    copied = ""
    if first.copied is not None:
        copied = f" The source, copied unchanged, scores {first.copied:.1f} {evaluation.metric.heading}."
    of_bleu = [ratio_figure(evaluation), brevity_figure(evaluation)] if first.brevity_penalty is not None else []
    blocks: list[Block] = [
        Heading(2, f"{facts.name}: {facts.source} to {facts.target}"),
        Paragraph(
            f"{facts.pairs['train']:,} training pairs, {facts.pairs['test']:,} test sentences. Every run read about "
            f"{show_tokens(first.seeds[0].target_tokens)} target tokens.{copied}"
        ),
        variants_table(evaluation),
        *([clean_table(evaluation, evaluation.clean_part)] if evaluation.clean_part else []),
        length_figure(evaluation),
        difference_figure(evaluation),
        lengths_table(evaluation),
        learning_figure(evaluation),
        *of_bleu,
        *([doubling] if (doubling := doubling_table(evaluation)) else []),
        pairs_table(evaluation),
        search_table(evaluation),
    ]
    if evaluation.examples:
        blocks.append(Heading(3, f"{facts.name}: test sentences, short to long, translated by the first seed"))
    for example in evaluation.examples:
        lines = [("source", example.source), ("reference", example.reference), *example.translations.items()]
        blocks.append(Example(f"{example.id}, {example.source_words} words", lines))
    return blocks


def _provenance(evaluations: Mapping[str, Evaluation], origin: ReportOrigin) -> list[Block]:
    columns = [_provenance_column(evaluation) for evaluation in evaluations.values()]
    rows = [[fact, *(column[fact] for column in columns)] for fact in columns[0]] if columns else []
    caption = (
        "Data, models and machines. The checkpoint with the lowest dev loss is scored on the whole test set. Training "
        "pairs are dropped if one of their sentences also occurs in dev or test (leak), if a side is empty, or if it "
        "is too long."
    )
    return [
        Heading(2, "How it was made"),
        Paragraph(f"Made by dvc repro; report of {origin.date} at commit {origin.commit}."),
        Table("provenance", ["", *evaluations], rows, caption, text_columns=1 + len(columns)),
    ]


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
        "training": f"{training / 60:.0f} minutes",
        "search": f"{sum(variant.tuning.seconds for variant in variants) / 60:.0f} minutes",
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
    return f"{100 * own.sharing / own.sentences:.1f} %, with {100 * own.covered / max(own.words, 1):.1f} % of all words"
