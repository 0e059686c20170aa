"""Two variants on the same runs: paired differences, McNemar's test, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rcml_misa.exceptions import DataError
from rcml_misa.results.records import RunRecord

__all__ = ["LOWER_IS_BETTER", "McNemar", "PairedComparison", "compare", "holm", "mcnemar"]

IntervalKind = Literal["nadeau-bengio", "student"]

#: Measures of which a lower value is better.
LOWER_IS_BETTER = frozenset(
    {
        *("mae", "nll", "brier", "ece", "adaptive_ece", "pooled_ece", "aurc", "augrc", "ause"),
        *("width", "conformal_size", "temperature_nll", "temperature_ece"),
        *("conflict_fpr95", "conflict_fpr95_degree"),
    }
)


@dataclass(frozen=True)
class PairedComparison:
    """First minus second over the runs that both have.

    Attributes
    ----------
    dataset, test_set, measure : str
    first, second : str
        Labels of the two variants.
    difference : float
        Mean difference of the measure (of accuracy, a fraction).
    low, high : float
        95 % interval of the mean difference; NaN for a single run.
    p : float
        Two-sided p of the t test that belongs to the interval; NaN for a single run.
    p_wilcoxon : float
        Two-sided p of Wilcoxon's signed ranks; 1 where no run differs, NaN for a single run.
    wins, losses : int
        Runs in which the first is better, worse; lower is better for `LOWER_IS_BETTER`.
    interval : {"nadeau-bengio", "student"}
        Nadeau and Bengio's corrected interval where each run draws its split; Student's t over the
        seeds where the split is given: it tells of the chance in training, not of that of the test
        rows.
    """

    dataset: str
    test_set: str
    measure: str
    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    p_wilcoxon: float
    wins: int
    losses: int
    interval: IntervalKind = "nadeau-bengio"

    def as_dict(self) -> dict[str, Any]:
        """Fields of the comparison in JSON; ``p_corrected`` is the name that 0.1 gave to `p`."""
        return {**asdict(self), "p_corrected": self.p}


def _pairs(
    first: Sequence[RunRecord], second: Sequence[RunRecord]
) -> list[tuple[RunRecord, RunRecord]]:
    """Pair the runs that both variants have, by seed."""
    others = {record.seed: record for record in second}
    return [(record, others[record.seed]) for record in first if record.seed in others]


def _interval_kind(records: Sequence[RunRecord]) -> IntervalKind:
    """Student's t where all runs share the data set's own split, and so their train rows."""
    if all(record.protocol.get("split") == "given" for record in records):
        return "student"
    rows = {tuple(record.rows) for record in records}
    return "student" if len(records) > 1 and len(rows) == 1 and any(rows) else "nadeau-bengio"


def _t_test(gaps: NDArray[np.float64], error: float) -> tuple[float, float, float]:
    """Interval and p of the mean of paired differences with that standard error."""
    mean, freedom = float(gaps.mean()), len(gaps) - 1
    if error == 0:
        return mean, mean, float(mean == 0)
    half = float(stats.t.ppf(0.975, freedom)) * error
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom))


def compare(
    first: Sequence[RunRecord],
    second: Sequence[RunRecord],
    *,
    test_set: str,
    measure: str = "accuracy",
) -> PairedComparison:
    """Compare two variants over the runs that both have, by accuracy or another measure.

    Parameters
    ----------
    first, second : sequence of RunRecord
        Runs of one variant each; they are paired by seed.
    test_set : str
    measure : str
        Key of the records' metrics.

    References
    ----------
    Nadeau and Bengio, Machine Learning 52, 2003: the variance of the mean difference over R
    random splits is (1/R + n_test/n_train) times the sample variance.

    Raises
    ------
    DataError
        If the two share no run with that measure.
    """
    pairs = [
        pair
        for pair in _pairs(first, second)
        if all(measure in record.metrics.get(test_set, {}) for record in pair)
    ]
    if not pairs:
        names = [group[0].label if group else "nothing" for group in (first, second)]
        raise DataError(
            f"{names[0]} and {names[1]} share no run with {measure} on {test_set!r} rows, so they "
            "can't be compared in pairs; use equal seeds."
        )
    gaps = np.array([a.metrics[test_set][measure] - b.metrics[test_set][measure] for a, b in pairs])
    head, other = pairs[0]
    kind = _interval_kind([record for record, _ in pairs])
    runs = len(gaps)
    low = high = p = p_wilcoxon = math.nan
    if runs > 1:
        if kind == "student":
            error = float(gaps.std(ddof=1)) / math.sqrt(runs)
        else:
            ratio = head.test_rows / head.train_rows
            error = math.sqrt((1 / runs + ratio) * float(gaps.var(ddof=1)))
        low, high, p = _t_test(gaps, error)
        # rounding must not break ties between equal differences
        rounded = gaps.round(12)
        p_wilcoxon = float(stats.wilcoxon(rounded).pvalue) if rounded.any() else 1.0
    better = -gaps if measure in LOWER_IS_BETTER else gaps
    return PairedComparison(
        dataset=head.dataset,
        test_set=test_set,
        measure=measure,
        first=head.label,
        second=other.label,
        difference=float(gaps.mean()),
        low=low,
        high=high,
        p=p,
        p_wilcoxon=p_wilcoxon,
        wins=int((better > 0).sum()),
        losses=int((better < 0).sum()),
        interval=kind,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction for several tests; NaN stays NaN.

    Examples
    --------
    >>> holm([0.01, 0.04])
    [0.02, 0.04]
    """
    order = [index for index, p in enumerate(p_values) if not math.isnan(p)]
    order.sort(key=lambda index: p_values[index])
    corrected, highest = [math.nan] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected


@dataclass(frozen=True)
class McNemar:
    """Rows that one of two classifiers has right and the other wrong.

    Attributes
    ----------
    only_first, only_second : int
        Rows that the first, the second alone has right.
    p : float
        Two-sided p of the exact test that both are as likely.
    rows : int
        Rows that both answered.
    """

    only_first: int
    only_second: int
    p: float
    rows: int


def mcnemar(
    first: Sequence[RunRecord], second: Sequence[RunRecord], *, test_set: str = "clean"
) -> McNemar:
    """Test two classifiers by McNemar's exact test, within a run or over the folds of a k-fold.

    Parameters
    ----------
    first, second : sequence of RunRecord
        One run each, or runs whose test rows are disjoint: then the rows are pooled. Runs are
        paired by seed.
    test_set : str

    References
    ----------
    McNemar, Psychometrika 12, 1947; Dietterich, Approximate statistical tests for comparing
    supervised classification learning algorithms, Neural Computation 10, 1998, section 3.1.

    Raises
    ------
    DataError
        If the runs share no test rows between the two, or share them with each other: rows that
        count twice are not independent.
    """
    pairs = [
        pair for pair in _pairs(first, second) if all(test_set in record.correct for record in pair)
    ]
    if not pairs or any(list(a.rows) != list(b.rows) for a, b in pairs):
        raise DataError("the two variants share no run on the same test rows.")
    rows = np.concatenate([np.asarray(record.rows) for record, _ in pairs])
    if len(np.unique(rows)) < len(rows):
        raise DataError(
            "these runs test some rows more than once, so McNemar's test can't pool them; give it "
            "one run, or the folds of one partition."
        )
    a, b = (
        np.array([digit == "1" for pair in pairs for digit in pair[side].correct[test_set]])
        for side in (0, 1)
    )
    won, lost = int((a & ~b).sum()), int((b & ~a).sum())
    p = float(stats.binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return McNemar(won, lost, p, len(rows))
