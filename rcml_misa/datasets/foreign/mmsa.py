"""MMSA's feature files: MOSI, MOSEI and CH-SIMS, aligned or not, one pickle each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.layout import (
    FOLDS,
    ForeignSet,
    Parts,
    as_words,
    lengths_within,
    words,
)
from rcml_misa.datasets.foreign.machine import read_pickle
from rcml_misa.exceptions import DataError, shortened

__all__ = ["PUBLISHED", "read_mmsa"]

#: sha256 of the published files -> their names.
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

Arrays = list[NDArray[Any]]


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
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else "no dict"
        raise DataError(
            f"{path} is no MMSA file: it must be a dict of train, valid and test, each a dict, but "
            f"it holds {shortened(keys)}."
        )
    reader = _Reader(path, {fold: content[fold] for fold in FOLDS})
    steps = {view: reader.steps(view) for view in VIEWS}
    ids = reader.joined("id")
    tokens = reader.tokens()
    lengths, notes = reader.lengths(steps, tokens)
    labels = {name: reader.labels(name) for name in LABELS}
    sims = labels["regression_labels_T"] is not None
    others = {name: Parts.of(arrays) for name, arrays in labels.items() if arrays is not None}
    if tokens:
        others["tokens"] = Parts.of(tokens)
    if reader.has("annotations"):
        others["annotations"] = words(reader.joined("annotations"))
    return ForeignSet(
        layout="mmsa",
        title="CH-SIMS" if sims else "MOSI or MOSEI",
        citation=CITATION,
        views={view: arrays[0].shape[2] for view, arrays in steps.items()},
        steps={view: Parts.of(arrays, finite=True) for view, arrays in steps.items()},
        lengths=lengths,
        rows=reader.rows,
        ids=ids,
        texts=reader.joined("raw_text"),
        target=np.concatenate(reader.labels("regression_labels") or []),
        limit=1.0 if sims else 3.0,
        others=others,
        notes=tuple(notes),
    )


def _is_fold(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0


@dataclass
class _Reader:
    """Takes the arrays of one key from the folds, and checks them."""

    path: Path
    folds: Mapping[str, Mapping[str, Any]]

    def __post_init__(self) -> None:
        self.rows = {fold: len(self.array(fold, "regression_labels", 1)) for fold in self.folds}

    def has(self, key: str) -> bool:
        """Check that every fold has a key."""
        return all(key in content for content in self.folds.values())

    def array(self, fold: str, key: str, dimensions: int) -> NDArray[Any]:
        """Return a numeric array of a fold."""
        where, content = f"{key!r} of {fold!r}", self.folds[fold]
        if key not in content:
            keys = shortened(", ".join(map(str, content)))
            raise DataError(f"{self.path} has no {key!r} in {fold!r}, which holds {keys}.")
        value = content[key]
        try:
            array = value if isinstance(value, np.ndarray) else np.asarray(list(value))
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.path}: {where} is no array ({shortened(error)}).") from error
        if array.dtype.kind not in "biuf" or array.ndim != dimensions or 0 in array.shape:
            raise DataError(
                f"{self.path}: {where} is {array.dtype} of shape {array.shape}; it must be "
                f"numbers in {dimensions} dimensions."
            )
        return array

    def steps(self, view: str) -> Arrays:
        """Return a view's arrays, fold by fold, of one number of steps and width."""
        arrays = [self.array(fold, view, 3) for fold in self.folds]
        for (fold, count), array in zip(self.rows.items(), arrays, strict=True):
            if array.shape != (wanted := (count, *arrays[0].shape[1:])):
                raise DataError(
                    f"{self.path}: {view!r} of {fold!r} has shape {array.shape}, not {wanted} as "
                    "its labels and the other folds have it."
                )
        return arrays

    def labels(self, key: str) -> Arrays | None:
        """Return one finite number per sample, fold by fold, if the file has them."""
        if not self.has(key):
            return None
        arrays = [self.array(fold, key, 1) for fold in self.folds]
        for (fold, count), array in zip(self.rows.items(), arrays, strict=True):
            if len(array) != count or not np.isfinite(array).all():
                raise DataError(
                    f"{self.path}: {key!r} of {fold!r} is not one finite number for each of "
                    f"{count} samples."
                )
        return arrays

    def joined(self, key: str) -> list[str]:
        """Return one word per sample of all folds."""
        joined: list[str] = []
        for fold, content in self.folds.items():
            if key not in content:
                raise DataError(f"{self.path} has no {key!r} in {fold!r}.")
            joined += as_words(f"{self.path}: {key!r} of {fold!r}", content[key], self.rows[fold])
        return joined

    def tokens(self) -> Arrays | None:
        """Return token numbers, attention masks and token types, (n, 3, T), if they are there."""
        if not self.has("text_bert"):
            return None
        arrays = [self.array(fold, "text_bert", 3) for fold in self.folds]
        for (fold, count), raw in zip(self.rows.items(), arrays, strict=True):
            if raw.shape[:2] != (count, 3) or not (raw == np.round(raw)).all() or raw.min() < 0:
                raise DataError(
                    f"{self.path}: 'text_bert' of {fold!r} has shape {raw.shape}; it must be whole "
                    f"numbers of shape ({count}, 3, tokens)."
                )
        return arrays

    def lengths(
        self, steps: Mapping[str, Arrays], tokens: Arrays | None
    ) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
        """Return the steps of each sample, by view, and notes on those that were clipped."""
        lengths: dict[str, Arrays] = {}
        notes = []
        for view, arrays in steps.items():
            width, changed = arrays[0].shape[1], 0
            lengths[view] = []
            for number, (fold, content) in enumerate(self.folds.items()):
                if (key := f"{view}_lengths") in content:
                    where = f"{self.path}: {key!r} of {fold!r}"
                    counts, wrong = lengths_within(where, content[key], self.rows[fold], width)
                    changed += wrong
                elif view == "text" and tokens is not None:
                    counts = np.clip(tokens[number][:, 1].sum(axis=1).astype(np.int64), 1, width)
                elif view != "text" and width == steps["text"][0].shape[1]:
                    counts = lengths["text"][number]
                else:
                    counts = _until_zero(arrays[number])
                lengths[view].append(counts)
            if changed:
                notes.append(
                    f"{changed} lengths of {view} lay outside 1 to {width} and were clipped"
                )
        return {view: np.concatenate(parts) for view, parts in lengths.items()}, notes


def _until_zero(values: NDArray[Any]) -> NDArray[np.int64]:
    """Count the steps up to the last one that is not all 0; at least 1."""
    lengths = np.ones(len(values), dtype=np.int64)
    for row, sample in enumerate(values):
        used = np.flatnonzero((sample != 0).any(axis=1))
        if used.size:
            lengths[row] = used[-1] + 1
    return lengths
