"""RCML-MISA, the method of this package, as a scikit-learn classifier."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.estimators.base import (
    ClassWeight,
    EvidentialClassifier,
    MultiViewOpinion,
)
from rcml_misa.estimators.inspection import TokenInspection
from rcml_misa.estimators.sequence_fit import LARGEST_BATCH, SequenceFit, has_sequences
from rcml_misa.estimators.table_fit import TableFit
from rcml_misa.estimators.terms import (
    evidential_terms,
    present_views,
    subspace_terms,
)
from rcml_misa.experts.kernels import KernelChoice
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.nn import (
    AttentionMask,
    CollectorKind,
    RCMLMISANet,
    Sharing,
    TokenFusionOperator,
    TokenOpinions,
)
from rcml_misa.nn.encoders import SequenceEncoderKind, ViewEncoder
from rcml_misa.nn.pretrained import Precision
from rcml_misa.opinions import mean_conflict
from rcml_misa.reading.features import Features, Scaling
from rcml_misa.training import (
    Device,
    Progress,
    pick_device,
)
from rcml_misa.views import MultiView

__all__ = ["RCMLMISAClassifier"]

Array = NDArray[np.float64]


class RCMLMISAClassifier(TableFit, SequenceFit, TokenInspection, EvidentialClassifier):
    """The evidential multi-view classifier that joins RCML and MISA, for any number of views.

    Every view is projected to one width and encoded twice, privately and by an encoder shared by
    all views; a Transformer fuses the 2N tokens; evidence collectors read them. Closed-form
    kernel experts, one per view and one for all, add their logits to the collectors', so that
    training starts at the experts; on train rows they speak leave-one-out. Opinions are fused
    under uncertainty about which view, if any, does not belong to the row. The loss is the mean
    EDL loss over the fused and all single opinions, plus conflict, similarity, difference and
    reconstruction terms. The last step counts. A view that a row lacks has no opinion and no part
    in fusion or losses; the joint expert reads its columns' means, and what it says is discounted
    by the missing share.

    Where a view is a sequence or a text, each view has an encoder of its kind before the
    projection, and neither kernel experts nor mixup take part: pool such views first
    (`MultiView.pooled`) to have them.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    collectors : {"separate", "tied", "tied-mean", "private"}
        The shared tokens' collectors: one per view, one for all (N opinions), one on the mean
        token (one opinion), or none.
    fusion : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        See `rcml_misa.nn.fuse_mixture` and `rcml_misa.opinions.fuse`.
    collector : {"shares", "softplus"}
        Evidence as a mass divided into shares, or one softplus per class.
    expert : {"kernel", "none"}
        Whether kernel experts take part.
    landmarks : int
        Largest number of Nystroem landmarks of the joint expert; see `ViewExperts`.
    kernel : {"auto", "smooth", "medium", "rough", "fine"}
        The experts' kernels; ``"auto"`` chooses each by its leave-one-out scores.
    stacking : bool
        Whether opinions count in their product by weights found on leave-one-out rows.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling, fitted on train rows.
    features : {"root-layernorm", "root", "plain", "quantile"}
        What the network reads; see `rcml_misa.reading.features.FeatureMap`.
    attention_mask : {"private", "none"}
        Whether private tokens are closed to the other views.
    conflict_discount : bool
        For fusions other than ``"mixture"``: weigh shared opinions by one minus the largest
        conflict of the private ones.
    hidden, heads, feedforward, layers : int
        Width H and the Transformer's sizes.
    dropout, attention_dropout : float
        Chances of dropping an entry of the projected views, and of the Transformer's updates.
    epochs : int, optional
        Passes over the train rows; by default what makes 100 steps, and at least 6, or without
        experts 400 steps, and at least 20.
    batch_size : int
    learning_rate, weight_decay : float
        AdamW's, after a warm-up over a tenth of the steps falling to zero along a cosine.
    mixup : float
        Parameter of the Beta distribution of shares in which batches are mixed; 0 for none.
    kl_weight : float
        Weight of the KL term from a tenth of the steps on.
    conflict_weight, sim_weight, diff_weight, recon_weight : float
        Weights of the degree of conflict, CMD, orthogonality and reconstruction.
    sequence_encoder, sequence_hidden, text_encoder, text_layers, precision, text_learning_rate
        How sequences and texts are read; see `rcml_misa.estimators.MISAClassifier`. Tables alone
        ignore them. With sequences or texts a batch holds at most 32 rows, `epochs` is 10 by
        default, and a moving average of the weights is kept.
    class_weight : {"balanced"}, dict or None
        Weights of the classes' rows; see `rcml_misa.reading.rows.row_weights`.
    early_stopping : bool
        Whether training ends once the loss on held-out train rows has not fallen for `patience`
        epochs; the best epoch is then kept instead of the last.
    validation_fraction : float
        Share of the train rows held out for it, from the experts too.
    patience : int
    device : {"auto", "cpu", "cuda"}
    random_state : int, optional

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
    experts_ : ViewExperts or None
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the opinions in their product; see `stack_weights`.
    module_ : RCMLMISANet
    calibrator_ : Calibrator
        Of `predict_proba`, from the train rows' own opinions, in which experts speak
        leave-one-out.
    history_ : dict of str to list of float
        Mean of each loss term per epoch.

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

    _reads_sequences: ClassVar[bool] = True
    _leaves_out_missing: ClassVar[bool] = True
    _precision: ClassVar[type[np.floating[Any]]] = np.float32

    def __init__(
        self,
        *,
        views: Any = None,
        collectors: Sharing = "separate",
        fusion: TokenFusionOperator = "mixture",
        collector: CollectorKind = "shares",
        expert: Literal["kernel", "none"] = "kernel",
        landmarks: int = 2100,
        kernel: KernelChoice = "auto",
        stacking: bool = True,
        scaling: Scaling = "minmax",
        features: Features = "root-layernorm",
        attention_mask: AttentionMask = "private",
        conflict_discount: bool = True,
        hidden: int = 64,
        heads: int = 2,
        feedforward: int = 128,
        layers: int = 1,
        dropout: float = 0.2,
        attention_dropout: float = 0.0,
        epochs: int | None = None,
        batch_size: int = 200,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        mixup: float = 1.0,
        kl_weight: float = 0.1,
        conflict_weight: float = 0.1,
        sim_weight: float = 0.8,
        diff_weight: float = 0.3,
        recon_weight: float = 0.8,
        sequence_encoder: SequenceEncoderKind = "lstm",
        sequence_hidden: int = 32,
        text_encoder: str = "minilm",
        text_layers: int | None = 6,
        precision: Precision = "auto",
        text_learning_rate: float = 2e-4,
        class_weight: ClassWeight = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        patience: int = 10,
        device: Device = "auto",
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.collectors = collectors
        self.fusion = fusion
        self.collector = collector
        self.expert = expert
        self.landmarks = landmarks
        self.kernel = kernel
        self.stacking = stacking
        self.scaling = scaling
        self.features = features
        self.attention_mask = attention_mask
        self.conflict_discount = conflict_discount
        self.hidden = hidden
        self.heads = heads
        self.feedforward = feedforward
        self.layers = layers
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.mixup = mixup
        self.kl_weight = kl_weight
        self.conflict_weight = conflict_weight
        self.sim_weight = sim_weight
        self.diff_weight = diff_weight
        self.recon_weight = recon_weight
        self.sequence_encoder = sequence_encoder
        self.sequence_hidden = sequence_hidden
        self.text_encoder = text_encoder
        self.text_layers = text_layers
        self.precision = precision
        self.text_learning_rate = text_learning_rate
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X, one label per row y and weights of the rows.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        everything = self._check_train(X, y, sample_weight)
        self.device_ = pick_device(self.device)
        seeds = np.random.SeedSequence(self.random_state).spawn(5)
        self.stack_: Array | None = None
        self.experts_: ViewExperts | None = None
        fit = self._fit_sequences if has_sequences(everything.views) else self._fit_tables
        fit(everything, seeds=seeds, build=self._build, loss=self._loss, callback=callback)
        return self

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
        total = (
            terms["edl"]
            + self.conflict_weight * terms["conflict"]
            + self.sim_weight * terms["sim"]
            + self.diff_weight * terms["diff"]
            + self.recon_weight * terms["recon"]
        )
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    def _token_outputs(
        self, views: MultiView, *, size: int = 256, attention: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], TokenOpinions]]:
        if has_sequences(views):
            size = min(size, LARGEST_BATCH)
            yield from self._sequence_outputs(views, size=size, attention=attention)
        else:
            yield from self._table_outputs(views, size=size, attention=attention)

    def _loss_target(self, y: ArrayLike) -> Tensor:
        codes = np.searchsorted(self.classes_, np.asarray(y))
        return F.one_hot(torch.from_numpy(codes), len(self.classes_)).float()

    def _loss_terms(self, output: TokenOpinions, target: Tensor) -> Mapping[str, Tensor]:
        return self._loss(output, target, 1.0, None)

    @torch.inference_mode()
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        reader = self._sequence_states if has_sequences(views) else self._table_states
        fused, private, shared = (part.double().cpu() for part in reader(views))
        present = present_views(views, torch.device("cpu"))
        return MultiViewOpinion(
            evidence=fused.numpy(),
            views=dict(zip(self.view_names_, private.transpose(0, 1).numpy(), strict=True)),
            shared=shared.numpy(),
            conflict=mean_conflict(private, present).numpy(),
        )
