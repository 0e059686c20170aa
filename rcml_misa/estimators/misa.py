"""MISA, the second parent: private and shared representations, for classes and for scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import column_or_1d
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import MultiViewClassifier, MultiViewRegressor, target_numbers
from rcml_misa.estimators.misa_base import Labelled, MISABase
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.training import Progress

__all__ = ["MISAClassifier", "MISARegressor"]

Array = NDArray[np.float64]


class MISAClassifier(MISABase, MultiViewClassifier):
    """MISA: modality-invariant and -specific representations, for any number and kind of views.

    Every view is encoded by its kind (a table as it is, a sequence by a recurrent network, a text
    by a pretrained or a trained encoder), projected to u_v, and coded twice: privately, and by
    an encoder that all views share. A Transformer layer fuses the 2N codes, and a head reads them
    side by side. Loss = task + sim + diff + recon, each under its weight; the epoch with the
    least task loss on validation rows counts.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    variant : {"full", "base", "inv", "sFusion", "iFusion"}
        The method, or one of the paper's ablations: one encoder per view without subspaces;
        shared codes only (without difference and reconstruction terms); both learned but only
        private, or only shared, codes fused.
    sequence_encoder : {"lstm", "gru", "transformer", "mean", "max", "attention"}
        Of sequence views, and of texts with ``text_encoder="words"``.
    sequence_hidden : int
        Its units (per direction for the recurrent ones, whose output is four times that).
    text_encoder : str
        ``"minilm"`` (packaged; extra `text`), ``"words"`` (a trained embedding, no extra), the
        name of a model on the Hugging Face hub, or a folder with one.
    text_layers : int or None
        Upper layers of a pretrained text encoder that are fine-tuned; 0 freezes it (its vectors
        are then worked out once), None trains all of it.
    precision : {"auto", "float32", "bfloat16"}
        Of the pretrained text encoder; ``"auto"`` is bfloat16 where the processor has it.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling of tables, fitted on train rows. Steps of sequences are standardised.
    features : {"root-layernorm", "root", "plain", "quantile"}
        What a table's scaled columns become; see `rcml_misa.reading.features.FeatureMap`.
    hidden, heads, feedforward : int
        Width H and the Transformer's sizes; the published feed-forward is 2048.
    dropout : float
    view_dropout : float
        Chance of dropping all of a view from a row in training; the last one is never dropped.
    skip : bool
        Add a linear read-out of every u_v to the head, so that a strong view is not lost in the
        fusion; False is the paper's head alone.
    similarity : {"cmd", "adversarial"}
        The term that draws shared codes together: central moment discrepancy, or a discriminator
        behind a reversed gradient.
    task_loss : {"auto", "mae", "mse"}
        Of `MISARegressor`, where ``"auto"`` is ``"mae"``; a classifier's is cross-entropy
        (``"auto"``).
    sim_weight, diff_weight, recon_weight, shared_private_weight : float
        Of similarity, difference, reconstruction, and of the discriminator that tells shared
        from private codes.
    own_weight : float
        Of the task's loss of each view's own linear read-out. What is predicted is then the
        convex mixture of the fused and the views' own predictions with the least loss on
        validation rows, so that a strong view is not lost in the fusion; 0 for the paper's
        fused prediction alone, which also counts where there are no validation rows.
    reversal_weight : float
        Of the reversed gradient.
    epochs, batch_size : int
        Most epochs; batches hold rows of like length.
    update_epochs : int
        Batches whose gradients are accumulated for one step.
    learning_rate, text_learning_rate : float
        AdamW's, the latter for a pretrained text encoder.
    weight_decay : float
        On matrices.
    schedule : {"cosine", "constant"}
        The rate's course over `epochs`: warm-up and cosine, or none.
    clip : float
        Largest absolute value of a gradient's entry; 0 for any.
    early_stopping : bool
        Whether training ends once the loss on validation rows has not fallen for `patience`
        epochs; the best epoch is then kept instead of the last.
    validation_fraction : float
        Share of the train rows held out for it, in (0, 1), where `fit` is given no validation
        rows; unused where `patience` is None.
    patience : int or None
        Epochs without a lower validation loss before training stops; None never stops.
    averaging : float
        Share of the old in a moving average of the weights, which is what is kept; 0 for none.
    validation_share : float, optional
        Older name of `validation_fraction`, taken until 0.3.
    device : {"auto", "cpu", "cuda"}
    random_state : int, optional

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
    module_ : MISANet
    readers_ : ViewReaders
    blend_ : Tensor of shape (1 + N,) or (1,)
        Weights of the fused prediction and of each view's own.
    history_ : dict of str to list of float
        Loss terms per epoch on train rows, and with ``valid`` before the name on validation rows.

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

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X and one label per row y.

        Parameters
        ----------
        X, y
            Train rows.
        validation : pair of views and labels, optional
            Rows that select the epoch.
        callback : callable, optional
            Called after each epoch, when this estimator predicts with the weights that the
            epoch would keep.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        views, codes = self._check_fit(X, y)
        if self.task_loss != "auto":
            raise OptionError(
                f"task_loss={self.task_loss!r} belongs to MISARegressor; a classifier's loss is "
                "cross-entropy, task_loss='auto'."
            )
        target = torch.from_numpy(codes)
        held = self._given(validation)
        if held is None:
            views, target, held = self._held_out(views, target)
        self._train(views, target, held, callback)
        return self

    def _outputs(self) -> int:
        return len(self.classes_)

    def _target(self, y: ArrayLike) -> Tensor:
        labels = column_or_1d(y)
        unknown = set(labels.tolist()) - set(self.classes_.tolist())
        if unknown:
            raise DataError(f"validation has the class {min(unknown)!r}, which no train row has.")
        return torch.from_numpy(np.searchsorted(self.classes_, labels))

    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(prediction, target)

    def predict_proba(self, X: Any) -> Array:
        """Class probabilities of shape (n, K): the softmax of the head, not calibrated."""
        logits = self._predicted(self._check_rows(X))
        return np.asarray(torch.from_numpy(logits).softmax(dim=1).numpy())


class MISARegressor(MISABase, MultiViewRegressor):
    """MISA for a score, such as the intensity of a sentiment.

    The network learns the target standardised with mean and deviation of the train rows. For the
    parameters see `MISAClassifier`.

    Attributes
    ----------
    target_mean_, target_scale_ : float
    module_ : MISANet
    readers_ : ViewReaders
    history_ : dict of str to list of float

    References
    ----------
    Hazarika, Zimmermann and Poria, MISA, ACM MM 2020.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(40, 4)), "b": rng.normal(size=(40, 2, 3))}
    >>> MISARegressor(epochs=2, hidden=16).fit(X, X["a"][:, 0]).predict(X).shape
    (40,)
    """

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X and one number per row y; see `MISAClassifier.fit`.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        views, numbers = self._check_train(X, y)
        views = self._fill(views)
        self._standardise(numbers)
        target = self._target(numbers)
        held = self._given(validation)
        if held is None:
            views, target, held = self._held_out(views, target)
        self._train(views, target, held, callback)
        return self

    def _outputs(self) -> int:
        return 1

    def _target(self, y: ArrayLike) -> Tensor:
        scaled = (target_numbers(y) - self.target_mean_) / self.target_scale_
        return torch.from_numpy(scaled.astype(np.float32))

    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = F.mse_loss if self.task_loss == "mse" else F.l1_loss
        return loss(prediction.squeeze(1), target)

    def predict(self, X: Any) -> Array:
        """Predicted number of each row, of shape (n,)."""
        scores = self._predicted(self._check_rows(X))[:, 0]
        return np.asarray(self.target_mean_ + self.target_scale_ * scores)
