"""Tables larger than memory: read in blocks, prepared by a sample, trained on from the disk."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import h5py
import numpy as np
import pandas as pd
import pytest
from commands import call, done

import rcml_misa
from rcml_misa.datasets import FileOptions, load_dataset
from rcml_misa.datasets.files import (
    file_rows,
    held_bytes,
    npz_members,
    read_own_file,
    reading_ahead,
    survey,
    survey_own_file,
)
from rcml_misa.estimators import RidgeExpertClassifier
from rcml_misa.exceptions import DataError
from rcml_misa.reading import mapping
from rcml_misa.reading.mapping import open_mapped
from rcml_misa.reading.preparer import TablePreparer
from rcml_misa.views import MultiView

ROWS = 3000
RIDGE = ("--method", "ridge-expert")
BLOCKS = ("--in-memory", 0, "--jobs", 1)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(survey, "BLOCK_ROWS", 700)
    monkeypatch.setattr(npz_members, "LARGE", 1000)


def table(rows=ROWS, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, rows)
    values = rng.normal(size=(rows, 5)) + np.random.default_rng(9).normal(size=(3, 5))[y]
    frame = pd.DataFrame(values, columns=["a__0", "a__1", "b__0", "b__1", "b__2"])
    return frame.assign(who=np.array(["ant", "bee", "cat"])[y])


def raw_table(rows=ROWS):
    rng = np.random.default_rng(1)
    frame = table(rows)
    frame.loc[rng.random(rows) < 0.05, "a__1"] = np.nan
    frame.loc[10:40, ["a__0", "a__1"]] = np.nan
    days = rng.integers(0, 900, rows)
    return frame.assign(
        b__sex=rng.choice(["f", "m"], rows),
        b__day=(pd.Timestamp("2020-01-01") + pd.to_timedelta(days, "D")).strftime("%Y-%m-%d"),
        b__code=[f"{number:03}" for number in rng.integers(1, 30, rows)],
        b__note=[f"n{number}" for number in range(rows)],
    )


def write(frame, folder, form):  # noqa: PLR0912
    """Write a table in one of the forms; the path, and the options of fit."""
    path = folder / f"big.{form}"
    if form == "parquet":
        frame.to_parquet(path, row_group_size=1000)
    elif form == "feather":
        frame.to_feather(path)
    elif form == "csv":
        frame.to_csv(path, index=False)
    elif form == "tsv.gz":
        frame.to_csv(path, index=False, sep="\t")
    elif form in ("parts", "views"):
        path = folder / form
        path.mkdir()
        if form == "parts":
            for part, start in enumerate(range(0, len(frame), 300)):
                frame[start : start + 300].to_parquet(path / f"part.{part}.parquet")
        else:
            named = frame.assign(id=[f"r{number}" for number in range(len(frame))])
            named[["id", "a__0", "a__1"]].to_csv(path / "a.csv", index=False)
            lacking = named.drop(index=range(len(named) // 30, len(named) // 3))  # over blocks
            columns = [name for name in frame if name.startswith("b__")]
            lacking[["id", *columns]].to_parquet(path / "b.parquet", index=False)
            named[["id", "who"]].to_csv(path / "labels.csv", index=False)
    else:
        arrays = {name: frame.filter(like=f"{name}__").to_numpy().copy("C") for name in "ab"}
        arrays["a"] = arrays["a"].astype(np.float32)
        arrays["who"] = frame["who"].to_numpy().astype(str)
        if form == "npz":
            np.savez(path, **arrays)
        elif form == "packed.npz":
            np.savez_compressed(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    more = {"chunks": (500, 2), "compression": "gzip"} if name == "b" else {}
                    file[name] = array.astype("S") if name == "who" else array
                    if more and form == "chunked.h5":
                        del file[name]
                        file.create_dataset(name, data=array, **more)
    return path


FORMS = ("parquet", "feather", "csv", "tsv.gz", "parts", "views", "npz", "packed.npz", "h5")


@pytest.mark.parametrize("form", [*FORMS, "chunked.h5"])
def test_the_mapped_table_is_the_one_that_is_read_whole(tmp_path, form):
    path = write(table(), tmp_path, form)
    options = FileOptions(target="who")
    own = read_own_file(path, options)
    whole = TablePreparer().fit_transform(own.views)
    mapped = open_mapped(path, folder=tmp_path / "maps", options=options)
    assert mapped.views.names == whole.names
    for name, array in whole.items():
        assert isinstance(mapped.views[name], np.memmap)
        assert not mapped.views[name].flags.writeable
        np.testing.assert_array_equal(np.asarray(mapped.views[name]), np.asarray(array))
    assert mapped.labels.dtype == own.labels.dtype
    np.testing.assert_array_equal(mapped.labels, own.labels)
    assert mapped.notes[: len(own.notes)] == own.notes
    assert (mapped.rows, mapped.sampled) == (ROWS, ROWS)
    # numbers that lie in the file as they are needed are not copied
    copied = 0 if form in ("npz", "h5") else 2
    assert len(list((tmp_path / "maps").iterdir())) == copied


@pytest.mark.parametrize("form", ["parquet", "views", "npz"])
def test_the_fitted_model_is_the_same(tmp_path, form, monkeypatch):
    monkeypatch.setattr(survey, "BLOCK_ROWS", 150)
    path = write(table(600), tmp_path, form)
    new = table(200, seed=5)
    views = {name: new.filter(like=f"{name}__").to_numpy() for name in "ab"}
    answers = []
    for name, options in (("whole", ()), ("blocks", BLOCKS)):
        out = tmp_path / f"{name}.rcml"
        told = done("fit", "--dataset", path, "--target", "who", "--out", out, *RIDGE, *options)
        assert ("read in blocks" in told.stdout) == (name == "blocks")
        answers.append(rcml_misa.load(out).predict_proba(views))
    np.testing.assert_allclose(*answers, rtol=1e-6, atol=1e-9)
    assert not list(tmp_path.glob(".rcml-misa-work-*"))


@pytest.mark.parametrize("form", ["parquet", "csv", "views"])
def test_raw_columns_are_prepared_as_in_memory(tmp_path, form):
    path = write(raw_table(900), tmp_path, form)
    options = FileOptions(target="who")
    own = read_own_file(path, options)
    preparer = TablePreparer().fit(own.views)
    mapped = open_mapped(path, folder=tmp_path / "maps", options=options)
    assert mapped.preparer.describe() == preparer.describe()
    for name, array in preparer.transform(own.views).items():
        np.testing.assert_array_equal(np.asarray(mapped.views[name]), array)
    out = tmp_path / "m.rcml"
    done("fit", "--dataset", path, "--target", "who", "--out", out, *RIDGE, *BLOCKS)
    done("predict", out, path, "--out", tmp_path / "p.csv")
    assert len(pd.read_csv(tmp_path / "p.csv")) == 900


def test_single_precision_stays_single(tmp_path):
    frame = table()
    numbers = frame.filter(like="__").columns
    small = frame.astype(dict.fromkeys(numbers[:2], np.float32))
    small.to_parquet(tmp_path / "big.parquet")
    mapped = open_mapped(
        tmp_path / "big.parquet", folder=tmp_path / "maps", options=FileOptions(target="who")
    )
    assert [array.dtype for array in mapped.views.arrays] == [np.float32, np.float64]
    assert (tmp_path / "maps" / "view0").stat().st_size == ROWS * 2 * 4


def test_a_sample_is_spread_over_the_file_and_its_size_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 400)
    frame = table().sort_values("who", ignore_index=True)
    # rarer than the sample's rows: the labels of all rows are read all the same
    frame.loc[[17, 2001], "who"] = "dog"
    frame["b__place"] = np.random.default_rng(2).permutation(ROWS) + 7
    for path in (write(frame, tmp_path, "csv"), write(frame, tmp_path, "parquet")):
        surveyed = survey_own_file(path, FileOptions(target="who"))
        assert surveyed.sampled == len(surveyed.own.labels) == 375  # every eighth
        np.testing.assert_array_equal(surveyed.labels, frame["who"])
        np.testing.assert_array_equal(surveyed.own.labels, frame["who"][::8])
        mapped = open_mapped(path, folder=tmp_path / "maps", options=FileOptions(target="who"))
        assert mapped.notes[0].startswith("guessed and prepared from a sample of 375 of 3000 rows")
        assert set(mapped.labels) == {"ant", "bee", "cat", "dog"}
        # whole numbers up to the number of all rows number these, not those of the sample
        assert any("b__place set aside, numbering the rows" in note for note in mapped.notes)
        assert len(mapped.views["b"]) == ROWS


def test_what_the_sample_lacks_is_counted_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 400)
    frame = table()
    frame.loc[[3, 5], "a__0"] = np.nan
    path = write(frame, tmp_path, "npz")
    mapped = open_mapped(path, folder=tmp_path / "maps", options=FileOptions(target="who"))
    told = [note for note in mapped.notes if note.startswith("in all rows")]
    assert told == ["in all rows, gaps filled in columns without gaps in training: 0 2"]
    assert np.isfinite(np.asarray(mapped.views["a"])).all()


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("a__0", "many", "which is no number"),
        ("who", "", "have no label"),
    ],
)
@pytest.mark.parametrize("form", ["csv", "views"])
def test_a_bad_row_is_told_by_its_number(tmp_path, monkeypatch, form, column, value, what):
    monkeypatch.setattr(survey, "SAMPLE_ROWS", 400)
    frame = table().astype({"a__0": object})
    frame.loc[2345, column] = value
    path = write(frame, tmp_path, form)
    told = call(
        "fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS
    )
    assert told.exit_code == 2
    error = next(line for line in told.stderr.splitlines() if line.startswith("error: "))
    assert "row 2345" in error
    assert what in error
    assert not (tmp_path / "m").exists()
    assert not list(tmp_path.glob(".rcml-misa-work-*"))


def test_copies_of_the_label_stop_a_fit_in_blocks_too(tmp_path):
    frame = table(300)
    frame["b__copy"] = frame["who"].str.upper()
    path = write(frame, tmp_path, "parquet")
    words = ("fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS)
    told = call(*words)
    assert told.exit_code == 2
    assert "b__copy" in told.stderr
    assert done(*words, "--leave-out", "b__copy")


def test_split_and_weights_are_those_of_all_rows(tmp_path):
    frame = table()
    frame["part"] = np.where(np.arange(ROWS) % 5, "train", "test")
    frame["w"] = np.where(np.arange(ROWS) % 7, 2.0, 0.0)
    path = write(frame, tmp_path, "csv")
    options = FileOptions(target="who", split_column="part", weight_column="w")
    mapped = open_mapped(path, folder=tmp_path / "maps", options=options)
    trained = frame[(np.arange(ROWS) % 5 > 0) & (np.arange(ROWS) % 7 > 0)]
    np.testing.assert_array_equal(mapped.labels, trained["who"])
    np.testing.assert_array_equal(np.asarray(mapped.views["a"]), trained[["a__0", "a__1"]])
    assert (mapped.weights == 2).all()
    assert len(mapped.weights) == len(trained)


def test_scores_are_read_in_blocks(tmp_path):
    frame = table().rename(columns={"who": "y"})
    frame["y"] = np.linspace(-1, 1, ROWS)[::-1] ** 3
    frame = frame.sample(frac=1, random_state=0)
    mapped = open_mapped(
        write(frame, tmp_path, "csv"),
        folder=tmp_path / "maps",
        options=FileOptions(regression=True),
    )
    np.testing.assert_allclose(mapped.labels, frame["y"], rtol=1e-15)


@pytest.mark.parametrize(
    "labels",
    [
        ["01", "1", "10"],
        ["1.0", "2.0", "3.0"],
        ["7", "8", "9"],
        ["7", "x", "9"],
    ],
)
def test_labels_keep_the_form_that_the_whole_column_has(tmp_path, labels):
    frame = table(90)
    frame["who"] = np.array(labels)[np.repeat(np.arange(3), 30)]
    frame.to_csv(path := tmp_path / "big.csv", index=False)
    survey.BLOCK_ROWS = 20  # restored by the fixture
    options = FileOptions(target="who", accept_leak=True)
    surveyed, own = survey_own_file(path, options), read_own_file(path, options)
    assert surveyed.labels.dtype == own.labels.dtype
    np.testing.assert_array_equal(surveyed.labels, own.labels)


def test_tables_of_a_folder_in_another_order_are_refused(tmp_path):
    path = write(table(300), tmp_path, "views")
    other = pd.read_csv(path / "a.csv")
    other.sample(frac=1, random_state=0).to_csv(path / "a.csv", index=False)
    told = call(
        "fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS
    )
    assert told.exit_code == 2
    assert "in another order" in " ".join(told.stderr.split())
    assert done("fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE)


def test_methods_that_hold_the_table_are_refused(tmp_path):
    path = write(table(), tmp_path, "parquet")
    told = call(
        "fit", "--dataset", path, "--target", "who", "--method", "rcml", "--out", tmp_path / "m",
        *BLOCKS,
    )  # fmt: skip
    assert told.exit_code == 2
    words = " ".join(told.stderr.split())
    assert "fit rcml-misa or kernel-expert or ridge-expert" in words
    assert "--in-memory GB" in words


def test_a_full_disk_is_told_before_the_pass(tmp_path, monkeypatch):
    path = write(table(), tmp_path, "parquet")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(1, 1, 0))
    monkeypatch.setattr(mapping.MappingPlan, "write", None)
    told = call(
        "fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS
    )
    assert told.exit_code == 2
    assert "the views take 0.00012 GB on the disk" in " ".join(told.stderr.split())


def test_an_interrupted_pass_leaves_nothing(tmp_path, monkeypatch):
    path = write(table(), tmp_path, "parquet")
    ended = []

    def interrupt(self, folder, *, look=None):
        assert list(tmp_path.glob(".rcml-misa-work-*"))
        ended.append(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(mapping.MappingPlan, "write", interrupt)
    told = call(
        "fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS
    )
    assert told.exit_code == 130
    assert ended
    assert [entry.name for entry in tmp_path.iterdir()] == ["big.parquet"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_a_terminated_fit_leaves_nothing(tmp_path):
    path = write(table(), tmp_path, "csv")
    code = (
        "import rcml_misa.reading.mapping as m, time, sys\n"
        "from rcml_misa.cli import main\n"
        "m.MappingPlan.write = lambda *a, **k: (print('here', flush=True), time.sleep(60))\n"
        "main(sys.argv[1:])\n"
    )
    words = ["fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", *RIDGE, *BLOCKS]
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", code, *map(str, words)], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert [entry.name for entry in tmp_path.iterdir()] == ["big.csv"]


def test_the_summary_counts_rows_seconds_and_memory(tmp_path):
    path = write(table(300), tmp_path, "parquet")
    told = done(
        "fit", "--dataset", path, "--target", "who", "--out", tmp_path / "m", "--json", *RIDGE,
        *BLOCKS,
    )  # fmt: skip
    facts = json.loads(told.stdout)
    assert (facts["rows"], facts["sample_rows"], facts["in_blocks"]) == (300, 300, True)
    assert facts["read_seconds"] > 0 < facts["fit_seconds"]
    assert facts["peak_bytes"] > 2**26


def test_sizes_are_told_without_reading(tmp_path):
    frame = table()
    exact = ROWS * 6 * 8
    assert held_bytes(write(frame, tmp_path, "parquet")) == exact
    assert held_bytes(write(frame, tmp_path, "feather")) == exact
    assert held_bytes(write(frame, tmp_path, "csv")) == pytest.approx(exact, rel=0.02)
    assert held_bytes(write(frame, tmp_path, "parts")) == exact
    assert 0.5 * exact < held_bytes(write(frame, tmp_path, "npz")) < 2 * exact
    assert 0.5 * exact < held_bytes(write(frame, tmp_path, "h5")) < 2 * exact


@pytest.mark.parametrize("form", ["parts", "packed.npz", "feather"])
def test_predict_reads_these_in_blocks_too(tmp_path, form):
    out = tmp_path / "m.rcml"
    done("fit", "--dataset", write(table(300), tmp_path, "csv"), "--target", "who", "--out", out,
         *RIDGE)  # fmt: skip
    new = table(500, seed=3)
    path = write(new, tmp_path, form)
    done("predict", out, path, "--out", tmp_path / "p.csv", "--chunk", 64)
    views = {name: new.filter(like=f"{name}__").to_numpy() for name in "ab"}
    model = rcml_misa.load(out)
    assert pd.read_csv(tmp_path / "p.csv")["class"].tolist() == model.predict(views).tolist()


def test_a_member_of_npz_that_lies_about_its_size_is_refused(tmp_path):
    path = write(table(), tmp_path, "npz")
    content = bytearray(path.read_bytes())
    place = content.index(b"'shape': (3000, 3)")
    content[place : place + 18] = b"'shape': (9000, 3)"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        survey_own_file(path, FileOptions(target="who"))


def test_parts_of_other_columns_are_no_table(tmp_path):
    path = write(table(), tmp_path, "parts")
    table(30).rename(columns={"a__0": "a__9"}).to_parquet(path / "part.7.parquet")
    with pytest.raises(DataError, match="parts of one table"):
        load_dataset(str(path), options=FileOptions(target="who"))


def test_numbers_in_names_of_parts_order_them(tmp_path):
    frame = table()
    own = read_own_file(write(frame, tmp_path, "parts"), FileOptions(target="who"))
    np.testing.assert_array_equal(own.labels, frame["who"])
    assert own.notes[-1] == "views: a, b (columns called view__column)" or own.notes
    layout = own.layout
    (first, *_) = file_rows(tmp_path / "parts", layout, {"a": 2, "b": 3}, rows=100)
    np.testing.assert_array_equal(first.views["a"], frame[["a__0", "a__1"]][:100])


def test_blocks_are_read_ahead_and_closed():
    events = []

    def blocks():
        try:
            for number in range(100):
                events.append(number)
                yield number
        finally:
            events.append("closed")

    with reading_ahead(blocks()) as ahead:
        assert next(ahead) == 0
        deadline = time.monotonic() + 5
        while len(events) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert events[:3] == [0, 1, 2]
    assert events[-1] == "closed"
    assert len(events) < 10

    def broken():
        yield 1
        raise DataError("row 7 is bad.")

    with reading_ahead(broken()) as ahead, pytest.raises(DataError, match="row 7"):
        list(ahead)


def test_estimators_fit_mapped_views(tmp_path):
    path = write(table(300), tmp_path, "parquet")
    mapped = open_mapped(path, folder=tmp_path / "maps", options=FileOptions(target="who"))
    arrays = {name: np.array(array, dtype=np.float64) for name, array in mapped.views.items()}
    answers = [
        RidgeExpertClassifier(random_state=0).fit(views, mapped.labels).predict_proba(arrays)
        for views in (mapped.views, MultiView(arrays))
    ]
    np.testing.assert_allclose(*answers, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", ["csv.gz", "h5"])
def test_bounds_hold_for_tables_in_blocks(tmp_path, form):
    path = tmp_path / f"big.{form}"
    if form == "csv.gz":
        row = ",".join(["0"] * 50) + "\n"
        with gzip.open(path, "wt") as stream:
            stream.write("y," + ",".join(f"a{n}" for n in range(49)) + "\n" + row * 350_000)
    else:
        np.zeros(10).tofile(other := tmp_path / "other")
        with h5py.File(path, "w") as file:
            file["y"] = np.arange(5)
            file.create_dataset("a", (5, 2), "f8", external=[(str(other), 0, 80)])
    told = call("fit", "--dataset", path, "--out", tmp_path / "m", *RIDGE, *BLOCKS)
    assert told.exit_code == 2
    words = " ".join(told.stderr.split())
    assert "in another file" in words or "when it is read, above" in words


def test_commands_that_hold_the_table_refuse_a_large_one(tmp_path, monkeypatch):
    path = write(table(), tmp_path, "parquet")
    monkeypatch.setenv("RCML_MISA_LARGEST_GB", "0.0001")
    told = call("run", "--dataset", path, "--target", "who")
    assert told.exit_code == 2
    assert "`rcml-misa fit` reads it in blocks" in " ".join(told.stderr.split())
    told = done("datasets", "check", path, "--target", "who")
    assert "a sample of 3000 of 3000 rows was looked at" in " ".join(told.stderr.split())
    assert "3000 rows, 3 classes, 2 views" in told.stdout
