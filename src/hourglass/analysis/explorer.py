"""The attention explorer: one page of HTML in which one watches trained models translate, step by step.

Models translate greedily here, so that each word is the likeliest of those shown beside it. Vectors are shown by a few
of their numbers, the same few for all states of a model: those that vary most. A context that is a weighted sum of the
states is the weighted sum of the numbers shown, too.

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

from hourglass.corpora.corpus import load_corpus
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.errors import UserError
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.runs.folder import open_run
from hourglass.system.files import write_whole
from hourglass.training.settings import check_to_read

# F, numbers shown of a state or context.
SHOWN = 16


# Vectors are stored as whole numbers from minus to plus this, weights and probabilities from 0 to the other.
LEVELS = 9


PARTS = 1000


def explore(paths: Sequence[str], sentences: int, output: Path) -> str:
    """Write the page of some runs, and return what it is in a few words.

    Args:
        paths: run folders of one corpus.
        sentences: test sentences on the page.
        output: the file.

    Raises:
        UserError: a run is missing or damaged, or they are of different corpora.
    """
    runs = [open_run(path, "run") for path in paths]
    models = [load_trained(run.best) for run, _ in runs]
    for path, model in zip(paths, models, strict=True):
        if model.corpus_digest != models[0].corpus_digest:
            raise UserError(f"run: {path} and {paths[0]} are runs of different corpora: name runs of one")
    searches = [check_to_read(config).search for _, config in runs]
    config = runs[0][1]
    corpus = load_corpus(config["data"], Path(config["cache"]).expanduser())
    if corpus.digest != models[0].corpus_digest:
        raise UserError(f"run: the corpus of {paths[0]} has changed since: restore it, or train again")
    test = corpus.splits["test"]
    chosen = choose_sentences(test["source_words"][:], sentences)
    names = name_runs([one for _, one in runs])
    content = describe(
        dict(zip(names, models, strict=True)),
        [(test[i]["id"], test[i]["source"], test[i]["target"]) for i in chosen],
        dict(zip(names, searches, strict=True)),
        f"Watch it translate: {config['data']['name']}, {corpus.source_language} to {corpus.target_language}",
    )
    write_whole(output, write_page(content))
    size = output.stat().st_size / 1e6
    return f"{output} ({size:.1f} MB, {len(chosen)} sentences, {', '.join(names)})"


def name_runs(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a name for each run: its attention, with the seed or a number where that is not enough."""
    names = [config["attention"]["name"] for config in configs]
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
        alternatives: T lists of (piece, probability), likeliest first; the first is what was said.
        states: [S, M] of the encoder; M is 0 for one without states.
        contexts: [T, M] or None: the weighted sums of the states that the decoder was given.
        weights: [T, S] or None.
        summary: [D], the fixed vector.
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
    """Translate a sentence greedily and keep what is seen on the way.

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
    said: list[int] = []
    choices: list[list[tuple[str, float]]] = []
    weights: list[np.ndarray] = []
    while len(said) < limit and token != EOS:
        embedding = model.embedding(torch.tensor([token]))
        readout, state, weight = decoder.step(embedding, state, prepared, len(said))
        logits = model.output(readout)[0]
        logits[[PAD, BOS]] = float("-inf")  # Never said.
        best, places = logits.softmax(-1).topk(min(alternatives, len(logits) - 2))
        pieces = vocabularies.target.pieces(places.tolist())
        choices.append(list(zip(pieces, best.tolist(), strict=True)))
        token = int(places[0])
        said.append(token)
        if weight is not None:
            weights.append(weight[0].numpy())
    states, summary = memory.states[0].numpy(), memory.summary[0].numpy()
    contexts = np.stack(weights) @ states if weights else None
    return Followed(
        vocabularies.source.pieces(ids),
        vocabularies.target.pieces(said),
        choices,
        states,
        contexts,
        np.stack(weights) if weights else None,
        summary,
        vocabularies.target.decode([said])[0],
    )


def disorder(weights: np.ndarray) -> float:
    """Return how far from left to right a model looks: the share of pairs of steps whose source positions are swapped.

    Kendall's tau distance of the largest weights, 0 to 1; end-of-sentence's own step is left out.

    Args:
        weights: [T, S].
    """
    looked = weights[:-1].argmax(-1)
    pairs = len(looked) * (len(looked) - 1) / 2
    swapped = sum(int((looked[:i] > looked[i]).sum()) for i in range(1, len(looked)))
    return swapped / pairs if pairs else 0.0


def choose_sentences(lengths: Sequence[int], count: int) -> list[int]:
    """Return the numbers of sentences at even ranks of length, short to long.

    Args:
        lengths: source words of each sentence.
        count: how many at most.
    """
    order = np.argsort(np.asarray(lengths), kind="stable")
    if len(order) <= count:
        return order.tolist()
    return order[np.linspace(0, len(order) - 1, num=count).round().astype(int)].tolist()


def describe(
    models: Mapping[str, Trained], sentences: Sequence[tuple[str, str, str]], limits: Mapping[str, Any], title: str
) -> dict[str, Any]:
    """Return what the page shows: plain values.

    Args:
        models: by the name that the page calls them.
        sentences: id, source and reference of each.
        limits: by the same names: the search settings, whose `limit` ends a translation.
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
        "title": title,
        "levels": LEVELS,
        "parts": PARTS,
        "variants": [
            {
                "name": name,
                "attention": trained.config["attention"]["name"],
                "width": int(followed[name][0].summary.size),
                "reads": _reads(trained),
            }
            for name, trained in models.items()
        ],
        "sentences": [
            {
                "id": identity,
                "source": source,
                "reference": reference,
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
    """Return what the decoder is given: weights over states, the fixed vector at each step, or once."""
    attention = trained.model.decoder.attention
    if attention.has_weights:
        return "states"
    return "vector" if attention.context_size else "start"


@dataclass(frozen=True)
class _Shown:
    """Which numbers of a model's vectors are shown, and the value that is drawn full."""

    states: np.ndarray
    summary: np.ndarray
    scale: float
    summary_scale: float


def _shown(rows: Sequence[Followed]) -> _Shown:
    states = np.concatenate([row.states for row in rows])
    summaries = np.stack([row.summary for row in rows])
    return _Shown(_varying(states), _varying(summaries), _largest(states), _largest(summaries))


def _varying(vectors: np.ndarray) -> np.ndarray:
    """Return the places of the numbers that vary most, in their own order."""
    return np.sort(np.argsort(-vectors.std(0), kind="stable")[:SHOWN])


def _largest(vectors: np.ndarray) -> float:
    return float(np.quantile(np.abs(vectors), 0.99)) or 1.0 if vectors.size else 1.0


def _levels(vectors: np.ndarray, places: np.ndarray, scale: float) -> list[list[int]]:
    scaled = np.clip(vectors[:, places] / scale, -1, 1) * LEVELS
    rows: list[list[int]] = scaled.round().astype(int).tolist()
    return rows


def _view(one: Followed, shown: _Shown) -> dict[str, Any]:
    """Return one translation as the page reads it."""
    view: dict[str, Any] = {
        "source": [_readable(piece) for piece in one.source],
        "target": [_readable(piece) for piece in one.target],
        "text": one.text,
        "choices": [[[_readable(piece), round(PARTS * p)] for piece, p in step] for step in one.alternatives],
        "states": _levels(one.states, shown.states, shown.scale),
        "summary": _levels(one.summary[None], shown.summary, shown.summary_scale)[0],
    }
    if one.weights is not None:
        assert one.contexts is not None
        view["weights"] = (PARTS * one.weights).round().astype(int).tolist()
        view["contexts"] = _levels(one.contexts, shown.states, shown.scale)
    return view


def _readable(piece: str) -> str:
    """Return a piece as people read it; SentencePiece marks a word's beginning by U+2581."""
    return {"</s>": "(end)"}.get(piece, piece)


def write_page(content: Mapping[str, Any]) -> str:
    """Return the page: the template with its data in it, which needs nothing else to be opened."""
    template = resources.files("hourglass.analysis").joinpath("explorer.html").read_text(encoding="utf-8")
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # Inside a script element a tag could end it early.
    return template.replace("/*DATA*/null", data.replace("<", "\\u003c"))
