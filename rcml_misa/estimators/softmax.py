"""Softmax networks and what is built on them: ensembles, MC dropout, last-layer Laplace."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import entropy
from sklearn.utils.metaestimators import available_if
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import ClassWeight, MultiViewClassifier, TrainRows, row_blocks
from rcml_misa.estimators.evidential import EvidentialClassifier
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.outputs import row_tensor
from rcml_misa.exceptions import OptionError
from rcml_misa.experts.laplace import LastLayerLaplace
from rcml_misa.losses import weighted_mean
from rcml_misa.nn.softmax import SoftmaxNet
from rcml_misa.opinions import evidence_of_members, members_information
from rcml_misa.options import Choice, Space, Span, keyword_parameters
from rcml_misa.reading.columns import ColumnMap, Readings
from rcml_misa.reading.features import Scaling
from rcml_misa.reading.rows import InputTable, spare_rows
from rcml_misa.training import (
    Device,
    EpochCallback,
    Optimisation,
    in_turns,
    permuted_batches,
    pick_device,
    seeded,
    train,
)
from rcml_misa.views import MultiView, dense

__all__ = ["EnsembleDirichletClassifier", "SoftmaxClassifier", "SoftmaxNetworks"]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Posterior = Literal["none", "ensemble", "mc-dropout", "laplace"]
PriorPrecision = Literal["held-out", "marginal-likelihood"]
ROWS = 4096  # read at once
HELD = 0.1  # share of the train rows that the prior precision is found on


@keyword_parameters
class SoftmaxNetworks(MultiViewClassifier):
    """Base of the softmax networks, trained by cross-entropy; see `SoftmaxClassifier`."""

    _search: ClassVar[Mapping[str, Space]] = {
        "learning_rate": Span(5e-4, 2e-2, log=True),
        "weight_decay": Span(1e-4, 1e-1, log=True),
        "dropout": Span(0.1, 0.7),
        "hidden": Choice(((128,), (256,), (256, 256), (512, 512))),
        "scaling": Choice(("minmax", "standard", "quantile")),
    }

    views: Any = None
    networks: int = 5
    hidden: tuple[int, ...] = (256, 256)
    dropout: float = 0.5
    scaling: Scaling = "minmax"
    features: Readings = "both"
    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 5e-3
    weight_decay: float = 1e-2
    class_weight: ClassWeight = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int = 10
    calibration_fraction: float = 0.0
    device: Device = "auto"
    random_state: int | None = None

    @property
    @abstractmethod
    def _count(self) -> int:
        """Number of networks to train."""

    def _parts(self, codes: Rows, rng: np.random.Generator) -> list[Rows]:  # noqa: ARG002
        """Numbers of the rows that each network is trained on, as many for all."""
        return [np.arange(len(codes))] * self.networks_

    def _draw(self, rng: np.random.Generator) -> None:
        """Draw what predictions of new rows need, before the training."""

    def _finish(self, rows: TrainRows, columns: InputTable) -> None:
        """Fit what rests on the trained networks, to their train rows."""

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
        given, apart = self._set_apart(self._check_train(X, y, sample_weight))
        self.networks_ = self._count
        self.device_ = pick_device(self.device)
        seeds = np.random.SeedSequence(self.random_state).spawn(5)
        rows, held = self._hold_out(given, np.random.default_rng(seeds[2]))
        self.maps_ = [
            ColumnMap.fit(array, scaling=self.scaling, readings=self.features)
            for array in rows.views.arrays
        ]
        self._draw(np.random.default_rng(seeds[3]))
        table = InputTable(self.maps_, rows.views.arrays, device=self.device_)
        target = torch.from_numpy(rows.codes).to(self.device_)
        weights = row_tensor(rows.weights, self.device_)
        batches = np.random.default_rng(seeds[1])
        parts = self._parts(rows.codes, np.random.default_rng(seeds[4]))

        def loss(turn: tuple[int, Rows], done: float) -> Mapping[str, Tensor]:  # noqa: ARG001
            network, batch = turn
            logits = self._networks[network](table(batch))
            values = F.cross_entropy(logits, target[batch], reduction="none")
            return {"loss": (values if weights is None else values * weights[batch]).mean()}

        def draw(part: Rows) -> Sequence[Rows]:
            return permuted_batches(len(part), self.batch_size, batches)

        with seeded(int(seeds[0].generate_state(1)[0])):
            self.module_ = self._build().to(self.device_)
            self.history_ = train(
                self.module_,
                loss,
                batches=lambda: in_turns(parts, draw),
                settings=Optimisation(
                    epochs=self.epochs,
                    learning_rate=self.learning_rate,
                    weight_decay=self.weight_decay,
                    accumulate=self.networks_,
                    patience=self.patience,
                ),
                validate=None if held is None else self._validation(held),
                callback=callback,
            )
        self._finish(rows, table)
        self._calibrate(apart)
        return self

    def _build(self) -> nn.ModuleList:
        """New networks for the fitted columns and classes."""
        width = sum(columns.width for columns in self.maps_)
        return nn.ModuleList(
            SoftmaxNet(width, classes=len(self.classes_), hidden=self.hidden, dropout=self.dropout)
            for _ in range(self.networks_)
        )

    def _validation(self, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean cross-entropy of the networks on held-out rows."""
        columns = InputTable(self.maps_, held.views.arrays, device=self.device_)(slice(None))
        target = torch.from_numpy(held.codes).to(self.device_)
        weights = row_tensor(held.weights, self.device_)

        def validate() -> dict[str, float]:
            values = torch.stack(
                [
                    F.cross_entropy(network(columns), target, reduction="none")
                    for network in self._networks
                ]
            )
            return {"validation": float(weighted_mean(values.mean(dim=0), weights))}

        return validate

    @property
    def _networks(self) -> list[SoftmaxNet]:
        return [network for network in self.module_ if isinstance(network, SoftmaxNet)]

    def _columns(self, views: MultiView) -> Tensor:
        """Read checked rows: all views' columns side by side, float32 (n, width)."""
        parts = [
            columns.transform(dense(array))
            for columns, array in zip(self.maps_, views.arrays, strict=True)
        ]
        return torch.from_numpy(np.concatenate(parts, axis=1)).float().to(self.device_)

    def _logits(self, columns: Tensor) -> Tensor:
        """Logits of each network, (n, M, K)."""
        return torch.stack([network(columns) for network in self._networks], dim=1).double()

    @torch.inference_mode()
    def _members(self, views: MultiView) -> Tensor:
        """Class probabilities of each member about checked rows, float64 (n, M, K)."""
        return self._logits(self._columns(views)).cpu().softmax(dim=-1)


def _has_members(estimator: Any) -> bool:
    return bool(estimator.posterior != "none")


@keyword_parameters
class SoftmaxClassifier(SoftmaxNetworks):
    """A softmax network on all views' columns, by itself or with a posterior over its weights.

    A plain multi-layer perceptron (Linear, BatchNorm, ReLU and dropout, twice) reads the columns of
    all views side by side and is trained by cross-entropy with AdamW; the last epoch counts. It is
    the baseline that any other statement of uncertainty has to beat. Members are networks, or draws
    of one network's weights; probabilities are their mean. All rows see the same draws, which are
    made once in `fit`, so that predictions are repeatable and do not depend on other rows. Missing
    views are filled with means of the train rows.

    Parameters
    ----------
    posterior : {"none", "ensemble", "mc-dropout", "laplace"}
        One network alone; a deep ensemble of `networks`, each from its own initial weights and
        batches; one network whose dropout stays on in prediction; or one network whose last
        layer's weights have a Gaussian posterior, see `rcml_misa.experts.laplace`.
    networks : int
        Networks of ``"ensemble"``; the others have one.
    samples : int
        Draws of ``"mc-dropout"`` and ``"laplace"``.
    prior_precision : {"held-out", "marginal-likelihood"}
        Choice of the precision of the prior of ``"laplace"``: by the log-likelihood of a tenth of
        the train rows, about which a second network is asked that is trained on the others alone;
        or by the marginal likelihood, which needs no second network and fails where the last layer
        has many more weights than there are rows.
    hidden : tuple of int
        Widths of the hidden layers.
    dropout : float
        Chance of dropping a hidden unit.
    features : {"both", "root-layernorm", "root", "plain", "quantile"}
        Columns that the network reads; see `rcml_misa.reading.columns.ColumnMap`.
    learning_rate : float
        Largest learning rate, after a warm-up over a tenth of the steps falling to zero along a
        cosine.
    views, scaling, epochs, batch_size, weight_decay, class_weight, early_stopping
        See `MultiViewEstimator`, as for the following.
    validation_fraction, patience, calibration_fraction, device, random_state

    Attributes
    ----------
    module_ : ModuleList of SoftmaxNet
        Networks.
    maps_ : list of ColumnMap
        One per view.
    networks_ : int
        Number of networks.
    draws_ : ndarray
        Hidden units that each draw of ``"mc-dropout"`` keeps, (samples, units), or the normal
        draws of ``"laplace"``, (samples, K); else None.
    laplace_ : LastLayerLaplace or None
        Posterior of the last layer.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, Simple and scalable predictive uncertainty estimation
    using deep ensembles, NeurIPS 2017; Gal and Ghahramani, Dropout as a Bayesian approximation,
    ICML 2016; Kristiadi, Hein and Hennig, ICML 2020, and Daxberger et al., NeurIPS 2021 (Laplace).

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SoftmaxClassifier(views=[2, 2], posterior="laplace", epochs=5, random_state=0)
    >>> model.fit(X, y).predict_proba(X).shape, model.predict_mutual_information(X).shape
    ((150, 3), (150,))
    """

    posterior: Posterior = "none"
    samples: int = 50
    prior_precision: PriorPrecision = "held-out"

    @property
    def _count(self) -> int:
        return _ensemble_size(self.networks) if self.posterior == "ensemble" else 1

    def _draw(self, rng: np.random.Generator) -> None:
        self.laplace_: LastLayerLaplace | None = None  # until the network is trained
        self.draws_: NDArray[Any] | None = None
        if self.posterior == "mc-dropout":
            self.draws_ = rng.random((self.samples, sum(self.hidden))) >= self.dropout
        elif self.posterior == "laplace":
            self.draws_ = rng.standard_normal((self.samples, len(self.classes_)))

    def _parts(self, codes: Rows, rng: np.random.Generator) -> list[Rows]:
        parts = super()._parts(codes, rng)
        self._held: Rows = np.empty(0, dtype=np.int64)
        if self.posterior != "laplace" or self.prior_precision == "marginal-likelihood":
            return parts
        spare = spare_rows(codes, rng.permutation(len(codes)))
        self._held = spare[: max(1, round(HELD * len(codes)))]
        if not len(self._held):
            return parts
        self.networks_ = 2
        others = np.setdiff1d(parts[0], self._held)
        # repeated rows fill the place of the held ones: networks take the same number of steps
        return [*parts, np.append(others, rng.choice(others, len(self._held)))]

    @torch.inference_mode()
    def _finish(self, rows: TrainRows, columns: InputTable) -> None:
        if self.posterior != "laplace":
            return
        held, precision = self._held, None
        del self._held
        if len(held) and self.draws_ is not None:
            others = np.setdiff1d(np.arange(columns.rows), held)
            posterior = _laplace(self._networks[1], columns, others, rows.weights)
            features, head = _last_layer(self._networks[1], columns, held)
            precision = posterior.best_precision(
                features @ head.T,
                features,
                self.draws_,
                rows.codes[held],
                None if rows.weights is None else rows.weights[held],
            )
            self.module_, self.networks_ = self.module_[:1], 1
        everything = np.arange(columns.rows)
        self.laplace_ = _laplace(self._networks[0], columns, everything, rows.weights, precision)

    def _logits(self, columns: Tensor) -> Tensor:
        network = self._networks[0]
        if self.draws_ is not None and self.posterior == "mc-dropout":
            kept = torch.from_numpy(self.draws_).to(columns)
            return torch.stack([network(columns, units) for units in kept], dim=1).double()
        if self.draws_ is None or self.laplace_ is None:
            return super()._logits(columns)
        features = network.features(columns)
        logits = network.head(features).double().cpu().numpy()
        return torch.from_numpy(self.laplace_.sample(logits, _with_constant(features), self.draws_))

    def _answers(self, views: MultiView, measure: Callable[[Tensor], Tensor]) -> Array:
        """Measures of the members' probabilities about rows, computed in blocks."""
        blocks = row_blocks(views)
        return np.asarray(torch.cat([measure(self._members(block)) for block in blocks]).numpy())

    def _stated(self, views: MultiView) -> Array:
        return self._answers(views, lambda members: members.mean(dim=1))

    def predict_uncertainty(self, X: Any) -> Array:
        """Compute the entropy of the probabilities over log K, (n,), in [0, 1]: the total one."""
        shares = entropy(self.predict_proba(X), axis=1) / math.log(len(self.classes_))
        return np.asarray(np.clip(shares, 0, 1))

    @available_if(_has_members)  # type: ignore[untyped-decorator]
    def predict_mutual_information(self, X: Any) -> Array:
        """Compute the mutual information of class and member, (n,), in nats: the epistemic part.

        It is the entropy of the mean probabilities minus the members' mean entropy, hence at most
        log K, and 0 where members agree; ``posterior="none"`` has none. See
        `rcml_misa.opinions.members_information`.
        """
        return self._answers(self._check_rows(X), members_information)


@keyword_parameters
class EnsembleDirichletClassifier(SoftmaxNetworks, EvidentialClassifier):
    """A deep ensemble of softmax networks, whose members' moments make an opinion.

    The opinion about a row is the Dirichlet with the mean and the total variance of the members'
    probabilities, see `rcml_misa.opinions.dirichlet_of_members`: its evidence is large where
    members agree. So ensembles and evidential methods can be asked the same. `predict_proba` is the
    members' mean, as of ``SoftmaxClassifier(posterior="ensemble")`` with the same parameters, whose
    networks are the same; `projected_probability` is nearer to uniform where the members' strength
    does not suffice for a parameter of 1 of every class, which an opinion has at least.

    Parameters
    ----------
    networks : int
        Networks of the ensemble, at least 2.
    hidden, dropout, learning_rate
        See `SoftmaxClassifier`.
    features : {"both", "root-layernorm", "root", "plain", "quantile"}
        See `SoftmaxClassifier`.
    views, scaling, epochs, batch_size, weight_decay, class_weight, early_stopping
        See `MultiViewEstimator`, as for the following.
    validation_fraction, patience, calibration_fraction, device, random_state

    Attributes
    ----------
    module_, maps_, networks_
        See `SoftmaxClassifier`.

    References
    ----------
    Lakshminarayanan, Pritzel and Blundell, NeurIPS 2017; Malinin, Mlodozeniec and Gales, Ensemble
    distribution distillation, ICLR 2020, which learns such a Dirichlet.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = EnsembleDirichletClassifier(views=[2, 2], networks=2, epochs=5, random_state=0)
    >>> model.fit(X, y).predict_opinion(X).evidence.shape
    (150, 3)
    """

    @property
    def _count(self) -> int:
        return _ensemble_size(self.networks)

    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        members = self._members(views)
        evidence = evidence_of_members(members).numpy()
        rows, classes = evidence.shape
        return MultiViewOpinion(
            evidence=evidence,
            views={},
            shared=np.empty((rows, 0, classes)),
            conflict=np.zeros(rows),
            calibrated=members.mean(dim=1).numpy(),
        )


def _ensemble_size(networks: int) -> int:
    if networks < 2:
        raise OptionError(f"networks={networks} make no ensemble; give 2 or more.")
    return networks


def _last_layer(network: SoftmaxNet, columns: InputTable, rows: Rows) -> tuple[Array, Array]:
    """Inputs of the last layer with the constant 1, (n, D), and its weights with the bias, (K, D).

    Both are float64; rows are read in blocks.
    """
    blocks = np.array_split(rows, math.ceil(len(rows) / ROWS))
    features = torch.cat([network.features(columns(block)) for block in blocks])
    head = torch.cat([network.head.weight, network.head.bias.unsqueeze(1)], dim=1)
    return _with_constant(features), head.double().cpu().numpy()


def _laplace(
    network: SoftmaxNet,
    columns: InputTable,
    rows: Rows,
    weights: Array | None,
    precision: float | None = None,
) -> LastLayerLaplace:
    """Posterior of a network's last layer from some of the train rows."""
    features, head = _last_layer(network, columns, rows)
    return LastLayerLaplace.fit(
        features,
        softmax(features @ head.T, axis=1),
        head,
        None if weights is None else weights[rows],
        prior_precision=precision,
    )


def _with_constant(features: Tensor) -> Array:
    """Append the constant 1 that the last layer's bias multiplies, in float64."""
    return np.asarray(F.pad(features, (0, 1), value=1.0).double().cpu().numpy())
