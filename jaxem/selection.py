"""Mixtures of one family with several numbers of components, searched in one race by one program."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import at_least_one
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import as_key, check_data
from jaxem.components import check_one_kind, rearrange
from jaxem.fitting import Fit, check_control
from jaxem.model import Family, Model, PyTree, check_family
from jaxem.models.mixture import Mixture, mixture, seeded
from jaxem.programs import compiled
from jaxem.race import Course, Problem, evenly, race
from jaxem.restarts import Restarts, default_num_lanes, plan
from jaxem.solvers import Solver, squarem


def search_counts(
    family: Family,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    counts: Sequence[int],
    num_restarts: int = 64,
    num_continued: int | None = None,
    short_steps: int = 50,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    num_lanes: int | None = None,
    keep_histories: bool | None = None,
    concentration: float | None = None,
) -> list[Restarts]:
    """Fit `mixture(family, k, concentration=…)` for each k in `counts`, in one program: as `fit_restarts` with the same key.

    A mixture of fewer components is one of the most whose other weights are zero, and by EM stay zero. The starts of each
    number are those of its own mixture, as k-means++ draws one centre after another, and race in groups for a best of each.
    Another range with the same largest number and as many numbers compiles nothing. A best that is a saddle, with components
    alike, is not left as `fit_restarts` leaves it: see `jaxem.escape`.
    `concentration` is one number above 1, as absent components have no part in that prior; a family's own counts them all.
    Raises ValueError as `fit_restarts` does, for a family with a prior, and for a union.

    >>> import jaxem
    >>> from jaxem.selection import search_counts
    >>> found = search_counts(jaxem.families.gaussian(), 0, jaxem.datasets.faithful(), counts=(1, 2), num_restarts=8)
    >>> print([f"{search.best.log_likelihood:.2f}" for search in found])
    ['-1289.80', '-1130.26']
    """
    counts = [at_least_one("counts", count) for count in counts]
    max_steps = check_control(solver, tol, max_steps)
    model = mixture(family, max(counts), None, _checked(family, concentration))
    data, weights = check_data(model, data, weights, padded=True)
    lanes = default_num_lanes(model, data) if num_lanes is None else num_lanes
    num_restarts, course = plan(num_restarts, num_continued, short_steps, max_steps, lanes, keep_histories)
    given = as_key(key), np.asarray(counts, np.int32), data, weights, np.asarray(tol, weights.dtype)
    run = by_default_in_blocks(model, data)
    found = jax.tree.map(np.asarray, _search_counts(run, family, max(counts), solver, course, num_restarts, *given))
    return [_of_count(model, found, place, count) for place, count in enumerate(counts)]


def _checked(family: Family, concentration: Any) -> Any:
    check_family(family)
    if family.log_prior is not None:
        raise ValueError(
            "family has a prior, of absent components too: search each number of components by fit_restarts of its own mixture."
        )
    if concentration is not None and not (np.ndim(concentration) == 0 and concentration > 1):
        raise ValueError(f"concentration must be one number above 1, or None, which 1 comes to here, got {concentration!r}.")
    return concentration


@partial(compiled, static_argnums=(0, 1, 2, 3, 4, 5), work=lambda *given: given[5] * given[7].size * given[9].size)
def _search_counts(
    model: Model,
    family: Family,
    most: int,
    solver: Solver,
    course: Course,
    num_restarts: int,
    key: Array,
    counts: Array,
    data: PyTree,
    weights: Array,
    tol: Array,
) -> tuple[Fit, Array, Array]:
    """Return Fits stacked over (counts, starts), the best start of each count, and steps needed / steps paid."""
    num = counts.shape[0]

    def start(job: tuple[Array, Array]) -> Mixture:
        key, count = job
        present = (jnp.arange(most, dtype=count.dtype) < count).astype(weights.dtype)
        _, rows, responsibilities = seeded(family, key, (None, data), weights, most, present)
        params = Mixture(present / present.sum(), family.init(rows, responsibilities))
        check_one_kind(model.constraints, params)
        return jax.tree.map(lambda leaf: leaf.astype(weights.dtype), params)

    keys = jnp.tile(jax.random.split(key, num_restarts), num)
    starts = lax.map(start, (keys, jnp.repeat(counts, num_restarts)), batch_size=evenly(num_restarts, course.num_lanes))
    fits, best, efficiency = race(model, solver, course, starts, num, Problem(data, weights), tol)
    grouped = jax.tree.map(lambda leaf: leaf.reshape(num, num_restarts, *leaf.shape[1:]), fits)
    return grouped, best - num_restarts * jnp.arange(num, dtype=best.dtype), efficiency


def _of_count(model: Model, found: tuple[Fit, Array, Array], place: int, count: int) -> Restarts:
    """Return the search among `count` components, without those that are absent; by NumPy, which compiles nothing."""
    fits = jax.tree.map(lambda leaf: leaf[place], found[0])
    fits = fits._replace(params=rearrange(model.constraints, fits.params, np.arange(count), behind=1))
    best = jax.tree.map(lambda leaf: leaf[found[1][place]], fits)
    return Restarts(*jax.device_put((best, fits, found[2])))
