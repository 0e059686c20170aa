"""A data set as it was found in foreign files, checked and ready to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.npz import Parts, words
from rcml_misa.exceptions import DataError

__all__ = ["FOLDS", "ForeignSet", "as_words", "lengths_within"]

FOLDS = ("train", "valid", "test")


@dataclass(frozen=True, kw_only=True)
class ForeignSet:
    """What goes into the npz of an imported set, and what is told about it.

    Attributes
    ----------
    layout : {"mmsa", "urfunny"}
    title, citation : str
    views : dict of str to int
        Name and width.
    steps : mapping of str to Parts
        The values of each view: samples x steps x width, padded, or all steps of all samples
        under each other.
    lengths : mapping of str to ndarray of int
        Steps of each sample.
    rows : mapping of str to int
        Samples of each fold, in the order of `FOLDS`.
    ids, texts : sequence of str
    target : ndarray
        Scores, or classes 0 .. K-1.
    classes : tuple of str
        None for scores.
    limit : float
        Largest absolute score.
    others : mapping of str to Parts
        Further arrays, under their own names.
    notes : tuple of str
        What was mended or is unusual, a sentence each.
    """

    layout: str
    title: str
    citation: str
    views: Mapping[str, int]
    steps: Mapping[str, Parts]
    lengths: Mapping[str, NDArray[np.int64]]
    rows: Mapping[str, int]
    ids: Sequence[str]
    texts: Sequence[str]
    target: NDArray[Any]
    classes: tuple[str, ...] = ()
    limit: float = 3.0
    others: Mapping[str, Parts] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def samples(self) -> int:
        """Samples of all folds."""
        return len(self.ids)

    def members(self) -> dict[str, Parts]:
        """The arrays of the npz by name."""
        folds = np.repeat(np.arange(len(FOLDS)), [self.rows[fold] for fold in FOLDS])
        return {
            **{f"steps.{name}": steps for name, steps in self.steps.items()},
            **{f"lengths.{name}": Parts.of([found]) for name, found in self.lengths.items()},
            **self.others,
            "target": Parts.of([self.target]),
            "fold": Parts.of([folds.astype(np.int8)]),
            "ids": words(self.ids),
            "texts": words(self.texts),
        }


def as_words(where: str, value: Any, count: int | None = None) -> list[str]:
    """A list of words from a list or an array of them; numbers are taken as words.

    Raises
    ------
    DataError
        If it is nothing of that kind, or of another length than `count`.
    """
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise DataError(f"{where} is {type(value).__name__}; it must be a list of words.")
    found = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in value]
    for one in found:
        if not isinstance(one, (str, int, float, np.generic)):
            raise DataError(f"{where} holds {type(one).__name__}; it must be a list of words.")
    if count is not None and len(found) != count:
        raise DataError(f"{where} has {len(found)} entries for {count} samples.")
    return [str(one) for one in found]


def lengths_within(where: str, value: Any, count: int, steps: int) -> tuple[NDArray[np.int64], int]:
    """Lengths between 1 and `steps`, and how many had to be brought there.

    Raises
    ------
    DataError
        If there are not `count` whole numbers.
    """
    try:
        found = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} are no numbers ({error}).") from error
    if len(found) != count or not (found == np.round(found)).all():
        raise DataError(f"{where} are not one whole number for each of {count} samples.")
    within = np.clip(found, 1, steps)
    return within.astype(np.int64), int((within != found).sum())
