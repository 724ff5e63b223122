"""Settings of earlier versions mean the same today."""

from typing import Any

import pytest
from helpers import compose_config

from hourglass.analysis.width import find_width_families
from hourglass.config.differences import changes
from hourglass.config.older import ATTENTION_BEFORE, COVERING, DECODER_BEFORE, in_present_form
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


@pytest.mark.parametrize("encoder", ["rnn", "features", "blind"])
def test_an_encoder_of_before_reads_patches_as_it_did(encoder: str) -> None:
    now = compose_config(f"encoder={encoder}")
    before = {key: value for key, value in now["encoder"].items() if key != "patches"}
    assert in_present_form({**now, "encoder": before}) == now


@pytest.mark.parametrize("attention", ["none", *COVERING])
def test_a_decoder_of_before_had_no_switch_and_no_coverage(attention: str) -> None:
    now = compose_config(f"attention={attention}")
    assert DECODER_BEFORE.keys() < now["decoder"].keys()
    assert (ATTENTION_BEFORE.keys() < now["attention"].keys()) == (attention in COVERING)
    decoder = {key: value for key, value in now["decoder"].items() if key not in DECODER_BEFORE}
    own = {key: value for key, value in now["attention"].items() if key not in ATTENTION_BEFORE}
    before = {**now, "decoder": decoder, "attention": own}
    assert in_present_form(before) == now
    # So widths that were trained before and after are of one family.
    narrow = compose_config(f"attention={attention}", "encoder.summary_size=16")
    (family,) = find_width_families({"narrow": narrow, "wide": in_present_form(before)}, "wide")
    assert list(family.variants.values()) == ["narrow", "wide"]
