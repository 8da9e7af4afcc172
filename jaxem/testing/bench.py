"""A model at its bench: where laws are put to the test, and the scales that rounding is measured in there.

Tolerances are multiples of rounding in the units of what is compared: a sum over rows by the terms it is made of, which
sums over random halves of the weights tell; a log-likelihood by Σ_n w_n (|log p_n| + observations in row n), and by what an
ulp of the data does to it; a gradient by how much those of two halves of the rows differ, and by what an ulp of the
parameters does to it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem import constraints
from jaxem.boundary import as_key, check_data, check_params
from jaxem.model import Family, Model, PyTree
from jaxem.testing.compare import flat, unflat
from jaxem.testing.evidence import HERE, OTHER, UPDATE, Evidence, constrained, look_at
from jaxem.trees import map_rows, num_rows

SUM = 64.0  # roundings of the terms of a sum within which two ways to add them up agree
SLOPE = 1e4  # roundings within which a gradient is zero, or two are the same
MOVE = 64.0  # ulps that numbers are moved by, to tell what their rounding does
HALVES = 2  # random halves of the weights that tell how large the terms of sums are


class Bench(NamedTuple):
    """A model on its data at the params of a check and at others nearby, and the scales of rounding there."""

    model: Model
    given: PyTree  # the params that the check was given
    params: PyTree  # others nearby, where laws are put to the test
    raw: PyTree
    data: PyTree
    weights: np.ndarray
    size: np.ndarray  # observations in each row
    seed: np.ndarray
    here: Evidence  # at params; the other params are the update
    stats_scale: PyTree  # of each leaf
    slope_scale: np.ndarray  # of each entry of the gradient at params
    update_scale: np.ndarray  # and at the update
    grain: float  # what one rounding of each number of the data does to the log-likelihood

    @property
    def eps(self) -> float:
        """The rounding unit of the dtype of the data."""
        return float(np.finfo(self.weights.dtype).eps)

    def random(self, law: int) -> np.random.Generator:
        """Return the source of random numbers of one law."""
        return np.random.default_rng([law, *self.seed])

    def at(self, params: PyTree, other: PyTree = None, data: PyTree = None, weights: np.ndarray | None = None) -> Evidence:
        """Return the evidence at `params`, by default with this bench's data and weights, in NumPy."""
        data = self.data if data is None else data
        weights = self.weights if weights is None else weights
        return look_at(self.model, params, params if other is None else other, data, weights)

    def rounding(self, found: Evidence, weights: np.ndarray | None = None) -> float:
        """Return one rounding of the log-likelihood: of its terms, w_n (|log p_n| + observations), and of the data."""
        weights = self.weights if weights is None else weights
        if isinstance(found.log_prob, tuple):
            return self.grain + self.eps * (abs(float(found.log_likelihood)) + float(weights @ self.size))
        terms = np.where(weights > 0, np.abs(found.log_prob) + self.size, 0)
        return self.grain + self.eps * float((weights * terms).sum())


def halves_of(weights: np.ndarray, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return random halves of the weights, each with the half that is left."""
    first = [weights * random.permutation(np.arange(weights.size) % 2).astype(weights.dtype) for _ in range(HALVES)]
    return [(half, weights - half) for half in first]


def spread(pairs: list[tuple[np.ndarray, np.ndarray]], num: int) -> np.ndarray:
    """Return an upper estimate of Σ_n |w_n s_n| from pairs of sums over complementary halves: √n · rms of the differences."""
    squares = [(first - second) ** 2 for first, second in pairs]
    return np.sqrt(num * np.mean(squares, 0))


def stats_scale(whole: PyTree, halves: list[tuple[PyTree, PyTree]], num: int) -> PyTree:
    """Return the scale of each leaf of statistics: its largest entry, and the terms that it is the sum of."""

    def scale(leaf: np.ndarray, *parts: np.ndarray) -> float:
        pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return float((np.abs(np.asarray(leaf, np.float64)) + spread(pairs, num)).max(initial=0))

    return jax.tree.map(scale, whole, *(half for pair in halves for half in pair))


def _slopes(found: Evidence, place: int) -> np.ndarray:
    """Return the gradient that tells scales: of the log-likelihood at the params, of the bound elsewhere."""
    return flat(found.survey.extra, HERE) if place == HERE else flat(found.survey.bound_slope, place)


def by_ulps(random: np.random.Generator, leaf: Any) -> np.ndarray:
    """Return an array with each float moved by `MOVE` ulps, up or down."""
    leaf = np.asarray(leaf)
    if not np.issubdtype(leaf.dtype, np.floating):
        return leaf
    signs = random.choice([-1.0, 1.0], leaf.shape)
    return (leaf * (1 + MOVE * float(np.finfo(leaf.dtype).eps) * signs)).astype(leaf.dtype)


def ill_conditioned(record: Model | Family, slope_at: Callable[[PyTree], np.ndarray], params: PyTree, seed: int) -> np.ndarray:
    """Return how much a gradient changes where params change by `MOVE` ulps; infinite where that leaves their domain."""
    random = np.random.default_rng(seed)

    mended = jax.device_get(constraints.mend(record.constraints, jax.tree.map(partial(by_ulps, random), params)))
    change = np.abs(slope_at(mended) - slope_at(params)) / MOVE
    return np.where(np.isfinite(change), change, np.inf)


def nearby(model: Model, found: Evidence, errors: np.ndarray, random: np.random.Generator, size: float = 0.5) -> PyTree:
    """Return other params in the domain: half of the way to the update, and off it by some standard errors at random.

    `errors` are the standard errors of the entries in unconstrained space, zero where they are not known.
    """
    start, end = flat(found.survey.free, HERE), flat(found.survey.free, UPDATE)
    free = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], found.survey.free)
    ours = np.array(_are_real(model, found.update, free))
    end = np.where(np.isfinite(start) & np.isfinite(end), end, start)
    known = np.where(ours, errors, np.minimum(errors, 0.2 / size))
    step = np.where(errors > 0, known, 0.02 / size * np.abs(start))
    with np.errstate(invalid="ignore"):  # infinite on the boundary of a domain, where they stay
        moved = start + 0.5 * (end - start) + size * step * random.uniform(-1, 1, start.shape)
    return jax.device_get(constrained(model, unflat(np.where(np.isfinite(moved), moved, start), free)))


def _are_real(model: Model, params: PyTree, free: PyTree) -> list[bool]:
    """Tell for each entry in unconstrained space whether it has the units of a parameter, not of a logarithm."""
    pairs = zip(constraints.broadcast(model.constraints, params), jax.tree.leaves(free), strict=True)
    return [domain.name == "real" for domain, leaf in pairs for _ in range(np.size(leaf))]


def standard_errors(scale: np.ndarray, num: int) -> np.ndarray:
    """Return 1 / √(Σ_n g_n²) from the scale of a gradient, zero where that is zero or unknown."""
    known = np.isfinite(scale) & (scale > 0)
    return np.where(known, np.sqrt(num) / np.where(known, scale, 1), 0)


def set_up(model: Model, params: PyTree, data: PyTree, weights: Any, key: Any) -> Bench:
    """Return the bench of a check; raise ValueError for what `fit` would not take."""
    raw = data
    data, weights = check_data(model, data, weights)
    params = jax.device_get(check_params(model, params, data, weights))
    seed = np.asarray(jax.random.key_data(as_key(0 if key is None else key))).ravel()
    random = np.random.default_rng(seed)
    rows = num_rows(data)
    data = jax.device_get(data)
    size = np.ones(rows) if model.size is None else np.asarray(model.size(data), np.float64)
    weights = np.asarray(weights)
    halves, num = halves_of(weights, random), int((weights > 0).sum())

    def halved(theta: PyTree, other: PyTree) -> list[tuple[Evidence, Evidence]]:
        return [(look_at(model, theta, other, data, one), look_at(model, theta, other, data, left)) for one, left in halves]

    def scale(found: list[tuple[Evidence, Evidence]], place: int) -> np.ndarray:
        return spread([(_slopes(one, place), _slopes(left, place)) for one, left in found], num)

    given = look_at(model, params, params, data, weights)
    assert np.isfinite(given.log_likelihood), f"The log-likelihood is {given.log_likelihood} at the given params."
    near = nearby(model, given, standard_errors(scale(halved(params, params), HERE), num), random)
    if not np.isfinite(look_at(model, near, near, data, weights).log_likelihood):
        near = params
    update = look_at(model, near, near, data, weights).update
    here, found = look_at(model, near, update, data, weights), halved(near, update)
    scale_of_stats = stats_scale(here.stats, [(one.stats, left.stats) for one, left in found], num)
    scales = scale(found, HERE), scale(found, OTHER)
    moved = [look_at(model, near, update, map_rows(partial(by_ulps, random), data), weights) for _ in range(HALVES)]
    changes = np.array([float(each.log_likelihood) - float(here.log_likelihood) for each in moved]) / MOVE
    grain = float(np.sqrt(np.mean(changes**2))) if np.isfinite(changes).all() else 0.0
    return Bench(model, params, near, raw, data, weights, size, seed, here, scale_of_stats, *scales, grain)
