"""What is kept of a fitted estimator: hashes of its weights and answers, and a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn

AMPLIFIED = 0.03  # difference, absolute or relative, of evidence and probabilities
SHOWN = 8  # numbers that are kept of a case


@contextmanager
def one_thread() -> Iterator[None]:
    """Work with one thread, as the order of additions depends on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def sha256(*parts: bytes) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little"))
        whole.update(part)
    return whole.hexdigest()


def array_bytes(values: Any) -> bytes:
    """Shape and float64 bytes of numbers; labels as text."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        return "\n".join(map(str, array.tolist())).encode()
    return f"{array.shape}".encode() + np.ascontiguousarray(array, dtype="<f8").tobytes()


def modules_of(estimator: Any) -> list[nn.Module]:
    """All networks that an estimator reaches through its own attributes, once each."""
    found: list[nn.Module] = []
    seen: set[int] = set()
    left = [estimator]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            found.append(one)
        elif isinstance(one, Mapping):
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
        elif type(one).__module__.split(".")[0] == "rcml_misa":
            names = [name for kind in type(one).__mro__ for name in getattr(kind, "__slots__", ())]
            left += [getattr(one, name, None) for name in names if name != "__weakref__"]
            left += getattr(one, "__dict__", {}).values()
    return found


def weights_sha256(estimator: Any) -> str | None:
    """Hash of all parameters and buffers without their names and order; None without networks."""
    tensors = {
        id(tensor): tensor
        for module in modules_of(estimator)
        for tensor in (*module.parameters(), *module.buffers())
    }
    if not tensors:
        return None
    single = sorted(
        sha256(f"{one.dtype}".encode(), array_bytes(one.detach().to(torch.float64).numpy()))
        for one in tensors.values()
    )
    return sha256(*(one.encode() for one in single))


def said(estimator: Any, rows: Any) -> dict[str, list[Any]]:
    """Answers and opinions about rows, by whichever methods the estimator has."""
    parts: dict[str, list[Any]] = {}
    if hasattr(estimator, "predict_proba"):
        parts["answers"] = [estimator.predict_proba(rows), estimator.predict(rows)]
    else:
        parts["answers"] = [estimator.predict(rows)]
    if hasattr(estimator, "predict_opinion"):
        opinion = estimator.predict_opinion(rows)
        if hasattr(opinion, "evidence"):
            parts["opinion"] = [opinion.evidence, opinion.uncertainty, opinion.conflict]
        else:
            parts["opinion"] = [opinion.score, opinion.scale, opinion.deviation]
    if hasattr(estimator, "predict_interval"):
        parts["interval"] = list(estimator.predict_interval(rows))
    for name in ("predict_uncertainty", "predict_conflict"):
        if hasattr(estimator, name):
            parts.setdefault("opinion", []).append(getattr(estimator, name)(rows))
    return parts


def imprint(estimator: Any, rows: Any) -> dict[str, Any]:
    """Hashes of weights, answers, opinions and intervals, and the first answers' numbers."""
    parts = said(estimator, rows)
    hashes = {name: sha256(*map(array_bytes, values)) for name, values in parts.items()}
    weights = weights_sha256(estimator)
    if weights is not None:
        hashes["weights"] = weights
    first = [values[0] for name, values in sorted(parts.items()) if name != "weights"]
    numbers = [float(one) for values in first for one in np.ravel(values)[:SHOWN]]
    value = {"sha256": dict(sorted(hashes.items())), "numbers": [round(one, 6) for one in numbers]}
    if type(estimator).__name__ == "RCMLMISAClassifier":
        # batch normalisation over few rows amplifies what another machine rounds otherwise
        value |= {"tolerance": AMPLIFIED, "relative": AMPLIFIED}
    return value
