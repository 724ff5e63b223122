"""Print how the verses of kjv_web are cut into clauses and joined: the figures of docs/corpora.md.

python tests/corpora/clause_counts.py
"""

from collections import Counter

import numpy as np

from hourglass.corpora.bibles import KjvWeb
from hourglass.corpora.clauses import FACTOR, PART_END, cut_clauses
from hourglass.corpora.recipe import SPLITS


def main() -> None:
    """Print counts of verses, parts, clauses and sentences over all splits, before any are dropped."""
    verses = [pair for split in SPLITS for pair in KjvWeb("en", "en", longest=100).pairs(split)]
    texts = [(" ".join(pair.source.split()), " ".join(pair.target.split())) for pair in verses]
    clauses = [cut_clauses(*sides) for sides in texts]
    print(f"verses: {len(verses):,}, of {np.mean([len(source.split()) for source, _ in texts]):.1f} source words")
    counts = [tuple(len(PART_END.findall(side)) + 1 for side in sides) for sides in texts]
    print(f"- with other counts of parts on the two sides, cut at most at commas: {sum(a != b for a, b in counts):,}")
    print(f"- that stay whole: {sum(len(own) == 1 for own in clauses):,}")
    parts = [
        sorted(len(side.split()) for side in part)
        for sides, (count, other) in zip(texts, counts, strict=True)
        if count == other > 1
        for part in zip(*(PART_END.sub(lambda end: f"{end[0]}\n", side).split("\n") for side in sides), strict=True)
    ]
    unequal = sum(many > FACTOR * few for few, many in parts)
    print(
        f"parts of the others: {len(parts):,}; with more than {FACTOR} times the words of their translation: {unequal}"
    )
    lengths = [len(clause.source.split()) for own in clauses for clause in own]
    quantiles = " / ".join(f"{value:.0f}" for value in np.percentile(lengths, [50, 90, 99]))
    print(f"clauses: {len(lengths):,}, of {np.mean(lengths):.1f} source words (50 / 90 / 99 %: {quantiles})")
    for split in SPLITS:
        pairs = list(KjvWeb("en", "en", longest=100, clauses=3).pairs(split))
        words = [len(pair.source.split()) for pair in pairs]
        sizes = Counter(len(pair.parts) for pair in pairs)
        print(f"{split}: {len(pairs):,} sentences of {min(words)} to {max(words)} source words, {np.mean(words):.1f}:")
        print("- " + ", ".join(f"{sizes[size]:,} of {size} clauses" for size in sorted(sizes)))


if __name__ == "__main__":
    main()
