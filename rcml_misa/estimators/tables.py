"""Networks on views that are all tables: reading, training in mixed batches, outputs in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.outputs import Rows, mixing_partners, present_views, row_tensor
from rcml_misa.losses import edl_loss, weighted_mean
from rcml_misa.nn.networks import TokenOpinions
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.rows import InputTable
from rcml_misa.training import History, Optimisation, Progress, permuted_batches, train
from rcml_misa.views import MultiView, dense

__all__ = ["TableTrainer", "Tables"]


@dataclass(frozen=True)
class Tables:
    """Reader of views that are all tables: mapped columns, and one-hot classes of train rows."""

    maps: Sequence[ColumnMap]
    classes: int
    device: torch.device

    def read(self, views: MultiView, codes: Rows | None = None) -> InputTable:
        """Lay the columns of rows side by side in float32, and their classes if they are given."""
        others = [] if codes is None else [F.one_hot(torch.from_numpy(codes), self.classes).float()]
        return InputTable(self.maps, views.arrays, others, device=self.device)

    def run(
        self, module: nn.Module, batch: Tensor, present: Tensor | None
    ) -> tuple[TokenOpinions, Tensor]:
        """Cut rows of `read` and run the network on them; its output, and the rows' classes."""
        sizes = [columns.width for columns in self.maps]
        *views, rest = torch.split(batch, [*sizes, batch.shape[1] - sum(sizes)], dim=1)
        return module(views, present), rest

    def outputs(
        self, module: nn.Module, views: MultiView, size: int, *, attention: bool
    ) -> Iterator[tuple[Rows, TokenOpinions]]:
        """Row numbers of new rows and the network's output for them, in blocks of `size` rows."""
        present = present_views(views, self.device)
        for start in range(0, views.n_samples, size):
            rows = np.arange(start, min(start + size, views.n_samples))
            inputs = [
                torch.from_numpy(columns.transform(dense(array, rows), np.float32)).to(self.device)
                for columns, array in zip(self.maps, views.arrays, strict=True)
            ]
            presence = None if present is None else present[rows]
            yield rows, module(inputs, presence, attention=attention)


@dataclass(frozen=True, kw_only=True)
class TableTrainer:
    """Trainer of a network on rows of a `Tables` reader, in batches that may be mixed.

    `loss` gives the terms of an output, its targets, the share of training done and the weights.
    """

    reader: Tables
    settings: Optimisation
    batch_size: int
    mixup: float
    loss: Callable[[TokenOpinions, Tensor, float, Tensor | None], Mapping[str, Tensor]]

    def train(
        self,
        module: nn.Module,
        rows: TrainRows,
        *,
        mixing: np.random.Generator,
        draws: np.random.Generator,
        held: TrainRows | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> History:
        """Train `module` in place on train rows; `held` rows select the epoch.

        `mixing` draws the mixtures of a batch, `draws` the batches.
        """
        device, table = self.reader.device, self.reader.read(rows.views, rows.codes)
        present, weights = present_views(rows.views, device), row_tensor(rows.weights, device)

        def terms(batch: Rows, done: float) -> Mapping[str, Tensor]:
            inputs = table(batch)
            presence = None if present is None else present[batch]
            weight = None if weights is None else weights[batch]
            if self.mixup:
                share = mixing.beta(self.mixup, self.mixup)
                share = max(share, 1 - share)  # at least a half is the row itself
                partner = mixing_partners(mixing.permutation(len(batch)), presence).to(device)
                inputs = torch.lerp(inputs[partner], inputs, share)
                weight = None if weight is None else torch.lerp(weight[partner], weight, share)
            return self.loss(*self.reader.run(module, inputs, presence), done, weight)

        return train(
            module,
            terms,
            batches=lambda: permuted_batches(len(rows.codes), self.batch_size, draws),
            settings=self.settings,
            validate=None if held is None else self._validation(module, held),
            callback=callback,
        )

    def _validation(self, module: nn.Module, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean EDL loss of the fused opinions about held-out rows."""
        table = self.reader.read(held.views, held.codes)
        present = present_views(held.views, self.reader.device)
        weights = row_tensor(held.weights, self.reader.device)

        def validate() -> dict[str, float]:
            output, target = self.reader.run(module, table(slice(None)), present)
            values = edl_loss(output.fused, target, kl_weight=0.0, reduction="none")
            return {"validation": float(weighted_mean(values, weights))}

        return validate
