"""Hidden Markov models: published fits, sequences of many lengths, and what is said of states afterwards."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import MODELS, counts, in_time
from scipy.stats import norm
from test_chains import enumerated

import jaxem
from jaxem import families
from jaxem.at_once import smooth_at_once
from jaxem.chains import Chain, smooth_alone
from jaxem.models import streams


@pytest.fixture(scope="module")
def earthquakes():
    return jaxem.hmm(families.poisson(), 2)


def poisson_params(initial, transition, rates):
    return jaxem.HMM(jnp.array(initial), jnp.array(transition), families.Poisson(jnp.array(rates)))


def test_earthquakes_end_where_others_do_along_the_same_way(reference, table, earthquakes):
    case, data = reference("poisson_hmm_earthquakes_k2"), jaxem.sequences(table("earthquakes")[:, 1])
    start = poisson_params(*(case["init"][name] for name in ("initial", "transition", "rates")))
    fit = jaxem.fit(earthquakes, start, data, tol=1e-13)
    expected = case["expected"]
    assert fit.status == jaxem.Status.CONVERGED
    np.testing.assert_allclose(fit.history[:20], expected["trace_first20"], atol=1e-8)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-6)
    np.testing.assert_allclose(fit.params.components.rate, expected["rates"], atol=1e-4)
    np.testing.assert_allclose(fit.params.transition, expected["transition"], atol=1e-4)
    states = earthquakes.posterior(fit.params, data).states
    np.testing.assert_allclose(states[0, -1], expected["posterior_last"], atol=1e-6)


@pytest.mark.thorough
def test_waiting_times_at_old_faithful_end_where_others_do_along_the_same_way(reference):
    case, data = reference("gaussian_hmm_faithful_waiting_k2"), jaxem.sequences(jaxem.datasets.faithful()[:, 1:])
    given = {name: jnp.array(value) for name, value in case["init"].items()}
    start = jaxem.HMM(given["initial"], given["transition"], families.Gaussian(given["means"], given["covs"]))
    fit = jaxem.fit(jaxem.hmm(families.gaussian(), 2), start, data, tol=1e-13)
    expected = case["expected"]
    np.testing.assert_allclose(fit.history[:20], expected["trace_first20"], atol=1e-7)
    np.testing.assert_allclose(fit.log_likelihood, expected["loglik"], atol=1e-6)
    np.testing.assert_allclose(fit.params.components.mean, expected["means"], atol=1e-4)
    np.testing.assert_allclose(fit.params.components.covariance, expected["covs"], atol=1e-4)


def test_inference_is_that_of_all_paths_enumerated(reference):
    case = reference("hmm_bruteforce_T6")
    given, expected = {name: jnp.array(value) for name, value in case["params"].items()}, case["expected"]
    model, data = jaxem.hmm(families.categorical(4), 3), jaxem.sequences(case["params"]["y"])
    params = jaxem.HMM(given["initial"], given["transition"], families.Categorical(given["emission"]))
    q, (paths, height) = model.posterior(params, data), jaxem.viterbi(model, params, data)
    np.testing.assert_allclose(model.log_prob(params, data), [expected["loglik"]], atol=1e-10)
    np.testing.assert_allclose(q.states[0], expected["smoothed"], atol=1e-10)
    np.testing.assert_allclose(q.transitions[0], expected["sum_pairwise"], atol=1e-10)
    assert paths[0].tolist() == expected["viterbi"]
    np.testing.assert_allclose(height, [expected["viterbi_logprob"]], atol=1e-10)


PARAMS = poisson_params([0.7, 0.3], [[0.9, 0.1], [0.3, 0.7]], [2.0, 7.0])


def short_sequences():
    return in_time(counts(1, "float64")[:, 0])


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("size", "few"), [(0.5, 4), (7, 8)], ids=["parts", "whole"])
def test_blocks_of_time_change_nothing(size, few, monkeypatch):
    """Whatever the blocks cut through, and however many sequences are absent, or cut short."""
    family, data = families.poisson(), short_sequences()
    weights = jnp.array([1.0, 0, 2, 1, 0.5, 0, 1, 1, 0, 3])
    expected = jaxem.hmm(family, 2).e_step(PARAMS, data, weights)
    monkeypatch.setattr(streams, "MOST_BYTES", int(size * 16))
    monkeypatch.setattr(streams, "FEW", few)
    received = jaxem.hmm(family, 2, initial_concentration=1 + size).e_step(PARAMS, data, weights)  # a program of its own
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), received, expected)


def test_one_sequence_in_parts_is_that_in_one_piece(monkeypatch):
    """The last of six parts begins within the sequence, and needs what the five before it say."""
    data = jaxem.sequences(counts(1, "float64")[:23, 0])
    expected = jaxem.hmm(families.poisson(), 2).e_step(PARAMS, data, jnp.ones(1))
    for name, value in {"MOST_BYTES": 64, "WIDEST": 1, "FEW": 1}.items():
        monkeypatch.setattr(streams, name, value)
    received = jaxem.hmm(families.poisson(), 2, initial_concentration=1.25).e_step(PARAMS, data, jnp.ones(1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), received, expected)


def test_the_e_step_is_that_of_the_posterior_without_what_stands_beyond_lengths(earthquakes):
    data = short_sequences()
    beyond = np.arange(6)[None] >= np.asarray(data.lengths)[:, None]
    other = data._replace(values=np.where(beyond, np.nan, data.values))
    q = earthquakes.posterior(PARAMS, other)
    assert (np.asarray(q.states)[beyond] == 0).all()
    np.testing.assert_allclose(q.states.sum(2), ~beyond, atol=1e-12)
    weights = jnp.array([1.0, 0, 2, 1, 0.5, 0, 1, 1, 0, 3])
    stats, log_likelihood = earthquakes.e_step(PARAMS, other, weights)
    np.testing.assert_allclose(stats.moves, jnp.einsum("n,nij->ij", weights, q.transitions), atol=1e-12)
    np.testing.assert_allclose(stats.initial, weights @ q.states[:, 0], atol=1e-12)
    np.testing.assert_allclose(stats.states, weights @ q.states.sum(1), atol=1e-12)
    np.testing.assert_allclose(log_likelihood, weights @ earthquakes.log_prob(PARAMS, data), atol=1e-10)
    assert earthquakes.size(earthquakes.prepare(data, None)).tolist() == data.lengths.tolist()


def test_a_sequence_cut_in_two_is_less_probable_or_more_but_another_thing(earthquakes):
    whole, cut = jaxem.sequences([[1, 2, 7, 8]]), jaxem.sequences([[1, 2], [7, 8]])
    assert abs(earthquakes.log_prob(PARAMS, whole).sum() - earthquakes.log_prob(PARAMS, cut).sum()) > 0.1


def test_zeros_of_the_start_stay_zero_on_the_way_and_the_likelihood_rises():
    model, data = jaxem.hmm(families.poisson(), 3), short_sequences()
    start = poisson_params([1.0, 0, 0], [[0.6, 0.4, 0], [0, 0.7, 0.3], [0, 0, 1.0]], [2.0, 5.0, 9.0])
    fit = jaxem.fit(model, start, data, tol=1e-10)
    assert fit.status == jaxem.Status.CONVERGED
    zero = np.array([[0, 0, 1], [1, 0, 0], [1, 1, 0]], bool)
    assert (np.asarray(fit.params.transition)[zero] == 0).all() and fit.params.initial.tolist() == [1, 0, 0]
    history = np.asarray(fit.history)[: int(fit.num_steps) + 1]
    assert (np.diff(history) > -1e-10).all() and history[-1] > history[0] + 1


def test_impossible_sequences_have_no_probability_and_leave_others_alone():
    model = jaxem.hmm(families.labelled(families.poisson()), 2)
    params = poisson_params([1.0, 0.0], [[0.5, 0.5], [0.0, 1.0]], [2.0, 7.0])
    known = families.Labelled(np.array([[1.0, 2, 3], [1, 2, 3]]), np.array([[-1, 0, -1], [-1, 1, 0]]))
    data = jaxem.Sequences(known, [3, 3])
    log_prob, q = model.log_prob(params, data), model.posterior(params, data)
    assert np.isfinite(log_prob[0]) and log_prob[1] == -np.inf
    assert np.isfinite(q.states).all() and (q.states[1] == 0).all() and q.states[0, 1].tolist() == [1, 0]
    slope = jax.grad(lambda p: model.e_step(p, data, jnp.array([1.0, 0.0]))[1])(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_concentrations_count_as_moves_seen_before():
    data = short_sequences()
    model = jaxem.hmm(families.poisson(), 2, initial_concentration=3.0, transition_concentration=[[5.0, 1], [1, 5]])
    stats, _ = model.e_step(PARAMS, data, jnp.ones(10))
    received = model.m_step(PARAMS, stats)
    moved = np.asarray(stats.moves) + 4 * np.eye(2)
    np.testing.assert_allclose(received.initial, (np.asarray(stats.initial) + 2) / 14, atol=1e-12)
    np.testing.assert_allclose(received.transition, moved / moved.sum(1, keepdims=True), atol=1e-12)
    held = model.m_step(poisson_params([1.0, 0.0], [[1.0, 0.0], [0.3, 0.7]], [2.0, 7.0]), stats)
    np.testing.assert_allclose([held.initial, held.transition[0]], [[1, 0], [1, 0]], atol=1e-15)
    assert held.transition[1].min() > 0


def test_known_by_now_foretold_and_forecast_follow_from_a_plain_loop(earthquakes):
    data = short_sequences()
    known, foretold = jaxem.filtering(earthquakes, PARAMS, data), jaxem.predictive_log_prob(earthquakes, PARAMS, data)
    ahead = jaxem.forecast(earthquakes, PARAMS, data, 3)
    assert known.transitions is None
    rate, transition = np.asarray(PARAMS.components.rate), np.asarray(PARAMS.transition)
    for row, length in enumerate(data.lengths):
        prior = np.asarray(PARAMS.initial)
        for t in range(length):
            x = float(data.values[row, t])
            joint = prior * np.exp(x * np.log(rate) - rate - float(jax.lax.lgamma(x + 1.0)))
            np.testing.assert_allclose(foretold[row, t], np.log(joint.sum()), atol=1e-10)
            state = joint / joint.sum()
            np.testing.assert_allclose(known.states[row, t], state, atol=1e-10)
            prior = state @ transition
        for step in range(3):
            np.testing.assert_allclose(ahead.states[row, step], prior, atol=1e-10)
            prior = prior @ transition
    assert ahead.observations.weights is ahead.states
    np.testing.assert_allclose(foretold.sum(1), earthquakes.log_prob(PARAMS, data), atol=1e-10)


def test_samples_move_as_the_transitions_say(earthquakes):
    data, states = earthquakes.sample(0, PARAMS, (200, 40))
    states = np.asarray(states)
    assert data.values.shape == states.shape == (200, 40) and data.lengths.tolist() == [40] * 200
    moves = np.zeros((2, 2))
    np.add.at(moves, (states[:, :-1], states[:, 1:]), 1)
    np.testing.assert_allclose(moves / moves.sum(1, keepdims=True), PARAMS.transition, atol=0.03)
    np.testing.assert_allclose(np.bincount(states[:, 0]) / 200, PARAMS.initial, atol=0.1)
    np.testing.assert_allclose([np.asarray(data.values)[states == j].mean() for j in (0, 1)], [2, 7], atol=0.2)


@pytest.mark.thorough
def test_all_at_once_and_step_by_step_fit_the_same():
    data = short_sequences()
    fits = [jaxem.fit(jaxem.hmm(families.poisson(), 2, parallel=way), PARAMS, data, max_steps=10) for way in (False, True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-9), fits[0].params, fits[1].params)
    np.testing.assert_allclose(fits[0].history, fits[1].history, atol=1e-9)


@pytest.mark.thorough
def test_what_drives_the_moves_is_found_by_a_gate():
    """A chain that changes its state where a covariate is one, and mostly stays where it is zero."""
    rng = np.random.default_rng(0)
    turn, states = rng.random((40, 30)) < 0.3, np.zeros((40, 30), int)
    for t in range(1, 30):
        states[:, t] = np.where(rng.random(40) < np.where(turn[:, t], 0.9, 0.1), 1 - states[:, t - 1], states[:, t - 1])
    inputs = np.stack([np.ones(turn.shape), turn], -1)
    data = jaxem.Sequences(families.Gated(inputs, rng.poisson(np.where(states, 30.0, 3.0)).astype(float)), np.full(40, 30))
    model = jaxem.hmm(families.poisson(), 2, gate=families.softmax_regression())
    best = jaxem.fit_restarts(model, 0, data, num_restarts=4).best
    coefficients, order = np.asarray(best.params.transition.coefficients), np.argsort(best.params.components.rate)
    assert coefficients.shape == (2, 2, 2)
    logits = coefficients[order][..., order[1]] - coefficients[order][..., order[0]]  # of the state of high counts
    moved = 1 / (1 + np.exp(-logits @ np.array([[1.0, 1], [0, 1]])))
    np.testing.assert_allclose(moved, [[0.1, 0.9], [0.9, 0.1]], atol=0.06)
    q = model.posterior(best.params, data)
    assert q.transitions.shape == (40, 29, 2, 2)
    np.testing.assert_allclose(q.transitions.sum((2, 3)), 1, atol=1e-10)


def params_with(**changes):
    return PARAMS._replace(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x: m.log_prob(PARAMS, x.values), r"data must be jaxem.Sequences\(values, lengths\), got"),
        (lambda m, x: m.log_prob(PARAMS, x._replace(lengths=np.full(10, 7))), "lengths has values from 7 to 7"),
        (
            lambda m, x: jaxem.fit(m, params_with(transition=jnp.array([[0.9, 0.2], [0.3, 0.7]])), x),
            "params.transition must be",
        ),
        (
            lambda m, x: jaxem.fit(m, params_with(transition=jnp.ones((3, 3)) / 3), x),
            r"params.transition has shape \(3, 3\), needs \(2, 2\)",
        ),
        (lambda m, x: jaxem.fit(m, PARAMS, x._replace(values=np.full((10, 6), np.nan))), "NaN"),
        (lambda m, x: m.sample(0, PARAMS, 5), r"like must be a pair \(n, t\)"),
        (lambda m, x: m.sample(0, PARAMS, (5, 0)), r"like\[1\] must be at least 1"),
        (lambda m, x: m.init(0, jaxem.sequences([1.0])), "data has 1 steps in sequences"),
        (lambda m, x: jaxem.viterbi(jaxem.mixture(families.poisson(), 2), PARAMS, x), "viterbi needs a model built by hmm"),
        (lambda m, x: jaxem.forecast(m, PARAMS, x, 0), "steps must be at least 1"),
        (lambda m, x: jaxem.hmm(families.poisson(), 2, transition_concentration=0.5), "transition_concentration must be"),
        (lambda m, x: jaxem.hmm(families.poisson(), 2, initial_concentration=[1, 2, 3]), "initial_concentration must be"),
        (lambda m, x: jaxem.hmm(families.poisson(), 0), "num_states must be at least 1"),
        (lambda m, x: jaxem.hmm(families.poisson, 2), "family must be a Family"),
        (lambda m, x: jaxem.hmm(families.poisson(), 2, parallel="yes"), "parallel must be"),
        (
            lambda m, x: jaxem.hmm(families.poisson(), 2, gate=families.softmax_regression()).init(0, x),
            "values must be families.Gated",
        ),
    ],
)
def test_bad_input_is_one_line_that_names_the_place(call, message, earthquakes):
    with pytest.raises(ValueError, match=message) as caught:
        call(earthquakes, short_sequences())
    assert "\n" not in str(caught.value)


def test_models_of_chains_are_cached_and_say_how_they_were_made(earthquakes):
    assert jaxem.hmm(families.poisson(), 2, transition_concentration=np.ones((2, 2))) is earthquakes
    assert repr(earthquakes) == "hmm(poisson(), 2)"
    assert jaxem.num_free_parameters(earthquakes, PARAMS) == 1 + 2 + 2
    assert MODELS["chain of poisson"].build("float64")[0] is earthquakes


@pytest.mark.thorough
def test_standard_errors_are_those_of_differences_of_the_log_likelihood(earthquakes, table):
    """In five numbers: the share that begins in the first state, those that stay, and the rates."""
    data = jaxem.sequences(list(table("earthquakes")[:105, 1].reshape(15, 7)))
    start = poisson_params([0.6, 0.4], [[0.9, 0.1], [0.1, 0.9]], [15.5, 26.0])
    fit = jaxem.fit(earthquakes, start, data, tol=1e-12)
    errors = jaxem.standard_errors(earthquakes, fit, data)

    def height(theta):
        p, a, b, *rates = theta
        params = poisson_params([p, 1 - p], [[a, 1 - a], [1 - b, b]], rates)
        return float(earthquakes.log_prob(params, data).sum())

    at = np.array([fit.params.initial[0], *np.diag(fit.params.transition), *fit.params.components.rate])
    step = 1e-4 * at
    ways = np.diag(step)
    curvature = [
        [height(at + u + v) - height(at + u - v) - height(at - u + v) + height(at - u - v) for v in ways] for u in ways
    ]
    expected = np.sqrt(np.diag(np.linalg.inv(-np.array(curvature) / (4 * np.outer(step, step)))))
    found = errors.errors
    received = [found.initial[0], *np.diag(found.transition), *found.components.rate]
    np.testing.assert_allclose(received, expected, rtol=1e-3)


def test_the_end_of_one_long_sequence_is_a_maximum_on_the_boundary(reference, table, earthquakes):
    """A single sequence begins in one state for certain."""
    case, data = reference("poisson_hmm_earthquakes_k2"), jaxem.sequences(table("earthquakes")[:, 1])
    start = poisson_params(*(case["init"][name] for name in ("initial", "transition", "rates")))
    found = jaxem.certify(earthquakes, jaxem.fit(earthquakes, start, data, tol=1e-13), data)
    assert found.kind == jaxem.Stationarity.BOUNDARY


@pytest.mark.each_time(1)
@pytest.mark.parametrize(("dtype", "far"), [("float64", 40.0), ("float32", 15.0)])
def test_a_sequence_that_begins_where_no_state_may_is_possible_all_the_same(dtype, far):
    """The first state is certain, as after a fit to one sequence, and what was seen first is far from it."""
    params = jaxem.HMM([1.0, 0.0], [[0.9, 0.1], [0.2, 0.8]], families.Gaussian([[0.0], [far]], [[1.0], [1.0]]))
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params, is_leaf=lambda node: isinstance(node, list))
    model, x = jaxem.hmm(families.gaussian("diag"), 2), np.array([[far], [far], [far - 1]], dtype)
    density = norm(np.array([0.0, far])).logpdf(x.astype(float))
    with np.errstate(divide="ignore"):
        chain = np.log([1.0, 0.0]), np.log([[0.9, 0.1], [0.2, 0.8]])
    expected = enumerated(*chain, density, 3)[0]
    data = jaxem.sequences(x)
    np.testing.assert_allclose(model.log_prob(params, data), [expected], rtol=1e-6 if dtype == "float32" else 1e-12)
    np.testing.assert_allclose(jaxem.predictive_log_prob(model, params, data).sum(), expected, rtol=1e-6)
    np.testing.assert_allclose(model.posterior(params, data).states.sum(2), 1, atol=1e-6)


def test_draws_take_the_lengths_of_sequences_as_they_are_given(earthquakes):
    values, states = earthquakes.sample(0, PARAMS, jaxem.sequences([[0, 1, 9, 7], [0]]))
    assert values.values.shape == states.shape == (2, 4) and values.lengths.tolist() == [4, 1]


def test_covariates_of_the_first_step_are_not_looked_at():
    model = jaxem.hmm(families.poisson(), 2, gate=families.softmax_regression())
    rng = np.random.default_rng(0)
    x, u = rng.poisson(4.0, (3, 6)), np.stack([np.ones((3, 6)), rng.normal(size=(3, 6))], 2)
    params = PARAMS._replace(
        transition=families.SoftmaxRegression(jnp.array([[[0.0, 0.3], [0.0, -1.0]], [[0.0, 1.0], [0.0, 0.5]]]))
    )
    missing = u.copy()
    missing[:, 0] = np.nan
    found = [jaxem.Sequences(families.Gated(each, x), np.full(3, 6)) for each in (u, missing)]
    np.testing.assert_allclose(*(model.log_prob(params, data) for data in found), rtol=1e-12)
    assert np.isfinite(jaxem.fit(model, params, found[1], max_steps=5).log_likelihood)


def test_all_at_once_keeps_its_digits_where_densities_are_tiny():
    shift = -1e5 + np.random.default_rng(0).normal(size=(500, 2))
    chain = Chain(jnp.log(jnp.array([0.5, 0.5])), jnp.log(jnp.array([[0.9, 0.1], [0.2, 0.8]])))
    expected = smooth_alone(chain, jnp.asarray(shift), jnp.asarray(500)).states
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), (chain, jnp.asarray(shift)))
    rounded = smooth_alone(chain, single[1].astype(float), jnp.asarray(500)).states
    np.testing.assert_allclose(smooth_at_once(*single, jnp.asarray(500)).states, rounded, atol=1e-5)
    assert np.abs(rounded - expected).max() < 0.01
