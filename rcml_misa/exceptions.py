"""Errors that a user can cause and mend; each carries one sentence."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["DataError", "OptionError", "RcmlMisaError", "nearest"]


class RcmlMisaError(ValueError):
    """Base of every error that this package raises on purpose.

    It is a `ValueError`, so that scikit-learn's tools treat it as bad input.
    """


class DataError(RcmlMisaError):
    """Data that is missing, damaged or not usable as it stands."""


class OptionError(RcmlMisaError):
    """An option, a name or a combination of options that does not exist or does not fit."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Name the choices closest to a word that is not one of them.

    Parameters
    ----------
    name : str
        The word as it was given.
    choices : iterable of str
        The words that exist.

    Returns
    -------
    str
        The end of an error's sentence, with its mark.

    Examples
    --------
    >>> nearest("PEI", ["PIE", "CUB"])
    'did you mean PIE?'
    >>> nearest("zzz", ["PIE", "CUB"])
    'choose from CUB, PIE.'
    """
    known = {choice.lower(): choice for choice in choices}
    close = [
        known[word] for word in difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
    ]
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"choose from {', '.join(sorted(known.values(), key=str.lower))}."
