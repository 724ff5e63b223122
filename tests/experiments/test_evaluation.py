"""The evaluation and the report of an ablation with synthetic runs, so that every number in it is known."""

import csv
import io
import json
import random
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import made_bits
import numpy as np
import pytest
from helpers import ROOT, empty_store, finished_metrics, in_a_sentence, make_run, run_script
from sacrebleu.metrics import BLEU

from hourglass.analysis.comparing import length_slope, make_draws, make_test_set, score_by_length
from hourglass.analysis.convergence import JUDGED_TOKENS, NOT_JUDGED, Convergence
from hourglass.analysis.evaluation import (
    EVALUATION_VERSION,
    REVERSED_SOURCE,
    SCHEMA_VERSION,
    Candidate,
    CorpusFacts,
    Evaluation,
    TokenizerFacts,
    Tuning,
    VariantResult,
    write_evaluation,
)
from hourglass.analysis.sentence_scores import read_sentence_scores
from hourglass.corpora.overlap import OVERLAP_VERSION, CorpusOverlap, OverlapFacts, SideOverlap
from hourglass.errors import UserError
from hourglass.experiments.ablation import Ablation, AblationSettings, CorpusSettings, TuneSettings
from hourglass.experiments.evaluation import evaluate
from hourglass.experiments.keeping import keep_sentence_scores
from hourglass.metrics.scoring import show_bounds
from hourglass.metrics.significance import (
    FEWEST_SENTENCES,
    AdjustedDifference,
    compare_quantities,
    draw_resamples,
    metric_quantity,
    pool,
)
from hourglass.metrics.translation import Bleu, bleu_statistics
from hourglass.reports.ablation import ReportOrigin, write_ablation
from hourglass.reports.document import Picture, Table, to_csv, to_html, to_latex, to_markdown, unfolded
from hourglass.reports.phrases import difference_cells, show_p, show_range, widest
from hourglass.runs.curves import Point, append_points
from hourglass.runs.folder import write_config
from hourglass.runs.translations import read_translations, write_translations
from hourglass.system.arrays import write_arrays
from hourglass.system.files import read_json, write_json
from hourglass.system.records import write_record

BY_BLEU = Bleu("fr")
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LOSSES = {
    "none": [3.0, 2.0, 1.5, 1.2, 1.195],
    "luong_general": [2.0, 1.0, 0.5, 0.4, 0.399],
    "luong_dot": [2.0, 1.0, 0.6, 0.5, 0.3],
}


def sentences() -> list[str]:
    choose = random.Random(0)
    return [" ".join(choose.choices(WORDS, k=1 + index % 20)) for index in range(120)]


def overlap_with_train() -> CorpusOverlap:
    """Of the sentences of eight words or more, every third target shares an n-gram with train, every second source."""
    words = [len(text.split()) for text in sentences()]
    source, target = (
        SideOverlap(words, [8 * (n >= 8 and index % every == 0) for index, n in enumerate(words)]) for every in (2, 3)
    )
    none = SideOverlap([3], [0])
    return CorpusOverlap(
        digest="d" * 64,
        ids={"dev": ["d0"], "test": [f"t{index}" for index in range(len(words))]},
        sides={"dev": {"source": none, "target": none}, "test": {"source": source, "target": target}},
    )


def corrupt(text: str, share: float, choose: random.Random) -> str:
    return " ".join(choose.choice(WORDS) if choose.random() < share else word for word in text.split())


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Ablation:
    """An ablation of three variants and two seeds, without training; `none` translates long sentences worse."""
    folder = tmp_path_factory.mktemp("ablation")
    settings = AblationSettings(
        trainer="cpu",
        baseline="none",
        validations=5,
        resamples=1000,
        floor=5.0,
        converged=0.01,
        examples=3,
        corpora=["numbers"],
        overrides=["optimizer.decay=wsd", "optimizer.warmup=2"],
        estimands=[["luong_general", "none"]],
        flattened=0.05,
        results="results",
        intermediate="pipeline",
    )
    corpus = CorpusSettings(
        variants=["none", "luong_general", "luong_dot"],
        seeds=[1, 2],
        budgets=[100_000, 200_000],
        tune_tokens=100,
        edges=[1, 6, 11],
    )
    (folder / "conf").symlink_to(ROOT / "conf")
    overrides = {name: [f"attention={name}"] for name in corpus.variants}
    made = Ablation(settings, TuneSettings([0.001]), overrides, {"numbers": corpus}, folder)
    facts = CorpusFacts(
        name="numbers",
        source="en",
        target="fr",
        pairs={"train": 10, "dev": 5, "test": 120},
        source_words={"train": 100, "dev": 50, "test": 1200},
        target_words={"train": 100, "dev": 50, "test": 1200},
        dropped={"leak": 1, "empty": 0, "too long": 0},
        leaks_removed=True,
        dev_pairs_in_test=0,
        digest="d" * 64,
        leaks=0,
        tokenizer=TokenizerFacts("t" * 64, 50, joint=True),
        target_tokens={"train": 1000, "dev": 50, "test": 1200},
        source_words_of_test={10: 120},
    )
    write_record(made.facts_file("numbers"), facts, SCHEMA_VERSION)
    write_record(made.overlap_file("numbers"), overlap_with_train(), OVERLAP_VERSION)
    for variant in made.variants("numbers"):
        candidate = Candidate(["optimizer.learning_rate=0.001"], dev_loss=1.0, target_tokens=100, seconds=60.0)
        write_record(made.tuning_file(variant), Tuning(candidate.overrides, [candidate]), SCHEMA_VERSION)
        for seed in (1, 2):
            choose = random.Random(seed)
            rows = []
            for index, text in enumerate(sentences()):
                share = 0.04 * len(text.split()) if variant.name == "none" else 0.1
                rows.append((f"t{index}", text, text, corrupt(text, share, choose)))
            write_translations(made.translations(variant, seed, "test"), rows)
            run = made.run(variant, seed)
            write_config(run, made.compose(made.overrides(variant, seed, 200_000)))
            losses = LOSSES[variant.name]
            curves = [f"{20 * i + 19},dev/loss,{loss}\n{20 * i + 19},dev/bleu,{i}" for i, loss in enumerate(losses)]
            tokens = [f"{step},train/target_tokens,{2000 * (step + 1)}" for step in range(100)]
            run.curves.write_text("\n".join(["step,name,value", *tokens, *curves, ""]))
            write_json(
                run.metrics,
                finished_metrics(
                    corpus={"digest": facts.digest, "pairs": facts.pairs},
                    seed=seed,
                    parameters=1234,
                    train_target_tokens_per_second=10.0,
                    train_seconds=100.0,
                    dev={"loss": losses[-1], "bleu": 4.0, "step": 100},
                    machine={"gpu": None, "processor": "a processor", "threads": 2, "torch": "2"},
                ),
            )
        half, choose = made.rung(variant, 1, 100_000), random.Random(3)
        write_config(half, made.compose([*made.overrides(variant, 1, 100_000), *candidate.overrides]))
        more = 1.25 if variant.name == "luong_dot" else 1.005  # All but luong_dot had converged.
        of_half = {"train_target_tokens": 100_000, "dev": {"loss": more * losses[-1], "bleu": 3.0, "step": 50}}
        write_json(half.metrics, finished_metrics(corpus={"digest": facts.digest, "pairs": facts.pairs}, **of_half))
        rows = [(f"t{index}", text, text, corrupt(text, 0.3, choose)) for index, text in enumerate(sentences())]
        write_translations(half.translations, rows)
    keep(made)
    return made


def keep(ablation: Ablation) -> None:
    """Keep what the stage `keep` does of every run, but for the likelihoods, which take a model."""
    last = ablation.corpora["numbers"].budgets[-1]
    for variant in ablation.variants("numbers"):
        files = {(seed, last): ablation.translations(variant, seed, "test") for seed in ablation.seeds(variant)}
        files[1, 100_000] = ablation.rung(variant, 1, 100_000).translations
        for (seed, budget), file in files.items():
            keep_sentence_scores(ablation, variant, seed, budget, read_translations(file))
            run, kept = ablation.rung(variant, seed, budget), ablation.kept(variant, seed, budget)
            for source in (run.config, run.curves, run.metrics):
                if source.exists():
                    shutil.copy(source, kept.path)


@pytest.fixture
def ablation(made_once: Ablation, tmp_path: Path) -> Ablation:
    """A copy that a test may change."""
    shutil.copytree(made_once.root, tmp_path, symlinks=True, dirs_exist_ok=True)
    return replace(made_once, root=tmp_path)


@pytest.fixture(scope="module")
def evaluated_once(made_once: Ablation) -> Evaluation:
    return evaluate(made_once, "numbers")


@pytest.fixture
def evaluation(ablation: Ablation, evaluated_once: Evaluation) -> Evaluation:
    """The evaluation, as its file holds it."""
    write_evaluation(ablation.evaluation_file("numbers"), evaluated_once)
    return ablation.evaluation("numbers")


def test_scores_are_sacrebleus(ablation: Ablation, evaluation: Evaluation) -> None:
    references = sentences()
    for variant in ablation.variants("numbers"):
        own = evaluation.variants[variant.name]
        by_seed = []
        for seed in (1, 2):
            with ablation.translations(variant, seed, "test").open() as file:
                outputs = [row["hypothesis"] for row in csv.DictReader(file, delimiter="\t")]
            by_seed.append(BLEU().corpus_score(outputs, [references]).score)
            chosen = [i for i, text in enumerate(references) if 6 <= len(text.split()) <= 10]
            inside = BLEU().corpus_score([outputs[i] for i in chosen], [[references[i] for i in chosen]]).score
            if seed == 1:
                first = inside
        assert own.score.by_seed == pytest.approx(by_seed)
        assert own.score.mean == pytest.approx(np.mean(by_seed))
        assert own.score.spread == pytest.approx(np.std(by_seed, ddof=1))
        in_bucket = own.buckets[1].score
        assert in_bucket is not None
        assert in_bucket.by_seed == pytest.approx([first, inside])
        assert in_bucket.mean == pytest.approx((first + inside) / 2)
        assert own.copied == pytest.approx(100)
    assert [bucket.source_words for bucket in evaluation.buckets] == [(1, 5), (6, 10), (11, None)]
    assert sum(bucket.sentences for bucket in evaluation.buckets) == evaluation.sentences == 120


def test_a_corpus_has_the_name_that_the_ablation_gives_it(ablation: Ablation) -> None:
    """Several of its corpora may be of one recipe: scan and scan_length have one name in their settings."""
    facts = ablation.facts("numbers")
    write_record(ablation.facts_file("numbers"), replace(facts, name="recipe"), SCHEMA_VERSION)
    assert ablation.facts("numbers").name == "recipe"
    assert evaluate(ablation, "numbers").corpus.name == "numbers"


def test_the_difference_is_that_of_the_paired_bootstrap(ablation: Ablation, evaluation: Evaluation) -> None:
    counts = draw_resamples(120, 1000)
    quantities = {}
    for variant in ablation.variants("numbers"):
        statistics = []
        for seed in (1, 2):
            lines = ablation.translations(variant, seed, "test").read_text().splitlines()[1:]
            statistics.append(bleu_statistics([line.split("\t")[3] for line in lines], sentences(), "fr"))
        quantities[variant.name] = metric_quantity(BY_BLEU, statistics, counts)
    expected = compare_quantities(quantities["luong_general"], quantities["none"], pool(list(quantities.values())))
    difference = evaluation.variants["luong_general"].difference
    assert difference is not None
    assert vars(difference.whole) == {**vars(expected), "p_holm": difference.whole.p_holm}
    assert expected.trained is not None
    assert expected.architecture is not None
    assert evaluation.variants["none"].difference is None


def test_p_is_adjusted_and_printed_adjusted(evaluation: Evaluation) -> None:
    """Holm's method by its definition: the i-th smallest of m p-values times m - i, never below a smaller one's.

    A family is a table: all variants on the whole test set, and all buckets of all variants.
    """
    tables = {
        block.name: block
        for block in unfolded(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")))
        if isinstance(block, Table)
    }
    differences = {name: own.difference for name, own in evaluation.variants.items() if own.difference is not None}
    buckets = {
        (show_bounds(evaluation.buckets[bucket].source_words), name): item
        for name, own in differences.items()
        for bucket, item in own.by_length.items()
    }
    families: list[tuple[str, int, dict[Any, AdjustedDifference]]] = [
        ("numbers-variants", 1, {(name,): own.whole for name, own in differences.items()}),
        ("numbers-lengths", 2, buckets),
    ]
    for table, keys, family in families:
        p, holm = (tables[table].head.index(name) for name in ("p", "p, Holm"))
        cells = {tuple(row[:keys]): (row[p], row[holm]) for row in tables[table].rows}
        known = {key: item.p for key, item in family.items() if item.p is not None}
        least = 0.0
        for rank, key in enumerate(sorted(known, key=known.__getitem__)):
            least = max(least, min(1.0, (len(known) - rank) * known[key]))
            assert family[key].p_holm == pytest.approx(least)
            assert cells[key] == (show_p(known[key]), show_p(least))
        assert any(item.p_holm != item.p for item in family.values()), "no adjusted p is another than a plain p"
    small = [bucket for bucket in evaluation.buckets if bucket.sentences < FEWEST_SENTENCES]
    assert [item.p for key, item in buckets.items() if key[0] in {show_bounds(own.source_words) for own in small}] == [
        None
    ] * (len(small) * len(differences))


def test_a_figure_says_what_its_bands_cover(evaluation: Evaluation) -> None:
    """The seeds where there are several; an older result, which lacks that interval, shows them as dots alone."""

    def drawn(shown: Evaluation) -> tuple[str, float, int]:
        (picture,) = (
            block
            for block in unfolded(write_ablation({"numbers": shown}, ReportOrigin("c", "today")))
            if isinstance(block, Picture) and block.name == "numbers-bleu-by-length"
        )
        axes = picture.figure.axes[0]
        top = max(
            float(np.asarray(band.get_paths()[0].vertices)[:, 1].max()) for band in axes.collections[:1]
        )  # Of `none`.
        return axes.get_title(loc="right"), top, sum(line.get_marker() == "." for line in axes.lines)

    scores = [bucket.score for bucket in evaluation.variants["none"].buckets if bucket.score is not None]
    tops = [(item.interval.high, item.own_spread.high) for item in scores if item.interval and item.own_spread]
    title, top, dots = drawn(evaluation)
    assert title == "bands: 95 %, over test sentences and seeds"
    assert top == pytest.approx(max(pair[1] for pair in tops))
    assert top > max(pair[0] for pair in tops)
    assert dots == len(scores) * len(evaluation.variants)

    def aged(result: VariantResult) -> VariantResult:
        buckets = [replace(own, score=own.score and replace(own.score, own_spread=None)) for own in result.buckets]
        return replace(result, buckets=buckets)

    old = replace(evaluation, variants={name: aged(own) for name, own in evaluation.variants.items()})
    title, top, dots = drawn(old)
    assert "not over seeds" in title
    assert top == pytest.approx(max(pair[0] for pair in tops))
    assert dots == len(scores) * len(evaluation.variants)


def test_convergence_slopes_and_pairs(evaluation: Evaluation) -> None:
    variants = evaluation.variants
    assert variants["none"].converged
    assert not any(training.convergence.converged for training in variants["luong_dot"].seeds)
    assert variants["luong_dot"].seeds[0].convergence.gain_of_last_fifth == pytest.approx((0.5 - 0.3) / 0.5)
    # `none` gets worse with length and the others do not, so the difference grows.
    assert evaluation.slopes_refused is None
    slope = evaluation.slopes["luong_general"]
    assert slope.value > 5
    assert slope.trained is not None
    assert slope.trained.low > 0
    pairs = {(pair.first, pair.second): pair for pair in evaluation.pairs}
    assert pairs["luong_general", "luong_dot"].differ_in == ["score"]
    assert pairs["luong_general", "luong_dot"].difference is not None
    assert set(pairs["none", "luong_dot"].differ_in) == {"score", "vector or context width"}
    assert pairs["none", "luong_dot"].difference is None
    lengths = [example.source_words for example in evaluation.examples]
    assert len(lengths) == 3
    assert lengths == sorted(lengths)


def test_every_difference_has_the_variance_over_seeds_of_all_variants(
    ablation: Ablation, evaluation: Evaluation
) -> None:
    """Those by length, slopes and pairs, as the difference on the whole test set above."""
    rows = {
        (variant.name, seed): read_translations(ablation.translations(variant, seed, "test"))
        for variant in ablation.variants("numbers")
        for seed in (1, 2)
    }
    test = make_test_set({"one": rows["none", 1]}, [1, 6, 11], "en", "fr")
    draws = make_draws(test, 1000)
    bleu = {
        name: score_by_length(BY_BLEU, [[row.hypothesis for row in rows[name, seed]] for seed in (1, 2)], test, draws)
        for name in evaluation.variants
    }
    slopes = {name: length_slope(own, test) for name, own in bleu.items()}
    general, none, dot = "luong_general", "none", "luong_dot"
    assert len({item.spread for item in slopes.values()}) > 1
    assert evaluation.slopes[general] == compare_quantities(slopes[general], slopes[none], pool(list(slopes.values())))
    (pair,) = (pair for pair in evaluation.pairs if (pair.first, pair.second) == (general, dot))
    whole = {name: own.whole for name, own in bleu.items()}
    assert pair.difference == compare_quantities(whole[general], whole[dot], pool(list(whole.values())))
    difference = evaluation.variants[general].difference
    assert difference is not None
    for bucket, result in difference.by_length.items():
        own = {name: item.buckets[bucket] for name, item in bleu.items()}
        expected = compare_quantities(own[general], own[none], pool(list(own.values())))
        assert (result.architecture, result.own_spread) == (expected.architecture, expected.own_spread)


def test_an_evaluation_follows_the_settings_of_the_ablation(ablation: Ablation) -> None:
    settings = replace(ablation.settings, floor=99.0, converged=0.99, resamples=60, examples=2)
    changed = replace(ablation, settings=settings)
    keep(changed)
    evaluation = evaluate(changed, "numbers")
    assert evaluation.slopes_refused is not None
    assert "below the floor of 99" in evaluation.slopes_refused
    assert all(variant.converged for variant in evaluation.variants.values())
    assert len(evaluation.examples) == 2
    difference = evaluation.variants["luong_dot"].difference
    assert difference is not None
    assert difference.whole.p is not None
    assert difference.whole.p * 61 == pytest.approx(round(difference.whole.p * 61))
    for variant in ablation.variants("numbers"):
        rows = {row.id: row for row in read_translations(ablation.translations(variant, 1, "test"))}
        for example in evaluation.examples:
            assert example.translations[variant.name] == rows[example.id].hypothesis


def test_slopes_are_refused_if_the_baseline_has_not_converged(ablation: Ablation) -> None:
    half = ablation.kept(ablation.variant("numbers", "none"), 1, 100_000)
    write_json(half.metrics, read_json(half.metrics) | {"dev": {"loss": 1.3, "bleu": 3.0, "step": 50}})
    evaluation = evaluate(ablation, "numbers")
    assert evaluation.slopes == {}
    reason = "variant none had not converged, so its length curve may show missing training as well"
    assert evaluation.slopes_refused == reason
    report = to_markdown(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")), "figures")
    assert f"cannot be told here: {reason}" in report


def test_a_variant_has_converged_if_doubling_its_budget_brings_little(
    ablation: Ablation, evaluation: Evaluation
) -> None:
    """By the run of half the budget; BLEU by sacreBLEU, and the interval of the difference of the first seed's."""
    references, counts = sentences(), draw_resamples(120, 1000)
    for name, result in evaluation.variants.items():
        variant, doubling = ablation.variant("numbers", name), result.doubling
        assert doubling is not None
        outputs = [
            [row.hypothesis for row in read_translations(file)]
            for file in (ablation.rung(variant, 1, 100_000).translations, ablation.translations(variant, 1, "test"))
        ]
        half, whole = (BLEU().corpus_score(output, [references]).score for output in outputs)
        assert (doubling.seed, doubling.half_tokens) == (1, 100_000)
        assert doubling.half_score == pytest.approx(half)
        assert doubling.difference.value == pytest.approx(whole - half)
        of_half, of_whole = (
            metric_quantity(BY_BLEU, [bleu_statistics(output, references, "fr")], counts) for output in outputs
        )
        assert doubling.difference == compare_quantities(of_whole, of_half, pool([]))
        assert doubling.difference.architecture is None
        more = 1.25 if name == "luong_dot" else 1.005
        assert doubling.gain == pytest.approx(1 - 1 / more)
        assert result.converged == doubling.converged == (name != "luong_dot")
    (table,) = (
        block
        for block in unfolded(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")))
        if isinstance(block, Table) and block.name == "numbers-doubling"
    )
    assert [row[:2] for row in table.rows] == [["none", "yes"], ["luong_general", "yes"], ["luong_dot", "no"]]
    assert "doubling the budget lowered the dev loss by less than 1 %" in table.caption
    # A dev loss that has risen again is no convergence, and an older result is judged by the last fifth.
    risen = replace(evaluation.variants["none"].seeds[1], convergence=Convergence(None, 0.0, no_better_since=0.4))
    seeds = [evaluation.variants["none"].seeds[0], risen]
    assert replace(evaluation.variants["none"], seeds=seeds).converged is None
    older = {name: replace(result, doubling=None) for name, result in evaluation.variants.items()}
    text = to_markdown(
        write_ablation({"numbers": replace(evaluation, variants=older)}, ReportOrigin("c", "t")), "figures"
    )
    assert "in every seed, the last fifth of the budget lowered the best dev loss by less than 1 %" in text
    assert "doubling" not in text


def test_a_short_training_is_not_judged(ablation: Ablation, evaluation: Evaluation) -> None:
    """A half of less than it takes: no verdict, no slopes, and the tables state the rule."""

    def report(of: Evaluation) -> str:
        return to_markdown(write_ablation({"numbers": of}, ReportOrigin("c", "today")), "figures")

    assert NOT_JUDGED not in report(evaluation)
    half = ablation.kept(ablation.variant("numbers", "none"), 1, 100_000)
    write_json(half.metrics, read_json(half.metrics) | {"train_target_tokens": JUDGED_TOKENS - 1})
    short = evaluate(ablation, "numbers")
    assert short.variants["none"].converged is None
    assert short.variants["luong_general"].converged
    reason = "variant none does not show whether it had converged, so its length curve may show"
    assert short.slopes_refused is not None
    assert short.slopes_refused.startswith(reason)
    text = report(short)
    assert NOT_JUDGED in text
    assert "| none | cannot be told |" in text
    write_evaluation(ablation.evaluation_file("numbers"), short)
    assert ablation.evaluation("numbers").variants["none"].converged is None


def test_the_report_says_what_this_ablation_is(evaluation: Evaluation) -> None:
    """Not what the recorded one was: which searches there were, and whether variants choose what they read."""

    def report(of: Evaluation) -> str:
        return to_markdown(write_ablation({"numbers": of}, ReportOrigin("c", "today")), "figures")

    def renamed(**names: str) -> Evaluation:
        variants = {names.get(name, name): own for name, own in evaluation.variants.items()}
        slopes = {names.get(name, name): slope for name, slope in evaluation.slopes.items()}
        baseline = names.get(evaluation.baseline, evaluation.baseline)
        others: dict[str, Any] = {"pairs": [], "examples": [], "clean_part": None}
        return replace(evaluation, baseline=baseline, variants=variants, slopes=slopes, **others)

    text = report(evaluation)
    assert "reverse order" not in text
    assert not in_a_sentence(text, "learning rate", "search on dev")
    assert "On numbers, attention helps: BLEU is " in text
    more = [f"optimizer.learning_rate={rate}" for rate in (0.001, 0.002)]
    candidates = [Candidate(words, 1.0, 100, 60.0) for words in ([more[0]], [more[1]], [more[0], REVERSED_SOURCE])]
    searched = replace(evaluation.variants["luong_dot"], tuning=Tuning(candidates[0].overrides, candidates))
    text = report(replace(evaluation, variants={**evaluation.variants, "luong_dot": searched}))
    assert in_a_sentence(text, "learning rate", "search on dev")
    assert in_a_sentence(text, "luong_dot", "reverse order")
    text = report(renamed(luong_general="fixed", luong_dot="mean"))
    assert "The best other model (variant " in text
    assert "model with attention" not in text
    assert "On numbers, another variant is better: BLEU is " in text
    text = report(renamed(none="mean"))
    assert "The baseline (variant mean) scores" in text
    assert "Variant none" not in text


def test_the_clean_part_is_scored_like_a_test_set_of_its_own(ablation: Ablation, evaluation: Evaluation) -> None:
    clean = [index for index, text in enumerate(sentences()) if index % 3 or len(text.split()) < 8]
    references = [sentences()[index] for index in clean]
    part = evaluation.clean_part
    assert part is not None
    assert part.sentences == len(clean) == 94
    assert part.mean_source_words == pytest.approx(np.mean([len(text.split()) for text in references]))
    assert evaluation.mean_source_words == pytest.approx(np.mean([len(text.split()) for text in sentences()]))
    counts, quantities = draw_resamples(94, 1000), {}
    for variant in ablation.variants("numbers"):
        outputs = []
        for seed in (1, 2):
            rows = read_translations(ablation.translations(variant, seed, "test"))
            outputs.append([rows[index].hypothesis for index in clean])
        scores = part.variants[variant.name]
        assert scores.score.by_seed == pytest.approx(
            [BLEU().corpus_score(output, [references]).score for output in outputs]
        )
        statistics = [bleu_statistics(output, references, "fr") for output in outputs]
        quantities[variant.name] = metric_quantity(BY_BLEU, statistics, counts)
    seeds, p = pool(list(quantities.values())), {}
    for name in ("luong_general", "luong_dot"):
        expected = compare_quantities(quantities[name], quantities["none"], seeds)
        difference = part.variants[name].difference
        assert difference is not None
        assert vars(difference) == {**vars(expected), "p_holm": difference.p_holm}
        p[name] = (expected.p, difference.p_holm)
    assert sorted(p.values())[0][1] == pytest.approx(2 * min(plain or 0 for plain, _ in p.values()))
    assert part.variants["none"].difference is None
    assert part.variants["none"].score != evaluation.variants["none"].score


def test_the_report_has_the_clean_part_beside_the_whole(ablation: Ablation, evaluation: Evaluation) -> None:
    def report(of: Evaluation) -> str:
        return to_markdown(write_ablation({"numbers": of}, ReportOrigin("c", "today")), "figures")

    part, own = evaluation.clean_part, evaluation.variants["luong_dot"]
    assert part is not None
    text = report(evaluation)
    blocks = unfolded(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")))
    (table,) = (block for block in blocks if isinstance(block, Table) and block.name == "numbers-clean")
    assert "94 of 120 test sentences (78.3 %)" in table.caption
    assert f"{part.mean_source_words:.1f} source words" in table.caption
    assert [row[0] for row in table.rows] == list(evaluation.variants)
    cells = dict(zip(table.head, table.rows[2], strict=True))
    difference = part.variants["luong_dot"].difference
    assert difference is not None
    assert own.difference is not None
    assert cells["BLEU, all"] == f"{own.score.mean:.2f}"
    assert cells["BLEU, clean part"] == f"{part.variants['luong_dot'].score.mean:.2f}"
    assert cells["95 % interval"] == show_range(part.variants["luong_dot"].score.widest)
    assert cells["minus none, all"] == f"{own.difference.whole.value:+.2f}"
    assert cells["minus none, clean part"] == f"{difference.value:+.2f}"
    assert cells["these trained models"] == show_range(difference.trained)
    assert cells["p, Holm"] == show_p(difference.p_holm)
    assert in_a_sentence(text, "94 of 120 test sentences (78.3 %)", f"{difference.value:.1f} BLEU")
    assert "not counted" in text  # Of facts without overlap.
    counted = replace(evaluation.corpus, overlap=overlap_with_train().facts)
    write_record(ablation.facts_file("numbers"), counted, SCHEMA_VERSION)
    assert ablation.facts("numbers").overlap == counted.overlap
    assert counted.overlap is not None
    assert counted.overlap["test"]["target"] == OverlapFacts(120, 42, 26, 18, 1260, 208)
    assert "21.7 %, with 16.5 % of all words" in report(replace(evaluation, corpus=counted))
    older = report(replace(evaluation, clean_part=None))
    assert "clean part" not in older
    assert "94 of 120" not in older


def test_no_clean_part_where_it_says_nothing(ablation: Ablation) -> None:
    """Of a made corpus, and where no sentence is clean; sentences of another corpus are refused."""
    corpus = replace(ablation.corpora["numbers"], variants=["none", "luong_dot"], seeds=[1])
    ablation = replace(ablation, corpora={"numbers": corpus})
    facts, overlap = ablation.facts("numbers"), overlap_with_train()
    write_record(ablation.facts_file("numbers"), replace(facts, leaks_removed=False), SCHEMA_VERSION)
    assert evaluate(ablation, "numbers").clean_part is None
    write_record(ablation.facts_file("numbers"), facts, SCHEMA_VERSION)
    target = overlap.sides["test"]["target"]
    overlap.sides["test"]["target"] = replace(target, covered=target.words)
    write_record(ablation.overlap_file("numbers"), overlap, OVERLAP_VERSION)
    assert evaluate(ablation, "numbers").clean_part is None
    overlap.ids["test"][3] = "another"
    write_record(ablation.overlap_file("numbers"), overlap, OVERLAP_VERSION)
    with pytest.raises(UserError, match=r"overlap\.json: not of the sentences that were translated: run dvc repro$"):
        evaluate(ablation, "numbers")
    ablation.overlap_file("numbers").unlink()
    with pytest.raises(UserError, match=r"overlap\.json: cannot be read \(No such file or directory\): run dvc repro$"):
        evaluate(ablation, "numbers")


def test_missing_and_truncated_files_are_named(ablation: Ablation) -> None:
    variant = ablation.variant("numbers", "luong_dot")
    translations = ablation.translations(variant, 2, "test")
    whole = translations.read_text()
    for text, message in (
        (whole[: len(whole) // 2], r"luong_dot-2/test\.tsv: not a whole file of translations"),
        (whole.replace("t5\t", "t5 "), r"test\.tsv:7: 3 fields instead of 4"),
    ):
        translations.write_text(text)
        with pytest.raises(UserError, match=message):
            keep(ablation)
    translations.write_text(whole.replace("t5\t", "t500\t"))
    keep(ablation)
    with pytest.raises(UserError, match=r"numbers/runs: its runs do not translate the same sentences: run dvc repro$"):
        evaluate(ablation, "numbers")
    translations.write_text(whole)
    keep(ablation)
    kept, other = ablation.kept(variant, 1, 200_000), ablation.kept(variant, 2, 200_000)
    edges = replace(ablation, corpora={"numbers": replace(ablation.corpora["numbers"], edges=[1, 4])})
    with pytest.raises(UserError, match=r"scores\.json: of the edges \[1, 6, 11\]: run dvc repro$"):
        evaluate(edges, "numbers")
    for file, content, message in (
        (kept.metrics, kept.metrics.read_bytes()[:40], r"metrics\.json: not a whole JSON file"),
        (kept.scores, b"{}", r"scores\.json: schema_version is None.*: run dvc repro$"),
        (other.sentence_scores, other.sentence_scores.read_bytes()[:100], r"scores\.npz: not a whole archive"),
        (other.sentence_scores, kept.likelihoods.name.encode(), r"scores\.npz: not a whole archive"),
    ):
        before = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(UserError, match=message):
            evaluate(ablation, "numbers")
        file.write_bytes(before)
    write_arrays(other.sentence_scores, {"source_words": np.arange(3), "bleu": np.zeros((3, 10), dtype=int)})
    with pytest.raises(UserError, match=r"scores\.npz: not of the 120 sentences of .*scores\.json: run dvc repro$"):
        evaluate(ablation, "numbers")
    shutil.rmtree(kept.path)
    with pytest.raises(UserError, match=r"luong_dot-1/200000/scores\.json: .*No such file"):
        evaluate(ablation, "numbers")


def test_what_is_kept_of_a_run_holds_no_more_text_than_its_examples(ablation: Ablation) -> None:
    """And is the same to the byte when it is kept again."""
    variant = ablation.variant("numbers", "none")
    folder = ablation.kept(variant, 1, 200_000).path
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    keep(ablation)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}
    rows = read_translations(ablation.translations(variant, 1, "test"))
    text = "".join(content.decode(errors="replace") for content in before.values())
    found = [row for row in rows if f'"{row.source}"' in text or f'"{row.hypothesis}"' in text]
    examples = read_sentence_scores(ablation.kept(variant, 1, 200_000), "").whole.examples
    assert {row.id for row in found} == {example.id for example in examples}
    assert len(examples) == ablation.settings.examples


# ---- MLflow ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an empty store, whose artifacts go to a folder below it."""
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    return MlflowClient(empty_store(tmp_path))


def check_bits_in_mlflow(ablation: Ablation, evaluation: Evaluation, client: Any) -> None:
    """Where they are known, here of the first seed of none alone, they are logged, and a column of the view."""
    from hourglass.experiments.publishing import PART, SUPERSEDED, publish
    from hourglass.tracking.client import VIEW

    information = {"numbers": made_bits.result()}
    assert publish(ablation, {"numbers": evaluation}, client, "e", information) == ["numbers none 1"]
    experiment = client.get_experiment_by_name("e")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if SUPERSEDED not in run.data.tags]
    assert [run.data.metrics["test/bits"] for run in runs if run.data.tags[PART] == "numbers none 1"] == [5.0]
    shown = json.loads(experiment.tags[VIEW])["selectedColumns"]
    assert shown[:4] == [f"metrics.`{name}`" for name in ("test/bleu", "test/chrf", "test/bits", "best/loss")]


@pytest.mark.slow
def test_mlflow_holds_each_run_once_and_new_results_supersede_old_ones(
    ablation: Ablation, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    from hourglass.experiments.publishing import PART, SUPERSEDED, publish

    # Each evaluation below draws them again.
    ablation = replace(ablation, settings=replace(ablation.settings, resamples=20))

    def logged_runs() -> dict[str, Any]:
        experiment = client.get_experiment_by_name("e")
        assert experiment is not None
        return {run.info.run_id: run for run in client.search_runs([experiment.experiment_id])}

    def log_evaluation() -> list[str]:
        keep(ablation)
        return publish(ablation, {"numbers": evaluate(ablation, "numbers")}, client, "e")

    assert len(log_evaluation()) == 6
    runs = logged_runs()
    parts = {run.data.tags[PART]: run for run in runs.values()}
    assert len(runs) == len(parts) == 1 + 6
    logged = parts["numbers none 2"]
    assert logged.data.tags["mlflow.parentRunId"] == parts["ablation"].info.run_id
    assert logged.data.tags["dvc_stage"] == "pipelines/ablation/dvc.yaml:train-numbers@none-2"
    assert logged.data.params["attention.name"] == "none"
    evaluation = evaluate(ablation, "numbers")
    assert logged.data.metrics["test/bleu"] == pytest.approx(evaluation.variants["none"].score.by_seed[1])
    history = client.get_metric_history(logged.info.run_id, "test/bleu_by_source_words")
    assert [point.step for point in history] == [1, 6, 11]
    assert {item.path for item in client.list_artifacts(logged.info.run_id)} >= {"config.yaml", "test.tsv"}

    assert (log_evaluation(), logged_runs().keys()) == ([], runs.keys())

    # A server that dies leaves an incomplete run: it is deleted, and the run is logged again.
    changed = ablation.run(ablation.variant("numbers", "none"), 1).metrics
    changed.write_text(changed.read_text().replace('"train_seconds": 100.0', '"train_seconds": 60.0'))
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifact", None)
        with pytest.raises(TypeError):
            log_evaluation()
    (incomplete,) = logged_runs().keys() - runs.keys()
    assert log_evaluation() == ["numbers none 1"]
    assert incomplete not in logged_runs()
    assert sum(SUPERSEDED not in run.data.tags for run in logged_runs().values()) == 1 + 6

    assert log_evaluation() == []
    runs = logged_runs()

    metrics = ablation.run(ablation.variant("numbers", "none"), 2).metrics
    metrics.write_text(metrics.read_text().replace('"train_seconds": 100.0', '"train_seconds": 50.0'))
    assert log_evaluation() == ["numbers none 2"]
    now = logged_runs()
    (new,) = now.keys() - runs.keys()
    assert now[logged.info.run_id].data.tags[SUPERSEDED] == new
    assert SUPERSEDED not in now[new].data.tags
    # Or the server dies before the superseded run is marked.
    superseded = next(run for run in logged_runs().values() if SUPERSEDED in run.data.tags)
    client.delete_tag(superseded.info.run_id, SUPERSEDED)
    assert log_evaluation() == []
    assert SUPERSEDED in logged_runs()[superseded.info.run_id].data.tags
    # A run that the ablation no longer has is marked, too.
    fewer = evaluate(ablation, "numbers")
    del fewer.variants["luong_dot"]
    assert publish(ablation, {"numbers": fewer}, client, "e") == []
    assert sum(SUPERSEDED not in run.data.tags for run in logged_runs().values()) == 1 + 4
    check_bits_in_mlflow(ablation, fewer, client)


@pytest.mark.more
@pytest.mark.slow
def test_an_ablation_with_another_results_folder_has_runs_of_its_own(
    ablation: Ablation, evaluation: Evaluation, client: Any
) -> None:
    from hourglass.experiments.publishing import PART, RESULTS, SUPERSEDED, publish

    small = replace(ablation, settings=replace(ablation.settings, results="small"))
    assert len(publish(ablation, {"numbers": evaluation}, client, "e")) == 6
    del evaluation.variants["luong_dot"]
    for _ in range(2):
        new = publish(small, {"numbers": evaluation}, client, "e")
    assert new == []
    runs = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert not any(SUPERSEDED in run.data.tags for run in runs)
    assert sum(run.data.tags[RESULTS] == "small" for run in runs) == 1 + 4
    (parent,) = (run for run in runs if run.data.tags[RESULTS] == "small" and run.data.tags[PART] == "ablation")
    assert sum(run.data.tags.get("mlflow.parentRunId") == parent.info.run_id for run in runs) == 4


@pytest.mark.more
@pytest.mark.slow
def test_mlflow_gets_models_and_system_metrics_of_local_runs(ablation: Ablation, client: Any, tmp_path: Path) -> None:
    """A run that was logged without them is logged again with them, once, and its model is registered once."""
    from hourglass.experiments.publishing import find_model, publish
    from hourglass.tracking.registry import add_version

    evaluated = {"numbers": evaluate(ablation, "numbers")}
    assert len(publish(ablation, evaluated, client, "e")) == 6
    assert find_model(client, "e", "numbers none 1", "results") is None
    real = make_run(tmp_path, "attention=none", "trainer.test=false", "trainer.target_tokens=500")
    run = ablation.run(ablation.variant("numbers", "none"), 1)
    run.best.parent.mkdir(exist_ok=True)
    shutil.copy(real.best, run.best)
    shutil.copy(real.metrics, run.metrics)
    append_points(run.system, [Point(0, "system/cpu", 50.0, 1000)])
    assert publish(ablation, evaluated, client, "e") == ["numbers none 1"]
    assert publish(ablation, evaluated, client, "e") == []
    model = find_model(client, "e", "numbers none 1", "results")
    assert model is not None
    assert model.source_run_id is not None
    logged = client.get_run(model.source_run_id)
    assert logged.data.metrics["system/cpu"] == 50.0
    assert logged.inputs is not None
    assert logged.inputs.dataset_inputs[0].dataset.name == "numbers"
    assert "scores_by_length.json" in {item.path for item in client.list_artifacts(model.source_run_id)}
    for _ in range(2):
        answer = "registered: models:/numbers/1; it is the best by dev loss: models:/numbers@best"
        assert add_version(client, "numbers", model, is_best=True) == answer
    assert '"name": "numbers"' in client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]


def test_an_evaluation_of_another_version_is_named(ablation: Ablation, evaluation: Evaluation) -> None:
    file = ablation.evaluation_file("numbers")
    whole = file.read_text()
    version = f'"schema_version": {EVALUATION_VERSION}'
    assert version in whole
    for text, message in (
        ("{}", "schema_version is None, and this version of Hourglass reads"),
        (whole.replace(version, '"schema_version": 0'), "schema_version is 0, and this version of Hourglass reads"),
        (whole.replace(f'"resamples": {evaluation.resamples}', '"resamples": "many"'), "resamples: input should be"),
        ('{"a": ', "not a whole JSON file"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=rf"numbers\.json: {message}.*: run dvc repro$"):
            ablation.evaluation("numbers")


# ---- The report ------------------------------------------------------------------------------------------------------


class Links(HTMLParser):
    """Collects the resources that a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value and not value.startswith("#"):
                self.loaded.append(value)
        if tag in ("link", "iframe", "img"):
            self.loaded.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_report_loads_nothing_and_is_deterministic(evaluation: Evaluation) -> None:
    blocks = write_ablation({"numbers": evaluation}, ReportOrigin("c" * 40, "today"))
    page, markdown = to_html(blocks), to_markdown(blocks, "figures")
    links = Links()
    links.feed(page)
    assert links.loaded == []
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", page)
    assert page.count("<svg") == sum(isinstance(block, Picture) for block in unfolded(blocks)) == 6
    text = " ".join(links.words)
    own = evaluation.variants["luong_general"]
    assert own.difference is not None
    assert own.difference.whole.architecture is not None
    for number in (f"{own.score.mean:.2f}", f"{own.difference.whole.architecture.low:.2f}", "1,234"):
        assert number in text
        assert number in markdown
    for words in (
        evaluation.metric.signature,
        "these trained models",
        "this architecture",
        "training pairs with a sentence",
    ):
        assert words in text
        assert words in markdown
    for example in evaluation.examples:
        assert example.translations["none"] in text
        assert example.translations["none"] in markdown
    # The same evaluation gives the same page, to the byte.
    assert to_html(write_ablation({"numbers": evaluation}, ReportOrigin("c" * 40, "today"))) == page


def test_the_first_screen_has_the_difference_and_its_interval(evaluation: Evaluation) -> None:
    page = to_markdown(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")), "figures")
    opening, folded, rest = page.partition("## How to read the tables and figures")
    assert folded
    best = "luong_dot"  # By dev loss; on test luong_general may lead.
    difference = evaluation.variants[best].difference
    assert difference is not None
    interval, covers = widest(difference.whole)
    assert interval is not None
    shown = (
        f"a difference of {difference.whole.value:+.1f}",
        f"95 % interval {interval.low:+.1f} to {interval.high:+.1f}",
    )
    assert in_a_sentence(opening, "On numbers, attention helps", *shown)
    assert in_a_sentence(rest, f"{difference.whole.value:.1f} BLEU", covers)
    slope = evaluation.slopes[best].value
    assert in_a_sentence(rest, "10 more source words", f"{slope:.1f} BLEU")


def test_tables_as_csv_and_latex(evaluation: Evaluation) -> None:
    blocks = unfolded(write_ablation({"numbers": evaluation}, ReportOrigin("c", "today")))
    tables = [block for block in blocks if isinstance(block, Table)]
    assert len({table.name for table in tables}) == len(tables) == 9
    for table in tables:
        rows = list(csv.reader(io.StringIO(to_csv(table))))
        assert rows == [list(table.head), *map(list, table.rows)]
        latex = to_latex(table)
        assert latex.count(r"\\") == len(rows)
        assert not re.search(r"(?<!\\)_", "".join(latex.splitlines()[1:]))


@pytest.mark.more
@pytest.mark.slow
def test_runs_of_an_ablation_are_compared_by_the_command(ablation: Ablation, tmp_path: Path) -> None:
    """Their translations are those of another stage. The differences are the evaluation's own."""
    runs = {
        variant.name: [str(ablation.run(variant, seed).path) for seed in (1, 2)]
        for variant in ablation.variants("numbers")
    }
    pair = run_script("pipelines/compare.py", runs["luong_general"][0], runs["none"][0])
    rows = [line.split() for line in pair.stdout.splitlines()]
    assert [row[0] for row in rows if row and re.match(r"\d|all", row[0])] == ["1-5", "6-10", "11+", "all"]
    paths = [path for members in runs.values() for path in members]
    done = run_script("pipelines/compare.py", *paths, "by=attention", "by_length=true", f"out={tmp_path / 'out'}")
    assert done.returncode == 0
    evaluation = evaluate(replace(ablation, settings=replace(ablation.settings, resamples=2000)), "numbers")

    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader((tmp_path / "out" / "tables" / f"{name}.csv").open()))

    scores = {row["attention.name"]: row for row in table("scores")}
    assert scores.keys() == evaluation.variants.keys()
    for name, result in evaluation.variants.items():
        assert scores[name]["BLEU"] == f"{result.score.mean:.2f}"
        assert scores[name]["these trained models"] == show_range(result.score.interval)
    differences = {row["attention.name"]: row for row in table("differences")}
    assert differences.keys() == evaluation.variants.keys() - {"none"}
    for name, row in differences.items():
        difference = evaluation.variants[name].difference
        assert difference is not None
        assert list(row.values())[3:7] == difference_cells(difference.whole)
    assert len(table("differences-by-length")) == 2 * 3
    by_length = {
        row["group"]: {column.rstrip("*"): cell for column, cell in row.items()} for row in table("bleu-by-length")
    }
    for variant in ablation.variants("numbers"):
        translations = [read_translations(ablation.translations(variant, seed, "test")) for seed in (1, 2)]
        for column, low, high in (("1-5 words", 1, 5), ("6-10 words", 6, 10), ("11+ words", 11, 999), ("all", 1, 999)):
            inside = [[row for row in rows if low <= len(row.source.split()) <= high] for rows in translations]
            mean = np.mean(
                [BLEU().corpus_score([r.hypothesis for r in i], [[r.reference for r in i]]).score for i in inside]
            )
            assert float(by_length[variant.name][column].split()[0]) == pytest.approx(mean, abs=0.0051)
