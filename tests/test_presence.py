"""Missing views: in containers, fusions, losses, networks and estimators."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from rcml_misa.estimators import (
    ControlClassifier,
    KernelExpertClassifier,
    NotesClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
)
from rcml_misa.estimators.outputs import evidential_terms, mixing_partners, subspace_terms
from rcml_misa.exceptions import DataError
from rcml_misa.experts.logits import RowWeights
from rcml_misa.losses import (
    conflict_loss,
    difference_loss,
    reconstruction_loss,
    similarity_loss,
    weighted_mean,
)
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.networks import RCMLMISANet
from rcml_misa.nn.peers import RCMLNet
from rcml_misa.opinions import fuse_mixture, mean_conflict, membership, opinions_present
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import MultiView, ViewMeans, present_rows, with_absent_views

QUICK = {"random_state": 0}
NETWORK = {**QUICK, "epochs": 3, "hidden": 8, "feedforward": 16, "batch_size": 30, "device": "cpu"}
MAKERS = {
    "rcml-misa": lambda **more: RCMLMISAClassifier(**NETWORK | more),
    "rcml": lambda **more: RCMLClassifier(**QUICK, epochs=30, learning_rate=0.03, device="cpu"),
    "kernel-expert": lambda **more: KernelExpertClassifier(**QUICK | more),
    "control": lambda **more: ControlClassifier(**QUICK | more),
    "notes": lambda **more: NotesClassifier(**QUICK, epochs=2, device="cpu"),
}
LEAVE_OUT = ("rcml-misa", "rcml", "kernel-expert")
every = pytest.mark.parametrize("name", MAKERS)
leaving_out = pytest.mark.parametrize("name", LEAVE_OUT)


def problem(*, rows=90, gaps=True, seed=0):
    """Three views of three classes; view b is missing in every third row, c in some others."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    X = {
        name: 2 * rng.normal(size=(3, width))[y] + rng.normal(size=(rows, width))
        for name, width in {"a": 3, "b": 4, "c": 2}.items()
    }
    if gaps:
        X["b"][rng.random(rows) < 1 / 3] = np.nan
        X["c"][rng.random(rows) < 1 / 5] = np.nan
    return X, np.array(["ant", "bee", "cat"])[y]


# containers


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_a_row_of_nan_is_a_missing_view(form):
    table = np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 0.0]])
    views = MultiView({"a": form(table), "b": np.ones((3, 1))})
    assert views.present.tolist() == [[True, True], [False, True], [True, True]]
    assert views.take([1, 0]).present.tolist() == [[False, True], [True, True]]
    assert np.isnan(views.to_array()[1, :2]).all()
    again = MultiView.from_array(views.to_frame(), views="__")
    np.testing.assert_array_equal(again.present, views.present)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, pd.DataFrame])
def test_rows_that_are_partly_nan_are_counted(form):
    table = np.array([[1.0, np.nan], [np.nan, np.nan], [np.nan, 2.0], [1.0, 1.0]])
    with pytest.raises(DataError, match=r"in 2 of 4 rows \(the first is row 0\).*SimpleImputer"):
        MultiView({"a": form(table)})
    with pytest.raises(DataError, match="NaN or infinity in 1 of 2 rows"):
        MultiView({"a": form(np.array([[np.inf, np.inf], [np.nan, np.nan]]))})


def test_absent_views_by_name():
    X = {"a": [[1.0], [2.0]], "b": None}
    for given_ in (X, {"a": X["a"]}, MultiView({"a": X["a"]}), [X["a"], None]):
        filled = with_absent_views(given_, names=("a", "b"), widths=(1, 3))
        assert filled.widths == (1, 3)
        assert filled.present.tolist() == [[True, False], [True, False]]
    table = np.ones((2, 4))
    assert with_absent_views(table, names=("a", "b"), widths=(1, 3)) is table
    whole = with_absent_views({"b": [[2.0]], "a": [[1.0]]}, names=("a", "b"), widths=(1, 1))
    assert whole.names == ("a", "b")
    assert whole.to_array().tolist() == [[1.0, 2.0]]
    with pytest.raises(DataError, match="X has the view 'c', which fit did not see"):
        with_absent_views({"a": [[1.0]], "c": None}, names=("a", "b"), widths=(1, 1))
    with pytest.raises(DataError, match="X has none of the views a, b; give at least one"):
        with_absent_views({"a": None}, names=("a", "b"), widths=(1, 1))
    with pytest.raises(DataError, match="view 'b' is None"):
        MultiView(X)


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_means_of_present_rows_fill_gaps(form):
    table = np.array([[1.0, 0.0], [np.nan, np.nan], [3.0, 2.0], [np.nan, np.nan]])
    views = MultiView({"a": form(table)})
    means = ViewMeans.fit(views)
    filled = means.fill(views)
    assert filled.present.all()
    wanted = np.where(np.isnan(table), [2.0, 1.0], table)
    np.testing.assert_array_equal(filled.to_array(), wanted)
    assert means.fill(filled) is filled
    np.testing.assert_array_equal(present_rows(views["a"]), [True, False, True, False])


# opinions and losses


def stack(seed, rows=5, views=4, classes=3):
    rng = np.random.default_rng(seed)
    evidence = torch.from_numpy(rng.exponential(2.0, size=(rows, views, classes)))
    present = torch.from_numpy(rng.random((rows, views)) < 0.6)
    return evidence, present


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=25)
def test_what_is_missing_counts_as_if_it_had_never_been(seed):
    evidence, present = stack(seed)
    witness = stack(seed + 1)[0].softmax(dim=-1)
    none = evidence[:, :0]
    fused = fuse_mixture(evidence, none, witness, present=present)
    conflict, loss = (
        mean_conflict(evidence, present),
        conflict_loss(evidence, present=present, reduction="none"),
    )
    posterior, _ = membership(witness, present)
    for row, here in enumerate(present):
        if not here.any():
            assert fused[row].abs().max() == 0
            continue
        own = evidence[row : row + 1, here]
        alone = fuse_mixture(own, none[:1], witness[row : row + 1, here])
        torch.testing.assert_close(fused[row : row + 1], alone)
        torch.testing.assert_close(conflict[row : row + 1], mean_conflict(own))
        torch.testing.assert_close(loss[row], conflict_loss(own))
        kept = torch.cat([torch.tensor([True]), here])
        if here.sum() > 1:
            torch.testing.assert_close(posterior[row, kept], membership(witness[row, here])[0])
        else:
            assert posterior[row].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]


@given(seed=st.integers(0, 999))
@settings(deadline=None, max_examples=10)
def test_where_nothing_is_missing_the_mask_changes_nothing(seed):
    evidence, _ = stack(seed)
    shared, whole = stack(seed + 1)[0], torch.ones(5, 4, dtype=torch.bool)
    for some in (shared, shared[:, :1], shared[:, :0]):
        torch.testing.assert_close(
            fuse_mixture(evidence, some, present=whole), fuse_mixture(evidence, some)
        )
    torch.testing.assert_close(mean_conflict(evidence, whole), mean_conflict(evidence))


def test_shared_opinions_weigh_less_where_views_are_missing():
    private = torch.tensor([[[8.0, 0.0], [8.0, 0.0]]])
    shared = torch.tensor([[[0.0, 8.0]]])
    whole = fuse_mixture(private, shared, present=torch.tensor([[True, True]]))
    half = fuse_mixture(private, shared, present=torch.tensor([[True, False]]))
    share = [float(one[0, 0] / one.sum()) for one in (whole, half)]
    assert share[1] > 0.5
    assert opinions_present(torch.tensor([[True, False]]), 2).tolist() == [
        [True, False, True, False]
    ]


def test_pair_terms_see_the_rows_that_both_views_have():
    rng = torch.Generator().manual_seed(0)
    private, shared = (torch.rand(12, 3, 4, generator=rng).double() for _ in range(2))
    weights = torch.ones(12, 3).double()
    weights[:5, 2] = 0
    kept = similarity_loss(shared[:, :2])
    third = [similarity_loss(torch.stack([shared[:, v], shared[:, v]], dim=1)) for v in (0, 1)]
    assert max(float(one) for one in third) == 0
    # a view without rows is in no pair
    gone = weights.clone()
    gone[:, 2] = 0
    torch.testing.assert_close(similarity_loss(shared, weights=gone), kept)
    # rows that lack a view do not move its moments
    moved = shared.clone()
    moved[:5, 2] = 9
    torch.testing.assert_close(
        similarity_loss(moved, weights=weights), similarity_loss(shared, weights=weights)
    )
    for changed in (private, shared):
        other = changed.clone()
        other[:5, 2] = 9
        pair = (other, shared) if changed is private else (private, other)
        torch.testing.assert_close(
            difference_loss(*pair, weights=weights),
            difference_loss(private, shared, weights=weights),
        )
        torch.testing.assert_close(
            reconstruction_loss(*pair, weights=weights),
            reconstruction_loss(private, shared, weights=weights),
        )


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_equal_weights_are_no_weights(scale):
    rng = torch.Generator().manual_seed(1)
    private, shared = (torch.rand(12, 3, 4, generator=rng).double() for _ in range(2))
    weights = torch.full((12, 3), scale).double()
    torch.testing.assert_close(similarity_loss(shared, weights=weights), similarity_loss(shared))
    torch.testing.assert_close(
        difference_loss(private, shared, weights=weights / scale), difference_loss(private, shared)
    )
    torch.testing.assert_close(
        reconstruction_loss(private, shared, weights=weights), reconstruction_loss(private, shared)
    )


def test_whole_weights_are_repeated_rows():
    rng = torch.Generator().manual_seed(2)
    shared = torch.rand(6, 2, 4, generator=rng).double()
    counts = torch.tensor([1, 2, 0, 3, 1, 1])
    repeated = shared.repeat_interleave(counts, dim=0)
    weights = counts.double().unsqueeze(1).expand(6, 2)
    torch.testing.assert_close(similarity_loss(shared, weights=weights), similarity_loss(repeated))
    torch.testing.assert_close(
        difference_loss(shared, shared.flip(1), weights=weights),
        difference_loss(repeated, repeated.flip(1)),
    )
    torch.testing.assert_close(
        weighted_mean(shared[:, 0, 0], counts.double()), repeated[:, 0, 0].mean()
    )


# networks


@pytest.mark.parametrize("sharing", ["separate", "tied", "tied-mean", "private"])
@pytest.mark.parametrize("mask", ["private", "none"])
@pytest.mark.parametrize("fusion", ["mixture", "geometric", "mean", "pairwise", "dempster"])
def test_nothing_of_a_missing_view_gets_out(sharing, mask, fusion):
    torch.manual_seed(0)
    net = RCMLMISANet(
        [TableEncoder(3), TableEncoder(4)], classes=3, hidden=8, feedforward=8, layers=2,
        encoder_width=8, sharing=sharing, mask=mask, fusion=fusion,
    )  # fmt: skip
    torch.nn.init.normal_(net.collect.private.weight)
    net.eval()
    views = [torch.rand(5, 3), torch.rand(5, 4)]
    present = torch.tensor([[True, False]]).repeat(5, 1)
    found = net(views, present)
    other = net([views[0], 100 * views[1]], present)
    torch.testing.assert_close(found.fused, other.fused)
    torch.testing.assert_close(found.private, other.private)
    torch.testing.assert_close(found.shared, other.shared)
    assert found.private[:, 1].abs().max() == 0
    assert found.private[:, 0].min() > 0
    whole = net(views, torch.ones(5, 2, dtype=torch.bool))
    torch.testing.assert_close(whole.fused, net(views).fused)


@pytest.mark.parametrize("reached", ["codes", "encoders"])
@pytest.mark.parametrize("readout", ["both", "tokens", "encoders"])
def test_gradients_with_missing_views_are_finite_and_stay_at_home(readout, reached):
    torch.manual_seed(0)
    net = RCMLMISANet(
        [TableEncoder(3), TableEncoder(4), TableEncoder(2)], classes=3, hidden=8, feedforward=8,
        encoder_width=8, readout=readout, subspace_gradient=reached,
    )  # fmt: skip
    views = [torch.rand(6, width) for width in (3, 4, 2)]
    present = torch.tensor([[True, True, False]] * 5 + [[False, False, False]])
    target = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2])]
    output = net(views, present=present)
    terms = evidential_terms(output, target, kl_weight=1.0) | subspace_terms(output)
    sum(terms.values()).backward()
    gradients = {name: one.grad for name, one in net.named_parameters() if one.grad is not None}
    assert all(one.isfinite().all() for one in gradients.values())
    assert gradients["encode.first.2.weight"].abs().max() == 0
    assert gradients["encode.first.0.weight"].abs().max() > 0
    if readout == "tokens" or reached == "encoders":
        assert gradients["project.linears.2.weight"].abs().max() == 0
        assert gradients["project.linears.0.weight"].abs().max() > 0


def test_rcml_network_averages_the_views_that_are_there():
    torch.manual_seed(0)
    net = RCMLNet((3, 4), classes=3).eval()
    views = [torch.rand(2, 3), torch.rand(2, 4)]
    found = net(views, torch.tensor([[True, False], [True, True]]))
    torch.testing.assert_close(found.fused[0], found.private[0, 0])
    torch.testing.assert_close(found.fused[1], net(views).fused[1])


def test_rows_are_mixed_with_rows_of_the_same_views():
    present = torch.tensor([[True, True], [True, False], [True, True], [True, False]])
    assert mixing_partners(np.array([2, 3, 1, 0]), present).tolist() == [2, 3, 2, 3]


def test_maps_are_measured_on_present_rows_and_put_zeros_for_gaps():
    x = np.random.default_rng(0).normal(size=(30, 3))
    gaps = x.copy()
    gaps[10:] = np.nan
    for features in ("root-layernorm", "root", "plain", "quantile"):
        mapping = FeatureMap.fit(gaps, features=features)
        wanted = FeatureMap.fit(x[:10], features=features)
        np.testing.assert_array_equal(mapping.transform(x), wanted.transform(x))
        assert (mapping.transform(gaps)[10:] == 0).all()
        assert mapping.transform(gaps).shape[1] == mapping.width


# estimators


@every
def test_fit_and_predict_with_missing_views(name):
    X, y = problem()
    model = MAKERS[name]().fit(X, y)
    assert model.score(X, y) > (0.3 if name == "notes" else 0.8)
    probability = model.predict_proba(X)
    assert np.isfinite(probability).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-6)


@leaving_out
def test_opinions_of_missing_views_are_vacuous(name):
    X, y = problem()
    opinion = MAKERS[name]().fit(X, y).predict_opinion(X)
    missing = np.isnan(X["b"][:, 0])
    np.testing.assert_array_equal(opinion.present[:, 1], ~missing)
    assert (opinion.of("b").uncertainty[missing] == 1).all()
    assert (opinion.of("b").uncertainty[~missing] < 1).all()
    assert (opinion.pairwise_conflict[missing, 1] == 0).all()
    both = opinion.present.sum(axis=1)
    pairs = np.maximum(both * (both - 1), 1)
    wanted = opinion.pairwise_conflict.sum(axis=(1, 2)) / pairs
    np.testing.assert_allclose(opinion.conflict, wanted, atol=1e-6)
    frame = opinion.to_frame()
    assert frame["b__class"].isna().equals(pd.Series(missing))
    assert frame["b__belief"].isna().equals(pd.Series(missing))


@leaving_out
def test_a_single_present_view_speaks_for_itself(name):
    X, y = problem(gaps=False)
    model = MAKERS[name]().fit(X, y)
    alone = model.predict_opinion({"a": None, "b": X["b"], "c": None})
    assert (alone.conflict == 0).all()
    assert (alone.most_conflicting == "").all()
    assert (alone.of("a").evidence == 0).all()
    whole = model.predict_opinion(X)
    np.testing.assert_allclose(alone.of("b").evidence, whole.of("b").evidence, rtol=1e-3, atol=1e-3)
    for form in ({"b": X["b"]}, [None, X["b"], None], MultiView({"b": X["b"]})):
        found = model.predict_opinion(form)
        np.testing.assert_array_equal(found.evidence, alone.evidence)
    if name == "rcml":
        np.testing.assert_allclose(alone.evidence, alone.of("b").evidence)
    else:
        # belief is discounted by what the missing views are worth
        worth = model.worth_ / model.worth_.sum()
        assert (alone.uncertainty >= 1 - worth[1] - 1e-9).all()
        assert (alone.uncertainty > whole.uncertainty).mean() > 0.9


@leaving_out
def test_a_row_without_any_view_is_told_nothing_about(name):
    X, y = problem(gaps=False)
    model = MAKERS[name]().fit(X, y)
    one = {view: np.vstack([table[:1], np.full((1, table.shape[1]), np.nan)])
           for view, table in X.items()}  # fmt: skip
    opinion = model.predict_opinion(one)
    assert opinion.uncertainty[1] == 1
    assert opinion.uncertainty[0] < 1
    np.testing.assert_allclose(opinion.probability[1], 1 / 3, atol=1e-5)


@leaving_out
def test_a_complete_row_is_predicted_alike_beside_incomplete_ones(name):
    X, y = problem()
    model = MAKERS[name]().fit(X, y)
    whole = np.flatnonzero(MultiView(X).present.all(axis=1))
    among, apart = model.predict_opinion(X), model.predict_opinion(MultiView(X).take(whole))
    np.testing.assert_allclose(among.evidence[whole], apart.evidence, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(among.conflict[whole], apart.conflict, atol=1e-5)


def test_missing_views_do_not_poison_the_view_s_expert():
    # the expert of a view is the one of the rows that have it, weighed as all rows' classes
    X, y = problem()
    here = ~np.isnan(X["b"][:, 0])
    found = MAKERS["kernel-expert"]().fit(X, y).experts_.views_[1]
    codes = np.unique(y, return_inverse=True)[1]
    own = RowWeights.of(codes, here, None)(slice(None), codes)
    alone = MAKERS["kernel-expert"]().fit({"b": X["b"][here]}, y[here], sample_weight=own)
    wanted = alone.experts_.views_[0]
    np.testing.assert_allclose(found.loo_scores_, wanted.loo_scores_, rtol=1e-9, atol=1e-12)
    assert found.temperature_ == pytest.approx(wanted.temperature_)


def test_familiarity_of_rows_with_gaps_is_that_of_the_views_they_have():
    X, y = problem(gaps=False, rows=300)
    model = MAKERS["kernel-expert"]().fit(X, y)
    few = {name: table[:40] + 0.01 for name, table in X.items()}
    strange = {name: 30 * table[:40] for name, table in X.items()}

    def standing(rows):
        views = MultiView(rows)
        return model.membership_(views, model.experts_.logits(views).witness)

    for gap in X:
        near = standing({**few, gap: np.full_like(few[gap], np.nan)}).familiarity
        far = standing({**strange, gap: np.full_like(few[gap], np.nan)}).familiarity
        there = [name != gap for name in X]
        assert (near[:, ~np.array(there)] == 0).all()
        assert np.median(near[:, there]) == 1
        assert np.median(far[:, there]) < 0.01
    # a gap where the row is strange is as good as the strange view
    hidden = model.predict_opinion({**few, "a": np.full_like(few["a"], np.nan)})
    shown = model.predict_opinion({**few, "a": strange["a"]})
    far = standing({**few, "a": strange["a"]}).familiarity[:, 0] < 1e-6
    assert far.sum() > 20
    assert np.abs(hidden.uncertainty - shown.uncertainty)[far].max() < 0.15
    assert (hidden.predicted == shown.predicted)[far].mean() > 0.9


def test_a_class_that_a_view_never_shows_is_still_known():
    X, y = problem(gaps=False)
    X["b"][y == "cat"] = np.nan
    for name in LEAVE_OUT:
        model = MAKERS[name]().fit(X, y)
        opinion = model.predict_opinion(X)
        assert opinion.evidence.shape == (90, 3)
        assert model.score(X, y) > 0.8


def test_missing_rows_at_random_cost_little(need_data):
    from rcml_misa.datasets import load_dataset

    data = load_dataset("digits")
    train, test = np.arange(0, 600), np.arange(600, 900)
    names = ("pixels", "fourier", "projections")
    tables = {name: np.array(data.views[name]) for name in names}
    rng = np.random.default_rng(0)
    for name in names[1:]:
        tables[name][rng.random(len(data.target)) < 0.3] = np.nan
    views = MultiView(tables)
    model = KernelExpertClassifier(random_state=0).fit(views.take(train), data.target[train])
    opinion = model.predict_opinion(views.take(test))
    right = opinion.predicted == data.target[test]
    assert right.mean() > 0.9
    gaps = ~views.present[test].all(axis=1)
    assert opinion.uncertainty[gaps].mean() > opinion.uncertainty[~gaps].mean()


@every
def test_unusable_gaps_are_refused(name):
    X, y = problem(gaps=False)
    model = MAKERS[name]()
    with pytest.raises(DataError, match="view 'b' is NaN in every row; leave it out"):
        model.fit({**X, "b": np.full((90, 4), np.nan)}, y)
    hole = {view: np.where(np.arange(90)[:, None] < 2, np.nan, one) for view, one in X.items()}
    with pytest.raises(DataError, match="2 rows have no view at all"):
        model.fit(hole, y)
    with pytest.raises(DataError, match="view 'b' is None"):
        model.fit({**X, "b": None}, y)
    model.fit(X, y)
    partly = X["a"].copy()
    partly[3, 0] = np.nan
    with pytest.raises(DataError, match="in 1 of 90 rows"):
        model.predict({**X, "a": partly})
    with pytest.raises(DataError, match="X has none of the views"):
        model.predict({})


@given(
    widths=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    classes=st.integers(2, 30),
    gaps=st.booleans(),
    seed=st.integers(0, 999),
)
@settings(deadline=None, max_examples=10)
@pytest.mark.parametrize("name", LEAVE_OUT)
def test_any_views_give_finite_opinions(name, widths, classes, gaps, seed):
    rng = np.random.default_rng(seed)
    rows = 2 * classes + 3
    y = np.arange(rows) % classes
    X = [rng.normal(size=(rows, width)) + y[:, None] / classes for width in widths]
    if gaps and len(X) > 1:
        for view in X[1:]:
            view[rng.random(rows) < 0.3] = np.nan
        X = [view for view in X if not np.isnan(view).all()]
    options = {"epochs": 1, "device": "cpu"} if name != "kernel-expert" else {}
    kind = type(MAKERS[name]())
    opinion = kind(random_state=0, **options).fit(X, y).predict_opinion(X)
    for one in (opinion, *(opinion.of(view) for view in opinion.views), *opinion.tokens.values()):
        assert np.isfinite(one.evidence).all()
        assert (one.evidence >= 0).all()
        np.testing.assert_allclose(one.belief.sum(axis=-1) + one.uncertainty, 1, atol=1e-6)
    assert np.isfinite(opinion.probability).all()
    assert ((opinion.conflict >= 0) & (opinion.conflict <= 1)).all()


def test_rows_that_have_a_view_weigh_as_the_classes_of_all_rows():
    codes = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    here = np.array([True, True, True, False, True, False, False, False])
    own = RowWeights.of(codes, here, None)(slice(None), codes)
    assert own is not None
    np.testing.assert_allclose(own, np.array([4 / 3, 4 / 3, 4 / 3, 4]) / 2)
    weights = np.array([1.0, 1, 2, 1, 1, 1, 1, 2])
    scaled = RowWeights.of(codes, here, weights)(slice(None), codes)
    assert scaled is not None
    totals = np.bincount(codes[here], weights=scaled)
    np.testing.assert_allclose(totals / totals.sum(), [0.5, 0.5])
    every = RowWeights.of(codes, np.ones(8, dtype=bool), weights)
    np.testing.assert_allclose(every(np.arange(3), codes[:3]), weights[:3] / weights.mean())
    assert RowWeights.of(codes, here | True, None)(slice(None), codes) is None
