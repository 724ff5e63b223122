"""Precisions of a search: float32, bfloat16, or a decoder in 8-bit integers; and what each of them needs."""

import copy
from collections.abc import Sequence
from typing import Literal

import torch

from hourglass.errors import UserError
from hourglass.models.cells import Cell
from hourglass.models.encoder import Encoder
from hourglass.models.quantised import QuantisedLinear, check_quantised_form, quantise_decoder
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.machine import BFLOAT16_INSTRUCTIONS, bfloat16_instructions, describe_processor

# 32: float32, as trained. "bf16": weights, states and products in bfloat16, softmax and scores in float32. "int8": the
# decoder as models/quantised.py says.
SearchPrecision = Literal[32, "bf16", "int8"]
PRECISIONS: tuple[SearchPrecision, ...] = (32, "bf16", "int8")


def check_machine(precision: SearchPrecision, device: torch.device) -> None:
    """Check that a device computes in a precision, and not more slowly than in float32.

    Raises:
        UserError: it does not; the message says what it lacks.
    """
    if precision == "bf16" and device.type == "cpu" and not bfloat16_instructions():
        raise UserError(
            f"search.precision=bf16: this CPU, {describe_processor()}, has neither "
            f"{' nor '.join(BFLOAT16_INSTRUCTIONS)}, and would be slower than in float32: set search.precision=32 or "
            "search.precision=int8"
        )
    if precision == "int8" and device.type != "cpu":
        raise UserError(
            f"search.precision=int8 is for CPUs, and this search runs on {device.type}: set search.precision=bf16, or "
            "accelerator=cpu"
        )
    if precision == "int8" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        raise UserError(
            f"search.precision=int8: this CPU, {describe_processor()}, has neither avx2 nor avx512: set "
            "search.precision=32"
        )


def check_model(precision: SearchPrecision, encoder: Encoder, cell: type[Cell]) -> None:
    """Check that a model can be converted to a precision.

    Args:
        precision: of the search.
        encoder: the model's.
        cell: that of the decoder.

    Raises:
        UserError: it cannot.
    """
    if precision == "int8":
        check_quantised_form(cell)
    if precision == "bf16" and encoder.summary_bits:
        raise UserError(
            f"search.precision=bf16 rounds the summary to 8 bits, and encoder.summary_bits={encoder.summary_bits} "
            "says how many it has: set search.precision=32 or search.precision=int8"
        )


def precision_of(model: Seq2Seq) -> SearchPrecision:
    """Return the precision that a model is in; a model in float64 counts as 32."""
    if isinstance(model.output, QuantisedLinear):
        return "int8"
    return "bf16" if model.embedding.weight.dtype == torch.bfloat16 else 32


def check_precision(models: Sequence[Seq2Seq], precision: SearchPrecision) -> None:
    """Check that models were converted to the precision of a search.

    Raises:
        ValueError: a caller has not done that, and would report one precision as another.
    """
    for model in models:
        if precision_of(model) != precision:
            raise ValueError(f"a model in {precision_of(model)}, and search.precision={precision}")


def in_precision(model: Seq2Seq, precision: SearchPrecision) -> Seq2Seq:
    """Return a model in a precision, for search alone: the model itself if it is in it, or a copy in evaluation mode.

    Args:
        model: in float32 or in this precision.
        precision: of the search.

    Raises:
        UserError: the model, or the machine for the device that it is on, cannot do this.
    """
    if precision == precision_of(model):
        return model
    check_machine(precision, model.embedding.weight.device)
    check_model(precision, model.encoder, type(model.decoder.cell))
    return convert(model, precision)


def convert(model: Seq2Seq, precision: SearchPrecision) -> Seq2Seq:
    """Return a copy of a float32 model in another precision, on whatever machine; see `in_precision`."""
    if precision_of(model) != 32 or precision == 32:
        raise ValueError(f"a model in {precision_of(model)} cannot be converted to {precision}")
    if precision == "int8":
        return quantise_decoder(model)
    return copy.deepcopy(model).to(torch.bfloat16).eval()


def all_in_precision(models: Sequence[Seq2Seq], precision: SearchPrecision) -> list[Seq2Seq]:
    """Return several models in a precision; see `in_precision`."""
    return [in_precision(model, precision) for model in models]
