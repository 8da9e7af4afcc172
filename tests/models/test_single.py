"""One component alone: the family's own maximum likelihood, in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxem
from jaxem import Status, families

X = np.random.default_rng(0).normal(size=(50, 2)) @ np.array([[2.0, 0.3], [0.0, 0.5]]) + np.array([1.0, -7.0])
COUNTS = np.random.default_rng(1).poisson(4, 50)
WEIGHTS = np.random.default_rng(2).uniform(0, 2, 50)


def test_a_gaussian_alone_is_the_weighted_mean_and_covariance():
    model = jaxem.single(families.gaussian())
    fit = jaxem.fit(model, model.init(0, X, WEIGHTS), X, WEIGHTS)
    assert fit.status == Status.CONVERGED
    mean = np.average(X, axis=0, weights=WEIGHTS)
    covariance = np.cov(X.T, aweights=WEIGHTS, bias=True)
    np.testing.assert_allclose(fit.params.mean, mean[None], rtol=1e-12)
    np.testing.assert_allclose(fit.params.covariance, covariance[None], rtol=1e-10)
    expected = WEIGHTS @ stats.multivariate_normal.logpdf(X, mean, covariance)
    np.testing.assert_allclose(fit.log_likelihood, expected, rtol=1e-12)


def test_counts_alone_are_the_poisson_of_their_mean_after_one_step():
    model = jaxem.single(families.poisson())
    fit = jaxem.fit(model, families.Poisson([1.0]), COUNTS, max_steps=1)
    np.testing.assert_allclose(fit.params.rate, [COUNTS.mean()], rtol=1e-13)
    np.testing.assert_allclose(fit.log_likelihood, stats.poisson.logpmf(COUNTS, COUNTS.mean()).sum(), rtol=1e-12)


def test_the_posterior_is_one_label_for_all():
    model = jaxem.single(families.poisson())
    np.testing.assert_array_equal(model.posterior(families.Poisson([2.0]), COUNTS), np.ones((50, 1)))


def test_samples_have_the_moments_of_the_family_and_labels_zero():
    model, params = (
        jaxem.single(families.gaussian("diag")),
        families.Gaussian(jnp.array([[1.0, -2.0]]), jnp.array([[4.0, 0.25]])),
    )
    x, labels = model.sample(jax.random.key(0), params, 20_000)
    np.testing.assert_array_equal(labels, np.zeros(20_000))
    np.testing.assert_allclose(x.mean(0), params.mean[0], atol=0.05)
    np.testing.assert_allclose(x.var(0), params.covariance[0], rtol=0.05)


def test_a_product_alone_fits_each_part_by_itself():
    model = jaxem.single(families.product(x=families.gaussian("diag"), count=families.poisson()))
    data = {"x": X, "count": COUNTS}
    fit = jaxem.fit(model, model.init(0, data), data)
    np.testing.assert_allclose(fit.params["x"].covariance, X.var(0)[None], rtol=1e-10)
    np.testing.assert_allclose(fit.params["count"].rate, [COUNTS.mean()], rtol=1e-12)


def test_it_counts_the_parameters_of_the_family_alone():
    model = jaxem.single(families.gaussian("tied"))
    assert jaxem.num_free_parameters(model, model.init(0, X)) == 2 + 3


def test_what_is_no_family_is_refused():
    with pytest.raises(ValueError, match=r"family must be a Family, such as families\.gaussian\(\) with its parentheses"):
        jaxem.single(families.gaussian)
