"""What published packages compute for the cells: python tests/models/published_cells.py

writes published_cells.json beside this file, which test_published_cells.py holds the cells against. The packages are no
dependencies. They need neither a GPU nor Triton here, as each function is loaded from its file alone. To record again:

    pip install --no-deps --target FOLDER minGRU-pytorch==0.2.1 xlstm==2.0.6 mambapy==1.2.0 fla-core==0.6.0 einops
    PYTHONPATH=FOLDER python tests/models/published_cells.py

Inputs follow a fixed pattern, so that only results are recorded: outputs and final memory, and the gradients of a fixed
sum of both with respect to the inputs and the memory at the start.

Shapes: B batch, T time, H hidden, P the rows of W x + b in the order of our cell; N heads of width D; K numbers of a
channel's state.
"""

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RECORD = Path(__file__).with_suffix(".json")
B, T, H, N, K = 2, 6, 8, 4, 16
D = H // N

# Of each cell: the rows of W x + b, and the shapes of the memory of a row. What is no part of the package's function:
# h of a matrix cell, which is its output.
SIZES: dict[str, tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]] = {
    "min_gru": ((H, H), ((H,),)),
    "min_lstm": ((H, H, H), ((H,),)),
    "linear_attention": ((H, H, H, H), ((N, D, D),)),
    "mlstm": ((H, H, H, N, N), ((N, D, D), (N, D), (N,))),
    "delta_net": ((H, H, H, N), ((N, D, D),)),
    "selective_ssm": ((H, H, K, K), ()),
}


def pattern(*shape: int, phase: float = 0.0, size: float = 1.5) -> Tensor:
    """Return numbers from -size to size which look irregular, and are the same everywhere."""
    count = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.double)
    return size * torch.sin(count.square() * 0.37 + count + phase).view(shape)


def inputs_of(name: str) -> tuple[Tensor, ...]:
    """Return W x + b [B, T, P] and the parts of the memory at the start [B, ...] of a cell."""
    rows, memory = SIZES[name]
    starts = [pattern(B, *shape, phase=1.0 + part) for part, shape in enumerate(memory)]
    if name.startswith("min_"):  # Means of positive values.
        starts = [start.abs() + 0.5 for start in starts]
    return pattern(B, T, sum(rows)), *starts


def results(compute: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> dict[str, list[Tensor]]:
    """Return what `compute` makes of the inputs, and the gradients of a fixed sum of it with respect to them."""
    inputs = [each.clone().requires_grad_() for each in inputs]
    values = [value.double() for value in compute(*inputs)]
    towards = [pattern(*value.shape, phase=10.0 + part) for part, value in enumerate(values)]
    return {
        "values": [value.detach() for value in values],
        "gradients": list(torch.autograd.grad(values, inputs, towards)),
    }


def load(distribution: str, path: str) -> ModuleType:
    """Return the module in one file of an installed distribution, without the packages that the file is in."""
    file = metadata.distribution(distribution).locate_file(path)
    specification = importlib.util.spec_from_file_location(Path(path).stem, str(file))
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module
    specification.loader.exec_module(module)
    return module


def by_head(part: Tensor) -> Tensor:
    """Return [B, N, T, D], given [B, T, N * D]."""
    return part.unflatten(-1, (N, -1)).transpose(1, 2)


def min_gru(projected: Tensor, start: Tensor) -> list[Tensor]:
    """minGRU in its parallel form, whose rows are n, z."""
    module: Any = load("minGRU-pytorch", "minGRU_pytorch/minGRU.py").minGRU(H).double()
    module.to_hidden_and_gate = nn.Identity()
    z, n = projected.split(SIZES["min_gru"][0], -1)
    outputs, final = module(torch.cat([n, z], -1), start.unsqueeze(1), return_next_prev_hidden=True)
    return [outputs, final.squeeze(1)]


def min_lstm(projected: Tensor, start: Tensor) -> list[Tensor]:
    """minLSTM in its parallel form, whose rows are n, f, i. It reads g of the state that it is given."""
    module: Any = load("minGRU-pytorch", "minGRU_pytorch/minLSTM.py").minLSTM(H).double()
    module.to_hidden_and_f_i_gate = nn.Identity()
    f, i, n = projected.split(SIZES["min_lstm"][0], -1)
    before = (start - 0.5).unsqueeze(1)
    outputs, final = module(torch.cat([n, f, i], -1), before, return_next_prev_hidden=True)
    return [outputs, final.squeeze(1)]


def linear_attention(projected: Tensor, start: Tensor) -> list[Tensor]:
    """GLA's recurrence, which takes log a and divides queries by the root of D; before the norm and the gate r."""
    naive = load("fla-core", "fla/ops/gla/naive.py").naive_recurrent_gla
    q, k, v, gate = (part.unflatten(-1, (N, D)) for part in projected.split(SIZES["linear_attention"][0], -1))
    read, final = naive(q * D**0.5, k, v, F.logsigmoid(gate) / 16, start, output_final_state=True)
    return [read.flatten(-2), final]


def mlstm(projected: Tensor, *start: Tensor) -> list[Tensor]:
    """The mLSTM's stabilised step, which divides keys by the root of D; before the output gate.

    The package adds 1e-6 to the normaliser, the paper does not.
    """
    step = load("xlstm", "xlstm/blocks/mlstm/backends.py").recurrent_step_stabilized_simple
    *vectors, i, f = projected.split(SIZES["mlstm"][0], -1)
    q, k, v = map(by_head, vectors)
    c, n, m = start[0], start[1][..., None], start[2][..., None, None]
    reads = []
    for t in range(T):
        now = (part[:, :, t : t + 1].clone() for part in (q, k, v))
        gates = (part[:, t, :, None, None] for part in (i, f))
        read, (c, n, m) = step(c, n, m, *now, *gates, eps=0.0)
        reads.append(read.flatten(1))
    return [torch.stack(reads, 1), c, n.squeeze(-1), m[..., 0, 0]]


def delta_net(projected: Tensor, start: Tensor) -> list[Tensor]:
    """The delta rule, which divides queries by the root of D; before the norm.

    The package's L2 norm is a Triton kernel: here it is x / sqrt(x . x + 1e-6), as that says.
    """
    naive = load("fla-core", "fla/ops/delta_rule/naive.py").delta_rule_recurrence
    q, k, v, beta = map(by_head, projected.split(SIZES["delta_net"][0], -1))
    q, k = (F.silu(part) for part in (q, k))
    q, k = (part * (part.square().sum(-1, keepdim=True) + 1e-6).rsqrt() for part in (q, k))
    read, final = naive(q * D**0.5, k, v, beta.sigmoid(), start)
    return [read.transpose(1, 2).flatten(-2), final]


def selective_ssm(projected: Tensor) -> list[Tensor]:
    """S6's parallel scan from a zero state, with A and D of a new block."""
    package: Any = load("mambapy", "mambapy/mamba.py")
    block = package.MambaBlock(package.MambaConfig(d_model=H, n_layers=1, d_state=K, expand_factor=1)).double()
    u, delta, b, c = projected.split(SIZES["selective_ssm"][0], -1)
    return [block.selective_scan(u, F.softplus(delta), -block.A_log.exp(), b, c, block.D)]


# Of each cell: the distribution, its module and function, and what calls it.
PUBLISHED: dict[str, tuple[str, str, Callable[..., list[Tensor]]]] = {
    "min_gru": ("minGRU-pytorch", "minGRU_pytorch.minGRU.minGRU", min_gru),
    "min_lstm": ("minGRU-pytorch", "minGRU_pytorch.minLSTM.minLSTM", min_lstm),
    "linear_attention": ("fla-core", "fla.ops.gla.naive.naive_recurrent_gla", linear_attention),
    "mlstm": ("xlstm", "xlstm.blocks.mlstm.backends.recurrent_step_stabilized_simple", mlstm),
    "delta_net": ("fla-core", "fla.ops.delta_rule.naive.delta_rule_recurrence", delta_net),
    "selective_ssm": ("mambapy", "mambapy.mamba.MambaBlock.selective_scan", selective_ssm),
}


def record() -> None:
    """Write RECORD."""
    found = {}
    for name, (distribution, function, compute) in PUBLISHED.items():
        numbers = {
            kind: [[float(f"{number:.8g}") for number in part.flatten().tolist()] for part in parts]
            for kind, parts in results(compute, inputs_of(name)).items()
        }
        package = f"{distribution} {metadata.version(distribution)}"
        found[name] = {"package": package, "function": function, **numbers}
        print(f"{name}: {function} of {package}")
    lines = [f" {json.dumps(name)}: {json.dumps(entry)}" for name, entry in found.items()]
    RECORD.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    record()
