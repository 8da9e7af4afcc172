"""What sets one distribution of responses apart from the others of a generalized linear model."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from jaxem.families.regression import Kind


class Slopes(NamedTuple):
    """∂ log p / ∂η, and -∂² log p / ∂η² ≥ 0, (k, n) each."""

    score: Array
    information: Array


class Response(NamedTuple):
    """A distribution of y given a linear predictor η, for k components at once: arrays (k, n), and (n,) of what all share.

    `base` (n,) is what y alone says, found once.
    """

    kind: Kind
    base: Callable[[Array, Array | None], Array]  # (y, trials)
    log_prob: Callable[[Array, Array, Array | None, Array], Array]  # (η, y, trials, base)
    slopes: Callable[[Array, Array, Array | None], Slopes]  # (η, y, trials)
    gain: Callable[[Array, Array, Array, Array | None], Array]  # (η, Δη, y, trials): of log p, to all digits
    guess: Callable[[Array, Array | None], Array]  # (y, trials) -> η (n,) near which y lies, finite
    sample: Callable[[Array, Array, Array | None], Array]  # (key, η (n,), trials) -> y (n,)
