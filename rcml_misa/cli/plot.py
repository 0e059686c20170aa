"""The command `plot`: figures from the files that runs left for them."""

from __future__ import annotations

from pathlib import Path

import click

from rcml_misa.cli import options as opt

__all__ = ["plot"]

WHAT = ("losses", "subspaces", "attention", "conflict", "uncertainty", "calibration")
_PANEL = "A second panel for subspaces, such as the same without regularisers."


@click.command()
@click.argument("path", metavar="RUN", type=opt.PATH)
@opt.value("--what", "|".join(WHAT), "The figure.", click.Choice(WHAT), required=True)
@opt.value("--out", "FILE", "Ends in .svg, .pdf or .png.", opt.PATH, default="figure.svg")
@opt.value("--variant", "NAME", "Which runs of a folder that holds several kinds.")
@opt.value("--against others", "RUN", _PANEL, opt.PATH, multiple=True)
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
