"""Pictures of a few shapes, drawn from a seed, and English captions by a grammar: their information is known exactly.

A picture has three rows of three places, which are taken by shapes or empty:

    caption    phrase | phrase and caption          shapes in reading order, from the top left to the bottom right
    phrase     a size colour form place
    size       small | large          colour     red | green | blue | yellow | white | black
    form       circle | square | triangle
    place      at the top left | at the top | at the top right | on the left | in the middle | on the right |
               at the bottom left | at the bottom | at the bottom right

So a scene has one caption, and a caption is of one scene. What pictures of a scene differ in, as the exact place of a
shape and the noise of the pixels, no caption tells.

Shapes: S patches of a picture, F numbers of each.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
from pydantic import Field, PositiveInt

from hourglass.corpora.features import FeatureRecipe
from hourglass.corpora.recipe import SPLITS, FeatureArray, ItemNames, ItemTerms, Pair, Split
from hourglass.corpora.synthetic import SizedRecipe
from hourglass.errors import UserError

FORMS = ("circle", "square", "triangle")
SIZES = ("small", "large")
COLOURS = {
    "red": (0.9, 0.1, 0.1),
    "green": (0.1, 0.7, 0.2),
    "blue": (0.1, 0.2, 0.9),
    "yellow": (0.95, 0.9, 0.1),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
}
PLACES = (
    *("at the top left", "at the top", "at the top right"),
    *("on the left", "in the middle", "on the right"),
    *("at the bottom left", "at the bottom", "at the bottom right"),
)
BACKGROUND = 0.5
# Pixels of a side of a place, and of the picture, which has three rows of three.
PLACE_SIDE = 12
SIDE = 3 * PLACE_SIDE
# Half the height of a shape, in pixels.
RADII = {"small": 2.75, "large": 4.5}
# Pixels by which the middle of a shape is off the middle of its place, at most; so that no shape leaves its place.
SHIFT = 1.25
# Each pixel is the mean over so many points in a row and in a column.
POINTS = 3
# What a shape may look like, apart from its place.
LOOKS = len(FORMS) * len(SIZES) * len(COLOURS)


class Shape(NamedTuple):
    """A shape of a scene."""

    place: int  # from 0 at the top left, row by row
    size: str
    colour: str
    form: str

    @property
    def phrase(self) -> str:
        """What a caption says of the shape."""
        return f"a {self.size} {self.colour} {self.form} {PLACES[self.place]}"

    @property
    def word(self) -> str:
        """The shape in one word, for the name of a scene."""
        return f"{self.size}-{self.colour}-{self.form}-{self.place + 1}"


# Shapes in the order of their places.
Scene = tuple[Shape, ...]


def caption_of(scene: Scene) -> str:
    """Return the caption of a scene."""
    return " and ".join(shape.phrase for shape in scene)


def scene_count(shapes: int) -> int:
    """Return how many scenes of so many shapes there are."""
    return math.comb(len(PLACES), shapes) * LOOKS**shapes


def caption_bits(shapes: int) -> float:
    """Return the information in a caption, in bits, given that it is of so many shapes: all scenes are as likely."""
    return math.log2(scene_count(shapes))


@dataclass(frozen=True)
class Shapes(SizedRecipe, FeatureRecipe):
    """Pictures, cut into patches, and their captions. No scene occurs twice, within a split or between splits.

    Attributes:
        target: en, the language of the grammar.
        longest: the most shapes.
        feature_size: F: the pixels of a patch in three colours.
        patch: pixels of a side of a patch.
        noise: each number of a pixel is off by at most so much, evenly.
    """

    target: Literal["en"]
    longest: Annotated[int, Field(ge=1, le=len(PLACES))]
    feature_size: PositiveInt
    patch: PositiveInt
    noise: Annotated[float, Field(ge=0, le=0.5)]

    name: ClassVar = "shapes"
    item_names: ClassVar = ItemNames("shapes", "scene", "caption")
    terms: ClassVar = ItemTerms(
        "a picture with its caption", "a shape of the picture", "a word of the caption", lengths="shapes"
    )

    @staticmethod
    def size_bits(size: int) -> float:
        """See `SizedRecipe.size_bits`, and `caption_bits`."""
        return caption_bits(size)

    def __post_init__(self) -> None:
        super().__post_init__()
        if SIDE % self.patch:
            fitting = ", ".join(str(side) for side in range(1, SIDE + 1) if SIDE % side == 0)
            raise UserError(
                f"data.patch={self.patch} does not divide the {SIDE} pixels of a side: set one of {fitting}"
            )
        if self.feature_size != (width := 3 * self.patch**2):
            raise UserError(
                f"data.feature_size={self.feature_size}: patches of {self.patch} x {self.patch} pixels in three "
                f"colours have {width} numbers: set data.feature_size={width}"
            )
        needed = sum(sum(size == self.shortest for size in self.sizes(split)) for split in SPLITS)
        if needed > scene_count(self.shortest):
            raise UserError(
                f"data.shortest={self.shortest}: the splits need {needed:,} different scenes of so many shapes, and "
                f"there are {scene_count(self.shortest):,}: raise data.shortest or lower data.train_pairs"
            )

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield scenes of k shapes, each k as often, drawn evenly without replacement, as pictures with captions."""
        random = np.random.default_rng(self.seed)
        drawn: set[Scene] = set()
        # Test and dev are drawn first, so that their content does not depend on train_pairs.
        for drawing in ("test", "dev", "train"):
            scenes = []
            for shapes in self.sizes(drawing):
                while (scene := draw_scene(shapes, random)) in drawn:
                    pass
                drawn.add(scene)
                scenes.append(scene)
            if drawing == split:
                break
        pixels = self.draws(split)  # Apart from the scenes, which are the same whatever the pictures look like.
        for number, scene in enumerate(scenes):
            name = f"{split}-k{len(scene):02}-{number:06}"
            features = cut_into_patches(draw_scene_picture(scene, pixels, noise=self.noise), self.patch)
            source = " ".join(shape.word for shape in scene)
            yield Pair(name, source, caption_of(scene), (name, name), features=features)


def draw_scene(shapes: int, random: np.random.Generator) -> Scene:
    """Draw a scene of so many shapes: places without replacement, all else evenly and independently."""
    places = sorted(random.choice(len(PLACES), shapes, replace=False).tolist())
    looks = random.integers(LOOKS, size=shapes).tolist()
    return tuple(_with_look(place, look) for place, look in zip(places, looks, strict=True))


def _with_look(place: int, look: int) -> Shape:
    """Return the shape of a number below LOOKS."""
    look, form = divmod(look, len(FORMS))
    colour, size = divmod(look, len(SIZES))
    return Shape(place, SIZES[size], list(COLOURS)[colour], FORMS[form])


def draw_scene_picture(scene: Scene, random: np.random.Generator, *, noise: float) -> FeatureArray:
    """Draw a picture of a scene, [SIDE, SIDE, 3] in float16: red, green and blue from 0 to 1, row by row.

    Args:
        scene: what to draw.
        random: draws the exact places, and the noise.
        noise: see `Shapes`.
    """
    picture = np.full((SIDE, SIDE, 3), BACKGROUND)
    for shape in scene:
        row, column = divmod(shape.place, 3)
        shift = random.uniform(-SHIFT, SHIFT, 2)
        share = coverage_of(shape.form, RADII[shape.size], *shift)[..., None]  # [PLACE_SIDE, PLACE_SIDE, 1]
        place = picture[row * PLACE_SIDE :, column * PLACE_SIDE :][:PLACE_SIDE, :PLACE_SIDE]
        place += share * (np.array(COLOURS[shape.colour]) - place)
    picture += random.uniform(-noise, noise, picture.shape)
    return picture.clip(0, 1).astype(np.float16)


def coverage_of(form: str, radius: float, down: float, right: float) -> FeatureArray:
    """Return the share of each pixel of a place that a shape covers, [PLACE_SIDE, PLACE_SIDE] from 0 to 1.

    Args:
        form: of FORMS.
        radius: of a circle; half the side of a square, and half the height and half the base of a triangle.
        down: pixels by which the middle is below that of the place.
        right: pixels by which it is to the right.
    """
    points = (np.arange(PLACE_SIDE * POINTS) + 0.5) / POINTS - PLACE_SIDE / 2
    y, x = points[:, None] - down, points[None, :] - right
    if form == "circle":
        inside = x**2 + y**2 < radius**2
    elif form == "square":
        inside = (abs(x) < radius) & (abs(y) < radius)
    else:  # The apex is at the top; the base is as wide as the triangle is high.
        inside = (abs(y) < radius) & (2 * abs(x) < y + radius)
    return inside.reshape(PLACE_SIDE, POINTS, PLACE_SIDE, POINTS).mean((1, 3))


def cut_into_patches(picture: FeatureArray, side: int) -> FeatureArray:
    """Return a picture [H, W, 3] as patches [S, F], row by row; of each the pixels row by row, in three colours."""
    height, width, colours = picture.shape
    patches = picture.reshape(height // side, side, width // side, side, colours).swapaxes(1, 2)
    return patches.reshape(-1, side * side * colours)


def join_patches(patches: FeatureArray, side: int) -> FeatureArray:
    """Return the picture [H, H, 3] that was cut into patches [S, F] of so many pixels a side."""
    rows = math.isqrt(len(patches))
    picture = patches.reshape(rows, rows, side, side, -1).swapaxes(1, 2)
    return picture.reshape(rows * side, rows * side, -1)
