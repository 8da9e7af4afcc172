"""Gradients through a fit, against differences of refits whose slopes are rounding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import jaxem
from jaxem import families

DEATHS, COUNTS = (np.asarray(part, float) for part in jaxem.datasets.london_times_deaths())
FEW = np.asarray(jaxem.datasets.faithful(), float)[:40]
CHANCES = np.array([[0.2, 0.3, 0.0, 0.1, 0.3], [0.8, 0.7, 0.0, 0.9, 0.6]])
ANSWERS = (np.random.default_rng(0).random((60, 5)) < CHANCES[np.arange(60) % 3 // 2]).astype(float)


def log_joint(params, row, z):
    return jnp.log(0.5) + norm.logpdf(row["x"], params["mean"][z], row["scale"])


HEARD = jaxem.from_log_joint(log_joint, num_states=2)
PAIRS = np.concatenate([np.linspace(-2, 2, 9), np.linspace(1, 6, 9)])

WEEKS = jaxem.sequences(list(np.random.default_rng(2).poisson(np.where(np.arange(60) // 9 % 2, 9.0, 2.0)).reshape(10, 6)))


def with_scale(scale):
    return {"x": jnp.asarray(PAIRS), "scale": scale * jnp.ones(18)}, jnp.ones(18)


CASES = {  # model, start, and how data and weights depend on a number near zero
    "poisson, a weight": (
        jaxem.mixture(families.poisson(), 2),
        jaxem.Mixture(np.array([0.4, 0.6]), families.Poisson(np.array([1.2, 2.7]))),
        lambda t: (jnp.asarray(DEATHS), jnp.asarray(COUNTS).at[7].add(t)),
    ),
    "full, an entry of the data": (
        jaxem.mixture(families.gaussian(), 2),
        jaxem.mixture(families.gaussian(), 2).init(1, FEW),
        lambda t: (jnp.asarray(FEW).at[3, 1].add(t), jnp.ones(40)),
    ),
    "bernoulli with a column of zeros, a weight": (
        jaxem.mixture(families.bernoulli(), 2),
        jaxem.Mixture(
            np.array([0.6, 0.4]), families.Bernoulli(np.array([[0.8, 0.7, 0.5, 0.9, 0.6], [0.2, 0.3, 0.5, 0.1, 0.3]]))
        ),
        lambda t: (jnp.asarray(ANSWERS), jnp.ones(60).at[4].add(t)),
    ),
    "chain of poisson, a weight": (
        jaxem.hmm(families.poisson(), 2),
        jaxem.HMM(np.array([0.5, 0.5]), np.array([[0.8, 0.2], [0.2, 0.8]]), families.Poisson(np.array([2.0, 9.0]))),
        lambda t: (WEEKS, jnp.ones(10).at[4].add(t)),
    ),
    "a joint density, its scale": (HEARD, {"mean": np.array([0.0, 4.0])}, lambda t: with_scale(1 + t)),
}


def fitted(name, t):
    model, start, given = CASES[name]
    return jaxem.fit(model, start, *given(t), solver=jaxem.squarem(), tol=0)


def refitted(name, fit, t):
    model, _, given = CASES[name]
    return jaxem.polish(model, fit, *given(t))


def raveled(fit):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(fit.params)] + [fit.log_likelihood[None]])


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", CASES)
def test_a_fit_moves_with_data_and_weights_as_refits_do(name):
    fit = fitted(name, 0.0)
    ends = [raveled(refitted(name, fit, t)) for t in (1e-3, -1e-3, 5e-4, -5e-4)]
    wide, narrow = (ends[0] - ends[1]) / 2e-3, (ends[2] - ends[3]) / 1e-3
    expected = (4 * narrow - wide) / 3  # free of the second order of differences
    received = jax.jvp(lambda t: raveled(fitted(name, t)), (0.0,), (1.0,))[1]
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    if "zeros" in name:
        held = (len(received) - 1) - 10 + np.array([2, 7])
        np.testing.assert_array_equal(np.asarray(received)[held], 0)


@pytest.mark.thorough
def test_reverse_mode_and_lanes_give_what_forward_mode_does():
    name = "poisson, a weight"
    model, start, given = CASES[name]
    data, weights = given(0.0)

    def rate(weights):
        return jaxem.fit(model, start, data, weights, solver=jaxem.squarem(), tol=0).params.components.rate[0]

    gradient = jax.grad(rate)(weights)
    along = jax.jvp(rate, (weights,), (jnp.zeros(10).at[7].set(1.0),))[1]
    np.testing.assert_allclose(gradient[7], along, rtol=1e-10)
    lanes = jax.vmap(jax.grad(rate))(jnp.stack([weights, 2 * weights]))
    np.testing.assert_allclose(lanes, jnp.stack([gradient, gradient / 2]), rtol=1e-5)


@pytest.mark.thorough
def test_collinear_years_move_a_slope_as_least_squares_says():
    years = np.arange(1990.0, 2021)
    rows, y = years[:, None] ** np.arange(3), np.sin(years)
    model = jaxem.single(families.linear_regression())
    start = model.init(0, families.Regression(rows, y))

    def bend(y):
        return jaxem.fit(model, start, families.Regression(jnp.asarray(rows), y), tol=0).params.coefficients[0, 2]

    expected = np.linalg.inv(np.linalg.qr(rows)[1])[2] @ np.linalg.qr(rows)[0].T
    received = jax.grad(bend)(jnp.asarray(y))
    np.testing.assert_allclose(received, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.thorough
def test_a_fit_that_a_floor_holds_has_no_derivatives():
    model, start, _ = CASES["full, an entry of the data"]
    x = jnp.asarray(FEW).at[:6].set(jnp.array([9.0, 20.0]))
    held = start._replace(components=families.Gaussian(jnp.stack([FEW.mean(0), x[0]]), 1e-6 * jnp.stack([jnp.eye(2)] * 2)))
    held = held._replace(components=held.components._replace(covariance=held.components.covariance.at[0].mul(1e7)))

    def ends(weights):
        fit = jaxem.fit(model, held, x, weights, solver=jaxem.squarem(), tol=0)
        return fit.log_likelihood, fit.status

    received, status = jax.grad(ends, has_aux=True)(jnp.ones(40))
    assert status == jaxem.Status.DEGENERATE
    assert np.isnan(received).all()


def test_the_start_has_no_part_in_it():
    model, start, given = CASES["poisson, a weight"]

    def rates(first):
        moved = start._replace(components=families.Poisson(jnp.array([first, 2.7])))
        return jaxem.fit(model, moved, *given(0.0), solver=jaxem.squarem()).params.components.rate

    np.testing.assert_array_equal(jax.jvp(rates, (1.2,), (1.0,))[1], 0)


def test_what_is_zero_inside_its_domain_moves_like_anything_else():
    model, start = jaxem.single(families.gaussian()), families.Gaussian(jnp.zeros((1, 2)), jnp.eye(2)[None])
    x = np.array([[-1.0, 1], [0, -2], [1, 1]])  # of means and covariance zero
    moved = np.array([[1.0, 0], [0, 0], [0, 2]])
    received = jax.jvp(lambda x: jaxem.fit(model, start, x, tol=0).params, (x,), (moved,))[1]
    np.testing.assert_allclose(received.mean[0], moved.mean(0), rtol=1e-9)
    np.testing.assert_allclose(received.covariance[0], (moved.T @ x + x.T @ moved) / 3, rtol=1e-9, atol=1e-12)


def test_counts_that_are_integers_are_taken_inside_jit():
    model, start, counts = jaxem.single(families.poisson()), families.Poisson([1.0]), np.array([0, 2, 5])
    rate = jax.jit(jax.grad(lambda weights: jaxem.fit(model, start, counts, weights, tol=0).params.rate[0]))
    np.testing.assert_allclose(rate(np.ones(3)), (counts - counts.mean()) / 3, rtol=1e-9)
