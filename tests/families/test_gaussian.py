"""The guard against collapse, and numerics that the mixture tests do not reach."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, families
from jaxem.families.gaussian.family import Gaussian, GaussianStats


def collapsing(dim=2):
    rng = np.random.default_rng(0)
    return jnp.asarray(np.concatenate([rng.normal(size=(60, dim)), np.full((5, dim), 9.0)]))


def start_on_the_tied_rows(form, dim=2):
    covariance = {"full": jnp.stack([jnp.eye(dim)] * 2), "diag": jnp.ones((2, dim)), "spherical": jnp.ones(2)}[form]
    return jaxem.Mixture(jnp.array([0.9, 0.1]), Gaussian(jnp.array([[0.0] * dim, [9.0] * dim]), covariance))


@pytest.mark.parametrize("form", ["full", "diag", "spherical"])
def test_a_collapse_is_held_reported_and_still_ascends(form):
    model = jaxem.mixture(families.gaussian(form), 2)
    fit = jaxem.fit(model, start_on_the_tied_rows(form), collapsing())
    assert fit.status == Status.DEGENERATE
    assert np.isfinite(fit.log_likelihood)
    history = fit.history[: fit.num_steps + 1]
    assert np.diff(history).min() > -1e-9


@pytest.mark.parametrize("form", ["full", "diag", "spherical"])
def test_without_the_guard_a_collapse_is_not_finite(form):
    model = jaxem.mixture(families.gaussian(form, variance_floor=0), 2)
    fit = jaxem.fit(model, start_on_the_tied_rows(form), collapsing())
    assert fit.status == Status.NONFINITE


def stats_of(scatter, counts):
    """Statistics about means at 0, the total variances of which are those of the scatter."""
    k, dim = scatter.shape[:2]
    zeros = jnp.zeros((k, dim))
    return GaussianStats(counts, zeros, zeros, scatter)


def objective(covariance, scatter, count):
    return -count * np.linalg.slogdet(covariance)[1] - np.trace(np.linalg.solve(covariance, scatter))


def test_the_held_covariance_is_the_best_one_above_the_floor():
    """Random covariances that respect the floor never do better."""
    rng = np.random.default_rng(0)
    family = families.gaussian("full", variance_floor=0.2)
    scatter = jnp.asarray(np.stack([np.diag([40.0, 0.5, 8.0]), np.diag([20.0, 30.0, 10.0])]))
    counts = jnp.array([10.0, 20.0])
    total = np.asarray(scatter.sum(0)).diagonal() / 30
    params = Gaussian(jnp.zeros((2, 3)), jnp.stack([jnp.eye(3)] * 2))
    held = np.asarray(family.m_step(params, stats_of(scatter, counts)).covariance[0])
    assert family.degenerate(params, stats_of(scatter, counts))
    scale = np.sqrt(np.outer(total, total))
    np.testing.assert_array_less(0.2 - 1e-12, np.linalg.eigvalsh(held / scale))
    best = objective(held, np.asarray(scatter[0]), 10.0)
    for _ in range(2000):
        noise = rng.normal(size=(3, 3)) * rng.uniform(0, 0.5)
        values, vectors = np.linalg.eigh(held / scale + noise + noise.T)
        other = (vectors * np.maximum(values, 0.2)) @ vectors.T * scale
        assert objective(other, np.asarray(scatter[0]), 10.0) <= best + 1e-9


def test_the_guard_does_not_touch_a_regular_covariance():
    scatter = jnp.asarray(np.stack([np.diag([40.0, 5.0]), np.diag([20.0, 30.0])]))
    params, stats = Gaussian(jnp.zeros((2, 2)), jnp.stack([jnp.eye(2)] * 2)), stats_of(scatter, jnp.array([10.0, 20.0]))
    guarded, free = families.gaussian("full"), families.gaussian("full", variance_floor=0)
    np.testing.assert_array_equal(guarded.m_step(params, stats).covariance, free.m_step(params, stats).covariance)
    assert not guarded.degenerate(params, stats)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("dim", [2, 5])
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_densities_of_distant_clusters_agree_with_float64(form, dim):
    """In float32, clusters 1e3 standard deviations apart; the product path alone would lose all digits there."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(20, dim)), rng.normal(size=(20, dim)) + 1e3])
    shape = {"full": (2, dim, dim), "tied": (dim, dim), "diag": (2, dim), "spherical": (2,)}[form]
    covariance = np.broadcast_to(np.eye(dim), shape) if form in ("full", "tied") else np.ones(shape)
    params = Gaussian(np.array([[0.0] * dim, [1e3] * dim]), covariance)
    single = jax.tree.map(lambda leaf: jnp.asarray(leaf, "float32"), (params, x))
    family = families.gaussian(form)

    def log_prob(params, x):
        return family.evaluate(params, family.prepare(x, None))[0]

    expected = log_prob(*jax.tree.map(lambda leaf: jnp.asarray(leaf, "float64"), single))
    received = log_prob(*single)
    own = np.arange(40) // 20
    np.testing.assert_allclose(received[np.arange(40), own], expected[np.arange(40), own], atol=5e-3)


def test_affine_maps_of_the_data_map_the_fit():
    x, shift = jaxem.datasets.faithful(), jnp.array([[100.0, -3.0]])
    transform = jnp.array([[2.0, 0.5], [0.0, 0.1]])
    model = jaxem.mixture(families.gaussian(), 2)
    start = model.init(jax.random.key(0), x)
    mapped = start._replace(
        components=Gaussian(start.components.mean @ transform + shift, transform.T @ start.components.covariance @ transform)
    )
    expected = jaxem.fit(model, start, x, tol=-np.inf, max_steps=20)
    received = jaxem.fit(model, mapped, x @ transform + shift, tol=-np.inf, max_steps=20)
    jacobian = 272 * np.log(abs(np.linalg.det(transform)))
    np.testing.assert_allclose(received.history, expected.history - jacobian, rtol=1e-10)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_in_float32_a_start_five_thousand_deviations_away_finds_the_variances(form):
    """About the old mean squares have no digits left for the variances; the next step takes them from nearer by."""
    x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32") + np.float32(5000)
    shape = {"full": (1, 3, 3), "tied": (3, 3), "diag": (1, 3), "spherical": (1,)}[form]
    covariance = np.broadcast_to(np.eye(3), shape) if form in ("full", "tied") else np.ones(shape)
    model = jaxem.mixture(families.gaussian(form), 1)
    fit = jaxem.fit(model, jaxem.Mixture(np.ones(1), Gaussian(np.zeros((1, 3)), covariance)), jnp.asarray(x))
    assert fit.status == Status.CONVERGED
    received = families.full_covariances(form, fit.params.components)[0]
    expected = np.cov(x.T.astype(float), bias=True)
    if form in ("diag", "spherical"):
        expected = np.diag(np.diag(expected)) if form == "diag" else np.diag(expected).mean() * np.eye(3)
    np.testing.assert_allclose(received, expected, atol=1e-3)


@pytest.mark.parametrize("form", ["full", "diag"])
def test_in_float32_an_absent_component_far_away_costs_the_others_no_digits(form):
    x = np.random.default_rng(0).normal(size=(100, 5)).astype("float32")
    covariance = np.broadcast_to(np.eye(5), (2, 5, 5)) if form == "full" else np.ones((2, 5))
    mean = np.stack([np.zeros(5), np.full(5, 1e6)])
    params = jaxem.Mixture(jnp.array([1, 0], "float32"), Gaussian(*(jnp.asarray(p, "float32") for p in (mean, covariance))))
    received = jaxem.mixture(families.gaussian(form), 2).e_step(params, jnp.asarray(x), jnp.ones(100, "float32"))[1]
    expected = -0.5 * (x.astype(float) ** 2).sum() - 0.5 * 100 * 5 * np.log(2 * np.pi)
    np.testing.assert_allclose(received, expected, rtol=1e-6)


@pytest.mark.parametrize("form", ["full", "tied", "diag", "spherical"])
def test_in_float32_one_row_far_away_costs_the_others_no_digits(form):
    x = np.random.default_rng(0).normal(size=(100, 5)).astype("float32")
    shape = {"full": (2, 5, 5), "tied": (5, 5), "diag": (2, 5), "spherical": (2,)}[form]
    covariance = np.broadcast_to(np.eye(5), shape) if form in ("full", "tied") else np.ones(shape)
    mean = np.stack([np.zeros(5), np.ones(5)])
    params = jaxem.Mixture(jnp.array([0.5, 0.5], "float32"), Gaussian(*(jnp.asarray(p, "float32") for p in (mean, covariance))))
    model = jaxem.mixture(families.gaussian(form), 2)
    far = np.concatenate([x, np.full((1, 5), 1e9, "float32")])
    received = model.e_step(params, jnp.asarray(far), jnp.asarray(np.append(np.ones(100), 0), "float32"))
    expected = model.e_step(params, jnp.asarray(x), jnp.ones(100, "float32"))
    chex.assert_trees_all_close(received, expected, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(model.log_prob(params, far)[:100], model.log_prob(params, x), rtol=1e-5)
