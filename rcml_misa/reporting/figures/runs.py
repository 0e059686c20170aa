"""From the records of runs, and what they kept, to figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.datasets import find_entry
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.opinions import pairwise_conflict
from rcml_misa.reporting.figures.grids import attention_figure, conflict_figure
from rcml_misa.reporting.figures.losses import loss_figure
from rcml_misa.reporting.figures.subspaces import Codes, subspace_figure
from rcml_misa.reporting.figures.trust import (
    ConflictDoubt,
    RiskCurve,
    calibration_figure,
    uncertainty_figure,
)
from rcml_misa.results import RunRecord
from rcml_misa.runs.outputs import Kept, kept_path, read_kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Runs", "draw", "find_runs"]

PARTS = ("clean", "conflict")


class Key(NamedTuple):
    """What runs have in common."""

    dataset: str
    method: str
    variant: str


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
        """Whether the regularisers were on, else method and variant."""
        config = self.records[0].config
        weights = [config.get(f"{name}_weight") for name in ("sim", "diff", "recon")]
        if all(weight is None for weight in weights):
            return self.label
        return "with regularisers" if any(weights) else "without regularisers"

    def kept(self) -> list[Kept]:
        """What each run kept."""
        return [read_kept(kept_path(path)) for path in self.paths]


def find_runs(path: Path, *, variant: str | None = None) -> Runs:
    """Read a record, or all records of one variant in a folder.

    Parameters
    ----------
    path : Path
        A run's JSON, or the folder given as ``--out``.
    variant : str, optional
        Which one of a folder with several: the variant's name, or the method's; by default the
        recommended one.

    Raises
    ------
    DataError
        If there is no record, or it is damaged.
    OptionError
        If there is no such variant.
    """
    files = [path] if path.is_file() else sorted(path.glob("*-seed*.json"))
    if not files:
        raise DataError(
            f"{path} holds no record of a run; give a record or the folder of `run --out DIR`."
        )
    groups: dict[Key, list[tuple[int, RunRecord, Path]]] = {}
    for file in files:
        try:
            record = RunRecord.from_json(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(f"{file} can't be read as a record ({error}).") from error
        key = Key(record.dataset, record.method, record.variant)
        groups.setdefault(key, []).append((record.seed, record, file))
    chosen = _choose(path, groups, variant)
    ordered = sorted(groups[chosen], key=lambda one: one[0])
    return Runs(tuple(one[1] for one in ordered), tuple(one[2] for one in ordered))


def _choose(
    path: Path, groups: Mapping[Key, Sequence[tuple[int, RunRecord, Path]]], variant: str | None
) -> Key:
    """One group of a folder's records."""
    names = {key: runs[0][1].label for key, runs in groups.items()}
    if variant is not None:
        matching = [
            key for key, name in names.items() if variant in (key.method, key.variant, name)
        ]
        if len(matching) == 1:
            return matching[0]
        if not matching:
            known = nearest(variant, {*names.values(), *(key.variant for key in names)})
            raise OptionError(f"{path} has no runs of {variant}; {known}")
        names = {key: names[key] for key in matching}
    recommended = [key for key in names if groups[key][0][1].default]
    found = recommended if len(recommended) == 1 else list(names)
    if len(found) > 1:
        known = ", ".join(f"{name} on {key.dataset}" for key, name in names.items())
        raise OptionError(f"{path} holds several kinds of runs ({known}); choose with --variant.")
    return found[0]


def _array(kept: Kept, name: str, what: str) -> NDArray[Any]:
    if name not in kept.arrays:
        raise DataError(f"the run did not keep its {what}; run it again with --keep {what}.")
    return kept.arrays[name]


def _losses(runs: Sequence[Runs]) -> Figure:
    if len(runs) > 1:
        raise OptionError("losses are drawn for one variant; leave --against out.")
    return loss_figure([record.history for record in runs[0].records])


def _subspaces(runs: Sequence[Runs]) -> Figure:
    panels: dict[str, Codes] = {}
    for one in runs:
        first = one.kept()[0]
        codes = Codes(*(_array(first, kind, "codes") for kind in ("private", "shared")))
        title = one.title if len(runs) > 1 else ""
        panels[one.label if title in panels else title] = codes
    if len(panels) < len(runs):
        raise OptionError("two of these runs are the same variant; compare different ones.")
    return subspace_figure(panels, first.views, order=_order(runs[0]))


def _order(runs: Runs) -> tuple[str, ...]:
    """All views of the data set, where it is known: their colours do not depend on the run."""
    name = runs.records[0].dataset
    for known in (name, name.rpartition("-")[0]):  # a record may name the task after the set
        try:
            return tuple(find_entry(known).views)
        except (OptionError, DataError):
            continue
    return ()


def _attention(runs: Sequence[Runs]) -> Figure:
    kept = _one(runs, "attention").kept()
    maps = [_array(one, "attention", "attention") for one in kept]
    views = kept[0].views
    if maps[0].shape[-1] != 2 * len(views):
        raise DataError(
            f"this variant fuses {maps[0].shape[-1]} tokens of {len(views)} views; the attention "
            "figure is of private and shared ones."
        )
    return attention_figure(np.mean([one[0] for one in maps], axis=0), views)


def _conflict(runs: Sequence[Runs]) -> Figure:
    kept = _one(runs, "conflict").kept()
    tables = {}
    for part in PARTS:
        if any(f"{part}.views" not in one.arrays for one in kept):
            continue
        means = [_pairwise(one, part) for one in kept]
        tables[part] = np.mean(means, axis=0)
    if not tables:
        raise DataError(
            "the runs kept no opinions of their views; run a method that has some with --keep "
            "opinions."
        )
    return conflict_figure(tables, kept[0].views)


def _pairwise(kept: Kept, part: str) -> NDArray[np.float64]:
    """Mean degree of conflict of each pair; on the copy, of rows with a replaced view."""
    evidence = kept.arrays[f"{part}.views"]
    if part == "conflict" and "replaced" in kept.arrays:
        evidence = evidence[kept.arrays["replaced"]]
    return pairwise_conflict(torch.from_numpy(evidence).double()).mean(dim=0).numpy()


def _uncertainty(runs: Sequence[Runs]) -> Figure:
    found = []
    for one in _one(runs, "uncertainty").kept():
        rows = _array(one, "replaced", "opinions")
        clean, copy = (_array(one, f"{part}.uncertainty", "opinions")[rows] for part in PARTS)
        found.append(ConflictDoubt(clean, copy))
    return uncertainty_figure(found)


def _calibration(runs: Sequence[Runs]) -> Figure:
    one = _one(runs, "calibration")
    parts = [part for part in PARTS if all(part in record.bins for record in one.records)]
    if not parts:
        raise DataError("these runs predicted scores, not classes; they have no calibration.")
    bins = {
        part: {
            name: np.sum([record.bins[part][name] for record in one.records], axis=0)
            for name in ("count", "confidence", "correct")
        }
        for part in parts
    }
    if not all(kept_path(path).is_file() for path in one.paths):
        return calibration_figure(bins, {})
    kept = one.kept()
    if any(f"{part}.right" not in each.arrays for part in parts for each in kept):
        return calibration_figure(bins, {})
    curves = {
        part: [
            RiskCurve(each.arrays[f"{part}.uncertainty"], each.arrays[f"{part}.right"])
            for each in kept
        ]
        for part in parts
    }
    return calibration_figure(bins, curves)


def _one(runs: Sequence[Runs], what: str) -> Runs:
    if len(runs) > 1:
        raise OptionError(f"{what} is drawn for one variant; leave --against out.")
    return runs[0]


#: name of a figure -> how it is drawn.
FIGURES: dict[str, Callable[[Sequence[Runs]], Figure]] = {
    "losses": _losses,
    "subspaces": _subspaces,
    "attention": _attention,
    "conflict": _conflict,
    "uncertainty": _uncertainty,
    "calibration": _calibration,
}


def draw(what: str, runs: Sequence[Runs]) -> Figure:
    """Draw a figure of one variant's runs, or, for ``"subspaces"``, of several variants.

    Raises
    ------
    OptionError
        If there is no such figure, or it is of one variant.
    DataError
        If the runs did not keep what it needs.
    """
    if what not in FIGURES:
        raise OptionError(f"there is no figure {what!r}; {nearest(what, FIGURES)}")
    return FIGURES[what](runs)
