"""The loop that selects on validation rows: accumulation, clipping, averaging, early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.exceptions import OptionError
from rcml_misa.training.loop import History, Optimisation, Progress, Schedule

__all__ = ["Descent", "bucketed_batches", "train_selected"]

POOL = 16  # batches whose rows are sorted by length together


@dataclass(frozen=True, kw_only=True)
class Descent:
    """How to descend, and when to stop.

    Parameters
    ----------
    epochs : int
        Most passes over the train rows.
    batch_size : int
    learning_rate, weight_decay : float
        AdamW's.
    slow_rate : float
        Learning rate of the parameters whose names start with `slow`.
    slow : tuple of str
        Starts of names; empty for none.
    schedule : {"cosine", "constant"}
        Over all epochs; see `rcml_misa.training.loop.Optimisation`.
    accumulate : int
        Batches whose gradients make one step.
    clip : float
        Largest absolute value of a gradient's entry; 0 for any.
    patience : int, optional
        Epochs without a better validation loss after which training stops; None never stops.
        The best epoch's weights are restored.
    averaging : float
        Share of the old in an exponential moving average of the weights, which is what is
        validated and kept; 0 for none.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float = 0.0
    slow_rate: float = 0.0
    slow: tuple[str, ...] = ()
    schedule: Schedule = "cosine"
    accumulate: int = 1
    clip: float = 0.0
    patience: int | None = None
    averaging: float = 0.0


def bucketed_batches(
    lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """One epoch of batches of rows of nearly the same length, in random order.

    Rows are permuted, sorted by length within pools of 16 batches and cut, which leaves little
    padding and much chance.

    Examples
    --------
    >>> batches = bucketed_batches(np.arange(10), 4, np.random.default_rng(0))
    >>> sorted(np.concatenate(batches).tolist()) == list(range(10)), len(batches)
    (True, 3)
    """
    order = rng.permutation(len(lengths))
    size = POOL * batch_size
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), size):
        pool = order[start : start + size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.array_split(pool, math.ceil(len(pool) / batch_size))
    return [batches[place] for place in rng.permutation(len(batches))]


def _groups(module: nn.Module, how: Descent) -> list[dict[str, object]]:
    kinds: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            slow = name.startswith(how.slow) if how.slow else False
            kinds.setdefault((slow, parameter.dim() > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": how.slow_rate if slow else how.learning_rate,
            "weight_decay": how.weight_decay if matrix else 0.0,
        }
        for (slow, matrix), parameters in kinds.items()
    ]


class _Average:
    """Exponential moving average of the trained parameters, warmed up over the first steps."""

    def __init__(self, parameters: Sequence[nn.Parameter], share: float) -> None:
        self.parameters = parameters
        self.share = share
        self.steps = 0
        self.values = [one.detach().clone() for one in parameters]

    @torch.no_grad()
    def update(self) -> None:
        self.steps += 1
        share = min(self.share, self.steps / (self.steps + 10))
        torch._foreach_lerp_(self.values, list(self.parameters), 1 - share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the average with the weights; twice changes nothing."""
        for value, parameter in zip(self.values, self.parameters, strict=True):
            kept = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(kept)


def train_selected(
    module: nn.Module,
    loss: Callable[[NDArray[np.int64]], Mapping[str, Tensor]],
    *,
    batches: Callable[[], Sequence[NDArray[np.int64]]],
    how: Descent,
    evaluate: Callable[[], Mapping[str, float]] | None = None,
    callback: Callable[[Progress], None] | None = None,
) -> History:
    """Train `module` in place; keep the epoch with the least validation loss.

    Parameters
    ----------
    module : Module
        Parameters that need a gradient are updated; left in evaluation mode.
    loss : callable
        Named scalar terms of the rows of a batch; the one called ``"loss"`` is descended.
    batches : callable
        Gives the batches of an epoch.
    how : Descent
    evaluate : callable, optional
        Called after each epoch in evaluation mode, with the averaged weights in place; named
        numbers that go into the history. The one called ``"valid loss"`` selects the epoch;
        without it the last epoch is kept.
    callback : callable, optional
        Called after `evaluate`, with the same weights in place.

    Returns
    -------
    dict of str to list of float
        The mean of each loss term and what `evaluate` gave, per epoch.

    Raises
    ------
    OptionError
        If the loss stops being a finite number.
    """
    trained = [one for one in module.parameters() if one.requires_grad]
    optimiser = torch.optim.AdamW(_groups(module, how), fused=True)
    per_epoch = math.ceil(len(batches()) / how.accumulate)
    shape = Optimisation(steps=how.epochs * per_epoch, schedule=how.schedule)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, shape.rate)
    average = _Average(trained, how.averaging) if how.averaging else None
    history: History = {}
    best, best_loss, since = None, math.inf, 0
    for epoch in range(1, how.epochs + 1):
        sums = _epoch(module, loss, list(batches()), how, optimiser, schedule, average)
        if not math.isfinite(sums["loss"]):
            raise OptionError(
                f"the loss became {sums['loss']} in epoch {epoch} with "
                f"learning_rate={how.learning_rate}; lower it."
            )
        module.eval()
        if average is not None:
            average.swap()
        found = {} if evaluate is None else dict(evaluate())
        for name, number in (sums | found).items():
            history.setdefault(name, []).append(number)
        if found.get("valid loss", math.nan) < best_loss:
            best_loss, since = found["valid loss"], 0
            best = [one.detach().clone() for one in trained]
        else:
            since += 1
        if callback is not None:
            callback(Progress(epoch=epoch, epochs=how.epochs, loss=sums["loss"]))
        last = epoch == how.epochs or (how.patience is not None and since > how.patience)
        if average is not None and not last:
            average.swap()
        if last:
            break
    if best is not None:
        with torch.no_grad():
            for parameter, value in zip(trained, best, strict=True):
                parameter.copy_(value)
    module.eval()
    return history


def _epoch(
    module: nn.Module,
    loss: Callable[[NDArray[np.int64]], Mapping[str, Tensor]],
    batches: Sequence[NDArray[np.int64]],
    how: Descent,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    average: _Average | None,
) -> dict[str, float]:
    """One pass over the batches; the mean of each loss term."""
    module.train()
    sums: dict[str, float] = {}
    for start in range(0, len(batches), how.accumulate):
        group = batches[start : start + how.accumulate]
        optimiser.zero_grad(set_to_none=True)
        for rows in group:
            terms = loss(rows)
            (terms["loss"] / len(group)).backward()  # type: ignore[no-untyped-call]
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / len(batches)
        if how.clip:
            nn.utils.clip_grad_value_(module.parameters(), how.clip)
        optimiser.step()
        schedule.step()
        if average is not None:
            average.update()
    return sums
