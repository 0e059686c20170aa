"""The command `datasets import`: other projects' feature files become a data set with a name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rcml_misa.datasets.imported import ImportReport

__all__ = ["import_files"]


@click.command("import")
@click.argument("path", metavar="FILE|FOLDER", type=click.Path(path_type=Path))
@click.option("--as", "name", required=True, metavar="NAME", help="What it is to be called.")
@click.option(
    "--text",
    default="states",
    show_default=True,
    type=click.Choice(["states", "tokens", "raw"]),
    help="The text view: the stored vectors, the file's token numbers (text_bert, for a pretrained "
    "encoder), or the words.",
)
@click.option("--context", is_flag=True, help="UR_FUNNY: the sentences before the punchline too.")
@click.option(
    "--leave-out-incomplete",
    is_flag=True,
    help="UR_FUNNY: leave out punchlines that lack something, rather than stop.",
)
@click.option("--replace", is_flag=True, help="Replace an earlier import of that name.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_files(
    path: Path,
    name: str,
    text: Any,
    context: bool,
    leave_out_incomplete: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Keep MMSA's FILE (MOSI, MOSEI, CH-SIMS) or UR_FUNNY's FOLDER as the data set NAME.

    Their pickles are read without running anything of them: arrays and plain containers are
    taken, any other content is refused. The data are kept as npz in the cache, once and for all.
    """
    from rcml_misa.datasets.imported import import_dataset

    report = import_dataset(
        path,
        name,
        text=text,
        context=context,
        leave_out_incomplete=leave_out_incomplete,
        replace=replace,
    )
    if as_json:
        click.echo(json.dumps(_record(report), indent=2))
    else:
        click.echo("\n".join(_lines(report, path)))


def _record(report: ImportReport) -> dict[str, Any]:
    return {
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


def _lines(report: ImportReport, path: Path) -> list[str]:
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
        known = f"the published {report.published}" if report.published else ""
        other = f"none of the published files that are known, sha256 {report.source_sha256}"
        lines.append(f"source: {known or other}")
    lines += [
        f"{view}: {count} values were NaN or infinite and are 0 now"
        for view, count in report.mended.items()
    ]
    lines += report.notes
    return [*lines, f"kept: {report.path}"]
