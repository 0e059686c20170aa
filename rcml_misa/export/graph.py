"""Graphs of fitted estimators: from raw tables, one per view, to the answers of their rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rcml_misa.export.answers import Answers
from rcml_misa.export.readings import tensor
from rcml_misa.reading.raw_columns import RawColumns

__all__ = ["GapFilling", "Graph", "is_plain"]


def is_plain(columns: RawColumns) -> bool:
    """Tell whether all columns that are read of a raw table are numbers, as a graph takes them."""
    kinds = columns.kinds
    return not (kinds.dates or kinds.categories)


class GapFilling(nn.Module):
    """Numbers with gaps as `RawColumns` prepares them: medians, and columns that flag the gaps."""

    medians: Tensor
    flagged: Tensor

    def __init__(self, columns: RawColumns) -> None:
        super().__init__()
        self.width = len(columns.medians)
        self.flags = len(columns.flagged) > 0
        self.register_buffer("medians", tensor(columns.medians))
        self.register_buffer("flagged", torch.from_numpy(np.array(columns.flagged)))

    def forward(self, values: Tensor) -> Tensor:
        """Fill rows (n, p); one without any number stays NaN."""
        gaps = ~values.isfinite()
        absent = gaps.all(dim=1, keepdim=True)
        filled = torch.where(gaps, self.medians, values)
        if self.flags:
            filled = torch.cat([filled, gaps[:, self.flagged].to(filled.dtype)], dim=1)
        return torch.where(absent, torch.nan, filled)


class Graph(nn.Module):
    """Answers of an estimator about tables, one tensor (n, d_v) per view, in their order.

    A view with NaN or an infinite number in a row is missing there, once gaps are filled. All is
    computed in float64 but networks, as they are trained.

    Parameters
    ----------
    answers : Answers
    widths : sequence of int
        Columns of each view that the estimator reads.
    fill : sequence of RawColumns or None, optional
        What prepares the raw columns of each view.
    aside : sequence of bool
        Views that are read as a constant.
    """

    owners: Tensor

    def __init__(
        self,
        answers: Answers,
        widths: Sequence[int],
        *,
        fill: Sequence[RawColumns | None] = (),
        aside: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        self.answers: Answers = answers
        self.fill = nn.ModuleList(
            nn.Identity() if columns is None else GapFilling(columns)
            for columns in fill or [None] * len(widths)
        )
        self.aside = [bool(each) for each in aside]
        self.register_buffer("owners", torch.from_numpy(np.repeat(np.arange(len(widths)), widths)))

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """Answer rows by the outputs of `answers`, in their order and in the type of the views."""
        dtype = views[0].dtype
        tables = [fill(view.double()) for fill, view in zip(self.fill, views, strict=True)]
        present = torch.stack([table.isfinite().all(dim=1) for table in tables], dim=1)
        heard = present
        if any(self.aside):
            aside = torch.tensor(self.aside)
            heard = present & ~aside
            # a constant stands for these, but in rows that have no other view
            present = torch.where(aside, heard.any(dim=1, keepdim=True), present)
            heard = present & ~aside
        # what is missing, or read as a constant, is 0
        clean = torch.where(heard[:, self.owners], torch.cat(tables, dim=1), 0.0)
        answers = self.answers(clean, present, heard)
        return tuple(answers[name].to(dtype) for name in self.answers.outputs)
