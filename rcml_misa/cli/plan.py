"""Reading an experiment's file: data sets, configured methods, the protocol."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval, MinLen

from rcml_misa.exceptions import DataError, OptionError, validated

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol

__all__ = ["Entry", "Plan", "read_plan"]


@dataclass(frozen=True, kw_only=True)
class _File:
    """Keys of an experiment's file."""

    datasets: Annotated[list[str], MinLen(1)] = field(
        metadata={"hint": "give names: datasets = ['digits']."}
    )
    methods: Annotated[list[Any], MinLen(1)] = field(
        metadata={"hint": "give names: methods = ['lda']."}
    )
    title: str | None = None
    runs: int = 10
    seed: int = 0
    protocol: Any = field(default_factory=dict)
    task: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Method:
    """Keys of one method of the file."""

    method: str = field(metadata={"hint": "give method = NAME."})
    variant: str | None = None
    preset: str = "default"
    set: dict[str, Any] = field(
        default_factory=dict, metadata={"hint": "give a table, such as set = { C = 1.0 }."}
    )
    grid: dict[str, list[Any]] = field(
        default_factory=dict, metadata={"hint": "give lists, such as grid = { C = [1.0, 10.0] }."}
    )
    label: str | None = None
    figure: Annotated[float, Interval(ge=0, le=1)] | None = field(
        default=None, metadata={"hint": "give a fraction, such as 0.76."}
    )
    keep: list[str] = field(
        default_factory=list, metadata={"hint": "give names of views: keep = ['a']."}
    )


@dataclass(frozen=True)
class Entry:
    """One configured method of an experiment.

    Attributes
    ----------
    recipe : Recipe
    setting : str
        Values that its grid set, as text; empty without a grid.
    figure : float or None
        An accuracy published for this row, to be compared with.
    """

    recipe: Recipe
    setting: str = ""
    figure: float | None = None


@dataclass(frozen=True)
class Plan:
    """Content of an experiment's file, checked."""

    title: str
    datasets: tuple[str, ...]
    entries: tuple[Entry, ...]
    runs: int
    seed: int
    protocol: Protocol
    task: str | None = None


def read_plan(file: Path) -> Plan:
    """Read and check an experiment's file.

    Raises
    ------
    DataError
        If it can't be read or is not TOML.
    OptionError
        If a key, name or value in it does not exist.
    """
    from rcml_misa.protocols import Protocol

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}); give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not TOML: {error}.") from error
    plan = validated(_File, content, where=str(file), error=OptionError)
    where = f"{file}: protocol"
    protocol = validated(Protocol, plan.protocol, where=where, error=OptionError)
    regression = plan.task == "regression"
    entries = tuple(made for method in plan.methods for made in _entries(method, file, regression))
    names = [(entry.recipe.method, entry.recipe.variant) for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"{file} has {' '.join(name)} twice; give each its own label.")
    return Plan(
        title=plan.title or file.stem,
        datasets=tuple(plan.datasets),
        entries=entries,
        runs=plan.runs,
        seed=plan.seed,
        protocol=protocol,
        task=plan.task,
    )


def _entries(entry: Any, file: Path, regression: bool) -> Iterator[Entry]:
    """Configure one method of the file: a name, or a table with its options and their grid."""
    from rcml_misa.estimators.registry import METHODS, recipe

    if isinstance(entry, str):
        for name in METHODS if entry == "all" else [entry]:
            yield Entry(recipe(name, regression=regression))
        return
    method = validated(_Method, entry, where=f"{file}: a method", error=OptionError)
    fixed = [f"{key}={_text(value)}" for key, value in method.set.items()]
    for values in product(*method.grid.values()):
        setting = [f"{key}={_text(value)}" for key, value in zip(method.grid, values, strict=True)]
        made = recipe(
            method.method,
            variant=method.variant,
            preset=method.preset,
            options=[*fixed, *setting],
            regression=regression,
        )
        # configurations of one method stay apart by what was set
        changed = fixed or setting or method.keep
        names = [made.variant] if made.variant != "-" or not changed else []
        names += [f"only {' '.join(method.keep)}"] if method.keep else []
        words = [*names, *fixed] if method.label is None else [method.label]
        variant = " ".join([*words, *setting])
        made = replace(made, variant=variant, keep=tuple(method.keep))
        yield Entry(made, " ".join(setting), method.figure)


def _text(value: Any) -> str:
    """Write a TOML value as ``--set`` takes it."""
    if isinstance(value, list):
        return ",".join(_text(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
