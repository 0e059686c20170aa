"""RCML (its method is called ECML), the first parent and first peer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from rcml_misa.estimators.base import ClassWeight
from rcml_misa.estimators.epochs import EpochClassifier
from rcml_misa.estimators.terms import evidential_terms
from rcml_misa.nn import RCMLNet, ViewOpinions
from rcml_misa.opinions import FusionOperator
from rcml_misa.reading.features import Scaling
from rcml_misa.training import Device

__all__ = ["RCMLClassifier"]


class RCMLClassifier(EpochClassifier):
    """Reliable conflictive multi-view learning: one evidence collector per view, averaged.

    Minimises the mean EDL loss of the fused and of the views' opinions plus `conflict_weight`
    times the degree of conflict between views, with Adam, and keeps the last epoch.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    fusion : {"mean", "pairwise", "geometric", "cumulative", "dempster"}
        ``"mean"`` is the paper's Definition 1 and does not depend on the order of views;
        ``"pairwise"`` folds e <- (e_v + e) / 2 as the published code does.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling, fitted on train rows.
    hidden : tuple of int
        Widths of the collectors' hidden layers; the published code has none.
    epochs, batch_size : int
    learning_rate, weight_decay : float
        Adam's; the decay is added to the gradient.
    conflict_weight : float
        gamma.
    annealing_epochs : int
        Epochs over which the weight of the KL term rises to 1.
    dropout : float
        Chance of dropping a hidden unit.
    class_weight : {"balanced"}, dict or None
        Weights of the classes' rows; see `rcml_misa.reading.rows.row_weights`.
    early_stopping : bool
        Whether training ends once the loss on held-out train rows has not fallen for `patience`
        epochs; the best epoch is then kept instead of the last.
    validation_fraction : float
        Share of the train rows held out for it.
    patience : int
    device : {"auto", "cpu", "cuda"}
    random_state : int, optional

    Attributes
    ----------
    module_ : RCMLNet
    history_ : dict of str to list of float
        Mean of each loss term per epoch.

    References
    ----------
    Xu, Si, Guan, Zhao, Wu and Gao, Reliable conflictive multi-view learning, AAAI 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RCMLClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> model.predict_opinion(X).evidence.shape
    (150, 3)
    """

    _leaves_out_missing: ClassVar[bool] = True

    def __init__(
        self,
        *,
        views: Any = None,
        fusion: FusionOperator = "mean",
        scaling: Scaling = "minmax",
        hidden: tuple[int, ...] = (),
        epochs: int = 500,
        batch_size: int = 200,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-5,
        conflict_weight: float = 1.0,
        annealing_epochs: int = 50,
        dropout: float = 0.1,
        class_weight: ClassWeight = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: Device = "auto",
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.fusion = fusion
        self.scaling = scaling
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.conflict_weight = conflict_weight
        self.annealing_epochs = annealing_epochs
        self.dropout = dropout
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def _build(self) -> RCMLNet:
        return RCMLNet(
            self.widths_,
            classes=len(self.classes_),
            hidden=self.hidden,
            dropout=self.dropout,
            fusion=self.fusion,
        )

    def _terms(
        self, output: ViewOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        terms = evidential_terms(output, target, kl_weight=kl_weight)
        return {"loss": terms["edl"] + self.conflict_weight * terms["conflict"], **terms}
