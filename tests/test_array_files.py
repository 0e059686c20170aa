"""Files of arrays: what is read equals what was written in any layout, and nothing vanishes."""

from __future__ import annotations

import json
import struct

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.io import savemat

from rcml_misa.datasets import FileOptions
from rcml_misa.datasets.files import FileLayout, as_labels, file_rows, read_own_file
from rcml_misa.datasets.files.array_tables import ArrayTable, find_twins
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError
from rcml_misa.views import MultiView, dense

ROWS = 12
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(ROWS, 4)), RNG.normal(size=(ROWS, 3))
Y = np.arange(ROWS) % 3 + 1


def cell(*items):
    cells = np.empty((1, len(items)), dtype=object)
    for place, item in enumerate(items):
        cells[0, place] = item
    return cells


def v73_item(file, name, value):
    """Write a variable as MATLAB 7.3 does: axes in reverse, cells as references."""
    if sparse.issparse(value):
        matrix, item = sparse.csc_array(value), file.create_group(name)
        item.attrs["MATLAB_sparse"] = np.uint64(matrix.shape[0])
        item["jc"] = matrix.indptr.astype("u8")
        if matrix.nnz:
            item["data"], item["ir"] = matrix.data, matrix.indices.astype("u8")
        kind = "double"
    elif isinstance(value, dict):
        item, kind = file.create_group(name), "struct"
        for field, part in value.items():
            v73_item(file, f"{name}/{field}", part)
    elif isinstance(value, str):
        codes = np.frombuffer(value.encode("utf-16-le"), dtype="<u2")
        item, kind = file.create_dataset(name, data=codes[:, None]), "char"
    elif value.dtype == object:
        item = file.create_dataset(name, value.T.shape, dtype=h5py.ref_dtype)
        for number, part in enumerate(value.ravel()):
            place = f"#refs#/{name.replace('/', '_')}{number}"
            v73_item(file, place, part)
            item[np.unravel_index(number, value.T.shape)] = file[place].ref
        kind = "cell"
    else:
        values = np.atleast_2d(value)
        item, kind = file.create_dataset(name, data=values.T), str(values.dtype)
        kind = {"float64": "double", "float32": "single"}.get(kind, kind)
    item.attrs["MATLAB_class"] = np.bytes_(kind)


def v73(path, variables):
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            v73_item(file, name, value)


def hdf5(path, variables):
    with h5py.File(path, "w", track_order=True) as file:
        for name, value in variables.items():
            file[name] = value


def npz(path, variables):
    np.savez(path, **variables)


MATLAB = {"v5": savemat, "v73": v73}
PLAIN = {"a.npz": npz, "a.h5": hdf5, "a.mat": savemat}


def read(path, **options):
    return read_own_file(path, FileOptions(**options))


def check(path, expected, *, labels=Y, **options):
    """Compare what is read, and what is read again in chunks to predict, with what was written."""
    own = read(path, **options)
    assert own.views.names == tuple(expected)
    assert own.labels.tolist() == list(labels)
    widths = dict(zip(own.views.names, own.views.widths, strict=True))
    layout = FileLayout.from_json(json.loads(json.dumps(own.layout.to_json())))
    assert layout == own.layout
    chunks = list(file_rows(path, layout, widths, rows=5))
    for name, values in expected.items():
        np.testing.assert_array_equal(dense(own.views[name]), values)
        parts = [dense(MultiView({name: chunk.views[name]})[name]) for chunk in chunks]
        np.testing.assert_array_equal(np.concatenate(parts), values)
    stored = np.concatenate([chunk.labels for chunk in chunks])
    assert as_labels(stored, name="y", path=path).tolist() == list(labels)
    return own


def said(own, words):
    return [note for note in own.notes if words in note]


# labels


@pytest.mark.parametrize("version", MATLAB)
@pytest.mark.parametrize("target", [None, "truelabel", "truelabel1", "truelabel2"])
def test_a_cell_of_equal_label_vectors_is_one_target(version, target, tmp_path):
    variables = {"data": cell(A.T, B.T), "truelabel": cell(Y[None] * 1.0, Y[:, None] * 1.0)}
    MATLAB[version](tmp_path / "a.mat", variables)
    own = read(tmp_path / "a.mat", target=target)
    assert own.views.names == ("data1", "data2")
    assert own.layout.target == "truelabel"
    assert own.labels.tolist() == Y.tolist()
    assert said(own, "truelabel holds the same labels 2 times")


@pytest.mark.parametrize("version", MATLAB)
def test_fields_of_equal_label_vectors_are_one_target(version, tmp_path):
    labels = {"first": Y[None] * 1.0, "second": Y[None] * 1.0}
    MATLAB[version](tmp_path / "a.mat", {"a": A, "b": B, "labels": labels})
    own = read(tmp_path / "a.mat")
    assert (own.views.names, own.layout.target) == (("a", "b"), "labels")


def test_labels_of_a_cell_that_differ_are_refused_until_one_is_named(tmp_path):
    other = np.where(Y == 3, 1, Y)
    savemat(tmp_path / "a.mat", {"X": cell(A, B), "gnd": cell(Y[:, None], other[:, None])})
    with pytest.raises(OptionError, match=r"label vectors of gnd differ .* --target gnd1"):
        read(tmp_path / "a.mat")
    own = read(tmp_path / "a.mat", target="gnd2")
    assert own.labels.tolist() == other.tolist()
    assert own.views.names == ("X1", "X2")
    assert said(own, "gnd1 (labels as gnd2 is)")


@pytest.mark.parametrize("name", PLAIN)
def test_a_second_label_vector_is_no_view(name, tmp_path):
    variables = {"a": A, "copy": Y[:, None] * 1.0, "gt": Y, "labels": (Y[::-1])[:, None].copy()}
    PLAIN[name](tmp_path / name, variables)
    own = read(tmp_path / name, target="gt")
    assert own.views.names == ("a",)
    assert said(own, "copy and labels hold labels, as the target gt does")
    assert read(tmp_path / name, target="gt", views="a,copy").views.names == ("a", "copy")


@pytest.mark.parametrize(
    "name", ["truth", "gnd", "truelabel", "true_label", "Label", "groundtruth", "target_names"]
)
def test_usual_names_of_targets(name, tmp_path):
    np.savez(tmp_path / "a.npz", a=A, **{name: Y})
    assert read(tmp_path / "a.npz").layout.target == name


def test_a_view_that_is_called_y_is_no_target_where_labels_have_another_name(tmp_path):
    savemat(tmp_path / "a.mat", {"X": A, "Y": B, "gt": Y})
    own = check(tmp_path / "a.mat", {"X": A, "Y": B})
    assert own.layout.target == "gt"


NAMES = ["ant", "bee", "élan"]


@pytest.mark.parametrize("version", MATLAB)
@pytest.mark.parametrize("form", ["cellstr", "char"])
def test_texts_of_matlab_are_labels(version, form, tmp_path):
    labels = [NAMES[number - 1] for number in Y]
    if form == "cellstr":
        value = cell(*labels).T
        if version == "v5":
            value = cell(*(np.array([label]) for label in labels)).T
        MATLAB[version](tmp_path / "a.mat", {"a": A, "label": value})
    elif version == "v5":
        savemat(tmp_path / "a.mat", {"a": A, "label": np.array(labels)})
    else:
        v73(tmp_path / "a.mat", {"a": A})
        with h5py.File(tmp_path / "a.mat", "a") as file:
            codes = np.array([[ord(mark) for mark in label.ljust(4)] for label in labels], "<u2")
            item = file.create_dataset("label", data=codes.T)
            item.attrs["MATLAB_class"] = np.bytes_("char")
    check(tmp_path / "a.mat", {"a": A}, labels=labels)


def v5_opaque(path, name, kind):
    """Write an object of MATLAB, such as a string, as version 5 keeps it."""

    def element(tag, data):
        return struct.pack("<II", tag, len(data)) + data + b"\0" * (-len(data) % 8)

    content = element(6, struct.pack("<II", 17, 0))
    content += b"".join(element(1, text) for text in (name, b"MCOS", kind))
    numbers = element(6, struct.pack("<II", 13, 0)) + element(5, struct.pack("<ii", 2, 1))
    content += element(14, numbers + element(1, b"") + element(6, struct.pack("<II", 1, 2)))
    with path.open("ab") as stream:
        stream.write(element(14, content))


def test_objects_of_matlab_are_named_with_the_way_out(tmp_path):
    savemat(tmp_path / "a.mat", {"a": A, "y": Y})
    v5_opaque(tmp_path / "a.mat", b"note", b"string")
    own = check(tmp_path / "a.mat", {"a": A})
    assert said(own, "note (a MATLAB string object, which MATLAB alone reads; save texts with")
    savemat(tmp_path / "b.mat", {"a": A})
    v5_opaque(tmp_path / "b.mat", b"label", b"string")
    with pytest.raises(DataError, match="the target 'label' can't be read: a MATLAB string"):
        read(tmp_path / "b.mat")
    v73(tmp_path / "c.mat", {"a": A, "y": Y * 1.0})
    with h5py.File(tmp_path / "c.mat", "a") as file:
        item = file.create_dataset("words", data=np.zeros((1, 6), dtype="u4"))
        item.attrs["MATLAB_class"] = np.bytes_("string")
        item.attrs["MATLAB_object_decode"] = 3
    assert said(read(tmp_path / "c.mat"), "words (a MATLAB string object")


# views that were dropped


@pytest.mark.parametrize("version", MATLAB)
@pytest.mark.parametrize("empty", [False, True])
def test_sparse_variables_and_cells(version, empty, tmp_path):
    few = sparse.csc_array(np.maximum(A, 0) * (0 if empty else 1))
    other = sparse.csc_array(np.maximum(B, 0))
    MATLAB[version](tmp_path / "a.mat", {"X": cell(few, B), "s": other, "y": Y * 1.0})
    own = check(tmp_path / "a.mat", {"X1": few.toarray(), "X2": B, "s": other.toarray()})
    assert own.views.kinds == ("sparse", "dense", "sparse")


@pytest.mark.parametrize("version", MATLAB)
def test_structures_are_read_by_field_and_one_level_within(version, tmp_path):
    deep = {"lost": {"more": {"deep": A[:, :2]}}}
    variables = {
        "s": {"face": A, "in": {"voice": B.T}},
        "meta": {"gt": Y[:, None] * 1.0},
        "d": deep,
    }
    MATLAB[version](tmp_path / "a.mat", variables)
    own = read(tmp_path / "a.mat")
    assert set(own.views.names) == {"s.face", "s.in.voice"}
    np.testing.assert_array_equal(own.views["s.in.voice"], B)
    assert own.layout.target == "meta.gt"
    assert said(own, "d.lost.more (a structure within structures)")
    check(tmp_path / "a.mat", {"s.face": A}, views="s.face")


def test_an_array_of_structures_is_a_cell_per_field(tmp_path):
    records = np.zeros((1, 2), dtype=[("fea", object), ("name", object)])
    records[0, 0], records[0, 1] = (A, "face"), (B, "voice")
    savemat(tmp_path / "a.mat", {"v": records, "y": Y})
    own = check(tmp_path / "a.mat", {"v.fea1": A, "v.fea2": B})
    assert said(own, "v.name (texts)")


@pytest.mark.parametrize("version", MATLAB)
@pytest.mark.parametrize("last", [False, True])
def test_images_are_flattened_row_by_row(version, last, tmp_path):
    images = RNG.normal(size=(ROWS, 5, 2, 3))
    stored = np.moveaxis(images, 0, -1) if last else images
    MATLAB[version](tmp_path / "a.mat", {"X": cell(stored, B), "y": Y * 1.0})
    own = check(tmp_path / "a.mat", {"X1": images.reshape(ROWS, -1), "X2": B})
    assert said(own, "was flattened to 30 columns per row; sequences are given to MultiView")
    assert own.layout.turned == (("X1",) if last else ())


@pytest.mark.parametrize("name", PLAIN)
def test_three_axes_of_any_file_are_flattened(name, tmp_path):
    steps = RNG.normal(size=(ROWS, 3, 2))
    PLAIN[name](tmp_path / name, {"steps": steps, "y": Y})
    check(tmp_path / name, {"steps": steps.reshape(ROWS, 6)})


def test_a_cell_with_one_array_per_sample(tmp_path):
    images = RNG.normal(size=(ROWS, 5, 2))
    savemat(tmp_path / "a.mat", {"X": cell(*images), "b": B, "y": Y})
    own = check(tmp_path / "a.mat", {"X": images.reshape(ROWS, -1), "b": B})
    assert said(own, "X has one array per sample")
    ragged = [RNG.normal(size=(2 + number % 2, 5)) for number in range(ROWS)]
    savemat(tmp_path / "b.mat", {"X": cell(*ragged), "b": B, "y": Y})
    with pytest.raises(DataError, match="X has one array per sample, of different shapes"):
        read(tmp_path / "b.mat")


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_view_is_named(name, tmp_path):
    words = ["a text"] * 3 if name == "a.h5" else np.array(["a text"] * 3)
    PLAIN[name](tmp_path / name, {"a": A, "y": Y, "words": words, "k": 3, "few": np.arange(5)})
    own = check(tmp_path / name, {"a": A})
    (note,) = said(own, "left out, being no views")
    assert "words (texts)" in note
    assert "k (a single value)" in note
    assert "few (shape" in note


def test_complex_and_empty_variables_and_objects_are_named(tmp_path):
    savemat(tmp_path / "a.mat", {"a": A, "y": Y, "z": A + 1j, "e": np.empty((0, 0))})
    own = check(tmp_path / "a.mat", {"a": A})
    assert said(own, "z (complex numbers), e (empty)") or said(own, "z (complex numbers) and e (e")
    np.savez(tmp_path / "b.npz", a=A, y=Y, more=np.array([{}, None], dtype=object))
    own = check(tmp_path / "b.npz", {"a": A})
    assert said(own, "more (it holds objects, which could execute code)")


def test_a_cell_never_replaces_a_variable_of_its_cells_name(tmp_path):
    savemat(tmp_path / "a.mat", {"X": cell(A, B), "X1": A + 1, "y": Y})
    check(tmp_path / "a.mat", {"X{1}": A, "X{2}": B, "X1": A + 1})


def test_a_cell_in_a_cell_has_a_name_of_its_own(tmp_path):
    savemat(tmp_path / "a.mat", {"X": cell(cell(A, B), A + 1), "y": Y})
    check(tmp_path / "a.mat", {"X1_1": A, "X1_2": B, "X2": A + 1})


# twins


@pytest.mark.parametrize("version", MATLAB)
def test_the_same_data_twice_is_one_view(version, tmp_path):
    rare = np.maximum(B, 0)
    other = cell(A.T.copy(), sparse.csc_array(rare))
    MATLAB[version](tmp_path / "a.mat", {"X": cell(A, rare), "X_v3": other, "y": Y * 1.0})
    own = check(tmp_path / "a.mat", {"X1": A, "X2": rare})
    assert said(own, "X_v31 holds the same data as X1 and is left out")
    assert said(own, "X_v32 holds the same data as X2 and is left out")
    assert read(tmp_path / "a.mat", views="X,X_v3").views.n_views == 4


def test_single_precision_and_a_transposed_square_are_twins_and_others_are_not(tmp_path):
    square = RNG.normal(size=(ROWS, ROWS))
    almost = A.copy()
    almost[5, 2] += 1e-9
    variables = {"a": A, "a32": A.astype(np.float32), "b": almost, "s": square, "t": square.T}
    np.savez(tmp_path / "a.npz", y=Y, **variables)
    own = check(tmp_path / "a.npz", {"a": A, "b": almost, "s": square})
    assert said(own, "a32 holds the same data as a")
    assert said(own, "t holds the same data as s")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.data())
def test_twins_agree_with_a_plain_comparison(kinds, data):
    tables = {}
    for number, kind in enumerate(kinds):
        values = np.arange(20.0).reshape(10, 2)
        values[data.draw(st.integers(0, 9))] += kind
        tables[f"v{number}"] = values
    names = list(tables)
    first = {n: next(m for m in names if np.array_equal(tables[m], tables[n])) for n in names}
    expected = {name: other for name, other in first.items() if name != other}
    turned = {n: ArrayTable(t.T, True) if n in names[::2] else ArrayTable(t) for n, t in
              tables.items()}  # fmt: skip
    assert find_twins(turned) == expected


# orientation


@pytest.mark.parametrize("name", PLAIN)
def test_a_square_view_is_turned_as_its_siblings_are(name, tmp_path):
    square = RNG.normal(size=(ROWS, ROWS))
    PLAIN[name](tmp_path / name, {"a": A.T, "s": square.T, "y": Y})
    own = check(tmp_path / name, {"a": A, "s": square})
    assert own.layout.turned == ("a", "s")
    assert said(own, "a and s are features by samples and were turned around")
    assert said(own, "s, as wide as long, was turned around as the others were")
    PLAIN[name](tmp_path / name, {"a": A, "s": square, "y": Y})
    own = check(tmp_path / name, {"a": A, "s": square})
    assert not said(own, "turned")


@pytest.mark.parametrize("siblings", [{}, {"a": A, "b": B.T}])
def test_a_square_view_that_nothing_tells_about_stands_with_a_note(siblings, tmp_path):
    square = RNG.normal(size=(ROWS, ROWS))
    savemat(tmp_path / "a.mat", {**siblings, "s": square, "y": Y})
    own = read(tmp_path / "a.mat")
    np.testing.assert_array_equal(own.views["s"], square)
    assert said(own, "s has as many columns as rows and was read as samples by features; if")
    assert own.layout.turned == (("b",) if siblings else ())


def test_new_rows_as_many_as_columns_lie_as_they_did_in_the_fit(tmp_path):
    savemat(tmp_path / "a.mat", {"a": A.T, "b": B.T, "y": Y})
    layout = read(tmp_path / "a.mat").layout
    widths = {"a": 4, "b": 3}
    savemat(tmp_path / "new.mat", {"a": A[:4].T, "b": B[:4].T})
    (chunk,) = file_rows(tmp_path / "new.mat", layout, widths)
    np.testing.assert_array_equal(chunk.views["a"], A[:4])
    np.testing.assert_array_equal(chunk.views["b"], B[:4])
    # the other way round than in the fit, as the second array tells
    np.savez(tmp_path / "new.npz", a=A[:4], b=B[:4])
    (chunk,) = file_rows(tmp_path / "new.npz", layout, widths)
    np.testing.assert_array_equal(chunk.views["a"], A[:4])
    # a model file of before keeps no orientation
    old = FileLayout.from_json({"views": {"a": ["a"], "b": ["b"]}, "target": "y", "id": None})
    (chunk,) = file_rows(tmp_path / "new.mat", old, widths)
    np.testing.assert_array_equal(chunk.views["a"], A[:4])


@settings(max_examples=40, deadline=None)
@given(
    version=st.sampled_from(sorted(MATLAB)),
    forms=st.lists(
        st.tuples(st.integers(1, 14), st.booleans(), st.booleans()), min_size=1, max_size=3
    ),
    as_cell=st.booleans(),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_layout_is_read_as_it_was_written(
    tmp_path_factory, version, forms, as_cell, turned, seed
):
    """Features by samples or not, sparse or dense, in a cell or by name, of either version."""
    rng = np.random.default_rng(seed)
    expected, stored = {}, []
    for number, (width, few, _) in enumerate(forms, start=1):
        values = rng.normal(size=(ROWS, width)) * (rng.random((ROWS, width)) < 0.7)
        values[0, 0] = number  # no two are twins
        lying = values.T if turned else values
        stored.append(sparse.csc_array(lying) if few else lying)
        expected[f"X{number}"] = values
    widths = {width for width, _, _ in forms}
    if widths == {ROWS} and turned:
        return  # nothing in such a file tells
    variables = {"X": cell(*stored)} if as_cell else dict(zip(expected, stored, strict=True))
    path = tmp_path_factory.mktemp("layout") / "a.mat"
    MATLAB[version](path, {**variables, "y": Y[:, None] * 1.0})
    check(path, expected)


# the file's own split


def halves(name, values, axis=0):
    return {f"{name}_train": values[:7], f"{name}_test": values[7:]} if axis == 0 else {
        f"{name}_train": values[:7].T, f"{name}_test": values[7:].T}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("target", ["gt", "y", "labels"])
@pytest.mark.parametrize("axis", [0, 1])
def test_parts_of_train_and_test_rows_are_joined(name, target, axis, tmp_path):
    parts = halves("x1", A, axis) | halves("x2", B, axis) | halves(target, Y)
    PLAIN[name](tmp_path / name, parts | {"trainIdx": np.arange(7)})
    own = check(tmp_path / name, {"x1": A, "x2": B})
    assert own.layout.target == target
    assert own.folds["train"].tolist() == list(range(7))
    assert own.folds["test"].tolist() == list(range(7, 12))
    assert own.folds["test"].dtype == np.int64
    assert said(own, "the file's own split was read: 7 train rows and 5 test rows")
    assert said(own, "trainIdx (shape")
    assert read(tmp_path / name, target=f"{target}_train").labels.tolist() == Y.tolist()


def test_parts_in_cells_and_structures_and_before_the_name(tmp_path):
    savemat(tmp_path / "a.mat", {"X_train": cell(A[:7], B[:7]), "X_test": cell(A[7:], B[7:]),
                                 "trainY": Y[:7], "testY": Y[7:]})  # fmt: skip
    own = check(tmp_path / "a.mat", {"X1": A, "X2": B})
    assert set(own.folds) == {"train", "test"}
    assert read(tmp_path / "a.mat", views="X").views.names == ("X1", "X2")
    halved = [{"a": A[part], "gt": Y[part]} for part in (slice(7), slice(7, 9), slice(9, 12))]
    savemat(tmp_path / "b.mat", dict(zip(("train", "val", "test"), halved, strict=True)))
    own = check(tmp_path / "b.mat", {"a": A})
    assert {part: len(rows) for part, rows in own.folds.items()} == {
        "train": 7, "valid": 2, "test": 3}  # fmt: skip
    with h5py.File(tmp_path / "c.h5", "w") as file:
        for part, rows in (("train", slice(7)), ("test", slice(7, 12))):
            file[f"{part}/a"], file[f"{part}/labels"] = A[rows], Y[rows]
    assert set(check(tmp_path / "c.h5", {"a": A}).folds) == {"train", "test"}


def test_a_model_of_a_split_file_answers_one_part(tmp_path):
    np.savez(tmp_path / "a.npz", **halves("a", A), **halves("gt", Y))
    layout = read(tmp_path / "a.npz").layout
    np.savez(tmp_path / "new.npz", a_test=A[7:], gt_test=Y[7:])
    (chunk,) = file_rows(tmp_path / "new.npz", layout, {"a": 4})
    np.testing.assert_array_equal(chunk.views["a"], A[7:])
    assert chunk.labels.tolist() == Y[7:].tolist()


def test_parts_that_do_not_fit_are_refused(tmp_path):
    parts = halves("a", A) | halves("y", Y)
    np.savez(tmp_path / "a.npz", **parts | {"a_test": A[7:, :3]})
    with pytest.raises(DataError, match=r"differ in columns \(a_train \(7, 4\), a_test \(5, 3\)\)"):
        read(tmp_path / "a.npz")


def test_test_rows_without_labels_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", **halves("a", A), y_train=Y[:7])
    own = read(tmp_path / "a.npz")
    assert (own.views.n_samples, own.folds) == (7, None)
    assert said(own, "a_test (rows without labels)")


# rows of zeros


def gapped(width=4, rows=range(3)):
    values = RNG.normal(size=(ROWS, width))
    values[list(rows)] = 0
    return values


def csv(path, variables):
    table = MultiView({n: v for n, v in variables.items() if n != "y"}).to_frame()
    table.assign(y=variables["y"]).to_csv(path, index=False)


@pytest.mark.parametrize("kind", ["a.csv", "a.npz", "a.h5", "a.mat", "sparse.mat"])
def test_rows_of_zeros_are_noticed_and_read_as_missing_on_wish(kind, tmp_path):
    values = gapped()
    stored = sparse.csc_array(values) if kind == "sparse.mat" else values
    write = csv if kind == "a.csv" else PLAIN[kind.replace("sparse", "a")]
    write(tmp_path / kind, {"a": stored, "b": B, "y": Y})
    own = read(tmp_path / kind)
    assert own.views.present.all()
    assert said(own, "view a has 3 rows of zeros only; --zero-is-missing reads them as missing")
    own = read(tmp_path / kind, zero_is_missing=True)
    assert own.views.present.tolist() == [[number > 2, True] for number in range(ROWS)]
    assert said(own, "view a: 3 rows of zeros were read as missing")
    layout = FileLayout.from_json(json.loads(json.dumps(own.layout.to_json())))
    assert layout.zero_is_missing
    for start, chunk in zip((0, 5, 10), file_rows(tmp_path / kind, layout, {"a": 4, "b": 3},
                                                  rows=5), strict=True):  # fmt: skip
        present = MultiView(chunk.views).present[:, 0]
        assert present.tolist() == [number > 2 for number in range(start, min(start + 5, ROWS))]
    expected = np.where(np.arange(ROWS)[:, None] < 3, np.nan, values)
    np.testing.assert_array_equal(dense(own.views["a"]), expected)


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(0, 2, size=(200, 1)),  # zero is a value
        np.random.default_rng(0).integers(0, 2, size=(200, 3)),  # flags
        np.eye(4)[np.arange(200) % 4] * (np.arange(200) % 5 > 0)[:, None],  # one-hot with none
        np.random.default_rng(0).poisson(0.05, size=(200, 30)),  # counts of short texts
        np.zeros((200, 3)),
        np.where(np.arange(200)[:, None] < 1, 0, 1.0) * np.ones((200, 3)),  # below 1 %
    ],
)
def test_zeros_that_are_values_are_not_offered(values, tmp_path):
    np.savez(tmp_path / "a.npz", a=values, b=np.random.default_rng(1).normal(size=(200, 2)),
             y=np.arange(200) % 2)  # fmt: skip
    assert not said(read(tmp_path / "a.npz"), "zero-is-missing")


# options and mistakes


@pytest.mark.parametrize("version", MATLAB)
def test_options_name_arrays_cells_and_views(version, tmp_path):
    variables = {"X": cell(A, B), "face": A + 1, "y": Y * 1.0, "key": np.arange(ROWS) * 1.0}
    MATLAB[version](tmp_path / "a.mat", variables)
    path = tmp_path / "a.mat"
    # version 7.3 lists its variables by name
    assert set(read(path, id="key").views.names) == {"X1", "X2", "face"}
    assert read(path, id="key").ids.tolist()[:2] == ["0.0", "1.0"]
    assert read(path, views="u=X2,face").views.names == ("u", "face")
    assert read(path, views="X").views.names == ("X1", "X2")
    assert read(path, leave_out="X,key").views.names == ("face",)
    assert set(read(path, leave_out="X2, key").views.names) == {"X1", "face"}
    assert read(path, views="u=X2,face", leave_out="u").views.names == ("face",)
    assert read(path, target="key", views="X1").labels.tolist() == list(range(ROWS))
    for options, words in (
        ({"leave_out": "fase"}, "no array 'fase' to leave out; did you mean face"),
        ({"views": "X3"}, "there is no array 'X3'; did you mean X"),
        ({"views": "u=X"}, "X is a group of 2 arrays; name one of them, such as u=X1"),
        ({"target": "Z"}, "there is no array 'Z'"),
        ({"id": "X1"}, "'X1' has 48 entries, but there are 12 labels"),
        ({"id": "kez"}, "there is no array 'kez'; did you mean key"),
        ({"leave_out": "X,face,key"}, "no array has two axes"),
    ):
        with pytest.raises(RcmlMisaError, match=words) as caught:
            read(path, **options)
        assert len(str(caught.value).replace(str(path), "")) <= 300


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "holds no array"),
        ({"a": A}, "no array is called target, .* the only one is 'a'; add an array"),
        ({"a": A, "b": B}, "no array is called target, .* --target: a, b"),
        ({"y": Y}, "no array has two axes"),
        ({"a": np.empty((0, 3)), "y": np.empty(0)}, "has no rows"),
        ({"a": A[:5], "y": Y}, r"'a' has shape \(5, 4\), but there are 12 labels.*--leave-out a"),
        ({"a": A, "y": A}, "must hold one label per row"),
        ({"y": Y, "a": A.astype(str), "b": B}, None),
    ],
)
@pytest.mark.parametrize("name", ["a.npz", "a.h5"])
def test_files_without_what_is_needed(name, variables, words, tmp_path):
    if name == "a.h5":
        variables = {n: v.astype("S") if v.dtype.kind == "U" else v for n, v in variables.items()}
    PLAIN[name](tmp_path / name, variables)
    if words is None:
        assert said(read(tmp_path / name), "a (texts)")
        with pytest.raises(DataError, match="'a' holds texts, and a view numbers"):
            read(tmp_path / name, views="a")
        return
    with pytest.raises(RcmlMisaError, match=words) as caught:
        read(tmp_path / name)
    assert len(str(caught.value).replace(str(tmp_path), "")) <= 300
    assert "\n" not in str(caught.value)
