"""Options that several commands share: how a user's own file is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["file_options"]

Command = TypeVar("Command", bound=Callable[..., Any])


def file_options(command: Command) -> Command:
    """Add ``--target``, ``--views`` and ``--id``, as `target`, `view_spec` and `id_name`."""
    for decorate in (
        click.option("--id", "id_name", metavar="NAME", help="Column that identifies the rows."),
        click.option(
            "--views",
            "view_spec",
            metavar="SPEC",
            help="Views of a file of your own, such as 'a=first:last,b=beginning_'.  "
            "[default: columns view__column]",
        ),
        click.option("--target", metavar="NAME", help="Column of labels of a file of your own."),
    ):
        command = decorate(command)
    return command
