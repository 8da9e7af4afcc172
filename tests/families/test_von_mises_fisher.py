"""Directions: Bessel functions against SciPy's, densities against quadrature, and concentrations from the first to the last."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import jaxem
from jaxem import Status, bessel, families
from jaxem.families.von_mises_fisher import _concentration

KAPPA = np.array([1e-6, 0.1, 1.0, 10.0, 50.0, 300.0])


@pytest.mark.parametrize("order", [0.0, 4.5, 49.0])
def test_bessel_functions_and_their_ratios_are_those_of_scipy(order):
    log_value, lack, length = jax.jit(bessel._bessel, static_argnums=0)(order, jnp.asarray(KAPPA))
    some = scipy.special.ive(order + 1, KAPPA) > 1e-290
    low, high = (scipy.special.ive(order + step, KAPPA[some]) for step in (0, 1))
    np.testing.assert_allclose(log_value[some], np.log(low) - order * np.log(KAPPA[some]), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(length[some], high / low, rtol=1e-12)
    np.testing.assert_allclose(lack[some], (low - high) / low, rtol=1e-11)


def test_the_density_in_three_dimensions_integrates_to_one_and_is_the_elementary_formula():
    kappa = np.array([0.0, 0.5, 40.0])
    params = families.VonMisesFisher(jnp.tile(jnp.array([[0.0, 0.0, 1.0]]), (3, 1)), jnp.asarray(kappa))
    nodes, weights = np.polynomial.legendre.leggauss(60)
    rows = np.stack([np.sqrt(1 - nodes**2), np.zeros(60), nodes], 1)
    family = families.von_mises_fisher()
    received = np.asarray(jax.jit(lambda *given: family.evaluate(*given)[0])(params, family.prepare(rows, None)))
    np.testing.assert_allclose(2 * np.pi * weights @ np.exp(received), 1, rtol=1e-12)
    expected = np.log(kappa[1:] / (4 * np.pi * np.sinh(kappa[1:]))) + kappa[1:] * nodes[:, None]
    np.testing.assert_allclose(received[:, 1:], expected, rtol=1e-12)


@pytest.mark.parametrize(("dim", "dtype", "rtol"), [(2, "float64", 1e-8), (1000, "float64", 1e-8), (3, "float32", 5e-5)])
def test_the_concentration_of_a_mean_length_is_found_from_nothing_to_a_billion(dim, dtype, rtol):
    expected = jnp.geomspace(1e-4, 1e9, 27, dtype=dtype)
    lack, length = jax.jit(bessel.ratio, static_argnums=0)(0.5 * dim - 1, expected)
    received = jax.jit(_concentration, static_argnums=2)(length, lack, dim)
    np.testing.assert_allclose(received, expected, rtol=rtol)


@pytest.mark.thorough
def test_draws_of_scipy_lead_to_their_direction_and_concentration_and_so_do_our_own():
    mean, family = np.array([0.6, 0.0, 0.0, 0.8]), families.von_mises_fisher()
    model = jaxem.single(family)
    theirs = scipy.stats.vonmises_fisher(mean, 30.0).rvs(2000, random_state=0)
    ours, _ = model.sample(3, families.VonMisesFisher(jnp.asarray(mean[None]), jnp.array([30.0])), theirs)
    for x in (theirs, np.asarray(ours)):
        fit = jaxem.fit(model, model.init(0, x), x)
        np.testing.assert_allclose(fit.params.concentration, 30, rtol=0.1)
        np.testing.assert_allclose(fit.params.direction[0], mean, atol=0.02)
        expected = (
            scipy.stats.vonmises_fisher(np.asarray(fit.params.direction[0]), float(fit.params.concentration[0])).logpdf(x).sum()
        )
        np.testing.assert_allclose(fit.log_likelihood, expected, rtol=1e-10)


@pytest.mark.thorough
def test_equal_rows_and_opposite_ones_end_converged_at_the_ends():
    model, up, right = jaxem.mixture(families.von_mises_fisher(), 1), np.array([0.0, 1.0]), np.array([1.0, 0.0])
    for x, expected in (([up] * 4, 1e10), ([up, -up, up, -up], 0), ([up, right, -up, -right], 0)):
        x = np.array(x)
        fit = jaxem.fit(model, model.init(0, x), x)
        assert fit.status == Status.CONVERGED and np.isfinite(fit.log_likelihood)
        np.testing.assert_allclose(fit.params.components.concentration, expected, atol=1e-6)


def test_rows_of_another_length_are_refused():
    family = families.von_mises_fisher()
    with pytest.raises(ValueError, match=r"lengths from 0.5 to 1, need length one"):
        family.prepare([[0.5, 0.0], [1.0, 0.0]], None)
    with pytest.raises(ValueError, match="at least two"):
        family.prepare([[1.0], [1.0]], None)
