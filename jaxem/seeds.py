"""Where random starts begin: points of the data, and how rows share themselves among them. Arrays in, arrays out."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

SHARPNESS = 8  # what the exponent of a seed's share exceeds the number of columns by
SMALLEST_WITHIN = 1e-6  # of a column's variance
MOST_ROWS = 1 << 15  # that starts are drawn from: seeds need no more, and their responsibilities would not stay small


@jax.jit
def column_variances(x: Array, weights: Array) -> Array:
    """Return the weighted variance of each column: x (n, *event), weights (n,) -> event, in squares of the data's units.

    Zero where all weights are.

    >>> import jax.numpy as jnp
    >>> from jaxem import seeds
    >>> print(seeds.column_variances(jnp.array([[0.0], [2.0], [9.0]]), jnp.array([1.0, 1.0, 0.0])))
    [1.]
    """
    total = weights.sum()
    share = (weights / jnp.where(total > 0, total, 1)).reshape(-1, *[1] * (x.ndim - 1))
    mean = (share * x).sum(0)
    return (share * (x - mean[None]) ** 2).sum(0)


def _inverse(variances: Array) -> Array:
    """Return one over each variance, and zero for that of a column that does not vary."""
    return jnp.where(variances > 0, 1 / jnp.where(variances > 0, variances, 1), 0)


def systematic_rows(key: Array, weights: Array, num: int) -> Array:
    """Return the indices of `num` rows, each drawn as often as its weight says to within one: (num,) in rising order.

    One uniform number places a comb of `num` even teeth on the cumulated weights; rows of weight zero are never drawn.

    >>> import jax, jax.numpy as jnp
    >>> from jaxem import seeds
    >>> print(seeds.systematic_rows(jax.random.key(0), jnp.array([1.0, 0.0, 2.0]), 3))
    [0 2 2]
    """
    cumulated = jnp.cumsum(weights)
    teeth = (jnp.arange(num, dtype=weights.dtype) + jax.random.uniform(key, dtype=weights.dtype)) * (cumulated[-1] / num)
    last = jnp.searchsorted(cumulated, cumulated[-1])  # by rounding a tooth may reach the end
    return jnp.minimum(jnp.searchsorted(cumulated, teeth, side="right"), last)


def random_points(key: Array, x: Array, weights: Array, num_points: int) -> Array:
    """Return `num_points` distinct rows drawn in proportion to their weights: (num_points, *event).

    >>> import jax, jax.numpy as jnp
    >>> from jaxem import seeds
    >>> print(seeds.random_points(jax.random.key(0), jnp.array([3.0, 5.0]), jnp.array([1.0, 0.0]), 1))
    [3.]
    """
    return jnp.asarray(x)[jax.random.choice(key, x.shape[0], (num_points,), replace=False, p=weights / weights.sum())]


def _drawn(key: Array, chance: Array) -> Array:
    """Return the index that `jax.random.choice` draws; counted, as a search in a loop takes long to compile."""
    cumulated = jnp.cumsum(chance)
    return (cumulated < cumulated[-1] * (1 - jax.random.uniform(key, dtype=chance.dtype))).sum()


@partial(jax.jit, static_argnames="num_points")
def kmeans_plusplus(key: Array, x: Array, weights: Array, num_points: int) -> Array:
    """Return rows drawn in turn in proportion to weight times squared distance to the nearest row drawn: (num_points, *event).

    Distances are in units of each column's standard deviation. Once every distinct row has been drawn, rows are drawn by
    weight alone. Arthur & Vassilvitskii (2007), §2.2.

    >>> import jax, jax.numpy as jnp
    >>> from jaxem import seeds
    >>> points = seeds.kmeans_plusplus(jax.random.key(0), jnp.array([3.0, 3.0, 5.0]), jnp.ones(3), 2)
    >>> print(jnp.sort(points))
    [3. 5.]
    """
    weights = jnp.asarray(weights, x.dtype)
    precision = _inverse(column_variances(x, weights))
    axes = tuple(range(1, x.ndim))

    def draw(distance: Array, key: Array) -> tuple[Array, Array]:
        chance = weights * jnp.where(jnp.isfinite(distance), distance, 1)
        chance = jnp.where(chance.sum() > 0, chance, weights)
        point = x[_drawn(key, chance / chance.sum())]
        return jnp.minimum(distance, ((x - point[None]) ** 2 * precision[None]).sum(axes)), point

    return lax.scan(draw, jnp.full_like(weights, jnp.inf), jax.random.split(key, num_points))[1]


@jax.jit
def soft_assignments(x: Array, weights: Array, points: Array, present: Array) -> Array:
    """Return how much of each row belongs to each of k points: x (n, p), weights (n,), points (k, p) -> (n, k).

    r_nk ∝ d_nk^-(p + 8). A power has no bandwidth that clusters of another scale could defeat; its exponent exceeds p + 2, so
    that far rows, however far and many, add little to a point's second moments. Distances d are in units of the columns'
    standard deviations first, and then, once more, of those within the clusters so found: so columns that tell nothing do
    not drown those that do. `present` (k,) is one for points that count and zero for others, to which every row belongs
    wholly.

    >>> import jax.numpy as jnp
    >>> from jaxem import seeds
    >>> x = jnp.array([[0.0], [1.0], [2.0]])
    >>> print(seeds.soft_assignments(x, jnp.ones(3), points=x[::2], present=jnp.ones(2)))
    [[1.  0. ]
     [0.5 0.5]
     [0.  1. ]]
    """
    counts = present[None] > 0

    def shares(variances: Array) -> Array:
        square = jax.vmap(lambda point: ((x - point[None]) ** 2 * _inverse(variances)[None]).sum(1), out_axes=1)(points)
        nearness = -0.5 * (x.shape[1] + SHARPNESS) * jnp.log(square + jnp.finfo(x.dtype).eps ** 2)
        return jnp.where(counts, jax.nn.softmax(jnp.where(counts, nearness, -jnp.inf), axis=1), 1)

    total = column_variances(x, weights)
    responsibilities = jnp.where(counts, weights[:, None] * shares(total), 0)
    within = lax.map(lambda r: r.sum() * column_variances(x, r), responsibilities.T).sum(0) / weights.sum()
    return shares(jnp.maximum(within, SMALLEST_WITHIN * total))
