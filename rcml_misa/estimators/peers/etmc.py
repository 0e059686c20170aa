"""ETMC, TMC with a pseudo-view."""

from __future__ import annotations

from rcml_misa.estimators.peers.tmc import TMCClassifier
from rcml_misa.nn import PseudoViewNet

__all__ = ["ETMCClassifier"]


class ETMCClassifier(TMCClassifier):
    """Enhanced trusted multi-view classification: TMC and a pseudo-view of all columns.

    The pseudo-view, all views' columns side by side, has a collector of its own; its opinion is
    combined with the views' by Dempster's reduced rule and takes its part in the loss, which is
    TMC's over N + 1 views. A missing view is zeros in the pseudo-view, after scaling. Parameters
    and attributes are those of `TMCClassifier`.

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
