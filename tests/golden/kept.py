"""The committed values: where they lie, on what machine they hold, and how they are compared."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_info

from .prints import sha256

FOLDER = Path(__file__).parent
VALUES = FOLDER / "values.json"
RECORDS = FOLDER / "records"
CHANGES = FOLDER / "CHANGES.md"

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pandas", "torch")
FLAGS = ("fma", "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "asimd", "sve")
NEAR = 1e-3  # of probabilities and scores of a tiny toy, on another machine
NEAR_ERROR = 0.05  # of a mean absolute error, on another machine
TEST_ROWS = 2  # answers that may differ on another machine
TOY_ROWS = 24


def fingerprint() -> dict[str, Any]:
    """What decides the bits: the processor's kind and the libraries' versions."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    told = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    flags = set(told.get("flags", told.get("Features", "")).split())
    blas = {
        f"{one['prefix']} {one['version']} {one.get('architecture')}"
        for one in threadpool_info()
        if one["user_api"] == "blas"
    }
    return {
        "processor": told.get("model name", platform.processor() or platform.machine()),
        "flags": [one for one in FLAGS if one in flags],
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "blas": sorted(blas),
        "system": platform.system(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        **{name: version(name) for name in LIBRARIES},
    }


def read_values() -> dict[str, Any]:
    return json.loads(VALUES.read_text(encoding="utf-8"))


def read_record(name: str) -> Any:
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def canonical_sha256(value: Any) -> str:
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode())


def known_fields(found: Any, kept: Any) -> Any:
    """The fields of what was found that the kept value has; later fields are left out."""
    if isinstance(kept, dict) and isinstance(found, dict):
        return {key: known_fields(found[key], one) for key, one in kept.items() if key in found}
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        return [known_fields(one, two) for one, two in zip(found, kept, strict=True)]
    return found


def differences(kept: Any, found: Any, place: str = "") -> list[str]:
    """Where a found value differs from the kept one, a line each."""
    if isinstance(kept, dict) and isinstance(found, dict):
        lines = [f"{place}/{key} is gone" for key in kept if key not in found]
        for key in kept:
            if key in found:
                lines += differences(kept[key], found[key], f"{place}/{key}")
        return lines
    if isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        pairs = enumerate(zip(kept, found, strict=True))
        return [line for n, (a, b) in pairs for line in differences(a, b, f"{place}/{n}")]
    equal = type(kept) is type(found) and kept == found
    return [] if equal else [f"{place}: {str(kept)[:90]} became {str(found)[:90]}"]


def gone(kept: Any, found: Any, place: str = "") -> list[str]:
    """Fields that are not there any more, whatever their values."""
    if not isinstance(kept, dict) or not isinstance(found, dict):
        return []
    lines = [f"{place}/{key} is gone" for key in kept if key not in found]
    both = [key for key in kept if key in found]
    return lines + [one for key in both for one in gone(kept[key], found[key], f"{place}/{key}")]


def far(kept: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Numbers further from the kept ones than another machine may bring them."""
    one, two = kept["numbers"], found["numbers"]
    if len(one) != len(two):
        return [f"{len(one)} numbers became {len(two)}"]
    near = kept.get("tolerance", NEAR)
    return [
        f"{a} became {b}"
        for a, b in zip(one, two, strict=True)
        if not math.isclose(a, b, rel_tol=kept.get("relative", NEAR), abs_tol=near)
    ]


def measures_of(written: Any, name: str) -> list[float]:
    """All numbers of a name, at any depth, in order."""
    if isinstance(written, list):
        return [one for part in written for one in measures_of(part, name)]
    if not isinstance(written, dict):
        return []
    found = []
    for key, value in sorted(written.items()):
        if key == name and isinstance(value, float):
            found.append(round(value, 6))
        found += measures_of(value, name)
    return found


def command_value(written: Mapping[str, Any]) -> dict[str, Any]:
    """The hash of what a command wrote, its accuracies or errors, and their tolerance."""
    accuracies = measures_of(written, "accuracy")
    rows = [one.get("test_rows", TOY_ROWS) for one in written.values() if isinstance(one, dict)]
    near = TEST_ROWS / min(rows, default=TOY_ROWS) if accuracies else NEAR_ERROR
    return {
        "sha256": {"written": canonical_sha256(written)},
        "numbers": accuracies or measures_of(written, "mae"),
        "tolerance": round(near, 6),
    }


def rendered(value: Any, depth: int = 0) -> str:
    """JSON with a line for each field, and lists of plain values on one line."""
    pad = " " * (depth + 1)
    if isinstance(value, dict) and value:
        lines = [
            f"{pad}{json.dumps(key)}: {rendered(one, depth + 1)}"
            for key, one in sorted(value.items())
        ]
        return "{\n" + ",\n".join(lines) + "\n" + " " * depth + "}"
    if isinstance(value, list) and any(isinstance(one, (dict, str)) for one in value):
        lines = [f"{pad}{rendered(one, depth + 1)}" for one in value]
        return "[\n" + ",\n".join(lines) + "\n" + " " * depth + "]"
    return json.dumps(value)
