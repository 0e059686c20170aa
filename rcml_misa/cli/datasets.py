"""The command `datasets`: list, show and fetch the data sets of the catalogue."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rcml_misa.cli.errors import FriendlyGroup
from rcml_misa.cli.imports import import_files
from rcml_misa.cli.own import add, check, remove

if TYPE_CHECKING:
    from rcml_misa.datasets import CatalogueEntry

__all__ = ["datasets"]

Command = TypeVar("Command", bound=Callable[..., Any])

STATUS = {
    "here": "here",
    "fetchable": "can be fetched",
    "built in": "built in",
    "gone": "file is gone",
}
NARROW, WIDE = 80, 100


def _data_dir(text: str) -> Callable[[Command], Command]:
    return click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        metavar="FOLDER",
        help=text,
    )


_look_in = _data_dir("Folder to look in first, before RCML_MISA_DATA and the cache.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=FriendlyGroup, invoke_without_command=True)
@_look_in
@_as_json
@click.pass_context
def datasets(ctx: click.Context, data_dir: Path | None, as_json: bool) -> None:
    """List the data sets, or show or fetch some, or check and add your own files.

    Without a command, every data set is listed with its views and their widths, and whether
    its file is here, can be fetched or is not needed.
    """
    if ctx.invoked_subcommand is not None:
        return
    from rcml_misa.datasets import list_datasets

    records = [_record(entry, data_dir) for entry in list_datasets(users=True)]
    if as_json:
        click.echo(json.dumps(records, indent=2))
        return
    rows = [
        [
            record["name"],
            ", ".join(f"{view} {width}" for view, width in record["views"].items()),
            str(record["samples"]),
            str(record["classes"] or "-"),
            record["licence"],
            STATUS[record["status"]],
        ]
        for record in records
    ]
    heads = ["name", "views", "samples", "classes", "licence", "status"]
    width = min(max(shutil.get_terminal_size().columns, NARROW), WIDE)
    click.echo("\n".join(_table(heads, rows, wrapped=1, right=(2, 3), width=width)))


@datasets.command()
@click.argument("name")
@_look_in
@_as_json
@click.pass_context
def show(ctx: click.Context, name: str, data_dir: Path | None, as_json: bool) -> None:
    """Show all that is known about the data set NAME."""
    from rcml_misa.datasets import find_entry

    group = _group_options(ctx)
    record = _record(find_entry(name), data_dir or group.get("data_dir"))
    if as_json or group.get("as_json"):
        click.echo(json.dumps(record, indent=2))
        return
    shown = {**record, "status": STATUS[record["status"]]}
    shown["views"] = ", ".join(f"{view} {width}" for view, width in record["views"].items())
    for key, value in shown.items():
        if value not in ("", None) and (key, value) != ("classes", 0):
            click.echo(f"{key:<10}{value}")


@datasets.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_data_dir("Folder to put the files into; by default the cache.")
@click.pass_context
def fetch(ctx: click.Context, names: tuple[str, ...], data_dir: Path | None) -> None:
    """Bring the files of the data sets NAME... to this machine and check them."""
    from rcml_misa.datasets import fetch_dataset, find_entry

    folder = data_dir or _group_options(ctx).get("data_dir")
    for name in names:  # a misspelt name is told before anything is fetched
        find_entry(name)
    for name in names:
        path = fetch_dataset(name, data_dir=folder)
        click.echo(f"{name}: {path if path else 'built in, nothing to fetch'}")


for _command in (check, add, remove, import_files):
    datasets.add_command(_command)


def _group_options(ctx: click.Context) -> dict[str, Any]:
    """Options given before the command's name."""
    return ctx.parent.params if ctx.parent is not None else {}


def _record(entry: CatalogueEntry, data_dir: Path | None) -> dict[str, Any]:
    """Gather the facts of one data set, for people and for machines."""
    from rcml_misa.datasets import find_file, locate

    path = find_file(entry, data_dir=data_dir)
    return {
        "name": entry.name,
        "views": dict(entry.views),
        "samples": entry.samples,
        "classes": entry.classes,
        "licence": entry.licence,
        "status": locate(entry.name, data_dir),
        "file": entry.file if entry.format == "own" else str(path) if path else None,
        "address": entry.url or None,
        "sha256": entry.sha256,
        "citation": entry.citation,
        "note": entry.note,
    }


def _table(
    heads: list[str], rows: list[list[str]], *, wrapped: int, right: tuple[int, ...], width: int
) -> list[str]:
    """Lay out lines of at most `width` columns by wrapping one of them."""
    sizes = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    others = sum(sizes) - sizes[wrapped] + 2 * (len(sizes) - 1)
    sizes[wrapped] = min(sizes[wrapped], width - others)
    lines = []
    for row in [heads, ["-" * size for size in sizes], *rows]:
        pieces = _wrap_views(row[wrapped], sizes[wrapped])
        for number, piece in enumerate(pieces):
            cells = [
                piece if i == wrapped else "" if number else cell for i, cell in enumerate(row)
            ]
            padded = [
                cell.rjust(size) if i in right else cell.ljust(size)
                for i, (cell, size) in enumerate(zip(cells, sizes, strict=True))
            ]
            lines.append("  ".join(padded).rstrip())
    return lines


def _wrap_views(text: str, size: int) -> list[str]:
    """Break between views, never between a view and its width."""
    glued = text.replace(", ", ",\0").replace(" ", "\xa0").replace("\0", " ")
    wrapper = textwrap.TextWrapper(size, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in wrapper.wrap(glued)]
