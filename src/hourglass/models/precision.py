"""Mixed precision on CPUs: float32 weights, and for each training step one copy of them in bfloat16.

torch.autocast casts a weight at every call, in a decoder that loops over steps at every step: its cache keeps no part
of a weight, and Lightning switches it off. And it does not reach the library's recurrent layers.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def replaced_tensors(modules: Iterable[nn.Module], replacements: Mapping[Tensor, Tensor]) -> Iterator[None]:
    """Replace parameters and buffers of modules within this context.

    (`torch.func.functional_call` does not restore the parameters of a module that is registered in two places, as joint
    embeddings are.)

    Args:
        modules: have the tensors.
        replacements: by the tensor the one in its place; others stay.
    """
    kept = list(modules)
    registries: list[dict[str, Any]] = [each for module in kept for each in (module._parameters, module._buffers)]
    originals = [dict(registry) for registry in registries]
    # The library's recurrent layers read their weights from a list of their own.
    lists = [(module, module._flat_weights) for module in kept if isinstance(module, nn.RNNBase)]
    try:
        for registry in registries:
            registry.update({name: replacements.get(old, old) for name, old in registry.items() if old is not None})
        for module, weights in lists:
            module._flat_weights = [old if old is None else replacements.get(old, old) for old in weights]
        yield
    finally:
        for registry, original in zip(registries, originals, strict=True):
            registry.update(original)
        for module, weights in lists:
            module._flat_weights = weights


@contextmanager
def in_bfloat16(model: nn.Module) -> Iterator[None]:
    """Have a model compute in bfloat16 within this context. Gradients reach its own weights, in their type.

    Each weight is cast once, however often it is read. Embeddings are looked up, and layer norms are scaled, in the
    type of the weights: the gradient of an embedding is a sum over all places of a word, and in bfloat16 such a sum
    loses small terms.

    Args:
        model: whose weights are not in bfloat16. Its own weights are back in place before the backward pass.
    """
    modules = [module for module in model.modules() if not isinstance(module, nn.Embedding | nn.LayerNorm)]
    casts: dict[Tensor, Tensor] = {}
    for module in modules:
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor.is_floating_point() and tensor not in casts:
                casts[tensor] = tensor.to(torch.bfloat16)
    hooks = [
        module.register_forward_hook(_cast_output) for module in model.modules() if isinstance(module, nn.Embedding)
    ]
    try:
        with replaced_tensors(modules, casts):
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _cast_output(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """Return the output of a module in bfloat16; a forward hook."""
    return output.to(torch.bfloat16)
