"""All recipes, by the names that conf/data uses."""

from hourglass.config.registry import Registry
from hourglass.corpora.bibles import KjvWeb
from hourglass.corpora.docstrings import Docstrings
from hourglass.corpora.features import FeatureFiles
from hourglass.corpora.hub import Hub
from hourglass.corpora.lookup import NgramLookup, PhoneBook, Recall
from hourglass.corpora.pictures import PictureFiles
from hourglass.corpora.pronunciations import Cmudict
from hourglass.corpora.recipe import ItemTerms, Recipe
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


def terms_of(name: str | None) -> ItemTerms | None:
    """Return what is meant by sentences and words of a recipe; None: just these, or a recipe that is not known here."""
    recipe = None if name is None else RECIPES.get(name)
    return None if recipe is None else recipe.terms


def lengths_of(name: str | None) -> str:
    """Return the heading for the lengths of a recipe's sources."""
    terms = terms_of(name)
    return "source words" if terms is None else terms.lengths
