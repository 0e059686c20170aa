"""Tables of accuracies between epochs, and which of them are nearest to somebody's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rcml_misa.reporting.blocks import Block
from rcml_misa.reporting.comparison import by_variant
from rcml_misa.reporting.tables import name_of_set, percent
from rcml_misa.results import LEAKS, RunRecord

__all__ = ["checkpoint_blocks"]

LAST = "last"  # the epoch that counts
NEAREST = 12  # settings that are listed


def _means(records: Sequence[RunRecord]) -> dict[tuple[str, str], float]:
    """Mean accuracy over runs by epoch and test set."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records:
        marks: dict[str, Mapping[str, float]] = dict(record.checkpoints)
        marks[LAST] = {name: one["accuracy"] for name, one in record.metrics.items()}
        for epoch, scored in marks.items():
            for name, value in scored.items():
                found.setdefault((epoch, name), []).append(value)
    return {key: float(np.mean(values)) for key, values in found.items()}


def checkpoint_blocks(
    dataset: str, records: Sequence[RunRecord], told: Mapping[str, tuple[str, float | None]]
) -> list[Block]:
    """Accuracy at each checkpoint, and the settings nearest to the figures that were told.

    Parameters
    ----------
    dataset : str
    records : sequence of RunRecord
        Of this data set.
    told : mapping of label to (setting, figure)
        What a row's grid set, and the accuracy, a fraction, that it is to be compared with.

    Returns
    -------
    list of Block
        Empty where no record has checkpoints.
    """
    if not any(record.checkpoints for record in records):
        return []
    means = {
        label.removesuffix(f" {LEAKS}"): _means(group)
        for label, group in by_variant(records).items()
    }
    epochs = sorted({e for one in means.values() for e, _ in one if e != LAST}, key=int)
    sets = list(dict.fromkeys(name for one in means.values() for _, name in one))
    table = _table(dataset, means, [*epochs, LAST], sets, told)
    nearest = _nearest(dataset, means, told)
    return [table] if nearest is None else [table, nearest]


def _table(
    dataset: str,
    means: Mapping[str, Mapping[tuple[str, str], float]],
    epochs: Sequence[str],
    sets: Sequence[str],
    told: Mapping[str, tuple[str, float | None]],
) -> Block:
    body = []
    for label, found in means.items():
        figure = told.get(label, ("", None))[1]
        cells = [
            " / ".join(percent(found.get((epoch, name), math.nan), 1) for name in sets)
            for epoch in epochs
        ]
        body.append([label, "-" if figure is None else percent(figure), *cells])
    words = " / ".join(map(name_of_set, sets))
    header = [
        "method",
        "told %",
        *(f"epoch {epoch}" if epoch != LAST else LAST for epoch in epochs),
    ]
    return Block(f"{dataset}: {words} accuracy between epochs, %", header, body)


def _nearest(
    dataset: str,
    means: Mapping[str, Mapping[tuple[str, str], float]],
    told: Mapping[str, tuple[str, float | None]],
) -> Block | None:
    """Settings by the mean distance of their rows to the figures that were told."""
    gaps: dict[tuple[str, str, str], list[float]] = {}
    values: dict[tuple[str, str, str], list[float]] = {}
    for label, found in means.items():
        setting, figure = told.get(label, ("", None))
        if figure is None or not setting:
            continue
        for (epoch, name), value in found.items():
            gaps.setdefault((setting, epoch, name), []).append(abs(value - figure))
            values.setdefault((setting, epoch, name), []).append(value)
    if not gaps:
        return None
    order = sorted(gaps, key=lambda key: float(np.mean(gaps[key])))
    body = [
        [
            f"{setting}, epoch {epoch}, {name_of_set(name)} rows",
            percent(float(np.mean(gaps[setting, epoch, name]))),
            " ".join(percent(value) for value in values[setting, epoch, name]),
        ]
        for setting, epoch, name in order[:NEAREST]
    ]
    figures = " ".join(
        percent(figure) for setting, figure in told.values() if figure is not None and setting
    )
    unique = " ".join(dict.fromkeys(figures.split()))
    return Block(
        f"{dataset}: the settings nearest to what was told",
        ["setting", "mean distance, points", "rows %"],
        body,
        [f"told: {unique} %"],
    )
