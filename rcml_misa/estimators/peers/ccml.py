"""CCML, consistent and complementary evidence apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from rcml_misa.estimators.published import EpochClassifier
from rcml_misa.losses import edl_loss
from rcml_misa.nn import CCMLNet, DecoupledOpinions
from rcml_misa.options import keyword_parameters

__all__ = ["CCMLClassifier"]


@keyword_parameters
class CCMLClassifier(EpochClassifier):
    """Consistent and complementary-aware trusted multi-view learning.

    The views' evidence is decoupled into the part that all views have, sharpened by the exponent
    beta and counted once per view, and the mean of the rest; the fused evidence is the sum
    of both (`rcml_misa.nn.decouple_evidence`). Minimises, with Adam, last epoch kept,
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
    learning_rate, weight_decay : float
        Settings of Adam; the decay is added to the gradient.
    annealing_epochs : int
        Epochs over which lambda_t rises to 1.
    views, scaling, epochs, batch_size, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    module_ : CCMLNet

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
