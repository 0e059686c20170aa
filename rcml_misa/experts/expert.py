"""Closed-form kernel expert: Nystroem features, ridge, exact leave-one-out scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from rcml_misa.calibration import fit_exponent
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.experts.ridge import (
    BLOCK,
    KERNELS,
    SMALL,
    KernelChoice,
    NystroemFeatures,
    Ridge,
    fit_ridge,
)
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.options import check_options, keyword_parameters
from rcml_misa.reading.columns import READINGS
from rcml_misa.reading.features import FeatureMap, Scaling, evenly
from rcml_misa.reading.rows import row_weights
from rcml_misa.views import ViewArray, dense, present_rows

__all__ = ["Columns", "KernelExpert", "MappedViews", "fit_temperature"]

Array = NDArray[Any]
PENALTIES = tuple(float(10**power) for power in np.arange(-3.0, 2.25, 0.5))
LARGEST_LOG_TEMPERATURE = 5.5
LARGEST_SELECTION = 2000  # rows while the kernel is chosen


@dataclass(frozen=True)
class Columns:
    """Mapped columns of one or several views for the kernel.

    Two kinds of map stand side by side, roots with their row-LayerNorm and normal quantiles, each
    with a fitted map per view and a factor that brings the view's total variance over train rows
    to 1, whatever its width. Columns are `double` (float64) where train rows are few.
    """

    maps: tuple[tuple[FeatureMap, ...], ...]
    factors: tuple[tuple[float, ...], ...]
    double: bool = False

    def __call__(self, parts: Sequence[Array]) -> Array:
        """Map rows given as one raw array (n, d_v) per view."""
        pairs = [zip(kind, parts, strict=True) for kind in self.maps]
        return self.join([[mapping.transform(part) for mapping, part in kind] for kind in pairs])

    @property
    def owners(self) -> NDArray[np.intp]:
        """Number of the view that each column belongs to."""
        widths = [[mapping.width for mapping in kind] for kind in self.maps]
        return np.concatenate([np.repeat(np.arange(len(kind)), kind) for kind in widths])

    def join(self, mapped: Sequence[Sequence[Array]]) -> Array:
        """Scale and join views that are mapped already."""
        dtype = np.float64 if self.double else np.float32
        scaled = [
            np.asarray(part * factor, dtype=dtype)
            for kind, factors in zip(mapped, self.factors, strict=True)
            for part, factor in zip(kind, factors, strict=True)
        ]
        return np.concatenate(scaled, axis=1)


class MappedViews:
    """Train rows' views (n, d_v) with fitted maps, so that experts share the mapping's cost."""

    def __init__(self, parts: Sequence[ViewArray], *, scaling: Scaling) -> None:
        self.parts = list(parts)
        self.scaling: Scaling = scaling
        self.rows = int(parts[0].shape[0])
        self.maps = [
            [FeatureMap.fit(part, scaling=scaling, features=kind) for part in parts]
            for kind in READINGS
        ]
        some = slice(None) if self.rows <= BLOCK else evenly(self.rows, BLOCK)
        raw = [dense(part, some) for part in parts]
        pairs = [zip(kind, raw, strict=True) for kind in self.maps]
        self.mapped = [[mapping.transform(part) for mapping, part in kind] for kind in pairs]

    def only(self, view: int) -> MappedViews:
        """Select one view, without the rows that lack it."""
        present = present_rows(self.parts[view])
        if not present.all():
            return MappedViews([self.parts[view][present]], scaling=self.scaling)
        single = copy(self)
        single.parts = [self.parts[view]]
        single.maps = [[kind[view]] for kind in self.maps]
        single.mapped = [[kind[view]] for kind in self.mapped]
        return single

    def columns(self) -> Columns:
        """Make the join of these views, with its factors."""
        return Columns(
            tuple(tuple(kind) for kind in self.maps),
            tuple(tuple(_unit_variance(part) for part in kind) for kind in self.mapped),
            double=self.rows <= SMALL,
        )

    def values(self, columns: Columns, rows: slice | Array) -> Array:
        """Join the columns of some rows."""
        if self.rows <= BLOCK:
            return columns.join([[part[rows] for part in kind] for kind in self.mapped])
        return columns([dense(part, rows) for part in self.parts])

    def layout(self) -> tuple[tuple[int, ...], ...]:
        """Count the joined columns of each view in each kind."""
        return tuple(tuple(part.shape[1] for part in kind) for kind in self.mapped)


def _unit_variance(part: Array) -> float:
    """Compute the factor that brings the total variance of an array (n, d) to 1."""
    variance = float(part.var(axis=0).sum())
    return 1 / math.sqrt(variance) if variance > 0 else 1.0


def fit_temperature(scores: Array, target: Array, weights: Array | None = None) -> float:
    """Fit T in [1, exp(5.5)] of least cross-entropy of softmax(T scores) on unseen rows."""
    bounds = (0.0, LARGEST_LOG_TEMPERATURE)
    return fit_exponent(scores, target, weights, bounds=bounds, tolerance=0.02)


@keyword_parameters
class KernelExpert(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier in closed form that scores its own train rows as if they were new.

    Gaussian plus linear kernel, Nystroem features from random train rows, ridge regression to
    centred one-hot classes. For each train row the prediction of the ridge fitted without that
    row is y - r / (1 - h), r its residual and h its leverage, intercept included, so that a model
    trained on these scores sees train rows as it will see test rows. The kernel is chosen
    by leave-one-out cross-entropy, the penalty by leave-one-out square error.

    Parameters
    ----------
    groups : tuple of int, optional
        Widths of the views, where X holds several side by side; each then counts alike.
    landmarks : int, default=1400
        Largest number of Nystroem landmarks; cost grows with its square per row.
    selection_landmarks : int, default=500
        Landmarks while the kernel is chosen, with as many rows to each as at the end (up to 2000
        rows).
    kernel : {"auto", "smooth", "medium", "rough", "fine"}
        One of `KERNELS`; ``"auto"`` takes the one of least leave-one-out cross-entropy.
    penalties : tuple of float
        Ridge penalties to choose from.
    cap : float or None, default=0.7
        Scores are bounded above at this quantile of the leave-one-out scores of the true
        classes: a copy of a train row must not score higher than rows that are not copies.
    scaling : {"minmax", "standard", "quantile", "none"}, default="minmax"
        Column scaling, fitted on train rows.
    random_state : int, optional
        Seed of the landmarks' draw.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
    loo_scores_ : ndarray of shape (n, K)
        Leave-one-out scores of the train rows, without the bound.
    temperature_, raw_temperature_ : float
        Temperatures of the bounded and of the unbounded scores, by leave-one-out cross-entropy.
    bound_ : float
        Upper bound of the scores; infinity without `cap`.
    penalty_ : float
    kernel_ : str
        Name of the kernel in use.

    References
    ----------
    Williams and Seeger, Using the Nystroem method to speed up kernel machines, NeurIPS 2000;
    leave-one-out residuals: Allen, Technometrics 16, 1974 (PRESS).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> expert = KernelExpert(random_state=0).fit(X, y)
    >>> expert.predict_proba(X).shape, expert.loo_scores_.shape
    ((150, 3), (150, 3))
    """

    groups: tuple[int, ...] | None = None
    landmarks: int = 1400
    selection_landmarks: int = 500
    kernel: KernelChoice = "auto"
    penalties: tuple[float, ...] = PENALTIES
    cap: float | None = 0.7
    scaling: Scaling = "minmax"
    random_state: int | None = None

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit on dense rows X of shape (n, d), classes y and weights of shape (n,)."""
        X, y = validate_data(self, X, y, dtype=np.float64, ensure_min_samples=2)
        check_classification_targets(y)
        check_options(self)
        weights = row_weights(y, sample_weight, None)
        if weights is not None and not weights.all():
            used = weights > 0
            X, y, weights = X[used], y[used], row_weights(y[used], weights[used], None)
        if len(np.unique(y)) < 2:
            raise DataError(f"y holds one class only ({y[0]}); a classifier needs two or more.")
        views = MappedViews(self._parts(X), scaling=self.scaling)
        return self.fit_mapped(views, y, weights=weights)

    def _parts(self, X: Array) -> list[Array]:
        groups = self.groups or (X.shape[1],)
        if sum(groups) != X.shape[1]:
            raise OptionError(
                f"groups={self.groups} add up to {sum(groups)} columns but X has {X.shape[1]}; "
                "give widths that add up to all of them, or leave groups out."
            )
        return np.split(X, np.cumsum(groups)[:-1], axis=1)

    def fit_mapped(
        self,
        views: MappedViews,
        y: Array,
        *,
        weights: Array | None = None,
        classes: Array | None = None,
    ) -> Self:
        """Fit on views that are mapped already; `fit` and a set of experts share this.

        Some of `classes`, which are sorted, may be without a row.
        """
        self.classes_ = np.unique(y) if classes is None else classes
        codes = np.searchsorted(self.classes_, y)
        self.n_features_in_ = int(sum(part.shape[1] for part in views.parts))
        order = np.random.default_rng(self.random_state).permutation(views.rows)
        onehot = np.eye(len(self.classes_), dtype=np.float32)[codes]
        self.columns_, self.layout_ = views.columns(), views.layout()
        count = min(self.landmarks, views.rows)
        self.kernel_: str = self.kernel
        if self.kernel == "auto":
            self.kernel_ = self._choose(views, order, onehot, weights)
        phi, ridge = self._ridge(views, order, count, onehot, self.kernel_, weights)
        self.landmark_values_ = views.values(self.columns_, order[:count])
        self.loo_scores_ = ridge.loo_scores[np.argsort(order)]
        self.weights_, self.intercept_ = phi.kernel_weights(ridge.coefficients), ridge.intercept
        self.penalty_ = ridge.penalty
        self.raw_temperature_ = fit_temperature(self.loo_scores_, codes, weights)
        true = self.loo_scores_[np.arange(views.rows), codes]
        self.bound_ = float(np.quantile(true, self.cap)) if self.cap is not None else np.inf
        bounded = np.minimum(self.loo_scores_, self.bound_)
        self.temperature_ = fit_temperature(bounded, codes, weights)
        return self

    def _choose(
        self, views: MappedViews, order: Array, onehot: Array, weights: Array | None
    ) -> str:
        """Choose the kernel of least leave-one-out cross-entropy on some of the rows."""
        count = min(self.landmarks, views.rows)
        # as many rows to a landmark as there will be at the end: few landmarks favour wide kernels
        near = min(self.selection_landmarks, count)
        some = order[: min(near * views.rows // count, LARGEST_SELECTION)]
        codes = onehot[some].argmax(axis=1)
        own_weights = None if weights is None else weights[some]

        def error(name: str) -> float:
            scores = self._ridge(views, some, near, onehot, name, weights)[1].loo_scores
            logs = log_softmax(fit_temperature(scores, codes, own_weights) * scores, axis=1)
            return float(-np.average(logs[np.arange(len(codes)), codes], weights=own_weights))

        return min(KERNELS, key=error)

    def _ridge(
        self,
        views: MappedViews,
        rows: Array,
        near: int,
        onehot: Array,
        kernel: str,
        weights: Array | None,
    ) -> tuple[NystroemFeatures, Ridge]:
        """Fit on some rows, the first `near` of them being the landmarks; features and ridge."""
        phi = NystroemFeatures(
            None if near == len(rows) else lambda block: views.values(self.columns_, rows[block]),
            len(rows),
            views.values(self.columns_, rows[:near]),
            partial(KERNELS[kernel], layout=self.layout_),
        )
        weights = None if weights is None else weights[rows]
        return phi, fit_ridge(phi, onehot[rows], self.penalties, weights)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Compute bounded scores (n, K), near 1 for the class and near 0 for the others.

        With two classes the second's score minus the first's, of shape (n,), as in scikit-learn.
        """
        scores = self._bounded(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def _bounded(self, X: Any) -> NDArray[np.float64]:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.minimum(self.score_parts(self._parts(X)), self.bound_)

    def score_parts(self, parts: Sequence[ViewArray]) -> NDArray[np.float64]:
        """Compute scores (n, K) without the bound, of rows given as one array (n, d_v) per view."""
        return ExpertScorer([], self)(parts).joint

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Compute class probabilities (n, K): the softmax of the bounded, tempered scores."""
        scores = self._bounded(X)
        return np.asarray(softmax(self.temperature_ * scores, axis=1))

    def predict(self, X: Any) -> Array:
        """Predict the most probable class of each row."""
        scores = self._bounded(X)
        return np.asarray(self.classes_[scores.argmax(axis=1)])
