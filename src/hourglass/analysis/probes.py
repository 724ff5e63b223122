"""What probes find in the fixed vector of a run: the length of the source, which words it has, and which at position i.

Each question is asked of the vectors of the trained encoder, of those of the same encoder with random weights, and of
the trained encoder's with the labels in another order (`metrics.online_code`). What the trained one saves over the
last is in the vector; what it saves over random weights, training has put there or has made easier to read.

Shapes: N sentences, D width of the vector, K labels of a sentence.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hourglass.config.options import Config
from hourglass.corpora.corpus import check_recipe
from hourglass.corpora.languages import words_of
from hourglass.data.batches import in_order
from hourglass.data.encoded import pad
from hourglass.data.pieces import EOS
from hourglass.errors import UserError
from hourglass.metrics.online_code import online_code, shuffled
from hourglass.models.build import build_model
from hourglass.models.seq2seq import Seq2Seq, draw_evenly
from hourglass.system.bars import Bar
from hourglass.training.finished import FinishedRun

# Words that are asked for: the most frequent of those that at most this share of the sentences have. A word that most
# sentences have tells little.
WORDS, MOST = 50, 0.5
# Words at a position that are told apart: the most frequent ones; the others are one class.
AT_POSITION = 63
# A question of fewer sentences is not asked.
FEWEST = 500
BATCH_TOKENS = 4000


@dataclass(frozen=True)
class ProbeCode:
    """The code of the answers to a question, bits per sentence.

    Attributes:
        question: length, words, or the position.
        sentences: that the question is asked of.
        labels: K, answers for each.
        classes: of each answer.
        uniform: of a code that knows the classes alone.
        trained: of the online code, given the vectors of the trained encoder.
        random: given those of random weights.
        shuffled: given the trained encoder's, of answers in another order.
    """

    question: str
    sentences: int
    labels: int
    classes: int
    uniform: float
    trained: float
    random: float
    shuffled: float

    @property
    def compression(self) -> float:
        """How many times as long the uniform code is as that of the trained encoder's vectors."""
        return self.uniform / self.trained

    @property
    def saved(self) -> float:
        """Bits per sentence that the vectors save."""
        return self.shuffled - self.trained

    @property
    def learnt(self) -> float:
        """Bits per sentence that they save beside vectors of random weights."""
        return self.random - self.trained


@dataclass(frozen=True)
class ProbeResult:
    """What probes find in the vector of a run.

    Attributes:
        run: path of its folder.
        width: D.
        codes: of each question.
    """

    run: str
    width: int
    codes: list[ProbeCode]


@dataclass(frozen=True)
class Question:
    """A question about sources, with its answers.

    Attributes:
        name: see `ProbeCode.question`.
        rows: numbers of the sentences that it is asked of.
        labels: [len(rows), K].
        classes: of each label.
    """

    name: str
    rows: np.ndarray
    labels: Tensor
    classes: int


def check_probed(run: FinishedRun) -> None:
    """Check that a run has a fixed vector.

    Raises:
        UserError: it has none.
    """
    config = run.config
    if config["encoder"]["name"] == "blind":
        raise UserError(f"{run.path}: encoder=blind has no vector to probe")
    if config["data"].get("feature_size") is not None:
        raise UserError(
            f"{run.path}: data={config['data']['name']} has features, and probes ask for words of the source: name a "
            "run of a corpus of texts"
        )
    if config["decoder"]["start"] == "zero" and config["attention"]["name"] != "fixed":
        raise UserError(
            f"{run.path}: decoder.start=zero with attention={config['attention']['name']}: nothing reads a fixed "
            "vector, so there is none to probe"
        )


def read_probes(run: FinishedRun, sentences: int, positions: Sequence[int]) -> ProbeResult:
    """Measure the online codes of all questions.

    Args:
        run: whose best checkpoint is read.
        sentences: of train that are read, drawn at random, the same for all runs; 0: all; fewer if train has fewer.
        positions: in the source, from 1, that are asked for.

    Raises:
        UserError: the run has no fixed vector, or train has too few sentences, or `sentences` is too few.
    """
    check_probed(run)
    if 0 < sentences < FEWEST:
        raise UserError(f"sentences={sentences}: probes need {FEWEST} or more, or 0 for all of train")
    split = run.prepared.corpus.splits["train"]
    # At random: the lengths of a made corpus follow each other in a cycle, which even spaces could pick one of.
    drawn = np.random.default_rng(1).permutation(len(split))[: sentences or None]
    chosen = split.select(np.sort(drawn))
    if len(chosen) < FEWEST:
        raise UserError(f"{run.path}: train has {len(chosen)} sentences; probes need {FEWEST} or more")
    items = _items(run, chosen["id"][:], chosen["source"][:])
    questions = ask(items, "digit" if run.config["data"]["name"] == "numbers" else "word", positions)
    trained = run.trained
    ids = trained.vocabularies.source.encode(chosen["source"][:])
    vectors, random_vectors = (read_vectors(model, ids) for model in (trained.model, random_model(run)))
    codes = []
    with Bar(f"probing {run.path.name}", len(questions), "questions") as bar:
        for question in questions:
            codes.append(_measure(question, vectors, random_vectors))
            bar.update()
    return ProbeResult(str(run.path), vectors.shape[1], codes)


def _items(run: FinishedRun, ids: Sequence[str], sources: Sequence[str]) -> list[list[str]]:
    """Return the words of each source; of the corpus `numbers` the digits, which its words tell."""
    if run.config["data"]["name"] == "numbers":
        numbers = drawn_numbers(run.config)
        return [list(numbers[name]) for name in ids]
    return [words_of(text, run.prepared.corpus.source_language) for text in sources]


def drawn_numbers(config: Config) -> dict[str, str]:
    """Return the numbers of train, in digits, by their ids; the corpus has them in words alone, and is drawn again.

    Args:
        config: the settings of a run on `numbers`.
    """
    _, recipe = check_recipe(config["data"])
    return {pair.id: pair.places[0] for pair in recipe.pairs("train")}


def ask(items: Sequence[Sequence[str]], unit: str, positions: Sequence[int]) -> list[Question]:
    """Return the questions about sentences, each with its answers, those that hardly any sentence can answer left out.

    Args:
        items: words of each sentence, or digits.
        unit: word or digit, for names.
        positions: from 1.
    """
    everyone = np.arange(len(items))
    lengths = np.array([len(item) for item in items])
    questions = []
    if len(set(lengths)) > 1:
        values, number_of = np.unique(lengths, return_inverse=True)
        questions.append(Question(f"number of {unit}s", everyone, torch.from_numpy(number_of).view(-1, 1), len(values)))
    sets = [set(item) for item in items]
    frequency = Counter(word for own in sets for word in own)
    frequent = [word for word, count in frequency.most_common() if count <= MOST * len(items)][:WORDS]
    if frequent:
        has = torch.tensor([[int(word in own) for word in frequent] for own in sets])
        questions.append(Question(f"which of {len(frequent)} {unit}s", everyone, has, 2))
    for position in positions:
        rows = np.flatnonzero(lengths >= position)
        at = [items[row][position - 1] for row in rows.tolist()]
        number = {word: label for label, (word, _) in enumerate(Counter(at).most_common(AT_POSITION))}
        if len(rows) < FEWEST or len(set(at)) < 2:
            continue
        labels = torch.tensor([number.get(word, AT_POSITION) for word in at]).view(-1, 1)
        questions.append(Question(f"{unit} {position}", rows, labels, int(labels.max()) + 1))
    return questions


@torch.inference_mode()
def read_vectors(model: Seq2Seq, ids: Sequence[Sequence[int]]) -> Tensor:
    """Return the fixed vectors [N, D] of sources, without end-of-sentence, by a model in evaluation mode."""
    assert not model.training
    lengths = np.array([len(source) + 1 for source in ids])
    vectors = torch.empty(0)
    for batch in in_order(lengths, lengths, BATCH_TOKENS):
        source = pad([ids[row] for row in batch], last=[EOS])
        summary = model.encode(source, torch.from_numpy(lengths[batch])).summary.float()
        if not len(vectors):
            vectors = torch.empty(len(ids), summary.shape[1])
        vectors[torch.from_numpy(batch)] = summary
    return vectors.clone()


def random_model(run: FinishedRun) -> Seq2Seq:
    """Return the model of a run as it is before training, but for pretrained embeddings, in evaluation mode."""
    vocabularies = run.trained.vocabularies
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.config["seed"])
        model = build_model(
            run.config, vocabularies.source.size, vocabularies.target.size, joint=vocabularies.joint
        ).eval()
        if width := run.config["init_range"]:
            draw_evenly(model, width)
    return model


def _measure(question: Question, vectors: Tensor, random_vectors: Tensor) -> ProbeCode:
    rows = torch.from_numpy(question.rows)
    own, by_chance = vectors[rows], random_vectors[rows]
    code = online_code(own, question.labels, question.classes)
    return ProbeCode(
        question=question.name,
        sentences=len(rows),
        labels=question.labels.shape[1],
        classes=question.classes,
        uniform=code.uniform_bits / code.items,
        trained=code.bits_an_item,
        random=online_code(by_chance, question.labels, question.classes).bits_an_item,
        shuffled=online_code(own, shuffled(question.labels), question.classes).bits_an_item,
    )
