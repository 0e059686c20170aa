"""A fingerprint of views and target, so that a model can tell what it was fitted on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.views.arrays import ViewArray
from rcml_misa.views.multiview import MultiView

__all__ = ["data_sha256"]

BLOCK = 8192  # rows copied at once


def data_sha256(views: MultiView, labels: NDArray[Any]) -> str:
    """Sha256 of names, shapes and values of all views, and of the labels.

    Parameters
    ----------
    views : MultiView
    labels : ndarray of shape (n_samples,)

    Returns
    -------
    str
        64 hexadecimal digits; a sparse view has another one than the same values in a dense one.

    Examples
    --------
    >>> len(data_sha256(MultiView({"a": [[1.0], [2.0]]}), np.array(["x", "y"])))
    64
    """
    digest = hashlib.sha256()
    for name, array in views.items():
        digest.update(f"{name} {array.shape};".encode())
        for part in _parts(array):
            digest.update(np.ascontiguousarray(part).data)
    digest.update("\n".join(map(str, labels.tolist())).encode())
    return digest.hexdigest()


def _parts(array: ViewArray) -> list[NDArray[Any]]:
    if isinstance(array, np.ndarray):
        return [array[start : start + BLOCK] for start in range(0, len(array), BLOCK)]
    # the numbers of columns are of either width
    return [array.indptr.astype(np.int64), array.indices.astype(np.int64), array.data]
