"""Many data sets of one shape, each from many random starts, and the best of each."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_arrays, at_least_one, check_progress, is_traced, prepared
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import LOOKED_AT_VALUES, as_key, check_model, check_weights, ready, ready_to_learn
from jaxem.fitting import Fit, check_control
from jaxem.model import Model, PyTree, require
from jaxem.programs import compiled
from jaxem.progress import advance, progress_of
from jaxem.race import Course, Problem, race, random_starts
from jaxem.restarts import default_num_lanes, have_reached, plan
from jaxem.solvers import Solver, squarem
from jaxem.stopping import Status
from jaxem.trees import pick

ROWS_IN_A_BLOCK = 1 << 18  # of data sets that are worked on by one call


class Each(NamedTuple):
    """What comes back from many data sets, m of them.

    best         the Fit of each that climbed highest, stacked along a leading axis m, without histories
    statuses     (m, starts) how each start ended: a `Status`, as an int32
    num_reached  (m,) how many starts ended CONVERGED at the best log-likelihood (+ log_prior), to 0.001 nats or 16 ulps

    >>> import numpy as np, jaxem
    >>> x = np.random.default_rng(0).poisson([[2.0], [8.0]] * 2, (2, 4, 100)).reshape(2, 400)
    >>> print(jaxem.fit_each(jaxem.mixture(jaxem.families.poisson(), 2), 0, x))
    Each: 2 data sets, 8 starts each; best: 2 CONVERGED; 8 of the starts reached it in the median, 8 at least.
    """

    best: Fit
    statuses: Array
    num_reached: Array

    def __repr__(self) -> str:
        """Return a line: how the best of each ended, and how many starts reached it."""
        if is_traced(self) or np.ndim(self.statuses) != 2:
            return f"Each(best={self.best!r})"
        names = [Status(status).name for status in np.asarray(self.best.status).tolist()]
        ends = ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))
        reached = np.asarray(self.num_reached)
        num_sets, num_starts = np.shape(self.statuses)
        return (
            f"Each: {num_sets} data set{'s'[: num_sets != 1]}, {num_starts} starts each; best: {ends}; "
            f"{np.median(reached):g} of the starts reached it in the median, {reached.min()} at least."
        )


def fit_each(
    model: Model,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    num_restarts: int = 8,
    num_continued: int | None = None,
    short_steps: int = 50,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    num_lanes: int | None = None,
    on_progress: Callable[[int], None] | None = None,
    progress: bool = False,
) -> Each:
    """Fit `model` to each of many data sets, of m × n rows: what `fit_restarts` gives for each, without a loop over them.

    data: a pytree of arrays with leading axes (m, n); weights (m, n), None for one each. Rows of weight zero are absent,
    whatever stands in them, NaN too, so data sets may differ in size. Data set i is searched with `jax.random.split(key, m)[i]`
    as `fit_restarts` does, whose other arguments these are. Data sets are taken in blocks, so that memory beyond the data,
    their weights and what is returned does not grow with m; `on_progress` is told after each block how many are done,
    and `progress` shows it on stderr.

    Raises ValueError as `fit_restarts` does. A data set from which nothing can be learnt ends NONFINITE or DEGENERATE.

    >>> import jax, numpy as np, jaxem
    >>> x = np.random.default_rng(0).normal([[[0.0]], [[3.0]]], 1, (2, 50, 2))
    >>> each = jaxem.fit_each(jaxem.mixture(jaxem.families.gaussian(), 1), 0, x, num_restarts=1)
    >>> print(each.best.params.components.mean.round(0).tolist())
    [[[-0.0, 0.0]], [[3.0, 3.0]]]
    """
    max_steps = check_control(solver, tol, max_steps)
    check_model(model)
    check_progress(on_progress)
    require(model, "init")
    key = as_key(key)
    if is_traced(key, data, weights):
        raise ValueError("fit_each looks at its data and runs programs of its own: call it outside jit and vmap.")
    data, weights = _checked(model, data, weights)
    num_sets, num_rows = weights.shape
    first = ready(model.prepare, jax.tree.map(lambda leaf: leaf[0], data))
    lanes = at_least_one("num_lanes", default_num_lanes(model, first) if num_lanes is None else num_lanes)
    num_restarts, course = plan(num_restarts, num_continued, short_steps, max_steps, lanes, keep_histories=False)
    size = sets_in_a_block(num_sets, num_rows)
    course = course._replace(num_lanes=min(lanes, size * num_restarts))
    keys, run, found = jax.random.split(key, num_sets), by_default_in_blocks(model, first), []
    with progress_of("data sets", num_sets, progress):
        for done in range(0, num_sets, size):
            start = min(done, num_sets - size)  # the last block slides back, to be of the same shape
            some = slice(start, start + size)
            block = jax.tree.map(lambda leaf, some=some: leaf[some], (data, weights))
            ends = _search_each(run, solver, course, num_restarts, keys[some], *block, tol)
            found.append(jax.tree.map(lambda leaf, new=done - start: np.asarray(leaf)[new:], ends))
            advance(start + size - done)
            if on_progress:
                on_progress(start + size)
    return jax.tree.map(lambda *leaves: jnp.asarray(np.concatenate(leaves)), *found)


def _checked(model: Model, data: PyTree, weights: Any) -> tuple[PyTree, np.ndarray]:
    """Return data as arrays of NumPy, with a present row in the place of absent ones, and weights (m, n)."""
    data = jax.tree.map(np.asarray, as_arrays(data))
    shapes = [np.shape(leaf)[:2] for leaf in jax.tree.leaves(data)]
    if not shapes or len(set(shapes)) > 1 or len(shapes[0]) < 2 or 0 in shapes[0]:
        raise ValueError(f"data needs arrays with the same leading axes, m data sets of n rows; got {shapes}.")
    (num_sets, num_rows) = shapes[0]
    given = np.ones((num_sets, num_rows)) if weights is None else np.asarray(weights)
    if given.shape != (num_sets, num_rows):
        raise ValueError(
            f"weights has shape {given.shape} and dtype {given.dtype}, needs numbers ({num_sets}, {num_rows}): "
            "one per row of each data set."
        )
    given = np.asarray(check_weights(given.ravel(), given.size)).reshape(given.shape)
    present = given > 0
    if not present.all():
        some = present.any(1)
        sets = np.where(some, np.arange(num_sets), some.argmax())  # one without a row gets those of the first that has one
        rows = np.where(present, np.arange(num_rows), present.argmax(1)[:, None])[sets]
        data = jax.tree.map(lambda leaf: leaf[sets[:, None], rows], data)
    size = sets_in_a_block(num_sets, num_rows)
    for start in range(0, num_sets, size):
        _refuse_illegal(model, *jax.tree.map(lambda leaf, start=start: leaf[start : start + size], (data, given)))
    return data, given


def sets_in_a_block(num_sets: int, num_rows: int) -> int:
    """Return how many data sets are worked on at once, about as many in each block."""
    num_blocks = -(-num_sets // max(1, ROWS_IN_A_BLOCK // num_rows))
    return -(-num_sets // num_blocks)


def _refuse_illegal(model: Model, data: PyTree, weights: np.ndarray) -> None:
    """Raise ValueError for values that no data set may have: rows of all of them are looked at as those of one."""
    rows, given = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), (data, weights))
    looked_at = prepared(model, rows, jnp.asarray(given) if given.any() else None)
    with suppress(*LOOKED_AT_VALUES):
        jax.eval_shape(require(model, "init"), jax.random.key(0), looked_at, jnp.asarray(given))


@partial(compiled, static_argnums=(0, 1, 2, 3), work=lambda *given: given[3] * given[6].size)
def _search_each(
    model: Model,
    solver: Solver,
    course: Course,
    num_restarts: int,
    keys: Array,
    data: PyTree,
    weights: Array,
    tol: Any,
) -> Each:
    problem = Problem(*jax.vmap(partial(ready_to_learn, model.prepare))(data, weights), own_data=True, own_weights=True)
    num_sets, dtype = len(keys), problem.weights.dtype

    each_key = jax.vmap(partial(jax.random.split, num=num_restarts))(keys).reshape(-1)
    starts = random_starts(model, each_key, num_sets, problem, course.num_lanes)
    fits, best, _ = race(model, solver, course, starts, num_sets, problem, jnp.asarray(tol, dtype))
    winners = pick(fits, best)
    status, height = (leaf.reshape(num_sets, num_restarts) for leaf in (fits.status, fits.height))
    reached = have_reached(winners.height[:, None], status, height)
    return Each(winners, status, reached.sum(1, dtype=jnp.int32))
