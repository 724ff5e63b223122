"""bfloat16 copies of the weights: gradients against float32, the types of operations, and the number of casts."""

from collections import Counter
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest
import torch
from helpers import ATTENTION_NAMES, ENCODER_NAMES, tiny_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.models import recurrent, seq2seq
from hourglass.models.cells import CELLS, GRU, LSTM, GatedCell, KernelCell
from hourglass.models.precision import in_bfloat16
from hourglass.models.recurrent import TILE, RecurrentLayer
from hourglass.models.seq2seq import Seq2Seq, TokenLoss
from hourglass.models.summary import round_to_bits

V = 20
# Half the distance between two numbers of bfloat16, relative to them.
ROUNDING = 2**-8

Batch = tuple[Tensor, Tensor, Tensor]


def make_batch(target_length: int = 7) -> Batch:
    """Source [3, 6], lengths [3] and target [3, T+1], padded on the right."""
    source, lengths = torch.randint(FIXED_PIECES, V, (3, 6)), torch.tensor([6, 4, 2])
    target = torch.randint(FIXED_PIECES, V, (3, target_length + 1))
    target[:, 0], target[:, -1] = BOS, EOS
    target[2, 3:] = torch.tensor([EOS, *[PAD] * (target_length - 3)])
    for row, length in enumerate(lengths.tolist()):
        source[row, length - 1], source[row, length:] = EOS, PAD
    return source, lengths, target


def float32_model(attention: str = "luong_general", encoder: str = "rnn", **changes: Any) -> Seq2Seq:
    return tiny_model(attention, {name.replace("_", ".", 1): value for name, value in changes.items()}, encoder).float()


def loss_and_gradients(
    model: Seq2Seq, batch: Batch, bfloat16: bool, **options: Any
) -> tuple[TokenLoss, dict[str, Tensor]]:
    """Return the loss, and the gradient of each weight that has one."""
    model.zero_grad()
    if bfloat16:
        with in_bfloat16(model):
            loss = model.loss(*batch, 0.1, **options)
    else:
        loss = model.loss(*batch, 0.1, **options)
    loss.smoothed.backward()
    return loss, {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def check_gradients(model: Seq2Seq, steepness: float = 1.0, **options: Any) -> None:
    """Compare with float32. A weight's gradient may be small beside those that it is computed from."""
    batch = make_batch()
    loss, gradients = loss_and_gradients(model, batch, bfloat16=True, **options)
    wanted_loss, wanted = loss_and_gradients(model, batch, bfloat16=False, **options)
    assert loss.nll.dtype == loss.smoothed.dtype == torch.float32
    torch.testing.assert_close(loss, wanted_loss, rtol=2 * ROUNDING, atol=0)
    assert loss.nll != wanted_loss.nll  # It has been rounded at all.
    assert gradients.keys() == wanted.keys()
    whole = torch.stack([gradient.norm() for gradient in wanted.values()]).norm()
    for name, gradient in gradients.items():
        assert gradient.dtype == torch.float32
        error = (gradient - wanted[name]).norm()
        assert error <= steepness * (8 * ROUNDING * wanted[name].norm() + 2 * ROUNDING * whole), name


@pytest.mark.parametrize("feeding", [False, True])
@pytest.mark.parametrize("attention", ATTENTION_NAMES)
def test_gradients_are_those_of_float32_for_each_attention(attention: str, feeding: bool) -> None:
    check_gradients(float32_model(attention, decoder_input_feeding=feeding))


@pytest.mark.parametrize("step_loop", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_float32_for_each_cell(cell: str, step_loop: bool) -> None:
    """The states of cells without a gate that reads them are unbounded: with smaller weights, no softmax is saturated.

    A DeltaNet divides what it reads by its length, however small. Where it is near 0, gradients are steep: those of
    float32 differ as much if the weights are moved by half a rounding.
    """
    small = not issubclass(CELLS[cell], GatedCell)
    changes = {"decoder.cell": cell, "encoder.cell": cell}
    model = tiny_model("luong_general", changes, spread=0.2 if small else 0.4).float()
    check_gradients(model, 4.0 if cell == "delta_net" else 1.0, step_loop=step_loop)


@pytest.mark.parametrize("encoder", [name for name in ENCODER_NAMES if name != "blind"])
def test_gradients_are_those_of_float32_for_each_encoder(encoder: str) -> None:
    changes: dict[str, Any] = {} if encoder == "rnn" else {"encoder.summary": "attention"}
    # With small weights: stacked gates multiply what the rounding of large ones changes.
    check_gradients(tiny_model(changes=changes, encoder=encoder, spread=0.1).float())


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder_readout": "maxout", "decoder_layers": 2, "decoder_residual_from": 2, "encoder_layers": 2},
        {"decoder_start": "zero", "decoder_tie": "none", "encoder_summary_tanh": True},
    ],
)
def test_gradients_are_those_of_float32_for_other_decoders(changes: dict[str, Any]) -> None:
    check_gradients(float32_model("bahdanau", **changes))


class Types(TorchDispatchMode):
    """Records the types of the inputs of operations by name, and the memory whose content is cast to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: dict[str, set[torch.dtype]] = {}
        self.cast: Counter[int] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        tensors = [each for each in args if isinstance(each, Tensor) and each.is_floating_point()]
        self.inputs.setdefault(name, set()).update(each.dtype for each in tensors)
        if name == "_to_copy" and kwargs.get("dtype") == torch.bfloat16:
            self.cast.update(each.data_ptr() for each in tensors if each.dtype == torch.float32)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "changes",
    [
        {"decoder_input_feeding": True},
        {"attention": "bahdanau"},
        {"attention": "multi_head", "encoder": "convolution", "encoder_summary": "attention"},
    ],
)
def test_products_are_in_bfloat16_and_softmax_and_loss_in_float32(changes: dict[str, Any]) -> None:
    with Types() as types:
        loss_and_gradients(float32_model(**changes), make_batch(), bfloat16=True)
    half, whole = {torch.bfloat16}, {torch.float32}
    for name in ("mm", "addmm", "bmm"):
        assert types.inputs[name] == half, name
    for name in ("_softmax", "_softmax_backward_data"):
        assert types.inputs[name] == whole, name
    # The backward pass of the loss is the exponentials of the logits and the sum at the labels.
    for name in ("_log_softmax", "exp_", "scatter_add_", "nll_loss_forward", "embedding"):
        assert types.inputs[name] == whole, name


@pytest.mark.parametrize("cell", [LSTM, GRU])
@pytest.mark.parametrize("size", [31, 32, 70])
def test_a_kernel_reads_whole_tiles_in_bfloat16(
    cell: type[KernelCell], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The columns that are filled up are of zeros, and change no output and no gradient."""
    layer = RecurrentLayer(cell.name, size, 8, bidirectional=True)
    inputs, mask = torch.randn(3, 5, size), torch.arange(5) < torch.tensor([[5], [3], [1]])
    shapes, kernel = [], cell.kernel

    def record(inputs: Tensor, state: Any, weights: list[Tensor], *settings: Any) -> Any:
        shapes.append((inputs.shape[-1], weights[0].shape[-1], weights[4].shape[-1]))
        return kernel(inputs, state, weights, *settings)

    monkeypatch.setattr(cell, "kernel", staticmethod(record))
    results = []
    for tile in (TILE, 1):
        monkeypatch.setattr(recurrent, "TILE", tile)
        own = inputs.bfloat16().requires_grad_()
        with in_bfloat16(layer):
            outputs, final = layer.encode(own, mask)
        (outputs.masked_fill(~mask.unsqueeze(-1), 0).sum() + (final**2).sum()).backward()
        gradients = [each.grad.clone() for each in layer.parameters() if each.grad is not None]
        assert len(gradients) == 8
        layer.zero_grad()
        results.append([outputs[mask], final, own.grad, *gradients])
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain, rtol=2**-6, atol=2**-5)
    whole = -(-(size + 1) // 32) * 32
    assert shapes == [(whole,) * 3, (size + 1,) * 3]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("changes", [{"decoder_input_feeding": True}, {"attention": "bahdanau"}, {}])
def test_each_weight_is_cast_once_a_step(cell: str, changes: dict[str, Any]) -> None:
    model = float32_model(decoder_cell=cell, encoder_cell=cell, **changes)
    kept = [module for module in model.modules() if not isinstance(module, nn.Embedding | nn.LayerNorm)]
    weights = {each.data_ptr() for module in kept for each in module.parameters(recurse=False)}
    assert len(weights) > 5
    for length in (5, 11):
        with Types() as types:
            loss_and_gradients(model, make_batch(length), bfloat16=True)
        assert {weight: types.cast[weight] for weight in weights} == dict.fromkeys(weights, 1)


def test_parts_of_the_logits_are_computed_again_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass does so, when the model has its own weights again."""
    model, batch = float32_model(decoder_tie="all"), make_batch()
    whole, wanted = loss_and_gradients(model, batch, bfloat16=True)
    monkeypatch.setattr(seq2seq, "LOGIT_ROWS", 4)
    loss, gradients = loss_and_gradients(model, batch, bfloat16=True)
    torch.testing.assert_close(loss, whole)
    for name, gradient in gradients.items():  # The parts' gradients of the output layer are rounded, then added.
        torch.testing.assert_close(gradient, wanted[name], rtol=4 * ROUNDING, atol=ROUNDING, msg=name)


class OwnLayers(nn.Module):
    """What a module of a plugin may hold: the library's recurrent layer, a buffer, an embedding."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(V, 4)
        self.layer = nn.LSTM(4, 4, batch_first=True)
        self.unused = nn.Linear(4, 4, bias=False)
        self.register_buffer("table", torch.randn(4))

    def forward(self, ids: Tensor) -> Tensor:
        output: Tensor = self.layer(self.embedding(ids) + self.table)[0]
        return output


def test_library_layers_and_buffers_are_cast_too() -> None:
    model, ids = OwnLayers(), torch.randint(V, (2, 3))
    with in_bfloat16(model):
        half = model(ids)
    whole = model(ids)
    assert (half.dtype, whole.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(half.float(), whole, rtol=0, atol=4 * ROUNDING)
    half.float().sum().backward()
    assert model.layer.weight_hh_l0.grad is not None
    assert model.embedding.weight.grad is not None


@pytest.mark.parametrize("make", [OwnLayers, lambda: float32_model(decoder_tie="all")])
def test_the_model_has_its_own_weights_again_afterwards(make: Callable[[], nn.Module]) -> None:
    model = make()

    def tensors() -> list[int]:
        lists = [module._flat_weights for module in model.modules() if isinstance(module, nn.LSTM)]
        return [id(each) for each in (*model.parameters(), *model.buffers(), *chain.from_iterable(lists))]

    before = tensors()

    def fail() -> None:
        assert tensors() != before
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), in_bfloat16(model):
        fail()
    assert tensors() == before
    assert not any(module._forward_hooks for module in model.modules())


def test_a_rounded_summary_has_its_levels_up_to_bfloat16() -> None:
    values = torch.linspace(-1, 1, 999, dtype=torch.bfloat16)
    for bits in (1, 4, 10, 16):
        rounded, exact = round_to_bits(values, bits), round_to_bits(values.double(), bits)
        assert rounded.dtype == torch.bfloat16
        torch.testing.assert_close(rounded, exact.to(torch.bfloat16), rtol=2 * ROUNDING, atol=1e-4)
        assert len(rounded.unique()) <= 2**bits
