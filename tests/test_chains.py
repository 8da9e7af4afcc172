"""Chains beside the enumeration of all their paths, in shares, in logarithms and by products over all of time."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem.at_once import smooth_at_once
from jaxem.chains import Chain, alone, best_path, entropy, filtered, smooth_alone

STEPS, STATES, CASES = 6, 3, 200


def random_case(seed):
    """A chain of one to three states with zeros here and there, densities of any size, and a length of one to six."""
    rng = np.random.default_rng(seed)
    k, length = seed % STATES + 1, rng.integers(1, STEPS + 1)
    initial, transition = np.zeros(STATES), np.eye(STATES)
    initial[:k], transition[:k, :k] = rng.dirichlet(np.ones(k)), rng.dirichlet(np.full(k, 0.5), size=k)
    if seed % 4 == 0:  # from left to right
        initial, transition = np.eye(STATES)[0], np.triu(transition)
        transition /= transition.sum(1, keepdims=True)
    log_density = rng.normal(size=(STEPS, STATES)) * 10.0 ** rng.integers(-1, 4)
    log_density[rng.random((STEPS, STATES)) < 0.1] = -np.inf
    log_density[rng.random(STEPS) < 0.2] = 0.0  # nothing was seen
    with np.errstate(divide="ignore"):
        return np.log(initial), np.log(transition), log_density, length


def enumerated(log_initial, log_transition, log_density, length):
    """log p(x), posteriors of states and moves, what is known by each time, H(Q), the best path's height: by all paths."""
    paths, (most, num) = np.array(list(itertools.product(range(len(log_initial)), repeat=length))), log_density.shape
    height = log_initial[paths[:, 0]] + log_density[0, paths[:, 0]]
    prefix = [height]
    for t in range(1, length):
        height = height + log_transition[paths[:, t - 1], paths[:, t]] + log_density[t, paths[:, t]]
        prefix.append(height)
    total = np.logaddexp.reduce(height)
    states, moves, known = np.zeros((most, num)), np.zeros((num, num)), np.zeros((most, num))
    if total == -np.inf:
        return total, states, moves, known, 0.0, -np.inf
    q = np.exp(height - total)
    for t in range(length):
        weights = np.exp(prefix[t] - np.logaddexp.reduce(prefix[t]))
        np.add.at(states[t], paths[:, t], q)
        np.add.at(known[t], paths[:, t], weights)
        if t:
            np.add.at(moves, (paths[:, t - 1], paths[:, t]), q)
    return total, states, moves, known, -(q * np.log(np.where(q > 0, q, 1))).sum(), height.max()


@jax.jit
@jax.vmap
def found(log_initial, log_transition, log_density, length):
    chain, stream = Chain(log_initial, log_transition), alone(log_density, length)
    known = filtered(chain, stream, jnp.zeros(STATES))
    by_each = Chain(log_initial, jnp.broadcast_to(log_transition, (STEPS, STATES, STATES)))
    ways = [smooth_alone(chain, log_density, length), smooth_at_once(chain, log_density, length)]
    ways.append(smooth_alone(by_each, log_density, length))
    ways[2] = ways[2]._replace(transitions=ways[2].transitions.sum(0))
    return ways, known, entropy(chain, stream), best_path(chain, stream)


@pytest.fixture(scope="module")
def cases():
    given = [np.stack(leaves) for leaves in zip(*map(random_case, range(CASES)), strict=True)]
    expected = [np.stack(leaves) for leaves in zip(*(enumerated(*random_case(seed)) for seed in range(CASES)), strict=True)]
    return given, expected, jax.device_get(found(*given))


@pytest.mark.parametrize("way", [0, 1, 2], ids=["step by step", "at once", "transitions of each step"])
def test_what_all_steps_say_is_what_the_enumeration_of_all_paths_says(cases, way):
    _, (total, states, moves, *_), (ways, *_) = cases
    log_prob = ways[way].log_prob.sum(1)
    assert (np.isfinite(log_prob) == np.isfinite(total)).all() and np.isinf(total).any() and np.isfinite(total).any()
    possible = np.isfinite(total)
    np.testing.assert_allclose(log_prob[possible], total[possible], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ways[way].states, states, atol=1e-9)
    np.testing.assert_allclose(ways[way].transitions, moves, atol=1e-9)


def test_what_is_known_by_each_step_is_what_the_paths_so_far_say(cases):
    (*_, length), (total, _, _, known, *_), (_, received, *_) = cases
    there = (np.arange(STEPS) < length[:, None]) & np.isfinite(total)[:, None]
    np.testing.assert_allclose(np.exp(received.log_states)[there], known[there], atol=1e-10)


def test_the_entropy_is_that_of_all_paths(cases):
    _, (total, *_, expected, _), (_, _, received, _) = cases
    possible = np.isfinite(total)
    np.testing.assert_allclose(received[possible], expected[possible], atol=1e-9)


def test_the_best_path_is_as_high_as_the_highest_of_all(cases):
    (log_initial, log_transition, log_density, length), (*_, expected), (*_, (paths, height)) = cases
    np.testing.assert_allclose(height, expected, rtol=1e-12, atol=1e-12)
    for case in np.flatnonzero(np.isfinite(expected)):
        path = paths[case][: length[case]]
        seen = log_initial[case, path[0]] + log_transition[case, path[:-1], path[1:]].sum()
        seen += log_density[case, np.arange(len(path)), path].sum()
        np.testing.assert_allclose(seen, expected[case], rtol=1e-12, atol=1e-12)


def in_logarithms(log_initial, log_transition, log_density):
    """log p(x) and the states' posterior by plain loops in float64."""
    steps = [log_initial + log_density[0]]
    for row in log_density[1:]:
        steps.append(np.logaddexp.reduce(steps[-1][:, None] + log_transition, axis=0) + row)
    message, states = np.zeros(len(log_initial)), []
    for t in reversed(range(len(log_density))):
        states.append(np.exp(steps[t] + message - np.logaddexp.reduce(steps[t] + message)))
        message = np.logaddexp.reduce(log_transition + log_density[t] + message, axis=1)
    return np.logaddexp.reduce(steps[-1]), np.array(states[::-1])


@pytest.mark.parametrize("spread", [1.0, 1e5])
@pytest.mark.parametrize("stay", [0.9, 1 - 1e-7, 1.0])
def test_long_chains_are_right_in_float32_whatever_their_densities(stay, spread):
    """The path that wins in the end may be e^-100000 of another by the way."""
    rng, length = np.random.default_rng(0), 3000
    leave = 1 - stay
    with np.errstate(divide="ignore"):
        log_transition = np.log(np.array([[stay, leave, 0], [leave / 2, stay, leave / 2], [0, 0, 1]]))
    log_density = -spread * rng.random((length, STATES)).astype(np.float32)
    log_initial = np.log(np.array([0.5, 0.3, 0.2]))
    total, states = in_logarithms(log_initial, log_transition, log_density.astype(np.float64))
    chain = Chain(*(jnp.asarray(part, jnp.float32) for part in (log_initial, log_transition)))
    received = jax.jit(smooth_alone)(chain, jnp.asarray(log_density), jnp.asarray(length))
    assert received.states.dtype == np.float32
    np.testing.assert_allclose(received.log_prob.astype(np.float64).sum(), total, rtol=1e-4)
    if spread == 1.0:
        np.testing.assert_allclose(received.states, states, atol=2e-3)
    np.testing.assert_allclose(received.states.sum(1), 1, atol=1e-4)
