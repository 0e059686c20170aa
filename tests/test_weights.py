"""Weights of rows and classes, and early stopping on held-out train rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from rcml_misa.calibration import Calibrator
from rcml_misa.estimators import (
    ControlClassifier,
    KernelExpert,
    KernelExpertClassifier,
    NotesClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.experts.expert import fit_temperature
from rcml_misa.experts.ridge import fit_ridge, nystroem_root
from rcml_misa.experts.sums import Sample
from rcml_misa.reading.rows import hold_out, row_weights

MAKERS = {
    "rcml-misa": lambda **more: RCMLMISAClassifier(
        **{"epochs": 3, "hidden": 8, "random_state": 0, "device": "cpu"} | more
    ),
    "rcml": lambda **more: RCMLClassifier(
        **{"epochs": 40, "learning_rate": 0.03, "random_state": 0, "device": "cpu"} | more
    ),
    "rcml-misa none": lambda **more: MAKERS["rcml-misa"](expert="none", **more),
    "kernel-expert": lambda **more: KernelExpertClassifier(**{"random_state": 0} | more),
    "ridge-expert": lambda **more: RidgeExpertClassifier(**{"random_state": 0} | more),
    "control": ControlClassifier,
    "notes": lambda **more: NotesClassifier(epochs=2, random_state=0, device="cpu"),
    "one-expert": lambda **more: KernelExpert(random_state=0),
}
NETWORKS = ("rcml-misa", "rcml")
every = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return X, np.array(["a", "b", "c"])[y]


def overlapping(rows=120, share=0.2, seed=0):
    """Two classes that overlap, the second one rare."""
    rng = np.random.default_rng(seed)
    y = (rng.random(rows) < share).astype(int)
    return rng.normal(size=(rows, 4)) + 0.8 * y[:, None], y


# row_weights


def test_weights_have_mean_one_and_equal_ones_are_none():
    labels = np.array(["a", "b", "b", "b"])
    np.testing.assert_allclose(row_weights(labels, [1, 2, 3, 2], None), [0.5, 1, 1.5, 1])
    np.testing.assert_allclose(row_weights(labels, [0, 2, 4, 6], None), [0, 0.5, 1, 1.5])
    assert row_weights(labels, [3, 3, 3, 3], None) is None
    assert row_weights(labels, 2.0, None) is None
    assert row_weights(labels, None, None) is None
    balanced = row_weights(labels, None, "balanced")
    np.testing.assert_allclose(balanced, [2, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(row_weights(labels, [1, 1, 1, 1], "balanced"), balanced)
    # what weights have balanced already stays as it is
    np.testing.assert_allclose(row_weights(labels, [3, 1, 1, 1], "balanced"), balanced)
    np.testing.assert_allclose(row_weights(labels, None, {"a": 3}), [2, 2 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("sample", "by_class", "error", "words"),
    [
        ([1, 2], None, DataError, r"shape \(2,\) but X has 4 rows"),
        ([[1], [2], [3], [4]], None, DataError, "shape"),
        ([1, 2, -1, 3], None, DataError, "negative"),
        ([1, 2, np.nan, 3], None, DataError, "NaN"),
        (["x", 1, 2, 3], None, DataError, "not numeric"),
        ([0, 0, 0, 0], None, DataError, "every weight is zero"),
        (None, "balance", OptionError, "class_weight='balance' is not 'balanced' or a dict"),
        (None, {"z": 1.0}, OptionError, "names 'z', which is no class"),
        (None, {"a": -1}, OptionError, "of 'a' is -1"),
        (None, {"a": "2"}, OptionError, "of 'a' is '2'"),
    ],
)
def test_unusable_weights(sample, by_class, error, words):
    with pytest.raises(error, match=words):
        row_weights(np.array(["a", "b", "b", "b"]), sample, by_class)


# closed forms


def turned(root, cross):
    """Nystroem features of kernel values."""
    return torch.linalg.solve_triangular(root, cross.T, upper=False).T.numpy()


def ridge_problem():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(14, 5))
    onehot = np.eye(3)[rng.integers(3, size=14)]
    landmarks = rows[:5]

    def solve(chosen, weights=None, penalties=(0.3,)):
        root = nystroem_root(torch.from_numpy(landmarks @ landmarks.T))
        cross = torch.from_numpy(rows[chosen] @ landmarks.T)
        codes = torch.from_numpy(onehot[chosen].argmax(axis=1))
        given = None if weights is None else torch.from_numpy(weights)
        return fit_ridge(Sample(cross, codes, given), 3, penalties, root), turned(root, cross)

    return solve, onehot


def test_ridge_with_whole_weights_is_the_ridge_of_repeated_rows():
    solve, _ = ridge_problem()
    counts = np.array([1, 2, 3, 1, 1, 2, 1, 1, 1, 4, 1, 1, 1, 1])
    scale = counts.mean()  # weights of mean 1 ask for a penalty as many times smaller
    weighted, _ = solve(np.arange(14), counts / scale, penalties=(0.3 / scale,))
    repeated, _ = solve(np.repeat(np.arange(14), counts))
    np.testing.assert_allclose(weighted.coefficients, repeated.coefficients, atol=1e-8)
    np.testing.assert_allclose(weighted.intercept, repeated.intercept, atol=1e-10)


def test_weighted_leave_one_out_scores_are_those_of_the_ridge_without_the_row():
    solve, onehot = ridge_problem()
    weights = np.random.default_rng(1).uniform(0.2, 3.0, size=14)
    weights /= weights.mean()
    found, features = solve(np.arange(14), weights)
    for row in range(14):
        kept = np.arange(14) != row
        w, x, t = weights[kept], features[kept], onehot[kept]
        centre, base = w @ x / w.sum(), w @ t / w.sum()
        gram = (x - centre).T @ (w[:, None] * (x - centre)) + 0.3 * np.eye(5)
        slope = np.linalg.solve(gram, (x - centre).T @ (w[:, None] * (t - base)))
        wanted = base + (features[row] - centre) @ slope
        np.testing.assert_allclose(found.loo_scores[row], wanted, atol=1e-8)


def test_whole_weights_in_temperature_and_calibration_are_repeated_rows():
    rng = np.random.default_rng(0)
    scores, codes = rng.normal(size=(40, 3)), rng.integers(3, size=40)
    scores[np.arange(40), codes] += 1
    counts = rng.integers(1, 4, size=40)
    repeated = np.repeat(np.arange(40), counts)
    found = fit_temperature(scores, codes, counts)
    assert found == pytest.approx(fit_temperature(scores[repeated], codes[repeated]))
    evidence = np.exp(scores)
    one = Calibrator.fit(evidence, codes, counts.astype(float))
    other = Calibrator.fit(evidence[repeated], codes[repeated])
    np.testing.assert_allclose(
        (one.exponent, one.slope, one.offset),
        (other.exponent, other.slope, other.offset),
        rtol=1e-3,
    )


def test_ratios_of_weights_count_whatever_their_mean():
    solve, _ = ridge_problem()
    weights = np.random.default_rng(1).uniform(0.2, 3.0, size=14)
    found, wanted = solve(np.arange(14), 7 * weights)[0], solve(np.arange(14), weights)[0]
    np.testing.assert_allclose(found.coefficients, wanted.coefficients, atol=1e-10)
    np.testing.assert_allclose(found.intercept, wanted.intercept, atol=1e-12)
    np.testing.assert_allclose(found.loo_scores, wanted.loo_scores, atol=1e-10)


# estimators


@every
def test_rows_of_weight_zero_are_not_there(name, iris):
    X, y = iris
    weights = np.ones(150)
    weights[::3] = 0
    kept = weights > 0
    found = MAKERS[name]().fit(X, y, sample_weight=weights)
    wanted = MAKERS[name]().fit(X[kept], y[kept])
    np.testing.assert_array_equal(found.predict_proba(X), wanted.predict_proba(X))
    gone = MAKERS[name]().fit(X, y, sample_weight=(y != "b").astype(float))
    assert gone.classes_.tolist() == ["a", "c"]
    with pytest.raises(DataError, match="one class only"):
        MAKERS[name]().fit(X, y, sample_weight=(y == "b").astype(float))


@every
def test_equal_weights_change_nothing_and_others_do(name):
    X, y = overlapping()
    plain = MAKERS[name]().fit(X, y).predict_proba(X)
    equal = MAKERS[name]().fit(X, y, sample_weight=np.full(120, 3.0)).predict_proba(X)
    np.testing.assert_array_equal(plain, equal)
    heavy = MAKERS[name]().fit(X, y, sample_weight=1.0 + 20 * y).predict_proba(X)
    if name == "notes":  # too short a training to lean far
        assert not np.array_equal(heavy, plain)
    else:
        assert heavy[:, 1].mean() > plain[:, 1].mean() + 0.05


@pytest.mark.parametrize("name", ["rcml-misa", "rcml", "kernel-expert", "ridge-expert"])
def test_balanced_classes_find_more_of_the_rare_one(name):
    X, y = overlapping(rows=200)
    new, truth = overlapping(rows=400, seed=1)
    plain, balanced = (MAKERS[name](class_weight=weight).fit(X, y) for weight in (None, "balanced"))
    rare = truth == 1
    assert (balanced.predict(new)[rare] == 1).mean() > (plain.predict(new)[rare] == 1).mean()
    by_name = MAKERS[name](class_weight={1: 1 / y.mean(), 0: 1 / (1 - y.mean())}).fit(X, y)
    np.testing.assert_allclose(by_name.predict_proba(new), balanced.predict_proba(new), atol=1e-5)


def test_discriminant_analysis_takes_no_weights(iris):
    X, y = iris
    with pytest.raises(OptionError, match="model='lda' takes no weights"):
        ControlClassifier(model="lda").fit(X, y, sample_weight=np.arange(150))


# early stopping


def test_hold_out_leaves_a_row_of_every_class():
    codes = np.array([0] * 10 + [1] * 2 + [2])
    for seed in range(20):
        kept, held = hold_out(codes, 0.9, np.random.default_rng(seed))
        assert set(codes[kept]) == {0, 1, 2}
        assert sorted([*kept, *held]) == list(range(13))
    _, held = hold_out(codes, 0.1, np.random.default_rng(0))
    assert len(held) == 1
    with pytest.raises(OptionError, match="every class has one row only"):
        hold_out(np.arange(4), 0.5, np.random.default_rng(0))


@pytest.mark.parametrize("name", NETWORKS)
def test_early_stopping_ends_before_the_last_epoch(name, iris):
    X, y = iris
    options = {"early_stopping": True, "patience": 2, "epochs": 200, "learning_rate": 0.1}
    if name == "rcml":
        options |= {"hidden": (32,)}
    model = MAKERS[name](**options).fit(X, y)
    assert 3 <= len(model.history_["validation"]) < 200
    best = int(np.argmin(model.history_["validation"]))
    assert len(model.history_["validation"]) == best + 3
    assert model.score(X, y) > 0.8
    if name == "rcml-misa":  # nor do the experts see held-out rows
        assert len(model.experts_.joint_.loo_scores_) == 135


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    "option", [{"validation_fraction": 0.0}, {"validation_fraction": 1}, {"patience": 0}], ids=str
)
def test_unusable_options_of_early_stopping(name, option, iris):
    with pytest.raises(OptionError, match=next(iter(option))):
        MAKERS[name](early_stopping=True, **option).fit(*iris)


def test_a_row_without_evidence_has_no_favourite() -> None:
    evidence = np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    calibrator = Calibrator.fit(evidence, np.arange(3))
    np.testing.assert_array_equal(calibrator(np.zeros((1, 3))), [[1 / 3, 1 / 3, 1 / 3]])
