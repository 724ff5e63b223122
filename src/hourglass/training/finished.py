"""A finished run: the one place that reads what a training has left in its folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from hourglass.config.options import Config
from hourglass.config.plugins import require_plugins
from hourglass.corpora.corpus import Corpus, load_corpus
from hourglass.decoding.precision import SearchPrecision
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.runs.curves import read_curves
from hourglass.runs.folder import RunFolder, open_run
from hourglass.runs.translations import Translation, read_translations
from hourglass.system.files import read_json
from hourglass.training.preparation import PreparedData, prepare
from hourglass.training.settings import Settings, check_to_read


@dataclass(frozen=True)
class DevScores:
    """Scores on dev of the checkpoint that was kept.

    Attributes:
        loss: negative log-likelihood, nats per target token.
        metric: name of the main metric.
        score: of the main metric.
        step: optimizer step of the checkpoint.
        smoothed_loss: cross-entropy against the smoothed target, which the training minimised, nats per target token;
            None without label smoothing, and in a run of an earlier version.
    """

    loss: float
    metric: str
    score: float
    step: int
    smoothed_loss: float | None = None

    @classmethod
    def of(cls, best: Mapping[str, Any]) -> "DevScores":
        """Return the scores that metrics.json has: the main metric stands there by its name."""
        return cls(**cls.fields_of(best))

    @staticmethod
    def fields_of(best: Mapping[str, Any]) -> dict[str, Any]:
        """Return the scores that metrics.json has by the names of the fields; what is missing there is missing here."""
        own: dict[str, Any] = {name: best[name] for name in ("loss", "step", "smoothed_loss") if name in best}
        others = [name for name in best if name not in ("loss", "step", "smoothed_loss")]
        return {**own, "metric": others[0], "score": best[others[0]]} if len(others) == 1 else own

    @property
    def criterion(self) -> float:
        """The loss by which checkpoints and settings are chosen (trainer.select=loss)."""
        return self.loss if self.smoothed_loss is None else self.smoothed_loss


@dataclass(frozen=True)
class RunMetrics:
    """What metrics.json holds.

    Attributes:
        seed: of the run.
        parameters: of the model.
        dev: scores of the checkpoint that was kept.
        train_target_tokens: target tokens read in training.
        train_target_tokens_per_second: speed of training.
        train_seconds: duration of training.
        corpus: facts on the corpus, with its `digest`.
        tokenizer_digest: digest of the vocabularies.
        machine: processor, GPU, threads, versions.
        commit: git commit of the code; None outside a checkout.
        dirty: whether files differed from that commit.
        test: scores on test, as `metrics.scoring.score` returns them; None for a run with trainer.test=false.
        plugins: by the name of each its `digest`, and what it `registers`; runs of earlier versions lack it.
        search_precision: of the search that translated dev and test; runs of earlier versions lack it.
    """

    seed: int
    parameters: int
    dev: DevScores
    train_target_tokens: int
    train_target_tokens_per_second: float
    train_seconds: float
    corpus: dict[str, Any]
    tokenizer_digest: str
    machine: dict[str, Any]
    commit: str | None
    dirty: bool | None
    test: dict[str, Any] | None = None
    plugins: dict[str, Any] = field(default_factory=dict)
    search_precision: SearchPrecision = 32

    @property
    def corpus_digest(self) -> str:
        """Digest of the corpus's sentences."""
        return str(self.corpus["digest"])

    @property
    def code(self) -> str:
        """The first 12 digits of the commit, with a note where files differed from it."""
        return f"{str(self.commit)[:12]}{' (files differed)' if self.dirty else ''}"


@dataclass(frozen=True)
class DevCurves:
    """Curves on dev: pairs of target tokens read and value, in the order of training.

    Attributes:
        loss: negative log-likelihood, nats per target token.
        score: of the main metric.
        smoothed_loss: see `DevScores`; empty where there is none.
    """

    loss: list[tuple[float, float]]
    score: list[tuple[float, float]]
    smoothed_loss: list[tuple[float, float]] = field(default_factory=list)

    @property
    def criterion(self) -> list[tuple[float, float]]:
        """The curve of the loss by which checkpoints are chosen (trainer.select=loss)."""
        return self.smoothed_loss or self.loss


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run that is complete. Its files are read when they are first asked for, and once.

    Attributes:
        folder: names of its files.
        config: the settings as written in config.yaml.
    """

    folder: RunFolder
    config: Config

    @classmethod
    def open(cls, path: Path | str, option: str = "run") -> "FinishedRun":
        """Open the run in a folder.

        Args:
            path: the folder.
            option: the option that names it, for messages.

        Raises:
            UserError: the folder holds no run.
        """
        return cls(*open_run(str(path), option))

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self.folder.path

    @cached_property
    def settings(self) -> Settings:
        """The checked settings, with the trainer's of this machine (`check_to_read`).

        Raises:
            UserError: they are refused; the message names the run.
        """
        require_plugins(self.config.get("plugins", []), str(self.path))
        try:
            return check_to_read(self.config)
        except UserError as error:
            raise UserError(f"{self.path}: its settings are refused: {error}") from None

    @cached_property
    def metrics(self) -> RunMetrics:
        """Scores, counts and origin of the run.

        Raises:
            UserError: metrics.json is missing, cut short or of another version.
        """
        content = read_json(self.folder.metrics)
        try:
            if isinstance(content, dict) and isinstance(content.get("dev"), dict):
                content = {**content, "dev": DevScores.fields_of(content["dev"])}
            return TypeAdapter(RunMetrics).validate_python(content)
        except ValidationError as error:
            place = ".".join(map(str, error.errors()[0]["loc"]))
            reason = f"{place}: {error.errors()[0]['msg']}".removeprefix(": ")
            raise UserError(f"{self.folder.metrics}: not the metrics of a finished run ({reason})") from None

    @cached_property
    def trained(self) -> Trained:
        """The checkpoint that was best on dev; it stays in memory as long as this object.

        Raises:
            UserError: the checkpoint is missing or damaged.
        """
        return load_trained(self.folder.best)

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus that the settings name, without its encoding.

        Raises:
            UserError: an input is missing or malformed, or a plugin is not loaded.
        """
        require_plugins(self.config.get("plugins", []), str(self.path))
        return load_corpus(self.config["data"], Path(self.config["cache"]).expanduser())

    @cached_property
    def prepared(self) -> PreparedData:
        """Corpus, vocabularies and encoded splits.

        Raises:
            UserError: an input is missing or malformed, or the settings are refused.
        """
        return prepare(self.config, self.settings)

    @cached_property
    def translations(self) -> list[Translation]:
        """Translations of test; for an ablation's run of the largest budget those that the stage `translate` wrote.

        An ablation's run lies in runs/VARIANT-SEED/BUDGET, and what the stage writes in translations/VARIANT-SEED. The
        smaller budgets test themselves (trainer.test=true).

        Raises:
            UserError: the file is missing or damaged.
        """
        ladder = self.path.resolve().parent
        of_stage = ladder.parent.parent / "translations" / ladder.name / "test.tsv"
        own = self.folder.translations
        elsewhere = not own.exists() and of_stage.exists() and self.metrics.test is None
        return read_translations(of_stage if elsewhere else own)

    @cached_property
    def dev_curves(self) -> DevCurves:
        """Losses and the main metric on dev by the number of target tokens read; empty for a run without curves."""
        points = read_curves(self.folder.curves)
        tokens = {step: value for step, name, value in points if name == "train/target_tokens"}
        total, last = self.metrics.train_target_tokens, max((step for step, _, _ in points), default=0)

        def curve(name: str) -> list[tuple[float, float]]:
            values = {_tokens_at(tokens, step, last, total): value for step, point, value in points if point == name}
            return sorted(values.items())

        return DevCurves(curve("dev/loss"), curve(f"dev/{self.metrics.dev.metric}"), curve("dev/smoothed_loss"))


def _tokens_at(tokens: Mapping[int, float], step: int, last: int, total: int) -> float:
    """Return how many target tokens were read at a step, interpolated between the points of the curve.

    No validation is at 0 tokens: before the first point of the curve, the tokens grow from 0 with the steps.

    Args:
        tokens: by step, counted from 0: those read when it ends.
        step: of a validation.
        last: the last step, at whose end `total` have been read whether or not the curve has a point there.
        total: of the run.
    """
    known = {-1: 0.0, **tokens, last: float(total)}
    return float(np.interp(step, sorted(known), [known[at] for at in sorted(known)]))
