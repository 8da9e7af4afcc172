"""One fit: `fit` drives a solver over a model in a single `lax.while_loop`, and says honestly how it ended."""

import operator
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.boundary import check_data, check_params, check_steps, is_traced
from jaxem.chunked import by_default_in_blocks
from jaxem.model import Model, PyTree, choose
from jaxem.solvers import EMMap, Solver, em


class Status(IntEnum):
    """Why a fit ended. `Status(fit.status).name` reads well."""

    RUNNING = 0
    """It has not ended; never seen outside the loop."""
    CONVERGED = 1
    """What remains to be gained is below the tolerance, or cannot be told from rounding."""
    MAX_STEPS = 2
    """`max_steps` were taken and progress was still being made."""
    STALLED = 3
    """An M-step could not improve although the bound could yet rise, or the log-likelihood fell beyond rounding."""
    NONFINITE = 4
    """The next log-likelihood was NaN or infinite; params are the last with a finite one, if there were any."""
    DEGENERATE = 5
    """A constraint against an unbounded likelihood holds a component: without it the likelihood would rise without end."""
    NOT_CONTINUED = 6
    """One of many restarts, given up after its short run in favour of more promising ones."""


class Fit(NamedTuple):
    """What comes back from a fit.

    params           of the last iterate
    log_likelihood   Σ_n w_n log p(x_n | params), in nats
    num_steps        steps of the solver taken from the given params to these
    status           a `Status`, as an int32
    history          (max_steps + 1,) log-likelihood at θ_0, θ_1, …, θ_num_steps; NaN after that
    num_evaluations  E-steps paid
    """

    params: PyTree
    log_likelihood: Array
    num_steps: Array
    status: Array
    history: Array
    num_evaluations: Array


class Run(NamedTuple):
    """A fit under way. While it runs, `params` are proposed and not yet evaluated; once ended, they are the result."""

    params: PyTree
    previous: PyTree  # the last evaluated ones
    log_likelihood: Array  # of previous; of params once ended
    gain: Array  # the last rise of the log-likelihood
    ratio: Array  # of that rise to the one before
    promises: Array  # evaluations in a row at which the estimated remaining gain was within tol
    peak: Array  # the log-likelihood when progress was last told from rounding
    quiet: Array  # evaluations since then
    num_steps: Array  # t, the index of params among the iterates
    num_evaluations: Array
    status: Array
    held: Array  # a constraint held the last M-step
    unchanged: Array  # the last M-step returned its parameters unchanged
    memory: Any  # the solver's


ROUNDING = 4.0  # ulps of |log-likelihood| + Σ w within which two log-likelihoods cannot be told apart
WARINESS = 10  # times that a rise of the ratio of gains is counted
PROMISES = 2  # consecutive estimates within tol that end a fit
FALL = 128.0  # such ulps by which a log-likelihood has fallen for sure: rounding in a sum over rows adds up
QUIET = 4  # consecutive evaluations without progress that end a fit


def start_run(solver: Solver, params: PyTree, dtype: Any) -> Run:
    """Return a run that has yet to evaluate `params`."""
    zero, no = jnp.asarray(0, jnp.int32), jnp.asarray(False)
    nan, infinity = jnp.asarray(jnp.nan, dtype), jnp.asarray(jnp.inf, dtype)
    return Run(
        params=params,
        previous=params,
        log_likelihood=nan,
        gain=infinity,
        ratio=nan,
        promises=zero,
        peak=-infinity,
        quiet=zero,
        num_steps=zero,
        num_evaluations=zero,
        status=jnp.asarray(Status.RUNNING, jnp.int32),
        held=no,
        unchanged=no,
        memory=solver.init(params),
    )


def _remaining(gain: Array, ratio: Array, previous_ratio: Array) -> Array:
    """Estimate what is left to gain when gains shrink geometrically; infinite where they do not.

    Aitken's Δ², g ρ / (1 - ρ) with ρ the ratio of the last two gains (Böhning et al. 1994). While fast directions die out ρ
    rises towards the rate of the slowest one, so a rise of ρ is taken ten times over.
    """
    rate = ratio + WARINESS * jnp.maximum(ratio - previous_ratio, 0)
    geometric = (gain > 0) & (rate > 0) & (rate < 1)
    return jnp.where(geometric, gain * rate / (1 - rate), jnp.inf)


def advance(model: Model, solver: Solver, run: Run, data: PyTree, weights: Array, tol: Array, max_steps: int) -> Run:
    """Evaluate the proposed params, decide whether to end there, and if not propose the next ones.

    The rule: end as CONVERGED when two estimates in a row put the remaining gain within `tol` nats, or when four
    evaluations in a row are no higher, beyond rounding, than the log-likelihood before them. End as STALLED, one iterate
    back, when it has fallen beyond rounding. `tol` = -inf does neither.
    """
    stats, log_likelihood = model.e_step(run.params, data, weights)
    gain = jnp.where(run.num_steps == 0, jnp.inf, log_likelihood - run.log_likelihood)
    scale = jnp.abs(log_likelihood) + weights.sum()
    eps = jnp.finfo(weights.dtype).eps

    ratio = gain / run.gain
    promises = jnp.where(_remaining(gain, ratio, run.ratio) <= tol, run.promises + 1, 0)
    progress = log_likelihood > run.peak + ROUNDING * eps * scale
    quiet = jnp.where(progress, 0, run.quiet + 1)
    watched = tol > -jnp.inf
    converged = watched & ((promises >= PROMISES) | (quiet >= QUIET))
    fell = watched & (log_likelihood < run.peak - FALL * eps * scale)
    finite = jnp.isfinite(log_likelihood)
    status = jnp.select(
        [~finite, fell, converged, run.num_steps >= max_steps],
        [jnp.int32(s) for s in (Status.NONFINITE, Status.STALLED, Status.CONVERGED, Status.MAX_STEPS)],
        jnp.int32(Status.RUNNING),
    )
    running = status == Status.RUNNING
    back = (~finite | fell) & (run.num_steps > 0)

    def evaluate(params: PyTree) -> tuple[PyTree, Array]:
        return model.e_step(params, data, weights)

    held = model.held or (lambda params, stats: jnp.asarray(False))
    em_map = EMMap(evaluate, model.m_step, held, partial(constraints.retract, model.constraints))
    proposed, memory = solver.step(em_map, run.params, stats, log_likelihood, run.memory)
    result = choose(back, run.previous, run.params)
    return Run(
        params=choose(running, proposed, result),
        previous=result,
        log_likelihood=jnp.where(back, run.log_likelihood, log_likelihood),
        gain=gain,
        ratio=ratio,
        promises=promises,
        peak=jnp.where(progress, log_likelihood, run.peak),
        quiet=quiet,
        num_steps=run.num_steps + running.astype(jnp.int32) - back.astype(jnp.int32),
        num_evaluations=run.num_evaluations + solver.evaluations_per_step,
        status=status,
        held=jnp.where(back, run.held, held(run.params, stats)),
        unchanged=jnp.where(running, _equal(proposed, run.params), run.unchanged) if model.stalled else run.unchanged,
        memory=memory,
    )


def _equal(left: PyTree, right: PyTree) -> Array:
    return jnp.all(jnp.stack([jnp.all(a == b) for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)]))


def finish(model: Model, run: Run, history: Array, data: PyTree, weights: Array) -> Fit:
    """Return the ended run as a Fit, with the status that only a second look can tell."""
    status, num_evaluations = run.status, run.num_evaluations
    if model.stalled:
        stalled = model.stalled
        doubtful = run.unchanged & (status == Status.CONVERGED)
        can_rise = lax.cond(
            doubtful,
            lambda params: stalled(params, model.e_step(params, data, weights)[0]),
            lambda params: jnp.asarray(False),
            run.params,
        )
        status = jnp.where(can_rise, jnp.int32(Status.STALLED), status)
        num_evaluations = num_evaluations + doubtful.astype(jnp.int32)
    degenerate = run.held & (status != Status.NONFINITE) & (status != Status.RUNNING)
    status = jnp.where(degenerate, jnp.int32(Status.DEGENERATE), status)
    return Fit(run.params, run.log_likelihood, run.num_steps, status, history, num_evaluations)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(model: Model, solver: Solver, max_steps: int, params: PyTree, data: PyTree, weights: Array, tol: Array) -> Fit:
    def body(carry: tuple[Run, Array]) -> tuple[Run, Array]:
        run, history = carry
        after = advance(model, solver, run, data, weights, tol, max_steps)
        return after, history.at[run.num_steps].set(recorded(run, after))

    check_steps(model, params, data, weights)
    run = start_run(solver, params, weights.dtype)
    history = jnp.full(max_steps + 1, jnp.nan, weights.dtype)
    run, history = lax.while_loop(lambda carry: carry[0].status == Status.RUNNING, body, (run, history))
    return finish(model, run, history, data, weights)


def recorded(before: Run, after: Run) -> Array:
    """Return what the history holds at the step just evaluated: its log-likelihood, or NaN if the run went back from it."""
    return jnp.where(after.num_steps < before.num_steps, jnp.nan, after.log_likelihood)


def check_control(solver: Any, tol: Any, max_steps: Any) -> int:
    """Return `max_steps` as an int; raise ValueError unless it is a whole number ≥ 0, `tol` a number, `solver` a Solver."""
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be a Solver, such as jaxem.squarem() with its parentheses, got {solver!r}.")
    if not is_traced(tol) and (np.ndim(tol) != 0 or not np.issubdtype(np.asarray(tol).dtype, np.number) or np.isnan(tol)):
        raise ValueError(f"tol must be a number of nats (0 stops at rounding, -inf runs all max_steps), got {tol!r}.")
    if not hasattr(max_steps, "__index__") or operator.index(max_steps) < 0:
        raise ValueError(f"max_steps must be a whole number ≥ 0, got {max_steps!r}.")
    return operator.index(max_steps)


def fit(
    model: Model,
    params: PyTree,
    data: PyTree,
    weights: Any = None,
    *,
    solver: Solver = em(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
) -> Fit:
    """Fit `model` to `data` from `params` by steps of `solver`, in one compiled loop.

    data: a pytree of arrays with leading axis n; weights (n,), None for one each. The fit ends when the gain that remains,
    extrapolated from the last gains, is within `tol` nats twice in a row, or when progress cannot be told from rounding
    (see `advance`). `tol=0` leaves only the second, `tol=-inf` neither. Usable inside jit, vmap and grad-free transforms.

    Raises ValueError for data, weights or params that the model cannot take; under a trace, where values cannot be looked
    at, `status` says NONFINITE instead.
    """
    max_steps = check_control(solver, tol, max_steps)
    data, weights = check_data(model, data, weights)
    params = check_params(model, params, data, weights)
    return _fit(by_default_in_blocks(model, data), solver, max_steps, params, data, weights, jnp.asarray(tol, weights.dtype))
