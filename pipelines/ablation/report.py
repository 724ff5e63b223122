"""Write the report of the ablation: python pipelines/ablation/report.py"""

import time

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.experiments.ablation import load_ablation
from hourglass.reports.ablation import Made, write_report
from hourglass.reports.bits import aloud, bits_section
from hourglass.reports.document import write_files
from hourglass.system.project import code_version


def main() -> None:
    """Write results/report.html and report.md, with tables as CSV and LaTeX and figures as SVG and PDF beside them."""
    ablation = load_ablation()
    folder = ablation.root / "results"
    evaluations = {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora}
    version = code_version()
    commit = f"{version['commit'] or 'unknown'}{' (files differ from it)' if version['dirty'] else ''}"
    information = {corpus: ablation.information(corpus) for corpus in ablation.corpora}
    spoken = [aloud(corpus, found) for corpus, found in information.items()]
    sections = {corpus: bits_section(corpus, found) for corpus, found in information.items()}
    blocks = write_report(evaluations, Made(commit, time.strftime("%Y-%m-%d")), spoken, sections)
    write_files(folder, blocks)


if __name__ == "__main__":
    with one_line_errors():
        arguments()
        main()
