"""Check the whole configuration before any data is read: every option, and every contradiction between groups."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat

from hourglass.config.options import Config, build, check, choose
from hourglass.config.plugins import require_plugins
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.synthetic import ChannelRecipe
from hourglass.data.pieces import FIXED_PIECES
from hourglass.data.tokenizer import PIECES_OPTION, TokenizerSettings, pieces_option
from hourglass.decoding.precision import check_machine, check_model
from hourglass.decoding.search import SearchSettings, check_source_words
from hourglass.errors import UserError
from hourglass.metrics.metrics import Metrics, make_metrics
from hourglass.metrics.scoring import length_buckets
from hourglass.models.build import build_model
from hourglass.models.encoder import BlindEncoder, RecurrentEncoder
from hourglass.models.parallel_cells import MatrixCell
from hourglass.models.seq2seq import Seq2Seq
from hourglass.models.summary import PooledEncoder
from hourglass.system.devices import memory_of
from hourglass.tracking.settings import LoggerSettings, check_logger
from hourglass.training.optimizer import OPTIMIZERS, OptimizerSettings, SGDSettings
from hourglass.training.trainer import TrainerSettings

FLOAT_BYTES = 4
# The range that both torch and numpy accept.
Seed = Annotated[int, Field(ge=0, lt=2**31)]

Share = Annotated[float, Field(ge=0, le=1)]

GROUPS = ("data", "tokenizer", "encoder", "attention", "decoder", "optimizer", "trainer", "logger", "search", "metrics")

# Options outside all groups, with their types.
OPTIONS: dict[str, Any] = {
    "seed": Seed,
    "init_range": NonNegativeFloat,
    "run_dir": str | None,
    "if_exists": Literal["refuse", "continue", "continue_or_replace"],
    "resume": str | None,
    "cache": Annotated[str, Field(min_length=1)],
    "edges": list[int],
    "start_from": str | None,
    "frozen_encoder": str | None,
    "fingerprint": str | None,
}
# Runs of earlier versions lack them.
NEWER_OPTIONS = ("start_from", "frozen_encoder", "fingerprint")


@dataclass(frozen=True)
class Settings:
    """The checked settings of a training; those of the model and the corpus are read where these are built.

    Attributes:
        tokenizer: the config group `tokenizer`.
        optimizer: the config group `optimizer`.
        trainer: the config group `trainer`.
        search: the config group `search`.
        logger: the config group `logger`.
        metrics: the config group `metrics`.
        curriculum: data.curriculum, the share of the budget in which the longest pairs come in; see `TrainingStream`.
    """

    tokenizer: TokenizerSettings
    optimizer: OptimizerSettings
    trainer: TrainerSettings
    search: SearchSettings
    logger: LoggerSettings
    metrics: Metrics
    curriculum: float = 0.0


def check_settings(config: Config, *, trains: bool = True) -> Settings:
    """Check every group of a configuration, and that this machine can train and translate with it.

    Args:
        config: all settings.
        trains: False: nothing is trained here, so that the memory need not suffice for it.

    Raises:
        UserError: an option is unknown, outside its choices, or contradicts another, or a plugin is not loaded.
    """
    settings, model = _check_groups(config)
    check_machine(settings.search.precision, settings.trainer.device)
    if trains:
        _check_memory(settings, model, frozen=config.get("frozen_encoder") is not None)
    return settings


def _check_groups(config: Config) -> tuple[Settings, Seq2Seq]:
    """Return the checked settings, and their model without its numbers, and with vocabularies of a few pieces."""
    _check_whole(config)
    require_plugins(config.get("plugins", []), "the settings")
    optimizer = dict(config["optimizer"])
    kind: Callable[..., OptimizerSettings] = choose(OPTIMIZERS, optimizer.pop("name", None), "optimizer.name")
    settings = Settings(
        _build_tokenizer(config),
        build(kind, optimizer, "optimizer"),
        build(TrainerSettings, config["trainer"], "trainer"),
        build(SearchSettings, config["search"], "search"),
        check_logger(config["logger"]),
        make_metrics(config["metrics"], str(config["data"].get("target"))),
        # Runs of earlier versions lack it.
        check(Share, config["data"].get("curriculum", 0.0), "data.curriculum"),
    )
    _, recipe = check_recipe(config["data"])
    _check_selection(settings)
    length_buckets(config["edges"])
    model = _build_without_numbers(config, settings)
    if isinstance(recipe, ChannelRecipe) and recipe.calibrated:
        _check_calibrated(recipe, settings)
        _check_neck(model)
    if settings.trainer.null_source and isinstance(model.encoder, BlindEncoder):
        raise UserError(
            f"trainer.null_source={settings.trainer.null_source:g} with encoder=blind, which reads no source: set "
            "trainer.null_source=0"
        )
    if recipe.has_features:
        _check_features(settings)
    penalty, sampling = model.decoder.settings.doubly_stochastic, settings.trainer.scheduled_sampling
    if penalty and sampling:
        raise UserError(
            f"decoder.doubly_stochastic={penalty:g} with trainer.scheduled_sampling={sampling:g}, whose steps keep no "
            "attention weights: set one of them to 0"
        )
    settings.search.check_attention(model.decoder.attention)
    settings.search.check_words(settings.tokenizer.model)
    check_model(settings.search.precision, model.encoder, type(model.decoder.cell))
    return settings, model


def _build_without_numbers(config: Config, settings: Settings) -> Seq2Seq:
    """Build the model without allocating memory: its constructors check their options before any data is read.

    Raises:
        UserError: as `build_model`, or a tensor would have more numbers than can be counted.
    """
    try:
        with torch.device("meta"):
            return build_model(config, 8, 8, joint=settings.tokenizer.joint)
    except (RuntimeError, TypeError, OverflowError) as error:  # torch has all three.
        if "overflow" not in str(error).lower():
            raise
        raise UserError(
            "the model is too large: a tensor of it has more numbers than torch can count: set lower sizes of encoder, "
            "attention and decoder"
        ) from None


def check_to_read(config: Config) -> Settings:
    """Check the settings of a run that is only read, whatever machine it was trained on, and whatever it is scored by.

    Raises:
        UserError: as `check_settings`.
    """
    one_cpu = {"accelerator": "cpu", "devices": 1, "nodes": 1, "strategy": "auto", "precision": "32-true"}
    trainer = {**config["trainer"], **one_cpu, "select": "loss"}
    here = {"trainer": trainer, "logger": {"name": "none"}, "metrics": _OF_TRANSLATION}
    return _check_groups({**config, **here})[0]


# Of a run that is only read, whose metrics may need a plugin that translating does not.
_OF_TRANSLATION = {"main": "bleu", "others": [], "options": []}


# Of every so many steps, a backward pass needs one state or more: cells with a matrix keep that of each chunk.
STEPS_A_STATE = MatrixCell.chunk


def _check_memory(settings: Settings, model: Seq2Seq, *, frozen: bool) -> None:
    """Check that a training may fit into memory, by what it needs at the very least.

    That is the weights but for most of the embeddings, their gradients and the averages of the optimizer, and states
    that a step keeps for its backward pass: those along the longer side of the batch, be it the encoder's or the
    decoder's; float32 numbers all of them. A frozen encoder keeps none. A batch is at least half full, as one more
    sentence would exceed it; where all of train is less than that, the message says that a smaller batch is enough.

    Args:
        settings: of the training.
        model: without its numbers.
        frozen: whether the weights of the encoder do not move.

    Raises:
        UserError: it cannot fit.
    """
    trainer, optimizer = settings.trainer, settings.optimizer
    copies = 2 if isinstance(optimizer, SGDSettings) else 4  # Weights and gradients; two averages for each weight.
    tokens = trainer.batch_tokens // (2 * trainer.accumulate * trainer.devices * trainer.nodes)
    still = sum(weight.numel() for weight in model.encoder.parameters()) if frozen else 0
    numbers = {"weights": copies * (model.parameter_count - still) + still}
    state = model.decoder.settings.state_size
    read = model.encoder.final_size if isinstance(model.encoder, RecurrentEncoder) and not frozen else 0
    numbers["states"] = max(state, tokens // STEPS_A_STATE * min(state, read))
    needed, there = FLOAT_BYTES * sum(numbers.values()), memory_of(trainer.device)
    if needed <= there:
        return
    own = {name: f"{FLOAT_BYTES * number / 2**30:,.1f}" for name, number in numbers.items()}
    fewer = " or trainer.batch_tokens" if FLOAT_BYTES * (numbers["weights"] + state) <= there else ""
    raise UserError(
        f"the model is too large for memory: a training needs {needed / 2**30:,.1f} GiB or more ({own['weights']} for "
        f"weights, gradients and averages, {own['states']} for states, that of the decoder having {state:,} numbers), "
        f"and there are {there / 2**30:,.1f}: set a lower decoder.hidden_size, encoder.hidden_size or "
        f"encoder.summary_size{fewer}, or a cell with a smaller state (docs/cells.md)"
    )


def _check_selection(settings: Settings) -> None:
    """Check that trainer.select is a score of dev.

    Raises:
        UserError: it is not.
    """
    select, main = settings.trainer.select, settings.metrics.main.name
    if select not in (main, "loss"):
        raise UserError(f"trainer.select={select}: dev has the scores {main} (metrics.main) and loss: set one of them")


def _build_tokenizer(config: Config) -> TokenizerSettings:
    """Return the checked config group `tokenizer`; errors name the setting that the number of pieces comes from."""
    try:
        return build(TokenizerSettings, config["tokenizer"], "tokenizer")
    except UserError as error:
        raise UserError(str(error).replace(PIECES_OPTION, pieces_option(config), 1)) from None


def _check_calibrated(recipe: ChannelRecipe, settings: Settings) -> None:
    """Check what data.calibrated=true promises: pieces are symbols, no label smoothing, no pair is read twice."""
    if settings.tokenizer.model != "word":
        raise UserError(
            f"tokenizer.model={settings.tokenizer.model} with data.calibrated=true, where every symbol must be one "
            "piece: set tokenizer=word"
        )
    pieces = FIXED_PIECES + recipe.all_symbols
    if settings.tokenizer.vocabulary_size != pieces:
        raise UserError(
            f"data.vocabulary_size={settings.tokenizer.vocabulary_size} with data.calibrated=true: the pieces are the "
            f"{recipe.all_symbols} symbols and {FIXED_PIECES} special ones: set data.vocabulary_size={pieces}"
        )
    if settings.optimizer.label_smoothing:
        raise UserError(
            f"optimizer.label_smoothing={settings.optimizer.label_smoothing} with data.calibrated=true, where the "
            "model must learn the likelihood of the data itself: set optimizer.label_smoothing=0"
        )
    trainer = settings.trainer
    # The run may exceed the budget, as it is rounded up to whole batches between validations.
    needed = trainer.target_tokens + trainer.validations * trainer.batch_tokens
    if recipe.train_tokens < needed:
        pairs = math.ceil(recipe.train_pairs * needed / recipe.train_tokens)
        raise UserError(
            f"data.train_pairs={recipe.train_pairs} with data.calibrated=true would be read more than once: set "
            f"data.train_pairs={pairs}, or a lower trainer.target_tokens than {trainer.target_tokens}"
        )


def _check_features(settings: Settings) -> None:
    """Check that no setting is for texts alone, where sources are features."""
    check_source_words(settings.search)
    if settings.trainer.cuda_graphs:
        raise UserError(
            "trainer.cuda_graphs=true pads batches of ids, and the corpus has features: set trainer.cuda_graphs=false"
        )


def _check_neck(model: Seq2Seq) -> None:
    """Check that the summary is the narrowest vector between source and decoder, unless attention bypasses it.

    With decoder.start=pass the encoder's state is the decoder's, and nothing stands between them.
    """
    encoder, decoder = model.encoder, model.decoder
    if not isinstance(encoder, RecurrentEncoder | PooledEncoder) or decoder.attention.has_weights:
        return
    if decoder.settings.start == "pass":
        return
    width, final, kind = encoder.summary_size, encoder.memory_size, "pooled"
    if isinstance(encoder, RecurrentEncoder):
        final, kind = encoder.final_size, "final"
    if final < 2 * width or decoder.hidden_size < width:
        raise UserError(
            f"encoder.summary_size={width} with data.calibrated=true is no neck between a {kind} encoder state of "
            f"{final} numbers and a decoder state of {decoder.hidden_size}: set encoder.hidden_size so that the former "
            f"has at least {2 * width}, and decoder.hidden_size={width} or more"
        )


def _check_whole(config: Config) -> None:
    """Check that every group exists, and every option outside the groups, with its type."""
    for group in GROUPS:
        if not isinstance(config.get(group), Mapping):
            raise UserError(f"{group}: the settings lack this group: set {group}=NAME, a file of conf/{group}")
    for option, kind in OPTIONS.items():
        if option in NEWER_OPTIONS and option not in config:
            continue
        if option not in config:
            raise UserError(f"{option}: the settings lack this option: set {option}=...")
        check(kind, config[option], option)
