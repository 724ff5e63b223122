"""A training step's passes forward and backward as a CUDA graph: one launch in place of one for every small operation.

A decoder that steps launches some forty small kernels a target position, and a GPU does each of them faster than
Python asks for the next. A graph holds them all. It is of one shape: batches are padded to a few shapes, each of which
is recorded when it is seen for the second time, and replayed from then on.

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
from hourglass.models.seq2seq import Seq2Seq, TokenLoss

# What sentences, source and target positions of a batch are padded to a multiple of: a step of the decoder is dear, a
# row of a step is nearly free.
ROWS, SOURCE, TARGET = 8, 8, 2


# Graphs that are kept, those used last. All share one pool of activations; each has some megabytes of the driver's.
MOST = 500


class _Recorded(NamedTuple):
    graph: torch.cuda.CUDAGraph
    inputs: tuple[Tensor, ...]  # Where the graph reads: source, lengths and target, as in `Seq2Seq.loss`.


class GraphedLoss:
    """`Seq2Seq.loss`, for the training of one model on one GPU.

    The loss and its gradients are those of the plain call, but that dropout draws for what is padded, too. The passes
    forward and backward are one graph, so that activations never outlive a call; the gradients wait for `backward` in
    memory that all graphs share, and so a loss has to go backward before the next is asked for.

    Args:
        model: on a GPU, where it stays; its parameters may change in place only, as optimizers change them.
        smoothing: see `Seq2Seq.loss`.
        step_loop: likewise.
        most: graphs that are kept.
    """

    def __init__(self, model: Seq2Seq, smoothing: float = 0.0, *, step_loop: bool = False, most: int = MOST):
        self.model, self.smoothing, self.step_loop, self.most = model, smoothing, step_loop, most
        self.parameters: list[nn.Parameter] = []  # Those that the loss hangs on, found at the first recording.
        self.gradients: list[Tensor] = []  # Theirs, of the last call.
        self.losses = next(model.parameters()).new_zeros(2)  # Of the last call: smoothed, nll.
        self.calls = 0
        self._graphs: OrderedDict[tuple[int, ...], _Recorded | None] = OrderedDict()  # By shape; None: seen once.
        self._pool = torch.cuda.graph_pool_handle()
        # Its own: products have a workspace a stream, which may go with the last graph that was recorded there.
        self._stream = torch.cuda.Stream()

    def __call__(self, source: Tensor, lengths: Tensor, target: Tensor) -> TokenLoss:
        """Return the loss of target [B, T+1] after source [B, S] of `lengths` [B]; see `Seq2Seq.loss`.

        Raises:
            UserError: a step of the model cannot be recorded.
        """
        longest = self.model.decoder.attention.longest_source
        source, lengths, target = pad_to_shape(source, lengths, target, longest)
        shape = (*source.shape, target.shape[1])
        if shape not in self._graphs:
            self._graphs[shape] = None
            if len(self._graphs) > self.most:
                self._graphs.popitem(last=False)
            return self._loss(source, lengths, target)
        recorded = self._graphs[shape] or self._record(source, lengths, target)
        self._graphs[shape] = recorded
        self._graphs.move_to_end(shape)
        for place, given in zip(recorded.inputs, (source, lengths, target), strict=True):
            place.copy_(given)
        smoothed, nll = _Replay.apply(self, recorded.graph, *self.parameters)
        return TokenLoss(smoothed, nll)

    def _loss(self, source: Tensor, lengths: Tensor, target: Tensor) -> TokenLoss:
        return self.model.loss(source, lengths, target, self.smoothing, step_loop=self.step_loop)

    def _record(self, *batch: Tensor) -> _Recorded:
        """Record both passes over a batch of this shape; nothing is computed by that."""
        inputs = tuple(one.clone() for one in batch)
        graph = torch.cuda.CUDAGraph()
        if not self.parameters:
            self._find_parameters(inputs)
        # Weights that autocast has cast outside would be read by the graph for ever; those cast inside stay inside, and
        # are cast once for all steps of the decoder.
        torch.clear_autocast_cache()
        halved = torch.is_autocast_enabled("cuda")
        try:
            with other_leaves(self.model) as leaves, torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), enabled=halved, cache_enabled=True):
                    loss = self._loss(*inputs)
                found = torch.autograd.grad(loss.smoothed, [leaves[parameter] for parameter in self.parameters])
                torch._foreach_copy_(self.gradients, found)
                self.losses.copy_(torch.stack([loss.smoothed.detach(), loss.nll.detach()]))
        except RuntimeError as error:
            # The end of a recording that has failed says only that it has: what failed comes before.
            cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
            if isinstance(cause, torch.OutOfMemoryError) or "out of memory" in str(cause):
                raise cause from None
            raise UserError(
                f"trainer.cuda_graphs=true: a step of this model cannot be recorded ({str(cause).splitlines()[0]}), as "
                "a step may not read a number from the GPU, nor put one there: set trainer.cuda_graphs=false"
            ) from error
        torch.clear_autocast_cache()
        return _Recorded(graph, inputs)

    def _find_parameters(self, inputs: tuple[Tensor, ...]) -> None:
        """See on the plain path which parameters have a gradient (an encoder's summary that nobody reads has none)."""
        everything = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        random = torch.cuda.get_rng_state(self.losses.device)
        found = torch.autograd.grad(self._loss(*inputs).smoothed, everything, allow_unused=True)
        torch.cuda.set_rng_state(random, self.losses.device)
        self.parameters = [one for one, gradient in zip(everything, found, strict=True) if gradient is not None]
        self.gradients = [torch.zeros_like(parameter) for parameter in self.parameters]


def pad_to_shape(
    source: Tensor, lengths: Tensor, target: Tensor, longest_source: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Pad a batch to one of few shapes, which leaves its loss as it is.

    Args:
        source: ids [B, S].
        lengths: [B].
        target: ids [B, T+1].
        longest_source: what S may not be padded beyond.

    Returns:
        the same with more positions, and more sentences: an end-of-sentence each, whose target is nothing.
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
    """Let the model read its parameters' memory as leaves of another autograd graph, which are handed out.

    Autograd binds a leaf to the stream of its use for as long as any graph of it lives (a loss that somebody keeps),
    and a recording has a stream of its own. (`torch.func.functional_call` does not put back what a module that stands
    in two places, as joint embeddings do, had.)
    """
    leaves = {one: one.detach().requires_grad_(one.requires_grad) for one in model.parameters()}
    places = [module._parameters for module in model.modules()]
    before = [dict(place) for place in places]
    try:
        for place in places:
            place.update({name: leaves[one] for name, one in place.items() if one is not None})  # type: ignore[misc]
        yield leaves
    finally:
        for place, old in zip(places, before, strict=True):
            place.update(old)


class _Replay(torch.autograd.Function):
    """Forward replays both passes; backward hands out the gradients that they have left."""

    @staticmethod
    def forward(ctx: Any, owner: GraphedLoss, graph: torch.cuda.CUDAGraph, *_: Tensor) -> tuple[Tensor, Tensor]:
        graph.replay()
        owner.calls += 1
        ctx.owner, ctx.call = owner, owner.calls
        smoothed, nll = (one.clone() for one in owner.losses)
        ctx.mark_non_differentiable(nll)
        return smoothed, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.call != ctx.owner.calls:
            raise UserError("a loss of a CUDA graph went backward after the next was computed")
        return None, None, *torch._foreach_mul(ctx.owner.gradients, gradients[0])
