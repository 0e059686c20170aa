"""Networks with an encoder per view of any kind: reading, training, validation, outputs."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.outputs import (
    ROWS,
    Rows,
    TokenEstimator,
    present_views,
    row_tensor,
)
from rcml_misa.exceptions import DataError
from rcml_misa.nn.encoders import ViewInput
from rcml_misa.nn.networks import NetworkMean, TokenOpinions
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.reading.features import Features, Scaling
from rcml_misa.reading.inputs import InputOptions, PreparedViews, ViewReaders
from rcml_misa.training import (
    EpochCallback,
    Optimisation,
    Schedule,
    bucketed_batches,
    in_turns,
    pick_device,
    seeded,
    train,
)
from rcml_misa.views import MultiView, ViewMeans

__all__ = [
    "AnyViews",
    "HeldOut",
    "Labelled",
    "ViewNetworkEstimator",
    "has_sequences",
    "input_options",
    "train_views",
]

PARTS = ("project", "encode")  # of networks, which hold the encoders by kind of view

Labelled: TypeAlias = "tuple[Any, ArrayLike]"
HeldOut: TypeAlias = "tuple[MultiView, Tensor]"


def has_sequences(views: MultiView) -> bool:
    """Tell whether a view is a sequence or a text."""
    return bool({"sequence", "text"} & set(views.kinds))


def input_options(estimator: Any) -> InputOptions:
    """Collect the options of `ViewReaders` from an estimator's parameters of the same names."""
    names = [option.name for option in fields(InputOptions)]
    return InputOptions(**{name: getattr(estimator, name) for name in names})


def train_views(
    estimator: Any,
    views: MultiView,
    loss: Callable[[nn.Module, list[ViewInput], Rows, float], Mapping[str, Tensor]],
    *,
    parts: Sequence[Rows] | None = None,
    seed: np.random.SeedSequence,
    draws: np.random.Generator,
    skipped: int = 0,
    batch_size: int,
    held: MultiView | None = None,
    validate: Callable[[PreparedViews], Mapping[str, float]] | None = None,
    callback: EpochCallback | None = None,
    **settings: Any,
) -> None:
    """Set `readers_`, `module_` and `history_` of an estimator: read train rows, build and train.

    `loss` gives the terms of a batch from a network, the batch's inputs and row numbers and the
    share of training done. `parts` holds the numbers of the rows that each of several networks is
    trained on; without them one is trained on all. `validate` measures the `held` rows once they
    are read. `skipped` epochs of batches are drawn and left out, so that a seed's batches are
    those of version 0.1. `settings` go to `Optimisation` beside the estimator's own parameters.
    """
    texts = [view for view, kind in enumerate(estimator.kinds_) if kind == "text"]
    pretrained = [] if estimator.text_encoder == "words" else texts
    with seeded(int(seed.generate_state(1)[0])):
        estimator.readers_ = ViewReaders.fit(
            views, input_options(estimator), device=estimator.device_
        )
        rows = estimator.readers_.read(views)
        estimator.module_ = module = estimator._build().to(estimator.device_)
        networks = {"": module}
        if isinstance(module, NetworkMean):
            networks = {f"networks.{k}.": network for k, network in enumerate(module.networks)}
        turns = list(networks.values())
        parts = [np.arange(len(rows.lengths))] if parts is None else parts
        measure = None
        if validate is not None and held is not None:
            measure = partial(validate, estimator.readers_.read(held))

        def terms(turn: tuple[int, Rows], done: float) -> Mapping[str, Tensor]:
            network, batch = turn
            return loss(turns[network], rows(batch), batch, done)

        def draw(part: Rows) -> Sequence[Rows]:
            return bucketed_batches(rows.lengths[part], batch_size, draws)

        for _ in range(skipped):
            in_turns(parts, draw)
        accumulate = settings.pop("accumulate", 1) * len(parts)
        starts = [start + part for start in networks for part in PARTS]
        estimator.history_ = train(
            module,
            terms,
            batches=lambda: in_turns(parts, draw),
            settings=Optimisation(
                weight_decay=estimator.weight_decay,
                slow_rate=estimator.text_learning_rate,
                slow=tuple(f"{start}.encoders.{view}." for start in starts for view in pretrained),
                accumulate=accumulate,
                **{"learning_rate": estimator.learning_rate, **settings},
            ),
            validate=measure,
            callback=callback,
        )


def train_classes(
    estimator: Any,
    rows: TrainRows,
    loss: Callable[[TokenOpinions, Tensor, float, Tensor | None], Mapping[str, Tensor]],
    *,
    present: Tensor | None,
    **settings: Any,
) -> None:
    """Train networks of classes by `train_views`, with weights of rows and missing views.

    `loss` gives the terms of an output, its targets, the share of training done and the weights;
    `present` (n, N) tells which views each row has.
    """
    device = estimator.device_
    weights = row_tensor(rows.weights, device)
    codes = torch.from_numpy(rows.codes)
    target = F.one_hot(codes, len(estimator.classes_)).float().to(device)

    def terms(
        network: nn.Module, inputs: list[ViewInput], batch: Rows, done: float
    ) -> Mapping[str, Tensor]:
        presence = None if present is None else present[batch]
        weight = None if weights is None else weights[batch]
        return loss(network(inputs, present=presence), target[batch], done, weight)

    train_views(estimator, rows.views, terms, **settings)


@dataclass(frozen=True)
class AnyViews:
    """Reader of views of any kind for RCML-MISA: train means in place of missing tables."""

    readers: ViewReaders
    means: ViewMeans
    device: torch.device

    def outputs(
        self, module: nn.Module, views: MultiView, size: int, *, attention: bool
    ) -> Iterator[tuple[Rows, TokenOpinions]]:
        """Row numbers of new rows and the network's output for them, in blocks of `size` rows."""
        inputs = self.readers.read(self.means.fill(views))
        present = present_views(views, self.device)
        for rows in inputs.blocks(size):
            presence = None if present is None else present[rows]
            yield rows, module(inputs(rows), present=presence, attention=attention)


@keyword_parameters
class ViewNetworkEstimator(TokenEstimator):
    """Base of MISA and of RCML-MISA for scores: an encoder per view, the best epoch counts."""

    _search: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Span(2e-4, 5e-3, log=True),
        "weight_decay": Span(1e-4, 1e-1, log=True),
        "dropout": Span(0.0, 0.5),
        "hidden": Choice((64, 128, 256)),
        "sim_weight": Span(0.03, 1.0, log=True),
        "diff_weight": Span(0.03, 1.0, log=True),
        "recon_weight": Span(0.1, 3.0, log=True),
    }

    scaling: Scaling = "standard"
    features: Features = "plain"
    hidden: int = 128
    feedforward: int = 256
    skip: bool = True
    sim_weight: float = 0.3
    diff_weight: float = 0.1
    recon_weight: float = 1.0
    own_weight: float = 0.5
    epochs: int = 10
    update_epochs: int = 1
    schedule: Schedule = "cosine"
    clip: float = 0.8
    early_stopping: bool = True
    validation_fraction: float = 0.15
    patience: int | None = 8
    averaging: float = 0.98
    validation_share: float | None = None

    @abstractmethod
    def _build(self) -> nn.Module:
        """A new network for the fitted readers' views."""

    def _fraction(self) -> float:
        """Share of the train rows to hold out, by its older name where that is given."""
        fraction = self.validation_fraction
        if self.validation_share is not None:
            warnings.warn(
                "validation_share is called validation_fraction from 0.2 on and goes in 0.3; "
                "rename it (0 is early_stopping=False).",
                FutureWarning,
                stacklevel=3,
            )
            fraction = self.validation_share
        return fraction if self.early_stopping else 0.0

    def _check_validation(self, validation: Labelled) -> tuple[MultiView, ArrayLike]:
        """Check the rows that `fit` was given for validation, and the number of their targets."""
        views, target = self._check_rows(validation[0]), validation[1]
        target = self._per_row(validation[0], target)
        count = len(target) if isinstance(target, Sized) else 0
        if views.n_samples != count:
            raise DataError(
                f"validation has {views.n_samples} rows but {count} targets; give one per row."
            )
        return views, target

    def _train(
        self,
        views: MultiView,
        target: Tensor,
        held: HeldOut | None,
        callback: EpochCallback | None,
    ) -> None:
        """Fit readers and network; the epoch of the least task loss on held-out rows counts."""
        self.device_ = pick_device(self.device)
        _, seed, draws = np.random.SeedSequence(self.random_state).spawn(3)
        target = target.to(self.device_)
        selecting = held if self.early_stopping else None
        train_views(
            self,
            views,
            lambda network, inputs, batch, _: self._terms(network(inputs), target[batch]),
            seed=seed,
            draws=np.random.default_rng(draws),
            skipped=1,
            batch_size=self.batch_size,
            held=None if selecting is None else selecting[0],
            validate=None if selecting is None else partial(self._validate, selecting[1]),
            callback=callback,
            epochs=self.epochs,
            schedule=self.schedule,
            accumulate=self.update_epochs,
            clip=self.clip,
            # `patience` epochs without a better one are borne, the next one ends the training
            patience=None if self.patience is None else self.patience + 1,
            averaging=self.averaging,
        )

    @torch.no_grad()
    def _validate(self, target: Tensor, rows: PreparedViews) -> dict[str, float]:
        """Means of the loss terms over validation rows; the task's loss selects the epoch."""
        sums: dict[str, float] = {}
        for block in rows.blocks():
            terms = self._terms(self.module_(rows(block)), target[block].to(self.device_))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(block) / len(target)
        task = sums.pop("task")
        sums.pop("loss")
        return {"valid loss": task, **{f"valid {name}": value for name, value in sums.items()}}

    def _outputs(
        self, views: MultiView, *, size: int = ROWS, attention: bool = False
    ) -> Iterator[tuple[Rows, Any]]:
        rows = self.readers_.read(views)
        for block in rows.blocks(size):
            yield block, self.module_(rows(block), attention=attention)
