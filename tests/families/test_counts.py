"""Counts to the last digits, against 50 decimal digits of Python's `decimal` and exact integers."""

import math
from decimal import Decimal, localcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.families import counts

DIGITS = 50
PI = Decimal("3.14159265358979323846264338327950288419716939937510582097494")
drawn = jax.jit(counts.sample_poisson)
deviance, log_mass_at_mean, stirling_error = map(jax.jit, (counts.deviance, counts.log_mass_at_mean, counts.stirling_error))
FLOATS = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def exact_log_factorial(x):
    """Return log x!: of the integer itself up to 3000, and above by Stirling's series to 1/x¹⁵ (DLMF 5.11.1)."""
    if x <= 3000:
        return Decimal(math.factorial(x)).ln()
    x = Decimal(x)
    return x * x.ln() - x + (2 * PI * x).ln() / 2 + stirling_series(x)


def stirling_series(x):
    terms = [(1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156), (-3617, 122400)]
    return sum(Decimal(a) / b / x ** (2 * j + 1) for j, (a, b) in enumerate(terms))


def exact_deviance(x, rate):
    x, rate = Decimal(float(x)), Decimal(float(rate))
    return x * (x / rate).ln() + rate - x if x else rate


def exact_log_mass_at_mean(x):
    return Decimal(x) * Decimal(x).ln() - x - exact_log_factorial(x) if x else Decimal(0)


def exactly(function, *arguments):
    with localcontext(prec=DIGITS + 20):
        return [function(*values) for values in zip(*arguments, strict=True)]


def worst_ulps(received, expected):
    """Return max |received - expected| in units of the spacing of floats at expected, taken before either is rounded."""
    received = np.asarray(received)
    spacing = np.spacing(np.abs(np.array([float(value) for value in expected])).astype(received.dtype))
    errors = zip(received.tolist(), expected, spacing.tolist(), strict=True)
    return max(abs(float((Decimal(r) - e) / Decimal(s))) for r, e, s in errors)


def some_counts(dtype):
    counts = np.unique(np.floor(np.geomspace(1, 1e8, 300)))
    return np.concatenate([np.arange(64), counts]).astype(dtype)


def some_pairs(dtype):
    """Counts with rates anywhere, within 10 standard deviations, around the switch of formulas, and next to the count."""
    rng = np.random.default_rng(0)
    x = np.floor(10 ** rng.uniform(0, 8, (4, 400))).astype(dtype)
    anywhere = 10 ** rng.uniform(-8, 9, 400)
    close = np.abs(x[1] + rng.uniform(-10, 10, 400) * np.sqrt(x[1])) + 1e-3
    switch = x[2] * np.exp(rng.uniform(-1.2, 1.2, 400))
    next_to = x[3] * (1 + rng.choice([-1, 1], 400) * 10 ** rng.uniform(-15, -1, 400))
    return x.ravel(), np.stack([anywhere, close, switch, next_to]).astype(dtype).ravel()


def test_reference_agrees_with_itself_where_its_two_formulas_meet():
    with localcontext(prec=DIGITS + 20):
        expected = Decimal(math.factorial(3001)).ln()
        received = exact_log_factorial(3001)
    assert abs(received - expected) < Decimal("1e-48")


@FLOATS
def test_stirling_error_is_right_to_three_ulps(dtype):
    x = some_counts(dtype)[1:]
    expected = exactly(lambda n: -exact_log_mass_at_mean(int(n)) - (2 * PI * int(n)).ln() / 2, x)
    assert worst_ulps(stirling_error(x), expected) < 3


@FLOATS
def test_log_mass_at_mean_is_right_to_two_ulps(dtype):
    x = some_counts(dtype)
    expected = exactly(lambda n: exact_log_mass_at_mean(int(n)), x)
    assert worst_ulps(log_mass_at_mean(x), expected) < 2


@FLOATS
def test_log_mass_of_no_counts_at_mean_zero_is_zero(dtype):
    received = log_mass_at_mean(jnp.zeros(2, dtype))
    assert received.dtype == dtype and (received == 0).all()


@FLOATS
def test_deviance_is_right_to_eight_ulps(dtype):
    x, rate = some_pairs(dtype)
    assert worst_ulps(deviance(x, rate), exactly(exact_deviance, x, rate)) < 8


@FLOATS
def test_log_mass_is_right_to_eight_ulps(dtype):
    x, rate = some_pairs(dtype)
    expected = exactly(lambda n, r: exact_log_mass_at_mean(int(n)) - exact_deviance(n, r), x, rate)
    assert worst_ulps(log_mass_at_mean(x) - deviance(x, rate), expected) < 8


@FLOATS
def test_deviance_is_never_negative_and_zero_at_the_rate(dtype):
    x, rate = some_pairs(dtype)
    assert (deviance(x, rate) >= 0).all()
    assert (deviance(x, x) == 0).all()


@FLOATS
def test_deviance_of_no_counts_is_the_rate(dtype):
    expected = np.array([0, 1e-8, 1, 1e9], dtype)
    received = deviance(jnp.zeros(4, dtype), jnp.asarray(expected))
    np.testing.assert_array_equal(received, expected)


@FLOATS
def test_deviance_of_counts_at_rate_zero_is_infinite(dtype):
    received = deviance(jnp.asarray([1, 1e8], dtype), jnp.zeros(2, dtype))
    np.testing.assert_array_equal(received, [np.inf, np.inf])


@FLOATS
def test_deviance_broadcasts_and_keeps_its_dtype_under_jit_and_vmap(dtype):
    x, rate = jnp.asarray([[[0, 3], [7, 40]]], dtype), jnp.asarray([[[1, 2]], [[9, 0.5]], [[3, 40]]], dtype)
    expected = np.vectorize(lambda x, rate: float(exact_deviance(x, rate)))(x, rate)
    for received in (jax.jit(deviance)(x, rate), jax.vmap(deviance, (None, 0))(x[0], rate)):
        assert received.dtype == dtype
        np.testing.assert_allclose(received, expected, rtol=8 * np.finfo(dtype).eps)


def test_nan_is_not_hidden():
    x, rate = jnp.asarray([jnp.nan, 2.0, 2.0]), jnp.asarray([2.0, jnp.nan, -1.0])
    assert jnp.isnan(deviance(x, rate)).all()


@FLOATS
def test_derivatives_are_right_to_four_ulps(dtype):
    x, rate = some_pairs(dtype)
    in_x, in_rate = jax.vmap(jax.grad(deviance, (0, 1)))(x, rate)
    assert worst_ulps(in_x, exactly(lambda n, r: (Decimal(float(n)) / Decimal(float(r))).ln(), x, rate)) < 4
    assert worst_ulps(in_rate, exactly(lambda n, r: 1 - Decimal(float(n)) / Decimal(float(r)), x, rate)) < 4


def test_forward_derivatives_equal_reverse_ones():
    x, rate = map(jnp.asarray, some_pairs(np.float64))
    expected = sum(jax.vmap(jax.grad(deviance, (0, 1)))(x, rate))
    received = jax.jvp(deviance, (x, rate), (jnp.ones_like(x), jnp.ones_like(rate)))[1]
    np.testing.assert_allclose(received, expected, rtol=1e-14)


@pytest.mark.parametrize("outer", [jax.jacfwd, jax.jacrev])
@pytest.mark.parametrize("inner", [jax.jacfwd, jax.jacrev])
def test_second_derivatives_are_one_over_x_and_x_over_rate_squared(inner, outer):
    x, rate = np.array([3.0, 4.0, 8.0, 1e8]), np.array([5.0, 4.0, 0.5, 1.1e8])
    expected = [[1 / x, -1 / rate], [-1 / rate, x / rate**2]]
    received = jax.jit(jax.vmap(outer(inner(deviance, (0, 1)), (0, 1))))(x, rate)
    np.testing.assert_allclose(received, expected, rtol=1e-12)


@FLOATS
def test_derivatives_are_finite_at_the_edges(dtype):
    x, rate, expected = np.array([0, 0, 3, 3], dtype), np.array([0, 3, 0, 3], dtype), [[0, 0, 0, 0], [1, 1, 0, 0]]
    received = jax.jit(jax.vmap(jax.grad(deviance, (0, 1))))(x, rate)
    np.testing.assert_array_equal(received, expected)
    second = jax.jit(jax.vmap(jax.hessian(deviance, (0, 1))))(x, rate)
    assert np.isfinite(second).all()


@FLOATS
def test_derivative_in_the_rate_sums_over_broadcast_rows(dtype):
    x, rate = jnp.asarray([[[0], [3], [7]]], dtype), jnp.asarray([[[2]], [[5]]], dtype)
    expected = (3 - 10 / rate).ravel()
    received = jax.grad(lambda rate: deviance(x, rate).sum())(rate).ravel()
    np.testing.assert_allclose(received, expected, rtol=1e-6)


@pytest.mark.each_time(6)
@FLOATS
@pytest.mark.parametrize("rate", [0.5, 5, 50, 500, 1e4, 1e5, 1e6, 1e7, 1e8])
def test_draws_have_poisson_mean_variance_and_skewness(dtype, rate):
    size = 100_000
    draws = drawn(jax.random.key(0), jnp.full(size, rate, dtype))
    assert draws.dtype == dtype and (draws >= 0).all() and (draws == jnp.round(draws)).all()
    scaled = (np.asarray(draws, np.float64) - rate) / math.sqrt(rate)
    received = [scaled.mean(), (scaled**2).mean(), (scaled**3).mean()]
    expected = [0, 1, rate**-0.5]
    errors = np.sqrt(np.array([1, 2 + 1 / rate, 15 + 104 / rate + 25 / rate**2 + 1 / rate**3]) / size)
    assert (np.abs(np.subtract(received, expected)) < 5 * errors).all()


@FLOATS
@pytest.mark.parametrize("rate", [9, 99, 100, 400])
def test_draws_have_the_poisson_distribution_on_both_sides_of_the_switch(dtype, rate):
    size = 100_000
    draws = np.asarray(drawn(jax.random.key(1), jnp.full(size, rate, dtype))).astype(int)
    received = np.cumsum(np.bincount(draws, minlength=1000)[:1000]) / size
    expected = np.cumsum([math.exp(x * math.log(rate) - rate - math.lgamma(x + 1)) for x in range(1000)])
    assert np.abs(received - expected).max() < 1.95 / math.sqrt(size)  # Kolmogorov's 0.1 % point


@FLOATS
def test_draws_at_rate_zero_are_zero_beside_any_other(dtype):
    draws = drawn(jax.random.key(0), jnp.asarray([[0, 1e8], [30, 0]], dtype))
    assert draws.shape == (2, 2) and draws[0, 0] == draws[1, 1] == 0 and draws[0, 1] > 9e7 and draws[1, 0] > 0


def test_many_equal_counts_are_tallied_in_float32_as_rightly_as_few():
    """Equal numbers added one by one to a large sum are rounded to the same side, by 1e-3 of it in the end."""
    model = jaxem.chunked(jaxem.single(families.negative_binomial()), 4096)
    x = np.arange(200_000) % 3
    params = families.NegativeBinomial(jnp.ones(1, "float32"), jnp.ones(1, "float32"))
    data = model.prepare(jnp.asarray(x, "float32"), None)
    stats, _ = jax.jit(model.e_step)(params, data, jnp.full(x.size, 0.7, "float32"))
    np.testing.assert_allclose(stats.tally[0, :3, 0], 0.7 * np.bincount(x), rtol=1e-5)
