"""UR_FUNNY's feature files: six pickles in one folder, aligned to words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.layout import FOLDS, ForeignSet, Parts, as_words
from rcml_misa.datasets.foreign.machine import read_pickle
from rcml_misa.exceptions import DataError, shortened

__all__ = ["FILES", "read_urfunny"]

FILES = {
    "folds": "data_folds",
    "language": "language_sdk",
    "vectors": "word_embedding_list",
    "audio": "covarep_features_sdk",
    "vision": "openface_features_sdk",
    "labels": "humor_label_sdk",
}
EARLIER = {"language": "word_embedding_indexes_sdk"}  # version 1's name
NAMES = {"train": "train", "valid": "dev", "test": "test"}
SHOWN = 3  # ids that a sentence names
MOST_WORDS = 100_000  # of one punchline and its context
CITATION = (
    "Hasan et al., UR-FUNNY: A Multimodal Language Dataset for Understanding Humor, EMNLP 2019"
)


def read_urfunny(
    folder: Path, *, context: bool = False, leave_out_incomplete: bool = False
) -> ForeignSet:
    """Read and check the six pickles of version 1 or 2.

    Parameters
    ----------
    folder : Path
        With ``data_folds.pkl``, ``language_sdk.pkl``, ``word_embedding_list.pkl``,
        ``covarep_features_sdk.pkl``, ``openface_features_sdk.pkl`` and ``humor_label_sdk.pkl``.
    context : bool
        Whether the words of the sentences before the punchline come before its own.
    leave_out_incomplete : bool
        Whether punchlines that lack a file's entry, or whose files differ in words, are left out
        rather than refused.

    Returns
    -------
    ForeignSet
        Widths are those of the arrays.

    Raises
    ------
    DataError
        If a file is missing or of another layout, or a punchline is not complete; the sentence
        names the punchlines.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give the one with UR_FUNNY's pickles.")
    paths = {part: _file(folder, part) for part in FILES}
    room = sum(path.stat().st_size for path in paths.values())
    content = {part: read_pickle(path) for part, path in paths.items()}
    for part in ("folds", "language", "audio", "vision", "labels"):
        if not isinstance(content[part], dict):
            raise DataError(f"{folder}: {FILES[part]}.pkl holds no dict.")
        content[part] = {str(key): value for key, value in content[part].items()}
    vectors = _vectors(folder, content["vectors"])
    folds = _folds(folder, content["folds"])
    reader = _Reader(folder, content, len(vectors), context, room)
    complete = reader.complete(folds, leave_out_incomplete)
    ids = [name for fold in FOLDS for name in complete[fold]]
    lengths = np.array([reader.words[name] for name in ids], dtype=np.int64)
    total = int(lengths.sum())
    steps = {"text": Parts((total,), np.dtype(np.int32), reader.parts("text", ids))}
    for view in ("audio", "vision"):
        dtype, width = reader.kinds[view], reader.widths[view]
        steps[view] = Parts((total, width), dtype, reader.parts(view, ids), finite=True)
    left_out = sum(map(len, folds.values())) - len(ids)
    return ForeignSet(
        layout="urfunny",
        title="UR_FUNNY",
        citation=CITATION,
        views={"text": vectors.shape[1], **reader.widths},
        steps=steps,
        lengths=dict.fromkeys(("text", "audio", "vision"), lengths),
        rows={fold: len(complete[fold]) for fold in FOLDS},
        ids=ids,
        texts=[reader.sentence(name) for name in ids],
        target=np.array([reader.label(name) for name in ids], dtype=np.int64),
        classes=("0", "1"),
        others={"vectors": Parts.of([vectors])},
        notes=(f"{left_out} incomplete punchlines were left out",) if left_out else (),
    )


def _file(folder: Path, part: str) -> Path:
    for stem in (FILES[part], EARLIER.get(part)):
        if stem is not None and (path := folder / f"{stem}.pkl").is_file():
            return path
    raise DataError(
        f"{folder} has no {FILES[part]}.pkl; UR_FUNNY needs "
        f"{', '.join(f'{stem}.pkl' for stem in FILES.values())}."
    )


def _vectors(folder: Path, value: Any) -> NDArray[Any]:
    try:
        vectors = np.asarray(value)
    except ValueError as error:
        raise DataError(
            f"{folder}: the word vectors differ in width ({shortened(error)})."
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "iuf" or 0 in vectors.shape:
        raise DataError(
            f"{folder}: word_embedding_list.pkl has shape {vectors.shape}; it must be words by "
            "numbers."
        )
    return vectors


def _folds(folder: Path, value: Mapping[str, Any]) -> dict[str, list[str]]:
    folds = {}
    for fold, name in NAMES.items():
        if name not in value:
            raise DataError(f"{folder}: data_folds.pkl has no {name!r}.")
        folds[fold] = as_words(f"{folder}: {name!r} of data_folds.pkl", value[name])
    everything = [name for ids in folds.values() for name in ids]
    if not all(folds.values()) or len(set(everything)) != len(everything):
        raise DataError(f"{folder}: data_folds.pkl has an empty fold, or an id twice.")
    return folds


class _IncompleteError(Exception):
    """Gap of a punchline; the words that follow its id."""


@dataclass
class _Reader:
    """Takes punchlines from the six files, the context before each where it is wanted."""

    folder: Path
    content: Mapping[str, Any]
    vocabulary: int
    context: bool
    room: int  # numbers that files of their size may describe

    def __post_init__(self) -> None:
        self.words: dict[str, int] = {}
        self.widths: dict[str, int] = {}
        self.kinds: dict[str, np.dtype[Any]] = {}

    def complete(self, folds: Mapping[str, Sequence[str]], leave_out: bool) -> dict[str, list[str]]:
        """Return the ids of whole punchlines; note their words, and the widths of the views."""
        complete: dict[str, list[str]] = {fold: [] for fold in folds}
        wrong: list[str] = []
        for fold, ids in folds.items():
            for name in ids:
                try:
                    self.words[name] = self._check(name)
                    complete[fold].append(name)
                except _IncompleteError as error:
                    wrong.append(f"{shortened(name, 20)} {error}")
        if wrong and (not leave_out or not all(complete.values())):
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DataError(
                f"{self.folder}: punchline {'; '.join(wrong[:SHOWN])}{more}; complete the files, "
                "or use --leave-out-incomplete."
            )
        return complete

    def _check(self, name: str) -> int:
        for part in ("language", "audio", "vision", "labels"):
            if name not in self.content[part]:
                raise _IncompleteError(f"is not in {FILES[part]}.pkl")
        if self.label(name) not in (0, 1):
            raise _IncompleteError("has a label other than 0 and 1")
        counts = {}
        for view in ("text", "audio", "vision"):
            tables = self._tables(view, name)
            counts[view] = sum(map(len, tables))
            if view != "text":
                self._note_width(view, tables)
        if len(set(counts.values())) > 1 or not 1 <= counts["text"] <= MOST_WORDS:
            words = ", ".join(f"{view} {count}" for view, count in counts.items())
            raise _IncompleteError(f"has different or impossible numbers of words ({words})")
        self.room -= counts["text"] * sum(self.widths.values())
        if self.room < 0:
            raise DataError(
                f"{self.folder}: the files describe more numbers than they have bytes, by naming "
                "the same ones again and again; fetch them again."
            )
        return counts["text"]

    def _note_width(self, view: str, tables: Sequence[NDArray[Any]]) -> None:
        for table in tables:
            if table.ndim != 2 or table.dtype.kind not in "iuf":
                raise _IncompleteError(f"has {view} features that are no table of numbers")
            width = self.widths.setdefault(view, table.shape[1])
            if table.shape[1] != width:
                raise _IncompleteError(
                    f"has {table.shape[1]} {view} columns where others have {width}"
                )
            self.kinds[view] = np.result_type(self.kinds.get(view, table.dtype), table.dtype)

    def _tables(self, view: str, name: str) -> list[NDArray[Any]]:
        """Return the words' rows, sentence by sentence; for the text the words' numbers."""
        stem = "embedding_indexes" if view == "text" else "features"
        entry = self.content["language" if view == "text" else view][name]
        if not isinstance(entry, dict) or f"punchline_{stem}" not in entry:
            raise _IncompleteError(f"has no punchline_{stem} of {view}")
        sentences = [entry[f"punchline_{stem}"]]
        if self.context:
            before = entry.get(f"context_{stem}", [])
            if not isinstance(before, Sequence) and not isinstance(before, np.ndarray):
                raise _IncompleteError(f"has no list of sentences in context_{stem} of {view}")
            if len(before) > MOST_WORDS:
                raise _IncompleteError("has more sentences than a talk")
            sentences = [*before, *sentences]
        tables, words = [], 0
        for sentence in sentences:
            words += len(sentence) if isinstance(sentence, Sequence | np.ndarray) else 0
            if words > MOST_WORDS:
                raise _IncompleteError("has more words than a talk")
            if len(table := self._table(view, sentence)):
                tables.append(table)
        return tables

    def _table(self, view: str, sentence: Any) -> NDArray[Any]:
        try:
            table = np.asarray(sentence)
        except (TypeError, ValueError) as error:
            raise _IncompleteError(f"has {view} features of different widths") from error
        if not table.size:
            return np.empty(0)
        if view == "text":
            table = table.reshape(-1)
            whole = table.dtype.kind in "iu"
            if not whole or table.min() < 0 or table.max() >= self.vocabulary:
                raise _IncompleteError(f"has word numbers outside 0 to {self.vocabulary - 1}")
        return table

    def parts(self, view: str, ids: Sequence[str]) -> Iterator[NDArray[Any]]:
        """Yield the rows of all words, one punchline after the other."""
        for name in ids:
            yield np.concatenate(self._tables(view, name))

    def label(self, name: str) -> int:
        """Return 0 or 1, or the number that stands there; -1 for anything else."""
        value = np.asarray(self.content["labels"][name])
        return int(value) if value.ndim == 0 and value.dtype.kind in "biuf" else -1

    def sentence(self, name: str) -> str:
        """Return the spoken words, where the file has them."""
        entry = self.content["language"][name]
        before = entry.get("context_sentences", []) if self.context else []
        parts = [*before, entry.get("punchline_sentence", "")]
        return " ".join(str(part) for part in parts if isinstance(part, str))
