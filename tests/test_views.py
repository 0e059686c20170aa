"""Views: what is accepted, what is refused and in which words, and that nothing changes."""

from __future__ import annotations

import copy
import pickle
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView, Texts, as_multiview, check_target


def table(rows: int = 4, columns: int = 5) -> np.ndarray:
    return np.arange(float(rows * columns)).reshape(rows, columns)


def test_names_order_and_mapping_face() -> None:
    mv = MultiView({"b": np.ones((3, 2)), "a": np.zeros((3, 1), dtype=np.uint8)})
    assert mv.names == mv.keys() == tuple(mv) == ("b", "a")
    assert (mv.n_views, len(mv), mv.n_samples, mv.widths) == (2, 2, 3, (2, 1))
    assert "a" in mv
    assert "c" not in mv
    assert mv["a"].dtype == np.float64
    assert [name for name, _ in mv.items()] == ["b", "a"]
    assert set(dict(mv)) == {"a", "b"}
    assert mv.kinds == ("dense", "dense")
    assert repr(mv) == "MultiView(3 samples: b 2, a 1)"
    assert MultiView([table(), table()]).names == ("view1", "view2")
    assert MultiView([table(), table()], names=["x", "y"]).names == ("x", "y")


def test_arrays_cannot_be_written_to() -> None:
    original = table()
    mv = MultiView({"a": original, "s": sparse.csr_array(original)})
    for array in (mv["a"], mv["s"].data, mv["s"].indices, mv["s"].indptr):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(AttributeError):
        mv.names = ("z", "s")
    original[0, 0] = 7  # the user's own array stays writeable
    assert np.shares_memory(original, mv["a"])


@pytest.mark.parametrize("again", [copy.deepcopy, lambda mv: pickle.loads(pickle.dumps(mv))])  # noqa: S301
def test_copies_stay_read_only(again) -> None:
    mv = again(MultiView({"a": table(), "s": sparse.eye_array(4)}))
    assert mv.names == ("a", "s")
    assert not mv["a"].flags.writeable
    assert not mv["s"].data.flags.writeable
    assert_array_equal(mv.to_array(), np.hstack([table(), np.eye(4)]))


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_sparse_views_stay_sparse(form) -> None:
    dense = np.array([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    mv = MultiView({"s": form(dense.astype(np.int32)), "d": dense})
    assert mv.kinds == ("sparse", "dense")
    assert mv["s"].format == "csr"
    assert_array_equal(mv["s"].toarray(), dense)
    assert_array_equal(mv.take([2, 1])["s"].toarray(), dense[[2, 1]])
    assert_array_equal(mv.map(lambda name, x: x * 2)["s"].toarray(), 2 * dense)
    assert_array_equal(mv.to_array(), np.hstack([dense, dense]))
    groups = MultiView.from_array(form(dense), views=[[1], [0]])
    assert_array_equal(groups["view1"].toarray(), dense[:, [1]])


def test_sparse_duplicates_are_summed_without_touching_the_original() -> None:
    matrix = sparse.csr_array((np.array([1.0, 2.0]), np.array([0, 0]), np.array([0, 2])), (1, 1))
    assert MultiView([matrix])["view1"].data.tolist() == [3.0]
    assert matrix.data.tolist() == [1.0, 2.0]


def test_take_forms() -> None:
    mv = MultiView({"a": table()})
    for rows in ([0, 3], np.array([True, False, False, True]), slice(0, 4, 3), (0, -1)):
        assert_array_equal(mv.take(rows)["a"], table()[[0, 3]])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([4], "row 4 does not exist: the views have 4 rows"),
        ([-5], "row -5 does not exist"),
        ([True, False], "mask has 2 entries but the views have 4 rows"),
        ([], "select nothing"),
        ([[0]], "select nothing"),
        ([0.5], "integers or a mask, not float64"),
    ],
)
def test_take_refuses(rows, words) -> None:
    with pytest.raises(OptionError, match=words):
        MultiView({"a": table()}).take(rows)


def test_replace() -> None:
    mv = MultiView({"a": table(), "b": table()})
    new = mv.replace({"b": np.ones((4, 1))})
    assert new.names == mv.names
    assert new.widths == (5, 1)
    assert mv.widths == (5, 5)
    assert mv.replace({}).widths == (5, 5)
    with pytest.raises(OptionError, match="no view 'bb'; did you mean b"):
        mv.replace({"bb": table()})
    with pytest.raises(DataError, match="b have 3 rows but the views have 4"):
        mv.replace({"b": table(3)})
    with pytest.raises(DataError, match="view 'b' has NaN"):
        mv.replace({"b": np.where(table() > 6, np.nan, 1.0)})
    with pytest.raises(OptionError, match="no view 'c'"):
        mv["c"]


def poisoned(value: float) -> np.ndarray:
    array = table()
    array[[1, 3], [0, 2]] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_missing_values_are_counted(value, form) -> None:
    with pytest.raises(DataError) as caught:
        MultiView({"ok": table(), "lbp": form(poisoned(value))})
    assert "view 'lbp' has NaN or infinity in 2 of 4 rows (the first is row 1)" in str(caught.value)
    assert "impute" in str(caught.value)


def test_masked_and_missing_entries_count_as_missing() -> None:
    masked = np.ma.MaskedArray(table(), mask=table() == 6)
    with pytest.raises(DataError, match="in 1 of 4 rows"):
        MultiView([masked])
    with pytest.raises(DataError, match="in 1 of 2 rows"):
        MultiView([pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": 1.0})])


def test_large_finite_values_are_no_infinity() -> None:
    assert MultiView([np.full((3, 2), 1.7e308)]).n_samples == 3


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": table(4), "b": table(3)}, r"different numbers of rows \(a has 4, b has 3\)"),
        ({"a": np.ones(3)}, "view 'a' is 1-D .* must be 2-D"),
        ({"a": np.ones((2, 2, 2, 2))}, "view 'a' is 4-D"),
        ({"a": [["x", "y"]]}, "view 'a' is not numeric"),
        ({"a": np.array([["x", 1]], dtype=object)}, "view 'a' is not numeric"),
        ({"a": np.array([[{}]], dtype=object)}, "argument must be a string or a real number"),
        ({"a": np.ones((2, 2)) * 1j}, "Complex data not supported"),
        ({"a": np.array([["2020-01-01"]], dtype="datetime64[D]")}, "view 'a' is not numeric"),
        ({"a": [[1, 2], [3]]}, "rows differ in length"),
        ({"a": np.ones((0, 2))}, "0 sample"),
        ({"a": np.ones((2, 0))}, r"0 feature\(s\) \(shape=\(2, 0\)\) while a minimum of 1"),
        ({"a": pd.DataFrame({"n": [1.0], "city": ["x"]})}, "column city"),
        ({"a": pd.DataFrame({"n": [1.0], "day": pd.to_datetime(["2020"])})}, "column day"),
        ({}, "no view"),
        ([], "no view"),
        (table(), "not one ndarray; cut one table into views with MultiView.from_array"),
    ],
)
def test_bad_data_is_refused_in_one_sentence(arrays, words) -> None:
    with pytest.raises(DataError, match=words) as caught:
        MultiView(arrays)
    assert "\n" not in str(caught.value)


def test_dict_values_are_a_type_error_too() -> None:
    with pytest.raises(TypeError):
        MultiView([np.array([[{}]], dtype=object)])


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a", "a"], "two views are called 'a'"),
        (["a"], "1 names for 2 views"),
        (["a", ""], "non-empty word"),
        (["a", 3], "not 3"),
    ],
)
def test_bad_names(names, words) -> None:
    with pytest.raises(OptionError, match=words):
        MultiView([table(), table()], names=names)
    with pytest.raises(OptionError, match="mapping already names"):
        MultiView({"a": table()}, names=["b"])


FRAME = pd.DataFrame(table(), columns=["face__x", "voice__x", "face__y", "voice__y", "voice__z"])


@pytest.mark.parametrize(
    ("X", "views", "expected"),
    [
        (table(), None, {"view1": [0, 1, 2, 3, 4]}),
        (table(), [2, 3], {"view1": [0, 1], "view2": [2, 3, 4]}),
        (table(), (np.int64(1), 4), {"view1": [0], "view2": [1, 2, 3, 4]}),
        (table(), {"a": 4, "b": 1}, {"a": [0, 1, 2, 3], "b": [4]}),
        (table(), [slice(3, None), slice(0, 2)], {"view1": [3, 4], "view2": [0, 1]}),
        (table(), {"a": slice(None, None, 2), "b": [-2]}, {"a": [0, 2, 4], "b": [3]}),
        (table(), {"a": range(3), "b": np.array([4])}, {"a": [0, 1, 2], "b": [4]}),
        (table(), {"a": np.arange(5) > 2}, {"a": [3, 4]}),
        (FRAME, "__", {"face": [0, 2], "voice": [1, 3, 4]}),
        (FRAME, {"v": ["voice__z", "voice__x"], "f": "face__x"}, {"v": [4, 1], "f": [0]}),
        (FRAME, [["face__y"], [0]], {"view1": [2], "view2": [0]}),
        (FRAME, [2, 3], {"view1": [0, 1], "view2": [2, 3, 4]}),
    ],
)
def test_columns_are_dealt_out(X, views, expected) -> None:
    mv = as_multiview(X, views=views)
    assert mv.names == tuple(expected)
    for name, columns in expected.items():
        assert_array_equal(mv[name], table()[:, columns])


@pytest.mark.parametrize(
    ("X", "views", "words"),
    [
        (table(), [2, 2], r"counts 4 columns \(2 \+ 2\) but X has 5"),
        (table(), [5, 0], "view 'view2' is given 0 columns"),
        (table(), [slice(0, 6)], "column 6, out of range: X has 5 columns, 0 to 4"),
        (table(), {"a": [5]}, "view 'a' asks for column 5, out of range"),
        (table(), {"a": [-6]}, "column -6, out of range"),
        (table(), {"a": slice(0, 3), "b": [2]}, "'a' and 'b' overlap: column 2 is in both"),
        (table(), {"a": [1, 1]}, "overlap: column 1"),
        (table(), {"a": []}, "selects no column"),
        (table(), {"a": slice(2, 2)}, "selects no column"),
        (table(), {"a": slice("x", None)}, "slice with 'x'"),
        (table(), {"a": slice(0, 2, 0)}, "step 0"),
        (table(), {"a": 2, "b": [3]}, "mixes column counts with choices"),
        (table(), {"a": [1, "x"]}, "mixes kinds"),
        (table(), {"a": [True, False]}, "mask of length 2"),
        (table(), {"a": None}, "given None"),
        (table(), {"a": ["x"]}, "X has no column names"),
        (table(), "__", "X has none; give a DataFrame"),
        (table(), [], "empty"),
        (table(), 3, "views=3 is not a list"),
        (FRAME, "", "is no separator"),
        (FRAME, "::", "column 'face__x' has no view before '::'"),
        (FRAME, {"a": ["face__z"]}, "column 'face__z', which is not in X; did you mean face__"),
        (pd.DataFrame(table(2, 2), columns=["a", "a"]), [["a"]], "twice"),
    ],
)
def test_bad_columns_are_refused(X, views, words) -> None:
    with pytest.raises(OptionError, match=words) as caught:
        as_multiview(X, views=views)
    assert "\n" not in str(caught.value)


LONG = "x" * 100_000


@pytest.mark.parametrize(
    "call",
    [
        lambda: as_multiview(table(), views=set(range(10_000))),
        lambda: as_multiview(table(), views=[1] * 10_000),
        lambda: as_multiview(table(), views=LONG),
        lambda: as_multiview(pd.DataFrame({LONG: [1.0], "a": [2.0]}), views="__"),
        lambda: as_multiview(pd.DataFrame({"a": [2.0]}), views=[[LONG]]),
        lambda: as_multiview(table(), views=[[LONG]]),
        lambda: MultiView({f"view{n}": np.ones((n + 1, 1)) for n in range(1000)}),
        lambda: MultiView({"a": [[LONG]]}),
        lambda: MultiView({"a": np.array([["x", LONG]], dtype=object)}),
        lambda: MultiView({"a": Texts([[LONG]])}),
        lambda: MultiView([table()], names=[(LONG,)]),
        lambda: MultiView({"a": pd.DataFrame({f"column{n}": ["x"] for n in range(1000)})}),
        lambda: MultiView({"a": np.ones((2, 3, 4))}).pooled(LONG),
        lambda: MultiView({f"view {n}": np.ones((1, 1)) for n in range(200)})["q"],
        lambda: as_multiview(
            pd.DataFrame(np.ones((1, 99)), columns=[f"{n}" * 30 for n in range(99)]),
            views=[[LONG]],
        ),
    ],
)
def test_no_sentence_quotes_a_long_value(call) -> None:
    with pytest.raises((DataError, OptionError)) as caught:
        call()
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)


def test_only_the_chosen_columns_of_a_frame_need_be_numbers() -> None:
    frame = FRAME.assign(who=["a", "b", "c", "d"])
    assert as_multiview(frame, views={"face": ["face__x"]}).widths == (1,)
    with pytest.raises(DataError, match="column who"):
        as_multiview(frame)


def test_columns_of_a_wide_frame_are_looked_up_at_once() -> None:
    columns = [f"c{n}" for n in range(60_000)]
    frame = pd.DataFrame(np.zeros((1, len(columns))), columns=columns)
    start = time.perf_counter()
    assert as_multiview(frame, views=[columns[::-1]]).widths == (len(columns),)
    assert time.perf_counter() - start < 10  # a search of the list for each takes a minute


def test_a_frame_of_floats_is_not_copied() -> None:
    frame = pd.DataFrame(table())
    mv = as_multiview(frame, views=[2, 3])
    assert np.shares_memory(mv["view2"], frame.to_numpy())


def test_as_multiview_forms() -> None:
    mv = MultiView({"a": table()})
    assert as_multiview(mv) is mv
    assert as_multiview({"a": table()}).names == ("a",)
    assert as_multiview([table(), table().tolist()]).n_views == 2
    assert as_multiview((FRAME, sparse.eye_array(4))).widths == (5, 4)
    assert as_multiview([[[1.0], [2.0]], [[3.0], [4.0]]]).n_views == 2
    assert as_multiview(table().tolist()).widths == (5,)
    assert as_multiview(list(table())).widths == (5,)
    for cut in (mv, {"a": table()}, [table()]):
        with pytest.raises(OptionError, match="leave views=None"):
            as_multiview(cut, views=[5])
    for bad in (np.ones(3), [1.0, 2.0], 5.0, sparse.coo_array(np.ones(3))):
        with pytest.raises(DataError, match="Reshape your data"):
            as_multiview(bad)
    with pytest.raises(DataError, match="no view"):
        as_multiview([])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.integers(1, 5))
def test_round_trips(widths, rows) -> None:
    X = np.random.default_rng(sum(widths) + rows).normal(size=(rows, sum(widths)))
    mv = MultiView.from_array(X, views=widths)
    assert mv.widths == tuple(widths)
    assert_array_equal(mv.to_array(), X)
    again = as_multiview(mv.to_frame(), views="__")
    assert again.names == mv.names
    assert_array_equal(again.to_array(), X)


@pytest.mark.parametrize(
    ("target", "classes", "words"),
    [
        ([0, 0, 0], ("x",), r"one class only \('x'\)"),
        ([1, 1, 1], ("x", "y"), r"one class only \('y'\)"),
        ([0, 0, 1], ("x", "y"), "class 'y' has 1 sample; every class needs at least 2"),
        ([0, 0, 1, 1], ("x", "y", "z"), "class 'z' has 0 samples"),
        ([0, 1], ("x", "y", "z"), r"fewer rows \(2\) than classes \(3\)"),
        ([0, 2], ("x", "y"), "codes run from 0 to 2 but there are 2 classes"),
        ([-1, 0], ("x", "y"), "codes run from -1"),
        ([[0, 1]], ("x", "y"), "1-D"),
        ([0.5, 1.0], ("x", "y"), "1-D list of class codes"),
        ([], ("x", "y"), "1-D"),
    ],
)
def test_check_target_refuses(target, classes, words) -> None:
    with pytest.raises(DataError, match=words):
        check_target(target, classes)
