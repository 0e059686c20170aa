"""Forms of tables: an index without a name, separators, decimal commas, no header, Excel, omics."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import feather

from rcml_misa.datasets.files import FileOptions, file_rows, is_own_file, read_own_file
from rcml_misa.datasets.files.delimited import SNIFFED, has_names
from rcml_misa.datasets.files.frames import frame_chunks, frame_columns, frame_head
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError

IDS = [f"s{number}" for number in range(12)]


def table(rows=12):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(rows, 3)).round(3), columns=list("pqr"))
    return frame.assign(label=np.array(["ant", "bee", "cat"])[np.arange(rows) % 3])


def check(found, *, ids=None):
    np.testing.assert_allclose(found.views["view1"], table()[["p", "q", "r"]])
    assert found.labels.tolist() == table()["label"].tolist()
    assert (None if found.ids is None else found.ids.tolist()) == ids


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# an index without a name


def twice(frame, path):
    frame.to_csv(path)
    pd.read_csv(path).sample(frac=1, random_state=0).reset_index(drop=True).to_csv(path)


def arrow(frame, path):
    feather.write_feather(frame, path)


STORES = {
    "a.csv": lambda frame, path: frame.to_csv(path),
    "b.csv": lambda frame, path: pd.read_csv(frame.to_csv(path) or path).to_csv(path, index=False),
    "c.csv": twice,
    "a.tsv.gz": lambda frame, path: frame.to_csv(path, sep="\t"),
    "a.parquet": lambda frame, path: frame.to_parquet(path),
    "a.feather": arrow,
    "a.xlsx": lambda frame, path: frame.to_excel(path),
}


@pytest.mark.parametrize("name", STORES)
def test_an_index_without_a_name_identifies_rows_and_is_no_feature(name, tmp_path):
    STORES[name](table().set_axis(IDS), tmp_path / name)
    found = read_own_file(tmp_path / name, FileOptions())
    order = np.argsort([IDS.index(one) for one in found.ids])
    assert found.ids[order].tolist() == IDS
    np.testing.assert_allclose(found.views["view1"][order], table()[["p", "q", "r"]])
    assert found.layout.id == ""
    assert any("without a name, an index, holds the ids" in note for note in found.notes)
    (chunk,) = file_rows(tmp_path / name, found.layout, {"view1": 3}, rows=20)
    assert chunk.ids == found.ids.tolist()
    assert not any(note.startswith("id: ") for note in found.notes)
    left = read_own_file(tmp_path / name, FileOptions(leave_out="p"))
    assert (left.layout.views, left.layout.id) == ({"view1": ("q", "r")}, "")
    for id_ in ("", "Unnamed: 0"):
        assert read_own_file(tmp_path / name, FileOptions(id=id_)).ids.tolist() == chunk.ids
    assert any("more than once" in note for note in found.notes) == (name == "c.csv")


def test_an_index_beside_an_id_is_left_out(tmp_path):
    table().assign(id=IDS).to_csv(tmp_path / "a.csv")
    found = read_own_file(tmp_path / "a.csv", FileOptions())
    check(found, ids=IDS)
    assert any("an index, is left out" in note for note in found.notes)


def test_separators_at_the_end_of_each_row_are_no_column(tmp_path):
    found = read_own_file(write(tmp_path / "a.csv", "p,y\n1,x,\n2,z,\n"), FileOptions())
    assert found.views["view1"].tolist() == [[1], [2]]
    assert found.labels.tolist() == ["x", "z"]


def test_names_that_are_empty_elsewhere_are_positions(tmp_path):
    path = write(tmp_path / "a.csv", "p,,y\n1,2,x\n3,4,z\n")
    assert frame_columns(path) == ["p", "Unnamed: 1", "y"]
    assert read_own_file(path, FileOptions()).views.widths == (2,)


@pytest.mark.parametrize("stores", [["a.csv"] * 2, ["c.csv", "a.tsv.gz"], ["a.parquet", "a.csv"]])
@pytest.mark.parametrize("id_", [None, "", "Unnamed: 0"])
def test_tables_are_joined_by_an_index_without_a_name(stores, id_, tmp_path):
    frame = table().set_axis(IDS)
    shuffled = frame.sample(frac=1, random_state=1)
    for name, store, part in (
        ("mirna", stores[0], frame[["r", "label"]]),
        ("mrna", stores[1], shuffled[["p", "q"]].iloc[2:]),
    ):
        STORES[store](part, tmp_path / f"{name}.{store.partition('.')[2]}")
    found = read_own_file(tmp_path, FileOptions(id=id_))
    rows = frame.loc[found.ids]
    np.testing.assert_allclose(found.views["mirna"], rows[["r"]])
    here = found.views.present[:, 1]
    assert here.sum() == 10
    np.testing.assert_allclose(found.views["mrna"][here], rows[["p", "q"]][here])
    assert any("joined by their index, which has no name" in note for note in found.notes)
    (chunk,) = file_rows(tmp_path, found.layout, {"mirna": 1, "mrna": 2}, rows=20)
    assert sorted(chunk.ids) == sorted(IDS)


def test_parquet_without_a_stored_index_joins_one_with_it(tmp_path):
    table()[["r", "label"]].to_parquet(tmp_path / "b.parquet")
    table()[["p", "q"]].iloc[[3, 1, 7]].to_parquet(tmp_path / "a.parquet")
    found = read_own_file(tmp_path, FileOptions())
    assert np.flatnonzero(found.views.present[:, 0]).tolist() == [1, 3, 7]
    np.testing.assert_allclose(found.views["a"][7], table()[["p", "q"]].iloc[7])


def test_row_numbers_that_disagree_with_ids_join_nothing(tmp_path):
    frame = table().assign(patient=IDS)
    frame[["patient", "r", "label"]].to_csv(tmp_path / "a.csv")
    other = frame[["patient", "p", "q"]]
    other.to_csv(tmp_path / "b.csv")
    found = read_own_file(tmp_path, FileOptions())  # the ids agree, and are columns of views
    assert found.views.widths == (2, 3)
    other.sample(frac=1, random_state=0).reset_index(drop=True).to_csv(tmp_path / "b.csv")
    with pytest.raises(
        OptionError, match=r"ids in 'patient', .* --id patient or --id ''"
    ) as caught:
        read_own_file(tmp_path, FileOptions())
    assert len(str(caught.value)) <= 300 + len(str(tmp_path))
    found = read_own_file(tmp_path, FileOptions(id="patient"))
    np.testing.assert_allclose(found.views["b"], frame[["p", "q"]])


def test_equal_features_in_each_table_do_not_stop_the_index(tmp_path):
    for name, more in (("a", ["label"]), ("b", [])):
        table()[["p", "q", *more]].to_csv(tmp_path / f"{name}.csv")
    assert read_own_file(tmp_path, FileOptions()).views.widths == (2, 2)


# separators, decimals, comments, encodings, compression


def text(sep=",", decimal="."):
    return table().to_csv(index=False, sep=sep, decimal=decimal, lineterminator="\n")


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "data"])
@pytest.mark.parametrize("sep", [",", ";", "\t", "|", " "])
def test_separators_are_told_by_the_first_lines(sep, ending, tmp_path):
    path = write(tmp_path / f"a.{ending}", text(sep))
    found = read_own_file(path, FileOptions())
    check(found)
    usual = {"csv": ",", "tsv": "\t"}.get(ending, sep)
    assert any("are separated by" in note for note in found.notes) == (sep != usual)
    assert read_own_file(path, FileOptions()).notes == found.notes


@pytest.mark.parametrize("sep", [";", "\t", " "])
@pytest.mark.parametrize("header", [True, False])
def test_decimal_commas(sep, header, tmp_path):
    content = text(sep, ",")
    content = content if header else content.partition("\n")[2]
    found = read_own_file(
        write(tmp_path / "a.csv", content), FileOptions(target=None if header else "3")
    )
    check(found)
    assert any("decimal commas" in note for note in found.notes)


def test_commas_that_are_no_decimals(tmp_path):
    path = write(tmp_path / "a.csv", 'p,q,y\n1,2,"a;b"\n3,4,"c;d"\n')
    assert read_own_file(path, FileOptions()).labels.tolist() == ["a;b", "c;d"]
    path = write(tmp_path / "b.csv", "p;y\n1;red, green\n2;blue, grey\n")
    found = read_own_file(path, FileOptions())
    assert found.labels.tolist() == ["red, green", "blue, grey"]
    assert not any("decimal" in note for note in found.notes)
    path = write(tmp_path / "c.csv", "p, q, y\n1, 2, a\n3, 4, b\n")
    found = read_own_file(path, FileOptions())
    assert found.layout.views == {"view1": ("p", "q")}
    assert found.labels.tolist() == ["a", "b"]


def test_decimal_commas_beside_texts_with_commas(tmp_path):
    path = write(tmp_path / "a.csv", "p;q;y\n1,5;red, green;a\n2;x;b\n")
    (part,) = frame_chunks(path, ["p", "q"], None)
    assert part["p"].tolist() == [1.5, 2.0]
    assert part["q"].tolist() == ["red, green", "x"]


def test_a_line_that_states_the_separator_as_excel_writes_it(tmp_path):
    check(read_own_file(write(tmp_path / "a.csv", "sep=;\n" + text(";")), FileOptions()))


def test_spaces_before_a_last_column_after_a_tab(tmp_path):
    lines = '18.0   8  307.5\t"a car"\n15.0   4   97.0\t"another car"\n'
    found = read_own_file(write(tmp_path / "a.data", lines), FileOptions(target="3"))
    assert found.views["view1"].tolist() == [[18, 8, 307.5], [15, 4, 97]]
    assert found.labels.tolist() == ["a car", "another car"]


def test_runs_of_spaces_and_row_names_as_r_writes_them(tmp_path):
    lines = table().to_string(index=False).replace("label", "  label")
    check(read_own_file(write(tmp_path / "a.txt", lines), FileOptions()))
    named = table().set_axis(IDS).to_csv(sep=" ", quoting=2, lineterminator="\n")
    found = read_own_file(write(tmp_path / "b.txt", named.removeprefix('"" ')), FileOptions())
    check(found, ids=IDS)
    assert found.layout.views == {"view1": ("p", "q", "r")}


@pytest.mark.parametrize("comment", ["# made by hand\n", '# 5" x\n#\n', "% one\n\n% two\n"])
def test_comments_before_the_table(comment, tmp_path):
    found = read_own_file(write(tmp_path / "a.csv", comment + text()), FileOptions())
    check(found)
    assert "The comment lines at the beginning of a.csv are skipped." in found.notes


def test_names_in_a_comment_as_numpy_writes_them(tmp_path):
    values = table()[["p", "q", "r"]].assign(label=np.arange(12) % 2)
    np.savetxt(tmp_path / "a.txt", values, header=" ".join(values))
    found = read_own_file(tmp_path / "a.txt", FileOptions())
    np.testing.assert_allclose(found.views["view1"], values[["p", "q", "r"]])
    assert found.layout.views == {"view1": ("p", "q", "r")}
    assert any("stand in a comment line" in note for note in found.notes)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_with_a_mark(encoding, tmp_path):
    content = text().replace("ant", "ämse")
    found = read_own_file(write(tmp_path / "a.csv", content, encoding), FileOptions())
    assert found.labels[0] == "ämse"
    assert found.layout.views == {"view1": ("p", "q", "r")}
    path = write(tmp_path / "b.csv", content, "latin-1")
    with pytest.raises(DataError, match="is not text in UTF-8"):
        read_own_file(path, FileOptions())


OPENERS = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@pytest.mark.parametrize("end", [*OPENERS, ".zip"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "txt", "data"])
def test_compressed_tables(end, kind, tmp_path):
    path = tmp_path / f"a.{kind}{end}"
    content = text("\t" if kind == "tsv" else ",")
    if end == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", content)
    else:
        with OPENERS[end](path, "wt") as stream:
            stream.write(content)
    assert is_own_file(path.name)
    found = read_own_file(path, FileOptions())
    check(found)
    chunks = list(file_rows(path, found.layout, {"view1": 3}, rows=5))
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]


def test_a_zip_of_two_tables(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.csv.zip", "w") as archive:
        archive.writestr("a", text())
        archive.writestr("b", text())
    with pytest.raises(DataError, match="holds 2 files"):
        read_own_file(tmp_path / "a.csv.zip", FileOptions())


# without names


@pytest.mark.parametrize(
    ("first", "rows", "expected"),
    [
        (["a", "b"], [["1", "2"]], True),
        (["3", "1.5"], [["1", "2"]], False),
        (["3", "", "NA"], [["1", "2", "3"]], False),
        (["0", "1", "2"], [["5", "2", "3"]], True),  # pandas' names of columns
        (["", "0", "1"], [["0", "2.5", "3"]], True),
        (["0", "1"], [["0.5", "2.5"]], True),
        (["0", "1"], [["1", "1"], ["0", "0"]], False),
        (["0"], [["1"]], False),
        (["", "7", "3"], [["s1", "2", "3"]], True),
        (["5.1", "3.5", "setosa"], [["4.9", "3", "setosa"]], False),
        (["5.1", "3.5", "4", "one car"], [["4.9", "3", "1", "another"]], False),
        (["0.25", "0.5", "0.75", "y"], [["4.9", "3", "1", "a"]], True),
        (["2019", "2020", "y"], [["4.9", "3", "a"]], True),
        ([str(400.5 + 2 * n) for n in range(9)], [["0.3", "0.1"] * 4 + ["1"]], True),
        ([str(n * n) for n in range(9)], [[str(n * n + 1) for n in range(9)]], False),
        (["0", "1", "y"], [["0", "1", "y"], ["3", "4", "a"]], True),  # put together from two files
    ],
)
def test_the_line_of_names(first, rows, expected):
    assert has_names(first, rows) == expected


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=7),
    st.lists(st.sampled_from(["ab", "c1", "x y"]), min_size=1, max_size=7, unique=True),
)
def test_numbers_are_rows_and_words_are_names(numbers, words):
    cells = [f"{number:.4f}" for number in numbers]
    assert not has_names(cells, [cells])
    assert has_names(words, [cells])


def test_a_table_without_names(tmp_path):
    values = table().assign(label=np.arange(12) % 3)
    values.to_csv(tmp_path / "a.csv", index=False, header=False)
    with pytest.raises(OptionError, match="with --target, columns are called 0 to 3"):
        read_own_file(tmp_path / "a.csv", FileOptions())
    found = read_own_file(tmp_path / "a.csv", FileOptions(target="3", views="u=0:1,v=2"))
    np.testing.assert_allclose(found.views["u"], table()[["p", "q"]])
    assert found.labels.tolist() == [0, 1, 2] * 4
    assert any("has no line of names" in note for note in found.notes)
    values[["p", "q", "r"]].to_csv(tmp_path / "new.csv", index=False, header=False)
    (chunk,) = file_rows(tmp_path / "new.csv", found.layout, {"u": 2, "v": 1})
    np.testing.assert_allclose(chunk.views["v"], table()[["r"]])
    iris = table().to_csv(index=False, header=False)
    check(read_own_file(write(tmp_path / "iris.data", iris), FileOptions(target="3")))
    pd.DataFrame(values.to_numpy()).to_csv(tmp_path / "pandas.csv", index=False)
    found = read_own_file(tmp_path / "pandas.csv", FileOptions(target="3"))
    assert found.views.n_samples == 12


def test_tables_without_names_are_joined_by_position(tmp_path):
    values = table()
    for name, columns in (("a", ["p", "q"]), ("b", ["r"])):
        values[columns].to_csv(tmp_path / f"{name}.csv", index=False, header=False)
    with pytest.raises(OptionError, match=r"put the labels into a table labels\.csv"):
        read_own_file(tmp_path, FileOptions())
    labels = pd.Series(np.arange(12) % 3 + 5)
    labels.to_csv(tmp_path / "labels.csv", index=False, header=False)
    found = read_own_file(tmp_path, FileOptions())
    np.testing.assert_allclose(found.views["a"], values[["p", "q"]])
    np.testing.assert_allclose(found.views["b"], values[["r"]])
    assert found.labels.tolist() == labels.tolist()
    assert found.ids is None
    assert any("have no id and are joined by position" in note for note in found.notes)
    chunks = list(file_rows(tmp_path, found.layout, {"a": 2, "b": 1}, rows=7))
    assert [(len(chunk), chunk.ids) for chunk in chunks] == [(7, None), (5, None)]
    values["label"].to_csv(tmp_path / "labels.csv", index=False)
    assert read_own_file(tmp_path, FileOptions()).labels.tolist() == values["label"].tolist()
    labels.iloc[1:].to_csv(tmp_path / "labels.csv", index=False, header=False)
    with pytest.raises(DataError, match=r"different numbers of rows \(a has 12, b has 12, labels"):
        read_own_file(tmp_path, FileOptions())


def test_equal_positions_are_no_id(tmp_path):
    write(tmp_path / "a.csv", "7.5\n8.5\n")
    write(tmp_path / "b.csv", "0,1,2,label\n7.5,1,2,x\n8.5,4,5,y\n")
    with pytest.raises(OptionError, match="joined by an id column that each of them has"):
        read_own_file(tmp_path, FileOptions())
    assert read_own_file(tmp_path, FileOptions(id="0")).views.names == ("b",)


def test_texts_beside_tables_are_left_out_and_named(tmp_path):
    table().assign(id=IDS)[["id", "p", "label"]].to_csv(tmp_path / "a.csv", index=False)
    table().assign(id=IDS)[["id", "q"]].to_csv(tmp_path / "b.csv", index=False)
    write(tmp_path / "README.txt", "What this is.\n")
    found = read_own_file(tmp_path, FileOptions())
    assert found.views.names == ("a", "b")
    assert any(note.startswith("README.txt of ") for note in found.notes)


# MOGONET's folders


@pytest.fixture
def omics(tmp_path):
    rng = np.random.default_rng(0)
    views = {"1": rng.normal(size=(10, 3)), "2": rng.normal(size=(10, 9)) ** 2}
    labels = np.arange(10) % 2
    for part, rows in (("tr", slice(7)), ("te", slice(7, None))):
        for name, values in views.items():
            np.savetxt(tmp_path / f"{name}_{part}.csv", values[rows], delimiter=",")
        np.savetxt(tmp_path / f"labels_{part}.csv", labels[rows])
    write(tmp_path / "1_featname.csv", "g1\ng2\ng3\n")
    return tmp_path, views, labels


def test_folders_as_mogonet_lays_them_out(omics):
    folder, views, labels = omics
    found = read_own_file(folder, FileOptions())
    assert found.views.names == ("1", "2")
    for name, values in views.items():
        np.testing.assert_allclose(found.views[name], values)
    assert found.labels.tolist() == labels.tolist()
    assert found.layout.views["1"] == ("g1", "g2", "g3")
    assert found.layout.views["2"] == tuple("012345678")
    assert {name: rows.tolist() for name, rows in found.folds.items()} == {
        "train": list(range(7)),
        "test": [7, 8, 9],
    }
    assert any("7 rows of the tables _tr train and 3 rows" in note for note in found.notes)
    chunks = list(file_rows(folder, found.layout, {"1": 3, "2": 9}, rows=6))
    np.testing.assert_allclose(np.concatenate([chunk.views["1"] for chunk in chunks]), views["1"])
    assert read_own_file(folder, FileOptions(views="2")).views.names == ("2",)
    left = read_own_file(folder, FileOptions(leave_out="g2,2"))
    assert left.layout.views == {"1": ("g1", "g3")}
    np.testing.assert_allclose(left.views["1"], views["1"][:, [0, 2]])
    with pytest.raises(OptionError, match="hence no column 'part'"):
        read_own_file(folder, FileOptions(split_column="part"))
    with pytest.raises(OptionError, match="there is no view '3'"):
        read_own_file(folder, FileOptions(views="3"))


def test_folders_of_mogonet_that_do_not_fit(omics):
    folder, views, _ = omics
    np.savetxt(folder / "2_te.csv", views["2"][7:, 1:], delimiter=",")
    with pytest.raises(DataError, match="have different columns"):
        read_own_file(folder, FileOptions())
    np.savetxt(folder / "2_te.csv", views["2"][8:], delimiter=",")
    with pytest.raises(DataError, match=r"'2' of .* has 7 train and 2 test rows"):
        read_own_file(folder, FileOptions())


def test_the_catalogue_s_omics_are_the_same_as_a_folder(need_data):
    from rcml_misa.datasets import load_dataset

    data = load_dataset("ROSMAP", data_dir=need_data("ROSMAP"), download=False)
    found = read_own_file(need_data("ROSMAP") / "ROSMAP", FileOptions())
    for mine, theirs in zip(found.views.arrays, data.views.arrays, strict=True):
        np.testing.assert_allclose(mine, theirs)
    assert found.labels.tolist() == data.target.tolist()
    for name, rows in data.folds.items():
        assert found.folds[name].tolist() == rows.tolist()


# Excel


def test_excel_sheets(tmp_path, monkeypatch):
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        table().assign(id=[f"{n:03d}" for n in range(12)]).to_excel(book, index=False)
        table().to_excel(book, sheet_name="other")
    found = read_own_file(tmp_path / "a.xlsx", FileOptions())
    check(found, ids=[f"{n:03d}" for n in range(12)])
    assert "a.xlsx has 2 sheets, of which 'Sheet1' is read." in found.notes
    chunks = list(file_rows(tmp_path / "a.xlsx", found.layout, {"view1": 3}, rows=5))
    assert [len(chunk) for chunk in chunks] == [5, 5, 2]
    table().assign(label=range(12)).to_excel(tmp_path / "b.xlsx", index=False, header=False)
    assert read_own_file(tmp_path / "b.xlsx", FileOptions(target="3")).views.widths == (3,)
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(DataError, match=r"pip install 'rcml-misa\[excel\]'"):
        read_own_file(tmp_path / "a.xlsx", FileOptions())


# what stays as written


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx"])
def test_labels_and_ids_stay_as_written(name, tmp_path):
    frame = pd.DataFrame(
        {"id": ["01", "NA", "1e2"], "x": [1.0, None, 2.0], "y": ["NA", "null", ""]}
    )
    store = frame.to_csv if name == "a.csv" else frame.to_excel
    store(tmp_path / name, index=False)
    (part,) = frame_chunks(tmp_path / name, ["x", "id", "y"], None, texts=["id", "y"])
    assert part["id"].tolist() == ["01", "NA", "1e2"]
    assert part["y"].tolist()[:2] == ["NA", "null"]
    assert part.isna().to_numpy().tolist() == [
        [False] * 3,
        [True, False, False],
        [False] * 2 + [True],
    ]
    assert list(part) == ["x", "id", "y"]


@pytest.mark.parametrize("name", ["a.csv", "a.xlsx", "a.parquet"])
def test_categories_read_alike_in_a_chunk_and_whole(name, tmp_path):
    column = ["1", "2", "NA", "3", "x", "1"]
    frame = pd.DataFrame({"c": column, "n": range(6)})
    if name == "a.parquet":
        frame = frame.assign(c=[1, 2, None, 3, 4, 1])
        frame.to_parquet(tmp_path / name)
    else:
        (frame.to_csv if name == "a.csv" else frame.to_excel)(tmp_path / name, index=False)
    if name != "a.parquet":
        (whole,) = frame_chunks(tmp_path / name, ["c"], None)
    parts = list(frame_chunks(tmp_path / name, ["c", "n"], 2, categories=["c"]))
    joined = pd.concat(parts, ignore_index=True)
    if name != "a.parquet":
        pd.testing.assert_series_equal(joined["c"], whole["c"])
    assert joined["c"].fillna("gap").tolist() == ["1", "2", "gap", "3", *joined["c"][4:]]
    assert joined["n"].tolist() == list(range(6))


def test_columns_come_as_numbers_where_they_are(tmp_path):
    path = write(tmp_path / "a.csv", "n,t,b,y\n1,red,True,0\nNA,None,False,1\n")
    (part,) = frame_chunks(path, list("ntby"), None)
    assert [dtype.kind for dtype in part.dtypes[["n", "b", "y"]]] == ["f", "b", "i"]
    assert part["t"].isna().tolist() == [False, True]


# sentences


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "", "is empty; give a table"),
        ("a.csv", "\n\n# nothing\n", "is empty; give a table"),
        ("a.csv", "p,q,y\n", "has no rows, only names"),
        ("a.csv", "# p q\n", "is empty"),
        ("a.csv", "p,q\n1,2\n", "name the column of labels with --target: p, q"),
        ("a.csv", "p,p,y\n1,2,x\n", "two columns called 'p'"),
        ("a.csv", "p;q;p;y\n1;2;3;x\n", "two columns called 'p'"),
        ("a.csv", "p,y\n0,1,x\n1,2,y\n", "more entries in a row than names"),
        ("a.csv", "p,y\n1,x\n2,y,3\n", "no whole table"),
        ("a.txt", "@RELATION iris\n@data\n1,2\n", "is an ARFF file, which is not read"),
        ("a.txt", "% old\n@relation iris\n@data\n1,2\n", "is an ARFF file, which is not read"),
        ("a.csv.gz", "p,y\n", "can't be read"),
        ("a.csv.zip", "p,y\n", "can't be read"),
        ("a.feather", "p,y\n", "can't be read|no whole table"),
    ],
)
def test_files_that_are_no_tables(name, content, words, tmp_path):
    path = write(tmp_path / name, content)
    with pytest.raises(RcmlMisaError, match=words) as caught:
        read_own_file(path, FileOptions())
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


# width


def wide(path, columns, sep=",", rows=3):
    names = sep.join([*(f"g__{number}" for number in range(columns)), "label"])
    row = sep.join(["0.5"] * columns)
    lines = [names, *(f"{row}{sep}{number % 2}" for number in range(rows))]
    return write(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize("sep", [",", ";", "\t"])
def test_wide_tables_are_told_by_64_kb(sep, tmp_path):
    path = wide(tmp_path / "a.csv", 20_000, sep)
    assert path.stat().st_size > SNIFFED
    found = read_own_file(path, FileOptions())
    assert found.views.widths == (20_000,)
    assert found.labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("folder", [False, True])
def test_a_table_is_opened_a_few_times_however_wide(folder, tmp_path, monkeypatch):
    from rcml_misa.datasets.files import delimited

    opened = []
    original = delimited.opened_text
    monkeypatch.setattr(delimited, "opened_text", lambda p: opened.append(p) or original(p))
    path = wide(tmp_path / "a.csv", 500)
    if folder:
        frame = pd.read_csv(path)
        frame.to_csv(path)
    read_own_file(tmp_path if folder else path, FileOptions())
    assert len(opened) <= 3


def test_the_time_grows_no_faster_than_the_width(tmp_path):
    import time

    def seconds(columns):
        path = wide(tmp_path / f"{columns}.csv", columns)
        times = []
        for _ in range(3):
            start = time.process_time()
            frame_head(path)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(40_000) <= 40 * seconds(4_000)  # a quadratic step takes 100 times as long
