"""A user's own files: every kind gives the same views, and every mistake one sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from rcml_misa.datasets import FileOptions, add_own, find_entry, load_dataset, remove_own
from rcml_misa.datasets.catalogue import list_own, own_catalogue
from rcml_misa.datasets.files import (
    FileLayout,
    as_labels,
    check_file,
    class_codes,
    file_rows,
    file_sha256,
    is_own_file,
    read_own_file,
)
from rcml_misa.datasets.files.layout import array_layout, table_layout
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError
from rcml_misa.views import MultiView

WIDTHS = {"face": 3, "voice": 2}


def problem(rows=12):
    rng = np.random.default_rng(0)
    views = {name: rng.normal(size=(rows, width)).round(4) for name, width in WIDTHS.items()}
    return views, np.array(["ant", "bee", "cat"])[np.arange(rows) % 3]


def frame(rows=12):
    views, labels = problem(rows)
    table = MultiView(views).to_frame()
    table.insert(0, "id", [f"r{number:02d}" for number in range(rows)])
    return table.assign(label=labels)


def csv(path, table):
    table.to_csv(path, index=False)
    return path


def tsv(path, table):
    table.to_csv(path, index=False, sep="\t")
    return path


def parquet(path, table):
    table.to_parquet(path)
    return path


def zipped(path, table):
    with gzip.open(path, "wt") as stream:
        table.to_csv(stream, index=False)
    return path


TABLES = {"a.csv": csv, "a.tsv": tsv, "a.parquet": parquet, "a.csv.gz": zipped}


def numbers():
    views, labels = problem()
    return views, np.unique(labels, return_inverse=True)[1]


def npz(path):
    views, labels = problem()
    np.savez(path, y=labels, **views)


def mat(path):
    views, codes = numbers()
    savemat(path, {"face": views["face"].T, "voice": views["voice"], "y": codes[:, None]})


def cells(path):
    views, codes = numbers()
    cell = np.empty((1, 2), dtype=object)
    cell[0, :] = [table.T for table in views.values()]
    savemat(path, {"X": cell, "gt": codes[:, None], "note": "a text"})


def mat73(path):
    """A MATLAB file of version 7.3 is HDF5 with axes in reverse and cells as references."""
    views, codes = numbers()
    with h5py.File(path, "w", userblock_size=512) as file:
        parts = [file.create_dataset(f"#refs#/{n}", data=t.T) for n, t in views.items()]
        cell = file.create_dataset("X", (2, 1), dtype=h5py.ref_dtype)
        cell[:, 0] = [part.ref for part in parts]
        file["gt"] = codes[None, :].astype(float)
        file["note"] = np.zeros((1, 3), dtype=np.uint16)
        file["note"].attrs["MATLAB_class"] = np.bytes_("char")


def hdf5(path):
    views, labels = problem()
    with h5py.File(path, "w") as file:
        for name, table in views.items():
            file[f"views/{name}"] = table
        file["labels"] = labels.astype("S")


ARRAYS = {"a.npz": npz, "a.mat": mat, "b.mat": cells, "c.mat": mat73, "a.h5": hdf5}


def check_views(found, names=("face", "voice")):
    views, labels = problem()
    assert found.views.names == names
    for name, table in zip(names, views.values(), strict=True):
        np.testing.assert_allclose(found.views[name], table)
    codes, _ = class_codes(found.labels)
    np.testing.assert_array_equal(codes, np.unique(labels, return_inverse=True)[1])


# every kind


@pytest.mark.parametrize("name", TABLES)
def test_tables(name, tmp_path):
    path = TABLES[name](tmp_path / name, frame())
    found = read_own_file(path, FileOptions())
    check_views(found)
    assert found.ids.tolist()[:2] == ["r00", "r01"]
    assert (found.layout.target, found.layout.id) == ("label", "id")
    found = read_own_file(path, FileOptions(views="face=face__0:face__2,voice=voice"))
    check_views(found)


@pytest.mark.parametrize("named", [True, False])
def test_parquet_with_an_index_that_pandas_wrote(tmp_path, named):
    table = frame()
    table = table.set_index("id") if named else table.sample(frac=1, random_state=0).sort_index()
    table.index = table.index if named else table.index + 3
    table.to_parquet(tmp_path / "a.parquet")
    found = read_own_file(tmp_path / "a.parquet", FileOptions())
    check_views(found)
    assert found.ids.tolist()[:2] == ["r00", "r01"]
    (chunk,) = file_rows(tmp_path / "a.parquet", found.layout, WIDTHS, rows=20)
    assert chunk.ids == found.ids.tolist()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(name, tmp_path):
    ARRAYS[name](tmp_path / name)
    found = read_own_file(tmp_path / name, FileOptions())
    check_views(found, ("face", "voice") if name[0] == "a" else ("X1", "X2"))
    option = "voice" if name[0] == "a" else "voice=X2"
    assert read_own_file(tmp_path / name, FileOptions(views=option)).views.names == ("voice",)


@pytest.fixture
def folder(tmp_path):
    table = frame().sample(frac=1, random_state=0)
    root = tmp_path / "rows"
    root.mkdir()
    for name in WIDTHS:
        some = table if name == "face" else table.iloc[3:]
        columns = ["id", *[one for one in table if one.startswith(name)]]
        csv(root / f"{name}.csv", some[columns])
    parquet(root / "labels.parquet", frame()[["id", "label"]])
    return root


def test_a_folder_of_tables_is_joined_by_id(folder):
    found = read_own_file(folder, FileOptions())
    views, labels = problem()
    assert found.ids.tolist() == frame()["id"].tolist()
    assert found.labels.tolist() == labels.tolist()
    np.testing.assert_allclose(found.views["face"], views["face"])
    here = found.views.present[:, 1]
    assert here.sum() == 9
    np.testing.assert_allclose(found.views["voice"][here], views["voice"][here])
    assert read_own_file(folder, FileOptions(views="voice")).views.names == ("voice",)
    csv(folder / "voice.csv", pd.read_csv(folder / "voice.csv").assign(id=lambda t: "x" + t["id"]))
    notes = read_own_file(folder, FileOptions(views="face")).notes
    assert not any("have no label" in note for note in notes)
    assert "table voice is in no view of --views and is left out" in notes
    found = read_own_file(folder, FileOptions())
    assert "9 rows of voice have no label and are left out" in found.notes
    assert not found.views.present[:, 1].any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: csv(root / "face.csv", pd.DataFrame({"id": ["a", "a"], "x": [1, 2]})), "'a'"),
        (lambda root: csv(root / "face.csv", pd.DataFrame({"x": [1, 2]})), "joined by an id"),
        (lambda root: csv(root / "more.csv", frame()[["id", "label"]]), "both have a target"),
        (lambda root: (root / "labels.parquet").unlink(), "no table of .* has a column target"),
        (lambda root: csv(root / "face.tsv", frame()), "two tables called 'face'"),
        (lambda root: [one.unlink() for one in root.iterdir()], "no csv, tsv or parquet file"),
    ],
)
def test_folders_that_cannot_be_joined(folder, change, words):
    change(folder)
    with pytest.raises(RcmlMisaError, match=words) as caught:
        read_own_file(folder, FileOptions())
    assert "\n" not in str(caught.value)


# layouts


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (None, {"a": ("a__0", "a__1"), "b": ("b__0",)}),
        ("u=a__0:b__0", {"u": ("a__0", "a__1", "b__0")}),
        ("u=a__,v=b", {"u": ("a__0", "a__1"), "v": ("b__0",)}),
        ("u=:a__1,v=b__0:", {"u": ("a__0", "a__1"), "v": ("b__0",)}),
        ("u=a__1,b__0 , v = a__0", {"u": ("a__1", "b__0"), "v": ("a__0",)}),
    ],
)
def test_columns_of_views(views, expected):
    columns = ["y", "id", "a__0", "a__1", "b__0"]
    layout = table_layout(columns, FileOptions(views=views))
    assert dict(layout.views) == expected
    assert FileLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "Y"}, "there is no column 'Y'; did you mean y"),
        ({"id": "key"}, "there is no column 'key'"),
        ({"views": "a"}, "begins with 'a'"),
        ({"views": "=a"}, "write a view as name=columns"),
        ({"views": "u="}, "write a view as name=columns"),
        ({"views": " , "}, "empty"),
        ({"views": "u=a,u=b"}, "names 'u' twice"),
        ({"views": "u=a__0,v=a__"}, "column 'a__0' is in the views 'u' and 'v'"),
        ({"views": "u=z"}, "'z', which is no column and begins none"),
        ({"views": "u=a__0:z"}, "there is no 'z'"),
        ({"views": "u=b__0:a__0"}, "run backwards"),
        ({"views": "u=y"}, "'y', which is no column"),
    ],
)
def test_layouts_that_do_not_exist(options, words):
    columns = ["y", "id", "a__0", "a__1", "b__0"]
    with pytest.raises(OptionError, match=words):
        table_layout(columns, FileOptions(**options))


def test_names_that_do_not_tell():
    with pytest.raises(OptionError, match=r"no column is called target, .* --target: a, b"):
        table_layout(["a", "b"], FileOptions())
    others = table_layout(["a__0", "age", "city", "y"], FileOptions())
    assert others.views == {"a": ("a__0",), "others": ("age", "city")}
    with pytest.raises(OptionError, match="no column beside target"):
        table_layout(["y"], FileOptions())
    assert table_layout(["age", "y"], FileOptions()).views == {"view1": ("age",)}
    with pytest.raises(OptionError, match="no array is called target"):
        array_layout({"a": (3, 2)}, FileOptions())
    with pytest.raises(OptionError, match="there is no array 'z'"):
        array_layout({"a": (3, 2), "y": (3,)}, FileOptions(views="u=z"))
    with pytest.raises(OptionError, match="no array has two axes"):
        array_layout({"a": (3,), "y": (3,)}, FileOptions())


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"views": []},
        {"views": {"a": []}},
        {"views": {"a": [1]}},
        {"views": {"a": ["x"]}, "id": 3},
    ],
)
def test_layouts_of_model_files_are_checked(value):
    with pytest.raises(DataError, match="does not tell which column") as caught:
        FileLayout.from_json(value)
    assert len(str(caught.value)) <= 300


# labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 1, 3], [3, 1, 3]),
        ([3.0, 1.0], [3, 1]),
        (["3", "1"], [3, 1]),
        (["3.0", "1.0"], [3, 1]),
        (["3.0", "1"], ["3.0", "1"]),
        (["0.5", "1"], ["0.5", "1"]),
        (["a", "NA"], ["a", "NA"]),
        (np.array([[1], [2]], dtype=np.uint8), [1, 2]),
        (np.array([[1, 2]]), [1, 2]),
        ([True, False], ["True", "False"]),
        (np.array([b"a", b"\xc3\xbc"]), ["a", "ü"]),
    ],
)
def test_labels_are_texts_or_whole_numbers(values, expected):
    assert as_labels(values, name="y", path="f").tolist() == expected


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([1.0, np.nan, np.nan], r"f: 2 of 3 rows have no label in 'y' \(the first is row 1\)"),
        (np.array(["a", None], dtype=object), "1 of 2 rows have no label"),
        (["a", ""], "1 of 2 rows have no label"),
        ([0.5, 1.0], "fractions such as 0.5"),
        ([2.0**60, 1.0], r"holds 1.15\d+e\+18 as a float64, in which whole numbers .* merge"),
        (np.ones((3, 2)), r"its shape is \(3, 2\)"),
        ([], "f has no rows"),
    ],
)
def test_labels_that_are_none(values, words):
    with pytest.raises(DataError, match=words):
        as_labels(values, name="y", path="f")


def test_labels_called_na_are_labels_and_gaps_among_numbers_are_gaps(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,a__0,b__0,y\n007,1,NA,NA\n008,2,null,None\n009,3,4,NA\n")
    found = read_own_file(path, FileOptions())
    assert found.labels.tolist() == ["NA", "None", "NA"]
    assert found.ids.tolist() == ["007", "008", "009"]
    assert found.views.present.tolist() == [[True, False], [True, False], [True, True]]


# mistakes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"", "a.csv is empty; give a table"),
        ("a.csv", b"a,a,y\n1,2,x\n", "two columns called 'a'"),
        ("a.csv", b"a,y\n1,x\n2,y,3,4\n", "no whole table"),
        ("a.csv", b"a,y\n2,y,3,4\n1,x\n", "more entries in a row than names"),
        ("a.csv", b"a,y\n\xff\xfe,x\n", "not text in UTF-8|not numeric"),
        ("a.csv", b"a,y\n1,\n2,x\n", "1 of 2 rows have no label"),
        ("a.csv", b"a,y\n", "no rows"),
        ("a.parquet", b"PAR1", "no whole table|can't be read"),
        ("a.npz", b"PK", "can't be read"),
        ("a.mat", b"MATLAB", "can't be read"),
        ("a.h5", b"HDF", "can't be read"),
        ("a.xlsx", b"x", "can't be read"),
        ("a.xls", b"x", "no known kind; give a csv, tsv"),
        ("a.pkl", b"\x80\x04N.", "no known kind"),
    ],
)
def test_damaged_files(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RcmlMisaError, match=words) as caught:
        read_own_file(tmp_path / name, FileOptions())
    assert str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_objects_are_never_opened(tmp_path):
    np.savez(tmp_path / "a.npz", y=np.arange(3), a=np.array([{}, 1, 2], dtype=object))
    with pytest.raises(DataError, match="holds objects, which could execute code"):
        read_own_file(tmp_path / "a.npz", FileOptions())


def test_arrays_of_other_rows(tmp_path):
    np.savez(tmp_path / "a.npz", y=np.arange(3) % 2, a=np.ones((4, 2)))
    with pytest.raises(DataError, match=r"'a' has shape \(4, 2\), but there are 3 labels"):
        read_own_file(tmp_path / "a.npz", FileOptions())
    with pytest.raises(DataError, match="there is no file"):
        read_own_file(tmp_path / "b.npz", FileOptions())


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [("pyarrow", "a.parquet", r"rcml-misa\[parquet\]"), ("h5py", "a.h5", r"rcml-misa\[hdf5\]")],
)
def test_absent_libraries_are_named(module, name, words, tmp_path, monkeypatch):
    (tmp_path / name).touch()
    monkeypatch.setitem(__import__("sys").modules, module, None)
    monkeypatch.setitem(__import__("sys").modules, f"{module}.parquet", None)
    with pytest.raises(DataError, match=words):
        read_own_file(tmp_path / name, FileOptions())


# chunks


@pytest.mark.parametrize("name", [*TABLES, *ARRAYS])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_chunks_are_the_rows_of_the_file(name, size, tmp_path):
    if name in TABLES:
        path = TABLES[name](tmp_path / name, frame())
    else:
        path = tmp_path / name
        ARRAYS[name](path)
    found = read_own_file(path, FileOptions())
    widths = dict(zip(found.views.names, found.views.widths, strict=True))
    chunks = list(file_rows(path, found.layout, widths, rows=size))
    assert [chunk.start for chunk in chunks] == list(range(0, 12, size))
    assert max(len(chunk) for chunk in chunks) == min(size, 12)
    for view in widths:
        parts = [MultiView({view: chunk.views[view]})[view] for chunk in chunks]
        np.testing.assert_array_equal(np.concatenate(parts), found.views[view])
    labels = np.concatenate([chunk.labels for chunk in chunks])
    np.testing.assert_array_equal(as_labels(labels, name="y", path="f"), found.labels)
    if name in TABLES:
        assert [one for chunk in chunks for one in chunk.ids] == found.ids.tolist()


def test_files_of_another_kind_than_was_fitted_on(tmp_path):
    table, views = csv(tmp_path / "a.csv", frame()), problem()[0]
    npz(tmp_path / "a.npz")
    layouts = [read_own_file(path, FileOptions()).layout for path in (table, tmp_path / "a.npz")]
    for layout in layouts:
        for path in (table, tmp_path / "a.npz"):
            (chunk,) = file_rows(path, layout, WIDTHS, rows=20)
            for name, values in views.items():
                np.testing.assert_allclose(np.asarray(chunk.views[name]), values)


def test_absent_views_and_targets_of_files_to_predict(tmp_path, folder):
    layout = table_layout(list(frame()), FileOptions())
    path = csv(tmp_path / "a.csv", frame().drop(columns=["label", "id", "face__0", "face__1",
                                                         "face__2"]))  # fmt: skip
    (chunk,) = file_rows(path, layout, WIDTHS)
    assert chunk.views["face"] is None
    assert (chunk.ids, chunk.labels, len(chunk)) == (None, None, 12)
    with pytest.raises(DataError, match="only some columns of view 'face': 'face__1' is missing"):
        list(file_rows(csv(path, frame().drop(columns="face__1")), layout, WIDTHS))
    with pytest.raises(DataError, match=r"none of the model's views \(face, voice\)"):
        list(file_rows(csv(path, frame()[["id"]]), layout, WIDTHS))
    (folder / "face.csv").unlink()
    chunks = list(file_rows(folder, read_own_file(folder, FileOptions(id="id")).layout, WIDTHS))
    assert [one.views.get("face") for one in chunks] == [None]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["face"], file["voice"] = np.ones((3, 3)), np.ones((4, 2))
    with pytest.raises(DataError, match="different numbers of rows"):
        list(file_rows(tmp_path / "b.h5", layout, WIDTHS))
    for name, words in (("none.csv", "there is no file"), ("rows.doc", "no known kind")):
        Path(tmp_path / "rows.doc").touch()
        with pytest.raises(DataError, match=words):
            list(file_rows(tmp_path / name, layout, WIDTHS))


# by name


def test_paths_and_names():
    assert is_own_file("a.csv")
    assert is_own_file("./a")
    assert is_own_file("A.MAT")
    assert not is_own_file("digits")


def test_a_file_is_a_data_set(tmp_path):
    path = csv(tmp_path / "faces.csv", frame())
    data = load_dataset(str(path))
    assert (data.name, data.classes) == ("faces.csv", ("ant", "bee", "cat"))
    assert data.sha256 == file_sha256(path)
    other = load_dataset(str(path), options=FileOptions(target="id", views="all=face__,voice__"))
    assert len(other.classes) == 12
    with pytest.raises(OptionError, match="digits has known views"):
        load_dataset("digits", options=FileOptions(target="y"))


def test_the_catalogue_of_one_s_own(tmp_path, folder):
    path = csv(tmp_path / 'a "b" é.csv', frame())
    options = FileOptions(target="label", views="f=face__", id="id")
    entry = add_own("faces", path, options)
    assert list_own() == {"faces": entry}
    assert (entry.samples, entry.classes, dict(entry.views)) == (12, 3, {"f": 3})
    assert load_dataset("faces").views.names == ("f",)
    assert load_dataset("faces", options=FileOptions(views="v=voice__")).views.names == ("v",)
    add_own("joined", folder, FileOptions())
    assert load_dataset("joined").sha256 == file_sha256(folder)
    for taken in ("faces", "digits", "PIE"):
        with pytest.raises(OptionError, match=f"there is a data set {taken} already"):
            add_own(taken, path, options)
    for bad in ("a/b", "x.csv", " "):
        with pytest.raises(OptionError, match="is no name"):
            add_own(bad, path, options)
    csv(folder / "voice.csv", pd.read_csv(folder / "voice.csv").iloc[1:])
    with pytest.raises(DataError, match="has changed since it was added"):
        load_dataset("joined")
    path.unlink()
    with pytest.raises(DataError, match="is gone"):
        load_dataset("faces")
    remove_own("faces")
    assert list(list_own()) == ["joined"]
    with pytest.raises(OptionError, match="no data set 'face'"):
        remove_own("face")


def test_entries_that_version_01_wrote_are_read_and_moved_to_json(tmp_path, folder):
    path = csv(tmp_path / "a.csv", frame())
    older = own_catalogue().with_suffix(".toml")
    older.parent.mkdir(parents=True, exist_ok=True)
    older.write_text(
        "# Data sets added with `rcml-misa datasets add`.\n\n"
        f'["the faces"]\nfile = "{path}"\nsha256 = "{file_sha256(path)}"\nsamples = 12\n'
        'classes = 3\nviews = { "face" = 3 }\ntarget = "label"\ncolumns = "face=face__"\n'
    )
    (entry,) = list_own().values()
    assert entry.options == FileOptions(target="label", views="face=face__")
    assert (entry.samples, entry.classes, dict(entry.views)) == (12, 3, {"face": 3})
    assert load_dataset("the faces").views.names == ("face",)
    assert find_entry("the faces") == entry
    before = older.read_text()
    add_own("joined", folder, FileOptions())
    assert list(json.loads(own_catalogue().read_text())) == ["the faces", "joined"]
    assert list_own()["the faces"] == entry
    assert older.read_text() == before
    remove_own("the faces")
    assert list(list_own()) == ["joined"]


TABLE = {"file": "x", "sha256": "", "samples": 1, "classes": 2}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "Expecting property name"),
        ("[]", "list"),
        ('{"a": 1}', "int"),
        (json.dumps({"a": {"file": 1}}), "lacks the key classes, samples, sha256"),
        (json.dumps({"a": TABLE | {"file": 1}}), r"file=1; give a text in quotes"),
        (json.dumps({"a": TABLE | {"samples": "1"}}), "samples='1'; give a whole number"),
        (json.dumps({"a": TABLE | {"fil": "x"}}), "unknown key 'fil'; did you mean file"),
        (json.dumps({"a": TABLE | {"options": {"views": 3}}}), "options.views=3; give a text"),
        (json.dumps({"a": {}}), "lacks the key classes, file, samples, sha256"),
    ],
)
def test_a_damaged_catalogue(content, words):
    path = own_catalogue()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(DataError, match=words) as caught:
        list_own()
    assert "mend or delete it" in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize("text", ["[a\n", "a = 1\n", "[a]\nfile = 1\n", "[a]\n"])
def test_a_damaged_catalogue_of_version_01(text):
    path = own_catalogue().with_suffix(".toml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    with pytest.raises(DataError, match=r"catalogue.toml can't be read .* mend or delete it"):
        list_own()


# the check


def findings(views, labels, **more):
    from rcml_misa.datasets.files import OwnFile

    layout = FileLayout({name: (name,) for name in views}, "y")
    found = OwnFile(MultiView(views), np.asarray(labels), layout, **more)
    return {one.what: one for one in check_file(found)}


def seen(found, words):
    return [one for what, one in found.items() if words in what]


def test_check_of_a_clean_set():
    rng = np.random.default_rng(0)
    found = findings({"a": rng.normal(size=(60, 3)), "b": rng.random((60, 2))}, np.arange(60) % 3)
    assert {one.level for one in found.values()} == {"fact"}
    assert "60 rows, 3 classes, 2 views" in found
    assert "classes have 20 to 20 rows each" in found


def test_check_finds_what_was_planted():
    rng = np.random.default_rng(0)
    labels = np.array(["a"] * 70 + ["b"] * 20 + ["c"] * 6 + ["d"] * 4)
    plain = rng.normal(size=(100, 3))
    odd = rng.normal(size=(100, 5))
    odd[:, 1], odd[:, 3] = 7.0, odd[:, 0]
    odd[:, 4] *= 1e9
    plain[[4, 5]], odd[[4, 5]] = plain[[90, 1]], odd[[90, 1]]
    missing = rng.normal(size=(100, 2))
    missing[10:15] = np.nan
    missing[[4, 5]] = missing[[90, 1]]
    onehot = np.eye(4)[np.unique(labels, return_inverse=True)[1]] + 0.01 * rng.random((100, 4))
    onehot[[4, 5]] = onehot[[90, 1]]
    views = {"plain": plain, "odd": odd, "missing": missing}
    found = findings(views, labels, notes=("X was turned around",))
    assert seen(found, "view odd: 1 of 5 columns is constant")
    assert seen(found, "view odd: 1 of 5 columns repeats another one")
    assert seen(found, "more than a million times")
    assert seen(found, "view missing is missing in 5 of 100 rows")
    assert seen(found, "2 rows repeat an earlier one in every view")
    (clash,) = seen(found, "another label than the first")
    assert clash.level == "warning"
    assert "1 of these" in clash.what
    assert "rows 4 and 90" in clash.what
    assert seen(found, "classes have 4 (d) to 70 (a) rows")
    assert seen(found, "X was turned around")
    assert not seen(found, "one-hot")
    assert seen(findings({"onehot": onehot}, labels), "view onehot is nearly one-hot of the label")
    assert seen(findings({"one": plain}, labels), "one view only")


def test_check_finds_leaks_of_the_label():
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    values = rng.normal(size=(90, 4))
    values[:, 2] = np.array([5.0, 1.0, 3.0])[labels]
    (leak,) = seen(
        findings({"a": values}, labels), "column 2 is in one-to-one correspondence with the label"
    )
    assert leak.level == "warning"
    likeness = values @ values.T
    (square,) = seen(findings({"s": likeness}, labels), "symmetric square matrix")
    assert "new rows do not have" in square.consequence
    assert seen(findings({"a": values}, np.arange(90)), "90 different labels in 90 rows")
    assert seen(findings({"a": values}, np.zeros(90)), "one class only")
    assert seen(findings({"a": values}, [1] * 89 + [2]), "class 2 has 1 row")
    hole = np.where(np.arange(90)[:, None] < 2, np.nan, values)
    assert seen(findings({"a": hole}, labels), "2 rows have no view at all")


def test_check_of_scores_finds_a_column_that_is_the_score():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=90)
    values = rng.normal(size=(90, 3))
    values[:, 1] = 2 - 3 * scores
    found = findings({"a": values, "b": rng.normal(size=(90, 2))}, scores, task="regression")
    (leak,) = seen(found, "view a: column 1 has a correlation above 0.9999 with the scores")
    assert leak.level == "warning"
    assert seen(found, "90 rows, scores, 2 views")
    assert not seen(found, "classes")


def test_check_compares_sequences_and_texts_of_rows():
    steps = [np.full((2, 1), value) for value in (1.0, 2.0, 1.0)]
    same = {"voice": steps, "words": ["yes", "no", "yes"]}
    assert seen(findings(same, ["x", "y", "x"]), "1 row repeats an earlier one in every view")
    other = {**same, "words": ["yes", "no", "maybe"]}
    assert not seen(findings(other, ["x", "y", "x"]), "repeat")


def test_check_knows_the_repeated_rows_of_known_sets(need_data):
    # six pairs in HandWritten; eighteen in Scene15, one of them with two labels
    for name, pairs, clashes in (("HandWritten", 6, 0), ("Scene15", 18, 1)):
        data = load_dataset(name, data_dir=need_data(name), download=False)
        found = findings(dict(data.views.items()), data.target)
        assert seen(found, f"{pairs} rows repeat an earlier one")
        assert len(seen(found, "another label")) == clashes
        if clashes:
            assert seen(found, "rows 1493 and 2872")
