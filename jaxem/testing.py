"""The laws of `jaxem.model`, as checks that any model can be put to.

`check_model` runs all seven. Each check raises AssertionError that names the law, the place and the size of the breach.
Tolerances are in units of rounding of the dtype of the data, float32 or float64, and see best where data are of order one.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.boundary import check_data, check_params
from jaxem.constraints import constrain, unconstrain
from jaxem.fit import Fit, Status, fit
from jaxem.model import Model, PyTree, num_rows, require

ASCENT_STEPS = 20
FIT_STEPS = 30
LOOSE = 0.1  # nats, a tolerance at which fits of some dozens of rows end within a few steps


@partial(jax.jit, static_argnums=0)
def _run(model: Model, params: PyTree, data: PyTree, weights: Array, tol: float) -> Fit:
    """Fit inside jit, where values are not checked at the boundary; one compilation serves laws 6 and 7."""
    return fit(model, params, data, weights, tol=tol, max_steps=FIT_STEPS)


def check_model(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Array | None = None) -> None:
    """Check all seven laws for `model` on `data`, around `params`.

    The laws are those of `jaxem.model`; `weights` (n,) default to one each, `key` drives random perturbations. A check that
    needs a capability which the model does not have is passed over. Raises AssertionError at the first breach, and
    ValueError for arguments that `fit` would not take.
    """
    data, weights = check_data(model, data, weights)
    params = check_params(model, params, data, weights)
    key = jax.random.key(0) if key is None else key
    nearby = _nearby(model, params, _em_step(model, params, data, weights).params, key)
    check_linearity(model, params, data, weights, key=key)
    check_ascent(model, nearby, data, weights)
    check_tightness(model, nearby, data, weights, key=key)
    check_stationarity(model, nearby, data, weights)
    check_fisher_identity(model, nearby, data, weights)
    check_lanes(model, [params, nearby], data, weights)
    check_honest_end(model, nearby, data, weights)


class _EMStep(NamedTuple):
    """What one EM step gives: statistics and log-likelihood where it starts, the parameters where it ends."""

    stats: PyTree
    log_likelihood: Array
    params: PyTree


@partial(jax.jit, static_argnums=0)
def _em_step(model: Model, params: PyTree, data: PyTree, weights: Array) -> _EMStep:
    stats, log_likelihood = model.e_step(params, data, weights)
    return _EMStep(stats, log_likelihood, model.m_step(params, stats))


@partial(jax.jit, static_argnums=0)
def _expected_log_joint(model: Model, params: PyTree, stats: PyTree) -> Array:
    return require(model, "expected_log_joint")(params, stats)


@partial(jax.jit, static_argnums=0)
def _nearby(model: Model, params: PyTree, step: PyTree, key: Array) -> PyTree:
    """Return other parameters in the domain: half of the way to the end of an EM step, and a little off it at random."""
    start, unflatten = jax.flatten_util.ravel_pytree(unconstrain(model.constraints, params))
    end, _ = jax.flatten_util.ravel_pytree(unconstrain(model.constraints, step))
    noise = jax.random.normal(key, start.shape, start.dtype)
    moved = start + 0.5 * (end - start) + 0.01 * noise * jnp.maximum(0.1, jnp.abs(start))
    return constrain(model.constraints, unflatten(jnp.where(jnp.isfinite(moved), moved, start)))


def _eps(weights: Array) -> float:
    return float(jnp.finfo(weights.dtype).eps)


def _assert_close(received: PyTree, expected: PyTree, tolerance: float, law: str, what: str) -> None:
    """Compare leaf by leaf, relative to the largest entry of the leaf, or to one where that is smaller."""
    for (path, left), right in zip(jax.tree.leaves_with_path(received), jax.tree.leaves(expected), strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        scale = max(np.abs(right).max(initial=0), 1.0)
        worst = np.abs(left - right).max(initial=0)
        place = f"{what}{jax.tree_util.keystr(path)}"
        assert worst <= tolerance * scale, (
            f"{law}: {place} differs by {worst:.3g}, more than {tolerance * scale:.3g}; expected {right}, received {left}."
        )


def check_linearity(model: Model, params: PyTree, data: PyTree, weights: Array, *, key: Array) -> None:
    """Law 1: E-step linear in the weights; weight zero is an absent row, weight two the row twice."""
    law = "Law 1 (linearity)"
    tolerance = 1e4 * _eps(weights)

    def e_step(rows: PyTree, row_weights: np.ndarray) -> PyTree:
        step = _em_step(model, params, rows, row_weights)
        return (step.stats if model.additive else (), step.log_likelihood)

    rows, ones = jax.tree.map(np.asarray, data), np.asarray(weights)
    others = np.asarray(jax.random.uniform(key, weights.shape, weights.dtype))
    received = e_step(rows, ones + 2 * others)
    expected = jax.tree.map(lambda a, b: a + 2 * b, *(jax.device_get(e_step(rows, w)) for w in (ones, others)))
    _assert_close(received, expected, tolerance, law, "e_step at weights w + 2v, against e_step(w) + 2 e_step(v),")

    half = num_rows(rows) // 2
    if half:
        first = jax.tree.map(lambda leaf: leaf[:half], rows)
        received = e_step(rows, np.where(np.arange(num_rows(rows)) < half, ones, 0))
        _assert_close(
            received, e_step(first, ones[:half]), tolerance, law, "e_step with weight zero, against those rows left out,"
        )
        twice = jax.tree.map(lambda leaf: np.concatenate([leaf, leaf]), first)
        received, expected = e_step(first, 2 * ones[:half]), e_step(twice, np.concatenate([ones[:half], ones[:half]]))
        _assert_close(received, expected, tolerance, law, "e_step with weight two, against those rows twice,")


def check_ascent(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Law 2: no EM step lowers the log-likelihood, beyond a few ulps."""
    values = np.empty(ASCENT_STEPS)
    for t in range(ASCENT_STEPS):
        _, values[t], params = _em_step(model, params, data, weights)
    scale = np.abs(values).max() + float(weights.sum())
    fall = -np.diff(values).min()
    assert np.isfinite(values).all(), f"Law 2 (ascent): the log-likelihood is not finite along EM steps: {values}."
    assert fall <= 32 * _eps(weights) * scale, (
        f"Law 2 (ascent): EM step {np.diff(values).argmin()} lowers the log-likelihood by {fall:.3g} nats."
    )


def check_tightness(model: Model, params: PyTree, data: PyTree, weights: Array, *, key: Array) -> None:
    """Law 3: F(Q_θ, θ) = log p(x | θ) ≥ F(Q_θ', θ), and `log_prob` sums to the log-likelihood.

    The entropy of Q_θ is computed from the responsibilities where `posterior` returns (n, k) of them.
    """
    law = "Law 3 (tightness)"
    stats, log_likelihood, step = _em_step(model, params, data, weights)
    scale = float(jnp.abs(log_likelihood) + weights.sum())
    tolerance = 1e3 * _eps(weights) * scale
    if model.log_prob is not None:
        log_prob = jax.device_get(jax.jit(model.log_prob)(params, data))
        total = float(np.where(weights > 0, weights * log_prob, 0).sum())
        assert abs(total - float(log_likelihood)) <= tolerance, (
            f"{law}: log_prob sums to {total}, the log-likelihood of e_step is {float(log_likelihood)}."
        )
    if model.expected_log_joint is None:
        return
    here = float(_expected_log_joint(model, params, stats))
    posterior = jax.jit(model.posterior)(params, data) if model.posterior else None
    if isinstance(posterior, jax.Array) and posterior.ndim == 2:
        q = np.asarray(posterior)
        bound = here - float((np.asarray(weights)[:, None] * q * np.log(np.where(q > 0, q, 1))).sum())
        assert abs(bound - float(log_likelihood)) <= tolerance, (
            f"{law}: F(Q_θ, θ) = {bound} with the entropy of the posterior, log p(x | θ) = {float(log_likelihood)}."
        )
    for other in jax.random.split(key, 3):
        theta = _nearby(model, params, step, other)
        bound = float(log_likelihood) + float(_expected_log_joint(model, theta, stats)) - here
        above = bound - float(_em_step(model, theta, data, weights).log_likelihood)
        assert above <= tolerance, f"{law}: F(Q_θ', θ) exceeds log p(x | θ) by {above:.3g} nats near the given params."


@partial(jax.jit, static_argnums=0)
def _slope_and_curvature(model: Model, params: PyTree, stats: PyTree) -> tuple[Array, Array]:
    free, unflatten = jax.flatten_util.ravel_pytree(unconstrain(model.constraints, params))

    def objective(flat: Array) -> Array:
        return require(model, "expected_log_joint")(constrain(model.constraints, unflatten(flat)), stats)

    return jax.grad(objective)(free), jax.hessian(objective)(free)


def _attainable(model: Model, params: PyTree, stats: PyTree) -> float:
    """Return the rise of E_Q[log p(x, z | θ)] that a Newton step in unconstrained space promises: ½ gᵀ(-H)⁺g, in nats."""
    gradient, hessian = (np.asarray(part, np.float64) for part in _slope_and_curvature(model, params, stats))
    if not (np.isfinite(gradient).all() and np.isfinite(hessian).all()):
        return np.inf
    unit = np.sqrt(np.where(np.diag(hessian) == 0, 1, np.abs(np.diag(hessian))))
    gradient, hessian = gradient / unit, hessian / np.outer(unit, unit)
    values, vectors = np.linalg.eigh(-0.5 * (hessian + hessian.T))
    curved = np.abs(values) > 1e-8 * np.abs(values).max(initial=0)
    return 0.5 * float(((vectors.T @ gradient)[curved] ** 2 / np.abs(values[curved])).sum())


def check_stationarity(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Law 4: the M-step leaves nothing to gain, by a Newton step, but a millionth of a nat for each unit of weight.

    Passed over while a constraint against collapse holds the M-step.
    """
    if model.expected_log_joint is None:
        return
    stats, _, step = _em_step(model, params, data, weights)
    if model.held is not None and bool(jax.jit(model.held)(params, stats)):
        return
    before, after = (_attainable(model, theta, stats) for theta in (params, step))
    allowed = max(1e-6 * float(weights.sum()), 1e-6 * before)
    assert after <= allowed, (
        f"Law 4 (stationarity): after m_step, E_Q[log p(x, z | θ)] can still rise by about {after:.3g} nats "
        f"(allowed {allowed:.3g}); the gradient there is not zero."
    )


def check_fisher_identity(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Law 5: at θ, the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood agree, in unconstrained space."""
    if model.expected_log_joint is None:
        return
    received, expected = _gradients(model, params, data, weights)
    _assert_close(received, expected, 1e4 * _eps(weights), "Law 5 (Fisher's identity)", "the gradient at params")


@partial(jax.jit, static_argnums=0)
def _gradients(model: Model, params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, PyTree]:
    """Return the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood, in unconstrained space."""
    stats, _ = model.e_step(params, data, weights)
    expected_log_joint = require(model, "expected_log_joint")
    free = unconstrain(model.constraints, params)
    return (
        jax.grad(lambda u: expected_log_joint(constrain(model.constraints, u), stats))(free),
        jax.grad(lambda u: model.e_step(constrain(model.constraints, u), data, weights)[1])(free),
    )


def check_lanes(model: Model, starts: list[PyTree], data: PyTree, weights: Array) -> None:
    """Law 6: each lane of a vmapped fit takes the steps, and ends with the status and numbers, of a fit on its own.

    A climb ends where F is flat to rounding: its numbers agree to the root of that, and steps are compared in number alone.
    """
    climbs = model.stalled is not None
    tol, tolerance = (-jnp.inf, 100 * _eps(weights) ** 0.5) if climbs else (LOOSE, 1e4 * _eps(weights))
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    lanes = jax.device_get(jax.vmap(lambda start: _run(model, start, data, weights, tol))(stacked))
    for lane, start in enumerate(starts):
        received, expected = (
            jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes),
            _run(model, start, data, weights, tol),
        )
        law = f"Law 6 (lane = solo), lane {lane}"
        _assert_close(received[2:4], expected[2:4], 0, law, "num_steps, status")
        _assert_close(received[:2], expected[:2], tolerance, law, "params, log_likelihood")


def check_honest_end(model: Model, params: PyTree, data: PyTree, weights: Array) -> None:
    """Law 7: a Fit's log-likelihood is that of its params; what is not finite, or cut short, is not called converged."""
    law = "Law 7 (honest end)"
    ended = _run(model, params, data, weights, 1e-3)
    expected = _em_step(model, ended.params, data, weights).log_likelihood
    what = "Fit.log_likelihood, against e_step at Fit.params,"
    _assert_close(ended.log_likelihood, expected, 1e3 * _eps(weights), law, what)
    cut = _run(model, params, data, weights, -jnp.inf)
    assert cut.status != Status.CONVERGED, f"{law}: a fit that took all its max_steps says CONVERGED."
    if any(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(data)):
        lost = _run(model, params, jax.tree.map(_spoiled, data), weights, 1e-3)
        assert lost.status == Status.NONFINITE, f"{law}: on data with NaN the status is {Status(lost.status).name}."


def _spoiled(leaf: Array) -> Any:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf
    spoiled = np.array(leaf)
    spoiled[0] = np.nan
    return spoiled
