"""The command `tune`: a search over a method's settings that never looks at test rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from rcml_misa.bounds import check_least, check_total
from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, write_texts
from rcml_misa.cli.plans import plan_text
from rcml_misa.cli.run import protocol_text, show_results
from rcml_misa.cli.session import Session, note_presence, note_reading, run_tasks
from rcml_misa.exceptions import OptionError

if TYPE_CHECKING:
    from rcml_misa.datasets import Dataset
    from rcml_misa.estimators.registry import Recipe
    from rcml_misa.protocols import Protocol
    from rcml_misa.results import RunRecord
    from rcml_misa.runs.search import Search, Trial
    from rcml_misa.runs.tasks import Task

__all__ = ["tune"]

_SEARCH = "Values to search: KEY=low:high[:log], KEY=low:high:step or KEY=a|b|c."
_METRIC = "Measure to optimise.  [default: accuracy, then nll; mae for scores]"
_INNER = (
    "Inner folds of the train rows; 1 for the validation rows.  [default: 1 where the split has "
    "such rows, else 3]"
)
_NESTED = "Search on each of the R splits, then score what it finds, and the default, on its tests."
_OUT = "Write trials.csv and a plan of what was found here, and keep journal and records."
TUNED = "tuned"  # variant of runs with the settings that were found
DEFAULT = "default"  # variant of runs with the default setting beside them
CRASHED = "its run failed"


@dataclass
class _Tuning:
    """One search on the train rows of one split."""

    search: Search
    run: int
    seed: int

    @property
    def trials(self) -> list[Trial]:
        """The default setting's trial, then those of the search."""
        default = self.search.default
        return [*([] if default is None else [default]), *self.search.trials]

    @property
    def number(self) -> int:
        """Number of trials when all are done."""
        return self.search.number + 1

    def ask(self) -> list[Trial]:
        """Propose a round, the default setting first; nothing once all are done."""
        from rcml_misa.runs.search import DEFAULT_NUMBER, Trial

        first = [Trial(DEFAULT_NUMBER)] if self.search.default is None else []
        return first + ([] if self.search.done else self.search.ask())

    def tell(self, trials: Sequence[Trial]) -> None:
        """Keep the trials of a round."""
        for trial in (trial for trial in trials if not trial.setting):
            self.search.default = trial
        self.search.tell([trial for trial in trials if trial.setting])


@dataclass(frozen=True)
class _Study:
    """What all searches of one command share."""

    dataset: Dataset
    settings: opt.MethodOptions
    method: str
    default: Recipe
    protocol: Protocol
    inner: int
    metric: str

    def recipe(self, options: Sequence[str]) -> Recipe:
        """Configure the method with more options than the fixed ones."""
        regression = self.dataset.task == "regression"
        return self.settings.recipe(self.method, more=options, regression=regression)

    def task(self, recipe: Recipe, *, run: int, seed: int, inner: int) -> Task:
        """Make the task of a recipe on one split."""
        from rcml_misa.runs.tasks import Task

        return Task(recipe, 0, run, seed, protocol=self.protocol, inner=inner)

    def outcome(self, trial: Trial, record: RunRecord) -> Trial:
        """Read what a setting scored from its record."""
        from rcml_misa.runs.tuning import INNER

        measures = record.metrics.get(INNER, {})
        note = record.failures.get(INNER, "")
        if not note and not math.isfinite(measures.get(self.metric, math.nan)):
            note = f"its {self.metric} is no finite number"
        return replace(trial, measures=measures, note=note)


@click.command()
@opt.dataset_option
@opt.data_options("file", "task", "folder")
@opt.value("--method", "NAME", "Method to tune; see run --list-methods.", default="rcml-misa")
@opt.value("--trials", "N", "Settings to try, beside the default one.", int, default=40)
@opt.value("--search searches", "KEY=VALUES", _SEARCH, multiple=True)
@opt.value("--metric", "NAME", _METRIC)
@opt.value("--inner", "K", _INNER, int)
@opt.flag("--nested", _NESTED)
@opt.method_options
@opt.repeats_options
@opt.workers_options
@opt.keeping_options(_OUT)
@opt.protocol_options
@click.pass_context
def tune(
    ctx: click.Context,
    name: str,
    data: opt.DataOptions,
    method: str,
    trials: int,
    searches: tuple[str, ...],
    metric: str | None,
    inner: int | None,
    nested: bool,
    settings: opt.MethodOptions,
    repeats: opt.Repeats,
    workers: opt.Workers,
    keeping: opt.Keeping,
    protocol: Protocol,
) -> None:
    """Search the settings of a method on train rows; write the best as a plan of `experiment`.

    Each setting is scored on inner folds of the train rows, or on validation rows; no test row is
    looked at. The first 12 trials are drawn at random, then 4 are proposed at a time, whatever the
    number of workers, so that a seed has one search. --nested has a search of its own on each of
    the R splits, and scores the found and the default setting on the split's test rows.
    """
    from rcml_misa.estimators.registry import check_weights
    from rcml_misa.runs.journal import opened
    from rcml_misa.runs.search import best_trial, need_optuna
    from rcml_misa.runs.tuning import check_metric, inner_folds

    need_optuna()
    check_least(trials=(trials, 1), inner=(inner, 1))
    check_total(datasets=1, variants=trials + 1, runs=repeats.runs if nested else 1)
    default = settings.recipe(method, regression=data.predicts_scores([name]))
    dataset = data.load(name)
    if dataset.weights is not None:
        check_weights(default.build(repeats.seed), method=default.label)
    metric = check_metric(dataset, metric)
    study = _Study(dataset, settings, method, default, protocol, 0, metric)
    space = _space(study, searches)
    seeds = repeats.seeds if nested else repeats.seeds[:1]
    first = study.task(default, run=0, seed=seeds[0], inner=0)
    study = replace(study, inner=inner_folds(dataset, first, asked=inner))
    note_reading(dataset)
    note_presence(dataset)
    with keeping.opened() as store, opened(keeping.out) as (storage, damage):
        if damage:
            echo(f"note: {damage}.", err=True)
        tunings = [
            _Tuning(_search(study, space, trials, seed, storage, fresh=keeping.fresh), run, seed)
            for run, seed in enumerate(seeds)
        ]
        _say_kept(tunings, keeping)
        carry_out = partial(run_tasks, dataset, workers=workers, store=store, fresh=keeping.fresh)
        session = _carry_on(study, tunings, carry_out)
        if session.taken:
            text = f"{session.taken} trials are read from their records in {keeping.folder}"
            echo(f"note: {text}.", err=True)
        if session.interrupted:
            _say_interrupted(tunings, session, keeping)
            ctx.exit(session.status)
        best = [best_trial(tuning.trials, metric) for tuning in tunings]
        _show_search(study, tunings)
        texts = _texts(name, data, study, tunings, best, repeats)
        _write(keeping, texts)
        if nested:
            outer = _score(study, tunings, best, carry_out)
            outer.failures += session.failures
            heading = f"found by {len(tunings)} searches of {tunings[0].search.number} settings, "
            heading += protocol_text(dataset, protocol)
            show_results(dataset, outer, repeats, heading=heading, keeping=keeping)
            if outer.interrupted:
                _say_interrupted(tunings, outer, keeping)
            session = outer
    ctx.exit(session.status)


def _say_kept(tunings: Sequence[_Tuning], keeping: opt.Keeping) -> None:
    """Say how many trials an earlier command left."""
    kept = sum(len(tuning.trials) for tuning in tunings)
    number = sum(tuning.number for tuning in tunings)
    if kept == number:
        echo(f"note: all {number} trials are kept in {keeping.out}; nothing is searched.", err=True)
    elif kept:
        text = f"{kept} of {number} trials are kept in {keeping.out}; the others are made now"
        echo(f"note: {text}.", err=True)


def _write(keeping: opt.Keeping, texts: Mapping[str, str]) -> None:
    """Write the table and the plans, and say where trials are kept."""
    from rcml_misa.runs.journal import JOURNAL

    if keeping.out is not None:
        write_texts(keeping.out, texts)
        echo(f"written: {keeping.out} ({', '.join(texts)}, {JOURNAL})")
        return
    kept = "not kept; add --out DIR to keep them"
    if keeping.folder is not None:
        kept = f"{keeping.folder} (one JSON per trial); add --out DIR to keep their table"
    echo(f"trials: {kept} and a plan of what was found")


def _say_interrupted(tunings: Sequence[_Tuning], session: Session, keeping: opt.Keeping) -> None:
    """Say what an interrupted search leaves, and how it goes on."""
    if keeping.folder is None:
        text = "interrupted: no trial is kept; with --out DIR each is, as it ends."
    else:
        number = sum(tuning.number for tuning in tunings)
        done = sum(len(tuning.trials) for tuning in tunings) + len(session.records)
        text = (
            f"interrupted: {min(done, number)} of {number} trials are kept in {keeping.folder}; "
            "the same command goes on from there."
        )
    click.echo(text, err=True)


def _space(study: _Study, searches: Sequence[str]) -> Mapping[str, Any]:
    """Put together the space to search: declared, given, and without what is fixed."""
    from rcml_misa.estimators.spaces import search_space

    return search_space(study.recipe, searches=searches, fixed=_fixed(study.settings))


def _fixed(settings: opt.MethodOptions) -> list[str]:
    """Names of the parameters that are given a value."""
    names = [option.partition("=")[0] for option in settings.options]
    return names + (["epochs"] if settings.epochs is not None else [])


def _search(
    study: _Study, space: Mapping[str, Any], trials: int, seed: int, storage: Any, *, fresh: bool
) -> Search:
    """Make the search of one seed, or take it up from the journal."""
    from rcml_misa.runs.search import Search

    default = study.default
    params = {key: value for key, value in default.params.items() if key != "device"}
    depends = {
        "data": [study.dataset.name, study.dataset.sha256, study.dataset.task],
        "method": [default.method, default.variant, params],
        "protocol": asdict(study.protocol.for_dataset(study.dataset)),
        "inner": study.inner,
    }
    return Search(
        space,
        metric=study.metric,
        trials=trials,
        seed=seed,
        depends=depends,
        storage=storage,
        fresh=fresh,
    )


def _carry_on(
    study: _Study, tunings: Sequence[_Tuning], carry_out: Callable[[Sequence[Task]], Session]
) -> Session:
    """Carry out the rounds of all searches, side by side, until each is done."""
    from rcml_misa.runs.interrupts import interrupts_deferred

    whole = Session()
    while asked := [(tuning, trial) for tuning in tunings for trial in tuning.ask()]:
        # a setting that was tried before is not tried again
        outcomes = {(each.seed, old.options): old for each in tunings for old in each.trials}
        tasks: list[Task] = []
        for tuning, trial in asked:
            if (tuning.seed, trial.options) in outcomes:
                continue
            outcomes[tuning.seed, trial.options] = replace(trial, crashed=True, note=CRASHED)
            try:
                made = replace(study.recipe(trial.options), variant=trial.variant, default=False)
                tasks.append(study.task(made, run=tuning.run, seed=tuning.seed, inner=study.inner))
            except OptionError as error:
                outcomes[tuning.seed, trial.options] = replace(trial, note=str(error))
        session = carry_out(tasks)
        whole.failures += session.failures
        whole.taken += session.taken
        if session.interrupted:
            return replace(session, failures=whole.failures)
        records = {(record.seed, record.variant): record for record in session.records}
        for tuning, trial in asked:
            if record := records.get((tuning.seed, trial.variant)):
                outcomes[tuning.seed, trial.options] = study.outcome(trial, record)
        with interrupts_deferred():
            for tuning in tunings:
                tuning.tell(
                    [
                        replace(outcomes[tuning.seed, trial.options], number=trial.number)
                        for owner, trial in asked
                        if owner is tuning
                    ]
                )
    return whole


def _score(
    study: _Study,
    tunings: Sequence[_Tuning],
    best: Sequence[Trial],
    carry_out: Callable[[Sequence[Task]], Session],
) -> Session:
    """Run what each search found, and the default setting, on its split's test rows."""
    tasks = []
    for tuning, trial in zip(tunings, best, strict=True):
        found = replace(study.recipe(trial.options), variant=TUNED, default=False)
        tasks += [
            study.task(made, run=tuning.run, seed=tuning.seed, inner=0)
            for made in (found, replace(study.default, variant=DEFAULT))
        ]
    session = carry_out(tasks)
    session.records.sort(key=lambda record: (record.variant != TUNED, record.seed))
    return session


def _show_search(study: _Study, tunings: Sequence[_Tuning]) -> None:
    """Print the best trials of each search, or what each of several found."""
    from rcml_misa.reporting import render, terminal_width
    from rcml_misa.reporting.tuning import best_trials_table, found_table

    dataset, inner = study.dataset, study.inner
    scored = "the validation rows" if inner == 1 else f"{inner} inner folds of the train rows"
    count = f"{tunings[0].search.number} settings" + (
        ", all there are," if tunings[0].search.counted else ""
    )
    seeds = ", ".join(str(tuning.seed) for tuning in tunings)
    how = f"{count} on {scored}, seed{'s' if len(tunings) > 1 else ''} {seeds}"
    echo(f"{dataset.name}: {study.default.label}: {how}, {protocol_text(dataset, study.protocol)}")
    title = f"{dataset.name}: best settings of {study.default.label}"
    if len(tunings) == 1:
        table = best_trials_table(
            tunings[0].trials, metric=study.metric, title=title, fixed=study.settings.options
        )
    else:
        every = {tuning.seed: tuning.trials for tuning in tunings}
        table = found_table(every, metric=study.metric, title=title)
    click.echo(f"\n{render([table], 'text', width=terminal_width())}\n")


def _texts(
    name: str,
    data: opt.DataOptions,
    study: _Study,
    tunings: Sequence[_Tuning],
    best: Sequence[Trial],
    repeats: opt.Repeats,
) -> dict[str, str]:
    """Write all trials as csv and, for each search, a plan of its best setting."""
    from rcml_misa.reporting import render
    from rcml_misa.reporting.tuning import trials_table

    every = {tuning.seed: tuning.trials for tuning in tunings}
    texts = {"trials.csv": render([trials_table(every)], "csv")}
    fixed_test = _has_fixed_test_rows(study)
    for tuning, trial in zip(tunings, best, strict=True):
        # of drawn splits only this one's test rows had no part in the search
        runs = repeats.runs if fixed_test and len(tunings) == 1 else 1
        found = study.recipe(trial.options)
        method = found.method
        fixed = {key: study.default.params[key] for key in _fixed(study.settings)}
        sought = {key: found.params[key] for key in trial.setting}
        content = {
            "title": f"{method} as tuned on {study.dataset.name}, beside its default",
            "datasets": [name],
            "runs": runs,
            "seed": tuning.seed,
            **({} if data.task is None else {"task": data.task}),
            "methods": [
                {"method": method, "label": TUNED, "set": {**fixed, **sought}},
                {"method": method, "label": DEFAULT, "set": fixed},
            ],
            "protocol": _changes(study.protocol),
            "files": _changes(replace(data.file_options, regression=False)),
        }
        which = (
            f"{trial.name} of {tuning.search.number}" if trial.setting else "the default setting"
        )
        scored = f"{study.metric} {trial.value(study.metric):.6g} on train rows of seed"
        remarks = [f"Found by rcml-misa tune: {which}, {scored} {tuning.seed}."]
        if not fixed_test:
            remarks.append("Test rows of other seeds were among its train rows: keep runs = 1.")
        stem = "best" if len(tunings) == 1 else f"best-seed{tuning.seed}"
        texts[f"{stem}.toml"] = plan_text(content, remarks=remarks)
    return texts


def _has_fixed_test_rows(study: _Study) -> bool:
    """Whether every seed has the same test rows, none of which validate in another one."""
    dataset = study.dataset
    moving = dataset.valid_from == "test" and "valid" not in (dataset.folds or {})
    return study.protocol.for_dataset(dataset).split == "given" and not moving


def _changes(options: Any) -> dict[str, Any]:
    """Collect the fields of a dataclass that are not as by default."""
    pairs = ((each.name, getattr(options, each.name), each.default) for each in fields(options))
    return {name: value for name, value, default in pairs if value != default}
