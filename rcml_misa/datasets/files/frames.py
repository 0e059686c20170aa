"""Tables: csv, tsv and parquet, whole or in chunks of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_chunks", "frame_columns", "is_frame_file", "read_frame"]

SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
PARQUET = (".parquet", ".pq")
BUFFER = 2**20  # bytes read at once of a column
# what stands for a gap among numbers; in a column of texts only nothing at all does
GAPS = ("", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "#N/A", "<NA>")


def _separator(path: Path) -> str | None:
    name = path.name.lower()
    return next((mark for end, mark in SEPARATORS.items() if name.endswith(end)), None)


def is_frame_file(path: Path) -> bool:
    """Tell a table by the end of its name.

    Examples
    --------
    >>> is_frame_file(Path("a.csv")), is_frame_file(Path("a.npz"))
    (True, False)
    """
    return _separator(path) is not None or path.suffix.lower() in PARQUET


def frame_columns(path: Path) -> list[str]:
    """Names of a table's columns, without its rows.

    Raises
    ------
    DataError
        If the file is no table, or two columns have one name.
    """
    with _readable(path):
        separator = _separator(path)
        if separator is None:
            names = [str(name) for name in _parquet(path).schema_arrow.names]
        else:
            import pandas as pd

            # the names as they stand: pandas would tell the second of two alike apart
            head = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str)
            names = [str(name) for name in head.iloc[0].fillna("")]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{path} has two columns called {name!r}; give each its own name.")
    return names


def _options(path: Path, separator: str, texts: Sequence[str]) -> Any:
    # all columns are read: with some of them left out, a row of too many entries goes unnoticed
    names = frame_columns(path)
    return {
        "filepath_or_buffer": path,
        "sep": separator,
        "dtype": dict.fromkeys(texts, str),
        "keep_default_na": False,
        "na_values": {name: [""] if name in texts else list(GAPS) for name in names},
    }


def _even(path: Path, frame: pd.DataFrame) -> pd.DataFrame:
    """Refuse rows of more entries than there are names, which pandas takes for an index."""
    import pandas as pd

    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path} has more entries in a row than names of columns; mend it.")
    return frame


def read_frame(path: Path, columns: Sequence[str], *, texts: Sequence[str] = ()) -> pd.DataFrame:
    """Read some columns of a table.

    Parameters
    ----------
    path : Path
    columns : sequence of str
    texts : sequence of str
        Those whose entries stay as they are written, such as labels and names of rows.

    Raises
    ------
    DataError
        If the file is no table.
    """
    import pandas as pd

    with _readable(path):
        separator = _separator(path)
        if separator is not None:
            frame = pd.read_csv(**_options(path, separator, texts), low_memory=False)
            return _even(path, frame)[list(columns)]
        table: pd.DataFrame = _parquet(path).read(columns=list(columns)).to_pandas()
        return table


def frame_chunks(
    path: Path, columns: Sequence[str], rows: int, *, texts: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table in chunks of at most so many rows; see `read_frame`.

    Raises
    ------
    DataError
        If the file is no table.
    """
    import pandas as pd

    with _readable(path):
        separator = _separator(path)
        if separator is not None:
            with pd.read_csv(**_options(path, separator, texts), chunksize=rows) as chunks:
                for chunk in chunks:
                    yield _even(path, chunk)[list(columns)]
            return
        for batch in _parquet(path).iter_batches(batch_size=rows, columns=list(columns)):
            yield batch.to_pandas()


def _parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path} is a parquet file, which takes pyarrow to read: pip install "
            "'rcml-misa[parquet]', or give a csv file."
        ) from error
    # without these the columns of all row groups are fetched ahead and kept
    return ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pandas and pyarrow say of a damaged file into one sentence."""
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        cause = error.strerror or " ".join(str(error).split())
        raise DataError(f"{path} can't be read ({cause}); check the file.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error.reason}); save it so.") from error
    except (ValueError, IndexError) as error:  # pandas' and pyarrow's own are of the first kind
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"{path} is no whole table ({cause}); check the file.") from error
