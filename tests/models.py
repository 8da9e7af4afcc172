"""The one table of models, and of families: every law is put to every row."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem import constraints, families
from jaxem.boundary import check_data
from jaxem.numerics import positive, weighted_log
from jaxem.testing.evidence import starting

ROWS = 60
BOTH = ("float64", "float32")
DOUBLE = ("float64",)  # where float32 is that of another row, and would only take its time again
SINGLE = ("float32",)  # and where float64 is


class Row(NamedTuple):
    """A model with params and data to put it to the test on, by dtype; `dtypes` are those it is tested in."""

    build: Callable[[str], tuple[jaxem.Model, Any, Any]]
    dtypes: tuple[str, ...] = BOTH


class FamilyRow(NamedTuple):
    """A family with params and rows; most are tested in float32 by the laws of their mixtures."""

    build: Callable[[str], tuple[jaxem.Family, Any, Any]]
    dtypes: tuple[str, ...] = DOUBLE


def two_clusters(dim, dtype, scale=1.0):
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=ROWS)
    return jnp.asarray(scale * (rng.normal(size=(ROWS, dim)) * (1 + labels[:, None]) + 3 * labels[:, None]), dtype)


def needles(dtype):
    """Two clusters far and sharp beside a wide one: in float64 products lose more than half of the digits of the first two."""
    rng = np.random.default_rng(6)
    labels = np.arange(ROWS) % 3
    mean, sd = np.array([-1e5, 1e5, 0.0])[labels], np.array([1.0, 2.0, 3e4])[labels]
    return jnp.asarray(mean[:, None] + sd[:, None] * rng.normal(size=(ROWS, 6)), dtype)


def needle_params(dtype):
    mean = np.array([-1e5, 1e5, 0.0])[:, None] * np.ones((1, 6))
    variances = np.array([1.0, 4.0, 9e8])[:, None] * np.ones((1, 6))
    return jaxem.Mixture(jnp.full(3, 1 / 3, dtype), families.Gaussian(jnp.asarray(mean, dtype), jnp.asarray(variances, dtype)))


def counts(dim, dtype, low=2.0, high=7.0):
    rng = np.random.default_rng(4)
    return jnp.asarray(rng.poisson(np.where(rng.random(ROWS) < 0.5, low, high)[:, None], (ROWS, dim)), dtype)


def binary(dim, dtype):
    rng = np.random.default_rng(5)
    return jnp.asarray(rng.random((ROWS, dim)) < np.where(rng.random(ROWS) < 0.5, 0.2, 0.7)[:, None], dtype)


def wide_counts(dim, dtype):
    rng = np.random.default_rng(9)
    size, mean = np.where(np.arange(ROWS) % 2, [[2.0], [4.0]], [[8.0], [30.0]])
    return jnp.asarray(rng.negative_binomial(size[:, None], (size / (size + mean))[:, None], (ROWS, dim)), dtype)


def fractions(dtype):
    rng = np.random.default_rng(13)
    a, b = np.where(np.arange(ROWS) % 2, [[20.0], [3.0]], [[2.0], [6.0]])
    return jnp.asarray(rng.beta(a, b), dtype)


def directions(dim, dtype):
    rng = np.random.default_rng(14)
    x = rng.normal(size=(ROWS, dim)) + np.where(np.arange(ROWS)[:, None] % 2, 2.0, -0.5) * np.arange(dim)
    return jnp.asarray(x / np.sqrt((x**2).sum(1, keepdims=True)), dtype)


def measured(dtype):
    """Subjects of one to three measurements, the last of which may be of anything."""
    count = np.arange(ROWS // 2) % 3 + 1
    values = two_clusters(2, dtype)[: ROWS // 2, None] + jnp.arange(3, dtype=dtype)[None, :, None]
    return families.Grouped(values, jnp.asarray(count))


def partly_known(dim, dtype):
    """Two fifths of positive numbers exact, the others known to be above one, below one, or between two."""
    x, rng = np.asarray(positives(dim, "float64")), np.random.default_rng(15)
    status = np.array([0, 0, 1, -1, 2])[rng.permutation(x.size).reshape(x.shape) % 5]
    low, high = x * rng.uniform(0.5, 1, x.shape), x * rng.uniform(1, 1.5, x.shape)
    value = np.where(status == 0, x, np.where(status == -1, high, low))
    return families.Censored(jnp.asarray(value, dtype), jnp.asarray(status), jnp.asarray(high, dtype))


def trials(dtype):
    rng = np.random.default_rng(10)
    tried = rng.integers(1, 12, (ROWS, 2))
    successes = rng.binomial(tried, np.where(np.arange(ROWS)[:, None] % 2, 0.2, 0.7))
    return families.Trials(jnp.asarray(successes, dtype), jnp.asarray(tried, dtype))


def shared_counts(dtype):
    rng = np.random.default_rng(11)
    probs = np.where(np.arange(ROWS)[:, None] % 2, [0.1, 0.3, 0.6], [0.5, 0.3, 0.2])
    return jnp.asarray(rng.multinomial(rng.integers(1, 30, ROWS), probs), dtype)


def codes(dtype):
    rng = np.random.default_rng(12)
    steps = np.where(np.arange(ROWS)[:, None] % 2, [0.2, 0.3], [0.7, 0.9])
    return jnp.asarray(rng.binomial([1, 3], steps), dtype)


def without(data, column, value):
    return jnp.asarray(np.where(np.arange(data.shape[1]) == column, value, data), data.dtype)


def mixed(dtype):
    return {"size": two_clusters(2, dtype), "count": counts(1, dtype)[:, 0], "yes": binary(2, dtype)}


@cache
def cluster_in_noise():
    return families.union((families.gaussian("diag"), 1), (families.noise(0.02), 1))


@cache
def mixed_family():
    return families.product(size=families.gaussian("diag"), count=families.poisson(), yes=families.bernoulli())


def holed(data, share=0.25):
    """Data with holes in which other values stand, all of one row's among them, and none of the first row's."""
    values = np.asarray(data)
    mask = np.random.default_rng(8).random(values.shape) > share
    mask[0], mask[5] = True, False
    return families.Observed(jnp.asarray(np.where(mask, values, np.roll(values, 1, 0))), jnp.asarray(mask))


def trials_with_holes(dtype):
    successes, tried = trials(dtype)
    return families.Trials(holed(successes), tried)


def measured_with_holes(dtype):
    values, count = measured(dtype)
    return families.Grouped(holed(values), count)


def mixed_with_holes(dtype):
    return {name: holed(part) for name, part in mixed(dtype).items()}


def known_labels():
    """Labels of every third row, minus one elsewhere, which agree with the data but for one."""
    labels = (np.asarray(counts(1, "float64")[:, 0]) > 4).astype(int)
    labels[3] = 1 - labels[3]
    return jnp.asarray(np.where(np.arange(ROWS) % 3 == 0, labels, -1))


def allowed_labels():
    """Booleans for three components: all, or two, or one."""
    allowed = np.ones((ROWS, 3), bool)
    allowed[::3, 2] = False
    allowed[::6, 0] = False
    return jnp.asarray(allowed)


class Groups(NamedTuple):
    """Statistics of a gate on groups: Σ_n r_nk [g_n = g], (G, k)."""

    counts: jax.Array


@cache
def group_gate(num_groups):
    """A gate on a group g_n in 0 … G-1: label k has probability p_gk; params (G, k), rows on the simplex."""

    def evaluate(probs, group):
        member = (group[:, None] == jnp.arange(num_groups)[None]).astype(probs.dtype)
        return member @ jnp.log(probs), lambda responsibilities: Groups(member.T @ responsibilities)

    def m_step(probs, stats):
        total = stats.counts.sum(1, keepdims=True)
        return jnp.where(total > 0, stats.counts / positive(total), probs)

    def init(group, responsibilities):
        member = (group[:, None] == jnp.arange(num_groups)[None]).astype(responsibilities.dtype)
        total = member.T @ responsibilities + 1
        return total / total.sum(1, keepdims=True)

    return jaxem.Family(
        evaluate,
        m_step,
        lambda probs, stats: weighted_log(stats.counts, probs).sum(),
        init,
        constraints.on_axes(constraints.simplex, (1,)),
    )


class Exponential(NamedTuple):
    """Parameters of k exponential components: rate (k,)."""

    rate: Any


@cache
def exponential():
    """README's family in one file."""

    def evaluate(params, x):
        log_prob = jnp.log(params.rate)[None] - x[:, None] * params.rate[None]
        return log_prob, lambda responsibilities: (responsibilities.sum(0), responsibilities.T @ x)

    def m_step(params, stats):
        count, total = stats
        return Exponential(jnp.where(count > 0, count / jnp.where(count > 0, total, 1), params.rate))

    def expected_log_prob(params, stats):
        count, total = stats
        return (count * jnp.log(params.rate) - total * params.rate).sum()

    def init(x, responsibilities):
        return Exponential(responsibilities.sum(0) / (responsibilities.T @ x))

    def sample(key, params, labels, like):
        return jax.random.exponential(key, labels.shape, params.rate.dtype) / params.rate[labels]

    return jaxem.Family(evaluate, m_step, expected_log_prob, init, constraints=Exponential(constraints.positive), sample=sample)


def lifetimes(dtype):
    rng = np.random.default_rng(7)
    return jnp.asarray(rng.exponential(np.where(np.arange(ROWS) % 2, 1.0, 10.0)), dtype)


def positives(dim, dtype):
    """Two clusters of positive numbers, one narrow and one wide."""
    rng = np.random.default_rng(8)
    shape, scale = np.where(np.arange(ROWS)[:, None] % 2, [[20.0, 0.1]], [[2.0, 4.0]]).T
    return jnp.asarray(rng.gamma(shape[:, None], scale[:, None], (ROWS, dim)), dtype)


@cache
def linkage():
    """README's genetic linkage (Rao 1965): data are cells, weights the animals in each."""

    def e_step(theta, cell, weights):
        probs = jnp.stack([2 + theta, 1 - theta, 1 - theta, theta]) / 4
        zero, one = jnp.zeros_like(theta), jnp.ones_like(theta)
        successes = jnp.stack([theta / (2 + theta), zero, zero, one])
        failures = jnp.stack([zero, one, one, zero])
        return (weights @ successes[cell], weights @ failures[cell]), weights @ jnp.log(probs[cell])

    def m_step(theta, stats):
        return stats[0] / (stats[0] + stats[1])

    return jaxem.Model(e_step, m_step, constraints=constraints.interval(0, 1))


@cache
def normal_with_prior():
    """A hand-written normal mean of known variance with a normal prior: a model with a log_prior."""

    half_log = 0.5 * float(np.log(2 * np.pi))

    def log_prob(mean, x):
        return -0.5 * (x - mean) ** 2 - half_log

    def e_step(mean, x, weights):
        stats = weights.sum(), weights @ x, weights @ (x * x)
        return stats, weights @ log_prob(mean, x)

    def expected_log_joint(mean, stats):
        count, first, second = stats
        return -0.5 * (second - 2 * mean * first + count * mean**2) - half_log * count

    return jaxem.Model(
        e_step,
        lambda mean, stats: stats[1] / (stats[0] + 4),
        expected_log_joint=expected_log_joint,
        log_prob=log_prob,
        log_prior=lambda mean: -2 * mean**2,
        sample=lambda key, mean, like: (mean + jax.random.normal(key, like.shape, like.dtype), ()),
    )


def student_t(params, x, z):
    log_density = jax.scipy.stats.t.logpdf(x, jnp.asarray(4, x.dtype), params["loc"][z], jnp.exp(params["log_scale"][z]))
    return jax.nn.log_softmax(params["logits"])[z] + log_density


def poisson_joint(params, x, z):
    return jnp.log(params["weights"][z]) + x * jnp.log(params["rate"][z]) - params["rate"][z] - jax.lax.lgamma(x + 1)


def own_model(dtype):
    params = {"logits": jnp.zeros(2, dtype), "loc": jnp.array([0, 3], dtype), "log_scale": jnp.zeros(2, dtype)}
    return jaxem.from_log_joint(student_t, num_states=2), params, two_clusters(1, dtype)[:, 0]


def own_model_on_the_simplex(dtype):
    domain = {"weights": constraints.simplex, "rate": constraints.positive}
    params = {"weights": jnp.array([0.4, 0.6], dtype), "rate": jnp.array([2, 6], dtype)}
    return jaxem.from_log_joint(poisson_joint, num_states=2, constraints=domain), params, counts(1, dtype)[:, 0]


def drawn(model, data):
    """Return the model with a start of its own, drawn by the program that the checks draw starts by: compiled once."""
    return model, starting(model, jax.random.key(1), *jax.device_get(check_data(model, data))), data


def gaussian(covariance, num_components, dim, scale=1.0, dtypes=BOTH):
    def build(dtype):
        model = jaxem.mixture(families.gaussian(covariance), num_components)
        return drawn(model, two_clusters(dim, dtype, scale))

    return Row(build, dtypes)


def mixture_of(family, data, dtypes=BOTH):
    return Row(lambda dtype: drawn(jaxem.mixture(family(), 2), data(dtype)), dtypes)


def single_of(family, data, dtypes=BOTH):
    return Row(lambda dtype: drawn(jaxem.single(family()), data(dtype)), dtypes)


def labelled(family, labels, num_components, dtypes=BOTH, rows=mixed):
    def build(dtype):
        data = families.Labelled(rows(dtype), labels())
        return drawn(jaxem.mixture(families.labelled(family()), num_components), data)

    return Row(build, dtypes)


def in_time(data):
    """Rows as steps of ten sequences, of one to six steps each."""
    lengths = jnp.asarray([6, 1, 5, 6, 2, 4, 6, 3, 6, 5])
    return jaxem.Sequences(jax.tree.map(lambda leaf: leaf.reshape(10, 6, *leaf.shape[1:]), data), lengths)


def chain_of(family, data, dtypes=BOTH, num_states=2, **options):
    return Row(lambda dtype: drawn(jaxem.hmm(family(), num_states, **options), in_time(data(dtype))), dtypes)


def gated_chain(dtype):
    data = in_time(families.Gated(columns(dtype)[::-1], counts(1, dtype)[:, 0]))
    return drawn(jaxem.hmm(families.poisson(), 2, gate=families.softmax_regression()), data)


def gated(dtype):
    data = families.Gated(jnp.asarray(np.arange(ROWS) % 3), two_clusters(2, dtype))
    return drawn(jaxem.mixture(families.gaussian("diag"), 2, gate=group_gate(3)), data)


def chunked(dtype):
    return drawn(jaxem.chunked(jaxem.mixture(families.gaussian(), 2), 7), two_clusters(2, dtype))


def climbing(dtype):
    model, params, data = drawn(jaxem.mixture(families.gaussian(), 2), two_clusters(2, dtype))
    return jaxem.gradient_m_step(model), params, data


def columns(dtype, num_columns=2):
    rng = np.random.default_rng(8)
    return jnp.asarray(np.concatenate([np.ones((ROWS, 1)), 3 + rng.normal(size=(ROWS, num_columns - 1))], 1), dtype)


def regressions(dtype):
    """Lines in a response, a count and successes, two for each, told apart by rows of odd number."""
    rng, x, odd = np.random.default_rng(9), np.asarray(columns("float64", 3)), np.arange(ROWS) % 2
    line, offset, trials = np.where(odd, 4 - x[:, 1], x[:, 1] - 2), rng.normal(size=ROWS) / 2, rng.integers(1, 9, ROWS)
    y = {
        "line": line + x[:, 2] + rng.normal(size=ROWS) / 2,
        "count": rng.poisson(np.exp(line / 2 + offset)),
        "yes": rng.binomial(trials, 1 / (1 + np.exp(-line))),
    }
    more = {"line": {}, "count": {"offset": offset}, "yes": {"trials": trials}}
    used = {"line": x, "count": x[:, :2], "yes": x[:, :2]}
    return {
        name: jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), families.Regression(used[name], y[name], **more[name]))
        for name in y
    }


@cache
def regression_family():
    return families.product(
        line=families.linear_regression(common=(2,)), count=families.glm("poisson"), yes=families.glm("binomial", common=(0,))
    )


def one_regression(distribution, dtype):
    rng, x = np.random.default_rng(10), np.asarray(columns("float64"))
    mean = np.exp(np.where(np.arange(ROWS) % 2, 3 - x[:, 1], x[:, 1] - 2))
    y = rng.gamma(4, mean / 4) if distribution == "gamma" else rng.negative_binomial(3, 3 / (3 + mean))
    params = families.GLM(jnp.array([[3, -1], [-2, 1]], dtype), jnp.array([0.3, 0.5], dtype))
    return families.glm(distribution), params, families.Regression(jnp.asarray(x, dtype), jnp.asarray(y, dtype))


def experts(dtype):
    data = families.Gated(columns(dtype)[::-1], regressions(dtype)["line"])
    return drawn(jaxem.mixture(families.linear_regression(variance="shared"), 2, gate=families.softmax_regression()), data)


@cache
def poisson_with_prior():
    return families.poisson(families.GammaPrior(3.0, 0.5))


@cache
def bernoulli_with_prior():
    return families.bernoulli(families.BetaPrior(2.0, 1.5))


def variances_near_two(params):
    return -3 * (jnp.log(params.components.covariance / 2) ** 2).sum()


def under_any_prior(dtype):
    return drawn(jaxem.with_prior(jaxem.mixture(families.gaussian("diag"), 2), variances_near_two), two_clusters(2, dtype))


def spread_variances(p):
    return p._replace(
        components=families.Gaussian(p.components.mean, p.components.covariance * jnp.ones((2, 1), p.weights.dtype))
    )


def pooled_variances(p):
    return p._replace(components=families.Gaussian(p.components.mean, p.components.covariance.mean(0, keepdims=True)))


@cache
def equal_variances(family):
    mixture = jaxem.mixture(family, 2)
    mean, variance = mixture.constraints.components
    domains = mixture.constraints._replace(components=families.Gaussian(mean, constraints.on_axes(variance, ())))
    return jaxem.reparametrize(mixture, spread_variances, domains, pooled_variances)


def frozen(model, where, data):
    """The model with leaves held at the values of a start, beside data."""

    def build(dtype):
        whole, params, rows = drawn(model(), data(dtype))
        return (whole, None, rows) if params is None else (*jaxem.freeze(whole, params, where), rows)

    return build


def combined():
    """Known labels, priors of weights, rates and probabilities, columns of two kinds."""
    columns = families.product(count=poisson_with_prior(), yes=bernoulli_with_prior())
    return jaxem.mixture(families.labelled(columns), 2, concentration=2.0)


def shy(params):
    return -0.5 * (params.components["count"].rate ** 2).sum() + jnp.log(params.components["yes"].probs).sum()


def combined_data(dtype):
    return families.Labelled({"count": counts(1, dtype)[:, 0], "yes": binary(2, dtype)}, known_labels())


@cache
def with_conjugate_prior(form):
    scale = ((2.0, 0.5), (0.5, 1.0)) if form in ("full", "tied") else 1.5
    return families.gaussian(form, prior=families.NormalInverseWishart((0.5, 1.0), 0.5, 4.0, scale))


def rows_with_labels(rows, labels=known_labels):
    """Data of which some labels are known, as many as there are rows."""

    def build(dtype):
        data = rows(dtype)
        return families.Labelled(data, labels()[: len(jax.tree.leaves(data)[0])])

    return build


def experts_with_labels(dtype):
    return families.Gated(columns(dtype), rows_with_labels(lambda dtype: two_clusters(2, dtype))(dtype))


@cache
def poisson_with_priors_by_column():
    return families.poisson(families.GammaPrior((2.0, 1.0), (0.5, 1.5)))


def many_zeros(dtype):
    return jnp.where(jnp.arange(ROWS) % 4 == 1, 0, counts(1, dtype)[:, 0])


COMBINED = {
    "holes, prior, means held": frozen(
        lambda: jaxem.mixture(with_conjugate_prior("diag"), 2),
        lambda p: p.components.mean,
        lambda dtype: holed(two_clusters(2, dtype)),
    ),
    "labels excluded, tied, prior, weights with a prior": lambda dtype: drawn(
        jaxem.mixture(families.labelled(with_conjugate_prior("tied")), 3, concentration=(2.0, 1.5, 1.0)),
        rows_with_labels(lambda dtype: two_clusters(2, dtype), allowed_labels)(dtype),
    ),
    "regressions, labels, variances held": frozen(
        lambda: jaxem.mixture(families.labelled(families.linear_regression(common=(2,))), 2),
        lambda p: p.components.variance,
        rows_with_labels(lambda dtype: regressions(dtype)["line"]),
    ),
    "experts, labels, prior": lambda dtype: drawn(
        jaxem.mixture(families.labelled(with_conjugate_prior("diag")), 2, gate=families.softmax_regression()),
        experts_with_labels(dtype),
    ),
    "holes, a prior of each column, weights with a prior": lambda dtype: drawn(
        jaxem.mixture(poisson_with_priors_by_column(), 2, concentration=1.5), holed(counts(2, dtype))
    ),
    "labels, repeated measurements with holes, prior": lambda dtype: drawn(
        jaxem.mixture(families.labelled(families.grouped(with_conjugate_prior("diag"))), 2),
        rows_with_labels(measured_with_holes)(dtype),
    ),
    "labels, zero-inflated, prior, shares of zeros held": frozen(
        lambda: jaxem.mixture(families.labelled(families.zero_inflated(poisson_with_prior())), 2),
        lambda p: p.components.zero,
        rows_with_labels(many_zeros),
    ),
    "labels, student-t with holes, scales held": frozen(
        lambda: jaxem.mixture(families.labelled(families.student_t("diag", dof=4)), 2),
        lambda p: p.components.scale,
        rows_with_labels(lambda dtype: holed(two_clusters(2, dtype))),
    ),
    "labels, union, prior": lambda dtype: drawn(
        jaxem.mixture(families.labelled(families.union((with_conjugate_prior("full"), 1), (families.noise(0.02), 1))), 2),
        rows_with_labels(lambda dtype: two_clusters(2, dtype))(dtype),
    ),
    "labels, holes, prior, equal variances": lambda dtype: drawn(
        equal_variances(families.labelled(with_conjugate_prior("diag"))),
        rows_with_labels(lambda dtype: holed(two_clusters(2, dtype)))(dtype),
    ),
}


def walks(dtype, width=3):
    """Sequences of two to six steps, of two waves seen three times over."""
    rng, n, t = np.random.default_rng(16), 16, 6
    waves = np.cumsum(rng.normal(size=(n, t, 2)), 1)
    seen = waves @ np.array([[1.0, 0.5, -0.4], [0.0, 0.8, 1.0]]) + 0.7 * rng.normal(size=(n, t, 3))
    return jaxem.Sequences(jnp.asarray(seen[:, :, :width], dtype), jnp.asarray(2 + np.arange(n) % 5))


def walks_with_holes(dtype):
    values, lengths = walks(dtype)
    return jaxem.Sequences(holed(values), lengths)


def driven_walks(dtype):
    values, lengths = walks(dtype)
    push = jnp.asarray(np.random.default_rng(17).normal(size=(*values.shape[:2], 1)), dtype)
    return jaxem.Sequences(families.Gated(push, holed(values + push)), lengths)


def state_space(data, dtypes=BOTH, **options):
    return Row(lambda dtype: drawn(jaxem.linear_gaussian(2, 3, **options), data(dtype)), dtypes)


def linkage_row(dtype):
    return linkage(), jnp.asarray(0.5, dtype), jnp.asarray(np.repeat(np.arange(4), [38, 6, 6, 10]))


MODELS = {
    "full": gaussian("full", 2, 2),
    "full, one component": gaussian("full", 1, 2, dtypes=DOUBLE),
    "full, six columns": gaussian("full", 2, 6, dtypes=DOUBLE),
    "full, tiny units": gaussian("full", 2, 2, 1e-6),
    "full, large units": gaussian("full", 2, 2, 1e6),
    "tied": gaussian("tied", 2, 2, dtypes=DOUBLE),
    "tied, by products": gaussian("tied", 2, 6),
    "diag": gaussian("diag", 2, 2, dtypes=DOUBLE),
    "diag, by products": gaussian("diag", 3, 6),
    "spherical": gaussian("spherical", 2, 2),
    "spherical, by products": gaussian("spherical", 2, 6, dtypes=DOUBLE),
    "VEI": gaussian("VEI", 2, 3, dtypes=DOUBLE),
    "VEV": gaussian("VEV", 2, 3, dtypes=("float32",)),
    "VVE": gaussian("VVE", 2, 3, dtypes=DOUBLE),
    "full, with holes": mixture_of(families.gaussian, lambda dtype: holed(two_clusters(3, dtype))),
    "tied, with holes": mixture_of(lambda: families.gaussian("tied"), lambda dtype: holed(two_clusters(3, dtype)), DOUBLE),
    "diag, with holes": mixture_of(lambda: families.gaussian("diag"), lambda dtype: holed(two_clusters(6, dtype))),
    "spherical, with holes": mixture_of(
        lambda: families.gaussian("spherical"), lambda dtype: holed(two_clusters(2, dtype)), DOUBLE
    ),
    "student-t, four degrees of freedom": mixture_of(lambda: families.student_t(dof=4), lambda dtype: two_clusters(2, dtype)),
    "student-t, free": mixture_of(lambda: families.student_t("diag"), lambda dtype: two_clusters(2, dtype), DOUBLE),
    "student-t, with holes": mixture_of(lambda: families.student_t(dof=4), lambda dtype: holed(two_clusters(3, dtype)), DOUBLE),
    "diag, sharp clusters far apart": Row(
        lambda dtype: (jaxem.mixture(families.gaussian("diag"), 3), needle_params(dtype), needles(dtype)), DOUBLE
    ),
    "poisson": mixture_of(families.poisson, lambda dtype: counts(1, dtype)[:, 0]),
    "poisson, one rate": Row(
        lambda dtype: drawn(jaxem.mixture(families.poisson(), 2), counts(1, dtype, 3.0, 3.0)[:, 0]), SINGLE
    ),
    "poisson, three columns": mixture_of(families.poisson, lambda dtype: counts(3, dtype), DOUBLE),
    "poisson, a column of zeros": mixture_of(families.poisson, lambda dtype: without(counts(3, dtype), 1, 0), SINGLE),
    "poisson, a million": mixture_of(families.poisson, lambda dtype: counts(1, dtype, 1e6, 2e6)[:, 0], SINGLE),
    "bernoulli": mixture_of(families.bernoulli, lambda dtype: binary(3, dtype)),
    "bernoulli, a column of zeros": mixture_of(families.bernoulli, lambda dtype: without(binary(3, dtype), 1, 0), SINGLE),
    "bernoulli, a column of ones": mixture_of(families.bernoulli, lambda dtype: without(binary(3, dtype), 1, 1), DOUBLE),
    "exponential": mixture_of(families.exponential, lambda dtype: positives(2, dtype), DOUBLE),
    "gamma": mixture_of(families.gamma, lambda dtype: positives(2, dtype), SINGLE),
    "log-normal": mixture_of(families.log_normal, lambda dtype: positives(1, dtype)[:, 0], DOUBLE),
    "weibull": mixture_of(families.weibull, lambda dtype: positives(2, dtype), DOUBLE),
    "beta": mixture_of(families.beta, fractions, DOUBLE),
    "exponential, censored": mixture_of(
        lambda: families.censored(families.exponential()), lambda dtype: partly_known(2, dtype), SINGLE
    ),
    "weibull, censored": mixture_of(
        lambda: families.censored(families.weibull()), lambda dtype: partly_known(1, dtype), DOUBLE
    ),
    "negative binomial": mixture_of(families.negative_binomial, lambda dtype: wide_counts(1, dtype)[:, 0], DOUBLE),
    "binomial": mixture_of(families.binomial, trials, SINGLE),
    "multinomial": mixture_of(families.multinomial, shared_counts, DOUBLE),
    "categorical": mixture_of(partial(families.categorical, (2, 4)), codes, DOUBLE),
    "von Mises-Fisher": mixture_of(families.von_mises_fisher, lambda dtype: directions(3, dtype), DOUBLE),
    "union": mixture_of(cluster_in_noise, lambda dtype: two_clusters(2, dtype), DOUBLE),
    "grouped": mixture_of(lambda: families.grouped(families.gaussian("diag")), measured, DOUBLE),
    "product": mixture_of(mixed_family, mixed, DOUBLE),
    "product, some labels known": labelled(mixed_family, known_labels, 2, SINGLE),
    "poisson, with holes": mixture_of(families.poisson, lambda dtype: holed(counts(3, dtype))),
    "weibull, with holes": mixture_of(families.weibull, lambda dtype: holed(positives(2, dtype)), DOUBLE),
    "negative binomial, with holes": mixture_of(families.negative_binomial, lambda dtype: holed(wide_counts(2, dtype)), DOUBLE),
    "categorical, with holes": mixture_of(partial(families.categorical, (2, 4)), lambda dtype: holed(codes(dtype)), DOUBLE),
    "binomial, with holes": mixture_of(families.binomial, trials_with_holes, DOUBLE),
    "grouped, with holes": mixture_of(lambda: families.grouped(families.gaussian("diag")), measured_with_holes, DOUBLE),
    "bernoulli, with holes": mixture_of(families.bernoulli, lambda dtype: holed(binary(3, dtype)), DOUBLE),
    "product with holes, some labels known": labelled(mixed_family, known_labels, 2, DOUBLE, mixed_with_holes),
    "product, some labels excluded": labelled(mixed_family, allowed_labels, 3, DOUBLE),
    "regressions, some coefficients in common": mixture_of(regression_family, regressions, ("float32",)),
    "experts": Row(experts, DOUBLE),
    "zero-inflated regression": mixture_of(
        lambda: families.zero_inflated(families.glm("poisson")), lambda dtype: regressions(dtype)["count"], ("float32",)
    ),
    "mixture with a gate": Row(gated, DOUBLE),
    "mixture of exponentials": mixture_of(exponential, lifetimes, SINGLE),
    "chain of poisson": chain_of(families.poisson, lambda dtype: counts(1, dtype)[:, 0]),
    "chain of full": chain_of(families.gaussian, lambda dtype: two_clusters(2, dtype), DOUBLE),
    "chain of student-t with holes": chain_of(
        lambda: families.student_t(dof=4), lambda dtype: holed(two_clusters(2, dtype)), DOUBLE
    ),
    "chain of categorical, priors": chain_of(
        lambda: families.categorical((2, 4), prior=families.DirichletPrior(1.5)),
        codes,
        DOUBLE,
        initial_concentration=2.0,
        transition_concentration=((3.0, 1.5), (1.5, 3.0)),
    ),
    "chain of a product with holes, some labels known": chain_of(
        lambda: families.labelled(mixed_family()), rows_with_labels(mixed_with_holes), DOUBLE
    ),
    "chain of regressions": chain_of(families.linear_regression, lambda dtype: regressions(dtype)["line"], SINGLE),
    "chain of gamma": chain_of(families.gamma, lambda dtype: positives(2, dtype), DOUBLE),
    "chain with a gate": Row(gated_chain, DOUBLE),
    "single gaussian": single_of(families.gaussian, lambda dtype: two_clusters(2, dtype), DOUBLE),
    "single poisson": single_of(families.poisson, lambda dtype: counts(3, dtype), DOUBLE),
    "chunked": Row(chunked, DOUBLE),
    "gradient M-step": Row(climbing, DOUBLE),
    "from_log_joint": Row(own_model, SINGLE),
    "from_log_joint, constrained": Row(own_model_on_the_simplex, DOUBLE),
    "linkage": Row(linkage_row, DOUBLE),
    "any prior": Row(under_any_prior, DOUBLE),
    "equal variances": Row(
        lambda dtype: drawn(equal_variances(families.gaussian("diag")), two_clusters(2, dtype)),
        DOUBLE,
    ),
    "a mean held": Row(
        frozen(lambda: jaxem.mixture(families.gaussian(), 2), lambda p: p.components.mean, lambda dtype: two_clusters(2, dtype))
    ),
    "a covariance held": Row(
        frozen(
            lambda: jaxem.mixture(families.gaussian("tied"), 2),
            lambda p: p.components.covariance,
            lambda dtype: two_clusters(2, dtype),
        ),
        DOUBLE,
    ),
    "labels, product, priors": Row(lambda dtype: drawn(combined(), combined_data(dtype))),
    "labels, product, priors, rates held": Row(frozen(combined, lambda p: p.components["count"], combined_data), DOUBLE),
    "labels, product, priors, any prior, weights held, in blocks": Row(
        frozen(lambda: jaxem.chunked(jaxem.with_prior(combined(), shy), 16), lambda p: p.weights, combined_data), DOUBLE
    ),
    **{name: Row(build, DOUBLE) for name, build in COMBINED.items()},
    "state space": state_space(walks),
    "state space, with holes": state_space(walks_with_holes, DOUBLE),
    "state space, diag, inputs, with holes": state_space(driven_walks, observation_covariance="diag", inputs=1),
    "state space, held": Row(
        frozen(
            lambda: jaxem.linear_gaussian(2, 3, inputs=1),
            lambda p: (p.initial_mean, p.transition, p.emission_covariance, p.emission_input),
            driven_walks,
        ),
        DOUBLE,
    ),
    "normal with a prior": Row(lambda dtype: (normal_with_prior(), jnp.asarray(0.5, dtype), two_clusters(1, dtype)[:, 0])),
}


def eigen(form, dim, dtype):
    """Return params of two components by a name such as VEI: what varies does so by a factor, or a turn."""
    volume = np.array([1.0, 2.5]) if form[0] == "V" else np.array(1.5)
    axes = np.exp(np.linspace(-0.5, 0.5, dim))
    axes = np.stack([axes, axes[::-1] ** 2]) if form[1] == "V" else axes
    turns = [np.linalg.qr(np.eye(dim) + t * np.tri(dim))[0] for t in (0.3, -0.5)]
    orientation = np.stack(turns) if form[2] == "V" else turns[0]
    parts = volume, None if form == "EII" else axes, None if form[2] == "I" else orientation
    mean = np.stack([np.zeros(dim), np.full(dim, 2.5)])
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), families.Gaussian(mean, families.Eigen(*parts)))


VARIANTS = {  # of another row, in what is tested elsewhere as well: these are thorough
    *("full, one component", "full, six columns", "full, tiny units", "full, large units", "tied, by products"),
    *("spherical, by products", "VVE", "tied, with holes", "spherical, with holes", "student-t, with holes"),
    *("poisson, one rate", "poisson, a million", "poisson, a column of zeros", "poisson, three columns"),
    *("bernoulli, a column of ones", "bernoulli, a column of zeros", "weibull, with holes", "negative binomial, with holes"),
    *("binomial, with holes", "bernoulli, with holes", "grouped, with holes", "product, some labels known"),
    *("product, some labels excluded", "mixture of exponentials", "from_log_joint, constrained", "single poisson"),
    *("chain of categorical, priors", "chain of regressions", "chain of gamma", "state space", "state space, held"),
    *("a covariance held", "labels, product, priors", "labels, product, priors, rates held"),
    *("labels excluded, tied, prior, weights with a prior", "regressions, labels, variances held"),
    *("holes, a prior of each column, weights with a prior", "labels, repeated measurements with holes, prior"),
    *("labels, zero-inflated, prior, shares of zeros held", "labels, student-t with holes, scales held"),
    *("labels, holes, prior, equal variances", "state space, diag, inputs, with holes", "VEV", "chain of student-t with holes"),
    *("diag, by products", "categorical, with holes", "poisson, with holes", "weibull, censored", "product", "grouped"),
    *("EEI", "EVI, with holes", "VEV, with holes", "tied, a prior", "VEI, a prior", "EVV, a prior", "student-t, tied scale"),
    *("student-t, one dof", "poisson, a prior", "EEV", "EVE", "VEE", "student-t, free, with holes"),
    *(
        "regressions, some coefficients in common",
        "chain of a product with holes, some labels known",
        "beta",
        "student-t, free",
    ),
    *(
        "diag, with holes",
        "chunked",
        "experts",
        "multinomial",
        "negative binomial regression",
        "any prior",
        "weibull",
        "binomial",
    ),
}


def eigen_family(form, dim=3, dtypes=DOUBLE):
    return FamilyRow(lambda dtype: (families.gaussian(form), eigen(form, dim, dtype), two_clusters(dim, dtype)), dtypes)


def gaussian_family(covariance, dim):
    shapes = {"full": np.stack([np.eye(dim)] * 2), "tied": np.eye(dim), "diag": np.ones((2, dim))}

    def build(dtype):
        mean = np.stack([np.zeros(dim), np.full(dim, 2.5)])
        params = families.Gaussian(mean, 2 * shapes.get(covariance, np.ones(2)))
        return (
            families.gaussian(covariance),
            jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params),
            two_clusters(dim, dtype),
        )

    return FamilyRow(build, BOTH if covariance == "full" else DOUBLE)


def with_prior_by_default(row, form):
    """The row under the default prior, of which more is made."""

    def build(dtype):
        _, params, data = row.build(dtype)
        prior = families.default_prior(form, data, 2)._replace(shrinkage=2.0)
        return families.gaussian(form, prior=prior), params, data

    return FamilyRow(build)


def student_t_family(form, dof, rows=lambda data: data):
    def build(dtype):
        scale = {"tied": jnp.array([[1.5, 0.3], [0.3, 1.0]], dtype), "spherical": jnp.array([1.0, 2.0], dtype)}[form]
        location = jnp.array([[0.0, 0.0], [2.5, 2.5]], dtype)
        nu = jnp.asarray(6, dtype) if dof == "tied" else None
        return families.student_t(form, dof), families.StudentT(location, scale, nu), rows(two_clusters(2, dtype))

    return FamilyRow(build)


def family_params(dtype):
    """Params of the product of all three."""
    return {
        "size": families.Gaussian(jnp.array([[0.0, 0.0], [2.0, 3.0]], dtype), jnp.array([[1.0, 2.0], [3.0, 2.0]], dtype)),
        "count": families.Poisson(jnp.array([2.0, 6.0], dtype)),
        "yes": families.Bernoulli(jnp.array([[0.2, 0.3], [0.6, 0.8]], dtype)),
    }


FAMILIES = {
    "full": gaussian_family("full", 2),
    "tied": gaussian_family("tied", 6),
    "diag": gaussian_family("diag", 6),
    "spherical": gaussian_family("spherical", 2),
    **{form: eigen_family(form) for form in ("EII", "EEI", "VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")},
    "VEV, with holes": FamilyRow(
        lambda dtype: (families.gaussian("VEV"), eigen("VEV", 3, dtype), holed(two_clusters(3, dtype))), DOUBLE
    ),
    "EVI, with holes": FamilyRow(
        lambda dtype: (families.gaussian("EVI"), eigen("EVI", 3, dtype), holed(two_clusters(3, dtype))), DOUBLE
    ),
    "tied, a prior": with_prior_by_default(gaussian_family("tied", 3), "tied"),
    "VEI, a prior": with_prior_by_default(eigen_family("VEI"), "VEI"),
    "EVV, a prior": with_prior_by_default(eigen_family("EVV"), "EVV"),
    "student-t, free, with holes": student_t_family("spherical", "tied", holed),
    "student-t, tied scale": student_t_family("tied", 3.0),
    "student-t, one dof": student_t_family("spherical", "tied"),
    "poisson": FamilyRow(
        lambda dtype: (families.poisson(), families.Poisson(jnp.array([[2, 3], [7, 4]], dtype)), counts(2, dtype)), BOTH
    ),
    "bernoulli": FamilyRow(
        lambda dtype: (families.bernoulli(), families.Bernoulli(jnp.array([[0.2, 0.3], [0.6, 0.8]], dtype)), binary(2, dtype))
    ),
    "product": FamilyRow(lambda dtype: (mixed_family(), family_params(dtype), mixed(dtype))),
    "poisson, a prior": FamilyRow(
        lambda dtype: (
            families.poisson(families.GammaPrior((2.0, 1.0), 0.5)),
            families.Poisson(jnp.array([[2, 3], [7, 4]], dtype)),
            counts(2, dtype),
        )
    ),
    "bernoulli, a prior": FamilyRow(
        lambda dtype: (bernoulli_with_prior(), families.Bernoulli(jnp.array([[0.2, 0.3], [0.6, 0.8]], dtype)), binary(2, dtype))
    ),
    "gate": FamilyRow(
        lambda dtype: (group_gate(3), jnp.array([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]], dtype), jnp.asarray(np.arange(ROWS) % 3)),
        DOUBLE,
    ),
    "gamma regression": FamilyRow(lambda dtype: one_regression("gamma", dtype), ("float32",)),
    "negative binomial regression": FamilyRow(lambda dtype: one_regression("negative binomial", dtype)),
    "log-normal, censored": FamilyRow(
        lambda dtype: (
            families.censored(families.log_normal()),
            families.LogNormal(jnp.array([[0.0], [2.0]], dtype), jnp.array([[0.5], [1.0]], dtype)),
            partly_known(1, dtype),
        )
    ),
    "exponential": FamilyRow(lambda dtype: (exponential(), Exponential(jnp.array([1.0, 0.1], dtype)), lifetimes(dtype))),
}
