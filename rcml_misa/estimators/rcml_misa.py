"""RCML-MISA, the method of this package, as a scikit-learn classifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration import Calibrator
from rcml_misa.estimators.base import ClassWeight, EvidentialClassifier, TrainRows
from rcml_misa.estimators.kernel_expert import ExpertTables, TableTrainer
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.outputs import (
    ROWS,
    Rows,
    TokenEstimator,
    evidential_terms,
    present_views,
    row_tensor,
    subspace_terms,
    weighted_loss,
)
from rcml_misa.estimators.view_networks import AnyViews, has_sequences, train_views
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.ridge import KernelChoice
from rcml_misa.experts.view_experts import ExpertLogits, ViewExperts
from rcml_misa.nn.encoders import ViewEncoder, ViewInput
from rcml_misa.nn.networks import RCMLMISANet, TokenFusionOperator, TokenOpinions
from rcml_misa.nn.tokens import AttentionMask, CollectorKind, Sharing
from rcml_misa.options import keyword_parameters
from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.training import Optimisation, Progress, pick_device, seeded
from rcml_misa.views import MultiView, ViewMeans

__all__ = ["RCMLMISAClassifier"]

Array = NDArray[np.float64]
# least steps, and passes over the train rows where those take more: a network that starts at its
# experts has less to learn
LENGTH = {"kernel": (100, 6), "none": (400, 20)}
SEQUENCE_EPOCHS = 10  # passes over rows with sequences or texts where none are given
LARGEST_BATCH = 32  # rows with sequences or texts: a fine-tuned text encoder needs many steps
AVERAGING = 0.98  # share of the previous values in the moving average of their network's weights


@keyword_parameters
class RCMLMISAClassifier(TokenEstimator, EvidentialClassifier):
    """RCML-MISA: evidential classification from private and shared tokens of any number of views.

    Every view is projected to one width and encoded twice, privately and by an encoder shared by
    all views; a Transformer fuses the 2N tokens; evidence collectors read them. Closed-form
    kernel experts, one per view and one for all, add their logits to the collectors', so that
    training starts at the experts; on train rows their logits are leave-one-out. Opinions are fused
    under uncertainty about which view, if any, does not belong to the row. The loss is the mean
    EDL loss over the fused and all single opinions, plus conflict, similarity, difference and
    reconstruction terms. The last step counts. A view that a row lacks has no opinion and no part
    in fusion or losses; the joint expert reads its columns' means, and its opinion is discounted
    by the missing share.

    Where a view is a sequence or a text, each view has an encoder of its kind before the
    projection, neither kernel experts nor mixup take part, and a moving average of the weights is
    returned: pool such views first (`MultiView.pooled`) to have the experts.

    Parameters
    ----------
    collectors : {"separate", "tied", "tied-mean", "private"}
        Collectors of the shared tokens: one per view, one for all (N opinions), one on the mean
        token (one opinion), or none.
    fusion : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        Fusion of the opinions; see `rcml_misa.opinions.fuse_mixture` and `rcml_misa.opinions.fuse`.
    collector : {"shares", "softplus"}
        Form of a collector: a mass of evidence divided into shares, or one softplus per class.
    expert : {"kernel", "none"}
        Whether kernel experts take part.
    landmarks, kernel, stacking
        See `KernelExpertClassifier`.
    attention_mask : {"private", "none"}
        Whether private tokens are closed to the other views.
    conflict_discount : bool
        For fusions other than ``"mixture"``: whether shared opinions are weighed by one minus the
        largest conflict of the private ones.
    dropout, attention_dropout : float
        Chances of dropping an entry of the projected views, and of the Transformer's updates.
    epochs : int, optional
        Passes over the train rows; by default those of 100 steps, and at least 6, or without
        experts of 400 steps, and at least 20; 10 with sequences or texts.
    batch_size : int
        Rows of a batch; at most 32 are used with sequences or texts.
    learning_rate, weight_decay : float
        Settings of AdamW, after a warm-up over a tenth of the steps falling to zero along a cosine.
    mixup : float
        Parameter of the Beta distribution of shares in which batches are mixed; 0 for none.
    kl_weight : float
        Weight of the KL term from a tenth of the steps on.
    conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the degree of conflict, CMD, orthogonality and reconstruction.
    early_stopping : bool
        See `MultiViewEstimator`, as for the following; for tables alone.
    views, scaling, features, hidden, heads, feedforward, layers, sequence_encoder, sequence_hidden
    text_encoder, text_layers, precision, text_learning_rate, class_weight, validation_fraction
    patience, device, random_state

    Attributes
    ----------
    experts_ : ViewExperts or None
        Kernel experts.
    stack_, calibrator_
        See `KernelExpertClassifier`; the opinions calibrated on are the network's own, in which
        the experts' logits are leave-one-out.

    References
    ----------
    Xu et al., AAAI 2024 (RCML); Hazarika, Zimmermann and Poria, ACM MM 2020 (MISA).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = RCMLMISAClassifier(views=[2, 2], epochs=2, random_state=0).fit(X, y)
    >>> opinion = model.predict_opinion(X)
    >>> opinion.belief.shape, opinion.uncertainty.shape
    ((150, 3), (150,))
    """

    _leaves_out_missing: ClassVar[bool] = True
    _precision: ClassVar[type[np.floating[Any]]] = np.float32

    collectors: Sharing = "separate"
    fusion: TokenFusionOperator = "mixture"
    collector: CollectorKind = "shares"
    expert: Literal["kernel", "none"] = "kernel"
    landmarks: int = 2100
    kernel: KernelChoice = "auto"
    stacking: bool = True
    scaling: Scaling = "minmax"
    features: Features = "root-layernorm"
    attention_mask: AttentionMask = "private"
    conflict_discount: bool = True
    hidden: int = 64
    feedforward: int = 128
    layers: int = 1
    attention_dropout: float = 0.0
    epochs: int | None = None
    batch_size: int = 200
    mixup: float = 1.0
    kl_weight: float = 0.1
    conflict_weight: float = 0.1
    sim_weight: float = 0.8
    diff_weight: float = 0.3
    recon_weight: float = 0.8
    class_weight: ClassWeight = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X, one label per row y and weights of the rows."""
        rows = self._check_train(X, y, sample_weight)
        sequences = has_sequences(rows.views)
        if sequences and self.early_stopping:
            raise OptionError(
                "early_stopping=True is for tables alone; with a sequence or a text leave it out, "
                "or pool that view with MultiView.pooled()."
            )
        self.device_ = pick_device(self.device)
        self.stack_: Array | None = None
        self.experts_: ViewExperts | None = None
        self.__dict__.pop("readers_", None)  # of an earlier fit
        seeds = np.random.SeedSequence(self.random_state).spawn(5)
        (self._fit_sequences if sequences else self._fit_tables)(rows, seeds, callback)
        return self

    def _fit_tables(
        self,
        given: TrainRows,
        seeds: Sequence[np.random.SeedSequence],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit experts, network and calibration to rows whose views are all tables."""
        mixing, draws, holding = (np.random.default_rng(seeds[place]) for place in (1, 3, 4))
        rows, held = self._hold_out(given, holding)
        logits = self._fit_experts(rows, _number(seeds[0]))
        self.maps_ = [
            FeatureMap.fit(array, scaling=self.scaling, features=self.features)
            for array in rows.views.arrays
        ]
        reader = ExpertTables(self.maps_, self.experts_, len(self.classes_), self.device_)
        table = reader.read(rows.views, logits=logits, codes=rows.codes)
        self.input_widths_ = table.widths
        trainer = TableTrainer(
            reader=reader,
            settings=Optimisation(
                steps=self._steps(len(rows.codes)),
                learning_rate=self.learning_rate,
                weight_decay=self.weight_decay,
                fast=("slope", "offset"),
                patience=self.patience,
            ),
            batch_size=self.batch_size,
            mixup=self.mixup,
            loss=self._loss,
        )
        with seeded(_number(seeds[2])):
            self.module_ = self._build().to(self.device_)
            self.history_ = trainer.train(
                self.module_, table, rows, mixing=mixing, draws=draws, held=held, callback=callback
            )
        evidence = trainer.evidence(self.module_, table, rows.views)
        self.calibrator_ = Calibrator.fit(evidence, rows.codes, rows.weights)

    def _fit_experts(self, rows: TrainRows, seed: int) -> ExpertLogits | None:
        """Fit the kernel experts and their stacking; leave-one-out logits of the train rows."""
        if self.expert == "none":
            return None
        self.experts_ = ViewExperts(
            landmarks=self.landmarks, kernel=self.kernel, scaling=self.scaling, random_state=seed
        ).fit(rows.views, rows.codes, weights=rows.weights)
        logits = self.experts_.train_logits_
        if self.stacking:
            joint = self.collectors != "private"
            self.stack_ = logits.stack(rows.codes, weights=rows.weights, joint=joint)
        return logits

    def _steps(self, rows: int) -> int:
        if self.epochs is not None:
            return self.epochs * math.ceil(rows / self.batch_size)
        least, passes = LENGTH[self.expert]
        return max(least, math.ceil(passes * rows / self.batch_size))

    def _fit_sequences(
        self,
        rows: TrainRows,
        seeds: Sequence[np.random.SeedSequence],
        callback: Callable[[Progress], None] | None,
    ) -> None:
        """Fit readers, network and calibration to rows with sequences or texts."""
        self.view_means_ = ViewMeans.fit(rows.views)
        device = self.device_
        present, weights = present_views(rows.views, device), row_tensor(rows.weights, device)
        target = F.one_hot(torch.from_numpy(rows.codes), len(self.classes_)).float().to(device)

        def terms(inputs: list[ViewInput], batch: Rows, done: float) -> Mapping[str, Tensor]:
            presence = None if present is None else present[batch]
            weight = None if weights is None else weights[batch]
            output = self.module_(inputs, present=presence)
            return self._loss(output, target[batch], done, weight)

        train_views(
            self,
            self.view_means_.fill(rows.views),
            terms,
            seed=seeds[2],
            draws=np.random.default_rng(_number(seeds[3])),
            skipped=2,
            batch_size=min(self.batch_size, LARGEST_BATCH),
            callback=callback,
            epochs=SEQUENCE_EPOCHS if self.epochs is None else self.epochs,
            averaging=AVERAGING,
        )
        with torch.inference_mode():
            fused, _, _ = self._reader.states(self.module_, rows.views)
        evidence = fused.double().cpu().numpy()
        self.calibrator_ = Calibrator.fit(evidence, rows.codes, rows.weights)

    @property
    def _reader(self) -> ExpertTables | AnyViews:
        """Reader of new rows, as they were at the fit: all tables, or views of any kind."""
        if hasattr(self, "readers_"):
            return AnyViews(self.readers_, self.view_means_, self.device_)
        return ExpertTables(self.maps_, self.experts_, len(self.classes_), self.device_)

    def _build(self, encoders: list[ViewEncoder] | None = None) -> RCMLMISANet:
        """A new network for the fitted classes and widths, or for views with encoders."""
        return RCMLMISANet(
            self.widths_ if encoders is not None else self.input_widths_,
            classes=len(self.classes_),
            hidden=self.hidden,
            heads=self.heads,
            feedforward=self.feedforward,
            layers=self.layers,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            mask=self.attention_mask,
            sharing=self.collectors,
            collector=self.collector,
            fusion=self.fusion,
            discount=self.conflict_discount,
            experts=self.experts_ is not None,
            weights=self.stack_,
            encoders=encoders,
        )

    def _loss(
        self, output: TokenOpinions, target: Tensor, done: float, weight: Tensor | None
    ) -> Mapping[str, Tensor]:
        kl_weight = self.kl_weight * min(1.0, 10 * done)
        terms = {
            **evidential_terms(output, target, kl_weight=kl_weight, weight=weight),
            **subspace_terms(output, weight=weight),
        }
        weights = {"edl": 1.0, "conflict": self.conflict_weight, "sim": self.sim_weight}
        weights |= {"diff": self.diff_weight, "recon": self.recon_weight}
        return weighted_loss(terms, weights)

    def _outputs(
        self, views: MultiView, *, size: int = ROWS, attention: bool = False
    ) -> Iterator[tuple[Rows, TokenOpinions]]:
        size = min(size, LARGEST_BATCH) if has_sequences(views) else size
        return self._reader.outputs(self.module_, views, size, attention=attention)

    def _target(self, y: ArrayLike) -> Tensor:
        codes = np.searchsorted(self.classes_, np.asarray(y))
        return F.one_hot(torch.from_numpy(codes), len(self.classes_)).float()

    def _terms(self, output: TokenOpinions, target: Tensor) -> Mapping[str, Tensor]:
        return self._loss(output, target, 1.0, None)

    @torch.inference_mode()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        fused, private, shared = self._reader.states(self.module_, views)
        present = present_views(views, torch.device("cpu"))
        return self._opinion_of(fused, private, shared, present)


def _number(seed: np.random.SeedSequence) -> int:
    return int(seed.generate_state(1)[0])
