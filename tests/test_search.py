"""Spaces of settings, rounds of a search over a known function, and its journal."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.estimators.registry import METHODS, load_object, recipe
from rcml_misa.estimators.spaces import search_space, space_size
from rcml_misa.exceptions import DataError
from rcml_misa.options import Choice, Span, check_options, option_text
from rcml_misa.runs.journal import opened
from rcml_misa.runs.search import ROUND, STARTUP, Search, Trial, best_trial

SPACE = {
    "rate": Span(1e-4, 1.0, log=True),
    "depth": Span(1, 9, step=2),
    "kind": Choice(("a", (1, 2), None, True)),
}
EVERY = [
    (name, regression)
    for name, spec in METHODS.items()
    for regression in (False, True)
    if name != "majority" and (spec.regressor or not regression)
]


def fixed(trial):
    """A function of a setting, best at rate .01, depth 5 and kind a."""
    values = trial.setting
    value = abs(math.log10(values["rate"]) + 2) + abs(values["depth"] - 5) + (values["kind"] != "a")
    return replace(trial, measures={"mae": value})


def searched(trials, *, seed=0, storage=None, order=1, most=math.inf):
    search = Search(SPACE, metric="mae", trials=trials, seed=seed, storage=storage)
    rounds = 0
    while not search.done and rounds < most:
        search.tell([fixed(trial) for trial in search.ask()][::order])
        rounds += 1
    return search


# spaces


@pytest.mark.parametrize(("method", "regression"), EVERY)
def test_every_declared_value_is_valid(method, regression) -> None:
    made = recipe(method, regression=regression)
    space = search_space(
        lambda options: recipe(method, options=options, regression=regression), searches=()
    )
    assert 1 <= len(space) <= 9
    for key, part in load_object(made.path)._search.items():
        for value in part.values if isinstance(part, Choice) else (part.low, part.high):
            check_options(load_object(made.path)(**{**made.params, key: value}))
    for key, part in space.items():
        value = made.build(0).get_params()[key]
        if isinstance(part, Span) and value is not None and key != "weight_decay":
            assert part.low <= value <= part.high, (key, value)  # the default is near


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("C=1:100:log", Span(1.0, 100.0, log=True)),
        ("C=0.5:2", Span(0.5, 2.0)),
        ("trees=10:50:20", Span(10, 50, step=20)),
        ("scaling=none|minmax", Choice(("none", "minmax"))),
    ],
)
def test_search_given_as_text(given_, expected) -> None:
    space = search_space(lambda options: recipe("rbf-svm", options=options), searches=[given_])
    assert space[given_.partition("=")[0]] == expected


def test_option_texts_are_read_as_the_values() -> None:
    made = recipe("softmax", options=[f"hidden={option_text((64, 32))}"])
    assert made.params["hidden"] == (64, 32)
    made = recipe("rcml", options=[f"hidden={option_text(())}"])
    assert made.params["hidden"] == ()


# the search over a function that is known


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_settings_lie_in_the_space(seed) -> None:
    for trial in searched(STARTUP + ROUND, seed=seed).trials:
        assert 1e-4 <= trial.setting["rate"] <= 1
        assert trial.setting["depth"] in (1, 3, 5, 7, 9)
        assert trial.setting["kind"] in ("a", "1,2", "none", "true")


def test_search_does_better_than_chance() -> None:
    gains = []
    for seed in range(4):
        trials = searched(40, seed=seed).trials
        values = [trial.value("mae") for trial in trials]
        gains.append(np.mean(values[:STARTUP]) - np.mean(values[-STARTUP:]))
    assert np.mean(gains) > 0.5


def test_trials_do_not_depend_on_who_ends_first_nor_on_pauses(tmp_path) -> None:
    whole = [trial.setting for trial in searched(25).trials]
    assert [trial.setting for trial in searched(25, order=-1).trials] == whole
    assert [trial.setting for trial in searched(17).trials] == whole[:17]
    for rounds in (1, 2, 3):
        folder = tmp_path / str(rounds)
        folder.mkdir()
        with opened(folder) as (storage, _):
            searched(18, storage=storage, most=rounds)
        with opened(folder) as (storage, _):
            assert [t.setting for t in searched(25, storage=storage).trials] == whole
    assert [trial.setting for trial in searched(25, seed=1).trials] != whole


def test_small_space_is_gone_through_once() -> None:
    search = Search({"a": Span(1, 3), "b": Choice(("x", "y"))}, metric="mae", trials=50, seed=0)
    while not search.done:
        search.tell([replace(t, measures={"mae": t.setting["a"]}) for t in search.ask()])
    pairs = [(trial.setting["a"], trial.setting["b"]) for trial in search.trials]
    assert pairs == [(a, b) for a in (1, 2, 3) for b in ("x", "y")]
    assert space_size(SPACE) == math.inf


def test_best_trial_follows_the_direction_and_nll() -> None:
    def made(**values):
        trials = [Trial(0, note="failed")]
        for number, pair in enumerate(zip(*values.values(), strict=True)):
            trials.append(Trial(number + 1, measures=dict(zip(values, pair, strict=True))))
        return trials

    assert best_trial(made(mae=(2.0, 1.0, math.nan)), "mae").number == 2
    assert best_trial(made(accuracy=(0.5, 0.8), nll=(0.1, 0.2)), "accuracy").number == 2
    assert best_trial(made(accuracy=(0.8, 0.8), nll=(0.2, 0.1)), "accuracy").number == 2
    with pytest.raises(DataError, match="no setting of 2 has a finite mae; the first says: failed"):
        best_trial(made(mae=(math.nan,)), "mae")


DAMAGE = {
    "torn": lambda lines: b"".join(lines)[:-7],
    "no end": lambda lines: b"".join(lines)[:-1],
    "garbage last": lambda lines: b"".join([*lines, b"\x00\xff garbage"]),
    "garbage in the middle": lambda lines: b"".join([*lines[:5], b"{]\n", *lines[5:]]),
    "garbage first": lambda lines: b"".join([b"\n", *lines]),
    "entry of nothing": lambda lines: b"".join(
        [*lines[:5], b'{"op_code": 6, "worker_id": "x"}\n', *lines[5:]]
    ),
    "deep": lambda lines: b"".join([*lines, b"[" * 100_000 + b"\n"]),
    "empty": lambda lines: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_journal_is_mended(damage, tmp_path) -> None:
    with opened(tmp_path) as (storage, note):
        whole = searched(14, storage=storage).trials
        assert not note
    path = tmp_path / "journal.log"
    broken = DAMAGE[damage](path.read_bytes().splitlines(keepends=True))
    path.write_bytes(broken)
    with opened(tmp_path) as (storage, note):
        again = searched(14, storage=storage).trials
    assert [trial.setting for trial in again] == [trial.setting for trial in whole]
    if damage in ("torn", "no end", "garbage last"):
        assert "is cut off" in note
        assert not (tmp_path / "journal.log.damaged").exists()
    elif damage != "empty":
        assert "was damaged" in note
        assert (tmp_path / "journal.log.damaged").read_bytes() == broken
    with opened(tmp_path) as (storage, note):  # it is sound now
        assert not note
        assert len(searched(14, storage=storage).trials) == 14


def test_journal_that_is_no_file(tmp_path) -> None:
    (tmp_path / "journal.log").mkdir()
    with pytest.raises(DataError, match="is no file"), opened(tmp_path):
        pass


def test_two_searches_in_one_folder_wait_for_each_other(tmp_path) -> None:
    import threading

    waited, ended = threading.Event(), []

    def second():
        with opened(tmp_path, waiting=waited.set) as (storage, _):
            ended.append(len(searched(14, storage=storage).trials))

    with opened(tmp_path) as (storage, _):
        thread = threading.Thread(target=second)
        thread.start()
        assert waited.wait(10)
        searched(14, storage=storage)
        assert not ended
    thread.join(10)
    assert ended == [14]
    lines = (tmp_path / "journal.log").read_text().splitlines()
    assert sum(json.loads(line)["op_code"] == 4 for line in lines) == 14
