"""Tables of formats that keep types: parquet, feather and Excel sheets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZipFile

import numpy as np

from rcml_misa.datasets.bounds import LEAST_TEXT, SizeBound, bounded_members
from rcml_misa.datasets.files.delimited import MARK, has_names
from rcml_misa.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ArrowTable", "Sheet"]

FEATHER = ".feather"
BUFFER = 2**20  # bytes read at once of a column
SNIFFED_ROWS = 20
NUMBER = 8  # bytes of a number, or of a place in a table of texts
CELL = re.compile(rb"""\br=["']([A-Z]{0,3})(\d{1,7})["']""")  # of a row too, which has no letters


class ArrowTable:
    """A parquet or feather file: its names, and some of its columns.

    Attributes
    ----------
    names : list of str
        Names as they are stored, those of an index that pandas wrote among them.
    named : bool
        True; such a file has names.
    notes : tuple of str
        None.
    range_index : bool
        Whether pandas keeps an unnamed index of consecutive row numbers beside the columns.
    """

    named = True
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        try:
            from pyarrow import ipc
            from pyarrow.parquet import ParquetFile
        except ImportError as error:
            kind = "feather" if path.suffix.lower() == FEATHER else "parquet"
            raise DataError(
                f"{path} is a {kind} file, which takes pyarrow to read: pip install "
                "'rcml-misa[parquet]', or give a csv file."
            ) from error
        self.path = path
        self.feather = path.suffix.lower() == FEATHER
        if self.feather:
            with ipc.open_file(str(path)) as reader:
                schema = reader.schema
        else:
            # without these the columns of all row groups are fetched ahead and held in memory
            self._parquet: Any = ParquetFile(path, pre_buffer=False, buffer_size=BUFFER)
            schema = self._parquet.schema_arrow
            _bound_parquet(path, self._parquet)
        self.names = [str(name) for name in schema.names]
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        self.range_index = len(index) == 1 and isinstance(index[0], dict) and not index[0]["name"]

    def count_rows(self) -> int:
        """Count the rows; a feather file is gone through for that."""
        if not self.feather:
            return int(self._parquet.metadata.num_rows)
        return sum(len(part) for part in self._parts(self.names[:1], 2**31))

    def chunks(self, columns: Sequence[str], rows: int | None) -> Iterator[pd.DataFrame]:
        """Yield some columns in chunks of at most so many rows, an index among the columns.

        A name that is not stored is that of the index of row numbers.
        """
        stored = set(self.names)
        for part in self._parts([name for name in columns if name in stored], rows):
            frame = part.to_pandas()
            levels = set(columns).difference(frame.columns)
            if levels:
                (unnamed,) = levels.difference(frame.index.names) or [None]
                names = [unnamed if name is None else name for name in frame.index.names]
                frame = frame.reset_index(names=names)
            yield frame

    def _parts(self, columns: list[str], rows: int | None) -> Iterator[Any]:
        if not self.feather:
            whole = [self._parquet.read(columns=columns)] if rows is None else []
            yield from whole or self._parquet.iter_batches(batch_size=rows, columns=columns)
            return
        import pyarrow as pa
        from pyarrow import feather, ipc

        if rows is None:
            yield feather.read_table(self.path, columns=columns)
            return
        fields = sorted(self.names.index(name) for name in columns)
        options = ipc.IpcReadOptions(included_fields=fields)
        with (
            pa.memory_map(str(self.path)) as source,
            ipc.open_file(source, options=options) as file,
        ):
            if not file.num_record_batches:
                yield file.schema.empty_table()
            for number in range(file.num_record_batches):
                table = pa.Table.from_batches([file.get_batch(number)])
                for start in range(0, len(table), rows):
                    yield table.slice(start, rows)


def _bound_parquet(path: Path, file: Any) -> None:
    """Count the values of a parquet file, and the bytes of its texts where few stand for many."""
    import pyarrow as pa
    from pyarrow import compute
    from pyarrow.parquet import ParquetFile

    bound, facts = SizeBound(path), file.metadata
    texts: set[str] = set()
    for number in range(facts.num_row_groups):
        group = facts.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            bound.spend(NUMBER * max(column.num_values, 0))
            packed, plain = column.total_compressed_size, column.total_uncompressed_size
            if packed > bound.size or min(packed, plain) < 0:
                raise DataError(
                    f"{path} is damaged: it states sizes that do not fit; fetch it again."
                )
            bound.spend(plain)
            if column.physical_type == "BYTE_ARRAY" and column.num_values * plain > bound.left:
                texts.add(column.path_in_schema)
    flat = [name for name in file.schema_arrow.names if name in texts]
    if not flat:
        return
    coded = ParquetFile(path, read_dictionary=flat, pre_buffer=False, buffer_size=BUFFER)
    for batch in coded.iter_batches(batch_size=2**16, columns=flat):
        for column in batch.columns:
            if not pa.types.is_dictionary(column.type):
                bound.spend(column.nbytes)
                continue
            lengths = compute.binary_length(column.dictionary)
            bound.spend(compute.sum(lengths.take(column.indices)).as_py() or 0)


def _bound_sheets(path: Path) -> None:
    """Count the content of an Excel file, and the cells that its sheets span."""
    bound = SizeBound(path, least=LEAST_TEXT)
    with ZipFile(path) as archive:
        for member in bounded_members(archive, bound):
            if not member.filename.startswith("xl/worksheets/"):
                continue
            rows, columns = 0, 0
            with archive.open(member) as stream:
                rest = b""
                while part := stream.read(2**20):
                    part = rest + part
                    for letters, digits in CELL.findall(part):
                        width = 0
                        for letter in letters:
                            width = 26 * width + letter - 64
                        rows, columns = max(rows, int(digits)), max(columns, width)
                    rest = part[-32:]
            bound.spend(NUMBER * rows * columns)


def _marked(value: object) -> str:
    return f"{MARK}{value}"


class Sheet:
    """The first sheet of an Excel file.

    Attributes
    ----------
    names : list of str
        Names of the columns; positions where no line has names.
    named : bool
        Whether the first line holds the names.
    notes : tuple of str
    """

    def __init__(self, path: Path) -> None:
        import pandas as pd

        try:
            import_module("openpyxl")
        except ImportError as error:
            raise DataError(
                f"{path} is an Excel file, which takes openpyxl to read: pip install "
                "'rcml-misa[excel]', or save it as csv."
            ) from error
        self.path = path
        _bound_sheets(path)
        with pd.ExcelFile(path, engine="openpyxl") as book:
            sheets = [str(name) for name in book.sheet_names]
            head = pd.read_excel(
                book, header=None, nrows=SNIFFED_ROWS, dtype=str, keep_default_na=False
            ).to_numpy()
        if not len(head):
            raise DataError(f"{path} is empty; give a table with names of columns and rows.")
        filled = np.flatnonzero((head != "").any(axis=1))
        self.skipped = int(filled[0]) if len(filled) else 0
        head = head[self.skipped :]
        self.names = [str(name) for name in head[0]]
        self.named = has_names(self.names, head[1:].tolist())
        notes = []
        if not self.named:
            self.names = [str(number) for number in range(len(self.names))]
            last = len(self.names) - 1
            notes.append(f"{path.name} has no line of names; its columns are called 0 to {last}.")
        if len(sheets) > 1:
            notes.append(f"{path.name} has {len(sheets)} sheets, of which {sheets[0]!r} is read.")
        self.notes = tuple(notes)

    def chunks(
        self,
        stored: Sequence[str],
        rows: int | None,
        *,
        texts: Sequence[str],
        categories: Sequence[str],
    ) -> Iterator[pd.DataFrame]:
        """Yield all columns, named `stored`, in chunks of so many rows; `texts` with a mark."""
        import pandas as pd

        frame = pd.read_excel(
            self.path,
            header=0 if self.named else None,
            skiprows=self.skipped,
            names=list(stored),
            converters={**dict.fromkeys(categories, str), **dict.fromkeys(texts, _marked)},
            engine="openpyxl",
        )
        # empty lines are no rows, as in a text table
        rows_with_values = (frame.notna() & (frame != MARK)).to_numpy().any(axis=1)
        if not rows_with_values.all():
            frame = frame.iloc[np.flatnonzero(rows_with_values)].reset_index(drop=True)
        for start in range(0, max(len(frame), 1), rows or max(len(frame), 1)):
            yield frame.iloc[start : start + rows] if rows else frame
