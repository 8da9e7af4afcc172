"""What is known of each value, looked at once: exact ones, and intervals with both ends, one, or none."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, check_rank, is_traced, look
from jaxem.families.independent import columns
from jaxem.model import PyTree
from jaxem.numerics import positive
from jaxem.programs import compiled

EXACT, RIGHT, LEFT, INTERVAL, UNKNOWN = 0, 1, -1, 2, 3
STATUSES = "0 exact, 1 right-censored, -1 left-censored, 2 in the interval (value, upper]"


class Censored(NamedTuple):
    """Values, and what they say: status 0 exactly that, 1 above it, -1 at or below it, 2 in the interval (value, upper].

    All of one shape; `upper` is looked at where status is 2, and None where it never is.

    >>> from jaxem.families import Censored
    >>> Censored(value=[6.0, 6.0, 10.0], status=[0, 1, 0]).status
    [0, 1, 0]
    """

    value: Any
    status: Any
    upper: Any = None


class Known(NamedTuple):
    """Values that have been looked at, leaves (n, *event).

    typical  one that the value may be, from which fits start
    low      the lower end, or the only one; of an exact value that itself
    high     the upper end, or the only one; None where no interval has two
    kind     0 exact, 1 above low, -1 at or below low, 2 above low and at or below high, 3 unknown
    """

    typical: PyTree
    low: Array
    high: Array | None
    kind: Array

    def is_exact(self) -> Array:
        """Tell which values are known, (n, *event)."""
        return self.kind == EXACT

    def in_columns(self) -> "Known":
        """Return what is known as (n, d), one column where it was (n,)."""
        high = None if self.high is None else columns(self.high)
        return Known(self.typical, columns(self.low), high, columns(self.kind))


class Domain(NamedTuple):
    """Where values lie: above `lowest`, or at it where `closed`."""

    lowest: float
    closed: bool

    @property
    def numbers(self) -> str:
        """What values are, in words."""
        return "finite numbers" + ("" if self.lowest == -np.inf else f" {'≥' if self.closed else '>'} {self.lowest:g}")


REAL, POSITIVE, NON_NEGATIVE = Domain(-np.inf, False), Domain(0.0, False), Domain(0.0, True)


def looked_at(data: Any, domain: Domain) -> Known:
    """Return what is known of values in that domain.

    Raises ValueError for what is no `Censored`, and naming the field that holds what it must not; under a trace such
    values become NaN.
    """
    if not isinstance(data, Censored):
        raise ValueError(f"data must be families.Censored(value, status, upper), got {type(data).__name__}.")
    value, status = as_floating(data.value, "data.value"), _status(data.status)
    upper = None if data.upper is None else as_floating(data.upper, "data.upper")
    check_rank(value, (1, 2), "one row per observation, independent columns.")
    for name, field in (("status", status), ("upper", upper)):
        if field is not None and field.shape != value.shape:
            raise ValueError(f"data.{name} has shape {field.shape}, needs {value.shape}, that of data.value.")
    if upper is None:
        if not is_traced(status) and (np.asarray(status) == INTERVAL).any():
            raise ValueError("data.upper is None, needs the upper ends of intervals where data.status is 2.")
        status = jnp.where(status == INTERVAL, UNKNOWN + 1, status)
    else:
        dtype = jnp.promote_types(value.dtype, upper.dtype)
        value, upper = value.astype(dtype), upper.astype(dtype)
    if not is_traced(value, status, upper):
        _refuse(value, upper, domain, *look(partial(_illegal, domain), value, status, upper))
    return _known(value, status, upper, domain)


def _status(status: Any) -> Any:
    """Return statuses as int32; ValueError for booleans, which mean the opposite elsewhere, and for what is none."""
    status = status if hasattr(status, "dtype") else np.asarray(status)
    if not is_traced(status):
        status = np.asarray(status)
    if status.dtype.kind not in "iuf":
        raise ValueError(f"data.status has dtype {status.dtype}, needs whole numbers: {STATUSES}.")
    if not is_traced(status) and not np.isin(status, (EXACT, RIGHT, LEFT, INTERVAL)).all():
        raise ValueError(f"data.status has values {np.unique(status)[:9].tolist()}, needs {STATUSES}.")
    return jnp.asarray(status).astype(jnp.int32)


@partial(compiled, static_argnums=0)
def _illegal(domain: Domain, value: Array, status: Array, upper: Array | None) -> tuple[Array, Array]:
    """Tell which values and which upper ends are none."""
    bounded = status == INTERVAL
    inside = (value >= domain.lowest) if domain.closed else (value > domain.lowest)
    legal = jnp.where(status == EXACT, inside, jnp.where(status == LEFT, value > domain.lowest, value >= domain.lowest))
    endless = bounded & (value == -jnp.inf)
    known = (status == EXACT) | (status == RIGHT) | (status == LEFT) | bounded
    bad = ~(legal & jnp.isfinite(value) | endless) | ~known
    if upper is None:
        return bad, jnp.zeros_like(bad)
    return bad, bounded & ~((upper > value) & (upper > domain.lowest))


def _refuse(value: Array, upper: Array | None, domain: Domain, bad: np.ndarray, bad_upper: np.ndarray) -> None:
    needs = f"{domain.numbers}, or the lower end of an interval, which may be -inf"
    above = "numbers above data.value where data.status is 2 (an exact value has status 0)"
    for name, field, wrong, cure in (("value", value, bad, needs), ("upper", upper, bad_upper, above)):
        if wrong.any():
            rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(1)).tolist()
            raise ValueError(
                f"data.{name} is {np.asarray(field)[wrong][0]:g} in row {rows[0]} ({len(rows)} such), needs {cure}."
            )


@partial(compiled, static_argnums=3)
def _known(value: Array, status: Array, upper: Array | None, domain: Domain) -> Known:
    bad, bad_upper = _illegal(domain, value, status, upper)
    bounded = status == INTERVAL
    end = value if upper is None else jnp.where(bounded, upper, value)
    no_low = (status == LEFT) | ((bounded | (status == RIGHT)) & (value <= domain.lowest))
    no_high = (status == RIGHT) | (bounded & (end == jnp.inf))
    kind = jnp.where(no_low, jnp.where(no_high, UNKNOWN, LEFT), jnp.where(no_high, RIGHT, status))
    low = jnp.where(kind == LEFT, end, value)
    high = jnp.where(kind == INTERVAL, end, low)
    below = low if domain.lowest == -np.inf else 0.5 * low
    typical = jnp.where(kind == LEFT, below, 0.5 * low + 0.5 * high)
    vague = kind == UNKNOWN
    count = positive((~vague).sum(0, keepdims=True).astype(typical.dtype))
    middle = jnp.where(vague, 0, typical).sum(0, keepdims=True) / count
    middle = jnp.where(vague.all(0, keepdims=True), 1, middle)
    wrong = bad | bad_upper
    typical, low, high = (jnp.where(wrong, jnp.nan, jnp.where(vague, middle, each)) for each in (typical, low, high))
    return Known(typical, low, None if upper is None else high, kind)
