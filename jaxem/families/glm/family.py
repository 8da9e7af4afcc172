"""Generalized linear models: responses whose mean is a function of columns times coefficients."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax

from jaxem import constraints
from jaxem.families.designs import check_columns, inward, outward
from jaxem.families.glm.binomial import BINOMIAL
from jaxem.families.glm.gamma import GAMMA
from jaxem.families.glm.negative_binomial import NEGATIVE_BINOMIAL
from jaxem.families.glm.poisson import POISSON
from jaxem.families.glm.responses import Response
from jaxem.families.newton import Look, climb, grams, lacks_information, least_information, over_rows, solve
from jaxem.families.positives import with_mean_row
from jaxem.families.regression import (
    Regression,
    Responses,
    as_common,
    linear_predictor,
    predictor,
    prepare_regression,
    turned_predictor,
)
from jaxem.families.systems import System, system_of
from jaxem.model import Family
from jaxem.numerics import weighted_sum

RESPONSES = {"poisson": POISSON, "binomial": BINOMIAL, "gamma": GAMMA, "negative binomial": NEGATIVE_BINOMIAL}
MOST_TURNS = 30  # between coefficients and dispersions
STILL = 1e3  # ulps of a dispersion, at which these turns end


class GLM(NamedTuple):
    """Parameters of k generalized linear models.

    coefficients  (k, p), one for each column of x
    dispersion    (k,) φ where the distribution has one, or None

    >>> from jaxem.families import GLM
    >>> GLM(coefficients=[[0.1, 0.5], [2.0, -0.5]], dispersion=None).coefficients[1]
    [2.0, -0.5]
    """

    coefficients: Any
    dispersion: Any = None


class WeighedRows(NamedTuple):
    """Statistics of an M-step that needs the rows again: these, and responsibilities (n, k)."""

    rows: Responses
    responsibilities: Array


def glm(distribution: str, common: tuple[int, ...] = ()) -> Family:
    """Return the family of generalized linear models, E[y_n | x_n, θ_k] = g(η_nk), η_nk = x_n·β_k + offset_n.

    distribution  "poisson", counts with mean e^η
                  "binomial", successes among trials, one each where there are none, with log-odds η
                  "gamma", numbers > 0 with mean μ = e^η and variance φ μ²
                  "negative binomial", counts with mean μ = e^η and variance μ + φ μ²
    common        the columns of x whose coefficient all components share: their entries in `coefficients` are equal

    data `families.Regression(x, y, offset, trials)`; no intercept is added. The M-step is Newton's method from the old
    coefficients to stationarity; weights are frequencies. Where rows of a component are separated, so that a coefficient runs
    to infinity, it ends finite and the fit DEGENERATE, as does one whose gamma responses leave no dispersion: φ is held above
    1e-10, in float32 1e-8. That of negative binomial ones lies in [1e-10, 1e10], and counts that vary no more than Poisson
    ones converge at the lower end. McCullagh & Nelder (1989), §2.5; Wedel & DeSarbo (1995).

    Raises ValueError for another distribution, and where `common` is no tuple of column numbers.

    >>> import numpy as np, jaxem
    >>> from jaxem import families
    >>> x = np.stack([np.ones(6), np.arange(6.0)], 1)
    >>> model = jaxem.single(families.glm("poisson"))
    >>> data = families.Regression(x, [1, 2, 2, 5, 9, 14])
    >>> print(np.asarray(jaxem.fit(model, model.init(0, data), data).params.coefficients).round(2))
    [[-0.04  0.54]]
    """
    if not isinstance(distribution, str) or distribution not in RESPONSES:
        raise ValueError(f"distribution must be one of {', '.join(map(repr, RESPONSES))}, got {distribution!r}.")
    return _glm(distribution, as_common(common))


@cache
def _glm(distribution: str, common: tuple[int, ...]) -> Family:
    response = RESPONSES[distribution]

    def log_prob(params: GLM, rows: Responses) -> Array:
        """Return log p(y_n | x_n, θ_k): (k, n)."""
        assert rows.base is not None
        check_columns(rows.design, params.coefficients.shape[1])
        eta = predictor(params.coefficients, rows)
        return response.log_prob(eta, rows.y, rows.trials, rows.base, _in_column(params.dispersion))

    def evaluate(params: GLM, x: Responses) -> tuple[Array, Callable[[Array], WeighedRows]]:
        return log_prob(params, x).T, lambda responsibilities: WeighedRows(x, responsibilities)

    def expected_log_prob(params: GLM, stats: WeighedRows) -> Array:
        return weighted_sum(stats.responsibilities, log_prob(params, stats.rows).T)

    def m_step(params: GLM, stats: WeighedRows) -> GLM:
        system, turned = _system(params, stats, common)
        turned, dispersion = _best(response, system, turned, params.dispersion, stats)
        return GLM(_outward(turned, stats, common), dispersion)

    def init(x: Responses, responsibilities: Array) -> GLM:
        """Return the M-step from the responsibilities and one row more, spread as all; it begins near the responses."""
        stats = WeighedRows(x, with_mean_row(responsibilities))
        dispersion = jnp.ones(responsibilities.shape[1], x.y.dtype) if response.dispersion else None
        return m_step(GLM(_guess(response, stats, common), dispersion), stats)

    def sample(key: Array, params: GLM, labels: Array, like: Responses | None) -> Regression:
        eta = linear_predictor(params.coefficients, labels, like)
        assert like is not None
        dispersion = None if params.dispersion is None else params.dispersion[labels]
        return Regression(like.design.x, response.sample(key, eta, like.trials, dispersion), like.offset, like.trials)

    def degenerate(params: GLM, stats: WeighedRows) -> Array:
        system, turned = _system(params, stats, common)
        separated = _separated(response, system, turned, params.dispersion, stats)
        if response.dispersion is None:
            return separated
        return separated | _dispersed(response, turned, params.dispersion, stats)[1].any()

    def prepare(data: Any, weights: Array | None) -> Responses:
        rows = prepare_regression(data, weights, response.kind, common)
        return rows if rows.base is not None else rows._replace(base=response.base(rows.y, rows.trials))

    return Family(
        evaluate,
        m_step,
        expected_log_prob,
        init,
        constraints=GLM(
            constraints.alike(common) if common else constraints.real,
            response.dispersion.constraint if response.dispersion else None,
        ),
        sample=sample,
        embed=lambda rows: response.guess(rows.y, rows.trials)[:, None],
        prepare=prepare,
        degenerate=degenerate,
        parts=(glm, (distribution, common)),
        additive=False,
        places=False,
    )


def _system(params: GLM, stats: WeighedRows, common: tuple[int, ...]) -> tuple[System, Array]:
    turned = inward(params.coefficients, stats.rows.design.basis.value)
    return system_of(turned, len(common)), turned


def _outward(turned: Array, stats: WeighedRows, common: tuple[int, ...]) -> Array:
    """Return coefficients, of which rounding leaves the common ones equal."""
    coefficients = outward(turned, stats.rows.design.basis.value)
    return constraints.alike(common).mend(coefficients) if common else coefficients


def _in_column(dispersion: Array | None) -> Array | None:
    return None if dispersion is None else dispersion[:, None]


def _best(
    response: Response, system: System, turned: Array, dispersion: Array | None, stats: WeighedRows
) -> tuple[Array, Array | None]:
    """Return the maximum of Σ r log p over γ (k, p) and φ (k,), from the old ones; where both depend on each other, in turn."""
    if response.dispersion is None or dispersion is None:
        return _climbed(response, system, turned, None, stats), None

    def turn(state: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        turns, _, before, old = state
        after = _climbed(response, system, before, old, stats)
        new = _dispersed(response, after, old, stats)[0]
        return turns + 1, (jnp.abs(new - old) <= STILL * jnp.finfo(new.dtype).eps * new).all(), after, new

    start = jnp.zeros((), jnp.int32), jnp.asarray(False), turned, dispersion
    if response.dispersion.separate and not system.shared:
        return turn(start)[2:]
    return lax.while_loop(lambda state: ~state[1] & (state[0] < MOST_TURNS), turn, start)[2:]


def _dispersed(response: Response, turned: Array, dispersion: Array, stats: WeighedRows) -> tuple[Array, Array]:
    """Return the best dispersions (k,) at γ, and which are held; of components without rows the old ones."""
    assert response.dispersion is not None
    rows, r = stats
    found, held = response.dispersion.estimate(lambda some: turned_predictor(turned, some), rows, r, dispersion)
    return jnp.where((r > 0).any(0), found, dispersion), held


def _climbed(response: Response, system: System, turned: Array, dispersion: Array | None, stats: WeighedRows) -> Array:
    """Return the maximum of Σ r log p over γ (k, p), from the old ones."""
    rows, r = stats

    def look(theta: Array, before: Array) -> Look:
        here, there = system.apart(theta), system.apart(before)
        return system.look(over_rows(lambda some, shares: _look(response, here, there, dispersion, some, shares.T), rows, r))

    counts = system.counts(jnp.where(r > 0, r, 0).sum(0))
    return system.apart(climb(look, system.together(turned), counts, rows.design.reach.value))


def _look(response: Response, here: Array, before: Array, dispersion: Array | None, rows: Responses, weights: Array) -> Look:
    """Look at γ (k, p) from another, over some rows, which weights (k, n) are of."""
    z, present, phi = rows.design.z, weights > 0, _in_column(dispersion)
    score, information = response.slopes(turned_predictor(here, rows), rows.y, rows.trials, phi)
    gain = response.gain(turned_predictor(before, rows), (here - before) @ z.T, rows.y, rows.trials, phi)
    gain, score, information = (jnp.where(present, weights * each, 0) for each in (gain, score, information))
    return Look(gain.sum(1), score @ z, grams(information, z))


def _guess(response: Response, stats: WeighedRows, common: tuple[int, ...]) -> Array:
    """Return coefficients (k, p) that fit a guess of the linear predictor by least squares."""
    rows, r = stats
    guess = response.guess(rows.y, rows.trials)
    target = guess if rows.offset is None else guess - rows.offset
    p = rows.design.x.shape[1]
    system = System(r.shape[1], p, len(common))

    def of_rows(some: tuple[Responses, Array], shares: Array) -> Look:
        z, weights = some[0].design.z, jnp.where(shares.T > 0, shares.T, 0)
        return Look(weights.sum(1), (weights * some[1][None]) @ z, grams(weights, z))

    found = system.look(over_rows(of_rows, (rows, target), r))
    best = system.apart(solve(found.information, found.slope))
    return _outward(best, stats, common)


def _separated(response: Response, system: System, turned: Array, dispersion: Array | None, stats: WeighedRows) -> Array:
    """Tell whether in some direction the rows of a component have next to no information left; looked for if any has none."""
    rows, r = stats

    def information_of(some: Responses) -> Array:
        return response.slopes(turned_predictor(turned, some), some.y, some.trials, _in_column(dispersion)).information

    def of_rows(some: Responses, shares: Array) -> tuple[Array, Array]:
        weights = jnp.where(shares.T > 0, shares.T, 0)
        typical = weights if some.trials is None else weights * some.trials[None]
        return grams(weights * information_of(some), some.design.z), grams(typical, some.design.z)

    def looked(_: Any) -> tuple[Array, Array]:
        here, typical = over_rows(of_rows, rows, r)
        return jnp.asarray(False), lacks_information(system.matrix(here), system.matrix(typical)).any()

    per_row = information_of(rows)
    per_row = per_row if rows.trials is None else per_row / rows.trials[None]
    some = jnp.where(r.T > 0, per_row, 1).min() < least_information(r.dtype)
    # a loop of at most one turn: under vmap a cond would look in every step
    return lax.while_loop(lambda state: state[0], looked, (some, jnp.asarray(False)))[1]
