"""Container of a model: a safetensors file whose metadata holds a JSON header with a checksum."""

from __future__ import annotations

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.storage import sweep, whole_file

__all__ = ["FORMAT_VERSION", "read_file", "read_header", "write_file"]

FORMAT = "rcml-misa"
# 1 holds opinions of tables' classes alone, 2 has no steps before the estimator, 3 no checksum
FORMAT_VERSION = 4
FIRST_WITH_CHECKSUM = 4
CHECKSUM = "sha256"
PLACEHOLDER = "0" * 64  # stands for the checksum while it is computed
DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST_HEADER = 16 * 2**20  # bytes
MOST_PARTS = 2**17  # lists and tables in a header, read in a fraction of a second
LENGTH = 8  # bytes that hold the header's length
DTYPES = frozenset(
    {"BOOL", "F16", "F32", "F64", *(f"{sign}{bits}" for sign in "IU" for bits in (8, 16, 32, 64))}
)


def write_file(path: Path, header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> str:
    """Write a header and tensors, whole or not at all, and return their checksum.

    The checksum is the sha256 of the whole file, in which 64 zeros stand in its place.

    Raises
    ------
    DataError
        If the file can't be written, or the header is too long or holds a text that is no Unicode.
    """
    content, checksum = _content(header, tensors)
    sweep(path.parent)
    with whole_file(path, remedy="give a file in a folder that exists") as temporary:
        temporary.write_bytes(content)
    return checksum


def _content(
    header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]
) -> tuple[bytearray, str]:
    from safetensors.numpy import save

    facts = {CHECKSUM: PLACEHOLDER, "format_version": FORMAT_VERSION, **header}
    text = json.dumps(facts, allow_nan=False, separators=(",", ":"))
    if not _is_unicode(text, facts):
        raise DataError("the model has a name or label that is no Unicode text; rename it.")
    # one entry, since the order of several is not the same each time
    content = bytearray(save(dict(tensors), metadata={FORMAT: text}))
    length = int.from_bytes(content[:LENGTH], "little")
    if length > LARGEST_HEADER or _parts(content[: LENGTH + length]) > MOST_PARTS:
        raise DataError(
            f"the model's names and labels take more than {LARGEST_HEADER} bytes or {MOST_PARTS} "
            "lists; use fewer columns, labels or words."
        )
    checksum = hashlib.sha256(content).hexdigest()
    # the first entry of the metadata, which stands first
    place = content.index(PLACEHOLDER.encode())
    content[place : place + len(PLACEHOLDER)] = checksum.encode()
    return content, checksum


def read_header(path: Path) -> dict[str, Any]:
    """Read the JSON header, once the checksum is right; see `read_file`."""
    return _read(path)[0]


def read_file(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read header and tensors.

    Raises
    ------
    DataError
        If the file is none, truncated, too new, or not the one that its checksum was taken of.
        Files before format version 4 have no checksum.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    header, content = _read(path)
    try:
        return header, {name: np.array(tensor) for name, tensor in load(content).items()}
    except (SafetensorError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _no_model(path, shortened(error, 100)) from error


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    """Read a file once, so that what is checked is what is used; the header and all bytes."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "Is a directory")
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            raise OSError(22, "it is no regular file")
        with path.open("rb") as stream:
            first = stream.read(LENGTH)
            length = int.from_bytes(first, "little")
            if len(first) < LENGTH or not 2 <= length <= min(
                LARGEST_HEADER, status.st_size - LENGTH
            ):
                raise _no_model(path, "its first bytes tell no possible length of a header")
            stream.seek(0)
            content = stream.read(status.st_size)
    except (OSError, ValueError) as error:  # a path may hold what no path can
        if isinstance(error, DataError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{shortened(path, 150)} can't be read ({reason}); give a model file."
        ) from error
    except MemoryError as error:
        raise _no_model(path, f"its {status.st_size} bytes do not fit into memory") from error
    start = LENGTH + length
    table = _json(path, content[LENGTH:start])
    metadata = table.pop("__metadata__", None)
    text = metadata.get(FORMAT) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise _no_model(path, "its header does not say so")
    header = _json(path, text)
    version = _version(path, header.get("format_version"))
    _check_size(path, table, len(content) - start)
    if version >= FIRST_WITH_CHECKSUM or CHECKSUM in header:
        _check_sum(path, content, start, header.get(CHECKSUM))
    _check_dtypes(path, table)
    return header, content


def _check_sum(path: Path, content: bytes, start: int, checksum: Any) -> None:
    """Compare the checksum in the header, the first `start` bytes, with that of all bytes."""
    stated = checksum.encode() if isinstance(checksum, str) and DIGEST.fullmatch(checksum) else b""
    place = content.find(stated, 0, start) if stated else -1
    if place >= 0:
        end = place + len(stated)
        actual = hashlib.sha256(content[:place])
        actual.update(PLACEHOLDER.encode())
        actual.update(memoryview(content)[end:])
        if actual.hexdigest().encode() == stated:
            return
    problem = "does not have the sha256 that its header states" if stated else "has no checksum"
    raise DataError(
        f"{shortened(path, 100)} {problem}: it was damaged or changed; copy it again from where it "
        "was saved, or save the model again."
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"it holds {shortened(text, 20)}")
    return number


def _parts(text: str | bytes | bytearray) -> int:
    """Count what may open a list or a table, so that no short text takes much memory."""
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _is_unicode(text: str, value: Any) -> bool:
    r"""Ask whether all texts in a JSON value can be printed: no half of a pair such as \ud800."""
    if r"\ud" not in text.lower() and text.isascii():
        return True
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _json(path: Path, text: str | bytes) -> dict[str, Any]:
    if _parts(text) > MOST_PARTS:
        raise _no_model(path, f"its header has more than {MOST_PARTS} lists and tables")
    try:
        letters = text if isinstance(text, str) else text.decode()
        value = json.loads(letters, parse_constant=_refuse_constant, parse_float=_finite)
        printable = _is_unicode(letters, value)
    except (ValueError, RecursionError) as error:
        deep = isinstance(error, RecursionError)
        cause = "nested too deep" if deep else shortened(error, 80)
        raise _no_model(path, f"its header is no JSON ({cause})") from error
    if not isinstance(value, dict):
        raise _no_model(path, "its header is no JSON object")
    if not printable:
        raise _no_model(path, "its header holds a text that is no Unicode")
    return value


def _version(path: Path, version: Any) -> int:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _no_model(path, "its header tells no format version")
    if version > FORMAT_VERSION:
        number = min(version, 999999999)  # a damaged one may have any length
        raise DataError(
            f"{shortened(path, 100)} has format version {number}, written by a newer rcml-misa; "
            f"this one reads up to {FORMAT_VERSION}: update it, or save the model again with the "
            "older one."
        )
    return version


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
            f"{shortened(path, 100)} is {problem}: {size} bytes of tensors where its header tells "
            f"{shortened(expected, 30)}; copy it again from where it was saved."
        )


def _check_dtypes(path: Path, table: Mapping[str, Any]) -> None:
    """Refuse types that NumPy lacks, and those that no model has."""
    for entry in table.values():
        dtype = entry.get("dtype")
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise _no_model(path, f"it has a tensor of type {shortened(dtype, 30)}")


def _no_model(path: Path, cause: str) -> DataError:
    return DataError(f"{shortened(path, 100)} is not a whole model file of rcml-misa: {cause}.")
