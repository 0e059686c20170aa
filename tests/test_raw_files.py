"""Raw tables by the command line: at the first try, told as done, alike in any form."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.raw import raw_table
from rcml_misa import KernelExpertClassifier, TablePreparer
from rcml_misa.cli import main
from rcml_misa.datasets.files import FileOptions, read_own_file
from rcml_misa.datasets.files.labels import note_labels
from rcml_misa.exceptions import DataError
from rcml_misa.reading.preparer import describe_preparation
from rcml_misa.views import MultiView

ROWS = 60


def call(*words):
    return CliRunner(env={"COLUMNS": "80"}).invoke(main, [str(word) for word in words])


def done(*words):
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stderr.splitlines()), default=0) <= 80
    return result


def told(result):
    return " ".join(result.stderr.split())


def table(rows=ROWS, seed=0):
    """Two views, one gap, and labels; nothing that is set aside."""
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % 3
    rng.shuffle(codes)
    values = 2 * np.random.default_rng(9).normal(size=(3, 4))[codes] + rng.normal(size=(rows, 4))
    frame = pd.DataFrame(values.round(4), columns=["a__0", "a__1", "b__0", "b__1"])
    frame.loc[5, "a__0"] = np.nan
    return frame.assign(label=np.array(["x", "y", "z"])[codes])


def fitted(frame, folder, *options):
    frame.to_csv(folder / "train.csv", index=False)
    path = folder / "m.rcml"
    return path, done("fit", "--dataset", folder / "train.csv", "--method", "ridge-expert", "--out",
                      path, *options)  # fmt: skip


def answers(model, frame, folder, *options):
    frame.to_csv(folder / "new.csv", index=False)
    result = done("predict", model, folder / "new.csv", "--out", folder / "p.csv", *options)
    read = pd.read_csv(folder / "p.csv", dtype=str, keep_default_na=False)
    return read.drop(columns="row", errors="ignore"), result


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The raw table of the benchmark, its file and a model of it."""
    folder = tmp_path_factory.mktemp("raw")
    frame = raw_table(300)
    model, result = fitted(frame, folder)
    return frame, folder, model, result


def test_a_raw_table_works_at_the_first_try(raw):
    frame, folder, model, result = raw
    path = folder / "train.csv"
    checked = done("datasets", "check", path)
    said = " ".join(checked.stdout.split())
    ran = done("run", "--dataset", path, "--method", "lda", "--runs", 1, "--jobs", 1)
    for sentence in describe_preparation(read_own_file(path, FileOptions()).views):
        for text in (
            said,
            told(result),
            told(ran),
            " ".join(done("inspect", model).stdout.split()),
        ):
            assert sentence in text
    assert result.stderr.count("note:") <= 9
    read, predicted = answers(model, frame.drop(columns="label"), folder)
    assert (read["class"] == frame["label"]).mean() > 0.9
    assert "gaps filled: scan" in told(predicted)


def alike(first, second):
    """Whether answers are equal but for the rounding of float32."""
    for name, values in first.items():
        try:
            pairs = values.astype(float), second[name].astype(float)
        except ValueError:
            assert values.tolist() == second[name].tolist()
        else:
            np.testing.assert_allclose(*pairs, rtol=1e-5)
    return first.columns.equals(second.columns)


def test_a_row_answers_alone_as_among_others_in_any_order(raw):
    frame, folder, model, _ = raw
    among, _ = answers(model, frame, folder)
    for row in (0, 150, 299):
        alone, _ = answers(model, frame.iloc[[row]], folder)
        assert alike(alone, among.iloc[[row]])
    in_chunks, _ = answers(model, frame, folder, "--chunk", 7)
    assert alike(in_chunks, among)
    order = np.random.default_rng(0).permutation(300)
    columns = np.random.default_rng(1).permutation(frame.columns)
    mixed, _ = answers(model, frame.loc[order, columns], folder)
    assert alike(mixed, among.iloc[order])


def test_new_levels_gaps_and_lacking_views_are_answered_and_told(raw):
    frame, folder, model, _ = raw
    new = frame.assign(chart__town="Rom", chart__visit=frame["chart__visit"].mask(frame.index < 9))
    _, result = answers(model, new, folder)
    assert "values of chart__town that fit did not see: 'Rom' 300" in told(result)
    assert "in columns without gaps in training: chart__visit" in told(result)
    without = frame[[name for name in frame if not name.startswith(("scan", "patient"))]]
    assert len(answers(model, without, folder)[0]) == 300


def test_predict_knows_the_file_of_fit(raw):
    frame, folder, model, _ = raw
    words = "the model was fitted on this file"
    assert words in told(done("predict", model, folder / "train.csv"))
    assert words not in told(answers(model, frame.iloc[::-1], folder)[1])  # of the same size
    content = (folder / "train.csv").read_bytes()
    (folder / "copy.csv").write_bytes(content)
    assert words in told(done("predict", model, folder / "copy.csv"))
    json.loads(done("predict", model, folder / "copy.csv", "--json", "--out", folder / "p").stdout)


def test_predict_knows_the_folder_of_fit(tmp_path):
    frame = table().rename_axis("id").reset_index()
    data = tmp_path / "data"
    data.mkdir()
    frame[["id", "a__0", "a__1"]].to_csv(data / "a.csv", index=False)
    frame[["id", "b__0", "label"]].to_csv(data / "b.csv", index=False)
    done("fit", "--dataset", data, "--method", "ridge-expert", "--out", tmp_path / "m")
    assert "fitted on this file" in told(done("predict", tmp_path / "m", data))


@pytest.mark.parametrize("chunk", [7, 2048])
def test_an_error_about_a_value_has_the_row_of_the_file(chunk, tmp_path):
    model, _ = fitted(table(), tmp_path)
    new = table().astype({"b__1": object})
    new.loc[24, "b__1"] = "abc"
    new.to_csv(tmp_path / "new.csv", index=False)
    result = call("predict", model, tmp_path / "new.csv", "--chunk", chunk)
    assert result.exit_code == 2
    assert "column 'b__1' has 'abc' in row 24, which is no number" in result.stderr


ASIDE = {
    "number": lambda: np.random.default_rng(0).permutation(ROWS) + 1000,
    "name": lambda: [f"S{row:03d}" for row in np.random.default_rng(0).permutation(ROWS)],
    "nothing": lambda: np.full(ROWS, np.nan),
}


@pytest.mark.parametrize("kind", ASIDE)
@pytest.mark.parametrize("column", ["subject", "c__subject"])
def test_a_view_of_set_aside_columns_is_asked_for_by_no_row(kind, column, tmp_path):
    frame = table().assign(**{column: ASIDE[kind]()})
    model, result = fitted(frame, tmp_path)
    assert f"{column} set aside" in told(result)
    among, _ = answers(model, frame, tmp_path)
    for new in (frame, frame.drop(columns=column), frame.assign(**{column: "other"})):
        read, _ = answers(model, new, tmp_path, "--chunk", 7)
        pd.testing.assert_frame_equal(read, among)
    done("run", "--dataset", tmp_path / "train.csv", "--method", "lda", "--runs", 1, "--jobs", 1)
    checked = done("datasets", "check", tmp_path / "train.csv")
    assert "nan" not in checked.stdout
    assert "warning" not in checked.stderr


def test_a_part_of_the_columns_that_are_set_aside_is_no_part_of_a_view(tmp_path):
    frame = table().assign(c__1=ASIDE["name"](), c__2=ASIDE["number"]())
    model, _ = fitted(frame, tmp_path)
    assert len(answers(model, frame.drop(columns="c__1"), tmp_path)[0]) == ROWS


def test_an_empty_last_column_of_a_csv_is_no_view(tmp_path):
    text = table().to_csv(index=False).replace("\n", ",\n")
    (tmp_path / "a.csv").write_text(text)
    result = done("fit", "--dataset", tmp_path / "a.csv", "--method", "ridge-expert", "--out",
                  tmp_path / "m")  # fmt: skip
    assert "Unnamed: 5 set aside, without a value" in told(result)


@pytest.mark.parametrize("word", ["abc", "<0.01", "n.a.", "-"])
def test_a_stray_word_among_numbers_is_a_gap_in_every_split(word, tmp_path):
    frame = table().astype({"b__0": object})
    frame.loc[31, "b__0"] = word
    model, result = fitted(frame, tmp_path)
    assert f"'{word}' among the numbers of b__0 is read as gaps" in told(result)
    done("run", "--dataset", tmp_path / "train.csv", "--method", "lda", "--runs", 8, "--jobs", 1)
    among, _ = answers(model, frame, tmp_path)
    empty, _ = answers(model, frame.assign(b__0=frame["b__0"].replace(word, "")), tmp_path)
    pd.testing.assert_frame_equal(among, empty)
    checked = " ".join(done("datasets", "check", tmp_path / "train.csv").stdout.split())
    assert ("numbers and words mixed ('b__0')" in checked) == (word in ("abc", "<0.01"))


def test_other_stray_words_at_predict_are_counted(tmp_path):
    frame = table().astype({"b__0": object})
    frame.loc[31, "b__0"] = "abc"
    model, _ = fitted(frame, tmp_path)
    frame.loc[[3, 4], "b__0"] = ["def", "?"]
    _, result = answers(model, frame, tmp_path)
    assert "words read as gaps among numbers: b__0 1" in told(result)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "2", "2a", "3"] * 15, "category"),  # few numbers are codes
        ([*map(str, range(50)), *(f"w{place}" for place in range(10))], "aside"),
        ([*map(str, range(56)), *["abc"] * 4], "number"),
        ([f"{day:02d}.03.2024 08:30" for day in range(1, 31)] * 2, "date"),
        ([f"03/{day:02d}/2024 08:30 PM" for day in range(1, 31)] * 2, "date"),
        ([f"{day:02d}-Mar-2024" for day in range(1, 31)] * 2, "date"),
        (["10 men 2000", "12 men 1000"] * 30, "category"),
    ],
)
def test_kinds_of_texts(values, kind):
    frame = pd.DataFrame({"c": values, "n": np.sin(np.arange(ROWS))})
    kinds = TablePreparer().fit({"a": frame}).columns_["a"].kinds
    places = {"category": kinds.categories, "date": kinds.dates, "aside": kinds.aside}
    assert next((name for name, own in places.items() if "c" in own), "number") == kind


def test_all_rows_say_what_a_column_is_and_train_rows_what_fills_it():
    frame = pd.DataFrame({"c": ["1", "2"] * 20 + ["x"], "n": [1.0, 3.0] * 20 + [99.0]})
    whole = MultiView({"a": frame}, raw=True)
    train = whole.take(np.arange(40))
    alone = TablePreparer().fit(train)
    assert alone.columns_["a"].kinds.categories == ()
    with pytest.raises(DataError, match="has 'x' in row 40"):
        alone.transform(whole)
    told = TablePreparer().fit(train, kinds_of=whole)
    assert told.columns_["a"].kinds.categories == ("c",)
    assert told.columns_["a"].medians.tolist() == [2.0]
    assert told.transform(whole)["a"][-1].tolist() == [99.0, 0.0, 0.0]


def test_codes_with_leading_zeros_are_categories(tmp_path):
    codes = np.array(["01067", "50667", "80331"])[np.random.default_rng(4).integers(0, 3, ROWS)]
    frame = table().assign(a__zip=codes)
    model, result = fitted(frame, tmp_path)
    assert "levels of a__zip (3)" in told(result)
    among, _ = answers(model, frame, tmp_path)
    alone, _ = answers(model, frame[frame["a__zip"] == "50667"][:1], tmp_path)
    first = int((frame["a__zip"] == "50667").argmax())
    assert alone.iloc[0].tolist() == among.iloc[first].tolist()
    frame.to_parquet(tmp_path / "a.parquet")
    views = read_own_file(tmp_path / "a.parquet", FileOptions()).views
    assert describe_preparation(views) == describe_preparation(
        read_own_file(tmp_path / "train.csv", FileOptions()).views
    )


def test_numbers_that_are_padded_are_numbers(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (ROWS, 4))
    frame = pd.DataFrame(values, columns=list("abcd")).map("{:03d}".format)
    frame.assign(y=table()["label"]).to_csv(tmp_path / "a.csv", index=False)
    views = read_own_file(tmp_path / "a.csv", FileOptions()).views
    np.testing.assert_array_equal(views["view1"], values)


@pytest.mark.parametrize("form", ["%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%d.%m.%Y %H:%M"])
def test_time_stamps_of_a_file_in_label_order_stop(form, tmp_path):
    frame = table().sort_values("label", ignore_index=True)
    stamps = pd.date_range("2024-01-28", periods=ROWS, freq="7h").strftime(form)
    frame.assign(b__time=stamps).to_csv(tmp_path / "a.csv", index=False)
    for words in (("run", "--method", "lda"), ("fit", "--out", tmp_path / "m")):
        result = call(*words, "--dataset", tmp_path / "a.csv")
        assert result.exit_code == 2
        assert "column 'b__time' rises or falls with the row number" in result.stderr
    frame = frame.sample(frac=1, random_state=0).assign(b__time=stamps)
    frame.to_csv(tmp_path / "a.csv", index=False)  # in no order of the labels
    done("run", "--dataset", tmp_path / "a.csv", "--method", "lda", "--runs", 1, "--jobs", 1)


def test_empty_lines_of_excel_are_no_rows(tmp_path):
    frame = table().assign(a__town=["U", "B"] * 30)
    empty = pd.DataFrame([[None] * frame.shape[1]], columns=frame.columns)
    whole = pd.concat([frame[:20], empty, frame[20:], empty])
    whole.to_excel(tmp_path / "a.xlsx", index=False, startrow=2)
    frame.to_csv(tmp_path / "a.csv", index=False)
    sheet, text = (read_own_file(tmp_path / name, FileOptions()) for name in ("a.xlsx", "a.csv"))
    assert sheet.labels.tolist() == text.labels.tolist()
    preparer = TablePreparer().fit(text.views)
    np.testing.assert_array_equal(
        preparer.transform(sheet.views)["a"], preparer.transform(text.views)["a"]
    )


@pytest.mark.parametrize(
    ("labels", "count"),
    [(["Yes", "yes ", "No"], 1), (["a b", "a  b"], 1), (["Yes", "No"], 0), (["01", "1"], 0)],
)
def test_labels_that_differ_in_case_or_spaces_only_are_told(labels, count):
    notes = note_labels(np.array(labels), "y")
    assert len(notes) == count
    assert all("differ in case or spaces only" in note for note in notes)


def test_other_codes_of_letters_get_the_way_out(tmp_path):
    table().assign(a__town="Köln").to_csv(tmp_path / "a.csv", index=False, encoding="latin-1")
    result = call("datasets", "check", tmp_path / "a.csv")
    assert result.exit_code == 2
    assert "save it as UTF-8, in Excel as 'CSV UTF-8'" in result.stderr


def test_names_of_any_length_give_short_notes(tmp_path):
    name = "q" * 400
    frame = table().assign(**{name: ["u", "v"] * 30})
    model, result = fitted(frame, tmp_path)
    assert name not in result.stderr
    _, result = answers(model, frame.assign(**{name: "w"}), tmp_path)
    assert name not in result.stderr
    assert "that fit did not see: 'w' 60" in told(result)


def test_infinite_numbers_are_told_by_fit(tmp_path):
    frame = table()
    frame.loc[7, "b__1"] = np.inf
    _, result = fitted(frame, tmp_path)
    assert "infinite numbers of b__1 are read as gaps" in told(result)


def test_columns_of_one_name_in_two_views_are_told_apart():
    part = pd.DataFrame({"sex": ["f", "m"] * 5})
    (told,) = describe_preparation(MultiView({"a": part, "b": part}, raw=True))
    assert "sex of view a (2), sex of view b (2)" in told


def test_a_note_that_names_the_file_is_not_named_twice(tmp_path):
    table().to_csv(tmp_path / "data.csv", index=False, sep=";")
    result = done("run", "--dataset", tmp_path / "data.csv", "--method", "lda", "--runs", 1,
                  "--jobs", 1)  # fmt: skip
    assert "note: The columns of data.csv are separated by semicolons." in told(result)
    checked = done("datasets", "check", tmp_path / "data.csv").stdout
    assert ".." not in checked


@pytest.mark.parametrize("change", [lambda f: f[:1], lambda f: f.rename(columns={"n": "other"})])
def test_a_view_that_is_set_aside_may_have_any_columns(change):
    ids = pd.DataFrame({"n": ASIDE["number"]()})
    preparer = TablePreparer().fit({"a": table()[["a__0", "a__1"]], "ids": ids})
    new = {"a": change(table()[["a__0", "a__1"]]), "ids": change(ids)}
    assert preparer.transform(new).names == ("a",)


def test_what_no_view_takes_is_noted(tmp_path):
    frame = pd.DataFrame({"x": range(12), "age": range(12), "who": list("ab") * 6, "w": range(12)})
    frame.assign(label=[0, 1] * 6).to_csv(tmp_path / "a.csv", index=False)
    options = FileOptions(views="a=x", weight_column="w", leave_out="who")
    notes = read_own_file(tmp_path / "a.csv", options).notes
    assert "column age is in no view of --views and is left out" in notes
    arrays = {"a": np.eye(6), "b": np.ones((6, 2)), "c": np.ones((6, 3)), "y": np.arange(6) % 2}
    np.savez(tmp_path / "a.npz", **arrays)
    notes = read_own_file(tmp_path / "a.npz", FileOptions(views="a")).notes
    assert "arrays b, c are in no view of --views and are left out" in notes


def test_a_column_like_a_split_is_offered(tmp_path):
    frame = pd.DataFrame({"x": np.arange(12.0) ** 2, "fold": ["train", "Test", "val"] * 4})
    frame.assign(label=[0, 1] * 6).to_csv(tmp_path / "a.csv", index=False)
    (note,) = (n for n in read_own_file(tmp_path / "a.csv", FileOptions()).notes if "fold" in n)
    assert note.endswith("--split-column fold takes it for the split of the file")
    taken = read_own_file(tmp_path / "a.csv", FileOptions(split_column="fold"))
    assert not any("--split-column" in note for note in taken.notes)


def test_a_file_of_no_known_kind_is_told_from_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    result = call("run", "--dataset", "a.json")
    assert result.exit_code == 2
    assert "the file a.json is of no known kind; give a csv" in " ".join(result.stderr.split())


def test_no_row_is_refused_as_such():
    frame = pd.DataFrame({"a": ["x", "y"] * 4, "b": range(8)})
    preparer = TablePreparer().fit({"v": frame})
    with pytest.raises(DataError, match="view 'v' has 0 sample"):
        preparer.transform({"v": frame[:0]})


@pytest.mark.parametrize("gap", [None, np.nan])
def test_labels_with_gaps_are_refused_by_their_row(gap):
    labels = ["no", "yes", gap, "yes"] * 3
    with pytest.raises(DataError, match=r"3 of 12 rows have no label \(the first is row 2\)"):
        KernelExpertClassifier().fit(np.eye(12), pd.Series(labels))


def test_rows_without_any_value_are_left_out_and_told(tmp_path):
    frame = raw_table(60).assign(part=np.where(np.arange(60) % 4 == 0, "test", "train"))
    frame.loc[[7, 8], [name for name in frame if "__" in name]] = np.nan
    frame.to_csv(tmp_path / "a.csv", index=False)
    own = read_own_file(tmp_path / "a.csv", FileOptions(split_column="part"))
    assert own.views.n_samples == len(own.labels) == 58
    assert "2 rows have no value in any view (the first is row 7) and are left out" in own.notes
    rest = frame.drop([7, 8]).reset_index(drop=True)
    assert own.labels.tolist() == rest["label"].tolist()
    for part, rows in own.folds.items():
        assert rows.tolist() == np.flatnonzero(rest["part"] == part).tolist()
    done("run", "--dataset", tmp_path / "a.csv", "--method", "majority", "--runs", 1, "--jobs", 1)
