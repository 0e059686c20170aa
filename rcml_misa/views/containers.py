"""Containers of other libraries, recognised by what they offer: tensors, columns and frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from rcml_misa.exceptions import DataError, shortened

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "as_pandas",
    "axes",
    "cut_columns",
    "first_column",
    "is_frame",
    "is_pandas",
    "numeric_values",
    "opened",
    "unwrapped",
]


def is_pandas(value: Any) -> bool:
    """Recognise a pandas DataFrame by its attributes, without importing pandas."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def is_frame(value: Any) -> bool:
    """Recognise an opened table with names of columns: of pandas or of narwhals."""
    return is_pandas(value) or (hasattr(value, "columns") and hasattr(value, "schema"))


def axes(value: Any) -> int:
    """Count the axes of anything with a shape, 1 for what has none.

    Examples
    --------
    >>> axes(np.ones((2, 3))), axes([1.0])
    (2, 1)
    """
    if isinstance(value, np.ndarray):
        return value.ndim
    shape = getattr(value, "shape", None)
    return len(shape) if shape is not None and hasattr(shape, "__len__") else 1


def unwrapped(value: Any) -> Any:
    """Take a frame or column out of narwhals; anything else is returned as it is."""
    return value.to_native() if type(value).__module__.startswith("narwhals") else value


def opened(what: str, value: Any) -> Any:
    """Turn a tensor or a column into an array, and a frame into one of pandas or narwhals.

    Anything else is returned as it is.

    Raises
    ------
    DataError
        If a tensor has no values that NumPy can take, or a frame is lazy.

    Examples
    --------
    >>> import torch
    >>> opened("X", torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).dtype
    dtype('float32')
    """
    if value is None or isinstance(value, np.ndarray | str) or issparse(value) or is_pandas(value):
        return value
    if isinstance(value, list | tuple):
        kind = type(value[0]) if value else None
        foreign = hasattr(kind, "detach") or hasattr(kind, "columns")
        return [_item(what, item) for item in value] if foreign else value
    if hasattr(value, "detach"):
        return _tensor_values(what, value)
    import narwhals.stable.v2 as nw

    native = unwrapped(value)
    if is_pandas(native):
        return native
    try:
        table = nw.from_native(native, pass_through=True, allow_series=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(
            f"{what} has columns of one name ({shortened(error)}); rename them."
        ) from error
    if isinstance(table, nw.LazyFrame):
        raise DataError(
            f"{what} is a {type(native).__name__}, whose rows are not computed yet; collect it "
            "first, for instance by its collect()."
        )
    if isinstance(table, nw.Series):
        # texts as Python's own, so that a missing one stays None
        if table.dtype not in (nw.String, nw.Categorical, nw.Enum, nw.Object):
            return table.to_numpy()
        texts = table.to_list()
        levels = table.dtype in (nw.Categorical, nw.Enum)
        # categories of pandas may be numbers
        numbers = levels and not any(isinstance(text, str) for text in texts)
        return table.to_numpy() if numbers else _objects(texts)
    return np.asarray(table) if hasattr(table, "to_pylist") else table  # an array of Arrow


def _item(what: str, item: Any) -> Any:
    """Open one entry of a list."""
    array = opened(what, item)
    if not is_frame(array):
        return array
    return array.to_numpy() if is_pandas(array) else numeric_values(array)


def _objects(values: list[Any]) -> NDArray[Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _tensor_values(what: str, tensor: Any) -> NDArray[Any]:
    """Copy a tensor off its device and out of types and layouts that NumPy lacks."""
    try:
        values = tensor.detach()
        if getattr(values, "layout", None) is not None and str(values.layout) != "torch.strided":
            values = values.to_dense()
        values = values.cpu()
        for unfold in ("resolve_conj", "resolve_neg"):
            values = getattr(values, unfold)() if hasattr(values, unfold) else values
        try:
            return np.asarray(values.numpy())
        except TypeError:  # bfloat16 and narrower
            return np.asarray(values.float().numpy())
    except (TypeError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"{what} is a tensor that NumPy can't take ({shortened(error)}); give its values as "
            "an array."
        ) from error


def cut_columns(frame: Any, group: slice | NDArray[np.intp]) -> Any:
    """Take some columns of an opened frame by position."""
    if is_pandas(frame):
        return frame.iloc[:, group]
    return frame[:, group if isinstance(group, slice) else group.tolist()]


def first_column(what: str, frame: Any) -> NDArray[Any]:
    """Return the first column of an opened frame as an array."""
    column = frame.iloc[:, 0] if is_pandas(frame) else frame[frame.columns[0]]
    return np.asarray(opened(what, column))


def numeric_values(frame: Any) -> NDArray[np.float64]:
    """Convert a narwhals frame of numbers to float64; a missing value is NaN.

    Raises
    ------
    TypeError
        If a column holds no numbers; its sentence names these columns.
    """
    import narwhals.stable.v2 as nw

    if all(kind.is_numeric() and kind != nw.Decimal for kind in frame.schema.values()):
        whole = frame.to_numpy()  # at once, since a column at a time is slow in wide frames
        if whole.dtype.kind in "iuf":
            return np.ascontiguousarray(whole, dtype=np.float64)
    columns = list(frame.iter_columns())
    gaps = [column.is_null().to_numpy() for column in columns]
    kinds = [column.dtype for column in columns]
    wrong = [
        column.name
        for column, kind, missing in zip(columns, kinds, gaps, strict=True)
        if not (kind.is_numeric() or kind == nw.Boolean or (missing.size and missing.all()))
    ]
    if wrong:
        raise TypeError(f"column {', '.join(map(str, wrong))}")
    values = np.empty(frame.shape, order="F")
    for place, (column, missing) in enumerate(zip(columns, gaps, strict=True)):
        values[:, place] = np.nan if missing.all() else column.cast(nw.Float64).to_numpy()
        values[missing, place] = np.nan
    return np.ascontiguousarray(values)  # as an array of the same values is


def as_pandas(frame: Any) -> pd.DataFrame:
    """Convert an opened frame to pandas, column by column, with no need of pyarrow."""
    import narwhals.stable.v2 as nw
    import pandas as pd

    if is_pandas(frame):
        plain: pd.DataFrame = frame
        return plain
    columns: dict[str, Any] = {}
    for column in frame.iter_columns():
        name, kind = column.name, column.dtype
        if kind in (nw.Categorical, nw.Enum):
            columns[name] = pd.Categorical(column.to_list())
        elif kind.is_numeric() or isinstance(kind, nw.Datetime | nw.Date | nw.Duration):
            columns[name] = pd.Series(column.to_numpy())
        else:
            columns[name] = pd.Series(column.to_list(), dtype=None if len(column) else object)
    return pd.DataFrame(columns)
