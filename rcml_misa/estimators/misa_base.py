"""What MISA's classifier and regressor share: parameters, loss, training, features."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from rcml_misa.estimators.base import MultiViewEstimator
from rcml_misa.estimators.inspection import TokenInspection
from rcml_misa.exceptions import DataError
from rcml_misa.losses import (
    difference_loss,
    reconstruction_loss,
    shared_private_loss,
    similarity_loss,
    view_confusion_loss,
)
from rcml_misa.nn.encoders import SequenceEncoderKind, ViewEncoder
from rcml_misa.nn.misa import MISANet, MISAOutput, MISAVariant
from rcml_misa.nn.pretrained import Precision
from rcml_misa.reading.features import Features, Scaling
from rcml_misa.reading.inputs import InputOptions, PreparedViews, ViewReaders
from rcml_misa.training import (
    Device,
    Optimisation,
    Progress,
    Schedule,
    bucketed_batches,
    pick_device,
    seeded,
    train,
)
from rcml_misa.views import MultiView

__all__ = ["Labelled", "MISABase", "check_pairs"]

Array = NDArray[np.float64]
Similarity = Literal["cmd", "adversarial"]
TaskLoss = Literal["auto", "mae", "mse"]
Labelled: TypeAlias = "tuple[Any, ArrayLike]"
HeldOut: TypeAlias = "tuple[MultiView, Tensor]"
BLEND_STEPS = 200


class MISABase(TokenInspection, MultiViewEstimator):
    """What the classifier and the regressor share; `MISAClassifier` lists the parameters."""

    _reads_sequences: ClassVar[bool] = True

    def __init__(
        self,
        *,
        views: Any = None,
        variant: MISAVariant = "full",
        sequence_encoder: SequenceEncoderKind = "lstm",
        sequence_hidden: int = 32,
        text_encoder: str = "minilm",
        text_layers: int | None = 6,
        precision: Precision = "auto",
        scaling: Scaling = "standard",
        features: Features = "plain",
        hidden: int = 128,
        heads: int = 2,
        feedforward: int = 256,
        dropout: float = 0.2,
        view_dropout: float = 0.0,
        skip: bool = True,
        similarity: Similarity = "cmd",
        task_loss: TaskLoss = "auto",
        sim_weight: float = 0.3,
        diff_weight: float = 0.1,
        recon_weight: float = 1.0,
        shared_private_weight: float = 0.0,
        own_weight: float = 0.5,
        reversal_weight: float = 0.8,
        epochs: int = 10,
        batch_size: int = 16,
        update_epochs: int = 1,
        learning_rate: float = 1e-3,
        text_learning_rate: float = 2e-4,
        weight_decay: float = 1e-2,
        schedule: Schedule = "cosine",
        clip: float = 0.8,
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        patience: int | None = 8,
        averaging: float = 0.98,
        validation_share: float | None = None,
        device: Device = "auto",
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.variant = variant
        self.sequence_encoder = sequence_encoder
        self.sequence_hidden = sequence_hidden
        self.text_encoder = text_encoder
        self.text_layers = text_layers
        self.precision = precision
        self.scaling = scaling
        self.features = features
        self.hidden = hidden
        self.heads = heads
        self.feedforward = feedforward
        self.dropout = dropout
        self.view_dropout = view_dropout
        self.skip = skip
        self.similarity = similarity
        self.task_loss = task_loss
        self.sim_weight = sim_weight
        self.diff_weight = diff_weight
        self.recon_weight = recon_weight
        self.shared_private_weight = shared_private_weight
        self.own_weight = own_weight
        self.reversal_weight = reversal_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.update_epochs = update_epochs
        self.learning_rate = learning_rate
        self.text_learning_rate = text_learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.averaging = averaging
        self.validation_share = validation_share
        self.device = device
        self.random_state = random_state

    @abstractmethod
    def _outputs(self) -> int:
        """Width of the prediction."""

    @abstractmethod
    def _target(self, y: ArrayLike) -> Tensor:
        """Checked targets of train or validation rows."""

    @abstractmethod
    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """L_task of predictions (B, outputs)."""

    def _given(self, validation: Labelled | None) -> HeldOut | None:
        """Check validation rows that `fit` was given."""
        if validation is None:
            return None
        views, target = self._check_rows(validation[0]), self._target(validation[1])
        check_pairs(views, target)
        return views, target

    def _fraction(self) -> float:
        """Share of the train rows to hold out for validation; the older parameter's where given."""
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

    def _held_out(
        self, views: MultiView, target: Tensor
    ) -> tuple[MultiView, Tensor, HeldOut | None]:
        """Part train rows into those to train on and those that select the epoch, if any."""
        fraction = self._fraction()
        if self.patience is None or not fraction:
            return views, target, None
        seed = np.random.SeedSequence(self.random_state).spawn(3)[0]
        order = np.random.default_rng(seed).permutation(len(target))
        cut = max(1, int(fraction * len(order)))
        if cut == len(order):
            return views, target, None
        held, rows = order[:cut], order[cut:]
        return views.take(rows), target[rows], (views.take(held), target[held])

    def _train(
        self,
        views: MultiView,
        target: Tensor,
        held: HeldOut | None,
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit readers and network, and select the epoch on validation rows."""
        self.device_ = pick_device(self.device)
        seeds = np.random.SeedSequence(self.random_state).spawn(3)
        with seeded(int(seeds[1].generate_state(1)[0])):
            self.readers_ = ViewReaders.fit(views, self._input_options(), device=self.device_)
            rows = self.readers_.read(views)
            self.module_ = self._build(self.readers_.encoders()).to(self.device_)
            target = target.to(self.device_)
            valid = None if held is None else (self.readers_.read(held[0]), held[1])
            validate = None
            if valid is not None and self.early_stopping:
                validate = partial(self._validate, *valid)

            chance = np.random.default_rng(seeds[2])
            self.blend_ = torch.ones(1, device=self.device_)  # the fused prediction alone

            def batches() -> list[NDArray[np.int64]]:
                return bucketed_batches(rows.lengths, self.batch_size, chance)

            batches()  # drawn and left out: a seed's batches are those of version 0.1
            self.history_ = train(
                self.module_,
                lambda batch, _: self._terms(self.module_(rows(batch)), target[batch]),
                batches=batches,
                settings=self._optimisation(),
                validate=validate,
                callback=callback,
            )
        if valid is not None and getattr(self.module_, "own", None) is not None:
            self.blend_ = self._blended(*valid)

    def _build(self, encoders: Sequence[ViewEncoder]) -> nn.Module:
        """A new network for views with encoders."""
        return MISANet(
            encoders,
            outputs=self._outputs(),
            hidden=self.hidden,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            variant=self.variant,
            adversarial=self.similarity == "adversarial",
            shared_private=self.shared_private_weight > 0,
            reversal_weight=self.reversal_weight,
            view_dropout=self.view_dropout,
            own=self.own_weight > 0,
            skip=self.skip,
        )

    def _input_options(self) -> InputOptions:
        return InputOptions(
            scaling=self.scaling,
            features=self.features,
            sequence_encoder=self.sequence_encoder,
            sequence_hidden=self.sequence_hidden,
            text_encoder=self.text_encoder,
            text_layers=self.text_layers,
            precision=self.precision,
        )

    def _optimisation(self) -> Optimisation:
        texts = [
            f"project.encoders.{view}."
            for view, kind in enumerate(self.kinds_)
            if kind == "text" and self.text_encoder != "words"
        ]
        return Optimisation(
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            slow_rate=self.text_learning_rate,
            slow=tuple(texts),
            schedule=self.schedule,
            accumulate=self.update_epochs,
            clip=self.clip,
            # `patience` epochs without a better one are borne, the next one ends the training
            patience=None if self.patience is None else self.patience + 1,
            averaging=self.averaging,
        )

    def _terms(self, output: MISAOutput, target: Tensor) -> Mapping[str, Tensor]:
        """The task's loss and the regularisers that the variant has, under their weights."""
        task = self._task_loss(output.prediction, target)
        terms, total = {"task": task}, task
        weights = {}
        if self.variant != "base":
            terms["sim"] = (
                similarity_loss(output.shared_codes)
                if output.view_logits is None
                else view_confusion_loss(output.view_logits)
            )
            weights["sim"] = self.sim_weight
        if self.variant not in ("base", "inv"):
            terms["diff"] = difference_loss(output.private_codes, output.shared_codes)
            terms["recon"] = reconstruction_loss(output.reconstructed, output.projected)
            weights |= {"diff": self.diff_weight, "recon": self.recon_weight}
        if output.own is not None:
            terms["own"] = _own_loss(self._task_loss, output.own, target)
            weights["own"] = self.own_weight
        if output.kind_logits is not None:
            terms["kinds"] = shared_private_loss(output.kind_logits)
            weights["kinds"] = self.shared_private_weight
        for name, weight in weights.items():
            if weight:
                total = total + weight * terms[name]
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    def _blended(self, rows: PreparedViews, target: Tensor) -> Tensor:
        """Weights of the fused and of each view's own prediction, least loss on `rows`."""
        with torch.no_grad():
            parts = torch.cat([_candidates(self.module_(rows(b))) for b in rows.blocks()])
        truth = target[np.concatenate(rows.blocks())].to(parts.device)
        logits = torch.zeros(parts.shape[1], device=parts.device, requires_grad=True)
        descent = torch.optim.Adam([logits], lr=0.1)
        for _ in range(BLEND_STEPS if len(logits) > 1 else 0):
            descent.zero_grad()
            mixed = torch.einsum("c,bco->bo", logits.softmax(dim=0), parts)
            self._task_loss(mixed, truth).backward()  # type: ignore[no-untyped-call]
            descent.step()
        return logits.detach().softmax(dim=0)

    @torch.no_grad()
    def _validate(self, rows: PreparedViews, target: Tensor) -> dict[str, float]:
        """Means of the loss terms over validation rows; the task's loss selects the epoch."""
        sums: dict[str, float] = {}
        for block in rows.blocks():
            terms = self._terms(self.module_(rows(block)), target[block].to(self.device_))
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(block) / len(target)
        task = sums.pop("task")
        sums.pop("loss")
        return {"valid loss": task, **{f"valid {name}": value for name, value in sums.items()}}

    def _predicted(self, views: MultiView) -> Array:
        """The blended prediction (n, outputs) of checked rows."""

        def blend(output: MISAOutput) -> Tensor:
            parts = _candidates(output)[:, : len(self.blend_)]
            return torch.einsum("c,bco->bo", self.blend_, parts)

        return self._run(views, blend)

    @torch.no_grad()
    def _run(self, views: MultiView, read: Callable[[MISAOutput], Tensor]) -> Array:
        """What `read` takes of the output for all rows, in their order."""
        rows = self.readers_.read(views)
        blocks = rows.blocks()
        parts = [read(self.module_(rows(block))) for block in blocks]
        found = torch.cat(parts).double().cpu().numpy()
        result = np.empty_like(found)
        result[np.concatenate(blocks)] = found
        return result

    def _token_outputs(
        self, views: MultiView, *, size: int = 256, attention: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], MISAOutput]]:
        rows = self.readers_.read(views)
        for block in rows.blocks(size):
            yield block, self.module_(rows(block), attention=attention)

    def _loss_target(self, y: ArrayLike) -> Tensor:
        return self._target(y)

    def _loss_terms(self, output: MISAOutput, target: Tensor) -> Mapping[str, Tensor]:
        return self._terms(output, target)


def check_pairs(views: MultiView, target: Sized) -> None:
    """Refuse validation rows that are not as many as their targets."""
    if views.n_samples != len(target):
        raise DataError(
            f"validation has {views.n_samples} rows but {len(target)} targets; give one per row."
        )


def _candidates(output: MISAOutput) -> Tensor:
    """The fused prediction, then each view's own: (B, 1 + N, outputs)."""
    fused = output.prediction.unsqueeze(1)
    return fused if output.own is None else torch.cat([fused, output.own], dim=1)


def _own_loss(loss: Callable[[Tensor, Tensor], Tensor], own: Tensor, target: Tensor) -> Tensor:
    """Sum over views of the task's loss of each view's own prediction, (B, N, outputs)."""
    return torch.stack([loss(one, target) for one in own.unbind(dim=1)]).sum()
