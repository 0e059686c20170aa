"""Folders laid out as MOGONET's: train and test rows of each view in tables of their own.

``1_tr.csv`` and ``1_te.csv`` hold the rows of view 1, ``labels_tr.csv`` and ``labels_te.csv`` the
labels, ``1_featname.csv`` the names of its columns, which may be absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.content import FileRows, OwnFile, require_views
from rcml_misa.datasets.files.faults import readable
from rcml_misa.datasets.files.frames import TableHead, frame_chunks, frame_head
from rcml_misa.datasets.files.layout import FileLayout, without_left_out
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import read_target
from rcml_misa.datasets.files.text_streams import opened_text
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.views import MultiView

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["is_omics", "omics_rows", "read_omics"]

PARTS = {"train": "_tr", "test": "_te"}
LABELS = "labels"
FEATURES = "_featname"


def is_omics(files: Mapping[str, Path], options: FileOptions) -> bool:
    """Tell a folder laid out as MOGONET's by the names of its tables."""
    labelled = all(LABELS + end in files for end in PARTS.values())
    return (
        labelled and bool(_views(files)) and options.id is None and options.target in (None, LABELS)
    )


def _views(files: Mapping[str, Path]) -> list[str]:
    train, test = PARTS.values()
    names = [name.removesuffix(train) for name in files if name.endswith(train)]
    views = [name for name in names if name != LABELS and name + test in files]
    return sorted(views, key=lambda name: (len(name), name))


def read_omics(folder: Path, files: Mapping[str, Path], options: FileOptions) -> OwnFile:
    """Read the train rows, then the test rows, of every view; they are the folds."""
    if roles := Roles.of(options).names:
        raise OptionError(
            f"{folder} has its own split and tables of labels alone, hence no column {roles[0]!r}; "
            "leave the columns of split, group and weight out."
        )
    names = _views(files)
    if options.views is not None:
        chosen = [part.strip() for part in options.views.split(",") if part.strip()]
        for name in chosen:
            if name not in names:
                raise OptionError(f"there is no view {name!r} in {folder}; {nearest(name, names)}")
        names = chosen
    heads = {name: _heads(files, name) for name in (LABELS, *names)}
    columns = {name: _column_names(files, name, heads[name]) for name in names}
    parts = {name: _parts(heads[name]) for name in heads}
    sizes = [len(part) for part in parts[LABELS]]
    for name, tables in parts.items():
        if (rows := [len(table) for table in tables]) != sizes:
            raise DataError(
                f"{name!r} of {folder} has {rows[0]} train and {rows[1]} test rows, but there are "
                f"{sizes[0]} and {sizes[1]} labels; give each row both."
            )
    train, test = parts[LABELS]
    labels = np.concatenate([part.to_numpy() for part in (train, test)])
    cut = sizes[0]
    views = {name: _joined(parts[name], columns[name]) for name in names}
    layout = FileLayout(without_left_out(columns, options), LABELS, None)
    ends = (*PARTS.values(), FEATURES)
    others = sorted(set(files) - {name + end for name in (LABELS, *_views(files)) for end in ends})
    notes = [
        f"{folder.name} is laid out as MOGONET's folders: {cut} rows of the tables _tr train and "
        f"{sizes[1]} rows of the tables _te test."
    ]
    if others:
        notes.append(f"{', '.join(others)} of {folder.name} belongs to no view and is left out.")
    return OwnFile(
        MultiView({name: views[name][list(used)] for name, used in layout.views.items()}, raw=True),
        read_target(labels, options, name=LABELS, path=folder),
        layout,
        notes=tuple(notes),
        task=options.task,
        folds={"train": np.arange(cut), "test": np.arange(cut, sum(sizes))},
    )


def omics_rows(folder: Path, files: Mapping[str, Path], layout: FileLayout) -> FileRows:
    """Read the views of a layout, train rows first."""
    present = [name for name in layout.views if name in _views(files)]
    require_views(folder, layout, present)
    views = {}
    for name in present:
        heads = _heads(files, name)
        table = _joined(_parts(heads), _column_names(files, name, heads))
        lacking = [column for column in layout.views[name] if column not in table]
        if lacking:
            raise DataError(f"{folder} lacks column {lacking[0]!r} of view {name!r}; add it.")
        views[name] = table[list(layout.views[name])]
    return FileRows(0, views, None, None)


def _heads(files: Mapping[str, Path], name: str) -> list[TableHead]:
    heads = [frame_head(files[name + end]) for end in PARTS.values()]
    train, test = heads
    if train.names != test.names:
        raise DataError(
            f"{train.path} and {test.path.name} have different columns ({len(train.names)} and "
            f"{len(test.names)}); give both the same."
        )
    if name == LABELS and len(train.names) != 1:
        raise DataError(f"{train.path} has {len(train.names)} columns; give one label per row.")
    return heads


def _parts(heads: list[TableHead]) -> list[pd.DataFrame]:
    return [next(frame_chunks(head.path, head.names, None, head=head)) for head in heads]


def _joined(parts: list[pd.DataFrame], columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True).set_axis(list(columns), axis=1)


def _column_names(files: Mapping[str, Path], view: str, heads: list[TableHead]) -> tuple[str, ...]:
    """Read the names of a view's columns; its own, or positions, where no table lists as many."""
    names = tuple(heads[0].names)
    path = files.get(view + FEATURES)
    if path is None or heads[0].named:
        return names
    with readable(path), opened_text(path) as stream:
        listed = tuple(line.strip() for line in stream.read().splitlines() if line.strip())
    return listed if len(listed) == len(names) == len(set(listed)) else names
