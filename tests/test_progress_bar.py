"""The bar of a command's progress on a terminal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from rcml_misa.cli.session import _Board
from rcml_misa.estimators.registry import recipe
from rcml_misa.runs.tasks import Event, Task, plan_tasks

WIDTH = 80


@pytest.fixture(autouse=True)
def terminal(monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr(Console, "is_terminal", True)


def board(tasks: list[Task]) -> _Board:
    data: Any = SimpleNamespace(name="a data set with a name of some length")
    return _Board([data, data], tasks, cells=False)


def test_the_bar_leaves_room_for_the_sign_of_an_interruption() -> None:
    tasks = plan_tasks([recipe("majority")], datasets=1, runs=3, seed=0)
    shown = board(tasks)
    shown.show(Event(tasks[1], 12, 1000, 0.5))
    lines = shown.console.render_lines(shown.bar.get_renderable(), pad=False)
    text = ["".join(part.text for part in line) for line in lines]
    assert len(text) == 1
    assert "0/3 runs" in text[0]
    assert "a data set with" in text[0]
    assert "-:--:--" in text[0]
    assert len(text[0].rstrip()) <= WIDTH - len("^C")


def test_nothing_to_do_has_no_bar_and_a_bar_leaves_nothing_behind() -> None:
    assert board([]).bar.disable
    shown = board(plan_tasks([recipe("majority")], datasets=1, runs=1, seed=0))
    assert not shown.bar.disable
    assert shown.bar.live.transient
