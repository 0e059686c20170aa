"""Experiments' files: TOML read within bounds and checked before anything is run; written."""

from __future__ import annotations

import json
import math
import re
import stat
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval, MaxLen, MinLen

from rcml_misa.bounds import check_least, check_total
from rcml_misa.cli import options as opt
from rcml_misa.exceptions import DataError, OptionError, shortened, validated

if TYPE_CHECKING:
    from rcml_misa.datasets import FileOptions
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol

__all__ = ["Entry", "Plan", "plan_text", "read_plan"]

LARGEST_FILE = 256 * 1024  # bytes
DEEPEST = 16  # levels of brackets, and parts of a dotted key
LARGEST_NUMBER = 2**63 - 1
MOST_VARIANTS = 500  # configured methods, the points of grids counted
MOST_DATASETS = 1_000
LONGEST_VARIANT = 200  # characters of a label with the settings of its grid

# texts and comments, unended ones too, so that each character is looked at once
_QUOTED = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)'
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:\\.|[^"\\\n])*+"?'
    r"|'[^'\n]*+'?"
    r"|#[^\n]*+",
    re.DOTALL,
)
_PART = r"[\w-]++"
_DOTTED = re.compile(rf"(?<![\w-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{DEEPEST}}}")
_LEVELS = {"[": 1, "{": 1, "]": -1, "}": -1}


@dataclass(frozen=True, kw_only=True)
class _File:
    """Keys of an experiment's file."""

    datasets: Annotated[list[str], MinLen(1), MaxLen(MOST_DATASETS)] = field(
        metadata={"hint": f"give names, {MOST_DATASETS} at most: datasets = ['digits']."}
    )
    methods: Annotated[list[Any], MinLen(1), MaxLen(MOST_VARIANTS)] = field(
        metadata={"hint": f"give names, {MOST_VARIANTS} at most: methods = ['lda']."}
    )
    title: Annotated[str, MaxLen(300)] | None = field(
        default=None, metadata={"hint": "give a text of at most 300 characters, in quotes."}
    )
    runs: int = 10
    seed: int = 0
    protocol: Any = field(default_factory=dict)
    task: str | None = None
    files: Any = field(default_factory=dict)


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
    """Configured method of an experiment: recipe, its grid's values, a published accuracy."""

    recipe: Recipe
    setting: str = ""
    figure: float | None = None


@dataclass(frozen=True)
class Plan:
    """Content of an experiment's file, checked; `files` says how the user's own are read."""

    title: str
    datasets: Sequence[str]
    entries: Sequence[Entry]
    repeats: opt.Repeats
    protocol: Protocol
    files: FileOptions
    task: str | None = None


def read_plan(file: Path, *, allow_code: bool = False) -> Plan:
    """Read and check an experiment's file; nothing that it names is imported without consent.

    Parameters
    ----------
    file : Path
        A TOML file of at most 262144 bytes and 16 levels.
    allow_code : bool
        Whether methods may be paths to code, ``module:Class``, which is imported here.

    Raises
    ------
    DataError
        If the file can't be read or is no TOML.
    OptionError
        If a key, a value or a name does not exist or does not fit, or a method is a path to code
        and `allow_code` is False.
    """
    from rcml_misa.datasets import FileOptions
    from rcml_misa.datasets.dataset import check_task
    from rcml_misa.protocols import Protocol

    plan = validated(_File, _content(file), where=str(file), error=OptionError)
    if plan.task is not None:
        check_task(plan.task)
    check_least(f"{file}: ", runs=(plan.runs, 1), seed=(plan.seed, 0))
    where = f"{file}: protocol"
    protocol = validated(Protocol, plan.protocol, where=where, error=OptionError)
    files = validated(FileOptions, plan.files, where=f"{file}: files", error=OptionError)
    _refuse_twice(plan.datasets, file, "name it once.")
    methods = [_method(entry, file) for entry in plan.methods]
    _check_methods(methods, file, allow_code=allow_code)
    regression = opt.DataOptions(task=plan.task).predicts_scores(plan.datasets)
    entries = tuple(made for method in methods for made in _entries(method, file, regression))
    check_total(datasets=len(plan.datasets), variants=len(entries), runs=plan.runs)
    names = [f"{entry.recipe.method} {entry.recipe.variant}" for entry in entries]
    _refuse_twice(names, file, "give each its own label.")
    title, repeats = plan.title or file.stem, opt.Repeats(plan.runs, plan.seed)
    return Plan(title, plan.datasets, entries, repeats, protocol, files, plan.task)


def _content(file: Path) -> dict[str, Any]:
    """Parse a file; one that is too large or too deep to be parsed at once is refused before."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            raise DataError(f"{file} is no plain file; give a TOML file.")
        with file.open("rb") as stream:
            data = stream.read(LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or shortened(error)
        raise DataError(f"{file} can't be read ({reason}); give a TOML file.") from error
    if len(data) > LARGEST_FILE:
        raise DataError(f"{file} has more than {LARGEST_FILE} bytes; give a smaller TOML file.")
    try:
        text = data.decode("utf-8-sig")
        _check_depth(text, file)
        content = tomllib.loads(text)
    except DataError:
        raise
    except ValueError as error:  # of the parser, of UTF-8, and of whole numbers too long to be read
        raise DataError(f"{file} is not TOML: {shortened(error)}.") from error
    _check_numbers(content, file)
    return content


def _check_depth(text: str, file: Path) -> None:
    """Refuse what takes the parser a stack or a time that grows faster than the text."""
    bare = _QUOTED.sub(lambda found: "" if found[0].startswith("#") else "_", text)
    levels = accumulate(_LEVELS.get(letter, 0) for letter in bare)
    if max(levels, default=0) > DEEPEST or _DOTTED.search(bare):
        raise DataError(
            f"{file} has more than {DEEPEST} levels of brackets, or parts of a key with dots; an "
            "experiment's file needs four."
        )


def _check_numbers(content: Mapping[str, Any], file: Path) -> None:
    """Refuse whole numbers that no option has and whose text would be endless."""
    values: list[Any] = [content]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values.extend(value.values())
        elif isinstance(value, list):
            values.extend(value)
        elif isinstance(value, int) and abs(value) > LARGEST_NUMBER:
            raise DataError(
                f"{file} has a whole number of {value.bit_length()} bits; give numbers of at most "
                f"{LARGEST_NUMBER}."
            )


def _refuse_twice(names: Sequence[str], file: Path, way_out: str) -> None:
    """Refuse a name that is there twice."""
    for name, count in Counter(names).items():
        if count > 1:
            raise OptionError(f"{file} has {shortened(name)} twice; {way_out}")


def _method(entry: Any, file: Path) -> _Method:
    """Check one method of the file: a name, or a table with its options and their grid."""
    from rcml_misa.results.labels import check_label

    if isinstance(entry, str):
        return _Method(method=entry)
    method = validated(_Method, entry, where=f"{file}: a method", error=OptionError)
    if method.label is not None:
        check_label(method.label, where=f"{file}: the label")
    return method


def _check_methods(methods: Sequence[_Method], file: Path, *, allow_code: bool) -> None:
    """Refuse too many variants, and methods that are code where that is not allowed."""
    from rcml_misa.estimators.registry import METHODS, is_foreign

    variants = 0
    for method in methods:
        name = method.method
        if name != "all" and is_foreign(name) and not allow_code:
            module, shown = name.partition(":")[0], shortened(name, 60)
            raise OptionError(
                f"{file} names the method {shown!r}, which imports the module "
                f"{shortened(module, 40)} and so runs its code; add --allow-code if you trust both."
            )
        points = math.prod(len(values) for values in method.grid.values())
        variants += len(METHODS) if name == "all" else points
    if variants > MOST_VARIANTS:
        raise OptionError(
            f"{file} has {variants} variants, the points of its grids counted; give at most "
            f"{MOST_VARIANTS}."
        )


def _entries(method: _Method, file: Path, regression: bool) -> Iterator[Entry]:
    """Configure one method of the file at each point of its grid."""
    from rcml_misa.estimators.registry import METHODS, recipe
    from rcml_misa.options import option_text
    from rcml_misa.results.labels import check_label

    if method == _Method(method="all"):
        for name in METHODS:
            yield Entry(recipe(name, regression=regression))
        return
    fixed = [f"{key}={option_text(value)}" for key, value in method.set.items()]
    for values in product(*method.grid.values()):
        setting = [
            f"{key}={option_text(value)}" for key, value in zip(method.grid, values, strict=True)
        ]
        made = recipe(
            method.method,
            variant=method.variant,
            preset=method.preset,
            options=[*fixed, *setting],
            regression=regression,
            code=opt.folder_of_code(),
        )
        # configurations of one method stay apart by what was set
        changed = fixed or setting or method.keep
        names = [made.variant] if made.variant != "-" or not changed else []
        names += [f"only {' '.join(method.keep)}"] if method.keep else []
        words = [*names, *fixed] if method.label is None else [method.label]
        variant = " ".join([*words, *setting])
        where = f"{file}: without a label of its own, the variant"
        check_label(variant, where=where, longest=LONGEST_VARIANT)
        made = replace(made, variant=variant, keep=tuple(method.keep))
        yield Entry(made, " ".join(setting), method.figure)


def plan_text(content: Mapping[str, Any], *, remarks: Sequence[str] = ()) -> str:
    """Write a plan as TOML: remarks, keys, a line per item of lists of tables, then its tables."""
    lines = [f"# {' '.join(remark.split())}" for remark in remarks]
    tables = {key: part for key, part in content.items() if isinstance(part, Mapping)}
    for key, part in content.items():
        if key in tables:
            continue
        if isinstance(part, list) and part and isinstance(part[0], Mapping):
            lines += [f"{key} = [", *(f"    {_toml(item)}," for item in part), "]"]
        else:
            lines.append(f"{key} = {_toml(part)}")
    for key, part in tables.items():
        if part:
            lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in part.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Write a value of TOML on one line; None is the text ``none``, as ``--set`` takes it."""
    if isinstance(value, Mapping):
        pairs = [f"{key} = {_toml(part)}" for key, part in value.items()]  # keys are identifiers
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_toml(part) for part in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = "none" if value is None else str(value)
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
