"""Closed-form members: alone, fused as RCML-MISA fuses, and pooled with its network."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from torch import Tensor

from rcml_misa.calibration import Calibrator
from rcml_misa.estimators.base import ClassWeight, EvidentialClassifier, TrainRows
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.experts.logits import ExpertLogits, Experts
from rcml_misa.experts.ridge import KernelChoice, blocks
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.nn.tokens import shares_to_evidence
from rcml_misa.opinions import (
    ViewFusionOperator,
    fuse_views,
    keep_present,
    log_shares,
    opinions_present,
    present_share,
)
from rcml_misa.opinions.dirichlet import mean_present
from rcml_misa.options import keyword_parameters
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import Scaling
from rcml_misa.views import MultiView

__all__ = [
    "SHARES",
    "FusedOpinions",
    "KernelExpertClassifier",
    "RidgeExpertClassifier",
    "fit_members",
    "fuse_logits",
    "log_opinions",
    "pool_share",
]

Array = NDArray[np.float64]
SLOPE, OFFSET = torch.tensor(5.0), torch.tensor(0.0)  # where RCML-MISA's collectors start
TINY = 1e-12
LEAST_GAIN = 1e-9  # nats per row; less is rounding
#: Shares of a network in a pool that are tried, the first of which is 0.
SHARES = np.linspace(0, 1, 21)


class FusedOpinions(NamedTuple):
    """Evidence: fused (n, K), of the views (n, N, K), of all views (n, 1, K); presence of views."""

    fused: Tensor
    private: Tensor
    shared: Tensor
    present: Tensor | None


def fuse_logits(
    logits: ExpertLogits,
    stack: Array | None,
    *,
    operator: ViewFusionOperator = "mixture",
    discount: bool = True,
) -> FusedOpinions:
    """Turn logits of the views' members and of the joint one into opinions, and fuse them.

    The mass of each falls with its confidence, that of the fused one also where views contradict
    each other and where a row is unfamiliar. `stack` holds the weights of the mixture's product.
    """
    own, joint = torch.from_numpy(logits.views), torch.from_numpy(logits.joint).unsqueeze(1)
    private, shared = (shares_to_evidence(part, SLOPE, OFFSET) for part in (own, joint))
    present = None
    if logits.present is not None:
        present = torch.from_numpy(logits.present)
        private = keep_present(private, present)
        shared = keep_present(shared, opinions_present(present, 1)[:, -1:])
        shared = shared * present_share(present)
    weights = None if stack is None else torch.from_numpy(stack)
    fused = fuse_views(
        private,
        shared,
        own.softmax(dim=-1),
        operator=operator,
        discount=discount,
        weights=weights,
        present=present,
    )
    fused = fused * torch.from_numpy(logits.trust[:, None])
    return FusedOpinions(fused, private, shared, present)


def pool_share(
    evidence: Sequence[Array], codes: NDArray[np.int64], weights: Array | None = None
) -> int:
    """Find the share of a network in a pool with closed-form members, on rows new to both.

    Parameters
    ----------
    evidence : sequence of ndarray of shape (n, K)
        Fused evidence for each of the shares that are tried, `SHARES`, the first of which is 0.
    codes, weights : ndarray of shape (n,)
        Class numbers, and weights of the rows.

    Returns
    -------
    int
        Place of the share of least mean negative log-likelihood, where that is below the members'
        own by more than one standard error, else 0.

    Examples
    --------
    >>> right = np.tile([[9.0, 1.0], [1.0, 9.0]], (20, 1))
    >>> pool_share([right[:, ::-1], right], np.array([0, 1] * 20))
    1
    """
    weights = np.ones(len(codes)) if weights is None else weights
    rows = np.arange(len(codes))
    losses = [
        -log_softmax(log_shares(torch.from_numpy(each.copy())).numpy(), axis=1)[rows, codes]
        for each in evidence
    ]
    means = [float(np.average(values, weights=weights)) for values in losses]
    best = int(np.argmin(means))
    gains = losses[0] - losses[best]
    mean = float(np.average(gains, weights=weights))
    error = float(np.sqrt((weights**2 * (gains - mean) ** 2).sum()) / weights.sum())
    return best if mean > max(error, LEAST_GAIN) else 0


def fit_members(
    estimator: Any, rows: TrainRows, seed: int, *, maps: Sequence[ColumnMap] | None = None
) -> ViewExperts | RidgeExperts:
    """Fit the members that the options of an estimator describe; `maps` may hold the columns."""
    if estimator.expert == "ridge":
        ridges = RidgeExperts(scaling=estimator.scaling, random_state=seed)
        return ridges.fit(rows.views, rows.codes, weights=rows.weights, maps=maps)
    kernels = ViewExperts(
        landmarks=estimator.landmarks,
        kernel=estimator.kernel,
        scaling=estimator.scaling,
        random_state=seed,
    )
    return kernels.fit(rows.views, rows.codes, weights=rows.weights)


def log_opinions(
    private: Tensor, shared: Tensor, present: Tensor | None
) -> tuple[Array, Array | None]:
    """Compute a network's log-probabilities of the views (n, N, K) and of all of them (n, K).

    `private` (n, N, K) and `shared` (n, M, K) hold its evidence; the latter's mean is over the
    opinions that exist where views are `present`, (n, N), and None without any.
    """
    own, all_views = (_log_shares(evidence) for evidence in (private, shared))
    count = shared.shape[1]
    if not count:
        return own.numpy(), None
    existing = None if present is None else opinions_present(present, count)[:, -count:]
    joint = mean_present(all_views, existing).log_softmax(dim=-1)
    return own.numpy(), joint.numpy()


def _log_shares(evidence: Tensor) -> Tensor:
    """Logarithms of the classes' shares of evidence, even where there is none."""
    lifted = evidence + TINY
    return torch.log(lifted / lifted.sum(dim=-1, keepdim=True))


@keyword_parameters
class _ExpertClassifier(EvidentialClassifier):
    """Base of the classifiers that are closed-form members, one per view and one for all."""

    _leaves_out_missing: ClassVar[bool] = True

    views: Any = None
    stacking: bool = True
    scaling: Scaling = "minmax"
    class_weight: ClassWeight = None
    random_state: int | None = None

    @abstractmethod
    def _members(self) -> Any:
        """New members, to be fitted."""

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit every member on views X, one label per row y and weights of the rows."""
        views, codes, weights = self._check_train(X, y, sample_weight)
        self.experts_: Experts = self._members().fit(views, codes, weights=weights)
        logits = self.experts_.train_logits_  # leave-one-out
        self.stack_ = logits.stack(codes, weights=weights) if self.stacking else None
        parts = [fuse_logits(logits.take(block), self.stack_).fused for block in blocks(len(codes))]
        self.calibrator_ = Calibrator.fit(torch.cat(parts).numpy(), codes, weights)
        return self

    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        return self._opinion_of(*fuse_logits(self.experts_.logits(views), self.stack_))


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
    views, scaling, class_weight, random_state
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
    views, scaling, class_weight, random_state
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
