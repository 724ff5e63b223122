"""The settings of an ablation (variants, corpora, seeds, budgets) and the paths of its files.

The settings are in conf/ablation/default.yaml. dvc.yaml reads them for its matrices, and the scripts in
pipelines/ablation/ read them through this module.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt

from hourglass.analysis.evaluation import (
    LEARNING_RATE,
    REVERSED_SOURCE,
    SCHEMA_VERSION,
    CorpusFacts,
    Evaluation,
    Tuning,
    read_evaluation,
)
from hourglass.analysis.information import Information, read_information
from hourglass.config.compose import compose_settings
from hourglass.config.options import Words, build, read_settings
from hourglass.config.plugins import load_plugins
from hourglass.corpora.overlap import OVERLAP_VERSION, CorpusOverlap
from hourglass.errors import UserError
from hourglass.experiments.rate_search import possible_rates
from hourglass.metrics.scoring import length_buckets
from hourglass.models.attention import ATTENTIONS
from hourglass.runs.folder import RunFolder
from hourglass.system.commands import path_override
from hourglass.system.project import ROOT
from hourglass.system.records import read_record

# The command that makes the files of an ablation again.
REMEDY = "dvc repro"


Names = Annotated[list[str], Field(min_length=1)]


@dataclass(frozen=True)
class TuneSettings:
    """The small search for the settings of each variant.

    Attributes:
        learning_rates: the grid, which is extended until its best rate is no end of it (`search_rates`).
        reverse_source: variants whose search also tries the source in reverse order.
    """

    learning_rates: Annotated[list[PositiveFloat], Field(min_length=1)]
    reverse_source: list[str]


@dataclass(frozen=True)
class CorpusSettings:
    """The variants and budgets of one corpus.

    Attributes:
        attentions: the variants, files of conf/attention.
        seeds: of each variant.
        target_tokens: budget of a run.
        tune_tokens: budget of a candidate of the search.
        edges: first number of source words of each length bucket.
    """

    attentions: Names
    seeds: Annotated[list[int], Field(min_length=1)]
    target_tokens: PositiveInt
    tune_tokens: PositiveInt
    edges: list[int]

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
        floor: BLEU that the baseline must reach before slopes over length are reported.
        converged: share of the dev loss; a run whose last fifth of the budget gained less counts as converged.
        examples: number of test sentences in the report.
        corpora: files of conf/data.
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
    examples: Annotated[int, Field(ge=0, le=50)]
    corpora: Names
    results: Annotated[str, Field(min_length=1)]
    intermediate: Annotated[str, Field(min_length=1)]
    plugins: Words = field(default_factory=list)


@dataclass(frozen=True)
class Variant:
    """One attention on one corpus."""

    corpus: str
    attention: str


@dataclass(frozen=True)
class Ablation:
    """The settings of an ablation, and the paths of its files below `root`.

    Attributes:
        settings: shared by all corpora.
        tune: of the search.
        corpora: by name.
        root: the project's folder, with conf/ and the folders that `settings` names.
    """

    settings: AblationSettings
    tune: TuneSettings
    corpora: dict[str, CorpusSettings]
    root: Path

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
        """The folder of a run."""
        return RunFolder(self.made(variant.corpus) / "runs" / f"{variant.attention}-{seed}")

    def seed(self, corpus: str, text: str) -> int:
        """Return the seed that a word of the command line names.

        Raises:
            UserError: the ablation does not train the corpus's variants with it.
        """
        seeds = {str(seed): seed for seed in self.corpora[corpus].seeds}
        if text not in seeds:
            raise UserError(f"{text}: no seed of {corpus} in conf/ablation; choose from {', '.join(seeds)}")
        return seeds[text]

    def half_run(self, variant: Variant) -> RunFolder:
        """The folder of a variant's run with half the budget."""
        return RunFolder(self.made(variant.corpus) / "half" / variant.attention)

    def half_overrides(self, variant: Variant) -> list[str]:
        """Return the overrides of that run: those of the first seed, half its budget, and a test to be scored."""
        settings = self.corpora[variant.corpus]
        common = self.overrides(variant, settings.seeds[0], settings.target_tokens // 2)
        return [*common, *self.chosen(variant), "trainer.test=true"]

    def blind_run(self, corpus: str, number: int) -> RunFolder:
        """The folder of a candidate of the blind decoder's search, by its number, from 0."""
        return RunFolder(self.made(corpus) / "blind" / f"{number}")

    def blind_runs(self, corpus: str) -> list[RunFolder]:
        """The folders of the candidates whose trainings did not diverge.

        Raises:
            UserError: the outcome of the search is missing, damaged, or of another version.
        """
        candidates = self.blind_search(corpus).candidates
        return [self.blind_run(corpus, i) for i, candidate in enumerate(candidates) if candidate.dev_loss is not None]

    def blind_overrides(self, corpus: str) -> list[str]:
        """Return the overrides that the blind decoder's candidates share.

        They have the whole budget: all variants are compared with the best of them, and an undertrained blind decoder
        would make every variant look better than it is.
        """
        settings = self.corpora[corpus]
        return [*self.overrides(Variant(corpus, "none"), settings.seeds[0], settings.target_tokens), "encoder=blind"]

    def blind_candidates(self, rate: float) -> list[list[str]]:
        """Return the overrides of each candidate of the blind decoder's search with a learning rate: one."""
        return [[f"{LEARNING_RATE}{rate}"]]

    def blind_search_file(self, corpus: str) -> Path:
        """The file that holds the outcome of the blind decoder's search."""
        return self.made(corpus) / "blind" / "search.json"

    def blind_search(self, corpus: str) -> Tuning:
        """Read the outcome of the blind decoder's search.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.blind_search_file(corpus), Tuning, SCHEMA_VERSION, REMEDY)

    def information_file(self, corpus: str) -> Path:
        """The file that the stage `information` writes."""
        return self.results_folder / "information" / f"{corpus}.json"

    def information(self, corpus: str) -> Information:
        """Read what the stage `information` has written.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_information(self.information_file(corpus), REMEDY)

    def translations(self, variant: Variant, seed: int, split: str) -> Path:
        """The file of a run's translations of dev or test."""
        return self.made(variant.corpus) / "translations" / f"{variant.attention}-{seed}" / f"{split}.tsv"

    def tuning_file(self, variant: Variant) -> Path:
        """The file that holds the outcome of a variant's search."""
        return self.results(variant.corpus) / "tune" / f"{variant.attention}.json"

    def stray_tuning_files(self, corpus: str) -> list[Path]:
        """The outcomes of searches for variants that the corpus no longer has; no stage makes or removes them."""
        own = [self.tuning_file(variant) for variant in self.variants(corpus)]
        return sorted(file for file in (self.results(corpus) / "tune").glob("*.json") if file not in own)

    def tuning(self, variant: Variant) -> Tuning:
        """Read the outcome of a variant's search.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.tuning_file(variant), Tuning, SCHEMA_VERSION, REMEDY)

    def facts_file(self, corpus: str) -> Path:
        """The file that describes a prepared corpus in numbers."""
        return self.results(corpus) / "corpus.json"

    def facts(self, corpus: str) -> CorpusFacts:
        """Read the numbers that describe a prepared corpus.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.facts_file(corpus), CorpusFacts, SCHEMA_VERSION, REMEDY)

    def overlap_file(self, corpus: str) -> Path:
        """The file that tells what each sentence of dev and test shares with train."""
        return self.made(corpus) / "overlap.json"

    def overlap(self, corpus: str) -> CorpusOverlap:
        """Read what each sentence of dev and test shares with train.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_record(self.overlap_file(corpus), CorpusOverlap, OVERLAP_VERSION, REMEDY)

    def evaluation_file(self, corpus: str) -> Path:
        """The file that the stage `evaluate` writes."""
        return self.results_folder / "evaluations" / f"{corpus}.json"

    def evaluation(self, corpus: str) -> Evaluation:
        """Read what the stage `evaluate` has written.

        Raises:
            UserError: the file is missing, damaged, or of another version.
        """
        return read_evaluation(self.evaluation_file(corpus), REMEDY)

    def variants(self, corpus: str) -> list[Variant]:
        """The variants of a corpus, in the order of the file."""
        return [Variant(corpus, attention) for attention in self.corpora[corpus].attentions]

    def check_corpus(self, corpus: str) -> None:
        """Check that the ablation has a corpus.

        Raises:
            UserError: it has none of this name.
        """
        if corpus not in self.corpora:
            raise UserError(f"{corpus}: not in the ablation; it has {', '.join(self.corpora)}")

    def variant(self, corpus: str, attention: str) -> Variant:
        """Return a variant by corpus and attention.

        Raises:
            UserError: the ablation has none of these names.
        """
        wanted = Variant(corpus, attention)
        if corpus not in self.corpora or wanted not in self.variants(corpus):
            known = [f"{name} {variant.attention}" for name in self.corpora for variant in self.variants(name)]
            raise UserError(f"{corpus} {attention}: not in the ablation; it has {', '.join(known)}")
        return wanted

    def overrides(self, variant: Variant, seed: int, target_tokens: int) -> list[str]:
        """Return the overrides of a run, without those that its search chooses and without the run folder."""
        return [
            *self.data_overrides(variant.corpus),
            f"attention={variant.attention}",
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
        ]

    def data_overrides(self, corpus: str) -> list[str]:
        """Return the overrides that select a corpus, its cache and its length buckets."""
        edges = ",".join(map(str, self.corpora[corpus].edges))
        return [f"data={corpus}", path_override("cache", self.made(corpus) / "cache"), f"edges=[{edges}]"]

    def candidates(self, variant: Variant, rate: float) -> list[list[str]]:
        """Return the overrides of each candidate of a variant's search with a learning rate."""
        plain = [f"{LEARNING_RATE}{rate}"]
        if variant.attention not in self.tune.reverse_source:
            return [plain]
        return [plain, [*plain, REVERSED_SOURCE]]

    def chosen(self, variant: Variant) -> list[str]:
        """Return the overrides that a variant's search chose; anything but one of its candidates is refused.

        Raises:
            UserError: the outcome of the search is missing, damaged, or not one of the candidates.
        """
        file = self.tuning_file(variant)
        chosen = self.tuning(variant).chosen
        rates = possible_rates(self.tune.learning_rates)
        if chosen not in [words for rate in rates for words in self.candidates(variant, rate)]:
            raise UserError(f"{file}: chosen is {' '.join(chosen)}, which is no candidate of the search: run {REMEDY}")
        return chosen

    def compose(self, overrides: list[str]) -> dict[str, Any]:
        """Compose the settings of a command line with these overrides."""
        return compose_settings(overrides, self.root)


def load_ablation(root: Path = ROOT) -> Ablation:
    """Read and check conf/ablation/default.yaml.

    Raises:
        UserError: a setting is wrong, or a variant does not exist or occurs twice; the message names the file.
    """
    file = root / "conf" / "ablation" / "default.yaml"
    return read_settings(file, lambda content: _check(content, root))


def _check(content: Mapping[str, Any], root: Path) -> Ablation:
    shared = dict(content)
    for name, kind in (("tune", dict), ("corpora", list)):
        if not isinstance(shared.get(name), kind):
            raise UserError(f"{name}: set it to a {'block of settings' if kind is dict else 'list of names'}")
    if not all(isinstance(name, str) for name in shared["corpora"]):
        raise UserError("corpora: set it to a list of names")
    tune = build(TuneSettings, shared.pop("tune"), "tune")
    for name in shared["corpora"]:
        if not isinstance(content.get(name), dict):
            raise UserError(f"corpora={name}: add a block {name} with its attentions, seeds and budgets")
    # Every other mapping is the block of a corpus, whether `corpora` names it or not.
    blocks = {name: shared.pop(name) for name, value in content.items() if name != "tune" and isinstance(value, dict)}
    settings = build(AblationSettings, shared, "ablation")
    load_plugins(settings.plugins)
    _refuse_twice(settings.corpora, "corpora")
    _check_folders(settings)
    every = {name: _check_block(root, name, block) for name, block in blocks.items()}
    corpora = {name: every[name] for name in settings.corpora}
    for name, corpus in corpora.items():
        if settings.baseline not in corpus.attentions:
            raise UserError(f"baseline={settings.baseline}: not among {name}.attentions")
        if len(corpus.attentions) == 1:
            raise UserError(f"{name}.attentions: {settings.baseline} alone; name a variant to compare it with")
    _refuse_unknown(root, "trainer", settings.trainer)
    for attention in tune.reverse_source:
        if attention not in ATTENTIONS:
            raise UserError(f"tune.reverse_source={attention}: no such attention")
    return Ablation(settings, tune, corpora, root)


def _check_block(root: Path, name: str, block: Mapping[str, Any]) -> CorpusSettings:
    _refuse_unknown(root, "data", name)
    settings = build(CorpusSettings, block, name)
    _refuse_twice(settings.attentions, f"{name}.attentions")
    _refuse_twice(settings.seeds, f"{name}.seeds")
    for attention in settings.attentions:
        _refuse_unknown(root, "attention", attention)
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


def _refuse_unknown(root: Path, group: str, name: str) -> None:
    if not (root / "conf" / group / f"{name}.yaml").is_file():
        choices = ", ".join(sorted(path.stem for path in (root / "conf" / group).glob("*.yaml")))
        raise UserError(f"{group} {name}: no file conf/{group}/{name}.yaml; choose from {choices}")
