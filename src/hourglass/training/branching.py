"""Start a training where the rate of a shorter one began to fall: the settings key `start_from`.

With a schedule of warm-up, constant rate and decay, and the same seed, runs of all budgets are the same run until the
shorter one's rate falls. So a ladder of budgets costs little more than its longest run (Hu et al. 2024, section 4.3;
Haegele et al. 2024), and each of its runs is bit for bit what it is when trained from its first weights.
"""

from hourglass.config.differences import changes
from hourglass.config.options import Config
from hourglass.data.tokenizer import Vocabularies
from hourglass.errors import UserError
from hourglass.models.checkpoint import read_checkpoint, write_checkpoint
from hourglass.runs.folder import RunFolder, open_run
from hourglass.system.devices import under_torchrun
from hourglass.training.fingerprint import IDLE
from hourglass.training.resuming import altered_plugins, check_data
from hourglass.training.settings import Settings

# Settings that do not touch the weights before the rate falls, though the runs differ in them.
FREE = (*IDLE, *(f"trainer.{name}" for name in ("dev_sentences", "select", "target_tokens", "validations")))


def check_start_from(config: Config, settings: Settings) -> None:
    """Check, before the data are prepared, that a run can start from the one that `start_from` names.

    Raises:
        UserError: that run is missing or not trained up to its decay, or differs in a setting that the weights hang on.
    """
    if config.get("start_from") is None:
        return
    option = f"start_from={config['start_from']}"
    optimizer, trainer = settings.optimizer, settings.trainer
    if optimizer.decay != "wsd":
        raise UserError(f"{option} with optimizer.decay={optimizer.decay}, which hangs on the budget: set it to wsd")
    if 0 < optimizer.warmup < 1:
        raise UserError(
            f"{option} with optimizer.warmup={optimizer.warmup:g}, a share of the budget: set it to a number of steps "
            "in both runs"
        )
    for name, contradicts in (
        ("trainer.patience", trainer.patience),
        ("trainer.scheduled_sampling", trainer.scheduled_sampling),
        ("data.curriculum", settings.curriculum),
    ):
        if contradicts:
            raise UserError(f"{option} contradicts {name}={contradicts:g}, which hangs on the budget: set it to 0")
    if under_torchrun():
        raise UserError(f"{option}: not under torchrun: train on one machine, or leave it out")
    run, before = open_run(str(config["start_from"]), "start_from")
    differing = [name for name in changes(before, config) if not _is_free(name)]
    if differing:
        raise UserError(
            f"{option}: has other settings ({', '.join(differing)}): give both runs the same, or leave it out"
        )
    if before["trainer"]["target_tokens"] >= trainer.target_tokens:
        raise UserError(
            f"{option}: its trainer.target_tokens={before['trainer']['target_tokens']} is not smaller than this run's "
            f"{trainer.target_tokens}"
        )
    if not run.stable.is_file():
        raise UserError(f"{option}: has no {run.stable}: finish that run first")


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def branch_off(run: RunFolder, config: Config, vocabularies: Vocabularies, corpus_digest: str, code: str) -> list[str]:
    """Write the checkpoint from which a new run continues the training of the run `start_from`.

    Scores of before do not count for the choice of the best checkpoint: the new run has no weights of theirs.

    Args:
        run: the new run.
        config: its settings.
        vocabularies: its vocabularies.
        corpus_digest: digest of its corpus.
        code: digest of the present code.

    Returns:
        Warnings: the run of before was trained by other code.

    Raises:
        UserError: the checkpoint is damaged, or of another tokenizer or corpus.
    """
    path = open_run(str(config["start_from"]), "start_from")[0].stable
    content = read_checkpoint(path)
    own = content["hourglass"]
    check_data(path, own, vocabularies, corpus_digest, "give both runs the same data, or leave out start_from")
    warnings = [] if own.get("code") == code else [f"{path}: of other code than the present"]
    if altered := altered_plugins(own, config):
        warnings.append(f"{path}: plugins=[{altered}] has changed since: the training goes on with other code")
    content["hourglass"] = {**own, "config": dict(config), "code": code}
    content["callbacks"] = {**content["callbacks"], "Checkpoints": {"best": {}, "finished": False}}
    write_checkpoint(content, run.last)
    return warnings
