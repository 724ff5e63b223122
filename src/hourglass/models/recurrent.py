"""A recurrent layer: a cell in one direction or both, over a whole padded batch or one step at a time.

Shapes: B batch, T time, N rows of one step, I input, H hidden size of one direction, P projected input.
"""

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.models.cells import CELLS, Cell, CellName, CellState, KernelCell, PartialProjection
from hourglass.models.matrix_cells import MLSTM, DeltaNet, LinearAttention
from hourglass.models.minimal_cells import MinGRU, MinLSTM
from hourglass.models.selective_ssm import SelectiveSSM

# Here, as these cells are subclasses of what cells.py has, and every model imports this module.
for _kind in (MinGRU, MinLSTM, LinearAttention, MLSTM, DeltaNet, SelectiveSSM):
    CELLS.register(_kind)

# Numbers in bfloat16 in a row of a tile of AMX.
TILE = 32

# The weights of an encoder get a column at every call, so cuDNN packs them at every call: some microseconds.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk of memory")


class RecurrentLayer(nn.Module):
    """A recurrent layer, with one cell for each direction.

    A cell for which torch has a kernel is run by that kernel, and sequences are not packed: one more input feature, 1
    at padding, holds the gates so that the state passes through unchanged. The result is that of a packed call, which
    takes 3 times as long on a CPU. For all other cells the layer calls `Cell.run` with a mask.

    Args:
        cell: a key of CELLS.
        input_size: I.
        hidden_size: H.
        bidirectional: whether a second cell reads from the end.
    """

    def __init__(self, cell: CellName, input_size: int, hidden_size: int, bidirectional: bool = False):
        super().__init__()
        directions = 2 if bidirectional else 1
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.cells = nn.ModuleList(CELLS[cell](input_size, hidden_size) for _ in range(directions))
        self.register_state_dict_post_hook(_to_checkpoint_names)
        self.register_load_state_dict_pre_hook(_from_checkpoint_names)

    @property
    def directions(self) -> list[Cell]:
        """The cells: first the one that reads forward, then the one that reads backward, if there is one."""
        return list(self.cells)  # type: ignore[arg-type]

    @property
    def cell(self) -> Cell:
        """The cell that reads forward."""
        cell = self.cells[0]
        assert isinstance(cell, Cell)
        return cell

    @property
    def final_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of the parts of a sentence's final state, the directions side by side in the last dimension."""
        shapes = self.cell.state_shapes(self.hidden_size)
        return tuple((*shape[:-1], len(self.cells) * shape[-1]) for shape in shapes)

    def step(
        self, inputs: Tensor, state: CellState, ahead: PartialProjection | None = None
    ) -> tuple[Tensor, CellState]:
        """Advance one step forward; see `Cell.step`."""
        return self.cell.step(inputs, state, ahead)

    def forward(self, inputs: Tensor, state: CellState) -> Tensor:
        """Run forward from `state` over inputs without padding, or whose padding does not matter (a decoder's).

        Args:
            inputs: [B, T, I].
            state: of B rows.

        Returns:
            outputs [B, T, H].
        """
        cell = self.cell
        if not isinstance(cell, KernelCell):
            return cell.run(cell.project(inputs), state)[0]
        outputs, *_ = self._run_kernel(cell, inputs, tuple(part.unsqueeze(0) for part in state), cell.kernel_weights())
        return outputs

    def encode(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Run from the zero state over padded inputs.

        Args:
            inputs: [B, T, I], padded on the right.
            mask: [B, T], True at real positions.

        Returns:
            outputs [B, T, directions * H], arbitrary at padding; and the final state of every direction, each at its
            own end of the sentence: [B, numbers], part by part, each flattened from its shape in `final_shapes`.
        """
        if isinstance(self.cell, KernelCell):
            return self._encode_by_kernel(self.cell, inputs, mask)
        outputs, finals = [], []
        for cell, backward in zip(self.directions, (False, True), strict=False):
            projected = cell.project(inputs)
            start = cell.zero_state(len(inputs), inputs)
            if backward:  # The padding comes first then, and leaves the zero state as it is.
                turned, final = cell.run(projected.flip(1), start, mask.flip(1))
                output = turned.flip(1)
            else:
                output, final = cell.run(projected, start, mask)
            outputs.append(output)
            finals.append(final)
        flat = [torch.cat(parts, -1).flatten(1) for parts in zip(*finals, strict=True)]
        return torch.cat(outputs, -1), torch.cat(flat, -1)

    def _encode_by_kernel(self, cell: KernelCell, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """`encode` by one call of torch's kernel for both directions."""
        zero = inputs.new_zeros(len(self.cells), len(inputs), self.hidden_size)
        padding = (~mask).unsqueeze(-1).to(inputs.dtype)
        cells = [each for each in self.directions if isinstance(each, KernelCell)]
        weights = [weight for each in cells for weight in each.kernel_weights(holding=True)]
        start = (zero,) * len(cell.state_parts)
        outputs, *final = self._run_kernel(cell, torch.cat([inputs, padding], -1), start, weights)
        if not cell.holds_output:
            last = (mask.sum(1) - 1)[:, None, None].expand(-1, 1, self.hidden_size)
            forward_end = outputs[..., : self.hidden_size].gather(1, last).squeeze(1)
            ends = [forward_end, *final[0][1:]]  # The backward direction ends at position 0, never padding.
            final = [torch.stack(ends), *final[1:]]
        return outputs, torch.cat([part.transpose(0, 1).flatten(1) for part in final], -1)

    def _run_kernel(
        self, cell: KernelCell, inputs: Tensor, state: CellState, weights: list[Tensor]
    ) -> tuple[Tensor, ...]:
        settings = (True, 1, 0.0, self.training, self.bidirectional, True)  # biases, layers, dropout, ..., batch first
        dtype = weights[0].dtype
        state = tuple(part.to(dtype).contiguous() for part in state)  # cuDNN takes no other.
        inputs = inputs.to(dtype)
        if dtype == torch.bfloat16 and inputs.device.type == "cpu":
            inputs, weights = _in_whole_tiles(inputs, weights)
        # Autocast would have cuDNN compute in float16, bf16-mixed or not, where gradients vanish that are not scaled.
        with torch.autocast(inputs.device.type, enabled=False):
            return cell.kernel(inputs, state, weights, *settings)


def _in_whole_tiles(inputs: Tensor, weights: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return inputs [B, T, I] and the weights of their kernel with I filled up by zeros to a multiple of TILE.

    oneDNN computes other widths without the tiles of AMX, and more slowly.
    """
    filling = -inputs.shape[-1] % TILE
    if not filling:
        return inputs, weights
    of_inputs = range(0, len(weights), 4)  # W, U, b and b' of each direction.
    weights = [F.pad(weight, (0, filling)) if index in of_inputs else weight for index, weight in enumerate(weights)]
    return F.pad(inputs, (0, filling)), weights


def _names(layer: RecurrentLayer, prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the name of every weight of a layer in the module, and in a checkpoint."""
    for direction, cell in enumerate(layer.directions):
        for name, _ in cell.named_parameters():
            yield f"{prefix}cells.{direction}.{name}", f"{prefix}{cell.checkpoint_name(name, direction)}"


# Checkpoints name the weights of the first four cells as they did when one module had the weights of both directions.


def _to_checkpoint_names(layer: RecurrentLayer, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
    renamed = {stored: state_dict.pop(name) for name, stored in _names(layer, prefix)}
    state_dict.update(renamed)


def _from_checkpoint_names(layer: RecurrentLayer, state_dict: dict[str, Any], prefix: str, *_: Any) -> None:
    renamed = {name: state_dict.pop(stored) for name, stored in _names(layer, prefix) if stored in state_dict}
    state_dict.update(renamed)
