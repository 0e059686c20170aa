"""Fixtures shared by the tests: the real data files, and no network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from rcml_misa.datasets import find_entry, find_file, list_datasets


def _absent(reason: str) -> NoReturn:
    if os.environ.get("RCML_MISA_REQUIRE_DATA") == "1":
        pytest.fail(f"{reason}, and RCML_MISA_REQUIRE_DATA=1 asks for it")
    pytest.skip(reason)


@pytest.fixture
def need_data() -> Callable[..., Path]:
    """Call it with names of data sets: the folder with their files, or a skip with the reason."""

    def folder(*names: str) -> Path:
        named = os.environ.get("RCML_MISA_DATA")
        if not named:
            _absent("RCML_MISA_DATA is not set")
        for name in names:
            entry = find_entry(name)
            if not entry.built_in and find_file(entry, data_dir=Path(named)) is None:
                _absent(f"{entry.file or 'a file'} of {name} is not in RCML_MISA_DATA")
        return Path(named)

    return folder


@pytest.fixture
def data_dir(need_data: Callable[..., Path]) -> Path:
    """Folder with the files of every data set of the catalogue, or a skip with the reason."""
    return need_data(*(entry.name for entry in list_datasets()))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any download fail at once, as on a machine without a network."""

    def refuse(url: str, **options: object) -> NoReturn:
        raise ConnectionError(f"no network in tests: {url}")

    monkeypatch.setattr("pooch.retrieve", refuse)
