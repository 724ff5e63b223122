"""Fill an MLflow store with the recorded ablation: python pipelines/track.py [TRACKING_URI]

The store is sqlite:///mlflow.db, or what MLFLOW_TRACKING_URI or the one argument says. Told twice, it tells nothing
new; a result that has changed supersedes the one before, which stays, marked.
"""

import os
import sys

from mlflow import MlflowClient

from hourglass.ablation import load_ablation
from hourglass.errors import UserError, one_line_errors
from hourglass.mirror import check_database, reason, served
from hourglass.publishing import publish

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


if __name__ == "__main__":
    with one_line_errors():
        main(sys.argv[1:])
