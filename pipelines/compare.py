"""Compare the test translations of two runs, with paired intervals: python pipelines/compare.py RUN OTHER_RUN"""

from pathlib import Path
from typing import Any

from hourglass.errors import arguments, one_line_errors
from hourglass.evaluation import compare_runs
from hourglass.scoring import FEW
from hourglass.significance import RESAMPLES


def main(one: str, other: str) -> None:
    """Print both scores, and the difference in all and by source length."""
    test, found, scores = compare_runs(Path(one), Path(other), RESAMPLES)
    for name, score in scores.items():
        print(f"{name}: {score['mean']:.2f} BLEU [{score['low']:.2f}, {score['high']:.2f}]")
    print(
        f"\n{'source words':<12}  {'sentences':>9}  {'difference':>10}  {'95 % interval':>18}  {'p':>6}  {'p Holm':>6}"
    )
    for bucket, row in found["buckets"].items():
        low, high = test.bounds[bucket]
        sentences = len(test.inside(bucket))
        mark = "*" if sentences < FEW else " "
        print(
            _line(f"{low}+" if high is None else f"{low}-{high}", f"{sentences:,}{mark}", row, f"{row['p_holm']:.4f}")
        )
    print(_line("all", f"{len(test.rows):,} ", found, ""))
    print(
        f"\nThe first less the second. Paired bootstrap over sentences, {RESAMPLES:,} resamples, buckets within "
        "themselves and pointwise:\nit speaks of these two trained models, not of their architectures, whose seeds "
        f"vary too. *: fewer than {FEW} sentences."
    )


def _line(label: str, sentences: str, row: dict[str, Any], p_holm: str) -> str:
    trained = row["trained"]
    interval = f"[{trained['low']:.2f}, {trained['high']:.2f}]"
    return f"{label:<12}  {sentences:>9}  {row['value']:>10.2f}  {interval:>18}  {row['p']:>6.4f}  {p_holm:>6}"


if __name__ == "__main__":
    with one_line_errors():
        main(*arguments("RUN", "OTHER_RUN"))
