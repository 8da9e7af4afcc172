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


def quakes():
    """Return a chain of three rates, its fit, and the years that it is of."""
    x, model = jaxem.sequences(datasets.earthquakes()["count"]), jaxem.hmm(f.poisson(), 3)
    moves = np.full((3, 3), 0.05) + 0.85 * np.eye(3)
    start = jaxem.HMM(np.full(3, 1 / 3), moves, f.Poisson([10.0, 20.0, 30.0]))
    return model, jaxem.fit(model, start, x), x


def states():
    return plots.states(*quakes())


def forecast():
    return plots.forecast(*quakes(), steps=15)


def main():
    """Draw all pictures anew."""
    families.main()
    PLACE.mkdir(exist_ok=True)
    jax.config.update("jax_enable_x64", True)
    for draw in (pairs, restarts, selection, uncertainty, states, forecast):
        families.save(np.ravel(draw())[0].figure, PLACE / f"{draw.__name__}.png")
