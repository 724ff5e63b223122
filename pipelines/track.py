"""Fill an MLflow store with the recorded ablation: python pipelines/track.py [TRACKING_URI]

The store is sqlite:///mlflow.db, or what MLFLOW_TRACKING_URI or the one argument says. Told twice, it tells nothing
new; a result that has changed supersedes the one before, which stays, marked. Where the runs are on this machine, the
best model of each corpus is registered under the corpus's name.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from typing import Any

from mlflow import MlflowClient

from hourglass.ablation import Ablation, load_ablation
from hourglass.errors import UserError, one_line_errors
from hourglass.mirror import check_database, reason, served
from hourglass.packing import pack
from hourglass.publishing import publish
from hourglass.registry import register
from hourglass.runs import RunFolder

EXPERIMENT = "hourglass-ablation"


def main(words: list[str]) -> None:
    """Read the evaluations and tell MLflow what it does not have."""
    if len(words) > 1:
        raise UserError("usage: python pipelines/track.py [TRACKING_URI]")
    uri = words[0] if words else os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    ablation = load_ablation()
    evaluations = {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora}
    with served(uri) as shown:
        try:
            check_database(shown)
            new = publish(ablation, evaluations, MlflowClient(shown), EXPERIMENT)
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow did not take all ({reason(error)}): mend that, and give the command again"
            ) from None
    print(f"{len(new)} runs new to the experiment {EXPERIMENT}")
    for corpus in ablation.corpora:
        run = best_run(ablation, corpus, evaluations[corpus])
        if not run.best.is_file():
            print(f"{corpus}: the best model is not on this machine: dvc repro makes it")
        elif corpus in {part.split()[0] for part in new}:
            folder = ablation.made(corpus) / "model"
            shutil.rmtree(folder, ignore_errors=True)
            pack(run.best, folder, "a sentence")
            print(register(run, folder, corpus, uri))


def best_run(ablation: Ablation, corpus: str, evaluation: Mapping[str, Any]) -> RunFolder:
    """Return the run of a corpus that has the lowest dev loss, of all variants and seeds."""
    runs = {
        (variant, seed): dev["loss"]
        for variant, own in evaluation["variants"].items()
        for seed, dev in zip(own["seeds"], own["dev"], strict=True)
    }
    variant, seed = min(runs, key=lambda one: float(runs[one]))
    return ablation.run(ablation.variant(corpus, variant), seed)


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
