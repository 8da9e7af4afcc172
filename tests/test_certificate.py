"""What kind of point a fit stands at, and how far from the maximum: known cases, by hand and by going on."""

import jax.numpy as jnp
import numpy as np
import pytest
from models import linkage

import jaxem
from jaxem import Stationarity, families
from jaxem.families import Poisson

POISSONS = jaxem.mixture(families.poisson(), 2)
DEATHS = jaxem.datasets.london_times_deaths()


def london(rates=(1.0, 3.0), **more):
    return jaxem.fit(POISSONS, jaxem.Mixture([0.5, 0.5], Poisson(list(rates))), *DEATHS, **more)


def test_fifty_steps_leave_what_the_certificate_says_and_the_maximum_nothing():
    early, end = london(max_steps=50), london(tol=0, solver=jaxem.squarem())
    found, at_end = (jaxem.certify(POISSONS, fit, *DEATHS) for fit in (early, end))
    assert (found.kind, at_end.kind) == (Stationarity.NOT_STATIONARY, Stationarity.MAXIMUM)
    np.testing.assert_allclose(found.remaining, 0.0628, atol=5e-5)
    np.testing.assert_allclose(end.log_likelihood - early.log_likelihood, found.remaining, rtol=0.01)
    errors = jaxem.standard_errors(POISSONS, early, *DEATHS).errors
    away = [end.params.weights - early.params.weights, end.params.components.rate - early.params.components.rate]
    true = max(np.abs(away[0] / errors.weights).max(), np.abs(away[1] / errors.components.rate).max())
    np.testing.assert_allclose(found.distance, true, rtol=0.1)
    assert at_end.remaining < 1e-15 and at_end.distance < 1e-7 and at_end.unidentified == ()


def test_the_rate_is_that_at_which_steps_of_em_come_nearer():
    """By complete information, and for linkage, which has none, by the derivative of the map: .1328 in the literature."""
    end, later = london(tol=0, solver=jaxem.squarem()), [london(tol=-np.inf, max_steps=steps) for steps in (2000, 2001)]
    left = [float(fit.params.weights[0] - end.params.weights[0]) for fit in later]
    np.testing.assert_allclose(jaxem.certify(POISSONS, end, *DEATHS).rate, left[1] / left[0], rtol=1e-5)
    cells, animals = np.arange(4), np.array([125.0, 18.0, 20.0, 34.0])
    fit = jaxem.fit(linkage(), 0.5, cells, animals, tol=0)
    found = jaxem.certify(linkage(), fit, cells, animals)
    np.testing.assert_allclose(found.rate, 0.132778734, rtol=1e-6)
    assert found.kind == Stationarity.MAXIMUM


def test_identical_components_and_a_missing_one_are_saddles():
    found = jaxem.certify(POISSONS, london((2.0, 2.0)), *DEATHS)
    assert found.kind == Stationarity.SADDLE
    assert found.unidentified == jaxem.parameter_names(POISSONS, london().params)
    alone = jaxem.Mixture(jnp.array([1.0, 0.0]), Poisson([float(DEATHS[0] @ DEATHS[1] / DEATHS[1].sum()), 6.0]))
    fit = jaxem.fit(POISSONS, alone, *DEATHS)
    assert jaxem.certify(POISSONS, fit, *DEATHS).kind == Stationarity.SADDLE


@pytest.mark.parametrize(("columns", "expected"), [(2, Stationarity.UNIDENTIFIED), (3, Stationarity.BOUNDARY)])
def test_a_flat_ridge_is_unidentified_and_zeros_are_a_boundary(columns, expected):
    rng, classes = np.random.default_rng(2), np.arange(3000) % 3 == 0
    x = (rng.random((3000, 3)) < np.where(classes[:, None], [0.7, 0.8, 0.6], [0.2, 0.2, 0.0])).astype(float)[:, :columns]
    model = jaxem.mixture(families.bernoulli(), 2)
    start = jaxem.Mixture([0.3, 0.7], families.Bernoulli(np.array([[0.6, 0.7, 0.6], [0.2, 0.3, 0.05]])[:, :columns]))
    fit = jaxem.fit(model, start, x, solver=jaxem.squarem())
    assert jaxem.certify(model, fit, x).kind == expected
