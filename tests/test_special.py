"""Remainders of the gamma function against SciPy's, and roots against those of plain bisection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special as known

from jaxem import special

binet, binet_slope, binet_curvature = map(jax.jit, (special.binet, special.binet_slope, special.binet_curvature))
Z = np.geomspace(1e-3, 1e6, 60)
LOW = Z[Z < 50]  # beyond, differences of SciPy's functions have too few digits to tell


def test_binet_is_what_stirlings_formula_leaves_of_log_gamma_and_so_are_its_slope_and_curvature():
    expected = known.gammaln(LOW) - (LOW - 0.5) * np.log(LOW) + LOW - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(binet(LOW), expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(binet_slope(LOW), known.digamma(LOW) - np.log(LOW) + 0.5 / LOW, rtol=1e-9, atol=1e-12)
    expected = known.polygamma(1, LOW) - 1 / LOW - 0.5 / LOW**2
    np.testing.assert_allclose(binet_curvature(LOW), expected, rtol=1e-8, atol=1e-12)


def test_in_float32_it_keeps_its_digits_at_any_size():
    for function, atol in ((binet, 5e-6), (binet_slope, 1e-6), (binet_curvature, 1e-6)):
        expected = np.asarray(function(Z))
        np.testing.assert_allclose(function(jnp.asarray(Z, "float32")), expected, rtol=3e-6, atol=atol)


def test_its_derivatives_are_each_other():
    z = jnp.asarray([0.3, 5.0, 700.0])
    for function, slope in ((binet, binet_slope), (binet_slope, binet_curvature)):
        np.testing.assert_array_equal(jax.jvp(function, (z,), (jnp.ones(3),))[1], slope(z))


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 3e-6)])
def test_the_shape_of_a_mean_deviance_is_found_over_thirty_orders_of_magnitude(dtype, rtol):
    expected = jnp.geomspace(1e-5, 1e10, 40, dtype=dtype)
    received = jax.jit(lambda z: special.inverse_log_minus_digamma(special.log_minus_digamma(z)))(expected)
    np.testing.assert_allclose(received, expected, rtol=rtol)


def test_an_excess_keeps_its_digits_near_one_and_far():
    delta = np.array([-1 + 1e-9, -0.7, -0.4, -1e-3, -1e-9, 0, 1e-9, 1e-3, 0.9, 1.1, 1e12])
    expected = np.where(np.abs(delta) < 1e-4, delta**2 / 2 - delta**3 / 3, delta - np.log1p(delta))
    np.testing.assert_allclose(jax.jit(special.excess)(delta, 1 + delta), expected, rtol=1e-9, atol=1e-30)


def test_a_root_is_found_from_any_start_and_an_end_where_there_is_none():
    shift = jnp.array([0.3, -4.0, 8.0, 20.0, -20.0])

    def falls(x):
        return jax.jvp(lambda x: jnp.tanh(shift - x), (x,), (jnp.ones_like(x),))

    received = special.root(falls, jnp.full(5, 9.9), -10.0, 10.0)
    np.testing.assert_allclose(received, [0.3, -4, 8, 10, -10], rtol=1e-12)
