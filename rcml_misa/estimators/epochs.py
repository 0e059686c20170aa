"""What the published methods share: scaled columns, whole epochs of Adam, the last one kept."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import (
    EvidentialClassifier,
    MultiViewClassifier,
    MultiViewOpinion,
)
from rcml_misa.estimators.preprocessing import FeatureMap, Scaling
from rcml_misa.opinions import mean_conflict
from rcml_misa.training import Device, Optimisation, Progress, pick_device, seeded, train
from rcml_misa.views import MultiView, dense

__all__ = ["EpochClassifier", "EpochTrainer"]


class EpochTrainer(MultiViewClassifier):
    """Base of the methods trained as their papers do; see the subclasses for the parameters."""

    scaling: Scaling
    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    annealing_epochs: int
    device: Device
    random_state: int | None

    @abstractmethod
    def _build(self) -> nn.Module:
        """A new network for the fitted widths and classes."""

    @abstractmethod
    def _terms(self, output: Any, target: Tensor, kl_weight: float) -> Mapping[str, Tensor]:
        """Named loss terms of a forward pass against one-hot targets (B, K)."""

    def fit(
        self, X: Any, y: ArrayLike, *, callback: Callable[[Progress], None] | None = None
    ) -> Self:
        """Train on views X and one label per row y.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        views, codes = self._check_fit(X, y)
        self.device_ = pick_device(self.device)
        self.maps_ = [
            FeatureMap.fit(array, scaling=self.scaling, features="plain") for array in views.arrays
        ]
        inputs = self._inputs(views)
        onehot = F.one_hot(torch.from_numpy(codes), len(self.classes_)).float().to(self.device_)
        seeds = np.random.SeedSequence(self.random_state).spawn(2)
        annealing = max(self.annealing_epochs, 1)

        def loss(rows: NDArray[np.int64], done: float) -> Mapping[str, Tensor]:
            output = self.module_([view[rows] for view in inputs])
            return self._terms(
                output, onehot[rows], min(1.0, int(done * self.epochs + 1e-9) / annealing)
            )

        with seeded(int(seeds[0].generate_state(1)[0])):
            self.module_ = self._build().to(self.device_)
            self.history_ = train(
                self.module_,
                loss,
                rows=len(codes),
                how=Optimisation(
                    steps=self.epochs * math.ceil(len(codes) / self.batch_size),
                    batch_size=self.batch_size,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    schedule="constant",
                    decoupled=False,
                ),
                rng=np.random.default_rng(seeds[1]),
                callback=callback,
            )
        return self

    def _inputs(self, views: MultiView) -> list[Tensor]:
        return [
            torch.from_numpy(mapping.transform(dense(array))).float().to(self.device_)
            for mapping, array in zip(self.maps_, views.arrays, strict=True)
        ]


class EpochClassifier(EpochTrainer, EvidentialClassifier):
    """Base of those among them whose network gives fused, private and shared evidence."""

    @torch.no_grad()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        output = self.module_(self._inputs(views))
        private = output.private.double().cpu()
        return MultiViewOpinion(
            evidence=output.fused.double().cpu().numpy(),
            views=dict(zip(self.view_names_, private.transpose(0, 1).numpy(), strict=True)),
            shared=output.shared.double().cpu().numpy(),
            conflict=mean_conflict(private).numpy(),
        )
