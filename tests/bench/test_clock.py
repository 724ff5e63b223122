"""Operations are counted as by hand; seconds and rates are those of a fake clock."""

from collections.abc import Iterator

import pytest
import torch

from hourglass.bench import clock
from hourglass.bench.clock import count_operations, growth_exponent, matmul_rate, median_seconds, step_rate


def test_operations_are_counted_as_by_hand() -> None:
    """A product takes twice the product of its sizes; a recurrent layer two products forward, and four backward."""
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    assert count_operations(lambda: a @ b) == 2 * 3 * 5 * 7
    layer, inputs = torch.nn.LSTM(6, 4, batch_first=True), torch.randn(2, 9, 6)
    forward = 2 * (2 * 9) * (16 * 6 + 16 * 4)
    with torch.no_grad():
        assert count_operations(lambda: layer(inputs)) == forward
    assert count_operations(lambda: layer(inputs)[0].sum().backward()) == 3 * forward


class Clock:
    """A clock that moves only when a step runs."""

    def __init__(self, *seconds: float):
        self.now = 100.0
        self.seconds: Iterator[float] = iter(seconds)
        self.steps = 0

    def perf_counter(self) -> float:
        return self.now

    def step(self) -> None:
        self.steps += 1
        self.now += next(self.seconds)


def test_the_median_leaves_out_the_warm_up_and_ends_after_the_duration(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Clock(50, 50, 1, 9, 2, 3, 4, 50)
    monkeypatch.setattr(clock.time, "perf_counter", steps.perf_counter)
    assert median_seconds(steps.step, 19) == 3  # Of 1, 9, 2, 3 and 4, which take 19 seconds.
    assert steps.steps == 7
    slow = Clock(1, 1, 30, 10, 20, 40)
    monkeypatch.setattr(clock.time, "perf_counter", slow.perf_counter)
    assert median_seconds(slow.step, 0.5) == 20  # Three steps at least.
    assert slow.steps == 5


def test_rates_are_operations_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = []

    def half_a_second(step: object, duration: float) -> float:
        assert callable(step)
        shapes.append((*step().shape, duration))
        return 0.5

    monkeypatch.setattr(clock, "median_seconds", half_a_second)
    assert matmul_rate(7, 3, 5, 2) == 2 * 3 * 5 * 2 / 0.5
    assert step_rate(0.1, 6, 4) == 2 * 6 * 8 * 16 / 0.5
    assert shapes == [(3, 2, 7), (6, 16, 0.1)]


def test_the_exponent_is_that_of_the_curve() -> None:
    assert growth_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
    assert growth_exponent([10, 100, 1000], [7, 7, 7]) == pytest.approx(0)
