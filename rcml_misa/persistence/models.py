"""Estimators to files and back."""

from __future__ import annotations

import inspect
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted
from torch import nn

from rcml_misa.estimators.base import EvidentialClassifier, MultiViewClassifier
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.options import check_options
from rcml_misa.persistence.codec import Decoder, Encoder, fitted_state
from rcml_misa.persistence.container import read_file, write_file
from rcml_misa.training import Device, pick_device, seeded

__all__ = ["check_savable", "load", "load_with_header", "save"]

LIBRARIES = ("rcml-misa", "numpy", "scipy", "scikit-learn", "torch")
MODULE = "module_."  # start of the names of a network's tensors
KEPT_APART = ("module_", "device_")


def save(
    model: MultiViewClassifier, path: str | Path, *, about: Mapping[str, Any] | None = None
) -> None:
    """Write a fitted classifier into one file.

    Parameters
    ----------
    model : MultiViewClassifier
        Fitted; a method of this package that is a network, kernel experts, or both.
    path : str or Path
        Any name; ``.rcml`` is usual. A file that is there is replaced.
    about : mapping, optional
        More facts for the header: texts, numbers, lists and dicts of such.

    Raises
    ------
    DataError
        If the file can't be written, or the model holds what such a file can't.
    NotFittedError
        If the model is not fitted.
    """
    check_is_fitted(model)
    name = type(model).__name__
    check_savable(type(model))
    encoder = Encoder()
    parameters = model.get_params(deep=False)
    attributes = fitted_state(model, leave=(*parameters, *KEPT_APART))
    header = {
        "estimator": name,
        "params": {key: encoder.encode(value, key) for key, value in parameters.items()},
        "attributes": {key: encoder.encode(value, key) for key, value in attributes.items()},
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in LIBRARIES},
        },
        "about": dict(about or {}),
    }
    tensors = dict(encoder.tensors)
    if hasattr(model, "module_"):
        state = model.module_.state_dict()
        tensors |= {MODULE + key: value.cpu().numpy() for key, value in state.items()}
    write_file(Path(path), header, tensors)


def check_savable(kind: type[Any], *, name: str | None = None) -> None:
    """Refuse a class whose models can't be saved.

    Parameters
    ----------
    kind : type
    name : str, optional
        What the user calls it; the class's name by default.

    Raises
    ------
    DataError
    """
    known = _classes()
    if known.get(kind.__name__) is not kind:
        raise DataError(
            f"{name or kind.__name__} can't be saved: a model file holds "
            f"{', '.join(sorted(known))}; keep others with joblib, whose files only their "
            "maker should open."
        )


def load(path: str | Path, *, device: Device | None = None) -> Any:
    """Read a classifier that `save` wrote; it predicts what it predicted then, bit for bit.

    Parameters
    ----------
    path : str or Path
    device : {"auto", "cpu", "cuda"}, optional
        Where it is to run; by default where its parameter says.

    Returns
    -------
    MultiViewClassifier

    Raises
    ------
    DataError
        If the file is missing, damaged, of a newer format version, or its tensors and its header
        do not fit.
    OptionError
        If the device is not there.

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
) -> tuple[EvidentialClassifier, dict[str, Any]]:
    """Read a classifier and the header of its file; see `load`."""
    header, tensors = read_file(Path(path))
    try:
        model = _rebuilt(header, tensors, device)
        _try_out(model)
    except OptionError:
        raise
    except DataError as error:
        raise DataError(f"{path} is not a usable model file: {str(error).rstrip('.')}.") from error
    except Exception as error:  # whatever a hostile or damaged header leads to
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path} is not a usable model file: its tensors do not fit its header ({cause})."
        ) from error
    return model, header


def _classes() -> dict[str, type[Any]]:
    """Exported classifiers by name: those that give opinions, whose state is arrays."""
    from rcml_misa import estimators

    kinds = {name: getattr(estimators, name) for name in estimators.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind) and issubclass(kind, EvidentialClassifier) and hasattr(kind, "fit")
    }


def _rebuilt(
    header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], device: Device | None
) -> EvidentialClassifier:
    name = header.get("estimator")
    kind = _classes().get(name) if isinstance(name, str) else None
    if kind is None:
        raise DataError(f"its header names no classifier of this package but {name!r}")
    parts = [header.get("params"), header.get("attributes")]
    if not all(isinstance(part, dict) for part in parts):
        raise DataError("its header lacks parameters or attributes")
    decoder = Decoder({k: v for k, v in tensors.items() if not k.startswith(MODULE)})
    parameters = decoder.state(kind, parts[0] or {})
    if unknown := set(parameters) - set(inspect.signature(kind).parameters):
        raise DataError(f"its header has parameters that {name} lacks ({', '.join(unknown)})")
    model: EvidentialClassifier = kind(**parameters)
    check_options(model)
    for key, value in decoder.state(kind, parts[1] or {}).items():
        setattr(model, key, value)
    _check_facts(model, sum(one.size for one in tensors.values()))
    if hasattr(model, "device"):
        model.device_ = pick_device(model.device if device is None else device)
    if hasattr(model, "_build"):
        state = {k[len(MODULE) :]: v for k, v in tensors.items() if k.startswith(MODULE)}
        model.module_ = _network(model, state).to(model.device_).eval()
    return model


def _check_facts(model: Any, size: int) -> None:
    """Check what every classifier has; nothing may ask for more memory than the file holds."""
    classes, names, widths = model.classes_, model.view_names_, model.widths_
    if not isinstance(classes, np.ndarray) or classes.ndim != 1 or len(set(classes.tolist())) < 2:
        raise DataError("its classes are no list of two or more labels")
    texts = isinstance(names, tuple) and all(isinstance(name, str) for name in names)
    if not texts or not names or len(set(names)) != len(names):
        raise DataError("its views have no names of their own")
    whole = isinstance(widths, tuple) and all(
        isinstance(width, int) and not isinstance(width, bool) and width > 0 for width in widths
    )
    if not whole or len(widths) != len(names) or sum(widths) > size:
        raise DataError("the widths of its views do not fit its tensors")
    if getattr(model, "layers", 0) > size:
        raise DataError("the layers of its network do not fit its tensors")


def _network(model: Any, state: Mapping[str, NDArray[Any]]) -> nn.Module:
    """Build the network of a header, once its sizes are known to be those of the tensors."""
    with torch.device("meta"):  # takes no memory whatever the header says
        shapes = {key: value.shape for key, value in model._build().state_dict().items()}
    found = {key: value.shape for key, value in state.items()}
    if {key: tuple(shape) for key, shape in shapes.items()} != found:
        wrong = sorted(
            key for key in {*shapes, *found} if tuple(shapes.get(key, ())) != found.get(key)
        )
        raise DataError(f"its network's tensors do not fit its header ({', '.join(wrong[:3])})")
    with seeded(0):  # what is drawn here is overwritten
        module: nn.Module = model._build()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return module


def _try_out(model: EvidentialClassifier) -> None:
    """Predict one row, so that what does not fit together shows now."""
    row = {name: np.zeros((1, w)) for name, w in zip(model.view_names_, model.widths_, strict=True)}
    views, model.views = model.views, None
    try:
        opinion = model.predict_opinion(row)
    finally:
        model.views = views
    shape = (1, len(model.classes_))
    for evidence in (opinion.evidence, opinion.probability, *opinion.views.values()):
        if evidence.shape != shape or not np.isfinite(evidence).all():
            raise DataError("its tensors do not give opinions about its classes")
