"""Answers of methods that are networks alone: the peers, and RCML-MISA for scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rcml_misa.calibration import LIMIT, ScaleCalibrator
from rcml_misa.estimators.evidential_regression import USUAL_LIMITS
from rcml_misa.export.answers import Answers, Calibration, clear_suspects, network_of
from rcml_misa.export.readings import FeatureReading, tensor
from rcml_misa.opinions import Opinion, keep_present, mean_conflict
from rcml_misa.opinions.nig import NIG, fuse_nig, nig_gains
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import ViewMeans

__all__ = ["EvidenceAnswers", "ScaleCalibration", "ScoreAnswers"]


class _Filled(nn.Module):
    """Columns in single precision, read with the means of train rows in place of missing views."""

    means: Tensor
    owners: Tensor

    def __init__(self, maps: Sequence[FeatureMap], means: ViewMeans | None) -> None:
        super().__init__()
        self.reading = FeatureReading(maps)
        self.filling = means is not None
        if means is not None:
            widths = [len(mean) for mean in means.means]
            owners = np.repeat(np.arange(len(widths)), widths)
            self.register_buffer("means", tensor(np.concatenate(means.means)))
            self.register_buffer("owners", torch.from_numpy(owners))

    def forward(self, rows: Tensor, present: Tensor) -> list[Tensor]:
        missing = ~present
        if self.filling:
            rows = torch.where(missing[:, self.owners], self.means, rows)
            missing = torch.zeros_like(missing)
        return [table.float() for table in self.reading(rows, missing)]


class EvidenceAnswers(Answers):
    """Answers of RCML, TMC, ETMC, CCML, EDL and their like: one network on scaled columns."""

    aside: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.leaves_out = model._leaves_out_missing
        self.inputs = _Filled(model.maps_, None if self.leaves_out else model.view_means_)
        self.network = network_of(model)
        # the network of one table has all columns side by side, and no opinion of a view
        self.joined = hasattr(model, "prior_weight")
        if self.joined:
            self.outputs = self.outputs[:-1]
        self.prior = float(getattr(model, "prior_weight", 1.0))
        aside = np.isin(model.view_names_, model.set_aside_)
        self.register_buffer("aside", torch.from_numpy(aside))
        calibrator = getattr(model, "calibrator_", None)
        self.calibrate = None if calibrator is None else Calibration(calibrator)

    def forward(self, rows: Tensor, present: Tensor, heard: Tensor) -> Mapping[str, Tensor]:
        """Answer rows; see `Answers`."""
        inputs = self.inputs(rows, present)
        private = None
        if self.joined:
            evidence = self.network([torch.cat(inputs, dim=1)]).fused.double() / self.prior
        else:
            output = self.network(inputs, heard) if self.leaves_out else self.network(inputs)
            evidence = output.fused.double()
            if not self.leaves_out:  # means stand for what is missing
                heard = (~self.aside).expand_as(heard)
            private = keep_present(output.private.double(), heard)
        opinion = Opinion(evidence)
        probability = opinion.projected_probability
        if self.calibrate is not None:
            probability = self.calibrate(evidence)
        answers = {
            "probability": probability,
            "evidence": evidence,
            "uncertainty": opinion.uncertainty,
        }
        if private is None:
            return {**answers, "conflict": torch.zeros_like(opinion.uncertainty)}
        return {**answers, "conflict": mean_conflict(private, heard), "views": private}


class ScaleCalibration(nn.Module):
    """Corrected scales of opinions about a score as `ScaleCalibrator` computes them."""

    centre: Tensor
    spread: Tensor
    weights: Tensor

    def __init__(self, calibrator: ScaleCalibrator) -> None:
        super().__init__()
        self.offset = calibrator.offset
        for name in ("centre", "spread", "weights"):
            self.register_buffer(name, tensor(getattr(calibrator, name)))

    def forward(self, fused: NIG, views: NIG) -> NIG:
        """Correct the scale of fused opinions (n,) beside the views' own (n, N)."""
        apart = (views.nu * (views.gamma - fused.gamma.unsqueeze(-1)).square()).sum(dim=-1)
        raw = [fused.scale.log(), fused.gamma.abs(), (apart / views.nu.sum(dim=-1)).sqrt()]
        features = (torch.stack(raw, dim=1) - self.centre) / self.spread
        slopes = (features.clamp(-LIMIT, LIMIT) * self.weights).sum(dim=1)
        return fused._replace(beta=fused.beta * (self.offset + slopes).exp().square())


class ScoreAnswers(Answers):
    """Answers of `RCMLMISARegressor` on tables."""

    outputs = ("score", "scale", "view_scores", "view_scales")

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.inputs = _Filled([reader.map for reader in model.readers_.readers], model.view_means_)
        self.network = network_of(model)
        self.mean, self.unit = float(model.target_mean_), float(model.target_scale_)
        calibrator = model.calibrator_
        self.calibrate = None if calibrator is None else ScaleCalibration(calibrator)
        self.excluding = model.suspect == "exclude" and len(model.view_names_) > 1
        self.limit = float(getattr(model, "suspect_limits_", USUAL_LIMITS)[1])

    def forward(
        self,
        rows: Tensor,
        present: Tensor,
        heard: Tensor,  # noqa: ARG002
    ) -> Mapping[str, Tensor]:
        """Answer rows; see `Answers`."""
        output = self.network(self.inputs(rows, present))
        fused, private = (
            NIG(*(part.double() for part in opinion)) for opinion in (output.fused, output.private)
        )
        stated = fused if self.calibrate is None else self.calibrate(fused, private)
        if self.excluding:
            stated = self._without(stated, private, present)
        stated, own = (
            opinion._replace(
                gamma=self.mean + self.unit * opinion.gamma, beta=self.unit**2 * opinion.beta
            )
            for opinion in (stated, private)
        )
        return {
            "score": stated.gamma,
            "scale": stated.scale,
            "view_scores": own.gamma,
            "view_scales": own.scale,
        }

    def _without(self, stated: NIG, private: NIG, present: Tensor) -> NIG:
        """Put the sum of the other views' opinions where one is clearly suspected."""
        gains = nig_gains(private, present)
        best = gains.nan_to_num(-1.0).argmax(dim=1, keepdim=True)
        others = present & (torch.arange(present.shape[1]) != best)
        others = others | ~others.any(dim=1, keepdim=True)
        rest = fuse_nig(private, others.double())
        if self.calibrate is not None:
            rest = self.calibrate(rest, private._replace(nu=private.nu * others))
        clear = clear_suspects(gains, self.limit, learnt=False).any(dim=1)
        return NIG(*(torch.where(clear, a, b) for a, b in zip(rest, stated, strict=True)))
