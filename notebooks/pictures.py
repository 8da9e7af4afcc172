"""The pictures of the pages that are kept beside them: `python -m notebooks pictures` draws them anew, by the extra `plot`."""

import jax
import numpy as np

import jaxem
from jaxem import datasets, plots
from jaxem import families as f
from notebooks import families
from notebooks.kept import FOLDER

PLACE = FOLDER / "pages" / "pictures"


def pairs():
    x, model = datasets.iris(), jaxem.mixture(f.student_t(dof=5.0), 3)
    return plots.pairs(model, jaxem.fit_restarts(model, 0, x, num_restarts=16).best, x, columns=[0, 2, 3])


def restarts():
    return plots.restarts(jaxem.fit_restarts(jaxem.mixture(f.gaussian(), 4), 0, datasets.faithful(), num_restarts=32))


def selection():
    candidates = jaxem.mixtures({form: f.gaussian(form) for form in ("full", "tied", "diag", "spherical")}, range(1, 8))
    return plots.selection(jaxem.select(candidates, 0, datasets.faithful(), num_restarts=8))


def uncertainty():
    x, model = datasets.galaxies(), jaxem.mixture(f.gaussian("tied"), 3)
    return plots.uncertainty(model, jaxem.fit_restarts(model, 0, x, num_restarts=16).best, x)


def main():
    """Draw all pictures anew."""
    families.main()
    PLACE.mkdir(exist_ok=True)
    jax.config.update("jax_enable_x64", True)
    for draw in (pairs, restarts, selection, uncertainty):
        families.save(np.ravel(draw())[0].figure, PLACE / f"{draw.__name__}.png")
