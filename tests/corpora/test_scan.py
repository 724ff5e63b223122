"""SCAN against an interpreter that reads commands from left to right, and the sizes that were published."""

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest

from hourglass.corpora.corpus import check_leaks, load_corpus
from hourglass.corpora.scan import Scan, all_commands
from hourglass.errors import UserError


def interpret(command: str) -> list[str]:
    """Return the actions of a command: the rules of figure 6 of the paper, applied from the outside to the inside."""
    if " and " in command:
        first, _, second = command.partition(" and ")
        return interpret(first) + interpret(second)
    if " after " in command:
        first, _, second = command.partition(" after ")
        return interpret(second) + interpret(first)
    *rest, last = command.split()
    if last in ("twice", "thrice"):
        return interpret(" ".join(rest)) * (2 if last == "twice" else 3)
    verb, *how = command.split()
    act = [] if verb == "turn" else [f"I_{verb.upper()}"]
    if not how:
        return act
    turn = [f"I_TURN_{how[-1].upper()}"]
    if how[0] == "opposite":
        return turn + turn + act
    return (turn + act) * 4 if how[0] == "around" else turn + act


def recipe(split: Literal["simple", "length", "add_jump", "around_right"] = "simple", dev_pairs: int = 500) -> Scan:
    return Scan("en", "zxx", split, dev_pairs)


def test_all_commands_of_the_grammar() -> None:
    commands = all_commands()
    assert len({command.text for command in commands}) == len(commands) == 20_910
    assert all(list(command.actions) == interpret(command.text) for command in commands)
    assert max(len(command.actions) for command in commands) == 48
    assert max(len(command.words) for command in commands) == 9


@pytest.mark.parametrize(
    ("split", "train", "test"),
    [
        ("simple", 16_728, 4_182),
        ("length", 16_990, 3_920),
        ("add_jump", 13_204, 7_706),  # The published file has 14,670 lines: `jump` again and again.
        ("around_right", 15_225, 4_476),
    ],
)
def test_the_splits_have_the_published_sizes(split: Any, train: int, test: int) -> None:
    own = recipe(split)
    published, tested = own.published()
    assert (len(published), len(tested)) == (train, test)
    pairs = {part: [pair.source for pair in own.pairs(part)] for part in ("train", "dev", "test")}
    assert len(pairs["dev"]) == 500
    assert sorted({*pairs["train"], *pairs["dev"]}) == sorted(command.text for command in published)
    assert not {*pairs["train"]} & {*pairs["dev"]}
    assert not {*pairs["test"]} & {*pairs["train"], *pairs["dev"]}
    assert pairs["test"] == [command.text for command in tested]


def test_what_each_split_holds_back() -> None:
    train, test = recipe("length").published()
    assert max(len(command.actions) for command in train) == 22
    assert min(len(command.actions) for command in test) == 24
    train, test = recipe("add_jump").published()
    assert [command.text for command in train if "jump" in command.words] == ["jump"]
    assert all("jump" in command.words for command in test)
    train, test = recipe("around_right").published()
    assert not any("around right" in command.text for command in train)
    assert all("around right" in command.text for command in test)
    assert not any("turn around right" in command.text for command in test)


def test_jump_is_a_tenth_of_its_training_commands() -> None:
    count = Counter(pair.source for pair in recipe("add_jump").pairs("train"))
    assert count.pop("jump") / (sum(count.values()) + count["jump"] + 1467) == pytest.approx(0.1, abs=0.004)
    assert set(count.values()) == {1}
    # Without dev it would be the published file: 13,203 other commands, 1,467 times `jump`.
    assert round(13_203 / 9) == 1_467
    assert 13_203 + 1_467 == 14_670


@pytest.mark.parametrize("split", ["simple", "add_jump"])
def test_no_command_is_taken_for_a_leak(split: str, tmp_path: Path) -> None:
    options = {"name": "scan", "source": "en", "target": "zxx", "split": split, "dev_pairs": 500}
    corpus = load_corpus(options, tmp_path)
    assert corpus.facts.dropped == {"leak": 0, "empty": 0, "too long": 0}
    assert corpus.facts.leaks_removed
    assert check_leaks(corpus) == 0
    if split == "simple":
        targets = [set(corpus.splits[part]["target"]) for part in ("test", "train")]
        assert targets[0] & targets[1], "the same actions are no leak"


def test_too_many_dev_pairs_are_refused() -> None:
    with pytest.raises(UserError, match=r"^data.dev_pairs=9000: more than half of the 16,728 commands of train: lower"):
        list(recipe(dev_pairs=9000).pairs("dev"))
