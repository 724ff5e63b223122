"""Mirror a run folder in MLflow: the folder is complete whatever happens to the server, and the rest is sent later.

What is sent: the parameters from config.yaml; tags, dataset and status from tracking.json; curves from curves.csv and
system.csv; scores from metrics.json; the packed model from model/. Every request can be repeated. A point carries the
time at which it was logged, so that a server that receives it twice keeps one.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hourglass.config.older import in_present_form
from hourglass.errors import UserError
from hourglass.metrics.scoring import show_bounds
from hourglass.runs.curves import Point, parse_points
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json, write_json
from hourglass.system.secrets import without_secrets
from hourglass.tracking.client import (
    PARAMETERS_AT_ONCE,
    by_length_name,
    connect,
    dataset_input,
    find_experiment,
    flatten,
    log_by_length,
    log_model,
    log_points,
)
from hourglass.tracking.scores import logged_scores, shown_scores

log = logging.getLogger(__name__)

# The tag that identifies a run in MLflow when the answer to the request that created it was lost.
KEY = "hourglass.key"
RUNNING = "RUNNING"


class Mirror:
    """One run in MLflow: sends what MLflow lacks.

    Args:
        run: the run folder.
        uri: the address of MLflow, from `mlflow_server`.
        experiment: name of the experiment that the run belongs to.
        config: all settings.
        record: the content of tracking.json; see `make_record`.
    """

    def __init__(self, run: RunFolder, uri: str, experiment: str, config: Mapping[str, Any], record: dict[str, Any]):
        self.run, self.uri = run, uri
        self.record = record
        self.last_success = float("-inf")  # time.monotonic()
        self.complete = False
        self._experiment, self._config = experiment, config
        self._saving = threading.Lock()
        self._client: Any = None
        self.closed = False  # Further requests fail.
        self._open = False  # The run exists in MLflow, with tags and parameters.
        self._ended = False  # MLflow has everything but files and model.
        self._sent_files = False
        self._tails: list[_Tail] = []

    def follow(self) -> None:
        """Send the curves from now on. Earlier, the files may still be those of an earlier start."""
        self._tails = [_Tail(self.run.curves), _Tail(self.run.system)]

    def end(self, status: str, at: float) -> None:
        """Record the status and the time (seconds since 1970) of the end; the next `send` sends all that is left."""
        if not self._tails:
            self.follow()
        self.save(status=status, ended=round(at * 1000))

    def close(self) -> None:
        """Make all further requests fail, so that only one process sends the rest."""
        self.closed = True

    def save(self, **changed: Any) -> None:
        """Update tracking.json."""
        with self._saving:
            self.record |= changed
            write_json(self.run.tracking, self.record)

    def send(self) -> None:
        """Send what the folder has and MLflow lacks.

        Raises:
            Exception: any error of the network, a database or MLflow. A later call sends the rest.
        """
        ended = self.record["status"] != RUNNING  # Read before the files, which are then complete.
        if not self._open:
            self._open_run()
            self._open = True
        try:
            for tail in self._tails:
                self._send_points(tail)
            if ended:
                self._send_scores()
                # Before the files: a run whose artifacts cannot be written must not stay RUNNING.
                self._ask("set_terminated", self.run_id, self.record["status"], self.record["ended"])
                self._delete_duplicates()
                self._ended = True
                self._send_files()
                self._sent_files = True
                # The model comes last, as it is the largest: a server that is too slow for it has all the rest.
                if self.run.model.is_dir() and self.run.metrics.exists():
                    log_model(self._ask, self.run_id, self.run, self.run.model)
                self.complete = True
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":  # The server has lost its database.
                self._open = False
                self._tails = [_Tail(tail.file) for tail in self._tails]
            raise

    @property
    def run_id(self) -> str:
        """MLflow's id of the run."""
        run_id: str = self.record["run_id"]
        return run_id

    @property
    def name(self) -> str:
        """The run's name in MLflow: that of the folder; for a trial, whose folder is trial-N, after its study."""
        tags, name = self.record["tags"], self.run.path.resolve().name
        return f"{tags['sweep']}-{name}" if "trial" in tags else name

    def missing(self) -> str:
        """Describe what MLflow may lack; '' if it has everything."""
        if self.complete:
            return ""
        if not self._open:
            return "the run"
        if self._ended:
            return "its model" if self._sent_files else "its files"
        left = sum(tail.left() for tail in self._tails)
        return (f"{left:,} points of the curves and " if left else "") + "the end of the run"

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        if self.closed:
            raise UserError("the run no longer sends to MLflow")
        if self._client is None:
            self._client = connect(self.uri)
        answer = getattr(self._client, method)(*arguments, **options)
        self.last_success = time.monotonic()
        return answer

    def _open_run(self) -> None:
        """Find or create the run in MLflow, and send what is known from the start."""
        from mlflow.entities import Param, RunTag
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        metrics = in_present_form(self._config).get("metrics")
        scores = [metrics["main"], *metrics["others"]] if metrics else []
        experiment = find_experiment(self._ask, self._experiment, self.uri, scores)
        run = self._find_run(experiment)
        if run is None:
            self.save(run_id=None)  # The key is on the disk before MLflow has it.
            tags = {**self.record["tags"], KEY: self.record["key"]}
            run = self._ask("create_run", experiment, start_time=self.record["started"], tags=tags, run_name=self.name)
        if run.info.lifecycle_stage == "deleted":
            raise UserError(
                f"run {run.info.run_id} has been deleted in MLflow: restore it, or remove {self.run.tracking}"
            )
        self.save(run_id=run.info.run_id)
        if run.info.status != RUNNING == self.record["status"]:
            self._ask("update_run", self.run_id, status=RUNNING)
        settings = flatten({key: value for key, value in self._config.items() if key != "logger"})
        params = [
            Param(name, str(value)[:MAX_PARAM_VAL_LENGTH]) for name, value in settings if name not in run.data.params
        ]
        new_tags = [RunTag(name, value) for name, value in self.record["tags"].items() if name not in run.data.tags]
        for first in range(0, max(len(params), len(new_tags)), PARAMETERS_AT_ONCE):
            part = slice(first, first + PARAMETERS_AT_ONCE)
            self._ask("log_batch", self.run_id, params=params[part], tags=new_tags[part])
        if not run.inputs or not run.inputs.dataset_inputs:
            self._ask("log_inputs", self.run_id, [dataset_input(*self.record["dataset"])])
        self._known_steps = {name: self._steps(name) for name in run.data.metrics}

    def _find_run(self, experiment: str) -> Any:
        if self.record["run_id"] is not None:
            try:
                return self._ask("get_run", self.run_id)
            except Exception as error:
                if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                    raise
        runs = self._runs_with_key(experiment)
        return runs[0] if runs else None

    def _runs_with_key(self, experiment: str) -> list[Any]:
        runs: list[Any] = self._ask(
            "search_runs", [experiment], f"tags.`{KEY}` = '{self.record['key']}'", order_by=["attributes.run_id"]
        )
        return runs

    def _delete_duplicates(self) -> None:
        """Delete runs created by a request whose answer came too late, so that the request was repeated."""
        experiment = self._ask("get_run", self.run_id).info.experiment_id
        for run in self._runs_with_key(experiment):
            if run.info.run_id != self.run_id:
                self._ask("delete_run", run.info.run_id)

    def _steps(self, name: str) -> set[int]:
        return {point.step for point in self._ask("get_metric_history", self.run_id, name)}

    def _send_points(self, tail: "_Tail") -> None:
        for points, end in tail.blocks():
            log_points(self._ask, self.run_id, [p for p in points if p.step not in self._known_steps.get(p.name, ())])
            tail.offset = end

    def _send_scores(self) -> None:
        """Send the scores of metrics.json as metrics and its constants as parameters, except what MLflow has."""
        from mlflow.entities import Metric, Param, RunTag

        if not self.run.metrics.exists():
            return
        at = self.run.metrics.stat().st_mtime_ns // 1_000_000
        scores = logged_scores(read_json(self.run.metrics))
        # The step of a length is the bucket's first, so that MLflow overlays the curves of several runs.
        data = self._ask("get_run", self.run_id).data
        known = data.metrics
        points = [
            Metric(name, float(value), at, 0)
            for name, value in scores.values.items()
            if known.get(name) != float(value)
        ]
        curve = by_length_name(scores.main)
        known_steps = self._steps(curve) if curve in known else set()
        points += [
            Metric(curve, value, at, step) for step, value in scores.by_length.items() if step not in known_steps
        ]
        params = [Param(name, str(value)) for name, value in scores.constants.items() if name not in data.params]
        new_tags = [RunTag(*tag) for tag in scores.signatures.items()]
        self._ask("log_batch", self.run_id, metrics=points, params=params, tags=new_tags)

    def _send_files(self) -> None:
        """Send everything that MLflow keeps as artifacts, except the model."""
        test = read_json(self.run.metrics).get("test") if self.run.metrics.exists() else None
        if test:
            columns = ("sentences", *shown_scores(test))
            rows = [
                {"source_words": show_bounds(bucket["source_words"]), **{name: bucket[name] for name in columns}}
                for bucket in test["buckets"]
            ]
            log_by_length(self._ask, self.run_id, rows)
        for file in (self.run.config, self.run.metrics, self.run.translations, self.run.curves):
            if file.exists():
                self._ask("log_artifact", self.run_id, str(file))
        for file in sorted((self.run.path / "pictures").glob("*.svg")):
            self._ask("log_artifact", self.run_id, str(file), "pictures")


class _Tail:
    """A growing file of points, with the position up to which it has been sent."""

    def __init__(self, file: Path):
        self.file, self.offset = file, 0

    def blocks(self) -> Iterator[tuple[list[Point], int]]:
        """Yield the points after the position, some thousands at a time, each list with its end in the file."""
        if not self.file.exists():
            return
        with self.file.open("rb") as stream:
            while True:
                stream.seek(self.offset)
                text = stream.read(1 << 18)
                end = text.rfind(b"\n") + 1
                if not end:
                    return
                yield parse_points(text[:end]), self.offset + end

    def left(self) -> int:
        """Return the number of points after the position."""
        if not self.file.exists():
            return 0
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return len(parse_points(stream.read()))


def make_record(tags: Mapping[str, Any], dataset: tuple[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of tracking.json for a run that starts or resumes.

    Args:
        tags: of the run; tags of MLflow (mlflow.parentRunId, ...) have their effect there.
        dataset: name and digest of the corpus.
        known: the present content, empty for a new run.
    """
    from mlflow.tracking.context.registry import resolve_tags

    return {
        "run_id": None,
        "key": secrets.token_hex(16),
        # MLflow adds the address of the git repository, which may contain a token.
        "tags": {name: without_secrets(str(value)) for name, value in {**resolve_tags(), **tags}.items()},
        "dataset": list(dataset),
        "started": round(time.time() * 1000),
        **known,
        "status": RUNNING,
        "ended": None,
    }
