"""What the laws are judged by: one compiled program per model, and the scales that its rounding is measured in.

Nearly all the time of a check is compilation. So one program returns at once whatever any law asks of a model at given
params, data and weights, and other data, weights and params of the same shapes run through the same program.

Tolerances are multiples of rounding in the units of what is compared: a sum over rows by the terms it is made of, which
sums over random halves of the weights tell; a log-likelihood by Σ_n w_n (|log p_n| + observations in row n); a gradient by
how much that of the other half of the rows differs, and by what an ulp of the parameters does to it.
"""

from collections.abc import Callable
from functools import cache, partial, wraps
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxem import constraints
from jaxem.boundary import LOOKED_AT_VALUES, as_key, check_data, check_params
from jaxem.gradient import can_rise
from jaxem.model import Family, Model, PyTree, require
from jaxem.numerics import in_full_precision
from jaxem.trees import num_rows

SUM = 64.0  # roundings of the terms of a sum within which two ways to add them up agree
SLOPE = 1e4  # roundings within which a gradient is zero, or two are the same
MOVE = 64.0  # ulps of each parameter, by which a gradient is told to be ill-conditioned
FAR_OUT = 80.0  # in unconstrained space, beyond which a logarithm is of the least numbers
HALVES = 2  # random halves of the weights that tell how large the terms of sums are
HERE, UPDATE, OTHER = 0, 1, 2  # places among the points of a survey

QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
"""How to compile fast what runs for milliseconds: in a fifth of the time, by the compiler that this was measured with."""


@cache
def _known_options() -> dict[str, Any]:
    """Return those of the options that this version of the compiler knows."""

    def knows(options: dict[str, Any]) -> bool:
        try:
            jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
        except jax.errors.JaxRuntimeError:
            return False
        return True

    return QUICK if knows(QUICK) else {name: value for name, value in QUICK.items() if knows({name: value})}


def quickly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, of a static model and more, compiled with the fewest optimizations."""
    compiled: list[Callable[..., Any]] = []

    @wraps(function)
    def run(*arguments: Any) -> Any:
        if not compiled:
            compiled.append(jax.jit(function, static_argnums=0, compiler_options=_known_options()))
        return compiled[0](*arguments)

    return run


class Survey(NamedTuple):
    """A bound, its gradient and that of the prior at three points: the params, their update, and others.

    `free` are the points in unconstrained space, and all gradients are with respect to those.
    """

    free: PyTree
    bound: Array
    prior: Array
    bound_slope: PyTree
    prior_slope: PyTree
    extra: PyTree  # a given gradient at the first point, pulled back to unconstrained space


class Evidence(NamedTuple):
    """What a model says at params, data and weights; () where it lacks the capability."""

    stats: PyTree
    log_likelihood: Array
    log_prob: Any
    posterior: PyTree
    restated: PyTree  # statistics of the posterior
    update: PyTree
    held: Array
    rises: Array  # whether F can rise from the params; True where the M-step is exact
    survey: Survey


def survey(
    domains: PyTree, bound: Callable[[PyTree], Array], prior: Callable[[PyTree], Array], points: list[PyTree], extra: PyTree
) -> Survey:
    """Return values and gradients at the points, traced once; `extra` is a gradient at the first of them."""

    def at(point: tuple[PyTree, PyTree]) -> Survey:
        theta, more = point
        (bound_value, bound_slope), (prior_value, prior_slope) = (jax.value_and_grad(f)(theta) for f in (bound, prior))
        free = constraints.unconstrain(domains, theta)
        pull = jax.vjp(lambda u: constraints.constrain(domains, u), free)[1]
        slopes = [pull(slope)[0] for slope in (bound_slope, prior_slope, more)]
        return Survey(free, bound_value, prior_value, *slopes)

    zeros = jax.tree.map(jnp.zeros_like, extra)
    stacked, extras = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (points, [extra, zeros, zeros]))
    return lax.map(at, (stacked, extras))


@quickly
@in_full_precision
def evidence(model: Model, params: PyTree, other: PyTree, data: PyTree, weights: Array) -> Evidence:
    """Return all that the laws ask of `model` at `params`, and its bound at `other` params too."""

    def expect(theta: PyTree) -> tuple[Array, PyTree]:
        stats, log_likelihood = model.e_step(theta, data, weights)
        return log_likelihood, stats

    zero = jnp.zeros((), weights.dtype)
    if model.expected_log_joint or model.sample:
        (log_likelihood, stats), slope = jax.value_and_grad(expect, has_aux=True)(params)
    else:
        (log_likelihood, stats), slope = expect(params), jax.tree.map(jnp.zeros_like, params)
    joint, prior = model.expected_log_joint, model.log_prior
    update = model.m_step(params, stats)
    posterior = model.posterior(params, data) if model.posterior else ()
    both = model.posterior is not None and model.statistics is not None
    count = weights.sum() if model.size is None else (weights * model.size(data)).sum().astype(weights.dtype)
    return Evidence(
        stats=stats,
        log_likelihood=log_likelihood,
        log_prob=model.log_prob(params, data) if model.log_prob else (),
        posterior=posterior,
        restated=model.statistics(params, data, weights, posterior) if both and model.statistics else (),
        update=update,
        held=model.degenerate(params, stats) if model.degenerate else jnp.asarray(False),
        rises=jnp.asarray(True) if model.exact or joint is None else can_rise(model, params, stats, count, zero),
        survey=survey(
            model.constraints,
            lambda theta: joint(theta, stats) if joint else zero,
            lambda theta: prior(theta).astype(zero.dtype) if prior else zero,
            [params, update, other],
            slope,
        ),
    )


@quickly
def constrained(model: Model, free: PyTree) -> PyTree:
    return constraints.constrain(model.constraints, free)


@quickly
def _started(model: Model, key: Array, data: PyTree, weights: Array) -> PyTree:
    return require(model, "init")(key, data, weights)


@quickly
def _sampled(model: Model, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
    return require(model, "sample")(key, params, like)


def starting(model: Model, key: Array, data: PyTree, weights: np.ndarray) -> PyTree:
    """Return what `init` draws, compiled where it can be."""
    try:
        return jax.device_get(_started(model, key, data, weights))
    except LOOKED_AT_VALUES:
        return jax.device_get(require(model, "init")(key, data, weights))


def sample(model: Model, key: Array, params: PyTree, like: PyTree) -> tuple[PyTree, PyTree]:
    """Return what `sample` draws, compiled where it can be."""
    try:
        return jax.device_get(_sampled(model, key, params, like))
    except LOOKED_AT_VALUES:
        return jax.device_get(require(model, "sample")(key, params, like))


def flat(tree: PyTree, place: int | None = None) -> np.ndarray:
    """Return all entries of a tree, or of one place of a stacked one, as a vector in float64."""
    leaves = [np.asarray(leaf) if place is None else np.asarray(leaf)[place] for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.astype(np.float64).ravel() for leaf in leaves]) if leaves else np.zeros(0)


def names(tree: PyTree, place: int | None = None) -> list[str]:
    """Return the place of each entry that `flat` returns, by leaf."""
    shapes = [
        (jax.tree_util.keystr(path), np.size(leaf if place is None else leaf[place]))
        for path, leaf in jax.tree.leaves_with_path(tree)
    ]
    return [name for name, size in shapes for _ in range(size)]


class Bench(NamedTuple):
    """A model on its data at the params of a check and at others nearby, and the scales of rounding there."""

    model: Model
    given: PyTree  # the params that the check was given
    params: PyTree  # others nearby, where laws are put to the test
    raw: PyTree
    data: PyTree
    weights: np.ndarray
    size: np.ndarray  # observations in each row
    seed: np.ndarray
    here: Evidence  # at params; the other params are the update
    stats_scale: PyTree  # of each leaf
    slope_scale: np.ndarray  # of each entry of the gradient at params
    update_scale: np.ndarray  # and at the update

    @property
    def eps(self) -> float:
        """The rounding unit of the dtype of the data."""
        return float(np.finfo(self.weights.dtype).eps)

    def random(self, law: int) -> np.random.Generator:
        """Return the source of random numbers of one law."""
        return np.random.default_rng([law, *self.seed])

    def at(self, params: PyTree, other: PyTree = None, data: PyTree = None, weights: np.ndarray | None = None) -> Evidence:
        """Return the evidence at `params`, by default with this bench's data and weights, in NumPy."""
        data = self.data if data is None else data
        weights = self.weights if weights is None else weights
        return look_at(self.model, params, params if other is None else other, data, weights)

    def rounding(self, found: Evidence, weights: np.ndarray | None = None) -> float:
        """Return one rounding of the log-likelihood: Σ_n w_n (|log p_n| + observations), in units of the last place."""
        weights = self.weights if weights is None else weights
        if isinstance(found.log_prob, tuple):
            return self.eps * (abs(float(found.log_likelihood)) + float(weights @ self.size))
        terms = np.where(weights > 0, np.abs(found.log_prob) + self.size, 0)
        return self.eps * float((weights * terms).sum())


def look_at(model: Model, params: PyTree, other: PyTree, data: PyTree, weights: np.ndarray) -> Evidence:
    """Return the evidence in NumPy."""
    return jax.device_get(evidence(model, params, other, data, weights))


def halves_of(weights: np.ndarray, random: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return random halves of the weights, each with the half that is left."""
    first = [weights * random.permutation(np.arange(weights.size) % 2).astype(weights.dtype) for _ in range(HALVES)]
    return [(half, weights - half) for half in first]


def spread(pairs: list[tuple[np.ndarray, np.ndarray]], num: int) -> np.ndarray:
    """Return an upper estimate of Σ_n |w_n s_n| from pairs of sums over complementary halves: √n · rms of the differences."""
    squares = [(first - second) ** 2 for first, second in pairs]
    return np.sqrt(num * np.mean(squares, 0))


def stats_scale(whole: PyTree, halves: list[tuple[PyTree, PyTree]], num: int) -> PyTree:
    def scale(leaf: np.ndarray, *parts: np.ndarray) -> float:
        pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return float((np.abs(np.asarray(leaf, np.float64)) + spread(pairs, num)).max(initial=0))

    return jax.tree.map(scale, whole, *(half for pair in halves for half in pair))


def _slopes(found: Evidence, place: int) -> np.ndarray:
    """Return the gradient that tells scales: of the log-likelihood at the params, of the bound elsewhere."""
    return flat(found.survey.extra, HERE) if place == HERE else flat(found.survey.bound_slope, place)


def ill_conditioned(record: Model | Family, slope_at: Callable[[PyTree], np.ndarray], params: PyTree, seed: int) -> np.ndarray:
    """Return how much a gradient changes where params change by `MOVE` ulps; infinite where that leaves their domain."""
    random = np.random.default_rng(seed)

    def moved(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        signs = random.choice([-1.0, 1.0], leaf.shape)
        return (leaf * (1 + MOVE * float(np.finfo(leaf.dtype).eps) * signs)).astype(leaf.dtype)

    mended = jax.device_get(constraints.mend(record.constraints, jax.tree.map(moved, params)))
    change = np.abs(slope_at(mended) - slope_at(params)) / MOVE
    return np.where(np.isfinite(change), change, np.inf)


def nearby(model: Model, found: Evidence, errors: np.ndarray, random: np.random.Generator, size: float = 0.5) -> PyTree:
    """Return other params in the domain: half of the way to the update, and off it by some standard errors at random.

    `errors` are the standard errors of the entries in unconstrained space, zero where they are not known.
    """
    start, end = flat(found.survey.free, HERE), flat(found.survey.free, UPDATE)
    ours = np.array(_are_real(model, found.update))
    known = np.where(ours, errors, np.minimum(errors, 0.2 / size))
    step = np.where(errors > 0, known, 0.02 / size * np.abs(start))
    moved = start + 0.5 * (end - start) + size * step * random.uniform(-1, 1, start.shape)
    free = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], found.survey.free)
    return jax.device_get(constrained(model, unflat(np.where(np.isfinite(moved), moved, start), free)))


def _are_real(model: Model, params: PyTree) -> list[bool]:
    """Tell for each entry in unconstrained space whether it has the units of a parameter, not of a logarithm."""
    domains = constraints.broadcast(model.constraints, params)
    sizes = [np.size(leaf) for leaf in jax.tree.leaves(jax.eval_shape(partial(_free, model), params))]
    return [domain.name == "real" for domain, size in zip(domains, sizes, strict=True) for _ in range(size)]


def _free(model: Model, params: PyTree) -> PyTree:
    return constraints.unconstrain(model.constraints, params)


def unflat(vector: np.ndarray, like: PyTree) -> PyTree:
    """Return a vector as a tree of the shapes and dtypes of `like`."""
    leaves, structure = jax.tree.flatten(like)
    ends = np.cumsum([np.size(leaf) for leaf in leaves])
    parts = np.split(vector, ends[:-1])
    return jax.tree.unflatten(structure, [p.reshape(x.shape).astype(x.dtype) for p, x in zip(parts, leaves, strict=True)])


def standard_errors(scale: np.ndarray, num: int) -> np.ndarray:
    """Return 1 / √(Σ_n g_n²) from the scale of a gradient, zero where that is zero or unknown."""
    known = np.isfinite(scale) & (scale > 0)
    return np.where(known, np.sqrt(num) / np.where(known, scale, 1), 0)


def set_up(model: Model, params: PyTree, data: PyTree, weights: Any, key: Any) -> Bench:
    """Return the bench of a check; raise ValueError for what `fit` would not take."""
    raw = data
    data, weights = check_data(model, data, weights)
    params = jax.device_get(check_params(model, params, data, weights))
    seed = np.asarray(jax.random.key_data(as_key(0 if key is None else key))).ravel()
    random = np.random.default_rng(seed)
    rows = num_rows(data)
    data = jax.device_get(data)
    size = np.ones(rows) if model.size is None else np.asarray(model.size(data), np.float64)
    weights = np.asarray(weights)
    halves, num = halves_of(weights, random), int((weights > 0).sum())

    def halved(theta: PyTree, other: PyTree) -> list[tuple[Evidence, Evidence]]:
        return [(look_at(model, theta, other, data, one), look_at(model, theta, other, data, left)) for one, left in halves]

    def scale(found: list[tuple[Evidence, Evidence]], place: int) -> np.ndarray:
        return spread([(_slopes(one, place), _slopes(left, place)) for one, left in found], num)

    given = look_at(model, params, params, data, weights)
    assert np.isfinite(given.log_likelihood), f"The log-likelihood is {given.log_likelihood} at the given params."
    near = nearby(model, given, standard_errors(scale(halved(params, params), HERE), num), random)
    if not np.isfinite(look_at(model, near, near, data, weights).log_likelihood):
        near = params
    update = look_at(model, near, near, data, weights).update
    here, found = look_at(model, near, update, data, weights), halved(near, update)
    scale_of_stats = stats_scale(here.stats, [(one.stats, left.stats) for one, left in found], num)
    scales = scale(found, HERE), scale(found, OTHER)
    return Bench(model, params, near, raw, data, weights, size, seed, here, scale_of_stats, *scales)


def assert_close(received: PyTree, expected: PyTree, tolerance: PyTree, law: str, what: str) -> None:
    """Compare leaf by leaf, each with a tolerance of its own, or all with one."""
    leaves = jax.tree.leaves(received)
    allowed = jax.tree.leaves(tolerance)
    allowed = allowed * len(leaves) if len(allowed) == 1 else allowed
    for (path, right), left, most in zip(jax.tree.leaves_with_path(expected), leaves, allowed, strict=True):
        left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
        place = f"{what}{jax.tree_util.keystr(path)}"
        assert left.shape == right.shape, f"{law}: {place} has shape {left.shape}, expected {right.shape}."
        with np.errstate(invalid="ignore"):
            worst = np.where(left == right, 0, np.abs(left - right)).max(initial=0)
        assert worst <= most, f"{law}: {place} differs by {worst:.3g}, more than {most:.3g}; expected {right}, received {left}."


def scaled(tree: PyTree, factor: float) -> PyTree:
    """Return a tree times a factor, in float64."""
    return jax.tree.map(lambda leaf: factor * np.asarray(leaf, np.float64), tree)


def plus(left: PyTree, right: PyTree) -> PyTree:
    """Return the sum of two trees, in float64."""
    return jax.tree.map(lambda a, b: np.asarray(a, np.float64) + np.asarray(b, np.float64), left, right)


def largest(log_prob: Any) -> float:
    """Return the largest finite size among log-densities; zero where there are none."""
    values = np.abs(np.asarray(log_prob, np.float64)) if not isinstance(log_prob, tuple) else np.zeros(1)
    return float(values[np.isfinite(values)].max(initial=0))


def alike(one: PyTree, other: PyTree) -> bool:
    """Tell whether two trees have the same structure, shapes and dtypes."""
    shapes = [[(np.shape(leaf), np.asarray(leaf).dtype) for leaf in jax.tree.leaves(tree)] for tree in (one, other)]
    return jax.tree.structure(one) == jax.tree.structure(other) and shapes[0] == shapes[1]


def total_slope(there: Survey, place: int) -> np.ndarray:
    """Return the gradient of bound + prior at a place."""
    return flat(there.bound_slope, place) + flat(there.prior_slope, place)


def leaf_largest(scale: np.ndarray, there: Survey) -> np.ndarray:
    """Return for each entry the largest one of its leaf."""
    like = jax.tree.map(lambda leaf: np.asarray(leaf)[HERE], there.free)
    return flat(jax.tree.map(lambda leaf: np.full(leaf.shape, leaf.max(initial=0)), unflat(scale, like)))


def assert_small(left: np.ndarray, allowed: np.ndarray, there: Survey, what: str) -> None:
    """Raise AssertionError where an entry of a gradient is above what is allowed, or NaN away from all boundaries."""
    inside = (np.abs(np.concatenate([flat(there.free, HERE), flat(there.free, UPDATE)])) < FAR_OUT).all()
    left = np.where(np.isnan(left), np.inf if inside else 0, left)
    excess = np.where(left > allowed, left - np.where(np.isfinite(allowed), allowed, 0), 0)
    if excess.max(initial=0) > 0:
        worst, where = int(excess.argmax()), names(there.free, HERE)
        raise AssertionError(
            f"{what} params{where[worst]}: {left[worst]:.3g} nats per unit of unconstrained space, more than "
            f"{allowed[worst]:.3g} (entry {worst - where.index(where[worst])} of that array)."
        )


def num_components(record: Model | Family, params: PyTree) -> int:
    """Return how many components the constraints say that there are; 0 where they do not agree, or say nothing."""
    if record.constraints is None:
        return 0
    domains = zip(constraints.broadcast(record.constraints, params), jax.tree.leaves(params), strict=True)
    axes = [(np.shape(leaf), axis) for domain, leaf in domains for axis in domain.component_axes]
    counts = {shape[axis] if axis < len(shape) else 0 for shape, axis in axes}
    return counts.pop() if len(counts) == 1 else 0
