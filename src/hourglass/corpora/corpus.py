"""Build a corpus from the config group `data`: cleaned sentence pairs on disk, split into train, dev and test.

All recipes share the same steps: normalise spaces, drop empty and long pairs, drop training pairs with a sentence of
dev or test, count words, compute a digest, and cache the result. They work pair by pair, so that memory does not grow
with the corpus.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hourglass.config.options import build, choose
from hourglass.config.plugins import plugin_of
from hourglass.corpora.cleaning import Tally, clean_pairs, normalise
from hourglass.corpora.facts import PairFacts
from hourglass.corpora.features import array_of_features
from hourglass.corpora.languages import check_code, check_script
from hourglass.corpora.recipe import FEATURES, SPLITS, Recipe, Split
from hourglass.corpora.recipes import RECIPES, lengths_of
from hourglass.corpora.sampling import evenly_spaced
from hourglass.corpora.synthetic import SyntheticRecipe
from hourglass.errors import UserError
from hourglass.system.cache import fill_cache, reading

if TYPE_CHECKING:
    import datasets

log = logging.getLogger(__name__)

# Part of the cache key: increase it with any change by which the same options and inputs give other pairs.
CORPUS_VERSION = 2
# The file with digest and facts of a corpus, beside its splits.
RECORD = "corpus.json"
ROWS_AT_ONCE = 10_000
FEATURES_AT_ONCE = 200
# Options of the group that are no options of a recipe.
USED_ELSEWHERE = ("vocabulary_size", "curriculum")
# Sentences of each split whose script is looked at.
LOOKED_AT = 200


@dataclass(frozen=True)
class Corpus:
    """A prepared corpus.

    Attributes:
        splits: train, dev and test, memory-mapped, with the columns source, target, id (text) and source_words (int);
            prefix (text), where each target continues a given one: the target is what follows it; alternatives
            (texts), where targets have further references; and features (lists of S regions of F numbers), which are
            read in place of the source.
        digest: SHA-256 of the content of all splits, independent of path and time.
        source_language: language code of the source side.
        target_language: language code of the target side.
        facts: pairs and words by split, training pairs dropped by reason, and the like.
        path: the folder, which `datasets.load_from_disk` can read.
    """

    splits: "datasets.DatasetDict"
    digest: str
    source_language: str
    target_language: str
    facts: PairFacts
    path: Path


def load_corpus(options: Mapping[str, Any], cache: Path) -> Corpus:
    """Return the corpus of a config group `data`, from the cache, or build it.

    Args:
        options: the config group: `name` of the recipe, its options, and the vocabulary size, which is not used here.
        cache: the folder of everything cached.

    Raises:
        UserError: an option is wrong, an input is missing or malformed, or the cache cannot be written or is damaged.
    """
    import datasets

    name, recipe = check_recipe(options)
    folder = fill_cache(cache, "corpus", f"{name}-{_key(name, recipe)}", lambda folder: _write(name, recipe, folder))
    with reading(folder):
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        splits = datasets.load_from_disk(folder)
        facts = PairFacts(**record["facts"])
        line = summary(facts, record["digest"])
    log.info("%s", line)
    if taken := recipe.taken():
        log.info(
            "%s: not set: %s pairs of data.train are held out, by a hash of the source; no sentence is in two splits",
            " and ".join(f"data.{split}" for split in taken),
            " and ".join(f"{facts.pairs[split]:,} {split}" for split in taken),
        )
    _check_scripts(splits, recipe)
    return Corpus(splits, record["digest"], recipe.source, recipe.target, facts, folder)


def _check_scripts(splits: "datasets.DatasetDict", recipe: Recipe) -> None:
    """Check the languages against a sample of the text, and log what is doubtful.

    Raises:
        UserError: a language written with spaces has a text without.
    """
    samples = [splits[split].select(evenly_spaced(len(splits[split]), LOOKED_AT)) for split in SPLITS]
    for side, language in (("source", recipe.source), ("target", recipe.target)):
        texts = (text for sample in samples for text in sample[side])
        if warning := check_script(texts, language, f"data.{side}"):
            log.warning("%s", warning)


def summary(facts: PairFacts, digest: str) -> str:
    """Return the facts of a corpus in one line."""
    pairs = ", ".join(f"{facts.pairs[split]:,} {split}" for split in SPLITS)
    words = facts.source_words["train"] / facts.pairs["train"]
    counted = lengths_of(facts.name).removeprefix("source ")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in facts.dropped.items())
    leaks = "" if facts.leaks_removed else " (synthetic pairs are not searched for leaks)"
    if facts.leak_sides is not None:
        leaks = f" (leaks are searched on the {' and '.join(facts.leak_sides)} side alone)"
    made_of = "".join(f" of {name} {version}," for name, version in (facts.made_of or {}).items())[:-1]
    return (
        f"corpus {facts.name} {facts.source}-{facts.target}{made_of}: pairs {pairs}; "
        f"{words:.1f} {counted} per training source; dropped from train: {dropped}{leaks}; digest {digest[:12]}"
    )


def prefixes_of(rows: Any) -> list[str] | None:
    """Return the prefixes that the targets of rows continue; None: the corpus has none.

    Args:
        rows: a split or some rows of one, or a mapping of its columns.
    """
    return list(rows["prefix"]) if "prefix" in getattr(rows, "column_names", rows) else None


def references_of(rows: Any) -> list[tuple[str, ...]]:
    """Return the references of rows: the target of each, and its further references, if the corpus has them.

    Args:
        rows: a split or some rows of one.
    """
    if "alternatives" not in rows.column_names:
        return [(target,) for target in rows["target"]]
    return [(target, *others) for target, others in zip(rows["target"], rows["alternatives"], strict=True)]


def check_leaks(corpus: Corpus) -> int:
    """Count, by reading the splits again, the training pairs with a sentence that dev or test has.

    Sentences are looked for on either side, or on those that `Recipe.leak_sides` names.
    """
    searched = corpus.facts.leak_sides or ["source", "target"]
    held_out: set[str] = set()
    for split in ("dev", "test"):
        for side in searched:
            held_out.update(map(normalise, corpus.splits[split][side]))
    train = corpus.splits["train"]
    pairs = zip(*(train[side] for side in searched), strict=True)
    return sum(any(normalise(text) in held_out for text in texts) for texts in pairs)


def check_recipe(options: Mapping[str, Any]) -> tuple[str, Recipe]:
    """Return the name and the checked recipe of a config group `data`.

    `vocabulary_size` and `curriculum` are part of the group, as they depend on the corpus, but the tokenizer and the
    order of the batches use them.

    Raises:
        UserError: an option is unknown, missing, or outside its choices.
    """
    own = {key: value for key, value in options.items() if key not in ("name", *USED_ELSEWHERE)}
    if options.get("name") is None:
        raise UserError(f"data.name: not set; choose from {', '.join(sorted(RECIPES))}")
    for side in ("source", "target"):
        if side in own and not str(own[side] or "").strip() and own[side] is not False:
            raise UserError(f"data.{side}: not set; set data.{side}=CODE, the language code of that side (de, en, ...)")
        if own.get(side) is False:
            raise UserError(f"data.{side}=False: YAML reads no as false: write the code of Norwegian in quotes, 'no'")
    recipe = build(choose(RECIPES, options["name"], "data.name"), own, "data")
    if not isinstance(recipe, SyntheticRecipe):  # Numbers have the codes of num2words, symbols no language.
        check_code(recipe.source, "data.source")
        check_code(recipe.target, "data.target")
    return options["name"], recipe


def _remedy(recipe: Recipe, split: Split, tally: Tally) -> str:
    """Return what to do about a split without pairs."""
    if split in recipe.taken():
        return f"train has too few to take some from it: set data.{split}"
    if split != "train" or not any(tally.dropped.values()):
        return f"give {split} some"
    reason = max(tally.dropped, key=tally.dropped.__getitem__)
    remedies = {
        "leak": "give train pairs that neither dev nor test has",
        "empty": "fill in both sides of its pairs",
        "too long": "raise data.longest",
    }
    return remedies[reason]


def _key(name: str, recipe: Recipe) -> str:
    """Return twelve hexadecimal digits that depend on the options, the bytes of the inputs, and the code.

    The code is `CORPUS_VERSION`, and of a plugin's recipe the digest of the plugin.
    """
    inputs = []
    for file in recipe.inputs():
        try:
            with file.open("rb") as stream:
                inputs.append(hashlib.file_digest(stream, "sha256").hexdigest())
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    plugin = plugin_of(type(recipe))
    content = [CORPUS_VERSION, name, dataclasses.asdict(recipe), inputs, *([plugin.digest] if plugin else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _write(name: str, recipe: Recipe, folder: Path) -> None:
    """Write all splits and the record of a corpus into an empty folder.

    Raises:
        UserError: an input is malformed, or a split has no pairs left.
    """
    import datasets

    tally, digest = Tally(), hashlib.sha256()
    written = {}
    # Dev and test come first, as training sentences are compared with theirs: those with files of their own before
    # those that are taken from train.
    held_out: list[Split] = sorted(("test", "dev"), key=recipe.taken().__contains__)
    for split in (*held_out, "train"):
        log.info("preparing %s: %s", name, split)
        rows = clean_pairs(recipe, split, tally)
        written[split] = _write_split(rows, folder / f"{split}.arrow", digest, recipe=recipe)
        if not tally.pairs[split]:
            dropped = ", ".join(f"{count} {reason}" for reason, count in tally.dropped.items())
            raise UserError(
                f"data.name={name}: no pair in {split} (dropped: {dropped}): {_remedy(recipe, split, tally)}"
            )
    disabled_before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        datasets.DatasetDict({split: written[split] for split in SPLITS}).save_to_disk(folder)
    finally:
        if not disabled_before:
            datasets.enable_progress_bars()
    for split in SPLITS:
        (folder / f"{split}.arrow").unlink()
    record = json.dumps({"digest": digest.hexdigest(), "facts": pair_facts(name, recipe, tally).present()}, indent=1)
    (folder / RECORD).write_text(record, encoding="utf-8")


def pair_facts(name: str, recipe: Recipe, tally: Tally) -> PairFacts:
    """Return the facts of a corpus whose splits are all counted."""
    one_side = recipe.removes_leaks and len(recipe.leak_sides) < len(Recipe.leak_sides)
    return PairFacts(
        name=name,
        source=recipe.source,
        target=recipe.target,
        pairs=tally.pairs,
        source_words=tally.source_words,
        target_words=tally.target_words,
        dropped=tally.dropped,
        leaks_removed=recipe.removes_leaks,
        dev_pairs_in_test=tally.dev_pairs_in_test,
        leak_sides=list(recipe.leak_sides) if one_side else None,
        made_of=recipe.made_of() or None,
    )


def _write_split(rows: Iterable[dict[str, Any]], file: Path, digest: Any, *, recipe: Recipe) -> "datasets.Dataset":
    """Write rows to an Arrow file, `ROWS_AT_ONCE` at a time, update the digest, and return the file memory-mapped.

    Args:
        rows: by column.
        file: to write.
        digest: of hashlib.
        recipe: says whether the rows have the columns prefix, alternatives and features.
    """
    from datasets import Dataset, Features, List, Value
    from datasets.arrow_writer import ArrowWriter

    columns = {
        "source": Value("string"),
        "target": Value("string"),
        "id": Value("string"),
        "source_words": Value("int32"),
    }
    texts = ["id", "source", "target"]
    if recipe.has_prefixes:
        columns["prefix"] = Value("string")
        texts.append("prefix")
    if recipe.has_alternatives:
        columns["alternatives"] = List(Value("string"))
    rows = iter(rows)
    if recipe.has_features and (first := next(rows, None)):
        rows = chain([first], rows)
        kind, width = str(first[FEATURES].dtype), first[FEATURES].shape[1]
        columns[FEATURES] = List(List(Value(kind), length=width))
    digest.update(f"{file.name}\n".encode())
    with ArrowWriter(features=Features(columns), path=str(file)) as writer:
        while batch := list(islice(rows, FEATURES_AT_ONCE if recipe.has_features else ROWS_AT_ONCE)):
            if recipe.has_features:
                writer.write_table(_table_with_features(batch, Features(columns).arrow_schema))
            else:
                writer.write_batch({column: [row[column] for row in batch] for column in columns})
            lines = ("\t".join([*(row[text] for text in texts), *row.get("alternatives", ())]) for row in batch)
            digest.update("".join(f"{line}\n" for line in lines).encode())
            for row in batch if recipe.has_features else ():
                digest.update(row[FEATURES].tobytes())
        writer.finalize()
    # The library's own fingerprint holds the time of the file: a corpus that is made again would differ in its bytes.
    return Dataset(Dataset.from_file(str(file)).data, fingerprint=digest.hexdigest()[:16])


def _table_with_features(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Return rows as a table of this schema; features as they lie in memory, not number by number."""
    arrays = [
        array_of_features([row[name] for row in rows])
        if name == FEATURES
        else pa.array([row[name] for row in rows], schema.field(name).type)
        for name in schema.names
    ]
    return pa.Table.from_arrays(arrays, schema.names).cast(schema)
