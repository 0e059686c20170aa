"""RCML-MISA for a score: opinions about a number, and split-conformal intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rcml_misa.calibration import ScaleCalibrator, conformal_factor
from rcml_misa.callbacks import serves_callbacks
from rcml_misa.estimators.base import MultiViewRegressor, check_presence, target_numbers
from rcml_misa.estimators.opinion import ScoreOpinion
from rcml_misa.estimators.outputs import in_row_order, weighted_loss
from rcml_misa.estimators.suspicion import SuspectUse, suspect_limits
from rcml_misa.estimators.view_networks import Labelled, ViewNetworkEstimator
from rcml_misa.exceptions import DataError
from rcml_misa.losses import difference_loss, reconstruction_loss, similarity_loss
from rcml_misa.nn.networks import RegressionNet, ScoreOpinions
from rcml_misa.nn.tokens import AttentionMask, Sharing
from rcml_misa.opinions.nig import NIG, Regulariser, fuse_nig, nig_gains, nig_loss
from rcml_misa.options import Space, Span, keyword_parameters
from rcml_misa.reading.rows import hold_out
from rcml_misa.training import EpochCallback
from rcml_misa.views import MultiView

__all__ = ["RCMLMISARegressor"]

Array = NDArray[np.float64]
Scored: TypeAlias = tuple[MultiView, Array]  # rows and their scores
USUAL_LIMITS = (0.3, 0.5)  # of gains where no rows were held out to set limits on
EVEN_PLACES, ODD_PLACES = slice(None, None, 2), slice(1, None, 2)


@keyword_parameters
class RCMLMISARegressor(MultiViewRegressor, ViewNetworkEstimator):
    """RCML-MISA for a score: evidential regression from any number and kind of views.

    Views are encoded, projected and coded as by `MISARegressor`; a Transformer, in which private
    tokens see their own view only, fuses the 2N tokens; a collector reads from each a
    normal-inverse-gamma opinion about the score, and the opinions are fused by the order-free
    summation of normal-inverse-gammas. Loss: the mean evidential loss of the fused and all single
    opinions, plus the absolute errors of the fused one and of each view's, similarity,
    difference and reconstruction, each under its weight. The epoch with the least absolute error on
    validation rows counts; the same rows calibrate the fused opinion's width, which train rows
    learned by heart make too small, and fix the intervals by split conformal, unless a
    `calibration_fraction` sets others apart for that.

    Parameters
    ----------
    collectors : {"tied-mean", "separate", "tied", "private"}
        Collectors of the shared tokens: one on the mean token (one opinion), one per view, one
        for all (N opinions), or none.
    attention_mask : {"private", "none"}
        Whether private tokens are closed to the other views.
    skip : bool
        Whether a linear read-out of the projected views is added to each prediction.
    evidence_weight : float
        Weight of the evidential loss.
    evidence_penalty : float
        Weight of evidence where the prediction is wrong, within the evidential loss.
    penalty_form : {"meinert", "amini"}
        Errors of that penalty in units of the predicted scale, or as they are; see
        `rcml_misa.opinions.nig.nig_regulariser`.
    point_weight, own_weight : float
        Weights of the absolute error of the fused prediction, and of each view's own.
    coverage : float
        Target coverage of `predict_interval`, in (0, 1).
    dropout : float
        Chance of dropping an entry of the projected views, and inside the Transformer.
    sim_weight, diff_weight, recon_weight, update_epochs, schedule, clip, averaging
        See `MISAClassifier`, also for `validation_share`.
    early_stopping, validation_fraction
        See `MultiViewEstimator`. The rows held out also calibrate the opinions' width and fix the
        intervals, unless others are set apart for it; with False, no `calibration_fraction` and no
        validation rows given to `fit`, there are neither.
    calibration_fraction : float
        See `MultiViewEstimator`. Half of these rows calibrate the width, the other half fixes the
        intervals. With 0 the validation rows choose the epoch and do both, which makes intervals
        too narrow where these rows are few.
    suspect : {"report", "exclude"}
        Whether opinions, scores and intervals follow the other views where one is clearly suspect;
        see `ScoreOpinion.without_suspect`.
    views, scaling, features, sequence_encoder, sequence_hidden, text_encoder, text_layers
        See `MultiViewEstimator`, as for the following.
    precision, hidden, heads, feedforward, epochs, batch_size, learning_rate, text_learning_rate
    weight_decay, patience, device, random_state

    Attributes
    ----------
    calibrator_ : ScaleCalibrator or None
        Calibration of the fused opinion's width.
    interval_factor_ : float
        Scales that an interval reaches to each side; NaN with too few validation rows.
    validation_rows_ : int
        Number of the rows that intervals were fixed on.
    suspect_limits_ : tuple of float
        Gains beyond which a view is suspected, and clearly so: of the rows that the width was
        calibrated on, 5 % and 1 % have a larger one. Without such rows, or with one view, there
        are none, and 0.3 and 0.5 serve.

    References
    ----------
    Amini et al., Deep evidential regression, NeurIPS 2020; Meinert, Gawlikowski and Lavin, AAAI
    2023, on what its uncertainties say; Ma et al., NeurIPS 2021, on their fusion; Lei et al.,
    JASA 113, 2018, on the intervals.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = {"a": rng.normal(size=(80, 4)), "b": rng.normal(size=(80, 2, 3))}
    >>> model = RCMLMISARegressor(epochs=2, hidden=16, random_state=0).fit(X, X["a"][:, 0])
    >>> low, high = model.predict_interval(X)
    >>> low.shape, bool((low <= model.predict(X)).all())
    ((80,), True)
    """

    _search: ClassVar[Mapping[str, Space]] = {
        **ViewNetworkEstimator._search,
        "evidence_weight": Span(0.01, 1.0, log=True),
        "evidence_penalty": Span(1e-3, 0.1, log=True),
    }

    collectors: Sharing = "tied-mean"
    attention_mask: AttentionMask = "private"
    evidence_weight: float = 0.1
    evidence_penalty: float = 0.01
    penalty_form: Regulariser = "meinert"
    point_weight: float = 1.0
    coverage: float = 0.9
    calibration_fraction: float = 0.0
    suspect: SuspectUse = "report"

    @serves_callbacks
    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: EpochCallback | None = None,
    ) -> Self:
        """Train on views X and one number per row y; see `MISAClassifier.fit`.

        The validation rows, by default `validation_fraction` of the train rows, select the epoch
        and, where `calibration_fraction` sets no others apart, calibrate the opinions' width and
        fix the intervals.
        """
        views, target = self._check_train(X, y)
        apart: Scored | None = None
        if self.calibration_fraction:
            rows, left = self._draw_apart(target, each_class=False)
            apart = views.take(left), target[left]
            views, target = views.take(rows), target[rows]
        held: Scored | None = None
        fraction = self._fraction()
        if validation is None and fraction:
            seed = np.random.SeedSequence(self.random_state).spawn(4)[3]
            rng = np.random.default_rng(seed)
            rows, left = hold_out(target, fraction, rng, each_class=False, rounding=math.ceil)
            if not len(rows):
                raise DataError(
                    f"X has {len(target)} sample(s), which leave none to train on beside the "
                    "validation rows; give more rows, or early_stopping=False."
                )
            held = views.take(left), target[left]
            views, target = views.take(rows), target[rows]
        check_presence(views)
        views = self._fill(views)
        self._standardise(target)
        if validation is not None:
            _, numbers = self._check_validation(validation)
            held = self._given_rows(validation[0]), target_numbers(numbers)
        pair = None
        if held is not None:
            pair = self.view_means_.fill(held[0]), self._target(held[1])
        # set first, since a callback may ask for predictions
        self.calibrator_: ScaleCalibrator | None = None
        self.interval_factor_, self.validation_rows_ = float("nan"), 0
        self.__dict__.pop("suspect_limits_", None)  # of an earlier fit
        self._train(views, self._target(target), pair, callback)
        if apart is not None:
            # intervals cover what they state only if their rows had no say in the width
            self._fix_intervals(
                *((apart[0].take(half), apart[1][half]) for half in (EVEN_PLACES, ODD_PLACES))
            )
        elif held is not None:
            self._fix_intervals(held, held)
        return self

    def _fix_intervals(self, width: Scored, reach: Scored) -> None:
        """Fit the fused width, the limits of suspects and the reach of intervals to new rows."""
        fused, private = self._states(self.view_means_.fill(width[0]))
        self.calibrator_ = ScaleCalibrator.fit(fused, private, self._target(width[1]).double())
        if len(self.view_names_) > 1:
            gains = nig_gains(private, torch.tensor(width[0].present))
            self.suspect_limits_ = suspect_limits(gains.numpy())
        opinion, target = self._opinion(reach[0]), reach[1]
        self.validation_rows_ = len(target)
        with suppress(DataError):  # too few rows for intervals, which `predict_interval` says
            self.interval_factor_ = conformal_factor(
                target - opinion.score, opinion.scale, coverage=self.coverage
            )

    def _build(self) -> nn.Module:
        return RegressionNet(
            self.readers_.encoders(),
            hidden=self.hidden,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            mask=self.attention_mask,
            sharing=self.collectors,
            skip=self.skip,
        )

    def _terms(self, output: ScoreOpinions, target: Tensor) -> Mapping[str, Tensor]:
        opinions = zip(output.fused, output.private, output.shared, strict=True)
        every = NIG(*(torch.cat([part[0].unsqueeze(1), *part[1:]], dim=1) for part in opinions))
        terms = {
            "task": (output.fused.gamma - target).abs().mean(),
            "own": (output.private.gamma - target.unsqueeze(1)).abs().mean(dim=0).sum(),
            "nig": nig_loss(
                every, target.unsqueeze(1), weight=self.evidence_penalty, form=self.penalty_form
            ),
            "sim": similarity_loss(output.shared_codes),
            "diff": difference_loss(output.private_codes, output.shared_codes),
            "recon": reconstruction_loss(output.reconstructed, output.projected),
        }
        weights = {"task": self.point_weight, "own": self.own_weight, "nig": self.evidence_weight}
        weights |= {"sim": self.sim_weight, "diff": self.diff_weight, "recon": self.recon_weight}
        return weighted_loss(terms, weights)

    @torch.no_grad()
    def _states(self, views: MultiView) -> tuple[NIG, NIG]:
        """Fused opinions (n,) and the views' (n, N), as the network states them."""
        parts = in_row_order(
            (rows, (*output.fused, *output.private)) for rows, output in self._outputs(views)
        )
        parts = [part.double().cpu() for part in parts]
        return NIG(*parts[:4]), NIG(*parts[4:])

    def predict_opinion(self, X: Any) -> ScoreOpinion:
        """Give opinions about the scores of the rows of X: fused, and each view's own.

        The fused opinion's width is calibrated on rows that were not trained on; the views'
        opinions stay as the network states them. With ``suspect="exclude"`` they are those without
        the suspect view, where there is a clear one; see `ScoreOpinion.without_suspect`.
        """
        check_is_fitted(self)
        return self._opinion(self._given_rows(X))

    def _opinion(self, given: MultiView) -> ScoreOpinion:
        """Opinions about checked rows, whose missing views are still missing."""
        fused, private = self._states(self.view_means_.fill(given))
        calibrate = self.calibrator_
        opinion = ScoreOpinion.from_nig(
            self._in_unit(fused if calibrate is None else calibrate(fused, private)),
            {
                name: ScoreOpinion.from_nig(self._in_unit(NIG(*(part[:, i] for part in private))))
                for i, name in enumerate(self.view_names_)
            },
        )
        if len(given) < 2:
            return opinion
        present = torch.tensor(given.present)
        gains = nig_gains(private, present)
        others = present.scatter(1, gains.nan_to_num(-1.0).argmax(dim=1, keepdim=True), False)
        others |= ~others.any(dim=1, keepdim=True)  # of rows with one view, which no one suspects
        rest = fuse_nig(private, others.double())
        if calibrate is not None:
            rest = calibrate(rest, private._replace(nu=private.nu * others))
        opinion = replace(
            opinion,
            view_gains=gains.numpy(),
            rest=ScoreOpinion.from_nig(self._in_unit(rest)),
            limits=getattr(self, "suspect_limits_", USUAL_LIMITS),
        )
        return opinion.without_suspect if self.suspect == "exclude" else opinion

    def _in_unit(self, opinion: NIG) -> NIG:
        """Convert an opinion about the standardised target to the target's own unit."""
        scale = self.target_scale_
        return opinion._replace(
            gamma=self.target_mean_ + scale * opinion.gamma, beta=scale**2 * opinion.beta
        )

    def predict(self, X: Any) -> Array:
        """Predict the score of each row, of shape (n,)."""
        return self.predict_opinion(X).score

    def predict_interval(self, X: Any) -> tuple[Array, Array]:
        """Predict lower and upper bounds of the score, each (n,), with the target `coverage`.

        The coverage holds over rows like those that fixed the intervals, whatever the model is
        worth (split conformal), with a `calibration_fraction`; without one, these rows had a say in
        the epoch and in the width, and 40 of them covered 88 % in place of 90 %. A row of smaller
        scale has a narrower interval.

        Raises
        ------
        DataError
            If `fit` had no rows to fix intervals on, or fewer than coverage / (1 - coverage).
        """
        opinion = self.predict_opinion(X)
        if not self.validation_rows_:
            raise DataError(
                "intervals need validation rows; give fit some, early_stopping=True or a "
                "calibration_fraction."
            )
        if not np.isfinite(self.interval_factor_):  # raises, since the rows are too few
            conformal_factor(*np.ones((2, self.validation_rows_)), coverage=self.coverage)
        half = self.interval_factor_ * opinion.scale
        return opinion.score - half, opinion.score + half
