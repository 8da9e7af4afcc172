"""Values known exactly, or to lie above, below or between others: one transform, and what each family needs for it."""

from jaxem.families.censored.family import censored as censored
from jaxem.families.censored.rows import Censored as Censored
