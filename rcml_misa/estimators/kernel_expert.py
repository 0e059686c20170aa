"""The kernel experts alone, fused as RCML-MISA fuses: the control without a network."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from rcml_misa.calibration.classes import Calibrator
from rcml_misa.estimators.base import ClassWeight, EvidentialClassifier, MultiViewOpinion
from rcml_misa.experts.kernels import KernelChoice
from rcml_misa.experts.ridge import blocks
from rcml_misa.experts.view_experts import ExpertLogits, ViewExperts
from rcml_misa.nn import shares_to_evidence
from rcml_misa.opinions import (
    fuse_mixture,
    keep_present,
    mean_conflict,
    opinions_present,
    present_share,
)
from rcml_misa.reading.features import Scaling
from rcml_misa.views import MultiView

__all__ = ["KernelExpertClassifier"]

SLOPE, OFFSET = torch.tensor(5.0), torch.tensor(0.0)  # where RCML-MISA's collectors start


class KernelExpertClassifier(EvidentialClassifier):
    """One closed-form kernel expert per view and one for all views, fused; nothing is trained.

    Its opinions are those of an RCML-MISA before its first step, so that the difference between
    the two is what the network adds.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    landmarks : int, default=2100
        Largest number of Nystroem landmarks of the joint expert; see `ViewExperts`.
    kernel : {"auto", "smooth", "medium", "rough", "fine"}
        The experts' kernels; ``"auto"`` chooses each by its leave-one-out scores.
    stacking : bool
        Whether opinions count in their product by weights found on leave-one-out rows.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling, fitted on train rows.
    class_weight : {"balanced"}, dict or None
        Weights of the classes' rows; see `rcml_misa.reading.rows.row_weights`.
    random_state : int, optional

    Attributes
    ----------
    experts_ : ViewExperts
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the opinions in their product; see `stack_weights`.
    calibrator_ : Calibrator
        Of `predict_proba`, from leave-one-out opinions of the train rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KernelExpertClassifier(views=[2, 2], random_state=0).fit(X, y)
    >>> float(model.score(X, y)) > 0.9
    True
    """

    _leaves_out_missing: ClassVar[bool] = True

    def __init__(
        self,
        *,
        views: Any = None,
        landmarks: int = 2100,
        kernel: KernelChoice = "auto",
        stacking: bool = True,
        scaling: Scaling = "minmax",
        class_weight: ClassWeight = None,
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.landmarks = landmarks
        self.kernel = kernel
        self.stacking = stacking
        self.scaling = scaling
        self.class_weight = class_weight
        self.random_state = random_state

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit every expert on views X, one label per row y and weights of the rows.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        views, codes, heavy = self._check_train(X, y, sample_weight)
        self.experts_ = ViewExperts(
            landmarks=self.landmarks,
            kernel=self.kernel,
            scaling=self.scaling,
            random_state=self.random_state,
        ).fit(views, codes, weights=heavy)
        known = self.experts_.train_logits_
        self.stack_ = known.stack(codes, weights=heavy) if self.stacking else None
        held_out = [self._fuse(known.take(block)).evidence for block in blocks(len(codes))]
        self.calibrator_ = Calibrator.fit(np.concatenate(held_out), codes, heavy)
        return self

    def _fuse(self, logits: ExpertLogits) -> MultiViewOpinion:
        own, joint = torch.from_numpy(logits.views), torch.from_numpy(logits.joint).unsqueeze(1)
        private, shared = (shares_to_evidence(part, SLOPE, OFFSET) for part in (own, joint))
        present = None
        if logits.present is not None:
            present = torch.from_numpy(logits.present)
            private = keep_present(private, present)
            shared = keep_present(shared, opinions_present(present, 1)[:, -1:])
            shared = shared * present_share(present)
        weights = None if self.stack_ is None else torch.from_numpy(self.stack_)
        witness = own.softmax(dim=-1)
        fused = fuse_mixture(private, shared, witness, weights=weights, present=present)
        return MultiViewOpinion(
            evidence=fused.numpy() * logits.trust[:, None],
            views=dict(zip(self.view_names_, private.transpose(0, 1).numpy(), strict=True)),
            shared=shared.numpy(),
            conflict=mean_conflict(private, present).numpy(),
        )

    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        return self._fuse(self.experts_.logits(views))
