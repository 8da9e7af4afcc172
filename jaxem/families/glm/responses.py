"""What sets one distribution of responses apart from the others of a generalized linear model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxem.constraints import Constraint
from jaxem.families.regression import Kind, Responses

COUNTS = Kind(lambda y, trials: (y >= 0) & (y == jnp.floor(y)), "counts, whole numbers ≥ 0")
Predict = Callable[[Responses], Array]  # rows -> linear predictors (k, n) of these


class Slopes(NamedTuple):
    """∂ log p / ∂η, and -∂² log p / ∂η² ≥ 0, (k, n) each."""

    score: Array
    information: Array


class Dispersion(NamedTuple):
    """A second parameter φ of each component.

    estimate  (predict, rows, responsibilities, φ) -> (φ (k,), held (k,)): the maximum given linear predictors, never below the
              old one, and which a floor holds against an unbounded likelihood
    separate  the best coefficients are the same for all φ, where components share none
    """

    estimate: Callable[[Predict, Responses, Array, Array], tuple[Array, Array]]
    separate: bool
    constraint: Constraint


class Response(NamedTuple):
    """A distribution of y given a linear predictor η, for k components at once: arrays (k, n), and (n,) of what all share.

    `base` (n,) is what y alone says, found once. φ is the dispersion, (k, 1), or None where there is none.
    """

    kind: Kind
    base: Callable[[Array, Array | None], Array]  # (y, trials)
    log_prob: Callable[[Array, Array, Array | None, Array, Any], Array]  # (η, y, trials, base, φ)
    slopes: Callable[[Array, Array, Array | None, Any], Slopes]  # (η, y, trials, φ)
    gain: Callable[[Array, Array, Array, Array | None, Any], Array]  # (η, Δη, y, trials, φ): of log p, to all digits
    guess: Callable[[Array, Array | None], Array]  # (y, trials) -> η (n,) near which y lies, finite
    sample: Callable[[Array, Array, Array | None, Any], Array]  # (key, η (n,), trials, φ (n,)) -> y (n,)
    dispersion: Dispersion | None = None
