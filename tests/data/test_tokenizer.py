"""Text to ids and back, with every model; what is trained on, kept, and refused."""

import functools
import json
import multiprocessing
import pickle
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from helpers import compose_config
from hypothesis import given, settings
from hypothesis import strategies as st

from hourglass.config.options import build
from hourglass.corpora.corpus import Corpus
from hourglass.corpora.languages import count_words
from hourglass.data import tokenizer as tokenizer_module
from hourglass.data.pieces import BOS, EOS, FIXED_PIECES, PAD, UNK
from hourglass.data.tokenizer import Tokenizer, TokenizerSettings, Vocabularies, pieces_option, train_vocabularies
from hourglass.decoding.word_alignment import source_words, target_words
from hourglass.errors import UserError
from hourglass.training.settings import check_settings

Config = Callable[..., dict[str, Any]]

MODELS = ["unigram", "bpe", "char", "word"]
SIZES = {"unigram": 90, "bpe": 90, "char": 200, "word": 60}
GERMAN = ["der", "kleine", "große", "Hund", "Katze", "Häuser", "singt", "schläft", "am", "Fluss", ".", ","]
ENGLISH = ["the", "small", "big", "dog", "cat", "houses", "sings", "sleeps", "by", "river", ".", ",", "isn't"]


def made_rows(count: int = 400) -> datasets.Dataset:
    """Return pairs of drawn words, some of them made up from the letters of the language."""
    draw = random.Random(3)

    def texts(words: list[str]) -> list[str]:
        letters = sorted(set("".join(words)))
        lexicon = words * 10 + ["".join(draw.choices(letters, k=draw.randint(2, 7))) for _ in range(150)]
        return [" ".join(draw.choices(lexicon, k=draw.randint(2, 12))) for _ in range(count)]

    return datasets.Dataset.from_dict({"source": texts(GERMAN), "target": texts(ENGLISH)})


def settings_of(model: str, config: Config, **options: Any) -> TokenizerSettings:
    """Return the real config's settings of a model, at a size that the made rows can fill."""
    own = config(f"tokenizer={model}")["tokenizer"] | {"vocabulary_size": SIZES[model]} | options
    return build(TokenizerSettings, own, "tokenizer")


@pytest.fixture(scope="module")
def rows() -> datasets.Dataset:
    return made_rows()


@pytest.fixture(scope="module")
def trained(rows: datasets.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Vocabularies]:
    """Return a function from a model and options to vocabularies, each trained once."""
    from helpers import compose_config

    cache = tmp_path_factory.mktemp("tokenizers")

    @functools.cache
    def train(model: str, **options: Any) -> Vocabularies:
        return train_vocabularies(settings_of(model, compose_config, **options), rows, "made", cache)

    return train


# ---- Text and ids ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("model", MODELS)
def test_text_comes_back_as_it_was(
    model: str, joint: bool, trained: Callable[..., Vocabularies], rows: datasets.Dataset
) -> None:
    vocabularies = trained(model, joint=joint)
    for side, tokenizer in (("source", vocabularies.source), ("target", vocabularies.target)):
        ids = tokenizer.encode(rows[side])
        if model != "word":  # whose rarest words may not be in the vocabulary
            assert not any(UNK in row for row in ids)
            assert tokenizer.decode(ids) == rows[side][:]
        assert all(FIXED not in row for row in ids for FIXED in (PAD, BOS, EOS))
        assert max(map(max, ids)) < tokenizer.size <= SIZES[model]


@pytest.mark.parametrize("model", MODELS)
def test_fixed_ids_and_sizes(model: str, trained: Callable[..., Vocabularies]) -> None:
    tokenizer = trained(model).source
    assert tokenizer.pieces([0, 1, 2, 3]) == ["<pad>", "<s>", "</s>", "<unk>"]
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    if model != "char":
        assert tokenizer.size == SIZES[model] or model == "word"
    every = tokenizer.pieces(range(tokenizer.size))
    assert len(set(every)) == len(every)


def test_models_cut_as_their_names_say(trained: Callable[..., Vocabularies]) -> None:
    sentence = "the small dog sings ."
    pieces = {model: trained(model).target.pieces(trained(model).target.encode([sentence])[0]) for model in MODELS}
    assert pieces["word"] == [f"\u2581{word}" for word in sentence.split()]
    assert pieces["char"] == list("\u2581" + sentence.replace(" ", "\u2581"))
    for model in ("bpe", "unigram"):
        assert len(pieces["word"]) <= len(pieces[model]) < len(pieces["char"])
        assert "".join(pieces[model]) == "\u2581" + sentence.replace(" ", "\u2581")


def test_word_vocabulary_is_the_words_of_the_training_text(
    trained: Callable[..., Vocabularies], rows: datasets.Dataset
) -> None:
    vocabularies = trained("word")
    words = {word for side in ("source", "target") for text in rows[side] for word in text.split()}
    own = {piece.removeprefix("\u2581") for piece in vocabularies.source.pieces(range(4, vocabularies.source.size))}
    assert own <= words
    counts = Counter(word for side in ("source", "target") for text in rows[side] for word in text.split())
    assert min(counts[word] for word in own) >= max(counts[word] for word in words - own), "the most frequent"


def test_joint_shares_one_vocabulary_and_separate_has_two(trained: Callable[..., Vocabularies]) -> None:
    joint, separate = trained("bpe"), trained("bpe", joint=False)
    assert joint.joint
    assert joint.source is joint.target
    assert not separate.joint
    assert separate.source.digest != separate.target.digest
    # Each of two knows its own side only.
    assert UNK in separate.target.encode(["große Häuser"])[0]
    assert UNK not in separate.source.encode(["große Häuser"])[0]
    assert UNK not in joint.target.encode(["große Häuser"])[0]


def test_decoding_stops_at_the_end_and_passes_over_padding(trained: Callable[..., Vocabularies]) -> None:
    tokenizer = trained("bpe").target
    ids = tokenizer.encode(["the dog sings"])[0]
    framed = [BOS, *ids, EOS, *ids, PAD, PAD]
    assert tokenizer.decode([framed, torch.tensor(framed).tolist(), []]) == ["the dog sings", "the dog sings", ""]
    assert tokenizer.encode(["", "  "]) == [[], []]


letters = sorted(set("".join(GERMAN)))


SPELLINGS = ["<unk>", "<s>", "</s>", "<pad>", "x</s>y", "\u2581", "a\u2581b", "\u2585", "\u2047", "<0x41>", "a<s>"]
# Noncharacters, with which the tokenizer marks its own pieces.
SPELLINGS += ["\ufdd0", "\ufdd1", "\ufdd2s", "a\ufdd2pad", "\ufdd3", "\uffff"]


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_spellings_of_special_pieces_are_text_like_any_other(
    model: str, fallback: bool, tmp_path: Path, config: Config
) -> None:
    draw = random.Random(1)
    texts = [" ".join(draw.choices(SPELLINGS + GERMAN, k=draw.randint(1, 9))) for _ in range(300)]
    size = {"unigram": 64, "bpe": 66, "char": 200, "word": 33 - fallback}[model] + 256 * fallback
    options = settings_of(model, config, vocabulary_size=size, byte_fallback=fallback)
    split = datasets.Dataset.from_dict({"source": texts, "target": texts})
    tokenizer = train_vocabularies(options, split, "spellings", tmp_path).source
    ids = tokenizer.encode(texts)
    assert tokenizer.decode(ids) == texts
    assert not any(index < FIXED_PIECES for row in ids for index in row)
    # Pieces handed over by their text, for unknown words, are text as well.
    for text, row in zip(texts[:20], ids, strict=False):
        surfaces = tokenizer.surfaces(text)
        assert tokenizer.decode_with([UNK] * len(row), dict(enumerate(surfaces))) == text
    vocabularies = Vocabularies(tokenizer, tokenizer)
    for language in ("en", "zh"):
        counts = [count_words(text, language) for text in texts]
        assert [source_words(vocabularies, text, language)[-1].stop for text in texts] == counts
        assert [target_words(vocabularies, row, language)[-1].stop for row in ids] == counts


@settings(deadline=None)
@given(data=st.data(), model=st.sampled_from(["unigram", "bpe", "char"]))
def test_any_text_of_known_letters_comes_back(
    data: st.DataObject, model: str, trained: Callable[..., Vocabularies]
) -> None:
    tokenizer = trained(model).source
    text = data.draw(st.text(st.sampled_from([*letters, " "]), max_size=60))
    assert tokenizer.decode(tokenizer.encode([text])) == [" ".join(text.split())]


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8")), model=st.sampled_from(MODELS), fallback=st.booleans())
def test_any_text_is_encoded_and_comes_back_as_one_line(
    text: str, model: str, fallback: bool, trained: Callable[..., Vocabularies]
) -> None:
    options = {"byte_fallback": True, "vocabulary_size": SIZES[model] + 256} if fallback else {}
    tokenizer = trained(model, **options).source
    ids = tokenizer.encode([text])
    assert all(0 <= index < tokenizer.size and index not in (PAD, BOS, EOS) for index in ids[0])
    [back] = tokenizer.decode(ids)
    assert back == back.strip(" ")
    assert "\t" not in back
    assert len(back.splitlines()) <= 1
    if fallback:
        assert UNK not in ids[0]
        # All that ends a line, separates, or is SentencePiece's own space becomes one space.
        gaps = {chr(code) for code in [*range(33), *range(0x7F, 0xA0)]}
        spaced = "".join(" " if letter in gaps or letter.isspace() else letter for letter in text)
        assert back == " ".join(part for part in spaced.split(" ") if part)


@settings(deadline=None)
@given(data=st.data(), model=st.sampled_from(MODELS), fallback=st.booleans())
def test_any_ids_decode_to_one_line(
    data: st.DataObject, model: str, fallback: bool, trained: Callable[..., Vocabularies]
) -> None:
    """A model may write anything, bytes that are no UTF-8 among it."""
    options = {"byte_fallback": True, "vocabulary_size": SIZES[model] + 256} if fallback else {}
    tokenizer = trained(model, **options).target
    ids = data.draw(st.lists(st.integers(0, tokenizer.size - 1), max_size=30))
    [text] = tokenizer.decode([ids])
    assert len(text.splitlines()) <= 1
    content = [index for index in (ids[: ids.index(EOS)] if EOS in ids else ids) if index not in (PAD, BOS)]
    for language in ("en", "zh"):
        words = target_words(Vocabularies(tokenizer, tokenizer), content, language)
        assert {number for numbers in words for number in numbers} == set(range(count_words(text, language)))
    assert "\t" not in text
    text.encode("utf-8")  # Can be written to a file


def test_unknown_letters_are_unk_without_byte_fallback(trained: Callable[..., Vocabularies]) -> None:
    ids = trained("bpe").source.encode(["Hund \u0416"])[0]
    assert UNK in ids
    assert trained("bpe").source.decode([ids]) == ["Hund \u2047"]


# ---- Training --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_only_the_training_split_is_seen(kjv_web: Corpus, session_cache: Path, config: Config) -> None:
    """Without any but the training split at hand, the same model comes out, byte for byte."""
    settings = build(TokenizerSettings, config()["tokenizer"], "tokenizer")
    own = train_vocabularies(settings, kjv_web.splits["train"], kjv_web.digest, session_cache)
    alone = datasets.Dataset.from_dict({side: kjv_web.splits["train"][side][:] for side in ("source", "target")})
    assert own.source.size == 4000
    assert train_vocabularies(settings, alone, "alone", session_cache).digest == own.digest
    seen = {letter for side in ("source", "target") for text in kjv_web.splits["train"][side] for letter in text}
    pieces = own.source.pieces(range(4, own.source.size))
    assert {letter for piece in pieces for letter in piece} == (seen - {" "}) | {"\u2581"}


def test_training_is_repeatable_and_a_limit_of_lines_samples_evenly(
    rows: datasets.Dataset, tmp_path: Path, config: Config
) -> None:
    settings = settings_of("unigram", config)
    item = train_vocabularies(settings, rows, "made", tmp_path / "one")
    assert train_vocabularies(settings, rows, "made", tmp_path / "two").digest == item.digest
    # Of ten thousand rows only the last hundred are in Cyrillic; a sample of a hundred that is even has one of them.
    limited = datasets.Dataset.from_dict(
        {side: ["abcd" if i < 9_900 else "дж" for i in range(10_000)] for side in ("source", "target")}
    )
    own = settings_of("char", config, lines=100)
    tokenizer = train_vocabularies(own, limited, "limited", tmp_path).source
    assert set(tokenizer.pieces(range(4, tokenizer.size))) == set("\u2581abcdдж")


def test_the_cache_is_used_and_told_apart_by_settings_and_text(
    rows: datasets.Dataset, tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    train = tokenizer_module._train

    def spy(*given: Any) -> bytes:
        calls.append(given)
        return train(*given)

    monkeypatch.setattr(tokenizer_module, "_train", spy)
    first = train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path)
    assert train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path).digest == first.digest
    assert len(calls) == 1
    train_vocabularies(settings_of("bpe", config, vocabulary_size=91), rows, "made", tmp_path)
    train_vocabularies(settings_of("bpe", config), rows, "other text", tmp_path)
    assert len(calls) == 3
    for model in tmp_path.rglob("*.model"):
        model.unlink()
    assert train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path).digest == first.digest
    assert len(calls) == 4


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("model", ["unigram", "bpe", "word"])
def test_the_size_of_a_vocabulary_is_an_upper_limit(  # noqa: PLR0917
    model: str,
    joint: bool,
    rows: datasets.Dataset,
    tmp_path: Path,
    config: Config,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A text that yields fewer has as many as it yields; a line says so, from the cache too."""
    own = settings_of(model, config, vocabulary_size=5000, joint=joint)
    lines = []
    for _ in range(2):
        caplog.clear()
        with caplog.at_level("INFO"):
            vocabularies = train_vocabularies(own, rows, "made", tmp_path)
        lines += [line for line in caplog.messages if "yields only" in line]
    sides = ["source and target"] if joint else ["source", "target"]
    tokenizers = [vocabularies.source, vocabularies.target][: len(sides)]
    expected = [
        f"tokenizer.vocabulary_size=5000: the training split's {side} text yields only {tokenizer.size} pieces, and "
        "has these"
        for side, tokenizer in zip(sides, tokenizers, strict=True)
    ]
    assert lines == expected * 2
    # It is the largest that the trainer itself accepts, and the same as if it had been asked for.
    for tokenizer, columns in zip(
        tokenizers, [["source", "target"]] if joint else [["source"], ["target"]], strict=True
    ):
        exact = settings_of(model, config, vocabulary_size=tokenizer.size)
        assert tokenizer.model == tokenizer_module._train_exactly(exact, rows, columns)
        larger = settings_of(model, config, vocabulary_size=tokenizer.size + 1)
        with pytest.raises(RuntimeError, match="too high"):
            tokenizer_module._train_exactly(larger, rows, columns)
    if model == "word":
        words = {side: {word for text in rows[side] for word in text.split()} for side in ("source", "target")}
        counts = [len(words["source"] | words["target"])] if joint else list(map(len, words.values()))
        assert [tokenizer.size for tokenizer in tokenizers] == [count + FIXED_PIECES for count in counts]


@pytest.mark.parametrize("model", ["unigram", "bpe"])
def test_a_vocabulary_too_small_for_the_letters_is_refused_with_one_that_is_not(
    model: str, rows: datasets.Dataset, tmp_path: Path, config: Config
) -> None:
    with pytest.raises(UserError) as caught:
        train_vocabularies(settings_of(model, config, vocabulary_size=10), rows, "made", tmp_path)
    result = re.match(
        r"tokenizer.vocabulary_size=10: .* too many different characters for it; set tokenizer.vocabulary_size=(\d+)",
        str(caught.value),
    )
    assert result, caught.value
    assert train_vocabularies(settings_of(model, config, vocabulary_size=int(result[1])), rows, "made", tmp_path)


def test_a_message_names_the_setting_that_the_number_of_pieces_comes_from(
    rows: datasets.Dataset, tmp_path: Path
) -> None:
    """It is that of the corpus, whose value the tokenizer's own takes, unless that is set by itself."""
    for own, other in (
        ("data.vocabulary_size", "tokenizer.vocabulary_size"),
        ("tokenizer.vocabulary_size", "data.vocabulary_size"),
    ):
        composed = compose_config("data=copy", "tokenizer=bpe", f"{own}=10")
        with pytest.raises(UserError) as caught:
            train_vocabularies(
                build(TokenizerSettings, composed["tokenizer"], "tokenizer"),
                *(rows, "made", tmp_path, pieces_option(composed)),
            )
        assert str(caught.value).startswith(f"{own}=10: ")
        assert f"; set {own}=" in str(caught.value)
        assert other not in str(caught.value)
        with pytest.raises(UserError, match=f"^{own}=4: input should be greater than 4$"):
            check_settings(compose_config("data=copy", "tokenizer=bpe", f"{own}=4"))


def test_char_takes_its_size_as_an_upper_limit(trained: Callable[..., Vocabularies], rows: datasets.Dataset) -> None:
    used = {letter for side in ("source", "target") for text in rows[side] for letter in text}
    assert trained("char").source.size == len(used) + 4  # The space counts as its mark
    assert trained("char", vocabulary_size=12).source.size == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"byte_fallback": True, "vocabulary_size": 200},
            "tokenizer.vocabulary_size=200: tokenizer.byte_fallback=true",
        ),
        ({"model": "wordpiece"}, "tokenizer.model=wordpiece: input should be 'unigram', 'bpe', 'char' or 'word'"),
        ({"vocabulary_size": 4}, "tokenizer.vocabulary_size=4: input should be greater than 4"),
        (
            {"character_coverage": 0.5},
            "tokenizer.character_coverage=0.5: input should be greater than or equal to 0.98",
        ),
        ({"lines": 0}, "tokenizer.lines=0: input should be greater than 0"),
        ({"normalization": "lower"}, "tokenizer.normalization=lower: input should be 'identity', "),
        ({"cased": True}, "tokenizer.cased: no such option; tokenizer takes "),
    ],
)
def test_contradictory_and_unknown_options_are_refused(options: dict[str, Any], message: str, config: Config) -> None:
    with pytest.raises(UserError) as caught:
        build(TokenizerSettings, {**config()["tokenizer"], **options}, "tokenizer")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_an_unwritable_cache_is_named(rows: datasets.Dataset, tmp_path: Path, config: Config) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^cache=.*/file/cache: cannot be written \([^\n]*\); set cache=FOLDER$"):
        train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path / "file" / "cache")


# ---- Keeping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("joint", [True, False])
def test_vocabularies_survive_a_checkpoint(
    joint: bool, trained: Callable[..., Vocabularies], rows: datasets.Dataset, tmp_path: Path
) -> None:
    own = trained("bpe", joint=joint)
    torch.save({"vocabularies": own.state_dict()}, tmp_path / "checkpoint")
    state = torch.load(tmp_path / "checkpoint", weights_only=True)["vocabularies"]
    back = Vocabularies.from_state_dict(state)
    assert (back.digest, back.joint) == (own.digest, joint)
    assert back.source.encode(rows["source"]) == own.source.encode(rows["source"])
    assert back.target.decode(own.target.encode(rows["target"])) == rows["target"][:]


def _encode_elsewhere(vocabularies: Vocabularies, text: str) -> list[int]:
    return vocabularies.target.encode([text])[0]


@pytest.mark.more
@pytest.mark.slow
def test_vocabularies_go_to_other_processes(trained: Callable[..., Vocabularies]) -> None:
    own = trained("unigram", joint=False)
    copied = pickle.loads(pickle.dumps(own))
    assert copied.digest == own.digest
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        ids = pool.apply(_encode_elsewhere, (own, "the dog sings"))
    assert ids == own.target.encode(["the dog sings"])[0]


@pytest.mark.parametrize(
    "damage", [lambda model: b"", lambda model: model[: len(model) // 2], lambda model: b"no model at all" * 9]
)
def test_damaged_bytes_are_refused(damage: Callable[[bytes], bytes], trained: Callable[..., Vocabularies]) -> None:
    own = trained("bpe").source.model
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Tokenizer(damage(own))
    state = {
        "source": torch.tensor(list(damage(own)), dtype=torch.uint8),
        "target": trained("bpe").state_dict()["target"],
    }
    with pytest.raises(ValueError, match="not a SentencePiece model"):
        Vocabularies.from_state_dict(state)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match="a SentencePiece model"):
        Tokenizer(content)


def test_a_model_with_other_fixed_ids_is_refused(rows: datasets.Dataset) -> None:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(rows["source"][:]), model_writer=model, vocab_size=60, model_type="bpe", minloglevel=2
    )
    with pytest.raises(ValueError, match="other ids for padding, begin, end and unknown"):
        Tokenizer(model.getvalue())


def test_a_state_without_a_side_is_refused(trained: Callable[..., Vocabularies]) -> None:
    state = trained("bpe").state_dict()
    del state["target"]
    with pytest.raises(ValueError, match="need the parts source and target, not source"):
        Vocabularies.from_state_dict(state)


def test_a_damaged_cached_model_is_refused_by_name(rows: datasets.Dataset, tmp_path: Path, config: Config) -> None:
    train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path)
    [model] = tmp_path.rglob("joint.model")
    model.write_bytes(bytes(len(model.read_bytes())))  # Of the same size, so that it counts as there
    with pytest.raises(UserError, match=rf"^{model.parent}: damaged \([^\n]*\); delete this folder: [^\n]*$"):
        train_vocabularies(settings_of("bpe", config), rows, "made", tmp_path)


def test_the_cached_files_are_sentencepieces_own(trained: Callable[..., Vocabularies], tmp_path: Path) -> None:
    import sentencepiece

    (tmp_path / "m").write_bytes(trained("bpe").source.model)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m"))
    assert processor.encode("the dog") == trained("bpe").source.encode(["the dog"])[0]
    assert json.dumps(processor.encode("the dog", out_type=str))
