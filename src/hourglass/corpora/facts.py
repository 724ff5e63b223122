"""What a prepared corpus says of its pairs: how many there are, and where they come from."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class PairFacts:
    """The pairs of a prepared corpus in numbers. What only some recipes report is None with the others.

    Attributes:
        name: of the recipe.
        source: source language.
        target: target language.
        pairs: number of pairs in each split.
        source_words: number of source words in each split.
        target_words: number of target words in each split.
        dropped: number of pairs dropped from train, and from splits that are taken from it, by reason.
        leaks_removed: whether pairs of train with a sentence of dev or test were searched for and dropped.
        dev_pairs_in_test: pairs of dev that test holds, too.
        leak_sides: the sides on which leaks are searched for, where it is not both.
        made_of: the version of each package that the pairs are taken from, where they are.
    """

    name: str
    source: str
    target: str
    pairs: dict[str, int]
    source_words: dict[str, int]
    target_words: dict[str, int]
    dropped: dict[str, int]
    leaks_removed: bool
    dev_pairs_in_test: int
    leak_sides: list[str] | None = None
    made_of: dict[str, str] | None = None

    def present(self) -> dict[str, Any]:
        """Return the facts that there are, as plain values by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}
