"""The attention explorer: a page of HTML that shows trained models translate, step by step.

The models decode greedily, so that each output piece is the likeliest of those shown beside it. Of each vector the page
shows a few numbers, the same ones for all states of a model: those that vary most. Where a context is a weighted sum of
the states, its numbers shown are that weighted sum of the numbers shown of the states.

The page itself is made of the sources in the folder explorer/, by `npm run build` there: see its README.

Shapes: S source pieces (end-of-sentence the last) or regions of a picture, T output pieces (end-of-sentence the last),
M memory width, C context width, D summary width, H decoder state, R readout, F numbers shown of a vector, W words of a
reference.
"""

import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hourglass.analysis.beam_tree import as_plain, grow, of_a_tree
from hourglass.analysis.comparability import choose_blind
from hourglass.analysis.embeddings import WordMap, word_maps
from hourglass.analysis.grids import Grid, grids_of
from hourglass.analysis.histories import Course, TrainingPoint
from hourglass.analysis.labels import label_families, label_runs
from hourglass.analysis.likelihoods import best_temperature, encode_split, kept_likelihoods
from hourglass.analysis.live import LiveServer
from hourglass.analysis.state_probes import StateProbes, kept_state_probes
from hourglass.corpora.corpus import prefixes_of
from hourglass.corpora.languages import count_words
from hourglass.corpora.recipe import FeatureArray
from hourglass.data.encoded import pad_sources
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.data.sources import Source, encode_sources, has_features, is_features, positions_of, sources_of
from hourglass.decoding.search import SearchSettings
from hourglass.decoding.word_alignment import weight_decimals
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, Pairs, reference_nats
from hourglass.models.attention import ScoredAttention
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.models.encoder import RecurrentEncoder
from hourglass.system.files import write_whole
from hourglass.system.markup import visible
from hourglass.training.finished import FinishedRun

# F, numbers shown of a vector.
SHOWN = 16


# Pieces shown of each step.
ALTERNATIVES = 5


# Words of a map of embeddings.
MAP_WORDS = 500


# Where the built page takes its contents.
DATA_PLACE = "/*DATA*/null"


TEXT_PLACE = "<!--TEXT-->"


# Vectors are stored as whole numbers from -LEVELS to LEVELS, probabilities as ones from 0 to PARTS. Attention weights
# shrink as sentences grow, and have parts of their own in each translation.
LEVELS = 99


PARTS = 1000


# SentencePiece's mark of a space, at the start of a piece.
SPACE = "\u2581"


# Pieces of a source on the page, with end-of-sentence: a browser draws a cell for each weight of the matrix.
LONGEST_SHOWN = 200


def explore(
    paths: Sequence[str],
    sentences: int,
    output: Path,
    blind: Sequence[str] = (),
    *,
    checkpoints: int = 0,
    ladders: Sequence[Course] = (),
) -> str:
    """Write the page of some runs, and return its name, size and contents as text; see `open_page`.

    Args:
        paths: run folders of one corpus.
        sentences: test sentences on the page.
        output: the file.
        blind: run folders of a decoder that never sees the source.
        checkpoints: earlier checkpoints of each run.
        ladders: in place of them, see `open_page`.
    """
    page = open_page(paths, sentences, blind, checkpoints=checkpoints, ladders=ladders)
    write_whole(output, write_page(page.content))
    return f"{output} ({output.stat().st_size / 1e6:.1f} MB, {page.summary}"


def serve(
    paths: Sequence[str], sentences: int, port: int, blind: Sequence[str] = (), *, checkpoints: int = 0
) -> LiveServer:
    """Return a server of the page of some runs, on which these models translate what is typed; see `open_page`.

    Args:
        paths: run folders of one corpus.
        sentences: test sentences on the page.
        port: to listen on; 0: any that is free.
        blind: run folders of a decoder that never sees the source.
        checkpoints: earlier checkpoints of each run.
    """
    page = open_page(paths, sentences, blind, checkpoints=checkpoints)
    if page.models.grids is not None:
        raise UserError(f"serve: {paths[0]} reads features, which nobody types: write the page, without serve=true")
    return LiveServer(write_page(page.content | {"live": True}), page.models, port)


@dataclass(frozen=True)
class Page:
    """A page and the models that made it.

    Attributes:
        content: see `page_content`.
        models: that go on translating.
        summary: how many sentences and which variants the page has, and what it leaves out.
    """

    content: dict[str, Any]
    models: "LiveModels"
    summary: str


def open_page(
    paths: Sequence[str],
    sentences: int,
    blind: Sequence[str] = (),
    *,
    checkpoints: int = 0,
    ladders: Sequence[Course] = (),
) -> Page:
    """Follow the models of some runs through test sentences.

    Args:
        paths: run folders of one corpus.
        sentences: test sentences on the page.
        blind: run folders of a decoder that never sees the source, of which the best on dev counts: with its kept
            likelihoods, or with its checkpoint. Empty: the page shows no bits, and says so.
        checkpoints: of each run on the page as many earlier ones, at most, as it has kept; 0: none.
        ladders: what is kept of variants at several budgets, of those of the page or of others: it takes the place of
            `checkpoints`.

    Raises:
        UserError: a run is missing or damaged, they are of different corpora, or all sentences are too long; or the
            blind run has other vocabularies; or a run has no earlier checkpoints and some are asked for.
    """
    runs = [FinishedRun.open(path) for path in paths]
    blind_run = choose_blind([FinishedRun.open(path, "blind") for path in blind]) if blind else None
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
    for run in [*runs, *(course.last.run for course in ladders)]:
        if blind_run is not None and _scored_with(blind_run) != _scored_with(run):
            raise UserError(
                f"blind: {blind_run.path} and {run.path} differ in corpus or vocabulary, so that their bits cannot be "
                "compared: name runs of one"
            )
    vocabularies = {run.trained.vocabularies.digest: run.trained.vocabularies for run in runs}
    with_features = has_features(test)
    parts = "regions" if with_features else "pieces"
    # Features one after the other: all of them need not fit in memory.
    read: list[Any] = (
        [sources_of(test)]
        if with_features
        else [encode_sources(each, sources_of(test)) for each in vocabularies.values()]
    )
    positions = [list(map(positions_of, sources)) for sources in read]
    short = [i for i in range(len(test)) if all(rows[i] <= LONGEST_SHOWN for rows in positions)]
    if not short:
        raise UserError(
            f"run: every test sentence of {paths[0]} has more than {LONGEST_SHOWN} {parts}, too many to draw"
        )
    words = test["source_words"][:]
    chosen = [short[i] for i in choose_sentences([words[i] for i in short], sentences)]
    names = label_runs([run.config for run in runs])
    courses = list(ladders) or [Course.of_run(run, number, checkpoints) for number, run in enumerate(runs)]
    bits = None
    if blind_run is not None:
        needed = {name: sentence_nats(run, test, chosen) for name, run in zip(names, runs, strict=True)}
        bits = ReferenceBits(sentence_nats(blind_run, test, chosen), needed)
    models = LiveModels.follow(
        {name: run.trained for name, run in zip(names, runs, strict=True)},
        [(test[i]["id"], test[i]["source"], test[i]["target"]) for i in chosen],
        {name: run.settings.search for name, run in zip(names, runs, strict=True)},
        grids_of(test.select(chosen), runs[0].config["data"].get("patch")) if with_features else None,
        {name: probes for name, run in zip(names, runs, strict=True) if (probes := kept_state_probes(run)) is not None},
    )
    title = (
        f"Watch it translate: {runs[0].config['data']['name']}, {corpus.source_language} to {corpus.target_language}"
    )
    long = len(test) - len(short)
    left_out = f"; left out: {long:,} test sentences of more than {LONGEST_SHOWN} {parts}" if long else ""
    summary = f"{len(chosen)} sentences, {', '.join(names)}){left_out}"
    content = models.content(title, bits)
    readings = read_courses(courses, models, test, chosen, with_bits=blind_run is not None)
    return Page(_with_readings(content, readings, runs[0].trained), models, summary)


def _scored_with(run: FinishedRun) -> tuple[str, str]:
    return run.metrics.corpus_digest, run.metrics.tokenizer_digest


def sentence_nats(run: FinishedRun, test: Any, rows: Sequence[int], trained: Trained | None = None) -> list[np.ndarray]:
    """Return the negative log-likelihood of each target token of some test sentences, in nats, under teacher forcing.

    Args:
        run: whose likelihoods are kept, or are computed by a checkpoint.
        test: the test split of its corpus.
        rows: numbers of the sentences.
        trained: the checkpoint; None: the run's best, unless its likelihoods are kept.

    Raises:
        UserError: the run has neither, or they are damaged.
    """
    if trained is None and run.folder.likelihoods.exists():
        kept = kept_likelihoods(run.folder.likelihoods)
        return [kept.nats[row] for row in rows]
    trained = trained or run.trained
    temperature = 1.0
    if trained.config["optimizer"]["label_smoothing"]:
        temperature = best_temperature(run, trained, encode_split(trained, run.prepared, "dev"))
    pairs = Pairs.of_split(trained.vocabularies, test.select(list(rows)))
    return reference_nats(trained.model, pairs, temperature=temperature)


@dataclass(frozen=True)
class ReferenceBits:
    """What the references of N sentences cost each model, in nats per target token, end-of-sentence the last.

    Attributes:
        blind: N arrays, of the decoder that never sees the source.
        variants: N arrays of each model, by its name on the page.
    """

    blind: Sequence[np.ndarray]
    variants: Mapping[str, Sequence[np.ndarray]]


def word_bits(pieces: Sequence[str], nats: np.ndarray) -> tuple[list[str], list[float]]:
    """Return the words of a reference and the bits that each needs: the sum over its pieces.

    A piece that does not begin with the mark of a space continues the word before it. In a language written without
    spaces, a word is then as long as the text up to the next space: each piece stands for itself there.

    Args:
        pieces: of the reference, without end-of-sentence.
        nats: of each piece, and of end-of-sentence.

    Returns:
        W words and their bits; the last is the end of the sentence, "(end)".
    """
    words: list[str] = []
    bits: list[float] = []
    spaced = any(piece.startswith(SPACE) for piece in pieces[1:])
    for piece, cost in zip(pieces, nats, strict=False):
        if not words or not spaced or piece.startswith(SPACE):
            words.append("")
            bits.append(0.0)
        words[-1] += piece.removeprefix(SPACE)
        bits[-1] += float(cost) * BITS_A_NAT
    return [*words, "(end)"], [*bits, float(nats[-1]) * BITS_A_NAT]


@dataclass(frozen=True)
class Followed:
    """One model's greedy translation of one sentence, step by step.

    Attributes:
        source: S pieces, or the numbers of S regions, from 1.
        target: T pieces; the last is end-of-sentence, unless the output limit came first.
        alternatives: T lists of (piece, probability), likeliest first; the first is the output, unless one is forced.
        states: [S, M] of the encoder; M is 0 for an encoder without states.
        contexts: [T, M] weighted sums of the states; None without attention weights.
        weights: [T, S] attention weights; None without.
        scores: [T, S] what the softmax reads; None where there is no one score of a position.
        summary: [D] the fixed vector.
        start: [H] the top layer's state before the first step; None for a cell whose state is no such vector.
        hidden: [T, H] the decoder's state that each readout is computed from.
        readouts: [T, R] what the output layer reads.
        text: the translation.
    """

    source: list[str]
    target: list[str]
    alternatives: list[list[tuple[str, float]]]
    states: np.ndarray
    contexts: np.ndarray | None
    weights: np.ndarray | None
    scores: np.ndarray | None
    summary: np.ndarray
    start: np.ndarray | None
    hidden: np.ndarray
    readouts: np.ndarray
    text: str


@torch.inference_mode()
def follow(
    trained: Trained,
    source: str | FeatureArray,
    limit: int,
    alternatives: int = ALTERNATIVES,
    forced: Sequence[int] = (),
) -> Followed:
    """Translate a sentence greedily and keep the vectors, weights and probabilities of each step.

    Args:
        trained: the model.
        source: a sentence, or features [S, numbers of a region].
        limit: output pieces at most, end-of-sentence included.
        alternatives: pieces kept of each step, the likeliest ones.
        forced: ranks of the pieces that are taken at the first steps, from 0, which is the likeliest; below
            `alternatives`.
    """
    model, vocabularies = trained.model, trained.vocabularies
    (read_source,) = _encode(trained, source)
    memory = model.encode(pad_sources([read_source]), torch.tensor([positions_of(read_source)]))
    decoder, prepared = model.decoder, model.decoder.attention.prepare(memory)
    state, token = decoder.start(memory), BOS
    top = decoder.cell.query(state.layers[-1])[0]
    start = top.numpy() if top.shape == (decoder.hidden_size,) else None
    output: list[int] = []
    choices: list[list[tuple[str, float]]] = []
    hidden: list[np.ndarray] = []
    readouts: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    queries: list[tuple[torch.Tensor, tuple[torch.Tensor, ...]]] = []  # each with its coverage, if that is read
    # What the decoder asks its attention, and what its readout reads, as a step passes them on.
    hooks = [decoder.attention.register_forward_pre_hook(lambda _, inputs: queries.append((inputs[0], inputs[3:])))]
    if decoder.readout is not None:
        read_hidden = slice(0, decoder.hidden_size)
        hooks.append(
            decoder.readout.register_forward_pre_hook(
                lambda _, inputs: hidden.append(inputs[0][0, read_hidden].numpy())
            )
        )
    try:
        while len(output) < limit and token != EOS:
            embedding = model.embedding(torch.tensor([token]))
            readout, state, weight = decoder.step(embedding, state, prepared, len(output))
            read = model.with_copies(readout, weight, memory.copyable)
            logits = model.scores(read)[0]
            logits[[PAD, BOS]] = float("-inf")  # Never in an output.
            best, places = logits.softmax(-1).topk(min(alternatives, len(logits) - 2))
            pieces = vocabularies.target.pieces(places.tolist())
            choices.append(list(zip(pieces, best.tolist(), strict=True)))
            rank = forced[len(output)] if len(output) < len(forced) else 0
            token = int(places[min(rank, len(places) - 1)])
            output.append(token)
            readouts.append((read if isinstance(read, torch.Tensor) else read.vectors)[0].numpy())
            if weight is not None:
                weights.append(weight[0].numpy())
    finally:
        for hook in hooks:
            hook.remove()
    states, summary = memory.states[0].numpy(), memory.summary[0].numpy()
    contexts = np.stack(weights) @ states if weights else None
    attention, scores = decoder.attention, None
    if isinstance(attention, ScoredAttention) and attention.heads == 1:
        scores = np.concatenate([attention.scores(query, prepared, *more)[0].numpy() for query, more in queries])
    return Followed(
        source=_labels(trained, read_source),
        target=vocabularies.target.pieces(output),
        alternatives=choices,
        states=states,
        contexts=contexts,
        weights=np.stack(weights) if weights else None,
        scores=scores,
        summary=summary,
        start=start,
        hidden=np.stack(hidden or readouts),  # decoder.readout=state: the readout is the state.
        readouts=np.stack(readouts),
        text=vocabularies.target.decode([output])[0],
    )


def _encode(trained: Trained, source: str | FeatureArray) -> list[Source]:
    """Return what a model reads of one sentence or picture, alone in a list."""
    return encode_sources(trained.vocabularies, [source] if isinstance(source, str) else iter([source]))


def _labels(trained: Trained, source: Source) -> list[str]:
    """Return the pieces of a source and end-of-sentence, or the numbers of its regions as words."""
    if is_features(source):
        return [f"{SPACE}{number}" for number in range(1, len(source) + 1)]
    return trained.vocabularies.source.pieces([*map(int, source), EOS])


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
    models: Mapping[str, Trained],
    sentences: Sequence[tuple[str, str, str]],
    limits: Mapping[str, Any],
    title: str,
    bits: ReferenceBits | None = None,
) -> dict[str, Any]:
    """Return the content of the page as plain values.

    Args:
        models: by their names on the page.
        sentences: id, source and reference of each.
        limits: search settings by the same names; their `limit` ends a translation.
        title: of the page.
        bits: of the references; None: without a blind decoder.
    """
    return LiveModels.follow(models, sentences, limits).content(title, bits)


def _sources(sentences: Sequence[tuple[str, str, str]], grids: Sequence[Grid] | None) -> list[str] | list[FeatureArray]:
    """Return what models read of sentences: their sources, or the features of their grids."""
    return [source for _, source, _ in sentences] if grids is None else [grid.features for grid in grids]


@dataclass(frozen=True)
class LiveModels:
    """Models that have been followed through some sentences, and can be through others, shown in the same way.

    Attributes:
        models: by their names on the page.
        limits: search settings by the same names; their `limit` ends a translation.
        sentences: id, source and reference of each.
        followed: a translation of each sentence by each model.
        shown: the numbers that the page shows of each model.
        grids: of each sentence, where the models read features in place of its source; None: they read texts.
        probes: of the decoder's state, of the models that have them.
    """

    models: Mapping[str, Trained]
    limits: Mapping[str, Any]
    sentences: Sequence[tuple[str, str, str]]
    followed: Mapping[str, Sequence[Followed]]
    shown: Mapping[str, "_Shown"]
    grids: Sequence[Grid] | None = None
    probes: Mapping[str, StateProbes] = field(default_factory=dict)

    @classmethod
    def follow(
        cls,
        models: Mapping[str, Trained],
        sentences: Sequence[tuple[str, str, str]],
        limits: Mapping[str, Any],
        grids: Sequence[Grid] | None = None,
        probes: Mapping[str, StateProbes] | None = None,
    ) -> "LiveModels":
        """Follow models through sentences, and choose the numbers that are shown of each.

        Args:
            models: by their names on the page.
            sentences: id, source and reference of each.
            limits: search settings by the same names.
            grids: see above.
            probes: see above.
        """
        sources = _sources(sentences, grids)
        followed = {
            name: [follow(trained, source, _limit(trained, source, limits[name])) for source in sources]
            for name, trained in models.items()
        }
        shown = {name: _shown(rows, _reading(models[name])["directions"] == "both") for name, rows in followed.items()}
        return cls(models, limits, sentences, followed, shown, grids, probes or {})

    def content(self, title: str, bits: ReferenceBits | None) -> dict[str, Any]:
        """Return the content of the page as plain values; see `page_content`."""
        first = next(iter(self.models.values()))
        return {
            "title": visible(title),
            "levels": LEVELS,
            "parts": PARTS,
            "variants": [
                {
                    "name": visible(name),
                    "attention": trained.config["attention"]["name"],
                    "width": int(self.followed[name][0].summary.size),
                    "reads": _reads(trained),
                    "encoder": _reading(trained),
                    "decoder": _asking(trained),
                    "scales": self.shown[name].scales,
                    "forward": self.shown[name].forward,
                    **({"probe": _probe(self.probes[name])} if name in self.probes else {}),
                    "maps": [_map(one) for one in word_maps(trained, MAP_WORDS)],
                }
                for name, trained in self.models.items()
            ],
            "sentences": [
                self._sentence(identity, source, reference, [self.followed[name][number] for name in self.models])
                | ({} if self.grids is None else self.grids[number].content())
                | ({} if bits is None else _meter(first, reference, bits, list(self.models), number))
                for number, (identity, source, reference) in enumerate(self.sentences)
            ],
        }

    def translate(self, text: str, forced: Sequence[Sequence[int]]) -> dict[str, Any]:
        """Return a sentence in the form of those in `content`, without reference.

        Args:
            text: the source.
            forced: ranks of each model's first pieces, see `follow`; empty: of none.

        Raises:
            UserError: the text is too long, or there are other than that many rows of ranks.
        """
        rows = list(forced) or [()] * len(self.models)
        if len(rows) != len(self.models) or any(not 0 <= rank < ALTERNATIVES for row in rows for rank in row):
            raise UserError(
                f"forced: a row of ranks from 0 to {ALTERNATIVES - 1} for each of {len(self.models)} models"
            )
        followed = []
        for (name, trained), ranks in zip(self.models.items(), rows, strict=True):
            pieces = len(trained.vocabularies.source.encode([text])[0])
            if pieces >= LONGEST_SHOWN:
                raise UserError(f"the text has {pieces} pieces, and {LONGEST_SHOWN - 1} at most can be drawn")
            trained.model.check_length(pieces + 1, "the text")
            followed.append(follow(trained, text, _limit(trained, text, self.limits[name]), forced=ranks))
        return self._sentence("", text, "", followed)

    def _sentence(self, identity: str, source: str, reference: str, followed: Sequence[Followed]) -> dict[str, Any]:
        looking = [
            disorder(one.weights)
            for one, trained in zip(followed, self.models.values(), strict=True)
            if one.weights is not None and trained.model.decoder.attention.reads_query
        ]
        return {
            "id": identity,
            "source": visible(source),
            "words": count_words(source, next(iter(self.models.values())).languages[0]),
            "reference": visible(reference),
            "disorder": round(float(np.mean(looking or [0.0])), 4),
            "views": [
                _view(one, self.shown[name]) | self._told(name, source, one) | self._searched(name, source)
                for name, one in zip(self.models, followed, strict=True)
            ],
        }

    def _searched(self, name: str, source: str) -> dict[str, Any]:
        """Return the tree of a model's beam search for a text; features have none on the page."""
        return {} if self.grids is not None else {"beam": _beam(self.models[name], source, self.limits[name])}

    def _told(self, name: str, source: str, followed: Followed) -> dict[str, Any]:
        """Return what the probes of a model tell of the source before its first step and after each."""
        if name not in self.probes:
            return {}
        (ids,) = _encode(self.models[name], source)
        first = 1 if followed.start is None else 0
        states = followed.hidden if followed.start is None else np.stack([followed.start, *followed.hidden])
        told = self.probes[name].told(states, [*map(int, ids), EOS], first)
        rows: list[list[int]] = np.where(np.isnan(told), -1, 100 * told).round().astype(int).tolist()
        return {"told": [[-1] * len(rows[0]), *rows] if first else rows}


@dataclass(frozen=True)
class Reading:
    """A variant at a point of its training, on the N sentences of the page.

    Attributes:
        name: of the variant.
        family: the same of variants that differ in the width of their vector alone.
        width: D.
        shown: number of the variant on the page; None: the page does not show its steps.
        is_end: whether it is what the page shows of that variant.
        point: of the training.
        nats: N arrays of its references, unless it `is_end`; None: without a blind run, or neither kept nor computable.
        followed: N translations, unless it `is_end`; None: its weights are not there.
    """

    name: str
    family: str
    width: int
    shown: int | None
    is_end: bool
    point: TrainingPoint
    nats: list[np.ndarray] | None
    followed: list[Followed] | None


def read_courses(
    courses: Sequence[Course], models: "LiveModels", test: Any, rows: Sequence[int], *, with_bits: bool
) -> list[Reading]:
    """Translate the sentences of a page by earlier checkpoints, and score their references, as far as is kept.

    Args:
        courses: of variants.
        models: of the page, in the order of `Course.shown`.
        test: the test split.
        rows: numbers of the sentences.
        with_bits: whether likelihoods are needed.
    """
    configs = [course.last.run.config for course in courses]
    names, families, own = label_runs(configs), label_families(configs), list(models.models)
    readings = []
    for course, name, family in zip(courses, names, families, strict=True):
        shown = None if course.shown is None else own[course.shown]
        for point in course.points:
            is_end = shown is not None and point is course.last
            trained = load_trained(point.weights) if not is_end and point.weights.exists() else None
            nats, followed = None, None
            kept = point.is_best and point.run.folder.likelihoods.exists()
            if with_bits and not is_end and (kept or trained is not None):
                nats = sentence_nats(point.run, test, rows, None if kept else trained)
            if trained is not None:
                search, sources = point.run.settings.search, _sources(models.sentences, models.grids)
                followed = [follow(trained, source, _limit(trained, source, search)) for source in sources]
            width = int(point.run.config["encoder"].get("summary_size") or 0)
            readings.append(Reading(shown or name, family, width, course.shown, is_end, point, nats, followed))
    return readings


def _with_readings(content: Mapping[str, Any], readings: Sequence[Reading], trained: Trained) -> dict[str, Any]:
    """Return the content with what earlier checkpoints and other widths make of its sentences.

    Args:
        content: see `page_content`.
        readings: of its sentences.
        trained: a model with the vocabulary of all.
    """
    scores = [reading.point.scores for reading in readings]
    metric = next((one for one in scores if one is not None), None)
    described = []
    for reading, own in zip(readings, scores, strict=True):
        of_metric = own if own is not None and metric is not None and own.metric == metric.metric else None
        buckets = [] if of_metric is None else of_metric.buckets
        described.append(
            {
                "name": visible(reading.name),
                "family": visible(reading.family),
                "width": reading.width,
                "variant": -1 if reading.shown is None else reading.shown,
                "end": reading.is_end,
                "tokens": reading.point.tokens,
                "lengths": [[low, high, None if score is None else round(score, 2)] for low, high, score in buckets],
            }
        )
    vocabulary = trained.vocabularies.target
    sentences = []
    for number, sentence in enumerate(content["sentences"]):
        pieces = vocabulary.pieces(vocabulary.encode([sentence["reference"]])[0])
        own_readings = [_on_sentence(reading, number, pieces) for reading in readings]
        sentences.append({**sentence, "readings": own_readings})
    heading = None if metric is None else {"name": metric.metric, "higher": metric.higher_is_better}
    return {**content, "readings": described, "metric": heading, "sentences": sentences}


def _on_sentence(reading: Reading, number: int, pieces: Sequence[str]) -> dict[str, Any]:
    """Return what a reading makes of a sentence; of the end of a training the page has it elsewhere.

    Args:
        reading: of all sentences.
        number: of the sentence.
        pieces: of its reference.
    """
    own: dict[str, Any] = {}
    if reading.followed is not None:
        followed = reading.followed[number]
        own |= {"text": visible(followed.text), "target": [_readable(piece) for piece in followed.target]}
        own |= _weights(followed)
    if reading.nats is not None:
        own["bits"] = [round(value, 2) for value in word_bits(pieces, reading.nats[number])[1]]
    return own


def _weights(followed: Followed) -> dict[str, Any]:
    """Return the attention weights of a translation as whole numbers, and what a weight of 1 is; {} without."""
    if followed.weights is None:
        return {}
    parts = 10 ** weight_decimals(followed.weights.shape[1])
    return {"parts": parts, "weights": (parts * followed.weights).round().astype(int).tolist()}


def _beam(trained: Trained, source: str, settings: SearchSettings) -> dict[str, Any]:
    """Return the tree of the beam search for a sentence, in the form that the page reads."""
    ids = torch.tensor([[*trained.vocabularies.source.encode([source])[0], EOS]])
    search = of_a_tree(settings)
    tree, alone = grow(trained.model, ids, search), grow(trained.model, ids, replace(search, beam=1))
    return as_plain(tree, alone, trained.vocabularies.target, _readable)


def _probe(probes: StateProbes) -> dict[str, Any]:
    """Return how good the probes of a decoder's state are on dev, by groups of steps, in percent of all pieces."""
    asked = probes.asked.sum(1).clip(min=1)
    return {
        "sentences": int(probes.sentences),
        "positions": probes.positions,
        "first": probes.first_steps.tolist(),
        "right": (100 * probes.right.sum(1) / asked).round(1).tolist(),
        "chance": (100 * probes.right_by_chance.sum(1) / asked).round(1).tolist(),
    }


def _map(words: WordMap) -> dict[str, Any]:
    """Return a map of words in the form that the page reads."""
    return {**dataclasses.asdict(words), "words": [visible(word) for word in words.words]}


def _limit(trained: Trained, source: str | FeatureArray, search: Any) -> int:
    """Return how many pieces a translation has at most, by the search settings of the run."""
    return int(search.limit(positions_of(_encode(trained, source)[0])))


def _reads(trained: Trained) -> str:
    """Return how the decoder receives the source: `states` by weights, the `vector` at each step, or at the `start`."""
    attention = trained.model.decoder.attention
    if attention.has_weights:
        return "states"
    return "vector" if attention.context_size else "start"


def _reading(trained: Trained) -> dict[str, Any]:
    """Return how the encoder goes through the source.

    `directions` are those of the layer whose states are shown: "both", "forward", or "none" where all positions are
    read at once; `reversed`: the words are read last to first, and the end of the sentence last.
    """
    encoder, options = trained.model.encoder, trained.config["encoder"]
    if not isinstance(encoder, RecurrentEncoder):
        return {"name": options["name"], "directions": "none", "reversed": False, "layers": 1}
    ways, layers = options["bidirectional"], int(options["layers"])
    both = ways in (True, "split") or (ways == "first" and layers == 1)
    directions = "both" if both else "forward"
    return {"name": "rnn", "directions": directions, "reversed": bool(options["reverse_source"]), "layers": layers}


def _asking(trained: Trained) -> dict[str, Any]:
    """Return how the decoder uses its attention: when it asks, and what its readout reads."""
    settings = trained.model.decoder.settings
    return {
        "query": settings.query,
        "feeding": settings.input_feeding,
        "readout": settings.readout,
        "start": settings.start,
        "width": settings.hidden_size,
    }


# The kinds of vectors on the page: those of a kind have their places and their scale in common.
KINDS = ("states", "summary", "hidden", "readouts")


@dataclass(frozen=True)
class _Shown:
    """The places of the numbers that are shown of each kind of a model's vectors, and the values that fill a cell.

    Attributes:
        places: F of each kind.
        scales: of each kind.
        forward: how many of a state's numbers shown are of the forward direction; 0: there is no other.
    """

    places: dict[str, np.ndarray]
    scales: dict[str, float]
    forward: int

    def levels(self, kind: str, vectors: np.ndarray) -> list[list[int]]:
        """Return vectors [N, width] of a kind as whole numbers, [N, F]."""
        scaled = np.clip(vectors[:, self.places[kind]] / self.scales[kind], -1, 1) * LEVELS
        rows: list[list[int]] = scaled.round().astype(int).tolist()
        return rows


def _shown(rows: Sequence[Followed], two_directions: bool) -> _Shown:
    vectors = {
        "states": np.concatenate([row.states for row in rows]),
        "summary": np.stack([row.summary for row in rows]),
        "hidden": np.concatenate([row.hidden for row in rows]),
        "readouts": np.concatenate([row.readouts for row in rows]),
    }
    places = {kind: _varying(vectors[kind], SHOWN) for kind in KINDS}
    forward = 0
    if two_directions:  # As many of each, the forward direction first, as in the state itself.
        half = vectors["states"].shape[1] // 2
        halves = [_varying(vectors["states"][:, part], SHOWN // 2) for part in (slice(0, half), slice(half, None))]
        places["states"], forward = np.concatenate([halves[0], half + halves[1]]), len(halves[0])
    return _Shown(places, {kind: _largest(vectors[kind]) for kind in KINDS}, forward)


def _varying(vectors: np.ndarray, count: int) -> np.ndarray:
    """Return the places of the numbers that vary most, in ascending order."""
    return np.sort(np.argsort(-vectors.std(0), kind="stable")[:count])


def _largest(vectors: np.ndarray) -> float:
    """Return the value that fills a cell, to 4 digits."""
    return float(f"{np.quantile(np.abs(vectors), 0.99):.4g}") or 1.0 if vectors.size else 1.0


def _view(followed: Followed, shown: _Shown) -> dict[str, Any]:
    """Return one translation in the form that the page reads."""
    view: dict[str, Any] = {
        "source": [_readable(piece) for piece in followed.source],
        "target": [_readable(piece) for piece in followed.target],
        "text": visible(followed.text),
        "choices": [[[_readable(piece), round(PARTS * p)] for piece, p in step] for step in followed.alternatives],
        "states": shown.levels("states", followed.states),
        "summary": shown.levels("summary", followed.summary[None])[0],
        "hidden": shown.levels("hidden", followed.hidden),
        "readouts": shown.levels("readouts", followed.readouts),
    }
    if followed.start is not None:
        view["start"] = shown.levels("hidden", followed.start[None])[0]
    if followed.contexts is not None:
        view |= _weights(followed) | {"contexts": shown.levels("states", followed.contexts)}
    if followed.scores is not None:
        view["scores"] = [[round(score, 2) for score in row] for row in followed.scores.astype(float).tolist()]
    return view


def _meter(trained: Trained, reference: str, bits: ReferenceBits, names: Sequence[str], number: int) -> dict[str, Any]:
    """Return the words of a reference, and the bits that they cost the blind decoder and each variant."""
    vocabulary = trained.vocabularies.target
    pieces = vocabulary.pieces(vocabulary.encode([reference])[0])
    words, blind = word_bits(pieces, bits.blind[number])
    needed = [word_bits(pieces, bits.variants[name][number])[1] for name in names]
    return {
        "bits": {
            "words": [visible(word) for word in words],
            "blind": [round(value, 2) for value in blind],
            "variants": [[round(value, 2) for value in row] for row in needed],
        }
    }


def _readable(piece: str) -> str:
    """Return a piece as readers see it; the page replaces U+2581, SentencePiece's mark of the start of a word."""
    return {"</s>": "(end)"}.get(piece, visible(piece))


def write_page(content: Mapping[str, Any]) -> str:
    """Return the page: the built template with its data, which loads nothing else."""
    template = resources.files("hourglass.analysis").joinpath("explorer.html").read_text(encoding="utf-8")
    data = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    # A tag in the data could end the script element, so they have none.
    # The data first: without a tag, they hold no place for the text.
    filled = {DATA_PLACE: data.replace("<", "\\u003c"), TEXT_PLACE: page_text(content)}
    for place, value in filled.items():
        before, _, after = template.partition(place)
        template = f"{before}{value}{after}"
    return template


def page_text(content: Mapping[str, Any]) -> str:
    """Return what the page tells without JavaScript: each sentence, its reference, and how each variant translates."""
    names = [variant["name"] for variant in content["variants"]]
    parts = []
    for sentence in content["sentences"]:
        texts = [("source", sentence["source"]), ("reference", sentence["reference"])]
        texts += [(name, view["text"]) for name, view in zip(names, sentence["views"], strict=True)]
        rows = "".join(f'<dt>{html.escape(name)}</dt><dd dir="auto">{html.escape(text)}</dd>' for name, text in texts)
        if image := sentence.get("grid", {}).get("image"):
            rows = f'<dt>picture</dt><dd><img src="{image}" width="144" alt=""></dd>{rows}'
        parts.append(f"<dl>{rows}</dl>")
    return "".join(parts)
