"""The command `datasets`: tables, JSON, exit statuses and sentences."""

from __future__ import annotations

import json
import warnings

import click
import pytest
from click.testing import CliRunner, Result

from rcml_misa.cli.console import FriendlyGroup, file_size, listed, sentence
from rcml_misa.cli.datasets import datasets
from rcml_misa.cli.options import words as split_words
from rcml_misa.datasets import list_datasets
from rcml_misa.exceptions import DataError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("RCML_MISA_DATA", raising=False)
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")


def call(*words: object) -> Result:
    return CliRunner().invoke(datasets, [str(word) for word in words])


@pytest.mark.parametrize(("columns", "limit"), [("40", 80), ("80", 80), ("200", 100)])
def test_list_is_a_neat_table(monkeypatch, columns, limit) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    result = call()
    assert result.exit_code == 0
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= limit
    assert lines[0].split() == ["name", "views", "samples", "classes", "licence", "status"]
    for entry in list_datasets():
        (line,) = [line for line in lines if line.startswith(f"{entry.name} ")]
        assert f" {entry.samples} " in line
        assert entry.licence in line
        assert line.endswith("built in" if entry.name == "digits" else "can be fetched")
        for view, width in entry.views.items():
            assert any(f"{view} {width}" in line for line in lines)


def test_list_as_json_says_what_is_here(tmp_path) -> None:
    (tmp_path / "PIE_face_10.mat").touch()
    records = json.loads(call("--json", "--data-dir", tmp_path).stdout)
    status = {record["name"]: record["status"] for record in records}
    assert status["PIE"] == "here"
    assert status["CUB"] == "fetchable"
    assert status["digits"] == "built in"
    assert records[0]["views"]["pixels"] == 64


def test_show() -> None:
    shown = call("show", "PIE").stdout
    for word in ("intensity 484", "680", "68", "Apache-2.0", "can be fetched", "FG 2002"):
        assert word in shown
    assert "address" not in call("show", "digits").stdout


@pytest.mark.parametrize("inner", [True, False])
def test_options_before_or_after_the_command(tmp_path, inner) -> None:
    (tmp_path / "PIE_face_10.mat").touch()
    options, command = ["--json", "--data-dir", tmp_path], ["show", "PIE"]
    result = call(*command, *options) if inner else call(*options, *command)
    record = json.loads(result.stdout)
    assert record["status"] == "here"
    assert record["file"] == str(tmp_path / "PIE_face_10.mat")


def test_fetch_without_a_network() -> None:
    assert "built in, nothing to fetch" in call("fetch", "digits").stdout
    result = call("fetch", "PIE")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "no network in tests" in result.stderr


def test_fetch_tells_where_the_files_are(monkeypatch) -> None:
    monkeypatch.setattr("rcml_misa.datasets.fetch_dataset", lambda name, data_dir: f"x/{name}")
    result = call("fetch", "PIE", "CUB", "--data-dir", "x")
    assert result.stdout == "PIE: x/PIE\nCUB: x/CUB\n"
    result = call("fetch", "PIE", "CUBB")
    assert result.exit_code == 2
    assert result.stdout == ""  # nothing is fetched when a name is wrong


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("show", "PEI"), "error: there is no data set 'PEI'; did you mean PIE?"),
        (("fetch", "zzz"), "choose from CUB, digits, HandWritten"),
        (("--data-dir", "nowhere"), "error: the data folder nowhere does not exist"),
    ],
)
def test_mistakes_get_one_sentence(words, sentence) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("problem", "status", "words"),
    [
        (DataError("two\nlines"), 2, "error: two lines\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_friendly_group_also_when_nested(problem, status, words) -> None:
    @click.group(cls=FriendlyGroup)
    def outer() -> None: ...

    @outer.group(cls=FriendlyGroup)
    def inner() -> None: ...

    @inner.command()
    def work() -> None:
        raise problem

    result = CliRunner().invoke(outer, ["inner", "work"])
    assert (result.exit_code, result.stderr) == (status, words)


def failing(error):
    @click.group(cls=FriendlyGroup)
    def group() -> None: ...

    @group.command()
    def work() -> None:
        raise error

    return group


def test_an_unexpected_error_is_one_sentence_and_its_traceback_is_at_hand(monkeypatch) -> None:
    group = failing(RuntimeError("a bug\nin two lines " + "x" * 1000))
    result = CliRunner().invoke(group, ["work"])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: RuntimeError in test_cli_datasets.py, line ")
    assert "a bug in two lines" in result.stderr
    assert "RCML_MISA_TRACEBACK=1" in result.stderr
    assert result.stderr.count("\n") == 1
    assert len(result.stderr) <= len("error: ") + 301
    monkeypatch.setenv("RCML_MISA_TRACEBACK", "1")
    assert isinstance(CliRunner().invoke(group, ["work"]).exception, RuntimeError)


def test_an_unusable_file_is_one_sentence() -> None:
    result = CliRunner().invoke(failing(PermissionError(13, "Permission denied", "x/y")), ["work"])
    assert (result.exit_code, result.stderr) == (
        2,
        "error: x/y can't be used (Permission denied).\n",
    )


def test_a_warning_of_a_library_is_one_line_without_its_place_in_the_code() -> None:
    @click.group(cls=FriendlyGroup)
    def group() -> None: ...

    @group.command()
    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("two\nlines", UserWarning, stacklevel=1)

    result = CliRunner().invoke(group, ["work"])
    assert (result.exit_code, result.stderr) == (0, "warning: two lines\n")


def test_texts_for_people() -> None:
    assert sentence("first\n  second\x1b.") == "first second?."
    assert len(sentence("x" * 1000)) == 300
    assert (file_size(1_250_000), file_size(900)) == ("1.2 MB", "0.9 kB")
    assert listed({"face": 3, "voice": 4}) == "face 3, voice 4"
    assert split_words("a, b,a") == ["a", "b"]
