"""The report of a sweep: a table of its trials, Optuna's plots, and the parent run of its trials in MLflow."""

import csv
import html
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import optuna.visualization.matplotlib
from matplotlib import colormaps, pyplot
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from plotly.colors import sample_colorscale, unlabel_rgb

from hourglass.sweeps.settings import SweepSettings
from hourglass.sweeps.trials import runs_of
from hourglass.system.files import write_whole
from hourglass.system.markup import csv_cell, escape_markdown, escape_plotly
from hourglass.tracking.parent import close_parent_run, open_parent_run
from hourglass.tracking.server import error_line
from hourglass.tracking.settings import MlflowSettings

log = logging.getLogger(__name__)

# The attribute of the study that holds the id of its parent run in MLflow.
PARENT = "mlflow_run_id"
# Optuna's colours without the lightest, which do not show on white.
BLUES = ListedColormap(colormaps["Blues"](np.linspace(0.35, 1, 256)), name="Blues")
# Names and values are text: a dollar sign starts no formula.
_PLAIN_TEXT: Any = {"text.parse_math": False, "text.usetex": False}
FANOVA = optuna.importance.FanovaImportanceEvaluator(seed=0)


def open_parent(study: optuna.Study, settings: SweepSettings, logger: MlflowSettings) -> None:
    """Create the parent run in MLflow, unless the study has one; if the server fails, the sweep runs without it."""
    if PARENT in study.user_attrs:
        return
    run_id = open_parent_run(
        logger,
        f"sweep {settings.study_name}",
        f"Trials of the study {escape_markdown(settings.study_name)}, for {', '.join(settings.objectives)}.",
        {"sweep": settings.study_name},
        study.user_attrs["hourglass"],
    )
    if run_id is not None:
        study.set_user_attr(PARENT, run_id)


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
    close_parent_run(
        logger,
        study.user_attrs[PARENT],
        status="FINISHED",
        metrics=sweep_metrics(study, settings, trials),
        files=[folder / "trials.csv"],
        folders=[folder / "plots"],
    )


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
    """Write Optuna's plots, as far as the number of trials allows: each as PNG, and all in one interactive page."""
    for name, figure in draw_figures(study, settings).items():
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with pyplot.rc_context(_PLAIN_TEXT):  # Labels are made when they are drawn.
                figure.savefig(folder / f"{name}.png", dpi=150, bbox_inches="tight")
        except Exception as error:  # The trials are complete without it.
            log.warning("plot %s: not made (%s); the same command makes it again", name, error_line(error))
        pyplot.close(figure)
    if figures := draw_interactive(study, settings):
        write_whole(folder / "plots.html", plots_page(figures, settings.study_name))


def draw_figures(study: optuna.Study, settings: SweepSettings) -> dict[str, Figure]:
    """Return the plots as figures of Matplotlib, by name."""
    figures = {}
    for name, draw in _plots(study, settings, optuna.visualization.matplotlib):
        with pyplot.rc_context(_PLAIN_TEXT):  # Optuna sets a style for the whole process.
            axes = _drawn(draw)
            if axes is not None:
                figures[name] = np.ravel(np.asarray(axes, dtype=object))[0].figure
                _make_readable(figures[name], name, settings)
    return figures


def draw_interactive(study: optuna.Study, settings: SweepSettings) -> dict[str, Any]:
    """Return the plots as figures of Plotly, by name."""
    drawn = {name: _drawn(draw) for name, draw in _plots(_escape_study(study), settings, optuna.visualization)}
    figures = {name: figure for name, figure in drawn.items() if figure is not None}
    for name, figure in figures.items():
        _make_interactive_readable(figure, name, settings)
    return figures


def _escape_study(study: optuna.Study) -> optuna.Study:
    """Return a copy whose names, values of choices and attributes Plotly shows as they are."""
    copied = optuna.create_study(storage=InMemoryStorage(), directions=study.directions)
    for trial in study.get_trials(deepcopy=True):
        trial.params, trial.user_attrs = _escape_texts(trial.params), _escape_texts(trial.user_attrs)
        trial.distributions = {
            escape_plotly(name): CategoricalDistribution(_escape_texts(list(distribution.choices)))
            if isinstance(distribution, CategoricalDistribution)
            else distribution
            for name, distribution in trial.distributions.items()
        }
        copied.add_trial(trial)
    return copied


def _escape_texts(value: Any) -> Any:
    """Return a value with all its texts, keys of mappings among them, as Plotly reads them."""
    if isinstance(value, Mapping):
        return {_escape_texts(key): _escape_texts(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_escape_texts(part) for part in value]
    return escape_plotly(value) if isinstance(value, str) else value


def plots_page(figures: Mapping[str, Any], study_name: str) -> str:
    """Return a page with Plotly's figures, by name, that needs no network: the library is in it, once."""
    title = html.escape(f"Plots of the study {study_name}")
    # The library takes 4 to 5 MB of the page.
    parts = [
        f"<h2>{html.escape(name)}</h2>\n" + figure.to_html(full_html=False, include_plotlyjs=not number)
        for number, (name, figure) in enumerate(figures.items())
    ]
    head = f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n</head>\n'
    return f"{head}<body>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"


def _drawn(draw: Callable[[], Any]) -> Any:
    """Return what a plotting function of Optuna returns; None with too few trials for this plot."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)
        try:
            return draw()
        except (ValueError, RuntimeError):
            return None


def _light_is_good(name: str, settings: SweepSettings) -> bool:
    """Return whether Optuna gives the best trials of a plot the lightest colours.

    With several objectives it takes each for one to minimise, whose smallest values are then the darkest.
    """
    maximised = dict(zip(settings.objectives, settings.directions, strict=True))
    objective = name.removeprefix("parallel-")
    several = len(settings.objectives) > 1 and objective != name
    return several and maximised[objective] == StudyDirection.MAXIMIZE


def _make_readable(figure: Any, name: str, settings: SweepSettings) -> None:
    """Draw on white, and from a light blue that shows on it, to a dark one for the best trials or the latest."""
    for axes in figure.axes:
        axes.set_facecolor("white")
        axes.grid(color="0.88")
        axes.set_axisbelow(True)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":
                axis.set_major_formatter(LogFormatter())  # In place of powers of ten as formulas.
                axis.set_minor_formatter(LogFormatter())
        if name.startswith("slice-"):  # One of several plots side by side, whose labels would overlap.
            axes.tick_params(axis="x", which="both", labelrotation=45)
    if name.startswith("parallel-"):
        figure.set_size_inches(2.2 * len(figure.axes), 5)
    drawn = [part for axes in figure.axes for part in axes.collections if part.get_array() is not None]
    # All names before any change, because a colour bar follows what it explains.
    for part, colours in [(part, part.get_cmap().name) for part in drawn]:
        part.set_cmap(BLUES.reversed() if colours.endswith("_r") != _light_is_good(name, settings) else BLUES)


def _make_interactive_readable(figure: Any, name: str, settings: SweepSettings) -> None:
    """Do the same with a figure of Plotly."""
    figure.update_layout(template="plotly_white")
    reverse = _light_is_good(name, settings)
    scale = [[share, to_hex(BLUES(share))] for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    shares = np.linspace(0, 1, 501)
    theirs = np.array([unlabel_rgb(colour) for colour in sample_colorscale("Blues", shares)])
    for trace in figure.data:
        marker: Any = getattr(trace, "marker", None)
        line: Any = getattr(trace, "line", None)
        if getattr(marker, "colorscale", None) is not None:
            marker.colorscale = scale
            marker.reversescale = bool(marker.reversescale) != reverse
        if str(getattr(line, "color", None)).startswith("rgb("):  # A trial, whose colour Optuna took from the scale.
            share = float(shares[np.abs(theirs - unlabel_rgb(line.color)).sum(1).argmin()])
            line.color = to_hex(BLUES(1 - share if reverse else share))


def _plots(study: optuna.Study, settings: SweepSettings, plots: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield the name of each plot, and what draws it.

    Args:
        study: with its trials.
        settings: of the sweep.
        plots: Optuna's module for a library, which draws for it.
    """
    for index, objective in enumerate(settings.objectives):
        # With a target, Optuna knows no direction: it draws no best value, and takes the smallest for the best.
        several = len(settings.objectives) > 1
        target: Any = {"target_name": objective, **({"target": _value(index)} if several else {})}
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
        # A trial of several seeds has as many runs; one that failed has the folder that it began.
        runs = " ".join(runs_of(trial)) or trial.user_attrs.get("run", "")
        attributes = [runs, trial.user_attrs.get("error", "")]
        parameters = [trial.params.get(name, "") for name in names]
        row = [trial.number, trial.state.name, *values, *parameters, *attributes]
        table.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in row])
    return stream.getvalue()
