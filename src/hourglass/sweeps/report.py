"""The report of a sweep: a table of its trials, Optuna's plots, and the parent run of its trials in MLflow."""

import csv
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from matplotlib import pyplot
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from hourglass.sweeps.settings import SweepSettings
from hourglass.system.files import write_whole
from hourglass.tracking.client import DESCRIPTION, asking, connect, find_experiment
from hourglass.tracking.server import error_line, mlflow_server
from hourglass.tracking.settings import MlflowSettings

log = logging.getLogger(__name__)

# The attribute of the study that holds the id of its parent run in MLflow.
PARENT = "mlflow_run_id"
FANOVA = optuna.importance.FanovaImportanceEvaluator(seed=0)


def open_parent(study: optuna.Study, settings: SweepSettings, logger: MlflowSettings) -> None:
    """Create the parent run in MLflow, unless the study has one; if the server fails, the sweep runs without it."""
    if PARENT in study.user_attrs:
        return
    try:
        with mlflow_server(logger.uri) as uri:
            _make_parent(study, settings, connect(uri), logger.experiment)
    except Exception as error:  # Of the network or a database.
        log.warning("MLflow has no parent run for the sweep (%s): its trials have none", error_line(error))


def _make_parent(study: optuna.Study, settings: SweepSettings, client: Any, experiment: str) -> None:
    tags = {
        "sweep": settings.study_name,
        DESCRIPTION: f"Trials of the study {settings.study_name}, for {', '.join(settings.objectives)}.",
    }
    experiment_id = find_experiment(asking(client), experiment, client.tracking_uri)
    # Neither the experiment's name nor that of a run.
    run = client.create_run(experiment_id, run_name=f"sweep {settings.study_name}", tags=tags)
    for name, value in study.user_attrs["hourglass"].items():
        client.log_param(run.info.run_id, name, value)
    study.set_user_attr(PARENT, run.info.run_id)


def write_sweep_report(
    study: optuna.Study, settings: SweepSettings, trials: Sequence[FrozenTrial], folder: Path, logger: Any
) -> None:
    """Write trials.csv and the plots, and log them to the parent run in MLflow.

    Args:
        study: with all its trials.
        settings: of the sweep.
        trials: those that count towards n_trials.
        folder: of the sweep.
        logger: the settings of the config group `logger`.
    """
    write_whole(folder / "trials.csv", trials_to_csv(trials, settings))
    write_plots(study, settings, folder / "plots")
    if not isinstance(logger, MlflowSettings) or PARENT not in study.user_attrs:
        return
    run_id = study.user_attrs[PARENT]
    try:
        with mlflow_server(logger.uri) as uri:
            client = connect(uri)
            client.log_artifact(run_id, str(folder / "trials.csv"))
            if (folder / "plots").is_dir():
                client.log_artifacts(run_id, str(folder / "plots"), "plots")
            for name, value in sweep_metrics(study, settings, trials).items():
                client.log_metric(run_id, name, value)
            client.set_terminated(run_id)
    except Exception as error:  # Of the network or a database. The folder is complete.
        log.warning("MLflow did not take the sweep's plots (%s), which are in %s", error_line(error), folder)


def sweep_metrics(study: optuna.Study, settings: SweepSettings, trials: Sequence[FrozenTrial]) -> dict[str, float]:
    """Return the metrics of the parent run: counts of trials, the best score, and importances of parameters."""
    metrics: dict[str, float] = {f"trials/{s.name.lower()}": sum(t.state == s for t in trials) for s in TrialState}
    if len(settings.objectives) == 1 and any(trial.state == TrialState.COMPLETE for trial in trials):
        metrics[f"best/{settings.objectives[0]}"] = study.best_value
    for index, objective in enumerate(settings.objectives):
        for name, share in importances(study, index).items():
            metrics[f"importance/{objective}/{name}"] = share
    return metrics


def importances(study: optuna.Study, index: int) -> dict[str, float]:
    """Return each parameter's share of the variance of an objective (fANOVA, Hutter et al. 2014).

    Args:
        study: with its trials.
        index: of the objective.

    Returns:
        Shares by parameter; empty if all trials have the same score.
    """
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if len({trial.values[index] for trial in complete}) < 2:
        return {}
    return optuna.importance.get_param_importances(study, evaluator=FANOVA, target=_value(index))


def _value(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[index])


def write_plots(study: optuna.Study, settings: SweepSettings, folder: Path) -> None:
    """Write Optuna's plots as PNG, as far as the number of trials allows."""
    for name, draw in _plots(study, settings):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            warnings.simplefilter("ignore", UserWarning)
            try:
                axes = draw()
            except (ValueError, RuntimeError):  # Too few trials for this plot.
                continue
        figure = np.ravel(np.asarray(axes, dtype=object))[0].figure
        folder.mkdir(parents=True, exist_ok=True)
        figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        pyplot.close(figure)


def _plots(study: optuna.Study, settings: SweepSettings) -> Iterator[tuple[str, Callable[[], Any]]]:
    for index, objective in enumerate(settings.objectives):
        target: Any = {"target": _value(index), "target_name": objective}
        yield f"history-{objective}", partial(plots.plot_optimization_history, study, **target)
        yield f"slice-{objective}", partial(plots.plot_slice, study, **target)
        yield f"parallel-{objective}", partial(plots.plot_parallel_coordinate, study, **target)
        if importances(study, index):
            yield f"importances-{objective}", partial(plots.plot_param_importances, study, evaluator=FANOVA, **target)
    if settings.reported and any(trial.intermediate_values for trial in study.get_trials(deepcopy=False)):
        yield "intermediate-values", partial(plots.plot_intermediate_values, study)
    if len(settings.objectives) in (2, 3):
        yield "pareto-front", partial(plots.plot_pareto_front, study, target_names=list(settings.objectives))
    yield "timeline", partial(plots.plot_timeline, study)


def trials_to_csv(trials: Sequence[FrozenTrial], settings: SweepSettings) -> str:
    """Return a table of the trials as CSV: state, scores, parameters, run folder, and error."""
    names = sorted({name for trial in trials for name in trial.params})
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["trial", "state", *settings.objectives, *names, "run", "error"])
    for trial in trials:
        values = trial.values or [""] * len(settings.objectives)
        attributes = [trial.user_attrs.get(name, "") for name in ("run", "error")]
        parameters = [trial.params.get(name, "") for name in names]
        table.writerow([trial.number, trial.state.name, *values, *parameters, *attributes])
    return stream.getvalue()
