"""The explorer: it shows the steps of the model's own search, and its page works in a browser."""

import http.client
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
import yaml
from helpers import (
    ENCODER_NAMES,
    SMALL,
    compose_config,
    make_run,
    plain_search,
    tiny_config,
    train_config,
    wait_until,
)

from hourglass.analysis.explorer import (
    LEVELS,
    SHOWN,
    LiveModels,
    ReferenceBits,
    choose_sentences,
    disorder,
    explore,
    follow,
    page_content,
    page_text,
    word_bits,
    write_page,
)
from hourglass.analysis.grids import as_address
from hourglass.analysis.live import LiveServer
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import search
from hourglass.errors import UserError
from hourglass.metrics.likelihood import Pairs, reference_nats
from hourglass.models.attention import ATTENTIONS as ATTENTION_NAMES
from hourglass.models.build import build_model
from hourglass.models.cells import CELLS
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.runs.folder import RunFolder
from hourglass.training.finished import FinishedRun

SENTENCES = [("a", "s1 s2 s3", "s1 s2 s3"), ("b", "s0", "s0"), ("c", "s5 s4 s3 s2 s1 s0", "s5 s4 s3 s2 s1 s0")]
ATTENTIONS = ("none", "fixed", "luong_general", "bahdanau")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Return a run of each attention and, as "blind", one that never sees the source."""
    folder = tmp_path_factory.mktemp("runs")
    words = ("trainer.test=false", "trainer.target_tokens=500", "optimizer.label_smoothing=0")
    made = {name: make_run(folder, f"attention={name}", *words) for name in ATTENTIONS}
    small = [word for word in SMALL if word != "encoder.hidden_size=16"]
    blind = compose_config(
        *small, "encoder=blind", "attention=none", "trainer.select=loss", *words, f"cache={folder / 'cache'}"
    )
    return made | {"blind": train_config({**blind, "run_dir": str(folder / "blind")})}


@pytest.fixture(scope="module")
def models(runs: dict[str, RunFolder]) -> dict[str, Trained]:
    return {name: load_trained(runs[name].best) for name in ATTENTIONS}


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
        assert (without.weights, without.contexts, without.scores) == (None, None, None)


@pytest.mark.slow
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_stages_of_a_step_lead_from_scores_to_output(attention: str, models: dict[str, Trained]) -> None:
    """Scores make the weights; state and context make the readout; the readout makes the output."""
    trained = models[attention]
    item = follow(trained, "s1 s2 s3", 8)
    if item.weights is not None and item.scores is not None:
        powers = np.exp(item.scores - item.scores.max(-1, keepdims=True))
        assert item.weights == pytest.approx(powers / powers.sum(-1, keepdims=True), abs=1e-5)
    contexts = {"none": np.zeros((len(item.target), 0)), "fixed": np.tile(item.summary, (len(item.target), 1))}
    read = np.concatenate([item.hidden, contexts.get(attention, item.contexts)], -1).astype(np.float32)
    decoder = trained.model.decoder
    assert decoder.readout is not None
    by_hand = decoder.readout(torch.from_numpy(read)).tanh().detach()
    assert item.readouts == pytest.approx(by_hand.numpy(), abs=1e-5)
    logits = trained.model.output(by_hand).detach()
    logits[:, [PAD, BOS]] = float("-inf")
    assert [step[0][1] for step in item.alternatives] == pytest.approx(logits.softmax(-1).amax(-1).tolist(), rel=1e-4)
    assert item.start is not None
    assert item.start.shape == item.hidden[0].shape


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attention", "changes", "encoder"),
    [
        *((name, {}, "rnn") for name in ATTENTION_NAMES),
        *(("luong_general", {"decoder.cell": cell, "encoder.cell": cell}, "rnn") for cell in CELLS),
        *(("bahdanau", {"decoder.readout": readout}, "rnn") for readout in ("deep", "maxout")),
        ("bahdanau", {"decoder.input_feeding": True, "decoder.layers": 2, "encoder.layers": 2}, "rnn"),
        ("luong_general", {"encoder.bidirectional": False, "encoder.reverse_source": True}, "rnn"),
        *(("luong_general", {}, encoder) for encoder in ENCODER_NAMES if encoder not in ("blind", "rnn")),
    ],
)
def test_every_model_can_be_followed(
    attention: str, changes: dict[str, Any], encoder: str, models: dict[str, Trained]
) -> None:
    """Whatever the cells, the encoder and the readout: the page gets vectors of one width for every step."""
    vocabularies = models["none"].vocabularies
    config = tiny_config(attention, changes, encoder)
    model = build_model(config, vocabularies.source.size, vocabularies.target.size, joint=True).eval()
    trained = Trained(model, vocabularies, config, 0, "")
    followed = LiveModels.follow({"one": trained}, SENTENCES[:1], {"one": plain_search(1)})
    (item,) = followed.followed["one"]
    steps, pieces = len(item.target), len(item.source)
    assert item.hidden.shape == (steps, model.decoder.hidden_size)
    assert item.readouts.shape == (steps, model.decoder.readout_size)
    assert item.states.shape[0] == pieces
    if item.weights is not None:
        assert item.weights.shape == (steps, pieces)
        assert item.scores is None or item.scores.shape == (steps, pieces)
        assert (item.scores is None) == (attention == "multi_head")
    (variant,) = followed.content("", None)["variants"]
    reads = config["encoder"]
    ways = "none" if encoder != "rnn" else "both" if reads["bidirectional"] else "forward"
    assert variant["encoder"]["directions"] == ways
    json.dumps(followed.translate("s2 s1", [[1]]), allow_nan=False)


def test_the_bits_of_a_word_are_those_of_its_pieces() -> None:
    nats = np.log(2) * np.array([1, 2, 4, 8, 16.0])
    pieces = ["\u2581the", "\u2581hou", "se", "."]
    assert word_bits(pieces, nats) == (["the", "house.", "(end)"], pytest.approx([1, 14, 16]))
    assert word_bits(["\u2581字", "母"], nats[:3]) == (["字", "母", "(end)"], pytest.approx([1, 2, 4]))
    assert word_bits([], nats[:1]) == (["(end)"], pytest.approx([1]))


@pytest.mark.slow
def test_earlier_checkpoints_translate_and_are_scored(
    runs: dict[str, RunFolder], models: dict[str, Trained], tmp_path: Path
) -> None:
    """A run that has started from another: here from one of another attention, so that the two are told apart."""
    later = RunFolder(tmp_path / "later")
    shutil.copytree(runs["luong_general"].path, later.path)
    config = yaml.safe_load(later.config.read_text())
    later.config.write_text(yaml.safe_dump({**config, "start_from": str(runs["fixed"].path)}))
    metrics = json.loads(later.metrics.read_text())
    metrics |= {"train_target_tokens": 5000, "dev": {**metrics["dev"], "step": 5000}}
    later.metrics.write_text(json.dumps(metrics))
    page = tmp_path / "page.html"
    explore([str(later.path)], 3, page, [str(runs["blind"].path)], checkpoints=4)
    content = data_of(page.read_text(encoding="utf-8"))
    assert [(one["tokens"] < 1000, one["end"], one["variant"]) for one in content["readings"]] == [
        (True, False, 0),
        (False, True, 0),
    ]
    vocabularies = models["fixed"].vocabularies
    for sentence in content["sentences"]:
        earlier, end = sentence["readings"]
        ids = [*vocabularies.source.encode([sentence["source"]])[0], EOS]
        settings = FinishedRun.open(later.path).settings.search.greedy
        (best,) = search(models["fixed"].model, torch.tensor([ids]), torch.tensor([len(ids)]), settings)
        assert earlier["text"] == vocabularies.target.decode([best.tokens])[0]
        assert "weights" not in earlier
        pairs = Pairs.encode(vocabularies, [sentence["source"]], [sentence["reference"]])
        nats = reference_nats(models["fixed"].model, pairs)[0]
        assert sum(earlier["bits"]) == pytest.approx(nats.sum() / np.log(2), abs=0.01 * len(earlier["bits"]))
        assert end == {}
    with pytest.raises(UserError, match="has no earlier weights"):
        explore([str(runs["fixed"].path)], 3, page, checkpoints=1)


@pytest.mark.slow
def test_bits_are_those_of_the_likelihoods(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    paths = [str(runs[name].path) for name in ("none", "luong_general")]
    explore(paths, 3, page, [str(runs["blind"].path)])
    content = data_of(page.read_text(encoding="utf-8"))
    for name, at in (("blind", None), ("none", 0), ("luong_general", 1)):
        trained = load_trained(runs[name].best)
        for sentence in content["sentences"]:
            pairs = Pairs.encode(trained.vocabularies, [sentence["source"]], [sentence["reference"]])
            nats = reference_nats(trained.model, pairs)[0]
            shown = sentence["bits"]["blind"] if at is None else sentence["bits"]["variants"][at]
            assert len(shown) == len(sentence["bits"]["words"])
            assert sum(shown) == pytest.approx(nats.sum() / np.log(2), abs=0.01 * len(shown))
    with pytest.raises(UserError, match="encoder=rnn sees its source"):
        explore(paths, 3, page, paths[:1])
    explore(paths, 3, page)
    assert "bits" not in data_of(page.read_text(encoding="utf-8"))["sentences"][0]


def data_of(page: str) -> dict[str, Any]:
    """Return the data that a page holds."""
    read: dict[str, Any] = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    return read


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
    assert printed.endswith("1 sentences, luong_general); left out: 2 test sentences of more than 200 pieces")
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
    bits = ReferenceBits(
        [np.full(len(target.split()) + 1, 6.0) for _, _, target in SENTENCES],
        {
            name: [np.linspace(0, 3 + at, len(target.split()) + 1) for _, _, target in SENTENCES]
            for at, name in enumerate(models)
        },
    )
    page = page_content(models, SENTENCES, dict.fromkeys(models, plain_search(1)), "A page", bits)
    return page | made_readings(page)


def made_readings(page: dict[str, Any]) -> dict[str, Any]:
    """Return what each variant was earlier, and another width of `none`: the page with them, of made values."""
    readings: list[dict[str, Any]] = []
    of_sentences: list[list[dict[str, Any]]] = [[] for _ in SENTENCES]
    for variant, name in enumerate(ATTENTIONS):
        for end in (False, True):
            lengths = [[1, 3, 10.0 * variant + 30 * end], [4, None, 5.0]]
            own = {"name": name, "family": name, "width": 16, "variant": variant, "end": end}
            readings.append({**own, "tokens": 1000 if end else 500, "lengths": lengths})
            for rows, sentence in zip(of_sentences, page["sentences"], strict=True):
                ahead = {"text": f"{name} earlier", "target": ["earlier"], "bits": sentence["bits"]["blind"]}
                view = sentence["views"][variant]
                if "weights" in view:
                    ahead |= {"parts": view["parts"], "weights": view["weights"][:1]}
                rows.append({} if end else ahead)
    narrow = {"name": "none w=4", "family": "none", "width": 4, "variant": -1, "end": False}
    readings.append({**narrow, "tokens": 1000, "lengths": []})
    for rows, sentence in zip(of_sentences, page["sentences"], strict=True):
        rows.append({"bits": sentence["bits"]["blind"]})
    sentences = [one | {"readings": rows} for one, rows in zip(page["sentences"], of_sentences, strict=True)]
    return {"readings": readings, "metric": {"name": "BLEU", "higher": True}, "sentences": sentences}


@pytest.mark.slow
def test_the_page_holds_its_data_and_no_address(content: dict[str, Any]) -> None:
    hostile = content | {"title": "</script><!-- <b> <!--TEXT-->"}
    page = write_page(hostile)
    assert page.count("</script>") == 2
    assert not re.search(r'<\w+[^<>]* (src|href)="(?!data:)', page)
    assert set(re.findall(r"\w+://[^/\"'`]+", page)) <= {"http://www.w3.org"}  # Namespaces, which nothing loads.
    read = data_of(page)
    assert read["title"] == hostile["title"]
    assert read["sentences"] == json.loads(json.dumps(content["sentences"]))
    for sentence in content["sentences"]:
        assert [len(row) for row in sentence["bits"]["variants"]] == [len(sentence["bits"]["words"])] * len(ATTENTIONS)
        for view in sentence["views"]:
            assert np.abs(view["states"]).max() <= LEVELS
            assert np.array(view["states"]).shape[1] <= SHOWN
            assert len(view["hidden"]) == len(view["readouts"]) == len(view["target"])
            for row in view.get("weights", []):
                assert 0 < sum(row) <= 1.001 * view["parts"]
        view = sentence["views"][2]
        assert all(sum(row) == pytest.approx(view["parts"], rel=1e-3) for row in view["weights"])


def test_text_without_pictures_is_text() -> None:
    sentence = {"source": "a <b>", "reference": "b & c", "views": [{"text": "</dl>"}]}
    assert page_text({"variants": [{"name": "none"}], "sentences": [sentence]}) == (
        '<dl><dt>source</dt><dd dir="auto">a &lt;b&gt;</dd><dt>reference</dt><dd dir="auto">b &amp; c</dd>'
        '<dt>none</dt><dd dir="auto">&lt;/dl&gt;</dd></dl>'
    )


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


@contextmanager
def opened(browser: Any, folder: Path, content: dict[str, Any], link: str = "", **options: Any) -> Iterator[Any]:
    """Open the page. In the end, check that it wrote nothing to the console and requested nothing."""
    file = folder / "page.html"
    file.write_text(write_page(content), encoding="utf-8")
    options.setdefault("viewport", {"width": 1400, "height": 900})
    page = browser.new_page(**options)
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on(
        "request", lambda asked: messages.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None
    )
    page.goto(file.as_uri() + link)
    yield page
    assert messages == []
    page.close()


@pytest.fixture(
    params=[
        pytest.param((1400, "light"), id="wide"),
        pytest.param((390, "dark"), id="narrow and dark", marks=pytest.mark.more),
    ]
)
def page(request: pytest.FixtureRequest, browser: Any, content: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    width, scheme = request.param
    options = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme, "reduced_motion": "reduce"}
    with opened(browser, tmp_path, content, **options) as page:
        yield page


@pytest.mark.slow
def test_the_page_fits_and_no_sentence_is_cut_off(page: Any) -> None:
    width = page.viewport_size["width"]
    page.keyboard.press("b")  # The trees of the beam search are to fit, too.
    for wide in (width, 360):
        page.set_viewport_size({"width": wide, "height": 900})
        wait_until(lambda: page.evaluate("document.querySelector('svg.flow').clientWidth < innerWidth"), "the width")
        assert page.evaluate("document.documentElement.scrollWidth") <= wide
        for panel in page.locator("section.variant").all():
            frame = panel.bounding_box()
            for word in panel.locator("svg.flow .word, svg.matrix").all():
                box = word.bounding_box()
                assert box["x"] >= frame["x"] - 1
                assert box["x"] + box["width"] <= frame["x"] + frame["width"] + 1
    if width == 1400:  # Side by side there, under each other on a phone.
        page.set_viewport_size({"width": width, "height": 900})
        beside = "document.querySelector('#panels').children[1].offsetLeft > 100"
        wait_until(lambda: page.evaluate(beside), "panels side by side")
        assert len({one.bounding_box()["y"] for one in page.locator("section.variant").all()}) == 1


@pytest.mark.slow
def test_the_encoder_plays_and_hands_over(page: Any, content: dict[str, Any]) -> None:
    """Both directions fill the strips from their ends, then comes the neck, then what reaches the decoder."""
    count, status = page.locator("#count"), page.locator("#status")
    panel = page.locator("[data-variant=none]")
    pieces = panel.locator(".word").count()

    def halves() -> list[int]:
        return panel.locator(".word").evaluate_all(
            "all => all.map(one => one.querySelectorAll('.plus, .minus').length)"
        )

    assert count.text_content() == f"reading 1 of {pieces}"
    assert [number > 0 for number in halves()] == [True, *[False] * (pieces - 2), True]
    assert panel.locator(".word.reading").count() == 2
    assert panel.locator(".decoder").count() == 0
    for _ in range(pieces - 1):
        page.keyboard.press("ArrowRight")
    assert all(halves())
    assert panel.locator(".vector").count() == 0
    page.keyboard.press("ArrowRight")
    assert count.text_content() == "the neck"
    assert panel.locator("g.vector").text_content().startswith("the neck: one vector of ")
    assert panel.locator(".thread").count() == 2  # From where each direction ends.
    page.keyboard.press("ArrowRight")
    assert count.text_content() == "hand over"
    assert "and never again" in panel.locator("g.vector").text_content()
    assert panel.locator(".decoder").count() == 1
    weighted = page.locator("[data-variant=luong_general]")
    assert weighted.locator(".thread").count() == pieces
    assert (
        f"none: one vector, handed over once; fixed: one vector, again at every step; luong_general: all {pieces}"
        in (status.text_content())
    )
    page.locator("#step").fill("0")
    assert count.text_content() == f"reading 1 of {pieces}"


@pytest.mark.slow
def test_keys_step_and_play(page: Any) -> None:
    count, slider = page.locator("#count"), page.locator("#step")
    page.keyboard.press("End")
    last = int(count.text_content().split()[-1])
    assert count.text_content() == f"writing {last} of {last}"
    assert slider.get_attribute("aria-valuetext") == f"writing {last} of {last}"
    page.keyboard.press("Home")
    assert count.text_content().startswith("reading 1 of ")
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "pause"
    wait_until(lambda: not count.text_content().startswith("reading"), "the neck")
    page.keyboard.press(" ")
    assert page.locator("#play").get_attribute("aria-label") == "play"
    page.keyboard.press("End")
    page.keyboard.press(" ")  # From the end, it begins anew.
    wait_until(lambda: count.text_content().startswith("reading"), "the beginning")


@pytest.mark.slow
def test_attention_is_taken_apart_a_stage_a_key_press(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    link = "#sentence=a&step=write-1&variants=none,luong_general,bahdanau"
    with opened(browser, tmp_path, content, link) as page:
        luong, bahdanau = (page.locator(f"[data-variant={name}] .stages") for name in ("luong_general", "bahdanau"))
        view = content["sentences"][0]["views"][2]
        page.keyboard.press(".")
        assert "Nothing to take apart" in page.locator("[data-variant=none] .stages").text_content()
        assert luong.locator(".equation").text_content() == "h = RNN(h of the last step, [e]);  q = h"
        assert bahdanau.locator(".equation").text_content() == (
            "q = h of the last step;  score\u209b = v \u00b7 tanh(W q + U k\u209b)"
        )
        assert luong.locator("table").count() == 0
        page.keyboard.press(".")
        assert luong.locator(".equation").text_content().endswith("score\u209b = q \u00b7 W k\u209b")
        scores = [float(text) for text in luong.locator("tbody td:nth-child(2)").all_text_contents()]
        assert scores == view["scores"][0]
        page.keyboard.press(".")
        weights = [
            float(text.removesuffix(" %")) for text in luong.locator("tbody td:nth-child(3)").all_text_contents()
        ]
        powers = np.exp(np.array(scores) - max(scores))
        assert weights == pytest.approx(100 * powers / powers.sum(), abs=0.6)
        for _ in range(3):
            page.keyboard.press(".")
        assert luong.get_by_text("[h; c]").count() == 2  # The equation, and its numbers.
        page.keyboard.press(".")
        assert f"written: {view['target'][0].replace(chr(0x2581), '')}" in luong.text_content()
        page.keyboard.press(".")  # Of the next step.
        assert page.locator("#count").text_content().startswith("writing 2 of ")
        page.keyboard.press(",")
        assert page.locator(".stages").count() == 0


@pytest.mark.slow
def test_the_bits_meter_tells_what_came_through(page: Any, content: dict[str, Any]) -> None:
    page.locator("#sentence").select_option("2")
    bits = content["sentences"][2]["bits"]
    for variant, own in zip(ATTENTIONS[:3], bits["variants"], strict=False):
        fates = page.locator(f"#meter .fates[data-variant={variant}] .fate")
        assert fates.count() == len(bits["words"])
        bold = fates.evaluate_all("all => all.map(one => getComputedStyle(one).fontWeight === '700')")
        assert bold == [need - cost >= need / 2 for need, cost in zip(bits["blind"], own, strict=True)]
    assert page.locator("#meter .sum").count() == 3
    page.locator("#meter .fate").first.hover()
    need, cost = bits["blind"][0], bits["variants"][0][0]
    said = page.locator("#meter .tip").text_content()
    assert f"the blind decoder needs {need:.1f} bits; saved by none {need - cost:.1f}, " in said


@pytest.mark.slow
def test_words_fade_with_what_the_state_tells_and_a_map_marks_them(
    browser: Any, content: dict[str, Any], tmp_path: Path
) -> None:
    probe = {"sentences": 1000, "positions": 3, "first": [0, 1], "right": [60.0, 40.0], "chance": [10.0, 11.0]}
    places = [[0, 0], [500, 90], [-80, -500], [2, 1]]
    maps = [{"side": "source and target", "words": ["s1", "s2", "s9", "s8"], "places": places, "shown": 0.25}]
    variants = [one | {"probe": probe, "maps": maps} if one["name"] == "none" else one for one in content["variants"]]
    view = content["sentences"][0]["views"][0]
    told = [[100, 50, 0, *[-1] * (len(view["source"]) - 3)]] * (len(view["target"]) + 1)
    first = content["sentences"][0] | {"views": [view | {"told": told}, *content["sentences"][0]["views"][1:]]}
    made = content | {"variants": variants, "sentences": [first, *content["sentences"][1:]]}
    with opened(browser, tmp_path, made, "#sentence=a&step=write-1", reduced_motion="reduce") as page:
        panel = page.locator("[data-variant=none]")
        texts = panel.locator(".word text")
        ink = [float(one.get_attribute("fill-opacity") or 1) for one in texts.all()]
        assert ink[0] == 1
        assert ink[0] > ink[1] > ink[2] > 0.3  # Pale, and still legible.
        assert ink[3:] == [1] * len(ink[3:])  # Not asked.
        assert panel.locator("path.told").count() == 3
        assert "tells 2 of 3 pieces" in panel.locator(".toldlegend").text_content()
        assert "40 of 100 pieces here; chance: 11." in panel.locator(".toldlegend").text_content()
        assert "a probe tells 2 of 3 source pieces" in page.locator("#status").text_content()
        assert page.locator("[data-variant=fixed] .toldlegend").count() == 0
        assert page.locator("#words svg").count() == 0  # Folded.
        page.locator("#words summary").click()
        marks = page.locator("#words .own")
        wait_until(lambda: marks.count() > 0, "the map")
        assert {"s1", "s2"} == {one.get_attribute("data-word") for one in marks.all()} - {"s8", "s9"}
        assert "of this sentence it has: s1, s2" in page.locator("#words svg").get_attribute("aria-label")


@pytest.mark.slow
def test_attention_is_light_over_a_picture(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    sentence = content["sentences"][0]
    cells = len(sentence["views"][0]["source"])
    pixel = as_address(np.full((1, 1, 3), 0.5))
    for image in ({"image": pixel}, {}):
        grid = {"columns": 2, "cells": cells, **image}
        made = content | {"sentences": [sentence | {"grid": grid}]}
        with opened(browser, tmp_path, made, "#step=write-1", reduced_motion="reduce") as page:
            names = ("luong_general", "none")
            looking, blind = (page.locator(f"section.variant[data-variant={name}]") for name in names)
            weights = sentence["views"][2]["weights"][0]
            place = int(np.argmax(weights))
            name = f"cell {place + 1} (row {place // 2 + 1}, column {place % 2 + 1})"
            assert name in looking.locator(".looks").text_content()
            assert name in looking.locator("svg.flow").get_attribute("aria-label")
            assert f"looking at {name}" in page.locator("#status").text_content()
            assert "nothing any more" in blind.locator("svg.flow").get_attribute("aria-label")
            assert looking.locator("svg.film [data-step]").count() == len(sentence["views"][2]["target"])
            if image:
                shades = looking.locator("svg.flow .shade").evaluate_all(
                    "all => all.map(one => Number(one.getAttribute('fill-opacity')))"
                )
                light = 1 - np.array(shades) / 0.88
                assert light == pytest.approx(np.array(weights) / max(weights), abs=0.02)
                dark = blind.locator("svg.flow .shade").evaluate_all(
                    "all => all.map(one => one.getAttribute('fill-opacity'))"
                )
                assert dark == ["0.88"] * cells
            else:
                assert looking.locator("svg.flow text").all_text_contents()[:cells] == [
                    str(number) for number in range(1, cells + 1)
                ]
            box = looking.locator("svg.film .surface").bounding_box()
            looking.locator("svg.film .surface").click(position={"x": 90, "y": 30})
            wait_until(lambda: "writing 2 of" in page.locator("#count").text_content(), "the second step")
            assert box["width"] <= looking.bounding_box()["width"]


@pytest.mark.slow
def test_a_screen_reader_gets_names_order_and_news(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    """By Chromium's own accessibility tree: whatever can be used or stands for a picture has a name."""
    with opened(browser, tmp_path, content, "#sentence=a&step=write-1") as page:
        session = page.context.new_cdp_session(page)
        nodes = [node for node in session.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
        roles = [node["role"]["value"] for node in nodes]
        named = {"button", "slider", "combobox", "checkbox", "image", "region", "link", "table"}
        nameless = [
            node["role"]["value"]
            for node in nodes
            if node["role"]["value"] in named and not node.get("name", {}).get("value", "").strip()
        ]
        assert nameless == []
        assert {"button", "slider", "combobox", "checkbox", "image", "region", "main", "heading"} <= set(roles)
        for slider in page.get_by_role("slider").all():  # In words, as its number tells nothing.
            assert " " in slider.get_attribute("aria-valuetext")
        # The tab key goes through what can be used in the order of the page, each once.
        order = page.evaluate(
            "[...document.querySelectorAll('a[href], button:not(:disabled), select, input, summary')]"
            ".filter(one => one.getClientRects().length).map(one => one.id || one.textContent || one.value)"
        )
        seen = []
        for _ in order:
            page.keyboard.press("Tab")
            seen.append(page.evaluate("(one => one.id || one.textContent || one.value)(document.activeElement)"))
        assert seen == order
        # News: the live region says the new step.
        page.evaluate("document.activeElement.blur()")
        status = page.locator("#status")
        assert status.get_attribute("aria-live") == "polite"
        before = status.text_content()
        page.keyboard.press("ArrowRight")
        assert status.text_content() != before
        assert status.text_content().startswith("writing 2 of")


@pytest.mark.slow
def test_a_sentence_is_chosen_by_length(page: Any, content: dict[str, Any]) -> None:
    by_length = sorted(content["sentences"], key=lambda one: one["words"])
    source, slider = page.locator("#source"), page.locator("#length")
    slider.fill("2")
    assert source.text_content() == by_length[2]["source"]
    assert slider.get_attribute("aria-valuetext") == f"{by_length[2]['words']} words"
    plot = page.locator("#bits-by-length")
    assert plot.locator(".mark").count() == 3 * len(SENTENCES)
    plot.click(position={"x": 50, "y": 50})
    assert source.text_content() == by_length[0]["source"]
    # The scores have the same lengths, and name those of the sentence's bucket.
    scores, tip = page.locator("#score-by-length"), page.locator("#lengths .tip")
    assert tip.text_content() == "1 to 3 words: none 30.0, fixed 40.0, luong_general 50.0"
    assert scores.locator(".mark").count() == 2 * 3
    assert scores.locator(".mark.lit").count() == 3
    scores.click(position={"x": scores.bounding_box()["width"] - 20, "y": 50})
    assert source.text_content() == by_length[2]["source"]
    assert tip.text_content() == "4 or more words: none 5.0, fixed 5.0, luong_general 5.0"


@pytest.mark.slow
def test_a_sentence_earlier_in_the_training_and_over_widths(page: Any, content: dict[str, Any]) -> None:
    page.locator("#sentence").select_option("0")
    page.locator("#sentence").blur()
    sentence = content["sentences"][0]
    text = page.locator("#training [data-earlier=luong_general] .text")
    assert text.text_content() == sentence["views"][2]["text"]
    page.keyboard.press("<")
    assert text.text_content() == "luong_general earlier"
    assert page.locator("#tokens").get_attribute("aria-valuetext") == "after 500 target tokens"
    assert "tokens=500" in page.evaluate("location.hash")
    assert page.locator("#training [data-earlier=luong_general] .matrix .cell").count() >= 1
    assert page.locator("#training [data-earlier=none] .matrix").count() == 0
    assert page.locator("#training .came-through").count() == 0  # It saved nothing yet.
    assert page.locator("#lengths .tip").text_content().startswith("1 to 3 words: none 0.0, fixed 10.0,")
    score, saved_bits = page.locator("#lengths h3").all()
    assert score.text_content().endswith("after 500 target tokens")
    assert saved_bits.text_content().endswith("at the end of the training")
    lines = page.locator("#training .line")
    names = [line.get_attribute("data-line") for line in lines.all()]
    assert names == ["none", "fixed", "luong_general", "none w=4"]
    assert lines.first.locator(".dot").count() == 2
    assert page.locator("#widths .line").count() == 1
    bits = sentence["bits"]
    saved = sum(bits["blind"]) - sum(bits["variants"][0])
    page.locator("#tokens").fill("1")
    assert text.text_content() == sentence["views"][2]["text"]
    label = page.locator("#widths svg.chart").get_attribute("aria-label")
    assert label.endswith(f"none: 0 at 4, {saved:.0f} at 16")


@pytest.mark.slow
def test_the_beam_search_is_drawn_beside_greedy_search(page: Any, content: dict[str, Any]) -> None:
    page.locator("#sentence").select_option("0")
    page.locator("#sentence").blur()
    assert page.locator("#beam svg").count() == 0
    page.keyboard.press("b")
    view = content["sentences"][0]["views"][0]
    beam, own = view["beam"], page.locator("#beam [data-searched=none]")
    rows = [row.locator("td").first.text_content() or "" for row in own.locator("tbody tr").all()]
    limit, nothing = " \u2026 (cut off at the limit)", "(nothing)"
    assert rows[0] == (view["text"] or nothing)
    assert [row.removesuffix(limit) for row in rows[1:]] == [text or nothing for text, _, _ in beam["found"]]
    assert own.locator(".branch").count() == sum(map(len, beam["steps"]))
    assert own.locator(".branch.best").count() == beam["found"][0][1] + 1
    assert own.locator(".branch.greedy").count() >= 1
    assert "beam=open" in page.evaluate("location.hash")
    own.locator("g[data-step='0'] text").nth(1).click()
    assert page.locator("#count").text_content().startswith("writing 1 of ")
    page.locator("#open-beam").click()
    assert page.locator("#beam svg").count() == 0


@pytest.mark.slow
def test_a_page_without_blind_decoder_says_so(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    without = [{key: value for key, value in one.items() if key != "bits"} for one in content["sentences"]]
    with opened(browser, tmp_path, content | {"sentences": without}) as page:
        assert "explore.py RUN blind=RUN" in page.locator("#meter").text_content()


@pytest.mark.slow
def test_variants_side_by_side_and_highlights(page: Any) -> None:
    shown = page.locator("section.variant")
    assert shown.count() == 3  # Of the four.
    page.locator("#choose input").nth(3).check()
    assert shown.count() == 4
    page.locator("#choose input").nth(3).blur()
    page.keyboard.press("End")
    assert page.locator("[data-variant=none]").get_by_text("nothing to look back at").count() > 0
    assert page.locator("[data-variant=none] .matrix").count() == 0
    weighted = page.locator("[data-variant=luong_general]")
    surface = weighted.locator(".surface")
    surface.hover(position={"x": 3, "y": 20})  # The second row, the first column.
    assert weighted.locator("g.lit[data-source='0']").count() == 1
    assert weighted.locator("span.lit[data-step='1']").count() == 1
    assert " looks at s" in weighted.locator(".tip").text_content()
    surface.click(position={"x": 3, "y": 20})
    assert page.locator("#count").text_content().startswith("writing 2 of ")
    assert weighted.locator(".looks").text_content().count("%") >= 2
    for each in page.locator("#choose input").all():
        each.uncheck() if shown.count() > 1 else each.click()
    assert shown.count() == 1  # One stays.


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
def test_a_link_shows_what_it_names(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    link = "#sentence=c&step=write-2&variants=none,bahdanau&stage=3&mode=presenter"
    with opened(browser, tmp_path, content, link) as page:
        assert page.locator("#source").text_content() == SENTENCES[2][1]
        assert page.locator("#count").text_content().startswith("writing 2 of ")
        assert [one.get_attribute("data-variant") for one in page.locator("section.variant").all()] == [
            "none",
            "bahdanau",
        ]
        assert "3 of 7" in page.locator("[data-variant=bahdanau] .stages").text_content()
        assert page.evaluate("getComputedStyle(document.body).fontSize") == "21px"
        assert page.evaluate("location.hash") == link
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("p")
        assert page.evaluate("location.hash") == "#sentence=c&step=write-1&variants=none,bahdanau&stage=3"
        page.evaluate("location.hash = '#sentence=b&step=neck'")
        wait_until(lambda: page.locator("#count").text_content() == "the neck", "the link")
        assert page.locator("#source").text_content() == "s0"
        page.evaluate("location.hash = '#sentence=unknown&step=write-999&variants=unknown'")
        # What it does not know is left as it is.
        wait_until(lambda: page.locator("#count").text_content().startswith("writing"), "the link")
        assert page.locator("#source").text_content() == "s0"


@pytest.mark.slow
def test_the_tour_has_eight_stops(page: Any) -> None:
    page.locator("#tour").click()
    tour = page.get_by_role("dialog", name="guided tour")
    seen = []
    for number in range(1, 9):
        assert tour.locator("h2").text_content().startswith(f"{number} of 8.")
        seen.append(page.locator("#count").text_content().split()[0])
        tour.get_by_role("button", name="done" if number == 8 else "next").click()
    assert tour.count() == 0
    assert seen == ["reading", "reading", "the", "hand", "writing", "writing", "writing", "writing"]
    page.keyboard.press("t")
    assert tour.count() == 1
    page.keyboard.press("Escape")
    assert tour.count() == 0


@pytest.mark.slow
def test_what_is_seen_is_saved_as_svg_and_png(page: Any, tmp_path: Path) -> None:
    page.keyboard.press("End")
    with page.expect_download() as download:
        page.locator("#svg").click()
    download.value.save_as(tmp_path / "seen.svg")
    drawing = ElementTree.parse(tmp_path / "seen.svg").getroot()
    texts = ["".join(one.itertext()) for one in drawing.iter("{http://www.w3.org/2000/svg}text")]
    for text in ("none", "fixed", "luong_general", "nothing to look back at"):
        assert text in texts
    assert "foreignObject" not in (tmp_path / "seen.svg").read_text()
    with page.expect_download() as download:
        page.locator("#png").click()
    download.value.save_as(tmp_path / "seen.png")
    picture = matplotlib.image.imread(tmp_path / "seen.png")
    assert picture.shape[1] > picture.shape[0] / 4
    assert len(np.unique(picture[..., :3].reshape(-1, 3), axis=0)) > 10  # It is not blank.


@pytest.fixture
def live(models: dict[str, Trained]) -> Iterator[LiveServer]:
    followed = LiveModels.follow(models, SENTENCES, dict.fromkeys(models, plain_search(1)))
    content = followed.content("A page", None) | {"live": True}
    with LiveServer(write_page(content), followed, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
def test_a_live_page_translates_what_is_typed(browser: Any, live: LiveServer, models: dict[str, Trained]) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto(live.address)
    page.locator("#own").fill("s4 s1. s2,")  # The stop is typed: it is no key of the page here.
    page.locator("#own").press("Enter")
    wait_until(lambda: page.locator("#source").text_content() == "s4 s1. s2,", "the answer")
    assert page.locator("#count").text_content().startswith("reading 1 of ")
    page.locator("#on").click()
    page.keyboard.press("End")
    expected = follow(models["none"], "s4 s1. s2,", plain_search(1).limit(9)).text
    assert page.locator("[data-variant=none] .whole").text_content() == f"Whole translation: {expected}"
    page.evaluate("location.hash = location.hash.replace(/step=[^&]*/, 'step=write-1')")
    wait_until(lambda: page.locator("#count").text_content().startswith("writing 1 of"), "the link")
    choices = page.locator("[data-variant=none] .choices .force")
    wanted = choices.first.text_content()
    choices.first.click()
    first = page.locator("[data-variant=none] .output span").first
    wait_until(lambda: first.text_content() == wanted, "the other piece")
    page.locator("#own").fill("s1 " * 400)
    page.locator("#own").press("Enter")
    page.get_by_role("alert").get_by_text("can be drawn").wait_for()
    assert [text for text in messages if "400 (Bad Request)" not in text] == []
    page.close()


@pytest.mark.slow
def test_a_forced_piece_is_written_and_the_rest_follows_it(models: dict[str, Trained]) -> None:
    for trained in models.values():
        plain = follow(trained, "s1 s2 s3", 8)
        assert follow(trained, "s1 s2 s3", 8, forced=[0, 0]).target == plain.target
        forced = follow(trained, "s1 s2 s3", 8, forced=[0, 2])
        assert forced.target[:2] == [plain.target[0], plain.alternatives[1][2][0]]
        assert forced.alternatives[1] == plain.alternatives[1]
        assert all(
            steps[0][0] == piece for steps, piece in zip(forced.alternatives[2:], forced.target[2:], strict=True)
        )


@pytest.mark.slow
def test_a_live_page_is_for_this_machine_alone(live: LiveServer) -> None:
    def ask(method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", live.server_port, timeout=60)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    assert live.server_address[0] == "127.0.0.1"
    assert ask("GET", "/")[0] == 200
    assert ask("GET", "/etc/passwd")[0] == 404
    assert ask("GET", "/", Host="example.org")[0] == 403
    assert ask("POST", "/translate", '{"text": "s1"}', Origin="http://example.org")[0] == 403
    assert ask("POST", "/translate", '{"text": "s1"}', Origin=f"http://localhost:{live.server_port}")[0] == 200
    for body, message in (
        ("{", "malformed"),
        ("[]", "malformed"),
        ("[" * 19_000, "malformed"),
        ('{"text": 5}', "malformed"),
        ('{"text": "s1 \\ud800"}', "malformed"),
        ('{"text": "s1", "forced": [[Infinity], [], [], []]}', "malformed"),
        ('{"text": " "}', "there is no text"),
        ('{"text": "s1", "forced": [[9], [], [], []]}', "ranks from 0 to 4"),
        ('{"text": "s1", "forced": [[0]]}', "for each of 4 models"),
    ):
        status, answer = ask("POST", "/translate", body)
        assert (status, message in json.loads(answer)["error"]) == (400, True), answer
    assert json.loads(ask("POST", "/translate", '{"text": " s1\\t\\n s2 "}')[1])["source"] == "s1 s2"
    assert "too long" in ask("POST", "/translate", " " * 30_000)[1]
    with pytest.raises(UserError, match=r"port: .* set port=0"):
        LiveServer("", live.translator, live.server_port)


@pytest.mark.slow
def test_without_javascript_the_page_is_text(browser: Any, content: dict[str, Any], tmp_path: Path) -> None:
    with opened(browser, tmp_path, content, java_script_enabled=False) as page:
        text = page.locator("noscript").inner_text()
    assert "src/translate.py" in text
    for sentence in content["sentences"]:
        for one in (sentence["source"], sentence["reference"], *(view["text"] for view in sentence["views"])):
            assert one in text
