"""Commands of `datasets` for a user's own files: check, add and remove."""

from __future__ import annotations

import json
from pathlib import Path

import click

from rcml_misa.cli.files import file_options

__all__ = ["add", "check", "remove"]


@click.command()
@click.argument("file", metavar="FILE|NAME")
@file_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(
    file: str, target: str | None, view_spec: str | None, id_name: str | None, as_json: bool
) -> None:
    """Tell what is seen in FILE, and what will be done about each odd thing.

    Views and their ranges, constant and repeated columns, repeated rows with other labels, classes
    of uneven size, missing views, and signs that a view was made from the labels.
    """
    from dataclasses import asdict

    from rcml_misa.datasets import FileOptions, load_labelled
    from rcml_misa.datasets.files import check_file

    found, _ = load_labelled(file, FileOptions(target=target, views=view_spec, id=id_name))
    findings = check_file(found)
    if as_json:
        record = {
            "file": file,
            "layout": found.layout.to_json(),
            "findings": [asdict(one) for one in findings],
        }
        click.echo(json.dumps(record, indent=2))
        return
    click.echo(f"target: {found.layout.target or 'known'}; id: {found.layout.id or 'none'}")
    for one in findings:
        mark = "" if one.level == "fact" else f"{one.level}: "
        click.echo(f"{mark}{one.what}" + (f". {one.consequence}" if one.consequence else ""))


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, metavar="N", help="What it is to be called.")
@file_options
def add(
    file: Path, name: str, target: str | None, view_spec: str | None, id_name: str | None
) -> None:
    """Record FILE in your catalogue under a name, with its hash and how it is read."""
    from rcml_misa.datasets import FileOptions, add_own
    from rcml_misa.datasets.catalogue import own_catalogue

    entry = add_own(name, file, FileOptions(target=target, views=view_spec, id=id_name))
    views = ", ".join(f"{view} {width}" for view, width in entry.views.items())
    click.echo(f"{name}: {entry.samples} rows, {entry.classes} classes, views {views}")
    click.echo(f"recorded in {own_catalogue()} with sha256 {entry.sha256}")


@click.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the data set NAME of your catalogue; its file stays."""
    from rcml_misa.datasets import remove_own

    remove_own(name)
    click.echo(f"{name} is forgotten; its file is where it was")
