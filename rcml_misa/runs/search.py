"""A search over the settings of a method: rounds of fixed size, kept in Optuna's journal.

What a round proposes depends on the seed and on the trials of the rounds before it, never on how
many workers carry them out nor on which of them ended first. A search that was killed thus asks
for the same settings again, and their records take the place of trying them.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from rcml_misa.estimators.spaces import SearchSpace, space_size
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.options import Choice, Span, option_text
from rcml_misa.results import plain
from rcml_misa.results.statistics import LOWER_IS_BETTER

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

__all__ = [
    "DEFAULT_NUMBER",
    "ROUND",
    "STARTUP",
    "Search",
    "Trial",
    "best_trial",
    "need_optuna",
]

STARTUP = 12  # trials of the first round, drawn at random
ROUND = 4  # trials of each later round, proposed together
DEFAULT_NUMBER = (
    -1
)  # number of the trial of the method's default setting, which is no part of the search

Setting: TypeAlias = dict[str, Any]  # parameter to a number, or to the text of a choice


def need_optuna() -> None:
    """Refuse to search, with `OptionError`, where Optuna is not installed."""
    if find_spec("optuna") is None:
        raise OptionError(
            "a search needs Optuna, which is not installed: pip install 'rcml-misa[tune]'."
        )


@dataclass(frozen=True)
class Trial:
    """A setting and what it scored; `note` says why it has no measures, where that is so."""

    number: int
    setting: Mapping[str, Any] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    crashed: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """The setting as ``key=value`` texts."""
        return tuple(f"{key}={option_text(value)}" for key, value in self.setting.items())

    @property
    def name(self) -> str:
        """Name of the trial in tables."""
        return "default" if self.number == DEFAULT_NUMBER else f"trial {self.number}"

    @property
    def variant(self) -> str:
        """Variant of the trial's record, which no run has."""
        return "trial default" if self.number == DEFAULT_NUMBER else self.name

    def value(self, metric: str) -> float:
        """Value of a measure; NaN where the trial has none."""
        return float(self.measures.get(metric, math.nan))


def best_trial(trials: Sequence[Trial], metric: str) -> Trial:
    """Choose the best trial: by the metric, then by nll where it is measured, then the first.

    Raises
    ------
    DataError
        If no trial has a finite value.

    Examples
    --------
    >>> trials = [Trial(k, measures={"accuracy": a}) for k, a in enumerate((0.5, 0.75, 0.75))]
    >>> best_trial(trials, "accuracy").number
    1
    """
    return ranked(trials, metric)[0]


def ranked(trials: Sequence[Trial], metric: str) -> list[Trial]:
    """Sort the trials that have a finite value, the best first; see `best_trial`."""
    sign = 1 if metric in LOWER_IS_BETTER else -1

    def place(trial: Trial) -> tuple[float, float, int]:
        # sums over folds differ in the last bits where values are the same
        nll = trial.value("nll")
        worst = math.inf if math.isnan(nll) else round(nll, 12)
        return sign * round(trial.value(metric), 12), worst, trial.number

    scored = [trial for trial in trials if math.isfinite(trial.value(metric))]
    if not scored:
        notes = [trial.note for trial in trials if trial.note]
        why = f"; the first says: {notes[0]}" if notes else ""
        raise DataError(f"no setting of {len(trials)} has a finite {metric}{why}")
    return sorted(scored, key=place)


class Search:
    """The trials of one search, asked for and told in rounds.

    The first `STARTUP` trials are drawn at random at once. Each later round of `ROUND` is proposed
    by a tree-structured Parzen estimator from all trials of the rounds before it; the trials of
    one round count as bad for each other meanwhile. A space of no more settings than trials is
    gone through in order instead.

    Parameters
    ----------
    space : mapping of str to Span or Choice
    metric : str
        Measure to optimise; lower is better for those of
        `rcml_misa.results.statistics.LOWER_IS_BETTER`.
    trials : int
        Number of trials; in a space of fewer settings it is their number.
    seed : int
    depends : mapping
        What the values depend on beside the setting. It and the space tell one search in a journal
        from another.
    storage : optuna storage, optional
        Journal that keeps the finished trials, see `rcml_misa.runs.journal.opened`; by default
        memory does.
    fresh : bool
        Whether the journal's trials of this search are forgotten.

    References
    ----------
    Akiba et al., Optuna, KDD 2019; Watanabe, Tree-structured Parzen estimator, arXiv 2304.11127.

    Examples
    --------
    >>> from dataclasses import replace
    >>> search = Search({"x": Span(0.0, 1.0)}, metric="mae", trials=20, seed=0)
    >>> while not search.done:
    ...     for trial in search.ask():
    ...         search.tell([replace(trial, measures={"mae": abs(trial.setting["x"] - 0.3)})])
    >>> len(search.trials), best_trial(search.trials, "mae").value("mae") < 0.1
    (20, True)
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        metric: str,
        trials: int,
        seed: int,
        depends: Mapping[str, Any] | None = None,
        storage: optuna.storages.BaseStorage | None = None,
        fresh: bool = False,
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        size = space_size(space)
        self.space, self.metric, self.seed = space, metric, seed
        self.counted = size <= trials  # every setting is tried
        self.number = int(min(trials, size))
        self.distributions = {key: _distribution(part) for key, part in space.items()}
        self.direction: Literal["minimize", "maximize"] = (
            "minimize" if metric in LOWER_IS_BETTER else "maximize"
        )
        facts: dict[str, Any] = {
            "space": {key: repr(part) for key, part in space.items()},
            "metric": metric,
        }
        facts |= {"counted": self.counted, **(depends or {})}
        digest = hashlib.sha256(json.dumps(plain(facts), sort_keys=True).encode()).hexdigest()
        name = f"seed {seed}, {digest[:16]}"
        if fresh and storage is not None and name in optuna.get_all_study_names(storage):
            optuna.delete_study(study_name=name, storage=storage)
        self.study = optuna.create_study(
            storage=storage,
            study_name=name,
            direction=self.direction,
            load_if_exists=True,
        )

    @property
    def trials(self) -> list[Trial]:
        """Finished trials in order; those beyond the number asked for are left out."""
        finished = self.study.get_trials(deepcopy=False)[: self.number]
        return [
            _read_trial(number, each.params, each.user_attrs)
            for number, each in enumerate(finished)
        ]

    @property
    def default(self) -> Trial | None:
        """Trial of the default setting, kept beside those of the search, once it is told."""
        kept = self.study.user_attrs.get("default")
        return None if kept is None else _read_trial(DEFAULT_NUMBER, {}, kept)

    @default.setter
    def default(self, trial: Trial) -> None:
        self.study.set_user_attr("default", _attributes(trial))

    @property
    def done(self) -> bool:
        """Whether all trials are finished."""
        return len(self.study.get_trials(deepcopy=False)) >= self.number

    def ask(self) -> list[Trial]:
        """Propose the settings of the round that are not finished."""
        told = len(self.study.get_trials(deepcopy=False))
        start = 0 if told < STARTUP else told - (told - STARTUP) % ROUND
        end = min(start + ROUND if start else STARTUP, self.number)
        proposed = self._counted(start, end) if self.counted else self._proposed(start, end)
        numbered = [Trial(start + place, setting) for place, setting in enumerate(proposed)]
        return numbered[told - start :]

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep finished trials, which follow those before them."""
        from optuna.trial import TrialState, create_trial

        for trial in sorted(trials, key=lambda each: each.number):
            value = trial.value(self.metric)
            state = TrialState.COMPLETE
            if not math.isfinite(value):
                state = TrialState.FAIL if trial.crashed else TrialState.PRUNED
            self.study.add_trial(
                create_trial(
                    state=state,
                    value=value if math.isfinite(value) else None,
                    params=dict(trial.setting),
                    distributions=self.distributions,
                    user_attrs=_attributes(trial),
                )
            )

    def _counted(self, start: int, end: int) -> list[Setting]:
        """List settings of a space of few by their place in it."""
        every = product(*(_values(part) for part in self.space.values()))
        return [dict(zip(self.space, values, strict=True)) for values in islice(every, start, end)]

    def _proposed(self, start: int, end: int) -> list[Setting]:
        """Propose settings from the first `start` trials, whichever process finished them."""
        import optuna

        number = int(np.random.SeedSequence([self.seed, start]).generate_state(1)[0])
        with warnings.catch_warnings():  # two options are experimental before Optuna 5
            warnings.simplefilter("ignore")
            sampler = optuna.samplers.TPESampler(
                seed=number, n_startup_trials=STARTUP, multivariate=True, constant_liar=True
            )
        study = optuna.create_study(sampler=sampler, direction=self.direction)
        study.add_trials(self.study.get_trials(deepcopy=False)[:start])
        return [dict(study.ask(self.distributions).params) for _ in range(start, end)]


def _values(part: Span | Choice) -> Sequence[Any]:
    """Values of a parameter that can be counted, choices as texts."""
    values = part.values or ()
    return [option_text(value) for value in values] if isinstance(part, Choice) else values


def _distribution(part: Span | Choice) -> BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(part, Choice):
        return CategoricalDistribution([option_text(option) for option in part.options])
    if part.whole:
        step = int(part.step or 1)
        high = part.values[-1] if part.values else part.high  # the last value that a step meets
        return IntDistribution(int(part.low), int(high), log=part.log, step=step)
    high = part.high if part.values is None else part.values[-1]
    return FloatDistribution(float(part.low), float(high), log=part.log, step=part.step)


def _attributes(trial: Trial) -> dict[str, Any]:
    """Describe in a journal what a trial scored."""
    return {"measures": plain(trial.measures), "note": trial.note, "crashed": trial.crashed}


def _read_trial(number: int, setting: Mapping[str, Any], kept: Mapping[str, Any]) -> Trial:
    """Read a trial from what `_attributes` wrote."""
    measures = {
        name: math.nan if value is None else float(value)
        for name, value in kept.get("measures", {}).items()
    }
    note, crashed = str(kept.get("note", "")), bool(kept.get("crashed"))
    return Trial(number, dict(setting), measures, note, crashed)
