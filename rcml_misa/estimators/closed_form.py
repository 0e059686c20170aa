"""Closed-form members: alone, fused as RCML-MISA fuses, and pooled with its network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from numpy.typing import ArrayLike

from rcml_misa.calibration import Calibrator
from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import ClassWeight, TrainRows
from rcml_misa.estimators.pooling import PoolingClassifier
from rcml_misa.estimators.suspicion import SuspectUse
from rcml_misa.experts.logits import Experts
from rcml_misa.experts.ridge import KernelChoice
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.options import Choice, Space, keyword_parameters
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import Scaling
from rcml_misa.training import Device, pick_device

__all__ = ["KernelExpertClassifier", "RidgeExpertClassifier", "fit_members"]


def fit_members(
    estimator: Any,
    rows: TrainRows,
    seed: int,
    device: torch.device,
    *,
    maps: Sequence[ColumnMap] | None = None,
) -> ViewExperts | RidgeExperts:
    """Fit the members that the options of an estimator describe; `maps` may hold the columns."""
    views, codes, weights = rows
    if estimator.expert == "ridge":
        ridges = RidgeExperts(scaling=estimator.scaling, random_state=seed)
        return ridges.fit(views, codes, weights=weights, maps=maps, device=device)
    kernels = ViewExperts(
        landmarks=estimator.landmarks,
        kernel=estimator.kernel,
        scaling=estimator.scaling,
        random_state=seed,
    )
    return kernels.fit(views, codes, weights=weights, maps=maps, device=device)


@keyword_parameters
class _ExpertClassifier(PoolingClassifier):
    """Base of the classifiers that are closed-form members, one per view and one for all."""

    _leaves_out_missing: ClassVar[bool] = True
    _streams: ClassVar[bool] = True
    _search: ClassVar[Mapping[str, Space]] = {
        "scaling": Choice(("minmax", "standard", "quantile")),
        "stacking": Choice((True, False)),
    }

    views: Any = None
    stacking: bool = True
    scaling: Scaling = "minmax"
    suspect: SuspectUse = "report"
    class_weight: ClassWeight = None
    device: Device = "auto"
    random_state: int | None = None

    @abstractmethod
    def _members(self) -> Any:
        """New members, to be fitted."""

    @serves_callbacks
    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit every member on views X, one label per row y and weights of the rows."""
        rows = self._check_train(X, y, sample_weight)
        views, codes, weights = rows
        device = pick_device(self.device)
        self.experts_: Experts = self._members().fit(views, codes, weights=weights, device=device)
        logits = self.experts_.train_logits_  # leave-one-out
        looked = rows.looked(self.experts_.looked_)
        self.stack_ = logits.stack(looked.codes, weights=looked.weights) if self.stacking else None
        standing = self._learn_views(
            looked, logits, lambda new: self.experts_.logits(new).witness, self.random_state
        )
        fused, self.suspect_limits_ = self._out_of_sample(logits, standing)
        self.calibrator_ = Calibrator.fit(fused, looked.codes, looked.weights)
        return self


@keyword_parameters
class KernelExpertClassifier(_ExpertClassifier):
    """One closed-form kernel expert per view and one for all views, fused; nothing is trained.

    Its opinions are those of an RCML-MISA whose network has no share in them, so that the
    difference between the two is what the network adds.

    Parameters
    ----------
    landmarks : int
        Largest number of Nystroem landmarks of the joint expert; see `ViewExperts`.
    kernel : {"auto", "smooth", "medium", "rough", "fine"}
        Kernels of the experts; ``"auto"`` chooses each by its leave-one-out scores.
    stacking : bool
        Whether opinions count in their product by weights fitted to leave-one-out opinions.
    views, scaling, suspect, class_weight, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    experts_ : ViewExperts
        Experts of the views and of all columns.
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the opinions in their product; see `stack_weights`.
    calibrator_ : Calibrator
        Calibration of `predict_proba`, from leave-one-out opinions of the train rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KernelExpertClassifier(views=[2, 2], random_state=0).fit(X, y)
    >>> float(model.score(X, y)) > 0.9
    True
    """

    _search: ClassVar[Mapping[str, Space]] = {
        **_ExpertClassifier._search,
        "kernel": Choice(("auto", "smooth", "medium", "rough", "fine")),
    }

    landmarks: int = 2100
    kernel: KernelChoice = "auto"

    def _members(self) -> ViewExperts:
        return ViewExperts(
            landmarks=self.landmarks,
            kernel=self.kernel,
            scaling=self.scaling,
            random_state=self.random_state,
        )


@keyword_parameters
class RidgeExpertClassifier(_ExpertClassifier):
    """One closed-form ridge per view and one for all views, fused; no train row is kept.

    Each is a ridge regression on two readings of the columns and random ReLU features of them. Its
    opinions are those of an RCML-MISA with ``expert="ridge"`` whose network has no share in them.

    Parameters
    ----------
    stacking : bool
        Whether opinions count in their product by weights fitted to leave-one-out opinions.
    views, scaling, suspect, class_weight, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    experts_ : RidgeExperts
        Ridges of the views and of all columns.
    stack_, calibrator_
        See `KernelExpertClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RidgeExpertClassifier(views=[2, 2], random_state=0).fit(X, y)
    >>> float(model.score(X, y)) > 0.9
    True
    """

    def _members(self) -> RidgeExperts:
        return RidgeExperts(scaling=self.scaling, random_state=self.random_state)
