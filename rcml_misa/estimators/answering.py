"""Fitted parts of a classifier made ready for new rows: one reading of a block serves all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.estimators.folded import FoldedNetworks
from rcml_misa.experts.logits import ExpertLogits, expert_logits
from rcml_misa.experts.membership import Standing
from rcml_misa.experts.sums import SMALL
from rcml_misa.opinions import membership, opinions_present
from rcml_misa.opinions.dirichlet import mean_present
from rcml_misa.reading.plan import Reading, ReadingPlan
from rcml_misa.views import ViewArray

__all__ = [
    "Answerer",
    "log_opinions",
    "network_logits",
    "network_logs",
    "plain_odds",
    "plain_standing",
]

Array = NDArray[np.float64]
TINY = 1e-12


class Answerer:
    """The members, networks and membership of a fitted `PoolingClassifier` for rows of tables.

    Parameters
    ----------
    model : PoolingClassifier
        With `experts_`, which may be None, `membership_` and, where networks have a `share_` in
        its opinions, `module_` and `maps_`.
    """

    def __init__(self, model: Any) -> None:
        experts = getattr(model, "experts_", None)
        share = getattr(model, "share_", 0.0)
        self._parts, self._state = _parts(model), _state(model)
        self.share = float(share)
        self.members = () if experts is None else experts.members
        dtype = torch.float64 if model.train_rows_ <= SMALL else torch.float32
        dtype = dtype if experts is None else experts.dtype
        self.plan = ReadingPlan(len(model.view_names_), dtype)
        self.scorer: Any = None if experts is None else experts.scorer(self.plan)
        self.networks = None
        if share:
            self.networks = FoldedNetworks(list(model.module_.networks), model.maps_, self.plan)
        learnt = model.membership_
        self.judge = None if learnt is None else learnt.judge(self.plan)

    def serves(self, model: Any) -> bool:
        """Whether it was made of the parts that a model has now."""
        parts = zip(self._parts, _parts(model), strict=True)
        return all(mine is theirs for mine, theirs in parts) and self._state == _state(model)

    def __call__(
        self, arrays: Sequence[ViewArray]
    ) -> Iterator[tuple[slice, ExpertLogits, Standing]]:
        """Yield slices of rows, their logits and the standing of their views."""
        for rows in self.plan.blocks(arrays):
            reading = self.plan(arrays, rows)
            logits = self.logits(reading)
            yield rows, logits, self.standing(reading, logits.witness)

    def logits(self, reading: Reading) -> ExpertLogits:
        """Compute logits of members, networks or a pool of both for rows read."""
        own: Array | None = None
        all_views: Array | None = None
        if self.networks is not None:
            here = None if reading.present is None else torch.from_numpy(reading.present)
            own, all_views = log_opinions(*self.networks(reading), here)
            if self.scorer is None:
                return network_logits(own, all_views, reading.present)
        scores, joint = self.scorer.score(reading)  # there are members where no network answers
        logits = expert_logits(
            self.members,
            scores.transpose(1, 2).numpy(),
            joint.T.numpy(),
            reading.present,
        )
        return logits if own is None else logits.pooled(own, all_views, self.share)

    def standing(self, reading: Reading, witness: Array) -> Standing:
        """Compute the standing of the views of rows read, with class shares (n, N, K)."""
        if self.judge is not None:
            learnt: Standing = self.judge(reading, witness)
            return learnt
        present = reading.present
        return plain_standing(
            witness, np.ones(witness.shape[:2], bool) if present is None else present
        )


def _parts(model: Any) -> list[Any]:
    """The fitted parts of a model that it answers with."""
    names = ("experts_", "module_", "maps_", "membership_", "share_")
    networks = getattr(getattr(model, "module_", None), "networks", None)
    return [*(getattr(model, name, None) for name in names), networks]


def _state(model: Any) -> list[float]:
    """Numbers that every step of training moves: the collectors' slopes, statistics of batches.

    None where networks have no share in the answers.
    """
    module = getattr(model, "module_", None)
    if module is None or not getattr(model, "share_", 0.0):
        return []
    slopes = [network.collect.slope for network in getattr(module, "networks", ())]
    statistics = [buffer for buffer in module.buffers() if buffer.is_floating_point()]
    return [float(tensor.detach().sum()) for tensor in (*slopes, *statistics)]


def log_opinions(
    private: Tensor, shared: Tensor, present: Tensor | None
) -> tuple[Array, Array | None]:
    """Compute a network's log-probabilities of the views (n, N, K) and of all of them (n, K).

    `private` (n, N, K) and `shared` (n, M, K) hold its evidence; the latter's mean is over the
    opinions that exist where views are `present`, (n, N), and None without any.
    """
    own, joint = network_logs(private, shared, present)
    return own.numpy(), None if joint is None else joint.numpy()


def network_logs(
    private: Tensor, shared: Tensor, present: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Compute `log_opinions` in tensors."""
    own, all_views = (_log_shares(evidence) for evidence in (private, shared))
    count = shared.shape[1]
    if not count:
        return own, None
    existing = None if present is None else opinions_present(present, count)[:, -count:]
    joint = mean_present(all_views, existing)
    return own, joint - joint.exp().sum(dim=-1, keepdim=True).log()


def _log_shares(evidence: Tensor) -> Tensor:
    """Logarithms of the classes' shares of evidence, even where there is none."""
    lifted = evidence + TINY
    return torch.log(lifted / lifted.sum(dim=-1, keepdim=True))


def network_logits(
    own: Array, joint: Array | None, present: NDArray[np.bool_] | None
) -> ExpertLogits:
    """Opinions of networks alone, `log_opinions`, as logits."""
    logs = own if present is None else np.where(present[:, :, None], own, 0.0)
    shares = np.exp(logs)
    return ExpertLogits(
        views=logs,
        joint=np.zeros_like(own[:, 0]) if joint is None else joint,
        witness=shares / shares.sum(axis=-1, keepdims=True),
        present=present,
    )


def plain_standing(witness: Array, present: NDArray[np.bool_]) -> Standing:
    """Judge views by the agreement of their class shares (n, N, K) alone; all are familiar."""
    posterior, familiar = plain_odds(torch.from_numpy(witness), torch.tensor(present))
    return Standing(posterior.numpy(), familiar.numpy())


def plain_odds(witness: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `plain_standing` in tensors."""
    familiar = present.to(witness.dtype)
    if witness.shape[1] < 2:
        certain = torch.tensor([[1.0, 0.0]], dtype=witness.dtype)
        return certain.expand(witness.shape[0], 2), familiar
    return membership(witness, present)[0], familiar
