"""Estimators' options: keyword-only parameters, constraints that check them, spaces to search."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from sklearn.utils._param_validation import Interval, StrOptions, make_constraint

from rcml_misa.bounds import MOST
from rcml_misa.exceptions import OptionError, nearest

__all__ = [
    "Choice",
    "Space",
    "Span",
    "check_options",
    "choices_of",
    "keyword_parameters",
    "option_text",
]

_Kind = TypeVar("_Kind", bound=type[Any])

_COUNT = Interval(Integral, 1, None, closed="left")
_COUNT_OR_ZERO = Interval(Integral, 0, None, closed="left")
_POSITIVE = Interval(Real, 0, None, closed="neither")
_WEIGHT = Interval(Real, 0, None, closed="left")
_CHANCE = Interval(Real, 0, 1, closed="left")
_FRACTION = Interval(Real, 0, 1, closed="neither")

# a name means the same in every estimator; of a tuple every part is checked
_CONSTRAINTS: Mapping[str, Any] = {
    "epochs": Interval(Integral, 1, MOST["epochs"], closed="both"),
    **dict.fromkeys(("batch_size", "heads", "feedforward", "layers", "trees"), _COUNT),
    **dict.fromkeys(("hidden", "landmarks", "sequence_hidden", "update_epochs"), _COUNT),
    **dict.fromkeys(("patience", "rounds", "groups", "selection_landmarks"), _COUNT),
    **dict.fromkeys(("text_layers", "annealing_epochs", "random_state"), _COUNT_OR_ZERO),
    **dict.fromkeys(("C", "prior_weight", "sharpness", "penalties"), _POSITIVE),
    **dict.fromkeys(("learning_rate", "text_learning_rate", "weight_decay", "clip"), _WEIGHT),
    **dict.fromkeys(("mixup", "kl_weight", "conflict_weight", "evidence_weight"), _WEIGHT),
    **dict.fromkeys(("sim_weight", "diff_weight", "recon_weight", "reversal_weight"), _WEIGHT),
    **dict.fromkeys(("shared_private_weight", "own_weight", "evidence_penalty"), _WEIGHT),
    **dict.fromkeys(("complementary_weight", "consistent_kl_weight", "point_weight"), _WEIGHT),
    "reliability_weight": _WEIGHT,
    **dict.fromkeys(("averaging", "validation_share", "view_dropout"), _CHANCE),
    **dict.fromkeys(("encoder_width", "encoder_depth", "networks", "samples"), _COUNT),
    **dict.fromkeys(("dropout", "attention_dropout", "encoder_dropout"), _CHANCE),
    "calibration_fraction": _CHANCE,
    **dict.fromkeys(("validation_fraction", "coverage"), _FRACTION),
    **dict.fromkeys(("cap", "shuffle_rate"), Interval(Real, 0, 1, closed="both")),
    "levels": Interval(Integral, 2, None, closed="left"),
    "norm_order": Interval(Real, 1, None, closed="left"),
    "text_encoder": str,
}
_NEVER_EMPTY = ("groups", "penalties")
MOST_VALUES = 1000  # of a choice, or of a range with a step


def choices_of(annotation: Any) -> tuple[str, ...]:
    """List the choices of a ``Literal`` annotation; none for any other.

    Examples
    --------
    >>> choices_of(Literal["a", "b"]), choices_of(int)
    (('a', 'b'), ())
    """
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def check_options(estimator: Any) -> None:
    """Check an estimator's parameters against their annotated choices and their limits.

    None where it is annotated, and names without a constraint, pass. The first value that can't be
    is an OptionError with its limit and the nearest valid value.

    Examples
    --------
    >>> from rcml_misa.estimators import MISAClassifier
    >>> check_options(MISAClassifier(hidden=0))
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: hidden=0 is not a whole number of 1 or more; the nearest is 1.
    """
    hints = get_type_hints(type(estimator).__init__)
    for name, value in estimator.get_params(deep=False).items():
        hint = hints.get(name)
        constraint = _constraint(name, hint)
        if constraint is None or (value is None and type(None) in get_args(hint)):
            continue
        several = any(get_origin(part) is tuple for part in (hint, *get_args(hint)))
        parts = value if several and isinstance(value, tuple) else (value,)
        if (
            several != isinstance(value, tuple)
            or (not parts and name in _NEVER_EMPTY)
            or not all(constraint.is_satisfied_by(part) for part in parts)
            or (hint is not bool and any(isinstance(part, bool) for part in parts))
        ):
            default = inspect.signature(type(estimator)).parameters[name].default
            limit, way_out = _limit(value, constraint, several, default)
            raise OptionError(f"{name}={repr(value)[:80]} {limit}; {way_out}")
    heads, hidden = (getattr(estimator, name, 1) for name in ("heads", "hidden"))
    if isinstance(hidden, int) and hidden % heads:
        raise OptionError(f"hidden={hidden} is not a multiple of heads={heads}; make it one.")


def _constraint(name: str, hint: Any) -> Any:
    """Look up the constraint of a parameter by its annotation, else by its name, if it has one."""
    if choices := choices_of(hint):
        return StrOptions(set(choices))
    declared = "boolean" if hint is bool else _CONSTRAINTS.get(name)
    return None if declared is None else make_constraint(declared)


def _limit(value: Any, constraint: Any, several: bool, default: Any) -> tuple[str, str]:
    """Put into words the constraint that a value breaks, and the way out."""
    if isinstance(constraint, StrOptions):
        return "does not exist", nearest(str(value)[:80], constraint.options)
    shown = repr(default)
    way_out = f"the default is {shown}." if len(shown) < 60 else "leave it out for the default."
    if not isinstance(constraint, Interval):
        return f"is not {'a text' if isinstance(default, str) else 'True or False'}", way_out
    left, right, closed = constraint.left, constraint.right, constraint.closed
    low = f" above {left:g}" if closed == "neither" else f" of {left:g} or more"
    most = right if constraint.type is Integral else format(right or 0, "g")
    high = "" if right is None else f" and {'up to' if closed == 'both' else 'below'} {most}"
    kind = "whole" if constraint.type is Integral else "finite"
    if several:
        count = "one or more " if value == () else ""
        return f"is not a tuple of {count}{kind} numbers{low}{high}", way_out
    close = _closest(value, constraint)
    shown = f"{close}" if constraint.type is Integral else f"{close or 0:g}"
    way_out = way_out if close is None else f"the nearest is {shown}."
    return f"is not a {kind} number{low}{high}", way_out


def _closest(value: Any, interval: Any) -> float | None:
    """Find the number of an interval nearest to a value; None where an open end has none."""
    if not isinstance(value, Real) or isinstance(value, bool) or value - value != 0:
        return None
    close = max(value, interval.left)
    close = close if interval.right is None else min(close, interval.right)
    close = round(close) if interval.type is Integral else close
    return close if close in interval else None


@dataclass(frozen=True)
class Span:
    """Range of a parameter to search; whole numbers where both ends are whole numbers.

    Attributes
    ----------
    low, high : int or float
        Ends, both included, in the unit of the parameter.
    log : bool
        Whether values are drawn evenly on a logarithmic scale, which takes a `low` above 0.
    step : int or float, optional
        Distance between values, counted from `low`; 1 for whole numbers, none for others.
    when : mapping of str to tuple
        Values of other parameters for which this one counts; each must have one of its values.

    Raises
    ------
    OptionError
        If the range is empty or can't be divided so.

    Examples
    --------
    >>> Span(1, 7, step=2).values, Span(1e-4, 1e-1, log=True).values
    (range(1, 8, 2), None)
    >>> Span(0.0, 1.0, log=True)
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: 0.0:1.0 has no logarithm at 0.0; start above 0.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        text = f"{self.low}:{self.high}"
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise OptionError(f"{text} is no range; give a lower end, then a higher one.")
        if self.log and self.low <= 0:
            raise OptionError(f"{text} has no logarithm at {self.low}; start above 0.")
        if self.step is None:
            return
        if self.log:
            raise OptionError(f"{text} can't be logarithmic with a step; leave one of them out.")
        if not 0 < self.step <= self.high - self.low or (
            self.whole and not isinstance(self.step, int)
        ):
            kind = "a whole number " if self.whole else ""
            raise OptionError(
                f"step {self.step} of {text} is not {kind}above 0 and up to "
                f"{self.high - self.low:g}; give one that is."
            )

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def values(self) -> Sequence[Any] | None:
        """All values where they can be counted, else None."""
        if self.whole:
            return range(int(self.low), int(self.high) + 1, int(self.step or 1))
        if self.step is None:
            return None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return [self.low + place * self.step for place in range(min(count, MOST_VALUES))]


@dataclass(frozen=True)
class Choice:
    """Values of a parameter to search, in no order; `when` as in `Span`.

    Examples
    --------
    >>> Choice(("minmax", "standard")).values
    ('minmax', 'standard')
    """

    options: tuple[Any, ...]
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [option_text(option) for option in self.options]
        if not 1 < len(set(texts)) == len(texts) <= MOST_VALUES:
            shown = "|".join(texts)[:80]
            raise OptionError(
                f"{shown!r} is no choice of 2 to {MOST_VALUES} different values; give such a|b."
            )

    @property
    def values(self) -> Sequence[Any]:
        """All values."""
        return self.options


Space = Span | Choice


def option_text(value: Any) -> str:
    """Write the value of an option as ``--set`` takes it.

    Examples
    --------
    >>> option_text((256, 128)), option_text(None), option_text(True), option_text(1e-5)
    ('256,128', 'none', 'true', '1e-05')
    """
    if isinstance(value, list | tuple):
        return ",".join(option_text(item) for item in value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


@dataclass_transform(kw_only_default=True, eq_default=False)
def keyword_parameters(kind: _Kind) -> _Kind:
    """Make the annotated defaults of an estimator class, and of its bases, keyword-only parameters.

    The `__init__` that results only assigns them, as scikit-learn asks.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> @keyword_parameters
    ... class Ridge(BaseEstimator):
    ...     penalty: float = 1.0
    >>> Ridge(penalty=2.0).get_params()
    {'penalty': 2.0}
    """
    dataclass(kw_only=True, eq=False, repr=False)(kind)
    # resolved here, since a base's annotations may use names of another module
    hints = get_type_hints(kind)
    kind.__init__.__annotations__ |= {field.name: hints[field.name] for field in fields(kind)}
    return kind
