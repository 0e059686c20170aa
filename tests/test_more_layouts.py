"""Layouts of public array files and containers: no label among views, nothing lost in silence."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import sparse
from scipy.io import savemat
from sklearn.metrics import cohen_kappa_score
from sklearn.preprocessing import OneHotEncoder

from rcml_misa import TablePreparer
from rcml_misa.cli import main
from rcml_misa.datasets import FileOptions
from rcml_misa.datasets.files import check_file, file_rows, read_own_file
from rcml_misa.datasets.files.label_forms import one_hot_codes, repeats_labels
from rcml_misa.datasets.files.leaks import find_leaks
from rcml_misa.estimators import RidgeExpertClassifier
from rcml_misa.exceptions import DataError, RcmlMisaError
from rcml_misa.views import MultiView, RawTable, as_multiview, dense
from rcml_misa.views.column_kinds import numbering_columns

ROWS = 60
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(ROWS, 5)), RNG.normal(size=(ROWS, 4))
Y = RNG.permutation(np.arange(ROWS) % 3) + 1
CODES = OneHotEncoder(sparse_output=False).fit_transform(Y[:, None])
SHUFFLED = RNG.permutation(ROWS)


def cell(*items):
    cells = np.empty((1, len(items)), dtype=object)
    for place, item in enumerate(items):
        cells[0, place] = item
    return cells


def write(path, variables):
    if path.suffix == ".mat":
        savemat(path, variables)
    elif path.suffix == ".npz":
        np.savez(path, **variables)
    else:
        with h5py.File(path, "w", track_order=True) as file:
            for name, value in variables.items():
                file[name] = value
    return path


def read(path, **options):
    return read_own_file(path, FileOptions(**options))


def said(own, words):
    return [note for note in own.notes if words in note]


def again(path, own, rows=7):
    """Read a file in chunks, as `predict` does."""
    widths = dict(zip(own.views.names, own.views.widths, strict=True))
    return list(file_rows(path, own.layout, widths, rows=rows))


# one-hot targets


@pytest.mark.parametrize("end", [".mat", ".npz", ".h5"])
@pytest.mark.parametrize(
    "target",
    [CODES, CODES.T, 2 * CODES - 1, CODES.astype("u1"), np.c_[CODES, np.zeros(ROWS)]],
    ids=["rows", "columns", "signs", "bytes", "an unused class"],
)
def test_one_hot_targets_are_read_and_read_again(end, target, tmp_path):
    path = write(tmp_path / f"a{end}", {"a": A, "b": B, "labels": target})
    own = read(path)
    assert own.labels.tolist() == (Y - 1).tolist()
    assert own.views.names == ("a", "b")
    assert said(own, f"labels ({min(target.shape)} columns) is one-hot")
    stored = np.concatenate([chunk.labels for chunk in again(path, own)])
    assert stored.tolist() == (Y - 1).tolist()
    one = target[:, :1] if len(target) < ROWS else target[:1]
    (chunk,) = again(write(tmp_path / f"b{end}", {"a": A[:1], "b": B[:1], "labels": one}), own)
    assert chunk.labels.tolist() == [Y[0] - 1]


@pytest.mark.parametrize(
    ("variables", "options"),
    [
        ({"X": cell(A, B), "Y": sparse.csc_matrix(CODES)}, {}),
        ({"X": cell(A, B), "Y": cell(CODES, CODES)}, {}),
        ({"X": cell(A, B), "categories": CODES > 0}, {"target": "categories"}),
    ],
    ids=["sparse", "a cell", "by option"],
)
def test_other_forms_of_one_hot_targets(variables, options, tmp_path):
    own = read(write(tmp_path / "a.mat", variables), **options)
    assert own.labels.tolist() == (Y - 1).tolist()
    assert own.views.names == ("X1", "X2")


def test_one_hot_parts_of_a_split_are_joined(tmp_path):
    parts = {"x_train": A[:40], "x_test": A[40:], "y_train": CODES[:40], "y_test": CODES[40:]}
    path = write(tmp_path / "a.npz", parts)
    own = read(path)
    assert own.labels.tolist() == (Y - 1).tolist()
    assert [len(rows) for rows in own.folds.values()] == [40, 20]
    stored = np.concatenate([chunk.labels for chunk in again(path, own)])
    assert stored.tolist() == (Y - 1).tolist()


@pytest.mark.parametrize(
    "target", [np.maximum(CODES, np.roll(CODES, 1, 0)), np.c_[Y, Y], CODES / 2]
)
def test_targets_of_several_values_per_row_are_refused_with_a_way_out(target, tmp_path):
    path = write(tmp_path / "a.npz", {"a": A, "y": target})
    with pytest.raises(DataError, match=r"one label per row, or one-hot .* --target") as caught:
        read(path)
    assert len(str(caught.value).replace(str(tmp_path), "")) <= 300


def test_one_hot_codes_agree_with_an_encoder():
    for array in (CODES, CODES.T, sparse.csr_array(CODES)):
        assert one_hot_codes(array).tolist() == CODES.argmax(axis=1).tolist()
    assert one_hot_codes(CODES * 2) is None
    assert one_hot_codes(CODES[:, :2]) is None
    assert one_hot_codes(CODES.T, rows=3) is None


# labels among views


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("Y", CODES),
        ("F", CODES.T),
        ("F", 2 * CODES[:, ::-1] - 1),
        ("coarse_labels", (Y[:, None] > 1) * 1.0),
        ("noisyLabel", np.roll(Y, 3)[:, None]),
        ("Yn", np.where(np.arange(ROWS) < 10, 1, Y)[:, None]),
        ("s.gt2", Y[:, None] * 1.0),
    ],
)
def test_labels_in_any_form_are_no_views(name, array, tmp_path):
    path = write(tmp_path / "a.npz", {"a": A, "b": B, "gt": Y, name: array})
    own = read(path)
    assert own.views.names == ("a", "b")
    assert own.layout.target == "gt"
    assert said(own, f"{name} holds labels, as the target gt does, and is left out")
    assert name in read(path, views=f"a,b,{name}").views.names


def test_views_that_are_like_labels_by_chance_stay(tmp_path):
    few = write(tmp_path / "a.npz", {"a": A[:3], "b": np.eye(3), "gt": np.arange(3)})
    assert read(few).views.names == ("a", "b")
    grade = np.where(np.arange(ROWS) % 2, Y, SHUFFLED % 3 + 1)[:, None]
    own = read(write(tmp_path / "b.npz", {"a": A, "grade": grade[::-1], "gt": Y}))
    assert own.views.names == ("a", "grade")


@pytest.mark.parametrize("flipped", [0, 10, 25, 45])
def test_noisy_labels_are_told_by_cohens_kappa(flipped):
    values = np.where(np.arange(ROWS) < flipped, RNG.permutation(Y), Y)
    assert repeats_labels(values, Y) == (cohen_kappa_score(values, Y) >= 0.5)


def test_names_of_classes_are_no_target(tmp_path):
    names = cell("cat", "dog", "bird")
    path = write(tmp_path / "a.mat", {"X": cell(A, B), "gt": Y[:, None], "labels": names})
    own = read(path)
    assert (own.layout.target, own.views.names) == ("gt", ("X1", "X2"))
    assert said(own, "labels (texts)")


def test_characters_of_a_text_are_labels_of_the_rows(tmp_path):
    text = "".join("abc"[label - 1] for label in Y)
    path = write(tmp_path / "a.mat", {"X": cell(A.T, B.T), "truth": text})
    own = read(path)
    assert own.labels.tolist() == list(text)
    assert np.concatenate([chunk.labels for chunk in again(path, own)]).tolist() == list(text)


def test_a_leak_of_an_array_names_what_can_be_left_out(tmp_path):
    order = np.argsort(Y, kind="stable")
    views = {"a": A[order], "row": np.arange(ROWS)[:, None] + 5, "b": np.c_[B[order], range(ROWS)]}
    path = write(tmp_path / "a.npz", {**views, "y": Y[order]})
    own = read(path)
    leaks = find_leaks(own)
    assert {leak.subject for leak in leaks} == {"view 'row'", "column 4 of view 'b'"}
    names = ",".join(name for leak in leaks for name in leak.leave_out)
    assert read(path, leave_out=names).views.names == ("a",)


# splits by row numbers


@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize(
    "names", [("trainIdx", "testIdx"), ("train_ind", "test_ind"), ("idx_train", "idx_test")]
)
def test_row_numbers_of_train_and_test_rows_are_the_split(base, names, tmp_path):
    numbers = {names[0]: SHUFFLED[:40] + base, names[1]: SHUFFLED[40:] + base}
    own = read(write(tmp_path / "a.mat", {"X": cell(A, B), "Y": Y, **numbers}))
    assert own.folds["train"].tolist() == sorted(SHUFFLED[:40])
    assert own.folds["test"].tolist() == sorted(SHUFFLED[40:])
    assert own.views.names == ("X1", "X2")
    assert said(own, "the file's own split was read from")


def test_masks_of_rows_are_the_split_and_no_views(tmp_path):
    part = SHUFFLED % 3
    masks = {
        f"{name}_mask": (part == k)[:, None] for k, name in enumerate(("train", "val", "test"))
    }
    own = read(write(tmp_path / "a.npz", {"a": A, "y": Y, **masks}))
    assert own.views.names == ("a",)
    for place, name in enumerate(("train", "valid", "test")):
        assert own.folds[name].tolist() == np.flatnonzero(part == place).tolist()


@pytest.mark.parametrize(
    "numbers",
    [
        {"train_idx": np.arange(40), "test_idx": np.arange(30, ROWS)},
        {"train_idx": np.arange(40), "test_idx": np.arange(41, ROWS)},
        {"train_idx": np.arange(40)},
        {"train_idx": np.arange(80).reshape(2, 40), "test_idx": np.arange(40).reshape(2, 20)},
        {"train_mask": np.ones((ROWS, 1), bool), "test_mask": np.ones((ROWS, 1), bool)},
    ],
    ids=["overlap", "gap", "one part", "repeats", "masks"],
)
def test_row_numbers_that_divide_no_rows_are_noted(numbers, tmp_path):
    own = read(write(tmp_path / "a.npz", {"a": A, "b": B, "y": Y, **numbers}))
    assert own.folds is None
    assert own.views.names == ("a", "b")
    assert said(own, "--split-column")
    assert not said(own, "left out, being no views")


# views lost, doubled, or of other rows


@pytest.mark.parametrize("kind", ["dense", "single", "sparse", "turned"])
def test_all_views_side_by_side_are_no_view_of_their_own(kind, tmp_path):
    whole = np.c_[A, B]
    whole = {"single": whole.astype("f4"), "sparse": sparse.csc_matrix(whole)}.get(kind, whole)
    turn = kind == "turned"
    views = cell(A.T, B.T) if turn else cell(A, B)
    path = write(tmp_path / "a.mat", {"data": whole.T if turn else whole, "X": views, "Y": Y})
    own = read(path)
    assert own.views.names == ("X1", "X2")
    assert said(own, "data holds the columns of X1 and X2 and is left out")
    other = write(tmp_path / "b.mat", {"data": np.c_[B, A], "X": cell(A, B), "Y": Y})
    assert len(read(other).views) == 3


def test_similarities_are_noted_in_one_line_with_the_way_out(tmp_path):
    graphs = cell(A @ A.T, sparse.csc_matrix(B @ B.T))
    own = read(write(tmp_path / "a.mat", {"X": cell(A, B), "S": graphs, "Y": Y}))
    (note,) = said(own, "symmetric square matrices")
    assert "--leave-out S1,S2" in note
    assert len(note) <= 300
    found = [finding for finding in check_file(own) if "symmetric" in finding.what]
    assert [finding.level for finding in found] == ["warning"]
    skew = np.triu(A @ A.T) - np.tril(A @ A.T, -1)
    assert not said(read(write(tmp_path / "b.npz", {"a": A, "s": skew, "y": Y})), "symmetric")


def test_arrays_of_other_rows_are_named_at_once_by_their_cell(tmp_path):
    path = write(tmp_path / "a.mat", {"X": cell(A, B), "anchor": cell(A[:6], B[:6]), "Y": Y})
    with pytest.raises(DataError, match=r"\(and 1 more do not fit\).*--leave-out anchor\.$"):
        read(path)
    assert read(path, leave_out="anchor").views.names == ("X1", "X2")


def test_many_alike_parts_are_left_out_in_few_words(tmp_path):
    path = write(tmp_path / "a.mat", {"X": cell(A, B), "Y": Y, "perm": cell(*np.ones((9, 7)))})
    assert said(read(path), "left out, being no views: 9 arrays of perm (shape (1, 7))")


def test_an_id_is_not_left_out_and_a_scalar_is_no_id(tmp_path):
    ids = np.array([f"s{row}" for row in range(ROWS)])
    own = read(write(tmp_path / "a.npz", {"a": A, "y": Y, "id": ids}))
    assert own.ids.tolist() == ids.tolist()
    assert not said(own, "left out")
    assert read(write(tmp_path / "b.npz", {"a": A, "y": Y, "id": np.array(3)})).ids is None


@pytest.mark.parametrize("kind", ["npz", "h5"])
def test_records_are_a_table_with_texts_and_labels_apart(kind, tmp_path):
    records = np.zeros(ROWS, dtype=[("p", "f8"), ("q", "f4"), ("label", "i8"), ("name", "S3")])
    records["p"], records["q"], records["label"] = A[:, 0], A[:, 1].astype("f4"), Y
    own = read(write(tmp_path / f"a.{kind}", {"rec": records, "b": B}))
    assert own.labels.tolist() == Y.tolist()
    assert set(own.views.names) == {"rec", "b"}
    np.testing.assert_array_equal(own.views["rec"][:, 1], A[:, 1].astype("f4"))


@pytest.mark.parametrize("form", ["csr", "csc"])
@pytest.mark.parametrize("where", ["attribute", "member"])
def test_compressed_groups_of_hdf5_are_sparse_views(form, where, tmp_path):
    matrix = sparse.csr_array(np.maximum(A, 0)).asformat(form)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for part in ("data", "indices", "indptr"):
            file[f"rna/{part}"] = getattr(matrix, part)
        if where == "member":
            file["rna/shape"] = matrix.shape
        else:
            file["rna"].attrs.update({"shape": matrix.shape, "encoding-type": f"{form}_matrix"})
        file["y"] = Y
    own = read(tmp_path / "a.h5")
    assert own.views.kinds == ("sparse",)
    np.testing.assert_array_equal(dense(own.views["rna"]), np.maximum(A, 0))


def test_annotated_data_are_read_by_rows(tmp_path):
    path = tmp_path / "a.h5ad"
    with h5py.File(path, "w") as file:
        file["X"], file["obsm/protein"], file["varm/PCs"], file["uns/v"] = A, B, A[:5], B[:4]
        file["var/_index"] = [f"g{place}" for place in range(5)]
        file["obs/cell_type/categories"] = ["b", "t", "nk"]
        file["obs/cell_type/codes"] = (Y - 1).astype("i1")
    own = read(path, target="cell_type")
    assert own.labels.tolist() == np.array(["b", "t", "nk"])[Y - 1].tolist()
    assert set(own.views.names) == {"X", "protein"}
    assert said(own, "var (no rows of samples)")
    with h5py.File(path, "a") as file:
        file["obs/cell_type/codes"][3] = -1
    with pytest.raises(DataError, match="1 of 60 rows have no label"):
        read(path, target="cell_type")


def test_a_group_of_hdf5_alone_is_read_by_its_whole_path(tmp_path):
    own = read(write(tmp_path / "a.h5", {"a/data": A, "b/data": B, "label": Y}))
    assert own.views.names == ("a/data", "b/data")
    (chunk,) = again(write(tmp_path / "b.h5", {"b/data": B[:3]}), own)
    assert chunk.views["a/data"] is None
    np.testing.assert_array_equal(chunk.views["b/data"], B[:3])


def test_objects_are_refused_with_a_way_out(tmp_path):
    path = write(tmp_path / "a.npz", {"a": A, "y": np.array(["u", "v"] * 30, dtype=object)})
    with pytest.raises(DataError, match=r"'y' can't be read: it holds objects.*astype\(str\)"):
        read(path)


# every command on every layout

LAYOUTS = {
    "cells.mat": lambda a, b, y: {"X": cell(a.T, b.T), "Y": (y == np.unique(y)) * 1.0},
    "masks.npz": lambda a, b, y: {
        **{"a": a, "b": b, "y": y},
        **{"train_mask": np.arange(len(y)) % 3 > 0, "test_mask": np.arange(len(y)) % 3 == 0},
    },
    "copies.h5": lambda a, b, y: {"a": a, "b": b, "gt": y, "label_noisy": y, "ab": np.c_[a, b]},
}


def call(*words):
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == 0, result.output
    assert len(result.stderr.splitlines()) <= 8
    return result


@pytest.mark.parametrize("name", LAYOUTS)
def test_commands_on_noise_are_at_chance_and_read_new_rows_alike(name, tmp_path):
    y = RNG.permutation(np.arange(150) % 3)[:, None]
    a, b = RNG.normal(size=(150, 5)), RNG.normal(size=(150, 4))
    noise = write(tmp_path / f"noise_{name}", LAYOUTS[name](a, b, y))
    call("datasets", "check", noise)
    quick = ("--method", "lda", "--runs", 4, "--jobs", 1, "--json")
    record = json.loads(call("run", "--dataset", noise, *quick).stdout)
    assert record["results"][0]["mean"] < 0.55
    a = a + y * [3.0, 0, 0, 0, 0]
    model = tmp_path / "m.rcml"
    path = write(tmp_path / name, LAYOUTS[name](a, b, y))
    call("fit", "--dataset", path, "--method", "ridge-expert", "--out", model)
    call("inspect", model)
    answers = []
    for labelled in (True, False):
        variables = LAYOUTS[name](a[90:], b[90:], y[90:])
        views = {key: variables[key] for key in ("X", "a", "b") if key in variables}
        new = write(tmp_path / f"new_{name}", variables if labelled else views)
        shown = call("predict", model, new, "--out", tmp_path / "out.csv").stdout
        assert ("right of 60" in shown) is labelled
        answers.append(pd.read_csv(tmp_path / "out.csv"))
    pd.testing.assert_frame_equal(*answers)
    assert (answers[0]["class"] == y[90:, 0]).mean() > 0.8


# raw columns and containers


def test_ranks_are_values_and_a_single_counter_is_none(tmp_path):
    ranks = A.argsort(axis=0).argsort(axis=0) + 1.0
    assert not numbering_columns([""] * 5, ranks)
    assert numbering_columns([""], ranks[:, :1]) == [""]
    own = read(write(tmp_path / "a.npz", {"a": ranks, "k": SHUFFLED[:, None], "y": Y}))
    assert isinstance(own.views["a"], np.ndarray)
    assert isinstance(own.views["k"], RawTable)
    assert any("view k: 1 column: 1 set aside" in finding.what for finding in check_file(own))
    quick = ("--method", "majority", "--runs", "1", "--jobs", "1")
    result = CliRunner().invoke(main, ["run", "--dataset", str(tmp_path / "a.npz"), *quick])
    assert "column 0 of view k set aside, numbering the rows" in result.stderr
    assert result.stderr.count("view k has no column left and is set aside") == 1


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("table", [A, np.asfortranarray(A), np.c_[A, B][:, :5]])
def test_float64_arrays_are_not_copied(raw, table):
    assert np.shares_memory(as_multiview({"a": table}, raw=raw)["a"], table)
    views = as_multiview(table, views=[2, 3], raw=raw)
    assert all(np.shares_memory(view, table) for view in views.arrays)
    prepared = TablePreparer().fit({"a": table}).transform({"a": table})
    assert np.shares_memory(prepared["a"], table)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (cell(A, B), r"array of 2 tables, .* give list\(X.ravel\(\)\)"),
        (cell(A, B)[0], r"array of 2 tables, .* give list\(X.ravel\(\)\)"),
        ((view for view in (A, B)), "X is one generator and no table"),
        ({"a": A, "b": {"x": B}}, "view 'b' is one dict and no table"),
        ({"a": A, "b": B}.values(), "X is one dict_values and no table"),
    ],
)
def test_what_is_no_table_is_named_with_a_way_out(X, words):
    with pytest.raises(DataError, match=words):
        RidgeExpertClassifier().fit(X, Y)


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (CODES, r"y.argmax\(axis=1\)"),
        (np.where(Y == 1, np.nan, Y), "20 of 60 rows have no label .the first is row 7"),
        (Y + 0.3, "Unknown label type: continuous; give one"),
        (np.array([b"u", b"v", b"w"])[Y - 1], "bytes is not supported"),
        ([None, *Y[1:].tolist()], "1 of 60 rows have no label .the first is row 0"),
    ],
)
def test_targets_that_are_no_classes_are_refused_in_a_sentence(y, words):
    with pytest.raises(RcmlMisaError, match=words) as caught:
        RidgeExpertClassifier().fit({"a": A, "b": B}, y)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("labels", [Y, Y * 10, np.array(["u", "v", "w"])[Y - 1]])
def test_categories_of_any_type_are_labels(labels):
    model = RidgeExpertClassifier(random_state=0)
    plain = model.fit({"a": A, "b": B}, labels).predict({"a": A, "b": B})
    model.fit({"a": A, "b": B}, pd.Series(labels).astype("category"))
    assert model.classes_.tolist() == sorted(set(labels.tolist()))
    assert model.predict({"a": A, "b": B}).tolist() == plain.tolist()


def test_other_widths_are_refused_with_a_way_out():
    model = RidgeExpertClassifier().fit(MultiView({"a": A, "b": B}), Y)
    with pytest.raises(DataError, match="4 columns but fit saw 5; give the same columns"):
        model.predict({"a": B, "b": B})
