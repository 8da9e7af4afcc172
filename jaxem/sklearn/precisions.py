"""Inverses of covariances in each of scikit-learn's forms, and what users give to start from."""

from collections.abc import Callable
from typing import Any

import numpy as np

FORMS: dict[str, Callable[[int, int], np.ndarray]] = {
    "full": lambda k, dim: np.tile(np.eye(dim), (k, 1, 1)),
    "tied": lambda k, dim: np.eye(dim),
    "diag": lambda k, dim: np.ones((k, dim)),
    "spherical": lambda k, dim: np.ones(k),
}
"""Covariances of one of k components in so many dimensions."""

MATRICES = ("full", "tied")
ILL_DEFINED = (
    "Fitting the mixture model failed because some components have ill-defined empirical covariance (for instance caused by "
    "singleton or collapsed samples). Try to decrease the number of components, increase reg_covar, or scale the input data."
)


def cholesky_of_precisions(form: str, covariances: np.ndarray) -> np.ndarray:
    """Return the upper triangular C with C Cᵀ = Σ⁻¹, or the inverse standard deviations; ValueError where there are none."""
    if form not in MATRICES:
        if not (covariances > 0).all():
            raise ValueError(ILL_DEFINED)
        return 1 / np.sqrt(covariances)
    try:
        factors = np.linalg.cholesky(covariances)
    except np.linalg.LinAlgError as error:
        raise ValueError(ILL_DEFINED) from error
    if not np.isfinite(factors).all():
        raise ValueError(ILL_DEFINED)
    return np.triu(np.linalg.inv(factors).swapaxes(-1, -2))


def squared(form: str, cholesky: np.ndarray) -> np.ndarray:
    """Return precisions from what `cholesky_of_precisions` gives."""
    return cholesky @ cholesky.swapaxes(-1, -2) if form in MATRICES else cholesky**2


def covariances_of(form: str, cholesky: np.ndarray) -> np.ndarray:
    """Return covariances from what `cholesky_of_precisions` gives."""
    return inverse(form, squared(form, cholesky))


def inverse(form: str, precisions: np.ndarray) -> np.ndarray:
    """Return covariances from precisions, or the other way round."""
    return np.linalg.inv(precisions) if form in MATRICES else 1 / precisions


def given_weights(weights: Any, num_components: int) -> np.ndarray | None:
    """Return weights to start from as an array, None for None; ValueError, in scikit-learn's words, for what are none."""
    if weights is None:
        return None
    weights = _shaped("weights", weights, (num_components,))
    if (weights < 0).any() or (weights > 1).any():
        raise ValueError(
            "The parameter 'weights' should be in the range [0, 1], but got "
            f"max value {np.min(weights):.5f}, min value {np.max(weights):.5f}"  # so named there
        )
    if not np.allclose(np.abs(1 - weights.sum()), 0, atol=1e-6 if weights.dtype == np.float32 else 1e-8):
        raise ValueError(f"The parameter 'weights' should be normalized, but got sum(weights) = {weights.sum():.5f}")
    return weights


def given_means(means: Any, num_components: int, dim: int) -> np.ndarray | None:
    """Return means to start from as an array, None for None; ValueError for what are none."""
    return None if means is None else _shaped("means", means, (num_components, dim))


def given_precisions(precisions: Any, form: str, num_components: int, dim: int) -> np.ndarray | None:
    """Return the covariances that given precisions stand for, None for None; ValueError for what are none."""
    if precisions is None:
        return None
    precisions = _shaped(f"{form} precision", precisions, FORMS[form](num_components, dim).shape)
    if form in MATRICES and not _are_positive_definite(precisions):
        raise ValueError(f"'{form} precision' should be symmetric, positive-definite")
    if form not in MATRICES and not (precisions > 0).all():
        raise ValueError(f"'{form} precision' should be positive")
    return inverse(form, precisions)


def _shaped(name: str, given: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(given)
    array = array if array.dtype in (np.float64, np.float32) else array.astype(float)
    if array.shape != shape:
        raise ValueError(f"The parameter '{name}' should have the shape of {shape}, but got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"The parameter '{name}' has NaN or infinite values, needs finite ones")
    return array


def _are_positive_definite(matrices: np.ndarray) -> bool:
    symmetric = np.allclose(matrices, matrices.swapaxes(-1, -2))
    return bool(symmetric and (np.linalg.eigvalsh(matrices) > 0).all())
