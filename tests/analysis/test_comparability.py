"""Which settings of runs are refused, named, or left alone when their likelihoods are compared."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from helpers import compose_config

from hourglass.analysis.bits import bits_in_training, have_one_encoder
from hourglass.analysis.comparability import check_comparable, check_seeds, name_differences
from hourglass.analysis.information import BLIND, SettingDifference
from hourglass.config.older import in_present_form
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT
from hourglass.training.finished import FinishedRun


def run(name: str, *overrides: str, tokens: int = 1000) -> FinishedRun:
    """Return what the checks read of a finished run."""
    config: dict[str, Any] = deepcopy(dict(compose_config("data=numbers", *overrides)))
    metrics = SimpleNamespace(train_target_tokens=tokens, corpus_digest="c", tokenizer_digest="t")
    return cast(FinishedRun, SimpleNamespace(path=Path(name), config=config, metrics=metrics))


@pytest.fixture(scope="module")
def blind() -> FinishedRun:
    return run("blind", "encoder=blind", "attention=none")


@pytest.mark.parametrize(
    ("override", "option"),
    [
        ("optimizer.label_smoothing=0.2", "optimizer.label_smoothing"),
        ("trainer.precision=bf16-mixed", "trainer.precision"),
        ("decoder.hidden_size=128", "decoder.hidden_size"),
        ("trainer.patience=2", "trainer.patience"),
    ],
)
def test_what_changes_the_likelihood_itself_is_refused(blind: FinishedRun, override: str, option: str) -> None:
    check_comparable(blind, [run("same", "attention=none")])
    with pytest.raises(UserError, match=rf"other: another {option} than blind's"):
        check_comparable(blind, [run("same", "attention=none"), run("other", "attention=none", override)])


def test_a_blind_run_is_chosen_by_loss_and_default_runs_by_bleu() -> None:
    """Which is named; runs that see the source and are chosen in two ways are refused."""
    blind = run("blind", "experiment=language_model")
    default, other = run("default", "attention=luong_general"), run("other", "attention=none")
    check_comparable(blind, [blind, default, other])
    assert name_differences(blind, {"look": [default], "none": [other]}) == [
        SettingDifference("trainer.select", {"look": "bleu", "none": "bleu", BLIND: "loss"})
    ]
    by_loss = run("by_loss", "attention=none", "trainer.select=loss")
    assert name_differences(blind, {"none": [by_loss]}) == []
    with pytest.raises(UserError, match=r"^by_loss: another trainer\.select than default's \(loss, bleu\)"):
        check_comparable(blind, [blind, default, by_loss])


@pytest.mark.parametrize("override", ["encoder=transformer", "encoder.cell=mlstm"])
def test_variants_of_two_kinds_of_encoder_are_no_pair(override: str) -> None:
    plain, turned = compose_config(), compose_config("encoder.reverse_source=true", "encoder.bidirectional=false")
    assert have_one_encoder(plain, turned)
    assert not have_one_encoder(plain, compose_config(override))


@pytest.mark.parametrize(
    ("override", "option", "before", "after"),
    [
        ("optimizer.warmup=0.1", "optimizer.warmup", 0.05, 0.1),
        ("optimizer.decay=none", "optimizer.decay", "sqrt", "none"),
        ("optimizer.clip_norm=5", "optimizer.clip_norm", 1.0, 5),
        ("optimizer.beta2=0.999", "optimizer.beta2", 0.98, 0.999),
        ("init_range=0.1", "init_range", 0.0, 0.1),
        ("trainer.target_tokens=500", "trainer.target_tokens", 2_000_000, 500),
        ("trainer.batch_tokens=800", "trainer.batch_tokens", 400, 800),
        ("trainer.scheduled_sampling=0.2", "trainer.scheduled_sampling", 0.0, 0.2),
        ("trainer.null_source=0.1", "trainer.null_source", 0.0, 0.1),
        ("data.curriculum=0.5", "data.curriculum", 0.0, 0.5),
    ],
)
def test_what_changes_a_training_is_named(
    blind: FinishedRun, override: str, option: str, before: Any, after: Any
) -> None:
    none, plain = run("none", "attention=none"), run("plain", "attention=luong_general")
    assert name_differences(blind, {"none": [none], "plain": [plain]}) == []
    other = run("other", "attention=luong_general", override)
    check_comparable(blind, [other])
    named = name_differences(blind, {"none": [none], "plain": [other]})
    assert named == [SettingDifference(option, {"none": before, "plain": after, BLIND: before})]


def test_encoders_and_the_way_to_see_the_source_are_compared_between_variants(blind: FinishedRun) -> None:
    none = run("none", "attention=none", "encoder.reverse_source=true")
    previous = run("bahdanau", "attention=bahdanau", "decoder.start=zero")  # Its query is part of the attention.
    named = name_differences(blind, {"none": [none], "bahdanau": [previous]})
    assert named == [
        SettingDifference("encoder.reverse_source", {"none": True, "bahdanau": False}),
        SettingDifference("decoder.start", {"none": "dense", "bahdanau": "zero"}),
    ]


def test_the_searched_learning_rate_and_the_seed_are_not_named(blind: FinishedRun) -> None:
    other = run("other", "attention=none", "optimizer.learning_rate=0.1", "seed=5", "trainer.threads=3")
    assert name_differences(blind, {"none": [other]}) == []


def test_another_optimizer_is_named_by_its_name(blind: FinishedRun) -> None:
    named = name_differences(blind, {"none": [run("sgd", "attention=none", "optimizer=sgd")]})
    assert named[0] == SettingDifference("optimizer.name", {"none": "sgd", BLIND: "adam"})
    assert "optimizer.beta1" not in [item.option for item in named]


def test_a_run_older_than_an_option_has_its_default(blind: FinishedRun) -> None:
    old = run("old", "attention=none")
    config = deepcopy(dict(old.config))
    del config["trainer"]["null_source"], config["data"]["curriculum"]
    cast(Any, old).config = in_present_form(config)
    assert name_differences(blind, {"none": [old]}) == []
    check_seeds("none", [old, run("new", "attention=none", "seed=2")])


@pytest.mark.parametrize("override", ["trainer.batch_tokens=800", "init_range=0.1", "trainer.precision=bf16-mixed"])
def test_seeds_of_a_variant_share_what_changes_a_training(override: str) -> None:
    first = run("first", "attention=none")
    check_seeds("none", [first, run("second", "attention=none", "seed=2")])
    with pytest.raises(UserError, match=f"second: another {override.partition('=')[0]} than first's"):
        check_seeds("none", [first, run("second", "attention=none", "seed=2", override)])


def test_training_is_held_against_as_many_tokens() -> None:
    blind = [(1000.0, 4.0), (2000.0, 3.0), (4000.0, 2.0)]
    losses = [(500.0, 4.5), (990.0, 3.5), (1500.0, 3.0), (4000.0, 1.0), (4100.0, 1.0)]
    points = bits_in_training(blind, losses, pieces=10.0)
    # No point before the first of the blind run, but for the rounding of budgets; 3.5 is halfway from 4 to 3.
    assert [point.target_tokens for point in points] == [990.0, 1500.0, 4000.0, 4100.0]
    assert [point.bits / (10 * BITS_A_NAT) for point in points] == pytest.approx([0.5, 0.5, 1.0, 1.0])
