"""Any scikit-learn classifier as a method, named by the path to it."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Mapping
from pkgutil import resolve_name
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import MultiViewClassifier
from rcml_misa.exceptions import OptionError, shortened
from rcml_misa.views import MultiView

__all__ = ["TableClassifier", "build_foreign", "importable", "load_object"]

Array = NDArray[np.float64]


def importable(folder: str) -> None:
    """Let modules of a folder be imported in this process, after all others; "" is none.

    It stands last on `sys.path`, so that no file in it takes the place of an installed module.
    """
    if folder and folder not in sys.path:
        sys.path.append(folder)
        importlib.invalidate_caches()


def load_object(path: str) -> Any:
    """Import the object that ``module:name`` names, or raise `OptionError`."""
    try:
        return resolve_name(path)
    except (ImportError, ValueError) as error:
        raise OptionError(
            f"the method {path!r} can't be imported ({shortened(error)}); write it as "
            "my.module:MyClassifier, the module being installed or in this folder."
        ) from error
    except AttributeError as error:
        raise OptionError(f"the method {path!r} does not exist: {shortened(error)}.") from error
    except (Exception, SystemExit) as error:  # the module is anybody's, and may fail in any way
        raise OptionError(
            f"the method {path!r} can't be imported ({type(error).__name__}: {shortened(error)}); "
            "see that its module can be imported by itself."
        ) from error


def build_foreign(path: str, params: Mapping[str, Any], seed: int | None) -> Any:
    """Make the classifier that ``module:name`` names, with nested parameters and a seed.

    The path leads to a class, to a function that returns an estimator, or to an estimator such as
    a Pipeline, of which a clone is taken. One that has a parameter ``views`` is given views, any
    other reads a table within a `TableClassifier`; `OptionError` says what is no classifier.

    Examples
    --------
    >>> build_foreign("sklearn.svm:SVC", {"C": 3.0}, 0)
    TableClassifier(estimator=SVC(C=3.0, random_state=0))
    """
    made = load_object(path)
    try:
        if not inspect.isclass(made) and hasattr(made, "get_params"):
            estimator = clone(made)
        elif inspect.isclass(made) and not (hasattr(made, "fit") and hasattr(made, "predict")):
            raise TypeError("it has no fit or no predict")
        elif callable(made) and not inspect.isbuiltin(made):
            estimator = made()
        else:
            raise TypeError("it is neither a class nor a function nor an estimator")
        seeds = {
            key: seed
            for key in estimator.get_params()
            if key == "random_state" or key.endswith("__random_state")
        }
        estimator.set_params(**seeds, **params)
        if not (hasattr(estimator, "fit") and hasattr(estimator, "predict")):
            raise TypeError("it has no fit or no predict")
    except (TypeError, ValueError, AttributeError, SystemExit) as error:
        reason = shortened(error)
        raise OptionError(f"the method {path!r} is no usable classifier: {reason}.") from error
    if "views" in estimator.get_params(deep=False):
        return estimator
    return TableClassifier(estimator=estimator)


class TableClassifier(MultiViewClassifier):
    """A classifier of one table that reads all views' columns side by side.

    Parameters
    ----------
    estimator : classifier
        Any scikit-learn classifier or Pipeline; a clone is fitted on class numbers 0 .. K-1.
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.

    Attributes
    ----------
    estimator_ : classifier

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.naive_bayes import GaussianNB
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TableClassifier(estimator=GaussianNB(), views=[2, 2]).fit(X, y)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    _savable: ClassVar[bool] = False

    def __init__(self, *, estimator: Any, views: Any = None) -> None:
        self.estimator = estimator
        self.views = views

    @serves_callbacks
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on views X, one label per row y and weights of the rows, if the classifier has some.

        Weights for a classifier that takes none are an OptionError.
        """
        views, codes, weights = self._check_train(X, y, sample_weight)
        options = {} if weights is None else {"sample_weight": weights}
        if options and not self._takes_weights:
            raise OptionError(
                f"{type(self.estimator).__name__} takes no weights of rows; leave them out."
            )
        self.estimator_ = clone(self.estimator).fit(self._fill(views).to_array(), codes, **options)
        return self

    @property
    def _takes_weights(self) -> bool:
        """Whether the classifier can weigh rows."""
        return bool(has_fit_parameter(self.estimator, "sample_weight"))

    def _stated(self, views: MultiView) -> Array:
        """Compute class probabilities (n, K).

        Without a `predict_proba` of the classifier, the softmax of its decision values, which are
        not calibrated; without those, 1 for the predicted class.
        """
        table = views.to_array()
        if hasattr(self.estimator_, "predict_proba"):
            return np.asarray(self.estimator_.predict_proba(table), dtype=np.float64)
        classes = len(self.classes_)
        scores = np.eye(classes)[np.asarray(self.estimator_.predict(table), dtype=int)]
        if not hasattr(self.estimator_, "decision_function"):
            return np.asarray(scores)
        values = np.asarray(self.estimator_.decision_function(table), dtype=np.float64)
        if values.ndim == 1:
            values = np.column_stack([np.zeros_like(values), values])
        per_class = values.shape[1] == classes  # not so for one against one
        return np.asarray(softmax(values, axis=1) if per_class else scores, dtype=np.float64)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the class of each row, as the classifier does."""
        table = self._check_rows(X).to_array()
        return np.asarray(self.classes_[np.asarray(self.estimator_.predict(table), dtype=int)])
