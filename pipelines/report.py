"""Write the report of the ablation: python pipelines/report.py"""

import time

from hourglass.ablation import load_ablation
from hourglass.errors import arguments, one_line_errors
from hourglass.plots import to_pdf, to_svg
from hourglass.report import Made, Picture, Table, to_csv, to_html, to_latex, to_markdown, write_report
from hourglass.runs import code_version, write_whole


def main() -> None:
    """Write results/report.html and report.md, with tables as CSV and LaTeX and figures as SVG and PDF beside them."""
    ablation = load_ablation()
    folder = ablation.root / "results"
    evaluations = {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora}
    version = code_version()
    commit = f"{version['commit'] or 'unknown'}{' (files differ from it)' if version['dirty'] else ''}"
    blocks = write_report(evaluations, Made(commit, time.strftime("%Y-%m-%d")))
    write_whole(folder / "report.html", to_html(blocks))
    write_whole(folder / "report.md", to_markdown(blocks, "figures"))
    for block in blocks:
        if isinstance(block, Table):
            write_whole(folder / "tables" / f"{block.name}.csv", to_csv(block))
            write_whole(folder / "tables" / f"{block.name}.tex", to_latex(block))
        if isinstance(block, Picture):
            write_whole(folder / "figures" / f"{block.name}.svg", to_svg(block.figure, block.name))
            (folder / "figures" / f"{block.name}.pdf").write_bytes(to_pdf(block.figure))


if __name__ == "__main__":
    with one_line_errors():
        arguments()
        main()
