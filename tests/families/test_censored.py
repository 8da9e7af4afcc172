"""Censored values: SciPy's densities, quadrature of them, its own fits to censored data, and tails far out."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

import jaxem
from jaxem import Status, families, tails
from jaxem.families import Censored

# Weeks of remission under 6-mercaptopurine (Freireich et al. 1963; Gehan 1965), and whether they went on beyond (1).
WEEKS = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35.0])
BEYOND = np.array([0, 0, 0, 1, 0, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1])


class Case(NamedTuple):
    """A family, params of two components, and SciPy's distribution from the fields of one."""

    family: jaxem.Family
    params: Any
    distribution: Any
    parts: Any  # of what SciPy's own fit returns, (shape, loc, scale), the fields


CASES = {
    "exponential": Case(
        families.exponential(),
        families.Exponential([0.2, 3.0]),
        lambda rate: scipy.stats.expon(scale=1 / rate),
        lambda theta: (1 / theta[-1],),
    ),
    "weibull": Case(
        families.weibull(),
        families.Weibull([0.7, 3.0], [2.0, 5.0]),
        lambda shape, scale: scipy.stats.weibull_min(shape, scale=scale),
        lambda theta: (theta[0], theta[-1]),
    ),
    "log-normal": Case(
        families.log_normal(),
        families.LogNormal([-1.0, 1.0], [0.5, 1.5]),
        lambda location, scale: scipy.stats.lognorm(scale, scale=np.exp(location)),
        lambda theta: (np.log(theta[-1]), theta[0]),
    ),
    "gaussian": Case(
        families.gaussian(),
        families.Gaussian([[1.0], [4.0]], [[[0.25]], [[9.0]]]),
        lambda mean, variance: scipy.stats.norm(np.squeeze(mean), np.sqrt(np.squeeze(variance))),
        lambda theta: (theta[0], theta[1] ** 2),
    ),
}
OF_SCIPY = {"exponential": "expon", "weibull": "weibull_min", "log-normal": "lognorm", "gaussian": "norm"}
EACH = pytest.mark.parametrize("name", CASES)


def params_of(case, dtype="float64"):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), case.params, is_leaf=lambda node: isinstance(node, list))


def partly_known(num=50):
    """Exact values, ends, and intervals narrow, wide, without a lower end, and without an upper one."""
    rng = np.random.default_rng(0)
    value, status = rng.gamma(2, 2, num), np.arange(num) % 4 - 1
    upper = value * np.exp(rng.uniform(-8, 2, num)) + value
    value[3::12], upper[7::12] = -np.inf, np.inf
    return Censored(value, status, upper)


def log_mass(distribution, value, status, upper):
    """Return the log-density, or by quadrature of the density the log-mass."""
    if status == 0:
        return distribution.logpdf(value)
    if status != 2:
        return distribution.logsf(value) if status == 1 else distribution.logcdf(value)
    if upper == np.inf:
        return distribution.logsf(value)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    low = max(value, distribution.ppf(1e-300), upper - 50 * distribution.std())
    x = low + (upper - low) * (nodes + 1) / 2
    return np.log((upper - low) / 2 * weights @ distribution.pdf(x)) if low == value else distribution.logcdf(upper)


def evaluated(family, params, data):
    return np.asarray(jax.jit(lambda params, x: family.evaluate(params, x)[0])(params, family.prepare(data, None)))


@EACH
def test_what_is_said_of_each_value_is_its_density_or_the_mass_of_its_interval(name):
    case, data = CASES[name], partly_known()
    each = [case.distribution(*theta) for theta in zip(*case.params, strict=True)]
    expected = np.array([[log_mass(distribution, *row) for distribution in each] for row in zip(*data, strict=True)])
    family = families.censored(case.family)
    np.testing.assert_allclose(evaluated(family, params_of(case), data), expected, rtol=1e-10, atol=1e-12)
    single = Censored(*(np.asarray(leaf, "float32") for leaf in data))
    received = evaluated(family, params_of(case, "float32"), single)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, rtol=2e-5, atol=2e-5)


@EACH
def test_values_that_are_all_exact_are_those_of_the_family_itself(name):
    case, x = CASES[name], np.random.default_rng(1).gamma(2, 2, 30)
    r = jnp.asarray(np.random.default_rng(2).dirichlet(np.ones(2), 30))

    def said(family, data):
        def step(params, rows):
            log_prob, statistics = family.evaluate(params, rows)
            return log_prob, family.m_step(params, statistics(r))

        return jax.jit(step)(params_of(case), family.prepare(data, None))

    received, expected = said(families.censored(case.family), Censored(x, np.zeros(30, int))), said(case.family, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), received, expected)


def total(case, params, data):
    distribution = case.distribution(*params)
    return sum(log_mass(distribution, *row) for row in zip(*data, strict=True))


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", ["weibull", "gaussian"])
def test_a_fit_ends_where_the_fit_of_scipy_does_and_leaves_nothing_to_gain(name):
    case, data = CASES[name], partly_known(len(WEEKS))  # as many as elsewhere: these fits share their programs
    data.value[(data.status == 2) & (data.value < 0)] = 0.1  # SciPy's fit of positive numbers takes no -inf
    model = jaxem.single(families.censored(case.family))
    fit = jaxem.fit(model, model.init(0, data), data, solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    theta = [np.asarray(leaf).ravel() for leaf in fit.params]
    np.testing.assert_allclose(fit.log_likelihood, total(case, np.concatenate(theta), data), rtol=1e-9)
    exact, right, left, interval = (data.status == status for status in (0, 1, -1, 2))
    known = scipy.stats.CensoredData(
        data.value[exact],
        right=data.value[right],
        left=data.value[left],
        interval=np.stack([data.value[interval], data.upper[interval]], 1),
    )
    fixed = {} if name == "gaussian" else {"floc": 0}
    theirs = case.parts(getattr(scipy.stats, OF_SCIPY[name]).fit(known, **fixed))
    np.testing.assert_allclose(np.concatenate(theta), theirs, rtol=2e-3)
    assert fit.log_likelihood >= total(case, theirs, data) - 1e-9


def test_remissions_have_the_published_rate_and_weibull_parameters():
    """Failures over weeks, 9 / 359; and of log-lifetimes the location 3.519 and the scale 0.739 (Lawless 2003, §5.2)."""
    data = Censored(WEEKS, BEYOND)
    model = jaxem.single(families.censored(families.exponential()))
    fit = jaxem.fit(model, model.init(0, data), data)
    np.testing.assert_allclose(fit.params.rate, 9 / 359, rtol=1e-14)
    np.testing.assert_allclose(fit.log_likelihood, 9 * np.log(9 / 359) - 9, rtol=1e-13)
    model = jaxem.single(families.censored(families.weibull()))
    data = data._replace(upper=WEEKS)
    fit = jaxem.fit(model, model.init(0, data), data, solver=jaxem.squarem())
    np.testing.assert_allclose(np.log(fit.params.scale), 3.519, atol=5e-4)
    np.testing.assert_allclose(1 / fit.params.shape, 0.739, atol=5e-4)


@pytest.mark.thorough
def test_two_components_are_recovered_from_a_study_that_ended_early_and_looked_now_and_then():
    rng, true = np.random.default_rng(3), families.LogNormal(np.array([0.0, 2.0]), np.array([0.3, 0.5]))
    labels = rng.integers(2, size=4000)
    x = np.exp(true.location[labels] + true.scale[labels] * rng.normal(size=4000))
    seen = np.ceil(4 * x) / 4
    status = np.where(x > 9, 1, np.where(np.arange(4000) % 2, 2, 0))
    data = Censored(np.where(x > 9, 9, np.where(status == 2, seen - 0.25, x)), status, seen)
    model = jaxem.mixture(families.censored(families.log_normal()), 2)
    start = jaxem.Mixture(np.array([0.3, 0.7]), families.LogNormal(np.array([0.5, 1.0]), np.array([1.0, 1.0])))
    fit = jaxem.fit(model, start, data, solver=jaxem.squarem())
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params.components.location, true.location, atol=0.06)
    np.testing.assert_allclose(fit.params.components.scale, true.scale, rtol=0.1)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-13), ("float32", 4e-6)])
def test_tails_and_intervals_far_out_keep_their_digits(dtype, rtol):
    a = np.asarray(np.linspace(-40, 40, 161), dtype).astype(float)
    received = [np.asarray(each, float) for each in tails.above(jnp.asarray(a, dtype))]
    log_tail = scipy.special.log_ndtr(-a)
    np.testing.assert_allclose(received[0], log_tail, rtol=rtol, atol=1e-16 if dtype == "float64" else 1e-7)
    mean = np.sqrt(2 / np.pi) / scipy.special.erfcx(np.maximum(a, -5) / np.sqrt(2))
    np.testing.assert_allclose(received[1][a >= -5], mean[a >= -5], rtol=rtol)
    width = np.asarray(np.geomspace(1e-6, 20, 40), dtype).astype(float)
    nodes, weights = np.polynomial.legendre.leggauss(400)
    low, width = a[:, None] * np.ones(40), width * np.ones((161, 1))
    z = low[..., None] + width[..., None] * (nodes + 1) / 2
    log_share = np.log(weights / 2) - 0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    peak = log_share.max(-1, keepdims=True)
    share = np.exp(log_share - peak)
    expected = [
        np.log(width) + peak[..., 0] + np.log(share.sum(-1)),
        (share * z).sum(-1) / share.sum(-1),
        (share * z**2).sum(-1) / share.sum(-1),
    ]
    received = jax.jit(tails.between)(jnp.asarray(low, dtype), jnp.asarray(width, dtype))
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=10 * rtol, atol=10 * rtol)


@pytest.mark.parametrize("name", ["exponential", "weibull"])
def test_lifetimes_that_all_go_on_end_finite_and_held(name):
    solver, upper = (jaxem.squarem(), WEEKS) if name == "weibull" else (jaxem.em(), None)
    data = Censored(WEEKS, np.ones(21, int), upper)
    model = jaxem.single(families.censored(CASES[name].family))
    fit = jaxem.fit(model, model.init(0, data), data, solver=solver)
    assert fit.status == Status.DEGENERATE
    assert -1e-7 < fit.log_likelihood <= 0 and all(np.isfinite(leaf).all() for leaf in fit.params)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (Censored(WEEKS, np.full(21, -1), WEEKS), Status.DEGENERATE),
        (Censored(np.ones(21), np.full(21, 2), np.full(21, 2.0)), Status.CONVERGED),
        (Censored(np.zeros(21), np.full(21, 1), WEEKS), Status.CONVERGED),
        (Censored(np.full(21, 3.0), BEYOND, WEEKS), Status.DEGENERATE),
        (Censored(np.where(WEEKS > 6, 1e-300, 3.0), np.where(WEEKS > 6, -1, 0), WEEKS), Status.DEGENERATE),
    ],
    ids=["all below", "all in one interval", "nothing known", "all equal", "most below the least"],
)
def test_lifetimes_that_tell_little_end_finite(data, status):
    model = jaxem.single(families.censored(families.weibull()))
    fit = jaxem.fit(model, model.init(0, data), data, solver=jaxem.squarem())
    assert fit.status == status
    assert np.isfinite(fit.log_likelihood) and all(np.isfinite(leaf).all() for leaf in fit.params)


def test_normal_values_that_are_all_above_others_or_unknown_rise_to_nothing_left_to_gain():
    value, status = np.where(WEEKS > 30, -np.inf, WEEKS), np.where(WEEKS > 30, 2, 1)
    model = jaxem.single(families.censored(families.gaussian()))
    data = Censored(value, status, np.full(21, np.inf))
    fit = jaxem.fit(model, model.init(0, data), data, solver=jaxem.squarem())
    assert -1e-3 < fit.log_likelihood <= 0 and all(np.isfinite(leaf).all() for leaf in fit.params)
    assert fit.status in (Status.CONVERGED, Status.MAX_STEPS)


def test_samples_are_exact_and_like_the_data():
    model = jaxem.single(families.censored(families.exponential()))
    for like in (Censored(WEEKS, BEYOND), Censored(WEEKS, BEYOND, WEEKS)):
        drawn, _ = model.sample(0, families.Exponential(jnp.array([0.1])), like)
        np.testing.assert_array_equal(drawn.status, 0)
        assert drawn.value.shape == WEEKS.shape and (drawn.upper is None) == (like.upper is None)


def test_censored_values_may_be_grouped_and_labelled():
    family = families.labelled(families.grouped(families.censored(families.weibull())))
    params = params_of(CASES["weibull"])
    inner = Censored(np.stack([WEEKS, WEEKS[::-1]], 1), np.stack([BEYOND, BEYOND[::-1]], 1))
    count, labels = np.arange(21) % 3, np.arange(21) % 3 - 1
    received = evaluated(family, params, families.Labelled(families.Grouped(inner, count), labels))
    each = [CASES["weibull"].distribution(*theta) for theta in zip(*CASES["weibull"].params, strict=True)]
    for n in range(21):
        for k in range(2):
            rows = zip(inner.value[n, : count[n]], inner.status[n, : count[n]], strict=True)
            expected = sum(log_mass(each[k], *row, None) for row in rows) if labels[n] in (-1, k) else -np.inf
            np.testing.assert_allclose(received[n, k], expected, rtol=1e-12)


BAD = {
    "no record": (WEEKS, r"data must be families\.Censored"),
    "status": (Censored(WEEKS, BEYOND + 2), r"data\.status has values \[2, 3\], needs 0 exact, 1 right"),
    "events": (Censored(WEEKS, BEYOND == 0), r"data\.status has dtype bool"),
    "no upper": (Censored(WEEKS, 2 * BEYOND), r"data\.upper is None"),
    "shape": (Censored(WEEKS, BEYOND[:3]), r"data\.status has shape \(3,\), needs \(21,\)"),
    "value": (Censored(-WEEKS, BEYOND), r"data\.value is -6 in row 0 \(21 such\), needs finite numbers > 0"),
    "NaN": (Censored(np.where(WEEKS > 30, np.nan, WEEKS), BEYOND), r"data\.value is nan in row 17"),
    "empty interval": (Censored(WEEKS, 2 * BEYOND, WEEKS), r"data\.upper is 6 in row 3.*exact value has status 0"),
}


@pytest.mark.parametrize(("data", "message"), BAD.values(), ids=BAD)
def test_what_is_no_such_data_is_refused_by_the_name_of_its_field(data, message):
    with pytest.raises(ValueError, match=message):
        families.censored(families.weibull()).prepare(data, None)


def test_under_a_trace_what_is_no_such_value_is_no_number():
    family = families.censored(families.weibull())
    value = jnp.array([1.0, -2.0, 3.0, 4.0, 5.0])
    status, upper = jnp.array([0, 0, 2, 2, 9]), jnp.array([0.0, 0.0, 4.0, 3.0, 0.0])
    rows = jax.jit(lambda *fields: family.prepare(Censored(*fields), None))(value, status, upper)
    np.testing.assert_array_equal(np.isnan(rows.low), [False, True, False, True, True])


def test_other_families_are_refused():
    for family in (families.gamma(), families.grouped(families.weibull()), families.product(a=families.weibull())):
        with pytest.raises(ValueError, match=r"must be one of exponential\(\), gaussian\(\), log_normal\(\), weibull\(\)"):
            families.censored(family)
    with pytest.raises(ValueError, match=r"data\.value has shape \(3, 2\), needs \(n,\)"):
        families.censored(families.gaussian()).prepare(Censored(np.zeros((3, 2)), np.zeros((3, 2), int)), None)
