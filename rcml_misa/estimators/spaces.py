"""Spaces of settings to search: those that estimators declare, and those given as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeAlias

from rcml_misa.estimators.foreign import load_object
from rcml_misa.estimators.registry import Recipe
from rcml_misa.exceptions import OptionError, shortened
from rcml_misa.options import Choice, Space, Span, option_text

__all__ = ["SearchSpace", "search_space", "space_size"]

SearchSpace: TypeAlias = Mapping[str, Space]
Configure: TypeAlias = Callable[[Sequence[str]], Recipe]


def search_space(
    configure: Configure, *, searches: Sequence[str] = (), fixed: Collection[str] = ()
) -> dict[str, Space]:
    """List the parameters of a method to search, each with its values.

    Parameters
    ----------
    configure : callable
        Makes the method's recipe with more options, ``key=value`` texts.
    searches : sequence of str
        ``key=low:high``, ``key=low:high:log``, ``key=low:high:step`` or ``key=a|b|c``: they take
        the place of what the estimator's class declares, or stand beside it.
    fixed : collection of str
        Parameters that are not searched.

    Raises
    ------
    OptionError
        If nothing is left to search, or a value does not exist.

    Examples
    --------
    >>> from rcml_misa.estimators.registry import recipe
    >>> search_space(lambda options: recipe("rbf-svm", options=options), searches=["C=1:100:log"])
    ... # doctest: +ELLIPSIS
    {'C': Span(low=1.0, high=100.0, log=True, ...), 'scaling': Choice(...)}
    """
    base = configure(())
    _refuse_leak(base)
    declared: SearchSpace = {}
    if not base.foreign:
        params = base.build(0).get_params(deep=False)
        declared = {
            key: part
            for key, part in getattr(load_object(base.path), "_search", {}).items()
            if key not in fixed
            and all(params[name] in allowed for name, allowed in part.when.items())
        }
    space = dict(declared)
    given: set[str] = set()
    for text in searches:
        key, part = _read(text, configure)
        if key in fixed or key in given:
            where = "--set too" if key in fixed else "--search twice"
            raise OptionError(f"{key} is given by {where}; leave one of them out.")
        given.add(key)
        space[key] = part
    if not space:
        raise OptionError(
            f"method {base.label} has no parameters to search; name some with --search "
            "KEY=low:high, or choose another method."
        )
    for key, part in space.items():
        for value in part.values if isinstance(part, Choice) else (part.low, part.high):
            _value(key, option_text(value), configure)
    return space


def space_size(space: SearchSpace) -> float:
    """Count the settings of a space; infinite where a parameter has any number of a range.

    Examples
    --------
    >>> space_size({"stacking": Choice((True, False)), "layers": Span(1, 3)})
    6
    """
    sizes = [math.inf if part.values is None else len(part.values) for part in space.values()]
    return math.prod(sizes)


def _value(key: str, text: str, configure: Configure) -> Any:
    """Parse and check one value of a parameter by the estimator's own rules."""
    made = configure((f"{key}={text}",))
    _refuse_leak(made)
    return made.params[key]


def _refuse_leak(made: Recipe) -> None:
    if made.leaky:
        raise OptionError(
            "scaling=paper-leaky looks at test rows, which a search must not; choose another one."
        )


def _read(text: str, configure: Configure) -> tuple[str, Space]:
    """Read ``key=low:high[:log|:step]`` or ``key=a|b|c``."""
    key, equals, words = text.partition("=")
    shown = shortened(text, 80)
    if not equals or not words:
        raise OptionError(f"--search {shown} has no values; write KEY=low:high or KEY=a|b|c.")
    if "|" in words or ":" not in words:
        options = tuple(_value(key, word, configure) for word in words.split("|"))
        if len(options) < 2:
            raise OptionError(f"--search {shown} has one value; fix it with --set {shown}.")
        return key, Choice(options)
    ends, scale = words.split(":")[:2], words.split(":")[2:]
    low, high = (_value(key, word, configure) for word in ends)
    for value in (low, high):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OptionError(f"--search {shown} has ends that are no numbers; write {key}=a|b|c.")
    if isinstance(low, int) != isinstance(high, int):
        low, high = float(low), float(high)
    if scale == ["log"]:
        return key, Span(low, high, log=True)
    try:
        steps = [float(word) if "." in word or "e" in word.lower() else int(word) for word in scale]
    except ValueError:
        steps = [0, 0]
    if len(steps) > 1:
        raise OptionError(
            f"--search {shown} ends in {shortened(':'.join(scale), 30)!r}; write low:high, "
            "low:high:log or low:high:step."
        )
    return key, Span(low, high, step=steps[0] if steps else None)
