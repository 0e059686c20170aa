"""A file's own split, groups, weights, test file and scores: what is read, and what is refused."""

from __future__ import annotations

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from rcml_misa.datasets import FileOptions, add_own, find_entry, load_dataset
from rcml_misa.datasets.files import (
    check_file,
    content_sha256,
    file_sha256,
    for_training,
    read_own_file,
)
from rcml_misa.datasets.files.guesses import is_guess
from rcml_misa.exceptions import DataError, OptionError, RcmlMisaError
from rcml_misa.protocols import Protocol, partition_rows

ROWS = 24
PARTS = np.array(["Train", "tr", "TRAINING", "Val", "dev", "validation", "test", "TE"] * 3)
ROLES = FileOptions(split_column="part", group_column="who", weight_column="w")


def frame():
    """Four columns of two views, labels, and a column for each role."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(size=(ROWS, 4)).round(3), columns=list("pqrs"))
    table.columns = ["a__0", "a__1", "b__0", "b__1"]
    return table.assign(
        label=np.array(["no", "yes"])[np.arange(ROWS) // 4 % 2],
        part=PARTS,
        who=[f"p{row // 4}" for row in range(ROWS)],
        w=np.linspace(0, 2, ROWS),
    )


def csv(path, table):
    table.to_csv(path.with_suffix(".csv"), index=False)
    return path.with_suffix(".csv")


def parquet(path, table):
    table.to_parquet(path.with_suffix(".parquet"))
    return path.with_suffix(".parquet")


def arrays(table):
    content = {view: table[[f"{view}__0", f"{view}__1"]].to_numpy() for view in "ab"}
    return content | {name: table[name].to_numpy() for name in ("label", "part", "who", "w")}


def npz(path, table):
    content = {
        name: value.astype(str) if value.dtype.kind not in "f" else value
        for name, value in arrays(table).items()
    }
    np.savez(path.with_suffix(".npz"), **content)
    return path.with_suffix(".npz")


def mat(path, table):
    content = arrays(table) | {"label": np.arange(ROWS) // 4 % 2, "who": np.arange(ROWS) // 4}
    content["part"] = content["part"].astype(str)
    savemat(path.with_suffix(".mat"), content)
    return path.with_suffix(".mat")


def hdf5(path, table):
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        for name, value in arrays(table).items():
            numbers = value.dtype.kind == "f"
            file[name] = value if numbers else [str(text).encode() for text in value]
    return path.with_suffix(".h5")


def folder(path, table):
    path.mkdir()
    table = table.assign(id=[f"r{row}" for row in range(ROWS)])
    for view in "ab":
        columns = ["id", f"{view}__0", f"{view}__1"]
        # the rows of a view's table stand in another order than the labels
        table[columns].iloc[::-1].to_csv(path / f"{view}.csv", index=False)
    table[["id", "label", "part", "who", "w"]].to_csv(path / "info.csv", index=False)
    return path


@pytest.mark.parametrize("write", [csv, parquet, npz, mat, hdf5, folder])
def test_every_kind_of_file_has_split_groups_and_weights(tmp_path, write):
    path = write(tmp_path / "data", frame())
    own = read_own_file(path, ROLES)
    assert dict(zip(own.views.names, own.views.widths, strict=True)) == {"a": 2, "b": 2}
    np.testing.assert_allclose(own.views.to_array(), frame().iloc[:, :4].to_numpy())
    places = np.arange(ROWS) % 8
    expected = {"train": places < 3, "valid": (places >= 3) & (places < 6), "test": places >= 6}
    assert {part: rows.tolist() for part, rows in own.folds.items()} == {
        part: np.flatnonzero(rows).tolist() for part, rows in expected.items()
    }
    assert len(set(own.groups.tolist())) == 6
    assert (own.groups[1:] == own.groups[:-1]).tolist() == [row % 4 > 0 for row in range(1, ROWS)]
    np.testing.assert_allclose(own.weights, frame()["w"])
    data = load_dataset(str(path), options=ROLES)
    assert data.folds.keys() == own.folds.keys()
    assert data.valid_from is None
    assert (data.groups == own.groups).all()
    assert (data.weights == own.weights).all()


def test_a_column_without_its_option_stays_a_feature(tmp_path):
    table = frame().drop(columns=["part", "who"]).rename(columns={"w": "b__w"})
    path = csv(tmp_path / "data", table)
    assert read_own_file(path, FileOptions()).views.widths == (2, 3)
    own = read_own_file(path, FileOptions(weight_column="b__w"))
    assert own.views.widths == (2, 2)
    assert own.folds is own.groups is None


def test_views_that_span_a_role_leave_it_out(tmp_path):
    table = frame()[["a__0", "part", "a__1", "who", "b__0", "b__1", "w", "label"]]
    path = csv(tmp_path / "data", table)
    options = FileOptions(
        views="all=a__0:b__1", split_column="part", group_column="who", weight_column="w"
    )
    own = read_own_file(path, options)
    assert own.layout.views == {"all": ("a__0", "a__1", "b__0", "b__1")}


def test_a_role_called_as_targets_and_ids_are_is_neither(tmp_path):
    table = frame().rename(columns={"who": "id", "w": "y"}).drop(columns="part")
    own = read_own_file(
        csv(tmp_path / "data", table), FileOptions(group_column="id", weight_column="y")
    )
    assert (own.layout.target, own.layout.id) == ("label", None)
    assert own.ids is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"part": np.arange(ROWS) % 2}, "holds 0, 1, which do not tell train from test"),
        ({"part": np.arange(ROWS) % 2 > 0}, "holds False, True, which do not tell"),
        ({"part": np.arange(ROWS) % 5}, "holds 0, 1, 2, 3, 4, which do not tell"),
        ({"part": np.where(np.arange(ROWS) == 7, "holdout", PARTS)}, "is 'holdout' in row 7"),
        ({"part": np.where(np.arange(ROWS) == 5, "", PARTS)}, "1 of 24 rows have no part"),
        ({"part": ["train"] * ROWS}, "has no test row, only 24 train; mark some rows as test"),
        ({"part": ["test", "dev"] * 12}, "has no train row, only 12 valid, 12 test"),
        ({"who": np.where(np.arange(ROWS) < 2, "", "x")}, "2 of 24 rows have no group in 'who'"),
        ({"w": np.where(np.arange(ROWS) == 3, -1.0, 1.0)}, "'w' is '-1.0' in row 3"),
        ({"w": np.where(np.arange(ROWS) == 4, np.inf, 1.0)}, "'w' is 'inf' in row 4"),
        ({"w": np.where(np.arange(ROWS) == 4, np.nan, 1.0)}, "'w' is nan in row 4"),
        ({"w": ["much"] * ROWS}, "'w' is 'much' in row 0"),
        ({"w": np.where(np.arange(ROWS) % 8 < 3, 0, 1)}, "is 0 in every train row"),
    ],
)
def test_what_says_no_role_is_refused_in_a_sentence(tmp_path, changes, message):
    path = csv(tmp_path / "data", frame().assign(**changes))
    with pytest.raises(DataError, match=message) as caught:
        read_own_file(path, ROLES)
    assert len(str(caught.value)) <= 300 + len(str(path))
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (FileOptions(split_column="prat"), "--split-column: there is no .* 'prat'; did you"),
        (FileOptions(group_column="part", split_column="part"), "--split-column and --group-col"),
        (FileOptions(target="w", weight_column="w"), "--target and --weight-column both name 'w'"),
        (FileOptions(id="who", group_column="who"), "--id and --group-column both name 'who'"),
    ],
)
def test_roles_that_do_not_fit_are_refused(tmp_path, options, message):
    for path in (csv(tmp_path / "data", frame()), npz(tmp_path / "data", frame())):
        with pytest.raises(OptionError, match=message):
            read_own_file(path, options)


def told(own):
    """List the notes of a file but the guesses of its target, id and views."""
    return [note for note in own.notes if not is_guess(note)]


def test_arrays_of_roles_have_a_value_for_each_row(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((6, 2)), y=np.arange(6) % 2, w=np.ones(5))
    with pytest.raises(DataError, match="'w' has 5 values, but there are 6 labels"):
        read_own_file(tmp_path / "x.npz", FileOptions(weight_column="w"))
    np.savez(tmp_path / "x.npz", a=np.ones((6, 2)), y=np.arange(6) % 2, w=np.ones((2, 3)))
    with pytest.raises(DataError, match=r"one value per row, but its shape is \(2, 3\)"):
        read_own_file(tmp_path / "x.npz", FileOptions(weight_column="w"))


def test_a_role_of_a_folder_stands_beside_the_target(tmp_path):
    path = folder(tmp_path / "data", frame())
    table = pd.read_csv(path / "a.csv").assign(part="train")
    table.to_csv(path / "a.csv", index=False)
    own = read_own_file(path, ROLES)
    assert "test" in own.folds
    assert own.views.widths == (2, 2)
    pd.read_csv(path / "info.csv").drop(columns="part").to_csv(path / "info.csv", index=False)
    with pytest.raises(OptionError, match="must stand in the table with the target, info"):
        read_own_file(path, ROLES)


def test_divided_groups_and_unseen_classes_are_noted(tmp_path):
    path = csv(tmp_path / "data", frame())
    notes = read_own_file(path, ROLES).notes
    assert [note for note in notes if "3 of 6 groups (such as 'p1') have test rows" in note]
    apart = frame().assign(part=np.where(np.arange(ROWS) < 16, "train", "test"))
    assert not told(read_own_file(csv(tmp_path / "apart", apart), ROLES))
    rare = apart.assign(label=np.where(np.arange(ROWS) == 20, "rare", apart["label"]))
    (note,) = told(read_own_file(csv(tmp_path / "rare", rare), ROLES))
    assert note.startswith("test rows of rare have no train row of their class")


def test_fit_takes_all_rows_but_the_test_rows(tmp_path):
    own = read_own_file(csv(tmp_path / "data", frame()), ROLES)
    rows = np.flatnonzero(np.arange(ROWS) % 8 < 6)
    part = for_training(own)
    np.testing.assert_array_equal(part.views.to_array(), own.views.to_array()[rows])
    for name in ("labels", "groups", "weights"):
        assert (getattr(part, name) == getattr(own, name)[rows]).all()
    assert part.notes[-1].startswith("6 test rows of the file's own split are left out")
    plain = read_own_file(csv(tmp_path / "data", frame()), FileOptions(views="a=a__,b=b__"))
    assert for_training(plain) is plain


def test_check_tells_the_roles(tmp_path):
    own = read_own_file(csv(tmp_path / "data", frame()), ROLES)
    facts = [finding.what for finding in check_file(own) if finding.level == "fact"]
    assert "own split: 9 train, 9 valid, 6 test rows" in facts
    assert "6 groups of 4 to 4 rows" in facts
    assert "weights from 0 to 2" in facts


def test_groups_are_kept_together_by_default(tmp_path):
    path = csv(tmp_path / "data", frame().drop(columns=["part", "w"]))
    data = load_dataset(str(path), options=FileOptions(group_column="who"))
    protocol = Protocol(valid_share=0.25).for_dataset(data)
    assert protocol.split == "grouped"
    for seed in range(5):
        part = partition_rows(data.target, protocol=protocol, seed=seed, groups=data.groups)
        owners = [set(data.groups[rows]) for rows in (part.train, part.valid, part.test)]
        assert sum(map(len, owners)) == 6
        assert all(owners)
    for split in ("random", "stratified"):
        with pytest.raises(OptionError, match=f"a {split} split would divide .* use split 'group"):
            Protocol(split=split).for_dataset(data)


# separate test files


def halves(tmp_path, write=csv, change=lambda table: table):
    table = frame().drop(columns=["part", "who", "w"])
    test = table.iloc[16:].reset_index(drop=True)
    return write(tmp_path / "train", table.iloc[:16]), write(tmp_path / "test", change(test))


def joined(paths, **options):
    return read_own_file(paths[0], FileOptions(test_file=str(paths[1]), **options))


def test_rows_of_a_test_file_follow_those_of_the_train_file(tmp_path):
    order = ["b__1", "label", "a__1", "b__0", "a__0"]
    own = joined(halves(tmp_path, change=lambda table: table[order]))
    table = frame()
    np.testing.assert_allclose(own.views.to_array(), table.iloc[:, :4].to_numpy())
    assert own.labels.tolist() == table["label"].tolist()
    assert own.folds["train"].tolist() == list(range(16))
    assert own.folds["test"].tolist() == list(range(16, ROWS))
    assert not told(own)


def test_a_test_file_of_arrays_and_of_a_folder(tmp_path):
    rng = np.random.default_rng(1)
    a, b, y = rng.normal(size=(9, 3)), rng.normal(size=(9, 2)), np.arange(9) % 3
    np.savez(tmp_path / "tr.npz", a=a[:6], b=b[:6], y=y[:6])
    np.savez(tmp_path / "te.npz", b=b[6:], y=y[6:], a=a[6:])
    own = joined((tmp_path / "tr.npz", tmp_path / "te.npz"))
    np.testing.assert_array_equal(own.views.to_array(), np.hstack([a, b]))
    assert own.labels.tolist() == y.tolist()
    np.savez(tmp_path / "te.npz", a=a[6:, :2], b=b[6:], y=y[6:])
    with pytest.raises(DataError, match="view 'a' has 2 columns, but 3 in"):
        joined((tmp_path / "tr.npz", tmp_path / "te.npz"))
    for name, rows in (("tr", slice(0, 6)), ("te", slice(6, 9))):
        (tmp_path / name).mkdir()
        for view, array in (("a", a), ("b", b)):
            table = pd.DataFrame(array[rows], columns=[f"c{n}" for n in range(array.shape[1])])
            table = table.assign(id=np.arange(9)[rows], **({"y": y[rows]} if view == "a" else {}))
            table.to_csv(tmp_path / name / f"{view}.csv", index=False)
    own = joined((tmp_path / "tr", tmp_path / "te"))
    np.testing.assert_allclose(own.views.to_array(), np.hstack([a, b]))
    assert own.ids.tolist() == [str(row) for row in range(9)]
    (tmp_path / "te" / "b.csv").unlink()
    with pytest.raises(DataError, match=r"te lacks the view 'b' of .*tr \(such as 'c0'\); add it"):
        joined((tmp_path / "tr", tmp_path / "te"))


def test_further_columns_of_a_test_file_are_left_out_and_noted(tmp_path):
    own = joined(halves(tmp_path, change=lambda table: table.assign(a__2=1.0, c__0=2.0)))
    assert own.views.widths == (2, 2)
    assert any("1 columns of view a" in note and "'a__2'" in note for note in own.notes)
    assert any("view c" in note for note in own.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="b__1"), "lacks the column 'b__1' of view 'b'"),
        (lambda table: table.drop(columns=["b__0", "b__1"]), "lacks the view 'b'"),
        (lambda table: table.drop(columns="label"), "there is no column 'label'"),
        (lambda table: table.replace({"label": {"no": "nope"}}), "class 'nope' .1 in all. has no"),
    ],
)
def test_a_test_file_that_does_not_fit_is_refused_by_name(tmp_path, change, message):
    paths = halves(tmp_path, change=change)
    with pytest.raises(RcmlMisaError, match=message) as caught:
        joined(paths)
    assert str(paths[1]) in str(caught.value)


def test_test_rows_are_said_once(tmp_path):
    paths = halves(tmp_path)
    with pytest.raises(OptionError, match="--split-column and --test-file both say"):
        joined(paths, split_column="part")
    with pytest.raises(OptionError, match="is the train file itself"):
        joined((paths[0], paths[0]))
    with pytest.raises(DataError, match="there is no file"):
        joined((paths[0], tmp_path / "none.csv"))


def test_numbers_of_one_file_and_texts_of_the_other_are_the_same_labels(tmp_path):
    table = frame().drop(columns=["part", "who", "w"])
    table["label"] = (np.arange(ROWS) % 2).astype(str)
    table.loc[3, "label"] = "x"
    paths = csv(tmp_path / "tr", table.iloc[:16]), csv(tmp_path / "te", table.iloc[16:])
    assert joined(paths).labels.tolist() == table["label"].tolist()


# what records compare


def test_the_sha256_of_what_is_read_tells_options_apart(tmp_path):
    path = csv(tmp_path / "data", frame())
    other = csv(tmp_path / "other", frame().assign(w=1.0))
    options = [
        FileOptions(),
        FileOptions(split_column="part"),
        FileOptions(group_column="part"),
        FileOptions(weight_column="w"),
        FileOptions(leave_out="w"),
        FileOptions(target="w", regression=True),
        FileOptions(target="w"),
        FileOptions(test_file=str(other)),
    ]
    hashes = [content_sha256(path, each) for each in options]
    assert len(set(hashes)) == len(hashes)
    assert hashes[0] == file_sha256(path) == content_sha256(path, FileOptions(accept_leak=True))
    csv(tmp_path / "other", frame().assign(w=2.0))
    assert content_sha256(path, options[-1]) != hashes[-1]
    assert load_dataset(str(path), options=ROLES).sha256 == content_sha256(path, ROLES)


def test_an_added_set_keeps_its_roles_and_its_test_file(tmp_path, monkeypatch):
    path = csv(tmp_path / "data", frame())
    add_own("mine", path, ROLES)
    assert find_entry("mine").options == ROLES
    assert set(load_dataset("mine").folds) == {"train", "valid", "test"}
    paths = halves(tmp_path)
    monkeypatch.chdir(tmp_path)
    entry = add_own("both", paths[0], FileOptions(test_file=paths[1].name))
    monkeypatch.chdir("/")
    assert entry.samples == ROWS
    assert len(load_dataset("both").folds["test"]) == 8
    paths[1].write_text(paths[1].read_text().replace("yes", "no"))
    with pytest.raises(DataError, match="has changed since it was added"):
        load_dataset("both")


# scores


@settings(deadline=None, max_examples=25, derandomize=True)
@given(
    st.lists(
        st.floats(-1e12, 1e12, allow_nan=False).map(lambda value: round(value, 6)),
        min_size=3,
        max_size=12,
    )
)
def test_scores_are_read_as_they_stand(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("scores") / "data.csv"
    pd.DataFrame({"a": np.arange(len(values)), "y": values}).to_csv(path, index=False)
    own = read_own_file(path, FileOptions(regression=True))
    assert own.task == "regression"
    assert own.labels.tolist() == values
    data = load_dataset(str(path), options=FileOptions(regression=True))
    assert (data.task, data.classes, data.scores) == ("regression", (), None)
    assert data.target.dtype == np.float64


def test_whole_numbers_are_scores_too_and_arrays_have_them(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.ones((4, 2)), y=[[3], [1], [2], [2]])
    own = read_own_file(tmp_path / "x.npz", FileOptions(regression=True))
    assert own.labels.dtype == np.float64
    assert own.labels.tolist() == [3.0, 1.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("value", "shown"),
    [("", "nan"), ("inf", "'inf'"), ("high", "'high'"), ("1_0", "'1_0'"), ("1,5", "'1,5'")],
)
def test_what_is_no_finite_score_is_refused_with_its_row(tmp_path, value, shown):
    path = csv(tmp_path / "x", pd.DataFrame({"a": range(4), "y": ["1.5", "2", value, "3"]}))
    with pytest.raises(DataError, match=f"'y' is {shown} in row 2, no finite number") as caught:
        read_own_file(path, FileOptions(regression=True))
    assert "leave --task regression out" in str(caught.value)


def test_fractions_as_labels_lead_to_a_regression(tmp_path):
    path = csv(tmp_path / "x", pd.DataFrame({"a": range(30), "y": np.arange(30) + 0.5}))
    with pytest.raises(DataError, match="--task regression"):
        read_own_file(path, FileOptions())
