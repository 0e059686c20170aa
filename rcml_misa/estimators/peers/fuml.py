"""FUML, fuzzy memberships with order-free conflict weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.estimators.base import row_blocks
from rcml_misa.estimators.outputs import present_views
from rcml_misa.estimators.published import EpochTrainer
from rcml_misa.losses import credibility_loss
from rcml_misa.nn.peers import (
    FuzzyNet,
    FuzzyOutput,
    credibility,
    fuse_memberships,
    fuzzy_uncertainty,
    guided_credibility,
    membership_conflict,
)
from rcml_misa.options import keyword_parameters

__all__ = ["FUMLClassifier"]

Array = NDArray[np.float64]


@keyword_parameters
class FUMLClassifier(EpochTrainer):
    """Deep fuzzy multi-view learning: class memberships, weighted by certainty and agreement.

    Each view's logits, divided by their p-norm and cut at 0, are memberships m. Views are fused by
    a softmax over (1 - uncertainty) (1 - conflict), which does not depend on their order.
    Minimises the sum over the fused and the views' memberships of the category credibility loss,
    with Adam, and keeps the last epoch (the published code reports the best test epoch).

    It states no Dirichlet opinion. `predict_proba` are the fused memberships divided by their sum,
    for the paper has no probabilities; its own uncertainty is `predict_uncertainty`.

    Parameters
    ----------
    layers : int
        Linear layers per view; the hidden ones are as wide as the view.
    norm_order : float
        Order p of the norm.
    learning_rate, weight_decay : float
        Settings of Adam; the decay is added to the gradient.
    dropout : float
        Chance of dropping a hidden unit.
    views, scaling, epochs, batch_size, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    module_ : FuzzyNet

    References
    ----------
    Duan, Sun, Peng, Duan, Peng and Hu, Deep fuzzy multi-view learning for reliable classification,
    ICML 2025, equations 1 to 9.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = FUMLClassifier(views=[2, 2], epochs=5, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.predict_uncertainty(X).shape
    ((150, 3), (150,))
    """

    _leaves_out_missing: ClassVar[bool] = True

    layers: int = 3
    norm_order: float = 3.0
    batch_size: int = 100
    learning_rate: float = 1e-3
    dropout: float = 0.1

    def _build(self) -> FuzzyNet:
        return FuzzyNet(
            self.widths_,
            classes=len(self.classes_),
            layers=self.layers,
            dropout=self.dropout,
            order=self.norm_order,
        )

    def _terms(
        self,
        output: FuzzyOutput,
        target: Tensor,
        kl_weight: float,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        each = target.unsqueeze(1)
        own = guided_credibility(output.private, each)
        memberships = fuse_memberships(output.private, own, output.present)
        views = credibility_loss(own, each, reduction="none")
        if output.present is not None:
            views = views * output.present
        fused = credibility_loss(guided_credibility(memberships, target), target)
        return {"loss": views.sum(dim=1).mean() + fused}

    @torch.inference_mode()
    def _memberships(self, X: Any) -> FuzzyOutput:
        views = self._check_rows(X)
        parts = [
            self._run(self._inputs(block), present_views(block, self.device_))
            for block in row_blocks(views)
        ]
        return FuzzyOutput(
            torch.cat([part.private for part in parts]).double().cpu(),
            torch.cat([part.fused for part in parts]).double().cpu(),
            torch.from_numpy(views.present),
        )

    def predict_proba(self, X: Any) -> Array:
        """Divide the fused memberships by their sum, (n, K); uniform where all are 0."""
        fused = self._memberships(X).fused.numpy()
        total = fused.sum(axis=1, keepdims=True)
        flat = np.full_like(fused, 1 / fused.shape[1])
        return np.asarray(np.divide(fused, total, out=flat, where=total > 0))

    def predict_uncertainty(self, X: Any) -> Array:
        """Compute the entropy of the fused credibilities, equation 6, (n,), in [0, 1]."""
        return np.asarray(fuzzy_uncertainty(credibility(self._memberships(X).fused)).numpy())

    def predict_conflict(self, X: Any) -> Array:
        """Average the conflict of a row's views, equation 7, of shape (n,), in [0, 1]."""
        output = self._memberships(X)
        degrees = membership_conflict(output.private, output.present)
        present = torch.ones_like(degrees) if output.present is None else output.present
        total = (degrees * present).sum(dim=-1)
        return np.asarray((total / present.to(degrees).sum(dim=-1).clamp_min(1)).numpy())
