"""Commands whose workers die, that are interrupted or killed, and that share a folder.

Workers that die in a run are also in ``test_engines_equal.py``, on every engine.
``benchmarks/chaos.py`` does the same at random moments, hundreds of times.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("looks into /proc", allow_module_level=True)

from engine_toys import PATIENCE, Toys, leftovers, stamps

from benchmarks.sessions import Command, Server, contents, server, until
from rcml_misa.results import RunStore

GONE = 5.0  # seconds after which nothing may be left of a command
STOP = 30.0  # seconds that a command may take to end on a busy machine; its own patience is 10
FOUR = ("compare", "--methods", "toys:Counted,toys:Gated", "--runs", "2")
TWO_WORKERS, HERE = ("--jobs", "2"), ("--jobs", "1")


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    with server(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture
def toys(tmp_path):
    return Toys(tmp_path)


@pytest.fixture
def store(tmp_path):
    return tmp_path / "records"


def table(text: str) -> str:
    """Leave out the seconds, which stand at the end of the rows of runs."""
    return re.sub(r"\d+\.\d( *)(?=-|\d+\.\d+ / |$)", r"S\1", text, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def expected(commands, tmp_path_factory):
    """Table and records of the four runs, made in one process."""
    toys, calm = Toys(tmp_path_factory.mktemp("calm")), tmp_path_factory.mktemp("records")
    toys.open()
    command = commands.call(*FOUR, *HERE, "--records", calm, **toys.options)
    assert command.poll() == 0, command.err
    return table(command.out), contents(calm)


def check_resumed(
    commands: Server, toys: Toys, store: Path, words=FOUR, *, kept: int, expected=None
) -> None:
    """Carry out a command again, in one process, and compare it with the undisturbed one."""
    before = stamps(store)
    assert len(before) == kept
    started = toys.runs()
    toys.open()
    again = commands.call(*words, *HERE, "--records", store, **toys.options)
    assert again.poll() == 0, again.err
    assert f"{kept} of 4 runs are kept" in again.err
    after = stamps(store)
    assert len(after) == 4
    assert {name: after[name] for name in before} == before
    # a run with a record was not begun again
    assert (toys.runs() - started).total() == 4 - kept
    assert leftovers(store) == []
    if expected is not None:
        assert (table(again.out), contents(store)) == expected


# commands that are ended


def test_a_signal_ends_a_command_which_can_go_on(commands, toys, store) -> None:
    words = ("run", "--method", *FOUR[2:])
    running = commands.start(*words, *TWO_WORKERS, "--records", store, **toys.options)
    toys.at_gate(2)  # of two pairs, each has half
    assert until(lambda: len(stamps(store)) == 2, PATIENCE)
    running.send(signal.SIGHUP, group=True)
    for further in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        running.send(further)
    assert running.wait(STOP) == 128 + signal.SIGHUP
    assert running.left(GONE) == []
    assert running.out == ""
    assert "interrupted: 2 of 4 runs are kept in" in running.err
    assert "the same command goes on from there" in running.err
    assert "Traceback" not in running.err
    assert leftovers(store) == []
    check_resumed(commands, toys, store, words, kept=2)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_signal_ends_a_command_without_workers(commands, toys, store, name) -> None:
    running = commands.start(*FOUR, *HERE, "--records", store, **toys.options)
    toys.at_gate()
    running.send(getattr(signal, f"SIG{name}"))
    assert running.wait(STOP) == 128 + getattr(signal, f"SIG{name}")
    assert "interrupted: 1 of 4 runs are kept in" in running.err
    assert "Traceback" not in running.err
    assert running.out == ""
    check_resumed(commands, toys, store, kept=1)


def test_a_worker_is_replaced_and_a_killed_command_takes_all_along(
    commands, toys, store, expected
) -> None:
    running = commands.start(*FOUR, *TWO_WORKERS, "--records", store, **toys.options)
    first = until(running.workers, PATIENCE, 0.001)[0]
    os.kill(first.pid, signal.SIGKILL)  # at its start
    toys.at_gate(2)
    assert "Traceback" not in running.err
    running.send(signal.SIGKILL)
    assert running.left(GONE) == []
    assert running.wait(STOP) == -signal.SIGKILL
    check_resumed(commands, toys, store, kept=2, expected=expected)


@pytest.mark.parametrize("name", ["SIGHUP", "SIGINT"])
def test_a_signal_that_is_ignored_stays_ignored(commands, toys, store, name) -> None:
    """As after ``nohup``, and in the background of a shell without job control."""
    words = (*FOUR, *HERE, "--records", store)
    running = commands.start(*words, fresh=name == "SIGINT", ignored=(name,), **toys.options)
    toys.at_gate()
    running.send(getattr(signal, name), group=True)
    toys.open()
    assert running.wait(PATIENCE) == 0, running.err
    assert len(stamps(store)) == 4


def test_interrupt_keeps_what_finished(commands, tmp_path) -> None:
    words = ("--method", "rcml", "--runs", "20", "--jobs", "2", "--set", "epochs=5")
    command = commands.start("run", *words, "--out", tmp_path, fresh=True)
    assert until(lambda: stamps(tmp_path / "records"), PATIENCE)
    command.send(signal.SIGINT, group=True)  # as Ctrl-C does
    assert command.wait(STOP) == 130, command.err
    assert command.left(GONE) == []
    records = RunStore(tmp_path / "records").read()
    assert 1 <= len(records) < 20
    said = f"interrupted: {len(records)} of 20 runs are kept in {tmp_path / 'records'}"
    assert said in command.err
    assert "Traceback" not in command.err
    assert command.out == ""
    assert not (tmp_path / "summary.csv").exists()  # tables are of whole sessions
    assert leftovers(tmp_path) == []


# other engines


def test_another_engine_replaces_workers_and_ends_too(commands, toys, store, expected) -> None:
    """``benchmarks/chaos.py`` does so with ray, whose start takes long."""
    pytest.importorskip("distributed")
    running = commands.start(
        *FOUR, *TWO_WORKERS, "--engine", "dask", "--records", store, **toys.options
    )
    os.kill(toys.at_gate(2)[0], signal.SIGKILL)
    time.sleep(0.5)
    assert running.poll() is None
    running.send(signal.SIGTERM)
    running.send(signal.SIGTERM)
    assert running.wait(STOP) == 143, running.err
    assert running.left(GONE) == []
    assert "interrupted: 2 of 4 runs are kept in" in running.err
    assert "Traceback" not in running.err
    check_resumed(commands, toys, store, kept=2, expected=expected)


# one folder, two commands


def both(toys: Toys, first: Command, second: Command) -> None:
    """Let two commands end that were begun with the gate closed."""
    assert until(lambda: "another command works in" in second.err, PATIENCE)
    assert first.poll() is None
    toys.open()
    for command in (first, second):
        assert command.wait(PATIENCE) == 0, command.err


def test_two_commands_share_a_folder_and_its_runs(commands, toys, store, expected) -> None:
    words = (*FOUR, "--records", store)
    first = commands.start(*words, *HERE, **toys.options)
    toys.at_gate()
    second = commands.start(*words, *HERE, **toys.options)
    both(toys, first, second)
    assert table(first.out) == table(second.out) == expected[0]
    assert contents(store) == expected[1]
    assert list(toys.runs().values()) == [1, 1, 1, 1]
    assert "all 4 runs are kept in" in second.err


def test_an_experiment_and_a_comparison_share_a_folder(commands, toys, store, expected) -> None:
    plan = toys.folder / "plan.toml"
    plan.write_text(
        'title = "Toys"\ndatasets = ["digits"]\nruns = 2\n'
        'methods = ["toys:Counted", "toys:Gated"]\n'
    )
    words = ("--records", store, *HERE)
    first = commands.start("experiment", plan, "--allow-code", *words, **toys.options)
    toys.at_gate()
    second = commands.start(*FOUR, *words, **toys.options)
    both(toys, first, second)
    assert table(second.out) == expected[0]
    assert contents(store) == expected[1]
    assert list(toys.runs().values()) == [1, 1, 1, 1]


def test_who_waits_goes_on_where_the_other_was_killed(commands, toys, store, expected) -> None:
    words = (*FOUR, "--records", store)
    first = commands.start(*words, *HERE, **toys.options)
    toys.at_gate()
    second = commands.start(*words, *HERE, **toys.options)
    assert until(lambda: "another command works in" in second.err, PATIENCE)
    kept = stamps(store)
    assert len(kept) == 1
    first.send(signal.SIGKILL)
    toys.at_gate(2)
    toys.open()
    assert second.wait(PATIENCE) == 0, second.err
    assert "1 of 4 runs are kept in" in second.err
    assert (table(second.out), contents(store)) == expected
    assert kept.items() <= stamps(store).items()
    assert first.left(GONE) == []
    assert leftovers(store) == []
