"""Tables of a search: its best trials, and all of them for CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rcml_misa.reporting.table import Cell, Column, Number, Row, Table
from rcml_misa.runs.search import Trial, ranked

__all__ = ["best_trials_table", "found_table", "trials_table"]

SHOWN = 10  # best trials
BESIDE = {"accuracy": ("nll",), "mae": ("corr",)}  # metric to what is shown beside it
PARAMETERS = Column("parameters", "left")


def best_trials_table(
    trials: Sequence[Trial], *, metric: str, title: str, fixed: Sequence[str] = ()
) -> Table:
    """Best trials of one search with their settings, and the default's place among them."""
    best = ranked(trials, metric)
    shown = best[:SHOWN] + [trial for trial in best[SHOWN:] if trial.name == "default"]
    names = [metric, *(name for name in BESIDE.get(metric, ()) if name in best[0].measures)]
    rows: list[Row] = [
        [
            trial.name,
            *(Number(trial.value(name), 4) for name in names),
            _parameters(trial),
        ]
        for trial in shown
    ]
    notes = [f"{len(shown)} of {len(best)} settings are shown"] if len(shown) < len(best) else []
    notes += [f"fixed: {', '.join(fixed)}"] if fixed else []
    failed = [trial for trial in trials if trial not in best]
    if failed:
        count = f"{len(failed)} setting{'s' if len(failed) > 1 else ''}"
        notes.append(f"{count} without a value; the first is {failed[0].name}: {failed[0].note}")
    columns: list[Column | str] = [
        "setting",
        *names,
        Column("parameters", "left", name="parameters"),
    ]
    return Table.of(title, columns, rows, notes)


def found_table(searches: Mapping[int, Sequence[Trial]], *, metric: str, title: str) -> Table:
    """Best setting of each seed's search, beside the value of the default."""
    rows: list[Row] = []
    for seed, trials in searches.items():
        best = ranked(trials, metric)[0]
        default = [trial.value(metric) for trial in trials if trial.name == "default"]
        values = [Number(best.value(metric), 4), *(Number(value, 4) for value in default)]
        rows.append([str(seed), best.name, *values, _parameters(best)])
    columns: list[Column | str] = [
        "seed",
        "setting",
        metric,
        "default",
        Column("parameters", "left"),
    ]
    return Table.of(title, columns, rows, stubs=2)


def _parameters(trial: Trial) -> str:
    """Name the parameters of a trial and their values."""
    return ", ".join(f"{key} {_short(value)}" for key, value in trial.setting.items()) or "-"


def _short(value: object) -> str:
    """Write a number with four digits; the files have all of them."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def trials_table(searches: Mapping[int, Sequence[Trial]]) -> Table:
    """All trials of each seed's search, for CSV: settings, measures and notes."""
    every = [trial for trials in searches.values() for trial in trials]
    keys = list(dict.fromkeys(key for trial in every for key in trial.setting))
    names = list(dict.fromkeys(name for trial in every for name in trial.measures))
    rows: list[list[Cell | str]] = []
    for seed, trials in searches.items():
        for trial in trials:
            setting = [str(trial.setting.get(key, "")) for key in keys]
            measures = [Number(trial.value(name)) for name in names]
            rows.append([str(seed), trial.name, *setting, *measures, trial.note])
    return Table.of("Trials", ["seed", "trial", *keys, *names, "note"], rows, stubs=2)
