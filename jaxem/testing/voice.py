"""Law 8: statistics, posterior, starts, samples and an order of components, all of one model."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem import components
from jaxem.boundary import check_data, check_params
from jaxem.families.labelled import Labelled
from jaxem.model import PyTree
from jaxem.testing import draws
from jaxem.testing.bench import SLOPE, SUM, Bench
from jaxem.testing.compare import alike, assert_close, largest, num_components, scaled
from jaxem.testing.evidence import starting


def one_voice(bench: Bench) -> None:
    """Ask each function of the record about what another one says."""
    law, here, model = "Law 8 (one voice)", bench.here, bench.model
    if model.posterior and model.statistics:
        assert_close(here.restated, here.stats, scaled(bench.stats_scale, SUM * bench.eps), law, "statistics of the posterior")
    if model.init:
        _assert_sound_starts(bench, law)
    if model.sample:
        draws.assert_samples_follow(bench, law)
    _assert_permutes(bench, law)


def _assert_sound_starts(bench: Bench, law: str) -> None:
    model = bench.model
    for seed in range(2):
        start = starting(model, jax.random.key(seed), bench.data, bench.weights)
        assert alike(start, bench.params), (
            f"{law}: init returns {jax.tree.map(np.shape, start)}, params are like {jax.tree.map(np.shape, bench.params)}, "
            f"of dtype {bench.weights.dtype}."
        )
        try:
            check_params(model, start, bench.data, jnp.asarray(bench.weights))
        except ValueError as error:
            raise AssertionError(f"{law}: init leaves the domain. {error}") from error
        value = float(bench.at(start).log_likelihood)
        assert np.isfinite(value), f"{law}: the log-likelihood is {value} at what init returns."


def _assert_permutes(bench: Bench, law: str) -> None:
    here, model = bench.here, bench.model
    k, q = num_components(model, bench.params), here.posterior
    if k < 2 or (isinstance(q, np.ndarray) and q.shape[1:] != (k,)):
        return
    order = np.roll(np.arange(k), 1)
    data = _renamed(bench, np.argsort(order))
    if data is None:
        return
    theta, update = (
        jax.device_get(components.take(model.constraints, p, jnp.asarray(order))) for p in (bench.params, here.update)
    )
    other = bench.at(theta, data=data)
    what = "after a permutation of components (arrays that none has to itself need constraints.on_axes(constraint, ()))"
    rounding = SUM * bench.rounding(here)
    assert_close(other.log_likelihood, here.log_likelihood, rounding, law, f"the log-likelihood {what}")
    limit = SUM * bench.eps * (1 + largest(here.log_prob))
    assert_close(other.log_prob, here.log_prob, limit, law, f"log_prob {what}")
    if isinstance(q, np.ndarray):
        assert_close(other.posterior, q[:, order], limit, law, f"the posterior {what}")
    if model.exact:
        sizes = jax.tree.map(lambda *leaves: float(max(np.abs(x).max(initial=0) for x in leaves)), theta, update)
        assert_close(other.update, update, scaled(sizes, SLOPE * bench.eps), law, f"m_step {what}")


def _renamed(bench: Bench, places: np.ndarray) -> PyTree | None:
    """Return the data with components renamed in known labels, None where those are not plain."""

    def is_labelled(node: Any) -> bool:
        return isinstance(node, Labelled)

    def rename(node: Any) -> Any:
        if not is_labelled(node):
            return node
        labels = np.asarray(node.labels)
        if labels.dtype == bool:
            return Labelled(node.data, labels[..., np.argsort(places)])
        return Labelled(node.data, np.where(labels < 0, labels, places[labels]))

    nodes = [node for node in jax.tree.leaves(bench.data, is_leaf=is_labelled) if is_labelled(node)]
    if not nodes:
        return bench.data
    raw = [node for node in jax.tree.leaves(bench.raw, is_leaf=is_labelled) if is_labelled(node)]
    if not all(hasattr(node.labels, "shape") or isinstance(node.labels, list) for node in raw):
        return None
    renamed = jax.tree.map(rename, bench.raw, is_leaf=is_labelled)
    return jax.device_get(check_data(bench.model, renamed, bench.weights)[0])
