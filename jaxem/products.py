"""Curvature at a fit of many parameters by its products with directions, where as a matrix it costs too much.

The observed information is I = B - missing information, with B that of E_Q[log p(x, z | θ)], which asks for statistics and for
no rows. The eigenvalues of B⁻¹ I are one less those of the EM map's derivative (Dempster, Laird & Rubin 1977, §3): all at most
one, and near it but for the few ways in which EM is slow, so that few products tell those, by the method of Lanczos with all
vectors kept orthogonal (Golub & Van Loan 2013, §10.1, §10.3).
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxem.charts import Chart
from jaxem.information import Rows, complete_information, product
from jaxem.model import Model

MOST_PRODUCTS = 300
EVERY = 5  # products, after which it is seen whether they are enough
RESIDUAL = 1e-5  # of the least eigenvalue, at which it is known to about the square of that
GAIN = 1e-7  # relative change of what remains, at which it is known


class Read(NamedTuple):
    """What products tell of an information.

    lower      (q, q) the Cholesky factor L of B: directions v are L⁻ᵀ v in coordinates
    remaining  half the Newton decrement, in nats
    sizes      (m,) eigenvalues of L⁻¹ I L⁻ᵀ, rising, of which the first are known best
    vectors    (q, m) their directions
    """

    lower: Array
    remaining: float
    sizes: np.ndarray
    vectors: np.ndarray

    def in_coordinates(self, direction: np.ndarray) -> np.ndarray:
        """Return a direction (q,) as the chart has it."""
        return np.asarray(solve_triangular(self.lower, jnp.asarray(direction), trans=1, lower=True))

    def along(self, slopes: np.ndarray) -> np.ndarray:
        """Return slopes (p, q) along coordinates as slopes along directions."""
        return np.asarray(solve_triangular(self.lower, jnp.asarray(slopes.T), lower=True)).T


def read(model: Model, chart: Chart, slope: Array, rows: Rows) -> Read | None:
    """Return what products with the information tell; None where B is not positive definite."""
    lower = jnp.linalg.cholesky(complete_information(model, chart, rows))
    if not np.isfinite(np.asarray(lower)).all():
        return None
    through = partial(_whitened, model, rows.block, chart, rows.data, rows.weights, lower)
    push = np.asarray(solve_triangular(lower, slope, lower=True))
    random = np.random.default_rng(0).normal(size=push.size).astype(push.dtype)
    sizes, vectors = _ritz(_lanczos(through, random, _least_is_known))
    return Read(lower, _remaining(through, push), sizes, vectors)


@partial(jax.jit, static_argnums=(0, 1))
def _whitened(model: Model, block: int, chart: Chart, data: object, weights: Array, lower: Array, direction: Array) -> Array:
    along = solve_triangular(lower, direction, trans=1, lower=True)
    return solve_triangular(lower, product(model, chart, Rows(data, weights, block), along), lower=True)


class _Run(NamedTuple):
    """Orthonormal directions (m, q), the tridiagonal matrix (m, m) that stands for the operator, and what is left beyond."""

    basis: np.ndarray
    matrix: np.ndarray
    beyond: float


def _lanczos(through: Callable[[Array], Array], start: np.ndarray, enough: Callable[[_Run], bool]) -> _Run:
    """Return a run of Lanczos from a direction, of all that it reaches or until it is enough."""
    basis, diagonal, beside = [start / np.linalg.norm(start)], list[float](), list[float]()
    eps = np.finfo(start.dtype).eps
    for count in range(1, min(MOST_PRODUCTS, start.size) + 1):
        image = np.asarray(through(jnp.asarray(basis[-1])))
        diagonal.append(float(image @ basis[-1]))
        every = np.stack(basis)
        for _ in range(2):  # once leaves rounding
            image = image - (every @ image) @ every
        size = float(np.linalg.norm(image))
        matrix = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
        run = _Run(every, matrix.astype(start.dtype), size)
        if size <= np.sqrt(eps) * max(np.abs(diagonal)) or (count % EVERY == 0 and enough(run)):
            break
        basis.append((image / size).astype(start.dtype))
        beside.append(size)
    return run


def _ritz(run: _Run) -> tuple[np.ndarray, np.ndarray]:
    sizes, vectors = np.linalg.eigh(run.matrix)
    return sizes, run.basis.T @ vectors


def _least_is_known(run: _Run) -> bool:
    sizes, vectors = np.linalg.eigh(run.matrix)
    return bool(run.beyond * abs(vectors[-1, 0]) <= RESIDUAL * max(abs(sizes[0]), RESIDUAL))


def _remaining(through: Callable[[Array], Array], push: np.ndarray) -> float:
    """Return ½ gᵀ I⁻¹ g by Lanczos from g, with sizes of curvature in the place of curvature."""
    square = float(push @ push)
    if square == 0:
        return 0.0
    found = [np.inf]

    def gain(run: _Run) -> float:
        sizes, vectors = np.linalg.eigh(run.matrix)
        least = np.finfo(push.dtype).eps ** 0.6 * max(1, np.abs(sizes).max())
        return float(0.5 * square * (vectors[0] ** 2 / np.maximum(np.abs(sizes), least)).sum())

    def settled(run: _Run) -> bool:
        found.append(gain(run))
        return abs(found[-1] - found[-2]) <= GAIN * found[-1]

    return gain(_lanczos(through, push, settled))
