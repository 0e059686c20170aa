"""EDL, R-EDL and Re-EDL on the columns of all views side by side."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from rcml_misa.estimators.base import MultiViewOpinion
from rcml_misa.estimators.published import EpochClassifier
from rcml_misa.losses import EDLForm, edl_loss
from rcml_misa.nn import RCMLNet, ViewOpinions
from rcml_misa.options import keyword_parameters
from rcml_misa.views import MultiView

__all__ = ["EDLClassifier"]


@keyword_parameters
class EDLClassifier(EpochClassifier):
    """Evidential deep learning: one collector on all columns, alpha = e + `prior_weight`.

    Minimises an EDL loss plus `kl_weight` times the annealed KL[Dir(alpha~) || Dir(prior)] with
    alpha~ = prior + (1 - y) e, with Adam, and keeps the last epoch. EDL has the prior 1. Its
    authors prefer the mean-square form, sum_k (y_k - p_k)^2 + p_k (1 - p_k) / (S + 1), which is 2
    at most, so that with many classes the KL term outweighs it and nothing is learnt: the default
    is the digamma form. R-EDL drops the variance from the mean-square form (``form="projected"``)
    and sets the prior free, with the same weakness; Re-EDL gives up the KL term too.

    Opinions are in the terms of prior 1: alpha / prior = e / prior + 1, so that the stated evidence
    is e / prior, and probability, belief e / S and uncertainty K prior / S are unchanged.

    Parameters
    ----------
    form : {"digamma", "log", "mse", "projected"}
        Sensoy et al.'s equations 4, 3 and 5, and the last of these without its variance.
    prior_weight : float
        lambda, the parameter without evidence; 1 in EDL, 0.1 in R-EDL's and 0.8 in Re-EDL's code.
    kl_weight : float
        Weight of the KL term after annealing; 0 in Re-EDL.
    hidden : tuple of int
        Widths of the collectors' hidden layers.
    learning_rate, weight_decay : float
        Settings of Adam; the decay is added to the gradient.
    annealing_epochs : int
        Epochs over which the weight of the KL term rises.
    dropout : float
        Chance of dropping a hidden unit.
    views, scaling, epochs, batch_size, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    module_ : RCMLNet
        Network of one view with all columns.

    References
    ----------
    Sensoy, Kaplan and Kandemir, Evidential deep learning to quantify classification uncertainty,
    NeurIPS 2018, equations 3 to 5 and section 3; Chen, Gao and Xu, R-EDL, ICLR 2024; the same,
    Revisiting essential and nonessential settings of evidential deep learning, TPAMI 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = EDLClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> model.predict_opinion(X).evidence.shape
    (150, 3)
    """

    form: EDLForm = "digamma"
    prior_weight: float = 1.0
    kl_weight: float = 1.0
    hidden: tuple[int, ...] = ()
    annealing_epochs: int = 10
    dropout: float = 0.1

    def _build(self) -> RCMLNet:
        return RCMLNet(
            [sum(self.widths_)],
            classes=len(self.classes_),
            hidden=self.hidden,
            dropout=self.dropout,
        )

    def _inputs(self, views: MultiView) -> list[Tensor]:
        return [torch.cat(super()._inputs(views), dim=1)]

    def _terms(
        self, output: ViewOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        loss = edl_loss(
            output.fused,
            target,
            kl_weight=self.kl_weight * kl_weight,
            form=self.form,
            prior=self.prior_weight,
        )
        return {"loss": loss}

    @torch.inference_mode()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        evidence = self._run(self._inputs(views), None).fused.double().cpu().numpy()
        rows, classes = evidence.shape
        return MultiViewOpinion(
            evidence=evidence / self.prior_weight,
            views={},
            shared=np.empty((rows, 0, classes)),
            conflict=np.zeros(rows),
        )
