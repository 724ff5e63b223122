"""The settings of the ablation: they decide the runs, and mistakes are refused by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT

from hourglass.analysis.evaluation import SCHEMA_VERSION
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, Variant, load_ablation
from hourglass.training.settings import check_settings


@pytest.fixture
def altered(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that copies conf/ and changes the ablation: {"numbers.seeds": [1]}; None removes a key."""

    def copy(changes: dict[str, Any]) -> Path:
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
def test_the_settings_of_every_run_compose() -> None:
    ablation = load_ablation()
    for corpus, settings in ablation.corpora.items():
        for variant in ablation.variants(corpus):
            for candidate in ablation.candidates(variant, ablation.tune.learning_rates[0]):
                config = ablation.compose([*ablation.overrides(variant, settings.seeds[0], 1000), *candidate])
                check_settings(config)
                assert config["attention"]["name"] == variant.attention
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
    config = ablation.compose([*ablation.overrides(variant, 1, 1000), *ablation.candidates(variant, 5e-05)[0]])
    assert config["optimizer"]["learning_rate"] == 5e-05


def test_variants_of_a_corpus_differ_in_attention_only() -> None:
    """All other settings, including budget and batches, are the same."""
    ablation = load_ablation()
    for corpus in ablation.corpora:
        configs = [ablation.compose(ablation.overrides(variant, 1, 1000)) for variant in ablation.variants(corpus)]
        for config in configs:
            config.pop("attention")
            # It belongs to the published order of the attention; the report names it for every pair.
            config["decoder"].pop("query")
        assert all(config == configs[0] for config in configs)


def test_a_run_has_the_seed_and_the_budget_and_is_selected_by_loss() -> None:
    ablation = load_ablation()
    settings = ablation.corpora["numbers"]
    config = ablation.compose(ablation.overrides(Variant("numbers", "none"), 7, 123))
    assert (config["seed"], config["trainer"]["target_tokens"], config["trainer"]["select"]) == (7, 123, "loss")
    assert config["optimizer"]["label_smoothing"] == 0
    for rate in ablation.tune.learning_rates:
        (words,) = ablation.blind_candidates(rate)
        blind = ablation.compose([*ablation.blind_overrides("numbers"), *words])
        assert (blind["encoder"]["name"], blind["optimizer"]["learning_rate"]) == ("blind", rate)
        assert blind["trainer"]["target_tokens"] == settings.target_tokens != settings.tune_tokens
        assert blind["trainer"]["select"] == "loss"


def test_every_variant_gets_the_same_search() -> None:
    ablation = load_ablation()
    plain = ["optimizer.learning_rate=0.002"]
    for corpus in ablation.corpora:
        for variant in ablation.variants(corpus):
            reverses = variant.attention in ablation.tune.reverse_source
            expected = [plain, [*plain, "encoder.reverse_source=true"]] if reverses else [plain]
            assert ablation.candidates(variant, 0.002) == expected
    assert ablation.blind_candidates(0.002) == [plain]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"numbers.attentions": ["none", "luong_genral"]},
            r"attention luong_genral: no file conf/attention/.*luong_general",
        ),
        ({"numbers.attentions": ["none", "none"]}, r"numbers\.attentions: none occurs twice"),
        ({"numbers.seeds": [1, 1]}, r"numbers\.seeds: 1 occurs twice"),
        ({"numbers.edges": [2, 5]}, r"the first of them 1"),
        ({"baseline": "fixed"}, r"baseline=fixed: not among kjv_web\.attentions"),
        ({"trainer": "tpu"}, r"trainer tpu: no file conf/trainer/tpu\.yaml; choose from capacity, cpu"),
        ({"corpora": ["numbers", "kjv"]}, r"corpora=kjv: add a block kjv"),
        ({"resamples": 10}, r"ablation\.resamples=10: .*1000"),
        ({"kjv_web.target_tokens": None}, r"kjv_web\.target_tokens: missing"),
        ({"kjv_web.budget": 3}, r"kjv_web\.budget: no such option"),
        ({"tune": None}, "tune: set it to a block of settings"),
        ({"tune": 3}, "tune: set it to a block of settings"),
        ({"corpora": [{"a": "b"}]}, "corpora: set it to a list of names"),
        ({"tune.reverse_source": ["nothing"]}, r"tune\.reverse_source=nothing: no such attention"),
        ({"corpora": ["numbers"], "kjv_web.seeds": [1, 1]}, r"kjv_web\.seeds: 1 occurs twice"),
        ({"corpora": ["numbers"], "number": {"seeds": [1]}}, r"data number: no file conf/data/number\.yaml"),
        ({"numbers.attentions": ["none"]}, r"numbers\.attentions: none alone; name a variant to compare it with"),
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
    ablation = load_ablation(altered({"corpora": ["numbers"], "kjv_web.attentions": ["bahdanau"]}))
    assert list(ablation.corpora) == ["numbers"]
    with pytest.raises(UserError, match=r"kjv_web: not in the ablation; it has numbers$"):
        ablation.check_corpus("kjv_web")


def test_a_small_ablation_keeps_its_files_elsewhere(altered: Callable[..., Path]) -> None:
    usual, small = load_ablation(), load_ablation(altered({"results": "small/kept", "intermediate": "small"}))

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
    ablation = load_ablation(altered({"numbers.attentions": ["none", "mean"]}))
    for name in ("none", "mean", "fixed"):
        file = ablation.tuning_file(Variant("numbers", name))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}")
    assert ablation.stray_tuning_files("numbers") == [ablation.tuning_file(Variant("numbers", "fixed"))]


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UserError, match=r"numbers luong_genral: not in the ablation; it has numbers none"):
        load_ablation().variant("numbers", "luong_genral")


@pytest.mark.parametrize("seed", ["9", "x", "1.0", ""])
def test_an_unknown_seed_is_refused(seed: str) -> None:
    assert load_ablation().seed("numbers", "3") == 3
    with pytest.raises(UserError, match=rf"{seed}: no seed of numbers in conf/ablation; choose from 1, 2, 3"):
        load_ablation().seed("numbers", seed)


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
