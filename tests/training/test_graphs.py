"""A training step by CUDA graphs equals the plain step. Tests that record a graph need a GPU."""

from copy import deepcopy

import pytest
import torch
from helpers import ROOT, tiny_model

from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD
from hourglass.errors import UserError
from hourglass.models.seq2seq import LOGIT_ROWS, Seq2Seq, TokenLoss
from hourglass.training.graphs import GraphedLoss, other_leaves, pad_to_shape

VARIANTS = sorted(path.stem for path in (ROOT / "conf" / "attention").glob("*.yaml"))
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


def to_gpu(batch: Batch) -> Batch:
    """Return a copy of the batch on the GPU."""
    source, lengths, target = batch
    return source.cuda(), lengths.cuda(), target.cuda()


def on_gpu(model: Seq2Seq) -> Seq2Seq:
    """Return a copy of the model on the GPU, in training mode."""
    return deepcopy(model).cuda().train()


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
        batch = to_gpu(make_batch(*shape, seed=step))
        torch.manual_seed(step)
        optimizer.zero_grad()
        with torch.autocast("cuda", precision, enabled=precision is not None):
            losses: TokenLoss = loss(*batch) if loss else model.loss(*batch, smoothing)
            mean = losses.smoothed / 7
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        history.append([losses.smoothed.item(), losses.nll.item()])
    return history


@pytest.mark.parametrize("attention", VARIANTS)
@pytest.mark.parametrize("shape", [(5, 4, 7), (8, 8, 6), (1, 1, 1)])
def test_padding_to_a_shape_changes_neither_loss_nor_gradients(attention: str, shape: tuple[int, int, int]) -> None:
    model = tiny_model(attention)
    batch = make_batch(*shape, seed=0)
    padded = pad_to_shape(*batch, model.decoder.attention.longest_source)
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


def test_source_positions_are_not_padded_beyond_the_longest_source() -> None:
    model = tiny_model("luong_location", {"attention.longest_source": 5})
    batch = make_batch(3, 4, 6, seed=0)
    padded = pad_to_shape(*batch, model.decoder.attention.longest_source)
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


@gpu
@pytest.mark.parametrize("attention", VARIANTS)
@pytest.mark.parametrize("feeding", [False, True])
def test_graphs_train_to_the_weights_of_the_plain_steps(attention: str, feeding: bool) -> None:
    """Shapes alternate, a graph is dropped (two are kept), labels are smoothed; in float64."""
    model = tiny_model(attention, {"decoder.input_feeding": feeding, "encoder.dropout": 0, "decoder.dropout": 0})
    plain, graphed = on_gpu(model), on_gpu(model)
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
    model = on_gpu(tiny_model("luong_general", changes, vocabulary=4000, spread=0.05).float())
    graphed, random = GraphedLoss(model), torch.Generator().manual_seed(0)
    shapes = [(64, 16, 16), (72, 16, 14), (40, 24, 22), (120, 8, 8)]
    for turn in range(40):
        # The shapes alternate until all are recorded; then they are drawn at random.
        shape = shapes[int(torch.randint(len(shapes), (), generator=random))] if turn > 8 else shapes[turn % 4]
        batch = to_gpu(make_batch(*shape, seed=turn))
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


@gpu
def test_dropout_differs_in_every_step_and_depends_on_the_seed() -> None:
    model = on_gpu(tiny_model("luong_general", {"encoder.dropout": 0.5, "decoder.dropout": 0.5}))
    graphed = GraphedLoss(model)
    batch = to_gpu(make_batch(8, 8, 6, seed=0))  # Without padding, both draw the same numbers.
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
    plain, graphed = on_gpu(model.float()), on_gpu(model.float())
    losses = train(graphed, GraphedLoss(graphed), 0.0, torch.bfloat16)
    expected = train(plain, None, 0.0, torch.bfloat16)
    assert [loss for loss, _ in losses] == pytest.approx([loss for loss, _ in expected], rel=0.02)
    untrained = model.cuda().loss(*to_gpu(make_batch(5, 4, 6, seed=8))).smoothed.item()
    assert expected[-1][0] != pytest.approx(untrained, rel=0.05)  # Training changes the loss by more than that.


@gpu
def test_a_large_batch_is_recorded_in_blocks_of_logits() -> None:
    model = on_gpu(tiny_model("luong_general", {"encoder.dropout": 0, "decoder.dropout": 0}))
    graphed = GraphedLoss(model)
    batch = to_gpu(make_batch(LOGIT_ROWS // 8 + 8, 3, 8, seed=0))
    expected = model.loss(*batch)
    graphed(*batch)
    loss = graphed(*batch)
    torch.testing.assert_close(loss, expected)
    gradients = [torch.autograd.grad(each.smoothed, model.output.weight) for each in (loss, expected)]
    torch.testing.assert_close(*gradients)


@gpu
def test_two_losses_at_once_are_refused() -> None:
    graphed = GraphedLoss(on_gpu(tiny_model("luong_general")))
    batch = to_gpu(make_batch(3, 4, 5, seed=0))
    graphed(*batch)
    first, _ = graphed(*batch), graphed(*batch)
    with pytest.raises(UserError, match="call backward on a loss before the next loss is computed"):
        first.smoothed.backward()
