"""All recipes, by the names that conf/data uses."""

from hourglass.corpora.bibles import KjvWeb
from hourglass.corpora.hub import Hub
from hourglass.corpora.recipe import Recipe
from hourglass.corpora.synthetic import Copy, Numbers, Reverse
from hourglass.corpora.text import Multi30k, Text

RECIPES: dict[str, type[Recipe]] = {
    "kjv_web": KjvWeb,
    "numbers": Numbers,
    "text": Text,
    "multi30k": Multi30k,
    "hub": Hub,
    "copy": Copy,
    "reverse": Reverse,
}
