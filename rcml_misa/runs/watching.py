"""Looking at an estimator between its epochs: checkpoints, and the epoch that counts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa import metrics
from rcml_misa.protocols import BEST_TEST, Protocol
from rcml_misa.views import MultiView

__all__ = ["Watcher", "asking"]

EVERY = 10  # epochs between two looks for the best one; the last epoch is always looked at

Rows = tuple[MultiView, NDArray[np.int64]]


class Watcher:
    """A callback of `fit` that scores an estimator while it trains.

    It works on estimators that keep their network in `module_` and tell of their epochs. After
    the last epoch the network gets the weights of the best epoch on the validation rows back, if
    the protocol says so, before anything else is fitted to it.

    Parameters
    ----------
    estimator : estimator
        That is being fitted.
    protocol : Protocol
    valid : (MultiView, ndarray of int) or None
        Validation rows and their class numbers.
    tests : mapping of str to (MultiView, ndarray of int)
        Test sets by name; read for checkpoints and for ``"best-test-epoch"`` alone.
    also : callable
        Called with the progress first.
    others : sequence of callable
        That look too.

    Attributes
    ----------
    checkpoints : dict of str to dict
        Epoch, as text, to test set to accuracy.
    chosen : dict of str to int
        ``"valid"``, or test sets, to the epoch that counts.
    seconds : float
        Spent on looking.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        protocol: Protocol,
        valid: Rows | None,
        tests: Mapping[str, Rows],
        also: Callable[[Any], None] = lambda _: None,
        others: Sequence[Callable[[Any], None]] = (),
    ) -> None:
        self.estimator = estimator
        self.protocol = protocol
        self.valid = valid
        self.tests = tests
        self.also = also
        self.others = others
        self.checkpoints: dict[str, dict[str, float]] = {}
        self.chosen: dict[str, int] = {}
        self.seconds = 0.0
        self._best: dict[str, tuple[float, float]] = {}
        self._states: dict[str, Any] = {}

    def __call__(self, progress: Any) -> None:
        """Look, if this epoch is one to look at."""
        self.also(progress)
        if not hasattr(self.estimator, "module_"):
            return
        started, last = time.perf_counter(), progress.epoch == progress.epochs
        with asking(self.estimator):
            for look in self.others:
                look(progress)
            if progress.epoch in self.protocol.checkpoints:
                self.checkpoints[str(progress.epoch)] = {
                    name: metrics.accuracy(self.estimator.predict(views), target)
                    for name, (views, target) in self.tests.items()
                }
            if last or progress.epoch % EVERY == 0:
                self._look(progress.epoch)
        if last and "valid" in self._states:
            self.estimator.module_.load_state_dict(self._states["valid"])
        self.seconds += time.perf_counter() - started

    def _look(self, epoch: int) -> None:
        """Keep the weights of an epoch that is better than all before it."""
        selection = self.protocol.selection
        rows: dict[str, Rows] = dict(self.tests) if selection == BEST_TEST else {}
        if selection == "best-valid" and self.valid is not None:
            rows["valid"] = self.valid
        for name, (views, target) in rows.items():
            accuracy = metrics.accuracy(self.estimator.predict(views), target)
            # the published code keeps the first of equally good epochs, and so do we on test rows
            found = (accuracy, -self._surprise(views, target) if name == "valid" else 0.0)
            if name not in self._best or found > self._best[name]:
                self._best[name], self.chosen[name] = found, epoch
                self._states[name] = copy.deepcopy(self.estimator.module_.state_dict())

    def _surprise(self, views: MultiView, target: NDArray[np.int64]) -> float:
        """Negative log-likelihood, which tells equally accurate epochs apart."""
        known = np.asarray(self.estimator.classes_).astype(np.int64)
        inside = np.isin(target, known)
        if hasattr(self.estimator, "predict_opinion"):
            p = self.estimator.predict_opinion(views).projected_probability
        else:
            p = self.estimator.predict_proba(views)
        return metrics.nll(p[inside], np.searchsorted(known, target[inside]))

    def load_best(self, name: str) -> None:
        """Give the network the weights of the best epoch on a test set; to reproduce papers.

        Test sets that were not watched get those of the clean rows.
        """
        state = self._states.get(name, self._states.get("clean"))
        if state is not None:
            self.estimator.module_.load_state_dict(state)


@contextmanager
def asking(estimator: Any) -> Iterator[None]:
    """Put the network out of training for a while, if it is in it."""
    training = estimator.module_.training
    estimator.module_.eval()
    try:
        yield
    finally:
        estimator.module_.train(training)
