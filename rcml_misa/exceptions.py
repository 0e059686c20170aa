"""Errors and warnings that a user can cause and correct; each carries a sentence."""

from __future__ import annotations

import difflib
import functools
import json
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

if TYPE_CHECKING:
    from pydantic import TypeAdapter
    from pydantic_core import ErrorDetails

__all__ = [
    "LONGEST",
    "DataError",
    "LeakWarning",
    "OptionError",
    "PresenceWarning",
    "RcmlMisaError",
    "RecordWarning",
    "bounded",
    "nearest",
    "printable",
    "shortened",
    "validated",
]

Schema = TypeVar("Schema")


LONGEST = 300  # characters of an error's sentence


def bounded(text: str, longest: int = LONGEST) -> str:
    """Cut a sentence in its middle, since the value stands first and the way out last.

    Examples
    --------
    >>> bounded("a" * 12 + "b" * 12, 15)
    'aaaaaaa ... bbb'
    """
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]} ... {text[5 + longest // 2 - longest :]}"


class RcmlMisaError(ValueError):
    """Base of every error that this package raises on purpose.

    It is a `ValueError`, so that scikit-learn's tools treat it as bad input. Its sentence has at
    most `LONGEST` characters, whatever names and values it quotes.

    Examples
    --------
    >>> text = str(RcmlMisaError("x" * 1000 + "; give another name."))
    >>> len(text), text[-25:]
    (300, 'xxxxx; give another name.')
    """

    def __init__(self, *args: object) -> None:
        if args and isinstance(args[0], str):
            args = (bounded(args[0]), *args[1:])
        super().__init__(*args)


class DataError(RcmlMisaError):
    """Data that is missing, damaged or not usable as it stands."""


class OptionError(RcmlMisaError):
    """An option, a name or a combination of options that does not exist or does not fit."""


class LeakWarning(UserWarning):
    """A column of a data set looks like a copy of the label."""


class PresenceWarning(UserWarning):
    """A view is there for rows of some classes and not for those of others."""


class RecordWarning(UserWarning):
    """A file among the records of runs is damaged or no record, and is passed over."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Name the choices closest to a word that is not one of them; else as many as fit.

    The result, of at most 192 characters, ends an error's sentence, with its mark.

    Examples
    --------
    >>> nearest("PEI", ["PIE", "CUB"])
    'did you mean PIE?'
    >>> nearest("zzz", ["PIE", "CUB"])
    'choose from CUB, PIE.'
    """
    names = {choice.lower(): shortened(choice, 40) for choice in choices}
    close = difflib.get_close_matches(name[:100].lower(), names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(names[word] for word in close)}?"
    listed = ", ".join(sorted(names.values(), key=str.lower))
    shown = textwrap.shorten(listed, 180, placeholder=" and more", break_on_hyphens=False)
    return f"choose from {shown}."


def printable(text: str, instead: str = " ") -> str:
    r"""Replace line ends and control characters, which would break a line or steer a terminal.

    Examples
    --------
    >>> printable("a\x1b[31mb")
    'a [31mb'
    """
    return "".join(letter if letter.isprintable() else instead for letter in text)


def shortened(value: object, most: int = 100) -> str:
    r"""Shorten the text of a value to a line of at most so many characters, for a sentence.

    Examples
    --------
    >>> shortened("two\nlines"), shortened("x" * 99, 8)
    ('two lines', 'xxxx ...')
    """
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def validated(
    schema: type[Schema],
    content: Any,
    *,
    where: str,
    error: type[RcmlMisaError] = DataError,
    required: Collection[str] = (),
) -> Schema:
    """Check the content of a file, as JSON or TOML gives it, against a dataclass.

    Types are strict: a text is no number, and an unknown key is an error.

    Parameters
    ----------
    schema : dataclass
        Annotations that pydantic checks. The metadata of a field may hold a ``"hint"``: the way
        out when its value does not fit, with its mark.
    where : str
        Name of the file, or of the table in it.
    error : type of RcmlMisaError
        Class of the error for the first unknown key, missing keys or wrong value.
    required : collection of str
        Keys that must be given although the schema has a default for them.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Point:
    ...     x: float
    ...     name: str = ""
    >>> validated(Point, {"x": 1.5}, where="p.json")
    Point(x=1.5, name='')
    >>> validated(Point, {"x": "1.5"}, where="p.json")
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: p.json has x='1.5'; give a number.
    """
    from pydantic import ValidationError

    missing = [key for key in required if isinstance(content, Mapping) and key not in content]
    problems: Sequence[ErrorDetails] = ()
    kind: Any = schema  # mypy takes no type variable for hashable
    try:
        # JSON has no tuples, so that strict types still take a list for one
        text = json.dumps(content, default=str)
        result: Schema = _adapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as caught:
        problems = caught.errors(include_url=False)
    if problems or missing:
        raise error(f"{where} {_complaint(schema, problems, missing)}")
    return result


@functools.cache
def _adapter(schema: type[Any]) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(schema)


_HINTS = {
    **dict.fromkeys(("int_type", "int_from_float"), "give a whole number."),
    "float_type": "give a number.",
    "string_type": "give a text in quotes.",
    "bool_type": "give true or false.",
    **dict.fromkeys(("list_type", "tuple_type"), "give a list."),
    **dict.fromkeys(("dict_type", "dataclass_type"), "give a table."),
}


def _complaint(
    schema: type[Any], problems: Sequence[ErrorDetails], missing: Collection[str]
) -> str:
    """End the sentence about pydantic's errors: a misspelt key explains a missing one."""
    hints = {name: item.metadata.get("hint") for name, item in schema.__dataclass_fields__.items()}
    paths = [".".join(str(part) for part in problem["loc"]) for problem in problems]
    for problem, path in zip(problems, paths, strict=True):
        if problem["type"] == "unexpected_keyword_argument":
            way_out = nearest(path, hints) if path.count(".") == 0 else "leave it out."
            return f"has an unknown key {shortened(path, 60)!r}; {way_out}"
    absent = {path for item, path in zip(problems, paths, strict=True) if item["type"] == "missing"}
    if absent := absent.union(missing):
        names = ", ".join(sorted(absent))
        return f"lacks the key {names}; {hints.get(names) or 'add what is missing.'}"
    problem, path = problems[0], paths[0]
    raised = problem.get("ctx", {}).get("error")
    if isinstance(raised, RcmlMisaError):
        return f"has {raised}"
    value = shortened(repr(problem["input"]), 60)
    if not path:
        return f"is no table but {value}; give keys and their values."
    key = str(problem["loc"][0])
    way_out = hints[key] or _HINTS.get(problem["type"], f"{problem['msg']}.")
    if problem["type"] == "literal_error" and len(problem["loc"]) == 1:
        way_out = nearest(str(problem["input"]), get_args(get_type_hints(schema)[key]))
    return f"has {shortened(path, 60)}={value}; {way_out}"
