"""MLflow as a mirror of the run folder: whatever happens to its server, the folder has all, and what lacks is sent.

The folder says what there is to tell: config.yaml the parameters, tracking.json the tags, the dataset and how the run
ended, curves.csv and system.csv the curves, metrics.json the scores; model/ is the packed model. All of it is sent in a
way that can be repeated: a point has the time at which it was logged, so that a server that gets it twice keeps one.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hourglass.errors import UserError, first_line, without_secrets
from hourglass.runs import Point, RunFolder, parse_points, read_json, write_json
from hourglass.scoring import show_bounds

log = logging.getLogger(__name__)

# The curve of BLEU by source length: its step is the first length of a bucket.
BY_LENGTH = "test/bleu_by_source_words"
# The most settings, and the most points, that MLflow takes at once.
PARAMETERS_AT_ONCE = 100
POINTS_AT_ONCE = 1000
# The tag by which a run is found whose making was asked for without an answer.
KEY = "hourglass.key"
# The table of scores by source length.
LENGTH_TABLE = "scores_by_length.json"
# The tag that says what a logged model is made of.
MODEL = "hourglass.model"
RUNNING = "RUNNING"

# Seconds: between two looks at the folder; to the next try of a server that failed; that a request may take;
# that a run waits for the server at its start, and at its end since it last took something.
EVERY, RETRY, REQUEST, PATIENCE = 1.0, 5.0, 10, 10.0
# Seconds in which another run has made what both need: of a slow database, all its tables.
MAKING = 60.0


class Mirror:
    """What MLflow has of one run, and the sending of the rest.

    Args:
        run: the folder.
        uri: of MLflow, as `served` gives it.
        experiment: the name under which MLflow lists the run.
        config: all settings.
        record: what tracking.json says, or is to say; see `describe`.
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
            from mlflow import MlflowClient  # noqa: PLC0415 (seconds to import, and not everybody wants it)

            self._client = MlflowClient(self.uri)
        found = getattr(self._client, what)(*arguments, **options)
        self.last_success = time.monotonic()
        return found

    def _find_or_make(self) -> None:
        """Open the run, and tell what is known from the start."""
        from mlflow.entities import Param, RunTag  # noqa: PLC0415
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH  # noqa: PLC0415

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
        from mlflow.entities import Metric, RunTag  # noqa: PLC0415

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


def log_points(ask: Callable[..., Any], run_id: str, points: Sequence[Point]) -> None:
    """Log points of curves, as many at once as MLflow takes.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        points: of any names.
    """
    from mlflow.entities import Metric  # noqa: PLC0415

    for first in range(0, len(points), POINTS_AT_ONCE):
        some = points[first : first + POINTS_AT_ONCE]
        ask("log_batch", run_id, metrics=[Metric(p.name, p.value, p.time, p.step) for p in some])


def log_by_length(ask: Callable[..., Any], run_id: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Log scores by source length as a table, in the form and under the tag by which MLflow's pages show one.

    MLflow's own `log_table` adds to what is there, so that what is sent twice would stand twice.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        rows: all with the same keys, the columns.
    """
    shown = [[round(value, 3) if isinstance(value, float) else value for value in row.values()] for row in rows]
    table = {"columns": list(rows[0]), "data": shown}
    ask("log_dict", run_id, table, LENGTH_TABLE)
    ask("set_tag", run_id, "mlflow.loggedArtifacts", json.dumps([{"path": LENGTH_TABLE, "type": "table"}]))


def log_model(ask: Callable[..., Any], run_id: str, run: RunFolder, folder: Path) -> str:
    """Log a packed model to an MLflow run, once, and return MLflow's name of it.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        run_id: MLflow's name of the run.
        run: the run's folder.
        folder: the packed model.
    """
    from mlflow.entities import LoggedModelOutput  # noqa: PLC0415

    told = ask("get_run", run_id)
    # Named by its content: a run that was trained again has another model.
    metrics, digest = read_json(run.metrics), digest_of(folder)
    known = [
        model
        for model in ask("search_logged_models", [told.info.experiment_id], f"source_run_id='{run_id}'")
        if model.tags.get(MODEL) == digest
    ]
    name = re.sub(r"[^\w -]", "-", told.info.run_name)
    tags = {MODEL: digest, "dev_loss": str(metrics["dev"]["loss"]), "corpus_digest": metrics["corpus"]["digest"]}
    known.sort(key=lambda model: model.status != "READY")
    if not known:
        known.append(ask("create_logged_model", told.info.experiment_id, name, run_id, tags))
    model_id: str = known[0].model_id
    if known[0].status != "READY":
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):  # One by one: each is a sign of life.
            below = file.relative_to(folder).parent
            ask("log_model_artifact", model_id, str(file), None if below == Path() else str(below))
        ask("finalize_logged_model", model_id, "READY")
    for double in known[1:]:  # Of a request that was answered too late, so that it was made again.
        ask("delete_logged_model", double.model_id)
    if model_id not in [one.model_id for one in (told.outputs.model_outputs if told.outputs else [])]:
        ask("log_outputs", run_id, [LoggedModelOutput(model_id, step=0)])
    return model_id


def find_experiment(ask: Callable[..., Any], name: str) -> str:
    """Return MLflow's name of an experiment, which is made if it is not there.

    Args:
        ask: calls a method of MLflow's client: its name, its arguments.
        name: of the experiment.

    Raises:
        UserError: it has been deleted there, or cannot be made.
    """
    found = ask("get_experiment_by_name", name)
    if found is None:
        with suppress(Exception):  # Another run may have made it in between; if not, the next line says so.
            ask("create_experiment", name, None, {"mlflow.experimentKind": "custom_model_development"})
        found = ask("get_experiment_by_name", name)
    if found is None:
        raise UserError(f"the experiment {name} cannot be made there")
    if found.lifecycle_stage == "deleted":
        raise UserError(f"the experiment {name} has been deleted there: restore it, or name another")
    experiment: str = found.experiment_id
    return experiment


def asking(client: Any) -> Callable[..., Any]:
    """Return what calls a method of MLflow's client by its name."""
    return lambda what, *arguments, **options: getattr(client, what)(*arguments, **options)


def digest_of(folder: Path) -> str:
    """Return a digest of what a packed model was made of."""
    files = sorted((folder / "artifacts").iterdir())
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:32]


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


class Sender(threading.Thread):
    """Mirrors a run while it goes on: the one thread of a run that speaks with MLflow, and waits for it.

    Args:
        mirror: of the run.
        where: names the store, for messages.
    """

    def __init__(self, mirror: Mirror, where: str):
        super().__init__(name="mlflow", daemon=True)  # A server that hangs does not keep the process.
        self.mirror, self.where = mirror, where
        self.refusal: Exception | None = None  # Why the first try failed, where that is a mistake to be mended.
        self._tried, self._ending = threading.Event(), threading.Event()

    def run(self) -> None:
        """See the base."""
        failing = False
        began = time.monotonic()
        while not self.mirror.closed:
            ending = self._ending.is_set()
            try:
                self.mirror.send()
            except Exception as error:  # The network, a database and MLflow have errors of their own.
                if made_by_another(error) and time.monotonic() < began + MAKING:
                    time.sleep(EVERY)
                    continue
                if not self._tried.is_set() and not unreachable(error, self.mirror.uri):
                    self.refusal = error
                    self.mirror.close()
                elif not failing and not ending:
                    log.warning(
                        "MLflow at %s does not answer (%s): the run goes on, %s keeps all, and is sent when it does",
                        self.where,
                        reason(error),
                        self.mirror.run.path,
                    )
                failing = True
            else:
                if failing:
                    log.info("MLflow at %s answers again", self.where)
                failing = False
            self._tried.set()
            if ending:
                return
            self._ending.wait(RETRY if failing else EVERY)

    def wait_for_first_try(self, seconds: float | None) -> None:
        """Wait until MLflow has the run, or has failed, or no longer than so many seconds.

        Raises:
            UserError: there is something to mend first.
        """
        self.start()
        if not self._tried.wait(seconds):
            self._tried.set()
            log.warning(
                "MLflow at %s has not answered for %.0f s: the run begins, %s keeps all, and is sent when it does",
                self.where,
                seconds,
                self.mirror.run.path,
            )
        if self.refusal is not None:
            raise UserError(reason(self.refusal)) from None

    def finish(self) -> None:
        """Send the rest; give up where nothing has been taken for `PATIENCE` seconds."""
        began = time.monotonic()
        self._ending.set()
        while self.is_alive() and time.monotonic() < max(began, self.mirror.last_success) + PATIENCE:
            self.join(0.05)
        self.mirror.close()


@contextmanager
def served(uri: str) -> Iterator[str]:
    """Set MLflow up for one address, and give the address without its user and password, fit to be shown.

    MLflow would repeat a request for minutes, and show the whole address in its errors. What the user has set in the
    environment stays.
    """
    wanted = {
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # At once: a single hiccup is no news.
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }
    parts = urllib.parse.urlsplit(uri)
    if parts.scheme in ("http", "https") and "@" in parts.netloc:
        account, _, host = parts.netloc.rpartition("@")
        user, _, password = account.partition(":")
        wanted["MLFLOW_TRACKING_USERNAME"] = urllib.parse.unquote(user)
        wanted["MLFLOW_TRACKING_PASSWORD"] = urllib.parse.unquote(password)
        uri = parts._replace(netloc=host).geturl()
    with quiet(), _environment(wanted):
        yield uri


@contextmanager
def quiet() -> Iterator[None]:
    """Have MLflow say only what went wrong."""
    for chatty in ("alembic", "mlflow", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with _environment({"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}):
        yield


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set what the user has not."""
    new = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def check_database(uri: str) -> None:
    """See that a database server lets us in; MLflow would try for minutes.

    Raises:
        Exception: of SQLAlchemy and the driver.
    """
    if uri.startswith(("http", "sqlite")):
        return
    import sqlalchemy  # noqa: PLC0415 (comes with MLflow)

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.NullPool)
    engine.connect().close()


def unreachable(error: BaseException, uri: str) -> bool:
    """Whether an error says that the server is down, slow or ill, and not that it refuses what it is asked."""
    if uri.startswith("sqlite"):
        return False
    if not uri.startswith("http"):
        from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 (comes with MLflow)

        return any(isinstance(link, DBAPIError) for link in _chain(error)) and not _listens(uri)
    import requests  # noqa: PLC0415 (comes with MLflow)

    mistakes = (requests.exceptions.SSLError, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)
    if any(isinstance(link, mistakes) for link in _chain(error)):
        return False
    busy = getattr(error, "get_http_status_code", lambda: 0)() in (408, 429, 502, 503, 504)
    return busy or _of_network(error)


def made_by_another(error: BaseException) -> bool:
    """Whether an error says that what was to be made is there: MLflow looks first, and two runs may look at once.

    Of runs that begin together, one makes the tables and the dataset; asked again, MLflow finds them. A server repeats
    what its database says in the text.
    """
    said = [repr(one).partition("[SQL")[0] for one in _chain(error)]  # What was to be written is not what went wrong.
    return any(re.search("IntegrityError|UniqueViolation|Duplicate|already exists", one) for one in said)


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _of_network(error: BaseException) -> bool:
    import requests  # noqa: PLC0415 (comes with MLflow)

    return any(isinstance(link, requests.exceptions.RequestException) for link in _chain(error))


def _listens(uri: str) -> bool:
    """Whether anything listens where a database should."""
    parts = urllib.parse.urlsplit(uri)
    ports = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
    try:
        address = (parts.hostname or "localhost", parts.port or ports[parts.scheme.partition("+")[0]])
        socket.create_connection(address, timeout=REQUEST).close()
    except OSError:
        return False
    return True


def reason(error: BaseException) -> str:
    """Return an error in one line, without what may be secret; of the network, what is at the bottom of it."""
    return first_line(_chain(error)[-1] if _of_network(error) else error)


def describe(tags: Mapping[str, Any], dataset: tuple[str, str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tracking.json is to say of a run that begins or goes on.

    Args:
        tags: what the UI shows and filters by; MLflow's own (mlflow.parentRunId, ...) too.
        dataset: name and digest of the corpus.
        known: what the file says already.
    """
    from mlflow.tracking.context.registry import resolve_tags  # noqa: PLC0415

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


def dataset_input(name: str, digest: str) -> Any:
    """Return the corpus of a run as MLflow takes it: its name and digest."""
    from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415
    from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415
    from mlflow.entities import DatasetInput, InputTag  # noqa: PLC0415

    # Name and digest only: MLflow's other datasets read all the text to make a digest of their own.
    known = MetaDataset(CodeDatasetSource(tags={"corpus": name}), name=name, digest=digest[:32])  # type: ignore[abstract]
    return DatasetInput(known._to_mlflow_entity(), [InputTag("mlflow.data.context", "training")])


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings under their names on the command line: GROUP.KEY."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
