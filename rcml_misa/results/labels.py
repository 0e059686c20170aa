"""Labels of variants, which name records' files and rows of tables."""

from __future__ import annotations

from rcml_misa.exceptions import OptionError, shortened

__all__ = ["LONGEST_LABEL", "check_label"]

LONGEST_LABEL = 120  # characters


def check_label(label: str, *, where: str = "the label", longest: int = LONGEST_LABEL) -> None:
    r"""Refuse with an `OptionError` a label that can't be part of a file's name.

    It is empty or blank, of dots alone, too long, or has a character that is not printable: a
    line's end, a control character, a mark of the direction of writing.

    Parameters
    ----------
    label : str
    where : str
        What the label is, for the sentence.
    longest : int
        Most characters.

    Examples
    --------
    >>> check_label("tied 1/0.5/1")
    >>> check_label("two\nlines")
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: the label 'two\nlines' has a character that no file name ...
    """
    shown = repr(shortened(repr(label)[1:-1], 60)).replace("\\\\", "\\")
    if not label.strip():
        raise OptionError(f"{where} {shown} is empty; give letters or digits.")
    if not label.strip(". "):
        raise OptionError(f"{where} {shown} is of dots alone; give letters or digits.")
    if len(label) > longest:
        raise OptionError(
            f"{where} {shown} is {len(label)} characters long; give a label of at most {longest}."
        )
    if not label.isprintable():
        raise OptionError(
            f"{where} {shown} has a character that no file name shows; give printable ones."
        )
