"""The page of a report in a browser: variants to choose, readings, links to runs, print, a phone, and no script."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_evaluation import made_evaluation, made_ladder

from hourglass.reports.ablation import ReportOrigin, write_ablation
from hourglass.reports.document import Folded, Table, to_html, to_markdown, unfolded, write_files
from hourglass.runs.origin import RunOrigin

ORIGINS = {
    ("luong_general", seed): RunOrigin(
        f"verses/runs/l-{seed}", f"verses/runs/l-{seed}/config.yaml", f"train {seed}", "c1"
    )
    for seed in (1, 2, 3)
}


def report() -> list[Any]:
    made, ladder = {"verses": made_evaluation()}, {"verses": made_ladder("falls", 32e6)}
    return write_ablation(made, ReportOrigin("c" * 40, "today"), {}, ladder, {"verses": ORIGINS})


def test_each_number_of_a_variant_leads_to_its_runs_and_each_run_to_its_folder_and_settings() -> None:
    blocks = report()
    page = to_html(blocks)
    tables = {block.name: block for block in unfolded(blocks) if isinstance(block, Table)}
    rows = [row for row in tables["verses-runs"].rows if row[0] == "luong_general"]
    assert [row[:6] for row in rows] == [
        ["luong_general", f"{seed}", f"verses/runs/l-{seed}", "config.yaml", f"train {seed}", "c1"]
        for seed in (1, 2, 3)
    ]
    assert [row[6] for row in rows] == ["59.00", "60.00", "61.00"]
    for seed in (1, 2, 3):
        assert f'<a href="verses/runs/l-{seed}/config.yaml">config.yaml</a>' in page
        assert f'<a href="verses/runs/l-{seed}" tabindex="-1">{58 + seed}.00</a>' in page
    anchors = set(re.findall(r'<a href="#([^"]+)"', page))
    assert anchors == {f"runs-verses-{name}" for name in made_evaluation().variants}
    assert all(page.count(f'id="{anchor}"') == 1 for anchor in anchors)
    for name in ("verses-answer", "verses-variants", "verses-lengths"):
        number = tables[name].text_columns
        assert all(
            getattr(row[number], "target", "") == f"#runs-verses-{row[tables[name].head.index('variant')]}"
            for row in tables[name].rows
        )
    assert not [cell for row in tables["verses-search"].rows for cell in row if hasattr(cell, "target")]
    markdown = to_markdown(blocks, "figures")
    assert "[config.yaml](<verses/runs/l-1/config.yaml>)" in markdown
    assert "](<#" not in markdown


def test_folded_parts_are_sections_in_markdown_and_their_tables_and_figures_are_files(tmp_path: Path) -> None:
    blocks = report()
    write_files(tmp_path, blocks)
    folded = [block for block in blocks if isinstance(block, Folded)]
    text = (tmp_path / "report.md").read_text()
    assert all(f"\n## {block.summary}\n" in text for block in folded)
    for block in folded:
        for inner in block.blocks:
            if isinstance(inner, Table):
                assert (tmp_path / "tables" / f"{inner.name}.csv").read_text().startswith(inner.head[0])
    pictures = set(re.findall(r"\(figures/(.*?)\)", text))
    assert pictures == {file.name for file in (tmp_path / "figures").glob("*.svg")}
    assert {f"{name[:-4]}.pdf" for name in pictures} == {file.name for file in (tmp_path / "figures").glob("*.pdf")}


# ---- In a browser ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    result = shutil.which("chromium")
    if result is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    api = pytest.importorskip(
        "playwright.sync_api", reason="the browser is driven by playwright: pip install playwright"
    )
    with api.sync_playwright() as play:
        yield play.chromium.launch(executable_path=result, args=["--no-sandbox"])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("report") / "report.html"
    file.write_text(to_html(report()))
    return file.as_uri()


def opened(browser: Any, address: str, **options: Any) -> Any:
    page = browser.new_page(**{"viewport": {"width": 1400, "height": 900}, **options})
    page.goto(address)
    return page


def shown(figure: Any, number: int) -> bool:
    """Whether the line of a series is drawn, by the browser's own box of it."""
    return bool(figure.locator(f'[id$="-series-{number}-line"]').bounding_box())


@pytest.mark.slow
def test_a_variant_that_is_not_chosen_is_in_no_figure(browser: Any, address: str) -> None:
    page = opened(browser, address)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("request", lambda asked: messages.append(asked.url))
    first = page.locator("figure").first
    further = page.locator("figure:has([aria-label*='forward minus that of none'])")
    names = first.locator(".choices label").all_inner_texts()
    assert [name.strip() for name in names] == ["fixed", "luong_general"]
    page.get_by_role("heading", name="BLEU by length of the source").click()
    others = further.locator(".choices label").all_inner_texts()
    assert [name.strip() for name in others] == ["fixed", "luong_general", "forward"]
    assert shown(first, 0)
    assert shown(further, 0)
    first.get_by_label("fixed", exact=True).uncheck()
    assert not shown(first, 0)
    assert not shown(further, 0)
    assert not further.get_by_label("fixed", exact=True).is_checked()
    assert shown(first, 1)
    assert shown(further, 2)
    first.get_by_label("fixed", exact=True).check()
    assert shown(first, 0)
    assert messages == []
    page.close()


@pytest.mark.slow
def test_a_point_is_read_by_pointer_and_by_keys(browser: Any, address: str) -> None:
    page = opened(browser, address)
    first = page.locator("figure").first
    reading = first.locator(".reading")
    assert reading.is_hidden()
    # Where matplotlib has drawn the last marker of luong_general, by its own elements.
    marker = first.locator('[id$="-series-1-line"] use').last.bounding_box()
    page.mouse.move(marker["x"] + marker["width"] / 2, marker["y"] + marker["height"] / 2)
    assert (
        reading.inner_text()
        == "luong_general: 51 (46 to 56) BLEU minus none, at 9 mean source words of a bucket, of few sentences"
    )
    page.mouse.move(5, 5)
    assert reading.is_hidden()
    first.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("fixed: 10 (5 to 15)")
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("fixed: 11 (6 to 16)")
    first.get_by_label("fixed", exact=True).uncheck()
    first.locator("svg").focus()
    page.keyboard.press("ArrowRight")
    assert reading.inner_text().startswith("luong_general: 50")
    page.close()


@pytest.mark.slow
def test_a_number_opens_the_part_with_its_runs(browser: Any, address: str) -> None:
    page = opened(browser, address)
    row = page.locator("#runs-verses-luong_general")
    assert not row.is_visible()
    page.locator(".table").first.get_by_role("link", name="60.0").click()
    assert row.is_visible()
    assert row.get_by_text("train 1").is_visible()
    assert page.evaluate("location.hash") == "#runs-verses-luong_general"
    assert row.evaluate(
        "row => { const box = row.getBoundingClientRect(); return box.top >= 0 && box.bottom <= innerHeight }"
    )
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("script", [True, False])
def test_print_opens_every_part(browser: Any, address: str, script: bool) -> None:
    """By its own style, and in browsers that lack this, by the script."""
    context = browser.new_context(java_script_enabled=script)
    page = context.new_page()
    page.goto(address)
    inside = page.get_by_text("an output").first
    assert not inside.is_visible()
    page.emulate_media(media="print")
    assert inside.is_visible()
    assert not page.locator(".choices").first.is_visible()
    page.emulate_media(media="screen")
    assert not inside.is_visible()
    if script:
        parts = page.locator("details").count()
        page.evaluate(
            "addEventListener('beforeprint', () => { window.opened = document.querySelectorAll('[open]').length })"
        )
        page.pdf()
        assert page.evaluate("window.opened") == parts > 5
        assert page.locator("details[open]").count() == 0  # As before.
    context.close()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(browser: Any, address: str, scheme: str) -> None:
    page = opened(browser, address, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    for part in page.locator("summary").all():
        part.click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # The first table fits as it is.
    assert page.locator(".table").first.evaluate("table => table.scrollWidth <= table.clientWidth")
    page.close()


@pytest.mark.slow
def test_without_a_script_the_page_is_complete(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert not page.locator(".choices").first.is_visible()  # Nothing that would do nothing.
    assert page.locator("figure").first.is_visible()
    assert (
        "luong_general: 51 (46 to 56) BLEU minus none"
        in page.locator("figure").first.locator("circle title").last.text_content()
    )
    # A link opens the part that it leads into, and each part opens by keyboard.
    page.locator(".table").first.get_by_role("link", name="60.0").click()
    assert page.get_by_text("train 3").is_visible()
    for part in page.locator("details").all():
        if part.get_attribute("open") is None:
            part.locator("> summary").press("Enter")
    assert page.locator("details:not([open])").count() == 0
    assert all(figure.is_visible() for figure in page.locator("figure").all())
    context.close()
