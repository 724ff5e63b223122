"""The callback that prunes a trial of a sweep: report the dev score at each validation, and stop if it is bad."""

import logging
from collections.abc import Mapping
from typing import Any

import optuna
import pytorch_lightning as pl

from hourglass.sweeps.settings import over_seeds
from hourglass.sweeps.trials import make_pruner, open_storage
from hourglass.training.jobs import TrialTicket

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """Report each validation to the study and stop a trial that its pruner rejects; rank 0 decides for all ranks.

    Args:
        ticket: the trial.
        validate_every: optimizer steps from one validation to the next. The study counts validations, so that trials
            of different batch sizes are compared at the same share of their budgets.
    """

    def __init__(self, ticket: TrialTicket, validate_every: int):
        self.ticket, self.validate_every = ticket, validate_every
        self.pruned = False

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the score, and stop the training if the pruner says so."""
        prune = False
        if trainer.is_global_zero:
            score = float(trainer.callback_metrics[f"dev/{self.ticket.objective}"])
            try:
                prune = self._report(round(trainer.global_step / self.validate_every), score)
            except Exception as error:  # The database does not answer: train on without pruning.
                log.warning("the study did not take a score (%s): this validation prunes nothing", type(error).__name__)
        self.pruned = bool(trainer.strategy.broadcast(prune, src=0))
        trainer.should_stop = trainer.should_stop or self.pruned

    def _report(self, validation: int, score: float) -> bool:
        """Report a score, and return whether to prune the trial."""
        pruner = self.ticket.pruner
        study = optuna.load_study(
            study_name=self.ticket.study,
            storage=open_storage(self.ticket.storage),
            sampler=optuna.samplers.RandomSampler(),
            pruner=make_pruner(pruner["name"], pruner["startup_trials"], pruner["validations"]),
        )
        trial = optuna.Trial(study, self.ticket.trial_id)
        known, step = study.trials[trial.number], self.ticket.first_step + validation
        # A resumed trial has reported its earlier validations.
        if step not in known.intermediate_values:
            trial.report(self._over_seeds(trial, known.user_attrs, validation, score), step)
        return trial.should_prune()

    def _over_seeds(self, trial: optuna.Trial, known: Mapping[str, Any], validation: int, score: float) -> float:
        """Record the score of this seed, and return that of the seeds so far, each at this validation."""
        own, name = self.ticket.seed_index, str(validation)
        trial.set_user_attr(f"scores/{own}", {**known.get(f"scores/{own}", {}), name: score})
        earlier = [known.get(f"scores/{index}", {}) for index in range(own)]
        scores = [*(scores[name] for scores in earlier if name in scores), score]
        return over_seeds(scores, self.ticket.objective, self.ticket.over_seeds)

    def state_dict(self) -> dict[str, Any]:
        """Return the state to keep in the checkpoint, from which the process that started this one reads it too."""
        return {"pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state."""
        self.pruned = state_dict["pruned"]
