"""The view that does not seem to belong to its row: named, left out, saved."""

from __future__ import annotations

import dataclasses
import json
import struct

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rcml_misa
from rcml_misa.estimators import (
    CCMLClassifier,
    ETMCClassifier,
    KernelExpertClassifier,
    MultiViewOpinion,
    RCMLClassifier,
    RCMLMISAClassifier,
    RidgeExpertClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.suspicion import USUAL_LIMITS, suspect_limits
from rcml_misa.exceptions import DataError

# opinions by hand

NAN = np.nan
NAMES = ("a", "b", "c")


def made(gains, *, names=NAMES, limits=(0.1, 0.2), learnt=True, seed=0, **more):
    """Opinions about rows with given gains."""
    gains = np.array(gains, dtype=float)
    rng, rows = np.random.default_rng(seed), len(gains)
    views = {name: rng.exponential(3.0, size=(rows, 3)) for name in names}
    return MultiViewOpinion(
        rng.exponential(5.0, size=(rows, 3)),
        views,
        rng.exponential(size=(rows, 1, 3)),
        rng.random(rows),
        classes=np.array(["x", "y", "z"]),
        present=~np.isnan(gains),
        view_gains=gains,
        rest=rng.exponential(5.0, size=(rows, 3)),
        limits=limits,
        learnt=learnt,
        **more,
    )


def test_the_suspect_is_the_view_of_largest_gain_beyond_the_limit():
    gains = [
        [0.05, 0.09, 0.0],  # no gain beyond the limit
        [0.05, 0.15, 0.0],
        [0.30, 0.05, 0.1],
        [0.30, 0.25, 0.0],  # two that are nearly alike: one of the two
        [0.30, 0.05, 0.27],
        [0.30, 0.24, 0.0],  # exactly 0.8 of the largest is told apart
        [-0.1, -0.2, -0.3],
        [NAN, 0.40, 0.1],
        [NAN, NAN, 0.5],  # the only view of its row
        [NAN, NAN, NAN],
    ]
    opinion = made(gains)
    wanted = ["", "b", "a", "a|b", "a|c", "a", "", "b", "", ""]
    assert opinion.suspect.tolist() == wanted
    largest = [0.09, 0.15, 0.3, 0.3, 0.3, 0.3, -0.1, 0.4, 0.0, 0.0]
    np.testing.assert_array_equal(opinion.suspect_gain, largest)


def test_of_two_views_without_anything_learnt_it_is_one_of_the_two():
    gains = [[0.3, 0.0], [0.0, 0.3], [0.05, 0.0]]
    names = ("face", "voice")
    pair = made(gains, names=names, learnt=False)
    assert pair.suspect.tolist() == ["face|voice", "face|voice", ""]
    assert made(gains, names=names).suspect.tolist() == ["face", "voice", ""]
    # as of three where a row has but two
    some = made([[0.3, NAN, 0.0], [0.3, 0.0, 0.0]], learnt=False)
    assert some.suspect.tolist() == ["a|c", "a"]
    assert pair.without_suspect is pair


def test_one_view_or_no_gains_have_no_suspect():
    single = made([[0.9], [0.9]], names=("a",))
    assert single.suspect.tolist() == ["", ""]
    assert single.suspect_gain.tolist() == [0.0, 0.0]
    assert single.without_suspect is single
    none = dataclasses.replace(made([[0.9, 0.1, 0.1]]), view_gains=None, rest=None)
    assert none.suspect.tolist() == [""]
    assert none.suspect_gain.tolist() == [0.0]
    assert none.without_suspect is none
    assert "suspect" not in none.to_frame().columns


def test_without_a_clear_suspect_follows_the_other_views():
    gains = [[0.15, 0.0, 0.0], [0.0, 0.5, 0.1], [0.5, 0.45, 0.0], [NAN, 0.0, 0.3]]
    rng = np.random.default_rng(3)
    calibrated, other = rng.dirichlet(np.ones(3), size=(2, 4))
    opinion = made(gains, calibrated=calibrated, calibrated_rest=other)
    left = opinion.without_suspect
    clear = [1, 3]  # the first is not clear enough, the third one of two
    for name, new in (("evidence", opinion.rest), ("calibrated", other)):
        wanted = getattr(opinion, name).copy()
        wanted[clear] = new[clear]
        np.testing.assert_array_equal(getattr(left, name), wanted)
    present = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 1, 0]], dtype=bool)
    np.testing.assert_array_equal(left.present, present)
    assert left.predicted[clear].tolist() == opinion.classes[other.argmax(axis=1)][clear].tolist()
    pair = opinion.pairwise_conflict[1, 0, 2]
    np.testing.assert_allclose(left.conflict[[1, 3]], [pair, 0.0])
    np.testing.assert_array_equal(left.conflict[[0, 2]], opinion.conflict[[0, 2]])
    assert left.suspect.tolist() == opinion.suspect.tolist() == ["a", "b", "a|b", "c"]
    np.testing.assert_array_equal(left.view_gains, opinion.view_gains)
    frame = left.to_frame()
    assert frame["b__class"].isna().tolist() == [False, True, False, False]
    plain = dataclasses.replace(opinion, calibrated=None, calibrated_rest=None).without_suspect
    np.testing.assert_array_equal(plain.probability, plain.projected_probability)


def test_opinions_about_blocks_are_joined_with_their_suspects():
    rng = np.random.default_rng(0)
    calibrated = rng.dirichlet(np.ones(3), size=6)
    whole = made(
        rng.normal(0.1, 0.3, size=(6, 3)),
        calibrated=calibrated,
        calibrated_rest=calibrated[::-1].copy(),
        familiarity=rng.random(6),
    )
    parts = []
    for rows in (slice(0, 2), slice(2, 6)):
        parts.append(
            dataclasses.replace(
                whole,
                views={name: part[rows] for name, part in whole.views.items()},
                **{
                    name: getattr(whole, name)[rows]
                    for name in (
                        *("evidence", "shared", "conflict", "present", "calibrated"),
                        *("view_gains", "rest", "calibrated_rest", "familiarity"),
                    )
                },
            )
        )
    joined = MultiViewOpinion.concatenate(parts)
    pd.testing.assert_frame_equal(joined.to_frame(), whole.to_frame())
    pd.testing.assert_frame_equal(
        joined.without_suspect.to_frame(), whole.without_suspect.to_frame()
    )
    assert (joined.limits, joined.learnt) == (whole.limits, whole.learnt)
    np.testing.assert_array_equal(joined.familiarity, whole.familiarity)


def test_limits_are_quantiles_of_the_largest_gains_of_new_rows():
    rng = np.random.default_rng(0)
    gains = rng.normal(size=(400, 3))
    gains[:50, 0] = NAN
    gains[50:80, 1:] = NAN  # rows of a single view do not count
    largest = [max(row[~np.isnan(row)]) for row in np.delete(gains, range(50, 80), axis=0)]
    wanted = np.quantile(largest, [0.95, 0.99])
    np.testing.assert_allclose(suspect_limits(gains), wanted)
    assert suspect_limits(-np.abs(gains)) == (0.0, 0.0)
    assert suspect_limits(gains[:, :1]) == USUAL_LIMITS
    assert suspect_limits(gains[50:80]) == USUAL_LIMITS


@given(seed=st.integers(0, 999), views=st.integers(2, 5), learnt=st.booleans())
@settings(deadline=None, max_examples=40, derandomize=True)
def test_suspects_do_not_depend_on_the_order_of_views(seed, views, learnt):
    rng = np.random.default_rng(seed)
    gains = rng.normal(0.1, 0.3, size=(9, views))
    gains[rng.random(gains.shape) < 0.2] = NAN
    names = [f"v{place}" for place in range(views)]
    order = rng.permutation(views)
    opinion = made(gains, names=names, learnt=learnt)
    moved = made(gains[:, order], names=[names[place] for place in order], learnt=learnt)
    for found, wanted in zip(moved.suspect, opinion.suspect, strict=True):
        assert set(found.split("|")) == set(wanted.split("|"))
    np.testing.assert_array_equal(moved.suspect_gain, opinion.suspect_gain)


# fitted classifiers


def problem(rows=150, *, seed=0, views=3):
    """Classes well apart in each of several views."""
    fixed = np.random.default_rng(11)
    means = [3 * fixed.normal(size=(3, width)) for width in (4, 5, 3)[:views]]
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=rows)
    X = {
        name: mean[y] + rng.normal(size=(rows, mean.shape[1]))
        for name, mean in zip(NAMES, means, strict=False)
    }
    return X, np.array(["ant", "bee", "cat"])[y]


def with_steps(X):
    """The second view as steps of a sequence."""
    return {**X, "b": np.stack([X["b"], X["b"] / 2], axis=1)}


def with_words(X):
    """The second view as words, one for each column."""
    bins = np.digitize(X["b"], [-2, 0, 2])
    return {**X, "b": [" ".join(f"w{k}x{value}" for k, value in enumerate(row)) for row in bins]}


PUBLISHED = {"epochs": 60, "learning_rate": 0.03, "device": "cpu", "random_state": 0}
TINY = {
    "epochs": 3,
    "hidden": 8,
    "feedforward": 8,
    "encoder_width": 16,
    "networks": 2,
    "sequence_hidden": 4,
    "text_encoder": "words",
    "device": "cpu",
    "random_state": 0,
}
LONGER = TINY | {"epochs": 12}
LEARNT = {
    "kernel-expert": lambda **more: KernelExpertClassifier(random_state=0, **more),
    "ridge-expert": lambda **more: RidgeExpertClassifier(random_state=0, **more),
    "rcml-misa": lambda **more: RCMLMISAClassifier(**TINY | more),
    "rcml-misa-none": lambda **more: RCMLMISAClassifier(expert="none", **LONGER | more),
    "rcml-misa-sequences": lambda **more: RCMLMISAClassifier(**LONGER | more),
    "rcml-misa-texts": lambda **more: RCMLMISAClassifier(**LONGER | more),
}
PEERS = {
    "rcml": lambda **more: RCMLClassifier(**PUBLISHED | more),
    "tmc": lambda **more: TMCClassifier(**PUBLISHED | more),
    "etmc": lambda **more: ETMCClassifier(**PUBLISHED | more),
    "ccml": lambda **more: CCMLClassifier(**PUBLISHED | more),
}
MAKERS = LEARNT | PEERS
FORMS = {"rcml-misa-sequences": with_steps, "rcml-misa-texts": with_words}
every = pytest.mark.parametrize("name", MAKERS)
learning = pytest.mark.parametrize("name", LEARNT)
published = pytest.mark.parametrize("name", PEERS)


def shaped(name, X):
    return FORMS.get(name, dict)(X)


def without(X, view):
    """The same rows without a view."""
    return {name: table for name, table in X.items() if name != view}


@pytest.fixture(scope="module")
def fitted():
    """Every kind of classifier, fitted once, when it is asked for."""
    models = {}

    def make(name):
        if name not in models:
            networks = name in FORMS or name.endswith("none")
            X, y = problem(450 if networks else 150)
            models[name] = MAKERS[name]().fit(shaped(name, X), y)
        return models[name]

    return make


@every
def test_gains_and_suspects_have_a_place_for_each_view(fitted, name):
    model = fitted(name)
    X = shaped(name, problem(40, seed=1)[0])
    opinion = model.predict_opinion(X)
    assert opinion.view_gains.shape == (40, 3)
    assert opinion.rest.shape == (40, 3)
    assert np.isfinite(opinion.view_gains).all()
    assert opinion.suspect_gain.shape == opinion.suspect.shape == (40,)
    np.testing.assert_array_equal(opinion.suspect_gain, opinion.view_gains.max(axis=1))
    assert opinion.learnt == (name in LEARNT)
    assert set(opinion.suspect) <= {"", *NAMES, "a|b", "a|c", "b|c"}
    assert (opinion.suspect == "").mean() > 0.7
    frame = opinion.to_frame()
    assert frame["suspect"].tolist() == opinion.suspect.tolist()
    gone = model.predict_opinion(without(X, "c"))
    assert np.isnan(gone.view_gains[:, 2]).all()
    assert np.isfinite(gone.view_gains[:, :2]).all()
    if name in PEERS:  # of two views nobody can tell which one lies
        assert set(gone.suspect) <= {"", "a|b"}
    if name in FORMS:  # an empty text is a text
        return
    lone = model.predict_opinion({"a": X["a"]})
    assert (lone.suspect == "").all()
    assert (lone.suspect_gain <= 0).all()
    assert lone.without_suspect is lone


@published
def test_gains_of_the_published_methods_are_falls_of_the_uncertainty(fitted, name):
    model = fitted(name)
    X, _ = problem(40, seed=1)
    X["b"] = np.roll(X["b"], 1, axis=0)
    whole = model.predict_opinion(X)
    rests = [model.predict_opinion(without(X, view)) for view in X]
    wanted = np.stack([whole.uncertainty - rest.uncertainty for rest in rests], axis=1)
    np.testing.assert_allclose(whole.view_gains, wanted, atol=1e-5)
    best = wanted.argmax(axis=1)
    evidence = np.stack([rest.evidence for rest in rests])[best, np.arange(40)]
    np.testing.assert_allclose(whole.rest, evidence, rtol=1e-4, atol=1e-4)
    assert whole.limits == USUAL_LIMITS
    single = model.predict_opinion({"a": X["a"]})
    np.testing.assert_array_equal(single.view_gains[:, 0], -1.0)


@learning
def test_gains_are_the_posterior_times_the_belief_of_the_others(fitted, name):
    model = fitted(name)
    views = model._check_rows(shaped(name, problem(40, seed=1)[0]))
    if model.__dict__.get("experts_") is None:
        logits = model._network_logits(*model._states(views), views)
    else:
        logits = model.experts_.logits(views)
        if getattr(model, "share_", 0):
            pytest.skip("the networks have a share")
    posterior = model.membership_(views, logits.witness).posterior
    opinion = model.predict_opinion(views)
    belief = opinion.view_gains / posterior[:, 1:]
    assert ((belief >= 0) & (belief < 1)).all()
    assert belief.mean() > 0.2


@pytest.mark.parametrize("name", ["kernel-expert", "ridge-expert", "rcml-misa", "rcml-misa-none"])
@pytest.mark.parametrize("place", range(3))
def test_a_view_of_another_row_is_named(fitted, name, place):
    model, view = fitted(name), NAMES[place]
    X, y = problem(200, seed=2)
    X[view] = np.roll(X[view], 1, axis=0)
    other = y != np.roll(y, 1)
    opinion = model.predict_opinion(X)
    named = opinion.suspect[other]
    assert np.mean([view in found.split("|") for found in named]) > 0.85
    assert np.mean(named == view) > 0.75
    assert (opinion.predicted == y)[other].mean() > 0.9
    left = opinion.without_suspect
    assert (left.predicted == y)[other].mean() > 0.9
    dropped = opinion.present & ~left.present
    assert dropped[other, place].mean() > 0.5
    assert dropped[other].sum(axis=1).max() == 1
    assert left.uncertainty[dropped[:, place]].mean() < opinion.uncertainty[other].mean()


@pytest.mark.parametrize("name", ["rcml-misa-sequences", "rcml-misa-texts"])
def test_sequences_and_texts_that_do_not_belong_are_named(fitted, name):
    model = fitted(name)
    X, y = problem(120, seed=2)
    for view in ("a", "b"):
        moved = shaped(name, {**X, view: np.roll(X[view], 1, axis=0)})
        other = y != np.roll(y, 1)
        named = model.predict_opinion(moved).suspect[other]
        assert np.mean([view in found.split("|") for found in named]) > 0.6


@pytest.mark.parametrize("name", LEARNT)
def test_few_clean_rows_have_a_suspect(fitted, name):
    model = fitted(name)
    opinion = model.predict_opinion(shaped(name, problem(300, seed=4)[0]))
    assert 0 < model.suspect_limits_[0] <= model.suspect_limits_[1] < 1
    assert opinion.limits == model.suspect_limits_
    assert (opinion.suspect != "").mean() < 0.2


@pytest.mark.parametrize("name", ["kernel-expert", "ridge-expert"])
def test_limits_are_those_of_the_train_rows_as_if_they_were_new(fitted, name):
    model = fitted(name)
    logits = model.experts_.train_logits_
    gains = model._fuse(logits, model.membership_.train_standing_).gains.numpy()
    assert model.suspect_limits_ == suspect_limits(gains)


@published
def test_limits_of_the_published_methods_are_set_on_rows_apart(name):
    X, y = problem()
    model = MAKERS[name](epochs=5, calibration_fraction=0.3).fit(X, y)
    assert model.suspect_limits_ != USUAL_LIMITS
    assert model.predict_opinion(X).limits == model.suspect_limits_
    model.set_params(calibration_fraction=0.0).fit(X, y)
    assert not hasattr(model, "suspect_limits_")
    assert model.predict_opinion(X).limits == USUAL_LIMITS


@pytest.mark.parametrize("name", ["kernel-expert", "ridge-expert", "rcml-misa"])
def test_excluding_answers_without_the_suspect(fitted, name):
    model = fitted(name)
    X, _ = problem(100, seed=2)
    X["a"] = np.roll(X["a"], 1, axis=0)
    reported = model.predict_opinion(X)
    wanted = reported.without_suspect
    assert not np.array_equal(wanted.evidence, reported.evidence)
    try:
        model.set_params(suspect="exclude")
        found = model.predict_opinion(X)
        pd.testing.assert_frame_equal(found.to_frame(), wanted.to_frame())
        np.testing.assert_array_equal(found.evidence, wanted.evidence)
        np.testing.assert_array_equal(model.predict(X), wanted.predicted)
        np.testing.assert_allclose(model.predict_proba(X), wanted.probability, rtol=1e-6)
    finally:
        model.set_params(suspect="report")
    np.testing.assert_array_equal(model.predict(X), reported.predicted)


@every
def test_two_views(name):
    X, y = problem(450 if name in FORMS or name.endswith("none") else 150, views=2)
    model = MAKERS[name](**({"epochs": 12} if name in PEERS else {})).fit(shaped(name, X), y)
    new, truth = problem(100, seed=3, views=2)
    new["b"] = np.roll(new["b"], 1, axis=0)
    other = truth != np.roll(truth, 1)
    opinion = model.predict_opinion(shaped(name, new))
    assert set(opinion.suspect) <= ({"", "a", "b", "a|b"} if name in LEARNT else {"", "a|b"})
    if name in LEARNT:
        assert (opinion.suspect[other] != "").mean() > 0.5
    else:
        assert opinion.without_suspect is opinion


@every
def test_blocks_of_rows_change_no_suspect(fitted, name, monkeypatch):
    model = fitted(name)
    X, _ = problem(60, seed=2)
    X["a"] = np.roll(X["a"], 1, axis=0)
    rows = shaped(name, X)
    whole = model.predict_opinion(rows)
    monkeypatch.setattr("rcml_misa.estimators.base.BLOCK", 17)
    parts = model.predict_opinion(rows)
    np.testing.assert_allclose(parts.view_gains, whole.view_gains, rtol=1e-3, atol=1e-5)
    assert (parts.suspect == whole.suspect).mean() > 0.98


# files


@every
def test_a_file_keeps_the_suspects_bit_for_bit(fitted, name, tmp_path):
    model = fitted(name)
    X, _ = problem(60, seed=2)
    X["a"] = np.roll(X["a"], 1, axis=0)
    X["c"][::4] = NAN
    rows = shaped(name, X)
    wanted = model.predict_opinion(rows)
    model.save(tmp_path / "model.rcml")
    again = rcml_misa.load(tmp_path / "model.rcml")
    found = again.predict_opinion(rows)
    assert found.suspect.tolist() == wanted.suspect.tolist()
    for part in ("view_gains", "rest", "evidence", "probability", "calibrated_rest", "familiarity"):
        if getattr(wanted, part) is not None:
            np.testing.assert_array_equal(getattr(found, part), getattr(wanted, part))
    assert (found.limits, found.learnt) == (wanted.limits, wanted.learnt)
    if name in LEARNT:
        views = model._check_rows(rows)
        witness = np.full((60, 3, 3), 1 / 3)
        for mine, theirs in zip(
            again.membership_(views, witness), model.membership_(views, witness), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)
        assert not hasattr(again.membership_, "train_standing_")


@pytest.mark.parametrize("name", ["kernel-expert", "ridge-expert", "rcml-misa", "rcml-misa-none"])
def test_files_of_versions_that_knew_no_membership_are_refused(fitted, name, tmp_path):
    path = tmp_path / "model.rcml"
    fitted(name).save(path)
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    about = json.loads(header["__metadata__"]["rcml-misa"])
    del about["attributes"]["membership_"], about["sha256"]
    about["format_version"] = 2
    about["versions"]["rcml-misa"] = "0.1.0"
    header["__metadata__"]["rcml-misa"] = json.dumps(about)
    old = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(old)) + old + content[8 + size :])
    with pytest.raises(DataError, match=r"no membership_, since rcml-misa 0\.1\.0") as caught:
        rcml_misa.load(path)
    assert "fit it again" in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 300
