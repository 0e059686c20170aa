"""Tables of a folder joined block by block, where their rows come in the same order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rcml_misa.datasets.files.content import FileRows
from rcml_misa.datasets.files.frames import frame_chunks, frame_head
from rcml_misa.datasets.files.layout import FileLayout
from rcml_misa.exceptions import DataError, shortened

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["merged_rows"]


def merged_rows(
    files: Mapping[str, Path],
    layout: FileLayout,
    rows: int,
    *,
    owner: str,
    written: Mapping[str, Sequence[str]] = MappingProxyType({}),
    roles: Sequence[str] = (),
    coded: bool = False,
) -> Iterator[FileRows]:
    """Join tables, by name, to the rows of `owner`, which has the target and the roles.

    The other tables have the same identifiers in the same order, and may lack rows; without an
    identifier all have the same number of rows.

    Raises
    ------
    DataError
        If a table has a row that the owner lacks or that it has before another one.
    """
    key = [] if layout.id is None else [layout.id]
    texts = [*key, *([layout.target] if layout.target is not None else []), *roles]
    own = layout.views.get(owner, ())
    others = {
        name: _Follower(
            files[name],
            owner,
            key,
            layout.views[name],
            rows,
            {"categories": written.get(name, ()), "coded": coded},
        )
        for name in layout.views
        if name != owner
    }
    wanted = [*own, *texts]
    start = 0
    frames = frame_chunks(
        files[owner], wanted, rows, texts=texts, categories=written.get(owner, ()), coded=coded
    )
    for frame in frames:
        index = frame[layout.id].astype(str) if layout.id is not None else None
        if index is not None and index.duplicated().any():
            twice = index[index.duplicated()].iloc[0]
            raise DataError(
                f"{files[owner]} has the {layout.id or 'id'} {shortened(twice, 40)!r} twice; give "
                "each row its own."
            )
        views = {owner: frame[list(own)]} if own else {}
        views |= {name: other.take(index, len(frame)) for name, other in others.items()}
        yield FileRows(
            start,
            {name: views[name] for name in layout.views},
            None if index is None else index.tolist(),
            frame[layout.target].to_numpy() if layout.target is not None else None,
            {name: frame[name].to_numpy() for name in roles},
        )
        start += len(frame)
    for other in others.values():
        other.refuse_rest()


class _Follower:
    """A table whose rows are asked for in the order of another one."""

    def __init__(
        self,
        path: Path,
        owner: str,
        key: Sequence[str],
        columns: Sequence[str],
        rows: int,
        reading: Mapping[str, Any],
    ) -> None:
        self.path, self.owner, self.key = path, owner, key
        head = frame_head(path)
        names = set(head.joining)
        if lacking := [name for name in (*key, *columns) if name not in names]:
            raise DataError(f"{path} has no column {lacking[0]!r}, which is in the layout.")
        self._frames = frame_chunks(path, [*key, *columns], rows, texts=key, head=head, **reading)
        self._columns = list(columns)
        self._waiting: pd.DataFrame | None = None

    def take(self, index: pd.Series[str] | None, count: int) -> pd.DataFrame:
        """Return the rows of these identifiers, or the next ones; a row that is lacking is NaN."""
        import pandas as pd

        waiting = self._fill(count)
        if index is None:
            if len(waiting) < count:
                raise self._error("has fewer rows than", "give each an id column")
            self._waiting = waiting.iloc[count:]
            return waiting.iloc[:count][self._columns].reset_index(drop=True)
        names = waiting[self.key[0]].astype(str)
        ids = pd.Index(index)
        places = ids.get_indexer(pd.Index(names.iloc[:count]))
        outside = (places < 0).nonzero()[0]
        end = int(outside[0]) if len(outside) else len(places)
        taken = places[:end]
        if (taken[1:] <= taken[:-1]).any() or (places[end:] >= 0).any():
            raise self._unordered(str(names.iloc[min(end, len(names) - 1)]))
        self._waiting = waiting.iloc[end:]
        part = waiting.iloc[:end][self._columns].set_axis(taken, axis=0)
        return part if end == len(ids) else part.reindex(range(len(ids)))

    def refuse_rest(self) -> None:
        """Refuse rows that nobody asked for."""
        rest = self._fill(1)
        if len(rest) and self.key:
            raise self._unordered(str(rest[self.key[0]].iloc[0]))
        if len(rest):
            raise self._error("has more rows than", "give each an id column")

    def _fill(self, count: int) -> pd.DataFrame:
        """Read until so many rows wait, or none are left."""
        import pandas as pd

        parts = [] if self._waiting is None else [self._waiting]
        while sum(map(len, parts)) < count or not parts:
            frame = next(self._frames, None)
            if frame is None:
                break
            parts.append(frame)
        return parts[0] if len(parts) == 1 else pd.concat(parts, ignore_index=True)

    def _unordered(self, name: str) -> DataError:
        return self._error(
            f"has the {self.key[0] or 'id'} {shortened(name, 40)!r} in another order than, or "
            "beside those of,",
            "sort the tables alike without rows that have no label",
        )

    def _error(self, what: str, way_out: str) -> DataError:
        return DataError(
            f"{shortened(self.path.name, 40)} {what} {self.owner}, and the tables are too large "
            f"to be joined in memory; {way_out}, or hold them with RCML_MISA_LARGEST_GB."
        )
