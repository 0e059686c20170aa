"""What a view that a row lacks means for stacks of opinions."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["keep_present", "mean_present", "opinions_present", "present_share"]


def present_share(present: Tensor) -> Tensor:
    """Share of its views that a row has: (..., N) to (..., 1, 1), to scale what rests on all.

    Examples
    --------
    >>> float(present_share(torch.tensor([True, False])))
    0.5
    """
    return present.double().mean(dim=-1).to(torch.get_default_dtype())[..., None, None]


def opinions_present(present: Tensor, shared: int) -> Tensor:
    """Which of N private and M shared opinions there are: (..., N) to (..., N + M).

    A shared opinion per view goes with its view; a single one needs any view.

    Examples
    --------
    >>> opinions_present(torch.tensor([True, False]), 1).tolist()
    [True, False, True]
    """
    count = present.shape[-1]
    own = present[..., :shared] if shared in (0, count) else present.any(dim=-1, keepdim=True)
    return torch.cat([present, own], dim=-1)


def keep_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Zero the entries (..., M, K) of opinions that are not there; `present` is (..., M).

    Examples
    --------
    >>> keep_present(torch.ones(2, 1), torch.tensor([True, False])).tolist()
    [[1.0], [0.0]]
    """
    return values if present is None else values * present.unsqueeze(-1)


def mean_present(values: Tensor, present: Tensor | None) -> Tensor:
    """Mean over M of (..., M, K), over those that are there; 0 where none is.

    Examples
    --------
    >>> mean_present(torch.tensor([[1.0], [5.0]]), torch.tensor([True, False]))
    tensor([1.])
    """
    if present is None:
        return values.mean(dim=-2)
    counts = present.sum(dim=-1, keepdim=True).clamp_min(1)
    return keep_present(values, present).sum(dim=-2) / counts
