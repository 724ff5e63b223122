"""MLflow as a mirror of the run folder: whatever happens to its server, the folder has all, and what lacks is sent.

The folder says what there is to tell: config.yaml the parameters, tracking.json the tags, the dataset and how the run
ended, curves.csv and system.csv the curves, metrics.json the scores; model/ is the packed model. All of it is sent in a
way that can be repeated: a point has the time at which it was logged, so that a server that gets it twice keeps one.
"""

import logging
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hourglass.errors import UserError
from hourglass.metrics.scoring import show_bounds
from hourglass.runs.curves import Point, parse_points
from hourglass.runs.folder import RunFolder
from hourglass.system.files import read_json, write_json
from hourglass.system.secrets import without_secrets
from hourglass.tracking.client import (
    BY_LENGTH,
    PARAMETERS_AT_ONCE,
    dataset_input,
    find_experiment,
    flatten,
    log_by_length,
    log_model,
    log_points,
)
from hourglass.tracking.server import check_database

log = logging.getLogger(__name__)


# The tag by which a run is found whose making was asked for without an answer.
KEY = "hourglass.key"


RUNNING = "RUNNING"


class Mirror:
    """What MLflow has of one run, and the sending of the rest.

    Args:
        run: the folder.
        uri: of MLflow, as `served` gives it.
        experiment: the name under which MLflow lists the run.
        config: all settings.
        record: what tracking.json says, or is to say; see `make_record`.
    """

    def __init__(self, run: RunFolder, uri: str, experiment: str, config: Mapping[str, Any], record: dict[str, Any]):
        self.run, self.uri = run, uri
        self.record = record
        self.last_success = float("-inf")  # time.monotonic()
        self.complete = False
        self._experiment, self._config = experiment, config
        self._saving = threading.Lock()
        self._client: Any = None
        self.closed = False  # Nothing more is asked.
        self._open = False
        self._ended = False
        self._tails: list[_Tail] = []

    def follow(self) -> None:
        """Send the curves from now on; before, the files may be those of an earlier start."""
        self._tails = [_Tail(self.run.curves), _Tail(self.run.system)]

    def end(self, status: str, at: float) -> None:
        """Note how the run ended, and at what second since 1970; all that it has left is now to be sent."""
        if not self._tails:
            self.follow()
        self.save(status=status, ended=round(at * 1000))

    def close(self) -> None:
        """Ask for nothing more, so that whoever sends the rest is alone; a request under way fails when it ends."""
        self.closed = True

    def save(self, **changed: Any) -> None:
        """Change tracking.json."""
        with self._saving:
            self.record |= changed
            write_json(self.run.tracking, self.record)

    def send(self) -> None:
        """Send what MLflow lacks and the folder has.

        Raises:
            Exception: whatever the network, a database and MLflow have; what was sent counts, the rest can be tried
                again.
        """
        ended = self.record["status"] != RUNNING  # Before the rest is read: what is written at the end is then there.
        if not self._open:
            self._find_or_make()
            self._open = True
        try:
            for tail in self._tails:
                self._send_points(tail)
            if ended:
                self._send_scores()
                self._send_files()
                self._ask("set_terminated", self.run_id, self.record["status"], self.record["ended"])
                self._delete_doubles()
                self._ended = True
                # The largest last: a server that is too slow for it, or takes none, has all the rest.
                if self.run.model.is_dir() and self.run.metrics.exists():
                    log_model(self._ask, self.run_id, self.run, self.run.model)
                self.complete = True
        except Exception as error:
            if getattr(error, "error_code", None) == "RESOURCE_DOES_NOT_EXIST":  # A server with another memory.
                self._open = False
                self._tails = [_Tail(tail.file) for tail in self._tails]
            raise

    @property
    def run_id(self) -> str:
        """MLflow's name of the run."""
        run_id: str = self.record["run_id"]
        return run_id

    def missing(self) -> str:
        """Say what MLflow may lack; nothing: ''."""
        if self.complete:
            return ""
        if not self._open:
            return "the run"
        if self._ended:
            return "its model"
        left = sum(tail.left() for tail in self._tails)
        return (f"{left:,} points of the curves and " if left else "") + "the end of the run"

    def _ask(self, what: str, *arguments: Any, **options: Any) -> Any:
        if self.closed:
            raise UserError("given up")
        if self._client is None:
            check_database(self.uri)
            from mlflow import MlflowClient

            self._client = MlflowClient(self.uri)
        found = getattr(self._client, what)(*arguments, **options)
        self.last_success = time.monotonic()
        return found

    def _find_or_make(self) -> None:
        """Open the run, and tell what is known from the start."""
        from mlflow.entities import Param, RunTag
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH

        experiment = find_experiment(self._ask, self._experiment)
        run = self._find_run(experiment)
        if run is None:
            self.save(run_id=None)  # The key is on the disk before MLflow knows it.
            tags = {**self.record["tags"], KEY: self.record["key"]}
            started, name = self.record["started"], self.run.path.resolve().name
            run = self._ask("create_run", experiment, start_time=started, tags=tags, run_name=name)
        if run.info.lifecycle_stage == "deleted":
            raise UserError(f"run {run.info.run_id} has been deleted there: restore it, or remove {self.run.tracking}")
        self.save(run_id=run.info.run_id)
        if run.info.status != RUNNING == self.record["status"]:
            self._ask("update_run", self.run_id, status=RUNNING)
        settings = flatten({key: value for key, value in self._config.items() if key != "logger"})
        lacks = [
            Param(name, str(value)[:MAX_PARAM_VAL_LENGTH]) for name, value in settings if name not in run.data.params
        ]
        untold = [RunTag(name, value) for name, value in self.record["tags"].items() if name not in run.data.tags]
        for first in range(0, max(len(lacks), len(untold)), PARAMETERS_AT_ONCE):
            part = slice(first, first + PARAMETERS_AT_ONCE)
            self._ask("log_batch", self.run_id, params=lacks[part], tags=untold[part])
        if not run.inputs or not run.inputs.dataset_inputs:
            self._ask("log_inputs", self.run_id, [dataset_input(*self.record["dataset"])])
        self._has = {name: self._steps(name) for name in run.data.metrics}

    def _find_run(self, experiment: str) -> Any:
        if self.record["run_id"] is not None:
            try:
                return self._ask("get_run", self.run_id)
            except Exception as error:
                if getattr(error, "error_code", None) != "RESOURCE_DOES_NOT_EXIST":
                    raise
        known = self._with_key(experiment)
        return known[0] if known else None

    def _with_key(self, experiment: str) -> list[Any]:
        found: list[Any] = self._ask(
            "search_runs", [experiment], f"tags.`{KEY}` = '{self.record['key']}'", order_by=["attributes.run_id"]
        )
        return found

    def _delete_doubles(self) -> None:
        """Delete what a server made of a request that it answered too late, so that the request was made again."""
        experiment = self._ask("get_run", self.run_id).info.experiment_id
        for run in self._with_key(experiment):
            if run.info.run_id != self.run_id:
                self._ask("delete_run", run.info.run_id)

    def _steps(self, name: str) -> set[int]:
        return {point.step for point in self._ask("get_metric_history", self.run_id, name)}

    def _send_points(self, tail: "_Tail") -> None:
        for points, end in tail.blocks():
            log_points(self._ask, self.run_id, [p for p in points if p.step not in self._has.get(p.name, ())])
            tail.offset = end

    def _send_scores(self) -> None:
        """Send what a run ends with; a run that is only scored again has it already."""
        from mlflow.entities import Metric, RunTag

        if not self.run.metrics.exists():
            return
        metrics, at = read_json(self.run.metrics), self.run.metrics.stat().st_mtime_ns // 1_000_000
        plain = {key: metrics[key] for key in ("parameters", "train_target_tokens", "train_seconds", "padding_share")}
        plain |= {f"best/{name}": value for name, value in metrics["dev"].items()}
        plain |= {f"corpus/dropped {reason}": count for reason, count in metrics["corpus"]["dropped"].items()}
        tags = {}
        by_length = {}
        if test := metrics.get("test"):
            names = ("bleu", "chrf", "copy_bleu", "brevity_penalty", "length_ratio")
            plain |= {f"test/{name}": test[name] for name in names if test[name] is not None}
            tags = {"bleu_signature": test["signature"], "chrf_signature": test["chrf_signature"]}
            # The step is the bucket's first length, so that comparing runs draws the curves over each other.
            by_length = {b["source_words"][0]: b["bleu"] for b in test["buckets"] if b["sentences"]}
        has = self._ask("get_run", self.run_id).data.metrics
        points = [Metric(name, float(value), at, 0) for name, value in plain.items() if has.get(name) != float(value)]
        told = self._steps(BY_LENGTH) if BY_LENGTH in has else set()
        points += [Metric(BY_LENGTH, value, at, step) for step, value in by_length.items() if step not in told]
        self._ask("log_batch", self.run_id, metrics=points, tags=[RunTag(*tag) for tag in tags.items()])
        if test:
            columns = ("sentences", "bleu", "copy_bleu", "chrf", "brevity_penalty", "length_ratio")
            rows = [
                {"source_words": show_bounds(bucket["source_words"]), **{name: bucket[name] for name in columns}}
                for bucket in test["buckets"]
            ]
            log_by_length(self._ask, self.run_id, rows)

    def _send_files(self) -> None:
        for file in (self.run.config, self.run.metrics, self.run.translations, self.run.curves):
            if file.exists():
                self._ask("log_artifact", self.run_id, str(file))
        for file in sorted((self.run.path / "pictures").glob("*.svg")):
            self._ask("log_artifact", self.run_id, str(file), "pictures")


class _Tail:
    """A file of points that grows, and how much of it has been sent."""

    def __init__(self, file: Path):
        self.file, self.offset = file, 0

    def blocks(self) -> Iterator[tuple[list[Point], int]]:
        """Yield the points that are new, some thousands at a time, and where in the file they end."""
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
        """Return how many points are still to be sent."""
        if not self.file.exists():
            return 0
        with self.file.open("rb") as stream:
            stream.seek(self.offset)
            return len(parse_points(stream.read()))


def make_record(tags: Mapping[str, Any], dataset: tuple[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tracking.json is to say of a run that begins or goes on.

    Args:
        tags: what the UI shows and filters by; MLflow's own (mlflow.parentRunId, ...) too.
        dataset: name and digest of the corpus.
        known: what the file says already.
    """
    from mlflow.tracking.context.registry import resolve_tags

    return {
        "run_id": None,
        "key": secrets.token_hex(16),
        # MLflow adds the address of the git repository, which may hold a token.
        "tags": {name: without_secrets(str(value)) for name, value in {**resolve_tags(), **tags}.items()},
        "dataset": list(dataset),
        "started": round(time.time() * 1000),
        **known,
        "status": RUNNING,
        "ended": None,
    }
