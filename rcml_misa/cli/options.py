"""Options that commands share, declared once; a set of them reaches a command as one object."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rcml_misa.bounds import check_least
from rcml_misa.cli.console import echo
from rcml_misa.exceptions import OptionError

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset, FileOptions
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunStore
    from rcml_misa.runs.backends import Engine, EngineName

__all__ = ["DataOptions", "Keeping", "MethodOptions", "Repeats", "Workers"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def value(names: str, word: str | None, text: str = "", kind: Any = None, **more: Any) -> Decorator:
    """Declare an option with a value: its flag (and parameter's name), placeholder, help, type."""
    more.setdefault("show_default", "default" in more)
    return click.option(*names.split(), metavar=word, help=text, type=kind, **more)


def flag(names: str, text: str) -> Decorator:
    """Declare an option without a value."""
    return click.option(*names.split(), is_flag=True, help=text)


def folder(name: str, text: str, word: str = "DIR") -> Decorator:
    """Declare an option that names a folder."""
    return value(name, word, text, click.Path(file_okay=False, path_type=Path))


def together(name: str, make: Callable[..., Any], options: Sequence[Decorator]) -> Decorator:
    """Give a command several options, whose values `make` turns into its parameter `name`."""

    def none() -> None: ...

    for option in options:
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
    """Part a list of names at its commas; a name counts once."""
    return list(dict.fromkeys(part.strip() for part in text.split(",")))


def folder_of_code() -> str:
    """Folder in which methods ``module:Class`` may be, as they are named: the current one."""
    with suppress(OSError):  # it may be gone
        return os.getcwd()
    return ""


json_option = flag("--json as_json", "Print one JSON object.")
code_option = flag(
    "--allow-code", "Import methods that FILE names as module:Class, which runs their code."
)
dataset_option = value(
    "--dataset name", "NAME|FILE", "A data set, or a file of your own.", default="digits"
)
PATH = click.Path(path_type=Path)


#: Options of a file of the user's own that reading takes as they stand.
#: Way out of an --out that can't be written.
WRITABLE = "give --out a file in a folder that exists and can be written"

_OWN = (
    *("target", "views", "id", "leave_out", "accept_leak", "split_column", "group_column"),
    *("weight_column", "zero_is_missing"),
)


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Choice of a data set's columns, target, views and split, as the options' help explains."""

    target: str | None = None
    views: str | None = None
    id: str | None = None
    leave_out: str | None = None
    accept_leak: bool = False
    split_column: str | None = None
    group_column: str | None = None
    weight_column: str | None = None
    test_file: Path | None = None
    zero_is_missing: bool = False
    data_dir: Path | None = None
    task: str | None = None
    given_split: str | None = None
    keep_views: str | None = None

    @property
    def file_options(self) -> FileOptions:
        """Reading of a file of the user's own."""
        from rcml_misa.datasets import FileOptions

        own = {key: getattr(self, key) for key in FileOptions.__dataclass_fields__ if key in _OWN}
        test_file = None if self.test_file is None else str(self.test_file)
        return FileOptions(**own, test_file=test_file, regression=self.task == "regression")

    def with_files(self, files: FileOptions, *, task: str | None) -> DataOptions:
        """Read files of the user's own as `files` says, for a task."""
        given = {key: getattr(files, key) for key in _OWN}
        test_file = None if files.test_file is None else Path(files.test_file)
        return replace(self, **given, test_file=test_file, task=task)

    def predicts_scores(self, names: Sequence[str]) -> bool:
        """Whether a set is to be read for a regression: as the task says, or as it was added."""
        from rcml_misa.datasets import find_entry
        from rcml_misa.datasets.files import is_own_file

        added = [find_entry(name) for name in names if self.task is None and not is_own_file(name)]
        return self.task == "regression" or any(entry.options.regression for entry in added)

    def load(self, name: str) -> Dataset:
        """Load a data set with the task's target (three classes of scores) and the named views."""
        from rcml_misa.datasets import as_task, keep_views, load_dataset
        from rcml_misa.views import check_target

        dataset = load_dataset(
            name, data_dir=self.data_dir, split=self.given_split, options=self.file_options
        )
        task = self.task or (None if dataset.scores is None else "3")
        if task is not None:
            dataset = as_task(dataset, task)
        if self.keep_views is not None:
            dataset = keep_views(dataset, tuple(words(self.keep_views)))
        if dataset.task == "classification":
            check_target(dataset.target, dataset.classes)
        # records of other tasks, splits and views must not be taken for each other's
        views = "+".join(dataset.views.names) if self.keep_views else None
        parts = [dataset.name, task, self.given_split, views]
        return replace(dataset, name="-".join(part for part in parts if part))

    def load_all(self, names: Sequence[str]) -> list[Dataset]:
        """Load several data sets of one task; options of files apply to the user's own alone."""
        from rcml_misa.datasets import list_datasets

        catalogue = {entry.name for entry in list_datasets()}
        plain = replace(self, test_file=None, **{key: type(self)().__dict__[key] for key in _OWN})
        sets = [(plain if name in catalogue else self).load(name) for name in names]
        for data in sets:
            if data.task != sets[0].task:
                numbers, classes = sorted((data, sets[0]), key=lambda each: bool(each.classes))
                raise OptionError(
                    f"{numbers.name} has numbers to predict and {classes.name} has classes; "
                    "compare them apart."
                )
        return sets


_SPEC = "Views of a file of your own, such as 'a=first:last,b=beginning_'."
_TASK = (
    "What is predicted of sentiment scores; regression: numbers, of a file of your own too.  "
    "[default: 3]"
)
_DATA = {
    "file": (
        value("--target", "NAME", "Column of labels of a file of your own."),
        value("--views", "SPEC", f"{_SPEC}  [default: columns view__column]"),
        value("--id", "NAME", "Column that identifies the rows."),
        value("--leave-out", "A[,B]", "Columns, arrays or views to leave out."),
        flag("--accept-leak", "Read columns that look like copies of the label all the same."),
        value("--split-column", "NAME", "Column that says train, valid or test."),
        value("--group-column", "NAME", "Column of groups, which no split divides."),
        value("--weight-column", "NAME", "Column of the rows' weights in training."),
        value("--test-file", "FILE", "File of the test rows, laid out as the other.", PATH),
        flag("--zero-is-missing", "A row of zeros lacks the view."),
    ),
    "task": (value("--task", "2|3|7|regression", _TASK),),
    "split": (
        value("--given-split", "NAME", "Which of the data set's own splits."),
        value("--keep-views", "A[,B]", "Use these views only."),
    ),
    "folder": (folder("--data-dir", "Folder to look in for data files first."),),
}


def data_options(*sets: str) -> Decorator:
    """Add sets of options of `DataOptions`: ``file``, ``task``, ``split``, ``folder``."""
    return together("data", DataOptions, [option for name in sets for option in _DATA[name]])


@dataclass(frozen=True)
class Workers:
    """Choice of what carries out runs, checked; without a number of workers, one per core."""

    engine: EngineName = "local"
    address: str | None = None
    jobs: int | None = None

    def __post_init__(self) -> None:
        check_least(jobs=(self.jobs, 1))
        self.choose(runs=1)  # one that does not exist is refused before any data are read

    def choose(self, runs: int, *, planned: int = 1) -> Engine:
        """Choose the engine of so many runs, which has no more workers than runs.

        One that is left of several that were `planned` is not made in this process, lest it end
        the command as it may have ended its workers.
        """
        from rcml_misa.runs.backends import Engine

        affinity = getattr(os, "sched_getaffinity", None)  # not every system tells
        jobs = self.jobs or (len(affinity(0)) if affinity else os.cpu_count() or 1)
        return Engine(
            name=self.engine, address=self.address, jobs=min(jobs, max(runs, min(planned, 2)))
        )


_ENGINE = "What carries out the runs.  [default: local]"
_ADDRESS = (
    "Of a dask scheduler or ray cluster that is there (by default one is started here); for slurm "
    "its parameters, such as partition=gpu,time=120."
)


def _workers_options(jobs: str, what: str) -> Decorator:
    return together(
        "workers",
        Workers,
        (
            value("--jobs", "J", f"Workers.  [default: {jobs}]", int),
            value("--engine", "local|dask|ray|slurm", what, default="local", show_default=False),
            value("--address", "ADDRESS", _ADDRESS),
        ),
    )


workers_options = _workers_options("all cores", _ENGINE)
fit_workers_options = _workers_options(
    "all cores for a table that is read in blocks, else 1",
    "What carries out the sums of one fit, not slurm.  [default: local]",
)


@dataclass(frozen=True)
class Repeats:
    """Number of runs and first seed, checked."""

    runs: int
    seed: int

    def __post_init__(self) -> None:
        check_least(runs=(self.runs, 1), seed=(self.seed, 0))

    @property
    def seeds(self) -> range:
        """Seed of each run."""
        return range(self.seed, self.seed + self.runs)


repeats_options = together(
    "repeats",
    Repeats,
    (
        value("--runs", "R", "Runs per variant.", default=10),
        value("--seed", "S", "Run r uses seed S + r.", default=0),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Folders of what a command leaves: tables in `out`, records of runs, which are resumed."""

    out: Path | None = None
    records: Path | None = None
    fresh: bool = False

    @property
    def folder(self) -> Path | None:
        """Folder of the records; None where none are kept."""
        if self.records is not None or self.out is None:
            return self.records
        return self.out / "records"

    @contextmanager
    def opened(self) -> Iterator[RunStore | None]:
        """Check that the folders can be written to, and hold that of the records for a session.

        Raises
        ------
        DataError
            If a folder can't be made, written to or locked.
        """
        from rcml_misa.results import RunStore

        if self.out is not None:
            RunStore(self.out)  # fails now rather than after the runs
        if self.folder is None:
            yield None
            return
        store = RunStore(self.folder, option="--out" if self.records is None else "--records")
        text = f"note: another command works in {store.folder}; waiting for it."
        with store.locked(waiting=lambda: echo(text, err=True)):
            yield store


def keeping_options(text: str) -> Decorator:
    """Add ``--out``, whose help begins with `text`, ``--records`` and ``--fresh``, as `keeping`."""
    return together(
        "keeping",
        Keeping,
        (
            folder("--out", f"{text} Runs whose records are in DIR/records are not made again."),
            folder("--records", "Keep and resume the records here.  [default: records in --out]"),
            flag("--fresh", "Make every run anew, and replace the records."),
        ),
    )


@dataclass(frozen=True)
class MethodOptions:
    """Settings of the methods that a command runs: ``key=value`` texts, epochs, device."""

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

        general: dict[str, Any] = {"epochs": self.epochs, "device": self.device}
        options, code = (*self.options, *more), folder_of_code()
        return recipe(method, options=options, code=code, **general, **choice)

    def recommended(self, methods: str, *, regression: bool = False) -> list[Recipe]:
        """Configure methods, or all of them, each in its recommended variant."""
        from rcml_misa.estimators.registry import METHODS, find_method

        able = [name for name, spec in METHODS.items() if spec.regressor or not regression]
        names = [name for word in words(methods) for name in (able if word == "all" else [word])]
        return [
            self.recipe(
                name,
                variant=find_method(name).run_unnamed(regression=regression)[0],
                regression=regression,
            )
            for name in dict.fromkeys(names)
        ]


device_kinds = click.Choice(["auto", "cpu", "cuda"])
method_options = together(
    "settings",
    MethodOptions,
    (
        value("--set options", "KEY=VALUE", "Set an option.", multiple=True),
        value("--epochs", "E", "Passes over the train rows.", int),
        value("--device", None, kind=device_kinds, default="auto"),
    ),
)


def _protocol(**given: Any) -> Protocol:
    """Build the protocol; an option that is not given leaves its default."""
    from rcml_misa.protocols import Protocol

    chosen = {name: choice for name, choice in given.items() if choice is not None}
    if "test_sets" in chosen:
        chosen["test_sets"] = tuple(part.strip() for part in chosen["test_sets"].split(","))
    return Protocol(**chosen)


_KINDS = (
    "random, stratified, grouped or given.  [default: given where a set has one, grouped where it "
    "has groups, else random]"
)
_SETS = "clean, conflict, conflict:SHARE[:train|test|any], noise:SIGMA, missing:RATE, shuffle:RATE."
#: Adds how data are split, what is done to train rows and what is scored, as `protocol`.
protocol_options = together(
    "protocol",
    _protocol,
    (
        value("--split", "KIND", _KINDS),
        value("--folds", "K", "K-fold partitions in place of repeated splits.", int),
        value("--test-share", "X", "Share of test rows.  [default: 0.2]", float),
        value("--valid-share", "X", "Share of train rows held back.  [default: 0]", float),
        value("--selection", "EPOCH", "last, best-valid or best-test-epoch, which leaks."),
        value("--test-sets", "A[,B]", f"{_SETS}  [default: clean,conflict]"),
        value("--label-noise", "X", "Share of wrong train labels.  [default: 0]", float),
        value("--imbalance", "X", "Rarest over most frequent train class.  [default: 1]", float),
        value("--held-out", "C", "Classes not trained on, scored apart.  [default: 0]", int),
    ),
)
