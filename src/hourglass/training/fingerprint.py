"""How a training behaves in its first steps: what a recorded run hangs on, in place of the spelling of the code.

`training/first_steps.py` measures a fingerprint. Two that agree have the same settings, data, schedule and arithmetic.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hourglass.config.differences import differences, known_to

FINGERPRINT_VERSION = 1
# Settings that neither the weights of a run nor the choice of its best checkpoint hang on. (Dev is decoded greedily,
# and with trainer.select=loss its translations choose nothing.)
IDLE = (
    "edges",
    "metrics",
    "search",
    *(f"trainer.{name}" for name in ("checkpoint_every", "keep", "log_every", "pictures", "test", "test_sentences")),
    *(f"trainer.{name}" for name in ("threads", "timeout")),
)
# Shares by which the values of one behaviour may differ between processors, which sum in other orders.
TOLERANCES = {"rates": 1e-9, "train_losses": 2e-5, "dev_loss": 2e-5, "gradients": 1e-3}


@dataclass(frozen=True)
class Fingerprint:
    """What a training is, and what it does in its first steps.

    Attributes:
        settings: all that can change its weights, resolved.
        corpus: digest of the corpus.
        vocabularies: digest of the vocabularies.
        rates: the learning rate at even distances from the first to the last step of the largest budget, as a factor of
            the peak.
        train_losses: of the first steps, nats per target token, with dropout.
        gradients: the norm of each weight's gradient in the first step. A change within a layer shows here even where
            the loss of an untrained model hardly hangs on it.
        dev_loss: after them, of a few dev sentences, nats per target token.
    """

    settings: dict[str, Any]
    corpus: str
    vocabularies: str
    rates: list[float]
    train_losses: list[float]
    gradients: dict[str, float]
    dev_loss: float

    @property
    def digest(self) -> str:
        """A word that names the fingerprint."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def holds(self, now: "Fingerprint") -> bool:
        """Whether a training is still the one of this fingerprint, but for rounding on another processor.

        Settings that a later version added do not count: what they do by default shows in the values.
        """
        own, others = asdict(self), asdict(now)
        if known_to(self.settings, differences(own.pop("settings"), others.pop("settings"))):
            return False
        if own["gradients"].keys() != others["gradients"].keys():
            return False
        for part in (own, others):
            part["gradients"] = [part["gradients"][name] for name in sorted(part["gradients"])]
        for name, tolerance in TOLERANCES.items():
            values, wanted = np.array(own.pop(name)), np.array(others.pop(name))
            if values.shape != wanted.shape or not np.allclose(values, wanted, rtol=tolerance, atol=0):
                return False
        return own == others
