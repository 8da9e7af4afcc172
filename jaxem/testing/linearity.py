"""Law 1: what is a sum over rows, and that absent rows are no part of it, whatever stands in them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.boundary import ready
from jaxem.model import Model, PyTree
from jaxem.testing.bench import SUM, Bench, halves_of
from jaxem.testing.compare import alike, assert_close, largest, plus, scaled
from jaxem.testing.evidence import Evidence, quickly
from jaxem.trees import map_rows, rows_of

LAW = "Law 1 (linearity)"
OUTLYING = (1e1, 1e4, 1e8)  # times what stood in an absent row


def linearity(bench: Bench) -> None:
    """Compare sums over rows with sums of sums, and rows that are absent, doubled or elsewhere with what they should be."""
    _assert_adds_up(bench)
    half = bench.weights.size // 2
    present = np.arange(bench.weights.size) < half
    kept = np.where(present, bench.weights, 0).astype(bench.weights.dtype)
    if (kept > 0).any():
        _assert_zero_is_absent(bench, kept, half)
        _assert_two_is_twice(bench, kept, half)
        _assert_absent_whatever_stands_there(bench, present, kept)


def _sums(bench: Bench, found: Evidence) -> PyTree:
    """Return what must be linear: of a model that is not additive, the log-likelihood alone."""
    return (found.stats if bench.model.additive else (), found.log_likelihood)


def _compare(bench: Bench, received: PyTree, expected: PyTree, what: str, times: float = 1.0) -> None:
    scale = (bench.stats_scale if bench.model.additive else (), bench.rounding(bench.here) / bench.eps)
    assert_close(received, expected, scaled(scale, times * SUM * bench.eps), LAW, what)


def _assert_adds_up(bench: Bench) -> None:
    random, weights = bench.random(1), bench.weights
    whole = _sums(bench, bench.here)
    for halves in halves_of(weights, random):
        one, left = (_sums(bench, bench.at(bench.params, weights=half)) for half in halves)
        _compare(bench, plus(one, left), whole, "e_step at one half of the weights plus that at the other")
    more = (random.uniform(size=weights.size) * weights.mean()).astype(weights.dtype)
    expected = plus(whole, scaled(_sums(bench, bench.at(bench.params, weights=more)), 2))
    received = _sums(bench, bench.at(bench.params, weights=weights + 2 * more))
    _compare(bench, received, expected, "e_step at weights w + 2v against e_step(w) + 2 e_step(v)", 3)


def _assert_zero_is_absent(bench: Bench, kept: np.ndarray, half: int) -> None:
    """Compare with other data, of half the rows: the one program more that this law takes, and one without derivatives."""
    first = map_rows(lambda leaf: leaf[:half], bench.data)
    uneven = (kept * bench.random(1).uniform(0.5, 1.5, kept.size)).astype(kept.dtype)
    stats, log_likelihood = jax.device_get(_e_step(bench.model, bench.params, first, uneven[:half]))
    received = _sums(bench, bench.at(bench.params, weights=uneven))
    expected = (stats if bench.model.additive else (), log_likelihood)
    _compare(bench, received, expected, "e_step with weight zero against those rows left out")


def _assert_two_is_twice(bench: Bench, kept: np.ndarray, half: int) -> None:
    n = kept.size
    places = np.concatenate([np.arange(half), np.arange(half), np.zeros(n - 2 * half, int)])
    twice = np.where(np.arange(n) < 2 * half, kept[places], 0).astype(kept.dtype)
    doubled = bench.at(bench.params, data=map_rows(lambda leaf: leaf[places], bench.data), weights=twice)
    received = _sums(bench, bench.at(bench.params, weights=2 * kept))
    _compare(bench, received, _sums(bench, doubled), "e_step with weight two against those rows twice", 2)


def _assert_absent_whatever_stands_there(bench: Bench, present: np.ndarray, kept: np.ndarray) -> None:
    for data, before, what in _outlying(bench, present, kept):
        other, absent = bench.at(bench.params, data=data, weights=kept), bench.at(bench.params, data=before, weights=kept)
        _compare(bench, _sums(bench, other), _sums(bench, absent), f"e_step with {what} in rows of weight zero")
        limit = SUM * bench.eps * (1 + largest(absent.log_prob))
        for name in ("log_prob", "posterior"):
            pair = [jax.tree.map(lambda leaf: leaf[present], getattr(found, name)) for found in (other, absent)]
            assert_close(pair[0], pair[1], limit, LAW, f"{name} of the others with {what} in rows of weight zero")


@quickly
def _e_step(model: Model, params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
    return model.e_step(params, data, weights)


def _outlying(bench: Bench, present: np.ndarray, kept: np.ndarray) -> list[tuple[PyTree, PyTree, str]]:
    """Return data with other values in absent rows, outlying ones and those of others, where legal, and data as they were.

    Both are prepared alike, for the rows that are present.
    """
    raw = bench.raw
    plain = all(isinstance(leaf, (np.ndarray, jax.Array)) and np.ndim(leaf) for leaf in rows_of(raw))
    base = raw if plain else bench.data
    lone, limit = len(rows_of(base)) == 1, float(np.finfo(bench.weights.dtype).max) ** 0.25

    def outlying(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if not (np.issubdtype(leaf.dtype, np.floating) or (lone and leaf.dtype.kind == "i")):
            return np.where(_column(present, leaf), leaf, np.roll(leaf, 1, 0))
        sizes = np.resize(OUTLYING, len(leaf))
        far = np.asarray(leaf, np.float64) * _column(sizes, leaf)
        far = np.where(np.abs(far) > max(limit, np.abs(leaf).max()), leaf, far)
        return np.where(_column(present, leaf), leaf, far.astype(leaf.dtype))

    def reflected(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        other = np.roll(leaf, 1, 0) if leaf.dtype == bool else leaf.max(0) + leaf.min(0) - leaf
        return np.where(_column(present, leaf), leaf, other.astype(leaf.dtype))

    before = _legal(bench, base, kept)
    if before is None:
        return []
    made = [(map_rows(outlying, base), "outlying values"), (map_rows(reflected, base), "other values")]
    legal = [(_legal(bench, data, kept), what) for data, what in made]
    return [(data, before, what) for data, what in legal if data is not None]


def _column(values: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (np.ndim(leaf) - 1))


def _legal(bench: Bench, data: PyTree, weights: np.ndarray) -> PyTree | None:
    """Return data as prepared, None where they are not legal: refused at the door, or with nothing finite to say of them."""
    prepare = bench.model.prepare
    try:
        prepared = prepare(data, jnp.asarray(weights)) if prepare else ready(None, data)
    except ValueError:
        return None
    if not alike(prepared, bench.data):
        return None
    looked_at = prepare is not None and data is not prepared
    return prepared if looked_at or _all_finite(bench.at(bench.params, data=prepared)) else None


def _all_finite(found: Evidence) -> bool:
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves((found.stats, found.log_likelihood)))
