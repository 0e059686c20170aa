"""MATLAB files of every allowed shape, and the damaged ones."""

from __future__ import annotations

import contextlib
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import sparse
from scipy.io import savemat

from rcml_misa.datasets.catalogue import CatalogueEntry
from rcml_misa.datasets.matlab import read_matlab
from rcml_misa.exceptions import DataError

A = np.arange(12).reshape(6, 2)
B = np.linspace(0, 1, 18).reshape(6, 3)
Y = np.array([1, 2, 3, 1, 2, 3])


def entry(**changes) -> CatalogueEntry:
    facts = {
        "name": "Mine",
        "format": "matlab",
        "views": {"a": 2, "b": 3},
        "samples": 6,
        "classes": 3,
        "licence": "MIT",
        "citation": "",
        "note": "",
        "sha256": "",
        "file": "mine.mat",
        "keys": {"views": "X", "target": "gt"},
    }
    return CatalogueEntry(**(facts | changes))


def cells(*views) -> np.ndarray:
    cell = np.empty((1, len(views)), dtype=object)
    for i, view in enumerate(views):
        cell[0, i] = view
    return cell


@pytest.fixture
def save(tmp_path):
    def to_file(**content):
        savemat(tmp_path / "mine.mat", content, do_compression=True)
        return tmp_path / "mine.mat"

    return to_file


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("turned", [False, True])
def test_cells_of_any_number_either_way_round(save, dtype, turned) -> None:
    views = [A.astype(dtype), B]
    way = "features-by-samples" if turned else "samples-by-features"
    path = save(X=cells(*(v.T if turned else v for v in views)), gt=Y[:, None].astype(np.uint8))
    mv, target, classes = read_matlab(path, entry(orientation=way))
    assert mv.names == ("a", "b")
    assert_array_equal(mv["a"], A)
    assert_array_equal(mv["b"], B)
    assert mv["a"].dtype == np.float64
    assert_array_equal(target, Y - 1)
    assert classes == ("1", "2", "3")


@pytest.mark.parametrize("labels", [Y - 1, Y.astype(float), [-5, 2, 30, -5, 2, 30], [Y.tolist()]])
def test_labels_of_any_origin(save, labels) -> None:
    _, target, classes = read_matlab(save(X=cells(A, B), gt=labels), entry())
    assert_array_equal(target, Y - 1)
    assert target.dtype == np.int64
    assert classes == tuple(str(int(v)) for v in np.unique(np.asarray(labels)))


def test_many_labels_sort_as_numbers(save) -> None:
    facts = entry(samples=12, classes=12)
    views = np.ones((12, 2)), np.ones((12, 3))
    _, target, classes = read_matlab(save(X=cells(*views), gt=np.arange(1, 13)), facts)
    assert classes[-1] == "12"
    assert target[-1] == 11


def test_separate_variables(save) -> None:
    facts = entry(keys={"views": "x{}", "target": "gt"})
    mv, _, _ = read_matlab(save(x1=A, x2=B, gt=Y), facts)
    assert_array_equal(mv["b"], B)
    with pytest.raises(DataError, match="no variable 'x2'; it holds x1, gt"):
        read_matlab(save(x1=A, gt=Y), facts)


@pytest.mark.parametrize("turned", [False, True])
def test_sparse_views_stay_sparse(save, turned) -> None:
    way = "features-by-samples" if turned else "samples-by-features"
    matrix = sparse.csc_array(A.astype(float))
    path = save(X=cells(matrix.T if turned else matrix, B.T if turned else B), gt=Y)
    mv, _, _ = read_matlab(path, entry(orientation=way))
    assert mv.kinds == ("sparse", "dense")
    assert_array_equal(mv["a"].toarray(), A)


def test_a_single_matrix_is_the_only_view(save) -> None:
    mv, _, _ = read_matlab(save(X=A, gt=Y), entry(views={"a": 2}))
    assert mv.names == ("a",)


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        ({"Z": A, "gt": Y}, {}, "no variable 'X'; it holds Z, gt"),
        ({"X": cells(A, B), "gt": Y}, {"keys": {"views": "X", "target": "Y"}}, "variable 'Y'"),
        ({"X": cells(A), "gt": Y}, {}, "holds 1 views but the catalogue names 2"),
        ({"X": cells(A, B), "gt": Y}, {"views": {"a": 2, "b": 4}}, "3 columns in view 'b' but"),
        ({"X": cells(A, B), "gt": Y}, {"samples": 7}, "has 6 samples but the catalogue says 7"),
        ({"X": cells(A, B), "gt": Y}, {"classes": 2}, "has 3 classes but the catalogue says 2"),
        ({"X": cells(A.T, B.T), "gt": Y}, {}, "the other way round"),
        ({"X": cells(A[:5], B), "gt": Y}, {}, "must describe the same samples"),
        ({"X": cells(A, "text"), "gt": Y}, {}, "view 'b'"),
        ({"X": cells(A, np.where(B[0, 0] < B, B, np.nan)), "gt": Y}, {}, "view 'b' has NaN"),
        ({"X": cells(A, B), "gt": Y + 0.5}, {}, "whole numbers, but row 0 is 1.5"),
        ({"X": cells(A, B), "gt": np.full(6, np.nan)}, {}, "whole numbers"),
        ({"X": cells(A, B), "gt": np.eye(6)}, {}, "one whole number per sample"),
        ({"X": cells(A, B), "gt": list("abcabc")}, {}, "one whole number per sample"),
    ],
)
def test_what_does_not_fit_is_refused(save, content, changes, words) -> None:
    path = save(**content)
    with pytest.raises(DataError, match=words) as caught:
        read_matlab(path, entry(**changes))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_anywhere(save, tmp_path) -> None:
    whole = save(X=cells(A, B), gt=Y).read_bytes()
    path = tmp_path / "cut.mat"
    for size in [*range(0, 300, 7), *range(300, len(whole) - 1, 29)]:
        path.write_bytes(whole[:size])
        with pytest.raises(DataError):
            read_matlab(path, entry())


@pytest.mark.parametrize("seed", range(30))
def test_damaged_bytes_never_escape_as_another_error(save, tmp_path, seed) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(save(X=cells(A, B), gt=Y).read_bytes())
    for position in rng.integers(len(content), size=8):
        content[position] = rng.integers(256)
    path = tmp_path / "damaged.mat"
    path.write_bytes(content)
    with contextlib.suppress(DataError):  # any other error fails the test
        read_matlab(path, entry())


def test_other_kinds_of_file(tmp_path) -> None:
    path = tmp_path / "mine.mat"
    version_7_3 = b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\x89HDF\r\n\x1a\n"
    path.write_bytes(version_7_3.ljust(1024, b"\0"))
    with pytest.raises(DataError, match=r"version 7.3, .*save it again"):
        read_matlab(path, entry())
    path.write_bytes(pickle.dumps({"X": A}))
    with pytest.raises(DataError, match="not a whole MATLAB file"):
        read_matlab(path, entry())
    for bad in (tmp_path, tmp_path / "absent.mat"):
        with pytest.raises(DataError, match="not a whole MATLAB file"):
            read_matlab(bad, entry())
