"""Pipelines of transformers in front of multi-view estimators: what they answer, step by step."""

from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from raw_toys import raw
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.exceptions import NotFittedError
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import rcml_misa
from rcml_misa import TablePreparer
from rcml_misa.estimators import (
    BMLClassifier,
    FUMLClassifier,
    KernelExpertClassifier,
    MISAClassifier,
    MISARegressor,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    RidgeExpertClassifier,
    SoftmaxClassifier,
    ViewPipeline,
)
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView

QUICK = {"epochs": 1, "hidden": 8, "random_state": 0, "device": "cpu"}
CLASSIFIERS = {
    "kernel-expert": lambda: KernelExpertClassifier(random_state=0),
    "ridge-expert": lambda: RidgeExpertClassifier(random_state=0),
    "rcml-misa": lambda: RCMLMISAClassifier(**QUICK),
    "rcml-misa-ridge": lambda: RCMLMISAClassifier(**QUICK, expert="ridge"),
    "rcml": lambda: RCMLClassifier(**QUICK | {"hidden": (8,)}),
    "misa": lambda: MISAClassifier(**QUICK),
    "bml": lambda: BMLClassifier(epochs=1, random_state=0, device="cpu"),
    "fuml": lambda: FUMLClassifier(epochs=1, random_state=0, device="cpu"),
    "softmax": lambda: SoftmaxClassifier(**QUICK | {"hidden": (8,), "posterior": "mc-dropout"}),
}
REGRESSORS = {
    "rcml-misa-score": lambda: RCMLMISARegressor(**QUICK),
    "misa-score": lambda: MISARegressor(**QUICK),
}
MODELS = CLASSIFIERS | REGRESSORS
STATED = [
    *("predict", "predict_proba", "predict_opinion", "predict_interval", "predict_uncertainty"),
    *("predict_conflict", "predict_reliability", "predict_mutual_information"),
    "extract_features",
]
every = pytest.mark.parametrize("name", MODELS)


def target(name, frame, y):
    return frame["b__z"].to_numpy() if name in REGRESSORS else y


def pipeline(name, kind=ViewPipeline):
    return kind([("prepare", TablePreparer(views="__")), ("model", MODELS[name]())])


def numbers(answer):
    """Yield the arrays of any answer."""
    if is_dataclass(answer):
        answer = {item.name: getattr(answer, item.name) for item in fields(answer)}
    if isinstance(answer, dict):
        answer = list(answer.values())
    if isinstance(answer, list | tuple):
        for part in answer:
            yield from numbers(part)
    else:
        yield np.asarray(answer)


def same(found, wanted):
    for one, other in zip(numbers(found), numbers(wanted), strict=True):
        np.testing.assert_array_equal(one, other)


@every
def test_answers_are_those_of_the_two_steps_and_there_where_the_last_step_has_them(name):
    frame, y = raw()
    y = target(name, frame, y)
    model = pipeline(name).fit(frame, y)
    preparer = TablePreparer(views="__").fit(frame)
    alone = MODELS[name]().fit(preparer.transform(frame), y)
    new, _ = raw(20, seed=1)
    stated = [method for method in STATED if hasattr(alone, method)]
    assert [method for method in STATED if hasattr(model, method)] == stated
    assert is_classifier(model) == (name in CLASSIFIERS)
    assert is_regressor(model) == (name in REGRESSORS)
    for method in stated:
        same(getattr(model, method)(new), getattr(alone, method)(preparer.transform(new)))
    for method in set(STATED) - set(stated):
        with pytest.raises(AttributeError, match=method):
            getattr(model, method)


@pytest.mark.parametrize("name", ["kernel-expert", "rcml-misa-score"])
def test_the_idiom_for_the_pipeline_of_scikit_learn(name):
    frame, y = raw()
    y = target(name, frame, y)
    plain = pipeline(name, Pipeline).fit(frame, y)
    ours = pipeline(name).fit(frame, y)
    same(plain[-1].predict_opinion(plain[:-1].transform(frame)), ours.predict_opinion(frame))
    assert not hasattr(plain, "predict_opinion")


def test_options_of_methods_reach_the_last_step():
    frame, _ = raw()
    model = pipeline("rcml-misa-score").fit(frame, frame["b__z"])
    low, high = model.predict_interval(frame)
    assert (low <= high).all()
    with pytest.raises(TypeError, match="unknown"):
        model.predict_interval(frame, unknown=1)


def test_polars_frames_and_dicts_answer_as_pandas_does():
    frame, y = raw()
    wanted = pipeline("kernel-expert").fit(frame, y).predict_opinion(frame).evidence
    table = pl.from_pandas(frame)
    model = pipeline("kernel-expert").fit(table, y)
    np.testing.assert_array_equal(model.predict_opinion(table).evidence, wanted)
    np.testing.assert_array_equal(model.predict_opinion(frame).evidence, wanted)
    tables = {"b": frame.filter(like="b__"), "a": frame.filter(like="a__")}
    model = clone(model).set_params(prepare__views=None).fit(dict(reversed(tables.items())), y)
    for X in (tables, MultiView(tables, raw=True)):
        np.testing.assert_array_equal(model.predict_opinion(X).evidence, wanted)


def test_targets_and_weights_follow_the_index_of_the_rows_through_the_preparer():
    frame, y = raw()
    frame.index = [f"r{row}" for row in range(len(frame))]
    labels = pd.Series(y, frame.index)
    weights = pd.Series(np.random.default_rng(0).random(len(y)), frame.index)
    order = np.random.default_rng(1).permutation(len(y))
    model = pipeline("kernel-expert").fit(frame, labels, model__sample_weight=weights)
    wanted = model.predict_proba(frame)
    again = clone(model).fit(
        frame, labels.iloc[order], model__sample_weight=weights.iloc[order[::-1]]
    )
    np.testing.assert_array_equal(again.predict_proba(frame), wanted)
    assert model.score(frame, labels.iloc[order]) == model.score(frame, y) > 0.7
    assert model[0].transform(frame).row_index.equals(frame.index)
    with pytest.raises(DataError, match="y"):
        clone(model).fit(frame, labels.rename(lambda label: f"other {label}"))


def test_it_is_cloned_with_parameters_of_its_steps():
    model = pipeline("kernel-expert").set_params(prepare__levels=7, model__landmarks=30)
    again = clone(model)
    assert type(again) is ViewPipeline
    assert again.get_params()["prepare__levels"] == 7
    assert again.get_params()["model__landmarks"] == 30
    with pytest.raises(ValueError, match="Invalid parameter 'nothing'"):
        model.set_params(model__nothing=1)
    with pytest.raises(OptionError, match="levels=1 is"):
        model.set_params(prepare__levels=1).fit(*raw())


@pytest.mark.parametrize("make", [lambda frame: frame, pl.from_pandas], ids=["pandas", "polars"])
def test_scores_and_searches_by_cross_validation(make):
    frame, y = raw()
    scores = cross_val_score(
        pipeline("ridge-expert"), make(frame), y, cv=3, error_score="raise", scoring="neg_log_loss"
    )
    by_hand = []
    for train, test in StratifiedKFold(3).split(frame, y):
        preparer = TablePreparer(views="__").fit(frame.iloc[train])
        model = MODELS["ridge-expert"]().fit(preparer.transform(frame.iloc[train]), y[train])
        shares = model.predict_proba(preparer.transform(frame.iloc[test]))
        by_hand.append(np.log(shares[np.arange(len(test)), (y[test] == "yes") * 1]).mean())
    np.testing.assert_allclose(scores, by_hand)
    grid = {"prepare__levels": [2, 9], "model__class_weight": [None, "balanced"]}
    search = GridSearchCV(pipeline("ridge-expert"), grid, cv=2, error_score="raise")
    search.fit(make(frame), y)
    assert len(search.cv_results_["params"]) == 4
    assert search.predict(make(frame)).shape == y.shape
    assert search.best_estimator_.predict_opinion(make(frame)).evidence.shape == (len(y), 2)


def test_weights_are_routed_as_scikit_learn_does():
    frame, y = raw()
    weights = np.where(y == "yes", 1.0, 0.0) + 0.01
    wanted = pipeline("kernel-expert").fit(frame, y, model__sample_weight=weights)
    plain = pipeline("kernel-expert").fit(frame, y)
    shares = wanted.predict_proba(frame)
    assert (shares != plain.predict_proba(frame)).any()
    with sklearn.config_context(enable_metadata_routing=True):
        model = MODELS["kernel-expert"]().set_fit_request(sample_weight=True)
        routed = ViewPipeline([("prepare", TablePreparer(views="__")), ("model", model)])
        routed.fit(frame, y, sample_weight=weights)
        np.testing.assert_array_equal(routed.predict_proba(frame), shares)
    assert plain.score(frame, y, sample_weight=weights) == pytest.approx(
        np.average(plain.predict(frame) == y, weights=weights)
    )


def columns():
    return ColumnTransformer(
        [
            ("a", make_pipeline(SimpleImputer(), StandardScaler()), ["a__x", "b__z"]),
            ("c", OneHotEncoder(sparse_output=False), make_column_selector("a__town")),
        ]
    )


def test_frames_between_the_steps():
    frame, y = raw()
    steps = [("columns", columns()), ("model", KernelExpertClassifier(views="__", random_state=0))]
    model = ViewPipeline(steps).set_output(transform="pandas").fit(frame, y)
    assert model.predict_opinion(frame).views.keys() == {"a", "c"}
    by_hand = model[0].transform(frame)
    assert isinstance(by_hand, pd.DataFrame)
    same(model.predict_opinion(frame), model[-1].predict_opinion(by_hand))


def test_views_of_a_preparer_stay_views_whatever_is_set():
    frame, y = raw()
    wanted = pipeline("kernel-expert").fit(frame, y).predict_proba(frame)
    with sklearn.config_context(transform_output="pandas"):
        found = pipeline("kernel-expert").fit(frame, y).predict_proba(frame)
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="`set_output` is not available"):
        pipeline("kernel-expert").set_output(transform="pandas")


def test_a_scikit_learn_transformer_in_front_of_the_preparer_and_steps_that_do_nothing():
    frame, y = raw()
    scaled = ColumnTransformer(
        [("scale", StandardScaler(), ["a__x"])],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    steps = [
        *[("scaled", scaled.set_output(transform="pandas")), ("same", "passthrough")],
        *[("prepare", TablePreparer(views="__")), ("none", None)],
        ("model", MODELS["kernel-expert"]()),
    ]
    model = ViewPipeline(steps).fit(frame, y)
    new = model[2].transform(model[0].transform(frame))
    same(model.predict_opinion(frame), model[-1].predict_opinion(new))


def test_a_pipeline_of_an_estimator_alone_and_one_within_another():
    frame, y = raw()
    views = TablePreparer(views="__").fit_transform(frame, y)
    alone = ViewPipeline([("model", MODELS["kernel-expert"]())]).fit(views, y)
    same(alone.predict_opinion(views), alone[-1].predict_opinion(views))
    nested = ViewPipeline([("prepare", TablePreparer(views="__")), ("rest", alone)]).fit(frame, y)
    same(nested.predict_opinion(frame), alone.predict_opinion(views))
    assert not hasattr(nested, "predict_conflict")


def test_what_is_not_fitted_says_so():
    frame, _ = raw()
    model = pipeline("kernel-expert")
    calls = [model.predict, model.predict_opinion, TablePreparer(views="__").transform]
    for call in (*calls, ViewPipeline(model.steps[1:]).predict_opinion):
        with pytest.raises(NotFittedError):
            call(frame)
    for call in (TablePreparer().describe, TablePreparer().get_feature_names_out):
        with pytest.raises(NotFittedError):
            call()


def test_it_is_shown_as_a_diagram():
    html = pipeline("kernel-expert").fit(*raw())._repr_html_()
    assert "TablePreparer" in html
    assert "KernelExpertClassifier" in html
    assert "TablePreparer(views='__')" in repr(pipeline("kernel-expert"))


# the preparer by itself


def test_the_preparer_counts_and_names_the_columns_that_it_was_given():
    frame, y = raw()
    for table in (frame, pl.from_pandas(frame)):
        preparer = TablePreparer(views="__").fit(table, y)
        assert preparer.n_features_in_ == 4
        assert preparer.feature_names_in_.tolist() == list(frame)
    names = preparer.get_feature_names_out(list(frame))
    assert names.tolist() == preparer.get_feature_names_out().tolist()
    with pytest.raises(DataError, match="input_features"):
        preparer.get_feature_names_out(["x"])
    assert preparer.set_params(views=None).fit({"a": frame[["a__x"]]}).n_features_in_ == 1
    assert not hasattr(preparer, "feature_names_in_")
    fitted = pipeline("kernel-expert").fit(frame, y)
    assert fitted.n_features_in_ == 4
    assert fitted[:-1].get_feature_names_out().tolist() == names.tolist()


def test_what_the_preparer_takes_is_in_its_tags():
    tags = TablePreparer().__sklearn_tags__()
    assert tags.input_tags.allow_nan
    assert tags.input_tags.categorical
    assert tags.input_tags.string
    assert not tags.target_tags.required


def test_every_container_is_prepared_alike():
    frame, _ = raw()
    tables = {name: frame.filter(like=f"{name}__") for name in "ab"}
    preparer = TablePreparer().fit(tables)
    wanted = preparer.transform(tables)
    others = [
        {name: pl.from_pandas(table) for name, table in tables.items()},
        {name: table[table.columns[::-1]] for name, table in reversed(tables.items())},
        {"a": tables["a"], "b": pl.from_pandas(tables["b"])},
        MultiView(tables, raw=True),
        MultiView(tables, raw=True).take(np.arange(len(frame))),
    ]
    for other in others:
        found = preparer.transform(other)
        assert found.names == ("a", "b")
        for view in found:
            np.testing.assert_array_equal(found[view], wanted[view])
    arrays = [np.array([[1.0, np.nan], [2.0, 4.0], [3.0, 5.0]]), np.eye(3)]
    preparer = TablePreparer().fit(arrays)
    without = preparer.transform([arrays[0], None])
    assert without.names == ("view1", "view2")
    assert without.present.tolist() == [[True, False]] * 3
    assert without["view1"][0].tolist() == [1.0, 4.5, 1.0]


def test_the_last_rows_alone_are_answered_as_among_others_after_loading(tmp_path):
    frame, y = raw()
    model = pipeline("kernel-expert").fit(frame, y)
    model.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    among = again.predict_opinion(frame).projected_probability
    alone = np.concatenate(
        [again.predict_opinion(frame.iloc[[row]]).projected_probability for row in range(5)]
    )
    np.testing.assert_allclose(alone, among[:5], rtol=1e-6)


def test_a_target_without_an_index_of_its_own_follows_a_table_by_position():
    table = pd.DataFrame({"a__x": np.arange(20.0) % 2, "b__y": np.arange(20.0) % 5})
    table.index = [f"r{row}" for row in range(20)]
    target = pd.Series(np.arange(20) % 2)  # numbered from 0, as scikit-learn's users have it
    steps = [("prepare", TablePreparer(views="__")), ("model", KernelExpertClassifier())]
    for model in (ViewPipeline(steps), KernelExpertClassifier(views="__")):
        assert model.fit(table, target).score(table, target) == 1.0
    with pytest.raises(DataError, match="y has no row 'r0'"):  # as for tables with an index
        KernelExpertClassifier().fit({"a": table[["a__x"]], "b": table[["b__y"]]}, target)
