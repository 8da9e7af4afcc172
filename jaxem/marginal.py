"""Some columns of a mixture of Gaussians or Student-t, alone or given the others: densities, regression from one fit."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxem.arrays import as_floating, as_params
from jaxem.boundary import check_model, check_structure
from jaxem.families.gaussian import Gaussian, full_covariances, gaussian
from jaxem.families.labelled import labelled
from jaxem.families.student_t import StudentT, student_t
from jaxem.families.student_t.density import MOST_DOF
from jaxem.matrices import cholesky
from jaxem.model import Family, Model, PyTree, require
from jaxem.models.mixture import Mixture, mixture
from jaxem.models.parts import built, family_of
from jaxem.models.single import single

PLAIN = ("full", "tied", "diag", "spherical")  # forms whose marginals are of the same form


class _Ellipses(NamedTuple):
    """What components of either kind are: a form, centres (k, d), matrices of that form, and degrees of freedom.

    `fixed` is ν where that is a number, `dof` where it is a parameter; both are None of Gaussians.
    """

    form: str
    centre: Array
    matrix: Array
    dof: Array | None
    fixed: float | None
    floor: float | None

    @property
    def is_t(self) -> bool:
        return self.dof is not None or self.fixed is not None


def marginal(model: Model, params: PyTree, columns: Any) -> tuple[Model, Mixture]:
    """Return (model, params) of some columns of a mixture of Gaussians: p(x_C) = Σ_k π_k N(x_C; μ_kC, Σ_kCC); so of Student-t.

    columns: whole numbers, in the order that the new model has them; negative ones count from the end. The form of
    covariance stays where marginals are of that form, and is "full" elsewhere. A fit under a prior, frozen, chunked or
    otherwise re-expressed serves as well; the new model is the plain one.
    Raises ValueError for a model that is no mixture of these, one with a gate, and for columns that there are not.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> waiting, params = jaxem.marginal(model, jaxem.fit(model, model.init(0, x), x).params, 1)
    >>> print(params.components.mean.shape, f"{waiting.log_prob(params, x[:, 1:]).sum():.2f}")
    (2, 1) -1034.07
    """
    weights, components = _described(model, params)
    some = _columns(columns, components)
    return _of(weights, _taken(components, some))


def conditional(model: Model, params: PyTree, columns: Any, values: Any) -> tuple[Model, Mixture]:
    """Return (model, params) of the other columns of a mixture of Gaussians, given that those named have these `values`.

    p(x_R | x_C) = Σ_k w_k N(x_R; μ_kR + B_k (x_C - μ_kC), S_k),  B_k = Σ_kRC Σ_kCC⁻¹,  S_k = Σ_kRR - B_k Σ_kCR,
    w_k ∝ π_k N(x_C; μ_kC, Σ_kCC). Of Student-t, with ν + c degrees of freedom and the scale (ν + q) / (ν + c) S_k, q the
    squared distance of x_C in units of Σ_kCC (Ding 2016); tied scales then differ, and the form is "full".
    values: (c,), or (m, c) for m of them; then each array of params has a leading axis m. `jax.vmap(model.log_prob)` takes
    those. The other columns keep their order. Forms of covariance and errors are those of `marginal`; some column must be
    left. Numbers may be traced: this runs inside jit.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.gaussian(), 2), jaxem.datasets.faithful()
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> _, given = jaxem.conditional(model, fit.params, [0], [[2.0], [4.5]])  # waiting, after eruptions of so many minutes
    >>> print((given.weights * given.components.mean[:, :, 0]).sum(1).round(1))
    [54.2 81.1]
    """
    weights, components = _described(model, params)
    given = _columns(columns, components)
    rest = np.array([j for j in range(components.centre.shape[1]) if j not in given])
    if not rest.size:
        raise ValueError(f"columns {given.tolist()} are all that there are: some must be left, to be described.")
    values = as_floating(values, "values").astype(components.centre.dtype)
    if values.ndim not in (1, 2) or values.shape[-1] != len(given):
        raise ValueError(f"values has shape {values.shape}, needs ({len(given)},) or (m, {len(given)}): one for each column.")
    rows = jnp.atleast_2d(values)
    alone, theta = _of(weights, _taken(components, given))
    left, found = _of(require(alone, "posterior")(theta, rows), _given(components, given, rest, rows))
    return left, found if values.ndim == 2 else jax.tree.map(lambda leaf: leaf[0], found)


def _described(model: Model, params: PyTree) -> tuple[Array, _Ellipses]:
    """Return the weights and components of the mixture that a model is made of, in a form that marginals are of."""
    check_model(model)
    model, whole = built(model, as_params(params), "marginal(model, params, …)")
    check_structure(model.constraints, whole)
    family, theta, gate = family_of(model, whole, "marginal(model, params, …)")
    if gate is not None:
        raise ValueError("model has a gate: its weights depend on covariates, and so do those of some columns.")
    weights = jnp.ones(1, theta[0].dtype) if require(model, "parts")[0] is single else whole.weights
    found = _ellipses(family, theta)
    _check_shapes(found, weights)
    return weights, found


def _check_shapes(components: _Ellipses, weights: Array) -> None:
    """Raise ValueError unless centres, matrices and weights are of as many components and columns, as their form says."""
    k, d = len(weights), components.centre.shape[-1]
    matrix = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[components.form]
    received, needed = (components.centre.shape, components.matrix.shape), ((k, d), matrix)
    if received != needed:
        raise ValueError(
            f"params.components has shapes {received[0]} and {received[1]}, needs {needed[0]} and {needed[1]} for the form "
            f"{components.form!r} with {k} weights: pass fit.params of this model."
        )


def _ellipses(family: Family, theta: Any) -> _Ellipses:
    constructor, arguments = family.parts or (None, ())
    if constructor is labelled:
        return _ellipses(arguments[0], theta)
    if constructor is gaussian:
        kept = arguments[0] in PLAIN
        matrix = theta.covariance if kept else full_covariances(arguments[0], theta)
        return _Ellipses(arguments[0] if kept else "full", theta.mean, matrix, None, None, arguments[1])
    if constructor is student_t:
        form, dof, floor = arguments[:3]
        return _Ellipses(form, theta.location, theta.scale, theta.dof, dof if isinstance(dof, float) else None, floor)
    raise ValueError(f"model must be a mixture of Gaussian or Student-t components, got one of {family!r}.")


def _of(weights: Array, some: _Ellipses) -> tuple[Model, Mixture]:
    """Return the plain mixture and its params; arrays may have a leading axis."""
    k = weights.shape[-1]
    if not some.is_t:
        return mixture(gaussian(some.form, some.floor), k), Mixture(weights, Gaussian(some.centre, some.matrix))
    dof = some.fixed
    if some.dof is not None:
        dof = None if some.dof.ndim == weights.ndim else "tied"  # type: ignore[assignment]
    return mixture(student_t(some.form, dof, some.floor), k), Mixture(weights, StudentT(some.centre, some.matrix, some.dof))


def _columns(columns: Any, components: _Ellipses) -> np.ndarray:
    dim = components.centre.shape[1]
    given = np.atleast_1d(np.asarray(columns))
    legal = given.dtype.kind in "iu" and given.ndim == 1 and given.size > 0 and (given >= -dim).all() and (given < dim).all()
    if not legal or len(set((given % dim).tolist())) < given.size:
        raise ValueError(f"columns must be whole numbers below {dim}, none of them twice, got {columns!r}.")
    return given % dim


def _taken(components: _Ellipses, some: np.ndarray) -> _Ellipses:
    form, matrix = components.form, components.matrix
    if form == "diag":
        matrix = matrix[:, some]
    elif form != "spherical":
        matrix = matrix[..., some[:, None], some[None]]
    return components._replace(centre=components.centre[:, some], matrix=matrix)


def _given(components: _Ellipses, given: np.ndarray, rest: np.ndarray, values: Array) -> _Ellipses:
    """Return components of the rest, one set for each row of values, (m, …)."""
    off = values[None] - components.centre[:, None, given]
    if components.form in ("diag", "spherical"):
        known, left = _taken(components, given).matrix, _taken(components, rest).matrix
        squares = (off**2 / known.reshape(len(off), 1, -1)).sum(2)
        shift = jnp.zeros((*off.shape[:2], rest.size), off.dtype)
    else:
        whiten, slopes, left = _regression(components.matrix, given, rest, len(off))
        z = off @ whiten.mT
        squares, shift = (z**2).sum(2), z @ slopes.mT
    centre = components.centre[None, :, rest] + jnp.swapaxes(shift, 0, 1)
    found = components._replace(centre=centre, matrix=jnp.broadcast_to(left[None], (len(values), *left.shape)))
    return _widened(found, squares.T, given.size) if components.is_t else found


def _regression(matrix: Array, given: np.ndarray, rest: np.ndarray, num: int) -> tuple[Array, Array, Array]:
    """Return L_CC⁻¹, L_RC (k, …) and S = L_RR L_RRᵀ, from the factor of Σ with C first: B = L_RC L_CC⁻¹."""
    order, c = np.concatenate([given, rest]), given.size
    lower, inverse = cholesky(matrix[..., order[:, None], order[None]])
    last = lower[..., c:, c:]
    each = [jnp.broadcast_to(part, (num, *part.shape[-2:])) for part in (inverse[..., :c, :c], lower[..., c:, :c])]
    return *each, last @ last.mT


def _widened(found: _Ellipses, squares: Array, count: int) -> _Ellipses:
    """Return Student-t components given `count` columns at squared distances (m, k)."""
    dof = jnp.asarray(found.fixed if found.dof is None else jnp.atleast_1d(found.dof)[None], squares.dtype)
    factor = (dof + squares) / (dof + count)
    matrix, form = found.matrix, found.form
    if form == "tied":
        matrix, form = jnp.broadcast_to(matrix[:, None], (*factor.shape, *matrix.shape[-2:])), "full"
    matrix = matrix * factor.reshape(*factor.shape, *[1] * (matrix.ndim - 2))
    free = None
    if found.dof is not None:
        free = jnp.broadcast_to(jnp.minimum(found.dof + count, MOST_DOF), (len(squares), *found.dof.shape))
    fixed = None if found.fixed is None else found.fixed + count
    return found._replace(form=form, matrix=matrix, dof=free, fixed=fixed)
