"""Loss terms of networks' outputs, joined blocks of rows, codes and attention maps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rcml_misa.estimators.base import MultiViewEstimator
from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    edl_loss,
    reconstruction_loss,
    similarity_loss,
    weighted_mean,
)
from rcml_misa.nn.encoders import SequenceEncoderKind
from rcml_misa.nn.networks import TokenOpinions
from rcml_misa.nn.peers import ViewOpinions
from rcml_misa.nn.pretrained import Precision
from rcml_misa.options import keyword_parameters
from rcml_misa.training import Device
from rcml_misa.views import MultiView

__all__ = [
    "CodeFeatures",
    "TokenEstimator",
    "evidential_terms",
    "in_row_order",
    "mixing_partners",
    "present_views",
    "row_tensor",
    "subspace_terms",
    "weighted_loss",
]

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
ROWS = 256  # rows whose outputs are held at once


def present_views(views: MultiView, device: torch.device) -> Tensor | None:
    """Move the presence of views, (n, N), to a device; None where every row has every view.

    Examples
    --------
    >>> views = MultiView({"a": [[1.0], [2.0]], "b": [[float("nan")], [3.0]]})
    >>> present_views(views, torch.device("cpu")).tolist()
    [[True, False], [True, True]]
    """
    return None if views.complete else torch.tensor(views.present, device=device)


def row_tensor(weights: Array | None, device: torch.device) -> Tensor | None:
    """Move weights of rows to a device, in float32; None where all are equal."""
    return None if weights is None else torch.from_numpy(weights).float().to(device)


def evidential_terms(
    output: TokenOpinions | ViewOpinions,
    target: Tensor,
    *,
    kl_weight: float,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Compute the mean EDL loss of all opinions and the conflict of the private ones.

    `target` holds one-hot or mixed classes (B, K), `weight` those of the rows (B,), of mean 1.
    Scalars ``"edl"``, the mean over the fused and all single opinions, and ``"conflict"``;
    opinions of missing views do not count.
    """
    opinions = torch.cat([output.fused.unsqueeze(1), output.private, output.shared], dim=1)
    target = target.unsqueeze(1)  # the same for each opinion of a row
    if output.present is None and weight is None:
        return {
            "edl": edl_loss(opinions, target, kl_weight=kl_weight),
            "conflict": conflict_loss(output.private),
        }
    edl = edl_loss(opinions, target, kl_weight=kl_weight, reduction="none")
    views = _views_present(output)
    conflict = conflict_loss(output.private, present=views, reduction="none")
    if weight is not None:
        edl, conflict = edl * weight.unsqueeze(1), conflict * weight
    counted = None
    if output.present is not None:
        # the fused opinion exists in every row
        counted = torch.cat([torch.ones_like(output.present[:, :1]), output.present], dim=1)
        counted = counted.to(edl.dtype)
    return {"edl": weighted_mean(edl, counted), "conflict": conflict.mean()}


def subspace_terms(output: TokenOpinions, *, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Compute MISA's similarity, difference and reconstruction terms over the present views.

    Scalars ``"sim"``, ``"diff"`` and ``"recon"``; `weight` holds weights of the rows (B,), of
    mean 1.
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


def weighted_loss(terms: Mapping[str, Tensor], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Put the weighted sum of terms, as ``"loss"``, before the terms themselves, detached.

    Examples
    --------
    >>> weighted_loss({"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, {"a": 1.0, "b": 0.5})
    {'loss': tensor(2.), 'a': tensor(1.), 'b': tensor(2.)}
    """
    total, *others = (weight * terms[name] for name, weight in weights.items())
    for term in others:
        total = total + term
    return {"loss": total, **{name: value.detach() for name, value in terms.items()}}


def _views_present(output: TokenOpinions | ViewOpinions) -> Tensor | None:
    return None if output.present is None else output.present[:, : output.private.shape[1]]


def mixing_partners(drawn: NDArray[np.int64], present: Tensor | None) -> Tensor:
    """Return the row that each row is mixed with: the drawn one, or itself where views differ.

    `drawn` is a permutation of the B rows, `present` of shape (B, N).

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


def in_row_order(blocks: Iterable[tuple[Rows, Sequence[Tensor]]]) -> list[Tensor]:
    """Join the tensors (b, ...) of blocks of b row numbers, back in the order of the rows.

    Examples
    --------
    >>> blocks = [(np.array([2, 0]), [torch.tensor([5.0, 3.0])]), (np.array([1]), [torch.ones(1)])]
    >>> in_row_order(blocks)
    [tensor([3., 1., 5.])]
    """
    numbers, parts = zip(*blocks, strict=True)
    back = torch.from_numpy(np.argsort(np.concatenate(numbers)))
    return [torch.cat(part)[back.to(part[0].device)] for part in zip(*parts, strict=True)]


@dataclass(frozen=True)
class CodeFeatures:
    """Features that a network computes of n rows of N views.

    Attributes
    ----------
    private, shared : ndarray of shape (n, N, H)
        Codes of the two subspaces.
    fused : ndarray of shape (n, M H)
        The M fused tokens side by side.
    """

    private: Array
    shared: Array
    fused: Array


@keyword_parameters
class TokenEstimator(MultiViewEstimator):
    """Base of the estimators whose networks fuse private and shared tokens of views of any kind."""

    _reads_sequences: ClassVar[bool] = True

    views: Any = None
    sequence_encoder: SequenceEncoderKind = "lstm"
    sequence_hidden: int = 32
    text_encoder: str = "minilm"
    text_layers: int | None = 6
    precision: Precision = "auto"
    heads: int = 2
    dropout: float = 0.2
    batch_size: int = 16
    learning_rate: float = 1e-3
    text_learning_rate: float = 2e-4
    weight_decay: float = 1e-2
    device: Device = "auto"
    random_state: int | None = None

    @abstractmethod
    def _outputs(
        self, views: MultiView, *, size: int = ROWS, attention: bool = False
    ) -> Iterator[tuple[Rows, Any]]:
        """Row numbers and the network's output for them, in blocks of `size` rows."""

    @abstractmethod
    def _target(self, y: ArrayLike) -> Tensor:
        """Checked targets as `_terms` takes them."""

    @abstractmethod
    def _terms(self, output: Any, target: Tensor) -> Mapping[str, Tensor]:
        """Named scalar loss terms of an output against the targets of its rows."""

    @torch.no_grad()
    def extract_features(self, X: Any) -> CodeFeatures:
        """Compute the private, shared and fused features of the rows of X."""
        codes = in_row_order(
            (rows, (output.private_codes, output.shared_codes, output.tokens.flatten(1)))
            for rows, output in self._outputs(self._check_rows(X))
        )
        return CodeFeatures(*(part.double().cpu().numpy() for part in codes))

    @torch.no_grad()
    def mean_attention(self, X: Any) -> Array:
        """Average the attention between tokens over the rows of X and all heads.

        Returns
        -------
        ndarray of shape (L, M, M)
            Attention of each layer between its M tokens, N private ones, then N shared ones; rows
            sum to 1.
        """
        views = self._check_rows(X)
        maps = [
            output.attention.double().mean(dim=2).sum(dim=0).cpu()
            for _, output in self._outputs(views, attention=True)
        ]
        return np.asarray((torch.stack(maps).sum(dim=0) / views.n_samples).numpy())

    @torch.no_grad()
    def loss_terms(self, X: Any, y: ArrayLike) -> dict[str, float]:
        """Average each loss term over the rows of X, in blocks as large as training's batches.

        Discrepancies and overlaps of codes depend on the number of rows that they are taken over:
        only blocks of the same size compare with the terms of the history.

        """
        target = self._target(self._per_row(X, y)).to(self.device_)
        views = self._check_rows(X)
        sums: dict[str, float] = {}
        for rows, output in self._outputs(
            views, size=getattr(self, "batch_size_", self.batch_size)
        ):
            for name, value in self._terms(output, target[rows]).items():
                share = len(rows) / views.n_samples
                sums[name] = sums.get(name, 0.0) + share * float(value)
        return sums
