"""Checks that the likelihoods of runs may be subtracted: the same data and decoder, and fair to the blind run.

Where a difference between two runs makes the difference of their likelihoods mean something else, it is refused. Other
settings that change a training may be part of a fair comparison, such as an optimizer that suits a variant: they are
named with the result, so that nobody takes the difference for one of the attentions alone. The learning rate is
neither: it is searched for each variant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from hourglass.analysis.information import BLIND, SettingDifference
from hourglass.config.options import Config
from hourglass.errors import UserError
from hourglass.system.commands import printed_command
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import FROZEN_ENCODER, has_frozen_encoder

# Options of the decoder that a blind run shares with the runs it is compared with. How the source is seen is not one.
DECODER_OPTIONS = (
    "cell",
    "layers",
    "hidden_size",
    "embedding_size",
    "residual_from",
    "readout",
    "readout_size",
    "tie",
    "dropout",
)


# Options of the trainer that decide which checkpoint of a run is kept.
SELECTION_OPTIONS = ("select", "patience", "dev_sentences")


# Options of which a difference is refused.
REFUSED_OPTIONS = (
    # A model trained with smoothing spreads probability over the vocabulary, and a temperature takes back a part of it:
    # the rest would count as bits. Its checkpoints are chosen by another loss, too.
    "optimizer.label_smoothing",
    # Rounding of bfloat16 changes a likelihood itself, not only what was learnt.
    "trainer.precision",
)


# Options of which a difference is named, beside all others of the optimizer but its learning rate. All change what is
# learnt from the same data, and so the likelihoods; but each leaves them likelihoods of the same references.
NAMED_OPTIONS = (
    "init_range",  # Where the training starts.
    # Of a checkpoint chosen by BLEU the loss is not the lowest of its run, so that its bits are too few. A blind run is
    # always chosen by loss. Runs that see the source and are chosen in two ways are refused.
    "trainer.select",
    "trainer.target_tokens",  # A variant that read less has learnt less; one that read more than blind is refused.
    "trainer.batch_tokens",  # The number of steps, and the noise of each.
    "trainer.scheduled_sampling",  # Training on the model's own words lowers the likelihood of references.
    "trainer.null_source",  # Items without source teach the target language, and less of the source.
    "data.curriculum",  # Short sentences first: another order of the same text.
)


# Of decoders that see the source: how they see it is what variants differ in, and belongs to their attention.
OF_THE_ATTENTION = ("decoder.query",)


# Settings that the seeds of one variant share.
VARIANT_SETTINGS = ("tokenizer", "data", "encoder", "attention", "decoder", "optimizer")


# A blind run may have read this share fewer target tokens: budgets are rounded to whole batches.
BUDGET_TOLERANCE = 1.05


def choose_blind(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Return the run with the lowest dev loss among runs that are blind to the source.

    Raises:
        UserError: there are no runs, one sees its source, or one did not select its checkpoint by loss.
    """
    if not runs:
        raise UserError(f"no blind run: {printed_command('src/train.py', 'experiment=language_model')} makes one")
    for run in runs:
        if run.config["encoder"]["name"] != "blind":
            raise UserError(
                f"{run.path}: a run of encoder={run.config['encoder']['name']} sees its source: name one of "
                "encoder=blind attention=none (experiment=language_model)"
            )
        if run.config["trainer"]["select"] != "loss":
            raise UserError(
                f"{run.path}: its best checkpoint was selected by its outputs, which mean nothing without a source: "
                "train it with trainer.select=loss"
            )
    return min(runs, key=lambda run: run.metrics.dev.loss)


def check_comparable(blind: FinishedRun, runs: Sequence[FinishedRun]) -> None:
    """Check that runs share corpus, tokenizer, decoder sizes, selection and `REFUSED_OPTIONS` with a blind run.

    And that it read as much as they. What its checkpoint was chosen by is shared by the runs that see the source alone.

    Raises:
        UserError: a run does not; the message names the run and the option.
    """
    sighted = [run for run in runs if run is not blind]
    budget = blind.metrics.train_target_tokens
    for run in sighted:
        tokens = run.metrics.train_target_tokens
        if tokens > BUDGET_TOLERANCE * budget:
            raise UserError(
                f"{blind.path}: read {budget:,} target tokens and {run.path} {tokens:,}: a blind run that was trained "
                f"less would flatter the other: train one with trainer.target_tokens={tokens} or more"
            )
        check_shared(blind, run, left_out=("trainer.select",))
        check_shared(sighted[0], run)


def check_shared(first: FinishedRun, run: FinishedRun, left_out: Sequence[str] = ()) -> None:
    """Check that two runs share corpus, tokenizer, decoder sizes, selection and `REFUSED_OPTIONS`.

    Args:
        first: the one.
        run: the other.
        left_out: options that may differ.

    Raises:
        UserError: they do not; the message names the second run and the option.
    """
    expected = _shared_settings(first)
    for option, value in _shared_settings(run).items():
        if value != expected[option] and option not in left_out:
            raise UserError(
                f"{run.path}: another {option} than {first.path}'s ({value}, {expected[option]}), so that the "
                "difference of their likelihoods is not due to the source alone: train both with the same"
            )


def _shared_settings(run: FinishedRun) -> dict[str, Any]:
    return {
        "corpus": run.metrics.corpus_digest,
        "tokenizer": run.metrics.tokenizer_digest,
        **{f"decoder.{option}": run.config["decoder"][option] for option in DECODER_OPTIONS},
        **{f"trainer.{option}": run.config["trainer"][option] for option in SELECTION_OPTIONS},
        **{option: _setting(run.config, option) for option in REFUSED_OPTIONS},
    }


def _setting(config: Config, option: str) -> Any:
    """Return the value of GROUP.KEY; None where there is none."""
    group, _, key = option.rpartition(".")
    return (config[group] if group else config).get(key)


def name_differences(blind: FinishedRun, variants: Mapping[str, Sequence[FinishedRun]]) -> list[SettingDifference]:
    """Return the settings in which the runs differ, beside attention, learning rate, and what is refused.

    Encoders and the decoders' ways to see the source are compared between the variants alone: the blind run has none.

    Args:
        blind: the blind run.
        variants: the runs of each variant, which differ in the seed alone.
    """
    sighted = {name: seeds[0].config for name, seeds in variants.items()}
    everyone = {**sighted, BLIND: blind.config}
    left_out = {"optimizer.learning_rate", *OF_THE_ATTENTION, *REFUSED_OPTIONS}
    left_out |= {f"decoder.{option}" for option in DECODER_OPTIONS}
    of_all = [*_options(everyone, "optimizer"), *NAMED_OPTIONS]
    of_sighted = [*_options(sighted, "encoder"), *_options(sighted, "decoder")]
    return [
        SettingDifference(option, values)
        for options, configs in ((of_all, everyone), (of_sighted, sighted))
        for option in options
        if option not in left_out
        for values in [{name: _setting(config, option) for name, config in configs.items()}]
        if any(value != next(iter(values.values())) for value in values.values())
    ]


def _options(configs: Mapping[str, Config], group: str) -> list[str]:
    """Return the options of a group that all configs have: those of two kinds of optimizer differ with its name."""
    return [
        f"{group}.{key}"
        for key in next(iter(configs.values()))[group]
        if all(key in c[group] for c in configs.values())
    ]


def differing_settings(first: FinishedRun, run: FinishedRun) -> list[str]:
    """Return the settings in which a run differs from another that seeds of one variant share."""
    differing = [name for name in VARIANT_SETTINGS if run.config[name] != first.config[name]]
    differing += [
        option
        for option in (*NAMED_OPTIONS, *REFUSED_OPTIONS)
        if option.split(".")[0] not in VARIANT_SETTINGS
        and _setting(run.config, option) != _setting(first.config, option)
    ]
    # Each seed has an encoder of its own, frozen or not.
    if has_frozen_encoder(run.config) != has_frozen_encoder(first.config):
        differing.append(FROZEN_ENCODER)
    return differing


def check_seeds(variant: str, runs: Sequence[FinishedRun]) -> None:
    """Check that the runs of a variant differ in the seed, and in nothing else.

    Raises:
        UserError: they do not; the message names the runs.
    """
    first = runs[0]
    seeds: dict[int, FinishedRun] = {}
    for run in runs:
        seed = run.config["seed"]
        if seed in seeds:
            raise UserError(
                f"{run.path}: seed {seed}, as {seeds[seed].path} has: runs of one variant ({variant}) need different "
                "seeds"
            )
        seeds[seed] = run
        if differing := differing_settings(first, run):
            raise UserError(
                f"{run.path}: another {', '.join(differing)} than {first.path}'s: runs of one variant ({variant}) "
                "differ in the seed alone; put a space between two variants"
            )
