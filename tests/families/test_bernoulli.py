"""Bernoulli components: shares and their logarithms to the last digits, and no row that rounding makes impossible."""

from fractions import Fraction

import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.families.bernoulli import share

FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@FLOATS
def test_a_share_is_one_only_without_zeros_and_zero_only_without_ones(dtype):
    ones, zeros = jnp.asarray([1e8, 1e8, 1e30, 1e-30, 0, 1], dtype), jnp.asarray([1, 0, 1e-30, 1e30, 1, 0], dtype)
    received = share(ones, zeros)
    assert received.dtype == dtype
    np.testing.assert_array_equal(received == 1, zeros == 0)
    np.testing.assert_array_equal(received == 0, ones == 0)


def test_shares_agree_with_exact_fractions():
    rng = np.random.default_rng(0)
    ones, zeros = rng.integers(1, 10**8, (2, 200))
    expected = [float(Fraction(int(a), int(a + b))) for a, b in zip(ones, zeros, strict=True)]
    received = share(jnp.asarray(ones, float), jnp.asarray(zeros, float))
    np.testing.assert_array_equal(received, expected)


def test_one_zero_among_a_hundred_million_ones_stays_possible_in_float32():
    x, weights = np.array([1, 0], np.float32), np.array([1e8, 1], np.float32)
    model = jaxem.single(families.bernoulli())
    fit = jaxem.fit(model, families.Bernoulli(np.array([0.5], np.float32)), x, weights)
    assert fit.status == jaxem.Status.CONVERGED
    assert fit.params.probs[0] == np.nextafter(np.float32(1), np.float32(0))
    assert np.isfinite(model.log_prob(fit.params, x)).all()
