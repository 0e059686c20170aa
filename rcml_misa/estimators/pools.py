"""Batches of tables that are too large to be held mapped: pools of short runs of rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rcml_misa.reading.rows import KEPT, InputTable

__all__ = ["BatchStream", "Turn", "row_pools"]

Rows = NDArray[np.int64]
#: Number of a network, its batch's row numbers and, of a stream, their mapped columns.
Turn = tuple[int, Rows, Tensor | None]
RUN = 32  # consecutive rows that are read together
ENTRIES = 2**24  # mapped columns of all rows of a pool, 64 MiB
FEWEST = 2048  # rows of a pool, however wide


def row_pools(rows: int, size: int, rng: np.random.Generator) -> Iterator[Rows]:
    """Draw sorted row numbers of pools of about `size` of `rows` rows, without an end.

    A pool is short runs of consecutive rows from random places, so that a memory map is read
    nearly in order and a table that is sorted by class is mixed nonetheless. No run is in another
    pool before all runs were in one.

    Examples
    --------
    >>> pools = row_pools(100, 64, np.random.default_rng(0))
    >>> first, second = next(pools), next(pools)
    >>> sorted([*first, *second]) == list(range(100)), first[:3].tolist()
    (True, [0, 1, 2])
    """
    runs = math.ceil(rows / RUN)
    count = math.ceil(runs / max(size // RUN, 1))
    while True:
        for places in np.array_split(rng.permutation(runs), count):
            pool = (np.sort(places)[:, None] * RUN + np.arange(RUN)).ravel()
            yield pool[pool < rows]


@dataclass
class BatchStream:
    """Batches of networks that are trained side by side on a table that is streamed.

    All networks draw batches from one pool of rows at a time, which is mapped once, each in an
    order of its own and without the rows that it is kept from.

    Parameters
    ----------
    table : InputTable
        Table whose rows are mapped when they are asked for.
    withheld : sequence of ndarray
        Sorted numbers of the rows that each network is kept from.
    batch : int
        Rows of a batch.
    rng : numpy.random.Generator
    """

    table: InputTable
    withheld: Sequence[Rows]
    batch: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self._turns = self._endless()

    def take(self, steps: int) -> TurnsOfSteps:
        """Give the next `steps` steps, a batch for every network in each, as they are asked for."""
        return TurnsOfSteps(self._turns, steps * len(self.withheld))

    def _endless(self) -> Iterator[Turn]:
        width = ENTRIES // max(sum(self.table.widths), 1)
        size = max(min(KEPT, width), FEWEST, self.batch)
        for pool in row_pools(self.table.rows, size, self.rng):
            inputs = self.table(pool)
            places = [
                self.rng.permutation(np.flatnonzero(np.isin(pool, apart, invert=True)))
                for apart in self.withheld
            ]
            # the last few of a pool, another few in each order, are left out
            turns = max(min(map(len, places)) // self.batch, 1)
            for start in range(0, turns * self.batch, self.batch):
                for network, order in enumerate(places):
                    own = order[start : start + self.batch]
                    yield network, pool[own], inputs[own]


@dataclass(frozen=True)
class TurnsOfSteps:
    """The next batches of a stream, whose number is known before they are drawn."""

    turns: Iterator[Turn]
    count: int

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Turn]:
        return islice(self.turns, self.count)
