"""The user's own pictures, PNG or JPEG, cut into patches of pixels, with captions.

How a picture becomes a square of `data.side` pixels: it is turned as its EXIF record says, transparent parts are laid
on white, greys become colours. Then the largest square in its middle is cut out and scaled (bicubic), or, with
data.resize=none, a picture of another size is refused.

Shapes: S patches of a picture, F numbers of each.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import PositiveInt

from hourglass.corpora.features import FeatureRecipe, FeaturesInFile, pairs_of_picture
from hourglass.corpora.lines import read_lines
from hourglass.corpora.recipe import SPLITS, FeatureArray, LimitedRecipe, Pair, Split
from hourglass.corpora.shapes import cut_into_patches
from hourglass.errors import UserError
from hourglass.system.arrays import UNREADABLE

ENDINGS = (".png", ".jpg", ".jpeg")
_FORMATS = ("PNG", "JPEG")
Resize = Literal["crop", "none"]


class _Line(NamedTuple):
    """A line of a file of captions."""

    picture: Path
    captions: str
    place: str


@dataclass(frozen=True)
class PictureFiles(LimitedRecipe, FeatureRecipe):
    """The user's own pictures: for each split a TSV file, with a picture and its captions a line.

    In train each caption is a pair; in dev and test a picture is one pair, and its captions but the first are further
    references.

    Attributes:
        folder: with train.tsv, dev.tsv and test.tsv: FILE, a tab, a caption, and after tabs further ones; FILE is
            looked for in the folder.
        side: pixels of a side of the square that a picture becomes.
        resize: see `read_picture`.
        patch: pixels of a side of a patch.
    """

    folder: str | None
    side: PositiveInt
    resize: Resize
    patch: PositiveInt
    feature_size: PositiveInt

    name: ClassVar = "pictures"
    # Leaks are searched by the pixels: different pictures rightly have the same caption.
    leak_sides = ("source",)
    has_alternatives = True

    def __post_init__(self) -> None:
        if self.folder is None:
            raise UserError(
                "data.folder: not set: set data.folder=PATH, a folder with train.tsv, dev.tsv and test.tsv, of lines "
                "FILE, tab, CAPTION"
            )
        if self.side % self.patch:
            lower = self.side - self.side % self.patch
            raise UserError(
                f"data.side={self.side} is no multiple of data.patch={self.patch}: set data.side="
                f"{lower or self.patch}{f' or {lower + self.patch}' if lower else ''}"
            )
        if self.feature_size != (width := 3 * self.patch**2):
            raise UserError(
                f"data.feature_size={self.feature_size}: patches of {self.patch} x {self.patch} pixels in three "
                f"colours have {width} numbers: set data.feature_size={width}"
            )
        check_library("data.name=pictures")

    def inputs(self) -> list[Path]:
        """Return the files of captions, and all pictures, each once.

        Raises:
            UserError: a picture is not there, or a line is malformed.
        """
        pictures: dict[Path, None] = {}
        for split in SPLITS:
            for line in self._lines(split):
                if line.picture not in pictures and not line.picture.is_file():
                    raise UserError(f"{line.place}: no such picture: {line.picture}")
                pictures[line.picture] = None
        return [*map(self._captions, SPLITS), *pictures]

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the pictures of a split with their captions."""
        for number, line in enumerate(self._lines(split), 1):
            patches = cut_into_patches(read_picture(line.picture, self.side, self.resize), self.patch)
            places = str(line.picture), line.place
            yield from pairs_of_picture(split, number, patches, line.captions, places=places, language=self.target)

    def _captions(self, split: Split) -> Path:
        file = Path(str(self.folder)).expanduser() / f"{split}.tsv"
        if not file.is_file():
            raise UserError(f"data.folder={self.folder}: no such file: {file}, of lines FILE, tab, CAPTION")
        return file

    def _lines(self, split: Split) -> Iterator[_Line]:
        file = self._captions(split)
        for number, line in enumerate(read_lines(file), 1):
            name, tab, captions = line.partition("\t")
            if not tab or not name.strip():
                raise UserError(f"{file}:{number}: no picture and caption: write FILE, a tab, and the caption")
            yield _Line(file.parent / name.strip(), captions, f"{file}:{number}")


def check_library(option: str) -> None:
    """Check that pictures can be read.

    Raises:
        UserError: the library is not installed.
    """
    if importlib.util.find_spec("PIL") is None:
        raise UserError(f'{option} needs the package Pillow to read pictures: pip install "hourglass[pictures]"')


def read_picture(file: Path, side: int, resize: Resize) -> FeatureArray:
    """Return the picture of a file as a square, [side, side, 3] in float16: red, green and blue from 0 to 1.

    Args:
        file: PNG or JPEG.
        side: pixels of a side.
        resize: crop: the largest square in the middle is scaled; none: the picture has this size.

    Raises:
        UserError: the file cannot be read, has more than 8 bits a colour, or the picture has another size.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=_FORMATS) as opened:
            turned = ImageOps.exif_transpose(opened)
            if turned.mode.startswith(("I", "F")):
                raise ValueError("16 bits a pixel: save it with 8")
            layer = turned.convert("RGBA")
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file}: no picture can be read from it, PNG or JPEG ({reason})") from None
    picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    if resize == "none" and picture.size != (side, side):
        width, height = picture.size
        raise UserError(
            f"{file}: {width} x {height} pixels, and data.resize=none with data.side={side}: all pictures have this "
            "size; or set data.resize=crop"
        )
    square = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    return (np.asarray(square) / 255).astype(np.float16)


def is_pictures(path: Path) -> bool:
    """Return whether a path is that of a picture, or of a folder, whose pictures are meant."""
    return path.is_dir() or path.suffix.lower() in ENDINGS


def open_pictures(path: Path, data: Mapping[str, Any], option: str) -> FeaturesInFile:
    """Open a picture, or all of a folder in the order of their names, as a model reads them.

    Args:
        path: of the picture or the folder.
        data: the config group of the corpus that the model was trained on.
        option: that names the path, for messages.

    Raises:
        UserError: the model reads no pictures from files, the folder has none, or the library is not installed.
    """
    if data["name"] != PictureFiles.name:
        raise UserError(
            f"{option}={path}: pictures, and the run was trained on data={data['name']}: give a file of features "
            "(.npy, .npz or .arrow)"
        )
    check_library(option)
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in ENDINGS) if path.is_dir() else [path]
    if not files:
        raise UserError(f"{option}={path}: no pictures in this folder ({', '.join(ENDINGS)})")
    side, resize, patch = data["side"], data["resize"], data["patch"]
    rows = (cut_into_patches(read_picture(file, side, resize), patch) for file in files)
    return FeaturesInFile(len(files), rows)
