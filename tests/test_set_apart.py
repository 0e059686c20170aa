"""Rows set apart for calibration: new to the model, whatever the classifier, and used honestly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import rcml_misa
from rcml_misa import metrics
from rcml_misa.calibration import Calibrator, choose_calibrator
from rcml_misa.estimators import (
    CCMLClassifier,
    ControlClassifier,
    FUMLClassifier,
    KernelExpertClassifier,
    MISAClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    base,
)
from rcml_misa.estimators.base import MultiViewClassifier, MultiViewEstimator
from rcml_misa.estimators.blocks import Blocks
from rcml_misa.estimators.registry import exported_estimators
from rcml_misa.exceptions import DataError, OptionError

ROWS = 60
SMALL = {"epochs": 3, "batch_size": 20, "hidden": 8, "feedforward": 8, "landmarks": 20}
SMALL |= {"encoder_width": 8, "trees": 5, "rounds": 3, "layers": 1, "device": "cpu"}
CLASSIFIERS = {
    name: kind
    for name, kind in exported_estimators().items()
    if issubclass(kind, MultiViewClassifier)
}
# RCML-MISA keeps each network from other rows (test_pool), its members calibrate on leave-one-out
OWN_WAY = ("RCMLMISAClassifier", "KernelExpertClassifier", "RidgeExpertClassifier")
MODELS = ("logistic-regression", "rbf-svm", "lda", "extra-trees", "gradient-boosting", "majority")
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CLASSIFIERS if name not in OWN_WAY),
    *(("ControlClassifier", {"model": model, "combine": "best"}) for model in MODELS),
    ("RCMLClassifier", {"early_stopping": True, "validation_fraction": 0.3}),
    ("MISAClassifier", {"early_stopping": False}),
]
each_case = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=lambda case: case if isinstance(case, str) else str(case)
)


def small(name: str, **options: Any) -> Any:
    kind = CLASSIFIERS[name]
    known = kind().get_params()
    made = {
        key: value
        for key, value in SMALL.items()
        if key in known and not isinstance(known[key], tuple)
    }
    return kind(**{**made, "random_state": 0, **options})


def rows(count: int = ROWS, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two views of three classes."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 3
    views = {"a": rng.normal(size=(count, 3)), "b": rng.normal(size=(count, 4))}
    return {name: view + y[:, None] for name, view in views.items()}, y


def set_apart(monkeypatch: pytest.MonkeyPatch, apart: np.ndarray) -> None:
    """Set these rows apart whatever the seed."""

    def draw(estimator, target, *, each_class):
        return np.setdiff1d(np.arange(len(target)), apart), apart

    monkeypatch.setattr(MultiViewEstimator, "_draw_apart", draw)


def stated(model: Any, views: Any) -> np.ndarray:
    """What a fitted model states, before calibration."""
    return model._stated(model._check_rows(views))


def test_every_classifier_can_be_calibrated():
    for name, kind in CLASSIFIERS.items():
        if name not in OWN_WAY:
            assert kind().get_params()["calibration_fraction"] == 0.0, name
    views, y = rows()
    for name in OWN_WAY:
        assert small(name).fit(views, y).calibrator_ is not None, name


@each_case
def test_probabilities_are_calibrated_and_the_class_stays(name, options, monkeypatch):
    chosen = []

    def fit(evidence, codes, weights=None, *, stated=None):
        chosen.append(Calibrator(exponent=0.3, slope=2.0, offset=-1.0))
        return chosen[0]

    monkeypatch.setattr(base, "choose_calibrator", fit)
    views, y = rows()
    labels = np.array(["x", "y", "z"])[y]
    model = small(name, calibration_fraction=0.2, **options).fit(views, labels)
    new, _ = rows(30, seed=1)
    probability = model.predict_proba(new)
    assert model.calibrator_ is chosen[0]
    np.testing.assert_allclose(probability.sum(axis=1), 1)
    np.testing.assert_array_equal(probability, model.calibrator_(stated(model, new)))
    np.testing.assert_array_equal(model.predict(new), model.classes_[probability.argmax(axis=1)])
    np.testing.assert_array_equal(probability.argmax(axis=1), stated(model, new).argmax(axis=1))
    if hasattr(model, "predict_opinion"):
        np.testing.assert_array_equal(model.predict_opinion(new).probability, probability)


@each_case
def test_rows_set_apart_are_new_to_the_model(name, options, monkeypatch):
    """Garbage in their labels and values changes nothing but the calibrator."""
    apart = np.arange(5, 35, 2)
    set_apart(monkeypatch, apart)
    asked = []
    monkeypatch.setattr(base, "choose_calibrator", lambda *args, **more: asked.append((args, more)))
    views, y = rows()
    views["b"][3] = np.nan  # so that means are filled in
    other, wrong = {name: view.copy() for name, view in views.items()}, y.copy()
    wrong[apart] = (y[apart] + 1) % 3
    for view in other.values():
        view[apart] *= -50
    one = small(name, calibration_fraction=0.2, **options).fit(views, y)
    two = small(name, calibration_fraction=0.2, **options).fit(other, wrong)
    new, _ = rows(30, seed=1)
    new["a"][0] = np.nan
    np.testing.assert_array_equal(stated(one, new), stated(two, new))
    [((evidence, codes, weights), more), ((_, codes_two, _), _)] = asked
    np.testing.assert_array_equal(codes, y[apart])
    np.testing.assert_array_equal(codes_two, wrong[apart])
    assert weights is None
    said = stated(one, {name: view[apart] for name, view in views.items()})
    np.testing.assert_allclose(evidence, said, rtol=1e-4, atol=1e-6)
    total = said.sum(axis=1, keepdims=True)
    wanted = (said + 1) / (total + 3) if hasattr(one, "predict_opinion") else said
    np.testing.assert_allclose(more["stated"], wanted, rtol=1e-4, atol=1e-6)


def test_rows_that_chose_the_epoch_and_rows_that_calibrate_are_different(monkeypatch):
    apart = np.arange(0, 20, 2)
    set_apart(monkeypatch, apart)
    held = []
    monkeypatch.setattr(
        RCMLClassifier,
        "_validation",
        lambda self, rows: held.append(rows.views["a"][:, 0]) or (lambda: {"validation": 1.0}),
    )
    views, y = rows()
    views["a"][:, 0] = np.arange(ROWS)
    model = small("RCMLClassifier", early_stopping=True, calibration_fraction=0.2)
    model.set_params(validation_fraction=0.5).fit(views, y)
    assert len(held[0]) == (ROWS - len(apart)) // 2
    assert not set(held[0]) & set(apart)


@pytest.mark.parametrize("name", ["RCMLClassifier", "ControlClassifier"])
def test_weights_of_rows_and_classes_count(name, monkeypatch):
    apart = np.arange(10, 30)
    set_apart(monkeypatch, apart)
    asked = []
    monkeypatch.setattr(base, "choose_calibrator", lambda *args, **_: asked.append(args))
    views, y = rows()
    weights = np.arange(1.0, ROWS + 1)
    options = {"class_weight": {0: 2.0}} if name == "RCMLClassifier" else {}
    small(name, calibration_fraction=0.3, **options).fit(views, y, sample_weight=weights)
    expected = weights * np.where(y == 0, 2.0, 1.0) if options else weights
    np.testing.assert_allclose(asked[0][2], (expected / expected.mean())[apart])


def test_the_draw():
    def drawn(**options):
        model = ControlClassifier(calibration_fraction=0.25, **options)
        return model._draw_apart(np.array([0] * 30 + [1] * 9 + [2]), each_class=True)

    for seed in range(20):
        fitted, apart = drawn(random_state=seed)
        assert sorted([*fitted, *apart]) == list(range(40))
        assert len(apart) == 10
        assert 39 in fitted  # the only row of its class
    assert not np.array_equal(drawn(random_state=0)[1], drawn(random_state=1)[1])
    np.testing.assert_array_equal(drawn(random_state=0)[1], drawn(random_state=0)[1])


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if name not in OWN_WAY])
def test_without_a_fraction_nothing_is_drawn_or_left_over(name, monkeypatch):
    views, y = rows()
    model = small(name, calibration_fraction=0.2).fit(views, y)
    assert hasattr(model, "calibrator_")
    monkeypatch.setattr(MultiViewEstimator, "_draw_apart", None)
    model.set_params(calibration_fraction=0.0).fit(views, y)
    assert not hasattr(model, "calibrator_")
    plain = small(name).fit(views, y)
    np.testing.assert_array_equal(model.predict_proba(views), plain.predict_proba(views))


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, "x", True, math.nan])
@pytest.mark.parametrize("kind", [RCMLClassifier, MISAClassifier, ControlClassifier])
def test_bad_fractions_are_refused_in_one_sentence(kind, value):
    views, y = rows()
    with pytest.raises(OptionError, match="is not a finite number of 0") as caught:
        kind(calibration_fraction=value).fit(views, y)
    assert len(str(caught.value)) <= 300
    assert str(caught.value).count(".\n") == 0


def test_classes_of_one_row_leave_nothing_to_set_apart():
    with pytest.raises(OptionError, match="sets rows apart, but every class has one row"):
        small("RCMLClassifier", calibration_fraction=0.2).fit(np.eye(4), np.arange(4))


def test_few_rows_leave_the_probabilities_as_they_are():
    views, y = rows(12)
    model = small("RCMLClassifier", calibration_fraction=0.2).fit(views, y)
    assert model.calibrator_ is None
    opinion = model.predict_opinion(views)
    np.testing.assert_array_equal(opinion.probability, opinion.projected_probability)


MISCALIBRATED = [
    # too sure
    ControlClassifier(C=1e6),
    MISAClassifier(epochs=30, hidden=16, learning_rate=0.01, early_stopping=False),
    # too unsure
    RCMLClassifier(epochs=100, learning_rate=0.05),
    CCMLClassifier(epochs=60, learning_rate=0.05),
]


@pytest.mark.parametrize("model", MISCALIBRATED, ids=lambda model: type(model).__name__)
def test_a_method_that_is_off_is_brought_near(model):
    rng = np.random.default_rng(0)

    def draw(count):
        y = rng.integers(0, 3, count)
        X = rng.normal(size=(count, 30))
        X[:, :3] += 1.5 * np.eye(3)[y]
        return {"a": X[:, :15], "b": X[:, 15:]}, y

    views, y = draw(300)
    new, truth = draw(1500)
    model.set_params(calibration_fraction=0.35, random_state=0).fit(views, y)
    calibrated = model.predict_proba(new)
    before = model._projected(stated(model, new))
    assert metrics.ece(before, truth) > 0.08
    assert metrics.ece(calibrated, truth) < 0.6 * metrics.ece(before, truth)
    assert metrics.nll(calibrated, truth) < metrics.nll(before, truth)


def test_the_fit_is_taken_only_where_it_betters_what_was_stated():
    rng = np.random.default_rng(0)
    truth = rng.dirichlet(np.ones(3), size=2000)
    codes = (truth.cumsum(axis=1) < rng.random((2000, 1))).sum(axis=1)
    assert choose_calibrator(truth, codes, stated=truth) is None
    sharp = truth**3 / (truth**3).sum(axis=1, keepdims=True)
    chosen = choose_calibrator(sharp, codes, stated=sharp)
    assert metrics.ece(chosen(sharp), codes) < metrics.ece(sharp, codes) / 2
    # shares of little evidence are too sure, the opinion's own probabilities are not
    faint = 3 * truth
    assert choose_calibrator(sharp, codes, stated=(faint + 1) / 6) is not None
    assert choose_calibrator(truth[:4], codes[:4], stated=truth[:4]) is None


def test_a_lead_too_small_for_logarithms_still_decides():
    tiny = np.nextafter(0.25, 1)
    evidence = np.array([[0.25, tiny, 0.25], [tiny, 0.25, 0.25], [0.25, 0.25, tiny]])
    calibrated = Calibrator(exponent=0.05, slope=0.5, offset=-1.0)(evidence)
    assert calibrated.argmax(axis=1).tolist() == [1, 0, 2]


@pytest.mark.parametrize("kind", [RCMLClassifier, FUMLClassifier, MISAClassifier])
def test_model_files_hold_the_calibrator(kind, tmp_path, monkeypatch):
    views, y = rows()
    calibrator = Calibrator(exponent=0.5, slope=1.0, offset=0.0)
    monkeypatch.setattr(base, "choose_calibrator", lambda *_, **__: calibrator)
    model = small(kind.__name__, calibration_fraction=0.2).fit(views, y)
    model.save(tmp_path / "model.rcml")
    again = rcml_misa.load(tmp_path / "model.rcml")
    assert again.calibrator_ == calibrator
    np.testing.assert_array_equal(again.predict_proba(views), model.predict_proba(views))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_within_a_pipeline_and_scikit_learns_calibration(name):
    views, y = rows()
    X = np.hstack(list(views.values()))
    fraction = {"calibration_fraction": 0.3} if name not in OWN_WAY else {}
    pipeline = make_pipeline(StandardScaler(), small(name, views=[3, 4], **fraction)).fit(X, y)
    np.testing.assert_allclose(pipeline.predict_proba(X).sum(axis=1), 1, rtol=1e-5)
    outer = CalibratedClassifierCV(pipeline, cv=2, ensemble=False).fit(X, y)
    np.testing.assert_allclose(outer.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


# RCML-MISA on sequences and texts


def test_calibration_rows_of_sequences_and_texts_are_new_to_the_networks(monkeypatch):
    apart = (np.arange(0, 20, 2), np.arange(1, 21, 2))
    monkeypatch.setattr(Blocks, "draw", lambda codes, *_, **__: Blocks(len(codes), apart))
    tables, y = rows()
    views = {
        **tables,
        "steps": list(np.random.default_rng(0).normal(size=(ROWS, 4, 2))),
        "words": [("bad film", "a film", "good film")[code] for code in y],
    }
    wrong = y.copy()
    wrong[:20] = (y[:20] + 1) % 3

    def fitted(labels):
        options = {"text_encoder": "words", "sequence_encoder": "mean"}
        return small("RCMLMISAClassifier", **options).fit(views, labels)

    one, two = fitted(y), fitted(wrong)
    for key, value in one.module_.state_dict().items():
        assert torch.equal(value, two.module_.state_dict()[key]), key
    assert not np.array_equal(one.stack_, two.stack_)


# scores


def scored(count: int = 100) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    views = {"a": rng.normal(size=(count, 3)), "b": rng.normal(size=(count, 4))}
    return views, views["a"][:, 0] + rng.normal(0, 0.3, count)


def regressor(**options: Any) -> RCMLMISARegressor:
    return RCMLMISARegressor(
        epochs=3, hidden=8, feedforward=8, batch_size=20, random_state=0, device="cpu", **options
    )


@pytest.mark.parametrize("early", [True, False])
def test_widths_and_intervals_are_fixed_on_rows_that_chose_no_epoch(early, monkeypatch):
    apart = np.arange(0, 60, 2)
    set_apart(monkeypatch, apart)
    views, y = scored()
    other, wrong = {name: view.copy() for name, view in views.items()}, y.copy()
    wrong[apart] *= 5
    one = regressor(early_stopping=early, calibration_fraction=0.3).fit(views, y)
    two = regressor(early_stopping=early, calibration_fraction=0.3).fit(other, wrong)
    assert one.validation_rows_ == len(apart) // 2
    for key, value in one.module_.state_dict().items():
        assert torch.equal(value, two.module_.state_dict()[key]), key
    np.testing.assert_array_equal(one.predict(views), two.predict(views))
    assert one.calibrator_.offset + 1 < two.calibrator_.offset
    # the one half had no say in the intervals, the other none in the width
    reach = apart[1::2]
    low, high = one.predict_interval({name: view[reach] for name, view in views.items()})
    covered = (low <= y[reach]) & (y[reach] <= high)
    assert covered.sum() == math.ceil(0.9 * (len(reach) + 1))
    half = y.copy()
    half[reach] *= 5
    three = regressor(early_stopping=early, calibration_fraction=0.3).fit(views, half)
    assert three.calibrator_.offset == one.calibrator_.offset
    assert three.interval_factor_ > 2 * one.interval_factor_


def test_without_rows_of_either_kind_there_are_no_intervals():
    views, y = scored()
    model = regressor(early_stopping=False).fit(views, y)
    assert model.calibrator_ is None
    with pytest.raises(DataError, match=r"intervals need .*calibration_fraction"):
        model.predict_interval(views)


def test_a_single_row_can_not_be_set_apart():
    with pytest.raises(DataError, match=r"1 sample\(s\), which leave none to fit on"):
        regressor(calibration_fraction=0.3).fit(np.ones((1, 2)), [1.0])


def test_kernel_experts_have_no_such_parameter():
    assert "calibration_fraction" not in KernelExpertClassifier().get_params()
    assert RCMLMISAClassifier().calibration_fraction is None
