"""Common ends of commands: errors in one sentence, wrapped lines, files that a command leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import textwrap
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from rcml_misa.exceptions import (
    LONGEST,
    LeakWarning,
    OptionError,
    PresenceWarning,
    RcmlMisaError,
    RecordWarning,
    bounded,
    printable,
)
from rcml_misa.runs.interrupts import exit_status, signals_interrupt

__all__ = ["FriendlyGroup"]

SAFE_PATH = "PYTHONSAFEPATH"  # environment variable of Python's option -P
TRACEBACK = "RCML_MISA_TRACEBACK"  # environment variable that shows tracebacks of faults


def sentence(text: str, longest: int = LONGEST) -> str:
    """Put an error on one line of at most 300 characters, without control characters."""
    return bounded(printable(" ".join(text.split()), "?"), longest)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Print a warning of a library without its place in the code; one about data is a note."""
    if isinstance(message, LeakWarning | PresenceWarning):
        echo(f"note: {message}", err=True)
    elif isinstance(message, RecordWarning):  # names a file that anybody may have written
        echo(f"note: {sentence(str(message))}", err=True)
    else:
        click.echo(f"warning: {sentence(str(message))}", err=True)


def _stop(ctx: click.Context, text: str, status: int) -> None:
    click.echo(f"error: {sentence(text)}", err=True)
    ctx.exit(status)


@contextmanager
def _one_sentence(ctx: click.Context) -> Iterator[None]:
    """Turn exceptions into a sentence on stderr and an exit status."""
    try:
        yield
    except (click.exceptions.NoArgsIsHelpError, click.exceptions.Exit, click.Abort):
        raise
    except click.UsageError as error:
        where = f" See {(error.ctx or ctx).command_path} --help."
        message = sentence(error.format_message(), LONGEST - len(where) - 1)
        end = "" if message.endswith((".", "?", "!")) else "."
        _stop(ctx, f"{message}{end}{where}", 2)
    except RcmlMisaError as error:
        _stop(ctx, str(error), 2)
    except KeyboardInterrupt as stop:
        click.echo("interrupted", err=True)
        ctx.exit(exit_status(stop))
    except OSError as error:
        if error.errno == errno.EPIPE:  # click ends quietly when the reader of stdout has gone
            raise
        _stop(ctx, f"{error.filename or 'a file'} can't be used ({error.strerror or error}).", 2)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
        way_out = f"this is a fault of rcml-misa: report it with what {TRACEBACK}=1 shows"
        _stop(ctx, f"{place}: {error}; {way_out}.", 1)


@contextmanager
def _children_without_folder() -> Iterator[None]:
    """Let no Python that is started meanwhile put the current folder first on its path.

    Workers are started by ``python -m`` and ``python -c``, which do so: a file `numpy.py` there
    would be run by each of them.
    """
    before = os.environ.get(SAFE_PATH)
    os.environ[SAFE_PATH] = before or "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(SAFE_PATH, None)


class FriendlyGroup(click.Group):
    """Group of commands that ends in one sentence and an exit status, never in a traceback.

    A `RcmlMisaError`, a wrong option or an unusable file becomes ``error: ...`` on stderr and exit
    status 2, any other exception exit status 1. Ctrl-C is exit status 130, and SIGTERM and SIGHUP,
    which end a command in the same way, are 143 and 129.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the group's own options."""
        with _one_sentence(ctx):
            return super().parse_args(ctx, args)
        raise AssertionError("the context manager exits")  # pragma: no cover

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, and turn exceptions into exit statuses, warnings into lines."""
        with (
            _one_sentence(ctx),
            signals_interrupt(),
            _children_without_folder(),
            warnings.catch_warnings(),
        ):
            warnings.showwarning = _show_warning
            return super().invoke(ctx)


def echo(text: str, *, indent: int = 2, err: bool = False) -> None:
    """Print a line, wrapped between words to the width of the terminal.

    It is not broken after its first colon, so that a path stays beside its name. Characters that
    are not printable, which a terminal may obey, become spaces.
    """
    width = max(shutil.get_terminal_size((80, 24)).columns, 40)
    wrapper = textwrap.TextWrapper(
        width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    line = printable(text).replace(": ", ":\0", 1)
    click.echo(wrapper.fill(line).replace("\0", " "), err=err)


def echo_json(record: Any, *, indent: int | None = None, err: bool = False) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(record, indent=indent, allow_nan=False), err=err)


def write_texts(folder: Path, texts: Mapping[str, str]) -> None:
    """Write text files by name into a folder, each whole or not at all, with a last line end."""
    from rcml_misa.storage import write_text

    for name, text in texts.items():
        write_text(folder / name, text if text.endswith("\n") else f"{text}\n")


def refuse_same(out: Path, *inputs: str | Path) -> None:
    """Refuse to write over a file that the command reads."""
    if out.resolve() in [Path(path).resolve() for path in inputs]:
        raise OptionError(f"--out {out} would replace what is read; give another file.")


def file_size(size: int) -> str:
    """Write a number of bytes in MB, below a tenth of one in kB."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def listed(values: Mapping[str, Any]) -> str:
    """Write names and their values in a row, such as ``face 3, voice 4``."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
