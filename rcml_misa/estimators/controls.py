"""Classical controls: standard classifiers that a new method has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_predict
from sklearn.svm import SVC

from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import MultiViewClassifier
from rcml_misa.exceptions import OptionError
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.views import MultiView, dense

__all__ = ["ControlClassifier"]

Model = Literal[
    "logistic-regression", "rbf-svm", "lda", "extra-trees", "gradient-boosting", "majority"
]
LEARNING = ("logistic-regression", "rbf-svm", "lda", "extra-trees", "gradient-boosting")
Combine = Literal["concatenate", "average", "best"]
Array = NDArray[np.float64]
BINS, SHARE = 63, 0.1  # boosting's bins of a column; share of the columns that a split reads
FOLDS = 5  # of the cross-validation that picks the best view


@keyword_parameters
class ControlClassifier(MultiViewClassifier):
    """A standard single-table classifier, given several views.

    Each view's columns are scaled with statistics of the train rows. Then all columns go side by
    side into one classifier, or each view has its own and their probabilities are averaged, or the
    view that cross-validation on the train rows finds the best is the only one read.

    Parameters
    ----------
    model : {"logistic-regression", "rbf-svm", "lda", "extra-trees", "gradient-boosting", \
"majority"}
        ``"lda"`` is linear discriminant analysis with Ledoit-Wolf shrinkage. ``"rbf-svm"`` is
        a Gaussian support vector machine with scikit-learn's width 1 / (d Var(x)), d columns; its
        probabilities are the softmax of its one-against-rest decision values, hence ordered like
        them but not calibrated, because scikit-learn's own need five more fits.
        ``"gradient-boosting"`` is boosting of histogram trees, 63 bins a column and a tenth of the
        columns a split, ``"majority"`` the train rows' most frequent class with their class shares
        for probabilities.
    combine : {"concatenate", "average", "best"}
        One classifier on all columns, one per view with averaged probabilities, or one on the
        view of the highest accuracy in five-fold cross-validation.
    views, scaling, features, calibration_fraction
        See `MultiViewEstimator`.
    C : float
        Inverse penalty of ``"logistic-regression"`` and ``"rbf-svm"``; the others ignore it.
    trees : int
        Number of trees of ``"extra-trees"``; the others ignore it.
    rounds : int
        Rounds of ``"gradient-boosting"``, one tree per class each; the others ignore it.
    random_state : int, optional
        Seed of ``"extra-trees"``, the folds and the rows set apart; the rest is deterministic.

    Attributes
    ----------
    models_ : tuple of classifiers
        One, or one per view, fitted on class numbers 0 .. K-1.
    maps_ : tuple of FeatureMap
        One per view.
    best_view_ : int or None
        Number of the view that is read, where it is one.

    References
    ----------
    Ledoit and Wolf, Honey, I shrunk the sample covariance matrix, 2004; Geurts, Ernst and
    Wehenkel, Extremely randomized trees, Machine Learning 63, 2006; Ke et al., LightGBM, NeurIPS
    2017.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> control = ControlClassifier(views=[2, 2], model="lda", combine="average").fit(X, y)
    >>> control.predict_proba(X).shape, bool(control.score(X, y) > 0.9)
    ((150, 3), True)
    """

    _savable: ClassVar[bool] = False
    _search: ClassVar[Mapping[str, Space]] = {
        "C": Span(1e-3, 1e3, log=True, when={"model": ("logistic-regression", "rbf-svm")}),
        "trees": Span(100, 500, step=100, when={"model": ("extra-trees",)}),
        "rounds": Span(20, 300, log=True, when={"model": ("gradient-boosting",)}),
        "scaling": Choice(
            ("minmax", "standard", "quantile"), when={"features": ("plain",), "model": LEARNING}
        ),
        "features": Choice(
            ("root", "root-layernorm"), when={"features": ("root", "root-layernorm")}
        ),
    }

    views: Any = None
    model: Model = "logistic-regression"
    combine: Combine = "concatenate"
    scaling: Scaling = "standard"
    features: Features = "plain"
    C: float = 1.0
    trees: int = 300
    rounds: int = 100
    calibration_fraction: float = 0.0
    random_state: int | None = None

    @serves_callbacks
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit on views X, one label per row y and weights of the rows, but none for ``"lda"``."""
        rows, apart = self._set_apart(self._check_train(X, y, sample_weight))
        views, codes, weights = rows
        self.maps_ = tuple(
            FeatureMap.fit(array, scaling=self.scaling, features=self.features)
            for array in views.arrays
        )
        options = {} if weights is None else {"sample_weight": weights}
        if options and not self._takes_weights:
            raise OptionError("model='lda' takes no weights of rows; leave sample_weight out.")
        self.best_view_ = None
        parts = self._parts(views)
        if self.combine == "best":
            self.best_view_ = self._best_view(parts, codes, weights)
            parts = [parts[self.best_view_]]
        self.models_ = tuple(self._new_model().fit(part, codes, **options) for part in parts)
        self._calibrate(apart)
        return self

    @property
    def _takes_weights(self) -> bool:
        """Whether the classifiers can weigh rows."""
        return self.model != "lda"

    def _best_view(
        self, parts: list[Array], codes: NDArray[np.int64], weights: Array | None
    ) -> int:
        """Choose the view of the highest cross-validated accuracy; the first of equal ones."""
        least = int(np.bincount(codes).min())
        kind = StratifiedKFold if least >= 2 else KFold
        count = min(FOLDS, least if least >= 2 else len(codes))
        folds = kind(count, shuffle=True, random_state=self.random_state)
        options = None if weights is None else {"sample_weight": weights}
        accuracies = [
            accuracy_score(
                codes,
                cross_val_predict(self._new_model(), part, codes, cv=folds, params=options),
                sample_weight=weights,
            )
            for part in parts
        ]
        return int(np.argmax(accuracies))

    def _stated(self, views: MultiView) -> Array:
        """Average the class probabilities (n, K) of the classifiers."""
        parts = self._parts(views)
        each = [
            _probabilities(model, part) for model, part in zip(self.models_, parts, strict=True)
        ]
        return np.asarray(np.mean(each, axis=0))

    def _new_model(self) -> Any:
        if self.model == "logistic-regression":
            return LogisticRegression(C=self.C, max_iter=1000)
        if self.model == "rbf-svm":
            return SVC(C=self.C)
        if self.model == "lda":
            return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        if self.model == "majority":
            return DummyClassifier(strategy="prior")
        if self.model == "gradient-boosting":
            return HistGradientBoostingClassifier(
                max_iter=self.rounds,
                max_bins=BINS,
                max_features=SHARE,
                early_stopping=False,
                random_state=self.random_state,
            )
        return ExtraTreesClassifier(self.trees, random_state=self.random_state)

    def _parts(self, views: MultiView) -> list[Array]:
        """Cut the tables that the models read: all mapped columns, or those of each view."""
        mapped = [
            mapping.transform(dense(array))
            for mapping, array in zip(self.maps_, views.arrays, strict=True)
        ]
        if self.combine == "concatenate":
            return [np.concatenate(mapped, axis=1)]
        return mapped if self.best_view_ is None else [mapped[self.best_view_]]


def _probabilities(model: Any, part: Array) -> Array:
    if not isinstance(model, SVC):
        return np.asarray(model.predict_proba(part))
    scores = np.asarray(model.decision_function(part))
    if scores.ndim == 1:
        scores = np.column_stack([np.zeros_like(scores), scores])
    # libsvm predicts the first of the classes with most votes: a tie in votes stays a tie here
    best = scores.max(axis=1, keepdims=True)
    np.put_along_axis(scores, model.predict(part)[:, None], best, axis=1)
    return np.asarray(softmax(scores, axis=1))
