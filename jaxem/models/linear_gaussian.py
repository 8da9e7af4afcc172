"""Linear-Gaussian state space models: a state that moves linearly, seen linearly, both with Gaussian noise."""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import at_least_one
from jaxem.constraints import on_axes, positive, positive_definite, real
from jaxem.model import Model, require
from jaxem.models.building import build
from jaxem.models.state_space import sums
from jaxem.models.state_space.emission import emission_of
from jaxem.models.state_space.identified import free_parameters
from jaxem.models.state_space.passes import entropies, expect, forward, posterior_of
from jaxem.models.state_space.records import LinearGaussian, StateSpacePosterior
from jaxem.models.state_space.sampling import drawn, sampler, started
from jaxem.models.state_space.series import Series, series
from jaxem.models.state_space.statistics import (
    StateSpaceStats,
    coefficients_of,
    moments_of,
    spread_of,
    statistics_of,
    weights_of,
)

FLOOR = 1e-10  # of the variances of the data, above which the noise of what is seen is held


def linear_gaussian(
    state_dim: int,
    observation_dim: int,
    *,
    observation_covariance: str = "full",
    inputs: int = 0,
    parallel: bool | None = None,
) -> Model:
    """Return the linear-Gaussian state space model of s = `state_dim` states and o = `observation_dim` observations.

    x_1 ~ N(μ, V),  x_t = A x_t-1 + B u_t + w_t for t ≥ 2,  y_t = C x_t + D u_t + v_t;  w_t ~ N(0, Q), v_t ~ N(0, R)

    data: `jaxem.Sequences` of values (n, t, o), or (n, t) where o = 1, one row for each sequence, of any lengths; with holes
    by `families.observed`; with q = `inputs`, `families.Gated(inputs (n, t, q), values)`. weights (n,) are of sequences,
    `model.size` counts time steps. params: `LinearGaussian`; `observation_covariance` "full" R (o, o), or "diag" (o,).
    posterior: `StateSpacePosterior`; latents of `sample` are states (n, t, s), and `like` may be a pair (n, t).
    `parallel` has time steps combined two by two, in a depth of log t, for accelerators; None does so there alone.

    States are identified up to a change of their basis, x → Tx: s² directions change nothing where no parameter is held, and
    are not counted as free; `certify` finds them. `freeze` holds any of the parameters, and the others are maximized exactly
    given those: A = C = 1 held is the local level model.
    R is held above 1e-10 of the variances of the data where the likelihood is unbounded.
    Shumway & Stoffer (1982); Ghahramani & Hinton (1996). Raises ValueError for dimensions below one, and another covariance.

    >>> import numpy as np, jaxem
    >>> model = jaxem.linear_gaussian(1, 1)
    >>> one = np.ones((1, 1))
    >>> params = jaxem.LinearGaussian(np.zeros(1), one, one, one, one, one)
    >>> posterior = model.posterior(params, jaxem.sequences([[[1.0], [2.0], [1.0]]]))
    >>> print(posterior.means[0, :, 0].round(2))
    [0.77 1.31 1.15]
    """
    if observation_covariance not in ("full", "diag"):
        raise ValueError(f'observation_covariance must be "full" or "diag", got {observation_covariance!r}.')
    if parallel not in (None, True, False):
        raise ValueError(f"parallel must be True, False or None, got {parallel!r}.")
    num_inputs = at_least_one("inputs", inputs) if inputs != 0 else 0
    dims = at_least_one("state_dim", state_dim), at_least_one("observation_dim", observation_dim)
    return _linear_gaussian(*dims, observation_covariance, num_inputs, parallel)


@cache
def _linear_gaussian(s: int, o: int, form: str, q: int, parallel: bool | None) -> Model:
    def infer(params: LinearGaussian, data: Series) -> tuple[StateSpacePosterior, Array, Any]:
        made = forward(params, data, parallel)

        def statistics(weights: Array, posterior: StateSpacePosterior) -> StateSpaceStats:
            means, moments = moments_of(params, data, posterior)
            emission = emission_of(params, data)
            return statistics_of(
                params, data, weights_of(data, weights), emission, means, spread_of(params, data, weights, emission, moments)
            )

        return posterior_of(made, parallel), made.step_log_prob.sum(1), statistics

    def expected_log_joint(params: LinearGaussian, stats: StateSpaceStats) -> Array:
        first = sums.expected_log_prob(stats.initial, params.initial_mean[:, None], params.initial_covariance)
        moves = coefficients_of(params.transition, params.transition_input)
        shows = coefficients_of(params.emission, params.emission_input)
        then = sums.expected_log_prob(stats.transition, moves, params.transition_covariance)
        seen = sums.expected_log_prob(stats.emission, shows, params.emission_covariance)
        return first + then + seen + stats.entropy

    def estimate(params: LinearGaussian, stats: StateSpaceStats, held: LinearGaussian) -> tuple[LinearGaussian, Array]:
        """Return the parameters that are best given those `held`, and whether a floor holds R."""

        def line(name: str, old: Array, inputs: Array | None, columns: tuple[bool, bool | None]) -> Array:
            kept = np.repeat(np.array(columns, bool), [old.shape[1], 0 if inputs is None else inputs.shape[1]])
            return sums.coefficients(getattr(stats, name), coefficients_of(old, inputs), kept)

        mean = line("initial", params.initial_mean[:, None], None, (held.initial_mean, False))
        moves = line("transition", params.transition, params.transition_input, (held.transition, bool(held.transition_input)))
        shows = line("emission", params.emission, params.emission_input, (held.emission, bool(held.emission_input)))
        floor = FLOOR * stats.total / jnp.where(stats.rows > 0, stats.rows, 1)
        noise, low = sums.covariance(stats.emission, shows, params.emission_covariance, floor)
        found = LinearGaussian(
            mean[:, 0],
            sums.covariance(stats.initial, mean, params.initial_covariance)[0],
            moves[:, :s],
            sums.covariance(stats.transition, moves, params.transition_covariance)[0],
            shows[:, :s],
            noise,
            moves[:, s:] if q else None,
            shows[:, s:] if q else None,
        )
        return jax.tree.map(lambda hold, old, new: old if hold else new, held, params, found), low & (
            not held.emission_covariance
        )

    nothing = LinearGaussian(*[False] * 6, *[False if q else None] * 2)
    spread = on_axes(positive_definite, ())
    number = on_axes(real, ())
    domains = LinearGaussian(
        number,
        spread,
        number,
        spread,
        number,
        spread if form == "full" else on_axes(positive, ()),
        *[number if q else None] * 2,
    )
    model = build(
        infer,
        lambda params, stats: estimate(params, stats, nothing)[0],
        expected_log_joint,
        m_step_given=lambda params, stats, held: estimate(params, stats, held)[0],
        prepare=lambda data, weights: series(data, weights, o, q),
        draw=drawn,
        begin=lambda key, data, weights: started(key, data, weights, s, form),
        size=lambda data: data.lengths.astype(data.values.dtype),
        degenerate=lambda params, stats: estimate(params, stats, nothing)[1],
        constraints=domains,
        num_free=free_parameters,
        streamed=partial(expect, parallel=parallel),
        entropy=partial(entropies, parallel=parallel),
        parts=(_linear_gaussian, (s, o, form, q, parallel)),
    )
    return model._replace(sample=sampler(require(model, "sample"), o, q))


of_state_space = _linear_gaussian  # by which the parts of such a model are known
