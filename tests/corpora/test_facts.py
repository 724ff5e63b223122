"""What corpora say of themselves: every recipe's facts fit the record of an ablation."""

from pathlib import Path

import pytest
from helpers import compose_config

from hourglass.analysis.evaluation import SCHEMA_VERSION, CorpusFacts, TokenizerFacts
from hourglass.corpora.cleaning import Tally
from hourglass.corpora.corpus import check_recipe, pair_facts, summary
from hourglass.corpora.facts import PairFacts
from hourglass.corpora.recipe import SPLITS
from hourglass.corpora.recipes import RECIPES
from hourglass.system.records import read_record, write_record

# What a config leaves to the user.
LANGUAGES = ["data.source=de", "data.target=en"]
NEEDED = {
    "text": [*LANGUAGES, "data.train=train.tsv"],
    "hub": [*LANGUAGES, "data.path=owner/corpus"],
    "features": ["data.folder=folder", "data.feature_size=3"],
    "pictures": ["data.folder=folder"],
}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_an_ablation_records_what_every_recipe_reports(name: str, tmp_path: Path) -> None:
    _, recipe = check_recipe(compose_config(f"data={name}", *NEEDED.get(name, []))["data"])
    tally = Tally(pairs=dict.fromkeys(SPLITS, 3), source_words=dict.fromkeys(SPLITS, 12))
    own = pair_facts(name, recipe, tally)
    facts = CorpusFacts(
        **own.present(),
        digest="d" * 64,
        leaks=0,
        tokenizer=TokenizerFacts("t" * 64, 50, joint=True),
        target_tokens=dict.fromkeys(SPLITS, 15),
        source_words_of_test={4: 3},
    )
    write_record(tmp_path / "corpus.json", facts, SCHEMA_VERSION)
    assert read_record(tmp_path / "corpus.json", CorpusFacts, SCHEMA_VERSION, "dvc repro") == facts
    assert PairFacts(**own.present()) == own
    assert (own.made_of is not None) == (name == "docstrings")
    assert (own.leak_sides is not None) == (name in ("cmudict", "features", "pictures", "scan"))
    line = summary(own, facts.digest)
    assert line.startswith(f"corpus {name} {recipe.source}-{recipe.target}")
    assert ("side alone" in line, " of torch " in line) == (own.leak_sides is not None, own.made_of is not None)
