"""The domain of a parameter, declared once.

A `Constraint` is a pair of smooth maps between a parameter's domain and unconstrained space. Gradient M-steps, the domain
test of accelerated steps, the number of free parameters and gradient checks all read the same declaration: a pytree of
constraints shaped like the parameters, in which one constraint may stand for a whole subtree. It also says which axes of
its array run over components, and nothing else in the library knows what a component is.
"""

from jaxem.constraints.numbers import alike as alike
from jaxem.constraints.numbers import contrasts as contrasts
from jaxem.constraints.numbers import interval as interval
from jaxem.constraints.numbers import non_negative as non_negative
from jaxem.constraints.numbers import ordered as ordered
from jaxem.constraints.numbers import positive as positive
from jaxem.constraints.numbers import real as real
from jaxem.constraints.record import Constraint as Constraint
from jaxem.constraints.record import is_constraint as is_constraint
from jaxem.constraints.record import on_axes as on_axes
from jaxem.constraints.shapes import orthonormal as orthonormal
from jaxem.constraints.shapes import positive_definite as positive_definite
from jaxem.constraints.shapes import unit_product as unit_product
from jaxem.constraints.shapes import unit_sphere as unit_sphere
from jaxem.constraints.shares import simplex as simplex
from jaxem.constraints.shares import simplexes as simplexes
from jaxem.constraints.trees import broadcast as broadcast
from jaxem.constraints.trees import constrain as constrain
from jaxem.constraints.trees import each as each
from jaxem.constraints.trees import mend as mend
from jaxem.constraints.trees import retract as retract
from jaxem.constraints.trees import told_apart as told_apart
from jaxem.constraints.trees import unconstrain as unconstrain
