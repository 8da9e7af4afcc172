"""Repeated measurements with one label each row, against plain loops over rows and their measurements."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxem
from jaxem import families

RATE = jnp.array([1.0, 6.0])
X = families.Grouped(np.array([[0.0, 2, np.nan], [7, 5, 6], [3, -1, 0.5], [9, 9, 9]]), np.array([2, 3, 1, 0]))


def test_the_log_density_of_a_row_is_the_sum_over_its_own_measurements_whatever_stands_beyond():
    family = families.grouped(families.poisson())
    received = jax.jit(lambda: family.evaluate(families.Poisson(RATE), family.prepare(X, None))[0])()
    expected = [
        [scipy.stats.poisson.logpmf(row[:count], rate).sum() for rate in RATE]
        for row, count in zip(X.values, X.count, strict=True)
    ]
    np.testing.assert_allclose(received, expected, rtol=1e-13)


def test_an_m_step_weighs_each_measurement_by_its_row():
    model = jaxem.mixture(families.grouped(families.poisson()), 2)
    shares = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5], [0.3, 0.7]])
    expected = [sum(shares[n, k] * X.values[n, :c].sum() for n, c in enumerate(X.count)) for k in range(2)]
    expected = np.array(expected) / (shares.T @ X.count)
    start = jaxem.initialize.from_responsibilities(model, X, shares)
    np.testing.assert_allclose(start.components.rate, expected, rtol=1e-12)
    np.testing.assert_allclose(start.weights, shares.mean(0), rtol=1e-12)


def test_bic_counts_measurements():
    model = jaxem.mixture(families.grouped(families.poisson()), 2)
    np.testing.assert_array_equal(model.size(model.prepare(X, None)), X.count)


def test_groups_are_in_order_of_first_appearance_whatever_their_ids_are():
    values = {"size": np.arange(10.0).reshape(5, 2), "visits": np.arange(5)}
    for ids in (["b", "a", "b", "c", "a"], np.array([7, 3, 7, 5, 3]), [(1, 2), None, (1, 2), 0, None]):
        received = families.groups(values, ids)
        np.testing.assert_array_equal(received.count, [2, 2, 1])
        np.testing.assert_array_equal(received.values["visits"], [[0, 2], [1, 4], [3, 3]])
        np.testing.assert_array_equal(received.values["size"][0], [[0, 1], [4, 5]])


def test_samples_keep_the_counts():
    model = jaxem.mixture(families.grouped(families.poisson()), 2)
    drawn, _ = model.sample(0, jaxem.Mixture(jnp.array([0.5, 0.5]), families.Poisson(RATE)), X)
    np.testing.assert_array_equal(drawn.count, X.count)
    assert drawn.values.shape == (4, 3)


def test_what_is_no_such_data_is_refused_by_name():
    family = families.grouped(families.poisson())
    for data, says in (
        (np.zeros((3, 2)), "data must be families.Grouped"),
        (families.Grouped(np.zeros((3, 2)), np.zeros(2, int)), "needs .n, m. and .n,."),
        (families.Grouped(np.zeros((3, 2)), np.full(3, 3)), "needs whole numbers from 0 to 2"),
        (families.Grouped(np.zeros((3, 2)), np.zeros(3)), "needs whole numbers from 0 to 2"),
        (families.Grouped(np.full((3, 2), -1), np.ones(3, int)), "counts"),
    ):
        with pytest.raises(ValueError, match=says):
            family.prepare(data, None)
    for ids in (np.zeros((3, 1), int), [[1], [2], [1]], [1.0, np.nan, 2.0], "abc", 3, None, np.array("abc")):
        with pytest.raises(ValueError, match=r"^ids has .* needs one for each row of values"):
            families.groups([1.0, 2.0, 3.0], ids)
    with pytest.raises(ValueError, match=r"values has .3. rows and ids 2"):
        families.groups(np.zeros(3), [1, 2])
    with pytest.raises(ValueError, match="like must be data"):
        jaxem.single(family).sample(0, families.Poisson(RATE[:1]), 3)


def test_one_measurement_each_is_the_family_itself():
    x = np.array([0.3, 1.0, 5.0, 7.0])
    family, plain = families.grouped(families.gamma()), families.gamma()
    params = families.Gamma(jnp.array([2.0, 9.0]), jnp.array([1.0, 2.0]))
    data = family.prepare(families.Grouped(x[:, None], np.ones(4, int)), None)
    received = jax.jit(lambda: family.evaluate(params, data)[0])()
    expected = jax.jit(lambda: plain.evaluate(params, plain.prepare(x, None))[0])()
    np.testing.assert_allclose(received, expected, rtol=1e-14)
