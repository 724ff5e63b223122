"""Every run of an ablation, and the way from each number of a report to the runs that it is of."""

from collections.abc import Sequence
from dataclasses import replace

from hourglass.analysis.evaluation import Evaluation
from hourglass.reports.document import Block, Folded, Linked, Table
from hourglass.reports.sentences import say
from hourglass.runs.origin import RunOrigins

# The column that names the variant of a row.
VARIANT = "variant"


def run_table(evaluation: Evaluation, origins: RunOrigins) -> Table:
    """Return the runs of a corpus with their numbers, and where each lies.

    Args:
        evaluation: of its variants.
        origins: of the runs; a run without one has dashes.
    """
    name = evaluation.corpus.name
    rows, names = [], []
    for variant, own in evaluation.variants.items():
        for number, (training, score) in enumerate(zip(own.seeds, own.score.by_seed, strict=True)):
            origin = origins.get((variant, training.seed))
            where = ["-"] * 4
            numbers = [f"{score:z.2f}", f"{training.dev.loss:z.4f}"]
            if origin is not None:
                folder = Linked(origin.folder, origin.folder)
                where = [folder, Linked("config.yaml", origin.settings), origin.command, origin.commit]
                numbers = [Linked(text, origin.folder) for text in numbers]
            tokens, minutes = f"{training.target_tokens / 1e6:z.2f}", f"{training.seconds / 60:z.0f}"
            rows.append([variant, str(training.seed), *where, *numbers, tokens, minutes])
            names.append("" if number else run_anchor(name, variant))
    head = [VARIANT, "seed", "folder", "settings", "command", "commit", evaluation.metric.heading, "dev loss"]
    head += ["M tokens", "minutes"]
    caption = say("tables", "runs", corpus=name, unit=evaluation.metric.heading, kept=bool(origins))
    return Table(f"{name}-runs", head, rows, caption, text_columns=6, row_names=names)


def run_anchor(corpus: str, variant: str) -> str:
    """Return the name of the place in the page where the runs of a variant are."""
    return f"runs-{corpus}-{variant}"


def link_runs(blocks: Sequence[Block], evaluation: Evaluation) -> list[Block]:
    """Return the blocks of a corpus, in whose tables the numbers of a variant lead to its runs."""
    return [_linked(block, evaluation) for block in blocks]


def _linked(block: Block, evaluation: Evaluation) -> Block:
    if isinstance(block, Folded):
        return replace(block, blocks=link_runs(block.blocks, evaluation))
    if not isinstance(block, Table) or block.row_names or VARIANT not in block.head:
        return block
    at = list(block.head).index(VARIANT)
    rows = [
        [
            Linked(cell, f"#{run_anchor(evaluation.corpus.name, row[at])}")
            if row[at] in evaluation.variants and (number == at or (number >= block.text_columns and cell != "-"))
            else cell
            for number, cell in enumerate(row)
        ]
        for row in block.rows
    ]
    return replace(block, rows=rows)
