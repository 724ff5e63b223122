"""All recipes, by the names that conf/data uses."""

from hourglass.config.registry import Registry
from hourglass.corpora.bibles import KjvWeb
from hourglass.corpora.docstrings import Docstrings
from hourglass.corpora.features import FeatureFiles
from hourglass.corpora.hub import Hub
from hourglass.corpora.lookup import NgramLookup, PhoneBook, Recall
from hourglass.corpora.pictures import PictureFiles
from hourglass.corpora.pronunciations import Cmudict
from hourglass.corpora.recipe import Recipe
from hourglass.corpora.scan import Scan
from hourglass.corpora.shapes import Shapes
from hourglass.corpora.synthetic import Copy, Numbers, Reverse
from hourglass.corpora.text import Multi30k, Text

RECIPES: Registry[Recipe] = Registry(
    "data.name",
    Recipe,  # type: ignore[type-abstract]
    (
        *(KjvWeb, Numbers, Text, Multi30k, Hub, Copy, Reverse, Recall, PhoneBook, NgramLookup, Scan, Cmudict),
        *(Docstrings, Shapes, FeatureFiles, PictureFiles),
    ),
)
