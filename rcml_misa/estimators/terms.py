"""Loss terms of evidential networks over the opinions that there are, with weights of rows."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
    weighted_mean,
)
from rcml_misa.nn import TokenOpinions, ViewOpinions
from rcml_misa.views import MultiView

__all__ = ["evidential_terms", "mixing_partners", "present_views", "subspace_terms"]


def present_views(views: MultiView, device: torch.device) -> Tensor | None:
    """Which views each row has, (n, N), where some are missing; None where none is.

    Examples
    --------
    >>> views = MultiView({"a": [[1.0], [2.0]], "b": [[float("nan")], [3.0]]})
    >>> present_views(views, torch.device("cpu")).tolist()
    [[True, False], [True, True]]
    """
    present = views.present
    return None if present.all() else torch.from_numpy(present).to(device)


def evidential_terms(
    output: TokenOpinions | ViewOpinions,
    target: Tensor,
    *,
    kl_weight: float,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Mean EDL loss of the fused and all single opinions, and the private ones' conflict.

    Parameters
    ----------
    output : TokenOpinions or ViewOpinions
        Opinions about B rows; those that are not there do not count.
    target : Tensor of shape (B, K)
        One-hot or mixed classes.
    kl_weight : float
    weight : Tensor of shape (B,), optional
        How much each row counts; 1 is usual.

    Returns
    -------
    dict of str to Tensor
        Scalars ``"edl"`` and ``"conflict"``.
    """
    opinions = torch.cat([output.fused.unsqueeze(1), output.private, output.shared], dim=1)
    one_per_opinion = target.unsqueeze(1)
    if output.present is None and weight is None:
        return {
            "edl": edl_loss(opinions, one_per_opinion, kl_weight=kl_weight),
            "conflict": conflict_loss(output.private),
        }
    edl = edl_loss(opinions, one_per_opinion, kl_weight=kl_weight, reduction="none")
    views = _views_present(output)
    conflict = conflict_loss(output.private, present=views, reduction="none")
    if weight is not None:
        edl, conflict = edl * weight.unsqueeze(1), conflict * weight
    there = None
    if output.present is not None:
        # the fused opinion is always there
        there = torch.cat([torch.ones_like(output.present[:, :1]), output.present], dim=1)
        there = there.to(edl.dtype)
    return {"edl": weighted_mean(edl, there), "conflict": conflict.mean()}


def subspace_terms(output: TokenOpinions, *, weight: Tensor | None = None) -> dict[str, Tensor]:
    """MISA's similarity, difference and reconstruction terms over the views that there are.

    Parameters
    ----------
    output : TokenOpinions
    weight : Tensor of shape (B,), optional
        How much each row counts.

    Returns
    -------
    dict of str to Tensor
        Scalars ``"sim"``, ``"diff"`` and ``"recon"``.
    """
    weights, views = None, _views_present(output)
    if views is not None:
        weights = views.to(output.projected.dtype)
    if weight is not None:
        weights = weight.unsqueeze(1) * (
            torch.ones_like(output.projected[..., 0]) if weights is None else weights
        )
    return {
        "sim": similarity_loss(output.shared_codes, weights=weights),
        "diff": difference_loss(output.private_codes, output.shared_codes, weights=weights),
        "recon": reconstruction_loss(output.reconstructed, output.projected, weights=weights),
    }


def _views_present(output: TokenOpinions | ViewOpinions) -> Tensor | None:
    return None if output.present is None else output.present[:, : output.private.shape[1]]


def mixing_partners(drawn: NDArray[np.int64], present: Tensor | None) -> Tensor:
    """Row that each row is mixed with: the one drawn, or itself where that has other views.

    Parameters
    ----------
    drawn : ndarray of int of shape (B,)
        A permutation.
    present : Tensor of bool of shape (B, N), optional

    Examples
    --------
    >>> mixing_partners(np.array([1, 2, 0]), torch.tensor([[True], [True], [False]])).tolist()
    [1, 1, 2]
    """
    partners = torch.from_numpy(drawn)
    if present is None:
        return partners
    partners = partners.to(present.device)
    same = (present[partners] == present).all(dim=1)
    return torch.where(same, partners, torch.arange(len(partners), device=present.device))
