"""Settings of earlier versions mean the same today."""

from copy import deepcopy
from typing import Any

import pytest
import yaml
from helpers import CONF, compose_config

from hourglass.analysis.width import find_width_families
from hourglass.config.differences import changes
from hourglass.config.older import CORPORA, ENCODERS, OPTIONS_BEFORE, in_present_form
from hourglass.metrics.metrics import make_metrics


@pytest.mark.parametrize(
    ("older", "others", "options"),
    [
        ([], ["chrf"], []),
        (["ter"], ["chrf", "ter"], []),
        ([{"name": "ter", "case_sensitive": True}], ["chrf", "ter"], [{"name": "ter", "case_sensitive": True}]),
    ],
)
def test_a_list_of_metrics_stood_beside_bleu_and_chrf(older: Any, others: list[str], options: list[Any]) -> None:
    config = compose_config() | {"metrics": older}
    present = in_present_form(config)
    assert present["metrics"] == {"main": "bleu", "others": others, "options": options}
    assert [metric.name for metric in make_metrics(present["metrics"], "en").all] == ["bleu", *others]
    assert in_present_form(present) == present


def test_a_run_of_before_has_the_default_metrics_and_no_other_settings() -> None:
    now = compose_config()
    before = {key: value for key, value in now.items() if key != "metrics"}
    assert changes(in_present_form(before | {"metrics": []}), now) == []
    assert changes(in_present_form(before), now) == []


# A choice of a group that has the options, and one that has not, if there is one.
CHOICES = {
    "search": ["beam"],
    "trainer": ["cpu"],
    "encoder": ["rnn", "features", "blind"],
    "decoder": ["rnn"],
    "attention": ["bahdanau", "bahdanau_normed", "luong_concat", "none"],
    "data": ["kjv_web", "multi30k", "docstrings", "recall", "numbers"],
}


def as_before(config: dict[str, Any]) -> dict[str, Any]:
    """Return settings without the options that earlier versions lacked."""
    older = deepcopy(config)
    for before in OPTIONS_BEFORE:
        if before.is_of(older[before.group].get("name")):
            for key in before.options:
                del older[before.group][key]
    return older


@pytest.mark.parametrize(("group", "choice"), [(group, name) for group, names in CHOICES.items() for name in names])
def test_what_earlier_versions_lacked_is_as_they_did_it_and_nothing_else_changes(group: str, choice: str) -> None:
    now = compose_config(f"{group}={choice}")
    assert in_present_form(now) == now
    present = in_present_form(as_before(now))
    # Other than by default today: whole verses, and copies of the array API.
    assert {*changes(present, now)} <= {"data.clauses", "data.left_out"}
    assert present["data"].get("clauses", 0) == 0
    assert "array_api_compat" not in present["data"].get("left_out", [])


def test_every_row_of_the_table_is_tried() -> None:
    for before in OPTIONS_BEFORE:
        chosen = [compose_config(f"{before.group}={name}")[before.group].get("name") for name in CHOICES[before.group]]
        assert any(map(before.is_of, chosen)), before


def test_all_corpora_of_the_project_have_a_curriculum_and_another_need_not() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (CONF / "data").glob("*.yaml")]
    assert {own["name"] for own in files if "curriculum" in own and "name" in own} == {*CORPORA}
    config = {"data": {"name": "of_a_plugin", "source": "en", "target": "de"}}
    assert in_present_form(config) == config


def test_all_encoders_of_the_project_have_patches_and_another_need_not() -> None:
    files = [yaml.safe_load(file.read_text()) for file in (CONF / "encoder").glob("*.yaml")]
    assert {own["name"] for own in files if "patches" in own} == {*ENCODERS}
    config = {"encoder": {"name": "of_a_plugin", "hidden_size": 8}}
    assert in_present_form(config) == config


def test_widths_that_were_trained_before_and_after_an_option_are_of_one_family() -> None:
    now = compose_config("attention=bahdanau")
    narrow = compose_config("attention=bahdanau", "encoder.summary_size=16")
    present = in_present_form(as_before(now)) | {"data": now["data"]}  # Whose sentences are other ones today.
    (family,) = find_width_families({"narrow": narrow, "wide": present}, "wide")
    assert list(family.variants.values()) == ["narrow", "wide"]
