"""What the published methods share: scaled columns, whole epochs of Adam, the last one kept."""

from __future__ import annotations

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
    TrainRows,
)
from rcml_misa.estimators.terms import present_views
from rcml_misa.losses import edl_loss, weighted_mean
from rcml_misa.opinions import mean_conflict
from rcml_misa.reading.features import FeatureMap, Scaling
from rcml_misa.training import (
    Device,
    Optimisation,
    Progress,
    permuted_batches,
    pick_device,
    seeded,
    train,
)
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
    patience: int = 10
    device: Device
    random_state: int | None

    @abstractmethod
    def _build(self) -> nn.Module:
        """A new network for the fitted widths and classes."""

    @abstractmethod
    def _terms(self, output: Any, target: Tensor, kl_weight: float) -> Mapping[str, Tensor]:
        """Named loss terms of a forward pass against one-hot targets (B, K)."""

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X, one label per row y and weights of the rows.

        Rows with weights are drawn into batches with chances in proportion to them.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        everything = self._check_train(X, y, sample_weight)
        self.device_ = pick_device(self.device)
        seeds = np.random.SeedSequence(self.random_state).spawn(3)
        rows, held = self._hold_out(everything, np.random.default_rng(seeds[2]))
        self.maps_ = [
            FeatureMap.fit(array, scaling=self.scaling, features="plain")
            for array in rows.views.arrays
        ]
        inputs, present = self._inputs(rows.views), present_views(rows.views, self.device_)
        onehot = self._onehot(rows)
        annealing = max(self.annealing_epochs, 1)
        rng = np.random.default_rng(seeds[1])

        def loss(some: NDArray[np.int64], done: float) -> Mapping[str, Tensor]:
            output = self._run(
                [view[some] for view in inputs], None if present is None else present[some]
            )
            return self._terms(
                output, onehot[some], min(1.0, int(done * self.epochs + 1e-9) / annealing)
            )

        with seeded(int(seeds[0].generate_state(1)[0])):
            self.module_ = self._build().to(self.device_)
            self.history_ = train(
                self.module_,
                loss,
                batches=lambda: permuted_batches(
                    len(rows.codes), self.batch_size, rng, rows.weights
                ),
                settings=Optimisation(
                    steps=self.epochs * len(range(0, len(rows.codes), self.batch_size)),
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    schedule="constant",
                    decoupled=False,
                    patience=self.patience,
                ),
                validate=None if held is None else self._validation(held),
                callback=callback,
            )
        return self

    def _validation(self, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean EDL loss of the fused opinions about held-out rows."""
        inputs, present = self._inputs(held.views), present_views(held.views, self.device_)
        onehot = self._onehot(held)
        weights = None if held.weights is None else torch.from_numpy(held.weights).to(self.device_)

        def validate() -> dict[str, float]:
            fused = self._run(inputs, present).fused
            values = edl_loss(fused, onehot, kl_weight=0.0, reduction="none")
            return {"validation": float(weighted_mean(values, weights))}

        return validate

    def _onehot(self, rows: TrainRows) -> Tensor:
        codes = torch.from_numpy(rows.codes)
        return F.one_hot(codes, len(self.classes_)).float().to(self.device_)

    def _inputs(self, views: MultiView) -> list[Tensor]:
        return [
            torch.from_numpy(mapping.transform(dense(array))).float().to(self.device_)
            for mapping, array in zip(self.maps_, views.arrays, strict=True)
        ]

    def _run(self, inputs: list[Tensor], present: Tensor | None) -> Any:
        """Run the network; one that knows nothing of missing views is never given any."""
        return self.module_(inputs) if present is None else self.module_(inputs, present)


class EpochClassifier(EpochTrainer, EvidentialClassifier):
    """Base of those among them whose network gives fused, private and shared evidence."""

    @torch.inference_mode()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        present = present_views(views, self.device_)
        output = self._run(self._inputs(views), present)
        private = output.private.double().cpu()
        conflict = mean_conflict(private, None if present is None else present.cpu())
        return MultiViewOpinion(
            evidence=output.fused.double().cpu().numpy(),
            views=dict(zip(self.view_names_, private.transpose(0, 1).numpy(), strict=True)),
            shared=output.shared.double().cpu().numpy(),
            conflict=conflict.numpy(),
        )
