"""Pictures of a page: their pixels, and models that read them followed step by step."""

import base64
import io
import json
from typing import Any

import datasets
import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import character_vocabularies, plain_search, tiny_config

from hourglass.analysis.explorer import LiveModels, page_text
from hourglass.analysis.grids import Grid, grids_of
from hourglass.corpora.features import array_of_features
from hourglass.corpora.shapes import cut_into_patches
from hourglass.models.build import build_model
from hourglass.models.checkpoint import Trained

SIDE, PATCH = 6, 2


def picture() -> np.ndarray:
    return np.random.default_rng(1).random((SIDE, SIDE, 3))


def pixels_of(address: str) -> np.ndarray:
    kind, _, content = address.partition(",")
    assert kind == "data:image/png;base64"
    return matplotlib.image.imread(io.BytesIO(base64.b64decode(content)))[..., :3]


def test_a_page_has_the_pixels_of_a_picture() -> None:
    grid = Grid(cut_into_patches(picture(), PATCH), 4, PATCH)
    content = grid.content()
    assert (content["words"], content["grid"]["columns"], content["grid"]["cells"]) == (4, SIDE // PATCH, 9)
    np.testing.assert_allclose(pixels_of(content["grid"]["image"]), picture(), atol=1 / 255)
    json.dumps(content)


def test_features_that_are_no_pixels_have_cells_alone() -> None:
    regions = [np.ones((5, 3), np.float32), np.ones((1, 3), np.float32)]
    rows = datasets.Dataset(pa.table({"features": array_of_features(regions), "source_words": [7, 8]}))
    contents = [grid.content() for grid in grids_of(rows, None)]
    assert contents == [
        {"grid": {"columns": 3, "cells": 5}, "words": 7},
        {"grid": {"columns": 1, "cells": 1}, "words": 8},
    ]


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the content of a page of one picture, described by two models with random weights."""
    vocabularies = character_vocabularies(["a b", "c a"], tmp_path_factory.mktemp("cache"))
    models = {}
    for name, encoder in (("bahdanau", "features"), ("none", "rnn")):
        config = tiny_config(name, {}, encoder)
        config["data"] = {**config["data"], "feature_size": 3 * PATCH**2}
        model = build_model(config, 20, vocabularies.target.size, joint=False).eval()
        models[name] = Trained(model, vocabularies, config, 0, "")
    grid = Grid(cut_into_patches(picture(), PATCH).astype(np.float32), 4, PATCH)
    limits = dict.fromkeys(models, plain_search(1))
    followed = LiveModels.follow(models, [("one", "a-scene", "a b")], limits, [grid])
    view = followed.followed["bahdanau"][0]
    memory = models["bahdanau"].model.encode(torch.from_numpy(grid.features)[None], torch.tensor([9]))
    np.testing.assert_allclose(view.states, memory.states[0].detach(), atol=1e-6)
    return followed.content("", None)


def test_models_are_followed_through_a_picture(content: dict[str, Any]) -> None:
    (sentence,) = content["sentences"]
    assert (sentence["words"], sentence["source"]) == (4, "a-scene")
    attending, blind = sentence["views"]
    assert attending["source"] == blind["source"] == [f"\u2581{number}" for number in range(1, 10)]
    assert np.array(attending["weights"]).shape == (len(attending["target"]), 9)
    assert "weights" not in blind
    assert [variant["encoder"]["directions"] for variant in content["variants"]] == ["none", "both"]
    assert all([one["side"] for one in variant["maps"]] in ([], ["target"]) for variant in content["variants"])
    assert '<img src="data:image/png' in page_text(content)
