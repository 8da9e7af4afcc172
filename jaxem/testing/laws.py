"""The laws of `jaxem.model`, as checks that any model can be put to."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem import components
from jaxem.boundary import check_params, ready
from jaxem.families.labelled import Labelled
from jaxem.fitting import Fit, fit
from jaxem.model import Model, PyTree
from jaxem.stopping import Status
from jaxem.testing import draws
from jaxem.testing.evidence import (
    HERE,
    OTHER,
    SLOPE,
    SUM,
    UPDATE,
    Bench,
    Evidence,
    alike,
    assert_close,
    assert_small,
    constrained,
    flat,
    halves_of,
    ill_conditioned,
    largest,
    leaf_largest,
    nearby,
    num_components,
    plus,
    quickly,
    scaled,
    set_up,
    standard_errors,
    starting,
    total_slope,
    unflat,
)
from jaxem.trees import map_rows, rows_of

ASCENT_STEPS = 20
FIT_STEPS = 30
LOOSE = 0.1  # nats, a tolerance at which fits of some dozens of rows end within a few steps
OUTLYING = (1e1, 1e4, 1e8)  # times what stood in an absent row


def check_model(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check all eight laws for `model` on `data`, around `params`.

    The laws are those of `jaxem.model`; `weights` (n,) default to one each, `key` drives random perturbations. A check that
    needs a capability which the model does not have is passed over. Raises AssertionError at the first breach, which names
    the law, the place and the size, and ValueError for arguments that `fit` would not take.

    >>> import jaxem
    >>> model = jaxem.mixture(jaxem.families.poisson(), 2)
    >>> x = [0, 1, 1, 2, 3, 4, 5, 6, 7, 9]
    >>> jaxem.testing.check_model(model, model.init(0, x), x)
    """
    bench = set_up(model, params, data, weights, key)
    for law in (_linearity, _ascent, _tightness, _stationarity, _fisher_identity, _lanes, _honest_end, _one_voice):
        law(bench)


def check_linearity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 1: statistics and log-likelihood are linear in the weights.

    Weight zero is an absent row, whatever stands in it, outlying values too; weight two is the row twice.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_linearity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _linearity(set_up(model, params, data, weights, key))


def check_ascent(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 2: no EM step lowers log-likelihood + log_prior, beyond rounding.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_ascent(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _ascent(set_up(model, params, data, weights, key))


def check_tightness(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 3: F(Q_θ, θ) = log p(x | θ) ≥ F(Q_θ', θ), and `log_prob` sums to the log-likelihood.

    The entropy of Q_θ is computed from the responsibilities where `posterior` returns (n, k) of them.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_tightness(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _tightness(set_up(model, params, data, weights, key))


def check_stationarity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 4: the gradient of E_Q[log p(x, z | θ)] + log_prior vanishes at the M-step, in unconstrained space.

    Where the model is not `exact`, the M-step must not lower their sum, and raise it where a step along the gradient does.
    Passed over while a floor against collapse holds the M-step.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_stationarity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _stationarity(set_up(model, params, data, weights, key))


def check_fisher_identity(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 5: at θ, the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood agree, also by differences.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_fisher_identity(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _fisher_identity(set_up(model, params, data, weights, key))


def check_lanes(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 6: each lane of a vmapped fit takes the steps, and ends with the numbers, of a fit on its own.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_lanes(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _lanes(set_up(model, params, data, weights, key))


def check_honest_end(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 7: a Fit's log-likelihood is that of its params, and its status and `degenerate` mean what they say.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_honest_end(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _honest_end(set_up(model, params, data, weights, key))


def check_one_voice(model: Model, params: PyTree, data: PyTree, weights: Any = None, *, key: Any = None) -> None:
    """Check law 8: `statistics`, `posterior`, `init`, `sample` and `log_prob` speak of one model, in any order of components.

    Samples are held to be of the model where the mean gradient of their log-probability is zero to a few standard errors.

    Arguments and errors are those of `check_model`.

    >>> import jaxem
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> jaxem.testing.check_one_voice(model, jaxem.families.Poisson([2.0]), [0, 1, 3, 4])
    """
    _one_voice(set_up(model, params, data, weights, key))


# Law 1


def _linearity(bench: Bench) -> None:
    law = "Law 1 (linearity)"
    random, weights, model = bench.random(1), bench.weights, bench.model
    n, half = weights.size, weights.size // 2

    def sums(found: Evidence) -> PyTree:
        return (found.stats if model.additive else (), found.log_likelihood)

    whole = sums(bench.here)
    scales = (bench.stats_scale if model.additive else (), bench.rounding(bench.here) / bench.eps)
    tolerance = scaled(scales, SUM * bench.eps)

    def compare(received: Evidence, expected: PyTree, what: str, times: float = 1.0) -> None:
        assert_close(sums(received), expected, scaled(tolerance, times), law, what)

    for one, left in halves_of(weights, random):
        parts = sums(bench.at(bench.params, weights=one)), sums(bench.at(bench.params, weights=left))
        assert_close(plus(*parts), whole, tolerance, law, "e_step at one half of the weights plus that at the other")
    more = (random.uniform(size=n) * weights.mean()).astype(weights.dtype)
    expected = plus(whole, scaled(sums(bench.at(bench.params, weights=more)), 2.0))
    compare(
        bench.at(bench.params, weights=weights + 2 * more),
        expected,
        "e_step at weights w + 2v against e_step(w) + 2 e_step(v)",
        3,
    )

    if not half:
        return
    present = np.arange(n) < half
    kept = np.where(present, weights, 0).astype(weights.dtype)
    if not (kept > 0).any():
        return
    absent = bench.at(bench.params, weights=kept)
    first = map_rows(lambda leaf: leaf[:half], bench.data)
    alone = jax.device_get(_e_step(model, bench.params, first, weights[:half]))
    compare(absent, (alone[0] if model.additive else (), alone[1]), "e_step with weight zero against those rows left out")
    places = np.concatenate([np.arange(half), np.arange(half), np.zeros(n - 2 * half, int)])
    twice = np.where(np.arange(n) < 2 * half, weights[places], 0).astype(weights.dtype)
    doubled = bench.at(bench.params, data=map_rows(lambda leaf: leaf[places], bench.data), weights=twice)
    compare(bench.at(bench.params, weights=2 * kept), sums(doubled), "e_step with weight two against those rows twice", 2)
    for data, what in _outlying(bench, present, kept):
        other = bench.at(bench.params, data=data, weights=kept)
        compare(other, sums(absent), f"e_step with {what} in rows of weight zero")
        for name in ("log_prob", "posterior"):
            received, before = (jax.tree.map(lambda leaf: leaf[:half], getattr(found, name)) for found in (other, absent))
            limit = SUM * bench.eps * (1 + largest(absent.log_prob))
            assert_close(received, before, limit, law, f"{name} of the others with {what} in rows of weight zero")


@quickly
def _e_step(model: Model, params: PyTree, data: PyTree, weights: Array) -> tuple[PyTree, Array]:
    return model.e_step(params, data, weights)


def _outlying(bench: Bench, present: np.ndarray, kept: np.ndarray) -> list[tuple[PyTree, str]]:
    """Return data with other values in the rows that are not present: outlying ones, and those of others, where legal."""
    raw = bench.raw
    plain = all(isinstance(leaf, (np.ndarray, jax.Array)) and np.ndim(leaf) for leaf in rows_of(raw))
    base = raw if plain else bench.data
    lone, limit = len(rows_of(base)) == 1, float(np.finfo(bench.weights.dtype).max) ** 0.25

    def outlying(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        if not (np.issubdtype(leaf.dtype, np.floating) or (lone and leaf.dtype.kind == "i")):
            return np.where(_column(present, leaf), leaf, np.roll(leaf, 1, 0))
        sizes = np.resize(OUTLYING, len(leaf))
        far = np.asarray(leaf, np.float64) * _column(sizes, leaf)
        far = np.where(np.abs(far) > max(limit, np.abs(leaf).max()), leaf, far)
        return np.where(_column(present, leaf), leaf, far.astype(leaf.dtype))

    def reflected(leaf: Any) -> np.ndarray:
        leaf = np.asarray(leaf)
        other = np.roll(leaf, 1, 0) if leaf.dtype == bool else leaf.max(0) + leaf.min(0) - leaf
        return np.where(_column(present, leaf), leaf, other.astype(leaf.dtype))

    made = [(map_rows(outlying, base), "outlying values"), (map_rows(reflected, base), "other values")]
    legal = [(_legal(bench, data, kept), what) for data, what in made]
    return [(data, what) for data, what in legal if data is not None]


def _column(values: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    return values.reshape(-1, *[1] * (np.ndim(leaf) - 1))


def _legal(bench: Bench, data: PyTree, weights: np.ndarray) -> PyTree | None:
    """Return data as prepared, None where they are not legal: refused at the door, or with nothing finite to say of them."""
    prepare = bench.model.prepare
    try:
        prepared = prepare(data, jnp.asarray(weights)) if prepare else ready(None, data)
    except ValueError:
        return None
    if not alike(prepared, bench.data):
        return None
    looked_at = prepare is not None and data is not prepared
    return prepared if looked_at or _all_finite(bench.at(bench.params, data=prepared)) else None


def _all_finite(found: Evidence) -> bool:
    return all(np.isfinite(np.asarray(leaf, np.float64)).all() for leaf in jax.tree.leaves((found.stats, found.log_likelihood)))


# Laws 2 and 3


def _ascent(bench: Bench) -> None:
    """Follow EM steps, and the bound F(Q_θ, θ⁺) from one to the next, which is tight from below."""
    law, before = "Law 2 (ascent)", bench.here
    for step in range(ASCENT_STEPS):
        after = bench.at(before.update)
        rise, rounding = _value(after) - _value(before), bench.rounding(before) + bench.rounding(after)
        assert np.isfinite(rise), f"{law}: the log-likelihood is {float(after.log_likelihood)} after EM step {step}."
        assert rise >= -SUM * rounding, (
            f"{law}: EM step {step} lowers the log-likelihood{' + log_prior' if bench.model.log_prior else ''} by "
            f"{-rise:.3g} nats, more than {SUM * rounding:.3g}."
        )
        before = after


def _value(found: Evidence) -> float:
    return float(found.log_likelihood) + float(found.survey.prior[HERE])


def _tightness(bench: Bench) -> None:
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
    q = here.posterior
    if isinstance(q, np.ndarray) and q.ndim == 2:
        tight = bound - float(weights.astype(np.float64) @ (q * np.log(np.where(q > 0, q, 1))).sum(1))
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


# Laws 4 and 5


def _stationarity(bench: Bench) -> None:
    law, here, model = "Law 4 (stationarity)", bench.here, bench.model
    if model.expected_log_joint is None or bool(here.held):
        return
    if not model.exact:
        return _rise(bench, law)
    allowed = _slope_tolerance(bench, UPDATE)
    with np.errstate(invalid="ignore"):
        left = np.abs(total_slope(here.survey, UPDATE))
    assert_small(left, allowed, here.survey, f"{law}: after m_step, the gradient of E_Q[log p(x, z | θ)] is not zero at")


def _slope_tolerance(bench: Bench, place: int) -> np.ndarray:
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


def _fisher_identity(bench: Bench) -> None:
    law, here = "Law 5 (Fisher's identity)", bench.here
    if bench.model.expected_log_joint is None:
        return
    received, expected = flat(here.survey.bound_slope, HERE), flat(here.survey.extra, HERE)
    with np.errstate(invalid="ignore"):
        differ = np.abs(received - expected)
    allowed = _slope_tolerance(bench, HERE)
    what = f"{law}: the gradients of E_Q[log p(x, z | ·)] and of the log-likelihood differ at"
    assert_small(differ, allowed, here.survey, what)
    _differences(bench, law, np.where(np.isfinite(expected), expected, 0))


def _differences(bench: Bench, law: str, slope: np.ndarray) -> None:
    """Compare the gradient of the log-likelihood with its differences a part of a standard error to both sides."""
    free = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], bench.here.survey.free)
    start, errors = flat(free), standard_errors(bench.slope_scale, bench.weights.size)
    step, random = 4 * bench.eps ** (1 / 3), bench.random(5)
    for _ in range(2):
        way = errors * random.choice([-1.0, 1.0], start.shape) / np.sqrt(start.size)
        ends = [constrained(bench.model, unflat(start + sign * step * way, free)) for sign in (1, -1)]
        high, low = (bench.at(jax.device_get(end)) for end in ends)
        received = (float(high.log_likelihood) - float(low.log_likelihood)) / (2 * step)
        expected = float(slope @ way)
        allowed = 100 * step**2 * (1 + abs(expected)) + SUM * bench.rounding(bench.here) / step
        assert not abs(received - expected) > allowed, (
            f"{law}: along a random direction the log-likelihood rises by {received:.6g} nats per unit, by its gradient "
            f"{expected:.6g}; more than {allowed:.3g} apart."
        )


# Laws 6 and 7


@quickly
def _run(model: Model, params: PyTree, data: PyTree, weights: Array, tol: Array) -> Fit:
    """Fit inside jit, where values are not checked at the boundary; one compilation serves laws 6 and 7."""
    return fit(model, params, data, weights, tol=tol, max_steps=FIT_STEPS)


def _in_lanes(bench: Bench, starts: list[PyTree], tol: float, data: PyTree = None) -> list[Fit]:
    """Return the fits from two starts, each in a lane."""
    data, loose = bench.data if data is None else data, np.asarray(tol, bench.weights.dtype)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    lanes = jax.device_get(jax.vmap(lambda start: _run(bench.model, start, data, bench.weights, loose))(stacked))
    return [jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes) for lane in range(len(starts))]


def _alone(bench: Bench, params: PyTree, tol: float, data: PyTree = None) -> Fit:
    """Return a fit on its own; of a model that climbs, whose loops take long to compile, in a lane beside its copy."""
    if not bench.model.exact:
        return _in_lanes(bench, [params, params], tol, data)[0]
    data, loose = bench.data if data is None else data, np.asarray(tol, bench.weights.dtype)
    return jax.device_get(_run(bench.model, params, data, bench.weights, loose))


def _all_steps(bench: Bench, params: PyTree) -> Fit:
    """Return what a fit on its own is that takes all steps: EM steps, one by one."""
    found = [bench.at(params)]
    for _ in range(FIT_STEPS):
        found.append(bench.at(found[-1].update))
    history = np.array([each.log_likelihood for each in found])
    counts = np.int32(FIT_STEPS), np.int32(Status.MAX_STEPS)
    return Fit(found[-2].update, history[-1], *counts, history, np.int32(FIT_STEPS + 1))


def _lanes(bench: Bench) -> None:
    """Compare two lanes with fits alone.

    A climb ends where F is flat to rounding, so its numbers agree to the root of that, and all steps are taken. The number
    of steps may differ where all gains that one took more than the other are rounding.
    """
    exact, starts = bench.model.exact, [bench.given, bench.params]
    lanes = _in_lanes(bench, starts, LOOSE if exact else -np.inf)
    for lane, (received, start) in enumerate(zip(lanes, starts, strict=True)):
        expected = _alone(bench, start, LOOSE) if exact else _all_steps(bench, start)
        _compare_fits(bench, received, expected, f"Law 6 (lane = solo), lane {lane}", start)


def _compare_fits(bench: Bench, received: Fit, expected: Fit, law: str, start: PyTree) -> None:
    climbs = not bench.model.exact
    rounding = SUM * bench.rounding(bench.here) + SUM * bench.rounding(bench.at(expected.params))
    limit = rounding * bench.eps**-0.5 / 64 if climbs else rounding
    common = min(int(received.num_steps), int(expected.num_steps)) + 1
    assert_close(received.history[:common], expected.history[:common], limit, law, "history")
    longer = max(received, expected, key=lambda end: int(end.num_steps)).history[common - 1 :]
    gained = np.abs(np.diff(longer[np.isfinite(longer)])).max(initial=0)
    counts = f"num_steps {int(received.num_steps)} with status {Status(int(received.status)).name}, expected "
    counts += f"{int(expected.num_steps)} with {Status(int(expected.status)).name}"
    assert gained <= limit, f"{law}: {counts}; the steps between gain up to {gained:.3g} nats, more than rounding."
    if received.num_steps == expected.num_steps:
        assert received.status == expected.status, f"{law}: {counts}."
    tolerance = 100 * bench.eps**0.5 if climbs else SLOPE * bench.eps
    sizes = jax.tree.map(lambda *leaves: float(max(np.abs(leaf).max(initial=0) for leaf in leaves)), start, expected.params)
    assert_close(received.params, expected.params, scaled(sizes, tolerance), law, "params")


def _honest_end(bench: Bench) -> None:
    law, model = "Law 7 (honest end)", bench.model
    _assert_honest_floor(bench, law)
    ended = _alone(bench, bench.params, 1e-3)
    there = bench.at(ended.params)
    rounding = SUM * bench.rounding(there)
    apart = abs(float(ended.log_likelihood) - float(there.log_likelihood))
    assert apart <= rounding, (
        f"{law}: Fit.log_likelihood is {float(ended.log_likelihood)}, that of e_step at Fit.params "
        f"{float(there.log_likelihood)}: {apart:.3g} apart, more than {rounding:.3g}."
    )
    if ended.status == Status.CONVERGED:
        gain = _value(bench.at(there.update)) - _value(there)
        assert gain <= 1e-3 + rounding, f"{law}: a fit says CONVERGED where one more step gains {gain:.3g} nats, tol is 0.001."
    cut = _alone(bench, bench.params, -np.inf)
    assert cut.status != Status.CONVERGED, f"{law}: a fit that took all its max_steps says CONVERGED."
    if any(np.issubdtype(np.asarray(leaf).dtype, np.floating) for leaf in rows_of(bench.data)):
        lost = _alone(bench, bench.params, 1e-3, map_rows(_spoiled, bench.data))
        assert lost.status == Status.NONFINITE, f"{law}: on data with NaN the status is {Status(int(lost.status)).name}."


def _assert_honest_floor(bench: Bench, law: str) -> None:
    """Ask that an M-step which is said to be held by a floor leaves a gradient that says so."""
    if bench.model.degenerate is None or bench.model.expected_log_joint is None or not bool(bench.here.held):
        return
    left = np.abs(total_slope(bench.here.survey, UPDATE))
    honest = (left > _slope_tolerance(bench, UPDATE)).any() or not np.isfinite(left).all()
    assert honest, f"{law}: degenerate says that a floor holds the M-step, which leaves no gradient: it is an ordinary maximum."


def _spoiled(leaf: Any) -> np.ndarray:
    spoiled = np.array(leaf)
    if np.issubdtype(spoiled.dtype, np.floating):
        spoiled[0] = np.nan
    return spoiled


# Law 8


def _one_voice(bench: Bench) -> None:
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
    theta, update = (jax.device_get(components.take(model.constraints, p, order)) for p in (bench.params, here.update))
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
        if labels.ndim == 2:
            return Labelled(node.data, labels[:, np.argsort(places)])
        return Labelled(node.data, np.where(labels < 0, labels, places[labels]))

    nodes = [node for node in jax.tree.leaves(bench.data, is_leaf=is_labelled) if is_labelled(node)]
    if not nodes:
        return bench.data
    raw = [node for node in jax.tree.leaves(bench.raw, is_leaf=is_labelled) if is_labelled(node)]
    if not all(hasattr(node.labels, "shape") or isinstance(node.labels, list) for node in raw):
        return None
    return ready(bench.model.prepare, jax.tree.map(rename, bench.raw, is_leaf=is_labelled))
