"""How RCML-MISA reads views that are no tables: encoders per view, no kernel experts, no mixup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.estimators.inputs import InputOptions, ViewReaders
from rcml_misa.estimators.preprocessing import Features, Scaling
from rcml_misa.nn import TokenOpinions
from rcml_misa.nn.pretrained import Precision
from rcml_misa.nn.view_encoders import SequenceEncoderKind, ViewEncoder
from rcml_misa.selection import Descent, bucketed_batches, train_selected
from rcml_misa.training import Progress, seeded
from rcml_misa.views import MultiView, ViewKind

__all__ = ["LARGEST_BATCH", "SequenceFit", "has_sequences"]

EPOCHS = 10  # passes over the train rows where none are given
LARGEST_BATCH = 32  # rows: a fine-tuned text encoder wants many steps
AVERAGING = 0.98  # share of the old in the moving average of the weights


def has_sequences(views: MultiView) -> bool:
    """Whether a view is a sequence or a text."""
    return bool({"sequence", "text"} & set(views.kinds))


class SequenceFit:
    """The part of `RCMLMISAClassifier` that trains on sequences and texts.

    Every row of a batch keeps its own inputs, since sequences of different lengths can't be mixed.
    """

    scaling: Scaling
    features: Features
    sequence_encoder: SequenceEncoderKind
    sequence_hidden: int
    text_encoder: str
    text_layers: int | None
    precision: Precision
    epochs: int | None
    batch_size: int
    learning_rate: float
    text_learning_rate: float
    weight_decay: float
    kinds_: tuple[ViewKind, ...]
    device_: torch.device

    def _fit_sequences(
        self,
        views: MultiView,
        target: Tensor,
        *,
        seeds: tuple[int, int],
        build: Callable[[list[ViewEncoder]], nn.Module],
        loss: Callable[[Any, Tensor, float], Mapping[str, Tensor]],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit readers and network to train rows and targets (n, K); the last step counts."""
        with seeded(seeds[0]):
            how = InputOptions(
                scaling=self.scaling,
                features=self.features,
                sequence_encoder=self.sequence_encoder,
                sequence_hidden=self.sequence_hidden,
                text_encoder=self.text_encoder,
                text_layers=self.text_layers,
                precision=self.precision,
            )
            self.readers_ = ViewReaders.fit(views, how, device=self.device_)
            rows = self.readers_.read(views)
            self.module_ = build(self.readers_.encoders()).to(self.device_)
            target = target.to(self.device_)
            chance = np.random.default_rng(seeds[1])
            batch_size = min(self.batch_size, LARGEST_BATCH)
            epochs = EPOCHS if self.epochs is None else self.epochs
            steps = epochs * len(bucketed_batches(rows.lengths, batch_size, chance))
            taken = iter(range(steps))

            def terms(batch: NDArray[np.int64]) -> Mapping[str, Tensor]:
                return loss(self.module_(rows(batch)), target[batch], next(taken) / steps)

            self.history_ = train_selected(
                self.module_,
                terms,
                batches=lambda: bucketed_batches(rows.lengths, batch_size, chance),
                how=Descent(
                    epochs=epochs,
                    batch_size=batch_size,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    slow_rate=self.text_learning_rate,
                    slow=self._pretrained(),
                    averaging=AVERAGING,
                ),
                callback=callback,
            )

    def _pretrained(self) -> tuple[str, ...]:
        """Starts of the names of pretrained encoders' parameters."""
        if self.text_encoder == "words":
            return ()
        texts = [view for view, kind in enumerate(self.kinds_) if kind == "text"]
        return tuple(f"project.encoders.{view}." for view in texts)

    def _sequence_outputs(
        self, views: MultiView, *, size: int = 256, attention: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], TokenOpinions]]:
        """Row numbers and the network's output for them, block by block."""
        rows = self.readers_.read(views)
        for block in rows.blocks(size):
            yield block, self.module_(rows(block), attention=attention)
