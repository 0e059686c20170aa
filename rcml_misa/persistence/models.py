"""Estimators to files and back, and the facts that a file holds."""

from __future__ import annotations

import inspect
import math
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
from torch import nn

from rcml_misa.exceptions import DataError, OptionError, shortened
from rcml_misa.options import check_options
from rcml_misa.persistence.codec import Decoder, Encoder, fitted_state
from rcml_misa.persistence.container import read_file, write_file
from rcml_misa.persistence.facts import check_facts, check_state
from rcml_misa.persistence.steps import HERE, encode_step, parted, read_steps, refuse_last
from rcml_misa.persistence.trial import answer_zeros, check_layers, check_views, try_out
from rcml_misa.reading.inputs import ViewReaders
from rcml_misa.training import Device, pick_device, seeded

__all__ = ["check_savable", "describe", "read_model", "save"]

LIBRARIES = ("rcml-misa", "numpy", "scipy", "scikit-learn", "torch")
MODULE = "module_."  # start of the names of a network's tensors
KEPT_APART = ("module_", "device_")


def save(model: Any, path: str | Path, *, about: Mapping[str, Any] | None = None) -> None:
    """Write a fitted estimator into one file.

    Parameters
    ----------
    model : estimator or Pipeline
        Fitted; a method of this package that is a network, kernel experts, or both, perhaps after
        transformers: `TablePreparer` or scikit-learn's own.
    path : str or Path
        Any name; ``.rcml`` is usual. An existing file is replaced.
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
    encoder, steps = Encoder(), None
    if isinstance(model, Pipeline):
        *transformers, (last_name, model) = model.steps
        refuse_last(model, last_name)
        steps = [encode_step(encoder, name, step) for name, step in transformers]
    check_savable(type(model))
    parameters = model.get_params(deep=False)
    attributes = fitted_state(model, leave=(*parameters, *KEPT_APART))
    header = {
        **({} if steps is None else {"steps": steps, "last_step": last_name}),
        "estimator": type(model).__name__,
        "params": {key: encoder.encode(value, key) for key, value in parameters.items()},
        "attributes": {key: encoder.encode(value, key) for key, value in attributes.items()},
        "versions": {
            "python": platform.python_version(),
            **{library: version(library) for library in LIBRARIES},
        },
        "needs": _needs(model),
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
        Savable where it is of this package and its ``_savable`` is true.
    name : str, optional
        The user's name for it; the class's name by default.

    Raises
    ------
    DataError
        If it is not savable.
    """
    if not (getattr(kind, "_savable", False) and kind.__module__.startswith(HERE)):
        raise DataError(
            f"{name or kind.__name__} can't be saved: a model file holds this package's networks "
            "and kernel experts; keep others with joblib, whose files only their maker should open."
        )


def read_model(
    path: str | Path,
    *,
    classes: Mapping[str, type[Any]],
    pipeline: type[Pipeline],
    device: Device | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Read an estimator and the header of its file; see `rcml_misa.load`.

    Parameters
    ----------
    path, device
        As for `rcml_misa.load`, as are the errors.
    classes : mapping of str to type
        Estimators that a file may hold, by name.
    pipeline : type
        Class of a Pipeline, where the file has steps before the estimator.
    """
    header, tensors = read_file(Path(path))
    try:
        check_facts(header)
        model = _rebuilt(header, tensors, classes, device)
        try_out(model)
        if "steps" in header:
            model = pipeline(read_steps(header, tensors, model))
    except OptionError:
        raise
    except DataError as error:
        raise _unusable(path, shortened(error, 180).rstrip(".")) from error
    except Exception as error:  # whatever a hostile or damaged header leads to
        cause = shortened(error, 100) or type(error).__name__
        raise _unusable(path, f"its tensors do not fit its header ({cause})") from error
    return model, header


def _unusable(path: str | Path, cause: str) -> DataError:
    """Say what is wrong with a file, and the way out, in 300 characters."""
    way_out = "" if "again" in cause else "; copy it again from where it was saved"
    text = f" is not a usable model file: {cause}{way_out}."
    return DataError(f"{shortened(path, 300 - len(text))}{text}")


def _rebuilt(
    header: Mapping[str, Any],
    tensors: Mapping[str, NDArray[Any]],
    classes: Mapping[str, type[Any]],
    device: Device | None,
) -> Any:
    name, stored = header["estimator"], header["attributes"]
    kind = classes.get(name)
    if kind is None or not getattr(kind, "_savable", False):
        raise DataError(f"its header names no estimator of this package but {name[:64]!r}")
    if missing := [key for key in getattr(kind, "_needed", ()) if key not in stored]:
        raise DataError(
            f"it has no {missing[0]}, since {_writer(header)} wrote it before {name} came to learn "
            "that: fit it again, or load it there"
        )
    if damaged := [key for key, tensor in tensors.items() if not _is_finite(tensor)]:
        raise DataError(f"its tensor {shortened(damaged[0], 60)!r} holds NaN or infinite numbers")
    decoder = Decoder({k: v for k, v in tensors.items() if not k.startswith(MODULE)})
    parameters = decoder.state(kind, header["params"])
    if unknown := sorted(set(parameters) - set(inspect.signature(kind).parameters)):
        raise DataError(f"{name} has no parameter {shortened(unknown[0], 60)!r}")
    model = kind(**parameters)
    check_options(model)
    attributes = decoder.state(kind, stored)
    if apart := [key for key in attributes if key.startswith(KEPT_APART)]:
        raise DataError(f"its header has an attribute of the name {apart[0][:64]!r}")
    check_state(kind, attributes)
    for key, value in attributes.items():
        setattr(model, key, value)
    check_views(model, sum(tensor.size for tensor in tensors.values()))
    check_layers(model, sum(key.startswith(MODULE) for key in tensors))
    if hasattr(model, "device"):
        model.device_ = pick_device(model.device if device is None else device)
    for key, value in vars(model).items():
        if isinstance(value, torch.Tensor | ViewReaders):
            with seeded(0):
                setattr(model, key, value.to(model.device_))
    if hasattr(model, "_build"):
        state = {k[len(MODULE) :]: v for k, v in tensors.items() if k.startswith(MODULE)}
        model.module_ = _network(model, state, header).to(model.device_).eval()
    return model


def _is_finite(tensor: NDArray[Any]) -> bool:
    return tensor.dtype.kind != "f" or bool(np.isfinite(tensor).all())


def _network(model: Any, state: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> nn.Module:
    """Build the network of a header, once its sizes are those of the tensors."""
    with torch.device("meta"):  # takes no memory whatever the header says
        shapes = {key: tuple(value.shape) for key, value in model._build().state_dict().items()}
    stored = {key: value.shape for key, value in state.items()}
    if shapes != stored:
        wrong = sorted(key for key in {*shapes, *stored} if shapes.get(key) != stored.get(key))
        raise DataError(
            f"its network's tensors do not fit its header ({shortened(', '.join(wrong), 60)}), or "
            f"{_writer(header)} wrote it for another network: fit it again, or load it there"
        )
    with seeded(0):  # these draws are overwritten
        module: nn.Module = model._build()
    module.load_state_dict({key: torch.from_numpy(value) for key, value in state.items()})
    return module


def _writer(header: Mapping[str, Any]) -> str:
    """Name the version that wrote a file."""
    return f"rcml-misa {header.get('versions', {}).get(LIBRARIES[0], 'of unknown version')[:20]}"


def _needs(model: Any) -> dict[str, str]:
    """List the pretrained models that the file leaves out: name -> sha256 of their frozen part."""
    return model.readers_.needs if hasattr(model, "readers_") else {}


def describe(model: Any, header: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Gather the facts about a model file, ready for JSON.

    Of these, ``views`` has their columns, ``needs`` the pretrained models that have to be
    installed beside the file, ``sha256`` the checksum of header and tensors (None in files before
    format version 4), ``landmark_rows`` the train rows that kernel experts keep,
    ``network_share`` the share of ``networks`` in a pool with closed-form members; ``classes`` is
    None for a score. ``suspect_limits`` are the gains beyond which a view is suspected, and clearly
    so, and ``suspect_rows`` says what rows they were set on; both are None where the method names
    no suspects. ``view_worth`` is what each view tells of the class, in nats, where that was
    learnt; ``prepared`` has what is done to raw tables. `model` and `header` are what `read_model`
    returns.
    """
    steps, model = parted(model)
    module, experts = getattr(model, "module_", None), getattr(model, "experts_", None)
    kernels: Any = ()
    if experts is not None and hasattr(experts, "joint_"):
        kernels = (*experts.views_, experts.joint_)
    limits, rows = _suspects(model)
    worth = model.worth_.tolist() if getattr(model, "membership_", None) is not None else None
    return {
        "file": str(path),
        "bytes": Path(path).stat().st_size,
        "format_version": header["format_version"],
        "sha256": header.get("sha256"),
        "method": type(model).__name__,
        "options": {
            name: value if _is_plain(value) else repr(value)
            for name, value in model.get_params(deep=False).items()
        },
        "views": dict(zip(model.view_names_, model.widths_, strict=True)),
        "kinds": dict(zip(model.view_names_, model.kinds_, strict=True)),
        "needs": _needs(model),
        "set_aside": list(model.set_aside_),
        "steps": {name: type(step).__name__ for name, step in steps},
        "prepared": [text for _, step in steps for text in getattr(step, "describe", list)()],
        "view_worth": worth and dict(zip(model.view_names_, worth, strict=True)),
        "suspect_limits": limits,
        "suspect_rows": rows,
        "classes": model.classes_.tolist() if is_classifier(model) else None,
        "train_rows": getattr(model, "train_rows_", None),
        "data_sha256": getattr(model, "data_sha256_", None),
        "landmark_rows": max((len(kernel.landmark_values_) for kernel in kernels), default=0),
        "network_share": getattr(model, "share_", None),
        "networks": getattr(model, "networks_", None),
        "network_parameters": (
            0 if module is None else sum(part.numel() for part in module.parameters())
        ),
        "versions": header.get("versions"),
        "about": header.get("about"),
    }


def _is_plain(value: Any) -> bool:
    """Ask whether JSON has a value; it has no infinite numbers."""
    return isinstance(value, str | int | None) or (
        isinstance(value, float) and math.isfinite(value)
    )


def _suspects(model: Any) -> tuple[list[float] | None, str | None]:
    """Limits of suspects' gains, and the rows that they were set on; None without suspects."""
    opinion = answer_zeros(model) if hasattr(model, "predict_opinion") else None
    if len(model.view_names_) < 2 or getattr(opinion, "view_gains", None) is None:
        return None, None
    limits = [float(limit) for limit in opinion.limits]  # type: ignore[union-attr]
    if not hasattr(model, "suspect_limits_"):
        rows = "none, usual values"
    elif getattr(model, "experts_", None) is not None and not getattr(model, "share_", 0.0):
        rows = "leave-one-out, train rows"
    elif hasattr(model, "share_"):
        rows = "train rows kept from networks"
    elif model.calibration_fraction:
        rows = "train rows set apart"
    else:
        rows = "validation rows"
    return limits, rows
