"""What is there for every model, for sequences: errors, influence, choice, held parameters, filled holes, many data sets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm, poisson

import jaxem
from jaxem import families

CHAIN, ALONE = jaxem.hmm(families.poisson(), 2), jaxem.hmm(families.poisson(), 1)
ONE = jaxem.HMM(jnp.ones(1), jnp.ones((1, 1)), families.Poisson(jnp.full(1, 10.0)))
LEVEL = jaxem.linear_gaussian(1, 1)
TIMES = np.arange(20)


@pytest.fixture
def shocks(table):
    """Return the numbers of earthquakes in fifteen sequences of seven years."""
    return table("earthquakes")[:105, 1].reshape(15, 7)


def of_level(noise, observation):
    one = jnp.ones((1, 1))
    return jaxem.LinearGaussian(jnp.zeros(1), one, one, noise * one, one, observation * one, None, None)


def levels():
    """Return twelve walks of twenty steps of variance .5 from a start of variance one, seen with variance two."""
    draws = np.random.default_rng(3)
    states = draws.normal(size=(12, 1)) + np.cumsum(np.sqrt(0.5) * draws.normal(size=(12, 20)) * (TIMES > 0), 1)
    return states + np.sqrt(2) * draws.normal(size=(12, 20))


@pytest.mark.thorough
def test_errors_of_a_local_level_are_those_of_the_dense_likelihood():
    walks = levels()

    def held(p):
        return (p.initial_mean, p.initial_covariance, p.transition, p.emission)

    model, start = jaxem.freeze(LEVEL, of_level(1.0, 1.0), held)
    data = jaxem.sequences(list(walks[:, :, None]))
    fit = jaxem.polish(model, jaxem.fit(model, start, data), data)

    def height(theta):
        covariance = 1 + theta[0] * np.minimum.outer(TIMES, TIMES) + theta[1] * np.eye(20)
        return multivariate_normal(np.zeros(20), covariance).logpdf(walks).sum()

    at = np.array([fit.params.transition_covariance.item(), fit.params.emission_covariance.item()])
    np.testing.assert_allclose(fit.log_likelihood, height(at), rtol=1e-10)
    ways = np.diag(1e-3 * at)
    slope = [height(at + u) - height(at - u) for u in ways]
    np.testing.assert_allclose(slope, 0, atol=1e-7)
    corners = [[[height(at + s * u + t * v) * s * t for s in (1, -1) for t in (1, -1)] for v in ways] for u in ways]
    curvature = np.sum(corners, 2)
    expected = np.linalg.inv(-curvature / (4 * np.outer(1e-3 * at, 1e-3 * at)))
    for method in ("observed", "oakes"):
        found = jaxem.standard_errors(model, fit, data, method=method)
        np.testing.assert_allclose(found.covariance, expected, rtol=1e-4)
    certificate = jaxem.certify(model, fit, data)
    assert certificate.kind == jaxem.Stationarity.MAXIMUM
    assert certificate.remaining < 1e-10


@pytest.mark.thorough
def test_the_influence_of_a_sequence_is_what_a_refit_with_a_little_less_of_it_moves(shocks):
    data = jaxem.sequences(list(shocks))
    start = jaxem.HMM(jnp.array([0.6, 0.4]), jnp.array([[0.9, 0.1], [0.1, 0.9]]), families.Poisson(jnp.array([15.5, 26.0])))
    fit = jaxem.polish(CHAIN, jaxem.fit(CHAIN, start, data), data)
    found = jaxem.influence(CHAIN, fit, data)
    assert found.shape == (15, 8)
    for row in (0, 6):
        ends = [jaxem.polish(CHAIN, fit, data, np.where(np.arange(15) == row, 1 + t, 1.0)) for t in (1e-3, -1e-3)]
        high, low = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(end.params)]) for end in ends)
        np.testing.assert_allclose(found[row], (low - high) / 2e-3, rtol=1e-4, atol=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["weighted", "multinomial"])
def test_whole_sequences_are_resampled(kind, shocks):
    """The rate of one state is Σ w S / Σ w T, of variance Σ (S - rate T)² / (Σ T)² in both, to first order."""
    data = jaxem.sequences(list(shocks))
    fit = jaxem.fit(ALONE, ONE, data)
    found = jaxem.bootstrap(ALONE, 0, fit, data, num_samples=1000, kind=kind)
    sums = shocks.sum(1)
    np.testing.assert_allclose(fit.params.components.rate, [shocks.mean()], rtol=1e-10)
    expected = np.sqrt(((sums - 7 * shocks.mean()) ** 2).sum()) / shocks.size
    np.testing.assert_allclose(found.errors.components.rate, [expected], rtol=0.12)


@pytest.mark.thorough
def test_sequences_held_out_have_the_probability_that_the_others_give_them(shocks):
    received = jaxem.cross_validate(ALONE, 0, jaxem.sequences(list(shocks)), num_folds=15)
    for i, row in enumerate(shocks):
        rate = np.delete(shocks, i, 0).mean()
        np.testing.assert_allclose(received[i], poisson(rate).logpmf(row).sum(), rtol=1e-8)


@pytest.mark.thorough
def test_numbers_of_states_are_compared_and_each_is_as_high_as_published(table):
    """Zucchini, MacDonald & Langrock (2016), Table 6.1: stationary chains of 2 and 3 states have -342.3183 and -329.4603."""
    candidates = {str(k): jaxem.hmm(families.poisson(), k) for k in (1, 2, 3)}
    found = jaxem.select(candidates, 0, jaxem.sequences(table("earthquakes")[:, 1]), num_restarts=16)
    rows = {row["name"]: row for row in found.table}
    np.testing.assert_allclose(rows["1"]["log_likelihood"], -391.9189, atol=1e-4)
    assert rows["2"]["log_likelihood"] >= -342.3183
    assert rows["3"]["log_likelihood"] >= -329.4603
    assert [rows[name]["num_free_parameters"] for name in "123"] == [1, 5, 11]
    for row in rows.values():
        np.testing.assert_allclose(row["bic"], row["num_free_parameters"] * np.log(107) - 2 * row["log_likelihood"], rtol=1e-10)
    assert found.best.name == min(rows, key=lambda name: rows[name]["bic"])


def plain_steps(x, initial, transition, rates, steps):
    """Baum and Welch's steps with rates that are held, by loops."""
    for _ in range(steps):
        first, moves = np.zeros(2), np.zeros((2, 2))
        for row in x:
            density = poisson(rates).pmf(row[:, None])
            ahead, behind = [initial * density[0]], [np.ones(2)]
            for d in density[1:]:
                ahead.append(ahead[-1] @ transition * d)
            for d in density[:0:-1]:
                behind.append(transition @ (d * behind[-1]))
            behind, total = behind[::-1], ahead[-1].sum()
            first += ahead[0] * behind[0] / total
            for t in range(1, len(row)):
                moves += np.outer(ahead[t - 1], density[t] * behind[t]) * transition / total
        initial, transition = first / first.sum(), moves / moves.sum(1, keepdims=True)
    return initial, transition


def test_rates_that_are_held_stay_and_the_moves_take_their_own_steps(shocks):
    start = jaxem.HMM(jnp.array([0.6, 0.4]), jnp.array([[0.9, 0.1], [0.3, 0.7]]), families.Poisson(jnp.array([15.0, 25.0])))
    model, free = jaxem.freeze(CHAIN, start, lambda p: p.components.rate)
    fit = jaxem.fit(model, free, jaxem.sequences(list(shocks)), max_steps=10)
    whole = jaxem.thaw(model, fit.params)
    initial, transition = plain_steps(shocks, np.array([0.6, 0.4]), np.array(start.transition), np.array([15.0, 25.0]), 10)
    np.testing.assert_array_equal(whole.components.rate, [15.0, 25.0])
    np.testing.assert_allclose(whole.initial, initial, rtol=1e-9)
    np.testing.assert_allclose(whole.transition, transition, rtol=1e-9)


@pytest.mark.thorough
def test_each_of_many_data_sets_of_sequences_has_its_own_maximum(shocks):
    sets = jaxem.Sequences(jnp.asarray(shocks.reshape(3, 5, 7)), jnp.full((3, 5), 7))
    each = jaxem.fit_each(ALONE, 0, sets, num_restarts=2)
    np.testing.assert_allclose(each.best.params.components.rate[:, 0], shocks.reshape(3, 35).mean(1), rtol=1e-8)


@pytest.mark.each_time(1)
@pytest.mark.parametrize("made", ["chain", "level"])
def test_fits_to_sequences_come_back_from_a_file(made, tmp_path, shocks):
    data = jaxem.sequences(list(shocks[..., None]))
    start = ONE if made == "chain" else of_level(1.0, 1.0)
    model, data = (ALONE, jaxem.sequences(list(shocks))) if made == "chain" else (LEVEL, data)
    fit = jaxem.fit(model, start, data, max_steps=3)
    jaxem.save(tmp_path / "fit.npz", fit)
    for received, expected in zip(*map(jax.tree.leaves, (jaxem.load(tmp_path / "fit.npz", fit), fit)), strict=True):
        np.testing.assert_array_equal(received, expected)


MEANS, SCALES = np.array([[0.0, 1.0], [3.0, 2.0]]), np.array([[1.0, 0.5], [0.5, 2.0]])
WITH_HOLES = np.array([[0.2, np.nan], [np.nan, np.nan], [np.nan, np.nan], [np.nan, 2.5]])
COVARIATES = np.array([[1.0, 0.3], [1.0, -1.0], [1.0, 2.0], [1.0, 0.5]])
SLOPES = np.array([[[0.0, 0.5], [0.0, 1.0]], [[0.0, -1.0], [0.0, 0.3]]])
SHARES = np.array([0.6, 0.4])


def moves_at(covariates):
    heights = np.exp(np.einsum("q,kqj->kj", covariates, SLOPES))
    return heights / heights.sum(1, keepdims=True)


def paths_with_holes():
    """Return all paths of two states, and the probability of each given what was seen, by enumeration."""
    density = np.array([[np.nansum(norm(MEANS[j], np.sqrt(SCALES[j])).logpdf(row)) for j in range(2)] for row in WITH_HOLES])
    paths = np.array(list(itertools.product(range(2), repeat=4)))
    height = [
        np.log(SHARES[path[0]])
        + sum(np.log(moves_at(COVARIATES[t])[path[t - 1], path[t]]) for t in (1, 2, 3))
        + density[TIMES[:4], path].sum()
        for path in paths
    ]
    chance = np.exp(height)
    return paths, chance / chance.sum()


GATED = jaxem.hmm(families.gaussian("diag"), 2, gate=families.softmax_regression())
DRIVEN = jaxem.HMM(SHARES, families.SoftmaxRegression(SLOPES), families.Gaussian(MEANS, SCALES))


def driven_with_holes(times):
    return jaxem.sequences([families.Gated(COVARIATES, families.observed(WITH_HOLES))] * times)


def test_holes_of_a_chain_are_filled_by_what_all_paths_say():
    paths, chance = paths_with_holes()
    expected = np.einsum("p,ptd->td", chance, MEANS[paths])
    received = jaxem.impute(GATED, DRIVEN, driven_with_holes(2))
    for row in received:
        np.testing.assert_allclose(row, np.where(np.isnan(WITH_HOLES), expected, WITH_HOLES), rtol=1e-10)


@pytest.mark.thorough
def test_holes_of_a_chain_drawn_together_move_together():
    """The product of what is drawn at two steps has the mean that the paths give it, not that of steps drawn apart."""
    paths, chance = paths_with_holes()
    drawn = np.asarray(jaxem.impute(GATED, DRIVEN, driven_with_holes(20_000), key=0))
    holes = np.isnan(WITH_HOLES)
    np.testing.assert_array_equal(drawn[:, ~holes], np.broadcast_to(WITH_HOLES[~holes], (20_000, 2)))
    both = drawn[:, 1, 0] * drawn[:, 2, 0]
    expected = chance @ (MEANS[paths[:, 1], 0] * MEANS[paths[:, 2], 0])
    apart = (chance @ MEANS[paths[:, 1], 0]) * (chance @ MEANS[paths[:, 2], 0])
    error = both.std() / np.sqrt(20_000)
    assert abs(both.mean() - expected) < 4 * error < abs(apart - expected)


def test_a_forecast_is_driven_by_covariates_to_come():
    paths, chance = paths_with_holes()
    states = np.array([chance[paths[:, -1] == j].sum() for j in range(2)])
    to_come = np.array([[[1.0, 0.2], [1.0, -0.7]], [[1.0, 5.0], [1.0, 0.0]]])
    ahead = jaxem.forecast(GATED, DRIVEN, driven_with_holes(2), to_come)
    for n in range(2):
        first = states @ moves_at(to_come[n, 0])
        np.testing.assert_allclose(ahead.states[n], [first, first @ moves_at(to_come[n, 1])], rtol=1e-10)


@pytest.mark.parametrize("steps", [3, np.ones((1, 2, 2)), np.ones((2, 2, 3)), np.ones((2, 0, 2)), np.ones(2)])
def test_covariates_to_come_of_another_shape_are_refused(steps):
    with pytest.raises(ValueError, match=r"steps must be the gate's covariates of 2 sequences to come, \(2, steps, …\)"):
        jaxem.forecast(GATED, DRIVEN, driven_with_holes(2), steps)
