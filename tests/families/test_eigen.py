"""Forms of covariance by volume, shape and orientation: mclust's fits, exact maximizers above the floor, one column."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import jaxem
from jaxem import Status, families
from jaxem.families.gaussian import eigen, spectrum
from jaxem.families.gaussian.family import GaussianStats
from jaxem.families.gaussian.floor import Least
from jaxem.starts import from_responsibilities

FORMS = ("EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")


@pytest.mark.each_time(3)
@pytest.mark.parametrize("form", FORMS)
def test_a_fit_to_iris_is_that_of_mclust(form, reference, table):
    expected = reference(f"mclust_iris_{form}_2")["expected"]
    x = jaxem.datasets.iris()
    model = jaxem.mixture(families.gaussian(form), 2)
    start = from_responsibilities(model, x, np.eye(2)[table("iris_G2").astype(int) - 1])
    fit = jaxem.fit(model, start, x, tol=1e-9)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-7)
    np.testing.assert_allclose(jaxem.bic(model, fit, x), expected["bic"], atol=1e-6)
    received = families.full_covariances(form, fit.params.components)[jnp.argsort(fit.params.weights)]
    in_order = np.array(expected["covariances"])[np.argsort(expected["weights"])]
    np.testing.assert_allclose(received, in_order, rtol=1e-4, atol=1e-5)


def scatters(k, dim, seed=0):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(k, dim, dim)) * np.exp(rng.normal(size=(k, 1, dim)))
    return jnp.asarray(roots @ roots.mT)


def begun(form, k, dim, orientation):
    """Params of one volume for all, with axes of falling size."""
    axes = np.exp(np.linspace(1, -1, dim))
    parts = np.ones(k if form[0] == "V" else ()), np.tile(axes, (k, 1)) if form[1] == "V" else axes, orientation
    return jax.tree.map(jnp.asarray, families.Gaussian(np.zeros((k, dim)), families.Eigen(*parts)))


def updated(form, params, scatter, counts, variance_floor=None):
    zeros = jnp.zeros_like(params.mean)
    stats = GaussianStats(jnp.asarray(counts), zeros, zeros, scatter)
    family = families.gaussian(form, variance_floor)
    family = family._replace(m_step=jax.jit(family.m_step), expected_log_prob=jax.jit(family.expected_log_prob))
    return family, stats, family.m_step(params, stats)


@pytest.mark.parametrize("form", ["EEV", "EVV"])
def test_order_and_signs_of_axes_are_kept(form):
    """The data's eigenvalues rise where eigh has them first, the old axes fall; reflections stay reflections."""
    old = np.stack([np.diag([-1.0, 1.0, 1.0]), np.linalg.qr(np.arange(9.0).reshape(3, 3) % 4)[0]])
    params = begun(form, 2, 3, old)
    spread = np.array([[9.0, 2.0, 1.0], [30.0, 5.0, 0.5]])
    scatter = jnp.asarray((old * spread[:, None, :]) @ old.mT)
    new = updated(form, params, scatter, [4.0, 6.0])[2].covariance
    np.testing.assert_allclose(new.orientation, old, atol=1e-12)
    assert (np.diff(new.axes) < 0).all()


@pytest.mark.each_time(2)
@pytest.mark.parametrize("dim", [5, 12])
@pytest.mark.parametrize("form", ["EVE", "VVE"])
def test_a_common_orientation_is_stationary_and_not_below_the_old_one(form, dim):
    params = begun(form, 3, dim, np.eye(dim))
    scatter = scatters(3, dim)
    family, stats, new = updated(form, params, scatter, [10.0, 30.0, 20.0])
    assert family.expected_log_prob(new, stats) > family.expected_log_prob(params, stats)
    d, v = np.asarray(new.covariance.orientation), eigen.variances(new.covariance, 3, dim)
    np.testing.assert_allclose(d.T @ d, np.eye(dim), atol=1e-14)
    inner = d.T @ np.asarray(scatter) @ d
    slope = (inner / v[:, None, :] - inner / v[:, :, None]).sum(0)
    assert np.abs(slope).max() < 1e-8 * np.abs(inner / v[:, None, :]).max()


def lost(spread, table, counts):
    """What an M-step minimizes, with variances (k, d) along the axes."""
    return float((np.asarray(counts)[:, None] * np.log(spread) + np.asarray(table) / spread).sum())


def spread_of(found):
    volume, axes = np.asarray(found.volume), np.asarray(found.axes)
    return np.broadcast_to(volume.reshape(-1, 1) * axes.reshape(-1, axes.shape[-1]), (3, 4))


def best_by_search(table, counts, bound, expand, size):
    """The least that a general optimizer finds, over logarithms of variances above the bound."""
    found = minimize(
        lambda free: lost(np.exp(expand(free)), table, counts),
        np.full(size, 0.5),
        constraints={"type": "ineq", "fun": lambda free: (expand(free) - np.log(bound)).ravel()},
        method="SLSQP",
        options={"maxiter": 2000, "ftol": 1e-15},
    )
    return found.fun


EXPAND = {
    spectrum.one_shape: (lambda free: free[:3, None] + free[None, 3:], 7),
    spectrum.one_volume: (
        lambda free: np.concatenate([free[:9].reshape(3, 3), free[9] - free[:9].reshape(3, 3).sum(1, keepdims=True)], 1),
        10,
    ),
}
TABLE = np.array([[8.0, 2.0, 1.0, 30.0], [2.0, 0.04, 9.0, 1.0], [60.0, 10.0, 4.0, 50.0]])
COUNTS = np.array([4.0, 3.0, 20.0])


@pytest.mark.parametrize("floor", [0.001, 0.7], ids=["free", "held"])
@pytest.mark.parametrize("solve", EXPAND)
def test_volumes_and_shapes_are_the_best_above_the_floor(solve, floor):
    least = Least(jnp.array([1.0, 1.2, 0.8]), floor * jnp.array([1.0, 0.5, 2.0, 1.0]))
    found = jax.jit(solve)(jnp.asarray(TABLE), jnp.asarray(COUNTS), least, jnp.ones(3))
    bound = np.asarray(least.component)[:, None] * np.asarray(least.axis)
    assert bool(found.held) == (floor > 0.1)
    assert (spread_of(found) >= bound * (1 - 1e-12)).all()
    np.testing.assert_allclose(np.prod(found.axes, axis=-1), 1, rtol=1e-12)
    expected = best_by_search(TABLE, COUNTS, bound, *EXPAND[solve])
    received = lost(spread_of(found), TABLE, COUNTS)
    assert abs(received - expected) < 1e-6


def test_one_column_has_the_models_e_and_v():
    x = jaxem.datasets.faithful()[:, 1]
    assert families.gaussian("E") is families.gaussian("tied")
    model = jaxem.mixture(families.gaussian("V"), 2)
    start = model.init(jax.random.key(0), x)
    received = jaxem.fit(model, start, x, max_steps=3)
    np.testing.assert_array_equal(received.history, jaxem.fit(model, start, x[:, None], max_steps=3).history)
    assert received.params.components.covariance.shape == (2, 1, 1)


def test_mclusts_names_of_the_four_plain_forms_are_taken():
    for name, form in {"VVV": "full", "EEE": "tied", "VVI": "diag", "VII": "spherical"}.items():
        assert families.gaussian(name) is families.gaussian(form)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("form", ["VEI", "VEE", "EVE", "VVE", "VEV", "EVV"])
def test_a_component_on_one_point_is_held_and_the_step_ascends(form):
    """From params above the floor, with a component whose rows are all equal."""
    orientation = {"I": None, "E": np.eye(3), "V": np.stack([np.eye(3)] * 2)}[form[2]]
    params = begun(form, 2, 3, orientation)
    scatter = scatters(2, 3).at[1].set(0)
    sums = jnp.diagonal(scatter, axis1=1, axis2=2) if form == "VEI" else scatter
    family, stats, new = updated(form, params, sums, [10.0, 5.0])
    assert family.degenerate(params, stats)
    assert np.isfinite(families.full_covariances(form, new)).all()
    assert family.expected_log_prob(new, stats) > family.expected_log_prob(params, stats)
    total = np.diagonal(np.asarray(scatter).sum(0)) / 15
    spread = np.asarray(eigen.variances(new.covariance, 2, 3))
    assert (spread >= 1e-10 * (total if form == "VEI" else total.min()) * (1 - 1e-9)).all()


def test_a_component_that_collapses_is_reported():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=(40, 2)), np.full((5, 2), 9.0)])
    mean = jnp.array([[0.0, 0.0], [9.0, 9.0]])
    start = jaxem.Mixture(jnp.array([0.9, 0.1]), families.Gaussian(mean, families.Eigen(jnp.ones(2), jnp.ones(2))))
    fit = jaxem.fit(jaxem.mixture(families.gaussian("VEI"), 2), start, x)
    assert fit.status == Status.DEGENERATE
    assert np.diff(fit.history[: fit.num_steps + 1]).min() > -1e-9
