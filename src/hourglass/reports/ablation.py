"""The report of an ablation: one list of headings, paragraphs, tables and figures, written as HTML and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hourglass.metrics.scoring import FEW
from hourglass.reports.document import Block, Example, Heading, Paragraph, Picture, Table
from hourglass.reports.phrases import NOT_CHOOSING, REREAD, banded, lead, show_p, show_range, widest
from hourglass.reports.plots import Line, draw_lines

Evaluation = Mapping[str, Any]


@dataclass
class Made:
    """What a report says of how it was made, beside what the evaluations know."""

    commit: str
    date: str


def write_report(
    evaluations: Mapping[str, Evaluation],
    made: Made,
    spoken: Sequence[str] = (),
    sections: Mapping[str, Sequence[Block]] | None = None,
) -> list[Block]:
    """Return the report of an ablation's corpora.

    Args:
        evaluations: by corpus.
        made: how.
        spoken: further findings, a paragraph each, for the top.
        sections: what else is said of a corpus, by its name.
    """
    blocks: list[Block] = [Heading(1, "What a fixed context vector costs, and what attention buys back")]
    blocks += [Paragraph(answer(name, one)) for name, one in evaluations.items()]
    blocks += [Paragraph(text) for text in spoken]
    blocks.append(
        Paragraph(
            "How to read it. Every variant is the same encoder and decoder; how the decoder sees the source differs, "
            "and the learning rate that a search on dev chose for each (for none also whether the source is read last "
            "to first; where the encoder reads both ways, as it does by default, that is little more than another "
            "draw). none starts the decoder from one fixed vector (the neck) and shows it nothing else. BLEU runs "
            "from 0 to 100; copy is the score of the source handed in unchanged. "
            '"These trained models" is a 95 % interval over test sentences; "this architecture" also counts how scores '
            "vary from seed to seed: once with the variance of seeds pooled over all variants, once with the two "
            "variants' own (Welch), which is the one to quote where variants differ in their spread. Intervals of "
            "single lengths are pointwise. A filled mark stands for 50 sentences or more."
        )
    )
    for name, one in evaluations.items():
        blocks += [*_corpus(name, one), *(sections or {}).get(name, ())]
    blocks += _making(evaluations, made)
    return blocks


def answer(name: str, evaluation: Evaluation) -> str:
    """Return the finding on one corpus in few sentences, with its interval."""
    baseline = evaluation["baseline"]
    variants = evaluation["variants"]
    base = variants[baseline]
    # Chosen on dev, as any winner has to be.
    others = [one for one in variants if one != baseline]
    choosing = [one for one in others if one not in NOT_CHOOSING] or others
    best = min(choosing, key=lambda one: _dev_loss(variants[one]))
    difference = variants[best]["difference"]
    interval, of = widest(difference)
    first = (
        f"{name}: with attention ({best}, the best of them on dev) {variants[best]['bleu']['mean']:.1f} BLEU, through "
        f"one fixed vector ({baseline}) {base['bleu']['mean']:.1f}: a difference of {difference['value']:.1f} BLEU, "
        f"95 % interval {show_range(interval)} ({of})."
    )
    if REREAD in variants:
        first += (
            f" A decoder that reads such a vector again at each step ({REREAD}) scores "
            f"{variants[REREAD]['bleu']['mean']:.1f}."
        )
    if _at_the_edge(base):
        first += f" The search for {baseline} chose the edge of its grid: its best learning rate may lie beyond."
    slopes = evaluation["slopes"]
    if "refused" in slopes:
        return f"{first} Whether the gap grows with the sentence cannot be read here: {slopes['refused']}."
    growth = slopes[best]
    interval, of = widest(growth)
    return (
        f"{first} With every 10 more source words the gap grows by {growth['value']:.1f} BLEU, 95 % interval "
        f"{show_range(interval)} ({of})."
    )


def _dev_loss(variant: Mapping[str, Any]) -> float:
    losses = [dev["loss"] for dev in variant["dev"]]
    return sum(losses) / len(losses)


def _corpus(name: str, one: Evaluation) -> list[Block]:
    facts, variants = one["corpus"], one["variants"]
    order = list(variants)
    blocks: list[Block] = [
        Heading(2, f"{name}: {facts['source']} to {facts['target']}"),
        Paragraph(
            f"{facts['pairs']['train']:,} training pairs, {facts['pairs']['test']:,} test sentences; every run read "
            f"about {_thousands(variants[order[0]]['train_target_tokens'][0])} target tokens. The source copied "
            f"unchanged scores {variants[order[0]]['copy_bleu']:.1f} BLEU."
        ),
        _variants_table(name, one),
    ]
    means = [bucket["mean_source_words"] for bucket in one["buckets"]]
    curves = {}
    differences = {}
    brevity = {}
    ratio = {}
    for variant, own in variants.items():
        known = [i for i, bucket in enumerate(own["buckets"]) if bucket["bleu"]]
        x = [means[i] for i in known]
        scores = [own["buckets"][i]["bleu"] for i in known]
        few = [one["buckets"][i]["sentences"] < FEW for i in known]
        curves[variant] = banded(x, [s["mean"] for s in scores], [s["interval"] for s in scores], few)
        brevity[variant] = Line(x, [own["buckets"][i]["brevity_penalty"] for i in known], few=few)
        ratio[variant] = Line(x, [own["buckets"][i]["length_ratio"] for i in known], few=few)
        if "difference" in own:
            rows = [own["difference"]["buckets"][str(i)] for i in known]
            differences[variant] = banded(x, [row["value"] for row in rows], [widest(row)[0] for row in rows], few)
    copies = [own["buckets"][i]["copy_bleu"] for i in known]
    length, of = "mean source words of a bucket", "with 95 % bands over test sentences"
    blocks += [
        Picture(
            f"{name}-bleu-by-length",
            draw_lines(curves, x_label=length, y_label="BLEU", order=order, floor=("copy", Line(x, copies))),
            f"BLEU of {', '.join(order)} on {name} against the length of the source",
            f"BLEU by source length, means over seeds {of}.",
        ),
        Picture(
            f"{name}-difference-by-length",
            draw_lines(differences, x_label=length, y_label=f"BLEU less {one['baseline']}", zero=True, order=order),
            f"By how much each variant leads {one['baseline']} on {name}, against the length of the source",
            f"The lead over {one['baseline']} by source length, with pointwise 95 % intervals (the widest of each "
            "length in the table below).",
        ),
        _lengths_table(name, one),
        Picture(
            f"{name}-learning",
            draw_lines(
                {variant: _mean_curve(own["curves"], "loss") for variant, own in variants.items()},
                x_label="target tokens read, millions",
                y_label="dev loss, nats a token",
                order=order,
            ),
            f"Dev loss of each variant on {name} as training goes on",
            "Learning curves, means over seeds. A line that still falls at its end has not learnt what it could.",
        ),
        Picture(
            f"{name}-length-ratio",
            draw_lines(ratio, x_label=length, y_label="output length / reference length", order=order, span=0.1),
            f"Length of the output over that of the reference on {name}, against the length of the source",
            "Length ratio by source length: under 1, words are left out.",
        ),
        Picture(
            f"{name}-brevity",
            draw_lines(brevity, x_label=length, y_label="brevity penalty", order=order, span=0.1),
            f"BLEU's brevity penalty on {name}, against the length of the source",
            "Brevity penalty by source length: the factor by which BLEU is lowered for short output.",
        ),
        _pairs_table(name, one),
        _search_table(name, one),
    ]
    if one["examples"]:
        blocks.append(Heading(3, f"{name}: test sentences, short to long, first seed"))
    for example in one["examples"]:
        lines = [("source", example["source"]), ("reference", example["reference"]), *example["translations"].items()]
        blocks.append(Example(f"{example['id']}, {example['source_words']} words", lines))
    return blocks


def _variants_table(name: str, one: Evaluation) -> Table:
    rows = []
    for variant, own in one["variants"].items():
        difference = own.get("difference")
        spread = own["bleu"]["spread"]
        gains = [each["gain_of_last_fifth"] for each in own["convergence"]]
        rows.append(
            [
                variant,
                _converged(own),
                f"{own['bleu']['mean']:.2f}",
                "-" if spread is None else f"{spread:.2f}",
                f"{own['chrf']:.2f}",
                f"{own['brevity_penalty']:.3f}",
                *lead(difference),
                _chosen(own),
                f"{own['parameters']:,}",
                f"{sum(own['train_target_tokens']) / len(own['train_target_tokens']) / 1e6:.2f}",
                f"{100 * max(gains):.1f}",
                str(len(own["seeds"])),
            ]
        )
    baseline = one["baseline"]
    head = ["variant", "converged", "BLEU", "sd over seeds", "chrF", "BP", f"less {baseline}", "these trained models"]
    head += ["this architecture, pooled", "this architecture, own spread", "p", "learning rate", "parameters"]
    head += ["M tokens", "last fifth, %", "seeds"]
    caption = (
        f"Variants on {name}, test set. Means over seeds; intervals of the difference to {baseline}, 95 %; p of the "
        "paired bootstrap over sentences. Converged: the last fifth of the budget lowered the best dev loss by less "
        f"than {100 * one['converged']:g} %, for all seeds (last fifth, %: the most that a seed gained). A slope over "
        f"length is read where {baseline} has converged and scores {one['floor']:g} BLEU or more. "
        f"{next(iter(one['variants'].values()))['signature']}"
    )
    return Table(f"{name}-variants", head, rows, caption, text_columns=2)


def _lengths_table(name: str, one: Evaluation) -> Table:
    rows = []
    for number, bucket in enumerate(one["buckets"]):
        if not bucket["sentences"]:
            continue
        low, high = bucket["source_words"]
        label = f"{low}+" if high is None else f"{low}-{high}"
        few = "*" if bucket["sentences"] < FEW else ""
        for variant, own in one["variants"].items():
            score = own["buckets"][number]["bleu"]
            difference = own.get("difference", {}).get("buckets", {}).get(str(number))
            rows.append(
                [
                    label,
                    variant,
                    _converged(own),
                    f"{bucket['sentences']:,}{few}",
                    f"{score['mean']:.2f}",
                    show_range(score["interval"]),
                    *lead(difference),
                    show_p(difference["p_holm"]) if difference else "-",
                ]
            )
    head = ["source words", "variant", "converged", "sentences", "BLEU", "95 % interval", f"less {one['baseline']}"]
    head += ["these trained models", "this architecture, pooled", "this architecture, own spread", "p", "p, Holm"]
    caption = (
        f"BLEU on {name} by source length. Buckets are resampled within themselves: intervals are pointwise, and p "
        f"stands beside its value adjusted for the number of buckets (Holm). *: fewer than {FEW} sentences. No "
        "interval: the references are so short that some resamples hold no 4-gram, and have no BLEU."
    )
    return Table(f"{name}-lengths", head, rows, caption, text_columns=3)


def _pairs_table(name: str, one: Evaluation) -> Table:
    rows = []
    for pair in one["pairs"]:
        difference = pair.get("difference")
        wide = widest(difference) if difference else None
        rows.append(
            [
                f"{pair['one']} - {pair['other']}",
                ", ".join(pair["differ_in"]) or "nothing but the name",
                f"{difference['value']:+.2f}" if difference else "-",
                f"{show_range(wide[0])} ({wide[1]})" if wide else "-",
            ]
        )
    caption = (
        f"What each two variants on {name} differ in. Only those that differ in one thing are compared: their "
        "difference is that thing's."
    )
    return Table(f"{name}-pairs", ["pair", "differ in", "BLEU", "95 % interval"], rows, caption, text_columns=2)


def _search_table(name: str, one: Evaluation) -> Table:
    rows = []
    for variant, own in one["variants"].items():
        for candidate in own["tuned"]["candidates"]:
            chosen = candidate["overrides"] == own["tuned"]["chosen"]
            edge = ", at the edge of the grid" if chosen and _at_the_edge(own) else ""
            rows.append(
                [
                    variant,
                    " ".join(candidate["overrides"]) + (f" (chosen{edge})" if chosen else ""),
                    f"{candidate['dev_loss']:.4f}",
                    f"{candidate['seconds'] / 60:.1f}",
                ]
            )
    caption = (
        f"The search that every variant on {name} had, on dev, with a smaller budget: the lowest dev loss wins. What "
        "is best there need not be best with the full budget."
    )
    return Table(f"{name}-search", ["variant", "candidate", "dev loss", "minutes"], rows, caption, text_columns=2)


def _making(evaluations: Mapping[str, Evaluation], made: Made) -> list[Block]:
    blocks: list[Block] = [Heading(2, "How it was made")]
    blocks.append(Paragraph(f"dvc repro, report of {made.date} at commit {made.commit}."))
    for name, one in evaluations.items():
        facts, variants = one["corpus"], one["variants"]
        first = next(iter(variants.values()))
        machine = first["machine"]
        commits = sorted({commit for own in variants.values() for commit in own["commits"]})
        dirty = " (files differed from it)" if any(own["dirty"] for own in variants.values()) else ""
        training = sum(sum(own["train_seconds"]) for own in variants.values())
        searching = sum(own["tuned"]["seconds"] for own in variants.values())
        threads = " or ".join(map(str, sorted({number for own in variants.values() for number in own["threads"]})))
        searched = "" if facts["leaks_removed"] else " (made pairs are not searched for leaks when they are made)"
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in facts["dropped"].items())
        blocks.append(
            Paragraph(
                f"{name}: {facts['pairs']['train']:,} train, {facts['pairs']['dev']:,} dev, "
                f"{facts['pairs']['test']:,} test pairs; dropped from train: {dropped}{searched}; training pairs with "
                f"a sentence of dev or test: {facts['leaks']}. Digest {facts['digest'][:12]}, tokenizer "
                f"{facts['tokenizer']['digest'][:12]} ({facts['tokenizer']['pieces']:,} pieces). Seeds "
                f"{', '.join(map(str, first['seeds']))}. Models are chosen on dev (loss) and scored on test, whole. "
                f"Trained at commit {', '.join(commit[:12] for commit in commits)}{dirty}, in {training / 60:.0f} "
                f"minutes, after {searching / 60:.0f} minutes of search, on {machine['gpu'] or machine['processor']} "
                f"({threads} threads, torch {machine['torch']}). {one['resamples']:,} resamples. "
                f"{first['signature']}; {first['chrf_signature']}"
            )
        )
    return blocks


def _converged(variant: Mapping[str, Any]) -> str:
    return "yes" if all(each["converged"] for each in variant["convergence"]) else "no"


def _rate(overrides: Sequence[str]) -> float:
    return next(float(word.partition("=")[2]) for word in overrides if word.startswith("optimizer.learning_rate="))


def _chosen(variant: Mapping[str, Any]) -> str:
    """Return the learning rate of a variant, and whether it reads the source from its end."""
    chosen = variant["tuned"]["chosen"]
    return f"{_rate(chosen):g}" + (", source reversed" if "encoder.reverse_source=true" in chosen else "")


def _at_the_edge(variant: Mapping[str, Any]) -> bool:
    """Whether the search chose the lowest or the highest learning rate that it tried."""
    rates = [_rate(candidate["overrides"]) for candidate in variant["tuned"]["candidates"]]
    return len(set(rates)) > 1 and _rate(variant["tuned"]["chosen"]) in (min(rates), max(rates))


def _mean_curve(curves: Sequence[Mapping[str, Sequence[Sequence[float]]]], name: str) -> Line:
    """Return the mean over seeds of a curve, against millions of target tokens."""
    points = list(zip(*(curve[name] for curve in curves), strict=True))
    x = [sum(at for at, _ in each) / len(each) / 1e6 for each in points]
    return Line(x, [sum(value for _, value in each) / len(each) for each in points])


def _thousands(tokens: int) -> str:
    return f"{tokens / 1e6:.2f} million" if tokens >= 100_000 else f"{tokens:,}"
