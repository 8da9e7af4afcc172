"""Seeds: distinct rows, spread out, in proportion to their weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem import seeds

X = jnp.asarray(np.random.default_rng(0).normal(size=(30, 2)))
ONES = jnp.ones(30)


def rows_of(points, x):
    return [int(np.flatnonzero((np.asarray(x) == np.asarray(point)).all(1))[0]) for point in points]


@pytest.mark.parametrize("draw", [seeds.random_points, seeds.kmeans_plusplus])
def test_points_are_distinct_rows_of_positive_weight(draw):
    weights = ONES.at[::2].set(0)
    for seed in range(20):
        rows = rows_of(draw(jax.random.key(seed), X, weights, 5), X)
        assert len(set(rows)) == 5
        assert all(row % 2 for row in rows)


def test_kmeans_plusplus_draws_in_proportion_to_squared_distance():
    """Four points on a line: the second draw after the first has chances that follow from their squared distances."""
    x = jnp.array([[0.0], [1.0], [3.0], [7.0]])
    points = np.asarray(
        jax.vmap(lambda key: seeds.kmeans_plusplus(key, x, jnp.ones(4), 2))(jax.random.split(jax.random.key(0), 20_000))
    )
    second = points[points[:, 0, 0] == 0.0][:, 1, 0]
    expected = np.array([0, 1, 9, 49]) / 59
    received = np.array([(second == value).mean() for value in [0, 1, 3, 7]])
    np.testing.assert_allclose(received, expected, atol=0.02)


def test_kmeans_plusplus_does_not_depend_on_the_units_of_a_column():
    key = jax.random.key(3)
    expected = rows_of(seeds.kmeans_plusplus(key, X, ONES, 4), X)
    scaled = X * jnp.array([[1.0, 1024.0]])
    assert rows_of(seeds.kmeans_plusplus(key, scaled, ONES, 4), scaled) == expected


def test_kmeans_plusplus_goes_on_once_all_distinct_rows_are_drawn():
    x = jnp.array([[0.0], [1.0]])[np.arange(10) % 2]
    points = seeds.kmeans_plusplus(jax.random.key(0), x, jnp.ones(10), 4)
    assert np.isfinite(points).all()
    assert set(np.asarray(points).ravel()) == {0.0, 1.0}


def test_column_variances_are_weighted():
    weights = jnp.arange(30.0)
    expected = np.cov(np.asarray(X).T, aweights=np.asarray(weights), bias=True).diagonal()
    np.testing.assert_allclose(seeds.column_variances(X, weights), expected, rtol=1e-12)


@pytest.mark.parametrize("num_noise", [1, 3, 6])
def test_columns_of_noise_do_not_drown_the_one_that_tells_clusters_apart(num_noise):
    rng, labels = np.random.default_rng(0), np.arange(400) % 2
    x = jnp.asarray(np.concatenate([10.0 * labels[:, None] + rng.normal(size=(400, 1)), rng.normal(size=(400, num_noise))], 1))
    points = jnp.zeros((2, 1 + num_noise)).at[:, :2].set(jnp.array([[0.0, -0.5], [10.0, 0.5]]))
    received = seeds.soft_assignments(x, jnp.ones(400), points, jnp.ones(2))
    assert received[np.arange(400), labels].mean() > 0.99
