"""Tests of variants on the same runs, by pairs, and of methods over many data sets, by ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rcml_misa.exceptions import DataError
from rcml_misa.results.records import RunRecord

__all__ = [
    "LOWER_IS_BETTER",
    "PairedComparison",
    "Ranking",
    "alike_groups",
    "compare",
    "corrected_error",
    "holm",
    "mcnemar",
    "rank_methods",
]

IntervalKind = Literal["nadeau-bengio", "student"]

#: Measures of which a lower value is better.
LOWER_IS_BETTER = frozenset(
    {
        *("mae", "nll", "brier", "ece", "adaptive_ece", "pooled_ece", "aurc", "augrc", "ause"),
        *("rmse", "width", "conformal_size", "temperature_nll", "temperature_ece"),
        "pooled_temperature_ece",
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
    difference, low, high : float
        Mean difference of the measure (of accuracy, a fraction) and its 95 % interval.
    p, p_wilcoxon : float
        Two-sided p of the t test that belongs to the interval, and of Wilcoxon's signed ranks, 1
        where no run differs. Interval and both p are NaN for a single run.
    wins, losses : int
        Runs in which the first is better, worse; lower is better for `LOWER_IS_BETTER`.
    interval : {"nadeau-bengio", "student"}
        Corrected interval where each run draws its split; Student's t over the seeds where the
        split is given, which covers the chance in training, not that of the test rows.
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


def corrected_error(values: NDArray[np.float64], ratio: float) -> float:
    """Compute the standard error of a mean over R > 1 runs whose train sets overlap.

    The variance is (1/R + ratio) times the sample variance of `values`, (R,); `ratio` is that of
    test rows to train rows. Source: Nadeau and Bengio, Machine Learning 52, 2003.

    Examples
    --------
    >>> round(corrected_error(np.array([1.0, 2.0, 3.0]), 0.25), 4)
    0.7638
    """
    return math.sqrt((1 / len(values) + ratio) * float(values.var(ddof=1)))


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
    runs, mean = len(gaps), float(gaps.mean())
    low = high = p = p_wilcoxon = math.nan
    if runs > 1:
        if kind == "student":
            error = float(gaps.std(ddof=1)) / math.sqrt(runs)
        else:
            ratio = head.test_rows / head.train_rows
            error = corrected_error(gaps, ratio)
        half = float(stats.t.ppf(0.975, runs - 1)) * error
        low, high = mean - half, mean + half
        p = float(2 * stats.t.sf(abs(mean) / error, runs - 1)) if error else float(mean == 0)
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
        difference=mean,
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
    """Rows that the first or the second alone has right, two-sided p, rows that both answered."""

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


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods over data sets, by Friedman's and Nemenyi's tests; 1 is the best.

    Attributes
    ----------
    methods, datasets : tuple of str
        Methods by mean rank, the best first.
    mean_ranks : tuple of float
        One per method.
    chi2, p_friedman, f, p_iman_davenport : float
        Friedman's statistic and Iman and Davenport's less conservative one, each with its p; NaN
        for fewer than three methods or two data sets.
    critical_difference : float
        Mean ranks that differ by less are not told apart by Nemenyi's test at 5 %.
    p_nemenyi : ndarray of shape (methods, methods)
    """

    methods: tuple[str, ...]
    datasets: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    chi2: float
    p_friedman: float
    f: float
    p_iman_davenport: float
    critical_difference: float
    p_nemenyi: NDArray[np.float64]


def rank_methods(figures: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Rank methods within each data set and test whether their ranks differ.

    Parameters
    ----------
    figures : mapping of data set to mapping of method to float
        Higher is better. Methods that some data set lacks are left out.

    References
    ----------
    Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.

    Raises
    ------
    DataError
        If there are fewer than two methods that every data set has.

    Examples
    --------
    >>> figures = {name: {"a": 0.9, "b": 0.8, "c": 0.7} for name in ("x", "y", "z")}
    >>> ranking = rank_methods(figures)
    >>> ranking.methods, ranking.mean_ranks, round(ranking.chi2, 3)
    (('a', 'b', 'c'), (1.0, 2.0, 3.0), 6.0)
    """
    datasets = tuple(figures)
    methods = [
        name
        for name in dict.fromkeys(name for row in figures.values() for name in row)
        if all(not math.isnan(row.get(name, math.nan)) for row in figures.values())
    ]
    if len(methods) < 2:
        raise DataError("fewer than two methods have a figure on every data set; nothing to rank.")
    table = np.array([[figures[dataset][name] for name in methods] for dataset in datasets])
    # figures that differ by rounding alone are ties
    ranks = stats.rankdata(-table.round(12), axis=1)
    means = ranks.mean(axis=0)
    n, k = table.shape
    chi2 = p_friedman = f = p_f = math.nan
    if k >= 3 and n >= 2:
        chi2, p_friedman = map(float, stats.friedmanchisquare(*(-table.T.round(12))))
        rest = n * (k - 1) - chi2
        # where all sets agree it is infinite, however few they are: nothing to go by
        f = (n - 1) * chi2 / rest if rest > 1e-12 else math.nan
        p_f = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    unit = math.sqrt(k * (k + 1) / (6 * n))
    quantile = float(stats.studentized_range.ppf(0.95, k, np.inf)) / math.sqrt(2)
    order = np.argsort(means, kind="stable")
    gaps = np.abs(means[order][:, None] - means[order][None]) / unit
    p = np.asarray(stats.studentized_range.sf(gaps * math.sqrt(2), k, np.inf))
    return Ranking(
        methods=tuple(methods[place] for place in order),
        datasets=datasets,
        mean_ranks=tuple(float(means[place]) for place in order),
        chi2=chi2,
        p_friedman=p_friedman,
        f=f,
        p_iman_davenport=p_f,
        critical_difference=quantile * unit,
        p_nemenyi=np.clip(p, 0.0, 1.0),
    )


def alike_groups(mean_ranks: Sequence[float], critical_difference: float) -> list[tuple[int, int]]:
    """Find the longest stretches of ascending mean ranks within the critical difference.

    Returns
    -------
    list of (int, int)
        First and last place of each stretch of two or more that no other stretch holds.

    Examples
    --------
    >>> alike_groups([1.0, 1.5, 2.2, 4.0], 1.0)
    [(0, 1), (1, 2)]
    """
    stretches: list[tuple[int, int]] = []
    for first, low in enumerate(mean_ranks):
        last = max(i for i, rank in enumerate(mean_ranks) if rank - low < critical_difference)
        if last > first and (not stretches or last > stretches[-1][1]):
            stretches.append((first, last))
    return stretches
