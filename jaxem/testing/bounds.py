"""Laws 2 to 5: the log-likelihood, the bound that EM climbs, their values and their slopes."""

import jax
import numpy as np

from jaxem.model import PyTree
from jaxem.testing.bench import SLOPE, SUM, Bench, ill_conditioned, nearby, standard_errors
from jaxem.testing.compare import assert_small, flat, leaf_largest, total_slope, unflat
from jaxem.testing.evidence import HERE, OTHER, UPDATE, Evidence, constrained

ASCENT_STEPS = 20


def ascent(bench: Bench) -> None:
    """Follow EM steps, and the bound F(Q_θ, θ⁺) from one to the next, which is tight from below."""
    law, before = "Law 2 (ascent)", bench.here
    for step in range(ASCENT_STEPS):
        after = bench.at(before.update)
        rise, rounding = climbed(after) - climbed(before), bench.rounding(before) + bench.rounding(after)
        assert np.isfinite(rise), f"{law}: the log-likelihood is {float(after.log_likelihood)} after EM step {step}."
        assert rise >= -SUM * rounding, (
            f"{law}: EM step {step} lowers the log-likelihood{' + log_prior' if bench.model.log_prior else ''} by "
            f"{-rise:.3g} nats, more than {SUM * rounding:.3g}."
        )
        before = after


def climbed(found: Evidence) -> float:
    """Return log-likelihood + log_prior."""
    return float(found.log_likelihood) + float(found.survey.prior[HERE])


def tightness(bench: Bench) -> None:
    """Compare log_prob, the bound at its own params with the log-likelihood, and the bound from elsewhere with it."""
    law, here, weights = "Law 3 (tightness)", bench.here, bench.weights
    tolerance, log_likelihood = SUM * bench.rounding(here), float(here.log_likelihood)
    if bench.model.log_prob:
        total = float(np.where(weights > 0, weights * np.asarray(here.log_prob, np.float64), 0).sum())
        assert abs(total - log_likelihood) <= tolerance, (
            f"{law}: log_prob sums to {total}, the log-likelihood of e_step is {log_likelihood}."
        )
    if bench.model.expected_log_joint is None:
        return
    bound = float(here.survey.bound[HERE])
    entropy = _entropy(here)
    if entropy is not None:
        tight = bound + float(weights.astype(np.float64) @ entropy)
        assert abs(tight - log_likelihood) <= tolerance, (
            f"{law}: F(Q_θ, θ) = {tight} with the entropy of the posterior, log p(x | θ) = {log_likelihood}."
        )
    errors, random = standard_errors(bench.slope_scale, weights.size), bench.random(3)
    for size in (0.3, 1.0, 3.0):
        other = nearby(bench.model, here, errors, random, size)
        moved, there = bench.at(bench.params, other), bench.at(other)
        above = log_likelihood + float(moved.survey.bound[OTHER]) - bound - float(there.log_likelihood)
        limit = tolerance + SUM * bench.rounding(there)
        assert not above > limit, f"{law}: F(Q_θ', θ) exceeds log p(x | θ) by {above:.3g} nats near the given params."


def _entropy(found: Evidence) -> np.ndarray | None:
    """Return H(Q) of each row, by the model's own account or from responsibilities (n, k); None where neither is there."""
    if not isinstance(found.entropy, tuple):
        return np.asarray(found.entropy, np.float64)
    q = found.posterior
    return -(q * np.log(np.where(q > 0, q, 1))).sum(1) if isinstance(q, np.ndarray) and q.ndim == 2 else None


def stationarity(bench: Bench) -> None:
    """Ask for no slope after an M-step that maximizes, and for a rise by one that climbs."""
    law, here, model = "Law 4 (stationarity)", bench.here, bench.model
    if model.expected_log_joint is None or bool(here.held):
        return
    if not model.exact:
        return _rise(bench, law)
    allowed = slope_tolerance(bench, UPDATE)
    with np.errstate(invalid="ignore"):
        left = np.abs(total_slope(here.survey, UPDATE))
    assert_small(left, allowed, here.survey, f"{law}: after m_step, the gradient of E_Q[log p(x, z | θ)] is not zero at")


def slope_tolerance(bench: Bench, place: int) -> np.ndarray:
    """Return how far from zero rounding may leave each entry of a gradient, at the params or at the update."""
    if place == HERE:
        theta, scale = bench.params, bench.slope_scale

        def slope(params: PyTree) -> np.ndarray:
            return flat(bench.at(params).survey.extra, HERE)
    else:
        theta, scale = bench.here.update, bench.update_scale

        def slope(params: PyTree) -> np.ndarray:
            return total_slope(bench.at(bench.params, params).survey, OTHER)

    conditioning = ill_conditioned(bench.model, slope, theta, int(bench.seed[-1]))
    return SLOPE * bench.eps * (scale + 1e-3 * leaf_largest(scale, bench.here.survey)) + SUM * conditioning


def _rise(bench: Bench, law: str) -> None:
    """Ask of an M-step that climbs that F does not fall, and rises where a step along the gradient shows that it can."""
    values = bench.here.survey.bound.astype(np.float64) + bench.here.survey.prior
    rise, rounding = float(values[UPDATE] - values[HERE]), 2 * bench.rounding(bench.here)
    assert rise >= -SUM * rounding, f"{law}: m_step lowers E_Q[log p(x, z | θ)] by {-rise:.3g} nats."
    assert rise > 0 or not bool(bench.here.rises), (
        f"{law}: m_step does not raise E_Q[log p(x, z | θ)] (by {rise:.3g} nats), although a step along its gradient would. "
        "It may be sound, and too far from a maximum for its steps: raise num_steps of gradient_m_step or from_log_joint, "
        "lower the optimizer's step length, or give params nearer to a fit."
    )


def fisher_identity(bench: Bench) -> None:
    """Compare the slopes of the bound and of the log-likelihood, and the latter with differences."""
    law, here = "Law 5 (Fisher's identity)", bench.here
    if bench.model.expected_log_joint is None:
        return
    received, expected = flat(here.survey.bound_slope, HERE), flat(here.survey.extra, HERE)
    with np.errstate(invalid="ignore"):
        differ = np.abs(received - expected)
    allowed = slope_tolerance(bench, HERE)
    what = f"{law}: the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood differ at"
    assert_small(differ, allowed, here.survey, what)
    _differences(bench, law, np.where(np.isfinite(expected), expected, 0))


def _differences(bench: Bench, law: str, slope: np.ndarray) -> None:
    """Compare the gradient of the log-likelihood with its differences a part of a standard error to both sides."""
    free = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], bench.here.survey.free)
    start, errors = flat(free), standard_errors(bench.slope_scale, bench.weights.size)
    step, random = bench.eps**0.25, bench.random(5)
    for _ in range(2):
        way = errors * random.choice([-1.0, 1.0], start.shape) / np.sqrt(start.size)
        ends = [constrained(bench.model, unflat(start + sign * step * way, free)) for sign in (1, -1)]
        high, low = (bench.at(jax.device_get(end)) for end in ends)
        received = (float(high.log_likelihood) - float(low.log_likelihood)) / (2 * step)
        expected = float(slope @ way)
        lost = bench.rounding(bench.here) + bench.eps * float(np.abs(slope * np.where(np.isfinite(start), start, 0)).sum())
        allowed = 100 * step**2 * (1 + abs(expected)) + SUM * lost / step
        assert not abs(received - expected) > allowed, (
            f"{law}: along a random direction the log-likelihood rises by {received:.6g} nats per unit, by its gradient "
            f"{expected:.6g}; more than {allowed:.3g} apart."
        )
