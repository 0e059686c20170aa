"""A comparison as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.comparison import by_dataset, by_variant, rankings
from rcml_misa.reporting.published import published_figures
from rcml_misa.results import RunRecord, compare, mean_scores, plain, summarise

__all__ = ["comparison_json"]


def comparison_json(records: Sequence[RunRecord], *, how: str) -> dict[str, Any]:
    """Results, paired comparisons, ranks and, apart from them, published figures.

    Accuracies are fractions; published ones are in percent, as published. NaN is null.
    """
    pairs, scores = [], []
    for dataset, some in by_dataset(records).items():
        groups = by_variant(some)
        for label, group in groups.items():
            scores += [
                {
                    "dataset": dataset,
                    "method": label,
                    "test_set": test_set,
                    "task": task,
                    "scores": mean_scores(group, test_set=test_set, task=task),
                }
                for test_set, tasks in group[0].scores.items()
                for task in tasks
            ]
        first, *others = groups.values()
        for other in others:
            for test_set in ("clean", "conflict"):
                try:
                    pairs.append(compare(first, other, test_set=test_set).as_dict())
                except DataError:
                    continue  # no run in common on that test set
    ranks = {name: asdict(one) for name, one in rankings(records).items()}
    found: dict[str, Any] = plain(
        {
            "how": how,
            "versions": records[0].versions,
            "protocol": records[0].protocol,
            "results": [row.as_dict() for row in summarise(records)],
            "comparisons": pairs,
            "uncertainty": scores,
            "ranks": ranks,
            "published": [
                asdict(one)
                for name in by_dataset(records)
                for one in published_figures(dataset=name)
            ],
        }
    )
    return found
