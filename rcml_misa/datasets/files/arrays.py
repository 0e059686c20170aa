"""Files of arrays: whole with labels, or in chunks of rows to predict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.containers import is_hdf5_file, opened_arrays
from rcml_misa.datasets.files.content import FileRows, OwnFile, require_views
from rcml_misa.datasets.files.labels import as_texts
from rcml_misa.datasets.files.layout import FileLayout, array_layout
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.datasets.files.roles import read_target, with_roles
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView

__all__ = ["read_arrays", "rows_of_arrays"]


def read_arrays(path: Path, options: FileOptions) -> OwnFile:
    """Read a file of arrays with its labels."""
    with opened_arrays(path) as content:
        layout = array_layout({name: np.shape(content[name]) for name in content}, options)
        names = [*(key for (key,) in layout.views.values()), layout.target, layout.id]
        names += Roles.of(options).names
        stored = {name: content[name] for name in names if name is not None}
        arrays = {name: a[()] if is_hdf5_file(path) else a for name, a in stored.items()}
    target = str(layout.target)
    labels = read_target(arrays[target], options, name=target, path=path)
    views, notes = {}, []
    for name, (key,) in layout.views.items():
        shape = np.shape(arrays[key])
        # MATLAB's arrays often lie as features by samples
        turned = shape[:1] != (len(labels),) and path.suffix.lower() == ".mat"
        if len(shape) != 2 or shape[1 if turned else 0] != len(labels):
            raise DataError(
                f"{path}: {key!r} has shape {shape}, but there are {len(labels)} labels; choose "
                "the arrays that are views with --views."
            )
        views[name] = arrays[key].T if turned else arrays[key]
        if turned:
            notes.append(f"{key} is features by samples and was turned around")
    ids = None if layout.id is None else np.ravel(arrays[layout.id]).astype(str)
    own = OwnFile(MultiView(views), labels, layout, ids, tuple(notes), options.task)
    return with_roles(own, arrays, options, path=path)


def rows_of_arrays(
    path: Path, layout: FileLayout, widths: Mapping[str, int], rows: int
) -> Iterator[FileRows]:
    """Cut arrays, read or not yet read, into rows."""
    with opened_arrays(path) as content:
        keys = {view: key for view, (key,) in layout.views.items() if key in content}
        require_views(path, layout, keys)
        arrays = {view: content[key] for view, key in keys.items()}
        if path.suffix.lower() == ".mat":  # MATLAB's arrays may lie as features by samples
            arrays = {
                view: array if array.shape[1:] == (widths[view],) else array.T
                for view, array in arrays.items()
            }
        counts = {array.shape[0] if array.shape else 0 for array in arrays.values()}
        if len(counts) > 1:
            listed = ", ".join(f"{keys[view]} {array.shape}" for view, array in arrays.items())
            raise DataError(f"{path}: the views have different numbers of rows ({listed}).")
        count = counts.pop()
        others = [content.get(name) if name else None for name in (layout.id, layout.target)]
        if not is_hdf5_file(path):
            others = [None if array is None else np.ravel(array) for array in others]
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            ids, labels = (None if array is None else np.ravel(array[part]) for array in others)
            yield FileRows(
                start,
                {view: arrays[view][part] if view in arrays else None for view in layout.views},
                None if ids is None else as_texts(ids),
                labels,
            )
