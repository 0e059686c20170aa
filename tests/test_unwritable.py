"""Files that can't be written: noticed before the work, and a trained model is never lost."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import call, done

import rcml_misa
from rcml_misa.exceptions import DataError
from rcml_misa.storage import check_writable, sweep, whole_file

NAME = f".writing-{'0' * 32}"
LINUX_ROOT = sys.platform == "linux" and os.geteuid() == 0


@pytest.fixture
def table(tmp_path):
    codes = np.arange(30) % 2
    values = np.random.default_rng(0).normal(size=(30, 3)) + codes[:, None]
    frame = pd.DataFrame(values, columns=["a__0", "a__1", "b__0"])
    path = tmp_path / "toy.csv"
    frame.assign(label=np.array(["u", "v"])[codes]).to_csv(path, index=False)
    return path


@pytest.fixture
def model(table, tmp_path):
    path = tmp_path / "model.rcml"
    done("fit", "--dataset", table, "--method", "ridge-expert", "--out", path)
    return path


def failing(monkeypatch, *, where, number, unlink=False):
    """Let writing fail in a folder, as on a full or read-only disk; removing too, if asked."""
    write, remove = Path.write_bytes, Path.unlink

    def write_bytes(self, data):
        if self.parent == where:
            raise OSError(number, os.strerror(number), str(self))
        return write(self, data)

    def unlink_path(self, missing_ok=False):
        if unlink and self.parent == where:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))
        remove(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    monkeypatch.setattr(Path, "unlink", unlink_path)


def without_work(monkeypatch):
    """Fail where a command begins its work."""

    def work(*_, **__):
        raise AssertionError("the work was begun")

    monkeypatch.setattr("rcml_misa.datasets.load_labelled", work)
    monkeypatch.setattr("rcml_misa.estimators.registry.load_with_header", work)
    monkeypatch.setattr("rcml_misa.reporting.figures.find_runs", work)


def refused(result):
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert len(line) <= 300 + len("error: ")
    return line


COMMANDS = {
    "fit": lambda table, out: ("fit", "--dataset", table, "--method", "ridge-expert", "--out", out),
    "predict": lambda table, out: ("predict", table.with_name("m.rcml"), table, "--out", out),
    "plot": lambda table, out: (
        *("plot", table.parent, "--what", "losses"),
        *("--out", f"{out}.svg"),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_that_can_not_be_written_is_noticed_first(command, table, tmp_path, monkeypatch):
    without_work(monkeypatch)
    before = sorted(tmp_path.iterdir())
    words = COMMANDS[command]
    assert "No such file" in refused(call(*words(table, tmp_path / "none" / "m")))
    (tmp_path / "there.svg").mkdir()
    place = tmp_path / ("there" if command == "plot" else "there.svg")
    assert "is a folder" in refused(call(*words(table, place)))
    (tmp_path / "there.svg").rmdir()
    refused(call(*words(table, tmp_path / ("n" * 300))))
    refused(call(*words(table, table / "m")))
    for number, unlink in ((errno.EROFS, True), (errno.ENOSPC, False), (errno.EACCES, True)):
        with monkeypatch.context() as patch:
            failing(patch, where=tmp_path, number=number, unlink=unlink)
            assert os.strerror(number) in refused(call(*words(table, tmp_path / "m")))
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs devices")
def test_devices_and_pipes_are_not_replaced(table, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for place in ("/dev/null", tmp_path / "pipe"):
        assert "is a device or a pipe" in refused(call(*COMMANDS["fit"](table, place)))
        assert not Path(place).is_file()


@pytest.mark.skipif(sys.platform == "win32" or LINUX_ROOT, reason="root may write everywhere")
def test_a_read_only_folder_is_noticed_first(table, tmp_path, monkeypatch):
    without_work(monkeypatch)
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    for words in COMMANDS.values():
        assert "Permission denied" in refused(call(*words(table, folder / "m")))
    folder.chmod(0o700)


def test_a_figure_s_name_is_noticed_first(table, tmp_path, monkeypatch):
    without_work(monkeypatch)
    result = call("plot", tmp_path, "--what", "losses", "--out", tmp_path / "figure.gif")
    assert "is no name for a figure" in refused(result)


def test_a_probe_leaves_an_existing_file_as_it_is(tmp_path):
    path = tmp_path / "model.rcml"
    path.write_text("kept")
    check_writable(path)
    assert path.read_text() == "kept"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="can't be written"):
        check_writable(Path("x\0y"))


@pytest.mark.parametrize("unlink", [False, True], ids=["full", "read-only"])
def test_a_model_that_can_not_be_written_is_kept_elsewhere(
    unlink, table, tmp_path, monkeypatch, model
):
    place, out = tmp_path / "closing", tmp_path / "elsewhere"
    place.mkdir()
    out.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(out))
    monkeypatch.setattr("rcml_misa.storage.check_writable", lambda *_, **__: None)
    failing(monkeypatch, where=place, number=errno.ENOSPC, unlink=unlink)
    result = call(*COMMANDS["fit"](table, place / "m.rcml"))
    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert "(No space" in line
    (kept,) = out.glob("*/model.rcml")
    assert f"the fitted model is in {kept}: move it from there." in line
    assert len(line) <= 300 + len("error: ")
    assert kept.read_bytes() == model.read_bytes()


def test_the_current_folder_is_the_last_resort(table, tmp_path, monkeypatch):
    place, current = tmp_path / "closing", tmp_path / "current"
    place.mkdir()
    current.mkdir()
    monkeypatch.chdir(current)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.setattr("rcml_misa.storage.check_writable", lambda *_, **__: None)
    failing(monkeypatch, where=place, number=errno.EROFS, unlink=True)
    result = call(*COMMANDS["fit"](table, place / "m.rcml"))
    (kept,) = current.glob("*/model.rcml")
    assert f"the fitted model is in {kept}" in result.stderr
    rcml_misa.load(kept)


def test_a_model_that_no_file_holds_has_no_fallback(table, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise DataError("the step can't be saved.")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("rcml_misa.persistence.save", refuse)
    result = call(*COMMANDS["fit"](table, tmp_path / "m.rcml"))
    assert result.stderr.splitlines()[-1] == "error: the step can't be saved."
    assert [path.name for path in tmp_path.iterdir()] == ["toy.csv"]


def test_whole_file_says_one_thing_where_removing_fails_too(tmp_path, monkeypatch):
    failing(monkeypatch, where=tmp_path, number=errno.EROFS, unlink=True)
    with pytest.raises(DataError, match="Read-only"), whole_file(tmp_path / "m") as temporary:
        temporary.write_bytes(b"1")
    with pytest.raises(KeyError), whole_file(tmp_path / "m"):
        raise KeyError("the first error is the one that counts")


def test_leftovers_are_swept_by_age_and_nothing_else_is(tmp_path):
    old, new = tmp_path / f"{NAME}.rcml", tmp_path / f"{NAME[:-1]}1.json"
    others = [tmp_path / name for name in (".writing-short", "model.rcml", f"x{NAME}", "a.json")]
    for path in (old, new, *others):
        path.write_text("half a fi")
    folder = tmp_path / f"{NAME[:-1]}2"
    folder.mkdir()
    hours_ago = time.time() - 2 * 3600
    for path in (old, *others):
        os.utime(path, (hours_ago, hours_ago))
    assert sweep(tmp_path) == 1
    assert not old.exists()
    assert sweep(tmp_path, age=0) == 1
    assert sorted(tmp_path.iterdir()) == sorted([*others, folder])
    assert sweep(tmp_path / "none") == 0


def test_saving_sweeps_what_a_killed_process_left(table, tmp_path, model):
    leftover = tmp_path / f"{NAME}.rcml"
    leftover.write_text("half a mod")
    rcml_misa.load(model).save(model)
    assert leftover.exists()  # another process may be writing it
    os.utime(leftover, (0, 0))
    rcml_misa.load(model).save(model)
    assert not leftover.exists()
    assert not [path for path in tmp_path.iterdir() if re.match(r"\.writing", path.name)]
