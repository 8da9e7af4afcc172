"""Large counts in few digits, and rates of zero."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, families


def log_mass(x, rate):
    if rate == 0:
        return 0.0 if x == 0 else -math.inf
    return x * math.log(rate) - rate - math.lgamma(x + 1)


@pytest.mark.parametrize(("dtype", "atol"), [("float64", 1e-11), ("float32", 1e-3)])  # terms are as large as 7000
def test_the_log_mass_is_that_of_the_formula_entry_by_entry(dtype, atol):
    x = np.array([[0, 3, 0], [5, 0, 900], [12, 0, 1100], [0, 0, 1000]])
    rate = np.array([[4.0, 0.0, 1000.0], [0.0, 2.0, 1050.0], [7.5, 0.5, 20.0]])
    family = families.poisson()
    received = family.evaluate(families.Poisson(jnp.asarray(rate, dtype)), family.prepare(jnp.asarray(x, dtype), None))[0]
    expected = [[sum(log_mass(a, b) for a, b in zip(row, rates, strict=True)) for rates in rate] for row in x.tolist()]
    np.testing.assert_allclose(received, expected, rtol=1e-6, atol=atol)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("rates", [(300, 330), (1000, 1060), (5000, 5150)])
def test_in_float32_large_counts_converge_slowly_to_the_maximum_of_float64(rates):
    rng = np.random.default_rng(0)
    x = rng.poisson(np.where(rng.random(3000) < 0.4, *rates))
    model = jaxem.mixture(families.poisson(), 2)
    single = jnp.asarray(x, "float32")
    fit = jaxem.fit(model, model.init(jax.random.key(0), single), single)
    assert fit.status == Status.CONVERGED
    double = jnp.asarray(x, "float64")
    maximum = jaxem.fit(model, jax.tree.map(lambda leaf: leaf.astype("float64"), fit.params), double)
    assert maximum.log_likelihood - maximum.history[0] < 0.1
