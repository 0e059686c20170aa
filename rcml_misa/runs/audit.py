"""The audit of a method's uncertainty on one split: what critics of evidential learning ask.

Each part measures conditions, which stand in the record's metrics in place of test sets:
``detection:errors``, ``rows:0.5``, ``sensitivity:kl_weight:2``, ``conformal:all:conflict`` and so
on. A condition that a data set or a method can't have is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.calibration import MondrianSets
from rcml_misa.datasets import Dataset
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.metrics import accuracy, rank_correlation
from rcml_misa.metrics.answers import (
    Answers,
    ranking,
    ranking_above,
    score,
    uncertainty_scores,
)
from rcml_misa.protocols import Partition, conflict_views, only_tables
from rcml_misa.protocols.corruptions import drop_views, far_views
from rcml_misa.protocols.plan import NO_ROWS
from rcml_misa.protocols.splits import hold_back
from rcml_misa.results import RunRecord
from rcml_misa.runs.single import FittedTask, fit_task, make_record, task_rows
from rcml_misa.runs.tasks import Event, Task

__all__ = ["HELD_BACK", "PARTS", "audit_task", "parse_parts"]

HELD_BACK = 0.2  # share of the train rows that conformal sets are calibrated on
SHARES = (0.5, 0.25, 0.125)  # of the train rows, for the refits of "rows"; each half of the last
WEIGHTS = ("kl_weight", "prior_weight")  # parameters of the refits of "sensitivity"
FACTORS = (0.5, 2.0)  # of these parameters
MISSING_RATE = 0.3  # chance of each view to be missing
#: Condition to the test set whose altered rows it is about.
TEST_SETS = {"conflict": "conflict", "shuffled": "shuffle:1", "missing": f"missing:{MISSING_RATE}"}
#: Score of `uncertainty_scores` to the ending of its measures' names.
SCORES = {"own": "", "max_probability": "_top"}
#: Condition to the calibrations of conformal sets that are asked about it.
CALIBRATIONS = {
    "clean": ("all", "class", "view", "conflict"),
    "conflict": ("all", "conflict"),
    "shuffled": ("all", "conflict"),
    "missing": ("all", "view"),
}

Rows = NDArray[np.int64]
Measures = dict[str, dict[str, float]]


@dataclass
class Audit:
    """One method on one split: the fit that most parts ask, its answers, and failures so far.

    `part` has the calibration rows as its `valid`; no fit sees them.
    """

    dataset: Dataset
    task: Task
    part: Partition
    report: Callable[[Event], None]
    failures: dict[str, str] = field(default_factory=dict)
    _altered: dict[str, tuple[Answers, NDArray[np.bool_]]] = field(default_factory=dict)

    @cached_property
    def main(self) -> FittedTask:
        """The method, fitted on all train rows but the calibration rows."""
        return self.fit(self.part)

    @cached_property
    def clean(self) -> Answers:
        """Answers about the clean test rows."""
        return self.ask(self.main, self.part.test)

    @property
    def target(self) -> Rows:
        """Class numbers of the test rows."""
        return self.dataset.target[self.part.test]

    @property
    def several_views(self) -> bool:
        """Whether rows can be in conflict, or lack a view."""
        return self.dataset.views.n_views > 1

    def fit(self, part: Partition, **params: Any) -> FittedTask:
        """Fit the method on the train rows of a part, with some parameters changed."""
        recipe = replace(self.task.recipe, params={**self.task.recipe.params, **params})
        task, rows = replace(self.task, recipe=recipe), replace(part, valid=NO_ROWS)
        return fit_task(self.dataset, task, part=rows, report=self.report)

    def ask(self, fitted: FittedTask, rows: Rows) -> Answers:
        """Ask a fit about rows of the data set."""
        return fitted.ask(fitted.dataset.views.take(rows))

    def attempt(
        self, condition: str, measure: Callable[..., dict[str, float]], *about: Any
    ) -> Measures:
        """Measure a condition, or note why the method can't answer about it."""
        try:
            return {condition: measure(self, *about)}
        except ValueError as error:
            self.failures[condition] = " ".join(str(error).split())
            return {}

    def altered(self, condition: str) -> tuple[Answers, NDArray[np.bool_]]:
        """Ask about the test set of a condition; answers about all its rows, altered ones flagged.

        A `DataError` if no row is altered, or the method can't answer.
        """
        if condition not in self._altered:
            name = TEST_SETS[condition]
            made = self.main.test_set(name)
            if made.altered is None or not made.altered.any():
                raise DataError(f"no test row is altered by {name!r}; it takes more test rows.")
            self._altered[condition] = self.main.ask(made.views), made.altered
        return self._altered[condition]


def parse_parts(text: str) -> tuple[str, ...]:
    """Read names of `PARTS` with commas between them, or ``all``; others are an `OptionError`.

    Examples
    --------
    >>> parse_parts("rows,detection"), parse_parts("all") == PARTS
    (('detection', 'rows'), True)
    """
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in (*PARTS, "all"):
            raise OptionError(f"an audit has no part {name!r}; {nearest(name, [*PARTS, 'all'])}")
    return tuple(name for name in PARTS if name in names or "all" in names)


def audit_task(
    dataset: Dataset, task: Task, *, report: Callable[[Event], None] = lambda _: None
) -> RunRecord:
    """Measure the parts of an audit that the task names, on one split.

    Conformal sets are calibrated on the validation rows of the protocol, such as a `HELD_BACK` of
    the train rows; no fit sees them. Beside the fit on the other train rows there are,
    if the parts need them, one without some classes, three on fewer rows, and two for each weight
    of the loss or the prior. The record's `metrics` map conditions to measures, and ``clean`` to
    those of any run; its `failures` map conditions to a sentence.

    Raises
    ------
    OptionError
        If the data set has scores to predict.
    DataError
        If a part of the split is empty, or the method can't answer about the clean rows.

    References
    ----------
    Juergens et al., Is epistemic uncertainty faithfully represented by evidential deep learning
    methods?, ICML 2024; Shen et al., Are uncertainty quantification capabilities of evidential
    deep learning a mirage?, NeurIPS 2024; Mucsányi et al., Benchmarking uncertainty
    disentanglement, NeurIPS 2024.
    """
    if dataset.task != "classification":
        raise OptionError(
            f"an audit asks about classes and {dataset.name} has scores to predict; choose a task "
            "of classes."
        )
    task = replace(task, protocol=task.protocol.for_dataset(dataset))
    audit = Audit(dataset, task, task_rows(dataset, task), report)
    measures: Measures = {"clean": score(audit.clean, audit.target)}
    for name, measure in MEASURES.items():
        if name in task.parts:
            measures |= measure(audit)
    return make_record(
        audit.main,
        metrics=measures,
        timing={"fit_seconds": audit.main.seconds},
        failures=audit.failures,
    )


def _detection(audit: Audit) -> Measures:
    """Rank rows that are wrong, altered, far or unknown above rows that are not."""
    wrong = audit.clean.predicted != audit.target
    ranked = _ranked(ranking(uncertainty_scores(audit.clean), wrong), rows=int(wrong.sum()))
    measures: Measures = {"detection:errors": ranked}
    if audit.several_views:
        for condition in ("conflict", "shuffled"):
            measures |= audit.attempt(f"detection:{condition}", _rank_altered, condition)
    if only_tables(audit.dataset.views):
        measures |= audit.attempt("detection:far", _rank_far)
    if len(np.unique(audit.dataset.target)) > 2:
        measures |= audit.attempt("detection:unseen", _rank_unseen)
    return measures


def _rank_altered(audit: Audit, condition: str) -> dict[str, float]:
    """Rank altered rows above their own clean selves."""
    answers, rows = audit.altered(condition)
    return _ranked(ranking_above(answers, audit.clean, rows), rows=int(rows.sum()))


def _rank_far(audit: Audit) -> dict[str, float]:
    """Rank test rows that are shifted in every column above themselves."""
    part = audit.part
    shifted = far_views(audit.main.dataset.views, train=part.train, rows=part.test)
    return _ranked(ranking_above(audit.main.ask(shifted), audit.clean), rows=len(part.test))


def _rank_unseen(audit: Audit) -> dict[str, float]:
    """Rank the test rows of a tenth of the classes, not trained on, above the other test rows."""
    count = max(1, len(np.unique(audit.dataset.target)) // 10)
    rules = replace(audit.task.protocol, held_out=count)
    part = task_rows(audit.dataset, replace(audit.task, protocol=rules))
    if not len(part.held_out):
        raise DataError(f"no test row is of the {count} classes that were left out.")
    fitted = audit.fit(part)
    unseen, others = (audit.ask(fitted, rows) for rows in (part.held_out, part.test))
    return _ranked(ranking_above(unseen, others), rows=len(part.held_out))


def _ranked(ranked: Mapping[str, Mapping[str, float]], *, rows: int) -> dict[str, float]:
    """Name AUROC and FPR95 of the method's own uncertainty and of 1 - max p."""
    measures = {
        f"{measure}{ending}": ranked[name][measure]
        for measure in ("auroc", "fpr95")
        for name, ending in SCORES.items()
    }
    return {**measures, "rows": float(rows)}


def _fewer_rows(audit: Audit) -> Measures:
    """Measure uncertainty on the clean rows after fits on nested parts of the train rows."""
    measures = {"rows:1": _spread(audit, audit.clean, audit.part)}
    part, rng = audit.part, audit.main.seeds.test_set("fewer rows")
    for share in SHARES:
        try:
            half, _ = hold_back(np.arange(len(part.train)), part.codes, share=0.5, rng=rng)
        except DataError:  # every class has one row left
            break
        part = replace(part, train=part.train[half], codes=part.codes[half])
        measures |= audit.attempt(f"rows:{share:g}", _refit_fewer, part)
    return measures


def _refit_fewer(audit: Audit, part: Partition) -> dict[str, float]:
    """Fit on fewer rows and measure."""
    return _spread(audit, audit.ask(audit.fit(part), part.test), part)


def _spread(audit: Audit, answers: Answers, part: Partition) -> dict[str, float]:
    """Average uncertainty, and mutual information where a method has members or evidence."""
    scores = uncertainty_scores(answers)
    shown = {"own": "uncertainty", "mutual_information": "mutual_information"}
    return {
        "rows": float(len(part.train)),
        "accuracy": accuracy(answers.predicted, audit.target),
        **{name: float(scores[key].mean()) for key, name in shown.items() if key in scores},
    }


def _entropy(audit: Audit) -> Measures:
    """Correlate the ranks of uncertainty with those of the entropy of the probabilities."""
    scores = uncertainty_scores(audit.clean)
    return {"entropy": {"correlation": rank_correlation(scores["own"], scores["entropy"])}}


def _sensitivity(audit: Audit) -> Measures:
    """Refit with half and twice the weight of the KL term and of the prior."""
    measures: Measures = {}
    options = audit.main.estimator.get_params(deep=False)
    for name in WEIGHTS:
        for factor in FACTORS if options.get(name) else ():  # twice 0 is no other weight
            condition = f"sensitivity:{name}:{factor:g}"
            measures |= audit.attempt(condition, _refit_weight, name, factor * options[name])
    return measures


def _refit_weight(audit: Audit, name: str, value: float) -> dict[str, float]:
    """Fit with another weight and compare uncertainty and accuracy with the default's."""
    answers = audit.ask(audit.fit(audit.part, **{name: value}), audit.part.test)
    own = audit.clean.uncertainty
    return {
        "value": value,
        "uncertainty_change": float(answers.uncertainty.mean() - own.mean()),
        "correlation": rank_correlation(answers.uncertainty, own),
        "accuracy_change": accuracy(answers.predicted, audit.target)
        - accuracy(audit.clean.predicted, audit.target),
    }


def _conformal(audit: Audit) -> Measures:
    """Count, for sets calibrated in four ways, the rows that their set covers, and its members.

    ``all``: one threshold of all calibration rows; ``class``: one for each class; ``view``: one
    for rows with every view and one for rows that lack some; ``conflict``: one of a conflictive
    copy of the calibration rows.
    """
    if not len(audit.part.valid):
        audit.failures["conformal"] = "no train row is held back to calibrate sets on."
        return {}
    measures: Measures = {}
    sets: dict[str, MondrianSets] = {}
    for condition, names in CALIBRATIONS.items():
        for name in names:
            if audit.several_views or (condition == "clean" and name in ("all", "class")):
                key = f"conformal:{name}:{condition}"
                measures |= audit.attempt(key, _cover, name, condition, sets)
    for name in (name for name in ("all", "class") if name in sets):
        members = sets[name](audit.clean.probability)
        for code in np.unique(audit.target):
            rows = audit.target == code
            counts = _counts(members[rows], audit.target[rows])
            measures[f"conformal:{name}:class {code}"] = counts
    return measures


def _cover(
    audit: Audit, name: str, condition: str, sets: dict[str, MondrianSets]
) -> dict[str, float]:
    """Count the rows of a condition that sets of one calibration cover; `sets` is filled."""
    if name not in sets:
        sets[name] = _calibrate(audit, name)
    target = audit.target
    if condition == "clean":
        probability = audit.clean.probability
        lacking = _lacking(audit, audit.part.test)
    else:
        answers, rows = audit.altered(condition)
        probability, target = answers.probability[rows], target[rows]
        lacking = np.ones(len(target), dtype=np.int64)  # read of missing views alone
    return _counts(sets[name](probability, lacking if name == "view" else None), target)


def _calibrate(audit: Audit, name: str) -> MondrianSets:
    """Calibrate sets on rows held back, or on copies of them that are altered as test rows are."""
    data, part, seeds = audit.main.dataset, audit.part, audit.main.seeds
    target = data.target[part.valid]
    if name == "conflict":
        # donors come from rows of known class alone
        rows = np.concatenate([part.train, part.valid])
        places = np.split(np.arange(len(rows)), [len(part.train)])
        copy = conflict_views(
            data.views.take(rows),
            data.target[rows],
            train=places[0],
            test=places[1],
            rng=seeds.test_set("calibration conflict"),
            conflict_share=1.0,
        )
        return MondrianSets.fit(audit.main.ask(copy.views).probability, target)
    probability = audit.ask(audit.main, part.valid).probability
    if name != "view":
        return MondrianSets.fit(probability, target, by_class=name == "class")
    rng = seeds.test_set("calibration missing")
    thinned, dropped = drop_views(data.views, test=part.valid, rng=rng, rate=MISSING_RATE)
    thin = dropped.any(axis=1)
    return MondrianSets.fit(
        np.concatenate([probability, audit.main.ask(thinned).probability[thin]]),
        np.concatenate([target, target[thin]]),
        groups=np.concatenate([_lacking(audit, part.valid), np.ones(thin.sum(), dtype=np.int64)]),
    )


def _lacking(audit: Audit, rows: Rows) -> Rows:
    """Mark rows that lack a view by 1."""
    complete = audit.main.dataset.views.present[rows].all(axis=1)
    return np.asarray(~complete, dtype=np.int64)


def _counts(members: NDArray[np.bool_], target: Rows) -> dict[str, float]:
    """Count covered rows, members and rows, which runs can be pooled by."""
    covered = members[np.arange(len(target)), target]
    counts = {"covered": covered.sum(), "members": members.sum(), "rows": len(target)}
    return {name: float(count) for name, count in counts.items()}


#: Part to what it measures; "selection" is among the measures of ``clean``.
MEASURES: Mapping[str, Callable[[Audit], Measures]] = {
    "detection": _detection,
    "rows": _fewer_rows,
    "entropy": _entropy,
    "sensitivity": _sensitivity,
    "selection": lambda _: {},
    "conformal": _conformal,
}
PARTS = tuple(MEASURES)
