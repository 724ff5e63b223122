"""What a linear probe can still tell of the source from the decoder's state, at each step of a translation.

A probe of each group of steps reads the decoder's state h after a step and says, for each position s of the source,
which piece v stands there:

    p(v | h, s) = softmax_v(log f_s(v) + u_v . (A_s (h - m) / d + a_s))

f_s(v) is how frequent the piece is at position s, and m and d are the mean and the spread of the state. A_s has RANK
rows, so that the probe is linear in the state, of a bounded rank. It begins as the frequencies (A_s = 0, a_s = 0),
which is what chance tells, with u_v the first RANK principal components of the model's own source embeddings, and the
epoch that is best on held-out sentences is kept.

What a probe tells of a piece is the share of its bits, 1 - log p(v | h, s) / log f_s(v): 0 is no more than chance, 1 is
certainty. What it does not tell, another reader might: it bounds from below what a linear reader finds. Nor does it say
what the decoder itself reads.

The states are those of greedy translations, as the explorer shows them.

Shapes: N sentences, B sentences of a batch, S source pieces (end-of-sentence the last), T steps (0: before the first),
H decoder state, G groups of steps, P positions, C pieces that are told apart, R rank, L labels of a batch.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hourglass.data.batches import in_order
from hourglass.data.encoded import pad_sources
from hourglass.data.pieces import BOS, EOS, PAD
from hourglass.decoding.search import SearchSettings
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT
from hourglass.models.checkpoint import Trained
from hourglass.models.memory import Memory
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.arrays import read_arrays, write_arrays
from hourglass.system.bars import Bar
from hourglass.training.finished import FinishedRun

# The first step of each group; later steps change less from one to the next, and fewer sentences have them.
FIRST_STEPS = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 28)
RANK = 32
# Pieces that are told apart, the most frequent ones; of the others nothing is asked.
PIECES = 2000
# A position or a group of steps of fewer sentences is not asked of.
FEWEST = 200
# Sentences of dev at most that say how good the probes are.
DEV_SENTENCES = 1000
# Of the frequencies at a position: so many pieces are added, as frequent as over all positions.
ADDED = 100.0
# The probe: sentences of a step of Adam, positions that are drawn of each, and its learning rate.
BATCH, DRAWN, RATE = 64, 8, 0.001
# The share of the sentences that decides when to stop; after so many epochs without a lower loss, and at the most.
HELD_OUT, PATIENCE, EPOCHS = 0.1, 2, 20
BATCH_TOKENS = 2000
_OTHER = -1  # a piece that is not told apart, or no piece


@dataclass(frozen=True, eq=False)
class StateProbes:
    """Probes of all groups of steps, and how often they are right about sentences of dev.

    Attributes:
        checkpoint_step: of the model whose states they read.
        sentences: of train that they have learnt from, the held-out ones with them.
        first_steps: [G], the first step of each group; a group ends before the next, the last one never.
        pieces: [C] ids of the pieces that are told apart.
        log_frequencies: [P, C].
        means: [G, H].
        spreads: [G, H].
        maps: [G, P, H, R], A.
        offsets: [G, P, R], a.
        outputs: [G, C, R], u.
        asked: [G, P], steps of dev sentences with such a piece.
        right: [G, P], of these, where the likeliest piece is the right one.
        right_by_chance: [G, P], where the most frequent piece is.
        bits: [G, P], bits that the pieces have by their frequencies, summed.
        told_bits: [G, P], those that the probes save of them, summed.
    """

    checkpoint_step: np.ndarray
    sentences: np.ndarray
    first_steps: np.ndarray
    pieces: np.ndarray
    log_frequencies: np.ndarray
    means: np.ndarray
    spreads: np.ndarray
    maps: np.ndarray
    offsets: np.ndarray
    outputs: np.ndarray
    asked: np.ndarray
    right: np.ndarray
    right_by_chance: np.ndarray
    bits: np.ndarray
    told_bits: np.ndarray

    @property
    def positions(self) -> int:
        """P."""
        return len(self.log_frequencies)

    def name_steps(self, group: int) -> str:
        """Return the steps of a group in words."""
        first = int(self.first_steps[group])
        if first == 0:
            return "before the first"
        following = FIRST_STEPS[FIRST_STEPS.index(first) + 1 :]
        if not following:
            return f"{first} and later"
        return f"{first}" if following[0] == first + 1 else f"{first} to {following[0] - 1}"

    @cached_property
    def _probes(self) -> list["_Probe"]:
        parts = zip(self.maps, self.offsets, self.outputs, strict=True)
        return [_Probe(*(torch.from_numpy(part.astype(np.float32)) for part in group)) for group in parts]

    def told(self, states: np.ndarray, ids: Sequence[int], first: int) -> np.ndarray:
        """Return the share of its bits that a probe tells of each piece at each step, [T, S] from 0 to 1.

        NaN where nothing is asked: of a rare piece, and of a position or a step that few sentences have.

        Args:
            states: [T, H], after steps that follow each other.
            ids: S pieces, end-of-sentence the last.
            first: the step of the first state; 0 is before the first piece is written.
        """
        labels = _classes(ids, self.pieces)[: self.positions]
        asked = np.flatnonzero(labels != _OTHER)
        told = np.full((len(states), len(ids)), np.nan)
        probes = self._probes
        for row, state in enumerate(states):
            group = int(np.searchsorted(self.first_steps, first + row, side="right")) - 1
            if group < 0 or not len(asked):
                continue
            mean, spread = torch.from_numpy(self.means[group]), torch.from_numpy(self.spreads[group])
            scaled = _scale(torch.from_numpy(state[None].astype(np.float32)), mean, spread)
            before = torch.from_numpy(self.log_frequencies[asked])
            logits = probes[group].codes(scaled)[0, asked] @ probes[group].outputs.T + before
            by_chance = before.numpy()[range(len(asked)), labels[asked]]
            own = logits.log_softmax(-1).numpy()[range(len(asked)), labels[asked]]
            told[row, asked] = np.clip(1 - own / by_chance, 0, 1)
        return told


@dataclass(frozen=True)
class _Probe:
    """The weights of one probe."""

    maps: Tensor  # [P, H, R]
    offsets: Tensor  # [P, R]
    outputs: Tensor  # [C, R]

    def codes(self, states: Tensor) -> Tensor:
        """Return A_s h + a_s, [B, P, R]."""
        positions, width, rank = self.maps.shape
        flat = states @ self.maps.transpose(0, 1).reshape(width, positions * rank)
        return flat.view(-1, positions, rank) + self.offsets


def check_state_probed(run: FinishedRun) -> None:
    """Check that a run reads pieces of a source.

    Raises:
        UserError: it does not.
    """
    if run.config["encoder"]["name"] == "blind":
        raise UserError(f"{run.path}: encoder=blind reads no source: its decoder's state tells nothing of one")
    if run.config["data"].get("feature_size") is not None:
        raise UserError(
            f"{run.path}: data={run.config['data']['name']} has features, and probes ask for pieces of the source: "
            "name a run of a corpus of texts"
        )


def probes_file(path: Path) -> Path:
    """Return the file of the probes of a run, in whose folder `path` is."""
    return path / "probes" / "state.npz"


def write_state_probes(file: Path, probes: StateProbes) -> None:
    """Write probes as an archive of arrays."""
    write_arrays(file, {field.name: getattr(probes, field.name) for field in fields(StateProbes)})


def kept_state_probes(run: FinishedRun) -> StateProbes | None:
    """Return the probes of a run, or None if it has none.

    Raises:
        UserError: the file is damaged, or of another checkpoint than the run has now.
    """
    file = probes_file(run.path)
    if not file.exists():
        return None
    arrays = read_arrays(file)
    again = f"python pipelines/probes.py {run.path} state=true makes them again"
    names = [field.name for field in fields(StateProbes)]
    if sorted(arrays) != sorted(names):
        raise UserError(f"{file}: not the probes of a decoder's state: {again}")
    probes = StateProbes(**arrays)
    model = run.trained.model
    groups, positions, width, rank = probes.maps.shape if probes.maps.ndim == 4 else (0, 0, 0, 0)
    fits = (
        width == model.decoder.hidden_size
        and probes.outputs.shape == (groups, len(probes.pieces), rank)
        and probes.log_frequencies.shape == (positions, len(probes.pieces))
        and int(probes.checkpoint_step) == run.trained.step
    )
    if not fits:
        raise UserError(f"{file}: probes of another checkpoint than {run.folder.best}: {again}")
    return probes


def fit_state_probes(run: FinishedRun, sentences: int) -> StateProbes:
    """Fit probes on the states of a run's best checkpoint.

    Args:
        run: a finished run.
        sentences: of train that the probes learn from, drawn at random; 0: all; fewer if train has fewer.

    Raises:
        UserError: the run reads no pieces, or there are too few sentences.
    """
    check_state_probed(run)
    splits, source = run.corpus.splits, run.trained.vocabularies.source
    drawn = np.random.default_rng(1).permutation(len(splits["train"]))[: sentences or None]
    if len(drawn) < FEWEST:
        raise UserError(f"sentences: probes of the state need {FEWEST} or more of train, and there are {len(drawn)}")
    train = [[*ids, EOS] for ids in source.encode(splits["train"].select(np.sort(drawn))["source"][:])]
    rows = range(min(DEV_SENTENCES, len(splits["dev"])))
    dev = [[*ids, EOS] for ids in source.encode(splits["dev"].select(rows)["source"][:])]
    search = run.settings.search
    own, held = _States.of(run.trained, train, search, run.path.name), _States.of(run.trained, dev, search, "dev")
    embedding = getattr(run.trained.model.encoder, "embedding", None)
    vectors = embedding.weight.detach().float() if isinstance(embedding, nn.Embedding) else None
    return _fit(own, held, vectors, run.trained.step)


@dataclass(frozen=True)
class _States:
    """Sentences and the decoder's states along their translations.

    Attributes:
        ids: N lists of pieces, end-of-sentence the last.
        states: [sum of all T, H] in 16 bits.
        starts: [N + 1], the row of the first state of each sentence; that of step 0, before the first piece.
        has_start: whether there is a state before the first step.
    """

    ids: Sequence[Sequence[int]]
    states: Tensor
    starts: np.ndarray
    has_start: bool

    @classmethod
    def of(cls, trained: Trained, ids: Sequence[Sequence[int]], search: SearchSettings, name: str) -> "_States":
        found = dict(greedy_states(trained.model, ids, search, f"translating {name}"))
        parts = [found[row] for row in range(len(ids))]
        starts = np.cumsum([0, *map(len, parts)])
        return cls(ids, torch.cat(parts), starts, has_start_state(trained.model))

    def rows_of(self, group: int, first_steps: Sequence[int], random: np.random.Generator) -> tuple[np.ndarray, Tensor]:
        """Return the sentences that have a step of a group, and the state [.., H] of one such step, drawn evenly."""
        steps = np.diff(self.starts)
        first = first_steps[group]
        end = first_steps[group + 1] if group + 1 < len(first_steps) else int(steps.max())
        sentences = np.flatnonzero(steps > first)
        last = np.minimum(steps[sentences], end)
        step = first + (random.random(len(sentences)) * (last - first)).astype(int)
        return sentences, self.states[torch.from_numpy(self.starts[sentences] + step)].float()


def has_start_state(model: Seq2Seq) -> bool:
    """Return whether the cell's state before the first step is a vector as those after the steps are."""
    cell = model.decoder.cell
    return tuple(cell.query(cell.zero_state(1, torch.zeros(1, 1))).shape[1:]) == (model.decoder.hidden_size,)


@torch.inference_mode()
def greedy_states(
    model: Seq2Seq, ids: Sequence[Sequence[int]], search: SearchSettings, title: str
) -> Iterator[tuple[int, Tensor]]:
    """Yield, for each source, its number and the states [T, H] along its greedy translation, in 16 bits.

    The first is the state before the first step (zeros, where the cell has none), the last that after end-of-sentence.

    Args:
        model: in evaluation mode.
        ids: N sources, end-of-sentence the last.
        search: whose limits end a translation.
        title: of the progress bar.
    """
    lengths = np.array(list(map(len, ids)))
    with Bar(title, len(ids), "sentences") as bar:
        for batch in in_order(lengths, lengths, BATCH_TOKENS):
            sources = [ids[row][:-1] for row in batch]
            memory = model.encode(pad_sources(sources), torch.from_numpy(lengths[batch]))
            limits = torch.tensor([search.limit(int(length)) for length in lengths[batch]])
            states, ends = _decode(model, memory, limits)
            for row, own, end in zip(batch.tolist(), states.unbind(0), ends.tolist(), strict=True):
                yield row, own[: end + 1].half()
            bar.update(len(batch))


def _decode(model: Seq2Seq, memory: Memory, limits: Tensor) -> tuple[Tensor, Tensor]:
    """Translate a batch greedily.

    Args:
        model: in evaluation mode.
        memory: of B sentences.
        limits: [B], the most pieces of each translation.

    Returns:
        the states [B, T+1, H] before the first step and after each; and how many steps each sentence has, [B].
    """
    decoder = model.decoder
    state, prepared = decoder.start(memory), decoder.attention.prepare(memory)
    tokens, ends, going = torch.full_like(limits, BOS), limits.clone(), torch.ones_like(limits, dtype=torch.bool)
    first = decoder.cell.query(state.layers[-1])
    states = [first if has_start_state(model) else first.new_zeros(len(limits), decoder.hidden_size)]
    read: list[Tensor] = []
    hook = decoder.readout and decoder.readout.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    try:
        for t in range(int(limits.max())):
            readout, state, weights = decoder.step(model.embedding(tokens), state, prepared, t)
            # decoder.readout=state: the readout is the state.
            states.append(read.pop()[:, : decoder.hidden_size] if hook else readout[:, : decoder.hidden_size])
            logits = model.scores(model.with_copies(readout, weights, memory.copyable))
            logits[:, [PAD, BOS]] = float("-inf")  # Never in an output.
            tokens = logits.argmax(-1)
            ended = going & (tokens == EOS)
            ends[ended] = torch.minimum(ends[ended], torch.tensor(t + 1))
            going &= ~ended & (limits > t + 1)
            if not going.any():
                break
    finally:
        if hook:
            hook.remove()
    return torch.stack(states, 1), ends


def _fit(own: _States, held: _States, vectors: Tensor | None, checkpoint_step: int) -> StateProbes:
    """Fit the probes of all groups of steps.

    Args:
        own: sentences of train, the first HELD_OUT of which decide when to stop.
        held: sentences of dev.
        vectors: [V, E] of all pieces, from which the probes begin; None: they begin at random.
        checkpoint_step: of the model.
    """
    pieces, log_frequencies = _frequencies(own.ids[_held_out(own) :])
    learnt, asked = (_Asked(states, _labels(states.ids, pieces, len(log_frequencies))) for states in (own, held))
    long_enough = [(np.diff(own.starts) > first).sum() >= FEWEST for first in FIRST_STEPS]
    groups = [group for group, enough in enumerate(long_enough) if enough and (group or own.has_start)]
    outputs = _first_outputs(vectors, pieces)
    parts: dict[str, list[np.ndarray]] = {}
    with Bar("probing the decoder's state", len(groups), "groups of steps") as bar, torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for group in groups:
            for name, part in _fit_group(learnt, asked, log_frequencies, outputs, group).items():
                parts.setdefault(name, []).append(part)
            bar.update()
    arrays = {name: np.stack(rows) for name, rows in parts.items()}
    return StateProbes(
        checkpoint_step=np.array(checkpoint_step),
        sentences=np.array(len(own.ids)),
        first_steps=np.array([FIRST_STEPS[group] for group in groups]),
        pieces=pieces,
        log_frequencies=log_frequencies.numpy(),
        **arrays,
    )


@dataclass(frozen=True)
class _Asked:
    """States, and the pieces that are asked of them.

    Attributes:
        states: of N sentences.
        labels: [N, P] of `_labels`.
    """

    states: _States
    labels: Tensor

    def of(self, group: int, random: np.random.Generator) -> tuple[np.ndarray, Tensor, Tensor]:
        """Return sentences and states of `_States.rows_of`, and their labels [.., P]."""
        sentences, states = self.states.rows_of(group, FIRST_STEPS, random)
        return sentences, states, self.labels[torch.from_numpy(sentences)]


def _fit_group(
    own: _Asked, held: _Asked, log_frequencies: Tensor, outputs: Tensor, group: int
) -> dict[str, np.ndarray]:
    """Return the arrays of one group of steps; see `StateProbes`."""
    random = np.random.default_rng([1, group])
    sentences, states, labels = own.of(group, random)
    mean, spread = states.mean(0), states.std(0, correction=0) + 1e-6
    held_out = _held_out(own.states)
    stop = torch.from_numpy(sentences < held_out)
    stop_states, stop_labels = _scale(states[stop], mean, spread), labels[stop]
    positions, width, rank = len(log_frequencies), states.shape[1], outputs.shape[1]
    # It says the frequencies, whatever the state.
    probe = _Probe(torch.zeros(positions, width, rank), torch.zeros(positions, rank), outputs.clone())
    weights = [probe.maps, probe.offsets, probe.outputs]
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights], lr=RATE, fused=True)
    lowest, best, since = float("inf"), [weight.detach().clone() for weight in weights], 0
    for _ in range(EPOCHS):
        with torch.no_grad():
            loss = sum(float(_nats(probe, *batch, log_frequencies)) for batch in _batches(stop_states, stop_labels))
        if loss < lowest:
            lowest, since, best = loss, 0, [weight.detach().clone() for weight in weights]
        elif (since := since + 1) >= PATIENCE:
            break
        sentences, states, labels = own.of(group, random)  # Another step of each.
        train = np.flatnonzero(sentences >= held_out)
        for rows in torch.from_numpy(random.permutation(train)).split(BATCH):
            drawn = _draw(labels[rows])
            count = int((drawn != _OTHER).sum())
            if count:
                optimizer.zero_grad()
                (_nats(probe, _scale(states[rows], mean, spread), drawn, log_frequencies) / count).backward()
                optimizer.step()
    _, states, labels = held.of(group, random)
    counts = _count(_Probe(*best), _scale(states, mean, spread), labels, log_frequencies)
    named = zip(("maps", "offsets", "outputs"), best, strict=True)
    kept = {"means": mean.numpy(), "spreads": spread.numpy(), **{name: weight.half().numpy() for name, weight in named}}
    return kept | counts


def _first_outputs(vectors: Tensor | None, pieces: np.ndarray) -> Tensor:
    """Return where the outputs [C, R] of a probe begin: principal components of pieces' vectors [V, E], or at random.

    Pieces that the model takes for alike are alike from the start: a probe then needs fewer sentences.
    """
    if vectors is None:
        return torch.randn(len(pieces), RANK) / RANK**0.5
    own = vectors[torch.from_numpy(pieces)]
    left, values, _ = torch.linalg.svd(own - own.mean(0), full_matrices=False)
    outputs = (left * values)[:, :RANK]
    return outputs / outputs.norm(dim=1).mean()


def _held_out(states: _States) -> int:
    """Return how many sentences, the first ones, decide when to stop."""
    return max(1, round(HELD_OUT * len(states.ids)))


def _frequencies(ids: Sequence[Sequence[int]]) -> tuple[np.ndarray, Tensor]:
    """Return the C pieces that are told apart, and the logarithm of how frequent they are at each position, [P, C]."""
    counts: Counter[int] = Counter(index for sentence in ids for index in sentence)
    pieces = np.array([index for index, _ in counts.most_common(PIECES)])
    lengths = np.array(list(map(len, ids)))
    positions = int(np.sort(lengths)[-min(FEWEST, len(lengths))])  # As many as FEWEST sentences have.
    labels = _labels(ids, pieces, positions)
    overall = torch.tensor([float(counts[int(piece)]) for piece in pieces])
    overall = overall / overall.sum()
    rows = []
    for position in range(positions):
        own = labels[:, position]
        found = torch.bincount(own[own != _OTHER], minlength=len(pieces)).float()
        rows.append(((found + ADDED * overall) / (found.sum() + ADDED)).log())
    return pieces, torch.stack(rows)


def _labels(ids: Sequence[Sequence[int]], pieces: np.ndarray, positions: int) -> Tensor:
    """Return the places of the pieces of sentences among those that are told apart, [N, P]; _OTHER: none of them."""
    labels = torch.full((len(ids), positions), _OTHER)
    for row, sentence in enumerate(ids):
        own = _classes(sentence[:positions], pieces)
        labels[row, : len(own)] = torch.from_numpy(own)
    return labels


def _draw(labels: Tensor) -> Tensor:
    """Return labels [B, P] of which about DRAWN of each row are left."""
    there = labels != _OTHER
    share = DRAWN / there.sum(1, keepdim=True).clamp(min=DRAWN)
    return labels.where(there & (torch.rand(labels.shape) < share), torch.tensor(_OTHER))


def _batches(states: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(states.split(BATCH), labels.split(BATCH), strict=True)


def _nats(probe: _Probe, states: Tensor, labels: Tensor, log_frequencies: Tensor) -> Tensor:
    """Return the negative log-likelihood of labels [B, P] but for _OTHER, summed, []."""
    rows, positions = (labels != _OTHER).nonzero(as_tuple=True)  # [L] each
    logits = probe.codes(states)[rows, positions] @ probe.outputs.T + log_frequencies[positions]  # [L, C]
    return F.cross_entropy(logits, labels[rows, positions], reduction="sum")


@torch.no_grad()
def _count(probe: _Probe, states: Tensor, labels: Tensor, log_frequencies: Tensor) -> dict[str, np.ndarray]:
    """Return how often a probe is right, and the bits that it tells, at each position, [P]; see `StateProbes`."""
    names = ("asked", "right", "right_by_chance", "bits", "told_bits")
    sums = {name: torch.zeros(len(log_frequencies), dtype=torch.float64) for name in names}
    for batch_states, batch in _batches(states, labels):
        rows, positions = (batch != _OTHER).nonzero(as_tuple=True)
        own = batch[rows, positions]
        before = log_frequencies[positions]
        logits = probe.codes(batch_states)[rows, positions] @ probe.outputs.T + before
        needed = -before.gather(1, own[:, None])[:, 0]
        needs = -logits.log_softmax(-1).gather(1, own[:, None])[:, 0]
        found = {
            "asked": torch.ones_like(needed),
            "right": logits.argmax(1) == own,
            "right_by_chance": before.argmax(1) == own,
            "bits": needed * BITS_A_NAT,
            "told_bits": (needed - needs) * BITS_A_NAT,
        }
        for name, values in found.items():
            sums[name].index_add_(0, positions, values.double())
    return {name: values.numpy() for name, values in sums.items()}


def _classes(ids: Iterable[int], pieces: np.ndarray) -> np.ndarray:
    """Return the place of each id among the pieces that are told apart, or _OTHER."""
    places = {int(piece): place for place, piece in enumerate(pieces)}
    return np.array([places.get(int(index), _OTHER) for index in ids])


def _scale(states: Tensor, mean: Tensor, spread: Tensor) -> Tensor:
    # A component that hardly varies in some sentences may be far away in others.
    return ((states - mean) / spread).clamp(-10, 10)
