"""Peak memory of an import against the size of the files: bar, under twice.

Writes synthetic files in MMSA's layout (arrays, in several pickle protocols) and in UR_FUNNY's
(nested lists of floats), imports each in a process of its own and compares the peak of its
resident memory, less that of a process that only loads the libraries, with the files' size.
Runs on Linux.

    python benchmarks/import_memory.py [--megabytes 300] [--folder DIR]
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

PROGRAM = """
import sys
from pathlib import Path
from unittest import mock
from rcml_misa.datasets.imported import import_dataset
if len(sys.argv) > 1:
    with mock.patch("pooch.os_cache", lambda _: sys.argv[2]):
        import_dataset(Path(sys.argv[1]), "peak", replace=True)
status = Path("/proc/self/status").read_text()  # Linux; getrusage would count the parent's peak
print(int(status.partition("VmHWM:")[2].split()[0]))
"""


def mmsa(megabytes: int) -> dict[str, Any]:
    """Three folds of MOSEI's widths, about `megabytes` large."""
    rng = np.random.default_rng(0)
    per_row = 50 * 768 * 4 + 3 * 50 * 4 + 500 * 74 * 8 + 500 * 35 * 8
    rows = max(5, megabytes * 2**20 // per_row)
    folds = {"train": rows * 7 // 10, "valid": rows // 10, "test": rows - rows * 8 // 10}
    return {
        fold: {
            "raw_text": ["words"] * count,
            "id": [f"v{row}$_${row}" for row in range(count)],
            "text": rng.normal(size=(count, 50, 768)).astype(np.float32),
            "text_bert": np.ones((count, 3, 50), np.float32),
            "audio": rng.normal(size=(count, 500, 74)),
            "vision": rng.normal(size=(count, 500, 35)),
            "audio_lengths": [500] * count,
            "vision_lengths": [500] * count,
            "annotations": ["Neutral"] * count,
            "regression_labels": rng.normal(size=count).astype(np.float32),
            "classification_labels": np.ones(count, np.float32),
        }
        for fold, count in folds.items()
    }


def urfunny(folder: Path, megabytes: int) -> int:
    """UR_FUNNY's six files with features as nested lists, about `megabytes` large."""
    rng = np.random.default_rng(0)
    words = 15
    count = max(10, megabytes * 2**20 // (words * (81 + 371) * 9))
    ids = [str(number) for number in range(count)]

    def table(width: int) -> list[list[float]]:
        return [[float(x) for x in row] for row in rng.normal(size=(words, width))]

    def features(width: int) -> dict[str, Any]:
        return {name: {"punchline_features": table(width), "context_features": []} for name in ids}

    files = {
        "data_folds": {"train": ids[:-4], "dev": ids[-4:-2], "test": ids[-2:]},
        "language_sdk": {
            name: {
                "punchline_embedding_indexes": rng.integers(0, 500, words).tolist(),
                "context_embedding_indexes": [],
                "punchline_sentence": "words",
                "context_sentences": [],
                "punchline_intervals": [[float(t), t + 0.5] for t in range(words)],
                "context_intervals": [],
            }
            for name in ids
        },
        "word_embedding_list": rng.normal(size=(500, 300)).tolist(),
        "humor_label_sdk": {name: int(name) % 2 for name in ids},
    }
    for name, value in files.items():
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(value, 4))
    for name, width in (("covarep_features_sdk", 81), ("openface_features_sdk", 371)):
        with (folder / f"{name}.pkl").open("wb") as stream:
            pickle.dump(features(width), stream, 4)
    return sum(path.stat().st_size for path in folder.glob("*.pkl"))


def peak(*words: str) -> int:
    """Peak resident bytes of one process."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", PROGRAM, *words], check=True, capture_output=True, text=True
    )
    return 1024 * int(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    base = peak()
    print(f"libraries alone: {base / 2**20:.0f} MiB")
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        top = Path(folder)
        for protocol in (0, 2, 4, 5):
            path = top / "mmsa.pkl"
            with path.open("wb") as stream:
                pickle.dump(mmsa(given.megabytes), stream, protocol)
            report(f"MMSA, protocol {protocol}", path, path.stat().st_size, base, top)
        path.unlink()
        inner = top / "urfunny"
        inner.mkdir()
        report("UR_FUNNY, nested lists", inner, urfunny(inner, given.megabytes), base, top)


def report(name: str, path: Path, size: int, base: int, cache: Path) -> None:
    """Import and print one line."""
    started = time.perf_counter()
    used = peak(str(path), str(cache / "cache")) - base
    seconds = time.perf_counter() - started
    print(
        f"{name}: {size / 2**20:.0f} MiB, peak {used / 2**20:.0f} MiB above, ratio "
        f"{used / size:.2f}, {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
