"""Rows of known label: the posterior keeps to what is allowed, against a plain loop and mclust."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import normal_log_density, poisson_log_mass

import jaxem
from jaxem import Status, families
from jaxem.families import Labelled

MODEL = jaxem.mixture(families.labelled(families.poisson()), 3)
PARAMS = jaxem.Mixture(jnp.array([0.2, 0.5, 0.3]), families.Poisson(jnp.array([1.0, 4.0, 9.0])))
COUNTS = np.array([0, 1, 2, 3, 5, 8, 9, 12, 4, 6])
ONE_EACH = np.array([-1, 0, -1, 1, 1, -1, 2, -1, -1, 0])
SOME_EACH = np.array(
    [[True, True, True], [True, False, False], [False, True, True], [True, False, True]] * 2 + [[True] * 3] * 2
)


def allowed(labels):
    if labels.ndim == 2:
        return labels
    return np.array([[label in (-1, k) for k in range(3)] for label in labels])


def plain_posterior(labels):
    """Bayes' rule row by row over the components that are allowed: responsibilities and log-probabilities."""
    posterior, log_prob = np.zeros((10, 3)), np.zeros(10)
    for n, may in enumerate(allowed(labels)):
        joint = [
            float(PARAMS.weights[k]) * math.exp(poisson_log_mass(COUNTS[n], float(PARAMS.components.rate[k]))) if may[k] else 0
            for k in range(3)
        ]
        posterior[n], log_prob[n] = np.array(joint) / sum(joint), math.log(sum(joint))
    return posterior, log_prob


@pytest.mark.parametrize("labels", [ONE_EACH, SOME_EACH], ids=["one each", "some each"])
def test_forbidden_labels_have_no_share_and_no_part_in_the_log_likelihood(labels):
    posterior, log_prob = plain_posterior(labels)
    data = Labelled(COUNTS, labels)
    np.testing.assert_allclose(MODEL.posterior(PARAMS, data), posterior, atol=1e-13)
    np.testing.assert_allclose(MODEL.log_prob(PARAMS, data), log_prob, rtol=1e-12)
    weights = np.random.default_rng(0).uniform(0, 2, 10)
    stats, received = MODEL.e_step(PARAMS, data, jnp.asarray(weights))
    np.testing.assert_allclose(received, weights @ log_prob, rtol=1e-12)
    share = weights[:, None] * posterior
    new = MODEL.m_step(PARAMS, stats)
    np.testing.assert_allclose(new.weights, share.sum(0) / share.sum(), rtol=1e-12)
    np.testing.assert_allclose(new.components.rate, share.T @ COUNTS / share.sum(0), rtol=1e-12)


def test_labels_that_say_nothing_change_nothing():
    plain = jaxem.mixture(families.poisson(), 3)
    received, expected = jaxem.fit(MODEL, PARAMS, Labelled(COUNTS, np.full(10, -1))), jaxem.fit(plain, PARAMS, COUNTS)
    np.testing.assert_allclose(received.log_likelihood, expected.log_likelihood, rtol=1e-14)


def test_the_semi_supervised_maximum_on_iris_is_that_of_mclust(reference, table):
    expected = reference("ssc_iris_EEE_3")["expected"]
    *columns, labels = table("iris_ssc").T
    data = Labelled(np.stack(columns, 1), labels.astype(int))
    model = jaxem.mixture(families.labelled(families.gaussian("tied")), 3)
    search = jaxem.fit_restarts(model, jax.random.key(0), data, num_restarts=8, num_continued=8)
    best = search.best
    assert best.status == Status.CONVERGED
    assert jaxem.num_reached(search) >= 4
    np.testing.assert_allclose(best.log_likelihood, expected["loglik"], atol=1e-4)
    np.testing.assert_allclose(best.params.weights, expected["weights"], rtol=1e-3)  # in order: the labels say which is which
    np.testing.assert_allclose(best.params.components.mean, expected["means"], rtol=1e-3)
    np.testing.assert_allclose(best.params.components.covariance, expected["covariances"][0], rtol=1e-3)
    recomputed = 0.0
    for row, label in zip(data.data, data.labels, strict=True):
        may = [label] if label >= 0 else range(3)
        joint = [
            float(best.params.weights[k])
            * math.exp(
                normal_log_density(row, np.asarray(best.params.components.mean[k]), np.array(expected["covariances"][0]))
            )
            for k in may
        ]
        recomputed += math.log(sum(joint))
    np.testing.assert_allclose(best.log_likelihood, recomputed, atol=1e-3)


@pytest.mark.thorough
def test_with_known_labels_for_some_rows_every_start_gives_each_cluster_its_own_name():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=90)
    x = rng.normal(size=(90, 2)) + 8 * np.array([[0, 0], [1, 0], [0, 1]])[truth]
    labels = np.where(np.arange(90) % 10 == 0, truth, -1)
    assert len(set(labels)) == 4
    model = jaxem.mixture(families.labelled(families.gaussian()), 3)
    search = jaxem.fit_restarts(model, jax.random.key(0), Labelled(x, labels), num_restarts=16, num_continued=16)
    received = np.asarray(model.posterior(search.best.params, Labelled(x, labels))).argmax(1)
    np.testing.assert_array_equal(received, truth)
    assert jaxem.num_reached(search) >= 12


@pytest.mark.thorough
def test_samples_bear_their_labels():
    data, labels = MODEL.sample(jax.random.key(0), PARAMS, 5000)
    np.testing.assert_array_equal(data.labels, labels)
    for k in range(3):
        np.testing.assert_allclose(data.data[labels == k].mean(), PARAMS.components.rate[k], rtol=0.1)
    like, labels = MODEL.sample(jax.random.key(0), PARAMS, Labelled(COUNTS, ONE_EACH))
    assert like.data.shape == labels.shape == (10,)


def test_a_row_that_may_belong_to_no_component_is_impossible():
    labels = SOME_EACH.copy()
    labels[4] = False
    received = MODEL.log_prob(PARAMS, Labelled(COUNTS, labels))
    assert received[4] == -np.inf
    assert np.isfinite(np.delete(received, 4)).all()
    assert jaxem.fit(MODEL, PARAMS, Labelled(COUNTS, labels)).status == Status.NONFINITE


BAD_LABELS = {
    "beyond k": (np.where(ONE_EACH == 2, 3, ONE_EACH), "labels name 4 components, the model has 3"),
    "below -1": (ONE_EACH - 1, r"labels .*needs whole numbers \(n,\), -1 where unknown"),
    "fractions": (ONE_EACH + 0.5, r"labels has dtype float64 .*needs whole numbers"),
    "one column of numbers": (ONE_EACH[:, None], r"labels has .*shape \(10, 1\)"),
    "too wide": (np.ones((10, 4), bool), "labels name 4 components, the model has 3"),
    "too few": (ONE_EACH[:5], r"data has arrays of \[5, 10\] rows"),
}


@pytest.mark.parametrize(("labels", "message"), BAD_LABELS.values(), ids=BAD_LABELS)
def test_labels_that_the_model_cannot_have_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, PARAMS, Labelled(COUNTS, labels))


def test_data_without_labels_are_refused_by_name():
    with pytest.raises(ValueError, match=r"data must be families\.Labelled\(data, labels\), got ndarray"):
        jaxem.fit(MODEL, PARAMS, COUNTS)
    with pytest.raises(ValueError, match="family must be a Family"):
        families.labelled(families.poisson)
