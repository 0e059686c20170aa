"""Methods trained as their papers do: the base of RCML and the peers, RCML, the notes' draft."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import ClassWeight, MultiViewClassifier, TrainRows
from rcml_misa.estimators.evidential import EvidentialClassifier
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.outputs import evidential_terms
from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
    weighted_mean,
)
from rcml_misa.nn.networks import NotesNet, TokenOpinions
from rcml_misa.nn.peers import RCMLNet, ViewOpinions
from rcml_misa.opinions import FusionOperator, Opinion
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.reading.features import FeatureMap, Scaling
from rcml_misa.training import (
    Device,
    EpochCallback,
    Optimisation,
    Schedule,
    permuted_batches,
    pick_device,
    seeded,
    train,
)
from rcml_misa.views import MultiView, dense

__all__ = ["EpochClassifier", "EpochTrainer", "NotesClassifier", "RCMLClassifier", "notes_loss"]


@keyword_parameters
class EpochTrainer(MultiViewClassifier):
    """Base of the methods that train on scaled columns with Adam for whole epochs.

    The last epoch counts, or with early stopping the best. Subclasses document the parameters.
    """

    _schedule: ClassVar[Schedule] = "constant"
    _search: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Span(3e-4, 3e-2, log=True),
        "weight_decay": Span(1e-6, 1e-2, log=True),
        "scaling": Choice(("minmax", "standard", "quantile")),
    }

    views: Any = None
    scaling: Scaling = "minmax"
    epochs: int = 500
    batch_size: int = 200
    learning_rate: float = 3e-3
    weight_decay: float = 1e-5
    calibration_fraction: float = 0.0
    device: Device = "auto"
    random_state: int | None = None

    @abstractmethod
    def _build(self) -> nn.Module:
        """A new network for the fitted widths and classes."""

    @abstractmethod
    def _terms(self, output: Any, target: Tensor, kl_weight: float) -> Mapping[str, Tensor]:
        """Named loss terms of a forward pass against one-hot targets (B, K).

        They are (B, 1 + N, K), of each row and of those that its views come from, where `_batches`
        tells the latter.
        """

    def _batches(self, rows: TrainRows, rng: np.random.Generator) -> list[NDArray[np.int64]]:
        """Batches of an epoch: numbers (B,) of rows, or (B, 1 + N), the views' rows after each."""
        return permuted_batches(len(rows.codes), self.batch_size, rng, rows.weights)

    @serves_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: EpochCallback | None = None,
    ) -> Self:
        """Train on views X, one label per row y and weights of the rows.

        Rows with weights are drawn into batches with chances in proportion to them.
        """
        given, apart = self._set_apart(self._check_train(X, y, sample_weight))
        self.device_ = pick_device(self.device)
        seeds = np.random.SeedSequence(self.random_state).spawn(3)
        rows, held = self._hold_out(given, np.random.default_rng(seeds[2]))
        self.maps_ = [
            FeatureMap.fit(array, scaling=self.scaling, features="plain")
            for array in rows.views.arrays
        ]
        inputs, present = self._inputs(rows.views), self._presence(rows.views)
        onehot = self._onehot(rows)
        annealing = max(getattr(self, "annealing_epochs", 0), 1)  # not all have a KL term
        rng = np.random.default_rng(seeds[1])

        def loss(batch: NDArray[np.int64], done: float) -> Mapping[str, Tensor]:
            own, *sources = [batch] if batch.ndim == 1 else batch.T
            sources = sources or [own] * len(inputs)
            output = self._run(
                [view[source] for view, source in zip(inputs, sources, strict=True)],
                None if present is None else present[own],
            )
            # the weight of the KL term rises with whole epochs; 1e-9 lifts rounded-down shares
            kl_weight = min(1.0, int(done * self.epochs + 1e-9) / annealing)
            return self._terms(output, onehot[batch], kl_weight)

        with seeded(int(seeds[0].generate_state(1)[0])):
            self.module_ = self._build().to(self.device_)
            self.history_ = train(
                self.module_,
                loss,
                batches=lambda: self._batches(rows, rng),
                settings=Optimisation(
                    steps=self.epochs * len(range(0, len(rows.codes), self.batch_size)),
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    schedule=self._schedule,
                    warmup=False,
                    decoupled=False,
                    patience=self.patience,
                ),
                validate=None if held is None else self._validation(held),
                callback=callback,
            )
        self._calibrate(apart)
        return self

    def _validation(self, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean EDL loss of the fused opinions about held-out rows."""
        inputs, present = self._inputs(held.views), self._presence(held.views)
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

    def _presence(self, views: MultiView) -> Tensor | None:
        """Views that each row has and that are not set aside; None where they are all."""
        heard = self._heard(views)
        if heard.all() or not self._leaves_out_missing:
            return None
        return torch.from_numpy(heard).to(self.device_)

    def _run(self, inputs: list[Tensor], present: Tensor | None) -> Any:
        """Run the network; one that knows nothing of missing views is never given any."""
        return self.module_(inputs) if present is None else self.module_(inputs, present)


@keyword_parameters
class EpochClassifier(EpochTrainer, EvidentialClassifier):
    """Base of the published methods whose networks give fused, private and shared evidence."""

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochTrainer._search,
        "annealing_epochs": Span(1, 100, log=True),
    }

    annealing_epochs: int = 50

    @torch.inference_mode()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        inputs, present = self._inputs(views), self._presence(views)
        output = self._run(inputs, present)
        gains, rest = None, None
        if self._leaves_out_missing and len(views) > 1:
            gains, rest = self._without_each(inputs, present, output.fused)
        return self._opinion_of(
            output.fused, output.private, output.shared, gains, rest, present=self._heard(views)
        )

    def _without_each(
        self, inputs: list[Tensor], present: Tensor | None, fused: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gains in uncertainty without each view (n, N), and evidence without the best (n, K)."""
        if present is None:
            present = torch.ones(len(fused), len(inputs), dtype=torch.bool, device=fused.device)
        uncertainty = Opinion(fused).uncertainty
        gains, rests = [], []
        for view in range(len(inputs)):
            others = present.clone()
            others[:, view] = False
            left = [*inputs]
            left[view] = torch.zeros_like(inputs[view])  # as a missing view is read
            rest = self._run(left, others).fused
            gain = uncertainty - Opinion(rest).uncertainty
            gain = torch.where(others.any(dim=1), gain, -1.0)  # nothing is left
            gains.append(torch.where(present[:, view], gain, torch.nan))
            rests.append(rest)
        each = torch.stack(gains, dim=1)
        best = each.nan_to_num(-torch.inf).argmax(dim=1)
        return each, torch.stack(rests, dim=1)[torch.arange(len(best)), best]


@keyword_parameters
class RCMLClassifier(EpochClassifier):
    """Reliable conflictive multi-view learning: one evidence collector per view, averaged.

    Minimises the mean EDL loss of the fused and of the views' opinions plus `conflict_weight`
    times the degree of conflict between views, with Adam, and keeps the last epoch.

    Parameters
    ----------
    fusion : {"mean", "pairwise", "geometric", "cumulative", "dempster"}
        Fusion of the views' opinions. ``"mean"`` is the paper's Definition 1 and does not depend
        on the order of views; ``"pairwise"`` folds e <- (e_v + e) / 2 as the published code does.
    hidden : tuple of int
        Widths of the collectors' hidden layers; the published code has none.
    learning_rate, weight_decay : float
        Settings of Adam; the decay is added to the gradient.
    conflict_weight : float
        gamma, the weight of the degree of conflict.
    annealing_epochs : int
        Epochs over which the weight of the KL term rises to 1.
    dropout : float
        Chance of dropping a hidden unit.
    views, scaling, epochs, batch_size, class_weight, early_stopping, validation_fraction, patience
        See `MultiViewEstimator`, as for the following.
    calibration_fraction, device, random_state

    References
    ----------
    Xu, Si, Guan, Zhao, Wu and Gao, Reliable conflictive multi-view learning, AAAI 2024.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RCMLClassifier(views=[2, 2], epochs=20, random_state=0).fit(X, y)
    >>> model.predict_opinion(X).evidence.shape
    (150, 3)
    """

    _leaves_out_missing: ClassVar[bool] = True

    _search: ClassVar[Mapping[str, Space]] = {
        **EpochClassifier._search,
        "hidden": Choice(((), (256,))),
        "conflict_weight": Span(0.1, 3.0, log=True),
    }

    fusion: FusionOperator = "mean"
    hidden: tuple[int, ...] = ()
    conflict_weight: float = 1.0
    dropout: float = 0.1
    class_weight: ClassWeight = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10

    def _build(self) -> RCMLNet:
        return RCMLNet(
            self.widths_,
            classes=len(self.classes_),
            hidden=self.hidden,
            dropout=self.dropout,
            fusion=self.fusion,
        )

    def _terms(
        self, output: ViewOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        terms = evidential_terms(output, target, kl_weight=kl_weight)
        return {"loss": terms["edl"] + self.conflict_weight * terms["conflict"], **terms}


def notes_loss(
    output: TokenOpinions,
    target: Tensor,
    *,
    kl_weight: float,
    conflict_weight: float,
    sim_weight: float,
    diff_weight: float,
    recon_weight: float,
) -> Tensor:
    """Compute the notes' loss as written: no shared opinion, CMD's pair sum divided by N.

    `output` is about B rows of one-hot classes `target`, (B, K).
    """
    views = output.private.shape[1]
    opinions = torch.cat([output.fused.unsqueeze(1), output.private], dim=1)
    return (
        edl_loss(opinions, target.unsqueeze(1), kl_weight=kl_weight)
        + conflict_weight * conflict_loss(output.private)
        # fault 4: the mean over pairs times pairs / N
        + sim_weight * similarity_loss(output.shared_codes) * (views - 1) / 2
        + diff_weight * difference_loss(output.private_codes, output.shared_codes)
        + recon_weight * reconstruction_loss(output.reconstructed, output.projected)
    )


@keyword_parameters
class NotesClassifier(EpochClassifier):
    """Reproduction of the notes' RCML-MISA with its five faults; never a default.

    Shared evidence reaches neither the fused opinion nor any loss, the first view's evidence
    holds the sum over views, collectors end in BatchNorm, CMD's pair sum is divided by N, and the
    preset's scaler sees the test rows. `RCMLMISAClassifier` is the method as it should be.

    Parameters
    ----------
    collectors : {"separate", "tied"}
        Collectors of the shared tokens. Both compute the same function, since nothing reads them.
    conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the loss's terms.
    learning_rate, weight_decay, annealing_epochs
        See `RCMLClassifier`.
    views, scaling, epochs, batch_size, calibration_fraction, device, random_state
        See `MultiViewEstimator`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> NotesClassifier(views=[2, 2], epochs=2, random_state=0).fit(X, y).predict(X).shape
    (150,)
    """

    collectors: Literal["separate", "tied"] = "tied"
    learning_rate: float = 3e-4
    conflict_weight: float = 1.0
    sim_weight: float = 0.8
    diff_weight: float = 0.3
    recon_weight: float = 0.8

    def _build(self) -> NotesNet:
        tied = self.collectors == "tied"
        return NotesNet(self.widths_, classes=len(self.classes_), tied=tied)

    def _terms(
        self, output: TokenOpinions, target: Tensor, kl_weight: float
    ) -> Mapping[str, Tensor]:
        names = ("conflict_weight", "sim_weight", "diff_weight", "recon_weight")
        weights = {name: getattr(self, name) for name in names}
        return {"loss": notes_loss(output, target, kl_weight=kl_weight, **weights)}
