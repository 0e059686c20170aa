"""Records of the runs of one variant, taken together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rcml_misa.results.records import RunRecord, label

__all__ = ["SummaryRow", "mean_scores", "summarise"]


@dataclass(frozen=True)
class SummaryRow:
    """The runs of one variant on one test set: accuracies (fractions) and their moments.

    `var` and `std` are the population's (divided by R), as in the notes. `measures` are means over
    the runs that could take them; `leaky` says that test rows decided something.
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
    leaky: bool = False

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several, and a mark if it leaks."""
        return label(self.method, self.variant, leaky=self.leaky)


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
    """Aggregate records to a row per variant and test set, in the order of first appearance.

    A test set that a method could not answer about in some run has a row of the other runs, or
    none.
    """
    rows = []
    for (dataset, method, variant), every in _groups(records).items():
        seconds = float(np.median([sum(record.timing.values()) for record in every]))
        for test_set in dict.fromkeys(name for record in every for name in record.metrics):
            group = [record for record in every if test_set in record.metrics]
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
                    any(record.leaky for record in group),
                )
            )
    return rows


def mean_scores(
    records: Sequence[RunRecord], *, test_set: str, task: str
) -> dict[str, dict[str, float]]:
    """Mean over runs of how each uncertainty score ranks; the scores that every run has.

    Parameters
    ----------
    records : sequence of RunRecord
        Of one variant.
    test_set : str
    task : {"errors", "altered", "held_out"}
        What is told apart.

    Returns
    -------
    dict of str to dict of str to float
        Score to ``auroc``, ``aupr`` and ``fpr95``; empty where no run has any.
    """
    found = [record.scores.get(test_set, {}).get(task, {}) for record in records]
    kept = [one for one in found if one]
    names = [name for name in (kept[0] if kept else ()) if all(name in one for one in kept)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # runs without an error to find
        return {
            name: {
                measure: float(np.nanmean([one[name][measure] for one in kept]))
                for measure in kept[0][name]
            }
            for name in names
        }
