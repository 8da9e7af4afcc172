"""Held parameters: no parameters any more, the others exact given those, and everything put back."""

import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import poisson_log_mass

import jaxem
from jaxem import Mixture, Status, families
from jaxem.families import Gaussian, Poisson

X = np.asarray(jaxem.datasets.faithful())[:60]
MODEL = jaxem.mixture(families.gaussian(), 2)
START = Mixture(
    jnp.array([0.4, 0.6]),
    Gaussian(jnp.array([[2.0, 55.0], [4.2, 80.0]]), jnp.array([np.diag([0.1, 30.0]), np.diag([0.2, 40.0])])),
)


def responsibilities(model, params):
    return np.asarray(model.posterior(params, X))


def stats_at(model, params):
    return model.e_step(params, model.prepare(X, None), jnp.ones(60))[0]


def test_equal_weights_give_the_steps_of_a_plain_loop():
    counts = np.random.default_rng(0).poisson(np.where(np.arange(40) % 4, 2.0, 9.0))
    frozen, start = jaxem.freeze(
        jaxem.mixture(families.poisson(), 2), Mixture([0.5, 0.5], Poisson([1.0, 5.0])), lambda p: p.weights
    )
    rate, expected = np.array([1.0, 5.0]), []
    for _ in range(11):
        last, total, number, value = rate, np.zeros(2), np.zeros(2), 0.0
        for x in counts:
            joint = np.array([0.5 * math.exp(poisson_log_mass(x, r)) for r in rate])
            total, number, value = total + joint / joint.sum() * x, number + joint / joint.sum(), value + math.log(joint.sum())
        rate = total / number
        expected.append(value)
    fit = jaxem.fit(frozen, start, counts, tol=-np.inf, max_steps=10)
    np.testing.assert_allclose(fit.history, expected, rtol=1e-12)
    np.testing.assert_allclose(fit.params.components.rate, last, rtol=1e-10)
    assert fit.params.weights is None
    assert jaxem.num_free_parameters(frozen, fit.params) == 2
    assert jaxem.bic(frozen, fit, counts) == pytest.approx(2 * math.log(40) - 2 * expected[-1])


def test_a_held_mean_leaves_the_scatter_about_it():
    frozen, start = jaxem.freeze(MODEL, START, lambda p: p.components.mean)
    r, mean = responsibilities(MODEL, START), np.asarray(START.components.mean)
    received = frozen.m_step(start, stats_at(frozen, start))
    expected = [sum(r[n, k] * np.outer(X[n] - mean[k], X[n] - mean[k]) for n in range(60)) / r[:, k].sum() for k in range(2)]
    np.testing.assert_allclose(received.components.covariance, expected, rtol=1e-10)
    np.testing.assert_allclose(received.weights, r.mean(0), rtol=1e-12)
    assert received.components.mean is None
    assert jaxem.num_free_parameters(frozen, start) == 1 + 2 * 3


def test_held_covariances_leave_the_models_own_means_to_the_bit():
    frozen, start = jaxem.freeze(MODEL, START, lambda p: p.components.covariance)
    received = frozen.m_step(start, stats_at(frozen, start))
    expected = MODEL.m_step(START, stats_at(MODEL, START))
    np.testing.assert_array_equal(received.components.mean, expected.components.mean)
    np.testing.assert_array_equal(received.weights, expected.weights)


def test_a_fit_ends_where_nothing_free_is_left_to_gain_and_thaw_puts_back_what_was_held():
    frozen, start = jaxem.freeze(MODEL, START, lambda p: (p.weights, p.components.mean))
    fit = jaxem.fit(frozen, start, X, tol=0)
    whole = jaxem.thaw(frozen, fit.params)
    assert fit.status == Status.CONVERGED
    np.testing.assert_array_equal(whole.weights, START.weights)
    np.testing.assert_array_equal(whole.components.mean, START.components.mean)
    np.testing.assert_allclose(MODEL.log_prob(whole, X).sum(), fit.log_likelihood, rtol=1e-12)

    def height(free):
        return MODEL.e_step(whole._replace(components=Gaussian(whole.components.mean, free)), jnp.asarray(X), jnp.ones(60))[1]

    slope = jax.grad(height)(whole.components.covariance)
    assert jnp.abs(slope * whole.components.covariance).max() < 1e-5 * 60
    received = jax.tree.leaves(frozen.init(0, X))
    np.testing.assert_array_equal(received, [MODEL.init(0, X).components.covariance])


@pytest.mark.thorough
def test_held_variances_on_which_a_component_would_collapse_are_no_collapse():
    x = np.concatenate([np.random.default_rng(0).normal(size=(30, 2)), np.full((5, 2), 9.0)])
    params = Mixture([0.8, 0.2], Gaussian(np.array([[0.0, 0.0], [8.0, 8.0]]), np.ones((2, 2))))
    model = jaxem.mixture(families.gaussian("diag"), 2)
    frozen, start = jaxem.freeze(model, params, lambda p: p.components.covariance)
    fit = jaxem.fit(frozen, start, x)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.components.mean[1], [9, 9], rtol=1e-9)
    free_variances, start = jaxem.freeze(model, params, lambda p: p.weights)
    assert jaxem.fit(free_variances, start, x).status == Status.DEGENERATE


def test_components_told_apart_by_what_is_held_keep_their_order_and_others_do_not():
    by_mean = jaxem.freeze(MODEL, START, lambda p: p.components.mean)[0]
    even = START._replace(weights=jnp.array([0.5, 0.5]))
    by_nothing = jaxem.freeze(MODEL, even, lambda p: p.weights)[0]
    axes = [
        [c.component_axes for c in jax.tree.leaves(m.constraints, is_leaf=jaxem.constraints.is_constraint)]
        for m in (by_mean, by_nothing)
    ]
    assert axes == [[(), ()], [(0,), (0,)]]


def test_a_count_of_the_models_own_loses_what_is_held():
    """A common shift of all logits changes nothing: of four entries three are free, without the rates one of two."""
    params = {"logits": jnp.array([0.3, 0.1]), "rate": jnp.array([1.0, 5.0])}
    model = jaxem.from_log_joint(lambda p, x, z: -x * p["rate"][z] + p["logits"][z], 2)._replace(
        num_free=lambda p: sum(len(leaf) for leaf in p.values()) - 1
    )
    frozen, start = jaxem.freeze(model, params, lambda p: p["rate"])
    assert jaxem.num_free_parameters(model, params) == 3
    assert jaxem.num_free_parameters(frozen, start) == 1


def test_a_frozen_model_is_known_by_what_it_holds_and_pickles():
    frozen, start = jaxem.freeze(MODEL, START, lambda p: p.components.mean)
    again, _ = jaxem.freeze(MODEL, START, lambda p: (p.components.mean,))
    other, _ = jaxem.freeze(MODEL, START, lambda p: p.components.covariance)
    assert again is frozen
    assert other != frozen
    assert pickle.loads(pickle.dumps(frozen)) is frozen
    single = jax.tree.map(lambda leaf: leaf.astype("float32"), start)
    assert frozen.log_prob(single, X.astype("float32")).dtype == "float32"
    chunked = jaxem.chunked(frozen, 20)
    np.testing.assert_allclose(chunked.log_prob(start, X), MODEL.log_prob(START, X), rtol=1e-12)
    np.testing.assert_array_equal(jaxem.thaw(chunked, start).components.mean, START.components.mean)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: jaxem.freeze(MODEL, START, lambda p: p.components.mean[0]),
            r"where\(params\) must point at whole leaves.*reparametrize",
        ),
        (lambda: jaxem.freeze(MODEL, START, lambda p: p.components.scale), r"where\(params\) must point at whole leaves"),
        (lambda: jaxem.freeze(MODEL, START, lambda p: ()), r"where\(params\) must point at leaves of params"),
        (lambda: jaxem.freeze(MODEL, START, lambda p: 1.0), r"where\(params\) must point at leaves of params.*got \[1\.0\]"),
        (lambda: jaxem.freeze(MODEL, START, lambda p: p), "leaves nothing to fit"),
        (
            lambda: jaxem.freeze(MODEL, START._replace(weights=jnp.array([0.5, 0.6])), lambda p: p.weights),
            r"params\.weights must be finite and on the simplex",
        ),
        (lambda: jaxem.freeze(MODEL, START.components, lambda p: p.mean), "params has structure"),
        (lambda: jaxem.freeze(jaxem.Model(len, len), START, lambda p: p.weights), r"needs model\.expected_log_joint"),
        (lambda: jaxem.thaw(MODEL, START), "needs a model that holds parameters"),
        (lambda: jaxem.thaw(jaxem.freeze(MODEL, START, lambda p: p.weights)[0], START), "needs that of a frozen model"),
        (lambda: jaxem.fit(jaxem.freeze(MODEL, START, lambda p: p.weights)[0], START, X), "params has structure"),
    ],
)
def test_what_cannot_be_held_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
