"""A training step by CUDA graphs equals the plain step.

Without a GPU, a stand-in records and replays in place of CUDA: the same operations, on the same memory. It shows what
`GraphedLoss` does with its graphs, its inputs, its gradients and its casts, and nothing about kernels and streams.
"""

from copy import deepcopy
from typing import Any

import pytest
import torch
from helpers import ENCODER_NAMES, ROOT, tiny_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.errors import UserError
from hourglass.models import seq2seq
from hourglass.models.seq2seq import LOGIT_ROWS, Seq2Seq, TokenLoss
from hourglass.training.graphs import GraphedLoss, other_leaves, pad_to_shape

VARIANTS = sorted(path.stem for path in (ROOT / "conf" / "attention").glob("*.yaml"))
OTHER_ENCODERS = [("multi_head", name) for name in ENCODER_NAMES if name not in ("blind", "rnn")]
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def make_batch(rows: int, source: int, target: int, seed: int) -> Batch:
    """Return ids with padding: source [B, S], lengths [B], target [B, T+1]."""
    random = torch.Generator().manual_seed(seed)

    def side(longest: int, first: int | None) -> tuple[torch.Tensor, torch.Tensor]:
        lengths = torch.randint(1, longest + 1, (rows,), generator=random)
        lengths[0] = longest
        ids = torch.randint(FIXED_PIECES, 12, (rows, longest), generator=random)
        position = torch.arange(longest)
        ids[position == lengths.unsqueeze(1) - 1] = EOS
        ids[position >= lengths.unsqueeze(1)] = PAD
        return (ids if first is None else torch.cat([torch.full((rows, 1), first), ids], 1)), lengths

    (source_ids, lengths), (target_ids, _) = side(source, None), side(target, BOS)
    return source_ids, lengths, target_ids


class Recording:
    """A stand-in for torch.cuda.CUDAGraph on a CPU: operations, with the tensors that they read and write."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        """Do every operation again, on the values that its tensors have now."""
        with torch.no_grad():
            for operation, words, options, results in self.operations:
                again = tree_flatten(operation(*words, **options))[0]
                for result, values in zip(tree_flatten(results)[0], again, strict=True):
                    if isinstance(result, torch.Tensor) and result.data_ptr() != values.data_ptr():
                        result.copy_(values)


class Recorder(TorchDispatchMode):
    """A stand-in for torch.cuda.graph: what is done within goes into a recording, and no result of it is left."""

    def __init__(self, graph: Recording, pool: Any = None, stream: Any = None):
        super().__init__()
        self.recording = graph
        self.made: list[torch.Tensor] = []

    def __torch_dispatch__(self, operation: Any, types: Any, words: Any = (), options: Any = None) -> Any:
        if operation is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")  # As CUDA has it.
        results = operation(*words, **(options or {}))
        self.recording.operations.append((operation, words, options or {}, results))
        read = {
            item.untyped_storage().data_ptr() for item in tree_flatten((words, options))[0] if torch.is_tensor(item)
        }
        for result in tree_flatten(results)[0]:
            if torch.is_tensor(result) and result.untyped_storage().data_ptr() not in read:
                self.made.append(result)
        return results

    def __enter__(self) -> Any:
        self.random = torch.get_rng_state()
        return super().__enter__()

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        torch.set_rng_state(self.random)  # Recording computes nothing: what it seemed to compute cannot be used.
        with torch.no_grad():
            for result in self.made:
                if result.is_floating_point():
                    result.fill_(torch.nan)


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the device of models and batches: a GPU, or the CPU with the stand-in for graphs."""
    if request.param == "cuda":
        return "cuda"
    for name, value in {"CUDAGraph": Recording, "graph": Recorder, "Stream": object}.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(seq2seq, "_leaves_padding_out", lambda _: False)  # As on a GPU: shapes are those of the batch.
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda _: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, _: torch.set_rng_state(state))
    return "cpu"


def to_device(batch: Batch, device: str = "cuda") -> Batch:
    """Return a copy of the batch on a device."""
    source, lengths, target = batch
    return source.to(device, copy=True), lengths.to(device, copy=True), target.to(device, copy=True)


def on_device(model: Seq2Seq, device: str = "cuda") -> Seq2Seq:
    """Return a copy of the model on a device, in training mode."""
    return deepcopy(model).to(device).train()


def train(
    model: Seq2Seq, loss: GraphedLoss | None, smoothing: float, precision: torch.dtype | None
) -> list[list[float]]:
    """Take steps on batches whose shapes alternate, and return the two losses of each step.

    Each loss, and with it its autograd graph, is alive until the next loss is computed, as a caller may keep it.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    history = []
    shapes = [(5, 4, 6), (5, 4, 6), (3, 9, 2), (5, 4, 6), (3, 9, 2), (3, 9, 2), (4, 4, 7), (3, 9, 2), (5, 4, 6)]
    for step, shape in enumerate(shapes):
        kind = model.embedding.weight.device.type
        batch = to_device(make_batch(*shape, seed=step), kind)
        torch.manual_seed(step)
        optimizer.zero_grad()
        with torch.autocast(kind, precision, enabled=precision is not None):
            losses: TokenLoss = loss(*batch) if loss else model.loss(*batch, smoothing)
            mean = losses.smoothed / 7
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append([losses.smoothed.item(), losses.nll.item()])
    return history


@pytest.mark.parametrize(("attention", "encoder"), [*((name, "rnn") for name in VARIANTS), *OTHER_ENCODERS])
@pytest.mark.parametrize("shape", [(5, 4, 7), (8, 8, 6), (1, 1, 1)])
def test_padding_to_a_shape_changes_neither_loss_nor_gradients(
    attention: str, encoder: str, shape: tuple[int, int, int]
) -> None:
    model = tiny_model(attention, encoder=encoder)
    batch = make_batch(*shape, seed=0)
    padded = pad_to_shape(*batch, model.longest_source)
    assert len(padded[0]) == len(padded[1]) == len(padded[2]) == 8
    assert padded[0].shape[1] % 8 == 0
    assert padded[2].shape[1] % 2 == 1
    plain, wider = model.loss(*batch, 0.1), model.loss(*padded, 0.1)
    torch.testing.assert_close(wider, plain)
    weights = list(model.parameters())
    gradients = [torch.autograd.grad(loss.smoothed, weights, allow_unused=True) for loss in (plain, wider)]
    for expected, gradient in zip(*gradients, strict=True):
        if expected is not None:
            torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(
    ("attention", "encoder", "limits"),
    [
        ("luong_location", "rnn", {"attention.longest_source": 5}),
        ("luong_dot", "convolution", {"encoder.longest_source": 5}),
        ("luong_location", "convolution", {"attention.longest_source": 5, "encoder.longest_source": 6}),
        ("luong_location", "convolution", {"attention.longest_source": 6, "encoder.longest_source": 5}),
    ],
)
def test_source_positions_are_not_padded_beyond_the_longest_source(
    attention: str, encoder: str, limits: dict[str, int]
) -> None:
    model = tiny_model(attention, limits, encoder)
    batch = make_batch(3, 4, 6, seed=0)
    padded = pad_to_shape(*batch, model.longest_source)
    assert padded[0].shape == (8, 5)
    torch.testing.assert_close(model.loss(*padded), model.loss(*batch))


def test_other_leaves_are_read_and_then_removed() -> None:
    """With joint embeddings: one module in two places, and a layer that shares its weights."""
    model = tiny_model("luong_general")
    before = [id(weight) for weight in model.parameters()]
    batch = make_batch(3, 4, 6, seed=0)
    expected = torch.autograd.grad(model.loss(*batch).smoothed, list(model.parameters()))
    with other_leaves(model) as leaves:
        loss = model.loss(*batch).smoothed
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        with pytest.raises(RuntimeError, match="not have been used in the graph"):
            torch.autograd.grad(model.loss(*batch).smoothed, list(leaves))
    torch.testing.assert_close(gradients, expected)
    assert [id(weight) for weight in model.parameters()] == before
    assert model.output.weight is model.embedding.weight


@pytest.mark.parametrize(
    ("attention", "encoder", "feeding"),
    [
        *((name, "rnn", feeding) for name in VARIANTS for feeding in (False, True)),
        *((*e, False) for e in OTHER_ENCODERS),
    ],
)
def test_graphs_train_to_the_weights_of_the_plain_steps(
    attention: str, encoder: str, feeding: bool, device: str
) -> None:
    """Shapes alternate, a graph is dropped (two are kept), labels are smoothed; in float64."""
    changes = {"decoder.input_feeding": feeding, "encoder.dropout": 0, "decoder.dropout": 0}
    model = tiny_model(attention, changes, encoder)
    plain, graphed = on_device(model, device), on_device(model, device)
    losses = train(graphed, GraphedLoss(graphed, 0.1, most=2), 0.1, None)
    torch.testing.assert_close(losses, train(plain, None, 0.1, None))
    for (name, expected), weight in zip(plain.named_parameters(), graphed.parameters(), strict=True):
        torch.testing.assert_close(weight, expected, msg=name)


@gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize("feeding", [False, True])
def test_gradients_of_a_full_size_model_are_those_of_the_plain_step(
    feeding: bool, precision: torch.dtype | None
) -> None:
    """Large products use other kernels and workspaces. Graphs that share a pool alternate, while weights change."""
    wide = {"encoder.hidden_size": 512, "encoder.embedding_size": 256, "encoder.summary_size": 512}
    wide |= {"decoder.hidden_size": 512, "decoder.embedding_size": 256, "decoder.readout_size": 256}
    changes = wide | {"decoder.input_feeding": feeding, "encoder.dropout": 0, "decoder.dropout": 0}
    model = on_device(tiny_model("luong_general", changes, vocabulary=4000, spread=0.05).float())
    graphed, random = GraphedLoss(model), torch.Generator().manual_seed(0)
    shapes = [(64, 16, 16), (72, 16, 14), (40, 24, 22), (120, 8, 8)]
    for turn in range(40):
        # The shapes alternate until all are recorded; then they are drawn at random.
        shape = shapes[int(torch.randint(len(shapes), (), generator=random))] if turn > 8 else shapes[turn % 4]
        batch = to_device(make_batch(*shape, seed=turn))
        gradients = []
        for loss in (graphed, model.loss):
            model.zero_grad()
            with torch.autocast("cuda", precision, enabled=precision is not None):
                (loss(*batch).smoothed / 1000).backward()
            gradients.append({name: w.grad for name, w in model.named_parameters() if w.grad is not None})
        assert gradients[0].keys() == gradients[1].keys()
        for name, expected in gradients[1].items():
            error = (gradients[0][name] - expected).norm() / expected.norm()
            assert error < (2e-2 if precision else 2e-3), f"turn {turn}, {shape}, {name}: {error}"
        with torch.no_grad():
            for weight in model.parameters():
                weight.sub_(0.1 * weight.grad if weight.grad is not None else 0)


def test_dropout_differs_in_every_step_and_depends_on_the_seed(device: str) -> None:
    model = on_device(tiny_model("luong_general", {"encoder.dropout": 0.5, "decoder.dropout": 0.5}), device)
    graphed = GraphedLoss(model)
    batch = to_device(make_batch(8, 8, 6, seed=0), device)  # Without padding, both draw the same numbers.
    graphed(*batch)
    losses = []
    for seed in (1, 2, 1, 3):
        torch.manual_seed(seed)
        losses.append(graphed(*batch).smoothed.item())
    torch.manual_seed(3)
    assert losses[0] == losses[2]
    assert len(set(losses)) == 3
    assert model.loss(*batch).smoothed.item() == pytest.approx(losses[3])


@gpu
def test_graphs_cast_the_current_weights_in_every_step() -> None:
    """In bfloat16, a graph that read weights cast before its recording would use these weights in every step."""
    model = tiny_model("luong_general", {"decoder.input_feeding": True, "encoder.dropout": 0, "decoder.dropout": 0})
    plain, graphed = on_device(model.float()), on_device(model.float())
    losses = train(graphed, GraphedLoss(graphed), 0.0, torch.bfloat16)
    expected = train(plain, None, 0.0, torch.bfloat16)
    assert [loss for loss, _ in losses] == pytest.approx([loss for loss, _ in expected], rel=0.02)
    untrained = model.cuda().loss(*to_device(make_batch(5, 4, 6, seed=8))).smoothed.item()
    assert expected[-1][0] != pytest.approx(untrained, rel=0.05)  # Training changes the loss by more than that.


def test_a_large_batch_is_recorded_in_blocks_of_logits(device: str) -> None:
    model = on_device(tiny_model("luong_general", {"encoder.dropout": 0, "decoder.dropout": 0}), device)
    graphed = GraphedLoss(model)
    batch = to_device(make_batch(LOGIT_ROWS // 8 + 8, 3, 8, seed=0), device)
    expected = model.loss(*batch)
    graphed(*batch)
    loss = graphed(*batch)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each.smoothed, model.output.weight) for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


def test_prefixes_count_in_no_loss_of_a_graph(device: str) -> None:
    """Their lengths are another input of the graph, read anew in every replay; rows of padding have none."""
    model = on_device(tiny_model("luong_general", {"encoder.dropout": 0, "decoder.dropout": 0}), device)
    graphed, random = GraphedLoss(model, 0.1), torch.Generator().manual_seed(0)
    losses = []
    for seed in (1, 2, 3, 3):  # The second is recorded. The last two differ in their prefixes alone.
        source, lengths, target = make_batch(5, 4, 6, seed=seed)
        tokens = (target != PAD).sum(1) - 1
        prefixes = (torch.rand(5, generator=random) * tokens).long()  # At most all but end-of-sentence.
        batch = (*to_device((source, lengths, target), device), prefixes.to(device))
        loss = graphed(*batch)
        expected = model.loss(*batch[:3], 0.1, prefix_lengths=batch[3])
        torch.testing.assert_close(loss, expected)
        gradients = [torch.autograd.grad(each.smoothed, model.output.weight) for each in (loss, expected)]
        torch.testing.assert_close(*gradients)
        losses.append(loss.nll.item())
    assert losses[2] != losses[3]


def test_two_losses_at_once_are_refused(device: str) -> None:
    graphed = GraphedLoss(on_device(tiny_model("luong_general"), device))
    batch = to_device(make_batch(3, 4, 5, seed=0), device)
    graphed(*batch)
    first, _ = graphed(*batch), graphed(*batch)
    with pytest.raises(UserError, match="call backward on a loss before the next loss is computed"):
        first.smoothed.backward()


def test_a_step_that_reads_a_value_of_the_gpu_cannot_be_recorded(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Seq2Seq.loss

    def reads(self: Seq2Seq, *inputs: Any, **options: Any) -> TokenLoss:
        assert inputs[1].max().item() > 0
        return loss(self, *inputs, **options)

    monkeypatch.setattr(Seq2Seq, "loss", reads)
    graphed = GraphedLoss(on_device(tiny_model("luong_general"), device))
    batch = to_device(make_batch(3, 4, 5, seed=0), device)
    graphed(*batch)
    with pytest.raises(UserError, match=r"trainer\.cuda_graphs=true: .* cannot be recorded as a CUDA graph \(.*captur"):
        graphed(*batch)


def test_few_graphs_are_kept_the_most_recently_used(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graphed = GraphedLoss(on_device(tiny_model("luong_general"), device), most=2)
    recorded: list[tuple[int, ...]] = []
    record = GraphedLoss._record

    def note(self: GraphedLoss, *batch: torch.Tensor) -> Any:
        recorded.append((batch[0].shape[1], batch[2].shape[1]))
        return record(self, *batch)

    monkeypatch.setattr(GraphedLoss, "_record", note)
    for source in (8, 8, 16, 16, 8, 24, 24, 8, 16, 16):  # 16 makes room for 24, then 24 for 16.
        graphed(*to_device(make_batch(8, source, 6, seed=0), device))
    assert [source for source, _ in recorded] == [8, 16, 24, 16]
