"""EM as scikit-learn takes it: as many steps, ended by the same rule, and covariances widened by the same amount.

jaxem's own rule asks what remains to be gained, and nothing is added to a covariance there; but whoever changes an import line
expects what they had.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.families import Gaussian
from jaxem.model import Model, PyTree, require
from jaxem.models.mixture import Mixture


class Climb(NamedTuple):
    """A run of EM: the params it has come to, and the mean log-likelihood before each of its steps."""

    params: Mixture
    bound: Array
    bounds: Array  # (size,), of which the first num_steps are known
    num_steps: Array
    converged: Array
    held: Array  # by the floor against an unbounded likelihood


def widened(form: str, params: Mixture, reg_covar: Array) -> Mixture:
    """Return params of a Gaussian mixture with a number added to each variance."""
    mean, covariance = params.components
    if form in ("full", "tied"):
        identity = jnp.eye(mean.shape[1], dtype=mean.dtype)
        reg_covar = reg_covar * identity.reshape((1,) * (covariance.ndim - 2) + identity.shape)
    return params._replace(components=Gaussian(mean, covariance + reg_covar))


widened_alone = jax.jit(widened, static_argnums=0)


@partial(jax.jit, static_argnums=(0, 1))
def begun(
    model: Model, form: str, params: Mixture, data: PyTree, weights: Array, responsibilities: Array, reg_covar: Array
) -> Mixture:
    """Return what responsibilities (n, k) imply; `params` only fix the centring, first amid the rows, then at the means."""

    def implied(about: Mixture) -> Mixture:
        return model.m_step(about, require(model, "statistics")(about, data, weights, responsibilities))

    mean = implied(params).components.mean
    about = params._replace(components=params.components._replace(mean=mean))
    return widened(form, implied(about), reg_covar)


@partial(jax.jit, static_argnums=(0, 1, 2))
def climbed(
    model: Model,
    form: str,
    size: int,
    params: Mixture,
    data: PyTree,
    weights: Array,
    bound: Array,
    reg_covar: Array,
    tol: Array,
    max_steps: Array,
) -> Climb:
    """Take at most `max_steps` ≤ `size` steps, until the mean log-likelihood changes by less than `tol` from `bound`."""

    def step(run: Climb) -> Climb:
        stats, log_likelihood = model.e_step(run.params, data, weights)
        mean = log_likelihood / weights.sum()
        held = model.degenerate(run.params, stats) if model.degenerate else jnp.asarray(False)
        return Climb(
            params=widened(form, model.m_step(run.params, stats), reg_covar),
            bound=mean,
            bounds=run.bounds.at[run.num_steps].set(mean),
            num_steps=run.num_steps + 1,
            converged=(jnp.abs(mean - run.bound) < tol) & ~held,
            held=held,
        )

    def goes_on(run: Climb) -> Array:
        return ~run.converged & (run.num_steps < max_steps) & ((run.num_steps == 0) | jnp.isfinite(run.bound))

    none, no = jnp.asarray(0, jnp.int32), jnp.asarray(False)
    return lax.while_loop(goes_on, step, Climb(params, bound, jnp.full(size, jnp.nan, weights.dtype), none, no, no))
