"""The laws of a Family, without a structure around it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import components, constraints
from jaxem.arrays import as_params
from jaxem.boundary import LOOKED_AT_VALUES, as_key, ready
from jaxem.model import Family, PyTree, require
from jaxem.model import check_family as check_is_family
from jaxem.numerics import in_full_precision
from jaxem.testing import draws
from jaxem.testing.bench import HALVES, SLOPE, SUM, ill_conditioned, spread, stats_scale
from jaxem.testing.compare import (
    alike,
    assert_close,
    assert_small,
    flat,
    largest,
    leaf_largest,
    names,
    num_components,
    plus,
    scaled,
    total_slope,
)
from jaxem.testing.evidence import HERE, OTHER, UPDATE, Survey, quickly, survey
from jaxem.trees import dtype_of_weights, num_rows


class FamilyEvidence(NamedTuple):
    """What a family says at params, rows and responsibilities; `survey` has E[log p] as its bound."""

    log_prob: Array  # (n, k)
    stats: PyTree
    total: Array  # Σ_nk r_nk log p(x_n | θ_k)
    update: PyTree
    held: Array
    survey: Survey


@quickly
@in_full_precision
def _evidence(family: Family, params: PyTree, other: PyTree, x: PyTree, responsibilities: Array) -> FamilyEvidence:
    def total(theta: PyTree) -> tuple[Array, tuple[Array, PyTree]]:
        log_prob, statistics = family.evaluate(theta, x)
        present = responsibilities > 0
        value = jnp.where(present, responsibilities * jnp.where(present, log_prob, 0), 0).sum()
        return value, (log_prob, statistics(responsibilities))

    (value, (log_prob, stats)), slope = jax.value_and_grad(total, has_aux=True)(params)
    update, zero = family.m_step(params, stats), jnp.zeros((), value.dtype)
    prior = family.log_prior
    return FamilyEvidence(
        log_prob=log_prob,
        stats=stats,
        total=value,
        update=update,
        held=family.degenerate(params, stats) if family.degenerate else jnp.asarray(False),
        survey=survey(
            family.constraints,
            lambda theta: family.expected_log_prob(theta, stats),
            lambda theta: prior(theta).astype(zero.dtype) if prior else zero,
            [params, update, other],
            slope,
        ),
    )


class _Bench(NamedTuple):
    family: Family
    params: PyTree
    x: PyTree
    r: np.ndarray
    here: FamilyEvidence
    seed: np.ndarray
    stats_scale: PyTree
    slope_scale: np.ndarray
    update_scale: np.ndarray
    rounding: float  # of Σ r log p

    @property
    def eps(self) -> float:
        return float(np.finfo(self.r.dtype).eps)

    def at(self, params: PyTree, other: PyTree = None, x: PyTree = None, r: np.ndarray | None = None) -> FamilyEvidence:
        x, r = self.x if x is None else x, self.r if r is None else r
        return jax.device_get(_evidence(self.family, params, params if other is None else other, x, r))

    def tolerance(self, place: int) -> np.ndarray:
        """Return how far from zero rounding may leave each entry of a gradient, at the params or at the update."""
        theta, scale = (self.params, self.slope_scale) if place == HERE else (self.here.update, self.update_scale)

        def slope(params: PyTree) -> np.ndarray:
            return (
                flat(self.at(params).survey.extra, HERE)
                if place == HERE
                else total_slope(self.at(self.params, params).survey, OTHER)
            )

        conditioning = ill_conditioned(self.family, slope, theta, int(self.seed[-1]))
        return SLOPE * self.eps * (scale + 1e-3 * leaf_largest(scale, self.here.survey)) + SUM * conditioning


def check_family(family: Family, params: PyTree, x: PyTree, responsibilities: Any = None, *, key: Any = None) -> None:
    """Check what every structure asks of a Family, on rows `x` around `params`, for all its k components at once.

    Statistics are linear in the responsibilities (n, k), by default random ones; `expected_log_prob` is Σ r log p and has its
    gradient at the params of the statistics; the M-step is stationary; `init` lies in the domain; `sample` follows the
    density; a permutation of components permutes everything. Capabilities that the family lacks are passed over.
    Raises AssertionError at the first breach, and ValueError for what is no Family.

    >>> import jax.numpy as jnp
    >>> from jaxem import families, testing
    >>> testing.check_family(families.poisson(), families.Poisson(jnp.array([1.0, 4.0])), [0.0, 1.0, 2.0, 5.0, 3.0, 4.0])
    """
    check_is_family(family)
    bench = _set_up(family, params, x, responsibilities, key)
    for law in (_linear, _expects, _stationary, _fisher, _starts, _samples, _permutes):
        law(bench)


def _set_up(family: Family, params: PyTree, x: PyTree, responsibilities: Any, key: Any) -> _Bench:
    x = jax.device_get(ready(family.prepare, x))
    dtype, rows = dtype_of_weights(x), num_rows(x)
    params = jax.device_get(constraints.mend(family.constraints, as_params(params, dtype)))
    seed = np.asarray(jax.random.key_data(as_key(0 if key is None else key))).ravel()
    random = np.random.default_rng(seed)
    k = jax.eval_shape(lambda: family.evaluate(params, x)[0]).shape[1]
    r = random.dirichlet(np.ones(k), rows) if responsibilities is None else np.asarray(responsibilities)
    r = r.astype(dtype)
    if r.shape != (rows, k):
        raise ValueError(f"responsibilities has shape {r.shape}, needs ({rows}, {k}).")

    def look(other: PyTree, r: np.ndarray) -> FamilyEvidence:
        return jax.device_get(_evidence(family, params, other, x, r))

    here = look(look(params, r).update, r)
    sides = [random.permutation(np.arange(rows) % 2)[:, None].astype(dtype) for _ in range(HALVES)]
    found = [(look(here.update, r * side), look(here.update, r * (1 - side))) for side in sides]
    spreads = (
        spread([(flat(a.survey.extra, HERE), flat(b.survey.extra, HERE)) for a, b in found], rows),
        spread([(flat(a.survey.bound_slope, OTHER), flat(b.survey.bound_slope, OTHER)) for a, b in found], rows),
    )
    terms = np.where(r > 0, r * (np.abs(np.where(r > 0, here.log_prob, 0)) + 1), 0)
    size = 1.0 if family.size is None else float(np.max(family.size(x)))
    scale = stats_scale(here.stats, [(a.stats, b.stats) for a, b in found], rows)
    rounding = float(np.finfo(dtype).eps) * size * float(terms.sum())
    return _Bench(family, params, x, r, here, seed, scale, *spreads, rounding)


def _linear(bench: _Bench) -> None:
    law = "Linearity"
    if not bench.family.additive:
        return
    random = np.random.default_rng([1, *bench.seed])
    share = random.choice([0.0, 0.25, 1.0], bench.r.shape).astype(bench.r.dtype)
    parts = (bench.at(bench.params, r=bench.r * share).stats, bench.at(bench.params, r=bench.r - bench.r * share).stats)
    tolerance = scaled(bench.stats_scale, SUM * bench.eps)
    assert_close(plus(*parts), bench.here.stats, tolerance, law, "statistics at a part of the responsibilities plus the rest")


def _expects(bench: _Bench) -> None:
    here, limit = bench.here, SUM * bench.rounding
    expected, received = float(here.total), float(here.survey.bound[HERE])
    assert abs(received - expected) <= limit, (
        f"Tightness: expected_log_prob is {received} at the params of the statistics, Σ r log p is {expected}: "
        f"more than {limit:.3g} apart."
    )


def _stationary(bench: _Bench) -> None:
    law, here = "Stationarity", bench.here
    rise = float(here.survey.bound[UPDATE] + here.survey.prior[UPDATE] - here.survey.bound[HERE] - here.survey.prior[HERE])
    assert rise >= -2 * SUM * bench.rounding, f"{law}: m_step lowers expected_log_prob by {-rise:.3g} nats."
    if bench.family.exact and not bool(here.held):
        left = np.abs(total_slope(here.survey, UPDATE))
        what = f"{law}: after m_step, the gradient of expected_log_prob is not zero at"
        assert_small(left, bench.tolerance(UPDATE), here.survey, what)
    if bench.family.degenerate and bool(here.held):
        left = np.abs(total_slope(here.survey, UPDATE))
        honest = (left > bench.tolerance(UPDATE)).any() or not np.isfinite(left).all()
        assert honest, f"{law}: degenerate says that a floor holds the M-step, which leaves no gradient."


def _fisher(bench: _Bench) -> None:
    received, expected = flat(bench.here.survey.bound_slope, HERE), flat(bench.here.survey.extra, HERE)
    with np.errstate(invalid="ignore"):
        differ = np.abs(received - expected)
    what = "Fisher's identity: the gradients of expected_log_prob and of Σ r log p differ at"
    assert_small(differ, bench.tolerance(HERE), bench.here.survey, what)


def _starts(bench: _Bench) -> None:
    law = "Init"
    start = jax.device_get(_begun(bench.family, bench.x, bench.r))
    assert alike(start, bench.params), f"{law}: returns {jax.tree.map(np.shape, start)}, expected what is like params."
    domains = constraints.broadcast(bench.family.constraints, start)
    for (path, leaf), domain in zip(jax.tree.leaves_with_path(start), domains, strict=True):
        inside = bool(np.isfinite(leaf).all()) and bool(domain.contains(jnp.asarray(leaf)))
        assert inside, f"{law}: params{jax.tree_util.keystr(path)} must be finite and {domain.name}, got {leaf}."
    assert np.isfinite(bench.at(start).total), f"{law}: Σ r log p is {bench.at(start).total} at what it returns."


def _begun(family: Family, x: PyTree, responsibilities: np.ndarray) -> PyTree:
    try:
        return _begin(family, x, responsibilities)
    except LOOKED_AT_VALUES:
        return family.init(x, jnp.asarray(responsibilities))


@quickly
def _begin(family: Family, x: PyTree, responsibilities: Array) -> PyTree:
    return family.init(x, responsibilities)


@quickly
def _drawn(family: Family, key: Array, params: PyTree, labels: Array, like: PyTree) -> PyTree:
    return require(family, "sample")(key, params, labels, like)


def _samples(bench: _Bench) -> None:
    law, family = "Sample", bench.family
    if family.sample is None:
        return
    rows, k = bench.r.shape
    labels = np.arange(rows, dtype=np.int32) % k
    whole = np.eye(k, dtype=bench.r.dtype)[labels]
    slopes = []
    for key in draws.keys(bench.seed, draws.BATCHES):
        drawn = draws.as_data(family.prepare, _drawn(family, key, bench.params, labels, bench.x), bench.x, law)
        found = bench.at(bench.params, x=drawn, r=whole)
        assert np.isfinite(found.total), f"{law}: draws what is impossible at its params."
        slopes.append(flat(found.survey.extra, HERE))
    what = f"{law}: does not follow evaluate: over draws, the gradient of the log-density at params"
    floor = SLOPE * bench.eps * bench.slope_scale
    draws.assert_centred(np.stack(slopes), floor, names(bench.here.survey.free, HERE), what)


def _permutes(bench: _Bench) -> None:
    law, here, family = "Permutation", bench.here, bench.family
    k = num_components(family, bench.params)
    if k < 2 or k != bench.r.shape[1]:
        return
    order = np.roll(np.arange(k), 1)
    theta, update = (
        jax.device_get(components.take(family.constraints, p, jnp.asarray(order))) for p in (bench.params, here.update)
    )
    other = bench.at(theta, r=bench.r[:, order])
    limit = SUM * bench.eps * (1 + largest(here.log_prob))
    assert_close(other.log_prob, here.log_prob[:, order], limit, law, "log p(x | θ_k) of permuted components")
    assert_close(other.total, here.total, SUM * bench.rounding, law, "Σ r log p of permuted components")
    sizes = jax.tree.map(lambda *leaves: float(max(np.abs(x).max(initial=0) for x in leaves)), theta, update)
    if family.exact:
        assert_close(other.update, update, scaled(sizes, SLOPE * bench.eps), law, "m_step of permuted components")
