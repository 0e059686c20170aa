"""Scikit-learn's transformers as bytes, in the format of skops, which executes nothing."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, shortened

__all__ = ["read_transformer", "write_transformer"]

TRUSTED = ("numpy.dtype",)  # beside what skops itself trusts: scikit-learn's, NumPy's and SciPy's
SCHEMA = "schema.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # time of every member, so that equal content has equal bytes
LARGEST = 256 * 2**20  # bytes


def write_transformer(transformer: Any, path: str) -> NDArray[np.uint8]:
    """Write a transformer as bytes, (n,); a `DataError` where it holds what skops does not trust.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer, StandardScaler
    >>> scaler = StandardScaler().fit([[0.0], [2.0]])
    >>> read_transformer(write_transformer(scaler, "x")).mean_.tolist()
    [1.0]
    >>> write_transformer(FunctionTransformer(print), "the step 'f'")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: the step 'f', a FunctionTransformer, can't be saved: it ...
    """
    from skops.io import dumps, get_untrusted_types

    kind = type(transformer).__name__
    try:
        content = dumps(transformer)
        foreign = sorted(set(get_untrusted_types(data=content)) - set(TRUSTED))
    except Exception as error:  # what can't be written fails in many ways
        cause = shortened(error, 120) or type(error).__name__
        raise DataError(f"{path}, a {kind}, can't be saved ({cause}); leave it out.") from error
    if foreign:
        raise DataError(
            f"{path}, a {kind}, can't be saved: it holds {shortened(', '.join(foreign), 80)}, "
            "which may execute code; use scikit-learn's transformers, or keep it with joblib."
        )
    return np.frombuffer(_settled(content), dtype=np.uint8)


def read_transformer(content: NDArray[np.uint8]) -> Any:
    """Read what `write_transformer` wrote; a `DataError` for anything else."""
    from skops.io import loads

    try:
        data = content.tobytes()
        with zipfile.ZipFile(io.BytesIO(data)) as members:
            size = sum(member.file_size for member in members.infolist())
        if size > LARGEST:
            raise DataError(f"its transformers unpack to {size} bytes, above {LARGEST}")
        return loads(data, trusted=list(TRUSTED))
    except DataError:
        raise
    except Exception as error:  # damaged or hostile bytes fail in many ways
        cause = shortened(error, 120) or type(error).__name__
        raise DataError(f"its transformers can't be read ({cause})") from error


def _settled(content: bytes) -> bytes:
    """Number the members of a file of skops in place of addresses and times of this process."""
    numbers: dict[str, int] = {}

    def renumbered(node: Any) -> Any:
        if isinstance(node, list):
            return [renumbered(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {key: renumbered(value) for key, value in node.items()}
        if isinstance(node.get("__id__"), int):
            node["__id__"] = numbers.setdefault(str(node["__id__"]), len(numbers))
        if isinstance(node.get("file"), str):
            node["file"] = _renamed(node["file"], numbers)
        return node

    with zipfile.ZipFile(io.BytesIO(content)) as members:
        schema = renumbered(json.loads(members.read(SCHEMA)))
        files = {name: members.read(name) for name in members.namelist() if name != SCHEMA}
    files = {_renamed(name, numbers): value for name, value in files.items()}
    files[SCHEMA] = json.dumps(schema).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        for name in sorted(files):
            written.writestr(zipfile.ZipInfo(name, EPOCH), files[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _renamed(name: str, numbers: dict[str, int]) -> str:
    """Name a member by the number of the address that it is called after."""
    stem, dot, end = name.partition(".")
    return f"{numbers.setdefault(stem, len(numbers))}{dot}{end}" if stem.isdigit() else name
