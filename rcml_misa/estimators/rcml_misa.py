"""RCML-MISA, the method of this package, as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration import Calibrator, choose_calibrator
from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.answering import log_opinions, network_logits, plain_standing
from rcml_misa.estimators.base import ClassWeight, TrainRows
from rcml_misa.estimators.blocks import Blocks
from rcml_misa.estimators.closed_form import fit_members
from rcml_misa.estimators.outputs import (
    ROWS,
    Rows,
    TokenEstimator,
    evidential_terms,
    in_row_order,
    present_views,
    subspace_terms,
    weighted_loss,
)
from rcml_misa.estimators.pooling import (
    SHARES,
    PoolingClassifier,
    pool_share,
)
from rcml_misa.estimators.suspicion import SuspectUse
from rcml_misa.estimators.tables import Tables, train_tables
from rcml_misa.estimators.view_networks import AnyViews, has_sequences, train_classes
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.logits import ExpertLogits, Experts
from rcml_misa.experts.membership import Membership, Standing
from rcml_misa.experts.ridge import KernelChoice
from rcml_misa.experts.sums import looked_rows
from rcml_misa.nn.encoders import TableEncoder, ViewEncoder
from rcml_misa.nn.networks import NetworkMean, RCMLMISANet, SubspaceGradient, TokenOpinions
from rcml_misa.nn.tokens import AttentionMask, CollectorKind, Readout, Sharing
from rcml_misa.opinions import ViewFusionOperator
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.reading.columns import ColumnMap, Readings
from rcml_misa.reading.features import Scaling
from rcml_misa.training import EpochCallback, pick_device
from rcml_misa.views import MultiView, ViewMeans

__all__ = ["RCMLMISAClassifier"]

Array = NDArray[np.float64]
# networks, the share of the train rows that each is kept from and the most passes of each: beside
# kernel experts networks decide less, and the share that they deserve takes more rows to tell
NETWORKS = {"kernel": (3, 0.2, 30), "ridge": (5, 0.1, 40), "none": (5, 0.1, 40)}
SEQUENCE_NETWORKS = (2, 0.2, 10)
LEAST_EPOCHS, ENOUGH_STEPS = 10, 300  # of a network of tables
GROWTH = 0.75  # power of the rows with which its steps grow beyond both
BATCH = (64, 256)  # least and most rows of a batch of tables
RATE, SEQUENCE_RATE = 4e-3, 1e-3  # learning rates
LARGEST_BATCH = 32  # rows with sequences or texts: a fine-tuned text encoder needs many steps
AVERAGING = 0.98  # share of the previous values in the moving average of their network's weights
EVEN = 0.5  # share of networks in training, and of those that are kept from no row
CPU = torch.device("cpu")


@keyword_parameters
class RCMLMISAClassifier(TokenEstimator, PoolingClassifier):
    """RCML-MISA: evidential classification from private and shared tokens of any number of views.

    A deep encoder reads every view; its output is projected to one width and encoded twice,
    privately and by an encoder shared by all views; a Transformer fuses the 2N tokens; evidence
    collectors read the tokens and the encoders. Opinions are fused under uncertainty about which
    view, if any, does not belong to the row. The loss is the mean EDL loss over the fused and all
    single opinions, plus conflict, similarity, difference and reconstruction terms; the last three
    shape the subspaces, not the encoders. The last step counts.

    Several networks are trained side by side, each kept from another part of the train rows, and
    their mean opinions are pooled with those of closed-form members, one per view and one for all
    views. What each network says of the rows that it was kept from tells which share in the pool
    the networks deserve, and how the result is calibrated. Where the share is 0 the members decide
    alone, and the first network stays for its codes and tokens, which are those of the estimator.
    A view that a row lacks has no opinion and no part in fusion or losses.

    Where a view is a sequence or a text, each view has an encoder of its kind before the deep
    one, no closed-form member takes part, nor does mixup, and a moving average of the weights is
    returned: pool such views first (`MultiView.pooled`) to have the members.

    Parameters
    ----------
    collectors : {"separate", "tied", "tied-mean", "private"}
        Collectors of the shared tokens: one per view, one for all (N opinions), one on the mean
        token (one opinion), or none.
    fusion : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        Fusion of the opinions; see `rcml_misa.opinions.fuse_views`.
    collector : {"shares", "softplus"}
        Form of a collector: a mass of evidence divided into shares, or one softplus per class.
    readout : {"both", "tokens", "encoders"}
        What collectors read: tokens and the encoders' output, or one of the two.
    subspace_gradient : {"codes", "encoders"}
        What the similarity, difference and reconstruction terms train: the subspaces alone, or the
        encoders too, as published.
    expert : {"kernel", "ridge", "none"}
        Closed-form members: kernel experts, which keep train rows; ridge on random features, which
        keep none; or the network alone.
    landmarks, kernel, stacking
        See `KernelExpertClassifier`.
    networks : int, optional
        Networks whose opinions are averaged; by default 3 beside kernel experts, 2 with sequences
        or texts, else 5, and 1 where no row is kept from any. At most 2 / `calibration_fraction`.
    encoder_width, encoder_depth, encoder_dropout : int, int, float
        Width, number of layers and dropout of the views' encoders.
    features : {"both", "root-layernorm", "root", "plain", "quantile"}
        Columns that the network reads; see `rcml_misa.reading.columns.ColumnMap`.
    attention_mask : {"private", "none"}
        Whether private tokens are closed to the other views.
    conflict_discount : bool
        For fusions other than ``"mixture"``: whether shared opinions are weighed by one minus the
        largest conflict of the private ones.
    dropout, attention_dropout : float
        Chances of dropping an entry of the projected views, and of the Transformer's updates.
    epochs : int, optional
        Passes over the train rows; by default 10 with sequences or texts, else 30 beside kernel
        experts and 40 otherwise, or fewer, down to 10, where 300 steps take no more. Where ten
        passes are more than 300 steps, these grow with a power of the rows, and where more than
        16 384 rows are streamed, an epoch is then a tenth of the training.
    batch_size : int, optional
        Rows of a batch; by default a fifth of the train rows, but at least 64 and at most 256. At
        most 32 are used with sequences or texts.
    learning_rate : float, optional
        Largest learning rate of AdamW, after a warm-up over a tenth of the steps falling to zero
        along a cosine; .004 by default, .001 with sequences or texts.
    mixup : float
        Parameter of the Beta distribution of shares in which batches are mixed; 0 for none.
    kl_weight : float
        Weight of the KL term from a tenth of the steps on.
    conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the degree of conflict, CMD, orthogonality and reconstruction.
    calibration_fraction : float, optional
        Share of the train rows that each network is kept from; by default .2 beside kernel experts
        and with sequences or texts, else .1. With 0 networks and members have equal shares in the
        pool, and probabilities are not calibrated.
    early_stopping : bool
        See `MultiViewEstimator`, as for the following; for tables alone.
    views, scaling, hidden, heads, feedforward, layers, sequence_encoder, sequence_hidden
    text_encoder, text_layers, precision, text_learning_rate, weight_decay, suspect
    class_weight, validation_fraction, patience, device, random_state

    Attributes
    ----------
    experts_ : ViewExperts, RidgeExperts or None
        Closed-form members.
    batch_size_ : int
        Rows of a batch.
    networks_ : int
        Networks that are kept.
    share_ : float
        Share of the networks in the pool, in [0, 1]; 1 without closed-form members.
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the pooled opinions in their product; see `stack_weights`.
    calibrator_ : Calibrator or None
        Calibration of `predict_proba`, from rows that were new to a network and the members.

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
    _streams: ClassVar[bool] = True
    _precision: ClassVar[type[np.floating[Any]]] = np.float32
    _search: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Span(1e-3, 2e-2, log=True),
        "weight_decay": Span(1e-3, 1e-1, log=True),
        "encoder_width": Choice((128, 256, 512)),
        "encoder_dropout": Span(0.0, 0.5),
        "hidden": Choice((32, 64, 128)),
        "kl_weight": Span(3e-3, 0.3, log=True),
        "conflict_weight": Span(1e-2, 1.0, log=True),
        "scaling": Choice(("minmax", "standard", "quantile")),
    }

    collectors: Sharing = "separate"
    fusion: ViewFusionOperator = "mixture"
    collector: CollectorKind = "shares"
    readout: Readout = "both"
    subspace_gradient: SubspaceGradient = "codes"
    expert: Literal["kernel", "ridge", "none"] = "kernel"
    landmarks: int = 2100
    kernel: KernelChoice = "auto"
    stacking: bool = True
    networks: int | None = None
    encoder_width: int = 256
    encoder_depth: int = 2
    encoder_dropout: float = 0.2
    scaling: Scaling = "minmax"
    features: Readings = "both"
    attention_mask: AttentionMask = "private"
    conflict_discount: bool = True
    hidden: int = 64
    feedforward: int = 128
    layers: int = 1
    dropout: float = 0.0
    attention_dropout: float = 0.2
    epochs: int | None = None
    batch_size: int | None = None  # type: ignore[assignment]
    learning_rate: float | None = None  # type: ignore[assignment]
    mixup: float = 0.0
    kl_weight: float = 0.03
    conflict_weight: float = 0.1
    sim_weight: float = 0.8
    diff_weight: float = 0.3
    recon_weight: float = 0.8
    calibration_fraction: float | None = None
    suspect: SuspectUse = "report"
    class_weight: ClassWeight = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10

    @serves_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: EpochCallback | None = None,
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
        for name in ("readers_", "maps_", "view_means_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self.experts_: Experts | None = None
        self.stack_: Array | None = None
        self.membership_: Membership | None = None
        self.worth_, self.power_ = np.ones(len(rows.views)), 1.0
        self.__dict__.pop("suspect_limits_", None)
        smallest, largest = BATCH
        fifth = min(max(len(rows.codes) // 5, smallest), largest)
        self.batch_size_ = fifth if self.batch_size is None else self.batch_size
        seeds = np.random.SeedSequence(self.random_state).spawn(7)
        if sequences:
            self.view_means_ = ViewMeans.fit(rows.views)
            train: Callable[..., None] = self._train_sequences
            fallback = None
        else:
            rows, held = self._hold_out(rows, np.random.default_rng(seeds[4]))
            self.maps_ = [
                ColumnMap.fit(array, scaling=self.scaling, readings=self.features)
                for array in rows.views.arrays
            ]
            train = partial(self._train_tables, held=held)
            fallback = self._fit_experts(rows, seeds[0])
        usual, fraction, _ = SEQUENCE_NETWORKS if sequences else NETWORKS[self.expert]
        if self.calibration_fraction is not None:
            fraction = self.calibration_fraction
        draws = np.random.default_rng(seeds[5])
        # what networks say of looked rows is compared with what the members say
        numbers = looked_rows(rows.views.present, len(self.classes_))
        if self.experts_ is not None:
            numbers = self.experts_.looked_
        drawn = Blocks.draw(rows.codes[numbers], fraction, self.networks, draws, usual=usual)
        blocks = drawn.among(numbers, len(rows.codes))
        self.networks_ = len(blocks.blocks)
        # while networks are trained, their share is even and nothing is calibrated
        self.share_ = 1.0 if self.experts_ is None else EVEN
        self.calibrator_: Calibrator | None = None
        train(rows, blocks, seeds[1:4], callback=callback)
        if len(blocks.apart):
            self._learn_share(rows, blocks, drawn, fallback, seeds[6])
        elif fraction and fallback is not None:
            self.share_, self.calibrator_ = 0.0, fallback[0]
        if not self.share_:  # no network decides
            self.module_.networks, self.networks_ = self.module_.networks[:1], 1
        return self

    def _fit_experts(
        self, rows: TrainRows, seed: np.random.SeedSequence
    ) -> tuple[Calibrator, Standing] | None:
        """Fit the closed-form members, if there are any, and what rests on them.

        These are their stacking, the worth and the membership of views and the limits of suspects;
        the result is their calibration, and the standing of the looked rows' views.
        """
        if self.expert == "none":
            return None
        number = int(seed.generate_state(1)[0])
        maps = self.maps_ if self.features == "both" else None
        members = fit_members(self, rows, number, self.device_, maps=maps)
        self.experts_ = members
        logits = members.train_logits_  # leave-one-out
        looked = rows.looked(members.looked_)
        if self.stacking:
            self.stack_ = logits.stack(looked.codes, weights=looked.weights)
        standing = self._learn_views(
            looked, logits, lambda views: members.logits(views).witness, number
        )
        fused, self.suspect_limits_ = self._out_of_sample(logits, standing)
        return Calibrator.fit(fused, looked.codes, looked.weights), standing

    def _learn_share(
        self,
        rows: TrainRows,
        blocks: Blocks,
        drawn: Blocks,
        fallback: tuple[Calibrator, Standing] | None,
        draws: np.random.SeedSequence,
    ) -> None:
        """Set the share in the pool and the calibration by what networks say of new rows.

        These are those of `blocks`, and of `drawn` among the looked rows.
        """
        private, shared = blocks.ask(
            self.module_, lambda block, networks: self._states(rows.take(block).views, networks)
        )
        new = rows.take(blocks.apart)
        if self.experts_ is None or fallback is None:
            logits = self._network_logits(private, shared, new.views)
            if self.stacking:
                self.stack_ = logits.stack(new.codes, weights=new.weights)
            standing = self._learn_views(
                new,
                logits,
                lambda views: self._network_logits(*self._states(views), views).witness,
                draws,
            )
        else:
            members = self.experts_.train_logits_.take(drawn.apart)
            standing = fallback[1].take(drawn.apart)
            own = log_opinions(private, shared, present_views(new.views, CPU))
            pools = [members.pooled(*own, share) for share in SHARES]
            fused = (self._fuse(pool, standing, leave_out=False).fused for pool in pools)
            best = pool_share([each.numpy() for each in fused], new.codes, new.weights)
            self.share_, self.calibrator_ = float(SHARES[best]), fallback[0]
            if not best:  # the members' calibration, from all rows
                return
            logits = pools[best]
        evidence, self.suspect_limits_ = self._out_of_sample(logits, standing)
        self.calibrator_ = choose_calibrator(evidence, new.codes, new.weights)

    def _length(self, per_pass: int) -> dict[str, int]:
        """Length of the training on tables by the steps of a pass over the rows.

        Beyond ten passes of 30 steps the number of steps grows with a power of the rows.
        """
        if self.epochs is not None:
            return {"epochs": self.epochs}
        if per_pass * LEAST_EPOCHS > ENOUGH_STEPS:
            share = per_pass * LEAST_EPOCHS / ENOUGH_STEPS
            return {"steps": round(ENOUGH_STEPS * share**GROWTH)}
        _, _, most = NETWORKS[self.expert]
        return {"epochs": min(most, ENOUGH_STEPS // per_pass)}

    def _train_tables(
        self,
        rows: TrainRows,
        blocks: Blocks,
        seeds: Sequence[np.random.SeedSequence],
        *,
        held: TrainRows | None,
        callback: EpochCallback | None = None,
    ) -> None:
        """Train networks on tables, each kept from its blocks; `held` rows select the epoch."""
        train_tables(
            self,
            rows,
            self._loss,
            blocks=blocks,
            length=self._length,
            seeds=seeds,
            held=held,
            callback=callback,
            learning_rate=RATE if self.learning_rate is None else self.learning_rate,
            fast=("slope", "offset"),
            memory=0.99,
        )

    def _train_sequences(
        self,
        rows: TrainRows,
        blocks: Blocks,
        seeds: Sequence[np.random.SeedSequence],
        *,
        callback: EpochCallback | None = None,
    ) -> None:
        """Fit readers to rows with sequences or texts, and networks kept from blocks of them."""
        train_classes(
            self,
            rows._replace(views=self.view_means_.fill(rows.views)),
            self._loss,
            present=present_views(rows.views, self.device_),
            parts=blocks.parts,
            seed=seeds[1],
            draws=np.random.default_rng(seeds[2]),
            batch_size=min(self.batch_size_, LARGEST_BATCH),
            callback=callback,
            epochs=SEQUENCE_NETWORKS[2] if self.epochs is None else self.epochs,
            learning_rate=SEQUENCE_RATE if self.learning_rate is None else self.learning_rate,
            averaging=AVERAGING,
        )

    @property
    def _reader(self) -> Tables | AnyViews:
        """Reader of new rows, as they were at the fit: all tables, or views of any kind."""
        if hasattr(self, "readers_"):
            return AnyViews(self.readers_, self.view_means_, self.device_)
        return Tables(self.maps_, len(self.classes_), self.device_)

    def _build(self) -> NetworkMean:
        """New networks for the fitted classes and readers."""
        count = getattr(self, "networks_", 1)  # older model files lack it
        return NetworkMean(self._network() for _ in range(count))

    def _network(self) -> RCMLMISANet:
        encoders: list[ViewEncoder] = (
            self.readers_.encoders()
            if hasattr(self, "readers_")
            else [TableEncoder(columns.width) for columns in self.maps_]
        )
        return RCMLMISANet(
            encoders,
            classes=len(self.classes_),
            hidden=self.hidden,
            encoder_width=self.encoder_width,
            encoder_depth=self.encoder_depth,
            encoder_dropout=self.encoder_dropout,
            heads=self.heads,
            feedforward=self.feedforward,
            layers=self.layers,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            mask=self.attention_mask,
            sharing=self.collectors,
            collector=self.collector,
            readout=self.readout,
            subspace_gradient=self.subspace_gradient,
            fusion=self.fusion,
            discount=self.conflict_discount,
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
        self,
        views: MultiView,
        *,
        size: int = ROWS,
        attention: bool = False,
        network: nn.Module | None = None,
    ) -> Iterator[tuple[Rows, TokenOpinions]]:
        size = min(size, LARGEST_BATCH) if has_sequences(views) else size
        module = self.module_ if network is None else network
        return self._reader.outputs(module, views, size, attention=attention)

    def _target(self, y: ArrayLike) -> Tensor:
        codes = np.searchsorted(self.classes_, np.asarray(y))
        return F.one_hot(torch.from_numpy(codes), len(self.classes_)).float()

    def _terms(self, output: TokenOpinions, target: Tensor) -> Mapping[str, Tensor]:
        return self._loss(output, target, 1.0, None)

    @torch.inference_mode()
    def _states(self, views: MultiView, network: nn.Module | None = None) -> tuple[Tensor, Tensor]:
        """Private and shared evidence of a network about rows, in float64.

        Without `network` it is the mean of all.
        """
        blocks = self._outputs(views, network=network)
        private, shared = in_row_order((rows, (o.private, o.shared)) for rows, o in blocks)
        return private.double().cpu(), shared.double().cpu()

    def _network_logits(self, private: Tensor, shared: Tensor, views: MultiView) -> ExpertLogits:
        """Opinions of the networks alone as logits."""
        own, joint = log_opinions(private, shared, present_views(views, CPU))
        return network_logits(own, joint, None if views.present.all() else views.present)

    def _answers(self, views: MultiView) -> Iterator[tuple[slice, ExpertLogits, Standing]]:
        folds = not hasattr(self, "readers_") and self.device_.type == "cpu"
        if folds or not self.share_:
            yield from super()._answers(views)
            return
        states = self._states(views)
        if self.experts_ is None:
            logits = self._network_logits(*states, views)
        else:
            own = log_opinions(*states, present_views(views, CPU))
            logits = self.experts_.logits(views).pooled(*own, self.share_)
        if self.membership_ is None:
            standing = plain_standing(logits.witness, views.present)
        else:
            standing = self.membership_(views, logits.witness)
        yield slice(0, views.n_samples), logits, standing
