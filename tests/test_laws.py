"""Every law over every model, from one table, in both float types; and models that break a law are caught."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import constraints, families


def two_clusters(dim, dtype):
    rng = np.random.default_rng(3)
    labels = rng.integers(2, size=60)
    return jnp.asarray(rng.normal(size=(60, dim)) * (1 + labels[:, None]) + 3 * labels[:, None], dtype)


def counts(dim, dtype):
    rng = np.random.default_rng(4)
    return jnp.asarray(rng.poisson(np.where(rng.random(60) < 0.5, 2, 7)[:, None], (60, dim)), dtype)


def binary(dim, dtype):
    rng = np.random.default_rng(5)
    return jnp.asarray(rng.random((60, dim)) < np.where(rng.random(60) < 0.5, 0.2, 0.7)[:, None], dtype)


def log_joint(params, x, z):
    log_density = jax.scipy.stats.t.logpdf(x, jnp.asarray(4, x.dtype), params["loc"][z], jnp.exp(params["log_scale"][z]))
    return jax.nn.log_softmax(params["logits"])[z] + log_density


def drawn(model, data):
    return model, model.init(jax.random.key(1), data), data


def gaussian(covariance, num_components, dim, dtype):
    return drawn(jaxem.mixture(families.gaussian(covariance), num_components), two_clusters(dim, dtype))


def own_model(dtype):
    params = {"logits": jnp.zeros(2, dtype), "loc": jnp.array([0, 3], dtype), "log_scale": jnp.zeros(2, dtype)}
    return jaxem.from_log_joint(log_joint, num_states=2), params, two_clusters(1, dtype)[:, 0]


def own_model_on_the_simplex(dtype):
    def log_joint(params, x, z):
        return jnp.log(params["weights"][z]) + x * jnp.log(params["rate"][z]) - params["rate"][z] - jax.lax.lgamma(x + 1)

    domain = {"weights": constraints.simplex, "rate": constraints.positive}
    params = {"weights": jnp.array([0.4, 0.6], dtype), "rate": jnp.array([2, 6], dtype)}
    return jaxem.from_log_joint(log_joint, num_states=2, constraints=domain), params, counts(1, dtype)[:, 0]


def climbing(dtype):
    model, params, data = gaussian("full", 2, 2, dtype)
    return jaxem.gradient_m_step(model), params, data


MODELS = {
    "full": lambda dtype: gaussian("full", 2, 2, dtype),
    "full, one component": lambda dtype: gaussian("full", 1, 3, dtype),
    "tied": lambda dtype: gaussian("tied", 2, 6, dtype),
    "diag": lambda dtype: gaussian("diag", 2, 2, dtype),
    "diag, by products": lambda dtype: gaussian("diag", 3, 6, dtype),
    "spherical": lambda dtype: gaussian("spherical", 2, 6, dtype),
    "poisson": lambda dtype: drawn(jaxem.mixture(families.poisson(), 2), counts(1, dtype)[:, 0]),
    "poisson, three columns": lambda dtype: drawn(jaxem.mixture(families.poisson(), 2), counts(3, dtype)),
    "bernoulli": lambda dtype: drawn(jaxem.mixture(families.bernoulli(), 2), binary(4, dtype)),
    "bernoulli, a column of zeros": lambda dtype: drawn(
        jaxem.mixture(families.bernoulli(), 2), binary(3, dtype).at[:, 1].set(0)
    ),
    "bernoulli, a column of ones": lambda dtype: drawn(
        jaxem.mixture(families.bernoulli(), 2), binary(3, dtype).at[:, 1].set(1)
    ),
    "poisson, a column of zeros": lambda dtype: drawn(jaxem.mixture(families.poisson(), 2), counts(3, dtype).at[:, 1].set(0)),
    "chunked": lambda dtype: drawn(jaxem.chunked(jaxem.mixture(families.gaussian(), 2), 7), two_clusters(2, dtype)),
    "gradient M-step": climbing,
    "from_log_joint": own_model,
    "from_log_joint, constrained": own_model_on_the_simplex,
}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_obeys_all_seven_laws(name, dtype):
    model, params, data = MODELS[name](dtype)
    jaxem.testing.check_model(model, params, data)


@pytest.mark.parametrize("name", ["full", "poisson"])
def test_the_laws_hold_with_weights(name):
    model, params, data = MODELS[name]("float64")
    jaxem.testing.check_model(model, params, data, np.arange(60) % 4 + 0.5)


def scaled(tree, factor):
    return jax.tree.map(lambda leaf: factor * leaf, tree)


def broken_linearity(model):
    def e_step(params, data, weights):
        stats, log_likelihood = model.e_step(params, data, weights)
        return stats._replace(counts=stats.counts + 1e-3 * weights.max()), log_likelihood

    return model._replace(e_step=e_step)


def broken_log_likelihood(model):
    """The log-likelihood and log_prob both shifted by a function of the parameters."""

    def shift(params):
        return 1e-4 * params.components.mean.sum()

    def e_step(params, data, weights):
        stats, log_likelihood = model.e_step(params, data, weights)
        return stats, log_likelihood + shift(params) * weights.sum()

    return model._replace(e_step=e_step, log_prob=lambda params, data: model.log_prob(params, data) + shift(params))


def broken_ascent(model):
    """Covariances that grow by a fifth at each M-step."""

    def m_step(params, stats):
        new = model.m_step(params, stats)
        return new._replace(components=new.components._replace(covariance=1.2 * params.components.covariance))

    return model._replace(m_step=m_step)


def broken_m_step(leaf):
    """One leaf of the M-step two percent off."""

    def m_step(params, stats, model):
        new = model.m_step(params, stats)
        return new._replace(components=new.components._replace(**{leaf: 1.02 * getattr(new.components, leaf)}))

    return lambda model: model._replace(m_step=lambda params, stats: m_step(params, stats, model))


def broken_log_prob(model):
    return model._replace(log_prob=lambda params, data: model.log_prob(params._replace(weights=params.weights[::-1]), data))


def broken_fisher(model):
    """E_Q[log p(x, z | θ)] without the mixing proportions."""

    def expected_log_joint(params, stats):
        even = params._replace(weights=jnp.full_like(params.weights, 1 / params.weights.size))
        return model.expected_log_joint(even, stats)

    return model._replace(expected_log_joint=expected_log_joint, posterior=None, m_step=lambda params, stats: params)


def broken_status(model):
    """An E-step that hides NaN."""

    def e_step(params, data, weights):
        return model.e_step(params, jnp.nan_to_num(data), weights)

    return model._replace(e_step=e_step)


BROKEN = {
    "Law 1": broken_linearity,
    "Law 3": broken_log_prob,
    "Law 2": broken_ascent,
    "Law 4": broken_m_step("covariance"),
    "Law 7": broken_status,
}


@pytest.mark.parametrize("law", BROKEN)
def test_check_model_catches_a_model_that_breaks_one_law_and_names_it(law):
    model, params, data = MODELS["full"]("float64")
    with pytest.raises(AssertionError, match=law):
        jaxem.testing.check_model(BROKEN[law](model), params, data)


def test_check_model_catches_means_two_percent_off_which_break_two_laws():
    model, params, data = MODELS["full"]("float64")
    broken = broken_m_step("mean")(model)
    with pytest.raises(AssertionError, match="Law 2"):
        jaxem.testing.check_model(broken, params, data)
    with pytest.raises(AssertionError, match="Law 4"):
        jaxem.testing.check_stationarity(broken, params, data, jnp.ones(60))


def test_check_model_catches_a_log_likelihood_shifted_by_a_function_of_the_parameters():
    model, params, data = MODELS["full"]("float64")
    with pytest.raises(AssertionError, match="Law 3"):
        jaxem.testing.check_model(broken_log_likelihood(model), params, data)
    with pytest.raises(AssertionError, match="Law 5"):
        jaxem.testing.check_fisher_identity(broken_log_likelihood(model), params, data, jnp.ones(60))


def test_fisher_identity_catches_an_expected_log_joint_that_lacks_a_term():
    model, params, data = MODELS["full"]("float64")
    params = model.m_step(params, model.e_step(params, data, jnp.ones(60))[0])
    with pytest.raises(AssertionError, match=r"Law 5.*weights"):
        jaxem.testing.check_fisher_identity(broken_fisher(model), params, data, jnp.ones(60))


def test_lane_check_catches_a_model_whose_steps_depend_on_the_other_lanes():
    model, params, data = MODELS["full"]("float64")

    @jax.custom_batching.custom_vmap
    def identity(x):
        return x

    @identity.def_vmap
    def across(axis_size, in_batched, x):
        return x + 1e-3 * x[:1], True

    def m_step(params, stats):
        new = model.m_step(params, stats)
        return new._replace(components=new.components._replace(mean=identity(new.components.mean)))

    with pytest.raises(AssertionError, match="Law 6"):
        jaxem.testing.check_lanes(model._replace(m_step=m_step), [params, params], data, jnp.ones(60))
