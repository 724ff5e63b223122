"""What models read in place of a text, for a page: a grid of cells, over a picture where the cells are its patches.

Shapes: S cells, F numbers of each.
"""

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.image import imsave

from hourglass.corpora.recipe import FeatureArray
from hourglass.corpora.shapes import join_patches
from hourglass.data.sources import sources_of


@dataclass(frozen=True, eq=False)
class Grid:
    """The features of one source, and where their cells stand.

    Attributes:
        features: [S, F].
        words: length of the source, as its corpus counts it.
        patch: pixels of a side of a cell that is a patch of a picture; None: the features are no pixels.
    """

    features: FeatureArray
    words: int
    patch: int | None

    @property
    def columns(self) -> int:
        """Cells of a row: those of a square, which pictures are; of other features only the order is known."""
        return math.ceil(math.sqrt(len(self.features)))

    def content(self) -> dict[str, Any]:
        """Return what the page reads of the source in place of a text."""
        grid: dict[str, Any] = {"columns": self.columns, "cells": len(self.features)}
        if self.patch is not None:
            grid["image"] = as_address(join_patches(np.asarray(self.features, np.float64), self.patch))
        return {"grid": grid, "words": self.words}


def grids_of(rows: Any, patch: int | None) -> list[Grid]:
    """Return the grids of some rows of a split with features.

    Args:
        rows: of the split.
        patch: see `Grid`.
    """
    pairs = zip(sources_of(rows), rows["source_words"], strict=True)
    return [Grid(np.array(features), words, patch) for features, words in pairs]


def as_address(pixels: FeatureArray) -> str:
    """Return a picture [H, W, 3] from 0 to 1 as the address of a PNG that is in the address itself."""
    stream = io.BytesIO()
    unsigned: Any = {"Software": None}  # Without matplotlib's name and version.
    imsave(stream, pixels.clip(0, 1), format="png", metadata=unsigned)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
