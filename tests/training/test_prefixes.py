"""A training on a corpus whose targets continue a given prefix: loss, curves, translations, resuming."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import SMALL, assert_same_training, compose_config, curves, kill_at_step, teacher_forced_nats, train_config

from hourglass.analysis.bits import _dev_pieces
from hourglass.data.pieces import EOS
from hourglass.decoding.search import search
from hourglass.decoding.translate import translate_split
from hourglass.errors import UserError
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder
from hourglass.runs.translations import read_translations
from hourglass.training.finished import FinishedRun
from hourglass.training.preparation import prepare
from hourglass.training.settings import check_settings

WORDS = (
    *(word for word in SMALL if not word.startswith("data")),
    *("data=recall", "data.keys=6", "data.values=5", "data.fewest=1", "data.most=4", "data.vocabulary_size=15"),
    *("data.train_pairs=400", "data.dev_pairs=24", "data.test_pairs=30", "trainer.target_tokens=1500"),
)


@pytest.fixture(scope="module")
def settings_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict[str, Any]]:
    folder = tmp_path_factory.mktemp("recall")

    def compose(name: str, *overrides: str) -> dict[str, Any]:
        return compose_config(*WORDS, f"cache={folder / 'cache'}", f"run_dir={folder / name}", *overrides)

    return compose


@pytest.fixture(scope="module")
def run(settings_of: Callable[..., dict[str, Any]]) -> RunFolder:
    return train_config(settings_of("whole"))


def test_losses_count_what_follows_the_prefix(run: RunFolder) -> None:
    config = yaml.safe_load(run.config.read_text())
    prepared = prepare(config, check_settings(config))
    trained, dev, vocabularies = load_trained(run.last), prepared.corpus.splits["dev"], prepared.vocabularies
    nats, tokens = 0.0, 0
    for source, prefix, target in zip(dev["source"], dev["prefix"], dev["target"], strict=True):
        ((ids,), (given,), (wanted,)) = (
            vocabularies.source.encode([source]),
            vocabularies.target.encode([prefix]),
            vocabularies.target.encode([target]),
        )
        values = teacher_forced_nats(trained.model.eval(), ids, [*given, *wanted])[len(given) :]
        nats, tokens = nats + float(values.sum()), tokens + len(values)
    assert tokens == 2 * len(dev)
    *_, last = curves(run, "dev/loss").values()
    assert last == pytest.approx(nats / tokens, rel=1e-5)
    # The curve of target tokens, and so the budget, counts two of each pair.
    parts = list(prepared.stream.parts(first_step=0, rank=0, ranks=1, accumulate=1))
    assert all(part.step_tokens == 2 * len(part.rows) for part in parts)
    read = curves(run, "train/target_tokens")
    assert read[max(read)] == sum(2 * len(part.rows) for part in parts)


def test_bits_of_dev_sentences_count_what_follows_the_prefix(run: RunFolder) -> None:
    """A value and end-of-sentence: the loss, which is per such token, becomes bits of a sentence by their number."""
    finished = FinishedRun.open(run.path)
    assert _dev_pieces(finished, finished.prepared) == 2


def test_translations_are_searched_with_the_prefix_and_written_without(run: RunFolder) -> None:
    config = yaml.safe_load(run.config.read_text())
    test = prepare(config, check_settings(config)).corpus.splits["test"]
    trained, settings = load_trained(run.best), check_settings(config).search
    model, vocabularies = trained.model.eval(), trained.vocabularies

    def searched(begins: bool) -> list[str]:
        outputs = []
        for source, prefix in zip(test["source"], test["prefix"], strict=True):
            ids = [*vocabularies.source.encode([source])[0], EOS]
            (given,) = vocabularies.target.encode([prefix if begins else ""])
            (found,) = search(model, torch.tensor([ids]), torch.tensor([len(ids)]), settings, prefixes=[given])
            assert found.tokens[: len(given)] == given
            outputs.append(vocabularies.target.decode([found.tokens[len(given) :]])[0])
        return outputs

    rows = read_translations(run.translations)
    assert [row.reference for row in rows] == test["target"][:]
    assert [row.hypothesis for row in rows] == searched(begins=True)
    # After so little training, a model answers all queries alike; one with other weights does not.
    torch.manual_seed(1)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.7)
    outputs = translate_split(trained, test, settings, torch.device("cpu"), "test")
    assert outputs == searched(begins=True)
    assert outputs != searched(begins=False)


def test_a_resumed_run_is_the_whole_run(run: RunFolder, settings_of: Callable[..., dict[str, Any]]) -> None:
    settings = settings_of("resumed", "if_exists=continue")
    kill_at_step(7, lambda: train_config(settings))
    assert_same_training(run, train_config(settings))


def test_a_search_without_room_behind_the_prefix_is_refused_before_training(
    settings_of: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    config = settings_of("refused", "search.output_most=1")
    with pytest.raises(UserError, match=r"dev sentence 1: the prefix has 1 pieces .* raise search.output_most"):
        prepare(config, check_settings(config))
