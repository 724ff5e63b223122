"""The likelihoods that a finished run assigns to the references of test, each sentence alone and several joined.

Shapes: N test sentences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hourglass.corpora.recipes import RECIPES
from hourglass.corpora.synthetic import SyntheticRecipe
from hourglass.errors import UserError
from hourglass.metrics.contrastive import ContrastiveReading, read_contrast
from hourglass.metrics.likelihood import Pairs, end_bits, fit_temperature, reference_nats, sentence_bits
from hourglass.metrics.nulled import PointwiseInformation, null_share, pointwise_information, without_sources
from hourglass.models.checkpoint import Trained, load_trained
from hourglass.models.seq2seq import Seq2Seq
from hourglass.system.arrays import read_arrays, write_arrays
from hourglass.training.finished import FinishedRun
from hourglass.training.preparation import PreparedData

# Numbers of consecutive test sentences that are joined to one input. The content stays the same; the input gets longer.
JOINED = (1, 2, 4)


@dataclass(frozen=True)
class RunLikelihoods:
    """Negative log-likelihoods of the references of test.

    Attributes:
        temperature: that divides the logits, fitted on dev; 1 for a run trained without label smoothing.
        nats: N arrays, one value for each target token, at this temperature.
        raw_nats: the same at temperature 1.
        joined_bits: by the number of sentences joined to one input, bits of each group of max(JOINED) sentences. Ends
            of sentence are not counted: there are fewer of them in a joined input. No sentence may end where the next
            one begins, joined or not. Empty for a synthetic corpus.
        pointwise: bits that the sources give; None for a run of trainer.null_source=0.
        contrastive: a lower bound on the information that reached the decoder; None where it is not asked for.
    """

    temperature: float
    nats: list[np.ndarray]
    raw_nats: list[np.ndarray]
    joined_bits: dict[int, np.ndarray]
    pointwise: PointwiseInformation | None = None
    contrastive: ContrastiveReading | None = None


def read_likelihoods(run: FinishedRun, prepared: PreparedData, contrastive: int = 0) -> RunLikelihoods:
    """Return the likelihoods of the references of test: those that are kept with the run, or by its best checkpoint.

    Args:
        run: of which they are.
        prepared: the corpus.
        contrastive: sources of each contrast (`metrics.contrastive`), which take the checkpoint; 0: not measured.
    """
    if not contrastive and run.folder.likelihoods.exists():
        return kept_likelihoods(run.folder.likelihoods)
    trained = load_trained(run.folder.best)  # Not run.trained, which would keep the models of all runs in memory.
    model = trained.model
    dev, pairs = (encode_split(trained, prepared, name) for name in ("dev", "test"))
    smoothed = trained.config["optimizer"]["label_smoothing"] > 0
    temperature = best_temperature(run, trained, dev)
    # Two items of a synthetic corpus in one input are no item of it; two prefixes cannot stand before both, and two
    # pictures are not one.
    recipe = RECIPES[trained.config["data"]["name"]]
    whole = issubclass(recipe, SyntheticRecipe) or recipe.has_features or pairs.prefixes is not None
    joined = {} if whole else _read_joined(model, pairs, temperature)
    nats = reference_nats(model, pairs, temperature=temperature)
    pointwise = None
    if null_share(run.config):
        pointwise, _ = read_pointwise(run, trained, dev, pairs, nats)
    contrast = read_contrast(model, pairs, sources=contrastive, temperature=temperature) if contrastive else None
    raw_nats = reference_nats(model, pairs) if smoothed else nats
    return RunLikelihoods(temperature, nats, raw_nats, joined, pointwise, contrast)


def keep_likelihoods(file: Path, likelihoods: RunLikelihoods) -> None:
    """Write likelihoods, but for the contrastive bound, in float32 as an archive of arrays."""
    arrays = {"temperature": np.array(likelihoods.temperature), **_flat("nats", likelihoods.nats)}
    if likelihoods.temperature != 1:
        arrays |= _flat("raw_nats", likelihoods.raw_nats)
    if likelihoods.pointwise is not None:
        arrays |= _flat("pointwise", likelihoods.pointwise.tokens)
    arrays |= {f"joined_{count}": bits.astype(np.float32) for count, bits in likelihoods.joined_bits.items()}
    write_arrays(file, arrays)


def kept_likelihoods(file: Path) -> RunLikelihoods:
    """Read what `keep_likelihoods` has written.

    Raises:
        UserError: the file is damaged.
    """
    arrays = read_arrays(file)
    try:
        lists = {
            name: np.split(arrays[name].astype(np.float64), np.cumsum(arrays[f"{name}_lengths"])[:-1])
            for name in ("nats", "raw_nats", "pointwise")
            if name in arrays
        }
        pointwise = PointwiseInformation(lists["pointwise"]) if "pointwise" in lists else None
        joined = {
            count: arrays[f"joined_{count}"].astype(np.float64) for count in JOINED if f"joined_{count}" in arrays
        }
        raw_nats = lists.get("raw_nats", lists["nats"])
        return RunLikelihoods(float(arrays["temperature"]), lists["nats"], raw_nats, joined, pointwise)
    except KeyError as error:
        raise UserError(f"{file}: not the likelihoods of a run ({error} is missing)") from None


def _flat(name: str, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return N arrays as one, with their lengths."""
    lengths = np.array([len(row) for row in rows], dtype=np.int32)
    return {name: np.concatenate(rows).astype(np.float32), f"{name}_lengths": lengths}


def read_pointwise(
    run: FinishedRun, trained: Trained, dev: Pairs, test: Pairs, nats: Sequence[np.ndarray]
) -> tuple[PointwiseInformation, float]:
    """Compute the bits that the sources of test give, and the temperature of the model without source.

    Args:
        run: with trainer.null_source above 0.
        trained: its model.
        dev: pairs that the temperature is fitted on.
        test: pairs that are read.
        nats: N arrays, of the references of test with their sources.
    """
    temperature = best_temperature(run, trained, without_sources(dev))
    nulled_nats = reference_nats(trained.model, without_sources(test), temperature=temperature)
    return pointwise_information(nats, nulled_nats), temperature


def encode_split(trained: Trained, prepared: PreparedData, name: str) -> Pairs:
    """Return the pairs of a split as ids of the model's vocabularies."""
    return Pairs.of_split(trained.vocabularies, prepared.corpus.splits[name])


def best_temperature(run: FinishedRun, trained: Trained, dev: Pairs) -> float:
    """Return the temperature that is best on pairs of dev; 1 for a run trained without label smoothing.

    Raises:
        UserError: it lies at the bound of its search; the message names the run.
    """
    if not trained.config["optimizer"]["label_smoothing"]:
        return 1.0
    try:
        return fit_temperature(trained.model, dev)
    except UserError as error:
        raise UserError(f"{run.path}: {error}") from None


def _read_joined(model: Seq2Seq, pairs: Pairs, temperature: float) -> dict[int, np.ndarray]:
    joined: dict[int, np.ndarray] = {}
    used = len(pairs.targets) // max(JOINED) * max(JOINED)
    for count in JOINED:
        groups = [range(first, first + count) for first in range(0, used, count)]
        longer = Pairs(
            *(
                [[int(piece) for row in group for piece in side[row]] for group in groups]
                for side in (pairs.sources, pairs.targets)
            )
        )
        try:
            model.check_length(max(map(len, longer.sources), default=0) + 1, "test, joined")
        except UserError:  # luong_location and encoder=convolution have a fixed number of source positions.
            continue
        starts = [
            [at for at in np.cumsum([0, *(len(pairs.targets[i]) for i in group[:-1])]).tolist() if at < len(target)]
            for group, target in zip(groups, longer.targets, strict=True)
        ]
        nats = reference_nats(model, longer, temperature=temperature, continues_at=starts)
        joined[count] = (sentence_bits(nats) - end_bits(nats)).reshape(-1, max(JOINED) // count).sum(1)
    return joined
