"""A race of many starts: short runs of all, long runs of the most promising, through a few lanes that step together.

Starts wait in a queue. Lanes step until one of them has ended; that one takes the next start, so finished runs cost nothing
until the queue is empty. Starts stand in groups of equal size, each with a best of its own: one group for many starts of a
problem, one for each data set where there are many. A group may have data and weights of its own, or share them with all.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.boundary import check_steps
from jaxem.fitting import Fit, Run, advance, finish, recorded, start_run
from jaxem.model import Model, PyTree, require
from jaxem.progress import advance_from_device
from jaxem.solvers import Solver
from jaxem.stopping import Status
from jaxem.trees import choose, packing, pick


class Course(NamedTuple):
    """How far starts run, and in how many lanes: all `short_steps`, then `num_continued` of each group to their ends."""

    num_continued: int
    short_steps: int
    max_steps: int
    num_lanes: int
    keep_histories: bool
    is_shown: bool = False  # as it goes on


class Problem(NamedTuple):
    """What is fitted to: data and weights (n,), or, where `own_data` or `own_weights`, those of each group stacked."""

    data: PyTree
    weights: Array
    own_data: bool = False
    own_weights: bool = False

    def of(self, group: Array) -> tuple[PyTree, Array]:
        """Return the data and weights of a group, or of several, stacked where they are their own."""
        return (
            pick(self.data, group) if self.own_data else self.data,
            self.weights[group] if self.own_weights else self.weights,
        )


class _Lanes(NamedTuple):
    runs: Run  # under way, stacked
    starts: Array  # (num_lanes,) the start each lane works on; num_starts where it idles
    done: Array  # (num_lanes,) whose run has ended or taken as many steps as it may
    histories: Array  # of all starts, (num_starts, max_steps + 1), or (num_starts, 0) where they are not kept
    useful: Array  # lane steps that advanced a start
    paid: Array  # lane steps


class _Queue(NamedTuple):
    runs: Any  # of all starts, stacked; packed while lanes work on them
    lanes: _Lanes
    next_place: Array  # the first place in the queue that no lane has taken


Step = Callable[[Run, PyTree, Array], Run]


def _over_lanes(step: Step, problem: Problem, num_lanes: int) -> Step:
    """Return `step` over a leading axis of lanes; a single lane is spared vmap, which would pay both sides of a cond."""
    axes = 0, 0 if problem.own_data else None, 0 if problem.own_weights else None
    if num_lanes > 1:
        return jax.vmap(step, in_axes=axes)

    def alone(*trees: PyTree) -> Run:
        first = [tree if axis is None else pick(tree, jnp.asarray(0)) for tree, axis in zip(trees, axes, strict=True)]
        return jax.tree.map(lambda leaf: leaf[None], step(*first))

    return alone


def _work(step: Step, problem: Problem, queue: _Queue, to_run: Array, limit: Array, per_group: int, is_shown: bool) -> _Queue:
    """Advance the starts marked in `to_run` until each has ended or has taken `limit` steps."""
    num_starts, num_lanes = to_run.shape[0], queue.lanes.starts.shape[0]
    count = to_run.sum(dtype=jnp.int32)
    in_turn = jnp.nonzero(to_run, size=num_starts, fill_value=num_starts)[0].astype(jnp.int32)

    def take(places: Array) -> Array:
        """Return the starts at these places of the queue; num_starts beyond its end."""
        return in_turn.at[places].get(mode="fill", fill_value=num_starts)

    def until_one_ends(lanes: _Lanes) -> _Lanes:
        data, weights = problem.of(jnp.minimum(lanes.starts, num_starts - 1) // per_group)
        busy = lanes.starts < num_starts

        def body(lanes: _Lanes) -> _Lanes:
            before = lanes.runs
            after = _over_lanes(step, problem, num_lanes)(before, data, weights)
            histories = lanes.histories
            if histories.shape[1]:
                histories = histories.at[lanes.starts.astype(jnp.uint32), before.num_steps].set(
                    recorded(before, after), mode="drop"
                )
            return lanes._replace(
                runs=after,
                done=busy & ((after.status != Status.RUNNING) | (after.num_steps >= limit)),
                histories=histories,
                useful=lanes.useful + busy.sum(dtype=jnp.int32),
                paid=lanes.paid + num_lanes,
            )

        return lax.while_loop(lambda lanes: busy.any() & ~lanes.done.any(), body, lanes)

    def exchange(queue: _Queue) -> _Queue:
        """Put the lanes' runs back into the queue, and give each lane that is done the next start."""
        lanes = queue.lanes
        if is_shown:
            advance_from_device((lanes.done & (lanes.starts < num_starts)).sum(dtype=jnp.int32))
        put = lanes.starts.astype(jnp.uint32)  # of which none is counted from the end
        runs = [kept.at[put].set(some, mode="drop") for kept, some in zip(queue.runs, pack(lanes.runs), strict=True)]
        places = queue.next_place + jnp.cumsum(lanes.done, dtype=jnp.int32) - 1
        starts = jnp.where(lanes.done, take(places), lanes.starts)
        return _Queue(
            runs=runs,
            lanes=lanes._replace(runs=unpack(pick(runs, starts)), starts=starts, done=jnp.zeros_like(lanes.done)),
            next_place=queue.next_place + lanes.done.sum(dtype=jnp.int32),
        )

    def turn(queue: _Queue) -> _Queue:
        queue = exchange(queue)
        return queue._replace(lanes=until_one_ends(queue.lanes))

    pack, unpack = packing(queue.runs)  # to put runs back leaf by leaf would take a loop for each, long to compile
    lanes = queue.lanes._replace(done=jnp.ones_like(queue.lanes.done))  # idle, as they are again at the end
    queue = lax.while_loop(
        lambda queue: (queue.lanes.starts < num_starts).any() | (queue.next_place < count),
        turn,
        _Queue(pack(queue.runs), lanes, jnp.asarray(0, jnp.int32)),
    )
    return queue._replace(runs=unpack(queue.runs))


def _standing(runs: Run) -> Array:
    """Return what each run has climbed to, with those of starts that must not win at -inf."""
    sound = jnp.isfinite(runs.value) & ~runs.held & (runs.status != Status.NONFINITE)
    return jnp.where(sound, runs.value, -jnp.inf)


def _ranks(values: Array) -> Array:
    """Return how many of its row stand before each value: those that are higher, and equal ones to its left."""
    return jnp.argsort(jnp.argsort(-values, axis=-1, stable=True), axis=-1).astype(jnp.int32)


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


def random_start(model: Model, key: Array, data: PyTree, weights: Array) -> PyTree:
    """Return what `init` draws, in the dtype of the weights."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, weights.dtype), require(model, "init")(key, data, weights))


def random_starts(model: Model, keys: Array, num_groups: int, problem: Problem, num_lanes: int) -> PyTree:
    """Return what `init` draws by each of the keys (num_starts,), those of a group side by side, stacked."""
    group = jnp.repeat(jnp.arange(num_groups, dtype=jnp.int32), keys.shape[0] // num_groups)
    at_once = evenly(keys.shape[0], num_lanes)
    return lax.map(lambda job: random_start(model, job[0], *problem.of(job[1])), (keys, group), batch_size=at_once)


def evenly(num: int, most: int) -> int:
    """Return the largest part of `num`, at most `most`, that divides it: a rest would be compiled apart."""
    return next(size for size in range(min(num, most), 0, -1) if num % size == 0)


def race(
    model: Model, solver: Solver, course: Course, starts: PyTree, num_groups: int, problem: Problem, tol: Array
) -> tuple[Fit, Array, Array]:
    """Return the Fits of all starts, stacked; the place in it of each group's best (groups,); and steps needed / steps paid.

    starts: params stacked along a leading axis, those of a group side by side, as many for each.
    """
    num_starts = jax.tree.leaves(starts)[0].shape[0]
    per_group, dtype = num_starts // num_groups, problem.weights.dtype

    def step(run: Run, data: PyTree, weights: Array) -> Run:
        return advance(model, solver, run, data, weights, tol, course.max_steps)

    def grouped(values: Array) -> Array:
        return values.reshape(num_groups, per_group)

    def unsettled(runs: Run, turn: Array) -> Array:
        """Tell which groups are due a further round: both first ones, and more while none ended that may win but one could."""
        sound, ended = grouped(_standing(runs) > -jnp.inf), grouped(runs.status != Status.RUNNING)
        return (turn < 2) | (~(sound & ended).any(1) & (sound & ~ended).any(1))

    def next_round(carry: tuple[_Queue, Array]) -> tuple[_Queue, Array]:
        """In round 0 run all starts a short way; in round r run the r · num_continued most promising to their ends."""
        queue, turn = carry
        count = jnp.where(turn == 0, per_group, turn * course.num_continued)
        limit = jnp.where(turn == 0, course.short_steps, course.max_steps + 1)
        due = (_ranks(grouped(_standing(queue.runs))) < count) & unsettled(queue.runs, turn)[:, None]
        to_run = (queue.runs.status == Status.RUNNING) & due.ravel()
        return _work(step, problem, queue, to_run, limit, per_group, course.is_shown), turn + 1

    def begin(params: PyTree, group: Array) -> Run:
        return start_run(model, solver, params, problem.of(group)[1])

    def end(run: Run, history: Array, group: Array) -> Fit:
        return finish(model, run, history, *problem.of(group), tol)

    groups = jnp.arange(num_starts, dtype=jnp.int32) // per_group
    check_steps(model, jax.tree.map(lambda leaf: leaf[0], starts), *problem.of(groups[0]))
    runs = jax.vmap(begin)(starts, groups)
    idle = jnp.full(course.num_lanes, num_starts, jnp.int32)
    nothing = jax.tree.map(lambda leaf: jnp.zeros((course.num_lanes, *leaf.shape[1:]), leaf.dtype), runs)
    histories = jnp.full((num_starts, course.max_steps + 1 if course.keep_histories else 0), jnp.nan, dtype)
    zero = jnp.asarray(0, jnp.int32)
    lanes = _Lanes(nothing, idle, idle == num_starts, histories, zero, zero)
    first = jnp.asarray(0 if course.num_continued < per_group else 1, jnp.int32)
    queue, _ = lax.while_loop(
        lambda carry: unsettled(carry[0].runs, carry[1]).any(), next_round, (_Queue(runs, lanes, zero), first)
    )
    runs = _give_up(queue.runs)
    if model.exact:
        fits = jax.vmap(end)(runs, queue.lanes.histories, groups)
    else:  # one at a time: probes cost E-steps
        fits = lax.map(lambda ended: end(*ended), (runs, queue.lanes.histories, groups))
    first_of_group = per_group * jnp.arange(num_groups, dtype=jnp.int32)
    best = first_of_group + jax.vmap(_best)(grouped(runs.value), grouped(fits.status)).astype(jnp.int32)
    return fits, best, queue.lanes.useful / jnp.maximum(queue.lanes.paid, 1)
