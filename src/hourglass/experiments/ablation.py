"""The settings of an ablation (variants, corpora, seeds, budgets) and the paths of its files.

The settings are in conf/ablation/default.yaml. dvc.yaml reads them for its matrices, and the scripts in
pipelines/ablation/ read them through this module. Another file of conf/ablation is an ablation of its own, apart from
DVC: pipelines/ablate.py runs it.
"""

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from hourglass.analysis.evaluation import (
    SCHEMA_VERSION,
    CorpusFacts,
    Evaluation,
    Tuning,
    rate_word,
    read_evaluation,
)
from hourglass.analysis.information import Information, read_information
from hourglass.analysis.sentence_scores import SentenceScores, read_sentence_scores
from hourglass.config.command_line import SETTING, arguments
from hourglass.config.compose import compose_settings
from hourglass.config.options import Words, build, check, read_settings
from hourglass.config.plugins import load_plugins
from hourglass.corpora.overlap import OVERLAP_VERSION, CorpusOverlap
from hourglass.errors import UserError
from hourglass.experiments.rate_search import possible_rates
from hourglass.metrics.metrics import Metrics, make_metrics
from hourglass.metrics.scoring import length_buckets
from hourglass.runs.folder import RunFolder
from hourglass.runs.origin import RunOrigin
from hourglass.system.commands import path_override, printed_command, quoted
from hourglass.system.project import ROOT
from hourglass.system.records import read_record
from hourglass.training.fingerprint import FINGERPRINT_VERSION, Fingerprint
from hourglass.training.finished import FinishedRun
from hourglass.training.jobs import read_stage_ticket

# The variant that every corpus has beside its own: the decoder that bits are measured against.
BLIND = "blind"
# The ablation of DVC's stages.
DEFAULT = "default"
# The override that sets how the learning rate falls.
DECAY = "optimizer.decay="
# The parts of a model that have dropout, if their kind has any.
DROPPING = ("encoder", "decoder")
# Of a variant: part of the names of files and stages.
NAME = re.compile(r"[A-Za-z0-9_]+")

Names = Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class TuneSettings:
    """The small search for the learning rate of each variant, and then for its dropout, if there are several.

    Attributes:
        learning_rates: the grid, which is extended until its best rate is no end of it (`search_rates`).
        dropouts: of encoder and decoder, each tried with the rate that was chosen; empty: not searched.
        dropout_tokens: budget of each of these. In a single epoch no dropout is best, so it is not `tune_tokens`.
    """

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    dropouts: list[Annotated[float, Field(ge=0, lt=1)]] = field(default_factory=list)
    dropout_tokens: NonNegativeInt = 0

    def __post_init__(self) -> None:
        if bool(self.dropouts) != bool(self.dropout_tokens):
            raise UserError("tune.dropouts and tune.dropout_tokens: set both, or leave both out")


@dataclass(frozen=True)
class CorpusSettings:
    """The variants and budgets of one corpus.

    Attributes:
        variants: their names.
        controls: further variants, trained with the first seed alone.
        models: variants of whose first seed a small model is kept, beside `variants`.
        seeds: of each of `variants`.
        budgets: target tokens of a run, in ascending order: the rungs of a ladder.
        tune_tokens: budget of a candidate of the search.
        edges: first number of source words of each length bucket.
        overrides: of every run, before those of all corpora.
    """

    variants: Names
    seeds: Annotated[list[int], Field(min_length=1)]
    budgets: Annotated[list[PositiveInt], Field(min_length=1)]
    tune_tokens: PositiveInt
    edges: list[int]
    controls: list[str] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        length_buckets(self.edges)


@dataclass(frozen=True)
class AblationSettings:
    """Settings that all corpora of an ablation share.

    Attributes:
        trainer: a file of conf/trainer.
        baseline: the variant that all others are compared with.
        validations: of a run.
        resamples: of the bootstrap.
        floor: points from the worst score (0 of BLEU, 100 of an error rate) that the baseline must have come before
            slopes over length are reported.
        converged: share of the dev loss; a run whose last fifth of the budget gained less counts as converged.
        estimands: pairs of variants whose gap in bits is the ablation's first result.
        flattened: share of such a gap; a doubling of the budget that is sure to change it by less has not changed it.
        examples: number of test sentences in the report.
        corpora: files of conf/data.
        overrides: of every run.
        results: the folder of what is kept, below the project's.
        intermediate: the folder of prepared data, runs and translations, below the project's.
        plugins: modules with variants or corpora of one's own.
    """

    trainer: str
    baseline: str
    validations: Annotated[int, Field(ge=2)]
    resamples: Annotated[int, Field(ge=1000)]
    floor: Annotated[float, Field(ge=0)]
    converged: PositiveFloat
    estimands: list[Annotated[list[str], Field(min_length=2, max_length=2)]]
    flattened: Annotated[float, Field(ge=0, lt=1)]
    examples: Annotated[int, Field(ge=0, le=50)]
    corpora: Names
    overrides: list[str]
    results: Annotated[str, Field(min_length=1)]
    intermediate: Annotated[str, Field(min_length=1)]
    plugins: Words = field(default_factory=list)


@dataclass(frozen=True)
class Variant:
    """One variant on one corpus."""

    corpus: str
    name: str


@dataclass(frozen=True)
class Ablation:
    """The settings of an ablation, and the paths of its files below `root`.

    Attributes:
        settings: shared by all corpora.
        tune: of the search.
        variant_overrides: the overrides of each variant, by its name.
        corpora: by name.
        root: the project's folder, with conf/ and the folders that `settings` names.
        name: of its file in conf/ablation.
        words: further overrides of all runs, of the command line; those of the corpora have them already.
    """

    settings: AblationSettings
    tune: TuneSettings
    variant_overrides: dict[str, list[str]]
    corpora: dict[str, CorpusSettings]
    root: Path
    name: str = DEFAULT
    words: tuple[str, ...] = ()

    @property
    def stage_words(self) -> list[str]:
        """The words by which a stage gets this ablation: see `read_stage`."""
        return [f"conf={self.name}", *self.words]

    @property
    def remedy(self) -> str:
        """The command that makes the files of the ablation again."""
        return "dvc repro" if self.name == DEFAULT else printed_command("pipelines/ablate.py", self.name, *self.words)

    def made(self, corpus: str) -> Path:
        """The folder of a corpus's prepared data, runs and translations."""
        return self.root / self.settings.intermediate / corpus

    @property
    def results_folder(self) -> Path:
        """The folder of the report, and of the results of all corpora."""
        return self.root / self.settings.results

    def results(self, corpus: str) -> Path:
        """The folder of a corpus's results."""
        return self.results_folder / corpus

    def run(self, variant: Variant, seed: int) -> RunFolder:
        """The folder of a run with the largest budget."""
        return self.rung(variant, seed, self.corpora[variant.corpus].budgets[-1])

    def rung(self, variant: Variant, seed: int, budget: int) -> RunFolder:
        """The folder of a run with a budget."""
        folder = "blind" if variant.name == BLIND else "runs"  # Each is the output of a stage.
        return RunFolder(self.made(variant.corpus) / folder / f"{variant.name}-{seed}" / f"{budget}")

    def kept(self, variant: Variant, seed: int, budget: int) -> RunFolder:
        """The folder of what git keeps of a run: settings, curves, and the scores of each test sentence."""
        folder = "blind" if variant.name == BLIND else "runs"
        return RunFolder(self.results(variant.corpus) / folder / f"{variant.name}-{seed}" / f"{budget}")

    def model(self, variant: Variant) -> RunFolder:
        """The run folder of a variant's small model."""
        return RunFolder(self.results(variant.corpus) / "models" / variant.name)

    def sentence_scores(self, variant: Variant, seed: int, budget: int) -> SentenceScores:
        """Read the scores that are kept of a run.

        Raises:
            UserError: they are missing, damaged, or of another version or of other length buckets.
        """
        folder = self.kept(variant, seed, budget)
        scores = read_sentence_scores(folder, self.remedy)
        if scores.whole.edges != self.corpora[variant.corpus].edges:
            raise UserError(f"{folder.scores}: of the edges {scores.whole.edges}: run {self.remedy}")
        return scores

    def scores(self, corpus: str, budget: int) -> dict[Variant, list[SentenceScores]]:
        """Read the scores that are kept of all variants of a corpus with a budget, one for each seed.

        Raises:
            UserError: see `sentence_scores`.
        """
        return {
            variant: [self.sentence_scores(variant, seed, budget) for seed in self.seeds(variant)]
            for variant in self.variants(corpus)
        }

    def metrics(self, corpus: str) -> Metrics:
        """Return the metrics of a corpus's runs.

        Raises:
            UserError: one is unknown, or cannot score the corpus.
        """
        plugins = [f"plugins=[{','.join(self.settings.plugins)}]"] if self.settings.plugins else []
        config = self.compose([*self.data_overrides(corpus), *plugins, *self.settings.overrides])
        return make_metrics(config["metrics"], str(config["data"]["target"]))

    def seeds(self, variant: Variant) -> list[int]:
        """The seeds that a variant is trained with."""
        settings = self.corpora[variant.corpus]
        return settings.seeds[:1] if variant.name in settings.controls else settings.seeds

    def seed(self, variant: Variant, text: str) -> int:
        """Return the seed that a word of the command line names.

        Raises:
            UserError: the ablation does not train the variant with it.
        """
        seeds = {str(seed): seed for seed in self.seeds(variant)}
        if text not in seeds:
            raise UserError(
                f"{text}: no seed of {variant.corpus} {variant.name} in conf/ablation; choose from {', '.join(seeds)}"
            )
        return seeds[text]

    def ladder(self, variant: Variant, seed: int) -> list[list[str]]:
        """Return the overrides of a variant's run with each budget, the smallest first.

        A run starts where the rate of the one before began to fall, and from its first weights where the schedule is
        one of the whole budget. All but the last score test themselves; the last is translated by a stage of its own.

        Raises:
            UserError: the outcome of the search or the fingerprint is missing, damaged, or not of these settings.
        """
        rungs: list[list[str]] = []
        before: RunFolder | None = None
        budgets, branching = self.corpora[variant.corpus].budgets, self.is_branching(variant)
        for budget in budgets:
            folder = self.rung(variant, seed, budget)
            words = [*self.overrides(variant, seed, budget), *self.chosen(variant), self.fingerprint_override(variant)]
            words.append(path_override("run_dir", folder.path))
            if budget != budgets[-1]:
                words.append("trainer.test=true")
            if before is not None and branching:
                words.append(path_override("start_from", before.path))
            rungs.append(words)
            before = folder
        return rungs

    def is_branching(self, variant: Variant) -> bool:
        """Whether a run with one budget can start from that with a smaller one: its rate falls late in any budget."""
        decays = [word for word in self.overrides(variant, 1, 1) if word.startswith(DECAY)]
        return decays[-1:] == [f"{DECAY}wsd"]

    def blind(self, corpus: str) -> Variant:
        """The decoder without a source, which bits are measured against."""
        return Variant(corpus, BLIND)

    def open_runs(self, variant: Variant, budget: int) -> list[FinishedRun]:
        """Return what is kept of the runs of a variant with a budget, one for each seed.

        Raises:
            UserError: a run is missing or not finished.
        """
        return [FinishedRun.open(self.kept(variant, seed, budget).path) for seed in self.seeds(variant)]

    def training_stage(self, variant: Variant, seed: int) -> str:
        """Return the stage of DVC that trains a variant that reads a source, with every budget."""
        kind = "control" if variant.name in self.corpora[variant.corpus].controls else "train"
        return f"pipelines/ablation/dvc.yaml:{kind}-{variant.corpus}@{variant.name}-{seed}"

    def run_origins(self, corpus: str) -> dict[tuple[str, int], RunOrigin]:
        """Return where the runs of a corpus with the largest budget lie, and how they are made again.

        Raises:
            UserError: a run is missing or not finished.
        """
        budget, found = self.corpora[corpus].budgets[-1], {}
        for variant in self.variants(corpus):
            for seed, run in zip(self.seeds(variant), self.open_runs(variant, budget), strict=True):
                kept = self.kept(variant, seed, budget)
                folder, settings = (
                    path.relative_to(self.results_folder).as_posix() for path in (kept.path, kept.config)
                )
                stage = f" {self.training_stage(variant, seed)}" if self.name == DEFAULT else ""
                command = f"{self.remedy}{stage}"
                found[variant.name, seed] = RunOrigin(folder, settings, command, run.metrics.code)
        return found

    def fingerprint_file(self, variant: Variant) -> Path:
        """The file that tells how a variant behaves in its first steps."""
        return self.results(variant.corpus) / "fingerprints" / f"{variant.name}.json"

    def fingerprint_override(self, variant: Variant) -> str:
        """Return the override that sets the fingerprint of a variant's trainings.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        file = self.fingerprint_file(variant)
        digest = read_record(file, Fingerprint, FINGERPRINT_VERSION, self.remedy).digest
        return f"fingerprint={quoted(digest)}"  # Some digests are numbers.

    def information_file(self, corpus: str) -> Path:
        """The file that the stage `information` writes."""
        return self.results_folder / "information" / f"{corpus}.json"

    def information(self, corpus: str) -> Information:
        """Read what the stage `information` has written.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_information(self.information_file(corpus), self.remedy)

    def translations(self, variant: Variant, seed: int, split: str) -> Path:
        """The file of a run's translations of dev or test."""
        return self.made(variant.corpus) / "translations" / f"{variant.name}-{seed}" / f"{split}.tsv"

    def tuning_file(self, variant: Variant) -> Path:
        """The file that holds the outcome of a variant's search."""
        return self.results(variant.corpus) / "tune" / f"{variant.name}.json"

    def stray_tuning_files(self, corpus: str) -> list[Path]:
        """The outcomes of searches for variants that the corpus no longer has; no stage makes or removes them."""
        own = [self.tuning_file(variant) for variant in [*self.variants(corpus), self.blind(corpus)]]
        return sorted(file for file in (self.results(corpus) / "tune").glob("*.json") if file not in own)

    def tuning(self, variant: Variant) -> Tuning:
        """Read the outcome of a variant's search.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.tuning_file(variant), Tuning, SCHEMA_VERSION, self.remedy)

    def facts_file(self, corpus: str) -> Path:
        """The file that describes a prepared corpus in numbers."""
        return self.results(corpus) / "corpus.json"

    def facts(self, corpus: str) -> CorpusFacts:
        """Read the numbers that describe a prepared corpus.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.facts_file(corpus), CorpusFacts, SCHEMA_VERSION, self.remedy)

    def overlap_file(self, corpus: str) -> Path:
        """The file that tells what each sentence of dev and test shares with train."""
        return self.made(corpus) / "overlap.json"

    def overlap(self, corpus: str) -> CorpusOverlap:
        """Read what each sentence of dev and test shares with train.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.overlap_file(corpus), CorpusOverlap, OVERLAP_VERSION, self.remedy)

    def evaluation_file(self, corpus: str) -> Path:
        """The file that the stage `evaluate` writes."""
        return self.results_folder / "evaluations" / f"{corpus}.json"

    def evaluation(self, corpus: str) -> Evaluation:
        """Read what the stage `evaluate` has written.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_evaluation(self.evaluation_file(corpus), self.remedy)

    def estimands(self, corpus: str) -> list[tuple[str, str]]:
        """The estimands whose variants a corpus has."""
        names = {variant.name for variant in self.variants(corpus)}
        return [(first, second) for first, second in self.settings.estimands if names >= {first, second}]

    def ladder_file(self, corpus: str) -> Path:
        """The file that the stage `ladder` writes."""
        return self.results_folder / "ladders" / f"{corpus}.json"

    def variants(self, corpus: str) -> list[Variant]:
        """The variants of a corpus that read a source, in the order of the file, the controls last."""
        settings = self.corpora[corpus]
        return [Variant(corpus, name) for name in (*settings.variants, *settings.controls)]

    def check_corpus(self, corpus: str) -> None:
        """Check that the ablation has a corpus.

        Raises:
            UserError: it has none of this name.
        """
        if corpus not in self.corpora:
            raise UserError(f"{corpus}: not in the ablation; it has {', '.join(self.corpora)}")

    def variant(self, corpus: str, name: str) -> Variant:
        """Return a variant by corpus and name.

        Raises:
            UserError: the ablation has none of these names.
        """
        wanted = Variant(corpus, name)
        if corpus not in self.corpora or wanted not in [*self.variants(corpus), self.blind(corpus)]:
            known = [f"{each} {variant.name}" for each in self.corpora for variant in self.variants(each)]
            raise UserError(f"{corpus} {name}: not in the ablation; it has {', '.join(known)}")
        return wanted

    def overrides(self, variant: Variant, seed: int, target_tokens: int) -> list[str]:
        """Return the overrides of a run, without those that its search chooses and without the run folder."""
        return [
            *self.data_overrides(variant.corpus),
            f"trainer={self.settings.trainer}",
            f"trainer.target_tokens={target_tokens}",
            f"trainer.validations={self.settings.validations}",
            "trainer.test=false",
            "trainer.select=loss",
            "trainer.pictures=0",
            # Smoothing holds the likelihood above that of the data: bits and the choice of checkpoints would show it.
            "optimizer.label_smoothing=0",
            f"seed={seed}",
            "logger=csv",
            "logger.system_metrics=10",
            "if_exists=continue_or_replace",
            *([f"plugins=[{','.join(self.settings.plugins)}]"] if self.settings.plugins else []),
            *self.settings.overrides,
            *self.variant_overrides[variant.name],
        ]

    def data_overrides(self, corpus: str) -> list[str]:
        """Return the overrides that select a corpus, its cache and its length buckets, and those that it has itself."""
        settings = self.corpora[corpus]
        edges = f"edges=[{','.join(map(str, settings.edges))}]"
        return [f"data={corpus}", path_override("cache", self.made(corpus) / "cache"), edges, *settings.overrides]

    def chosen(self, variant: Variant) -> list[str]:
        """Return the overrides that a variant's search chose; anything but one of its candidates is refused.

        Raises:
            UserError: the outcome of the search is missing, damaged, or not one of the candidates.
        """
        file = self.tuning_file(variant)
        chosen = self.tuning(variant).chosen
        rates = possible_rates(self.tune.learning_rates)
        dropouts = [self.dropout_words(variant, dropout) for dropout in self.tune.dropouts] or [[]]
        if chosen not in [[rate_word(rate), *words] for rate in rates for words in dropouts]:
            raise UserError(
                f"{file}: chosen is {' '.join(chosen)}, which is no candidate of the search: run {self.remedy}"
            )
        return chosen

    def dropout_words(self, variant: Variant, dropout: float) -> list[str]:
        """Return the overrides that set a variant's dropout: of encoder and decoder, where their kind has any."""
        config = self.compose(self.overrides(variant, 1, 1))
        return [f"{part}.dropout={dropout}" for part in DROPPING if "dropout" in config[part]]

    def compose(self, overrides: list[str]) -> dict[str, Any]:
        """Compose the settings of a command line with these overrides."""
        return compose_settings(overrides, self.root)


def load_ablation(root: Path = ROOT, name: str = DEFAULT, words: Sequence[str] = ()) -> Ablation:
    """Read and check a file of conf/ablation.

    Args:
        root: the project's folder.
        name: of the file.
        words: further overrides of all runs.

    Raises:
        UserError: there is no such file, a setting is wrong, or a variant does not exist or occurs twice; the message
            names the file.
    """
    if name != DEFAULT:  # That of DVC, whose absence is told as that of a file.
        _refuse_unknown(root, "ablation", name)
    ablation = read_settings(root / "conf" / "ablation" / f"{name}.yaml", lambda content: _check(content, root))
    corpora = {
        corpus: replace(settings, overrides=[*settings.overrides, *words])
        for corpus, settings in ablation.corpora.items()
    }
    return replace(ablation, corpora=corpora, name=name, words=tuple(words))


def refuse_default(name: str, remedy: str) -> None:
    """Refuse the default ablation, for a command that is of another; of a wrong name, the message offers the others.

    Args:
        name: of a file of conf/ablation.
        remedy: what to do in place of naming the default.

    Raises:
        UserError: it is the default's, or there is no such file.
    """
    if name == DEFAULT:
        raise UserError(f"conf={DEFAULT}: {remedy}")
    _refuse_unknown(ROOT, "ablation", name, left_out=[DEFAULT])


def read_stage(*names: str) -> tuple[Any, ...]:
    """Return the ablation of a stage's command line, and the words for these arguments.

    A word conf=NAME names the file of conf/ablation, conf=default where there is none; any other word KEY=VALUE is an
    override of all runs, as data.folder=FOLDER.

    Raises:
        UserError: see `arguments` and `load_ablation`.
    """
    settings = [word for word in sys.argv[1:] if SETTING.match(word)]
    words = arguments(*names, optional="[conf=NAME] [KEY=VALUE ...]", left_out=settings)
    read_stage_ticket()  # Of pipelines/ablate.py, if that has started the stage: it ends when that is stopped or dies.
    chosen = [word.removeprefix("conf=") for word in settings if word.startswith("conf=")]
    overrides = [word for word in settings if not word.startswith("conf=")]
    return load_ablation(name=chosen[-1] if chosen else DEFAULT, words=overrides), *words


def _check(content: Mapping[str, Any], root: Path) -> Ablation:
    shared = dict(content)
    for name, kind in (("tune", dict), ("variants", dict), ("corpora", list)):
        if not isinstance(shared.get(name), kind):
            raise UserError(f"{name}: set it to a {'block of settings' if kind is dict else 'list of names'}")
    if not all(isinstance(name, str) for name in shared["corpora"]):
        raise UserError("corpora: set it to a list of names")
    tune = build(TuneSettings, shared.pop("tune"), "tune")
    variants = check(dict[str, Words], shared.pop("variants"), "variants")
    for name in shared["corpora"]:
        if not isinstance(content.get(name), dict):
            raise UserError(f"corpora={name}: add a block {name} with its variants, seeds and budgets")
    # Every other mapping is the block of a corpus, whether `corpora` names it or not.
    blocks = {name: shared.pop(name) for name in list(shared) if isinstance(shared[name], dict)}
    settings = build(AblationSettings, shared, "ablation")
    load_plugins(settings.plugins)
    _refuse_twice(settings.corpora, "corpora")
    _check_folders(settings)
    _check_variants(variants)
    every = {name: _check_block(root, name, block, variants) for name, block in blocks.items()}
    corpora = {name: every[name] for name in settings.corpora}
    for name, corpus in corpora.items():
        if settings.baseline not in corpus.variants:
            raise UserError(f"baseline={settings.baseline}: not among {name}.variants")
        if len(corpus.variants) + len(corpus.controls) == 1:
            raise UserError(f"{name}.variants: {settings.baseline} alone; name a variant to compare it with")
        if unknown := sorted({*corpus.models} - {*corpus.variants}):
            raise UserError(f"{name}.models: {unknown[0]} is not among {name}.variants: {', '.join(corpus.variants)}")
    for pair in settings.estimands:
        if unknown := sorted({*pair} - variants.keys()):
            raise UserError(f"estimands: {unknown[0]} is not among variants: choose from {', '.join(variants)}")
    _refuse_unknown(root, "trainer", settings.trainer)
    return Ablation(settings, tune, variants, corpora, root)


def _check_variants(variants: Mapping[str, Words]) -> None:
    if BLIND not in variants:
        raise UserError(f"variants: add {BLIND}: [encoder=blind, attention=none], which bits are measured against")
    for name in variants:
        if not NAME.fullmatch(name):
            raise UserError(f"variants: {name!r}: a variant's name has letters, digits and _ alone")


def _check_block(root: Path, name: str, block: Mapping[str, Any], variants: Mapping[str, Words]) -> CorpusSettings:
    _refuse_unknown(root, "data", name)
    settings = build(CorpusSettings, block, name)
    if sorted(set(settings.budgets)) != settings.budgets:
        raise UserError(f"{name}.budgets={settings.budgets}: set them in ascending order, each once")
    names = [*settings.variants, *settings.controls]
    _refuse_twice(names, f"{name}.variants and controls")
    _refuse_twice(settings.seeds, f"{name}.seeds")
    for variant in names:
        if variant == BLIND:
            raise UserError(f"{name}.variants: {BLIND} is trained for every corpus: leave it out")
        if variant not in variants:
            raise UserError(f"{name}.variants: {variant} has no overrides: choose from {', '.join(variants)}")
    return settings


def _check_folders(settings: AblationSettings) -> None:
    """Check that both folders lie below the project's: `dvc exp run --temp` works in a copy of it."""
    for option, text in (("results", settings.results), ("intermediate", settings.intermediate)):
        path = Path(text)
        if path.is_absolute() or ".." in path.parts or path == Path():
            raise UserError(f"{option}={text}: set it to a folder below the project's, such as pipeline/small")
    if Path(settings.results) == Path(settings.intermediate):
        raise UserError(f"results={settings.results}: the same folder as intermediate; set it to another")


def _refuse_twice(names: list[Any], option: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{option}: {name} occurs twice")


def _refuse_unknown(root: Path, group: str, name: str, left_out: Collection[str] = ()) -> None:
    if not (root / "conf" / group / f"{name}.yaml").is_file():
        choices = sorted({path.stem for path in (root / "conf" / group).glob("*.yaml")} - {*left_out})
        raise UserError(f"{group} {name}: no file conf/{group}/{name}.yaml; choose from {', '.join(choices)}")
