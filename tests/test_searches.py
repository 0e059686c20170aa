"""Scikit-learn's searches and Optuna's over the estimators, on every form of X that they split."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)

from rcml_misa import MultiView
from rcml_misa.estimators import KernelExpertClassifier, MISAClassifier, RCMLMISAClassifier
from rcml_misa.exceptions import OptionError

GRIDS = {"kernel-expert": {"kernel": ["smooth", "rough"]}, "rcml-misa": {"mixup": [0.0, 0.3]}}


def model(name, **options):
    if name == "kernel-expert":
        return KernelExpertClassifier(landmarks=20, random_state=0, **options)
    return RCMLMISAClassifier(
        epochs=1, hidden=8, expert="ridge", networks=1, random_state=0, device="cpu", **options
    )


def problem(rows=60):
    rng = np.random.default_rng(0)
    y = np.array(["down", "up"])[np.arange(rows) % 2]
    return rng.normal(size=(rows, 5)) + (y == "up")[:, None], y


def forms():
    """The same rows as one table with groups, a DataFrame and a MultiView; options of each."""
    X, _ = problem()
    views = {"a": X[:, :2], "b": X[:, 2:]}
    frame = pd.DataFrame(X, columns=["a__0", "a__1", "b__0", "b__1", "b__2"])
    return {
        "table": (X, {"views": {"a": 2, "b": 3}}),
        "frame": (frame, {"views": "__"}),
        "views": (MultiView(views), {}),
    }


def conflict(estimator, X, y):
    return -float(estimator.predict_opinion(X).conflict.mean())


def certain(estimator, X, y):
    """Accuracy on the half of the rows with the least uncertainty."""
    stated = estimator.predict_opinion(X)
    rows = np.argsort(stated.uncertainty, kind="stable")[: len(y) // 2]
    return float((stated.predicted == np.asarray(y))[rows].mean())


SCORERS = {"accuracy": "accuracy", "conflict": conflict, "certain": certain}


def by_hand(name, option, value, folds):
    """Scores of one candidate on given folds, by a loop over dicts of views."""
    X, y = problem()
    views = {"a": X[:, :2], "b": X[:, 2:]}
    scores = []
    for train, test in folds:
        fitted = model(name, **{option: value})
        fitted.fit({view: table[train] for view, table in views.items()}, y[train])
        rows = {view: table[test] for view, table in views.items()}
        given = rows, y[test]
        scores.append([fitted.score(*given), conflict(fitted, *given), certain(fitted, *given)])
    return np.mean(scores, axis=0)


@pytest.mark.parametrize("form", ["table", "frame", "views"])
@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_scores_what_a_loop_over_views_scores(name, form):
    X, options = forms()[form]
    _, y = problem()
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    ((option, values),) = GRIDS[name].items()
    grid = GridSearchCV(
        model(name, **options), GRIDS[name], scoring=SCORERS, refit="certain", cv=folds,
        error_score="raise",
    ).fit(X, y)  # fmt: skip
    found = np.column_stack([grid.cv_results_[f"mean_test_{scorer}"] for scorer in SCORERS])
    expected = [by_hand(name, option, value, folds) for value in values]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert grid.best_estimator_.view_names_ == ("a", "b")
    assert grid.predict(X).shape == (60,)


@pytest.mark.parametrize("form", ["table", "frame", "views"])
@pytest.mark.parametrize(
    "resource", [{}, {"resource": "landmarks", "min_resources": 10, "max_resources": 20}], ids=str
)
def test_halving(form, resource):
    X, options = forms()[form]
    _, y = problem()
    rows = {"min_resources": 30} if not resource else {}
    halving = HalvingGridSearchCV(
        model("kernel-expert", **options), GRIDS["kernel-expert"], cv=2, factor=2, random_state=0,
        error_score="raise", scoring=conflict, **resource, **rows,
    ).fit(X, y)  # fmt: skip
    assert halving.n_iterations_ == 2
    assert halving.n_candidates_ == [2, 1]
    assert halving.n_resources_ == ([10, 20] if resource else [30, 60])
    assert halving.best_params_["kernel"] in ("smooth", "rough")


@pytest.mark.parametrize(
    ("name", "form"),
    [("rcml-misa", "views"), *(("kernel-expert", form) for form in ("table", "frame", "views"))],
)
@pytest.mark.filterwarnings("ignore:OptunaSearchCV is experimental", "ignore:.*optuna.terminator")
def test_optuna(name, form):
    pytest.importorskip("optuna_integration")
    from optuna.distributions import CategoricalDistribution
    from optuna_integration import OptunaSearchCV

    X, options = forms()[form]
    _, y = problem()
    folds = [(np.arange(30), np.arange(30, 60)), (np.arange(30, 60), np.arange(30))]
    ((option, values),) = GRIDS[name].items()
    search = OptunaSearchCV(
        model(name, **options), {option: CategoricalDistribution(values)}, cv=folds, n_trials=2,
        random_state=0, error_score="raise", scoring=conflict, verbose=0,
    ).fit(X, y)  # fmt: skip
    best = by_hand(name, option, search.best_params_[option], folds)
    assert search.best_score_ == pytest.approx(best[1], abs=1e-6)
    assert search.best_estimator_.predict_opinion(X).conflict.shape == (60,)


class Weighed(KernelExpertClassifier):
    """Check that each row comes with its own weight, 10 more than its first column."""

    def fit(self, X, y, sample_weight=None):
        np.testing.assert_allclose(sample_weight, 10 + X.to_array()[:, 0])
        self.checked_ = True
        return super().fit(X, y, sample_weight)


def weighed_search(kind, estimator):
    grid, options = {"kernel": ["smooth", "rough"]}, {"cv": GroupKFold(2), "error_score": "raise"}
    if kind == "grid":
        return GridSearchCV(estimator, grid, scoring=conflict, **options)
    if kind == "halving":
        return HalvingGridSearchCV(
            estimator, grid, factor=2, min_resources=60, scoring=conflict, **options
        )
    pytest.importorskip("optuna_integration")
    from optuna.distributions import CategoricalDistribution
    from optuna_integration import OptunaSearchCV

    space = {"kernel": CategoricalDistribution(grid["kernel"])}
    return OptunaSearchCV(estimator, space, n_trials=1, scoring=conflict, **options)


@pytest.mark.parametrize(
    ("kind", "routing"),
    [("grid", False), ("grid", True), ("halving", False), ("halving", True), ("optuna", False)],
)
@pytest.mark.filterwarnings("ignore:OptunaSearchCV is experimental", "ignore:.*optuna.terminator")
@pytest.mark.filterwarnings("ignore:The scoring:UserWarning")  # takes no weights
def test_weights_are_split_as_the_rows_of_a_multiview_are(kind, routing):
    X, y = problem()
    views = MultiView({"a": X[:, :2], "b": X[:, 2:]})
    with sklearn.config_context(enable_metadata_routing=routing):
        estimator = Weighed(landmarks=20, random_state=0)
        if routing:
            estimator.set_fit_request(sample_weight=True)
        search = weighed_search(kind, estimator)
        search.fit(views, y, sample_weight=10 + X[:, 0], groups=np.arange(60) % 5)
    assert search.best_estimator_.checked_


def test_two_processes_find_what_one_finds():
    views, _ = forms()["views"]
    _, y = problem()
    results = [
        GridSearchCV(
            model("kernel-expert"), GRIDS["kernel-expert"], scoring=conflict, cv=2, n_jobs=jobs,
            error_score="raise",
        ).fit(views, y).cv_results_["mean_test_score"]
        for jobs in (1, 2)
    ]  # fmt: skip
    np.testing.assert_array_equal(*results)


def test_rows_of_a_multiview_by_scikit_learns_index():
    views, _ = forms()["views"]
    X, y = problem()
    assert views.shape == X.shape
    np.testing.assert_array_equal(views[[3, 1], ...].to_array(), X[[3, 1]])
    np.testing.assert_array_equal(views[y == "up", ...].to_array(), X[y == "up"])
    with pytest.raises(OptionError, match="there is no view"):
        views[0]
    train, test, *_ = train_test_split(views, y, random_state=0)
    assert (train.n_samples, test.n_samples) == (45, 15)
    answers = cross_val_predict(model("kernel-expert"), views, y, cv=3, method="predict_proba")
    np.testing.assert_allclose(answers.sum(axis=1), 1)


def test_labels_of_rows_follow_a_split():
    X, y = problem()
    index = [f"patient {row}" for row in range(60)]
    tables = {"a": pd.DataFrame(X[:, :2], index=index), "b": pd.DataFrame(X[:, 2:], index=index)}
    target = pd.Series(y, index=index).sample(frac=1, random_state=0)  # in another order
    plain = cross_val_score(model("kernel-expert"), MultiView(tables), pd.Series(y, index=index))
    np.testing.assert_array_equal(
        plain, cross_val_score(model("kernel-expert"), MultiView(tables), y)
    )
    fitted = model("kernel-expert").fit(MultiView(tables), target)
    assert fitted.score(MultiView(tables), target) > 0.7


def test_sequences_and_gaps_are_split():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 2
    gaps = rng.normal(size=(30, 2)) + y[:, None]
    gaps[::7] = np.nan
    steps = [rng.normal(size=(length, 2)) for length in rng.integers(1, 4, 30)]
    views = MultiView({"steps": steps, "table": gaps})
    network = MISAClassifier(epochs=1, hidden=8, random_state=0)
    grid = GridSearchCV(network, {"own_weight": [0.0, 0.5]}, cv=2, error_score="raise")
    assert grid.fit(views, y).predict(views).shape == (30,)


def test_a_dict_is_refused_by_scikit_learn():
    X, y = problem()
    views = {"a": X[:, :2], "b": X[:, 2:]}
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[2, 60\]"):
        GridSearchCV(model("kernel-expert"), GRIDS["kernel-expert"], cv=2).fit(views, y)
