"""Ridges of several members from sums over blocks of rows, with exact leave-one-out scores."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple, Protocol, Self, TypeVar

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from rcml_misa.reading.features import evenly
from rcml_misa.storage import work_folder
from rcml_misa.views import MappedRows, is_mapped

__all__ = ["LOOKED", "SMALL", "Ridge", "RowSource", "Sample", "fit_ridges", "looked_rows"]

Array = NDArray[Any]
Rows = NDArray[np.int64]
Result = TypeVar("Result")

#: Most train rows whose leave-one-out scores are computed.
LOOKED = 65_536
FEWEST_LOOKED = 4096  # of these rows, however many views and classes there are
MOST_ENTRIES = 2**25  # looked rows times views times classes
SEEN = 64  # looked rows that have a view, where it has so many
CHUNK = 16_384  # rows whose sums are one task
BLOCK = 4096  # rows whose features are held at once
CANDIDATES = 2048  # looked rows that tell which penalties come into question
MOST_HELD = 2**25  # scores of all penalties that are held at once
SMALL = 400  # features up to which float64 costs nothing


class Sample(NamedTuple):
    """Rows of one member: features (n, m), class numbers (n,), and weights (n,) or None."""

    features: Tensor
    codes: Tensor
    weights: Tensor | None


class RowSource(Protocol):
    """Features of the rows of a table for several members, block by block."""

    @property
    def rows(self) -> int:
        """Number n of rows of the table."""

    @property
    def classes(self) -> int:
        """Number K of classes."""

    @property
    def nested(self) -> Sequence[slice | None]:
        """Columns of the last member's features that are a member's own, with the same rows."""

    @property
    def roots(self) -> Sequence[Tensor | None]:
        """Each member's L, (m, m), lower, where its ridge is on its features z turned, L^-1 z."""

    def __call__(self, rows: slice | Rows) -> list[Sample]:
        """Compute the features of some rows for every member, of the rows that it has."""


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge regression.

    Its coefficients (m, K) act on the features as they came; `loo_scores` (n, K) hold for each
    looked row the prediction of the ridge fitted without it, y - r / (1 - h).
    """

    coefficients: Array
    intercept: Array
    penalty: float
    loo_scores: Array


@dataclass
class Sums:
    """Weighted sums over rows, in float64, from which a ridge of any penalty is solved.

    Rows that are added at once are summed in the type of their features.

    Attributes
    ----------
    gram : Tensor of shape (m, m)
        Products Z' Z of the features Z.
    moments : Tensor of shape (K, m)
        Features of each class, Y' Z.
    counts : Tensor of shape (K,)
        Weights of each class, Y' 1.
    rows : int
    dtype : torch.dtype
        Type of the features.
    exact : bool
        Whether sums of float32 features are computed in float64 from the first on.
    """

    gram: Tensor
    moments: Tensor
    counts: Tensor
    rows: int
    dtype: torch.dtype
    exact: bool

    @classmethod
    def start(cls, features: Tensor, classes: int, exact: bool) -> Self:
        """Start with sums of no row of features like these."""
        width = features.shape[1]
        shapes = (width, width), (classes, width), (classes,)
        gram, moments, counts = (
            torch.zeros(shape, dtype=torch.float64, device=features.device) for shape in shapes
        )
        return cls(gram, moments, counts, 0, features.dtype, exact)

    def add(self, sample: Sample) -> None:
        """Add the rows of a sample."""
        features, codes, weights = sample
        factor = features.double() if self.exact else features
        weighted = factor
        if weights is not None:
            weighted = factor * weights.to(factor.dtype)[:, None]
            factor = factor * weights.sqrt().to(factor.dtype)[:, None]
        self.gram += squared(factor)
        self.moments += weighted.new_zeros(self.moments.shape).index_add_(0, codes, weighted)
        self.counts += torch.bincount(codes, weights, minlength=len(self.counts))
        self.rows += len(codes)

    def include(self, other: Sums) -> None:
        """Add the sums of other rows."""
        self.gram += other.gram
        self.moments += other.moments
        self.counts += other.counts
        self.rows += other.rows

    def part(self, columns: slice) -> Sums:
        """Cut out the sums of some of the features."""
        gram, moments = self.gram[columns, columns], self.moments[:, columns]
        return Sums(gram, moments, self.counts, self.rows, self.dtype, self.exact)


def squared(values: Tensor) -> Tensor:
    """Multiply the transpose of a matrix by the matrix."""
    if values.device.type == "cpu":  # NumPy sees that the product is symmetric, in half the time
        array = values.numpy()
        return torch.from_numpy(array.T @ array)
    return values.T @ values


class Solution:
    """Ridges of several penalties on centred features and classes, solved from sums of rows.

    One eigendecomposition of the features' covariance serves all penalties and all leverages, so
    that no n x n matrix appears. Penalties are for weights of mean 1. With a `root` L the ridge is
    on features L^-1 z.
    """

    def __init__(self, sums: Sums, penalties: Sequence[float], root: Tensor | None = None) -> None:
        mass = float(sums.counts.sum())
        self._base, self._centre = sums.counts / mass, sums.moments.sum(dim=0) / mass
        gram = sums.gram - mass * torch.outer(self._centre, self._centre)
        moments = sums.moments.T - mass * torch.outer(self._centre, self._base)
        if root is not None:
            turned = torch.linalg.solve_triangular(root, gram, upper=False)
            gram = torch.linalg.solve_triangular(root, turned.T, upper=False)
            moments = torch.linalg.solve_triangular(root, moments, upper=False)
        spectrum, basis = eigh(gram, sums.dtype)
        self._moments = basis.T @ moments
        if root is not None:
            basis = torch.linalg.solve_triangular(root.T, basis, upper=True)
        scaled = gram.new_tensor(penalties) * (mass / sums.rows)
        shifted = spectrum.clamp_min(0)[:, None] + scaled[None, :]
        self._inverse = (1 / shifted).to(sums.dtype)
        self._basis, self._narrow, self._mass = basis, basis.to(sums.dtype), mass

    def __getstate__(self) -> dict[str, Any]:
        # workers leave rows out, and give no coefficients
        return {name: value for name, value in vars(self).items() if name != "_basis"}

    def coefficients(self, number: int) -> tuple[Array, Array]:
        """Compute the coefficients (m, K) and intercepts (K,) of a penalty, given by its number."""
        turned = self._moments * self._inverse[:, [number]]
        coefficients = self._basis @ turned
        intercept = self._base - self._centre @ coefficients
        return coefficients.cpu().numpy(), intercept.cpu().numpy()

    def leave_out(self, sample: Sample, numbers: Sequence[int]) -> tuple[Array, Array]:
        """Leave each row of a sample out once, for the penalties of these numbers.

        The result is the sums of the square errors, (P,), and the scores (P, n, K). The residual of
        a row without it is r / (1 - h), its leverage h being in proportion to its weight.
        """
        features, codes, weights = sample
        numbers, dtype, classes = list(numbers), features.dtype, len(self._base)
        if not numbers:
            return np.empty(0), features.new_empty(0, len(codes), classes).cpu().numpy()
        rotated = (features - self._centre.to(dtype)) @ self._narrow
        inverse = self._inverse[:, numbers]
        leverage = 1 / self._mass + (rotated.square() @ inverse).double()
        if weights is not None:
            leverage *= weights[:, None]
        factors = (1 / (1 - leverage).clamp_min_(1e-6)).T.to(dtype)  # (P, n)
        turned = self._moments.T.to(dtype) * inverse.T[:, None]  # (P, K, m)
        scores = features.new_empty(len(numbers), len(codes), classes)
        for own, coefficients in zip(scores, turned, strict=True):
            torch.addmm(self._base.to(dtype), rotated, coefficients.T, out=own)
        # y - (y - s) / (1 - h), and first without its y, which is minus the residual
        scores *= factors.unsqueeze(-1)
        rows = torch.arange(len(codes), device=features.device)
        true = scores[:, rows, codes]
        scores[:, rows, codes] = true - factors
        squares = torch.linalg.vecdot(scores, scores).to(leverage.dtype)
        errors = squares.sum(dim=1) if weights is None else squares @ weights.to(squares.dtype)
        scores[:, rows, codes] = true + (1 - factors)
        return errors.cpu().numpy(), scores.cpu().numpy()


def eigh(matrix: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Compute eigenvalues and vectors; in float32 where the matrix is large, in half the time."""
    if len(matrix) <= SMALL or dtype == torch.float64:
        spectrum, basis = torch.linalg.eigh(matrix)
        return spectrum, basis
    # the penalties start far above float32's rounding
    spectrum, basis = torch.linalg.eigh(matrix.float())
    return spectrum.double(), basis.double()


def looked_rows(present: NDArray[np.bool_], classes: int) -> Rows:
    """Number the rows whose leave-one-out scores are computed, sorted: all, or some evenly spread.

    They are at most 65 536, and fewer where rows times views times classes exceed 2^25, but at
    least 4096. Rows are added for a view that few of them have, by its presence (n, N).

    Examples
    --------
    >>> looked_rows(np.ones((5, 2), dtype=bool), 3).tolist()
    [0, 1, 2, 3, 4]
    """
    rows, views = present.shape
    most = min(LOOKED, max(FEWEST_LOOKED, MOST_ENTRIES // (views * classes)))
    if rows <= most:
        return np.arange(rows)
    looked = evenly(rows, most)
    rare = np.flatnonzero(present[looked].sum(axis=0) < SEEN)
    having = [np.flatnonzero(present[:, view]) for view in rare]
    more = [numbers[evenly(len(numbers), min(len(numbers), SEEN))] for numbers in having]
    return np.unique(np.concatenate([looked, *more]))


def fit_ridges(source: RowSource, looked: Rows, penalties: Sequence[float]) -> list[Ridge]:
    """Regress centred one-hot classes on each member's centred features; choose their penalties.

    A first pass over all rows adds up the sums that the ridges are solved from, a second one over
    the `looked` rows, sorted, gives leave-one-out scores. The penalty of least square error of
    these is chosen; of many rows only those are tried that come into question by some of them.
    Rows come in fixed chunks, which `joblib.Parallel` hands out, and are added in their order, so
    that the result does not depend on the number of workers. Source: Allen, Technometrics 16, 1974
    (PRESS).
    """
    pairs = zip(_add_up(source), source.roots, strict=True)
    solutions = [Solution(sums, penalties, root) for sums, root in pairs]
    every = list(range(len(penalties)))
    tried = [every] * len(solutions)
    if len(looked) * source.classes * len(every) * len(solutions) > MOST_HELD:
        some = looked[evenly(len(looked), min(len(looked), CANDIDATES))]
        guesses = _leave_out(source, some, solutions, tried)
        tried = [_around(int(np.argmin(errors)), every) for errors, _ in guesses]
    ridges: list[Ridge | None] = [None] * len(solutions)
    while any(tried):
        results = _leave_out(source, looked, solutions, tried)
        for member, (numbers, (errors, scores)) in enumerate(zip(tried, results, strict=True)):
            if not numbers:
                continue
            place = int(np.argmin(errors))
            best = numbers[place]
            if not set(_around(best, every)) <= set(numbers):  # it may fall further
                tried[member] = _around(best, every)
                continue
            coefficients, intercept = solutions[member].coefficients(best)
            ridges[member] = Ridge(
                coefficients=coefficients,
                intercept=intercept,
                penalty=float(penalties[best]),
                loo_scores=scores[place].astype(np.float64),
            )
            tried[member] = []
    return [ridge for ridge in ridges if ridge is not None]


def _around(number: int, every: list[int]) -> list[int]:
    """Number a penalty and those next to it."""
    return every[max(number - 1, 0) : number + 2]


def _add_up(source: RowSource) -> list[Sums]:
    """Add up the sums of every member over all rows."""
    starts = range(0, source.rows, CHUNK)
    chunks = [slice(start, min(start + CHUNK, source.rows)) for start in starts]
    parts = _in_order(partial(_sum_chunk, source), chunks)
    total = next(parts)
    for part in parts:
        for sums, more in zip(total, part, strict=True):
            sums.include(more)
    # sums of nested features stand in those of the last member
    own, nested = iter(total), source.nested
    return [next(own) if columns is None else total[-1].part(columns) for columns in nested]


def _sum_chunk(source: RowSource, chunk: slice) -> list[Sums]:
    """Add up a chunk's rows for every member but those nested in the last one."""
    sums: list[Sums] = []
    pairs = zip(source.roots, source.nested, strict=True)
    roots = [root for root, columns in pairs if columns is None]
    for block in _blocks(chunk):
        own = [
            sample
            for sample, columns in zip(source(block), source.nested, strict=True)
            if columns is None
        ]
        sums = sums or [
            Sums.start(sample.features, source.classes, root is not None)
            for sample, root in zip(own, roots, strict=True)
        ]
        for part, sample in zip(sums, own, strict=True):
            part.add(sample)
    return sums


def _leave_out(
    source: RowSource, looked: Rows, solutions: Sequence[Solution], tried: Sequence[Sequence[int]]
) -> list[tuple[Array, Array]]:
    """Compute errors (P,) and scores (P, n, K) of looked rows, for the penalties tried."""
    starts = range(0, len(looked), CHUNK)
    chunks = [looked[start : start + CHUNK] for start in starts]
    parts = _in_order(partial(_leave_out_chunk, source, solutions, tried), chunks)
    return [_joined(own) for own in zip(*parts, strict=True)]


def _leave_out_chunk(
    source: RowSource,
    solutions: Sequence[Solution],
    tried: Sequence[Sequence[int]],
    chunk: Rows,
) -> list[tuple[Array, Array]]:
    results: list[list[tuple[Array, Array]]] = [[] for _ in solutions]
    for block in _blocks(slice(0, len(chunk))):
        part = chunk[block]
        first, last = int(part[0]), int(part[-1])
        whole = last - first == len(part) - 1  # read without a copy
        rows = slice(first, last + 1) if whole else part
        for own, solution, sample, numbers in zip(
            results, solutions, source(rows), tried, strict=True
        ):
            own.append(solution.leave_out(sample, numbers))
    return [_joined(own) for own in results]


def _joined(parts: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Add up errors (P,) and join scores (P, n, K) of successive rows."""
    errors, scores = zip(*parts, strict=True)
    return np.sum(errors, axis=0), np.concatenate(scores, axis=1)


def _blocks(rows: slice) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, BLOCK):
        yield slice(start, min(start + BLOCK, rows.stop))


def _in_order(task: Callable[[Any], Result], parts: Sequence[Any]) -> Iterator[Result]:
    """Do a task for each part, by the workers of the active `joblib.parallel_config`.

    Processes read the task, with all arrays that it holds, from one file, which they map: it goes
    to a temporary folder, which workers on other machines must share. Tables that are memory maps
    themselves are read where they are.
    """
    workers = joblib.effective_n_jobs(None)
    if len(parts) == 1 or workers == 1:
        yield from map(task, parts)
        return
    backend, _ = joblib.parallel.get_active_backend()
    streams = getattr(backend, "supports_return_generator", False)
    parallel = joblib.Parallel(return_as="generator" if streams else "list")
    if getattr(backend, "supports_sharedmem", False):  # threads
        with _one_core(), _awaited(task, workers) as work:
            yield from parallel(joblib.delayed(work)(part) for part in parts)
        return
    with work_folder() as folder:
        path = str(folder / "task")
        joblib.dump(task, path)
        yield from parallel(joblib.delayed(_alone)(path, part) for part in parts)


@contextmanager
def _awaited(
    task: Callable[[Any], Result], workers: int
) -> Iterator[Callable[[Any], Result | None]]:
    """Give a task for threads, at whose end none is at work, however it comes.

    A thread that outlives the interpreter aborts the process, and joblib does not wait for those
    of an interrupted call.
    """
    slots, stopped = threading.Semaphore(workers), threading.Event()

    def work(part: Any) -> Result | None:
        with slots:
            return None if stopped.is_set() else task(part)

    try:
        yield work
    finally:
        stopped.set()
        for _ in range(workers):
            slots.acquire()
        slots.release(workers)


@contextmanager
def _one_core() -> Iterator[None]:
    """Let libraries use one core for each worker, so that workers don't take each other's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # which new threads begin with
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(threads)


def _alone(path: str, part: Any) -> Any:
    """Do the task of a file for a part, on one core."""
    with _one_core():
        return _loaded(path)(part)


@lru_cache(maxsize=1)
def _loaded(path: str) -> Callable[[Any], Any]:
    """Read a task; a worker does several parts of it."""
    task: Callable[[Any], Any] = joblib.load(path, mmap_mode="r")
    return task


def referred(arrays: Sequence[Any]) -> list[Any]:
    """Let tables in memory maps travel to workers as the place in their file."""
    return [MappedRows(a) if is_mapped(a) and not isinstance(a, MappedRows) else a for a in arrays]


def tensor(array: Array | None, device: torch.device) -> Any:
    """Copy class numbers, weights or a mask to a device; None stays."""
    return None if array is None else torch.tensor(array, device=device)
