"""Records of runs, written whole or not at all; their aggregation and paired statistics."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
from scipy import stats

from rcml_misa.exceptions import DataError

__all__ = [
    "PairedComparison",
    "RunRecord",
    "RunStore",
    "SummaryRow",
    "compare",
    "holm",
    "plain",
    "summarise",
    "write_atomic",
]

SCHEMA = 1
TEST_SETS = ("clean", "conflict")


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training of one variant, and what it scored.

    Attributes
    ----------
    dataset, method, variant : str
    default : bool
        Whether this variant is the method's recommended one.
    run, seed : int
        Number from 0, and the seed of split, corruption and model.
    config : dict
        The estimator's full parameters.
    versions : dict
        Of the package, Python and its libraries.
    data_sha256 : str
        Of the data file.
    train_rows, test_rows : int
    metrics : dict
        Test set ("clean" or "conflict") to measure to value; accuracy is a fraction.
    bins : dict
        Test set to ``count``, ``confidence`` and ``correct``, sums over equal bins of confidence.
    timing : dict
        ``fit_seconds`` and ``predict_seconds``.
    history : dict
        Loss terms per epoch.
    """

    dataset: str
    method: str
    variant: str
    default: bool
    run: int
    seed: int
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    data_sha256: str
    train_rows: int
    test_rows: int
    metrics: Mapping[str, Mapping[str, float]]
    timing: Mapping[str, float]
    bins: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several."""
        return self.method if self.variant == "-" else f"{self.method} {self.variant}"

    def to_json(self) -> str:
        """Strict JSON; NaN becomes null."""
        return json.dumps(plain(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; null metrics become NaN.

        Raises
        ------
        DataError
            If the text is no record of this schema.
        """
        try:
            fields = json.loads(text)
            if fields["schema"] != SCHEMA:
                raise DataError(f"a run's record has schema {fields['schema']}, not {SCHEMA}.")
            fields["metrics"] = {
                part: {name: math.nan if value is None else value for name, value in one.items()}
                for part, one in fields["metrics"].items()
            }
            return cls(**fields)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(f"this is not a run's record: {error}.") from error


def plain(value: Any) -> Any:
    """Make a value that strict JSON can hold: NaN becomes None, tuples lists, objects text.

    Examples
    --------
    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def write_atomic(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises
    ------
    DataError
        If the folder is full, read-only or missing.
    """
    temporary = path.with_name(f".writing-{uuid4().hex}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise DataError(
            f"{path} can't be written ({reason}); free some space or give another --out folder."
        ) from error


class RunStore:
    """A folder of run records, one JSON file each.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.

    Raises
    ------
    DataError
        If the folder can't be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".probe"
            probe.write_text("x", encoding="utf-8")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(
                f"the output folder {folder} can't be written to ({reason}); give another --out."
            ) from error

    def write(self, record: RunRecord) -> Path:
        """Keep one record; an earlier one of the same run is replaced."""
        name = f"{record.dataset}-{record.method}-{record.variant}-seed{record.seed}.json"
        path = self.folder / name.replace("/", "_")
        write_atomic(path, record.to_json())
        return path

    def read(self) -> list[RunRecord]:
        """All records of the folder, by file name."""
        paths = sorted(self.folder.glob("*-seed*.json"))
        return [RunRecord.from_json(path.read_text(encoding="utf-8")) for path in paths]


@dataclass(frozen=True)
class SummaryRow:
    """The runs of one variant on one test set: accuracies (fractions) and their moments.

    `var` and `std` are the population's (divided by R), as in the notes.
    """

    dataset: str
    method: str
    variant: str
    test_set: str
    default: bool
    accuracy: tuple[float, ...]
    mean: float
    var: float
    std: float
    seconds_per_run: float
    measures: Mapping[str, float]

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several."""
        return self.method if self.variant == "-" else f"{self.method} {self.variant}"


def _groups(records: Iterable[RunRecord]) -> dict[tuple[str, str, str], list[RunRecord]]:
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.method, record.variant), []).append(record)
    return {key: sorted(group, key=lambda one: one.run) for key, group in groups.items()}


def _mean_measures(group: Sequence[RunRecord], test_set: str) -> dict[str, float]:
    names = dict.fromkeys(name for record in group for name in record.metrics[test_set])
    values = {name: [r.metrics[test_set].get(name, math.nan) for r in group] for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a measure that no run could take
        return {name: float(np.nanmean(found)) for name, found in values.items()}


def _pooled_ece(group: Sequence[RunRecord], test_set: str) -> float:
    """Expected calibration error over the rows of all runs together."""
    bins = [record.bins[test_set] for record in group if test_set in record.bins]
    if not bins:
        return math.nan
    count, sure, right = (
        np.sum([one[name] for one in bins], axis=0) for name in ("count", "confidence", "correct")
    )
    return float(np.abs(sure - right).sum() / count.sum())


def summarise(records: Iterable[RunRecord]) -> list[SummaryRow]:
    """Aggregate records to a row per variant and test set, in the order of first appearance."""
    rows = []
    for (dataset, method, variant), group in _groups(records).items():
        seconds = float(np.median([sum(record.timing.values()) for record in group]))
        for test_set in TEST_SETS:
            found = np.array([record.metrics[test_set]["accuracy"] for record in group])
            rows.append(
                SummaryRow(
                    dataset,
                    method,
                    variant,
                    test_set,
                    group[0].default,
                    tuple(float(value) for value in found),
                    float(found.mean()),
                    float(found.var()),
                    float(found.std()),
                    seconds,
                    {**_mean_measures(group, test_set), "pooled_ece": _pooled_ece(group, test_set)},
                )
            )
    return rows


@dataclass(frozen=True)
class PairedComparison:
    """First minus second over the same splits.

    Attributes
    ----------
    difference : float
        Mean difference of accuracy (a fraction).
    low, high : float
        Nadeau and Bengio's corrected 95 % interval; NaN for a single run.
    p_corrected : float
        Two-sided p of the corrected t test.
    p_wilcoxon : float
        Two-sided p of Wilcoxon's signed ranks; 1 where no run differs.
    wins, losses : int
        Runs in which the first is better, worse.
    """

    dataset: str
    test_set: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p_corrected: float
    p_wilcoxon: float
    wins: int
    losses: int


def _corrected(gaps: np.ndarray, ratio: float) -> tuple[float, float, float]:
    """Interval and p of the mean of paired differences with Nadeau and Bengio's variance."""
    runs, mean = len(gaps), float(gaps.mean())
    if runs < 2:
        return math.nan, math.nan, math.nan
    spread = math.sqrt((1 / runs + ratio) * float(gaps.var(ddof=1)))
    if spread == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    half = float(stats.t.ppf(0.975, runs - 1)) * spread
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / spread, runs - 1))


def compare(
    first: Sequence[RunRecord], second: Sequence[RunRecord], *, test_set: str
) -> PairedComparison:
    """Compare two variants' accuracies over the runs that both have.

    References
    ----------
    Nadeau and Bengio, Machine Learning 52, 2003: the variance of the mean difference over R
    random splits is (1/R + n_test/n_train) times the sample variance.

    Raises
    ------
    DataError
        If the two share no run.
    """
    others = {record.seed: record for record in second}
    pairs = [(one, others[one.seed]) for one in first if one.seed in others]
    if not pairs:
        raise DataError("the two variants share no run, so they can't be compared in pairs.")
    gaps = np.array(
        [a.metrics[test_set]["accuracy"] - b.metrics[test_set]["accuracy"] for a, b in pairs]
    )
    one, two = pairs[0]
    low, high, p = _corrected(gaps, one.test_rows / one.train_rows)
    ranked = 1.0
    if np.any(gaps != 0) and len(gaps) > 1:
        # rounding must not break ties between equal differences
        ranked = float(stats.wilcoxon(gaps.round(12)).pvalue)
    return PairedComparison(
        one.dataset,
        test_set,
        one.label,
        two.label,
        float(gaps.mean()),
        low,
        high,
        p,
        ranked,
        int((gaps > 0).sum()),
        int((gaps < 0).sum()),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests; NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    known = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    order = sorted(known, key=lambda index: p_values[index])
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
