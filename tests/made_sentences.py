"""Facts for each branch of the sentences of the reports whose results their own tests make: see test_sentences.py."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from hourglass.metrics.significance import Difference, Estimate, Interval
from hourglass.metrics.translation import Bleu, Ter

MACHINE = {"gpu": None, "processor": "a processor", "threads": 1, "torch": "2"}
# A metric without an upper end, and one whose larger values are better.
OPEN = SimpleNamespace(title="OPEN", lowest=0.0, highest=float("inf"), higher_is_better=True)

Told = tuple[str, dict[str, Any]]


def point(bits: float, width: int = 4, ceiling: int | None = None) -> SimpleNamespace:
    """Return a point of a capacity sweep."""
    return SimpleNamespace(width=width, channel=SimpleNamespace(bits=bits, ceiling=ceiling))


def of_capacity() -> Iterator[Told]:
    """Yield the sentences of a sweep, by the names of their macros, with facts."""
    yield "heading", {"name": "cpu"}
    yield "meaning", {"lowest": 20, "highest": 24, "source_bits": 130.2, "precision": 1.0}
    yield "neck", {"line": "none", "first": point(9.0), "last": None, "widths": 1, "limited": 0}
    yield "neck", {"line": "fixed", "first": point(9.0), "last": point(40.0, 64), "widths": 2, "limited": 1}
    others = {"none, source reversed": point(8.0), "none, GRU": point(7.0)}
    yield "other_cells", {"width": 4, "own": point(9.0), "others": others}
    yield "attention", {"point": point(130.0, 0)}
    rounded = [point(-0.01, 4, 8).channel, point(9.0, 4, 16).channel]
    yield "checks", {"rounded": [], "under": True, "above_zero": False}
    yield "checks", {"rounded": rounded, "under": True, "above_zero": True}
    yield "checks", {"rounded": rounded, "under": False, "above_zero": True}
    yield "bits_figure", {"lowest": 20, "highest": 24, "converged": 0.01}
    yield "copy_figure", {"shortest": 2}
    for name in ("bits_figure_alt", "dimension_figure", "dimension_figure_alt", "copy_figure_alt"):
        yield name, {}
    for name in ("length_figure", "length_figure_alt", "position_figure", "position_figure_alt"):
        yield name, {"line": "none"}
    for name in ("variants_figure", "variants_figure_alt"):
        yield name, {"width": 4}
    for not_judged, searched in (("", False), ("Not judged.", True)):
        facts = {"source_bits": 130.2, "lengths": 5, "length_bits": 2.3}
        yield "table", {**facts, "not_judged": not_judged, "searched": searched}
    for dirty in (False, True):
        made = {"commits": ["a", "b"], "dirty": dirty, "minutes": 3.0, "machine": MACHINE, "measured": ["c"]}
        yield "provenance", {**made, "one_seed": dirty}


def of_families() -> Iterator[Told]:
    """Yield the sentences of the reference picture."""
    yield "heading", {"scale": "cpu"}
    yield "channel", {"name": "copy"}
    yield "meaning", {}
    for over, above_zero in (([], False), (["a", "b"], True)):
        yield "checks", {"rounded": 2, "over": over, "above_zero": above_zero, "limited": 1, "points": 3}
    yield "axis", {"kind": "state", "rounded": True, "float_bits": 32}
    for kind, rounded, seeds in (("state", False, 1), ("projection", True, 3)):
        facts = {"channel": "copy", "kind": kind, "rounded": rounded}
        yield "figure_alt", facts
        limits = {"lowest": 2, "highest": 9, "linear": 1.0, "converged": 0.01, "float_bits": 32}
        yield "figure", {**facts, **limits, "seeds": seeds}
    yield "table", {"channel": "copy", "source_bits": 130.2, "float_bits": 32, "not_judged": ""}
    for kind, bits in (("none", 0), ("state", 1), ("projection", 4)):
        yield "neck_cell", {"kind": kind, "rounded": bits}


def of_published() -> Iterator[Told]:
    """Yield the sentences of the published systems."""
    yield "heading", {}
    yield "nothing", {"command": "make them."}
    yield "how_to_read", {"common": ["a=1", "b=2"]}
    for dirty in (False, True):
        machines = [("a processor", 1), ("another", 2)]
        yield "provenance", {"command": "make", "machines": machines, "commits": ["c"], "dirty": dirty}
    yield "missing", {"runs": [("none", 1), ("fixed", 2)]}
    buckets = [("1-5", 1200), ("6+", 30)]
    yield "figure", {"direction": "de-en", "cover": "over test sentences", "buckets": buckets, "few": 50}
    yield "figure_alt", {"direction": "de-en", "names": ["none", "fixed"]}
    yield "runs", {"direction": "de-en", "seeds": [1, 2], "converged": 0.01, "not_judged": ""}
    scored = {"direction": "de-en", "test": "flickr", "seeds": [1, 2]}
    yield "scores", {**scored, "baseline": "none", "signature": "nrefs:1"}


def of_probes() -> Iterator[Told]:
    """Yield the sentences on what is in a vector."""
    yield "heading", {}
    yield "frozen_table", {}
    yield "state_heading", {}
    yield "state_table", {"run": "runs/a", "sentences": 4000}
    yield "table", {"run": "runs/a", "width": 256}
    needs = Estimate(50.0, [50.0], Interval(49, 51))
    difference = Difference(2.0, Interval(1, 3), None, None, 0.01)
    reading = SimpleNamespace(
        run="runs/a", own_bits=needs, fresh_bits=needs, unused=difference, joint="runs/b", joint_bits=needs
    )
    for less, lost in ((True, None), (False, None), (False, difference)):
        covered = {"unused_covers": "over test sentences", "lost_covers": "over test sentences"}
        yield "frozen", {"reading": reading, "reads_less": less, "not_read": "It is not read.", "lost": lost, **covered}


def of_apart() -> Iterator[Told]:
    """Yield the sentences on clauses apart and joined."""
    yield "heading", {}
    yield "table", {"few": "*: few.", "signature": "nrefs:1"}
    yield "contrasts", {"baseline": "none", "few": "*: few."}
    yield "figure", {"cover": "over test sentences", "few": 50}
    yield "figure_alt", {"names": ["none", "fixed"]}
    yield "what_is_compared", {}
    yield "context", {}
    yield "intervals", {"resamples": 2000}
    yield "one_seed", {"name": "none"}


def of_comparison() -> Iterator[Told]:
    """Yield the sentences of a comparison of finished runs."""
    one, two = ["encoder.layers"], ["encoder.layers", "decoder.layers"]
    yield "few", {"few": 50}
    yield "undefined", {"fewest": 30}
    lower = SimpleNamespace(title="LOWER", lowest=0.0, highest=float("inf"), higher_is_better=False)
    metrics = [Bleu("en"), Ter("en"), OPEN, lower]
    yield "units", {"metrics": metrics, "bounded": ["BLEU"]}
    yield "units", {"metrics": [SimpleNamespace(title="ERRORS", lowest=0.0, highest=100.0, higher_is_better=False)],
                    "bounded": ["ERRORS"]}  # fmt: skip
    for axes in ([], two):
        yield "heading", {"titles": ["BLEU", "TER"], "axes": axes}
    yield "how_to_read", {}
    for partial, few in (("", ""), ("the first 9 sentences", "*: few.")):
        facts = {"titles": ["BLEU"], "lower": ["TER"] if few else [], "signatures": ["nrefs:1", "nrefs:2"]}
        yield "scores", {**facts, "partial": partial, "few": few}
        yield "differences", {"few": few}
    yield "clean", {"ngram": 8, "lengths": [(9.0, 10.0), (8.0, 9.0)]}
    yield "runs", {"converged": 0.01, "not_judged": "", "neck": "Vector: numbers."}
    yield "settings", {"test_set": "test"}
    yield "lengths", {"title": "BLEU", "test_set": "test", "buckets": [("1-5", 1200), ("6+", 30)], "few": "*: few."}
    yield "length_differences", {"test_set": "test", "few": "*: few."}
    for over_seeds, sentences in ((False, 0), (True, 9), (True, 9)):
        yield "covered_in_short", {"over_seeds": over_seeds}
        for numbers in (False, True):
            shown = {"title": "BLEU", "test_set": "test", "numbers": numbers, "over_seeds": over_seeds}
            yield "axis_figure", {**shown, "sentences": sentences}
    for name in ("names_alt", "length_figure_alt", "difference_figure_alt"):
        yield name, {"title": "BLEU", "names": ["none", "fixed"]}
    yield "axis_alt", {"title": "BLEU", "axis": "encoder.layers"}
    yield "length_figure", {"title": "BLEU", "test_set": "test", "cover": "over test sentences", "few": 50}
    yield "difference_figure", {"title": "BLEU", "test_set": "test"}
    yield "several_tests", {"tests": 2}
    yield "on_test", {"name": "verses", "note": "It is so."}
    yield "grouped_by", {"asked": two}
    for settings in (one, two):
        yield "further_axes", {"asked": two, "further": settings}
        yield "along", {"settings": settings}
    yield "own_axes", {"further": two}
    yield "rounding", {"settings": two}
    yield "commits", {"commits": ["a", "b"]}
    yield "partial", {"partial": "the first 9 sentences"}
    yield "unfinished", {"groups": ["a", "b"]}
    yield "no_baseline", {"axis": "layers", "values": ["1", "2"]}
    for others in ([], two):
        yield "baseline", {"axis": "layers", "baseline": "1", "others": others}
    for bases in (["a"], ["a", "b"]):
        yield "not_compared", {"groups": ["c"], "axis": "layers", "baseline": "1", "others": two, "bases": bases}
    yield "intervals", {"resamples": 2000}
    yield "over_seeds", {}
    for groups, pooled in (([], False), (["a", "b"], True)):
        yield "one_seed", {"groups": groups, "pooled": pooled}
    yield "left_out", {"reason": "runs/a: not finished."}


# By topic, which is the name of the template.
FACTS = {
    "capacity": of_capacity,
    "families": of_families,
    "published": of_published,
    "probes": of_probes,
    "apart": of_apart,
    "comparison": of_comparison,
}
