"""Anybody's classifier by its path: classes, functions, Pipelines, and what is no classifier."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from rcml_misa.cli import main
from rcml_misa.datasets import load_dataset
from rcml_misa.estimators import RCMLClassifier
from rcml_misa.estimators.foreign import TableClassifier, build_foreign
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import OptionError

PIPELINE = make_pipeline(StandardScaler(), LogisticRegression(C=2.0))
NOTHING = 3


def make_tree_free() -> GaussianNB:
    """A function that returns an estimator."""
    return GaussianNB()


class NeedsMore:
    """Can't be made without arguments."""

    def __init__(self, kernel: str) -> None:
        self.kernel = kernel

    def fit(self, X, y): ...

    def predict(self, X): ...


class Voter(ClassifierMixin, BaseEstimator):
    """Has predict alone."""

    def __init__(self, depth: int | None = None, share: float = 0.5) -> None:
        self.depth = depth
        self.share = share

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[-1])


def path(name: str) -> str:
    return f"{__name__}:{name}"


def rows(classes: int = 3):
    rng = np.random.default_rng(0)
    y = np.arange(60) % classes
    X = {"a": rng.normal(size=(60, 3)) + y[:, None], "b": rng.normal(size=(60, 2)) - y[:, None]}
    return X, np.array(["x", "y", "z"])[y]


@pytest.mark.parametrize(
    "estimator",
    [GaussianNB(), RidgeClassifier(), SVC(), SVC(decision_function_shape="ovo"), NearestCentroid()],
    ids=str,
)
@pytest.mark.parametrize("classes", [2, 3])
def test_any_classifier_reads_all_columns(estimator, classes):
    X, y = rows(classes)
    model = TableClassifier(estimator=estimator).fit(X, y)
    table = np.concatenate([X["a"], X["b"]], axis=1)
    plain = clone(estimator).fit(table, y)
    np.testing.assert_array_equal(model.predict(X), plain.predict(table))
    p = model.predict_proba(X)
    assert p.shape == (60, classes)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    if hasattr(plain, "predict_proba"):
        np.testing.assert_allclose(p, plain.predict_proba(table))
    elif not isinstance(estimator, SVC):
        assert (model.classes_[p.argmax(axis=1)] == model.predict(X)).all()
    assert not hasattr(estimator, "classes_")


def test_paths_to_a_class_a_function_and_a_pipeline():
    made = [build_foreign(path(name), {}, 7) for name in ("Voter", "make_tree_free", "PIPELINE")]
    assert [type(one.estimator).__name__ for one in made] == ["Voter", "GaussianNB", "Pipeline"]
    pipeline = made[2].estimator
    assert pipeline is not PIPELINE
    assert pipeline[-1].random_state == 7
    assert PIPELINE[-1].random_state is None
    own = build_foreign("rcml_misa.estimators:RCMLClassifier", {"epochs": 2}, 3)
    assert isinstance(own, RCMLClassifier)
    assert (own.epochs, own.random_state) == (2, 3)


def test_recipe_of_a_path_takes_typed_options():
    found = recipe(path("Voter"), options=["depth=3", "share=1"])
    made = found.build(0).estimator
    assert (made.depth, made.share) == (3, 1.0)
    assert isinstance(made.share, float)
    assert found.foreign
    assert not found.default
    nested = recipe(path("PIPELINE"), options=["logisticregression__C=5"]).build(1).estimator
    assert nested[-1].C == 5.0
    assert recipe(path("Voter"), device="cpu").build(0).estimator.depth is None


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("no.such.module:X", "can't be imported .*my.module:MyClassifier"),
        (f"{__name__}:Absent", "does not exist"),
        (path("NOTHING"), "neither a class nor a function"),
        (path("NeedsMore"), "no usable classifier.*kernel"),
        ("sklearn.preprocessing:StandardScaler", "no fit or no predict"),
        ("collections:OrderedDict", "no usable classifier"),
        (":X", "no method.*my.module:MyClassifier"),
        ("subprocess:Popen", "no fit or no predict"),
        ("os:getcwd", "neither a class nor a function"),
    ],
)
def test_what_is_no_classifier(name, match):
    with pytest.raises(OptionError, match=match):
        recipe(name)


def test_options_of_a_path_that_do_not_exist():
    with pytest.raises(OptionError, match=r"no option 'depht'.*depth"):
        recipe(path("Voter"), options=["depht=3"])
    with pytest.raises(OptionError, match="no option 'random_state'"):
        recipe("sklearn.svm:SVC", options=["random_state=3"])
    with pytest.raises(OptionError, match="not trained in epochs"):
        recipe(path("Voter"), epochs=3)


def test_run_with_a_module_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "mine_to_run.py").write_text(
        "from sklearn.pipeline import make_pipeline\n"
        "from sklearn.preprocessing import StandardScaler\n"
        "from sklearn.neighbors import KNeighborsClassifier\n"
        "method = make_pipeline(StandardScaler(), KNeighborsClassifier())\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one not in ("", str(tmp_path))])
    words = ["run", "--method", "lda,mine_to_run:method", "--runs", "1", "--out", "out"]
    result = CliRunner().invoke(main, [*words, "--jobs", "1"])
    assert result.exit_code == 0, result.output
    assert "mine_to_run:method" in result.stdout
    names = sorted(one.name for one in (tmp_path / "out" / "records").glob("*.json"))
    starts = ["digits-lda---seed0-", "digits-mine_to_run_method---seed0-"]
    assert [name[: name.index("seed0-") + 6] for name in names] == starts


def test_a_path_in_the_run_learns_digits():
    data = load_dataset("digits")
    model = recipe("sklearn.neighbors:KNeighborsClassifier").build(0)
    model.fit(data.views.take(slice(0, 1000)), data.target[:1000])
    assert model.score(data.views.take(slice(1000, None)), data.target[1000:]) > 0.85
