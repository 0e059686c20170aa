"""Tables of a file: names and rows of text tables, parquet, feather and Excel.

Every function raises a DataError of one sentence for a file that is absent, damaged or of another
kind than its name says.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.bounds import MOST_MEMBERS
from rcml_misa.datasets.files.delimited import TextForm, text_chunks, text_ending, unmarked
from rcml_misa.datasets.files.faults import readable
from rcml_misa.datasets.files.layout import UNNAMED
from rcml_misa.datasets.files.typed_tables import ArrowTable, Sheet
from rcml_misa.exceptions import DataError, shortened

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "TableHead",
    "TableParts",
    "frame_chunks",
    "frame_columns",
    "frame_head",
    "is_frame_file",
    "is_loose",
    "shared_columns",
    "table_files",
]

ARROW = (".parquet", ".pq", ".feather")
EXCEL = ".xlsx"
LOOSE = (".txt", ".data")  # of which many hold no table
NUMBERS = re.compile(r"(\d+)")
# names under which pandas writes an index without a name, and reads one back
INDEX = re.compile(r"|Unnamed: 0([._].*)?")
ARROW_INDEX = re.compile(r"__index_level_\d+__")


def is_frame_file(path: Path) -> bool:
    """Tell a table by the end of its name."""
    return text_ending(path) is not None or path.suffix.lower() in (*ARROW, EXCEL)


def is_loose(path: Path) -> bool:
    """Tell whether a file of such a name may just as well be no table, such as a readme.txt."""
    return text_ending(path) in LOOSE or path.suffix.lower() == EXCEL


@dataclass(frozen=True)
class TableParts:
    """Files of one table, in the order of its rows, and whether they have names of columns."""

    paths: tuple[Path, ...]
    named: bool


def table_files(folder: Path) -> list[Path]:
    """List the tables of a folder by name, with numbers in their order: part-2 before part-10.

    Files such as .txt, which may be no tables, count only where no others are there.
    """
    present = [
        path
        for path in folder.iterdir()
        if path.is_file() and is_frame_file(path) and not path.name.startswith(".")
    ]
    if len(present) > MOST_MEMBERS:
        raise DataError(
            f"{shortened(folder)} holds {len(present)} tables, above {MOST_MEMBERS}; join them."
        )
    sure = [path for path in present if not is_loose(path)]
    return sorted(sure or present, key=_in_order)


def _in_order(path: Path) -> tuple[list[str | int], str]:
    pieces = enumerate(NUMBERS.split(path.name))  # every second one is a number
    return [int(piece) if place % 2 else piece for place, piece in pieces], path.name


def shared_columns(folder: Path) -> list[str] | None:
    """Return the names of columns that all tables of a folder have, where these are all of theirs.

    Such tables may be parts of one. None where they differ in columns, and for a single table in
    a folder that is not itself called as one, such as ``big.parquet``.
    """
    files = table_files(folder)
    if not files or (len(files) < 2 and not is_frame_file(folder)):
        return None
    names = frame_head(files[0]).names
    alike = all(set(frame_head(path).names) == set(names) for path in files[1:])
    return names if alike else None


@dataclass(frozen=True, eq=False)
class TableHead:
    """Names of a table's columns, and how to read them.

    Attributes
    ----------
    path : Path
    names : list of str
        Names of the columns, each once. The index that pandas wrote without a name is called ``""``
        and is the first.
    stored : list of str
        Names of all columns in their order, those that are left out too.
    notes : tuple of str
    """

    path: Path
    names: list[str]
    stored: list[str]
    notes: tuple[str, ...]
    source: TextForm | ArrowTable | Sheet | TableParts

    @property
    def named(self) -> bool:
        """Whether the file has names; else they are positions."""
        return self.source.named

    @property
    def joining(self) -> list[str]:
        """Names of columns that may join tables: an index that pandas keeps apart too."""
        ranged = isinstance(self.source, ArrowTable) and self.source.range_index
        return [UNNAMED, *self.names] if ranged and UNNAMED not in self.names else self.names


def frame_head(path: Path) -> TableHead:
    """Read the names of a table's columns, without its rows; each name must stand once.

    Those of a folder of parts are the first part's.
    """
    if path.is_dir():
        paths = tuple(table_files(path))
        head = frame_head(paths[0])
        note = f"the {len(paths)} tables of {path.name} are read as parts of one, by their names"
        return replace(
            head,
            path=path,
            notes=(*head.notes, note),
            source=TableParts(paths, named=head.named),
        )
    with readable(path, table=True):
        source: TextForm | ArrowTable | Sheet
        if path.suffix.lower() in ARROW:
            source = ArrowTable(path)
        else:
            source = Sheet(path) if path.suffix.lower() == EXCEL else TextForm.of(path)
    stored, copies = _stored_names(source.names)
    for name, count in Counter(stored).items():
        if count > 1:
            raise DataError(
                f"{path} has two columns called {shortened(name, 80)!r}; give each its own name."
            )
    notes = source.notes
    if copies:
        notes += (f"{path.name} holds row names more than once; all but one are left out.",)
    names = [name for name in stored if name not in copies]
    return TableHead(path, names, stored, notes, source)


def _stored_names(names: Sequence[str]) -> tuple[list[str], set[str]]:
    """Name the columns without a name, and those of them that repeat an index.

    Of several at the beginning the last is the first that was written, hence the index itself.
    """
    arrow = [place for place, name in enumerate(names) if ARROW_INDEX.fullmatch(name)]
    first = 0
    while first < len(names) and INDEX.fullmatch(names[first]):
        first += 1
    levels = [*range(first), *arrow]
    index = first - 1 if first else arrow[0] if len(arrow) == 1 else None
    stored = [name or f"Unnamed: {place}" for place, name in enumerate(names)]
    for place in levels:
        stored[place] = UNNAMED if place == index else f"index {place}"
    return stored, {stored[place] for place in levels if place != index}


def frame_columns(path: Path) -> list[str]:
    """Read the names of a table's columns, without its rows; each name must stand once."""
    return frame_head(path).names


def frame_chunks(
    path: Path,
    columns: Sequence[str],
    rows: int | None,
    *,
    texts: Sequence[str] = (),
    categories: Sequence[str] = (),
    head: TableHead | None = None,
    coded: bool = False,
) -> Iterator[pd.DataFrame]:
    """Yield some columns of a table in chunks of at most so many rows, or whole for None.

    Columns come as pandas reads them: numbers where all entries are, else texts, and its words for
    a gap (``NA``, ``NaN``, ``null``, ...) are gaps.

    Parameters
    ----------
    texts : sequence of str
        Columns such as labels and ids that stay as they are written, where only an empty entry is
        a gap.
    categories : sequence of str
        Columns that come as texts although a chunk may hold numbers alone; pandas' words for a gap
        are gaps, as where the whole file is read without naming them.
    head : TableHead, optional
        That of `path`, if it has been read already.
    coded : bool
        Whether codes with a leading zero stay texts in a text table, as in one that is read whole.
    """
    head = frame_head(path) if head is None else head
    if isinstance(head.source, TableParts):
        yield from _part_chunks(head.source, columns, rows, texts, categories, coded)
        return
    wanted, words = list(columns), [name for name in categories if name not in texts]
    with readable(path, table=True):
        if isinstance(head.source, ArrowTable):
            frames = _arrow_chunks(head, head.source, wanted, words, rows)
        elif isinstance(head.source, Sheet):
            frames = head.source.chunks(head.stored, rows, texts=texts, categories=words)
        else:
            form = head.source
            if coded or rows is None:  # else the caller knows what was read whole
                codes = {head.stored[place] for place in form.coded if place < len(head.stored)}
                words += [name for name in wanted if name in codes.difference(texts, words)]
            frames = text_chunks(path, form, head.stored, rows, texts=texts, categories=words)
        while (
            frame := _next_frame(frames, joined=not isinstance(head.source, ArrowTable))
        ) is not None:
            chosen = frame[wanted]
            if isinstance(head.source, ArrowTable):
                yield chosen
                continue
            for name in set(texts).intersection(wanted):
                chosen[name] = unmarked(chosen[name])
            yield chosen


def _part_chunks(
    source: TableParts,
    columns: Sequence[str],
    rows: int | None,
    texts: Sequence[str],
    categories: Sequence[str],
    coded: bool,
) -> Iterator[pd.DataFrame]:
    """Yield the chunks of one part after the other, or all of them joined for None."""
    import pandas as pd

    frames = (
        frame
        for path in source.paths
        for frame in frame_chunks(
            path, columns, rows, texts=texts, categories=categories, coded=coded
        )
    )
    if rows is None:
        yield pd.concat(list(frames), ignore_index=True)
        return
    count = 0
    for frame in frames:
        count += len(frame)
        if len(frame):  # a part may have no rows
            yield frame
    if not count:
        yield frame


def _next_frame(frames: Iterator[pd.DataFrame], *, joined: bool) -> pd.DataFrame | None:
    """Read the next part of a table, with columns of one type `joined`, else each for itself.

    pandas makes some objects for each column, none of them in circles: collecting garbage
    meanwhile would take as long again for very many columns.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        frame = next(frames, None)
        return frame if frame is None or not joined else frame.copy()
    finally:
        if collecting:
            gc.enable()


def _arrow_chunks(
    head: TableHead,
    source: ArrowTable,
    wanted: Sequence[str],
    categories: Sequence[str],
    rows: int | None,
) -> Iterator[pd.DataFrame]:
    keys = dict(zip(head.stored, source.names, strict=True))
    columns = {keys.get(name, name): name for name in wanted}
    for part in source.chunks(list(columns), rows):
        frame = part.rename(columns={key: name for key, name in columns.items() if key != name})
        for name in set(categories).intersection(columns.values()):
            frame[name] = _as_texts(frame[name])
        yield frame


def _as_texts(column: pd.Series[Any]) -> pd.Series[Any]:
    """Write values as a text table has them; gaps stay."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.map(str, na_action="ignore")
