"""Other tasks than translation, from settings to the comparison of runs: each by the metrics of its corpus."""

import json
import math
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import TINY, compose_config, curves, run_script, train_config
from mlflow.exceptions import MlflowException

from hourglass.analysis.bits import measure_bits
from hourglass.analysis.comparing import compare_groups
from hourglass.analysis.explorer import explore, serve
from hourglass.analysis.grouping import open_finished
from hourglass.corpora import pronunciations
from hourglass.corpora.corpus import load_corpus
from hourglass.corpora.shapes import cut_into_patches
from hourglass.data.sources import sources_of
from hourglass.errors import UserError
from hourglass.metrics.likelihood import Pairs, reference_nats
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.system.files import read_json
from hourglass.tracking.packing import pack
from hourglass.training.alignments import alignment_files
from hourglass.training.finished import FinishedRun

WORDS = (
    *TINY,
    *("encoder.hidden_size=16", "trainer.target_tokens=3000", "trainer.batch_tokens=400", "trainer.validations=2"),
    *("trainer.dev_sentences=20", "trainer.test_sentences=40", "edges=[1,6]", "logger=csv", "logger.system_metrics=0"),
)


def train(folder: Path, name: str, *overrides: str) -> RunFolder:
    return train_config(compose_config(*WORDS, *overrides, f"cache={folder / 'cache'}", f"run_dir={folder / name}"))


def best_of(run: RunFolder, metric: str, *, lowest: bool) -> dict[int, float]:
    """Return the best validation by the curve of dev: its step, and its value."""
    points = curves(run, f"dev/{metric}")
    value = (min if lowest else max)(points.values())
    return {step + 1: point for step, point in points.items() if point == value}


@pytest.mark.slow
def test_commands_are_scored_as_whole_sequences(tmp_path: Path) -> None:
    runs = [train(tmp_path, name, "data=scan", f"attention={name}") for name in ("none", "luong_general")]
    for run in runs:
        metrics = read_json(run.metrics)
        assert metrics["test"]["main"] == "exact"
        assert set(metrics["dev"]) == {"exact", "loss", "smoothed_loss", "step"}
        rows = read_translations(run.translations)
        right = 100 * sum(row.hypothesis == row.reference for row in rows) / len(rows)
        assert metrics["test"]["exact"] == pytest.approx(right)
        assert metrics["dev"]["step"] in best_of(run, "exact", lowest=False)
    finished, _ = open_finished([str(run.path) for run in runs])
    (part,) = compare_groups(finished, [], None, 200)
    assert part.metric.name == "exact"
    by_words = compare_groups(finished, [], None, 200, metric="word_error_rate")[0]
    assert by_words.scores[0].score.whole.mean > 50


@pytest.mark.slow
def test_the_checkpoint_with_the_fewest_phoneme_errors_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And test counts the closest of several pronunciations."""
    letters = "abcdefghij"
    lines = []
    for number in range(400):
        word = "".join(letters[int(digit)] for digit in f"{number:03d}")
        sounds = " ".join(letter.upper() for letter in word)
        lines += [f"{word} {sounds}", *([f"{word}(2) {sounds} Z"] if number % 4 == 0 else [])]
    file = tmp_path / "cmudict.dict"
    file.write_text("\n".join([*lines, ""]))
    monkeypatch.setattr(pronunciations, "dictionary_file", lambda: file)
    words = ("data=cmudict", "data.dev_words=40", "data.test_words=60", "trainer.test_sentences=0")
    run = train(tmp_path, "run", *words, "search.beam=1")
    metrics = read_json(run.metrics)
    assert metrics["test"]["main"] == "phoneme_error_rate"
    assert metrics["dev"]["step"] in best_of(run, "phoneme_error_rate", lowest=True)
    rows = read_translations(run.translations)
    assert 5 < sum(bool(row.alternatives) for row in rows) < len(rows) == 60
    wrong = 100 * sum(row.hypothesis not in row.references for row in rows) / len(rows)
    assert metrics["test"]["sequence_error_rate"] == pytest.approx(wrong)


@pytest.mark.slow
def test_runs_of_several_main_metrics_need_one_to_compare_by(tmp_path: Path) -> None:
    words = ("data=copy", "data.train_pairs=300", "data.dev_pairs=20", "data.test_pairs=40", "data.longest=6")
    runs = [train(tmp_path, name, *words, f"metrics={name}") for name in ("exact", "translation")]
    finished, _ = open_finished([str(run.path) for run in runs])
    with pytest.raises(UserError, match=r"has metrics.main=exact and .* bleu: set metric=exact or metric=bleu$"):
        compare_groups(finished, [], None, 200)
    parts: list[Any] = compare_groups(finished, [], None, 200, metric="exact")
    assert [item.group.name for item in parts[0].scores] == ["trainer.select=exact", "trainer.select=bleu"]


SHAPES = (
    *("data=shapes", "data.shortest=2", "data.longest=3", "data.train_pairs=600", "data.dev_pairs=40"),
    *("data.test_pairs=40", "data.patch=12", "data.feature_size=432", "encoder=features", "encoder.embedding_size=48"),
    *("encoder.hidden_size=48", "attention=bahdanau", "attention.size=32", "decoder.hidden_size=48"),
    *("trainer.target_tokens=8000", "trainer.test_sentences=0", "search=greedy", "trainer.pictures=2"),
)
# Pictures of one shape, of which 40 are described that were not seen in training.
ONE_SHAPE = (
    *SHAPES,
    *("data.shortest=1", "data.longest=1", "data.train_pairs=240", "data.dev_pairs=30", "attention=fixed"),
    *("encoder.summary_size=48", "decoder.embedding_size=32", "decoder.readout_size=32"),
    *("encoder.dropout=0", "decoder.dropout=0", "optimizer.label_smoothing=0", "optimizer.learning_rate=1e-2"),
    *("trainer.target_tokens=60000", "trainer.batch_tokens=200", "trainer.pictures=0"),
)


@pytest.fixture(scope="module")
def shapes_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return train(tmp_path_factory.mktemp("shapes"), "run", *SHAPES)


@pytest.mark.slow
def test_captions_are_learnt_from_pictures(tmp_path: Path) -> None:
    """The colour is that of the picture far more often than the one in six that guesses would have."""
    words = [word for word in ONE_SHAPE if word != "attention.size=32"]
    rows = read_translations(train(tmp_path, "run", *words).translations)
    assert len(rows) == 40
    right = [row.hypothesis.split()[2:3] == row.reference.split()[2:3] for row in rows]
    assert sum(right) > 0.5 * len(right)


@pytest.mark.slow
def test_attention_is_drawn_over_the_pictures(shapes_run: RunFolder, tmp_path: Path) -> None:
    """And what is noted beside the weights is the picture itself. The explorer shows it with its caption."""
    assert (shapes_run.path / "pictures" / "attention-over-pictures.svg").read_text().startswith("<svg")
    trained = load_trained(shapes_run.best)
    dev = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["dev"]
    pairs = read_json(alignment_files(shapes_run)[-1][1])
    assert len(pairs) == 2
    # Features are standardised by those of train.
    train_split = load_corpus(trained.config["data"], Path(trained.config["cache"])).splits["train"]
    regions = np.concatenate([np.asarray(each, np.float64) for each in sources_of(train_split)])
    layer: Any = trained.model.encoder.embedding
    np.testing.assert_allclose(layer.mean, regions.mean(0), atol=0.03)
    np.testing.assert_allclose(layer.spread, regions.std(0), atol=0.03)
    for pair, patches in zip(pairs, sources_of(dev), strict=False):
        pixels = np.array(pair["pixels"])
        np.testing.assert_allclose(cut_into_patches(pixels, 12), np.asarray(patches), atol=0.006)
        assert np.array(pair["weights"]).shape == (len(pair["target"]), 9)
    explore([str(shapes_run.path)], 3, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    sentences = json.loads(page.partition('id="data">')[2].partition("</script>")[0])["sentences"]
    assert len(sentences) == 3
    captions = {row.reference: row.hypothesis for row in read_translations(shapes_run.translations)}
    for sentence in sentences:
        assert sentence["views"][0]["text"] == captions[sentence["reference"]]
        assert sentence["grid"]["image"].startswith("data:image/png;base64,")
        assert (sentence["grid"]["cells"], sentence["words"]) == (9, len(sentence["source"].split()))
    with pytest.raises(UserError, match=r"serve: .* reads features, which nobody types"):
        serve([str(shapes_run.path)], 1, 0)


@pytest.mark.slow
def test_a_file_of_features_is_described_as_the_corpus_is(shapes_run: RunFolder, tmp_path: Path) -> None:
    """By the command and by a packed model; and lines, features of another width and unfit options are refused."""
    config = load_trained(shapes_run.best).config
    test = load_corpus(config["data"], Path(config["cache"])).splits["test"]
    features = np.stack([np.asarray(each, np.float32) for each in sources_of(test)])
    np.save(tmp_path / "test.npy", features)
    captions = [row.hypothesis for row in read_translations(shapes_run.translations)]
    done = run_script("src/translate.py", str(shapes_run.path), f"features={tmp_path / 'test.npy'}")
    assert done.stdout.splitlines() == captions
    done = run_script("src/translate.py", str(shapes_run.path), f"features={tmp_path / 'test.npy'}", "output=json")
    first = json.loads(done.stdout.splitlines()[0])
    assert first["translation"] == captions[0]
    np.testing.assert_allclose(np.sum(first["weights"], 1), 1, atol=2e-3)
    assert np.shape(first["weights"]) == (len(first["target_pieces"]), 9)

    pack(shapes_run, tmp_path / "packed")
    model = mlflow.pyfunc.load_model(str(tmp_path / "packed"))
    rows = pd.DataFrame({"source": [json.dumps(each.tolist()) for each in features[:5]]})
    assert model.predict(rows)["translation"].tolist() == captions[:5]
    for source, message in (
        ("a text", "row 1 is no list of regions"),
        ("[" * 100_000, "row 1 is no list of regions"),
        (f"[[1{'0' * 400}]]", "row 1 is no list of regions"),
        ("[[1.0]]", "1 numbers a region, and data.fea"),
    ):
        with pytest.raises(MlflowException, match=message):
            model.predict(pd.DataFrame({"source": [source]}))

    np.save(tmp_path / "narrow.npy", features[:, :, :5])
    for words, message in (
        ([], "reads features of 432 numbers a region, not lines: set features=FILE"),
        ([f"features={tmp_path / 'no.npy'}"], "no.npy: no such file"),
        (
            [f"features={tmp_path / 'narrow.npy'}"],
            "narrow.npy: picture 1: 5 numbers a region, and data.feature_size=432",
        ),
        ([f"features={tmp_path / 'test.npy'}", "output=pharaoh"], "output=pharaoh is for lines of text"),
    ):
        refused = run_script("src/translate.py", str(shapes_run.path), *words)
        assert refused.returncode != 0
        (line,) = refused.stderr.splitlines()[-1:]
        assert message in line


@pytest.mark.slow
def test_bits_of_captions_are_counted_from_what_they_hold(shapes_run: RunFolder, tmp_path: Path) -> None:
    """With two lengths, half of the captions have each; a mean over both of what the model needs, by hand."""
    changes = ("trainer.select=loss", "trainer.test=false", "trainer.pictures=0", "optimizer.label_smoothing=0")
    shared = [word for word in (*WORDS, *SHAPES, *changes) if not word.startswith(("encoder", "attention"))]
    runs = []
    # Any encoder reads features: the default one does here.
    for name, words in (("seen", ("encoder.hidden_size=16",)), ("blind", ("encoder=blind", "attention=none"))):
        folders = f"cache={tmp_path / 'cache'}", f"run_dir={tmp_path / name}"
        runs.append(train_config(compose_config(*shared, *words, "encoder.summary_size=8", *folders)))
    seen, blind = (FinishedRun.open(run.path) for run in runs)
    options: dict[str, Any] = {"edges": [1, 3], "resamples": 200, "converged": 0.01, "blind_rates": [0.002]}
    information = measure_bits([blind], {"seen": [seen]}, baseline="seen", contrastive=8, **options)
    known = [math.log2(2) + math.log2(math.comb(9, count) * 36**count) for count in (2, 3)]
    assert information.exact_bits == pytest.approx(sum(known) / 2)
    assert [bucket.exact_bits for bucket in information.digits or []] == pytest.approx(known)
    pairs = Pairs.of_split(seen.trained.vocabularies, seen.corpus.splits["test"])
    needed = np.mean([nats.sum() for nats in reference_nats(seen.trained.model, pairs)]) / math.log(2)
    received = information.variants["seen"].exact_bits
    assert received is not None
    assert received.mean == pytest.approx(sum(known) / 2 - needed, abs=1e-3)
