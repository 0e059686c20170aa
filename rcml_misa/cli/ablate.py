"""The command `ablate`: a method without each of its parts, in runs paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe

__all__ = ["ablate"]

#: Method -> name of a row to the options that take the part away.
PARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "misa": {
        "minus sim": ["sim_weight=0"],
        "minus diff": ["diff_weight=0"],
        "minus recon": ["recon_weight=0"],
        "base": ["variant=base"],
        "inv": ["variant=inv"],
        "sFusion": ["variant=sFusion"],
        "iFusion": ["variant=iFusion"],
    },
    "rcml-misa": {
        "minus sim": ["sim_weight=0"],
        "minus diff": ["diff_weight=0"],
        "minus recon": ["recon_weight=0"],
        "minus conflict": ["conflict_weight=0"],
        "tied": ["collectors=tied"],
        "private": ["collectors=private"],
        "mean fusion": ["fusion=mean"],
    },
}


@click.command()
@click.option("--dataset", "dataset_name", default="digits", show_default=True, metavar="NAME")
@click.option("--method", default="misa", show_default=True, metavar="NAME")
@click.option(
    "--task",
    metavar="2|3|7|regression",
    help="What is predicted of a set of scores.  [default: regression for misa, else 3]",
)
@click.option("--runs", default=10, show_default=True, metavar="R", help="Runs per row.")
@click.option("--seed", default=0, show_default=True, metavar="S", help="Run r uses seed S + r.")
@click.option("--epochs", type=int, metavar="E", help="Passes over the train rows.")
@click.option("--set", "options", multiple=True, metavar="KEY=VALUE", help="In every row.")
@click.option("--rows", metavar="A[,B]", help="These rows of the table only, beside the first.")
@click.option("--only-views", is_flag=True, help="Add a row for each view alone.")
@click.option("--jobs", type=int, metavar="J", help="Worker processes.  [default: all cores]")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep a JSON record per run and the table here; runs that are here are not repeated.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder to look in for data files first.",
)
@click.pass_context
def ablate(
    ctx: click.Context,
    dataset_name: str,
    method: str,
    task: str | None,
    runs: int,
    seed: int,
    epochs: int | None,
    options: tuple[str, ...],
    rows: str | None,
    only_views: bool,
    jobs: int | None,
    out: Path | None,
    data_dir: Path | None,
) -> None:
    """Run a method whole and without each part; show every measure and paired differences.

    The rows are those of MISA's Table 4: without each view, without each loss term, without
    subspaces (base), with shared codes only (inv), and with only private or only shared codes
    fused (sFusion, iFusion); for rcml-misa its own parts.
    """
    from rcml_misa.cli.sentiment import load_for_task, show_measures
    from rcml_misa.cli.session import check_numbers, in_order, run_session
    from rcml_misa.datasets import find_entry
    from rcml_misa.exceptions import OptionError, nearest
    from rcml_misa.results import RunStore
    from rcml_misa.runs import plan_tasks, split_known

    check_numbers(runs=(runs, 1), seed=(seed, 0), jobs=(jobs, 1), epochs=(epochs, 1))
    if method not in PARTS:
        raise OptionError(f"method {method!r} has no table of parts; {nearest(method, PARTS)}")
    scores = find_entry(dataset_name).classes == 0
    if task is None and scores:
        task = "regression" if method == "misa" else "3"
    dataset = load_for_task(dataset_name, task, data_dir=data_dir)
    recipes = _recipes(
        method,
        dataset.views.names,
        options,
        epochs=epochs,
        regression=dataset.task == "regression",
        only_views=only_views,
    )
    if rows is not None:
        recipes = _chosen(recipes, [part.strip() for part in rows.split(",")])
    tasks = plan_tasks(recipes, datasets=1, runs=runs, seed=seed)
    known = [] if out is None else RunStore(out).read()
    kept, missing = split_known([dataset], tasks, known)
    session = run_session([dataset], missing, jobs=jobs, out=out)
    records = in_order([dataset], tasks, [*kept, *session.records])
    show_measures(dataset, records, out=out, seed=seed)
    ctx.exit(session.status)


def _recipes(
    method: str,
    views: Sequence[str],
    options: Sequence[str],
    *,
    epochs: int | None,
    regression: bool,
    only_views: bool,
) -> list[Recipe]:
    """The whole method, then a recipe per row of the table."""
    from rcml_misa.estimators.registry import recipe

    def row(name: str, extra: Sequence[str] = (), keep: tuple[str, ...] = ()) -> Recipe:
        made = recipe(method, options=[*options, *extra], epochs=epochs, regression=regression)
        return replace(made, variant=name, keep=keep)

    found = [row("whole")]
    if len(views) > 1:
        found += [
            row(f"minus {view}", keep=tuple(one for one in views if one != view)) for view in views
        ]
    found += [row(name, extra) for name, extra in PARTS[method].items()]
    if only_views and len(views) > 1:
        found += [row(f"only {view}", keep=(view,)) for view in views]
    return found


def _chosen(recipes: Sequence[Recipe], names: Sequence[str]) -> list[Recipe]:
    """The first recipe and those of some rows."""
    from rcml_misa.exceptions import OptionError, nearest

    known = [one.variant for one in recipes]
    for name in names:
        if name not in known:
            raise OptionError(f"the table has no row {name!r}; {nearest(name, known)}")
    return [one for place, one in enumerate(recipes) if place == 0 or one.variant in names]
