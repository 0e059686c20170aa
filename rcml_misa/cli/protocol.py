"""The options that say how data are split, what is done to train rows and what is scored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rcml_misa.protocols import Protocol

__all__ = ["protocol_of", "protocol_options"]

Command = TypeVar("Command", bound=Callable[..., Any])
KEY = "rcml_misa.protocol"

# option -> type and help; names are those of `Protocol`
_OPTIONS: dict[str, tuple[Any, str, str]] = {
    "split": (
        str,
        "KIND",
        "random, stratified, grouped or given.  [default: given where a set has one, else random]",
    ),
    "folds": (int, "K", "K-fold partitions in place of repeated splits."),
    "test-share": (float, "X", "Share of test rows.  [default: 0.2]"),
    "valid-share": (float, "X", "Share of train rows held back.  [default: 0]"),
    "selection": (str, "EPOCH", "last, best-valid or best-test-epoch, which leaks."),
    "test-sets": (
        str,
        "A[,B]",
        "clean, conflict, conflict:SHARE[:train|test|any], noise:SIGMA, missing:RATE.  "
        "[default: clean,conflict]",
    ),
    "label-noise": (float, "X", "Share of wrong train labels.  [default: 0]"),
    "imbalance": (float, "X", "Rarest over most frequent train class.  [default: 1, none]"),
    "held-out": (int, "C", "Classes that are not trained on, scored apart.  [default: 0]"),
}


def _keep(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    if value is not None and option.name is not None:
        ctx.meta.setdefault(KEY, {})[option.name] = value


def protocol_options(command: Command) -> Command:
    """Give a command the protocol's options; `protocol_of` has what came of them."""
    for name, (kind, word, text) in reversed(_OPTIONS.items()):
        option = click.option(
            f"--{name}", type=kind, metavar=word, help=text, expose_value=False, callback=_keep
        )
        command = option(command)
    return command


def protocol_of(ctx: click.Context) -> Protocol:
    """Make the protocol that the command's options ask for.

    Raises
    ------
    OptionError
        If a value does not exist or is out of range.
    """
    from rcml_misa.protocols import Protocol

    given: dict[str, Any] = dict(ctx.meta.get(KEY, {}))
    if "test_sets" in given:
        given["test_sets"] = tuple(part.strip() for part in given["test_sets"].split(","))
    return Protocol(**given)
