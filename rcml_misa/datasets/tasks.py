"""What is predicted of a measurement: itself, or the class that it falls into."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from rcml_misa.exceptions import OptionError, nearest

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset

__all__ = ["Task", "as_task"]

Task = Literal["2", "3", "7", "regression"]
NAMES = {
    "2": ("negative", "non-negative"),
    "3": ("negative", "neutral", "positive"),
    "7": ("-3", "-2", "-1", "0", "1", "2", "3"),
}
VALUES = {"2": (-1.0, 1.0), "3": (-1.0, 0.0, 1.0), "7": (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)}


def as_task(dataset: Dataset, task: str) -> Dataset:
    """Give a data set of sentiment scores the target of a task.

    Parameters
    ----------
    dataset : Dataset
        One with `scores`, in [-3, 3].
    task : {"2", "3", "7", "regression"}
        Below 0 or not; negative, neutral (exactly 0) or positive; the nearest whole number; the
        score itself.

    Returns
    -------
    Dataset

    Raises
    ------
    OptionError
        If there is no such task, or the data set has no scores.
    """
    if task not in get_args(Task):
        raise OptionError(f"task {task!r} does not exist; {nearest(task, get_args(Task))}")
    if dataset.scores is None:
        raise OptionError(f"{dataset.name} has classes of its own; leave the task out.")
    if task == "7" and dataset.score_limit < 3:
        raise OptionError(
            f"{dataset.name} has scores in [-{dataset.score_limit:g}, {dataset.score_limit:g}], "
            "which are no seven classes; choose 2, 3 or regression."
        )
    scores = dataset.scores
    if task == "regression":
        return replace(
            dataset,
            target=np.array(scores),
            classes=(),
            task="regression",
            class_values=None,
        )
    if task == "2":
        codes = (scores >= 0).astype(np.int64)
    elif task == "3":
        codes = np.sign(scores).astype(np.int64) + 1
    else:
        codes = np.clip(np.round(scores), -3, 3).astype(np.int64) + 3
    return replace(
        dataset,
        target=codes,
        classes=NAMES[task],
        task="classification",
        class_values=VALUES[task],
    )
