"""BML: logits of views weighed by reliabilities that are learnt from exchanged views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import TrainRows, row_blocks
from rcml_misa.estimators.outputs import weighted_loss
from rcml_misa.estimators.published import EpochTrainer
from rcml_misa.losses import weighted_mean
from rcml_misa.nn.reliability import ReliabilityNet, ReliabilityOutput
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.protocols import shuffled_rows
from rcml_misa.training import Schedule
from rcml_misa.views import MultiView

__all__ = ["BMLClassifier"]

Array = NDArray[np.float64]


@keyword_parameters
class BMLClassifier(EpochTrainer):
    """Bootstrapping multi-view learning: views weighed by whether they seem to belong to the row.

    In every epoch a share of the train rows exchange up to half of their views among themselves,
    as in the test sets ``shuffle:RATE``. Fused logits are sum_v r_v logits_v. Minimises their
    cross-entropy plus `reliability_weight` times the mean binary cross-entropy of the
    reliabilities r_v in (0, 1) against whether the view is of the row's class, with Adam, whose
    learning rate falls by a cosine to 0, and keeps the last epoch.

    It states no Dirichlet opinion. `predict_proba` is the softmax of the fused logits.

    Parameters
    ----------
    encoder_width, encoder_depth : int
        Width and number of the layers of Linear, BatchNorm, ReLU and dropout of each view.
    encoder_dropout : float
        Chance of dropping an entry of a layer's output.
    shuffle_rate : float
        Share of the train rows that exchange views in an epoch, in [0, 1].
    reliability_weight : float
        Weight of the reliabilities' loss.
    learning_rate, weight_decay
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    module_ : ReliabilityNet

    References
    ----------
    Bootstrapping Multi-view Learning for Test-time Noisy Correspondence, CVPR 2026; where the paper
    leaves settings open, as its published code does.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BMLClassifier(views=[2, 2], epochs=5, encoder_width=16, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.predict_reliability(X).shape
    ((150, 3), (150, 2))
    """

    _leaves_out_missing: ClassVar[bool] = True
    _schedule: ClassVar[Schedule] = "cosine"

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochTrainer._search,
        "encoder_width": Choice((256, 512, 1024)),
        "encoder_depth": Span(1, 3),
        "encoder_dropout": Span(0.1, 0.6),
        "shuffle_rate": Span(0.0, 0.8),
        "reliability_weight": Span(0.1, 3.0, log=True),
    }

    encoder_width: int = 1024
    encoder_depth: int = 3
    encoder_dropout: float = 0.5
    shuffle_rate: float = 0.5
    reliability_weight: float = 1.0
    epochs: int = 200
    batch_size: int = 2048
    learning_rate: float = 2e-3
    weight_decay: float = 0.0

    def _build(self) -> ReliabilityNet:
        return ReliabilityNet(
            self.widths_,
            classes=len(self.classes_),
            width=self.encoder_width,
            depth=self.encoder_depth,
            dropout=self.encoder_dropout,
        )

    def _batches(self, rows: TrainRows, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        sources = shuffled_rows(rows.views.present, rate=self.shuffle_rate, rng=rng)
        numbers = np.column_stack([np.arange(len(sources)), sources])
        return [numbers[batch] for batch in super()._batches(rows, rng)]

    def _terms(
        self,
        output: ReliabilityOutput,
        target: Tensor,
        kl_weight: float,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        own, of_views = target[:, 0], target[:, 1:]
        belongs = (own.unsqueeze(1) * of_views).sum(dim=-1)
        each = F.binary_cross_entropy(output.reliability, belongs, reduction="none")
        counted = None if output.present is None else output.present.to(each.dtype)
        terms = {
            "cross_entropy": F.cross_entropy(output.fused, own),
            "reliability": weighted_mean(each, counted),
        }
        return weighted_loss(terms, {"cross_entropy": 1.0, "reliability": self.reliability_weight})

    @torch.inference_mode()
    def _outputs(self, views: MultiView) -> tuple[Array, Array]:
        """Fused logits (n, K) and reliabilities (n, N) of checked rows."""
        outputs = [
            self._run(self._inputs(block), self._presence(block)) for block in row_blocks(views)
        ]
        fused = torch.cat([output.fused for output in outputs])
        reliability = torch.cat([output.reliability for output in outputs])
        return fused.double().cpu().numpy(), reliability.double().cpu().numpy()

    def _stated(self, views: MultiView) -> Array:
        return np.asarray(softmax(self._outputs(views)[0], axis=1))

    def predict_uncertainty(self, X: Any) -> Array:
        """Compute 1 minus the largest probability, (n,), in [0, 1 - 1/K]; the paper has none."""
        return np.asarray(1 - self.predict_proba(X).max(axis=1))

    def predict_reliability(self, X: Any) -> Array:
        """Compute the views' reliabilities, (n, N), in [0, 1]; 0 where a view is missing."""
        return self._outputs(self._check_rows(X))[1]
