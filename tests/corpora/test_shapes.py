"""Pictures of shapes: captions read back, scenes counted, and pictures looked at."""

import itertools
import math
import re
from typing import Any

import numpy as np
import pytest
from helpers import compose_config

from hourglass.corpora import shapes
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.recipe import SPLITS
from hourglass.corpora.shapes import (
    BACKGROUND,
    COLOURS,
    FORMS,
    PLACE_SIDE,
    PLACES,
    SIDE,
    SIZES,
    Shape,
    Shapes,
    caption_bits,
    caption_of,
    coverage_of,
    cut_into_patches,
    draw_scene,
    draw_scene_picture,
)
from hourglass.errors import UserError


def recipe(**changes: Any) -> Shapes:
    small: dict[str, Any] = {"train_pairs": 60, "dev_pairs": 20, "test_pairs": 20}
    made = check_recipe({**compose_config("data=shapes")["data"], **small, **changes})[1]
    assert isinstance(made, Shapes)
    return made


PHRASE = re.compile(
    f"a (?P<size>{'|'.join(SIZES)}) (?P<colour>{'|'.join(COLOURS)}) (?P<form>{'|'.join(FORMS)}) "
    f"(?P<place>{'|'.join(PLACES)})"
)


def read_back(caption: str) -> tuple[Shape, ...]:
    """Return the scene that a caption describes."""
    matches = [PHRASE.fullmatch(phrase) for phrase in caption.split(" and ")]
    assert all(matches)
    return tuple(Shape(PLACES.index(m["place"]), m["size"], m["colour"], m["form"]) for m in matches if m)


@pytest.mark.parametrize("count", [1, 2])
def test_the_bits_of_a_caption_are_those_of_all_scenes(count: int) -> None:
    """Enumerated: every scene has a caption of its own, which no other scene has."""
    looks = list(itertools.product(SIZES, COLOURS, FORMS))
    captions = {
        caption_of(tuple(Shape(place, *look) for place, look in zip(places, chosen, strict=True)))
        for places in itertools.combinations(range(len(PLACES)), count)
        for chosen in itertools.product(looks, repeat=count)
    }
    assert caption_bits(count) == pytest.approx(math.log2(len(captions)))
    assert len(captions) == {1: 324, 2: 46_656}[count]


def test_shapes_are_drawn_evenly() -> None:
    """Each place, form, colour and size comes as often, within five standard errors."""
    random = np.random.default_rng(3)
    drawn = [draw_scene(1, random)[0] for _ in range(20_000)]
    columns: list[tuple[list[Any], Any]] = [
        ([shape.place for shape in drawn], range(len(PLACES))),
        ([shape.form for shape in drawn], FORMS),
        ([shape.colour for shape in drawn], COLOURS),
        ([shape.size for shape in drawn], SIZES),
    ]
    for values, choices in columns:
        share = 1 / len(choices)
        error = math.sqrt(share * (1 - share) / len(drawn))
        assert all(abs(values.count(choice) / len(drawn) - share) < 5 * error for choice in choices)


def test_a_caption_is_that_of_its_scene_and_no_scene_is_in_two_splits() -> None:
    pairs = {split: list(recipe().pairs(split)) for split in SPLITS}
    sources = [pair.source for own in pairs.values() for pair in own]
    assert len(set(sources)) == len(sources) == 100
    for own in pairs.values():
        for pair in own:
            scene = read_back(pair.target)
            assert caption_of(scene) == pair.target
            assert [shape.word for shape in scene] == pair.source.split()
            assert [shape.place for shape in scene] == sorted({shape.place for shape in scene})
    assert [len(pair.source.split()) for pair in pairs["dev"]] == [2, 3, 4, 5, 6] * 4
    words = {word for own in pairs.values() for pair in own for word in pair.target.split()}
    assert len(words) + 4 == compose_config("data=shapes")["data"]["vocabulary_size"]


def test_draws_that_exhaust_nearly_all_scenes_repeat_none() -> None:
    made = recipe(shortest=1, longest=1, train_pairs=280)
    sources = [pair.source for split in SPLITS for pair in made.pairs(split)]
    assert len(set(sources)) == len(sources) == 320


def test_test_and_dev_do_not_hang_on_the_size_of_train() -> None:
    first, other = recipe(), recipe(train_pairs=20)
    for split in SPLITS[1:]:
        for pair, same in zip(first.pairs(split), other.pairs(split), strict=True):
            assert (pair.source, pair.target) == (same.source, same.target)
            assert pair.features is not None
            np.testing.assert_array_equal(pair.features, same.features)


def test_pictures_show_what_captions_say() -> None:
    """The middle of a place has the colour of its shape, or of the background; a large shape covers more."""
    scene = (
        Shape(0, "large", "red", "square"),
        Shape(5, "small", "blue", "circle"),
        Shape(7, "large", "white", FORMS[2]),
    )
    picture = draw_scene_picture(scene, np.random.default_rng(0), noise=0.05)
    assert picture.shape == (SIDE, SIDE, 3)
    assert 0 <= picture.min() < picture.max() <= 1
    by_place = {shape.place: shape for shape in scene}
    for place in range(len(PLACES)):
        row, column = (side * PLACE_SIDE + PLACE_SIDE // 2 for side in divmod(place, 3))
        middle = picture[row - 1 : row + 1, column - 1 : column + 1].mean((0, 1))
        wanted = COLOURS[by_place[place].colour] if place in by_place else (BACKGROUND,) * 3
        np.testing.assert_allclose(middle, wanted, atol=0.15 if place == 7 else 0.06)


@pytest.mark.parametrize("radius", shapes.RADII.values())
def test_forms_have_their_areas(radius: float) -> None:
    areas = {"circle": math.pi * radius**2, "square": 4 * radius**2, "triangle": 2 * radius**2}
    for form, area in areas.items():
        assert coverage_of(form, radius, 0.4, -0.7).sum() == pytest.approx(area, rel=0.06)
    # No shape leaves its place.
    for down, right in itertools.product((-shapes.SHIFT, shapes.SHIFT), repeat=2):
        square = coverage_of("square", radius, down, right)
        assert square.sum() == pytest.approx(4 * radius**2, rel=0.1)


def test_patches_are_those_of_a_loop() -> None:
    picture = np.random.default_rng(0).random((12, 12, 3))
    patches = cut_into_patches(picture, 4)
    assert patches.shape == (9, 48)
    for number, patch in enumerate(patches):
        row, column = divmod(number, 3)
        np.testing.assert_array_equal(
            patch.reshape(4, 4, 3), picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"patch": 5},
            r"^data\.patch=5 does not divide the 36 pixels of a side: set one of 1, 2, 3, 4, 6, 9, 12, 18, 36$",
        ),
        ({"patch": 4}, r"^data\.feature_size=108: patches of 4 x 4 pixels .* 48 numbers: set data\.feature_size=48$"),
        ({"target": "fr"}, r"^data\.target=fr: input should be 'en'$"),
        (
            {"shortest": 1, "longest": 1, "train_pairs": 300},
            r"^data\.shortest=1: the splits need 340 .* there are 324:",
        ),
        ({"longest": 10}, r"^data\.longest=10: "),
        ({"shortest": 4, "longest": 3}, r"^data\.shortest=4 is more than data\.longest=3"),
    ],
)
def test_contradictions_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        recipe(**changes)
