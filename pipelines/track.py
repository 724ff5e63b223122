"""Fill an MLflow store with the recorded ablation: python pipelines/track.py [TRACKING_URI]

The store is sqlite:///mlflow.db, or what MLFLOW_TRACKING_URI or the one argument says. Told twice, it tells nothing
new; a result that has changed supersedes the one before, which stays, marked. Where the runs are on this machine, so
are their models: each is logged with its run, and the best of each corpus registered under the corpus's name.
"""

import os
import sys

from mlflow import MlflowClient

from hourglass.analysis.evaluation import Evaluation
from hourglass.config.command_line import one_line_errors
from hourglass.errors import UserError
from hourglass.experiments.ablation import load_ablation
from hourglass.experiments.publishing import find_model, publish
from hourglass.tracking.registry import add_version
from hourglass.tracking.server import check_database, error_line, mlflow_server

EXPERIMENT = "hourglass-ablation"


def main(words: list[str]) -> None:
    """Read the evaluations and tell MLflow what it does not have."""
    if len(words) > 1:
        raise UserError("usage: python pipelines/track.py [TRACKING_URI]")
    uri = words[0] if words else os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    ablation = load_ablation()
    evaluations = {corpus: ablation.evaluation(corpus) for corpus in ablation.corpora}
    with mlflow_server(uri) as shown:
        try:
            check_database(shown)
            client = MlflowClient(shown)
            new = publish(ablation, evaluations, client, EXPERIMENT)
            print(f"{len(new)} runs new to the experiment {EXPERIMENT}")
            for corpus, evaluation in evaluations.items():
                model = find_model(client, EXPERIMENT, f"{corpus} {best_part(evaluation)}")
                if model is None:
                    print(f"{corpus}: the best model is not on this machine: dvc repro makes it")
                else:
                    print(add_version(client, corpus, model, is_best=True))
        except UserError:
            raise
        except Exception as error:  # The network, a database and MLflow have errors of their own.
            raise UserError(
                f"MLflow did not take all ({error_line(error)}): mend that, and give the command again"
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
        main(sys.argv[1:])
