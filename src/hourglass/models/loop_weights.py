"""A weight that every step of a loop multiplies with, and whose gradient is one product over all steps.

autograd computes a product of the weight's size in each step of the backward pass, from the few rows of that step, and
adds it to those of the steps before. The gradient of all steps together is a product of all their rows,

    dL/dW = sum over steps t of g_t^T x_t = [g_1; ...; g_T]^T [x_1; ...; x_T]

which takes less time, has no sums in between, and in bfloat16 none that is rounded.

Shapes: N rows of one step, K inputs, M outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class LoopWeight:
    """A weight within one loop over steps; its value, and the value and gradient of each product, are autograd's own.

    Args:
        weight: W [M, K].
    """

    def __init__(self, weight: Tensor):
        self._rows: list[tuple[Tensor, Tensor]] = []  # x_t [N, K] and g_t [N, M] of the steps, in one backward pass.
        self._backward_pass = -1  # Its number: one that was to reach other weights alone leaves its rows behind.
        self._deferred = torch.is_grad_enabled() and weight.requires_grad
        self._weight = _Collected.apply(weight, self) if self._deferred else weight

    def multiply(self, inputs: Tensor, added: Tensor) -> Tensor:
        """Return x W^T + `added`, [N, M], of inputs x [N, K]; `added` is [N, M] or [M]."""
        if not self._deferred:
            return torch.addmm(added, inputs, self._weight.mT)
        product: Tensor = _Product.apply(inputs, self._weight, added, self)
        return product

    def add_rows(self, inputs: Tensor, gradient: Tensor) -> None:
        """Keep the inputs [N, K] of a step and the gradient [N, M] of its product, for `gradient`."""
        number = torch._C._current_graph_task_id()
        if number != self._backward_pass:
            self._rows, self._backward_pass = [], number
        self._rows.append((inputs, gradient))

    def gradient(self) -> Tensor:
        """Return the gradient [M, K] of the weight in this backward pass, and forget its rows."""
        inputs, gradients = (torch.cat(side) for side in zip(*self._rows, strict=True))
        self._rows = []
        return gradients.mT @ inputs


class _Collected(torch.autograd.Function):
    """The weight itself. Its backward pass comes after that of all products, whose gradients for it are None."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, owner: LoopWeight) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.owner = owner
        return weight.view_as(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: None) -> tuple[Tensor, None]:
        return ctx.owner.gradient(), None


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, added: Tensor, owner: LoopWeight) -> Tensor:
        ctx.save_for_backward(inputs, weight)
        ctx.owner, ctx.sums_rows = owner, added.dim() == 1
        return torch.addmm(added, inputs, weight.mT)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, Tensor, None]:
        inputs, weight = ctx.saved_tensors
        ctx.owner.add_rows(inputs, gradient)
        of_inputs = gradient @ weight if ctx.needs_input_grad[0] else None
        return of_inputs, None, gradient.sum(0) if ctx.sums_rows else gradient, None
