"""The command `tune`: what is searched, rounds, resuming, and rows that it never looks at."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from rcml_misa.cli.plans import read_plan
from rcml_misa.datasets import Dataset, load_dataset
from rcml_misa.estimators.controls import ControlClassifier
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.protocols import Protocol, partition_rows
from rcml_misa.runs import orders, search
from rcml_misa.runs.tasks import Task
from rcml_misa.runs.tuning import INNER, inner_folds, tune_task
from tests.commands import call, done


@pytest.fixture
def toy(tmp_path):
    return write_toy(tmp_path / "toy.csv")


def write_toy(path, *, test_noise=0.0, hard=0.6):
    rng = np.random.default_rng(0)
    classes = np.arange(90) % 3
    features = classes[:, None] + rng.normal(scale=hard, size=(90, 4))
    parts = np.where(np.arange(90) < 60, "train", "test")
    features[60:] += test_noise * rng.normal(size=(30, 4))
    table = pd.DataFrame(features, columns=["a__0", "a__1", "b__0", "b__1"])
    table.assign(kind=classes, part=parts).to_csv(path, index=False)
    return path


def words(path, *more, trials=5):
    """Words of a quick search on a file; what it has stands after them."""
    fast = ("--method", "logistic-regression", "--trials", trials, "--jobs", 1, "--inner", 2)
    return ("tune", "--dataset", path, "--target", "kind", "--leave-out", "part", *fast, *more)


def counted(monkeypatch, *, after=math.inf):
    """Count the tasks that are carried out; Ctrl-C comes after some of them."""
    carried, make = [], orders._record

    def counting(dataset, task, report):
        if len(carried) >= after:
            raise KeyboardInterrupt
        carried.append((task.seed, task.recipe.variant, task.inner))
        return make(dataset, task, report)

    monkeypatch.setattr(orders, "_record", counting)
    return carried


# one trial


def task_of(method="logistic-regression", *, options=(), **more):
    return Task(recipe(method, options=options, epochs=more.pop("epochs", None)), 0, 0, 0, **more)


def small_digits(**changes):
    data = load_dataset("digits")
    rows = np.arange(240)
    return replace(data, views=data.views.take(rows), target=data.target[rows], **changes)


def swapped(dataset: Dataset, rows, how):
    """Put nonsense in place of some rows' features, and other classes in place of theirs."""
    arrays = {}
    for name, array in dataset.views.items():
        changed = np.array(array, dtype=float)
        changed[rows] = np.nan if how == "nan" else 1e6 * (1 + np.arange(changed.shape[1]))
        arrays[name] = changed
    target = np.array(dataset.target)
    target[rows] = (target[rows] + 1) % 10
    return replace(dataset, views=type(dataset.views)(arrays), target=target)


@pytest.mark.parametrize("how", ["nan", "far"])
@pytest.mark.parametrize("inner", [1, 2])
@pytest.mark.parametrize("method", ["logistic-regression", "softmax"])
def test_test_rows_are_never_looked_at(method, inner, how) -> None:
    data = small_digits()
    protocol = Protocol(valid_share=0.25)
    task = task_of(method, epochs=1 if method == "softmax" else None)
    task = replace(task, inner=inner, protocol=protocol)
    test = partition_rows(data.target, protocol=protocol, seed=0).test
    first, second = (tune_task(each, task) for each in (data, swapped(data, test, how)))
    np.testing.assert_equal(second.metrics, first.metrics)  # NaN equals NaN
    assert first.metrics[INNER]["accuracy"] > 0.15
    assert not set(first.rows) & set(test)
    train = partition_rows(data.target, protocol=protocol, seed=0).train
    third = tune_task(swapped(data, train[:40], "far"), task)
    assert third.metrics != first.metrics  # the check would see a look


def test_fold_means_are_those_of_a_plain_loop() -> None:
    data = small_digits()
    record = tune_task(data, replace(task_of("lda"), inner=3))
    part = partition_rows(data.target, protocol=Protocol(), seed=0)
    assert sorted(record.rows) == sorted(part.train)
    assert record.test_rows == record.train_rows == len(part.train)
    from sklearn.model_selection import StratifiedKFold

    from rcml_misa.protocols import spawn_seeds

    number = int(spawn_seeds(0).test_set("inner folds").integers(2**31))
    scores = []
    kind = StratifiedKFold(3, shuffle=True, random_state=number)
    for fit, held in kind.split(part.train, data.target[part.train]):
        model = recipe("lda").build(spawn_seeds(0).model)
        rows, others = part.train[fit], part.train[held]
        model.fit(data.views.take(rows), data.target[rows])
        scores.append((model.predict(data.views.take(others)) == data.target[others]).mean())
    assert record.metrics[INNER]["accuracy"] == pytest.approx(np.mean(scores), abs=1e-12)


def test_groups_are_not_divided_by_inner_folds(monkeypatch) -> None:
    from rcml_misa.runs import tuning

    groups = np.arange(240) // 8
    data = small_digits(groups=groups)
    seen, fit = [], tuning.fit_task

    def watching(dataset, task, *, part, report):
        seen.append((set(dataset.groups[part.train]), set(dataset.groups[part.test])))
        return fit(dataset, task, part=part, report=report)

    monkeypatch.setattr(tuning, "fit_task", watching)
    tune_task(data, replace(task_of("lda"), inner=3))
    assert len(seen) == 3
    assert not any(train & held for train, held in seen)


def test_validation_rows_are_the_default_where_there_are_some() -> None:
    data = small_digits()
    assert inner_folds(data, task_of()) == 3
    assert inner_folds(data, task_of(protocol=Protocol(valid_share=0.2))) == 1
    chosen = Protocol(valid_share=0.2, selection="best-valid")
    assert inner_folds(data, task_of(protocol=chosen)) == 3  # they choose the epoch
    with pytest.raises(DataError, match="no validation rows"):
        inner_folds(data, task_of(), asked=1)
    with pytest.raises(DataError, match="can't be cut into 500"):
        inner_folds(data, task_of(), asked=500)
    with pytest.raises(DataError, match="one class only"):
        inner_folds(replace(data, target=np.zeros(240, dtype=np.int64)), task_of())


@pytest.mark.parametrize("look", ["selection", "scaling"])
def test_leaks_are_refused(look) -> None:
    protocol = Protocol(selection="best-test-epoch") if look == "selection" else Protocol()
    options = ["scaling=paper-leaky"] if look == "scaling" else []
    with pytest.raises(OptionError, match="looks at test rows"):
        tune_task(small_digits(), task_of("rcml", options=options, inner=3, protocol=protocol))


@pytest.fixture
def picky(monkeypatch):
    """Logistic regression that refuses to be fitted with a C above 1."""
    fit = ControlClassifier.fit

    def refusing(self, X, y, sample_weight=None):
        if self.C > 1:
            raise DataError(f"C={self.C} does not suit these rows.")
        return fit(self, X, y, sample_weight)

    monkeypatch.setattr(ControlClassifier, "fit", refusing)


def test_setting_that_can_not_be_fitted_is_a_note_in_its_record(picky) -> None:
    task = replace(task_of(options=["C=2"]), inner=3)
    record = tune_task(small_digits(), task)
    assert record.metrics == {INNER: {}}
    assert record.failures == {INNER: "C=2.0 does not suit these rows."}
    assert type(record).from_json(record.to_json()) == record


# the command


@pytest.fixture
def short(monkeypatch):
    """Rounds of fewer trials, so that few make several rounds."""
    monkeypatch.setattr(search, "STARTUP", 3)
    monkeypatch.setattr(search, "ROUND", 2)


def test_majority_has_nothing_to_search() -> None:
    result = call("tune", "--method", "majority")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no parameters to search" in result.stderr


@pytest.mark.parametrize(
    "text",
    [
        *("C", "C=", "C=1", "C=5:1", "C=1:1", "C=0:1:log", "C=nan:1", "C=1:inf", "C=a:b"),
        *("C=1:2:3:4", "C=1:2:lin", "C=1:9:log:2", "C=1:2:-1", "trees=1:9:0.5", "trees=1.5:9"),
        *("C=1|1", "CC=1:2", "scaling=minmax:standard", "scaling=none|paper-leaky", "=1:2"),
        "C=" + "|".join(map(str, range(1, 2000))),
    ],
)
def test_search_that_can_not_be(text, toy) -> None:
    result = call(*words(toy, "--search", text))
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) <= 310
    assert result.stderr.endswith((".\n", "?\n"))


def test_search_and_set_of_one_parameter(toy) -> None:
    assert "--set too" in call(*words(toy, "--set", "C=1", "--search", "C=1:2")).stderr
    twice = call(*words(toy, "--search", "C=1:3", "--search", "C=1:2"))
    assert "--search twice" in twice.stderr


def test_table_files_and_plan(toy, tmp_path, picky) -> None:
    out = tmp_path / "out"
    result = done(*words(toy, "--out", out, trials=7))
    assert all(len(line) <= 80 for line in result.stdout.splitlines() if "written" not in line)
    assert "best settings of logistic-regression" in result.stdout
    assert "without a value; the first is trial" in " ".join(result.stdout.split())
    table = pd.read_csv(out / "trials.csv")
    assert table["trial"].tolist() == ["default", *(f"trial {k}" for k in range(7))]
    failed = table["C"] > 1
    assert 0 < failed.sum() < 7
    assert table.loc[failed, "accuracy"].isna().all()
    assert table.loc[failed, "note"].str.endswith("does not suit these rows.").all()
    assert table.loc[~failed, "note"].isna().all()
    plan = read_plan(out / "best.toml")
    assert plan.datasets == [str(toy)]
    assert (plan.repeats.runs, plan.repeats.seed) == (1, 0)
    assert plan.files.target == "kind"
    tuned, default = (entry.recipe for entry in plan.entries)
    assert (tuned.variant, default.variant) == ("tuned", "default")
    scored = table[~failed].sort_values(["accuracy", "nll"], ascending=[False, True])
    best = scored.iloc[0]
    expected = {} if best["trial"] == "default" else {key: best[key] for key in ("C", "scaling")}
    assert {key: tuned.params[key] for key in ("C", "scaling") if key in tuned.params} == expected
    assert "C" not in default.params
    done("experiment", out / "best.toml", "--jobs", 1, "--out", tmp_path / "plan")
    runs = pd.read_csv(tmp_path / "plan" / "best.csv")
    assert set(runs["variant"]) == {"tuned", "default"}


def test_fixed_values_stand_in_every_trial_and_in_the_plan(toy, tmp_path) -> None:
    out = tmp_path / "out"
    done(*words(toy, "--set", "scaling=none", "--out", out, trials=3))
    table = pd.read_csv(out / "trials.csv")
    assert "scaling" not in table
    plan = read_plan(out / "best.toml")
    assert [entry.recipe.params["scaling"] for entry in plan.entries] == ["none", "none"]
    for path in (out / "records").glob("*.json"):
        assert json.loads(path.read_text())["config"]["scaling"] == "none"


def test_same_again_runs_nothing_and_more_trials_go_on(short, toy, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    carried = counted(monkeypatch)
    first = done(*words(toy, "--out", out, trials=5))
    assert len(carried) == 6
    table = (out / "trials.csv").read_bytes()
    again = done(*words(toy, "--out", out, trials=5))
    assert len(carried) == 6
    assert "nothing is searched" in " ".join(again.stderr.split())
    assert again.stdout == first.stdout
    assert (out / "trials.csv").read_bytes() == table
    done(*words(toy, "--out", out, trials=7))
    assert len(carried) == 8
    assert (out / "trials.csv").read_bytes().startswith(table)
    done(*words(toy, "--out", out, "--fresh", trials=3))
    assert len(carried) == 12
    assert len(pd.read_csv(out / "trials.csv")) == 4


@pytest.mark.parametrize("after", [2, 5])
def test_interrupted_search_goes_on_as_if_nothing_was(
    after, short, toy, tmp_path, monkeypatch
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    with monkeypatch.context() as patch:
        carried = counted(patch)
        done(*words(toy, "--out", whole, trials=6))
        expected = set(carried)
    with monkeypatch.context() as patch:
        carried = counted(patch, after=after)
        result = call(*words(toy, "--out", out, trials=6))
        assert result.exit_code == 130
        assert "best settings" not in result.stdout
        before = list(carried)
    if after == 5:  # a kill in the middle of an entry
        with (out / "journal.log").open("ab") as stream:
            stream.write(b'{"op_code": 4, "work')
    with monkeypatch.context() as patch:
        carried = counted(patch)
        done(*words(toy, "--out", out, trials=6))
    assert len(before) == after
    assert not set(before) & set(carried)
    assert set(before) | set(carried) == expected
    assert (out / "trials.csv").read_bytes() == (whole / "trials.csv").read_bytes()


def test_lost_journal_comes_back_from_the_records(short, toy, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    done(*words(toy, "--out", out, trials=5))
    table = (out / "trials.csv").read_bytes()
    (out / "journal.log").unlink()
    carried = counted(monkeypatch)
    done(*words(toy, "--out", out, trials=5))
    assert carried == []
    assert (out / "trials.csv").read_bytes() == table
    shutil.rmtree(out / "records")  # and the other way round
    done(*words(toy, "--out", out, trials=5))
    assert carried == []
    assert (out / "trials.csv").read_bytes() == table


def test_records_alone_are_read_again_which_is_said(short, toy, tmp_path, monkeypatch) -> None:
    kept = (*words(toy), "--records", tmp_path / "kept")
    first = done(*kept)
    assert f"trials: {tmp_path / 'kept'} (one JSON per trial)" in " ".join(first.stdout.split())
    assert "read from their records" not in first.stderr
    carried = counted(monkeypatch)
    again = done(*kept)
    assert carried == []
    assert again.stdout == first.stdout
    text = " ".join(again.stderr.split())
    number = len(list((tmp_path / "kept").glob("*.json")))
    assert f"note: {number} trials are read from their records in {tmp_path / 'kept'}." in text
    assert "trials: not kept" in done(*words(toy)).stdout


def test_weights_that_a_method_does_not_take_are_refused_at_once(toy, tmp_path) -> None:
    table = pd.read_csv(toy).assign(w=1.0)
    table.to_csv(tmp_path / "weighed.csv", index=False)
    result = call(
        *("tune", "--dataset", tmp_path / "weighed.csv", "--target", "kind", "--method", "lda"),
        *("--leave-out", "part", "--weight-column", "w"),
    )
    assert result.exit_code == 2
    assert "error: method lda takes no weights of rows" in result.stderr


def test_other_searches_share_a_folder(toy, tmp_path) -> None:
    out = tmp_path / "out"
    done(*words(toy, "--out", out))
    table = (out / "trials.csv").read_bytes()
    done(*words(toy, "--metric", "nll", "--out", out))
    assert (out / "trials.csv").read_bytes() == table  # one round; its draws know no metric
    done(*words(toy, "--seed", 1, "--out", out))
    assert (out / "trials.csv").read_bytes() != table
    done(*words(toy, "--out", out))
    assert (out / "trials.csv").read_bytes() == table


def test_workers_do_not_change_the_search(toy, tmp_path) -> None:
    tables = []
    for jobs in (1, 2):
        out = tmp_path / str(jobs)
        done(*words(toy, "--out", out, "--jobs", jobs, trials=2))
        tables.append((out / "trials.csv").read_bytes())
    assert tables[0] == tables[1]


def test_other_test_rows_give_the_same_search(short, tmp_path) -> None:
    tables = []
    for noise in (0.0, 100.0):
        folder = tmp_path / str(noise)
        folder.mkdir()
        path = write_toy(folder / "toy.csv", test_noise=noise)
        fast = ("--method", "logistic-regression", "--trials", 5, "--jobs", 1)
        more = ("--target", "kind", "--split-column", "part", "--out", folder / "out")
        done("tune", "--dataset", path, *fast, *more)
        tables.append((folder / "out" / "trials.csv").read_bytes())
        plan = read_plan(folder / "out" / "best.toml")
        assert plan.repeats.runs == 10  # the test rows of a given split are new to the search
    assert tables[0] == tables[1]


def test_nested_search(toy, tmp_path, monkeypatch) -> None:
    out = tmp_path / "out"
    carried = counted(monkeypatch)
    result = done(*words(toy, "--nested", "--runs", 3, "--out", out, trials=4))
    assert len(carried) == 3 * (5 + 2)
    shown = " ".join(result.stdout.split())
    assert "paired differences" in shown
    assert "logistic-regression tuned" in shown
    table = pd.read_csv(out / "trials.csv")
    assert table.groupby("seed").size().tolist() == [5, 5, 5]
    summary = pd.read_csv(out / "summary.csv")
    assert set(summary["variant"]) == {"tuned", "default"}
    assert set(summary["runs"]) == {3}
    for seed in range(3):
        plan = read_plan(out / f"best-seed{seed}.toml")
        assert (plan.repeats.runs, plan.repeats.seed) == (1, seed)
        stem = f"toy.csv-logistic-regression-tuned-seed{seed}"
        (path,) = (out / "records").glob(f"{stem}-*.json")
        config = json.loads(path.read_text())["config"]
        for key, value in plan.entries[0].recipe.params.items():
            assert config[key] == value
    carried.clear()
    again = done(*words(toy, "--nested", "--runs", 3, "--out", out, trials=4))
    assert carried == []
    assert again.stdout == result.stdout
    single = tmp_path / "single"
    done(*words(toy, "--seed", 1, "--out", single, trials=4))
    one = pd.read_csv(single / "trials.csv")
    pd.testing.assert_frame_equal(one, table[table["seed"] == 1].reset_index(drop=True))


def test_scores_are_searched_by_mae(tmp_path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 2))
    table = pd.DataFrame(values, columns=["a__0", "b__0"]).assign(y=values.sum(axis=1))
    path = tmp_path / "scores.csv"
    table.to_csv(path, index=False)
    more = ("--target", "y", "--task", "regression", "--inner", 2, "--jobs", 1, "--epochs", 1)
    quick = ("--search", "learning_rate=1e-4:1e-2:log", "--set", "hidden=8", "--set", "heads=1")
    command = ("tune", "--dataset", path, "--method", "misa", *more, *quick)
    done(*command, "--trials", 2, "--out", tmp_path / "out")
    trials = pd.read_csv(tmp_path / "out" / "trials.csv")
    plan = read_plan(tmp_path / "out" / "best.toml")
    best = trials.loc[trials["mae"].idxmin()]
    assert plan.task == "regression"
    assert plan.entries[0].recipe.params["epochs"] == 1
    if best["trial"] != "default":
        assert plan.entries[0].recipe.params["learning_rate"] == best["learning_rate"]
    refused = call(*command, "--metric", "accuracy")
    assert (refused.exit_code, refused.stdout) == (2, "")
    wrong = call(
        "tune", "--dataset", path, "--target", "y", "--task", "regression", "--method", "lda"
    )
    assert "has no regression" in wrong.stderr


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--trials", 0), "--trials 0 is below 1"),
        (("--inner", 0), "--inner 0 is below 1"),
        (("--inner", 1), "no validation rows"),
        (("--inner", 77), "can't be cut into 77"),
        (("--metric", "acuracy"), "did you mean accuracy"),
        (("--metric", "mae"), "is not measured"),
        (("--method", "nope"), "no method 'nope'"),
        (("--set", "C=0"), "C=0"),
        (("--selection", "best-test-epoch"), "looks at test rows"),
        (("--method", "rcml", "--set", "scaling=paper-leaky"), "looks at test rows"),
    ],
)
def test_wrong_words_are_one_sentence(more, part, toy) -> None:
    result = call(*words(toy), *more)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert part in result.stderr
    errors = [line for line in result.stderr.splitlines() if not line.startswith("note: ")]
    assert len(errors) == 1


def test_default_is_left_where_all_trials_fail(toy, picky) -> None:
    result = call(
        *words(toy, "--search", "C=2:9", "--inner", 2, "--trials", 2, "--set", "scaling=none")
    )
    assert result.exit_code == 0  # the default setting is left
    assert "2 settings without a value" in " ".join(result.stdout.split())


def test_metric_that_is_nan_everywhere_is_one_sentence(tmp_path) -> None:
    path = write_toy(tmp_path / "easy.csv", hard=0.01)
    result = call(*words(path, "--metric", "auroc_errors"))  # no row is wrong
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no setting of 6 has a finite auroc_errors" in result.stderr


def test_without_optuna_it_is_a_sentence(monkeypatch, toy) -> None:
    monkeypatch.setattr("rcml_misa.runs.search.find_spec", lambda _: None)
    result = call(*words(toy))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install 'rcml-misa[tune]'" in result.stderr


def test_crashed_trial_ends_alone(toy, monkeypatch) -> None:
    make = orders._record

    def crashing(dataset, task, report):
        if task.recipe.variant == "trial 1":
            raise MemoryError("no more")
        return make(dataset, task, report)

    monkeypatch.setattr(orders, "_record", crashing)
    result = call(*words(toy))
    assert result.exit_code == 1
    assert "MemoryError" in result.stderr
    assert "best settings" in result.stdout


@pytest.mark.parametrize(
    ("valid_from", "names", "fixed_rows"),
    [("train", (), True), ("test", (), False), ("test", ("valid",), True)],
)
def test_rows_that_validate_other_seeds_are_no_test_rows(valid_from, names, fixed_rows) -> None:
    from rcml_misa.cli.options import MethodOptions

    module = sys.modules["rcml_misa.cli.tune"]
    parts = np.split(np.arange(240), [160, 200])
    folds = dict(zip(("train", "test", *names), (*parts[:2], *parts[2:]), strict=False))
    data = small_digits(folds=folds, valid_from=valid_from)
    study = module._Study(data, MethodOptions(), "lda", recipe("lda"), Protocol(), 3, "accuracy")
    assert module._has_fixed_test_rows(study) == fixed_rows
    drawn = replace(study, dataset=small_digits())
    assert not module._has_fixed_test_rows(drawn)
