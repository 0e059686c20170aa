"""The Markdown page of an experiment, made of its run records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rcml_misa.reporting.blocks import Block, render
from rcml_misa.reporting.checkpoints import checkpoint_blocks
from rcml_misa.reporting.comparison import (
    by_dataset,
    dataset_blocks,
    published_block,
    summary_blocks,
)
from rcml_misa.reporting.published import published_figures
from rcml_misa.reporting.tables import LEAK_NOTE
from rcml_misa.reporting.uncertainty import robustness_blocks, uncertainty_blocks
from rcml_misa.results import RunRecord, summarise

__all__ = ["experiment_blocks", "experiment_markdown"]


def _overview(records: Sequence[RunRecord]) -> Block:
    rows = summarise(records)
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    means = {(row.dataset, row.label, row.test_set): row.mean for row in rows}
    body = []
    for label in dict.fromkeys(row.label for row in rows):
        cells = []
        for dataset in datasets:
            pair = [means.get((dataset, label, name)) for name in ("clean", "conflict")]
            cells.append(" / ".join("-" if x is None else f"{100 * x:.2f}" for x in pair))
        body.append([label, *cells])
    notes = [LEAK_NOTE] if any(row.leaky for row in rows) else []
    return Block("Overview", ["clean / conflictive %", *datasets], body, notes, level=2)


def experiment_blocks(
    records: Sequence[RunRecord],
    *,
    told: Mapping[str, tuple[str, float | None]] | None = None,
    uncertainty: bool = True,
) -> list[Block]:
    """Every table that the records have something for.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; the first record's method is compared with each other one.
    told : mapping of label to (setting, figure), optional
        See `checkpoint_blocks`.
    uncertainty : bool
        Whether the tables of measures and uncertainty scores are among them.
    """
    blocks = [_overview(records), *summary_blocks(records)]
    groups = by_dataset(records)
    for dataset, some in groups.items():
        blocks += [*dataset_blocks(dataset, some), *robustness_blocks(dataset, some)]
        blocks += checkpoint_blocks(dataset, some, told or {})
        if uncertainty:
            blocks += uncertainty_blocks(dataset, some)
    if any(published_figures(dataset=name) for name in groups):
        blocks.append(published_block(list(groups)))
    return blocks


def experiment_markdown(
    records: Sequence[RunRecord],
    *,
    title: str,
    command: str,
    how: str = "random 80/20 splits",
    told: Mapping[str, tuple[str, float | None]] | None = None,
) -> str:
    """Write the page.

    Parameters
    ----------
    records : sequence of RunRecord
        At least one; the first record's method is compared with each other one.
    title : str
    command : str
        The experiment's file, for the command that regenerates the page.
    how : str
        The protocol, in words.
    told : mapping of label to (setting, figure), optional
        See `checkpoint_blocks`.

    Returns
    -------
    str
        Markdown whose tables are fixed-width blocks.
    """
    versions = ", ".join(f"{name} {number}" for name, number in records[0].versions.items())
    seeds = sorted({record.seed for record in records})
    lines = [
        f"# {title}",
        "",
        f"Regenerate with `rcml-misa experiment {command}`. Seeds {seeds[0]} to {seeds[-1]}, "
        f"{how}, shared by all methods; means over runs, population standard deviation. "
        "Seconds aside, the same file gives the same page.",
        "",
        f"Measured with {versions}.",
    ]
    for block in experiment_blocks(records, told=told):
        heading, body = block.title, render([block], "text").split("\n", 1)[1]
        lines += ["", f"{'#' * block.level} {heading}", "", "```", body, "```"]
    return "\n".join(lines) + "\n"
