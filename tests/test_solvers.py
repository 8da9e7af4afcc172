"""SQUAREM and Anderson acceleration against plain EM."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, families
from jaxem.solvers import Mapped


def london(weights, rates):
    counts, frequencies = jaxem.datasets.london_times_deaths()
    start = jaxem.Mixture(np.array(weights), families.Poisson(np.array(rates)))
    return jaxem.mixture(families.poisson(), 2), start, counts, frequencies


def test_squarem_reaches_the_london_times_maximum_in_under_120_evaluations():
    fit = jaxem.fit(*london([0.5, 0.5], [1.0, 3.0]), solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    assert abs(fit.log_likelihood - -1989.945859883) < 1e-6
    np.testing.assert_allclose(fit.params.weights[0], 0.359885, rtol=1e-4)
    np.testing.assert_allclose(fit.params.components.rate, [1.256095, 2.663403], rtol=1e-5)
    assert fit.num_evaluations < 120
    assert np.diff(fit.history[: fit.num_steps + 1]).min() > -1e-11


def test_anderson_reaches_the_london_times_maximum_in_at_most_60_evaluations():
    fit = jaxem.fit(*london([0.5, 0.5], [1.0, 3.0]), solver=jaxem.anderson())
    assert fit.status == Status.CONVERGED
    assert abs(fit.log_likelihood - -1989.945859883) < 1e-6
    np.testing.assert_allclose(fit.params.components.rate, [1.256095, 2.663403], rtol=1e-5)
    assert fit.num_evaluations <= 60
    assert np.diff(fit.history[: fit.num_steps + 1]).min() > -1e-11


SOLVERS = {"em": jaxem.em, "squarem": jaxem.squarem, "anderson": jaxem.anderson}


@pytest.mark.each_time(6)
@pytest.mark.parametrize(
    ("solver", "seed"), [("em", 0), *((solver, seed) for solver in ("squarem", "anderson") for seed in range(6))]
)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_no_solver_lowers_the_log_likelihood(solver, form, seed):
    x = jaxem.datasets.iris()
    model = jaxem.mixture(families.gaussian(form), 3)
    fit = jaxem.fit(model, model.init(jax.random.key(seed), x), x, solver=SOLVERS[solver]())
    assert fit.status in (Status.CONVERGED, Status.DEGENERATE)
    assert np.diff(fit.history[: fit.num_steps + 1]).min() > -1e-11


def test_squarem_counts_three_evaluations_a_step():
    model, start, counts, frequencies = london([0.5, 0.5], [1.0, 3.0])
    fit = jaxem.fit(model, start, counts, frequencies, solver=jaxem.squarem(), tol=-np.inf, max_steps=5)
    assert fit.num_steps == 5
    assert fit.num_evaluations == 3 * 6


@pytest.mark.parametrize(("solver", "empty"), [("squarem", 0), ("squarem", 1), ("squarem", 2), ("anderson", 1)])
def test_an_empty_component_does_not_stop_the_jumps(solver, empty):
    weights, rates = np.insert([0.5, 0.5], empty, 0.0), np.insert([1.0, 3.0], empty, 2.0)
    _, _, counts, frequencies = london([0.5, 0.5], [1.0, 3.0])
    start = jaxem.Mixture(weights, families.Poisson(rates))
    fit = jaxem.fit(jaxem.mixture(families.poisson(), 3), start, counts, frequencies, solver=SOLVERS[solver]())
    assert fit.status == Status.CONVERGED
    assert abs(fit.log_likelihood - -1989.945859883) < 1e-6
    assert fit.num_evaluations < 200
    assert fit.params.weights[empty] == 0


@pytest.mark.thorough
@pytest.mark.parametrize("empty", [0, 2])
def test_jumps_with_an_empty_component_are_those_without_it(empty):
    x = jaxem.datasets.faithful()
    start = jaxem.mixture(families.gaussian(), 2).init(jax.random.key(1), x)
    padded = jax.tree.map(lambda leaf: jnp.insert(leaf, empty, leaf[0], axis=0), start)
    padded = padded._replace(weights=jnp.insert(start.weights, empty, 0.0))
    expected = jaxem.fit(jaxem.mixture(families.gaussian(), 2), start, x, solver=jaxem.squarem())
    received = jaxem.fit(jaxem.mixture(families.gaussian(), 3), padded, x, solver=jaxem.squarem())
    assert (received.status, received.num_steps) == (Status.CONVERGED, expected.num_steps)
    assert received.params.weights[empty] == 0
    np.testing.assert_allclose(received.history, expected.history, rtol=1e-10)


def step_of(solver, start, value_of, held_at=lambda theta: jnp.asarray(False), retract=lambda theta: theta, num_steps=1):
    """Return where steps lead on the map θ ↦ θ / 2."""
    params = jnp.float64(start)
    memory = solver.init(params, value_of(params))
    for turn in list(range(solver.evaluations_per_step)) * num_steps:
        mapped = Mapped(params, value_of(params), params / 2, held_at(params))
        params, _, memory = solver.turn(jnp.int32(turn), mapped, memory, retract)
    return params


step_of_squarem = partial(step_of, jaxem.squarem())


def parabola(theta):
    return -(theta**2)


def test_squarem_solves_a_linear_map_in_one_step():
    np.testing.assert_allclose(step_of_squarem(8, parabola), 0, atol=1e-15)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.nan, -1e6])
def test_squarem_falls_back_to_two_plain_steps_where_the_jump_is_worse_or_not_finite(value):
    np.testing.assert_allclose(step_of_squarem(8, lambda theta: jnp.where(theta < 1, value, parabola(theta))), 2)


def test_squarem_falls_back_where_the_jump_leaves_the_domain():
    received = step_of_squarem(8, parabola, retract=lambda theta: jnp.where(theta > 1, theta, jnp.nan))
    np.testing.assert_allclose(received, 2)


def test_squarem_falls_back_where_a_constraint_would_hold_the_step_after_the_jump():
    np.testing.assert_allclose(step_of_squarem(8, parabola, held_at=lambda theta: theta < 1), 2)


# anderson has no differences at first, so that its first step from 8 is two steps of EM, to 2; the next EM step leads to 1


def test_anderson_shortens_its_first_extrapolation_to_the_share_that_damping_allows():
    share = 1 / (1 + 1.2 ** (25 - 2))
    gamma = -1 * np.sqrt(share)  # at 2 the residual is -1, and changed by 1 on the last move of -2: least squares says -1
    expected = (1 - (-2 + 1) * gamma) / 2
    np.testing.assert_allclose(step_of(jaxem.anderson(1), 8, parabola, num_steps=2), expected, rtol=1e-6)


@pytest.mark.parametrize("value", [-jnp.inf, jnp.nan, -1e6])
def test_anderson_falls_back_to_a_plain_step_where_the_jump_is_worse_or_not_finite(value):
    received = step_of(jaxem.anderson(), 8, lambda theta: jnp.where(theta < 2, value, parabola(theta)), num_steps=2)
    np.testing.assert_allclose(received, 1)


def test_anderson_falls_back_where_the_jump_leaves_the_domain():
    inside = partial(step_of, retract=lambda theta: jnp.where(theta >= 2, theta, jnp.nan))
    received = inside(jaxem.anderson(), 8, parabola, num_steps=2)
    np.testing.assert_allclose(received, 1)


def test_anderson_falls_back_where_a_constraint_would_hold_the_step_after_the_jump():
    received = step_of(jaxem.anderson(), 8, parabola, held_at=lambda theta: theta < 2, num_steps=2)
    np.testing.assert_allclose(received, 1)
