"""Closed-form kernel expert: Nystroem features, ridge, exact leave-one-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from rcml_misa.calibration import fit_exponent
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.experts.kernel_rows import KernelMember, KernelRows
from rcml_misa.experts.logits import RowWeights
from rcml_misa.experts.mapped_views import MappedViews
from rcml_misa.experts.ridge import (
    KERNELS,
    KernelChoice,
    KernelSum,
    fit_ridge,
    negative_distances,
    nystroem_root,
)
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.experts.sums import LOOKED, Ridge, Sample, fit_ridges, looked_rows, tensor
from rcml_misa.options import check_options, keyword_parameters
from rcml_misa.reading.features import Scaling
from rcml_misa.reading.rows import row_weights
from rcml_misa.views import ViewArray

__all__ = ["KernelExpert", "fit_experts", "fit_temperature"]

Array = NDArray[Any]
Rows = NDArray[np.int64]
CPU = torch.device("cpu")
PENALTIES = tuple(float(10**power) for power in np.arange(-3.0, 2.25, 0.5))
LARGEST_LOG_TEMPERATURE = 5.5
LARGEST_SELECTION = 2000  # rows while the kernel is chosen


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
    looked_ : ndarray of shape (m,)
        Numbers of the train rows that have leave-one-out scores; see `looked_rows`.
    loo_scores_ : ndarray of shape (m, K)
        Leave-one-out scores of these rows, without the bound.
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
        self.classes_, codes = np.unique(y, return_inverse=True)
        views = MappedViews(self._parts(X), scaling=self.scaling)
        owned = RowWeights.of(codes, np.ones(len(codes), dtype=bool), weights)
        self.looked_ = looked_rows(np.ones((len(codes), 1), dtype=bool), len(self.classes_))
        fit_experts([self], views, codes, [owned], self.looked_)
        return self

    def _parts(self, X: Array) -> list[Array]:
        groups = self.groups or (X.shape[1],)
        if sum(groups) != X.shape[1]:
            raise OptionError(
                f"groups={self.groups} add up to {sum(groups)} columns but X has {X.shape[1]}; "
                "give widths that add up to all of them, or leave groups out."
            )
        return np.split(X, np.cumsum(groups)[:-1], axis=1)

    def _prepare(
        self,
        views: MappedViews,
        codes: Rows,
        weights: RowWeights,
        device: torch.device,
    ) -> KernelMember:
        """Choose the landmarks and the kernel on views that are mapped already."""
        rng = np.random.default_rng(self.random_state)
        having = np.arange(views.rows) if weights.here is None else np.flatnonzero(weights.here)
        self.n_features_in_ = int(sum(part.shape[1] for part in views.parts))
        self.columns_ = views.columns(having)
        self.layout_ = self.columns_.layout
        count = min(self.landmarks, len(having))
        if len(having) <= LOOKED:
            order = having[rng.permutation(len(having))]
        else:  # without a number for each row
            drawn = max(self.landmarks, LARGEST_SELECTION)
            order = having[rng.choice(len(having), min(drawn, len(having)), replace=False)]
        self.kernel_: str = self.kernel
        if self.kernel == "auto":
            # as many rows to a landmark as there will be at the end: few landmarks favour wide
            # kernels
            near = min(self.selection_landmarks, count)
            some = order[: min(near * len(having) // count, LARGEST_SELECTION)]
            self.kernel_ = self._choose(
                views, some, near, codes[some], weights(some, codes[some]), device
            )
        whole = count == len(having)
        chosen = np.sort(order) if whole else order[:count]
        landmarks = torch.from_numpy(self.columns_.join(views(chosen))).to(device)
        self.landmark_values_ = landmarks.cpu().numpy()
        kernel = KERNELS[self.kernel_]
        square = kernel(landmarks, landmarks, self.columns_.layout)
        return KernelMember(
            columns=self.columns_,
            kernel=kernel,
            weights=weights,
            chosen=chosen,
            landmarks=landmarks,
            root=nystroem_root(square),
            whole=whole,
        )

    def _choose(
        self,
        views: MappedViews,
        some: Rows,
        near: int,
        codes: Rows,
        weights: Array | None,
        device: torch.device,
    ) -> str:
        """Choose the kernel of least leave-one-out cross-entropy on some of the rows.

        The first `near` of them are the landmarks.
        """
        columns = torch.from_numpy(self.columns_.join(views(some))).to(device)
        layout, classes = self.columns_.layout, len(self.classes_)
        sums = {name: KernelSum(kernel, layout) for name, kernel in KERNELS.items()}
        widths = [width for kind in layout for width in kind]
        for place, part in enumerate(torch.split(columns, widths, dim=1)):
            negative = negative_distances(part, part[:near])
            nears: dict[float, Tensor] = {}
            for each in sums.values():
                each.add(place // len(layout[0]), negative, nears)
        squares = (columns**2).sum(dim=1)
        own, given = tensor(codes, device), tensor(weights, device)

        def error(name: str) -> float:
            values = sums[name].values(squares, squares[:near])
            root: Tensor | None = nystroem_root(values[:near])
            if root is not None and near == len(some):
                values, root = root.to(values), None
            ridge = fit_ridge(Sample(values, own, given), classes, self.penalties, root)
            scores = ridge.loo_scores
            logs = log_softmax(fit_temperature(scores, codes, weights) * scores, axis=1)
            return float(-np.average(logs[np.arange(len(codes)), codes], weights=weights))

        return min(KERNELS, key=error)

    def _finish(
        self, member: KernelMember, ridge: Ridge, codes: Rows, weights: Array | None
    ) -> None:
        """Take a fitted ridge, and bound and temper it by its scores of looked rows."""
        self.loo_scores_ = ridge.loo_scores
        turned = torch.from_numpy(ridge.coefficients).to(member.root)
        if member.whole:
            turned = torch.linalg.solve_triangular(member.root.T, turned, upper=True)
        self.weights_ = turned.to(member.landmarks.dtype).cpu().numpy()
        self.intercept_, self.penalty_ = ridge.intercept, ridge.penalty
        self.raw_temperature_ = fit_temperature(self.loo_scores_, codes, weights)
        true = self.loo_scores_[np.arange(len(codes)), codes]
        self.bound_ = float(np.quantile(true, self.cap)) if self.cap is not None else np.inf
        bounded = np.minimum(self.loo_scores_, self.bound_)
        self.temperature_ = fit_temperature(bounded, codes, weights)

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


def fit_experts(
    experts: Sequence[KernelExpert],
    views: MappedViews,
    codes: Rows,
    weights: Sequence[RowWeights],
    looked: Rows,
    device: torch.device = CPU,
) -> None:
    """Fit an expert per view and a last one of all views, or that alone, on mapped rows.

    `weights` are those of each expert's rows; `looked` rows, by number, get leave-one-out scores.
    """
    members = []
    for place, (expert, own) in enumerate(zip(experts, weights, strict=True)):
        last = place == len(experts) - 1
        members.append(expert._prepare(views if last else views.only(place), codes, own, device))
    rows = KernelRows(views, members, codes, len(experts[-1].classes_))
    ridges = fit_ridges(rows, looked, experts[-1].penalties)
    for expert, member, ridge, own in zip(experts, members, ridges, weights, strict=True):
        seen = looked if own.here is None else looked[own.here[looked]]
        expert._finish(member, ridge, codes[seen], own(looked, codes[looked]))
