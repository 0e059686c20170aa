"""Tables of a file: names and rows of csv, tsv and parquet.

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.files.faults import readable
from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["frame_chunks", "frame_columns", "is_frame_file"]

SEPARATORS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}
PARQUET = (".parquet", ".pq")
UNNAMED_INDEX = "__index_level_"  # beginning of the name that pandas writes an index under
BUFFER = 2**20  # bytes read at once of a column
# what stands for a gap among numbers; in a column of texts only nothing at all does
GAPS = ["", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "null", "NULL", "None", "#N/A", "<NA>"]


def is_frame_file(path: Path) -> bool:
    """Tell a table by the end of its name."""
    return _separator(path) is not None or path.suffix.lower() in PARQUET


def _separator(path: Path) -> str | None:
    name = path.name.lower()
    return next((mark for end, mark in SEPARATORS.items() if name.endswith(end)), None)


def frame_columns(path: Path) -> list[str]:
    """Read the names of a table's columns, without its rows; each name must stand once."""
    import pandas as pd

    with readable(path, table=True):
        separator = _separator(path)
        if separator is None:
            stored = map(str, _parquet(path).schema_arrow.names)
            names = [name for name in stored if not name.startswith(UNNAMED_INDEX)]
        else:
            # the names as they stand: pandas would tell the second of two alike apart
            head = pd.read_csv(path, sep=separator, nrows=1, header=None, dtype=str)
            names = [str(name) for name in head.iloc[0].fillna("")]
    for name, count in Counter(names).items():
        if count > 1:
            raise DataError(f"{path} has two columns called {name!r}; give each its own name.")
    return names


def frame_chunks(
    path: Path, columns: Sequence[str], rows: int | None, *, texts: Sequence[str] = ()
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table in chunks of at most so many rows, or whole for None.

    The columns `texts`, such as labels, stay as they are written.
    """
    import pandas as pd

    wanted = list(columns)
    with readable(path, table=True):
        separator = _separator(path)
        if separator is None:
            table = _parquet(path)
            whole = [table.read(columns=wanted)] if rows is None else []
            for part in whole or table.iter_batches(batch_size=rows, columns=wanted):
                frame = part.to_pandas()
                # an index that pandas wrote under a name is a column
                names = [name for name in frame.index.names if name is not None]
                yield (frame.reset_index(names) if names else frame)[wanted]
            return
        # all columns are read: with some left out, a row of too many entries goes unnoticed
        gaps = {name: [""] if name in texts else GAPS for name in frame_columns(path)}
        with pd.read_csv(
            path,
            sep=separator,
            dtype=dict.fromkeys(texts, str),
            keep_default_na=False,
            na_values=gaps,
            low_memory=False,
            chunksize=rows or sys.maxsize,
        ) as chunks:
            for frame in chunks:
                # pandas takes entries beyond the names for an index
                if not isinstance(frame.index, pd.RangeIndex):
                    raise DataError(
                        f"{path} has more entries in a row than names of columns; mend it."
                    )
                yield frame[wanted]


def _parquet(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DataError(
            f"{path} is a parquet file, which takes pyarrow to read: pip install "
            "'rcml-misa[parquet]', or give a csv file."
        ) from error
    # without these the columns of all row groups are fetched ahead and held in memory
    return ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
