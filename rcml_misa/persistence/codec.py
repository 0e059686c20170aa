"""Fitted state to JSON and tensors and back: an allow-list of classes, and plain values."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from torch import Tensor

from rcml_misa.calibration import Calibrator, ScaleCalibrator
from rcml_misa.exceptions import DataError, shortened
from rcml_misa.experts.components import WhiteColumns
from rcml_misa.experts.expert import KernelExpert
from rcml_misa.experts.gaussians import RowGaussians, ViewGaussians
from rcml_misa.experts.laplace import LastLayerLaplace
from rcml_misa.experts.mapped_views import Columns
from rcml_misa.experts.membership import Distances, Membership
from rcml_misa.experts.ridge_experts import Lift, RidgeExperts, RidgeMember
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.persistence.facts import check_state
from rcml_misa.persistence.transformers import read_transformer, write_transformer
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.reading.inputs import (
    InputOptions,
    PretrainedReader,
    SequenceReader,
    TableReader,
    ViewReaders,
    WordReader,
)
from rcml_misa.reading.preparer import TablePreparer
from rcml_misa.reading.raw_columns import RawColumns
from rcml_misa.views import ViewMeans
from rcml_misa.views.column_kinds import ColumnKinds

__all__ = ["Decoder", "Encoder", "fitted_state"]

CLASSES: Mapping[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(Calibrator, ColumnMap, Columns, Distances, FeatureMap, InputOptions, KernelExpert),
        *(LastLayerLaplace, Lift, Membership, RidgeExperts, RidgeMember, ViewGaussians),
        *(RowGaussians, WhiteColumns),
        *(PretrainedReader, ScaleCalibrator, SequenceReader, TableReader, ViewExperts, ViewMeans),
        *(ColumnKinds, RawColumns, TablePreparer, ViewReaders, WordReader),
    )
}
# leave-one-out results of train rows: of no use for new rows
UNSAVED = frozenset({"looked_", "loo_scores_", "train_logits_", "train_standing_"})
FITTED = re.compile(r"[a-z][a-z0-9_]{0,62}_\Z")
DEEPEST = 24
LONG = 8  # floats; a longer list becomes a tensor


def fitted_state(source: Any, *, leave: Iterable[str] = ()) -> dict[str, Any]:
    """Collect the attributes that predictions need: all but `leave` and private ones."""
    if is_dataclass(source) and not isinstance(source, BaseEstimator):
        return {name: getattr(source, name) for name in _init_fields(source)}
    gone = UNSAVED | set(leave)
    return {
        name: value
        for name, value in vars(source).items()
        if name not in gone and not name.startswith("_")
    }


def _init_fields(kind: Any) -> list[str]:
    return [member.name for member in fields(kind) if member.init]


class Encoder:
    """Turn values into JSON, with their arrays set aside in `tensors`, each of them once.

    Examples
    --------
    >>> encoder = Encoder()
    >>> encoder.encode((1, np.zeros(2)), "x")
    {'tuple': [1, {'tensor': 'x.1', 'dtype': 'float64', 'shape': [2]}]}
    """

    def __init__(self) -> None:
        self.tensors: dict[str, NDArray[Any]] = {}
        self._seen: dict[int, dict[str, Any]] = {}
        self._alive: list[Any] = []  # so that no id is used again meanwhile

    def encode(self, value: Any, path: str) -> Any:
        """Encode one value, or raise `DataError`; `path` names the tensors in it."""
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else {"float": str(value)}
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if isinstance(value, Tensor):
            return {"torch": self._array(value.detach().cpu().numpy(), path)}
        if isinstance(value, slice):
            return {"slice": [value.start, value.stop, value.step]}
        if isinstance(value, tuple):
            return {"tuple": [self.encode(v, f"{path}.{i}") for i, v in enumerate(value)]}
        if isinstance(value, list | range):
            if len(value) > LONG and all(isinstance(v, float) for v in value):
                return {"floats": self._array(np.array(value), path)}
            return [self.encode(v, f"{path}.{i}") for i, v in enumerate(value)]
        if isinstance(value, Mapping):
            pairs = [
                [self.encode(k, f"{path}.key"), self.encode(v, f"{path}.{i}")]
                for i, (k, v) in enumerate(value.items())
            ]
            return {"dict": pairs}
        if CLASSES.get(type(value).__name__) is type(value):
            state = fitted_state(value)
            return {
                "object": type(value).__name__,
                "state": {k: self.encode(v, f"{path}.{k}") for k, v in state.items()},
            }
        if isinstance(value, BaseEstimator) and type(value).__module__.startswith("sklearn."):
            return {"skops": self._array(write_transformer(value, path), path)}
        raise DataError(f"{path} is a {type(value).__name__}, which a model file can't hold.")

    def _array(self, array: NDArray[Any], path: str) -> dict[str, Any]:
        if array.dtype.kind in "UO":
            return {"labels": self._labels(array, path), "object": array.dtype.kind == "O"}
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise DataError(f"{path} is an array of {array.dtype}, which a model file can't hold.")
        if id(array) not in self._seen:
            turned = array.flags.f_contiguous and not array.flags.c_contiguous
            self.tensors[path] = np.ascontiguousarray(array.T if turned else array)
            reference = {"tensor": path, "dtype": array.dtype.name, "shape": list(array.shape)}
            self._alive.append(array)
            # products are rounded otherwise when the order in memory is another one
            self._seen[id(array)] = reference | ({"turned": True} if turned else {})
        return self._seen[id(array)]

    def _labels(self, array: NDArray[Any], path: str) -> list[Any]:
        labels = array.tolist()
        if array.ndim != 1 or not all(isinstance(v, bool | int | float | str) for v in labels):
            raise DataError(f"{path} holds labels that are no texts or numbers; use such labels.")
        return [self.encode(label, path) for label in labels]


class Decoder:
    """Turn JSON and tensors back into values; `DataError` for what no `Encoder` writes."""

    def __init__(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        self.tensors = tensors
        self._made: dict[str, NDArray[Any]] = {}
        self._copied: set[str] = set()

    def decode(self, value: Any, depth: int = 0) -> Any:
        """Decode one value."""
        if depth > DEEPEST:
            raise DataError("its header is nested too deep")
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, list):
            return [self.decode(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            raise DataError(f"its header holds a {type(value).__name__}")
        return self._tagged(value, depth)

    def _tagged(self, value: dict[str, Any], depth: int) -> Any:
        """Decode a value of a kind that JSON lacks, by its keys."""
        keys, content = set(value), next(iter(value.values()), None)
        if keys == {"object", "state"}:
            return self._object(value["object"], value["state"], depth)
        if keys == {"labels", "object"} and isinstance(value["labels"], list):
            labels = [self.decode(label, DEEPEST) for label in value["labels"]]
            return np.array(labels, dtype=object if value["object"] else None)
        if keys in ({"tensor", "dtype", "shape"}, {"tensor", "dtype", "shape", "turned"}):
            return self._tensor(value)
        if keys == {"tuple"} and isinstance(content, list):
            return tuple(self.decode(item, depth + 1) for item in content)
        if keys == {"floats"} and isinstance(content, dict):
            return self._once(content).tolist()
        if keys == {"skops"} and isinstance(content, dict):
            return read_transformer(self._once(content))
        if keys == {"torch"} and isinstance(content, dict):
            return torch.from_numpy(self._once(content).copy())
        if keys == {"float"} and content in ("inf", "-inf", "nan"):
            return float(content)
        if keys == {"slice"} and isinstance(content, list) and len(content) == 3:
            return slice(*(self.decode(item, DEEPEST) for item in content))
        if keys == {"dict"} and isinstance(content, list):
            return self._dict(content, depth)
        names = ", ".join(sorted(keys))[:64]
        raise DataError(f"its header holds an unknown kind of value ({names})")

    def _dict(self, pairs: list[Any], depth: int) -> dict[Any, Any]:
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise DataError("its header holds a table that is no list of pairs")
        items = [(self.decode(k, DEEPEST), self.decode(v, depth + 1)) for k, v in pairs]
        if any(isinstance(k, list | dict | np.ndarray) for k, _ in items):
            raise DataError("its header holds a table with keys that are none")
        return dict(items)

    def _once(self, reference: dict[str, Any]) -> NDArray[Any]:
        """Return a tensor of which a copy is made, as a header asks for once."""
        array, name = self._tensor(reference), reference["tensor"]
        if name in self._copied:
            raise DataError(f"its header asks for the tensor {name[:64]!r} twice")
        self._copied.add(name)
        return array

    def _tensor(self, reference: dict[str, Any]) -> NDArray[Any]:
        name, dtype, shape = (reference.get(key) for key in ("tensor", "dtype", "shape"))
        if not isinstance(name, str) or name not in self.tensors:
            raise DataError(
                f"its header asks for a tensor {shortened(name, 64)!r} that the file lacks"
            )
        if name not in self._made:
            array = self.tensors[name]
            array = array.T if reference.get("turned") is True else array
            if [*array.shape] != shape or array.dtype.name != dtype:
                raise DataError(
                    f"its tensor {shortened(name, 50)!r} is {array.dtype.name} of shape "
                    f"{[*array.shape]} where its header tells {shortened(dtype, 20)} of shape "
                    f"{shortened(shape, 40)}"
                )
            self._made[name] = array
        return self._made[name]

    def _object(self, name: Any, state: Any, depth: int) -> Any:
        kind = CLASSES.get(name) if isinstance(name, str) else None
        if kind is None or not isinstance(state, dict):
            raise DataError(
                f"its header asks for an object of unknown class {shortened(name, 64)!r}"
            )
        values = self.state(kind, state, depth + 1)
        if is_dataclass(kind) and not issubclass(kind, BaseEstimator):
            if set(values) != (needed := set(_init_fields(kind))):
                wrong = ", ".join(sorted(needed ^ set(values)))
                raise DataError(f"its {name} lacks or has too much: {shortened(wrong, 80)}")
            check_state(kind, values)
            return kind(**values)
        check_state(kind, values)
        instance: Any = object.__new__(kind)
        instance.__dict__.update(values)
        return instance

    def state(self, kind: type[Any], state: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
        """Decode the attributes of a class: its parameters and fitted names, nothing else."""
        parameters = inspect.signature(kind).parameters
        values = {}
        for name, value in state.items():
            if name not in parameters and not FITTED.match(name):
                raise DataError(f"its header has an attribute of the name {name[:64]!r}")
            values[name] = self.decode(value, depth)
        return values
