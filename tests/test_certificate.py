"""Certificates against closed forms, the fits' own trajectories, and likelihoods known to be flat or saddles somewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import linkage

import jaxem
from jaxem import Stationarity, Status, certificate, families

POISSONS = jaxem.mixture(families.poisson(), 2)
DEATHS = jaxem.datasets.london_times_deaths()
START = jaxem.Mixture(np.array([0.5, 0.5]), families.Poisson(np.array([1.0, 3.0])))
ALIKE = jaxem.Mixture(np.array([0.5, 0.5]), families.Poisson(np.array([2.0, 2.0])))
MAXIMUM = -1989.945859883


def london(rates=(1.0, 3.0), **more):
    return jaxem.fit(POISSONS, jaxem.Mixture([0.5, 0.5], families.Poisson(list(rates))), *DEATHS, **more)


def test_fifty_steps_on_the_london_times_leave_what_the_maximum_says_remains():
    fit = jaxem.fit(POISSONS, START, *DEATHS, max_steps=50)
    found = jaxem.certify(POISSONS, fit, *DEATHS)
    assert found.kind == Stationarity.NOT_STATIONARY
    np.testing.assert_allclose(found.remaining, 0.0628, atol=5e-5)
    np.testing.assert_allclose(found.remaining, MAXIMUM - fit.log_likelihood, rtol=0.01)
    assert "see jaxem.polish" in repr(found)
    early, end = fit, london(tol=0, solver=jaxem.squarem())
    errors = jaxem.standard_errors(POISSONS, early, *DEATHS).errors
    away = [end.params.weights - early.params.weights, end.params.components.rate - early.params.components.rate]
    true = max(np.abs(away[0] / errors.weights).max(), np.abs(away[1] / errors.components.rate).max())
    np.testing.assert_allclose(found.distance, true, rtol=0.1)


def test_distance_and_what_remains_of_a_single_rate_are_those_in_closed_form():
    x, rate = np.array([3.0, 1.0, 2.0, 6.0]), 2.8
    model = jaxem.single(families.poisson())
    fit = jaxem.fit(model, families.Poisson(np.array([rate])), x, max_steps=0)
    found = jaxem.certify(model, fit, x)
    slope, information = x.sum() - x.size * rate, x.size * rate  # in the logarithm of the rate
    np.testing.assert_allclose(found.gradient_norm, slope, rtol=1e-12)
    np.testing.assert_allclose(found.remaining, slope**2 / information / 2, rtol=1e-12)
    np.testing.assert_allclose(found.distance, slope / np.sqrt(information), rtol=1e-12)
    assert jaxem.certify(model, fit, x, tol=1.0).kind == Stationarity.MAXIMUM
    np.testing.assert_allclose(found.rate, 0, atol=1e-12)


@pytest.mark.parametrize("start", [START, ALIKE], ids=["a maximum", "a saddle"])
def test_of_many_parameters_products_tell_what_the_whole_information_does(start, monkeypatch):
    fit = jaxem.fit(POISSONS, start, *DEATHS)
    expected = jaxem.certify(POISSONS, fit, *DEATHS)
    monkeypatch.setattr(certificate, "MANY", 0)
    received = jaxem.certify(POISSONS, fit, *DEATHS)
    assert (received.kind, received.unidentified) == (expected.kind, expected.unidentified)
    np.testing.assert_allclose(received.remaining, expected.remaining, rtol=1e-4, atol=1e-12)
    np.testing.assert_allclose(received.rate, expected.rate, rtol=1e-5)
    assert expected.distance <= received.distance * 1.001 + 1e-6
    if expected.direction is not None:
        ways = [np.concatenate(jax.tree.leaves(found.direction)) for found in (received, expected)]
        np.testing.assert_allclose(abs(ways[0] @ ways[1]), np.sqrt((ways[0] @ ways[0]) * (ways[1] @ ways[1])), rtol=1e-5)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("form", ["full", "spherical"])
def test_the_rate_is_that_at_which_gains_of_a_fit_shrink(form):
    x, model = jaxem.datasets.faithful(), jaxem.mixture(families.gaussian(form), 2)
    fit = jaxem.fit(model, model.init(1, x), x)
    gains = np.diff(fit.history[: fit.num_steps + 1])
    found = jaxem.certify(model, fit, x)
    assert (found.kind, found.direction, found.unidentified) == (Stationarity.MAXIMUM, None, ())
    np.testing.assert_allclose(found.rate, np.sqrt(gains[-3] / gains[-4]), rtol=2e-2)
    assert found.distance < 1e-3


def test_a_polished_fit_is_at_the_maximum_and_its_slope_is_rounding():
    fit = jaxem.fit(POISSONS, START, *DEATHS, max_steps=50)
    polished = jaxem.polish(POISSONS, fit, *DEATHS)
    assert polished.status == Status.CONVERGED
    assert abs(polished.log_likelihood - MAXIMUM) < 1e-8
    assert np.diff(polished.history).min() > -1e-11
    assert polished.num_steps <= 8
    certificate = jaxem.certify(POISSONS, polished, *DEATHS)
    assert certificate.kind == Stationarity.MAXIMUM
    assert certificate.gradient_norm < 1e-9


def test_two_components_alike_are_a_saddle_which_is_left_for_the_maximum():
    fit = jaxem.fit(POISSONS, ALIKE, *DEATHS)
    found = jaxem.certify(POISSONS, fit, *DEATHS)
    assert found.kind == Stationarity.SADDLE
    assert found.rate > 1
    moved = jax.tree.map(lambda leaf, way: leaf + 0.1 * way, fit.params, found.direction)
    assert POISSONS.e_step(moved, *map(jnp.asarray, DEATHS))[1] > fit.log_likelihood
    escaped = jaxem.escape(POISSONS, fit, *DEATHS)
    assert abs(escaped.log_likelihood - MAXIMUM) < 1e-6
    assert jaxem.escape(POISSONS, escaped, *DEATHS) is escaped


def test_a_search_leaves_the_saddle_that_its_best_has_ended_at():
    starts = jax.tree.map(lambda leaf: leaf[None], ALIKE)
    search = jaxem.fit_restarts(POISSONS, 0, *DEATHS, starts=starts)
    assert search.fits.log_likelihood[0] < MAXIMUM - 10
    assert abs(search.best.log_likelihood - MAXIMUM) < 1e-6


def test_what_data_cannot_tell_apart_is_named():
    model, x = jaxem.mixture(families.bernoulli(), 2), np.array([[0.0], [1.0], [1.0], [0.0], [1.0]])
    start = jaxem.Mixture(np.array([0.4, 0.6]), families.Bernoulli(np.array([[0.3], [0.7]])))
    found = jaxem.certify(model, jaxem.fit(model, start, x), x)
    assert found.kind == Stationarity.UNIDENTIFIED
    assert found.unidentified == ("weights[0]", "weights[1]", "components.probs[0, 0]", "components.probs[1, 0]")
    assert found.condition == np.inf


def test_a_maximum_among_zeros_is_one_on_the_boundary():
    model, x = jaxem.single(families.bernoulli()), np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    fit = jaxem.fit(model, model.init(0, x), x)
    assert jaxem.certify(model, fit, x).kind == Stationarity.BOUNDARY


@pytest.mark.thorough
def test_a_fit_in_single_precision_keeps_its_dtype_when_polished():
    x = jaxem.datasets.faithful().astype(np.float32)
    model = jaxem.mixture(families.gaussian("diag"), 2)
    fit = jaxem.fit(model, model.init(1, x), x, max_steps=3)
    polished = jaxem.polish(model, fit, x)
    assert polished.params.components.mean.dtype == np.float32
    expected = jaxem.fit(model, fit.params, x)
    np.testing.assert_allclose(polished.params.components.mean, expected.params.components.mean, rtol=1e-4)
    assert polished.log_likelihood >= fit.log_likelihood


@pytest.mark.parametrize("look", [jaxem.certify, jaxem.polish, jaxem.escape])
def test_what_is_no_fit_is_refused_and_so_is_a_trace(look):
    with pytest.raises(ValueError, match="fit must be a Fit, got Mixture"):
        look(POISSONS, START, *DEATHS)
    fit = jaxem.fit(POISSONS, START, *DEATHS, max_steps=1)
    with pytest.raises(ValueError, match="call it outside jit and vmap"):
        jax.jit(lambda weights: look(POISSONS, fit, DEATHS[0], weights).remaining)(jnp.asarray(DEATHS[1]))


@pytest.mark.thorough
def test_the_rate_is_that_at_which_steps_of_em_come_nearer():
    """And that of linkage, .1328 in the literature."""
    end, later = london(tol=0, solver=jaxem.squarem()), [london(tol=-np.inf, max_steps=steps) for steps in (2000, 2001)]
    left = [float(fit.params.weights[0] - end.params.weights[0]) for fit in later]
    np.testing.assert_allclose(jaxem.certify(POISSONS, end, *DEATHS).rate, left[1] / left[0], rtol=1e-5)
    cells, animals = np.arange(4), np.array([125.0, 18.0, 20.0, 34.0])
    fit = jaxem.fit(linkage(), 0.5, cells, animals, tol=0)
    found = jaxem.certify(linkage(), fit, cells, animals)
    np.testing.assert_allclose(found.rate, 0.132778734, rtol=1e-6)
    assert found.kind == Stationarity.MAXIMUM


def shy(params):
    return -(params.components.rate**2).sum()


def under_a_prior():
    x = np.random.default_rng(1).poisson([[2.0], [6.0]], (2, 60)).ravel()
    start = jaxem.Mixture(np.array([0.5, 0.5]), families.Poisson(np.array([2.0, 6.0])))
    return jaxem.with_prior(POISSONS, shy), start, x


def with_locations_held():
    x = np.exp(np.random.default_rng(1).normal([[0.0], [3.0]], size=(2, 60)).ravel())
    start = jaxem.Mixture(np.array([0.5, 0.5]), families.LogNormal(np.array([0.0, 3.0]), np.array([1.0, 1.0])))
    return *jaxem.freeze(jaxem.mixture(families.log_normal(), 2), start, lambda params: params.components.location), x


def of_equal_shapes():
    x, model = jaxem.datasets.faithful(), jaxem.mixture(families.gaussian("VEV"), 2)
    return model, model.init(1, x), x


RATES = {"any prior": under_a_prior, "locations held": with_locations_held, "VEV": of_equal_shapes}


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", RATES)
def test_the_rate_is_that_of_steps_whose_m_steps_iterate(name):
    model, start, x = RATES[name]()
    fit = jaxem.fit(model, start, x, tol=1e-9)
    gains = np.diff(fit.history[: fit.num_steps + 1])
    last = np.flatnonzero(gains > 1e-7)[-1]
    np.testing.assert_allclose(jaxem.certify(model, fit, x).rate, np.sqrt(gains[last] / gains[last - 1]), rtol=3e-2)


@pytest.mark.thorough
def test_identical_components_and_a_missing_one_are_saddles():
    found = jaxem.certify(POISSONS, london((2.0, 2.0)), *DEATHS)
    assert found.kind == Stationarity.SADDLE
    assert found.unidentified == jaxem.parameter_names(POISSONS, london().params)
    alone = jaxem.Mixture(jnp.array([1.0, 0.0]), families.Poisson([float(DEATHS[0] @ DEATHS[1] / DEATHS[1].sum()), 6.0]))
    fit = jaxem.fit(POISSONS, alone, *DEATHS)
    found = jaxem.certify(POISSONS, fit, *DEATHS)
    assert found.kind == Stationarity.SADDLE
    moved = jax.tree.map(lambda leaf, way: leaf + 1e-4 * way, fit.params, found.direction)
    assert POISSONS.e_step(moved, *map(jnp.asarray, DEATHS))[1] > fit.log_likelihood
    assert abs(jaxem.escape(POISSONS, fit, *DEATHS).log_likelihood - MAXIMUM) < 1e-6


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("columns", "expected"), [(2, Stationarity.UNIDENTIFIED), (3, Stationarity.BOUNDARY)])
def test_a_flat_ridge_is_unidentified_and_zeros_are_a_boundary(columns, expected):
    rng, classes = np.random.default_rng(2), np.arange(3000) % 3 == 0
    x = (rng.random((3000, 3)) < np.where(classes[:, None], [0.7, 0.8, 0.6], [0.2, 0.2, 0.0])).astype(float)[:, :columns]
    model = jaxem.mixture(families.bernoulli(), 2)
    start = jaxem.Mixture([0.3, 0.7], families.Bernoulli(np.array([[0.6, 0.7, 0.6], [0.2, 0.3, 0.05]])[:, :columns]))
    fit = jaxem.fit(model, start, x, solver=jaxem.squarem())
    assert jaxem.certify(model, fit, x).kind == expected
