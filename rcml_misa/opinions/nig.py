"""Opinions about a score: normal-inverse-gamma evidence, its fusion and its losses.

An opinion NIG(gamma, nu, alpha, beta) is a distribution of a normal's mean and variance:
sigma^2 ~ InvGamma(alpha, beta), mu ~ N(gamma, sigma^2 / nu). A stack of M opinions has the shape
(..., M) in each parameter. All functions are pure.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from rcml_misa.exceptions import OptionError, nearest

__all__ = ["NIG", "Regulariser", "fuse_nig", "nig_gains", "nig_loss", "nig_nll", "nig_regulariser"]

Regulariser = Literal["amini", "meinert"]


class NIG(NamedTuple):
    """A normal-inverse-gamma opinion, or many of them.

    The data constrain the predictive distribution, a Student t, and with it `scale`, but not beta
    and nu apart from it: the likelihood is the same along beta (1 + nu) / nu = const. So the scale
    measures the data's spread around the prediction, while the split of the variance into
    `aleatoric` and `epistemic` rests on the regulariser and the course of training;
    `relative_epistemic` orders rows of one model (Meinert, Gawlikowski and Lavin, AAAI 2023).

    Attributes
    ----------
    gamma, nu, alpha, beta : Tensor of shape (...)
        Predicted score; virtual observations of the mean, above 0; shape, above 1, and scale,
        above 0, of the variance's inverse-gamma distribution.

    References
    ----------
    Amini, Schwarting, Soleimany and Rus, Deep evidential regression, NeurIPS 2020, section 3.

    Examples
    --------
    >>> opinion = NIG(*(torch.tensor(value) for value in (0.5, 2.0, 3.0, 4.0)))
    >>> opinion.aleatoric, opinion.epistemic, opinion.scale
    (tensor(2.), tensor(1.), tensor(1.4142))
    """

    gamma: Tensor
    nu: Tensor
    alpha: Tensor
    beta: Tensor

    @property
    def degrees(self) -> Tensor:
        """Degrees of freedom of the predictive Student t, 2 alpha."""
        return 2 * self.alpha

    @property
    def scale(self) -> Tensor:
        """Scale of the predictive Student t, sqrt(beta (1 + nu) / (nu alpha))."""
        return (self.beta * (1 + self.nu) / (self.nu * self.alpha)).sqrt()

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of the predictive Student t."""
        return (self.aleatoric + self.epistemic).sqrt()

    @property
    def relative_epistemic(self) -> Tensor:
        """nu^(-1/2): the mean's uncertainty in units of the data's spread."""
        return self.nu.rsqrt()

    @property
    def aleatoric(self) -> Tensor:
        """Expected variance of the data, beta / (alpha - 1)."""
        return self.beta / (self.alpha - 1)

    @property
    def epistemic(self) -> Tensor:
        """Variance of the mean, beta / (nu (alpha - 1)); see the class for its limits."""
        return self.aleatoric / self.nu


def nig_nll(opinion: NIG, target: Tensor) -> Tensor:
    """Compute the negative log-likelihood (...) of targets under the predictive Student t.

    Source: Amini et al., NeurIPS 2020, equation 8.

    Examples
    --------
    >>> one = torch.ones(())
    >>> round(float(nig_nll(NIG(0 * one, one, 2 * one, one), 0 * one)), 4)
    0.9808
    """
    gamma, nu, alpha, beta = opinion
    omega = 2 * beta * (1 + nu)
    return (
        0.5 * (math.pi / nu).log()
        - alpha * omega.log()
        + (alpha + 0.5) * ((target - gamma).square() * nu + omega).log()
        + torch.lgamma(alpha)
        - torch.lgamma(alpha + 0.5)
    )


def nig_regulariser(opinion: NIG, target: Tensor, *, form: Regulariser = "amini") -> Tensor:
    """Compute the penalty of evidence 2 nu + alpha in proportion to the error.

    Parameters
    ----------
    opinion, target : NIG of shape (...) and Tensor that broadcasts to it
    form : {"amini", "meinert"}
        Unit of the error: the target's, or the predictive scale, which is held constant so that
        it can't grow to make errors small.

    Raises
    ------
    OptionError
        If the form does not exist.

    References
    ----------
    Amini et al., NeurIPS 2020, equation 9; Meinert, Gawlikowski and Lavin, The unreasonable
    effectiveness of deep evidential regression, AAAI 2023, section 4.

    Examples
    --------
    >>> one = torch.ones(())
    >>> nig_regulariser(NIG(0 * one, one, 2 * one, one), 3 * one)
    tensor(12.)
    """
    if form not in get_args(Regulariser):
        raise OptionError(f"form={form!r} does not exist; {nearest(form, get_args(Regulariser))}")
    error = (target - opinion.gamma).abs()
    if form == "meinert":
        error = error / opinion.scale.detach()
    return error * (2 * opinion.nu + opinion.alpha)


def nig_loss(
    opinion: NIG, target: Tensor, *, weight: float = 0.01, form: Regulariser = "amini"
) -> Tensor:
    """Average over all opinions `nig_nll` plus `weight` times `nig_regulariser`.

    Examples
    --------
    >>> one = torch.ones(2)
    >>> opinion = NIG(0 * one, one, 2 * one, one)
    >>> bool(nig_loss(opinion, one, weight=1.0) > nig_loss(opinion, one, weight=0.0))
    True
    """
    loss = nig_nll(opinion, target)
    if weight:
        loss = loss + weight * nig_regulariser(opinion, target, form=form)
    return loss.mean()


def fuse_nig(opinions: NIG, weights: Tensor | None = None) -> NIG:
    """Fuse a stack of opinions by the summation of normal-inverse-gammas; order-free.

    nu = sum nu_m, gamma = sum nu_m gamma_m / nu, alpha = sum alpha_m + (M - 1) / 2 and
    beta = sum beta_m + sum nu_m (gamma_m - gamma)^2 / 2: what folding the paper's pairwise
    operator gives in any order. Opinions that differ make beta grow, so that conflict shows in
    the deviation.

    Parameters
    ----------
    opinions : NIG of shape (..., M)
        Fused to one of shape (...).
    weights : Tensor of shape (..., M), optional
        Not negative, 1 by default: factors on the opinions' evidence. An opinion of weight 0 is
        absent and changes nothing; at least one must be present.

    References
    ----------
    Ma, Han, Zhang, Fu, Zhou and Hu, Trustworthy multimodal regression with mixture of
    normal-inverse gamma distributions, NeurIPS 2021, definition 1.

    Examples
    --------
    >>> pairs = ([0.0, 4.0], [1.0, 3.0], [2.0, 2.0], [1.0, 1.0])
    >>> [float(part) for part in fuse_nig(NIG(*map(torch.tensor, pairs)))]
    [3.0, 4.0, 4.5, 8.0]
    """
    gamma, nu, alpha, beta = opinions
    if weights is None:
        weights = torch.ones_like(nu)
    nu = weights * nu
    total = nu.sum(dim=-1)
    centre = (nu * gamma).sum(dim=-1) / total
    apart = (nu * (gamma - centre.unsqueeze(-1)).square()).sum(dim=-1) / 2
    return NIG(
        gamma=centre,
        nu=total,
        alpha=(weights * alpha).sum(dim=-1) + (weights.sum(dim=-1) - 1) / 2,
        beta=(weights * beta).sum(dim=-1) + apart,
    )


def nig_gains(opinions: NIG, present: Tensor | None = None) -> Tensor:
    """Compute the fall of the fused scale's logarithm, were an opinion's score that of the others.

    Maps M opinions to (..., M), at least 0. With nu_-m and gamma_-m of the sum of the other
    opinions (`fuse_nig`), the beta of the sum of all is that of opinions that agree plus d_m = nu_m
    nu_-m (gamma_m - gamma_-m)^2 / (2 (nu_m + nu_-m)), and the gain is -log(1 - d_m / beta) / 2.

    The fall of the scale where an opinion is left out altogether would name an honest but noisy
    opinion, without which the scale is smaller in any case.

    Parameters
    ----------
    opinions : NIG of shape (..., M)
    present : Tensor of bool of shape (..., M), optional
        The other opinions are absent and have NaN; the only one of a row has 0.

    Examples
    --------
    >>> scores = torch.tensor([0.0, 0.0, 4.0])
    >>> nig_gains(NIG(scores, *torch.ones(3, 3))).round(decimals=2)
    tensor([0.0900, 0.0900, 0.5100])
    """
    weights = torch.ones_like(opinions.nu) if present is None else present.to(opinions.nu)
    beta = fuse_nig(opinions, weights).beta
    gains = []
    for number in range(weights.shape[-1]):
        others = weights.clone()
        others[..., number] = 0
        rest, nu = fuse_nig(opinions, others), opinions.nu[..., number]
        apart = (opinions.gamma[..., number] - rest.gamma).square() / 2
        gain = -torch.log1p(-nu * rest.nu / (nu + rest.nu) * apart / beta) / 2
        gain = torch.where(rest.nu > 0, gain, 0.0)
        gains.append(torch.where(weights[..., number] > 0, gain, torch.nan))
    return torch.stack(gains, dim=-1)
