"""MMSA's feature files: MOSI, MOSEI and CH-SIMS, aligned or not, one pickle each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.layout import FOLDS, ForeignSet, as_words, lengths_within
from rcml_misa.datasets.foreign.npz import Parts, words
from rcml_misa.datasets.foreign.pickles import read_pickle
from rcml_misa.exceptions import DataError

__all__ = ["PUBLISHED", "read_mmsa"]

#: sha256 of the published files -> what they are.
PUBLISHED = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MOSI/unaligned_50.pkl",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "MOSI/aligned_50.pkl",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MOSEI/unaligned_50.pkl",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "MOSEI/aligned_50.pkl",
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "SIMS/unaligned_39.pkl",
}
CITATION = (
    "Mao et al., M-SENA: An Integrated Platform for Multimodal Sentiment Analysis, ACL 2022 "
    "(features); Zadeh et al. 2016 (MOSI), Zadeh et al. 2018 (MOSEI), Yu et al. 2020 (CH-SIMS)"
)
VIEWS = ("text", "audio", "vision")
LABELS = ("classification_labels", *(f"regression_labels_{view}" for view in "TAV"))

Fold = Mapping[str, Any]


def read_mmsa(path: Path) -> ForeignSet:
    """Read and check a feature file in MMSA's layout.

    Parameters
    ----------
    path : Path
        A pickle of ``train``, ``valid`` and ``test``, each with ``raw_text``, ``audio``,
        ``vision``, ``text``, ``id``, ``regression_labels`` and, where the file has them,
        ``text_bert``, ``audio_lengths``, ``vision_lengths``, ``annotations``,
        ``classification_labels`` and CH-SIMS's labels of single views.

    Returns
    -------
    ForeignSet
        Steps and widths are those of the arrays. A sample's text is as long as its attention
        mask; where lengths are not given, audio and vision are as long as the text if they have
        as many steps, and else end at their last step that is not 0.

    Raises
    ------
    DataError
        If the file is not readable or of another layout; the sentence names the fold and the key.
    """
    content = read_pickle(path)
    if not isinstance(content, dict) or any(not _is_fold(content.get(f)) for f in FOLDS):
        found = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else "no dict"
        raise DataError(
            f"{path} is no MMSA file: it must be a dict of train, valid and test, each a dict, but "
            f"it holds {found}."
        )
    folds: dict[str, Fold] = {fold: content[fold] for fold in FOLDS}
    rows = {
        fold: len(_array(path, one, fold, "regression_labels", 1)) for fold, one in folds.items()
    }
    steps = {view: _steps(path, folds, rows, view) for view in VIEWS}
    ids = _joined(path, folds, rows, "id")
    notes: list[str] = []
    tokens = _tokens(path, folds, rows)
    lengths = _lengths(path, folds, rows, steps, tokens, notes)
    labels = {name: _labels(path, folds, rows, name) for name in LABELS}
    sims = labels["regression_labels_T"] is not None
    others = {name: Parts.of(found) for name, found in labels.items() if found is not None}
    if tokens:
        others["tokens"] = Parts.of(tokens)
    if all("annotations" in fold for fold in folds.values()):
        others["annotations"] = words(_joined(path, folds, rows, "annotations"))
    target = np.concatenate(_labels(path, folds, rows, "regression_labels") or [])
    return ForeignSet(
        layout="mmsa",
        title="CH-SIMS" if sims else "MOSI or MOSEI",
        citation=CITATION,
        views={view: found[0].shape[2] for view, found in steps.items()},
        steps={view: Parts.of(found, mend=True) for view, found in steps.items()},
        lengths=lengths,
        rows=rows,
        ids=ids,
        texts=_joined(path, folds, rows, "raw_text"),
        target=target,
        limit=1.0 if sims else 3.0,
        others=others,
        notes=tuple(notes),
    )


def _is_fold(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0


def _array(path: Path, fold: Fold, name: str, key: str, dimensions: int) -> NDArray[Any]:
    """A numeric array of a fold."""
    if key not in fold:
        raise DataError(
            f"{path} has no {key!r} in {name!r}, which holds {', '.join(map(str, fold))}."
        )
    value = fold[key]
    try:
        found = value if isinstance(value, np.ndarray) else np.asarray(list(value))
    except (TypeError, ValueError) as error:
        raise DataError(f"{path}: {key!r} of {name!r} is no array ({error}).") from error
    if found.dtype.kind not in "biuf" or found.ndim != dimensions or 0 in found.shape:
        raise DataError(
            f"{path}: {key!r} of {name!r} is {found.dtype} of shape {found.shape}; it must be "
            f"numbers in {dimensions} dimensions."
        )
    return found


def _steps(
    path: Path, folds: Mapping[str, Fold], rows: Mapping[str, int], view: str
) -> list[NDArray[Any]]:
    """One view's arrays, fold by fold, of one number of steps and width."""
    found = [_array(path, fold, name, view, 3) for name, fold in folds.items()]
    for name, one in zip(folds, found, strict=True):
        if len(one) != rows[name] or one.shape[1:] != found[0].shape[1:]:
            wanted = (rows[name], *found[0].shape[1:])
            raise DataError(
                f"{path}: {view!r} of {name!r} has shape {one.shape}, not {wanted} as its labels "
                "and the other folds have it."
            )
    return found


def _labels(
    path: Path, folds: Mapping[str, Fold], rows: Mapping[str, int], key: str
) -> list[NDArray[Any]] | None:
    if any(key not in fold for fold in folds.values()):
        return None
    found = [_array(path, fold, name, key, 1) for name, fold in folds.items()]
    for name, one in zip(folds, found, strict=True):
        if len(one) != rows[name] or not np.isfinite(one).all():
            raise DataError(
                f"{path}: {key!r} of {name!r} is not one finite number for each of "
                f"{rows[name]} samples."
            )
    return found


def _joined(path: Path, folds: Mapping[str, Fold], rows: Mapping[str, int], key: str) -> list[str]:
    found: list[str] = []
    for name, fold in folds.items():
        if key not in fold:
            raise DataError(f"{path} has no {key!r} in {name!r}.")
        found += as_words(f"{path}: {key!r} of {name!r}", fold[key], rows[name])
    return found


def _tokens(
    path: Path, folds: Mapping[str, Fold], rows: Mapping[str, int]
) -> list[NDArray[np.int32]] | None:
    """Token numbers, attention masks and token types, (n, 3, T), if the file has them."""
    if any("text_bert" not in fold for fold in folds.values()):
        return None
    found = []
    for name, fold in folds.items():
        raw = _array(path, fold, name, "text_bert", 3)
        if raw.shape[:2] != (rows[name], 3) or not (raw == np.round(raw)).all() or raw.min() < 0:
            raise DataError(
                f"{path}: 'text_bert' of {name!r} has shape {raw.shape}; it must be whole numbers "
                f"of shape ({rows[name]}, 3, tokens)."
            )
        found.append(raw)
    return found


def _lengths(
    path: Path,
    folds: Mapping[str, Fold],
    rows: Mapping[str, int],
    steps: Mapping[str, list[NDArray[Any]]],
    tokens: list[NDArray[Any]] | None,
    notes: list[str],
) -> dict[str, NDArray[np.int64]]:
    """Steps of each sample and view."""
    found: dict[str, NDArray[np.int64]] = {}
    for view, arrays in steps.items():
        width, changed, parts = arrays[0].shape[1], 0, []
        for number, (name, fold) in enumerate(folds.items()):
            key = f"{view}_lengths"
            if key in fold:
                where = f"{path}: {key!r} of {name!r}"
                one, wrong = lengths_within(where, fold[key], rows[name], width)
                changed += wrong
            elif view == "text" and tokens is not None:
                one = np.clip(tokens[number][:, 1].sum(axis=1).astype(np.int64), 1, width)
            elif view != "text" and width == steps["text"][0].shape[1]:
                start = sum(list(rows.values())[:number])
                one = found["text"][start : start + rows[name]]
            else:
                one = _until_zero(arrays[number])
            parts.append(one)
        found[view] = np.concatenate(parts)
        if changed:
            notes.append(f"{changed} lengths of {view} lay outside 1 to {width} and were clipped")
    return found


def _until_zero(values: NDArray[Any]) -> NDArray[np.int64]:
    """Steps up to the last one that is not all 0; at least 1."""
    lengths = np.ones(len(values), dtype=np.int64)
    for row, sample in enumerate(values):
        used = np.flatnonzero((sample != 0).any(axis=1))
        if used.size:
            lengths[row] = used[-1] + 1
    return lengths
