"""Methods by runs by data sets: those that are done are kept, the others run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rcml_misa.cli.session import Session
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol

__all__ = ["run_grid"]


def run_grid(
    datasets: Sequence[Dataset],
    recipes: Sequence[Recipe],
    *,
    runs: int,
    seed: int,
    protocol: Protocol,
    records: Path | None,
    jobs: int | None,
    cells: bool = False,
) -> Session:
    """Run what `records` does not hold yet; the session has all records in the grid's order.

    Parameters
    ----------
    datasets : sequence of Dataset
    recipes : sequence of Recipe
    runs, seed : int
    protocol : Protocol
    records : Path or None
        Folder of records to resume from and to write to.
    jobs : int or None
        Worker processes; all cores by default.
    cells : bool
        Whether a line on stderr tells of each method that is done with a data set.
    """
    from rcml_misa.cli.session import in_order, run_session
    from rcml_misa.results import RunStore
    from rcml_misa.runs import plan_tasks, split_known
    from rcml_misa.views import check_target

    for data in datasets:
        if data.task == "classification":
            check_target(data.target, data.classes)
    tasks = plan_tasks(recipes, datasets=len(datasets), runs=runs, seed=seed, protocol=protocol)
    known = [] if records is None else RunStore(records).read()
    kept, missing = split_known(datasets, tasks, known)
    session = run_session(datasets, missing, jobs=jobs, out=records, cells=cells)
    session.records = in_order(datasets, tasks, [*kept, *session.records])
    return session
