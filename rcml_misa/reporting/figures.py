"""Figures of runs, in one look, from their records and the arrays beside them.

Losses, subspaces, attention, conflict, uncertainty and calibration of one variant; critical
differences and risk against coverage of a comparison. They need the extra `plot`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.datasets import find_entry
from rcml_misa.exceptions import DataError, OptionError, nearest, shortened
from rcml_misa.metrics.answers import COVERAGES
from rcml_misa.opinions import pairwise_conflict
from rcml_misa.reporting import panels
from rcml_misa.reporting.audit import COVERED, SHARES, pooled_coverage
from rcml_misa.reporting.comparison import rankings
from rcml_misa.reporting.style import (
    check_name,
    has_matplotlib,
    in_style,
    need_matplotlib,
    new_figure,
    save,
)
from rcml_misa.reporting.tables import by_dataset, by_label, by_variant
from rcml_misa.results import (
    Ranking,
    RunRecord,
    alike_groups,
    read_folder,
    read_record,
    summarise,
)
from rcml_misa.runs.tasks import Kept, kept_path, read_kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "FIGURES",
    "Runs",
    "check_name",
    "draw",
    "draw_all",
    "draw_audit",
    "find_runs",
    "in_style",
    "save",
]

PARTS = ("clean", "conflict")
STEP = 0.32  # inches between two names of a diagram of ranks
CURVES = 8  # methods in one figure of risk

Key = tuple[str, str, str]  # data set, method, variant


@dataclass(frozen=True)
class Runs:
    """The runs of one variant on one data set, by seed, and where their records are."""

    records: tuple[RunRecord, ...]
    paths: tuple[Path, ...]

    @property
    def label(self) -> str:
        """Method and variant."""
        return self.records[0].label

    @property
    def title(self) -> str:
        """Name the panel by whether the regularisers were on, else by method and variant."""
        config = self.records[0].config
        weights = [config.get(f"{name}_weight") for name in ("sim", "diff", "recon")]
        if all(weight is None for weight in weights):
            return self.label
        return "with regularisers" if any(weights) else "without regularisers"

    def contents(self) -> list[Kept]:
        """Read what each run kept for figures."""
        return [read_kept(kept_path(path)) for path in self.paths]


def find_runs(path: Path, *, variant: str | None = None) -> Runs:
    """Read a run's JSON, or the records of one variant in the folder given as ``--out``.

    A folder with several gives the named variant or method, by default the recommended one. Where
    it holds several settings of that with one seed, it is an `OptionError`, and one record is to
    be given.
    """
    groups: dict[Key, list[tuple[RunRecord, Path]]] = {}
    for file, record in _records_at(path).items():
        key = (record.dataset, record.method, record.variant)
        groups.setdefault(key, []).append((record, file))
    chosen = _choose(path, groups, variant)
    records, paths = zip(*sorted(groups[chosen], key=lambda pair: pair[0].seed), strict=True)
    for (first, second), other in zip(pairwise(records), paths[1:], strict=True):
        if first.seed == second.seed:
            raise OptionError(
                f"{shortened(path)} holds {first.label} with seed {first.seed} in several "
                f"settings; give one record, such as {other.name}."
            )
    return Runs(records, paths)


def _records_at(path: Path) -> dict[Path, RunRecord]:
    """Read a record, or those of a folder and of the folder ``records`` in it."""
    if path.is_file():
        try:
            return {path: read_record(path)}
        except DataError as error:
            raise DataError(f"{path} can't be read as a record ({error}).") from error
    records = read_folder(path) | read_folder(path / "records")
    if not records:
        raise DataError(
            f"{path} holds no record of a run; give a record or the folder of `run --out DIR`."
        )
    return records


def _choose(
    path: Path, groups: Mapping[Key, Sequence[tuple[RunRecord, Path]]], variant: str | None
) -> Key:
    """Choose one group of a folder's records."""
    names = {key: runs[0][0].label for key, runs in groups.items()}
    if variant is not None:
        matching = [key for key, name in names.items() if variant in (*key[1:], name)]
        if len(matching) == 1:
            return matching[0]
        if not matching:
            way = nearest(variant, {*names.values(), *(key[2] for key in names)})
            raise OptionError(f"{path} has no runs of {variant}; {way}")
        names = {key: names[key] for key in matching}
    recommended = [key for key in names if groups[key][0][0].default]
    chosen = recommended if len(recommended) == 1 else list(names)
    if len(chosen) > 1:
        kinds = ", ".join(f"{name} on {key[0]}" for key, name in names.items())
        raise OptionError(f"{path} holds several kinds of runs ({kinds}); choose with --variant.")
    return chosen[0]


def _array(content: Kept, name: str, what: str) -> NDArray[Any]:
    if name not in content.arrays:
        raise DataError(f"the run did not keep its {what}; run it again with --keep {what}.")
    return content.arrays[name]


def _subspaces(variants: Sequence[Runs]) -> Figure:
    drawn: dict[str, panels.Codes] = {}
    for runs in variants:
        first = runs.contents()[0]
        codes = panels.Codes(*(_array(first, kind, "codes") for kind in ("private", "shared")))
        title = runs.title if len(variants) > 1 else ""
        drawn[runs.label if title in drawn else title] = codes
    if len(drawn) < len(variants):
        raise OptionError("two of these runs are the same variant; compare different ones.")
    return panels.subspace_figure(drawn, first.views, order=_order(variants[0]))


def _order(runs: Runs) -> tuple[str, ...]:
    """Name all views of the data set, if it is listed: colours must not depend on the run."""
    dataset = runs.records[0].dataset
    for name in (dataset, dataset.rpartition("-")[0]):  # a record may name the task after the set
        try:
            return tuple(find_entry(name).views)
        except (OptionError, DataError):
            continue
    return ()


def _attention(runs: Runs) -> Figure:
    contents = runs.contents()
    maps = [_array(content, "attention", "attention") for content in contents]
    views = contents[0].views
    if maps[0].shape[-1] != 2 * len(views):
        raise DataError(
            f"this variant fuses {maps[0].shape[-1]} tokens of {len(views)} views; the attention "
            "figure is of private and shared ones."
        )
    return panels.attention_figure(np.mean([weights[0] for weights in maps], axis=0), views)


def _conflict(runs: Runs) -> Figure:
    contents = runs.contents()
    tables = {
        part: np.mean([_pairwise(content, part) for content in contents], axis=0)
        for part in PARTS
        if all(f"{part}.views" in content.arrays for content in contents)
    }
    if not tables:
        raise DataError(
            "the runs kept no opinions of their views; run a method that has some with --keep "
            "opinions."
        )
    return panels.conflict_figure(tables, contents[0].views)


def _pairwise(content: Kept, part: str) -> NDArray[np.float64]:
    """Average the degree of conflict of each pair; on the copy, over rows with a replaced view."""
    evidence = content.arrays[f"{part}.views"]
    if part == "conflict" and "replaced" in content.arrays:
        evidence = evidence[content.arrays["replaced"]]
    return pairwise_conflict(torch.from_numpy(evidence).double()).mean(dim=0).numpy()


def _uncertainty(runs: Runs) -> Figure:
    pairs = []
    for content in runs.contents():
        rows = _array(content, "replaced", "opinions")
        clean, copy = (_array(content, f"{part}.uncertainty", "opinions")[rows] for part in PARTS)
        pairs.append((clean, copy))
    return panels.uncertainty_figure(pairs)


def _calibration(runs: Runs) -> Figure:
    parts = [part for part in PARTS if all(part in record.bins for record in runs.records)]
    if not parts:
        raise DataError("these runs predicted scores, not classes; they have no calibration.")
    bins = {
        part: {
            name: np.sum([record.bins[part][name] for record in runs.records], axis=0)
            for name in ("count", "confidence", "correct")
        }
        for part in parts
    }
    # reliability stands in the records; risk over coverage needs what the runs kept
    contents = runs.contents() if all(kept_path(path).is_file() for path in runs.paths) else []
    complete = all(f"{part}.right" in content.arrays for part in parts for content in contents)
    curves = {
        part: [
            (content.arrays[f"{part}.uncertainty"], content.arrays[f"{part}.right"])
            for content in contents
        ]
        for part in parts
        if contents and complete
    }
    return panels.calibration_figure(bins, curves)


#: Figure of one variant's runs, by name.
ALONE: dict[str, Callable[[Runs], Figure]] = {
    "losses": lambda runs: panels.loss_figure([record.history for record in runs.records]),
    "attention": _attention,
    "conflict": _conflict,
    "uncertainty": _uncertainty,
    "calibration": _calibration,
}
FIGURES = ("losses", "subspaces", "attention", "conflict", "uncertainty", "calibration")


def draw(what: str, runs: Sequence[Runs]) -> Figure:
    """Draw a figure of one variant's runs, or, for ``"subspaces"``, of several variants."""
    if what not in FIGURES:
        raise OptionError(f"there is no figure {what!r}; {nearest(what, FIGURES)}")
    if what == "subspaces":
        return _subspaces(runs)
    if len(runs) > 1:
        raise OptionError(f"{what} is drawn for one variant; leave --against out.")
    return ALONE[what](runs[0])


def draw_critical_difference(ranking: Ranking, path: Path, *, title: str = "") -> Path:
    """Draw mean ranks on a line; bars join methods that Nemenyi's test does not tell apart.

    Source: Demsar, JMLR 7, 2006, figure 1.
    """
    count = len(ranking.methods)
    half = -(-count // 2)
    groups = alike_groups(ranking.mean_ranks, ranking.critical_difference)
    top = 1.2 + 0.25 * len(groups)  # where names begin, below the bars
    depth = top + half
    need_matplotlib()
    figure, (axes,) = new_figure(width=8.0, height=STEP * (depth + 2.5))
    axes.set_xlim(count + 0.5, 0.5)  # the best on the right, as Demsar draws it
    axes.set_ylim(depth + 0.5, -2.2)
    axes.axis("off")
    axes.plot([1, count], [0, 0], color="black", linewidth=1)
    for rank in range(1, count + 1):
        axes.plot([rank, rank], [-0.15, 0], color="black", linewidth=1)
        if count <= 15 or rank % 2:
            axes.text(rank, -0.3, str(rank), ha="center", va="bottom", fontsize=8)
    critical = min(ranking.critical_difference, count - 1)
    axes.plot([1, 1 + critical], [-1.4, -1.4], color="black", linewidth=2)
    words = f"critical difference {ranking.critical_difference:.2f}"
    axes.text(1 + critical / 2, -1.5, words, ha="center", va="bottom", fontsize=8)
    for place, (first, last) in enumerate(groups):
        height = 0.5 + 0.25 * place
        ends = (ranking.mean_ranks[first] - 0.08, ranking.mean_ranks[last] + 0.08)
        axes.plot(ends, [height, height], color="black", linewidth=3, solid_capstyle="butt")
    named = zip(ranking.methods, ranking.mean_ranks, strict=True)
    for number, (name, mean) in enumerate(named):
        best = number < half
        y = top + (number if best else count - 1 - number)
        edge = 0.5 if best else count + 0.5
        axes.plot([mean, mean, edge], [0, y, y], color="grey", linewidth=0.8)
        axes.annotate(
            f"{name} {mean:.2f}",
            (edge, y),
            xytext=(4 if best else -4, 0),
            textcoords="offset points",
            ha="left" if best else "right",
            va="center",
            fontsize=8,
            annotation_clip=False,
        )
    if title:
        axes.set_title(title, fontsize=9)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    return path


def _risk_curves(records: Sequence[RunRecord]) -> dict[str, NDArray[np.float64]]:
    """Mean risk in percent of the methods whose runs all have it: no scores, nor 0.1's splits."""
    return {
        label: 100 * np.mean([record.curves["clean"] for record in group], axis=0)
        for label, group in by_variant(records).items()
        if all("clean" in record.curves for record in group)
    }


def draw_risk_coverage(dataset: str, records: Sequence[RunRecord], path: Path) -> Path:
    """Draw the error among the least uncertain rows against their share, means over runs.

    The first method and the seven of the least area are drawn, of those with the curve in all
    their records; a `DataError` where there are none.
    """
    curves = _risk_curves(records)
    if not curves:
        raise DataError(
            f"the records of {dataset} have no curve of risk over coverage; classes have one in "
            "records of version 0.2 and later."
        )
    first, *others = curves
    need_matplotlib()
    figure, (axes,) = new_figure(width=5.5, height=4.0)
    for label in [first, *sorted(others, key=lambda name: float(curves[name].mean()))][:CURVES]:
        axes.plot(COVERAGES, curves[label], label=label, linewidth=1.2)
    axes.set_xlabel("share of rows answered, the least uncertain first")
    axes.set_ylabel("error among them, %")
    axes.set_title(f"{dataset}, clean rows", fontsize=9)
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=150)
    return path


def draw_all(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draw every figure that the records have something for; none without matplotlib."""
    if not has_matplotlib():
        return []
    drawn = [
        draw_critical_difference(
            ranking, folder / f"ranks-{test_set}.png", title=f"mean ranks, {test_set} rows"
        )
        for test_set, ranking in rankings(records).items()
    ]
    return drawn + [
        draw_risk_coverage(dataset, some, folder / f"risk-{dataset}.png")
        for dataset, some in by_dataset(records).items()
        if _risk_curves(some)
    ]


def draw_audit(records: Sequence[RunRecord], folder: Path) -> list[Path]:
    """Draw vacuity against train rows, and coverage by condition, of one data set's audits.

    ``audit-vacuity.svg`` and ``audit-coverage.svg``, as far as the records have their parts; none
    without matplotlib.
    """
    if not has_matplotlib():
        return []
    methods = by_label(summarise(records))
    lines: dict[str, panels.Line] = {}
    covered: dict[str, list[float]] = {}
    for label, conditions in methods.items():
        rows = [conditions[f"rows:{share}"] for share in SHARES if f"rows:{share}" in conditions]
        if rows:
            means = [row.measures for row in rows]
            lines[label] = [(mean["rows"], mean["uncertainty"]) for mean in means]
            if all("mutual_information" in mean for mean in means):
                spread = [(mean["rows"], mean["mutual_information"]) for mean in means]
                lines[f"{label}{panels.SPREAD}"] = spread
        values = [pooled_coverage(conditions, "all", name)[0] for name in COVERED]
        if not np.isnan(values).all():
            covered[label] = values
    drawn = []
    with in_style():
        if lines:
            drawn.append(folder / "audit-vacuity.svg")
            save(panels.vacuity_figure(lines), drawn[-1])
        if covered:
            drawn.append(folder / "audit-coverage.svg")
            save(panels.coverage_figure(covered, COVERED), drawn[-1])
    return drawn
