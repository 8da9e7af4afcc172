"""What is fitted: made-up clusters, one start for everybody, and a log-likelihood that belongs to no contender."""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp


class Solution(NamedTuple):
    """A Gaussian mixture in NumPy: weights (k,), mean (k, d), covariance in the shape of its form, as jaxem has it."""

    weights: Any
    mean: Any
    covariance: Any


class Size(NamedTuple):
    """Rows, dimensions and components."""

    n: int
    d: int
    k: int

    def __str__(self) -> str:
        return f"n = {grouped(self.n)}, d = {self.d}, k = {self.k}"


def grouped(count: int) -> str:
    """Return a count with its thousands set apart."""
    return f"{count:,}".replace(",", " ")


def clusters(seed: int, size: Size, spread: float) -> np.ndarray:
    """Return float32 rows (n, d) from k Gaussians of unequal weight and shape, their means `spread` deviations apart."""
    return labelled_clusters(seed, size, spread)[0]


def labelled_clusters(seed: int, size: Size, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `clusters`, and which of the k each is from, (n,)."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(size.k, size.n, p=rng.dirichlet(np.full(size.k, 5.0)))
    mean = spread * rng.standard_normal((size.k, size.d))
    factor = np.eye(size.d) + 0.5 * rng.standard_normal((size.k, size.d, size.d)) / np.sqrt(size.d)
    x = rng.standard_normal((size.n, size.d), dtype=np.float32)
    for k in range(size.k):
        x[labels == k] = x[labels == k] @ factor[k].T.astype(np.float32) + mean[k].astype(np.float32)
    return x, labels


def start_at_rows(seed: int, x: Any, num_components: int, covariance: str) -> Solution:
    """Return a start with means at random rows, the data's variances in every component, and equal weights."""
    sample = np.asarray(x[: 1 << 16])
    mean = sample[np.random.default_rng(seed).choice(len(sample), num_components, replace=False)]
    variances = np.broadcast_to(sample.var(0), mean.shape)
    equal = np.full(num_components, 1 / num_components, np.float32)
    return Solution(equal, mean, in_form(covariance, equal, np.array([np.diag(v) for v in variances])))


def start_near_truth(x: np.ndarray, labels: np.ndarray, num_components: int, covariance: str) -> Solution:
    """Return the moments of the rows of each label, means off by a tenth of a deviation."""
    rows = [x[labels == k] for k in range(num_components)]
    weights = np.array([len(some) / len(x) for some in rows], np.float32)
    mean = np.array([some.mean(0) + 0.1 * some.std(0) for some in rows])
    own = np.array([np.cov(some.T, bias=True).reshape(x.shape[1], x.shape[1]) for some in rows])
    shrunk = 0.9 * own + 0.1 * np.eye(x.shape[1]) * np.trace(own, axis1=1, axis2=2)[:, None, None] / x.shape[1]
    return Solution(weights, mean, in_form(covariance, weights, shrunk))


def in_form(form: str, weights: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return covariances (k, d, d) in the shape of a form, float32."""
    dims = {"axis1": 1, "axis2": 2}
    by_form = {
        "full": lambda: matrices,
        "tied": lambda: np.tensordot(weights, matrices, 1),
        "diag": lambda: np.diagonal(matrices, **dims),
        "spherical": lambda: np.trace(matrices, **dims) / matrices.shape[1],
    }
    return by_form[form]().astype(np.float32)


def matrices_of(form: str, solution: Solution) -> np.ndarray:
    """Return the covariance matrices of a solution, (k, d, d)."""
    k, d = solution.mean.shape
    covariance = np.asarray(solution.covariance, np.float64)
    if form in ("full", "tied"):
        return np.broadcast_to(covariance, (k, d, d))
    return np.broadcast_to(covariance.reshape(k, -1), (k, d))[:, :, None] * np.eye(d)


def log_likelihood(solution: Solution, x: np.ndarray, form: str, block: int = 1 << 14) -> float:
    """Return Σ_n log Σ_k π_k N(x_n; μ_k, Σ_k) in float64, so that all contenders are judged by one measure."""
    weights, mean, _ = (np.asarray(leaf, np.float64) for leaf in solution)
    factors = np.linalg.cholesky(matrices_of(form, solution))
    log_determinants = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    constant = np.log(weights / weights.sum()) - log_determinants - 0.5 * mean.shape[1] * np.log(2 * np.pi)

    def log_joint(rows: np.ndarray, k: int) -> np.ndarray:
        z = solve_triangular(factors[k], (rows - mean[k]).T, lower=True, check_finite=False)
        return constant[k] - 0.5 * (z**2).sum(0)

    blocks = (x[i : i + block].astype(np.float64) for i in range(0, len(x), block))
    return float(sum(logsumexp([log_joint(rows, k) for k in range(len(mean))], axis=0).sum() for rows in blocks))
