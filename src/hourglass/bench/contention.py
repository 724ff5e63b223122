"""Measure a training step and a search while other processes want the cores, too.

Each measurement is a process of its own, as OpenMP reads how threads wait when it is loaded (system/waiting.py).
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from hourglass.bench.clock import median_seconds
from hourglass.bench.measurements import CONTENDED, print_measurement
from hourglass.bench.settings import BenchSettings, part_command
from hourglass.bench.steps import build_variant, make_search, make_training_step, random_batch
from hourglass.config.options import choose
from hourglass.errors import UserError
from hourglass.system.waiting import WAITING

# The beam of each search; 0: a training step.
ACTIVITIES = {"training": 0, "greedy": 1, "beam-5": 5}
# What libgomp does by itself.
UNLIMITED = {"GOMP_SPINCOUNT": "300000"}
# It ends with the process that has started it, whatever kills that.
BUSY = [sys.executable, "-c", "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n  sum(range(100_000))"]


@dataclass(frozen=True)
class Contention:
    """What runs beside a measurement, and how its threads wait.

    Attributes:
        name: in the printed lines.
        threads: of the measured process; 0: the setting of the command.
        busy: processes beside it that want a core all the time.
        jobs: processes that do the measured work at the same time, as the jobs of a sweep do.
        waiting: environment variables of OpenMP; none: the choice of system/waiting.py.
    """

    name: str
    threads: int = 0
    busy: int = 0
    jobs: int = 1
    waiting: Mapping[str, str] = field(default_factory=dict)


# The others are compared with the first.
CONTENTIONS = (
    Contention("one thread, alone", threads=1),
    Contention("alone"),
    Contention("beside a busy process", busy=1),
    Contention("beside a busy process, passive waiting", busy=1, waiting={"OMP_WAIT_POLICY": "passive"}),
    Contention("beside a busy process, OpenMP's own waiting", busy=1, waiting=UNLIMITED),
    Contention("beside a busy process, one thread", threads=1, busy=1),
    Contention("two at once", jobs=2),
    Contention("two at once, OpenMP's own waiting", jobs=2, waiting=UNLIMITED),
)


def measure_contention(settings: BenchSettings) -> None:
    """Measure each activity alone and beside other processes, all taking turns; print shares of one thread's speed.

    Raises:
        UserError: a measurement failed.
    """
    kinds = [(activity, contention) for activity in ACTIVITIES for contention in CONTENTIONS]
    seconds: dict[tuple[str, str], list[float]] = {(activity, kind.name): [] for activity, kind in kinds}
    for _ in range(settings.rounds):
        for activity, kind in kinds:
            seconds[activity, kind.name].append(_run_beside_others(activity, kind))
    for (activity, name), values in seconds.items():
        alone = seconds[activity, CONTENTIONS[0].name]
        shares = [reference / value for reference, value in zip(alone, values, strict=True)]
        print_measurement(
            f"{CONTENDED}{activity}, {name}",
            statistics.median(shares),
            "share",
            all=shares,
            milliseconds=[1e3 * value for value in values],
        )


def measure_activity(settings: BenchSettings, activity: str) -> None:
    """Measure an activity in this process: the first variant's training step, or a search, at the largest size.

    Raises:
        UserError: there is no such activity.
    """
    beam = choose(ACTIVITIES, activity, "activity")
    model = build_variant(settings, settings.first_variant, max(settings.decoder_sizes))
    step = make_search(settings, model, beam) if beam else make_training_step(model)
    batch = random_batch(model)
    value = median_seconds(lambda: step(batch), settings.seconds)
    print_measurement(f"{activity}, seconds of a batch", value, "s")


def _run_beside_others(activity: str, kind: Contention) -> float:
    """Return the seconds of a batch; of several jobs, their mean."""
    threads = [f"threads={kind.threads}"] if kind.threads else []
    command = part_command("contended", "activity", activity, *threads)
    environment = {name: value for name, value in os.environ.items() if name not in WAITING} | dict(kind.waiting)
    with _busy_processes(kind.busy):
        jobs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(kind.jobs)]
        printed = [job.communicate()[0] for job in jobs]
    if any(job.returncode for job in jobs):
        raise UserError(f"bench.py activity {activity} failed; its message is above")
    return statistics.mean(json.loads(lines)["value"] for lines in printed)


@contextmanager
def _busy_processes(number: int) -> Iterator[None]:
    processes = [subprocess.Popen(BUSY) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()
