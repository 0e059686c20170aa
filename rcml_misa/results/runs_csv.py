"""Values of every run as one CSV, from which all pages of an experiment can be made again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from rcml_misa.exceptions import DataError
from rcml_misa.results.records import AFTER_SCALING, RunRecord

__all__ = ["read_runs_csv", "runs_csv"]

KEYS = ("dataset", "method", "variant", "test_set", "seed")
NUMBERS = ("train_rows", "test_rows", "default", "leaky", "given_split")
FACTS = (*KEYS, *NUMBERS, "seconds", "failure", "measured_with", "bin_gaps")
#: Column of bins to what stands behind the test set in their name; the second is not always there.
GAPS = {"bin_gaps": "", "scaled_bin_gaps": AFTER_SCALING}
EPOCH = "checkpoint"
SCORES = ("errors", "altered", "held_out")
VALID = "valid"  # rows that chose the epoch: scored, but no test set


def runs_csv(records: Sequence[RunRecord]) -> str:
    """Write a row per run and test set: the facts of the run and every measure.

    Parameters
    ----------
    records : sequence of RunRecord
        In the order of the experiment; the first one's method is compared with each other one.

    Returns
    -------
    str
        CSV. Accuracies stand at full precision, other measures with six digits; empty where the
        run has no such measure, ``nan`` where it could not be taken. Uncertainty scores are
        measures with dotted names, such as ``errors.own.auroc`` (errors of clean rows only);
        ``checkpoint.50`` is the accuracy after 50 epochs. ``bin_gaps``, on clean rows, holds
        confidence minus right answers, summed over the rows of each bin of confidence, and
        ``scaled_bin_gaps`` the same after temperature scaling, where rows were held back for that;
        ``measured_with`` the versions, in the first of the rows that share them.
    """
    given = _given(records)
    rows: list[dict[str, Any]] = []
    versions = ""
    for record in records:
        stated = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        for row in _rows_of(record, given=record.dataset in given):
            rows.append(row if stated == versions else row | {"measured_with": stated})
            versions = stated
    names = dict.fromkeys([*FACTS, *(name for row in rows for name in row)])
    return pd.DataFrame(rows, columns=list(names)).to_csv(index=False, lineterminator="\n")


def _rows_of(record: RunRecord, *, given: bool) -> Iterator[dict[str, Any]]:
    """Rows of one run, by test set in the order of its protocol."""
    planned = dict.fromkeys(record.protocol.get("test_sets", ()))
    for test_set in planned | dict.fromkeys([*record.metrics, *record.failures]):
        if test_set not in record.metrics and test_set not in record.failures:
            continue
        measures = dict(record.metrics.get(test_set, {}))
        for task, scores in record.scores.get(test_set, {}).items():
            if task != "errors" or test_set == "clean":
                for score, values in scores.items():
                    measures |= {f"{task}.{score}.{name}": x for name, x in values.items()}
        for epoch, accuracy in record.checkpoints.items():
            if test_set in accuracy:
                measures[f"{EPOCH}.{epoch}"] = accuracy[test_set]
        facts: dict[str, Any] = {name: getattr(record, name, test_set) for name in KEYS}
        facts |= {
            **{name: int(getattr(record, name, given)) for name in NUMBERS},
            "seconds": f"{sum(record.timing.values()):.4g}",
            "failure": record.failures.get(test_set, ""),
        }
        for column, ending in GAPS.items() if test_set == "clean" else ():
            if bins := record.bins.get(test_set + ending):
                pairs = zip(bins["confidence"], bins["correct"], strict=True)
                facts[column] = " ".join(f"{confidence - right:.6g}" for confidence, right in pairs)
        yield facts | {name: _shown(name, value) for name, value in measures.items()}


def _given(records: Sequence[RunRecord]) -> set[str]:
    """Data sets that bring their split: all seeds have the same test rows."""
    tested: dict[str, dict[int, tuple[int, ...]]] = {}
    given = set()
    for record in records:
        split = record.protocol.get("split", "random")
        # 0.1 wrote no numbers of rows where the split was given
        early = record.versions.get("rcml-misa", "").startswith("0.1.") and split == "random"
        if split == "given" or (early and not record.rows):
            given.add(record.dataset)
        tested.setdefault(record.dataset, {})[record.seed] = tuple(record.rows)
    for dataset, rows in tested.items():
        if len(rows) > 1 and len(set(rows.values())) == 1 and all(rows.values()):
            given.add(dataset)
    return given


def _shown(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "nan"
    # counts of right answers must come back exactly, as equal runs are ties
    return repr(float(value)) if name.startswith("acc") or EPOCH in name else f"{value:.6g}"


def read_runs_csv(text: str) -> list[RunRecord]:
    """Read a table of `runs_csv` as records of its facts and measures, in the order of the file.

    Raises
    ------
    DataError
        If the text is no such table, or a value is no number.
    """
    remedy = "write it again with `rcml-misa experiment FILE`"
    reader = csv.DictReader(io.StringIO(text), strict=True)
    runs: dict[tuple[str, ...], dict[str, Any]] = {}
    versions: dict[str, str] = {}
    try:
        if missing := [name for name in FACTS if name not in (reader.fieldnames or ())]:
            raise DataError(f"this is no table of runs: it has no column {missing[0]!r}; {remedy}.")
        for row in reader:
            if None in row or None in row.values():
                raise ValueError("too many or too few cells")
            parts = [part.rpartition(" ") for part in row["measured_with"].split(", ")]
            versions = {name: number for name, _, number in parts if name} or versions
            key = tuple(row[name] for name in KEYS if name != "test_set")
            _add(runs.setdefault(key, _fields(row, versions)), row)
    except DataError:  # is a ValueError, and says all already
        raise
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"line {reader.line_num} of this table of runs can't be read ({error}); {remedy}."
        ) from error
    seeds = sorted({fields["seed"] for fields in runs.values()})
    return [RunRecord(**fields, run=seeds.index(fields["seed"])) for fields in runs.values()]


def _fields(row: Mapping[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
    """Fields of the run that a row belongs to, without its measures."""
    numbers = {name: int(row[name]) for name in NUMBERS}
    return {
        **{name: row[name] for name in ("dataset", "method", "variant")},
        **{name: numbers[name] for name in ("train_rows", "test_rows")},
        "default": bool(numbers["default"]),
        "seed": int(row["seed"]),
        "config": {"leaky": bool(numbers["leaky"])},
        "versions": versions,
        "data_sha256": "",
        "timing": {"seconds": float(row["seconds"])},
        "protocol": {"split": "given" if numbers["given_split"] else "drawn", "test_sets": []},
        **{name: {} for name in ("metrics", "bins", "scores", "checkpoints", "failures")},
    }


def _add(fields: dict[str, Any], row: Mapping[str, str]) -> None:
    """Add the measures of one test set to the fields of its run."""
    test_set = row["test_set"]
    if test_set != VALID:
        fields["protocol"]["test_sets"].append(test_set)
    if row["failure"]:
        fields["failures"][test_set] = row["failure"]
    for name in [name for name, cell in row.items() if cell and name not in {*FACTS, *GAPS}]:
        value = float(row[name])
        metrics = fields["metrics"].setdefault(test_set, {})
        start, *rest = name.split(".")
        if start == EPOCH:
            fields["checkpoints"].setdefault(".".join(rest), {})[test_set] = value
        elif start in SCORES and rest:
            tasks = fields["scores"].setdefault(test_set, {})
            tasks.setdefault(start, {}).setdefault(".".join(rest[:-1]), {})[rest[-1]] = value
        else:
            metrics[name] = value
    for column, ending in GAPS.items():
        if gaps := [float(gap) for gap in row.get(column, "").split()]:
            zeros = [0.0] * len(gaps)
            counts = [float(row["test_rows"]), *zeros[1:]]
            bins = {"count": counts, "confidence": gaps, "correct": zeros}
            fields["bins"][test_set + ending] = bins
