"""Texts whose token numbers are known already."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.exceptions import DataError
from rcml_misa.views.sequences import Texts

__all__ = ["TokenTexts"]


class TokenTexts(Texts):
    """One text per sample, with the numbers that a tokenizer gave its tokens.

    A pretrained text encoder reads the numbers as they are; they must be of its vocabulary.

    Parameters
    ----------
    values : sequence of str
    tokens : sequence of arrays of int
        One per text, with one number or more; those of the first and last special token included.

    Raises
    ------
    DataError
        If there are not as many as texts, or one is empty or negative.

    Examples
    --------
    >>> view = TokenTexts(["so good", "no"], [[101, 2061, 2204, 102], [101, 2053, 102]])
    >>> view[[1]].tokens[0].tolist()
    [101, 2053, 102]
    """

    tokens: tuple[NDArray[np.int64], ...]

    def __init__(self, values: Sequence[str], tokens: Sequence[Any]) -> None:
        super().__init__(values)
        numbers = tuple(np.asarray(one, dtype=np.int64).reshape(-1) for one in tokens)
        if len(numbers) != len(self.values):
            raise DataError(
                f"there are tokens of {len(numbers)} texts but {len(self.values)} texts; give one "
                "list per text."
            )
        for row, one in enumerate(numbers):
            if not one.size or one.min() < 0:
                raise DataError(
                    f"text {row} has no tokens, or a negative one; give it its numbers."
                )
        object.__setattr__(self, "tokens", numbers)

    def __getitem__(self, rows: Any) -> TokenTexts:
        chosen = np.arange(len(self.values))[rows]
        return TokenTexts(
            [self.values[row] for row in chosen], [self.tokens[row] for row in chosen]
        )
