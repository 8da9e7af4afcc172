"""What is drawn is what is the case: the data of the artists beside NumPy and SciPy."""

import itertools

import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas
import pytest
from scipy import stats

import jaxem
from jaxem import families, plots
from jaxem.choice import Chosen, Selection
from jaxem.plots import scenes, style, tables

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.collections import PathCollection, PolyCollection
from matplotlib.contour import QuadContourSet
from matplotlib.patches import Ellipse

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal([0, 0], [1.0, 2.0], (40, 2)), RNG.normal([6, -3], [2.0, 1.0], (20, 2))])
WEIGHTS = np.array([0.6, 0.4])
MEANS = np.array([[0.0, 0.0], [6.0, -3.0]])
COVARIANCES = np.array([[[1.0, 0.5], [0.5, 4.0]], [[4.0, -1.0], [-1.0, 1.0]]])
GAUSSIAN = jaxem.mixture(families.gaussian(), 2)


def ended(params, status=jaxem.Status.CONVERGED, history=(), log_likelihood=-1.0):
    steps = max(len(history) - 1, 0)
    history = jnp.asarray([*history, np.nan])
    return jaxem.Fit(params, jnp.asarray(log_likelihood), jnp.asarray(steps), jnp.asarray(int(status)), history, jnp.asarray(1))


FIT = ended(jaxem.Mixture(jnp.asarray(WEIGHTS), families.Gaussian(jnp.asarray(MEANS), jnp.asarray(COVARIANCES))))

CHAIN = jaxem.hmm(families.poisson(), 2)
CHAIN_FIT = ended(jaxem.HMM([0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], families.Poisson([1.0, 8.0])))


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def joint(x, columns=(0, 1)):
    """π_k p(x | θ_k) of the columns alone, (n, k), by SciPy."""
    some = np.ix_(columns, columns)
    parts = [stats.multivariate_normal(m[list(columns)], c[some]).pdf(x) for m, c in zip(MEANS, COVARIANCES, strict=True)]
    return WEIGHTS * np.stack(parts, -1)


def drawn(ax, kind):
    return [artist for artist in ax.get_children() if isinstance(artist, kind)]


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_points_stand_where_rows_do_in_the_colour_of_their_component():
    labels = joint(X).argmax(1)
    for received, expected in ((plots.pairs(GAUSSIAN, FIT, X)[1, 0], X), (plots.density(GAUSSIAN, FIT, X), X)):
        for k, dots in enumerate(drawn(received, PathCollection)):
            np.testing.assert_array_equal(dots.get_offsets(), expected[labels == k])
            assert matplotlib.colors.to_hex(dots.get_facecolor()[0]) == style.colour(k)


def test_ellipses_pass_where_the_normal_distribution_has_the_share_that_the_legend_says():
    axes = plots.pairs(GAUSSIAN, FIT, X)
    assert "hold 50, 95 % of each" in legend(axes[0, 1])
    shapes = [shape for shape in drawn(axes[1, 0], Ellipse) if not shape.fill]
    for shape, (k, share) in zip(shapes, itertools.product(range(2), (0.5, 0.95)), strict=True):
        off = shape.get_patch_transform().transform(shape.get_path().vertices[:-1:3]) - MEANS[k]  # where its arcs meet
        received = np.einsum("ni,ij,nj->n", off, np.linalg.inv(COVARIANCES[k]), off)
        np.testing.assert_allclose(received, stats.chi2(2).ppf(share), rtol=1e-6)


@pytest.mark.parametrize("dof", [3.0, None])
def test_ellipses_of_student_t_components_hold_their_share(dof):
    """q / 2 of two columns follows F(2, ν)."""
    model = jaxem.mixture(families.student_t("diag", dof), 2)
    components = families.StudentT(MEANS, jnp.ones((2, 2)), jnp.array([1.0, 30.0]) if dof is None else None)
    scene = scenes.scene_of(model, ended(jaxem.Mixture(WEIGHTS, components)), X, None, None)
    for k, share in itertools.product(range(2), (0.5, 0.95)):
        half, _ = scenes.ellipses(scene).half_axes(k, (0, 1), share)
        np.testing.assert_allclose(half**2 / 2, stats.f(2, dof or [1.0, 30.0][k]).ppf(share), rtol=1e-9)


def test_ellipses_of_shared_axes_are_those_of_the_whole_matrices():
    angle = 0.3
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    components = families.Gaussian(MEANS, families.Eigen(jnp.array([2.0, 3.0]), jnp.array([4.0, 0.25]), jnp.asarray(axes)))
    model = jaxem.mixture(families.gaussian("VEE"), 2)
    scene = scenes.scene_of(model, ended(jaxem.Mixture(WEIGHTS, components)), X, None, None)
    expected = [volume * axes @ np.diag([4.0, 0.25]) @ axes.T for volume in (2.0, 3.0)]
    np.testing.assert_allclose(scenes.ellipses(scene).scale, expected, rtol=1e-12)


def test_curves_on_the_diagonal_are_the_densities_of_one_column():
    axes = plots.pairs(GAUSSIAN, FIT, X)
    for j in range(2):
        *parts, whole = axes[j, j].lines
        expected = joint(parts[0].get_xdata()[:, None], (j,))
        np.testing.assert_allclose(np.stack([line.get_ydata() for line in parts], 1), expected, rtol=1e-9)
        np.testing.assert_allclose(whole.get_ydata(), expected.sum(1), rtol=1e-9)
        heights = [bar.get_height() * bar.get_width() for bar in axes[j, j].patches]
        np.testing.assert_allclose(sum(heights), 1)


def test_contours_hold_their_shares_of_the_rows():
    weights = np.arange(60) % 3 / 1.0  # a third of the rows are absent
    shades, lines = drawn(plots.density(GAUSSIAN, FIT, X, weights=weights), QuadContourSet)
    inside = joint(X).sum(1)[:, None] >= lines.levels * (1 - 1e-9)
    received = weights @ inside / weights.sum()
    expected = np.array([0.95, 0.75, 0.5, 0.25])
    assert (np.diff(lines.levels) > 0).all()
    assert ((expected - 1e-9 <= received) & (received < expected + 2 / 60 + 1e-9)).all()
    np.testing.assert_array_equal(shades.levels[:-1], lines.levels)


def test_contours_of_data_with_holes_hold_shares_of_the_rows_without():
    whole = np.arange(60) % 4 > 0
    holed = np.where((np.arange(2) == 1) & ~whole[:, None], np.nan, X)
    received = drawn(plots.density(GAUSSIAN, FIT, families.observed(holed)), QuadContourSet)[1]
    expected = drawn(plots.density(GAUSSIAN, FIT, X, weights=whole.astype(float)), QuadContourSet)[1]
    np.testing.assert_allclose(received.levels, expected.levels, rtol=1e-10)


def test_counts_are_drawn_at_whole_numbers_alone():
    x, weights = jaxem.datasets.london_times_deaths()
    model = jaxem.mixture(families.poisson(), 2)
    fit = ended(jaxem.Mixture(jnp.array([0.36, 0.64]), families.Poisson(jnp.array([1.26, 2.66]))))
    ax = plots.density(model, fit, x, weights=weights)
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.arange(10))
    expected = np.array([0.36, 0.64]) * stats.poisson([1.26, 2.66]).pmf(np.arange(10)[:, None])
    np.testing.assert_allclose(np.stack([line.get_ydata() for line in ax.lines[:2]], 1), expected, rtol=1e-9)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], weights / weights.sum(), rtol=1e-12)
    assert legend(ax) == ["component 1: 36.0 %", "component 2: 64.0 %", "all", "rows"]


def test_a_part_of_a_product_is_drawn_alone():
    model = jaxem.mixture(families.labelled(families.product(size=families.gaussian(), count=families.poisson())), 2)
    parts = {"size": families.Gaussian(MEANS, COVARIANCES), "count": families.Poisson(jnp.array([1.0, 5.0]))}
    data = families.Labelled({"size": X, "count": np.arange(60) % 7}, np.full(60, -1))
    fit = ended(jaxem.Mixture(WEIGHTS, parts))
    line = plots.density(model, fit, data, columns="size2").lines[0]
    np.testing.assert_allclose(line.get_ydata(), joint(line.get_xdata()[:, None], (1,))[:, 0], rtol=1e-9)
    axes = plots.pairs(model, fit, data)
    np.testing.assert_allclose(axes[2, 2].lines[1].get_ydata(), 0.4 * stats.poisson(5.0).pmf(np.arange(7)), rtol=1e-9)
    assert [axes[2, j].get_xlabel() for j in range(3)] == ["size1", "size2", "count"]


def test_uncertainty_is_what_the_likeliest_component_lacks():
    shares = joint(X) / joint(X).sum(1, keepdims=True)
    expected = shares.min(1)
    ax = plots.uncertainty(GAUSSIAN, FIT, X)
    for k, dots in enumerate(drawn(ax, PathCollection)):
        np.testing.assert_allclose(dots.get_sizes(), 4 + 120 * expected[shares.argmax(1) == k], rtol=1e-9)
    ax = plots.uncertainty(GAUSSIAN, FIT, X, columns=1)
    received = np.concatenate([dots.get_offsets() for dots in drawn(ax, PathCollection)])
    order = np.argsort(shares.argmax(1), kind="stable")
    np.testing.assert_allclose(received, np.stack([X[:, 1], expected], 1)[order], rtol=1e-9)


def test_history_is_drawn_step_by_step():
    ax = plots.history(GAUSSIAN, ended(FIT.params, history=[-5.0, np.nan, -3.0]), X)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0, -5], [2, -3]])
    assert legend(ax) == ["log-likelihood", "CONVERGED: -3"]


def test_restarts_stand_from_the_highest_to_the_lowest_by_how_they_ended():
    heights, statuses = jnp.array([-3.0, -1.0, jnp.nan, -2.0]), jnp.array([1, 1, 4, 6])
    fits = jaxem.Fit(FIT.params, heights, *[jnp.zeros(4)] * 4)._replace(status=statuses)
    search = jaxem.Restarts(ended(FIT.params), fits, jnp.asarray(1.0))
    ax = plots.restarts(search)
    assert legend(ax) == ["2 CONVERGED", "1 NOT_CONTINUED", "1 NONFINITE, not drawn", "best: -1"]
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[3, -3], [1, -1]])
    np.testing.assert_array_equal(ax.lines[1].get_xydata(), [[2, -2]])


def selection(**values):
    rows = [(name, k, value) for name, some in values.items() for k, value in enumerate(some, 1)]
    status = {False: "CONVERGED", True: "DEGENERATE"}
    table = [{"name": n, "num_components": k, "bic": v, "status": status[n == "B" and k == 3]} for n, k, v in rows]
    return Selection(Chosen("A", GAUSSIAN, FIT, 2), table)


def test_selection_draws_a_line_for_each_family_rings_the_best_and_hollows_what_may_not_win():
    ax = plots.selection(selection(A=[9.0, 1.0, 2.0], B=[8.0, np.inf, 3.0]))
    first, second, hollow, ring = ax.lines
    np.testing.assert_array_equal(first.get_xydata(), [[1, 9], [2, 1], [3, 2]])
    np.testing.assert_array_equal(second.get_xydata(), [[1, 8], [2, np.nan], [3, 3]])
    np.testing.assert_array_equal(hollow.get_xydata(), [[3, 3]])
    np.testing.assert_array_equal(ring.get_xydata(), [[2, 1]])
    assert legend(ax) == ["A", "B", "best: A, 2"]
    assert hollow.get_markerfacecolor() == "white"


def test_what_lies_far_beyond_does_not_flatten_what_matters():
    ax = plots.selection(selection(A=[1e6, 1.0, 2.0, 3.0, 4.0], B=[1e6]))
    assert ax.get_ylim()[0] < 1 and 4 < ax.get_ylim()[1] < 20
    assert legend(ax) == ["A", "B (beyond the axis)", "best: A, 2"]


def test_pictures_go_into_the_axes_given_and_what_is_none_stays_empty():
    figure, grid = plt.subplots(2, 2)
    grid[0, 1].remove()
    grid[0, 1] = None
    assert plots.pairs(GAUSSIAN, FIT, X, ax=grid)[1, 1] is figure.axes[2]
    assert plots.density(GAUSSIAN, FIT, X, ax=grid[1, 0]) is grid[1, 0]
    assert len(figure.axes) == 3 and plt.get_fignums() == [figure.number]


def simulated(colour, kind):
    """A colour as Lab coordinates of what the colour-blind see of it: Machado, Oliveira & Fernandes (2009), severity 1."""
    seen = {
        "none": np.eye(3),
        "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    }[kind]
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    rgb = np.array(matplotlib.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = to_xyz @ np.clip(seen @ linear, 0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("kind", ["none", "protan", "deutan"])
def test_the_colour_blind_tell_eight_colours_apart(kind):
    points = [simulated(style.colour(k), kind) for k in range(8)]
    distances = [np.linalg.norm(a - b) for a, b in itertools.combinations(points, 2)]
    assert min(distances) > 20  # two are the least that is told at a glance


def test_no_two_of_many_components_look_alike():
    assert len({(style.colour(k), style.marker(k)) for k in range(50)}) == 50
    assert len({(style.colour(k), style.dash(k)) for k in range(30)}) == 30


@pytest.mark.parametrize(
    "data, names, values",
    [
        ([1.0, 2.0], ("x",), [[1], [2]]),
        (np.eye(2), ("x1", "x2"), np.eye(2)),
        ({"a": [1, 2], "b": np.eye(2)}, ("a", "b1", "b2"), [[1, 1, 0], [2, 0, 1]]),
        (families.Regression(np.eye(2), [5.0, 6.0]), ("x1", "x2", "y"), [[1, 0, 5], [0, 1, 6]]),
        (families.Observed(np.eye(2), [[True, False], [True, True]]), ("x1", "x2"), [[1, np.nan], [0, 1]]),
        (families.Labelled(families.Censored([3.0, 4.0], [0, 1]), [0, -1]), ("x",), [[3], [4]]),
        (pandas.DataFrame({"length": [1.0, 2.0], "$": [3, 4]}), ("length", "$"), [[1, 3], [2, 4]]),
        (families.observed(pandas.DataFrame({"length": [1.0, None]})), ("length",), [[1], [np.nan]]),
    ],
)
def test_data_of_any_kind_are_columns_with_names(data, names, values):
    received = tables.columns_of(data)
    assert received.names == names
    np.testing.assert_array_equal(received.values, values)


def experts():
    data = families.Gated(X, families.Regression(X, X[:, 0]))
    params = jaxem.Mixture(families.SoftmaxRegression(np.zeros((2, 2))), families.LinearRegression(np.ones((2, 2)), np.ones(2)))
    return jaxem.mixture(families.linear_regression(), 2, families.softmax_regression()), ended(params), data


@pytest.mark.parametrize(
    "draw, said",
    [
        (lambda: plots.density(GAUSSIAN, FIT, X, columns=[0, 2]), "columns must be names or numbers"),
        (lambda: plots.pairs(GAUSSIAN, FIT, X, columns="z"), "columns must be names or numbers"),
        (lambda: plots.pairs(GAUSSIAN, FIT.params, X), "fit must be a Fit"),
        (lambda: plots.pairs(families.gaussian(), FIT, X), "model must be a Model"),
        (lambda: plots.density(GAUSSIAN, FIT, np.zeros((4, 2, 2))), "cannot be drawn: needs rows"),
        (lambda: plots.density(GAUSSIAN, FIT, [["a", "b"]]), "no numbers"),
        (lambda: plots.pairs(GAUSSIAN, FIT, np.zeros((3, 9))), "data has 9 columns"),
        (lambda: plots.pairs(GAUSSIAN, FIT, X, ax=plt.subplots()[1]), "ax must be an array of axes"),
        (lambda: plots.states(GAUSSIAN, FIT, X), "viterbi needs a model built by hmm"),
        (lambda: plots.states(CHAIN, CHAIN_FIT, jaxem.sequences([1, 2]), sequence=1), "sequence must be a whole number"),
        (lambda: plots.density(*experts(), columns="y"), "cannot be drawn"),
        (lambda: plots.history(GAUSSIAN, FIT._replace(history=jnp.zeros(0)), X), "fit has no history"),
        (lambda: plots.restarts(FIT), "search must be what fit_restarts returns"),
        (lambda: plots.selection(FIT), "found must be what select returns"),
    ],
)
def test_what_cannot_be_drawn_is_a_value_error_that_says_why(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()


def test_states_are_drawn_along_the_most_probable_path():
    ax = plots.states(CHAIN, CHAIN_FIT, jaxem.sequences([[5, 5], [0, 1, 9, 7]]), sequence=1)
    series, first, second = ax.lines
    np.testing.assert_array_equal(series.get_xydata(), [[1, 0], [2, 1], [3, 9], [4, 7]])
    np.testing.assert_array_equal(first.get_xydata(), [[1, 0], [2, 1]])
    np.testing.assert_array_equal(second.get_xydata(), [[3, 9], [4, 7]])
    assert legend(ax) == ["state 1: 50.0 % of steps", "state 2: 50.0 % of steps"]


def test_a_forecast_has_the_quantiles_of_the_mixture_that_the_chain_moves_to():
    x = jaxem.sequences([[5, 5], [0, 1, 9, 7]])
    ax = plots.forecast(CHAIN, CHAIN_FIT, x, steps=3, sequence=1)
    weights = np.asarray(CHAIN.posterior(CHAIN_FIT.params, x).states[1, 3])
    wide, narrow = (band.get_paths()[0].vertices for band in drawn(ax, PolyCollection))
    for h in range(3):
        weights = weights @ [[0.9, 0.1], [0.2, 0.8]]
        mass = stats.poisson([1.0, 8.0]).cdf(np.arange(50)[:, None]) @ weights
        assert ax.lines[1].get_xydata()[h].tolist() == [5 + h, np.sum(mass < 0.5)]
        for band, share in ((wide, 0.95), (narrow, 0.5)):
            received = sorted({y for place, y in band if place == 5 + h})
            expected = sorted({np.sum(mass < level) for level in ((1 - share) / 2, (1 + share) / 2)})
            np.testing.assert_array_equal(received, expected)


def test_a_forecast_of_a_random_walk_that_is_seen_exactly_widens_by_its_steps():
    one = np.ones((1, 1))
    params = jaxem.LinearGaussian(np.zeros(1), one, one, 4 * one, one, 1e-12 * one)
    ax = plots.forecast(jaxem.linear_gaussian(1, 1), ended(params), jaxem.sequences([[[3.0], [5.0]]]), steps=3)
    np.testing.assert_allclose(ax.lines[1].get_xydata(), [[3, 5], [4, 5], [5, 5]], rtol=1e-6)
    band = drawn(ax, PolyCollection)[0].get_paths()[0].vertices
    received = [np.ptp([y for place, y in band if place == 3 + h]) / 2 for h in range(3)]
    np.testing.assert_allclose(received, stats.norm.ppf(0.975) * np.sqrt([4.0, 8.0, 12.0]), rtol=1e-6)


def test_a_choice_of_which_no_candidate_has_a_criterion_is_drawn_empty():
    assert plots.selection(selection(A=[np.nan, np.nan])._replace(best=None)).get_xlabel()
