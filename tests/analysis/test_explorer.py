"""The explorer: it shows the steps of the model's own search, and its page works in a browser."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import SMALL, compose_config, make_run, plain_search, train_config

from hourglass.analysis.explorer import (
    LEVELS,
    SHOWN,
    choose_sentences,
    disorder,
    explore,
    follow,
    name_runs,
    page_content,
    write_page,
)
from hourglass.data.pieces import EOS
from hourglass.decoding.search import search
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.runs.folder import RunFolder

SENTENCES = [("a", "s1 s2 s3", "s1 s2 s3"), ("b", "s0", "s0"), ("c", "s5 s4 s3 s2 s1 s0", "s5 s4 s3 s2 s1 s0")]
ATTENTIONS = ("none", "fixed", "luong_general", "luong_local_p")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trained]:
    folder = tmp_path_factory.mktemp("runs")
    words = ("trainer.test=false", "trainer.target_tokens=500")
    return {name: load_trained(make_run(folder, f"attention={name}", *words).best) for name in ATTENTIONS}


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_it_follows_the_greedy_search(attention: str, models: dict[str, Trained]) -> None:
    trained, settings = models[attention], plain_search(1)
    for _, source, _ in SENTENCES:
        ids = [*trained.vocabularies.source.encode([source])[0], EOS]
        limit = settings.limit(len(ids))
        (best,) = search(trained.model, torch.tensor([ids]), torch.tensor([len(ids)]), settings)
        item = follow(trained, source, limit)
        assert item.text == trained.vocabularies.target.decode([best.tokens])[0]
        assert item.source == trained.vocabularies.source.pieces(ids)
        for piece, choices in zip(item.target, item.alternatives, strict=True):
            shares = [share for _, share in choices]
            assert choices[0][0] == piece
            assert shares == sorted(shares, reverse=True)
            assert sum(shares) <= 1 + 1e-6


@pytest.mark.slow
def test_a_context_is_the_weighted_sum_of_the_states(models: dict[str, Trained]) -> None:
    item = follow(models["luong_general"], "s1 s2 s3", 8)
    assert item.weights is not None
    assert item.contexts is not None
    assert item.weights.sum(-1) == pytest.approx(np.ones(len(item.target)), abs=1e-5)
    by_hand = sum(item.weights[0, s] * item.states[s] for s in range(len(item.source)))
    assert item.contexts[0] == pytest.approx(by_hand, abs=1e-5)
    for name in ("fixed", "none"):
        without = follow(models[name], "s1 s2 s3", 8)
        assert (without.weights, without.contexts) == (None, None)


def test_disorder_by_hand() -> None:
    def looking(*places: int) -> np.ndarray:
        return np.eye(5)[[*places, 4]]

    assert disorder(looking(0, 1, 2, 3)) == 0
    assert disorder(looking(3, 2, 1, 0)) == 1
    assert disorder(looking(1, 0, 2)) == pytest.approx(1 / 3)
    assert disorder(looking(2)) == 0
    assert disorder(looking(1, 1, 1)) == 0


@pytest.fixture(scope="module")
def run_of_long_sentences(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a run whose test split has sentences of 3, 200 and 400 words, the first with an escape character."""
    folder = tmp_path_factory.mktemp("long")
    lines = [" ".join("abcdef"[(i * k + k) % 6] for i in range(3 + i % 4)) for i in range(40) for k in (1, 2, 3)]
    lines = list(dict.fromkeys(lines))
    for name, rows in (("train", lines), ("dev", ["a b f"]), ("test", ["a \x1b[1m </s>", "b " * 200, "c " * 400])):
        (folder / f"{name}.tsv").write_text("".join(f"{row.strip()}\t{row.strip()}\n" for row in rows))
    files = (f"data.{name}={folder / name}.tsv" for name in ("train", "dev", "test"))
    words = [word for word in SMALL if not word.startswith("data")]
    changes = ("trainer.target_tokens=300", "trainer.validations=1", "search.output_most=4", "tokenizer.model=char")
    config = compose_config(
        *words, "data=text", "data.source=en", "data.target=en", *files, "data.vocabulary_size=11", *changes
    )
    return train_config({**config, "cache": str(folder / "cache"), "run_dir": str(folder / "run")})


@pytest.mark.slow
def test_long_sentences_are_left_out_and_counted(run_of_long_sentences: RunFolder, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    printed = explore([str(run_of_long_sentences.path)], 50, page)
    assert printed.endswith("1 sentences, luong_general); left out: 2 test sentences of more than 150 pieces")
    assert page.stat().st_size < 100_000
    text = page.read_text()
    assert '"source":"a \u241b[1m \\u003c/s>"' in text
    assert "\x1b" not in text
    assert "\\u001b" not in text


def test_sentences_are_even_over_lengths() -> None:
    lengths = [9, 1, 5, 3, 7, 2]
    assert [lengths[i] for i in choose_sentences(lengths, 3)] in ([1, 5, 9], [1, 3, 9])
    assert [lengths[i] for i in choose_sentences(lengths, 10)] == sorted(lengths)


@pytest.fixture(scope="module")
def content(models: dict[str, Trained]) -> dict[str, Any]:
    return page_content(models, SENTENCES, dict.fromkeys(models, plain_search(1)), "A page")


@pytest.mark.slow
def test_the_page_holds_its_data_and_no_address(content: dict[str, Any]) -> None:
    page = write_page(content | {"title": "</script><!-- <b>"})
    assert page.count("</script>") == 1
    assert "src=" not in page
    assert "://" not in page.replace("http://www.w3.org/2000/svg", "")
    start = page.index("const data = ") + len("const data = ")
    read = json.loads(page[start : page.index(";\n", start)])
    assert read["title"] == "</script><!-- <b>"
    assert read["sentences"] == json.loads(json.dumps(content["sentences"]))
    for sentence in content["sentences"]:
        for view in sentence["views"]:
            assert np.abs(view["states"]).max() <= LEVELS
            assert np.array(view["states"]).shape[1] <= SHOWN
            for row in view.get("weights", []):
                assert 0 < sum(row) <= 1.001 * view["parts"]
        view = sentence["views"][2]
        assert all(sum(row) == pytest.approx(view["parts"], rel=1e-3) for row in view["weights"])


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


@pytest.fixture(
    params=[
        pytest.param((1400, "light"), id="wide"),
        pytest.param((390, "dark"), id="narrow and dark", marks=pytest.mark.more),
    ]
)
def page(request: pytest.FixtureRequest, browser: Any, content: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    """The open page. In the end, check that it wrote nothing to the console and requested nothing."""
    width, scheme = request.param
    file = tmp_path / "page.html"
    file.write_text(write_page(content), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.on(
        "request", lambda asked: messages.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    opened.goto(file.as_uri())
    yield opened
    assert messages == []
    opened.close()


@pytest.mark.slow
def test_the_page_fits_and_its_diagrams_fill_their_frames(page: Any) -> None:
    width = page.viewport_size["width"]
    for wide in (width, 360):
        page.set_viewport_size({"width": wide, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= wide
        for panel in page.locator("section.variant").all():
            drawn = panel.locator("svg").first.evaluate("one => Number(one.getAttribute('width'))")
            frame = panel.locator(".scroll").first.evaluate("one => one.clientWidth")
            assert drawn >= frame
            meeting = panel.locator("svg > g[transform]").first.get_attribute("transform")
            assert abs(float(meeting.split("(")[1].split()[0]) - frame / 2) < frame / 2 + drawn


@pytest.mark.slow
def test_keys_step_and_play(page: Any) -> None:
    count = page.locator("#count")
    assert count.text_content().startswith("step 1 of ")
    page.keyboard.press("ArrowRight")
    assert count.text_content().startswith("step 2 of ")
    page.keyboard.press("End")
    last = int(count.text_content().split()[-1])
    assert count.text_content() == f"step {last} of {last}"
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "pause"
    page.get_by_text("step 3 of ").wait_for()
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "play"
    assert page.locator("#status").text_content().startswith("none: ")


@pytest.mark.slow
def test_variants_side_by_side_and_highlights(page: Any) -> None:
    shown = page.locator("section.variant")
    assert shown.count() == 3  # Of the four.
    page.locator("#choose input").nth(3).check()
    assert shown.count() == 4
    page.keyboard.press("End")
    page.locator("body").click(position={"x": 2, "y": 2})
    page.keyboard.press("End")
    assert page.locator("[data-variant=none]").get_by_text("nothing to look back at").count() > 0
    assert page.locator("[data-variant=none] rect.cell").count() == 0
    weighted = page.locator("[data-variant=luong_general]")
    cell = weighted.locator("rect.cell[data-step='1'][data-source='0']")
    cell.hover()
    assert weighted.locator("g.lit[data-source='0']").count() == 1
    assert weighted.locator("span.lit[data-step='1']").count() == 1
    assert " looks at s" in weighted.locator(".tip").text_content()
    cell.click()
    assert page.locator("#count").text_content().startswith("step 2 of ")
    assert weighted.get_by_text("looks at ").first.text_content().count("%") >= 2


@pytest.mark.slow
def test_other_sentences(page: Any, content: dict[str, Any]) -> None:
    source = page.locator("#source")
    page.locator("#sentence").select_option("1")
    assert source.text_content() == "s0"
    page.locator("#sentence").blur()
    page.keyboard.press("]")
    assert source.text_content() == "s1 s2 s3"
    page.keyboard.press("[")
    assert source.text_content() == "s0"
    page.locator("#order").select_option("disorder")
    most = max(content["sentences"], key=lambda item: item["disorder"])
    assert source.text_content() == most["source"]


@pytest.mark.slow
def test_without_javascript_the_page_names_an_alternative(
    browser: Any, content: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(write_page(content), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(file.as_uri())
    assert "src/translate.py" in page.locator("noscript").text_content()
    context.close()


def test_runs_are_named_by_what_tells_them_apart() -> None:
    rnn, bag = compose_config("attention=multi_head"), compose_config("attention=multi_head", "encoder=bag")
    gru, other = compose_config("attention=multi_head", "decoder.cell=gru"), compose_config("attention=none")
    assert name_runs([rnn, other]) == ["multi_head", "none"]
    assert name_runs([rnn, bag]) == ["multi_head encoder=rnn", "multi_head encoder=bag"]
    assert name_runs([rnn, bag, gru]) == [
        "multi_head encoder=rnn decoder.cell=lstm",
        "multi_head encoder=bag decoder.cell=lstm",
        "multi_head encoder=rnn decoder.cell=gru",
    ]
    assert name_runs([rnn, rnn | {"seed": 2}]) == ["multi_head, seed 1", "multi_head, seed 2"]
    assert name_runs([rnn, rnn]) == ["1: multi_head, seed 1", "2: multi_head, seed 1"]
