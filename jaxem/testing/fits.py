"""Laws 6 and 7: fits in lanes and alone, and what they say of their ends."""

from typing import Any

import jax
import numpy as np
from jax import Array

from jaxem.fitting import Fit, fit
from jaxem.model import Model, PyTree
from jaxem.stopping import Status
from jaxem.testing.bench import SLOPE, SUM, Bench
from jaxem.testing.bounds import climbed, slope_tolerance
from jaxem.testing.compare import assert_close, scaled, total_slope
from jaxem.testing.evidence import UPDATE, quickly
from jaxem.trees import map_rows, rows_of

FIT_STEPS = 30
LOOSE = 0.1  # nats, a tolerance at which fits of some dozens of rows end within a few steps


@quickly
def _run(model: Model, params: PyTree, data: PyTree, weights: Array, tol: Any) -> Fit:
    """Fit inside jit, where values are not checked at the boundary; one compilation serves laws 6 and 7."""
    return fit(model, params, data, weights, tol=tol, max_steps=FIT_STEPS)


def _in_lanes(bench: Bench, starts: list[PyTree], tol: float, data: PyTree = None) -> list[Fit]:
    """Return the fits from two starts, each in a lane."""
    data, loose = bench.data if data is None else data, np.asarray(tol, bench.weights.dtype)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    lanes = jax.device_get(jax.vmap(lambda start: _run(bench.model, start, data, bench.weights, loose))(stacked))
    return [jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes) for lane in range(len(starts))]


def _beside_itself(bench: Bench, params: PyTree, tol: float, data: PyTree = None) -> Fit:
    """Return a fit in a lane beside its copy, which the programs of two lanes serve: nothing more is compiled."""
    return _in_lanes(bench, [params, params], tol, data)[0]


def _all_steps(bench: Bench, params: PyTree) -> Fit:
    """Return what a fit on its own is that takes all steps: EM steps one by one, by a program without lanes."""
    found = [bench.at(params)]
    for _ in range(FIT_STEPS):
        found.append(bench.at(found[-1].update))
    history = np.array([climbed(each) for each in found])
    numbers: Any = found[-1].log_likelihood, np.int32(FIT_STEPS), np.int32(Status.MAX_STEPS), history, np.int32(FIT_STEPS + 1)
    return Fit(found[-2].update, *numbers)


def lanes(bench: Bench) -> None:
    """Compare two lanes with the steps of each start alone.

    Their numbers are compared when all steps were taken; of a climb, which ends where F is flat to rounding, to the root of
    that. Steps and status, where runs end by themselves, are compared with those of a start whose neighbour is its copy.
    """
    starts, law = [bench.given, bench.params], "Law 6 (lane = solo), lane"
    for lane, (received, start) in enumerate(zip(_in_lanes(bench, starts, -np.inf), starts, strict=True)):
        _compare_runs(bench, received, _all_steps(bench, start), f"{law} {lane}", start)
    for lane, (received, start) in enumerate(zip(_in_lanes(bench, starts, LOOSE), starts, strict=True)):
        _compare_ends(bench, received, _beside_itself(bench, start, LOOSE), f"{law} {lane}")


def _compare_runs(bench: Bench, received: Fit, expected: Fit, law: str, start: PyTree) -> None:
    """Compare two runs of all steps: the log-likelihood along the way, and where they end."""
    climbs = not bench.model.exact
    limit = SUM * (bench.rounding(bench.here) + bench.rounding(bench.at(expected.params)))
    assert received.num_steps == expected.num_steps, (
        f"{law}: num_steps {int(received.num_steps)}, expected {int(expected.num_steps)}."
    )
    assert_close(received.history, expected.history, limit * (bench.eps**-0.5 / SUM if climbs else 1), law, "history")
    tolerance = 100 * bench.eps**0.5 if climbs else SLOPE * bench.eps
    sizes = jax.tree.map(lambda *leaves: float(max(np.abs(leaf).max(initial=0) for leaf in leaves)), start, expected.params)
    assert_close(received.params, expected.params, scaled(sizes, tolerance), law, "params")


def _compare_ends(bench: Bench, received: Fit, expected: Fit, law: str) -> None:
    """Compare where two runs ended by themselves, in steps and status.

    Rounding may move an end by a step or two where the verdict is close, and by any number where gains are rounding.
    """
    counts = f"num_steps {int(received.num_steps)} with status {Status(int(received.status)).name}, expected "
    counts += f"{int(expected.num_steps)} with {Status(int(expected.status)).name}"
    apart = abs(int(received.num_steps) - int(expected.num_steps))
    longer = max(received, expected, key=lambda end: int(end.num_steps)).history
    extra = np.abs(np.diff(longer[np.isfinite(longer)]))[-apart:] if apart else np.zeros(1)
    rounding = extra.max(initial=0) <= SUM * bench.rounding(bench.here)
    close = received.status == expected.status and apart <= 2 and extra.sum() <= LOOSE
    assert rounding or close, f"{law}: {counts}; the steps between gain {extra.sum():.3g} nats, more than rounding."
    assert received.status == expected.status or apart, f"{law}: {counts}."


def honest_end(bench: Bench) -> None:
    """Compare what fits say of their ends with the E-step there."""
    law = "Law 7 (honest end)"
    _assert_honest_floor(bench, law)
    ended = _beside_itself(bench, bench.params, 1e-3)
    there = bench.at(ended.params)
    rounding = SUM * bench.rounding(there)
    apart = abs(float(ended.log_likelihood) - float(there.log_likelihood))
    assert apart <= rounding, (
        f"{law}: Fit.log_likelihood is {float(ended.log_likelihood)}, that of e_step at Fit.params "
        f"{float(there.log_likelihood)}: {apart:.3g} apart, more than {rounding:.3g}."
    )
    height, expected = float(ended.log_likelihood) + float(ended.log_prior), climbed(there)
    assert abs(height - expected) <= rounding + bench.eps * SUM * abs(float(ended.log_prior)), (
        f"{law}: Fit.log_likelihood + Fit.log_prior is {height}, at Fit.params it is {expected}."
    )
    if ended.status == Status.CONVERGED:
        gain = climbed(bench.at(there.update)) - climbed(there)
        assert gain <= 1e-3 + rounding, f"{law}: a fit says CONVERGED where one more step gains {gain:.3g} nats, tol is 0.001."
    cut = _beside_itself(bench, bench.params, -np.inf)
    assert cut.status != Status.CONVERGED, f"{law}: a fit that took all its max_steps says CONVERGED."
    if any(np.issubdtype(np.asarray(leaf).dtype, np.floating) for leaf in rows_of(bench.data)):
        lost = _beside_itself(bench, bench.params, 1e-3, map_rows(_spoiled, bench.data))
        assert lost.status == Status.NONFINITE, f"{law}: on data with NaN the status is {Status(int(lost.status)).name}."


def _assert_honest_floor(bench: Bench, law: str) -> None:
    """Ask that an M-step which is said to be held by a floor leaves a gradient that says so."""
    if bench.model.degenerate is None or bench.model.expected_log_joint is None or not bool(bench.here.held):
        return
    left = np.abs(total_slope(bench.here.survey, UPDATE))
    honest = (left > slope_tolerance(bench, UPDATE)).any() or not np.isfinite(left).all()
    assert honest, f"{law}: degenerate says that a floor holds the M-step, which leaves no gradient: it is an ordinary maximum."


def _spoiled(leaf: Any) -> np.ndarray:
    spoiled = np.array(leaf)
    if np.issubdtype(spoiled.dtype, np.floating):
        spoiled[0] = np.nan
    return spoiled
