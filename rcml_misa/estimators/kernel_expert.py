"""Kernel experts: alone, fused as RCML-MISA fuses, and as inputs of its network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration import Calibrator
from rcml_misa.estimators.base import ClassWeight, EvidentialClassifier, TrainRows
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.outputs import Rows, mixing_partners, present_views, row_tensor
from rcml_misa.experts.ridge import KernelChoice, blocks
from rcml_misa.experts.view_experts import ExpertLogits, ViewExperts
from rcml_misa.losses import edl_loss, weighted_mean
from rcml_misa.nn.networks import TokenOpinions
from rcml_misa.nn.tokens import shares_to_evidence
from rcml_misa.opinions import fuse_mixture, keep_present, opinions_present, present_share
from rcml_misa.options import keyword_parameters
from rcml_misa.reading.features import FeatureMap, Scaling
from rcml_misa.reading.rows import InputTable
from rcml_misa.training import History, Optimisation, Progress, permuted_batches, train
from rcml_misa.views import MultiView, dense

__all__ = ["ExpertTables", "KernelExpertClassifier", "TableTrainer"]

SLOPE, OFFSET = torch.tensor(5.0), torch.tensor(0.0)  # where RCML-MISA's collectors start


@keyword_parameters
class KernelExpertClassifier(EvidentialClassifier):
    """One closed-form kernel expert per view and one for all views, fused; nothing is trained.

    Its opinions are those of an RCML-MISA before its first step, so that the difference between
    the two is what the network adds.

    Parameters
    ----------
    landmarks : int
        Largest number of Nystroem landmarks of the joint expert; see `ViewExperts`.
    kernel : {"auto", "smooth", "medium", "rough", "fine"}
        Kernels of the experts; ``"auto"`` chooses each by its leave-one-out scores.
    stacking : bool
        Whether opinions count in their product by weights fitted to leave-one-out opinions.
    views, scaling, class_weight, random_state
        See `MultiViewEstimator`.

    Attributes
    ----------
    experts_ : ViewExperts
        Experts of the views and of all columns.
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the opinions in their product; see `stack_weights`.
    calibrator_ : Calibrator
        Calibration of `predict_proba`, from leave-one-out opinions of the train rows.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = KernelExpertClassifier(views=[2, 2], random_state=0).fit(X, y)
    >>> float(model.score(X, y)) > 0.9
    True
    """

    _leaves_out_missing: ClassVar[bool] = True

    views: Any = None
    landmarks: int = 2100
    kernel: KernelChoice = "auto"
    stacking: bool = True
    scaling: Scaling = "minmax"
    class_weight: ClassWeight = None
    random_state: int | None = None

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit every expert on views X, one label per row y and weights of the rows."""
        views, codes, weights = self._check_train(X, y, sample_weight)
        self.experts_ = ViewExperts(
            landmarks=self.landmarks,
            kernel=self.kernel,
            scaling=self.scaling,
            random_state=self.random_state,
        ).fit(views, codes, weights=weights)
        logits = self.experts_.train_logits_  # leave-one-out
        self.stack_ = logits.stack(codes, weights=weights) if self.stacking else None
        evidence = [self._fuse(logits.take(block)).evidence for block in blocks(len(codes))]
        self.calibrator_ = Calibrator.fit(np.concatenate(evidence), codes, weights)
        return self

    def _fuse(self, logits: ExpertLogits) -> MultiViewOpinion:
        own, joint = torch.from_numpy(logits.views), torch.from_numpy(logits.joint).unsqueeze(1)
        private, shared = (shares_to_evidence(part, SLOPE, OFFSET) for part in (own, joint))
        present = None
        if logits.present is not None:
            present = torch.from_numpy(logits.present)
            private = keep_present(private, present)
            shared = keep_present(shared, opinions_present(present, 1)[:, -1:])
            shared = shared * present_share(present)
        weights = None if self.stack_ is None else torch.from_numpy(self.stack_)
        witness = own.softmax(dim=-1)
        fused = fuse_mixture(private, shared, witness, weights=weights, present=present)
        fused = fused * torch.from_numpy(logits.trust[:, None])
        return self._opinion_of(fused, private, shared, present)

    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        return self._fuse(self.experts_.logits(views))


@dataclass(frozen=True)
class ExpertTables:
    """Reader of views that are all tables: mapped columns, experts' logits, one-hot classes."""

    maps: Sequence[FeatureMap]
    experts: ViewExperts | None
    classes: int
    device: torch.device

    def read(
        self,
        views: MultiView,
        *,
        logits: ExpertLogits | None = None,
        codes: NDArray[np.int64] | None = None,
    ) -> InputTable:
        """Lay columns, logits and classes of rows side by side in float32.

        The logits are those of new rows by default; those of train rows are leave-one-out.
        """
        if logits is None and self.experts is not None:
            logits = self.experts.logits(views)
        others: list[Tensor] = []
        if logits is not None:
            others = [
                torch.from_numpy(values.reshape(len(values), -1).astype(np.float32))
                for values in (logits.views, logits.joint)
            ]
        if codes is not None:
            others.append(F.one_hot(torch.from_numpy(codes), self.classes).float())
        return InputTable(self.maps, views.arrays, others, device=self.device)

    def run(
        self, module: nn.Module, batch: Tensor, present: Tensor | None, *, attention: bool = False
    ) -> tuple[TokenOpinions, Tensor]:
        """Cut rows of `read` and run the network on them; its output, and the rows' classes."""
        count, classes = len(self.maps), self.classes
        sizes = [feature_map.width for feature_map in self.maps]
        sizes += [] if self.experts is None else [count * classes, classes]
        parts = torch.split(batch, [*sizes, batch.shape[1] - sum(sizes)], dim=1)
        views, rest = parts[:count], parts[-1]
        if self.experts is None:
            return module(views, present=present, attention=attention), rest
        logits, joint = parts[count].reshape(-1, count, classes), parts[count + 1]
        return module(views, logits, joint, present, attention=attention), rest

    def outputs(
        self, module: nn.Module, views: MultiView, size: int, *, attention: bool
    ) -> Iterator[tuple[Rows, TokenOpinions]]:
        """Row numbers of new rows and the network's output for them, in blocks of `size` rows."""
        table, present = self.read(views), present_views(views, self.device)
        for start in range(0, views.n_samples, size):
            rows = np.arange(start, min(start + size, views.n_samples))
            presence = None if present is None else present[rows]
            yield rows, self.run(module, table(rows), presence, attention=attention)[0]

    def states(self, module: nn.Module, views: MultiView) -> tuple[Tensor, Tensor, Tensor]:
        """Fused, private and shared evidence of new rows, the fused one as far as it is trusted."""
        logits = None if self.experts is None else self.experts.logits(views)
        inputs = [
            torch.from_numpy(feature_map.transform(dense(array), np.float32)).to(self.device)
            for feature_map, array in zip(self.maps, views.arrays, strict=True)
        ]
        values = [] if logits is None else [logits.views, logits.joint]
        output = module(
            inputs,
            *(torch.from_numpy(value.astype(np.float32)).to(self.device) for value in values),
            present=present_views(views, self.device),
        )
        fused = output.fused.double().cpu()
        if logits is not None:
            fused *= torch.from_numpy(logits.trust[:, None])
        return fused, output.private, output.shared


@dataclass(frozen=True, kw_only=True)
class TableTrainer:
    """Trainer of a network on rows of an `ExpertTables` reader, in batches that may be mixed.

    `loss` gives the terms of an output, its targets, the share of training done and the weights.
    """

    reader: ExpertTables
    settings: Optimisation
    batch_size: int
    mixup: float
    loss: Callable[[TokenOpinions, Tensor, float, Tensor | None], Mapping[str, Tensor]]

    def train(
        self,
        module: nn.Module,
        table: InputTable,
        rows: TrainRows,
        *,
        mixing: np.random.Generator,
        draws: np.random.Generator,
        held: TrainRows | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> History:
        """Train `module` in place on the table of train rows; `held` rows select the epoch.

        `mixing` draws the mixtures of a batch, `draws` the batches.
        """
        device = self.reader.device
        present, weights = present_views(rows.views, device), row_tensor(rows.weights, device)

        def terms(batch: Rows, done: float) -> Mapping[str, Tensor]:
            inputs = table(batch)
            presence = None if present is None else present[batch]
            weight = None if weights is None else weights[batch]
            if self.mixup:
                share = mixing.beta(self.mixup, self.mixup)
                share = max(share, 1 - share)  # at least a half is the row itself
                partner = mixing_partners(mixing.permutation(len(batch)), presence).to(device)
                inputs = torch.lerp(inputs[partner], inputs, share)
                weight = None if weight is None else torch.lerp(weight[partner], weight, share)
            return self.loss(*self.reader.run(module, inputs, presence), done, weight)

        return train(
            module,
            terms,
            batches=lambda: permuted_batches(len(rows.codes), self.batch_size, draws),
            settings=self.settings,
            validate=None if held is None else self._validation(module, held),
            callback=callback,
        )

    def _validation(self, module: nn.Module, held: TrainRows) -> Callable[[], dict[str, float]]:
        """Mean EDL loss of the fused opinions about held-out rows."""
        table = self.reader.read(held.views, codes=held.codes)
        present = present_views(held.views, self.reader.device)
        weights = row_tensor(held.weights, self.reader.device)

        def validate() -> dict[str, float]:
            output, target = self.reader.run(module, table(slice(None)), present)
            values = edl_loss(output.fused, target, kl_weight=0.0, reduction="none")
            return {"validation": float(weighted_mean(values, weights))}

        return validate

    @torch.no_grad()
    def evidence(
        self, module: nn.Module, table: InputTable, views: MultiView
    ) -> NDArray[np.float64]:
        """Fused evidence of the table's train rows, (n, K), with the experts' logits as trained."""
        present = present_views(views, self.reader.device)
        opinions = [
            self.reader.run(module, table(rows), None if present is None else present[rows])[0]
            for rows in blocks(views.n_samples)
        ]
        return np.asarray(torch.cat([opinion.fused for opinion in opinions]).double().cpu().numpy())
