"""How far a fit is from the maximum, what it has ended at, and how to go on from there."""

import math
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.flatten_util import ravel_pytree

from jaxem.arrays import is_number
from jaxem.blocks import by_default_in_blocks
from jaxem.charts import Chart, jacobian, params_at
from jaxem.faces import NEAR, Face, examined, inside, named
from jaxem.fitting import Fit
from jaxem.fitting import fit as fitted
from jaxem.identified import Units, counts, inverse_of, least_size, settled, spectrum, told_by, units_at
from jaxem.information import Rows
from jaxem.model import Model, PyTree
from jaxem.numerics import in_full_precision
from jaxem.polishing import beyond_saddle, in_dtypes_of, newton_step, polished, way_off
from jaxem.products import Read, read
from jaxem.programs import compiled
from jaxem.restarts import SAME
from jaxem.stopping import UNSOUND, Status

MANY = 500  # free parameters, above which the information is known by its products alone
MOST_POWERS = 300
REMAINS = 1e-8  # nats, as in `fit`
ULPS = 4.0  # of a log-likelihood that may remain of it without being told
SETTLED = 1e-7  # relative change of an eigenvalue at which power iteration ends


class Stationarity(IntEnum):
    """What a fit has ended at. `.message` says it in a sentence.

    >>> import jaxem
    >>> print(jaxem.Stationarity.SADDLE.message)
    a stationary point from which the likelihood rises along some direction: see jaxem.escape.
    """

    MAXIMUM = 0
    BOUNDARY = 1
    UNIDENTIFIED = 2
    SADDLE = 3
    NOT_STATIONARY = 4

    @property
    def message(self) -> str:
        """What the kind means, in a sentence."""
        return _MESSAGES[self.value]


_MESSAGES = (
    "a local maximum: curvature is negative in every direction.",
    "a local maximum among parameters of which some are held on the boundary of their domain.",
    "a stationary point that is flat along some direction: the data do not tell some parameters apart.",
    "a stationary point from which the likelihood rises along some direction: see jaxem.escape.",
    "no stationary point yet: more than the tolerance remains to be gained; see jaxem.polish.",
)


class Certificate(NamedTuple):
    """What comes back from `certify`.

    kind           a `Stationarity`
    remaining      nats to the maximum, half the Newton decrement, ½ gᵀ I⁻¹ g
    distance       the largest distance of any parameter from its value there, in standard errors
    gradient_norm  |g| in free coordinates
    rate           the largest eigenvalue of the EM map's derivative: the share of an error that a step leaves
    condition      of the information scaled to a diagonal of ones; infinite where that is not positive definite
    unidentified   names of the parameters that the data say nothing of
    direction      at a saddle, the way in which the log-likelihood rises, like the params; else None

    >>> import jaxem
    >>> model, x = jaxem.single(jaxem.families.poisson()), [3.0, 1.0, 2.0, 6.0]
    >>> print(jaxem.certify(model, jaxem.fit(model, model.init(0, x), x), x).kind.name)
    MAXIMUM
    """

    kind: Stationarity
    remaining: float
    distance: float
    gradient_norm: float
    rate: float
    condition: float
    unidentified: tuple[str, ...]
    direction: PyTree = None

    def __repr__(self) -> str:
        """Return a few lines: the kind in words, and how far it is."""
        text = f"Certificate: {self.kind.name}, {self.kind.message}\n"
        text += f"  {self.remaining:.2g} nats remain, no parameter is more than {self.distance:.2g} standard errors off; "
        text += f"EM leaves {self.rate:.3g} of an error at each step"
        return text + (f"\n  unidentified: {', '.join(self.unidentified)}" if self.unidentified else "")


def certify(model: Model, fit: Fit, data: PyTree, weights: Any = None, *, tol: float = SAME) -> Certificate:
    """Return what a fit has ended at and how far that is from the maximum, from slope and curvature there.

    With slope g and observed information I = -∂² Σ_n w_n log p(x_n | θ) in free coordinates, where the model has a prior
    those of the posterior: ½ gᵀ I⁻¹ g nats remain. More than `tol` of them, and than rounding, is NOT_STATIONARY; else a
    SADDLE where curvature is negative along some direction, or the likelihood rises from a bound; UNIDENTIFIED where there
    is no curvature along one; BOUNDARY where parameters are held on that of their domain; and the rest is a MAXIMUM.
    The rate is one less the least curvature in units of what complete data would say, the largest share of information that
    is missing (Dempster, Laird & Rubin 1977, §3; Meng & Rubin 1991): that of EM whose M-steps go to their ends. For a model
    without `expected_log_joint` it is found by power iteration of the EM map's derivative.
    Of more than 500 free parameters, where statistics are sums and the M-step is exact, all this is found from products of
    the information with directions, by Lanczos: `distance` is then its bound √(2 remaining), and `condition` that of the
    information in units of the complete data's.

    Raises ValueError for what is no Fit, for data that the model cannot take, and under a trace.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> found = jaxem.certify(model, jaxem.fit(model, start, *x, max_steps=50), *x)
    >>> print(found.kind.name, f"{found.remaining:.4f} nats remain")
    NOT_STATIONARY 0.0628 nats remain
    """
    if not (is_number(tol) and tol >= 0):
        raise ValueError(f"tol must be a number of nats ≥ 0, got {tol!r}.")
    by_products = _has_products(model)
    face, rows, _ = examined(model, fit, data, weights, "certify", most=MANY if by_products else None)
    if face.curvature.information is None:
        found = _by_products(model, face, rows, tol)
        if found is not None:
            return found
        face, rows, _ = examined(model, fit, data, weights, "certify")
    units = units_at(model, face.chart, face.curvature, rows)
    stride, remaining = newton_step(face.curvature, units)
    beside = settled(model, face.chart, face.curvature, rows, units)
    told, descent = told_by(model, face.chart, beside.information, units), way_off(beside, units)
    going = _goes_on(face, remaining, tol)
    way = None if going else _way(model, face, rows, None if descent is None else told.slopes @ descent)
    return Certificate(
        kind=_kind(face, going, way is not None, told.all),
        remaining=remaining,
        distance=_distance(told.slopes, stride, inverse_of(beside.information, told), ~told.lost),
        gradient_norm=float(np.linalg.norm(np.asarray(face.curvature.slope))),
        rate=_rate(model, face, rows, units, told.slopes),
        condition=_condition(np.asarray(beside.information, float)) if told.all else math.inf,
        unidentified=named(face.chart.params, told.lost),
        direction=way,
    )


def polish(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> Fit:
    """Return a fit that has gone on by Newton's steps until its slope is rounding; never lower.

    Where EM creeps: a few steps, each of which pays one derivative for each free parameter. Parameters on the boundary of
    their domain, or held by a floor, stay there. `history` is that of these steps. CONVERGED where the slope has come down to
    rounding or no more than 1e-8 nats remain, else STALLED; a DEGENERATE fit stays one.

    Raises ValueError as `certify` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> fit = jaxem.fit(model, start, *x, max_steps=50)
    >>> print(f"{fit.log_likelihood:.2f}, polished {jaxem.polish(model, fit, *x).log_likelihood:.2f}")
    -1990.01, polished -1989.95
    """
    face, rows, _ = examined(model, fit, data, weights, "polish")
    climbed = polished(model, face, rows)
    num_steps = len(climbed.values) - 1
    ended = fitted(model, in_dtypes_of(fit.params, climbed.params), data, weights, max_steps=0)
    status = Status.CONVERGED if climbed.remaining <= REMAINS else Status.STALLED
    kept = [Status(int(one.status)) for one in (fit, ended) if int(one.status) in UNSOUND]
    return ended._replace(
        status=jnp.int32(max(kept, default=status)),
        num_steps=jnp.int32(num_steps),
        history=jnp.asarray([*climbed.values[:-1], ended.height], ended.log_likelihood.dtype),
        num_evaluations=jnp.int32(num_steps + 1),
    )


def escape(model: Model, fit: Fit, data: PyTree, weights: Any = None) -> Fit:
    """Return a fit from beyond a saddle, along its most negative curvature or off a bound; `fit` itself at no saddle.

    Raises ValueError as `certify` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> alike = jaxem.fit(model, jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([2.0, 2.0])), *x)
    >>> print(f"{jaxem.escape(model, alike, *x).log_likelihood:.2f}")
    -1989.95
    """
    face, rows, _ = examined(model, fit, data, weights, "escape")
    higher = beyond_saddle(model, face, rows)
    if higher is None:
        return fit
    return fitted(model, in_dtypes_of(fit.params, higher), data, weights)


def _way(model: Model, face: Face, rows: Rows, rise: np.ndarray | None) -> PyTree | None:
    """Return the way in which the log-likelihood rises at a saddle, like the params: along a curve, or off a bound."""
    if rise is not None:
        return ravel_pytree(face.chart.params)[1](jnp.asarray(rise, face.chart.place.dtype))
    off = inside(model, face, rows, [NEAR])
    return None if off is None else jax.tree.map(lambda there, here: (there - here) / NEAR, off, face.chart.params)


def _has_products(model: Model) -> bool:
    """Tell whether EM's own curvature is that of sums over rows, and its M-step leads to where that says."""
    return model.additive and model.exact and model.expected_log_joint is not None


def _by_products(model: Model, face: Face, rows: Rows, tol: float) -> Certificate | None:
    """Return the certificate from products with the information alone; None where they tell nothing."""
    found = read(model, face.chart, face.curvature.slope, rows)
    if found is None:
        return None
    silent, going = found.sizes <= least_size(found.sizes), _goes_on(face, found.remaining, tol)
    lost, rise = _read_along(model, face, found, silent)
    way = None if going else _way(model, face, rows, rise)
    return Certificate(
        kind=_kind(face, going, way is not None, not silent.any()),
        remaining=found.remaining,
        distance=math.sqrt(2 * found.remaining),
        gradient_norm=float(np.linalg.norm(np.asarray(face.curvature.slope))),
        rate=1 - float(found.sizes[0]),
        condition=float(found.sizes[-1] / found.sizes[0]) if not silent.any() else math.inf,
        unidentified=named(face.chart.params, lost),
        direction=way,
    )


def _read_along(model: Model, face: Face, found: Read, silent: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Return which parameters (p,) move in silent directions, and how they move (p,) in one that bends up, if one does."""
    if not silent.any():
        return np.zeros(ravel_pytree(face.chart.params)[0].size, bool), None
    slopes = np.asarray(jacobian(model, face.chart))
    along = found.along(slopes)
    lost = counts(((along @ found.vectors[:, silent]) ** 2).sum(1), (along**2).sum(1), float(np.finfo(along.dtype).eps))
    if found.sizes[0] >= -least_size(found.sizes):
        return lost, None
    return lost, slopes @ found.in_coordinates(found.vectors[:, 0] / np.sqrt(-found.sizes[0]))


def _goes_on(face: Face, remaining: float, tol: float) -> bool:
    """Tell whether more remains than is asked for, and than rounding."""
    value = np.asarray(face.curvature.value)
    return bool(remaining > max(tol, ULPS * np.finfo(value.dtype).eps * abs(value)))


def _kind(face: Face, going: bool, rises: bool, told: bool) -> Stationarity:
    if going:
        return Stationarity.NOT_STATIONARY
    if rises:
        return Stationarity.SADDLE
    if not told:
        return Stationarity.UNIDENTIFIED
    return Stationarity.BOUNDARY if face.boundary else Stationarity.MAXIMUM


def _distance(slopes: np.ndarray, stride: np.ndarray, covariance: np.ndarray, known: np.ndarray) -> float:
    """Return the largest of |Δθ| / standard error over the parameters that have one."""
    variances = np.einsum("pq,qr,pr->p", slopes, covariance, slopes)
    told = known & (variances > 0)
    return float((np.abs(slopes @ stride)[told] / np.sqrt(variances[told])).max(initial=0))


def _condition(information: np.ndarray) -> float:
    """Return the largest over the smallest eigenvalue of a matrix scaled to a diagonal of ones."""
    scale = np.sqrt(np.abs(np.diag(information)))
    sizes = np.linalg.eigvalsh(information / np.outer(scale, scale))
    return float(sizes[-1] / sizes[0]) if sizes.size and sizes[0] > 0 else math.inf if sizes.size else 1.0


def _rate(model: Model, face: Face, rows: Rows, units: Units, slopes: np.ndarray) -> float:
    """Return the largest share of an error that is left by EM with M-steps to their ends: that of what is missing."""
    if units.missing:
        return max(0.0, 1 - float(spectrum(face.curvature.information, units).sizes.min(initial=1)))
    in_blocks = by_default_in_blocks(model, rows.data)
    back = jnp.asarray(np.linalg.pinv(slopes), face.chart.place.dtype)
    return float(_rate_of_map(in_blocks, face.chart, back, rows.data, rows.weights))


@partial(compiled, static_argnums=0)
@in_full_precision
def _rate_of_map(model: Model, chart: Chart, back: Array, data: PyTree, weights: Array) -> Array:
    """Return the largest eigenvalue of the EM map's derivative in the chart; `back` (q, p) leads from params into it."""

    def em(place: Array) -> Array:
        params = params_at(model.constraints, chart, place)
        return back @ ravel_pytree(model.m_step(params, model.e_step(params, data, weights)[0]))[0]

    def power(run: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step, direction, rate, _ = run
        image = jax.jvp(em, (chart.place,), (direction,))[1]
        size = jnp.sqrt((image**2).sum())
        return step + 1, image / jnp.where(size > 0, size, 1), size, rate

    def goes_on(run: tuple[Array, Array, Array, Array]) -> Array:
        step, _, rate, before = run
        return (step < MOST_POWERS) & (jnp.abs(rate - before) > SETTLED * rate)

    start = jax.random.normal(jax.random.key(0), chart.place.shape, chart.place.dtype)
    one = jnp.ones((), start.dtype)
    begun = jnp.int32(0), start / jnp.sqrt((start**2).sum()), one, -one
    return lax.while_loop(goes_on, power, begun)[2]
