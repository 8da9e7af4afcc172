"""Seeds that are no places: components fitted to a few rows each, and all rows shared out by what these say of them.

Rows near each other in what they depend on may lie on different lines, and rows far apart on one. So as many rows as a line
takes, and one more, are drawn at random for each component; where all are of one line, that is found at once, and elsewhere
something that is better on some line than on others. DeSarbo & Cron (1988), §3, begin with random shares, from which all
components begin as the same line.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.model import Family, PyTree
from jaxem.numerics import normalize


def shares_of_fits(family: Family, key: Array, x: PyTree, weights: Array, present: Array) -> Array:
    """Return how much of each row belongs to each component that is `present` (k,): (n, k); to others wholly."""
    n, k = weights.shape[0], present.shape[0]
    chances = jnp.log(weights)[:, None] + jax.random.gumbel(key, (n, k), weights.dtype)
    lowest = lax.top_k(chances.T, min(_rows_of_one(family, x, weights, k), n))[0][:, -1]
    drawn = (chances >= lowest[None]) & (weights[:, None] > 0)
    log_prob = family.evaluate(family.init(x, drawn.astype(weights.dtype)), x)[0]
    counted = present[None] > 0
    return jnp.where(counted, normalize(jnp.where(counted, log_prob, -jnp.inf).T)[0].T, 1)


def _rows_of_one(family: Family, x: PyTree, weights: Array, num_components: int) -> int:
    """Return as many rows as one component has coefficients, and one more."""
    like = jax.eval_shape(lambda: family.init(x, jnp.ones((weights.shape[0], num_components), weights.dtype)))
    return 1 + max((leaf.shape[-1] for leaf in jax.tree.leaves(like) if leaf.ndim > 1), default=1)
