"""From trained runs, and one that is blind to the source, to what is said of bits: by length, position and time."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from hourglass.analysis.comparing import Draws, TestSet, make_draws
from hourglass.analysis.convergence import dev_curves, judge_convergence
from hourglass.corpora.languages import count_words
from hourglass.corpora.made import Made
from hourglass.corpora.recipes import RECIPES
from hourglass.decoding.translate import progress_bar
from hourglass.errors import UserError
from hourglass.metrics import scoring
from hourglass.metrics.likelihood import (
    BITS_A_NAT,
    Pairs,
    ends,
    fit_temperature,
    mean_quantity,
    numbers_bits,
    reference_nats,
    totals,
)
from hourglass.metrics.saturation import FOLDS, find_plateau, straight_slope
from hourglass.metrics.significance import Quantity, compare, draw, own_spread, pool
from hourglass.models.checkpoint import load_trained
from hourglass.runs.folder import RunFolder, open_run
from hourglass.runs.translations import Translation
from hourglass.system.files import read_json
from hourglass.training.preparation import Prepared, prepare
from hourglass.training.settings import check_to_read

# First target position of each bucket of positions; the last is open.
POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65)


# What a blind decoder has to have in common with those that it is held against; how it sees the source is not among it.
DECODER = (
    "cell",
    "layers",
    "hidden_size",
    "embedding_size",
    "residual_from",
    "readout",
    "readout_size",
    "tie",
    "dropout",
)


# And with which they have to have been chosen alike.
STOPPING = ("select", "patience", "dev_sentences")


# What the seeds of one variant have in common.
VARIANT = ("tokenizer", "data", "encoder", "attention", "decoder", "optimizer", "init_range")


# Consecutive test sentences that are joined into one, for the control.
JOINED = (1, 2, 4)


@dataclass(frozen=True)
class Reader:
    """A trained run's likelihoods of one set of references.

    Attributes:
        temperature: fitted on dev; 1 where the run was trained without label smoothing.
        nats: N arrays, by that temperature.
        raw: N arrays, as the model says them.
        joined: by k, the bits of groups of so many sentences as JOINED's most, read k at a time, without the ends of
            sentence, of which there are fewer when k are one: nor may one end where the next begins, joined or apart.
            Empty of a made corpus.
    """

    temperature: float
    nats: list[np.ndarray]
    raw: list[np.ndarray]
    joined: dict[int, np.ndarray]


def choose_blind(runs: Sequence[RunFolder]) -> RunFolder:
    """Return the run that is blind to the source and was the best of several on dev, by loss.

    Raises:
        UserError: there is none, one sees its source, or one's best was not chosen by loss.
    """
    if not runs:
        raise UserError("no blind run: python src/train.py experiment=language_model makes one")
    for run in runs:
        _, config = open_run(str(run.path), "blind")
        if config["encoder"]["name"] != "blind":
            raise UserError(
                f"{run.path}: a run of encoder={config['encoder']['name']} sees its source: name one of "
                "encoder=blind attention=none (experiment=language_model)"
            )
        if config["trainer"]["select"] != "loss":
            raise UserError(
                f"{run.path}: its best checkpoint was chosen by BLEU, which says nothing of a model that cannot "
                "translate: train it with trainer.select=loss"
            )
    return min(runs, key=lambda run: float(read_json(run.metrics)["dev"]["loss"]))


def measure_bits(
    blind: RunFolder,
    variants: Mapping[str, Sequence[RunFolder]],
    *,
    baseline: str,
    edges: Sequence[int],
    resamples: int,
    converged: float,
) -> dict[str, Any]:
    """Return all that is said of the bits of these runs: plain values.

    Args:
        blind: of `choose_blind`.
        variants: the runs of each variant, one a seed.
        baseline: the variant that all others are compared with.
        edges: first source word count of each length bucket.
        resamples: of the bootstrap.
        converged: see `significance.converged`.

    Raises:
        UserError: runs differ in corpus, tokenizer, decoder, or how their best was chosen; a variant's are no seeds of
            it; the test set has hardly any sentences.
    """
    prepared, test = _test_set(blind, edges)
    draws = make_draws(test, resamples)
    every = [blind, *(run for runs in variants.values() for run in runs)]
    _check_alike(blind, every)
    for name, runs in variants.items():
        _check_seeds(name, runs)
    ended = {run: _ended(run, converged) for run in every}
    if len(test.rows) < FOLDS:
        raise UserError(f"{blind.path}: a test set of {len(test.rows)} sentences; bits take {FOLDS} or more")
    with progress_bar(len(every), "runs") as bar:
        readers: dict[RunFolder, Reader] = {}
        for run in every:
            readers[run] = read_run(run, prepared)
            bar.update()
    unseen = readers[blind]
    measured = {name: _Measured(unseen, [readers[run] for run in runs], test, draws) for name, runs in variants.items()}
    found = {
        name: {
            "attention": open_run(str(runs[0].path), "run")[1]["attention"]["name"],
            "dev_loss": [read_json(run.metrics)["dev"]["loss"] for run in runs],
            **_made(runs),
            **measured[name].plain(),
            "temperatures": [readers[run].temperature for run in runs],
            "parameters": read_json(runs[0].metrics)["parameters"],
            "learning": [_learning(blind, run, prepared) for run in runs],
            "converged": [ended[run][0] for run in runs],
        }
        for name, runs in variants.items()
    }
    for name, own in measured.items():
        if name != baseline:
            pooled = pool([one.whole for one in measured.values()])
            found[name]["difference"] = {
                **asdict(compare(own.whole, measured[baseline].whole, pooled)),
                "buckets": [
                    asdict(compare(mine, theirs, pool([one.buckets[bucket] for one in measured.values()])))
                    if mine is not None and theirs is not None
                    else None
                    for bucket, (mine, theirs) in enumerate(
                        zip(own.optional_buckets, measured[baseline].optional_buckets, strict=True)
                    )
                ],
            }
    digits = _digits(blind, test)
    for name, own in measured.items():
        # What there is less what is still to be told: it needs no blind model.
        found[name]["exact_bits"] = (
            _with_spread(own.left(digits.bits, draws.whole, np.ones(len(test.rows), dtype=bool))) if digits else None
        )
    exact = None if digits is None else digits.bits
    return {
        "baseline": baseline,
        "resamples": resamples,
        "sentences": len(test.rows),
        "buckets": [
            {
                "source_words": list(bounds),
                "sentences": len(inside),
                "mean_source_words": float(test.source_words[inside].mean()) if len(inside) else None,
                "exact": float(exact[inside].mean()) if exact is not None and len(inside) else None,
                "blind": float(totals(unseen.nats)[inside].mean()) if len(inside) else None,
            }
            for bucket, bounds in enumerate(test.bounds)
            for inside in [test.inside(bucket)]
        ],
        "positions": [
            {"pieces": list(bounds), "sentences": sum(len(one) > bounds[0] for one in unseen.nats)}
            for bounds in _position_bounds()
        ],
        "digits": digits.plain(measured, draws.whole) if digits else None,
        "exact": None if exact is None else float(exact.mean()),
        "blind": {
            "run": blind.path.name,
            **_made([blind]),
            "dev_loss": read_json(blind.metrics)["dev"]["loss"],
            "converged": ended[blind][0],
            # What its loss still fell by, as bits of a test sentence.
            "last_fifth_bits": float(totals(unseen.nats).mean()) * ended[blind][1] / (1 - ended[blind][1]),
            "temperature": unseen.temperature,
            "bits": float(totals(unseen.nats).mean()),
            "raw_bits": float(totals(unseen.raw).mean()),
            "end_bits": float(ends(unseen.nats).mean()),
            "joined": {str(count): float(one.mean()) / max(JOINED) for count, one in unseen.joined.items()},
            "target_pieces": float(np.mean([len(one) for one in unseen.nats])),
            "target_words": float(
                np.mean([count_words(row.reference, prepared.corpus.target_language) for row in test.rows])
            ),
        },
        "variants": found,
    }


def read_run(run: RunFolder, prepared: Prepared) -> Reader:
    """Let a run read the references of test, with the temperature that suits it on dev."""
    trained = load_trained(run.best)
    model = trained.model
    dev, test = (prepared.corpus.splits[name] for name in ("dev", "test"))
    pairs = Pairs.encode(trained.vocabularies, test["source"], test["target"])
    smoothed = trained.config["optimizer"]["label_smoothing"] > 0
    temperature = (
        fit_temperature(model, Pairs.encode(trained.vocabularies, dev["source"], dev["target"])) if smoothed else 1.0
    )
    joined: dict[int, np.ndarray] = {}
    # Two made items in one are no item of that corpus.
    counts = () if issubclass(RECIPES[trained.config["data"]["name"]], Made) else JOINED
    whole = len(test) // max(JOINED) * max(JOINED)
    for count in counts:
        groups = [range(first, first + count) for first in range(0, whole, count)]
        longer = Pairs(
            *(
                [[piece for i in group for piece in side[i]] for group in groups]
                for side in (pairs.sources, pairs.targets)
            )
        )
        try:
            model.decoder.attention.check_length(max(map(len, longer.sources), default=0) + 1, "test, joined")
        except UserError:  # An attention of so many positions and no more.
            continue
        starts = [
            [at for at in np.cumsum([0, *(len(pairs.targets[i]) for i in group[:-1])]).tolist() if at < len(target)]
            for group, target in zip(groups, longer.targets, strict=True)
        ]
        nats = reference_nats(model, longer, temperature=temperature, going_on=starts)
        joined[count] = (totals(nats) - ends(nats)).reshape(-1, max(JOINED) // count).sum(1)
    nats = reference_nats(model, pairs, temperature=temperature)
    return Reader(temperature, nats, reference_nats(model, pairs) if smoothed else nats, joined)


class _Measured:
    """Bits of one variant's seeds: whole, by length, by target position, joined, raw, of the end."""

    def __init__(self, blind: Reader, seeds: Sequence[Reader], test: TestSet, draws: Draws):
        self.test = test
        self.told = [totals(seed.nats) for seed in seeds]
        values = [totals(blind.nats) - told for told in self.told]
        self.whole = mean_quantity(values, draws.whole)
        self.buckets = {
            bucket: mean_quantity([one[test.inside(bucket)] for one in values], counts)
            for bucket, counts in draws.buckets.items()
        }
        self.raw = mean_quantity([totals(blind.raw) - totals(seed.raw) for seed in seeds], draws.whole)
        self.end = mean_quantity([ends(blind.nats) - ends(seed.nats) for seed in seeds], draws.whole)
        self.positions = [
            _ratio_quantity([_inside(blind.nats, seed.nats, *bounds) for seed in seeds], draws.whole)
            for bounds in _position_bounds()
        ]
        # Bits of a sentence, when so many are read as one; groups of sentences are what is resampled, the same of all.
        self.joined = {
            count: mean_quantity(
                [(blind.joined[count] - seed.joined[count]) / max(JOINED) for seed in seeds],
                draw(len(blind.joined[count]), len(draws.whole)),
            )
            for count in blind.joined
            if all(count in seed.joined for seed in seeds)
        }
        self.saturation = find_plateau(test.source_words, np.mean(values, 0))
        self.slopes = [straight_slope(test.source_words, one) for one in values]

    @property
    def optional_buckets(self) -> list[Quantity | None]:
        """Of each bucket; None of one without sentences."""
        return [self.buckets.get(bucket) for bucket in range(len(self.test.bounds))]

    def left(self, bits: np.ndarray, counts: np.ndarray, inside: np.ndarray) -> Quantity:
        """Return how many of so many bits [n] of the sentences `inside` [N] are told already, without a blind model.

        How many there are in the mean is known: resampled is what is still to be told.
        """
        told = mean_quantity([one[inside] for one in self.told], counts)
        return Quantity(bits.mean() - told.value, bits.mean() - told.drawn)

    def plain(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "bits": _with_spread(self.whole),
            "raw_bits": self.raw.plain(),
            "end_bits": self.end.plain(),
            "buckets": [None if one is None else one.plain() for one in self.optional_buckets],
            "positions": [None if one is None else one.plain() for one in self.positions],
            "joined": {
                str(count): {**one.plain(), "gain": (one + self.joined[1].times(-1)).plain()}
                for count, one in self.joined.items()
            },
            "saturation": {**asdict(self.saturation), "slope_by_seed": self.slopes},
        }


def _with_spread(one: Quantity) -> dict[str, Any]:
    """Return plain values, with the interval over trainings too."""
    interval = own_spread(one)
    return {**one.plain(), "own_spread": asdict(interval) if interval else None}


def _position_bounds() -> list[tuple[int, int | None]]:
    return scoring.length_buckets(POSITIONS)


def _inside(blind: Sequence[np.ndarray], nats: Sequence[np.ndarray], low: int, high: int | None) -> np.ndarray:
    """Return [2, N]: bits at target positions `low` to `high` of each sentence, and how many it has there."""
    rows = [slice(low - 1, min(len(one) - 1, high or len(one))) for one in nats]  # End-of-sentence left out.
    bits = [(b[at].sum() - n[at].sum()) * BITS_A_NAT for b, n, at in zip(blind, nats, rows, strict=True)]
    return np.array([bits, [len(n[at]) for n, at in zip(nats, rows, strict=True)]])


def _ratio_quantity(parts: Sequence[np.ndarray], counts: np.ndarray) -> Quantity | None:
    """Return the sum of bits over the number of tokens, of K arrays [2, N]; None where there are no tokens."""
    if not parts[0][1].sum():
        return None
    value = np.array([bits.sum() / tokens.sum() for bits, tokens in parts])
    with np.errstate(invalid="ignore"):
        drawn = np.stack([(counts @ bits) / (counts @ tokens) for bits, tokens in parts])
    return Quantity(value, drawn)


def _test_set(run: RunFolder, edges: Sequence[int]) -> tuple[Prepared, TestSet]:
    _, config = open_run(str(run.path), "run")
    prepared = prepare(config, check_to_read(config))
    split = prepared.corpus.splits["test"]
    rows = [Translation(*row, "") for row in zip(split["id"], split["source"], split["target"], strict=True)]
    words = np.maximum(np.array(split["source_words"][:]), edges[0])
    return prepared, TestSet(rows, words, scoring.length_buckets(edges), prepared.corpus.target_language)


def _check_alike(blind: RunFolder, runs: Sequence[RunFolder]) -> None:
    """See that likelihoods can be subtracted: of one corpus and tokenizer, of decoders of one size, chosen alike.

    Raises:
        UserError: they cannot.
    """

    def facts(run: RunFolder) -> dict[str, Any]:
        metrics, (_, config) = read_json(run.metrics), open_run(str(run.path), "run")
        sizes = {f"decoder.{option}": config["decoder"][option] for option in DECODER}
        rule = {f"trainer.{option}": config["trainer"][option] for option in STOPPING}
        return {"corpus": metrics["corpus"]["digest"], "tokenizer": metrics["tokenizer_digest"], **sizes, **rule}

    wanted, read = facts(blind), read_json(blind.metrics)["train_target_tokens"]
    for run in runs:
        if (more := read_json(run.metrics)["train_target_tokens"]) > 1.05 * read:
            raise UserError(
                f"{blind.path}: read {read:,} target tokens and {run.path} {more:,}: a blind run that was trained less "
                f"would flatter the other: train one with trainer.target_tokens={more} or more"
            )
        for what, value in facts(run).items():
            if value != wanted[what]:
                raise UserError(
                    f"{run.path}: another {what} than {blind.path}'s ({value}, {wanted[what]}), so that their "
                    "difference is not of the source alone: train both with the same"
                )


def _ended(run: RunFolder, converged: float) -> tuple[bool, float]:
    """Return `judge_convergence`, whose error then names the run."""
    try:
        return judge_convergence(run, converged)
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None


def _made(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return how the runs of one variant were made: their seeds and commits, and the settings of the first."""
    metrics = [read_json(run.metrics) for run in runs]
    return {
        "seeds": [one["seed"] for one in metrics],
        "commits": [f"{str(one['commit'])[:12]}{' (files differed)' if one['dirty'] else ''}" for one in metrics],
        "target_tokens": [one["train_target_tokens"] for one in metrics],
        "config": open_run(str(runs[0].path), "run")[1],
    }


def _check_seeds(name: str, runs: Sequence[RunFolder]) -> None:
    """See that runs of one variant differ in nothing but the seed, and in that.

    Raises:
        UserError: they do not.
    """

    first = open_run(str(runs[0].path), "run")[1]
    seeds: dict[int, RunFolder] = {}
    for run in runs:
        _, config = open_run(str(run.path), "run")
        if config["seed"] in seeds:
            raise UserError(
                f"{run.path}: seed {config['seed']}, as {seeds[config['seed']].path} has: runs of one variant ({name}) "
                "are of several seeds"
            )
        seeds[config["seed"]] = run
        if other := [key for key in VARIANT if config[key] != first[key]]:
            raise UserError(
                f"{run.path}: another {', '.join(other)} than {runs[0].path}'s: runs of one variant ({name}) differ in "
                "the seed alone; put a space between two variants"
            )


def _learning(blind: RunFolder, run: RunFolder, prepared: Prepared) -> list[list[float]]:
    """Return, for each validation, the target tokens read and the bits of a dev sentence, by the likelihood as it is.

    The blind model is the one at its best: what is learnt is the source.
    """
    _, config = open_run(str(run.path), "run")
    lengths = prepared.splits["dev"].target_lengths
    pieces = float(lengths[: config["trainer"]["dev_sentences"] or len(lengths)].mean())
    least = float(read_json(blind.metrics)["dev"]["loss"])
    losses = dev_curves(run, read_json(run.metrics)["train_target_tokens"])["loss"]
    return [[at, (least - loss) * pieces * BITS_A_NAT] for at, loss in sorted(losses.items())]


@dataclass(frozen=True)
class _Digits:
    """How many digits each number of `numbers` has, and so how many bits: both known exactly."""

    digits: np.ndarray  # [N]
    bits: np.ndarray  # [N]

    def plain(self, measured: Mapping[str, "_Measured"], counts: np.ndarray) -> list[dict[str, Any]]:
        """Return, for each number of digits, the exact bits and what each variant reads."""
        return [
            {
                "digits": int(k),
                "sentences": int(inside.sum()),
                "exact": float(self.bits[inside].mean()),
                "variants": {
                    name: own.left(self.bits[inside], counts[:, inside], inside).plain()
                    for name, own in measured.items()
                },
            }
            for k in np.unique(self.digits)
            for inside in [self.digits == k]
        ]


def _digits(run: RunFolder, test: TestSet) -> _Digits | None:
    _, config = open_run(str(run.path), "run")
    data = config["data"]
    if data["name"] != "numbers":
        return None
    # The id says how many digits a number has: SPLIT-kDIGITS-NUMBER.
    digits = np.array([int(row.id.split("-")[1].removeprefix("k")) for row in test.rows])
    return _Digits(digits, np.array([numbers_bits(int(k), data["shortest"], data["longest"]) for k in digits]))
