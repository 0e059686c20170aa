"""Looks at an estimator between its epochs: checkpoints, histories, the epoch that counts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa import metrics
from rcml_misa.datasets import Dataset
from rcml_misa.metrics.scores import class_scores, number_scores, regression_scores, sims_scores
from rcml_misa.protocols import BEST_TEST, Protocol
from rcml_misa.runs.tasks import RunOutputs
from rcml_misa.views import MultiView

__all__ = ["Watcher"]

EVERY = 10  # epochs between two looks for the best one; the last epoch is always looked at

Rows = tuple[MultiView, NDArray[Any]]
Callback = Callable[[Any], None]


@dataclass
class Watcher:
    """A callback of `fit` that scores an estimator while it trains.

    It works on estimators that keep their network in `module_` and call back after each epoch.
    After the last epoch the network gets the weights of the best epoch on the rows `valid` back,
    if the protocol says so, before anything else is fitted to it. `tests` are read for checkpoints
    and for ``"best-test-epoch"`` alone. `also` is called with the progress first, and on the
    fit's own time, then `others`; see `epoch_recorders`.

    `checkpoints` maps an epoch, as text, to test sets and their accuracy, `chosen` ``"valid"`` or
    test sets to the epoch that counts. `seconds` were spent on looks and are no time of the fit.
    """

    estimator: Any
    _: KW_ONLY
    protocol: Protocol
    valid: Rows | None
    tests: Mapping[str, Rows]
    also: Callback | None = None
    others: Sequence[Callback] = ()
    checkpoints: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    chosen: dict[str, int] = field(default_factory=dict, init=False)
    seconds: float = field(default=0.0, init=False)
    _best: dict[str, tuple[float, float]] = field(default_factory=dict, init=False)
    _states: dict[str, Any] = field(default_factory=dict, init=False)

    def __call__(self, progress: Any) -> None:
        """Look, if this epoch is one to look at."""
        if self.also is not None:
            self.also(progress)
        if not hasattr(self.estimator, "module_"):
            return
        started, last = time.perf_counter(), progress.epoch == progress.epochs
        module = self.estimator.module_
        training = module.training
        module.eval()
        try:
            for record in self.others:
                record(progress)
            if progress.epoch in self.protocol.checkpoints:
                self.checkpoints[str(progress.epoch)] = {
                    name: metrics.accuracy(self.estimator.predict(views), target)
                    for name, (views, target) in self.tests.items()
                }
            if last or progress.epoch % EVERY == 0:
                self._look(progress.epoch)
        finally:
            module.train(training)
        if last and "valid" in self._states:
            module.load_state_dict(self._states["valid"])
        self.seconds += time.perf_counter() - started

    def _look(self, epoch: int) -> None:
        """Remember the weights of an epoch that is better than all before it."""
        selection = self.protocol.selection
        rows = dict(self.tests) if selection == BEST_TEST else {}
        if selection == "best-valid" and self.valid is not None:
            rows["valid"] = self.valid
        for name, (views, target) in rows.items():
            accuracy = metrics.accuracy(self.estimator.predict(views), target)
            # the published code keeps the first of equally good epochs, and so do we on test rows
            quality = (accuracy, -self._nll(views, target) if name == "valid" else 0.0)
            if name not in self._best or quality > self._best[name]:
                self._best[name], self.chosen[name] = quality, epoch
                self._states[name] = copy.deepcopy(self.estimator.module_.state_dict())

    def _nll(self, views: MultiView, target: NDArray[np.int64]) -> float:
        """Compute the negative log-likelihood, which orders equally accurate epochs."""
        trained = np.asarray(self.estimator.classes_).astype(np.int64)
        inside = np.isin(target, trained)
        if hasattr(self.estimator, "predict_opinion"):
            p = self.estimator.predict_opinion(views).projected_probability
        else:
            p = self.estimator.predict_proba(views)
        return metrics.nll(p[inside], np.searchsorted(trained, target[inside]))

    def load_best(self, name: str) -> None:
        """Give the network the weights of the best epoch on a test set, else on the clean rows."""
        state = self._states.get(name, self._states.get("clean"))
        if state is not None:
            # networks that have no share in the answers are no longer there
            module = self.estimator.module_
            module.load_state_dict({key: state[key] for key in module.state_dict()})


def epoch_recorders(
    estimator: Any,
    dataset: Dataset,
    outputs: RunOutputs,
    parts: Mapping[str, NDArray[np.int64]],
    history: dict[str, list[float]],
) -> list[Callback]:
    """Make callbacks that write into `history` what `outputs` asks for after each epoch.

    They select nothing: the estimator never sees what they record. `parts` has the row numbers of
    ``train``, ``valid`` and ``test``; empty ones are left out. `history` gets a list per part and
    measure.
    """
    recorders: list[Callback] = []
    if outputs.per_epoch:

        def record(_: Any) -> None:
            for name, rows in parts.items():
                if len(rows):
                    guess = _guess(estimator, dataset.views.take(rows))
                    for measure, value in target_scores(dataset, guess, rows).items():
                        history.setdefault(f"{name} {measure}", []).append(value)

        recorders.append(record)
    if "history" in outputs.keep:
        held = "valid" if len(parts["valid"]) else "test"
        pair = {name: parts[name] for name in ("train", held)}
        recorders.append(loss_recorder(estimator, dataset.views, dataset.target, pair, history))
    return recorders


def _guess(estimator: Any, views: MultiView) -> NDArray[Any]:
    """Predict scores (n,) or evidence or probabilities of classes (n, K), while it trains."""
    if not hasattr(estimator, "predict_proba"):
        return np.asarray(estimator.predict(views))
    if hasattr(estimator, "predict_opinion"):
        return np.asarray(estimator.predict_opinion(views).evidence)
    return np.asarray(estimator.predict_proba(views))


def target_scores(
    dataset: Dataset, guess: NDArray[Any], rows: NDArray[np.int64]
) -> dict[str, float]:
    """Measure answers to some rows: accuracy of classes, and the measures of the target's scale."""
    if dataset.task == "regression":
        sentiment = sims_scores if dataset.score_limit == 1 else regression_scores
        measure = number_scores if dataset.scores is None else sentiment
        return measure(guess, dataset.target[rows])
    measures = {"accuracy": float((guess.argmax(axis=1) == dataset.target[rows]).mean())}
    if dataset.scores is not None and dataset.class_values is not None:
        measures |= class_scores(guess, dataset.scores[rows], dataset.class_values)
    return measures


def loss_recorder(
    estimator: Any,
    views: MultiView,
    target: NDArray[Any],
    parts: Mapping[str, NDArray[np.int64]],
    history: dict[str, list[float]],
) -> Callback:
    """Make a callback that notes the loss terms of some rows after each epoch.

    Each part's row numbers are cut to as many as the smallest has, since discrepancies and
    overlaps of codes depend on how many rows they are taken over. `history` gets a list per part
    and term.
    """
    least = min(map(len, parts.values()))
    drawn = {
        name: np.random.default_rng(0).permutation(rows)[:least] for name, rows in parts.items()
    }
    taken = {name: (views.take(rows), target[rows]) for name, rows in drawn.items()}

    def record(_: Any) -> None:
        for name, (rows, wanted) in taken.items():
            for term, value in estimator.loss_terms(rows, wanted).items():
                history.setdefault(f"{name} {term}", []).append(value)

    return record
