"""Many random starts of one model on one data set, and the best of them."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_params, at_least_one, is_traced
from jaxem.blocks import by_default_in_blocks, observations_per_row
from jaxem.boundary import as_key, check_data, check_params
from jaxem.components import any_alike
from jaxem.faces import face_of
from jaxem.fitting import Fit, check_control, fit
from jaxem.information import rows_of_fit, widest
from jaxem.model import Model, PyTree, require
from jaxem.polishing import beyond_saddle, in_dtypes_of
from jaxem.programs import compiled
from jaxem.progress import progress_of
from jaxem.race import Course, Problem, race, random_starts
from jaxem.solvers import Solver, squarem
from jaxem.stopping import Status
from jaxem.trees import num_rows, pick

ROWS_AT_ONCE = {"cpu": 1 << 12}
ACCELERATOR_ROWS_AT_ONCE = 1 << 22
MOST_HISTORY = 1 << 23  # numbers that the histories of all starts may take unasked
SAME = 1e-3  # nats within which two log-likelihoods are the same maximum, or
ROUNDING = 16  # ulps of them


class Restarts(NamedTuple):
    """What comes back from many starts.

    best             the Fit that climbed highest among those that ended neither NONFINITE nor DEGENERATE, if there are any
    fits             all Fits, stacked along a leading axis of starts
    lane_efficiency  steps that some run needed / steps paid, between 0 and 1

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> print(jaxem.fit_restarts(model, 0, x, num_restarts=8, num_continued=8))  # doctest: +ELLIPSIS
    Restarts: 8 starts, 8 CONVERGED; 8 reached the best log-likelihood.
      best: CONVERGED, a stationary point: what remains to be gained is within the tolerance, or cannot be told from rounding.
      log-likelihood -1130.264 after ... steps, ... E-steps
    """

    best: Fit
    fits: Fit
    lane_efficiency: Array

    def __repr__(self) -> str:
        """Return a few lines: how the starts ended, how many reached the best, and the best."""
        if is_traced(self) or np.ndim(self.fits.status) != 1:
            return f"Restarts(best={self.best!r})"
        names = [Status(status).name for status in np.asarray(self.fits.status).tolist()]
        ends = ", ".join(f"{names.count(name)} {name}" for name in dict.fromkeys(sorted(names)))
        return (
            f"Restarts: {len(names)} start{'s'[: len(names) != 1]}, {ends}; "
            f"{num_reached(self)} reached the best log-likelihood.\n"
            f"  best: {str(self.best)[5:]}"
        )


def num_reached(restarts: Restarts) -> int:
    """Return how many starts ended CONVERGED within 0.001 nats, or 16 ulps where that is more, of the best log-likelihood.

    Where the model has a prior, of the best log-likelihood + log_prior.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> jaxem.num_reached(jaxem.fit_restarts(model, 0, x, num_restarts=8, num_continued=8))
    8
    """
    return int(_reached(restarts.best, restarts.fits).sum())


def have_reached(best: Array, status: Array, height: Array) -> Array:
    """Tell which fits ended CONVERGED as high as `best`, by log-likelihood + log_prior."""
    return (status == Status.CONVERGED) & (height >= best - same_maximum(best))


@compiled
def _reached(best: Fit, fits: Fit) -> Array:
    return have_reached(best.height, fits.status, fits.height)


def same_maximum(height: Array) -> Array:
    """Return the distance in nats within which log-likelihoods near this one are taken for the same maximum."""
    return jnp.maximum(SAME, ROUNDING * jnp.finfo(height.dtype).eps * jnp.abs(height))


def fit_restarts(
    model: Model,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    starts: PyTree = None,
    num_restarts: int = 64,
    num_continued: int | None = None,
    short_steps: int = 50,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    num_lanes: int | None = None,
    keep_histories: bool | None = None,
    progress: bool = False,
) -> Restarts:
    """Fit `model` from `num_restarts` random starts; short runs of `short_steps` steps choose which go on.

    key: a random key, or an int seed. `starts`, params stacked along a leading axis, take the place of random ones (see
    `jitter`), and `num_restarts` is then their number.
    The `num_continued` starts that stand highest after their short runs go on until they end as in `fit`; the others end as
    NOT_CONTINUED. None continues a quarter of them; `num_continued=num_restarts` runs all to convergence. Starts that are
    not finite, or held by a constraint against collapse, do not win while another can: should all that go on end so, the
    next most promising go on as well. Where two components of the best are alike and it is a saddle, it is left (`escape`).
    Short runs first are the em-EM strategy of Biernacki, Celeux & Govaert (2003), §3.2. Fifty steps of SQUAREM tell which start
    climbs highest, and twenty of EM do not where clusters overlap; `solver=em()` takes plain steps all the same.

    `num_lanes` runs step together; None chooses by the number of observations. `keep_histories` says whether each Fit has
    its history, of max_steps + 1 numbers, or one of none, (0,); None keeps them while all together are at most 2^23.
    `progress` shows on stderr how many runs have ended, short ones and those that go on; not inside jit.
    Raises ValueError as `fit` does, for a model without `init` and no `starts`, for what is no key, and for counts below one.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> search = jaxem.fit_restarts(model, 0, x, num_restarts=8)
    >>> print(f"{search.best.log_likelihood:.2f}")
    -1130.26
    """
    max_steps = check_control(solver, tol, max_steps)
    data, weights = check_data(model, data, weights, padded=True)
    if starts is None:
        require(model, "init")
        key = as_key(key)
    else:
        starts = check_starts(model, starts, data, weights)
        key, num_restarts = jax.random.key(0), jax.tree.leaves(starts)[0].shape[0]
    lanes = default_num_lanes(model, data) if num_lanes is None else num_lanes
    num_restarts, course = plan(num_restarts, num_continued, short_steps, max_steps, lanes, keep_histories)
    given = key, starts, data, weights, jnp.asarray(tol, weights.dtype)
    is_shown, goes_on = bool(progress) and not is_traced(given), course.num_continued < num_restarts
    course = course._replace(is_shown=is_shown)
    with progress_of("runs", num_restarts + course.num_continued * goes_on, is_shown):
        found = _search(by_default_in_blocks(model, data), solver, course, num_restarts, *given)
    beyond = None if is_traced(found) else _beyond(model, found.best, data, weights)
    if beyond is None:
        return found
    return found._replace(best=fit(model, beyond, data, weights, solver=solver, tol=tol, max_steps=max_steps))


def _beyond(model: Model, best: Fit, data: PyTree, weights: Array) -> PyTree:
    """Return params beyond the saddle that a fit with two components alike has ended at; None where it is none."""
    if Status(int(best.status)) != Status.CONVERGED or not any_alike(model.constraints, best.params):
        return None
    rows = rows_of_fit(model, data, weights)
    higher = beyond_saddle(model, face_of(model, widest(best.params), rows), rows)
    return None if higher is None else in_dtypes_of(best.params, higher)


def plan(
    num_restarts: Any, num_continued: Any, short_steps: Any, max_steps: int, num_lanes: Any, keep_histories: bool | None
) -> tuple[int, Course]:
    """Return the number of starts and how far they run; ValueError for counts below one, or more that go on than there are."""
    num_restarts = at_least_one("num_restarts", num_restarts)
    num_continued = at_least_one("num_continued", max(1, num_restarts // 4) if num_continued is None else num_continued)
    if num_continued > num_restarts:
        raise ValueError(f"num_continued must not exceed num_restarts={num_restarts}, got {num_continued}.")
    short_steps, num_lanes = at_least_one("short_steps", short_steps), at_least_one("num_lanes", num_lanes)
    keep = num_restarts * (max_steps + 1) <= MOST_HISTORY if keep_histories is None else bool(keep_histories)
    return num_restarts, Course(num_continued, min(short_steps, max_steps), max_steps, min(num_lanes, num_restarts), keep)


def default_num_lanes(model: Model, data: PyTree) -> int:
    """Return how many runs step together: enough to hide the cost of dispatch, few enough to stay in cache."""
    rows_at_once = ROWS_AT_ONCE.get(jax.default_backend(), ACCELERATOR_ROWS_AT_ONCE)
    return max(1, int(rows_at_once / (num_rows(data) * observations_per_row(model.size, data))))


def check_starts(model: Model, starts: PyTree, data: PyTree, weights: Array) -> PyTree:
    """Return stacked starts in the dtype of the weights; ValueError where they are not params stacked alike, or not legal."""
    starts = as_params(starts, weights.dtype)
    shapes = [leaf.shape for leaf in jax.tree.leaves(starts)]
    if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1 or 0 in shapes[0][:1]:
        raise ValueError(f"starts must be params stacked along a leading axis of starts, got leaves of shapes {shapes}.")
    checked = [check_params(model, jax.tree.map(lambda leaf, i=i: leaf[i], starts), data, weights) for i in range(shapes[0][0])]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *checked)


@partial(compiled, static_argnums=(0, 1, 2, 3), work=lambda *given: given[3] * given[7].size)
def _search(
    model: Model,
    solver: Solver,
    course: Course,
    num_restarts: int,
    key: Array,
    starts: PyTree,
    data: PyTree,
    weights: Array,
    tol: Array,
) -> Restarts:
    problem = Problem(data, weights)
    if starts is None:
        starts = random_starts(model, jax.random.split(key, num_restarts), 1, problem, course.num_lanes)
    fits, best, efficiency = race(model, solver, course, starts, 1, problem, tol)
    return Restarts(pick(fits, best[0]), fits, efficiency)
