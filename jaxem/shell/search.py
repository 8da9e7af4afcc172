"""Mixtures of several sizes, each from many random starts, and the one that BIC prefers."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import families
from jaxem.components import take
from jaxem.criteria import bic
from jaxem.fitting import Fit
from jaxem.model import Model
from jaxem.models.mixture import Mixture, mixture, seeded
from jaxem.restarts import Restarts, fit_restarts, num_reached, same_maximum
from jaxem.stopping import Status
from jaxem.trees import unit_weights


class Candidate(NamedTuple):
    """What came of one number of components: the best Fit, its components in order of falling weight, and all starts."""

    num_components: int
    best: Fit
    covariances: np.ndarray  # (k, d, d), whatever their form
    bic: float
    reached: int  # starts that converged within `same` nats of the best
    same: float
    statuses: dict[Status, int]  # how many starts ended how
    steps: np.ndarray  # (num_restarts,)


def search(
    covariance: str, x: np.ndarray, counts: Sequence[int], seed: int, num_restarts: int, on_progress: Callable[[int], None]
) -> list[Candidate]:
    """Return one Candidate for each number of components in `counts`, in their order; every start runs to its end.

    x (n, d); `on_progress` is told how many numbers of components are done, from 0 on.
    """
    key, data = jax.random.key(seed), jnp.asarray(x)
    lower = partial(_search.lower, families.gaussian(covariance), max(counts), num_restarts)
    pool = ThreadPoolExecutor(1)  # one search at a time: LAPACK's batched calls from two can lock up a CPU's threads
    try:
        on_progress(0)
        run = pool.submit(lambda: lower(key, data, counts[0]).compile()).result()
        found = {pool.submit(lambda k: jax.block_until_ready(run(key, data, k)), k): k for k in counts}
        for done, _ in enumerate(as_completed(found), 1):
            on_progress(done)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    results = {k: future.result() for future, k in found.items()}
    return [_candidate(covariance, k, results[k], data) for k in counts]


@partial(jax.jit, static_argnums=(0, 1, 2))
def _search(family: Any, most: int, num_restarts: int, key: Array, x: Array, num_components: Any) -> Restarts:
    """Fit a mixture of `num_components` as one of `most` whose other weights are zero, and by EM stay zero.

    To compile takes longer than most fits; like this it is done once for all numbers of components. The starts are those
    of `mixture(family, num_components)`: k-means++ draws one centre after another.
    """
    model = mixture(family, most)

    def init(key: Array, data: Any, weights: Array | None = None) -> Mixture:
        _, rows, responsibilities = seeded(family, key, (None, data), unit_weights(data), most, present)
        return Mixture(present / present.sum(), family.init(rows, responsibilities))

    present = (jnp.arange(most) < num_components).astype(x.dtype)
    return fit_restarts(model._replace(init=init), key, x, num_restarts=num_restarts, num_continued=num_restarts)


def _candidate(covariance: str, num_components: int, restarts: Restarts, x: Array) -> Candidate:
    model = mixture(families.gaussian(covariance), num_components)
    best = restarts.best._replace(params=_in_order(model, restarts.best.params, num_components))
    status = np.asarray(restarts.fits.status)
    statuses = {Status(s): int(count) for s, count in zip(*np.unique(status, return_counts=True), strict=True)}
    return Candidate(
        num_components,
        best,
        np.asarray(families.full_covariances(covariance, best.params.components)),
        bic(model, best, x),
        num_reached(restarts),
        float(same_maximum(best.log_likelihood)),
        statuses,
        np.asarray(restarts.fits.num_steps),
    )


def _in_order(model: Model, params: Mixture, num_components: int) -> Mixture:
    """Return the components that are present, in order of falling weight."""
    order = np.argsort(-np.asarray(params.weights)[:num_components], kind="stable")
    return take(model.constraints, params, jnp.asarray(order))


def preferred(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate of lowest BIC: among those that converged, else those unfinished, else those degenerate."""
    for statuses in ({Status.CONVERGED}, {Status.MAX_STEPS, Status.STALLED}, {Status.DEGENERATE}):
        eligible = [c for c in candidates if Status(int(c.best.status)) in statuses and np.isfinite(c.bic)]
        if eligible:
            return min(eligible, key=lambda candidate: candidate.bic)
    return None
