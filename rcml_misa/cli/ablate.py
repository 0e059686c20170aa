"""The command `ablate`: a method without each of its parts, in runs paired by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.run import protocol_text, show_results
from rcml_misa.cli.session import run_session
from rcml_misa.exceptions import OptionError, nearest

if TYPE_CHECKING:
    from rcml_misa.estimators.registry import Recipe

__all__ = ["ablate"]

_TERMS = {f"minus {term}": [f"{term}_weight=0"] for term in ("sim", "diff", "recon")}
#: Method -> name of a row to the options that take the part away.
PARTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "misa": {
        **_TERMS,
        "base": ["variant=base"],
        "inv": ["variant=inv"],
        "sFusion": ["variant=sFusion"],
        "iFusion": ["variant=iFusion"],
    },
    "rcml-misa": {
        **_TERMS,
        "minus conflict": ["conflict_weight=0"],
        "tied": ["collectors=tied"],
        "private": ["collectors=private"],
        "mean fusion": ["fusion=mean"],
    },
}


@click.command()
@opt.dataset_option
@opt.data_options("file", "task", "folder")
@opt.value("--method", "|".join(PARTS), default="misa")
@opt.method_options
@opt.repeats_options
@opt.workers_options
@opt.value("--rows", "A[,B]", "These rows of the table only, beside the first.")
@opt.flag("--only-views", "Add a row for each view alone.")
@opt.keeping_options("Write the table here, and a JSON record per run.")
@click.pass_context
def ablate(
    ctx: click.Context,
    name: str,
    data: opt.DataOptions,
    method: str,
    settings: opt.MethodOptions,
    repeats: opt.Repeats,
    workers: opt.Workers,
    rows: str | None,
    only_views: bool,
    keeping: opt.Keeping,
) -> None:
    """Run a method whole and without each part; show every measure and paired differences.

    The rows are those of MISA's Table 4: without each view, without each loss term, without
    subspaces (base), with shared codes only (inv), and with only private or only shared codes
    fused (sFusion, iFusion); for rcml-misa its own parts. A set of scores is predicted as scores
    by misa, in three classes by rcml-misa, unless --task says otherwise.
    """
    from rcml_misa.datasets import find_entry
    from rcml_misa.datasets.files import is_own_file
    from rcml_misa.protocols import Protocol

    if method not in PARTS:
        raise OptionError(f"method {method!r} has no table of parts; {nearest(method, PARTS)}")
    has_scores = not is_own_file(name) and find_entry(name).classes == 0
    if data.task is None and has_scores and method == "misa":
        data = replace(data, task="regression")
    dataset = data.load(name)
    recipes = _recipes(
        method,
        dataset.views.names,
        settings,
        regression=dataset.task == "regression",
        only_views=only_views,
    )
    if rows is not None:
        chosen, variants = opt.words(rows), [recipe.variant for recipe in recipes]
        for row in chosen:
            if row not in variants:
                raise OptionError(f"the table has no row {row!r}; {nearest(row, variants)}")
        recipes = [recipes[0], *(made for made in recipes[1:] if made.variant in chosen)]
    session = run_session([dataset], recipes, repeats, workers=workers, keeping=keeping)
    heading = protocol_text(dataset, Protocol())
    show_results(dataset, session, repeats, heading=heading, keeping=keeping, measures_alone=True)
    ctx.exit(session.status)


def _recipes(
    method: str,
    views: Sequence[str],
    settings: opt.MethodOptions,
    *,
    regression: bool,
    only_views: bool,
) -> list[Recipe]:
    """Configure the whole method, then a recipe per row of the table."""

    def row(name: str, more: Sequence[str] = (), keep: tuple[str, ...] = ()) -> Recipe:
        made = settings.recipe(method, more=more, regression=regression)
        return replace(made, variant=name, keep=keep)

    recipes = [row("whole")]
    if len(views) > 1:
        others = {view: tuple(name for name in views if name != view) for view in views}
        recipes += [row(f"minus {view}", keep=rest) for view, rest in others.items()]
    recipes += [row(name, more) for name, more in PARTS[method].items()]
    if only_views and len(views) > 1:
        recipes += [row(f"only {view}", keep=(view,)) for view in views]
    return recipes
