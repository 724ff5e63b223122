"""Compare scores with sacreBLEU's command line and corpus score, and scores by source length with plain loops."""

import importlib.util
import itertools
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU, CHRF, TER

from hourglass.corpora.languages import is_unspaced
from hourglass.errors import UserError
from hourglass.metrics import scoring, translation
from hourglass.metrics.metric import single
from hourglass.metrics.metrics import make_metrics
from hourglass.metrics.scoring import FEW, format_table, length_buckets
from hourglass.metrics.translation import (
    bleu,
    bleu_from_statistics,
    bleu_statistics,
    bleu_tokenizer,
    brevity_penalty,
)

EDGES = [1, 4, 8]
OF_TRANSLATION = {"main": "bleu", "others": ["chrf"], "options": []}
ENGLISH = [
    "the",
    "a",
    "small",
    "big",
    "house",
    "dog",
    "bird",
    "sings",
    "near",
    ",",
    ".",
    "river's",
    '"ah"',
    "3.5",
    "well-known",
]
CHINESE = list("我你他们在家里看书的小狗跑过河\uff0c。!2")  # \uff0c is the fullwidth comma
JAPANESE = ["私", "は", "本", "を", "読む", "犬", "が", "走る", "川", "。", "小さな"]
THAI = list("กขคงจฉชซดตถทนบปม ")


def score(
    hypotheses: list[str],
    references: list[str],
    sources: list[str],
    words: list[int],
    *,
    edges: list[int],
    language: str,
) -> dict[str, Any]:
    """Score by the default metrics, with one reference per sentence."""
    metrics = make_metrics(OF_TRANSLATION, language)
    return scoring.score(hypotheses, single(references), sources, words, edges=edges, metrics=metrics)


def noisy_sets(words: list[str], joint: str, count: int = 60) -> tuple[list[str], list[str], list[str]]:
    """Return sources, references, and hypotheses that resemble them; some are empty, short or too long."""
    draw = random.Random(5)

    def disturb(sentence: list[str]) -> list[str]:
        kept = [word for word in sentence if draw.random() > 0.2]
        return [word if draw.random() > 0.2 else draw.choice(words) for word in kept] * draw.choice([1, 1, 1, 2])

    references = [[draw.choice(words) for _ in range(draw.randint(1, 14))] for _ in range(count)]
    hypotheses = [disturb(sentence) for sentence in references]
    sources = [disturb(sentence) or words[:1] for sentence in references]
    hypotheses[3] = []
    return tuple([joint.join(sentence) for sentence in side] for side in (sources, references, hypotheses))  # type: ignore[return-value]


def command_line(references: list[str], hypotheses: list[str], tokenizer: str, folder: Path) -> list[dict]:
    """Run sacreBLEU's command line."""
    for name, lines in (("reference", references), ("hypothesis", hypotheses)):
        (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "reference"), "-i", str(folder / "hypothesis")]
    command += ["-m", "bleu", "chrf", "-w", "4", "--tokenize", tokenizer, "--force"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout)


def signature_fields(signature: str) -> dict[str, str]:
    return dict(field.split(":", 1) for field in signature.split("|"))


@pytest.mark.parametrize(
    ("language", "tokenizer", "words", "joint"),
    [
        ("en", "13a", ENGLISH, " "),
        ("zh", "zh", CHINESE, ""),
        ("ja", "ja-mecab", JAPANESE, ""),
        ("th", "char", THAI, ""),
    ],
)
def test_scores_and_signatures_are_those_of_sacrebleus_command_line(
    language: str, tokenizer: str, words: list[str], joint: str, tmp_path: Path
) -> None:
    if tokenizer == "ja-mecab" and not importlib.util.find_spec("MeCab"):
        pytest.skip("needs sacrebleu[ja]")
    sources, references, hypotheses = noisy_sets(words, joint)
    ours = score(hypotheses, references, sources, [1] * len(sources), edges=EDGES, language=language)
    theirs_bleu, theirs_chrf = command_line(references, hypotheses, tokenizer, tmp_path)
    copied_bleu, copied_chrf = command_line(references, sources, tokenizer, tmp_path)

    assert ours["bleu"] == pytest.approx(theirs_bleu["score"], abs=1e-4)
    assert ours["chrf"] == pytest.approx(theirs_chrf["score"], abs=1e-4)
    assert ours["copy_bleu"] == pytest.approx(copied_bleu["score"], abs=1e-4)
    assert ours["copy_chrf"] == pytest.approx(copied_chrf["score"], abs=1e-4)
    assert 1 < ours["bleu"] < 99, "the set tells good from bad"
    # "BP = 0.987 ratio = 0.987 hyp_len = 463 ref_len = 469"
    verbose = theirs_bleu["verbose_score"]
    assert f"BP = {ours['brevity_penalty']:.3f} ratio = {ours['length_ratio']:.3f} " in verbose
    assert f"hyp_len = {ours['hypothesis_tokens']} ref_len = {ours['reference_tokens']}" in verbose
    # Our signature may have further fields (the tokenizer's version) but no different ones.
    for name, theirs in (("bleu", theirs_bleu), ("chrf", theirs_chrf)):
        fields = signature_fields(ours["metrics"][name]["signature"])
        assert fields == {
            key: theirs[long]
            for key, long in [
                ("nrefs", "nrefs"),
                ("case", "case"),
                ("eff", "eff"),
                ("tok", "tok"),
                ("smooth", "smooth"),
                ("nc", "nc"),
                ("nw", "nw"),
                ("space", "space"),
                ("version", "version"),
            ]
            if long in theirs
        }
    assert signature_fields(ours["metrics"]["bleu"]["signature"])["tok"].startswith(tokenizer)


def test_signatures_count_the_references_as_sacrebleu_does() -> None:
    hypotheses = ["a cat sat", "two dogs run"]
    for references, number in (
        ([["a cat"], ["dogs"]], "1"),
        ([["a cat", "cats"], ["dogs", "two dogs"]], "2"),
        ([["a cat"], ["dogs", "two dogs"]], "var"),
    ):
        made = make_metrics({"main": "bleu", "others": ["chrf", "ter"], "options": []}, "en")
        scores = scoring.score(hypotheses, references, hypotheses, [3, 3], edges=[1], metrics=made)
        columns = [list(column) for column in itertools.zip_longest(*references)]
        for name, library in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
            theirs = library.corpus_score(hypotheses, columns)
            assert scores[name] == pytest.approx(theirs.score)
            assert scores["metrics"][name]["signature"] == str(library.get_signature())
            assert f"nrefs:{number}" in scores["metrics"][name]["signature"]


def test_what_cannot_be_an_output_is_not_scored_as_one() -> None:
    made = make_metrics({"main": "bleu", "others": ["chrf"], "options": []}, "en")
    scores = scoring.score(["a b c d"], [["a b c d"]], ["x"], [1], edges=[1], metrics=made, copies=False)
    assert not [name for name in scores if name.startswith("copy")]
    table = scoring.format_table(scores, "caption words")
    assert "copy" not in table
    assert table.startswith("caption words")
    heading, rule, *_ = table.splitlines()
    assert len(heading) == len(rule)


sentences = st.lists(st.sampled_from(["a", "b", "c", "d", "e."]), max_size=9).map(" ".join)


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=12), st.data())
def test_bleu_of_summed_statistics_is_sacrebleus_corpus_score(
    pairs: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Compare with sacreBLEU on subsets of the rows, with repetitions as in a bootstrap."""
    hypotheses, references = [hypothesis for hypothesis, _ in pairs], [reference for _, reference in pairs]
    chosen = data.draw(st.lists(st.integers(0, len(pairs) - 1), min_size=1, max_size=15))
    total = bleu_statistics(hypotheses, references, "en")[chosen].sum(0)
    metric = sacrebleu.metrics.BLEU(tokenize="13a")
    theirs = metric.corpus_score([hypotheses[i] for i in chosen], [[references[i] for i in chosen]])
    assert float(bleu_from_statistics(total)) == pytest.approx(theirs.score, abs=1e-9)
    if total[-2] or total[-1]:  # sacreBLEU does not define the penalty of two empty texts.
        assert float(brevity_penalty(total)) == pytest.approx(theirs.bp)


def test_statistics_are_computed_for_many_sums_at_once() -> None:
    """Each row of a matrix, as in a bootstrap, has the score that it has alone."""
    _, references, hypotheses = noisy_sets(ENGLISH, " ")
    rows = bleu_statistics(hypotheses, references, "en")
    sums = np.stack([rows[:20].sum(0), rows[20:].sum(0), np.zeros(10, dtype=np.int64)])
    alone = [bleu(hypotheses[:20], references[:20], "en"), bleu(hypotheses[20:], references[20:], "en"), 0.0]
    assert bleu_from_statistics(sums).tolist() == pytest.approx(alone)


def test_brevity_penalty_is_papinenis_formula() -> None:
    def statistics(hypothesis: int, reference: int) -> np.ndarray:
        return np.array([0] * 8 + [hypothesis, reference])

    assert brevity_penalty(statistics(50, 100)) == pytest.approx(math.exp(1 - 100 / 50))
    assert brevity_penalty(statistics(100, 100)) == 1
    assert brevity_penalty(statistics(200, 100)) == 1
    assert brevity_penalty(statistics(0, 100)) == 0


def test_buckets_partition_the_sentences_and_score_as_they_do_alone() -> None:
    sources, references, hypotheses = noisy_sets(ENGLISH, " ")
    words = [len(source.split()) for source in sources]
    result = score(hypotheses, references, sources, words, edges=EDGES, language="en")
    assert [bucket["source_words"] for bucket in result["buckets"]] == [[1, 3], [4, 7], [8, None]]
    assert sum(bucket["sentences"] for bucket in result["buckets"]) == result["sentences"] == len(sources)
    for bucket in result["buckets"]:
        low, high = bucket["source_words"]
        inside = [i for i, count in enumerate(words) if low <= count and (high is None or count <= high)]
        assert inside
        hypothesis, reference, source = ([side[i] for i in inside] for side in (hypotheses, references, sources))
        assert bucket["sentences"] == len(inside)
        assert bucket["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypothesis, [reference]).score)
        assert bucket["chrf"] == pytest.approx(sacrebleu.corpus_chrf(hypothesis, [reference]).score)
        assert bucket["copy_bleu"] == pytest.approx(sacrebleu.corpus_bleu(source, [reference]).score)
        assert bucket["copy_chrf"] == pytest.approx(sacrebleu.corpus_chrf(source, [reference]).score)
        assert bucket["brevity_penalty"] == pytest.approx(sacrebleu.corpus_bleu(hypothesis, [reference]).bp)


@given(
    st.lists(st.integers(2, 60), max_size=6, unique=True).map(lambda rest: [1, *sorted(rest)]), st.integers(1, 10_000)
)
def test_every_length_is_in_exactly_one_bucket(edges: list[int], length: int) -> None:
    holding = [low for low, high in length_buckets(edges) if low <= length and (high is None or length <= high)]
    assert len(holding) == 1


def test_a_bucket_without_sentences_has_no_score() -> None:
    result = score(["a b"], ["a b"], ["c d"], [2], edges=EDGES, language="en")
    empty = result["buckets"][1]
    assert empty["sentences"] == 0
    assert empty["bleu"] is empty["chrf"] is empty["copy_bleu"] is empty["brevity_penalty"] is None
    json.dumps(result, allow_nan=False)  # metrics.json needs plain values.


@pytest.mark.parametrize("edges", [[], [0, 10], [2, 10], [1, 1], [1, 20, 10]])
def test_edges_that_leave_a_length_without_a_bucket_or_with_two_are_refused(edges: list[int]) -> None:
    with pytest.raises(UserError, match=r"^edges=.*set whole numbers that rise, the first of them 1$"):
        length_buckets(edges)


def test_sequences_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        score(["a"], ["a", "b"], ["a", "b"], [1, 1], edges=EDGES, language="en")
    with pytest.raises(ValueError, match="without words"):
        score(["a"], ["a"], [""], [0], edges=EDGES, language="en")


@pytest.mark.parametrize(
    ("language", "tokenizer"),
    [
        ("de", "13a"),
        ("zxx", "13a"),
        ("ko", "13a"),  # written with spaces
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zho_Hans", "zh"),
        ("ja", "ja-mecab"),
        ("jpn_Jpan", "ja-mecab"),
        ("th", "char"),
        ("KM", "char"),
        # Chinese languages of other names, and scripts that are named.
        *((code, "zh") for code in ("gan", "wuu", "nan", "hak", "cmn", "chi", "lzh", "yue-HK", "vi-Hani")),
        *((code, "char") for code in ("tha", "lao", "khm", "mya", "bur", "bod", "tib", "dzo", "shn", "nod")),
        *((code, "13a") for code in ("zh-Latn", "ja_Latn", "vi", "ger", "iw", "tok", "und", "klingon")),
    ],
)
def test_the_bleu_tokenizer_follows_the_target_language(language: str, tokenizer: str) -> None:
    assert bleu_tokenizer(language) == tokenizer
    assert is_unspaced(language) == (tokenizer != "13a"), "words are counted as BLEU sees the language"


def test_every_tokenizer_named_is_one_of_sacrebleus() -> None:
    named = {bleu_tokenizer(language) for language in ("zh", "ja", "th", "de")}
    assert named == {"zh", "ja-mecab", "char", "13a"}
    assert named <= set(sacrebleu.metrics.bleu._TOKENIZERS)


def test_a_tokenizer_that_is_not_installed_is_reported_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(**_options: str) -> None:
        raise RuntimeError("please install MeCab")

    monkeypatch.setattr(translation, "BLEU", missing)
    with pytest.raises(UserError, match=r"^target language ja: .*ja-mecab is not installed; pip install [^\n]*$"):
        make_metrics(OF_TRANSLATION, "ja")


def test_table_shows_each_bucket_and_marks_those_with_few_sentences() -> None:
    many = FEW + 10
    hypotheses = references = ["the dog sleeps here"] * many + ["a bird sings near the old river"]
    sources = ["der hund schläft hier"] * many + ["ein vogel singt am alten fluss nun"]
    words = [len(source.split()) for source in sources]
    result = score(hypotheses, references, sources, words, edges=[1, 5, 7, 8, 100], language="en")
    table = format_table(result)
    rows = {line.split()[0]: line.split() for line in table.splitlines()}
    assert rows["1-4"][1:3] == [str(many), "100.00"]
    assert rows["5-6"][1:] == ["0*", "-", "-", "-", "-", "-", "-"]
    assert rows["7"][1] == "1*"
    assert rows["all"][1] == str(many + 1)
    assert rows["all"][3] == f"{result['copy_bleu']:.2f}"
    assert f"*: fewer than {FEW} sentences" in table
    assert all(facts["signature"] in table for facts in result["metrics"].values())
    heading, *_, last = [line for line in table.splitlines() if line.startswith(("source words", "all", "1-4", "7"))]
    assert len(heading) == len(last), "columns stand under their names"
    # With enough sentences everywhere, the table has no note.
    assert "*" not in format_table(
        score(hypotheses[:many], references[:many], sources[:many], words[:many], edges=[1], language="en")
    )
