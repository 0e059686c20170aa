"""The classifier of the notes that this project began with, reproduced with its faults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from rcml_misa.estimators.epochs import EpochClassifier
from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
)
from rcml_misa.nn import NotesNet, TokenOpinions
from rcml_misa.reading.features import Scaling
from rcml_misa.training import Device

__all__ = ["NotesClassifier", "notes_loss"]


def notes_loss(
    output: TokenOpinions,
    target: Tensor,
    *,
    kl_weight: float,
    conflict_weight: float,
    sim_weight: float,
    diff_weight: float,
    recon_weight: float,
) -> Tensor:
    """The notes' loss as written: no shared opinion, and CMD's pair sum divided by N.

    Parameters
    ----------
    output : TokenOpinions
    target : Tensor of shape (B, K)
        One-hot classes.
    kl_weight, conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the terms.

    Returns
    -------
    Tensor
        A scalar.
    """
    views = output.private.shape[1]
    opinions = torch.cat([output.fused.unsqueeze(1), output.private], dim=1)
    return (
        edl_loss(opinions, target.unsqueeze(1), kl_weight=kl_weight)
        + conflict_weight * conflict_loss(output.private)
        # fault 4: the mean over pairs times pairs / N
        + sim_weight * similarity_loss(output.shared_codes) * (views - 1) / 2
        + diff_weight * difference_loss(output.private_codes, output.shared_codes)
        + recon_weight * reconstruction_loss(output.reconstructed, output.projected)
    )


class NotesClassifier(EpochClassifier):
    """A reproduction of the notes' RCML-MISA with its five faults; never a default.

    Shared evidence reaches neither the fused opinion nor any loss, the first view's evidence
    holds the sum over views, collectors end in BatchNorm, CMD's pair sum is divided by N, and the
    preset's scaler sees the test rows. `RCMLMISAClassifier` is the method as it should be.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    collectors : {"separate", "tied"}
        Compute the same function, since nothing reads the shared collectors.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling, fitted on the rows given to `fit`.
    epochs, batch_size : int
    learning_rate, weight_decay : float
        Adam's.
    annealing_epochs : int
        Epochs over which the weight of the KL term rises to 1.
    conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the loss's terms.
    device : {"auto", "cpu", "cuda"}
    random_state : int, optional

    Attributes
    ----------
    module_ : NotesNet
    history_ : dict of str to list of float
        Mean loss per epoch.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> NotesClassifier(views=[2, 2], epochs=2, random_state=0).fit(X, y).predict(X).shape
    (150,)
    """

    def __init__(
        self,
        *,
        views: Any = None,
        collectors: Literal["separate", "tied"] = "tied",
        scaling: Scaling = "minmax",
        epochs: int = 500,
        batch_size: int = 200,
        learning_rate: float = 3e-4,
        weight_decay: float = 1e-5,
        annealing_epochs: int = 50,
        conflict_weight: float = 1.0,
        sim_weight: float = 0.8,
        diff_weight: float = 0.3,
        recon_weight: float = 0.8,
        device: Device = "auto",
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.collectors = collectors
        self.scaling = scaling
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.annealing_epochs = annealing_epochs
        self.conflict_weight = conflict_weight
        self.sim_weight = sim_weight
        self.diff_weight = diff_weight
        self.recon_weight = recon_weight
        self.device = device
        self.random_state = random_state

    def _build(self) -> NotesNet:
        tied = self.collectors == "tied"
        return NotesNet(self.widths_, classes=len(self.classes_), tied=tied)

    def _terms(
        self, output: TokenOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        loss = notes_loss(
            output,
            target,
            kl_weight=kl_weight,
            conflict_weight=self.conflict_weight,
            sim_weight=self.sim_weight,
            diff_weight=self.diff_weight,
            recon_weight=self.recon_weight,
        )
        return {"loss": loss}
