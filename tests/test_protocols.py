"""Splits, seeds and test copies, against their definitions row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.protocols import conflict_views, noise_views, scale_leaky, spawn_seeds, split_rows
from rcml_misa.protocols.corruptions import MinMaxSpace
from rcml_misa.views import MultiView

calm = settings(deadline=None, max_examples=40, derandomize=True)


def make(rows: int, widths: tuple[int, ...], seed: int = 0) -> MultiView:
    rng = np.random.default_rng(seed)
    return MultiView([10.0 * rng.random((rows, width)) - 3.0 for width in widths])


def ranges(array: np.ndarray, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = array[train].min(axis=0), array[train].max(axis=0)
    return low, high - low


@pytest.mark.parametrize(
    ("rows", "sizes"), [(680, (544, 136)), (10, (8, 2)), (1797, (1437, 360)), (2, (1, 1))]
)
def test_split_sizes(rows, sizes) -> None:
    train, test = split_rows(rows, rng=np.random.default_rng(0))
    assert (len(train), len(test)) == sizes


@calm
@given(rows=st.integers(2, 300), seed=st.integers(0, 99), share=st.floats(0.1, 0.5))
def test_split_is_a_disjoint_cover_and_repeats(rows, seed, share) -> None:
    train, test = split_rows(rows, rng=np.random.default_rng(seed), test_share=share)
    assert sorted([*train, *test]) == list(range(rows))
    assert len(test) == rows - int((1 - share) * rows + 1e-9)
    again = split_rows(rows, rng=np.random.default_rng(seed), test_share=share)
    np.testing.assert_array_equal(train, again[0])
    np.testing.assert_array_equal(test, again[1])


def test_split_refuses() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(OptionError, match="between 0 and 1"):
        split_rows(10, rng=rng, test_share=1.0)
    with pytest.raises(DataError, match="too few"):
        split_rows(1, rng=rng)


@calm
@given(
    rows=st.integers(10, 80),
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    classes=st.integers(2, 5),
    seed=st.integers(0, 99),
)
def test_conflict_copy_row_by_row(rows, widths, classes, seed) -> None:
    views = make(rows, tuple(widths), seed)
    target = np.random.default_rng(seed).permutation(np.arange(rows) % classes)
    originals = [array.copy() for array in views.arrays]
    train, test = split_rows(rows, rng=np.random.default_rng(seed))
    copy = conflict_views(
        views, target, train=train, test=test, rng=np.random.default_rng(seed + 1)
    )
    # counts
    n = len(test)
    assert copy.views.n_samples == n
    assert copy.views.names == views.names
    assert copy.noisy.sum() <= int(0.1 * n)
    assert copy.replaced.sum() == int(0.4 * n)
    # inputs
    for array, before in zip(views.arrays, originals, strict=True):
        np.testing.assert_array_equal(array, before)
    # every row
    for row in range(n):
        changed = [
            not np.allclose(copy.views.arrays[v][row], originals[v][test[row]], rtol=0, atol=1e-9)
            for v in range(len(widths))
        ]
        view = int(copy.replaced_view[row])
        if view >= 0:
            following = (target[test[row]] + 1) % classes
            donor = next(i for i in range(rows) if target[i] == following)
            low, span = ranges(originals[view], train)
            span = np.where(span > 0, span, 1.0)
            np.testing.assert_allclose(
                (copy.views.arrays[view][row] - low) / span,
                (originals[view][donor] - low) / span,
                atol=1e-9,
            )
            changed[view] = False
        if not copy.noisy[row]:
            assert not any(changed)
        # noise reaches 0 .. N-1 views
        assert sum(changed) <= len(widths) - 1


def test_noise_scale_is_half_the_train_range() -> None:
    rng = np.random.default_rng(3)
    train, test = np.arange(50), np.arange(50, 1050)
    # test rows far wider than the train rows, so that a space fitted on all rows would show
    wide = np.concatenate([rng.random((50, 300)), 100 * rng.random((1000, 300))])
    views = MultiView([wide, 7 * wide])
    copy = conflict_views(
        views,
        np.arange(1050) % 2,
        train=train,
        test=test,
        rng=np.random.default_rng(0),
        conflict_share=0.0,
    )
    assert copy.noisy.any()
    assert not copy.replaced.any()
    for view, array in enumerate(views.arrays):
        gap = (copy.views.arrays[view] - array[test]) / ranges(array, train)[1]
        touched = np.abs(gap).max(axis=1) > 1e-6
        assert 20 < touched.sum() < 80  # about half of the 100 rows' draws, one view of two
        assert gap[touched].std() == pytest.approx(0.5, rel=0.02)
        assert abs(gap[touched].mean()) < 0.02


def test_classes_wrap_around() -> None:
    views = MultiView([np.arange(30.0)[:, None]])
    target = np.arange(30) % 3
    train, test = np.arange(20), np.arange(20, 30)
    copy = conflict_views(
        views, target, train=train, test=test, rng=np.random.default_rng(0), conflict_share=1.0
    )
    # the first rows of classes 0, 1, 2 are rows 0, 1, 2
    expected = (target[test] + 1) % 3
    np.testing.assert_allclose(copy.views.arrays[0][:, 0], expected, atol=1e-9)


def test_one_view_gets_no_noise() -> None:
    views, target = make(100, (3,)), np.arange(100) % 2
    copy = conflict_views(
        views,
        target,
        train=np.arange(50),
        test=np.arange(50, 100),
        rng=np.random.default_rng(0),
        noise_share=1.0,
    )
    assert not copy.noisy.any()
    assert copy.replaced.sum() == 20


def test_a_class_without_rows_is_passed_over() -> None:
    views = MultiView([np.arange(20.0)[:, None]])
    target = np.array([0, 3] * 10)  # 1 and 2 have no rows
    copy = conflict_views(
        views,
        target,
        train=np.arange(10),
        test=np.arange(10, 20),
        rng=np.random.default_rng(0),
        conflict_share=1.0,
    )
    np.testing.assert_allclose(copy.views.arrays[0][:, 0], [1.0, 0.0] * 5, atol=1e-9)


def test_conflict_copy_repeats() -> None:
    views, target = make(60, (2, 3)), np.arange(60) % 4
    train, test = split_rows(60, rng=np.random.default_rng(0))
    one, two, other = (
        conflict_views(views, target, train=train, test=test, rng=np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.replaced_view, two.replaced_view)
    for a, b in zip(one.views.arrays, two.views.arrays, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.replaced_view, other.replaced_view)


def test_constant_train_column_survives() -> None:
    array = np.column_stack([np.full(20, 4.0), np.arange(20.0)])
    array[15, 0] = 9.0  # constant among the train rows only
    views = MultiView([array])
    space = MinMaxSpace.fit(views.take(np.arange(10)))
    inside = space.enter(views)
    assert np.isfinite(inside[0]).all()
    np.testing.assert_allclose(space.leave(inside, views).arrays[0], array, atol=1e-12)


@calm
@given(seed=st.integers(0, 99), rows=st.integers(1, 30))
def test_noise_rows_stay_within_train_ranges(seed, rows) -> None:
    views, train = make(40, (2, 5), seed), np.arange(10)
    noise = noise_views(views, train=train, rows=rows, rng=np.random.default_rng(seed))
    assert noise.n_samples == rows
    assert noise.names == views.names
    for array, made in zip(views.arrays, noise.arrays, strict=True):
        low, span = ranges(array, train)
        assert (made >= low - 1e-9).all()
        assert (made <= low + span + 1e-9).all()


def test_noise_rows_fill_the_train_ranges() -> None:
    views = MultiView([np.array([[2.0], [4.0], [100.0]])])
    noise = noise_views(views, train=np.arange(2), rows=4000, rng=np.random.default_rng(0))
    made = noise.arrays[0][:, 0]
    assert made.mean() == pytest.approx(3.0, abs=0.05)
    assert made.std() == pytest.approx(2 / np.sqrt(12), rel=0.05)


def test_leaky_scaling_uses_all_rows() -> None:
    views = make(30, (2, 3))
    part = np.arange(5, 12)
    scaled = scale_leaky(views.take(part), ranges_of=views)
    assert scaled.names == views.names
    for array, made in zip(views.arrays, scaled.arrays, strict=True):
        low, high = array.min(axis=0), array.max(axis=0)
        np.testing.assert_allclose(made, (array[part] - low) / (high - low), atol=1e-12)


def test_seeds_are_independent_and_repeat() -> None:
    def draws(seed: int) -> list[float]:
        seeds = spawn_seeds(seed)
        parts = (seeds.split, seeds.corruption, seeds.noise)
        return [*(float(np.random.default_rng(part).random()) for part in parts), seeds.model]

    assert draws(4) == draws(4)
    every = [value for seed in range(20) for value in draws(seed)]
    assert len(set(every)) == len(every)
