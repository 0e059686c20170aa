"""The kernel expert and the set of experts of several views."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.special import log_softmax, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_predict

from rcml_misa.experts import sums
from rcml_misa.experts.expert import KernelExpert, fit_temperature
from rcml_misa.experts.logits import stack_weights
from rcml_misa.experts.ridge import KERNELS
from rcml_misa.experts.view_experts import ViewExperts
from rcml_misa.opinions import agreement, log_shares
from rcml_misa.views import MultiView


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:200], y[:200]


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def test_probabilities_are_probabilities_and_accurate(digits):
    X, y = digits
    expert = KernelExpert(random_state=0).fit(X[:150], y[:150])
    found = expert.predict_proba(X[150:])
    assert found.shape == (50, 10)
    assert (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (expert.predict(X[150:]) == y[150:]).mean() > 0.85
    assert expert.loo_scores_.shape == (150, 10)
    assert expert.kernel_ in KERNELS
    assert expert.penalty_ in expert.penalties


def test_leave_one_out_scores_are_as_good_as_those_of_new_rows(digits):
    X, y = digits
    expert = KernelExpert(random_state=0)
    held_out = cross_val_predict(expert, X, y, cv=5) == y
    left_out = expert.fit(X, y).loo_scores_.argmax(axis=1) == y
    assert abs(held_out.mean() - left_out.mean()) < 0.05


def test_leave_one_out_learns_nothing_from_random_labels():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(240, 8)), np.arange(240) % 2
    expert = KernelExpert(penalties=(1e-3,), kernel="fine", random_state=0).fit(X, y)
    assert expert.score(X, y) > 0.95  # it can learn them by heart
    assert abs((expert.loo_scores_.argmax(axis=1) == y).mean() - 0.5) < 0.12
    # and what it says of new rows is no surer than leave-one-out supports
    assert softmax(expert.raw_temperature_ * expert.loo_scores_, axis=1).max() < 0.95


def test_leave_one_out_scores_stand_in_the_order_of_the_rows(iris):
    # where every row is a landmark one ridge serves both steps; else a second one is fitted
    X, y = iris
    short = KernelExpert(kernel="medium", random_state=0).fit(X, y)
    long = KernelExpert(kernel="medium", selection_landmarks=50, random_state=0).fit(X, y)
    np.testing.assert_allclose(short.loo_scores_, long.loo_scores_, atol=1e-3)
    assert (short.loo_scores_.argmax(axis=1) == y).mean() > 0.9
    np.testing.assert_allclose(short.decision_function(X), long.decision_function(X), atol=1e-3)


def test_a_row_without_itself_scores_as_a_new_row():
    # landmarks are drawn from the rows, so that only rows outside them can be compared
    rng = np.random.default_rng(1)
    y = np.arange(80) % 2
    X = rng.normal(size=(80, 3)) + y[:, None]
    settings_ = {"kernel": "medium", "penalties": (1.0,), "random_state": 0}
    expert = KernelExpert(**settings_).fit(X, y)
    for row in (3, 40, 77):
        kept = np.arange(80) != row
        other = KernelExpert(**settings_).fit(X[kept], y[kept])
        found = other.score_parts([X[[row]]])[0]
        np.testing.assert_allclose(found, expert.loo_scores_[row], atol=0.06)


@given(seed=st.integers(0, 999), noise=st.floats(0.05, 3.0))
@settings(deadline=None, max_examples=20, derandomize=True)
def test_temperature_is_the_best_of_a_grid(seed, noise):
    rng = np.random.default_rng(seed)
    target = rng.integers(3, size=40)
    scores = np.eye(3)[target] + noise * rng.normal(size=(40, 3))

    def cross_entropy(temperature):
        return -log_softmax(temperature * scores, axis=1)[np.arange(40), target].mean()

    grid = np.linspace(0, 5.5, 111)  # logarithms, 0.05 apart
    found = fit_temperature(scores, target)
    assert 1 <= found <= math.exp(5.5)
    best = grid[np.argmin([cross_entropy(math.exp(one)) for one in grid])]
    # near in the logarithm or, where the curve is flat, as good
    near = abs(math.log(found) - best) < 0.05 + 0.02
    assert near or cross_entropy(found) < cross_entropy(math.exp(best)) + 1e-4


def test_scores_are_bounded_at_the_quantile_of_true_scores(digits):
    X, y = digits
    expert = KernelExpert(random_state=0).fit(X, y)
    true = expert.loo_scores_[np.arange(200), y]
    assert expert.bound_ == pytest.approx(np.quantile(true, 0.7))
    scores = expert.score_parts([X])
    assert scores.max() > expert.bound_
    wanted = softmax(expert.temperature_ * np.minimum(scores, expert.bound_), axis=1)
    np.testing.assert_allclose(expert.predict_proba(X), wanted)
    bounded = np.minimum(expert.loo_scores_, expert.bound_)
    assert expert.temperature_ == pytest.approx(fit_temperature(bounded, y))
    assert expert.raw_temperature_ == pytest.approx(fit_temperature(expert.loo_scores_, y))


def test_no_cap_no_bound(iris):
    X, y = iris
    expert = KernelExpert(cap=None, random_state=0).fit(X, y)
    assert expert.bound_ == np.inf
    assert expert.temperature_ == expert.raw_temperature_
    wanted = softmax(expert.temperature_ * expert.decision_function(X), axis=1)
    np.testing.assert_allclose(expert.predict_proba(X), wanted)


def test_other_test_rows_change_nothing(iris):
    X, y = iris
    expert = KernelExpert(random_state=0).fit(X[::2], y[::2])
    alone = expert.predict_proba(X[1:9:2])
    together = expert.predict_proba(np.concatenate([X[1:9:2], 1e3 * X, -X]))
    np.testing.assert_allclose(together[:4], alone, atol=1e-5)


@pytest.mark.parametrize("scaling", ["minmax", "standard", "none"])
def test_columns_scale_does_not_matter_once_scaled(iris, scaling):
    X, y = iris
    factors = np.array([1e-3, 1.0, 1e3, 7.0])
    found = (
        KernelExpert(scaling=scaling, random_state=0).fit(X * factors, y).predict_proba(X * factors)
    )
    wanted = KernelExpert(scaling=scaling, random_state=0).fit(X, y).predict_proba(X)
    same = np.allclose(found, wanted, atol=1e-2)
    assert same == (scaling != "none")


def test_random_state_decides_the_landmarks(digits):
    X, y = digits
    few = KernelExpert(landmarks=40, selection_landmarks=20, random_state=1)
    first, second = clone(few).fit(X, y), clone(few).fit(X, y)
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    np.testing.assert_array_equal(first.loo_scores_, second.loo_scores_)
    other = clone(few).set_params(random_state=2).fit(X, y)
    assert not np.allclose(first.loo_scores_, other.loo_scores_)
    assert len(first.landmark_values_) == 40


def test_fit_leaves_the_global_state_alone(iris):
    np.random.seed(3)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    KernelExpert().fit(*iris)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_string_labels(iris):
    X, y = iris
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    expert = KernelExpert(random_state=0).fit(X, names)
    assert expert.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    codes = KernelExpert(random_state=0).fit(X, y).predict(X)
    assert (expert.predict(X) == expert.classes_[codes]).all()


def test_groups_count_alike_whatever_their_width(digits):
    # columns given twice inside a group change nothing; without groups they would weigh more
    X, y = digits
    left, right = X[:, :20], X[:, 20:30]
    doubled = np.concatenate([left, left, right], axis=1)
    plain = KernelExpert(groups=(20, 10), random_state=0).fit(X[:, :30], y)
    twice = KernelExpert(groups=(40, 10), random_state=0).fit(doubled, y)
    np.testing.assert_allclose(
        twice.decision_function(doubled), plain.decision_function(X[:, :30]), atol=1e-3
    )
    loose = KernelExpert(random_state=0).fit(doubled, y)
    assert not np.allclose(
        loose.decision_function(doubled), plain.decision_function(X[:, :30]), atol=1e-2
    )


def test_mapped_columns_of_each_view_have_total_variance_one(digits):
    X, y = digits
    expert = KernelExpert(groups=(50, 14), random_state=0).fit(X, y)
    columns = expert.columns_([X[:, :50], X[:, 50:]])
    widths = [width for kind in expert.layout_ for width in kind]
    assert len(widths) == 4
    for block in np.split(columns, np.cumsum(widths)[:-1], axis=1):
        assert block.var(axis=0).sum() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("size", [13, 64])
def test_blocks_of_rows_change_nothing(monkeypatch, digits, size):
    X, y = digits
    wanted = KernelExpert(random_state=0).fit(X[:120], y[:120])
    monkeypatch.setattr(sums, "BLOCK", size)
    found = KernelExpert(random_state=0).fit(X[:120], y[:120])
    np.testing.assert_allclose(found.loo_scores_, wanted.loo_scores_, atol=1e-3)
    np.testing.assert_allclose(found.predict_proba(X), wanted.predict_proba(X), atol=1e-2)


def test_more_rows_than_a_block_are_mapped_block_by_block(monkeypatch, iris):
    X, y = iris
    order = np.random.default_rng(0).permutation(150)
    X, y = X[order], y[order]
    wanted = KernelExpert(random_state=0).fit(X, y)
    monkeypatch.setattr(sums, "BLOCK", 64)
    monkeypatch.setattr("rcml_misa.experts.kernel_rows.BLOCK", 64)
    monkeypatch.setattr("rcml_misa.experts.mapped_views.BLOCK", 64)
    found = KernelExpert(random_state=0, selection_landmarks=100).fit(X, y)
    assert (found.loo_scores_.argmax(axis=1) == y).mean() > 0.9
    assert (found.predict(X) == wanted.predict(X)).mean() > 0.97


def test_constant_columns_duplicate_rows_and_two_classes():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 15)
    X = np.column_stack([rng.normal(size=30) + 3 * y, np.full(30, 0.1), np.zeros(30)])
    X, y = np.concatenate([X, X, X]), np.concatenate([y, y, y])
    expert = KernelExpert(random_state=0).fit(X, y)
    assert expert.loo_scores_.shape == (90, 2)
    assert np.isfinite(expert.loo_scores_).all()
    assert np.isfinite(expert.predict_proba(X)).all()
    assert expert.score(X, y) > 0.9


def test_columns_that_say_nothing():
    X, y = np.ones((12, 3)), np.arange(12) % 2
    found = KernelExpert(random_state=0).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(found, 0.5, atol=0.02)


@pytest.mark.parametrize("rows", [2, 3, 6])
def test_few_rows(rows):
    X, y = np.arange(2.0 * rows).reshape(rows, 2), np.arange(rows) % 2
    expert = KernelExpert(random_state=0).fit(X, y)
    assert np.isfinite(expert.loo_scores_).all()
    assert np.isfinite(expert.predict_proba(X)).all()


def test_errors(iris):
    X, y = iris
    with pytest.raises(NotFittedError):
        KernelExpert().predict_proba(X)
    expert = KernelExpert(random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="3 features"):
        expert.predict(X[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        KernelExpert().fit(np.full_like(X, np.nan), y)
    with pytest.raises(ValueError, match="Unknown label type"):
        KernelExpert().fit(X, X[:, 0])


def test_predict_before_fit(iris):
    with pytest.raises(NotFittedError):
        KernelExpert().predict(iris[0])


# experts of several views


@pytest.fixture(scope="module")
def views(digits):
    X, y = digits
    return MultiView({"top": X[:, :32], "bottom": X[:, 32:]}), y


def test_view_experts_are_kernel_experts_side_by_side(views):
    table, y = views
    experts = ViewExperts(random_state=0).fit(table, y)
    for number, name in enumerate(table.names):
        alone = KernelExpert(random_state=0).fit(table[name], y)
        scores = np.minimum(alone.decision_function(table[name]), alone.bound_)
        found = experts.logits(table).views[:, number]
        np.testing.assert_allclose(found, alone.temperature_ * scores, atol=2e-3)
        np.testing.assert_allclose(experts.views_[number].loo_scores_, alone.loo_scores_, atol=1e-4)
        left_out = alone.temperature_ * np.minimum(alone.loo_scores_, alone.bound_)
        np.testing.assert_allclose(experts.train_logits_.views[:, number], left_out, atol=2e-3)
    joint = KernelExpert(groups=table.widths, random_state=0).fit(table.to_array(), y)
    wanted = joint.temperature_ * np.minimum(
        joint.decision_function(table.to_array()), joint.bound_
    )
    np.testing.assert_allclose(experts.logits(table).joint, wanted, atol=2e-3)


def test_witnesses_are_class_shares_of_the_unbounded_scores(views):
    table, y = views
    experts = ViewExperts(random_state=0).fit(table, y)
    logits = experts.logits(table)
    for place, (expert, name) in enumerate(zip(experts.views_, table.names, strict=True)):
        scores = expert.score_parts([table[name]])
        assert scores.max() > expert.bound_
        wanted = softmax(expert.raw_temperature_ * scores, axis=1)
        np.testing.assert_allclose(logits.witness[:, place], wanted, atol=1e-3)
        left_out = softmax(expert.raw_temperature_ * expert.loo_scores_, axis=1)
        np.testing.assert_allclose(experts.train_logits_.witness[:, place], left_out)
    some = logits.take(slice(2, 5))
    for name in ("views", "joint", "witness"):
        np.testing.assert_array_equal(getattr(some, name), getattr(logits, name)[2:5])


def test_contradicting_views_agree_less(views):
    table, y = views
    experts = ViewExperts(random_state=0).fit(table, y)
    crossed = table.replace({"bottom": table["bottom"][np.argsort(y, kind="stable")[::-1]]})
    fine, clash = (
        agreement(torch.from_numpy(experts.logits(one).witness))[0] for one in (table, crossed)
    )
    assert clash.mean() < fine.mean() / 2


def test_one_view_and_sparse_views(views):
    table, y = views
    single = ViewExperts(random_state=0).fit(MultiView({"top": table["top"]}), y)
    logits = single.logits(MultiView({"top": table["top"]}))
    np.testing.assert_array_equal(logits.views[:, 0], logits.joint)
    assert logits.witness.shape == (200, 1, 10)
    sparse = MultiView({name: csr_array(array) for name, array in table.items()})
    thick, thin = (ViewExperts(random_state=0).fit(one, y) for one in (table, sparse))
    np.testing.assert_allclose(thin.logits(sparse).views, thick.logits(table).views)


def test_stack_weights_of_experts(views):
    table, y = views
    known = ViewExperts(random_state=0).fit(table, y).train_logits_
    both, without = known.stack(y), known.stack(y, joint=False)
    assert both.shape == without.shape == (3,)
    assert without[-1] == 0
    shares = softmax(np.concatenate([known.views, known.joint[:, None]], axis=1), axis=2)
    logs = log_shares(torch.from_numpy(shares)).numpy()
    np.testing.assert_allclose(both, stack_weights(logs, y, np.array([1.0, 1.0, 1.5])))
    np.testing.assert_allclose(without[:2], stack_weights(logs[:, :2], y, np.ones(2)))


def test_views_have_half_the_landmarks_where_not_all_rows_are_some(views):
    table, y = views
    few = ViewExperts(landmarks=60, random_state=0).fit(table, y)
    assert len(few.joint_.landmark_values_) == 60
    assert [len(one.landmark_values_) for one in few.views_] == [30, 30]
    every = ViewExperts(landmarks=200, random_state=0).fit(table, y)
    assert [len(one.landmark_values_) for one in every.views_] == [200, 200]
