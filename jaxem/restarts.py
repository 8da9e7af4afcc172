"""Many random starts: short runs of all, long runs of the most promising, and the best of them.

Starts wait in a queue for a few lanes that step together. A lane whose run ends takes the next start, so finished runs cost
nothing until the queue is empty; `Restarts.lane_efficiency` tells what share of the paid steps was of use.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxem.boundary import at_least_one, check_data, check_key, check_steps
from jaxem.chunked import by_default_in_blocks
from jaxem.fit import Fit, Run, Status, advance, check_control, finish, recorded, start_run
from jaxem.model import Model, PyTree, choose, num_rows, require
from jaxem.solvers import Solver, em

ROWS_AT_ONCE = {"cpu": 1 << 12}
ACCELERATOR_ROWS_AT_ONCE = 1 << 22


class Restarts(NamedTuple):
    """What comes back from many starts.

    best             the Fit of highest log-likelihood among those that ended neither NONFINITE nor DEGENERATE, if there are any
    fits             all Fits, stacked along a leading axis of starts
    lane_efficiency  steps that some run needed / steps paid, between 0 and 1
    """

    best: Fit
    fits: Fit
    lane_efficiency: Array


def fit_restarts(
    model: Model,
    key: Array,
    data: PyTree,
    weights: Any = None,
    *,
    num_restarts: int = 64,
    num_continued: int | None = None,
    short_steps: int = 20,
    solver: Solver = em(),
    tol: float = 1e-8,
    max_steps: int = 10_000,
    num_lanes: int | None = None,
) -> Restarts:
    """Fit `model` from `num_restarts` random starts; short runs of `short_steps` steps choose which go on.

    The `num_continued` starts that stand highest after their short runs go on until they end as in `fit`; the others end as
    NOT_CONTINUED. None continues a quarter of them; `num_continued=num_restarts` runs all to convergence. Starts that are
    not finite, or held by a constraint against collapse, do not win while another can: should all that go on end so, the
    next most promising go on as well.
    The em-EM strategy of Biernacki, Celeux & Govaert (2003), §3.2.

    `num_lanes` runs step together; None chooses by the number of rows.
    Raises ValueError as `fit` does, for a model without `init`, for what is no key, and for counts below one.
    """
    require(model, "init")
    max_steps = check_control(solver, tol, max_steps)
    num_restarts, short_steps = at_least_one("num_restarts", num_restarts), at_least_one("short_steps", short_steps)
    num_continued = at_least_one("num_continued", max(1, num_restarts // 4) if num_continued is None else num_continued)
    if num_continued > num_restarts:
        raise ValueError(f"num_continued must not exceed num_restarts={num_restarts}, got {num_continued}.")
    check_key(key)
    data, weights = check_data(model, data, weights)
    return _search(
        by_default_in_blocks(model, data),
        solver,
        (num_restarts, num_continued, min(short_steps, max_steps), max_steps),
        min(at_least_one("num_lanes", default_num_lanes(num_rows(data)) if num_lanes is None else num_lanes), num_restarts),
        key,
        data,
        weights,
        jnp.asarray(tol, weights.dtype),
    )


def default_num_lanes(num_rows: int) -> int:
    """Return how many runs step together: enough to hide the cost of dispatch, few enough to stay in cache."""
    rows_at_once = ROWS_AT_ONCE.get(jax.default_backend(), ACCELERATOR_ROWS_AT_ONCE)
    return max(1, rows_at_once // num_rows)


class _Queue(NamedTuple):
    runs: Run  # of all starts, stacked
    histories: Array  # (num_restarts, max_steps + 1)
    lanes: Run  # under way, stacked
    starts: Array  # (num_lanes,) the start each lane works on; num_restarts where it idles
    next_place: Array  # the first place in the queue that no lane has taken
    useful: Array  # lane steps that advanced a start
    paid: Array  # lane steps


def _over_lanes(function: Callable[[Any], Any], num_lanes: int) -> Callable[[Any], Any]:
    """Return `function` over a leading axis of lanes; a single lane is spared vmap, which would pay both sides of a cond."""
    if num_lanes > 1:
        return jax.vmap(function)
    return lambda tree: jax.tree.map(lambda leaf: leaf[None], function(jax.tree.map(lambda leaf: leaf[0], tree)))


def _work(step: Callable[[Run], Run], queue: _Queue, to_run: Array, limit: Array, num_lanes: int) -> _Queue:
    """Advance the starts marked in `to_run` until each has ended or has taken `limit` steps."""
    num_restarts = to_run.shape[0]
    places_taken = jnp.cumsum(to_run, dtype=jnp.int32)

    def take(places: Array) -> Array:
        """Return the starts at these places of the queue; num_restarts beyond its end."""
        return (places_taken[None, :] <= places[:, None]).sum(1, dtype=jnp.int32)

    def body(queue: _Queue) -> _Queue:
        before, after = queue.lanes, _over_lanes(step, num_lanes)(queue.lanes)
        busy = queue.starts < num_restarts
        done = busy & ((after.status != Status.RUNNING) | (after.num_steps >= limit))
        leaving = jnp.where(done, queue.starts, num_restarts)[None, :] == jnp.arange(num_restarts, dtype=jnp.int32)[:, None]
        runs = choose(leaving.any(1), _pick(after, leaving.argmax(1)), queue.runs)
        starts = jnp.where(done, take(queue.next_place + jnp.cumsum(done, dtype=jnp.int32) - 1), queue.starts)
        return _Queue(
            runs=runs,
            histories=queue.histories.at[queue.starts, before.num_steps].set(recorded(before, after), mode="drop"),
            lanes=choose(done, _pick(runs, starts), after),
            starts=starts,
            next_place=queue.next_place + done.sum(dtype=jnp.int32),
            useful=queue.useful + busy.sum(dtype=jnp.int32),
            paid=queue.paid + num_lanes,
        )

    starts = take(jnp.arange(num_lanes, dtype=jnp.int32))
    queue = queue._replace(starts=starts, lanes=_pick(queue.runs, starts), next_place=jnp.asarray(num_lanes, jnp.int32))
    return lax.while_loop(lambda queue: (queue.starts < num_restarts).any(), body, queue)


def _pick(runs: Run, places: Array) -> Run:
    return jax.tree.map(lambda leaf: leaf.at[places].get(mode="clip"), runs)


def _standing(runs: Run) -> Array:
    """Return the log-likelihoods, with those of starts that must not win at -inf."""
    sound = jnp.isfinite(runs.log_likelihood) & ~runs.held & (runs.status != Status.NONFINITE)
    return jnp.where(sound, runs.log_likelihood, -jnp.inf)


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
        num_steps=jnp.where(running, runs.num_steps - 1, runs.num_steps),
        status=jnp.where(running, jnp.int32(Status.NOT_CONTINUED), runs.status),
    )


def _best(fits: Fit) -> Array:
    """Return the index of the best fit that ended and may win; failing that, of the best finite one, degenerate ones last."""
    finite = jnp.isfinite(fits.log_likelihood) & (fits.status != Status.NONFINITE)
    sound = finite & (fits.status != Status.DEGENERATE)
    eligible = jnp.where(sound.any(), sound, finite)
    ended = eligible & (fits.status != Status.NOT_CONTINUED)
    eligible = jnp.where(ended.any(), ended, eligible)
    return jnp.argmax(jnp.where(eligible, fits.log_likelihood, -jnp.inf))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _search(
    model: Model,
    solver: Solver,
    counts: tuple[int, int, int, int],
    num_lanes: int,
    key: Array,
    data: PyTree,
    weights: Array,
    tol: Array,
) -> Restarts:
    num_restarts, num_continued, short_steps, max_steps = counts
    init = require(model, "init")

    def step(run: Run) -> Run:
        return advance(model, solver, run, data, weights, tol, max_steps)

    def next_round(carry: tuple[_Queue, Array]) -> tuple[_Queue, Array]:
        """In round 0 run all starts a short way; in round r run the r · num_continued most promising to their ends."""
        queue, turn = carry
        count = jnp.where(turn == 0, num_restarts, turn * num_continued)
        limit = jnp.where(turn == 0, short_steps, max_steps + 1)
        to_run = (queue.runs.status == Status.RUNNING) & (_rank(_standing(queue.runs)) < count)
        return _work(step, queue, to_run, limit, num_lanes), turn + 1

    def unsettled(carry: tuple[_Queue, Array]) -> Array:
        """Whether a further round is due: both first ones, and more while none that may win has ended but one still could."""
        queue, turn = carry
        sound = _standing(queue.runs) > -jnp.inf
        ended = queue.runs.status != Status.RUNNING
        return (turn < 2) | (~(sound & ended).any() & (sound & ~ended).any())

    def begin(key: Array) -> Run:
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, weights.dtype), init(key, data, weights))
        check_steps(model, params, data, weights)
        return start_run(solver, params, weights.dtype)

    runs = lax.map(begin, jax.random.split(key, num_restarts))
    zero, lanes = jnp.asarray(0, jnp.int32), jnp.zeros(num_lanes, jnp.int32)
    histories = jnp.full((num_restarts, max_steps + 1), jnp.nan, weights.dtype)
    queue = _Queue(runs, histories, _pick(runs, lanes), lanes, zero, zero, zero)
    first = jnp.asarray(0 if num_continued < num_restarts else 1, jnp.int32)
    queue, _ = lax.while_loop(unsettled, next_round, (queue, first))

    def end(ended: tuple[Run, Array]) -> Fit:
        return finish(model, *ended, data=data, weights=weights)

    ended = _give_up(queue.runs), queue.histories
    fits = jax.vmap(end)(ended) if model.stalled is None else lax.map(end, ended)
    best = jax.tree.map(lambda leaf: leaf[_best(fits)], fits)
    return Restarts(best, fits, queue.useful / queue.paid)
