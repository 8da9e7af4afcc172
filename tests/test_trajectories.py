"""EM against other software, and against a plain loop, number by number."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import bernoulli_log_mass, e_step, gaussian_trajectory, poisson_log_mass

import jaxem
from jaxem import Status, families
from jaxem.starts import from_responsibilities

FORMS = ["full", "tied", "diag", "spherical"]


def one_hot(labels):
    return np.eye(int(labels.max()) + 1)[labels.astype(int)]


def as_full(covariance, form, k, dim):
    covariance = np.asarray(covariance)
    return {
        "full": lambda: covariance,
        "tied": lambda: np.broadcast_to(covariance, (k, dim, dim)),
        "diag": lambda: covariance[:, :, None] * np.eye(dim),
        "spherical": lambda: covariance[:, None, None] * np.eye(dim),
    }[form]()


def assert_same_components(params, form, expected, rtol):
    """Compare a Gaussian mixture with reference values, components put in order of their first mean."""
    means = np.array(expected["means"]).reshape(len(expected["weights"]), -1)
    ours, theirs = np.argsort(params.components.mean[:, 0]), np.argsort(means[:, 0])
    covariance = as_full(params.components.covariance, form, *means.shape)
    np.testing.assert_allclose(params.weights[ours], np.array(expected["weights"])[theirs], rtol=rtol)
    np.testing.assert_allclose(params.components.mean[ours], means[theirs], rtol=rtol)
    np.testing.assert_allclose(covariance[ours], np.array(expected["covariances"])[theirs], rtol=rtol, atol=rtol * 1e-2)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", FORMS)
def test_the_first_fifty_steps_on_old_faithful_are_those_of_scikit_learn(form, reference, table):
    expected = np.array(reference(f"trajectory_faithful_{form}")["expected"]["loglik_at_theta_t"])
    model = jaxem.mixture(families.gaussian(form), 2)
    params = from_responsibilities(model, jaxem.datasets.faithful(), one_hot(table("faithful_split3")))
    received = jaxem.fit(model, params, jaxem.datasets.faithful(), tol=-np.inf, max_steps=50)
    np.testing.assert_allclose(received.history, expected, rtol=0, atol=1e-8)
    assert received.status == Status.MAX_STEPS
    assert received.num_steps == 50
    assert received.num_evaluations == 51


@pytest.mark.each_time(3)
@pytest.mark.parametrize("num_components", [2, 3, 4])
@pytest.mark.parametrize("form", FORMS)
def test_weighted_trajectories_on_iris_are_those_of_a_plain_loop(form, num_components):
    x = np.array(jaxem.datasets.iris())
    rng = np.random.default_rng(num_components)
    weights, responsibilities = rng.uniform(0, 2, len(x)), rng.dirichlet(np.full(num_components, 0.3), len(x))
    expected = gaussian_trajectory(x, weights, weights[:, None] * responsibilities, form, 6)
    model = jaxem.mixture(families.gaussian(form), num_components)
    params = from_responsibilities(model, x, responsibilities, weights)
    received = jaxem.fit(model, params, x, weights, tol=-np.inf, max_steps=6)
    np.testing.assert_allclose(received.history, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("event", [(), (3,)])
@pytest.mark.parametrize("kind", ["poisson", "bernoulli"])
def test_discrete_e_steps_are_those_of_a_plain_loop(kind, event):
    rng = np.random.default_rng(7)
    x = rng.integers(2, size=(40, *event)).astype(float)
    weights, proportions = rng.uniform(0, 2, 40), np.array([0.2, 0.5, 0.3])
    values = rng.uniform(0.1, 0.9, (3, *event))
    log_mass = {"poisson": poisson_log_mass, "bernoulli": bernoulli_log_mass}[kind]
    responsibilities, expected = e_step(x, weights, proportions, lambda row, k: log_mass(row, values[k]))
    record = {"poisson": families.Poisson, "bernoulli": families.Bernoulli}[kind]
    model = jaxem.mixture(getattr(families, kind)(), 3)
    params = jaxem.Mixture(jnp.asarray(proportions), record(jnp.asarray(values)))
    stats, received = model.e_step(params, jnp.asarray(x), jnp.asarray(weights))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    np.testing.assert_allclose(stats.counts, responsibilities.sum(0), rtol=1e-12)
    means = np.einsum("nk,n...->k...", responsibilities, x) / responsibilities.sum(0).reshape(3, *[1] * len(event))
    np.testing.assert_allclose(model.m_step(params, stats).components[0], means, rtol=1e-12)


@pytest.mark.each_time(3)
@pytest.mark.parametrize(
    ("name", "form", "data", "labels"),
    [
        ("mclust_faithful_VVV_2", "full", "faithful", "faithful_G2"),
        ("mclust_faithful_EEE_3", "tied", "faithful", "faithful_G3"),
        ("mclust_iris_VVV_2", "full", "iris", "iris_G2"),
        ("mclust_iris_EEE_2", "tied", "iris", "iris_G2"),
        ("mclust_iris_VVI_2", "diag", "iris", "iris_G2"),
        ("mclust_iris_VII_2", "spherical", "iris", "iris_G2"),
    ],
)
def test_the_maximum_is_that_of_mclust(name, form, data, labels, reference, table):
    expected = reference(name)["expected"]
    x = getattr(jaxem.datasets, data)()
    model = jaxem.mixture(families.gaussian(form), len(expected["weights"]))
    fit = jaxem.fit(model, from_responsibilities(model, x, one_hot(table(labels))), x)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], rtol=0, atol=1e-6)
    assert_same_components(fit.params, form, expected, 1e-4)
    np.testing.assert_allclose(jaxem.num_free_parameters(model, fit.params), expected["n_params"])
    np.testing.assert_allclose(jaxem.aic(model, fit), expected["aic"], atol=1e-5)
    np.testing.assert_allclose(jaxem.bic(model, fit, x), expected["bic"], atol=1e-5)


def test_the_weighted_maximum_is_that_of_mclust(reference, table):
    expected = reference("weighted_faithful_VVV_2")["expected"]
    x, weights = table("faithful_weighted")[:, :2], table("faithful_weighted")[:, 2]
    model = jaxem.mixture(families.gaussian(), 2)
    params = from_responsibilities(model, x, one_hot(table("faithful_split3")), weights)
    fit = jaxem.fit(model, params, x, weights)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], rtol=0, atol=1e-6)
    assert_same_components(fit.params, "full", expected, 1e-4)


def test_integer_weights_are_rows_repeated(table):
    x, weights = table("faithful_weighted")[:, :2], table("faithful_weighted")[:, 2]
    model = jaxem.mixture(families.gaussian(), 2)
    params = from_responsibilities(model, x, one_hot(table("faithful_split3")), weights)
    expected = jaxem.fit(model, params, np.repeat(x, weights.astype(int), axis=0), tol=-np.inf, max_steps=10)
    received = jaxem.fit(model, params, x, weights, tol=-np.inf, max_steps=10)
    np.testing.assert_allclose(received.history, expected.history, rtol=1e-13)


@pytest.mark.thorough
def test_the_weighted_poisson_maximum_is_that_of_flexmix(reference):
    expected = reference("candy_poisson_3")
    counts, frequencies = jaxem.datasets.candy()
    model = jaxem.mixture(families.poisson(), 3)
    best = jaxem.fit_restarts(model, jax.random.key(0), counts, frequencies, num_restarts=16, num_continued=16).best
    np.testing.assert_allclose(best.log_likelihood, expected["verified"]["ml_loglik"], rtol=0, atol=1e-6)
    order = np.argsort(best.params.components.rate)
    theirs = np.exp(np.array(expected["verified"]["params_ml"]["coef"])[:, 0])
    np.testing.assert_allclose(best.params.components.rate[order], np.sort(theirs), rtol=1e-4)
    weights = np.array(expected["expected"]["weights"])[np.argsort(theirs)]
    np.testing.assert_allclose(best.params.weights[order], weights, rtol=1e-4)
    np.testing.assert_allclose(jaxem.bic(model, best, counts, frequencies), expected["expected"]["bic"], atol=1e-5)


def test_the_univariate_maximum_is_that_of_mixtools(reference):
    case = reference("mixtools_waiting_2")
    expected, start = case["expected"], case["init"]
    x = jaxem.datasets.faithful()[:, 1:]
    model = jaxem.mixture(families.gaussian(), 2)
    components = families.Gaussian(np.array(start["means"], float)[:, None], np.array(start["sd"], float)[:, None, None] ** 2)
    params = jaxem.Mixture(np.array(start["weights"]), components)
    fit = jaxem.fit(model, params, x)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(fit.history[0], expected["loglik_trajectory"][0], rtol=0, atol=1e-8)
    np.testing.assert_allclose(fit.params.weights, expected["weights"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components.mean[:, 0], expected["means"], rtol=1e-4)
    np.testing.assert_allclose(jnp.sqrt(fit.params.components.covariance[:, 0, 0]), expected["sd"], rtol=1e-4)
