"""A user's own data sets: files by path, and a catalogue of theirs by name."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from rcml_misa.datasets.catalogue import list_datasets
from rcml_misa.datasets.files import (
    FileLayout,
    FileOptions,
    OwnFile,
    file_sha256,
    is_own_file,
    read_own_file,
)
from rcml_misa.exceptions import DataError, OptionError, nearest

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset

__all__ = [
    "OwnEntry",
    "add_own",
    "as_dataset",
    "list_own",
    "own_catalogue",
    "own_file",
    "read_any",
    "remove_own",
]


@dataclass(frozen=True, kw_only=True)
class OwnEntry:
    """A data set in the user's catalogue.

    Attributes
    ----------
    name : str
    file : str
        Absolute path of the file or folder.
    sha256 : str
        Of its content when it was added.
    samples, classes : int
    views : dict of str to int
        Columns of each view.
    target, columns, id : str
        The options ``--target``, ``--views`` and ``--id``; empty where they were not given.
    """

    name: str
    file: str
    sha256: str
    samples: int
    classes: int
    views: Mapping[str, int] = field(default_factory=dict)
    target: str = ""
    columns: str = ""
    id: str = ""

    @property
    def options(self) -> FileOptions:
        """How the file is read."""
        return FileOptions(
            target=self.target or None, views=self.columns or None, id=self.id or None
        )


def own_catalogue() -> Path:
    """Where the user's catalogue lies: a TOML file in the user's folder of settings."""
    import platformdirs

    return platformdirs.user_config_path("rcml-misa") / "catalogue.toml"


def list_own() -> dict[str, OwnEntry]:
    """All data sets of the user's catalogue, by name.

    Raises
    ------
    DataError
        If the catalogue is damaged.
    """
    path = own_catalogue()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read ({error}); mend or delete it.") from error
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: Any) -> OwnEntry:
    known = {one.name: one.type for one in fields(OwnEntry) if one.name != "name"}
    kinds = {"str": str, "int": int, "Mapping[str, int]": dict}
    fits = isinstance(table, dict) and all(
        key in known and isinstance(value, kinds[str(known[key])]) for key, value in table.items()
    )
    if not fits or not {"file", "sha256", "samples", "classes"} <= set(table):
        raise DataError(f"{path}: table {name!r} is no data set; mend or delete it.")
    return OwnEntry(name=name, **table)


def add_own(name: str, path: Path, options: FileOptions) -> OwnEntry:
    """Read a file once and record it in the user's catalogue with its hash.

    Raises
    ------
    OptionError
        If the name is taken or looks like a file.
    DataError
        If the file can't be read as views and labels, or the catalogue not be written.
    """
    entries = list_own()
    if not name.strip() or is_own_file(name):
        raise OptionError(f"{name!r} is no name of a data set; choose a word without / and dots.")
    if name in entries or name in {entry.name for entry in list_datasets()}:
        raise OptionError(
            f"there is a data set {name} already; choose another name, or forget your own one with "
            f"`rcml-misa datasets remove {name}`."
        )
    found = read_own_file(path, options)
    entry = OwnEntry(
        name=name,
        file=str(path.resolve()),
        sha256=file_sha256(path),
        samples=found.views.n_samples,
        classes=len(set(found.labels.tolist())),
        views=dict(zip(found.views.names, found.views.widths, strict=True)),
        target=options.target or "",
        columns=options.views or "",
        id=options.id or "",
    )
    _write({**entries, name: entry})
    return entry


def remove_own(name: str) -> None:
    """Forget a data set of the user's catalogue; its file stays.

    Raises
    ------
    OptionError
        If there is none of that name.
    """
    entries = list_own()
    if name not in entries:
        known = nearest(name, entries) if entries else "it is empty."
        raise OptionError(f"your catalogue has no data set {name!r}; {known}")
    _write({key: entry for key, entry in entries.items() if key != name})


def _write(entries: Mapping[str, OwnEntry]) -> None:
    lines = ["# Data sets added with `rcml-misa datasets add`."]
    for name, entry in entries.items():
        lines += ["", f"[{_quoted(name)}]"]
        for key, value in asdict(entry).items():
            if key == "views":
                pairs = ", ".join(f"{_quoted(view)} = {width}" for view, width in value.items())
                lines.append(f"views = {{ {pairs} }}")
            elif key != "name" and value != "":
                lines.append(f"{key} = {_quoted(value) if isinstance(value, str) else value}")
    path = own_catalogue()
    temporary = path.with_name(f".writing-{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(f"{path} can't be written ({error.strerror}); check its folder.") from error


def _quoted(text: str) -> str:
    """Write a TOML string; JSON's are TOML's but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def own_file(name: str, options: FileOptions) -> tuple[str, Path, FileOptions] | None:
    """Resolve a path, or a name in the user's catalogue, to name, file and options.

    Options that are given count before those of the catalogue. None for any other name.

    Raises
    ------
    DataError
        If a file of the catalogue is gone or has changed.
    """
    if is_own_file(name):
        path = Path(name).expanduser()
        return path.name or path.resolve().name, path, options
    entry = list_own().get(name)
    if entry is None:
        return None
    path = Path(entry.file)
    if not path.exists():
        raise DataError(
            f"{path} of your data set {name} is gone; put it back, or forget it with "
            f"`rcml-misa datasets remove {name}`."
        )
    if file_sha256(path) != entry.sha256:
        raise DataError(
            f"{path} of your data set {name} has changed since it was added; run `rcml-misa "
            f"datasets remove {name}` and add it again."
        )
    given = {key: value for key, value in asdict(options).items() if value is not None}
    return name, path, FileOptions(**{**asdict(entry.options), **given})


def read_any(
    name: str, options: FileOptions, *, data_dir: Path | None = None
) -> tuple[OwnFile, dict[str, str]]:
    """Read a file, or a data set by name, as a file of one's own; with its name and sha256.

    A data set of this package lies in files under the names of its views.

    Raises
    ------
    OptionError, DataError
        See `rcml_misa.datasets.load_dataset`.
    """
    if (own := own_file(name, options)) is not None:
        label, path, merged = own
        return read_own_file(path, merged), {"dataset": label, "file_sha256": file_sha256(path)}
    import numpy as np

    from rcml_misa.datasets import load_dataset

    data = load_dataset(name, data_dir=data_dir, options=options)
    layout = FileLayout({view: (view,) for view in data.views.names})
    found = OwnFile(data.views, np.array(data.classes)[data.target], layout)
    return found, {"dataset": data.name, "file_sha256": data.sha256}


def as_dataset(name: str, path: Path, found: OwnFile) -> Dataset:
    """Turn what was read from a file into a data set of this package."""
    from rcml_misa.datasets import Dataset
    from rcml_misa.datasets.files.labels import class_codes

    codes, classes = class_codes(found.labels)
    return Dataset(name, found.views, codes, classes, file_sha256(path), str(path))
