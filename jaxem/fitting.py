"""One fit: `fit` drives a solver over a model in a single `lax.while_loop`, and says honestly how it ended."""

import operator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints, stopping
from jaxem.arrays import is_number, is_traced
from jaxem.blocks import by_default_in_blocks
from jaxem.boundary import are_weights, check_data, check_params, check_steps
from jaxem.gradient import can_rise
from jaxem.implicit import moved
from jaxem.model import Model, PyTree
from jaxem.programs import compiled
from jaxem.solvers import Mapped, Solver, Taken, em
from jaxem.stopping import Status, Trend, is_unsound
from jaxem.trees import choose, inner

MOST_STEPS = 2**31 - 2  # that an int32 counts


class Fit(NamedTuple):
    """What comes back from a fit.

    params           of the last iterate
    log_likelihood   Σ_n w_n log p(x_n | params), in nats
    num_steps        steps of the solver taken from the given params to these
    status           a `Status`, as an int32; `Status(fit.status).message` says it in words
    history          (max_steps + 1,) log-likelihood + log_prior at θ_0, θ_1, …, θ_num_steps; NaN after that
    num_evaluations  E-steps paid
    log_prior        log p(params), in nats; zero where the model has no prior

    >>> import jaxem
    >>> x = [3.0, 1.0, 2.0, 6.0]
    >>> model = jaxem.single(jaxem.families.poisson())
    >>> print(jaxem.fit(model, model.init(0, x), x))
    Fit: CONVERGED, a stationary point: what remains to be gained is within the tolerance, or cannot be told from rounding.
      log-likelihood -7.8808 after 3 steps, 4 E-steps
    """

    params: PyTree
    log_likelihood: Array
    num_steps: Array
    status: Array
    history: Array
    num_evaluations: Array
    log_prior: Any = 0.0

    @property
    def height(self) -> Array:
        """What was climbed: log-likelihood + log_prior."""
        return self.log_likelihood + self.log_prior

    def __repr__(self) -> str:
        """Return a few lines: status in words, log-likelihood, steps and E-steps."""
        if is_traced(self) or np.ndim(self.status) != 0:
            return f"Fit(status={self.status!r}, log_likelihood={self.log_likelihood!r}, num_steps={self.num_steps!r})"
        status = Status(int(self.status))
        counts = f"{_counted(int(self.num_steps), 'step')}, {_counted(int(self.num_evaluations), 'E-step')}"
        values = [_in_digits("log-likelihood", self.log_likelihood)]
        values += [_in_digits("log-prior", self.log_prior)] if self.log_prior != 0 else []
        return f"Fit: {status.name}, {status.message}\n  {', '.join(values)} after {counts}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' if count != 1 else ''}"


def _in_digits(name: str, value: Any) -> str:
    return f"{name} {float(value):.{_decimals(value)}f}"


def _decimals(value: Any) -> int:
    """Return how many decimals of a log-likelihood its dtype can tell, at most four."""
    size = abs(float(value))
    return 4 if not 0 < size < np.inf else int(np.clip(-np.log10(2 * float(np.finfo(value.dtype).eps) * size), 0, 4))


class Run(NamedTuple):
    """A fit under way. While it runs, `params` are proposed and not yet evaluated; once ended, they are the result."""

    params: PyTree
    previous: PyTree  # the last evaluated ones
    slope: PyTree  # the gradient of the value at previous; () where the model has no expected_log_joint
    log_likelihood: Array  # of previous; of params once ended
    value: Array  # log-likelihood + log_prior, which is what is climbed
    trend: Trend
    num_steps: Array  # t, the index of params among the iterates
    num_evaluations: Array
    status: Array
    held: Array  # a floor held the M-step that led to params
    previous_held: Array
    memory: PyTree  # the solver's


def start_run(model: Model, solver: Solver, params: PyTree, weights: Array) -> Run:
    """Return a run that has yet to evaluate `params`; it has ended already where `weights` are no weights."""
    zero, no = jnp.asarray(0, jnp.int32), jnp.asarray(False)
    nan = jnp.asarray(jnp.nan, weights.dtype)
    return Run(
        params=params,
        previous=params,
        slope=_no_slope(model, params),
        log_likelihood=nan,
        value=nan,
        trend=stopping.begin(weights.dtype),
        num_steps=zero,
        num_evaluations=zero,
        status=jnp.where(are_weights(weights), jnp.int32(Status.RUNNING), jnp.int32(Status.NONFINITE)),
        held=no,
        previous_held=no,
        memory=solver.init(params, nan),
    )


def _prior(model: Model, params: PyTree) -> Array | float:
    return model.log_prior(params) if model.log_prior else 0.0


def _no_slope(model: Model, params: PyTree) -> PyTree:
    """Return what stands where no slope is known yet, in the shape of one; () where the model has none."""
    return jax.tree.map(jnp.zeros_like, params) if model.expected_log_joint else ()


def _slope(model: Model, params: PyTree, stats: PyTree) -> PyTree:
    """Return the gradient of log-likelihood + log_prior at `params`, whose E-step gave `stats`, by Fisher's identity.

    To be taken back through mending, which takes out what points off a simplex, n for each weight: its rounding would drown
    the rest.
    """
    expected = model.expected_log_joint
    if expected is None:
        return ()
    return jax.grad(lambda theta: expected(theta, stats) + _prior(model, theta))(params)


def _gain_along(run: Run, slope: PyTree) -> Array:
    """Return the gain of the last step by the trapezoid rule, ½ ⟨g_t + g_t+1, θ_t+1 - θ_t⟩; NaN where there is no slope.

    Right to third order in the step, and far below an ulp of the log-likelihood, which does not enter.
    """
    if not jax.tree.leaves(slope):
        return jnp.full_like(run.value, jnp.nan)
    step = jax.tree.map(jnp.subtract, run.params, run.previous)
    return 0.5 * inner(jax.tree.map(jnp.add, run.slope, slope), step)


class _Walk(NamedTuple):
    """A step under way: what its last turn told, and what is known of the params where it began."""

    taken: Taken
    log_likelihood: Array
    value: Array
    slope: PyTree


def _walk(model: Model, solver: Solver, params: PyTree, memory: PyTree, data: PyTree, weights: Array) -> _Walk:
    """Take the turns of one step from `params`, all through the one E-step and M-step that the program has."""
    retract = partial(constraints.retract, model.constraints)

    def turn(number: Array, walk: _Walk) -> _Walk:
        here, first = walk.taken.params, number == 0
        stats, log_likelihood = model.e_step(here, data, weights)
        value = log_likelihood + _prior(model, here)
        mapped = Mapped(here, value, *_update(model, here, stats))
        return _Walk(
            taken=solver.turn(number, mapped, walk.taken.memory, retract),
            log_likelihood=jnp.where(first, log_likelihood, walk.log_likelihood),
            value=jnp.where(first, value, walk.value),
            slope=lax.cond(first, lambda: _slope(model, here, stats), lambda: walk.slope),
        )

    nan = jnp.asarray(jnp.nan, weights.dtype)
    begun = Taken(params, jnp.asarray(False), memory)
    start = _Walk(begun, nan, nan, _no_slope(model, params))
    return lax.fori_loop(0, solver.evaluations_per_step, turn, start, unroll=solver.evaluations_per_step == 1)


def _update(model: Model, params: PyTree, stats: PyTree) -> tuple[PyTree, Array]:
    """Return the M-step, and whether a floor against an unbounded likelihood holds it."""
    params, stats = lax.optimization_barrier((params, stats))  # else XLA writes what both take of them in two ways
    held = model.degenerate(params, stats) if model.degenerate else jnp.asarray(False)
    return model.m_step(params, stats), held


def advance(model: Model, solver: Solver, run: Run, data: PyTree, weights: Array, tol: Array, max_steps: int) -> Run:
    """Evaluate the proposed params, let `stopping.judge` decide whether to end there, and if not propose the next ones."""
    params, take_back = jax.vjp(partial(constraints.mend, model.constraints), run.params)
    walk = _walk(model, solver, params, run.memory, data, weights)
    slope = take_back(walk.slope)[0] if model.expected_log_joint else ()
    count = observations(model, data, weights)
    gain = _gain_along(run, slope)
    trend, status, back = stopping.judge(run.trend, walk.value, gain, count, tol, run.num_steps, max_steps)
    running = status == Status.RUNNING
    result_held = jnp.where(back, run.previous_held, run.held)
    result = choose(back, run.previous, params)
    return Run(
        params=choose(running, walk.taken.params, result),
        previous=result,
        slope=slope,
        log_likelihood=jnp.where(back, run.log_likelihood, walk.log_likelihood),
        value=jnp.where(back, run.value, walk.value),
        trend=trend,
        num_steps=run.num_steps + running.astype(jnp.int32) - back.astype(jnp.int32),
        num_evaluations=run.num_evaluations + solver.evaluations_per_step,
        status=status,
        held=jnp.where(running, walk.taken.held, result_held),
        previous_held=result_held,
        memory=walk.taken.memory,
    )


def observations(model: Model, data: PyTree, weights: Array) -> Array:
    """Return Σ_n w_n · size_n: how many observations, counted by their weights, a log-likelihood is the sum of."""
    return weights.sum() if model.size is None else (weights * model.size(data)).sum().astype(weights.dtype)


def finish(model: Model, run: Run, history: Array, data: PyTree, weights: Array, tol: Array) -> Fit:
    """Return the ended run as a Fit, with the status that only a second look can tell."""
    status, num_evaluations = run.status, run.num_evaluations
    if not model.exact and model.expected_log_joint is not None:
        doubtful = status == Status.CONVERGED
        rises = lax.cond(
            doubtful,
            lambda params: can_rise(
                model, params, model.e_step(params, data, weights)[0], observations(model, data, weights), tol
            ),
            lambda params: jnp.asarray(False),
            run.params,
        )
        status = jnp.where(rises, jnp.int32(Status.STALLED), status)
        num_evaluations = num_evaluations + doubtful.astype(jnp.int32)
    degenerate = run.held & (status != Status.NONFINITE) & (status != Status.RUNNING)
    status = jnp.where(degenerate, jnp.int32(Status.DEGENERATE), status)
    log_prior = jnp.asarray(_prior(model, run.params), weights.dtype)
    return Fit(run.params, run.log_likelihood, run.num_steps, status, history, num_evaluations, log_prior)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _fit(model: Model, solver: Solver, max_steps: int, params: PyTree, data: PyTree, weights: Array, tol: Array) -> Fit:
    def body(carry: tuple[Run, Array]) -> tuple[Run, Array]:
        run, history = carry
        after = advance(model, solver, run, data, weights, tol, max_steps)
        return after, history.at[run.num_steps].set(recorded(run, after))

    check_steps(model, params, data, weights)
    run = start_run(model, solver, params, weights)
    history = jnp.full(max_steps + 1, jnp.nan, weights.dtype)
    run, history = lax.while_loop(lambda carry: carry[0].status == Status.RUNNING, body, (run, history))
    return finish(model, run, history, data, weights, tol)


def _implicitly(model: Model, solver: Solver, max_steps: int, primals: Any, tangents: Any) -> tuple[Fit, Fit]:
    """Move with data and weights as a stationary point does, which has forgotten where it came from."""
    found = _fit(model, solver, max_steps, *primals)
    (_, data, weights, _), (_, data_dot, weights_dot, _) = primals, tangents
    tangent = moved(model, found.params, data, weights, data_dot, weights_dot)
    known = jnp.where(is_unsound(found.status), jnp.nan, 1)  # a factor, so that it is passed in reverse as well
    tangent = jax.tree.map(lambda leaf: leaf * known.astype(leaf.dtype), tangent)
    return found, jax.tree.map(_no_tangent, found)._replace(**tangent._asdict())


_fit.defjvp(_implicitly)
_compiled = compiled(_fit, static_argnums=(0, 1, 2))


def _no_tangent(leaf: Array) -> Any:
    return jnp.zeros_like(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else np.zeros(leaf.shape, jax.dtypes.float0)


def recorded(before: Run, after: Run) -> Array:
    """Return what the history holds at the step just evaluated: its value, or NaN if the run went back from it."""
    return jnp.where(after.num_steps < before.num_steps, jnp.nan, after.value)


def check_fit(fit: Any) -> Fit:
    """Return one Fit; raise ValueError for anything else."""
    if isinstance(fit, Fit) and np.ndim(fit.log_likelihood) == 0:
        return fit
    if isinstance(fit, Fit):
        raise ValueError("fit must be one Fit, got many stacked: pass search.best, or one of them.")
    cure = "search.best, the best of its fits" if hasattr(fit, "best") else "what jaxem.fit returns"
    raise ValueError(f"fit must be a Fit, got {type(fit).__name__}: pass {cure}.")


def check_control(solver: Any, tol: Any, max_steps: Any) -> int:
    """Return `max_steps` as an int; raise ValueError unless it is a whole number ≥ 0, `tol` a number, `solver` a Solver."""
    if not isinstance(solver, Solver):
        raise ValueError(f"solver must be a Solver, such as jaxem.squarem() with its parentheses, got {solver!r}.")
    if not is_traced(tol) and (not is_number(tol) or np.isnan(tol)):
        raise ValueError(f"tol must be a number of nats (0 stops at rounding, -inf runs all max_steps), got {tol!r}.")
    if not hasattr(max_steps, "__index__") or not 0 <= operator.index(max_steps) <= MOST_STEPS:
        raise ValueError(f"max_steps must be a whole number ≥ 0 and at most {MOST_STEPS}, got {max_steps!r}.")
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

    data: a pytree of arrays with leading axis n; weights (n,), None for one each. The fit climbs log-likelihood + log_prior.
    It ends when the gain that remains, extrapolated from the last gains, is within `tol` nats twice in a row, or when
    progress cannot be told from rounding (see `stopping.judge`). `tol=0` leaves only the second, `tol=-inf` neither.
    CONVERGED is a stationary point, no proof of a maximum. Usable inside jit and vmap, and differentiable in data and weights,
    forward and in reverse, by the implicit function theorem: as a stationary point, which `tol=0` comes closest to. The start
    has no part in that, and neither has `history`; parameters on the boundary of their domain stay there. Derivatives of a
    fit that ended DEGENERATE or NONFINITE, which is at no stationary point, are NaN, and so are those of what the data do not
    tell but push.

    Raises ValueError for data, weights or params that the model cannot take; under a trace, where values cannot be looked
    at, `status` says NONFINITE instead.

    >>> import numpy as np, jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> fit = jaxem.fit(model, start, *x, solver=jaxem.squarem())
    >>> print(np.asarray(fit.params.components.rate).round(1))
    [1.3 2.7]
    """
    max_steps = check_control(solver, tol, max_steps)
    data, weights = check_data(model, data, weights, padded=True)
    params = check_params(model, params, data, weights)
    tolerance = jnp.asarray(tol, weights.dtype)
    return _compiled(by_default_in_blocks(model, data), solver, max_steps, params, data, weights, tolerance)
