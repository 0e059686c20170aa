"""UR_FUNNY's feature files: six pickles in one folder, aligned to words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.layout import FOLDS, ForeignSet, as_words
from rcml_misa.datasets.foreign.npz import Parts
from rcml_misa.datasets.foreign.pickles import read_pickle
from rcml_misa.exceptions import DataError

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
    ids = [one for fold in FOLDS for one in complete[fold]]
    lengths = np.array([reader.words[one] for one in ids], dtype=np.int64)
    total = int(lengths.sum())
    steps = {"text": Parts((total,), np.dtype(np.int32), reader.parts("text", ids))}
    for view in ("audio", "vision"):
        dtype, width = reader.kinds[view], reader.widths[view]
        steps[view] = Parts((total, width), dtype, reader.parts(view, ids), mend=True)
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
        texts=[reader.sentence(one) for one in ids],
        target=np.array([reader.label(one) for one in ids], dtype=np.int64),
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
        found = np.asarray(value)
    except ValueError as error:
        raise DataError(f"{folder}: the word vectors differ in width ({error}).") from error
    if found.ndim != 2 or found.dtype.kind not in "iuf" or 0 in found.shape:
        raise DataError(
            f"{folder}: word_embedding_list.pkl has shape {found.shape}; it must be words by "
            "numbers."
        )
    return found


def _folds(folder: Path, value: Mapping[str, Any]) -> dict[str, list[str]]:
    missing = [name for name in NAMES.values() if name not in value]
    if missing:
        raise DataError(f"{folder}: data_folds.pkl has no {missing[0]!r}.")
    found = {
        fold: as_words(f"{folder}: {name!r} of data_folds.pkl", value[name])
        for fold, name in NAMES.items()
    }
    everything = [one for ids in found.values() for one in ids]
    if not all(found.values()) or len(set(everything)) != len(everything):
        raise DataError(f"{folder}: data_folds.pkl has an empty fold, or an id twice.")
    return found


class _IncompleteError(Exception):
    """What a punchline lacks."""


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
        """Ids of whole punchlines; their words, and the widths of the views, are noted."""
        found: dict[str, list[str]] = {fold: [] for fold in folds}
        wrong: list[str] = []
        for fold, ids in folds.items():
            for one in ids:
                try:
                    self.words[one] = self._check(one)
                    found[fold].append(one)
                except _IncompleteError as error:
                    wrong.append(f"{one} {error}")
        if wrong and (not leave_out or not all(found.values())):
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            raise DataError(
                f"{self.folder}: punchline {'; '.join(wrong[:SHOWN])}{more}; complete the files, "
                "or use --leave-out-incomplete."
            )
        return found

    def _check(self, one: str) -> int:
        for part in ("language", "audio", "vision", "labels"):
            if one not in self.content[part]:
                raise _IncompleteError(f"is not in {FILES[part]}.pkl")
        if self.label(one) not in (0, 1):
            raise _IncompleteError("has a label other than 0 and 1")
        counts = {}
        for view in ("text", "audio", "vision"):
            tables = self._tables(view, one)
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
            known = self.kinds.get(view, table.dtype)
            self.kinds[view] = np.result_type(known, table.dtype)

    def _tables(self, view: str, one: str) -> list[NDArray[Any]]:
        """The words' rows, sentence by sentence; for the text the words' numbers."""
        stem = "embedding_indexes" if view == "text" else "features"
        entry = self.content["language" if view == "text" else view][one]
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
            found = np.asarray(sentence)
        except (TypeError, ValueError) as error:
            raise _IncompleteError(f"has {view} features of different widths") from error
        if view != "text" or not found.size:
            return found if found.size else np.empty(0)
        numbers = found.reshape(-1)
        whole = numbers.dtype.kind in "iu"
        if not whole or numbers.min() < 0 or numbers.max() >= self.vocabulary:
            raise _IncompleteError(f"has word numbers outside 0 to {self.vocabulary - 1}")
        return numbers

    def parts(self, view: str, ids: Sequence[str]) -> Iterator[NDArray[Any]]:
        """Rows of all words of some punchlines, one punchline after the other."""
        for one in ids:
            yield np.concatenate(self._tables(view, one))

    def label(self, one: str) -> int:
        """0 or 1, whatever number stands there."""
        value = self.content["labels"][one]
        found = np.asarray(value)
        return int(found) if found.ndim == 0 and found.dtype.kind in "biuf" else -1

    def sentence(self, one: str) -> str:
        """The spoken words, where the file has them."""
        entry = self.content["language"][one]
        before = entry.get("context_sentences", []) if self.context else []
        parts = [*before, entry.get("punchline_sentence", "")]
        return " ".join(str(part) for part in parts if isinstance(part, str))
