import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem.__main__ import main
from jaxem.shell import picture
from jaxem.shell.candidates import Candidate
from jaxem.shell.table import Table, read_table

COMMAND = [sys.executable, "-m", "jaxem"]
ROOT = Path(__file__).parent.parent
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
    assert [row[3] for row in table[:2]] == ["64/64", "64/64"]
    assert next(line for line in lines if line.startswith("*")).split()[1] == "2"
    assert "BIC chooses 2 components." in lines
    assert "component 1, weight 0.6441" in lines
    assert received.stderr.splitlines()[-1].startswith("fitted 6 of 6")


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
    saved, x = np.load(out), np.asarray(jaxem.datasets.iris())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fit.npz", "fit.png"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert saved["columns"].tolist() == ["sepal_length", "sepal_width", "petal_length", "petal_width"]
    assert saved["search_components"].tolist() == [2, 3]
    model = jaxem.mixture(jaxem.families.gaussian("full"), 2)
    params = jaxem.Mixture(saved["weights"], jaxem.families.Gaussian(saved["mean"], saved["covariance"]))
    np.testing.assert_allclose(model.log_prob(params, x).sum(), saved["log_likelihood"], rtol=1e-9)
    np.testing.assert_allclose(saved["bic"], saved["search_bic"].min())
    np.testing.assert_array_equal(saved["labels"], [1] * 50 + [0] * 100)
    assert saved["mean"].dtype == np.float64


@pytest.mark.parametrize("covariance", ["tied", "diag", "spherical"])
def test_every_form_of_covariance_is_printed_and_saved_as_whole_matrices(covariance, tmp_path, capsys):
    out = tmp_path / "fit.npz"
    arguments = [IRIS, "--components", 3, "--restarts", 2, "--covariance", covariance, "--out", out]
    assert main([str(argument) for argument in [*arguments, "--columns", "petal_length,petal_width"]]) == 0
    saved, text = np.load(out), capsys.readouterr().out
    form = saved["covariance"]
    expected = {
        "tied": lambda: [form] * 3,
        "diag": lambda: [np.diag(variances) for variances in form],
        "spherical": lambda: [variance * np.eye(2) for variance in form],
    }[covariance]()
    np.testing.assert_array_equal(saved["full_covariance"], expected)
    printed = [line.split()[2] for line in text.splitlines() if line.startswith("  petal_length")]
    assert printed == [f"{matrix[0][0] ** 0.5:.4g}" for matrix in expected]


def test_the_precision_asked_for_is_that_of_the_fit_and_the_callers_is_left_as_it_was(write, tmp_path):
    out = tmp_path / "fit.npz"
    assert main([str(write(rows(20))), "--components", "1", "--restarts", "2", "--dtype", "float32", "--out", str(out)]) == 0
    assert np.load(out)["mean"].dtype == np.float32
    assert jnp.ones(1).dtype == jnp.float64


@pytest.mark.parametrize("num_columns", [1, 2, 3, 7])
@pytest.mark.parametrize("num_candidates", [1, 2])
def test_every_number_of_columns_has_a_picture(num_columns, num_candidates):
    x = np.random.default_rng(0).normal(size=(40, num_columns))
    components = jaxem.families.Gaussian(jnp.asarray(x[:2]), jnp.array([1.0, 0.25]))
    best = jaxem.Fit(jaxem.Mixture(jnp.array([0.75, 0.25]), components), *[jnp.array(1.0)] * 5)
    whole = np.array([1.0, 0.25])[:, None, None] * np.eye(num_columns)
    candidates = [
        Candidate("spherical", 2, best, whole, bic, 1, 1e-3, {}, np.array([3]), 2) for bic in (10.0, np.inf)[:num_candidates]
    ]
    table = Table(tuple("$bcdefg"[:num_columns]), x)
    figure = picture.draw(table, "data", candidates, candidates[0], np.arange(40) % 2)
    received = io.BytesIO()
    figure.savefig(received, format="svg")
    assert b"</svg>" in received.getvalue()[-20:]
    num_panels = num_columns * (num_columns + 1) // 2 if num_columns == 3 else 1
    assert len(figure.axes) == num_panels + (num_candidates == 2)


# ---- ends that are not a maximum


@pytest.mark.parametrize("covariance, own", [("full", 5), ("tied", 2), ("diag", 4), ("spherical", 3)])
def test_a_component_on_hardly_more_rows_than_it_has_parameters_is_named(covariance, own, write, capsys):
    """Of 42 rows 34 lie around one place and 8 around another: three or more for each parameter only where there are two."""
    x = np.random.default_rng(0).normal(size=(42, 2)) + np.where(np.arange(42) < 34, 0, 30)[:, None]
    path = write("\n".join(f"{a},{b}" for a, b in x))
    assert main([str(path), "--components", "2", "--restarts", "4", "--covariance", covariance]) == 0
    said = f"Few rows for the {own} parameters that each has: component 2 on 8. Such a maximum may be spurious."
    text = capsys.readouterr().out
    assert (said in text) == ("Few rows" in text) == (3 * own > 8)


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
    assert read_table(write("0,2000\n1,2\n3,5\n"), "2000", header=True).names == ("2000",)


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
        (["--covariance", "round"], "invalid choice: 'round'"),
        (["--restarts", "0"], "whole number from 1"),
        (["--seed", "-1"], "whole number from 0"),
        (["--columns", "eruptions,length"], "no column 'length'; it has eruptions, waiting"),
        (["--columns", "3"], "no column '3'"),
        (["--columns", "1,1"], "a column twice"),
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


def test_names_that_repeat_must_be_chosen_by_number(write, refused):
    assert "2 columns 'a': give their numbers" in refused(write("a,a\n1,2\n3,4\n"), "--columns", "a")


def test_numbers_beyond_float32_are_refused_in_float32(write, refused):
    assert "that float32 cannot hold" in refused(write("1e50\n2\n3\n"), "--components", "1", "--dtype", "float32")


def test_a_plot_without_matplotlib_is_refused_before_the_fit(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'jaxem[plot]'" in refused("--plot", tmp_path / "fit.png")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_rest(write, tmp_path, capsys, monkeypatch):
    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    old = write("old", "fit.npz")
    monkeypatch.setattr("numpy.savez", fail)
    assert main(["--components", "1", "--restarts", "2", "--out", str(old)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.npz"]
    assert old.read_text() == "old"


def test_help_names_every_option_and_exits_with_0(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in ("components", "covariance", "restarts", "seed", "columns", "out", "plot"))


# ---- signals


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
