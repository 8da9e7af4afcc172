import io
import itertools
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import jaxem
from jaxem.__main__ import main
from jaxem.datasets import csv_file
from jaxem.shell import picture, saved
from jaxem.shell.candidates import Candidate
from jaxem.shell.comparison import compare
from jaxem.shell.job import Job
from jaxem.shell.kinds import EIGEN, KINDS, forms_of
from jaxem.shell.table import Table, read_table

COMMAND = [sys.executable, "-m", "jaxem"]
ROOT = Path(__file__).parent.parent
OPTIONS = "columns labels weights family components covariance restarts seed dtype out plot model predict version".split()
IRIS = ROOT / "jaxem" / "datasets" / "iris.csv"


@pytest.fixture
def write(tmp_path):
    def write_file(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write_file


@pytest.fixture
def refused(capsys):
    """Run the command on bad input; return the one line it says."""

    def run(*arguments):
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert code == 2
        assert out == ""
        assert err.endswith("\n") and err.count("\n") == 1
        assert "Traceback" not in err
        return err

    return run


def arrays(path):
    """Return what `jaxem.save` wrote to a file, by their names alone."""
    with np.load(path) as archive:
        return {name.partition(" ")[2]: archive[name] for name in archive.files if name != "structure"}


def rows(num_rows, num_columns=2, seed=0):
    x = np.random.default_rng(seed).normal(size=(num_rows, num_columns))
    return "\n".join(",".join(f"{value:.5f}" for value in row) for row in x)


# ---- the main job


def test_without_arguments_old_faithful_is_fitted_from_a_shell():
    received = subprocess.run(COMMAND, cwd=ROOT, capture_output=True, text=True, check=True)
    lines = received.stdout.splitlines()
    table = [line.lstrip("*").split() for line in lines if " converged" in line and line.lstrip("* ")[:1].isdigit()]
    assert [int(row[0]) for row in table] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([float(row[1]) for row in table[:3]], [-1289.7967, -1130.2640, -1114.4399], atol=1e-4)
    np.testing.assert_allclose([float(row[2]) for row in table[:2]], [2607.62, 2322.19], atol=0.01)
    np.testing.assert_allclose([float(row[3]) for row in table[:3]], [285.43, 0, 1.99], atol=0.01)
    assert [row[4] for row in table[:2]] == ["64/64", "64/64"]
    assert next(line for line in lines if line.startswith("*")).split()[1] == "2"
    assert "BIC chooses 2 components." in lines
    assert "component 1, weight 0.6441" in lines
    assert received.stderr.splitlines()[-1].startswith("fitted 6 of 6")
    shown = (ROOT / "README.md").read_text().partition("```console\n")[2].partition("```")[0].splitlines()
    assert [line.split()[:4] for line in shown] == [
        line.split()[:4] for line in lines[: len(shown)]
    ]  # how starts end may differ by rounding


@pytest.mark.each_time(2)
@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_an_em_step_is_the_same_with_a_further_component_of_weight_zero(covariance):
    x, family = jaxem.datasets.faithful(), jaxem.families.gaussian(covariance)
    two, three = jaxem.mixture(family, 2), jaxem.mixture(family, 3)
    params = three.init(jax.random.key(0), x)
    mean, spread = params.components
    padded = params._replace(weights=jnp.array([0.5, 0.5, 0.0]))
    params = jaxem.Mixture(
        jnp.array([0.5, 0.5]), jaxem.families.Gaussian(mean[:2], spread if covariance == "tied" else spread[:2])
    )
    (stats, expected), (padded_stats, received) = (m.e_step(p, x, jnp.ones(272)) for m, p in ((two, params), (three, padded)))
    np.testing.assert_allclose(received, expected, rtol=1e-12)
    params, padded = two.m_step(params, stats), three.m_step(padded, padded_stats)
    assert padded.weights[2] == 0
    np.testing.assert_allclose(padded.weights[:2], params.weights, rtol=1e-12)
    np.testing.assert_allclose(padded.components.mean[:2], params.components.mean, rtol=1e-12)
    received = padded.components.covariance if covariance == "tied" else padded.components.covariance[:2]
    np.testing.assert_allclose(received, params.components.covariance, rtol=1e-9)


def test_a_fit_of_a_users_csv_is_printed_saved_and_drawn(tmp_path, capsys):
    out, plot = tmp_path / "fit.npz", tmp_path / "fit.png"
    arguments = [IRIS, "--components", "2-3", "--restarts", "8", "--seed", "1", "--out", out, "--plot", plot]
    assert main([str(argument) for argument in arguments]) == 0
    text = capsys.readouterr().out
    assert "BIC chooses 2 components." in text
    assert "petal_length" in text
    saved, x = arrays(out), np.asarray(jaxem.datasets.iris())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.npz", "fit.png"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    about = json.loads(bytes(saved["about"]))
    assert about["columns"] == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert (about["family"], about["form"], about["num_components"]) == ("gaussian", "full", 2)
    assert saved["search_components"].tolist() == [2, 3]
    model = jaxem.mixture(jaxem.families.gaussian("full"), 2)
    components = jaxem.families.Gaussian(saved["params.components.mean"], saved["params.components.covariance"])
    params = jaxem.Mixture(saved["params.weights"], components)
    np.testing.assert_allclose(model.log_prob(params, x).sum(), saved["log_likelihood"], rtol=1e-9)
    np.testing.assert_allclose(saved["bic"], saved["search_bic"].min())
    np.testing.assert_array_equal(saved["labels"], [1] * 50 + [0] * 100)
    assert saved["params.components.mean"].dtype == np.float64


@pytest.mark.each_time(1)
@pytest.mark.parametrize("covariance", ["tied", "diag", "spherical"])
def test_every_form_of_covariance_is_printed_and_saved_as_whole_matrices(covariance, tmp_path, capsys):
    out = tmp_path / "fit.npz"
    arguments = [IRIS, "--components", 3, "--restarts", 2, "--covariance", covariance, "--out", out]
    assert main([str(argument) for argument in [*arguments, "--columns", "petal_length,petal_width"]]) == 0
    saved, text = arrays(out), capsys.readouterr().out
    form = saved["params.components.covariance"]
    expected = {
        "tied": lambda: [form] * 3,
        "diag": lambda: [np.diag(variances) for variances in form],
        "spherical": lambda: [variance * np.eye(2) for variance in form],
    }[covariance]()
    np.testing.assert_array_equal(saved["full_covariance"], expected)
    printed = [line.split()[2] for line in text.splitlines() if line.startswith("  petal_length")]
    assert printed == [f"{matrix[0][0] ** 0.5:.4g}" for matrix in expected]


@pytest.mark.thorough
def test_the_precision_asked_for_is_that_of_the_fit_and_the_callers_is_left_as_it_was(write, tmp_path):
    out = tmp_path / "fit.npz"
    assert main([str(write(rows(20))), "--components", "1", "--restarts", "2", "--dtype", "float32", "--out", str(out)]) == 0
    assert arrays(out)["params.components.mean"].dtype == np.float32
    assert jnp.ones(1).dtype == jnp.float64


@pytest.mark.parametrize("num_columns", [1, 2, 3, 7])
@pytest.mark.parametrize("num_candidates", [1, 2])
def test_every_number_of_columns_has_a_picture(num_columns, num_candidates):
    x = np.random.default_rng(0).normal(size=(40, num_columns))
    components = jaxem.families.Gaussian(jnp.asarray(x[:2]), jnp.array([1.0, 0.25]))
    best = jaxem.Fit(jaxem.Mixture(jnp.array([0.75, 0.25]), components), *[jnp.array(1.0)] * 5)
    candidates = [
        Candidate("spherical", 2, best, bic, 1, 1e-3, {}, np.array([3]), 2) for bic in (10.0, np.inf)[:num_candidates]
    ]
    table = Table(tuple("$bcdefg"[:num_columns]), x)
    model = jaxem.mixture(jaxem.families.gaussian("spherical"), 2)
    figure = picture.draw(table, "data", model, candidates, candidates[0], np.eye(2)[np.arange(40) % 4 // 3])
    received = io.BytesIO()
    figure.savefig(received, format="svg")
    assert b"</svg>" in received.getvalue()[-20:]
    num_panels = num_columns * (num_columns + 1) // 2 if num_columns == 3 else 1
    assert len(figure.axes) == num_panels + (num_candidates == 2)
    named = sorted(text.get_text() for text in figure.legends[0].get_texts())
    assert [text for text in named if "component" in text] == ["component 1: 75.0 %", "component 2: 25.0 %"]
    assert ("hold 50, 95 % of each" in named) == (num_columns > 1)
    sizes = np.array([axes.get_position().size for axes in figure.axes[:num_panels]])
    np.testing.assert_allclose(sizes, sizes[:1].repeat(num_panels, 0), rtol=1e-6)


def test_the_picture_tells_small_gaps_of_bic_apart_beside_large_ones():
    axes = Figure().add_subplot()
    one = Candidate("full", 1, None, 2607.0, 1, 1e-3, {}, np.array([3]), 2)
    candidates = [one, one._replace(num_components=2, bic=2322.0), one._replace(num_components=3, bic=2324.0)]
    picture._criterion(axes, candidates, candidates[1])
    received = np.diff([axes.transAxes.inverted().transform(axes.transData.transform((1, gap)))[1] for gap in (0, 2, 285)])
    assert received[0] > received[1] / 20  # a seventh of a percent of the height where evenly drawn
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["0", "2", "10", "100"]


# ---- what users type first


def test_counts_are_weighed_compared_with_labels_saved_and_predicted(write, tmp_path, capsys):
    """Death notices in The Times: log-likelihoods of Hasselblad (1969), table 2, by two components -1989.95."""
    deaths = csv_file("london_times_deaths").read_text().splitlines()[1:]
    group = [f"{line},{'few' if int(line.partition(',')[0]) < 4 else 'many'}" for line in deaths]
    data, out, answer = write("deaths,days,group\n" + "\n".join(group)), tmp_path / "fit.npz", tmp_path / "labels.csv"
    how = ["--family", "poisson", "--components", "1-2", "--restarts", "4", "--weights", "days", "--labels", "group"]
    assert main([str(data), *how, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "weighted (sum 1096)" in text
    assert "-1989.9459" in text
    assert "BIC chooses 2 components. The best is at the end of the range: try 1-4." in text
    rates = [float(line.split()[1]) for line in text.splitlines() if line.startswith("  deaths")]
    np.testing.assert_allclose(rates, [2.663, 1.256], atol=1e-3)
    table = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith(("few", "many"))}
    assert table == {"few": ["456", "429"], "many": ["211", "0"]}  # days of at most one death are the 429

    assert main(["--model", str(out), "--predict", str(write("x;deaths\n7,5;0\n1;9\n", "new.csv"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "component,probability_1,probability_2"
    assert [line.split(",")[0] for line in lines[1:]] == ["2", "1"]
    saved = arrays(out)
    odds = saved["params.weights"] * np.exp(-saved["params.components.rate"][:, 0])  # of no death at all
    np.testing.assert_allclose([float(cell) for cell in lines[1].split(",")[1:]], odds / odds.sum(), rtol=1e-5)
    assert main(["--model", str(out), "--predict", str(write("0\n9\n", "bare.csv")), "--out", str(answer)]) == 0
    assert answer.read_text().splitlines() == lines


@pytest.mark.thorough
def test_of_several_forms_bic_chooses_one(capsys):
    assert main(["--columns", "2", "--covariance", "all", "--components", "1-2", "--restarts", "2"]) == 0
    text = capsys.readouterr().out
    grid = {line.split()[0]: line.split()[1:] for line in text.splitlines()[3:7] if line}
    assert grid["ΔBIC"] == ["1", "2"]
    assert grid["E"][1] == "*0.00"
    np.testing.assert_allclose(float(grid["V"][1]), np.log(272), atol=0.2)  # a parameter more, hardly used
    assert "BIC chooses E with 2 components." in text


@pytest.mark.thorough
def test_a_form_by_volume_and_axes_is_told_by_its_covariances(capsys):
    assert main(["--covariance", "EII", "--components", "1", "--restarts", "1"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    sds = [float(row[2]) for row in rows if row[:1] in (["eruptions"], ["waiting"])]
    np.testing.assert_allclose(sds, np.sqrt(np.var(np.asarray(jaxem.datasets.faithful()), axis=0).mean()), rtol=1e-3)


@pytest.mark.parametrize("kind, num_columns", [("gaussian", 1), ("gaussian", 2), ("student_t", 2), ("multinomial", 2)])
def test_all_stands_for_every_form_that_a_family_has(kind, num_columns):
    expected = {
        ("gaussian", 1): ["E", "V"],
        ("gaussian", 2): list(EIGEN),
        ("student_t", 2): ["full", "tied", "diag", "spherical"],
    }
    if kind == "multinomial":
        assert forms_of(kind, None, num_columns) == [""]
    else:
        assert forms_of(kind, "all", num_columns) == expected[kind, num_columns]
        assert forms_of(kind, "Full, vvi,VVV", num_columns) == ["full", "VVI"]


@pytest.mark.parametrize(
    "kind, form",
    [*(("gaussian", form) for form in ("EII", "VEV", "diag")), *((kind, "") for kind in KINDS if not KINDS[kind].forms)],
)
def test_a_saved_fit_of_every_kind_is_read_again(kind, form, tmp_path):
    """Of parameters only shapes matter here."""
    model = jaxem.mixture(KINDS[kind].make(form), 2)
    shapes = jax.eval_shape(partial(model.init, jax.random.key(0)), jnp.full((12, 2), 0.5))
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5), shapes)
    chosen = Candidate(form, 2, jaxem.Fit(params, *[np.array(0.0)] * 5), 0.0, 1, 1.0, {}, np.array([1]), 1)
    job = Job("data", Table(("a", "b"), np.ones((12, 2))), kind, [form], range(2, 3), 1, 0, None, None)
    saved.write(tmp_path / "fit.npz", job, [chosen], chosen, np.ones((12, 2)))
    received = saved.read(tmp_path / "fit.npz")
    assert (received.columns, received.kind, received.model) == (["a", "b"], kind, model)
    chex.assert_trees_all_equal(received.params, params)


def test_a_file_that_is_no_saved_fit_or_was_changed_is_refused(write, tmp_path, refused):
    path = tmp_path / "fit.npz"
    np.savez(path, mean=np.ones(2))
    assert "is no file that --out of this command wrote" in refused("--model", path, "--predict", IRIS)
    assert "is no file that --out of this command wrote" in refused("--model", write("a,b\n1,2\n"), "--predict", IRIS)
    assert "would have no line in the answer" in refused("--model", path, "--predict", IRIS, "--missing", "drop")


def test_the_adjusted_rand_index_is_that_of_pairs_counted_one_by_one():
    labels, components = np.array(list("aabbbcca?a")), np.array([0, 0, 1, 1, 0, 1, 1, 0, 1, 1])
    received = compare(labels, components, 2, None)
    known = np.flatnonzero(labels != "?")
    pairs = [(labels[i] == labels[j], components[i] == components[j]) for i, j in itertools.combinations(known, 2)]
    both, alike, together = (sum(map(bool, cells)) for cells in ([a and b for a, b in pairs], *zip(*pairs, strict=True)))
    expected = alike * together / len(pairs)
    np.testing.assert_allclose(received.adjusted_rand, (both - expected) / ((alike + together) / 2 - expected))
    assert (received.labels, received.unlabelled) == (["a", "b", "c"], 1)
    assert compare(labels, components, 2, np.full(10, 0.1)).adjusted_rand == received.adjusted_rand
    assert np.isnan(compare(np.array(["?", "a"]), np.array([0, 1]), 2, None).adjusted_rand)
    np.testing.assert_array_equal(received.counts, [[3, 1], [1, 2], [0, 2]])


def test_the_version_is_told(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"jaxem {jaxem.__version__}\n"


# ---- ends that are not a maximum


@pytest.mark.each_time(1)
@pytest.mark.parametrize("covariance, own", [("full", 5), ("tied", 2), ("diag", 4), ("spherical", 3)])
def test_a_component_on_hardly_more_rows_than_it_has_parameters_is_named(covariance, own, write, capsys):
    """Of 42 rows 34 lie around one place and 8 around another: three or more for each parameter only where there are two."""
    x = np.random.default_rng(0).normal(size=(42, 2)) + np.where(np.arange(42) < 34, 0, 30)[:, None]
    path = write("\n".join(f"{a},{b}" for a, b in x))
    assert main([str(path), "--components", "2", "--restarts", "4", "--covariance", covariance]) == 0
    said = f"Few rows for the {own} parameters that each has: component 2 on 8. Such a maximum may be spurious."
    text = capsys.readouterr().out
    assert (said in text) == ("Few rows" in text) == (3 * own > 8)


@pytest.mark.thorough
def test_columns_that_lie_on_a_line_are_reported_as_degenerate(write, capsys):
    path = write("a,b\n" + "\n".join(f"{i},{2 * i}" for i in range(30)))
    assert main([str(path), "--components", "2", "--restarts", "4"]) == 0
    text = capsys.readouterr().out
    assert "4 degenerate" in text
    assert "No start converged with 2 components" in text
    assert "The fit: 2 components (degenerate)." in text


def test_numbers_whose_squares_overflow_are_one_line_on_stderr_with_exit_code_2_and_no_file(write, tmp_path, capsys):
    path = write("\n".join(f"{i}e200,{i % 7}" for i in range(30)))
    assert main([str(path), "--components", "1", "--restarts", "4", "--out", str(tmp_path / "fit.npz")]) == 2
    assert "columns [0] spread so that their squares overflow float64: rescale them" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "fit.npz").exists()


# ---- reading


@pytest.mark.parametrize(
    "text, names",
    [
        ("a,b\n1,2\n3,5\n", ("a", "b")),
        ("1,2\n3,5\n", ("x1", "x2")),
        ("\ufeffa;b\r\n1;2\r\n\r\n3;5\r\n", ("a", "b")),
        ('"a"\t"b"\n"1"\t 2\n3\t5', ("a", "b")),
        ("a;b\n1,0;2\n3;5\n", ("a", "b")),
        ("1,0;2\n3,0;5,0\n", ("x1", "x2")),
        ("a b\n1 2\n3  5\n", ("a", "b")),
        ('"a" "b"\n"1" 1 2\n"2" 3 5\n', ("a", "b")),
        (",a,b,c\n0,1,2,\n1,3,5,\n", ("a", "b")),
    ],
)
def test_a_table_reads_the_same_with_or_without_names_whatever_separates_it(text, names, write):
    received = read_table(write(text))
    assert received.names == names
    np.testing.assert_array_equal(received.values, [[1, 2], [3, 5]])
    assert received.values.dtype == np.float64


def test_columns_are_chosen_by_name_or_by_number_in_the_order_given(write):
    path = write("name,a,b\nu,1,2\nv,3,5\n")
    np.testing.assert_array_equal(read_table(path, "b,a").values, [[2, 1], [5, 3]])
    assert read_table(path, "3, 2").names == ("b", "a")
    assert read_table(path, "2-3").names == read_table(path, "2-").names == read_table(path, "a-b").names == ("a", "b")
    assert read_table(write("0,2000\n1,2\n3,5\n"), "2000", header=True).names == ("2000",)
    assert read_table(write("a,b-c,d\n1,2,4\n3,5,4\n"), "b-c,1").names == ("b-c", "a")


def test_missing_values_are_dropped_or_kept_as_nan_where_asked_for(write):
    path = write("a,b,sort,w\n1,2,u,1\n?,5,v,2\n3,,u,3\n4,6,v,4\n")
    dropped, kept = (read_table(path, weights="w", labels="sort", missing=how) for how in ("drop", "fit"))
    np.testing.assert_array_equal(dropped.values, [[1, 2], [4, 6]])
    assert (dropped.labels, dropped.weights.tolist(), dropped.lines) == (["u", "v"], [1, 4], [2, 5])
    assert dropped.notes == ("dropped: 2 rows with missing values",)
    np.testing.assert_array_equal(kept.data.mask, [[1, 1], [0, 1], [1, 0], [1, 1]])
    assert kept.notes == ()


def test_what_is_left_out_or_read_otherwise_is_said(write):
    path = write(";a;sort\n1;0,5;u\n2;1;v\n3;2;u\n")
    assert read_table(path).notes == (
        "separated by semicolons, decimal commas",
        "left out: (numbers of rows), sort (words); --labels sort compares that with the components",
    )
    received = read_table(path, labels="sort")
    assert (received.labels, received.notes[1]) == (("u", "v", "u"), "left out: (numbers of rows)")
    np.testing.assert_array_equal(received.values, [[0.5], [1], [2]])


# ---- bad input


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "is empty"),
        ("\n  \n", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells, where line 1 has 2"),
        ("a,b\n1,2\n3,x\n", "line 3, column 'b': 'x' is not a number"),
        ("a,b\n1,2\n3,nan\n", "line 3, column 'b': the value is missing ('nan')"),
        ("a,b\n1,\n3,4\n", "line 2, column 'b': the value is missing ('')"),
        ("a,b\n1,inf\n3,4\n", "line 2, column 'b': 'inf' is not finite"),
        ("a,b\n1,7\n3,7\n", "the same value in every row of b"),
        ("a,b\n1,2\n", "has 1 rows, fewer than 2 components"),
        (b"\xff\xfe\x00\x01", "is not a text file"),
        ('a,b\n"1,2\n', "is not a text file of comma-separated values"),
        ("a,b\nu,v\nw,\n", "has no column of numbers to fit: it has a (words), b (words)"),
        ("a;b\n1,5;1.000,5\n3,5;2\n", "line 2, column 'b': '1.000,5' is not a number"),
    ],
)
def test_a_table_that_cannot_be_fitted_is_one_line_on_stderr_and_exit_code_2(text, said, write, refused):
    path = write(text)
    line = refused(path, "--components", "2")
    assert said in line
    assert str(path) in line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--components", "0"], "needs a number of components, at least 1"),
        (["--components", "3-1"], "needs a number of components, at least 1"),
        (["--components", "-2"], "needs a number of components, at least 1"),
        (["--components", "two"], "got 'two'"),
        (["--components", "1-1000000000000"], "272 rows, fewer than 1000000000000 components"),
        (["--covariance", "round"], "such as full,diag, or all; got 'round'"),
        (["--restarts", "0"], "whole number from 1"),
        (["--seed", "-1"], "whole number from 0"),
        (["--columns", "eruptions,length"], "no column 'length'; it has eruptions, waiting"),
        (["--columns", "3"], "no column '3'"),
        (["--columns", "1,1"], "a column twice"),
        (["--columns", "1-2,eruptions"], "a column twice"),
        (["--columns", "2-1"], "2-1 runs backwards"),
        (["--columns", "1", "--weights", "1"], "names 'eruptions', and so does --weights"),
        (["--weights", "1", "--labels", "1"], "both name 'eruptions'"),
        (["--labels", "eruptions"], "126 different values in 272 rows"),
        (["--family", "cauchy"], "needs one of gaussian, student_t, poisson"),
        (["--family", "poisson"], "line 2, column 'eruptions': poisson needs counts, whole numbers ≥ 0, got 3.6"),
        (["--family", "gamma", "--covariance", "full"], "components of gamma have none"),
        (["--family", "student-t", "--covariance", "VEV"], "got 'VEV', known are full, tied, diag, spherical"),
        (["--predict", "jaxem/datasets/iris.csv"], "go together: give both"),
        (["--model", "fit.npz", "--predict", "new.csv", "--plot", "a.png"], "--plot is of a fit"),
        (["--model", "no_such_file.npz", "--predict", "new.csv"], "no_such_file.npz: No such file or directory"),
        (["--columns", ""], "names no column"),
        (["--colour", "red"], "unrecognized arguments"),
        (["--out", "fit.txt"], "must end in .npz"),
        (["--out", "no/such/folder/fit.npz"], "cannot be written: No such file or directory"),
        (["--plot", "fit.gif"], "must end in .png or .pdf or .svg"),
        (["no_such_file.csv"], "no_such_file.csv: No such file or directory"),
        (["jaxem"], "jaxem: Is a directory"),
    ],
)
def test_a_bad_argument_is_one_line_on_stderr_and_exit_code_2(arguments, said, refused, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert said in refused(*arguments)


@pytest.mark.parametrize(
    "weight, said",
    [
        ("-1", "line 3, column 'w': a weight must be at least 0, got -1"),
        ("0", "1 rows of weight above 0"),
        ("NA", "line 3, column 'w': the weight is missing ('NA'): fill it in; 0 leaves a row out."),
    ],
)
def test_weights_that_cannot_be_are_told(weight, said, write, refused):
    assert said in refused(write(f"a,w\n1,1\n2,{weight}\n3,0\n"), "--components", "2", "--weights", "w")


def test_numbers_of_rows_are_no_column_of_data(write, refused):
    rows = "".join(f"{i},{i % 7},{i % 3}\n" for i in range(1, 9))
    assert "holds the numbers of rows: data begin with column 2" in refused(write(f",a,b\n{rows}"), "--columns", "1-2")


def test_names_that_repeat_must_be_chosen_by_number(write, refused):
    assert "2 columns 'a': give their numbers" in refused(write("a,a\n1,2\n3,4\n"), "--columns", "a")


def test_numbers_beyond_float32_are_refused_in_float32(write, refused):
    assert "that float32 cannot hold" in refused(write("1e50\n2\n3\n"), "--components", "1", "--dtype", "float32")


def test_a_plot_without_matplotlib_is_refused_before_the_fit(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'jaxem[plot]'" in refused("--plot", tmp_path / "fit.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.thorough
def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_rest(write, tmp_path, capsys, monkeypatch):
    def fail(file):
        raise OSError(28, "No space left on device")

    old = write("old", "fit.npz")
    monkeypatch.setattr("os.fsync", fail)
    assert main(["--components", "1", "--restarts", "2", "--out", str(old)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]
    assert old.read_text() == "old"


def test_help_names_every_option_and_exits_with_0(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in OPTIONS)


# ---- signals


@pytest.mark.thorough
def test_a_reader_that_closes_the_pipe_sees_no_traceback_and_the_files_are_written(tmp_path):
    out = tmp_path / "fit.npz"
    command = [*COMMAND, "--components", "1", "--restarts", "2", "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    complaint = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in complaint and "BrokenPipe" not in complaint
    assert out.exists()


def test_an_interrupt_ends_quietly_with_130_while_compiled_code_runs():
    # a shell that runs the tests in the background has them ignore interrupts, and so their children
    heed = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = "import runpy; runpy.run_module('jaxem', {}, '__main__')"
    command = [sys.executable, "-c", f"{heed}; {run}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stderr.readline()
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert first.startswith("compiling")
    assert (process.returncode, out, err.strip()) == (130, "", "")


@pytest.mark.thorough
def test_programs_are_kept_for_the_next_run_where_they_can_be(tmp_path):
    """A second run finds what the first compiled, and says the same; a folder that cannot be made is no hindrance."""
    command = [*COMMAND, "--components", "1", "--restarts", "2"]
    occupied = tmp_path / "occupied"
    occupied.write_text("a file in the place of a folder")
    said = []
    for folder in (tmp_path, tmp_path, occupied):
        keeping = os.environ | {"XDG_CACHE_HOME": str(folder), "JAX_ENABLE_COMPILATION_CACHE": "true"}
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=keeping)
        steps = [line.partition(",")[0] for line in run.stderr.splitlines()]
        assert steps == ["compiling and fitting", "fitted 1 of 1 numbers of components"]
        said.append((run.stdout, sum(path.name.endswith("-cache") for path in (tmp_path / "jaxem").iterdir())))
    assert said[0] == said[1] == said[2]
    assert said[0][1] > 10
