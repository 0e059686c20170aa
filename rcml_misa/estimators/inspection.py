"""What a fitted network of private and shared codes shows of itself: codes, attention, losses."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from rcml_misa.views import MultiView

__all__ = ["CodeFeatures", "TokenInspection"]

Array = NDArray[np.float64]
ROWS = 256  # whose outputs are held at once


@dataclass(frozen=True)
class CodeFeatures:
    """What the network makes of n rows of N views.

    Attributes
    ----------
    private, shared : ndarray of shape (n, N, H)
        The codes of the two subspaces.
    fused : ndarray of shape (n, M H)
        The fused tokens side by side.
    """

    private: Array
    shared: Array
    fused: Array


class TokenInspection:
    """Mixin of the estimators whose networks fuse private and shared tokens."""

    batch_size: int
    device_: torch.device

    if TYPE_CHECKING:  # `MultiViewEstimator` has it

        def _check_rows(self, X: Any) -> MultiView: ...

    @abstractmethod
    def _token_outputs(
        self, views: MultiView, *, size: int = ROWS, attention: bool = False
    ) -> Iterator[tuple[NDArray[np.int64], Any]]:
        """Row numbers and the network's output for them, in blocks of `size` rows."""

    @abstractmethod
    def _loss_target(self, y: ArrayLike) -> Tensor:
        """Targets as `_loss_terms` takes them."""

    @abstractmethod
    def _loss_terms(self, output: Any, target: Tensor) -> Mapping[str, Tensor]:
        """Named scalar terms of an output against its rows' targets."""

    @torch.no_grad()
    def extract_features(self, X: Any) -> CodeFeatures:
        """Private, shared and fused features of the rows of X."""
        order, parts = [], []
        for rows, output in self._token_outputs(self._check_rows(X)):
            order.append(rows)
            parts.append((output.private_codes, output.shared_codes, output.tokens.flatten(1)))
        back = np.argsort(np.concatenate(order))
        found = [torch.cat(part).double().cpu().numpy()[back] for part in zip(*parts, strict=True)]
        return CodeFeatures(*found)

    @torch.no_grad()
    def mean_attention(self, X: Any) -> Array:
        """How the tokens divide their attention, on average over the rows of X and all heads.

        Returns
        -------
        ndarray of shape (L, M, M)
            Of each layer, between its M tokens: N private ones, then N shared ones; rows sum
            to 1.
        """
        views = self._check_rows(X)
        maps = [
            output.attention.double().mean(dim=2).sum(dim=0).cpu()
            for _, output in self._token_outputs(views, attention=True)
        ]
        return np.asarray((torch.stack(maps).sum(dim=0) / views.n_samples).numpy())

    @torch.no_grad()
    def loss_terms(self, X: Any, y: ArrayLike) -> dict[str, float]:
        """Mean of each loss term over the rows of X, in blocks as large as training's batches.

        Discrepancies and overlaps of codes depend on how many rows they are taken over, so that
        only blocks of the same size can stand beside the history's terms.

        Parameters
        ----------
        X : views
        y : array of shape (n,)

        Returns
        -------
        dict of str to float
        """
        views, target = self._check_rows(X), self._loss_target(y).to(self.device_)
        sums: dict[str, float] = {}
        for rows, output in self._token_outputs(views, size=self.batch_size):
            for name, value in self._loss_terms(output, target[rows]).items():
                share = len(rows) / views.n_samples
                sums[name] = sums.get(name, 0.0) + share * float(value)
        return sums
