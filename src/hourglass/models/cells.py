"""Cells: the recurrence inside a layer of the encoder or the decoder. One class a cell, for one direction.

Shapes: B batch, T time, N rows of one step, I input, H hidden (the output of a cell), P projected input.

To add a cell, subclass `Cell`, write `advance`, and register the class in `CELLS` (docs/add-a-cell.md). The cells
of this file have gates that read the state; those whose gates read the inputs alone are in minimal_cells.py,
matrix_cells.py and selective_ssm.py, and models/recurrent.py registers them.
`RecurrentLayer` runs it in both directions, and over padded batches.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import torch
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.config.registry import Registry
from hourglass.models.loop_weights import LoopWeight

# The parts of a state, each [N, ...] in a shape of its own: LSTM: (h, c); GRU: (h,).
CellState = tuple[Tensor, ...]

# Where the numbers of a part of a state lie: between -1 and 1; above 0; anywhere.
StateRange = Literal["unit", "positive", "real"]

# Added to gates at padding. Sigmoid of it is exactly 1, and of its negative exactly 0, in every float format.
SHUT = 1e4


class PartialProjection(NamedTuple):
    """The projection of the first I' inputs of a step, and the weights that all steps of the loop read."""

    projected: Tensor  # [..., P]
    rest: LoopWeight | None = None  # [P, I - I'] of the inputs that are still to come
    recurrent: LoopWeight | None = None  # [gates * H, H] of the state, where `Cell.step` reads it from here


class Cell(nn.Module, ABC):
    """Base of all cells: the recurrence of one layer in one direction.

    A step has three parts, which `step` and `run` put together:

        p_t = project(x_t)       all that does not depend on the state, computed for all steps at once
        s_t = advance(p_t, s)    the next state
        h_t = output(s_t, p_t)   what the layer above, the attention and the decoder read

    Class attributes: `name` as in encoder.cell and decoder.cell; `state_parts`, the names of the state's parts;
    `width_multiple`, how many heads of equal width share H, which must be a multiple of it; `state_ranges`, where the
    numbers of a part lie, anywhere unless it is named here; `unread_parts`, the parts that no step reads, but only what
    asks for `query` before a step.

    Args:
        input_size: I.
        hidden_size: H.
    """

    name: str
    state_parts: tuple[str, ...] = ("h",)
    width_multiple = 1
    state_ranges: ClassVar[Mapping[str, StateRange]] = {}
    unread_parts: tuple[str, ...] = ()

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.input_size, self.hidden_size = input_size, hidden_size

    @classmethod
    def state_shapes(cls, hidden_size: int) -> tuple[tuple[int, ...], ...]:
        """Return the shape of each part of one row's state; a vector of H each, unless a subclass overrides it."""
        return ((hidden_size,),) * len(cls.state_parts)

    @classmethod
    def state_size(cls, hidden_size: int) -> int:
        """Return how many numbers the state of one row has."""
        return sum(math.prod(shape) for shape in cls.state_shapes(hidden_size))

    @classmethod
    def read_size(cls, hidden_size: int) -> int:
        """Return how many numbers of the state of one row later steps read: all but those of `unread_parts`."""
        parts = zip(cls.state_parts, cls.state_shapes(hidden_size), strict=True)
        return sum(math.prod(shape) for part, shape in parts if part not in cls.unread_parts)

    def zero_state(self, rows: int, like: Tensor) -> CellState:
        """Return the zero state of `rows` rows, with the type and on the device of `like`."""
        return tuple(like.new_zeros(rows, *shape) for shape in self.state_shapes(self.hidden_size))

    def unflatten_state(self, numbers: Tensor) -> CellState:
        """Return the state whose parts are concatenated in `numbers` [N, state_size]."""
        shapes = self.state_shapes(self.hidden_size)
        parts = numbers.split([math.prod(shape) for shape in shapes], -1)
        return tuple(part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True))

    def bound_state(self, state: CellState) -> CellState:
        """Return a state in the range of the cell's own states, given unbounded numbers (of a linear map)."""
        return state

    def project(self, inputs: Tensor) -> Tensor:
        """Return what a step needs of its inputs, [..., I] to [..., P]; here the inputs themselves."""
        return inputs

    @abstractmethod
    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """Return the next state of N rows, given the projected inputs [N, P]."""

    def output(self, state: CellState, projected: Tensor) -> Tensor:
        """Return the output [N, H] of a step, given its state after the step; here the first part of the state."""
        return state[0]

    def query(self, state: CellState) -> Tensor:
        """Return the query [N, H] of an attention that is computed before the next step (decoder.query=previous).

        Here it is the first part of the state; a cell with another first part than h overrides this.
        """
        return state[0]

    def project_ahead(self, inputs: Tensor) -> PartialProjection | None:
        """Project those inputs of all steps that are known before the first, the first I' of the I inputs.

        Args:
            inputs: [..., I'].

        Returns:
            what `step` takes, or None where a step of all inputs at once is faster, or the only one there is.
        """
        return None

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """Return the projection [N, P] of all inputs, given that of the first I' and the other inputs [N, I - I']."""
        raise NotImplementedError

    def step(
        self, inputs: Tensor, state: CellState, ahead: PartialProjection | None = None
    ) -> tuple[Tensor, CellState]:
        """Advance one step.

        Args:
            inputs: [N, I], or the last I - I' of them with `ahead`.
            state: of N rows.
            ahead: of `project_ahead`, for this step.

        Returns:
            the output [N, H] and the next state.
        """
        projected = self.project(inputs) if ahead is None else self.complete(ahead, inputs)
        state = self.advance(projected, state)
        return self.output(state, projected), state

    def run(self, projected: Tensor, state: CellState, mask: Tensor | None = None) -> tuple[Tensor, CellState]:
        """Run over a whole sequence: here by a loop over steps. A cell with a parallel form overrides it.

        Args:
            projected: [B, T, P], `project` of the inputs.
            state: of B rows.
            mask: [B, T], False at padding: there the state stays as it is. Padding may be anywhere.

        Returns:
            the outputs [B, T, H], arbitrary at padding, and the final state.
        """
        outputs = []
        for t, now in enumerate(projected.unbind(1)):
            after = self.advance(now, state)
            if mask is not None:
                after = tuple(_choose_rows(mask[:, t], new, old) for new, old in zip(after, state, strict=True))
            state = after
            outputs.append(self.output(state, now))
        return torch.stack(outputs, 1), state

    def open_forget_gates(self) -> None:
        """Have forget gates start open, after all weights were drawn; here there are none.

        Gates of the LSTM's form get 1 added to their biases; a cell whose weights have another start sets them to it.
        """

    @classmethod
    def checkpoint_name(cls, name: str, direction: int) -> str:
        """Return the name that a layer's checkpoint has for the weight `name` of this cell, by direction (0 or 1)."""
        return f"cells.{direction}.{name}"


def _choose_rows(chosen: Tensor, new: Tensor, old: Tensor) -> Tensor:
    """Return the rows of `new` where `chosen` [N] is True, and of `old` elsewhere; both [N, ...]."""
    return torch.where(chosen.view(-1, *[1] * (new.dim() - 1)), new, old)


class GatedCell(Cell):
    """Base of the cells with W x + b and U h + b' for each gate, whose weights are those of a layer of torch.

    `weights` is that layer, whose own forward pass is not used. It draws weights from -1/sqrt(H) to 1/sqrt(H).
    """

    library: type[nn.LSTM] | type[nn.GRU] = nn.GRU
    biased = True
    state_ranges: ClassVar[Mapping[str, StateRange]] = {"h": "unit"}

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.weights = self.library(input_size, hidden_size, bias=self.biased, batch_first=True)

    @property
    def matrices(self) -> Sequence[Tensor]:
        """W [gates * H, I], U [gates * H, H] and, where the cell is biased, b and b' [gates * H]."""
        return self.weights.all_weights[0]

    def bound_state(self, state: CellState) -> CellState:
        """See `Cell.bound_state`: tanh of h (Bahdanau et al. 2014, appendix A.2.2); an LSTM's c has no range."""
        return (state[0].tanh(), *state[1:])

    def project(self, inputs: Tensor) -> Tensor:
        """Return W x + b."""
        weight, bias = self.matrices[0], self.matrices[2]
        return F.linear(inputs, weight, bias)

    def project_ahead(self, inputs: Tensor) -> PartialProjection | None:
        """See `Cell.project_ahead`: the first I' columns of W."""
        first, _, *biases = self.matrices
        known, rest = first.split([inputs.shape[-1], first.shape[1] - inputs.shape[-1]], 1)
        return PartialProjection(F.linear(inputs, known, biases[0] if biases else None), LoopWeight(rest))

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """See `Cell.complete`: the other columns of W."""
        assert ahead.rest is not None
        return ahead.rest.multiply(inputs, ahead.projected)

    @classmethod
    def checkpoint_name(cls, name: str, direction: int) -> str:
        """See `Cell.checkpoint_name`: as torch's own layers name the weights of the second direction."""
        return name + "_reverse" * direction


class KernelCell(GatedCell):
    """Base of the cells for which torch has a kernel: `RecurrentLayer` runs whole sequences by it.

    Class attributes: `holding`, what is added to each gate at padding, in the order of rows, so that the state passes
    through; `holds_output`, whether the output h passes through as well.
    """

    holding: tuple[float, ...]
    holds_output: bool

    @staticmethod
    def kernel(inputs: Tensor, state: CellState, weights: list[Tensor], *settings: Any) -> tuple[Tensor, ...]:
        """Run torch's kernel.

        Args:
            inputs: [B, T, I].
            state: the parts at the start, each [directions, B, H].
            weights: W, U, b and b' of each direction.
            settings: biases, layers, dropout, training, bidirectional, batch first.

        Returns:
            the outputs [B, T, directions * H], and the parts at the end.
        """
        raise NotImplementedError

    def kernel_weights(self, holding: bool = False) -> list[Tensor]:
        """Return W, U, b and b'; with `holding`, W has one more column, for an input that is 1 at padding."""
        weight, *others = self.matrices
        if holding:
            column = torch.cat([weight.new_full((self.hidden_size, 1), value) for value in self.holding])
            weight = torch.cat([weight, column], 1)
        return [weight, *others]

    def project_ahead(self, inputs: Tensor) -> PartialProjection | None:
        """See `Cell.project_ahead`: None on a GPU, which does the whole of a step in one fused call."""
        if inputs.device.type != "cpu":
            return None
        ahead = super().project_ahead(inputs)
        assert ahead is not None
        return ahead._replace(recurrent=LoopWeight(self.matrices[1]))


def lstm_state(gates: Tensor, c: Tensor) -> CellState:
    """Return h' and c' of an LSTM, given the sums [N, 4H] of its four gates before their nonlinearities, and c."""
    i, f, g, o = gates.chunk(4, -1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_state(from_inputs: Tensor, from_state: Tensor, h: Tensor) -> CellState:
    """Return h' of a `GRU`, given W x + b and U h + b', each [N, 3H], and h."""
    r_x, z_x, n_x = from_inputs.chunk(3, -1)
    r_h, z_h, n_h = from_state.chunk(3, -1)
    z, n = (z_x + z_h).sigmoid(), (n_x + (r_x + r_h).sigmoid() * n_h).tanh()
    return ((1 - z) * n + z * h,)


class LSTM(KernelCell):
    """LSTM with forget gates (Hochreiter and Schmidhuber 1997; Gers et al. 2000), as in torch.

        i, f, o = sigmoid(W x + b + U h + b')
        g = tanh(W x + b + U h + b')
        c' = f * c + i * g
        h' = o * tanh(c')

    each gate with rows of its own, in the order i, f, g, o. The forget gates start with 1 added to their biases
    (Gers et al. 2000; Jozefowicz et al. 2015, section 2.2).
    """

    name = "lstm"
    state_parts = ("h", "c")
    library = nn.LSTM
    holding = (-SHUT, SHUT, 0.0, 0.0)  # Shut i, open f.
    holds_output = False  # c passes through, h = o * tanh(c) does not, as o still moves.

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.open_forget_gates()

    def open_forget_gates(self) -> None:
        """See `Cell.open_forget_gates`."""
        with torch.no_grad():
            self.matrices[2][self.hidden_size : 2 * self.hidden_size] += 1.0

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        _, weight, _, bias = self.matrices
        return lstm_state(torch.addmm(projected + bias, state[0], weight.mT), state[1])

    def step(
        self, inputs: Tensor, state: CellState, ahead: PartialProjection | None = None
    ) -> tuple[Tensor, CellState]:
        """See `Cell.step`."""
        if ahead is None:
            state = torch.lstm_cell(inputs, state, *self.matrices)
        else:
            assert ahead.recurrent is not None
            projected = self.complete(ahead, inputs)
            state = lstm_state(ahead.recurrent.multiply(state[0], projected + self.matrices[3]), state[1])
        return state[0], state

    @staticmethod
    def kernel(inputs: Tensor, state: CellState, weights: list[Tensor], *settings: Any) -> tuple[Tensor, ...]:
        """See `KernelCell.kernel`."""
        return torch.lstm(inputs, state, weights, *settings)


class GRU(KernelCell):
    """GRU as in cuDNN, whose reset gate acts after the matrix of the state.

        r = sigmoid(W x + b + U h + b')
        z = sigmoid(W x + b + U h + b')
        n = tanh(W x + b + r * (U h + b'))
        h' = (1 - z) * n + z * h

    each gate with rows of its own, in the order r, z, n.
    """

    name = "gru"
    holding = (0.0, SHUT, 0.0)  # Open z, which keeps the old state.
    holds_output = True

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        _, weight, _, bias = self.matrices
        return gru_state(projected, F.linear(state[0], weight, bias), state[0])

    def step(
        self, inputs: Tensor, state: CellState, ahead: PartialProjection | None = None
    ) -> tuple[Tensor, CellState]:
        """See `Cell.step`."""
        if ahead is None:
            h = torch.gru_cell(inputs, state[0], *self.matrices)
            return h, (h,)
        assert ahead.recurrent is not None
        state = gru_state(self.complete(ahead, inputs), ahead.recurrent.multiply(state[0], self.matrices[3]), state[0])
        return state[0], state

    @staticmethod
    def kernel(inputs: Tensor, state: CellState, weights: list[Tensor], *settings: Any) -> tuple[Tensor, ...]:
        """See `KernelCell.kernel`."""
        return torch.gru(inputs, state[0], weights, *settings)


class ChoGRU(GatedCell):
    """GRU as published (Cho et al. 2014, equations 5 to 8): the reset gate acts on the state, before its matrix.

        r = sigmoid(W x + b + U h + b')
        z = sigmoid(W x + b + U h + b')
        n = tanh(W x + b + U (r * h) + b')
        h' = (1 - z) * n + z * h

    The update gate of Bahdanau et al. 2014 (appendix A.1.1) is 1 - z. No library has a kernel of it, so that it is
    several times slower than `GRU`.
    """

    name = "gru_cho"

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        _, weight, _, bias = self.matrices
        h, gates = state[0], 2 * self.hidden_size
        r, z = (projected[:, :gates] + F.linear(h, weight[:gates], bias[:gates])).sigmoid().chunk(2, -1)
        n = (projected[:, gates:] + F.linear(r * h, weight[gates:], bias[gates:])).tanh()
        return ((1 - z) * n + z * h,)


class NormedLSTM(GatedCell):
    """LSTM with layer normalisation (Ba et al. 2016, equations 20 to 22).

        i, f, g, o = LN(W x) + LN(U h)
        c' = sigmoid(f) * c + sigmoid(i) * tanh(g)
        h' = sigmoid(o) * tanh(LN(c'))

    The biases are those of the norms; that of LN(W x) starts with 1 at the forget gates. No library has a kernel of it,
    so that it is several times slower than `LSTM`.
    """

    name = "lstm_normed"
    state_parts = ("h", "c")
    library = nn.LSTM
    biased = False

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__(input_size, hidden_size)
        self.input_norm = nn.LayerNorm(4 * hidden_size)
        self.hidden_norm = nn.LayerNorm(4 * hidden_size)
        self.cell_norm = nn.LayerNorm(hidden_size)
        with torch.no_grad():
            self.input_norm.bias[hidden_size : 2 * hidden_size] += 1.0

    def project(self, inputs: Tensor) -> Tensor:
        """Return LN(W x)."""
        return self.input_norm(F.linear(inputs, self.matrices[0]))

    def complete(self, ahead: PartialProjection, inputs: Tensor) -> Tensor:
        """See `Cell.complete`; the norm needs all of W x."""
        return self.input_norm(super().complete(ahead, inputs))

    def advance(self, projected: Tensor, state: CellState) -> CellState:
        """See `Cell.advance`."""
        i, f, g, o = (projected + self.hidden_norm(F.linear(state[0], self.matrices[1]))).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * self.cell_norm(c).tanh(), c

    @classmethod
    def checkpoint_name(cls, name: str, direction: int) -> str:
        """See `Cell.checkpoint_name`: norms by the number of the direction."""
        kind, _, rest = name.partition(".")
        return super().checkpoint_name(name, direction) if kind == "weights" else f"{kind}s.{direction}.{rest}"


CELLS: Registry[Cell] = Registry(
    "cell",
    Cell,  # type: ignore[type-abstract]
    (LSTM, GRU, ChoGRU, NormedLSTM),
    arguments=("input_size", "hidden_size"),
    has_options=False,
)


def _check_name(name: str) -> str:
    if name not in CELLS:
        *others, last = map(repr, CELLS)
        choices = f"{', '.join(others)} or {last}"
        raise PydanticCustomError("cell", "Input should be {choices}", {"choices": choices})
    return name


# The annotation of an option. A config that names another is refused with the list of them.
CellName = Annotated[str, AfterValidator(_check_name)]
