"""Commands on files with a split, groups, weights, a test file or scores of their own."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from commands import call, done
from sklearn.metrics import mean_absolute_error, r2_score

import rcml_misa
from rcml_misa.datasets import FileOptions, load_dataset
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import OptionError
from rcml_misa.results import RunStore
from rcml_misa.runs.single import fit_task, run_task
from rcml_misa.runs.tasks import Task

ROWS, TRAIN = 84, 60
RUNS = ("--runs", 2, "--jobs", 1)
QUICK = (
    *("--set", "hidden=8", "--set", "feedforward=8", "--epochs", 2, "--device", "cpu"),
    *("--jobs", 1, "--runs", 2),
)
SPLIT = ("--split-column", "part")
SCORE = ("--target", "score", "--task", "regression")


def frame():
    rng = np.random.default_rng(0)
    y = np.arange(ROWS) % 2
    values = rng.normal(size=(ROWS, 4)) + 1.5 * y[:, None]
    table = pd.DataFrame(values, columns=["a__0", "a__1", "b__0", "b__1"])
    return table.assign(
        label=np.array(["no", "yes"])[y],
        part=np.where(np.arange(ROWS) < TRAIN, "train", "test"),
        who=[f"p{row // 3}" for row in range(ROWS)],
        w=rng.uniform(0.1, 3, ROWS),
        score=100 * values[:, 0] + 9 * rng.normal(size=ROWS),
    )


def refused(*words):
    result = call(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    return " ".join(result.stderr.split())


def records(folder):
    return RunStore(folder).read()


@pytest.fixture
def files(tmp_path):
    """Folder of csv files, each with the columns that its name says beside two views."""
    table = frame()
    views = list(table)[:4]
    contents = {
        "split": ["label", "part"],
        "groups": ["label", "who"],
        "weights": ["label", "w"],
        "all": ["label", "part", "who", "w"],
        "scores": ["score"],
        "scored-groups": ["score", "who", "w"],
    }
    for name, more in contents.items():
        table[[*views, *more]].to_csv(tmp_path / f"{name}.csv", index=False)
    table[[*views, "label"]][:TRAIN].to_csv(tmp_path / "train.csv", index=False)
    table[["label", *reversed(views)]][TRAIN:].to_csv(tmp_path / "test.csv", index=False)
    return tmp_path


def test_a_split_column_is_the_given_split(files):
    out = files / "out"
    result = done(
        *("run", "--dataset", files / "split.csv", *SPLIT, "--method", "majority,lda", *RUNS),
        *("--out", out),
    )
    assert "given split (60 train, 24 test rows)" in result.stdout
    for record in records(out / "records"):
        assert list(record.rows) == list(range(TRAIN, ROWS))
        assert (record.train_rows, record.protocol["split"]) == (TRAIN, "given")


def test_a_drawn_split_of_a_file_with_a_split_is_allowed(files):
    dataset = ("run", "--dataset", files / "split.csv", *SPLIT, "--method", "lda", *RUNS)
    assert "stratified 80/20 splits" in done(*dataset, "--split", "stratified").stdout


def test_a_group_column_draws_grouped_splits(files):
    out = files / "out"
    words = ("--dataset", files / "groups.csv", "--group-column", "who", "--method", "lda")
    assert "grouped 80/20 splits" in done("run", *words, *RUNS, "--out", out).stdout
    for record in records(out / "records"):
        owners = {row // 3 for row in record.rows}
        assert sorted(record.rows) == [row for row in range(ROWS) if row // 3 in owners]
    for split in ("random", "stratified"):
        sentence = refused("run", *words, *RUNS, "--split", split)
        assert f"a {split} split would divide the groups of groups.csv" in sentence
        assert "use split 'grouped'" in sentence


def test_a_test_file_is_the_given_split(files):
    out = files / "out"
    data = ("--dataset", files / "train.csv", "--test-file", files / "test.csv")
    result = done("run", *data, "--method", "majority,lda", *RUNS, "--out", out)
    assert "given split (60 train, 24 test rows)" in result.stdout
    alone = files / "alone"
    words = ("--dataset", files / "split.csv", *SPLIT, "--method", "majority,lda", *RUNS)
    done("run", *words, "--out", alone)
    pairs = list(zip(records(out / "records"), records(alone / "records"), strict=True))
    assert len(pairs) == 4
    for first, second in pairs:  # the same rows, whichever way they are told
        assert first.metrics["clean"]["accuracy"] == second.metrics["clean"]["accuracy"]
        assert first.data_sha256 != second.data_sha256
    sets = ("--datasets", files / "train.csv", "--test-file", files / "test.csv")
    compared = done("compare", *sets, "--methods", "lda,majority", *RUNS, "--format", "json")
    assert json.loads(compared.stdout)["protocol"]["split"] == "given"
    check = done("datasets", "check", files / "train.csv", "--test-file", files / "test.csv").stdout
    assert "own split: 60 train, 24 test rows" in check
    sentence = refused("fit", *data, "--out", files / "m.rcml")
    assert "leave --test-file out, and give it to predict" in sentence


def test_fit_leaves_the_test_rows_out(files):
    model = files / "m.rcml"
    words = ("fit", "--dataset", files / "all.csv", *SPLIT, "--group-column", "who")
    result = done(
        *words, "--weight-column", "w", "--method", "ridge-expert", "--out", model, "--json"
    )
    assert json.loads(result.stdout)["train_rows"] == TRAIN
    assert "24 test rows of the file's own split are left out" in " ".join(result.stderr.split())
    table = frame()[:TRAIN]
    views = {name: table[[f"{name}__0", f"{name}__1"]].to_numpy() for name in "ab"}
    expected = recipe("ridge-expert").build(0).fit(views, table["label"], sample_weight=table["w"])
    unweighted = recipe("ridge-expert").build(0).fit(views, table["label"])
    fitted = rcml_misa.load(model).predict_proba(views)
    np.testing.assert_allclose(fitted, expected.predict_proba(views), rtol=1e-5)
    assert np.abs(fitted - unweighted.predict_proba(views)).max() > 1e-4
    done("predict", model, files / "all.csv", "--out", files / "answers.csv")
    assert len(pd.read_csv(files / "answers.csv")) == ROWS


def test_weights_count_in_training_alone(files):
    path = str(files / "all.csv")
    options = FileOptions(split_column="part", group_column="who", weight_column="w")
    data = load_dataset(path, options=options)
    task = Task(recipe("logistic-regression"), 0, 0, 3)
    fitted = fit_task(data, task)
    table = frame()
    views = data.views.take(np.arange(TRAIN))
    model = recipe("logistic-regression").build(fitted.seeds.model)
    model.fit(views, data.target[:TRAIN], sample_weight=table["w"][:TRAIN])
    rows = data.views.take(np.arange(TRAIN, ROWS))
    answers = fitted.estimator.predict_proba(rows)
    np.testing.assert_array_equal(answers, model.predict_proba(rows))
    record = run_task(data, task)
    wanted = (model.predict(rows) == data.target[TRAIN:]).mean()  # every test row counts alike
    assert record.metrics["clean"]["accuracy"] == wanted
    with pytest.raises(OptionError, match="method lda takes no weights"):
        run_task(data, Task(recipe("lda"), 0, 0, 3))


@pytest.mark.parametrize("method", ["lda", "misa", "sklearn.neighbors:KNeighborsClassifier"])
def test_a_method_without_weights_is_refused_before_any_run(files, method):
    out = files / "out"
    words = ("--dataset", files / "weights.csv", "--weight-column", "w")
    sentence = refused("run", *words, "--method", f"majority,{method}", *RUNS, "--out", out)
    assert f"method {method}" in sentence
    assert "takes no weights of rows; leave --weight-column out" in sentence
    assert not records(out / "records")
    if ":" not in method:
        sentence = refused("fit", *words, "--method", "misa", "--out", files / "m.rcml")
        assert "method misa takes no weights" in sentence
        assert not (files / "m.rcml").exists()


def test_records_of_other_roles_are_run_again(files):
    kept = ("--records", files / "records", "--methods", "majority,rbf-svm", *RUNS)
    words = ("compare", "--datasets", files / "all.csv", "--views", "v=a__0:b__1", *kept)
    roles = ("--group-column", "who", "--weight-column", "w")

    def shas():
        return {record.data_sha256 for record in records(files / "records")}

    done(*words, *SPLIT)
    first = shas()
    times = {path: path.stat().st_mtime_ns for path in (files / "records").glob("*.json")}
    done(*words, *SPLIT)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    done(*words, *SPLIT, *roles)
    assert len(first) == 1
    assert first < shas()  # beside the others
    assert len(shas()) == 2
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_an_added_file_is_run_with_its_roles(files):
    done(
        *("datasets", "add", files / "scored-groups.csv", "--name", "mine", *SCORE),
        *("--group-column", "who", "--views", "v=a__0:b__1"),
    )
    shown = " ".join(done("datasets", "show", "mine").stdout.split())
    assert "--group-column who" in shown
    assert "--task regression" in shown
    result = done("run", "--dataset", "mine", "--method", "misa", *QUICK)
    assert "grouped 80/20 splits" in result.stdout
    assert "RMSE" in result.stdout
    sentence = refused("compare", "--datasets", "mine,digits", "--methods", "misa", *QUICK)
    assert "mine has numbers to predict and digits has classes; compare them apart" in sentence
    plan = files / "plan.toml"
    plan.write_text(
        'datasets = ["mine"]\nruns = 1\n[[methods]]\nmethod = "misa"\n'
        "set = { hidden = 8, feedforward = 8, epochs = 1 }\n"
    )
    assert "RMSE" in done("experiment", plan, "--jobs", 1).stdout


@pytest.fixture
def compared(files):
    """Records of two regressors on one file, and the command that shows them."""
    words = ("compare", "--datasets", files / "scores.csv", *SCORE, "--methods", "rcml-misa,misa")
    return (*words, *QUICK, "--records", files / "records", "--format")


def test_a_regression_is_measured_in_every_form(files, compared):
    shown = {form: done(*compared, form) for form in ("text", "markdown", "latex", "csv", "json")}
    for form in ("text", "markdown", "latex"):
        for heading in ("MAE", "RMSE", "R2", "Corr", "Spearman", "paired differences"):
            assert heading in shown[form].stdout, form
        assert "Acc-7" not in shown[form].stdout
    table = pd.read_csv(pd.io.common.StringIO(shown["csv"].stdout))
    assert {"mae", "rmse", "r2", "corr", "spearman"} <= set(table["measure"])
    content = json.loads(shown["json"].stdout)
    pairs = {pair["measure"]: pair for pair in content["comparisons"]}
    assert {"mae", "rmse", "r2", "corr", "spearman"} == set(pairs)
    first, second = (
        np.array([record.metrics["clean"]["rmse"] for record in records(files / "records")])
        .reshape(2, 2)
        .tolist()
    )
    methods = [record.method for record in records(files / "records")]
    better = np.less(*((second, first) if methods[0] == "misa" else (first, second)))
    assert pairs["rmse"]["wins"] == better.sum()  # a lower error is better
    result = json.loads(
        done(
            *("run", "--dataset", files / "scores.csv", *SCORE, "--method", "misa,rcml-misa"),
            *(*QUICK, "--json"),
        ).stdout
    )
    assert {"rmse", "r2"} <= {pair["measure"] for pair in result["comparisons"]}


def test_measures_of_a_run_are_those_of_its_answers(files):
    data = load_dataset(
        str(files / "scores.csv"), options=FileOptions(target="score", regression=True)
    )
    options = ["hidden=8", "feedforward=8", "epochs=2"]
    task = Task(recipe("misa", options=options, regression=True), 0, 0, 1)
    record, fitted = run_task(data, task), fit_task(data, task)
    rows = fitted.part.test
    predicted = fitted.estimator.predict(data.views.take(rows))
    measures = record.metrics["clean"]
    assert measures["mae"] == pytest.approx(mean_absolute_error(data.target[rows], predicted))
    assert measures["r2"] == pytest.approx(r2_score(data.target[rows], predicted))
    assert "acc7" not in measures


def test_a_regression_is_fitted_and_predicted(files):
    model, answers = files / "m.rcml", files / "answers.csv"
    few = ("--set", "hidden=8", "--set", "feedforward=8", "--epochs", 2)
    done("fit", "--dataset", files / "scores.csv", *SCORE, "--method", "misa", *few, "--out", model)
    facts = json.loads(
        done("predict", model, files / "scores.csv", "--out", answers, "--json").stdout
    )
    table = frame()
    error = mean_absolute_error(table["score"], pd.read_csv(answers)["score"])
    assert facts["mae"] == pytest.approx(error, rel=1e-4)
    assert (facts["labelled"], facts["accuracy"]) == (ROWS, None)
    text = done("predict", model, files / "scores.csv", "--out", answers).stdout
    assert f"MAE {facts['mae']:.6g} over 84 with a label" in text
    table.drop(columns="score").to_csv(files / "new.csv", index=False)
    facts = json.loads(done("predict", model, files / "new.csv", "--out", answers, "--json").stdout)
    assert (facts["mae"], facts["labelled"]) == (None, 0)
    table.loc[:9, "score"] = np.nan
    table.to_csv(files / "gaps.csv", index=False)
    facts = json.loads(
        done("predict", model, files / "gaps.csv", "--out", answers, "--json").stdout
    )
    assert facts["labelled"] == ROWS - 10
    check = done("datasets", "check", files / "scores.csv", *SCORE).stdout
    assert "84 rows, scores, 2 views" in check


def test_tasks_that_a_file_does_not_have_are_refused(files):
    words = ("--dataset", files / "split.csv", *SPLIT, "--method", "misa")
    for task in ("2", "3", "7"):
        assert "leave the task out" in refused("run", *words, "--task", task, *QUICK)
    scores = ("--dataset", files / "scores.csv", "--target", "score", "--method", "misa")
    assert "a measurement takes --task regression" in refused("run", *scores, *QUICK)
    sentence = refused("fit", *scores, "--task", "3", "--out", files / "m.rcml")
    assert "choose regression where numbers are predicted" in sentence
    sentence = refused("run", *words, "--target", "label", "--task", "regression", *QUICK)
    assert "'label' is 'no' in row 0, no finite number" in sentence
    lda = ("run", "--dataset", files / "scores.csv", *SCORE, "--method", "lda")
    assert "method lda has no regression" in refused(*lda, *RUNS)
    split = refused("run", *scores[:-1], "misa", *SCORE[2:], "--split", "stratified", *QUICK)
    assert "needs classes" in split


def test_files_of_the_catalogue_take_no_roles():
    sentence = refused("run", "--dataset", "digits", *SPLIT, "--method", "lda", *RUNS)
    assert "digits has known views and labels; leave --split-column out" in sentence


def test_an_audit_takes_the_split_of_a_file(files):
    words = ("audit", "--dataset", files / "all.csv", *SPLIT, "--group-column", "who")
    result = done(
        *words, "--weight-column", "w", "--methods", "ridge-expert", "--parts", "conformal",
        "--runs", 1, "--jobs", 1,
    )  # fmt: skip
    assert "given split (60 train, 24 test rows)" in result.stdout
