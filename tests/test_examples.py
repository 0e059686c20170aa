"""The tutorial runs, and what it tells its reader is so."""

from __future__ import annotations

import runpy
from pathlib import Path

TUTORIAL = Path(__file__).parents[1] / "examples" / "tutorial.py"


def test_tutorial(capsys):
    names = runpy.run_path(str(TUTORIAL))
    printed = capsys.readouterr().out
    assert names["accuracy"] > 0.95
    assert names["found"] > 0.7  # of the planted conflicts
    assert names["rise"] > 0.3
    assert names["caught"] > 0.5
    assert names["accused"] < 0.15
    rows = names["swapped"]
    left, mixed = names["without_dct"], names["mixed"]
    assert left.uncertainty[rows].mean() < mixed.uncertainty[rows].mean() - 0.1
    right_of = [(one.predicted == names["y_test"])[rows].mean() for one in (left, mixed)]
    assert right_of[0] >= right_of[1]
    right, kept = names["right"], names["kept"]
    assert right[kept].mean() > right.mean() + 0.01 > right[~kept].mean()
    without = names["without"].predicted == names["y_test"]
    assert without.mean() > 0.9
    assert names["same"]
    assert "belief plus uncertainty: 1.000000 to 1.000000" in printed


def test_tutorial_reads_as_a_notebook():
    cells = TUTORIAL.read_text(encoding="utf-8").split("\n# %%")[1:]
    for told, code in zip(cells[::2], cells[1::2], strict=True):
        assert told.startswith(" [markdown]\n# #")
        assert all(line.startswith("#") for line in told.strip().splitlines()[1:])
        assert not code.startswith(" [markdown]")
