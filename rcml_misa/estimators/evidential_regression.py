"""RCML-MISA for a score: an opinion about a number, and intervals that hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from rcml_misa.calibration.scores import ScaleCalibrator, conformal_factor
from rcml_misa.estimators.base import MultiViewRegressor, check_presence, target_numbers
from rcml_misa.estimators.misa_base import Labelled, MISABase, check_pairs
from rcml_misa.estimators.score_opinion import ScoreOpinion
from rcml_misa.exceptions import DataError
from rcml_misa.losses import difference_loss, reconstruction_loss, similarity_loss
from rcml_misa.nn.attention import AttentionMask
from rcml_misa.nn.collectors import Sharing
from rcml_misa.nn.encoders import SequenceEncoderKind, ViewEncoder
from rcml_misa.nn.networks import RegressionNet, ScoreOpinions
from rcml_misa.nn.pretrained import Precision
from rcml_misa.opinions.nig import NIG, Regulariser, nig_loss
from rcml_misa.reading.features import Features, Scaling
from rcml_misa.training import Device, Progress, Schedule
from rcml_misa.views import MultiView

__all__ = ["RCMLMISARegressor"]

Array = NDArray[np.float64]


class RCMLMISARegressor(MISABase, MultiViewRegressor):
    """RCML-MISA for a score, with evidence, for any number and kind of views.

    Views are encoded, projected and coded as by `MISARegressor`; a Transformer, in which private
    tokens see their own view only, fuses the 2N tokens; a collector reads from each a
    normal-inverse-gamma opinion about the score, and the opinions are fused by the order-free
    summation of normal-inverse-gammas. Loss: the mean evidential loss of the fused and all single
    opinions, plus the absolute errors of the fused one and of each view's, similarity,
    difference and reconstruction, each under its weight. The epoch with the least absolute error on
    validation rows counts; the same rows calibrate the fused opinion's width, which train rows
    learned by heart make too small, and fix the intervals by split conformal.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    collectors : {"tied-mean", "separate", "tied", "private"}
        The shared tokens' collectors: one on the mean token (one opinion), one per view, one for
        all (N opinions), or none.
    attention_mask : {"private", "none"}
        Whether private tokens are closed to the other views.
    skip : bool
        Add a linear read-out of the projected views to each prediction.
    evidence_weight : float
        Of the evidential loss.
    evidence_penalty : float
        Of evidence where the prediction is wrong, within the evidential loss.
    penalty_form : {"meinert", "amini"}
        Errors of that penalty in units of the predicted scale, or as they are; see
        `rcml_misa.opinions.nig.nig_regulariser`.
    point_weight, own_weight : float
        Of the absolute error of the fused prediction, and of each view's own.
    coverage : float
        Of the intervals of `predict_interval`.
    sequence_encoder, sequence_hidden, text_encoder, text_layers, precision, scaling, features
        How views are read; see `MISAClassifier`.
    hidden, heads, feedforward : int
    dropout : float
    sim_weight, diff_weight, recon_weight : float
    epochs, batch_size, update_epochs, learning_rate, text_learning_rate, weight_decay, schedule
        See `MISAClassifier`, as are the following.
    clip, early_stopping, validation_fraction, patience, averaging, validation_share, device
        Without early stopping, and without validation rows given to `fit`, no rows are held out:
        the opinions' width is then not calibrated and there are no intervals.
    random_state : int, optional

    Attributes
    ----------
    calibrator_ : ScaleCalibrator or None
    interval_factor_ : float
        Scales that an interval reaches to each side.
    target_mean_, target_scale_ : float
    module_ : RegressionNet
    readers_ : ViewReaders
    history_ : dict of str to list of float

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

    def __init__(
        self,
        *,
        views: Any = None,
        collectors: Sharing = "tied-mean",
        attention_mask: AttentionMask = "private",
        skip: bool = True,
        evidence_weight: float = 0.1,
        evidence_penalty: float = 0.01,
        penalty_form: Regulariser = "meinert",
        point_weight: float = 1.0,
        own_weight: float = 0.5,
        coverage: float = 0.9,
        sequence_encoder: SequenceEncoderKind = "lstm",
        sequence_hidden: int = 32,
        text_encoder: str = "minilm",
        text_layers: int | None = 6,
        precision: Precision = "auto",
        scaling: Scaling = "standard",
        features: Features = "plain",
        hidden: int = 128,
        heads: int = 2,
        feedforward: int = 256,
        dropout: float = 0.2,
        sim_weight: float = 0.3,
        diff_weight: float = 0.1,
        recon_weight: float = 1.0,
        epochs: int = 10,
        batch_size: int = 16,
        update_epochs: int = 1,
        learning_rate: float = 1e-3,
        text_learning_rate: float = 2e-4,
        weight_decay: float = 1e-2,
        schedule: Schedule = "cosine",
        clip: float = 0.8,
        early_stopping: bool = True,
        validation_fraction: float = 0.15,
        patience: int | None = 8,
        averaging: float = 0.98,
        validation_share: float | None = None,
        device: Device = "auto",
        random_state: int | None = None,
    ) -> None:
        self.views = views
        self.collectors = collectors
        self.attention_mask = attention_mask
        self.skip = skip
        self.evidence_weight = evidence_weight
        self.evidence_penalty = evidence_penalty
        self.penalty_form = penalty_form
        self.point_weight = point_weight
        self.own_weight = own_weight
        self.coverage = coverage
        self.sequence_encoder = sequence_encoder
        self.sequence_hidden = sequence_hidden
        self.text_encoder = text_encoder
        self.text_layers = text_layers
        self.precision = precision
        self.scaling = scaling
        self.features = features
        self.hidden = hidden
        self.heads = heads
        self.feedforward = feedforward
        self.dropout = dropout
        self.sim_weight = sim_weight
        self.diff_weight = diff_weight
        self.recon_weight = recon_weight
        self.epochs = epochs
        self.batch_size = batch_size
        self.update_epochs = update_epochs
        self.learning_rate = learning_rate
        self.text_learning_rate = text_learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip = clip
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.averaging = averaging
        self.validation_share = validation_share
        self.device = device
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: ArrayLike,
        *,
        validation: Labelled | None = None,
        callback: Callable[[Progress], None] | None = None,
    ) -> Self:
        """Train on views X and one number per row y.

        Parameters
        ----------
        X, y
            Train rows.
        validation : pair of views and numbers, optional
            Rows that select the epoch and fix the intervals; without them
            `validation_fraction` of the train rows is held out for it.
        callback : callable, optional
            Called after each epoch.

        Raises
        ------
        DataError, OptionError
            If the data or an option can't be used; the sentence says which and why.
        """
        views, numbers = self._check_train(X, y)
        left = np.arange(0)
        fraction = self._fraction()
        if validation is None and fraction:
            rows, left = self._hold_out(len(numbers), fraction)
            everything = views, numbers
            views, numbers = views.take(rows), numbers[rows]
            check_presence(views)
        views = self._fill(views)
        self._standardise(numbers)
        held = None
        if len(left):
            held = self.view_means_.fill(everything[0].take(left)), everything[1][left]
        elif validation is not None:
            held = self._check_rows(validation[0]), target_numbers(validation[1])
            check_pairs(*held)
        pair = None if held is None else (held[0], self._target(held[1]))
        self._train(views, self._target(numbers), pair, callback)
        self.calibrator_: ScaleCalibrator | None = None
        self.interval_factor_, self.validation_rows_ = float("nan"), 0
        if held is not None:
            self._calibrate(*held)
        return self

    def _hold_out(self, rows: int, fraction: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the rows to train on and those that calibrate, in order."""
        seed = np.random.SeedSequence(self.random_state).spawn(4)[3]
        order = np.random.default_rng(seed).permutation(rows)
        cut = int(np.ceil(fraction * rows))
        if cut == rows:
            raise DataError(
                f"X has {rows} sample(s), which leave none to train on beside the validation rows; "
                "give more rows, or early_stopping=False."
            )
        return np.sort(order[cut:]), np.sort(order[:cut])

    def _calibrate(self, views: MultiView, target: Array) -> None:
        """Fit the fused opinion's width, and the reach of intervals, to validation rows."""
        fused, private = self._states(views)
        calibrate = ScaleCalibrator.fit(fused, private, self._target(target).double())
        opinion = ScoreOpinion.from_nig(self._in_unit(calibrate(fused, private)))
        self.calibrator_ = calibrate
        self.validation_rows_ = len(target)
        with suppress(DataError):  # too few rows for intervals, which `predict_interval` says
            self.interval_factor_ = conformal_factor(
                target - opinion.score, opinion.scale, coverage=self.coverage
            )

    def _outputs(self) -> int:
        return 1

    def _target(self, y: ArrayLike) -> Tensor:
        scaled = (target_numbers(y) - self.target_mean_) / self.target_scale_
        return torch.from_numpy(scaled.astype(np.float32))

    def _task_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).abs().mean()

    def _build(self, encoders: Sequence[ViewEncoder]) -> nn.Module:
        return RegressionNet(
            encoders,
            hidden=self.hidden,
            heads=self.heads,
            feedforward=self.feedforward,
            dropout=self.dropout,
            mask=self.attention_mask,
            sharing=self.collectors,
            skip=self.skip,
        )

    def _terms(self, output: Any, target: Tensor) -> Mapping[str, Tensor]:
        found: ScoreOpinions = output
        parts = (found.fused, found.private, found.shared)
        every = NIG(
            *(
                torch.cat([fused.unsqueeze(1), private, shared], dim=1)
                for fused, private, shared in zip(*parts, strict=True)
            )
        )
        terms = {
            "task": (found.fused.gamma - target).abs().mean(),
            "own": (found.private.gamma - target.unsqueeze(1)).abs().mean(dim=0).sum(),
            "nig": nig_loss(
                every, target.unsqueeze(1), weight=self.evidence_penalty, form=self.penalty_form
            ),
            "sim": similarity_loss(found.shared_codes),
            "diff": difference_loss(found.private_codes, found.shared_codes),
            "recon": reconstruction_loss(found.reconstructed, found.projected),
        }
        total = (
            self.point_weight * terms["task"]
            + self.own_weight * terms["own"]
            + self.evidence_weight * terms["nig"]
            + self.sim_weight * terms["sim"]
            + self.diff_weight * terms["diff"]
            + self.recon_weight * terms["recon"]
        )
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    @torch.no_grad()
    def _states(self, views: MultiView) -> tuple[NIG, NIG]:
        """Fused opinions (n,) and the views' (n, N), as the network states them."""
        order, outputs = zip(*self._token_outputs(views), strict=True)
        back = np.argsort(np.concatenate(order))

        def joined(which: str) -> NIG:
            parts = zip(*(getattr(output, which) for output in outputs), strict=True)
            return NIG(*(torch.cat(part)[back].double().cpu() for part in parts))

        return joined("fused"), joined("private")

    def predict_opinion(self, X: Any) -> ScoreOpinion:
        """Opinions about the scores of the rows of X: fused, and each view's own.

        The fused opinion's width is calibrated on the validation rows; the views' opinions
        stay as the network states them.
        """
        check_is_fitted(self)
        fused, private = self._states(self._check_rows(X))
        if self.calibrator_ is not None:
            fused = self.calibrator_(fused, private)
        views = {
            name: ScoreOpinion.from_nig(self._in_unit(NIG(*(part[:, place] for part in private))))
            for place, name in enumerate(self.view_names_)
        }
        return ScoreOpinion.from_nig(self._in_unit(fused), views)

    def _in_unit(self, opinion: NIG) -> NIG:
        """An opinion about the standardised target in the target's own unit."""
        scale = self.target_scale_
        return opinion._replace(
            gamma=self.target_mean_ + scale * opinion.gamma, beta=scale**2 * opinion.beta
        )

    def predict(self, X: Any) -> Array:
        """Predicted score of each row, of shape (n,)."""
        return self.predict_opinion(X).score

    def predict_interval(self, X: Any) -> tuple[Array, Array]:
        """Lower and upper bounds, each (n,), that hold the score with the chance `coverage`.

        The chance is over rows like the validation rows, whatever the model is worth (split
        conformal); a surer row has a narrower interval.

        Raises
        ------
        DataError
            If `fit` had no validation rows, or fewer than coverage / (1 - coverage).
        """
        opinion = self.predict_opinion(X)
        if not self.validation_rows_:
            raise DataError(
                "intervals need validation rows; give fit some, or early_stopping=True."
            )
        if not np.isfinite(self.interval_factor_):  # raises, since the rows are too few
            conformal_factor(*np.ones((2, self.validation_rows_)), coverage=self.coverage)
        half = self.interval_factor_ * opinion.scale
        return opinion.score - half, opinion.score + half
