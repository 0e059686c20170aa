"""Scores of the ridges of a set of views: their linear maps folded into one matrix per view."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rcml_misa.reading.plan import ColumnPlan, Reading, ReadingPlan

if TYPE_CHECKING:
    from rcml_misa.experts.ridge_experts import Lift, RidgeMember

__all__ = ["RidgeScorer"]

ROWS = 256  # whose random units are held at once


class RidgeScorer:
    """The members of `RidgeExperts` made ready to score new rows.

    One product per view gives the linear parts of its own and the joint score and the inputs of
    its random units, a second one what the rectified units add to both.

    Parameters
    ----------
    lifts : sequence of Lift
        Features of each view.
    members : sequence of RidgeMember
        Ridges of the views, the joint one last.
    plan : ReadingPlan
        Plan that reads the columns.
    """

    def __init__(
        self, lifts: Sequence[Lift], members: Sequence[RidgeMember], plan: ReadingPlan
    ) -> None:
        self.plan, (*own, last) = plan, members
        self.classes = last.weights.shape[1]
        single = len(own) == 1
        joint, self.first, self.second = last.weights, [], []
        for view, (lift, member) in enumerate(zip(lifts, own, strict=True)):
            width, units = lift.weights.shape
            parts = [member.weights, joint[: width + units]]
            intercepts = [member.intercept, last.intercept * (view == 0)]
            joint = joint[width + units :]
            weights = np.concatenate([part.T for part in parts[: 1 if single else 2]])
            linear = np.concatenate([weights[:, :width], lift.weights.T]) * lift.scale
            constant = np.concatenate([*intercepts[: 1 if single else 2], lift.offset])
            self.first.append(ColumnPlan(lift.columns, view, plan).linear(linear, constant))
            lifted = weights[:, width:] * (2 / np.sqrt(units))
            self.second.append(torch.from_numpy(np.ascontiguousarray(lifted)).to(plan.dtype))

    def score(self, reading: Reading) -> tuple[Tensor, Tensor]:
        """Scores (N, K, n) of the views' members and (K, n) of the joint one for rows read."""
        classes, dtype = self.classes, self.plan.dtype
        own = torch.empty((len(self.first), classes, reading.rows), dtype=dtype)
        joint = torch.empty((classes, reading.rows), dtype=dtype)
        for linear in self.first:
            if linear.second is not None:
                linear.prepare(reading)
        for rows, tile in reading.tiles(ROWS):
            total = joint[:, rows]
            for view, (linear, second) in enumerate(zip(self.first, self.second, strict=True)):
                values = linear(tile)
                scores, units = values[: len(second)], values[len(second) :]
                scores.addmm_(second, units.relu_())
                own[view, :, rows] = scores[:classes]
                if not view:
                    total.copy_(scores[-classes:])
                else:
                    total += scores[-classes:]
        return own, joint
