"""The bootstrap against formulas in closed form and refits one by one; components in and out of order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.families import Poisson

POISSONS = jaxem.mixture(families.poisson(), 2)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("kind", ["weighted", "multinomial", "parametric"])
def test_errors_and_intervals_of_a_rate_are_those_in_closed_form(kind):
    """Frequencies stand for rows: 300 of them in 12 rows. With 1 000 samples a standard deviation is known to 2.2 %."""
    x, weights = np.unique(np.random.default_rng(0).poisson(3.0, 300), return_counts=True)
    model = jaxem.single(families.poisson())
    fit = jaxem.fit(model, model.init(0, x, weights), x, weights)
    found = jaxem.bootstrap(model, 1, fit, x, weights, num_samples=1000, kind=kind)
    mean, variance = (weights @ x) / 300, weights @ (x - (weights @ x) / 300) ** 2 / 300
    expected = np.sqrt((mean if kind == "parametric" else variance) / 300)
    np.testing.assert_allclose(found.errors.rate, [expected], rtol=0.07)
    lower, upper = (float(end.rate[0]) for end in found.intervals)
    np.testing.assert_allclose([lower, upper], mean + 1.96 * expected * np.array([-1, 1]), atol=0.25 * expected)
    assert found.replicates.rate.shape == (1000, 1) and found.statuses.shape == (1000,)


@pytest.mark.thorough
def test_replicates_are_refits_to_drawn_weights_with_components_in_the_fits_order():
    x = np.random.default_rng(1).poisson([[2.0], [9.0]], (2, 60)).ravel()
    fit = jaxem.fit(POISSONS, jaxem.Mixture([0.5, 0.5], Poisson([2.0, 9.0])), x)
    found = jaxem.bootstrap(POISSONS, 0, fit, x, num_samples=40)
    rates = np.asarray(found.replicates.components.rate)
    assert (rates[:, 0] < rates[:, 1]).all() and len(np.unique(rates[:, 0])) == 40
    observed = jaxem.standard_errors(POISSONS, fit, x).errors
    np.testing.assert_allclose(found.errors.components.rate, observed.components.rate, rtol=0.5)
    again = jaxem.bootstrap(POISSONS, 0, fit, x, num_samples=40)
    np.testing.assert_array_equal(again.replicates.components.rate, rates)


@pytest.mark.thorough
def test_refits_whose_components_have_changed_places_are_put_in_the_fits_order():
    """An M-step that swaps them each time climbs as well, and ends in either order."""
    x = np.random.default_rng(1).poisson([[2.0], [9.0]], (2, 60)).ravel()

    def swapped(params, stats):
        return jax.tree.map(lambda leaf: leaf[::-1], POISSONS.m_step(params, stats))

    restless = POISSONS._replace(m_step=swapped)
    fit = jaxem.fit(POISSONS, jaxem.Mixture([0.5, 0.5], Poisson([2.0, 9.0])), x)
    ends = [jaxem.fit(restless, fit.params, x, max_steps=steps).params.components.rate for steps in (2, 3)]
    assert ends[0][0] < ends[0][1] and ends[1][0] > ends[1][1]
    found = jaxem.bootstrap(restless, 0, fit, x, num_samples=40, solver=jaxem.em())
    rates = np.asarray(found.replicates.components.rate)
    assert (rates[:, 0] < rates[:, 1]).all()


def test_components_that_are_not_declared_are_not_put_in_order():
    """One scale for both, and no constraints that say which array has a place for each."""

    def log_joint(params, x, z):
        return jnp.log(0.5) - jnp.square((x - params["mean"][z]) * jnp.exp(-params["scale"])) / 2 - params["scale"]

    model = jaxem.from_log_joint(log_joint, num_states=2)
    params, x = {"mean": jnp.array([0.0, 4.0]), "scale": jnp.array(0.0)}, np.array([0.0, 1.0, 5.0])
    for ask in (lambda: jaxem.match_components(model, params, params, x), lambda: jaxem.sort_components(model, params, [1, 2])):
        with pytest.raises(ValueError, match=r"model.constraints must declare which arrays have a place for each"):
            ask()
    declared = {"mean": jaxem.constraints.real, "scale": jaxem.constraints.real}
    model = jaxem.from_log_joint(log_joint, num_states=2, constraints=declared)
    np.testing.assert_array_equal(jaxem.sort_components(model, params, [2, 1])["mean"], [4, 0])


def test_what_cannot_be_resampled_is_refused_by_name():
    x, model = np.array([0.0, 1.0, 4.0]), jaxem.single(families.poisson())
    fit = jaxem.fit(model, model.init(0, x), x)
    for more, message in (
        ({"kind": "jackknife"}, "kind must be one of"),
        ({"level": 95}, "level must be a number between"),
        ({"weights": np.array([3.0, 0.0, 0.0])}, "of which data has one"),
        ({"weights": np.array([0.5, 1.0, 1.0]), "kind": "parametric"}, "whole numbers"),
        ({"weights": np.array([0.5, 0.5, 0.5]), "kind": "multinomial"}, "weights are frequencies"),
    ):
        with pytest.raises(ValueError, match=message):
            jaxem.bootstrap(model, 0, fit, x, **more)


def test_components_of_a_union_are_matched_within_their_kind():
    model = jaxem.mixture(families.union((families.poisson(), 2), (families.noise(0.01), 1)), 3)
    a, b = (
        jaxem.Mixture(jnp.array(weights), (Poisson(jnp.array(rate)), ()))
        for weights, rate in (([0.3, 0.5, 0.2], [2.0, 30.0]), ([0.6, 0.2, 0.2], [28.0, 2.5]))
    )
    received = jaxem.match_components(model, a, b, [0.0, 2.0, 3.0, 25.0, 31.0, 80.0])
    np.testing.assert_allclose(received.weights, [0.2, 0.6, 0.2])
    np.testing.assert_allclose(received.components[0].rate, [2.5, 28.0])


def three(order):
    weights, mean = np.array([0.5, 0.3, 0.2])[order], np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[order]
    return jaxem.Mixture(jnp.asarray(weights), families.Gaussian(jnp.asarray(mean), jnp.ones((2, 2))))


def test_components_are_sorted_and_matched_and_what_all_share_stays():
    model = jaxem.mixture(families.gaussian("tied"), 3)
    params, mixed = three([0, 1, 2]), three([2, 0, 1])
    params, mixed = (p._replace(components=p.components._replace(covariance=jnp.eye(2))) for p in (params, mixed))
    x = np.array([[0.1, 0.2], [4.2, 0.1], [0.0, 3.5], [-0.5, 0.3]])
    for received in (
        jaxem.sort_components(model, mixed),
        jaxem.sort_components(model, mixed, by=[2.0, 0.0, 1.0]),
        jaxem.match_components(model, params, mixed, x),
    ):
        jax.tree.map(np.testing.assert_array_equal, received, params)
    with pytest.raises(ValueError, match=r"one number for each of the 3 components"):
        jaxem.sort_components(model, mixed, by=lambda p: p.components.mean)
    told_apart = jaxem.mixture(families.gaussian("tied"), 3, concentration=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="means something"):
        jaxem.sort_components(told_apart, params)
