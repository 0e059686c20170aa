"""The committed pages of results come from the committed values of every run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from rcml_misa.cli import main

FOLDER = Path(__file__).parents[1] / "experiments"
# tables that 0.1 made hold means, and are made anew with the values of every run
NAMES = sorted(
    path.stem for path in FOLDER.glob("*.csv") if ",seed," in path.read_text("utf-8")[:100]
)


@pytest.mark.parametrize("name", NAMES)
def test_page_regenerates_from_the_values_of_its_runs(name, tmp_path, monkeypatch) -> None:
    (tmp_path / "experiments").mkdir()
    for ending in ("toml", "csv"):
        shutil.copy(FOLDER / f"{name}.{ending}", tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["experiment", f"experiments/{name}.toml", "--from-csv"])
    assert done.exit_code == 0, done.output
    page = (FOLDER / f"{name}.md").read_text("utf-8")
    assert (tmp_path / "experiments" / f"{name}.md").read_text("utf-8") == page
    assert len(page.splitlines()) <= 60
