"""Count how much of dev and test stands in train, by 8-grams of words: python pipelines/overlap.py data=CORPUS"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from hourglass.system.interrupts import end_at_once

if __name__ == "__main__":  # Before the imports below, which take seconds.
    end_at_once()

from pydantic import Field

from hourglass.config.command_line import one_line_errors, read_command
from hourglass.config.options import check
from hourglass.corpora.corpus import load_corpus
from hourglass.corpora.overlap import HELD_OUT, NGRAM, SIDES, CorpusOverlap, corpus_overlap
from hourglass.system.files import write_whole


def main(values: Mapping[str, Any]) -> None:
    """Print a line for each side of dev and test, and write those of their sentences if there is a file for them."""
    out = check(Annotated[str, Field(min_length=1)] | None, values["out"], "out")
    cache = check(Annotated[str, Field(min_length=1)], values["cache"], "cache")
    corpus = load_corpus(values["data"], Path(cache).expanduser())
    overlap = corpus_overlap(corpus)
    print(f"{'':<6}{'':<8}{'sentences':>10}{'short':>8}{'sharing':>9}{'%':>7}{'half':>8}{'%':>7}{'covered %':>11}")
    for split, sides in overlap.facts.items():
        for side, facts in sides.items():
            sharing, half = (100 * count / facts.sentences for count in (facts.sharing, facts.half_covered))
            print(
                f"{split:<6}{side:<8}{facts.sentences:>10,}{facts.short:>8,}{facts.sharing:>9,}{sharing:>7.1f}"
                f"{facts.half_covered:>8,}{half:>7.1f}{100 * facts.covered / max(facts.words, 1):>11.1f}"
            )
    print(
        f"\nSharing: sentences with an {NGRAM}-gram of words that a training sentence of the same side has, too; half: "
        f"those\nwith at least half of their words in such {NGRAM}-grams. Covered: share of all words in them. Short: "
        f"fewer than\n{NGRAM} words, which share none. Case, punctuation, symbols and variants of Unicode make no "
        "difference."
    )
    if not corpus.facts.leaks_removed:
        print(
            "A made corpus: its pairs are drawn independently of each other, and share what chance has them share: no "
            "leak."
        )
    if out is not None:
        write_whole(Path(out).expanduser(), "".join(f"{line}\n" for line in list_sentences(overlap)))
        print(f"written: {out}")


def list_sentences(overlap: CorpusOverlap) -> Iterator[str]:
    """Yield a heading, and the id of each sentence with words and covered words of both sides."""
    yield "\t".join(["split", "id", *(f"{side}_{column}" for side in SIDES for column in ("words", "covered"))])
    for split in HELD_OUT:
        sides = overlap.sides[split]
        columns = [values for side in SIDES for values in (sides[side].words, sides[side].covered)]
        for name, *values in zip(overlap.ids[split], *columns, strict=True):
            yield "\t".join([split, name, *map(str, values)])


if __name__ == "__main__":
    with one_line_errors():
        main(read_command("overlap"))
