"""Several numbers of components in one race are what each gives alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import components, families
from jaxem.selection import search_counts

COUNTS = np.random.default_rng(0).poisson(np.repeat([2.0, 9.0], [90, 60]))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("family", "data", "weights", "concentration"),
    [
        (families.gaussian("full"), np.asarray(jaxem.datasets.faithful()), None, None),
        (families.gaussian("tied"), np.asarray(jaxem.datasets.faithful()), None, None),
        (families.poisson(), COUNTS, np.random.default_rng(1).uniform(0, 2, COUNTS.size), 3.0),
    ],
)
def test_each_number_of_components_gives_what_its_own_mixture_gives(family, data, weights, concentration):
    counts, short = [2, 1, 3], {"num_restarts": 8, "solver": jaxem.em()}
    found = search_counts(family, 3, data, weights, counts=counts, concentration=concentration, **short)
    for k, received in zip(counts, found, strict=True):
        expected = jaxem.fit_restarts(jaxem.mixture(family, k, concentration=concentration), 3, data, weights, **short)
        assert jax.tree.map(jnp.shape, received.fits.params) == jax.tree.map(jnp.shape, expected.fits.params)
        np.testing.assert_allclose(received.best.log_likelihood, expected.best.log_likelihood, rtol=1e-10)
        np.testing.assert_allclose(received.best.log_prior, expected.best.log_prior, rtol=1e-10)
        np.testing.assert_array_equal(received.fits.status, expected.fits.status)
        domain = jaxem.mixture(family, k).constraints
        ends = [components.order(domain, found.best.params, found.best.params.weights) for found in (received, expected)]
        for one, other in zip(*map(jax.tree.leaves, ends), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(received.best.params.weights.sum(), 1, rtol=1e-12)
        assert jaxem.num_reached(received) == jaxem.num_reached(expected)


@pytest.mark.parametrize(
    ("family", "counts", "concentration", "message"),
    [
        (families.poisson(), (1, 0), None, "counts must be at least 1, got 0"),
        (families.poisson(), (1, 2), 1.0, r"concentration must be one number above 1.*got 1\.0"),
        (families.poisson(families.GammaPrior(2.0, 1.0)), (1, 2), None, "family has a prior, of absent components too"),
        (families.union((families.poisson(), 1), (families.noise(0.1), 1)), (1, 2), None, "components of several kinds"),
    ],
)
def test_what_cannot_be_searched_at_once_is_refused(family, counts, concentration, message):
    with pytest.raises(ValueError, match=message):
        search_counts(family, 0, COUNTS, counts=counts, concentration=concentration)
