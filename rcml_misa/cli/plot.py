"""The command `plot`: figures from the files that runs left for them."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["plot"]

WHAT = ("losses", "subspaces", "attention", "conflict", "uncertainty", "calibration")


@click.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--what", required=True, type=click.Choice(WHAT), metavar="|".join(WHAT), help="The figure."
)
@click.option(
    "--out",
    default="figure.svg",
    show_default=True,
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where to; ends in .svg, .pdf or .png.",
)
@click.option("--variant", metavar="NAME", help="Which runs of a folder that holds several kinds.")
@click.option(
    "--against",
    "others",
    multiple=True,
    metavar="RUN",
    type=click.Path(path_type=Path),
    help="A second panel for subspaces, such as the same without regularisers.",
)
def plot(path: Path, what: str, out: Path, variant: str | None, others: tuple[Path, ...]) -> None:
    """Draw a figure of RUN: a record, or the folder that `run --out` filled.

    Runs keep what figures need where `run --keep` asks for it: history for losses, codes for
    subspaces, attention, and opinions for conflict, uncertainty and calibration. A folder's runs
    of one variant are drawn together.
    """
    from rcml_misa.reporting.figures import draw, find_runs, in_style, save

    with in_style():
        runs = [find_runs(run, variant=variant) for run in (*others, path)]
        save(draw(what, runs), out)
    click.echo(f"written: {out}")
