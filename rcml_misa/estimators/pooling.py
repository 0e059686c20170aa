"""Fusion of pooled opinions: which views belong to the row, what each is worth, which one lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from scipy.stats import sem
from sklearn.utils.validation import check_is_fitted
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from rcml_misa.calibration import fit_exponent
from rcml_misa.estimators.answering import Answerer, plain_standing
from rcml_misa.estimators.base import TrainRows
from rcml_misa.estimators.evidential import EvidentialClassifier
from rcml_misa.estimators.opinion import MultiViewOpinion
from rcml_misa.estimators.suspicion import suspect_limits
from rcml_misa.experts.logits import ExpertLogits
from rcml_misa.experts.membership import Membership, Standing
from rcml_misa.experts.ridge import blocks
from rcml_misa.nn.tokens import MASS, ONSET
from rcml_misa.opinions import (
    ViewFusionOperator,
    agreement,
    fuse_views,
    keep_present,
    log_shares,
    mean_mass,
    mixture_shares,
    opinions_present,
)
from rcml_misa.views import MultiView

__all__ = [
    "SHARES",
    "FusedOpinions",
    "Fusion",
    "PoolingClassifier",
    "others_power",
    "pool_share",
    "view_worth",
]

Array = NDArray[np.float64]
SLOPE, OFFSET = 5.0, 0.0  # where RCML-MISA's collectors start
TINY = 1e-12
LEAST_GAIN = 1e-9  # nats per row; less is rounding
LEAST_TRUST = 0.1  # part of its belief that a row keeps whose views contradict each other
BEYOND = 1 / 3  # power of the familiarity with which a view that may not belong is in doubt
LITTLE = 0.02  # nats that a view tells of the class, at which its own opinion has half its mass
# beside the estimators, which a prediction leaves as they are
_MADE: WeakKeyDictionary[Any, Answerer] = WeakKeyDictionary()
#: Shares of a network in a pool that are tried, the first of which is 0.
SHARES = np.linspace(0, 1, 21)


class FusedOpinions(NamedTuple):
    """Opinions about n rows, and what they would be without a view.

    Evidence `fused` (n, K), `private` of the views (n, N, K), `shared` of all views (n, 1, K);
    `gains` (n, N): posterior that the view alone does not belong times the belief of the others,
    NaN where a row lacks it; `rest` (n, K): evidence without the view of the largest gain;
    `familiarity` (n,): that of the most familiar view of a row.
    """

    fused: Tensor
    private: Tensor
    shared: Tensor
    gains: Tensor
    rest: Tensor
    familiarity: Tensor


def view_worth(logs: Array, codes: NDArray[np.int64], present: NDArray[np.bool_] | None) -> Array:
    """Measure what each view alone tells of the class, (N,), in nats per row, 0 or more.

    The fall of the mean negative log-likelihood from the class shares of the rows to the views'
    log-probabilities `logs` (n, N, K), which must be new to the rows of class numbers (n,), less
    its standard error.

    Examples
    --------
    >>> logs = np.log([[[0.9, 0.1], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]])
    >>> view_worth(logs, np.array([0, 1]), None).round(2).tolist()
    [0.59, 0.0]
    """
    rows = np.arange(len(codes))
    here = np.ones(logs.shape[:2], dtype=bool) if present is None else present
    prior = np.log(np.bincount(codes)[codes] / len(codes))[:, None]
    gained = np.where(here, logs[rows, :, codes] - prior, np.nan)
    worth = np.zeros(logs.shape[1])
    several = here.sum(axis=0) > 1
    known = gained[:, several]
    worth[several] = np.nanmean(known, axis=0) - sem(known, axis=0, nan_policy="omit")
    return np.asarray(np.maximum(worth, 0.0))


def others_power(
    logs: Array,
    codes: NDArray[np.int64],
    present: NDArray[np.bool_] | None,
    weights: Array | None = None,
) -> float:
    """Fit the power of the product of all views' shares but one, on rows new to them.

    Views repeat each other, so that their plain product is too sure. `logs` (n, N, K) holds their
    log-probabilities; each view of a row with several is left out once.

    Examples
    --------
    >>> logs = np.log(np.tile([[0.9, 0.1]], (40, 3, 1)))  # three times the same view
    >>> round(others_power(logs, np.arange(40) % 10 // 9, None), 2)
    0.51
    """
    here = np.ones(logs.shape[:2], dtype=bool) if present is None else present
    some = here & (here.sum(axis=1, keepdims=True) > 1)
    if not some.any():
        return 1.0
    _, others = agreement(torch.from_numpy(np.exp(logs)), torch.tensor(here))
    rows, _ = np.nonzero(some)
    every = others.log().numpy()[some]
    return fit_exponent(every, codes[rows], None if weights is None else weights[rows])


class Fusion:
    """Fusion of the views' opinions and the joint one, as RCML-MISA and its members fuse.

    Shares come from `mixture_shares`: a view counts by its familiarity, the joint opinion by that
    of the least familiar view. The belief of the geometric fusion's mass is then discounted, in
    the sense of subjective logic (Jøsang 2016, section 14.3): by the posterior that every view
    belongs, and by the worth of views that are missing or unfamiliar. A view's own opinion has a
    mass that falls with its familiarity, and with what it tells of the class at all.

    Parameters
    ----------
    operator : ViewFusionOperator
    discount : bool
        See `fuse_views`.
    stack : ndarray of shape (N + 1,) or None
        Weights of the mixture's product.
    worth : ndarray of shape (N,)
        See `view_worth`.
    power : float
        Power of products of some of the views' shares; see `others_power`.
    """

    def __init__(
        self,
        operator: ViewFusionOperator,
        discount: bool,
        stack: Array | None,
        worth: Array,
        power: float = 1.0,
    ) -> None:
        self.operator = operator
        self.discount = discount
        self.power = power
        self.weights = None if stack is None else torch.from_numpy(stack)
        self.skill = torch.from_numpy(worth / (worth + LITTLE))
        total = worth.sum()
        parts = worth / total if total > 0 else np.full(len(worth), 1 / len(worth))
        self.parts = torch.from_numpy(parts)

    def __call__(
        self, logits: ExpertLogits, standing: Standing, *, leave_out: bool = True
    ) -> FusedOpinions:
        """Turn logits into opinions, and fuse them, also without each view (`leave_out`)."""
        posterior, familiar = (torch.from_numpy(part) for part in standing)
        present = None if logits.present is None else torch.tensor(logits.present)
        own, joint = torch.from_numpy(logits.views), torch.from_numpy(logits.joint)
        return self.fuse(own, joint, present, posterior, familiar, leave_out=leave_out)

    def fuse(
        self,
        own: Tensor,
        joint: Tensor,
        present: Tensor | None,
        posterior: Tensor,
        familiar: Tensor,
        *,
        leave_out: bool = True,
    ) -> FusedOpinions:
        """Fuse logits (n, N, K) of the views and (n, K) of all, given which are there (n, N).

        `posterior` (n, N + 1) and `familiar` (n, N) are those of `Standing`. Results have the type
        of the logits.
        """
        posterior, familiar = posterior.to(own), familiar.to(own)
        (shares, private), (_, shared) = map(_share_evidence, (own, joint.unsqueeze(1)))
        if present is None:
            least = familiar.amin(dim=1, keepdim=True)
            whole = torch.ones_like(least)
        else:
            whole = opinions_present(present, 1)[:, -1:].to(familiar)
            least = torch.where(present, familiar, 1.0).amin(dim=1, keepdim=True)
        fused = self._fuse(private, shared, shares, familiar, whole * least, posterior)
        ranked = familiar.amax(dim=1)
        reported = private * (familiar * self.skill.to(familiar)).unsqueeze(-1)
        gains, rest = torch.zeros_like(familiar), fused
        if leave_out and own.shape[1] > 1:
            here = torch.ones_like(familiar, dtype=torch.bool) if present is None else present
            gains, rest = self._without(private, shared, shares, familiar, here, whole, posterior)
        return FusedOpinions(
            fused, reported, shared * (whole * least).unsqueeze(-1), gains, rest, ranked
        )

    def _without(
        self,
        private: Tensor,
        shared: Tensor,
        shares: Tensor,
        familiar: Tensor,
        present: Tensor,
        whole: Tensor,
        posterior: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Gains of leaving each view out, and the evidence without the view of largest gain."""
        counted = present * self.skill.to(familiar)
        logs = torch.log1p(private)
        total, count = (counted.unsqueeze(-1) * logs).sum(dim=1), counted.sum(dim=1)
        gains = []
        for view in range(shares.shape[1]):  # without it, as `_fuse` does
            weight = counted[:, view]
            mean = total - weight.unsqueeze(-1) * logs[:, view]
            mean = mean / (count - weight).clamp_min(1).unsqueeze(-1)
            mass = torch.expm1(mean).sum(dim=-1)
            gain = posterior[:, view + 1] * mass / (mass + shares.shape[-1])
            gains.append(torch.where(present[:, view], gain, torch.nan))
        each = torch.stack(gains, dim=1)
        best = each.nan_to_num(-torch.inf).argmax(dim=1, keepdim=True)
        left_out = torch.arange(shares.shape[1], device=best.device) == best
        belongs = posterior[:, 1:]
        every = posterior[:, :1] + (belongs * left_out).sum(dim=1, keepdim=True)
        belongs = torch.cat([every, belongs * ~left_out], dim=1)
        weights = torch.full((shares.shape[1] + 1,), self.power, dtype=shares.dtype)
        nothing = torch.zeros_like(whole)
        left = familiar * ~left_out
        return each, self._fuse(private, shared, shares, left, nothing, belongs, weights)

    def _fuse(
        self,
        private: Tensor,
        shared: Tensor,
        witness: Tensor,
        counted: Tensor,
        whole: Tensor,
        posterior: Tensor,
        weights: Tensor | None = None,
    ) -> Tensor:
        classes = private.shape[-1]
        if self.operator == "mixture":
            if weights is None and self.weights is not None:
                weights = self.weights.to(private)
            shares = mixture_shares(
                private,
                shared,
                witness,
                weights=weights,
                counted=counted,
                whole=whole,
                posterior=posterior,
                power=self.power,
            )
            certain = torch.cat([counted * self.skill.to(counted), whole], dim=1)
            mass = mean_mass(private, shared, certain)
        else:
            evidence = fuse_views(
                keep_present(private, counted),
                keep_present(shared, whole),
                operator=self.operator,
                discount=self.discount,
                present=counted > 0,
            )
            mass = evidence.sum(dim=-1)
            shares = evidence / mass.clamp_min(TINY).unsqueeze(-1)
        # a view that is far beyond question is as good as missing, and leaves no doubt
        doubt = (posterior[:, 1:] * counted**BEYOND).sum(dim=1)
        trust = 1 - (1 - LEAST_TRUST) * doubt
        trust = trust * (counted * self.parts.to(counted)).sum(dim=1).clamp_max(1)
        # the belief mass / (mass + K) times the trust, as mass again
        mass = classes * trust * mass / (mass * (1 - trust) + classes)
        return mass.unsqueeze(-1) * shares


def _share_evidence(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Class shares and evidence (..., K) of logits; see `shares_to_evidence`."""
    classes = logits.shape[-1]
    values = (logits - logits.amax(dim=-1, keepdim=True)).exp_()
    total = values.sum(dim=-1, keepdim=True)  # the largest share is 1 over it
    confidence = (classes / total - 1).clamp_min_(0).div_(max(classes - 1, 1))
    onset = confidence / (confidence + ONSET)
    mass = MASS * classes * onset * F.softplus(SLOPE * confidence + OFFSET)
    shares = values.div_(total)
    return shares, mass * shares


def pool_share(
    evidence: Sequence[Array], codes: NDArray[np.int64], weights: Array | None = None
) -> int:
    """Find the share of a network in a pool with closed-form members, on rows new to both.

    Parameters
    ----------
    evidence : sequence of ndarray of shape (n, K)
        Fused evidence for each of the shares that are tried, `SHARES`, the first of which is 0.
    codes, weights : ndarray of shape (n,)
        Class numbers, and weights of the rows.

    Returns
    -------
    int
        Place of the share of least mean negative log-likelihood, where that is below the members'
        own by more than one standard error, else 0.

    Examples
    --------
    >>> right = np.tile([[9.0, 1.0], [1.0, 9.0]], (20, 1))
    >>> pool_share([right[:, ::-1], right], np.array([0, 1] * 20))
    1
    """
    weights = np.ones(len(codes)) if weights is None else weights
    rows = np.arange(len(codes))
    losses = [
        -log_softmax(log_shares(torch.from_numpy(each.copy())).numpy(), axis=1)[rows, codes]
        for each in evidence
    ]
    means = [float(np.average(values, weights=weights)) for values in losses]
    best = int(np.argmin(means))
    gains = losses[0] - losses[best]
    mean = float(np.average(gains, weights=weights))
    error = float(np.sqrt((weights**2 * (gains - mean) ** 2).sum()) / weights.sum())
    return best if mean > max(error, LEAST_GAIN) else 0


class PoolingClassifier(EvidentialClassifier):
    """Base of the classifiers that fuse opinions by `Fusion`.

    Attributes
    ----------
    stack_ : ndarray of shape (N + 1,) or None
        Weights of the opinions in their product; see `stack_weights`.
    worth_ : ndarray of shape (N,)
        What each view alone tells of the class, in nats; see `view_worth`.
    power_ : float
        Power of the product of the other views' shares where one does not belong.
    membership_ : Membership or None
        Odds that a view does not belong to its row, and its familiarity; None where no row was
        set apart to learn them from, and views are judged by the agreement of their opinions.
    """

    _needed: ClassVar[tuple[str, ...]] = ("membership_", "worth_", "power_", "class_shares_")

    fusion: ViewFusionOperator = "mixture"
    conflict_discount: bool = True
    stack_: Array | None
    worth_: Array
    power_: float
    membership_: Membership | None

    def _fuse(
        self, logits: ExpertLogits, standing: Standing, *, leave_out: bool = True
    ) -> FusedOpinions:
        """Turn logits of the members, or of a pool of them and the network, into opinions."""
        fuse = Fusion(self.fusion, self.conflict_discount, self.stack_, self.worth_, self.power_)
        return fuse(logits, standing, leave_out=leave_out)

    def _learn_views(
        self, rows: TrainRows, logits: ExpertLogits, ask: Callable[[MultiView], Array], seed: Any
    ) -> Standing:
        """Learn the worth and the membership of views from opinions that are new to the rows.

        `ask` gives the class shares (n, N, K) of new rows by each view; the result is the rows'
        standing as if they were new.
        """
        logs = log_softmax(logits.views, axis=-1)
        self.worth_ = view_worth(logs, rows.codes, logits.present)
        self.power_ = others_power(logs, rows.codes, logits.present, rows.weights)
        if (rows.views.present.sum(axis=0) < 2).any():  # too little of a view
            self.membership_ = None
            return plain_standing(logits.witness, rows.views.present)
        learnt = Membership().fit(
            rows.views, rows.codes, logits.witness, ask=ask, rng=np.random.default_rng(seed)
        )
        self.membership_ = learnt
        return learnt.train_standing_

    def _out_of_sample(
        self, logits: ExpertLogits, standing: Standing
    ) -> tuple[Array, tuple[float, float]]:
        """Fused evidence of rows that are new to all, and the limits of suspects' gains."""
        parts = [
            self._fuse(logits.take(block), standing.take(block))
            for block in blocks(len(logits.joint), logits.views[0].size)
        ]
        gains = torch.cat([part.gains for part in parts]).numpy()
        return torch.cat([part.fused for part in parts]).numpy(), suspect_limits(gains)

    def _answers(self, views: MultiView) -> Iterator[tuple[slice, ExpertLogits, Standing]]:
        """Logits of the members, networks or both, and the views' standing, by blocks of rows."""
        yield from self._answerer(views.arrays)

    @property
    def _answerer(self) -> Answerer:
        """The fitted parts made ready for new rows, once."""
        check_is_fitted(self)
        made = _MADE.get(self)
        if made is None or not made.serves(self):
            made = _MADE[self] = Answerer(self)
        return made

    def _opinion(self, views: MultiView) -> MultiViewOpinion:
        heard = self._heard(views)
        parts = [
            self._opinion_of(*self._fuse(logits, standing), present=heard[rows])
            for rows, logits, standing in self._answers(views)
        ]
        return MultiViewOpinion.concatenate(parts)

    def predict_proba(self, X: Any) -> Array:
        """Compute class probabilities of shape (n, K) from the fused opinions.

        They are projected or, for methods with a `calibrator_`, calibrated.
        """
        if getattr(self, "suspect", "report") == "exclude":
            return super().predict_proba(X)
        return self._probabilities(X).astype(self._precision, copy=False)

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each row."""
        best = self._probabilities(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _probabilities(self, X: Any) -> Array:
        """Probabilities of `predict_opinion`, without what only its report needs."""
        if getattr(self, "suspect", "report") == "exclude":
            return self.predict_opinion(X).probability
        parts = []
        for _, logits, standing in self._answers(self._check_rows(X)):
            opinion = self._fuse(logits, standing, leave_out=False)
            evidence = opinion.fused.double().numpy()
            calibrated = self._probability(evidence, opinion.familiarity.double().numpy())
            parts.append(self._projected(evidence) if calibrated is None else calibrated)
        return np.concatenate(parts)
