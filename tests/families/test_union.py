"""Components of several kinds in one mixture, against the same components of one kind and against mclust's noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, components, families


@pytest.mark.thorough
def test_gaussians_in_noise_end_where_mclust_does(reference, table):
    found, x, labels = reference("noise_chevron_VVV_2"), table("chevron"), table("chevron_noise3").astype(int)
    noise = families.noise(found["noise_density"])
    model = jaxem.mixture(families.union((families.gaussian(), 2), (noise, 1)), 3)
    start = jaxem.initialize.from_responsibilities(model, x, np.eye(3)[labels])
    fit = jaxem.fit(model, start, x)
    expected = found["expected"]
    assert fit.status == Status.CONVERGED and fit.params.components[1] == ()
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-5)
    np.testing.assert_allclose(fit.params.weights, expected["weights"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components[0].mean, expected["means"], rtol=1e-4)
    np.testing.assert_allclose(fit.params.components[0].covariance, expected["covariances"], rtol=1e-4)
    assert jaxem.num_free_parameters(model, fit.params) == 2 + 4 + 6


def test_a_union_of_one_kind_is_that_kind():
    x, weights = np.array([0, 1, 1, 2, 5, 6, 7, 9, 20, 22.0]), jnp.array([0.3, 0.3, 0.4])
    parts = families.union((families.poisson(), 2), (families.poisson(), 1))
    united, plain = jaxem.mixture(parts, 3), jaxem.mixture(families.poisson(), 3)
    rate = jnp.array([1.0, 7.0, 20.0])
    left = jaxem.fit(united, jaxem.Mixture(weights, (families.Poisson(rate[:2]), families.Poisson(rate[2:]))), x)
    right = jaxem.fit(plain, jaxem.Mixture(weights, families.Poisson(rate)), x)
    received = jnp.concatenate([part.rate for part in left.params.components])
    np.testing.assert_allclose(received, right.params.components.rate, rtol=1e-12)
    np.testing.assert_allclose(left.log_likelihood, right.log_likelihood, rtol=1e-14)


def test_an_empty_component_keeps_its_parameters():
    family = families.union((families.exponential(), 1), (families.gamma(), 2))
    params = families.Exponential(jnp.array([1.0])), families.Gamma(jnp.array([2.0, 3.0]), jnp.array([1.0, 4.0]))
    rows, shares = family.prepare(np.array([0.5, 1.5, 4.0]), None), jnp.array([[0, 1, 0.0]] * 3)
    new = jax.jit(lambda: family.m_step(params, family.evaluate(params, rows)[1](shares)))()
    np.testing.assert_array_equal(new[0].rate, 1)
    assert new[1].shape[1] == 3 and new[1].shape[0] != 2
    with pytest.raises(ValueError, match="several kinds"):
        components.take(family.constraints, params, jnp.array([1, 0, 2]))


def test_each_row_is_drawn_from_the_kind_that_its_label_names():
    family = families.union((families.exponential(), 1), (families.log_normal(), 1))
    params = families.Exponential(jnp.array([1e-3])), families.LogNormal(jnp.array([-20.0]), jnp.array([0.1]))
    labels = jnp.array([0, 1, 1, 0, 0])
    drawn = family.sample(jax.random.key(0), params, labels, None)
    np.testing.assert_array_equal(drawn < 1e-8, labels == 1)


def test_one_column_is_drawn_as_one_whatever_shape_a_kind_gives_it():
    family = families.union((families.gaussian(), 1), (families.log_normal(), 1))
    params = families.Gaussian(jnp.array([[50.0]]), jnp.ones((1, 1, 1))), families.LogNormal(jnp.zeros(1), jnp.ones(1))
    drawn = family.sample(jax.random.key(0), params, jnp.array([0, 1, 0]), None)
    assert drawn.shape[0] == drawn.size == 3


def test_what_is_no_union_is_refused():
    poisson = families.poisson()
    for parts in ((), (poisson,), ((poisson, 0),), ((poisson, 1, 2),), (("poisson", 1),)):
        with pytest.raises(ValueError, match=r"union|count|family"):
            families.union(*parts)
    with pytest.raises(ValueError, match="the union has 2 components, and 3 are asked for"):
        jaxem.mixture(families.union((poisson, 2)), 3).init(0, [1, 2, 3])
    family = families.union((poisson, 2))
    with pytest.raises(ValueError, match="in a part of the union"):
        jax.eval_shape(lambda x: family.evaluate((families.Poisson(jnp.ones(3)),), family.prepare(x, None)), np.ones(2))
    both, x = families.union((families.gaussian(), 1), (families.noise(0.1), 1)), families.observed([[1.0], [np.nan], [2.0]])
    with pytest.raises(ValueError, match="data has holes, and noise has a density over whole rows"):
        both.prepare(x, None)
    np.testing.assert_array_equal(both.prepare(families.observed([[1.0], [2.0]]), None).parts[1], [[1.0], [2.0]])
    for density in (0, -1, np.inf, "1", True):
        with pytest.raises(ValueError, match="density must be"):
            families.noise(density)


def test_seeds_are_drawn_on_the_scale_of_the_first_kind_that_has_one():
    counts = {"a": np.array([0.0, 4.0, 9.0]), "b": np.array([1.0, 1.0, 4.0])}
    kind = families.product(a=families.poisson(), b=families.poisson())
    family = families.union((families.noise(0.1), 1), (kind, 2))
    received = family.embed(family.prepare(counts, None))
    np.testing.assert_array_equal(received, [[0.0, 1.0], [2.0, 1.0], [3.0, 2.0]])
