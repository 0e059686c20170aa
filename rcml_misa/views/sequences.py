"""Views that are no tables: a padded sequence per sample, or a text per sample."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.views.containers import opened

__all__ = ["Pooling", "Sequences", "Texts", "TokenTexts"]

#: Largest size of a value in train rows, and of what is pooled: its square is far from overflow.
LARGEST = 1e100
Pooling = Literal["mean", "max", "mean-std"]


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """One sequence of vectors per sample, padded to a common number of steps.

    Parameters
    ----------
    values : array of shape (n_samples, n_steps, width)
        Steps beyond a sample's length are set to 0.
    lengths : array of int of shape (n_samples,), optional
        Steps of each sample, 1 to n_steps; all n_steps by default.

    Raises
    ------
    DataError
        If the shapes do not fit, a length is out of range, or a step that counts is not finite.

    Examples
    --------
    >>> voice = Sequences.from_list([np.ones((2, 3)), np.ones((4, 3))])
    >>> voice
    Sequences(2 samples, up to 4 steps of width 3)
    >>> voice[[1]].lengths.tolist(), voice.shape
    ([4], (2, 3))
    """

    values: NDArray[np.float64]
    lengths: NDArray[np.int64]

    def __init__(self, values: ArrayLike, lengths: ArrayLike | None = None) -> None:
        try:
            array = np.array(opened("a sequence view", values), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"a sequence view is not numeric ({shortened(error)}); encode it."
            ) from error
        if array.ndim != 3 or 0 in array.shape:
            raise DataError(
                f"a sequence view has shape {array.shape}; it must be samples x steps x features, "
                "none of them 0."
            )
        steps = array.shape[1]
        counts = np.full(len(array), steps)
        if lengths is not None:
            counts = np.asarray(opened("lengths", lengths))
        if counts.shape != (len(array),) or counts.dtype.kind not in "iu":
            raise DataError(
                f"the lengths of {len(array)} sequences must be as many whole numbers, not "
                f"{counts.dtype} of shape {counts.shape}."
            )
        wrong = (counts < 1) | (counts > steps)
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            raise DataError(
                f"sequence {row} has length {counts[row]}; it must be between 1 and {steps}, the "
                "padded number of steps."
            )
        array[np.arange(steps) >= counts[:, None]] = 0.0
        bad = ~np.isfinite(array).all(axis=(1, 2))
        if bad.any():
            raise DataError(
                f"NaN or infinity stands in {bad.sum()} of {len(array)} sequences (the first is "
                f"{np.flatnonzero(bad)[0]}); impute these values or leave these rows out."
            )
        self._set(array, counts.astype(np.int64))

    def _set(self, values: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
        object.__setattr__(self, "values", read_only(values))
        object.__setattr__(self, "lengths", read_only(lengths))

    @classmethod
    def _trusted(cls, values: NDArray[np.float64], lengths: NDArray[np.int64]) -> Sequences:
        self = cls.__new__(cls)
        self._set(values, lengths)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self)._trusted, (self.values, self.lengths))

    @classmethod
    def from_list(cls, arrays: Sequence[ArrayLike]) -> Sequences:
        """Pad 2-D arrays, steps x features, of one width; any other is a `DataError`."""
        tables = [np.asarray(opened("a sequence", array)) for array in arrays]
        for row, table in enumerate(tables):
            if table.ndim != 2 or 0 in table.shape or table.shape[1] != tables[0].shape[-1]:
                raise DataError(
                    f"sequence {row} has shape {table.shape}; every one must be steps x features "
                    f"with at least one step and {tables[0].shape[-1]} features."
                )
        if not tables:
            raise DataError("there is no sequence; give at least one 2-D array.")
        lengths = [len(table) for table in tables]
        values = np.zeros((len(tables), max(lengths), tables[0].shape[1]))
        for row, table in enumerate(tables):
            values[row, : len(table)] = table
        return cls(values, lengths)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples and width of a step."""
        return self.values.shape[0], self.values.shape[2]

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: Any) -> Sequences:
        return self._trusted(self.values[rows], self.lengths[rows])

    def __repr__(self) -> str:
        n, steps, width = self.values.shape
        return f"Sequences({n} samples, up to {steps} steps of width {width})"


@dataclass(frozen=True, eq=False, repr=False)
class Texts:
    """One text per sample.

    Raises
    ------
    DataError
        If there is none, or one is missing or not a str.

    Examples
    --------
    >>> Texts(["it was good", "no"])[[1]].values
    ('no',)
    """

    values: tuple[str, ...]

    def __init__(self, values: Sequence[str] | NDArray[Any]) -> None:
        texts = tuple(opened("a text view", values))
        for row, text in enumerate(texts):
            if _is_missing(text):
                raise DataError(
                    f"text {row} is missing; give an empty str where a row has no text: it counts "
                    "as a missing view."
                )
            if not isinstance(text, str):
                shown = f"{type(text).__name__} ({shortened(repr(text))})"
                raise DataError(f"text {row} is {shown}; every one must be a str.")
        if not texts:
            raise DataError("there is no text; give at least one str.")
        object.__setattr__(self, "values", tuple(map(str, texts)))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of samples, and 1: a single column of texts."""
        return len(self.values), 1

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __getitem__(self, rows: Any) -> Texts:
        return Texts([self.values[row] for row in np.arange(len(self.values))[rows]])

    def __repr__(self) -> str:
        return f"Texts({len(self.values)} samples)"


class TokenTexts(Texts):
    """One text per sample, with the numbers that a tokenizer gave its tokens.

    A pretrained text encoder reads the numbers as they are; they must be of its vocabulary.

    Parameters
    ----------
    values : sequence of str
    tokens : sequence of arrays of int
        One per text, with one number or more; those of the first and last special token included.

    Raises
    ------
    DataError
        If there are not as many as texts, or one is empty or negative.

    Examples
    --------
    >>> view = TokenTexts(["so good", "no"], [[101, 2061, 2204, 102], [101, 2053, 102]])
    >>> view[[1]].tokens[0].tolist()
    [101, 2053, 102]
    """

    tokens: tuple[NDArray[np.int64], ...]

    def __init__(self, values: Sequence[str], tokens: Sequence[Any]) -> None:
        super().__init__(values)
        numbers = tuple(np.asarray(row, dtype=np.int64).reshape(-1) for row in tokens)
        if len(numbers) != len(self.values):
            raise DataError(
                f"there are tokens of {len(numbers)} texts but {len(self.values)} texts; give one "
                "list per text."
            )
        for row, ids in enumerate(numbers):
            if not ids.size or ids.min() < 0:
                raise DataError(f"text {row} has no tokens, or a negative one; give its numbers.")
        object.__setattr__(self, "tokens", numbers)

    def __getitem__(self, rows: Any) -> TokenTexts:
        chosen = np.arange(len(self))[rows]
        return TokenTexts(super().__getitem__(rows).values, [self.tokens[row] for row in chosen])


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Share the values of an array through one that cannot be written to."""
    shared = array.view()
    shared.flags.writeable = False
    return shared


def _is_missing(value: Any) -> bool:
    """Recognise None, NaN and the marks of pandas for a missing value."""
    if isinstance(value, float):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def as_sequences_or_texts(what: str, value: Any) -> Sequences | Texts | None:
    """Recognise a sequence or text view; None for anything else.

    A 3-D array, or a list or 1-D array of 2-D arrays, is a sequence; a list or 1-D array with a str
    is a text.
    """
    try:
        if isinstance(value, Sequences | Texts):
            return value
        if isinstance(value, np.ndarray):
            if value.ndim == 3:
                return Sequences(value)
            if value.ndim != 1 or value.dtype.kind not in "SUTO":
                return None
            if value.dtype.kind != "O":
                return Texts(value)
        if isinstance(value, list | tuple | np.ndarray) and len(value):
            if any(isinstance(item, str) for item in value):
                return Texts(value)
            if all(isinstance(item, np.ndarray) and item.ndim == 2 for item in value):
                return Sequences.from_list(list(value))
    except DataError as error:
        raise DataError(f"{what}: {error}") from error
    return None


def pool_sequences(view: Sequences, how: Pooling) -> NDArray[np.float64]:
    """Reduce each sequence to one row: mean, largest value, or mean and deviation side by side."""
    if how not in get_args(Pooling):
        raise OptionError(
            f"pooling {shortened(repr(how))} does not exist; {nearest(how, get_args(Pooling))}"
        )
    counts = view.lengths[:, None].astype(np.float64)
    inside = (np.arange(view.values.shape[1]) < view.lengths[:, None])[:, :, None]
    values = np.clip(view.values, -LARGEST, LARGEST)  # sums of squares stay finite
    if how == "max":
        return np.asarray(np.where(inside, values, -np.inf).max(axis=1))
    mean = values.sum(axis=1) / counts
    if how == "mean":
        return np.asarray(mean)
    square = np.where(inside, values - mean[:, None], 0.0) ** 2
    return np.concatenate([mean, np.sqrt(square.sum(axis=1) / counts)], axis=1)


def pool_texts(view: Texts, columns: int) -> csr_array[np.float64]:
    """Count words and pairs of words in `columns` hashed columns, rows of unit norm.

    Hashing learns nothing from the texts, so that no statistic of test rows leaks.
    """
    from sklearn.feature_extraction.text import HashingVectorizer

    hashed = HashingVectorizer(n_features=columns, ngram_range=(1, 2), alternate_sign=False)
    return csr_array(hashed.transform(view.values))
