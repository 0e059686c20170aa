"""Sequence and text views: validation, rows, pooling, and methods that read tables only."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcml_misa.estimators import ControlClassifier, KernelExpertClassifier, RCMLClassifier
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView, Sequences, Texts


def _mixed(n: int = 6) -> MultiView:
    rng = np.random.default_rng(0)
    steps = [rng.normal(size=(1 + i % 3, 2)) for i in range(n)]
    return MultiView(
        {"a": rng.normal(size=(n, 3)), "b": steps, "c": [f"text {i}" for i in range(n)]}
    )


def test_kinds_widths_and_rows() -> None:
    views = _mixed()
    assert views.kinds == ("dense", "sequence", "text")
    assert views.widths == (3, 2, 1)
    assert views.n_samples == 6
    some = views.take([4, 0, 4])
    assert some["c"].values == ("text 4", "text 0", "text 4")
    assert some["b"].lengths.tolist() == [2, 1, 2]
    np.testing.assert_array_equal(some["b"].values[0], views["b"].values[4])
    assert views.take(np.arange(6) < 2)["c"].values == ("text 0", "text 1")
    assert views.take(slice(2, 4))["b"].lengths.tolist() == [3, 1]
    assert "b 2" in repr(views)


def test_three_dimensions_are_a_sequence_of_full_length() -> None:
    view = MultiView({"a": np.ones((2, 4, 3))})["a"]
    assert isinstance(view, Sequences)
    assert view.lengths.tolist() == [4, 4]
    assert "2 samples" in repr(view)
    assert "2 samples" in repr(Texts(["a", "b"]))


def test_texts_from_arrays() -> None:
    for value in (np.array(["x", "y"]), np.array(["x", "y"], dtype=object), ("x", "y")):
        assert MultiView({"t": value}).kinds == ("text",)


def test_padding_is_zero_whatever_stood_there() -> None:
    values = np.full((2, 3, 1), 7.0)
    values[0, 2] = np.nan
    view = Sequences(values, [2, 3])
    assert view.values[0, 2, 0] == 0.0
    assert values[0, 0, 0] == 7.0  # the given array is not changed
    with pytest.raises(ValueError, match="read-only"):
        view.values[0] = 1


def test_copies_keep_the_values_read_only() -> None:
    for again in (pickle.loads(pickle.dumps(_mixed())), copy.deepcopy(_mixed())):  # noqa: S301
        assert again.kinds == ("dense", "sequence", "text")
        np.testing.assert_array_equal(again["b"].values, _mixed()["b"].values)
        assert not again["b"].values.flags.writeable


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Sequences(np.ones((2, 3))), "samples x steps x features"),
        (lambda: Sequences(np.ones((2, 0, 3))), "none of them 0"),
        (lambda: Sequences(np.ones((2, 3, 1)), [3]), "as many whole numbers"),
        (lambda: Sequences(np.ones((2, 3, 1)), [0.5, 1.0]), "whole numbers, not float64"),
        (lambda: Sequences(np.ones((2, 3, 1)), [3, 4]), "sequence 1 has length 4.*between 1 and 3"),
        (lambda: Sequences(np.ones((2, 3, 1)), [0, 3]), "sequence 0 has length 0"),
        (lambda: Sequences(np.array([[["x"]]])), "not numeric"),
        (lambda: Sequences(np.array([[[1.0]], [[np.nan]]])), "in 1 of 2 sequences.*first is 1"),
        (lambda: Sequences.from_list([]), "no sequence"),
        (lambda: Sequences.from_list([np.ones((1, 2)), np.ones((1, 3))]), "sequence 1.*2 features"),
        (lambda: Texts([]), "no text"),
        (lambda: Texts(["a", 1]), "text 1 is int"),
        (lambda: MultiView({"v": [np.ones((1, 2)), np.ones((2, 3))]}), "view 'v': sequence 1"),
        (lambda: MultiView({"v": ["a", "b"], "w": np.ones((3, 1))}), "different numbers of rows"),
        (lambda: _mixed().to_array(), "no table.*pooled"),
    ],
)
def test_what_is_wrong_is_told_in_one_sentence(make, words) -> None:
    with pytest.raises(DataError, match=words):
        make()


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(1, 3))
def test_pooling_is_a_loop_over_rows(lengths, width) -> None:
    rng = np.random.default_rng(len(lengths))
    rows = [rng.normal(size=(length, width)) for length in lengths]
    views = MultiView({"v": Sequences.from_list(rows)})
    mean = views.pooled("mean")["v"]
    both = views.pooled("mean-std")["v"]
    for row, one in enumerate(rows):
        np.testing.assert_allclose(mean[row], one.mean(axis=0))
        np.testing.assert_allclose(views.pooled("max")["v"][row], one.max(axis=0))
        np.testing.assert_allclose(both[row], np.r_[one.mean(axis=0), one.std(axis=0)], atol=1e-12)


def test_pooled_texts_depend_on_their_row_alone() -> None:
    whole = _mixed().pooled(text_columns=64)
    assert whole.kinds == ("dense", "dense", "sparse")
    assert whole.widths == (3, 2, 64)
    part = _mixed().take([3]).pooled(text_columns=64)
    np.testing.assert_array_equal(part["c"].toarray(), whole["c"][[3]].toarray())
    with pytest.raises(OptionError, match="pooling 'men' does not exist; did you mean mean"):
        _mixed().pooled("men")


@pytest.mark.parametrize("kind", [RCMLClassifier, ControlClassifier, KernelExpertClassifier])
def test_methods_for_tables_name_the_view_and_the_way_out(kind) -> None:
    y = [0, 1] * 10
    views = _mixed(20)
    with pytest.raises(DataError, match=r"view 'b' is a sequence view but .* MultiView.pooled"):
        kind().fit(views, y)
    assert kind().fit(views.pooled(text_columns=8), y).predict(views.pooled(text_columns=8)).size


def test_a_view_must_stay_of_its_kind() -> None:
    views = _mixed(20).pooled(text_columns=8)
    model = ControlClassifier().fit({"b": views["b"]}, [0, 1] * 10)
    with pytest.raises(DataError, match="'b' is of kind sequence but fit saw the kind dense"):
        model.predict({"b": _mixed(20)["b"]})
