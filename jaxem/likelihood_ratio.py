"""Whether a larger model is needed: the likelihood ratio beside those of data that the smaller one would give."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import at_least_one, check_progress, is_traced
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import as_key, check_data, ready_to_learn
from jaxem.criteria import num_free_parameters
from jaxem.each import sets_in_a_block
from jaxem.fitting import Fit, check_control
from jaxem.model import Model, PyTree, require
from jaxem.programs import compiled
from jaxem.race import Course, Problem, race, random_starts
from jaxem.resampling import drawn_sets, rows_of_weights
from jaxem.restarts import default_num_lanes, fit_restarts, plan
from jaxem.solvers import Solver, squarem
from jaxem.stopping import UNSOUND, Status
from jaxem.trees import num_rows, pick, rows_of


class Test(NamedTuple):
    """What comes back from `likelihood_ratio_test`.

    statistic   2 (ℓ_large - ℓ_small), of the best fits to the data
    p_value     (1 + #{T* ≥ statistic}) / (1 + num_samples)
    replicates  (num_samples,) the statistic T* of each data set drawn; NaN, counted as no smaller, where a fit is not sound

    >>> import numpy as np, jaxem
    >>> small, large = (jaxem.mixture(jaxem.families.poisson(), k) for k in (1, 2))
    >>> x = np.random.default_rng(0).poisson(3.0, 100)
    >>> jaxem.likelihood_ratio_test(small, large, 0, x, num_samples=19)
    Test: statistic 0.00, p-value 1 by 19 data sets drawn from the smaller model
    """

    statistic: float
    p_value: float
    replicates: np.ndarray

    def __repr__(self) -> str:
        """Return a line."""
        unsound = int(np.isnan(self.replicates).sum())
        text = f"Test: statistic {self.statistic:.2f}, p-value {self.p_value:.3g} by {len(self.replicates)} data sets drawn"
        return f"{text} from the smaller model" + (f", {unsound} of them without sound fits" if unsound else "")


def likelihood_ratio_test(
    model_small: Model,
    model_large: Model,
    key: Any,
    data: PyTree,
    weights: Any = None,
    *,
    num_samples: int = 99,
    num_restarts: int = 8,
    solver: Solver = squarem(),
    tol: float = 1e-6,
    max_steps: int = 10_000,
    on_progress: Callable[[int], None] | None = None,
) -> Test:
    """Test the smaller of two nested models against the larger, such as k components against k + 1, by parametric bootstrap.

    T = 2 (ℓ_large - ℓ_small) has no χ² limit where the smaller model lies on the boundary of the larger, or is not
    identified in it, as in mixtures. So `num_samples` data sets are drawn from the smaller model's best fit, with the
    covariates, lengths and gaps of the data and as many rows as the weights say, and both models are fitted to each from
    `num_restarts` random starts, as they are to the data; the smaller one from that fit too. A p-value is at least
    1 / (1 + num_samples). A component too many is climbed slowly: `tol`, in nats, is looser than in `fit`, as T needs no more.
    `on_progress` is told how many data sets are done.
    McLachlan (1987); McLachlan & Peel (2000), §6.4.

    Raises ValueError as `fit_restarts` does, for a smaller model without `sample`, or with more free parameters than the
    larger, for weights that are no whole numbers, where the best fit of either to the data is DEGENERATE or NONFINITE, and
    under a trace.

    >>> import numpy as np, jaxem
    >>> small, large = (jaxem.mixture(jaxem.families.poisson(), k) for k in (1, 2))
    >>> x = np.random.default_rng(0).poisson([[1.0], [9.0]], (2, 50)).ravel()
    >>> print(jaxem.likelihood_ratio_test(small, large, 0, x, num_samples=19).p_value)
    0.05
    """
    if is_traced(key, data, weights):
        raise ValueError("likelihood_ratio_test looks at values and runs programs of its own: call it outside jit and vmap.")
    num_samples, max_steps = at_least_one("num_samples", num_samples), check_control(solver, tol, max_steps)
    num_restarts = at_least_one("num_restarts", num_restarts)
    check_progress(on_progress)
    given, frequencies = check_data(model_small, data, weights)
    require(model_small, "sample")
    like, as_given = rows_of_weights(given, np.asarray(frequencies)), (data, weights)
    search, draw, refit = jax.random.split(as_key(key), 3)

    def best(name: str, model: Model) -> Fit:
        found = fit_restarts(
            model, search, *as_given, num_restarts=num_restarts, solver=solver, tol=tol, max_steps=max_steps
        ).best
        if Status(int(found.status)) in UNSOUND:
            raise ValueError(f"{name} ends {found!r}, so that there is no likelihood to compare: take one that is bounded.")
        return found

    def heights(model: Model, start: PyTree, key: Array, sets: PyTree) -> np.ndarray:
        return _sound(_fitted(model, solver, num_restarts, max_steps, start, key, sets, tol))

    small, large = best("model_small", model_small), best("model_large", model_large)
    free = num_free_parameters(model_small, small.params), num_free_parameters(model_large, large.params)
    if free[0] > free[1]:
        raise ValueError(f"model_small has {free[0]} free parameters and model_large {free[1]}: mind the order of the models.")
    statistic, replicates = 2 * float(large.log_likelihood - small.log_likelihood), []
    size = sets_in_a_block(num_samples, num_rows(like))
    for done in range(0, num_samples, size):
        keys = jax.random.split(draw, num_samples)[done : done + size]
        sets, again = _drawn(model_small, small.params, like, keys), jax.random.fold_in(refit, done)
        lower, upper = heights(model_small, small.params, again, sets), heights(model_large, None, again, sets)
        replicates.append(2 * (upper - lower))
        if on_progress:
            on_progress(done + len(keys))
    stars = np.concatenate(replicates)
    return Test(statistic, (1 + int((~(stars < statistic)).sum())) / (1 + num_samples), stars)


def _sound(fits: Fit) -> np.ndarray:
    """Return log-likelihoods, NaN of fits that are degenerate or not finite."""
    return np.where(np.isin(np.asarray(fits.status), UNSOUND), np.nan, np.asarray(fits.log_likelihood))


_drawn = compiled(drawn_sets, static_argnums=0)


def _fitted(
    model: Model, solver: Solver, num_restarts: int, max_steps: int, start: PyTree, key: Array, sets: PyTree, tol: float
) -> Fit:
    """Return the best fit to each data set, from random starts and, where it is not None, from `start`."""
    one = jax.tree.map(lambda leaf: leaf[0], sets)
    data, weights = ready_to_learn(model.prepare, one, None)
    lanes = default_num_lanes(model, data)
    num, course = plan(num_restarts + (start is not None), None, 50, max_steps, lanes, keep_histories=False)
    course = course._replace(num_lanes=min(lanes, num * jax.tree.leaves(sets)[0].shape[0]))
    run = by_default_in_blocks(model, data)
    return _raced(run, solver, course, num_restarts, start, key, sets, jnp.asarray(tol, weights.dtype))


@partial(compiled, static_argnums=(0, 1, 2, 3), work=lambda *given: given[3] * math.prod(rows_of(given[6])[0].shape[:2]))
def _raced(
    model: Model, solver: Solver, course: Course, num_restarts: int, start: PyTree, key: Array, sets: PyTree, tol: Array
) -> Fit:
    data, weights = jax.vmap(lambda one: ready_to_learn(model.prepare, one, None))(sets)
    problem, num = Problem(data, weights, own_data=True, own_weights=True), len(weights)
    starts = random_starts(model, jax.random.split(key, num * num_restarts), num, problem, course.num_lanes)
    if start is not None:
        starts = jax.tree.map(partial(_with_one_more, num), starts, start)
    fits, best, _ = race(model, solver, course, starts, num, problem, tol)
    return pick(fits, best)


def _with_one_more(num: int, starts: Array, one: Array) -> Array:
    """Return stacked starts of `num` groups with one more in front of each."""
    more = jnp.broadcast_to(one, (num, 1, *one.shape))
    return jnp.concatenate([more, starts.reshape(num, -1, *one.shape)], 1).reshape(-1, *one.shape)
