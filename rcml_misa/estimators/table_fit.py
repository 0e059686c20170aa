"""How RCML-MISA reads views that are all tables: kernel experts, mixup, one table of inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration.classes import Calibrator
from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.terms import mixing_partners, present_views
from rcml_misa.experts.kernels import KernelChoice
from rcml_misa.experts.ridge import blocks
from rcml_misa.experts.view_experts import ExpertLogits, ViewExperts
from rcml_misa.losses import edl_loss, weighted_mean
from rcml_misa.nn import Sharing, TokenOpinions
from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.reading.rows import InputTable
from rcml_misa.training import Optimisation, Progress, permuted_batches, seeded, train
from rcml_misa.views import MultiView, dense

__all__ = ["TableFit"]

# least steps, and passes over the train rows where those take more: a network that starts at its
# experts has less to learn
LENGTH = {"kernel": (100, 6), "none": (400, 20)}


class TableFit:
    """The part of `RCMLMISAClassifier` that trains on tables."""

    collectors: Sharing
    stacking: bool
    expert: Literal["kernel", "none"]
    landmarks: int
    kernel: KernelChoice
    scaling: Scaling
    features: Features
    mixup: float
    epochs: int | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    patience: int
    classes_: NDArray[Any]
    device_: torch.device
    experts_: ViewExperts | None
    stack_: NDArray[np.float64] | None
    module_: Any

    if TYPE_CHECKING:  # `MultiViewClassifier` has it

        def _hold_out(
            self, rows: TrainRows, rng: np.random.Generator
        ) -> tuple[TrainRows, TrainRows | None]: ...

    def _fit_tables(
        self,
        everything: TrainRows,
        *,
        seeds: Sequence[np.random.SeedSequence],
        build: Callable[[], nn.Module],
        loss: Callable[[Any, Tensor, float, Tensor | None], Mapping[str, Tensor]],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit experts, network and calibration to train rows; see `RCMLMISAClassifier.fit`."""
        expert_seed, _, module_seed, _, _ = (int(seed.generate_state(1)[0]) for seed in seeds)
        rows, held = self._hold_out(everything, np.random.default_rng(seeds[4]))
        views, codes = rows.views, rows.codes
        logits = self._fit_experts(rows, expert_seed)
        self.maps_ = [
            FeatureMap.fit(array, scaling=self.scaling, features=self.features)
            for array in views.arrays
        ]
        table = self._table(rows, logits)
        self.input_widths_ = table.widths
        present, weights = present_views(views, self.device_), self._weights(rows)
        mixing, rng = np.random.default_rng(seeds[1]), np.random.default_rng(seeds[3])
        if logits is not None and self.stacking:
            joint = self.collectors != "private"
            self.stack_ = logits.stack(codes, weights=rows.weights, joint=joint)

        def terms(some: NDArray[np.int64], done: float) -> Mapping[str, Tensor]:
            batch = table(some)
            there = None if present is None else present[some]
            weight = None if weights is None else weights[some]
            if self.mixup:
                drawn = mixing.beta(self.mixup, self.mixup)
                share = max(drawn, 1 - drawn)
                partner = mixing_partners(mixing.permutation(len(some)), there).to(self.device_)
                batch = torch.lerp(batch[partner], batch, share)
                weight = None if weight is None else torch.lerp(weight[partner], weight, share)
            return loss(*self._forward(batch, there), done, weight)

        with seeded(module_seed):
            self.module_ = build().to(self.device_)
            self.history_ = train(
                self.module_,
                terms,
                batches=lambda: permuted_batches(len(codes), self.batch_size, rng),
                settings=Optimisation(
                    steps=self._steps(len(codes)),
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    fast=("slope", "offset"),
                    patience=self.patience,
                ),
                validate=None if held is None else self._validation(held),
                callback=callback,
            )
        with torch.no_grad():
            opinions = [
                self._forward(table(some), None if present is None else present[some])[0].fused
                for some in blocks(len(codes))
            ]
        evidence = torch.cat(opinions).double().cpu().numpy()
        self.calibrator_ = Calibrator.fit(evidence, codes, rows.weights)

    def _validation(self, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean EDL loss of the fused opinions about held-out rows."""
        logits = None if self.experts_ is None else self.experts_.logits(held.views)
        table, present = self._table(held, logits), present_views(held.views, self.device_)
        weights = self._weights(held)

        def validate() -> dict[str, float]:
            output, target = self._forward(table(slice(None)), present)
            values = edl_loss(output.fused, target, kl_weight=0.0, reduction="none")
            return {"validation": float(weighted_mean(values, weights))}

        return validate

    def _table(self, rows: TrainRows, logits: ExpertLogits | None) -> InputTable:
        onehot = F.one_hot(torch.from_numpy(rows.codes), len(self.classes_)).float()
        others = [*_logit_tensors(logits), onehot]
        return InputTable(self.maps_, rows.views.arrays, others, device=self.device_)

    def _weights(self, rows: TrainRows) -> Tensor | None:
        if rows.weights is None:
            return None
        return torch.from_numpy(rows.weights).float().to(self.device_)

    def _steps(self, rows: int) -> int:
        if self.epochs is not None:
            return self.epochs * math.ceil(rows / self.batch_size)
        least, passes = LENGTH[self.expert]
        return max(least, math.ceil(passes * rows / self.batch_size))

    def _fit_experts(self, rows: TrainRows, seed: int) -> ExpertLogits | None:
        if self.expert == "none":
            return None
        self.experts_ = ViewExperts(
            landmarks=self.landmarks, kernel=self.kernel, scaling=self.scaling, random_state=seed
        ).fit(rows.views, rows.codes, weights=rows.weights)
        return self.experts_.train_logits_

    def _forward(
        self, table: Tensor, present: Tensor | None = None, *, attention: bool = False
    ) -> tuple[TokenOpinions, Tensor]:
        """Cut a table of inputs, logits and targets, run the network; opinions and the rest."""
        count, classes = len(self.input_widths_), len(self.classes_)
        experts = [] if self.experts_ is None else [count * classes, classes]
        sizes = [*self.input_widths_, *experts]
        parts = torch.split(table, [*sizes, table.shape[1] - sum(sizes)], dim=1)
        views, rest = parts[:count], parts[-1]
        if not experts:
            return self.module_(views, present=present, attention=attention), rest
        logits, joint = parts[count].reshape(-1, count, classes), parts[count + 1]
        return self.module_(views, logits, joint, present, attention=attention), rest

    def _table_outputs(
        self, views: MultiView, *, size: int, attention: bool
    ) -> Iterator[tuple[NDArray[np.int64], TokenOpinions]]:
        """Row numbers and the network's output for them, block by block."""
        logits = None if self.experts_ is None else self.experts_.logits(views)
        others, present = _logit_tensors(logits), present_views(views, self.device_)
        table = InputTable(self.maps_, views.arrays, others, device=self.device_)
        for start in range(0, views.n_samples, size):
            rows = np.arange(start, min(start + size, views.n_samples))
            there = None if present is None else present[rows]
            yield rows, self._forward(table(rows), there, attention=attention)[0]

    def _table_states(self, views: MultiView) -> tuple[Tensor, Tensor, Tensor]:
        """Fused, private and shared evidence of all rows, the fused one as far as it is trusted."""
        logits = None if self.experts_ is None else self.experts_.logits(views)
        inputs = [
            torch.from_numpy(one.transform(dense(array), np.float32)).to(self.device_)
            for one, array in zip(self.maps_, views.arrays, strict=True)
        ]
        known = [] if logits is None else [logits.views, logits.joint]
        output = self.module_(
            inputs,
            *(torch.from_numpy(one.astype(np.float32)).to(self.device_) for one in known),
            present=present_views(views, self.device_),
        )
        fused = output.fused.double().cpu()
        if logits is not None:
            fused *= torch.from_numpy(logits.trust[:, None])
        return fused, output.private, output.shared


def _logit_tensors(logits: ExpertLogits | None) -> list[Tensor]:
    if logits is None:
        return []
    return [
        torch.from_numpy(values.reshape(len(values), -1).astype(np.float32))
        for values in (logits.views, logits.joint)
    ]
