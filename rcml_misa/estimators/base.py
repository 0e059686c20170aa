"""What every multi-view classifier shares: input checks, classes, opinions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from rcml_misa.estimators.options import check_options
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView, as_multiview, refuse_sequences

__all__ = [
    "EvidentialClassifier",
    "MultiViewClassifier",
    "MultiViewEstimator",
    "MultiViewOpinion",
]

Array = NDArray[np.float64]
BLOCK = 4096  # rows whose opinions are worked out at once


@dataclass(frozen=True)
class MultiViewOpinion:
    """Opinions about n rows: fused, per view and of the shared tokens.

    Attributes
    ----------
    evidence : ndarray of shape (n, K)
        Fused evidence.
    views : mapping of str to ndarray of shape (n, K)
        Evidence of each view's own opinion.
    shared : ndarray of shape (n, M, K)
        Evidence of the shared tokens' opinions; M = 0 for methods without them.
    conflict : ndarray of shape (n,)
        Mean degree of conflict over the pairs of views, in [0, 1].

    Examples
    --------
    >>> evidence = np.array([[8.0, 0.0]])
    >>> opinion = MultiViewOpinion(
    ...     evidence, {"a": evidence}, np.empty((1, 0, 2)), conflict=np.zeros(1))
    >>> opinion.belief.tolist(), opinion.uncertainty.tolist()
    ([[0.8, 0.0]], [0.2])
    """

    evidence: Array
    views: Mapping[str, Array]
    shared: Array
    conflict: Array

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join the opinions about several blocks of rows."""
        return cls(
            evidence=np.concatenate([part.evidence for part in parts]),
            views={
                name: np.concatenate([part.views[name] for part in parts])
                for name in parts[0].views
            },
            shared=np.concatenate([part.shared for part in parts]),
            conflict=np.concatenate([part.conflict for part in parts]),
        )

    @property
    def strength(self) -> Array:
        """Dirichlet strength S = sum e + K, of shape (n, 1)."""
        return np.asarray(self.evidence.sum(axis=1, keepdims=True) + self.evidence.shape[1])

    @property
    def belief(self) -> Array:
        """E / S, of shape (n, K)."""
        return self.evidence / self.strength

    @property
    def uncertainty(self) -> Array:
        """Vacuity K / S, of shape (n,)."""
        return np.asarray(self.evidence.shape[1] / self.strength[:, 0])

    @property
    def projected_probability(self) -> Array:
        """(e + 1) / S, of shape (n, K); raw, not calibrated."""
        return (self.evidence + 1) / self.strength


class MultiViewEstimator(BaseEstimator):  # type: ignore[misc]
    """Base of all multi-view estimators: what they check of X.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.

    Attributes
    ----------
    view_names_ : tuple of str
    widths_ : tuple of int
    kinds_ : tuple of str
        Dense, sparse, sequence or text.
    n_features_in_ : int
        Columns of all views together.
    """

    views: Any = None
    _reads_sequences: ClassVar[bool] = False

    def _check_views(self, X: Any) -> MultiView:
        """Validate options and the views to train on, and remember their names and widths."""
        check_options(self)
        views = as_multiview(X, views=self.views)
        if not self._reads_sequences:
            refuse_sequences(views, type(self).__name__)
        self.view_names_, self.widths_ = views.names, views.widths
        self.kinds_ = views.kinds
        self.n_features_in_ = sum(views.widths)
        return views

    def _check_rows(self, X: Any) -> MultiView:
        """Validate rows to predict against what `fit` saw."""
        check_is_fitted(self)
        views = as_multiview(X, views=self.views)
        if views.names != self.view_names_:
            raise DataError(
                f"X has the views {', '.join(views.names)} but fit saw "
                f"{', '.join(self.view_names_)}; give the same ones in the same order."
            )
        for name, width, seen in zip(views.names, views.widths, self.widths_, strict=True):
            if width != seen:
                raise DataError(f"view {name!r} has {width} columns but fit saw {seen}.")
        for name, kind, known in zip(views.names, views.kinds, self.kinds_, strict=True):
            if kind != known and {kind, known} & {"sequence", "text"}:
                raise DataError(f"view {name!r} is of kind {kind} but fit saw the kind {known}.")
        return views


class MultiViewClassifier(ClassifierMixin, MultiViewEstimator):  # type: ignore[misc]
    """Base of the multi-view classifiers; see `MultiViewEstimator` for the other attributes.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
    """

    def _check_fit(self, X: Any, y: ArrayLike) -> tuple[MultiView, NDArray[np.int64]]:
        """Validate options and training data; set the fitted attributes; views, class numbers."""
        views = self._check_views(X)
        if y is None:
            raise DataError("y is missing: a classifier needs one class label per row.")
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        if len(labels) != views.n_samples:
            raise DataError(
                f"y has {len(labels)} labels but X has {views.n_samples} rows; give one per row."
            )
        self.classes_, codes = np.unique(labels, return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class only ({self.classes_[0]}); a classifier needs two or more."
            )
        return views, codes.astype(np.int64)

    @abstractmethod
    def predict_proba(self, X: Any) -> Array:
        """Class probabilities of shape (n, K)."""

    def predict(self, X: Any) -> NDArray[Any]:
        """Most probable class of each row."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])


class EvidentialClassifier(MultiViewClassifier):
    """Base of the classifiers whose output is an opinion."""

    @abstractmethod
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        """Opinions about a block of checked rows."""

    def predict_opinion(self, X: Any) -> MultiViewOpinion:
        """Opinions about the rows of X: fused, per view and shared."""
        views = self._check_rows(X)
        rows = views.n_samples
        parts = [
            self._opinion(views if rows <= BLOCK else views.take(slice(start, start + BLOCK)))
            for start in range(0, rows, BLOCK)
        ]
        return parts[0] if len(parts) == 1 else MultiViewOpinion.concatenate(parts)

    def predict_proba(self, X: Any) -> Array:
        """Projected probabilities of the fused opinion, of shape (n, K)."""
        return self.predict_opinion(X).projected_probability

    def predict(self, X: Any) -> NDArray[Any]:
        """Class of most fused evidence for each row."""
        opinion = self.predict_opinion(X)
        return np.asarray(self.classes_[opinion.evidence.argmax(axis=1)])
