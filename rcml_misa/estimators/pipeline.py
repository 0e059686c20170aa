"""Pipelines whose last step is a multi-view estimator, with all that it states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from sklearn.pipeline import Pipeline
from sklearn.utils.metaestimators import available_if

from rcml_misa.persistence import save

__all__ = ["ViewPipeline"]


def _last_has(name: str) -> Callable[[Any], bool]:
    def check(pipeline: Any) -> bool:
        getattr(pipeline._final_estimator, name)  # its own error says what it lacks
        return True

    return check


def _asks_last(name: str, summary: str) -> Any:
    """Make a method that transforms X and asks the last step."""

    def method(self: Any, X: Any, *args: Any, **options: Any) -> Any:
        if len(self.steps) > 1:
            X = self[:-1].transform(X)
        return getattr(self[-1], name)(X, *args, **options)

    method.__name__, method.__qualname__ = name, f"ViewPipeline.{name}"
    method.__doc__ = f"{summary}; see the last step's own."
    return available_if(_last_has(name))(method)


class ViewPipeline(Pipeline):  # type: ignore[misc]
    """Scikit-learn's ``Pipeline`` that also gives the opinions of its last step.

    Parameters
    ----------
    steps : list of (str, estimator)
        Transformers, such as `TablePreparer`, and a multi-view estimator at the end; the other
        parameters are those of scikit-learn's ``Pipeline``, and so are all other methods. Of that
        one, ``pipeline[-1].predict_opinion(pipeline[:-1].transform(X))`` does the same.

    Examples
    --------
    >>> import pandas as pd
    >>> from rcml_misa import KernelExpertClassifier, TablePreparer
    >>> columns = {"a__x": [0.0, 0.1, None, 1.1], "b__sex": ["f", "f", "m", "m"]}
    >>> table = pd.concat([pd.DataFrame(columns)] * 5, ignore_index=True)
    >>> steps = [("prepare", TablePreparer(views="__")), ("model", KernelExpertClassifier())]
    >>> model = ViewPipeline(steps).fit(table, ["no", "no", "yes", "yes"] * 5)
    >>> list(model.predict_opinion(table[:2]).views), model.predict(table[:2]).tolist()
    (['a', 'b'], ['no', 'no'])
    """

    predict_opinion = _asks_last("predict_opinion", "State an opinion about each row")
    predict_interval = _asks_last("predict_interval", "Bound each row's score")
    predict_uncertainty = _asks_last("predict_uncertainty", "State each row's uncertainty")
    predict_mutual_information = _asks_last(
        "predict_mutual_information", "State each row's epistemic uncertainty"
    )
    predict_conflict = _asks_last("predict_conflict", "State each row's degree of conflict")
    predict_reliability = _asks_last("predict_reliability", "State each view's reliability")
    extract_features = _asks_last("extract_features", "Compute private and shared features")

    def save(self, path: str | Path) -> None:
        """Write the fitted steps into one file, which `rcml_misa.load` reads.

        The last step is kept as its own `save` would; a `TablePreparer` beside it, and
        scikit-learn's own transformers in skops' format. Nothing in the file can be executed, so
        that functions and classes of your own are refused, and so are transformers that hold
        trees. `memory`, `verbose` and `transform_input` play a part in `fit` only and are not kept.

        Raises
        ------
        DataError
            If the file can't be written, or a step can't be held by such a file.
        NotFittedError
            If a step is not fitted.
        """
        save(self, path)
