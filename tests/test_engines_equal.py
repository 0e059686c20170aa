"""The same runs on every engine leave the same bytes, timing and the seal over it aside."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("looks into /proc", allow_module_level=True)

from engine_toys import PATIENCE, Toys, leftovers
from joblib import parallel_config

from benchmarks.sessions import contents, server
from rcml_misa.datasets import Dataset, load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.results import RunStore
from rcml_misa.runs import orders
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.engine import execute
from rcml_misa.runs.tasks import RunOutputs, plan_tasks
from rcml_misa.views import MultiView

GONE = 5.0
PLAN = """
title = "Equal"
datasets = ["digits"]
runs = 1
methods = [{ method = "rcml", set = { epochs = 2 } }, "toys:Gated"]
"""
MODULES = {"local": "joblib", "dask": "distributed", "ray": "ray", "slurm": "submitit"}
CLUSTERS = {
    "dask": """
from distributed import LocalCluster
with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
    print(cluster.scheduler_address, flush=True)
    input()
""",
    "ray": """
import ray
from ray.cluster_utils import Cluster
head = {"num_cpus": 2, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=head)
print(cluster.address, flush=True)
input()
cluster.shutdown()
""",
}


def need(engine: str) -> None:
    if find_spec(MODULES[engine]) is None:
        pytest.skip(f"{engine} is not installed")


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    with server(tmp_path_factory.mktemp("commands")) as running:
        yield running


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    """The plan, and what it leaves with one worker, which is the command itself."""
    toys = Toys(tmp_path_factory.mktemp("toys"))
    (toys.folder / "equal.toml").write_text(PLAN)
    return toys


def outcome(folder):
    """Page of an experiment, and its records."""
    return (folder / "equal.md").read_text(), contents(folder / "records")


def words(toys, name):
    out = toys.folder / name
    return ("experiment", toys.folder / "equal.toml", "--allow-code", "--out", out, "--jobs")


@pytest.fixture(scope="module")
def expected(commands, toys):
    toys.open()
    command = commands.call(*words(toys, "one"), 1, **toys.options)
    assert command.poll() == 0, command.err
    return outcome(toys.folder / "one")


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_an_experiment_leaves_the_same_bytes_though_a_worker_dies(
    commands, toys, expected, engine
) -> None:
    need(engine)
    toys.forget()
    address = ("--address", "local") if engine == "slurm" else ()
    command = commands.start(*words(toys, engine), 2, "--engine", engine, *address, **toys.options)
    os.kill(toys.at_gate()[0], signal.SIGKILL)
    toys.open()
    assert command.wait(2 * PATIENCE) == 0, command.err
    assert "Traceback" not in command.err
    assert outcome(toys.folder / engine) == expected
    assert len(expected[1]) == 2
    assert command.left(GONE) == []
    assert leftovers(toys.folder / engine) == []


@pytest.mark.parametrize("engine", CLUSTERS)
def test_a_cluster_that_is_there_stays_and_replaces_workers(
    commands, toys, expected, engine
) -> None:
    need(engine)
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets have short names
    cluster = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", CLUSTERS[engine]],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TOYS": str(toys.folder), "OMP_NUM_THREADS": "1", "RAY_TMPDIR": place},
        start_new_session=True,
    )
    try:
        address = cluster.stdout.readline().strip()
        start = (*words(toys, engine), 2, "--engine", engine, "--address", address)
        toys.forget()
        command = commands.start(*start, **toys.options)
        os.kill(toys.at_gate()[0], signal.SIGKILL)
        again = toys.at_gate(2)[1]  # the same run, in another worker
        assert "Traceback" not in command.err
        command.send(signal.SIGKILL, group=True)
        assert command.left(GONE) == []
        assert cluster.poll() is None
        toys.open()
        command = commands.call(*start, **toys.options)
        assert command.poll() == 0, command.err
        assert outcome(toys.folder / engine) == expected
        assert leftovers(toys.folder / engine) == []
        if engine == "dask":  # ray gives each command workers of its own
            assert os.path.exists(f"/proc/{again}")
        assert cluster.poll() is None
    finally:
        cluster.stdin.close()
        try:
            cluster.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(cluster.pid, signal.SIGKILL)
        shutil.rmtree(place, ignore_errors=True)


# from Python, all kinds of runs at once


def sequences() -> Dataset:
    """Views of a table, sequences of several lengths, and words."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 2
    views = {
        "table": rng.normal(size=(60, 3)) + target[:, None],
        "steps": [rng.normal(code, 1.0, (rng.integers(1, 6), 2)) for code in target],
        "words": [f"a {('bad', 'good')[code]} film" for code in target],
    }
    return Dataset("films", MultiView(views), target, ("no", "yes"), "00" * 32, "made here")


@pytest.fixture(scope="module")
def work():
    """A table, sequences and words, files beside a record, and an audit."""
    kept = RunOutputs(keep=("opinions",), samples=True)
    tiny = ("hidden=8", "feedforward=8", "sequence_hidden=4", "text_encoder=words")
    films = plan_tasks([recipe("rcml-misa", options=tiny, epochs=1)], datasets=1, runs=1, seed=0)
    tasks = [
        *plan_tasks([recipe("rcml", epochs=2)], datasets=1, runs=1, seed=0, outputs=kept),
        *plan_tasks([recipe("lda")], datasets=1, runs=1, seed=3, parts=["detection"]),
        *(replace(task, dataset=1) for task in films),
    ]
    return [load_dataset("digits"), sequences()], tasks


def made(work, folder, engine=None):
    data, tasks = work
    tasks = [replace(task, outputs=replace(task.outputs, folder=folder)) for task in tasks]
    records = list(execute(data, tasks, store=RunStore(folder), engine=engine))
    assert len(records) == len(tasks)
    return contents(folder)


@pytest.fixture(scope="module")
def here(work, tmp_path_factory):
    files = made(work, tmp_path_factory.mktemp("here"), Engine(jobs=1))
    assert len(files) == 5  # two are beside a record
    return files


def test_runs_of_all_kinds_are_the_same_in_two_workers(work, here, tmp_path) -> None:
    assert made(work, tmp_path, Engine(jobs=2)) == here


def test_runs_go_where_joblib_is_told_to(work, here, tmp_path, monkeypatch) -> None:
    distributed = pytest.importorskip("distributed")
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster):
        monkeypatch.setattr(orders, "run_task", lambda *_, **__: pytest.fail("made here"))
        with parallel_config(backend="dask"):
            assert made(work, tmp_path / "config") == here
        address = Engine(name="dask", address=cluster.scheduler_address, jobs=1)
        assert made(work, tmp_path / "address", address) == here
