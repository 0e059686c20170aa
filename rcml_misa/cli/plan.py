"""Reading an experiment's file: data sets, configured methods, the protocol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol

__all__ = ["Entry", "Plan", "protocol_from", "read_plan"]

KEYS = ("title", "datasets", "methods", "runs", "seed", "protocol", "task")
METHOD_KEYS = ("method", "variant", "preset", "set", "grid", "label", "figure", "keep")


@dataclass(frozen=True)
class Entry:
    """One configured method of an experiment.

    Attributes
    ----------
    recipe : Recipe
    setting : str
        What its grid set, as text; empty without a grid.
    figure : float or None
        An accuracy that somebody told of this row, to be compared with.
    """

    recipe: Recipe
    setting: str = ""
    figure: float | None = None


@dataclass(frozen=True)
class Plan:
    """What an experiment's file says."""

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
    from rcml_misa.exceptions import OptionError

    plan = _read(file)
    task = plan.get("task")
    regression = task == "regression"
    entries = tuple(made for entry in plan["methods"] for made in _entries(entry, file, regression))
    names = [(entry.recipe.method, entry.recipe.variant) for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(f"{file} has {' '.join(name)} twice; give each its own label.")
    return Plan(
        title=str(plan.get("title", file.stem)),
        datasets=tuple(plan["datasets"]),
        entries=entries,
        runs=plan.get("runs", 10),
        seed=plan.get("seed", 0),
        protocol=protocol_from(plan.get("protocol", {}), where=f"{file}: "),
        task=task,
    )


def _read(file: Path) -> dict[str, Any]:
    """Read the file's top level and check it."""
    import tomllib

    from rcml_misa.exceptions import DataError, OptionError, nearest

    try:
        plan = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{file} can't be read ({error.strerror}); give a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is not TOML: {error}.") from error
    for key in plan:
        if key not in KEYS:
            raise OptionError(f"{file} has an unknown key {key!r}; {nearest(key, KEYS)}")
    for key in ("datasets", "methods"):
        if not isinstance(plan.get(key), list) or not plan[key]:
            raise OptionError(f"{file} names no {key}; give a list, such as {key} = [...].")
    for name in plan["datasets"]:
        if not isinstance(name, str):
            raise OptionError(f"{file} has the data set {name!r}; give a name in quotes.")
    for key in ("runs", "seed"):
        if key in plan and not isinstance(plan[key], int):
            raise OptionError(f"{file} has {key}={plan[key]!r}; give a whole number.")
    if not isinstance(plan.get("task", ""), str):
        raise OptionError(f"{file} has task = {plan['task']!r}; give a name in quotes.")
    return plan


def protocol_from(given: Any, *, where: str = "") -> Protocol:
    """Make a protocol of a table's values.

    Raises
    ------
    OptionError
        If a key does not exist or a value has the wrong type.
    """
    from dataclasses import fields

    from rcml_misa.exceptions import OptionError, nearest
    from rcml_misa.protocols import Protocol

    plain = Protocol()
    known = {field.name: getattr(plain, field.name) for field in fields(Protocol)}
    if not isinstance(given, Mapping):
        raise OptionError(f"{where}protocol = {given!r} is no table; write [protocol].")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in known:
            raise OptionError(f"{where}protocol has no {key!r}; {nearest(key, known)}")
        kind = type(known[key])
        fits = isinstance(value, (list, tuple) if kind is tuple else kind)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            fits = True
        if not fits or isinstance(value, bool):
            raise OptionError(
                f"{where}protocol has {key}={value!r}; {known[key]!r} is the default."
            )
        values[key] = tuple(value) if kind is tuple else kind(value)
    return Protocol(**values)


def _entries(entry: Any, file: Path, regression: bool) -> Iterator[Entry]:
    """Configure one method of the file: a name, or a table with its options and their grid."""
    from rcml_misa.estimators.registry import METHODS, recipe
    from rcml_misa.exceptions import OptionError, nearest

    if isinstance(entry, str):
        for name in METHODS if entry == "all" else [entry]:
            yield Entry(recipe(name, regression=regression))
        return
    if not isinstance(entry, dict) or not isinstance(entry.get("method"), str):
        raise OptionError(f"{file} has a method without a name: {entry!r}; give method = NAME.")
    for key in entry:
        if key not in METHOD_KEYS:
            known = nearest(key, METHOD_KEYS)
            raise OptionError(f"{file} has an unknown key {key!r} of a method; {known}")
    given, grid = entry.get("set", {}), entry.get("grid", {})
    if not isinstance(given, dict):
        raise OptionError(f"{file} has set = {given!r}; give a table, such as set = {{ C = 1.0 }}.")
    if not isinstance(grid, dict) or not all(isinstance(one, list) for one in grid.values()):
        raise OptionError(
            f"{file} has grid = {grid!r}; give lists, such as grid = {{ C = [1.0, 10.0] }}."
        )
    figure, label = entry.get("figure"), entry.get("label")
    if figure is not None and not isinstance(figure, float):
        raise OptionError(f"{file} has figure = {figure!r}; give a fraction, such as 0.76.")
    keep = entry.get("keep", [])
    if not isinstance(keep, list) or not all(isinstance(view, str) for view in keep):
        raise OptionError(f'{file} has keep = {keep!r}; give names of views: keep = ["a"].')
    fixed = [f"{key}={_text(value)}" for key, value in given.items()]
    for values in product(*grid.values()):
        setting = [f"{key}={_text(value)}" for key, value in zip(grid, values, strict=True)]
        found = recipe(
            entry["method"],
            variant=entry.get("variant"),
            preset=entry.get("preset", "default"),
            options=[*fixed, *setting],
            regression=regression,
        )
        # configurations of one method stay apart by what was set
        names = [found.variant] if found.variant != "-" or not (fixed or setting or keep) else []
        names += [f"only {' '.join(keep)}"] if keep else []
        words = [*names, *fixed] if label is None else [str(label)]
        made = replace(found, variant=" ".join([*words, *setting]), keep=tuple(keep))
        yield Entry(made, " ".join(setting), figure)


def _text(value: Any) -> str:
    """Write a TOML value as ``--set`` takes it."""
    if isinstance(value, list):
        return ",".join(_text(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)
