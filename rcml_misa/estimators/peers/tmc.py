"""TMC and ETMC, trusted multi-view classification by Dempster's reduced rule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rcml_misa.estimators.published import EpochClassifier
from rcml_misa.losses import edl_loss
from rcml_misa.nn import PseudoViewNet, RCMLNet
from rcml_misa.options import keyword_parameters

__all__ = ["ETMCClassifier", "TMCClassifier"]


@keyword_parameters
class TMCClassifier(EpochClassifier):
    """Trusted multi-view classification: one evidence collector per view, combined by Dempster.

    Beliefs b and uncertainties u of two opinions give b_k = (b1_k b2_k + b1_k u2 + b2_k u1) /
    (1 - C) and u = u1 u2 / (1 - C), C = sum_{i != j} b1_i b2_j. Minimises the sum over the
    views and the combined opinion of the digamma EDL loss with annealed KL term, with Adam, and
    keeps the last epoch.

    Parameters
    ----------
    hidden : tuple of int
        Widths of the collectors' hidden layers; the published code has none.
    learning_rate, weight_decay : float
        Settings of Adam; the decay is added to the gradient.
    annealing_epochs : int
        Epochs over which the weight of the KL term rises to 1.
    dropout : float
        Chance of dropping a hidden unit.
    views, scaling, epochs, batch_size, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    module_ : RCMLNet

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
        return PseudoViewNet(
            self.widths_,
            classes=len(self.classes_),
            hidden=self.hidden,
            dropout=self.dropout,
        )
