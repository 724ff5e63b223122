"""Take the screenshots for docs/mlflow.md: python pipelines/screenshots.py

The script fills an MLflow store with the recorded ablation (track.py), which a clone has, serves it with `mlflow ui`,
and opens its pages in Chromium. For the page of the registry it trains a small model, as models are not in git.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from mlflow import MlflowClient

from hourglass.config.command_line import arguments, one_line_errors
from hourglass.errors import UserError
from hourglass.system.project import ROOT

FOLDER = ROOT / "docs" / "mlflow"
CHROMIUM = "/usr/bin/chromium"
FIRST_SEED = "tags.corpus = 'kjv_web' and tags.seed = '1'"
# Seconds to wait for the server and for each part of a page, on a busy machine.
PATIENCE = 300
# The model of the registry's page: trained for seconds, as the page shows no score.
SMALL = ("data=numbers", "trainer.target_tokens=20000", "trainer.validations=1", "trainer.test=false")


def main() -> None:
    """Write the screenshots to docs/mlflow/."""
    try:
        from playwright.sync_api import sync_playwright  # noqa: PLC0415 (only developers have it)
    except ImportError:
        raise UserError('playwright is not installed: pip install -e ".[dev]"') from None
    if not Path(CHROMIUM).exists():
        raise UserError(f"{CHROMIUM} is missing: apt-get install chromium")
    with (
        tempfile.TemporaryDirectory() as scratch,
        serve_ablation(scratch) as (address, run_id),
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 760}, locale="en-GB")
        page.set_default_timeout(1000 * PATIENCE)
        FOLDER.mkdir(exist_ok=True)
        for name in visit_pages(page, address, run_id):
            page.screenshot(path=FOLDER / f"{name}.png")
            print(f"written: {FOLDER / name}.png", flush=True)
        browser.close()


@contextmanager
def serve_ablation(folder: str) -> Iterator[tuple[str, str]]:
    """Fill a store in a folder and serve it.

    Yields:
        the address of the experiment's page, and the id of the run of luong_general on kjv_web.

    Raises:
        UserError: a command that fills the store fails, or the server does not start.
    """
    uri = f"sqlite:///{folder}/mlflow.db"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}/src",
    }
    run_dir = f"{folder}/luong_general-1 numbers"
    for script, *words in (
        ("pipelines/track.py", uri),
        ("src/train.py", *SMALL, "logger.system_metrics=0", f"logger.tracking_uri={uri}", f"run_dir='{run_dir}'"),
        ("src/pack.py", run_dir, "register=numbers", f"tracking_uri={uri}"),
    ):
        if subprocess.run(
            [sys.executable, str(ROOT / script), *words], cwd=folder, env=environment, check=False
        ).returncode:
            raise UserError(f"{script} failed to fill the store; its message is above")
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("hourglass-ablation")
    assert experiment is not None
    (run,) = client.search_runs(
        [experiment.experiment_id], "tags.corpus = 'kjv_web' and tags.attention = 'luong_general' and tags.seed = '1'"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "ui", "--backend-store-uri", uri, "--port", str(port), "--workers", "1"]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}/#/experiments/{experiment.experiment_id}", run.info.run_id
        finally:
            server.terminate()


def wait_for(address: str, server: "subprocess.Popen[bytes]") -> None:
    """Wait until a server answers.

    Raises:
        UserError: the server has ended, or does not answer in time.
    """
    end = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise UserError("mlflow ui does not answer")


def visit_pages(page: Any, address: str, run_id: str) -> Iterator[str]:
    """Open the pages of docs/mlflow.md one by one, and yield the screenshot's name when a page is ready for it."""
    page.goto(f"{address}/runs?workflowType=machine_learning")
    page.get_by_text("Close").or_(page.get_by_role("button", name="Close")).first.click()  # Close MLflow's assistant.
    page.goto(f"{address}/runs?workflowType=machine_learning&searchFilter={FIRST_SEED}")
    page.get_by_text("4 matching runs").wait_for()
    page.locator('[data-component-id*="runnamecellrenderer"]').first.click()  # Expand the ablation to its runs.
    boxes = page.locator(".ag-row .ag-selection-checkbox input[type=checkbox]")
    boxes.nth(3).wait_for(state="attached")
    for number in range(1, 4):
        boxes.nth(number).click(force=True)
    page.get_by_role("button", name="Compare").wait_for()
    yield "runs"
    page.goto(f"{address}/runs?workflowType=machine_learning&compareRunsMode=CHART&searchFilter={FIRST_SEED}")
    page.get_by_placeholder("Search metric charts").fill("source_words")
    page.get_by_text("test/bleu_by_source_words").first.wait_for()
    page.locator('[data-component-id="fullscreen_button_chartcard"]').first.click()
    page.wait_for_timeout(3000)  # Until the lines are drawn.
    yield "curves"
    page.goto(f"{address}/runs/{run_id}?workflowType=machine_learning")
    page.get_by_role("heading", name="Registered models").wait_for()
    page.wait_for_timeout(1000)
    yield "run"
    page.goto(f"{address}/runs/{run_id}/artifacts?workflowType=machine_learning")
    page.get_by_text("scores_by_length.json").first.click()
    page.get_by_text("31+").first.wait_for()
    yield "table"
    page.goto(f"{address.partition('#')[0]}#/models/numbers/versions/1?workflowType=machine_learning")
    page.get_by_text("Schema").first.wait_for()
    for row in ("Inputs", "Outputs"):
        page.get_by_role("row", name=row).locator("svg").first.click()
    page.wait_for_timeout(2000)  # The model's source run is loaded last.
    page.get_by_text("Version 1").first.scroll_into_view_if_needed()
    yield "model"


if __name__ == "__main__":
    with one_line_errors():
        arguments()
        main()
