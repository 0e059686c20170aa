"""Answers in torch: what fitted estimators state of rows, from raw views to named outputs."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from rcml_misa.calibration import LEAST_SHARE, SUREST, TIE, Calibrator
from rcml_misa.estimators.answering import network_logs, plain_odds
from rcml_misa.estimators.pooling import Fusion
from rcml_misa.estimators.suspicion import NEARLY, USUAL_LIMITS
from rcml_misa.export.members import RidgeLogits
from rcml_misa.export.readings import ColumnReading, tensor
from rcml_misa.export.standing import MOST_VIEWS, MembershipStanding
from rcml_misa.opinions import Opinion, keep_present, mean_conflict

__all__ = ["Answers", "Calibration", "PooledAnswers", "clear_suspects", "network_of"]

LEAST_CHANCE = 1e-9  # of the top class, and of all others
LEAST_REST = 1e-300


class Answers(nn.Module):
    """Base of the graphs' answers: `forward` maps views and their presence to named outputs."""

    #: Names of what is answered.
    outputs: tuple[str, ...] = ("probability", "evidence", "uncertainty", "conflict", "views")
    #: Sentences on what the graph does otherwise than the estimator.
    notes: tuple[str, ...] = ()
    #: Whether only rows that have every view are answered.
    whole_rows: bool = False

    @abstractmethod
    def forward(self, rows: Tensor, present: Tensor, heard: Tensor) -> Mapping[str, Tensor]:
        """Answer rows of float64 columns (n, d) of all views, zeros where a view is missing.

        `present` (n, N) tells which views each row has, `heard` which of these are not set aside.
        """


def network_of(model: Any) -> nn.Module:
    """Copy the trained network of an estimator, on the CPU, for prediction alone."""
    module: nn.Module = copy.deepcopy(model.module_).cpu().eval()
    return module.requires_grad_(False)


class Calibration(nn.Module):
    """Calibrated probabilities as `Calibrator` computes them."""

    def __init__(self, calibrator: Calibrator) -> None:
        super().__init__()
        self.exponent = calibrator.exponent
        self.slope = calibrator.slope
        self.offset = calibrator.offset

    def forward(self, evidence: Tensor) -> Tensor:
        """Compute probabilities (n, K) of evidence (n, K)."""
        classes = evidence.shape[1]
        total = evidence.sum(dim=1, keepdim=True).clamp_min(1e-12)
        chances = (self.exponent * (evidence / total + LEAST_SHARE).log()).softmax(dim=1)
        first = torch.arange(classes) == evidence.argmax(dim=1, keepdim=True)
        others = torch.where(first, 0.0, chances)
        top = (chances - others).sum(dim=1, keepdim=True).clamp(LEAST_CHANCE, 1 - LEAST_CHANCE)
        others = others / others.sum(dim=1, keepdim=True).clamp_min(LEAST_REST)
        second = others.amax(dim=1, keepdim=True)
        odds = top.log() - (1 - top).log()
        mapped = torch.maximum(
            (self.slope * odds + self.offset).sigmoid(), (second + TIE) / (1 + second)
        ).clamp_max(SUREST)
        some = (evidence != 0).any(dim=1, keepdim=True)
        return torch.where(some, torch.where(first, mapped, others * (1 - mapped)), 1 / classes)


def clear_suspects(gains: Tensor, limit: float, *, learnt: bool) -> Tensor:
    """Mark the views (n, N) that are clearly suspected, one of a row at most; see `Suspicion`.

    `gains` (n, N) are NaN where a row lacks a view.
    """
    views = gains.shape[1]
    if views < 2:
        return torch.zeros_like(gains, dtype=torch.bool)
    count = (~gains.isnan()).sum(dim=1, keepdim=True)
    ranked = gains.nan_to_num(-torch.inf)
    best = ranked.topk(2, dim=1).values
    first, second = best[:, :1], best[:, 1:]
    told_apart = (second <= (NEARLY * first).clamp_min(0)) & (count > (1 if learnt else 2))
    clear = (first > limit) & (count > 1) & told_apart
    return clear & (torch.arange(views) == ranked.argmax(dim=1, keepdim=True))


class PooledAnswers(Answers):
    """Answers of `RCMLMISAClassifier` and `RidgeExpertClassifier`: members, networks or a pool."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        experts, share = getattr(model, "experts_", None), getattr(model, "share_", 0.0)
        self.share = float(share)
        maps = [lift.columns for lift in experts.lifts_] if experts else []
        self.members = RidgeLogits(experts) if experts else None
        self.network = network_of(model) if self.share else None
        self.columns = ColumnReading(maps) if maps else None
        self.network_columns = None
        if self.network is not None:  # rounded as the network's inputs are
            self.network_columns = ColumnReading(model.maps_, torch.float32)
        learnt = getattr(model, "membership_", None)
        self.standing = None if learnt is None else MembershipStanding(learnt)
        self.fusion = Fusion(
            model.fusion, model.conflict_discount, model.stack_, model.worth_, model.power_
        )
        calibrator = getattr(model, "calibrator_", None)
        self.calibrate = None if calibrator is None else Calibration(calibrator)
        self.register_buffer("class_shares", tensor(model.class_shares_))
        self.excluding = model.suspect == "exclude" and len(model.view_names_) > 1
        self.limit = float(getattr(model, "suspect_limits_", USUAL_LIMITS)[1])
        if learnt is not None and len(model.view_names_) > MOST_VIEWS:
            self.whole_rows = True
            self.notes = (
                f"rows must have every view, and get NaN otherwise: with more than {MOST_VIEWS} "
                "views the sets of those that a row may have are too many for a graph",
            )

    class_shares: Tensor

    def forward(self, rows: Tensor, present: Tensor, heard: Tensor) -> Mapping[str, Tensor]:
        """Answer rows; see `Answers`."""
        own, joint, witness = self._logits(rows, present)
        if self.standing is None:
            posterior, familiar = plain_odds(witness, present)
        else:
            posterior, familiar = self.standing(rows, present, witness)
        fused = self.fusion.fuse(own, joint, present, posterior, familiar, leave_out=self.excluding)
        evidence, familiarity = fused.fused, fused.familiarity.unsqueeze(1)
        if self.excluding:
            gains = fused.gains.where(heard, torch.nan)
            learnt = self.standing is not None
            suspects = clear_suspects(gains, self.limit, learnt=learnt)
            evidence = torch.where(suspects.any(dim=1, keepdim=True), fused.rest, evidence)
            heard = heard & ~suspects
        private = keep_present(fused.private, heard)
        opinion = Opinion(evidence)
        probability = opinion.projected_probability
        if self.calibrate is not None:
            probability = self.calibrate(evidence)
            probability = familiarity * probability + (1 - familiarity) * self.class_shares
        return {
            "probability": probability,
            "evidence": evidence,
            "uncertainty": opinion.uncertainty,
            "conflict": mean_conflict(private, heard),
            "views": private,
        }

    def _logits(self, rows: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the views (n, N, K) and of all (n, K), and witness shares (n, N, K)."""
        members = None
        if self.members is not None and self.columns is not None:
            members = self.members(self.columns(rows, ~present), present)
        if self.network is None or self.network_columns is None:
            return members  # type: ignore[return-value]  # one of the two is there
        output = self.network(self.network_columns(rows, ~present), present)
        own, joint = network_logs(output.private.double(), output.shared.double(), present)
        if members is None:
            own = torch.where(present.unsqueeze(-1), own, 0.0)
            return own, torch.zeros_like(own[:, 0]) if joint is None else joint, own.softmax(-1)
        views, both, witness = members
        own = self.share * own + (1 - self.share) * views.log_softmax(dim=-1)
        if joint is not None:
            both = self.share * joint + (1 - self.share) * both.log_softmax(dim=-1)
        return own, both, witness
