"""Scikit-learn's callbacks on this package's estimators, fed by the hook of the training loop."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

from rcml_misa.exceptions import OptionError

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9
    CallbackSupportMixin = object
    with_callbacks = None

if TYPE_CHECKING:
    from rcml_misa.training import EpochCallback, Progress

__all__ = ["CallbackSupport", "EpochTasks", "serves_callbacks"]

P = ParamSpec("P")
R = TypeVar("R")


class CallbackSupport(CallbackSupportMixin):  # type: ignore[misc]
    """Mixin of estimators that scikit-learn's callbacks can be set on.

    `serves_callbacks` has to decorate their `fit`.
    """

    def set_callbacks(self, *callbacks: Any) -> Self:
        """Set scikit-learn's callbacks, such as ``sklearn.callback.ProgressBar()``.

        A fit is a task of scikit-learn's; where a network is trained, it has one subtask,
        ``train``, whose subtasks are the epochs. After an epoch a callback that asks for
        `fitted_estimator` gets a copy that predicts with the weights the epoch would keep, and
        whose `history_` ends with that epoch; a hook that returns True ends the training.

        Parameters
        ----------
        *callbacks : callback instances
            Objects with the methods of ``sklearn.callback.FitCallback``; none removes those set.

        Raises
        ------
        OptionError
            If scikit-learn is older than 1.9, which has no callbacks.
        TypeError
            If an object is no callback.

        Examples
        --------
        >>> from sklearn.callback import ScoringMonitor
        >>> from sklearn.datasets import load_iris
        >>> from rcml_misa import RCMLClassifier
        >>> monitor, (X, y) = ScoringMonitor(scoring="accuracy"), load_iris(return_X_y=True)
        >>> model = RCMLClassifier(views=[2, 2], epochs=3, random_state=0).set_callbacks(monitor)
        >>> _ = model.fit(X, y)
        >>> [row["task_name"] for row in monitor.get_logs().data]
        ['fit', 'train', 'epoch', 'epoch', 'epoch']
        """
        if with_callbacks is None:
            raise OptionError(
                "this version of scikit-learn has no callbacks; install 1.9 or later, or give "
                "fit(..., callback=function), which is called after each epoch."
            )
        super().set_callbacks(*callbacks)
        return self


class EpochTasks:
    """A callback of the training loop that makes a task of scikit-learn's of each epoch.

    Parameters
    ----------
    estimator : estimator
        Whose `module_` is being trained.
    root : CallbackContext
        Task of the whole fit.
    also : callable or None
        The callback that `fit` was given, called first.
    data : mapping
        `X`, `y` and `metadata` of the fit.
    """

    def __init__(
        self, estimator: Any, root: Any, also: EpochCallback | None, data: Mapping[str, Any]
    ) -> None:
        self.estimator, self.root, self.also = estimator, root, also
        self.data = {"estimator": estimator, **data}
        self.training: Any = None
        self.epoch: Any = None
        self.history: dict[str, list[float]] = {}

    def begin(self, epoch: int, epochs: int) -> None:
        """Open the task of an epoch, and before the first one that of the training."""
        if epoch == 1:
            self.training = self.root.subcontext(task_name="train", max_subtasks=epochs)
            self.training.call_on_fit_task_begin(**self.data)
        self.epoch = self.training.subcontext(task_name="epoch")
        self.epoch.call_on_fit_task_begin(**self.data)

    def __call__(self, progress: Progress) -> bool:
        """Close the task of an epoch; True if a callback ends the training."""
        for name, value in progress.terms.items():
            self.history.setdefault(name, []).append(value)
        stops = self.also is not None and self.also(progress) is True
        return self._end(self.epoch, self._state) or stops

    def close(self) -> None:
        """Close the task of the training."""
        if self.training is not None:
            self._end(self.training, self._state)

    def _end(self, task: Any, state: Callable[[], Mapping[str, Any]]) -> bool:
        return bool(task.call_on_fit_task_end(reconstruction_attributes=state, **self.data))

    def _state(self) -> dict[str, Any]:
        """Attributes of a copy of the estimator that later epochs leave alone."""
        history = {name: list(values) for name, values in self.history.items()}
        return {"module_": copy.deepcopy(self.estimator.module_), "history_": history}


def serves_callbacks(fit: Callable[P, R]) -> Callable[P, R]:
    """Decorate a `fit` so that it serves scikit-learn's callbacks; one without any is as it was.

    Where `fit` takes `callback`, which the training loop calls after each epoch, epochs are tasks
    as well.
    """
    if with_callbacks is None:
        return fit
    form = signature(fit)
    trains = "callback" in form.parameters

    @with_callbacks  # type: ignore[untyped-decorator]
    def served(estimator: Any, *args: Any, **kwargs: Any) -> Any:
        given = form.bind(estimator, *args, **kwargs)
        named = given.arguments
        weight = named.get("sample_weight")
        metadata = None if weight is None else {"sample_weight": weight}
        data = {"X": named["X"], "y": named.get("y"), "metadata": metadata}
        root = estimator._init_callback_context(max_subtasks=int(trains))
        root.call_on_fit_task_begin(estimator=estimator, **data)
        if not trains:
            fitted = fit(*given.args, **given.kwargs)
        else:
            tasks = EpochTasks(estimator, root, named.get("callback"), data)
            named["callback"] = tasks
            fitted = fit(*given.args, **given.kwargs)
            tasks.close()
        root.call_on_fit_task_end(estimator=estimator, reconstruction_attributes=dict, **data)
        return fitted

    @wraps(fit)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if getattr(args[0], "_skl_callbacks", None):
            result: R = served(*args, **kwargs)
            return result
        return fit(*args, **kwargs)

    return run
