"""The command `datasets`: list, show, fetch, import, check, add and remove data sets."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import FriendlyGroup, echo, echo_json, listed
from rcml_misa.exceptions import DataError, OptionError

if TYPE_CHECKING:
    from rcml_misa.datasets import CatalogueEntry
    from rcml_misa.datasets.files import OwnFile
    from rcml_misa.datasets.imported import ImportReport

__all__ = ["datasets"]

STATUS = {
    "here": "here",
    "fetchable": "can be fetched",
    "built in": "built in",
    "gone": "file is gone",
}
NARROW, WIDE = 80, 100
_TEXT = (
    "The text view: the stored vectors, the file's token numbers (text_bert, for a pretrained "
    "encoder), or the words."
)

_look_in = opt.folder("--data-dir", "Folder to look in first, before RCML_MISA_DATA and the cache.")


@click.group(cls=FriendlyGroup, invoke_without_command=True)
@_look_in
@opt.json_option
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
        echo_json(records, indent=2)
        return
    rows = [["name", "views", "samples", "classes", "licence", "status"]]
    rows += [
        [
            record["name"],
            listed(record["views"]),
            str(record["samples"]),
            str(record["classes"] or "-"),
            record["licence"],
            STATUS[record["status"]],
        ]
        for record in records
    ]
    width = min(max(shutil.get_terminal_size().columns, NARROW), WIDE)
    click.echo("\n".join(_table(rows, width)))


@datasets.command()
@click.argument("name")
@_look_in
@opt.json_option
@click.pass_context
def show(ctx: click.Context, name: str, data_dir: Path | None, as_json: bool) -> None:
    """Show all that is known about the data set NAME."""
    from rcml_misa.datasets import find_entry

    group = _group_options(ctx)
    record = _record(find_entry(name), data_dir or group.get("data_dir"))
    if as_json or group.get("as_json"):
        echo_json(record, indent=2)
        return
    shown = {**record, "status": STATUS[record["status"]]}
    shown["views"] = listed(record["views"])
    for key, fact in shown.items():
        if fact not in ("", None) and (key, fact) != ("classes", 0):
            echo(f"{key:<10}{fact}", indent=10)


@datasets.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@opt.folder("--data-dir", "Folder to put the files into; by default the cache.")
@click.pass_context
def fetch(ctx: click.Context, names: tuple[str, ...], data_dir: Path | None) -> None:
    """Bring the files of the data sets NAME... to this machine and check them."""
    from rcml_misa.datasets import fetch_dataset, find_entry

    place = data_dir or _group_options(ctx).get("data_dir")
    for name in names:  # a misspelt name is refused before anything is fetched
        find_entry(name)
    for name in names:
        path = fetch_dataset(name, data_dir=place)
        click.echo(f"{name}: {path if path else 'built in, nothing to fetch'}")


@datasets.command()
@click.argument("file", metavar="FILE|NAME")
@opt.data_options("file", "task")
@opt.json_option
def check(file: str, data: opt.DataOptions, as_json: bool) -> None:
    """Show what FILE holds, and what will be done about each odd thing.

    Views and their ranges, constant and repeated columns, repeated rows with other labels, classes
    of uneven size, missing views, and signs that a view was made from the labels.
    """
    from dataclasses import asdict

    from rcml_misa.datasets import load_labelled, survey_labelled, too_large
    from rcml_misa.datasets.files import check_file
    from rcml_misa.datasets.files.guesses import is_guess

    if too_large(file, data.file_options) is None:
        own, _ = load_labelled(file, data.file_options, task=data.task, stop_at_leaks=False)
    else:
        survey = survey_labelled(
            file, data.file_options, task=data.task, stop_at_leaks=False
        ).survey
        own = survey.own
        told = f"a sample of {survey.sampled} of {survey.rows} rows was looked at"
        echo(f"note: {told}; the file is too large to be held", err=True)
    findings = check_file(own)
    prepared = _prepared(own)
    if as_json:
        record = {
            "file": file,
            "layout": own.layout.to_json(),
            "guessed": [note for note in own.notes if is_guess(note)],
            "findings": [asdict(finding) for finding in findings],
            "prepared": prepared,
        }
        echo_json(record, indent=2)
        return
    echo("; ".join(_read_as(own)))
    for finding in findings:
        mark = "" if finding.level == "fact" else f"{finding.level}: "
        end = f". {finding.consequence}" if finding.consequence else ""
        echo(f"{mark}{finding.what}{end}")
    for text in prepared:
        echo(f"note: {text}")


def _prepared(own: OwnFile) -> list[str]:
    """Say what is done to raw tables before a model is fitted, or why nothing can be."""
    from rcml_misa.reading.preparer import describe_preparation

    try:
        return describe_preparation(own.views)
    except DataError as error:
        return [str(error)]


def _read_as(own: OwnFile) -> Iterator[str]:
    """Say which target and id a file was read with, and what of it was guessed."""
    from rcml_misa.datasets.files.guesses import is_guess

    guesses = {note.partition(":")[0]: note for note in own.notes if is_guess(note)}
    yield guesses.get("target", f"target: {own.layout.target or 'known'}")
    yield guesses.get("id", f"id: {own.layout.id or 'none'}")
    yield from [guesses["views"]] if "views" in guesses else []


@datasets.command()
@click.argument("file", type=opt.PATH)
@opt.value("--name", "N", "What it is to be called.", required=True)
@opt.data_options("file", "task")
def add(file: Path, name: str, data: opt.DataOptions) -> None:
    """Record FILE in your catalogue under a name, with its hash and how it is read."""
    from rcml_misa.datasets import add_own
    from rcml_misa.datasets.catalogue import own_catalogue

    if data.task not in (None, "regression"):
        raise OptionError(f"a file has classes of its own; leave --task {data.task} out.")
    entry = add_own(name, file, data.file_options)
    target = f"{entry.classes} classes" if entry.classes else "scores"
    echo(f"{name}: {entry.samples} rows, {target}, views {listed(entry.views)}")
    click.echo(f"recorded in {own_catalogue()} with sha256 {entry.sha256}")


@datasets.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the data set NAME of your catalogue; its file stays."""
    from rcml_misa.datasets import remove_own

    remove_own(name)
    click.echo(f"{name} is forgotten; its file is where it was")


@datasets.command("import")
@click.argument("path", metavar="FILE|FOLDER", type=opt.PATH)
@opt.value("--as name", "NAME", "What it is to be called.", required=True)
@opt.value("--text", None, _TEXT, click.Choice(["states", "tokens", "raw"]), default="states")
@opt.flag("--context", "UR_FUNNY: the sentences before the punchline too.")
@opt.flag("--leave-out-incomplete", "UR_FUNNY: leave out incomplete punchlines rather than stop.")
@opt.flag("--replace", "Replace an earlier import of that name.")
@opt.json_option
def import_files(path: Path, name: str, as_json: bool, **choices: Any) -> None:
    """Keep MMSA's FILE (MOSI, MOSEI, CH-SIMS) or UR_FUNNY's FOLDER as the data set NAME.

    Their pickles are read without running anything of them: arrays and plain containers are
    taken, any other content is refused. The data are kept as npz in the cache, once and for all.
    """
    from rcml_misa.datasets.imported import import_dataset

    report = import_dataset(path, name, **choices)
    if as_json:
        record = {
            "name": report.entry.name,
            "views": dict(report.entry.views),
            "steps": dict(report.steps),
            "rows": dict(report.rows),
            "classes": report.entry.classes,
            "file": str(report.path),
            "sha256": report.entry.sha256,
            "source_sha256": report.source_sha256,
            "published": report.published or None,
            "mended": dict(report.mended),
            "notes": list(report.notes),
        }
        echo_json(record, indent=2)
    else:
        click.echo("\n".join(_import_lines(report, path)))


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


def _table(rows: list[list[str]], width: int) -> Iterator[str]:
    """Lay out lines of at most `width` columns by wrapping the second cells."""
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sizes[1] = min(sizes[1], width - (sum(sizes) - sizes[1] + 2 * (len(sizes) - 1)))
    for row in [rows[0], ["-" * size for size in sizes], *rows[1:]]:
        pieces = [
            _wrap_views(row[1], sizes[1]) if place == 1 else [row[place]] for place in range(6)
        ]
        for cells in zip_longest(*pieces, fillvalue=""):
            aligned = zip(cells, "<<>><<", sizes, strict=True)
            yield "  ".join(f"{cell:{side}{size}}" for cell, side, size in aligned).rstrip()


def _wrap_views(text: str, size: int) -> list[str]:
    """Break between views, never between a view and its width."""
    glued = text.replace(", ", ",\0").replace(" ", "\xa0").replace("\0", " ")
    wrapper = textwrap.TextWrapper(size, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in wrapper.wrap(glued)]


def _import_lines(report: ImportReport, path: Path) -> list[str]:
    entry = report.entry
    folds = ", ".join(f"{count} {fold}" for fold, count in report.rows.items())
    views = ", ".join(
        f"{view} {width}"
        + (f" x {report.steps[view]} steps" if width > 1 and view in report.steps else "")
        for view, width in entry.views.items()
    )
    target = f"{entry.classes} classes" if entry.classes else "scores"
    lines = [f"{entry.name}: {entry.samples} samples ({folds}), {target}", f"views: {views}"]
    if path.is_file():
        published = f"the published {report.published}" if report.published else ""
        other = f"none of the published files that are known, sha256 {report.source_sha256}"
        lines.append(f"source: {published or other}")
    lines += [
        f"{view}: {count} values were NaN or infinite and are 0 now"
        for view, count in report.mended.items()
    ]
    lines += report.notes
    return [*lines, f"kept: {report.path}"]
