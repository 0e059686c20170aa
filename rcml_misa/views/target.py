"""Whether a target can be learnt from at all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from rcml_misa.exceptions import DataError

__all__ = ["check_target"]


def check_target(target: ArrayLike, classes: Sequence[str]) -> None:
    """Refuse class codes that no classifier can be trained and tested on.

    Parameters
    ----------
    target : array of int of shape (n_samples,)
        Codes 0 .. K-1.
    classes : sequence of str
        The K original labels.

    Raises
    ------
    DataError
        If there is one class only, a class has fewer than two samples, there are fewer rows
        than classes, or a code has no class.

    Examples
    --------
    >>> check_target([0, 1, 1, 0], ("no", "yes"))
    >>> check_target([0, 1, 1], ("no", "yes"))
    Traceback (most recent call last):
    rcml_misa.exceptions.DataError: class 'no' has 1 sample; every class needs at least 2, ...
    """
    codes = np.asarray(target)
    n, k = codes.size, len(classes)
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or n == 0:
        raise DataError(f"the target must be a 1-D list of class codes, not {codes.shape}.")
    if codes.min() < 0 or codes.max() >= k:
        raise DataError(
            f"the target's codes run from {codes.min()} to {codes.max()} but there are {k} "
            f"classes, 0 to {k - 1}."
        )
    if n < k:
        raise DataError(
            f"there are fewer rows ({n}) than classes ({k}); check that the target is a class "
            "label and not a measurement."
        )
    counts = np.bincount(codes, minlength=k)
    if np.count_nonzero(counts) < 2:
        raise DataError(
            f"the target holds one class only ({classes[int(codes[0])]!r}); a classifier needs "
            "two or more."
        )
    rarest = int(counts.argmin())
    if counts[rarest] < 2:
        plural = "" if counts[rarest] == 1 else "s"
        raise DataError(
            f"class {classes[rarest]!r} has {counts[rarest]} sample{plural}; every class needs at "
            "least 2, one to train and one to test: add samples, merge it or leave it out."
        )
