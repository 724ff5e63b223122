"""Printed commands: the shell and Hydra's grammar give back each word as it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT
from hydra import compose, initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st

from hourglass.system.commands import path_override, printed_command

NAMES = [
    "plain",
    "my run [1]",
    "ü (x), y",
    "a'b",
    'a"b',
    "a'b\"c",
    "a\\'b",
    "ends\\",
    "a&b=c",
    "#1",
    "[1,2]",
    "{a: b}",
    "tab\tnew",
    "a: b",
    "null",
    "${seed}",
    "\\${seed}",
    "$HOME",
    "`ls`",
    "!1",
    "a;b|c>d",
    "*",
    "~",
    "-x",
    "1e5",
    "007",
    "1_000",
    "True",
    ".5",
    "choice(a,b)",
    "range(1,3)",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("folder", [Path("/tmp"), Path()])
def test_hydra_reads_a_path_as_it_was(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("cache: null\n")
    with initialize_config_dir(str(tmp_path)):
        config = compose("small", overrides=[path_override("cache", folder / name)])
    assert str(config.cache) == str(folder / name)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
@example("\\\\${a}\\")
def test_any_word_survives_hydras_quotes(name: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from omegaconf import OmegaConf

    path = Path("/", name)
    override = OverridesParser.create().parse_override(path_override("a", path))
    assert OmegaConf.create({"a": override.value()}).a == str(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_printed_command_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    command = printed_command("src/train.py", Path(name), resume=Path(name))
    show = "import json, sys; print(json.dumps(sys.argv[1:]))"
    pasted = subprocess.run(
        ["bash", "-c", f"python() {{ {sys.executable} -c '{show}' \"$@\"; }}; {command}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(pasted.stdout) == [str(ROOT / "src/train.py"), name, path_override("resume", Path(name))]


def test_a_command_is_as_short_as_the_folder_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert printed_command("src/train.py", resume=Path("runs/a-1")) == "python src/train.py resume=runs/a-1"
    assert printed_command("src/train.py", resume=Path("a [1]")) == "python src/train.py 'resume=\"a [1]\"'"
    assert printed_command("src/sync.py", Path("a [1]")) == "python src/sync.py 'a [1]'"
    monkeypatch.chdir(tmp_path)
    assert printed_command("src/sync.py", Path("a")) == f"python {ROOT}/src/sync.py a"
