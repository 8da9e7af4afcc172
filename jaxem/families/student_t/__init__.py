"""Student-t components, on the geometries of the Gaussian ones."""

from jaxem.families.student_t.family import StudentT as StudentT
from jaxem.families.student_t.family import student_t as student_t
