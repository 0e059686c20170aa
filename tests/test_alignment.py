"""Matching by name: rows by index, columns and views by their names, targets by index."""

from __future__ import annotations

import pickle
from copy import deepcopy

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import cross_val_score, train_test_split

import rcml_misa
from rcml_misa.estimators import (
    ControlClassifier,
    KernelExpertClassifier,
    MISAClassifier,
    MISARegressor,
    RCMLMISARegressor,
)
from rcml_misa.estimators.foreign import TableClassifier
from rcml_misa.exceptions import DataError
from rcml_misa.views import MultiView, as_multiview

ROWS = 48
rng = np.random.default_rng(1)
IDS = [f"person{number}" for number in range(ROWS)]
FACE = pd.DataFrame(rng.normal(size=(ROWS, 3)), columns=["eye", "nose", "mouth"], index=IDS)
VOICE = pd.DataFrame(rng.normal(size=(ROWS, 2)), columns=["pitch", "pace"], index=IDS)
LABELS = pd.Series(np.where(FACE["eye"] + VOICE["pitch"] > 0, "yes", "no"), index=IDS)
SCORES = FACE["eye"] + VOICE["pitch"]
SHUFFLED = rng.permutation(ROWS)
IN_ORDER = {"face": FACE, "voice": VOICE}
SMALL = {"epochs": 2, "hidden": 8, "device": "cpu", "random_state": 0}
MAKERS = {
    "kernel": lambda: KernelExpertClassifier(random_state=0),
    "control": lambda: ControlClassifier(model="lda"),
    "foreign": lambda: TableClassifier(estimator=LinearDiscriminantAnalysis()),
    "misa": lambda: MISAClassifier(**SMALL),
}
REGRESSORS = {
    "misa": lambda: MISARegressor(**SMALL),
    "rcml-misa": lambda: RCMLMISARegressor(early_stopping=False, **SMALL),
}


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(6)), columns=st.permutations("abc"))
def test_rows_are_joined_by_index(order, columns) -> None:
    first = pd.DataFrame({"x": range(6)}, index=list("pqrstu"))
    second = pd.DataFrame({c: np.arange(6) + 10 for c in columns}, index=list("pqrstu"))
    joined = MultiView({"a": first, "b": second.iloc[list(order)], "c": np.arange(6)[:, None]})
    assert (joined["b"] - joined["a"] == 10).all()
    assert (joined["c"] == joined["a"]).all()  # an array follows the first index by position
    turned = MultiView({"c": np.arange(6)[:, None], "b": second.iloc[list(order)], "a": first})
    assert (turned["b"] - turned["a"] == 10).all()
    assert turned["b"][:, 0].tolist() == [10 + place for place in order]
    assert turned["c"].ravel().tolist() == list(range(6))


def test_texts_and_raw_tables_are_joined_by_index_too() -> None:
    words = pd.Series(IDS, index=IDS).iloc[SHUFFLED]
    views = MultiView([FACE, words])
    assert views.arrays[1].values == tuple(IDS)
    raw = as_multiview({"face": FACE, "id": words.to_frame()}, raw=True)
    assert raw["id"].frame.iloc[:, 0].tolist() == IDS


def test_a_default_index_is_a_permutation_or_position() -> None:
    first = pd.DataFrame({"x": [0, 1, 2]})
    backward = pd.DataFrame({"x": [0, 1, 2]})[::-1]
    assert MultiView([first, backward])["view2"].ravel().tolist() == [0, 1, 2]
    assert MultiView([first, backward.reset_index(drop=True)])["view2"].ravel().tolist() == [
        2,
        1,
        0,
    ]
    with pytest.raises(DataError, match="view1 has 3, view2 has 2"):
        MultiView([first, first[:2]])


def test_one_index_for_all_is_position_even_with_repeats() -> None:
    drawn = rng.integers(0, ROWS, ROWS)
    views = MultiView({name: table.iloc[drawn] for name, table in IN_ORDER.items()})
    np.testing.assert_array_equal(views["voice"], VOICE.to_numpy()[drawn])
    assert views.row_index.tolist() == [IDS[row] for row in drawn]
    model = KernelExpertClassifier().fit(views, LABELS.iloc[drawn])
    assert model.score(views, LABELS.iloc[drawn]) > 0.5


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (VOICE.rename(index={"person3": "person99"}), "'voice' has no row 'person3', which .*face"),
        (VOICE.iloc[:-1], "'voice' has no row 'person47', which view 'face' has"),
        (VOICE.iloc[[0, *range(ROWS)]], "label 'person0' stands twice in view 'voice'"),
        (VOICE.iloc[[0, *range(ROWS - 1)]], "label 'person0' stands twice in view 'voice'"),
        (VOICE.reset_index(drop=True), "'voice' has no row 'person0'"),
        (VOICE.set_axis(range(ROWS, 2 * ROWS)), "'voice' has no row 'person0'"),
    ],
)
def test_indices_that_do_not_match_are_refused(other, words) -> None:
    with pytest.raises(DataError, match=words) as caught:
        KernelExpertClassifier().fit({"face": FACE, "voice": other}, LABELS)
    assert len(str(caught.value)) <= 300
    assert "reset_index(drop=True)" in str(caught.value)
    with pytest.raises(DataError, match="view 'voice'"):
        MultiView({"voice": other, "face": FACE})


def test_repeats_in_the_first_table_are_named() -> None:
    twice = FACE.iloc[[0, 0, 1]]
    with pytest.raises(DataError, match="stands twice in view 'face'"):
        MultiView({"face": twice, "voice": VOICE.iloc[:3]})


@pytest.mark.parametrize("name", MAKERS)
def test_classifiers_match_rows_columns_views_and_target(name) -> None:
    plain = MAKERS[name]().fit({k: t.to_numpy() for k, t in IN_ORDER.items()}, LABELS.to_numpy())
    mixed = {"face": FACE, "voice": VOICE.iloc[SHUFFLED]}
    model = MAKERS[name]().fit(mixed, LABELS.iloc[SHUFFLED[::-1]])
    wanted = plain.predict_proba({k: t.to_numpy() for k, t in IN_ORDER.items()})
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(model.predict_proba(mixed), wanted, **close)
    turned = {"voice": VOICE.iloc[SHUFFLED, ::-1], "face": FACE.iloc[:, [2, 0, 1]]}
    np.testing.assert_allclose(model.predict_proba(turned), wanted[SHUFFLED], **close)
    right = model.score(IN_ORDER, LABELS)
    assert right == model.score(turned, LABELS) == model.score(mixed, LABELS[::-1])
    assert right == model.score(turned, LABELS.to_numpy()[SHUFFLED])


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_match_the_target(name) -> None:
    model = REGRESSORS[name]().fit(IN_ORDER, SCORES)
    shuffled = {"face": FACE, "voice": VOICE.iloc[SHUFFLED]}
    other = REGRESSORS[name]().fit(shuffled, SCORES.iloc[SHUFFLED])
    np.testing.assert_allclose(other.predict(IN_ORDER), model.predict(IN_ORDER), atol=1e-4)
    turned = {"voice": VOICE.iloc[SHUFFLED], "face": FACE.iloc[:, ::-1]}
    assert model.score(turned, SCORES[::-1]) == pytest.approx(model.score(IN_ORDER, SCORES))


def test_validation_rows_and_loss_terms_follow_the_index() -> None:
    plain = MISAClassifier(**SMALL)
    plain.fit(IN_ORDER, LABELS, validation=(IN_ORDER, LABELS.to_numpy()))
    again = clone(plain).fit(IN_ORDER, LABELS, validation=(IN_ORDER, LABELS.iloc[SHUFFLED]))
    assert again.history_ == plain.history_
    assert plain.loss_terms(IN_ORDER, LABELS[::-1]) == plain.loss_terms(IN_ORDER, LABELS)


def test_weights_follow_the_index() -> None:
    weights = pd.Series(np.linspace(0.1, 3, ROWS), index=IDS)
    fit = KernelExpertClassifier(random_state=0).fit
    wanted = fit(IN_ORDER, LABELS, sample_weight=weights).predict_proba(IN_ORDER)
    model = KernelExpertClassifier(random_state=0)
    model.fit(IN_ORDER, LABELS, sample_weight=weights.iloc[SHUFFLED])
    np.testing.assert_array_equal(model.predict_proba(IN_ORDER), wanted)
    with pytest.raises(DataError, match="sample_weight has no row 'person0'"):
        model.fit(IN_ORDER, LABELS, sample_weight=weights.reset_index(drop=True))
    scored = model.score(IN_ORDER, LABELS, weights.iloc[SHUFFLED])
    assert scored == model.score(IN_ORDER, LABELS, weights.to_numpy())


def test_a_target_that_does_not_match_is_refused() -> None:
    fit = KernelExpertClassifier().fit
    with pytest.raises(DataError, match=r"y has no row 'person0', which X has.*reset_index"):
        fit(IN_ORDER, LABELS.reset_index(drop=True))
    with pytest.raises(DataError, match="y has no row 'person5'"):
        fit(IN_ORDER, LABELS.rename({"person5": "person77"}))
    with pytest.raises(DataError, match="stands twice in y"):
        fit(IN_ORDER, LABELS.iloc[[1, *range(1, ROWS)]])
    with pytest.raises(DataError, match="y has 47 labels but X has 48 rows"):
        fit(IN_ORDER, LABELS.iloc[:-1])
    numbered = {name: table.reset_index(drop=True) for name, table in IN_ORDER.items()}
    with pytest.raises(DataError, match="y has no row 0"):
        fit(numbered, LABELS)


def test_one_table_and_its_target() -> None:
    table, views = FACE.join(VOICE), [3, 2]

    def fitted(X, y):
        model = KernelExpertClassifier(views=views, random_state=0)
        return model.fit(X, y).predict_proba(X)

    wanted = fitted(table, LABELS)
    np.testing.assert_array_equal(fitted(table, LABELS.iloc[SHUFFLED]), wanted)
    np.testing.assert_array_equal(fitted(table, LABELS.to_numpy()), wanted)
    # numbered from 0 on one side, with other labels on the other: position, as in scikit-learn
    np.testing.assert_array_equal(fitted(table, LABELS.reset_index(drop=True)), wanted)
    np.testing.assert_allclose(fitted(table.reset_index(drop=True), LABELS), wanted)
    numbered = table.reset_index(drop=True), LABELS.reset_index(drop=True)
    np.testing.assert_allclose(fitted(numbered[0], numbered[1][::-1]), wanted)
    with pytest.raises(DataError, match="y has no row 'person1'"):
        fitted(table, LABELS.rename({"person1": "nobody"}))
    model = KernelExpertClassifier(views=views)
    assert np.isfinite(cross_val_score(model, table, LABELS, cv=3)).all()
    parts = train_test_split(table, LABELS, random_state=0)
    assert KernelExpertClassifier(views=views).fit(parts[0], parts[2]).score(*parts[1::2]) > 0.5


def test_labels_of_rows_stay_with_a_multiview() -> None:
    views = MultiView({"face": FACE, "voice": VOICE.iloc[SHUFFLED]})
    for same in (views, pickle.loads(pickle.dumps(views)), deepcopy(views)):  # noqa: S301
        assert same.row_index.tolist() == IDS
        assert same.column_names == (("eye", "nose", "mouth"), ("pitch", "pace"))
    taken = views.take(SHUFFLED)
    assert taken.row_index.tolist() == [IDS[row] for row in SHUFFLED]
    replaced = taken.replace({"voice": VOICE})
    np.testing.assert_array_equal(replaced["voice"], VOICE.to_numpy()[SHUFFLED])
    assert taken.map(lambda _, array: array * 2).row_index.equals(taken.row_index)
    model = KernelExpertClassifier(random_state=0).fit(views, LABELS)
    other = KernelExpertClassifier(random_state=0).fit(taken, LABELS)
    assert model.score(taken, LABELS) == model.score(views, LABELS)
    assert other.data_sha256_ == KernelExpertClassifier().fit(taken, LABELS).data_sha256_
    assert views.to_frame().columns[0] == "face__0"
    turned = MultiView({"voice": VOICE[["pace", "pitch"]], "face": FACE})
    np.testing.assert_array_equal(model.predict_proba(turned), model.predict_proba(views))


# columns and views at prediction


@pytest.fixture(scope="module")
def model() -> KernelExpertClassifier:
    return KernelExpertClassifier(random_state=0).fit(IN_ORDER, LABELS)


@pytest.mark.parametrize(
    ("face", "words"),
    [
        (FACE.rename(columns={"nose": "noze"}), "lacks the column 'nose' .*'noze' .* mean nose"),
        (FACE[["eye", "nose"]], "lacks the column 'mouth' that fit saw"),
        (FACE.assign(ear=1.0), "has the column 'ear' that fit did not see"),
        (FACE.set_axis(list("abc"), axis=1), "lacks the columns 'eye', 'nose', 'mouth'"),
        (FACE[["mouth", "nose", "nose"]], "lacks the column 'eye'"),
        (FACE[["mouth", "nose", "eye", "eye"]], "has the column 'eye' twice"),
        (pl.from_pandas(FACE).rename({"eye": "I"}), "lacks the column 'eye'"),
    ],
)
def test_columns_that_differ_are_refused_by_name(model, face, words) -> None:
    voice = VOICE if isinstance(face, pd.DataFrame) else VOICE.to_numpy()
    with pytest.raises(DataError, match=f"view 'face' {words}") as caught:
        model.predict({"face": face, "voice": voice})
    assert len(str(caught.value)) <= 300


def test_columns_of_polars_are_put_in_order(model) -> None:
    X = {"voice": pl.from_pandas(VOICE[["pace", "pitch"]]), "face": pl.from_pandas(FACE)}
    np.testing.assert_allclose(model.predict_proba(X), model.predict_proba(IN_ORDER))


def test_numbers_as_names_of_columns() -> None:
    table = pd.DataFrame(FACE.to_numpy())
    fitted = KernelExpertClassifier().fit([table], LABELS.to_numpy())
    wanted = fitted.predict_proba([FACE.to_numpy()])
    np.testing.assert_allclose(fitted.predict_proba([table[[2, 0, 1]]]), wanted)
    np.testing.assert_allclose(fitted.predict_proba([FACE]), wanted)  # fit saw no names


def test_views_come_in_any_order_and_none_is_unknown(model) -> None:
    wanted = model.predict_proba(IN_ORDER)
    np.testing.assert_array_equal(model.predict_proba(dict(reversed(IN_ORDER.items()))), wanted)
    for lacking in ({"face": FACE}, {"voice": None, "face": FACE}, [FACE, None]):
        assert not np.allclose(model.predict_proba(lacking), wanted)
    with pytest.raises(DataError, match=r"X has the view 'fase', which fit did not see; .* face"):
        model.predict({"fase": FACE, "voice": VOICE})
    with pytest.raises(DataError, match="X has the view 'smell'"):
        model.predict({**IN_ORDER, "smell": None})
    with pytest.raises(DataError, match="X has the view 'smell'"):
        model.predict(MultiView({**IN_ORDER, "smell": FACE}))
    with pytest.raises(DataError, match="X has the views view1, view2 but fit saw face, voice"):
        model.predict([FACE, VOICE])


def test_arrays_have_no_names_and_say_so(model) -> None:
    X = {"face": FACE.to_numpy(), "voice": VOICE}
    with pytest.warns(UserWarning, match="'face' has no column names but fit saw some"):
        answers = model.predict_proba(X)
    np.testing.assert_allclose(answers, model.predict_proba(IN_ORDER))


def test_sparse_columns_and_none_that_were_named() -> None:
    by_array = KernelExpertClassifier().fit([sparse.csr_array(FACE.to_numpy())], LABELS.to_numpy())
    assert by_array.view_columns_ is None
    assert "view_columns_" not in vars(by_array)
    views = MultiView({"s": sparse.csr_array([[1.0, 2.0]])}).with_columns({"s": [1, 0]})
    assert views["s"].toarray().tolist() == [[2.0, 1.0]]


def test_names_are_forgotten_by_another_fit_and_kept_by_files(model, tmp_path) -> None:
    assert model.view_columns_ == (("eye", "nose", "mouth"), ("pitch", "pace"))
    assert pickle.loads(pickle.dumps(model)).view_columns_ == model.view_columns_  # noqa: S301
    model.save(tmp_path / "faces.rcml")
    loaded = rcml_misa.load(tmp_path / "faces.rcml")
    assert loaded.view_columns_ == model.view_columns_
    turned = {"voice": VOICE, "face": FACE.iloc[:, ::-1]}
    np.testing.assert_array_equal(loaded.predict_proba(turned), model.predict_proba(IN_ORDER))
    with pytest.raises(DataError, match="lacks the column 'eye'"):
        loaded.predict({**IN_ORDER, "face": FACE.rename(columns={"eye": "iris"})})
    again = clone(model).fit(IN_ORDER, LABELS).fit([FACE.to_numpy()], LABELS.to_numpy())
    assert again.view_columns_ is None


def test_files_without_names_or_with_wrong_ones(model, tmp_path) -> None:
    older = KernelExpertClassifier(random_state=0).fit(
        {name: table.to_numpy() for name, table in IN_ORDER.items()}, LABELS.to_numpy()
    )
    older.save(tmp_path / "older.rcml")
    loaded = rcml_misa.load(tmp_path / "older.rcml")
    assert loaded.view_columns_ is None
    np.testing.assert_allclose(loaded.predict_proba(IN_ORDER), older.predict_proba(IN_ORDER))
    for wrong in ((("eye",), None), (None,), "eye", ((1.5, 2.5, 3.5), None)):
        broken = deepcopy(model)
        broken.view_columns_ = wrong
        broken.save(tmp_path / "broken.rcml")
        with pytest.raises(DataError, match=r"names of|view_columns_"):
            rcml_misa.load(tmp_path / "broken.rcml")


def test_an_oracle_of_scikit_learn_agrees_after_a_join() -> None:
    merged = FACE.join(VOICE)
    oracle = LinearRegression().fit(merged, SCORES)
    views = as_multiview({"face": FACE, "voice": VOICE.iloc[SHUFFLED]})
    np.testing.assert_allclose(
        oracle.predict(pd.DataFrame(views.to_array(), columns=merged.columns)), SCORES
    )


# opinions in ten lines


@pytest.mark.parametrize("count", [1, 2, 30])
def test_an_opinion_is_shown_in_ten_lines(count) -> None:
    X = {f"view {number}": rng.normal(size=(60, 2)) for number in range(count)}
    opinion = KernelExpertClassifier().fit(X, np.arange(60) % 12).predict_opinion(X)
    shown = repr(opinion)
    assert len(shown.splitlines()) <= 10
    assert max(map(len, shown.splitlines())) <= 160
    assert "60 rows, 12 classes" in shown
    assert f"{count} views" in shown
    assert f"mean uncertainty {opinion.uncertainty.mean():.3g}" in shown
    assert "view 0: mean uncertainty" in shown
    assert "array" not in shown
    assert len(repr(opinion.of("view 0")).splitlines()) == 1
    scores = RCMLMISARegressor(epochs=1, device="cpu", early_stopping=False).fit(
        X, X["view 0"][:, 0]
    )
    shown = repr(scores.predict_opinion(X))
    assert len(shown.splitlines()) <= 10
    assert "60 rows" in shown
    assert "mean scale" in shown
    assert "array" not in shown
