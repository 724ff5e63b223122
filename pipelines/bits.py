"""Bits of the references that reach the decoder: python pipelines/bits.py BLIND_RUN RUN ... [out=FOLDER]

BLIND_RUN is one of encoder=blind (python src/train.py experiment=language_model). Several runs with commas between are
seeds of one variant; of several blind runs the best on dev counts. With out= the report, its figures and tables, too.
"""

import sys
from pathlib import Path
from typing import Any

from hourglass.analysis.bits import choose_blind, measure_bits
from hourglass.config.command_line import one_line_errors, paths_and_out
from hourglass.metrics.scoring import FEW
from hourglass.metrics.significance import CONVERGED, RESAMPLES
from hourglass.reports.bits import write_bits
from hourglass.reports.document import write_files
from hourglass.reports.phrases import show_range
from hourglass.runs.folder import RunFolder, open_run
from hourglass.system.files import read_json, write_json


def main(words: list[str]) -> None:
    """Print what each run reads, in all and by source length; the first variant is what the others are held against."""
    paths, out = paths_and_out(words, "python pipelines/bits.py BLIND_RUN[,BLIND_RUN ...] RUN[,RUN ...] ...")
    blind = choose_blind([RunFolder(Path(path)) for path in paths[0].split(",")])
    variants = {word: [open_run(path, "run") for path in word.split(",")] for word in paths[1:]}
    # By its attention where that tells them apart: that is what the report knows them by.
    names = [runs[0][1]["attention"]["name"] for runs in variants.values()]
    if len(set(names)) < len(names):
        names = list(variants)
    found = measure_bits(
        blind,
        {name: [run for run, _ in runs] for name, runs in zip(names, variants.values(), strict=True)},
        baseline=names[0],
        edges=next(iter(variants.values()))[0][1]["edges"],
        resamples=RESAMPLES,
        converged=CONVERGED,
    )
    print(show(found))
    if out is not None:
        corpus = open_run(paths[0].split(",")[0], "run")[1]["data"]["name"]
        write_json(Path(out) / "information.json", found)
        write_files(Path(out), write_bits(corpus, read_json(Path(out) / "information.json")))
        print(f"written: {out}/report.html")


def show(found: dict[str, Any]) -> str:
    """Lay out what `measure_bits` returned as lines of text, the differences first: they assume nothing."""
    lines = []
    variants, baseline = found["variants"], found["baseline"]
    others = [name for name in variants if name != baseline]
    if others:
        lines += [f"bits a sentence, less those of {baseline} (the blind model cancels):"]
        for name in others:
            own = variants[name]["difference"]
            lines.append(f"  {name}: {own['value']:+.2f} {show_range(own['trained'])}")
        lines.append("")
    blind = found["blind"]
    lines.append(
        f"blind model: {blind['bits']:.2f} bits a sentence ({blind['target_pieces']:.1f} pieces), of them end of "
        f"sentence {blind['end_bits']:.2f}; temperature {blind['temperature']:.2f}, without it "
        f"{blind['raw_bits']:.2f}; {'converged' if blind['converged'] else 'not converged'}"
    )
    if found["exact"] is not None:
        lines.append(f"the references hold {found['exact']:.2f} bits")
    for name, own in variants.items():
        lines += ["", f"{name}: {own['bits']['mean']:.2f} bits a sentence {show_range(own['bits']['interval'])}"]
        lines.append(
            f"  of them end of sentence {own['end_bits']['mean']:.2f}; temperature "
            f"{', '.join(f'{one:.2f}' for one in own['temperatures'])}, without it {own['raw_bits']['mean']:.2f}; "
            f"{'converged' if all(own['converged']) else 'not converged'}"
        )
        for bucket, row in zip(found["buckets"], own["buckets"], strict=True):
            if row is not None:
                low, high = bucket["source_words"]
                mark = "*" if bucket["sentences"] < FEW else ""
                words = f"{low}+" if high is None else f"{low}-{high}"
                exact = "" if bucket["exact"] is None else f"  of {bucket['exact']:.2f}"
                lines.append(f"  {words:>7} words{mark:<1}  {row['mean']:8.2f} {show_range(row['interval'])}{exact}")
        lines.append(f"  {show_plateau(own['saturation'])}")
    lines += ["", f"*: fewer than {FEW} sentences. Intervals: 95 %, paired bootstrap over sentences."]
    return "\n".join(lines)


def show_plateau(one: dict[str, Any]) -> str:
    """Say whether a curve over length flattens."""
    if one["plateau"] is None:
        return (
            f"no plateau to be shown below {one['longest']:.0f} words; {one['slope']:+.2f} bits a source word "
            f"{show_range(one['slope_interval'])}"
        )
    if one["flat"]:
        return f"flat at {one['plateau']:.1f} bits {show_range(one['plateau_interval'])} at all lengths seen"
    return f"plateau at {one['plateau']:.1f} bits {show_range(one['plateau_interval'])}"


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
