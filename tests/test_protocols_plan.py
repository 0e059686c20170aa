"""Splits of every kind, what is done to train rows, test sets by name, and the protocol."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.protocols import (
    Protocol,
    conflict_views,
    make_test_set,
    partition_rows,
    spawn_seeds,
    split_rows,
)
from rcml_misa.protocols.corruptions import (
    MinMaxSpace,
    drop_views,
    imbalanced_rows,
    noisy_labels,
    noisy_views,
    shuffled_rows,
)
from rcml_misa.protocols.evaluation_sets import conflict_rows, parse_test_set
from rcml_misa.protocols.splits import fold_rows, hold_back
from rcml_misa.views import MultiView, Sequences, TokenTexts

calm = settings(deadline=None, max_examples=30, derandomize=True)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def make(rows: int = 60, widths: tuple[int, ...] = (2, 3, 4), seed: int = 0) -> MultiView:
    chance = rng(seed)
    return MultiView([10 * chance.random((rows, width)) - 3 for width in widths])


# splits


@calm
@given(rows=st.integers(20, 120), classes=st.integers(2, 4), seed=st.integers(0, 99))
def test_stratified_parts_have_every_class_in_proportion(rows, classes, seed):
    target = rng(seed).permutation(np.arange(rows) % classes)
    train, test = split_rows(rows, rng=rng(seed), target=target)
    assert sorted([*train, *test]) == list(range(rows))
    assert len(test) == rows - int(0.8 * rows + 1e-9)
    for part in (train, test):
        counts = np.bincount(target[part], minlength=classes)
        assert counts.max() - counts.min() <= 2


@calm
@given(groups=st.integers(5, 20), seed=st.integers(0, 99))
def test_no_group_is_divided(groups, seed):
    owners = rng(seed).integers(groups, size=100)
    train, test = split_rows(100, rng=rng(seed), groups=owners)
    assert sorted([*train, *test]) == list(range(100))
    assert not set(owners[train]) & set(owners[test])


@pytest.mark.parametrize("kind", ["random", "stratified", "grouped"])
def test_folds_are_disjoint_and_cover_all(kind):
    target = np.arange(60) % 3
    how = {
        "random": {},
        "stratified": {"target": target},
        "grouped": {"groups": np.arange(60) // 4},
    }[kind]
    parts = [fold_rows(60, folds=5, fold=f, rng=rng(3), **how) for f in range(5)]
    assert sorted(row for _, test in parts for row in test) == list(range(60))
    for train, test in parts:
        assert sorted([*train, *test]) == list(range(60))
        if kind == "stratified":
            assert np.bincount(target[test]).tolist() == [4, 4, 4]
        if kind == "grouped":
            assert not set(train // 4) & set(test // 4)
    other = fold_rows(60, folds=5, fold=0, rng=rng(4), **how)[1]
    assert sorted(other) != sorted(parts[0][1])


def test_splits_that_cannot_be_made():
    with pytest.raises(DataError, match="can't be split stratified"):
        split_rows(10, rng=rng(), target=np.arange(10))
    with pytest.raises(DataError, match="can't be split grouped"):
        split_rows(10, rng=rng(), groups=np.zeros(10))
    with pytest.raises(
        DataError, match="5 stratified folds need 5 rows of every class but one has 2"
    ):
        fold_rows(20, folds=5, fold=0, rng=rng(), target=np.array([0] * 18 + [1] * 2))
    with pytest.raises(DataError, match="cut into 5 folds"):
        fold_rows(20, folds=5, fold=0, rng=rng(), groups=np.arange(20) // 10)


@calm
@given(share=st.floats(0.1, 0.5), seed=st.integers(0, 99))
def test_rows_held_back_keep_every_class_on_both_sides(share, seed):
    target = rng(seed).permutation(np.arange(80) % 4)
    train = rng(seed).permutation(80)[:60]
    kept, valid = hold_back(train, target, share=share, rng=rng(seed))
    assert sorted([*kept, *valid]) == sorted(train)
    for code in range(4):
        count = int((target[train] == code).sum())
        assert int((target[valid] == code).sum()) == min(round(share * count), count - 1)


def test_nothing_to_hold_back():
    with pytest.raises(DataError, match="larger valid_share"):
        hold_back(np.arange(6), np.arange(6) // 2, share=0.1, rng=rng())


# the protocol's parts


def test_default_partition_is_the_published_one():
    target = np.arange(100) % 5
    part = partition_rows(target, protocol=Protocol(), seed=7, run=3)
    train, test = split_rows(100, rng=np.random.default_rng(spawn_seeds(7).split))
    np.testing.assert_array_equal(part.train, train)
    np.testing.assert_array_equal(part.test, test)
    np.testing.assert_array_equal(part.codes, target[train])
    assert len(part.valid) == len(part.held_out) == 0


def test_k_fold_runs_partition_the_rows_and_repeat_with_new_ones():
    target = np.arange(60) % 3
    protocol = Protocol(folds=3, split="stratified")
    parts = [partition_rows(target, protocol=protocol, seed=10 + r, run=r) for r in range(6)]
    for first in (0, 3):
        tests = [parts[first + fold].test for fold in range(3)]
        assert sorted(row for test in tests for row in test) == list(range(60))
    assert sorted(parts[0].test) != sorted(parts[3].test)


def test_held_out_classes_are_neither_trained_on_nor_among_the_clean_rows():
    target = np.arange(100) % 5
    protocol = Protocol(held_out=2, valid_share=0.25)
    drawn = set()
    for seed in range(6):
        part = partition_rows(target, protocol=protocol, seed=seed)
        unknown = set(target[part.held_out])
        drawn.add(tuple(sorted(unknown)))
        assert len(unknown) == 2
        for rows in (part.train, part.valid, part.test):
            assert not set(target[rows]) & unknown
        whole = split_rows(100, rng=np.random.default_rng(spawn_seeds(seed).split))[1]
        assert sorted([*part.test, *part.held_out]) == sorted(whole)
    assert len(drawn) > 1
    with pytest.raises(DataError, match="held_out=4 of 5 classes"):
        partition_rows(target, protocol=Protocol(held_out=4), seed=0)


def test_label_noise_touches_train_labels_alone():
    target = np.arange(100) % 4
    part = partition_rows(target, protocol=Protocol(label_noise=0.25, valid_share=0.2), seed=0)
    assert int((part.codes != target[part.train]).sum()) == round(0.25 * len(part.train))
    plain = partition_rows(target, protocol=Protocol(valid_share=0.2), seed=0)
    np.testing.assert_array_equal(part.train, plain.train)
    np.testing.assert_array_equal(part.valid, plain.valid)
    np.testing.assert_array_equal(part.test, plain.test)


@calm
@given(share=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_noisy_labels_are_other_classes(share, seed):
    codes = rng(seed).choice([0, 2, 5], size=50)
    noisy = noisy_labels(codes, share=share, classes=np.array([0, 2, 5]), rng=rng(seed))
    assert int((noisy != codes).sum()) == round(share * 50)
    assert set(noisy) <= {0, 2, 5}


@calm
@given(ratio=st.floats(0.02, 1.0), classes=st.integers(2, 6), seed=st.integers(0, 99))
def test_imbalance_falls_exponentially(ratio, classes, seed):
    target = np.repeat(np.arange(classes), 40)
    kept = imbalanced_rows(np.arange(len(target)), target, ratio=ratio, rng=rng(seed))
    found = sorted(np.bincount(target[kept], minlength=classes), reverse=True)
    wanted = [max(1, round(40 * ratio ** (c / (classes - 1)))) for c in range(classes)]
    assert [int(count) for count in found] == wanted
    assert len(set(kept)) == len(kept)


def test_given_and_grouped_splits_need_what_they_name():
    target = np.arange(20) % 2
    folds = {"train": np.arange(10), "valid": np.arange(10, 14), "test": np.arange(14, 20)}
    part = partition_rows(target, protocol=Protocol(split="given"), seed=0, folds=folds)
    assert part.train.tolist() == list(range(10))
    assert part.valid.tolist() == [10, 11, 12, 13]
    assert part.test.tolist() == list(range(14, 20))
    with pytest.raises(DataError, match="no folds of its own"):
        partition_rows(target, protocol=Protocol(split="given"), seed=0)
    with pytest.raises(DataError, match="no groups"):
        partition_rows(target, protocol=Protocol(split="grouped"), seed=0)
    bad = {"train": np.arange(10), "test": np.arange(9, 20)}
    with pytest.raises(DataError, match="share rows"):
        partition_rows(target, protocol=Protocol(split="given"), seed=0, folds=bad)
    last = {name: folds[name] for name in ("train", "test")}
    chosen = Protocol(split="given", selection="best-valid")
    with pytest.raises(DataError, match="no validation rows"):
        partition_rows(target, protocol=chosen, seed=0, folds=last)
    assert len(partition_rows(target, protocol=chosen, seed=0, folds=folds).valid) == 4


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"split": "stratifed"}, "split='stratifed'.*stratified"),
        ({"selection": "best"}, "selection='best'"),
        ({"folds": 1}, "folds=1"),
        ({"test_share": 0.0}, "test_share=0.0"),
        ({"valid_share": 1.0}, "valid_share=1.0"),
        ({"label_noise": -0.1}, "label_noise=-0.1"),
        ({"imbalance": 0.0}, "imbalance=0.0"),
        ({"held_out": -1}, "held_out=-1"),
        ({"checkpoints": (0,)}, "checkpoints"),
        ({"split": "given", "folds": 5}, "own folds"),
        ({"selection": "best-valid"}, "needs validation rows"),
        ({"test_sets": ("claen",)}, "no test set 'claen'.*clean"),
    ],
)
def test_protocols_that_cannot_be(options, match):
    with pytest.raises(OptionError, match=match):
        Protocol(**options)


def test_protocol_is_told_in_words_and_keeps_names_in_one_form():
    protocol = Protocol(
        test_sets=("noise:0.50", "conflict", "noise:0.5"), selection="best-test-epoch"
    )
    assert protocol.test_sets == ("clean", "noise:0.5", "conflict")
    assert protocol.leaky
    assert not Protocol().leaky
    assert "no estimate" in protocol.describe()
    assert Protocol().describe() == "random 80/20 splits, last epoch"
    words = Protocol(
        valid_share=0.1, selection="best-valid", imbalance=0.1, held_out=2, label_noise=0.2
    ).describe()
    for part in ("held back", "20 % of the train labels", "down to 0.1", "2 classes"):
        assert part in words
    assert Protocol(split="given").describe().startswith("the data set's own split")


# test sets


@pytest.mark.parametrize(
    ("text", "name", "amount"),
    [
        ("clean", "clean", None),
        ("conflict", "conflict", None),
        ("conflict:0.25", "conflict:0.25", 0.25),
        ("conflict:1:any", "conflict:1:any", 1.0),
        ("conflict:1.0:test", "conflict:1", 1.0),
        ("noise:2", "noise:2", 2.0),
        ("missing:0.5", "missing:0.5", 0.5),
        ("shuffle:0.40", "shuffle:0.4", 0.4),
        ("shuffle:1", "shuffle:1", 1.0),
    ],
)
def test_names_of_test_sets(text, name, amount):
    found = parse_test_set(text)
    assert (found.name, found.amount) == (name, amount)
    assert parse_test_set(found.name) == found


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("noise", "no test set 'noise'"),
        ("noise:x", "has no number; write noise:SIGMA"),
        ("noise:-1", "not 0 or more"),
        ("noise:inf", "not 0 or more"),
        ("noise:nan", "not 0 or more"),
        ("conflict:1.5", r"not in \[0, 1\]"),
        ("conflict:0.5:trian", "train"),
        ("conflict:0.5:train:x", "no test set"),
        ("missing:1", r"not in \[0, 1\)"),
        ("clean:0.5", "no test set"),
        ("shuffle", "no test set 'shuffle'.*shuffle:RATE"),
        ("shuffle:1.1", r"not in \[0, 1\]"),
        ("shuffle:0.5:train", "no test set"),
    ],
)
def test_names_that_are_none(text, match):
    with pytest.raises(OptionError, match=match):
        parse_test_set(text)


@calm
@given(
    share=st.floats(0, 1),
    donors=st.sampled_from(["train", "test", "any"]),
    classes=st.integers(2, 4),
    seed=st.integers(0, 99),
)
def test_conflict_row_by_row(share, donors, classes, seed):
    views, target = make(40, seed=seed), rng(seed).permutation(np.arange(40) % classes)
    train, test = np.arange(24), np.arange(24, 40)
    copy = conflict_rows(
        views, target, train=train, test=test, rng=rng(seed), share=share, donors=donors
    )
    assert int(copy.replaced.sum()) == round(share * 16)
    assert not copy.noisy.any()
    pool = {"train": set(train), "test": set(test), "any": set(range(40))}[donors]
    for row in range(16):
        for view, array in enumerate(views.arrays):
            source = test[row]
            if copy.replaced_view[row] == view:
                source = copy.donor[row]
                assert source in pool
                assert target[source] != target[test[row]]
            np.testing.assert_array_equal(copy.views.arrays[view][row], array[source])
    np.testing.assert_array_equal(copy.copied_from(train), np.isin(copy.donor, train))


def test_conflict_needs_two_classes_among_its_donors():
    views, target = make(20), np.array([0] * 10 + [1] * 5 + [0] * 5)
    parts = {"train": np.arange(10), "test": np.arange(15, 20)}
    with pytest.raises(DataError, match=r"no train row with view .* is of another class"):
        conflict_rows(views, target, **parts, rng=rng(), share=1.0, donors="train")
    with pytest.raises(OptionError, match="donors='all'"):
        conflict_rows(views, target, **parts, rng=rng(), share=1.0, donors="all")


def test_donors_have_the_view_that_they_give():
    arrays = [array.copy() for array in make(60).arrays]
    for view, array in enumerate(arrays):
        array[view::4] = np.nan
    views, target = MultiView(arrays), np.arange(60) % 3
    train, test = np.arange(40), np.arange(40, 60)
    copies = [
        conflict_rows(views, target, train=train, test=test, rng=rng(), share=1.0, donors="any"),
        conflict_views(
            views, target, train=train, test=test, rng=rng(), noise_share=0, conflict_share=1
        ),
    ]
    for copy in copies:
        assert copy.replaced.all()
        assert views.present[copy.donor, copy.replaced_view].all()
        assert (target[copy.donor] != target[test]).all()
        for row, view in enumerate(copy.replaced_view):
            donated = views.arrays[view][copy.donor[row]]
            np.testing.assert_allclose(copy.views.arrays[view][row], donated)


def test_published_copy_knows_its_donors():
    views, target = make(100), np.arange(100) % 4
    train, test = split_rows(100, rng=rng(5))
    copy = conflict_views(views, target, train=train, test=test, rng=rng(6), noise_share=0.0)
    for row in np.flatnonzero(copy.replaced):
        donor = int(copy.donor[row])
        assert donor == (target[test[row]] + 1) % 4  # the first row of the next class
        view = copy.replaced_view[row]
        np.testing.assert_allclose(copy.views.arrays[view][row], views.arrays[view][donor])
    assert (copy.donor[~copy.replaced] == -1).all()
    np.testing.assert_array_equal(copy.copied_from(train), np.isin(copy.donor, train))


def test_noise_reaches_half_of_the_views_of_every_row():
    views = make(1020, (30, 40, 50))
    train, test = np.arange(20), np.arange(20, 1020)
    noisy = noisy_views(views, train=train, test=test, rng=rng(), sigma=0.3)
    space = MinMaxSpace.fit(views.take(train))
    touched, values = [], []
    for before, after in zip(space.enter(views.take(test)), space.enter(noisy), strict=True):
        gap = after - before
        changed = np.abs(gap).max(axis=1) > 1e-9
        touched.append(changed)
        values.append(gap[changed].ravel())
    assert (np.sum(touched, axis=0) == 2).all()  # of three views
    every = np.concatenate(values)
    assert stats.kstest(every / 0.3, "norm").pvalue > 0.001
    assert len({int(one.sum()) for one in touched}) > 1


def test_dropped_views_are_wholly_missing_and_one_always_stays():
    views = make(400)
    some, missing = drop_views(views, test=np.arange(100, 400), rng=rng(), rate=0.4)
    assert not missing.all(axis=1).any()
    assert missing.mean() == pytest.approx(0.4 - 0.4**3 / 3, abs=0.03)
    np.testing.assert_array_equal(some.present, ~missing)
    for view, array in enumerate(some.arrays):
        there = ~missing[:, view]
        np.testing.assert_array_equal(array[there], views.arrays[view][100:][there])


def test_rows_that_lack_views_already_keep_one_too():
    arrays = [array.copy() for array in make(300).arrays]
    arrays[0][:] = np.nan
    arrays[1][::2] = np.nan
    views = MultiView(arrays)
    some, missing = drop_views(views, test=np.arange(300), rng=rng(), rate=0.9)
    assert some.present.any(axis=1).all()
    assert not (missing & ~views.present).any()


@calm
@given(
    rows=st.integers(1, 60),
    views=st.integers(1, 5),
    rate=st.floats(0, 1),
    gaps=st.booleans(),
    seed=st.integers(0, 99),
)
def test_shuffled_rows_exchange_at_most_half_of_their_views(rows, views, rate, gaps, seed):
    present = rng(seed).random((rows, views)) < (0.6 if gaps else 2)
    sources = shuffled_rows(present, rate=rate, rng=rng(seed))
    own = np.arange(rows)
    for view in range(views):  # nothing is lost and nothing is doubled
        assert sorted(sources[:, view]) == own.tolist()
    moved = sources != own[:, None]
    assert (moved.sum(axis=1) <= views // 2).all()
    assert moved.any(axis=1).sum() <= int(rate * rows)
    assert not (moved & ~present).any()
    # what comes is a view, so that no row loses one
    np.testing.assert_array_equal(np.take_along_axis(present, sources, axis=0), present)


def test_shuffled_rows_are_drawn_alike():
    sources = shuffled_rows(np.ones((9000, 3), dtype=bool), rate=0.5, rng=rng())
    moved = sources != np.arange(9000)[:, None]
    assert moved.sum(axis=1).max() == 1  # of three views two stay
    assert moved.any(axis=1).sum() == pytest.approx(4500, abs=10)  # hardly any gets its own back
    assert stats.chisquare(moved.sum(axis=0)).pvalue > 0.001
    for rows in (np.flatnonzero(moved.any(axis=1)), sources[moved]):
        assert stats.kstest(rows / 9000, "uniform").pvalue > 0.001
    assert abs(stats.spearmanr(np.nonzero(moved)[0], sources[moved]).statistic) < 0.05
    # rows that move one view do not move together
    two = shuffled_rows(np.ones((4000, 4), dtype=bool), rate=1, rng=rng())
    pairs = two[(two != np.arange(4000)[:, None]).sum(axis=1) == 2]
    donors = [{int(donor) for donor in np.unique(row)} for row in pairs[:200]]
    assert min(len(each) for each in donors) >= 2
    assert sum(len(each) == 3 for each in donors) > 190


def _every_kind(rows: int) -> MultiView:
    chance = rng(3)
    return MultiView(
        {
            "table": np.arange(rows)[:, None] + np.zeros(2),
            "sparse": sp.csr_array(1.0 + np.arange(rows)[:, None]),
            "steps": Sequences(np.arange(rows)[:, None, None] + np.zeros((3, 2))),
            "words": TokenTexts(
                [f"row {row}" for row in range(rows)], [[1, row, 2] for row in range(rows)]
            ),
            "gaps": np.where(chance.random((rows, 1)) < 0.3, np.nan, np.arange(rows)[:, None]),
        }
    )


def _numbers(views: MultiView) -> np.ndarray:
    """Tell from each view's content which row it came from; -1 where it is missing."""
    return np.column_stack(
        [
            views["table"][:, 0],
            views["sparse"].toarray()[:, 0] - 1,
            views["steps"].values[:, 0, 0],
            [int(text.split()[1]) for text in views["words"]],
            np.nan_to_num(views["gaps"][:, 0], nan=-1),
        ]
    ).astype(int)


@pytest.mark.parametrize("scores", [False, True])
def test_shuffled_views_of_every_kind(scores):
    rows, views = 100, _every_kind(100)
    target = rng().random(rows) if scores else np.arange(rows) % 4
    part = partition_rows(target, protocol=Protocol(test_share=0.4), seed=1)

    def made(name):
        return make_test_set(name, views, target, part=part, seeds=spawn_seeds(1))

    clean, some, every = _numbers(made("clean").views), made("shuffle:0.5"), made("shuffle:1")
    for test_set, least, most in ((some, 10, 20), (every, 30, 40)):
        numbers = _numbers(test_set.views)
        np.testing.assert_array_equal(np.sort(numbers, axis=0), np.sort(clean, axis=0))
        moved = numbers != clean
        np.testing.assert_array_equal(test_set.altered, moved.any(axis=1))
        assert least <= test_set.altered.sum() <= most
        assert (moved.sum(axis=1) <= 2).all()  # ceil(5/2) stay
        assert moved.any(axis=0).all()
        np.testing.assert_array_equal(test_set.views.present, made("clean").views.present)
        assert test_set.copied is None
        np.testing.assert_array_equal(_numbers(made(test_set.name).views), numbers)
    nothing = made("shuffle:0")
    np.testing.assert_array_equal(_numbers(nothing.views), clean)
    assert not nothing.altered.any()


def test_each_test_set_is_the_same_whichever_others_are_made():
    views, target = make(50), np.arange(50) % 2
    names = ("clean", "conflict", "conflict:0.5", "conflict:0.5:train", "noise:0.5", "noise:1")
    names += ("shuffle:0.5", "shuffle:1")
    part = partition_rows(target, protocol=Protocol(), seed=1)
    once = {
        name: make_test_set(name, views, target, part=part, seeds=spawn_seeds(1)) for name in names
    }
    for name in reversed(names):
        again = make_test_set(name, views, target, part=part, seeds=spawn_seeds(1))
        np.testing.assert_array_equal(again.views.to_array(), once[name].views.to_array())
    np.testing.assert_array_equal(once["clean"].views.to_array(), views.take(part.test).to_array())
    assert once["clean"].altered is None
    assert once["noise:1"].altered.all()
    assert once["conflict:0.5:train"].copied.sum() == 5
    assert not once["conflict:0.5"].copied.any()
    other = make_test_set("noise:1", views, target, part=part, seeds=spawn_seeds(2))
    assert not np.allclose(other.views.to_array(), once["noise:1"].views.to_array())
    # the published copy keeps the draws that it always had
    train, test = part.train, part.test
    chance = np.random.default_rng(spawn_seeds(1).corruption)
    copy = conflict_views(views, target, train=train, test=test, rng=chance)
    np.testing.assert_array_equal(once["conflict"].views.to_array(), copy.views.to_array())
