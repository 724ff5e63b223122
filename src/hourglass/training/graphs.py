"""Forward and backward pass of a training step as a CUDA graph: one launch instead of one for each small operation.

A decoder that loops over steps launches some forty small kernels for each target position, and a GPU runs each of them
faster than Python launches the next. A graph launches them all at once. A graph has one shape. So batches are padded to
a few shapes; each shape is recorded when it occurs for the second time, and replayed from then on.

Shapes: B batch, S source length, T target length.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.errors import UserError
from hourglass.models.precision import replaced_tensors
from hourglass.models.seq2seq import Seq2Seq, TokenLoss

# Sentences, source positions and target positions of a batch are padded to multiples of these. A target position costs
# a step of the decoder; a sentence is one more row in each step, which costs nearly nothing.
ROWS, SOURCE, TARGET = 8, 8, 2


# Number of graphs that are kept: the most recently used ones. All share one memory pool for activations; each takes
# some megabytes of the driver's memory.
MOST = 500


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]  # The graph reads from them: source, lengths, target (and prefix lengths) of the loss.


class GraphedLoss:
    """`Seq2Seq.loss` by CUDA graphs, for the training of one model on one GPU.

    Loss and gradients are those of `Seq2Seq.loss`, except that dropout draws random numbers for padding too. One graph
    holds the forward and the backward pass, so that no activations stay allocated between calls. All graphs write
    gradients to the same memory, where they wait for `backward`. So call `backward` on a loss before you compute the
    next loss.

    Args:
        model: a model on a GPU, which stays there; its parameters may change in place only, as optimizers change them.
        smoothing: see `Seq2Seq.loss`.
        step_loop: see `Seq2Seq.loss`.
        most: number of graphs to keep.
    """

    def __init__(self, model: Seq2Seq, smoothing: float = 0.0, *, step_loop: bool = False, most: int = MOST):
        self.model, self.smoothing, self.step_loop, self.most = model, smoothing, step_loop, most
        self.parameters: list[nn.Parameter] = []  # Those with a gradient; known from the first recording on.
        self.gradients: list[Tensor] = []  # Of these parameters, from the last call.
        self.losses = next(model.parameters()).new_zeros(2)  # From the last call: smoothed, nll.
        self.calls = 0
        self._graphs: OrderedDict[tuple[int, ...], _Recorded | None] = OrderedDict()  # By shape; None: occurred once.
        self._pool = torch.cuda.graph_pool_handle()
        # A stream of its own: matrix products have a workspace for each stream, which may be freed with the last graph
        # recorded on that stream.
        self._stream = torch.cuda.Stream()

    def __call__(
        self, source: Tensor, lengths: Tensor, target: Tensor, prefix_lengths: Tensor | None = None
    ) -> TokenLoss:
        """Return the loss of target [B, T+1] after source [B, S] of `lengths` [B]; see `Seq2Seq.loss`.

        Either all calls have the lengths of prefixes [B], or none has.

        Raises:
            UserError: the model's step cannot be recorded as a graph.
        """
        longest = self.model.longest_source
        batch: tuple[Tensor, ...]
        batch = pad_to_shape(source, lengths, target, longest)
        shape = (*batch[0].shape, batch[2].shape[1])
        if prefix_lengths is not None:
            batch = (*batch, F.pad(prefix_lengths, (0, shape[0] - len(prefix_lengths))))
        if shape not in self._graphs:
            self._graphs[shape] = None
            if len(self._graphs) > self.most:
                self._graphs.popitem(last=False)
            return self._loss(*batch)
        recorded = self._graphs[shape] or self._record(*batch)
        self._graphs[shape] = recorded
        self._graphs.move_to_end(shape)
        for input_, values in zip(recorded.inputs, batch, strict=True):
            input_.copy_(values)
        smoothed, nll = _Replay.apply(self, recorded.graph, *self.parameters)
        return TokenLoss(smoothed, nll)

    def _loss(self, source: Tensor, lengths: Tensor, target: Tensor, prefix_lengths: Tensor | None = None) -> TokenLoss:
        inputs = source, lengths, target, self.smoothing
        return self.model.loss(*inputs, step_loop=self.step_loop, prefix_lengths=prefix_lengths)

    def _record(self, *batch: Tensor) -> _Recorded:
        """Record both passes over a batch of this shape. Recording computes nothing."""
        inputs = tuple(tensor.clone() for tensor in batch)
        graph = torch.cuda.CUDAGraph()
        if not self.parameters:
            self._find_parameters(inputs)
        # A graph that read a weight cast before the recording would read that same copy in every replay. So the cache
        # of casts starts empty. A weight cast while recording is cast anew in each replay, once for all decoder steps.
        torch.clear_autocast_cache()
        autocast = torch.is_autocast_enabled("cuda")
        try:
            with other_leaves(self.model) as leaves, torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled=autocast, cache_enabled=True):
                    loss = self._loss(*inputs)
                gradients = torch.autograd.grad(loss.smoothed, [leaves[parameter] for parameter in self.parameters])
                torch._foreach_copy_(self.gradients, gradients)
                self.losses.copy_(torch.stack([loss.smoothed.detach(), loss.nll.detach()]))
        except RuntimeError as error:
            # When a recording fails, its end raises a general error; the error before it names the cause.
            cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if isinstance(cause, torch.OutOfMemoryError) or "out of memory" in str(cause):
                raise cause from None
            raise UserError(
                "trainer.cuda_graphs=true: a training step of this model cannot be recorded as a CUDA graph "
                f"({str(cause).splitlines()[0]}); a recorded step may not copy values between CPU and GPU: set "
                "trainer.cuda_graphs=false"
            ) from error
        torch.clear_autocast_cache()
        return _Recorded(graph, inputs)

    def _find_parameters(self, inputs: tuple[Tensor, ...]) -> None:
        """Find the parameters that have a gradient (a summary that no layer reads has none), by a plain step."""
        trainable = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        random_state = torch.cuda.get_rng_state(self.losses.device)
        gradients = torch.autograd.grad(self._loss(*inputs).smoothed, trainable, allow_unused=True)
        torch.cuda.set_rng_state(random_state, self.losses.device)
        pairs = zip(trainable, gradients, strict=True)
        self.parameters = [parameter for parameter, gradient in pairs if gradient is not None]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]


def pad_to_shape(
    source: Tensor, lengths: Tensor, target: Tensor, longest_source: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pad a batch to one of few shapes. Its loss stays the same.

    Args:
        source: ids [B, S].
        lengths: [B].
        target: ids [B, T+1].
        longest_source: upper bound of the padded S; None: no bound.

    Returns:
        source, lengths and target with further positions and further sentences. A further sentence has end-of-sentence
        as its source and an empty target.
    """
    rows, more_rows, more_source = len(source), -len(source) % ROWS, -source.shape[1] % SOURCE
    if longest_source is not None:
        more_source = min(more_source, longest_source - source.shape[1])
    source = F.pad(source, (0, more_source, 0, more_rows), value=PAD)
    source[rows:, 0] = EOS
    target = F.pad(target, (0, (1 - target.shape[1]) % TARGET, 0, more_rows), value=PAD)
    target[rows:, 0] = BOS
    return source, F.pad(lengths, (0, more_rows), value=1), target


@contextmanager
def other_leaves(model: nn.Module) -> Iterator[dict[nn.Parameter, Tensor]]:
    """Replace the model's parameters, within this context, by other autograd leaves on the same memory.

    Autograd binds a leaf to the stream that used it, for as long as an autograd graph with this leaf is alive (that of
    a loss which the caller keeps). A recording has a stream of its own, so it needs other leaves.
    Yields:
        the leaf of each parameter.
    """
    leaves = {weight: weight.detach().requires_grad_(weight.requires_grad) for weight in model.parameters()}
    with replaced_tensors(model.modules(), leaves):  # type: ignore[arg-type]
        yield leaves


class _Replay(torch.autograd.Function):
    """The forward call replays both passes; the backward call returns the gradients that the replay has computed."""

    @staticmethod
    def forward(ctx: Any, owner: GraphedLoss, graph: torch.cuda.CUDAGraph, *_: Tensor) -> tuple[Tensor, Tensor]:
        graph.replay()
        owner.calls += 1
        ctx.owner, ctx.call = owner, owner.calls
        smoothed, nll = (loss.clone() for loss in owner.losses)
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.call != ctx.owner.calls:
            raise UserError("CUDA graphs: call backward on a loss before the next loss is computed")
        return None, None, *torch._foreach_mul(ctx.owner.gradients, gradients[0])
