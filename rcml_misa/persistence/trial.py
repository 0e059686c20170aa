"""Trials of a model that was read: sizes before it is built, answers once it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier

from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView

__all__ = ["answer_zeros", "check_layers", "check_views", "try_out"]

FEW_LAYERS = 64  # built in no time
TRIAL_ROWS = 4  # the first of them of zeros
ROUNDING = 1e-3  # of probabilities in single precision


def check_layers(model: Any, count: int) -> None:
    """Compare the layers of networks with a file's tensors of modules, at least one per layer."""
    hidden = getattr(model, "hidden", ())
    layers = (getattr(model, "layers", 1), getattr(model, "encoder_depth", 1))
    deepest = max(*layers, len(hidden) if isinstance(hidden, tuple) else 1)
    if deepest * getattr(model, "networks_", 1) > max(count, FEW_LAYERS):
        raise DataError("the layers of its networks do not fit its tensors")


def check_views(model: Any, size: int) -> None:
    """Check that the facts about views and classes fit each other and `size`, the file's numbers.

    Nothing may ask for more memory than the file holds.
    """
    names, widths, kinds = model.view_names_, model.widths_, model.kinds_
    classes = model.classes_ if is_classifier(model) else np.arange(2)
    if classes.ndim != 1 or len(set(classes.tolist())) < max(2, len(classes)):
        raise DataError("its classes are no list of two or more labels")
    if not names or len(set(names)) != len(names):
        raise DataError("its views have no names of their own")
    if len(widths) != len(names) or sum(widths) > size:
        raise DataError("the widths of its views do not fit its tensors")
    if len(kinds) != len(names):
        raise DataError("the kinds of its views are not as many as its views")
    columns = (None,) * len(names) if model.view_columns_ is None else model.view_columns_
    if len(columns) != len(names):
        raise DataError("the names of its columns are not those of its views")
    for labels, width in zip(columns, widths, strict=True):
        if labels is not None and len(labels) != width:
            raise DataError("the names of a view's columns do not fit its width")
    if not set(model.set_aside_) < set(names):
        raise DataError("the views that it sets aside are not some of its views")


def try_out(model: Any) -> None:
    """Predict a few rows, so that parts that do not fit together show now.

    The answer about zeros has to be finite; others may not be, as `predict` says of a row, but
    what is finite has to be in its range.
    """
    _check_answers(model, answer_zeros(model), rows=1, finite=True)
    _check_answers(model, _answers(model, TRIAL_ROWS), rows=TRIAL_ROWS, finite=False)


def _check_answers(model: Any, answers: Any, *, rows: int, finite: bool) -> None:
    classes = len(model.classes_) if is_classifier(model) else 0
    table = (rows, classes) if classes else (rows,)
    ranges: list[tuple[NDArray[Any], tuple[int, ...], float, float]] = []
    if classes and hasattr(answers, "evidence"):
        ranges = [(part, table, 0, np.inf) for part in (answers.evidence, *answers.views.values())]
        ranges += [(answers.probability, table, 0, 1)]
        ranges += [(part, (rows,), 0, 1) for part in (answers.uncertainty, answers.conflict)]
    elif hasattr(answers, "score"):
        ranges = [(answers.score, table, -np.inf, np.inf), (answers.scale, table, 0, np.inf)]
    else:
        ranges = [(answers, table, 0 if classes else -np.inf, 1 if classes else np.inf)]
    if getattr(answers, "view_gains", None) is not None:
        _ = answers.suspicion.suspect
    for values, shape, low, high in ranges:
        known = values[np.isfinite(values)]
        inside = (known >= low - ROUNDING).all() and (known <= high + ROUNDING).all()
        if values.shape != shape or not inside or (finite and known.size < values.size):
            raise DataError("its tensors do not give predictions of its target")


def answer_zeros(model: Any) -> Any:
    """Opinion about one row of zeros, or probabilities, or a score, as the method states them."""
    return _answers(model, 1)


def _answers(model: Any, rows: int) -> Any:
    """Answers about rows: the first of zeros and empty texts, others of normal numbers."""
    rng = np.random.default_rng(0)
    views: dict[str, Any] = {}
    for name, kind, width in zip(model.view_names_, model.kinds_, model.widths_, strict=True):
        shape = (rows, 1, width) if kind == "sequence" else (rows, width)
        if kind == "text":
            views[name] = ["", *("a b",) * (rows - 1)]
        else:
            views[name] = rng.normal(size=shape)
            views[name][0] = 0
    given, model.views = model.views, None
    try:
        if hasattr(model, "predict_opinion"):
            return model.predict_opinion(MultiView(views))
        multi_view = MultiView(views)
        return (
            model.predict_proba(multi_view) if is_classifier(model) else model.predict(multi_view)
        )
    finally:
        model.views = given
