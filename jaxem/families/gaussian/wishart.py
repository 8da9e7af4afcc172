"""A conjugate prior of means and covariances: what it counts as, its log-density, and one that suits the data.

It counts as rows seen before: `shrinkage` of them at one mean, and a scatter of its own. What it adds to the sums of an M-step
is what its log-density is made of, so that any form finds its best covariance as before, from more sums.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import at_least_one, check_rank, column_ranges
from jaxem.constraints import is_constraint
from jaxem.families.gaussian.forms import FORMS, Form, form_name
from jaxem.families.gaussian.geometry import ONE_MATRIX, ONE_VARIANCE, VARIANCES
from jaxem.families.observed import split
from jaxem.model import PyTree
from jaxem.numerics import LOG_2PI

SHRINKAGE = 0.01  # rows that the mean of the default prior weighs


class NormalInverseWishart(NamedTuple):
    """A prior of Gaussian components: μ_k | Σ_k ~ N(mean, Σ_k / shrinkage), p(Σ_k) ∝ |Σ_k|^(-(ν+d+1)/2) e^(-½ tr Σ_k⁻¹ scale).

    mean       (d,) or a number
    shrinkage  the weight of that mean, in rows; 0 leaves the means without a prior
    dof        ν > d - 1
    scale      (d, d), positive definite. Where axes are those of the data ("diag", EEI, VEI, EVI, "spherical", EII) a number
               ς², or, but for round ones, one for each column: variances have p(v) ∝ v^(-(ν+2)/2) e^(-½ ς²/v), with ν > 0

    A covariance that all components share has this density once. Where they share a part of it (VEI, EVI, VEE, EVE, VVE, EEV,
    VEV, EVV) each has its own, restricted to the covariances that there are, and so known up to a constant.
    Fraley & Raftery (2007), §3.

    >>> import jaxem
    >>> from jaxem import families
    >>> prior = families.NormalInverseWishart(mean=2.0, shrinkage=1.0, dof=3.0, scale=1.0)
    >>> model, x = jaxem.single(families.gaussian("diag", prior=prior)), [1.0, 2.0, 6.0]
    >>> params = jaxem.fit(model, model.init(0, x), x).params
    >>> print(f"{params.mean[0, 0]:.2f} {params.covariance[0, 0]:.2f}")
    2.75 1.75
    """

    mean: Any
    shrinkage: Any
    dof: Any
    scale: Any


class Seen(NamedTuple):
    """What a prior adds to sums about given means: counts (k,), and a scatter in the shape of the geometry."""

    counts: Array
    scatter: Array


def default_prior(form: str, x: Any, num_components: int) -> NormalInverseWishart:
    """Return the prior that Fraley & Raftery (2007), §3.2, propose for `num_components` Gaussians of the named form.

    The columns' means, shrinkage 0.01, d + 2 degrees of freedom, and for scale the covariance of the data over k^(2/d); where
    axes are those of the data, its mean variance over that, one number. Rows with holes tell what was observed of them.
    Raises ValueError for another form, for data whose columns are constant, and, where a matrix is needed, dependent.

    >>> import jaxem
    >>> from jaxem import families
    >>> x = jaxem.datasets.faithful()
    >>> prior = families.default_prior("diag", x, 2)
    >>> print(f"{prior.dof:.0f} {prior.scale:.2f}")
    4 46.53
    >>> model = jaxem.mixture(families.gaussian("diag", prior=prior), 2)
    >>> print(f"{jaxem.fit_restarts(model, 0, x, num_restarts=8).best.log_likelihood:.2f}")
    -1229.22
    """
    row, count = FORMS[form_name(form)], at_least_one("num_components", num_components)
    mean, covariance = _moments(x)
    dim = mean.size
    share: Any = covariance if is_matrix(row) else float(np.trace(covariance)) / dim
    if is_matrix(row) and not _is_positive_definite(covariance):
        raise ValueError(f"data columns are linearly dependent, as {dim} columns of few rows are: use a diagonal form.")
    return NormalInverseWishart(mean, SHRINKAGE, dim + 2.0, share / count ** (2 / dim))


def _moments(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return means and covariance of data: variances of what was observed of each column, correlations of what was of both."""
    given, seen = split(x)
    check_rank(given, (1, 2), "one row per observation, one column per dimension.")
    rows = np.asarray(given, float).reshape(len(given), -1)
    present = np.ones(rows.shape, bool) if seen is None else np.asarray(seen).reshape(rows.shape)
    column_ranges(jnp.asarray(np.where(present, rows, 0)), None)
    counts = present.sum(0)
    if counts.min() < 2:
        raise ValueError(
            f"data columns {np.flatnonzero(counts < 2).tolist()} have fewer than two values, which have no variance."
        )
    mean = np.where(present, rows, 0).sum(0) / counts
    off = np.where(present, rows - mean, 0) / np.sqrt(counts - 1)
    if not (off**2).sum(0).all():
        raise ValueError(f"data columns {np.flatnonzero((off**2).sum(0) == 0).tolist()} are constant: drop them.")
    return mean, off.T @ off


def is_matrix(form: Form) -> bool:
    """Tell whether the scale of a form's prior is a matrix."""
    return form.geometry not in (VARIANCES, ONE_VARIANCE)


def checked(prior: Any, name: str) -> NormalInverseWishart | None:
    """Return a prior of numbers and tuples of them, which has a hash; None for None.

    Raises ValueError that names the field, for a prior of another kind or one that does not suit the named form.
    """
    if prior is None:
        return None
    if not isinstance(prior, NormalInverseWishart):
        raise ValueError(f"prior must be a families.NormalInverseWishart, got {prior!r}.")
    scale = _checked_scale(prior.scale, name)
    least = scale.shape[0] - 1 if is_matrix(FORMS[name]) else 0
    return NormalInverseWishart(
        mean=_checked_number("mean", prior.mean, "", lambda value: True, most_axes=1),
        shrinkage=_checked_number("shrinkage", prior.shrinkage, " ≥ 0", lambda value: value >= 0),
        dof=_checked_number("dof", prior.dof, f" > {least}", lambda value: value > least),
        scale=_as_tuples(scale),
    )


def _checked_number(name: str, given: Any, bound: str, legal: Callable[[Any], Any], most_axes: int = 0) -> Any:
    array = np.asarray(given)
    numbers = array.dtype.kind in "iuf" and array.ndim <= most_axes and array.size > 0
    if not numbers or not (np.isfinite(array) & legal(array)).all():
        raise ValueError(f"prior.{name} must be a number{bound}{', or one for each column' * most_axes}, got {given!r}.")
    return _as_tuples(array.astype(float))


def _checked_scale(given: Any, name: str) -> np.ndarray:
    form = FORMS[name]
    if not is_matrix(form):
        most_axes = 0 if form.geometry is ONE_VARIANCE else 1
        return np.asarray(_checked_number("scale", given, " > 0", lambda value: value > 0, most_axes))
    array = np.asarray(given)
    array = array.reshape(1, 1) if array.ndim == 0 else array
    if array.dtype.kind not in "iuf" or not _is_positive_definite(array):
        raise ValueError(f"prior.scale must be a positive definite matrix (d, d) for the form {name!r}, got {given!r}.")
    return array.astype(float)


def _is_positive_definite(matrix: np.ndarray) -> bool:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
        return False
    size, values = np.abs(matrix).max(), np.linalg.eigvalsh(0.5 * (matrix + matrix.T))
    return bool(np.abs(matrix - matrix.T).max() <= 1e-6 * size and values[0] > np.finfo(float).eps * values[-1])


def _as_tuples(array: np.ndarray) -> Any:
    """Return an array as a number, or as tuples of numbers: what has a hash."""
    return float(array) if array.ndim == 0 else tuple(map(_as_tuples, array))


def pulled(prior: NormalInverseWishart, mean: Array, counts: Array, shift: Array) -> Array:
    """Return how far the best means are from the old ones, (k, d): (Σ_n r_nk (x_n - μ_k) + κ (m - μ_k)) / (N_k + κ)."""
    weight = jnp.asarray(prior.shrinkage, mean.dtype)
    total = counts + weight
    pull = weight * (_wide("mean", prior.mean, mean) - mean)
    return (shift + pull) / jnp.where(total > 0, total, 1)[:, None]


def seen(form: Form, prior: NormalInverseWishart, mean: Array) -> Seen:
    """Return what the prior adds to sums about means (k, d), for which -½ Σ_k N_k log|Σ_k| - ½ tr Σ_k⁻¹ S_k is maximized."""
    k, dim = mean.shape
    off = mean - _wide("mean", prior.mean, mean)
    each = (prior.dof + dim + 1) if is_matrix(form) else (prior.dof + 2) / _per_variance(form, dim)
    counts = jnp.full(k, (prior.shrinkage > 0) + each / (k if _is_shared(form) else 1), mean.dtype)
    return Seen(counts, prior.shrinkage * form.geometry.outer(off, off) + _own_scatter(form, prior, mean))


def _own_scatter(form: Form, prior: NormalInverseWishart, mean: Array) -> Array:
    k, dim = mean.shape
    if is_matrix(form):
        scale = jnp.asarray(prior.scale, mean.dtype)
        if scale.shape != (dim, dim):
            raise ValueError(f"prior.scale is a matrix {scale.shape}, needs {(dim, dim)}: data have {dim} columns.")
        return scale if form.geometry is ONE_MATRIX else jnp.broadcast_to(scale, (k, dim, dim))
    own = _wide("scale", prior.scale, mean) / (k if _is_shared(form) else 1)
    return own[:, :1] / dim if form.geometry is ONE_VARIANCE else own


def log_density(form: Form, prior: NormalInverseWishart, mean: Array, covariance: PyTree) -> Array:
    """Return log p(μ, Σ) over all components, in nats."""
    counts, scatter = seen(form, prior, mean)
    log_determinant, trace = form.geometry.log_det_and_trace(form.expand(covariance, *mean.shape), scatter)
    return _log_constant(form, prior, *mean.shape) - 0.5 * ((counts * log_determinant).sum() + trace.sum())


def _log_constant(form: Form, prior: NormalInverseWishart, k: int, dim: int) -> float:
    of_means = 0.5 * k * dim * (math.log(prior.shrinkage) - LOG_2PI) if prior.shrinkage > 0 else 0.0
    return of_means + (1 if _is_shared(form) else k) * _log_constant_of_one(form, prior, dim)


def _log_constant_of_one(form: Form, prior: NormalInverseWishart, dim: int) -> float:
    """Return ½ν log|Λ/2| - log Γ_d(½ν) of a covariance, or Σ_j ½ν log ½ς_j² - log Γ(½ν) of its variances."""
    half, scale = 0.5 * prior.dof, np.asarray(prior.scale)
    if is_matrix(form):
        log_gammas = 0.25 * dim * (dim - 1) * math.log(math.pi) + sum(math.lgamma(half - 0.5 * j) for j in range(dim))
        return half * float(np.linalg.slogdet(0.5 * scale)[1]) - log_gammas
    number = dim // _per_variance(form, dim)
    return float((half * np.log(0.5 * np.broadcast_to(scale, number)) - math.lgamma(half)).sum())


def _per_variance(form: Form, dim: int) -> int:
    """Return how many columns have one variance between them."""
    return dim if form.geometry is ONE_VARIANCE else 1


def _is_shared(form: Form) -> bool:
    """Tell whether all components have one covariance."""
    return all(constraint.component_axes == () for constraint in jax.tree.leaves(form.domain, is_leaf=is_constraint))


def _wide(name: str, value: Any, like: Array) -> Array:
    """Return a field of a prior, a number or one for each column, in the shape (k, d) and dtype of `like`."""
    if isinstance(value, tuple) and len(value) != like.shape[1]:
        raise ValueError(f"prior.{name} has {len(value)} numbers, needs one, or {like.shape[1]}: one for each column.")
    return jnp.broadcast_to(jnp.asarray(value, like.dtype), like.shape)
