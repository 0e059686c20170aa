"""Records that stand for runs: their keys and names, damaged ones, and the commands that resume."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import call, done

from rcml_misa.cli.session import Session
from rcml_misa.exceptions import DataError, RecordWarning
from rcml_misa.results import RunRecord, RunStore, read_folder, read_record, record_stem
from rcml_misa.results import records as records_module
from rcml_misa.results.store import BYTES

RUN = ("run", "--method", "majority", "--runs", 2, "--jobs", 1)
DIGITS = re.compile(r"-[0-9a-f]{16}$")


def make(**changes: Any) -> RunRecord:
    fields: dict[str, Any] = {
        "dataset": "toy",
        "method": "rcml",
        "variant": "mean",
        "default": True,
        "run": 0,
        "seed": 7,
        "config": {"epochs": 3, "hidden": [4, 5], "views": None},
        "versions": {"python": "3.11"},
        "data_sha256": "ab" * 32,
        "train_rows": 8,
        "test_rows": 2,
        "metrics": {"clean": {"accuracy": 0.5, "ece": 0.1}, "conflict": {"accuracy": 1.0}},
        "timing": {"fit_seconds": 1.5, "predict_seconds": 0.5},
        "rows": [3, 4],
        "correct": {"clean": "10", "conflict": "11"},
        "bins": {"clean": {"count": [2.0], "confidence": [1.5], "correct": [1.0]}},
        "scores": {"clean": {"errors": {"own": {"auroc": 0.5, "aupr": 1.0, "fpr95": 0.0}}}},
        "curves": {"clean": [0.0, 0.5]},
        "checkpoints": {"1": {"clean": 0.5}},
        "history": {"loss": [1.0, 0.5]},
        "protocol": {"split": "random", "test_sets": ["clean", "conflict"]},
    }
    return RunRecord(**{**fields, **changes})


def said(text: str) -> str:
    """What was printed, without the line breaks of a narrow terminal."""
    return " ".join(text.split())


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}


# keys and names

OTHERS = {
    "dataset": "toy2",
    "method": "edl",
    "variant": "sum",
    "config": {"epochs": 4},
    "data_sha256": "cd" * 32,
    "run": 1,
    "seed": 8,
    "protocol": {"split": "given"},
}


def test_a_key_is_of_what_the_run_is_and_of_nothing_else() -> None:
    key = make().key
    assert RunRecord.from_json(make().to_json()).key == key
    assert make(config=dict(reversed(make().config.items()))).key == key
    assert make(config={**make().config, "hidden": (4, 5)}).key == key
    same = {"versions": {"torch": "9"}, "timing": {}, "metrics": {"clean": {}}, "default": False}
    assert {make(**{name: value}).key for name, value in same.items()} == {key}
    keys = {make(**{name: value}).key for name, value in OTHERS.items()}
    assert len(keys | {key}) == len(OTHERS) + 1
    assert set(OTHERS) == set(records_module.IDENTITY)


@pytest.mark.parametrize(
    ("first", "second"), [("a/b", "a:b"), ("a:b", "a_b"), ("é" * 300, "é" * 301), ("\0", "\n")]
)
def test_labels_that_a_file_name_makes_alike_stay_apart(tmp_path, first, second) -> None:
    store = RunStore(tmp_path)
    records = [make(variant=label) for label in (first, second)]
    paths = [store.write(record) for record in records]
    assert len(set(paths)) == 2
    for record, path in zip(records, paths, strict=True):
        assert path.parent == tmp_path
        assert len(f"{path.stem}-features.npz".encode()) <= 255
        assert read_record(path) == record


@pytest.mark.parametrize("name", ["..", "../up", ".hidden", "/etc/passwd", "\ud800", "a\x1b[31m"])
def test_names_stay_in_the_folder_and_are_seen(tmp_path, name) -> None:
    path = RunStore(tmp_path).write(make(dataset=name, seed=10**30))
    assert path.parent == tmp_path
    assert not path.name.startswith(".")
    assert path.name.isprintable()
    assert DIGITS.search(path.stem)
    assert [record.dataset for record in RunStore(tmp_path).read()] == [name]


def test_a_store_knows_a_record_by_its_name(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    assert store.find({record.key}) == {}
    path = store.write(record)
    assert store.find({record.key}) == {record.key: (path, record)}
    assert path.name == record_stem(**_named(record)) + ".json"
    other = store.write(make(config={"epochs": 9}))  # another setting of the same label
    assert other != path
    assert len(store.read()) == 2
    path.write_text("{")
    with pytest.warns(RecordWarning):
        assert store.find({record.key}) == {}


def _named(record: RunRecord) -> dict[str, Any]:
    names = ("dataset", "method", "variant", "seed", "key")
    return {name: getattr(record, name) for name in names}


def test_stores_opened_at_once_don_t_disturb_each_other(tmp_path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(lambda _: RunStore(tmp_path), range(400)):
            assert store.folder == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_found_at_once(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=r"can't be written to \(No space left .*give another --r"):
        RunStore(tmp_path, option="--records")


# damaged and foreign files

TEXT = make().to_json()
FIELDS = json.loads(TEXT)


def changed(**fields: Any) -> str:
    """A record without a checksum, as earlier versions wrote it, with other fields."""
    return json.dumps({**FIELDS, "content_sha256": None, **fields})


def resealed(**fields: Any) -> str:
    """A record whose checksum is of the changed content."""
    content = {**{key: FIELDS[key] for key in FIELDS if key != "content_sha256"}, **fields}
    seal = records_module._canonical_sha256(content)
    return json.dumps({"content_sha256": seal, **content})


DAMAGED: dict[str, str | bytes] = {
    "empty": "",
    "half": TEXT[: len(TEXT) // 2],
    "NUL": "\0" * 4096,
    "not UTF-8": b"\xff\xfe{}",
    "list": "[]",
    "null": "null",
    "number": "3",
    "deep lists": "[" * 100_000,
    "deep tables": '{"a":' * 50_000,
    "closed deep": '{"config":' * 900 + "1" + "}" * 900,
    "huge integer": '{"schema": %s}' % ("9" * 5000),
    "huge seed": changed(seed=0).replace('"seed": 0', '"seed": ' + "9" * 5000),
    "list for the schema": changed(schema=[]),
    "another schema": resealed(schema=3),
    "missing field": resealed(metrics=None),
    "unknown field": resealed(more=1),
    "NaN": TEXT.replace('"accuracy": 0.5', '"accuracy": NaN'),
    "infinite": changed().replace('"ece": 0.1', '"ece": 1e400'),
    "accuracy of 42": resealed(metrics={"clean": {"accuracy": 42.0}}),
    "accuracy below 0": resealed(metrics={"clean": {"accuracy": -0.1}}),
    "accuracy as text": resealed(metrics={"clean": {"accuracy": "high"}}),
    "no measure": resealed(metrics={}),
    "tampered accuracy": TEXT.replace('"accuracy": 0.5', '"accuracy": 0.6'),
    "without a checksum": changed(metrics={"clean": {"accuracy": 0.6}}),
    "checksum of another kind": TEXT.replace('"content_sha256": "', '"content_sha256": 1, "x": "'),
    "another run": make(seed=8).to_json(),
    "another setting": make(config={"epochs": 4}).to_json(),
    "digits too short": resealed(correct={"clean": "1"}),
    "letters for digits": resealed(correct={"clean": "xy"}),
    "rows too many": resealed(rows=[1, 2, 3]),
    "negative rows": resealed(train_rows=-1),
    "truth for a number": resealed(test_rows=True),
    "negative time": resealed(timing={"fit_seconds": -1.0}),
    "auroc above 1": resealed(scores={"clean": {"errors": {"own": {"auroc": 1.5}}}}),
    "curve above 1": resealed(curves={"clean": [2.0]}),
    "bins of two lengths": resealed(
        bins={"clean": {"count": [1.0, 2.0], "confidence": [1.0], "correct": [1.0]}}
    ),
    "bins without counts": resealed(bins={"clean": {"confidence": [1.0], "correct": [1.0]}}),
    **{
        f"{name} = {value!r}": resealed(**{name: value})
        for name in ("timing", "bins", "config", "protocol", "rows", "correct", "scores", "curves")
        for value in (None, 3, "x")
    },
    **{f"{name} = []": resealed(**{name: []}) for name in ("run", "method", "default", "failures")},
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_named_set_aside_and_no_record(tmp_path, content) -> None:
    store, record = RunStore(tmp_path), make()
    path = store.write(record)
    raw = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(raw)
    started = time.process_time()
    with pytest.warns(RecordWarning) as caught:
        assert store.find({record.key}) == {}
    assert time.process_time() - started < 2
    assert len(caught) == 1
    assert path.name[:60] in str(caught[0].message)
    assert len(str(caught[0].message)) <= 300
    assert not path.exists()
    assert path.with_name(f"{path.name}.set-aside").read_bytes() == raw
    assert store.write(record) == path  # the run is made again
    assert store.find({record.key})[record.key] == (path, record)


def test_damaged_records_are_never_set_aside_over_each_other(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    for content in ("one", "two", "three"):
        store.write(record).write_text(content)
        with pytest.warns(RecordWarning):
            store.find({record.key})
    contents = {path.read_text() for path in tmp_path.glob("*.set-aside*")}
    assert contents == {"one", "two", "three"}


def test_what_is_no_record_stays_where_it_is(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    store.write(record)
    (tmp_path / "notes-seed-list.json").write_text("{}")
    (tmp_path / "x-seed0.json").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe-seed0.json")
    before = sorted(tmp_path.iterdir())
    with pytest.warns(RecordWarning) as caught:
        assert set(store.find({record.key})) == {record.key}
    assert len(caught) == len(before) - 1
    assert sorted(tmp_path.iterdir()) == before
    with pytest.warns(RecordWarning):
        assert store.read() == [record]


def test_a_folder_in_the_place_of_a_record_makes_room(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    (tmp_path / f"{record_stem(**_named(record))}.json").mkdir()
    with pytest.warns(RecordWarning):
        store.find({record.key})
    assert read_record(store.write(record)) == record


def test_a_large_file_is_not_read(tmp_path) -> None:
    path = RunStore(tmp_path).write(make())
    with path.open("r+b") as stream:
        stream.truncate(BYTES + 1)
    with pytest.raises(DataError, match=f"{BYTES + 1} bytes"):
        read_record(path)


def test_many_damaged_files_are_counted(tmp_path) -> None:
    for number in range(40):
        (tmp_path / f"x-seed{number}.json").write_text("{")
    with pytest.warns(RecordWarning) as caught:
        assert read_folder(tmp_path) == {}
    assert len(caught) == 6
    assert "35 other files" in str(caught[-1].message)


def test_records_of_other_runs_are_not_opened(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    store.write(record)
    store.write(make(seed=8)).write_text("damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert set(store.find({record.key})) == {record.key}


def test_records_of_earlier_versions_are_known_by_their_content(tmp_path) -> None:
    old = {key: value for key, value in FIELDS.items() if key not in ("content_sha256", "outputs")}
    (tmp_path / "toy-rcml-mean-seed7.json").write_text(json.dumps(old))
    store, record = RunStore(tmp_path), make()
    path, read = store.find({record.key})[record.key]
    assert (path.name, read) == ("toy-rcml-mean-seed7.json", record)
    later = store.write(replace(record, timing={"fit_seconds": 9.0}))
    assert store.find({record.key})[record.key][0] == later  # named by its key
    assert len(store.read()) == 1


# sessions


def test_a_session_clears_away_what_a_killed_one_left(tmp_path) -> None:
    store, record = RunStore(tmp_path), make()
    path = store.write(record)
    (tmp_path / f".writing-{'0' * 32}.json").write_text("half")
    with store.locked():
        store.replace([path])
        assert store.read() == []
    assert store.read() == [record]  # nothing took its place
    with store.locked():
        store.replace([path])
        store.write(replace(record, timing={}))
    assert [read.timing for read in store.read()] == [{}]
    path.rename(f"{path}.replaced")  # as a killed session leaves it
    with store.locked():
        assert store.read() == [replace(record, timing={})]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".lock", path.name]


def test_out_resumes_and_says_so(tmp_path) -> None:
    first = done(*RUN, "--out", tmp_path)
    assert "note" not in first.stderr
    before = times(tmp_path / "records")
    again = done(*RUN, "--out", tmp_path)
    assert said(again.stderr) == (
        f"note: all 2 runs are kept in {tmp_path / 'records'}; nothing is trained."
    )
    assert again.stdout == first.stdout
    more = done(*RUN[:-3], 3, "--jobs", 1, "--out", tmp_path)
    assert f"2 of 3 runs are kept in {tmp_path / 'records'}" in said(more.stderr)
    assert before.items() <= times(tmp_path / "records").items()
    fresh = done(*RUN, "--out", tmp_path, "--fresh")
    assert "note" not in fresh.stderr
    after = times(tmp_path / "records")
    assert set(after) > set(before)
    assert not before.items() & after.items()


def test_records_may_be_elsewhere(tmp_path) -> None:
    out, records = tmp_path / "out", tmp_path / "kept"
    done(*RUN, "--out", out, "--records", records)
    assert sorted(path.name for path in out.iterdir()) == ["summary.csv", "summary.md"]
    assert len(times(records)) == 2
    assert "all 2 runs" in done(*RUN, "--records", records).stderr


def test_a_damaged_record_is_made_again_with_the_same_table(tmp_path) -> None:
    first = done(*RUN, "--out", tmp_path, "--json")
    path, other = sorted((tmp_path / "records").glob("*.json"))
    whole = json.loads(path.read_text())
    path.write_text(path.read_text()[:900])
    result = done(*RUN, "--out", tmp_path, "--json")
    assert "note: 1 of 2 runs are kept" in said(result.stderr)
    assert "is now" in said(result.stderr)
    assert path.with_name(f"{path.name}.set-aside").exists()
    again = json.loads(path.read_text())
    assert again["metrics"] == whole["metrics"]
    assert json.loads(result.stdout)["results"][0]["mean"] == pytest.approx(
        json.loads(first.stdout)["results"][0]["mean"], abs=0
    )
    assert other.exists()


def test_other_versions_are_reused_and_said_once(tmp_path) -> None:
    done(*RUN, "--out", tmp_path)
    store = RunStore(tmp_path / "records")
    for record in store.read():
        store.write(replace(record, versions={**record.versions, "torch": "0.9"}))
    result = done(*RUN, "--out", tmp_path)
    (note,) = re.findall("note: 2 records were made with torch 0.9, not .*", said(result.stderr))
    assert note.endswith("--fresh trains anew.")
    assert "nothing is trained" in result.stderr


KEEP = ("--keep", "opinions", "--save-samples")


@pytest.mark.parametrize("damage", ["gone", "half", "other"])
def test_a_record_without_its_files_is_made_again(tmp_path, damage) -> None:
    words = ("run", "--method", "lda", "--runs", 1, "--jobs", 1, "--out", tmp_path)
    done(*words, *KEEP)
    assert "nothing is trained" in done(*words, *KEEP).stderr
    assert "nothing is trained" in done(*words).stderr  # less is asked for
    (kept,) = tmp_path.rglob("*-kept.npz")
    whole = kept.read_bytes()
    if damage == "gone":
        kept.unlink()
    else:
        kept.write_bytes(whole[:-9] if damage == "half" else bytes(reversed(whole)))
    assert "nothing is trained" in done(*words, "--save-samples").stderr
    assert "note" not in done(*words, *KEEP).stderr
    assert kept.read_bytes() == whole


def test_files_that_were_not_asked_for_are_made_and_others_kept(tmp_path) -> None:
    words = ("run", "--method", "lda", "--runs", 1, "--jobs", 1, "--out", tmp_path)
    done(*words)
    assert "note" not in done(*words, "--save-samples").stderr
    assert "note" not in done(*words, "--keep", "opinions").stderr
    (record,) = RunStore(tmp_path / "records").read()
    assert set(record.outputs) == {"samples", "opinions"}
    assert "nothing is trained" in done(*words, *KEEP).stderr


def test_an_experiment_goes_on_beside_its_file(tmp_path) -> None:
    file = tmp_path / "tiny.toml"
    file.write_text('datasets = ["digits"]\nmethods = ["majority"]\nruns = 2\n')
    first = done("experiment", file, "--jobs", 1)
    assert len(times(tmp_path / "records")) == 2
    again = done("experiment", file, "--jobs", 1)
    assert "all 2 runs are kept" in said(again.stderr)
    assert again.stdout == first.stdout
    other = done("experiment", file, "--jobs", 1, "--out", tmp_path / "x")
    assert "note" not in other.stderr


@pytest.mark.parametrize("option", ["--out", "--records"])
@pytest.mark.parametrize(
    "words",
    [
        RUN,
        ("compare", "--methods", "majority", "--runs", 1, "--jobs", 1),
        ("audit", "--methods", "lda", "--runs", 1, "--jobs", 1, "--parts", "selection"),
    ],
)
def test_an_unusable_folder_is_found_before_the_runs(tmp_path, monkeypatch, option, words) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    monkeypatch.setattr("rcml_misa.cli.session._carry_out", pytest.fail)
    result = call(*words, option, file / "below")
    assert result.exit_code == 2
    assert f"give another {option}" in said(result.stderr)
    assert result.stderr.count("error: ") == 1
    assert file.read_text() == "kept"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run", RUN[1:]),
        ("compare", ("--methods", "majority", "--runs", 1)),
        ("audit", ("--methods", "lda", "--runs", 1)),
    ],
)
def test_an_interrupted_session_has_no_tables(tmp_path, monkeypatch, command, words) -> None:
    session = Session(records=[make()], interrupted=130)
    module = sys.modules[f"rcml_misa.cli.{command}"]
    monkeypatch.setattr(module, "run_session", lambda *_, **__: session)
    result = call(command, *words, "--out", tmp_path)
    assert result.exit_code == 130
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "rcml_misa", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_commands_on_one_folder_share_the_work(tmp_path) -> None:
    words = ("run", "--method", "rcml", "--epochs", 5, "--runs", 4, "--jobs", 1, "--json")
    both = [start(*words, "--out", tmp_path) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert ends[0][0] == ends[1][0]
    notes = sorted((said(stderr) for _, stderr in ends), key=len)
    assert "all 4 runs are kept" in notes[1]
    assert "note" not in notes[0]
    assert len(times(tmp_path / "records")) == 4


HOLD = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(1.5)
"""


def test_a_second_command_waits_and_says_so(tmp_path) -> None:
    done(*RUN, "--out", tmp_path)
    lock = tmp_path / "records" / ".lock"
    words = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:  # noqa: S603
        assert holder.stdout.readline() == "held\n"
        result = done(*RUN, "--out", tmp_path)
    assert said(result.stderr).startswith("note: another command works in")
    assert "nothing is trained" in result.stderr
