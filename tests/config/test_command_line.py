"""The command line: words as settings, operands, options, and what is suggested for a name that does not exist."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from helpers import CONF, ROOT, compose_config, run_script
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from hourglass.config.command_line import (
    _one_line,
    check_command_line,
    one_line_errors,
    read_command,
    read_words,
    train_words,
)
from hourglass.config.unknown_keys import OTHER_NAMES, unknown_key
from hourglass.config.usage import GROUPS, command_usage, known_keys, list_keys, train_usage, usage_line
from hourglass.errors import UserError

# Commands with a file of their own in conf/, and where they are.
COMMANDS = {
    file.stem: next(script for script in (ROOT / "src", ROOT / "pipelines") if (script / f"{file.stem}.py").exists())
    for file in CONF.glob("*.yaml")
    if file.stem not in ("config", "peers")
}


def read(words: list[str]) -> list[str]:
    return read_words(words, ["run", "out", "by"], ["run..."], "python x.py RUN")


@pytest.mark.parametrize(
    ("words", "overrides"),
    [
        ([], []),
        (["a", "b"], ["run=[a,b]"]),
        (["a b", "out=c", "1"], ["out=c", """run=["a b","1"]"""]),
        (["--out=c", "a"], ["out=c", "run=[a]"]),
        (["--by", "encoder.cell", "a"], ["by=encoder.cell", "run=[a]"]),
        (["./out=c"], ["""run=["./out=c"]"""]),
        (["~r", "a"], ["""run=["~r",a]"""]),
        (["run=[a,b]"], ["run=[a,b]"]),
    ],
)
def test_words_are_settings_or_operands(words: list[str], overrides: list[str]) -> None:
    assert read(words) == overrides


def test_operands_reach_the_command_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's grammar has no say about a path."""
    paths = ["a,b", "c d", "[e]", "$f", "${g}", "h'i\"j", "null", "0x1", "k=l/m"[:1] + "\\", "ü", "n:o"]
    monkeypatch.setattr(sys, "argv", ["explore.py", *paths, "sentences=3"])
    values = read_command("explore", "run...")
    assert values == {**values, "run": paths, "sentences": 3, "out": "explorer.html"}


def test_a_group_is_set_like_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["--search=greedy"], ["--search", "greedy"], ["search=greedy"]):
        monkeypatch.setattr(sys, "argv", ["translate.py", "r", *words])
        assert read_command("translate", "run...")["search"]["beam"] == 1


@pytest.mark.parametrize("word", ["trainer=cpu", "data=copy"])
def test_a_group_of_another_command_is_refused_in_one_line(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the two, `data` is a setting of this command that has parts, and no group of files."""
    monkeypatch.setattr(sys, "argv", ["pipelines/ablate.py", "ladder", word])
    with pytest.raises(SystemExit) as end, one_line_errors():
        read_command("ablate", "conf")
    group = word.partition("=")[0]
    assert end.value.code == f"error: {group}: this command has no such group; --help explains the settings there are"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--otu=c"], r"--otu=c: no such option: did you mean --out\?; usage: python x\.py RUN"),
        (["--nothing-like-it"], r"--nothing-like-it: no such option; usage"),
        (["a", ""], r"an empty word, as of a variable that is not set; usage"),
        (["a", "--out"], r"--out: has no value: write out=VALUE"),
        (["--out", "by=x"], r"--out: has no value: write out=VALUE"),
        (["--out", "--by=x"], r"--out: has no value: write out=VALUE"),
        (["a", "run=b"], r"a: run= is on the command line, too"),
    ],
)
def test_other_words_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(words)


def test_a_single_operand_takes_one_word() -> None:
    with pytest.raises(UserError, match=r"b: one word too many; usage: python src/pack\.py RUN"):
        read_words(["a", "b"], ["run"], ["run"], usage_line("pack"))


# ---- src/train.py ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "read"),
    [
        (["--attention=none", "seed=2"], ["attention=none", "seed=2"]),
        (["--trainer.devices=2"], ["trainer.devices=2"]),
        (["--seed", "3", "--attention", "none", "seed=2"], ["seed=3", "attention=none", "seed=2"]),
        (["--optimizer.warmup", "-1"], ["optimizer.warmup=-1"]),
        (["-m", "attention=none,mean"], ["-m", "attention=none,mean"]),
        (["--config-dir", "conf", "data=mine"], ["--config-dir", "conf", "data=mine"]),
        (["--config-dir=conf", "--cfg", "job"], ["--config-dir=conf", "--cfg", "job"]),
        (["~data.longest", "+x=1"], ["~data.longest", "+x=1"]),
    ],
)
def test_words_of_training(words: list[str], read: list[str]) -> None:
    assert train_words(words) == read


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--hepl", r"--hepl: no such option: did you mean --help\?"),
        ("--attention", r"--attention: has no value: write attention=VALUE"),
        ("--fp16", r"--fp16: no such option$"),
        ("luong_dot", r"luong_dot: a setting is KEY=VALUE$"),
        (str(CONF / "data"), r"a setting is KEY=VALUE$"),
    ],
)
def test_words_that_training_refuses(word: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train_words([word])


@pytest.mark.parametrize("value", ["runs/a/b%20c#d", "x y/%20#y", "a'b %", "$x é] (2)"])
def test_a_value_that_cannot_be_read_is_answered_by_the_word_that_can(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", f"run_dir={value}"])
    with pytest.raises(SystemExit, match=r"^error: run_dir=.*: cannot be read as a setting: to set it") as caught:
        check_command_line("config")
    message = str(caught.value)
    assert "\n" not in message
    (word,) = shlex.split(message.partition(", write ")[2].partition("; a list is")[0])
    (override,) = OverridesParser.create().parse_overrides([word])
    assert override.value() == value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["trainer.max_epochs=5"],
            r"trainer\.max_epochs: no such setting: write trainer\.target_tokens=VALUE \(the budg[^=]*$",
        ),
        (["beam=3"], r"beam: no such setting: write search\.beam=VALUE \(beam size"),
        (["lr=3"], r"lr: no such setting: write optimizer\.learning_rate=VALUE"),
        (["trainer.validation=3"], r"trainer\.validation: no such setting: write trainer\.validations=VALUE"),
        (["trainer.qwertyuiop=3"], r"trainer\.qwertyuiop: no such setting; --help trainer explains"),
        (["qwertyuiop=3"], r"qwertyuiop: no such setting; --help explains"),
        (
            ["attention=none", "attention.size=3"],
            r"attention\.size: not a setting of the chosen attention: only of attent",
        ),
        (
            ["attention=lunog_dot"],
            r"attention=lunog_dot: no such choice: did you mean luong_dot\? There are bahdanau, bahdanau_normed, ",
        ),
        (
            ["encoder=mine"],
            r"encoder=mine: no such choice: There are .*; a file of your own needs --config-dir FOLDER$",
        ),
        (["decoder=mine"], r"decoder=mine: no such choice: There are rnn$"),
        (["metrics=bleu"], r"metrics=bleu: no such choice: There are exact, .*; single scores: metrics\.main=NAME, "),
        (["metrics=[ter]"], r"metrics=\[ter\]: is one file .*; for further scores: metrics\.others=\[ter\]$"),
        (["metrics=[exact,ter]"], r"metrics=\[ter\]: is one file of conf/metrics; "),
        (["atention=none"], r"atention: no such setting: write attention=CHOICE"),
        (["--batch-size=3"], r"batch_size: no such setting: write trainer\.batch_tokens=VALUE"),
    ],
)
def test_an_unknown_setting_is_answered_by_what_to_write(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as end:
        check_command_line("config")
    line = capsys.readouterr().err or str(end.value)
    assert re.match(rf"error: {message}", line), line
    assert line.strip().count("\n") == 0


def test_a_run_folder_alone_is_answered_by_how_to_resume_it(tmp_path: Path) -> None:
    """The command can be pasted, whatever the path."""
    folder = tmp_path / "a (1)"
    folder.mkdir()
    (folder / "config.yaml").touch()
    with pytest.raises(UserError, match=r"a setting is KEY=VALUE; to resume that run: (python .*)$") as refused:
        train_words([str(folder)])
    command = str(refused.value).rpartition("to resume that run: ")[2]
    assert shlex.split(command)[2:] == [f'resume="{folder}"']


def test_a_key_of_a_group_that_is_not_chosen_comes_with_its_group(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in (["r", "beam=3"], ["r", "--beam=3"]):
        monkeypatch.setattr(sys, "argv", ["translate.py", *words])
        with pytest.raises((UserError, HydraException), match=r"beam") as refused:
            read_command("translate", "run...")
        message = "\n".join(str(part) for part in (refused.value, refused.value.__cause__) if part is not None)
        assert "write search=beam search.beam=VALUE" in _one_line(message), words


@pytest.mark.parametrize("name", ["pack", "explore", "compare", "bits"])
@pytest.mark.parametrize("word", ["output", "output_dir"])
def test_the_place_of_what_a_command_writes_has_one_name(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    assert "write out=VALUE" in unknown_key(word, word)
    assert "output" not in {key.name for key in known_keys(name)}


def test_names_of_other_tools_lead_to_settings() -> None:
    keys = {key.name for key in known_keys("config")}
    assert set(OTHER_NAMES.values()) <= keys
    for name, key in OTHER_NAMES.items():
        assert name not in {known.rpartition(".")[2] for known in keys}
        assert f"write {key}=VALUE" in unknown_key(name, name)


# ---- --help ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_explains_every_key(name: str) -> None:
    """Compare the keys with those that YAML and Hydra find."""
    with initialize_config_dir(str(CONF)):
        composed = compose(name)
    text = command_usage(name)
    assert text.startswith(f"usage: python {COMMANDS[name].name}/{name}.py ")
    assert max(map(len, text.splitlines())) <= 120
    for key in map(str, composed):
        assert re.search(rf"^  {key}  +\S", text, re.M), key


@pytest.mark.more
@pytest.mark.slow
def test_help_of_a_group_explains_every_key() -> None:
    for group in GROUPS:
        if group in ("experiment", "sweep"):
            continue
        text = train_usage(group)
        choices = [file.stem for file in (CONF / group).glob("*.yaml")]
        for choice in choices:
            needed = ["attention=none"] if choice == "blind" else []
            for key in set(compose_config(f"{group}={choice}", *needed)[group]) - {"name"}:
                assert re.search(rf"^  {group}\.{key}  +\S", text, re.M), key
    with pytest.raises(UserError, match="--help atention: no such group; there are attention, data"):
        train_usage("atention")


def test_keys_of_nested_settings_have_their_whole_names(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(
        "a: 1 # one\nb: # two\n  c: x y # three\n  d:\n    e: [1, 2] # five\nf: # six\n  - g\nh: '#' # eight\n"
    )
    assert [tuple(key) for key in list_keys(file, "p.")] == [
        ("p.a", "1", "one"),
        ("p.b", "", "two"),
        ("p.b.c", "x y", "three"),
        ("p.b.d.e", "[1, 2]", "five"),
        ("p.f", "", "six"),
        ("p.h", "'#'", "eight"),
    ]


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_answers_help(name: str, tmp_path: Path) -> None:
    done = run_script(f"{COMMANDS[name].name}/{name}.py", "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(command_usage(name))
    refused = run_script(f"{COMMANDS[name].name}/{name}.py", "--hepl", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr == f"error: --hepl: no such option: did you mean --help?; usage: {usage_line(name)}\n"
