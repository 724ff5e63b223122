"""Pictures of the user: how a file becomes a square, what a folder gives, and what is refused by its file."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import compose_config

from hourglass.corpora.corpus import check_recipe, load_corpus
from hourglass.corpora.features import check_features
from hourglass.corpora.pictures import open_pictures, read_picture
from hourglass.corpora.shapes import join_patches
from hourglass.errors import UserError

Image = pytest.importorskip("PIL.Image")
SIDE, PATCH = 8, 4


def draw(file: Path, height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    """Write a picture of random pixels, and return these [height, width, 3]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of five pictures, of which train has one of test, too."""
    for number in range(5):
        draw(tmp_path / "pictures" / f"{number}.png", seed=number)
    lines = {
        "train": ["0.png\ta dog\ta small dog", "1.png\ta cat", "4.png\ta leak"],
        "dev": ["2.png\ta bird\ta red bird"],
        "test": ["3.png\ta fish", "4.png\ta dog"],
    }
    for split, own in lines.items():
        (tmp_path / f"{split}.tsv").write_text("".join(f"pictures/{line}\n" for line in own))
    return tmp_path


def options(folder: Path | None, **changes: Any) -> dict[str, Any]:
    own = compose_config("data=pictures")["data"]
    small = {"side": SIDE, "patch": PATCH, "feature_size": 3 * PATCH**2}
    return {**own, **small, "folder": folder and str(folder), **changes}


def refusal(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as refused:
        act()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_folder_is_a_corpus_of_pixels_and_captions(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(options(folder), tmp_path / "cache")
    train, dev, test = (corpus.splits[split] for split in ("train", "dev", "test"))
    assert list(train["target"]) == ["a dog", "a small dog", "a cat"]  # Pixel by pixel, 4.png is in test.
    assert corpus.facts.dropped == {"leak": 1, "empty": 0, "too long": 0}
    assert (dev[0]["target"], dev[0]["alternatives"]) == ("a bird", ["a red bird"])
    assert list(test["target"]) == ["a fish", "a dog"]
    pixels = draw(tmp_path / "again.png", seed=3) / 255
    patches = np.array(test[0]["features"])
    assert patches.shape == (4, 48)
    np.testing.assert_allclose(join_patches(patches, PATCH), pixels, atol=1e-3)
    np.testing.assert_allclose(patches[1], pixels[:PATCH, PATCH:].ravel(), atol=1e-3)  # Row by row.
    # Another picture under the same name is another corpus.
    draw(folder / "pictures" / "3.png", seed=9)
    assert load_corpus(options(folder), tmp_path / "cache").digest != corpus.digest


def test_the_middle_square_is_scaled(tmp_path: Path) -> None:
    pixels = draw(tmp_path / "wide.png", height=SIDE, width=SIDE + 6)
    np.testing.assert_allclose(read_picture(tmp_path / "wide.png", SIDE, "crop"), pixels[:, 3:-3] / 255, atol=1e-3)
    halves = np.zeros((40, 24, 3), np.uint8)
    halves[20:] = 255
    Image.fromarray(halves).save(tmp_path / "high.png")
    small = read_picture(tmp_path / "high.png", SIDE, "crop")
    assert small.shape == (SIDE, SIDE, 3)
    assert small[:3].max() < 0.1
    assert small[-3:].min() > 0.9


def test_greys_transparency_and_turned_pictures_become_colours(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_allclose(
        read_picture(tmp_path / "grey.png", 8, "none"), grey[..., None].repeat(3, -1) / 255, atol=1e-3
    )
    clear = np.zeros((8, 8, 4), np.uint8)
    clear[0] = 255, 0, 0, 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    seen = read_picture(tmp_path / "clear.png", 8, "none")
    assert (seen[0] == [1, 0, 0]).all()
    assert (seen[1:] == 1).all()  # White below what is transparent.
    half = np.zeros((16, 16, 3), np.uint8)
    half[:, 8:] = 255
    turned = Image.Exif()
    turned[0x0112] = 6  # The camera was turned: rows are columns.
    Image.fromarray(half).save(tmp_path / "turned.jpg", exif=turned, quality=95)
    seen = read_picture(tmp_path / "turned.jpg", 16, "none")
    assert seen[:6].max() < 0.1
    assert seen[-6:].min() > 0.9


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "cannot identify image file"),
        (b"", "cannot identify image file"),
        (None, "image file is truncated"),
    ],
)
def test_a_picture_that_cannot_be_read_is_named(
    content: bytes | None, reason: str, folder: Path, tmp_path: Path
) -> None:
    file = folder / "pictures" / "2.png"
    draw(file, height=50, width=50)
    file.write_bytes(file.read_bytes()[:3000] if content is None else content)
    message = refusal(lambda: load_corpus(options(folder), tmp_path / "cache"))
    assert message.startswith(f"{file}: no picture can be read from it, PNG or JPEG ({reason}")


def test_a_picture_of_another_size_is_named(folder: Path, tmp_path: Path) -> None:
    draw(folder / "pictures" / "2.png", height=9)
    load_corpus(options(folder), tmp_path / "cache")
    message = refusal(lambda: load_corpus(options(folder, resize="none"), tmp_path / "cache"))
    assert message.startswith(f"{folder}/pictures/2.png: 8 x 9 pixels, and data.resize=none with data.side=8: ")


def test_16_bits_a_pixel_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert "16 bits a pixel: save it with 8" in refusal(lambda: read_picture(tmp_path / "deep.png", 8, "crop"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("pictures/2.png", "dev.tsv:2: no picture and caption: write FILE, a tab, and the caption"),
        ("\ta bird", "dev.tsv:2: no picture and caption"),
        ("pictures/9.png\ta bird", "dev.tsv:2: no such picture: "),
        ("pictures/2.png\t", "dev.tsv:2: an empty side, and dev pairs are never dropped"),
    ],
)
def test_a_line_without_a_picture_or_a_caption_is_named(line: str, message: str, folder: Path, tmp_path: Path) -> None:
    with (folder / "dev.tsv").open("a") as file:
        file.write(f"{line}\n")
    assert refusal(lambda: load_corpus(options(folder), tmp_path / "cache")).startswith(f"{folder}/{message}")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": None}, "data.folder: not set: set data.folder=PATH, a folder with train.tsv"),
        ({"side": 10}, "data.side=10 is no multiple of data.patch=4: set data.side=8 or 12"),
        ({"side": 3}, "data.side=3 is no multiple of data.patch=4: set data.side=4"),
        (
            {"feature_size": 3},
            "data.feature_size=3: patches of 4 x 4 pixels in three colours have 48 numbers: set data.",
        ),
        ({"resize": "fit"}, "data.resize=fit: input should be 'crop' or 'none'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str, folder: Path) -> None:
    assert refusal(lambda: check_recipe({**options(folder), **changes})).startswith(message)


def test_a_missing_library_is_refused_with_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = 'data.name=pictures needs the package Pillow to read pictures: pip install "hourglass[pictures]"'
    assert refusal(lambda: check_recipe(options(folder))) == message


def test_a_trained_model_is_given_pictures_as_it_was_in_training(folder: Path, tmp_path: Path) -> None:
    corpus = load_corpus(options(folder), tmp_path / "cache")
    opened = open_pictures(folder / "pictures", options(folder), "features")
    rows = [check_features(row, 48, "here") for row in opened.rows]
    assert opened.pictures == len(rows) == 5
    np.testing.assert_array_equal(rows[3], np.array(corpus.splits["test"][0]["features"], np.float16))
    (alone,) = open_pictures(folder / "pictures" / "3.png", options(folder), "features").rows
    np.testing.assert_array_equal(alone, rows[3])
    (tmp_path / "empty").mkdir()
    message = refusal(lambda: open_pictures(tmp_path / "empty", options(folder), "features"))
    assert message.startswith(f"features={tmp_path}/empty: no pictures in this folder (.png")
    other = compose_config("data=shapes")["data"]
    message = refusal(lambda: open_pictures(folder / "pictures", other, "features"))
    assert message.startswith(f"features={folder}/pictures: pictures, and the run was trained on data=shapes: give")


def test_a_folder_of_pictures_is_no_folder_of_features(folder: Path) -> None:
    own = {**compose_config("data=features", "data.feature_size=48")["data"], "folder": str(folder)}
    assert refusal(lambda: list(check_recipe(own)[1].inputs())).endswith(
        "train.tsv lists pictures? That is data=pictures"
    )
