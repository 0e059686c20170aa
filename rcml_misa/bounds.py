"""Bounds of what a user asks for: runs, seeds, workers, epochs, folds, variants, trials."""

from __future__ import annotations

from collections.abc import Mapping

from rcml_misa.exceptions import OptionError

__all__ = ["MOST", "check_least", "check_total"]

#: Largest value of each number, by its name in options, plans and protocols.
MOST: Mapping[str, int] = {
    "runs": 10_000,
    "seed": 2**31 - 1,  # with the runs added it is still a seed for scikit-learn
    "jobs": 1_024,
    "epochs": 1_000_000,
    "folds": 10_000,
    "held_out": 10_000,
    "trials": 10_000,
    "inner": 10_000,  # folds
}
MOST_IN_ALL = 100_000  # runs of one command: data sets times variants times runs


def check_least(where: str = "--", **given: tuple[int | None, int]) -> None:
    """Refuse numbers outside their bounds with an `OptionError`.

    Parameters
    ----------
    where : str
        Text before a number's name in the sentence.
    **given : pair of int
        Number, None if it was not given, and its least value; `MOST` has the largest one.

    Examples
    --------
    >>> check_least(runs=(10, 1), seed=(None, 0))
    >>> check_least(runs=(0, 1))
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: --runs 0 is below 1; give 1 to 10000.
    """
    for name, (number, least) in given.items():
        if number is None:
            continue
        most = MOST.get(name)
        limit = f"{least} or more" if most is None else f"{least} to {most}"
        if number < least:
            raise OptionError(f"{where}{name} {number} is below {least}; give {limit}.")
        if most is not None and number > most:
            raise OptionError(f"{where}{name} {number} is above {most}; give {limit}.")


def check_total(*, datasets: int, variants: int, runs: int) -> None:
    """Refuse with an `OptionError` more runs in all than one command plans.

    Examples
    --------
    >>> check_total(datasets=5, variants=20, runs=10)
    >>> check_total(datasets=20, variants=500, runs=30)
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: 20 data sets, 500 variants and 30 runs make 300000 runs; ...
    """
    total = datasets * variants * runs
    if total > MOST_IN_ALL:
        raise OptionError(
            f"{datasets} data sets, {variants} variants and {runs} runs make {total} runs; a "
            f"command plans at most {MOST_IN_ALL}: give fewer, or part them among commands."
        )
