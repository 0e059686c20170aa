"""The adversarial terms that can stand beside or instead of MISA's similarity term."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

__all__ = ["shared_private_loss", "view_confusion_loss"]


def view_confusion_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of telling which view a shared code came from; through a reversed gradient.

    Parameters
    ----------
    logits : Tensor of shape (B, N, N)
        Of the shared code of view v, (B, v), over the N views.

    References
    ----------
    The published code of MISA (`use_cmd_sim = False`); Ganin and Lempitsky, ICML 2015.

    Examples
    --------
    >>> round(float(view_confusion_loss(torch.zeros(4, 2, 2))), 4)
    0.6931
    """
    views = logits.shape[1]
    target = torch.arange(views, device=logits.device).expand(logits.shape[0], views)
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


def shared_private_loss(logits: Tensor) -> Tensor:
    """Cross-entropy of telling shared codes from each view's private ones.

    The N shared codes of a row together weigh as much as one private code, so that the N + 1
    classes are balanced.

    Parameters
    ----------
    logits : Tensor of shape (B, 2N, N + 1)
        Private codes first; view v's private code is class v, a shared code class N.

    Examples
    --------
    >>> round(float(shared_private_loss(torch.zeros(4, 4, 3))), 4)
    1.0986
    """
    classes = logits.shape[2]
    views = classes - 1
    target = torch.arange(2 * views, device=logits.device).clamp_max(views)
    weight = logits.new_ones(classes)
    weight[views] = 1 / max(views, 1)
    rows = target.expand(logits.shape[0], 2 * views).flatten()
    return F.cross_entropy(logits.flatten(0, 1), rows, weight=weight)
