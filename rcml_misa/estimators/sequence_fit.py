"""How RCML-MISA reads views that are no tables: encoders per view, no kernel experts, no mixup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration.classes import Calibrator
from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.terms import present_views
from rcml_misa.exceptions import OptionError
from rcml_misa.nn import TokenOpinions
from rcml_misa.nn.encoders import SequenceEncoderKind, ViewEncoder
from rcml_misa.nn.pretrained import Precision
from rcml_misa.reading.features import Features, Scaling
from rcml_misa.reading.inputs import InputOptions, ViewReaders
from rcml_misa.training import Optimisation, Progress, bucketed_batches, seeded, train
from rcml_misa.views import MultiView, ViewKind, ViewMeans

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
    early_stopping: bool
    kinds_: tuple[ViewKind, ...]
    device_: torch.device

    def _fit_sequences(
        self,
        train_rows: TrainRows,
        *,
        seeds: Sequence[np.random.SeedSequence],
        build: Callable[[list[ViewEncoder]], nn.Module],
        loss: Callable[[Any, Tensor, float, Tensor | None], Mapping[str, Tensor]],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit readers, network and calibration to train rows; the last step counts.

        Raises
        ------
        OptionError
            If early stopping is asked for.
        """
        _, _, module_seed, order_seed, _ = (int(seed.generate_state(1)[0]) for seed in seeds)
        if self.early_stopping:
            raise OptionError(
                "early_stopping=True is for tables alone; with a sequence or a text leave it out, "
                "or pool that view with MultiView.pooled()."
            )
        views = train_rows.views
        self.view_means_ = ViewMeans.fit(views)
        present = present_views(views, self.device_)
        codes = torch.from_numpy(train_rows.codes)
        target = F.one_hot(codes, int(codes.max()) + 1).float().to(self.device_)
        weights = None
        if train_rows.weights is not None:
            weights = torch.from_numpy(train_rows.weights).float().to(self.device_)
        with seeded(module_seed):
            how = InputOptions(
                scaling=self.scaling,
                features=self.features,
                sequence_encoder=self.sequence_encoder,
                sequence_hidden=self.sequence_hidden,
                text_encoder=self.text_encoder,
                text_layers=self.text_layers,
                precision=self.precision,
            )
            filled = self.view_means_.fill(views)
            self.readers_ = ViewReaders.fit(filled, how, device=self.device_)
            rows = self.readers_.read(filled)
            self.module_ = build(self.readers_.encoders()).to(self.device_)
            chance = np.random.default_rng(order_seed)
            batch_size = min(self.batch_size, LARGEST_BATCH)

            def batches() -> list[NDArray[np.int64]]:
                return bucketed_batches(rows.lengths, batch_size, chance)

            def terms(batch: NDArray[np.int64], done: float) -> Mapping[str, Tensor]:
                there = None if present is None else present[batch]
                weight = None if weights is None else weights[batch]
                output = self.module_(rows(batch), present=there)
                return loss(output, target[batch], done, weight)

            for _ in range(2):  # drawn and left out: a seed's batches are those of version 0.1
                batches()
            self.history_ = train(
                self.module_,
                terms,
                batches=batches,
                settings=Optimisation(
                    epochs=EPOCHS if self.epochs is None else self.epochs,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    slow_rate=self.text_learning_rate,
                    slow=self._pretrained(),
                    averaging=AVERAGING,
                ),
                callback=callback,
            )

        with torch.inference_mode():
            evidence = self._sequence_states(views)[0].double().cpu().numpy()
        self.calibrator_ = Calibrator.fit(evidence, train_rows.codes, train_rows.weights)

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
        rows = self.readers_.read(self.view_means_.fill(views))
        present = present_views(views, self.device_)
        for block in rows.blocks(size):
            there = None if present is None else present[block]
            yield block, self.module_(rows(block), present=there, attention=attention)

    def _sequence_states(self, views: MultiView) -> tuple[Tensor, Tensor, Tensor]:
        """Fused, private and shared evidence of all rows."""
        order, outputs = zip(*self._sequence_outputs(views), strict=True)
        back = np.argsort(np.concatenate(order))
        fused, private, shared = (
            torch.cat([getattr(output, part) for output in outputs])[back]
            for part in ("fused", "private", "shared")
        )
        return fused, private, shared
