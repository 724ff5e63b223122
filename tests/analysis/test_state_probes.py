"""Probes of the decoder's state: what states are made to tell, they find; and the states are those of the search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ROOT, character_vocabularies, plain_search, tiny_config

from hourglass.analysis import state_probes
from hourglass.analysis.explorer import LiveModels, follow
from hourglass.analysis.state_probes import (
    StateProbes,
    check_state_probed,
    greedy_states,
    kept_state_probes,
    probes_file,
    write_state_probes,
)
from hourglass.data.pieces import EOS
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.models.checkpoint import Trained
from hourglass.runs.folder import RunFolder
from hourglass.training.finished import FinishedRun

WIDTH, PIECES = 12, 6


def made_states(count: int, seed: int) -> Any:
    """Return sentences of four pieces, and states that tell the second piece before the first step and after it.

    The states of later steps are noise.
    """
    random = np.random.default_rng(seed)
    ids = [[*random.integers(10, 10 + PIECES, size=3).tolist(), EOS] for _ in range(count)]
    states = random.normal(size=(count, 5, WIDTH)).astype(np.float32)
    for row, sentence in enumerate(ids):
        states[row, :2, :PIECES] = 3 * np.eye(PIECES)[sentence[1] - 10]
    flat = torch.from_numpy(states.reshape(-1, WIDTH)).half()
    return state_probes._States(ids, flat, 5 * np.arange(count + 1), True)


@pytest.fixture(scope="module")
def probes() -> StateProbes:
    patch = pytest.MonkeyPatch()
    patch.setattr(state_probes, "FIRST_STEPS", (0, 1, 2))
    patch.setattr(state_probes, "RATE", 0.02)
    fitted = state_probes._fit(made_states(600, 1), made_states(300, 2), None, 7)
    patch.undo()
    return fitted


def test_probes_find_what_the_states_tell_and_nothing_else(probes: StateProbes) -> None:
    assert probes.first_steps.tolist() == [0, 1, 2]
    assert probes.positions == 4
    told = probes.told_bits / probes.bits
    assert (told[:2, 1] > 0.8).all()
    assert (probes.right[:2, 1] > 0.9 * probes.asked[:2, 1]).all()
    assert (probes.right_by_chance[:2, 1] < 0.4 * probes.asked[:2, 1]).all()
    for group, position in ((0, 0), (1, 2), (2, 0), (2, 1), (2, 2)):  # Chance: what is not there is not told.
        assert told[group, position] == pytest.approx(0, abs=0.05)
    assert probes.asked[0].tolist() == [300] * 4


def test_the_share_told_is_that_of_the_bits_of_the_piece_that_stands_there(probes: StateProbes) -> None:
    state = np.zeros((3, WIDTH), np.float32)
    state[:2, 4] = 3
    told = probes.told(state, [10, 14, 11, EOS], 0)
    assert told.shape == (3, 4)
    assert (told[:2, 1] > 0.7).all()
    assert (told[:, 0] < 0.2).all()
    assert (probes.told(state, [10, 15, 11, EOS], 0)[:2, 1] < 0.1).all()  # Another piece than the state says.
    # By hand, from the equation in the module's docstring.
    column = probes.pieces.tolist().index(14)
    scaled = ((state[1] - probes.means[1]) / probes.spreads[1]).clip(-10, 10)
    codes = scaled @ probes.maps[1, 1].astype(float) + probes.offsets[1, 1].astype(float)
    logits = probes.outputs[1].astype(float) @ codes + probes.log_frequencies[1]
    log = logits[column] - np.log(np.exp(logits).sum())
    assert told[1, 1] == pytest.approx(max(0, 1 - log / probes.log_frequencies[1, column]), abs=1e-4)
    rare = probes.told(state, [10, 99, 11, 12, 13, EOS], 0)
    assert np.isnan(rare[:, 1]).all()  # A piece that is not told apart.
    assert np.isnan(rare[:, 4:]).all()  # Positions that few sentences have.


@pytest.mark.parametrize(
    ("attention", "changes"),
    [
        ("none", {}),
        ("bahdanau", {"decoder.layers": 2}),
        ("none", {"decoder.readout": "state", "decoder.readout_size": 16, "decoder.tie": "none"}),
    ],
)
def test_states_are_those_that_the_explorer_follows(attention: str, changes: dict[str, Any], tmp_path: Path) -> None:
    vocabularies = character_vocabularies(["a b c d", "d c b a"], tmp_path)
    config = tiny_config(attention, changes)
    torch.manual_seed(1)
    model = build_model(config, vocabularies.source.size, vocabularies.target.size, joint=True).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    trained, search = Trained(model, vocabularies, config, 0, ""), plain_search(1)
    texts = ["a b", "d", "c a b d", "b b"]
    ids = [[*each, EOS] for each in vocabularies.source.encode(texts)]
    found = dict(greedy_states(model, ids, search, "test"))
    for row, text in enumerate(texts):
        item = follow(trained, text, search.limit(len(ids[row])))
        assert item.start is not None
        expected = np.stack([item.start, *item.hidden])
        np.testing.assert_allclose(found[row].float().numpy(), expected, atol=5e-3)


def test_probes_are_kept_with_their_run(probes: StateProbes, tmp_path: Path) -> None:
    kept = FinishedRun.open(ROOT / "results" / "kjv_web" / "models" / "none")
    run = FinishedRun(RunFolder(tmp_path), kept.config)
    assert kept_state_probes(run) is None
    run.__dict__["trained"] = kept.trained
    write_state_probes(probes_file(tmp_path), probes)
    with pytest.raises(UserError, match=r"probes of another checkpoint .*state=true makes them again"):
        kept_state_probes(run)
    probes_file(tmp_path).write_bytes(b"PK")
    with pytest.raises(UserError, match="not a whole archive"):
        kept_state_probes(run)


def test_a_page_has_what_the_probes_tell(probes: StateProbes, tmp_path: Path) -> None:
    vocabularies = character_vocabularies(["a b c d", "d c b a"], tmp_path)
    config = tiny_config("none", {"decoder.hidden_size": WIDTH})
    model = build_model(config, vocabularies.source.size, vocabularies.target.size, joint=True).eval()
    trained = Trained(model, vocabularies, config, 7, "")
    sentences = [("one", "a b", "a b")]
    followed = LiveModels.follow({"none": trained}, sentences, {"none": plain_search(1)}, probes={"none": probes})
    content = followed.content("", None)
    (variant,), (sentence,) = content["variants"], content["sentences"]
    assert variant["probe"]["first"] == [0, 1, 2]
    assert variant["probe"]["sentences"] == 600
    view = sentence["views"][0]
    told = np.array(view["told"])
    assert told.shape == (len(view["target"]) + 1, len(view["source"]))
    assert told.min() >= -1
    assert told.max() <= 100


def test_what_reads_no_pieces_is_refused() -> None:
    kept = FinishedRun.open(ROOT / "results" / "kjv_web" / "models" / "none")
    for change, message in (
        ({"encoder": {"name": "blind"}}, "reads no source"),
        ({"data": {**kept.config["data"], "feature_size": 3}}, "name a run of a corpus of texts"),
    ):
        with pytest.raises(UserError, match=message):
            check_state_probed(FinishedRun(kept.folder, {**kept.config, **change}))
