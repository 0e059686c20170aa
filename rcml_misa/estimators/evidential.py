"""Base of the classifiers whose output is an opinion: blocks of rows, suspects, probabilities."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.estimators.base import MultiViewClassifier, TrainRows, row_blocks
from rcml_misa.estimators.opinion import ArrayOpinion, MultiViewOpinion
from rcml_misa.estimators.suspicion import USUAL_LIMITS, suspect_limits
from rcml_misa.opinions import keep_present, mean_conflict
from rcml_misa.views import MultiView

__all__ = ["EvidentialClassifier"]

Array = NDArray[np.float64]


class EvidentialClassifier(MultiViewClassifier):
    """Base of the classifiers whose output is an opinion."""

    # of probabilities: float32 where they are no more precise than that
    _precision: ClassVar[type[np.floating[Any]]] = np.float64

    @abstractmethod
    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        """Opinions about a block of checked rows."""

    def _calibrate(self, apart: TrainRows | None) -> None:
        super()._calibrate(apart)
        self.__dict__.pop("suspect_limits_", None)  # of an earlier fit
        if apart is not None:
            parts = [self._opinion(block) for block in row_blocks(apart.views, len(self.classes_))]
            gains = [part.view_gains for part in parts if part.view_gains is not None]
            if gains:
                self.suspect_limits_ = suspect_limits(np.concatenate(gains))

    def _stated(self, views: MultiView) -> Array:
        blocks = row_blocks(views, len(self.classes_))
        return np.concatenate([self._opinion(block).evidence for block in blocks])

    def _projected(self, stated: Array) -> Array:
        return ArrayOpinion(stated).projected_probability

    def _opinion_of(
        self,
        fused: Tensor,
        private: Tensor,
        shared: Tensor,
        gains: Tensor | None = None,
        rest: Tensor | None = None,
        familiarity: Tensor | None = None,
        *,
        present: NDArray[np.bool_],
    ) -> MultiViewOpinion:
        """Opinions of evidence: fused (n, K), of the views (n, N, K) and shared (n, M, K).

        `gains` (n, N), `rest` (n, K) and `familiarity` (n,) are those of `MultiViewOpinion`;
        `present` (n, N) tells which views each row has.
        """

        def array(part: Tensor | None) -> Any:
            return None if part is None else part.double().cpu().numpy()

        here = torch.tensor(present)
        private = keep_present(private.double().cpu(), here)
        if gains is not None:
            gains = torch.where(here, gains.double().cpu(), torch.nan)
        seen = None if present.all() else here
        return MultiViewOpinion(
            evidence=array(fused),
            views=dict(zip(self.view_names_, private.transpose(0, 1).numpy(), strict=True)),
            shared=array(shared),
            conflict=mean_conflict(private, seen).numpy(),
            view_gains=array(gains),
            rest=array(rest),
            familiarity=array(familiarity),
        )

    def predict_opinion(self, X: Any) -> MultiViewOpinion:
        """Give opinions about the rows of X: fused, per view and shared, with probabilities.

        With ``suspect="exclude"`` they are those without the suspect view, where there is one; see
        `MultiViewOpinion.without_suspect`.
        """
        limits = getattr(self, "suspect_limits_", USUAL_LIMITS)
        learnt = getattr(self, "membership_", None) is not None
        parts = []
        for block in row_blocks(self._check_rows(X), len(self.classes_)):
            opinion = self._opinion(block)
            opinion = replace(
                opinion,
                classes=self.classes_,
                present=self._heard(block),
                limits=limits,
                learnt=learnt,
            )
            if getattr(self, "calibrator_", None) is not None:
                opinion = replace(
                    opinion,
                    calibrated=self._probability(opinion.evidence, opinion.familiarity),
                    calibrated_rest=self._probability(opinion.rest, opinion.familiarity),
                )
            parts.append(opinion)
        opinion = MultiViewOpinion.concatenate(parts)
        excluding = getattr(self, "suspect", "report") == "exclude"
        return opinion.without_suspect if excluding else opinion

    def _probability(self, evidence: Array | None, familiarity: Array | None) -> Array | None:
        """Calibrated probabilities, which go to the class shares where a row is unfamiliar."""
        if evidence is None or self.calibrator_ is None:
            return None
        calibrated = self.calibrator_(evidence)
        if familiarity is None:
            return calibrated
        known = familiarity[:, None]
        return np.asarray(known * calibrated + (1 - known) * self.class_shares_)

    def predict_proba(self, X: Any) -> Array:
        """Compute class probabilities of shape (n, K) from the fused opinions.

        They are projected or, for methods with a `calibrator_`, calibrated.
        """
        return self.predict_opinion(X).probability.astype(self._precision, copy=False)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each row."""
        return self.predict_opinion(X).predicted
