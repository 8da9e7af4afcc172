"""When a fit ends, and what is said of it: numbers in, verdict out, whatever produced them.

Values cannot tell gains below an ulp of theirs, and in float32 slow fits go on with such gains for thousands of steps. Slopes
can: by Fisher's identity the gradient of the log-likelihood at an iterate is that of E_Q[log p(x, z | θ)], and half the sum of
two gradients times the step between is the gain to third order, with rounding that shrinks with the step.
"""

import operator
from enum import IntEnum
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array


class Status(IntEnum):
    """Why a fit ended. `Status(fit.status).name` reads well, and `.message` says it in a sentence.

    >>> import jaxem
    >>> print(jaxem.Status(2).name, "-", jaxem.Status(2).message)
    MAX_STEPS - all steps were taken and progress was still being made.
    """

    RUNNING = 0
    CONVERGED = 1
    MAX_STEPS = 2
    STALLED = 3
    NONFINITE = 4
    DEGENERATE = 5
    NOT_CONTINUED = 6

    @classmethod
    def _missing_(cls, value: Any) -> "Status | None":
        """Find the member for a scalar array, which has no hash."""
        scalar = getattr(value, "shape", None) == ()
        return next((status for status in cls if scalar and status == operator.index(value)), None)

    @property
    def message(self) -> str:
        """What the status means, in a sentence."""
        return _MESSAGES[self.value]


_MESSAGES = (
    "it has not ended; never seen outside the loop.",
    "a stationary point: what remains to be gained is within the tolerance, or cannot be told from rounding.",
    "all steps were taken and progress was still being made.",
    "a step could not improve although the bound could yet rise, or the log-likelihood fell beyond rounding.",
    "the next log-likelihood was NaN or infinite; params are the last with a finite one, if there were any.",
    "a parameter runs to the edge of its domain, or an unbounded likelihood is held.",
    "one of many starts, given up after its short run in favour of more promising ones.",
)


UNSOUND = (Status.DEGENERATE, Status.NONFINITE)
"""Ends at which there is no maximum to speak of."""


def is_unsound(status: Array) -> Array:
    """Tell which of some statuses are of fits that ended at no maximum of the likelihood, whatever else."""
    return jnp.stack([status == one for one in UNSOUND]).any(0)


class Trend(NamedTuple):
    """What the judge remembers of a run, all scalars."""

    value: Array  # at the last evaluation
    gain: Array  # the last rise of the value
    ratio: Array  # ρ, of that rise to the one before
    decline: Array  # 1 - ρ, the least of late
    promises: Array  # evaluations in a row at which the estimated remaining gain was within reach
    peak: Array  # the value when progress was last told from rounding
    risen: Array  # the sum of gains since then
    worst: Array  # the largest fall since then
    quiet: Array  # evaluations since then whose gain had not grown


ROUNDING = 4.0  # ulps of |value| + Σ w within which two values cannot be told apart
FALL = 128.0  # such ulps by which a value has fallen for sure: rounding in a sum over rows adds up
EXCUSED = 8.0  # times that, up to which slopes that do not fall say that terms which cancel have been rounded
AGREE = 32.0  # such ulps within which the two measures of a gain agree
LOST = 16.0  # ulps of a step in standard errors of one observation: a shorter one is rounding, and gains Σ w times its square
WARINESS = 10.0  # times that a rise of the ratio of gains is counted
CAUTION = 1.3  # factor by which the least decline of late may be forgotten at each evaluation
UNSEEN = 4.0  # a decline of less than one in so many times the steps taken cannot have shown yet
PROMISES = 2  # consecutive estimates within reach that end a fit
DISTINCT = 4.0  # times the largest fall that a rise must be to stand out from rounding
QUIET = 16  # evaluations without progress that end a fit whose gains are told by slopes
QUIET_BY_VALUE = 32  # or by values, which tell less: that many, or one in SHARE of the steps taken where that is more
SHARE = 2


def begin(dtype: Any) -> Trend:
    """Return what the judge knows before the first evaluation, in the dtype of the values."""
    none, zero = jnp.asarray(0, jnp.int32), jnp.asarray(0, dtype)
    nan, infinity = jnp.asarray(jnp.nan, dtype), jnp.asarray(jnp.inf, dtype)
    return Trend(nan, infinity, jnp.asarray(1, dtype), jnp.asarray(1, dtype), none, -infinity, zero, zero, none)


def judge(
    trend: Trend, value: Array, slope_gain: Array, count: Array, tol: Array, num_steps: Array, max_steps: int
) -> tuple[Trend, Array, Array]:
    """Return the trend with one more evaluation, a Status as an int32, and whether to go one iterate back.

    value       what is maximized, at step `num_steps`
    slope_gain  ½ ⟨∇_t-1 + ∇_t, θ_t - θ_t-1⟩, its gain over the last step told by slopes; NaN where there are none
    count       Σ w
    tol         in nats; -inf ends neither as CONVERGED nor as STALLED

    CONVERGED when two estimates in a row put the remaining gain within `tol`, or half an ulp of |value| + Σ w where slopes
    tell it, or when they tell none and it does not grow; or when for some evaluations no rise stood out from the falls
    seen, which for EM are rounding. STALLED, one iterate back, when the value has fallen beyond rounding and slopes do not
    contradict.
    """
    eps = jnp.finfo(value.dtype).eps
    ulp = eps * (jnp.abs(value) + count)
    difference = jnp.where(num_steps == 0, jnp.inf, value - trend.value)
    precise = _is_precise(slope_gain, difference, ulp, count)
    gain = jnp.where(precise, slope_gain, difference)
    ratio = jnp.where((num_steps < 2) | (trend.gain == 0), 1, gain / trend.gain)
    decline = _decline(ratio, trend, num_steps)
    reach = jnp.maximum(tol, jnp.where(precise, ulp / 2, 0))
    within = (precise | (gain > 0)) & (gain >= 0) & (ratio < 1) & (gain * (1 - decline) <= reach * decline)
    lost = count * (LOST * eps) ** 2
    nothing = precise & (jnp.abs(gain) <= lost) & (gain <= trend.gain)
    promises = jnp.where(within | nothing, trend.promises + 1, 0)

    risen, worst = trend.risen + gain, jnp.maximum(trend.worst, -gain)
    progress = risen > DISTINCT * worst + jnp.where(precise, lost, ROUNDING * ulp)
    growing = precise & (gain > trend.gain)
    quiet = jnp.where(progress, 0, jnp.where(growing, trend.quiet, trend.quiet + 1))
    patience = jnp.where(precise, QUIET, jnp.maximum(QUIET_BY_VALUE, num_steps // SHARE))

    watched = tol > -jnp.inf
    finite = jnp.isfinite(value)
    fall = trend.peak - value
    fell = watched & (fall > FALL * ulp) & (~(slope_gain > -ulp) | (fall > EXCUSED * FALL * ulp))
    converged = watched & ((promises >= PROMISES) | (quiet >= patience))
    status = jnp.select(
        [~finite, fell, converged, num_steps >= max_steps],
        [jnp.int32(s) for s in (Status.NONFINITE, Status.STALLED, Status.CONVERGED, Status.MAX_STEPS)],
        jnp.int32(Status.RUNNING),
    )
    after = Trend(
        value=value,
        gain=gain,
        ratio=ratio,
        decline=decline,
        promises=promises,
        peak=jnp.where(progress, value, trend.peak),
        risen=jnp.where(progress, 0, risen),
        worst=jnp.where(progress, 0, worst),
        quiet=quiet,
    )
    return after, status, (~finite | fell) & (num_steps > 0)


def _decline(ratio: Array, trend: Trend, num_steps: Array) -> Array:
    """Return 1 - ρ, by which what remains is put at g ρ / (1 - ρ), g the last gain.

    Aitken's Δ² (Böhning et al. 1994), where gains shrink geometrically. They do not quite: while fast directions die out the
    ratio rises towards the rate of the slowest one, so a rise is taken ten times over; and rounding, or a solver that jumps,
    makes ratios erratic, so the least decline of late is only gradually forgotten.
    """
    rate = ratio + WARINESS * jnp.maximum(ratio - trend.ratio, 0)
    least = 1 / (UNSEEN * (num_steps.astype(ratio.dtype) + 1))
    return jnp.minimum(jnp.clip(1 - rate, least, 1), CAUTION * trend.decline)


def _is_precise(slope_gain: Array, difference: Array, ulp: Array, count: Array) -> Array:
    """Tell whether a gain is better told by slopes than by the difference of values; never where they are NaN.

    A step that gains s is about √(s/N) standard errors of one observation long, N = Σ w, and the relative error of slopes is
    of that order, that of the difference ROUNDING · ulp / s; they are even where s = (ROUNDING · ulp)^⅔ N^⅓.
    """
    even = (ROUNDING * ulp) ** (2 / 3) * count ** (1 / 3)
    return (jnp.abs(slope_gain) < even) & (jnp.abs(slope_gain - difference) < AGREE * ulp)
