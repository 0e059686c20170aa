"""Pickles for the tests: written by the standard library, and as Python 2 wrote them."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

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
