"""Tables of columns of any type, before they are prepared for an estimator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.views.column_kinds import ColumnKinds, column_kinds, numbering_columns
from rcml_misa.views.sequences import read_only

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RawTable", "columns_of", "numbers_alone", "numbers_or_raw"]

# what pandas calls the content of a column of objects that are all numbers or missing
NUMBERS = frozenset({"decimal", "floating", "integer", "mixed-integer-float"})


@dataclass(frozen=True, eq=False, repr=False)
class RawTable:
    """Columns of any type (numbers with gaps, texts, categories, dates) of one view.

    `TablePreparer` turns it into numbers; no estimator reads it.

    Parameters
    ----------
    frame : DataFrame of shape (n_samples, n_columns)
        Its index plays no part; do not change it afterwards.
    of : int, optional
        Rows of the table that these are a sample of.

    Examples
    --------
    >>> import pandas as pd
    >>> table = RawTable(pd.DataFrame({"age": [41.0, None, None], "sex": ["f", "m", None]}))
    >>> table, table[[2, 0]].present.tolist()
    (RawTable(3 samples, 2 columns), [False, True])
    """

    frame: pd.DataFrame
    of: int | None = None

    @property
    def columns(self) -> pd.Index[Any]:
        """Names of the columns."""
        return self.frame.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of samples and columns."""
        return self.frame.shape

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Mask (n_samples,) of the rows with one value at least."""
        return read_only(np.asarray(self.frame.notna().to_numpy().any(axis=1)))

    @cached_property
    def kinds(self) -> ColumnKinds:
        """What each column is taken for, by the rows with one value at least."""
        frame = self.frame if self.present.all() else self.frame[self.present]
        return column_kinds(frame, of=self.of)

    def digests(self) -> NDArray[np.uint64]:
        """Hash each row's values, (n_samples,); equal rows have equal hashes."""
        from pandas.util import hash_pandas_object

        try:
            digests = hash_pandas_object(self.frame, index=False)
        except TypeError:  # lists, records and such
            frame = self.frame.astype(
                {k: str for k, t in self.frame.dtypes.items() if t.kind == "O"}
            )
            digests = hash_pandas_object(frame, index=False)
        return np.asarray(digests, dtype=np.uint64)

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: Any) -> RawTable:
        return RawTable(self.frame.iloc[rows])

    def __repr__(self) -> str:
        return f"RawTable({self.shape[0]} samples, {self.shape[1]} columns)"


def numbers_or_raw(frame: pd.DataFrame) -> NDArray[np.float64] | RawTable:
    """Return the values of a frame of numbers without gaps within a row; else a `RawTable`.

    A row without any value stays: it lacks the view. Infinity makes a table raw as a gap does, and
    so does a column that numbers the rows; objects that are numbers count as numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> numbers_or_raw(pd.DataFrame({"a": [1, 2], "b": [0.5, 3.0]})).tolist()
    [[1.0, 0.5], [2.0, 3.0]]
    >>> numbers_or_raw(pd.DataFrame({"a": [1, 2], "b": [0.5, None]}))
    RawTable(2 samples, 2 columns)
    """
    frame = _stored_as_numbers(frame)
    if any(getattr(dtype, "kind", "O") not in "biuf" for dtype in frame.dtypes):
        return RawTable(frame)
    values = frame.to_numpy(dtype=np.float64, na_value=np.nan)
    return values if numbers_alone(values, [str(name) for name in frame]) else RawTable(frame)


def numbers_alone(values: NDArray[np.float64], names: Sequence[str] = ()) -> bool:
    """Ask whether numbers (n, p) have no gaps within a row, and no column that numbers the rows.

    Without `names` a column numbers the rows by its range alone.
    """
    if numbering_columns(names or [""] * values.shape[1], values):
        return False
    with np.errstate(all="ignore"):
        if np.isfinite(values.sum()):  # one pass without a temporary array
            return True
    gaps = np.isnan(values).sum(axis=1)
    partial = (gaps > 0) & (gaps < values.shape[1])
    return not (partial.any() or np.isinf(values).any())


def columns_of(array: NDArray[Any]) -> pd.DataFrame:
    """Lay a 2-D array out as a frame whose columns have types of their own, numbered from 0."""
    import pandas as pd

    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind in "UT":
        array = array.astype(object)
    return pd.DataFrame(array)


def _stored_as_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    """Store columns of objects that are numbers, or None, as numbers; others stay."""
    import pandas as pd

    objects = [place for place, dtype in enumerate(frame.dtypes) if dtype.kind == "O"]
    columns = {}
    for place in objects:
        column = frame.iloc[:, place]
        kind = pd.api.types.infer_dtype(column, skipna=True)
        if kind == "boolean":
            columns[place] = column.astype("boolean")
        elif kind in NUMBERS or (kind == "empty" and len(column)):
            try:
                columns[place] = pd.to_numeric(column, errors="coerce")
            except OverflowError:  # whole numbers beyond those of floats are infinite
                columns[place] = pd.to_numeric(column.map(str), errors="coerce")
    if not columns:
        return frame
    parts = [columns.get(place, frame.iloc[:, place]) for place in range(frame.shape[1])]
    stored = pd.concat(parts, axis=1)
    stored.columns = frame.columns
    return stored
