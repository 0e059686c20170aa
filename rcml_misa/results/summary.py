"""Summary of records over runs: a row per variant and test set."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rcml_misa.results.records import AFTER_SCALING, RunRecord, variant_label

__all__ = ["SummaryRow", "mean_scores", "summarise"]


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
        return variant_label(self.method, self.variant, leaky=self.leaky)

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
