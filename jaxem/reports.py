"""A fit in words and columns: its parameters by component, their errors, and what it is worth."""

import itertools
import math
from typing import Any

import jax
import numpy as np

from jaxem.arrays import as_params
from jaxem.boundary import check_data
from jaxem.certificate import certify
from jaxem.charts import name_of
from jaxem.constraints import Constraint, broadcast, positive_definite, unit_product
from jaxem.criteria import bic, entropy, icl, num_free_parameters, num_observations
from jaxem.fitting import Fit, check_fit
from jaxem.frames import column_names
from jaxem.matching import has_shares, kinds_of
from jaxem.model import Model, PyTree
from jaxem.stopping import Status

DIGITS = 5  # of a parameter without an error; behind two of its error the others say nothing


def summary(model: Model, fit: Fit, data: PyTree, errors: Any = None, weights: Any = None) -> str:
    """Return a plain-text table of a fit: status, certificate, criteria, and parameters by component.

    `errors`: what `standard_errors` or `bootstrap` returns, or a tree like the params, to stand behind the parameters as ±;
    those that are zero or unknown are left out. Columns of a DataFrame keep their names. Information criteria are smaller where
    better; entropy is that of the responsibilities, -Σ_n w_n Σ_k r_nk log r_nk, in nats.
    Raises ValueError for what is no Fit, for errors that are not like the params, and as `bic` does.

    >>> import jaxem
    >>> model, x = jaxem.mixture(jaxem.families.poisson(), 2), jaxem.datasets.london_times_deaths()
    >>> start = jaxem.Mixture([0.5, 0.5], jaxem.families.Poisson([1.0, 3.0]))
    >>> fit = jaxem.fit(model, start, *x, solver=jaxem.squarem())
    >>> errors = jaxem.standard_errors(model, fit, *x)
    >>> print(jaxem.summary(model, fit, x[0], errors, x[1]))  # doctest: +ELLIPSIS
    mixture(poisson(), 2): CONVERGED, a stationary point: ...
    MAXIMUM, a local maximum: curvature is negative in every direction. ...
    log-likelihood -1989.946, 3 free parameters, 1096 observations
    bic 4000.89, icl 480..., entropy 60...
    <BLANKLINE>
    parameter                  1            2
    weights          0.36 ± 0.19  0.64 ± 0.19
    components.rate  1.26 ± 0.35  2.66 ± 0.25
    """
    names, (data, weights) = column_names(data), check_data(model, data, weights)
    params, spread = as_params(check_fit(fit).params), _errors_like(errors, fit.params)
    if fit.status == Status.NONFINITE:
        return _ending(model, fit)
    lines = [_ending(model, fit), _standing(model, fit, data, weights)]
    lines += [_heights(model, fit, data, weights), _criteria(model, fit, data, weights), ""]
    by_component, common = _rows(model, params, spread, names)
    columns = max((len(row) - 1 for row in by_component), default=0)
    heading = [["parameter", *map(str, range(1, columns + 1))]] if columns else []
    lines += aligned(heading + by_component)
    lines += ["", *aligned([["of all components", ""], *common])] if common and by_component else aligned(common)
    return "\n".join(lines)


def _ending(model: Model, fit: Fit) -> str:
    status = Status(int(fit.status))
    return f"{model!r}: {status.name}, {status.message}"


def _standing(model: Model, fit: Fit, data: PyTree, weights: Any) -> str:
    found = certify(model, fit, data, weights)
    return f"{found.kind.name}, {found.kind.message} {found.remaining:.1g} nats remain."


def _heights(model: Model, fit: Fit, data: PyTree, weights: Any) -> str:
    prior = f", log-prior {float(fit.log_prior):.3f}" if model.log_prior else ""
    count = num_observations(model, data, weights)
    free = num_free_parameters(model, fit.params)
    return f"log-likelihood {float(fit.log_likelihood):.3f}{prior}, {free} free parameters, {count:g} observations"


def _criteria(model: Model, fit: Fit, data: PyTree, weights: Any) -> str:
    text = f"bic {bic(model, fit, data, weights):.2f}"
    if not has_shares(model, fit.params, data):
        return text
    return f"{text}, icl {icl(model, fit, data, weights):.2f}, entropy {abs(entropy(model, fit.params, data, weights)):.2f}"


def _errors_like(errors: Any, params: PyTree) -> PyTree | None:
    given = getattr(errors, "errors", errors)
    if given is None:
        return None
    built, needed = ([str(jax.tree.structure(tree)), *map(np.shape, jax.tree.leaves(tree))] for tree in (given, params))
    if built != needed:
        raise ValueError(
            f"errors must be what standard_errors or bootstrap returns, or like fit.params: {needed}, got {built}."
        )
    return given


def _rows(
    model: Model, params: PyTree, errors: PyTree | None, names: tuple[str, ...] | None
) -> tuple[list[list[str]], list[list[str]]]:
    """Return the rows of what each component has, a cell for each, and those of what all have in common."""
    by_component: list[list[str]] = []
    common: list[list[str]] = []
    spreads = jax.tree.leaves(params if errors is None else errors)
    domains, kinds = broadcast(model.constraints, params), kinds_of(model, params) or []
    first = {f".components[{i}]": int(kind[0]) for i, kind in enumerate(kinds) if i}
    for (path, leaf), spread, domain in zip(jax.tree.leaves_with_path(params), spreads, domains, strict=True):
        cells = _cells(np.asarray(leaf), None if errors is None else np.asarray(spread))
        one = len(domain.component_axes) == 1 and leaf.ndim > 0
        for place, row in _lines(cells, domain if one else None):
            axes = _axes_of_columns(domain, leaf.shape, names or ())
            rest = [axis for axis in range(leaf.ndim) if not one or axis not in domain.component_axes]
            told = (names[i] if names and axis in axes else i for axis, i in zip(rest, place, strict=True))
            before = [""] * first.get(jax.tree_util.keystr(path[:2]), 0) if one else []  # components of other kinds
            (by_component if one else common).append([name_of(path, tuple(told)), *before, *row])
    return by_component, common


def _axes_of_columns(domain: Constraint, shape: tuple[int, ...], names: tuple[str, ...]) -> list[int]:
    """Return which axes of an array run over named columns: the first as long, both of a matrix; none of axes that turn."""
    if domain.name == unit_product.name:
        return []
    found = [axis for axis, size in enumerate(shape) if size == len(names) and axis not in domain.component_axes]
    return found if domain.name == positive_definite.name else found[:1]


def _lines(cells: np.ndarray, domain: Constraint | None) -> list[tuple[tuple[int, ...], list[str]]]:
    """Return places and cells, those of all components side by side where there is an axis of them."""
    rows = cells[..., None] if domain is None else np.moveaxis(cells, domain.component_axes[0], -1)
    return [(place, list(rows[place])) for place in np.ndindex(rows.shape[:-1])]


def _cells(values: np.ndarray, errors: np.ndarray | None) -> np.ndarray:
    known = np.zeros(values.shape) if errors is None else np.nan_to_num(errors)
    texts = [_cell(value, error) for value, error in zip(values.ravel().tolist(), known.ravel().tolist(), strict=True)]
    return np.array(texts, object).reshape(values.shape)


def _cell(value: float, error: float) -> str:
    """Return a value with two digits of its error, and as many decimals as that has."""
    if not error > 0:
        return f"{value:.{DIGITS}g}"
    decimals = 1 - math.floor(math.log10(error))
    if not 0 <= decimals <= DIGITS:
        return f"{value:.{DIGITS}g} ± {error:.2g}"
    return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def aligned(rows: list[list[str]]) -> list[str]:
    """Return lines with the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in itertools.zip_longest(*rows, fillvalue="")]
    padded = ([text.rjust(w) if i else text.ljust(w) for i, (text, w) in enumerate(zip(r, widths, strict=False))] for r in rows)
    return ["  ".join(row).rstrip() for row in padded]
