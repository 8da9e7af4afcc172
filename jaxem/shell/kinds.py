"""The families that suit one table of numbers: how each is made, and what numbers it needs."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxem import families
from jaxem.families.gaussian.forms import form_name
from jaxem.model import Family
from jaxem.shell.table import Table

EIGEN = ("EII", "VII", "EEI", "VEI", "EVI", "VVI", "EEE", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV", "VVV")
PLAIN = ("full", "tied", "diag", "spherical")


class Kind(NamedTuple):
    """How a family is made of a form, and which forms it has; which numbers it takes, in words, and whether they are those.

    counts: whether a column may well be constant. mean: of components, (k, d), where that is no parameter of theirs.
    """

    make: Callable[[str], Family]
    forms: tuple[str, ...] = ()
    needs: str = "numbers"
    takes: Callable[[np.ndarray], np.ndarray] = np.isfinite
    counts: bool = False
    mean: Callable[[Any], np.ndarray] | None = None


def _is_count(x: np.ndarray) -> np.ndarray:
    return (x >= 0) & (x == np.floor(x))


def _of(make: Callable[[], Family]) -> Callable[[str], Family]:
    return lambda form: make()


_count = partial(Kind, needs="counts, whole numbers ≥ 0", takes=_is_count, counts=True)
_positive = partial(Kind, needs="numbers > 0", takes=lambda x: x > 0)
KINDS = {
    "gaussian": Kind(families.gaussian, EIGEN),
    "student_t": Kind(families.student_t, PLAIN),
    "poisson": _count(_of(families.poisson)),
    "negative_binomial": _count(_of(families.negative_binomial)),
    "multinomial": _count(_of(families.multinomial)),
    "bernoulli": Kind(_of(families.bernoulli), needs="zeros and ones", takes=lambda x: (x == 0) | (x == 1), counts=True),
    "exponential": Kind(_of(families.exponential), needs="numbers ≥ 0", takes=lambda x: x >= 0, mean=lambda p: 1 / p.rate),
    "gamma": _positive(_of(families.gamma), mean=lambda p: p.shape / p.rate),
    "log_normal": _positive(_of(families.log_normal), mean=lambda p: np.exp(p.location + p.scale**2 / 2)),
    "weibull": _positive(_of(families.weibull), mean=lambda p: p.scale * np.vectorize(math.gamma)(1 + 1 / p.shape)),
    "beta": Kind(
        _of(families.beta),
        needs="numbers between 0 and 1",
        takes=lambda x: (x > 0) & (x < 1),
        mean=lambda p: p.a / (p.a + p.b),
    ),
    "von_mises_fisher": Kind(_of(families.von_mises_fisher), needs="rows of length one"),
}


def forms_of(kind: str, text: str | None, num_columns: int) -> list[str]:
    """Return the forms of covariance that `text` lists between commas, or "all"; [""] for a family that has none.

    Of one column, whose forms are but two, all are E and V. Raises ValueError for a name that there is not.
    """
    known = KINDS[kind].forms
    if not known:
        if text is not None:
            raise ValueError(f"--covariance: components of {kind} have none; it is for gaussian and student_t.")
        return [""]
    if text is None:
        return ["full"]
    if text.strip().lower() == "all":
        return ["E", "V"] if num_columns == 1 else list(known)
    forms = [_form(name.strip(), known) for name in text.split(",")]
    return sorted({form_name(form): form for form in reversed(forms)}.values(), key=forms.index)


def _form(name: str, known: tuple[str, ...]) -> str:
    form = name.lower() if name.lower() in PLAIN else name.upper()
    if form not in (*PLAIN, *EIGEN, "E", "V") or form_name(form) not in map(form_name, known):
        listed = ", ".join(dict.fromkeys((*PLAIN, *known)))
        raise ValueError(
            f"--covariance needs forms between commas, such as full,diag, or all; got {name!r}, known are {listed}."
        )
    return form


def check_numbers(kind: str, table: Table, source: str) -> None:
    """Raise ValueError that names line and column of the first number that the family does not take."""
    bad = np.argwhere(~KINDS[kind].takes(table.values) & ~np.isnan(table.values))
    if bad.size:
        row, column = bad[0]
        place = f"{source}, line {table.lines[row]}, column {table.names[column]!r}"
        raise ValueError(f"{place}: {kind} needs {KINDS[kind].needs}, got {table.values[row, column]:g}.")
