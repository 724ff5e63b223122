"""Build a model from a config. The sizes of the vocabularies are given at run time."""

import torch
from torch import nn

from hourglass.config.options import Config, build
from hourglass.data.pieces import PAD
from hourglass.models.attention import Sizes
from hourglass.models.checks import (
    check_copy,
    check_features_read,
    check_patches,
    check_readout,
    check_start,
    check_ties,
    without_unread_summary,
)
from hourglass.models.decoder import Decoder
from hourglass.models.inputs import FeatureProjection, PatchConvolution, SourceInput
from hourglass.models.seq2seq import Seq2Seq
from hourglass.models.settings import read_model_settings


def build_model(config: Config, source_size: int, target_size: int, *, joint: bool) -> Seq2Seq:
    """Build a model.

    Args:
        config: the settings, with the groups encoder, attention and decoder. With `frozen_encoder`, the source
            embedding is not tied to others. With `data.feature_size`, the source is features of this width, which have
            no embedding: decoder.tie=all is as output then. With `data.patch`, they are patches of a picture.
        source_size: pieces of the source vocabulary.
        target_size: pieces of the target vocabulary.
        joint: whether both sides share one vocabulary.

    Raises:
        UserError: an option is unknown, outside its choices, or contradicts another.
    """
    settings = read_model_settings(config)
    feature_size = config.get("data", {}).get("feature_size")
    if feature_size is None:
        check_ties(settings, joint=joint)
    else:
        check_features_read(settings)
    patch = config.get("data", {}).get("patch")
    check_patches(settings.encoder.patches, feature_size, patch)
    settings = without_unread_summary(settings)
    decoder = settings.decoder
    source_embedding: SourceInput
    embedding = source_embedding = _embedding(target_size, decoder.embedding_size)
    if feature_size is not None:
        width, convolved = settings.encoder.embedding_size, settings.encoder.patches == "convolved"
        source_embedding = PatchConvolution(patch, width) if convolved else FeatureProjection(feature_size, width)
    # The source embedding of a frozen encoder does not move, and that of the target does.
    elif decoder.tie != "all" or config.get("frozen_encoder") is not None:
        source_embedding = _embedding(source_size, settings.encoder.embedding_size)
    encoder = settings.encoder_class(settings.encoder, source_embedding, final_states=decoder.start == "pass")
    sizes = Sizes(decoder.hidden_size, encoder.memory_size, encoder.summary_size)
    attention = build(settings.attention_class, settings.attention, "attention", sizes=sizes)
    check_start(encoder, settings)
    check_readout(attention, decoder)
    check_copy(attention, decoder, joint=joint)
    return Seq2Seq(encoder, Decoder(decoder, attention, encoder.summary_size), embedding)


def _embedding(size: int, width: int) -> nn.Embedding:
    """Return an embedding whose rows have length about 1, so that a tied output layer starts near uniform."""
    embedding = nn.Embedding(size, width, padding_idx=PAD)
    with torch.no_grad():
        embedding.weight.normal_(0, width**-0.5)
        embedding.weight[PAD].zero_()
    return embedding
