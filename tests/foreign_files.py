"""Pickles for the tests: written by the standard library, and as Python 2 wrote them."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def load_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


fuzz_pickles = load_script("fuzz_pickles")


def save(path: Path, value: Any, *, protocol: int = 4, python2: bool = False) -> Path:
    dumps = fuzz_pickles.python2_dumps if python2 else pickle.dumps
    path.write_bytes(dumps(value, protocol))
    return path


SIGNS = ("Negative", "Neutral", "Positive")
ROWS = {"train": 60, "valid": 20, "test": 24}


def mmsa(
    *,
    aligned: bool = False,
    sims: bool = False,
    widths: tuple[int, int, int] = (12, 5, 7),
    steps: tuple[int, int, int] = (10, 15, 13),
    rows: dict[str, int] = ROWS,
    seed: int = 0,
) -> dict[str, Any]:
    """A file of MMSA's layout; the score is planted in every view, and in the words."""
    rng = np.random.default_rng(seed)
    steps = (steps[0],) * 3 if aligned else steps
    folds: dict[str, Any] = {}
    for fold, count in rows.items():
        score = np.clip(rng.normal(0, 1.5, count), -3, 3).round(1).astype(np.float32)
        score = score / 3 if sims else score
        lengths = [rng.integers(2, most + 1, count) for most in steps]
        views = [
            planted(score, length, most, width, rng)
            for length, most, width in zip(lengths, steps, widths, strict=True)
        ]
        tokens = np.zeros((count, 3, steps[0]), dtype=np.float32)
        for row, length in enumerate(lengths[0]):
            tokens[row, 0, :length] = 2204 if score[row] > 0 else 2919
            tokens[row, 1, :length] = 1
        folds[fold] = {
            "raw_text": ["good" if one > 0 else "bad" for one in score],
            "text": views[0].astype(np.float32),
            "audio": views[1],
            "vision": views[2].astype(np.float32 if sims else np.float64),
            "text_bert": tokens,
            "id": [f"video{row // 4}$_${row}" for row in range(count)],
            "annotations": [
                ("Negative", "Neutral", "Positive")[int(np.sign(s)) + 1] for s in score
            ],
            "regression_labels": score,
            "classification_labels": np.sign(score) + 1,
        }
        if not aligned:
            folds[fold] |= {
                "audio_lengths": [int(one) for one in lengths[1]],
                "vision_lengths": lengths[2],
            }
        if sims:
            folds[fold] |= {f"regression_labels_{view}": score + 0 for view in "TAV"}
    return folds


def planted(score, lengths, steps: int, width: int, rng) -> np.ndarray:
    """Noise around the score in the first column, 0 after a sample's end."""
    values = rng.normal(0, 0.5, size=(len(score), steps, width))
    values[:, :, 0] += score[:, None]
    values[np.arange(steps) >= lengths[:, None]] = 0
    return values


def urfunny(
    folder: Path,
    *,
    version: int = 2,
    arrays: bool = False,
    protocol: int = 2,
    python2: bool = False,
    numbers: bool = False,
    change: Any = None,
) -> dict[str, Any]:
    """UR_FUNNY's six files; the label is planted in every modality."""
    rng = np.random.default_rng(1)
    folder.mkdir(exist_ok=True)
    widths = {"covarep": 81, "openface": 371 if version == 2 else 75}
    ids = [number if numbers else str(number) for number in range(100, 160)]
    labels = {one: int(rng.integers(2)) for one in ids}
    words = {one: int(rng.integers(2, 9)) for one in ids}
    form = (lambda table: table) if arrays else (lambda table: table.tolist())

    def table(one, count: int, width: int):
        values = rng.normal(size=(count, width)).round(3)
        values[:, 0] += 3 * labels[one]
        return form(values)

    def features(width: int):
        return {
            one: {
                "punchline_features": table(one, words[one], width),
                "context_features": [table(one, 3, width), table(one, 1, width)],
            }
            for one in ids
        }

    vectors = rng.normal(size=(40, 30))
    content = {
        "data_folds": {"train": ids[:36], "dev": ids[36:48], "test": ids[48:]},
        "language_sdk" if version == 2 else "word_embedding_indexes_sdk": {
            one: {
                "punchline_embedding_indexes": [20 * labels[one] + n for n in range(words[one])],
                "context_embedding_indexes": [[0, 1, 2], [3]],
                "punchline_sentence": f"words {one}",
                "context_sentences": ["one two three", "four"],
                "punchline_intervals": [[0.5 * n, 0.5 * n + 0.4] for n in range(words[one])],
                "context_intervals": [[[0.0, 0.1]] * 3, [[0.2, 0.3]]],
            }
            for one in ids
        },
        "word_embedding_list": form(vectors),
        "covarep_features_sdk": features(widths["covarep"]),
        "openface_features_sdk": features(widths["openface"]),
        "humor_label_sdk": labels,
    }
    if change is not None:
        change(content)
    for name, value in content.items():
        save(folder / f"{name}.pkl", value, protocol=protocol, python2=python2)
    return content
