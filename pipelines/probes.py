"""What an encoder has put into its fixed vector, and what its decoder leaves unused: python pipelines/probes.py RUN ...

Probes read the length of the source, which words it has and the word at a position from the vector. With fresh=true, a
fresh decoder is trained on the encoder of each run, which does not move: what it gains was in the vector and unused;
with joint=RUN, what it lacks against a decoder that was trained together with its encoder was lost by the encoder.

With state=true, linear probes read the source from the decoder's state at each step in place of the vector; they are
kept in RUN/probes, where pipelines/explore.py finds them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field, NonNegativeInt, PositiveInt

from hourglass.analysis.comparability import check_shared
from hourglass.analysis.frozen import (
    EncoderFindings,
    FrozenReading,
    check_joint,
    fresh_config,
    read_frozen,
    train_fresh,
    write_findings,
)
from hourglass.analysis.probes import check_probed, read_probes
from hourglass.analysis.state_probes import check_state_probed, fit_state_probes, probes_file, write_state_probes
from hourglass.config.command_line import RunPaths, one_line_errors, read_command
from hourglass.config.options import build
from hourglass.errors import UserError
from hourglass.metrics.significance import RESAMPLES
from hourglass.reports.document import to_markdown, write_made_by
from hourglass.reports.probes import report_findings, report_state_probes
from hourglass.training.finished import FinishedRun


@dataclass(frozen=True)
class ProbesSettings:
    """conf/probes.yaml.

    Attributes:
        run: run folders.
        sentences: of train that are probed; 0: all.
        positions: in the source, from 1.
        fresh: whether a fresh decoder is trained on each encoder.
        joint: run whose encoder and decoder were trained together.
        state: probe the decoder's state at each step, in place of the vector.
        out: folder for result and report.
    """

    run: RunPaths
    sentences: NonNegativeInt
    positions: list[PositiveInt]
    fresh: bool
    joint: str | None
    state: bool
    out: Annotated[str, Field(min_length=1)] | None

    def __post_init__(self) -> None:
        if self.joint is not None and (not self.fresh or len(self.run) > 1):
            raise UserError(f"joint={self.joint}: is compared with a fresh decoder of one run: set fresh=true, one RUN")
        if self.state and (self.fresh or self.out is not None):
            other = "fresh=true" if self.fresh else f"out={self.out}"
            raise UserError(f"state=true probes the decoder's state, and {other} is of the vector: set one of the two")


def main(values: Mapping[str, Any]) -> None:
    """Print the tables, and write the report if there is a folder for it."""
    settings = build(ProbesSettings, values, "")
    runs = [FinishedRun.open(path) for path in settings.run]
    if settings.state:
        probe_states(runs, settings)
        return
    joint = None if settings.joint is None else FinishedRun.open(settings.joint, "joint")
    for run in runs:  # Check all of them before any long work.
        check_probed(run)
        if settings.fresh:
            fresh_config(run)
        if joint is not None:
            check_joint(run, joint)
            check_shared(run, joint)
    frozen: list[FrozenReading] = []
    if settings.fresh:
        frozen = [read_frozen(run, train_fresh(run), joint, RESAMPLES) for run in runs]
    probes = [read_probes(run, settings.sentences, settings.positions) for run in runs]
    findings = EncoderFindings(probes, frozen)
    blocks = report_findings(findings)
    print(to_markdown(blocks, figures=""))
    if settings.out is not None:
        folder = Path(settings.out).expanduser()
        write_findings(folder / "probes.json", findings)
        write_made_by(folder, blocks, "pipelines/probes.py")
        print(f"written: {folder}/report.html")


def probe_states(runs: Sequence[FinishedRun], settings: ProbesSettings) -> None:
    """Fit probes of the decoder's state, keep them in the folders of the runs, and print how good they are."""
    for run in runs:  # Check all of them before any long work.
        check_state_probed(run)
    for run in runs:
        probes = fit_state_probes(run, settings.sentences)
        write_state_probes(probes_file(run.path), probes)
        print(to_markdown(report_state_probes(str(run.path), probes, settings.positions), figures=""))
        print(f"written: {probes_file(run.path)}")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("probes", "run..."))
