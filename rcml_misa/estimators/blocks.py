"""Blocks of train rows that networks are kept from, so that some rows are new to each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.exceptions import OptionError
from rcml_misa.nn.networks import NetworkMean
from rcml_misa.reading.rows import spare_rows

__all__ = ["Blocks"]

Rows = NDArray[np.int64]
FEWEST = 10  # rows in all blocks that suffice for a share in a pool and for calibration


@dataclass(frozen=True)
class Blocks:
    """As many disjoint blocks of train rows as there are networks, each kept from two of them.

    What two networks say of rows that are new to them comes closer to what the mean of all says
    of new rows than the opinions of one network. A single network is kept from the one block.

    Attributes
    ----------
    rows : int
        Number of the train rows n.
    blocks : tuple of ndarray
        Sorted row numbers of each block; all empty where networks learn from all rows.
    """

    rows: int
    blocks: tuple[Rows, ...]

    @classmethod
    def draw(
        cls,
        codes: Rows,
        fraction: float,
        networks: int | None,
        rng: np.random.Generator,
        *,
        usual: int,
    ) -> Self:
        """Draw the blocks so that each network is kept from a share `fraction` of the rows.

        The first row drawn of each of the class numbers `codes` (n,) is in no block, so that every
        network sees every class. Without `networks` there are the `usual` number of them, or fewer
        where that would take more than all rows, and one with the fraction 0. Where all blocks
        together would have fewer than 10 rows there is one network of all rows.

        Raises
        ------
        OptionError
            If so many networks, each kept from so many rows, take more than all rows.

        Examples
        --------
        >>> rng = np.random.default_rng(0)
        >>> found = Blocks.draw(np.arange(40) % 2, 0.2, None, rng, usual=3)
        >>> [len(block) for block in found.blocks], [len(part) for part in found.parts]
        ([4, 4, 4], [32, 32, 32])
        """
        most = int(2 / fraction) if fraction else networks or 1
        count = min(usual, most) if networks is None else networks
        if count > most:
            raise OptionError(
                f"networks={count} with calibration_fraction={fraction} keep more rows than all "
                f"from two networks each; {most} networks are the most."
            )
        spare = spare_rows(codes, rng.permutation(len(codes)))
        size = min(round(fraction / min(count, 2) * len(codes)), len(spare) // count)
        if fraction and count * size < FEWEST:
            count, size = 1, 0
        blocks = (np.sort(spare[k * size : (k + 1) * size]) for k in range(count))
        return cls(len(codes), tuple(blocks))

    def among(self, rows: Rows, total: int) -> Self:
        """Renumber blocks that were drawn among some rows, of numbers `rows`, for all `total` rows.

        Every other row is one that all networks learn from.

        Examples
        --------
        >>> Blocks(3, (np.array([0]), np.array([2]))).among(np.array([0, 4, 9]), 10)
        Blocks(rows=10, blocks=(array([0]), array([9])))
        """
        return type(self)(total, tuple(rows[block] for block in self.blocks))

    @property
    def withheld(self) -> list[Rows]:
        """Sorted numbers of the rows that each network is kept from: network k from k - 1 and k."""
        pairs = zip(self.blocks[-1:] + self.blocks[:-1], self.blocks, strict=True)
        return [np.union1d(before, own) for before, own in pairs]

    @property
    def parts(self) -> list[Rows]:
        """Sorted numbers of the rows that each network learns from, as many arrays of that size."""
        return [np.delete(np.arange(self.rows), apart) for apart in self.withheld]

    @property
    def apart(self) -> Rows:
        """Numbers of the rows in all blocks, one block after the other."""
        return np.concatenate(self.blocks)

    def ask(
        self, module: NetworkMean, states: Callable[[Rows, nn.Module], Sequence[Tensor]]
    ) -> list[Tensor]:
        """Ask the networks that each block is new to about its rows; in the order of `apart`."""
        networks = list(module.networks)
        asked = [
            states(block, NetworkMean([one] if one is two else [one, two]))
            for block, one, two in zip(
                self.blocks, networks, networks[1:] + networks[:1], strict=True
            )
        ]
        return [torch.cat(parts) for parts in zip(*asked, strict=True)]
