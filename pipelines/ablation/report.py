"""Write the report of the ablation: python pipelines/ablation/report.py"""

import time

from hourglass.analysis.ladder import read_ladder
from hourglass.config.command_line import one_line_errors
from hourglass.experiments.ablation import Ablation, read_stage
from hourglass.reports.ablation import ReportOrigin, write_ablation
from hourglass.reports.document import write_files
from hourglass.system.project import code_version


def main(ablation: Ablation) -> None:
    """Write report.html, report.md, tables as CSV and LaTeX, and figures as SVG and PDF into the folder of results."""
    version = code_version()
    commit = f"{version['commit'] or 'unknown'}{' (files differ from it)' if version['dirty'] else ''}"
    blocks = write_ablation(
        {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora},
        ReportOrigin(commit, time.strftime("%Y-%m-%d"), ablation.remedy),
        {corpus: ablation.information(corpus) for corpus in ablation.corpora},
        # Results recorded before the ladder lack it.
        {
            name: read_ladder(file, ablation.remedy)
            for name in ablation.corpora
            if (file := ablation.ladder_file(name)).exists()
        },
        {corpus: ablation.run_origins(corpus) for corpus in ablation.corpora},
        estimands={corpus: ablation.estimands(corpus) for corpus in ablation.corpora},
    )
    write_files(ablation.results_folder, blocks)


if __name__ == "__main__":
    with one_line_errors():
        main(*read_stage())
