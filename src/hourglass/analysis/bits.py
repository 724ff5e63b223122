"""Bits of the references that reach the decoders of finished runs: by sentence length, position, and training time.

Of two variants, the bits that the one's decoder receives more are those that it needs less: a difference of two
likelihoods of the same sentences, in which no third model takes part. The bits of a single variant are those that a
blind decoder needs for a reference less those that the variant needs; see `metrics.likelihood` for what that estimates.

Shapes: N test sentences, R resamples, K seeds of a variant.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hourglass.analysis.comparability import (
    BUDGET_TOLERANCE,
    check_comparable,
    check_seeds,
    choose_blind,
    differing_settings,
    name_differences,
)
from hourglass.analysis.comparing import Draws, TestSet, make_draws
from hourglass.analysis.convergence import Convergence, judge_convergence
from hourglass.analysis.information import (
    BitsDifference,
    BlindBits,
    Contrast,
    ContrastiveBits,
    DigitBucket,
    Information,
    JoinedBits,
    LearningPoint,
    LengthBucket,
    NulledBits,
    PositionBucket,
    Provenance,
    VariantBits,
)
from hourglass.analysis.likelihoods import JOINED, RunLikelihoods, read_likelihoods
from hourglass.analysis.width import WidthFamily, find_width_families
from hourglass.config.options import Config
from hourglass.corpora.languages import count_words
from hourglass.corpora.recipe import ItemNames
from hourglass.corpora.recipes import RECIPES
from hourglass.corpora.sampling import evenly_spaced
from hourglass.corpora.synthetic import SizedRecipe
from hourglass.errors import UserError
from hourglass.metrics.likelihood import BITS_A_NAT, end_bits, mean_quantity, sentence_bits
from hourglass.metrics.nulled import null_share
from hourglass.metrics.saturation import FOLDS, Saturation, find_plateau, straight_slope
from hourglass.metrics.scoring import length_buckets
from hourglass.metrics.significance import Difference, Interval, Quantity, compare_quantities, draw_resamples, pool
from hourglass.runs.folder import open_run
from hourglass.runs.translations import rows_of
from hourglass.system.bars import Bar
from hourglass.training.finished import FinishedRun
from hourglass.training.freezing import FROZEN_ENCODER, has_frozen_encoder
from hourglass.training.preparation import PreparedData

# First target position of each position bucket; the last bucket has no upper end.
POSITIONS = (1, 2, 3, 5, 9, 17, 33, 65)


def measure_bits(
    blind_runs: Sequence[FinishedRun],
    variants: Mapping[str, Sequence[FinishedRun]],
    *,
    baseline: str,
    edges: Sequence[int],
    resamples: int,
    converged: float,
    blind_rates: Sequence[float],
    contrastive: int = 0,
) -> Information:
    """Measure the bits that reach the decoder of each variant.

    Args:
        blind_runs: of which the best on dev is the blind decoder (`comparability.choose_blind`). Of its other seeds the
            result has the bits that they need: how much another blind decoder would move the figures.
        variants: runs of each variant, one for each seed.
        baseline: the variant that all others are compared with.
        edges: first source word count of each length bucket.
        resamples: of the bootstrap.
        converged: share of the dev loss, see `significance.converged`.
        blind_rates: the learning rates among which the blind run's was chosen.
        contrastive: sources of each contrast (`metrics.contrastive`); 0: it is not measured.

    Raises:
        UserError: no blind run, or one that sees its source; runs differ in corpus, tokenizer, decoder, selection,
            label smoothing or precision; the runs of a variant differ in more than the seed; the test set has hardly
            any sentences.
    """
    blind = choose_blind(blind_runs)
    other_seeds = [run for run in blind_runs if run is not blind and not differing_settings(blind, run)]
    test = _read_test_set(blind, edges)
    draws = make_draws(test, resamples)
    runs = [blind, *(run for seeds in variants.values() for run in seeds)]
    check_comparable(blind, runs)
    for name, seeds in variants.items():
        check_seeds(name, seeds)
    frozen = find_frozen(variants)
    convergence = {run: judge_convergence(run, converged) for run in runs}
    if len(test.rows) < FOLDS:
        raise UserError(f"{blind.path}: a test set of {len(test.rows)} sentences; bits need {FOLDS} or more")
    likelihoods = _read_all([*runs, *other_seeds], blind, contrastive)
    measured = {
        name: _Measurement(likelihoods[blind], [likelihoods[run] for run in seeds], test, draws)
        for name, seeds in variants.items()
    }
    # A fresh decoder is compared with the own decoders of the very encoders that it reads, not of those of other seeds.
    own_decoders = {
        (name, owner): _Measurement(
            likelihoods[blind],
            [likelihoods[run] for run in owners_of_encoders(variants[name], variants[owner])],
            test,
            draws,
        )
        for name, owner in frozen.items()
        if owner in variants
    }
    items = _read_items(blind.config, test)
    blind_bits = sentence_bits(likelihoods[blind].nats)
    return Information(
        corpus=blind.config["data"]["name"],
        baseline=baseline,
        resamples=resamples,
        sentences=len(test.rows),
        lengths=[
            LengthBucket(
                source_words=bounds,
                sentences=len(inside),
                mean_source_words=_mean(test.source_words[inside]),
                exact_bits=None if items is None else _mean(items.bits[inside]),
                blind_bits=_mean(blind_bits[inside]),
            )
            for bucket, bounds in enumerate(test.bounds)
            for inside in [test.inside(bucket)]
        ],
        positions=[
            PositionBucket(bounds, sum(len(nats) > bounds[0] for nats in likelihoods[blind].nats))
            for bounds in length_buckets(POSITIONS)
        ],
        digits=None if items is None else _by_digits(items, measured, draws.whole),
        item_names=None if items is None else items.names,
        exact_bits=None if items is None else float(items.bits.mean()),
        blind=_describe_blind(blind, likelihoods, convergence[blind], test, rates=blind_rates, other_seeds=other_seeds),
        variants={
            name: VariantBits(
                attention=seeds[0].config["attention"]["name"],
                provenance=_provenance(seeds),
                dev_loss=[run.metrics.dev.loss for run in seeds],
                converged=[convergence[run].converged for run in seeds],
                temperatures=[likelihoods[run].temperature for run in seeds],
                parameters=seeds[0].metrics.parameters,
                bits=own.whole.estimate,
                raw_bits=own.raw.estimate,
                end_bits=own.end.estimate,
                exact_bits=None if items is None else own.received(items.bits, draws.whole).estimate,
                by_length=[None if bits is None else bits.estimate for bits in own.by_length],
                by_position=[None if bits is None else bits.estimate for bits in own.by_position],
                joined=own.joined,
                saturation=own.saturation,
                slopes=own.slopes,
                learning=[
                    bits_in_training(blind.dev_curves.loss, run.dev_curves.loss, _dev_pieces(run, blind.prepared))
                    for run in seeds
                ],
                difference=None if name == baseline else _compare(measured, name, baseline, own_decoders),
                contrastive=own.contrastive,
                nulled=own.nulled(null_share(seeds[0].config)),
                frozen_encoder=frozen.get(name),
            )
            for name, seeds in variants.items()
            for own in [measured[name]]
        },
        contrasts=[
            Contrast(name, reference, _compare(measured, name, reference, own_decoders))
            for name, reference in _other_pairs(
                {name: seeds[0].config["attention"]["name"] for name, seeds in variants.items()},
                frozen,
                baseline,
                find_width_families({name: seeds[0].config for name, seeds in variants.items()}, baseline),
            )
            if have_one_encoder(variants[name][0].config, variants[reference][0].config)
        ],
        setting_differences=name_differences(blind, variants),
    )


def _read_test_set(run: FinishedRun, edges: Sequence[int]) -> TestSet:
    split = run.prepared.corpus.splits["test"]
    rows = rows_of(split, [""] * len(split))
    words = np.maximum(np.array(split["source_words"][:]), edges[0])
    return TestSet(words, length_buckets(edges), rows, run.prepared.corpus.target_language)


def _read_all(runs: Sequence[FinishedRun], blind: FinishedRun, contrastive: int) -> dict[FinishedRun, RunLikelihoods]:
    likelihoods = {}
    with Bar("measuring likelihoods", len(runs), "runs") as bar:
        for run in runs:
            likelihoods[run] = read_likelihoods(run, blind.prepared, 0 if run is blind else contrastive)
            bar.update()
    return likelihoods


def find_frozen(variants: Mapping[str, Sequence[FinishedRun]]) -> dict[str, str]:
    """Return the variants with frozen encoders, and for each the variant whose encoders they are.

    Where that is no variant, it is the name of the run.

    Args:
        variants: runs of each variant, one for each seed.

    Raises:
        UserError: the seeds of a variant have encoders of several variants.
    """
    owners = {run.path.resolve(): name for name, seeds in variants.items() for run in seeds}
    frozen = {}
    for name, seeds in variants.items():
        if not has_frozen_encoder(seeds[0].config):
            continue
        paths = [_encoder_path(run) for run in seeds]
        of = {owners.get(path, path.name) for path in paths}
        if len(of) > 1 and of & set(owners.values()):
            raise UserError(
                f"{name}: its seeds have the frozen encoders of {' and '.join(sorted(of))}: name runs of one variant"
            )
        frozen[name] = owners.get(paths[0], paths[0].name)
    return frozen


def _encoder_path(run: FinishedRun) -> Path:
    """Return the run folder whose encoder a run has, which does not move."""
    return Path(str(run.config[FROZEN_ENCODER])).expanduser().resolve()


def owners_of_encoders(fresh: Sequence[FinishedRun], owners: Sequence[FinishedRun]) -> list[FinishedRun]:
    """Return the runs of a variant whose encoders the runs of another have.

    They are known by their path, or, of a small model that git keeps, by its seed. Where none is known, all count.

    Args:
        fresh: runs with frozen encoders.
        owners: runs of the variant that the encoders are of.
    """
    paths = {_encoder_path(run) for run in fresh}
    known = [run for run in owners if run.path.resolve() in paths]
    if known:
        return known
    seeds = set()
    for path in paths:
        with suppress(UserError):  # It is no longer there.
            seeds.add(open_run(str(path), FROZEN_ENCODER)[1].get("seed"))
    return [run for run in owners if run.config["seed"] in seeds] or list(owners)


def have_one_encoder(config: Config, other: Config) -> bool:
    """Return whether two variants have encoders of one kind, and of one cell where these are recurrent.

    Where they have not, a difference says nothing about the ways in which two decoders read a source.
    """
    kinds = [(each["encoder"]["name"], each["encoder"].get("cell")) for each in (config, other)]
    return kinds[0] == kinds[1]


def _other_pairs(
    attentions: Mapping[str, str], frozen: Mapping[str, str], baseline: str, widths: Sequence[WidthFamily] = ()
) -> list[tuple[str, str]]:
    """Return the pairs of variants that are compared beside those with the baseline: each name and its reference.

    What looks back at the source less `fixed` is what a choice brings beyond one vector read at every step; `fixed`
    less `none` is what reading it at every step brings. A fresh decoder on a frozen encoder less the encoder's own is
    what was in the vector and unused; `fixed` less the fresh decoder is what the encoder has not put in. Of variants
    that differ in width alone, each is compared with the next narrower one, and what looks back with all of them.

    Args:
        attentions: by the name of the variant.
        frozen: of each variant with a frozen encoder, the variant whose encoder it is.
        baseline: pairs with it are left out, whichever way round.
        widths: variants that differ in the width of the summary alone.
    """
    siblings = {name: family.reference for family in widths for name in family.others}
    joint = {name: attention for name, attention in attentions.items() if name not in frozen and name not in siblings}
    rereading = [name for name, attention in joint.items() if attention == "fixed"]
    others = [name for name, attention in joint.items() if attention not in ("fixed", "none")]
    once = [name for name, attention in joint.items() if attention == "none"]
    pairs = [(name, fixed) for fixed in rereading for name in others]
    pairs += [(fixed, none) for fixed in rereading for none in once]
    for fresh, owner in frozen.items():
        pairs += [(fresh, owner)] if owner in attentions else []
        pairs += [(fixed, fresh) for fixed in rereading if fixed != owner]
    pairs += [pair for family in widths for pair in family.steps]
    pairs += [(name, own) for own, reference in siblings.items() if reference in {*rereading, *once} for name in others]
    return [pair for pair in pairs if baseline not in pair]


def _describe_blind(
    run: FinishedRun,
    likelihoods: Mapping[FinishedRun, RunLikelihoods],
    convergence: Convergence,
    test: TestSet,
    *,
    rates: Sequence[float],
    other_seeds: Sequence[FinishedRun],
) -> BlindBits:
    own = likelihoods[run]
    bits = float(sentence_bits(own.nats).mean())
    gain, pieces = convergence.gain_of_last_fifth, _dev_pieces(run, run.prepared)
    return BlindBits(
        run=run.path.name,
        provenance=_provenance([run]),
        dev_loss=run.metrics.dev.loss,
        converged=convergence.converged,
        # The gain is a share of the loss before the last fifth; these are bits after it.
        last_fifth_bits=bits * gain / (1 - gain),
        temperature=own.temperature,
        bits=bits,
        raw_bits=float(sentence_bits(own.raw_nats).mean()),
        end_bits=float(end_bits(own.nats).mean()),
        joined={count: float(values.mean()) / max(JOINED) for count, values in own.joined_bits.items()},
        target_pieces=float(np.mean([len(nats) for nats in own.nats])),
        target_words=float(np.mean([count_words(row.reference, test.target_language) for row in test.rows])),
        learning=[LearningPoint(tokens, loss * pieces * BITS_A_NAT) for tokens, loss in run.dev_curves.loss],
        learning_rates=sorted(set(rates)),
        other_seeds=[float(sentence_bits(likelihoods[seed].nats).mean()) for seed in other_seeds],
    )


def _provenance(runs: Sequence[FinishedRun]) -> Provenance:
    return Provenance(
        seeds=[run.metrics.seed for run in runs],
        commits=[run.metrics.code for run in runs],
        target_tokens=[run.metrics.train_target_tokens for run in runs],
        config=dict(runs[0].config),
    )


def bits_in_training(
    blind: Sequence[tuple[float, float]], losses: Sequence[tuple[float, float]], pieces: float
) -> list[LearningPoint]:
    """Return the bits per dev sentence at each validation, against the blind model after as many target tokens.

    Against the blind model at its best, a run would begin far below zero: it has not yet learnt the target language,
    which takes no source. Both losses are likelihoods at temperature 1 (`DevCurves.loss`), with label smoothing too:
    the smoothed loss, by which checkpoints are then chosen, counts no bits.

    The blind model's loss is interpolated between its validations. Points before its first are left out; validations
    at the same share of two budgets count as the same, as budgets are rounded to whole batches.

    Args:
        blind: target tokens read, and nats per target token, at each validation of the blind run.
        losses: the same of another.
        pieces: mean target tokens of a dev sentence.
    """
    tokens_of_blind, losses_of_blind = zip(*blind, strict=True)
    return [
        LearningPoint(tokens, (float(np.interp(tokens, tokens_of_blind, losses_of_blind)) - loss) * pieces * BITS_A_NAT)
        for tokens, loss in losses
        if tokens * BUDGET_TOLERANCE >= tokens_of_blind[0]
    ]


def _dev_pieces(run: FinishedRun, prepared: PreparedData) -> float:
    """Return the mean length of the dev references that the run's validations read, as their loss counts it.

    Args:
        run: of which they are.
        prepared: the corpus, which all runs share: to open that of each would take long.
    """
    dev = prepared.splits["dev"]
    rows = np.array(evenly_spaced(len(dev), run.config["trainer"]["dev_sentences"]))
    return dev.loss_tokens(rows) / len(rows)


class _Measurement:
    """Quantities of one variant's seeds, on the test set and its resamples.

    Args:
        blind: likelihoods of the blind run.
        seeds: likelihoods of K runs.
        test: the sentences.
        draws: resamples that all variants share.
    """

    def __init__(self, blind: RunLikelihoods, seeds: Sequence[RunLikelihoods], test: TestSet, draws: Draws):
        self.blind, self.seeds, self.test, self.draws = blind, seeds, test, draws
        self.needed = [sentence_bits(seed.nats) for seed in seeds]  # K arrays [N]
        self.saved = [sentence_bits(blind.nats) - needed for needed in self.needed]  # K arrays [N]
        self.whole = mean_quantity(self.saved, draws.whole)
        self.buckets = {
            bucket: mean_quantity([values[test.inside(bucket)] for values in self.saved], counts)
            for bucket, counts in draws.buckets.items()
        }

    @property
    def by_length(self) -> list[Quantity | None]:
        """Bits in each length bucket; None for a bucket without sentences."""
        return [self.buckets.get(bucket) for bucket in range(len(self.test.bounds))]

    @property
    def raw(self) -> Quantity:
        """Bits at temperature 1."""
        blind = sentence_bits(self.blind.raw_nats)
        return mean_quantity([blind - sentence_bits(seed.raw_nats) for seed in self.seeds], self.draws.whole)

    @property
    def end(self) -> Quantity:
        """Bits of end-of-sentence."""
        blind = end_bits(self.blind.nats)
        return mean_quantity([blind - end_bits(seed.nats) for seed in self.seeds], self.draws.whole)

    @property
    def by_position(self) -> list[Quantity | None]:
        """Bits per piece in each position bucket; None for a bucket without pieces."""
        return [
            _ratio_quantity(
                [_bits_at_positions(self.blind.nats, seed.nats, *bounds) for seed in self.seeds], self.draws.whole
            )
            for bounds in length_buckets(POSITIONS)
        ]

    @cached_property
    def joined_quantities(self) -> dict[int, Quantity]:
        """Bits of joined sentences. The resamples draw groups of max(JOINED) sentences, the same for every count."""
        return {
            count: mean_quantity(
                [(blind - seed.joined_bits[count]) / max(JOINED) for seed in self.seeds],
                draw_resamples(len(blind), len(self.draws.whole)),
            )
            for count, blind in self.blind.joined_bits.items()
            if all(count in seed.joined_bits for seed in self.seeds)
        }

    @property
    def joined(self) -> dict[int, JoinedBits]:
        """Bits of joined sentences, and what joining them gains."""
        return {
            count: JoinedBits(quantity.estimate, (quantity + self.joined_quantities[1].times(-1)).estimate)
            for count, quantity in self.joined_quantities.items()
        }

    @property
    def contrastive(self) -> ContrastiveBits | None:
        """The contrastive bound on the sentences that it reads; None where it was not measured."""
        readings = [seed.contrastive for seed in self.seeds if seed.contrastive is not None]
        if not readings:
            return None
        first = readings[0]
        drawn = mean_quantity(
            [reading.bits for reading in readings], draw_resamples(len(first.bits), len(self.draws.whole))
        )
        bounded = Quantity(drawn.value, drawn.drawn, drawn.sentences, Interval(-np.inf, first.cap))
        return ContrastiveBits(bounded.estimate, first.sources, len(first.rows), len(first.classes))

    @property
    def saturation(self) -> Saturation:
        """The curve of bits over source words, mean over seeds."""
        return find_plateau(self.test.source_words, self.saved)

    @property
    def slopes(self) -> list[float]:
        """Slope of the straight line over source words, for each seed."""
        return [straight_slope(self.test.source_words, values) for values in self.saved]

    def nulled(self, share: float) -> NulledBits | None:
        """Return the bits by the model without its source, in place of the blind one; None for a share of 0.

        Args:
            share: of the training items that were read without source.
        """
        information = [seed.pointwise for seed in self.seeds if seed.pointwise is not None]
        if not information:
            return None
        bits = [own.sentences for own in information]
        buckets = {
            bucket: mean_quantity([values[self.test.inside(bucket)] for values in bits], counts).estimate
            for bucket, counts in self.draws.buckets.items()
        }
        words = np.array([count_words(row.reference, self.test.target_language) for row in self.test.rows])
        per_word = _ratio_quantity(
            [np.array([own.sentences - own.ends, words]) for own in information], self.draws.whole
        )
        assert per_word is not None  # No reference is empty.
        return NulledBits(
            share=share,
            bits=mean_quantity(bits, self.draws.whole).estimate,
            word_bits=per_word.estimate,
            by_length=[buckets.get(bucket) for bucket in range(len(self.test.bounds))],
        )

    def received(self, exact: np.ndarray, counts: np.ndarray, inside: np.ndarray | None = None) -> Quantity:
        """Return the mean information in references less the bits that the variant needs; no blind model takes part.

        The information is known, not estimated: the resamples concern the variant's bits alone.

        Args:
            exact: [n] information in the references of `inside`, bits.
            counts: [R, n] resamples of these.
            inside: [N] which sentences; None: all.
        """
        rows = slice(None) if inside is None else inside
        needed = mean_quantity([values[rows] for values in self.needed], counts)
        # A decoder needs no fewer than 0 bits.
        most = Interval(-np.inf, float(exact.mean()))
        return Quantity(exact.mean() - needed.value, exact.mean() - needed.drawn, needed.sentences, most)


def _compare(
    measured: Mapping[str, _Measurement],
    name: str,
    reference: str,
    own_decoders: Mapping[tuple[str, str], _Measurement],
) -> BitsDifference:
    """Compare a variant with another; the pooled variance over seeds is that of all variants.

    Args:
        measured: the variants.
        name: the one.
        reference: the other.
        own_decoders: in place of the other's seeds, where the first has frozen encoders of some of them.
    """
    own, base = measured[name], own_decoders.get((name, reference), measured[reference])
    seeds = pool([each.whole for each in measured.values()])

    def in_bucket(bucket: int) -> Difference | None:
        if bucket not in own.buckets:
            return None
        seeds_in_bucket = pool([each.buckets[bucket] for each in measured.values()])
        return compare_quantities(own.buckets[bucket], base.buckets[bucket], seeds_in_bucket)

    return BitsDifference(
        compare_quantities(own.whole, base.whole, seeds),
        [in_bucket(bucket) for bucket in range(len(own.test.bounds))],
        find_plateau(own.test.source_words, base.needed, own.needed),
        {
            count: compare_quantities(
                quantity,
                base.joined_quantities[count],
                pool([each.joined_quantities[count] for each in measured.values() if count in each.joined_quantities]),
            )
            for count, quantity in own.joined_quantities.items()
            if count in base.joined_quantities
        },
    )


def _bits_at_positions(
    blind: Sequence[np.ndarray], nats: Sequence[np.ndarray], first: int, last: int | None
) -> np.ndarray:
    """Return [2, N]: bits of each sentence at target positions `first` to `last`, and how many of these it has."""
    rows = [slice(first - 1, min(len(row) - 1, last or len(row))) for row in nats]  # Without end-of-sentence.
    bits = [(b[at].sum() - n[at].sum()) * BITS_A_NAT for b, n, at in zip(blind, nats, rows, strict=True)]
    return np.array([bits, [len(n[at]) for n, at in zip(nats, rows, strict=True)]])


def _ratio_quantity(parts: Sequence[np.ndarray], counts: np.ndarray) -> Quantity | None:
    """Return the sum of bits over the number of pieces, from K arrays [2, N]; None where there are no pieces."""
    if not parts[0][1].sum():
        return None
    value = np.array([bits.sum() / pieces.sum() for bits, pieces in parts])
    with np.errstate(invalid="ignore"):
        drawn = np.stack([(counts @ bits) / (counts @ pieces) for bits, pieces in parts])
    return Quantity(value, drawn, int((parts[0][1] > 0).sum()))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


@dataclass(frozen=True)
class _Items:
    """Sentences whose information is known: of a corpus with `SizedRecipe.item_names`.

    Attributes:
        names: what they are called.
        sizes: [N] of each: the digits of a number, or the shapes of a picture.
        bits: [N] information in an item of this size.
    """

    names: ItemNames
    sizes: np.ndarray
    bits: np.ndarray


def _read_items(config: Config, test: TestSet) -> _Items | None:
    """Return the sizes of the sentences and their information; None of a corpus whose information is not known."""
    data = config["data"]
    recipe = RECIPES[data["name"]]
    if not issubclass(recipe, SizedRecipe) or recipe.item_names is None:
        return None
    # An id is SPLIT-kSIZE-NUMBER.
    sizes = np.array([int(row.id.split("-")[1].removeprefix("k")) for row in test.rows])
    bits = np.array([recipe.item_bits(int(size), data["shortest"], data["longest"]) for size in sizes])
    return _Items(recipe.item_names, sizes, bits)


def _by_digits(items: _Items, measured: Mapping[str, _Measurement], counts: np.ndarray) -> list[DigitBucket]:
    return [
        DigitBucket(
            digits=int(digits),
            sentences=int(inside.sum()),
            exact_bits=float(items.bits[inside].mean()),
            variants={
                name: own.received(items.bits[inside], counts[:, inside], inside).estimate
                for name, own in measured.items()
            },
        )
        for digits in np.unique(items.sizes)
        for inside in [items.sizes == digits]
    ]
