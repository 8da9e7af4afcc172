"""Columns that coefficients belong to: checked at the door, and beside them orthogonal ones, in which nothing is lost.

Sums over rows of products of raw columns lose twice the digits that their collinearity costs, and a column far from zero is
nearly collinear with a constant. So rows x come with z = x R⁻¹, of unit second moments and uncorrelated over all rows, made
once in double precision; coefficients β of x are γ = R β of z. What enters a density is x β = z γ, to rounding: R tells
nothing of the rows.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, column_ranges, is_traced
from jaxem.matrices import cholesky
from jaxem.numerics import symmetric
from jaxem.trees import Shared

DEPENDENT = 64.0  # ulps of a column's length within which what other columns leave of it is rounding


class Basis(NamedTuple):
    """R and its inverse, (p, p) each: x = z R, and γ = R β."""

    forward: Array
    backward: Array


class Design(NamedTuple):
    """Columns that have been looked at: x (n, p) as given, and z (n, p) = x R⁻¹, `basis` R; what x R⁻¹ reaches at most ()."""

    x: Array
    z: Array
    basis: Shared
    reach: Shared


def named(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Return function(*args), with `name` before the message of a ValueError."""
    try:
        return function(*args)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def design(data: Any, weights: Array | None, name: str, last: tuple[int, ...] = ()) -> Design:
    """Return columns (n, p) with their basis, in which those named `last` come last.

    Raises ValueError, which names the columns, for another shape, for what is not finite and, where there is something to be
    learnt from rows of positive weight, for columns that are linear combinations of others there.
    """
    x = as_floating(data, name)
    if x.ndim != 2 or 0 in x.shape:
        raise ValueError(f"{name} has shape {x.shape}, needs (n, p): {name}[:, None] makes one column of (n,).")
    if last and last[-1] >= x.shape[1]:
        raise ValueError(f"common names column {last[-1]} of {name}, which has {x.shape[1]}: 0 to {x.shape[1] - 1}.")
    order = np.array([*(j for j in range(x.shape[1]) if j not in last), *last])
    if is_traced(x, weights):
        return _traced(x, weights, order)
    named(name, column_ranges, x, None)
    return _at_hand(x, weights, name, order)


def _at_hand(x: Array, weights: Array | None, name: str, order: np.ndarray) -> Design:
    rows = np.asarray(x, np.float64)
    present = rows if weights is None else rows[np.asarray(weights) > 0]
    size = np.abs(present).max(0)
    scale = np.where(size > 0, size, 1)
    triangle, loose = _triangle(present / scale, order, DEPENDENT * float(np.finfo(x.dtype).eps))
    if weights is not None and loose:
        raise ValueError(
            f"{name} has columns {loose} that are zero or linear combinations of the other columns, in the rows of positive "
            "weight and to rounding: drop them, or centre columns that are far from zero."
        )
    if loose:
        triangle = np.eye(len(order))
    scaled = rows[:, order] / scale[order]
    z = np.linalg.solve(triangle.T, scaled.T).T
    forward, backward = np.empty_like(triangle), np.empty_like(triangle)
    forward[:, order] = triangle * scale[order]
    backward[order] = np.linalg.inv(triangle) / scale[order][:, None]
    reach = np.sqrt((z**2).sum(1).max())
    return Design(x, _of(z, x), Shared(Basis(_of(forward, x), _of(backward, x))), Shared(_of(reach, x)))


def _triangle(scaled: np.ndarray, order: np.ndarray, tolerance: float) -> tuple[np.ndarray, list[int]]:
    """Return R of the columns in that order, of unit second moments, and which columns the ones before leave nothing of."""
    columns = scaled[:, order]
    triangle = np.linalg.qr(columns, mode="r")
    lengths = np.sqrt((columns**2).sum(0))
    left = np.zeros(len(order))
    left[: len(triangle)] = np.abs(np.diagonal(triangle))
    loose = sorted(int(j) for j in order[~(left > tolerance * lengths)])
    return triangle / np.sqrt(len(columns)), loose


def _traced(x: Array, weights: Array | None, order: np.ndarray) -> Design:
    """Orthogonalize by the columns' second moments, where these have a factor, and else scale alone."""
    present = jnp.ones((x.shape[0], 1), bool) if weights is None else weights[:, None] > 0
    rows = jnp.where(present, x, 0)[:, order]
    scale = jnp.where(rows.any(0), jnp.abs(rows).max(0), 1)
    rows = rows / scale[None]
    lower, inverse = cholesky(symmetric(rows.T @ rows) / present.sum())
    sound = jnp.isfinite(lower).all() & jnp.isfinite(inverse).all()
    identity = jnp.eye(len(order), dtype=x.dtype)
    lower, inverse = jnp.where(sound, lower, identity), jnp.where(sound, inverse, identity)
    z = (x[:, order] / scale[None]) @ inverse.T
    back = np.argsort(order)
    forward, backward = (lower.T * scale[None])[:, back], (inverse.T / scale[:, None])[back]
    reach = jnp.sqrt((jnp.where(present, z, 0) ** 2).sum(1).max())
    return Design(x, z, Shared(Basis(forward, backward)), Shared(reach))


def _of(values: Any, x: Array) -> Array:
    return jnp.asarray(values, x.dtype)


def check_columns(columns: Design, expected: int, name: str = "x", place: str = "coefficients") -> None:
    """Raise ValueError unless there are as many columns as params at `place` have coefficients for."""
    if columns.x.shape[1] != expected:
        raise ValueError(f"{name} has {columns.x.shape[1]} columns, expected {expected}, as params.{place} has.")


def inward(coefficients: Array, basis: Basis) -> Array:
    """Return γ = R β of coefficients (k, p)."""
    return coefficients @ basis.forward.T


def outward(turned: Array, basis: Basis) -> Array:
    """Return β = R⁻¹ γ of γ (k, p)."""
    return turned @ basis.backward.T
