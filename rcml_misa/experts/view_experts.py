"""Kernel experts of a set of views, one per view and one joint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.experts.expert import KernelExpert, fit_experts
from rcml_misa.experts.logits import ExpertLogits, Member, RowWeights, expert_logits
from rcml_misa.experts.mapped_views import MappedViews
from rcml_misa.experts.ridge import KernelChoice
from rcml_misa.experts.scoring import ExpertScorer
from rcml_misa.experts.sums import looked_rows
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import Scaling
from rcml_misa.reading.plan import ReadingPlan
from rcml_misa.views import MultiView

__all__ = ["ViewExperts"]

Array = NDArray[np.float64]
CPU = torch.device("cpu")


class ViewExperts:
    """One `KernelExpert` per view and one for all views side by side.

    Parameters
    ----------
    landmarks : int
        Largest number of Nystroem landmarks of the joint expert; where there are more rows, each
        view's own expert has half as many.
    kernel, scaling, random_state
        See `KernelExpert`.

    Attributes
    ----------
    looked_ : ndarray of shape (m,)
        Numbers of the train rows that have leave-one-out logits; see `looked_rows`.
    train_logits_ : ExpertLogits
        Leave-one-out logits of these rows.
    """

    def __init__(
        self,
        *,
        landmarks: int = 2100,
        kernel: KernelChoice = "auto",
        scaling: Scaling = "minmax",
        random_state: int | None = None,
    ) -> None:
        self.landmarks = landmarks
        self.kernel = kernel
        self.scaling = scaling
        self.random_state = random_state

    def fit(
        self,
        views: MultiView,
        codes: NDArray[np.int64],
        *,
        weights: Array | None = None,
        maps: Sequence[ColumnMap] | None = None,
        device: torch.device = CPU,
    ) -> Self:
        """Fit every expert on the rows of `views`, class numbers `codes` and weights (n,).

        `maps` may hold the columns of the views, fitted in both readings; sums are solved on
        `device`. A view's expert learns from the rows that have the view, the joint one from all,
        with the columns' means in place of missing views.
        """
        vars(self).pop("_scorer", None)
        kinds = None if maps is None else list(zip(*(m.maps for m in maps), strict=True))
        mapped = MappedViews(views.arrays, scaling=self.scaling, maps=kinds)
        present, classes = views.present, int(codes.max()) + 1
        groups: list[tuple[int, ...]] = [(width,) for width in views.widths]
        having = list(present.T)
        if len(views) > 1:
            groups.append(tuple(views.widths))
            having.append(np.ones(len(codes), dtype=bool))
        experts = [self._expert(own, len(groups), len(codes)) for own in groups]
        for expert in experts:
            expert.classes_ = np.arange(classes)
        owned = [RowWeights.of(codes, here, weights) for here in having]
        self.looked_ = looked = looked_rows(present, classes)
        fit_experts(experts, mapped, codes, owned, looked, device)
        self.views_, self.joint_ = experts[: len(views)], experts[-1]
        scores = np.zeros((len(views), len(looked), classes))
        for score, own, here in zip(scores, self.views_, present.T, strict=True):
            score[here[looked]] = own.loo_scores_
        self.train_logits_ = expert_logits(
            [*self.views_, self.joint_], list(scores), self.joint_.loo_scores_, present[looked]
        )
        return self

    def _expert(self, groups: tuple[int, ...], members: int, rows: int) -> KernelExpert:
        # one view is learnt from fewer landmarks than all of them together
        fewer = len(groups) < members - 1 and rows > self.landmarks
        return KernelExpert(
            groups=groups,
            landmarks=max(self.landmarks // 2, 1) if fewer else self.landmarks,
            kernel=self.kernel,
            scaling=self.scaling,
            random_state=self.random_state,
        )

    def logits(self, views: MultiView) -> ExpertLogits:
        """Compute the logits of new rows."""
        scores = self._scorer(views.arrays)
        members = [*self.views_, self.joint_]
        return expert_logits(members, scores.views, scores.joint, views.present)

    def scorer(self, plan: ReadingPlan) -> ExpertScorer:
        """Make the experts ready to score rows that a plan reads."""
        return ExpertScorer(self.views_, self.joint_, plan)

    @property
    def members(self) -> Sequence[Member]:
        """Members of the views, the joint one last."""
        return [*self.views_, self.joint_]

    @property
    def dtype(self) -> torch.dtype:
        """Type in which rows are scored: float64 where train rows are few."""
        return torch.float64 if self.joint_.columns_.double else torch.float32

    @cached_property
    def _scorer(self) -> ExpertScorer:
        return ExpertScorer(self.views_, self.joint_)

    def __getstate__(self) -> dict[str, Any]:
        # made again when it is needed
        return {name: value for name, value in vars(self).items() if name != "_scorer"}
