"""Scikit-learn's callbacks on every estimator, and the page that follows trainings with them."""

from __future__ import annotations

import importlib.util
import inspect
import pickle
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
import torch
from commands import done
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.fixes import parse_version

from rcml_misa import TablePreparer, ViewPipeline, estimators, load
from rcml_misa.estimators import (
    KernelExpertClassifier,
    MISAClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
)
from rcml_misa.estimators.foreign import TableClassifier

PAGE = Path(__file__).parents[1] / "docs" / "callbacks.md"
RECORDS = "runs/records"
has_callbacks = parse_version(sklearn.__version__) >= parse_version("1.9")
needs_callbacks = pytest.mark.skipif(not has_callbacks, reason="scikit-learn 1.9 has callbacks")

TINY = {"epochs": 3, "batch_size": 20, "random_state": 0, "device": "cpu"}
MAKERS = {
    name: getattr(estimators, name)
    for name in estimators.__all__
    if name.endswith(("Classifier", "Regressor"))
    and not inspect.isabstract(getattr(estimators, name))
    and hasattr(getattr(estimators, name), "fit")
}
TRAINED = [
    name for name, kind in MAKERS.items() if "callback" in inspect.signature(kind.fit).parameters
]


def make(name, **options):
    taken = inspect.signature(MAKERS[name]).parameters
    given = {**TINY, "networks": 2, "layers": 1, "views": [2, 2], **options}
    if name in ("SoftmaxClassifier", "EnsembleDirichletClassifier"):
        given["hidden"] = (8,)
    return MAKERS[name](**{key: value for key, value in given.items() if key in taken})


def problem(name, rows=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, 4))
    score = X[:, 0] + X[:, 2]
    return X, score if name.endswith("Regressor") else np.where(score > 0, "up", "down")


class Witness:
    """A callback that notes each hook, with what it is given, and draws from torch."""

    def __init__(self, stop_at=None):
        self.stop_at, self.calls, self.fitted, self.sets = stop_at, [], [], []

    def setup(self, estimator, context):
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        torch.rand(1)
        self.calls.append(f"begin {context.task_name}")

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        torch.rand(1)
        self.calls.append(f"end {context.task_name}")
        self.fitted.append((context.task_name, fitted_estimator))
        self.sets.append((X, y, metadata))
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_at

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def epochs(self):
        return [fitted for name, fitted in self.fitted if name == "epoch"]


def answers_of(model, X):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def written(model, path):
    model.save(path)
    return path.read_bytes()


@needs_callbacks
@pytest.mark.parametrize("name", MAKERS)
def test_fit_and_epochs_are_tasks_and_change_nothing(name, tmp_path):
    X, y = problem(name)
    plain, witness = make(name).fit(X, y), Witness()
    model = make(name).set_callbacks(witness).fit(X, y)
    epochs = len(plain.history_["loss"]) if name in TRAINED else 0
    training = ["begin train", *["begin epoch", "end epoch"] * epochs, "end train"]
    middle = training if name in TRAINED else []
    assert witness.calls == ["setup", "begin fit", *middle, "end fit", "teardown"]
    assert all(given[0] is X and given[1] is y for given in witness.sets)
    # the same attributes, answers and bytes as without callbacks
    assert set(vars(model)) - set(vars(plain)) == {"_skl_callbacks"}
    np.testing.assert_array_equal(answers_of(model, X), answers_of(plain, X))
    if name in TRAINED:
        assert model.history_ == plain.history_
        ours, theirs = model.module_.state_dict(), plain.module_.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    if MAKERS[name]._savable:
        assert written(model, tmp_path / "a.rcml") == written(plain, tmp_path / "b.rcml")
        loaded = load(tmp_path / "a.rcml")
        np.testing.assert_array_equal(answers_of(loaded, X), answers_of(plain, X))


@needs_callbacks
@pytest.mark.parametrize("name", TRAINED)
def test_the_copy_of_an_epoch_is_what_a_shorter_history_says(name):
    X, y = problem(name)
    answers, histories = [], []

    def look(progress):  # the estimator itself, at the same moment
        answers.append(answers_of(model, X))
        histories.append(dict(progress.terms))

    witness = Witness()
    model = make(name).set_callbacks(witness)
    model.fit(X, y, callback=look)
    copies = witness.epochs()
    assert len(copies) == len(answers) == len(model.history_["loss"])
    for epoch, copy in enumerate(copies):  # long after: later epochs left the copy alone
        np.testing.assert_array_equal(answers_of(copy, X), answers[epoch])
        history = model.history_.items()
        assert {term: values[: epoch + 1] for term, values in history} == copy.history_
        assert {term: values[epoch] for term, values in history} == histories[epoch]


@needs_callbacks
@pytest.mark.parametrize("name", TRAINED)
def test_a_hook_or_a_function_ends_the_training(name):
    X, y = problem(name)
    hooked = make(name).set_callbacks(Witness(stop_at=2)).fit(X, y)
    told = make(name).fit(X, y, callback=lambda progress: progress.epoch == 2)
    for model in (hooked, told):
        assert len(model.history_["loss"]) == 2
        assert not model.module_.training
    np.testing.assert_array_equal(hooked.predict(X), told.predict(X))
    seen = make(name).fit(X, y, callback=lambda progress: 1)  # true, yet not True
    assert len(seen.history_["loss"]) == 3


@needs_callbacks
def test_weights_are_metadata_and_an_error_tears_down():
    X, y = problem("")
    witness, weight = Witness(), np.ones(len(y))
    model = make("RCMLClassifier").set_callbacks(witness).fit(X, y, sample_weight=weight)
    assert all(given[2]["sample_weight"] is weight for given in witness.sets)
    with pytest.raises(ValueError, match="labels but X has"):
        model.fit(X, y[:-1])
    assert witness.calls[-1] == "teardown"
    assert witness.calls.count("setup") == witness.calls.count("teardown") == 2
    assert not [key for key in vars(model) if "callback" in key and key != "_skl_callbacks"]
    assert not hasattr(model.set_callbacks(), "_skl_callbacks")
    with pytest.raises(TypeError, match="FitCallback"):
        model.set_callbacks(print)


@needs_callbacks
@pytest.mark.parametrize("kind", [RCMLClassifier, KernelExpertClassifier, RCMLMISARegressor])
def test_clones_and_pickles_keep_callbacks_and_parameters_do_not_show_them(kind, tmp_path):
    X, y = problem(kind.__name__)
    model = make(kind.__name__).set_callbacks(Witness())
    assert clone(model)._skl_callbacks == model._skl_callbacks
    assert model.get_params() == make(kind.__name__).get_params()
    assert repr(model) == repr(make(kind.__name__))
    model.fit(X, y)
    joblib.dump(model, tmp_path / "model.joblib")
    for again in (pickle.loads(pickle.dumps(model)), joblib.load(tmp_path / "model.joblib")):  # noqa: S301
        np.testing.assert_array_equal(again.predict(X), model.predict(X))
        assert len(again._skl_callbacks) == 1


# the checks that look at state: parameters, attributes, clones, copies, pickles, repeated fits
OF_STATE = (
    "check_dict_unchanged",
    "check_estimator_cloneable",
    "check_estimators_fit_returns_self",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_estimators_unfitted",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_get_params_invariance",
    "check_n_features_in",
    "check_no_attributes_set_in_init",
    "check_requires_y_none",
    "check_set_params",
)


@needs_callbacks
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["RCMLClassifier", "KernelExpertClassifier"])
def test_checks_of_scikit_learn_hold_with_callbacks(name):
    checked = []
    for estimator, check in estimator_checks_generator(make(name, views=None)):
        if check.func.__name__ in OF_STATE:
            check(estimator.set_callbacks(Witness()))
            checked.append(check.func.__name__)
    assert set(checked) == set(OF_STATE)


@needs_callbacks
@pytest.mark.filterwarnings("error:The estimator:UserWarning")  # "... does not support callbacks"
def test_bars_show_epochs_within_pipelines_and_searches(capsys):
    from sklearn.callback import ProgressBar, ScoringMonitor

    X, y = problem("")
    make("RCMLMISAClassifier").set_callbacks(ProgressBar()).fit(X, y)
    assert re.search(r"RCMLMISAClassifier - train #0 \S+ 100%", capsys.readouterr().out)
    model = make("RCMLClassifier", views=None)
    pipeline = ViewPipeline([("prepare", TablePreparer(views=[2, 2])), ("model", model)])
    pipeline.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    shown = capsys.readouterr().out
    assert "TablePreparer - fit" in shown
    assert "RCMLClassifier - train #0" in shown
    monitor = ScoringMonitor(scoring="accuracy")
    model = make_pipeline(StandardScaler(), make("RCMLClassifier").set_callbacks(monitor))
    grid = GridSearchCV(model, {"rcmlclassifier__epochs": [1, 2]}, cv=2, error_score="raise")
    grid.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    assert capsys.readouterr().out.count("train #0") >= 5
    rows = monitor.get_logs().data_as_pandas
    epochs = 2 * (1 + 2) + grid.best_params_["rcmlclassifier__epochs"]
    assert (rows["task_name"] == "epoch").sum() == epochs
    assert rows["accuracy"].between(0, 1).all()


@needs_callbacks
def test_a_foreign_classifier_and_a_sequence_are_served():
    X, y = problem("")
    witness = Witness()
    TableClassifier(estimator=LogisticRegression(), views=[2, 2]).set_callbacks(witness).fit(X, y)
    assert witness.calls == ["setup", "begin fit", "end fit", "teardown"]
    views = {"table": X, "steps": np.random.default_rng(0).normal(size=(40, 3, 2))}
    for kind in (MISAClassifier, RCMLMISAClassifier):
        witness = Witness()
        kind(epochs=2, hidden=8, random_state=0).set_callbacks(witness).fit(views, y)
        assert witness.calls.count("end epoch") == 2
        assert witness.epochs()[0].predict(views).shape == (40,)


def test_without_callbacks_of_scikit_learn_a_sentence_names_the_way_out():
    program = """
import sys
import numpy as np, sklearn.pipeline, sklearn.model_selection, sklearn.linear_model
sys.modules["sklearn.callback"] = None  # as before 1.9
from rcml_misa import RCMLClassifier, TablePreparer
from rcml_misa.exceptions import OptionError
X, y, told = np.eye(20), np.arange(20) % 2, []
model = RCMLClassifier(views=[10, 10], epochs=2, random_state=0).fit(X, y, callback=told.append)
assert [progress.epoch for progress in told] == [1, 2]
for estimator in (model, TablePreparer().fit(X)):
    try:
        estimator.set_callbacks()
    except OptionError as error:
        print(error)
"""
    run = subprocess.run(  # noqa: S603
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    sentences = run.stdout.splitlines()
    assert len(sentences) == 2
    assert all("install 1.9 or later, or give fit(..., callback=" in text for text in sentences)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Run the page once, its command included; its names and the folder that it wrote to."""
    for needed in ("mlflow", "tensorboard"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"{needed} is not installed")
    if not has_callbacks:
        pytest.skip("scikit-learn 1.9 has callbacks")
    folder = tmp_path_factory.mktemp("page")
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (command,) = re.findall(r"```console\nrcml-misa (.*?)\n```", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        done(*shlex.split(command), "--jobs", "1")
        (folder / "page.py").write_text("\n".join(blocks), encoding="utf-8")
        names = runpy.run_path(str(folder / "page.py"))
        yield names, folder


def scalars(folder):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    events = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(each.step, each.value) for each in events.Scalars(tag)] for tag in tags}


def test_the_function_of_the_page_writes_each_epoch_to_tensorboard(page):
    names, folder = page
    model, shown = names["model"], scalars(folder / "board" / "rcml")
    assert set(shown) == {*(f"train/{term}" for term in model.history_), "valid/accuracy"}
    for term, values in model.history_.items():
        steps, numbers = zip(*shown[f"train/{term}"], strict=True)
        assert steps == (1, 2, 3)
        np.testing.assert_allclose(numbers, values, rtol=1e-6)
    last = model.score(names["X_valid"], names["y_valid"])
    assert shown["valid/accuracy"][-1] == (3, pytest.approx(last))


def test_the_class_of_the_page_makes_an_mlflow_run_of_each_fit(page):
    names, _ = page
    runs = names["mlflow"].search_runs(experiment_names=["search"])
    search = names["search"]
    assert len(runs) == 5
    assert set(runs["status"]) == {"FINISHED"}
    assert sorted(runs["params.learning_rate"].astype(float))[:2] == [1e-3, 1e-3]
    best = runs.iloc[runs["end_time"].argmax()]
    assert best["metrics.valid accuracy"] == search.score(names["X_valid"], names["y_valid"])
    client = names["mlflow"].MlflowClient()
    for term, values in search.best_estimator_.history_.items():
        kept = [(each.step, each.value) for each in client.get_metric_history(best.run_id, term)]
        assert kept == list(enumerate(values, start=1))


def test_the_records_of_the_page_are_in_both(page):
    names, folder = page
    runs = names["mlflow"].search_runs(experiment_names=["digits"]).set_index("params.seed")
    records = names["RunStore"](names["Path"](folder / RECORDS)).read()
    assert sorted(runs.index) == ["0", "1"]
    for record in records:
        run = runs.loc[str(record.seed)]
        shown = scalars(folder / "board" / f"rcml-seed{record.seed}")
        for test_set, measures in record.metrics.items():
            for measure, value in measures.items():
                assert run[f"metrics.{test_set}/{measure}"] == pytest.approx(value, nan_ok=True)
                ((_, number),) = shown[f"{test_set}/{measure}"]
                assert number == pytest.approx(value, rel=1e-6, nan_ok=True)
        for term, values in record.history.items():
            assert run[f"metrics.{term}"] == values[-1]
            assert [number for _, number in shown[f"train/{term}"]] == pytest.approx(values)
        assert run["params.epochs"] == "2"
