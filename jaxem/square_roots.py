"""Square roots of covariances, P = UᵀU, brought from one step of time to the next by reflections alone.

Nothing is squared or subtracted, so that covariances stay positive definite, and a variance a million times another one's
leaves that its digits. Matrices come first and lanes last, (d, d, *lanes): arithmetic runs along the lanes.
Kaminski, Bryson & Schmidt (1971).
"""

import jax.numpy as jnp
from jax import Array

from jaxem.matrices import cholesky

MOST_TERMS = 8  # of a product that are written out


def times(a: Array, b: Array) -> Array:
    """Return the products of matrices (l, m, *lanes) and (m, p, *lanes); one lane alone of one of them serves all."""
    if a.ndim == b.ndim == 2:
        return a @ b
    if a.shape[1] > MOST_TERMS:
        return (a[:, :, None] * b[None]).sum(1)
    return sum((a[:, j, None] * b[None, j] for j in range(1, a.shape[1])), start=a[:, 0, None] * b[None, 0])


def apply(a: Array, x: Array) -> Array:
    """Return the products of matrices (l, m, *lanes) and vectors (m, *lanes)."""
    return times(a, x[:, None])[:, 0]


def transposed(a: Array) -> Array:
    """Return the transposes of matrices (l, m, *lanes)."""
    return jnp.swapaxes(a, 0, 1)


def in_lanes(matrix: Array, lanes: tuple[int, ...]) -> Array:
    """Return one array as that of each lane, of which an axis of one stands for all."""
    return matrix.reshape(*matrix.shape, *[1] * len(lanes))


def root(covariance: Array) -> Array:
    """Return U, upper triangular with UᵀU = P, of one matrix (d, d)."""
    return cholesky(covariance)[0].T


def eliminate(x: Array, num: int) -> Array:
    """Return Hx, H orthogonal, whose first `num` columns are upper triangular, of x (m, c, *lanes): Householder's reflections.

    The diagonal is positive, so that what settles down repeats itself. A column of zeros stays one, and a slope at it is zero.
    Golub & Van Loan (2013), §5.1.
    """
    done = []
    for j in range(num):
        column = x[:, 0]
        squares = (column * column).sum(0)
        some = squares > 0
        size = jnp.sqrt(jnp.where(some, squares, 1))
        sign = jnp.where(column[0] > 0, -1, 1).astype(x.dtype)
        end = sign * size
        factor = jnp.where(some, 1 / (end * (end - column[0])), 0)
        mirror = jnp.concatenate([(column[0] - end)[None], column[1:]])
        rest = x[:, 1:]
        along = (mirror[:, None] * rest).sum(0) * factor[None]
        x = rest - mirror[:, None] * along[None]
        first = jnp.where(some, size, 0)[None]
        done.append(jnp.concatenate([jnp.zeros((j, *first.shape[1:]), x.dtype), first, sign[None] * x[0]]))
        x = x[1:]
    below = jnp.zeros((x.shape[0], num, *x.shape[2:]), x.dtype)
    return jnp.concatenate([jnp.stack(done), jnp.concatenate([below, x], 1)])


def square(u: Array) -> Array:
    """Return UᵀU of (m, d, *lanes)."""
    return times(transposed(u), u)


def inverse(u: Array) -> Array:
    """Return U⁻¹ of upper triangular matrices (d, d, *lanes), column by column from below."""
    dim = u.shape[0]
    rows: list[Array] = []
    identity = jnp.eye(dim, dtype=u.dtype).reshape(dim, dim, *[1] * (u.ndim - 2))
    for i in reversed(range(dim)):
        known = jnp.broadcast_to(identity[i], u.shape[1:])
        if rows:
            known = known - (u[i, i + 1 :, None] * jnp.stack(rows)).sum(0)
        rows.insert(0, known / u[i, i][None])
    return jnp.stack(rows)


def solve_transposed(u: Array, x: Array) -> Array:
    """Return U⁻ᵀx of upper triangular matrices (d, d, *lanes) and vectors (d, *lanes)."""
    found: list[Array] = []
    for i in range(u.shape[0]):
        known = x[i] - sum((u[j, i] * found[j] for j in range(i)), start=jnp.zeros_like(x[i]))
        found.append(known / u[i, i])
    return jnp.stack(found)


def log_size(u: Array) -> Array:
    """Return log det U of triangular matrices (d, d, *lanes) with a positive diagonal."""
    return sum((jnp.log(u[i, i]) for i in range(1, u.shape[0])), start=jnp.log(u[0, 0]))
