"""Bits of the references that reach the decoder: python pipelines/bits.py BLIND_RUN RUN ... [out=FOLDER]

First come differences of two variants, in which the blind run plays no part: in total, and how they grow with sentence
length. Then come the bits of each variant, which are as good as the blind run.

BLIND_RUN is a run of encoder=blind (python src/train.py experiment=language_model). Join the seeds of one variant by
commas. Of several blind runs, joined likewise, the best on dev is used, and the bits that its other seeds need are
printed beside it. With out=FOLDER, the result and a report with figures and tables are written there; with out=FOLDER
alone, the report is written again from the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import NonNegativeInt

from hourglass.analysis.bits import measure_bits
from hourglass.analysis.frozen import SUFFIX
from hourglass.analysis.information import (
    Contrast,
    ContrastiveBits,
    Information,
    LengthBucket,
    NulledBits,
    VariantBits,
    read_information,
    write_information,
)
from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.config.usage import usage_line
from hourglass.errors import UserError
from hourglass.metrics.saturation import Saturation
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import CONVERGED, RESAMPLES, Estimate
from hourglass.reports.bits import describe_search, describe_settings, readings_side_by_side, report_bits
from hourglass.reports.document import write_files
from hourglass.reports.phrases import show_range
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import has_frozen_encoder


@dataclass(frozen=True)
class BitsSettings:
    """conf/bits.yaml.

    Attributes:
        blind: run folders of the source-blind model, joined by commas; None: write the report in `out` again.
        run: run folders; those of one variant joined by commas.
        out: folder for result and report; None: only print the result.
        contrastive: sources under which each reference is scored; 0: no contrastive bound.
    """

    blind: str | None
    run: list[str]
    out: str | None
    contrastive: NonNegativeInt

    def __post_init__(self) -> None:
        if self.contrastive == 1:
            raise UserError("contrastive=1: the own source and another one are the least; set 2 or more, or 0")


def main(values: Mapping[str, Any]) -> None:
    """Print the bits of each variant, in total and by source length; the first variant is the baseline."""
    settings = build(BitsSettings, values, "")
    if settings.blind is None and not settings.run and settings.out is not None:
        folder = Path(settings.out)
        write_result(folder, read_information(folder / "information.json", f"{usage_line('bits')} out={folder}"))
        return
    if settings.blind is None or not settings.run:
        missing = "run: no runs to measure" if settings.blind else "blind: no run of encoder=blind"
        raise UserError(f"{missing}; usage: {usage_line('bits')}")
    blind_runs = [FinishedRun.open(path, "blind") for path in settings.blind.split(",")]
    variants = {word: [FinishedRun.open(path) for path in word.split(",")] for word in settings.run}
    # Named by attention, as in reports, unless two variants share one.
    names = [
        f"{runs[0].config['attention']['name']}{SUFFIX if has_frozen_encoder(runs[0].config) else ''}"
        for runs in variants.values()
    ]
    if len(set(names)) < len(names):
        names = list(variants)
    information = measure_bits(
        blind_runs,
        dict(zip(names, variants.values(), strict=True)),
        baseline=names[0],
        edges=next(iter(variants.values()))[0].config["edges"],
        resamples=RESAMPLES,
        converged=CONVERGED,
        contrastive=settings.contrastive,
        blind_rates=[run.config["optimizer"]["learning_rate"] for run in blind_runs],
    )
    print(show_information(information))
    if settings.out is not None:
        write_information(Path(settings.out) / "information.json", information)
        write_result(Path(settings.out), information)


def write_result(folder: Path, information: Information) -> None:
    """Write the report with its figures and tables."""
    write_files(folder, report_bits(information))
    print(f"written: {folder}/report.html")


def show_information(information: Information) -> str:
    """Return a result as lines of text, differences first because they need no assumption."""
    lines = []
    if information.all_contrasts:
        lines.append("bits per sentence that one variant's decoder receives more than another's (no blind model):")
        for contrast in information.all_contrasts:
            lines += show_contrast(contrast)
        lines.append("")
    if information.setting_differences:
        lines += [describe_settings(information), ""]
    lines += [*show_side_by_side(information), *describe_search(information.blind), ""]
    blind = information.blind
    lines.append(
        f"blind model: {blind.bits:z.2f} bits per sentence ({blind.target_pieces:z.1f} pieces), {blind.end_bits:z.2f} "
        f"of them for end of sentence; temperature {blind.temperature:z.2f}, {blind.raw_bits:z.2f} bits at temperature "
        f"1; {show_converged(blind.converged)}"
    )
    if blind.other_seeds:
        others = ", ".join(f"{bits:z.2f}" for bits in blind.other_seeds)
        lines.append(f"its other seeds, which are worse on dev, need {others} bits: no interval here includes that")
    if information.exact_bits is not None:
        lines.append(f"the references hold {information.exact_bits:z.2f} bits")
    for name, own in information.variants.items():
        lines += ["", *show_variant(name, own, information.lengths)]
    lines += [
        "",
        f"*: fewer than {FEW} sentences. Intervals: 95 %, paired bootstrap over sentences; after 'seeds:', over "
        "sentences and the variants' own seeds.",
    ]
    return "\n".join(lines)


def show_side_by_side(information: Information) -> list[str]:
    """Return the lines of a table of all readings, and what each assumes."""
    columns = readings_side_by_side(information)
    table = [["", *(column.heading for column in columns)]]
    for number, name in enumerate(information.variants):
        table.append([name, *(column.cells[number] for column in columns)])
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    return [
        "all readings side by side, bits per sentence:",
        *(
            "  ".join(["", *(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))]).rstrip()
            for row in table
        ),
        *(column.assumption for column in columns),
    ]


def show_contrast(contrast: Contrast) -> list[str]:
    """Return the lines of a difference of two variants."""
    whole, curve = contrast.difference.whole, contrast.difference.curve
    own = f"; seeds: {show_range(whole.own_spread)}" if whole.own_spread else ""
    lines = [f"  {contrast.variant} less {contrast.reference}: {whole.value:+z.2f} {show_range(whole.trained)}{own}"]
    return [*lines, f"    {show_plateau(curve, '+')}"] if curve else lines


def show_variant(name: str, own: VariantBits, lengths: list[LengthBucket]) -> list[str]:
    """Return the lines of one variant."""
    temperatures = ", ".join(f"{temperature:z.2f}" for temperature in own.temperatures)
    return [
        f"{name}: {own.bits.mean:z.2f} bits per sentence {show_range(own.bits.interval)}",
        f"  {own.end_bits.mean:z.2f} of them for end of sentence; temperature {temperatures}, {own.raw_bits.mean:z.2f} "
        f"bits at temperature 1; {show_converged(own.verdict)}",
        *([show_contrastive(own.contrastive)] if own.contrastive else []),
        *show_buckets(lengths, own.by_length),
        f"  {show_plateau(own.saturation)}",
        *([] if own.nulled is None else show_nulled(own.nulled, lengths)),
    ]


def show_nulled(nulled: NulledBits, lengths: list[LengthBucket]) -> list[str]:
    """Return the lines of a variant's bits by its own likelihoods without source."""
    return [
        f"  source nulled (trainer.null_source={nulled.share:zg}): {nulled.bits.mean:z.2f} bits per sentence "
        f"{show_range(nulled.bits.interval)}, {nulled.word_bits.mean:z.2f} per word "
        f"{show_range(nulled.word_bits.interval)}",
        *show_buckets(lengths, nulled.by_length),
    ]


def show_contrastive(own: ContrastiveBits) -> str:
    """Return the line of a variant's contrastive bound."""
    length = "beyond what the length of the source tells" if own.classes > 1 else "the length of the source included"
    return (
        f"  contrastive: at least {own.bits.mean:z.2f} bits {show_range(own.bits.interval)}, {length}; at most "
        f"{own.cap:z.2f}, as {own.sources:,} test sources are compared; {own.sentences} sentences"
    )


def show_buckets(lengths: Sequence[LengthBucket], estimates: Sequence[Estimate | None]) -> list[str]:
    """Return the lines of a variant's bits by length, of the buckets that have sentences."""
    lines = []
    for bucket, estimate in zip(lengths, estimates, strict=True):
        if estimate is not None:
            words, mark = show_bounds(bucket.source_words), "*" if bucket.sentences < FEW else ""
            exact = "" if bucket.exact_bits is None else f"  of {bucket.exact_bits:z.2f}"
            lines.append(f"  {words:>7} words{mark:<1}  {estimate.mean:8.2f} {show_range(estimate.interval)}{exact}")
    return lines


def show_converged(converged: bool | None) -> str:
    """Return the convergence of runs in words."""
    if converged is None:
        return "whether converged cannot be told"
    return "converged" if converged else "not converged"


def show_plateau(curve: Saturation, sign: str = "") -> str:
    """Return whether a curve over source words levels off; with the sign "+", of a difference."""
    if curve.plateau is None:
        own = f"; seeds: {show_range(curve.slope_own_spread)}" if curve.slope_own_spread else ""
        return (
            f"no plateau up to {curve.longest:z.0f} words; {curve.slope:+z.2f} bits per source word "
            f"{show_range(curve.slope_interval)}{own}"
        )
    own = f"; seeds: {show_range(curve.plateau_own_spread)}" if curve.plateau_own_spread else ""
    height = f"{curve.plateau:{sign}z.1f} bits {show_range(curve.plateau_interval)}{own}"
    return f"flat at {height} for all observed lengths" if curve.flat else f"plateau at {height}"


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("bits", "blind", "run..."))
