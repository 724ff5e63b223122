"""Compare the test translations of two runs, with paired intervals: python pipelines/compare.py RUN OTHER_RUN"""

from pathlib import Path
from typing import Any

from hourglass.analysis.comparing import compare_runs
from hourglass.config.command_line import arguments, one_line_errors
from hourglass.metrics.scoring import FEW
from hourglass.metrics.significance import RESAMPLES
from hourglass.reports.phrases import show_p, show_range


def main(one: str, other: str) -> None:
    """Print both scores, and the difference in all and by source length."""
    test, found, scores = compare_runs(Path(one), Path(other), RESAMPLES)
    for name, score in scores.items():
        print(f"{name}: {score['mean']:.2f} BLEU {show_range(score['interval'])}")
    print(
        f"\n{'source words':<12}  {'sentences':>9}  {'difference':>10}  {'95 % interval':>18}  {'p':>6}  {'p Holm':>6}"
    )
    for bucket, row in found["buckets"].items():
        low, high = test.bounds[bucket]
        sentences = len(test.inside(bucket))
        mark = "*" if sentences < FEW else " "
        print(_line(f"{low}+" if high is None else f"{low}-{high}", f"{sentences:,}{mark}", row, show_p(row["p_holm"])))
    print(_line("all", f"{len(test.rows):,} ", found, ""))
    print(
        f"\nThe first less the second. Paired bootstrap over sentences, {RESAMPLES:,} resamples, buckets within "
        "themselves and pointwise:\nit speaks of these two trained models, not of their architectures, whose seeds "
        f"vary too. *: fewer than {FEW} sentences.\n"
        "No interval: some resamples hold no reference of four tokens, and have no BLEU."
    )


def _line(label: str, sentences: str, row: dict[str, Any], p_holm: str) -> str:
    interval = show_range(row["trained"])
    return f"{label:<12}  {sentences:>9}  {row['value']:>10.2f}  {interval:>18}  {show_p(row['p']):>6}  {p_holm:>6}"


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("RUN", "OTHER_RUN"))
