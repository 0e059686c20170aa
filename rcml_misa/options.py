"""Checks of estimators' options: choices from their annotations, numbers from one table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rcml_misa.exceptions import OptionError, nearest

__all__ = ["check_options", "choices_of"]


@dataclass(frozen=True)
class _Limit:
    """What a number has to be: its kind, its least value or bound, and what it stays below."""

    whole: bool = False
    least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf

    def __str__(self) -> str:
        kind = "whole" if self.whole else "finite"
        low = f" of {self.least:g} or more" if self.least > -math.inf else ""
        low = f" above {self.above:g}" if self.above > -math.inf else low
        high = f" and below {self.below:g}" if self.below < math.inf else ""
        return f"{kind} number{low}{high}"

    def allows(self, value: Any) -> bool:
        if not isinstance(value, Integral if self.whole else Real) or isinstance(value, bool):
            return False
        number = float(value)
        known = math.isfinite(number)
        return known and self.least <= number < self.below and number > self.above


_COUNT = _Limit(whole=True, least=1)
_POSITIVE = _Limit(above=0)
_WEIGHT = _Limit(least=0)
_CHANCE = _Limit(least=0, below=1)

# a name means the same thing in every estimator
_LIMITS: Mapping[str, _Limit] = {
    **dict.fromkeys(("epochs", "batch_size", "heads", "feedforward", "layers", "trees"), _COUNT),
    **dict.fromkeys(("hidden", "landmarks", "sequence_hidden", "update_epochs"), _COUNT),
    **dict.fromkeys(("patience", "rounds"), _COUNT),
    "text_layers": _Limit(whole=True, least=0),
    **dict.fromkeys(("text_learning_rate", "reversal_weight", "clip"), _WEIGHT),
    **dict.fromkeys(("shared_private_weight", "own_weight"), _WEIGHT),
    **dict.fromkeys(("averaging", "validation_share", "view_dropout"), _CHANCE),
    "validation_fraction": _Limit(above=0, below=1),
    **dict.fromkeys(("evidence_weight", "evidence_penalty", "point_weight"), _WEIGHT),
    "coverage": _Limit(above=0, below=1),
    "annealing_epochs": _Limit(whole=True, least=0),
    **dict.fromkeys(("C", "prior_weight", "sharpness"), _POSITIVE),
    "norm_order": _Limit(least=1),
    "learning_rate": _WEIGHT,
    **dict.fromkeys(("weight_decay", "mixup", "kl_weight", "conflict_weight"), _WEIGHT),
    **dict.fromkeys(("sim_weight", "diff_weight", "recon_weight"), _WEIGHT),
    **dict.fromkeys(("complementary_weight", "consistent_kl_weight"), _WEIGHT),
    **dict.fromkeys(("dropout", "attention_dropout"), _CHANCE),
}


def choices_of(annotation: Any) -> tuple[str, ...]:
    """Choices of a ``Literal`` annotation; none for any other.

    Examples
    --------
    >>> choices_of(Literal["a", "b"]), choices_of(int)
    (('a', 'b'), ())
    """
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def check_options(estimator: Any) -> None:
    """Check an estimator's parameters against their annotated choices and their limits.

    Parameters
    ----------
    estimator : estimator
        Its parameters are read with ``get_params``; None and unknown names pass.

    Raises
    ------
    OptionError
        For the first value that can't be, with its limit.

    Examples
    --------
    >>> from rcml_misa.estimators import RCMLClassifier
    >>> check_options(RCMLClassifier(epochs=0))
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: epochs=0 is not a whole number of 1 or more.
    """
    hints = get_type_hints(type(estimator).__init__)
    for name, value in estimator.get_params(deep=False).items():
        choices = choices_of(hints.get(name))
        if choices and value not in choices:
            raise OptionError(f"{name}={value!r} does not exist; {nearest(str(value), choices)}")
        if name not in _LIMITS or (value is None and "None" in str(hints.get(name))):
            continue
        limit = _LIMITS[name]
        parts = value if isinstance(value, tuple) and "tuple" in str(hints[name]) else (value,)
        if not all(limit.allows(part) for part in parts):
            raise OptionError(f"{name}={value!r} is not a {limit}.")
    heads, hidden = (getattr(estimator, name, 1) for name in ("heads", "hidden"))
    if isinstance(hidden, int) and hidden % heads:
        raise OptionError(f"hidden={hidden} is not a multiple of heads={heads}; make it one.")
