"""Named, ordered views of one set of samples: row selection, 2-D and frame forms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.views.alignment import (
    ColumnNames,
    align_rows,
    check_view_names,
    column_names,
    named_views,
    row_labels,
)
from rcml_misa.views.arrays import (
    ViewArray,
    as_array,
    as_view,
    dense,
    frozen,
    present_rows,
    shape_message,
)
from rcml_misa.views.containers import axes, cut_columns, first_column, is_frame, opened
from rcml_misa.views.cutting import column_groups
from rcml_misa.views.mapped import Address, MappedRows, address, is_mapped, read
from rcml_misa.views.raw import RawTable
from rcml_misa.views.sequences import (
    Pooling,
    Sequences,
    Texts,
    pool_sequences,
    pool_texts,
    read_only,
)

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["MultiView", "ViewKind"]

ViewKind = Literal["dense", "sparse", "sequence", "text", "raw"]
COPIED = 65_536  # rows of a memory map that are copied when they are taken; more stay in the file


@dataclass(frozen=True, init=False, eq=False, repr=False)
class MultiView:
    """Several feature tables, each describing the same samples in the same order.

    A row may lack a view: then all columns of that view are NaN in that row.

    Immutable: the arrays cannot be written to. A float64 array is kept without a copy, so do
    not change the original afterwards. It behaves like a mapping from a view's name to its array.
    Scikit-learn's cross-validation and searches split it by rows, as they would an array: it has a
    `shape`, and ``views[rows, ...]`` is ``views.take(rows)``.

    Parameters
    ----------
    arrays : mapping of str to array, or sequence of arrays
        One array of shape (n_samples, width) per view: anything NumPy turns into numbers, a
        SciPy sparse matrix (kept as CSR), a tensor or a table of pandas, polars, pyarrow or
        anything else that narwhals reads. A 3-D array, a list of 2-D arrays of different lengths
        or a `Sequences` is a sequence view; a list or column of str or a `Texts` a text view.
        Tables and columns of pandas are put into the order of the first one's index.
    names : sequence of str, optional
        Names for a sequence of arrays; ``view1``, ``view2``, ... by default.
    raw : bool
        Whether a table with columns that are no numbers or number the rows, gaps within a row or
        infinity becomes a `RawTable`, of kind "raw", instead of an error.

    Attributes
    ----------
    names : tuple of str
        The views in their order.
    arrays : tuple of ndarray, csr_array, MappedRows, Sequences or Texts
        float64, one per view, of shape (n_samples, width); a text view has width 1, a memory map
        may be float32. Rows taken of a map may be a `MappedRows`.
    column_names : tuple of (tuple of str or int, or None)
        Names of each view's columns, None where its table had none.
    row_index : pandas.Index or None
        Labels of the rows, where a view had some.
    one_table : bool
        Whether the views were cut from one table.

    Raises
    ------
    DataError
        If there is no view, or a view is not a numeric table with at least one row and column, or
        some but not all of its columns are NaN in a row, or the views differ in number or in
        labels of rows.
    OptionError
        If names are repeated, empty, or not as many as the views.

    Examples
    --------
    >>> import numpy as np
    >>> mv = MultiView({"face": np.eye(3), "voice": np.ones((3, 2))})
    >>> mv
    MultiView(3 samples: face 3, voice 2)
    >>> mv.take([0, 2])["voice"].shape
    (2, 2)
    >>> mv.to_array().shape
    (3, 5)
    """

    names: tuple[str, ...]
    arrays: tuple[ViewArray, ...]
    column_names: tuple[ColumnNames, ...]
    row_index: pd.Index[Any] | None
    one_table: bool

    def __init__(
        self,
        arrays: Mapping[str, ArrayLike | ViewArray] | Sequence[ArrayLike | ViewArray],
        *,
        names: Sequence[str] | None = None,
        raw: bool = False,
    ) -> None:
        labels, values = named_views(arrays, names)
        values, index = align_rows(labels, values)
        values = [opened(f"view {label!r}", v) for label, v in zip(labels, values, strict=True)]
        columns = tuple(map(column_names, values))
        views = tuple(
            as_view(label, value, raw=raw) for label, value in zip(labels, values, strict=True)
        )
        rows = [view.shape[0] for view in views]
        if len(set(rows)) > 1:
            counts = ", ".join(f"{name} has {n}" for name, n in zip(labels, rows, strict=True))
            raise DataError(
                f"the views have different numbers of rows ({shortened(counts)}); give every view "
                "the same samples in the same order."
            )
        self._set(labels, views, columns, index)

    def _set(
        self,
        names: tuple[str, ...],
        arrays: tuple[ViewArray, ...],
        columns: tuple[ColumnNames, ...],
        index: pd.Index[Any] | None,
        one_table: bool = False,
    ) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "arrays", arrays)
        object.__setattr__(self, "column_names", columns)
        object.__setattr__(self, "row_index", index)
        object.__setattr__(self, "one_table", one_table)

    @classmethod
    def _trusted(
        cls,
        names: tuple[str, ...],
        arrays: tuple[ViewArray, ...],
        columns: tuple[ColumnNames, ...] | None = None,
        index: pd.Index[Any] | None = None,
        one_table: bool = False,
    ) -> Self:
        """Build from arrays that are known to be valid, without looking at them again."""
        self = cls.__new__(cls)
        shared = tuple(frozen(array) for array in arrays)
        self._set(names, shared, columns or (None,) * len(names), index, one_table)
        return self

    @classmethod
    def _restored(cls, names: tuple[str, ...], arrays: tuple[Any, ...], *parts: Any) -> Self:
        """Rebuild after pickling, which kept memory maps by the places in their files."""
        views = (array.open() if isinstance(array, Address) else array for array in arrays)
        return cls._trusted(names, tuple(views), *parts)

    def __reduce__(self) -> tuple[Any, ...]:
        # NumPy drops the read-only flag in a copy or another process; this sets it again
        arrays = tuple(address(array) or array for array in self.arrays)
        parts = (self.names, arrays, self.column_names, self.row_index, self.one_table)
        return (type(self)._restored, parts)

    @classmethod
    def from_array(cls, X: Any, *, views: Any = None, raw: bool = False) -> Self:
        """Cut one 2-D table into views by its columns.

        Parameters
        ----------
        X : array, sparse matrix or DataFrame of shape (n_samples, n_columns)
            The table. Columns that belong to no view are ignored when `views` selects columns.
        views : list, dict or str, optional
            - None: the first level of a DataFrame's column MultiIndex; else one view, ``view1``,
              with every column.
            - a list of ints: the widths of consecutive views, which add up to all columns.
            - a list of column choices: slices, lists of positions, or lists of column names.
            - a dict from a view's name to its width or to its choice of columns; the name of one
              column of texts makes it a text view.
            - a str such as ``"__"``: a DataFrame's column ``face__x`` belongs to view ``face``;
              views come in the order of their first columns.
        raw : bool
            See `MultiView`.

        Raises
        ------
        OptionError
            If `views` names columns that do not exist, that overlap or that do not add up.
        DataError
            If the table is not valid; see `MultiView`.

        Examples
        --------
        >>> import numpy as np
        >>> X = np.arange(10.0).reshape(2, 5)
        >>> MultiView.from_array(X, views={"a": 2, "b": 3}).widths
        (2, 3)
        >>> MultiView.from_array(X, views=[slice(0, 2), [4, 3]])["view2"].tolist()
        [[4.0, 3.0], [9.0, 8.0]]
        """
        X = opened("X", X)
        if not is_frame(X) and not issparse(X):
            array = as_array("X", X, raw=raw)
            if array.dtype.kind == "O" and array.size and axes(array.flat[0]) >= 2:
                raise DataError(
                    f"X is an array of {array.size} tables, as a MATLAB cell is read; give "
                    "list(X.ravel())."
                )
            X = array
        if len(X.shape) != 2:
            raise DataError(shape_message("X", X.shape))
        if not is_frame(X):
            groups = column_groups(views, n_columns=X.shape[1], labels=None)
            table: Any = X if isinstance(X, np.ndarray) else csr_array(X)
            return cls({name: table[:, group] for name, group in groups.items()}, raw=raw)
        groups = column_groups(views, n_columns=X.shape[1], labels=list(X.columns))
        cuts = {name: cut_columns(X, group) for name, group in groups.items()}
        single = views if isinstance(views, Mapping) else {}
        for name in (name for name in cuts if isinstance(single.get(name), str)):
            column = first_column(f"view {name!r}", cuts[name])
            if column.dtype.kind == "O" and any(isinstance(text, str) for text in column):
                cuts[name] = column
        made = cls(cuts, raw=raw)
        return cls._trusted(made.names, made.arrays, made.column_names, row_labels(X), True)

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.names)

    @property
    def n_samples(self) -> int:
        """Number of rows, the same in every view."""
        return int(self.arrays[0].shape[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of columns of each view."""
        return tuple(int(array.shape[1]) for array in self.arrays)

    @property
    def kinds(self) -> tuple[ViewKind, ...]:
        """Kind of each view: dense, sparse, sequence, text, or raw (not yet prepared)."""
        return tuple(_kind(array) for array in self.arrays)

    @cached_property
    def present(self) -> NDArray[np.bool_]:
        """Mask of the views that each row has, (n_samples, n_views); False where one is missing.

        It can't be written to, and takes no memory where no view is missing.

        Examples
        --------
        >>> MultiView({"a": [[1.0], [2.0]], "b": [[np.nan], [3.0]]}).present.tolist()
        [[True, False], [True, True]]
        """
        columns = [present_rows(array) for array in self.arrays]
        if all(column.all() for column in columns):
            return np.broadcast_to(True, (self.n_samples, self.n_views))
        return read_only(np.column_stack(columns))

    @cached_property
    def complete(self) -> bool:
        """Whether every row has every view.

        Examples
        --------
        >>> MultiView({"a": [[1.0]]}).complete, MultiView({"a": [[1.0], [np.nan]]}).complete
        (True, False)
        """
        return bool(self.present.all())

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows, and of columns of all views: what scikit-learn counts samples by."""
        return self.n_samples, sum(self.widths)

    @overload
    def __getitem__(self, name: str) -> ViewArray: ...

    @overload
    def __getitem__(self, name: tuple[Any, EllipsisType]) -> MultiView: ...

    def __getitem__(self, name: str | tuple[Any, EllipsisType]) -> ViewArray | MultiView:
        if isinstance(name, tuple) and len(name) == 2 and name[1] is Ellipsis:
            return self.take(name[0])  # scikit-learn's way to select rows of an array
        self._check_names([name])
        return self.arrays[self.names.index(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def keys(self) -> tuple[str, ...]:
        """Return the names of the views."""
        return self.names

    def items(self) -> Iterator[tuple[str, ViewArray]]:
        """Iterate over pairs of name and array, in order."""
        return zip(self.names, self.arrays, strict=True)

    def __repr__(self) -> str:
        views = [f"{name} {width}" for name, width in zip(self.names, self.widths, strict=True)]
        return f"MultiView({self.n_samples} samples: {', '.join(views)})"

    def take(self, rows: ArrayLike | slice) -> MultiView:
        """Select rows of every view.

        Parameters
        ----------
        rows : array of int, array of bool of length n_samples, or slice
            Rows to select, in this order; repeats are allowed.

        Raises
        ------
        OptionError
            If a row does not exist, a mask has another length, or nothing is selected.

        Examples
        --------
        >>> MultiView([[[1.0], [2.0]]]).take([1, 1, 0])["view1"].ravel().tolist()
        [2.0, 2.0, 1.0]
        """
        n = self.n_samples
        index: Any = rows
        if isinstance(rows, slice):
            size: tuple[int, ...] = (len(range(n)[rows]),)
        else:
            index = np.asarray(rows)
            if index.dtype == bool and index.ndim == 1:
                if len(index) != n:
                    raise OptionError(
                        f"the row mask has {len(index)} entries but the views have {n} rows."
                    )
                index = np.flatnonzero(index)
            size = index.shape
        if len(size) != 1 or not size[0]:
            raise OptionError(
                f"rows of shape {size} select nothing; give a 1-D list of one or more rows."
            )
        if not isinstance(rows, slice):
            index = self._checked(index)
        labels = None if self.row_index is None else self.row_index[index]
        return self._part(_taken(self.arrays, index), labels, index)

    def _checked(self, index: NDArray[Any]) -> NDArray[np.intp]:
        """Refuse numbers of rows that do not exist."""
        n = self.n_samples
        if index.dtype.kind not in "iu":
            raise OptionError(f"rows must be integers or a mask, not {index.dtype}.")
        outside = (index < -n) | (index >= n)
        if outside.any():
            raise OptionError(
                f"row {index[outside][0]} does not exist: the views have {n} rows, 0 to {n - 1}."
            )
        return index.astype(np.intp, copy=False)

    def _part(
        self,
        arrays: tuple[ViewArray, ...],
        labels: pd.Index[Any] | None,
        rows: slice | NDArray[np.intp],
    ) -> MultiView:
        """Build from some rows, whose presence is known where that of all rows is."""
        part = self._trusted(self.names, arrays, self.column_names, labels, self.one_table)
        if (present := self.__dict__.get("present")) is not None:
            whole = self.complete
            mask = np.broadcast_to(True, (part.n_samples, self.n_views)) if whole else present[rows]
            part.__dict__["present"] = read_only(mask)
        return part

    def replace(self, arrays: Mapping[str, ArrayLike | ViewArray]) -> MultiView:
        """Give some views new arrays; widths may change, rows may not.

        Raises
        ------
        OptionError
            If a name is not one of the views.
        DataError
            If a new array is not valid or has another number of rows.

        Examples
        --------
        >>> MultiView({"a": [[1.0]], "b": [[2.0]]}).replace({"b": [[3.0, 4.0]]}).widths
        (1, 2)
        """
        self._check_names(arrays)
        tables, _ = align_rows(tuple(arrays), list(arrays.values()), self.row_index)
        new = MultiView(dict(zip(arrays, tables, strict=True))) if arrays else self
        if new.n_samples != self.n_samples:
            raise DataError(
                f"the new arrays for {shortened(', '.join(new.names))} have {new.n_samples} rows "
                f"but the views have {self.n_samples}; give one row per sample."
            )
        merged = {**dict(self.items()), **dict(new.items())}
        columns = dict(zip(self.names, self.column_names, strict=True))
        columns |= dict(zip(new.names, new.column_names, strict=True))
        parts = (tuple(merged.values()), tuple(columns.values()), self.row_index, self.one_table)
        return self._trusted(self.names, *parts)

    def map(self, fn: Callable[[str, ViewArray], ArrayLike | ViewArray]) -> MultiView:
        """Apply a function of name and array to every view; the results are validated anew.

        Examples
        --------
        >>> MultiView({"a": [[1.0]], "b": [[2.0]]}).map(lambda name, x: 2 * x)["b"].tolist()
        [[4.0]]
        """
        return self.with_arrays({name: fn(name, array) for name, array in self.items()})

    def with_arrays(self, arrays: Mapping[str, ArrayLike | ViewArray]) -> MultiView:
        """Give the same rows other views; these keep the rows' labels.

        Examples
        --------
        >>> MultiView({"a": [[1.0]]}).with_arrays({"b": [[2.0, 3.0]]})
        MultiView(1 samples: b 2)
        """
        new = MultiView(arrays)
        labels = self.row_index if new.n_samples == self.n_samples else None
        return self._trusted(new.names, new.arrays, new.column_names, labels, self.one_table)

    def arranged(self, names: Sequence[str], widths: Sequence[int]) -> MultiView:
        """Put views into the order of `names`; one that is lacking is missing for every row.

        Parameters
        ----------
        names : sequence of str
            Names of all views that there may be.
        widths : sequence of int
            Their numbers of columns.

        Raises
        ------
        DataError
            If a view has none of the names.

        Examples
        --------
        >>> views = MultiView({"b": [[2.0]], "a": [[1.0]]}).arranged(["a", "b", "c"], [1, 1, 2])
        >>> views, views.present.tolist()
        (MultiView(1 samples: a 1, b 1, c 2), [[True, True, False]])
        """
        check_view_names(self.names, names)
        columns = dict(zip(self.names, self.column_names, strict=True))
        # a broadcast NaN: a view that is missing for every row takes no memory
        arrays = tuple(
            self[name] if name in self else np.broadcast_to(np.nan, (self.n_samples, width))
            for name, width in zip(names, widths, strict=True)
        )
        ordered = tuple(columns.get(name) for name in names)
        return self._trusted(tuple(names), arrays, ordered, self.row_index, self.one_table)

    def with_columns(self, orders: Mapping[str, Sequence[int]]) -> MultiView:
        """Take some views' columns, by position, in an order of their own.

        Examples
        --------
        >>> MultiView({"a": [[1.0, 2.0]]}).with_columns({"a": [1, 0]})["a"].tolist()
        [[2.0, 1.0]]
        """
        arrays = dict(self.items())
        columns = dict(zip(self.names, self.column_names, strict=True))
        for name, order in orders.items():
            arrays[name], labels = _reordered(arrays[name], list(order)), columns[name]
            columns[name] = None if labels is None else tuple(labels[place] for place in order)
        parts = (tuple(arrays.values()), tuple(columns.values()), self.row_index, self.one_table)
        return self._trusted(self.names, *parts)

    def pooled(self, how: Pooling = "mean", *, text_columns: int = 1024) -> MultiView:
        """Turn sequence and text views into tables, row by row; nothing is fitted.

        Kernel experts take part in RCML-MISA for such a view only once it is pooled.

        Parameters
        ----------
        how : {"mean", "max", "mean-std"}
            Summary of a sequence's steps.
        text_columns : int
            Hashed columns of words and pairs of words of a text, sparse, rows of unit norm.

        Raises
        ------
        OptionError
            If there is no such pooling.

        Examples
        --------
        >>> MultiView({"a": np.ones((2, 5, 3)), "b": ["yes", "no"]}).pooled(text_columns=8)
        MultiView(2 samples: a 3, b 8)
        """

        def table(_: str, array: ViewArray) -> ViewArray:
            if isinstance(array, Sequences):
                return pool_sequences(array, how)
            return pool_texts(array, text_columns) if isinstance(array, Texts) else array

        return self.map(table)

    def to_array(self) -> NDArray[np.float64]:
        """Join the views into one new dense array of shape (n_samples, sum of widths).

        Raises
        ------
        DataError
            If a view is a sequence or a text.
        """
        return np.concatenate([dense(array) for array in self.arrays], axis=1)

    def to_frame(self) -> pd.DataFrame:
        """Join the views into a DataFrame whose columns are called ``view__0``, ``view__1``, ...

        Its shape is (n_samples, sum of widths); ``views="__"`` cuts it again.

        Examples
        --------
        >>> MultiView({"a": [[1.0, 2.0]]}).to_frame().columns.tolist()
        ['a__0', 'a__1']
        """
        import pandas as pd

        widths = zip(self.names, self.widths, strict=True)
        columns = [f"{name}__{column}" for name, width in widths for column in range(width)]
        return pd.DataFrame(self.to_array(), columns=pd.Index(columns))

    def _check_names(self, names: Sequence[str] | Mapping[str, Any]) -> None:
        for name in names:
            if name not in self.names:
                raise OptionError(f"there is no view {name!r}; {nearest(str(name), self.names)}")


def _taken(arrays: tuple[ViewArray, ...], rows: slice | NDArray[np.intp]) -> tuple[ViewArray, ...]:
    """Select checked rows; many rows of memory maps stay in their files."""
    if isinstance(rows, slice):
        return tuple(array[rows] for array in arrays)
    numbers: dict[int, NDArray[np.intp]] = {}  # of rows of files, shared by the views

    def taken(array: ViewArray) -> ViewArray:
        if not is_mapped(array):
            return array[rows]
        if len(rows) <= COPIED:
            return read(array, rows)
        given = array if isinstance(array, MappedRows) else MappedRows(array)
        if id(given.rows) not in numbers:
            places = rows % len(given)
            numbers[id(given.rows)] = places if given.rows is None else given.rows[places]
        return cast(ViewArray, replace(given, rows=numbers[id(given.rows)]))

    return tuple(map(taken, arrays))


def _reordered(array: ViewArray, order: list[int]) -> ViewArray:
    if isinstance(array, Sequences | Texts):
        return array
    if isinstance(array, RawTable):
        return RawTable(array.frame.iloc[:, order])
    columns = array[:, order]
    # side by side in memory, as in a table of that order
    return np.ascontiguousarray(columns) if isinstance(columns, np.ndarray) else columns


def _kind(array: ViewArray) -> ViewKind:
    if isinstance(array, Sequences | Texts):
        return "sequence" if isinstance(array, Sequences) else "text"
    if isinstance(array, RawTable):
        return "raw"
    return "sparse" if issparse(array) else "dense"
