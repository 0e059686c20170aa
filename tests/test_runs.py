"""Runs on a tiny data set: complete records, shared splits, same seed same numbers, failures."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from rcml_misa.datasets import Dataset
from rcml_misa.estimators.registry import Recipe, recipe
from rcml_misa.exceptions import OptionError
from rcml_misa.protocols import Protocol, conflict_views, spawn_seeds, split_rows
from rcml_misa.results import RunRecord, plain, summarise
from rcml_misa.runs import engine
from rcml_misa.runs.backends import Engine
from rcml_misa.runs.engine import execute
from rcml_misa.runs.interrupts import interrupts_deferred
from rcml_misa.runs.single import run_task
from rcml_misa.runs.tasks import Event, RunFailure, Task, plan_tasks, task_key
from rcml_misa.views import MultiView

ROWS, CLASSES = 90, 3
LDA = recipe("lda")
RCML = recipe("rcml", epochs=2, device="cpu")


def toy(seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    target = np.arange(ROWS) % CLASSES
    views = MultiView(
        [rng.normal(size=(ROWS, width)) + target[:, None] * (1.0 + width) for width in (2, 4)]
    )
    return Dataset("toy", views, target, ("a", "b", "c"), "00" * 32, "made here")


class Broken:
    """Fails as a bug would."""

    def __init__(self, random_state: int) -> None:
        self.random_state = random_state

    def fit(self, *_: object) -> None:
        raise RuntimeError("a wheel came off")


class Refusing(Broken):
    """Fails as a user's mistake does."""

    def fit(self, *_: object) -> None:
        raise OptionError("this can't be done.")


class Memory(Broken):
    """Guesses class 0 and remembers the rows that it is shown."""

    shown: list[list[np.ndarray]] = []  # noqa: RUF012

    def fit(self, views: MultiView, target: np.ndarray) -> None:
        self.classes_ = np.unique(target)
        self.shown.append([views.arrays[0]])

    def predict_proba(self, views: MultiView) -> np.ndarray:
        self.shown[-1].append(views.arrays[0])
        return np.tile([0.5, 0.3, 0.2], (views.n_samples, 1))

    def predict(self, views: MultiView) -> np.ndarray:
        return np.zeros(views.n_samples, dtype=int)


def fake(kind: type, variant: str = "-") -> Recipe:
    return Recipe(kind.__name__, variant, True, f"{__name__}:{kind.__name__}", {}, False)


def scores(records: list[Any]) -> dict[tuple[str, int], Any]:
    return {(one.method, one.seed): one.metrics for one in records}


def test_plan_pairs_seeds_and_recipes() -> None:
    tasks = plan_tasks([LDA, RCML], datasets=2, runs=3, seed=5)
    assert len(tasks) == 12
    assert [(t.dataset, t.run, t.seed, t.recipe.method) for t in tasks[:3]] == [
        (0, 0, 5, "lda"),
        (0, 0, 5, "rcml"),
        (0, 1, 6, "lda"),
    ]
    assert {t.seed for t in tasks} == {5, 6, 7}


@pytest.mark.parametrize("made", [LDA, RCML], ids=["lda", "rcml"])
def test_record_is_complete(made) -> None:
    data = toy()
    record = run_task(data, Task(made, 0, 2, 9))
    assert (record.dataset, record.method, record.variant) == ("toy", made.method, made.variant)
    assert (record.run, record.seed, record.default) == (2, 9, made.default)
    assert (record.train_rows, record.test_rows) == (72, 18)
    assert record.data_sha256 == data.sha256
    assert {"python", "rcml-misa", "numpy", "scipy", "scikit-learn", "torch"} == set(
        record.versions
    )
    assert record.config["random_state"] == spawn_seeds(9).model
    assert record.config["leaky"] is False
    for key, value in made.params.items():
        assert record.config[key] == value
    common = {"accuracy", "ece", "nll", "brier", "aurc", "auroc_errors", "uncertainty"}
    common |= {"macro_f1", "balanced_accuracy", "adaptive_ece", "augrc"}
    common |= {"accuracy_at_80", "accuracy_at_90"}
    found = {"conflict_auroc", "conflict_aupr", "conflict_fpr95"}
    found |= {"copied_share", "accuracy_copied", "accuracy_not_copied"}
    if made is RCML:
        found |= {"conflict_auroc_degree", "conflict_fpr95_degree"}
        assert len(record.history["loss"]) == 2
    assert set(record.metrics["clean"]) == common | {"noise_flagged"}
    assert set(record.metrics["conflict"]) == common | found
    for name in ("accuracy", "ece", "aurc", "uncertainty"):
        assert all(0 <= part[name] <= 1 for part in record.metrics.values())
    for part in record.bins.values():
        assert {name: len(values) for name, values in part.items()} == {
            "count": 15,
            "confidence": 15,
            "correct": 15,
        }
        assert sum(part["count"]) == 18
    assert set(record.timing) == {"fit_seconds", "predict_seconds"}
    assert all(value >= 0 for value in record.timing.values())
    again = RunRecord.from_json(record.to_json())
    assert set(again.metrics["clean"]) == set(record.metrics["clean"])


@pytest.mark.parametrize("made", [LDA, RCML], ids=["lda", "rcml"])
def test_same_seed_same_numbers(made) -> None:
    one, two, other = (run_task(toy(), Task(made, 0, 0, seed)) for seed in (3, 3, 4))
    np.testing.assert_equal(one.metrics, two.metrics)
    np.testing.assert_equal(one.bins, two.bins)
    np.testing.assert_equal(one.history, two.history)
    assert one.metrics != other.metrics


def test_variants_are_shown_the_same_rows() -> None:
    Memory.shown.clear()
    data = toy()
    for variant in ("a", "b"):
        run_task(data, Task(fake(Memory, variant), 0, 0, 3))
    one, two = Memory.shown
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
    # and these are the protocol's
    seeds = spawn_seeds(3)
    train, test = split_rows(ROWS, rng=np.random.default_rng(seeds.split))
    copy = conflict_views(
        data.views,
        data.target,
        train=train,
        test=test,
        rng=np.random.default_rng(seeds.corruption),
    )
    fitted, clean, conflict, noise = one
    np.testing.assert_array_equal(fitted, data.views.arrays[0][train])
    np.testing.assert_array_equal(clean, data.views.arrays[0][test])
    np.testing.assert_array_equal(conflict, copy.views.arrays[0])
    assert len(noise) == len(test)


def test_scores_of_a_guess_are_known() -> None:
    record = run_task(toy(), Task(fake(Memory), 0, 0, 3))
    _, test = split_rows(ROWS, rng=np.random.default_rng(spawn_seeds(3).split))
    share = float((toy().target[test] == 0).mean())
    clean = record.metrics["clean"]
    assert clean["accuracy"] == pytest.approx(share)
    assert clean["ece"] == pytest.approx(abs(0.5 - share))
    assert clean["aurc"] == pytest.approx(1 - share)
    assert clean["auroc_errors"] == 0.5
    assert clean["uncertainty"] == pytest.approx(0.5)
    assert clean["noise_flagged"] == 0.0
    assert record.metrics["conflict"]["conflict_auroc"] == 0.5
    assert record.metrics["conflict"]["conflict_fpr95"] == 1.0


def test_leaky_recipe_scales_with_all_rows() -> None:
    Memory.shown.clear()
    made = Recipe("Memory", "-", False, f"{__name__}:Memory", {}, True)
    data = toy()
    record = run_task(data, Task(made, 0, 0, 3))
    assert record.config["leaky"] is True
    fitted, clean, *_ = Memory.shown[0]
    both = np.concatenate([fitted, clean])
    np.testing.assert_allclose(both.min(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(both.max(axis=0), 1, atol=1e-12)


@pytest.fixture(autouse=True)
def known_config(monkeypatch) -> None:
    """Give the fakes what a scikit-learn estimator has."""
    monkeypatch.setattr(Broken, "get_params", lambda self, deep: {}, raising=False)


def test_jobs_do_not_change_numbers() -> None:
    tasks = plan_tasks([LDA, RCML, fake(Broken)], datasets=1, runs=1, seed=0)
    events: list[Event] = []
    alone = list(execute([toy()], tasks, engine=Engine(jobs=1)))
    together = list(execute([toy()], tasks, engine=Engine(jobs=2), on_event=events.append))
    np.testing.assert_equal(
        *(scores([r for r in some if isinstance(r, RunRecord)]) for some in (alone, together))
    )
    (failure,) = [one for one in together if isinstance(one, RunFailure)]
    assert failure.message == "RuntimeError: a wheel came off"
    done = [event.task.recipe.method for event in events if event.done]
    assert sorted(done) == ["Broken", "lda", "rcml"]


def test_one_failure_does_not_take_the_others_along() -> None:
    tasks = plan_tasks([LDA, fake(Broken)], datasets=1, runs=2, seed=0)
    events: list[Event] = []
    results = list(execute([toy()], tasks, engine=Engine(jobs=1), on_event=events.append))
    assert [type(one) for one in results] == [RunRecord, RunFailure] * 2
    failure = results[1]
    assert failure.task == tasks[1]
    assert failure.message == "RuntimeError: a wheel came off"
    assert [event.task for event in events if event.done] == tasks


def test_a_users_mistake_ends_it_all() -> None:
    tasks = plan_tasks([LDA, fake(Refusing)], datasets=1, runs=2, seed=0)
    results = execute([toy()], tasks, engine=Engine(jobs=1))
    assert isinstance(next(results), RunRecord)
    with pytest.raises(OptionError, match="can't be done"):
        next(results)
    assert list(results) == []


def test_a_users_mistake_in_a_worker_ends_it_all() -> None:
    tasks = plan_tasks([fake(Refusing)], datasets=1, runs=2, seed=0)
    with pytest.raises(OptionError, match="can't be done"):
        list(execute([toy()], tasks, engine=Engine(jobs=2)))


@pytest.mark.parametrize("jobs", [1, 2])
def test_events_tell_of_epochs(monkeypatch, jobs) -> None:
    monkeypatch.setattr(engine, "LOOK", 0.001)
    events: list[Event] = []
    made = recipe("rcml", epochs=150, device="cpu")
    tasks = plan_tasks([made], datasets=1, runs=2, seed=0)
    workers = Engine(jobs=jobs)
    assert len(list(execute([toy()], tasks, engine=workers, on_event=events.append))) == 2
    for task in tasks:
        own = [event for event in events if event.task == task]
        assert own[-1].done
        assert not any(event.done for event in own[:-1])
        epochs = [event.epoch for event in own[:-1]]
        assert epochs == sorted(set(epochs))
        assert {event.epochs for event in own if event.epoch} == {150}
        assert all(math.isfinite(event.loss) for event in own if event.epoch)


def test_thread_limits_are_restored() -> None:
    import torch

    before = torch.get_num_threads()
    list(execute([toy()], [Task(LDA, 0, 0, 0)], engine=Engine(jobs=1)))
    assert torch.get_num_threads() == before


# protocols


def test_record_keeps_rows_answers_curves_and_scores() -> None:
    record = run_task(toy(), Task(RCML, 0, 0, 3))
    assert len(record.rows) == 18
    assert set(record.correct) == {"clean", "conflict"}
    for name, digits in record.correct.items():
        assert digits.count("1") / 18 == pytest.approx(record.metrics[name]["accuracy"])
    assert len(record.curves["clean"]) == 20
    assert record.curves["clean"][-1] == pytest.approx(1 - record.metrics["clean"]["accuracy"])
    assert set(record.scores["clean"]) == {"errors"}
    assert set(record.scores["conflict"]) == {"errors", "altered"}
    found = record.scores["conflict"]["altered"]["own"]
    assert found["auroc"] == record.metrics["conflict"]["conflict_auroc"]
    assert found["fpr95"] == record.metrics["conflict"]["conflict_fpr95"]
    assert record.protocol == plain(asdict(Protocol(split="random")))
    again = RunRecord.from_json(record.to_json())
    np.testing.assert_equal(again.scores, record.scores)
    assert (again.rows, again.correct) == (record.rows, record.correct)


def test_every_test_set_is_scored_on_one_model() -> None:
    sets = ("conflict", "noise:0.5", "noise:5", "conflict:1", "conflict:0.5:train")
    protocol = Protocol(test_sets=sets, valid_share=0.25, held_out=1)
    record = run_task(toy(), Task(RCML, 0, 0, 3, protocol))
    assert set(record.metrics) == {"clean", *sets}
    assert set(record.scores["clean"]) == {"errors", "held_out"}
    for name in record.metrics:
        assert 0 <= record.metrics[name]["conformal_coverage"] <= 1
        assert record.metrics[name]["temperature_nll"] > 0
        # of one run, the pooled error after scaling is the run's own
        [row] = [row for row in summarise([record]) if row.test_set == name]
        scaled = record.metrics[name]["temperature_ece"]
        assert row.measures["pooled_temperature_ece"] == pytest.approx(scaled)
    assert record.metrics["conflict:1"]["accuracy"] < record.metrics["clean"]["accuracy"]
    assert record.metrics["conflict:0.5:train"]["copied_share"] == 1
    assert record.metrics["conflict:1"]["copied_share"] == 0
    # the same figures whichever other test sets there are
    alone = run_task(
        toy(), Task(RCML, 0, 0, 3, Protocol(test_sets=("noise:5",), valid_share=0.25, held_out=1))
    )
    np.testing.assert_equal(alone.metrics["noise:5"], record.metrics["noise:5"])


def test_a_test_set_that_is_refused_does_not_take_the_others_along() -> None:
    class Picky(Memory):
        def predict_proba(self, views: MultiView) -> np.ndarray:
            if np.abs(views.arrays[0]).max() > 50:
                raise ValueError("these rows\nare too far.")
            return super().predict_proba(views)

    globals()["Picky"] = Picky
    sets = ("conflict", "noise:1000", "noise:0.001")
    record = run_task(toy(), Task(fake(Picky), 0, 0, 3, Protocol(test_sets=sets)))
    assert set(record.metrics) == {"clean", "conflict", "noise:0.001"}
    assert record.failures == {"noise:1000": "these rows are too far."}


def test_folds_partition_the_rows() -> None:
    protocol = Protocol(folds=3, split="stratified")
    tasks = plan_tasks([LDA], datasets=1, runs=3, seed=5, protocol=protocol)
    records = [run_task(toy(), task) for task in tasks]
    assert sorted(row for record in records for row in record.rows) == list(range(ROWS))
    assert {record.test_rows for record in records} == {30}


def test_groups_and_given_folds_of_a_data_set() -> None:
    plain = toy()
    rows = np.arange(ROWS)
    grouped = Dataset(
        "toy",
        plain.views,
        plain.target,
        plain.classes,
        "0",
        "here",
        groups=rows // 9,
        folds={"train": rows[:60], "valid": rows[60:75], "test": rows[75:]},
    )
    record = run_task(grouped, Task(LDA, 0, 0, 3, Protocol(split="given")))
    assert list(record.rows) == list(range(75, 90))
    assert (record.train_rows, record.test_rows) == (60, 15)
    assert "conformal_size" in record.metrics["clean"]
    record = run_task(grouped, Task(LDA, 0, 0, 3, Protocol(split="grouped")))
    owners = {row // 9 for row in record.rows}
    assert sorted(record.rows) == [row for row in range(ROWS) if row // 9 in owners]


def test_records_of_another_protocol_are_run_again() -> None:
    tasks = plan_tasks([LDA], datasets=1, runs=2, seed=0)
    records = [run_task(toy(), task) for task in tasks]
    keys = [task_key(toy(), task) for task in tasks]
    assert [record.key for record in records] == keys
    other = plan_tasks([LDA], datasets=1, runs=2, seed=0, protocol=Protocol(label_noise=0.1))
    assert not {task_key(toy(), task) for task in other} & set(keys)
    read = [RunRecord.from_json(record.to_json()) for record in records]
    assert [record.key for record in read] == keys


class Validating(Memory):
    """Is given the rows held back, if it asks for them."""

    given: list[int] = []  # noqa: RUF012

    def fit(self, views: MultiView, target: np.ndarray, *, validation=None) -> None:
        self.given.append(0 if validation is None else len(validation[1]))
        super().fit(views, target)


def test_rows_held_back_reach_the_methods_that_ask_for_them() -> None:
    Validating.given.clear()
    run_task(toy(), Task(fake(Validating), 0, 0, 3, Protocol(valid_share=0.25)))
    run_task(toy(), Task(fake(Validating), 0, 0, 3))
    assert Validating.given == [17, 0]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C as in the foreground, also where the tests run with SIGINT ignored."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_an_interrupt_waits_until_workers_have_started(interruptible) -> None:
    seen = []

    def start() -> None:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            # children inherit the mask
            seen.append(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    with pytest.raises(KeyboardInterrupt):
        start()
    assert seen == [True]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_records_that_0_1_wrote_of_given_splits_load_and_are_run_again() -> None:
    plain, rows = toy(), np.arange(ROWS)
    folds = {"train": rows[:60], "valid": rows[60:75], "test": rows[75:]}
    data = replace(plain, folds=folds)
    task = Task(LDA, 0, 0, 3)
    record = run_task(data, task)
    assert record.protocol["split"] == "given"
    read = RunRecord.from_json(record.to_json())
    assert read.key == task_key(data, task)
    early = json.loads(record.to_json())
    early |= {"rows": [], "correct": {}, "scores": {}, "curves": {}}
    early["protocol"]["split"] = "random"
    del early["content_sha256"]
    old = RunRecord.from_json(json.dumps(early))
    assert old.metrics["clean"]["accuracy"] == record.metrics["clean"]["accuracy"]
    assert old.key != task_key(data, task)
