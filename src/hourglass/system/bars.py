"""Progress bars: redrawn on a terminal; in a file, a line now and then."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm

# Seconds between the lines in a file: a share of the time so far, within limits.
FIRST, SHARE, LAST = 30.0, 0.05, 600.0


class Bar(tqdm):
    """A progress bar on standard error, with speed and remaining time.

    In a file each state is a line of its own. The first comes after half a minute, the last when the bar is closed.

    Args:
        name: of the work, before the bar.
        total: number of units; None: unknown.
        unit: what is counted, in the plural.
        done: units done by an earlier process; they do not count for the speed.
        leave: whether the bar stays when it is closed; a bar that does not stay is never written to a file.
        disable: show nothing.
        smoothing: weight of the latest speed, from 0 (the average of all time) to 1.
    """

    def __init__(
        self,
        name: str,
        total: int | None,
        unit: str,
        *,
        done: int = 0,
        leave: bool = True,
        disable: bool = False,
        smoothing: float = 0.3,
    ):
        self.in_place = sys.stderr.isatty()
        size = "{n_fmt}" if total is None else "{n_fmt}/{total_fmt}"
        left = "" if total is None else ", {remaining} left"
        line = f"{{desc}}: {size}{{unit}}, {{elapsed}} passed{left}, {{rate_noinv_fmt}}{{postfix}}"
        bar = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]"
        super().__init__(
            desc=name,
            total=total,
            unit=f" {unit}",
            initial=done,
            leave=leave,
            disable=disable or not (leave or self.in_place),
            smoothing=smoothing,
            file=sys.stderr,
            dynamic_ncols=self.in_place,
            mininterval=0.1 if self.in_place else FIRST,
            miniters=None if self.in_place else 1,  # tqdm's own thread redraws bars with more.
            delay=0 if self.in_place else FIRST,  # A file needs no line before any work is done.
            bar_format=line if not self.in_place else None if total is None else bar,
        )

    last_print_t: float
    last_print_n: float
    mininterval: float

    def refresh(self, *arguments: Any, **options: Any) -> Any:
        """Draw the bar; in a file, only if the last line is old enough."""
        if self.disable or self.in_place:
            return super().refresh(*arguments, **options)
        now = self._time()
        if now - self.last_print_t < self.mininterval:
            return False
        self.mininterval = min(LAST, max(FIRST, SHARE * (now - self.start_t)))
        self.last_print_t, self.last_print_n = now, self.n
        self._write_line()
        return True

    def close(self) -> None:
        """Close the bar; in a file, write its last state, without the empty line that tqdm adds."""
        if not self.disable and not self.in_place:
            self._write_line()
            self.delay = float("inf")  # For tqdm, the bar has never been drawn.
        super().close()

    def _write_line(self) -> None:
        print(str(self), file=sys.stderr, flush=True)


@contextmanager
def quiet_downloads() -> Iterator[None]:
    """Without a terminal, hide the bars of downloads from the hub, of which each frame would be a line of the file."""
    if sys.stderr.isatty():
        yield
        return
    import datasets
    import huggingface_hub

    utils = huggingface_hub.utils
    bars = datasets.are_progress_bars_disabled(), utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    utils.disable_progress_bars()
    try:
        yield
    finally:
        if not bars[0]:
            datasets.enable_progress_bars()
        if not bars[1]:
            utils.enable_progress_bars()
