"""Tables of a comparison: methods on each data set, paired tests, ranks, published figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from rcml_misa.exceptions import DataError
from rcml_misa.reporting.blocks import Block
from rcml_misa.reporting.published import published_figures
from rcml_misa.reporting.tables import (
    LEAK_NOTE,
    label_of,
    name_of_set,
    number,
    p_value,
    percent,
)
from rcml_misa.results import (
    Ranking,
    RunRecord,
    SummaryRow,
    compare,
    holm,
    mcnemar,
    rank_methods,
    summarise,
)

__all__ = [
    "by_dataset",
    "by_variant",
    "dataset_block",
    "dataset_blocks",
    "paired_block",
    "published_block",
    "rank_block",
    "rankings",
    "rows_by_label",
    "summary_blocks",
    "winners_block",
]


def by_dataset(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records of each data set, in the order of first appearance."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(record.dataset, []).append(record)
    return found


def by_variant(records: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Records of each variant, by its label, in the order of first appearance."""
    found: dict[str, list[RunRecord]] = {}
    for record in records:
        found.setdefault(record.label, []).append(record)
    return found


def rows_by_label(records: Sequence[RunRecord]) -> dict[str, dict[str, SummaryRow]]:
    """Summary rows of one data set: label to test set to row."""
    found: dict[str, dict[str, SummaryRow]] = {}
    for row in summarise(records):
        found.setdefault(row.label, {})[row.test_set] = row
    return found


def _accuracy(row: SummaryRow | None) -> str:
    return "-" if row is None else f"{percent(row.mean)} ± {percent(row.std)}"


def _measure(row: SummaryRow | None, name: str) -> float:
    return math.nan if row is None else row.measures.get(name, math.nan)


def dataset_block(dataset: str, records: Sequence[RunRecord]) -> Block:
    """Every method on one data set, with the published figures in a column of their own."""
    published = {
        one.method: one
        for one in published_figures(dataset=dataset)
        if one.method is not None and (one.clean or one.conflict)
    }
    body, leaky = [], False
    for rows in rows_by_label(records).values():
        clean, conflict = rows["clean"], rows.get("conflict")
        figure = published.get(clean.method)
        leaky = leaky or clean.leaky
        body.append(
            [
                label_of(clean),
                _accuracy(clean),
                _accuracy(conflict),
                percent(_measure(clean, "pooled_ece"), 1),
                percent(_measure(clean, "aurc")),
                percent(_measure(conflict, "conflict_fpr95"), 1),
                f"{clean.seconds_per_run:.1f}",
                "-" if figure is None else figure.accuracies,
            ]
        )
    header = ["method", "clean %", "conflictive %", "ECE %", "AURC %", "FPR95 %", "s/run"]
    notes = [
        "mean ± population standard deviation over runs; ECE over the clean rows of all runs; "
        "FPR95: clean rows taken for conflictive where 95 % of those are told; published: clean / "
        "conflictive % as the method's paper or a peer's has it, not measured here",
    ]
    every = [*notes, LEAK_NOTE] if leaky else notes
    return Block(dataset, [*header, "published"], body, every, level=2)


def published_block(datasets: Sequence[str]) -> Block:
    """What papers say of these data sets, none of it measured here."""
    body, sources = [], []
    for one in (figure for name in datasets for figure in published_figures(dataset=name)):
        if one.source not in sources:
            sources.append(one.source)
        spread = " / ".join(
            "-" if x is None else f"{x:.2f}" for x in (one.clean_spread, one.conflict_spread)
        )
        fpr95 = "-" if one.conflict_fpr95 is None else f"{one.conflict_fpr95:.1f}"
        place = f"[{sources.index(one.source) + 1}]"
        body.append([one.name, one.dataset, one.accuracies, spread, fpr95, place])
    header = ["published", "data set", "clean / conflictive %", "spread", "FPR95 %", "source"]
    notes = [f"[{place}] {source}" for place, source in enumerate(sources, 1)]
    return Block("Published figures, not measured here", header, body, notes, level=2)


def paired_block(dataset: str, records: Sequence[RunRecord], *, test_set: str) -> Block | None:
    """The first method against each other one; None where nothing can be paired."""
    groups = by_variant(records)
    (name, first), *others = groups.items()
    pairs = []
    for _, other in others:
        try:
            pairs.append((compare(first, other, test_set=test_set), other))
        except DataError:
            continue  # a test set that one of the two could not answer about
    if not pairs:
        return None
    corrected = holm([one.p_wilcoxon for one, _ in pairs])
    body = [
        [
            one.second,
            f"{100 * one.difference:+z.2f}",
            "-" if math.isnan(one.low) else f"[{100 * one.low:+z.2f}, {100 * one.high:+z.2f}]",
            p_value(one.p),
            p_value(p),
            f"{one.wins}/{one.losses}",
            _mcnemar(first, other, test_set),
        ]
        for (one, other), p in zip(pairs, corrected, strict=True)
    ]
    header = [f"{name} minus", "points", "95 % interval", "t p", "Wilcoxon p (Holm)", "+/-"]
    return Block(
        f"{dataset}, {name_of_set(test_set)} rows: paired differences",
        [*header, "McNemar p"],
        body,
        [
            "interval and t p: Nadeau and Bengio's, for overlapping train sets; +/-: runs won and "
            "lost; McNemar: exact, where no test row counts twice",
        ],
    )


def _mcnemar(first: Sequence[RunRecord], other: Sequence[RunRecord], test_set: str) -> str:
    try:
        return p_value(mcnemar(first, other, test_set=test_set).p)
    except DataError:
        return "-"


def figures_of(
    records: Sequence[RunRecord], *, test_set: str, measure: str = "accuracy"
) -> dict[str, dict[str, float]]:
    """Data set to label to the mean of a measure over runs."""
    found: dict[str, dict[str, float]] = {}
    for row in summarise(records):
        if row.test_set == test_set:
            value = row.mean if measure == "accuracy" else row.measures.get(measure, math.nan)
            found.setdefault(row.dataset, {})[row.label] = value
    return found


def rankings(records: Sequence[RunRecord]) -> dict[str, Ranking]:
    """Ranks over data sets on clean and conflictive rows; none for fewer than two data sets."""
    found = {}
    for test_set in ("clean", "conflict"):
        figures = figures_of(records, test_set=test_set)
        if len(figures) > 1:
            try:
                found[test_set] = rank_methods(figures)
            except DataError:
                continue  # fewer than two methods on all data sets
    return found


def rank_block(ranked: Mapping[str, Ranking]) -> Block:
    """Mean ranks over data sets on each test set."""
    names = list(next(iter(ranked.values())).methods)
    places = {
        test_set: dict(zip(one.methods, one.mean_ranks, strict=True))
        for test_set, one in ranked.items()
    }
    body = [
        [name, *(number(places[test_set].get(name, math.nan), 2) for test_set in ranked)]
        for name in names
    ]
    notes = []
    for test_set, one in ranked.items():
        notes.append(
            f"{name_of_set(test_set)}: {len(one.datasets)} data sets, {len(one.methods)} "
            f"methods; Friedman p {p_value(one.p_friedman)} (Iman-Davenport "
            f"{p_value(one.p_iman_davenport)}); Nemenyi's critical difference at 5 %: "
            f"{one.critical_difference:.2f} ranks"
        )
    header = ["mean rank", *(name_of_set(test_set) for test_set in ranked)]
    return Block("Ranks over the data sets", header, body, notes, level=2)


def winners_block(records: Sequence[RunRecord]) -> Block:
    """Which method has the highest mean on each data set, and how far the first one is from it."""
    body = []
    for dataset, some in by_dataset(records).items():
        groups = by_variant(some)
        first = next(iter(groups))
        line = [dataset]
        for test_set in ("clean", "conflict"):
            figures = figures_of(some, test_set=test_set).get(dataset, {})
            fair = {name: x for name, x in figures.items() if not groups[name][0].leaky}
            if not fair or first not in fair:
                line += ["-", "-", "-"]
                continue
            best = max(fair, key=lambda name: fair[name])
            gap = "-"
            if best != first:
                one = compare(groups[first], groups[best], test_set=test_set)
                gap = f"{100 * one.difference:+z.2f} (p {p_value(one.p)})"
            line += [best, percent(fair[best]), gap]
        body.append(line)
    header = ["data set"]
    for test_set in ("clean", "conflict"):
        name = name_of_set(test_set)
        header += [f"best, {name}", "%", "the first minus it"]
    notes = ["p: Nadeau and Bengio's corrected t; leaky runs can't win"]
    return Block("Who wins where", header, body, notes, level=2)


def summary_blocks(records: Sequence[RunRecord]) -> list[Block]:
    """Who wins where, and ranks over the data sets, where there is something to compare."""
    blocks = [winners_block(records)] if len(by_variant(records)) > 1 else []
    ranked = rankings(records)
    return [*blocks, rank_block(ranked)] if ranked else blocks


def dataset_blocks(dataset: str, records: Sequence[RunRecord]) -> list[Block]:
    """One data set's methods, and the first record's method against each other one."""
    paired = [paired_block(dataset, records, test_set=name) for name in ("clean", "conflict")]
    return [dataset_block(dataset, records), *(block for block in paired if block is not None)]
