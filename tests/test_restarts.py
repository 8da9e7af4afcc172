"""Many starts: the best is found, the bad are reported, and no lane differs from a fit on its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem import Status, families
from jaxem.race import evenly

MODEL = jaxem.mixture(families.gaussian(), 3)
EM = jaxem.em()  # the default, SQUAREM, compiles for twice as long: where the solver matters it is left out


def names(fits):
    return [Status(int(status)).name for status in fits.status]


@pytest.mark.thorough
def test_sixty_four_starts_find_the_rare_maximum_of_old_faithful(reference):
    expected = reference("restarts_faithful_VVV_3")["expected"]["loglik"]
    searches = [jaxem.fit_restarts(MODEL, jax.random.key(seed), jaxem.datasets.faithful()) for seed in range(10)]
    found = np.array([search.best.log_likelihood for search in searches])
    assert np.sum(np.abs(found - expected) < 1e-3) >= 9
    assert max(found) < expected + 1e-3


@pytest.mark.thorough
def test_on_iris_collapsed_starts_do_not_win():
    searches = [jaxem.fit_restarts(MODEL, jax.random.key(seed), jaxem.datasets.iris()) for seed in range(10)]
    assert all(search.best.status == Status.CONVERGED for search in searches)
    found = np.array([search.best.log_likelihood for search in searches])
    assert np.sum(np.abs(found - -180.18548) < 1e-4) >= 9


def two_clouds_and_a_repeated_row():
    """Two clouds and, between them, five copies of one row: a component that settles there collapses."""
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(60, 2)), rng.normal(size=(60, 2)) + 6, np.tile([[2.5, 2.5]], (5, 1))]
    return jnp.asarray(np.concatenate(rows))


@pytest.mark.thorough
def test_degenerate_starts_are_reported_and_the_best_is_not_one_of_them():
    data = two_clouds_and_a_repeated_row()
    restarts = jaxem.fit_restarts(MODEL, jax.random.key(0), data, num_restarts=32, num_continued=32, solver=EM)
    statuses = np.array(restarts.fits.status)
    assert (statuses == Status.DEGENERATE).any()
    assert restarts.best.status == Status.CONVERGED
    degenerate = np.array(restarts.fits.log_likelihood)[statuses == Status.DEGENERATE]
    assert degenerate.max() > restarts.best.log_likelihood
    assert np.isfinite(degenerate).all()


@pytest.mark.each_time(1)
@pytest.mark.parametrize("num_continued", [None, 1])
def test_when_all_that_go_on_degenerate_the_next_go_on_as_well(num_continued):
    data = two_clouds_and_a_repeated_row()
    restarts = jaxem.fit_restarts(MODEL, jax.random.key(0), data, num_restarts=32, num_continued=num_continued, solver=EM)
    assert restarts.best.status == Status.CONVERGED
    assert "DEGENERATE" in names(restarts.fits)


@pytest.mark.thorough
def test_nonfinite_starts_are_reported_and_do_not_win():
    x = jaxem.datasets.faithful()

    def init(key, data, weights=None):
        params = MODEL.init(key, data, weights)
        bad = jax.random.uniform(key, dtype=data.x.dtype) < 0.5
        return params._replace(weights=jnp.where(bad, jnp.nan, params.weights))

    restarts = jaxem.fit_restarts(MODEL._replace(init=init), jax.random.key(0), x, num_restarts=8, num_continued=8, solver=EM)
    assert {"NONFINITE", "CONVERGED"} == set(names(restarts.fits))
    assert restarts.best.status == Status.CONVERGED


@pytest.mark.thorough
def test_when_all_starts_fail_the_best_says_so():
    x = jaxem.datasets.faithful()

    def init(key, data, weights=None):
        return jax.tree.map(lambda leaf: leaf * jnp.nan, MODEL.init(key, data, weights))

    restarts = jaxem.fit_restarts(MODEL._replace(init=init), jax.random.key(0), x, num_restarts=3, solver=EM)
    assert restarts.best.status == Status.NONFINITE


@pytest.mark.each_time(1)
@pytest.mark.parametrize("num_lanes", [1, 3, 7])
def test_each_start_ends_as_a_fit_on_its_own_would(num_lanes):
    x, key = jaxem.datasets.faithful(), jax.random.key(5)
    fits = jaxem.fit_restarts(MODEL, key, x, num_restarts=7, num_continued=7, num_lanes=num_lanes, tol=1e-4, max_steps=300).fits
    for start, start_key in enumerate(jax.random.split(key, 7)):
        alone = jaxem.fit(MODEL, MODEL.init(start_key, x), x, solver=jaxem.squarem(), tol=1e-4, max_steps=300)
        assert fits.num_steps[start] == alone.num_steps
        assert fits.status[start] == alone.status
        assert fits.num_evaluations[start] == alone.num_evaluations
        np.testing.assert_allclose(fits.history[start], alone.history, rtol=1e-11)
        np.testing.assert_allclose(fits.params.components.mean[start], alone.params.components.mean, rtol=1e-6)


@pytest.mark.thorough
def test_the_most_promising_go_on_and_the_others_end_where_their_short_runs_did():
    x, key = jaxem.datasets.faithful(), jax.random.key(6)
    restarts = jaxem.fit_restarts(MODEL, key, x, num_restarts=8, num_continued=2, short_steps=5, solver=EM)
    short = [
        float(jaxem.fit(MODEL, MODEL.init(k, x), x, tol=-np.inf, max_steps=4).log_likelihood) for k in jax.random.split(key, 8)
    ]
    promising = set(np.argsort(short)[-2:])
    for start, name in enumerate(names(restarts.fits)):
        assert name == ("CONVERGED" if start in promising else "NOT_CONTINUED")
        if start not in promising:
            assert restarts.fits.num_steps[start] == 4
            np.testing.assert_allclose(restarts.fits.log_likelihood[start], short[start], rtol=1e-12)
            params = jax.tree.map(lambda leaf, start=start: leaf[start], restarts.fits.params)
            np.testing.assert_allclose(MODEL.e_step(params, x, jnp.ones(272))[1], short[start], rtol=1e-12)


@pytest.mark.thorough
def test_starts_and_ends_with_integer_weights_are_those_of_rows_repeated():
    x, weights = jaxem.datasets.faithful(), np.arange(272) % 3
    repeated = np.repeat(np.asarray(x), weights, axis=0)
    received, expected = (
        jaxem.fit_restarts(MODEL, jax.random.key(0), *data, num_restarts=16, num_continued=16, solver=EM).fits
        for data in ((x, weights), (repeated,))
    )
    np.testing.assert_allclose(received.log_likelihood, expected.log_likelihood, rtol=1e-8)
    np.testing.assert_allclose(received.params.components.mean, expected.params.components.mean, rtol=1e-3)


@pytest.mark.thorough
def test_lane_efficiency_is_the_share_of_paid_steps_that_were_needed():
    x = jaxem.datasets.faithful()
    alone = jaxem.fit_restarts(MODEL, jax.random.key(0), x, num_restarts=5, num_continued=5, num_lanes=1, solver=EM)
    assert alone.lane_efficiency == 1
    together = jaxem.fit_restarts(MODEL, jax.random.key(0), x, num_restarts=5, num_continued=5, num_lanes=5, solver=EM)
    steps = np.array(together.fits.num_evaluations)
    np.testing.assert_allclose(together.lane_efficiency, steps.mean() / steps.max(), rtol=1e-6)


def test_restarts_run_inside_the_users_jit():
    x = jaxem.datasets.faithful()
    search = jax.jit(lambda key: jaxem.fit_restarts(MODEL, key, x, num_restarts=16, solver=EM))
    restarts = search(jax.random.key(0))
    assert restarts.best.status == Status.CONVERGED
    assert restarts.fits.log_likelihood.shape == (16,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_restarts": 0}, "num_restarts must be at least 1, got 0"),
        ({"short_steps": 0}, "short_steps must be at least 1"),
        ({"num_restarts": 4, "num_continued": 5}, "num_continued must not exceed num_restarts=4, got 5"),
        ({"num_lanes": 0}, "num_lanes must be at least 1"),
        ({"num_restarts": 2.5}, "num_restarts must be a whole number"),
        ({"tol": float("nan")}, "tol must be a number of nats .* got nan"),
        ({"max_steps": -1}, "max_steps must be a whole number"),
    ],
)
def test_bad_counts_are_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxem.fit_restarts(MODEL, jax.random.key(0), jaxem.datasets.faithful(), **arguments)


def test_a_model_without_random_starts_is_refused():
    with pytest.raises(ValueError, match=r"model\.init"):
        jaxem.fit_restarts(MODEL._replace(init=None), jax.random.key(0), jaxem.datasets.faithful())


def test_an_int_seed_is_the_key_made_of_it():
    x = jaxem.datasets.faithful()
    received, expected = (jaxem.fit_restarts(MODEL, key, x, num_restarts=4, solver=EM) for key in (3, jax.random.key(3)))
    np.testing.assert_array_equal(received.fits.history, expected.fits.history)


@pytest.mark.thorough
def test_given_starts_are_run_in_the_place_of_random_ones():
    x = jaxem.datasets.faithful()
    starts = [MODEL.init(jax.random.key(seed), x) for seed in range(4)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *starts)
    search = jaxem.fit_restarts(MODEL, None, x, starts=stacked, num_continued=4, tol=1e-4, max_steps=300)
    assert search.fits.status.shape == (4,)
    for lane, start in enumerate(starts):
        alone = jaxem.fit(MODEL, start, x, solver=jaxem.squarem(), tol=1e-4, max_steps=300)
        assert search.fits.num_steps[lane] == alone.num_steps
        np.testing.assert_allclose(search.fits.history[lane], alone.history, rtol=1e-11)


@pytest.mark.thorough
def test_jittered_starts_serve_a_model_that_has_no_random_ones():
    x = jaxem.datasets.faithful()
    params = MODEL.init(jax.random.key(0), x)
    model = MODEL._replace(init=None)
    search = jaxem.fit_restarts(model, 0, x, starts=jaxem.jitter(model, 0, params, 6, scale=0.2), num_continued=6, solver=EM)
    assert search.best.status == Status.CONVERGED
    alone = jaxem.fit(model, params, x)
    assert search.best.log_likelihood >= alone.log_likelihood - 1e-6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: jax.tree.map(lambda leaf: leaf[0], p), r"starts must be params stacked along a leading axis|params.* needs"),
        (lambda p: p._replace(weights=p.weights[:1]), r"starts must be params stacked along a leading axis"),
        (lambda p: jax.tree.map(lambda leaf: leaf[:0], p), r"starts must be params stacked along a leading axis"),
        (lambda p: p._replace(weights=p.weights * 2), r"params\.weights must be .*simplex"),
        (lambda p: p.weights, "params has structure"),
    ],
)
def test_starts_that_are_no_stacked_params_are_refused(change, message):
    x = jaxem.datasets.faithful()
    stacked = jax.tree.map(lambda leaf: np.stack([leaf] * 2), MODEL.init(0, x))
    with pytest.raises(ValueError, match=message):
        jaxem.fit_restarts(MODEL, 0, x, starts=change(stacked))


@pytest.mark.parametrize(("num", "most", "expected"), [(64, 15, 8), (64, 64, 64), (7, 4, 1), (3, 9, 3), (40_000, 13, 10)])
def test_starts_are_drawn_in_equal_parts(num, most, expected):
    assert evenly(num, most) == expected
