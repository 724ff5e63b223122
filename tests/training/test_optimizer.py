"""Compare the learning rate with its formulas, and the optimizers with their update rules computed by hand."""

import math

import pytest
import torch

from hourglass.errors import UserError
from hourglass.training.optimizer import AdadeltaSettings, AdamSettings, Decay, SGDSettings


def settings(decay: Decay, warmup: float) -> SGDSettings:
    return SGDSettings(learning_rate=1.0, warmup=warmup, decay=decay, clip_norm=0.0, label_smoothing=0.0, momentum=0.0)


def test_the_rate_rises_linearly_and_then_decays() -> None:
    for decay in ("none", "linear", "sqrt", "inverse_sqrt"):
        rates = [settings(decay, 0.1).rate(step, 100) for step in range(100)]
        assert rates[:10] == pytest.approx([i / 10 for i in range(1, 11)])
        assert rates[10:] == sorted(rates[10:], reverse=True)
        for step in (10, 50, 99):
            left = (100 - step) / 90
            expected = {"none": 1, "linear": left, "sqrt": math.sqrt(left), "inverse_sqrt": math.sqrt(10 / (step + 1))}
            assert rates[step] == pytest.approx(expected[decay])


def test_wsd_is_constant_and_then_falls_to_zero_over_the_last_fifth() -> None:
    rates = [settings("wsd", 4.0).rate(step, 100) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4:81] == [1.0] * 77
    for step in (85, 95, 99):
        assert rates[step] == pytest.approx(1 - math.sqrt((step - 80) / 20))
    assert settings("wsd", 4.0).stable_steps(100) == 80
    assert settings("sqrt", 4.0).stable_steps(100) is None


def test_a_warm_up_is_a_share_of_the_run_or_a_number_of_steps() -> None:
    assert settings("none", 0.1).rate(4, 100) == settings("none", 10.0).rate(4, 1000) == 0.5
    assert settings("none", 1.0).rate(0, 1000) == 1.0
    with pytest.raises(UserError, match=r"optimizer\.warmup=1\.5"):
        settings("none", 1.5)


@pytest.mark.parametrize(("decay", "first", "times"), [("luong5", 50, 5), ("luong10", 50, 10), ("luong234", 66, 4)])
def test_the_rate_is_halved_at_even_distances(decay: Decay, first: int, times: int) -> None:
    """Compare with TensorFlow NMT's _get_decay_info and exponential_decay with staircase, over 100 steps."""
    rates = [settings(decay, 0.0).rate(step, 100) for step in range(100)]
    assert rates[: first + 1] == [1.0] * (first + 1)
    every = (100 - first) // times
    for step in range(first, 100):
        halved = 0
        while first + (halved + 1) * every <= step:
            halved += 1
        assert rates[step] == 0.5**halved
    assert rates[99] <= 0.5 ** (times - 1)
    assert settings(decay, 0.0).rate(19, 20) >= 0.5**times  # Also with few steps.


def test_adadelta_takes_its_published_step() -> None:
    """Zeiler 2012, algorithm 1, by hand, two steps."""
    adadelta = AdadeltaSettings(
        learning_rate=1.0, warmup=0.0, decay="none", clip_norm=0.0, label_smoothing=0.0, rho=0.8, epsilon=1e-3
    )
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = adadelta.make([weight])
    value, squares, steps = 1.0, 0.0, 0.0
    for gradient in (0.5, -2.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        squares = 0.8 * squares + 0.2 * gradient**2
        step = -math.sqrt(steps + 1e-3) / math.sqrt(squares + 1e-3) * gradient
        steps = 0.8 * steps + 0.2 * step**2
        value += step
        assert weight.item() == pytest.approx(value, rel=1e-5)


def test_without_warmup_the_first_step_has_the_peak_rate() -> None:
    assert settings("linear", 0.0).rate(0, 50) == 1.0


def test_a_run_of_one_step_has_a_rate() -> None:
    assert settings("sqrt", 1.0).rate(0, 1) == 1.0


def test_adam_takes_its_published_step() -> None:
    """Kingma and Ba 2015, algorithm 1, by hand, two steps."""
    adam = AdamSettings(
        learning_rate=0.1, warmup=0.0, decay="none", clip_norm=0.0, label_smoothing=0.0, beta1=0.8, beta2=0.9
    )
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = adam.make([weight])
    value, m, v = 1.0, 0.0, 0.0
    for t, gradient in enumerate((0.5, -2.0), 1):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        value -= 0.1 * (m / (1 - 0.8**t)) / (math.sqrt(v / (1 - 0.9**t)) + 1e-8)
        assert weight.item() == pytest.approx(value, rel=1e-5)


def test_sgd_with_momentum() -> None:
    sgd = SGDSettings(learning_rate=0.1, warmup=0.0, decay="none", clip_norm=0.0, label_smoothing=0.0, momentum=0.5)
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    optimizer = sgd.make([weight])
    value = velocity = 0.0
    value = 1.0
    for gradient in (0.5, -2.0, 1.0):
        weight.grad = torch.tensor([gradient])
        optimizer.step()
        velocity = 0.5 * velocity + gradient
        value -= 0.1 * velocity
        assert weight.item() == pytest.approx(value)
