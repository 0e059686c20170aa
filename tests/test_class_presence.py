"""Views whose presence tells the class: the rule, what every classifier does, what is said."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import fisher_exact
from sklearn.base import is_classifier
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import rcml_misa
from rcml_misa import estimators
from rcml_misa.cli import main
from rcml_misa.datasets.files.check import check_file
from rcml_misa.datasets.files.content import OwnFile
from rcml_misa.datasets.files.layout import FileLayout
from rcml_misa.estimators import (
    KernelExpertClassifier,
    RidgeExpertClassifier,
    TMCClassifier,
)
from rcml_misa.estimators.published import EpochTrainer
from rcml_misa.exceptions import DataError, PresenceWarning
from rcml_misa.persistence.container import read_file, write_file
from rcml_misa.views import (
    MultiView,
    Sequences,
    Texts,
    TokenTexts,
    constant_views,
    judge_presence,
    presence_by_class,
)

SMALL = {
    "epochs": 40,
    "hidden": 8,
    "encoder_width": 16,
    "feedforward": 16,
    "batch_size": 50,
    "networks": 1,
    "rounds": 10,
    "trees": 20,
    "device": "cpu",
    "random_state": 0,
}
CLASSIFIERS = [
    name
    for name in estimators.__all__
    if isinstance(kind := getattr(estimators, name), type)
    and issubclass(kind, estimators.MultiViewClassifier)
    and hasattr(kind, "fit")
]


def made(name, **more):
    """A small version of a classifier."""
    model = getattr(estimators, name)()
    if isinstance(model, EpochTrainer):  # in few epochs, and from weights that are not all dead
        # the accuracy of NotesClassifier is .91 to .99 by the seed
        epochs, seed = (40, 1) if name == "NotesClassifier" else (120, 3)
        more = {"learning_rate": 0.01, "random_state": seed, "epochs": epochs} | more
    if name == "EnsembleDirichletClassifier":
        more = {"networks": 2} | more
    wanted = {
        key: value
        for key, value in (SMALL | more).items()
        if key in model.get_params() and not isinstance(model.get_params()[key], tuple)
    }
    return model.set_params(**wanted)


def problem(share=(1, 0, 0), *, rows=450, seed=0):
    """Two views of three classes; a share of each class's rows has view a."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    a = rng.normal(size=(rows, 6)) + 2 * np.eye(3)[y] @ rng.normal(size=(3, 6))
    b = rng.normal(size=(rows, 4)) + 1.5 * np.eye(3)[y] @ rng.normal(size=(3, 4))
    given_ = rng.random(rows) < np.array(share)[y]
    return a, b, np.where(given_[:, None], a, np.nan), y


# the rule


@given(seed=st.integers(0, 2**32), classes=st.integers(2, 70), share=st.floats(0.02, 0.98))
@settings(deadline=None, max_examples=150)
def test_chance_never_speaks(seed, classes, share):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(classes), rng.integers(1, 20, size=classes))
    present = rng.random((len(codes), 3)) < share
    for verdict in presence_by_class(present, codes):
        assert not verdict.tells
        assert not verdict.marked.size


def test_five_percent_missing_in_many_small_classes():
    codes = np.repeat(np.arange(68), 8)
    for seed in range(100):
        present = np.random.default_rng(seed).random((len(codes), 3)) > 0.05
        assert not any(verdict.marked.size for verdict in presence_by_class(present, codes))


@given(classes=st.integers(2, 30), rows=st.integers(12, 60), most=st.integers(0, 2), data=st.data())
@settings(deadline=None, max_examples=60)
def test_a_view_of_one_class_alone_tells_it(classes, rows, most, data):
    codes = np.repeat(np.arange(classes), rows)
    ill = data.draw(st.integers(0, classes - 1))
    present = codes == ill
    for code in set(range(classes)) - {ill}:
        present[np.flatnonzero(codes == code)[: min(most, int(0.02 * rows))]] = True
    order = np.random.default_rng(rows).permutation(len(codes))
    (verdict,) = presence_by_class(present[order, None], codes[order])
    assert verdict.tells
    assert verdict.marked.tolist() == [code for code in range(classes) if code != ill]
    if not most and classes > 2:
        assert verdict.having.tolist() == [rows * (code == ill) for code in range(classes)]


def test_two_classes_are_fishers_exact_test():
    for rows, having in ((12, 6), (14, 8), (40, 12), (9, 9)):
        codes = np.repeat([0, 1], rows)
        present = np.concatenate([np.arange(rows) < having, np.zeros(rows, bool)])[:, None]
        (verdict,) = presence_by_class(present, codes)
        table = [[0, rows], [having, rows - having]]
        p = fisher_exact(table, alternative="less").pvalue
        # two classes, and two sets of one class
        assert verdict.tells == (4 * p <= 1e-4)
        if verdict.tells:
            assert verdict.log_p == pytest.approx(np.log(4 * p))


def test_too_few_rows_exclude_no_chance():
    codes = np.repeat([0, 1, 2], [200, 200, 4])
    present = (np.arange(404) % 2 == 0) & (codes < 2)
    assert not presence_by_class(present[:, None], codes)[0].tells
    small = np.repeat([0, 1], 5)
    assert not presence_by_class((small == 0)[:, None], small)[0].tells


def test_a_share_of_each_class_and_a_milder_dependence():
    for share, verdicts in {(0.6, 0.6, 0.6): [], (0.9, 0.05, 0.05): ["used"]}.items():
        _, b, given_, y = problem(share, rows=300)
        found = judge_presence(MultiView({"a": given_, "b": b}), y)
        assert [each.verdict for each in found] == verdicts
    a, b, _, y = problem(rows=30_000)
    a[np.random.default_rng(0).random(30_000) < 0.3 + 0.02 * (y == 1)] = np.nan
    assert judge_presence(MultiView({"a": a, "b": b}), y) == ()  # sure, but small


def test_a_class_of_few_rows_costs_no_view():
    codes = np.repeat(np.arange(20), 20)
    a = np.where(codes[:, None] == 7, np.nan, 1.0)
    (found,) = judge_presence(MultiView({"a": a, "b": np.ones((400, 1))}), codes)
    assert found.counts.tells
    assert found.counts.marked.tolist() == [7]
    assert found.verdict == "used"


def test_at_least_one_view_stays():
    codes = np.repeat([0, 1, 2], 30)
    first, second = (np.where(mask[:, None], 1.0, np.nan) for mask in (codes == 0, codes > 0))
    found = judge_presence(MultiView({"a": first, "b": second}), codes)
    assert [each.verdict for each in found] == ["no other view"] * 2
    assert "stays" in found[0].consequence
    with pytest.warns(PresenceWarning, match="the view stays"):
        model = KernelExpertClassifier().fit({"a": first, "b": second}, codes)
    assert model.set_aside_ == ()
    (found,) = judge_presence(MultiView({"a": first}).replace({}), np.repeat([0, 1, 2], 30))
    assert found.verdict == "no other view"


def test_words_are_short():
    labels = [f"a very long name of a class {n}" for n in range(70)]
    codes = np.repeat(np.arange(70), 20)
    name = "a very long name of a view " * 4
    views = MultiView({name: np.where(codes[:, None] == 5, 1.0, np.nan), "b": np.ones((1400, 1))})
    (found,) = judge_presence(views, codes)
    text = f"{found.describe(labels)}. {found.consequence}"
    assert len(text) <= 300
    assert "69 classes" in text
    assert "0 of 1380 rows" in text


# constants


@pytest.mark.parametrize("form", [np.asarray, csr_array])
def test_constants_do_not_depend_on_the_view(form):
    table = np.array([[1.0, 2.0], [np.nan, np.nan], [5.0, 6.0]])
    views = MultiView({"a": form(table), "b": [[1.0], [2.0], [np.nan]]})
    found = constant_views(views, ["a"])
    np.testing.assert_array_equal(found.to_array()[:, :2], [[0, 0], [0, 0], [np.nan, np.nan]])
    assert found.kinds == views.kinds
    assert found.present.any(axis=1).tolist() == [True, True, False]
    assert constant_views(views, []) is views


def test_constants_of_sequences_and_texts():
    views = MultiView(
        {
            "s": Sequences(np.ones((2, 3, 2)), [2, 3]),
            "t": ["yes", ""],
            "k": TokenTexts(["so", "no good"], [[1, 5, 2], [1, 6, 7, 2]]),
            "b": np.ones((2, 1)),
        }
    )
    found = constant_views(views, ["s", "t", "k"])
    assert found["s"].values.tolist() == [[[0, 0]]] * 2
    assert found["t"].values == ("", "")
    assert [ids.tolist() for ids in found["k"].tokens] == [[1, 2], [1, 2]]


def test_empty_texts_and_zero_steps_are_missing():
    codes = np.arange(60) % 3
    texts = Texts(["ill" if code == 0 else " " for code in codes])
    steps = Sequences(np.where(codes[:, None, None] == 0, np.ones((60, 1, 2)), 0.0))
    views = MultiView({"t": texts, "s": steps, "b": np.ones((60, 1))})
    assert [each.view for each in judge_presence(views, codes)] == ["t", "s"]


# classifiers


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_no_classifier_is_ruined(name):
    a, b, given_, y = problem()
    train, test = slice(0, 150), slice(150, None)
    lda = LinearDiscriminantAnalysis().fit(b[train], y[train]).score(b[test], y[test])
    with pytest.warns(PresenceWarning, match=r"view a .* 2 classes \(1, 2\).*set aside"):
        model = made(name).fit({"a": given_[train], "b": b[train]}, y[train])
    assert model.set_aside_ == ("a",)
    whole = {"a": a[test], "b": b[test]}
    without = made(name).fit({"b": b[train]}, y[train]).score({"b": b[test]}, y[test])
    assert model.score(whole, y[test]) >= max(0.85, min(lda - 0.02, without - 0.03))
    for other in ({"b": b[test]}, {"a": given_[test], "b": b[test]}):
        np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(whole))


def test_our_own_reach_the_complete_view():
    a, b, given_, y = problem()
    train, test = slice(0, 150), slice(150, None)
    lda = LinearDiscriminantAnalysis().fit(b[train], y[train]).score(b[test], y[test])
    for name in ("RCMLMISAClassifier", "KernelExpertClassifier", "RidgeExpertClassifier"):
        with pytest.warns(PresenceWarning):
            model = made(name).fit({"a": given_[train], "b": b[train]}, y[train])
        assert model.score({"a": a[test], "b": b[test]}, y[test]) >= lda - 0.015


@pytest.mark.parametrize("share", [(0.9, 0.05, 0.05), (0.6, 0.6, 0.6)])
def test_a_view_that_every_class_has_is_used(share):
    a, b, given_, y = problem(share)
    with warnings.catch_warnings():
        warnings.simplefilter("error" if share[0] == 0.6 else "ignore")
        model = KernelExpertClassifier(random_state=0).fit(
            {"a": given_[:150], "b": b[:150]}, y[:150]
        )
    assert model.set_aside_ == ()
    assert "set_aside_" not in vars(model)
    assert model.score({"a": a[150:], "b": b[150:]}, y[150:]) >= 0.98


@pytest.mark.parametrize("kind", [KernelExpertClassifier, TMCClassifier])
def test_a_view_set_aside_has_no_opinion(kind):
    a, b, given_, y = problem(rows=120)
    with pytest.warns(PresenceWarning):
        model = made(kind.__name__).fit({"a": given_, "b": b}, np.where(y == 2, 1, y))
    opinion = model.predict_opinion({"a": a, "b": b})
    assert opinion.present.tolist() == [[False, True]] * 120
    assert not opinion.of("a").evidence.any()
    assert opinion.of("b").evidence.any()
    assert not opinion.conflict.any()
    assert opinion.to_frame()["a__class"].isna().all()


def test_rows_with_nothing_else_are_left_out_and_vacuous():
    a, b, given_, y = problem(rows=150)
    b[[0, 3]] = np.nan  # of class 0, whose rows have view a
    model = made("KernelExpertClassifier")
    with pytest.warns(PresenceWarning, match="2 rows without any other are left out"):
        model.fit({"a": given_, "b": b}, y, sample_weight=1 + y)
    left = np.delete(np.arange(150), [0, 3])
    with pytest.warns(PresenceWarning):
        again = made("KernelExpertClassifier").fit(
            {"a": given_[left], "b": b[left]}, y[left], sample_weight=(1 + y)[left]
        )
    assert model.train_rows_ == 150
    X = {"a": a, "b": b}
    opinion = model.predict_opinion(X)
    np.testing.assert_allclose(opinion.evidence, again.predict_opinion(X).evidence, atol=1e-9)
    assert not opinion.evidence[[0, 3]].any()
    assert not opinion.present[[0, 3]].any()


def test_a_new_fit_forgets():
    a, b, given_, y = problem(rows=150)
    model = RidgeExpertClassifier()
    with pytest.warns(PresenceWarning):
        assert model.fit({"a": given_, "b": b}, y).set_aside_ == ("a",)
    assert model.fit({"a": a, "b": b}, y).set_aside_ == ()


@pytest.mark.parametrize("name", ["RCMLMISAClassifier", "MISAClassifier"])
def test_texts_that_one_class_has(name):
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    b = rng.normal(size=(90, 3)) + 3 * np.eye(3)[y]
    X = {"t": ["a scan" if code == 0 else "" for code in y], "b": b}
    model = made(name, epochs=2, text_encoder="words", sequence_hidden=4)
    with pytest.warns(PresenceWarning, match="view t"):
        model.fit(X, y)
    np.testing.assert_array_equal(
        model.predict_proba(X), model.predict_proba({"t": ["a scan"] * 90, "b": b})
    )


def test_model_files(tmp_path):
    a, b, given_, y = problem(rows=150)
    path = tmp_path / "model.rcml"
    for model in (made("RCMLMISAClassifier", epochs=1), KernelExpertClassifier()):
        with pytest.warns(PresenceWarning):
            model.fit({"a": given_, "b": b}, y).save(path)
        again = rcml_misa.load(path)
        assert again.set_aside_ == ("a",)
        X = {"a": a, "b": b}
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
        header, tensors = read_file(path)
        del header["sha256"]  # each file has its own
        for wrong in ({"tuple": ["a", "b"]}, {"tuple": ["c"]}, "a"):
            header["attributes"]["set_aside_"] = wrong
            write_file(path, header, tensors)
            with pytest.raises(DataError, match=r"sets aside are not some of its views|set_aside_"):
                rcml_misa.load(path)
    made("TMCClassifier", epochs=1).fit({"a": a, "b": b}, y).save(path)
    header, _ = read_file(path)
    assert "set_aside_" not in header["attributes"]
    assert rcml_misa.load(path).set_aside_ == ()


def test_regressors_set_nothing_aside():
    assert not is_classifier(estimators.RCMLMISARegressor())
    assert estimators.RCMLMISARegressor().set_aside_ == ()


# what is said


def own_file(views, labels, task="classification"):
    layout = FileLayout({name: ("0",) for name in views})
    return OwnFile(MultiView(views), labels, layout, task=task)


def test_check_warns_of_classes():
    _, b, given_, y = problem(rows=150)
    labels = np.array(["ill", "well", "old"])[y]
    found = {each.what: each for each in check_file(own_file({"a": given_, "b": b}, labels))}
    said = found["view a is in 0 of 100 rows of 2 classes (old, well) but in 50 of 50 others"]
    assert said.level == "warning"
    assert "set aside" in said.consequence
    complete = check_file(own_file({"b": b}, labels))
    assert not any("rows of class" in each.what for each in complete)


def test_check_warns_of_scores():
    rng = np.random.default_rng(0)
    scores, b = rng.normal(size=200), rng.normal(size=(200, 2))
    for present, told in ((scores > 0, True), (rng.random(200) < 0.5, False)):
        a = np.where(present[:, None], rng.normal(size=(200, 2)), np.nan)
        found = check_file(own_file({"a": a, "b": b}, scores, "regression"))
        assert any("with the scores" in each.what for each in found) == told
        if told:
            r = np.corrcoef(present, scores)[0, 1]
            assert any(f"correlation of {r:.2f} with the scores" in each.what for each in found)


@pytest.fixture
def csv(tmp_path):
    _, b, given_, y = problem(rows=90)
    frame = MultiView({"a": given_, "b": b}).to_frame().assign(target=np.array([*"xyz"])[y])
    frame.to_csv(tmp_path / "scans.csv", index=False)
    return tmp_path / "scans.csv"


@pytest.mark.parametrize("jobs", [1, 2])
def test_run_says_it_once(csv, jobs):
    arguments = ["run", "--dataset", str(csv), "--method", "kernel-expert,lda"]
    result = CliRunner().invoke(main, [*arguments, "--runs", "2", "--jobs", str(jobs)])
    assert result.exit_code == 0, result.output
    text = " ".join(result.stderr.split())
    assert text.count("view a is in 0 of 60 rows of 2 classes (y, z) but in 30 of 30") == 1
    assert text.count("note:") == 3  # and the target and the views that were guessed
    assert "set aside" in text
    assert "Warning" not in result.stderr


def test_fit_and_check_say_it(csv, tmp_path):
    arguments = ["fit", "--dataset", str(csv), "--method", "kernel-expert"]
    result = CliRunner().invoke(main, [*arguments, "--out", str(tmp_path / "m.rcml")])
    assert result.exit_code == 0, result.output
    text = " ".join(result.stderr.split())
    assert text.count("note: view a is in 0 of 60 rows of 2 classes (y, z)") == 1
    assert "note: missing views: a in 60 of 90 rows" in text
    assert "warning" not in text.lower()
    result = CliRunner().invoke(main, ["datasets", "check", str(csv)])
    assert "view a is in 0 of 60 rows of 2 classes (y, z)" in " ".join(result.output.split())
