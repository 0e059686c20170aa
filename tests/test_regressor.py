"""RCMLMISARegressor: opinions, intervals, planted signal, bad input."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rcml_misa.estimators import MISAClassifier, MISARegressor, RCMLMISARegressor
from rcml_misa.estimators.registry import recipe
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.metrics.scores import error_correlation, interval_scores
from rcml_misa.nn.encoders import TableEncoder
from rcml_misa.nn.networks import RegressionNet
from rcml_misa.nn.tokens import NIGCollectors
from rcml_misa.opinions.nig import NIG, fuse_nig, nig_nll
from rcml_misa.views import MultiView

ROWS = 700


def noisy(rows: int = ROWS, seed: int = 0):
    """A score read by two views; the third column of each says how noisy the row is."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows)
    noise = rng.choice([0.1, 1.0], rows)
    truth = score + noise * rng.normal(size=rows)

    def view():
        return np.column_stack([score, rng.normal(size=rows), noise])

    return MultiView({"a": view(), "b": view()}), truth


@pytest.fixture(scope="module")
def fitted():
    views, truth = noisy()
    model = RCMLMISARegressor(epochs=25, hidden=32, batch_size=32, random_state=0)
    return model.fit(views, truth)


def test_surer_rows_have_smaller_errors_and_narrower_intervals(fitted) -> None:
    views, truth = noisy(seed=1)
    opinion = fitted.predict_opinion(views)
    assert error_correlation(opinion.scale, truth - opinion.score) > 0.4
    low, high = fitted.predict_interval(views)
    found = interval_scores(low, high, truth)
    assert 0.85 < found["coverage"] < 0.96
    quiet = views["a"][:, 2] < 0.5
    assert (high - low)[quiet].mean() < 0.6 * (high - low)[~quiet].mean()
    assert np.abs(truth - opinion.score)[quiet].mean() < 0.25


def test_opinions_are_consistent(fitted) -> None:
    views, _ = noisy(40, seed=2)
    opinion = fitted.predict_opinion(views)
    assert list(opinion.views) == ["a", "b"]
    assert (opinion.nu > 0).all()
    assert (opinion.alpha > 1).all()
    assert (opinion.beta > 0).all()
    np.testing.assert_array_equal(opinion.score, fitted.predict(views))
    low, high = fitted.predict_interval(views)
    np.testing.assert_allclose((low + high) / 2, opinion.score)
    np.testing.assert_allclose(high - low, 2 * fitted.interval_factor_ * opinion.scale)
    assert (opinion.deviation > opinion.scale).all()  # a Student t's tails
    np.testing.assert_allclose(opinion.relative_epistemic, opinion.nu**-0.5)
    few = fitted.predict_opinion(views.take([5, 1]))
    np.testing.assert_allclose(few.score, opinion.score[[5, 1]], atol=1e-5)


def test_the_fused_width_is_the_calibrated_one(fitted) -> None:
    views, truth = noisy(400, seed=3)
    fused, private = fitted._states(views)
    opinion, unit = fitted.predict_opinion(views), fitted.target_scale_
    calibrated = fitted.calibrator_(fused, private)
    np.testing.assert_allclose(opinion.scale, unit * calibrated.scale.numpy())
    np.testing.assert_allclose(opinion.views["a"].scale, unit * private.scale[:, 0].numpy())
    target = torch.from_numpy((truth - fitted.target_mean_) / unit)
    assert nig_nll(calibrated, target).mean() < nig_nll(fused, target).mean()


def test_opinions_are_in_the_targets_unit() -> None:
    views, truth = noisy(120)
    one, ten = (
        RCMLMISARegressor(epochs=2, hidden=16, random_state=0).fit(views, factor * truth + shift)
        for factor, shift in ((1.0, 0.0), (10.0, 5.0))
    )
    a, b = one.predict_opinion(views), ten.predict_opinion(views)
    np.testing.assert_allclose(b.score, 10 * a.score + 5, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(b.scale, 10 * a.scale, rtol=1e-3)
    assert one.interval_factor_ == pytest.approx(ten.interval_factor_, rel=1e-2)


def test_intervals_come_from_the_given_validation_rows() -> None:
    views, truth = noisy(160)
    kept, held = np.arange(100), np.arange(100, 160)
    model = RCMLMISARegressor(epochs=2, hidden=16, random_state=0)
    model.fit(views.take(kept), truth[kept], validation=(views.take(held), truth[held]))
    opinion = model.predict_opinion(views.take(held))
    ratios = np.sort(np.abs(truth[held] - opinion.score) / opinion.scale)
    assert model.interval_factor_ == pytest.approx(ratios[int(np.ceil(61 * 0.9)) - 1])


def test_columns_of_one_table_are_cut_and_compared() -> None:
    views, truth = noisy(80)
    frame = pd.DataFrame(views.to_array(), columns=[*"abcdef"])
    options = {"epochs": 2, "hidden": 16, "random_state": 0}
    model = RCMLMISARegressor(views={"a": 3, "b": 3}, **options).fit(frame, truth)
    assert model.feature_names_in_.tolist() == [*"abcdef"]
    assert (model.train_rows_, model.n_features_in_) == (80, 6)
    whole = RCMLMISARegressor(**options).fit(views, truth)
    np.testing.assert_array_equal(model.predict(frame), whole.predict(views))
    for wrong in (frame[[*"fedcba"]], frame.set_axis([*"uvwxyz"], axis=1)):
        with pytest.raises(DataError, match="feature names"):
            model.predict(wrong)
    given = RCMLMISARegressor(views=[3, 3], **options)
    given.fit(frame[:60], truth[:60], validation=(frame[60:], truth[60:]))
    assert np.isfinite(given.interval_factor_)


def test_pipelines_and_searches_take_it() -> None:
    views, truth = noisy(120)
    table = views.to_array()
    model = make_pipeline(StandardScaler(), RCMLMISARegressor(views=[3, 3], epochs=1, hidden=8))
    assert cross_val_score(model, table, truth, cv=2, error_score="raise").shape == (2,)
    grid = {"rcmlmisaregressor__views": [[3, 3], None], "rcmlmisaregressor__early_stopping": [True]}
    search = GridSearchCV(model, grid, cv=2, error_score="raise").fit(table, truth)
    assert search.best_estimator_[-1].view_names_ in {("view1", "view2"), ("view1",)}


@pytest.mark.parametrize("kind", [RCMLMISARegressor, MISARegressor])
def test_a_callback_may_predict(kind) -> None:
    views, truth = noisy(60)
    seen = []
    model = kind(epochs=2, hidden=8, random_state=0)
    model.fit(views, truth, callback=lambda _: seen.append(model.predict(views)))
    assert [len(scores) for scores in seen] == [60, 60]


def test_it_is_no_misa_regressor() -> None:
    assert not issubclass(RCMLMISARegressor, MISARegressor)
    assert not {"variant", "task_loss"} & set(RCMLMISARegressor().get_params())


def test_without_early_stopping_the_last_epoch_counts() -> None:
    views, truth = noisy(90)
    held = (views.take(np.arange(60, 90)), truth[60:])
    options = {"epochs": 3, "hidden": 8, "random_state": 0, "learning_rate": 0.05}
    for kind in (RCMLMISARegressor, MISARegressor):
        whole = kind(early_stopping=False, **options).fit(views, truth)
        again = kind(patience=1, early_stopping=False, **options).fit(views, truth)
        np.testing.assert_array_equal(whole.predict(views), again.predict(views))
        assert "valid loss" not in whole.history_
        given = kind(early_stopping=False, **options).fit(
            views.take(np.arange(60)), truth[:60], validation=held
        )
        assert len(given.history_["loss"]) == 3


@pytest.mark.parametrize("kind", [RCMLMISARegressor, MISARegressor, MISAClassifier])
def test_the_older_name_of_validation_fraction(kind) -> None:
    views, truth = noisy(60)
    target = truth > 0 if kind is MISAClassifier else truth
    options = {"epochs": 2, "hidden": 8, "random_state": 0}
    with pytest.warns(FutureWarning, match="validation_fraction"):
        older = kind(validation_share=0.3, **options).fit(views, target)
    new = kind(validation_fraction=0.3, **options).fit(views, target)
    np.testing.assert_array_equal(older.predict(views), new.predict(views))
    assert clone(older).validation_share == 0.3
    made = recipe("misa", options=["validation_share=0.25"]).build(0)
    assert (made.validation_share, made.get_params()["validation_fraction"]) == (0.25, 0.15)


def test_it_repeats_and_clones() -> None:
    views, truth = noisy(80)
    model = RCMLMISARegressor(epochs=2, hidden=16, random_state=3)
    first = model.fit(views, truth).predict(views)
    again = clone(model).fit(views, truth).predict(views)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("collectors", ["separate", "tied", "tied-mean", "private"])
@pytest.mark.parametrize("skip", [True, False])
def test_every_way_to_read_the_shared_tokens(collectors, skip) -> None:
    torch.manual_seed(0)
    counts = {"separate": 2, "tied": 2, "tied-mean": 1, "private": 0}
    net = RegressionNet(
        [TableEncoder(3), TableEncoder(2)], hidden=8, sharing=collectors, skip=skip
    ).eval()
    views = [torch.randn(5, 3), torch.randn(5, 2)]
    found = net(views)
    assert found.shared.gamma.shape == (5, counts[collectors])
    both = NIG(*(torch.cat(pair, 1) for pair in zip(found.private, found.shared, strict=True)))
    for a, b in zip(found.fused, fuse_nig(both), strict=True):
        torch.testing.assert_close(a, b)
    # a private opinion is about its own view
    changed = net([views[0], torch.randn(5, 2)])
    for a, b in zip(found.private, changed.private, strict=True):
        torch.testing.assert_close(a[:, 0], b[:, 0])
    assert not torch.equal(found.private.gamma[:, 1], changed.private.gamma[:, 1])


def test_collectors_start_at_the_views_own_readout() -> None:
    torch.manual_seed(0)
    collect = NIGCollectors(views=2, hidden=4, sharing="tied-mean", skip=True)
    projected = torch.randn(2, 3, 4)
    found = collect(torch.randn(4, 3, 4), projected)
    wanted = torch.einsum("nbh,nh->bn", projected, collect.own.weight[..., 0])
    torch.testing.assert_close(found.gamma[:, :2], wanted + collect.own.bias[:, 0, 0])


def test_loss_holds_every_opinion_once() -> None:
    views, truth = noisy(80)
    model = RCMLMISARegressor(
        epochs=1, hidden=16, evidence_penalty=0.0, collectors="separate", random_state=0
    ).fit(views, truth)
    rows = model.readers_.read(views)
    with torch.no_grad():
        output = model.module_(rows(np.arange(80)))
    target = model._target(truth)
    opinions = [output.fused]
    for group in (output.private, output.shared):
        opinions += [NIG(*(part[:, place] for part in group)) for place in range(2)]
    wanted = np.mean([nig_nll(one, target).mean().item() for one in opinions])
    assert model._terms(output, target)["nig"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"coverage": 1.0}, "coverage=1.0"),
        ({"evidence_penalty": -1}, "evidence_penalty=-1"),
        ({"collectors": "tide"}, "tied"),
        ({"penalty_form": "x"}, "penalty_form='x'"),
    ],
)
def test_options_have_limits(options, words) -> None:
    views, truth = noisy(40)
    with pytest.raises(OptionError, match=words):
        RCMLMISARegressor(**options).fit(views, truth)


def test_too_few_rows_for_intervals_and_none_at_all() -> None:
    views, truth = noisy(40)
    few = RCMLMISARegressor(epochs=1, hidden=8).fit(views, truth)
    assert few.predict(views).shape == (40,)
    with pytest.raises(DataError, match="6 validation rows are too few"):
        few.predict_interval(views)
    for options in ({"validation_share": 0.0}, {"early_stopping": False}):
        model = RCMLMISARegressor(epochs=1, hidden=8, random_state=0, **options).fit(views, truth)
        with pytest.raises(DataError, match="intervals need validation rows"):
            model.predict_interval(views)
    with pytest.raises(DataError, match="one number for each"):
        RCMLMISARegressor().fit(views, truth[:3])


def test_one_views_opinion_and_a_table_of_all(fitted) -> None:
    views, _ = noisy(rows=30, seed=2)
    opinion = fitted.predict_opinion(views)
    assert opinion.of("a") is opinion.views["a"]
    with pytest.raises(OptionError, match="there is no view 'c'; choose from a, b"):
        opinion.of("c")
    frame = opinion.to_frame()
    stated = ["score", "scale", "deviation"]
    assert list(frame.columns[:6]) == [*stated, "suspect", "suspect_gain", "a__score"]
    assert list(opinion.to_frame(per_view=False)) == [*stated, "suspect", "suspect_gain"]
    np.testing.assert_array_equal(frame["b__gain"], opinion.view_gains[:, 1])
    np.testing.assert_array_equal(frame["b__scale"], opinion.of("b").scale)


def test_one_row_leaves_nothing_to_train_on() -> None:
    with pytest.raises(DataError, match="leave none to train on"):
        RCMLMISARegressor().fit({"a": [[1.0, 2.0]]}, [1.0])


def read_by_three(rows: int, seed: int):
    """A score that three views read, the third of them badly."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows)
    views = {
        name: np.column_stack([score + noise * rng.normal(size=rows), rng.normal(size=rows)])
        for name, noise in {"a": 0.3, "b": 0.3, "c": 1.0}.items()
    }
    return MultiView(views), score


def with_another_rows(views: MultiView, name: str) -> MultiView:
    return views.replace({name: np.roll(views[name], 1, axis=0)})


@pytest.fixture(scope="module")
def three():
    views, score = read_by_three(700, 0)
    options = {"epochs": 20, "hidden": 32, "batch_size": 32, "random_state": 0}
    return RCMLMISARegressor(calibration_fraction=0.3, **options).fit(views, score)


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_view_of_another_row_is_suspected_and_left_out(three, name) -> None:
    views, score = read_by_three(600, 1)
    clean = three.predict_opinion(views)
    assert (clean.suspect != "").mean() == pytest.approx(0.05, abs=0.04)
    assert clean.suspicion.clear.mean() < 0.03
    bogus = three.predict_opinion(with_another_rows(views, name))
    assert (bogus.suspect != "").mean() > 0.4
    clear, rest = bogus.suspicion.clear, bogus.without_suspect
    assert clear.mean() > 0.1
    assert (bogus.suspect[clear] == name).mean() > 0.75
    errors = [np.abs(one.score - score)[clear].mean() for one in (bogus, rest)]
    assert errors[1] < 0.6 * errors[0]
    np.testing.assert_array_equal(rest.score[~clear], bogus.score[~clear])
    np.testing.assert_array_equal(rest.suspect, bogus.suspect)


def test_rest_is_the_sum_of_the_other_views(three) -> None:
    views, _ = read_by_three(30, 2)
    opinion = three.predict_opinion(views)
    for row in range(30):
        others = [n for i, n in enumerate("abc") if i != opinion.view_gains[row].argmax()]
        nu = np.array([opinion.of(name).nu[row] for name in others])
        scores = np.array([opinion.of(name).score[row] for name in others])
        assert opinion.rest.score[row] == pytest.approx(nu @ scores / nu.sum())
        assert opinion.rest.nu[row] == pytest.approx(nu.sum())


def test_limits_are_set_on_rows_that_calibrate() -> None:
    views, score = read_by_three(160, 3)
    held = (views.take(np.arange(100, 160)), score[100:])
    options = {"epochs": 1, "hidden": 8, "random_state": 0}
    model = RCMLMISARegressor(**options)
    model.fit(views.take(np.arange(100)), score[:100], validation=held)
    largest = model.predict_opinion(held[0]).suspect_gain
    np.testing.assert_allclose(model.suspect_limits_, np.quantile(largest, [0.95, 0.99]), rtol=1e-5)
    assert model.predict_opinion(views).limits == model.suspect_limits_
    model.set_params(early_stopping=False).fit(views, score)  # no rows held out
    assert not hasattr(model, "suspect_limits_")
    assert model.predict_opinion(views).limits == (0.3, 0.5)


def test_excluding_follows_the_rest_also_in_intervals(three) -> None:
    views, _ = read_by_three(400, 4)
    bogus, options = with_another_rows(views, "a"), three.get_params()
    whole, score = read_by_three(700, 0)
    excluding = RCMLMISARegressor(**{**options, "suspect": "exclude"}).fit(whole, score)
    reported, left = (model.predict_opinion(bogus) for model in (three, excluding))
    assert excluding.suspect_limits_ == three.suspect_limits_
    np.testing.assert_array_equal(left.score, reported.without_suspect.score)
    np.testing.assert_array_equal(excluding.predict(bogus), left.score)
    low, high = excluding.predict_interval(bogus)
    np.testing.assert_allclose((low + high) / 2, left.score)
    assert not np.array_equal(left.score, reported.score)


def test_of_two_views_both_are_named_and_none_is_left_out(fitted) -> None:
    views, _ = noisy(200, seed=5)
    opinion = fitted.predict_opinion(with_another_rows(views, "a"))
    assert set(opinion.suspect) == {"", "a|b"}
    assert opinion.without_suspect is opinion


def test_a_missing_view_is_never_suspected(three) -> None:
    views, _ = read_by_three(80, 6)
    a, b = np.array(views["a"]), np.array(views["b"])
    a[:40], b[:20] = np.nan, np.nan
    opinion = three.predict_opinion({"a": a, "b": b, "c": views["c"]})
    assert np.isnan(opinion.view_gains[:40, 0]).all()
    assert (opinion.suspect_gain[:20] == 0).all()  # one view is left
    assert set(opinion.suspect[:20]) == {""}
    assert set(opinion.suspect[20:40]) <= {"", "b|c"}
    assert np.isfinite(opinion.rest.score).all()


def test_one_view_has_no_suspects() -> None:
    views, truth = noisy(60)
    model = RCMLMISARegressor(epochs=1, hidden=8, random_state=0).fit({"a": views["a"]}, truth)
    opinion = model.predict_opinion({"a": views["a"]})
    assert opinion.view_gains is None
    assert not hasattr(model, "suspect_limits_")
    assert "suspect" not in opinion.to_frame()
    assert set(opinion.suspect) == {""}
