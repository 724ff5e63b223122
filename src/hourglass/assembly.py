"""From a resolved config to objects. Sizes are given at run time; contradictory options are refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from hourglass.attention import ATTENTIONS, FixedContext
from hourglass.decoder import Decoder
from hourglass.encoder import ENCODERS, Dropout
from hourglass.errors import UserError
from hourglass.model import Seq2Seq
from hourglass.options import build, check, choose
from hourglass.search import SearchSettings
from hourglass.tokenizer import PAD, TokenizerSettings, Vocabularies
from hourglass.training import OPTIMIZERS, AdamSettings, SGDSettings, TrainerSettings

Config = Mapping[str, Any]
Tie = Literal["none", "output", "all"]


@dataclass(frozen=True)
class Settings:
    """The groups of a config that are no modules, checked."""

    tokenizer: TokenizerSettings
    optimizer: AdamSettings | SGDSettings
    trainer: TrainerSettings
    search: SearchSettings


def check_settings(config: Config) -> Settings:
    """Check every group but `data` and `logger`, which check themselves, before anything is read or written.

    Raises:
        UserError: an option is unknown, outside its choices, or contradicts another.
    """
    optimizer = dict(config["optimizer"])
    kind = choose(OPTIMIZERS, optimizer.pop("name"), "optimizer.name")
    settings = Settings(
        build(TokenizerSettings, config["tokenizer"], "tokenizer"),
        build(kind, optimizer, "optimizer"),
        build(TrainerSettings, config["trainer"], "trainer"),
        build(SearchSettings, config["search"], "search"),
    )
    trainer = settings.trainer
    if trainer.strategy == "auto" and trainer.devices * trainer.nodes > 1:
        raise UserError(
            f"trainer.devices={trainer.devices} needs trainer.strategy=ddp: use trainer=ddp, or trainer.devices=1"
        )
    check(int, config["seed"], "seed")
    # A model without memory behind it: every refusal of a constructor, before the corpus is touched.
    with torch.device("meta"):
        build_model(config, 8, 8, joint=settings.tokenizer.joint)
    return settings


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
    encoder_kind = choose(ENCODERS, encoder_options.pop("name"), "encoder.name")
    attention_kind = choose(ATTENTIONS, attention_options.pop("name"), "attention.name")
    attention_options.pop("query")  # The decoder's; it stands there because the published order goes with the score.
    embedding_size = _width(decoder_options.pop("embedding_size"), "decoder.embedding_size")
    source_embedding_size = _width(encoder_options.pop("embedding_size"), "encoder.embedding_size")
    tie: Tie = check(Tie, decoder_options.pop("tie"), "decoder.tie")
    dropout = check(Dropout, decoder_options.get("dropout"), "decoder.dropout")

    if tie != "none" and decoder_options.get("readout_size") != embedding_size:
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

    embedding = _embedding(target_size, embedding_size)
    source_embedding = embedding if tie == "all" else _embedding(source_size, source_embedding_size)
    encoder = build(encoder_kind, encoder_options, "encoder", embedding=source_embedding)
    hidden_size = _width(decoder_options.get("hidden_size"), "decoder.hidden_size")
    sizes = {"memory_size": encoder.memory_size, "summary_size": encoder.summary_size}
    attention = build(attention_kind, attention_options, "attention", query_size=hidden_size, **sizes)
    decoder = build(
        Decoder,
        decoder_options,
        "decoder",
        attention=attention,
        embedding_size=embedding_size,
        summary_size=encoder.summary_size,
    )
    return Seq2Seq(encoder, decoder, embedding, dropout, tie_output=tie != "none")


def _width(value: Any, option: str) -> int:
    width: int = check(int, value, option)
    if width < 1:
        raise UserError(f"{option}={width}: a width is at least 1")
    return width


def _embedding(size: int, width: int) -> nn.Embedding:
    """Return an embedding whose rows have length about 1, so that a tied output layer starts near uniform."""
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    with torch.no_grad():
        embedding.weight.normal_(0, width**-0.5)
        embedding.weight[PAD].zero_()
    return embedding


@dataclass(frozen=True)
class Trained:
    """What a checkpoint holds."""

    model: Seq2Seq
    vocabularies: Vocabularies
    config: Config
    step: int


def load_checkpoint(path: Path) -> Trained:
    """Build the model of a checkpoint and fill in its weights, in evaluation mode, on the CPU.

    Only tensors and plain values are read: a checkpoint cannot run code.

    Raises:
        UserError: the file is missing, cut short or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        own = content["hourglass"]
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: not a whole checkpoint of hourglass ({reason[:120]})") from None
    vocabularies = Vocabularies.from_state_dict(own["vocabularies"])
    model = build_model(own["config"], vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint)
    weights = {name.removeprefix("model."): weight for name, weight in content["state_dict"].items()}
    try:
        model.load_state_dict(weights)
    except RuntimeError:
        raise UserError(f"{path}: its weights do not fit its own config and vocabularies; it was altered") from None
    return Trained(model.eval(), vocabularies, own["config"], content["global_step"])
