"""Every bad argument is a ValueError that names it and says what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import families

MODEL = jaxem.mixture(families.gaussian(), 2)
X = np.random.default_rng(0).normal(size=(20, 2))
PARAMS = jaxem.Mixture(np.array([0.5, 0.5]), families.Gaussian(np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([np.eye(2)] * 2)))


def spoiled(value):
    x = X.copy()
    x[3, 1] = value
    return x


BAD_DATA = {
    "NaN": (spoiled(np.nan), r"data has NaN or infinite values \(columns \[1\]\)"),
    "infinite": (spoiled(np.inf), "data has NaN or infinite values"),
    "rank three": (X[None], r"data has shape \(1, 20, 2\), needs \(n,\) or \(n, d\): one row per observation"),
    "scalar": (1.0, "one row per observation"),
    "no rows": (X[:0], "data has no rows"),
    "no columns": (X[:, :0], r"data has shape \(20, 0\)"),
    "too few rows": (X[:1], "data .*equal|data has 1 rows of positive weight, needs at least one for each of the 2 components"),
    "text": (X.astype(str), "data has dtype .*needs numbers"),
    "complex": (X.astype(complex), "data has dtype complex128, needs numbers"),
    "constant column": (np.stack([X[:, 0], np.ones(20)], 1), r"data columns \[1\] are constant: drop them"),
    "equal rows": (np.ones((20, 2)), "rows .* are all equal"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data_are_refused(case):
    data, message = BAD_DATA[case]
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, PARAMS, data)
    with pytest.raises(ValueError, match=message):
        jaxem.fit_restarts(MODEL, jax.random.key(0), data, num_restarts=2)


def test_fewer_rows_than_components_are_refused():
    with pytest.raises(
        ValueError,
        match="data has 3 rows of positive weight, needs at least one for each of the 5 components: lower num_components",
    ):
        jaxem.fit_restarts(jaxem.mixture(families.gaussian(), 5), jax.random.key(0), X[:3])


BAD_WEIGHTS = {
    "negative": (-np.ones(20), "weights has NaN, infinite or negative values"),
    "NaN": (np.full(20, np.nan), "weights has NaN, infinite or negative values"),
    "infinite": (np.full(20, np.inf), "weights has NaN, infinite or negative values"),
    "all zero": (np.zeros(20), "weights are all zero"),
    "too short": (np.ones(19), r"weights has shape \(19,\), needs \(20,\)"),
    "rank two": (np.ones((20, 1)), r"weights has shape \(20, 1\), needs \(20,\)"),
    "text": (["a"] * 20, "weights has dtype"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_are_refused(case):
    weights, message = BAD_WEIGHTS[case]
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, PARAMS, X, weights)


def test_a_column_that_is_constant_where_weights_are_positive_is_refused():
    x = X.copy()
    x[5:, 1] = 0
    with pytest.raises(ValueError, match=r"columns \[1\] are constant"):
        jaxem.fit(MODEL, PARAMS, x, np.arange(20) >= 5)


def components(**changes):
    return PARAMS._replace(components=PARAMS.components._replace(**changes))


BAD_PARAMS = {
    "three components for two": (
        jaxem.Mixture(np.ones(3) / 3, families.Gaussian(np.zeros((3, 2)), np.array([np.eye(2)] * 3))),
        r"params\.weights has shape \(3,\), needs \(2,\)",
    ),
    "covariance of another form": (components(covariance=np.ones((2, 2))), r"params\.components\.covariance has shape"),
    "mean of another dimension": (
        components(mean=np.zeros((2, 3))),
        r"params\.components\.mean has shape \(2, 3\), needs \(2, 2\)",
    ),
    "another record": ((np.ones(2) / 2, np.zeros((2, 2))), "params has structure .*model.init"),
    "weights that do not sum to one": (PARAMS._replace(weights=np.array([0.5, 0.6])), r"params\.weights must be .*simplex"),
    "negative weights": (PARAMS._replace(weights=np.array([-0.5, 1.5])), r"params\.weights must be .*simplex"),
    "NaN mean": (components(mean=np.full((2, 2), np.nan)), r"params\.components\.mean must be finite and real"),
    "indefinite covariance": (
        components(covariance=np.array([np.diag([1.0, -1.0])] * 2)),
        r"params\.components\.covariance must be finite and positive definite",
    ),
    "asymmetric covariance": (
        components(covariance=np.array([[[1.0, 0.5], [0.0, 1.0]]] * 2)),
        r"params\.components\.covariance must be finite and positive definite",
    ),
}


@pytest.mark.parametrize("case", BAD_PARAMS)
def test_bad_params_are_refused_by_their_path(case):
    params, message = BAD_PARAMS[case]
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, params, X)


def test_a_covariance_asymmetric_by_the_rounding_of_float32_is_a_start_in_float64_too():
    rounded = np.array([[1.0, 0.5], [0.5 + 1e-7, 1.0]])
    fit = jaxem.fit(MODEL, components(covariance=np.stack([rounded] * 2)), X, max_steps=1)
    expected = jaxem.fit(MODEL, components(covariance=np.stack([(rounded + rounded.T) / 2] * 2)), X, max_steps=1)
    np.testing.assert_allclose(fit.history, expected.history, rtol=1e-14)


@pytest.mark.thorough
def test_a_tied_fit_in_float32_is_a_start_in_float64():
    model, x = jaxem.mixture(families.gaussian("tied"), 3), jaxem.datasets.iris()
    single = jaxem.fit(model, model.init(0, x.astype("float32")), x.astype("float32"))
    again = jaxem.fit(model, single.params, x)
    assert again.status == jaxem.Status.CONVERGED
    np.testing.assert_allclose(again.history[0], single.log_likelihood, rtol=1e-5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: families.gaussian("round"), "form must be one of 'full', 'tied', 'diag', 'spherical', 'EII', .*, got 'round'"),
        (lambda: families.gaussian(variance_floor=-1.0), r"variance_floor is a share .* got -1\.0"),
        (lambda: families.gaussian(variance_floor="a"), "variance_floor is a share .* got 'a'"),
        (lambda: families.gaussian(["full"]), r"form must be one of .* got \['full'\]"),
        (lambda: families.full_covariances("round", PARAMS.components), "form must be one of .* got 'round'"),
        (lambda: jaxem.mixture(families.gaussian, 2), r"family must be a Family, such as families\.gaussian\(\)"),
        (lambda: jaxem.mixture(families.gaussian(), 0), "num_components must be at least 1, got 0"),
        (lambda: jaxem.chunked(MODEL, 0), "block_size must be at least 1, got 0"),
        (lambda: jaxem.from_log_joint(lambda p, x, z: 0.0, num_states=0), "num_states must be at least 1, got 0"),
        (lambda: jaxem.gradient_m_step(MODEL, num_steps=0), "num_steps must be at least 1, got 0"),
        (lambda: jaxem.gradient_m_step(MODEL._replace(expected_log_joint=None)), r"model\.expected_log_joint"),
        (lambda: jaxem.constraints.interval(1, 1), r"needs low < high, two numbers, got \(1, 1\)"),
    ],
)
def test_bad_constructor_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("family", "data", "message"),
    [
        (families.poisson(), [1, 2, -1, 3], "data needs counts, whole numbers ≥ 0; got values from -1 to 3"),
        (families.poisson(), [1.5, 2, 1, 3], "data needs counts, whole numbers ≥ 0"),
        (families.poisson()._replace(prepare=None), [1.0, 2.0, np.nan, 3.0], "data has NaN"),
        (families.poisson()._replace(prepare=None), ["a", "b", "c"], "data has dtype .*, needs numbers"),
        (families.bernoulli(), [0, 1, 2, 1], "data needs zeros and ones; got values from 0 to 2"),
        (families.bernoulli(), np.zeros((2, 2, 2)), r"needs \(n,\) or \(n, d\)"),
    ],
)
def test_values_outside_the_support_are_refused(family, data, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit_restarts(jaxem.mixture(family, 2), jax.random.key(0), data, num_restarts=2)


def test_integers_become_floats_where_that_loses_nothing():
    counts = np.array([[1, 5], [2, 3], [7, 1], [4, 4], [9, 2]])
    received = jaxem.fit(MODEL, PARAMS, counts, max_steps=3)
    expected = jaxem.fit(MODEL, PARAMS, counts.astype(float), max_steps=3)
    np.testing.assert_array_equal(received.history, expected.history)


def test_half_precision_data_are_fitted_in_the_default_precision():
    fit = jaxem.fit(MODEL, PARAMS, X.astype("float16"), max_steps=3)
    expected = jaxem.fit(MODEL, PARAMS, X.astype("float16").astype(float), max_steps=3)
    np.testing.assert_array_equal(fit.history, expected.history)


def test_integers_that_would_be_rounded_are_refused():
    with pytest.raises(ValueError, match="data has integers that float64 cannot hold exactly"):
        jaxem.fit(MODEL, PARAMS, np.array([[2**60 + 1, 1], [2, 5], [3, 4]]))


def test_lists_pandas_like_objects_and_booleans_are_taken():
    class Frame:
        def __array__(self, dtype=None, copy=None):
            return X

    expected = jaxem.fit(MODEL, PARAMS, X, max_steps=3).log_likelihood
    for data in (X.tolist(), Frame()):
        np.testing.assert_array_equal(jaxem.fit(MODEL, PARAMS, data, max_steps=3).log_likelihood, expected)
    flags = jaxem.mixture(families.bernoulli(), 1)
    fit = jaxem.fit(flags, jaxem.Mixture([1.0], families.Bernoulli([0.5])), np.array([True, False, True, True]))
    np.testing.assert_allclose(fit.params.components.probs, [0.75])


def test_own_models_refuse_data_of_unequal_lengths():
    model = jaxem.from_log_joint(lambda params, x, z: -((x["a"] - params) ** 2), num_states=1)
    with pytest.raises(ValueError, match=r"data has arrays of \[2, 3\] rows"):
        jaxem.fit(model, 0.0, {"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(ValueError, match="data has NaN"):
        jaxem.fit(model, 0.0, {"a": np.array([1, np.nan]), "b": np.ones(2)})


BAD_KEYS = {
    "nothing": (None, "None"),
    "a fraction": (0.5, "0.5"),
    "a flag": (True, "True"),
    "three words": (np.zeros(3, "uint32"), r"an array of dtype uint32 and shape \(3,\)"),
    "two keys": (jax.random.split(jax.random.key(0)), r"an array of dtype key<fry> and shape \(2,\)"),
}


@pytest.mark.parametrize(("key", "got"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_what_is_no_random_key_is_refused(key, got):
    with pytest.raises(
        ValueError, match=f"key must be one random key, such as jax.random.key\\(0\\), or an int seed, got {got}"
    ):
        jaxem.fit_restarts(MODEL, key, X)


@pytest.mark.thorough
def test_random_keys_of_the_old_style_are_taken():
    assert jaxem.fit_restarts(MODEL, jax.random.PRNGKey(0), X, num_restarts=2, max_steps=3).fits.num_steps.shape == (2,)


@pytest.mark.parametrize("seed", [5, np.int64(5)])
def test_an_int_seed_is_taken_as_the_key_made_of_it(seed):
    received, expected = (jaxem.fit_restarts(MODEL, key, X, num_restarts=2, max_steps=3) for key in (seed, jax.random.key(5)))
    np.testing.assert_array_equal(received.fits.history, expected.fits.history)


def test_counts_below_zero_are_refused_whatever_their_weight():
    with pytest.raises(ValueError, match="data needs counts"):
        jaxem.fit_restarts(jaxem.mixture(families.poisson(), 1), jax.random.key(0), [1, 2, -1], [1, 1, 0], num_restarts=1)


def test_a_random_start_for_data_of_the_wrong_rank_is_refused():
    with pytest.raises(ValueError, match=r"data has shape \(1, 20, 2\), needs \(n,\) or \(n, d\)"):
        MODEL.init(jax.random.key(0), X[None])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": jaxem.squarem}, r"solver must be a Solver, such as jaxem\.squarem\(\) with its parentheses"),
        ({"tol": "1e-3"}, "tol must be a number of nats .*, got '1e-3'"),
        ({"tol": np.ones(2)}, "tol must be a number of nats"),
        ({"max_steps": 2.5}, r"max_steps must be a whole number ≥ 0 .*, got 2\.5"),
    ],
)
def test_a_bad_solver_or_stopping_rule_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit(MODEL, PARAMS, X, **arguments)


def test_steps_that_do_not_fit_together_are_refused_by_name():
    def own(log_likelihood=lambda theta, x: -((x - theta) ** 2).sum(), m_step=lambda theta, stats: stats):
        return jaxem.Model(lambda theta, x, weights: (x.mean(), log_likelihood(theta, x)), m_step)

    x = np.arange(4.0)
    assert jaxem.fit(own(), 0.0, x).status == jaxem.Status.CONVERGED
    for model, message in [
        (own(log_likelihood=lambda theta, x: -((x - theta) ** 2)), r"model\.e_step returns a log-likelihood of shape \(4,\)"),
        (
            own(log_likelihood=lambda theta, x: x.sum().astype("float32")),
            r"log-likelihood .* dtype float32, needs .*float64",
        ),
        (own(m_step=lambda theta, stats: (stats, stats)), r"model\.m_step returns params of structure"),
        (own(m_step=lambda theta, stats: stats[None]), r"model\.m_step returns params of shape \(1,\)"),
        (own(m_step=lambda theta, stats: stats.astype("float32")), r"model\.m_step returns params of dtype float32"),
    ]:
        with pytest.raises(ValueError, match=message):
            jaxem.fit(model, 0.0, x)


@pytest.mark.parametrize(
    "look",
    [lambda x: np.asarray(x), lambda x: x[x[:, 0] > 0], lambda x: x[: int((x > 0).sum())], lambda x: [x][(x > 9).sum()]],
)
def test_an_init_that_looks_at_values_is_no_hindrance_to_a_fit_from_given_params(look):
    model = MODEL._replace(init=lambda key, data, weights=None: MODEL.init(key, look(data.x)))
    assert jaxem.fit(model, PARAMS, X, max_steps=2).num_steps == 2


def test_a_random_start_takes_lists_and_integers_as_a_fit_does():
    poisson = families.poisson()
    bare = poisson._replace(  # a family of one's own that leaves its data as they come
        evaluate=lambda params, x: poisson.evaluate(params, poisson.prepare(x, None)),
        init=lambda x, responsibilities: poisson.init(poisson.prepare(x, None), responsibilities),
        prepare=None,
        embed=None,
    )
    model = jaxem.mixture(bare, 2)
    start = model.init(jax.random.key(0), [3, 1, 7, 2, 9], [1.0, 0.5, 1.0, 2.0, 1.0])
    assert jaxem.fit(model, start, [3, 1, 7, 2, 9]).status == jaxem.Status.CONVERGED


def test_double_precision_data_are_taken_without_a_warning_where_it_is_off():
    model = jaxem.Model(lambda theta, x, w: (w @ x / w.sum(), -(w @ (x - theta) ** 2)), lambda theta, stats: stats)
    with jax.enable_x64(False):
        fit = jaxem.fit(model, 0.0, np.arange(4.0))
    assert fit.log_likelihood.dtype == "float32"
    np.testing.assert_allclose(fit.params, 1.5)


FIT = jaxem.Fit(PARAMS, *[np.zeros(())] * 5)
SEARCH = jaxem.Restarts(FIT, FIT, np.ones(()))


class Unhashable:
    __hash__ = None

    def __call__(self, params, x, z):
        return -((x - params) ** 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MODEL.posterior(X, PARAMS), "params has structure .*: pass what model.init returns, or fit.params"),
        (lambda: MODEL.log_prob({"a": 1.0}, X), "params has structure .*'a'.*, needs .*Mixture"),
        (lambda: MODEL.posterior(FIT, X), r"params is a Fit, which only holds them: pass its \.params"),
        (lambda: MODEL.log_prob(SEARCH, X), r"params is a Restarts, .*: pass its \.best\.params"),
        (lambda: jaxem.fit(MODEL, SEARCH, X), r"params is a Restarts, .*: pass its \.best\.params"),
        (lambda: jaxem.fit(MODEL, X, PARAMS), "data is a record, Mixture, where an array is needed: mind the order"),
        (lambda: jaxem.fit_restarts(MODEL, X, 0), "data needs arrays with one row .*: mind the order"),
        (lambda: MODEL.sample(PARAMS, jax.random.key(0), 3), "key must be one random key"),
        (lambda: MODEL.posterior(PARAMS, X[:, :1]), r"data has 1 column \(shape \(20, 1\)\), expected 2"),
        (lambda: jaxem.from_log_joint(Unhashable(), 2), "log_joint must be hashable"),
        (lambda: jaxem.constraints.interval(np.zeros(2), np.ones(2)), r"interval\(low, high\) needs low < high, two numbers"),
    ],
)
def test_arguments_in_the_wrong_place_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def spread_weights(p):
    return jaxem.Mixture(p["weights"], p["components"])


UNSCALED = jaxem.reparametrize(MODEL, spread_weights)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: jaxem.fit_each(MODEL, 0, X[None], on_progress=3), "on_progress must be a function .*, got 3"),
        (lambda: jaxem.select({"a": MODEL}, 0, X, on_progress="a"), "on_progress must be a function .*, got 'a'"),
        (lambda: jaxem.likelihood_ratio_test(MODEL, MODEL, 0, X, on_progress=3), "on_progress must be a function"),
        (lambda: jaxem.freeze(MODEL, PARAMS, lambda p: jnp.log(p.weights)), r"where\(params\) must point"),
        (lambda: jaxem.bootstrap(MODEL, 0, FIT, X, level=None), "level must be a number between 0 and 1, got None"),
        (lambda: jaxem.bootstrap(MODEL, 0, FIT, X, level="a"), "level must be a number between 0 and 1, got 'a'"),
        (lambda: jaxem.standard_errors(MODEL, FIT, X, method=["opg"]), r"method must be one of .*, got \['opg'\]"),
        (lambda: jaxem.certify(MODEL, FIT, X, tol="a"), "tol must be a number of nats ≥ 0, got 'a'"),
        (lambda: jaxem.certify(MODEL, FIT, X, tol=np.nan), "tol must be a number of nats ≥ 0, got nan"),
        (lambda: jaxem.sort_components(MODEL, PARAMS, by=[np.nan, 1.0]), "by has NaN, needs numbers that have an order"),
        (lambda: jaxem.num_free_parameters(MODEL, (1.0, 2.0)), "params has structure .*, needs .*Mixture"),
        (
            lambda: jaxem.fit_each(
                jaxem.mixture(families.labelled(families.poisson()), 2),
                0,
                families.Labelled(np.ones((1, 3)), np.array([[0, 1, 2]])),
            ),
            "labels name 3 components, the model has 2",
        ),
        (
            lambda: jaxem.marginal(MODEL, components(covariance=np.ones((2, 2))), 0),
            r"\(2, 2\), needs .*\(2, 2, 2\) for .*'full'",
        ),
        (
            lambda: jaxem.fit(UNSCALED, {"weights": np.ones(2), "components": PARAMS.components}, X),
            "params are made into what .*full.* cannot take: params.weights must be .*simplex",
        ),
        (
            lambda: jaxem.fit(UNSCALED, {"weights": np.ones(3) / 3, "components": PARAMS.components}, X),
            r"params are made into .*params.weights has shape \(3,\), needs \(2,\)",
        ),
    ],
)
def test_what_cannot_be_answered_is_said_in_a_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
