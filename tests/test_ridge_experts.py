"""Closed-form ridge members: leave-one-out against refitting, what they keep, missing views."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import rcml_misa
from rcml_misa.estimators import KernelExpertClassifier, RidgeExpertClassifier
from rcml_misa.experts import ridge_experts
from rcml_misa.experts.expert import fit_temperature
from rcml_misa.experts.logits import RowWeights
from rcml_misa.experts.ridge import RotatedFeatures
from rcml_misa.experts.ridge_experts import RidgeExperts
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.views import MultiView

CLASSES = 3


def problem(rows=30, widths=(3, 5), *, seed=0, gaps=False):
    """Noisy classes in several views; with `gaps` the second view is missing in every third row."""
    rng = np.random.default_rng(seed)
    codes = np.arange(rows) % CLASSES
    arrays = {
        f"v{place}": rng.normal(size=(CLASSES, width))[codes] + rng.normal(size=(rows, width))
        for place, width in enumerate(widths)
    }
    if gaps:
        arrays["v1"][2::4] = np.nan
    return MultiView(arrays), codes.astype(np.int64)


def refitted(features, onehot, penalty, weights):
    """Scores of each row by a weighted ridge with a free intercept that is fitted without it."""
    rows, width = features.shape
    design = np.column_stack([features, np.ones(rows)])
    cost = np.diag([*np.full(width, penalty), 0.0])
    scores = np.empty(onehot.shape)
    for row in range(rows):
        others = np.arange(rows) != row
        x, w = design[others], weights[others, None]
        solution = np.linalg.solve(x.T @ (w * x) + cost, x.T @ (w * onehot[others]))
        scores[row] = design[row] @ solution
    return scores


def loo_of(experts, views, codes, weights=None):
    """Leave-one-out scores of each member, by refitting, and its features and its own rows."""
    onehot = np.eye(CLASSES)[codes]
    weights = np.ones(len(codes)) if weights is None else weights
    mapped = [
        lift.columns.transform(a) for lift, a in zip(experts.lifts_, views.arrays, strict=True)
    ]
    features = [lift(part) for lift, part in zip(experts.lifts_, mapped, strict=True)]
    sets = [*zip(features, views.present.T, strict=True)]
    if len(features) > 1:
        sets.append((np.concatenate(features, axis=1), np.ones(len(codes), dtype=bool)))
    for member, (values, here) in zip(experts.members_, sets, strict=False):
        own = RowWeights.of(codes, here, weights)(slice(None), codes)
        own = own / own.mean()
        yield member, values[here], here, refitted(values[here], onehot[here], member.penalty, own)


def logits_of(member, scores):
    return member.temperature_ * np.minimum(scores, member.bound_)


@pytest.mark.parametrize("units", [16, 512], ids=["tall", "wide"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("widths", "gaps"), [((4,), False), ((3, 5), False), ((3, 5), True)])
def test_leave_one_out_logits_are_those_of_refitting(monkeypatch, units, weighted, widths, gaps):
    rotations = []

    class Spy(RotatedFeatures):
        def __init__(self, values):
            rotations.append(values.shape)
            super().__init__(values)

    monkeypatch.setattr(ridge_experts, "RotatedFeatures", Spy)
    monkeypatch.setattr(ridge_experts, "UNITS", units)
    views, codes = problem(120 if units == 16 else 30, widths, gaps=gaps)
    weights = np.random.default_rng(1).uniform(0.3, 3.0, size=len(codes)) if weighted else None
    experts = RidgeExperts(random_state=0).fit(views, codes, weights=weights)
    assert len(experts.members_) == len(widths) + 1
    assert len(rotations) == (0 if units == 16 else len(widths) + (len(widths) > 1))
    assert all(width > rows for rows, width in rotations)
    logits = experts.train_logits_
    stacked = np.concatenate([logits.views, logits.joint[:, None]], axis=1)
    for place, (member, features, here, scores) in enumerate(
        loo_of(experts, views, codes, weights)
    ):
        np.testing.assert_allclose(stacked[here, place], logits_of(member, scores), atol=1e-5)
        assert (stacked[~here, place] == 0).all()
        true = scores[np.arange(len(scores)), codes[here]]
        assert member.bound_ == pytest.approx(np.quantile(true, 0.7))
        own = RowWeights.of(codes, here, weights)(slice(None), codes)
        bounded = np.minimum(scores, member.bound_)
        assert member.temperature_ == pytest.approx(fit_temperature(bounded, codes[here], own))
        assert member.raw_temperature_ == pytest.approx(fit_temperature(scores, codes[here], own))
        assert member.weights.shape == (features.shape[1], CLASSES)


def test_penalty_has_the_least_leave_one_out_square_error(monkeypatch):
    monkeypatch.setattr(ridge_experts, "UNITS", 16)
    views, codes = problem(40, (4,))
    experts = RidgeExperts(random_state=0).fit(views, codes)
    member, features, _, _ = next(loo_of(experts, views, codes))
    onehot = np.eye(CLASSES)[codes]
    errors = [
        ((refitted(features, onehot, penalty, np.ones(40)) - onehot) ** 2).sum()
        for penalty in ridge_experts.PENALTIES
    ]
    assert member.penalty == ridge_experts.PENALTIES[int(np.argmin(errors))]


@given(
    rows=st.integers(1, 12),
    width=st.integers(1, 20),
    rank=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(deadline=None, max_examples=40, derandomize=True)
def test_rotation_keeps_inner_products_and_gives_coefficients_back(rows, width, rank, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, width))
    rotated = RotatedFeatures(torch.from_numpy(values))
    narrow = rotated.features.numpy()
    assert narrow.shape[1] <= min(rows, width)
    np.testing.assert_allclose(narrow @ narrow.T, values @ values.T, atol=1e-6)
    coefficients = rng.normal(size=(narrow.shape[1], 2))
    back = rotated.back(coefficients)
    assert back.shape == (width, 2)
    np.testing.assert_allclose(values @ back, narrow @ coefficients, atol=1e-6)


@pytest.mark.parametrize("rows", [30, 500])
def test_logits_of_new_rows_are_those_of_the_linear_maps(rows):
    views, codes = problem(rows)
    new, _ = problem(9, seed=1)
    experts = RidgeExperts(random_state=0).fit(views, codes)
    logits = experts.logits(new)
    features = [
        lift(lift.columns.transform(array))
        for lift, array in zip(experts.lifts_, new.arrays, strict=True)
    ]
    for place, (member, part) in enumerate(
        zip(experts.members_, [*features, np.concatenate(features, axis=1)], strict=True)
    ):
        scores = part @ member.weights + member.intercept
        found = logits.joint if place == 2 else logits.views[:, place]
        np.testing.assert_allclose(found, logits_of(member, scores), rtol=1e-6, atol=1e-6)


def test_features_are_scaled_columns_and_rectified_units():
    views, codes = problem(60)
    experts = RidgeExperts(random_state=0).fit(views, codes)
    for lift, array in zip(experts.lifts_, views.arrays, strict=True):
        mapped = lift.columns.transform(array)
        features = lift(mapped)
        width = mapped.shape[1]
        assert features[:, :width].var(axis=0).sum() == pytest.approx(2)
        count = len(lift.offset)
        units = np.maximum(features[:, :width] @ lift.weights + lift.offset, 0)
        np.testing.assert_allclose(features[:, width:], 2 * units / np.sqrt(count))
        assert lift.weights.std() == pytest.approx(0.7, rel=0.05)


@pytest.mark.parametrize(("views", "units"), [(1, 512), (3, 512), (6, 256)])
def test_units_are_shared_out_among_many_views(views, units):
    table, codes = problem(12, (2,) * views)
    experts = RidgeExperts(random_state=0).fit(table, codes)
    assert [len(lift.offset) for lift in experts.lifts_] == [units] * views


def test_leave_one_out_is_as_good_as_new_rows_and_learns_no_noise():
    views, codes = problem(300)
    experts = RidgeExperts(random_state=0).fit(views.take(slice(0, 150)), codes[:150])
    known = (experts.train_logits_.joint.argmax(axis=1) == codes[:150]).mean()
    new = (experts.logits(views.take(slice(150, None))).joint.argmax(axis=1) == codes[150:]).mean()
    assert abs(known - new) < 0.1
    assert known > 0.7
    rng = np.random.default_rng(0)
    noise = MultiView([rng.normal(size=(150, 3))])
    guesser = RidgeExperts(random_state=0).fit(noise, codes[:150])
    guessed = guesser.train_logits_.joint  # the base rate without a row speaks against its class
    assert (guessed.argmax(axis=1) == codes[:150]).mean() < 1 / 3 + 0.12
    new = MultiView([rng.normal(size=(150, 3))])
    assert softmax(guesser.logits(new).joint, axis=1).max() < 0.6


def test_random_state_draws_the_units():
    views, codes = problem()
    first, second, other = (RidgeExperts(random_state=s).fit(views, codes) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.logits(views).joint, second.logits(views).joint)
    assert not np.allclose(first.logits(views).joint, other.logits(views).joint)


def test_given_columns_are_used():
    views, codes = problem()
    maps = [ColumnMap.fit(array, readings="plain") for array in views.arrays]
    experts = RidgeExperts(random_state=0).fit(views, codes, maps=maps)
    assert [lift.columns for lift in experts.lifts_] == maps


# what is kept


def arrays(thing: Any) -> Iterator[np.ndarray]:
    """Every array that an object holds."""
    if isinstance(thing, np.ndarray):
        yield thing
    elif isinstance(thing, Mapping):
        for value in thing.values():
            yield from arrays(value)
    elif isinstance(thing, list | tuple):
        for value in thing:
            yield from arrays(value)
    elif hasattr(thing, "__dict__"):
        yield from arrays(vars(thing))


def holds_a_row(thing: Any, tables: list[np.ndarray]) -> bool:
    """Whether any array holds a row of any table, along either axis and in any of its columns."""
    for array in arrays(thing):
        if array.dtype.kind != "f" or not array.size:
            continue
        flat = array.reshape(len(array), -1) if array.ndim > 1 else array.reshape(1, -1)
        for table in tables:
            for one in (flat, flat.T):
                width = table.shape[1]
                for start in range(one.shape[1] - width + 1):
                    part = one[:, start : start + width].astype(np.float64)
                    gaps = np.abs(part[:, None] - table[None]).max(axis=2)
                    if (gaps < 1e-5).any():
                        return True
    return False


def row_tables(model, views):
    """Raw rows, and rows as the members map them."""
    raw = [np.asarray(array) for array in views.arrays]
    tables = [*raw, np.concatenate(raw, axis=1)]
    if isinstance(model, RidgeExpertClassifier):
        for lift, array in zip(model.experts_.lifts_, raw, strict=True):
            mapped = lift.columns.transform(array)
            tables += [mapped, lift(mapped)]
    else:
        joint = model.experts_.joint_
        tables.append(joint.columns_(raw))
    for reading in model.membership_.gaussians_.parts(views):
        tables += [part.values for part in reading]
    return tables


def test_no_train_row_is_kept():
    views, codes = problem(40, (4, 6))
    ridge = RidgeExpertClassifier(random_state=0).fit(views, codes)
    assert not holds_a_row(ridge, row_tables(ridge, views))
    kernel = KernelExpertClassifier(random_state=0).fit(views, codes)
    assert holds_a_row(kernel, row_tables(kernel, views))  # the search finds what is there


def test_a_wide_view_keeps_no_row_either():
    views, codes = problem(12, (150,))  # fewer rows than principal components
    ridge = RidgeExpertClassifier(random_state=0).fit(views, codes)
    assert ridge.experts_.lifts_[0].columns.components.size
    assert not holds_a_row(ridge, row_tables(ridge, views))


@pytest.mark.parametrize("gaps", [False, True])
def test_saved_models_predict_the_same_bit_for_bit_and_are_small(tmp_path, gaps):
    views, codes = problem(60, gaps=gaps)
    model = RidgeExpertClassifier(random_state=0).fit(views, codes)
    path = tmp_path / "ridge.rcml"
    model.save(path)
    again = rcml_misa.load(path)
    new, _ = problem(20, seed=1, gaps=gaps)
    for rows in (views, new):
        wanted, found = model.predict_opinion(rows), again.predict_opinion(rows)
        np.testing.assert_array_equal(found.evidence, wanted.evidence)
        np.testing.assert_array_equal(found.probability, wanted.probability)
        np.testing.assert_array_equal(found.shared, wanted.shared)
    assert not hasattr(again.experts_, "train_logits_")
    # each unit once, and its weight for each class twice, in the view's member and the joint one
    columns = 3 * np.array([3, 5])
    numbers = sum(512 * (width + 1) + 2 * CLASSES * (width + 512) for width in columns)
    assert path.stat().st_size < 8 * numbers + 40_000


def test_the_file_does_not_grow_with_the_rows(tmp_path):
    sizes = []
    for rows in (60, 2400):
        views, codes = problem(rows)
        RidgeExpertClassifier(random_state=0).fit(views, codes).save(tmp_path / "ridge.rcml")
        sizes.append((tmp_path / "ridge.rcml").stat().st_size)
    # but for order statistics, at most 2000 of each column, of the members and of the Gaussians
    assert sizes[1] - sizes[0] < 2 * 8 * 2000 * (3 + 5)


# missing views, single views


def test_a_view_is_learnt_from_the_rows_that_have_it():
    views, codes = problem(60, gaps=True)
    here = views.present[:, 1]
    experts = RidgeExperts(random_state=0).fit(views, codes)
    alone = RidgeExperts(random_state=0).fit(views.take(np.flatnonzero(here)), codes[here])
    np.testing.assert_allclose(experts.members_[1].weights, alone.members_[1].weights, atol=1e-8)
    np.testing.assert_allclose(
        experts.train_logits_.views[here, 1], alone.train_logits_.views[:, 1], atol=1e-6
    )
    assert experts.train_logits_.present is not None


def test_missing_views_have_no_logit_and_change_no_other_row():
    views, codes = problem(60)
    experts = RidgeExperts(random_state=0).fit(views, codes)
    new, _ = problem(12, seed=1)
    gaps = new.replace({"v1": np.where(np.arange(12)[:, None] % 3 == 2, np.nan, new["v1"])})
    whole, part = experts.logits(new), experts.logits(gaps)
    missing = np.arange(12) % 3 == 2
    assert whole.present is None
    np.testing.assert_array_equal(part.present, gaps.present)
    assert (part.views[missing, 1] == 0).all()
    np.testing.assert_allclose(part.views[:, 0], whole.views[:, 0], atol=1e-9)
    for name in ("joint", "witness"):
        found, wanted = getattr(part, name)[~missing], getattr(whole, name)[~missing]
        np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(part.witness[missing, 1], 1 / CLASSES)
    np.testing.assert_allclose(part.witness[:, 0], whole.witness[:, 0], atol=1e-9)
    assert np.isfinite(part.joint).all()


def test_one_view_is_its_own_joint_member():
    views, codes = problem(40, (4,))
    experts = RidgeExperts(random_state=0).fit(views, codes)
    assert experts.members_[0] is experts.members_[1]
    for logits in (experts.train_logits_, experts.logits(views)):
        np.testing.assert_array_equal(logits.views[:, 0], logits.joint)
        assert logits.witness.shape == (40, 1, CLASSES)


def test_witnesses_are_class_shares_of_the_unbounded_scores():
    views, codes = problem(80)
    experts = RidgeExperts(random_state=0).fit(views, codes)
    new = problem(30, seed=1)[0].map(lambda name, x: 2 * x)
    found = experts.logits(new).witness
    for place, (lift, member) in enumerate(zip(experts.lifts_, experts.members_, strict=False)):
        features = lift(lift.columns.transform(new.arrays[place]))
        scores = features @ member.weights + member.intercept
        assert scores.max() > member.bound_
        wanted = softmax(member.raw_temperature_ * scores, axis=1)
        np.testing.assert_allclose(found[:, place], wanted, atol=1e-9)


def test_blocks_of_rows_change_nothing(monkeypatch):
    views, codes = problem(60, gaps=True)
    experts = RidgeExperts(random_state=0).fit(views, codes)
    whole = experts.logits(views)
    monkeypatch.setattr("rcml_misa.reading.plan.MOST", 7)
    part = experts.logits(views)
    for name in ("views", "joint", "witness"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name), atol=1e-9)


def test_opinions_of_the_classifier_are_calibrated_on_leave_one_out():
    views, codes = problem(120)
    model = RidgeExpertClassifier(random_state=0).fit(views, codes)
    own = model.predict_proba(views)
    assert softmax(model.experts_.train_logits_.joint, axis=1).shape == own.shape
    assert (model.stack_ >= 0).all()
    assert model.stack_.shape == (3,)
    assert RidgeExpertClassifier(random_state=0, stacking=False).fit(views, codes).stack_ is None
    new, truth = problem(120, seed=0)
    assert (model.predict(new) == truth).mean() > 0.8
