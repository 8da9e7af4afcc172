"""One function per library: convert data and starts, untimed, and return what is timed.

Each takes (x, covariance, starts, stop) and returns a function of nothing that fits from every start in turn and gives a
list of outcomes. All imports are inside, so that a library that is not installed is only missing.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np

from benchmarks.problems import Solution


class Stop(NamedTuple):
    """When to end: after `max_steps`, or when a step gains less than `tol` nats per row; -inf never does."""

    max_steps: int
    tol: float = -np.inf
    ridge: float = 0.0  # what scikit-learn and gmmx add to the variances against collapse


class Outcome(NamedTuple):
    """Where a fit ended and after how many steps; None where the library gave up."""

    solution: Solution | None
    num_steps: int


Fits = Callable[[], list[Outcome]]


def jaxem(x: Any, covariance: str, starts: list[Solution], stop: Stop) -> Fits:
    """Fit with this library; its tolerance is the estimated remaining gain in nats, here of all rows together."""
    import jax
    import jax.numpy as jnp

    import jaxem
    from jaxem import families

    data = jnp.asarray(x)
    model = jaxem.mixture(families.gaussian(covariance), len(starts[0].weights))

    def params(start: Solution) -> jaxem.Mixture:
        weights, mean, spread = (jnp.asarray(leaf, jnp.float32) for leaf in start)
        return jaxem.Mixture(weights, families.Gaussian(mean, spread))

    def fit(start: jaxem.Mixture) -> Outcome:
        found = jax.block_until_ready(jaxem.fit(model, start, data, tol=stop.tol * len(data), max_steps=stop.max_steps))
        components = found.params.components
        solution = jax.tree.map(np.asarray, Solution(found.params.weights, components.mean, components.covariance))
        return Outcome(solution, int(found.num_steps))

    from_here = [params(start) for start in starts]
    return lambda: [fit(start) for start in from_here]


def scikit_learn(x: Any, covariance: str, starts: list[Solution], stop: Stop) -> Fits:
    """Fit with GaussianMixture; given weights, means and precisions it runs no k-means of its own."""
    from sklearn.mixture import GaussianMixture

    data = np.asarray(x)

    def fit(start: Solution) -> Outcome:
        precision = np.linalg.inv(start.covariance) if covariance in ("full", "tied") else 1 / start.covariance
        mixture = GaussianMixture(
            len(start.weights),
            covariance_type=covariance,
            tol=max(stop.tol, 0.0),  # 0 never stops: a step must gain less than it
            reg_covar=stop.ridge,
            max_iter=stop.max_steps,
            weights_init=start.weights,
            means_init=start.mean,
            precisions_init=precision,
        )
        try:
            mixture.fit(data)
        except ValueError:  # a covariance that collapsed
            return Outcome(None, 0)
        return Outcome(Solution(mixture.weights_, mixture.means_, mixture.covariances_), mixture.n_iter_)

    def fits() -> list[Outcome]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that ten steps did not converge is meant
            return [fit(start) for start in starts]

    return fits


def gmmx(x: Any, covariance: str, starts: list[Solution], stop: Stop) -> Fits:
    """Fit with EMFitter; it does one E-step less than the others, as it returns no log-likelihood of its last params."""
    import jax.numpy as jnp
    from gmmx import EMFitter, GaussianMixtureModelJax

    data = jnp.asarray(x)
    fitter = EMFitter(max_iter=stop.max_steps, tol=max(stop.tol, -1.0), reg_covar=stop.ridge)

    def mixture(start: Solution) -> GaussianMixtureModelJax:
        weights, mean, spread = (jnp.asarray(leaf, jnp.float32) for leaf in start)
        return GaussianMixtureModelJax.from_squeezed(mean, spread, weights, covariance_type=covariance)

    def fit(start: GaussianMixtureModelJax) -> Outcome:
        result = fitter.fit(x=data, gmm=start)
        found = result.gmm
        solution = Solution(found.weights_numpy, found.means_numpy, found.covariances.values_numpy)
        return Outcome(solution if _sound(solution) else None, int(result.n_iter))

    from_here = [mixture(start) for start in starts]
    return lambda: [fit(start) for start in from_here]


def pomegranate(x: Any, covariance: str, starts: list[Solution], stop: Stop) -> Fits:
    """Fit with GeneralMixtureModel of Normals; it does not count its steps, so their log-likelihoods are counted."""
    import torch
    from pomegranate.distributions import Normal
    from pomegranate.gmm import GeneralMixtureModel

    class Counted(GeneralMixtureModel):
        steps = 0

        def from_summaries(self) -> None:
            self.steps += 1
            super().from_summaries()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the array is read-only
        data = torch.from_numpy(np.asarray(x))

    def fit(start: Solution) -> Outcome:
        components = [Normal(m.copy(), c.copy(), covariance) for m, c in zip(start.mean, start.covariance, strict=True)]
        mixture = Counted(components, start.weights.copy(), max_iter=stop.max_steps, tol=stop.tol * len(data))
        try:
            mixture.fit(data)
        except (RuntimeError, ValueError):  # a covariance that collapsed
            return Outcome(None, mixture.steps)
        parts = [(d.means.numpy(), d.covs.numpy()) for d in mixture.distributions]
        mean, spread = (np.stack(part) for part in zip(*parts, strict=True))
        solution = Solution(mixture.priors.numpy(), mean, spread)
        return Outcome(solution if _sound(solution) else None, mixture.steps)

    return lambda: [fit(start) for start in starts]


def _sound(solution: Solution) -> bool:
    return all(np.isfinite(leaf).all() for leaf in solution)


LIBRARIES: dict[str, tuple[Callable[..., Fits], str]] = {
    "jaxem": (jaxem, "jaxem"),
    "scikit-learn": (scikit_learn, "sklearn"),
    "gmmx": (gmmx, "gmmx"),
    "pomegranate": (pomegranate, "pomegranate"),
}
"""Each library's column, its function, and the module that must be there."""


def installed() -> dict[str, Callable[..., Fits]]:
    """Return the functions of the libraries that can be imported here."""
    return {name: function for name, (function, module) in LIBRARIES.items() if _importable(module)}


def _importable(module: str) -> bool:
    """Tell whether a module imports; one that is there and fails on something missing counts as not installed."""
    if find_spec(module) is None:
        return False
    try:
        __import__({"pomegranate": "pomegranate.gmm"}.get(module, module))
    except ImportError:
        return False
    return True
