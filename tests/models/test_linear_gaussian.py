"""State space models beside published fits, plain loops, dense algebra, and what users may get wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import LinearGaussian, families

NAMES = ("m0", "V0", "A", "Q", "C", "R")


def plain_steps(params, xs, num):
    """EM by plain loops over sequences and steps, in the covariance form of the textbooks: heights, and the end."""
    mean, first, move, noise, load, scatter = (np.array(leaf) for leaf in params[:6])
    heights = []
    for _ in range(num):
        found = [plain_smoother(x, mean, first, move, noise, load, scatter) for x in xs]
        heights.append(sum(height for height, *_ in found))
        start = np.mean([m[0] for _, m, _, _ in found], 0)
        first = np.mean([c[0] + np.outer(m[0] - start, m[0] - start) for _, m, c, _ in found], 0)
        past = sum((c[:-1] + m[:-1, :, None] * m[:-1, None]).sum(0) for _, m, c, _ in found)
        across = sum((g + m[1:, :, None] * m[:-1, None]).sum(0) for _, m, _, g in found)
        after = sum((c[1:] + m[1:, :, None] * m[1:, None]).sum(0) for _, m, c, _ in found)
        whole = sum((c + m[:, :, None] * m[:, None]).sum(0) for _, m, c, _ in found)
        shown = sum(x.T @ m for x, (_, m, _, _) in zip(xs, found, strict=True))
        squares, steps = sum(x.T @ x for x in xs), sum(map(len, xs))
        mean, move, load = start, across @ np.linalg.inv(past), shown @ np.linalg.inv(whole)
        noise = (after - move @ across.T - across @ move.T + move @ past @ move.T) / (steps - len(xs))
        scatter = (squares - load @ shown.T - shown @ load.T + load @ whole @ load.T) / steps
    return np.array(heights), (mean, first, move, noise, load, scatter)


def plain_smoother(x, mean, first, move, noise, load, scatter):
    """Return log p, means, covariances and lags; by Joseph's form, as the shorter one falls apart after a diffuse start."""
    height, ahead, spread, known = 0.0, mean, first, []
    for row in x:
        total = load @ spread @ load.T + scatter
        left, gain = row - load @ ahead, np.linalg.solve(total, load @ spread).T
        height -= 0.5 * (left @ np.linalg.solve(total, left) + np.linalg.slogdet(total)[1] + len(row) * np.log(2 * np.pi))
        rest = np.eye(len(mean)) - gain @ load
        here, left_over = ahead + gain @ left, rest @ spread @ rest.T + gain @ scatter @ gain.T
        known.append((here, left_over, ahead, spread))
        ahead, spread = move @ here, move @ left_over @ move.T + noise
    means, covariances, lags = [known[-1][0]], [known[-1][1]], []
    for (here, left_over, _, _), (_, _, ahead, spread) in zip(known[-2::-1], known[:0:-1], strict=True):
        back = np.linalg.solve(spread, move @ left_over).T
        lags.insert(0, covariances[0] @ back.T)
        means.insert(0, here + back @ (means[0] - ahead))
        covariances.insert(0, left_over + back @ (covariances[0] - spread) @ back.T)
    return height, np.array(means), np.array(covariances), np.array(lags).reshape(-1, mean.size, mean.size)


def test_a_batch_of_six_takes_the_steps_of_plain_loops():
    rng = np.random.default_rng(2)
    move, load = np.array([[0.9, 0.2], [-0.2, 0.8]]), np.array([[1.0, 0.0], [0.0, 1.0], [0.5, -0.5]])
    xs = []
    for length in (40, 25, 40, 1, 33, 12):
        states = [rng.normal(size=2) * 2]
        for _ in range(length - 1):
            states.append(move @ states[-1] + 0.5 * rng.normal(size=2))
        xs.append(np.array(states) @ load.T + 0.7 * rng.normal(size=(length, 3)))
    start = LinearGaussian(np.zeros(2), np.eye(2), 0.5 * np.eye(2), np.eye(2), load + 0.3, np.eye(3))
    heights, ends = plain_steps(start, xs, 31)
    fit = jaxem.fit(jaxem.linear_gaussian(2, 3), start, jaxem.sequences(xs), tol=-np.inf, max_steps=31)
    np.testing.assert_allclose(fit.history[:31], heights, rtol=0, atol=1e-8)
    for received, expected in zip(fit.params, ends, strict=False):
        np.testing.assert_allclose(received, expected, rtol=0, atol=1e-8)


def test_fifty_steps_are_those_of_pykalman_and_dynamax(reference, table):
    case = reference("lgssm_seeded_em50")
    start = LinearGaussian(*(np.array(case["init"][name]) for name in NAMES))
    x = jaxem.sequences(table("lgssm_T150_D3"))
    fit = jaxem.fit(jaxem.linear_gaussian(2, 3), start, x, tol=-np.inf, max_steps=50)
    np.testing.assert_allclose(fit.history[:50], case["expected"]["trace50"], rtol=0, atol=1e-8)
    for name, received in zip(NAMES, fit.params, strict=False):
        np.testing.assert_allclose(received, case["expected"][name], rtol=0, atol=1e-8)


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("dtype", "near"), [("float64", 1e-8), ("float32", 1e-3)])
def test_the_local_level_of_the_nile_is_the_published_one(reference, table, dtype, near):
    expected, one = reference("nile_local_level_complete")["expected"], np.ones((1, 1), dtype)
    params = LinearGaussian(np.full(1, 1000, dtype), 1e6 * one, one, 2000 * one, one, 1e4 * one)
    where = lambda p: (p.initial_mean, p.initial_covariance, p.transition, p.emission)  # noqa: E731
    model, start = jaxem.freeze(jaxem.linear_gaussian(1, 1), params, where)
    x = jaxem.sequences(table("nile")[:, 1:].astype(dtype))
    trace = jaxem.fit(model, start, x, tol=-np.inf, max_steps=100).history
    np.testing.assert_allclose(trace[np.array([0, 1, 10, 100])], expected["trace_iters_0_1_10_100"], rtol=near / 100, atol=near)
    fit = jaxem.fit(model, start, x, solver=jaxem.squarem())
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-3 if dtype == "float32" else 1e-7)
    assert jaxem.num_free_parameters(model, fit.params) == 2
    means = model.posterior(fit.params, x).means[0, :, 0]
    np.testing.assert_allclose(means[:5], expected["smoothed_mean_first5"], atol=1 if dtype == "float32" else 1e-3)


BAD = {
    "no sequences": (np.zeros((5, 3)), "data must be jaxem.Sequences"),
    "NaN": (jaxem.Sequences(np.full((1, 4, 3), np.nan), [4]), "values has NaN.*columns \\[0, 1, 2\\].*families.observed"),
    "lengths": (
        jaxem.Sequences(np.zeros((2, 4, 3)), [5, 4]),
        "lengths has values from 4 to 5, needs whole numbers from 1 to t = 4",
    ),
    "empty": (jaxem.Sequences(np.zeros((2, 4, 3)), [0, 4]), "lengths has values from 0 to 4"),
    "width": (jaxem.Sequences(np.zeros((2, 4, 2)), [4, 4]), "values has shape \\(2, 4, 2\\), needs \\(n, t, 3\\)"),
    "inputs": (jaxem.Sequences(families.Gated(np.zeros((2, 4, 1)), np.zeros((2, 4, 3))), [4, 4]), "inputs=0, got Gated"),
    "constant": (jaxem.Sequences(np.ones((2, 4, 3)), [4, 4]), "values are the same everywhere in columns"),
}


@pytest.mark.parametrize("name", BAD)
def test_data_that_are_none_are_refused_by_name(name):
    data, message = BAD[name]
    model = jaxem.linear_gaussian(1, 3)
    params = LinearGaussian(np.zeros(1), np.eye(1), np.eye(1), np.eye(1), np.ones((3, 1)), np.eye(3))
    with pytest.raises(ValueError, match=message) as caught:
        jaxem.fit(model, params, data)
    assert "\n" not in str(caught.value)


def test_dimensions_and_names_that_make_no_model_are_refused():
    for arguments, options, message in (
        ((0, 1), {}, "state_dim must be at least 1"),
        ((1, 1), {"observation_covariance": "tied"}, 'must be "full" or "diag"'),
        ((1, 1), {"inputs": -1}, "inputs must be at least 1"),
        ((1, 1), {"parallel": "yes"}, "parallel must be True, False or None"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxem.linear_gaussian(*arguments, **options)


def trend_start(dtype):
    """A local linear trend, diffuse: level and slope, of which only the covariances of noise are free."""
    leaves = np.zeros(2), 1e6 * np.eye(2), [[1, 1], [0, 1]], np.diag([1.0, 0.1]), [[1, 0]], np.eye(1)
    return LinearGaussian(*(np.asarray(leaf, dtype) for leaf in leaves))


def level_and_slope(p):
    return p.initial_mean, p.initial_covariance, p.transition, p.emission


@pytest.mark.thorough
def test_a_diffuse_local_linear_trend_is_right_in_both_precisions():
    """The M-step of the free blocks given the others is that of their residuals, by plain loops in double precision."""
    rng = np.random.default_rng(5)
    y = np.cumsum(np.cumsum(0.3 * rng.normal(size=80)) + rng.normal(size=80))[:, None] + 2 * rng.normal(size=(80, 1))
    mean, first, move, noise, load, scatter = trend_start("float64")[:6]
    heights = []
    for _ in range(12):
        height, m, c, g = plain_smoother(y, mean, first, move, noise, load, scatter)
        heights.append(height)
        past, across = (c[:-1] + m[:-1, :, None] * m[:-1, None]).sum(0), (g + m[1:, :, None] * m[:-1, None]).sum(0)
        after = (c[1:] + m[1:, :, None] * m[1:, None]).sum(0)
        noise = (after - move @ across.T - across @ move.T + move @ past @ move.T) / 79
        noise = 0.5 * (noise + noise.T)
        scatter = ((y - m @ load.T).T @ (y - m @ load.T) + load @ c.sum(0) @ load.T) / 80
    for dtype, near in (("float64", 1e-8), ("float32", 1e-3)):
        model, start = jaxem.freeze(jaxem.linear_gaussian(2, 1), trend_start(dtype), level_and_slope)
        fit = jaxem.fit(model, start, jaxem.sequences(y.astype(dtype)), tol=-np.inf, max_steps=12)
        np.testing.assert_allclose(fit.history[:12], heights, rtol=near if dtype == "float32" else 0, atol=near)
        np.testing.assert_allclose(fit.params.transition_covariance, noise, rtol=near, atol=near)
        np.testing.assert_allclose(fit.params.emission_covariance, scatter, rtol=near)


@pytest.fixture(scope="module")
def driven():
    """A model with inputs, sequences with holes, and the joint distribution of the first one, by dense algebra."""
    rng, one = np.random.default_rng(6), np.eye(2)
    move, load = np.array([[0.8, 0.3], [-0.2, 0.7]]), np.array([[1.0, 0.2], [0.3, -1.0]])
    params = LinearGaussian(
        np.array([1.0, -1.0]), one, move, 0.5 * one + 0.1, load, one + 0.4, rng.normal(size=(2, 1)), rng.normal(size=(2, 1))
    )
    push, values = rng.normal(size=(2, 7, 1)), rng.normal(size=(2, 7, 2))
    values[0, 1, 0] = values[0, 3] = values[1, 2, 1] = np.nan
    data = jaxem.Sequences(families.Gated(push[:, :5], families.observed(values[:, :5])), np.array([5, 3]))
    return jaxem.linear_gaussian(2, 2, inputs=1), params, data, push, joint_of(params, push[0])


def joint_of(params, push):
    """Return mean and covariance of all states and then all observations of one sequence, end to end."""
    mean, first, move, noise, load, scatter, into, onto = (np.array(leaf) for leaf in params)
    steps, s = len(push), mean.size
    through = np.eye(steps * s) - np.kron(np.eye(steps, k=-1), move)
    shocks = np.kron(np.diag(np.arange(steps) > 0), noise) + np.kron(np.diag(np.arange(steps) == 0), first)
    drift = np.concatenate([mean, (push[1:] @ into.T).ravel()])
    states, spread = np.linalg.solve(through, drift), np.linalg.solve(through, np.linalg.solve(through, shocks).T)
    show = np.kron(np.eye(steps), load)
    across = show @ spread
    seen = across @ show.T + np.kron(np.eye(steps), scatter)
    return np.concatenate([states, show @ states + (push @ onto.T).ravel()]), np.block([[spread, across.T], [across, seen]])


def given_what_was_seen(joint, places, values):
    """Return the mean and covariance of all, given values at some places."""
    mean, spread = joint
    gain = np.linalg.solve(spread[np.ix_(places, places)], spread[places]).T
    return mean + gain @ (values - mean[places]), spread - gain @ spread[places]


def test_filtering_forecasts_and_filled_holes_are_those_of_the_joint_distribution(driven):
    model, params, data, push, joint = driven
    seen = np.array(data.values.data.mask[0])
    values = np.array(data.values.data.values[0])
    for t in (0, 4):
        places = 14 + np.flatnonzero(seen.ravel() & (np.arange(10) < 2 * t + 2))
        mean, spread = given_what_was_seen(joint, places, values.ravel()[places - 14])
        by_then = jaxem.filtering(model, params, data)
        np.testing.assert_allclose(by_then.means[0, t], mean[2 * t : 2 * t + 2], atol=1e-10)
        np.testing.assert_allclose(by_then.covariances[0, t], spread[2 * t : 2 * t + 2, 2 * t : 2 * t + 2], atol=1e-10)
    ahead = jaxem.forecast(model, params, data, np.stack([push[0, 5:], push[1, 3:5]]))
    np.testing.assert_allclose(ahead.states.mean[0].ravel(), mean[10:14], atol=1e-10)
    np.testing.assert_allclose(ahead.observations.mean[0].ravel(), mean[24:], atol=1e-10)
    np.testing.assert_allclose(ahead.observations.covariance[0, 1], spread[26:, 26:], atol=1e-10)
    filled = jaxem.impute(model, params, data)
    np.testing.assert_allclose(filled[0].ravel(), mean[14:24], atol=1e-10)
    heights = jaxem.predictive_log_prob(model, params, data)
    np.testing.assert_allclose(heights.sum(1), model.log_prob(params, data), atol=1e-10)
    draws = np.stack([jaxem.impute(model, params, data, key=seed)[0].ravel() for seed in range(400)])[:, [2, 6, 7]]
    holes = np.array([16, 20, 21])
    error = np.sqrt(np.diag(spread)[holes] / 400)
    assert (np.abs(draws.mean(0) - mean[holes]) < 5 * error).all()
    np.testing.assert_allclose(np.cov(draws.T), spread[np.ix_(holes, holes)], atol=0.4)


def test_draws_are_as_many_as_asked_for_and_keep_lengths_holes_and_inputs(driven):
    model, params, data, _, _ = driven
    drawn, states = model.sample(0, params, data)
    assert states.shape == (2, 5, 2) and drawn.lengths.tolist() == [5, 3]
    np.testing.assert_array_equal(drawn.values.data.mask[0], data.values.data.mask[0])
    plain = jaxem.linear_gaussian(2, 2)
    drawn, states = plain.sample(0, params._replace(transition_input=None, emission_input=None), (3, 4))
    assert drawn.values.shape == (3, 4, 2) and states.shape == (3, 4, 2)
    with pytest.raises(ValueError, match="like must be data where the model has inputs"):
        model.sample(0, params, (3, 4))
    with pytest.raises(ValueError, match=r"like must be a pair \(n, t\)"):
        plain.sample(0, params._replace(transition_input=None, emission_input=None), 3)


@pytest.mark.parametrize("inputs", ["one that is zero from the second step on", "two that are the same"])
def test_inputs_that_tell_nothing_keep_nothing_else_from_being_learnt(inputs):
    """The M-step's slopes are zero in what can be learnt, as they are without those inputs."""
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=(6, 40, 1)), 1) + rng.normal(size=(6, 40, 1))
    u = (np.arange(40) == 0).astype(float)[None, :, None] * np.ones((6, 1, 1))
    u = u if "zero" in inputs else np.repeat(rng.normal(size=(6, 40, 1)), 2, 2)
    model, q, one = jaxem.linear_gaussian(1, 1, inputs=u.shape[2]), u.shape[2], np.ones((1, 1))
    params = jaxem.LinearGaussian(np.zeros(1), one, 0.5 * one, one, one, one, np.zeros((1, q)), np.zeros((1, q)))
    data, weights = jaxem.Sequences(families.Gated(u, y), np.full(6, 40)), jnp.ones(6)
    stats, _ = model.e_step(params, data, weights)
    new = model.m_step(params, stats)
    slopes = jax.grad(lambda p: model.expected_log_joint(p, stats))(new)
    for name in ("transition", "emission", "transition_input", "emission_input"):
        np.testing.assert_allclose(getattr(slopes, name), 0, atol=1e-7, err_msg=name)
    assert abs(float(new.transition[0, 0]) - 0.5) > 0.01
    fit = jaxem.fit(model, params, data, max_steps=50)
    alone = params._replace(transition_input=None, emission_input=None)
    without = jaxem.fit(jaxem.linear_gaussian(1, 1), alone, jaxem.Sequences(y, np.full(6, 40)), max_steps=50)
    assert fit.log_likelihood >= without.log_likelihood - 1e-6
