"""Records of one's own: capabilities that drivers honour, and records that travel."""

import copy
import math
import pickle
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxem
from jaxem import Family, Model, Shared, Status, constraints, families

# ---- log_prior: fit climbs log-likelihood + log_prior


def coin_under_a_beta_prior(a, b):
    def log_prior(p):
        return (a - 1) * jnp.log(p) + (b - 1) * jnp.log1p(-p)

    def e_step(p, x, weights):
        ones, zeros = weights @ x, weights @ (1 - x)
        return (ones, zeros), ones * jnp.log(p) + zeros * jnp.log1p(-p)

    def m_step(p, stats):
        ones, zeros = stats
        return (ones + a - 1) / (ones + zeros + a + b - 2)

    return Model(e_step, m_step, log_prior=log_prior, constraints=constraints.interval(0, 1))


def test_a_coin_under_a_beta_prior_ends_at_the_mode_of_its_posterior_though_the_likelihood_falls_on_the_way():
    x = np.array([1.0, 1, 1, 1, 1, 1, 1, 1, 0, 0])
    fit = jaxem.fit(coin_under_a_beta_prior(20.0, 30.0), 0.8, x)  # from the maximum of the likelihood
    assert fit.status == Status.CONVERGED
    expected = (8 + 20 - 1) / (10 + 20 + 30 - 2)
    np.testing.assert_allclose(fit.params, expected, rtol=1e-12)
    np.testing.assert_allclose(fit.log_likelihood, 8 * math.log(expected) + 2 * math.log(1 - expected), rtol=1e-12)
    assert fit.history[1] > fit.history[0]  # which holds what is climbed
    assert fit.log_likelihood < 8 * math.log(0.8) + 2 * math.log(0.2)


DENSITIES = np.array([[0.5, 0.1], [0.4, 0.3], [0.1, 0.6]])  # of three symbols under two known sources
SYMBOLS = np.array([0, 0, 1, 2, 0, 1, 0, 0, 2, 0, 0, 1])
ALPHA = np.array([4.0, 6.0])


def known_sources():
    """Shares π of two known sources under a Dirichlet prior; which of them made a symbol is latent."""

    def e_step(p, x, weights):
        joint = p[None] * jnp.asarray(DENSITIES)[x]
        total = joint.sum(1)
        return weights @ (joint / total[:, None]), weights @ jnp.log(total)

    def expected_log_joint(p, counts):
        return counts @ jnp.log(p)

    return Model(
        e_step,
        lambda p, counts: (counts + ALPHA - 1) / (counts + ALPHA - 1).sum(),
        expected_log_joint=expected_log_joint,
        log_prior=lambda p: (ALPHA - 1) @ jnp.log(p),
        constraints=constraints.simplex,
    )


def plain_sources(p, num_steps):
    """EM for the mode under the prior by loops; log-likelihood and log-prior at each iterate."""
    values = []
    for _ in range(num_steps + 1):
        counts, log_likelihood = np.zeros(2), 0.0
        for symbol in SYMBOLS:
            joint = [p[k] * DENSITIES[symbol, k] for k in range(2)]
            counts += np.array(joint) / sum(joint)
            log_likelihood += math.log(sum(joint))
        values.append((log_likelihood, sum((ALPHA[k] - 1) * math.log(p[k]) for k in range(2))))
        p, last = (counts + ALPHA - 1) / (counts + ALPHA - 1).sum(), p
    return np.array(values), last


@pytest.mark.parametrize("solver", [jaxem.em(), jaxem.squarem(), jaxem.anderson()], ids=["em", "squarem", "anderson"])
def test_a_fit_under_a_dirichlet_prior_ends_where_a_plain_loop_does(solver):
    values, expected = plain_sources(np.array([0.9, 0.1]), 400)
    fit = jaxem.fit(known_sources(), np.array([0.9, 0.1]), SYMBOLS, solver=solver)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params, expected, atol=1e-5)
    assert abs(fit.log_likelihood + known_sources().log_prior(fit.params) - values[-1].sum()) < 1e-6
    np.testing.assert_allclose(fit.log_likelihood, plain_sources(np.asarray(fit.params), 0)[0][0, 0], rtol=1e-12)


def test_each_step_raises_log_likelihood_plus_log_prior():
    values, _ = plain_sources(np.array([0.9, 0.1]), 8)
    fit = jaxem.fit(known_sources(), np.array([0.9, 0.1]), SYMBOLS, tol=-np.inf, max_steps=8)
    np.testing.assert_allclose(fit.history, values.sum(1), rtol=1e-12)
    assert np.diff(fit.history).min() > 0
    assert np.diff(values[:, 0]).min() < 0  # the likelihood alone may fall
    np.testing.assert_allclose([fit.log_likelihood, fit.log_prior], values[-1], rtol=1e-12)


def test_a_gradient_m_step_climbs_the_prior_too():
    _, expected = plain_sources(np.array([0.9, 0.1]), 400)
    fit = jaxem.fit(jaxem.gradient_m_step(known_sources()), np.array([0.9, 0.1]), SYMBOLS)
    assert fit.status == Status.CONVERGED
    np.testing.assert_allclose(fit.params, expected, atol=1e-5)


# ---- size: observations per row


def walks(size=None):
    """The drift of random walks of known variance, each row the mean of as many steps as its second column says."""

    def e_step(drift, data, weights):
        steps = data[:, 1]
        stats = (weights * steps) @ data[:, 0], weights @ steps
        return stats, -0.5 * (weights * steps) @ (data[:, 0] - drift) ** 2

    return Model(e_step, lambda drift, stats: stats[0] / stats[1], size=size)


WALKS = np.array([[0.5, 10.0], [1.5, 30.0], [1.0, 60.0]])


@pytest.mark.parametrize(("weights", "expected"), [(None, 100), ([2.0, 1.0, 0.0], 50)])
def test_bic_counts_the_observations_in_rows(weights, expected):
    model = walks(lambda data: data[:, 1])
    fit = jaxem.fit(model, 0.0, WALKS, weights)
    received = jaxem.bic(model, fit, WALKS, weights)
    np.testing.assert_allclose(received, math.log(expected) - 2 * float(fit.log_likelihood), rtol=1e-12)
    rows = 3 if weights is None else 3.0
    np.testing.assert_allclose(
        jaxem.bic(walks(), fit, WALKS, weights), math.log(rows) - 2 * float(fit.log_likelihood), rtol=1e-12
    )


@pytest.mark.parametrize("size", [None, 20_000])
def test_a_log_likelihood_near_zero_that_long_rows_sum_to_is_judged_by_their_observations(size):
    """Twenty thousand terms that cancel leave noise of many ulps of a sum of three rows; a fall by it is no fall."""

    def e_step(theta, x, weights):
        noise = jnp.where(theta < 0.25, 0, 20_000 * 3 * 20 * jnp.finfo(x.dtype).eps)
        return theta, -((theta - 1) ** 2) * 1e-3 - noise

    counted = None if size is None else lambda x: jnp.full(x.shape[:1], size)
    model = Model(e_step, lambda theta, stats: theta + 0.5 * (1 - theta), size=counted)
    fit = jaxem.fit(model, np.float32(0.0), np.ones(3, "float32"))
    assert (fit.status == Status.STALLED) == (size is None)


# ---- families whose statistics are no sums over rows


def unit_normals(additive):
    """Normals of variance one; where not additive, the M-step has all rows at hand, centred by their weighted mean."""

    def evaluate(mean, x):
        log_prob = -0.5 * (x[:, None] - mean[None]) ** 2 - 0.5 * math.log(2 * math.pi)

        def sums(responsibilities):
            return responsibilities.sum(0), responsibilities.T @ x

        return log_prob, sums if additive else lambda responsibilities: (x, responsibilities)

    def totals(stats):
        if additive:
            return stats
        x, responsibilities = stats
        return responsibilities.sum(0), responsibilities.T @ x

    def expected_log_prob(mean, stats):
        count, total = totals(stats)
        return total @ mean - 0.5 * count @ mean**2  # up to what does not depend on the mean

    def m_step(mean, stats):
        count, total = totals(stats)
        return total / count

    return Family(
        evaluate,
        m_step,
        expected_log_prob,
        lambda x, responsibilities: (responsibilities.T @ x) / responsibilities.sum(0),
        constraints.real,
        additive=additive,
    )


def test_a_family_whose_statistics_carry_the_data_along_is_not_summed_over_blocks():
    x = np.random.default_rng(0).normal(size=10_000) + 3 * (np.arange(10_000) % 2)
    start = jaxem.Mixture([0.4, 0.6], np.array([-1.0, 4.0]))
    whole, sums = (jaxem.mixture(unit_normals(additive), 2) for additive in (False, True))
    received, expected = (jaxem.fit(model, start, x, tol=-np.inf, max_steps=10) for model in (whole, sums))
    np.testing.assert_allclose(received.history, expected.history, rtol=1e-12)
    np.testing.assert_allclose(received.params.components, expected.params.components, rtol=1e-10)
    pi, mean = np.array([0.4, 0.6]), np.array([-1.0, 4.0])
    for _ in range(10):
        joint = pi[None] * np.exp(-0.5 * (x[:, None] - mean[None]) ** 2)
        share = joint / joint.sum(1, keepdims=True)
        pi, mean = share.mean(0), share.T @ x / share.sum(0)
    np.testing.assert_allclose(received.params.components, mean, rtol=1e-9)


@pytest.mark.parametrize(
    "wrap",
    [jaxem.single, partial(jaxem.mixture, num_components=2), lambda f: jaxem.mixture(families.labelled(f), 2)],
    ids=["single", "mixture", "labelled"],
)
def test_what_is_built_of_a_family_that_is_not_additive_is_not_either_and_refuses_blocks(wrap):
    model = wrap(unit_normals(False))
    assert not model.additive
    assert wrap(unit_normals(True)).additive
    with pytest.raises(ValueError, match="additive"):
        jaxem.chunked(model, 10)


def test_a_product_is_additive_and_exact_where_all_its_factors_are():
    poisson = families.poisson()
    assert families.product(a=poisson, b=families.bernoulli()).additive
    assert not families.product(a=poisson, b=unit_normals(False)).additive
    assert families.product(a=poisson).exact
    assert not families.product(a=poisson, b=poisson._replace(exact=False, parts=None)).exact


def test_the_prior_of_a_family_is_that_of_its_mixture():
    """Means under a normal prior about 1 of precision 4: the M-step adds four rows of 1 to each component."""
    plain = unit_normals(True)
    family = plain._replace(
        m_step=lambda mean, stats: (stats[1] + 4.0) / (stats[0] + 4),
        log_prior=lambda mean: -2 * ((mean - 1) ** 2).sum(),
    )
    x = np.array([-1.0, 0, 0.5, 1, 5, 6, 6.5])
    model = jaxem.mixture(family, 2)
    fit = jaxem.fit(model, jaxem.Mixture([0.5, 0.5], np.array([0.0, 6.0])), x)
    assert fit.status == Status.CONVERGED
    pi, mean = np.array([0.5, 0.5]), np.array([0.0, 6.0])
    for _ in range(300):
        joint = pi[None] * np.exp(-0.5 * (x[:, None] - mean[None]) ** 2)
        share = joint / joint.sum(1, keepdims=True)
        pi, mean = share.mean(0), (share.T @ x + 4) / (share.sum(0) + 4)
    np.testing.assert_allclose(fit.params.components, mean, atol=1e-4)
    np.testing.assert_allclose(model.log_prior(fit.params), -2 * ((fit.params.components - 1) ** 2).sum(), rtol=1e-12)
    assert jaxem.mixture(plain, 2).log_prior is None


# ---- what all rows share


def tabulated_symbols():
    """Shares of two known sources as above, the table of densities a part of the data that all rows share."""

    def prepare(data, weights):
        if isinstance(data, dict):
            return data
        return {"symbol": jnp.asarray(data), "table": Shared(jnp.asarray(DENSITIES))}

    def shares(p, data):
        joint = p[None] * data["table"].value[data["symbol"]]
        return joint / joint.sum(1, keepdims=True), jnp.log(joint.sum(1))

    def e_step(p, data, weights):
        q, log_prob = shares(p, data)
        return weights @ q, weights @ log_prob

    return Model(
        e_step,
        lambda p, counts: counts / counts.sum(),
        posterior=lambda p, data: shares(p, data)[0],
        log_prob=lambda p, data: shares(p, data)[1],
        prepare=prepare,
        constraints=constraints.simplex,
    )


def plain_shares(p, num_steps):
    for _ in range(num_steps):
        p = np.mean([p * DENSITIES[s] / (p @ DENSITIES[s]) for s in SYMBOLS], axis=0)
    return p


@pytest.mark.parametrize("block_size", [1, 3, 5, 12, 100])
def test_blocks_pass_whole_what_all_rows_share(block_size):
    model = tabulated_symbols()
    data = model.prepare(SYMBOLS, None)
    blocks, p, weights = jaxem.chunked(model, block_size), jnp.array([0.3, 0.7]), jnp.arange(12.0)
    for received, expected in [
        (blocks.e_step(p, data, weights), model.e_step(p, data, weights)),
        (blocks.posterior(p, data), model.posterior(p, data)),
        (blocks.log_prob(p, data), model.log_prob(p, data)),
    ]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), received, expected)
    fit = jaxem.fit(blocks, p, SYMBOLS, tol=-np.inf, max_steps=7)
    np.testing.assert_allclose(fit.params, plain_shares(np.array([0.3, 0.7]), 7), rtol=1e-12)


def test_fits_in_lanes_share_what_all_rows_share():
    model, data = tabulated_symbols(), tabulated_symbols().prepare(SYMBOLS, None)
    starts = jnp.array([[0.3, 0.7], [0.9, 0.1]])
    lanes = jax.vmap(lambda p: jaxem.fit(model, p, data, tol=-np.inf, max_steps=7))(starts)
    for lane, start in enumerate(np.asarray(starts)):
        np.testing.assert_allclose(lanes.params[lane], plain_shares(start, 7), rtol=1e-12)


def shapes_of(jaxpr):
    """The shapes of all intermediate results, those of inner programs included, but not of loops that may run no turn."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            continue
        yield from (variable.aval.shape for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda node: hasattr(node, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                yield from shapes_of(inner.jaxpr)


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_lanes_of_a_gaussian_mixture_share_their_centred_rows(form):
    """No array has an entry for each lane, row and column."""
    lanes, rows, columns = 5, 37, 7
    model = jaxem.mixture(families.gaussian(form), 2)
    data, weights = model.prepare(np.random.default_rng(0).normal(size=(rows, columns)), None), jnp.ones(rows)
    starts = jax.vmap(lambda key: model.init(key, data))(jax.random.split(jax.random.key(0), lanes))
    traced = jax.make_jaxpr(jax.vmap(lambda params: model.e_step(params, data, weights)))(starts)
    received = {shape for shape in shapes_of(traced.jaxpr) if set(shape) >= {lanes, rows, columns}}
    assert not received


FAMILIES = {
    "full": (families.gaussian(), np.random.default_rng(0).normal(size=(20, 2))),
    "tied": (families.gaussian("tied"), np.random.default_rng(0).normal(size=(20, 2))),
    "diag": (families.gaussian("diag"), np.random.default_rng(0).normal(size=(20, 2))),
    "spherical": (families.gaussian("spherical"), np.random.default_rng(0).normal(size=(20, 2))),
    "poisson": (families.poisson(), np.arange(20)),
    "bernoulli": (families.bernoulli(), np.arange(20) % 2),
    "product": (
        families.product(x=families.gaussian(), count=families.poisson()),
        {"x": np.random.default_rng(0).normal(size=(20, 2)), "count": np.arange(20)},
    ),
    "labelled": (
        families.labelled(families.poisson()),
        families.Labelled(np.arange(20), np.arange(20) % 3 - 1),
    ),
    "labelled by what is allowed": (
        families.labelled(families.bernoulli()),
        families.Labelled(np.arange(20) % 2, np.arange(40).reshape(20, 2) % 3 > 0),
    ),
    "labelled product": (
        families.labelled(families.product(count=families.poisson())),
        families.Labelled({"count": np.arange(20)}, np.arange(20) % 3 - 1),
    ),
}


@pytest.mark.parametrize("weights", [None, jnp.arange(20.0)], ids=["looked at", "learnt from"])
@pytest.mark.parametrize("name", FAMILIES)
def test_prepared_data_are_prepared(name, weights):
    family, data = FAMILIES[name]
    once = family.prepare(data, weights)
    twice = family.prepare(once, weights)
    assert jax.tree.structure(once) == jax.tree.structure(twice)
    jax.tree.map(np.testing.assert_array_equal, twice, once)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("name", FAMILIES)
def test_model_functions_take_prepared_data_as_they_take_raw_ones(name):
    family, data = FAMILIES[name]
    model = jaxem.mixture(family, 2)
    params = model.init(jax.random.key(0), data)
    prepared = model.prepare(data, None)
    np.testing.assert_array_equal(model.log_prob(params, prepared), model.log_prob(params, data))
    np.testing.assert_array_equal(model.posterior(params, prepared), model.posterior(params, data))
    received, labels = model.sample(jax.random.key(1), params, prepared)
    assert labels.shape == (20,)
    assert all(len(leaf) == 20 for leaf in jax.tree.leaves(received))
    if data_labels := getattr(received, "labels", None) is not None and received.labels.ndim == 2:  # as the data say them
        received = received._replace(labels=received.labels.argmax(1))
    assert data_labels == (name == "labelled by what is allowed")
    expected, again = model.sample(jax.random.key(1), params, 20)  # these families have no covariates to keep
    np.testing.assert_array_equal(labels, again)
    jax.tree.map(np.testing.assert_array_equal, received, expected)


# ---- records travel


def named_joint(params, x, z):
    return -((x - params[z]) ** 2)


RECORDS = {
    "gaussian": families.gaussian("diag", 1e-3),
    "poisson": families.poisson(),
    "bernoulli": families.bernoulli(),
    "product": families.product(a=families.gaussian(), b=families.poisson()),
    "labelled": families.labelled(families.bernoulli()),
    "mixture": jaxem.mixture(families.gaussian(), 3),
    "mixture of experts": jaxem.mixture(families.gaussian(), 2, gate=families.poisson()),  # any family with parts will do
    "single": jaxem.single(families.poisson()),
    "chunked": jaxem.chunked(jaxem.mixture(families.poisson(), 2), 10),
    "gradient M-step": jaxem.gradient_m_step(jaxem.mixture(families.poisson(), 2)),
    "from_log_joint": jaxem.from_log_joint(named_joint, 2, constraints=constraints.positive),
    "constant constraint": constraints.simplex,
    "interval": constraints.interval(-1, 3),
    "on axes": constraints.on_axes(constraints.interval(0, 1), (0, 1)),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_pickled_record_comes_back_as_the_same_record(name):
    record = RECORDS[name]
    received = pickle.loads(pickle.dumps(record))
    assert type(received) is type(record)
    assert received == record
    assert copy.deepcopy(record) == record


def test_records_built_twice_are_the_same_object():
    assert jaxem.mixture(families.gaussian("diag"), 3) is jaxem.mixture(families.gaussian("diag"), 3)
    assert families.product(a=families.poisson()) is families.product(a=families.poisson())
    assert families.labelled(families.poisson()) is families.labelled(families.poisson())
    assert jaxem.single(families.poisson()) is jaxem.single(families.poisson())
    assert constraints.interval(0, 2) is constraints.interval(0, 2)
    assert constraints.on_axes(constraints.real, (1,)) is constraints.on_axes(constraints.real, (1,))


def test_a_model_with_a_changed_field_is_not_pickled_as_what_it_was_built_of():
    model = jaxem.mixture(families.poisson(), 2)._replace(m_step=optax.global_norm, init=None)
    received = pickle.loads(pickle.dumps((model.m_step, model.init)))
    assert received == (optax.global_norm, None)
    with pytest.raises((pickle.PicklingError, AttributeError)):  # its other functions are closures, which do not travel
        pickle.dumps(model)


def test_fits_and_searches_travel():
    model, x = jaxem.mixture(families.poisson(), 2), np.array([0, 1, 2, 7, 8, 9])
    search = jaxem.fit_restarts(model, 0, x, num_restarts=4, max_steps=50)
    for result in (search, search.best):
        received = pickle.loads(pickle.dumps(result))
        assert type(received) is type(result)
        jax.tree.map(np.testing.assert_array_equal, received, result)
        assert str(received) == str(result)


# ---- capabilities that are missing

NEEDS = {
    "init": lambda model, params, x: jaxem.fit_restarts(model, 0, x),
    "expected_log_joint": lambda model, params, x: jaxem.lower_bound(model, params, params, x),
    "posterior": lambda model, params, x: jaxem.initialize.from_responsibilities(model, x, np.ones((6, 2))),
    "statistics": lambda model, params, x: jaxem.initialize.from_responsibilities(model, x, np.ones((6, 2))),
}


@pytest.mark.parametrize("capability", NEEDS)
def test_a_missing_capability_is_named_with_the_way_to_add_it(capability):
    model, x = jaxem.mixture(families.poisson(), 2), np.array([0, 1, 2, 7, 8, 9])
    params = model.init(0, x)
    with pytest.raises(ValueError, match=rf"needs model\.{capability}.*_replace\({capability}="):
        NEEDS[capability](model._replace(**{capability: None}), params, x)


def test_a_family_without_samples_says_so():
    model = jaxem.mixture(families.poisson()._replace(sample=None, parts=None), 2)
    with pytest.raises(ValueError, match=r"family\.sample"):
        model.sample(0, jaxem.Mixture(jnp.array([0.5, 0.5]), families.Poisson(jnp.array([1.0, 2.0]))), 5)


# ---- what is said


def test_a_fit_and_a_search_print_as_a_few_lines_that_say_how_they_ended():
    model, x = jaxem.mixture(families.gaussian(), 2), jaxem.datasets.faithful()
    search = jaxem.fit_restarts(model, 0, x, num_restarts=8, num_continued=4, short_steps=3)
    fit = search.best
    for text in (str(fit), repr(fit)):
        assert len(text) < 400 and text.count("\n") <= 2
        for said in (Status(int(fit.status)).name, Status(int(fit.status)).message, "-1130.26", f"{int(fit.num_steps)} steps"):
            assert said in text
    for text in (str(search), repr(search)):
        assert len(text) < 600 and text.count("\n") <= 4
        for said in ("8 starts", "4 reached", "4 NOT_CONTINUED", "-1130.26", "CONVERGED"):
            assert said in text


def test_fits_in_lanes_and_under_a_trace_print_too():
    model, x = jaxem.mixture(families.poisson(), 2), np.array([0, 1, 2, 7, 8, 9])
    start = jaxem.Mixture(np.array([0.5, 0.5]), families.Poisson(np.array([1.0, 8.0])))
    printed = []

    def fit(weights):
        result = jaxem.fit(model, start, x, weights, max_steps=5)
        printed.append(str(result))
        return result

    lanes = jax.vmap(fit)(jnp.ones((2, 6)))
    assert printed[0].startswith("Fit(")
    assert len(str(lanes)) < 500
