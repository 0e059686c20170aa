"""Ridge members in torch: from mapped columns to logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.experts.ridge_experts import Lift, RidgeExperts
from rcml_misa.export.readings import tensor

__all__ = ["RidgeLogits"]


class _LiftedScores(nn.Module):
    """Scores of the view's own member and of the joint one of a view's lifted columns.

    Both are linear in the columns and in their random features, so that the scales of `Lift` go
    into the weights.
    """

    weights: Tensor
    offset: Tensor
    linear: Tensor
    lifted: Tensor

    def __init__(self, lift: Lift, coefficients: NDArray[np.floating[Any]]) -> None:
        super().__init__()
        width = len(lift.weights)
        self.register_buffer("weights", tensor(lift.scale * lift.weights))
        self.register_buffer("offset", tensor(lift.offset))
        self.register_buffer("linear", tensor(lift.scale * coefficients[:width]))
        factor = 2 / np.sqrt(len(lift.offset))
        self.register_buffer("lifted", tensor(factor * coefficients[width:]))

    def forward(self, mapped: Tensor) -> Tensor:
        units = (mapped @ self.weights + self.offset).relu()
        return mapped @ self.linear + units @ self.lifted


class RidgeLogits(nn.Module):
    """Logits of `RidgeExperts`: bounded, tempered scores of each view's member and the joint one.

    Scores decide in float64: temperatures multiply what single precision rounds away.
    """

    intercepts: Tensor
    bounds: Tensor
    temperatures: Tensor
    raw_temperatures: Tensor

    def __init__(self, experts: RidgeExperts) -> None:
        super().__init__()
        *members, joint = experts.members_
        self.views = len(members)
        widths = [sum(lift.weights.shape) for lift in experts.lifts_]
        parts = np.split(np.asarray(joint.weights, dtype=np.float64), np.cumsum(widths)[:-1])
        if self.views == 1:
            parts = [np.empty((widths[0], 0))]  # the joint member is the view's own
        self.scores = nn.ModuleList(
            _LiftedScores(lift, np.concatenate([member.weights, part], axis=1))
            for lift, member, part in zip(experts.lifts_, members, parts, strict=True)
        )
        every = [*members, joint]
        stacked = {
            "intercepts": [member.intercept for member in every],
            "bounds": [member.bound_ for member in every],
            "temperatures": [member.temperature_ for member in every],
            "raw_temperatures": [member.raw_temperature_ for member in every],
        }
        for name, values in stacked.items():
            self.register_buffer(name, tensor(np.array(values)))

    def forward(self, mapped: Sequence[Tensor], present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits (n, N, K) and (n, K), and witness shares, of mapped columns (n, d_v).

        Views that are not `present` (n, N) have logits of 0 and uniform shares.
        """
        both = [scores(part) for scores, part in zip(self.scores, mapped, strict=True)]
        classes = self.intercepts.shape[1]
        own = torch.stack([part[:, :classes] for part in both], dim=1) + self.intercepts[:-1]
        joint = own[:, 0]
        if self.views > 1:
            joint = torch.stack([part[:, classes:] for part in both]).sum(dim=0)
            joint = joint + self.intercepts[-1]
        here = present.unsqueeze(-1)
        views = self.temperatures[:-1, None] * torch.minimum(own, self.bounds[:-1, None])
        raw = self.raw_temperatures[:-1, None] * own
        return (
            torch.where(here, views, 0.0),
            self.temperatures[-1] * torch.minimum(joint, self.bounds[-1]),
            torch.where(here, raw, 0.0).softmax(dim=-1),
        )
