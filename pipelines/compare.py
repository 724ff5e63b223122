"""Compare the test translations of two runs, with paired intervals: python pipelines/compare.py RUN OTHER_RUN"""

from pathlib import Path

from hourglass.analysis.comparing import compare_runs
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.metrics.scoring import FEW, show_bounds
from hourglass.metrics.significance import RESAMPLES, Difference
from hourglass.reports.phrases import show_p, show_range


def main(first: str, second: str) -> None:
    """Print both scores, and the difference in all and by source length."""
    test, difference, scores = compare_runs(Path(first), Path(second), RESAMPLES)
    for name, bleu in scores.items():
        print(f"{name}: {bleu.whole.mean:.2f} BLEU {show_range(bleu.whole.interval)}")
    print(
        f"\n{'source words':<12}  {'sentences':>9}  {'difference':>10}  {'95 % interval':>18}  {'p':>6}  {'p Holm':>6}"
    )
    for bucket, row in difference.by_length.items():
        sentences = len(test.inside(bucket))
        mark = "*" if sentences < FEW else " "
        print(_line(show_bounds(test.bounds[bucket]), f"{sentences:,}{mark}", row, show_p(row.p_holm)))
    mark = "*" if len(test.rows) < FEW else " "
    print(_line("all", f"{len(test.rows):,}{mark}", difference.whole, ""))
    print(
        f"\nThe first run minus the second, with {RESAMPLES:,} paired bootstrap resamples of sentences, each bucket "
        "within itself.\nIntervals are pointwise and hold for these two trained models: another seed would score "
        f"differently. *: fewer than {FEW} sentences.\n"
        "No interval: some resamples hold no reference of four tokens, so BLEU is not defined on them."
    )


def _line(label: str, sentences: str, row: Difference, p_holm: str) -> str:
    interval = show_range(row.trained)
    return f"{label:<12}  {sentences:>9}  {row.value:>10.2f}  {interval:>18}  {show_p(row.p):>6}  {p_holm:>6}"


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("RUN", "OTHER_RUN"))
