"""Checks that the likelihoods of runs may be subtracted: the same data and decoder, and fair to the blind run."""

from collections.abc import Sequence
from typing import Any

from hourglass.errors import UserError
from hourglass.system.commands import printed_command
from hourglass.training.finished import FinishedRun

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


# Settings that the seeds of one variant share.
VARIANT_SETTINGS = ("tokenizer", "data", "encoder", "attention", "decoder", "optimizer", "init_range")


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
                f"{run.path}: its best checkpoint was selected by BLEU, which means nothing for a model that cannot "
                "translate: train it with trainer.select=loss"
            )
    return min(runs, key=lambda run: run.metrics.dev.loss)


def check_comparable(blind: FinishedRun, runs: Sequence[FinishedRun]) -> None:
    """Check that runs share corpus, tokenizer, decoder sizes and selection with a blind run that read as much.

    Raises:
        UserError: a run does not; the message names the run and the option.
    """
    expected, budget = _shared_settings(blind), blind.metrics.train_target_tokens
    for run in runs:
        tokens = run.metrics.train_target_tokens
        if tokens > BUDGET_TOLERANCE * budget:
            raise UserError(
                f"{blind.path}: read {budget:,} target tokens and {run.path} {tokens:,}: a blind run that was trained "
                f"less would flatter the other: train one with trainer.target_tokens={tokens} or more"
            )
        for option, value in _shared_settings(run).items():
            if value != expected[option]:
                raise UserError(
                    f"{run.path}: another {option} than {blind.path}'s ({value}, {expected[option]}), so that the "
                    "difference of their likelihoods is not due to the source alone: train both with the same"
                )


def _shared_settings(run: FinishedRun) -> dict[str, Any]:
    return {
        "corpus": run.metrics.corpus_digest,
        "tokenizer": run.metrics.tokenizer_digest,
        **{f"decoder.{option}": run.config["decoder"][option] for option in DECODER_OPTIONS},
        **{f"trainer.{option}": run.config["trainer"][option] for option in SELECTION_OPTIONS},
    }


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
        if differing := [name for name in VARIANT_SETTINGS if run.config[name] != first.config[name]]:
            raise UserError(
                f"{run.path}: another {', '.join(differing)} than {first.path}'s: runs of one variant ({variant}) "
                "differ in the seed alone; put a space between two variants"
            )
