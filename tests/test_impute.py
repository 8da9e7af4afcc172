"""Holes filled by a fitted model: conditional means against plain loops, draws against their moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families

NAN = np.nan
MEAN, SIGMA = np.array([[0.0, 1.0, 2.0], [4.0, 4.0, 0.0]]), np.array([[2.0, 1.0, 0.3], [1.0, 1.5, 0.4], [0.3, 0.4, 0.5]])
PARAMS = jaxem.Mixture(jnp.array([0.3, 0.7]), families.Gaussian(jnp.asarray(MEAN), jnp.asarray(np.stack([SIGMA, SIGMA / 2]))))
MODEL = jaxem.mixture(families.gaussian(), 2)
ROWS = np.array([[1.0, np.nan, 2.0], [np.nan, np.nan, 0.5], [3.0, 4.0, 0.0], [np.nan, np.nan, np.nan], [np.nan, 2.5, np.nan]])


def conditional(row, k):
    """Mean and covariance of the holes of a row, given component k."""
    sigma = [SIGMA, SIGMA / 2][k]
    o, m = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
    slope = sigma[np.ix_(m, o)] @ np.linalg.inv(sigma[np.ix_(o, o)])
    return MEAN[k, m] + slope @ (row[o] - MEAN[k, o]), sigma[np.ix_(m, m)] - slope @ sigma[np.ix_(o, m)]


def test_holes_are_filled_by_their_conditional_means_and_nothing_else_is_touched():
    received = jaxem.impute(MODEL, PARAMS, families.observed(ROWS))
    posterior = np.asarray(MODEL.posterior(PARAMS, families.observed(ROWS)))
    assert received.shape == ROWS.shape
    for n, row in enumerate(ROWS):
        holes = np.isnan(row)
        np.testing.assert_array_equal(received[n][~holes], row[~holes])
        expected = sum(posterior[n, k] * conditional(row, k)[0] for k in range(2))
        np.testing.assert_allclose(received[n][holes], expected, rtol=1e-12)


@pytest.mark.thorough
def test_draws_have_the_moments_of_the_conditional_distribution():
    many = families.observed(np.repeat(ROWS, 4000, 0))
    drawn = np.asarray(jaxem.impute(MODEL, PARAMS, many, key=0)).reshape(5, 4000, 3)
    posterior = np.asarray(MODEL.posterior(PARAMS, families.observed(ROWS)))
    for n, row in enumerate(ROWS):
        holes = np.isnan(row)
        if not holes.any():
            continue
        means, covariances = zip(*(conditional(row, k) for k in range(2)), strict=True)
        mean = sum(p * m for p, m in zip(posterior[n], means, strict=True))
        second = sum(p * (c + np.outer(m - mean, m - mean)) for p, m, c in zip(posterior[n], means, covariances, strict=True))
        sd = np.sqrt(np.diag(second))
        np.testing.assert_array_less(np.abs(drawn[n][:, holes].mean(0) - mean), 5 * sd / np.sqrt(4000))
        received = np.cov(drawn[n][:, holes].T).reshape(second.shape)
        np.testing.assert_allclose(received / np.outer(sd, sd), second / np.outer(sd, sd), atol=0.12)


@pytest.mark.thorough
def test_draws_of_student_t_components_spread_as_the_distance_of_what_was_observed():
    """x_2 given x_1 = 6 is t of ν + 1 degrees of freedom, of variance (ν + 1)/(ν - 1) · (ν + δ)/(ν + 1) · (1 - ρ²)."""
    model = jaxem.single(families.student_t(dof=7.0))
    params = families.StudentT(jnp.zeros((1, 2)), jnp.array([[[1.0, 0.6], [0.6, 1.0]]]))
    drawn = jaxem.impute(model, params, families.observed(np.tile([6.0, np.nan], (20_000, 1))), key=1)[:, 1]
    variance = (7 + 36) / (7 - 1) * (1 - 0.36)
    np.testing.assert_allclose(drawn.mean(), 3.6, atol=5 * np.sqrt(variance / 20_000))
    np.testing.assert_allclose(drawn.var(), variance, rtol=0.08)


@pytest.mark.thorough
def test_counts_are_filled_by_expected_counts_or_by_counts():
    model = jaxem.mixture(families.poisson(), 2)
    params = jaxem.Mixture([0.5, 0.5], families.Poisson([[1.0, 2.0], [9.0, 20.0]]))
    data = families.observed([[0.0, np.nan], [12.0, np.nan], [np.nan, np.nan]])
    posterior = model.posterior(params, data)
    received = jaxem.impute(model, params, data)
    np.testing.assert_allclose(received[:, 1], posterior @ jnp.array([2.0, 20.0]), rtol=1e-12)
    drawn = np.asarray(jaxem.impute(model, params, data, key=3))
    np.testing.assert_array_equal(drawn, np.round(drawn))
    assert drawn[1, 1] > 5 > drawn[0, 0]


@pytest.mark.thorough
def test_holes_of_a_row_that_may_be_zero_whatever_its_component_says_are_filled_accordingly():
    """Given zeros in what was observed, with chance τ = π / (π + (1 - π) e^-λ) all of the row is zero."""
    model, share, rate = jaxem.single(families.zero_inflated(families.poisson())), 0.3, np.array([1.0, 6.0])
    params = families.ZeroInflated([share], families.Poisson(rate[None]))
    data = families.observed(np.tile([[0.0, NAN], [2.0, NAN], [NAN, NAN]], (2000, 1)))
    chance = np.array([share / (share + (1 - share) * np.exp(-rate[0])), 0, share])
    received = np.asarray(jaxem.impute(model, params, data))
    np.testing.assert_allclose(received[:3, 1], (1 - chance) * rate[1], rtol=1e-12)
    drawn = np.asarray(jaxem.impute(model, params, data, key=0)).reshape(-1, 3, 2)
    sd = np.sqrt((1 - chance) * (rate[1] + chance * rate[1] ** 2) / 2000)
    np.testing.assert_array_less(np.abs(drawn[:, :, 1].mean(0) - received[:3, 1]), 5 * sd)
    np.testing.assert_allclose((drawn[:, 2] == 0).all(1).mean(), share + (1 - share) * np.exp(-rate.sum()), atol=0.05)


def test_successes_are_filled_by_those_expected_among_their_trials_or_by_draws():
    model, params = (
        jaxem.mixture(families.binomial(), 2),
        jaxem.Mixture([0.5, 0.5], families.Binomial([[0.1, 0.2], [0.9, 0.6]])),
    )
    trials = np.array([[9.0, 50], [9, 1000], [9, 5]])
    data = families.Trials(families.observed([[0.0, np.nan], [9, np.nan], [np.nan, np.nan]]), trials)
    received = jaxem.impute(model, params, data)
    np.testing.assert_allclose(received[0], [0, 50 * 0.2], rtol=1e-6)
    np.testing.assert_allclose(received[2], [9 * 0.5, 5 * 0.4], rtol=1e-12)
    drawn = np.asarray(jaxem.impute(model, params, data, key=0))
    np.testing.assert_array_equal(drawn, np.round(drawn))
    assert drawn[1, 0] == 9 and 500 < drawn[1, 1] < 700
    again, _ = model.sample(0, params, data)
    np.testing.assert_array_equal(again.successes.mask, data.successes.mask)
    with pytest.raises(ValueError, match="trials has holes"):
        jaxem.impute(model, params, families.observed(families.Trials(trials, np.where(trials == 5, np.nan, trials))))


def test_parts_of_a_product_are_filled_together_and_labels_left_out():
    family = families.labelled(families.product(size=families.gaussian("diag"), yes=families.bernoulli()))
    model = jaxem.mixture(family, 2)
    components = {"size": families.Gaussian([[0.0], [8.0]], [[1.0], [1.0]]), "yes": families.Bernoulli([0.1, 0.9])}
    rows = {"size": families.observed([[0.1], [np.nan], [7.0]]), "yes": families.observed([np.nan, 1.0, np.nan])}
    data = families.Labelled(rows, [-1, 1, -1])
    received = jaxem.impute(model, jaxem.Mixture([0.5, 0.5], components), data)
    np.testing.assert_allclose(received["size"], [[0.1], [8.0], [7.0]])
    np.testing.assert_allclose(received["yes"], [0.1, 1.0, 0.9], atol=1e-6)
    drawn = jaxem.impute(model, jaxem.Mixture([0.5, 0.5], components), data, key=0)
    assert set(np.unique(drawn["yes"])) <= {0.0, 1.0}


def test_one_column_keeps_its_shape_and_what_has_no_holes_comes_back():
    model, params = jaxem.single(families.gaussian()), families.Gaussian([[1.0]], [[[1.0]]])
    np.testing.assert_array_equal(jaxem.impute(model, params, families.observed([3.0, np.nan])), [3.0, 1.0])
    np.testing.assert_array_equal(jaxem.impute(model, params, np.array([3.0, 2.0])), [3.0, 2.0])


def test_a_model_that_cannot_fill_holes_says_so_by_name():
    def log_joint(params, x, z):
        return -((x - params) ** 2)

    with pytest.raises(ValueError, match="impute needs a model built by mixture"):
        jaxem.impute(jaxem.from_log_joint(log_joint, 1), jnp.array(0.0), np.array([1.0]))
    with pytest.raises(ValueError, match="key must be"):
        jaxem.impute(MODEL, PARAMS, families.observed(ROWS), key="no")


def test_a_model_in_blocks_fills_as_the_model_itself():
    data = families.observed(ROWS)
    received = jaxem.impute(jaxem.chunked(MODEL, 2), PARAMS, data)
    np.testing.assert_allclose(received, jaxem.impute(MODEL, PARAMS, data), rtol=1e-12)
    assert jax.tree.leaves(received)[0].dtype == np.dtype("float64")


def test_repeated_measurements_are_drawn_each_from_the_component_of_its_row():
    model = jaxem.mixture(families.labelled(families.grouped(families.gaussian("diag"))), 2)
    params = jaxem.Mixture([0.5, 0.5], families.Gaussian([[0.0], [50.0]], [[1.0], [1.0]]))
    values = np.tile([[0.5, NAN, NAN], [NAN, 49.0, NAN]], (500, 1))[..., None]
    data = families.Labelled(families.Grouped(families.observed(values), np.full(1000, 3)), np.full(1000, -1))
    drawn = np.asarray(jaxem.impute(model, params, data, key=0))
    np.testing.assert_array_equal(drawn[~np.isnan(values)], values[~np.isnan(values)])
    for first, mean in ((0, 0.0), (1, 50.0)):
        holes = drawn[first::2][np.isnan(values[first::2])]
        np.testing.assert_allclose([holes.mean(), holes.std()], [mean, 1], atol=0.15)


def test_columns_with_totals_beside_those_with_holes_are_no_hindrance_to_draws():
    model = jaxem.single(families.product(shares=families.multinomial(), size=families.gaussian("diag")))
    params = {"shares": families.Multinomial([[0.5, 0.5]]), "size": families.Gaussian([[3.0]], [[1e-6]])}
    data = {"shares": np.array([[1, 2], [3, 0]]), "size": families.observed([NAN, 2.0])}
    received = jaxem.impute(model, params, data, key=0)
    np.testing.assert_array_equal(received["shares"], data["shares"])
    np.testing.assert_allclose(received["size"], [3, 2], atol=0.01)


@pytest.mark.thorough
def test_components_of_several_kinds_fill_holes_as_likely_as_they_are():
    kinds = families.union((families.gaussian(), 1), (families.student_t(dof=5.0), 1))
    model = jaxem.mixture(kinds, 2)
    t = families.StudentT(jnp.asarray(MEAN[1:]), jnp.asarray(SIGMA[None] / 2))
    params = jaxem.Mixture(PARAMS.weights, (families.Gaussian(jnp.asarray(MEAN[:1]), jnp.asarray(SIGMA[None])), t))
    data = families.observed(ROWS)
    received, posterior = np.asarray(jaxem.impute(model, params, data)), np.asarray(model.posterior(params, data))
    for n, row in enumerate(ROWS):
        holes = np.isnan(row)
        expected = sum(posterior[n, k] * conditional(row, k)[0] for k in range(2))
        np.testing.assert_allclose(received[n][holes], expected, rtol=1e-11)
        np.testing.assert_array_equal(received[n][~holes], row[~holes])
    assert np.isfinite(jaxem.impute(model, params, data, key=1)).all()
