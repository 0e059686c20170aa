"""Options that commands share, declared once; a set of them reaches a command as one object."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rcml_misa.exceptions import OptionError

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset, FileOptions
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol

__all__ = [
    "DataOptions",
    "MethodOptions",
    "Repeats",
    "check_least",
    "data_options",
    "folder",
    "importable_here",
    "jobs_option",
    "json_option",
    "method_options",
    "protocol_options",
    "records_option",
    "repeats_options",
    "together",
    "words",
]

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Callable[..., Any]], Callable[..., Any]]


def together(name: str, make: Callable[..., Any], options: Sequence[Option]) -> Option:
    """Give a command several options whose values it gets as one object.

    Parameters
    ----------
    name : str
        Parameter of the command that gets the object.
    make : callable
        Maker of the object, called with the options' values by name.
    options : sequence of decorator
    """

    def none() -> None: ...

    for option in reversed(options):
        option(none)
    names = [parameter.name for parameter in none.__click_params__]  # type: ignore[attr-defined]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def gathering(*args: Any, **given: Any) -> Any:
            own = {key: given.pop(key) for key in names}
            return command(*args, **given, **{name: make(**own)})

        result: Callable[..., Any] = gathering
        for option in reversed(options):
            result = option(result)
        return result

    return decorate


def words(text: str) -> list[str]:
    """Part a list of names at its commas; a name counts once.

    Examples
    --------
    >>> words("a, b,a")
    ['a', 'b']
    """
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def check_least(**given: tuple[int | None, int]) -> None:
    """Refuse numbers below their least value; each option is a pair of both.

    Raises
    ------
    OptionError
    """
    for name, (value, least) in given.items():
        if value is not None and value < least:
            raise OptionError(f"--{name} {value} is below {least}; give {least} or more.")


def importable_here() -> None:
    """Let methods be named by modules in the current folder, as ``python -m`` does."""
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())


def folder(name: str, text: str, **more: Any) -> Option:
    """Declare an option that names a folder."""
    kind = click.Path(file_okay=False, path_type=Path)
    return click.option(name, type=kind, metavar="DIR", help=text, **more)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
jobs_option = click.option(
    "--jobs", type=int, metavar="J", help="Worker processes.  [default: all cores]"
)
records_option = folder(
    "--records", "Keep a JSON record per run here, and skip the runs that are here already."
)
data_dir_option = folder("--data-dir", "Folder to look in for data files first.")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Choice of a data set's file, target, views and split.

    Attributes
    ----------
    target, views, id : str, optional
        Columns of a file of the user's own; see `FileOptions`.
    data_dir : Path, optional
        Folder to look in first.
    task : str, optional
        Target of a set of scores: ``"2"``, ``"3"``, ``"7"`` classes or ``"regression"``.
    given_split : str, optional
        Which of the data set's own splits.
    keep_views : str, optional
        Names of the views to use, with commas between them.
    """

    target: str | None = None
    views: str | None = None
    id: str | None = None
    data_dir: Path | None = None
    task: str | None = None
    given_split: str | None = None
    keep_views: str | None = None

    @property
    def file_options(self) -> FileOptions:
        """Columns of a file of the user's own."""
        from rcml_misa.datasets import FileOptions

        return FileOptions(target=self.target, views=self.views, id=self.id)

    def load(self, name: str) -> Dataset:
        """Load a data set with the target of the task and the views that are named.

        A set of scores is cut into three classes where no task is named.

        Raises
        ------
        OptionError, DataError
            If there is no such set, task, split or view.
        """
        from rcml_misa.datasets import as_task, keep_views, load_dataset
        from rcml_misa.views import check_target

        dataset = load_dataset(
            name, data_dir=self.data_dir, split=self.given_split, options=self.file_options
        )
        task = self.task or (None if dataset.scores is None else "3")
        if task is not None:
            dataset = as_task(dataset, task)
        if self.keep_views is not None:
            names = tuple(part.strip() for part in self.keep_views.split(","))
            dataset = keep_views(dataset, names)
        if dataset.task == "classification":
            check_target(dataset.target, dataset.classes)
        # records of other tasks, splits and views must not be taken for each other's
        views = "+".join(dataset.views.names) if self.keep_views else None
        parts = [dataset.name, task, self.given_split, views]
        return replace(dataset, name="-".join(part for part in parts if part))

    def load_all(self, names: Sequence[str]) -> list[Dataset]:
        """Load several data sets; target, views and id apply to files of the user's own."""
        from rcml_misa.datasets import list_datasets

        catalogue = {entry.name for entry in list_datasets()}
        plain = replace(self, target=None, views=None, id=None)
        return [(plain if name in catalogue else self).load(name) for name in names]


_FILE = (
    click.option("--target", metavar="NAME", help="Column of labels of a file of your own."),
    click.option(
        "--views",
        metavar="SPEC",
        help="Views of a file of your own, such as 'a=first:last,b=beginning_'.  "
        "[default: columns view__column]",
    ),
    click.option("--id", metavar="NAME", help="Column that identifies the rows."),
)
_TASK = click.option(
    "--task",
    metavar="2|3|7|regression",
    help="What is predicted of a set of sentiment scores.  [default: 3]",
)
_SPLIT = (
    click.option("--given-split", metavar="NAME", help="Which of the data set's own splits."),
    click.option("--keep-views", metavar="A[,B]", help="Use these views only."),
)
_DATA: dict[str, Sequence[Option]] = {
    "file": _FILE,
    "task": (_TASK,),
    "split": _SPLIT,
    "folder": (data_dir_option,),
}


def data_options(*sets: str) -> Option:
    """Add sets of options of `DataOptions`: ``file``, ``task``, ``split``, ``folder``."""
    return together("data", DataOptions, [option for name in sets for option in _DATA[name]])


@dataclass(frozen=True)
class Repeats:
    """Number of runs, first seed and worker processes, checked.

    Attributes
    ----------
    runs, seed : int
        Run r uses seed S + r.
    jobs : int, optional
        Worker processes; all cores by default.
    """

    runs: int
    seed: int
    jobs: int | None = None

    def __post_init__(self) -> None:
        check_least(runs=(self.runs, 1), seed=(self.seed, 0), jobs=(self.jobs, 1))

    @property
    def processes(self) -> int:
        """Worker processes: as many as cores that are ours where none are named."""
        affinity = getattr(os, "sched_getaffinity", None)  # not every system tells
        return self.jobs or (len(affinity(0)) if affinity else os.cpu_count() or 1)

    def text(self, runs: int | None = None) -> str:
        """Number of runs and their seeds in words.

        Examples
        --------
        >>> Repeats(2, 5).text(), Repeats(1, 0).text()
        ('2 runs, seeds 5 to 6', '1 run, seed 0')
        """
        count = self.runs if runs is None else runs
        if count == 1:
            return f"1 run, seed {self.seed}"
        return f"{count} runs, seeds {self.seed} to {self.seed + count - 1}"


repeats_options = together(
    "repeats",
    Repeats,
    (
        click.option(
            "--runs", default=10, show_default=True, metavar="R", help="Runs per variant."
        ),
        click.option(
            "--seed", default=0, show_default=True, metavar="S", help="Run r uses seed S + r."
        ),
        jobs_option,
    ),
)


@dataclass(frozen=True)
class MethodOptions:
    """Settings of the methods that a command runs, checked.

    Attributes
    ----------
    options : tuple of str
        Parameters as ``key=value``.
    epochs : int, optional
    device : {"auto", "cpu", "cuda"}
    """

    options: tuple[str, ...] = ()
    epochs: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        check_least(epochs=(self.epochs, 1))
        if self.device == "cuda":  # a missing card is refused before any data are read
            from rcml_misa.training import pick_device

            pick_device("cuda")

    def recipe(self, method: str, *, more: Sequence[str] = (), **choice: Any) -> Recipe:
        """Configure one variant of a method; see `rcml_misa.estimators.registry.recipe`."""
        from rcml_misa.estimators.registry import recipe

        importable_here()
        return recipe(
            method,
            options=(*self.options, *more),
            epochs=self.epochs,
            device=self.device,
            **choice,
        )


_METHOD: dict[str, Option] = {
    "set": click.option(
        "--set", "options", multiple=True, metavar="KEY=VALUE", help="Set an option."
    ),
    "epochs": click.option("--epochs", type=int, metavar="E", help="Passes over the train rows."),
    "device": click.option(
        "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"])
    ),
}


def method_options(*names: str) -> Option:
    """Add options of `MethodOptions`: ``set``, ``epochs``, ``device``, all by default."""
    return together("settings", MethodOptions, [_METHOD[name] for name in names or _METHOD])


def _protocol(**given: Any) -> Protocol:
    from rcml_misa.protocols import Protocol

    values = {name: value for name, value in given.items() if value is not None}
    if "test_sets" in values:
        values["test_sets"] = tuple(part.strip() for part in values["test_sets"].split(","))
    return Protocol(**values)


_SETS = "clean, conflict, conflict:SHARE[:train|test|any], noise:SIGMA, missing:RATE."
#: Adds how data are split, what is done to train rows and what is scored, as `protocol`.
protocol_options = together(
    "protocol",
    _protocol,
    [
        click.option(f"--{name}", type=kind, metavar=word, help=text)
        for name, kind, word, text in (
            (
                "split",
                str,
                "KIND",
                "random, stratified, grouped or given.  [default: a set's own split, else random]",
            ),
            ("folds", int, "K", "K-fold partitions in place of repeated splits."),
            ("test-share", float, "X", "Share of test rows.  [default: 0.2]"),
            ("valid-share", float, "X", "Share of train rows held back.  [default: 0]"),
            ("selection", str, "EPOCH", "last, best-valid or best-test-epoch, which leaks."),
            ("test-sets", str, "A[,B]", f"{_SETS}  [default: clean,conflict]"),
            ("label-noise", float, "X", "Share of wrong train labels.  [default: 0]"),
            ("imbalance", float, "X", "Rarest over most frequent train class.  [default: 1, none]"),
            ("held-out", int, "C", "Classes not trained on, scored apart.  [default: 0]"),
        )
    ],
)
