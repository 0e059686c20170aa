"""Class probabilities of several members: their mutual information, and their Dirichlet."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["dirichlet_of_members", "evidence_of_members", "members_information"]

LEAST, MOST = 1e-6, 1e6  # strength of a Dirichlet
SHARE = 1e-6  # of its parameter that a class keeps as evidence where that is below the prior's


def members_information(members: Tensor) -> Tensor:
    """Return the entropy of the mean probabilities minus the members' mean entropy, in nats.

    Maps probabilities of M members, (..., M, K), to (...), the mutual information of class and
    member: at least 0, 0 for equal members, log min(M, K) at most.

    Source: Depeweg et al., Decomposition of uncertainty in Bayesian deep learning, ICML 2018,
    equation 2.

    Examples
    --------
    >>> members_information(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    tensor(0.6931)
    """
    mean = members.mean(dim=-2)
    inside = torch.special.xlogy(members, members).sum(dim=-1).mean(dim=-1)
    information: Tensor = inside - torch.special.xlogy(mean, mean).sum(dim=-1)
    return information.clamp_min(0)


def dirichlet_of_members(members: Tensor) -> Tensor:
    """Return the parameters of the Dirichlet with the moments of the members' probabilities.

    Its mean is the members' mean m. Its strength S is that at which the total variance of the
    probabilities p is the members' own: of a Dirichlet, sum_k E[p_k (1 - p_k)] = S sum_k Var[p_k],
    so that S is the members' mean of 1 - sum_k p_k^2 over their unbiased variance, summed over the
    classes; both are estimated without bias. S stays within 1e-6 and 1e6.

    Maps probabilities of two or more members, (..., M, K), to (..., K). Source: the method of
    moments; Minka, Estimating a Dirichlet distribution, 2000, section 1.

    Examples
    --------
    >>> dirichlet_of_members(torch.tensor([[0.75, 0.25], [0.25, 0.75]]))
    tensor([0.7500, 0.7500])
    """
    impurity = (members * (1 - members)).sum(dim=-1).mean(dim=-1)
    variance = members.var(dim=-2).sum(dim=-1)
    least = torch.finfo(members.dtype).tiny
    strength = torch.where(variance > 0, impurity / variance.clamp_min(least), MOST)
    return strength.clamp(LEAST, MOST).unsqueeze(-1) * members.mean(dim=-2)


def evidence_of_members(members: Tensor) -> Tensor:
    """Return the evidence of the opinion that `dirichlet_of_members` is, (..., M, K) to (..., K).

    alpha = e + 1 gives e = alpha - 1, and the uncertainty K / S, where every parameter alpha is 1
    or more. An opinion has no less evidence than a vacuous one: a class of a smaller parameter
    keeps a millionth of it, so that the class of most evidence is that of the largest mean
    probability even where members differ so much that none reaches 1.

    Examples
    --------
    >>> evidence_of_members(torch.tensor([[0.6, 0.4], [0.4, 0.6]])).round(decimals=3)
    tensor([5., 5.])
    """
    alpha = dirichlet_of_members(members)
    return torch.maximum(alpha - 1, SHARE * alpha)
