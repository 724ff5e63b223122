"""Measure how smoothly the explorer page plays a sentence of 200 tokens, in Chromium."""

import functools
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hourglass.analysis.explorer import LONGEST_SHOWN, LiveModels, write_page
from hourglass.analysis.labels import label_runs
from hourglass.bench.measurements import print_measurement
from hourglass.bench.settings import BenchSettings
from hourglass.errors import UserError
from hourglass.training.finished import FinishedRun

# Seconds of each phase that are played.
PLAYED = 10
# The page is as wide as three variants side by side need.
VIEWPORT: Any = {"width": 1400, "height": 900}
# A frame is late if it comes so much after the one before: a frame of 60 a second was left out.
LATE = 1.5 * 1000 / 60

# Play from a step of the time line for some seconds, and return the milliseconds between frames.
_PLAY = """async ([place, seconds]) => {
    const slider = document.getElementById("step");
    slider.value = place; slider.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise(done => setTimeout(done, 1000));
    document.getElementById("play").click();
    const gaps = [];
    let last = await new Promise(requestAnimationFrame);
    for (const end = last + 1000 * seconds; last < end;) {
        const now = await new Promise(requestAnimationFrame);
        gaps.push(now - last);
        last = now;
    }
    document.getElementById("play").click();
    return gaps;
}"""
# Go through all steps of the time line, a frame each, and return how many there are.
_STEP = """async () => {
    const slider = document.getElementById("step"), count = document.getElementById("count");
    slider.value = 0; slider.dispatchEvent(new Event("input", { bubbles: true }));
    for (let at = 1; at <= Number(slider.max); at++) {
        await new Promise(requestAnimationFrame);
        dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    }
    return Number(slider.max);
}"""


def measure_frames(settings: BenchSettings, paths: str) -> None:
    """Measure frames a second while the page plays, and what a step takes.

    Args:
        settings: conf/bench.yaml; its rounds are the repetitions.
        paths: run folders of one corpus, joined by commas.

    Raises:
        UserError: there is no Chromium, or nothing to drive it with; or a folder holds no run.
    """
    chromium = shutil.which("chromium")
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 (only developers have it)
    except ImportError:
        raise UserError('playwright is not installed: pip install -e ".[dev]"') from None
    if chromium is None:
        raise UserError("Chromium is not installed: apt-get install chromium")
    content = long_page(paths.split(","))
    say = functools.partial(print_measurement, variants=len(content["variants"]))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "explorer.html"
        file.write_text(write_page(content), encoding="utf-8")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=VIEWPORT)
        page.goto(file.as_uri())
        source, target = (max(len(view[side]) for view in content["sentences"][0]["views"]) for side in _SIDES)
        _measure(page, say, settings.rounds, source, target)
        browser.close()


_SIDES = ("source", "target")


def long_page(paths: list[str]) -> dict[str, Any]:
    """Return the content of a page with one sentence of as many pieces as a page shows: test sentences, joined."""
    runs = [FinishedRun.open(path) for path in paths]
    names = label_runs([run.config for run in runs])
    vocabulary = runs[0].trained.vocabularies.source
    words: list[str] = []
    for text in runs[0].corpus.splits["test"]["source"]:
        for word in text.split():
            if len(vocabulary.encode([" ".join([*words, word])])[0]) < LONGEST_SHOWN:
                words.append(word)
        if len(vocabulary.encode([" ".join(words)])[0]) == LONGEST_SHOWN - 1:
            break
    models = {name: run.trained for name, run in zip(names, runs, strict=True)}
    searches = (replace(run.settings.search, output_most=LONGEST_SHOWN) for run in runs)
    limits = dict(zip(names, searches, strict=True))
    return LiveModels.follow(models, [("long", " ".join(words), "")], limits).content("A long sentence", None)


def _measure(page: Any, say: Any, rounds: int, source: int, target: int) -> None:
    """Print the measurements of a page whose sentence has so many pieces, and whose longest translation so many."""
    for phase, place in (("reading", source // 4), ("writing", source + 2 + target // 4)):
        gaps = [page.evaluate(_PLAY, [place, PLAYED]) for _ in range(rounds)]
        rates = [1000 * len(row) / sum(row) for row in gaps]
        late = [100 * sum(gap > LATE for gap in row) / len(row) for row in gaps]
        pieces = f"{source} source and {target} output pieces"
        say(f"explorer, frames while {phase}", statistics.median(rates), "frames/s", pieces=pieces, all=rates)
        say(f"explorer, late frames while {phase}", statistics.median(late), "%", all=late)
    session = page.context.new_cdp_session(page)
    # Of the thread itself, whatever else runs on the machine.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    work = [_work(page, session) for _ in range(rounds)]
    for part in work[0]:
        say(f"explorer, {part} of a step", statistics.median(row[part] for row in work), "ms of a processor")


# What Chromium counts of its main thread, by names of ours.
_COUNTED = {
    "all work": "TaskDuration",
    "script": "ScriptDuration",
    "style": "RecalcStyleDuration",
    "layout": "LayoutDuration",
}


def _work(page: Any, session: Any) -> dict[str, float]:
    """Return the milliseconds of a processor that a step takes in the page's thread, and its parts."""

    def counted() -> dict[str, float]:
        return {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}

    before = counted()
    steps = page.evaluate(_STEP)
    after = counted()
    return {part: 1000 * (after[name] - before[name]) / steps for part, name in _COUNTED.items()}
