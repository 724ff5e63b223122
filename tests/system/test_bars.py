"""Progress bars in files and on terminals."""

import io
from collections.abc import Callable

import pytest

from hourglass.system import bars
from hourglass.system.bars import Bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Return a function that lets seconds pass for the bars."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])

    def wait(seconds: float) -> None:
        now[0] += seconds

    return wait


def lines(
    total: int | None, wait: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, stream: io.StringIO
) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    with Bar("working", total, "rows", done=10) as bar:
        for _ in range(100):
            wait(1)
            bar.update()
            bar.set_postfix({"score": "0.5"})  # Which draws the bar, too.
    return stream.getvalue()


def test_a_file_gets_a_line_now_and_then(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(200, clock, monkeypatch, io.StringIO()).splitlines() == [
        "working: 40/200 rows, 00:30 passed, 02:40 left,  1.00 rows/s, score=0.5",
        "working: 70/200 rows, 01:00 passed, 02:10 left,  1.00 rows/s, score=0.5",
        "working: 100/200 rows, 01:30 passed, 01:40 left,  1.00 rows/s, score=0.5",
        "working: 110/200 rows, 01:40 passed, 01:30 left,  1.00 rows/s, score=0.5",
    ]
    unknown = lines(None, clock, monkeypatch, io.StringIO())
    assert unknown.splitlines()[0] == "working: 40 rows, 00:30 passed,  1.00 rows/s, score=0.5"
    assert "?" not in unknown


def test_lines_of_long_work_are_rarer(clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    with Bar("working", 24 * 60, "rows") as bar:
        for _ in range(24 * 60):
            clock(60)
            bar.update()
    assert 24 * 60 * 60 / bars.LAST < len(stream.getvalue().splitlines()) < 250


def test_a_terminal_gets_a_bar_with_its_total_at_once(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = lines(200, clock, monkeypatch, Terminal()).split("\r")
    assert " 10/200 " in drawn[1]
    assert len(drawn) > 100
    assert not any("/?" in frame for frame in drawn)


def test_a_bar_that_does_not_stay_is_not_written_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    Bar("working", 3, "rows", leave=False).close()
    Bar("working", 3, "rows", disable=True).close()
    assert not stream.getvalue()
