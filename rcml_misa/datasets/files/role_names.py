"""Names of the columns that tell the split, the group and the weight of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rcml_misa.datasets.catalogue import FileOptions
from rcml_misa.exceptions import OptionError, nearest

__all__ = ["Roles"]


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Columns or arrays of the split, the groups and the weights; None where there is none.

    Examples
    --------
    >>> options = FileOptions(split_column="part", weight_column="w")
    >>> roles = Roles.of(options)
    >>> roles.names, roles.without(["x", "part", "w", "y"], options)
    (('part', 'w'), ['x', 'y'])
    """

    split: str | None = None
    group: str | None = None
    weight: str | None = None

    @classmethod
    def of(cls, options: FileOptions) -> Roles:
        """Take the names that a user gave; no name is guessed."""
        return cls(
            split=options.split_column, group=options.group_column, weight=options.weight_column
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns that have a role."""
        return tuple(name for name in (self.split, self.group, self.weight) if name is not None)

    def without(
        self, names: Sequence[str], options: FileOptions, *, kind: str = "column"
    ) -> list[str]:
        """List the other names of columns, or of arrays, which views and target are chosen from.

        A role whose column does not exist, or has another role too, is an OptionError.
        """
        given = {
            "--target": options.target,
            "--id": options.id,
            "--split-column": self.split,
            "--group-column": self.group,
            "--weight-column": self.weight,
        }
        flags: dict[str, str] = {}
        for flag, name in given.items():
            if name is not None and name in flags and name in self.names:
                raise OptionError(
                    f"{flags[name]} and {flag} both name {name!r}; give each a {kind} of its own."
                )
            if name in self.names and name not in names:
                raise OptionError(
                    f"{flag}: there is no {kind} {name!r}; {nearest(str(name), names)}"
                )
            flags |= {} if name is None else {name: flag}
        return [name for name in names if name not in self.names]
