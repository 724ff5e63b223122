"""Figures show names as they are: read back from the SVG by an XML reader."""

import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence

import pytest
from matplotlib.figure import Figure

from hourglass.reports.plots import MOST_POINTS, Line, draw_lines, draw_matrices, draw_points, to_pdf, to_svg

NAMES = ["_base", "p$a$q", "$$", r"$\frac$", "$5-$10", "a\x1b[1mb", "<b>&amp;", ' id="x', "url(#y)", r"\1"]
SHOWN = [name.replace("\x1b", "␛") for name in NAMES]


def texts(figure: Figure, salt: str = "salt") -> list[str | None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # The font lacks U+241B.
        root = ET.fromstring(to_svg(figure, salt))
        to_pdf(figure)
    return [element.text for element in root.iter() if element.tag.endswith("}text")]


@pytest.mark.parametrize("count", [2, len(NAMES)])  # The legend inside the axes, and above them.
def test_lines_are_in_the_legend_by_their_names(count: int) -> None:
    lines = {name: Line([1, 2], [number, 2]) for number, name in enumerate(NAMES[-count:])}
    figure = draw_lines(lines, x_label="$x$", y_label="\x1b", floor=("_floor", Line([1, 2], [0, 0])))
    shown = texts(figure)
    assert shown[-count - 1 :] == [*SHOWN[-count:], "_floor"]
    assert {"$x$", "␛"} <= set(shown)


@pytest.mark.parametrize("salt", ['a"b', "<script>", r"\1", "a&b"])
def test_any_name_makes_ids(salt: str) -> None:
    assert "x" in texts(draw_lines({"a": Line([1], [1])}, x_label="x", y_label="y"), salt)


def test_pieces_are_on_the_axes_as_they_are() -> None:
    pair = {"source": NAMES, "target": NAMES[:2], "weights": [[0.1] * len(NAMES)] * 2}
    assert texts(draw_matrices([("step $1$", [pair])])) == [*SHOWN, *SHOWN[:2], "step $1$"]


def test_settings_of_the_user_do_not_make_text_a_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("matplotlib").rcParams, "text.usetex", True)
    # A label of ours may have two lines.
    assert draw_lines({"a": Line([1], [1])}, x_label="x", y_label="bits\nread").axes[0].get_ylabel() == "bits\nread"
    assert "p$a$q" in texts(draw_lines({"p$a$q": Line([1], [1])}, x_label="x", y_label="y"))


@pytest.mark.parametrize(("points", "most"), [(100, 40_000), (40 * MOST_POINTS, 400_000)])
def test_the_size_of_a_figure_of_points_is_bounded(points: int, most: int) -> None:
    x: Sequence[float] = [float(i % 97) for i in range(points)]
    svg = to_svg(draw_points(x, x[::-1], x_label="x", y_label="y"), "s")
    assert len(svg) < most
    assert ("<image" in svg) == (points > MOST_POINTS)
