"""The script that MLflow runs to load a packed model; see `hourglass.tracking.packing`."""

import mlflow

from hourglass.tracking.packing import ServedModel

mlflow.models.set_model(ServedModel())
