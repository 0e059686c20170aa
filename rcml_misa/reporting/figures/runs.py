"""Figures drawn from the records of runs and the arrays beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from rcml_misa.datasets import find_entry
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.opinions import pairwise_conflict
from rcml_misa.reporting.figures import panels
from rcml_misa.results import RunRecord
from rcml_misa.runs.tasks import Kept, kept_path, read_kept

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FIGURES", "Runs", "draw", "find_runs"]

PARTS = ("clean", "conflict")


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
    groups: dict[Key, list[tuple[RunRecord, Path]]] = {}
    for file in files:
        try:
            record = RunRecord.from_json(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, DataError) as error:
            raise DataError(f"{file} can't be read as a record ({error}).") from error
        key = (record.dataset, record.method, record.variant)
        groups.setdefault(key, []).append((record, file))
    chosen = _choose(path, groups, variant)
    records, paths = zip(*sorted(groups[chosen], key=lambda pair: pair[0].seed), strict=True)
    return Runs(records, paths)


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


def _losses(runs: Runs) -> Figure:
    return panels.loss_figure([record.history for record in runs.records])


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
        pairs.append(panels.ReplacedUncertainty(clean, copy))
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
    if not contents or not complete:
        return panels.calibration_figure(bins, {})
    curves = {
        part: [
            panels.RiskCurve(content.arrays[f"{part}.uncertainty"], content.arrays[f"{part}.right"])
            for content in contents
        ]
        for part in parts
    }
    return panels.calibration_figure(bins, curves)


#: Figure of one variant's runs, by name.
ALONE: dict[str, Callable[[Runs], Figure]] = {
    "losses": _losses,
    "attention": _attention,
    "conflict": _conflict,
    "uncertainty": _uncertainty,
    "calibration": _calibration,
}
FIGURES = ("losses", "subspaces", "attention", "conflict", "uncertainty", "calibration")


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
    if what == "subspaces":
        return _subspaces(runs)
    if len(runs) > 1:
        raise OptionError(f"{what} is drawn for one variant; leave --against out.")
    return ALONE[what](runs[0])
