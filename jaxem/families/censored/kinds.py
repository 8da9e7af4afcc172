"""What a family needs so that its values may be censored."""

from collections.abc import Callable
from typing import NamedTuple

from jax import Array

from jaxem.families.censored.rows import Domain
from jaxem.model import Degenerate, Evaluate, ExpectedLogProb, FamilyMStep


class Kind(NamedTuple):
    """The functions of a family that look at its data, for `Known` rows; `typical` of these is as the family has its own.

    domain  where values lie
    scale   the ends of intervals -> as `evaluate` wants them
    wide    whether data may have independent columns
    """

    domain: Domain
    evaluate: Evaluate
    m_step: FamilyMStep
    expected_log_prob: ExpectedLogProb
    degenerate: Degenerate | None
    additive: bool = True
    scale: Callable[[Array], Array] = lambda end: end
    wide: bool = True
