"""Parameters that others are made of: what is shared, restricted, or held in part, as a smooth function of what is free."""

from collections.abc import Callable, Hashable
from functools import cache, wraps
from typing import Any

import jax
from jax import Array

from jaxem.arrays import as_params
from jaxem.boundary import check_model, check_structure
from jaxem.climbing import climb
from jaxem.constraints import Constraint, is_constraint
from jaxem.model import Model, PyTree, Whole, require
from jaxem.numerics import in_full_precision


def reparametrize(
    model: Model,
    to_params: Callable[[PyTree], PyTree],
    constraints: PyTree = None,
    from_params: Callable[[PyTree], PyTree] | None = None,
) -> Model:
    """Return the model of φ, with θ = `to_params(φ)` the parameters of `model`.

    `constraints` declares the domain of φ (None: real everywhere), and counts what is free. The M-step climbs
    φ ↦ E_Q[log p(x, z | θ)] on the same statistics from the old φ by Newton's steps, which never lower it, until its slope is
    zero. `from_params` takes parameters of `model` to φ, those that `to_params` does not reach to some near it: with it the
    model has starts of its own, `from_params(model.init(…))`, and the M-step starts from the model's own where that is better.
    A floor of `model` against collapse does not hold φ. `model.whole(φ)` is θ, as is `jaxem.thaw(model, φ)`.

    Equal variances: `lambda p: p._replace(components=Gaussian(p.components.mean, p.components.covariance * jnp.ones((k, 1))))`
    of a covariance (1, d). A common mean: the same of a mean (1, d). A common slope: one number in φ, broadcast to (k,) in θ.
    A weight held: `lambda p: Mixture(jnp.append(0.7 * p["others"], 0.3), p["components"])`, `others` on the simplex.
    Equal weights are a whole leaf: `freeze` takes those.

    Functions are known by identity: one that is named compiles once, a lambda anew wherever it is written.
    Raises ValueError for a model without `expected_log_joint`, what is no function or no tree of constraints, and where
    `to_params` returns what are no parameters of `model`.

    >>> import jax.numpy as jnp, jaxem
    >>> from jaxem import constraints, families
    >>> def with_equal_variances(p):
    ...     return p._replace(components=families.Gaussian(p.components.mean, p.components.covariance * jnp.ones((2, 1))))
    >>> def pooled(p):
    ...     return p._replace(components=families.Gaussian(p.components.mean, p.components.covariance.mean(0, keepdims=True)))
    >>> mixture = jaxem.mixture(families.gaussian("diag"), 2)
    >>> model = jaxem.reparametrize(mixture, with_equal_variances, mixture.constraints, pooled)
    >>> x = jaxem.datasets.faithful()
    >>> fit = jaxem.fit(model, model.init(0, x), x)
    >>> print(f"{fit.log_likelihood:.1f}", jaxem.num_free_parameters(model, fit.params))
    -1157.7 7
    """
    check_model(model)
    require(model, "expected_log_joint")
    for name, function in {"to_params": to_params, "from_params": from_params}.items():
        if not (callable(function) and isinstance(function, Hashable)) and (name == "to_params" or function is not None):
            raise ValueError(f"{name} must be a function of parameters, got {function!r}.")
    leaves, structure = jax.tree.flatten(constraints, is_leaf=is_constraint)
    if not all(map(is_constraint, leaves)):
        raise ValueError(f"constraints must be a tree of jaxem.constraints, such as constraints.positive, got {constraints!r}.")
    return _reparametrize(model, to_params, tuple(leaves), structure, from_params)


@cache
def _reparametrize(
    model: Model,
    to_params: Callable[[PyTree], PyTree],
    leaves: tuple[Constraint, ...],
    structure: Any,
    from_params: Callable[[PyTree], PyTree] | None,
) -> Model:
    domains = jax.tree.unflatten(structure, leaves)

    def whole(params: PyTree) -> PyTree:
        """Return the parameters θ of the model that this one was made of, to_params(φ)."""
        made = as_params(to_params(as_params(params)))
        try:
            check_structure(model.constraints, made)
        except ValueError as error:
            raise ValueError(f"to_params(params) must return parameters of {model!r}: {error}") from error
        return made

    def height(params: PyTree, stats: PyTree) -> Array:
        theta = whole(params)
        value = require(model, "expected_log_joint")(theta, stats)
        return value + model.log_prior(theta) if model.log_prior else value

    @jax.jit
    @in_full_precision
    def m_step(params: PyTree, stats: PyTree) -> PyTree:
        """Return parameters φ that maximize E_Q[log p(x, z | θ(φ))], Q summarized by `stats`; never lower ones."""
        new = params
        if from_params is not None:
            new = _own(from_params(model.m_step(whole(params), stats)), params)
        return climb(lambda phi: height(phi, stats), domains, params, new)

    def init(key: Array, data: PyTree, weights: Any = None) -> PyTree:
        """Return one random start: that of the model, re-expressed; weights (n,), None for one each."""
        assert from_params is not None
        return as_params(from_params(require(model, "init")(key, data, weights)))

    return re_expressed(model, whole)._replace(
        m_step=m_step,
        init=init if from_params and model.init else None,
        degenerate=None,
        constraints=domains,
        num_free=None,
        parts=(reparametrize, (model, to_params, domains, from_params)),
        exact=False,
    )


def _own(params: PyTree, like: PyTree) -> PyTree:
    """Return params in the dtypes of others like them; ValueError where they are not built or shaped alike."""
    params = as_params(params)
    received, needed = ((str(jax.tree.structure(t)), [leaf.shape for leaf in jax.tree.leaves(t)]) for t in (params, like))
    if received != needed:
        raise ValueError(
            f"from_params(params) returns {received[0]} of shapes {received[1]}, needs what to_params takes, {needed[0]} of "
            f"shapes {needed[1]}."
        )
    return jax.tree.map(lambda leaf, other: leaf.astype(other.dtype), params, like)


def re_expressed(model: Model, whole: Whole) -> Model:
    """Return `model` as one of other parameters, of which `whole` makes its own; the M-step is still the model's own."""

    def of_own(function: Callable[..., Any] | None, place: int = 0) -> Any:
        if function is None:
            return None

        @wraps(function)
        def through(*given: Any, **named: Any) -> Any:
            if "params" in named:
                return function(*given, **named | {"params": whole(named["params"])})
            return function(*given[:place], whole(given[place]), *given[place + 1 :], **named)

        return through

    return model._replace(
        e_step=of_own(model.e_step),
        expected_log_joint=of_own(model.expected_log_joint),
        posterior=of_own(model.posterior),
        statistics=of_own(model.statistics),
        log_prob=of_own(model.log_prob),
        sample=of_own(model.sample, 1),
        log_prior=of_own(model.log_prior),
        degenerate=of_own(model.degenerate),
        entropy=of_own(model.entropy),
        whole=whole,
    )
