"""Tiny data of fixed seeds: tables, sequences and texts, classes and scores, and their files."""

from __future__ import annotations

import csv
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcml_misa.views import MultiView

TRAIN, NEW = 60, 20
WIDTHS = {"face": 6, "voice": 5, "hand": 4}
WORDS = ("bad", "poor", "plain", "fair", "good", "fine", "great", "odd")


@dataclass(frozen=True)
class Toy:
    """Train rows with three classes and a score, weights of the rows, and new rows."""

    train: MultiView
    classes: np.ndarray
    scores: np.ndarray
    weights: np.ndarray
    new: MultiView

    def target(self, *, regression: bool) -> np.ndarray:
        return self.scores if regression else self.classes


def tables(rows: int = TRAIN + NEW) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Three views around the centres of three classes; a score that follows the first columns."""
    rng = np.random.default_rng(7)
    classes = np.arange(rows) % 3
    views = {}
    for name, width in WIDTHS.items():
        centres = rng.normal(size=(3, width))
        views[name] = np.round(centres[classes] + rng.normal(size=(rows, width)), 4)
    score = np.tanh(sum(view[:, 0] for view in views.values()) / 3) * 3
    return views, classes, np.round(score, 4)


def _toy(views: dict[str, Any], classes: np.ndarray, scores: np.ndarray) -> Toy:
    weights = np.random.default_rng(11).uniform(0.2, 2.0, TRAIN)
    whole = MultiView(views)
    first, last = np.arange(TRAIN), np.arange(TRAIN, TRAIN + NEW)
    return Toy(whole.take(first), classes[first], scores[first], weights, whole.take(last))


def table_toy() -> Toy:
    return _toy(*tables())


def missing_toy() -> Toy:
    """Every seventh row lacks the first view, every ninth the last; some new rows too."""
    views, classes, scores = tables()
    views["face"][::7] = np.nan
    views["hand"][4::9] = np.nan
    return _toy(views, classes, scores)


def sequence_toy() -> Toy:
    """A table beside a sequence of two to five steps."""
    views, classes, scores = tables()
    rng = np.random.default_rng(13)
    steps = rng.integers(2, 6, size=len(classes))
    voice = [
        np.round(views["voice"][row] + rng.normal(0, 0.3, size=(count, 5)), 4)
        for row, count in enumerate(steps)
    ]
    return _toy({"face": views["face"], "voice": voice}, classes, scores)


def text_toy() -> Toy:
    """A text of two to five words beside a table."""
    views, classes, scores = tables()
    rng = np.random.default_rng(17)
    texts = [
        " ".join(WORDS[(2 * label + int(rng.integers(4))) % 8] for _ in range(rng.integers(2, 6)))
        for label in classes
    ]
    return _toy({"words": texts, "face": views["face"]}, classes, scores)


def write_table(path: Path, *, rows: int = 120, target: bool = True) -> None:
    """Write a csv of three views and a label."""
    views, classes, _ = tables(rows)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        columns = [f"{name}__{n}" for name, width in WIDTHS.items() for n in range(width)]
        writer.writerow([*columns, "target"] if target else columns)
        side_by_side = np.concatenate(list(views.values()), axis=1)
        for row, label in zip(side_by_side.tolist(), classes, strict=True):
            writer.writerow([*row, f"kind{label}"] if target else row)


def write_mmsa(path: Path) -> None:
    """Write a pickle of MMSA's layout: unaligned sequences, words and scores in three folds."""
    rng = np.random.default_rng(19)
    folds: dict[str, Any] = {}
    for fold, count in {"train": 48, "valid": 16, "test": 20}.items():
        score = (np.clip(rng.normal(0, 1.5, count), -3, 3).round()).astype(np.float32)
        lengths = {
            name: rng.integers(2, most + 1, count)
            for name, most in {"text": 4, "audio": 6, "vision": 5}.items()
        }
        views = {}
        for (name, own), width in zip(lengths.items(), (6, 4, 3), strict=True):
            values = rng.normal(0, 0.5, size=(count, own.max(), width)).round(3)
            values[:, :, 0] += score[:, None]
            values[np.arange(own.max()) >= own[:, None]] = 0
            views[name] = values.astype(np.float32)
        tokens = np.zeros((count, 3, views["text"].shape[1]), dtype=np.float32)
        for row, length in enumerate(lengths["text"]):
            tokens[row, 0, :length] = 2204 if score[row] > 0 else 2919
            tokens[row, 1, :length] = 1
        folds[fold] = {
            **views,
            "raw_text": [
                f"{WORDS[4 if one > 0 else 0]} {WORDS[row % 8]}" for row, one in enumerate(score)
            ],
            "text_bert": tokens,
            "id": [f"video{row // 4}$_${row}" for row in range(count)],
            "annotations": [
                ("Negative", "Neutral", "Positive")[int(np.sign(s)) + 1] for s in score
            ],
            "regression_labels": score,
            "classification_labels": np.sign(score) + 1,
            "audio_lengths": [int(one) for one in lengths["audio"]],
            "vision_lengths": [int(one) for one in lengths["vision"]],
        }
    path.write_bytes(pickle.dumps(folds, 4))
