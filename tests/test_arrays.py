"""Anything a user has: frames, series, lists; and what would be lost on the way is refused, with the cure."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxem
from jaxem import Status, families

X = np.random.default_rng(0).normal(size=(20, 2)) + 4 * (np.arange(20) % 2)[:, None]
MODEL = jaxem.mixture(families.gaussian(), 2)
PARAMS = jaxem.Mixture(np.array([0.5, 0.5]), families.Gaussian(np.array([[0.0, 0.0], [4.0, 4.0]]), np.array([np.eye(2)] * 2)))
COUNTS = np.arange(20) % 7
POISSON = jaxem.mixture(families.poisson(), 2)
RATES = jaxem.Mixture([0.5, 0.5], families.Poisson([1.0, 4.0]))


class Frame:
    """As much of a pandas DataFrame as is needed: columns by name, a shape, and an array of all."""

    def __init__(self, x, columns):
        self._x, self.columns, self.shape = np.asarray(x), columns, np.shape(x)

    def __array__(self, dtype=None, copy=None):
        return self._x if dtype is None else self._x.astype(dtype)

    def __getitem__(self, name):
        return Series(self._x[:, self.columns.index(name)], name)


class Series:
    """As much of a pandas Series as is needed."""

    def __init__(self, x, name="x"):
        self._x, self.name, self.shape = np.asarray(x), name, np.shape(x)

    def __array__(self, dtype=None, copy=None):
        return self._x if dtype is None else self._x.astype(dtype)


FRAME = Frame(X, ["length", "width"])
CALLS = {
    "fit": lambda model, params, x: jaxem.fit(model, params, x, max_steps=3).history,
    "posterior": lambda model, params, x: model.posterior(params, x),
    "log_prob": lambda model, params, x: model.log_prob(params, x),
    "sample": lambda model, params, x: model.sample(jax.random.key(0), params, x)[0],
    "init": lambda model, params, x: jax.tree.leaves(model.init(jax.random.key(0), x)),
    "lower_bound": lambda model, params, x: jaxem.lower_bound(model, params, params, x),
    "bic": lambda model, params, x: jaxem.bic(model, jaxem.fit(model, params, x, max_steps=3), x),
}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("call", CALLS)
def test_what_fit_takes_the_others_take(call):
    for model, params, plain, forms in [
        (MODEL, PARAMS, X, (FRAME, X.tolist(), jnp.asarray(X))),
        (POISSON, RATES, COUNTS, (Series(COUNTS), COUNTS.tolist(), jnp.asarray(COUNTS))),
    ]:
        expected = CALLS[call](model, params, plain)
        for data in forms:
            jax.tree.map(np.testing.assert_array_equal, CALLS[call](model, params, data), expected)


def test_weights_may_be_a_list_or_a_series_too():
    weights = np.arange(20) % 3
    expected = jaxem.fit(POISSON, RATES, COUNTS, weights, max_steps=3).history
    for given in (weights.tolist(), Series(weights)):
        np.testing.assert_array_equal(jaxem.fit(POISSON, RATES, COUNTS, given, max_steps=3).history, expected)


@pytest.mark.parametrize("call", ["posterior", "log_prob", "fit", "lower_bound"])
@pytest.mark.parametrize(
    ("model", "params", "data", "received", "expected"),
    [
        (MODEL, PARAMS, np.ones((20, 3)) * np.arange(20)[:, None], 3, 2),
        (POISSON, RATES, np.ones((20, 2), int), 2, 1),
        (
            jaxem.mixture(families.bernoulli(), 2),
            jaxem.Mixture([0.5, 0.5], families.Bernoulli(np.full((2, 3), 0.5))),
            COUNTS % 2,
            1,
            3,
        ),
    ],
    ids=["gaussian", "poisson", "bernoulli"],
)
def test_columns_received_and_expected_are_named_where_the_width_is_wrong(call, model, params, data, received, expected):
    with pytest.raises(ValueError) as refused:
        CALLS[call](model, params, data)
    message = str(refused.value)
    if call in ("posterior", "log_prob"):
        assert f"data has {received} column" in message and f"expected {expected}" in message
    else:
        assert message.startswith("params.components")
        assert "needs" in message


def test_a_column_of_text_in_a_frame_is_named():
    with pytest.raises(ValueError, match=r"data has dtype .* \(columns length, kind\), needs numbers"):
        jaxem.fit(MODEL, PARAMS, Frame(np.array([["1", "a"]] * 20), ["length", "kind"]))


def masked(x, *places):
    mask = np.zeros(np.shape(x), bool)
    for place in places:
        mask[place] = True
    return np.ma.MaskedArray(x, mask)


@pytest.mark.parametrize("call", CALLS)
def test_masked_rows_are_refused_with_the_cure(call):
    with pytest.raises(ValueError, match="data is a masked array with masked entries: drop or impute those rows"):
        CALLS[call](MODEL, PARAMS, masked(X, (3, 1)))


def test_masked_weights_are_refused_with_the_cure():
    with pytest.raises(ValueError, match="weights is a masked array with masked entries: drop or impute"):
        jaxem.fit(MODEL, PARAMS, X, masked(np.ones(20), 3))


def test_masked_arrays_in_a_tree_are_refused():
    model = jaxem.from_log_joint(jaxem_joint, 1)
    with pytest.raises(ValueError, match="data is a masked array"):
        jaxem.fit(model, 0.0, {"a": masked(np.arange(5.0), 2)})


def jaxem_joint(params, x, z):
    return -((x["a"] - params) ** 2)


def test_a_masked_array_that_masks_nothing_is_taken_as_it_is():
    received = jaxem.fit(MODEL, PARAMS, masked(X), masked(np.ones(20)), max_steps=3).history
    np.testing.assert_array_equal(received, jaxem.fit(MODEL, PARAMS, X, max_steps=3).history)


# ---- every one of these was a traceback


def bare(dtype):
    return jaxem.Model(lambda theta, x, w: ((), -(w @ x**2).astype(dtype)), lambda theta, stats: theta)


FIT = jaxem.Fit(PARAMS, *map(np.asarray, (-70.0, 3, int(Status.MAX_STEPS), [-90.0, -75.0, -71.0, -70.0], 4)))
SEARCH = jaxem.Restarts(FIT, FIT, np.asarray(1.0))
TRACEBACKS = {
    "big-endian data": (
        lambda: jaxem.fit(MODEL, PARAMS, X.astype(">f8")),
        r"data has the byte order of another machine: use data\.astype",
    ),
    "big-endian counts": (
        lambda: jaxem.fit(POISSON, RATES, COUNTS.astype(">i4")),
        "data has the byte order of another machine",
    ),
    "big-endian weights": (
        lambda: jaxem.fit(MODEL, PARAMS, X, np.ones(20, ">f8")),
        "weights has the byte order of another machine",
    ),
    "longdouble data": (
        lambda: jaxem.fit(MODEL, PARAMS, X.astype(np.longdouble)),
        r"data has dtype .*128.*use data\.astype\('float64'\)",
    ),
    "longdouble weights": (lambda: jaxem.fit(MODEL, PARAMS, X, np.ones(20, np.longdouble)), "weights has dtype"),
    "no parameters in a joint": (
        lambda: jaxem.fit(jaxem.from_log_joint(lambda p, x, z: -(x**2), 2), {}, np.arange(5.0)),
        r"params has no arrays, got \{\}",
    ),
    "squarem without parameters": (
        lambda: jaxem.fit(bare("float64"), (), np.arange(5.0), solver=jaxem.squarem()),
        r"params has no arrays, got \(\)",
    ),
    "as many steps as no int32 holds": (
        lambda: jaxem.fit(MODEL, PARAMS, X, max_steps=2**31),
        "max_steps must be .* got 2147483648",
    ),
    "an imaginary tolerance": (lambda: jaxem.fit(MODEL, PARAMS, X, tol=1j), "tol must be a number of nats .*, got 1j"),
    "an optimizer's name": (lambda: jaxem.gradient_m_step(MODEL, "adam"), r"optimizer must be one of optax's, .*got 'adam'"),
    "an optimizer uncalled": (lambda: jaxem.gradient_m_step(MODEL, optax.adam), "optimizer must be .* with its parentheses"),
    "an optimizer's name in a joint": (
        lambda: jaxem.from_log_joint(lambda p, x, z: -((x - p) ** 2), 2, optimizer="adam"),
        "optimizer must be one of optax's",
    ),
    "a family fitted": (
        lambda: jaxem.fit(families.gaussian(), PARAMS, X),
        r"model must be a Model, got Family: jaxem\.mixture",
    ),
    "a family searched": (lambda: jaxem.fit_restarts(families.gaussian(), 0, X), "model must be a Model, got Family"),
    "a family climbed": (lambda: jaxem.gradient_m_step(families.gaussian()), "model must be a Model, got Family"),
    "a family in blocks": (lambda: jaxem.chunked(families.gaussian(), 10), "model must be a Model, got Family"),
    "a family counted": (lambda: jaxem.num_free_parameters(families.gaussian(), PARAMS), "model must be a Model, got Family"),
    "a family bounded": (
        lambda: jaxem.lower_bound(families.gaussian(), PARAMS, PARAMS, X),
        "model must be a Model, got Family",
    ),
    "a key of three words": (lambda: jaxem.fit_restarts(MODEL, np.zeros(3, "uint32"), X), r"key must be .* shape \(3,\)"),
    "a key of three words for a start": (lambda: MODEL.init(np.zeros(3, "uint32"), X), r"key must be .* shape \(3,\)"),
    "a key of three words for samples": (
        lambda: MODEL.sample(np.zeros(3, "uint32"), PARAMS, 5),
        r"key must be .* shape \(3,\)",
    ),
    "bic of a search": (lambda: jaxem.bic(POISSON, SEARCH, COUNTS), r"fit must be a Fit, got Restarts: pass search\.best"),
    "aic of a search": (lambda: jaxem.aic(POISSON, SEARCH), r"fit must be a Fit, got Restarts: pass search\.best"),
    "bic of params": (lambda: jaxem.bic(MODEL, PARAMS, X), "fit must be a Fit, got Mixture: pass what jaxem.fit returns"),
    "bic with too few weights": (lambda: jaxem.bic(MODEL, FIT, X, np.ones(19)), r"weights has shape \(19,\), needs \(20,\)"),
    "no samples": (
        lambda: jaxem.mixture(families.gaussian()._replace(sample=None, parts=None), 2).sample(0, PARAMS, 5),
        r"needs family\.sample, which this family does not have",
    ),
    "squares that overflow": (
        lambda: jaxem.fit_restarts(MODEL, 0, (X * 1e20).astype("float32")),
        r"data columns \[0, 1\] spread so that their squares overflow float32: rescale them",
    ),
    "squares that underflow": (
        lambda: jaxem.fit_restarts(MODEL, 0, (X * 1e-20).astype("float32")),
        r"data columns \[0, 1\] spread so that their squares underflow float32: rescale them",
    ),
    "a frame for a dict": (
        lambda: jaxem.fit(jaxem.from_log_joint(jaxem_joint, 1), 0.0, FRAME),
        r"data may be a dict of arrays, not a DataFrame",
    ),
    "a frame for a product": (
        lambda: jaxem.fit_restarts(jaxem.mixture(families.product(a=families.poisson()), 2), 0, FRAME),
        "data needs a, as a dict of arrays, a record or a DataFrame; got length, width",
    ),
    "a ragged list": (lambda: jaxem.fit(MODEL, PARAMS, [[1.0, 2.0], [3.0]]), "data is ragged.*rows of equal length"),
    "a ragged list of counts": (lambda: jaxem.fit(POISSON, RATES, [[1, 2], [3]]), "data is ragged.*rows of equal length"),
    "ragged weights": (lambda: jaxem.fit(POISSON, RATES, COUNTS, [[1.0, 2.0], [3.0]]), "weights is ragged"),
    "an if over states": (
        lambda: jaxem.fit(jaxem.from_log_joint(lambda p, x, z: -(x**2) if z == 0 else -((x - p) ** 2), 2), 1.0, np.arange(5.0)),
        r"log_joint\(params, x, z\) looks at a value .*jnp\.where",
    ),
}


@pytest.mark.parametrize("case", TRACEBACKS)
def test_a_mistake_is_a_valueerror_that_names_the_argument(case):
    call, message = TRACEBACKS[case]
    with pytest.raises(ValueError, match=message):
        call()


# ---- under a trace, where values cannot be looked at


UNDER_TRACE = {
    "negative weights": (POISSON, RATES, COUNTS.astype(float), np.where(np.arange(20) == 3, -0.1, 1.0)),
    "weights all zero": (POISSON, RATES, COUNTS.astype(float), np.zeros(20)),
    "NaN in weights": (POISSON, RATES, COUNTS.astype(float), np.where(np.arange(20) == 3, np.nan, 1.0)),
    "infinite weights": (POISSON, RATES, COUNTS.astype(float), np.where(np.arange(20) == 3, np.inf, 1.0)),
    "fractional counts": (POISSON, RATES, COUNTS + 0.5, np.ones(20)),
    "negative counts": (POISSON, RATES, COUNTS - 1.0, np.ones(20)),
    "NaN in counts": (POISSON, RATES, np.where(np.arange(20) == 3, np.nan, COUNTS), np.ones(20)),
    "twos among zeros and ones": (
        jaxem.mixture(families.bernoulli(), 2),
        jaxem.Mixture([0.5, 0.5], families.Bernoulli([0.3, 0.6])),
        (COUNTS % 3).astype(float),
        np.ones(20),
    ),
    "NaN in a row": (MODEL, PARAMS, np.where(np.arange(40).reshape(20, 2) == 3, np.nan, X), np.ones(20)),
    "infinity in a row": (MODEL, PARAMS, np.where(np.arange(40).reshape(20, 2) == 3, np.inf, X), np.ones(20)),
    "NaN in a part": (
        jaxem.mixture(families.product(count=families.poisson()), 2),
        jaxem.Mixture([0.5, 0.5], {"count": families.Poisson([1.0, 4.0])}),
        {"count": np.where(np.arange(20) == 3, np.nan, COUNTS)},
        np.ones(20),
    ),
}


@pytest.mark.each_time(3)
@pytest.mark.parametrize("case", UNDER_TRACE)
def test_what_a_fit_would_refuse_ends_as_nonfinite_inside_jit(case):
    model, params, data, weights = UNDER_TRACE[case]
    with pytest.raises(ValueError):
        jaxem.fit(model, params, data, weights)
    fit = jax.jit(lambda data, weights: jaxem.fit(model, params, data, weights, max_steps=50))(data, weights)
    assert fit.status == Status.NONFINITE
