"""The training loop: batches, optimiser, schedule, history, device."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.exceptions import OptionError

__all__ = [
    "Device",
    "EarlyStopping",
    "History",
    "Optimisation",
    "Progress",
    "pick_device",
    "seeded",
    "train",
]

Device = Literal["auto", "cpu", "cuda"]
Schedule = Literal["cosine", "constant"]
History = dict[str, list[float]]


@dataclass(frozen=True)
class Progress:
    """Where a training stands: `epoch` of `epochs` done, and the mean loss of that epoch."""

    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How to descend.

    Parameters
    ----------
    steps : int
        Optimisation steps in all.
    batch_size : int
        Largest number of rows in a step; the rows of an epoch are cut evenly.
    learning_rate : float
    weight_decay : float
        Decoupled (AdamW) or, with `decoupled=False`, added to the gradient (Adam, as published).
    schedule : {"cosine", "constant"}
        ``"cosine"`` warms up linearly over the first tenth of the steps, then falls to zero.
    decoupled : bool
        See `weight_decay`.
    """

    steps: int
    batch_size: int = 200
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    schedule: Schedule = "cosine"
    decoupled: bool = True

    def rate(self, step: int) -> float:
        """Factor on the learning rate at `step` (0-based).

        Examples
        --------
        >>> Optimisation(steps=100).rate(9), round(Optimisation(steps=100).rate(99), 3)
        (1.0, 0.0)
        """
        if self.schedule == "constant":
            return 1.0
        warm = max(self.steps // 10, 1)
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / max(self.steps - warm, 1)))


@dataclass(frozen=True)
class EarlyStopping:
    """End training when a validation loss has stopped falling, and go back to its best epoch.

    Parameters
    ----------
    loss : callable
        The validation loss of the module as it is, in evaluation mode.
    patience : int
        Epochs without a new least loss after which training ends.
    """

    loss: Callable[[], float]
    patience: int = 10


class _Best:
    """The parameters of the best epoch so far."""

    def __init__(self, module: nn.Module, early: EarlyStopping) -> None:
        self.module, self.early = module, early
        self.value, self.waited = math.inf, 0
        self.state: dict[str, Tensor] = {}

    def look(self) -> float:
        """Measure the validation loss, and keep the parameters if it is the least."""
        self.module.eval()
        with torch.no_grad():
            value = self.early.loss()
        self.module.train()
        self.waited += 1
        if value < self.value:
            self.value, self.waited = value, 0
            self.state = {name: one.clone() for name, one in self.module.state_dict().items()}
        return value

    @property
    def over(self) -> bool:
        return self.waited >= self.early.patience

    def restore(self) -> None:
        if self.state:
            self.module.load_state_dict(self.state)


def pick_device(device: Device) -> torch.device:
    """Turn the option into a device; ``"auto"`` takes CUDA where there is one.

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


def _batches(
    rows: int,
    batch_size: int,
    rng: np.random.Generator,
    weights: NDArray[np.float64] | None = None,
) -> Iterator[np.ndarray]:
    """Endless batches: each epoch is a new permutation, cut into parts of even size.

    With weights, an epoch is a draw with replacement, with chances in proportion to them.
    """
    parts = math.ceil(rows / batch_size)
    chances = None if weights is None else weights / weights.sum()
    while True:
        drawn = None if chances is None else rng.choice(rows, size=rows, p=chances)
        yield from np.array_split(rng.permutation(rows) if drawn is None else drawn, parts)


def _optimiser(module: nn.Module, how: Optimisation, fast: tuple[str, ...]) -> torch.optim.Adam:
    matrices, others, quick = [], [], []
    for name, parameter in module.named_parameters():
        if name.endswith(fast) and fast:
            quick.append(parameter)
        elif parameter.dim() > 1 or not how.decoupled:
            matrices.append(parameter)
        else:
            others.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": how.weight_decay},
        {"params": others, "weight_decay": 0.0},
        {"params": quick, "weight_decay": 0.0, "lr": 10 * how.learning_rate},
    ]
    kind = torch.optim.AdamW if how.decoupled else torch.optim.Adam
    return kind([group for group in groups if group["params"]], lr=how.learning_rate, fused=True)


def train(
    module: nn.Module,
    loss: Callable[[NDArray[np.int64], float], Mapping[str, Tensor]],
    *,
    rows: int,
    how: Optimisation,
    rng: np.random.Generator,
    fast: tuple[str, ...] = (),
    weights: NDArray[np.float64] | None = None,
    callback: Callable[[Progress], None] | None = None,
    early: EarlyStopping | None = None,
) -> History:
    """Train `module` in place and return the mean of each loss term per epoch.

    Parameters
    ----------
    module : Module
        Its parameters are updated; left in evaluation mode.
    loss : callable
        Given the row numbers of a batch and the share of training done in [0, 1),
        returns named scalar terms; the one called ``"loss"`` is descended.
    rows : int
        Number of training rows.
    how : Optimisation
    rng : Generator
        Draws the batches.
    fast : tuple of str
        Ends of the names of parameters that learn at ten times the rate, without decay.
    weights : ndarray of shape (rows,), optional
        Chances of the rows to be drawn, which are then drawn with replacement.
    callback : callable, optional
        Called after each epoch.
    early : EarlyStopping, optional
        Adds ``"validation"`` to the history.

    Raises
    ------
    OptionError
        If the loss stops being a finite number.
    """
    optimiser = _optimiser(module, how, fast)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, how.rate)
    per_epoch = math.ceil(rows / how.batch_size)
    epochs = math.ceil(how.steps / per_epoch)
    history: History = {}
    sums: dict[str, float] = {}
    counted = 0
    batches = _batches(rows, how.batch_size, rng, weights)
    best = None if early is None else _Best(module, early)
    module.train()
    for step in range(how.steps):
        terms = loss(next(batches), step / how.steps)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        counted += 1
        if (step + 1) % per_epoch == 0 or step + 1 == how.steps:
            for name, total in sums.items():
                history.setdefault(name, []).append(total / counted)
            if not math.isfinite(sums["loss"]):
                raise OptionError(
                    f"the loss became {sums['loss']} at step {step + 1} with "
                    f"learning_rate={how.learning_rate}; lower it."
                )
            if callback is not None:
                done = math.ceil((step + 1) / per_epoch)
                callback(Progress(epoch=done, epochs=epochs, loss=sums["loss"] / counted))
            sums, counted = {}, 0
            if best is not None:
                history.setdefault("validation", []).append(best.look())
                if best.over:
                    break
    if best is not None:
        best.restore()
    module.eval()
    return history
