"""Tables over data sets: overview, each set's methods, wins, ranks, published figures."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.table import Cell, Column, Number, Numbers, Row, Spec, Table, Text, joined
from rcml_misa.reporting.tables import (
    ECE,
    LEAK_NOTE,
    SECONDS,
    SETS,
    Sets,
    Shown,
    beside_ece,
    by_dataset,
    by_label,
    by_variant,
    label_cell,
    measure_number,
    name_of_set,
    p_value,
    percent,
)
from rcml_misa.results import Ranking, RunRecord, compare, rank_methods, summarise

__all__ = ["dataset_table", "overview_table", "rank_table", "rankings", "winners_table"]


@dataclass(frozen=True)
class PublishedFigure:
    """Published accuracy and FPR95 of one method on one data set, in percent.

    `method` is its name here, where it is one; `source` the paper, and the epoch if it says so.
    """

    dataset: str
    name: str
    method: str | None
    source: str
    clean: float | None = None
    clean_spread: float | None = None
    conflict: float | None = None
    conflict_spread: float | None = None
    conflict_fpr95: float | None = None

    @property
    def accuracies(self) -> Numbers:
        """Clean and conflictive accuracy, as ``94.71 / 84.00``; ``-`` for what is missing."""
        return joined([_figure(self.clean), _figure(self.conflict)], " / ")

    @property
    def spreads(self) -> Numbers:
        """Deviation of clean and of conflictive accuracy."""
        return joined([_figure(self.clean_spread), _figure(self.conflict_spread)], " / ")


def _figure(value: float | None, digits: int = 2) -> Number:
    return Number(math.nan if value is None else value, digits)


def published_figures(*, dataset: str | None = None) -> list[PublishedFigure]:
    """Read all figures, or those of one data set, in the order of the file."""
    text = files("rcml_misa.reporting").joinpath("published.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    figures = []
    for entry in table["figure"]:
        facts = {key: entry.get(key) for key in ("name", "method", "source")}
        facts["source"] = table["sources"][facts["source"]]
        for name, values in entry.items():
            if name not in facts and dataset in (None, name):
                figures.append(PublishedFigure(dataset=name, **facts, **values))
    return figures


def overview_table(records: Sequence[RunRecord]) -> Table:
    """Mean accuracy on clean and conflictive rows: a row per method, a column per data set."""
    rows = summarise(records)
    means = {(row.dataset, row.label, row.test_set): row.mean for row in rows}
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    labels = dict.fromkeys(row.label for row in rows)

    def cell(dataset: str, label: str) -> Numbers:
        values = (means.get((dataset, label, test_set), math.nan) for test_set in SETS)
        return joined(map(percent, values), " / ")

    body: list[Row] = [[label, *(cell(name, label) for name in datasets)] for label in labels]
    columns = [Column("clean / conflictive %", "left", name="method")]
    columns += [Column(name, parts=SETS) for name in datasets]
    notes = [LEAK_NOTE] if any(row.leaky for row in rows) else []
    return Table.of("Overview", columns, body, notes, level=2)


#: Columns of a data set's main table.
MAIN = (
    Shown("clean %", "accuracy", spread=True),
    Shown("conflictive %", "accuracy", "conflict", spread=True),
    ECE,
    Shown("AURC %", "aurc"),
    Shown("FPR95 %", "conflict_fpr95", "conflict", digits=1),
    SECONDS,
)
MAIN_NOTE = (
    "mean ± population standard deviation over runs; ECE over the clean rows of all runs; FPR95: "
    "clean rows taken for conflictive where 95 % of those are detected; published: clean / "
    "conflictive % as the method's paper or a peer's has it, not measured here"
)


def dataset_table(dataset: str, records: Sequence[RunRecord]) -> Table:
    """Every method on one data set, with published figures in a column of their own."""
    published = {
        figure.method: figure.accuracies
        for figure in published_figures(dataset=dataset)
        if figure.method is not None and (figure.clean or figure.conflict)
    }
    rows = [sets for sets in by_label(summarise(records)).values() if "clean" in sets]
    columns, notes = beside_ece(MAIN, rows, MAIN_NOTE)
    specs: list[Spec[Sets]] = [
        ("method", lambda sets: label_cell(sets["clean"])),
        *((column.column, column.cell_of) for column in columns),
        ("published", lambda sets: published.get(sets["clean"].method, Text("-"))),
    ]
    notes += [LEAK_NOTE] * any(sets["clean"].leaky for sets in rows)
    return Table.of_items(dataset, specs, rows, *notes, level=2)


def published_table(datasets: Sequence[str]) -> Table:
    """Figures of papers on these data sets, none of them measured here."""
    figures = [figure for name in datasets for figure in published_figures(dataset=name)]
    sources = list(dict.fromkeys(figure.source for figure in figures))
    specs: list[Spec[PublishedFigure]] = [
        ("published", lambda figure: figure.name),
        ("data set", lambda figure: figure.dataset),
        ("clean / conflictive %", lambda figure: figure.accuracies),
        ("spread", lambda figure: figure.spreads),
        ("FPR95 %", lambda figure: _figure(figure.conflict_fpr95, 1)),
        ("source", lambda figure: f"[{sources.index(figure.source) + 1}]"),
    ]
    notes = [f"[{place}] {source}" for place, source in enumerate(sources, 1)]
    title = "Published figures, not measured here"
    return Table.of_items(title, specs, figures, *notes, level=2, stubs=2)


def _means(records: Sequence[RunRecord], test_set: str) -> dict[str, dict[str, float]]:
    """Data set to label to mean accuracy over runs."""
    means: dict[str, dict[str, float]] = {}
    for row in summarise(records):
        if row.test_set == test_set and not math.isnan(row.mean):
            means.setdefault(row.dataset, {})[row.label] = row.mean
    return means


def rankings(records: Sequence[RunRecord]) -> dict[str, Ranking]:
    """Rank methods over data sets on clean and conflictive rows; none for fewer than two sets."""
    ranked = {}
    for test_set in SETS:
        means = _means(records, test_set)
        if len(means) > 1:
            try:
                ranked[test_set] = rank_methods(means)
            except DataError:
                continue  # fewer than two methods on all data sets
    return ranked


def rank_table(ranked: Mapping[str, Ranking]) -> Table:
    """Mean ranks over data sets on each test set."""
    places = {
        test_set: dict(zip(ranking.methods, ranking.mean_ranks, strict=True))
        for test_set, ranking in ranked.items()
    }
    body: list[Row] = [
        [name, *(Number(places[test_set].get(name, math.nan)) for test_set in ranked)]
        for name in next(iter(ranked.values())).methods
    ]
    notes = [
        f"{name_of_set(test_set)}: {len(ranking.datasets)} data sets, {len(ranking.methods)} "
        f"methods; Friedman p {p_value(ranking.p_friedman)} (Iman-Davenport "
        f"{p_value(ranking.p_iman_davenport)}); Nemenyi's critical difference at 5 %: "
        f"{ranking.critical_difference:.2f} ranks"
        for test_set, ranking in ranked.items()
    ]
    columns = ["mean rank", *map(name_of_set, ranked)]
    return Table.of("Ranks over the data sets", columns, body, notes, level=2)


def winners_table(records: Sequence[RunRecord]) -> Table:
    """Method with the highest mean on each data set, and the first method's distance to it."""
    body: list[Row] = []
    for dataset, some in by_dataset(records).items():
        groups = by_variant(some)
        first = next(iter(groups))
        row: list[Cell | str] = [dataset]
        for test_set in SETS:
            means = _means(some, test_set).get(dataset, {})
            fair = {name: x for name, x in means.items() if not groups[name][0].leaky}
            if first not in fair:
                row += ["-", "-", "-"]
                continue
            best = max(fair, key=lambda name: fair[name])
            gap: Cell = Text("-")
            if best != first:
                pair = compare(groups[first], groups[best], test_set=test_set)
                points = measure_number("accuracy", pair.difference, signed=True)
                gap = Numbers((points, p_value(pair.p)), "{} (p {})")
            row += [best, percent(fair[best]), gap]
        body.append(row)
    columns = [Column("data set", "left")]
    for name in map(name_of_set, SETS):
        columns += [
            Column(f"best, {name}", "left", name=f"best_{name}"),
            Column("%", name=f"best_{name}_accuracy"),
            Column("the first minus it", name=f"gap_{name}", parts=("points", "p")),
        ]
    notes = ["p of the paired t test; leaky runs can't win"]
    return Table.of("Who wins where", columns, body, notes, level=2)
