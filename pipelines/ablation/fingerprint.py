"""Measure how each variant of a corpus trains in its first steps: python pipelines/ablation/fingerprint.py CORPUS

The searches and trainings of a variant hang on its fingerprint, in place of the text of the code: a change that alters
nothing trains nothing anew. A file whose fingerprint is still right, but for rounding on another processor, stays.
"""

from pathlib import Path

from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.system.records import read_record, write_record
from hourglass.training.fingerprint import FINGERPRINT_VERSION, Fingerprint


def main(ablation: Ablation, corpus: str) -> None:
    """Write results/CORPUS/fingerprints/VARIANT.json for every variant and the blind decoder."""
    ablation.check_corpus(corpus)
    # Lightning takes seconds to import.
    from hourglass.training.first_steps import measure_fingerprint  # noqa: PLC0415

    settings = ablation.corpora[corpus]
    files = []
    for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
        # With the smallest budget: a further rung of the ladder leaves the others as they are.
        words = ablation.overrides(variant, settings.seeds[0], settings.budgets[0])
        fingerprint = measure_fingerprint(ablation.compose(words))
        file = ablation.fingerprint_file(variant)
        files.append(file)
        before = recorded(file, ablation.remedy)
        if before is not None and before.holds(fingerprint):
            print(f"{variant.name}: as it was")
        else:
            write_record(file, fingerprint, FINGERPRINT_VERSION)
            print(f"{variant.name}: {'new' if before is None else 'changed: it is searched and trained anew'}")
    for file in files[0].parent.glob("*.json"):
        if file not in files:
            file.unlink()


def recorded(file: Path, remedy: str) -> Fingerprint | None:
    """Return a fingerprint that was written before, if it can be read."""
    try:
        return read_record(file, Fingerprint, FINGERPRINT_VERSION, remedy)
    except UserError:
        return None


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage("CORPUS"))
