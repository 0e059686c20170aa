"""Feature files of MMSA (MOSI, MOSEI and CH-SIMS, one pickle each) and of UR_FUNNY (six)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.layout import FOLDS, ForeignSet, Parts, as_words, words
from rcml_misa.datasets.foreign.machine import read_pickle
from rcml_misa.exceptions import DataError, shortened

__all__ = ["read_mmsa", "read_urfunny"]

MMSA = (
    "Mao et al., M-SENA: An Integrated Platform for Multimodal Sentiment Analysis, ACL 2022 "
    "(features); Zadeh et al. 2016 (MOSI), Zadeh et al. 2018 (MOSEI), Yu et al. 2020 (CH-SIMS)"
)
VIEWS = ("text", "audio", "vision")
LABELS = ("classification_labels", *(f"regression_labels_{view}" for view in "TAV"))

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
URFUNNY = (
    "Hasan et al., UR-FUNNY: A Multimodal Language Dataset for Understanding Humor, EMNLP 2019"
)

Arrays = list[NDArray[Any]]


def read_mmsa(path: Path) -> ForeignSet:
    """Read and check a feature file in MMSA's layout.

    It is a pickle of ``train``, ``valid`` and ``test``, each with ``raw_text``, ``audio``,
    ``vision``, ``text``, ``id``, ``regression_labels`` and, where the file has them, ``text_bert``,
    ``audio_lengths``, ``vision_lengths``, ``annotations``, ``classification_labels`` and CH-SIMS's
    labels of single views. A sample's text is as long as its attention mask; where lengths are not
    given, audio and vision are as long as the text if they have as many steps, and else end at
    their last step that is not 0. A file that is not readable or of another layout is a DataError,
    which names the fold and the key.
    """
    content = read_pickle(path)
    folds: list[Any] = [content.get(f) for f in FOLDS] if isinstance(content, dict) else []
    if not folds or not all(isinstance(fold, dict) and fold for fold in folds):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else "no dict"
        raise DataError(
            f"{path} is no MMSA file: it must be a dict of train, valid and test, each a dict, but "
            f"it holds {shortened(keys)}."
        )
    reader = _MMSA(path, dict(zip(FOLDS, folds, strict=True)))
    steps = {view: reader.steps(view) for view in VIEWS}
    tokens = reader.tokens()
    lengths = reader.lengths(steps, tokens)
    labels = {name: reader.labels(name) for name in LABELS}
    sims = bool(labels["regression_labels_T"])
    others = {name: Parts.of(arrays) for name, arrays in labels.items() if arrays}
    if tokens:
        others["tokens"] = Parts.of(tokens)
    if reader.has("annotations"):
        others["annotations"] = words(reader.joined("annotations"))
    return ForeignSet(
        layout="mmsa",
        title="CH-SIMS" if sims else "MOSI or MOSEI",
        citation=MMSA,
        views={view: arrays[0].shape[2] for view, arrays in steps.items()},
        steps={view: Parts.of(arrays, finite=True) for view, arrays in steps.items()},
        lengths=lengths,
        rows=reader.rows,
        ids=reader.joined("id"),
        texts=reader.joined("raw_text"),
        target=np.concatenate(reader.labels("regression_labels")),
        limit=1.0 if sims else 3.0,
        others=others,
        notes=tuple(reader.notes),
    )


@dataclass
class _MMSA:
    """Takes the arrays of one key from the folds, and checks them."""

    path: Path
    folds: Mapping[str, Mapping[str, Any]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = {fold: len(self._array(fold, "regression_labels", 1)) for fold in self.folds}

    def has(self, key: str) -> bool:
        """Check that every fold has a key."""
        return all(key in content for content in self.folds.values())

    def _arrays(self, key: str, dimensions: int) -> list[tuple[str, int, NDArray[Any]]]:
        """Return each fold's name, number of samples and numeric array."""
        return [(fold, n, self._array(fold, key, dimensions)) for fold, n in self.rows.items()]

    def _array(self, fold: str, key: str, dimensions: int) -> NDArray[Any]:
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
        folds = self._arrays(view, 3)
        for fold, count, array in folds:
            if array.shape != (wanted := (count, *folds[0][2].shape[1:])):
                raise DataError(
                    f"{self.path}: {view!r} of {fold!r} has shape {array.shape}, not {wanted} as "
                    "its labels and the other folds have it."
                )
        return [array for *_, array in folds]

    def labels(self, key: str) -> Arrays:
        """Return one finite number per sample, fold by fold, if the file has them."""
        folds = self._arrays(key, 1) if self.has(key) else []
        for fold, count, array in folds:
            if len(array) != count or not np.isfinite(array).all():
                raise DataError(
                    f"{self.path}: {key!r} of {fold!r} is not one finite number for each of "
                    f"{count} samples."
                )
        return [array for *_, array in folds]

    def joined(self, key: str) -> list[str]:
        """Return one word per sample of all folds."""
        joined: list[str] = []
        for fold, content in self.folds.items():
            if key not in content:
                raise DataError(f"{self.path} has no {key!r} in {fold!r}.")
            joined += as_words(f"{self.path}: {key!r} of {fold!r}", content[key], self.rows[fold])
        return joined

    def tokens(self) -> Arrays:
        """Return token numbers, masks and token types, (n, 3, T), if the file has them."""
        folds = self._arrays("text_bert", 3) if self.has("text_bert") else []
        for fold, count, raw in folds:
            if raw.shape[:2] != (count, 3) or not (raw == np.round(raw)).all() or raw.min() < 0:
                raise DataError(
                    f"{self.path}: 'text_bert' of {fold!r} has shape {raw.shape}; it must be whole "
                    f"numbers of shape ({count}, 3, tokens)."
                )
        return [raw for *_, raw in folds]

    def lengths(self, steps: Mapping[str, Arrays], tokens: Arrays) -> dict[str, NDArray[np.int64]]:
        """Return the steps of each sample, by view; note how many were clipped."""
        lengths: dict[str, Arrays] = {view: [] for view in steps}
        for view, arrays in steps.items():
            width, changed = arrays[0].shape[1], 0
            for number, (fold, content) in enumerate(self.folds.items()):
                if (key := f"{view}_lengths") in content:
                    given = self._given_lengths(fold, key)
                    counts = np.clip(given, 1, width).astype(np.int64)
                    changed += int((counts != given).sum())
                elif view == "text" and tokens:
                    counts = np.clip(tokens[number][:, 1].sum(axis=1).astype(np.int64), 1, width)
                elif view != "text" and width == steps["text"][0].shape[1]:
                    counts = lengths["text"][number]
                else:
                    # up to the last step that is not all 0; at least 1
                    used = [np.flatnonzero((x != 0).any(axis=1)) for x in arrays[number]]
                    counts = np.array([rows.max(initial=0) + 1 for rows in used])
                lengths[view].append(counts)
            if changed:
                lay = f"lengths of {view} lay outside 1 to {width}"
                self.notes.append(f"{changed} {lay} and were clipped")
        return {view: np.concatenate(parts) for view, parts in lengths.items()}

    def _given_lengths(self, fold: str, key: str) -> NDArray[np.float64]:
        where, count = f"{self.path}: {key!r} of {fold!r}", self.rows[fold]
        try:
            lengths = np.asarray(self.folds[fold][key], dtype=np.float64).reshape(-1)
        except (TypeError, ValueError) as error:
            raise DataError(f"{where} are no numbers ({shortened(error)}).") from error
        if len(lengths) != count or not (lengths == np.round(lengths)).all():
            raise DataError(f"{where} are not one whole number for each of {count} samples.")
        return lengths


def read_urfunny(
    folder: Path, *, context: bool = False, leave_out_incomplete: bool = False
) -> ForeignSet:
    """Read and check the six pickles of version 1 or 2.

    The folder has ``data_folds.pkl``, ``language_sdk.pkl``, ``word_embedding_list.pkl``,
    ``covarep_features_sdk.pkl``, ``openface_features_sdk.pkl`` and ``humor_label_sdk.pkl``. With
    `context` the words of the sentences before the punchline come before its own. A file that is
    missing or of another layout is a DataError, and so are punchlines that lack a file's entry, or
    whose files differ in words, which the sentence names, unless `leave_out_incomplete`.
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
    try:
        vectors = np.asarray(content["vectors"])
    except ValueError as error:
        raise DataError(
            f"{folder}: the word vectors differ in width ({shortened(error)})."
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "iuf" or 0 in vectors.shape:
        shown = f"word_embedding_list.pkl has shape {vectors.shape}"
        raise DataError(f"{folder}: {shown}; it must be words by numbers.")
    folds = _folds(folder, content["folds"])
    reader = _URFunny(folder, content, len(vectors), context, room)
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
        citation=URFUNNY,
        views={"text": vectors.shape[1], **reader.widths},
        steps=steps,
        lengths=dict.fromkeys(VIEWS, lengths),
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


def _folds(folder: Path, value: Mapping[str, Any]) -> dict[str, list[str]]:
    folds = {}
    for fold, name in NAMES.items():
        if name not in value:
            raise DataError(f"{folder}: data_folds.pkl has no {name!r}.")
        folds[fold] = as_words(f"{folder}: {name!r} of data_folds.pkl", value[name])
    ids = [name for fold in folds.values() for name in fold]
    if not all(folds.values()) or len(set(ids)) != len(ids):
        raise DataError(f"{folder}: data_folds.pkl has an empty fold, or an id twice.")
    return folds


class _IncompleteError(Exception):
    """Gap of a punchline; the words that follow its id."""


@dataclass
class _URFunny:
    """Takes punchlines from the six files, the context before each where it is wanted."""

    folder: Path
    content: Mapping[str, Any]
    vocabulary: int
    context: bool
    room: int  # numbers that files of their size may describe

    words: dict[str, int] = field(default_factory=dict)
    widths: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, np.dtype[Any]] = field(default_factory=dict)

    def complete(self, folds: Mapping[str, Sequence[str]], leave_out: bool) -> dict[str, list[str]]:
        """Return the ids of whole punchlines; note their words, and the widths of the views."""
        complete: dict[str, list[str]] = {fold: [] for fold in folds}
        wrong = []
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
        for view in VIEWS:
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
                columns = f"{table.shape[1]} {view} columns"
                raise _IncompleteError(f"has {columns} where others have {width}")
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
            if table.dtype.kind not in "iu" or table.min() < 0 or table.max() >= self.vocabulary:
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
