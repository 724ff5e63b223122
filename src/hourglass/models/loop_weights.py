"""A weight that every step of a loop multiplies with, and whose gradient is one product over all steps.

autograd computes a product of the weight's size in each step of the backward pass, from the few rows of that step, and
adds it to those of the steps before. The gradient of all steps together is a product of all their rows,

    dL/dW = sum over steps t of g_t^T x_t = [g_1; ...; g_T]^T [x_1; ...; x_T]

which takes less time on a CPU, has no sums in between, and in bfloat16 none that is rounded.

Shapes: N rows of one step, K inputs, M outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LoopWeight:
    """A weight within one loop over steps. Results and gradients are those of plain products; second ones are not had.

    On other devices than a CPU, and where torch.autocast chooses the types of products, all products are plain.

    Args:
        weight: W [M, K].
    """

    def __init__(self, weight: Tensor):
        kind = weight.device.type
        deferred = weight.requires_grad and torch.is_grad_enabled()
        deferred = deferred and kind == "cpu" and not torch.is_autocast_enabled(kind)
        self._rows = _Rows() if deferred else None
        self._weight = weight if self._rows is None else _Collected.apply(weight, self._rows)

    def multiply(self, inputs: Tensor, added: Tensor) -> Tensor:
        """Return x W^T + `added`, [N, M], of inputs x [N, K]; `added` is [N, M] or [M]."""
        if self._rows is None:
            return torch.addmm(added, inputs, self._weight.mT)
        product: Tensor = _Product.apply(inputs, self._weight, added, self._rows)
        return product


class _Rows:
    """What the gradient is made of: by the number of a backward pass, x_t [N, K] and g_t [N, M] of its steps.

    By its number, as one pass may run within another (torch.utils.checkpoint), and one that is to reach other weights
    alone leaves its rows behind. It holds neither the weight nor any graph: those hold it.
    """

    def __init__(self) -> None:
        self._by_pass: dict[int, list[tuple[Tensor, Tensor]]] = {}

    def add(self, inputs: Tensor, gradient: Tensor) -> None:
        rows = self._by_pass.setdefault(torch._C._current_graph_task_id(), [])
        rows.append((inputs.detach(), gradient))

    def weight_gradient(self) -> Tensor | None:
        """Return the gradient [M, K] in this backward pass, and forget its rows; None, if it has none."""
        rows = self._by_pass.pop(torch._C._current_graph_task_id(), None)
        if rows is None:
            return None
        inputs, gradients = (torch.cat(side) for side in zip(*rows, strict=True))
        return gradients.mT @ inputs


class _Collected(torch.autograd.Function):
    """The weight itself. Its backward pass comes after that of all products, whose gradients for it are None."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, rows: _Rows) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.rows = rows
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor | None, None]:
        return ctx.rows.weight_gradient(), None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, added: Tensor, rows: _Rows) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.rows, ctx.sums_rows = rows, added.dim() == 1
        return torch.addmm(added, inputs, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.rows.add(inputs, gradient)
        reads_inputs, _, reads_added, _ = ctx.needs_input_grad
        of_added = gradient.sum(0) if reads_added and ctx.sums_rows else gradient
        return gradient @ weight if reads_inputs else None, None, of_added if reads_added else None, None
