"""Hidden Markov chains: arrays in, arrays out.

A stream of s time steps holds one sequence after the other, whole or in part: `first` and `last` tell where each begins and
ends. Messages are carried in shares of one, step by step, which is fast, and right as long as no share that could matter
is too small for a float; where one is, the same is done in logarithms. Derivatives are those of the logarithms.
Rabiner (1989), §V.A; Devijver (1985).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.numerics import positive

LEAST = {32: 1e-15, 64: 1e-145}  # transition, whose square times what is too small for a float is still rounding


class Stream(NamedTuple):
    """What is known of a stream of steps beside its chain.

    log_density  (s, k) log p(x_t | z_t = j)
    first, last  (s,) booleans: where a sequence begins, and where it ends
    there        (s,) booleans: False where there is no step at all, after the last one of a sequence and before the next
    weights      (s,) of the sequence that a step is of
    """

    log_density: Array
    first: Array
    last: Array
    there: Array
    weights: Array


class Chain(NamedTuple):
    """log p(z_1 = j) (k,), and log p(z_t = j | z_t-1 = i) (k, k), or (s, k, k) of each step, void into a first one."""

    log_initial: Array
    log_transition: Array


class Filtered(NamedTuple):
    """log p(z_t | x_1 … x_t) (s, k), log p(x_t | x_1 … x_t-1) (s,)."""

    log_states: Array
    log_prob: Array


class Smoothed(NamedTuple):
    """What all steps say together.

    states       (s, k) p(z_t = j | x), zero where there is no step
    transitions  (k, k) Σ_t w_t p(z_t-1 = i, z_t = j | x), or (s, k, k) of each step where the chain's are
    log_prob     (s,) log p(x_t | x_1 … x_t-1), zero where there is no step
    leaving      (k,) logarithms of the message to the step before the first
    """

    states: Array
    transitions: Array
    log_prob: Array
    leaving: Array


def smooth(chain: Chain, stream: Stream, entering: Array, coming: Array) -> Smoothed:
    """Return what all steps of a stream say of its states.

    entering  (k,) log p(z_t | x_1 … x_t) of the step before the first, not looked at where a sequence begins there
    coming    (k,) the logarithms of the message from the step behind the last, not looked at where a sequence ends there
    """
    run = _smooth if chain.log_transition.ndim == 2 else _in_logs
    return run(chain, stream, entering, coming)


@jax.custom_jvp
def _smooth(chain: Chain, stream: Stream, entering: Array, coming: Array) -> Smoothed:
    quick, sound = _in_shares(chain, stream, entering, coming)
    return _unless(sound, quick, lambda given: _in_logs(*given), (chain, stream, entering, coming))


@_smooth.defjvp
def _smooth_slope(primals: Any, tangents: Any) -> Any:
    return jax.jvp(_in_logs, primals, tangents)


def filtered(chain: Chain, stream: Stream, entering: Array) -> Filtered:
    """Return what the steps up to each say of its state; -inf for what is impossible."""
    run = _filter if chain.log_transition.ndim == 2 else _forward_in_logs
    return run(chain, stream, entering)


@jax.custom_jvp
def _filter(chain: Chain, stream: Stream, entering: Array) -> Filtered:
    forward = _forward_in_shares(chain, stream, entering)
    quick = Filtered(jnp.log(forward.states), forward.log_prob)
    return _unless(forward.sound, quick, lambda given: _forward_in_logs(*given), (chain, stream, entering))


@_filter.defjvp
def _filter_slope(primals: Any, tangents: Any) -> Any:
    return jax.jvp(_forward_in_logs, primals, tangents)


def carried(chain: Chain, stream: Stream, entering: Array) -> Array:
    """Return what enters the stream behind this one: log p(z_t | x_1 … x_t) of its last step, (k,); without derivatives."""
    forward = _forward_in_shares(chain, stream, entering)
    given = chain, stream, entering
    return _unless(forward.sound, jnp.log(forward.states[-1]), lambda given: _forward_in_logs(*given).log_states[-1], given)


def _unless(sound: Array, quick: Any, exact: Callable[[Any], Any], operands: Any) -> Any:
    """Return `quick` where it is sound, else what is exact: by a loop of at most one turn, which lanes are spared too."""

    def again(carry: tuple[Array, Any]) -> tuple[Array, Any]:
        return jnp.asarray(True), exact(lax.optimization_barrier((carry[0], operands))[1])  # else it is lifted out of the loop

    return lax.while_loop(lambda carry: ~carry[0], again, (sound, quick))[1]


class _Shares(NamedTuple):
    """Of a pass forward: states (s, k) in shares of one, evidence (s, k) p(x_t | z_t = j) / p(x_t | x_1 … x_t-1)."""

    states: Array
    evidence: Array
    log_prob: Array
    sound: Array


def _forward_in_shares(chain: Chain, stream: Stream, entering: Array) -> _Shares:
    initial, transition, log_density = jnp.exp(chain.log_initial), jnp.exp(chain.log_transition), stream.log_density
    peak = finite(log_density.max(1))
    density = jnp.exp(log_density - peak[:, None])

    def step(joint: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        here, first = given
        joint = here * jnp.where(first, 1, joint @ transition / positive(joint.sum()))
        return joint, joint

    begun = density * jnp.where(stream.first[:, None], initial[None], 1)
    _, joint = lax.scan(step, jnp.exp(entering), (begun, stream.first))
    total = joint.sum(1)
    states = joint / positive(total)[:, None]
    lost = (joint < jnp.finfo(states.dtype).tiny) & (log_density > -jnp.inf) & stream.there[:, None]
    least = LEAST[jnp.finfo(states.dtype).bits]
    mixing = jnp.minimum(transition.min(), jnp.where(stream.there, total, 1).min()) >= least
    log_prob = jnp.where(stream.there, jnp.log(total) + peak, 0)
    return _Shares(states, density / positive(total)[:, None], log_prob, mixing | ~lost.any())


def _in_shares(chain: Chain, stream: Stream, entering: Array, coming: Array) -> tuple[Smoothed, Array]:
    """Return what `smooth` does, and whether nothing was lost."""
    forward, transition = _forward_in_shares(chain, stream, entering), jnp.exp(chain.log_transition)

    def step(message: Array, given: tuple[Array, Array]) -> tuple[Array, Array]:
        evidence, last = given
        return transition @ (evidence * jnp.where(last, 1, message)), message

    leaving, messages = lax.scan(step, jnp.exp(coming), (forward.evidence, stream.last), reverse=True)
    messages = jnp.where(stream.last[:, None], 1, messages)
    states = forward.states * messages
    share = positive(states.sum(1, keepdims=True))  # one, but for rounding
    inside = _inside(stream)[:, None]
    before = jnp.where(inside, jnp.concatenate([jnp.exp(entering)[None], forward.states[:-1]]), 0)
    moved = jnp.where(inside, forward.evidence * messages / share * stream.weights[:, None], 0)
    states = jnp.where(stream.there[:, None], states / share, 0)
    return Smoothed(states, transition * (before.T @ moved), forward.log_prob, jnp.log(leaving / share[0])), forward.sound


def _inside(stream: Stream) -> Array:
    """Tell which steps a transition leads to that counts, (s,): of sequences of weight zero none does."""
    return stream.there & ~stream.first & (stream.weights > 0)


def finite(peak: Array) -> Array:
    """Return what logarithms are taken from, without a slope, and zero where all are -inf."""
    return _finite_or_zero(lax.stop_gradient(peak))


def log_sum(terms: Array, axis: int) -> Array:
    """Return the logarithm of a sum of exponentials, -inf without a slope where all are zero."""
    peak = finite(terms.max(axis, keepdims=True))
    total = jnp.exp(terms - peak).sum(axis)
    some = total != 0
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + peak.squeeze(axis), -jnp.inf)


def _steps(chain: Chain) -> tuple[Array | None, Callable[[Any], Array]]:
    """Return what a scan over steps is given of the transitions, and what takes that to those of a step."""
    if chain.log_transition.ndim == 3:
        return chain.log_transition, lambda each: each
    return None, lambda _: chain.log_transition


def _forward_in_logs(chain: Chain, stream: Stream, entering: Array) -> Filtered:
    states, total, peak = _passed(chain, stream, entering)
    return Filtered(states, jnp.where(stream.there, total + peak, 0))


def _passed(chain: Chain, stream: Stream, entering: Array) -> tuple[Array, Array, Array]:
    """Return log p(z_t | x_1 … x_t), and log p(x_t | x_1 … x_t-1) in two parts, of which the second may be large."""
    each, of_step = _steps(chain)
    peak = finite(stream.log_density.max(1))

    def step(states: Array, given: Any) -> tuple[Array, tuple[Array, Array]]:
        log_density, first, transition = given
        moved = log_sum(states[:, None] + of_step(transition), 0)
        joint = jnp.where(first, chain.log_initial, moved) + log_density
        total = log_sum(joint, 0)
        states = joint - _finite_or_zero(total)
        return states, (states, total)

    _, (states, total) = lax.scan(step, entering, (stream.log_density - peak[:, None], stream.first, each))
    return states, total, peak


def _in_logs(chain: Chain, stream: Stream, entering: Array, coming: Array) -> Smoothed:
    each, of_step = _steps(chain)
    known, total, peak = _passed(chain, stream, entering)
    evidence = (stream.log_density - peak[:, None]) - _finite_or_zero(total)[:, None]
    before = jnp.concatenate([entering[None], known[:-1]])

    def step(carry: tuple[Array, Array], given: Any) -> tuple[tuple[Array, Array], tuple[Array, Array | None]]:
        (message, pairs), (log_evidence, states, previous, last, weight, transition) = carry, given
        message = jnp.where(last, 0, message)
        message = message - _finite_or_zero(lax.stop_gradient(log_sum(states + message, 0)))  # of zero, but for rounding
        onward = of_step(transition) + (log_evidence + message)[None]
        moved = weight * _of_one(jnp.exp(jnp.where(weight > 0, previous[:, None] + onward, -jnp.inf)), None)
        pairs, moved = (pairs + moved, None) if each is None else (pairs, moved)
        return (log_sum(onward, 1), pairs), (message, moved)

    start = coming, jnp.zeros_like(chain.log_transition, shape=chain.log_transition.shape[-2:])
    weights = jnp.where(_inside(stream), stream.weights, 0)
    given = (evidence, known, before, stream.last, weights, each)
    (leaving, pairs), (messages, moved) = lax.scan(step, start, given, reverse=True)
    states = jnp.where(stream.there[:, None], _of_one(jnp.exp(known + messages), 1), 0)
    log_prob = jnp.where(stream.there, total + peak, 0)
    return Smoothed(states, pairs if moved is None else moved, log_prob, leaving)


def _of_one(shares: Array, axis: int | None) -> Array:
    """Return shares that sum to one but for rounding, or are all zero, without that rounding."""
    return shares / lax.stop_gradient(positive(shares.sum(axis, keepdims=True)))


def _finite_or_zero(x: Array) -> Array:
    return jnp.where(x == -jnp.inf, 0, x)


def alone(log_density: Array, length: Array) -> Stream:
    """Return one sequence, padded, as a stream: log_density (t, k), length a scalar."""
    time = jnp.arange(log_density.shape[0], dtype=length.dtype)
    return Stream(log_density, time == 0, time == length - 1, time < length, jnp.ones(time.shape, log_density.dtype))


def smooth_alone(chain: Chain, log_density: Array, length: Array) -> Smoothed:
    """Return what all steps of one sequence, padded, say of its states."""
    void = jnp.zeros_like(chain.log_initial)
    return smooth(chain, alone(log_density, length), void, void)


def entropy(chain: Chain, stream: Stream) -> Array:
    """Return H(Q) of the states of one sequence given all that was seen: a scalar, in nats.

    H_t(j), of the way to state j at t, is Σ_i p_i (H_t-1(i) - log p_i) with p_i = p(z_t-1 = i | z_t = j, x_1 … x_t).
    Hernando, Crespi & Cybenko (2005).
    """
    each, of_step = _steps(chain)
    states = filtered(chain, stream, jnp.zeros_like(chain.log_initial)).log_states
    before = jnp.concatenate([states[:1], states[:-1]])

    def step(entropy: Array, given: Any) -> tuple[Array, None]:
        previous, goes_on, transition = given
        joint = previous[:, None] + of_step(transition)
        way = joint - finite(log_sum(joint, 0))[None]
        return jnp.where(goes_on, _expected(way, entropy[:, None] - way, 0), entropy), None

    entropy, _ = lax.scan(step, jnp.zeros_like(chain.log_initial), (before, stream.there & ~stream.first, each))
    end = jnp.argmax(stream.last)
    return _expected(states[end], entropy - states[end], 0)


def _expected(log_share: Array, values: Array, axis: int) -> Array:
    """Return Σ p v along an axis, where what has no share counts for nothing."""
    return jnp.where(log_share > -jnp.inf, jnp.exp(log_share) * jnp.where(log_share > -jnp.inf, values, 0), 0).sum(axis)


def best_path(chain: Chain, stream: Stream) -> tuple[Array, Array]:
    """Return the most probable states of one sequence, (s,), and log p of these and of what was seen; Viterbi (1967)."""
    each, of_step = _steps(chain)
    peak = finite(stream.log_density.max(1))

    def step(height: Array, given: Any) -> tuple[Array, tuple[Array, Array]]:
        log_density, first, there, transition = given
        ways = height[:, None] + of_step(transition)
        there = there & ~first
        new = jnp.where(first, chain.log_initial + log_density, jnp.where(there, ways.max(0) + log_density, height))
        top = finite(new.max())
        came_from = jnp.where(there, ways.argmax(0).astype(jnp.int32), jnp.arange(height.size, dtype=jnp.int32))
        return new - top, (came_from, top)

    given = stream.log_density - peak[:, None], stream.first, stream.there, each
    end, (came_from, tops) = lax.scan(step, jnp.zeros_like(chain.log_initial), given)

    def back(state: Array, came_from: Array) -> tuple[Array, Array]:
        return came_from[state], state

    best = end.argmax().astype(jnp.int32)
    _, path = lax.scan(back, best, came_from, reverse=True)
    return path, tops.sum() + jnp.where(stream.there, peak, 0).sum() + end[best]


def drawn_path(key: Array, chain: Chain, stream: Stream) -> Array:
    """Return states of one sequence drawn together given all that was seen, (s,), from the last back: Chib (1996)."""
    each, of_step = _steps(chain)
    known = filtered(chain, stream, jnp.zeros_like(chain.log_initial)).log_states
    onward = None if each is None else jnp.concatenate([each[1:], each[:1]])

    def back(state: Array, given: Any) -> tuple[Array, Array]:
        key, known, goes_on, transition = given
        state = jax.random.categorical(key, known + jnp.where(goes_on, of_step(transition)[:, state], 0)).astype(state.dtype)
        return state, state

    goes_on = stream.there & ~stream.last
    given = jax.random.split(key, goes_on.size), known, goes_on, onward
    return lax.scan(back, jnp.zeros((), jnp.int32), given, reverse=True)[1]
