"""Compare the behaviour of two commits: python tests/whole/same_behaviour.py REV_A REV_B

A refactoring must not change what the commands do. This script unpacks each commit into a folder of its own, runs the
same short trainings and the same commands on their results there, and compares what they write and print, bit for bit:
weights, optimizer states, scores, curves, translations, reports, printed lines. Times, speeds, folders, commits, names
of modules and progress bars are replaced by placeholders first. It uses the command line only and imports nothing of
the package, whose modules may all have moved.

A revision is any name of a commit that git understands, or WORKTREE for the present files, committed or not. The script
prints a line for each step. It exits with 1 if a step differs, or fails on both sides, and with 2 if it cannot compare.

Results depend on the processor and on the versions of the libraries, which round differently. The records of `--keep`
are therefore reused only by the same version of this script, on the same processor with the same libraries.
"""

import argparse
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
WORKTREE = "WORKTREE"
# Seconds after which a step counts as hung; they take 3 to 60 on an idle core.
LIMIT = 900
# Longer lines and values are stored as their beginning and a digest of the whole.
LONGEST = 200
# The libraries that decide results or what is printed.
LIBRARIES = (
    *("torch", "numpy", "scipy", "pytorch-lightning", "hydra-core", "omegaconf", "sentencepiece", "sacrebleu"),
    *("num2words", "pythonbible", "datasets", "pyarrow", "pydantic", "matplotlib", "mlflow", "optuna", "tqdm"),
)

# A model of a few thousand weights that any attention accepts, and corpora of a few hundred pairs.
TINY = (
    *("decoder.embedding_size=12", "decoder.readout_size=12", "decoder.hidden_size=16"),
    *("encoder.embedding_size=12", "encoder.summary_size=8"),
)
TINY_ENCODER = "encoder.hidden_size=16"  # The blind encoder has no such option.
PAIRS = ("data.train_pairs=400", "data.dev_pairs=24", "data.test_pairs=30")
SYMBOLS = ("data.symbols=20", "data.vocabulary_size=24")
# Small batches and a high rate: after about 60 steps the translations depend on the source.
FAST = ("trainer.batch_tokens=120", "trainer.target_tokens=8_000", "optimizer.learning_rate=0.03")
NUMBERS = (
    *("data=numbers", "data.shortest=2", "data.longest=7", "data.vocabulary_size=90", "trainer.select=loss"),
    *(*PAIRS, *FAST),
)
COPY = ("data=copy", "data.longest=8", *PAIRS, *SYMBOLS, *FAST)
# The sizes of trainer=smoke, for another choice of the group.
SMOKE = (
    *("trainer.validations=2", "trainer.dev_sentences=10", "trainer.test_sentences=20"),
    "trainer.checkpoint_every=5",
)
CELLS = ("gru", "gru_cho", "lstm_normed")  # Beside lstm, which all other runs have.
SOURCE_WORDS = ("oh", "ay", "bee", "sea", "dew", "eve", "fan", "gnu", "hat", "ivy")
TARGET_WORDS = ("iks", "uhu", "tee", "zug", "ofen", "elf", "kamm", "garn", "hut", "efeu")
LINES = (
    "eight thousand, six hundred and fifty-five\n"
    "twelve\n"
    "\n"
    "three million, four hundred and twenty-eight thousand and eighty\n"
    "unknown words, and {signs}\n"
)


class Failure(Exception):
    """The comparison cannot be made; the message is one line."""


@dataclass(frozen=True)
class Step:
    """A command line, and where its results are.

    Attributes:
        name: its name on the command line and in the output; one that begins with `error-` must fail.
        words: the arguments of `python`; paths are relative to the tree.
        folder: the folder that it writes, relative to the tree; None: it only prints.
        needs: names of the steps that must run before it.
        stdin: its standard input.
        prepare: called with the folder of the tree before the command runs.
        unordered: several processes write to standard error, in no fixed order.
    """

    name: str
    words: tuple[str, ...]
    folder: str | None = None
    needs: tuple[str, ...] = ()
    stdin: str = ""
    prepare: Callable[[Path], None] | None = None
    unordered: bool = False


# The result of a step: the lines of each artifact (a file, a part of a file, or an output stream).
Result = dict[str, list[str]]


def plan(tree: Path) -> dict[str, Step]:
    """Return all steps by name, in the order in which they are printed."""
    attentions = sorted(path.stem for path in (tree / "conf" / "attention").glob("*.yaml"))
    steps = [*trainings(attentions), *commands(tree)]
    return {step.name: step for step in steps}


def trainings(attentions: Iterable[str]) -> Iterator[Step]:
    """Yield the steps that train.

    The first training on a corpus prepares it and says so. All others on that corpus wait for it: what they print must
    not depend on their order.
    """
    numbers, copy = "luong_general", "luong_general-feeding"

    def train(name: str, *words: str, after: str | None, **options: Any) -> Step:
        folder = f"runs/{name}"
        places = ("logger=csv", "cache=cache", f"run_dir={folder}")
        needs = (after,) if after not in (None, name) else ()
        return Step(name, ("src/train.py", "trainer=smoke", *places, *words), folder, needs, **options)

    tiny = (*TINY, TINY_ENCODER)
    feeding = ("decoder.input_feeding=true", "decoder.cell=gru", "encoder.cell=gru", "decoder.readout=deep")
    for name in attentions:
        choice = f"attention={name}"
        yield train(name, choice, "seed=1", *NUMBERS, *tiny, after=numbers)
        yield train(f"{name}-feeding", choice, "seed=2", *COPY, *tiny, *feeding, after=copy)
    yield train("blind", "experiment=language_model", "seed=1", *NUMBERS, *TINY, after=numbers)
    stacked = (
        *("encoder.layers=2", "decoder.layers=2", "encoder.residual_from=2", "decoder.residual_from=2"),
        *("decoder.context_to_all=true", "decoder.query_layer=bottom"),
    )
    for cell in CELLS:
        cells = (f"encoder.cell={cell}", f"decoder.cell={cell}")
        # luong_dot reads a known target in one pass, bahdanau step by step.
        yield train(f"cell-{cell}", *cells, "attention=luong_dot", "seed=3", *NUMBERS, *tiny, after=numbers)
        yield train(f"cell-{cell}-steps", *cells, *stacked, "attention=bahdanau", *NUMBERS, *tiny, after=numbers)
    yield train("ddp", "trainer=ddp", "trainer.accelerator=cpu", *SMOKE, *NUMBERS, *tiny, after=numbers, unordered=True)
    # Options that no other run sets.
    yield train(
        "options",
        *(*COPY, *tiny, "data.longest=6", "encoder.summary_size=64"),
        *("attention=luong_local_p", "decoder.layers=2", "decoder.start=pass", "decoder.tie=none", "init_range=0.1"),
        *("decoder.readout=maxout", "encoder.layers=2", "encoder.bidirectional=false", "encoder.reverse_source=true"),
        *("trainer.scheduled_sampling=0.5", "trainer.accumulate=2", "trainer.keep=2", "trainer.validations=4"),
        *("trainer.patience=3", "search.coverage_penalty=0.2", "search.beam=3"),
        after=None,
    )
    sgd = ("optimizer=sgd_luong", "optimizer.learning_rate=14.0", "trainer.step_loop=true", "search=greedy")
    yield train("sgd", "attention=luong_dot", *COPY, *tiny, *sgd, after=copy)
    yield train(
        "channel",
        *("experiment=capacity", "trainer=smoke", "data.train_pairs=2000", "data.dev_pairs=24", "data.test_pairs=60"),
        *(*SYMBOLS, "encoder.summary_size=8", "encoder.summary_tanh=true", "encoder.summary_bits=2"),
        after=None,
    )
    yield train(
        "text",
        *("data=text", "data.source=en", "data.target=de", "data.train=text/train", "data.dev=text/dev.tsv"),
        *("data.test=text/test.tsv", "data.longest=12", "data.vocabulary_size=26", "tokenizer=unigram"),
        *("tokenizer.joint=false", "decoder.tie=output", *tiny),
        *(*FAST, "optimizer=adadelta", "optimizer.learning_rate=1.0", "logger.system_metrics=1"),
        after=None,
        prepare=write_text,
    )
    yield train("kjv_web", after=None)  # The default of all settings but the budget.
    store = ("logger=mlflow", "logger.tracking_uri=sqlite:///runs/mlflow/mlflow.db", "logger.system_metrics=0")
    yield train("mlflow", *store, "seed=4", *NUMBERS, *tiny, after=numbers)


def commands(tree: Path) -> Iterator[Step]:
    """Yield the steps that read trained runs, and those that only print."""

    def script(name: str, words: str, *needs: str, out: bool = False, stdin: str = "") -> Step:
        folder = f"out/{name}" if out else None
        return Step(name, (*words.split(), *([f"out={folder}"] if out else [])), folder, needs, stdin)

    yield script("help", "src/train.py --help")
    yield script("error-option", "src/train.py decoder.layer=2")
    yield script("error-value", "src/train.py decoder.layers=0 logger=none cache=cache")
    yield script("error-run", "src/translate.py run=runs/nowhere", stdin=LINES)
    several, pair = "run=[runs/luong_general,runs/bahdanau]", ("luong_general", "bahdanau")
    yield script("translate", "src/translate.py run=runs/luong_general", "luong_general", stdin=LINES)
    yield script("translate-json", f"src/translate.py {several} output=json", *pair, stdin=LINES)
    best = "src/translate.py run=runs/luong_general-feeding n_best=3 output=pharaoh"
    yield script("translate-n-best", best, "luong_general-feeding", stdin="s1 s2 s3 s4\ns5\ns19 s0 s0 s19\n")
    drawn = "src/translate.py run=runs/options checkpoint=average search=sample seed=7"
    yield script("translate-average", drawn, "options", stdin="s1 s2 s3 s4\ns5\ns19 s0 s0 s19\n")
    yield script("translate-ask", "src/translate.py run=runs/bahdanau interactive=true", "bahdanau", stdin=LINES)
    yield script("compare", "pipelines/compare.py runs/none runs/fixed", "none", "fixed")
    yield script("bits", "pipelines/bits.py runs/blind runs/none runs/fixed", "blind", "none", "fixed", out=True)
    groups = "pipelines/compare.py runs/none runs/mean runs/fixed by_length=true"
    yield script("compare-groups", groups, "none", "mean", "fixed", out=True)
    aligned = ("luong_dot-feeding", "bahdanau-feeding")
    yield script("align", f"pipelines/align.py runs/{aligned[0]} runs/{aligned[1]}", *aligned)
    yield script("channel-bits", "pipelines/channel.py runs/channel", "channel")
    page = "out/explore/explorer.html"
    key = "out" if "\nout:" in (tree / "conf" / "explore.yaml").read_text() else "output"  # Its name in older commits.
    explore = ("pipelines/explore.py", several, "sentences=4", f"{key}={page}")
    yield Step("explore", explore, "out/explore", pair, prepare=lambda tree: (tree / page).parent.mkdir(parents=True))
    yield Step(
        "resume", ("src/train.py", "resume=runs/resume"), "runs/resume", ("luong_concat-feeding",), prepare=cut_run
    )
    sweep = (
        *("-m", "sweep=optuna", "hydra.sweeper.n_trials=2", "hydra.sweep.dir=runs/sweep"),
        *("hydra.sweeper.storage=sqlite:///runs/sweep/sweeps.db", "hydra.sweeper.objective=loss"),
    )
    yield Step(
        "sweep",
        ("src/train.py", *sweep, "trainer=smoke", "logger=csv", "cache=cache", *NUMBERS, *TINY, TINY_ENCODER),
        "runs/sweep",
        ("luong_general",),
        prepare=lambda tree: (tree / "runs" / "sweep").mkdir(parents=True),
    )


def write_text(tree: Path) -> None:
    """Write a made corpus; train has an empty line, a line that is too long, and a pair that is in test too."""
    folder = tree / "text"
    folder.mkdir()

    def pair(number: int) -> tuple[str, str]:
        digits = [int(digit) for digit in str(number**2)]
        return " ".join(SOURCE_WORDS[digit] for digit in digits), " ".join(
            TARGET_WORDS[digit] for digit in digits[::-1]
        )

    train = [pair(number) for number in range(1, 300)] + [("", "iks"), ("ay " * 30, "iks"), pair(1001)]
    for language, side in (("en", 0), ("de", 1)):
        (folder / f"train.{language}").write_text("".join(f"{sides[side].strip()}\n" for sides in train))
    for name, start in (("dev", 400), ("test", 1000)):
        rows = [pair(number) for number in range(start, start + 24)]
        (folder / f"{name}.tsv").write_text("".join(f"{source}\t{target}\n" for source, target in rows))


def cut_run(tree: Path) -> None:
    """Copy a finished run without its last checkpoint and its scores: it resumes from the previous checkpoint."""
    run = tree / "runs" / "resume"
    shutil.copytree(tree / "runs" / "luong_concat-feeding", run)
    (run / "checkpoints" / "last.ckpt").unlink()
    (run / "metrics.json").unlink()
    (run / "translations.test.tsv").unlink()


# --- Running the steps


class Tree:
    """The files of a commit in a folder, and an environment that imports the package from there."""

    def __init__(self, commit: str, folder: Path) -> None:
        """Unpack the commit.

        Raises:
            Failure: Python imports the package from elsewhere.
        """
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True)
        if commit == WORKTREE:
            copy_worktree(self.folder)
        else:
            archive = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True)
            with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
                tar.extractall(self.folder, filter="data")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "OPTUNA_"))}
        self.environment = kept | {
            "PYTHONPATH": str(self.folder / "src"),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "100",
        }
        package = self.run(("-c", "import hourglass; print(hourglass.__file__)"), "").stdout.decode().strip()
        if not package.startswith(str(self.folder / "src")):
            raise Failure(
                f"{commit}: Python imports {package or 'no hourglass'}, not the package in {self.folder / 'src'}"
            )

    def run(self, words: Sequence[str], stdin: str) -> subprocess.CompletedProcess[bytes]:
        """Run Python in the tree."""
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env=self.environment,
            input=stdin.encode(),
            capture_output=True,
            check=False,
            timeout=LIMIT,
        )

    def result(self, step: Step) -> Result:
        """Run a step and return its result."""
        if step.prepare is not None:
            step.prepare(self.folder)
        try:
            done = self.run(step.words, step.stdin)
        except subprocess.TimeoutExpired:
            return {"exit status": [f"none after {LIMIT} s"]}
        artifacts = {
            "exit status": [str(done.returncode)],
            "stdout": self.plain(done.stdout.decode()),
            "stderr": self.plain(done.stderr.decode()),
        }
        if step.unordered:
            artifacts["stderr"].sort()
        if step.folder is not None:
            artifacts |= read_folder(self.folder / step.folder, self.plain)
        return artifacts

    def plain(self, text: str) -> list[str]:
        """Return the lines of a text, with placeholders for what differs between any two runs."""
        text = text.replace(str(self.folder), "TREE")
        for pattern, placeholder in VOLATILE:
            text = re.sub(pattern, placeholder, text)
        return [shorten(line) for line in text.split("\n")]


# Applied in this order. A progress bar redraws itself after carriage returns: keep label and counts of its last state.
VOLATILE = (
    (r"(?m)^(?:.*\r)?([^|\r\n]*?):.*?(\d[\d,]*(?:/[\d,?]+| lines))[^\[\n]*\[\d\d:\d\d.*\] *$", r"\1: BAR \2"),
    (r"(?m)^([^:\n]*): (\d+(?:/\d+)? [a-z]+), [\d:]+ passed.*$", r"\1: BAR \2"),
    (r"src/hourglass/[\w/]+\.py", "src/hourglass/MODULE.py"),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?", "TIME"),
    (r"\b\d{8}-\d{6}\b", "TIME"),
    (r"\b[\d,.]+ (s|seconds|minutes|min)\b", r"TIME \1"),
    (r"[\d,.]+ ((?:target )?tokens|sentences|tok|it)(/s| a second)", r"RATE \1\2"),
    (r"\bprocess \d+\b", "process PID"),
)


def shorten(line: str) -> str:
    """Return a line; of a long one the beginning and a digest."""
    if len(line) <= LONGEST:
        return line
    return f"{line[:LONGEST]}... sha256 {hashlib.sha256(line.encode()).hexdigest()}"


def copy_worktree(folder: Path) -> None:
    """Copy the present files that git tracks, and those that it does not ignore."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    for name in sorted({name for name in listed if name}):
        source, target = ROOT / name, folder / name
        if source.is_file():  # Git lists deleted files too.
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)


def run_steps(tree: Tree, steps: Sequence[Step], jobs: int, add: Callable[[str, Result], None]) -> None:
    """Run steps, several at a time, each after those that it needs; call `add` with each result."""
    waiting = list(steps)
    running: dict[Future[tuple[Result, float]], Step] = {}
    ended: set[str] = set()

    def timed(step: Step) -> tuple[Result, float]:
        started = time.monotonic()
        return tree.result(step), time.monotonic() - started

    pool = ThreadPoolExecutor(jobs)
    try:
        while waiting or running:
            ready = [step for step in waiting if ended.issuperset(step.needs)]
            waiting = [step for step in waiting if step not in ready]
            running |= {pool.submit(timed, step): step for step in ready}
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                result, seconds = future.result()
                add(step.name, result)
                ended.add(step.name)
                print(f"  {tree.folder.parent.name} {step.name}: {seconds:.0f} s", file=sys.stderr, flush=True)
    finally:
        pool.shutdown(cancel_futures=True)


# --- Reading the results


def read_folder(folder: Path, plain: Callable[[str], list[str]]) -> Result:
    """Return the lines of each file below a folder, by its path there."""
    artifacts: Result = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name.startswith(".") or "model" in path.relative_to(folder).parts:
            continue  # Locks; packed models, which hold a copy of the package.
        if path.suffix == ".ckpt":
            weights, rest = read_checkpoint(path, plain)
            artifacts |= {f"{name} weights": weights, f"{name} rest": rest}
        elif path.suffix == ".json":
            artifacts[name] = flat(json.loads(path.read_text(encoding="utf-8")), plain)
        elif path.suffix == ".db":
            artifacts |= {f"{name} {table}": lines for table, lines in read_store(path, plain).items()}
        elif path.suffix == ".csv":
            artifacts[name] = read_csv(path, plain)
        elif path.suffix == ".tsv":
            artifacts[name] = [shorten(line) for line in path.read_text(encoding="utf-8").split("\n")]
        elif path.suffix in (".html", ".md", ".svg", ".tex", ".yaml"):
            artifacts[name] = plain(path.read_text(encoding="utf-8"))
        else:  # Binary pictures: PDF has a date, Optuna's plots have times.
            artifacts[name] = ["present"]
    return artifacts


def read_checkpoint(path: Path, plain: Callable[[str], list[str]]) -> tuple[list[str], list[str]]:
    """Return the weights of a checkpoint, and its other content: optimizer, counters, settings, vocabularies."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    weights = content.pop("state_dict")
    return flat(weights, plain), flat(content, plain)


def flat(content: Any, plain: Callable[[str], list[str]]) -> list[str]:
    """Return a line `PATH = VALUE` for each value in nested mappings and lists, sorted. Tensors become digests."""
    return sorted(f"{name} = {value}" for name, value in _values(content, "", plain))


def _values(content: Any, name: str, plain: Callable[[str], list[str]]) -> Iterator[tuple[str, str]]:
    if is_volatile(name):
        yield name, "VOLATILE"
    elif isinstance(content, Mapping) and content:
        for key, value in content.items():
            yield from _values(value, f"{name}/{key}" if name else str(key), plain)
    elif isinstance(content, list | tuple) and content:
        for index, value in enumerate(content):
            yield from _values(value, f"{name}/{index:03}", plain)
    elif isinstance(content, torch.Tensor):
        octets = content.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        yield name, f"{content.dtype} {list(content.shape)} sha256 {hashlib.sha256(octets).hexdigest()}"
    elif isinstance(content, str):
        yield name, shorten(json.dumps("\n".join(plain(content)), ensure_ascii=False))
    else:
        yield name, shorten(repr(content))


def is_volatile(name: str) -> bool:
    """Return whether a value is a time, a speed, a machine or a commit: only its presence is compared."""
    last = name.rsplit("/", 1)[-1]
    return (
        last in ("seconds", "train_seconds", "commit", "dirty", "started", "ended", "run_id", "key", "machine", "time")
        or last.endswith("per_second")
        or name in ("hourglass/code", "code")
    )


def read_csv(path: Path, plain: Callable[[str], list[str]]) -> list[str]:
    """Return the rows of curves (step, name, value, time) without times and speeds.

    Readings of the machine (`system/...`) are compared by name only, and other tables by their first line: the table of
    a sweep has times in its columns.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    if not lines[0].startswith("step,name,value"):
        return plain(lines[0])
    rows = [line.split(",") for line in lines[1:] if line]
    kept = (row[1] if row[1].startswith("system/") else ",".join(row[:3]) for row in rows if not is_volatile(row[1]))
    return list(dict.fromkeys(kept))


def read_store(path: Path, plain: Callable[[str], list[str]]) -> Result:
    """Return the parameters, metrics and tags of an MLflow store, or the trials of an Optuna study."""
    queries = {
        "params": "select key, value from params",
        "metrics": "select key, step, value from metrics where key not like '%per_second' and key not like '%seconds'",
        "tags": "select key, value from tags "
        "where key not in ('commit', 'dirty', 'hourglass.key') and key not like 'mlflow.%'",
        "trials": "select number, state from trials",
        "trial_params": "select trial_id, param_name, param_value, distribution_json from trial_params",
        "trial_values": "select trial_id, objective, value from trial_values",
    }
    with closing(sqlite3.connect(path)) as store:
        known = {row[0] for row in store.execute("select name from sqlite_master where type = 'table'")}
        return {
            table: sorted(shorten(" = ".join(plain(" ".join(map(str, row))))) for row in store.execute(query))
            for table, query in queries.items()
            if table in known
        }


# --- Records


def environment() -> dict[str, str]:
    """Return what results depend on besides the code: versions and processor."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return {
        **versions,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
    }


def processor() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    named = re.search(r"model name\s*: (.*)", text)
    return named[1] if named else platform.processor()


class Record:
    """The results of a commit, kept in a file with the script and the environment that they depend on."""

    def __init__(self, folder: Path | None, commit: str) -> None:
        """Read the file unless it depends on another script or environment; without a folder keep nothing."""
        self.file = folder / f"{commit}.json" if folder is not None and commit != WORKTREE else None
        self.origin = {
            "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
            "environment": environment(),
        }
        self.results: dict[str, Result] = {}
        if self.file is None or not self.file.exists():
            return
        content = json.loads(self.file.read_text(encoding="utf-8"))
        changed = [part for part, value in self.origin.items() if content.get(part) != value]
        if changed:
            print(f"{self.file}: made with another {' and '.join(changed)}; replacing it", file=sys.stderr)
        else:
            self.results = content["results"]

    def add(self, name: str, result: Result) -> None:
        """Add the result of a step, and write the file."""
        self.results[name] = result
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            scratch = self.file.with_suffix(".part")
            text = json.dumps({**self.origin, "results": self.results}, indent=0, ensure_ascii=False)
            scratch.write_text(text + "\n", encoding="utf-8")
            os.replace(scratch, self.file)


# --- Comparing


def difference(before: Result, after: Result, ignored: Sequence[str]) -> str | None:
    """Return the artifacts of a step that differ, with the first difference; None: all are the same.

    Args:
        before: the result at REV_A.
        after: the result at REV_B.
        ignored: patterns of names of artifacts that may differ.
    """
    names = [name for name in {**before, **after} if not any(fnmatch(name, pattern) for pattern in ignored)]
    names = [name for name in names if before.get(name) != after.get(name)]
    if not names:
        return None
    # Causes before effects: weights first, printed lines last.
    names.sort(key=lambda name: (name in ("stdout", "stderr"), not name.endswith(" weights")))
    first, *others = names
    if first in before and first in after:
        text = f"{first}, {first_difference(before[first], after[first])}"
    else:
        text = f"{first}: only in {'REV_A' if first in before else 'REV_B'}"
    return text + (f"; also {', '.join(others)}" if others else "")


def first_difference(before: Sequence[str], after: Sequence[str]) -> str:
    """Return the first line that differs, cut to the part around the difference."""
    for number, (old, new) in enumerate(zip_longest(before, after), 1):
        if old is None or new is None:
            return f"line {number}: only in {'REV_B' if old is None else 'REV_A'}: {(new if old is None else old)!r}"
        if old != new:
            common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
            start = max(0, common - 60)
            return f"line {number}: {old[start : start + 120]!r} became {new[start : start + 120]!r}"
    raise AssertionError("the lines are equal")


def compare(
    names: Iterable[str], before: Mapping[str, Result], after: Mapping[str, Result], ignored: Sequence[str]
) -> int:
    """Print a line for each step, and return how many differ or do not end as they should."""
    count = 0
    for name in names:
        if name not in before or name not in after:
            line = f"DIFFERENT  {name}: only in {'REV_A' if name in before else 'REV_B'}"
        elif text := difference(before[name], after[name], ignored):
            line = f"DIFFERENT  {name}: {text}"
        elif (before[name]["exit status"] == ["0"]) == name.startswith("error-"):
            message = " ".join(line for line in before[name].get("stderr", [])[-3:] if line)
            line = f"FAILED     {name}: exit status {before[name]['exit status'][0]} on both sides: {message}"
        else:
            line = f"same       {name}"
        count += not line.startswith("same")
        print(line)
    return count


# --- The command


def git(*words: str) -> str:
    """Return the output of a git command in this repository."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


def resolve(revision: str) -> str:
    """Return the full hash of a revision, or WORKTREE.

    Raises:
        Failure: git knows no such commit.
    """
    if revision == WORKTREE:
        return WORKTREE
    try:
        return git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except subprocess.CalledProcessError:
        raise Failure(f"{revision}: no such revision of {ROOT}; name a tag, a branch, a hash or {WORKTREE}") from None


def closure(names: Iterable[str], steps: Mapping[str, Step]) -> set[str]:
    """Return the names of steps, and of all steps that they need."""
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += steps[name].needs
    return needed


def measure(commit: str, folder: Path, only: Sequence[str], record: Record, jobs: int) -> dict[str, Result]:
    """Return the results of a commit; run the steps that its record lacks.

    Args:
        commit: its full hash, or WORKTREE.
        folder: where the tree goes.
        only: names of steps; empty: all.
        record: the results that are known already; the new ones are added.
        jobs: steps that run at a time.

    Raises:
        Failure: a step of `only` does not exist.
    """
    tree = Tree(commit, folder / "tree")
    steps = plan(tree.folder)
    if unknown := [name for name in only if name not in steps]:
        raise Failure(f"--only {','.join(unknown)}: no such step; there are {', '.join(steps)}")
    selected = [name for name in steps if not only or name in only]
    missing = closure([name for name in selected if name not in record.results], steps)
    run_steps(tree, [steps[name] for name in steps if name in missing], jobs, record.add)
    return {name: record.results[name] for name in selected}


def positive(word: str) -> int:
    """Return the number that a word is, for argparse.

    Raises:
        ValueError: it is none, or below 1.
    """
    number = int(word)
    if number < 1:
        raise ValueError
    return number


def main(words: Sequence[str]) -> int:
    """Compare two revisions and return the exit status."""
    head, _, details = str(__doc__).partition("\n\n")
    parser = argparse.ArgumentParser(description=head, epilog=details, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rev_a", metavar="REV_A", help="the commit before")
    parser.add_argument("rev_b", metavar="REV_B", help="the commit after")
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        help="empty folder for the trees and their runs, which stay (a temporary one)",
    )
    parser.add_argument(
        "--keep", metavar="FOLDER", type=Path, help="where the results of commits are stored and reused (none)"
    )
    parser.add_argument(
        "--jobs", metavar="N", type=positive, default=2, help="steps that run at a time, each on one core (2)"
    )
    parser.add_argument("--only", metavar="NAME,...", default="", help="names of steps to compare (all)")
    parser.add_argument(
        "--ignore", metavar="PATTERN,...", default="", help="artifacts that may differ, such as 'std*,report.*' (none)"
    )
    settings = parser.parse_args(words)
    only = [name for name in settings.only.split(",") if name]
    try:
        commits = [resolve(settings.rev_a), resolve(settings.rev_b)]
        data = settings.data or Path(tempfile.mkdtemp(prefix="same-behaviour-"))
        if data.exists() and (not data.is_dir() or any(data.iterdir())):
            raise Failure(f"--data {data}: not an empty folder")
        results = []
        try:
            for side, commit in zip("ab", commits, strict=True):
                # A commit compared with itself shows that its results repeat: its second ones come from no record.
                keep = None if side == "b" and commits[0] == commits[1] else settings.keep
                results.append(measure(commit, data / side, only, Record(keep, commit), settings.jobs))
        finally:
            if settings.data is None:
                shutil.rmtree(data)
    except Failure as error:
        print(f"same_behaviour.py: {error}", file=sys.stderr)
        return 2
    before, after = results
    names = list({**before, **after})
    count = compare(names, before, after, [pattern for pattern in settings.ignore.split(",") if pattern])
    print(f"{len(names)} steps of {commits[0][:12]} and {commits[1][:12]}: {count} not the same")
    return 1 if count else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
