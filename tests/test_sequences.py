"""Sequences: padded rows of time steps, from lists of trees and from tables in long format."""

import numpy as np
import pytest

import jaxem
from jaxem import families
from jaxem.sequences import check_sequences


def test_sequences_are_padded_by_their_first_steps_in_their_own_dtype():
    received = jaxem.sequences([np.array([[1, 2], [3, 4]]), np.array([[5, 6]])])
    assert received.values.dtype == np.array([1]).dtype
    assert received.values.tolist() == [[[1, 2], [3, 4]], [[5, 6], [5, 6]]]
    assert received.lengths.tolist() == [2, 1]


@pytest.mark.parametrize("one", [np.arange(3.0), [0.0, 1.0, 2.0], (0.0, 1.0, 2.0)])
def test_what_is_no_list_of_sequences_is_a_single_one(one):
    received = jaxem.sequences(one)
    assert received.values.tolist() == [[0.0, 1.0, 2.0]] and received.lengths.tolist() == [3]


def test_a_record_is_one_sequence_and_a_list_of_them_several():
    one = families.Labelled({"a": np.ones((2, 3)), "b": [1, 2]}, labels=[0, -1])
    single, several = jaxem.sequences(one), jaxem.sequences([one, one._replace(labels=[1, 1])])
    assert single.values.data["a"].shape == (1, 2, 3)
    assert several.values.data["b"].tolist() == [[1, 2], [1, 2]] and several.values.labels.tolist() == [[0, -1], [1, 1]]


def test_holes_are_kept_and_padding_is_what_the_first_step_was():
    received = jaxem.sequences([families.observed([1.0, np.nan, 2.0]), families.observed([np.nan])])
    assert received.values.mask.tolist() == [[True, False, True], [False] * 3]


def test_holes_of_sequences_are_those_of_their_values():
    received = families.observed(jaxem.sequences([[1.0, np.nan], [3.0]]))
    assert received.values.mask.tolist() == [[True, False], [True, True]] and received.lengths.tolist() == [2, 1]


FRAME = {"id": ["b", "a", "b", "a"], "x": [1.0, 2.0, 3.0, 4.0], "y": [5, 6, 7, 8]}


def test_a_long_table_becomes_one_sequence_for_each_id_in_order_of_first_appearance():
    every, one = jaxem.sequences_from(FRAME, by="id"), jaxem.sequences_from(FRAME, by="id", columns="y")
    assert every.values.tolist() == [[[1.0, 5.0], [3.0, 7.0]], [[2.0, 6.0], [4.0, 8.0]]]
    assert one.values.tolist() == [[5, 7], [6, 8]]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_of_other_libraries_are_read_as_tables(library):
    frame = pytest.importorskip(library).DataFrame(FRAME)
    received = jaxem.sequences_from(frame, by="id", columns=["y", "x"])
    assert received.values.tolist() == [[[5.0, 1.0], [7.0, 3.0]], [[6.0, 2.0], [8.0, 4.0]]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: jaxem.sequences([]), "xs has no sequences"),
        (lambda: jaxem.sequences([[1.0], []]), r"xs\[1\] has no time steps"),
        (lambda: jaxem.sequences({"a": [1, 2], "b": [1]}), r"xs has leaves of leading axes \[\(1,\), \(2,\)\]"),
        (lambda: jaxem.sequences([np.ones((2, 2)), np.ones((2, 3))]), r"xs\[1\] has steps of shape \[\(3,\)\]"),
        (lambda: jaxem.sequences([{"a": [1]}, {"b": [1]}]), r"xs\[1\] has structure"),
        (lambda: jaxem.sequences(3.0), "xs has leaves of leading axes"),
        (lambda: jaxem.sequences_from(FRAME, by="who"), "lacks .'who'"),
        (lambda: jaxem.sequences_from(FRAME, by="x", columns=["id"]), r"columns \['id'\] have dtype"),
        (lambda: jaxem.sequences_from({"id": [1.0, np.nan], "x": [1, 2]}, by="id"), "by='id' has nulls"),
        (lambda: jaxem.sequences_from(3, by="id"), "frame is a int"),
        (lambda: check_sequences(np.ones(3)), "data must be jaxem.Sequences"),
        (lambda: check_sequences(jaxem.Sequences(np.ones((2, 3)), [3, 4])), "lengths has values from 3 to 4.*1 to t = 3"),
        (lambda: check_sequences(jaxem.Sequences(np.ones((2, 3)), [0, 3])), "lengths has values from 0 to 3"),
        (lambda: check_sequences(jaxem.Sequences(np.ones((2, 3)), [1.0, 3.0])), "lengths has dtype float64"),
        (lambda: check_sequences(jaxem.Sequences(np.ones((2, 3)), [3])), r"lengths \(1,\)"),
        (lambda: check_sequences(jaxem.Sequences({"a": np.ones((2, 3)), "b": np.ones(2)}, [3, 3])), "leading axes"),
    ],
)
def test_what_is_no_sequence_is_one_line_that_names_the_place(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"id": ["a", "b"], "x": [1.0, 2.0, 3.0]}, r"columns of 2 and \[3\] rows"),
        ({"id": ["a", "b", "b"], "x": [1.0, 2.0]}, r"columns of 3 and \[2\] rows"),
        ({"id": [], "x": []}, r"columns of 0 and \[0\] rows"),
    ],
)
def test_tables_whose_columns_do_not_agree_are_refused(frame, said):
    with pytest.raises(ValueError, match=said):
        jaxem.sequences_from(frame, by="id")


def test_absent_ids_of_pandas_are_nulls():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"id": pandas.array(["a", None], dtype="string"), "x": [1.0, 2.0]})
    with pytest.raises(ValueError, match="has nulls"):
        jaxem.sequences_from(frame, by="id")
