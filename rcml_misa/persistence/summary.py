"""What a model file holds, in facts for people and machines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rcml_misa.estimators.base import EvidentialClassifier
from rcml_misa.persistence.container import FORMAT_VERSION

__all__ = ["describe", "landmark_rows"]


def landmark_rows(model: EvidentialClassifier) -> int:
    """Count the train rows that kernel experts keep; 0 without experts.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from rcml_misa import KernelExpertClassifier
    >>> landmark_rows(KernelExpertClassifier(landmarks=40).fit(*load_iris(return_X_y=True)))
    40
    """
    experts = getattr(model, "experts_", None)
    if experts is None:
        return 0
    return max(len(one.landmark_values_) for one in (*experts.views_, experts.joint_))


def describe(
    model: EvidentialClassifier, header: Mapping[str, Any], path: str | Path
) -> dict[str, Any]:
    """Gather the facts about a model file, ready for JSON.

    Parameters
    ----------
    model, header
        As `load_with_header` gives them.
    path : str or Path
        The file.

    Returns
    -------
    dict
        ``method``, ``options``, ``views``, ``classes``, ``train_rows``, ``data_sha256``,
        ``landmark_rows``, ``network_parameters``, ``versions``, ``about``, ``file``, ``bytes`` and
        ``format_version``.
    """
    module = getattr(model, "module_", None)
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "format_version": FORMAT_VERSION,
        "method": type(model).__name__,
        "options": {
            name: value if isinstance(value, str | int | float | None) else repr(value)
            for name, value in model.get_params(deep=False).items()
        },
        "views": dict(zip(model.view_names_, model.widths_, strict=True)),
        "classes": model.classes_.tolist(),
        "train_rows": getattr(model, "train_rows_", None),
        "data_sha256": getattr(model, "data_sha256_", None),
        "landmark_rows": landmark_rows(model),
        "network_parameters": (
            0 if module is None else sum(one.numel() for one in module.parameters())
        ),
        "versions": header.get("versions"),
        "about": header.get("about"),
    }
