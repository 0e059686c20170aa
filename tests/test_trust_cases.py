"""Lying views, rows that are far off and huge cells, from data to answer, in small."""

from __future__ import annotations

from functools import cache
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.metrics import roc_auc_score

from rcml_misa.cli import main
from rcml_misa.estimators import (
    KernelExpertClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
)
from rcml_misa.experts.gaussians import ViewGaussians

WIDTHS = {"vib": 8, "temp": 5, "elec": 6, "proc": 7}
NAMES = np.array(list(WIDTHS))


@cache
def sensors():
    """500 train rows, 1000 clean rows, and these with 300 lying groups; labels and liars."""
    rng = np.random.default_rng(3)
    means = {name: 0.7 * rng.normal(size=(4, width)) for name, width in WIDTHS.items()}

    def rows(count):
        y = rng.integers(4, size=count)
        common = rng.normal(0, 0.5, size=(count, 1))
        return {
            n: m[y] + common + rng.normal(size=(count, m.shape[1])) for n, m in means.items()
        }, y

    (train, labels), (clean, target) = rows(500), rows(1000)
    said = {name: table.copy() for name, table in clean.items()}
    liar = np.full(1000, "", dtype="U8")
    liar[:300] = rng.choice(NAMES, 300)
    for row in range(300):
        name = liar[row]
        if row % 2:
            said[name][row] = rng.normal(0, 3, size=WIDTHS[name])
        else:
            said[name][row] = clean[name][rng.choice(np.flatnonzero(target != target[row]))]
    return train, labels, clean, target, said, liar


@cache
def fitted(kind=RidgeExpertClassifier):
    train, labels, *_ = sensors()
    return kind(random_state=0).fit(train, labels)


def test_gains_detect_rows_with_a_liar_and_name_it():
    _, _, clean, target, said, liar = sensors()
    opinion, usual = fitted().predict_opinion(said), fitted().predict_opinion(clean)
    bad = liar != ""
    assert roc_auc_score(bad, opinion.suspect_gain) >= 0.8
    assert (NAMES[opinion.view_gains.argmax(axis=1)] == liar)[bad].mean() >= 0.7
    assert (opinion.suspect == liar)[bad].mean() >= 0.45
    assert 0.02 <= (usual.suspect != "").mean() <= 0.1
    right = (usual.predicted == target).mean(), (usual.without_suspect.predicted == target).mean()
    assert right[1] >= right[0] - 0.005


@pytest.mark.parametrize("name", WIDTHS)
def test_a_shifted_group_is_named_in_every_row(name):
    _, _, clean, target, _, _ = sensors()
    shifted = {**clean, name: clean[name] + 5 * clean[name].std(axis=0)}
    usual, opinion = fitted().predict_opinion(clean), fitted().predict_opinion(shifted)
    absent = fitted().predict_opinion({**clean, name: None})
    assert (opinion.suspect == name).all()
    assert opinion.uncertainty.mean() > usual.uncertainty.mean() + 0.05
    excluded = (opinion.without_suspect.predicted == target).mean()
    assert abs(excluded - (absent.predicted == target).mean()) <= 0.03


@pytest.mark.parametrize("value", [1e30, -3.4028235e38, 1e60, 1e308])
def test_a_finite_row_of_any_size_gets_a_finite_and_uncertain_answer(value):
    clean = sensors()[2]
    far = {name: table[:1].copy() for name, table in clean.items()}
    far["temp"][0, 1] = value
    for kind in (RidgeExpertClassifier, KernelExpertClassifier):
        model = fitted(kind)
        opinion = model.predict_opinion(far)
        usual = model.predict_opinion({name: table[:1] for name, table in clean.items()})
        assert np.isfinite(opinion.evidence).all()
        assert opinion.probability.sum() == pytest.approx(1)
        assert opinion.uncertainty[0] > usual.uncertainty[0]
        assert opinion.suspect.tolist() == ["temp"]


@pytest.mark.parametrize("sure", [True, False])
def test_predict_refuses_the_row_with_a_huge_cell(tmp_path, sure):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 20)
    table = pd.DataFrame(3 * np.eye(3)[y] @ rng.normal(size=(3, 7)) + rng.normal(size=(60, 7)))
    views = {"a": table[[0, 1, 2, 3]].to_numpy(), "b": table[[4, 5, 6]].to_numpy()}
    table.columns = [f"a__{k}" for k in range(4)] + [f"b__{k}" for k in range(3)]
    kind = RCMLMISAClassifier if sure else RCMLClassifier
    model = kind(epochs=2, random_state=0).fit(views, np.array(["x", "y", "z"])[y])
    model.save(tmp_path / "m.rcml")
    table.iloc[0] = 1e300
    table.to_csv(tmp_path / "new.csv", index=False)
    files = [str(tmp_path / "m.rcml"), str(tmp_path / "new.csv")]
    result = CliRunner().invoke(main, ["predict", *files, "--reject-above", "0.9"])
    assert result.exit_code == 0, result.output
    answers = pd.read_csv(StringIO(result.stdout))
    assert np.isfinite(answers[["probability", "uncertainty"]].to_numpy()).all()
    if sure:  # a row that no train row is near to is refused, others are not
        assert answers.refused.tolist() == [True] + [False] * 59


# what membership rests on


def test_ratios_are_those_of_the_normal_densities():
    """Against scipy.stats, of rows that have all views and of rows that lack one."""
    rng = np.random.default_rng(1)
    n, widths, classes = 40, (2, 3, 1), 3
    mixing = rng.normal(size=(6, 6))
    codes = rng.integers(classes, size=200)
    values = 2 * rng.normal(size=(classes, 6))[codes] + rng.normal(size=(200, 6)) @ mixing
    cut = np.cumsum(widths)[:-1]
    model = ViewGaussians.fit(np.split(values, cut, axis=1), codes, np.ones((200, 3), bool), 3)
    present = np.ones((n, 3), dtype=bool)
    present[::2, 1] = False
    new = values[:n].copy()
    new[::2, 2:5] = 0
    others = np.log(rng.dirichlet(np.ones(classes), size=(n, 3)))
    columns = np.split(np.arange(6), cut)

    def logs(row, some):
        at = np.concatenate([columns[view] for view in some])
        each = [
            multivariate_normal(mean[at], model.covariance[np.ix_(at, at)]).logpdf(new[row, at])
            for mean in model.means
        ]
        return np.array(each)

    for _ in range(2):  # the second time from what was kept
        ratio, distance = model(np.split(new, cut, axis=1), others, present)
        for row, view in np.ndindex(n, 3):
            if not present[row, view]:
                assert ratio[row, view] == distance[row, view] == 0
                continue
            some = np.flatnonzero(present[row])
            rest = some[some != view]
            alone = logsumexp(logs(row, [view]) + np.log(model.prior))
            given = logsumexp(others[row, view] + logs(row, some) - logs(row, rest))
            assert ratio[row, view] == pytest.approx(alone - given, abs=1e-6)


def test_coefficients_are_at_the_optimum(monkeypatch):
    """The gradient that is handed to the optimiser is that of the loss."""
    from rcml_misa.experts import membership

    seen = []

    def watched(function, start, **options):
        point = start + 0.1 * np.arange(len(start))
        gradient = function(point)[1]
        for place in range(len(start)):
            step = 1e-5 * np.eye(len(start))[place]
            slope = (function(point + step)[0] - function(point - step)[0]) / 2e-5
            seen.append((slope, gradient[place]))
        return plain(function, start, **options)

    plain = membership.minimize
    monkeypatch.setattr(membership, "minimize", watched)
    train, labels, *_ = sensors()
    RidgeExpertClassifier(random_state=0).fit(train, labels)
    slopes, gradients = np.array(seen).T
    np.testing.assert_allclose(gradients, slopes, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_views_that_hardly_any_row_has():
    """Where each fold holds the only row with some view, there is no fold to learn from."""
    rng = np.random.default_rng(5)
    y = np.arange(10) % 2
    views = {name: rng.normal(size=(10, 3)) + y[:, None] for name in "abcdefghijk"}
    for row, name in enumerate("abcdefghij"):
        views[name][np.arange(10) != row] = np.nan
    model = RidgeExpertClassifier(random_state=0).fit(views, y)
    assert np.isfinite(model.predict_opinion(views).evidence).all()


@pytest.mark.filterwarnings("error")
def test_a_constant_view():
    train, labels, *_ = sensors()
    views = {"vib": train["vib"], "temp": np.ones((500, 3)), "proc": train["proc"]}
    opinion = RidgeExpertClassifier(random_state=0).fit(views, labels).predict_opinion(views)
    assert np.isfinite(opinion.evidence).all()
