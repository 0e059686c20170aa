"""Model files of this package's estimators, read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcml_misa.estimators.registry import exported_estimators
from rcml_misa.persistence import read_model
from rcml_misa.training import Device

__all__ = ["load", "load_with_header"]


def load(path: str | Path, *, device: Device | None = None) -> Any:
    """Read an estimator that `save` wrote; it predicts what it predicted then, bit for bit.

    Parameters
    ----------
    path : str or Path
    device : {"auto", "cpu", "cuda"}, optional
        Where it is to run; by default where its parameter says.

    Returns
    -------
    estimator

    Raises
    ------
    DataError
        If the file is missing, damaged, of a newer format version, or its tensors and its header
        do not fit.
    OptionError
        If the device is not available.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn.datasets import load_iris
    >>> from rcml_misa import KernelExpertClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KernelExpertClassifier(views=[2, 2]).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/iris.rcml")
    ...     again = load(f"{folder}/iris.rcml")
    >>> bool((again.predict_proba(X) == model.predict_proba(X)).all())
    True
    """
    return load_with_header(path, device=device)[0]


def load_with_header(
    path: str | Path, *, device: Device | None = None
) -> tuple[Any, dict[str, Any]]:
    """Read an estimator and the header of its file; see `load`."""
    return read_model(path, classes=exported_estimators(), device=device)
