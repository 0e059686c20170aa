"""The peers' methods, each from its paper: EDL and its relatives, TMC, ETMC, CCML and FUML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.estimators.base import row_blocks
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.published import EpochClassifier, EpochTrainer
from rcml_misa.losses import EDLForm, credibility_loss, edl_loss
from rcml_misa.nn.peers import (
    CCMLNet,
    DecoupledOpinions,
    FuzzyNet,
    FuzzyOutput,
    PseudoViewNet,
    RCMLNet,
    ViewOpinions,
    credibility,
    fuse_memberships,
    fuzzy_uncertainty,
    guided_credibility,
    membership_conflict,
)
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.views import MultiView

__all__ = ["CCMLClassifier", "EDLClassifier", "ETMCClassifier", "FUMLClassifier", "TMCClassifier"]

Array = NDArray[np.float64]


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
    hidden, dropout, annealing_epochs, learning_rate, weight_decay
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
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

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochClassifier._search,
        "hidden": Choice(((), (256,))),
        "prior_weight": Span(0.05, 2.0, log=True),
        "kl_weight": Span(0.03, 3.0, log=True, when={"form": ("digamma", "log", "mse")}),
    }

    form: EDLForm = "digamma"
    prior_weight: float = 1.0
    kl_weight: float = 1.0
    hidden: tuple[int, ...] = ()
    annealing_epochs: int = 10
    dropout: float = 0.1

    def _build(self) -> RCMLNet:
        width, classes = sum(self.widths_), len(self.classes_)
        return RCMLNet([width], classes=classes, hidden=self.hidden, dropout=self.dropout)

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


@keyword_parameters
class TMCClassifier(EpochClassifier):
    """Trusted multi-view classification: one evidence collector per view, combined by Dempster.

    Beliefs b and uncertainties u of two opinions give b_k = (b1_k b2_k + b1_k u2 + b2_k u1) /
    (1 - C) and u = u1 u2 / (1 - C), C = sum_{i != j} b1_i b2_j. Minimises the sum over the
    views and the combined opinion of the digamma EDL loss with annealed KL term, with Adam, and
    keeps the last epoch.

    Parameters
    ----------
    hidden, dropout, annealing_epochs, learning_rate, weight_decay
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
        See `MultiViewEstimator`.

    References
    ----------
    Han, Zhang, Fu and Zhou, Trusted multi-view classification, ICLR 2021, definition 4 and
    equations 5 to 9.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TMCClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> list(model.predict_opinion(X).views)
    ['view1', 'view2']
    """

    _leaves_out_missing: ClassVar[bool] = True

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochClassifier._search,
        "hidden": Choice(((), (256,))),
    }

    hidden: tuple[int, ...] = ()
    dropout: float = 0.1

    def _build(self) -> nn.Module:
        return RCMLNet(
            self.widths_,
            classes=len(self.classes_),
            hidden=self.hidden,
            dropout=self.dropout,
            fusion="dempster",
        )

    def _terms(self, output: Any, target: Tensor, kl_weight: float) -> Mapping[str, Tensor]:
        opinions = torch.cat([output.private, output.shared, output.fused.unsqueeze(1)], dim=1)
        each = edl_loss(opinions, target.unsqueeze(1), kl_weight=kl_weight, reduction="none")
        if output.present is not None:
            views = output.present.shape[1]
            present = output.present.to(each.dtype)
            each = torch.cat([each[:, :views] * present, each[:, views:]], dim=1)
        return {"loss": each.sum(dim=1).mean()}


class ETMCClassifier(TMCClassifier):
    """Enhanced trusted multi-view classification: TMC and a pseudo-view of all columns.

    The pseudo-view, all views' columns side by side, has a collector of its own; its opinion is
    combined with the views' by Dempster's reduced rule and takes its part in the loss, which is
    TMC's over N + 1 views. A missing view is zeros in the pseudo-view, after scaling. Parameters
    and attributes are those of `TMCClassifier` and `MultiViewEstimator`.

    References
    ----------
    Han, Zhang, Fu and Zhou, Trusted multi-view classification with dynamic evidential fusion,
    TPAMI 2022, whose loss adds the pseudo-view's term to TMC's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ETMCClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> model.predict_opinion(X).shared.shape
    (150, 1, 3)
    """

    def _build(self) -> PseudoViewNet:
        classes = len(self.classes_)
        return PseudoViewNet(
            self.widths_, classes=classes, hidden=self.hidden, dropout=self.dropout
        )


@keyword_parameters
class CCMLClassifier(EpochClassifier):
    """Consistent and complementary-aware trusted multi-view learning.

    The views' evidence is decoupled into the part that all views have, sharpened by the exponent
    beta and counted once per view, and the mean of the rest; the fused evidence is the sum
    of both (`rcml_misa.nn.peers.decouple_evidence`). Minimises, with Adam, last epoch kept,
    sum_v [A(e_v) + lambda_t KL(e_v)] + A(e_con) + gamma A(e_com) + delta lambda_t KL(e_con), A the
    digamma EDL loss.

    Parameters
    ----------
    sharpness : float
        beta, the exponent of the consistent beliefs.
    complementary_weight : float
        gamma, the weight of the complementary opinion's loss.
    consistent_kl_weight : float
        delta, the weight of the consistent opinion's KL term.
    annealing_epochs : int
        Epochs over which lambda_t rises to 1.
    learning_rate, weight_decay
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
        See `MultiViewEstimator`.

    References
    ----------
    Liu, Liu, Xu, Song, Guan and Zhao, Dynamic evidence decoupling for trusted multi-view learning,
    ACM MM 2024. Where the paper leaves open how beliefs are sharpened, as its published code does.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = CCMLClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape
    (150, 3)
    """

    _leaves_out_missing: ClassVar[bool] = True

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochClassifier._search,
        "sharpness": Span(1.05, 2.0),
        "complementary_weight": Span(0.1, 3.0, log=True),
        "consistent_kl_weight": Span(0.1, 3.0, log=True),
    }

    sharpness: float = 1.25
    complementary_weight: float = 1.0
    consistent_kl_weight: float = 1.0
    weight_decay: float = 1e-4

    def _build(self) -> CCMLNet:
        return CCMLNet(self.widths_, classes=len(self.classes_), sharpness=self.sharpness)

    def _terms(
        self, output: DecoupledOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        penalty = self.consistent_kl_weight * kl_weight
        own = edl_loss(output.private, target.unsqueeze(1), kl_weight=kl_weight, reduction="none")
        if output.present is not None:
            own = own * output.present
        consistent = edl_loss(output.consistent, target, kl_weight=penalty, reduction="none")
        complementary = edl_loss(output.complementary, target, reduction="none")
        total = own.sum(dim=1) + consistent + self.complementary_weight * complementary
        return {"loss": total.mean()}


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
    dropout, learning_rate, weight_decay
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
        See `MultiViewEstimator`.

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

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochTrainer._search,
        "layers": Span(1, 4),
        "norm_order": Span(1.0, 5.0),
        "dropout": Span(0.0, 0.5),
    }

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
    def _memberships(self, views: MultiView) -> FuzzyOutput:
        parts = [
            self._run(self._inputs(block), self._presence(block)) for block in row_blocks(views)
        ]
        return FuzzyOutput(
            torch.cat([part.private for part in parts]).double().cpu(),
            torch.cat([part.fused for part in parts]).double().cpu(),
            torch.from_numpy(self._heard(views)),
        )

    def _stated(self, views: MultiView) -> Array:
        """Divide the fused memberships by their sum, (n, K); uniform where all are 0."""
        fused = self._memberships(views).fused.numpy()
        total = fused.sum(axis=1, keepdims=True)
        flat = np.full_like(fused, 1 / fused.shape[1])
        return np.asarray(np.divide(fused, total, out=flat, where=total > 0))

    def predict_uncertainty(self, X: Any) -> Array:
        """Compute the entropy of the fused credibilities, equation 6, (n,), in [0, 1]."""
        fused = self._memberships(self._check_rows(X)).fused
        return np.asarray(fuzzy_uncertainty(credibility(fused)).numpy())

    def predict_conflict(self, X: Any) -> Array:
        """Average the conflict of a row's views, equation 7, of shape (n,), in [0, 1]."""
        output = self._memberships(self._check_rows(X))
        degrees = membership_conflict(output.private, output.present)
        present = torch.ones_like(degrees) if output.present is None else output.present
        total = (degrees * present).sum(dim=-1)
        return np.asarray((total / present.to(degrees).sum(dim=-1).clamp_min(1)).numpy())
