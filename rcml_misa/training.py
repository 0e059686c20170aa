"""The training loop: batches, optimiser, schedule, averaging, early stopping, device, seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.callbacks import EpochTasks
from rcml_misa.exceptions import OptionError

__all__ = [
    "Batches",
    "Device",
    "EpochCallback",
    "History",
    "Optimisation",
    "Progress",
    "Schedule",
    "bucketed_batches",
    "in_turns",
    "permuted_batches",
    "pick_device",
    "seeded",
    "train",
]

POOL = 16  # batches whose rows are sorted by length together

Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["cosine", "constant"]
History = dict[str, list[float]]
Rows = NDArray[np.int64]
Batch = TypeVar("Batch")
_Batch_co = TypeVar("_Batch_co", covariant=True)


class Batches(Protocol[_Batch_co]):
    """Batches of an epoch, drawn or to be drawn one after the other, whose number is known."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[_Batch_co]: ...


@dataclass(frozen=True)
class Progress:
    """State of a training: `epoch` of `epochs` done, and the means of that epoch.

    `terms` holds what the epoch adds to `history_`, by name: the loss and its terms, and what was
    measured on validation rows.
    """

    epoch: int
    epochs: int
    loss: float
    terms: Mapping[str, float] = field(default_factory=dict)


EpochCallback = Callable[[Progress], bool | None]


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Optimiser settings: length, learning rates, schedule, clipping, averaging, stopping.

    Parameters
    ----------
    steps, epochs : int, optional
        Length of the training, one of the two: optimiser steps, of which the last may end within
        an epoch, or passes over the train rows.
    learning_rate : float
        Largest learning rate of AdamW or Adam.
    weight_decay : float
        Weight decay, with AdamW of matrices alone.
    decoupled : bool
        Optimiser: AdamW, or with False Adam, which adds the decay of all parameters to their
        gradients, as published methods do.
    schedule : {"cosine", "constant"}
        ``"cosine"`` warms up linearly over the first tenth of the steps, then falls to zero.
    warmup : bool
        False lets ``"cosine"`` fall from the first step on.
    fast : tuple of str
        Ends of the names of parameters that learn at ten times the rate, without decay.
    slow : tuple of str
        Starts of the names of parameters that learn at `slow_rate`.
    slow_rate : float
        Learning rate of the parameters `slow`.
    memory : float
        Share of the previous values in the moving average of squared gradients.
    accumulate : int
        Batches whose mean gradient makes a step.
    clip : float
        Largest absolute value of a gradient's entry; 0 for no limit.
    patience : int, optional
        Epochs without a new least validation loss after which training ends; None never ends it.
    averaging : float
        Share of the previous values in an exponential moving average of the weights, which is
        what is validated and returned; 0 for none.
    """

    steps: int | None = None
    epochs: int | None = None
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    decoupled: bool = True
    schedule: Schedule = "cosine"
    warmup: bool = True
    fast: tuple[str, ...] = ()
    slow: tuple[str, ...] = ()
    slow_rate: float = 0.0
    memory: float = 0.999
    accumulate: int = 1
    clip: float = 0.0
    patience: int | None = None
    averaging: float = 0.0

    def rate(self, step: int) -> float:
        """Return the factor on the learning rate at `step`, counted from 0; needs `steps`.

        Examples
        --------
        >>> Optimisation(steps=100).rate(9), round(Optimisation(steps=100).rate(99), 3)
        (1.0, 0.0)
        """
        if self.schedule == "constant":
            return 1.0
        steps = self.steps or 0
        if not self.warmup:
            return 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
        warm = max(steps // 10, 1)
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / max(steps - warm, 1)))


def pick_device(device: Device) -> torch.device:
    """Turn the option into a device; ``"auto"`` takes CUDA if present.

    Raises
    ------
    OptionError
        If CUDA is asked for and absent, or the word is unknown.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise OptionError(f"device={device!r} is not one of auto, cpu, cuda.")
    present = torch.cuda.is_available()
    if device == "cuda" and not present:
        raise OptionError(
            "device='cuda' was asked for but this machine has no usable CUDA device; "
            "use device='cpu' or 'auto'."
        )
    return torch.device("cuda" if present and device != "cpu" else "cpu")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run torch's own draws (initial weights, dropout) from `seed`; restore its state afterwards.

    Examples
    --------
    >>> with seeded(0):
    ...     a = torch.rand(1)
    >>> with seeded(0):
    ...     b = torch.rand(1)
    >>> bool(a == b)
    True
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def permuted_batches(
    rows: int,
    batch_size: int,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> list[Rows]:
    """Draw one epoch of batches: a permutation of the rows, cut into parts of even size.

    With weights, an epoch is a draw with replacement, with chances in proportion to them.

    Examples
    --------
    >>> [len(batch) for batch in permuted_batches(10, 4, np.random.default_rng(0))]
    [4, 3, 3]
    """
    if weights is None:
        order = rng.permutation(rows)
    else:
        order = rng.choice(rows, size=rows, p=weights / weights.sum())
    return np.array_split(order, math.ceil(rows / batch_size))


def bucketed_batches(
    lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> list[Rows]:
    """Draw one epoch of batches of rows of nearly the same length, in random order.

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
    batches: list[Rows] = []
    for start in range(0, len(order), size):
        pool = order[start : start + size]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += np.array_split(pool, math.ceil(len(pool) / batch_size))
    return [batches[place] for place in rng.permutation(len(batches))]


def in_turns(
    parts: Sequence[Rows], draw: Callable[[Rows], Sequence[Rows]]
) -> list[tuple[int, Rows]]:
    """Draw one epoch of batches for networks that are trained side by side, each on its own rows.

    `parts` holds the row numbers of each network, as many for all; `draw` cuts such an array into
    batches of places in it. Batches come in turns, each with the number of its network.

    Examples
    --------
    >>> parts = [np.array([0, 1]), np.array([2, 3])]
    >>> [(k, rows.tolist()) for k, rows in in_turns(parts, lambda part: np.array([[0], [1]]))]
    [(0, [0]), (1, [2]), (0, [1]), (1, [3])]
    """
    drawn = [[part[batch] for batch in draw(part)] for part in parts]
    return [
        (network, batch)
        for batches in zip(*drawn, strict=True)
        for network, batch in enumerate(batches)
    ]


class _Best:
    """Weights and buffers of the epoch with the least validation loss so far."""

    def __init__(self, module: nn.Module, trained: Sequence[Tensor]) -> None:
        self.tensors: list[Tensor] = [*trained, *module.buffers()]
        self.values: list[Tensor] | None = None
        self.loss, self.waited = math.inf, 0

    def update(self, loss: float) -> None:
        """Copy the weights if the loss is the least; else count an epoch of waiting."""
        self.waited += 1
        if loss < self.loss:
            self.loss, self.waited = loss, 0
            self.values = [tensor.detach().clone() for tensor in self.tensors]

    @torch.no_grad()
    def restore(self) -> None:
        if self.values is not None:
            for tensor, value in zip(self.tensors, self.values, strict=True):
                tensor.copy_(value)


class _Descent:
    """Optimiser, schedule and moving average of the parameters of a module that are trained."""

    def __init__(self, module: nn.Module, settings: Optimisation, steps: int) -> None:
        self.settings, self.steps = replace(settings, steps=steps), 0
        self.trained: list[Tensor] = [
            parameter for parameter in module.parameters() if parameter.requires_grad
        ]
        kind = torch.optim.AdamW if settings.decoupled else torch.optim.Adam
        betas = (0.9, settings.memory)
        self.optimiser = kind(_groups(module, settings), betas=betas, fused=True)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, self.settings.rate)
        averaged = self.trained if settings.averaging else []
        self.average = [parameter.detach().clone() for parameter in averaged]

    def step(self) -> None:
        """Update the parameters by their gradients, and the moving average by the parameters."""
        if self.settings.clip:
            nn.utils.clip_grad_value_(self.trained, self.settings.clip)
        self.optimiser.step()
        self.schedule.step()
        self.steps += 1
        if self.average:
            # warmed up, so that the first weights are soon forgotten
            share = min(self.settings.averaging, self.steps / (self.steps + 10))
            with torch.no_grad():
                torch._foreach_lerp_(self.average, self.trained, 1 - share)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the weights with their moving average, if there is one, and back."""
        for value, parameter in zip(self.average, self.trained, strict=False):
            weight = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(weight)


@dataclass(frozen=True)
class _Listener:
    """The callback of a training, whose own draws from torch change nothing."""

    callback: EpochCallback | None
    epochs: int

    def begin(self, epoch: int) -> None:
        """Announce an epoch, where its start is of interest."""
        if isinstance(self.callback, EpochTasks):
            with torch.random.fork_rng():
                self.callback.begin(epoch, self.epochs)

    def end(self, epoch: int, means: Mapping[str, float]) -> bool:
        """Report an epoch; True if it is to be the last."""
        if self.callback is None:
            return False
        with torch.random.fork_rng():
            return self.callback(Progress(epoch, self.epochs, means["loss"], means)) is True


def _groups(module: nn.Module, settings: Optimisation) -> list[dict[str, Any]]:
    """Groups of parameters of like learning rate and decay, for the optimiser."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = settings.learning_rate
        decayed = parameter.dim() > 1 or not settings.decoupled
        if settings.fast and name.endswith(settings.fast):
            rate, decayed = 10 * rate, False
        elif settings.slow and name.startswith(settings.slow):
            rate = settings.slow_rate
        decay = settings.weight_decay if decayed else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]


def _groups_of(batches: Batches[Batch], size: int) -> Iterator[list[Batch]]:
    """Give batches in groups, as they are drawn."""
    drawn = iter(batches)
    while group := list(islice(drawn, size)):
        yield group


def train(
    module: nn.Module,
    loss: Callable[[Batch, float], Mapping[str, Tensor]],
    *,
    batches: Callable[[], Batches[Batch]],
    settings: Optimisation,
    validate: Callable[[], Mapping[str, float]] | None = None,
    callback: EpochCallback | None = None,
) -> History:
    """Train `module` in place, and return the means of the loss terms and validation per epoch.

    Parameters
    ----------
    module : Module
        Network whose parameters that need a gradient are updated; left in evaluation mode.
    loss : callable
        Given a batch and the share of training done in [0, 1), returns named scalar terms; the
        one called ``"loss"`` is minimised.
    batches : callable
        Returns the batches of an epoch, the same number each time, drawn or to be drawn: see
        `rcml_misa.training.permuted_batches` and `bucketed_batches`, and `in_turns` for several
        networks.
    settings : Optimisation
    validate : callable, optional
        Called after each epoch in evaluation mode, with the averaged weights in place; returns
        named numbers for the history. The first of them selects the epoch whose weights are
        restored at the end; without it the last epoch counts and `patience` has no effect.
    callback : callable, optional
        Called after each epoch and its validation, in the same mode and with the same weights;
        one that returns True ends the training. What it draws from torch changes nothing.

    Returns
    -------
    dict of str to list of float
        Mean of each loss term and the numbers of `validate`, per epoch.

    Raises
    ------
    OptionError
        If the loss is not finite, or the length of the training is not exactly one number.
    """
    if (settings.steps is None) == (settings.epochs is None):
        raise OptionError(
            f"steps={settings.steps} and epochs={settings.epochs}: give exactly one of the two."
        )
    first, accumulate = batches(), settings.accumulate
    steps_per_epoch = math.ceil(len(first) / accumulate)
    if settings.epochs is None:
        steps, epochs = settings.steps or 0, math.ceil((settings.steps or 0) / steps_per_epoch)
        total, share = steps * accumulate, 1
    else:
        steps, epochs = settings.epochs * steps_per_epoch, settings.epochs
        total, share = epochs * len(first), len(first)
    descent, listener = _Descent(module, settings, steps), _Listener(callback, epochs)
    best = _Best(module, descent.trained)
    history: History = {}
    seen = 0
    for epoch in range(1, epochs + 1):
        listener.begin(epoch)
        drawn = first if epoch == 1 else batches()
        sums: dict[str, float] = {}
        counted = 0
        module.train()
        for group in islice(_groups_of(drawn, accumulate), steps - descent.steps):
            descent.optimiser.zero_grad(set_to_none=True)
            for rows in group:
                terms = loss(rows, (seen + counted) / total)
                (terms["loss"] / len(group)).backward()  # type: ignore[no-untyped-call]
                # with epochs the terms are divided one by one, with steps their sum is: the last
                # bits of a history depend on it
                for name, value in terms.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) / share
                counted += 1
            descent.step()
        seen += counted
        means = {name: value / (counted / share) for name, value in sums.items()}
        if not math.isfinite(means["loss"]):
            raise OptionError(
                f"the loss became {means['loss']} by step {descent.steps} with "
                f"learning_rate={settings.learning_rate}; lower it."
            )
        module.eval()
        descent.swap()
        if validate is not None:
            with torch.no_grad():
                measured = dict(validate())
            best.update(next(iter(measured.values())))
            means |= measured
        for name, number in means.items():
            history.setdefault(name, []).append(number)
        stopped = listener.end(epoch, means)
        # without `validate` no epoch is waited for
        waited = settings.patience is not None and best.waited >= settings.patience
        if waited or stopped or epoch == epochs:
            break
        descent.swap()
    best.restore()
    module.eval()
    return history
