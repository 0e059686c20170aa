"""Scikit-learn's transformers as bytes, in the format of skops, which executes nothing."""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError, shortened

__all__ = ["read_transformer", "write_transformer"]

_SCORES = "sklearn.feature_selection._univariate_selection."
# beside what skops itself trusts: scikit-learn's estimators, and plain types and functions of
# NumPy and SciPy
TRUSTED = (
    "numpy.dtype",
    "sklearn.compose._column_transformer.make_column_selector",
    *(_SCORES + name for name in ("chi2", "f_classif", "f_regression", "r_regression")),
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
)
# nodes that build plain values and estimators by their attributes, and call nothing; no sparse
# matrices and trees, whose indices are read without a check of their bounds
LOADERS = frozenset(
    f"{kind}Node"
    for kind in (
        *("DType", "DefaultDict", "Dict", "Function", "Json", "List", "NdArray", "Object"),
        *("RandomState", "Set", "Slice", "Tuple", "Type"),
    )
)
SCHEMA = "schema.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # time of every member, so that equal content has equal bytes
LARGEST = 256 * 2**20  # bytes, unpacked
LARGEST_SCHEMA = 32 * 2**20  # bytes, unpacked
NOTHING: Mapping[str, Any] = {
    **{"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode"},
    **{"content": "null", "is_json": True},
}


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

    kind = shortened(type(transformer).__name__, 30)
    try:
        content = _settled(dumps(transformer))
        foreign = sorted(set(get_untrusted_types(data=content)) - set(TRUSTED))
        if not foreign:
            _check(content)
    except Exception as error:  # what can't be written fails in many ways
        cause = shortened(error, 80).rstrip(".") or type(error).__name__
        raise DataError(
            f"{path}, a {kind}, can't be saved ({cause}); use another transformer, or keep the "
            "model with joblib, whose files only their maker should open."
        ) from error
    if foreign:
        raise DataError(
            f"{path}, a {kind}, can't be saved: it holds {shortened(', '.join(foreign), 70)}, "
            "which no file holds safely; use transformers without it, or keep the model with "
            "joblib, whose files only their maker should open."
        )
    return np.frombuffer(content, dtype=np.uint8)


def read_transformer(content: NDArray[np.uint8]) -> Any:
    """Read what `write_transformer` wrote; a `DataError` for anything else."""
    from skops.io import loads

    try:
        data = content.tobytes()
        _check(data)
        return loads(data, trusted=list(TRUSTED))
    except Exception as error:  # damaged or hostile bytes fail in many ways
        cause = shortened(error, 120).rstrip(".") or type(error).__name__
        raise DataError(f"its transformers can't be read ({cause})") from error


def _check(content: bytes) -> None:
    """Refuse members and values that take more memory than they should, or call something."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        sizes = {member.filename: member.file_size for member in members.infolist()}
        if len(sizes) < len(members.infolist()) or sum(sizes.values()) > LARGEST:
            raise DataError(f"it unpacks to more than {LARGEST} bytes, or holds a member twice")
        if sizes.get(SCHEMA, 0) > LARGEST_SCHEMA:
            raise DataError(f"its names and levels take more than {LARGEST_SCHEMA} bytes")
        total = 0
        for node in _nodes(json.loads(members.read(SCHEMA))):
            loader, name = node["__loader__"], node.get("file")
            if not isinstance(loader, str) or loader not in LOADERS:
                raise DataError(f"it asks for a {shortened(loader, 40)}")
            if loader == "JsonNode" and str(node.get("content")).lstrip()[:1] in ("[", "{"):
                raise DataError("a plain value is none")
            if loader == "ObjectNode" and _memory(node) not in (None, NOTHING):
                raise DataError("it names a folder of results")
            if isinstance(name, str):
                with members.open(name) as stream:
                    _check_array(stream, sizes[name])
                total += sizes[name]  # the same member may be asked for any number of times
            if total > LARGEST:
                raise DataError(f"it unpacks to more than {LARGEST} bytes")


def _check_array(stream: Any, size: int) -> None:
    """Compare the size that a npy header states with that of its member."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    shape, _, dtype = readers[np.lib.format.read_magic(stream)](stream)
    count = math.prod(shape)
    if stream.tell() + count * dtype.itemsize != size or (count and not dtype.itemsize):
        raise DataError("an array is of another size than it says")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the nodes of a schema, at any depth."""
    stack = [value]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if "__loader__" in value:
                yield value
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)


def _memory(node: Mapping[str, Any]) -> Any:
    """Node of an object's parameter `memory`, a folder whose files scikit-learn unpickles."""
    attributes = node.get("content")
    values = attributes.get("content") if isinstance(attributes, dict) else None
    return values.get("memory") if isinstance(values, dict) else None


def _settled(content: bytes) -> bytes:
    """Name the members by their content, without addresses, times and folders of this process."""
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        schema = json.loads(members.read(SCHEMA))
        files = {name: members.read(name) for name in members.namelist() if name != SCHEMA}
    names = {
        name: f"{hashlib.sha256(value).hexdigest()[:32]}{name[name.rfind('.') :]}"
        for name, value in files.items()
    }
    for node in _nodes(schema):
        node.pop("__id__", None)
        if isinstance(node.get("file"), str):
            node["file"] = names[node["file"]]
        if node["__loader__"] == "ObjectNode" and _memory(node) is not None:
            node["content"]["content"]["memory"] = dict(NOTHING)
    for node in _nodes(schema):
        if node["__loader__"] == "SetNode":  # whose order is another in each process
            node["content"].sort(key=json.dumps)
    contents = {names[name]: value for name, value in files.items()}
    contents[SCHEMA] = json.dumps(schema, separators=(",", ":")).encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as written:
        for name in sorted(contents):
            written.writestr(zipfile.ZipInfo(name, EPOCH), contents[name], zipfile.ZIP_DEFLATED)
    return stream.getvalue()
