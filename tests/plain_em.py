"""Plain-loop NumPy EM for mixtures: slow, and obviously right. The oracle of the trajectory tests."""

import math

import numpy as np


def normal_log_density(x, mean, covariance):
    total = -0.5 * len(mean) * math.log(2 * math.pi) - 0.5 * np.linalg.slogdet(covariance)[1]
    return total - 0.5 * (x - mean) @ np.linalg.solve(covariance, x - mean)


def poisson_log_mass(x, rate):
    return sum(c * math.log(r) - r - math.lgamma(c + 1) for c, r in zip(np.atleast_1d(x), np.atleast_1d(rate), strict=True))


def bernoulli_log_mass(x, probs):
    return sum(math.log(p if c else 1 - p) for c, p in zip(np.atleast_1d(x), np.atleast_1d(probs), strict=True))


def e_step(x, weights, proportions, log_density):
    """Return responsibilities times weights, (n, k), and the log-likelihood, by enumerating the labels of each row."""
    responsibilities, log_likelihood = np.zeros((len(x), len(proportions))), 0.0
    for n, row in enumerate(x):
        joint = [math.log(p) + log_density(row, k) for k, p in enumerate(proportions)]
        peak = max(joint)
        total = sum(math.exp(value - peak) for value in joint)
        responsibilities[n] = [weights[n] * math.exp(value - peak) / total for value in joint]
        log_likelihood += weights[n] * (peak + math.log(total))
    return responsibilities, log_likelihood


def gaussian_m_step(x, responsibilities, covariance):
    """Return proportions, means and full covariances (k, d, d) of the M-step under a form of covariance."""
    counts = responsibilities.sum(0)
    k, dim = len(counts), x.shape[1]
    means = np.array([sum(r * row for r, row in zip(responsibilities[:, j], x, strict=True)) / counts[j] for j in range(k)])
    scatters = np.zeros((k, dim, dim))
    for j in range(k):
        for r, row in zip(responsibilities[:, j], x, strict=True):
            scatters[j] += r * np.outer(row - means[j], row - means[j])
    if covariance == "tied":
        scatters[:] = scatters.sum(0) * (counts / counts.sum())[:, None, None]
    covariances = scatters / counts[:, None, None]
    if covariance == "diag":
        covariances = covariances * np.eye(dim)
    if covariance == "spherical":
        covariances = np.array([np.eye(dim) * np.trace(c) / dim for c in covariances])
    return counts / counts.sum(), means, covariances


def gaussian_trajectory(x, weights, responsibilities, covariance, num_steps):
    """Return the log-likelihoods at θ_0 … θ_num_steps, θ_0 the M-step of the given responsibilities."""
    values = []
    for _ in range(num_steps + 1):
        proportions, means, covariances = gaussian_m_step(x, responsibilities, covariance)

        def log_density(row, k, means=means, covariances=covariances):
            return normal_log_density(row, means[k], covariances[k])

        responsibilities, value = e_step(x, weights, proportions, log_density)
        values.append(value)
    return np.array(values)
