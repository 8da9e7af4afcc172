"""Columns of several kinds: a family for each part of a row, independent given the component."""

import operator
from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxem.arrays import as_mapping, in_one_dtype, prepared
from jaxem.families.observed import by_name
from jaxem.model import Family, PyTree, check_family, require
from jaxem.trees import num_rows


def product(**factors: Family) -> Family:
    """Return the family of rows with one part for each factor: log p(x | θ_k) = Σ_f log p(x_f | θ_fk).

    Data are a dict of the factors' data, a record, or a DataFrame whose columns bear the names; params and statistics are
    dicts. Raises ValueError for no factor, and for what is no Family.

    >>> import jaxem
    >>> from jaxem import families
    >>> model = jaxem.mixture(families.product(size=families.gaussian(), count=families.poisson()), 2)
    >>> x = {"size": [[0.1], [0.3], [5.2], [4.9]], "count": [1, 0, 9, 7]}
    >>> print(jaxem.fit_restarts(model, 0, x, num_restarts=8).best.params.components["count"].rate.sort())
    [0.5 8. ]
    """
    if not factors:
        raise ValueError("product needs at least one factor: product(a=families.gaussian(), b=families.poisson()).")
    for name, family in factors.items():
        check_family(family, name)
    return _product(tuple(factors), tuple(factors.values()))


@cache
def _product(names: tuple[str, ...], families: tuple[Family, ...]) -> Family:
    factors = dict(zip(names, families, strict=True))

    def of_each(function: Callable[[str, Family], Any]) -> dict[str, Any]:
        return {name: function(name, family) for name, family in factors.items()}

    def total(function: Callable[[str, Family], Any]) -> Any:
        first, *rest = of_each(function).values()
        return sum(rest, start=first)

    def evaluate(params: PyTree, x: PyTree) -> tuple[Array, Callable[[Array], PyTree]]:
        parts = of_each(lambda name, family: family.evaluate(params[name], x[name]))
        log_prob = total(lambda name, family: parts[name][0])
        return log_prob, lambda responsibilities: of_each(lambda name, family: parts[name][1](responsibilities))

    def sample(key: Array, params: PyTree, labels: Array, like: PyTree) -> PyTree:
        keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
        return of_each(
            lambda name, family: require(family, "sample")(
                keys[name], params[name], labels, None if like is None else like[name]
            )
        )

    def embed(x: PyTree) -> Array:
        return jnp.concatenate([jax.vmap(jnp.ravel)(f.embed(x[n]) if f.embed else x[n]) for n, f in factors.items()], 1)

    def prepare(data: PyTree, weights: Array | None) -> PyTree:
        given = as_mapping(by_name(data, names), names)
        rows = of_each(lambda name, family: _of_factor(name, family, given[name], weights))
        lengths = of_each(lambda name, family: num_rows(rows[name]))
        if len(set(lengths.values())) > 1:
            raise ValueError(f"data has parts of different lengths, {lengths}: needs the same rows in each.")
        return in_one_dtype(rows)

    def complete(params: PyTree, x: PyTree, responsibilities: Array, drawn: PyTree) -> PyTree:
        """Fill the parts that can have holes; leave out the others."""
        return of_each(
            lambda name, family: (
                family.complete(params[name], x[name], responsibilities, None if drawn is None else drawn[name])
                if family.complete
                else None
            )
        )

    def log_prior(params: PyTree) -> Array:
        return reduce(operator.add, [f.log_prior(params[n]) for n, f in factors.items() if f.log_prior])

    def degenerate(params: PyTree, stats: PyTree) -> Array:
        return jnp.stack([f.degenerate(params[n], stats[n]) for n, f in factors.items() if f.degenerate]).any()

    def size(data: PyTree) -> Array:
        """Return the observations per row of the factor that has them: all have the same."""
        return next(f.size(data[n]) for n, f in factors.items() if f.size)

    return Family(
        evaluate=evaluate,
        m_step=lambda params, stats: of_each(lambda name, family: family.m_step(params[name], stats[name])),
        expected_log_prob=lambda params, stats: total(lambda n, family: family.expected_log_prob(params[n], stats[n])),
        init=lambda x, responsibilities: of_each(lambda name, family: family.init(x[name], responsibilities)),
        constraints=of_each(lambda name, family: family.constraints),
        sample=sample if all(family.sample for family in families) else None,
        embed=embed,
        prepare=prepare,
        size=size if any(family.size for family in families) else None,
        log_prior=log_prior if any(family.log_prior for family in families) else None,
        degenerate=degenerate if any(family.degenerate for family in families) else None,
        complete=complete if any(family.complete for family in families) else None,
        parts=(_product, (names, families)),
        additive=all(family.additive for family in families),
        exact=all(family.exact for family in families),
        places=all(family.places for family in families),
    )


def _of_factor(name: str, family: Family, data: PyTree, weights: Array | None) -> PyTree:
    try:
        return prepared(family, data, weights)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
