"""Labels of files: different ones stay different, and models compare them by the same rules."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rcml_misa.datasets.files import FileOptions, as_labels, class_codes, read_own_file
from rcml_misa.datasets.files.labels import match_labels, note_labels
from rcml_misa.exceptions import DataError


def read(values):
    return as_labels(values, name="y", path="a.csv")


@pytest.mark.parametrize(
    "texts",
    [
        ["01", "1", "001"],
        ["1e2", "100"],
        ["1_0", "10"],
        ["\u0661", "1"],
        ["01", "02", "10"],
        ["+1", "1"],
        ["-0", "0"],
        ["-0.0", "0.0"],
        ["1.5", "2.5"],
        ["1.10", "1.1"],
        ["1.0", "1"],
        ["0x1", "1"],
        [" 1", "1"],
        ["inf", "2"],
        ["nan", "NaN", "NA"],
        ["True", "1"],
        ["12345678901234567890", "12345678901234567891", "5"],
        ["9007199254740993.0", "9007199254740992.0"],
    ],
)
def test_texts_that_numbers_would_change_stay_texts(texts):
    assert read(texts).tolist() == texts


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (["10", "2", "-1"], [10, 2, -1]),
        (["2.0", "1.0", "0.0"], [2, 1, 0]),
        (["9007199254740993", "9007199254740992"], [9007199254740993, 9007199254740992]),
        ([str(2**63 - 1), "0"], [2**63 - 1, 0]),
    ],
)
def test_texts_of_whole_numbers_become_numbers(texts, numbers):
    labels = read(texts)
    assert labels.dtype == np.int64
    assert labels.tolist() == numbers


@given(
    st.lists(st.text("0123456789.+-e_ naif", min_size=1).filter(str.strip), min_size=1, max_size=15)
)
def test_as_many_labels_as_texts(texts):
    labels = read(texts)
    assert len(set(labels.tolist())) == len(set(texts))
    codes, classes = class_codes(labels)
    again, same = class_codes(read(texts[::-1]))
    assert classes == same
    assert codes.tolist() == again[::-1].tolist()


@given(st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=15))
def test_integers_of_any_size_keep_their_digits(numbers):
    assert [int(label) for label in read(np.array(numbers, dtype=object)).tolist()] == numbers


def test_unsigned_integers_do_not_wrap():
    labels = read(np.array([2**63 + 1, 2**63, 1], dtype=np.uint64))
    assert labels.tolist() == [str(2**63 + 1), str(2**63), "1"]
    assert read(np.array([7, 1], dtype=np.uint64)).dtype == np.int64


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (
            np.array([1e17, 2e17]),
            r"1e\+17 as a float64, in which whole numbers from 9007199254740992",
        ),
        (
            np.array([2.0**24, 1], dtype=np.float32),
            "as a float32, in which .* from 16777216 on merge",
        ),
        (np.array([0.5, 1.0]), "fractions such as 0.5"),
        ([str(number / 7) for number in range(1, 99)], "measurement takes --task regression"),
        (np.array([1 + 2j]), "complex128"),
        (["a", " "], "1 of 2 rows have no label"),
        (np.array(["a", None, pd.NA, np.nan, b""], dtype=object), "4 of 5 rows have no label"),
        (np.array([1.0, np.inf]), "1 of 2 rows have no label"),
        (pd.array([1, None], dtype="Int64"), "1 of 2 rows have no label"),
    ],
)
def test_labels_that_are_refused(labels, words):
    with pytest.raises(DataError, match=words) as caught:
        read(labels)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (np.array([True, False]), ["True", "False"]),
        (pd.array([True, False], dtype="boolean"), ["True", "False"]),
        (pd.Categorical(["b", "a"]), ["b", "a"]),
        (pd.Categorical([3, 1]), [3, 1]),
        (pd.array([3, 1], dtype="Int64"), [3, 1]),
        (np.array([b"a", b"\xc3\xbc"]), ["a", "ü"]),
        (np.array(["01", 1, 2.0, "2"], dtype=object), ["01", "1", "2", "2"]),
        (np.array(["2026-01-02", "2026-01-01"], dtype="M8[D]"), ["2026-01-02", "2026-01-01"]),
    ],
)
def test_labels_of_any_type(labels, expected):
    assert read(labels).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["1.0", "2", "01", "x", ""], [1, 2], ["1", "2", "01", "x", None]),
        (["1", "01"], ["01", "1"], ["1", "01"]),
        (["1.0", "1"], ["1.0", "1"], ["1.0", "1"]),
        (np.array([1.0, np.nan]), [1, 2], ["1", None]),
        (np.array([1, 2]), ["1", "x"], ["1", "2"]),
        ([True, False], [True, False], ["True", "False"]),
    ],
)
def test_labels_are_compared_as_classes_are_written(labels, classes, expected):
    assert match_labels(np.array(labels, dtype=object), classes) == expected


def test_words_for_gaps_are_classes_and_noted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a__0,b__0,y\n1,2,NA\n2,3,x\n3,4,NA\n")
    own = read_own_file(path, FileOptions())
    assert own.labels.tolist() == ["NA", "x", "NA"]
    assert any("label 'NA' (2 rows) of 'y' counts as a class" in note for note in own.notes)
    assert note_labels(np.array(["a", "b"]), "y") == ()
    assert note_labels(np.array([1, 2]), "y") == ()
