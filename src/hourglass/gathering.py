"""The weight gradients of a step loop, gathered into one product over all steps.

A loop over T steps applies the same linear map T times. Left to itself, the backward pass makes T small products for
the gradient of its weights, and adds up T arrays as large as the weights. Inside `gathering()` a linear map only notes
what came in (forward) and the gradient of what went out (backward); when the last of its uses is done, one product over
all steps gives the gradient. The values are those of the plain loop, up to the order of a sum.

LSTM cells are taken as one product for all gates and both of their inputs, with a backward pass of their own.

Shapes: N rows of a step, T steps, I width in, O width out, H state.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class _Uses:
    """What one weight [O, I] and bias [O] of a loop was used for, as the backward pass under way has met it."""

    def __init__(self) -> None:
        self.task = -1  # the backward pass
        self.inputs: list[Tensor] = []  # [N, I] each
        self.gradients: list[Tensor] = []  # [N, O] each

    def begin(self) -> None:
        """Forget another backward pass: one that did not come to the weights, or broke off, leaves its notes."""
        task = torch._C._current_graph_task_id()
        if self.task != task:
            self.task, self.inputs, self.gradients = task, [], []


class _Gathered(torch.autograd.Function):
    """Hands out a ticket; when all uses are done, gives the weights their gradients.

    The ticket depends on the weights, and every use on it, so that this backward pass comes after all of theirs.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor | None, uses: _Uses) -> Tensor:
        ctx.uses, ctx.biased = uses, bias is not None
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        ctx.uses.begin()
        if not ctx.uses.gradients:
            return None, None, None
        gradients, inputs = torch.cat(ctx.uses.gradients), torch.cat(ctx.uses.inputs)
        ctx.uses.gradients, ctx.uses.inputs = [], []
        bias = gradients.sum(0) if ctx.biased and ctx.needs_input_grad[1] else None
        return gradients.t() @ inputs if ctx.needs_input_grad[0] else None, bias, None


class _Use(torch.autograd.Function):
    """One use: inputs [N, I] -> [N, O]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, ticket: Tensor, plain: tuple[Tensor, Tensor | None], uses: _Uses) -> Tensor:
        weight, bias = plain  # Without their history: that is the ticket's.
        ctx.uses = uses
        ctx.save_for_backward(inputs, weight)  # Which also notices when one is changed in place.
        return F.linear(inputs, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        inputs, weight = ctx.saved_tensors
        ctx.uses.begin()
        ctx.uses.inputs.append(inputs)
        ctx.uses.gradients.append(gradient)
        to_input = gradient @ weight if ctx.needs_input_grad[0] else None
        return to_input, gradient.new_zeros(()), None, None


class _LstmCell(torch.autograd.Function):
    """The pointwise part of an LSTM step: gates [N, 4H] before their functions, c [N, H] -> h, c."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = gates.chunk(4, -1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        after = torch.addcmul(f * before, i, g)
        bent = after.tanh()
        ctx.save_for_backward(i, f, g, o, before, bent)
        return o * bent, after

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_h: Tensor, of_c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o, before, bent = ctx.saved_tensors
        of_c = torch.addcmul(of_c, of_h * o, 1 - bent * bent)
        gates = torch.cat(
            [
                of_c * g * (i * (1 - i)),
                of_c * before * (f * (1 - f)),
                of_c * i * (1 - g * g),
                of_h * bent * (o * (1 - o)),
            ],
            -1,
        )
        return gates, of_c * f


class _Gathering(TorchFunctionMode):
    """Takes over the linear maps and LSTM cells that are called while it is on."""

    def __init__(self) -> None:
        super().__init__()
        # By where the weights lie, as a slice of them is another object at every step. They are kept, so that nothing
        # else comes to lie there. Nothing that the graph holds refers to the ticket: that would be a circle.
        self.uses: dict[Hashable, tuple[_Uses, Tensor, tuple[Tensor, Tensor | None]]] = {}
        self.joined: dict[Hashable, tuple[tuple[Tensor, Tensor], Sequence[Tensor]]] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Mixed precision has its own casts of weights, made anew at every use: there the loop is left as it is.
        if kwargs or not torch.is_grad_enabled() or func not in (F.linear, torch.lstm_cell):
            return func(*args, **(kwargs or {}))
        if torch.is_autocast_enabled(args[0].device.type):
            return func(*args)
        if func is F.linear and args[0].dim() > 1 and args[1].requires_grad:
            return self._linear(*args)
        # On a GPU the library's cell is one kernel.
        if func is torch.lstm_cell and args[0].device.type == "cpu" and all(isinstance(w, Tensor) for w in args[2:6]):
            return self._lstm_cell(*args)
        return func(*args)

    def _linear(self, inputs: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        key = _place(weight), None if bias is None else _place(bias)
        if key not in self.uses:
            uses = _Uses()
            self.uses[key] = uses, _Gathered.apply(weight, bias, uses), (weight, bias)
        uses, ticket, _ = self.uses[key]
        plain = weight.detach(), None if bias is None else bias.detach()
        found: Tensor = _Use.apply(inputs.flatten(0, -2), ticket, plain, uses)
        return found.unflatten(0, inputs.shape[:-1])

    def _lstm_cell(self, inputs: Tensor, state: Sequence[Tensor], *weights: Tensor) -> tuple[Tensor, Tensor]:
        key = tuple(map(_place, weights))
        if key not in self.joined:
            of_input, of_state, *biases = weights
            self.joined[key] = (torch.cat([of_input, of_state], 1), biases[0] + biases[1]), weights
        joined, rows = self.joined[key][0], torch.cat([inputs, state[0]], -1)
        gates = self._linear(rows, *joined) if joined[0].requires_grad else F.linear(rows, *joined)
        found: tuple[Tensor, Tensor] = _LstmCell.apply(gates, state[1])
        return found


def _place(tensor: Tensor) -> Hashable:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


@contextmanager
def gathering() -> Iterator[None]:
    """Gather the weight gradients of the loop inside; without gradients to come, or in a compiler, it does nothing.

    There are no second derivatives inside: a backward pass of the backward pass is refused by torch.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield
        return
    with _Gathering():
        yield
