"""What all tests share: the project's own configs, composed as the command line would compose them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from hourglass.corpus import Corpus, load_corpus

# No test may reach the hub; said before `datasets` is imported, so that a try is refused at once.
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).resolve().parent.parent
CONF = ROOT / "conf"
# Shrinks any config to a model of a few thousand weights.
TINY = (
    "decoder.embedding_size=12",
    "decoder.readout_size=12",
    "decoder.hidden_size=16",
    "encoder.embedding_size=12",
    "encoder.summary_size=8",
)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    """Return a function from overrides, as on the command line, to the resolved config as plain values."""
    return compose_config


@pytest.fixture(scope="session")
def session_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder for what is dear to build and the same in all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def kjv_web(session_cache: Path) -> Corpus:
    """Return the default corpus, built once."""
    return load_corpus(compose_config()["data"], session_cache)


def compose_config(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(CONF)):
        composed = compose("config", overrides=list(overrides))
    resolved = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    return resolved
