"""Measure training steps on a CPU by precision, and the parts of a step."""

import functools
import itertools
import logging
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, get_args

from torch.profiler import ProfilerActivity, profile

from hourglass.bench.clock import median_seconds
from hourglass.bench.measurements import PRECISION, PROFILE, print_measurement
from hourglass.bench.settings import BenchSettings, Precision
from hourglass.bench.steps import StepKind, default_and_peers_steps, make_training_step
from hourglass.system.machine import BFLOAT16_INSTRUCTIONS, bfloat16_instructions

log = logging.getLogger(__name__)

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
# The parts of a step. Python's is the time outside torch's operations.
PRODUCTS, CASTS, COPIES, FILLS = "products", "casts between types", "copies and lookups", "fills"
ADDS, SOFTMAX, DROPOUT, OPTIMIZER = "additions of gradients", "softmax and loss", "dropout", "clipping and optimizer"
OTHER, VIEWS, PYTHON = "other operations", "views and allocations", "Python and autograd"
PARTS = (PRODUCTS, CASTS, COPIES, FILLS, ADDS, SOFTMAX, DROPOUT, OPTIMIZER, OTHER, VIEWS, PYTHON)

# Parts by the names of operations, of which `aten::` is left out.
_BY_NAME = {
    **dict.fromkeys(("mm", "addmm", "bmm", "baddbmm", "addmv", "mv", "dot"), PRODUCTS),
    **dict.fromkeys(("mkldnn_rnn_layer", "mkldnn_rnn_layer_backward"), PRODUCTS),
    **dict.fromkeys(("copy_", "cat", "index_select", "gather", "index", "_index_put_impl_", "flip"), COPIES),
    **dict.fromkeys(("embedding_dense_backward",), COPIES),
    **dict.fromkeys(("fill_", "zero_"), FILLS),
    **dict.fromkeys(("_softmax", "_softmax_backward_data", "_log_softmax", "_log_softmax_backward_data"), SOFTMAX),
    **dict.fromkeys(("nll_loss_forward", "nll_loss_backward"), SOFTMAX),
    **dict.fromkeys(("t", "transpose", "as_strided", "view", "reshape", "_unsafe_view", "expand", "permute"), VIEWS),
    **dict.fromkeys(("slice", "select", "split", "split_with_sizes", "unbind", "unsqueeze", "squeeze"), VIEWS),
    **dict.fromkeys(("empty", "empty_like", "empty_strided", "detach", "resolve_conj", "linear", "matmul"), VIEWS),
}
# Operations that are of a part with all that they call. `Seq2Seq` has no norms; the clipping of gradients has.
_BY_PARENT = {"dropout": DROPOUT} | dict.fromkeys(("_foreach_norm", "_foreach_mul_", "linalg_vector_norm"), OPTIMIZER)


def measure_precisions(settings: BenchSettings) -> None:
    """Measure training steps in float32 and bf16-mixed, all taking turns; print speeds, and ratios to float32."""
    if not bfloat16_instructions():
        log.warning(
            "precisions: this CPU has neither %s, so that bf16-mixed is slower here than float32",
            " nor ".join(BFLOAT16_INSTRUCTIONS),
        )
    kinds = list(default_and_peers_steps(settings))
    speeds: dict[tuple[str, Precision], list[float]] = {}
    for _ in range(settings.rounds):
        for kind, precision in itertools.product(kinds, PRECISIONS):
            seconds = median_seconds(_step_of(kind, precision), settings.seconds)
            _, _, target = kind.batch
            speeds.setdefault((kind.name, precision), []).append((target.numel() - len(target)) / seconds)
    for (name, precision), values in speeds.items():
        speed = statistics.median(values)
        print_measurement(f"{PRECISION}{name}: {precision}", speed, "target tokens/s", all=values)
        if precision != PRECISIONS[0]:
            whole = speeds[name, PRECISIONS[0]]
            ratios = [value / other for value, other in zip(values, whole, strict=True)]
            ratio_name = f"{PRECISION}{name}: {precision} over {PRECISIONS[0]}"
            print_measurement(ratio_name, statistics.median(ratios), "ratio", all=ratios)


def measure_parts(settings: BenchSettings) -> None:
    """Profile training steps, in each precision that is fast on this CPU; print the share of each part of a step."""
    precisions = PRECISIONS if bfloat16_instructions() else PRECISIONS[:1]
    for kind, precision in itertools.product(default_and_peers_steps(settings), precisions):
        step = _step_of(kind, precision)
        milliseconds = 1e3 * median_seconds(step, settings.seconds)
        shares = [profile_step(step) for _ in range(settings.rounds)]
        for part in PARTS:
            values = [each[part] for each in shares]
            name = f"{PROFILE}{kind.name}, {precision}: {part}"
            print_measurement(name, statistics.median(values), "share", all=values, milliseconds=milliseconds)


def _step_of(kind: StepKind, precision: Precision) -> Callable[[], None]:
    return functools.partial(make_training_step(kind.model, precision), kind.batch)


def profile_step(step: Callable[[], None], repetitions: int = 5) -> dict[str, float]:
    """Return the share of each of PARTS in the time of a step, by torch's profiler, which slows small operations down.

    Args:
        step: takes a step.
        repetitions: number of steps that are profiled.
    """
    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        started = time.perf_counter()
        for _ in range(repetitions):
            step()
        whole = 1e6 * (time.perf_counter() - started)
    microseconds = sum_parts(profiler.events() or [])
    microseconds[PYTHON] = max(0.0, whole - sum(microseconds.values()))
    return {part: microseconds[part] / whole for part in PARTS}


def sum_parts(events: Iterable[Any]) -> dict[str, float]:
    """Return the microseconds of each of PARTS but Python, whose operations are not among the events.

    Args:
        events: of torch's profiler, with name, cpu_parent and self_cpu_time_total (microseconds without children).
    """
    sums: dict[str, float] = defaultdict(float)
    for event in events:
        if event.name.startswith("aten::"):
            sums[_part_of(event)] += event.self_cpu_time_total
    return sums


def _part_of(event: Any) -> str:
    """Return the part of a step that an operation of torch belongs to."""
    parents = []
    parent = event.cpu_parent
    while parent is not None:
        parents.append(parent.name)
        parent = parent.cpu_parent
    name = event.name.removeprefix("aten::")
    if any(each.startswith("Optimizer.") for each in parents):
        return OPTIMIZER
    for each in (event.name, *parents):
        if (part := _BY_PARENT.get(each.removeprefix("aten::"))) is not None:
            return part
    if "aten::_to_copy" in parents:
        return CASTS
    # The engine itself adds up the gradients that reach a tensor from several places, outside any node.
    if name in ("add", "add_") and parents and _is_engine(parents[0]):
        return ADDS
    return _BY_NAME.get(name, OTHER)


def _is_engine(name: str) -> bool:
    return name.startswith("autograd::engine") or name.endswith("AccumulateGrad")
