"""Starts: from responsibilities, and around params at hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families, initialize

X = jnp.asarray(np.random.default_rng(0).normal(size=(30, 2)))


def test_from_responsibilities_is_the_m_step_of_those_responsibilities():
    model = jaxem.mixture(families.gaussian(), 2)
    labels = np.arange(30) % 2
    params = initialize.from_responsibilities(model, X, np.eye(2)[labels])
    for k in range(2):
        rows = np.asarray(X)[labels == k]
        np.testing.assert_allclose(params.components.mean[k], rows.mean(0), rtol=1e-12)
        np.testing.assert_allclose(params.components.covariance[k], np.cov(rows.T, bias=True), rtol=1e-12)


def test_responsibilities_of_another_shape_are_refused():
    model = jaxem.mixture(families.gaussian(), 2)
    with pytest.raises(ValueError, match=r"responsibilities has shape \(30, 3\), needs \(30, 2\)"):
        initialize.from_responsibilities(model, X, np.ones((30, 3)))


def test_a_component_responsible_for_nothing_starts_as_a_random_one_does():
    model = jaxem.mixture(families.gaussian(), 3)
    received = initialize.from_responsibilities(model, X, np.eye(3)[np.arange(30) % 2])
    expected = model.init(0, X).components
    np.testing.assert_array_equal(received.components.mean[2], expected.mean[2])
    assert received.weights[2] == 0


@pytest.mark.parametrize("bad", [-0.1, np.nan])
def test_responsibilities_that_are_no_shares_are_refused(bad):
    responsibilities = np.ones((30, 2))
    responsibilities[4, 1] = bad
    with pytest.raises(ValueError, match="responsibilities has NaN or negative values, needs shares"):
        initialize.from_responsibilities(jaxem.mixture(families.gaussian(), 2), X, responsibilities)


MIXTURE = jaxem.mixture(families.gaussian(), 2)
PARAMS = jaxem.Mixture(
    jnp.array([0.4, 0.6]),
    families.Gaussian(jnp.array([[0.0, 1e-3], [2.0, 500.0]]), jnp.array([[[1.0, 0.2], [0.2, 1.0]], [[4.0, 0.0], [0.0, 1e4]]])),
)


@pytest.mark.thorough
def test_jittered_starts_begin_with_the_params_themselves_and_all_lie_in_the_domain():
    starts = jaxem.jitter(MIXTURE, 0, PARAMS, 5)
    assert [leaf.shape[0] for leaf in jax.tree.leaves(starts)] == [5, 5, 5]
    for received, expected in zip(jax.tree.leaves(starts), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(received[0], expected, rtol=1e-12)
    np.testing.assert_allclose(starts.weights.sum(1), 1, rtol=1e-12)
    assert (np.linalg.eigvalsh(starts.components.covariance) > 0).all()
    assert len({float(value) for value in starts.components.mean[:, 0, 0]}) == 5


def test_noise_is_of_the_scale_asked_for_in_unconstrained_space():
    model = jaxem.mixture(families.poisson(), 2)
    params = jaxem.Mixture([0.3, 0.7], families.Poisson([3.0, 1e5]))
    starts = jaxem.jitter(model, jax.random.key(1), params, 4001, scale=0.1)
    logs = np.log(np.asarray(starts.components.rate[1:]) / np.array([3.0, 1e5]))
    np.testing.assert_allclose(logs.mean(0), 0, atol=0.01)
    np.testing.assert_allclose(logs.std(0), [0.1, 0.1], rtol=0.05)


@pytest.mark.thorough
def test_noise_of_scale_zero_is_the_params_every_time():
    starts = jaxem.jitter(MIXTURE, 0, PARAMS, 3, scale=0.0)
    for received, expected in zip(jax.tree.leaves(starts), jax.tree.leaves(PARAMS), strict=True):
        np.testing.assert_allclose(received, jnp.stack([expected] * 3), rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params": PARAMS._replace(weights=jnp.array([0.5, np.nan]))}, "params lie on the boundary .*move them inside"),
        ({"key": None}, "key must be one random key"),
        ({"num": 0}, "num must be at least 1, got 0"),
        ({"model": families.gaussian()}, "model must be a Model, got Family"),
    ],
)
def test_what_cannot_be_jittered_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        jaxem.jitter(**({"model": MIXTURE, "key": 0, "params": PARAMS, "num": 3} | change))
