"""From a resolved config to objects. Sizes are given at run time; contradictory options are refused by name."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import nn

from hourglass.config.compose import Config
from hourglass.config.options import build, check, choose
from hourglass.data.pieces import PAD
from hourglass.errors import UserError
from hourglass.models.attention import ATTENTIONS, FixedContext
from hourglass.models.decoder import Decoder
from hourglass.models.encoder import ENCODERS, Dropout, RecurrentEncoder
from hourglass.models.recurrent import Cell, parts_of
from hourglass.models.seq2seq import Seq2Seq

Tie = Literal["none", "output", "all"]


Order = Literal["previous", "current"]


def build_model(config: Config, source_size: int, target_size: int, *, joint: bool) -> Seq2Seq:
    """Put a model together.

    Args:
        config: groups encoder, attention, decoder.
        source_size: pieces of the source vocabulary.
        target_size: pieces of the target vocabulary.
        joint: whether both sides share one vocabulary.

    Raises:
        UserError: an option is unknown, outside its choices, or contradicts another.
    """
    encoder_options, attention_options = dict(config["encoder"]), dict(config["attention"])
    decoder_options = dict(config["decoder"])
    encoder_kind = choose(ENCODERS, encoder_options.pop("name", None), "encoder.name")
    attention_kind = choose(ATTENTIONS, attention_options.pop("name", None), "attention.name")
    # What decoder.query is where nothing else sets it; it stands there because the published order goes with the score.
    check(Order, attention_options.pop("query", None), "attention.query")
    embedding_size = check(PositiveInt, decoder_options.pop("embedding_size", None), "decoder.embedding_size")
    source_embedding_size = check(PositiveInt, encoder_options.pop("embedding_size", None), "encoder.embedding_size")
    readout_size = check(PositiveInt, decoder_options.get("readout_size"), "decoder.readout_size")
    tie: Tie = check(Tie, decoder_options.pop("tie", None), "decoder.tie")
    dropout = check(Dropout, decoder_options.get("dropout"), "decoder.dropout")

    # Read once, for the first weights: see pretrained.py.
    check(str | None, decoder_options.pop("embedding_file", False), "decoder.embedding_file")
    source_file = None
    if encoder_kind is RecurrentEncoder:
        source_file = check(str | None, encoder_options.pop("embedding_file", False), "encoder.embedding_file")

    if tie == "all" and source_file is not None:
        raise UserError(
            "encoder.embedding_file: with decoder.tie=all both sides have one matrix: set decoder.embedding_file "
            "alone, or decoder.tie=output"
        )
    if tie != "none" and readout_size != embedding_size:
        raise UserError(
            f"decoder.tie={tie} needs decoder.readout_size equal to decoder.embedding_size ({embedding_size}): "
            f"set decoder.readout_size={embedding_size}, or decoder.tie=none"
        )
    if tie == "all" and not joint:
        raise UserError("decoder.tie=all needs one vocabulary: set tokenizer.joint=true, or decoder.tie=output")
    if tie == "all" and source_embedding_size != embedding_size:
        raise UserError(
            f"decoder.tie=all needs encoder.embedding_size={source_embedding_size} equal to "
            f"decoder.embedding_size={embedding_size}: make them equal, or set decoder.tie=output"
        )
    # With a zero start, only the fixed context reads the summary: where nothing does, there is none.
    if decoder_options.get("start") == "zero" and attention_kind is not FixedContext:
        if attention_kind.name == "none" and encoder_kind.name != "blind":
            raise UserError(
                "attention=none with decoder.start=zero gives the decoder nothing of the source: set "
                "decoder.start=dense, or say so with encoder=blind"
            )
        encoder_options["summary_size"] = 0
    elif encoder_options.get("summary_size") == 0:
        reader = "attention=fixed" if attention_kind is FixedContext else "decoder.start=dense"
        raise UserError(
            f"encoder.summary_size=0 leaves {reader} nothing to read: set encoder.summary_size=1 or more, "
            "or, with an attention that reads states, decoder.start=zero"
        )

    embedding = _embedding(target_size, embedding_size)
    source_embedding = embedding if tie == "all" else _embedding(source_size, source_embedding_size)
    encoder = build(
        encoder_kind,
        encoder_options,
        "encoder",
        embedding=source_embedding,
        final_states=decoder_options.get("start") == "pass",
    )
    hidden_size = check(PositiveInt, decoder_options.get("hidden_size"), "decoder.hidden_size")
    sizes = {"memory_size": encoder.memory_size, "summary_size": encoder.summary_size}
    attention = build(attention_kind, attention_options, "attention", query_size=hidden_size, **sizes)
    if decoder_options.get("start") == "pass" and isinstance(encoder, RecurrentEncoder):
        cell: Cell = check(Cell, decoder_options.get("cell"), "decoder.cell")
        layers = check(PositiveInt, decoder_options.get("layers"), "decoder.layers")
        wanted, found = (layers, parts_of(cell), hidden_size), encoder.final_shape
        if found != wanted:
            raise UserError(
                "decoder.start=pass hands each layer of the decoder the final state of the encoder's: "
                f"the encoder has {_describe(found)}, the decoder {_describe(wanted)}: make them equal, or set "
                "decoder.start=dense"
            )
    decoder = build(
        Decoder,
        decoder_options,
        "decoder",
        attention=attention,
        embedding_size=embedding_size,
        summary_size=encoder.summary_size,
    )
    return Seq2Seq(encoder, decoder, embedding, dropout, tie_output=tie != "none")


def _describe(shape: tuple[int, int, int]) -> str:
    layers, parts, width = shape
    return f"{layers} of {'h and c' if parts == 2 else 'h'}, each {width} wide"


def _embedding(size: int, width: int) -> nn.Embedding:
    """Return an embedding whose rows have length about 1, so that a tied output layer starts near uniform."""
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    with torch.no_grad():
        embedding.weight.normal_(0, width**-0.5)
        embedding.weight[PAD].zero_()
    return embedding
