"""Train rows: their weights, those held out for validation, and their table of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import ViewArray, dense

__all__ = ["KEPT", "LABELS", "InputTable", "class_codes", "hold_out", "row_weights", "spare_rows"]

Array = NDArray[np.float64]
LABELS = 65_536  # labels looked at at once
KEPT = 16_384  # rows whose mapped columns are kept; more are mapped when they are asked for
CHUNK = 2048  # rows that are mapped at once


def spare_rows(target: NDArray[Any], order: NDArray[np.int64]) -> NDArray[np.int64]:
    """Leave out the first row of each class from row numbers in the order of their draw.

    What is left of `order` can be held out of the train rows with class numbers `target` (n,), so
    that a row of every class stays.

    Examples
    --------
    >>> spare_rows(np.array([0, 0, 1, 1]), np.array([3, 0, 2, 1]))
    array([2, 1])
    """
    places = np.full(int(target.max()) + 1, -1)
    places[target[order[::-1]]] = np.arange(len(order))[::-1]  # the first of each class comes last
    return np.delete(order, places[places >= 0])


def hold_out(
    target: NDArray[Any],
    fraction: float,
    rng: np.random.Generator,
    *,
    each_class: bool = True,
    rounding: Callable[[float], int] = round,
    in_order: bool = True,
    asked: str = "early_stopping=True needs rows for validation",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw train rows to hold out for validation, at least one.

    `target` (n,) holds class numbers or scores, `rounding` rounds the number of rows that
    `fraction` asks for. With `each_class` at least one row of every class stays to train on, and
    classes of one row each are an OptionError. The result is the numbers of the rows to train on,
    which may be none, and of those held out, sorted or in the order of their draw (`in_order`).
    `asked` begins that error.

    Examples
    --------
    >>> rows, held = hold_out(np.array([0, 0, 1, 1, 1]), 0.4, np.random.default_rng(0))
    >>> len(rows), len(held)
    (3, 2)
    """
    order = rng.permutation(len(target))
    spare = spare_rows(target, order) if each_class else order
    held = spare[: max(1, rounding(fraction * len(target)))]
    if not held.size:
        raise OptionError(
            f"{asked}, but every class has one row only; leave it out or give more rows."
        )
    rows = order[~np.isin(order, held)]
    return (np.sort(rows), np.sort(held)) if in_order else (rows, held)


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Find the classes (K,) of labels (n,) in order, and each row's class number.

    Examples
    --------
    >>> classes, codes = class_codes(np.array(["b", "a", "b"]))
    >>> classes.tolist(), codes.tolist()
    (['a', 'b'], [1, 0, 1])
    """
    blocks = [slice(start, start + LABELS) for start in range(0, len(labels), LABELS)]
    classes = np.unique(np.concatenate([np.unique(labels[block]) for block in blocks]))
    codes = np.empty(len(labels), dtype=np.int64)
    for block in blocks:  # without a sorted copy of all labels
        codes[block] = np.searchsorted(classes, labels[block])
    return classes, codes


def row_weights(
    labels: NDArray[Any], sample_weight: ArrayLike | None, class_weight: Any
) -> Array | None:
    """Multiply both kinds of weights, scaled to the mean 1; None where every row counts alike.

    Of n rows with `labels`, `sample_weight` has a weight each. With `class_weight` ``"balanced"``
    every class weighs the same; a class that a mapping of label to weight lacks weighs 1.

    Raises
    ------
    DataError
        If weights are negative, not finite, all zero, or not one per row.
    OptionError
        If `class_weight` is neither, names a class that y lacks, or a weight is negative.

    Examples
    --------
    >>> row_weights(np.array(["a", "a", "a", "b"]), None, "balanced").round(2).tolist()
    [0.67, 0.67, 0.67, 2.0]
    """
    if sample_weight is None and class_weight is None:
        return None
    weights = np.ones(len(labels))
    if sample_weight is not None:
        weights = _checked(sample_weight, len(labels))
    if class_weight is not None:
        weights = weights * _by_class(labels, class_weight, weights)
    if not weights.any():
        raise DataError("every weight is zero, so that no class is left; weigh some rows.")
    if (weights == weights[0]).all():
        return None
    return np.asarray(weights / weights[weights > 0].mean())


def _checked(sample_weight: ArrayLike, rows: int) -> Array:
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"sample_weight is not numeric ({error}); give one number per row.") from (
            error
        )
    if weights.ndim == 0:
        weights = np.full(rows, float(weights))
    if weights.shape != (rows,):
        raise DataError(
            f"sample_weight has shape {weights.shape} but X has {rows} rows; give one number each."
        )
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise DataError(
            "sample_weight has a negative or infinite entry or NaN; correct or drop it."
        )
    return weights


def _by_class(labels: NDArray[Any], class_weight: Any, weights: Array) -> Array:
    classes, codes = class_codes(labels)
    if isinstance(class_weight, str) and class_weight == "balanced":
        totals = np.bincount(codes, weights=weights)
        shares = np.divide(weights.sum(), len(classes) * totals, where=totals > 0, out=totals * 0)
        return np.asarray(shares[codes])
    if not isinstance(class_weight, Mapping):
        raise OptionError(
            f"class_weight={class_weight!r} is not 'balanced' or a dict of class and weight."
        )
    present = classes.tolist()
    for label, weight in class_weight.items():
        if label not in present:
            raise OptionError(f"class_weight names {label!r}, which is no class of y.")
        if not isinstance(weight, int | float | np.number) or not 0 <= weight < np.inf:
            raise OptionError(f"class_weight of {label!r} is {weight!r}; give a number from 0 on.")
    return np.array([float(class_weight.get(label, 1.0)) for label in present])[codes]


class InputTable:
    """Float32 columns of n rows, so that a batch is drawn and mixed in one go.

    Mapped views of many rows would take more memory than the raw ones: beyond 16 384 rows those
    that are asked for are mapped then.

    Its columns are those of the raw `arrays` (n, d_v), dense or sparse, each mapped by its own map,
    then, with class numbers `codes` (n,), the one-hot classes (n, `classes`); `widths` counts the
    mapped columns of each view.
    """

    def __init__(
        self,
        maps: Sequence[FeatureMap | ColumnMap],
        arrays: Sequence[ViewArray],
        codes: NDArray[np.int64] | None = None,
        *,
        classes: int = 0,
        device: torch.device,
    ) -> None:
        self.maps = maps
        self.arrays = arrays
        self.codes = codes
        self.classes = classes
        self.device = device
        self.rows = int(arrays[0].shape[0])
        self.widths = tuple(mapping.width for mapping in maps)
        self.whole = self._map(np.arange(self.rows)) if self.rows <= KEPT else None

    def _map(self, rows: NDArray[np.int64]) -> Tensor:
        """Map some rows, a few at a time: raw columns and steps on the way are in float64."""
        mapped = torch.zeros(len(rows), sum(self.widths) + self.classes, device=self.device)
        for start in range(0, len(rows), CHUNK):
            some = rows[start : start + CHUNK]
            ends = np.cumsum(self.widths)
            for mapping, array, end in zip(self.maps, self.arrays, ends, strict=True):
                columns = torch.from_numpy(mapping.transform(dense(array, some), np.float32))
                mapped[start : start + len(some), end - mapping.width : end] = columns
        if self.codes is not None:
            labels = torch.from_numpy(self.codes[rows] + sum(self.widths)).to(self.device)
            mapped[torch.arange(len(rows), device=self.device), labels] = 1
        return mapped

    def __call__(self, rows: slice | NDArray[np.int64]) -> Tensor:
        """Look up the columns of some rows."""
        if self.whole is None:
            return self._map(np.arange(self.rows)[rows])
        if isinstance(rows, slice):
            return self.whole[rows]
        return self.whole.index_select(0, torch.from_numpy(rows).to(self.device))
