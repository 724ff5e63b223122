"""Tables of the ablation's report."""

from hourglass.analysis.convergence import NOT_JUDGED, show_convergence
from hourglass.analysis.evaluation import CleanPart, Evaluation, VariantResult
from hourglass.analysis.neck import NECK, NECK_DEFINED, neck_of
from hourglass.corpora.overlap import NGRAM
from hourglass.corpora.recipes import lengths_of
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import FEWEST_SENTENCES
from hourglass.reports.ablation_figures import recipe_of
from hourglass.reports.document import Table
from hourglass.reports.phrases import (
    DIFFERENCE_HEADINGS,
    P_HEADINGS,
    difference_cells,
    p_cells,
    show_range,
    show_tokens,
    widest,
)
from hourglass.reports.sentences import say


def has_early_ends(evaluation: Evaluation) -> bool:
    """Whether outputs that end too early are counted of all variants."""
    return all(result.premature is not None for result in evaluation.variants.values())


def variants_table(evaluation: Evaluation) -> Table:
    """Return scores, differences and costs of all variants."""
    name, baseline, title = evaluation.corpus.name, evaluation.baseline, evaluation.metric.heading
    others = {name: facts for name, facts in evaluation.metrics.items() if name != evaluation.main}
    has_premature = has_early_ends(evaluation)
    rows = []
    for variant, result in evaluation.variants.items():
        spread = result.score.spread
        tokens = [training.target_tokens for training in result.seeds]
        gain = max(training.convergence.gain_of_last_fifth for training in result.seeds)
        rows.append(
            [
                variant,
                show_convergence(result.converged, [training.convergence for training in result.seeds]),
                f"{result.score.mean:z.2f}",
                "-" if spread is None else f"{spread:z.2f}",
                *(_show(result.others[name], facts.digits) for name, facts in others.items()),
                *([f"{result.brevity_penalty:z.3f}"] if result.brevity_penalty is not None else []),
                *([_show(result.premature, 1)] if has_premature else []),
                *difference_cells(result.difference.whole if result.difference else None),
                *p_cells(result.difference.whole if result.difference else None),
                _show_choice(result),
                f"{result.parameters:,}",
                str(neck_of(result.config)),
                f"{sum(tokens) / len(tokens) / 1e6:z.2f}",
                f"{100 * gain:z.1f}",
                str(len(result.seeds)),
            ]
        )
    has_penalty = all(result.brevity_penalty is not None for result in evaluation.variants.values())
    head = ["variant", "converged", title, "SD over seeds", *(facts.heading for facts in others.values())]
    head += [
        *(["BP"] if has_penalty else []),
        *(["early, %"] if has_premature else []),
        f"minus {baseline}",
        *DIFFERENCE_HEADINGS,
        *P_HEADINGS,
        "learning rate",
        "parameters",
        NECK,
        "M tokens",
        "last fifth, %",
        "seeds",
    ]
    caption = say(
        "tables",
        "variants",
        e=evaluation,
        doubled=all(result.doubling for result in evaluation.variants.values()),
        has_penalty=has_penalty,
        has_premature=has_premature,
        neck=NECK_DEFINED,
        unjudged=_explain_verdicts(evaluation),
    )
    return Table(f"{name}-variants", head, rows, caption, text_columns=2)


def clean_table(evaluation: Evaluation, part: CleanPart) -> Table:
    """Return scores and differences on the test sentences that share no n-gram with train, beside those on all."""
    name, baseline = evaluation.corpus.name, evaluation.baseline
    rows = []
    for variant, scores in part.variants.items():
        result = evaluation.variants[variant]
        rows.append(
            [
                variant,
                f"{result.score.mean:z.2f}",
                f"{scores.score.mean:z.2f}",
                show_range(scores.score.widest),
                f"{result.difference.whole.value:+z.2f}" if result.difference else "-",
                *difference_cells(scores.difference),
                *p_cells(scores.difference),
            ]
        )
    title = evaluation.metric.heading
    head = ["variant", f"{title}, all", f"{title}, clean part", "95 % interval", f"minus {baseline}, all"]
    head += [f"minus {baseline}, clean part", *DIFFERENCE_HEADINGS, *P_HEADINGS]
    caption = say("tables", "clean", e=evaluation, part=part, shown_part=show_clean_part(evaluation, part), ngram=NGRAM)
    return Table(f"{name}-clean", head, rows, caption, text_columns=1)


def show_clean_part(evaluation: Evaluation, part: CleanPart) -> str:
    """Return how many test sentences the clean part has, and which, as part of a sentence."""
    return say("tables", "clean_part", sentences=part.sentences, of=evaluation.sentences, ngram=NGRAM)


def lengths_table(evaluation: Evaluation) -> Table:
    """Return scores and differences by length of the source."""
    name, has_premature = evaluation.corpus.name, has_early_ends(evaluation)
    rows = []
    for number, bucket in enumerate(evaluation.buckets):
        for variant, result in evaluation.variants.items():
            score = result.buckets[number].score
            if score is None:
                continue
            difference = result.difference.by_length[number] if result.difference else None
            rows.append(
                [
                    show_bounds(bucket.source_words),
                    variant,
                    show_convergence(result.converged, [training.convergence for training in result.seeds]),
                    f"{bucket.sentences:,}{'*' if bucket.sentences < FEW else ''}",
                    f"{score.mean:z.2f}",
                    show_range(score.interval),
                    *([_show(result.buckets[number].premature, 1)] if has_premature else []),
                    *difference_cells(difference),
                    *p_cells(difference),
                ]
            )
    head = [
        lengths_of(recipe_of(evaluation)),
        "variant",
        "converged",
        "sentences",
        evaluation.metric.heading,
        "95 % interval",
    ]
    head += [
        *(["early, %"] if has_premature else []),
        f"minus {evaluation.baseline}",
        *DIFFERENCE_HEADINGS,
        *P_HEADINGS,
    ]
    undefined = say("comparison", "undefined", fewest=FEWEST_SENTENCES)
    caption = say(
        "tables",
        "lengths",
        e=evaluation,
        has_premature=has_premature,
        few=FEW,
        undefined=undefined,
        unjudged=_explain_verdicts(evaluation),
    )
    return Table(f"{name}-lengths", head, rows, caption, text_columns=3)


def doubling_table(evaluation: Evaluation) -> Table | None:
    """Return what doubling the budget brings each variant; None for an older result, which does not know."""
    name, rows = evaluation.corpus.name, []
    for variant, result in evaluation.variants.items():
        if (doubling := result.doubling) is None:
            return None
        rows.append(
            [
                variant,
                show_convergence(result.converged, [training.convergence for training in result.seeds]),
                f"{doubling.half_score:z.2f}",
                f"{doubling.half_score + doubling.difference.value:z.2f}",
                f"{doubling.difference.value:+z.2f}",
                show_range(doubling.difference.trained),
                f"{doubling.half_dev_loss:z.4f}",
                f"{100 * doubling.gain:z.1f}",
                show_tokens(doubling.half_tokens),
            ]
        )
    title = evaluation.metric.heading
    head = ["variant", "converged", f"{title}, half", f"{title}, whole", "gain", "95 % interval", "dev loss, half"]
    head += ["lower by, %", "tokens, half"]
    seed = next(iter(evaluation.variants.values())).seeds[0].seed
    caption = say("tables", "doubling", e=evaluation, seed=seed, unjudged=_explain_verdicts(evaluation))
    return Table(f"{name}-doubling", head, rows, caption)


def pairs_table(evaluation: Evaluation) -> Table:
    """Return in what each two variants differ, and the difference in score of those that differ in one trait."""
    name = evaluation.corpus.name
    rows = []
    for pair in evaluation.pairs:
        label, traits = f"{pair.first} - {pair.second}", ", ".join(pair.differ_in) or "nothing but the name"
        if pair.difference is None:
            rows.append([label, traits, "-", "-"])
        else:
            interval, covers = widest(pair.difference)
            rows.append([label, traits, f"{pair.difference.value:+z.2f}", f"{show_range(interval)} ({covers})"])
    return Table(
        f"{name}-pairs",
        ["pair", "differ in", evaluation.metric.heading, "95 % interval"],
        rows,
        say("tables", "pairs", corpus=name),
        text_columns=2,
    )


def search_table(evaluation: Evaluation) -> Table:
    """Return the candidates of each variant's search."""
    name = evaluation.corpus.name
    rows = []
    for variant, result in evaluation.variants.items():
        for candidate in result.tuning.candidates:
            label = " ".join(candidate.overrides)
            if candidate.overrides == result.tuning.chosen:
                label += " (chosen, at the edge of the grid)" if result.tuning.edge else " (chosen)"
            loss = "diverged" if candidate.dev_loss is None else f"{candidate.dev_loss:z.4f}"
            rows.append([variant, label, loss, f"{candidate.seconds / 60:z.1f}"])
    head = ["variant", "candidate", "dev loss", "minutes"]
    dropouts = any(result.tuning.dropout is not None for result in evaluation.variants.values())
    return Table(f"{name}-search", head, rows, say("tables", "search", corpus=name, dropouts=dropouts), text_columns=2)


def _show(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:z.{digits}f}"


def _explain_verdicts(evaluation: Evaluation) -> str:
    """Return the rule for trainings that are not judged, if there are any, to end a caption with."""
    return NOT_JUDGED if any(result.converged is None for result in evaluation.variants.values()) else ""


def _show_choice(result: VariantResult) -> str:
    """Return what the search of a variant chose: its learning rate, its dropout, whether it reads in reverse."""
    tuning = result.tuning
    dropout = "" if tuning.dropout is None else f", dropout {tuning.dropout:zg}"
    return f"{tuning.learning_rate:zg}{dropout}{', source reversed' if tuning.reverses_source else ''}"
