"""Made tables of overlapping classes, block by block, of any number of rows.

In each view a row is a point of few latent numbers seen through many noisy columns. A class has
several centres there, of which each view of a row draws its own, and directions of its own in which
its rows spread: classes are neither convex nor of one covariance, so that neither a linear method
nor a small network is enough, and their overlap bounds the accuracy, which `Mixture.best` reaches
since it knows the densities. Values are multiples of 1/64: they compress well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

__all__ = ["Mixture", "mapped", "view_name", "write_arrays"]

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Tables = dict[str, NDArray[np.float32]]

LATENT, SPREAD_RANK, CENTRES = 10, 3, 3
SEPARATION, SPREAD, WIDTH, NOISE = 0.78, 1.5, 0.8, 0.5
STEP = 64  # values are multiples of its inverse
BLOCK_VALUES = 2**24  # most values of a block: memory does not grow with rows


class _View(NamedTuple):
    """Parameters of one view: K classes, M centres, q latent numbers, rank r, D columns."""

    loadings: Floats  # (q, D)
    centres: Floats  # (K, M, q)
    spreads: Floats  # (K, q, r)


def view_name(number: int) -> str:
    """Name view 0, 1, ...: a, b, ..., z, v26, v27, ...

    Examples
    --------
    >>> view_name(0), view_name(26)
    ('a', 'v26')
    """
    return chr(ord("a") + number) if number < 26 else f"v{number}"


@dataclass(frozen=True)
class Mixture:
    """Classes whose centres, spreads and loadings `seed` draws; rows have seeds of their own.

    Attributes
    ----------
    views, columns, classes : int
        Number of views, of columns of each, and of classes.
    seed : int

    Examples
    --------
    >>> mixture = Mixture(views=2, columns=5, classes=3)
    >>> tables, codes = next(mixture.blocks(4, seed=1))
    >>> {name: table.shape for name, table in tables.items()}, len(codes)
    ({'a': (4, 5), 'b': (4, 5)}, 4)
    """

    views: int
    columns: int
    classes: int
    seed: int = 0

    @cached_property
    def _parameters(self) -> tuple[_View, ...]:
        rng, latent = np.random.default_rng([self.seed, 1]), min(LATENT, self.columns)
        # views share the information, so that more of them do not make the task trivial
        separation = SEPARATION * np.sqrt(3 / self.views)
        return tuple(
            _View(
                rng.normal(size=(latent, self.columns)) / np.sqrt(latent),
                separation * rng.normal(size=(self.classes, CENTRES, latent)),
                SPREAD * rng.normal(size=(self.classes, latent, SPREAD_RANK)) / np.sqrt(latent),
            )
            for _ in range(self.views)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the views."""
        return tuple(view_name(number) for number in range(self.views))

    def blocks(
        self, rows: int, *, seed: int, size: int | None = None
    ) -> Iterator[tuple[Tables, Codes]]:
        """Draw `rows` rows in blocks of `size`: tables by view, (n, columns), and class numbers.

        The same seed and size give the same first blocks, whatever the number of rows.
        """
        if size is None:
            size = max(1, min(65_536, BLOCK_VALUES // (self.views * self.columns)))
        for number, start in enumerate(range(0, rows, size)):
            rng = np.random.default_rng([self.seed, 2, seed, number])
            tables, codes = self._block(size, rng)
            count = min(size, rows - start)
            yield {name: table[:count] for name, table in tables.items()}, codes[:count]

    def _block(self, count: int, rng: np.random.Generator) -> tuple[Tables, Codes]:
        codes = rng.integers(self.classes, size=count)
        tables = {}
        for name, view in zip(self.names, self._parameters, strict=True):
            latent = view.centres[codes, rng.integers(CENTRES, size=count)]
            within = rng.normal(size=(count, SPREAD_RANK))
            latent = latent + np.einsum("nqr,nr->nq", view.spreads[codes], within)
            latent += WIDTH * rng.normal(size=latent.shape)
            table = rng.standard_normal((count, self.columns), dtype=np.float32)
            table *= NOISE
            table += latent.astype(np.float32) @ view.loadings.astype(np.float32)
            tables[name] = np.round(table * STEP) / np.float32(STEP)
        return tables, codes

    def best(self, tables: Mapping[str, NDArray[np.float32]]) -> Codes:
        """Class numbers of largest likelihood under the true densities, (n,)."""
        scores = np.zeros((len(next(iter(tables.values()))), self.classes))
        for name, view in zip(self.names, self._parameters, strict=True):
            # the latent numbers' least-squares estimate holds all that the columns tell of them
            gram = view.loadings @ view.loadings.T
            estimate = np.linalg.solve(gram, view.loadings @ tables[name].T.astype(float)).T
            error = WIDTH**2 * np.eye(len(gram)) + NOISE**2 * np.linalg.inv(gram)
            for code in range(self.classes):
                root = np.linalg.cholesky(view.spreads[code] @ view.spreads[code].T + error)
                gaps = estimate[:, None] - view.centres[code]  # (n, M, q)
                white = np.linalg.solve(root, gaps.reshape(-1, len(gram)).T)
                squares = (white**2).sum(axis=0).reshape(-1, CENTRES)
                scores[:, code] += logsumexp(-squares / 2, axis=1) - np.log(np.diag(root)).sum()
        return np.asarray(scores.argmax(axis=1))


def write_arrays(folder: Path, mixture: Mixture, rows: int, *, seed: int) -> None:
    """Write rows as one npy file of float32 per view and `codes.npy`, at constant memory."""
    shapes = {name: (np.float32, (rows, mixture.columns)) for name in mixture.names}
    files = {
        name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, (dtype, shape) in {**shapes, "codes": (np.int64, (rows,))}.items()
    }
    start = 0
    for tables, codes in mixture.blocks(rows, seed=seed):
        part = slice(start, start := start + len(codes))
        for name, values in {**tables, "codes": codes}.items():
            files[name][part] = values
    for file in files.values():
        file.flush()


def mapped(folder: Path, mixture: Mixture) -> tuple[dict[str, NDArray[np.float32]], Codes]:
    """Map the views that `write_arrays` wrote into memory, read-only; read the class numbers."""
    tables = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in mixture.names}
    return tables, np.load(folder / "codes.npy")
