"""Short summaries of opinions, in place of their arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import shortened

__all__ = ["listed", "mean_text", "view_lines"]

MOST = 5  # views and classes that a summary names


def mean_text(values: NDArray[np.float64]) -> str:
    """Word the mean of the finite values; ``none`` without any.

    Examples
    --------
    >>> mean_text(np.array([0.25, 0.5, np.nan]))
    '0.375'
    """
    finite = values[np.isfinite(values)]
    return f"{finite.mean():.3g}" if finite.size else "none"


def listed(words: Sequence[Any]) -> str:
    """Join the first words into a line."""
    shown = shortened(", ".join(shortened(word, 24) for word in words[:MOST]), 120)
    return shown + (f" and {len(words) - MOST} more" if len(words) > MOST else "")


def view_lines(values: Mapping[str, NDArray[np.float64]], unit: str) -> list[str]:
    """Write the mean value of each of the first views, a line each, and count the others."""
    lines = [
        f"  {shortened(name, 40)}: mean {unit} {mean_text(own)}"
        for name, own in list(values.items())[:MOST]
    ]
    return lines + ([f"  and {len(values) - MOST} more views"] if len(values) > MOST else [])
