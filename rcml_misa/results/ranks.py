"""Many methods over many data sets: Friedman's test, Nemenyi's, critical differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rcml_misa.exceptions import DataError

__all__ = ["Ranking", "alike_groups", "rank_methods"]


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods over data sets; 1 is the best.

    Attributes
    ----------
    methods : tuple of str
        By mean rank, the best first.
    datasets : tuple of str
    mean_ranks : tuple of float
        One per method.
    chi2, p_friedman : float
        Friedman's statistic and its p; NaN for fewer than three methods or two data sets.
    f, p_iman_davenport : float
        Iman and Davenport's less conservative statistic and its p.
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


def rank_methods(figures: Mapping[str, Mapping[str, float]], *, level: float = 0.05) -> Ranking:
    """Rank methods within each data set and test whether their ranks differ.

    Parameters
    ----------
    figures : mapping of data set to mapping of method to float
        Higher is better. Methods that some data set lacks are left out.
    level : float
        Of the critical difference.

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
    >>> found = rank_methods(figures)
    >>> found.methods, found.mean_ranks, round(found.chi2, 3)
    (('a', 'b', 'c'), (1.0, 2.0, 3.0), 6.0)
    """
    datasets = tuple(figures)
    methods = [
        name
        for name in dict.fromkeys(name for one in figures.values() for name in one)
        if all(name in one and not math.isnan(one[name]) for one in figures.values())
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
        chi2, p_friedman = (
            float(value) for value in stats.friedmanchisquare(*(-table.T.round(12)))
        )
        rest = n * (k - 1) - chi2
        # where all sets agree it is infinite, however few they are: nothing to go by
        f = (n - 1) * chi2 / rest if rest > 1e-12 else math.nan
        p_f = float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))
    unit = math.sqrt(k * (k + 1) / (6 * n))
    quantile = float(stats.studentized_range.ppf(1 - level, k, np.inf)) / math.sqrt(2)
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
    """Longest stretches of sorted mean ranks that lie within the critical difference.

    Parameters
    ----------
    mean_ranks : sequence of float
        Sorted.
    critical_difference : float

    Returns
    -------
    list of (int, int)
        First and last place of each stretch of two or more that no other one holds.

    Examples
    --------
    >>> alike_groups([1.0, 1.5, 2.2, 4.0], 1.0)
    [(0, 1), (1, 2)]
    """
    found: list[tuple[int, int]] = []
    for first, low in enumerate(mean_ranks):
        last = max(i for i, rank in enumerate(mean_ranks) if rank - low < critical_difference)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return found
