"""Plots and tables of a sweep show the values of its choices as they are."""

import csv
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.text import Text
from optuna.distributions import CategoricalDistribution, FloatDistribution
from test_trials import settings

from hourglass.sweeps.report import draw_interactive, trials_to_csv, write_plots

CHOICES = ["$$", r"$\frac$", "=1+1"]


@pytest.fixture
def study() -> Iterator[optuna.Study]:
    study = optuna.create_study(direction="maximize")
    rate = FloatDistribution(1e-4, 1e-2, log=True)
    for number in range(6):
        values = {"data.$x$": CHOICES[number % 3], "rate": 10 ** (-4 + number / 3)}
        distributions = {"data.$x$": CategoricalDistribution(CHOICES), "rate": rate}
        study.add_trial(optuna.trial.create_trial(value=float(number), params=values, distributions=distributions))
    yield study
    pyplot.close("all")


@pytest.mark.slow
def test_plots_show_dollar_signs(study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: dict[str, set[str]] = {}
    original = Figure.savefig

    def savefig(figure: Figure, file: Path, **options: Any) -> None:
        original(figure, file, **options)
        shown[file.stem] = {text.get_text() for text in figure.findobj(Text)}

    monkeypatch.setattr(Figure, "savefig", savefig)
    write_plots(study, settings(tmp_path), tmp_path)
    for plot in ("slice-bleu", "parallel-bleu"):
        texts = {text.strip("'").replace(r"\\", "\\") for text in shown[plot]}  # Optuna writes some as Python does.
        assert {*CHOICES, "data.$x$"} <= texts
    formulas = {plot: text for plot, texts in shown.items() for text in texts if "mathdefault" in text}
    assert not formulas  # Of powers of ten.


def texts_of(value: Any) -> Iterator[str]:
    """Yield all texts in a figure of Plotly but those of its template."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from texts_of(part if key != "template" else None)
    elif isinstance(value, list | tuple | np.ndarray):
        for part in value:
            yield from texts_of(part)


def test_interactive_plots_show_markup_as_text(tmp_path: Path) -> None:
    """Plotly reads tags and entities in every text, and %{...} where a pointer shows one."""
    choices, name = ["<b>x</b>", "&lt;", "%{y}"], "a.<i>"
    study = optuna.create_study(direction="maximize")
    for number in range(6):
        study.add_trial(
            optuna.trial.create_trial(
                value=float(number),
                params={name: choices[number % 3]},
                distributions={name: CategoricalDistribution(choices)},
                user_attrs={"run": "runs/<b>"},
            )
        )
    figures = draw_interactive(study, settings(tmp_path))
    for plot, expected in (
        ("slice-bleu", {*(repr(choice) for choice in choices), name}),
        ("parallel-bleu", {*choices, name}),
        ("importances-bleu", {name}),
    ):
        texts = set(texts_of(figures[plot].to_dict()))
        assert expected <= {html.unescape(text) for text in texts}, plot
    for figure in figures.values():
        for text in texts_of(figure.to_dict()):
            plain = text.replace("<br>", "").replace("<extra>", "").replace("</extra>", "")
            assert "<" not in plain
            assert "%{y}" not in plain.replace("%{x}, %{y}", "")
    hovered = "".join(html.unescape(text) for text in texts_of(figures["timeline"].to_dict()))
    assert f'"{name}": "{choices[0]}"' in hovered
    assert '"run": "runs/<b>"' in hovered


@pytest.mark.more
@pytest.mark.slow
def test_a_plot_that_fails_is_one_line(
    study: optuna.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    original = Figure.savefig

    def savefig(figure: Figure, file: Path, **options: Any) -> None:
        if "slice" in file.stem:
            raise ValueError("injected")
        original(figure, file, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    write_plots(study, settings(tmp_path), tmp_path)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("hourglass")] == [
        "plot slice-bleu: not made (injected); the same command makes it again"
    ]
    assert (tmp_path / "timeline.png").exists()
    assert (tmp_path / "plots.html").exists()


def test_the_table_has_no_formula(study: optuna.Study, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(trials_to_csv(study.get_trials(), settings(tmp_path)))))
    assert [row["data.$x$"] for row in rows[:3]] == ["$$", r"$\frac$", "'=1+1"]
    assert float(rows[0]["rate"]) == 1e-4
