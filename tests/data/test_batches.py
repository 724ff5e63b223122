"""Batches: budget, order, and the shares of ranks and parts, measured on the batches that a loader reads."""

import itertools
import math
import pickle
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers import TINY, compose_config
from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass.config.options import build
from hourglass.corpora.corpus import Corpus, load_corpus
from hourglass.data import encoded as encoded_module
from hourglass.data.batches import (
    NO_ROW,
    IntArray,
    Part,
    StreamSampler,
    TrainingStream,
    cut,
    in_order,
    join_at_random,
)
from hourglass.data.encoded import EncodedSplit, Lists, encode_corpus, pad
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.tokenizer import TokenizerSettings, Vocabularies, train_vocabularies
from hourglass.errors import UserError
from hourglass.models.build import build_model
from hourglass.training.datamodule import TranslationData

Splits = dict[str, EncodedSplit]


def drawn_lengths(pairs: int = 300, longest: int = 40, seed: int = 0) -> tuple[IntArray, IntArray]:
    random = np.random.default_rng(seed)
    source = random.integers(1, longest, size=pairs)
    return source, np.clip(source + random.integers(-3, 4, size=pairs), 1, None)


def stream_of(lengths: tuple[IntArray, IntArray], **options: float) -> TrainingStream:
    given: dict[str, Any] = {"batch_tokens": 200, "target_tokens": 10_000, "validations": 1, "seed": 1} | options
    return TrainingStream(*lengths, **given)


def read(stream: TrainingStream, first_step: int = 0, rank: int = 0, ranks: int = 1, accumulate: int = 1) -> list[Part]:
    return list(stream.parts(first_step=first_step, rank=rank, ranks=ranks, accumulate=accumulate))


def alike(some: list[Part], others: list[Part]) -> bool:
    def plain(parts: list[Part]) -> list[tuple[Any, ...]]:
        nulled = [None if part.nulled is None else part.nulled.tolist() for part in parts]
        return [(part.rows.tolist(), *part[1:3], own) for part, own in zip(parts, nulled, strict=True)]

    return plain(some) == plain(others)


# ---- Cutting ---------------------------------------------------------------------------------------------------------

lengths_of_pairs = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=60)


@settings(deadline=None)
@given(lengths_of_pairs, st.integers(1, 120))
def test_batches_keep_the_budget_hold_all_and_could_not_be_fewer_in_that_order(
    pairs: list[tuple[int, int]], budget: int
) -> None:
    source, target = (np.array(side) for side in zip(*pairs, strict=True))
    order = np.random.default_rng(0).permutation(len(pairs))
    batches = cut(order, source, target, budget)
    assert np.concatenate(batches).tolist() == order.tolist()

    def padded(rows: list[int]) -> int:
        return len(rows) * max(max(pairs[row]) for row in rows)

    for batch in batches:
        assert padded(batch.tolist()) <= budget or len(batch) == 1
    for batch, following in zip(batches, batches[1:], strict=False):  # noqa: RUF007 (the pair reads better)
        assert padded([*batch.tolist(), int(following[0])]) > budget, "the next sentence had no room"


@settings(deadline=None)
@given(lengths_of_pairs, st.integers(1, 120))
def test_in_order_reads_every_sentence_once_by_source_length(pairs: list[tuple[int, int]], budget: int) -> None:
    source, target = (np.array(side) for side in zip(*pairs, strict=True))
    rows = np.concatenate(in_order(source, target, budget))
    assert sorted(rows.tolist()) == list(range(len(pairs)))
    assert source[rows].tolist() == sorted(source.tolist())


# ---- The stream ------------------------------------------------------------------------------------------------------


def test_every_epoch_reads_all_sentences_once_in_an_order_of_its_own() -> None:
    stream = stream_of(drawn_lengths())
    epochs = [stream.epoch(number) for number in range(3)]
    for batches in epochs:
        assert sorted(np.concatenate(batches).tolist()) == list(range(300))
        longest = [int(np.maximum(stream.source_lengths, stream.target_lengths)[batch].max()) for batch in batches]
        assert all(len(batch) * most <= 200 for batch, most in zip(batches, longest, strict=True))
        # Shuffled: unrelated neighbours, so about every second batch is shorter than the one before.
        falls = sum(later < earlier for earlier, later in itertools.pairwise(longest))
        assert len(longest) / 4 < falls < 3 * len(longest) / 4
    members = [Counter(frozenset(batch.tolist()) for batch in batches) for batches in epochs]
    assert members[0] != members[1] != members[2], "equal lengths meet in other batches"


def test_the_run_ends_with_the_step_that_reaches_the_budget() -> None:
    """The steps are counted here from what is read; with several validations they are rounded to a multiple."""
    lengths = drawn_lengths()
    whole = int(lengths[1].sum())
    for budget in (1, 1_000, whole, whole + 1, 3 * whole - 7):
        parts = read(stream_of(lengths, target_tokens=budget))
        tokens = [part.step_tokens for part in parts]
        assert sum(tokens) >= budget > sum(tokens[:-1])
        unrounded = len(parts)
        stream = stream_of(lengths, target_tokens=budget, validations=4)
        assert stream.steps == 4 * stream.validate_every == len(read(stream))
        assert abs(stream.steps - unrounded) <= 3


def test_step_tokens_and_padding_share_are_those_of_the_batches_read() -> None:
    lengths = drawn_lengths()
    stream = stream_of(lengths)
    real = positions = 0
    for part in read(stream):
        source, target = ([int(side[row]) for row in part.rows] for side in lengths)
        assert part.step_tokens == sum(target)
        real += sum(source) + sum(target)
        positions += len(part.rows) * (max(source) + max(target))
    assert stream.padding_share == pytest.approx(1 - real / positions)


@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_curriculum_reads_the_same_batches_and_the_longest_when_it_ends(share: float) -> None:
    lengths = drawn_lengths(3000, longest=60)
    longer = np.maximum(*lengths)
    options = {"target_tokens": int(0.9 * lengths[1].sum()), "seed": 3}
    plain, graded = stream_of(lengths, **options), stream_of(lengths, curriculum=share, **options)

    def batches(stream: TrainingStream) -> Counter[frozenset[int]]:
        return Counter(frozenset(batch.tolist()) for batch in stream.epoch(0))

    assert batches(plain) == batches(graded)
    assert stream_of(lengths, curriculum=0.0, **options).epoch(0)[0].tolist() == plain.epoch(0)[0].tolist()
    tokens, longest = 0, [int(longer[batch].max()) for batch in graded.epoch(0)]
    for number, batch in enumerate(graded.epoch(0)):
        progress = tokens / (share * options["target_tokens"])
        # No more than this share of all pairs is shorter than the batch, unless only longer ones are left.
        if progress < 1 and (longer < longest[number]).mean() > 0.1 + 0.9 * progress:
            assert longest[number] == min(longest[number:])
        tokens += int(lengths[1][batch].sum())
    first = np.concatenate(graded.epoch(0)[:5])
    assert longer[first].max() <= np.quantile(longer, 0.2)
    # Past the curriculum the order is that of the plain stream, without what was read.
    places = {frozenset(batch.tolist()): place for place, batch in enumerate(plain.epoch(0))}
    order = [places[frozenset(batch.tolist())] for batch in graded.epoch(0)]
    tail = order[math.ceil((share + 0.02) * len(order)) :]
    assert share == 1.0 or tail == sorted(tail)
    # From any step on, the stream is the same.
    assert alike(read(graded)[40:], read(graded, first_step=40))


def test_a_curriculum_of_several_epochs_reads_every_pair_once_in_each() -> None:
    lengths = drawn_lengths(100)
    whole = int(lengths[1].sum())
    stream = stream_of(lengths, curriculum=0.8, target_tokens=3 * whole)
    for number in range(3):
        assert sorted(np.concatenate(stream.epoch(number)).tolist()) == list(range(100))
    # In the first epoch short batches run out, and the next longer ones follow; in the last, the curriculum has ended.
    longest = [int(np.maximum(*lengths)[batch].max()) for batch in stream.epoch(0)]
    assert longest[: len(longest) // 2] == sorted(longest[: len(longest) // 2])
    plain = stream_of(lengths, target_tokens=3 * whole)
    assert [batch.tolist() for batch in stream.epoch(3)] == [batch.tolist() for batch in plain.epoch(3)]


def test_one_seed_is_one_stream_and_another_another() -> None:
    lengths = drawn_lengths()
    first = read(stream_of(lengths))
    assert alike(first, read(stream_of(lengths)))
    other = read(stream_of(lengths, seed=2))
    assert not alike(first[:20], other[:20])
    # The budget cuts the stream off and changes nothing before.
    assert alike(first, read(stream_of(lengths, target_tokens=20_000))[: len(first)])
    # Nor does the global random state.
    np.random.seed(7)
    assert alike(first, read(stream_of(lengths)))


@pytest.mark.parametrize(("ranks", "accumulate"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_a_resumed_stream_is_the_tail_of_the_unbroken_one(ranks: int, accumulate: int) -> None:
    stream = stream_of(drawn_lengths(), null_source=0.3)
    of_an_epoch = len(stream.epoch(0))
    assert stream.steps > of_an_epoch + 3
    whole = read(stream, 0, ranks - 1, ranks, accumulate)
    assert len(whole) == stream.steps * accumulate
    for first_step in (0, 1, of_an_epoch - 1, of_an_epoch, of_an_epoch + 3, stream.steps):
        assert alike(read(stream, first_step, ranks - 1, ranks, accumulate), whole[first_step * accumulate :])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 100))
def test_ranks_and_parts_share_out_each_global_batch(ranks: int, accumulate: int, seed: int) -> None:
    """A budget so small that batches have fewer sentences than there are shares: blanks stand in."""
    stream = stream_of(drawn_lengths(60, seed=seed), batch_tokens=60, target_tokens=2_000)
    single = read(stream)
    shares = [read(stream, 0, rank, ranks, accumulate) for rank in range(ranks)]
    assert {len(share) for share in shares} == {stream.steps * accumulate}, "no rank waits for another"
    for step, whole in enumerate(single):
        parts = [part for share in shares for part in share[step * accumulate : (step + 1) * accumulate]]
        rows = [row for part in parts if not part.blank for row in part.rows.tolist()]
        assert sorted(rows) == sorted(whole.rows.tolist())
        assert {part.step_tokens for part in parts} == {whole.step_tokens}
        assert sum(part.blank for part in parts) == max(0, len(parts) - len(whole.rows))
        sizes = [0 if part.blank else len(part.rows) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_share_of_the_sources_is_nulled_anew_in_every_epoch(share: float) -> None:
    lengths = drawn_lengths()
    given: dict[str, float] = {"target_tokens": 2 * int(lengths[1].sum())}
    stream = stream_of(lengths, null_source=share, **given)
    parts, plain = read(stream), read(stream_of(lengths, **given))
    assert [part.rows.tolist() for part in parts] == [part.rows.tolist() for part in plain]
    draws: list[dict[int, bool]] = [{}, {}]  # Of two epochs, by row.
    for number, part in enumerate(parts):
        assert part.nulled is not None
        draws[number >= len(stream.epoch(0))] |= dict(zip(part.rows.tolist(), part.nulled.tolist(), strict=True))
    first, second = (np.array([own[row] for row in range(300)]) for own in draws)
    error = (share * (1 - share) / 300) ** 0.5
    assert first.mean() == pytest.approx(share, abs=4 * error)
    assert second.mean() == pytest.approx(share, abs=4 * error)
    # Independent draws: the share of those that were nulled before, and of those that were not, is the same.
    assert (first & second).mean() == pytest.approx(share**2, abs=4 * (share**2 * (1 - share**2) / 300) ** 0.5)


def test_which_sources_are_nulled_follows_the_seed_and_the_step() -> None:
    """For the same batches: those of a stream whose sentences all have one length and are one batch."""
    lengths = np.full(500, 4), np.full(500, 4)
    streams = [
        stream_of(lengths, batch_tokens=2000, target_tokens=3000, null_source=0.5, seed=seed) for seed in (1, 1, 2)
    ]
    [first, later], same, other = ([part.nulled for part in read(stream)] for stream in streams)
    assert first is not None
    assert later is not None
    assert len(first) == 500
    assert [mask.tolist() for mask in same if mask is not None] == [first.tolist(), later.tolist()]
    # Of another seed, or of another step, half of them are the same by chance.
    assert 200 < (first == other[0]).sum() < 300
    assert 200 < (first == later).sum() < 300


def test_no_source_is_nulled_by_default() -> None:
    assert all(part.nulled is None for part in read(stream_of(drawn_lengths())))


@pytest.mark.parametrize(("ranks", "accumulate"), [(3, 1), (1, 3), (2, 2), (4, 4)])
def test_the_same_sources_are_nulled_on_any_number_of_ranks_and_parts(ranks: int, accumulate: int) -> None:
    stream = stream_of(drawn_lengths(60), batch_tokens=60, target_tokens=2_000, null_source=0.4)
    shares = [read(stream, 0, rank, ranks, accumulate) for rank in range(ranks)]
    for step, whole in enumerate(read(stream)):
        parts = [part for share in shares for part in share[step * accumulate : (step + 1) * accumulate]]
        own = [dict(zip(part.rows.tolist(), part.nulled, strict=True)) for part in parts if part.nulled is not None]
        assert {row: value for each in own for row, value in each.items()} == dict(
            zip(whole.rows.tolist(), whole.nulled, strict=True)  # type: ignore[arg-type]
        )


def test_the_sampler_is_as_long_as_the_whole_run_and_yields_what_is_left() -> None:
    """Lightning 2.6 adds what was run before the resume to what it fetches, and compares with the length."""
    stream = stream_of(drawn_lengths())
    fresh, resumed = (StreamSampler(stream, first_step=step, rank=0, ranks=1, accumulate=2) for step in (0, 5))
    assert len(fresh) == len(resumed) == 2 * stream.steps == len(list(fresh))
    assert len(list(resumed)) == len(fresh) - 10
    assert alike(list(resumed), list(fresh)[10:])


# ---- Encoded splits --------------------------------------------------------------------------------------------------

NUMBERS = ["data=numbers", "data.train_pairs=300", "data.dev_pairs=24", "data.test_pairs=24"]


@pytest.fixture(scope="module")
def numbers(session_cache: Path) -> tuple[Corpus, Vocabularies]:
    config = compose_config(*NUMBERS)
    corpus = load_corpus(config["data"], session_cache)
    own = build(TokenizerSettings, config["tokenizer"], "tokenizer")
    return corpus, train_vocabularies(own, corpus.splits["train"], corpus.digest, session_cache)


@pytest.fixture
def encoded(numbers: tuple[Corpus, Vocabularies], session_cache: Path) -> Splits:
    return encode_corpus(*numbers, session_cache)


def test_a_batch_holds_the_text_framed_and_padded(numbers: tuple[Corpus, Vocabularies], encoded: Splits) -> None:
    corpus, vocabularies = numbers
    rows = np.array([7, 0, 299])
    batch = encoded["train"][Part(rows, 55)]
    texts = corpus.splits["train"].select(rows)
    assert batch.rows.tolist() == rows.tolist()
    assert batch.step_tokens == 55
    for side, ids, tokenizer in (
        ("source", batch.source, vocabularies.source),
        ("target", batch.target, vocabularies.target),
    ):
        expected = [[*row, EOS] for row in tokenizer.encode(texts[side])]
        if side == "target":
            expected = [[BOS, *row] for row in expected]
        longest = max(map(len, expected))
        assert ids.tolist() == [row + [PAD] * (longest - len(row)) for row in expected]
        assert tokenizer.decode(ids.tolist()) == texts[side]
    assert batch.source_lengths.tolist() == (batch.source != PAD).sum(1).tolist()


def test_a_nulled_source_is_end_of_sentence_alone_and_its_target_is_whole(encoded: Splits) -> None:
    train, rows = encoded["train"], np.array([3, 0, 7, 1])
    whole = train[Part(rows, 55)]
    batch = train[Part(rows, 55, nulled=np.array([True, False, True, False]))]
    assert batch.source_lengths.tolist() == [1, int(whole.source_lengths[1]), 1, int(whole.source_lengths[3])]
    longest = int(batch.source_lengths.max())
    expected = whole.source[:, :longest].clone()
    expected[[0, 2]] = torch.tensor([EOS] + [PAD] * (longest - 1))
    assert batch.source.tolist() == expected.tolist()
    assert batch.target.tolist() == whole.target.tolist()
    alone = train[Part(rows, 55, nulled=np.ones(4, dtype=bool))]
    assert alone.source.tolist() == [[EOS]] * 4
    # The split itself is as it was: a part of other rows reads all of its sources.
    assert train[Part(rows, 55)].source_lengths.tolist() == train.source_lengths[rows].tolist()


def test_lengths_count_the_end_of_sentence_and_match_every_batch(encoded: Splits) -> None:
    for split in encoded.values():
        batch = split[Part(np.arange(len(split)), 0)]
        assert split.source_lengths.tolist() == (batch.source != PAD).sum(1).tolist()
        assert split.target_lengths.tolist() == (batch.target[:, 1:] != PAD).sum(1).tolist()


def test_lists_are_those_of_the_table_wherever_its_chunks_end() -> None:
    lists = [[7, 8], [], [9], [1, 2, 3], [], [4]]
    whole = pa.array(lists, pa.list_(pa.int32()))
    column = pa.chunked_array([whole[:2], whole[2:2], whole[2:5], whole[5:]])  # One of them empty, all but one cut out.
    rows = np.array([5, 0, 3, 3, 2, 1, 4])
    assert [ids.tolist() for ids in Lists(column).rows(rows)] == [lists[row] for row in rows]
    assert list(Lists(column).rows(rows[:0])) == []


def test_a_split_goes_to_another_process_as_its_file(encoded: Splits) -> None:
    sent = pickle.dumps(encoded["train"])
    assert len(sent) < 1000
    part = Part(np.array([3, 1]), 5)
    first, other = pickle.loads(sent)[part], encoded["train"][part]
    assert torch.equal(first.source, other.source)
    assert torch.equal(first.target, other.target)


def test_pad_fills_on_the_right() -> None:
    assert pad([[5, 6], [7], []]).tolist() == [[5, 6], [7, PAD], [PAD, PAD]]
    framed = pad([np.array([5, 6]), np.array([7])], first=[BOS], last=[EOS])
    assert framed.tolist() == [[BOS, 5, 6, EOS], [BOS, 7, EOS, PAD]]


def test_parts_add_up_to_the_global_batch_and_a_blank_adds_nothing(
    numbers: tuple[Corpus, Vocabularies], encoded: Splits
) -> None:
    """The loss of a model, summed over four shares of which two are blank, is that of the batch in one."""
    _, vocabularies = numbers
    size = vocabularies.source.size
    model = build_model(compose_config(*TINY), size, size, joint=True).eval()
    train = encoded["train"]
    stream = TrainingStream(
        train.source_lengths, train.target_lengths, batch_tokens=50, target_tokens=300, validations=1, seed=1
    )
    [step, whole] = next((number, part) for number, part in enumerate(read(stream)) if len(part.rows) == 2)

    def nll(part: Part) -> float:
        batch = train[part]
        with torch.no_grad():
            return float(model.loss(batch.source, batch.source_lengths, batch.target).nll)

    parts = [read(stream, 0, rank, 2, 2)[2 * step + turn] for rank in range(2) for turn in range(2)]
    assert [part.blank for part in parts].count(True) == 2
    assert all(nll(part) == 0 for part in parts if part.blank)
    assert sum(map(nll, parts)) == pytest.approx(nll(whole), rel=1e-5)


def test_encoding_is_cached_by_corpus_and_tokenizer(
    numbers: tuple[Corpus, Vocabularies], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    corpus, vocabularies = numbers
    written = []
    encode = encoded_module._encode_split

    def spy(split: Any, used: Vocabularies, file: Path) -> None:
        written.append(file.name)
        encode(split, used, file)

    monkeypatch.setattr(encoded_module, "_encode_split", spy)
    first = encode_corpus(corpus, vocabularies, tmp_path)
    assert sorted(written) == ["dev.arrow", "test.arrow", "train.arrow"]
    encode_corpus(corpus, vocabularies, tmp_path)
    assert len(written) == 3
    own = build(TokenizerSettings, compose_config(*NUMBERS, "tokenizer=char")["tokenizer"], "tokenizer")
    other = train_vocabularies(own, corpus.splits["train"], corpus.digest, tmp_path)
    longer = encode_corpus(corpus, other, tmp_path)
    assert len(written) == 6
    assert longer["train"].source_lengths.sum() > first["train"].source_lengths.sum()
    # Half deleted: encoded again.
    for file in tmp_path.glob("encoded/*/dev.arrow"):
        file.unlink()
    assert len(encode_corpus(corpus, vocabularies, tmp_path)["dev"]) == 24
    assert len(written) == 9


def test_an_unwritable_cache_is_named(numbers: tuple[Corpus, Vocabularies], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cache=.*/file/cache: cannot be written \([^\n]*\); set cache=FOLDER$"):
        encode_corpus(*numbers, tmp_path / "file" / "cache")


# ---- For the Trainer -------------------------------------------------------------------------------------------------


def data_of(encoded: Splits, *, rank: int = 0, ranks: int = 1, accumulate: int = 1, **options: int) -> TranslationData:
    train = encoded["train"]
    stream = TrainingStream(
        train.source_lengths, train.target_lengths, batch_tokens=300, target_tokens=6_000, validations=2, seed=1
    )
    data = TranslationData(encoded, stream, **{"batch_tokens": 300, "dev_sentences": 0} | options)
    trainer: Any = SimpleNamespace(
        global_rank=rank, world_size=ranks, accumulate_grad_batches=accumulate, global_step=0
    )
    data.trainer = trainer
    return data


def test_the_training_loader_reads_this_ranks_parts(encoded: Splits) -> None:
    data = data_of(encoded, rank=1, ranks=2, accumulate=2)
    loader = data.train_dataloader()
    wanted = read(data.stream, 0, 1, 2, 2)
    result = list(loader)
    assert len(loader) == len(result) == len(wanted)
    for batch, part in zip(result, wanted, strict=True):
        assert batch.rows.tolist() == part.rows.tolist()
        assert batch.step_tokens == part.step_tokens


def test_a_resumed_loader_goes_on_with_the_next_batch(encoded: Splits) -> None:
    before = data_of(encoded)
    assert before.trainer is not None
    before.trainer.global_step = 4  # type: ignore[misc]
    after = data_of(encoded)
    after.load_state_dict(before.state_dict())
    rows = [batch.rows.tolist() for batch in after.train_dataloader()]
    assert rows == [batch.rows.tolist() for batch in before.train_dataloader()][4:]
    assert len(after.train_dataloader()) == len(before.train_dataloader())


@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (1, {}),
        (2, {}),
        (3, {"dev_sentences": 7}),
        (4, {"dev_sentences": 5, "batch_tokens": 100_000}),  # one batch, to be shared all the same
    ],
)
def test_every_dev_sentence_is_read_on_one_rank_once(ranks: int, options: dict[str, int], encoded: Splits) -> None:
    rows, tokens = [], 0
    for rank in range(ranks):
        batches = list(data_of(encoded, rank=rank, ranks=ranks, **options).val_dataloader())
        assert batches, "Lightning would skip validation on this rank, and the others would wait"
        rows += [row for batch in batches for row in batch.rows.tolist()]
        tokens += sum(batch.step_tokens for batch in batches)
    total = len(encoded["dev"])
    count = options.get("dev_sentences") or total
    # One of each part of a split, which is in the order of its text.
    ends = [number * total // count for number in range(count + 1)]
    assert all(low <= row < high for row, low, high in zip(sorted(rows), ends[:-1], ends[1:], strict=True))
    assert tokens == encoded["dev"].target_lengths[rows].sum()


def test_fewer_dev_sentences_than_ranks_are_refused(encoded: Splits) -> None:
    with pytest.raises(UserError, match=r"^trainer.dev_sentences: 1 for 2 processes: set 2 or more$"):
        data_of(encoded, ranks=2, dev_sentences=1).val_dataloader()


# ---- Joined pairs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [2, 3, 7])
def test_pairs_are_joined_at_random_and_each_once(most: int) -> None:
    sizes: Counter[int] = Counter()
    for seed in range(200):
        pairs = 1 + seed % 40
        groups = join_at_random(pairs, most, np.random.default_rng(seed))
        assert sorted(groups[groups != NO_ROW]) == list(range(pairs))
        # Filled from the left, and never empty.
        assert all((row[: (row != NO_ROW).sum()] != NO_ROW).all() and row[0] != NO_ROW for row in groups)
        sizes.update((groups[:-1] != NO_ROW).sum(1).tolist())  # The last one takes what is left.
    assert set(sizes) == set(range(1, most + 1))
    expected = sizes.total() / most
    assert all(abs(count - expected) < 5 * expected**0.5 for count in sizes.values())


def test_each_epoch_joins_other_pairs_and_counts_their_tokens(
    numbers: tuple[Corpus, Vocabularies], encoded: Splits
) -> None:
    corpus, vocabularies = numbers
    train, texts = encoded["train"], corpus.splits["train"]
    options: dict[str, Any] = {
        "batch_tokens": 300,
        "target_tokens": int(2.5 * train.target_lengths.sum()),
        "validations": 1,
        "seed": 5,
    }
    stream = TrainingStream(train.source_lengths, train.target_lengths, **options, joined=3)
    seen: list[Counter[tuple[int, ...]]] = []
    for epoch in range(2):
        sentences: Counter[tuple[int, ...]] = Counter()
        for rows in stream.epoch(epoch):
            sentences.update(tuple(row[row != NO_ROW].tolist()) for row in rows)
        assert sorted(itertools.chain.from_iterable(sentences)) == list(range(len(train)))
        seen.append(sentences)
    several = [{each for each in sentences if len(each) > 1} for sentences in seen]
    assert len(several[0]) > 50
    assert not several[0] & several[1]
    tokens = pads = positions = 0
    for part in read(stream):
        batch = train[part]
        assert max(batch.source.shape[1], batch.target.shape[1] - 1) * len(part.rows) <= 300
        tokens += batch.step_tokens
        assert batch.step_tokens == int((batch.target[:, 1:] != PAD).sum())
        assert batch.source_lengths.tolist() == (batch.source != PAD).sum(1).tolist()
        pads += int((batch.source == PAD).sum() + (batch.target == PAD).sum())
        positions += batch.source.numel() + batch.target[:, 1:].numel()
    assert tokens == pytest.approx(options["target_tokens"], rel=0.02)
    assert stream.padding_share == pytest.approx(pads / positions, abs=1e-9)
    # The ids of joined pairs are those of their joined text.
    rows = stream.epoch(0)[0]
    batch = train[Part(rows, 1)]
    for row, source, target in zip(rows, batch.source.tolist(), batch.target.tolist(), strict=True):
        pairs = texts.select(row[row != NO_ROW])
        (ids,) = vocabularies.source.encode([" ".join(pairs["source"])])
        assert source[: len(ids) + 1] == [*ids, EOS]
        (ids,) = vocabularies.target.encode([" ".join(pairs["target"])])
        assert target[: len(ids) + 2] == [BOS, *ids, EOS]
    assert batch.rows.tolist() == rows[:, 0].tolist()


def test_joined_pairs_are_the_same_on_any_number_of_ranks_and_after_a_resume() -> None:
    stream = stream_of(drawn_lengths(), joined=3)
    whole = read(stream)
    ranks = [read(stream_of(drawn_lengths(), joined=3), rank=rank, ranks=2) for rank in range(2)]
    for part, *shares in zip(whole, *ranks, strict=True):
        together = np.concatenate([share.rows for share in shares if not share.blank])
        assert sorted(map(tuple, together)) == sorted(map(tuple, part.rows))
    assert alike(read(stream_of(drawn_lengths(), joined=3), first_step=7), whole[7:])


# ---- The default run -------------------------------------------------------------------------------------------------


@pytest.mark.more
@pytest.mark.slow
def test_the_default_run_pads_less_than_5_percent(kjv_web: Corpus, session_cache: Path) -> None:
    """Counted on all the batches of the default run, as read: pads over positions, both sides together."""
    config = compose_config()
    own = build(TokenizerSettings, config["tokenizer"], "tokenizer")
    vocabularies = train_vocabularies(own, kjv_web.splits["train"], kjv_web.digest, session_cache)
    train = encode_corpus(kjv_web, vocabularies, session_cache)["train"]
    options = {key: config["trainer"][key] for key in ("batch_tokens", "target_tokens", "validations")}
    stream = TrainingStream(train.source_lengths, train.target_lengths, **options, seed=config["seed"])
    pads = positions = tokens = 0
    for part in read(stream):
        batch = train[part]
        assert (
            len(part.rows) * max(batch.source.shape[1], batch.target.shape[1] - 1) <= config["trainer"]["batch_tokens"]
        )
        for side in (batch.source, batch.target[:, 1:]):
            pads += int((side == PAD).sum())
            positions += side.numel()
        tokens += batch.step_tokens
    assert 0 < pads / positions < 0.05
    assert stream.padding_share == pytest.approx(pads / positions, abs=0.002)
    assert tokens == pytest.approx(config["trainer"]["target_tokens"], rel=0.01)


def test_any_corpus_streams_the_same_on_any_number_of_ranks(kjv_web: Corpus) -> None:
    """Words stand for tokens here: what is asked is that the global batches do not know who reads them."""
    words = np.array(kjv_web.splits["train"]["source_words"][:])
    stream = TrainingStream(words, words, batch_tokens=2500, target_tokens=100_000, validations=1, seed=3)
    item = list(islice(stream.parts(first_step=0, rank=0, ranks=1, accumulate=1), 20))
    three = [list(islice(stream.parts(first_step=0, rank=rank, ranks=3, accumulate=1), 20)) for rank in range(3)]
    for whole, *shares in zip(item, *three, strict=True):
        rows = np.concatenate([share.rows for share in shares])
        assert sorted(rows.tolist()) == sorted(whole.rows.tolist())
