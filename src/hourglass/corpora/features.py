"""Features in place of a source text: regions of a picture, frames of a recording. What recipes of them share, and the
user's own files.

Shapes: N pictures, S regions or frames, F numbers of each, R regions of all pictures together.
"""

import hashlib
import math
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
from pydantic import PositiveInt

from hourglass.corpora.languages import count_words
from hourglass.corpora.lines import read_lines
from hourglass.corpora.recipe import SPLITS, FeatureArray, ItemTerms, LimitedRecipe, Pair, Recipe, Split
from hourglass.errors import UserError
from hourglass.system.arrays import UNREADABLE

# The array of an archive, or the column of a table, with the features; and that with the regions of each picture.
_FEATURES, _LENGTHS = "features", "lengths"
_ENDINGS = (".npy", ".npz", ".arrow")


@dataclass(frozen=True)
class FeatureRecipe(Recipe):
    """A corpus whose sources are features.

    Attributes:
        feature_size: F; a model is built for it.
    """

    feature_size: PositiveInt | None

    has_features: ClassVar = True
    terms: ClassVar[ItemTerms | None] = ItemTerms(
        "a picture or recording with its caption",
        "a word of the caption",
        "a word of the caption",
        lengths="caption words",
    )


@dataclass(frozen=True)
class FeatureFiles(LimitedRecipe, FeatureRecipe):
    """The user's own features and captions: for each split a file of features, and one of captions, line by line.

    A line has a caption, and after tabs further ones of the same picture. In train each caption is a pair; in dev and
    test a picture is one pair, and its captions but the first are further references.

    Attributes:
        folder: with train, dev and test: NAME.npy, NAME.npz or NAME.arrow, and NAME.LANGUAGE.
    """

    folder: str | None

    name: ClassVar = "features"
    # Leaks are searched by the features: different pictures rightly have the same caption.
    leak_sides = ("source",)
    has_alternatives = True

    def __post_init__(self) -> None:
        if self.folder is None:
            raise UserError(
                f"data.folder: not set: set data.folder=PATH, a folder with train.npy, train.{self.target} and the "
                "same of dev and test"
            )
        if self.feature_size is None:
            file = self._features("train")
            first = next(iter(open_features(file).rows), None)
            if first is None:
                raise UserError(f"{file}: it has no pictures")
            width = first.shape[-1]
            raise UserError(
                f"data.feature_size: not set, and {file} has {width} numbers a region: set data.feature_size={width}"
            )

    def inputs(self) -> list[Path]:
        """Return the files of all splits."""
        return [file for split in SPLITS for file in (self._features(split), self._captions(split))]

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the pictures of a split with their captions."""
        file, captions = self._features(split), self._captions(split)
        features = open_features(file)
        lines = sum(1 for _ in read_lines(captions))
        if lines != features.pictures:
            raise UserError(
                f"{file} has features of {features.pictures:,} pictures and {captions} has {lines:,} lines: line N "
                "must describe picture N"
            )
        for number, (regions, line) in enumerate(zip(features.rows, read_lines(captions), strict=True), 1):
            places = f"{file}: picture {number}", f"{captions}:{number}"
            yield from pairs_of_picture(split, number, regions, line, places=places, language=self.target)

    def _features(self, split: Split) -> Path:
        return self._find(split, _ENDINGS)

    def _captions(self, split: Split) -> Path:
        return self._find(split, (f".{self.target}", f".{self.target}.gz"))

    def _find(self, split: Split, endings: Sequence[str]) -> Path:
        names = [Path(str(self.folder)).expanduser() / f"{split}{ending}" for ending in endings]
        for name in names:
            if name.is_file():
                return name
        of_pictures = (names[0].parent / f"{split}.tsv").is_file()
        remedy = f"; {split}.tsv lists pictures? That is data=pictures" if of_pictures else ""
        raise UserError(f"data.folder={self.folder}: no such file; tried {', '.join(map(str, names))}{remedy}")


def pairs_of_picture(
    split: Split, number: int, features: FeatureArray, captions: str, *, places: tuple[str, str], language: str
) -> Iterator[Pair]:
    """Yield the pairs of a picture: in train one for each caption, else one, whose other captions are references, too.

    Args:
        split: that it is of.
        number: of the picture in its split, from 1.
        features: [S, F].
        captions: with tabs between them.
        places: where picture and captions were read.
        language: code of the captions.
    """
    first, *others = captions.split("\t")
    name = _name_of(features)
    own = [first, *others] if split == "train" else [first]
    for place, caption in enumerate(own, 1):
        yield Pair(
            f"{split}-{number}-{place}",
            name,
            caption,
            places,
            alternatives=() if split == "train" else tuple(others),
            features=features,
            length=count_words(caption, language),
        )


def _name_of(features: FeatureArray) -> str:
    """Return a name that features [S, F] of the same numbers share, whatever type and order a file has them in."""
    with np.errstate(over="ignore"):  # `check_features` refuses them.
        numbers = np.ascontiguousarray(features, "<f4") + np.float32(0)  # Makes 0 of -0.
    return hashlib.blake2b(numbers.tobytes(), digest_size=8).hexdigest()


class FeaturesInFile(NamedTuple):
    """The features of all pictures of a file.

    Attributes:
        pictures: N.
        rows: yields N arrays [S, F], one at a time, so that the file is never in memory as a whole.
    """

    pictures: int
    rows: Iterable[FeatureArray]


def open_features(file: Path) -> FeaturesInFile:
    """Open a file of features.

    A file of numpy (.npy, memory-mapped) has one array, [N, S, F], or [N, F] for one region of each picture. An archive
    (.npz) has an array `features`, the same, or [R, F] with an array `lengths` [N] of the regions of each picture. An
    Arrow file (.arrow, memory-mapped) has a column `features` of lists of lists.

    Raises:
        UserError: the file cannot be read, or has something else.
    """
    if file.suffix not in _ENDINGS:
        raise UserError(f"{file}: features are in files {', '.join(_ENDINGS)}: write them with numpy.save, for one")
    try:
        if file.suffix == ".npz":
            return _open_archive(file)
        return _open_table(file) if file.suffix == ".arrow" else _open_array(file)
    except (*UNREADABLE, pa.ArrowException) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: no features can be read from it ({reason})") from None


def _open_array(file: Path) -> FeaturesInFile:
    with file.open("rb") as stream:
        shape, _, kind = _read_header(stream)
    _check_form(file, shape, kind, lengths=False)
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    return FeaturesInFile(len(array), (np.asarray(row).reshape(-1, array.shape[-1]) for row in array))


def _open_archive(file: Path) -> FeaturesInFile:
    with zipfile.ZipFile(file) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]
    if _FEATURES not in names:
        raise ValueError(f"it has {', '.join(names) or 'no arrays'}, and no array {_FEATURES}")
    with zipfile.ZipFile(file) as archive, archive.open(f"{_FEATURES}.npy") as stream:
        shape, in_columns, kind = _read_header(stream)
    lengths = None
    if _LENGTHS in names:
        with np.load(file, allow_pickle=False) as arrays:
            lengths = arrays[_LENGTHS]
    _check_form(file, shape, kind, lengths=lengths is not None)
    if in_columns:
        raise ValueError(f"its array {_FEATURES} lies column by column: write np.ascontiguousarray(features)")
    if lengths is None:
        lengths = np.full(shape[0], math.prod(shape[1:-1]))
    elif lengths.ndim != 1 or lengths.dtype.kind not in "iu" or lengths.sum() != shape[0] or (lengths < 1).any():
        raise ValueError(f"its array {_LENGTHS} does not divide the {shape[0]:,} regions among pictures")
    return FeaturesInFile(len(lengths), _rows_of_archive(file, lengths.tolist(), shape[-1]))


def _rows_of_archive(file: Path, lengths: Sequence[int], width: int) -> Iterator[FeatureArray]:
    """Yield the features of each picture, read one after another."""
    with zipfile.ZipFile(file) as archive, archive.open(f"{_FEATURES}.npy") as stream:
        kind = _read_header(stream)[2]
        for number, length in enumerate(lengths, 1):
            try:
                content = stream.read(length * width * kind.itemsize)
                yield np.frombuffer(content, kind).reshape(length, width)
            except UNREADABLE as error:
                raise UserError(f"{file}: picture {number}: cannot be read ({error})") from None


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of an array in an archive: its shape, whether it lies column by column, and its type."""
    try:
        version = np.lib.format.read_magic(stream)
    except ValueError:
        raise ValueError("it is no array of numpy: write it with numpy.save or numpy.savez") from None
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, in_columns, kind = read(stream)
    return shape, in_columns, kind


def _check_form(file: Path, shape: tuple[int, ...], kind: np.dtype[Any], *, lengths: bool) -> None:
    """Check that an array has the form of features.

    Raises:
        ValueError: it has not.
    """
    if kind.kind not in "fiu":
        raise ValueError(f"its numbers are of type {kind}: save numbers, as of numpy.asarray(features, 'float32')")
    forms = ("[R, F]",) if lengths else ("[N, S, F]", "[N, F]")
    if len(shape) not in {form.count(",") + 1 for form in forms} or 0 in shape:
        raise ValueError(f"its array is {list(shape)}, not {' or '.join(forms)}")


def _open_table(file: Path) -> FeaturesInFile:
    source = pa.memory_map(str(file))
    try:
        table = pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        table = pa.ipc.open_stream(source).read_all()
    if _FEATURES not in table.column_names:
        raise ValueError(f"it has {', '.join(table.column_names) or 'no columns'}, and no column {_FEATURES}")
    column = table[_FEATURES]
    inner = getattr(column.type, "value_type", pa.null())
    kind = getattr(inner, "value_type", pa.null())
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
        raise ValueError(f"its column {_FEATURES} has {column.type}, not lists of lists of numbers")
    return FeaturesInFile(len(column), _rows_of_table(file, column))


def _rows_of_table(file: Path, column: pa.ChunkedArray) -> Iterator[FeatureArray]:
    for number, row in enumerate(column, 1):
        regions = row.values
        widths = {len(region) for region in regions if region.is_valid} if row.is_valid else set()
        if len(widths) != 1 or regions.null_count:
            found = f"regions of {_listed(sorted(widths))} numbers" if widths else "no features"
            raise UserError(f"{file}: picture {number}: {found}: all regions have the same number of numbers")
        yield regions.flatten().to_numpy(zero_copy_only=False).reshape(len(regions), -1)


def _listed(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def check_features(features: FeatureArray | None, width: int | None, place: str) -> FeatureArray:
    """Return features [S, F] in float16, if they are, or in float32.

    Args:
        features: of a pair.
        width: F of the corpus, or of a model.
        place: where they were read, for messages.

    Raises:
        UserError: there are none, they have another width, or a number is not finite.
    """
    if features is None or features.ndim != 2 or not len(features):
        raise UserError(f"{place}: no features: a recipe with has_features gives each pair an array [S, F]")
    if features.shape[1] != width:
        raise UserError(
            f"{place}: {features.shape[1]} numbers a region, and data.feature_size={width}: all features have one width"
        )
    with np.errstate(over="ignore"):  # Refused below.
        kept = features if features.dtype == np.float16 else features.astype(np.float32)
    wrong = np.argwhere(~np.isfinite(kept))
    if len(wrong):
        region, number = wrong[0]
        raise UserError(
            f"{place}: number {number + 1} of region {region + 1} is {features[region, number]}: features are finite "
            "numbers of at most 32 bits"
        )
    return kept


def array_of_features(rows: Sequence[FeatureArray]) -> pa.ListArray:
    """Return arrays [S, F] as an Arrow array of lists of lists of F numbers, without a loop over numbers."""
    flat = np.concatenate(rows)
    regions = pa.FixedSizeListArray.from_arrays(pa.array(flat.ravel()), flat.shape[1])
    return pa.ListArray.from_arrays(pa.array(np.cumsum([0, *map(len, rows)]), pa.int32()), regions)
