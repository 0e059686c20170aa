"""MISA, the second parent: private and shared representations, for classes and for scores."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import MultiViewClassifier, MultiViewRegressor
from rcml_misa.estimators.outputs import in_row_order, weighted_loss
from rcml_misa.estimators.view_networks import HeldOut, Labelled, ViewNetworkEstimator
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.losses import (
    difference_loss,
    reconstruction_loss,
    shared_private_loss,
    similarity_loss,
    view_confusion_loss,
)
from rcml_misa.nn.misa import MISANet, MISAOutput, MISAVariant
from rcml_misa.options import keyword_parameters
from rcml_misa.reading.inputs import PreparedViews
from rcml_misa.reading.rows import hold_out
from rcml_misa.training import EpochCallback, pick_device
from rcml_misa.views import MultiView

__all__ = ["MISABase", "MISAClassifier", "MISARegressor"]

Array = NDArray[np.float64]
Similarity = Literal["cmd", "adversarial"]
TaskLoss = Literal["auto", "mae", "mse"]
BLEND_STEPS = 200  # of the weights of the fused and the views' own predictions


@keyword_parameters
class MISABase(ViewNetworkEstimator):
    """Base of the classifier and the regressor; `MISAClassifier` lists the parameters."""

    variant: MISAVariant = "full"
    view_dropout: float = 0.0
    similarity: Similarity = "cmd"
    task_loss: TaskLoss = "auto"
    shared_private_weight: float = 0.0
    reversal_weight: float = 0.8

    @abstractmethod
    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """L_task of predictions (B, outputs)."""

    def _fit(
        self,
        views: MultiView,
        target: Tensor,
        validation: Labelled | None,
        callback: EpochCallback | None,
    ) -> None:
        """Train on checked rows, some of which are held out where no validation rows are given."""
        held: HeldOut | None = None
        fraction = self._fraction()
        if validation is not None:
            given, labels = self._check_validation(validation)
            held = given, self._target(labels)
        elif self.patience is not None and fraction:
            seed = np.random.SeedSequence(self.random_state).spawn(3)[0]
            rows, left = hold_out(
                target.numpy(),
                fraction,
                np.random.default_rng(seed),
                each_class=False,
                rounding=math.floor,
                in_order=False,
            )
            if len(rows):
                held = views.take(left), target[left]
                views, target = views.take(rows), target[rows]
        # the fused prediction alone, until the views' own have been trained
        self.blend_ = torch.ones(1, device=pick_device(self.device))
        self._train(views, target, held, callback)
        if held is not None and self.module_.own is not None:
            self.blend_ = self._blended(self.readers_.read(held[0]), held[1])

    def _build(self) -> nn.Module:
        return MISANet(
            self.readers_.encoders(),
            outputs=len(getattr(self, "classes_", ("score",))),
            hidden=self.hidden,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            variant=self.variant,
            adversarial=self.similarity == "adversarial",
            shared_private=self.shared_private_weight > 0,
            reversal_weight=self.reversal_weight,
            view_dropout=self.view_dropout,
            own=self.own_weight > 0,
            skip=self.skip,
        )

    def _terms(self, output: MISAOutput, target: Tensor) -> Mapping[str, Tensor]:
        terms = {"task": self._task_loss(output.prediction, target)}
        weights = {"task": 1.0}
        if self.variant != "base":
            terms["sim"] = (
                similarity_loss(output.shared_codes)
                if output.view_logits is None
                else view_confusion_loss(output.view_logits)
            )
            weights["sim"] = self.sim_weight
        if self.variant not in ("base", "inv"):
            terms["diff"] = difference_loss(output.private_codes, output.shared_codes)
            terms["recon"] = reconstruction_loss(output.reconstructed, output.projected)
            weights |= {"diff": self.diff_weight, "recon": self.recon_weight}
        if output.own is not None:
            own = [self._task_loss(prediction, target) for prediction in output.own.unbind(dim=1)]
            terms["own"] = torch.stack(own).sum()
            weights["own"] = self.own_weight
        if output.kind_logits is not None:
            terms["kinds"] = shared_private_loss(output.kind_logits)
            weights["kinds"] = self.shared_private_weight
        return weighted_loss(terms, {name: weight for name, weight in weights.items() if weight})

    def _blended(self, rows: PreparedViews, target: Tensor) -> Tensor:
        """Weights of the fused and of each view's own prediction, least loss on `rows`."""
        with torch.no_grad():
            parts = torch.cat([_candidates(self.module_(rows(b))) for b in rows.blocks()])
        truth = target[np.concatenate(rows.blocks())].to(parts.device)
        logits = torch.zeros(parts.shape[1], device=parts.device, requires_grad=True)
        descent = torch.optim.Adam([logits], lr=0.1)
        for _ in range(BLEND_STEPS if len(logits) > 1 else 0):
            descent.zero_grad()
            mixed = torch.einsum("c,bco->bo", logits.softmax(dim=0), parts)
            self._task_loss(mixed, truth).backward()  # type: ignore[no-untyped-call]
            descent.step()
        return logits.detach().softmax(dim=0)

    def _predicted(self, views: MultiView) -> Array:
        """The blended prediction (n, outputs) of checked rows."""
        with torch.no_grad():
            (blended,) = in_row_order(
                (rows, [self._blend(output)]) for rows, output in self._outputs(views)
            )
        return np.asarray(blended.double().cpu().numpy())

    def _blend(self, output: MISAOutput) -> Tensor:
        parts = _candidates(output)[:, : len(self.blend_)]
        return torch.einsum("c,bco->bo", self.blend_, parts)


@keyword_parameters
class MISAClassifier(MultiViewClassifier, MISABase):
    """MISA: modality-invariant and -specific representations, for any number and kind of views.

    Every view is encoded by its kind (a table as it is, a sequence by a recurrent network, a text
    by a pretrained or a trained encoder), projected to u_v, and coded twice: privately, and by
    an encoder that all views share. A Transformer layer fuses the 2N codes, and a head reads them
    side by side. Loss = task + sim + diff + recon, each under its weight; the epoch with the
    least task loss on validation rows counts.

    Parameters
    ----------
    variant : {"full", "base", "inv", "sFusion", "iFusion"}
        Method, or one of the paper's ablations: one encoder per view without subspaces;
        shared codes only (without difference and reconstruction terms); both learned but only
        private, or only shared, codes fused.
    dropout : float
        Chance of dropping an entry in the Transformer, the head and the read-outs.
    view_dropout : float
        Chance of dropping all of a view from a row in training; the last one is never dropped.
    skip : bool
        Whether a linear read-out of every u_v is added to the head, so that a strong view is not
        lost in the fusion; False is the paper's head alone.
    similarity : {"cmd", "adversarial"}
        Term that draws shared codes together: central moment discrepancy, or a discriminator
        behind a reversed gradient.
    task_loss : {"auto", "mae", "mse"}
        Loss of `MISARegressor`, where ``"auto"`` is ``"mae"``; a classifier's is cross-entropy
        (``"auto"``).
    sim_weight, diff_weight, recon_weight, shared_private_weight : float
        Weights of similarity, difference, reconstruction, and of the discriminator of shared
        from private codes.
    own_weight : float
        Weight of the task's loss of each view's own linear read-out. The prediction is then the
        convex mixture of the fused and the views' own predictions with the least loss on
        validation rows, so that a strong view is not lost in the fusion; 0 for the paper's
        fused prediction alone, which also counts where there are no validation rows.
    reversal_weight : float
        Weight of the reversed gradient.
    batch_size : int
        Rows of a batch, which are of like length.
    update_epochs : int
        Batches whose gradients are accumulated for one step.
    schedule : {"cosine", "constant"}
        Course of the learning rates over `epochs`: warm-up and cosine, or none.
    clip : float
        Largest absolute value of a gradient's entry; 0 for any.
    early_stopping, validation_fraction
        See `MultiViewEstimator`; rows are held out where `fit` is given no validation rows, and
        `patience` is not None.
    averaging : float
        Share of the previous values in a moving average of the weights, which is what counts;
        0 for none.
    validation_share : float, optional
        Older name of `validation_fraction`, taken until 0.3.
    views, scaling, features, sequence_encoder, sequence_hidden, text_encoder, text_layers
        See `MultiViewEstimator`, as for the following.
    precision, hidden, heads, feedforward, epochs, learning_rate, text_learning_rate, weight_decay
    patience, calibration_fraction, device, random_state

    Attributes
    ----------
    blend_ : Tensor of shape (1 + N,) or (1,)
        Weights of the fused prediction and of each view's own.

    References
    ----------
    Hazarika, Zimmermann and Poria, MISA, ACM MM 2020. The published settings are hidden=128,
    feedforward=2048, skip=False, own_weight=0, averaging=0, learning_rate=1e-4,
    schedule="constant", update_epochs=2 (and task_loss="mse").

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat(["no", "yes"], 20)
    >>> voice = [rng.normal(label == "yes", 1, (rng.integers(2, 6), 3)) for label in y]
    >>> model = MISAClassifier(epochs=2, hidden=16, random_state=0)
    >>> model.fit({"voice": voice, "face": rng.normal(size=(40, 4))}, y).predict_proba(
    ...     {"voice": voice[:3], "face": np.zeros((3, 4))}).shape
    (3, 2)
    """

    calibration_fraction: float = 0.0

    @serves_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: EpochCallback | None = None,
    ) -> Self:
        """Train on views X and one label per row y.

        Parameters
        ----------
        X, y
            Train rows and their labels.
        validation : pair of views and targets, optional
            Rows that select the epoch.
        callback : callable, optional
            Called after each epoch, when this estimator predicts with the weights that the
            epoch would keep.
        """
        rows, apart = self._set_apart(self._check_train(X, y))
        if self.task_loss != "auto":
            raise OptionError(
                f"task_loss={self.task_loss!r} belongs to MISARegressor; a classifier's loss is "
                "cross-entropy, task_loss='auto'."
            )
        self._fit(rows.views, torch.from_numpy(rows.codes), validation, callback)
        self._calibrate(apart)
        return self

    def _target(self, y: ArrayLike) -> Tensor:
        labels = column_or_1d(y)
        unknown = set(labels.tolist()) - set(self.classes_.tolist())
        if unknown:
            raise DataError(f"validation has the class {min(unknown)!r}, which no train row has.")
        return torch.from_numpy(np.searchsorted(self.classes_, labels))

    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target)

    def _stated(self, views: MultiView) -> Array:
        """Compute class probabilities of shape (n, K): the softmax of the head."""
        logits = self._predicted(views)
        return np.asarray(torch.from_numpy(logits).softmax(dim=1).numpy())


class MISARegressor(MultiViewRegressor, MISABase):
    """MISA for a score, such as the intensity of a sentiment.

    The network learns the target standardised with mean and deviation of the train rows. For
    parameters, attributes and the source see `MISAClassifier` and `MultiViewEstimator`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(40, 4)), "b": rng.normal(size=(40, 2, 3))}
    >>> MISARegressor(epochs=2, hidden=16).fit(X, X["a"][:, 0]).predict(X).shape
    (40,)
    """

    @serves_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: EpochCallback | None = None,
    ) -> Self:
        """Train on views X and one number per row y; see `MISAClassifier.fit`."""
        views, target = self._check_train(X, y)
        views = self._fill(views)
        self._standardise(target)
        self._fit(views, self._target(target), validation, callback)
        return self

    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = F.mse_loss if self.task_loss == "mse" else F.l1_loss
        return loss(prediction.squeeze(1), target)

    def predict(self, X: Any) -> Array:
        """Predict the number of each row, of shape (n,)."""
        scores = self._predicted(self._check_rows(X))[:, 0]
        return np.asarray(self.target_mean_ + self.target_scale_ * scores)


def _candidates(output: MISAOutput) -> Tensor:
    """The fused prediction, then each view's own: (B, 1 + N, outputs)."""
    fused = output.prediction.unsqueeze(1)
    return fused if output.own is None else torch.cat([fused, output.own], dim=1)
