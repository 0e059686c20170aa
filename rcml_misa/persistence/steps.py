"""Steps of a Pipeline before its estimator, to files and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from rcml_misa.exceptions import DataError, shortened
from rcml_misa.options import check_options
from rcml_misa.persistence.codec import Decoder, Encoder
from rcml_misa.reading.preparer import TablePreparer

__all__ = ["HERE", "encode_step", "parted", "read_steps", "refuse_last"]

HERE = "rcml_misa."  # start of the module names of classes that can be saved


def parted(model: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Part a Pipeline into the steps before the last, and the last; any other model has none.

    Examples
    --------
    >>> from rcml_misa import KernelExpertClassifier
    >>> parted(KernelExpertClassifier())
    ([], KernelExpertClassifier())
    """
    if not isinstance(model, Pipeline):
        return [], model
    *steps, (_, last) = model.steps
    return [(name, step) for name, step in steps if step not in (None, "passthrough")], last


def encode_step(encoder: Encoder, name: str, step: Any) -> list[Any]:
    """Encode a transformer before the estimator, or refuse what a file can't hold."""
    what, path, kind = f"step {shortened(name, 40)!r}", f"steps.{name}", type(step)
    if step is None or step == "passthrough":
        return [name, step]
    within = [part for _, part in step.steps] if isinstance(step, Pipeline) else []
    if any(type(part).__module__.startswith(HERE) for part in within):
        raise DataError(
            f"{what} is a {kind.__name__} with steps of this package, which a file holds only in "
            "the outer Pipeline; put its steps there, one by one."
        )
    if not _holdable(step):
        raise DataError(
            f"{what} is a {shortened(kind.__name__, 40)}, which a file can't hold: it holds "
            "TablePreparer and scikit-learn's own transformers; use these, or keep the Pipeline "
            "with joblib, whose files only their maker should open."
        )
    check_is_fitted(step)
    try:
        return [name, encoder.encode(step, path)]
    except DataError as error:
        raise DataError(f"{what}{str(error).removeprefix(path)}") from error


def _holdable(step: Any) -> bool:
    """Tell whether a step before the estimator is of a kind that files hold."""
    own = type(step) is TablePreparer
    theirs = isinstance(step, BaseEstimator) and type(step).__module__.startswith("sklearn.")
    return own or (theirs and hasattr(step, "transform"))


def refuse_last(model: Any, name: str) -> None:
    """Refuse a last step that is no estimator by itself."""
    if isinstance(model, Pipeline):
        raise DataError(
            f"step {shortened(name, 40)!r}, the last, is a {type(model).__name__}, which a file "
            "can't hold there; put its steps into the outer Pipeline, one by one."
        )
    if model is None or model == "passthrough":
        raise DataError(
            f"step {shortened(name, 40)!r}, the last, is {model!r}, which predicts nothing; put "
            "an estimator of this package there."
        )


def read_steps(
    header: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], model: Any
) -> list[tuple[str, Any]]:
    """Decode the transformers before the estimator, and put it behind them."""
    stored, last = header["steps"], header.get("last_step")
    if not isinstance(stored, list):
        raise DataError("its steps are no list")
    if not all(isinstance(step, list) and len(step) == 2 for step in stored):
        raise DataError("its steps are no pairs of a name and a transformer")
    names = [*(name for name, _ in stored), last]
    if not all(isinstance(name, str) and name and "__" not in name for name in names):
        raise DataError("its steps have names that are none")
    if len(set(names)) < len(names):
        raise DataError("its steps have a name twice")
    decoder, steps = Decoder(tensors), []
    for name, value in stored:
        step = decoder.decode(value)
        if step is not None and step != "passthrough":
            if not _holdable(step):
                raise DataError(f"its step {name[:40]!r} is no transformer that a file holds")
            step.get_params(deep=False)  # fails where one is lacking
            check_is_fitted(step)
        steps.append((name, step))
    transformers = [step for _, step in steps if step not in (None, "passthrough")]
    for step in transformers:
        if isinstance(step, TablePreparer):
            _check_preparer(step, model if step is transformers[-1] else None)
    return [*steps, (str(last), model)]


def _check_preparer(preparer: TablePreparer, model: Any) -> None:
    """Fill and prepare a row without any value, so that parts that do not fit show now."""
    import pandas as pd

    check_options(preparer)
    given = preparer.given_widths_
    if not {*preparer.columns_, *preparer.matched_, *preparer.view_names_} <= set(given):
        raise DataError("the views that a step prepares are not those that it was given")
    for name, columns in preparer.columns_.items():
        row = pd.DataFrame(index=[0], columns=list(columns.kinds.names), dtype=object)
        measured = len(columns.kinds.numbers) + len(columns.kinds.dates)
        fits = columns.medians.shape == (measured,) and np.isfinite(columns.medians).all()
        if not fits or columns.transform(row, name)[0].shape != (1, columns.width):
            raise DataError(f"its view {shortened(name, 40)!r} is not prepared as it should be")
    if model is not None:
        seen = dict(zip(model.view_names_, model.widths_, strict=True))
        learnt = {name: columns.width for name, columns in preparer.columns_.items()}
        learnt = {**given, **learnt}
        if preparer.view_names_ != model.view_names_ or any(
            learnt.get(name) != width for name, width in seen.items()
        ):
            raise DataError("the views that its steps prepare are not those of its estimator")
