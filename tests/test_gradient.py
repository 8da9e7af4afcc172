"""Gradient M-steps and models from log p(x, z | θ): exact maxima, no descent, honest stalls."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.scipy.special import gammaln
from jax.scipy.stats import multivariate_normal

import jaxem
from jaxem import Status, constraints, families


def gradient_per_weight(model, params, data, weights):
    """Return the largest entry of the gradient of the mean log-likelihood, in unconstrained space."""
    free = constraints.unconstrain(model.constraints, params)
    slope = jax.grad(lambda u: model.e_step(constraints.constrain(model.constraints, u), data, weights)[1])(free)
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) / float(weights.sum())


def linkage(params, x, z):
    """Four cells with probabilities 1/2 + θ/4, (1 - θ)/4, (1 - θ)/4, θ/4; z tells the two parts of the first cell apart."""
    theta = params["theta"]
    half, none = jnp.asarray(0.5, theta.dtype), jnp.asarray(0, theta.dtype)
    first = jnp.stack([half, none, none, none])
    second = jnp.stack([theta / 4, (1 - theta) / 4, (1 - theta) / 4, theta / 4])
    p = jnp.stack([first, second])[z, x]
    return jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)


LINKAGE = {"log_joint": linkage, "num_states": 2, "constraints": {"theta": constraints.interval(0, 1)}}
CELLS = jnp.arange(4)
LINKAGE_COUNTS = jnp.array([125.0, 18.0, 20.0, 34.0])


def blood_group(params, x, z):
    """Phenotypes A, B, AB, O; z tells heterozygotes from homozygotes."""
    a, b, o = jnp.log(params["frequencies"])
    two, never = jnp.log(jnp.asarray(2, a.dtype)), jnp.asarray(-jnp.inf, a.dtype)
    table = jnp.stack([two + a + o, 2 * a, two + b + o, 2 * b, two + a + b, never, 2 * o, never])
    return table[2 * x + z]


def student_t(params, x, z):
    nu, (dim,) = 4, x.shape
    factor = jnp.linalg.cholesky(params["scale"][z])
    y = jax.scipy.linalg.solve_triangular(factor, x - params["loc"][z], lower=True)
    constant = gammaln((nu + dim) / 2) - gammaln(nu / 2) - dim / 2 * jnp.log(nu * jnp.pi)
    log_density = constant - jnp.log(jnp.diagonal(factor)).sum() - (nu + dim) / 2 * jnp.log1p((y**2).sum() / nu)
    return jnp.log(params["weights"][z]) + log_density.astype(x.dtype)


def test_genetic_linkage_reaches_the_closed_form(reference):
    expected = reference("genetic_linkage_rao")["expected"]
    model = jaxem.from_log_joint(**LINKAGE)
    fit = jaxem.fit(model, {"theta": 0.5}, CELLS, LINKAGE_COUNTS, tol=0)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params["theta"], expected["theta"], atol=1e-7)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik_kernel"], atol=1e-9)
    assert gradient_per_weight(model, fit.params, CELLS, LINKAGE_COUNTS) < 1e-6


def test_genetic_linkage_takes_the_steps_of_dempster_laird_and_rubin(reference):
    expected = reference("genetic_linkage_rao")["expected"]["theta_iterates_0_8"]
    model, params, received = jaxem.from_log_joint(**LINKAGE), {"theta": jnp.asarray(0.5)}, []
    for _ in expected:
        received.append(float(params["theta"]))
        params = model.m_step(params, model.e_step(params, CELLS, LINKAGE_COUNTS)[0])
    np.testing.assert_allclose(received, expected, atol=1e-7)


@pytest.mark.thorough
def test_blood_groups_reach_the_published_frequencies(reference):
    expected = reference("abo_clarke")["expected"]
    counts = jnp.asarray([186.0, 38.0, 13.0, 284.0])
    model = jaxem.from_log_joint(blood_group, 2, constraints={"frequencies": constraints.simplex})
    fit = jaxem.fit(model, {"frequencies": [0.3, 0.2, 0.5]}, CELLS, counts)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params["frequencies"], [expected[p] for p in ("pA", "pB", "pO")], atol=1e-6)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik_kernel"], atol=1e-7)
    assert gradient_per_weight(model, fit.params, CELLS, counts) < 1e-5


@pytest.mark.thorough
def test_a_student_t_mixture_reaches_the_maximum_of_an_ecme_fit(reference):
    expected = reference("student_t_faithful_2_nu4")["expected"]
    domain = {"weights": constraints.simplex, "loc": constraints.real, "scale": constraints.positive_definite}
    model, x = jaxem.from_log_joint(student_t, 2, constraints=domain), jaxem.datasets.faithful()
    start = {"weights": [0.5, 0.5], "loc": [[2.0, 55.0], [4.3, 80.0]], "scale": np.array([np.diag([0.1, 30.0])] * 2)}
    fit = jaxem.fit(model, start, x)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-6)
    np.testing.assert_allclose(fit.params["loc"], expected["means"], rtol=1e-3)
    np.testing.assert_allclose(fit.params["scale"], expected["scale_matrices"], rtol=1e-2)
    assert gradient_per_weight(model, fit.params, x, jnp.ones(272)) < 1e-5
    assert jaxem.num_free_parameters(model, fit.params) == expected["n_params"]


def test_an_enumerated_gaussian_mixture_is_the_closed_form_one():
    x = jaxem.datasets.faithful()
    built_in = jaxem.mixture(families.gaussian(), 2)
    start = built_in.init(jax.random.key(0), x)

    def log_joint(params, x, z):
        density = multivariate_normal.logpdf(x, params.components.mean[z], params.components.covariance[z])
        return jnp.log(params.weights[z]) + density

    own = jaxem.from_log_joint(log_joint, 2, constraints=built_in.constraints)
    np.testing.assert_allclose(own.log_prob(start, x), built_in.log_prob(start, x), rtol=1e-11)
    np.testing.assert_allclose(own.posterior(start, x), built_in.posterior(start, x), atol=1e-12)
    expected, received = jaxem.fit(built_in, start, x), jaxem.fit(own, start, x)
    np.testing.assert_allclose(received.log_likelihood, expected.log_likelihood, atol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize("optimizer", [None, optax.adam(1e-2), optax.sgd(1e-4), optax.sgd(1e9)])
def test_a_gradient_m_step_never_lowers_the_bound(optimizer):
    x, weights = jaxem.datasets.faithful(), jnp.ones(272)
    model = jaxem.gradient_m_step(jaxem.mixture(families.gaussian(), 2), optimizer, num_steps=5)
    params = model.init(jax.random.key(0), x)
    for _ in range(5):
        stats, _ = model.e_step(params, x, weights)
        new = model.m_step(params, stats)
        assert model.expected_log_joint(new, stats) >= model.expected_log_joint(params, stats)
        params = new


@pytest.mark.thorough
def test_the_default_optimizer_reaches_a_stationary_point_and_a_guarded_adam_stops_short_and_says_so():
    x, weights = jaxem.datasets.faithful(), jnp.ones(272)
    exact = jaxem.mixture(families.gaussian(), 2)
    start = exact.init(jax.random.key(0), x)
    default, adam = jaxem.gradient_m_step(exact), jaxem.gradient_m_step(exact, optax.adam(1e-2), num_steps=20)
    climbed, stopped = jaxem.fit(default, start, x), jaxem.fit(adam, start, x)
    assert climbed.status == Status.CONVERGED
    assert gradient_per_weight(default, climbed.params, x, weights) < 1e-5
    assert stopped.status == Status.STALLED
    assert stopped.log_likelihood < climbed.log_likelihood


def test_an_optimizer_that_cannot_rise_keeps_the_params_and_stalls():
    model = jaxem.from_log_joint(**LINKAGE, optimizer=optax.sgd(1e9), num_steps=3)
    fit = jaxem.fit(model, {"theta": 0.5}, CELLS, LINKAGE_COUNTS)
    assert fit.status == Status.STALLED
    assert fit.params["theta"] == 0.5


def test_a_gradient_that_is_nan_is_not_called_converged():
    def log_joint(theta, x, z):
        return jnp.log(jnp.stack([theta, 0 * theta])[z]) - theta * x

    model = jaxem.from_log_joint(log_joint, 2, constraints=constraints.positive)
    fit = jaxem.fit(model, 1.0, jnp.array([1.0, 2.0, 3.0]))
    assert fit.status == Status.STALLED


def coin(theta, x, z):
    return jnp.where(x > 0, jnp.log(theta), jnp.log1p(-theta))


def test_a_maximum_on_the_boundary_of_the_domain_is_no_stall():
    model = jaxem.from_log_joint(coin, 1, constraints=constraints.interval(0, 1))
    fit = jaxem.fit(model, 0.5, np.ones(20))
    assert fit.status == Status.CONVERGED
    assert -1e-6 < fit.log_likelihood <= 0


@pytest.mark.thorough
def test_a_collapse_by_gradient_steps_is_reported():
    rng = np.random.default_rng(0)
    x = jnp.asarray(np.concatenate([rng.normal(size=(60, 2)), np.full((5, 2), 9.0)]))
    components = families.Gaussian(jnp.array([[0.0, 0.0], [9.0, 9.0]]), jnp.ones((2, 2)))
    model = jaxem.gradient_m_step(jaxem.mixture(families.gaussian("diag"), 2))
    fit = jaxem.fit(model, jaxem.Mixture(jnp.array([0.9, 0.1]), components), x)
    assert fit.status in (Status.DEGENERATE, Status.NONFINITE)


@pytest.mark.thorough
def test_data_may_be_a_list_of_arrays():
    def log_joint(mean, row, z):
        return -0.5 * ((row[0] - mean) ** 2 + (row[1] - mean) ** 2)

    model = jaxem.from_log_joint(log_joint, num_states=1)
    x, y = np.arange(30.0), np.arange(30.0) + 2
    received = jaxem.fit(model, 0.0, [x, y])
    np.testing.assert_allclose(received.params, 15.5, atol=1e-6)
    np.testing.assert_allclose(jaxem.fit(model, 0.0, (x, y)).log_likelihood, received.log_likelihood)


def test_data_may_be_any_tree_of_arrays():
    def log_joint(params, record, z):
        mean = params["intercept"][z] + params["slope"][z] * record["x"]
        return -jnp.log(2.0) - 0.5 * (record["y"] - mean) ** 2 - 0.5 * jnp.log(2 * jnp.pi)

    rng = np.random.default_rng(0)
    x, z = rng.uniform(-2, 2, 200), rng.integers(2, size=200)
    data = {"x": x, "y": np.where(z, 1 + 3 * x, -1 - 2 * x) + 0.3 * rng.normal(size=200)}
    model = jaxem.from_log_joint(log_joint, num_states=2)
    fit = jaxem.fit(model, {"intercept": [0.5, -0.5], "slope": [1.0, -1.0]}, data)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params["slope"], [3, -2], atol=0.15)
    np.testing.assert_allclose(fit.params["intercept"], [1, -1], atol=0.15)


def test_a_log_joint_that_is_no_scalar_is_refused():
    model = jaxem.from_log_joint(lambda mean, x, z: -0.5 * (x - mean) ** 2, num_states=1)
    with pytest.raises(ValueError, match=r"log_joint\(params, x, z\) must return a scalar .*, got shape \(2,\)"):
        jaxem.fit(model, 0.0, np.ones((5, 2)))


def test_a_log_joint_of_another_dtype_is_taken_to_that_of_the_data():
    model = jaxem.from_log_joint(lambda mean, x, z: (-0.5 * (x - mean) ** 2).astype("float64"), num_states=1)
    fit = jaxem.fit(model, 0.0, np.arange(5, dtype="float32"))
    assert fit.log_likelihood.dtype == "float32"
    np.testing.assert_allclose(fit.params, 2, rtol=1e-3)


def test_own_models_are_cached_whatever_their_constraints_are_made_of():
    first, second = jaxem.from_log_joint(**LINKAGE), jaxem.from_log_joint(**LINKAGE)
    assert first.e_step is second.e_step
    assert first.m_step is second.m_step


@pytest.mark.thorough
def test_own_models_take_random_starts_by_restarts():
    def init(key, data, weights=None):
        return {"theta": jax.random.uniform(key)}

    model = jaxem.from_log_joint(**LINKAGE, init=init)
    restarts = jaxem.fit_restarts(model, jax.random.key(0), CELLS, LINKAGE_COUNTS, num_restarts=4, num_continued=4)
    np.testing.assert_allclose(restarts.fits.params["theta"], 0.6268214978709824, atol=1e-4)


def test_an_optimizer_that_only_loses_leaves_the_parameters_to_the_bit():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(30, 2)))
    model = jaxem.mixture(families.gaussian(), 2)
    params = model.init(jax.random.key(0), x)
    stats, _ = model.e_step(params, x, jnp.ones(30))
    chex.assert_trees_all_equal(jaxem.gradient_m_step(model, optax.sgd(-1e-3), num_steps=3).m_step(params, stats), params)
