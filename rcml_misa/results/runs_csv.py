"""Values of every run as one CSV, from which all pages of an experiment can be made again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rcml_misa.exceptions import DataError
from rcml_misa.results.records import RunRecord

__all__ = ["read_runs_csv", "runs_csv"]

FACTS = (
    "dataset",
    "method",
    "variant",
    "test_set",
    "seed",
    "train_rows",
    "test_rows",
    "default",
    "leaky",
    "given_split",
    "seconds",
    "failure",
    "measured_with",
    "bin_gaps",
)
EPOCH = "checkpoint"
SCORES = ("errors", "altered", "held_out")
VALID = "valid"  # rows that chose the epoch: scored, but no test set


def runs_csv(records: Iterable[RunRecord]) -> str:
    """Write a row per run and test set: the facts of the run and every measure.

    Parameters
    ----------
    records : iterable of RunRecord
        In the order of the experiment; the first one's method is compared with each other one.

    Returns
    -------
    str
        CSV. Accuracies stand at full precision, other measures with six digits; empty where the
        run has no such measure, ``nan`` where it could not be taken. Uncertainty scores are
        measures with dotted names, such as ``errors.own.auroc`` (errors of clean rows only);
        ``checkpoint.50`` is the accuracy after 50 epochs. ``bin_gaps``, on clean rows, holds
        confidence minus right answers, summed over the rows of each bin of confidence;
        ``measured_with`` the versions, in the first of the rows that share them.
    """
    records = list(records)
    given = _given(records)
    rows, names, versions = [], dict[str, None](), ""
    for record in records:
        stated = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        for row in _rows_of(record, given=record.dataset in given):
            if stated != versions:
                row["measured_with"] = versions = stated
            rows.append(row)
            names.update(dict.fromkeys(name for name in row if name not in FACTS))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*FACTS, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _rows_of(record: RunRecord, *, given: bool) -> Iterator[dict[str, str]]:
    """Rows of one run, by test set in the order of its protocol."""
    planned: Sequence[str] = record.protocol.get("test_sets", ())
    named = dict.fromkeys([*planned, *record.metrics, *record.failures])
    for test_set in named:
        measures = dict(record.metrics.get(test_set, {}))
        if test_set not in record.metrics and test_set not in record.failures:
            continue
        for task, scores in record.scores.get(test_set, {}).items():
            if task != "errors" or test_set == "clean":
                for score, values in scores.items():
                    measures |= {f"{task}.{score}.{name}": x for name, x in values.items()}
        for epoch, accuracy in record.checkpoints.items():
            if test_set in accuracy:
                measures[f"{EPOCH}.{epoch}"] = accuracy[test_set]
        facts = {
            "dataset": record.dataset,
            "method": record.method,
            "variant": record.variant,
            "test_set": test_set,
            "seed": str(record.seed),
            "train_rows": str(record.train_rows),
            "test_rows": str(record.test_rows),
            "default": str(int(record.default)),
            "leaky": str(int(record.leaky)),
            "given_split": str(int(given)),
            "seconds": f"{sum(record.timing.values()):.4g}",
            "failure": record.failures.get(test_set, ""),
        }
        if test_set == "clean" and test_set in record.bins:
            facts["bin_gaps"] = _gaps(record.bins[test_set])
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


def _gaps(bins: Mapping[str, Sequence[float]]) -> str:
    pairs = zip(bins["confidence"], bins["correct"], strict=True)
    return " ".join(f"{confidence - correct:.6g}" for confidence, correct in pairs)


def _shown(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "nan"
    # counts of right answers must come back exactly, as equal runs are ties
    return repr(float(value)) if name.startswith("acc") or EPOCH in name else f"{value:.6g}"


def read_runs_csv(text: str) -> list[RunRecord]:
    """Read a table of `runs_csv` as records of the facts and measures that it holds.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of RunRecord
        In the order of the file; `run` counts the seeds.

    Raises
    ------
    DataError
        If the text is no such table, or a value is no number.
    """
    reader = csv.DictReader(io.StringIO(text), strict=True)
    try:
        if not set(FACTS) <= set(reader.fieldnames or ()):
            missing = next(name for name in FACTS if name not in (reader.fieldnames or ()))
            raise DataError(
                f"this is no table of runs: it has no column {missing!r}; write it again with "
                "`rcml-misa experiment FILE`."
            )
        runs: dict[tuple[str, str, str, int], list[_Row]] = {}
        for cells in reader:
            if None in cells or None in cells.values():
                raise ValueError("too many or too few cells")
            row = _parsed(cells)
            key = (cells["dataset"], cells["method"], cells["variant"], row.numbers["seed"])
            runs.setdefault(key, []).append(row)
        seeds = sorted({seed for *_, seed in runs})
        versions: dict[str, str] = {}
        records = []
        for rows in runs.values():
            versions = next((row.versions for row in rows if row.versions), versions)
            records.append(_record(rows, seeds.index(rows[0].numbers["seed"]), versions))
        return records
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"line {reader.line_num} of this table of runs can't be read ({error}); write it again "
            "with `rcml-misa experiment FILE`."
        ) from error


@dataclass(frozen=True)
class _Row:
    """A row of the table: its facts as text and as numbers, and its measures."""

    facts: Mapping[str, str]
    numbers: Mapping[str, int]
    seconds: float
    versions: dict[str, str]
    gaps: list[float]
    measures: dict[str, float]


def _parsed(cells: Mapping[str, str]) -> _Row:
    numbers = ("seed", "train_rows", "test_rows", "default", "leaky", "given_split")
    parts = (part.rpartition(" ") for part in cells["measured_with"].split(", "))
    return _Row(
        facts={name: cells[name] for name in FACTS},
        numbers={name: int(cells[name]) for name in numbers},
        seconds=float(cells["seconds"]),
        versions={name: number for name, _, number in parts if name},
        gaps=[float(gap) for gap in cells["bin_gaps"].split()],
        measures={n: float(value) for n, value in cells.items() if n not in FACTS and value},
    )


def _record(rows: Sequence[_Row], run: int, versions: Mapping[str, str]) -> RunRecord:
    """One run of its rows, one for each test set."""
    metrics: dict[str, dict[str, float]] = {}
    scores: dict[str, dict[str, Any]] = {}
    checkpoints: dict[str, dict[str, float]] = {}
    bins: dict[str, dict[str, list[float]]] = {}
    facts, numbers = rows[0].facts, rows[0].numbers
    for row in rows:
        test_set = row.facts["test_set"]
        if row.measures:
            metrics[test_set], scores[test_set] = {}, {}
        for name, value in row.measures.items():
            start, *rest = name.split(".")
            if start == EPOCH:
                checkpoints.setdefault(".".join(rest), {})[test_set] = value
            elif start in SCORES and rest:
                score = ".".join(rest[:-1])
                scores[test_set].setdefault(start, {}).setdefault(score, {})[rest[-1]] = value
            else:
                metrics[test_set][name] = value
        if row.gaps:
            zeros = [0.0] * len(row.gaps)
            counts = [float(row.numbers["test_rows"]), *zeros[1:]]
            bins[test_set] = {"count": counts, "confidence": row.gaps, "correct": zeros}
    names = [row.facts["test_set"] for row in rows]
    return RunRecord(
        dataset=facts["dataset"],
        method=facts["method"],
        variant=facts["variant"],
        default=bool(numbers["default"]),
        run=run,
        seed=numbers["seed"],
        config={"leaky": bool(numbers["leaky"])},
        versions=versions,
        data_sha256="",
        train_rows=numbers["train_rows"],
        test_rows=numbers["test_rows"],
        metrics=metrics,
        timing={"seconds": rows[0].seconds},
        bins=bins,
        protocol={
            "split": "given" if numbers["given_split"] else "drawn",
            "test_sets": [name for name in names if name != VALID],
        },
        scores=scores,
        checkpoints=checkpoints,
        failures={
            row.facts["test_set"]: row.facts["failure"] for row in rows if row.facts["failure"]
        },
    )
