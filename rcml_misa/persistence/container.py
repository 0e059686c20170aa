"""Container of a model: a safetensors file whose metadata holds a JSON header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError
from rcml_misa.storage import whole_file

__all__ = ["FORMAT_VERSION", "read_file", "read_header", "write_file"]

FORMAT = "rcml-misa"
# 1, which rcml-misa 0.1 reads too, holds opinions of tables' classes alone; 2 has no steps before
# the estimator
FORMAT_VERSION = 3
LARGEST_HEADER = 16 * 2**20  # bytes
LENGTH = 8  # bytes that hold the header's length


def write_file(path: Path, header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> None:
    """Write a header and tensors, whole or not at all; `DataError` if that can't be."""
    from safetensors.numpy import save

    facts = {"format_version": FORMAT_VERSION, **header}
    text = json.dumps(facts, allow_nan=False, separators=(",", ":"))
    # one entry, since the order of several is not the same each time
    content = save(dict(tensors), metadata={FORMAT: text})
    if int.from_bytes(content[:LENGTH], "little") > LARGEST_HEADER:
        raise DataError(f"the model's names and labels take more than {LARGEST_HEADER} bytes.")
    with whole_file(path, remedy="give a file in a folder that exists") as temporary:
        temporary.write_bytes(content)


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON header alone; `DataError` if the file is none, truncated or too new."""
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(LENGTH), "little")
            if size < LENGTH or not 2 <= length <= min(LARGEST_HEADER, size - LENGTH):
                raise _no_model(path, "its first bytes tell no possible length of a header")
            table = _json(path, stream.read(length))
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); give a model file.") from error
    metadata = table.pop("__metadata__", None)
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise _no_model(path, "its header does not say so")
    header = _json(path, text)
    _check_version(path, header.get("format_version"))
    _check_size(path, table, size - LENGTH - length)
    return header


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read header and tensors; see `read_header`."""
    from safetensors import SafetensorError, safe_open

    header = read_header(path)
    try:
        with safe_open(path, framework="numpy") as content:
            return header, {name: np.array(content.get_tensor(name)) for name in content.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, OSError) as error:
        raise _no_model(path, " ".join(str(error).split())) from error


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        cause = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise _no_model(path, f"its header is no JSON ({cause})") from error
    if not isinstance(value, dict):
        raise _no_model(path, "its header is no JSON object")
    return value


def _check_version(path: Path, version: Any) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _no_model(path, "its header tells no format version")
    if version > FORMAT_VERSION:
        raise DataError(
            f"{path} has format version {str(version)[:9]}, written by a newer rcml-misa; this one "
            f"reads up to {FORMAT_VERSION}: update it, or save the model again with the older one."
        )


def _check_size(path: Path, table: Mapping[str, Any], size: int) -> None:
    """Compare the end of the last tensor with the end of the file."""
    try:
        ends = [int(entry["data_offsets"][1]) for entry in table.values()]
    except (TypeError, KeyError, IndexError, ValueError) as error:
        raise _no_model(path, "its header does not tell where tensors lie") from error
    expected = max(ends, default=0)
    if size != expected:
        problem = "truncated" if size < expected else "followed by something else"
        raise DataError(
            f"{path} is {problem}: {size} bytes of tensors where its header tells {expected}; "
            "copy it again from where it was saved."
        )


def _no_model(path: Path, cause: str) -> DataError:
    return DataError(f"{path} is not a whole model file of rcml-misa: {cause}.")
