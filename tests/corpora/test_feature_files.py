"""Features and captions in files: every kind of file says the same, nothing is read as a whole, mistakes are named."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import compose_config

from hourglass.config.options import build
from hourglass.corpora.corpus import Corpus, check_leaks, check_recipe, load_corpus, references_of
from hourglass.corpora.features import FeatureFiles, open_features
from hourglass.data.batches import Part
from hourglass.data.encoded import encode_corpus
from hourglass.data.sources import sources_of
from hourglass.data.tokenizer import TokenizerSettings, train_vocabularies
from hourglass.errors import UserError

F = 4
REGIONS = {"train": [2, 3, 1, 2, 2, 1], "dev": [1, 2], "test": [3, 2]}
CAPTIONS = {
    "train": ["a dog", "a cat\tone cat on a mat", "a red ball", "two dogs run", "a cat sleeps", "a ball"],
    "dev": ["a small dog\tone dog", "a cat"],
    "test": ["two cats", "a ball\tthe ball\ta red ball"],
}


def numbers_of(split: str) -> list[np.ndarray]:
    random = np.random.default_rng(len(split) * 31 + ord(split[0]))
    return [random.normal(size=(count, F)).astype(np.float32) for count in REGIONS[split]]


def write_npz(folder: Path, name: str, rows: list[np.ndarray]) -> None:
    np.savez(folder / f"{name}.npz", features=np.concatenate(rows), lengths=np.array(list(map(len, rows))))


def write_compressed(folder: Path, name: str, rows: list[np.ndarray]) -> None:
    arrays = {"features": np.concatenate(rows), "lengths": np.array(list(map(len, rows)))}
    np.savez_compressed(folder / f"{name}.npz", **arrays)  # type: ignore[arg-type]


def write_arrow(folder: Path, name: str, rows: list[np.ndarray]) -> None:
    table = pa.table({"features": pa.array([row.tolist() for row in rows], pa.list_(pa.list_(pa.float32())))})
    with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_folder(folder: Path, write: Callable[[Path, str, list[np.ndarray]], None] = write_npz) -> Path:
    folder.mkdir()
    for split, captions in CAPTIONS.items():
        write(folder, split, numbers_of(split))
        (folder / f"{split}.en").write_text("".join(f"{caption}\n" for caption in captions))
    return folder


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    return {**compose_config("data=features")["data"], "folder": str(folder), "feature_size": F, **changes}


def load(folder: Path, cache: Path) -> Corpus:
    return load_corpus(options(folder), cache)


@pytest.mark.parametrize("write", [write_npz, write_compressed, write_arrow])
def test_every_kind_of_file_gives_the_same_corpus(
    tmp_path: Path, write: Callable[[Path, str, list[np.ndarray]], None]
) -> None:
    corpus = load(write_folder(tmp_path / "files", write), tmp_path / "cache")
    for split, rows in corpus.splits.items():
        kept: list[Any] = list(sources_of(rows))
        wanted = numbers_of(split)
        if split == "train":  # Each of two captions is a pair.
            wanted = [*wanted[:2], *wanted[1:]]
        assert [features.tolist() for features in kept] == [features.tolist() for features in wanted]
        assert [features.dtype for features in kept] == [np.float32] * len(kept)
    assert corpus.digest == load(write_folder(tmp_path / "others"), tmp_path / "other_cache").digest
    test = corpus.splits["test"]
    assert references_of(test) == [("two cats",), ("a ball", "the ball", "a red ball")]
    assert test["source_words"][:] == [2, 2]
    assert corpus.splits["train"]["target"][:3] == ["a dog", "a cat", "one cat on a mat"]


def as_double(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float64)


def with_negative_zeros(rows: np.ndarray) -> np.ndarray:
    return np.where(rows == 0, np.float32(-0.0), rows)


def as_half(rows: np.ndarray) -> np.ndarray:
    return rows.astype(np.float16)


def as_big_endian(rows: np.ndarray) -> np.ndarray:
    return rows.astype(">f4")


def column_by_column(rows: np.ndarray) -> np.ndarray:
    return np.asfortranarray(rows)


@pytest.mark.parametrize("change", [as_double, with_negative_zeros, as_half, as_big_endian, column_by_column])
def test_the_same_picture_in_numbers_of_another_type_is_a_leak(
    tmp_path: Path, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    pictures = np.arange(3 * 2 * F, dtype=np.float32).reshape(3, 2, F)  # Exact in 16 bits; the first number is 0.
    for split, own in (("train", change(pictures)), ("dev", pictures[:1]), ("test", pictures[1:2])):
        np.save(folder / f"{split}.npy", own)
        (folder / f"{split}.en").write_text("a cat\n" * len(own))
    corpus = load(folder, tmp_path / "cache")
    assert corpus.facts.dropped["leak"] == 2
    assert corpus.facts.pairs == {"train": 1, "dev": 1, "test": 1}
    assert check_leaks(corpus) == 0


def test_an_empty_further_caption_of_train_is_dropped(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "files")
    (folder / "train.en").write_text("a dog\t\n" + "a cat\n" * 5)
    corpus = load(folder, tmp_path / "cache")
    assert corpus.facts.dropped["empty"] == 1
    assert corpus.facts.pairs["train"] == 6


def test_a_file_of_another_kind_is_refused_by_its_ending(tmp_path: Path) -> None:
    (tmp_path / "captions.tsv").write_text("a cat\n")
    with pytest.raises(UserError, match=r"captions\.tsv: features are in files \.npy, \.npz, \.arrow: write them with"):
        open_features(tmp_path / "captions.tsv")


def write_table(folder: Path, name: str, kind: pa.DataType, rows: list[Any]) -> None:
    table = pa.table({"features": pa.array(rows, pa.list_(pa.list_(kind)))})
    with pa.OSFile(str(folder / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def test_a_table_of_whole_numbers_is_read_and_one_without_pictures_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path, "train", pa.int32(), [[[1, 2], [3, 4]], [[5, 6]]])
    assert [row.tolist() for row in open_features(tmp_path / "train.arrow").rows] == [[[1, 2], [3, 4]], [[5, 6]]]
    write_table(tmp_path, "train", pa.float32(), [])
    with pytest.raises(UserError, match=r"train\.arrow: it has no pictures$"):
        check_recipe(options(tmp_path, feature_size=None))


def test_an_array_of_one_or_of_many_regions(tmp_path: Path) -> None:
    whole = np.arange(24, dtype=np.float16).reshape(2, 3, F)
    np.save(tmp_path / "many.npy", whole)
    np.save(tmp_path / "one.npy", whole[:, 0])
    many, one = open_features(tmp_path / "many.npy"), open_features(tmp_path / "one.npy")
    assert (many.pictures, one.pictures) == (2, 2)
    assert [row.tolist() for row in many.rows] == whole.tolist()
    assert [row.tolist() for row in one.rows] == whole[:, :1].tolist()


def test_an_archive_is_read_picture_by_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never its array as a whole."""
    write_compressed(tmp_path, "some", numbers_of("train"))
    loaded: list[str] = []
    read = np.lib.npyio.NpzFile.__getitem__

    def spy(self: Any, name: str) -> Any:
        loaded.append(name)
        return read(self, name)

    monkeypatch.setattr(np.lib.npyio.NpzFile, "__getitem__", spy)
    assert [len(row) for row in open_features(tmp_path / "some.npz").rows] == REGIONS["train"]
    assert loaded == ["lengths"]


def test_batches_hold_the_features_padded_with_zeros(tmp_path: Path) -> None:
    corpus = load(write_folder(tmp_path / "files"), tmp_path / "cache")
    settings = build(TokenizerSettings, compose_config("data=features", "tokenizer=char")["tokenizer"], "tokenizer")
    vocabularies = train_vocabularies(settings, corpus.splits["train"], corpus.digest, tmp_path / "cache")
    # The names of pictures, which have digits, are no text that a vocabulary should have.
    assert vocabularies.joint
    assert not any(label.isdigit() for label in vocabularies.target.pieces(range(vocabularies.target.size)))
    split = encode_corpus(corpus, vocabularies, tmp_path / "cache")["train"]
    assert split.source_lengths.tolist() == [2, 3, 3, 1, 2, 2, 1]
    for encoded in (split, pickle.loads(pickle.dumps(split))):
        batch = encoded[Part(np.array([3, 1]), 9)]
        one, three = numbers_of("train")[2], numbers_of("train")[1]
        expected = torch.zeros(2, 3, F)
        expected[0, :1], expected[1] = torch.from_numpy(one), torch.from_numpy(three)
        assert torch.equal(batch.source, expected)
        assert batch.source_lengths.tolist() == [1, 3]
        assert vocabularies.target.decode(batch.target.tolist()) == ["a red ball", "a cat"]
    nulled = split[Part(np.array([3, 1]), 9, nulled=np.array([False, True]))]
    assert nulled.source_lengths.tolist() == [1, 1]
    assert not nulled.source[1].any()
    assert torch.equal(nulled.source[0], expected[0, :1])


def test_a_picture_of_test_is_not_in_train(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "files")
    rows = numbers_of("train")
    rows[1] = numbers_of("test")[0]  # With two captions, which no other split has.
    write_npz(folder, "train", rows)
    corpus = load(folder, tmp_path / "cache")
    assert corpus.facts.pairs["train"] == 5
    assert corpus.facts.dropped["leak"] == 2
    assert "one cat on a mat" not in corpus.splits["train"]["target"][:]
    assert check_leaks(corpus) == 0


def spoil_width(folder: Path) -> None:
    write_npz(folder, "dev", [np.zeros((2, F + 1), np.float32)] * 2)


def spoil_number(folder: Path) -> None:
    rows = numbers_of("train")
    rows[3][1, 2] = np.nan
    write_npz(folder, "train", rows)


def spoil_infinity(folder: Path) -> None:
    rows = numbers_of("test")
    rows[0][0, 0] = np.inf
    write_npz(folder, "test", rows)


def spoil_ragged(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    table = pa.table({"features": pa.array([[[1.0] * F], [[1.0] * F, [2.0]]])})
    with pa.OSFile(str(folder / "dev.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


def spoil_count(folder: Path) -> None:
    (folder / "test.en").write_text("two cats\n")


def spoil_caption(folder: Path) -> None:
    (folder / "test.en").write_text("two cats\n \n")


def spoil_reference(folder: Path) -> None:
    (folder / "test.en").write_text("two cats\t\na ball\n")


def spoil_all_of_train(folder: Path) -> None:
    (folder / "train.npz").unlink()
    np.save(folder / "train.npy", np.concatenate([numbers_of("dev")[1][None]] * 6))


def spoil_magic(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    (folder / "dev.npy").write_bytes(b"a cat and a dog")


def spoil_objects(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    np.save(folder / "dev.npy", np.array([{"a": 1}], dtype=object))


def spoil_words(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    np.save(folder / "dev.npy", np.array([["a", "b"]]))


def spoil_form(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    np.save(folder / "dev.npy", np.zeros((2, 2, 2, F)))


def spoil_archive(folder: Path) -> None:
    (folder / "dev.npz").write_bytes((folder / "dev.npz").read_bytes()[:50])


def spoil_lengths(folder: Path) -> None:
    np.savez(folder / "dev.npz", features=np.zeros((3, F)), lengths=np.array([1, 1]))


def spoil_name(folder: Path) -> None:
    np.savez(folder / "dev.npz", regions=np.zeros((2, 3, F)))


def spoil_header(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    (folder / "dev.npy").write_bytes(b"\x93NUMPY\x01\x00\x08\x00(((((((\n")


def spoil_header_in_archive(folder: Path) -> None:
    spoil_header(folder)
    with zipfile.ZipFile(folder / "dev.npz", "w") as archive:
        archive.write(folder / "dev.npy", "features.npy")
    (folder / "dev.npy").unlink()


def spoil_stream(folder: Path) -> None:
    rows = np.random.default_rng(0).random((2, 5000, F), np.float32)
    np.savez_compressed(folder / "dev.npz", features=rows)
    content = bytearray((folder / "dev.npz").read_bytes())
    content[80_000:80_400] = bytes(400)
    (folder / "dev.npz").write_bytes(content)


def spoil_range(folder: Path) -> None:
    (folder / "dev.npz").unlink()
    np.save(folder / "dev.npy", np.full((2, 2, F), 1e300))


def remove(folder: Path) -> None:
    (folder / "dev.npz").unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoil_width,
            r"dev\.npz: picture 1: 5 numbers a region, and data\.feature_size=4: all features have one width$",
        ),
        (spoil_number, r"train\.npz: picture 4: number 3 of region 2 is nan: features are finite numbers"),
        (spoil_infinity, r"test\.npz: picture 1: number 1 of region 1 is inf: features are finite numbers"),
        (spoil_ragged, r"dev\.arrow: picture 2: regions of 1 and 4 numbers: all regions have the same number"),
        (
            spoil_count,
            r"test\.npz has features of 2 pictures and .*test\.en has 1 lines: line N must describe picture N$",
        ),
        (spoil_caption, r"test\.en:2: an empty side, and test pairs are never dropped"),
        (
            spoil_reference,
            r"test\.en:1: an empty further reference, and test pairs are never dropped: .* the reference$",
        ),
        (
            spoil_all_of_train,
            r"no pair in train \(dropped: 7 leak, .*: give train pairs that neither dev nor test has$",
        ),
        (
            spoil_magic,
            r"dev\.npy: no features can be read from it \(it is no array of numpy: write it with numpy\.save",
        ),
        (spoil_objects, r"dev\.npy: no features can be read from it \(its numbers are of type object: save numbers, "),
        (spoil_words, r"dev\.npy: no features can be read from it \(its numbers are of type <U1: save numbers, "),
        (spoil_form, r"dev\.npy: no features can be read from it \(its array is \[2, 2, 2, 4\], not \[N, S, F\] or "),
        (spoil_archive, r"dev\.npz: no features can be read from it \("),
        (spoil_header, r"dev\.npy: no features can be read from it \("),
        (spoil_header_in_archive, r"dev\.npz: no features can be read from it \("),
        (spoil_stream, r"dev\.npz: picture [12]: cannot be read \("),
        (spoil_range, r"dev\.npy: picture 1: number 1 of region 1 is 1e\+300: features are finite numbers of at most"),
        (spoil_lengths, r"dev\.npz: no features .*its array lengths does not divide the 3 regions among pictures\)$"),
        (spoil_name, r"dev\.npz: no features .*it has regions, and no array features\)$"),
        (remove, r"^data\.folder=.*: no such file; tried .*dev\.npy, .*dev\.npz, .*dev\.arrow$"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_picture(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = write_folder(tmp_path / "files")
    spoil(folder)
    with pytest.raises(UserError, match=message) as refused:
        load(folder, tmp_path / "cache")
    assert "\n" not in str(refused.value)


def test_what_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^data\.folder: not set: set data\.folder=PATH"):
        check_recipe(compose_config("data=features")["data"])
    folder = write_folder(tmp_path / "files")
    with pytest.raises(
        UserError, match=r"^data\.feature_size: not set, .*train\.npz has 4 numbers a region: set data\."
    ):
        check_recipe(options(folder, feature_size=None))
    recipe = check_recipe(options(folder))[1]
    assert isinstance(recipe, FeatureFiles)
    assert [file.name for file in recipe.inputs()] == [
        f"{split}.{ending}" for split in ("train", "dev", "test") for ending in ("npz", "en")
    ]
