"""When a fit ends, told from numbers alone: made-up courses of the log-likelihood, with and without slopes."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxem import Status, stopping

LENGTH = 4001
STEPS = np.arange(LENGTH)


@partial(jax.jit, static_argnames="max_steps")
def _course(values, gains, count, tol, max_steps):
    def ended(carry):
        return (carry[2] != Status.RUNNING) | (carry[1] >= LENGTH)

    def body(carry):
        trend, t, _, _ = carry
        trend, status, back = stopping.judge(trend, values[t], gains[t], count, num_steps=t, tol=tol, max_steps=max_steps)
        return trend, t + 1, status, back

    start = stopping.begin(values.dtype), jnp.int32(0), jnp.int32(Status.RUNNING), jnp.asarray(False)
    _, t, status, back = lax.while_loop(lambda carry: ~ended(carry), body, start)
    return status, t - 1, back


def course(values, *, slopes, tol=1e-8, count=100.0, max_steps=10_000, dtype="float64"):
    """Judge values one by one, as a fit would: how it ended, after how many steps, and whether one step back."""
    with np.errstate(invalid="ignore"):
        gains = np.diff(values, prepend=np.nan) if slopes else np.full(LENGTH, np.nan)
    return judged(values, gains, tol=tol, count=count, max_steps=max_steps, dtype=dtype)


def judged(values, gains, *, tol=1e-8, count=100.0, max_steps=10_000, dtype="float64"):
    numbers = (jnp.asarray(number, dtype) for number in (values, gains, count, tol))
    status, steps, back = _course(*numbers, max_steps=max_steps)
    return Status(int(status)), int(steps), bool(back)


both = pytest.mark.parametrize("slopes", [True, False], ids=["slopes", "values"])


@both
@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9, 0.99])
def test_where_gains_shrink_by_a_constant_ratio_what_remains_at_the_end_is_within_the_tolerance(ratio, tol, slopes):
    values = -5 * ratio**STEPS - 100
    status, steps, back = course(values, slopes=slopes, tol=tol)
    assert (status, back) == (Status.CONVERGED, False)
    remaining = -100 - values[steps]
    assert remaining <= 2 * tol
    needed = np.argmax(-100 - values <= tol)
    assert steps <= 1.5 * needed + 20


@both
def test_gains_that_shrink_ever_more_slowly_do_not_end_long_before_the_tolerance(slopes):
    """Values that approach their limit as 1 / t: no ratio of gains is the last."""
    values = -1 / (STEPS + 1)
    status, steps, _ = course(values, slopes=slopes, tol=1e-3)
    assert status == Status.RUNNING or -values[steps] < 1e-2


@both
def test_a_plateau_on_which_gains_grow_is_not_the_end(slopes):
    """A saddle: gains shrink to a millionth of a nat, and grow again by a tenth at each step."""
    gains = 1e-6 * 1.1 ** np.abs(STEPS[:200] - 100)
    values = np.concatenate([np.cumsum(gains), np.cumsum(gains)[-1] + 1 - 0.5 ** np.arange(LENGTH - 200)])
    status, steps, _ = course(values, slopes=slopes, tol=1e-8)
    assert status == Status.CONVERGED
    assert steps > 200


@both
def test_what_is_not_finite_ends_one_step_back(slopes):
    for bad in (np.nan, np.inf, -np.inf):
        values = np.where(STEPS < 7, -100 + STEPS, bad)
        assert course(values, slopes=slopes) == (Status.NONFINITE, 7, True)


@both
def test_what_is_not_finite_from_the_start_has_no_step_to_go_back(slopes):
    assert course(np.full(LENGTH, np.nan), slopes=slopes) == (Status.NONFINITE, 0, False)


@both
def test_a_fall_beyond_rounding_is_stalled_one_step_back(slopes):
    values = np.where(STEPS < 7, -100 + STEPS, -200.0)
    assert course(values, slopes=slopes) == (Status.STALLED, 7, True)


@both
def test_all_steps_taken_is_said_to_be_so(slopes):
    assert course(-1e4 + STEPS * 1.0, slopes=slopes, max_steps=50) == (Status.MAX_STEPS, 50, False)


@both
@pytest.mark.parametrize("values", [np.zeros(LENGTH), -100 - 0.5**STEPS, np.where(STEPS < 7, -100.0 + STEPS, -200.0)])
def test_a_tolerance_of_minus_infinity_takes_all_steps_whatever_happens(values, slopes):
    assert course(values, slopes=slopes, tol=-np.inf, max_steps=300) == (Status.MAX_STEPS, 300, False)


@both
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tol", [0.0, 1e-8])
def test_noise_of_rounding_is_neither_progress_nor_a_fall(dtype, tol, slopes):
    rng = np.random.default_rng(0)
    eps = float(jnp.finfo(dtype).eps)
    values = -1000 - 2 * 0.5 ** np.minimum(STEPS, 80.0) + 1000 * eps * rng.integers(-2, 3, LENGTH)
    slope = np.diff(-2 * 0.5 ** np.minimum(STEPS, 80.0), prepend=np.nan)
    status, steps, back = judged(values, slope if slopes else np.full(LENGTH, np.nan), tol=tol, dtype=dtype)
    assert (status, back) == (Status.CONVERGED, False)
    assert 2 * 0.5**steps <= max(2 * tol, 64 * 1000 * eps)
    assert steps < 200


def test_in_float32_gains_below_an_ulp_that_go_on_for_thousands_of_steps_are_progress_where_slopes_tell():
    """Gains of a hundredth of an ulp each, half a nat in all."""
    ratio, ulp = 0.9995, 1000 * float(jnp.finfo("float32").eps)
    gains = 0.01 * ulp * ratio**STEPS
    values = np.float32(-1000) + np.cumsum(gains)
    status, steps, _ = judged(values, gains, count=1000.0, dtype="float32")
    remaining = gains[steps] * ratio / (1 - ratio)
    assert status in (Status.CONVERGED, Status.RUNNING)
    assert remaining < 0.05 or status == Status.RUNNING


def test_every_status_has_a_message_of_its_own():
    messages = [status.message for status in Status]
    assert len(set(messages)) == len(Status)
    assert all(message.endswith(".") and len(message) > 20 for message in messages)


def test_converged_is_a_stationary_point_and_no_maximum():
    assert "stationary" in Status.CONVERGED.message
    assert "maximum" not in Status.CONVERGED.message or "no proof" in Status.CONVERGED.message


def test_the_judge_sees_numbers_alone():
    assert not {"model", "params", "data", "weights", "stats"} & inspect.signature(stopping.judge).parameters.keys()


@pytest.mark.parametrize("number", [1, np.int32(1), jnp.int32(1), np.array(1)])
def test_a_status_is_found_by_its_number_whatever_holds_it(number):
    assert Status(number) is Status.CONVERGED


@pytest.mark.parametrize("number", [99, jnp.int32(99), np.float32(0.5), "CONVERGED", np.ones(2, int)])
def test_what_is_no_status_is_refused(number):
    with pytest.raises((ValueError, TypeError)):
        Status(number)
