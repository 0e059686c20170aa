"""How a command ends when something goes wrong: one sentence and an exit status."""

from __future__ import annotations

from typing import Any

import click

from rcml_misa.exceptions import RcmlMisaError

__all__ = ["FriendlyGroup"]


class FriendlyGroup(click.Group):
    """Group of commands that tells a user's mistake in one sentence, without a traceback.

    A `RcmlMisaError` becomes ``error: ...`` on stderr and exit status 2, an interruption by
    the keyboard exit status 130.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn the two expected exceptions into exit statuses."""
        try:
            return super().invoke(ctx)
        except RcmlMisaError as error:
            click.echo(f"error: {' '.join(str(error).split())}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)
