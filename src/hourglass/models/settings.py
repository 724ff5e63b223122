"""The settings of a model: the config groups encoder, attention and decoder, each checked against its options."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hourglass.config.options import Config, build, check, choose
from hourglass.models.attention import ATTENTIONS, Attention
from hourglass.models.decoder import DecoderSettings
from hourglass.models.encoder import ENCODERS, Encoder, EncoderSettings


@dataclass(frozen=True)
class ModelSettings:
    """What a model is made of, without the sizes of its vocabularies.

    Attributes:
        encoder_class: the class that encoder.name chooses.
        encoder: its settings.
        attention_class: the class that attention.name chooses.
        attention: the options of its constructor, which checks them.
        decoder: the decoder's settings.
    """

    encoder_class: type[Encoder]
    encoder: EncoderSettings
    attention_class: type[Attention]
    attention: Mapping[str, Any]
    decoder: DecoderSettings


def read_model_settings(config: Config) -> ModelSettings:
    """Read the groups encoder, attention and decoder of a config.

    Raises:
        UserError: an option is unknown, missing or outside its choices, or contradicts another of its group.
    """
    encoder, attention = dict(config["encoder"]), dict(config["attention"])
    encoder_class = choose(ENCODERS, encoder.pop("name", None), "encoder.name")
    attention_class = choose(ATTENTIONS, attention.pop("name", None), "attention.name")
    # conf/attention has it because the published order of a step belongs to the score; decoder.query refers to it.
    check(Literal["previous", "current"], attention.pop("query", None), "attention.query")
    return ModelSettings(
        encoder_class,
        build(encoder_class.settings_class, encoder, "encoder"),
        attention_class,
        attention,
        build(DecoderSettings, config["decoder"], "decoder"),
    )
