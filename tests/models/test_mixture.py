"""What a mixture offers beside its E- and M-step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxem
from jaxem import families

MODEL = jaxem.mixture(families.gaussian(), 2)
PARAMS = jaxem.Mixture(
    jnp.array([0.3, 0.7]),
    families.Gaussian(jnp.array([[0.0, 0.0], [3.0, 1.0]]), jnp.array([[[1.0, 0.3], [0.3, 2.0]], [[0.5, 0.0], [0.0, 0.5]]])),
)


def test_log_prob_and_posterior_are_bayes_rule():
    x = np.random.default_rng(0).normal(size=(25, 2)) * 2
    joint = np.stack(
        [
            np.log(weight) + stats.multivariate_normal.logpdf(x, mean, covariance)
            for weight, mean, covariance in zip(PARAMS.weights, *map(np.asarray, PARAMS.components), strict=True)
        ],
        axis=1,
    )
    expected = np.logaddexp.reduce(joint, axis=1)
    np.testing.assert_allclose(MODEL.log_prob(PARAMS, jnp.asarray(x)), expected, rtol=1e-12)
    np.testing.assert_allclose(MODEL.posterior(PARAMS, jnp.asarray(x)), np.exp(joint - expected[:, None]), rtol=1e-10)


def test_samples_have_the_moments_of_the_mixture():
    x, labels = MODEL.sample(jax.random.key(0), PARAMS, 40_000)
    assert x.shape == (40_000, 2)
    np.testing.assert_allclose(labels.mean(), 0.7, atol=0.01)
    for k in range(2):
        np.testing.assert_allclose(x[labels == k].mean(0), PARAMS.components.mean[k], atol=0.05)
        np.testing.assert_allclose(jnp.cov(x[labels == k].T), PARAMS.components.covariance[k], atol=0.06)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_a_fit_to_samples_comes_near_what_they_were_drawn_from(form):
    model = jaxem.mixture(families.gaussian(form), 2)
    covariance = {
        "full": jnp.stack([jnp.eye(2), 0.5 * jnp.eye(2)]),
        "tied": jnp.eye(2),
        "diag": jnp.ones((2, 2)),
        "spherical": jnp.ones(2),
    }
    params = jaxem.Mixture(jnp.array([0.3, 0.7]), families.Gaussian(jnp.array([[0.0, 0.0], [5.0, 1.0]]), covariance[form]))
    x, _ = model.sample(jax.random.key(1), params, 5_000)
    fit = jaxem.fit(model, params, x)
    np.testing.assert_allclose(fit.params.weights, params.weights, atol=0.03)
    np.testing.assert_allclose(fit.params.components.mean, params.components.mean, atol=0.1)
    np.testing.assert_allclose(fit.params.components.covariance, params.components.covariance, atol=0.1)


@pytest.mark.parametrize(
    ("family", "record"), [(families.poisson(), families.Poisson), (families.bernoulli(), families.Bernoulli)]
)
def test_discrete_samples_have_the_means_of_their_components(family, record):
    means = jnp.array([[0.2, 0.9], [0.6, 0.1]])
    params = jaxem.Mixture(jnp.array([0.4, 0.6]), record(means))
    x, labels = jaxem.mixture(family, 2).sample(jax.random.key(0), params, 40_000)
    for k in range(2):
        np.testing.assert_allclose(x[labels == k].mean(0), means[k], atol=0.03)


@pytest.mark.thorough
def test_the_lower_bound_is_below_the_log_likelihood_and_tight_at_its_own_posterior():
    x = jaxem.datasets.faithful()
    model = jaxem.mixture(families.gaussian(), 3)
    first, second = (model.init(jax.random.key(seed), x) for seed in range(2))
    weights = jnp.ones(272)
    log_likelihood = model.e_step(second, x, weights)[1]
    np.testing.assert_allclose(jaxem.lower_bound(model, second, second, x), log_likelihood, rtol=1e-14)
    posterior = np.asarray(model.posterior(first, x))
    joint = np.stack(
        [
            np.log(w) + stats.multivariate_normal.logpdf(x, m, c)
            for w, m, c in zip(second.weights, *map(np.asarray, second.components), strict=True)
        ],
        axis=1,
    )
    expected = (posterior * joint).sum() + stats.entropy(posterior, axis=1).sum()
    received = jaxem.lower_bound(model, first, second, x)
    np.testing.assert_allclose(received, expected, rtol=1e-10)
    assert received < log_likelihood


def test_rows_that_no_component_can_make_have_no_probability_and_no_weight_no_say():
    model = jaxem.mixture(families.poisson(), 2)
    params = jaxem.Mixture(jnp.array([0.5, 0.5]), families.Poisson(jnp.array([0.0, 0.0])))
    np.testing.assert_array_equal(model.log_prob(params, jnp.array([0.0, 2.0])), [0, -np.inf])
    weights = jnp.array([1.0, 0.0])
    log_likelihood, slope = jax.value_and_grad(lambda params: model.e_step(params, jnp.array([0.0, 2.0]), weights)[1])(params)
    assert log_likelihood == 0
    np.testing.assert_array_equal(slope.components.rate, [-0.5, -0.5])


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("dim", [2, 6])
def test_a_row_whose_squares_overflow_belongs_to_the_component_nearest_to_it(form, dim):
    shape = {"full": (2, dim, dim), "tied": (dim, dim), "diag": (2, dim), "spherical": (2,)}[form]
    covariance = np.broadcast_to(np.eye(dim), shape) if form in ("full", "tied") else np.ones(shape)
    mean = np.stack([np.zeros(dim), np.full(dim, 1e18)])
    params = jaxem.Mixture([0.5, 0.5], families.Gaussian(mean.astype("float32"), covariance.astype("float32")))
    x = np.array([np.full(dim, 1e25), np.full(dim, -1e25), np.zeros(dim)], "float32")
    received = jaxem.mixture(families.gaussian(form), 2).posterior(params, x)
    np.testing.assert_array_equal(received.sum(1), [1, 1, 1])
    np.testing.assert_array_equal(received[2], [1, 0])
