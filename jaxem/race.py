"""A race of many starts: short runs of all, long runs of the most promising, through a few lanes that step together.

Starts wait in a queue. A lane whose run ends takes the next start, so finished runs cost nothing until the queue is empty.
Each start may have weights of its own over rows that all share.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.boundary import check_steps
from jaxem.fitting import Fit, Run, advance, finish, recorded, start_run
from jaxem.model import Model, PyTree
from jaxem.solvers import Solver
from jaxem.stopping import Status
from jaxem.trees import choose, pick


class Course(NamedTuple):
    """How far starts run, and in how many lanes: all `short_steps`, then `num_continued` of them to their ends."""

    num_continued: int
    short_steps: int
    max_steps: int
    num_lanes: int


class _Queue(NamedTuple):
    runs: Run  # of all starts, stacked
    histories: Array  # (num_restarts, max_steps + 1)
    lanes: Run  # under way, stacked
    starts: Array  # (num_lanes,) the start each lane works on; num_restarts where it idles
    next_place: Array  # the first place in the queue that no lane has taken
    useful: Array  # lane steps that advanced a start
    paid: Array  # lane steps


def _over_lanes(function: Callable[..., Any], num_lanes: int) -> Callable[..., Any]:
    """Return `function` over a leading axis of lanes; a single lane is spared vmap, which would pay both sides of a cond."""
    if num_lanes > 1:
        return jax.vmap(function)

    def alone(*trees: PyTree) -> PyTree:
        first = jax.tree.map(lambda leaf: leaf[0], trees)
        return jax.tree.map(lambda leaf: leaf[None], function(*first))

    return alone


def _work(step: Callable[[Run, Array], Run], queue: _Queue, to_run: Array, limit: Array) -> _Queue:
    """Advance the starts marked in `to_run` until each has ended or has taken `limit` steps; `step` is told which start."""
    num_restarts, num_lanes = to_run.shape[0], queue.starts.shape[0]
    places_taken = jnp.cumsum(to_run, dtype=jnp.int32)

    def take(places: Array) -> Array:
        """Return the starts at these places of the queue; num_restarts beyond its end."""
        return (places_taken[None, :] <= places[:, None]).sum(1, dtype=jnp.int32)

    def body(queue: _Queue) -> _Queue:
        before = queue.lanes
        after = _over_lanes(step, num_lanes)(queue.lanes, jnp.minimum(queue.starts, num_restarts - 1))
        busy = queue.starts < num_restarts
        done = busy & ((after.status != Status.RUNNING) | (after.num_steps >= limit))
        leaving = jnp.where(done, queue.starts, num_restarts)[None, :] == jnp.arange(num_restarts, dtype=jnp.int32)[:, None]
        runs = choose(leaving.any(1), pick(after, leaving.argmax(1)), queue.runs)
        starts = jnp.where(done, take(queue.next_place + jnp.cumsum(done, dtype=jnp.int32) - 1), queue.starts)
        return _Queue(
            runs=runs,
            histories=queue.histories.at[queue.starts, before.num_steps].set(recorded(before, after), mode="drop"),
            lanes=choose(done, pick(runs, starts), after),
            starts=starts,
            next_place=queue.next_place + done.sum(dtype=jnp.int32),
            useful=queue.useful + busy.sum(dtype=jnp.int32),
            paid=queue.paid + num_lanes,
        )

    starts = take(jnp.arange(num_lanes, dtype=jnp.int32))
    queue = queue._replace(starts=starts, lanes=pick(queue.runs, starts), next_place=jnp.asarray(num_lanes, jnp.int32))
    return lax.while_loop(lambda queue: (queue.starts < num_restarts).any(), body, queue)


def _standing(runs: Run) -> Array:
    """Return what each run has climbed to, with those of starts that must not win at -inf."""
    sound = jnp.isfinite(runs.value) & ~runs.held & (runs.status != Status.NONFINITE)
    return jnp.where(sound, runs.value, -jnp.inf)


def _rank(values: Array) -> Array:
    """Return how many values stand before each: those that are higher, and equal ones of lower index."""
    index = jnp.arange(values.shape[0])
    before = (values[None, :] > values[:, None]) | ((values[None, :] == values[:, None]) & (index[None, :] < index[:, None]))
    return before.sum(1, dtype=jnp.int32)


def _give_up(runs: Run) -> Run:
    """End the runs that are still under way at their last evaluated params."""
    running = runs.status == Status.RUNNING
    return runs._replace(
        params=choose(running, runs.previous, runs.params),
        held=jnp.where(running, runs.previous_held, runs.held),
        num_steps=jnp.where(running, runs.num_steps - 1, runs.num_steps),
        status=jnp.where(running, jnp.int32(Status.NOT_CONTINUED), runs.status),
    )


def _best(values: Array, status: Array) -> Array:
    """Return the index of the best run that ended and may win; failing that, of the best finite one, degenerate ones last."""
    finite = jnp.isfinite(values) & (status != Status.NONFINITE)
    sound = finite & (status != Status.DEGENERATE)
    eligible = jnp.where(sound.any(), sound, finite)
    ended = eligible & (status != Status.NOT_CONTINUED)
    eligible = jnp.where(ended.any(), ended, eligible)
    return jnp.argmax(jnp.where(eligible, values, -jnp.inf))


def race(
    model: Model, solver: Solver, course: Course, starts: PyTree, data: PyTree, weights: Array, tol: Array
) -> tuple[Fit, Array, Array]:
    """Return the Fits of all starts, stacked; the index of the best of them; and steps needed / steps paid.

    starts: params stacked along a leading axis; weights (n,) of all, or (starts, n) of each.
    """
    num_starts = jax.tree.leaves(starts)[0].shape[0]
    num_continued, short_steps, max_steps, num_lanes = course

    def weights_of(start: Array) -> Array:
        return weights if weights.ndim == 1 else weights[start]

    def step(run: Run, start: Array) -> Run:
        return advance(model, solver, run, data, weights_of(start), tol, max_steps)

    def next_round(carry: tuple[_Queue, Array]) -> tuple[_Queue, Array]:
        """In round 0 run all starts a short way; in round r run the r · num_continued most promising to their ends."""
        queue, turn = carry
        count = jnp.where(turn == 0, num_starts, turn * num_continued)
        limit = jnp.where(turn == 0, short_steps, max_steps + 1)
        to_run = (queue.runs.status == Status.RUNNING) & (_rank(_standing(queue.runs)) < count)
        return _work(step, queue, to_run, limit), turn + 1

    def unsettled(carry: tuple[_Queue, Array]) -> Array:
        """Whether a further round is due: both first ones, and more while none that may win has ended but one still could."""
        queue, turn = carry
        sound = _standing(queue.runs) > -jnp.inf
        ended = queue.runs.status != Status.RUNNING
        return (turn < 2) | (~(sound & ended).any() & (sound & ~ended).any())

    def begin(params: PyTree, start: Array) -> Run:
        return start_run(model, solver, params, weights_of(start))

    def end(run: Run, history: Array, start: Array) -> Fit:
        return finish(model, run, history, data, weights_of(start), tol)

    check_steps(model, jax.tree.map(lambda leaf: leaf[0], starts), data, weights_of(jnp.asarray(0)))
    places = jnp.arange(num_starts, dtype=jnp.int32)
    runs = jax.vmap(begin)(starts, places)
    zero, lanes = jnp.asarray(0, jnp.int32), jnp.zeros(num_lanes, jnp.int32)
    histories = jnp.full((num_starts, max_steps + 1), jnp.nan, weights.dtype)
    queue = _Queue(runs, histories, pick(runs, lanes), lanes, zero, zero, zero)
    first = jnp.asarray(0 if num_continued < num_starts else 1, jnp.int32)
    queue, _ = lax.while_loop(unsettled, next_round, (queue, first))
    runs = _give_up(queue.runs)
    if model.exact:
        fits = jax.vmap(end)(runs, queue.histories, places)
    else:
        fits = lax.map(lambda ended: end(*ended), (runs, queue.histories, places))  # one at a time: probes cost E-steps
    return fits, _best(runs.value, fits.status), queue.useful / queue.paid
