"""Hidden Markov chains over all of time at once: products of transitions by an associative scan, in logarithms.

For machines that do many things at once: (t, k, k) numbers and k³ t sums of exponentials, in log t rounds.
Särkkä & García-Fernández (2020).
"""

import jax.numpy as jnp
from jax import Array, lax

from jaxem.chains import Chain, Smoothed, alone, finite, log_sum


def smooth_at_once(chain: Chain, log_density: Array, length: Array) -> Smoothed:
    """Return what all steps of one sequence, padded, say of its states; as `smooth_alone` does, `leaving` being void."""
    peak = finite(log_density.max(1))
    log_density = log_density - peak[:, None]
    stream = alone(log_density, length)
    onward = jnp.broadcast_to(chain.log_transition, (*log_density.shape, log_density.shape[1])) + log_density[:, None]
    begun = jnp.broadcast_to((chain.log_initial[None] + log_density)[:, None], onward.shape)
    states = _shares(lax.associative_scan(_product, jnp.where(stream.first[:, None, None], begun, onward))[:, 0], (1,))
    before = jnp.concatenate([states[:1], states[:-1]])
    log_prob = log_sum(jnp.where(stream.first[:, None], begun[:, 0], log_sum(before[:, :, None] + onward, 1)), 1)
    next_on = jnp.concatenate([onward[1:], onward[:1]])
    ends = (stream.last | ~stream.there)[:, None, None]
    messages = lax.associative_scan(lambda a, b: _product(b, a), jnp.where(ends, 0, next_on), reverse=True)
    messages = log_sum(messages, 2)
    inside = (stream.there & ~stream.first)[:, None, None]
    moved = jnp.where(inside, jnp.exp(_shares(before[:, :, None] + onward + messages[:, None], (1, 2))), 0)
    return Smoothed(
        jnp.where(stream.there[:, None], jnp.exp(_shares(states + messages, (1,))), 0),
        moved if chain.log_transition.ndim == 3 else moved.sum(0),
        jnp.where(stream.there, log_prob + peak, 0),
        jnp.zeros_like(chain.log_initial),
    )


def _product(left: Array, right: Array) -> Array:
    """Return the logarithms of products of matrices (..., k, k), each up to a factor."""
    found = log_sum(left[..., None] + right[..., None, :, :], -2)
    return found - finite(found.max((-2, -1), keepdims=True))


def _shares(terms: Array, axes: tuple[int, ...]) -> Array:
    """Return logarithms less that of their sum over axes; -inf where all are."""
    peak = finite(terms.max(axes, keepdims=True))
    total = jnp.exp(terms - peak).sum(axes, keepdims=True)
    return terms - peak - jnp.log(jnp.where(total > 0, total, 1))
