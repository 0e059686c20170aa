"""Networks on views that are all tables: reading, training in mixed batches, outputs in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.blocks import Blocks
from rcml_misa.estimators.outputs import Rows, mixing_partners, present_views, row_tensor
from rcml_misa.estimators.pools import BatchStream, Turn
from rcml_misa.losses import edl_loss, weighted_mean
from rcml_misa.nn.networks import TokenOpinions
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.rows import InputTable
from rcml_misa.training import (
    Batches,
    EpochCallback,
    Optimisation,
    in_turns,
    permuted_batches,
    seeded,
    train,
)
from rcml_misa.views import MultiView, dense

__all__ = ["Tables", "train_tables"]

EPOCHS = 10  # of a training of some number of steps on a table that is streamed
VALIDATED = 2048  # held-out rows whose outputs are held at once


@dataclass(frozen=True)
class Tables:
    """Reader of views that are all tables: mapped columns, and one-hot classes of train rows."""

    maps: Sequence[ColumnMap]
    classes: int
    device: torch.device

    def read(self, views: MultiView, codes: Rows | None = None) -> InputTable:
        """Lay the columns of rows side by side in float32, and their classes if they are given."""
        classes = 0 if codes is None else self.classes
        return InputTable(self.maps, views.arrays, codes, classes=classes, device=self.device)

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
    blocks: Blocks,
    length: Callable[[int], Mapping[str, int]],
    seeds: Sequence[np.random.SeedSequence],
    held: TrainRows | None = None,
    callback: EpochCallback | None = None,
    **settings: Any,
) -> None:
    """Set `module_` and `history_` of an estimator with `maps_`: build networks and train them.

    `loss` gives the terms of an output, its targets, the share of training done and the weights.
    Each network is kept from two of the `blocks` of rows. `length` gives the training's steps or
    epochs, as `Optimisation` takes them, for the number of steps of a pass over the rows. `seeds`
    are those of the mixtures of a batch, of the networks and of the batches; `held` rows select the
    epoch. `settings` go to `Optimisation`.

    Where the table is too large to be held mapped, batches come from pools of rows (`BatchStream`),
    and steps that are no whole number of passes are divided into ten epochs of like length.
    """
    device = estimator.device_
    reader = Tables(estimator.maps_, len(estimator.classes_), device)
    mixing, draws = np.random.default_rng(seeds[0]), np.random.default_rng(seeds[2])
    with seeded(int(seeds[1].generate_state(1)[0])):
        estimator.module_ = module = estimator._build().to(device)
        table = reader.read(rows.views, rows.codes)
        present, weights = present_views(rows.views, device), row_tensor(rows.weights, device)

        def terms(turn: Turn, done: float) -> Mapping[str, Tensor]:
            network, batch, inputs = turn
            inputs = table(batch) if inputs is None else inputs
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

        size, count = estimator.batch_size_, len(blocks.blocks)
        per_pass = math.ceil((blocks.rows - len(blocks.withheld[0])) / size)
        asked: dict[str, Any] = dict(length(per_pass))
        if table.whole is None:
            stream = BatchStream(table, blocks.withheld, size, draws)
            steps = asked.pop("steps", 0)
            per_epoch = math.ceil(steps / EPOCHS) if steps else per_pass
            asked = {"steps": steps or asked["epochs"] * per_pass}
            batches: Callable[[], Batches[Turn]] = partial(stream.take, per_epoch)
        else:
            batches = partial(_permuted_turns, blocks.parts, size, draws)
        estimator.history_ = train(
            module,
            terms,
            batches=batches,
            settings=Optimisation(
                weight_decay=estimator.weight_decay,
                patience=estimator.patience,
                accumulate=count,
                **asked,
                **settings,
            ),
            validate=None if held is None else _validation(reader, module, held),
            callback=callback,
        )


def _permuted_turns(parts: Sequence[Rows], size: int, draws: np.random.Generator) -> list[Turn]:
    """Draw an epoch of batches of rows that are held mapped."""
    turns = in_turns(parts, lambda part: permuted_batches(len(part), size, draws))
    return [(network, batch, None) for network, batch in turns]


def _validation(
    reader: Tables, module: nn.Module, held: TrainRows
) -> Callable[[], dict[str, float]]:
    """Mean EDL loss of the fused opinions about held-out rows."""
    table = reader.read(held.views, held.codes)
    present = present_views(held.views, reader.device)
    weights = row_tensor(held.weights, reader.device)

    def validate() -> dict[str, float]:
        parts = []
        for start in range(0, table.rows, VALIDATED):
            rows = np.arange(start, min(start + VALIDATED, table.rows))
            presence = None if present is None else present[rows]
            output, target = reader.run(module, table(rows), presence)
            parts.append(edl_loss(output.fused, target, kl_weight=0.0, reduction="none"))
        return {"validation": float(weighted_mean(torch.cat(parts), weights))}

    return validate
