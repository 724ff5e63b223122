"""Fill an MLflow store with the recorded ablation: python pipelines/track.py [TRACKING_URI]

The store is sqlite:///mlflow.db, unless the argument or MLFLOW_TRACKING_URI names another. The command may be repeated:
it adds only what the store lacks. A result that has changed supersedes the earlier one, which stays and is marked. If
the runs are on this machine, their models are logged, too. The best model of each corpus is registered under the name
of the corpus; those of an ablation with another results folder (results in conf/ablation) are logged alone.
"""

import os
from collections.abc import Mapping
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from hourglass.analysis.evaluation import Evaluation
from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import check
from hourglass.errors import UserError
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.publishing import TRACKED_RESULTS, find_model, publish
from hourglass.tracking.client import connect
from hourglass.tracking.registry import add_version
from hourglass.tracking.server import error_line, mlflow_server
from hourglass.tracking.settings import check_tracking_uri

EXPERIMENT = "hourglass-ablation"


def main(values: Mapping[str, Any]) -> None:
    """Read the evaluations and log the runs that MLflow lacks."""
    uri = check(str | None, values["tracking_uri"], "tracking_uri") or os.environ.get(
        "MLFLOW_TRACKING_URI", "sqlite:///mlflow.db"
    )
    check_tracking_uri(uri, "tracking_uri" if values["tracking_uri"] else "MLFLOW_TRACKING_URI", environment=None)
    ablation = load_ablation()
    evaluations = {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora}
    information = {corpus: ablation.information(corpus) for corpus in ablation.corpora}
    with mlflow_server(uri) as shown:
        try:
            client = connect(shown)
            new = publish(ablation, evaluations, client, EXPERIMENT, information)
            print(f"{len(new)} runs new to the experiment {EXPERIMENT}")
            if ablation.settings.results != TRACKED_RESULTS:
                print(f"no model registered: the registry holds the models of {TRACKED_RESULTS}/")
                return
            for corpus, evaluation in evaluations.items():
                model = find_model(client, EXPERIMENT, f"{corpus} {best_part(evaluation)}", ablation.settings.results)
                if model is None:
                    print(f"{corpus}: the best model is not on this machine: run dvc repro to make it")
                else:
                    print(add_version(client, corpus, model, is_best=True))
        except UserError:
            raise
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow did not accept everything ({error_line(error)}): repair that, then run the command again"
            ) from None


def best_part(evaluation: Evaluation) -> str:
    """Return attention and seed of the run of a corpus that has the lowest dev loss."""
    losses = {
        f"{variant} {training.seed}": training.dev.loss
        for variant, result in evaluation.variants.items()
        for training in result.seeds
    }
    return min(losses, key=lambda part: losses[part])


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("track", "tracking_uri"))
