"""Values of every run as one CSV, from which all pages of an experiment can be made again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    rows, names, versions = [], dict[str, None](), ""
    for record in records:
        stated = ", ".join(f"{name} {number}" for name, number in record.versions.items())
        for row in _rows_of(record):
            if stated != versions:
                row["measured_with"] = versions = stated
            rows.append(row)
            names.update(dict.fromkeys(name for name in row if name not in FACTS))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*FACTS, *names], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _rows_of(record: RunRecord) -> Iterator[dict[str, str]]:
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
            "given_split": str(int(_is_given(record))),
            "seconds": f"{sum(record.timing.values()):.4g}",
            "failure": record.failures.get(test_set, ""),
        }
        if test_set == "clean" and test_set in record.bins:
            facts["bin_gaps"] = _gaps(record.bins[test_set])
        yield facts | {name: _shown(name, value) for name, value in measures.items()}


def _is_given(record: RunRecord) -> bool:
    """Whether the data set brought its split; 0.1 wrote no numbers of rows for such runs."""
    early = record.versions.get("rcml-misa", "").startswith("0.1.")
    return record.protocol.get("split") == "given" or (early and not record.rows)


def _gaps(bins: Mapping[str, Sequence[float]]) -> str:
    pairs = zip(bins["confidence"], bins["correct"], strict=True)
    return " ".join(f"{confidence - correct:.6g}" for confidence, correct in pairs)


def _shown(name: str, value: float | None) -> str:
    if value is None or math.isnan(value):
        return "nan"
    # counts of right answers must come back exactly, as equal runs are ties
    return repr(float(value)) if name.startswith("acc") or EPOCH in name else f"{value:.6g}"


def read_runs_csv(text: str) -> list[RunRecord]:
    """Read what `runs_csv` wrote, as records of the facts and measures that it holds.

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
        runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
        for row in reader:
            key = tuple(row[name] for name in ("dataset", "method", "variant", "seed"))
            runs.setdefault(key, []).append(row)
        seeds = sorted({int(seed) for *_, seed in runs})
        versions: dict[str, str] = {}
        records = []
        for rows in runs.values():
            versions = next((_versions(row) for row in rows if row["measured_with"]), versions)
            records.append(_record(rows, seeds.index(int(rows[0]["seed"])), versions))
        return records
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, csv.Error) as error:
        raise DataError(
            f"line {reader.line_num} of this table of runs can't be read ({error}); write it again "
            "with `rcml-misa experiment FILE`."
        ) from error


def _versions(row: Mapping[str, str]) -> dict[str, str]:
    """Versions by name, of text such as ``python 3.11.7, numpy 2.4.6``."""
    parts = (part.rpartition(" ") for part in row["measured_with"].split(", "))
    return {name: number for name, _, number in parts}


def _record(rows: Sequence[Mapping[str, str]], run: int, versions: Mapping[str, str]) -> RunRecord:
    """One run of its rows, one for each test set."""
    metrics: dict[str, dict[str, float]] = {}
    scores: dict[str, dict[str, Any]] = {}
    checkpoints: dict[str, dict[str, float]] = {}
    bins: dict[str, dict[str, list[float]]] = {}
    first = rows[0]
    for row in rows:
        test_set = row["test_set"]
        measures = {
            name: float(value) for name, value in row.items() if name not in FACTS and value
        }
        if measures:
            metrics[test_set], scores[test_set] = {}, {}
        for name, value in measures.items():
            start, *rest = name.split(".")
            if start == EPOCH:
                checkpoints.setdefault(rest[0], {})[test_set] = value
            elif start in SCORES and rest:
                score = ".".join(rest[:-1])
                scores[test_set].setdefault(start, {}).setdefault(score, {})[rest[-1]] = value
            else:
                metrics[test_set][name] = value
        if row["bin_gaps"]:
            gaps = [float(gap) for gap in row["bin_gaps"].split()]
            zeros = [0.0] * len(gaps)
            counts = [float(row["test_rows"]), *zeros[1:]]
            bins[test_set] = {"count": counts, "confidence": gaps, "correct": zeros}
    sets = [row["test_set"] for row in rows if row["test_set"] != VALID]
    return RunRecord(
        dataset=first["dataset"],
        method=first["method"],
        variant=first["variant"],
        default=first["default"] == "1",
        run=run,
        seed=int(first["seed"]),
        config={"leaky": first["leaky"] == "1"},
        versions=versions,
        data_sha256="",
        train_rows=int(first["train_rows"]),
        test_rows=int(first["test_rows"]),
        metrics=metrics,
        timing={"seconds": float(first["seconds"])},
        bins=bins,
        protocol={
            "split": "given" if first["given_split"] == "1" else "random",
            "test_sets": sets,
        },
        scores=scores,
        checkpoints=checkpoints,
        failures={row["test_set"]: row["failure"] for row in rows if row["failure"]},
    )
