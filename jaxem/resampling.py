"""How sure a fit is, without asymptotics: refits to data as they might have been."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem.arrays import at_least_one, is_number, is_traced
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import as_key, check_data, check_params, ready_to_learn
from jaxem.fitting import Fit, check_control, check_fit
from jaxem.matching import assigned, in_order, kinds_of, num_shares, overlap
from jaxem.model import Model, PyTree, require
from jaxem.programs import compiled
from jaxem.progress import progress_of
from jaxem.race import Course, Problem, race
from jaxem.restarts import default_num_lanes
from jaxem.solvers import Solver, squarem
from jaxem.stopping import UNSOUND, Status
from jaxem.trees import map_rows, num_rows

KINDS = ("weighted", "multinomial", "parametric")
NUMBERS_AT_ONCE = 1 << 24  # weights of the samples that one call works on


class Bootstrap(NamedTuple):
    """What comes back from `bootstrap`.

    replicates  params of the refits, stacked along a leading axis of samples, components in the order of the fit's
    errors      like the params: their standard deviations over the refits
    intervals   (lower, upper), each like the params: quantiles over the refits
    statuses    (num_samples,) how each refit ended; errors and intervals are of those neither NONFINITE nor DEGENERATE

    >>> import jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), [3.0, 1.0, 2.0, 6.0, 4.0, 2.0]
    >>> jaxem.bootstrap(model, 0, jaxem.fit(model, model.init(0, x), x), x)
    Bootstrap of 200 samples: 200 CONVERGED.
    """

    replicates: PyTree
    errors: PyTree
    intervals: tuple[PyTree, PyTree]
    statuses: Array

    def __repr__(self) -> str:
        """Return a line: how the refits ended."""
        names = [Status(status).name for status in np.asarray(self.statuses).tolist()]
        ends = ", ".join(f"{names.count(name)} {name}" for name in sorted(set(names)))
        return f"Bootstrap of {len(names)} samples: {ends}."


def bootstrap(
    model: Model,
    key: Any,
    fit: Fit,
    data: PyTree,
    weights: Any = None,
    *,
    num_samples: int = 200,
    kind: str = "weighted",
    level: float = 0.95,
    solver: Solver = squarem(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    progress: bool = False,
) -> Bootstrap:
    """Refit from `fit` to `num_samples` resampled data sets, for errors and percentile intervals of the given level.

    kind: "weighted" draws weights Gamma(w_n, 1), Exp(1) for w = 1 and its sum over the rows that a frequency w stands for
    (Rubin 1981; Newton & Raftery 1994); "multinomial" draws Σ w rows, with chances in proportion to w
    (Efron 1979); "parametric" draws data of the fitted model. Whole rows are resampled, whatever they hold: a group is one.
    Samples are weights of the same rows, and refits go through lanes as in `fit_restarts`. The components of each refit are
    matched to the fit's, where they may change places and have responsibilities. `progress` shows on stderr how many are done.

    Raises ValueError for another kind, for a level outside (0, 1), for data of one row, which cannot be resampled, as `fit`
    does, and for "parametric" where the model has no `sample` or weights are no whole numbers.

    >>> import numpy as np, jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), np.random.default_rng(0).poisson(4.0, 400)
    >>> found = jaxem.bootstrap(model, 0, jaxem.fit(model, model.init(0, x), x), x)
    >>> print(found.errors.rate.round(1), *(end.rate.round(1) for end in found.intervals))
    [0.1] [3.7] [4.1]
    """
    num_samples, params = at_least_one("num_samples", num_samples), check_fit(fit).params
    max_steps = check_control(solver, tol, max_steps)
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if not (is_number(level) and 0 < level < 1):
        raise ValueError(f"level must be a number between 0 and 1, got {level!r}.")
    if is_traced(params, data, weights):
        raise ValueError("bootstrap looks at values and runs programs of its own: call it outside jit and vmap.")
    given, frequencies = check_data(model, data, weights, padded=kind != "parametric")
    params = check_params(model, params, given, frequencies)
    lanes = min(num_samples, default_num_lanes(model, given))
    course = Course(1, max_steps, max_steps, lanes, keep_histories=False, is_shown=bool(progress))
    run, random = by_default_in_blocks(model, given), np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))))
    size = max(lanes, min(num_samples, NUMBERS_AT_ONCE // num_rows(given)))
    resampled = partial(_drawn, model, params, given) if kind == "parametric" else partial(_reweighted, kind, given)
    found = []
    with progress_of("samples", num_samples, progress):
        for done in range(0, num_samples, size):
            sets = resampled(random, np.asarray(frequencies), min(size, num_samples - done))
            found.append(_refits(run, solver, course, kind == "parametric", params, *sets, jnp.asarray(tol, frequencies.dtype)))
    params_of_refits, statuses = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *found)
    replicates = _matched(model, params, params_of_refits, given, frequencies)
    return _summarized(replicates, statuses, level)


def _reweighted(kind: str, data: PyTree, random: np.random.Generator, weights: np.ndarray, count: int) -> tuple[PyTree, Array]:
    """Return the same rows with `count` draws of weights for them."""
    if np.count_nonzero(weights) < 2:
        raise ValueError(f'kind="{kind}" resamples rows, of which data has one: use "parametric".')
    chances, total = weights.astype(float), float(weights.sum())
    if kind == "multinomial" and total < 2:
        raise ValueError(f'kind="multinomial" draws as many rows as weights sum up to, got {total:g}: weights are frequencies.')
    if kind == "weighted":
        drawn = random.gamma(chances, size=(count, weights.size))
    else:
        drawn = random.multinomial(round(total), chances / chances.sum(), count).astype(float)
    return data, jnp.asarray(drawn, weights.dtype)


def _drawn(
    model: Model, params: PyTree, data: PyTree, random: np.random.Generator, weights: np.ndarray, count: int
) -> tuple[PyTree, Array]:
    """Return `count` data sets drawn from the model, with as many rows as the weights say."""
    like, key = rows_of_weights(data, weights), jax.random.key(int(random.integers(2**31)))
    require(model, "sample")
    return _sampled(model, params, like, jax.random.split(key, count))


def rows_of_weights(data: PyTree, weights: np.ndarray) -> PyTree:
    """Return each row as often as its weight says; ValueError for weights that are no whole numbers."""
    if (weights != np.round(weights)).any():
        raise ValueError("weights must be whole numbers, as data sets are drawn of as many rows as they say.")
    times = np.repeat(np.arange(weights.size), weights.astype(int))
    return map_rows(lambda leaf: leaf[times], data)


@partial(compiled, static_argnums=0)
def _sampled(model: Model, params: PyTree, like: PyTree, keys: Array) -> tuple[PyTree, Array]:
    """Return data sets drawn from the model, prepared and stacked, and weights of one for their rows."""
    return jax.vmap(lambda one: ready_to_learn(model.prepare, one, None))(drawn_sets(model, params, like, keys))


def drawn_sets(model: Model, params: PyTree, like: PyTree, keys: Array) -> PyTree:
    """Return a data set drawn from the model by each of the keys, like the one given, stacked."""
    return lax.map(lambda key: require(model, "sample")(key, params, like)[0], keys)


@partial(compiled, static_argnums=(0, 1, 2, 3), work=lambda *given: given[6].size)
def _refits(
    model: Model, solver: Solver, course: Course, own_data: bool, params: PyTree, data: PyTree, weights: Array, tol: Array
) -> tuple[PyTree, Array]:
    problem, num = Problem(data, weights, own_data, own_weights=True), len(weights)
    starts = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), params)
    fits = race(model, solver, course._replace(num_lanes=min(course.num_lanes, num)), starts, num, problem, tol)[0]
    return fits.params, fits.status


def _matched(model: Model, params: PyTree, replicates: PyTree, data: PyTree, weights: Array) -> PyTree:
    """Return refits with components in the order of the fit's, where these may change places."""
    kinds = kinds_of(model, params)
    if kinds is None or max(map(len, kinds)) < 2 or num_shares(model, params, data) != sum(map(len, kinds)):
        return replicates
    orders = np.stack([assigned(one, kinds) for one in np.asarray(_overlaps(model, params, replicates, data, weights))])
    if (orders == np.arange(orders.shape[1])).all():
        return replicates
    return jax.vmap(partial(in_order, model, kinds))(replicates, jnp.asarray(orders))


@partial(compiled, static_argnums=0)
def _overlaps(model: Model, params: PyTree, replicates: PyTree, data: PyTree, weights: Array) -> Array:
    return lax.map(lambda other: overlap(model, params, other, data, weights), replicates)


def _summarized(replicates: PyTree, statuses: Array, level: float) -> Bootstrap:
    sound = np.flatnonzero(~np.isin(np.asarray(statuses), UNSOUND))
    if len(sound) < 2:
        raise ValueError("fewer than two refits ended sound, needs more to tell how far they spread: raise num_samples.")
    kept = jax.tree.map(lambda leaf: leaf[sound], replicates)
    lower, upper = (
        jax.tree.map(lambda leaf, share=share: jnp.quantile(leaf, share, axis=0), kept)
        for share in ((1 - level) / 2, (1 + level) / 2)
    )
    return Bootstrap(replicates, jax.tree.map(lambda leaf: leaf.std(0, ddof=1), kept), (lower, upper), statuses)
