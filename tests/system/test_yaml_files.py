"""YAML: numbers are numbers whoever wrote them, and what is written is read back, by OmegaConf too."""

import io
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hourglass.runs.folder import RunFolder, open_run, write_config
from hourglass.system.project import ROOT
from hourglass.system.yaml_files import read_yaml, to_yaml

NUMBERS = ["5e-05", "1e5", "-1E+3", "1.5e3", ".5e-3", "+2e0", "0.1", "5", "-3", "1_000", "1_000e2", ".inf", "1e-05"]
TEXTS = ["e5", "5e", "5e-", "1e5e5", "5e0.5", "e", ".", "-", "1 e5", "'5e-05'", "abc1e5", "2026-11-28"]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_those_of_python_and_omegaconf(text: str) -> None:
    value = read_yaml(f"a: [{text}]")["a"][0]
    assert value == float(text.replace(".inf", "inf"))
    assert type(value) in (int, float)
    assert OmegaConf.to_container(OmegaConf.create(f"a: [{text}]")) == {"a": [value]}


@pytest.mark.parametrize("text", TEXTS)
def test_other_text_is_text(text: str) -> None:
    assert read_yaml(f"a: {text}" if text != "-" else "a: '-'") == {"a": text.strip("'")}


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.from_regex(r"[0-9.e+-]{1,6}"),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_is_read_back_by_every_reader(content: dict[str, Any]) -> None:
    text = to_yaml(content)
    assert read_yaml(text) == content
    assert yaml.safe_load(text) == content


@pytest.mark.parametrize("value", ["5e-05", "1e5", "12e4567", 5e-05, 1e300, "no", "2026-11-28", "0x1f", "1_0", None])
def test_what_is_written_is_read_back_by_omegaconf(value: Any) -> None:
    assert OmegaConf.to_container(OmegaConf.load(io.StringIO(to_yaml({"a": value})))) == {"a": value}


def test_a_run_keeps_text_that_looks_like_a_number(tmp_path: Path) -> None:
    config = {"data": {"revision": "12e4567"}, "optimizer": {"learning_rate": 5e-05}, "run_dir": "1e5"}
    write_config(RunFolder(tmp_path), config)
    assert open_run(str(tmp_path), "run")[1] == config
    text = (tmp_path / "config.yaml").read_text().replace("5.0e-05", "5e-05")
    assert "learning_rate: 5e-05" in text
    (tmp_path / "config.yaml").write_text(text)
    assert open_run(str(tmp_path), "run")[1] == config


def test_every_file_is_read_by_the_one_reader() -> None:
    sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "pipelines").rglob("*.py")]
    pattern = re.compile(r"yaml\.(safe_|full_|unsafe_)?(load|dump)")
    assert {file.name for file in sources if pattern.search(file.read_text())} == {"yaml_files.py"}
