"""Fusion of a stack of opinions: order-free operators, and a mixture robust to a bogus view."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest
from rcml_misa.opinions.dirichlet import (
    TINY,
    Opinion,
    contradiction,
    keep_present,
    mean_present,
    opinions_present,
    present_share,
)

__all__ = [
    "SHARED_WEIGHT",
    "FusionOperator",
    "ViewFusionOperator",
    "agreement",
    "fuse",
    "fuse_mixture",
    "fuse_views",
    "log_shares",
    "mean_mass",
    "membership",
    "mixture_shares",
    "share_conflict",
]

BOGUS = 0.2  # prior chance that one view does not belong to its row
FLOOR = 0.01  # share that is spread evenly, so that no opinion can rule a class out
LEAST_UNCERTAINTY = 1e-30
SHARED_WEIGHT = 1.5  # prior weight of all that rests on all views together, in views
FusionOperator = Literal["mean", "pairwise", "geometric", "cumulative", "dempster"]
ViewFusionOperator = Literal["mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"]


def fuse(evidence: Tensor, *, operator: FusionOperator, weights: Tensor | None = None) -> Tensor:
    """Fuse a stack of opinions into one, (..., M, K) to (..., K).

    All operators but ``"pairwise"`` give the same whatever the order of the opinions. An opinion
    of weight 0 is absent: it changes nothing. Without any opinion the result is vacuous.

    Parameters
    ----------
    evidence : Tensor of shape (..., M, K)
    operator : {"mean", "pairwise", "geometric", "cumulative", "dempster"}
        ``"mean"``: weighted mean of the evidence, the average belief fusion of RCML's Definition
        1 at equal base rates. ``"pairwise"``: e <- (e_v + e) / 2 in order, as RCML's code does
        (weights 1/4, 1/4, 1/2 at three opinions). ``"geometric"``: exp of the weighted mean of
        log(1 + e), minus 1. ``"cumulative"``: weighted sum of the evidence. ``"dempster"``: TMC's
        reduced combination of beliefs times weights.
    weights : Tensor of shape (..., M), optional
        Not negative; 1 each by default. For ``"pairwise"`` only whether one is 0 counts, for
        ``"dempster"`` weights discount and lie in [0, 1].

    Raises
    ------
    OptionError
        If the operator is not one of those.

    References
    ----------
    Xu et al., AAAI 2024, Definition 1; Jøsang 2016, chapter 12; Han et al., ICLR 2021, equation 5.

    Examples
    --------
    >>> stack = torch.tensor([[3.0, 0.0], [1.0, 2.0]])
    >>> fuse(stack, operator="mean")
    tensor([2., 1.])
    >>> fuse(stack, operator="mean", weights=torch.tensor([1.0, 0.0]))
    tensor([3., 0.])
    """
    if operator not in get_args(FusionOperator):
        choices = get_args(FusionOperator)
        raise OptionError(f"fusion={operator!r} is not an operator; {nearest(operator, choices)}")
    if weights is None:
        weights = evidence.new_ones(evidence.shape[:-1])
    if operator == "pairwise":
        return _fuse_pairwise(evidence, weights)
    if operator == "dempster":
        return _fuse_dempster(evidence, weights)
    scale = weights.unsqueeze(-1)
    if operator == "cumulative":
        return (scale * evidence).sum(dim=-2)
    total = scale.sum(dim=-2).clamp_min(TINY)
    if operator == "mean":
        return (scale * evidence).sum(dim=-2) / total
    return torch.expm1((scale * torch.log1p(evidence)).sum(dim=-2) / total)


def _fuse_pairwise(evidence: Tensor, weights: Tensor) -> Tensor:
    fused = torch.zeros_like(evidence[..., 0, :])
    started = torch.zeros_like(weights[..., :1], dtype=torch.bool)
    for number in range(evidence.shape[-2]):
        opinion, present = evidence[..., number, :], weights[..., number : number + 1] > 0
        folded = torch.where(started, (opinion + fused) / 2, opinion)
        fused = torch.where(present, folded, fused)
        started = started | present
    return fused


def _fuse_dempster(evidence: Tensor, weights: Tensor) -> Tensor:
    opinion, classes = Opinion(evidence), evidence.shape[-1]
    beliefs = opinion.belief * weights.unsqueeze(-1)
    belief = torch.zeros_like(evidence[..., 0, :])
    uncertainty = torch.ones_like(belief[..., :1])
    for number in range(evidence.shape[-2]):
        other = beliefs[..., number, :]
        vacuous = 1 - other.sum(dim=-1, keepdim=True)
        joint = belief * other + belief * vacuous + other * uncertainty
        both = uncertainty * vacuous
        # what the two agree on is scaled up by 1 / (1 - conflict)
        agreed = (joint.sum(dim=-1, keepdim=True) + both).clamp_min(TINY)
        belief, uncertainty = joint / agreed, both / agreed
    # six confident views leave less than 1e-12, which still has to have a gradient
    return belief * classes / uncertainty.clamp_min(LEAST_UNCERTAINTY)


def share_conflict(evidence: Tensor) -> Tensor:
    """Return the largest conflict between two opinions' shares, each weighted by its confidence.

    max over pairs of [|pi_i - pi_j|_1 / 2] max(pi_i) max(pi_j), pi = e / sum e; 0 for one opinion.
    Maps (..., M, K) to (...), in [0, 1].

    Examples
    --------
    >>> share_conflict(torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
    tensor(1.)
    """
    count, classes = evidence.shape[-2:]
    if count < 2:
        return evidence.new_zeros(evidence.shape[:-2])
    shares = evidence / evidence.sum(dim=-1, keepdim=True).clamp_min(1e-12)
    peak = shares.amax(dim=-1)
    conflicts = []
    for step in range(1, count // 2 + 1):  # opinions m and m - step, around
        others = shares.detach().roll(step, dims=-2), peak.detach().roll(step, dims=-1)
        conflicts.append(contradiction(shares.detach(), others[0], peak.detach(), others[1]))
    # the largest alone has a gradient
    best = torch.cat(conflicts, dim=-1).argmax(dim=-1, keepdim=True)
    first = best % count
    second = (first - best // count - 1) % count
    p, q = (
        shares.gather(-2, at.unsqueeze(-1).expand(*at.shape, classes)) for at in (first, second)
    )
    pair = contradiction(p, q, peak.gather(-1, first), peak.gather(-1, second))
    return pair.squeeze(-1)


def log_shares(evidence: Tensor) -> Tensor:
    """Return the log of shares pi = e / sum e, a hundredth of them spread evenly over the classes.

    Examples
    --------
    >>> log_shares(torch.tensor([4.0, 0.0])).exp()
    tensor([0.9950, 0.0050])
    """
    classes = evidence.shape[-1]
    lifted = evidence + 1e-6
    shares = lifted / lifted.sum(dim=-1, keepdim=True)
    return torch.log((1 - FLOOR) * shares + FLOOR / classes)


def _softmax(logs: Tensor) -> Tensor:
    """Softmax over the last dimension; for classes that lie apart in memory along the others.

    PyTorch's own copies such logs, and takes ten times as long for a few classes.
    """
    if logs.stride(-1) == 1 or logs.requires_grad:
        return logs.softmax(dim=-1)
    values = (logs - logs.amax(dim=-1, keepdim=True)).exp_()
    return values.div_(values.sum(dim=-1, keepdim=True))


def agreement(witness: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return each view's agreement with the others, K sum_c p_vc q_vc, and the others' shares q_v.

    Maps evidence or shares p_v of N views, (..., N, K), to (..., N) and (..., N, K): q_v is the
    normalised product of the other views' shares. The agreement is 1 for independent views; views
    that are not `present`, (..., N), are in no product and agree with everything.

    Examples
    --------
    >>> agreement(torch.tensor([[9.0, 1.0], [9.0, 1.0], [1.0, 9.0]]))[0].round(decimals=2)
    tensor([1.0000, 1.0000, 0.2300])
    """
    return _agreement(keep_present(log_shares(witness), present))


def _agreement(logs: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `agreement` of the logarithms of shares, which are 0 for missing views."""
    others = _softmax(logs.sum(dim=-2, keepdim=True) - logs)
    return logs.shape[-1] * (logs.exp() * others).sum(dim=-1).clamp_min(1e-6), others


def membership(witness: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the posterior of each view, and of none, being the one that is not of its row.

    A view that belongs agrees with the product q_v of the others; a bogus one is independent of
    it. With prior chance rho = 0.2 that one view, each alike, is bogus, "v is bogus" has a
    posterior in proportion to (rho / N) / (K sum_c p_vc q_vc), and "none is" to 1 - rho.

    Parameters
    ----------
    witness : Tensor of shape (..., N, K)
        Evidence or shares p_v of N views.
    present : Tensor of bool of shape (..., N), optional
        Views that each row has: the others are in no product, can't be bogus, nor count in N.

    Returns
    -------
    posterior, others : Tensor of shape (..., N + 1) and (..., N, K)
        Probability of "none is bogus", then of each view; the products q_v.

    Examples
    --------
    >>> views = torch.tensor([[9.0, 1.0], [9.0, 1.0], [1.0, 9.0]])
    >>> int(membership(views)[0][1:].argmax())  # the most suspect view
    2
    """
    agreed, others = agreement(witness, present)
    return _posterior(agreed, present), others


def _posterior(agreed: Tensor, present: Tensor | None) -> Tensor:
    """Compute the posterior of `membership` from the agreement of each view."""
    bogus = BOGUS / agreed.shape[-1] / agreed
    if present is not None:
        views = present.sum(dim=-1, keepdim=True)
        # the only view of a row can't be distinguished from a bogus one
        bogus = torch.where(present & (views > 1), BOGUS / views.clamp_min(1) / agreed, 0.0)
    odds = torch.cat([torch.full_like(bogus[..., :1], 1 - BOGUS), bogus], dim=-1)
    return odds / odds.sum(dim=-1, keepdim=True)


def mixture_shares(
    private: Tensor,
    shared: Tensor,
    witness: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    counted: Tensor | None = None,
    whole: Tensor | None = None,
    posterior: Tensor | None = None,
    power: float = 1.0,
) -> Tensor:
    """Return shares (..., K) of a mixture over which view, if any, does not belong to its row.

    One hypothesis says that every view belongs to the row; its shares are the normalised product
    of all opinions' shares, each to the power of its weight. N others say that view v does not:
    the product of the other views' witness shares. Each counts by its posterior. Order-free.

    Parameters
    ----------
    private, shared, witness, weights
        See `fuse_mixture`.
    counted : Tensor of shape (..., N), optional
        Part of its weight with which each view counts in a row, in [0, 1]; 0 for a missing view.
    whole : Tensor of shape (..., M), optional
        The same for the shared opinions.
    posterior : Tensor of shape (..., N + 1), optional
        Probability that every view belongs, then of each view that it alone does not; that of
        `membership` without it.
    power : float
        Power of the products of the other views' shares; below 1 where views repeat each other.

    Examples
    --------
    >>> views = torch.tensor([[9.0, 1.0], [1.0, 9.0]])
    >>> mixture_shares(views, torch.empty(0, 2), posterior=torch.tensor([0.0, 0.0, 1.0])).argmax()
    tensor(0)
    """
    count = private.shape[-2]
    logs = log_shares(private)
    if weights is None:
        weights = torch.cat([private.new_ones(count), private.new_tensor([SHARED_WEIGHT])])
    own = weights[:count] if counted is None else weights[:count] * counted
    everything = (own.unsqueeze(-1) * logs).sum(dim=-2)
    if shared.shape[-2]:
        weight = weights[count:]
        if counted is not None:
            weight = weight * present_share(counted).squeeze(-1)
        everything = everything + weight * mean_present(log_shares(shared), whole)
    if count < 2:
        return _softmax(everything)
    here = counted
    if posterior is None and counted is not None:
        here = counted > 0
    if witness is not None:
        logs = log_shares(witness)
    logs = keep_present(logs, here)
    if posterior is None:
        posterior = _posterior(_agreement(logs)[0], here)
    others = logs.sum(dim=-2, keepdim=True) - logs
    others = _softmax(others if power == 1 else power * others)
    mixed = posterior[..., :1] * _softmax(everything)
    return mixed + (posterior[..., 1:].unsqueeze(-1) * others).sum(dim=-2)


def mean_mass(private: Tensor, shared: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mass of geometric fusion, (...), exp mean log(1 + e) - 1 summed over classes.

    `weights` (..., N + M) are those of the N private and M shared opinions in the mean; less than
    one opinion in all counts as one, so that the mass falls.

    Examples
    --------
    >>> mean_mass(torch.tensor([[8.0, 0.0]]), torch.empty(0, 2))
    tensor(8.)
    """
    count = private.shape[-2]
    own, both = torch.log1p(private), torch.log1p(shared)
    if weights is None:
        total = (own.sum(dim=-2) + both.sum(dim=-2)) / (count + shared.shape[-2])
        return torch.expm1(total).sum(dim=-1)
    total = keep_present(own, weights[..., :count]).sum(dim=-2)
    total = total + keep_present(both, weights[..., count:]).sum(dim=-2)
    counts = weights.sum(dim=-1, keepdim=True).clamp_min(1)
    return torch.expm1(total / counts).sum(dim=-1)


def fuse_mixture(
    private: Tensor,
    shared: Tensor,
    witness: Tensor | None = None,
    *,
    weights: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Fuse to evidence (..., K) by a mixture over hypotheses, robust to one corrupted view.

    The shares are those of `mixture_shares`, the mass is that of geometric fusion, which falls
    where opinions differ.

    Parameters
    ----------
    private, shared : Tensor of shape (..., N, K) and (..., M, K)
        Evidence of the views' own opinions, and of M >= 0 opinions that rest on all views.
    witness : Tensor of shape (..., N, K), optional
        Shares of each view that were not trained together with the others' (the experts');
        the private opinions' shares without it.
    weights : Tensor of shape (N + 1,), optional
        Weights of the private opinions and of the shared ones together, such as those of
        `stack_weights`; 1 each and 1.5 without it.
    present : Tensor of bool of shape (..., N), optional
        Views that each row has, all by default: the others count in no product and under no
        hypothesis, and the weight of the shared opinions falls by their share.

    Examples
    --------
    Two views that agree outvote a third one that is more certain.

    >>> views = torch.tensor([[9.0, 1.0, 0.0], [9.0, 1.0, 0.0], [0.0, 0.0, 90.0]])
    >>> int(fuse_mixture(views, torch.empty(0, 3)).argmax())
    0
    """
    existing = None if present is None else opinions_present(present, shared.shape[-2])
    shares = mixture_shares(
        private,
        shared,
        witness,
        weights=weights,
        counted=present,
        whole=None if existing is None else existing[..., private.shape[-2] :],
    )
    return mean_mass(private, shared, existing).unsqueeze(-1) * shares


def fuse_views(
    private: Tensor,
    shared: Tensor,
    witness: Tensor | None = None,
    *,
    operator: ViewFusionOperator = "mixture",
    discount: bool = True,
    weights: Tensor | None = None,
    present: Tensor | None = None,
) -> Tensor:
    """Fuse the views' own opinions and those that rest on all views, by any operator, to (..., K).

    Parameters
    ----------
    private, shared : Tensor of shape (..., N, K) and (..., M, K)
        Evidence; none for what a row lacks.
    operator : {"mixture", "geometric", "mean", "pairwise", "cumulative", "dempster"}
        See `fuse_mixture` and `fuse`.
    discount : bool
        For the latter: weigh the shared opinions by one minus the private ones' largest conflict,
        divided by their number: a joint view of contradicting views is no witness.
    witness, weights : Tensor, optional
        For the mixture; see `fuse_mixture`.
    present : Tensor of bool of shape (..., N), optional
        Views that each row has.

    Examples
    --------
    >>> views = torch.tensor([[3.0, 0.0], [1.0, 2.0]])
    >>> fuse_views(views, torch.empty(0, 2), operator="mean")
    tensor([2., 1.])
    """
    if operator == "mixture":
        return fuse_mixture(private, shared, witness, weights=weights, present=present)
    counted = None
    if discount and shared.shape[-2]:
        trust = (1 - share_conflict(private)).unsqueeze(-1) / shared.shape[-2]
        ones = torch.ones_like(private[..., 0])
        counted = torch.cat([ones, trust.expand(shared.shape[:-1])], dim=-1)
    if present is not None:
        existing = opinions_present(present, shared.shape[-2]).to(private.dtype)
        counted = existing if counted is None else counted * existing
    return fuse(torch.cat([private, shared], dim=-2), operator=operator, weights=counted)
