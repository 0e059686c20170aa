"""How a command ends when something goes wrong: one sentence and an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from rcml_misa.exceptions import RcmlMisaError

__all__ = ["FriendlyGroup"]


@contextmanager
def _one_sentence(ctx: click.Context) -> Iterator[None]:
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        where = (error.ctx or ctx).command_path
        message = " ".join(error.format_message().split())
        end = "" if message.endswith((".", "?", "!")) else "."
        click.echo(f"error: {message}{end} See {where} --help.", err=True)
        ctx.exit(2)
    except RcmlMisaError as error:
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        ctx.exit(2)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        ctx.exit(130)


class FriendlyGroup(click.Group):
    """Group of commands that tells a user's mistake in one sentence, without a traceback.

    A `RcmlMisaError` or a wrong option becomes ``error: ...`` on stderr and exit status 2, an
    interruption by the keyboard exit status 130.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options."""
        with _one_sentence(ctx):
            return super().parse_args(ctx, args)
        raise AssertionError("the context manager exits")  # pragma: no cover

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn the expected exceptions into exit statuses."""
        with _one_sentence(ctx):
            return super().invoke(ctx)
