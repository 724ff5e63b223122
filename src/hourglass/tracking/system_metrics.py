"""Record the load of the machine while a run trains."""

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from hourglass.runs.curves import Point, append_points, read_points, start_curves


class SystemMetrics(threading.Thread):
    """A thread that writes the load of CPU, memory, disk, network and GPU, read by MLflow's monitors, to a CSV file.

    MLflow's own thread for this sends the values to the server, and stops forever when the server fails once.

    Args:
        file: the CSV file; readings of an earlier start of the run are kept.
        every: seconds between readings.
    """

    def __init__(self, file: Path, every: int):
        super().__init__(name="system metrics", daemon=True)
        self.file, self.every = file, every
        self._stop_reading = threading.Event()

    def run(self) -> None:
        """See `threading.Thread`."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor
        from mlflow.system_metrics.metrics.rocm_monitor import ROCMMonitor

        monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        for gpus in (GPUMonitor, ROCMMonitor):
            with suppress(Exception):  # The machine has no GPUs of this make.
                monitors.append(gpus())
        earlier = read_points(self.file)
        start_curves(self.file, earlier)
        step = max((point.step for point in earlier), default=-1) + 1
        while not self._stop_reading.wait(self.every):
            now = round(time.time() * 1000)
            for monitor in monitors:
                monitor.collect_metrics()
                values = monitor.aggregate_metrics()
                append_points(self.file, [Point(step, f"system/{name}", value, now) for name, value in values.items()])
                monitor.clear_metrics()
            step += 1

    def finish(self) -> None:
        """Stop the thread."""
        self._stop_reading.set()
        self.join()
