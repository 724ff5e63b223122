"""Names of runs side by side."""

from helpers import compose_config

from hourglass.analysis.labels import label_families, label_runs


def test_runs_are_named_by_what_tells_them_apart() -> None:
    rnn, bag = compose_config("attention=multi_head"), compose_config("attention=multi_head", "encoder=bag")
    gru, other = compose_config("attention=multi_head", "decoder.cell=gru"), compose_config("attention=none")
    assert label_runs([rnn, other]) == ["multi_head", "none"]
    assert label_runs([rnn, bag]) == ["multi_head encoder=rnn", "multi_head encoder=bag"]
    assert label_runs([rnn, bag, gru]) == [
        "multi_head encoder=rnn decoder.cell=lstm",
        "multi_head encoder=bag",
        "multi_head encoder=rnn decoder.cell=gru",
    ]


def test_all_that_differs_in_the_model_is_named_within_an_attention_alone() -> None:
    config, other = compose_config("attention=luong_general"), compose_config("attention=none")
    copying = {**config, "decoder": {**config["decoder"], "copy": True}}
    assert label_runs([config, copying, other]) == [
        "luong_general decoder.copy=false",
        "luong_general decoder.copy=true",
        "none",
    ]
    older = {**config, "decoder": {key: value for key, value in config["decoder"].items() if key != "copy"}}
    assert label_runs([older, copying]) == ["luong_general", "luong_general decoder.copy=true"]
    assert label_runs([older, config]) == ["1: luong_general, seed 1", "2: luong_general, seed 1"]
    narrow = {**copying, "encoder": {**config["encoder"], "summary_size": 8}}
    assert label_runs([config, narrow]) == [
        f"luong_general encoder.summary_size={config['encoder']['summary_size']} decoder.copy=false",
        "luong_general encoder.summary_size=8 decoder.copy=true",
    ]
    longer = {**config, "trainer": {**config["trainer"], "target_tokens": 2000}}
    assert label_runs([longer, config])[0] == "luong_general trainer.target_tokens=2000"


def test_other_settings_name_runs_of_one_model_as_far_as_needed() -> None:
    config = compose_config("attention=none")
    rate = {**config, "optimizer": {**config["optimizer"], "learning_rate": 0.5}, "run_dir": "elsewhere"}
    narrow = {**rate, "encoder": {**config["encoder"], "summary_size": 8}}
    assert label_runs([rate, config])[0] == "none optimizer.learning_rate=0.5"
    assert label_runs([narrow, config])[0] == "none encoder.summary_size=8"  # Rates are tuned: they need no name.
    assert label_runs([config, config | {"seed": 2}]) == ["none, seed 1", "none, seed 2"]
    assert label_runs([config, config]) == ["1: none, seed 1", "2: none, seed 1"]


def test_a_family_differs_in_the_width_alone() -> None:
    config, other = compose_config("attention=none"), compose_config("attention=fixed")
    narrow = {**config, "encoder": {**config["encoder"], "summary_size": 8}}
    gru = {**narrow, "decoder": {**config["decoder"], "cell": "gru"}}
    assert label_families([config, narrow, other]) == ["none", "none", "fixed"]
    assert label_families([config, narrow, gru]) == ["none decoder.cell=lstm"] * 2 + ["none decoder.cell=gru"]
