"""Raw tables to views of numbers: what is filled, encoded, dated and set aside, by train rows."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from rcml_misa import MultiView, TablePreparer
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import RawTable


def raw(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a__x": rng.normal(size=rows),
            "a__y": rng.normal(size=rows) * 9,
            "a__town": rng.choice(["ulm", "bonn", "kiel"], rows),
            "b__count": rng.integers(0, 5, rows),
            "b__flag": pd.Series(rng.random(rows) < 0.5).astype(object),
        }
    )
    frame.loc[::7, "a__x"] = np.nan
    frame.loc[3, ["a__town", "b__flag"]] = None
    return frame


def test_numbers_and_levels_are_what_scikit_learn_makes_of_them():
    frame = raw()
    train, new = frame[:40], frame[40:]
    prepared = TablePreparer(views="__").fit(train).transform(new)
    numbers = ["a__x", "a__y"]
    filled = SimpleImputer(strategy="median").fit(train[numbers]).transform(new[numbers])
    towns = OneHotEncoder(sparse_output=False, categories=[["bonn", "kiel", "ulm"]])
    levels = towns.fit(train[["a__town"]].dropna()).transform(new[["a__town"]])
    others = np.zeros((len(new), 1))  # the one gap of the train rows is a rare level
    flags = new[["a__x"]].isna().to_numpy()
    np.testing.assert_array_equal(prepared["a"], np.hstack([filled, flags, levels, others]))
    assert prepared.kinds == ("dense", "dense")


def test_names_of_the_columns_that_result():
    names = TablePreparer(views="__").fit(raw()).get_feature_names_out().tolist()
    assert names[:3] == ["a__x", "a__y", "a__x missing"]
    assert names[3:7] == ["a__town_bonn", "a__town_kiel", "a__town_ulm", "a__town_other"]
    assert names[7:] == ["b__count", "b__flag", "b__flag missing"]


def test_clean_numbers_pass_bit_for_bit():
    values = np.random.default_rng(0).normal(size=(20, 3))
    assert TablePreparer().fit_transform({"a": values})["a"].tobytes() == values.tobytes()
    frame = pd.DataFrame(values, columns=list("xyz"))
    assert TablePreparer().fit_transform({"a": frame})["a"].tobytes() == values.tobytes()


def test_new_rows_decide_nothing():
    frame = raw()
    train, new = frame[:40], frame[40:]
    garbage = new.assign(a__x=1e9, a__town="nowhere", b__count=-5)
    preparer = TablePreparer(views="__").fit(train)
    before = preparer.transform(new)
    preparer.transform(garbage)
    np.testing.assert_array_equal(preparer.transform(new)["a"], before["a"])


@settings(deadline=None, max_examples=40)
@given(st.permutations(range(5)), st.integers(0, 59), st.integers(0, 3))
def test_a_row_answers_alone_as_among_others_and_in_any_order_of_columns(order, row, seed):
    frame = raw(seed=seed)
    preparer = TablePreparer(views="__").fit(frame)
    among = preparer.transform(frame)
    names = frame.columns[list(order)]
    alone = preparer.transform(frame.loc[[row], names])
    for view in among:
        np.testing.assert_array_equal(alone[view][0], among[view][row])


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from([None, 0.5, 2.0, np.inf]), min_size=12, max_size=12))
def test_no_gap_is_left_but_in_rows_that_lack_the_view(cells):
    table = np.array(cells, dtype=np.float64).reshape(6, 2)
    if np.isnan(table).all(axis=0).any():
        return
    views = TablePreparer().fit_transform({"a": table, "b": np.eye(6)})
    gone = ~np.isfinite(table).any(axis=1)
    assert np.array_equal(np.isnan(views["a"]).all(axis=1), gone)
    assert np.isfinite(views["a"][~gone]).all()


def test_a_row_without_the_view_goes_on_lacking_it_and_sets_no_median():
    frame = raw()
    frame.loc[5, ["a__x", "a__y", "a__town"]] = None
    prepared = TablePreparer(views="__").fit(frame).transform(frame)
    assert np.isnan(prepared["a"][5]).all()
    assert prepared.present.sum() == 2 * 60 - 1


def test_absent_views_and_views_in_any_order():
    frame = raw()
    tables = {"a": frame.filter(like="a__"), "b": frame.filter(like="b__")}
    preparer = TablePreparer().fit(tables)
    assert preparer.transform(dict(reversed(tables.items()))).names == ("a", "b")
    without = preparer.transform({"a": tables["a"][:2]})
    assert without.present.tolist() == [[True, False]] * 2
    with pytest.raises(DataError, match="has the view 'c', which fit did not see"):
        preparer.transform({**tables, "c": tables["b"]})


def column(values, **options):
    preparer = TablePreparer(**options).fit(
        {"a": pd.DataFrame({"c": values, "n": range(7, 0, -1)})}
    )
    kinds = preparer.columns_["a"].kinds
    places = {"date": kinds.dates, "category": kinds.categories, "aside": kinds.aside}
    return next((name for name, names in places.items() if "c" in names), "number")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, 2, None, 4, 5, 6, 1], "number"),
        (["1.5", "?", "2", "3", "4", "5", "-"], "number"),
        ([True, None, False, True, True, False, True], "number"),
        (pd.to_timedelta([1, 2, 3, 4, 5, 6, 7], "h"), "number"),
        (["007", "010", "007", "010", "007", "010", "007"], "category"),
        (["a", "b", "a", None, "b", "a", "b"], "category"),
        (pd.Categorical([1, 2, 1, 2, 1, 2, 1]), "category"),
        (["2024-05-01", None, *["2024-06-30"] * 5], "date"),
        (["31.12.2023", "1.2.2024", *["30.06.2024"] * 5], "date"),
        (pd.date_range("2024-01-01", periods=7, tz="Europe/Berlin"), "date"),
        (["01/02/2024", "03/04/2024", *["05/06/2024"] * 5], "aside"),  # day or month first
        (["13/02/2024", "03/04/2024", *["05/06/2024"] * 5], "date"),
        ([None] * 7, "aside"),
        ([[1], [2], [3], [4], [5], [6], [7]], "aside"),
    ],
)
def test_kinds_of_columns(values, kind):
    assert column(values) == kind


def test_what_identifies_rows_is_set_aside():
    rows = 60
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "name": [f"p{n}" for n in range(rows)],
            "patient_id": rng.permutation(10_000)[:rows],
            "row": rng.permutation(rows) + 3,
            "age": rng.permutation(rows) * 5,  # differs in every row, but counts nothing
        }
    )
    preparer = TablePreparer().fit({"a": frame})
    assert set(preparer.columns_["a"].kinds.aside) == {"name", "patient_id", "row"}
    told = " ".join(preparer.describe())
    assert "name set aside, differing in nearly every row" in told
    assert "patient_id, row set aside, numbering the rows" in told
    # what is set aside is not asked for again
    assert preparer.transform({"a": frame[["age"]]})["a"].shape == (rows, 1)


def test_a_view_without_a_column_left_is_set_aside():
    ids = pd.DataFrame({"id": [f"p{n}" for n in range(20)]})
    views = {"ids": ids, "x": np.eye(20)}
    preparer = TablePreparer().fit(views)
    assert (preparer.aside_, preparer.transform(views).names) == (("ids",), ("x",))
    assert preparer.describe()[-1] == "view ids has no column left and is set aside"
    with pytest.raises(DataError, match="X has no column to learn from"):
        TablePreparer().fit({"ids": ids})


def test_dates_are_days():
    frame = pd.DataFrame({"d": ["1970-01-03", "1970-01-01 12:00", "1970-02-01"], "n": [3.0, 1, 2]})
    assert TablePreparer().fit_transform({"a": frame})["a"][:, 1].tolist() == [2.0, 0.5, 31.0]


@pytest.mark.parametrize("fitted", ["dates", "%d.%m.%Y", "%Y-%m-%d", "%m/%d/%Y"])
@pytest.mark.parametrize("given", ["dates", "%d.%m.%Y", "%Y-%m-%d", "%Y/%m/%d %H:%M"])
def test_dates_are_the_same_in_every_clear_form_and_each_alone(fitted, given):
    days = pd.Series(pd.date_range("2025-03-28", periods=30))

    def table(form, rows=slice(None)):
        texts = days if form == "dates" else days.dt.strftime(form)
        return {"a": pd.DataFrame({"d": texts, "n": 2.0 ** np.arange(30)[::-1]})[rows]}

    preparer = TablePreparer().fit(table(fitted))
    expected = (days - pd.Timestamp(0)).dt.days
    read = preparer.transform(table(given))["a"][:, 1]
    assert read.tolist() == expected.tolist()
    alone = preparer.transform(table(given, slice(6, 7)))["a"][0, 1]  # the third of April
    assert alone == expected[6]
    unclear = pd.DataFrame({"d": ["31/12/2024"], "n": [1.0]})
    if fitted != "%m/%d/%Y":
        with pytest.raises(DataError, match="no date such as 2024-12-31"):
            preparer.transform({"a": unclear})


def test_new_levels_and_rare_ones_share_a_column():
    frame = pd.DataFrame({"c": ["a"] * 5 + ["b"] * 5 + ["rare"], "n": np.arange(11.0)[::-1] * 2})
    preparer = TablePreparer().fit({"v": frame})
    new = pd.DataFrame({"c": ["rare", "never seen"], "n": [0.0, np.nan]})
    views, surprises = preparer.transform_counted({"v": new})
    assert views["v"].tolist() == [[0.0, 0.0, 0.0, 1.0], [10.0, 0.0, 0.0, 1.0]]
    assert dict(surprises) == {
        ("v", "n", "filled, without gaps in training"): 1,
        ("v", "c", "new level 'never seen'"): 1,
    }


def test_at_most_so_many_levels():
    frame = pd.DataFrame({"c": np.repeat([f"l{n}" for n in range(20)], 4), "n": np.zeros(80)})
    assert TablePreparer(levels=6).fit_transform({"a": frame})["a"].shape == (80, 7)
    with pytest.raises(OptionError, match="levels=1 is"):
        TablePreparer(levels=1).fit({"a": frame})


def test_levels_are_texts_whatever_holds_them():
    words = pd.Series(["1", "2", "1", "x"] * 3)
    numbers = pd.Series([1.0, 2.0, 1, np.nan] * 3)
    preparer = TablePreparer().fit({"a": pd.DataFrame({"c": words, "n": range(12)})})
    as_words = preparer.transform({"a": pd.DataFrame({"c": words, "n": range(12)})})["a"]
    as_numbers = preparer.transform({"a": pd.DataFrame({"c": numbers, "n": range(12)})})["a"]
    np.testing.assert_array_equal(as_words[:3], as_numbers[:3])


def test_without_indicators():
    names = TablePreparer(views="__", indicators=False).fit(raw()).get_feature_names_out()
    assert not [name for name in names if "missing" in name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="a__town"), "lacks the column 'a__town' that fit saw"),
        (lambda f: f.rename(columns={"a__y": "a__yy"}), "lacks the column 'a__y'.*a__yy"),
        (lambda f: f.assign(a__new=1), "has the column 'a__new' that fit did not see"),
        (lambda f: f.assign(a__x="tall"), "column 'a__x' has 'tall' in row 0, which is no number"),
    ],
)
def test_columns_that_do_not_match_are_refused(change, message):
    preparer = TablePreparer(views="__").fit(raw())
    with pytest.raises(DataError, match=message) as caught:
        preparer.transform(change(raw()))
    assert len(str(caught.value)) <= 300


def test_arrays_are_matched_by_place():
    values = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 7.0]])
    preparer = TablePreparer().fit({"a": values})
    assert preparer.transform({"a": values})["a"][0].tolist() == [1.0, 6.0, 1.0]
    with pytest.raises(DataError, match="view 'a' has 3 columns but fit saw 2"):
        preparer.transform({"a": np.ones((1, 3))})


def test_sequences_texts_and_sparse_views_pass():
    from scipy.sparse import csr_array

    views = MultiView(
        {"s": np.ones((4, 2, 3)), "t": ["a", "b", "c", "d"], "z": csr_array(np.eye(4))}
    )
    prepared = TablePreparer().fit_transform(views)
    assert prepared.kinds == ("sequence", "text", "sparse")


def test_it_is_cloned_with_its_parameters_and_names_no_leaks():
    preparer = clone(TablePreparer(views="__", levels=7, indicators=False))
    assert preparer.get_params() == {"views": "__", "levels": 7, "indicators": False}


def test_a_raw_table_stays_as_it_was():
    frame = raw()
    table = RawTable(frame.filter(like="a__"))
    before = frame.copy()
    TablePreparer().fit_transform({"a": table})
    pd.testing.assert_frame_equal(frame, before)
