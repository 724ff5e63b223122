"""Likelihoods that are kept in git: read as they were written, in float32, and never unpickled."""

from pathlib import Path

import numpy as np
import pytest

from hourglass.analysis.likelihoods import RunLikelihoods, keep_likelihoods, kept_likelihoods
from hourglass.errors import UserError
from hourglass.metrics.nulled import PointwiseInformation


def rows(seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.exponential(2.0, size=length) for length in (3, 1, 7)]


def assert_equal(first: list[np.ndarray], second: list[np.ndarray]) -> None:
    assert [len(row) for row in first] == [len(row) for row in second]
    np.testing.assert_allclose(np.concatenate(first), np.concatenate(second), rtol=1e-7)
    assert all(row.dtype == np.float64 for row in second)


@pytest.mark.parametrize("temperature", [1.0, 1.25])
@pytest.mark.parametrize("nulled", [False, True])
def test_what_is_kept_is_what_was_measured(tmp_path: Path, temperature: float, nulled: bool) -> None:
    nats = rows(0)
    raw_nats = nats if temperature == 1 else rows(1)
    joined = {1: np.array([1.5, 2.5]), 4: np.array([0.25, 9.0])}
    pointwise = PointwiseInformation(rows(2)) if nulled else None
    file = tmp_path / "likelihoods.npz"
    keep_likelihoods(file, RunLikelihoods(temperature, nats, raw_nats, joined, pointwise))
    kept = kept_likelihoods(file)
    assert kept.temperature == temperature
    assert_equal(nats, kept.nats)
    assert_equal(raw_nats, kept.raw_nats)
    assert kept.joined_bits.keys() == joined.keys()
    assert all(np.array_equal(kept.joined_bits[count], bits) for count, bits in joined.items())
    assert (kept.pointwise is None) == (pointwise is None)
    if pointwise is not None and kept.pointwise is not None:
        assert_equal(pointwise.tokens, kept.pointwise.tokens)
    before = file.read_bytes()
    keep_likelihoods(file, RunLikelihoods(temperature, nats, raw_nats, joined, pointwise))
    assert file.read_bytes() == before


def test_another_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "likelihoods.npz"
    np.savez(file, temperature=np.array(1.0))
    with pytest.raises(UserError, match=r"likelihoods\.npz: not the likelihoods of a run \('nats' is missing\)"):
        kept_likelihoods(file)
    np.savez(file, nats=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match=r"likelihoods\.npz: not a whole archive of arrays \(Object arrays cannot"):
        kept_likelihoods(file)
