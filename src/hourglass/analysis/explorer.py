"""The attention explorer: a page of HTML that shows trained models translate, step by step.

The models decode greedily, so that each output piece is the likeliest of those shown beside it. Of each vector the page
shows a few numbers, the same ones for all states of a model: those that vary most. Where a context is a weighted sum of
the states, its numbers shown are that weighted sum of the numbers shown of the states.

Shapes: S source pieces (end-of-sentence the last), T output pieces (likewise), M memory width, C context width,
F numbers shown of a vector.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hourglass.corpora.corpus import prefixes_of
from hourglass.corpora.languages import count_words
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.word_alignment import weight_decimals
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained
from hourglass.system.files import write_whole
from hourglass.system.markup import visible
from hourglass.training.finished import FinishedRun

# F, numbers shown of a state or context.
SHOWN = 16


# Vectors are stored as whole numbers from -LEVELS to LEVELS, probabilities as ones from 0 to PARTS. Attention weights
# shrink as sentences grow, and have parts of their own in each translation.
LEVELS = 9


PARTS = 1000


# Pieces of a source on the page, with end-of-sentence: a browser draws a cell for each weight of the matrix.
LONGEST_SHOWN = 150


# What tells runs of one attention apart: the option as it is named, and where its value is.
NAMED = (
    ("encoder", "encoder", "name"),
    ("encoder.cell", "encoder", "cell"),
    ("decoder.cell", "decoder", "cell"),
)


def explore(paths: Sequence[str], sentences: int, output: Path) -> str:
    """Write the page of some runs, and return its name, size and contents as text.

    Args:
        paths: run folders of one corpus.
        sentences: test sentences on the page.
        output: the file.

    Raises:
        UserError: a run is missing or damaged, they are of different corpora, or all sentences are too long.
    """
    runs = [FinishedRun.open(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        if run.trained.corpus_digest != runs[0].trained.corpus_digest:
            raise UserError(f"run: {path} and {paths[0]} are runs of different corpora: name runs of one")
    corpus = runs[0].corpus
    if corpus.digest != runs[0].trained.corpus_digest:
        raise UserError(f"run: the corpus of {paths[0]} has changed since: restore it, or train again")
    test = corpus.splits["test"]
    if prefixes_of(test) is not None:
        raise UserError(
            f"run: {paths[0]} is a run of data={runs[0].config['data']['name']}, whose targets continue a given "
            "prefix, which the page cannot show: name runs of a corpus without prefixes"
        )
    vocabularies = {run.trained.vocabularies.digest: run.trained.vocabularies for run in runs}
    encoded = [each.source.encode(list(test["source"])) for each in vocabularies.values()]
    short = [i for i in range(len(test)) if all(len(rows[i]) < LONGEST_SHOWN for rows in encoded)]
    if not short:
        raise UserError(
            f"run: every test sentence of {paths[0]} has more than {LONGEST_SHOWN} pieces, too many to draw"
        )
    words = test["source_words"][:]
    chosen = [short[i] for i in choose_sentences([words[i] for i in short], sentences)]
    names = name_runs([run.config for run in runs])
    content = page_content(
        {name: run.trained for name, run in zip(names, runs, strict=True)},
        [(test[i]["id"], test[i]["source"], test[i]["target"]) for i in chosen],
        {name: run.settings.search for name, run in zip(names, runs, strict=True)},
        f"Watch it translate: {runs[0].config['data']['name']}, {corpus.source_language} to {corpus.target_language}",
    )
    write_whole(output, write_page(content))
    size = output.stat().st_size / 1e6
    long = len(test) - len(short)
    left_out = f"; left out: {long:,} test sentences of more than {LONGEST_SHOWN} pieces" if long else ""
    return f"{output} ({size:.1f} MB, {len(chosen)} sentences, {', '.join(names)}){left_out}"


def name_runs(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a distinct name for each run: its attention, and where runs share it, encoder and cells that differ.

    Where these are the same, too, it has its seed or a number.
    """
    names = [config["attention"]["name"] for config in configs]
    for option, group, key in NAMED:
        values = [config[group].get(key) for config in configs]
        if len(set(names)) < len(names) and len(set(values) - {None}) > 1:
            pairs = zip(names, values, strict=True)
            names = [name if value is None else f"{name} {option}={value}" for name, value in pairs]
    if len(set(names)) < len(names):
        names = [f"{name}, seed {config['seed']}" for name, config in zip(names, configs, strict=True)]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, 1)]
    return names


@dataclass(frozen=True)
class Followed:
    """One model's greedy translation of one sentence, step by step.

    Attributes:
        source: S pieces.
        target: T pieces; the last is end-of-sentence, unless the output limit came first.
        alternatives: T lists of (piece, probability), likeliest first; the first is the output.
        states: [S, M] of the encoder; M is 0 for an encoder without states.
        contexts: [T, M] weighted sums of the states; None without attention weights.
        weights: [T, S] attention weights; None without.
        summary: [D] the fixed vector.
        text: the translation.
    """

    source: list[str]
    target: list[str]
    alternatives: list[list[tuple[str, float]]]
    states: np.ndarray
    contexts: np.ndarray | None
    weights: np.ndarray | None
    summary: np.ndarray
    text: str


@torch.inference_mode()
def follow(trained: Trained, text: str, limit: int, alternatives: int = 5) -> Followed:
    """Translate a sentence greedily and keep the vectors, weights and probabilities of each step.

    Args:
        trained: the model.
        text: a sentence.
        limit: output pieces at most, end-of-sentence included.
        alternatives: pieces kept of each step, the chosen one among them.
    """
    model, vocabularies = trained.model, trained.vocabularies
    ids = [*vocabularies.source.encode([text])[0], EOS]
    memory = model.encode(torch.tensor([ids]), torch.tensor([len(ids)]))
    decoder, prepared = model.decoder, model.decoder.attention.prepare(memory)
    state, token = decoder.start(memory), BOS
    output: list[int] = []
    choices: list[list[tuple[str, float]]] = []
    weights: list[np.ndarray] = []
    while len(output) < limit and token != EOS:
        embedding = model.embedding(torch.tensor([token]))
        readout, state, weight = decoder.step(embedding, state, prepared, len(output))
        logits = model.output(readout)[0]
        logits[[PAD, BOS]] = float("-inf")  # Never in an output.
        best, places = logits.softmax(-1).topk(min(alternatives, len(logits) - 2))
        pieces = vocabularies.target.pieces(places.tolist())
        choices.append(list(zip(pieces, best.tolist(), strict=True)))
        token = int(places[0])
        output.append(token)
        if weight is not None:
            weights.append(weight[0].numpy())
    states, summary = memory.states[0].numpy(), memory.summary[0].numpy()
    contexts = np.stack(weights) @ states if weights else None
    return Followed(
        vocabularies.source.pieces(ids),
        vocabularies.target.pieces(output),
        choices,
        states,
        contexts,
        np.stack(weights) if weights else None,
        summary,
        vocabularies.target.decode([output])[0],
    )


def disorder(weights: np.ndarray) -> float:
    """Return how far attention departs from left to right: the share of pairs of steps whose source positions swap.

    This is Kendall's tau distance of the positions of the largest weights, from 0 to 1, without the last step.

    Args:
        weights: [T, S].
    """
    positions = weights[:-1].argmax(-1)
    pairs = len(positions) * (len(positions) - 1) / 2
    swapped = sum(int((positions[:i] > positions[i]).sum()) for i in range(1, len(positions)))
    return swapped / pairs if pairs else 0.0


def choose_sentences(lengths: Sequence[int], count: int) -> list[int]:
    """Return the numbers of sentences at evenly spaced ranks of length, short to long.

    Args:
        lengths: source words of each sentence.
        count: how many at most.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    if len(order) <= count:
        return order.tolist()
    return order[np.linspace(0, len(order) - 1, num=count).round().astype(int)].tolist()


def page_content(
    models: Mapping[str, Trained], sentences: Sequence[tuple[str, str, str]], limits: Mapping[str, Any], title: str
) -> dict[str, Any]:
    """Return the content of the page as plain values.

    Args:
        models: by their names on the page.
        sentences: id, source and reference of each.
        limits: search settings by the same names; their `limit` ends a translation.
        title: of the page.
    """
    followed = {
        name: [
            follow(trained, source, limits[name].limit(1 + len(trained.vocabularies.source.encode([source])[0])))
            for _, source, _ in sentences
        ]
        for name, trained in models.items()
    }
    shown = {name: _shown(rows) for name, rows in followed.items()}
    return {
        "title": visible(title),
        "levels": LEVELS,
        "parts": PARTS,
        "variants": [
            {
                "name": visible(name),
                "attention": trained.config["attention"]["name"],
                "width": int(followed[name][0].summary.size),
                "reads": _reads(trained),
            }
            for name, trained in models.items()
        ],
        "sentences": [
            {
                "id": identity,
                "source": visible(source),
                "words": count_words(source, next(iter(models.values())).languages[0]),
                "reference": visible(reference),
                "disorder": round(
                    float(
                        np.mean(
                            [
                                disorder(rows[number].weights)  # type: ignore[arg-type]
                                for name, rows in followed.items()
                                if rows[number].weights is not None and models[name].model.decoder.attention.reads_query
                            ]
                            or [0.0]
                        )
                    ),
                    4,
                ),
                "views": [_view(followed[name][number], shown[name]) for name in models],
            }
            for number, (identity, source, reference) in enumerate(sentences)
        ],
    }


def _reads(trained: Trained) -> str:
    """Return how the decoder receives the source: `states` by weights, the `vector` at each step, or at the `start`."""
    attention = trained.model.decoder.attention
    if attention.has_weights:
        return "states"
    return "vector" if attention.context_size else "start"


@dataclass(frozen=True)
class _Shown:
    """The places of the numbers that are shown of a model's vectors, and the value that fills a cell."""

    states: np.ndarray
    summary: np.ndarray
    scale: float
    summary_scale: float


def _shown(rows: Sequence[Followed]) -> _Shown:
    states = np.concatenate([row.states for row in rows])
    summaries = np.stack([row.summary for row in rows])
    return _Shown(_varying(states), _varying(summaries), _largest(states), _largest(summaries))


def _varying(vectors: np.ndarray) -> np.ndarray:
    """Return the places of the numbers that vary most, in ascending order."""
    return np.sort(np.argsort(-vectors.std(0), kind="stable")[:SHOWN])


def _largest(vectors: np.ndarray) -> float:
    return float(np.quantile(np.abs(vectors), 0.99)) or 1.0 if vectors.size else 1.0


def _levels(vectors: np.ndarray, places: np.ndarray, scale: float) -> list[list[int]]:
    scaled = np.clip(vectors[:, places] / scale, -1, 1) * LEVELS
    rows: list[list[int]] = scaled.round().astype(int).tolist()
    return rows


def _view(followed: Followed, shown: _Shown) -> dict[str, Any]:
    """Return one translation in the form that the page reads."""
    view: dict[str, Any] = {
        "source": [_readable(piece) for piece in followed.source],
        "target": [_readable(piece) for piece in followed.target],
        "text": visible(followed.text),
        "choices": [[[_readable(piece), round(PARTS * p)] for piece, p in step] for step in followed.alternatives],
        "states": _levels(followed.states, shown.states, shown.scale),
        "summary": _levels(followed.summary[None], shown.summary, shown.summary_scale)[0],
    }
    if followed.weights is not None:
        assert followed.contexts is not None
        view["parts"] = 10 ** weight_decimals(followed.weights.shape[1])
        view["weights"] = (view["parts"] * followed.weights).round().astype(int).tolist()
        view["contexts"] = _levels(followed.contexts, shown.states, shown.scale)
    return view


def _readable(piece: str) -> str:
    """Return a piece as readers see it; the page replaces U+2581, SentencePiece's mark of the start of a word."""
    return {"</s>": "(end)"}.get(piece, visible(piece))


def write_page(content: Mapping[str, Any]) -> str:
    """Return the page: the template with its data, which loads nothing else."""
    template = resources.files("hourglass.analysis").joinpath("explorer.html").read_text(encoding="utf-8")
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # A tag in the data could end the script element.
    return template.replace("/*DATA*/null", data.replace("<", "\\u003c"))
