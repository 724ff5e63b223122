"""Pruning: a trial of a sweep reports its dev score at each validation, and stops if the study says so."""

import logging
from typing import Any

import optuna
import pytorch_lightning as pl

from hourglass.sweeps.trials import make_pruner, open_storage
from hourglass.training.jobs import TrialTicket

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """Rank 0 reports and decides, the others are told. Which trials were pruned is kept in the checkpoint.

    Args:
        ticket: which trial this is.
        validate_every: steps from one validation to the next; the study counts validations, so that trials of
            different batch sizes are compared at the same share of their budget.
    """

    def __init__(self, ticket: TrialTicket, validate_every: int):
        self.ticket, self.validate_every = ticket, validate_every
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report, and stop the training where the trial is one of the worse."""
        worse = False
        if trainer.is_global_zero:
            score = float(trainer.callback_metrics[f"dev/{self.ticket.objective}"])
            try:
                worse = self._report(round(trainer.global_step / self.validate_every), score)
            except Exception as error:  # the database is away: the training goes on, unpruned
                log.warning("the study did not take a score (%s)", type(error).__name__)
        self.pruned = bool(trainer.strategy.broadcast(worse, src=0))
        trainer.should_stop = trainer.should_stop or self.pruned

    def _report(self, validation: int, score: float) -> bool:
        pruner = self.ticket.pruner
        study = optuna.load_study(
            study_name=self.ticket.study,
            storage=open_storage(self.ticket.storage),
            sampler=optuna.samplers.RandomSampler(),
            pruner=make_pruner(pruner["name"], pruner["startup_trials"], pruner["validations"]),
        )
        trial = optuna.Trial(study, self.ticket.trial_id)
        if validation not in study.trials[trial.number].intermediate_values:  # A resumed one has told it.
            trial.report(score, validation)
        return trial.should_prune()

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run, and the process that started this one, have to know."""
        return {"pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it up again."""
        self.pruned = state_dict["pruned"]
