"""Bounded attempts in child processes, and a short run over mutated data files."""

import ctypes
import importlib
import os
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
for _name in ("h5py", "pyarrow", "openpyxl"):
    pytest.importorskip(_name)


@pytest.fixture
def load(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def endless():
    while True:
        pass


@pytest.mark.parametrize(
    ("work", "kind"),
    [
        (lambda: "done", "returned"),
        (lambda: str(1 // 0), "raised"),
        (endless, "slow"),
        (lambda: str(np.ones(2**23).sum()), "large"),
        (lambda: str(np.ones(2**30).sum()), "raised"),
        (lambda: ctypes.string_at(0), "killed"),
        (lambda: os._exit(0), "killed"),
    ],
)
def test_an_attempt_tells_how_it_ended(work, kind, load):
    outcome = load("fuzzing").attempt(work, seconds=0.5, megabytes=40)
    assert outcome.kind == kind
    assert outcome.failed == (kind != "returned")


def test_mutated_files_are_read_or_refused(load):
    counts, failures = load("fuzz_files").fuzz(1000, 7, seconds=3)
    assert counts.total() > 0
    assert not failures
