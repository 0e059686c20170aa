"""Gaussians of rows, the odds that a view does not belong, and the fusion that rests on them."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax, logsumexp, softmax
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from rcml_misa.estimators import (
    KernelExpertClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)
from rcml_misa.estimators.answering import plain_standing
from rcml_misa.estimators.pooling import LITTLE, Fusion, view_worth
from rcml_misa.experts import components, membership
from rcml_misa.experts.components import WhiteColumns
from rcml_misa.experts.gaussians import PSEUDO, RowGaussians, ViewGaussians
from rcml_misa.experts.logits import ExpertLogits
from rcml_misa.experts.membership import Distances, Membership, Standing
from rcml_misa.nn.tokens import shares_to_evidence
from rcml_misa.opinions import agreement, mean_mass, mixture_shares
from rcml_misa.opinions import membership as agreed_membership
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import MultiView

CLASSES = 3

# components of views


def mapped_view(rows, columns, *, seed=0, rank=None):
    """Rows of correlated columns, and the map of a view that leaves columns as they are."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(rows, rank or columns)) @ rng.normal(size=(rank or columns, columns))
    return values, FeatureMap.fit(values, scaling="standard", features="plain")


@pytest.mark.parametrize(("rows", "columns"), [(200, 5), (200, 60), (40, 5), (40, 60)])
def test_components_have_variance_one_and_leave_the_rest(rows, columns):
    values, mapping = mapped_view(rows, columns)
    white = WhiteColumns.fit(mapping, values)
    parts, left = white(values)
    width = min(columns, components.WIDTH, rows // 4)
    assert parts.shape == (rows, width)
    np.testing.assert_allclose(parts.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(parts.T), np.eye(width), atol=1e-6)
    # what is left is the part outside of the components' plane, over the root of all variance
    centred = np.clip(mapping.transform(values), -components.EDGE, components.EDGE)
    centred = centred - centred.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    outside = centred - centred @ axes[:width].T @ axes[:width]
    size = np.sqrt(centred.var(axis=0).sum())
    np.testing.assert_allclose(left, np.linalg.norm(outside, axis=1) / size, atol=1e-5)
    assert left.max() < 1e-5 if columns <= width else left.min() > 1e-3


@pytest.mark.parametrize(("rows", "columns"), [(200, 5), (200, 60), (40, 60), (70, 60)])
def test_components_beside_a_fold_are_those_of_the_other_rows(rows, columns):
    values, mapping = mapped_view(rows, columns)
    values[::7] = np.nan
    fold = np.arange(1, rows, 5)
    sums = components.ViewSums.of(mapping, values)
    for without in (fold, None):
        others = values if without is None else np.delete(values, without, axis=0)
        cut = np.clip(mapping.transform(others[~np.isnan(others[:, 0])]), -10, 10)
        pca = PCA(min(columns, components.WIDTH, len(cut) // 4), svd_solver="full").fit(cut)
        white = sums.white(without)
        np.testing.assert_allclose(white.centre, pca.mean_, atol=1e-12)
        np.testing.assert_allclose(white.deviations**2, pca.explained_variance_, rtol=1e-9)
        axes = (white.components * white.deviations).T
        np.testing.assert_allclose(abs(axes), abs(pca.components_), atol=1e-6)
        np.testing.assert_allclose(white.size**2, cut.var(axis=0).sum())
        again = white.part(sums.columns)
        for part, wanted in zip(again, white(values), strict=True):
            np.testing.assert_array_equal(part, wanted)


def test_rows_off_the_plane_of_the_train_rows_are_told():
    values, mapping = mapped_view(200, 40, rank=3)
    white = WhiteColumns.fit(mapping, values)
    assert white(values)[1].max() < 1e-4
    rng = np.random.default_rng(1)
    off = values + 0.5 * values.std(axis=0) * rng.normal(size=values.shape)
    assert np.median(white(off)[1]) > 0.2


def test_a_missing_view_has_no_components_and_does_not_move_them():
    values, mapping = mapped_view(80, 5)
    gaps = np.concatenate([values, np.full((20, 5), np.nan)])
    white, whole = (WhiteColumns.fit(mapping, rows) for rows in (gaps, values))
    np.testing.assert_allclose(white.components, whole.components)
    parts, _ = white(gaps)
    assert (parts[80:] == 0).all()
    np.testing.assert_allclose(parts[:80], whole(values)[0])


def test_what_is_cut_off_a_far_cell_is_off_the_plane():
    values, mapping = mapped_view(300, 50)
    white = WhiteColumns.fit(mapping, values)
    far = values.copy()
    far[:, 7] = 1e6 * values[:, 7].std()
    near = np.sort(white(values)[1])
    assert white(far)[1].min() > near[-1] + 5


# Gaussians of all views


def gaussian_rows(rows=60, widths=(2, 3, 1), *, gaps=False, seed=0):
    """Components of views with a common covariance, class numbers, presence and class shares."""
    rng = np.random.default_rng(seed)
    total = sum(widths)
    codes = np.arange(rows) % CLASSES
    mixing = rng.normal(size=(total, total))
    values = 2 * rng.normal(size=(CLASSES, total))[codes] + rng.normal(size=(rows, total)) @ mixing
    present = np.ones((rows, len(widths)), dtype=bool)
    if gaps:
        present = rng.random((rows, len(widths))) < 0.7
        present[:20] = True
    values[~np.repeat(present, widths, axis=1)] = 0
    parts = np.split(values, np.cumsum(widths)[:-1], axis=1)
    others = rng.dirichlet(np.ones(CLASSES), size=(rows, len(widths)))
    return parts, codes, present, others


def log_density(value, mean, covariance):
    return multivariate_normal(mean, covariance).logpdf(value)


def conditional(covariance, own, rest, means, value):
    """Means (K, m) and covariance of some columns given the value of others."""
    gain = covariance[np.ix_(own, rest)] @ np.linalg.inv(covariance[np.ix_(rest, rest)])
    moved = means[:, own] + (value[rest] - means[:, rest]) @ gain.T
    return moved, covariance[np.ix_(own, own)] - gain @ covariance[np.ix_(rest, own)]


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("widths", [(2, 3, 1), (4, 2), (3,)])
def test_ratios_and_distances_are_those_of_the_densities(widths, gaps):
    parts, codes, present, others = gaussian_rows(widths=widths, gaps=gaps)
    model = ViewGaussians.fit(parts, codes, present, CLASSES)
    ratio, distance = model(parts, np.log(others), present)
    values = np.concatenate(parts, axis=1)
    columns = np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])
    for row, view in np.ndindex(present.shape):
        if not present[row, view]:
            assert ratio[row, view] == distance[row, view] == 0
            continue
        own = columns[view]
        block = model.covariance[np.ix_(own, own)]
        alone = [log_density(values[row, own], mean[own], block) for mean in model.means]
        by_itself = logsumexp(alone, b=np.bincount(codes) / len(codes))
        rest = [columns[v] for v in range(len(widths)) if v != view and present[row, v]]
        means, given_rest = model.means[:, own], block
        if rest:
            joined = np.concatenate(rest)
            means, given_rest = conditional(model.covariance, own, joined, model.means, values[row])
        told = [log_density(values[row, own], mean, given_rest) for mean in means]
        wanted = by_itself - logsumexp(told, b=others[row, view])
        np.testing.assert_allclose(ratio[row, view], wanted, rtol=1e-7, atol=1e-7)
        inverse = np.linalg.inv(block)
        gaps_to = values[row, own] - model.means[:, own]
        squares = [gap @ inverse @ gap for gap in gaps_to]
        np.testing.assert_allclose(distance[row, view], min(squares), rtol=1e-7, atol=1e-9)


def test_class_means_are_pulled_and_deviations_leave_the_row_out():
    parts, codes, present, _ = gaussian_rows(rows=12)
    model = ViewGaussians.fit(parts, codes, present, CLASSES)
    values = np.concatenate(parts, axis=1)
    deviations = np.empty_like(values)
    for row, code in enumerate(codes):
        same = [other for other in range(12) if codes[other] == code and other != row]
        deviations[row] = values[row] - values[same].sum(axis=0) / (len(same) + PSEUDO)
    for code in range(CLASSES):
        own = values[codes == code]
        np.testing.assert_allclose(model.means[code], own.sum(axis=0) / (len(own) + PSEUDO))
    wanted = LedoitWolf(assume_centered=True).fit(deviations).covariance_
    np.testing.assert_allclose(model.covariance, wanted, rtol=1e-4, atol=1e-4)
    assert (np.diag(model.covariance) > np.diag(wanted)).all()
    np.testing.assert_allclose(model.prior, 1 / 3)
    assert model.widths == (2, 3, 1)


def test_missing_rows_do_not_move_the_class_means():
    parts, codes, present, _ = gaussian_rows(rows=60, gaps=True)
    model = ViewGaussians.fit(parts, codes, present, CLASSES)
    starts = np.cumsum([0, 2, 3, 1])
    for view, part in enumerate(parts):
        for code in range(CLASSES):
            own = part[(codes == code) & present[:, view]]
            wanted = own.sum(axis=0) / (len(own) + PSEUDO)
            found = model.means[code, starts[view] : starts[view + 1]]
            np.testing.assert_allclose(found, wanted)


# membership


def factor_rows(rows, *, seed, codes=None, widths=(4, 5, 3), strength=2.0):
    """Three Gaussian views with a common factor beside the class, and the views' class shares.

    The shares are those of the true model, and so are new to every row.
    """
    fixed = np.random.default_rng(7)
    means = [fixed.normal(size=(CLASSES, width)) for width in widths]
    loads = [strength * fixed.normal(size=(2, width)) for width in widths]
    rng = np.random.default_rng(seed)
    codes = rng.integers(CLASSES, size=rows) if codes is None else codes
    factor = rng.normal(size=(rows, 2))
    views = MultiView(
        {
            f"v{place}": mean[codes] + factor @ load + rng.normal(size=(rows, mean.shape[1]))
            for place, (mean, load) in enumerate(zip(means, loads, strict=True))
        }
    )

    def ask(asked):
        shares = []
        for array, mean, load in zip(asked.arrays, means, loads, strict=True):
            covariance = load.T @ load + np.eye(mean.shape[1])
            logs = [log_density(np.nan_to_num(array), centre, covariance) for centre in mean]
            own = softmax(np.stack(logs, axis=1), axis=1)
            own[np.isnan(array[:, 0])] = 1 / CLASSES
            shares.append(own)
        return np.stack(shares, axis=1)

    return views, codes, ask


def fitted_membership(views, codes, ask, seed=0):
    return Membership().fit(views, codes, ask(views), ask=ask, rng=np.random.default_rng(seed))


@pytest.fixture(scope="module")
def learnt():
    views, codes, ask = factor_rows(400, seed=0)
    return fitted_membership(views, codes, ask), ask


def swapped(views, view, rows, rng):
    """Put another row's view into some rows, of any class."""
    name = views.names[view]
    table = views[name].copy()
    table[rows] = views[name][rng.permutation(len(table))[: len(rows)]]
    return views.replace({name: table})


@pytest.mark.parametrize("view", [0, 1, 2])
def test_a_swapped_view_is_told_by_more_than_its_class(learnt, view):
    model, ask = learnt
    rng = np.random.default_rng(view)
    views, _, _ = factor_rows(600, seed=1)
    bogus = rng.permutation(600)[:300]
    mixed = swapped(views, view, bogus, rng)
    truth = np.isin(np.arange(600), bogus)
    found = model(mixed, ask(mixed)).posterior
    by_class = agreed_membership(torch.from_numpy(ask(mixed)))[0].numpy()
    score, plain = (roc_auc_score(truth, 1 - part[:, 0]) for part in (found, by_class))
    assert score > 0.84
    assert score > plain + 0.15
    sure = truth & (found[:, 0] < 0.5)
    assert sure.sum() > 100
    assert (found[sure, 1:].argmax(axis=1) == view).mean() > 0.85


@pytest.mark.parametrize("view", [0, 1, 2])
@pytest.mark.parametrize("shift", ["one way", "any way"])
def test_a_view_that_is_far_from_all_train_rows_is_named(learnt, view, shift):
    model, ask = learnt
    views, _, _ = factor_rows(400, seed=2)
    name = views.names[view]
    table = views[name]
    signs = np.random.default_rng(3).choice([-1, 1], size=table.shape)
    signs = np.ones_like(signs) if shift == "one way" else signs
    far = views.replace({name: table + 5 * signs * table.std(axis=0)})
    found = model(far, ask(far))
    named = found.posterior.argmax(axis=1) == view + 1
    assert named.mean() >= 0.99
    assert np.median(found.familiarity[:, view]) < 0.01
    clean = model(views, ask(views))
    assert np.median(clean.familiarity) == 1
    assert clean.familiarity.mean() > 0.9
    rest = np.arange(3) != view
    np.testing.assert_array_equal(found.familiarity[:, rest], clean.familiarity[:, rest])


def test_posteriors_of_clean_rows_are_near_the_prior_or_above(learnt):
    model, ask = learnt
    views, _, _ = factor_rows(600, seed=4)
    standing = model(views, ask(views))
    np.testing.assert_allclose(standing.posterior.sum(axis=1), 1)
    assert (standing.posterior >= 0).all()
    assert standing.posterior[:, 0].mean() > 0.8
    assert ((standing.familiarity >= 0) & (standing.familiarity <= 1)).all()
    # the train rows, as if they were new, look like new rows
    train = model.train_standing_
    assert abs(train.posterior[:, 0].mean() - standing.posterior[:, 0].mean()) < 0.05
    assert abs(train.familiarity.mean() - standing.familiarity.mean()) < 0.05


def test_the_standing_of_rows_does_not_depend_on_the_others(learnt):
    model, ask = learnt
    views, _, _ = factor_rows(50, seed=5)
    whole = model(views, ask(views))
    some = np.array([7, 3, 40])
    part = model(views.take(some), ask(views.take(some)))
    for found, wanted in zip(part, whole.take(some), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_missing_view_has_no_part_in_the_posterior(learnt):
    model, ask = learnt
    views, _, _ = factor_rows(60, seed=6)
    table = views["v1"].copy()
    table[::2] = np.nan
    gaps = views.replace({"v1": table})
    found, whole = model(gaps, ask(gaps)), model(views, ask(views))
    assert (found.posterior[::2, 2] == 0).all()
    assert (found.familiarity[::2, 1] == 0).all()
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1)
    for part, other in zip(found, whole, strict=True):
        np.testing.assert_allclose(part[1::2], other[1::2], rtol=1e-9, atol=1e-12)
    alone = gaps.replace({"v2": np.full_like(views["v2"], np.nan)})
    lone = model(alone, ask(alone))
    np.testing.assert_array_equal(lone.posterior[::2], [[1.0, 0.0, 0.0, 0.0]] * 30)
    assert (lone.posterior[1::2, 1:3] > 0).all()


def test_one_view_is_never_suspected():
    views, codes, ask = factor_rows(60, seed=0, widths=(4,))
    model = fitted_membership(views, codes, ask)
    far = views.map(lambda name, table: 100 + table)
    for rows in (views, far):
        standing = model(rows, ask(rows))
        np.testing.assert_array_equal(standing.posterior, [[1.0, 0.0]] * 60)
    assert model(far, ask(far)).familiarity.max() < 0.01
    np.testing.assert_array_equal(model.train_standing_.posterior, [[1.0, 0.0]] * 60)
    plain = plain_standing(ask(views), views.present)
    np.testing.assert_array_equal(plain.posterior, [[1.0, 0.0]] * 60)


@given(order=st.permutations(range(3)), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=4, derandomize=True)
def test_the_order_of_the_views_changes_nothing_but_the_draws(order, seed):
    views, codes, ask = factor_rows(60, seed=seed)
    model = fitted_membership(views, codes, ask)
    names = [views.names[place] for place in order]
    new, _, _ = factor_rows(40, seed=100 + seed)
    shares = ask(new)
    moved = RowGaussians(
        tuple(tuple(reading[place] for place in order) for reading in model.gaussians_.columns),
        tuple(_reordered(one, order) for one in model.gaussians_.gaussians),
    )
    other = Membership()
    other.gaussians_, other.coefficients_ = moved, model.coefficients_
    scale = model.distances_
    other.distances_ = Distances(scale.median[:, order], scale.upper[:, order])
    turned = MultiView({name: new[name] for name in names})
    found, wanted = other(turned, shares[:, order]), model(new, shares)
    np.testing.assert_allclose(found.posterior[:, 0], wanted.posterior[:, 0], atol=1e-9)
    np.testing.assert_allclose(found.posterior[:, 1:], wanted.posterior[:, 1:][:, order], atol=1e-9)
    np.testing.assert_allclose(found.familiarity, wanted.familiarity[:, order], atol=1e-9)
    # Gaussians that are fitted to the views in that order are the same
    fitted = RowGaussians.fit(
        [[columns.map for columns in reading] for reading in moved.columns],
        MultiView({name: views[name] for name in names}),
        codes,
        CLASSES,
    )
    for mine, theirs in zip(fitted.gaussians, moved.gaussians, strict=True):
        values = [abs(np.linalg.eigvalsh(one.covariance)) for one in (mine, theirs)]
        np.testing.assert_allclose(*values, rtol=1e-6)


def _reordered(model, order):
    columns = np.split(np.arange(sum(model.widths)), np.cumsum(model.widths)[:-1])
    new = np.concatenate([columns[place] for place in order])
    return ViewGaussians(
        model.means[:, new],
        model.covariance[np.ix_(new, new)],
        tuple(model.widths[place] for place in order),
        model.prior,
    )


def test_odds_are_those_of_two_ways_not_to_belong(learnt):
    fitted, ask = learnt
    model = copy(fitted)
    model.coefficients_ = np.array([-2.0, 0.8, 0.6, 0.3, -7.0, 2.5])
    views, _, _ = factor_rows(40, seed=8)
    shares = ask(views)
    agreed, others = agreement(torch.from_numpy(shares))
    parts = model.gaussians_.parts(views)
    ratios, distances = model.gaussians_(parts, others.log().numpy(), views.present)
    assert ratios.shape == (2, 40, 3)
    assert distances.shape == (4, 40, 3)
    scale = model.distances_
    units = (distances - scale.median[:, None]) / (scale.upper - scale.median)[:, None]
    z = units.max(axis=0)
    first, doubt, one, two, far, slope = model.coefficients_
    swap = first - doubt * np.log(agreed.numpy()) + one * ratios[0] + two * ratios[1]
    odds = np.exp(swap) + np.exp(far + slope * z)
    wanted = np.concatenate([np.ones((40, 1)), odds], axis=1)
    wanted /= wanted.sum(axis=1, keepdims=True)
    standing = model(views, shares)
    # the distance from the plane is a root of what two sums leave of each other
    np.testing.assert_allclose(standing.posterior, wanted, rtol=1e-6)
    familiar = np.exp(-1.5 * np.maximum(0, z - 3))
    np.testing.assert_allclose(standing.familiarity, familiar, rtol=1e-9)


def test_distances_are_in_units_of_the_train_rows():
    rng = np.random.default_rng(0)
    distances = rng.gamma(5.0, size=(4, 200, 2))
    present = rng.random((200, 2)) < 0.8
    scale = Distances.fit(distances, present)
    for kind, view in np.ndindex(4, 2):
        own = distances[kind, present[:, view], view]
        assert scale.median[kind, view] == pytest.approx(np.median(own))
        assert scale.upper[kind, view] == pytest.approx(np.quantile(own, 0.95))
    units = [
        [
            max(
                (distances[kind, row, view] - scale.median[kind, view])
                / (scale.upper[kind, view] - scale.median[kind, view])
                for kind in range(4)
            )
            for view in range(2)
        ]
        for row in range(5)
    ]
    np.testing.assert_allclose(scale(distances[:, :5]), units)
    constant = Distances.fit(np.zeros((4, 9, 2)), np.array([[True, False]] * 9))
    assert (constant(np.zeros((4, 9, 2))) == 0).all()


# train rows as if they were new


@pytest.fixture
def folds(monkeypatch):
    """Gaussians that were fitted, with the components of their rows, and of those looked at."""
    looked = []

    class Spy(RowGaussians):
        @classmethod
        def of(cls, columns, parts, codes, present, classes):
            model = super().of(columns, parts, codes, present, classes)
            object.__setattr__(model, "fitted", parts[0][0].values)
            return model

        def __call__(self, parts, others, present):
            looked.append((self, parts[0][0].values))
            return super().__call__(parts, others, present)

    monkeypatch.setattr(membership, "RowGaussians", Spy)
    return looked


def numbers(model, values, table):
    """Numbers of the rows of a table whose components by the first reading are `values`."""
    gaps = abs(values[:, None] - model.columns[0][0](table).values).sum(axis=2)
    assert gaps.min(axis=1).max() < 1e-9
    return gaps.argmin(axis=1).tolist()


def numbered(rows, seed=0):
    """Rows whose first column is their number."""
    views, codes, ask = factor_rows(rows, seed=seed)
    table = views["v0"].copy()
    table[:, 0] = np.arange(rows)
    return views.replace({"v0": table}), codes, ask


def test_every_train_row_is_judged_by_gaussians_of_other_rows(folds):
    views, codes, ask = numbered(90)
    model = fitted_membership(views, codes, ask)
    *folds, (everything, again) = folds  # how far the rows are from Gaussians of all of them
    table = views["v0"]
    assert everything is model.gaussians_  # new rows are judged by all
    assert numbers(everything, everything.fitted, table) == list(range(90))
    assert numbers(everything, again, table) == list(range(90))
    judged = []
    firsts = [pair for place, pair in enumerate(folds) if pair[0] is not folds[place - 1][0]]
    assert len(firsts) == 5
    for fitted, asked in firsts:  # the rows as they are come before those with another view
        rows, others = numbers(fitted, asked, table), numbers(fitted, fitted.fitted, table)
        assert sorted(rows + others) == list(range(90))
        alone = WhiteColumns.fit(fitted.columns[0][0].map, table[others])
        for part, wanted in zip(fitted.columns[0][0](table), alone(table), strict=True):
            np.testing.assert_allclose(abs(part), abs(wanted), rtol=1e-6, atol=1e-7)
        judged += rows
    assert sorted(judged) == list(range(90))
    assert model.train_standing_.posterior.shape == (90, 4)


def test_rows_that_are_not_looked_at_are_judged_as_new_ones(folds, monkeypatch):
    monkeypatch.setattr(membership, "SAMPLE", 60)
    views, codes, ask = numbered(90)
    model = fitted_membership(views, codes, ask)
    some = np.linspace(0, 89, 60).round().astype(int)
    assert numbers(model.gaussians_, model.gaussians_.fitted, views["v0"]) == some.tolist()
    rest = np.setdiff1d(np.arange(90), some)
    found, wanted = model.train_standing_.take(rest), model(views.take(rest), ask(views.take(rest)))
    for part, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-6)  # in float32
    seen = model.train_standing_.take(some).posterior
    assert not np.allclose(seen, model(views.take(some), ask(views.take(some))).posterior)


def test_a_bogus_view_of_a_train_row_is_told():
    views, codes, ask = factor_rows(300, seed=0)
    table = views["v1"].copy()
    table[5] += 8 * table.std(axis=0)
    standing = fitted_membership(views.replace({"v1": table}), codes, ask).train_standing_
    assert standing.posterior[5].argmax() == 2
    assert standing.familiarity[5, 1] < 0.01
    assert fitted_membership(views, codes, ask).train_standing_.familiarity[5, 1] > 0.2


def test_a_view_of_a_single_row_is_survived():
    views, codes, ask = factor_rows(40, seed=0)
    table = np.full_like(views["v1"], np.nan)
    table[3] = views["v1"][3]
    gaps = views.replace({"v1": table})
    model = fitted_membership(gaps, codes, ask)
    for standing in (model.train_standing_, model(gaps, ask(gaps))):
        assert np.isfinite(standing.posterior).all()
        np.testing.assert_allclose(standing.posterior.sum(axis=1), 1)
        assert (standing.familiarity[np.arange(40) != 3, 1] == 0).all()


def test_views_of_which_each_row_has_another_one():
    views, codes, ask = factor_rows(4, seed=0, codes=np.array([0, 1, 2, 0]))
    tables = {"v0": [0, 3], "v1": [1], "v2": [2]}
    gaps = views.map(
        lambda name, table: np.where(np.isin(np.arange(4), tables[name])[:, None], table, np.nan)
    )
    standing = fitted_membership(gaps, codes, ask).train_standing_
    assert (standing.posterior == [1, 0, 0, 0]).all()
    assert np.isfinite(standing.familiarity).all()


def test_train_rows_of_many_columns_are_familiar_when_they_are_asked_again():
    rng = np.random.default_rng(0)
    codes = np.arange(90) % CLASSES
    means = rng.normal(size=(CLASSES, 300))
    rows, new = (MultiView({"a": means[codes] + rng.normal(size=(90, 300))}) for _ in range(2))

    def ask(views):
        return np.full((views.n_samples, 1, CLASSES), 1 / CLASSES)

    model = fitted_membership(rows, codes, ask)
    for asked in (rows, new):
        assert np.median(model(asked, ask(asked)).familiarity) == 1
    far = new.map(lambda name, table: table + 3 * rng.normal(size=table.shape))
    assert model(far, ask(far)).familiarity.max() < 0.01


# fusion


def random_opinions(rows=6, views=3, classes=4, *, seed=0, gaps=False):
    """Logits, standing and worth of views, drawn."""
    rng = np.random.default_rng(seed)
    present = np.ones((rows, views), dtype=bool)
    if gaps:
        present = rng.random((rows, views)) < 0.6
        present[0] = False
    own = np.where(present[:, :, None], 2 * rng.normal(size=(rows, views, classes)), 0.0)
    witness = softmax(own, axis=2)
    logits = ExpertLogits(
        own, 2 * rng.normal(size=(rows, classes)), witness, present if gaps else None
    )
    posterior = rng.dirichlet(np.ones(views + 1), size=rows)
    posterior[:, 1:] *= present
    posterior /= posterior.sum(axis=1, keepdims=True)
    familiarity = np.where(present, rng.random((rows, views)), 0.0)
    return logits, Standing(posterior, familiarity), rng.gamma(1.0, 0.1, size=views), rng


def evidence_of(logits):
    return shares_to_evidence(
        torch.from_numpy(logits), torch.tensor(5.0), torch.tensor(0.0)
    ).numpy()


def plain_shares(evidence):
    lifted = np.asarray(evidence) + 1e-6
    return 0.99 * lifted / lifted.sum() + 0.01 / len(lifted)


def plain_mass(opinions, weights):
    """exp of the weighted mean of log(1 + e), less 1, summed over classes."""
    total = max(sum(weights), 1)
    mass = 0.0
    for k in range(len(opinions[0])):
        logs = sum(w * np.log(1 + e[k]) for w, e in zip(weights, opinions, strict=True))
        mass += np.exp(logs / total) - 1
    return mass


def plain_mixture(private, shared, witness, stack, counted, whole, posterior):
    """Shares of one row by the docstring of `mixture_shares`, in loops."""
    views, classes = private.shape
    product = np.ones(classes)
    for view in range(views):
        product = product * plain_shares(private[view]) ** (stack[view] * counted[view])
    # the joint opinion weighs less where views are missing or far
    product = product * plain_shares(shared) ** (stack[views] * np.mean(counted) * whole)
    shares = [product / product.sum()]
    for view in range(views):
        rest = np.ones(classes)
        for other in range(views):
            if other != view:
                rest = rest * plain_shares(witness[other]) ** counted[other]
        shares.append(rest / rest.sum())
    return sum(p * s for p, s in zip(posterior, shares, strict=True))


def plain_fused(private, shared, witness, stack, worth, familiar, whole, posterior):
    """Fused evidence of one row by the docstring of `Fusion`."""
    skill, parts = worth / (worth + LITTLE), worth / worth.sum()
    mass = plain_mass([*private, shared], [*(familiar * skill), whole])
    doubt = sum(p * f ** (1 / 3) for p, f in zip(posterior[1:], familiar, strict=True))
    belief = mass / (mass + 4) * (1 - 0.9 * doubt) * (familiar * parts).sum()
    shares = plain_mixture(private, shared, witness, stack, familiar, whole, posterior)
    return 4 * belief / (1 - belief) * shares


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_fusion_follows_its_docstring(seed, gaps):
    logits, standing, worth, rng = random_opinions(seed=seed, gaps=gaps)
    stack = rng.random(4) + 0.2
    found = Fusion("mixture", True, stack, worth)(logits, standing)
    private, shared = evidence_of(logits.views), evidence_of(logits.joint)
    skill = worth / (worth + LITTLE)
    present = np.ones((6, 3), dtype=bool) if logits.present is None else logits.present
    for row in range(6):
        familiar, posterior = standing.familiarity[row], standing.posterior[row]
        some = present[row].any()
        whole = float(familiar[present[row]].min()) if some else 0.0
        wanted = plain_fused(
            private[row],
            shared[row],
            logits.witness[row],
            stack,
            worth,
            familiar,
            whole,
            posterior,
        )
        np.testing.assert_allclose(found.fused[row], wanted, rtol=1e-5, atol=1e-9)
        own = private[row] * (familiar * skill)[:, None]
        np.testing.assert_allclose(found.private[row], own, rtol=1e-6)
        np.testing.assert_allclose(found.shared[row, 0], shared[row] * whole, rtol=1e-6)
        assert float(found.familiarity[row]) == pytest.approx(familiar.max())
        for view in range(3):
            if not present[row, view]:
                assert found.gains[row, view].isnan()
                continue
            others = [v for v in range(3) if v != view and present[row, v]]
            belief = 0.0
            if others:
                mass = plain_mass(private[row, others], skill[others])
                belief = mass / (mass + 4)
            gain = posterior[view + 1] * belief
            assert float(found.gains[row, view]) == pytest.approx(gain, rel=1e-6, abs=1e-12)


def test_without_a_missing_or_far_view_belief_falls_by_its_worth():
    logits, _, _, _ = random_opinions(rows=5)
    same = ExpertLogits(
        np.repeat(logits.views[:, :1], 3, axis=1), logits.views[:, 0], logits.witness
    )
    calm = Standing(np.eye(4)[[0] * 5], np.ones((5, 3)))
    large = np.array([4.0, 5.0, 1.0])  # each opinion has nearly all of its mass
    fuse = Fusion("mixture", True, None, large)
    whole = fuse(same, calm).fused
    for view in range(3):
        far = np.ones((5, 3))
        far[:, view] = 0
        found = fuse(same, calm._replace(familiarity=far)).fused
        present = np.ones((5, 3), dtype=bool)
        present[:, view] = False
        own = same.views.copy()
        own[:, view] = 0
        gone = ExpertLogits(own, same.joint, same.witness, present)
        missing = fuse(gone, calm._replace(familiarity=far)).fused
        for part in (found, missing):
            belief, before = (1 - 4 / (4 + one.sum(dim=1).numpy()) for one in (part, whole))
            share = 1 - large[view] / large.sum()
            np.testing.assert_allclose(belief, before * share, rtol=0.02)


def test_a_doubted_row_keeps_a_tenth_of_its_belief():
    logits, _, worth, _ = random_opinions(rows=5)
    fuse = Fusion("mixture", True, None, worth)
    sure, torn = (
        fuse(logits, Standing(np.tile(posterior, (5, 1)), np.ones((5, 3)))).fused.sum(dim=1)
        for posterior in ([1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0])
    )
    beliefs = [(mass / (mass + 4)).numpy() for mass in (sure, torn)]
    np.testing.assert_allclose(beliefs[1], 0.1 * beliefs[0])
    # a view that is far beyond question leaves no doubt, but its worth is gone
    far = Standing(np.tile([0.0, 1.0, 0.0, 0.0], (5, 1)), np.array([[0.0, 1.0, 1.0]] * 5))
    calm = Standing(np.tile([1.0, 0.0, 0.0, 0.0], (5, 1)), far.familiarity)
    one, two = (fuse(logits, standing).fused.sum(dim=1) for standing in (far, calm))
    torch.testing.assert_close(one, two)


@given(order=st.permutations(range(3)), seed=st.integers(0, 99), gaps=st.booleans())
@settings(deadline=None, max_examples=20, derandomize=True)
def test_fusion_does_not_depend_on_the_order_of_views(order, seed, gaps):
    logits, standing, worth, _ = random_opinions(seed=seed, gaps=gaps)
    moved = ExpertLogits(
        logits.views[:, order],
        logits.joint,
        logits.witness[:, order],
        None if logits.present is None else logits.present[:, order],
    )
    turned = Standing(
        standing.posterior[:, [0, *(place + 1 for place in order)]], standing.familiarity[:, order]
    )
    found = Fusion("mixture", True, None, worth[order])(moved, turned)
    wanted = Fusion("mixture", True, None, worth)(logits, standing)
    torch.testing.assert_close(found.fused, wanted.fused)
    torch.testing.assert_close(found.rest, wanted.rest)
    torch.testing.assert_close(found.gains, wanted.gains[:, order], equal_nan=True)
    torch.testing.assert_close(found.private, wanted.private[:, order])


def test_the_rest_is_what_would_be_said_without_the_view_of_largest_gain():
    logits, standing, worth, rng = random_opinions(rows=20)
    stack = rng.random(4) + 0.2
    found = Fusion("mixture", True, stack, worth)(logits, standing)
    private, shared = evidence_of(logits.views), evidence_of(logits.joint)
    for row in range(20):
        view = int(found.gains[row].argmax())
        familiar, posterior = standing.familiarity[row].copy(), standing.posterior[row].copy()
        familiar[view] = 0
        posterior[0] += posterior[view + 1]
        posterior[view + 1] = 0
        # without the joint opinion too, which rests on all views, and with the power of the others
        ones = np.ones(4)
        wanted = plain_fused(
            private[row], shared[row], logits.witness[row], ones, worth, familiar, 0.0, posterior
        )
        np.testing.assert_allclose(found.rest[row], wanted, rtol=1e-5, atol=1e-9)


def test_worth_is_the_gain_in_likelihood_over_the_class_shares():
    rng = np.random.default_rng(0)
    codes = np.array([0] * 30 + [1] * 10)
    logs = log_softmax(rng.normal(size=(40, 3, 2)), axis=2)
    logs[np.arange(40), 0, codes] = np.log(0.9)
    logs[np.arange(40), 0, 1 - codes] = np.log(0.1)
    logs[:, 1] = np.log([0.75, 0.25])
    present = np.ones((40, 3), dtype=bool)
    present[5:, 2] = False
    found = view_worth(logs, codes, present)
    prior = np.log(np.where(codes == 0, 0.75, 0.25))
    gained = np.log(0.9) - prior
    error = gained.std(ddof=1) / np.sqrt(40)
    assert found[0] == pytest.approx(gained.mean() - error)
    assert found[1] == pytest.approx(0, abs=1e-12)
    seen = logs[:5, 2, 0] - prior[:5]
    assert found[2] == pytest.approx(max(0, seen.mean() - seen.std(ddof=1) / np.sqrt(5)))


# shares and masses against NumPy


@given(seed=st.integers(0, 999), views=st.integers(2, 5))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_mixture_shares_are_those_of_loops(seed, views):
    rng = np.random.default_rng(seed)
    private, shared = rng.gamma(0.5, 5.0, size=(views, 3)), rng.gamma(0.5, 5.0, size=(1, 3))
    witness = rng.dirichlet(np.ones(3), size=views)
    stack, counted = rng.random(views + 1), rng.random(views)
    posterior = rng.dirichlet(np.ones(views + 1))
    tensors = [torch.from_numpy(part) for part in (private, shared, witness)]
    found = mixture_shares(
        *tensors,
        weights=torch.from_numpy(stack),
        counted=torch.from_numpy(counted),
        whole=torch.ones(1).double(),
        posterior=torch.from_numpy(posterior),
    )
    wanted = plain_mixture(private, shared[0], witness, stack, counted, 1.0, posterior)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert float(found.sum()) == pytest.approx(1)


@given(seed=st.integers(0, 999), views=st.integers(1, 5))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_mean_mass_and_agreement_are_those_of_loops(seed, views):
    rng = np.random.default_rng(seed)
    evidence, weights = rng.gamma(0.5, 5.0, size=(views, 3)), rng.random(views)
    found = mean_mass(
        torch.from_numpy(evidence), torch.empty(0, 3).double(), torch.from_numpy(weights)
    )
    assert float(found) == pytest.approx(plain_mass(evidence, weights))
    whole = mean_mass(torch.from_numpy(evidence[:1]), torch.from_numpy(evidence[1:]))
    assert float(whole) == pytest.approx(plain_mass(evidence, np.ones(views)))
    present = rng.random(views) < 0.7
    agreed, others = agreement(torch.from_numpy(evidence), torch.from_numpy(present))
    for view in range(views):
        product = np.ones(3)
        for other in range(views):
            if other != view and present[other]:
                product = product * plain_shares(evidence[other])
        product = product / product.sum()
        np.testing.assert_allclose(others[view], product, rtol=1e-5)
        if present[view]:
            overlap = 3 * (plain_shares(evidence[view]) * product).sum()
            assert float(agreed[view]) == pytest.approx(overlap, rel=1e-5)
        else:
            assert float(agreed[view]) == pytest.approx(3)


# fitted classifiers


def problem(rows=240, *, seed=0, prior=(1 / 3, 1 / 3, 1 / 3)):
    """Two views that tell the class, and one of noise."""
    fixed = np.random.default_rng(5)
    means = {"a": 2 * fixed.normal(size=(3, 4)), "b": 2 * fixed.normal(size=(3, 5))}
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=rows, p=prior)
    X = {name: mean[y] + rng.normal(size=(rows, mean.shape[1])) for name, mean in means.items()}
    return {**X, "noise": rng.normal(size=(rows, 4))}, np.array(["ant", "bee", "cat"])[y]


TINY = {"epochs": 3, "hidden": 8, "feedforward": 8, "encoder_width": 16, "networks": 2}
MAKERS = {
    "kernel-expert": lambda **more: KernelExpertClassifier(random_state=0, **more),
    "ridge-expert": lambda **more: RidgeExpertClassifier(random_state=0, **more),
    "rcml-misa": lambda **more: RCMLMISAClassifier(random_state=0, **TINY, **more),
    "rcml-misa-ridge": lambda **more: RCMLMISAClassifier(
        random_state=0, expert="ridge", **TINY, **more
    ),
    "rcml-misa-none": lambda **more: RCMLMISAClassifier(
        random_state=0, expert="none", **(TINY | {"epochs": 12}), **more
    ),
}
every = pytest.mark.parametrize("name", MAKERS)


@pytest.fixture(scope="module")
def fitted():
    """Every kind of classifier, fitted to even and to uneven classes, on demand."""
    models = {}

    def make(name, prior=(1 / 3, 1 / 3, 1 / 3)):
        if (name, prior) not in models:
            rows = (
                480 if name.endswith("none") else 240
            )  # a tenth of them tell what views are worth
            models[name, prior] = MAKERS[name]().fit(*problem(rows, prior=prior))
        return models[name, prior]

    return make


@every
@pytest.mark.parametrize("prior", [(1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)])
def test_a_view_that_tells_nothing_says_nothing(fitted, name, prior):
    opinion = fitted(name, prior).predict_opinion(problem(seed=1, prior=prior)[0])
    assert np.median(opinion.of("noise").uncertainty) > 0.9
    assert opinion.of("noise").uncertainty.mean() > 0.9
    for told in ("a", "b"):
        assert np.median(opinion.of(told).uncertainty) < 0.6


@every
@pytest.mark.parametrize("prior", [(1 / 3, 1 / 3, 1 / 3), (0.7, 0.2, 0.1)])
def test_far_rows_are_told_nothing_about(fitted, name, prior):
    model = fitted(name, prior)
    X, y = problem(seed=1, prior=prior)
    rng = np.random.default_rng(2)
    for way in ("one", "any"):
        far = {}
        for view, table in X.items():
            signs = rng.choice([-1, 1], size=table.shape[1]) if way == "any" else 1
            far[view] = table + 10 * signs * table.std(axis=0)
        opinion = model.predict_opinion(far)
        assert opinion.probability.max() <= model.class_shares_.max() + 0.15
        assert opinion.uncertainty.min() > 0.95
        for view in X:
            assert opinion.of(view).uncertainty.min() > 0.95
    away = {view: 2.5 * table for view, table in X.items()}  # some rows are half familiar
    half = model.predict_opinion(away)
    known = half.familiarity[:, None]
    assert ((known > 0.1) & (known < 0.9)).any()
    wanted = known * model.calibrator_(half.evidence) + (1 - known) * model.class_shares_
    np.testing.assert_allclose(half.probability, wanted)
    near = model.predict_opinion(X)
    assert np.median(near.uncertainty) < 0.7
    assert (near.predicted == y).mean() > 0.85


@every
def test_missing_or_far_views_leave_uncertainty_by_their_worth(fitted, name):
    model = fitted(name)
    X, _ = problem(seed=1)
    whole = model.predict_opinion(X).uncertainty
    worth = model.worth_ / model.worth_.sum()
    assert worth[2] < 0.05
    for place, view in enumerate(X):
        gone = model.predict_opinion({**X, view: None}).uncertainty
        far = {**X, view: X[view] + 50 * X[view].std(axis=0)}
        away = model.predict_opinion(far).uncertainty
        if view == "noise":  # belief is lost with the joint opinion alone
            assert abs(np.median(gone) - np.median(whole)) < 0.2
            continue
        for found in (gone, away):
            assert found.min() >= worth[place]
            assert np.median(found) > np.median(whole) + 0.2


@every
def test_order_of_views_changes_no_answer_much(fitted, name):
    X, y = problem()
    names = ["noise", "b", "a"]
    turned = MAKERS[name]().fit({view: X[view] for view in names}, y)
    new, _ = problem(seed=3)
    found = turned.predict_opinion({view: new[view] for view in names})
    wanted = fitted(name).predict_opinion(new)
    assert (found.predicted == wanted.predicted).mean() > 0.95
    assert np.abs(found.uncertainty - wanted.uncertainty).mean() < 0.08


def test_classifiers_without_rows_to_learn_from_judge_by_agreement():
    X, y = problem(60)
    model = RCMLMISAClassifier(random_state=0, expert="none", calibration_fraction=0.0, **TINY).fit(
        X, y
    )
    assert model.membership_ is None
    opinion = model.predict_opinion(X)
    assert not opinion.learnt
    assert (opinion.familiarity == 1).all()
    views = model._check_rows(X)
    logits = model._network_logits(*model._states(views), views)
    standing = plain_standing(logits.witness, views.present)
    wanted = agreed_membership(torch.from_numpy(logits.witness))[0]
    np.testing.assert_allclose(standing.posterior, wanted)
    fused = model._fuse(logits, standing).fused
    np.testing.assert_allclose(opinion.evidence, fused, rtol=1e-5)  # networks answer in float32
