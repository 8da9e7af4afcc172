"""Values that are missing: how they are told, and independent columns, against plain loops over what was observed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from plain_em import bernoulli_log_mass, e_step, poisson_log_mass
from test_product import Frame

import jaxem
from jaxem import Status, families
from jaxem.families import Observed
from jaxem.families.middles import median_of_observed

NAN = np.nan


@pytest.mark.parametrize(
    ("x", "expected"),
    {
        "NaN": ([[1.0, NAN], [NAN, -1.0]], [[True, False], [False, True]]),
        "None": ([[1, None], [2, 3]], [[True, False], [True, True]]),
        "codes": (np.array([0, -1, 2]), [True, False, True]),
        "masked": (np.ma.MaskedArray([1.0, 2.0, NAN], [False, True, False]), [True, False, False]),
        "booleans": ([True, False], [True, True]),
        "columns": (Frame({"a": np.array([1.0, NAN]), "b": [0, 1]}), [[True, True], [False, True]]),
    }.values(),
)
def test_what_is_missing_is_told_by_nan_none_masks_and_codes_below_zero(x, expected):
    np.testing.assert_array_equal(families.observed(x).mask, expected)


def test_parts_are_observed_one_by_one_and_once():
    parts = families.observed({"a": [1.0, NAN], "b": np.array([[-1], [0]])})
    np.testing.assert_array_equal(parts["a"].mask, [True, False])
    np.testing.assert_array_equal(parts["b"].mask, [[False], [True]])
    assert families.observed(parts["a"]) is parts["a"]


def test_entries_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="x has entries that are no numbers"):
        families.observed([["red", None]])


RNG = np.random.default_rng(0)
COUNTS = np.where(RNG.random((40, 3)) < 0.7, RNG.poisson([2, 5, 9], (40, 3)), NAN)
COUNTS[3] = NAN
WEIGHTS = RNG.uniform(0, 2, 40)
CASES = {
    "poisson": (families.poisson(), families.Poisson(jnp.array([[1.0, 4, 9], [3, 6, 8]])), COUNTS, poisson_log_mass),
    "bernoulli": (
        families.bernoulli(),
        families.Bernoulli(jnp.array([[0.2, 0.6, 0.5], [0.5, 0.3, 0.9]])),
        np.where(np.isnan(COUNTS), NAN, COUNTS > 4),
        bernoulli_log_mass,
    ),
}


@pytest.mark.parametrize(("family", "components", "x", "log_mass"), CASES.values(), ids=CASES)
def test_an_em_step_looks_at_what_was_observed_alone(family, components, x, log_mass):
    model, params = jaxem.mixture(family, 2), jaxem.Mixture(jnp.array([0.4, 0.6]), components)
    table = np.asarray(components[0])

    def log_density(row, k):
        seen = ~np.isnan(row)
        return log_mass(row[seen], table[k][seen])

    r, expected = e_step(x, WEIGHTS, [0.4, 0.6], log_density)
    stats, received = model.e_step(params, families.observed(x), jnp.asarray(WEIGHTS))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    new = model.m_step(params, stats)
    np.testing.assert_allclose(new.weights, r.sum(0) / r.sum(), rtol=1e-12)
    for k in range(2):
        for j in range(3):
            seen = ~np.isnan(x[:, j])
            np.testing.assert_allclose(new.components[0][k, j], r[seen, k] @ x[seen, j] / r[seen, k].sum(), rtol=1e-12)
    np.testing.assert_array_equal(model.log_prob(params, families.observed(x))[3], 0)
    np.testing.assert_allclose(model.posterior(params, families.observed(x))[3], [0.4, 0.6], rtol=1e-14)


def test_a_column_that_a_component_has_seen_nothing_of_keeps_its_parameters():
    for family, components, x, _ in CASES.values():
        data = families.observed(np.where(np.arange(40)[:, None] < 20, x, np.where([True, False, True], x, NAN)))
        labels = families.Labelled(data, (np.arange(40) >= 20).astype(int))
        model = jaxem.mixture(families.labelled(family), 2)
        params = jaxem.Mixture(jnp.array([0.4, 0.6]), components)
        new = model.m_step(params, model.e_step(params, labels, jnp.ones(40))[0])
        assert new.components[0][1, 1] == components[0][1, 1]
        assert new.components[0][0, 1] != components[0][0, 1]


def test_latent_classes_of_votes_with_holes_are_those_of_stepmix(reference):
    expected = reference("lca_housevotes_nan_2")["expected"]
    votes, _ = jaxem.datasets.house_votes()
    model = jaxem.mixture(families.bernoulli(), 2)
    search = jaxem.fit_restarts(model, 0, families.observed(votes), num_restarts=8, num_continued=8)
    best = jax.tree.map(np.asarray, search.best)
    assert best.status == Status.CONVERGED
    assert jaxem.num_reached(search) >= 4
    np.testing.assert_allclose(best.log_likelihood, expected["loglik"], atol=1e-4)
    order = np.argsort(-best.params.weights)
    np.testing.assert_allclose(best.params.weights[order], expected["weights"], rtol=1e-3)
    np.testing.assert_allclose(best.params.components.probs[order], expected["theta"], rtol=1e-3, atol=1e-5)
    assert jaxem.num_free_parameters(model, best.params) == expected["n_params"]


@pytest.mark.parametrize("kind", ["poisson", "exponential"])
def test_columns_with_holes_may_have_priors_of_their_own(kind):
    constructor, prior = getattr(families, kind), families.GammaPrior((3.0, 1.0, 2.0), 0.5)
    family, params = constructor(prior), constructor(prior).constraints._replace(rate=CASES["poisson"][1].rate)
    r, seen = np.random.default_rng(1).dirichlet(np.ones(2), 40), ~np.isnan(COUNTS)
    rows = family.prepare(families.observed(COUNTS), None)
    new = jax.jit(lambda x: family.m_step(params, family.evaluate(params, x)[1](jnp.asarray(r))))(rows)
    for k in range(2):
        for j in range(3):
            number, total = r[seen[:, j], k].sum(), r[seen[:, j], k] @ COUNTS[seen[:, j], j]
            events, exposure = (total, number) if kind == "poisson" else (number, total)
            np.testing.assert_allclose(new.rate[k, j], (events + prior.shape[j] - 1) / (exposure + 0.5), rtol=1e-12)
    wrong = constructor(families.GammaPrior((3.0, 1.0), 0.5))
    with pytest.raises(ValueError, match="prior has 2 numbers, needs one, or 3: one for each column"):
        wrong.init(rows, jnp.asarray(r))


def test_a_frame_with_holes_serves_a_product_by_name():
    columns = {"count": COUNTS[:, 0], "yes": np.where(np.isnan(COUNTS[:, 1]), NAN, COUNTS[:, 1] > 4)}
    model = jaxem.mixture(families.product(count=families.poisson(), yes=families.bernoulli()), 2)
    params = jaxem.Mixture([0.4, 0.6], {"count": families.Poisson([2.0, 5.0]), "yes": families.Bernoulli([0.2, 0.7])})
    received = model.log_prob(params, families.observed(Frame(columns)))
    np.testing.assert_array_equal(received, model.log_prob(params, families.observed(columns)))


def test_samples_like_data_with_holes_have_the_same_holes():
    for family, components, x, _ in CASES.values():
        model = jaxem.mixture(family, 2)
        drawn, _ = model.sample(jax.random.key(0), jaxem.Mixture([0.4, 0.6], components), families.observed(x))
        assert isinstance(drawn, Observed)
        np.testing.assert_array_equal(drawn.mask, ~np.isnan(x))
        np.testing.assert_array_equal(np.isnan(drawn.values), np.isnan(x))


REFUSED = {
    "NaN": (COUNTS, r"NaN or infinite values \(columns \[0, 1, 2\]\): where NaN is missing, say so by families\.observed"),
    "a mask of numbers": (Observed(COUNTS, (~np.isnan(COUNTS)).astype(int)), "mask has dtype int64 .*needs booleans"),
    "a mask of other shape": (Observed(COUNTS, ~np.isnan(COUNTS[:, :2])), r"mask has .*shape \(40, 2\), needs .*\(40, 3\)"),
    "a mask that hides too little": (Observed(COUNTS, np.ones((40, 3), bool)), "NaN or infinite"),
    "nothing of a column": (
        families.observed(np.where([True, False, True], COUNTS, NAN)),
        r"columns \[1\] have no observed value in rows of positive weight: drop them",
    ),
    "no counts": (families.observed(COUNTS - 0.5), "counts, whole numbers ≥ 0"),
}


@pytest.mark.parametrize(("data", "message"), REFUSED.values(), ids=REFUSED)
def test_data_that_say_otherwise_are_refused(data, message):
    model = jaxem.mixture(families.poisson(), 2)
    with pytest.raises(ValueError, match=message):
        jaxem.fit(model, jaxem.Mixture([0.4, 0.6], CASES["poisson"][1]), data)


@pytest.mark.parametrize("event", [(), (3,)])
def test_what_fills_a_column_is_a_value_seen_in_it_however_few_there_are(event):
    """The last column is seen in one row alone, which is not among the rows that are looked at."""
    x = np.random.default_rng(0).normal(size=(5000, *event))
    seen = np.ones(x.shape, bool)
    seen[:2000] = False
    if event:
        seen[:, -1] = np.arange(5000) == 3000
    received = np.asarray(median_of_observed(jnp.asarray(x), jnp.asarray(seen)))
    assert received.shape == (1, *event)
    columns, kept = x.reshape(5000, -1), seen.reshape(5000, -1)
    for j, value in enumerate(received.ravel()):
        among = np.sort(columns[kept[:, j], j])
        assert value in among
        assert abs(np.searchsorted(among, value) / len(among) - 0.5) < 0.1 or len(among) == 1
    assert not median_of_observed(jnp.asarray(x), jnp.zeros(x.shape, bool)).any()
