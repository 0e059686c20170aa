"""Records of runs, written whole or not at all, and their summary over runs."""

from __future__ import annotations

import json
import math
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from rcml_misa.exceptions import DataError
from rcml_misa.storage import write_text

__all__ = [
    "AFTER_SCALING",
    "LEAKS",
    "RunRecord",
    "RunStore",
    "SummaryRow",
    "mean_scores",
    "plain",
    "record_stem",
    "summarise",
]

SCHEMA = 2
LEAKS = "†"  # marks what test rows had a say in
AFTER_SCALING = " after scaling"  # ends a test set's name where its bins are of scaled answers


def _label(method: str, variant: str, *, leaky: bool) -> str:
    """Name a variant in a table: the method, its variant if it has some, a mark if it leaks."""
    words = [method, *([variant] if variant != "-" else []), *([LEAKS] if leaky else [])]
    return " ".join(words)


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training of one variant, and its scores.

    Every record has every field. Where scores are predicted, the fields about classes (`bins`,
    `correct`, `scores`, `curves`) are empty, and ``"valid"`` stands among the test sets of
    `metrics` for the rows held back.

    Attributes
    ----------
    dataset, method, variant : str
    default : bool
        Whether this variant is the method's recommended one.
    run, seed : int
        Number from 0, and the seed of split, corruption and model.
    config, versions : dict
        The estimator's full parameters; versions of the package, Python and its libraries.
    data_sha256 : str
        Checksum of the data file.
    train_rows, test_rows : int
    metrics : dict
        Test set to measure to value; accuracy is a fraction.
    timing, history : dict
        ``fit_seconds`` and ``predict_seconds``; loss terms per epoch.
    bins : dict
        Test set to ``count``, ``confidence`` and ``correct``, sums over equal bins of confidence;
        with `AFTER_SCALING` behind its name those after temperature scaling on rows held back.
    protocol : dict
        The whole protocol, its split settled for the data set.
    rows : list of int
        Numbers of the test rows.
    correct : dict of str to str
        Test set to one digit per test row, 1 where the answer is right.
    scores : dict
        Test set to the rows to be told apart (``errors``, ``altered``, ``held_out``), to
        uncertainty score, to ``auroc``, ``aupr`` and ``fpr95``.
    curves : dict
        Test set to the risk at each of `rcml_misa.metrics.answers.COVERAGES`.
    checkpoints : dict
        Epoch to test set to accuracy.
    chosen : dict
        ``valid``, or test sets for ``best-test-epoch``, to the epoch that counts.
    failures : dict
        Test set to the sentence that says why there is no answer.
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
    protocol: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[int] = field(default_factory=list)
    correct: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = field(
        default_factory=dict
    )
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """Method, variant where there are several, and a mark if test rows decided anything."""
        return _label(self.method, self.variant, leaky=self.leaky)

    @property
    def leaky(self) -> bool:
        """Whether test rows decided anything, by scaling or by selection."""
        chosen = self.protocol.get("selection") == "best-test-epoch"
        return bool(self.config.get("leaky")) or chosen

    def to_json(self) -> str:
        """Write strict JSON; NaN becomes null."""
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
                raise DataError(
                    f"a run's record has schema {fields['schema']}, not {SCHEMA}: another version "
                    "wrote it; give another folder of records."
                )
            for name in ("metrics", "scores"):
                fields[name] = _with_nan(fields[name])
            return cls(**fields)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(f"this is not a run's record: {error}.") from error


def _with_nan(value: Any) -> Any:
    """Turn the nulls of nested mappings into NaN again."""
    if isinstance(value, Mapping):
        return {name: _with_nan(part) for name, part in value.items()}
    return math.nan if value is None else value


def plain(value: Any) -> Any:
    """Make a value that strict JSON can hold: NaN becomes None, tuples lists, objects text.

    Examples
    --------
    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def record_stem(dataset: str, method: str, variant: str, seed: int) -> str:
    """Name a run's files, without their endings.

    Examples
    --------
    >>> record_stem("PIE", "my.module:Mine", "-", 0)
    'PIE-my.module_Mine---seed0'
    """
    return re.sub(r"[/:]", "_", f"{dataset}-{method}-{variant}-seed{seed}")


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
        """Write one record; an earlier one of the same run is replaced."""
        name = record_stem(record.dataset, record.method, record.variant, record.seed)
        path = self.folder / f"{name}.json"
        write_text(path, record.to_json(), remedy="free some space or give another --out folder")
        return path

    def read(self) -> list[RunRecord]:
        """Read all records of the folder, by file name."""
        paths = sorted(self.folder.glob("*-seed*.json"))
        return [RunRecord.from_json(path.read_text(encoding="utf-8")) for path in paths]


@dataclass(frozen=True, kw_only=True)
class SummaryRow:
    """Runs of one variant on one test set: every measure's values and their moments.

    Attributes
    ----------
    dataset, method, variant, test_set : str
    default, leaky : bool
        Whether this variant is the method's recommended one; whether test rows decided anything.
    seconds_per_run : float
        Median over all runs of the variant.
    values : mapping of str to tuple of float
        Measure to one value per run, in the order of the runs; NaN where a run lacks it.
    pooled_ece : float
        Expected calibration error over the rows of all runs together; NaN without bins.
    pooled_temperature_ece : float
        The same after temperature scaling; NaN where no rows were held back for that.

    Examples
    --------
    >>> row = SummaryRow(dataset="digits", method="lda", values={"accuracy": (0.5, 1.0)})
    >>> row.runs, row.label, row.mean, row.moments("accuracy")
    (2, 'lda', 0.75, (0.75, 0.0625, 0.25))
    """

    dataset: str
    method: str
    variant: str = "-"
    test_set: str = "clean"
    default: bool = False
    leaky: bool = False
    seconds_per_run: float = math.nan
    values: Mapping[str, tuple[float, ...]]
    pooled_ece: float = math.nan
    pooled_temperature_ece: float = math.nan

    @property
    def runs(self) -> int:
        """Number of runs that answered about this test set."""
        return max(map(len, self.values.values()), default=0)

    @property
    def label(self) -> str:
        """Method, variant where there are several, and a mark if test rows decided anything."""
        return _label(self.method, self.variant, leaky=self.leaky)

    def moments(self, measure: str) -> tuple[float, float, float]:
        """Mean, population variance and population standard deviation over the runs."""
        values = np.array(self.values.get(measure) or (math.nan,))
        return float(values.mean()), float(values.var()), float(values.std())

    @property
    def accuracy(self) -> tuple[float, ...]:
        """Accuracy of each run, a fraction; empty where scores are predicted."""
        return tuple(self.values.get("accuracy", ()))

    @property
    def mean(self) -> float:
        """Mean accuracy; NaN where scores are predicted."""
        return self.moments("accuracy")[0]

    @property
    def var(self) -> float:
        """Population variance of accuracy (divided by the number of runs)."""
        return self.moments("accuracy")[1]

    @property
    def std(self) -> float:
        """Population standard deviation of accuracy."""
        return self.moments("accuracy")[2]

    @property
    def measures(self) -> dict[str, float]:
        """Mean of each measure over the runs that could take it, and the pooled errors."""
        means = {name: _nanmean(values) for name, values in self.values.items()}
        means["pooled_ece"] = self.pooled_ece
        if not math.isnan(self.pooled_temperature_ece):
            means["pooled_temperature_ece"] = self.pooled_temperature_ece
        return means

    def as_dict(self) -> dict[str, Any]:
        """Fields of the row in the JSON of ``run`` and ``compare``."""
        names = "dataset method variant test_set default leaky runs seconds_per_run"
        moments = "accuracy mean var std measures"
        return {name: getattr(self, name) for name in f"{names} {moments}".split()}


def _nanmean(values: Sequence[float]) -> float:
    """Average the values of the runs that have one; NaN where none has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return float(np.nanmean(values))


def _pooled_ece(group: Sequence[RunRecord], test_set: str) -> float:
    """Expected calibration error over the rows of all runs together."""
    bins = [record.bins[test_set] for record in group if test_set in record.bins]
    if not bins:
        return math.nan
    count, confidence, correct = (
        np.sum([sums[name] for sums in bins], axis=0) for name in ("count", "confidence", "correct")
    )
    return float(np.abs(confidence - correct).sum() / count.sum())


def summarise(records: Iterable[RunRecord]) -> list[SummaryRow]:
    """Aggregate records to a row per variant and test set, in the order of first appearance.

    A test set that a method could not answer about in some run has a row of the other runs.
    """
    groups: dict[tuple[str, str, str], list[RunRecord]] = {}
    for record in records:
        groups.setdefault((record.dataset, record.method, record.variant), []).append(record)
    rows = []
    for (dataset, method, variant), runs in groups.items():
        every = sorted(runs, key=lambda record: record.run)
        seconds = float(np.median([sum(record.timing.values()) for record in every]))
        for test_set in dict.fromkeys(name for record in every for name in record.metrics):
            group = [record for record in every if test_set in record.metrics]
            metrics = [record.metrics[test_set] for record in group]
            names = dict.fromkeys(name for measures in metrics for name in measures)
            rows.append(
                SummaryRow(
                    dataset=dataset,
                    method=method,
                    variant=variant,
                    test_set=test_set,
                    default=group[0].default,
                    leaky=any(record.leaky for record in group),
                    seconds_per_run=seconds,
                    values={
                        name: tuple(float(measures.get(name, math.nan)) for measures in metrics)
                        for name in names
                    },
                    pooled_ece=_pooled_ece(group, test_set),
                    pooled_temperature_ece=_pooled_ece(group, test_set + AFTER_SCALING),
                )
            )
    return rows


def mean_scores(
    records: Sequence[RunRecord], *, test_set: str, task: str
) -> dict[str, dict[str, float]]:
    """Average ``auroc``, ``aupr`` and ``fpr95`` of each uncertainty score over a variant's runs.

    The task is ``errors``, ``altered`` or ``held_out``, rows to be told apart from the others; the
    scores are those of every run that has any.
    """
    every = [record.scores.get(test_set, {}).get(task, {}) for record in records]
    rankings = [ranking for ranking in every if ranking]
    return {
        score: {
            measure: _nanmean([ranking[score][measure] for ranking in rankings])
            for measure in measures
        }
        for score, measures in (rankings[0] if rankings else {}).items()
        if all(score in ranking for ranking in rankings)
    }
