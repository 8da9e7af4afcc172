"""How well a model foretells rows that it has not seen."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import at_least_one, is_traced
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import as_key, check_data
from jaxem.fitting import check_control
from jaxem.model import Model, PyTree, require
from jaxem.programs import compiled
from jaxem.race import Course, Problem, race, random_starts
from jaxem.restarts import default_num_lanes, plan
from jaxem.solvers import Solver, squarem
from jaxem.stopping import is_unsound
from jaxem.trees import pick


def cross_validate(
    model: Model,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    num_folds: int = 10,
    num_restarts: int = 8,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
) -> Array:
    """Return log p of each row (n,), in nats, under the model fitted to the other folds: their sum judges models.

    Rows are dealt at random into folds of about equal size; each is left out in turn, as weights of zero, and the others are
    searched from `num_restarts` random starts as in `fit_restarts`, all folds in one race. Whole rows are left out, whatever
    they hold; rows of weight zero are absent, and have zero. As many folds as rows leave out one at a time. Rows of a fold
    whose best fit ended DEGENERATE or NONFINITE have NaN: it is no maximum, and foretells nothing.
    Stone (1974); Smyth (2000) of mixtures.

    Raises ValueError as `fit_restarts` does, for fewer than two folds or more than rows of positive weight, for a model
    without `log_prob` or `init`, and under a trace.

    >>> import jaxem
    >>> x, heights = jaxem.datasets.galaxies(), []
    >>> for k in (1, 3):
    ...     heights.append(jaxem.cross_validate(jaxem.mixture(jaxem.families.gaussian(), k), 0, x).sum())
    >>> print(f"{heights[1] - heights[0]:.0f}")
    20
    """
    max_steps = check_control(solver, tol, max_steps)
    if is_traced(data, weights):
        raise ValueError("cross_validate deals rows into folds and runs programs of its own: call it outside jit and vmap.")
    num_folds, key = at_least_one("num_folds", num_folds), as_key(key)
    data, weights = check_data(model, data, weights)
    present = int(np.count_nonzero(np.asarray(weights)))
    if not 2 <= num_folds <= present:
        raise ValueError(f"num_folds must be at least 2 and at most the {present} rows of positive weight, got {num_folds}.")
    for needed in ("log_prob", "init"):
        require(model, needed)
    num_restarts, course = plan(num_restarts, None, 50, max_steps, default_num_lanes(model, data), keep_histories=False)
    deal, search = jax.random.split(key)
    folds = _dealt(deal, np.asarray(weights), num_folds)
    run = by_default_in_blocks(model, data)
    tolerance = jnp.asarray(tol, weights.dtype)
    return _validate(run, solver, course, num_folds, num_restarts, search, folds, data, weights, tolerance)


def _dealt(key: Array, weights: np.ndarray, num_folds: int) -> Array:
    """Return the fold of each row, those of positive weight spread evenly."""
    shuffled = np.asarray(jax.random.permutation(key, weights.size))
    order = shuffled[np.argsort(weights[shuffled] <= 0, kind="stable")]
    folds = np.empty(weights.size, np.int32)
    folds[order] = np.arange(weights.size) % num_folds
    return jnp.asarray(folds)


@partial(compiled, static_argnums=(0, 1, 2, 3, 4), work=lambda *given: given[3] * given[4] * given[8].size)
def _validate(
    model: Model,
    solver: Solver,
    course: Course,
    num_folds: int,
    num_restarts: int,
    key: Array,
    folds: Array,
    data: PyTree,
    weights: Array,
    tol: Array,
) -> Array:
    left_out = folds[None] == jnp.arange(num_folds, dtype=jnp.int32)[:, None]
    problem = Problem(data, jnp.where(left_out, 0, weights[None]), own_weights=True)
    keys = jax.random.split(key, num_folds * num_restarts)
    starts = random_starts(model, keys, num_folds, problem, course.num_lanes)
    fits, best, _ = race(model, solver, course, starts, num_folds, problem, tol)
    heights = lax.map(lambda params: require(model, "log_prob")(params, data), pick(fits.params, best))
    heights = jnp.where(is_unsound(fits.status[best])[:, None], jnp.nan, heights)
    return jnp.where(weights > 0, jnp.take_along_axis(heights, folds[None], 0)[0], 0)
