"""Checks of a model's settings against each other: contradictions are refused by name, with the remedy.

What contradicts itself within one group is refused by the settings of that group.
"""

from collections.abc import Sequence
from dataclasses import replace

from hourglass.errors import UserError
from hourglass.models.attention import Attention, FixedContext, NoAttention
from hourglass.models.cells import CELLS
from hourglass.models.decoder import DecoderSettings
from hourglass.models.encoder import BlindEncoder, Encoder, RecurrentEncoder, RecurrentEncoderSettings
from hourglass.models.inputs import PatchReading
from hourglass.models.settings import ModelSettings


def check_ties(settings: ModelSettings, *, joint: bool) -> None:
    """Check that embeddings which are to be one matrix can be.

    Args:
        settings: of the model.
        joint: whether source and target share one vocabulary.

    Raises:
        UserError: they cannot.
    """
    encoder, decoder = settings.encoder, settings.decoder
    if decoder.tie != "all":
        return
    if getattr(encoder, "embedding_file", None) is not None:
        raise UserError(
            "encoder.embedding_file: with decoder.tie=all both sides have one matrix: set decoder.embedding_file "
            "alone, or decoder.tie=output"
        )
    if not joint:
        raise UserError("decoder.tie=all needs one vocabulary: set tokenizer.joint=true, or decoder.tie=output")
    if encoder.embedding_size != decoder.embedding_size:
        raise UserError(
            f"decoder.tie=all needs encoder.embedding_size={encoder.embedding_size} equal to "
            f"decoder.embedding_size={decoder.embedding_size}: make them equal, or set decoder.tie=output"
        )


def check_features_read(settings: ModelSettings) -> None:
    """Check that an encoder can read features.

    Raises:
        UserError: an option is one of texts.
    """
    encoder = settings.encoder
    if getattr(encoder, "embedding_file", None) is not None:
        raise UserError(
            "encoder.embedding_file: the corpus has features, which have no embedding: set encoder.embedding_file=null"
        )
    if getattr(encoder, "summary", None) == "last":
        raise UserError(
            "encoder.summary=last is the state of end-of-sentence, and the corpus has features, which have none: set "
            "encoder.summary=mean or encoder.summary=attention"
        )
    if settings.decoder.copy:
        raise UserError(
            "decoder.copy=true copies pieces of the source, and the corpus has features: set decoder.copy=false"
        )


def check_patches(patches: PatchReading, feature_size: int | None, patch: int | None) -> None:
    """Check that there are patches of a picture where they are to be convolved.

    Args:
        patches: encoder.patches.
        feature_size: numbers of a region; None: the corpus has texts.
        patch: pixels of a side of a patch; None: the features are something else.

    Raises:
        UserError: there are none.
    """
    if patches == "convolved" and (feature_size is None or patch is None):
        found = "texts" if feature_size is None else "features that are no pixels"
        raise UserError(
            f"encoder.patches=convolved reads patches of pictures, and the corpus has {found}: set "
            "encoder.patches=projected, or a corpus of pictures, data=shapes or data=pictures"
        )


def without_unread_summary(settings: ModelSettings) -> ModelSettings:
    """Return the settings with summary_size=0 where nothing reads the summary.

    With decoder.start=zero only the fixed context reads it.

    Raises:
        UserError: nothing of the source reaches the decoder, or something reads a summary of width 0.
    """
    fixed = issubclass(settings.attention_class, FixedContext)
    if settings.decoder.start == "zero" and not fixed:
        blind = issubclass(settings.encoder_class, BlindEncoder)
        if issubclass(settings.attention_class, NoAttention) and not blind:
            raise UserError(
                "attention=none with decoder.start=zero gives the decoder nothing of the source: set "
                "decoder.start=dense, or say so with encoder=blind"
            )
        return replace(settings, encoder=replace(settings.encoder, summary_size=0))
    if settings.encoder.summary_size == 0:
        reader = "attention=fixed" if fixed else "decoder.start=dense"
        raise UserError(
            f"encoder.summary_size=0 leaves {reader} nothing to read: set encoder.summary_size=1 or more, "
            "or, with an attention that reads states, decoder.start=zero"
        )
    return settings


def check_start(encoder: Encoder, settings: ModelSettings) -> None:
    """Check that decoder.start=pass can hand over the final states of the encoder.

    Raises:
        UserError: the final states do not have the shapes of the decoder's state, or the summary is something else.
    """
    decoder = settings.decoder
    if decoder.start != "pass":
        return
    if isinstance(encoder, RecurrentEncoder):
        assert isinstance(settings.encoder, RecurrentEncoderSettings)
        _check_final_states(encoder, settings.encoder, decoder)
    if encoder.summary_size != decoder.state_size:
        raise UserError(
            f"decoder.start=pass takes {decoder.state_size} numbers, the states of decoder.layers={decoder.layers}: "
            f"set encoder.summary_size={decoder.state_size}, not {encoder.summary_size}, or decoder.start=dense"
        )


def _check_final_states(
    encoder: RecurrentEncoder, settings: RecurrentEncoderSettings, decoder: DecoderSettings
) -> None:
    """Check the final states against the state of the decoder; all that contradicts it is refused at once."""
    contradictions = []
    if settings.summary_tanh:
        contradictions.append("encoder.summary_tanh=true changes it: set encoder.summary_tanh=false")
    names = CELLS[settings.cell].state_parts, CELLS[decoder.cell].state_parts
    shapes = encoder.final_shapes, (CELLS[decoder.cell].state_shapes(decoder.hidden_size),) * decoder.layers
    if shapes[0] != shapes[1] or names[0] != names[1]:
        given, needed = (_describe_states(*each) for each in zip(names, shapes, strict=True))
        contradictions.append(f"the encoder has {given}, the decoder {needed}: make them equal")
    sizes = list(dict.fromkeys((encoder.final_size, decoder.state_size)))
    if settings.summary_size not in sizes:
        wanted = " or ".join(f"encoder.summary_size={size}" for size in sizes)
        which = ", the numbers of the states that you choose" if len(sizes) > 1 else ""
        contradictions.append(f"set {wanted}, not {settings.summary_size}{which}")
    if contradictions:
        raise UserError(
            "decoder.start=pass hands each layer of the decoder the final state of the encoder's as it is: "
            f"{'; '.join(contradictions)}; or set decoder.start=dense"
        )


def _describe_states(parts: tuple[str, ...], layers: tuple[tuple[tuple[int, ...], ...], ...]) -> str:
    """Return the shapes of the states of all layers, which are alike, in words."""
    shapes = layers[0]
    widths = _listed(["x".join(map(str, shape)) for shape in shapes])
    size = f"each {shapes[0][0]} wide" if len(set(shapes)) == 1 and len(shapes[0]) == 1 else widths
    return f"{len(layers)} of {_listed(parts)}, {size}"


def _listed(words: Sequence[str]) -> str:
    """Return words as a list: a; a and b; a, b and c."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def check_copy(attention: Attention, decoder: DecoderSettings, *, joint: bool) -> None:
    """Check that pieces can be copied from the source.

    Args:
        attention: says which.
        decoder: its settings.
        joint: whether source and target share one vocabulary.

    Raises:
        UserError: they cannot.
    """
    if not decoder.copy:
        return
    if not (attention.has_weights and attention.reads_query):
        lacks = "has weights that choose nothing" if attention.has_weights else "has no weights"
        raise UserError(
            f"decoder.copy=true copies what the attention points at, and attention={attention.name} {lacks}: set "
            "attention=luong_general or another with scores, or decoder.copy=false"
        )
    if not joint:
        raise UserError(
            "decoder.copy=true writes pieces of the source, which have to be pieces of the target: set "
            "tokenizer.joint=true, or decoder.copy=false"
        )


def check_readout(attention: Attention, decoder: DecoderSettings) -> None:
    """Check that something reads the context of the attention, and that it has what the decoder's options are about.

    Raises:
        UserError: nothing does, or it has not.
    """
    if decoder.gate_context and not attention.context_size:
        raise UserError(
            f"decoder.gate_context=true: attention={attention.name} has no context: set decoder.gate_context=false"
        )
    if decoder.doubly_stochastic and not attention.has_weights:
        raise UserError(
            f"decoder.doubly_stochastic={decoder.doubly_stochastic:g} is of attention weights, and "
            f"attention={attention.name} has none: set decoder.doubly_stochastic=0"
        )
    read = decoder.readout != "state" or decoder.query == "previous" or decoder.context_to_all
    if attention.context_size and not read:
        raise UserError(
            f"decoder.readout=state with decoder.query=current leaves the context of attention={attention.name} "
            "unread: set decoder.readout=tanh, decoder.query=previous or decoder.context_to_all=true"
        )
