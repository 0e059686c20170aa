"""Tables of one data set's runs: accuracy, moments of any measure, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.table import Column, Columns, Number, Numbers, Row, Table, Text, joined
from rcml_misa.results import (
    LEAKS,
    PairedComparison,
    RunRecord,
    SummaryRow,
    compare,
    holm,
    mcnemar,
)

__all__ = ["measures_table", "moments_table", "paired_table", "runs_table", "spread_table"]

LEAK_NOTE = f"{LEAKS} test rows shaped the scaling or chose the epoch: no estimate for new rows"
SETS = ("clean", "conflict")  # test sets of the published protocol
NAMES = {"conflict": "conflictive"}

#: Measures of sentiment -> heading, in the order of the columns; all others are in CSV and JSON.
SENTIMENT: Mapping[str, str] = {
    "mae": "MAE",
    "corr": "Corr",
    "acc7": "Acc-7",
    "acc5": "Acc-5",
    "acc3": "Acc-3",
    "f1_3": "F1-3",
    "acc2": "Acc-2",
    "f1": "F1",
    "acc2_has0": "Acc-2 Has0",
    "acc2_non0": "Acc-2 Non0",
    "f1_has0": "F1 Has0",
    "f1_non0": "F1 Non0",
    "coverage": "Inside",
    "width": "Width",
    "ause": "AUSE",
    "doubt_corr": "Error corr",
}
#: Measures of sentiment whose paired differences are shown.
PAIRED = ("mae", "corr", "acc7", "acc3", "acc2", "acc2_has0", "acc2_non0")
PLAIN = ("mae", "corr", "width", "ause", "doubt_corr")  # not shown in percent
MEASURE_NOTES = {
    "": "MAE and Corr as they are, the rest in percent; var and std over the runs (population).",
    "acc2_has0": "Has0: negative or not; Non0: negative or positive, true zeros left out; F1 "
    "weighted",
    "coverage": "Inside and Width: share of rows inside their interval, and its mean width; Error "
    "corr: Spearman's correlation of width and error; AUSE: 0 if widths order the errors; both as "
    "they are",
}
INTERVALS = {
    "nadeau-bengio": "interval and t p: Nadeau and Bengio's, for overlapping train sets",
    "student": "interval and t p: Student's t over the seeds of one given split, which tells of "
    "the chance in training, not of that of the test rows",
}


def percent(value: float, digits: int = 2) -> Number:
    """Show a fraction in percent."""
    return Number(value, digits, 100)


def p_value(value: float) -> Number:
    """Show a p value, from 0.001 on."""
    return Number(value, 3, least=0.001)


def measure_number(measure: str, value: float, *, signed: bool = False) -> Number:
    """Show a measure in percent, or as it is."""
    digits, scale = (4, 1) if measure in PLAIN else (2, 100)
    return Number(value, digits, scale, signed)


def name_of_set(name: str) -> str:
    """Name a test set as tables do."""
    return NAMES.get(name, name)


def label_cell(row: SummaryRow) -> Text:
    """Label of a variant, with a star if it is the recommended one."""
    return Text(row.label, "*" if row.default and row.variant != "-" else "")


def by_dataset(records: Iterable[RunRecord], key: str = "dataset") -> dict[str, list[RunRecord]]:
    """Group records by data set, in the order of first appearance."""
    groups: dict[str, list[RunRecord]] = {}
    for record in records:
        groups.setdefault(getattr(record, key), []).append(record)
    return groups


def by_variant(records: Iterable[RunRecord]) -> dict[str, list[RunRecord]]:
    """Group records of one data set by label, in the order of first appearance."""
    return by_dataset(records, key="label")


def by_label(rows: Iterable[SummaryRow]) -> dict[str, dict[str, SummaryRow]]:
    """Arrange summary rows of one data set: label to test set to row."""
    arranged: dict[str, dict[str, SummaryRow]] = {}
    for row in rows:
        arranged.setdefault(row.label, {})[row.test_set] = row
    return arranged


@dataclass(frozen=True)
class Shown:
    """A column of means of one measure on one test set.

    Attributes
    ----------
    heading, measure, test_set : str
    digits : int
    scale : float
        100 for percent.
    spread : bool
        Whether the deviation over runs stands behind the mean.
    """

    heading: str
    measure: str
    test_set: str = "clean"
    digits: int = 2
    scale: float = 100
    spread: bool = False

    def cell(self, row: SummaryRow | None) -> Number | Numbers:
        """Mean of the measure, and its deviation; ``-`` where there is no row."""
        if row is None:
            mean = math.nan
        elif self.measure == "seconds_per_run":
            mean = row.seconds_per_run
        else:
            mean = row.measures.get(self.measure, math.nan)
        number = Number(mean, self.digits, self.scale)
        if not self.spread:
            return number
        deviation = math.nan if row is None else row.moments(self.measure)[2]
        return Numbers((number, Number(deviation, self.digits, self.scale)), "{} ± {}")

    @property
    def column(self) -> Column:
        """Column whose key is the name of the measure."""
        name = self.measure if self.test_set == "clean" else f"{self.test_set}_{self.measure}"
        return Column(self.heading, name=name, parts=("mean", "std"))


SECONDS = Shown("s/run", "seconds_per_run", digits=1, scale=1)


def means_table(
    title: str,
    rows: Mapping[str, Mapping[str, SummaryRow]],
    shown: Sequence[Shown],
    notes: Sequence[str] = (),
) -> Table | None:
    """Means of measures, a row per method; None where every mean is missing.

    Parameters
    ----------
    title : str
    rows : mapping of label to mapping of test set to SummaryRow
        Of one data set.
    shown : sequence of Shown
    notes : sequence of str
    """
    body: list[Row] = []
    for sets in rows.values():
        cells = [column.cell(sets.get(column.test_set)) for column in shown]
        if any(str(cell) != "-" for cell in cells):
            body.append([next(iter(sets.values())).label, *cells])
    columns: Columns = ["method", *(column.column for column in shown)]
    return Table.of(title, columns, body, notes) if body else None


def runs_table(rows: Sequence[SummaryRow]) -> Table:
    """Accuracy of every run."""
    body: list[Row] = [
        [
            label_cell(row),
            name_of_set(row.test_set),
            joined(map(percent, row.accuracy), " "),
        ]
        for row in rows
    ]
    columns: Columns = ["method", "test rows", Column("each run", "left", name="run")]
    return Table.of("Accuracy of each run, %", columns, body, stubs=2)


def moments_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean, variance and deviation of accuracy on one data set."""
    body: list[Row] = [
        [
            label_cell(row),
            name_of_set(row.test_set),
            percent(row.mean),
            Number(row.var, 6),
            percent(row.std),
            Number(row.seconds_per_run, 1),
        ]
        for row in rows
    ]
    stars = any(label_cell(row).mark for row in rows)
    notes = [
        *["* the recommended configuration of its method"] * stars,
        "var and std of the runs (population); var is of the fraction, std in points",
        *[LEAK_NOTE] * any(row.leaky for row in rows),
    ]
    columns = ["method", "test rows", "mean %", "var", "std %", "s/run"]
    title = f"{rows[0].dataset}: accuracy over the runs" if rows else ""
    return Table.of(title, columns, body, notes, stubs=2)


def summary_table(rows: Sequence[SummaryRow]) -> Table:
    """Every measure's mean, for CSV: a row per variant and test set."""
    names = list(dict.fromkeys(name for row in rows for name in row.measures))
    fixed = ["dataset", "method", "variant", "test_set", "default", "leaky"]
    moments = ["runs", "mean", "var", "std", "seconds_per_run"]
    body: list[Row] = [
        [
            *(str(getattr(row, name)) for name in fixed),
            *(Number(getattr(row, name)) for name in moments),
            *(Number(row.measures.get(name, math.nan)) for name in names),
        ]
        for row in rows
    ]
    return Table.of("Summary", [*fixed, *moments, *names], body, stubs=len(fixed))


def values_table(rows: Sequence[SummaryRow]) -> Table:
    """Every measure's moments and values, for CSV: a row per variant and measure."""
    fixed = ["dataset", "method", "variant"]
    body: list[Row] = [
        [
            *(str(getattr(row, name)) for name in fixed),
            name,
            Number(len(values)),
            *map(Number, row.moments(name)),
            " ".join(map(repr, values)),
        ]
        for row in rows
        for name, values in row.values.items()
    ]
    columns = [*fixed, "measure", "runs", "mean", "var", "std", "values"]
    return Table.of("Measures", columns, body, stubs=4)


def _sentiment(rows: Sequence[SummaryRow]) -> list[str]:
    return [name for name in SENTIMENT if any(name in row.values for row in rows)]


def measures_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean, variance and deviation of every measure of sentiment on one test set."""
    names = _sentiment(rows)
    body: list[Row] = []
    for row in rows:
        moments = {name: row.moments(name) for name in names}
        means, spreads = (
            [measure_number(name, moments[name][place]) for name in names] for place in (0, 2)
        )
        variances = [Number(moments[name][1], 6) for name in names]
        body.append([row.label, "mean", *means, Number(row.seconds_per_run, 0)])
        body += [["", "var", *variances, ""], ["", "std", *spreads, ""]]
    columns: Columns = ["method", Column("", "left", name="moment")]
    columns += [Column(SENTIMENT[name], name=name) for name in names]
    notes = [note for name, note in MEASURE_NOTES.items() if name in (*names, "")]
    test_set = "" if rows[0].test_set == "clean" else f", {name_of_set(rows[0].test_set)} rows"
    title = f"{rows[0].dataset}: measures over the runs{test_set}"
    return Table.of(title, [*columns, "s/run"], body, notes, stubs=2)


def spread_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean ± deviation of every measure of sentiment on clean rows, a row per method."""
    shown = [
        Shown(SENTIMENT[name], name, digits=form.digits, scale=form.scale, spread=True)
        for name in _sentiment(rows)
        for form in [measure_number(name, 0)]
    ]
    body: list[Row] = [
        [label_cell(row), *(column.cell(row) for column in [*shown, SECONDS])] for row in rows
    ]
    columns: Columns = ["method", *(column.column for column in [*shown, SECONDS])]
    return Table.of(f"{rows[0].dataset}: measures", columns, body, [MEASURE_NOTES[""]], level=2)


def paired_comparisons(
    records: Sequence[RunRecord],
    *,
    test_sets: Sequence[str] | None = None,
    measures: Sequence[str] = ("accuracy",),
) -> list[PairedComparison]:
    """Compare the first variant of one data set with each other one, wherever both have values.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one data set.
    test_sets : sequence of str, optional
        All that the first variant's runs have, by default.
    measures : sequence of str
    """
    groups = list(by_variant(records).values())
    names = dict.fromkeys(name for record in groups[0] for name in record.metrics)
    pairs = []
    for other in groups[1:]:
        for test_set in names if test_sets is None else test_sets:
            for measure in measures:
                try:
                    pairs.append(compare(groups[0], other, test_set=test_set, measure=measure))
                except DataError:
                    continue  # no run of both has this measure of these rows
    return pairs


def paired_table(
    comparisons: Sequence[PairedComparison],
    *,
    title: str = "",
    corrected: bool = False,
    records: Sequence[RunRecord] = (),
) -> Table:
    """Differences of the first variant from each other one, in points or as the measure is.

    Parameters
    ----------
    comparisons : sequence of PairedComparison
        At least one; all have the same first variant, on one data set or several.
    title : str
        Names the data set by default.
    corrected : bool
        Whether Wilcoxon's p is corrected by Holm over these comparisons.
    records : sequence of RunRecord
        Of this data set: a column for McNemar's p is added where no test row counts twice.
    """
    ranked = [pair.p_wilcoxon for pair in comparisons]
    ranked = holm(ranked) if corrected else ranked
    groups = by_variant(records)
    exact = [_mcnemar(groups, pair) for pair in comparisons]
    datasets = len({pair.dataset for pair in comparisons}) > 1
    several = len({pair.test_set for pair in comparisons}) > 1
    named = any(pair.measure != "accuracy" for pair in comparisons)
    body: list[Row] = []
    for pair, wilcoxon, p in zip(comparisons, ranked, exact, strict=True):
        ends = (measure_number(pair.measure, x, signed=True) for x in (pair.low, pair.high))
        body.append(
            [
                *([pair.dataset] if datasets else []),
                pair.second,
                *([name_of_set(pair.test_set)] if several else []),
                *([SENTIMENT.get(pair.measure, pair.measure)] if named else []),
                measure_number(pair.measure, pair.difference, signed=True),
                Numbers(tuple(ends), "[{}, {}]"),
                p_value(pair.p),
                p_value(wilcoxon),
                joined([Number(pair.wins, 0), Number(pair.losses, 0)], "/"),
                p_value(p),
            ]
        )
    stubs = [*["data set"] * datasets, f"{comparisons[0].first} minus"]
    stubs += [*["test rows"] * several, *["measure"] * named]
    columns: Columns = [*stubs, "difference" if named else "points"]
    columns += [Column("95 % interval", parts=("low", "high")), "t p"]
    columns += ["Wilcoxon p (Holm)" if corrected else "Wilcoxon p"]
    columns += [Column("+/-", name="runs", parts=("better", "worse")), "McNemar p"]
    kinds = dict.fromkeys(pair.interval for pair in comparisons)
    notes = [*(INTERVALS[kind] for kind in kinds), "+/-: runs in which the first is better, worse"]
    if all(math.isnan(p) for p in exact):
        columns, body = columns[:-1], [row[:-1] for row in body]
    else:
        notes.append("McNemar: exact, where no test row counts twice")
    title = title or f"{comparisons[0].dataset}: paired differences"
    return Table.of(title, columns, body, ["; ".join(notes)], stubs=len(stubs))


def _mcnemar(groups: Mapping[str, Sequence[RunRecord]], pair: PairedComparison) -> float:
    if not {pair.first, pair.second} <= groups.keys():
        return math.nan
    try:
        return mcnemar(groups[pair.first], groups[pair.second], test_set=pair.test_set).p
    except DataError:
        return math.nan  # rows that count twice, or whose answers were not recorded
