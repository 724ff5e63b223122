"""Run an ablation of conf/ablation other than the default: python pipelines/ablate.py NAME [data.folder=FOLDER]

It runs the stages of the default ablation (docs/ablation.md), without DVC. Before each stage it prints what is left to
train. Stopped or killed, the same command goes on: trainings go on from their last checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import PositiveInt

from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import build
from hourglass.experiments.ablation import load_ablation, refuse_default
from hourglass.experiments.stages import run_stages
from hourglass.training.preparation import folder_override


@dataclass(frozen=True)
class AblateSettings:
    """conf/ablate.yaml.

    Attributes:
        conf: name of a file of conf/ablation.
        data: of every run: `folder`, of the corpus's raw files.
        workers: stages at the same time.
    """

    conf: str
    data: dict[str, str | None]
    workers: PositiveInt


def main(values: Mapping[str, Any]) -> None:
    """Run all stages, and print where the report is."""
    settings = build(AblateSettings, values, "")
    refuse_default(settings.conf, "run dvc repro, which keeps its record")
    ablation = load_ablation(name=settings.conf)
    folder = settings.data["folder"]
    if folder is not None:
        corpus = next(iter(ablation.corpora))
        override = folder_override(folder, ablation.data_overrides(corpus))
        ablation = load_ablation(name=settings.conf, words=[override])
    run_stages(ablation, settings.workers)
    print(f"written: {ablation.results_folder}/report.html")


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("ablate", "conf"))
