"""How busy the machine is, in a file of the run."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hourglass.runs.curves import Point, append_points, read_points, start_curves


class SystemMetrics(threading.Thread):
    """Reads CPU, memory, disk, network and GPU by MLflow's own means, into a file of points.

    MLflow's own thread sends them itself, and gives up for good when a server fails once.

    Args:
        file: the CSV; readings of an earlier start stay.
        every: seconds between readings.
    """

    def __init__(self, file: Path, every: int):
        super().__init__(name="machine", daemon=True)
        self.file, self.every = file, every
        self._stop_reading = threading.Event()

    def run(self) -> None:
        """See the base."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

        monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        for gpus in (GPUMonitor, ROCMMonitor):
            with suppress(Exception):  # There are none of this kind.
                monitors.append(gpus())
        before = read_points(self.file)
        start_curves(self.file, before)
        step = max((point.step for point in before), default=-1) + 1
        while not self._stop_reading.wait(self.every):
            now = round(time.time() * 1000)
            for monitor in monitors:
                monitor.collect_metrics()
                found = monitor.aggregate_metrics()
                append_points(self.file, [Point(step, f"system/{name}", value, now) for name, value in found.items()])
                monitor.clear_metrics()
            step += 1

    def finish(self) -> None:
        """Stop reading."""
        self._stop_reading.set()
        self.join()
