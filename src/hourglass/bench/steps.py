"""Training steps to be timed: on a model, on its bare library calls, on a plain loop; and the models and batches.

Shapes: B batch, S source length, T target length.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hourglass.bench.bare import BareCalls, PlainLoop
from hourglass.bench.clock import count_operations
from hourglass.bench.settings import BATCH_SENTENCES, SOURCE_LENGTH, TARGET_LENGTH, BenchSettings, Precision
from hourglass.config.compose import compose_settings
from hourglass.config.options import build
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES
from hourglass.decoding.search import SearchSettings, search
from hourglass.models.build import build_model
from hourglass.models.precision import in_bfloat16
from hourglass.models.seq2seq import Seq2Seq, TokenLoss

# Source ids [B, S], their lengths [B], and target ids [B, T+1].
RandomBatch = tuple[Tensor, Tensor, Tensor]


class StepKind(NamedTuple):
    """A training step to be measured."""

    name: str
    model: Seq2Seq
    batch: RandomBatch


# The signature of `Seq2Seq.loss`.
LossFunction = Callable[[Tensor, Tensor, Tensor], TokenLoss]


def build_variant(settings: BenchSettings, variant: str, size: int) -> Seq2Seq:
    """Build the model of a variant at a decoder size."""
    config = compose_settings(settings.overrides_of(variant, size))
    torch.manual_seed(1)
    pieces = config["tokenizer"]["vocabulary_size"]
    return build_model(config, pieces, pieces, joint=False)


def default_and_peers_steps(settings: BenchSettings) -> Iterator[StepKind]:
    """Yield steps of the default settings of src/train.py, and the first variant's of the peers' task, largest size."""
    for name, overrides in settings.default_variants.items():
        yield default_step(settings, name, overrides)
    variant, size = settings.first_variant, max(settings.decoder_sizes)
    model = build_variant(settings, variant, size)
    yield StepKind(f"{variant}, decoder {size}", model, random_batch(model))


def default_step(settings: BenchSettings, name: str, overrides: str) -> StepKind:
    """Return a step of the default settings of src/train.py with overrides, on a batch of trainer.batch_tokens."""
    config = compose_settings(overrides.split())
    torch.manual_seed(1)
    pieces, length = config["tokenizer"]["vocabulary_size"], settings.default_length
    model = build_model(config, pieces, pieces, joint=config["tokenizer"]["joint"])
    sentences = max(1, config["trainer"]["batch_tokens"] // length)
    return StepKind(name, model, random_batch(model, sentences, length, length))


def random_batch(
    model: Seq2Seq,
    sentences: int = BATCH_SENTENCES,
    source: int = SOURCE_LENGTH,
    target: int = TARGET_LENGTH,
    device: str = "cpu",
) -> RandomBatch:
    """Return a batch of random ids of the model's vocabulary, without padding.

    Args:
        model: the model that reads it.
        sentences: B.
        source: S, end-of-sentence included.
        target: T, end-of-sentence included.
        device: where the batch is put.
    """
    ids = torch.randint(FIXED_PIECES, model.embedding.num_embeddings, (sentences, source + target))
    ids[:, source - 1] = ids[:, -1] = EOS
    first = torch.full((sentences, 1), BOS)
    lengths = torch.full((sentences,), source)
    return ids[:, :source].to(device), lengths.to(device), torch.cat([first, ids[:, source:]], 1).to(device)


def make_training_step(
    model: Seq2Seq | PlainLoop, precision: Precision = "32-true", loss: LossFunction | None = None
) -> Callable[[RandomBatch], None]:
    """Return a function that takes one training step on a batch: forward, backward, clipping and Adam.

    Args:
        model: the model that learns.
        precision: as Lightning names it.
        loss: another way to compute `model.loss`, such as a CUDA graph.
    """
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    compute_loss = loss or model.loss

    def step(batch: RandomBatch) -> None:
        source, lengths, target = batch
        optimizer.zero_grad()
        with _computing(precision, model, source):
            mean = compute_loss(source, lengths, target).smoothed / (target.numel() - len(target))
        mean.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()

    return step


def make_search(settings: BenchSettings, model: Seq2Seq, beam: int) -> Callable[[RandomBatch], None]:
    """Return a function that decodes the sources of a batch, to TARGET_LENGTH pieces at most; set the model to eval.

    Args:
        settings: conf/bench.yaml.
        model: the model that decodes.
        beam: width of the search.
    """
    model.eval()
    base = compose_settings(settings.overrides)["search"]
    options = build(SearchSettings, base | {"beam": beam, "output_most": TARGET_LENGTH}, "search")

    def step(batch: RandomBatch) -> None:
        source, lengths, _ = batch
        search(model, source, lengths, options)

    return step


def make_bare_step(bare: BareCalls, precision: Precision) -> Callable[[RandomBatch], None]:
    """Return a function that goes forward and backward through the bare library calls, and does nothing else."""

    def step(batch: RandomBatch) -> None:
        source, _, target = batch
        bare.zero_grad()
        with _computing(precision, bare, source):
            logits = bare(source, target[:, :-1])
        logits.sum().backward()

    return step


def _computing(precision: Precision, model: nn.Module, batch: Tensor) -> AbstractContextManager[object]:
    """Return the context of a forward pass, as a training has it; autocast is as Lightning creates it."""
    if precision == "bf16-mixed" and batch.device.type == "cpu" and isinstance(model, Seq2Seq):
        return in_bfloat16(model)
    return torch.autocast(batch.device.type, torch.bfloat16, enabled=precision == "bf16-mixed", cache_enabled=False)


def record_step(step: Callable[[], None]) -> Callable[[], None]:
    """Record a step on a GPU as a CUDA graph, and return a function that replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    # The first call allocates what later calls reuse. torch's notes on CUDA graphs ask for it on a side stream.
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    torch.clear_autocast_cache()
    with torch.cuda.graph(graph, stream=torch.cuda.Stream()):  # For the reason, see GraphedLoss.
        step()
    torch.clear_autocast_cache()
    return graph.replay


def operations_per_token(settings: BenchSettings, variant: str, size: int) -> float:
    """Return the operations of a training step's matrix products for each target token."""
    model = build_variant(settings, variant, size)
    step = functools.partial(make_training_step(model), random_batch(model))
    return count_operations(step) / (BATCH_SENTENCES * TARGET_LENGTH)
