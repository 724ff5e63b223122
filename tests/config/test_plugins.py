"""Modules of the user's own: what they register, what is refused, and what a run records of them."""

import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import ROOT
from omegaconf import OmegaConf

from hourglass.analysis.neck import neck_of
from hourglass.config import plugins
from hourglass.config.compose import compose_settings, load_composed_plugins
from hourglass.config.options import check
from hourglass.config.plugins import (
    check_record,
    load_plugins,
    loaded_plugins,
    plugin_of,
    plugin_record,
    plugin_words,
    require_plugins,
)
from hourglass.config.registry import REGISTRIES
from hourglass.corpora.corpus import _key, check_recipe
from hourglass.corpora.recipes import RECIPES
from hourglass.errors import UserError
from hourglass.experiments.ablation import Variant, load_ablation
from hourglass.experiments.families import Family, check_points, list_points, load_families
from hourglass.metrics.metric import single
from hourglass.metrics.metrics import METRICS, Metrics, make_metrics
from hourglass.metrics.scoring import format_table, score
from hourglass.models.attention import ATTENTIONS
from hourglass.models.cells import CELLS, CellName
from hourglass.models.encoder import ENCODERS
from hourglass.training.settings import check_settings

ATTENTION = """
from hourglass.models.attention import ATTENTIONS, DotAttention, Attention

@ATTENTIONS.register
class Mine(DotAttention):
    name = "mine"
"""
METRIC = """
import numpy as np
from hourglass.metrics.metric import Metric
from hourglass.metrics.metrics import METRICS

@METRICS.register
class Length(Metric):
    name = "length"

    def __init__(self, target_language: str, *, factor: float = 1.0):
        super().__init__(target_language)
        self.factor = factor

    def statistics(self, hypotheses, references, sources):
        return np.array([[len(text)] for text in hypotheses])

    def score(self, sums):
        return self.factor * sums[..., 0]
"""
RECIPE = """
from dataclasses import dataclass
from hourglass.corpora.recipe import Recipe
from hourglass.corpora.recipes import RECIPES

@RECIPES.register
@dataclass(frozen=True)
class Nothing(Recipe):
    size: int
    name = "nothing"

    def pairs(self, split):
        return iter(())
"""
DATA = {"name": "nothing", "source": "de", "target": "en", "size": 3}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder on the path of modules; all that is imported from it is forgotten after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    yield tmp_path
    forget(tmp_path)


def forget(folder: Path) -> None:
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def load(folder: Path, text: str, name: str = "own") -> plugins.Plugin:
    write(folder / f"{name}.py", text)
    load_plugins([name])
    return loaded_plugins()[-1]


def test_what_a_module_registers_can_be_chosen(folder: Path) -> None:
    plugin = load(folder, ATTENTION + METRIC + RECIPE)
    assert ATTENTIONS["mine"].__module__ == METRICS["length"].__module__ == RECIPES["nothing"].__module__ == "own"
    assert set(plugin.registers) == {"attention.name=mine", "metrics=length", "data.name=nothing"}
    assert plugin_of(ATTENTIONS["mine"]) is plugin
    assert plugin_of(ATTENTIONS["luong_dot"]) is None
    assert plugin_words() == ["plugins=[own]"]
    load_plugins(["own"])  # Once more changes nothing.
    assert loaded_plugins() == [plugin]


def test_the_classes_of_this_package_have_the_interface() -> None:
    for registry in REGISTRIES:
        for name, kind in registry.items():
            registry.check_interface(kind)
            assert name == kind.name
    assert {registry.option for registry in REGISTRIES} == {
        *("attention.name", "encoder.name", "cell", "data.name", "metrics")
    }


def constructor(parameters: str) -> str:
    return f"{ATTENTION}    def __init__({parameters}):\n        pass"


CELL = """
from hourglass.models.cells import CELLS, GRU

@CELLS.register
class Own(GRU):
    name = "own"

    def __init__(self, input_size, hidden_size, depth):
        pass
"""
ENCODER = """
from hourglass.models.encoder import ENCODERS, BlindEncoder

@ENCODERS.register
class Deaf(BlindEncoder):
    name = "deaf"
    settings_class = dict
"""
# A module that fails, the line that is to blame, and the reason.
FAILURES = [
    ("x = 1\nimport no_such_library", 2, "ModuleNotFoundError: No module named 'no_such_library'"),
    ("x = 1\n\nx = y", 3, "NameError: name 'y' is not defined"),
    ("def f():\n    raise ValueError('a\\nb')\nf()", 2, "ValueError: a b"),
    ("import json\njson.loads('{')", 2, "JSONDecodeError: Expecting property name"),
    ("import sys\nsys.exit(3)", 2, "SystemExit: 3"),
    ("x = (", 1, "SyntaxError: '(' was never closed"),
    (
        ATTENTION.replace('"mine"', '"luong_dot"'),
        4,
        "own.Mine: the name luong_dot of attention.name is taken by hourgl",
    ),
    (
        ATTENTION.replace('    name = "mine"', "    pass"),
        4,
        "own.Mine: the name luong_dot of attention.name is taken by",
    ),
    (ATTENTION.replace('"mine"', '"a b"'), 4, "own.Mine: has no attribute `name`"),
    (
        ATTENTION.replace("(DotAttention)", "(Attention)"),
        4,
        "own.Mine: lacks forward: see hourglass.models.attention.Att",
    ),
    (ATTENTION.replace("(DotAttention)", ""), 4, "own.Mine: is no subclass of hourglass.models.attention.Attention"),
    (constructor("self, memory"), 4, "own.Mine: its constructor does not take sizes: it is given sizes and options"),
    (constructor("self, sizes, *, k"), 4, "own.Mine: its option k has no annotation"),
    (constructor("self, sizes, **more: int"), 4, "own.Mine: its constructor takes **more: int, and options are given"),
    (constructor("self, sizes, *, k: 'Nix'"), 4, "own.Mine: an annotation of its constructor cannot be read"),
    (constructor("self, sizes, *, k: Attention"), 4, "own.Mine: its option k cannot be checked"),
    (RECIPE.replace("@dataclass(frozen=True)\n", ""), 6, "own.Nothing: is no dataclass: write @dataclass"),
    (RECIPE.replace("def pairs", "def pears"), 6, "own.Nothing: lacks pairs"),
    (METRIC.replace("def score", "def scores"), 6, "own.Length: lacks score"),
    (METRIC.replace('"length"', '"bleu"'), 6, "own.Length: the name bleu of metrics is taken by "),
    (METRIC.replace('"length"', '"loss"'), 6, "own.Length: the name loss of metrics has a meaning already"),
    (CELL, 4, "own.Own: its constructor wants depth: it is given input_size, hidden_size ("),
    (ENCODER, 4, "own.Deaf: its settings_class is no subclass of hourglass.models.memory.EncoderSettings"),
]


@pytest.mark.parametrize(("text", "line", "reason"), FAILURES)
def test_a_module_that_fails_is_one_line_with_its_place(text: str, line: int, reason: str, folder: Path) -> None:
    """And what it has registered before is taken back."""
    file = write(folder / "own.py", text)
    before = {registry.option: list(registry) for registry in REGISTRIES}
    with pytest.raises(UserError) as caught:
        load_plugins(["own"])
    message = str(caught.value)
    assert message.startswith(f"plugins=own: {reason}")
    assert message.endswith(f" ({file}:{line})")
    assert "\n" not in message
    assert {registry.option: list(registry) for registry in REGISTRIES} == before
    assert loaded_plugins() == []


def test_names_that_are_no_plugins(folder: Path) -> None:
    write(folder / "empty.py", "")
    for name, message in (
        ("nowhere", r"no such module \(No module named 'nowhere'\): write PYTHONPATH=FOLDER before the command"),
        ("empty", rf"registers nothing \(it is {folder}/empty.py\)"),
        ("json", r"registers nothing \(it is .*json/__init__.py\)"),
        ("sys", r"registers nothing \(it is a part of Python\)"),
        ("hourglass.models.attention", "registers nothing"),
        ("/a/b.py", r"is a file: write PYTHONPATH=/a before the command, and b$"),
        ("b.py", r"is a file: write PYTHONPATH=. before the command, and b$"),
        ("a-b", "is no name of a module$"),
    ):
        with pytest.raises(UserError, match=rf"^plugins={name}: {message}"):
            load_plugins([name])


def test_two_plugins_cannot_have_one_name(folder: Path) -> None:
    load(folder, ATTENTION)
    with pytest.raises(UserError, match=r"^plugins=other: other.Mine: the name mine .* by own.Mine: .*py:4\)$"):
        load(folder, ATTENTION, "other")
    assert [plugin.name for plugin in loaded_plugins()] == ["own"]


def test_a_plugin_that_imports_another_is_named_after_it(folder: Path) -> None:
    """Else a run would not record the other."""
    write(folder / "installed" / "library.py", ATTENTION)
    sys.path.insert(0, str(folder / "installed"))
    text = f"import library\n{METRIC}"
    try:
        with pytest.raises(
            UserError, match=r"^plugins=own: it imports library, which registers, too: name that before"
        ):
            load(folder, text)
        forget(folder)
        for registry in REGISTRIES:
            registry.remove([kind for kind in registry.values() if kind.__module__ in ("own", "library")])
        load_plugins(["library", "own"])
    finally:
        sys.path.remove(str(folder / "installed"))
    assert [plugin.registers for plugin in loaded_plugins()] == [("attention.name=mine",), ("metrics=length",)]


PACKAGE = {
    "lab/__init__.py": "",
    "lab/attention.py": "from .deep import NAME\nfrom hourglass.models.attention import *\n" + ATTENTION,
    "lab/deep/__init__.py": "from . import names\nNAME = names.NAME\n",
    "lab/deep/names.py": "import beside\nNAME = 1\n",
    "lab/unused.py": "",
    "beside.py": "",
    "unused.py": "",
}


def test_the_digest_is_that_of_all_files_that_decide(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the module, of those that it imports from its folder, and of no others; wherever the folder is."""

    def digest(place: Path, changed: str | None = None) -> str:
        for name, text in PACKAGE.items():
            write(place / name, text + ("# changed" if name == changed else ""))
        forget(folder)
        monkeypatch.setattr(plugins, "_loaded", {})
        for registry in REGISTRIES:
            registry.remove([kind for kind in registry.values() if kind.__module__.startswith("lab")])
        monkeypatch.syspath_prepend(place)
        load_plugins(["lab.attention"])
        return loaded_plugins()[0].digest

    before = digest(folder)
    assert digest(folder / "elsewhere") == before
    for name in PACKAGE:
        assert (digest(folder / f"with {name}", name) == before) == ("unused" in name)


def test_a_run_that_names_a_plugin_does_not_import_it(folder: Path) -> None:
    """Only the user does: config.yaml and checkpoint may be of a stranger."""
    write(folder / "evil.py", f"open({str(folder / 'it_ran')!r}, 'w')\n{ATTENTION}")
    load(folder, METRIC)
    with pytest.raises(UserError, match=r"^RUN: needs plugins=\[own,evil\]: "):
        require_plugins(["own", "evil"], "RUN")
    record = {"evil": {"digest": "0", "registers": ["attention.name=mine"]}}
    with pytest.raises(UserError, match=r"^FILE: needs plugins=\[own,evil\]: "):
        check_record(record, "FILE")
    for altered in (["os.system('x')"], ["a b"], "evil", [3], {"evil": 1}, None):
        with pytest.raises(UserError, match=r"^RUN: its plugins are no names of modules; it was altered$"):
            require_plugins(altered, "RUN")
    records: list[Any] = [
        {"evil": 3},
        {"evil": {"digest": "0"}},
        {"a b": record["evil"]},
        {3: record["evil"]},
        [1],
        None,
    ]
    for broken in records:
        with pytest.raises(UserError, match=r"^FILE: its plugins are no names of modules; it was altered$"):
            check_record(broken, "FILE")
    assert not (folder / "it_ran").exists()
    load_plugins(["evil"])
    assert (folder / "it_ran").exists(), "the trap is none"


def test_a_record_says_what_has_changed(folder: Path) -> None:
    load(folder, ATTENTION)
    load(folder, METRIC, "scores")
    record = plugin_record({"plugins": ["own", "scores", "absent"]})
    assert list(record) == ["own", "scores"]
    assert check_record(record, "FILE") == []
    record["own"]["digest"] = record["scores"]["digest"] = "other"
    assert check_record(record, "FILE") == ["own"]  # A metric is no part of the model.
    assert check_record({"far": {"digest": "0", "registers": ["metrics=x", "data.name=y"]}}, "FILE") == []


def test_one_name_needs_no_list(folder: Path) -> None:
    write(folder / "own.py", ATTENTION)
    assert load_composed_plugins(OmegaConf.create({"plugins": "own", "other": "???"})) == ["own"]
    with pytest.raises(UserError, match=r"^plugins=\[3\]: "):
        load_composed_plugins(OmegaConf.create({"plugins": [3]}))


def test_a_corpus_is_built_anew_when_its_plugin_changes(folder: Path) -> None:
    load(folder, RECIPE)
    name, recipe = check_recipe(DATA)
    key = _key(name, recipe)
    assert _key(name, recipe) == key
    (plugin,) = plugins._loaded.values()
    plugins._loaded["own"] = plugins.Plugin("own", plugin.folder, plugin.files, "other", plugin.registers)
    assert _key(name, recipe) != key


def test_an_unknown_name_says_how_to_add_ones_own() -> None:
    with pytest.raises(UserError, match=r"^data.name=x: no such choice; choose .*; one of your own needs plugins="):
        check_recipe({"name": "x"})


def beside(*others: str, options: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """Return the config group `metrics` with scores beside BLEU and chrF."""
    return {"main": "bleu", "others": ["chrf", *others], "options": options or []}


def scores_of(metrics: Metrics) -> dict[str, Any]:
    texts = ["a b", "c d e", "f"]
    return score(["a b", "c d", "g"], single(texts), texts, [2, 3, 1], edges=[1, 3], metrics=metrics)


def test_a_metric_scores_the_whole_and_each_bucket(folder: Path) -> None:
    load(folder, METRIC)
    scores = scores_of(make_metrics(beside("length", "ter", options=[{"name": "ter", "case_sensitive": True}]), "en"))
    assert (scores["length"], [bucket["length"] for bucket in scores["buckets"]]) == (7, [4, 3])
    # One word of six is left out, another replaced.
    assert scores["ter"] == pytest.approx(100 * 2 / 6)
    assert scores["metrics"]["ter"]["signature"].startswith("nrefs:1|case:mixed|tok:tercom")
    heading, *rows = format_table(scores).splitlines()
    assert heading.split()[-4:-2] == ["length", "TER"]
    assert [row.split()[-4:-2] for row in rows if row.startswith("all")] == [["7.00", "33.33"]]
    assert {key for key in scores if key not in scores_of(make_metrics(beside(), "en"))} == {"length", "ter"}


def test_the_main_metric_may_be_ones_own(folder: Path) -> None:
    load(folder, METRIC)
    scores = scores_of(make_metrics({"main": "length", "others": [], "options": []}, "en"))
    assert (scores["main"], scores["length"], "bleu" in scores) == ("length", 7, False)
    format_table(scores)


def test_options_of_a_metric_are_checked(folder: Path) -> None:
    load(folder, METRIC)
    doubled = make_metrics(beside("length", options=[{"name": "length", "factor": 2}]), "en").others[1]
    assert doubled.total(["abc"], [("",)], [""]) == 6
    for chosen, message in (
        (
            beside("length", options=[{"name": "length", "factor": "x"}]),
            r"^metrics.options.length.factor=x: input should be a valid number$",
        ),
        (
            beside("length", options=[{"name": "length", "k": 1}]),
            r"^metrics.options.length.k: no such option; metrics.options.length takes factor",
        ),
        (beside("length", "length"), "^metrics: length is named twice"),
        (
            beside(options=[{"name": "ter"}]),
            "^metrics.options: ter is not among the metrics: add it to metrics.others$",
        ),
        (beside(options=[{"name": "chrf"}] * 2), "^metrics.options: chrf is named twice"),
        (beside("wer"), r"^metrics\.others=wer: no such choice; choose from bleu, .*; one of your own needs plugins="),
        ({**beside(), "main": "wer"}, r"^metrics\.main=wer: no such choice; choose from bleu, "),
        (beside(options=[{"factor": 1}]), r"^metrics.options: None is not among the metrics"),
        (["ter"], r"^metrics=\['ter'\]: write metrics=NAME, a file of conf/metrics, and metrics.others=\[NAME\] for "),
    ):
        with pytest.raises(UserError, match=message):
            make_metrics(chosen, "en")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0", r"\(ZeroDivisionError: division by zero\)"),
        ("return float('nan')", r"\(ValueError: its score is nan\)"),
        ("return None", r"\(TypeError: .*\)"),
        ("return sums", r"\(ValueError: its score is \[7\]\)"),
    ],
)
def test_a_metric_that_fails_is_known_before_the_training(body: str, message: str, folder: Path) -> None:
    load(folder, METRIC.replace("return self.factor * sums[..., 0]", body))
    with pytest.raises(UserError, match=f"^metrics=length: fails on a sentence {message}$"):
        make_metrics(beside("length"), "en")


def test_a_metric_that_fails_at_the_end_leaves_the_other_scores(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(folder, METRIC.replace("return self", "assert sums[0] != 4, 'four'\n        return self"))
    with caplog.at_level("WARNING", "hourglass"):
        scores = scores_of(make_metrics(beside("length"), "en"))
    assert (scores["length"], [bucket["length"] for bucket in scores["buckets"]]) == (7, [None, 3])
    assert caplog.messages == ["metrics=length: no score (AssertionError: four)"]
    assert scores["bleu"] is not None
    format_table(scores)


def test_a_metric_that_counts_wrongly_at_the_end_leaves_the_other_scores(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load(folder, METRIC.replace("return np.array", "assert len(hypotheses) != 3, 'three'\n        return np.array"))
    with caplog.at_level("WARNING", "hourglass"):
        scores = scores_of(make_metrics(beside("length"), "en"))
    assert (scores["length"], [bucket["length"] for bucket in scores["buckets"]]) == (None, [None, None])
    assert caplog.messages == ["metrics=length: no score of 3 sentences (AssertionError: three)"]
    assert scores["bleu"] is not None
    format_table(scores)


def test_cells_and_encoders_of_ones_own(folder: Path) -> None:
    load(
        folder, CELL.replace(", depth", "").replace("        pass", "        super().__init__(input_size, hidden_size)")
    )
    load(folder, ENCODER.replace("    settings_class = dict\n", ""), "other")
    assert check(CellName, "own", "encoder.cell") == "own"
    with pytest.raises(
        UserError, match=r"^encoder.cell=x: .* 'lstm', 'gru', .* or 'own'; one of your own needs plugins="
    ):
        check(CellName, "x", "encoder.cell")
    assert CELLS["own"](3, 4).state_shapes(4) == ((4,),)
    assert ENCODERS["deaf"].settings_class is ENCODERS["blind"].settings_class


def test_an_ablation_loads_its_plugins_and_names_them_to_its_runs(folder: Path) -> None:
    write(folder / "own.py", ATTENTION)
    root = folder / "project"
    shutil.copytree(ROOT / "conf", root / "conf")
    write(root / "conf" / "attention" / "mine.yaml", "name: mine\nquery: current\n")
    file = root / "conf" / "ablation" / "default.yaml"
    content = yaml.safe_load(file.read_text()) | {"corpora": ["numbers"], "plugins": ["own"]}
    content["variants"]["mine"] = ["attention=mine"]
    content["numbers"]["variants"] = ["none", "mine"]
    file.write_text(yaml.safe_dump(content))
    ablation = load_ablation(root)
    config = ablation.compose(ablation.overrides(Variant("numbers", "mine"), 1, 1000))
    assert (config["attention"]["name"], config["plugins"]) == ("mine", ["own"])
    check_settings(config)


def test_a_family_loads_the_plugin_of_its_cell(folder: Path) -> None:
    cell = CELL.replace(", depth", "").replace("        pass", "        super().__init__(input_size, hidden_size)")
    write(folder / "own.py", cell)
    settings = load_families()
    words = ["plugins=own", "encoder.cell=own", "decoder.cell=own"]
    scale = replace(settings.scales["cpu"], families=["own"], sizes={"own": [16]}, rounded=[])
    settings = replace(settings, families={**settings.families, "own": Family("state", words)})
    points = list_points(settings, scale, "copy", "own")
    check_points(scale, points)
    config = compose_settings(points[0].overrides)
    assert (config["plugins"], neck_of(config).numbers) == (["own"], 16)


@pytest.mark.parametrize(
    ("page", "registers"),
    [
        ("plugins", ["attention.name=cosine"]),
        ("add-an-attention", ["attention.name=cosine"]),
        ("add-an-encoder", ["encoder.name=window"]),
        ("add-a-cell", ["cell=elman"]),
        ("add-a-corpus", ["data.name=json_lines"]),
        ("add-a-metric", ["metrics=first_words"]),
    ],
)
def test_the_examples_of_the_pages_are_plugins(page: str, registers: list[str], folder: Path) -> None:
    text = (ROOT / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    example = [block for block in blocks if "import" in block or ".register" in block]
    assert sorted(load(folder, "\n".join(example)).registers) == registers
    if page == "add-a-metric":
        chosen = {"main": "first_words", "others": [], "options": [{"name": "first_words", "lowercase": True}]}
        lower = make_metrics(chosen, "en").main
        assert lower.total(["a x", "B y", "c"], [("a",), ("b z",), ("d",)], [""] * 3) == pytest.approx(200 / 3)
