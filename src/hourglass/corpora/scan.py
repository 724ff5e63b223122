"""SCAN (Lake and Baroni 2018): navigation commands and their actions, all 20,910 that the published grammar makes.

Grammar of the commands, and the actions that they stand for (figures 6 and 7 of the paper):

    command    sentence and sentence | sentence after sentence | sentence
    sentence   phrase twice | phrase thrice | phrase
    phrase     turned opposite direction | turned around direction | turned direction | primitive
    turned     primitive | turn          direction    left | right
    primitive  walk | look | run | jump

The published splits by length and by primitive follow from the grammar. That of `simple` was drawn at random, and only
its sizes are published: here it follows from a hash.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from pydantic import PositiveInt

from hourglass.corpora.recipe import ItemTerms, Pair, Recipe, Split
from hourglass.corpora.sampling import draw_by_hash
from hourglass.errors import UserError

PRIMITIVES = ("walk", "look", "run", "jump")
DIRECTIONS = ("left", "right")
# Commands of `simple` that are its test split: 20 %.
SIMPLE_TEST = 4182
# Actions of the longest commands in train of `length`.
LONGEST_TRAINED = 22
# In train of `add_jump`, every tenth command is `jump` by itself.
JUMP_SHARE = 10


class Command(NamedTuple):
    """A command.

    Attributes:
        words: of the command.
        actions: that it stands for.
    """

    words: tuple[str, ...]
    actions: tuple[str, ...]

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(self.words)

    def has(self, *words: str) -> bool:
        """Return whether these words stand in a row in the command."""
        return f" {' '.join(words)} " in f" {self.text} "


def all_commands() -> list[Command]:
    """Return the 20,910 commands of the grammar, in its order."""
    sentences = list(_sentences())
    joined = [
        command
        for first in sentences
        for second in sentences
        for command in (
            Command((*first.words, "and", *second.words), (*first.actions, *second.actions)),
            Command((*first.words, "after", *second.words), (*second.actions, *first.actions)),
        )
    ]
    return [*sentences, *joined]


def _sentences() -> Iterator[Command]:
    for phrase in _phrases():
        yield phrase
        for word, times in (("twice", 2), ("thrice", 3)):
            yield Command((*phrase.words, word), phrase.actions * times)


def _phrases() -> Iterator[Command]:
    for verb in (*PRIMITIVES, "turn"):
        own = () if verb == "turn" else (f"I_{verb.upper()}",)
        if own:
            yield Command((verb,), own)
        for direction in DIRECTIONS:
            turn = (f"I_TURN_{direction.upper()}",)
            yield Command((verb, direction), (*turn, *own))
            yield Command((verb, "opposite", direction), (*turn, *turn, *own))
            yield Command((verb, "around", direction), (*turn, *own) * 4)


@dataclass(frozen=True)
class Scan(Recipe):
    """All commands of the grammar, in a published split.

    Attributes:
        split: simple: at random; length: tested on more actions than trained on; add_jump: trained on `jump` by itself
            alone, and tested on all other commands with it; around_right: the same for `around right` with a primitive
            (Loula, Baroni and Lake 2018, who leave out commands with `turn around right`).
        dev_pairs: commands of the published train split that are held out for dev, by a hash.
    """

    split: Literal["simple", "length", "add_jump", "around_right"]
    dev_pairs: PositiveInt

    name: ClassVar = "scan"
    terms: ClassVar = ItemTerms("a command with its actions", "a word of the command", "an action")
    # Many commands have the same actions: only the commands of test must not be in train.
    leak_sides = ("source",)

    def pairs(self, split: Split) -> Iterator[Pair]:
        """Yield the commands of a split, in the order of the grammar; in train of add_jump, `jump` again and again."""
        train, test = self.published()
        dev = self._dev(train)
        if split == "train":
            chosen = [command for command in train if command.words not in dev]
            jump = next((command for command in chosen if command.words == ("jump",)), None)
            if self.split == "add_jump" and jump is not None:
                # With the first one: a tenth of all.
                chosen += [jump] * (round((len(chosen) - 1) / (JUMP_SHARE - 1)) - 1)
        else:
            chosen = test if split == "test" else [command for command in train if command.words in dev]
        for number, command in enumerate(chosen):
            name = f"{split}-{number}"
            yield Pair(name, command.text, " ".join(command.actions), (name, name))

    def published(self) -> tuple[list[Command], list[Command]]:
        """Return the commands of the published train split, each once, and those of the test split."""
        commands = all_commands()
        if self.split == "simple":
            first = set(sorted((command.words for command in commands), key=_place)[:SIMPLE_TEST])
            return _parted(commands, [command.words in first for command in commands])
        if self.split == "length":
            return _parted(commands, [len(command.actions) > LONGEST_TRAINED for command in commands])
        if self.split == "add_jump":
            tested = [command.has("jump") and command.words != ("jump",) for command in commands]
            return _parted(commands, tested)
        commands = [command for command in commands if not command.has("turn", "around", "right")]
        return _parted(commands, [command.has("around", "right") for command in commands])

    def _dev(self, train: list[Command]) -> set[tuple[str, ...]]:
        """Return the commands of train that are held out; never `jump`, without which add_jump has no such word.

        Raises:
            UserError: train has too few.
        """
        others = sorted((command.words for command in train if command.words != ("jump",)), key=_place, reverse=True)
        if self.dev_pairs > len(others) // 2:
            raise UserError(
                f"data.dev_pairs={self.dev_pairs}: more than half of the {len(train):,} commands of train: lower it"
            )
        return set(others[: self.dev_pairs])


def _parted(commands: list[Command], tested: list[bool]) -> tuple[list[Command], list[Command]]:
    pairs = list(zip(commands, tested, strict=True))
    return [command for command, test in pairs if not test], [command for command, test in pairs if test]


def _place(words: tuple[str, ...]) -> int:
    """Return what commands are sorted by to draw some of them: the same on every machine."""
    return draw_by_hash(" ".join(words))
