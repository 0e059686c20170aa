"""A loaded data set, and its target for a task: the scores, or the classes cut from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from rcml_misa.exceptions import OptionError, nearest, shortened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from rcml_misa.views import MultiView

__all__ = ["Dataset", "as_task", "keep_views"]

# classes of each task, and their places on the scale of scores
CLASSES = {
    "2": {"negative": -1.0, "non-negative": 1.0},
    "3": {"negative": -1.0, "neutral": 0.0, "positive": 1.0},
    "7": {str(value): float(value) for value in range(-3, 4)},
}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Views and target of one data set.

    Attributes
    ----------
    name, source : str
        Name of its entry; path or origin that it was read from.
    views : MultiView
        Raw features in their original units, of `n_samples` rows; tables that are not numbers
        without gaps are `RawTable`, see `prepared`.
    target : ndarray of int64 of shape (n_samples,)
        Codes 0 .. K-1; cannot be written to. Floats where the task is a regression.
    classes : tuple of str
        The K original labels; none where the task is a regression.
    sha256 : str
        Hash of the file; of the images and labels for ``digits``; of a file of the user's own and
        of the options that change what is read of it.
    task : {"classification", "regression"}
    groups : ndarray of shape (n_samples,), optional
        Group of each row, such as its video; no group is divided by a split.
    folds : mapping of str to ndarray of int, optional
        A given split: row numbers of ``"train"``, ``"test"`` and, where it has one, ``"valid"``.
    valid_from : {"train", "test"}, optional
        Fold whose groups serve for validation if the given split has no ``"valid"``; ``"test"``
        where features were trained on the labels of the train rows; None for no such rows.
    scores : ndarray of shape (n_samples,), optional
        The measurement that classes were cut from, such as sentiment in [-3, 3].
    score_limit : float
        Largest absolute score of the scale: 3, or 1 for CH-SIMS.
    class_values : tuple of float, optional
        Place of each class on the scale of `scores`.
    ids : ndarray of str of shape (n_samples,), optional
        Names of the rows.
    weights : ndarray of shape (n_samples,), optional
        Weight of each row in training, 0 or more.
    notes : tuple of str
        Sentences about what was guessed, left out or changed in reading a file of the user's own.
    """

    name: str
    views: MultiView
    target: NDArray[Any] = field(repr=False)
    classes: tuple[str, ...] = field(repr=False)
    sha256: str
    source: str
    task: Literal["classification", "regression"] = "classification"
    groups: NDArray[Any] | None = field(default=None, repr=False)
    folds: Mapping[str, NDArray[np.int64]] | None = field(default=None, repr=False)
    valid_from: Literal["train", "test"] | None = "train"
    scores: NDArray[np.float64] | None = field(default=None, repr=False)
    score_limit: float = 3.0
    class_values: tuple[float, ...] | None = field(default=None, repr=False)
    ids: NDArray[Any] | None = field(default=None, repr=False)
    weights: NDArray[np.float64] | None = field(default=None, repr=False)
    notes: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        self.target.setflags(write=False)


def check_task(task: str) -> None:
    """Refuse with an `OptionError` a task that `as_task` does not know."""
    tasks = [*CLASSES, "regression"]
    if task not in tasks:
        raise OptionError(f"task {shortened(task, 60)!r} does not exist; {nearest(task, tasks)}")


def as_task(dataset: Dataset, task: str) -> Dataset:
    """Give a data set of sentiment `scores` the target of a task.

    The tasks are ``"2"``, below 0 or not; ``"3"``, negative, neutral (exactly 0) or positive;
    ``"7"``, the nearest whole number; and ``"regression"``, the score itself, which is the one task
    of a set that has numbers of any scale to predict. Any other, or a data set without scores, is
    an OptionError.
    """
    import numpy as np

    check_task(task)
    scores, limit = dataset.scores, dataset.score_limit
    if dataset.task == "regression" and task == "regression":
        return dataset
    if scores is None and dataset.task == "regression":
        raise OptionError(
            f"{dataset.name} has numbers to predict and no sentiment scores; choose regression."
        )
    if scores is None:
        raise OptionError(f"{dataset.name} has classes of its own; leave the task out.")
    if task == "7" and limit < 3:
        raise OptionError(
            f"{dataset.name} has scores in [-{limit:g}, {limit:g}], which are no seven classes; "
            "choose 2, 3 or regression."
        )
    if task == "regression":
        target = np.array(scores)
        return replace(dataset, target=target, classes=(), task="regression", class_values=None)
    codes = {
        "2": scores >= 0,
        "3": np.sign(scores) + 1,
        "7": np.clip(np.round(scores), -3, 3) + 3,
    }[task].astype(np.int64)
    return replace(
        dataset,
        target=codes,
        classes=tuple(CLASSES[task]),
        task="classification",
        class_values=tuple(CLASSES[task].values()),
    )


def keep_views(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """Reduce a data set to some of its views, in its own order; all of them for no names.

    A name that is no view is an OptionError.
    """
    from rcml_misa.views import MultiView

    if not names:
        return dataset
    for name in names:
        if name not in dataset.views:
            choice = nearest(name, dataset.views.names)
            raise OptionError(f"{dataset.name} has no view {name!r}; {choice}")
    arrays = {name: array for name, array in dataset.views.items() if name in names}
    return replace(dataset, views=MultiView(arrays))
