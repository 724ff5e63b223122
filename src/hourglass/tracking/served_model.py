"""The file that MLflow runs to bring a packed model to life: see `packing`."""

import mlflow

from hourglass.tracking.packing import ServedModel

mlflow.models.set_model(ServedModel())
