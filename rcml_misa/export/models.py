"""Graphs of fitted estimators: which there are, what they read and what is told beside them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from rcml_misa.estimators.closed_form import KernelExpertClassifier, RidgeExpertClassifier
from rcml_misa.estimators.evidential_regression import RCMLMISARegressor
from rcml_misa.estimators.peers import (
    CCMLClassifier,
    EDLClassifier,
    ETMCClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.published import NotesClassifier, RCMLClassifier
from rcml_misa.estimators.rcml_misa import RCMLMISAClassifier
from rcml_misa.exceptions import OptionError, shortened
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.export.answers import Answers, PooledAnswers
from rcml_misa.export.graph import Graph, is_plain
from rcml_misa.export.networks import EvidenceAnswers, ScoreAnswers
from rcml_misa.export.readings import FeatureReading
from rcml_misa.persistence import parted
from rcml_misa.persistence.codec import Encoder
from rcml_misa.reading.preparer import TablePreparer
from rcml_misa.views import MultiView

__all__ = ["Exportable"]

Array = NDArray[np.float64]
EXPORTED: Mapping[type[Any], Callable[[Any], Answers]] = {
    RCMLMISAClassifier: PooledAnswers,
    RidgeExpertClassifier: PooledAnswers,
    RCMLMISARegressor: ScoreAnswers,
    **dict.fromkeys(
        (
            *(RCMLClassifier, TMCClassifier, ETMCClassifier),
            *(CCMLClassifier, EDLClassifier, NotesClassifier),
        ),
        EvidenceAnswers,
    ),
}
TRIAL_ROWS = 8  # drawn to compare a graph with its model


@dataclass(frozen=True)
class Exportable:
    """A fitted estimator, perhaps after steps of a Pipeline, as a graph.

    Build it with `Exportable.of`.

    Attributes
    ----------
    estimator : Any
        The estimator itself, without the steps before it.
    graph : Graph
    columns : mapping of str to list of str, or None
        Names of the columns that the graph reads of each view; None where they have none.
    notes : list of str
        Sentences on what the graph leaves to its user.
    """

    estimator: Any
    graph: Graph
    columns: Mapping[str, list[str] | None]
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, model: Any) -> Exportable:
        """Turn a fitted model into a graph.

        Raises
        ------
        OptionError
            If it keeps train rows, reads a sequence or a text, or is of a method without a graph.
        NotFittedError
            If it is not fitted.
        """
        steps, estimator = parted(model)
        check_is_fitted(estimator)
        _refuse(estimator)
        answers = EXPORTED[type(estimator)](estimator)
        names, widths = estimator.view_names_, estimator.widths_
        given = getattr(estimator, "view_columns_", None) or [None] * len(names)
        columns: dict[str, list[str] | None] = {
            name: None if labels is None else [str(label) for label in labels]
            for name, labels in zip(names, given, strict=True)
        }
        preparer, fill, notes = None, [], list(answers.notes)
        if len(steps) == 1 and isinstance(steps[0][1], TablePreparer):
            preparer = steps[0][1]
        if preparer is not None:
            raw = [preparer.columns_.get(name) for name in names]
            plain = all(own is None or is_plain(own) for own in raw)
            for name, own in zip(names, raw, strict=True):
                if own is not None:
                    columns[name] = list(own.kinds.numbers) if plain else own.outputs()
            if plain:
                fill = raw
            else:
                notes.append(
                    "the graph begins behind the TablePreparer, since it reads categories or dates:"
                    " its inputs are the prepared columns, which `columns` of the metadata names"
                )
        elif steps:
            kinds = ", ".join(shortened(type(step).__name__, 40) for _, step in steps)
            notes.append(f"the graph begins behind the steps of the Pipeline ({kinds})")
        aside = np.isin(names, estimator.set_aside_).tolist()
        graph = Graph(answers, widths, fill=fill, aside=aside).eval()
        return cls(estimator, graph, columns, notes)

    @property
    def widths(self) -> list[int]:
        """Columns of each view that the graph reads."""
        fills = zip(self.graph.fill, self.estimator.widths_, strict=True)
        return [getattr(fill, "width", width) for fill, width in fills]

    def facts(self) -> dict[str, Any]:
        """Gather what the metadata tell: labels, names and limits, ready for JSON."""
        model = self.estimator
        facts: dict[str, Any] = {
            "method": type(model).__name__,
            "version": version("rcml-misa"),
            "views": list(model.view_names_),
            "columns": self.columns,
            "set_aside": list(model.set_aside_),
            "notes": self.notes,
            "data_sha256": getattr(model, "data_sha256_", None),
        }
        if is_classifier(model):
            labels = model.classes_.tolist()
            facts["classes"] = [Encoder().encode(label, "a label") for label in labels]
            facts["class_shares"] = model.class_shares_.tolist()
        else:
            factor = float(model.interval_factor_)
            facts["interval_factor"] = factor if np.isfinite(factor) else None
            facts["coverage"] = float(model.coverage)
        return facts

    def trial_rows(self, dtype: torch.dtype) -> list[Tensor]:
        """Draw rows that look like train rows, one of them far away and some without a view."""
        rng = np.random.default_rng(0)
        reading = next(part for part in self.graph.modules() if isinstance(part, FeatureReading))
        count = len(reading.least)
        least, span = (part.numpy() for part in (reading.least, reading.span))
        values = least + span * rng.random((TRIAL_ROWS, count))
        values[-1] = least + 100 * span
        tables = []
        parts = np.split(values, np.cumsum(self.estimator.widths_)[:-1], axis=1)
        for number, (part, width) in enumerate(zip(parts, self.widths, strict=True)):
            table = part[:, :width].copy()  # flags of gaps come last
            if len(parts) > 1 and not self.graph.answers.whole_rows:
                table[number % (TRIAL_ROWS - 1)] = np.nan
            tables.append(torch.from_numpy(table).to(dtype))
        return tables

    def answers(self, tables: Sequence[Tensor]) -> dict[str, Array]:
        """Ask the estimator itself about rows, by the names of the graph's outputs."""
        model = copy.copy(self.estimator)
        model.views = None
        filled = [
            fill(table.double()).numpy()
            for fill, table in zip(self.graph.fill, tables, strict=True)
        ]
        opinion = model.predict_opinion(
            MultiView(dict(zip(model.view_names_, filled, strict=True)))
        )
        own = list(opinion.views.values())
        if hasattr(opinion, "score"):
            return {
                "score": opinion.score,
                "scale": opinion.scale,
                "view_scores": np.stack([each.score for each in own], axis=1),
                "view_scales": np.stack([each.scale for each in own], axis=1),
            }
        answers = {
            name: getattr(opinion, name)
            for name in ("probability", "evidence", "uncertainty", "conflict")
        }
        return answers | ({"views": np.stack(own, axis=1)} if own else {})


def _refuse(model: Any) -> None:
    """Refuse models without a graph."""
    name = type(model).__name__
    experts = getattr(model, "experts_", None)
    if isinstance(model, KernelExpertClassifier) or not (
        experts is None or isinstance(experts, RidgeExperts)
    ):
        raise OptionError(
            f"the {name} has kernel experts, which keep train rows, and can't be exported; fit "
            "ridge-expert, or rcml-misa with expert=ridge (--no-landmarks)."
        )
    if type(model) not in EXPORTED:
        able = ", ".join(sorted(kind.__name__ for kind in EXPORTED))
        raise OptionError(f"the {shortened(name, 60)} can't be exported; these can: {able}.")
    for view, kind in zip(model.view_names_, model.kinds_, strict=True):
        if kind in ("sequence", "text"):
            raise OptionError(
                f"view {shortened(view, 60)!r} is a {kind}, and a graph reads tables alone; fit "
                "the model on MultiView.pooled() to export it."
            )
