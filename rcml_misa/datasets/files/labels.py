"""Labels of a file as they stand, and as numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, shortened

__all__ = ["LabelCodes", "as_labels", "as_texts", "class_codes", "match_labels", "note_labels"]

WHOLE = re.compile(
    r"(?:0|-?[1-9][0-9]*)(?:\.0)?"
)  # a whole number as str(int) or str(float) has it
GAP_WORDS = {"na", "n/a", "nan", "<na>", "null", "none", "nil", "missing", "unknown", "?", "-", "."}
MOST_CLASSES = 1_000_000
MOST = 20  # different fractions, and at least a third as many as rows, that are a measurement


def as_labels(
    values: Any, *, name: str, path: Any, first_row: int = 0, rows: int | None = None
) -> NDArray[Any]:
    """Check labels of shape (n,), (n, 1) or (1, n): whole numbers as int64, or texts.

    Different labels stay different. Texts become whole numbers only where all of them are written
    as Python writes an int that fits int64 (``"7"``, ``"-1"``), or all as it writes a whole float
    (``"1.0"``, ``"2.0"``: pandas writes an int column with gaps so). Any other text among them
    leaves all of them texts: ``"01"`` and ``"1"``, ``"1e2"`` and ``"100"``, ``"1.0"`` and ``"1"``
    are two classes each, and ``"1.5"``, ``"inf"``, ``"nan"`` or ``"NA"`` are classes by these
    names (`note_labels` tells of such words). Numbers that int64 does not hold become texts of all
    their digits, truth values ``"True"`` and ``"False"``.

    Parameters
    ----------
    values : array-like
        Labels as the file has them: numbers, texts, bytes, categories, with None, NaN or an empty
        text where there is none.
    name, path
        Name of the column or array, and of its file, for sentences.
    first_row : int
        Number of the first of these rows in the file.
    rows : int, optional
        Rows whose different labels these are, where they are not one per row.

    Returns
    -------
    ndarray of int64 or str of shape (n,)

    Raises
    ------
    DataError
        If a row has no label; or the labels are floats with fractions, floats so large that whole
        numbers merge (2**53 for float64), or texts of very many different fractions.

    Examples
    --------
    >>> as_labels(["10", "2"], name="y", path="a.csv")
    array([10,  2])
    >>> as_labels(["2.0", "1.0"], name="y", path="a.csv")
    array([2, 1])
    >>> as_labels(["01", "1", "001"], name="y", path="a.csv")
    array(['01', '1', '001'], dtype='<U3')
    """
    labels = np.asarray(values)
    if labels.size != max(labels.shape, default=0):
        raise DataError(
            f"{path}: {name!r} must hold one label per row, but its shape is {labels.shape}."
        )
    labels = labels.ravel()
    if not labels.size:
        raise DataError(f"{path} has no rows, only names; give a file with rows.")
    kind = labels.dtype.kind
    if kind in "cV":
        raise DataError(f"{path}: {name!r} holds {labels.dtype}; give texts or whole numbers.")
    empty = np.flatnonzero(_missing(labels))
    if len(empty):
        raise DataError(
            f"{path}: {len(empty)} of {len(labels)} rows have no label in {name!r} (the first is "
            f"row {first_row + empty[0]}); fill these labels in, or leave these rows out."
        )
    if kind in "iuf":
        whole = labels if kind in "iu" else _whole(labels, name=name, path=path)
        return whole.astype(np.int64) if _fits(whole) else whole.astype(str)
    texts = _label_texts(labels)
    different = sorted(set(texts))
    _refuse_measurements(different, rows or len(texts), name=name, path=path)
    numbers = _canonical(different)
    if numbers is None:
        return np.array(texts)
    codes = dict(zip(different, numbers, strict=True))
    return np.array([codes[text] for text in texts], dtype=np.int64)


class LabelCodes:
    """Labels of a file that is read block by block, as numbers of the different ones.

    All blocks together have the labels that `as_labels` makes of the whole column.

    Parameters
    ----------
    name, path
        Name of the column or array, and of its file, for sentences.

    Examples
    --------
    >>> codes = LabelCodes("y", "a.csv")
    >>> codes.add(np.array(["10", "2"]), 0)
    >>> codes.add(np.array(["2", "x"]), 2)
    >>> codes.labels()
    array(['10', '2', '2', 'x'], dtype='<U2')
    """

    def __init__(self, name: str, path: Any) -> None:
        self.name, self.path = name, path
        self.rows = 0
        self._places: dict[Any, int] = {}
        self._parts: list[NDArray[np.int32]] = []

    def add(self, values: Any, first_row: int) -> None:
        """Take the labels (n,) of rows from `first_row` on; a row without one is a DataError."""
        import pandas as pd

        labels = np.ravel(np.asarray(values))
        if labels.dtype.kind == "S":
            labels = np.array(as_texts(labels), dtype=object)
        if labels.dtype.kind in "UM":  # of a date a list would hold the number
            labels = labels.astype(str).astype(object)
        codes, different = pd.factorize(labels)  # -1 is a gap
        plain = np.asarray(different)
        if (codes < 0).any() or plain.dtype.kind != "O" or any(map(_is_blank, plain)):
            checked = labels if (codes < 0).any() else plain[codes]
            as_labels(checked, name=self.name, path=self.path, first_row=first_row)
        for value in plain.tolist():
            self._places.setdefault(value, len(self._places))
        if len(self._places) > MOST_CLASSES:
            raise DataError(
                f"{self.path}: {self.name!r} has more than {MOST_CLASSES} different labels in its "
                f"first {first_row + len(labels)} rows; a class label is a text or a whole number, "
                "and a measurement takes --task regression."
            )
        order = np.array([self._places[value] for value in plain.tolist()], dtype=np.int32)
        self._parts.append(order[codes])
        self.rows += len(labels)

    def labels(self, rows: NDArray[np.bool_] | None = None) -> NDArray[Any]:
        """Give the labels of all rows, or of those that a mask has, as `as_labels` does."""
        codes = np.concatenate(self._parts) if self._parts else np.empty(0, dtype=np.int32)
        different = np.empty(len(self._places), dtype=object)
        different[:] = list(self._places)
        if all(isinstance(value, int | np.integer) for value in self._places):
            different = np.array([*self._places])
        classes = as_labels(different, name=self.name, path=self.path, rows=self.rows)
        return np.asarray(classes[codes if rows is None else codes[rows]])


def _is_blank(value: Any) -> bool:
    return isinstance(value, str | bytes) and not value.strip()


def _missing(labels: NDArray[Any]) -> NDArray[np.bool_]:
    """Flag rows without a label: None, NaN, an infinite float, an empty text."""
    import pandas as pd

    kind = labels.dtype.kind
    if kind == "f":
        return np.asarray(~np.isfinite(labels))
    if kind in "US":
        return np.asarray(np.char.str_len(np.char.strip(labels)) == 0)
    missing = np.asarray(pd.isna(labels))
    if kind == "O":
        empty = (isinstance(value, str | bytes) and not value.strip() for value in labels.tolist())
        missing = missing | np.fromiter(empty, dtype=bool, count=len(labels))
    return missing


def _whole(labels: NDArray[Any], *, name: str, path: Any) -> NDArray[np.int64]:
    """Turn floats into whole numbers; those that are none, or may have merged, are refused."""
    fractions = labels[labels != np.round(labels)]
    if len(fractions):
        raise DataError(
            f"{path}: {name!r} holds fractions such as {fractions[0]}; a class label is a text or "
            "a whole number, and a measurement takes --task regression."
        )
    limit = 2 ** (np.finfo(labels.dtype).nmant + 1)
    large = labels[np.abs(labels) >= limit]
    if len(large):
        raise DataError(
            f"{path}: {name!r} holds {large[0]:.17g} as a {labels.dtype}, in which whole numbers "
            f"from {limit} on merge; save these labels as integers or texts."
        )
    return labels.astype(np.int64)


def _fits(numbers: NDArray[Any]) -> bool:
    return numbers.dtype.kind == "i" or int(numbers.max()) <= np.iinfo(np.int64).max


def _refuse_measurements(different: list[str], rows: int, *, name: str, path: Any) -> None:
    """Refuse texts that are very many different numbers with fractions."""
    if len(different) <= max(MOST, rows / 3):
        return
    try:
        numbers = [float(text) for text in different]
    except ValueError:
        return
    if any(not number.is_integer() for number in numbers if np.isfinite(number)):
        raise DataError(
            f"{path}: {name!r} holds {len(different)} different fractions such as "
            f"{shortened(different[0], 20)} in {rows} rows, which are no classes; a measurement "
            "takes --task regression."
        )


def _canonical(different: list[str]) -> list[int] | None:
    """Return the numbers that texts are, where all are written alike and fit int64; else None."""
    ends = {text.endswith(".0") for text in different}
    if len(ends) > 1 or not all(map(WHOLE.fullmatch, different)):
        return None
    numbers = [int(text.removesuffix(".0")) for text in different]
    # from 2**53 on another whole number may have been written as the same float
    limit = 2**53 - 1 if ends == {True} else 2**63 - 1
    return numbers if all(abs(number) <= limit for number in numbers) else None


def as_texts(values: Any) -> list[str]:
    """Turn identifiers into texts; HDF5 has them as bytes."""
    return [
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
        for value in np.ravel(values).tolist()
    ]


def _label_texts(labels: NDArray[Any]) -> list[str]:
    """Turn labels into texts; a whole float is written as an int."""
    # a list of dates would hold numbers
    values = labels.astype(str) if labels.dtype.kind == "M" else labels
    whole = (
        int(value) if isinstance(value, float) and value.is_integer() else value
        for value in values.tolist()
    )
    return as_texts(np.fromiter(whole, dtype=object, count=len(labels)))


def class_codes(labels: NDArray[Any]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number labels 0 .. K-1, and list the K labels in order.

    The order is that of the numbers, or of the texts by their characters, whatever that of the
    rows.
    """
    values, codes = np.unique(labels, return_inverse=True)
    return codes.astype(np.int64), tuple(str(value) for value in values.tolist())


def match_labels(values: Any, classes: Collection[Any]) -> list[str | None]:
    """Write labels of a file as the classes of a model are written; None for a missing label.

    A label is compared as a text, so that ``"01"`` is not the class 1; only where every class is a
    whole number, ``"2.0"`` is the class 2 (pandas writes an int column with gaps so).

    Parameters
    ----------
    values : array-like of shape (n,)
        Labels as the file has them.
    classes : collection
        Classes of the model.

    Returns
    -------
    list of str or None
        Texts; those of the classes themselves are ``match_labels(classes, classes)``.

    Examples
    --------
    >>> match_labels(["1", "01", "2.0", "", "x"], [1, 2])
    ['1', '01', '2', None, 'x']
    """
    labels = np.ravel(np.asarray(values))
    texts = _label_texts(labels)
    names = _label_texts(np.array([*classes], dtype=object))
    if all(WHOLE.fullmatch(name) and not name.endswith(".0") for name in names):
        texts = [text.removesuffix(".0") if WHOLE.fullmatch(text) else text for text in texts]
    absent = _missing(labels).tolist()
    return [None if gap else text for text, gap in zip(texts, absent, strict=True)]


def note_labels(labels: NDArray[Any], name: str) -> tuple[str, ...]:
    """Note words that often mean a missing label, and classes that differ in case or spaces only.

    Examples
    --------
    >>> note_labels(np.array(["a", "NA", "a", "NA"]), "y")
    ("label 'NA' (2 rows) of 'y' counts as a class; leave these rows out if they have no label",)
    """
    if labels.dtype.kind != "U":
        return ()
    column, notes = repr(shortened(name, 40)), []
    counts = Counter(text for text in labels.tolist() if text.strip().lower() in GAP_WORDS)
    if counts:
        listed = ", ".join(f"{text!r} ({count} rows)" for text, count in counts.most_common(3))
        words = f"label {listed} of {column} counts as a class"
        notes.append(f"{words}; leave these rows out if they have no label")
    alike: dict[str, list[str]] = {}
    for text in sorted(set(labels.tolist())):
        alike.setdefault(" ".join(text.lower().split()), []).append(text)
    groups = [texts for texts in alike.values() if len(texts) > 1]
    if groups:
        listed = " and ".join(repr(text[:40]) for text in groups[0][:3])  # with their spaces
        more = f", and {len(groups) - 1} more such groups" if len(groups) > 1 else ""
        notes.append(
            f"labels {listed} of {column} differ in case or spaces only and are classes of their "
            f"own{more}; write them alike if they are one class"
        )
    return tuple(notes)
