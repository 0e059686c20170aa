"""Networks on views that are all tables: reading, training in mixed batches, outputs in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
from rcml_misa.training import (
    EpochCallback,
    Optimisation,
    in_turns,
    permuted_batches,
    seeded,
    train,
)
from rcml_misa.views import MultiView, dense

__all__ = ["Tables", "train_tables"]


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


def train_tables(
    estimator: Any,
    rows: TrainRows,
    loss: Callable[[TokenOpinions, Tensor, float, Tensor | None], Mapping[str, Tensor]],
    *,
    parts: Sequence[Rows],
    seeds: Sequence[np.random.SeedSequence],
    held: TrainRows | None = None,
    callback: EpochCallback | None = None,
    **settings: Any,
) -> None:
    """Set `module_` and `history_` of an estimator with `maps_`: build networks and train them.

    `loss` gives the terms of an output, its targets, the share of training done and the weights.
    `parts` holds the numbers of the rows that each network is trained on. `seeds` are those of the
    mixtures of a batch, of the networks and of the batches; `held` rows select the epoch.
    `settings` go to `Optimisation`.
    """
    device = estimator.device_
    reader = Tables(estimator.maps_, len(estimator.classes_), device)
    mixing, draws = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[2])
    with seeded(int(seeds[1].generate_state(1)[0])):
        estimator.module_ = module = estimator._build().to(device)
        table = reader.read(rows.views, rows.codes)
        present, weights = present_views(rows.views, device), row_tensor(rows.weights, device)

        def terms(turn: tuple[int, Rows], done: float) -> Mapping[str, Tensor]:
            network, batch = turn
            inputs = table(batch)
            presence = None if present is None else present[batch]
            weight = None if weights is None else weights[batch]
            if estimator.mixup:
                share = mixing.beta(estimator.mixup, estimator.mixup)
                share = max(share, 1 - share)  # at least a half is the row itself
                partner = mixing_partners(mixing.permutation(len(batch)), presence).to(device)
                inputs = torch.lerp(inputs[partner], inputs, share)
                weight = None if weight is None else torch.lerp(weight[partner], weight, share)
            output, target = reader.run(module.networks[network], inputs, presence)
            return loss(output, target, done, weight)

        def draw(part: Rows) -> Sequence[Rows]:
            return permuted_batches(len(part), estimator.batch_size_, draws)

        estimator.history_ = train(
            module,
            terms,
            batches=lambda: in_turns(parts, draw),
            settings=Optimisation(
                weight_decay=estimator.weight_decay,
                patience=estimator.patience,
                accumulate=len(parts),
                **settings,
            ),
            validate=None if held is None else _validation(reader, module, held),
            callback=callback,
        )


def _validation(
    reader: Tables, module: nn.Module, held: TrainRows
) -> Callable[[], dict[str, float]]:
    """Mean EDL loss of the fused opinions about held-out rows."""
    table = reader.read(held.views, held.codes)
    present = present_views(held.views, reader.device)
    weights = row_tensor(held.weights, reader.device)

    def validate() -> dict[str, float]:
        output, target = reader.run(module, table(slice(None)), present)
        values = edl_loss(output.fused, target, kl_weight=0.0, reduction="none")
        return {"validation": float(weighted_mean(values, weights))}

    return validate
