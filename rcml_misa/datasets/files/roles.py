"""Values of the split, the groups and the weights of rows, and scores as a target."""

from __future__ import annotations

from collections.abc import Mapping, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.labels import as_labels, as_texts
from rcml_misa.datasets.files.role_names import Roles
from rcml_misa.exceptions import DataError, shortened

__all__ = [
    "as_numbers",
    "describe_roles",
    "describe_split_like",
    "flat_values",
    "for_training",
    "read_parts",
    "read_target",
    "read_weights",
    "refuse_lacking",
    "refuse_weightless",
    "with_roles",
]

#: Part of a split to its spellings in files, in small letters.
PARTS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training", "tr"),
    "valid": ("valid", "validation", "val", "dev"),
    "test": ("test", "te"),
}
WORDS = {word: part for part, spellings in PARTS.items() for word in spellings}
SHOWN = 6  # values listed in a sentence
PROBED = 200  # rows that tell most columns from a split

Folds = dict[str, NDArray[np.int64]]


def read_target(
    values: Any, options: FileOptions, *, name: str, path: Path, first_row: int = 0
) -> NDArray[Any]:
    """Check a target's values: labels of classes, or with ``options.regression`` finite floats.

    Errors count rows from `first_row`.
    """
    if not options.regression:
        return as_labels(values, name=name, path=path, first_row=first_row)
    flat = flat_values(values, name=name, path=path)
    if not len(flat):
        raise DataError(f"{path} has no rows, only names.")
    scores = as_numbers(flat)
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        value = shortened(repr(_plain(flat[bad[0]])), 40)
        raise DataError(
            f"{path}: {name!r} is {value} in row {first_row + bad[0]}, no finite number "
            f"({len(bad)} of {len(flat)} rows are such); correct these rows, or leave --task "
            "regression out if they hold classes."
        )
    return scores


def as_numbers(values: Any) -> NDArray[np.float64]:
    """Turn values (n,), texts and bytes among them, into float64; NaN for what is no number.

    Examples
    --------
    >>> as_numbers(["1.5", "1e2", "two", None]).tolist()
    [1.5, 100.0, nan, nan]
    """
    import pandas as pd

    flat = np.ravel(np.asarray(values))
    texts: Any = flat if flat.dtype.kind in "biuf" else [text.strip() for text in as_texts(flat)]
    numbers = pd.to_numeric(pd.Series(texts), errors="coerce")
    return np.array(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def flat_values(values: Any, *, name: str, path: Path) -> NDArray[Any]:
    """Flatten one value per row of shape (n,), (n, 1) or (1, n)."""
    array = np.asarray(values)
    if array.size != max(array.shape, default=0):
        raise DataError(
            f"{path}: {name!r} must hold one value per row, but its shape is {array.shape}."
        )
    return array.ravel()


def _plain(value: Any) -> Any:
    """Return a value as Python has it, bytes as text, for a sentence."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def with_roles(
    own: OwnFile, values: Mapping[str, Any], options: FileOptions, *, path: Path
) -> OwnFile:
    """Add split, groups and weights to what was read of a file.

    Parameters
    ----------
    own : OwnFile
        Views and labels of n rows.
    values : mapping of str to array
        Content of the columns that `Roles.names` lists, as they stand in the file.
    options : FileOptions
    path : Path
        File, for sentences.

    Raises
    ------
    DataError
        If a row has no part or group, a value of the split is no part, train or test rows are
        lacking, or a weight is no finite number of 0 or more.
    """
    roles = Roles.of(options)
    columns: dict[str, NDArray[Any]] = {}
    for name in roles.names:
        columns[name] = flat_values(values[name], name=name, path=path)
        if len(columns[name]) != len(own.labels):
            raise DataError(
                f"{path}: {name!r} has {len(columns[name])} values, but there are "
                f"{len(own.labels)} labels; give one for each row."
            )
    if roles.split is not None:
        parts = read_parts(columns[roles.split], name=roles.split, path=path)
        own = replace(own, folds=_folds(parts, name=roles.split, path=path))
    if roles.group is not None:
        groups = _texts(columns[roles.group], name=roles.group, path=path, what="group")
        own = replace(own, groups=groups)
    if roles.weight is not None:
        weights = read_weights(columns[roles.weight], name=roles.weight, path=path)
        train = slice(None) if own.folds is None else own.folds["train"]
        refuse_weightless(weights[train], name=roles.weight, path=path)
        own = replace(own, weights=weights)
    return with_split_notes(own)


def _texts(
    values: NDArray[Any], *, name: str, path: Path, what: str, first_row: int = 0
) -> NDArray[np.str_]:
    """Return values as texts without spaces around them; whole numbers have no point."""
    import pandas as pd

    plain = np.array([_plain(value) for value in values.tolist()], dtype=object)
    texts = [
        str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
        for value in plain
    ]
    empty = np.flatnonzero(pd.isna(plain) | np.array([not text for text in texts], dtype=bool))
    if len(empty):
        raise DataError(
            f"{path}: {len(empty)} of {len(texts)} rows have no {what} in {name!r} (the first is "
            f"row {first_row + empty[0]}); fill these in, or leave these rows out."
        )
    return np.array(texts)


def read_parts(
    values: NDArray[Any], *, name: str, path: Path, first_row: int = 0
) -> NDArray[np.str_]:
    """Read the parts of a split (n,), such as ``Train``, ``val`` and ``te``, by their usual names.

    Errors count rows from `first_row`.
    """
    texts = _texts(values, name=name, path=path, what="part", first_row=first_row)
    spellings = {str(text): WORDS.get(str(text).lower()) for text in np.unique(texts)}
    unknown = [text for text, part in spellings.items() if part is None]
    if unknown and all(_ambiguous(text) for text in unknown):
        listed = ", ".join(unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
        raise DataError(
            f"{path}: {name!r} holds {shortened(listed)}, which do not tell train from test rows; "
            "write train, valid and test in their place."
        )
    if unknown:
        row = first_row + int(np.flatnonzero(texts == unknown[0])[0])
        raise DataError(
            f"{path}: {name!r} is {shortened(repr(unknown[0]), 40)} in row {row}, which is no part "
            "of a split; write train, valid or test."
        )
    return np.array([spellings[str(text)] for text in texts])


def _folds(parts: NDArray[np.str_], *, name: str, path: Path) -> Folds:
    """Number the rows of each part."""
    folds = {part: np.flatnonzero(parts == part) for part in PARTS if (parts == part).any()}
    refuse_lacking({part: len(rows) for part, rows in folds.items()}, name=name, path=path)
    return folds


def refuse_lacking(counts: Mapping[str, int], *, name: str, path: Path) -> None:
    """Refuse a split, given by the rows of each part, without train or test rows."""
    lacking = [part for part in ("train", "test") if not counts.get(part)]
    if lacking:
        rows = ", ".join(f"{count} {part}" for part, count in counts.items() if count)
        raise DataError(
            f"{path}: {name!r} has no {lacking[0]} row, only {rows}; mark some rows as "
            f"{lacking[0]}."
        )


def _ambiguous(text: str) -> bool:
    """Tell a number or a truth value, which says of no row that it is a train row."""
    return text.lower() in ("true", "false", "yes", "no") or not np.isnan(as_numbers([text])[0])


def read_weights(
    values: NDArray[Any], *, name: str, path: Path, first_row: int = 0
) -> NDArray[np.float64]:
    """Read weights of rows, finite numbers of 0 or more; errors count rows from `first_row`."""
    weights = as_numbers(values)
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        value = shortened(repr(_plain(values[bad[0]])), 40)
        raise DataError(
            f"{path}: {name!r} is {value} in row {first_row + bad[0]} ({len(bad)} rows in all are "
            "such); a weight is a finite number of 0 or more."
        )
    return weights


def refuse_weightless(weights: NDArray[np.float64], *, name: str, path: Path) -> None:
    """Refuse train rows of which none has a weight above 0."""
    if not weights.any():
        raise DataError(f"{path}: {name!r} is 0 in every train row; weigh some of them.")


def with_split_notes(own: OwnFile) -> OwnFile:
    """Note what makes test rows of a file's own split no fair ones."""
    if own.folds is None:
        return own
    test = own.folds["test"]
    others = np.concatenate([rows for part, rows in own.folds.items() if part != "test"])
    notes = list(own.notes)
    if own.groups is not None:
        divided = np.intersect1d(own.groups[others], own.groups[test])
        if len(divided):
            groups = len(np.unique(own.groups))
            notes.append(
                f"{len(divided)} of {groups} groups (such as {shortened(divided[0], 40)!r}) have "
                "test rows and others, so that test rows are less new than rows of new groups"
            )
    if own.task == "classification":
        unseen = np.setdiff1d(own.labels[test], own.labels[own.folds["train"]])
        if len(unseen):
            listed = ", ".join(map(str, unseen[:SHOWN].tolist()))
            notes.append(
                f"test rows of {shortened(listed)} have no train row of their class and count as "
                "wrong"
            )
    return replace(own, notes=tuple(notes))


def for_training(own: OwnFile) -> OwnFile:
    """Leave out the test rows of a file's own split, and note how many there were."""
    if own.folds is None:
        return own
    test = own.folds["test"]
    rows = np.setdiff1d(np.arange(len(own.labels)), test)
    note = (
        f"{len(test)} test rows of the file's own split are left out; in a file of their own they "
        "can judge what `predict` answers"
    )
    return replace(own.take(rows, note), folds=None)


def describe_split_like(frames: Mapping[str, Any]) -> tuple[str, ...]:
    """Note the columns of tables that hold the parts of a split and nothing else.

    Examples
    --------
    >>> import pandas as pd
    >>> describe_split_like({"a": pd.DataFrame({"fold": ["train", "Test", "train"], "x": 1.0})})
    ('column fold holds Test, train; --split-column fold takes it for the split of the file',)
    """
    notes = []
    for frame in frames.values():
        kinds = [getattr(dtype, "kind", "O") for dtype in frame.dtypes.array]
        for place in (place for place, kind in enumerate(kinds) if kind not in "biufmM"):
            name, column = frame.columns[place], frame.iloc[:, place]
            first = column.head(PROBED).dropna()
            if any(isinstance(value, Sized) and not isinstance(value, str) for value in first):
                continue  # lists, records and such
            values = first.unique()
            if len(values) > len(WORDS) or not {str(v).lower() for v in values} <= set(WORDS):
                continue
            texts = sorted(map(str, column.dropna().unique()))
            if {WORDS.get(text.lower()) for text in texts} >= {"train", "test"}:
                notes.append(
                    f"column {name} holds {', '.join(texts[:SHOWN])}; --split-column {name} takes "
                    "it for the split of the file"
                )
    return tuple(notes)


def describe_roles(own: OwnFile) -> list[str]:
    """State split, groups and weights of a file in words, one line each."""
    lines = []
    if own.folds is not None:
        counts = ", ".join(f"{len(rows)} {part}" for part, rows in own.folds.items())
        lines.append(f"own split: {counts} rows")
    if own.groups is not None:
        sizes = np.unique(own.groups, return_counts=True)[1]
        lines.append(f"{len(sizes)} groups of {sizes.min()} to {sizes.max()} rows")
    if own.weights is not None:
        lines.append(f"weights from {own.weights.min():.6g} to {own.weights.max():.6g}")
    return lines
