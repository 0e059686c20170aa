"""Orders, rounds and engines: what workers are told, how runs are tried again, signals."""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from rcml_misa import storage
from rcml_misa.cli.options import Workers
from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.results import RunStore
from rcml_misa.runs import backends, engine, orders
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.engine import execute
from rcml_misa.runs.interrupts import Interrupted, exit_status, interrupts_deferred
from rcml_misa.runs.interrupts import signals_interrupt as catching
from rcml_misa.runs.orders import DataFile, Order, Outcome, carry_out, given, starts, written
from rcml_misa.runs.tasks import Task, plan_tasks, record_path
from rcml_misa.views import MultiView

LDA = recipe("lda")
MAJORITY = recipe("majority")
HOME = Path(__file__).parent.parent


def toy(rows: int = 60) -> Dataset:
    rng = np.random.default_rng(0)
    target = np.arange(rows) % 3
    views = MultiView({"a": rng.normal(size=(rows, 2)) + target[:, None], "b": np.eye(3)[target]})
    return Dataset("toy", views, target, ("x", "y", "z"), "00" * 32, "made here")


def order(folder: Path, data: DataFile, task: Task | None = None) -> Order:
    task = Task(LDA, 0, 0, 0) if task is None else task
    return Order(0, task, data, record_path(folder, toy(), task), folder / "progress-0")


@pytest.fixture(autouse=True)
def nothing_held(monkeypatch) -> None:
    monkeypatch.setattr(orders, "_held", {})


# orders


def test_a_worker_leaves_the_record_and_no_progress(tmp_path) -> None:
    made = order(tmp_path, written(toy(), tmp_path))
    assert carry_out(made) == Outcome(0)
    assert starts(made.progress) == 0
    assert not made.progress.exists()
    (record,) = RunStore(tmp_path).read()
    assert RunStore(tmp_path).path(record) == made.record


def test_a_run_with_a_record_is_not_made_again(tmp_path) -> None:
    made = order(tmp_path, DataFile(tmp_path / "nowhere", "0"))
    made.record.write_text("anything")
    assert carry_out(made) == Outcome(0)
    assert made.record.read_text() == "anything"


def test_data_that_are_not_what_was_written_are_refused(tmp_path) -> None:
    file = written(toy(), tmp_path)
    content = bytearray(file.path.read_bytes())
    content[len(content) // 2] ^= 1
    file.path.write_bytes(content)
    mistake = carry_out(order(tmp_path, file)).mistake
    assert isinstance(mistake, DataError)
    assert "was changed while the runs went on" in str(mistake)
    gone = replace(file, path=tmp_path / "gone")
    mistake = carry_out(order(tmp_path, gone)).mistake
    assert isinstance(mistake, DataError)
    assert "give --out a folder that every worker sees" in str(mistake)


def test_a_worker_maps_the_data_once_and_can_not_change_them(tmp_path) -> None:
    file = written(toy(), tmp_path)
    first = file.load()
    assert file.load() is first
    np.testing.assert_array_equal(first.views["a"], toy().views["a"])
    with pytest.raises(ValueError, match="read-only"):
        first.views["a"][0] = 0
    for seed in range(orders.HELD):  # a worker of many data sets holds the last ones
        replace(written(replace(toy(), name=str(seed)), tmp_path)).load()
    assert len(orders._held) == orders.HELD
    assert file.load() is not first


def test_data_of_this_process_are_held_as_they_are_and_let_go() -> None:
    data = toy()
    with given(data) as file:
        assert file.load() is data
        assert file.sha256 in orders._held
    assert file.sha256 not in orders._held


def test_a_run_that_was_begun_three_times_in_vain_is_a_failure(tmp_path) -> None:
    made = order(tmp_path, written(toy(), tmp_path))
    made.progress.write_text("start\n1 9 0.5\nstart\nstart\n")
    outcome = carry_out(made)
    assert "its worker died in each of 3 tries" in outcome.failure
    assert not made.record.exists()
    made.progress.write_text("start\nstart\n")
    assert carry_out(made) == Outcome(0)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [(b"start", (0, 0)), (b"3 20 0.25", (3, 20)), (b"4 20 nan", (4, 20))],
)
def test_lines_of_progress_become_events(tmp_path, line, wanted) -> None:
    path = tmp_path / "progress-0"
    path.write_bytes(b"start\n" + b"1 20 0.5\n" * 50 + line + b"\n5 2")  # the last one is not whole
    assert engine._last_line(path) == line
    event = engine._event(Task(LDA, 0, 0, 0), line)
    assert (event.epoch, event.epochs) == wanted
    path.write_bytes(b"")
    assert engine._last_line(path) == b""


# rounds


class Breaking:
    """Stands for joblib: workers die of some orders, and take those beside them along."""

    def __init__(self, deadly=(), *, beside=2, idle=0) -> None:
        self.deadly, self.beside, self.idle = set(deadly), beside, idle
        self.rounds: list[list[int]] = []

    def __call__(self, chosen, _, __):
        self.rounds.append([each.place for each in chosen])
        if self.idle:
            self.idle -= 1
            raise RuntimeError("no worker came up")
        for i, each in enumerate(chosen):
            if each.place in self.deadly:
                for lost in chosen[i : i + self.beside]:
                    with lost.progress.open("a") as stream:
                        stream.write("start\n")
                raise RuntimeError("a worker died")
            each.progress.unlink(missing_ok=True)
            yield Outcome(each.place)


def outcomes(monkeypatch, tmp_path, breaking, count=6):
    monkeypatch.setattr(engine, "_round", breaking)
    data = DataFile(tmp_path, "0")
    made = [
        Order(place, Task(LDA, 0, 0, place), data, tmp_path / "record", tmp_path / f"p-{place}")
        for place in range(count)
    ]
    return list(engine._outcomes(made, Engine(jobs=2), tmp_path))


def test_a_deadly_run_fails_alone(monkeypatch, tmp_path) -> None:
    breaking = Breaking({1})
    found = outcomes(monkeypatch, tmp_path, breaking)
    assert sorted(each.place for each in found) == list(range(6))
    assert [each.place for each in found if each.failure] == [1]
    # those that were begun come last, then the deadly one has a round of its own
    assert breaking.rounds[0] == list(range(6))
    assert breaking.rounds[1][:3] == [3, 4, 5]
    assert breaking.rounds[-1] in ([1], [2])
    assert [1] in breaking.rounds


def test_two_deadly_runs_fail_and_the_others_have_an_end(monkeypatch, tmp_path) -> None:
    found = outcomes(monkeypatch, tmp_path, Breaking({0, 5}, beside=3))
    assert sorted(each.place for each in found) == list(range(6))
    assert {each.place for each in found if each.failure} == {0, 5}


def test_an_only_run_that_is_deadly_is_tried_three_times(monkeypatch, tmp_path) -> None:
    breaking = Breaking({0})
    (outcome,) = outcomes(monkeypatch, tmp_path, breaking, count=1)
    assert outcome.failure
    assert breaking.rounds == [[0]] * orders.TRIES


def test_workers_that_do_not_come_up_end_in_a_sentence(monkeypatch, tmp_path) -> None:
    assert len(outcomes(monkeypatch, tmp_path, Breaking(idle=2))) == 6
    with pytest.raises(DataError, match="no run began in 3 tries") as caught:
        outcomes(monkeypatch, tmp_path, Breaking(idle=3))
    assert "no worker came up" in str(caught.value)
    assert len(str(caught.value)) <= 300


# whole executions


def test_records_are_read_back_from_the_store(tmp_path) -> None:
    tasks = plan_tasks([LDA, MAJORITY], datasets=1, runs=2, seed=0)
    first = list(execute([toy()], tasks, store=RunStore(tmp_path), engine=Engine()))
    assert [record.method for record in first] == ["lda", "majority"] * 2
    changed = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = list(execute([toy()], tasks, store=RunStore(tmp_path), engine=Engine()))
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == changed
    nowhere = list(execute([toy()], tasks, engine=Engine()))
    assert [each.metrics for each in nowhere] == [each.metrics for each in first]


def test_without_an_engine_joblib_says_where_runs_go(tmp_path) -> None:
    from joblib import parallel_config

    tasks = plan_tasks([LDA], datasets=1, runs=3, seed=0)
    with parallel_config("threading", n_jobs=2):
        found = list(execute([toy()], tasks, store=RunStore(tmp_path)))
    assert sorted(record.run for record in found) == [0, 1, 2]
    assert [record.metrics for record in sorted(found, key=lambda each: each.run)] == [
        record.metrics for record in execute([toy()], tasks, engine=Engine())
    ]


def test_no_work_folder_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    results = execute([toy()], plan_tasks([LDA], datasets=1, runs=2, seed=0), engine=Engine())
    next(results)
    (folder,) = (path for path in tmp_path.glob(".rcml-misa-work-*") if path.suffix != ".lock")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    results.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_for_the_workers_data_is_a_sentence(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("joblib.dump", full)
    with pytest.raises(DataError, match=r"No space left .* workers read toy from"):
        list(execute([toy()], [Task(LDA, 0, 0, 0)], engine=Engine(jobs=2)))


# work folders


def test_work_folders_without_an_owner_are_swept(tmp_path) -> None:
    left, held = (tmp_path / f".rcml-misa-work-{name}" for name in ("a", "b"))
    for folder in (left, held):
        folder.mkdir()
        (folder / "data").write_text("x")
    (tmp_path / "mine").mkdir()
    new, old = (tmp_path / f".rcml-misa-work-{name}.lock" for name in ("c", "d"))
    for lock in (new, old):  # of commands that had no folder yet
        lock.touch()
    os.utime(old, (0, 0))
    of_held = held.with_name(f"{held.name}.lock")
    with FileLock(of_held), storage.work_folder(tmp_path) as own:
        of_own = own.with_name(f"{own.name}.lock")
        assert {path.name for path in tmp_path.iterdir()} == {
            path.name for path in (held, of_held, own, of_own, new, tmp_path / "mine")
        }
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
    assert not own.exists()
    assert not of_own.exists()


def test_work_folders_of_many_processes_at_once(tmp_path) -> None:
    """Each sweeps while others begin."""
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                for _ in range(100):
                    with storage.work_folder(tmp_path) as own:
                        (own / "data").write_text("x")
                        own_is_there = (own / "data").read_text() == "x"
                    assert own_is_there
                    assert not own.exists()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


# engines


def test_engines_that_do_not_exist_or_fit() -> None:
    with pytest.raises(OptionError, match="there is no engine 'spark'"):
        Engine(name="spark")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="local engine has no address here:1"):
        Engine(address="here:1")
    with pytest.raises(OptionError, match="the address of the engine is empty"):
        Engine(name="dask", address=" ")


def test_a_command_refuses_an_engine_before_it_reads_data() -> None:
    with pytest.raises(OptionError, match="there is no engine 'spark'"):
        Workers(engine="spark")
    with pytest.raises(OptionError, match="local engine has no address here:1"):
        Workers(address="here:1")


@pytest.mark.parametrize(
    ("name", "package"), [("dask", "dask"), ("ray", "ray"), ("slurm", "submitit")]
)
def test_an_engine_that_is_not_installed_names_the_extra(
    monkeypatch, tmp_path, name, package
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "rcml_misa.runs.slurm", raising=False)
    with (
        pytest.raises(OptionError, match=rf"--engine {name} needs the package {package}") as caught,
        Engine(name=name, jobs=2).start(tmp_path),
    ):
        pass
    assert f"pip install 'rcml-misa[{name}]'" in str(caught.value)


def test_a_scheduler_that_does_not_answer_is_a_sentence(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(backends, "CONNECT", 1)
    with (
        pytest.raises(OptionError, match=r"no dask cluster answers at tcp://127.0.0.1:9"),
        Engine(name="dask", address="tcp://127.0.0.1:9").start(tmp_path),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://127.0.0.1:9", "nonsense"])
def test_ray_is_not_asked_where_nothing_listens(monkeypatch, tmp_path, address) -> None:
    """Ray itself would try for minutes."""
    monkeypatch.setattr(pytest.importorskip("ray"), "init", lambda **_: pytest.fail("it is asked"))
    with (
        pytest.raises(OptionError, match=f"no ray cluster answers at {address}"),
        Engine(name="ray", address=address, jobs=2).start(tmp_path),
    ):
        pass


def test_ray_without_an_address_is_a_cluster_of_this_machine(monkeypatch, tmp_path) -> None:
    """Its workers look for modules where the command is; that is no folder with files of others."""
    asked: dict[str, Any] = {}
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "init", lambda **options: asked.update(options, place=os.getcwd()))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    before = os.getcwd()
    with Engine(name="ray", jobs=2).start(tmp_path):
        assert asked["address"] == "local"
        assert asked["place"] == str(tmp_path)
        assert os.getcwd() == before


def test_ray_tells_of_dead_workers_by_their_runs_alone(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.setattr(pytest.importorskip("ray"), "init", lambda **_: None)
    from ray._private import worker

    before = worker.print_to_stdstream
    with Engine(name="ray", jobs=2).start(tmp_path):
        lines = {"lines": ["a worker died"], "pid": "raylet", "is_err": False}
        worker.print_to_stdstream(lines, ignore_prefix=False)
    assert capsys.readouterr().out == ""
    assert worker.print_to_stdstream is before


def test_loggers_under_one_that_is_silent_are_silent(caplog) -> None:
    under = logging.getLogger("chatty_library.client")
    under.setLevel(logging.WARNING)
    with ExitStack() as stack:
        backends._hush(stack, "chatty_library")
        under.warning("rescheduling")
    assert not caplog.records
    under.warning("again")
    assert [record.message for record in caplog.records] == ["again"]


def test_slurm_that_is_not_there_is_a_sentence(monkeypatch, tmp_path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(OptionError, match="no jobs can be given to SLURM here") as caught,
        Engine(name="slurm", jobs=2).start(tmp_path),
    ):
        pass
    assert "None" not in str(caught.value)


def test_parameters_of_slurm() -> None:
    found = backends._sbatch("partition=gpu, time=120,mem_gb=7.5,cpus_per_task=2,")
    assert found == {"slurm_partition": "gpu", "slurm_time": 120, "mem_gb": 7.5, "cpus_per_task": 2}
    assert backends._sbatch(None) == {}
    with pytest.raises(OptionError, match="--address gpu has no value"):
        backends._sbatch("gpu")
    with pytest.raises(OptionError, match="--address mem_gb=much is no float"):
        backends._sbatch("mem_gb=much")


# signals


@pytest.fixture
def foreground():
    """Signals as in the foreground, also where the tests run with SIGINT ignored."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.getsignal(number) for number in numbers}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in numbers[1:]:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in previous.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_interrupt_once(foreground, name) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)

    def work() -> None:
        with catching():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), number)  # a second one does not cut what is cleared away
                time.sleep(0.01)

    with pytest.raises(Interrupted) as caught:
        work()
    assert exit_status(caught.value) == 128 + number
    assert signal.getsignal(number) is before
    assert threading.active_count() < 20


def test_signals_that_are_ignored_stay_so(foreground) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with catching():
        os.kill(os.getpid(), signal.SIGHUP)
    with interrupts_deferred():
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_signal_waits_until_workers_have_started(foreground) -> None:
    steps = []

    def work() -> None:
        with catching():
            with interrupts_deferred():
                os.kill(os.getpid(), signal.SIGTERM)
                steps.append("started")
            steps.append("not reached")

    with pytest.raises(Interrupted):
        work()
    assert steps == ["started"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_start_that_hangs_is_ended_by_a_signal(foreground, monkeypatch, name) -> None:
    monkeypatch.setattr("rcml_misa.runs.interrupts.DEFERRED", 0.2)

    def work() -> None:
        with catching(), interrupts_deferred():
            os.kill(os.getpid(), getattr(signal, name))
            for _ in range(600):
                time.sleep(0.1)  # libraries that wait look up now and then
            pytest.fail("it is held for ever")

    with pytest.raises(Interrupted) as caught:
        work()
    assert exit_status(caught.value) == 128 + getattr(signal, name)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_the_last_of_several_runs_is_not_made_in_this_process() -> None:
    assert Workers(jobs=4).choose(1).here
    assert Workers(jobs=1).choose(3, planned=3).here
    assert not Workers(jobs=4).choose(1, planned=3).here
    assert Workers(jobs=4).choose(3, planned=9).jobs == 3


def test_elsewhere_than_in_the_main_thread_nothing_is_caught() -> None:
    seen = []

    def work() -> None:
        with catching(), interrupts_deferred():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
