"""Every law over every row of the one table, in both float types; and models that break a law are caught."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import FAMILIES, MODELS, ROWS, VARIANTS

import jaxem
from jaxem import families, testing


def cases(table):
    """Return each row with each of its float types; thorough are variants of other rows, and all but the first of the types."""
    return [
        pytest.param(name, dtype, marks=[pytest.mark.thorough] if name in VARIANTS or dtype != row.dtypes[0] else [])
        for name, row in table.items()
        for dtype in row.dtypes
    ]


def test_variants_are_rows_of_the_table():
    assert VARIANTS < MODELS.keys() | FAMILIES.keys()


@pytest.mark.parametrize(("name", "dtype"), cases(MODELS))
def test_every_model_obeys_all_eight_laws(name, dtype):
    testing.check_model(*MODELS[name].build(dtype))


@pytest.mark.parametrize(("name", "dtype"), cases(FAMILIES))
def test_every_family_obeys_the_laws_that_structures_rest_on(name, dtype):
    testing.check_family(*FAMILIES[name].build(dtype))


@pytest.mark.each_time(1)
@pytest.mark.parametrize("name", ["full", "poisson", "normal with a prior", "labels, union, prior"])
def test_the_laws_hold_with_weights_some_of_which_are_zero(name):
    weights = np.where(np.arange(ROWS) % 5 == 4, 0, np.arange(ROWS) % 4 + 0.5)
    testing.check_model(*MODELS[name].build("float64"), weights)


def test_each_law_has_a_checker_of_its_own_with_the_arguments_of_check_model():
    model, params, data = MODELS["full"].build("float64")
    for name in ("linearity", "ascent", "tightness", "stationarity", "fisher_identity", "lanes", "honest_end", "one_voice"):
        getattr(testing, f"check_{name}")(model, params, np.asarray(data).tolist(), np.ones(ROWS), key=3)


# Each breaks a Gaussian mixture, or another model where it says so, in one place.


def with_e_step(model, change):
    """Return `model` whose E-step is `change(stats, log_likelihood, params, data, weights)`."""
    return model._replace(
        e_step=lambda params, data, weights: change(*model.e_step(params, data, weights), params, data, weights)
    )


def with_m_step(model, change):
    """Return `model` whose M-step is `change(new, old)` for components."""

    def m_step(params, stats):
        new = model.m_step(params, stats)
        return new._replace(components=change(new.components, params.components))

    return model._replace(m_step=m_step)


def shift(params):
    return 1e-4 * params.components.mean.sum()


def statistics_that_grow_with_the_largest_weight(model):
    def change(stats, log_likelihood, params, data, weights):
        return stats._replace(counts=stats.counts + 1e-3 * weights.max()), log_likelihood

    return with_e_step(model, change)


def log_likelihood_per_row(model):
    """Linear in the weights, but not a sum over rows: the number of rows comes in."""
    return with_e_step(model, lambda stats, value, params, data, weights: (stats, value * ROWS / weights.shape[0]))


def absent_rows_that_count(model):
    """Something of all rows, absent ones too, that is nothing unless one of them is outlying."""

    def change(stats, value, params, data, weights):
        return stats, value + 1e-30 * jnp.abs(data.x).max() ** 4 * weights.sum()

    return with_e_step(model, change)


def log_likelihood_with_a_term_of_the_parameters(model):
    broken = with_e_step(model, lambda stats, value, p, x, weights: (stats, value + shift(p) * weights.sum()))
    return broken._replace(log_prob=lambda params, data: model.log_prob(params, data) + shift(params))


def covariances_that_grow(model):
    return with_m_step(model, lambda new, old: new._replace(covariance=1.2 * old.covariance))


def covariances_two_percent_off(model):
    return with_m_step(model, lambda new, old: new._replace(covariance=1.02 * new.covariance))


def a_ridge_of_a_millionth(model):
    def ridge(new, old):
        return new._replace(covariance=new.covariance + 1e-6 * new.covariance * jnp.eye(2)[None])

    return with_m_step(model, ridge)


def proportions_swapped_in_log_prob(model):
    return model._replace(log_prob=lambda params, data: model.log_prob(params._replace(weights=params.weights[::-1]), data))


def expected_log_joint_without_proportions(model):
    def expected_log_joint(params, stats):
        even = params._replace(weights=jnp.full_like(params.weights, 1 / params.weights.size))
        return model.expected_log_joint(even, stats)

    return model._replace(expected_log_joint=expected_log_joint, posterior=None, m_step=lambda params, stats: params)


def a_derivative_rule_that_is_too_large(model):
    """The density as it is, the hand-written rule of its derivative a tenth too large, in E-step and bound alike."""

    @jax.custom_jvp
    def as_it_is(params):
        return params

    @as_it_is.defjvp
    def too_much(primals, tangents):
        return primals[0], jax.tree.map(lambda tangent: 1.1 * tangent, tangents[0])

    return model._replace(
        e_step=lambda params, data, weights: model.e_step(as_it_is(params), data, weights),
        expected_log_joint=lambda params, stats: model.expected_log_joint(as_it_is(params), stats),
    )


def steps_that_depend_on_other_lanes(model):
    @jax.custom_batching.custom_vmap
    def identity(x):
        return x

    @identity.def_vmap
    def across(axis_size, in_batched, x):
        return x + 1e-3 * x[:1], True

    return with_m_step(model, lambda new, old: new._replace(mean=identity(new.mean)))


def nan_that_is_hidden(model):
    def e_step(params, data, weights):
        return model.e_step(params, jax.tree.map(jnp.nan_to_num, data), weights)

    return model._replace(e_step=e_step)


def a_floor_that_is_always_said_to_hold(model):
    return model._replace(degenerate=lambda params, stats: jnp.asarray(True))


def statistics_doubled(model):
    def statistics(params, data, weights, posterior):
        return jax.tree.map(lambda leaf: 2 * leaf, model.statistics(params, data, weights, posterior))

    return model._replace(statistics=statistics)


def posterior_with_columns_reversed(model):
    return model._replace(posterior=lambda params, data: model.posterior(params, data)[:, ::-1])


def init_of_nan(model):
    return model._replace(init=lambda *given: jax.tree.map(lambda leaf: leaf * jnp.nan, model.init(*given)))


def init_off_the_simplex(model):
    def init(*given):
        start = model.init(*given)
        return start._replace(weights=1.1 * start.weights)

    return model._replace(init=init)


def sample_with(model, change):
    return model._replace(sample=lambda key, params, like: change(*model.sample(key, params, like), params))


def sample_of_zeros(model):
    return sample_with(model, lambda data, labels, params: (jnp.zeros_like(data), labels))


def sample_of_half_the_rows(model):
    return sample_with(model, lambda data, labels, params: (data[::2], labels[::2]))


def sample_too_wide(model):
    def widen(data, labels, params):
        mean = params.components.mean[labels]
        return mean + 1.5 * (data - mean), labels

    return sample_with(model, widen)


def sample_with_labels_swapped(model):
    return sample_with(model, lambda data, labels, params: (data, 1 - labels))


def a_first_component_that_is_favoured(model):
    """The first component's log-density is higher by a constant, in all functions alike."""

    def favoured(params):
        tilted = params.weights * jnp.array([1.5, 1.0], params.weights.dtype)
        return params._replace(weights=tilted)

    return model._replace(
        e_step=lambda params, data, weights: model.e_step(favoured(params), data, weights),
        log_prob=lambda params, data: model.log_prob(favoured(params), data),
        posterior=lambda params, data: model.posterior(favoured(params), data),
        expected_log_joint=lambda params, stats: model.expected_log_joint(favoured(params), stats),
        sample=None,
    )


IN_ANY_MODEL = [  # and so in one that compiles fast
    (proportions_swapped_in_log_prob, "tightness", "Law 3.*log_prob"),
    (expected_log_joint_without_proportions, "tightness", "Law 3.*exceeds"),
    (expected_log_joint_without_proportions, "fisher_identity", "Law 5.*weights"),
    (a_derivative_rule_that_is_too_large, "fisher_identity", "Law 5.*direction"),
    (log_likelihood_per_row, "linearity", "Law 1.*left out"),
    (absent_rows_that_count, "linearity", "Law 1.*outlying"),
    (a_floor_that_is_always_said_to_hold, "honest_end", "Law 7.*degenerate"),
    (statistics_doubled, "one_voice", "Law 8.*statistics"),
    (posterior_with_columns_reversed, "one_voice", "Law 8.*statistics of the posterior"),
    (init_of_nan, "one_voice", "Law 8.*init"),
    (init_off_the_simplex, "one_voice", "Law 8.*init.*simplex"),
    (sample_of_zeros, "one_voice", "Law 8.*sample"),
    (sample_of_half_the_rows, "one_voice", "Law 8.*sample"),
    (sample_with_labels_swapped, "one_voice", "Law 8.*latents"),
    (a_first_component_that_is_favoured, "one_voice", "Law 8.*permutation"),
]

BROKEN = [
    (statistics_that_grow_with_the_largest_weight, "linearity", "Law 1.*counts"),
    (covariances_that_grow, "ascent", "Law 2"),
    (log_likelihood_with_a_term_of_the_parameters, "ascent", "Law 2"),
    (log_likelihood_with_a_term_of_the_parameters, "tightness", "Law 3"),
    (log_likelihood_with_a_term_of_the_parameters, "fisher_identity", "Law 5"),
    (covariances_two_percent_off, "stationarity", "Law 4.*covariance"),
    (steps_that_depend_on_other_lanes, "lanes", "Law 6"),
    (nan_that_is_hidden, "honest_end", "Law 7.*NaN"),
    (sample_too_wide, "one_voice", "Law 8.*sample.*covariance"),
]


EACH_BROKEN = [
    *(("diag", *case) for case in BROKEN),
    ("full", a_ridge_of_a_millionth, "stationarity", "Law 4.*covariance"),
    *(("poisson", *case) for case in IN_ANY_MODEL),
]


@pytest.mark.parametrize(("name", "broken", "law", "message"), EACH_BROKEN)
def test_a_checker_catches_a_model_that_breaks_its_law_and_names_it(name, broken, law, message):
    model, params, data = MODELS[name].build("float64")
    with pytest.raises(AssertionError, match=f"(?s){message}"):
        getattr(testing, f"check_{law}")(broken(model), params, data)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("broken", [covariances_two_percent_off, statistics_doubled, init_of_nan, sample_of_zeros])
def test_check_model_catches_broken_models_in_float32_too(broken):
    model, params, data = MODELS["full"].build("float32")
    with pytest.raises(AssertionError, match=r"Law [48]"):
        testing.check_model(broken(model), params, data)


@pytest.mark.each_time(2)
@pytest.mark.parametrize("name", ["full, tiny units", "full, large units"])
@pytest.mark.parametrize("broken", [covariances_two_percent_off, a_ridge_of_a_millionth])
def test_units_of_the_data_do_not_blunt_the_checks(broken, name):
    model, params, data = MODELS[name].build("float64")
    with pytest.raises(AssertionError, match=r"Law 4.*covariance"):
        testing.check_stationarity(broken(model), params, data)


def test_statistics_off_in_tiny_units_are_caught():
    """An absolute floor of one under the tolerance would let pass whatever is done to shifts of a millionth."""

    def change(stats, value, params, data, weights):
        moved = stats.components._replace(shift=stats.components.shift + 1e-9 * weights.max())
        return stats._replace(components=moved), value

    model, params, data = MODELS["full, tiny units"].build("float64")
    with pytest.raises(AssertionError, match=r"Law 1.*shift"):
        testing.check_linearity(with_e_step(model, change), params, data)


def test_an_m_step_that_cannot_rise_is_told_the_cures():
    """Steps of a set length, all far too long: the M-step ends where it began, though F could rise."""
    model, params, data = MODELS["full"].build("float64")
    stuck = jaxem.gradient_m_step(model, optax.sgd(1e6), 1)
    with pytest.raises(AssertionError, match=r"Law 4.*num_steps.*nearer"):
        testing.check_stationarity(stuck, params, data)


def test_a_climb_from_far_away_that_rises_is_sound():
    model, _, data = MODELS["from_log_joint"].build("float64")
    far = {"logits": jnp.array([3.0, -3.0]), "loc": jnp.array([-300.0, 500.0]), "log_scale": jnp.array([5.0, -2.0])}
    testing.check_stationarity(model, far, data)


def test_a_climb_that_falls_is_caught():
    model, params, data = MODELS["gradient M-step"].build("float64")
    with pytest.raises(AssertionError, match=r"Law 4.*lowers"):
        testing.check_stationarity(
            with_m_step(model, lambda new, old: old._replace(covariance=3 * old.covariance)), params, data
        )


def test_a_start_from_which_nothing_is_possible_is_refused():
    model, params, data = MODELS["bernoulli, a column of ones"].build("float64")
    zeros = params._replace(components=families.Bernoulli(jnp.zeros_like(params.components.probs)))
    with pytest.raises(AssertionError, match="-inf at the given params"):
        testing.check_model(model, zeros, data)


# Families: each breaks the Poisson family in one place.


def family_with(family, change_statistics=lambda stats, responsibilities: stats, change_log_prob=lambda log_prob: log_prob):
    def evaluate(params, x):
        log_prob, statistics = family.evaluate(params, x)
        return change_log_prob(log_prob), lambda responsibilities: change_statistics(
            statistics(responsibilities), responsibilities
        )

    return family._replace(evaluate=evaluate)


BROKEN_FAMILIES = {
    "Linearity": lambda f: family_with(f, lambda stats, r: stats._replace(counts=stats.counts + 1e-3 * r.max())),
    "Tightness": lambda f: family_with(f, change_log_prob=lambda log_prob: log_prob + 1e-6),
    "Stationarity": lambda f: f._replace(m_step=lambda *given: families.Poisson(f.m_step(*given).rate * (1 + 1e-6))),
    "Init": lambda f: f._replace(init=lambda x, r: families.Poisson(-f.init(x, r).rate)),
    "Sample": lambda f: f._replace(sample=lambda key, params, labels, like: jnp.zeros_like(like.x)),
}


@pytest.mark.parametrize("law", BROKEN_FAMILIES)
def test_check_family_catches_a_family_that_breaks_one_law_and_names_it(law):
    family, params, x = FAMILIES["poisson"].build("float64")
    with pytest.raises(AssertionError, match=law):
        testing.check_family(BROKEN_FAMILIES[law](family), params, x)


def test_check_family_catches_a_gradient_that_is_not_that_of_the_density():
    """Right in value at the params of the statistics, wrong beside them."""
    family, params, x = FAMILIES["poisson"].build("float64")

    def expected_log_prob(theta, stats):
        held = jax.tree.map(jax.lax.stop_gradient, theta)
        return family.expected_log_prob(held, stats) + 0.9 * (
            family.expected_log_prob(theta, stats) - family.expected_log_prob(held, stats)
        )

    with pytest.raises(AssertionError, match="Fisher"):
        testing.check_family(family._replace(expected_log_prob=expected_log_prob), params, x)


def test_check_family_catches_a_component_that_is_favoured():
    family, params, x = FAMILIES["exponential"].build("float64")

    def evaluate(params, x):
        log_prob, statistics = family.evaluate(params, x)
        return log_prob + jnp.array([[0.0, 0.1]]), statistics

    def expected_log_prob(params, stats):
        return family.expected_log_prob(params, stats) + 0.1 * stats[0][1]

    broken = family._replace(evaluate=evaluate, expected_log_prob=expected_log_prob)
    with pytest.raises(AssertionError, match="Permutation"):
        testing.check_family(broken, params, x)


def test_check_family_refuses_responsibilities_of_another_shape():
    family, params, x = FAMILIES["poisson"].build("float64")
    with pytest.raises(ValueError, match=rf"responsibilities has shape \({ROWS}, 3\), needs \({ROWS}, 2\)"):
        testing.check_family(family, params, x, np.ones((ROWS, 3)))
