"""Tables of one data set's runs: accuracy, moments of any measure, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.table import Cell, Column, Number, Numbers, Row, Spec, Table, Text, joined
from rcml_misa.results import LEAKS, PairedComparison, RunRecord, SummaryRow, compare, holm, mcnemar

__all__ = ["measures_table", "moments_table", "paired_table", "runs_table", "spread_table"]

Sets = Mapping[str, SummaryRow]  # test set to row of one variant

LEAK_NOTE = f"{LEAKS} test rows shaped the scaling or chose the epoch: no estimate for new rows"
SETS = ("clean", "conflict")  # test sets of the published protocol
NAMES = {"conflict": "conflictive"}

#: Measures of predicted numbers and of sentiment -> heading, in the order of the columns; all
#: others are in CSV and JSON.
MEASURES: Mapping[str, str] = {
    "mae": "MAE",
    "rmse": "RMSE",
    "r2": "R2",
    "corr": "Corr",
    "spearman": "Spearman",
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
#: Those whose paired differences are shown.
PAIRED = ("mae", "rmse", "r2", "corr", "spearman", "acc7", "acc3", "acc2", "acc2_has0", "acc2_non0")
UNITS = ("mae", "rmse", "r2", "corr", "spearman")
PLAIN = (*UNITS, "width", "ause", "doubt_corr")  # not shown in percent
MEASURE_NOTES = {
    "": "MAE and Corr as they are, the rest in percent; var and std over the runs (population).",
    "rmse": "MAE and RMSE in the unit of the target; R2: 1 minus squared error over variance; "
    "Corr: Pearson's, Spearman: of ranks; var and std over the runs (population).",
    "acc2_has0": "Has0: negative or not; Non0: negative or positive, true zeros left out; F1 "
    "weighted",
    "coverage": "Inside and Width: share of rows inside their interval, and its mean width; Error "
    "corr: Spearman's correlation of width and error; AUSE: 0 if widths order the errors; both as "
    "they are",
}
INTERVALS = {
    "nadeau-bengio": "interval and t p: Nadeau and Bengio's, for overlapping train sets",
    "student": "interval and t p: Student's t over the seeds of one given split, which tells of "
    "the chance in training and of validation rows drawn anew, not of that of the test set",
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
    """Arrange summary rows of one data set by label and test set."""
    arranged: dict[str, dict[str, SummaryRow]] = {}
    for row in rows:
        arranged.setdefault(row.label, {})[row.test_set] = row
    return arranged


@dataclass(frozen=True)
class Shown:
    """A column of means of one measure on one test set, and of deviations where `spread` is set."""

    heading: str
    measure: str
    test_set: str = "clean"
    digits: int = 2
    scale: float = 100
    spread: bool = False

    def cell(self, row: SummaryRow | None) -> Number | Numbers:
        """Mean of the measure, and its deviation; ``-`` where there is no row."""
        means = {} if row is None else {**row.measures, "seconds_per_run": row.seconds_per_run}
        number = Number(means.get(self.measure, math.nan), self.digits, self.scale)
        if not self.spread:
            return number
        deviation = math.nan if row is None else row.moments(self.measure)[2]
        return Numbers((number, Number(deviation, self.digits, self.scale)), "{} ± {}")

    def cell_of(self, sets: Sets) -> Cell:
        """Cell of the variant with these rows."""
        return self.cell(sets.get(self.test_set))

    @property
    def column(self) -> Column:
        """Column whose key is the name of the measure."""
        name = self.measure if self.test_set == "clean" else f"{self.test_set}_{self.measure}"
        return Column(self.heading, name=name, parts=("mean", "std"))


SECONDS = Shown("s/run", "seconds_per_run", digits=1, scale=1)
ECE = Shown("ECE %", "pooled_ece", digits=1)
SCALED_ECE = Shown("after scaling", "pooled_temperature_ece", digits=1)
SCALED = "after scaling: after temperature scaling fitted on rows held back"
UNSCALED = (
    "ECE is of probabilities as each method states them; --valid-share 0.1, or valid_share in an "
    "experiment's protocol, adds that after temperature scaling, fit for comparing methods"
)


def beside_ece(
    shown: Sequence[Shown], rows: Iterable[Sets], note: str
) -> tuple[list[Shown], list[str]]:
    """Put ECE after temperature scaling beside ECE where runs have it, else say how to have it."""
    scaled = any(str(SCALED_ECE.cell_of(sets)) != "-" for sets in rows)
    columns = list(shown)
    if scaled:
        columns.insert(columns.index(ECE) + 1, SCALED_ECE)
    return columns, [note, SCALED if scaled else UNSCALED]


def means_table(
    title: str, rows: Mapping[str, Sets], shown: Sequence[Shown], *notes: str
) -> Table | None:
    """Means of measures, a row per method of one data set; None where every mean is missing."""
    present = [
        sets for sets in rows.values() if any(str(column.cell_of(sets)) != "-" for column in shown)
    ]
    specs: list[Spec[Sets]] = [("method", lambda sets: next(iter(sets.values())).label)]
    specs += [(column.column, column.cell_of) for column in shown]
    return Table.of_items(title, specs, present, *notes) if present else None


STUBS: list[Spec[SummaryRow]] = [
    ("method", label_cell),
    ("test rows", lambda row: name_of_set(row.test_set)),
]
RUNS: list[Spec[SummaryRow]] = [
    *STUBS,
    (Column("each run", "left", name="run"), lambda row: joined(map(percent, row.accuracy), " ")),
]
MOMENTS: list[Spec[SummaryRow]] = [
    *STUBS,
    ("mean %", lambda row: percent(row.mean)),
    ("var", lambda row: Number(row.var, 6)),
    ("std %", lambda row: percent(row.std)),
    ("s/run", SECONDS.cell),
]


def runs_table(rows: Sequence[SummaryRow]) -> Table:
    """Accuracy of every run."""
    return Table.of_items("Accuracy of each run, %", RUNS, rows, stubs=2)


def moments_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean, variance and deviation of accuracy on one data set."""
    notes = [
        *["* the recommended configuration of its method"]
        * any(label_cell(row).mark for row in rows),
        "var and std of the runs (population); var is of the fraction, std in points",
        *[LEAK_NOTE] * any(row.leaky for row in rows),
    ]
    title = f"{rows[0].dataset}: accuracy over the runs" if rows else ""
    return Table.of_items(title, MOMENTS, rows, *notes, stubs=2)


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


def _measures(rows: Sequence[SummaryRow]) -> list[str]:
    return [name for name in MEASURES if any(name in row.values for row in rows)]


def _general_note(names: Sequence[str]) -> str:
    """Explain the units of measures of sentiment, or of numbers of any scale."""
    return MEASURE_NOTES["rmse" if "rmse" in names else ""]


def measures_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean, variance and deviation of every measure of numbers or sentiment on one test set."""
    names = _measures(rows)
    body: list[Row] = []
    for row in rows:
        moments = {name: row.moments(name) for name in names}
        means, spreads = (
            [measure_number(name, moments[name][place]) for name in names] for place in (0, 2)
        )
        variances = [Number(moments[name][1], 6) for name in names]
        body.append([row.label, "mean", *means, Number(row.seconds_per_run, 0)])
        body += [["", "var", *variances, ""], ["", "std", *spreads, ""]]
    measures = [Column(MEASURES[name], name=name) for name in names]
    moment = Column("", "left", name="moment")
    notes = [_general_note(names)]
    notes += [MEASURE_NOTES[name] for name in ("acc2_has0", "coverage") if name in names]
    test_set = "" if rows[0].test_set == "clean" else f", {name_of_set(rows[0].test_set)} rows"
    title = f"{rows[0].dataset}: measures over the runs{test_set}"
    return Table.of(title, ["method", moment, *measures, "s/run"], body, notes, stubs=2)


def spread_table(rows: Sequence[SummaryRow]) -> Table:
    """Mean ± deviation of every measure of numbers or sentiment on clean rows, a row per method."""
    shown = [
        Shown(MEASURES[name], name, digits=form.digits, scale=form.scale, spread=True)
        for name in _measures(rows)
        for form in [measure_number(name, 0)]
    ]
    specs: list[Spec[SummaryRow]] = [("method", label_cell)]
    specs += [(column.column, column.cell) for column in [*shown, SECONDS]]
    title = f"{rows[0].dataset}: measures"
    return Table.of_items(title, specs, rows, _general_note(_measures(rows)), level=2)


def paired_comparisons(
    records: Sequence[RunRecord],
    *,
    test_sets: Sequence[str] | None = None,
    measures: Sequence[str] = ("accuracy",),
) -> list[PairedComparison]:
    """Compare the first variant of one data set with each other one, wherever both have values.

    The test sets are all that the first variant's runs have, by default.
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

    All comparisons have the same first variant; `corrected` is Holm's correction of Wilcoxon's p
    over them. The data set's records give McNemar's p where no test row counts twice.
    """
    head = comparisons[0]
    ranked = [pair.p_wilcoxon for pair in comparisons]
    rows = [
        replace(pair, p_wilcoxon=p)
        for pair, p in zip(comparisons, holm(ranked) if corrected else ranked, strict=True)
    ]
    datasets, test_sets = {pair.dataset for pair in rows}, {pair.test_set for pair in rows}
    named = any(pair.measure != "accuracy" for pair in rows)
    optional: list[tuple[bool, Spec[PairedComparison]]] = [
        (len(datasets) > 1, ("data set", lambda pair: pair.dataset)),
        (True, (f"{head.first} minus", lambda pair: pair.second)),
        (len(test_sets) > 1, ("test rows", lambda pair: name_of_set(pair.test_set))),
        (named, ("measure", lambda pair: MEASURES.get(pair.measure, pair.measure))),
    ]
    stubs = [spec for present, spec in optional if present]
    wilcoxon = "Wilcoxon p (Holm)" if corrected else "Wilcoxon p"
    wins = Column("+/-", name="runs", parts=("better", "worse"))
    specs = [
        *stubs,
        ("difference" if named else "points", lambda pair: _points(pair, "difference")),
        (
            Column("95 % interval", parts=("low", "high")),
            lambda pair: Numbers((_points(pair, "low"), _points(pair, "high")), "[{}, {}]"),
        ),
        ("t p", lambda pair: p_value(pair.p)),
        (wilcoxon, lambda pair: p_value(pair.p_wilcoxon)),
        (wins, lambda pair: joined([Number(pair.wins, 0), Number(pair.losses, 0)], "/")),
    ]
    kinds = dict.fromkeys(pair.interval for pair in rows)
    notes = [*(INTERVALS[kind] for kind in kinds), "+/-: runs in which the first is better, worse"]
    groups = by_variant(records)
    exact = {pair: _mcnemar(groups, pair) for pair in rows}
    if not all(map(math.isnan, exact.values())):
        specs.append(("McNemar p", lambda pair: p_value(exact[pair])))
        notes.append("McNemar: exact, where no test row counts twice")
    title = title or f"{head.dataset}: paired differences"
    return Table.of_items(title, specs, rows, "; ".join(notes), stubs=len(stubs))


def _points(pair: PairedComparison, name: str) -> Number:
    """Difference or an end of its interval, with its sign."""
    return measure_number(pair.measure, getattr(pair, name), signed=True)


def _mcnemar(groups: Mapping[str, Sequence[RunRecord]], pair: PairedComparison) -> float:
    if not {pair.first, pair.second} <= groups.keys():
        return math.nan
    try:
        return mcnemar(groups[pair.first], groups[pair.second], test_set=pair.test_set).p
    except DataError:
        return math.nan  # rows that count twice, or whose answers were not recorded
