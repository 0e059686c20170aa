"""Columns that give the label away: copies, marks, row numbers; and what chance explains."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from rcml_misa.datasets import load_dataset, load_labelled
from rcml_misa.datasets.files import FileLayout, FileOptions, OwnFile, check_file, read_own_file
from rcml_misa.datasets.files.correspondence import Classes
from rcml_misa.datasets.files.folder_layout import folder_layout
from rcml_misa.datasets.files.layout import table_layout
from rcml_misa.datasets.files.leaks import find_leaks, refuse_leaks
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView, RawTable

RNG = np.random.default_rng(0)
N = 90
SHUFFLED = RNG.permutation(np.repeat([0, 1, 2], N // 3))
SORTED = np.repeat([0, 1, 2], N // 3)


def own_file(values, labels, **more):
    values = np.column_stack([RNG.normal(size=(len(labels), 2)), values])
    columns = tuple(f"c{place}" for place in range(values.shape[1]))
    return OwnFile(MultiView({"a": values}), np.asarray(labels), FileLayout({"a": columns}), **more)


def surely(own):
    return [leak for leak in find_leaks(own) if leak.sure]


def with_errors(labels, count):
    wrong = labels.copy()
    wrong[:count] = (wrong[:count] + 1) % 3
    return wrong


@pytest.mark.parametrize(
    ("values", "labels", "words"),
    [
        (SHUFFLED, SHUFFLED, "one-to-one"),
        (np.array([7.0, -1.0, 3.5])[SHUFFLED], SHUFFLED, "one-to-one"),
        (np.array([7.0, -1.0, 3.5])[SHUFFLED] + RNG.integers(2, size=N), SHUFFLED, "every row"),
        (np.arange(N), SORTED, "row number of a file in label order"),
        (1e9 - 3.7 * np.arange(N), SORTED, "row number of a file in label order"),
        (np.cumsum(RNG.random(N)), np.tile(SORTED[::5], 5), "row number of a file in label order"),
        (np.argsort(np.argsort(SHUFFLED, kind="stable")) + 5, SHUFFLED, "labels come in runs"),
    ],
)
def test_copies_and_row_numbers_are_found(values, labels, words):
    (leak,) = surely(own_file(values, labels))
    assert words in leak.relation
    assert leak.leave_out == ("c2",)
    assert "c2" in leak.subject


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (np.arange(N), SHUFFLED),  # a row number of a shuffled file
        (RNG.permutation(N), SORTED),  # a shuffled number
        (SHUFFLED > 0, SHUFFLED),  # one value for two classes: told, but not sure
        (RNG.integers(0, 3, N), SHUFFLED),
        (SHUFFLED + RNG.normal(size=N), SHUFFLED),
        (SHUFFLED + 0.1 * RNG.normal(size=N), SHUFFLED),  # strong, and a measurement
        (np.ones(N), SORTED),
        (with_errors(SHUFFLED, 9), SHUFFLED),
    ],
)
def test_what_is_no_leak(values, labels):
    assert not surely(own_file(values, labels))


def test_nearly_a_copy_is_told_but_not_sure():
    labels = RNG.integers(0, 3, 600)
    (leak,) = find_leaks(own_file(with_errors(labels, 4), labels))
    assert (leak.sure, leak.relation) == (False, "tells the label in 99 % of the rows or more")
    # a rare class is not told by a column that says nothing of it
    rare = np.r_[np.zeros(597), np.ones(3)]
    assert not find_leaks(own_file(RNG.integers(0, 2, 600) == 0, rare))


def test_tiny_files_are_not_stopped():
    # 3 of 6: one column in ten does so by chance; and thirty columns of 12 rows
    labels = np.array([0, 0, 0, 1, 1, 1])
    assert not find_leaks(own_file(labels, labels))
    labels = np.repeat([0, 1], 6)
    assert not find_leaks(own_file(np.tile(labels[:, None], 30), labels))
    labels = np.repeat([0, 1], 20)
    assert surely(own_file(labels, labels))


def orders(labels):
    """Every distinct order of some labels."""
    return np.array(sorted(set(permutations(labels))))


@pytest.mark.parametrize(
    ("labels", "column", "words"),
    [
        ([0, 0, 0, 1, 1, 1], [5, 5, 5, 2, 2, 2], "one-to-one"),
        ([0, 0, 1, 1, 2, 2], [5, 5, 2, 2, 7, 7], "one-to-one"),
        ([0, 0, 0, 0, 1, 1, 1], [5, 5, 4, 4, 2, 2, 3], "every row"),
        ([0, 0, 1, 1, 2, 2], [5, 5, 5, 5, 7, 7], "one value per class"),
    ],
)
def test_bounds_of_chance_are_no_less_than_all_orders_show(labels, column, words):
    column = np.array(column, dtype=float)

    def relation(codes, log_limit):
        found = Classes(np.array(codes), log_limit).relate(column, ordered=False, rows=len(codes))
        return "" if found is None else found.text

    assert words in relation(labels, np.inf)
    every = orders(labels)
    share = np.mean([words in relation(codes, np.inf) for codes in every])
    assert not relation(labels, np.log(share) - 1e-9)
    assert words in relation(labels, np.log(100 * share))


@pytest.mark.parametrize("labels", [[0] * 5 + [1] * 4, [0] * 6 + [1] * 3])
def test_bound_of_runs_is_no_less_than_all_orders_show(labels):
    share = np.mean(np.count_nonzero(np.diff(orders(labels)), axis=1) <= max(labels))
    assert not Classes(np.array(labels), np.log(share) - 1e-9).in_runs
    assert Classes(np.array(labels), np.log(100 * share)).in_runs


def test_false_alarms_are_as_rare_as_stated():
    rng = np.random.default_rng(1)
    for _ in range(40):
        rows = int(rng.integers(6, 60))
        labels = rng.integers(0, rng.integers(2, 5), rows)
        values = rng.integers(0, rng.integers(2, 6), (rows, 200)).astype(float)
        assert not surely(own_file(values, labels)), rows


@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_views_and_columns_that_mark_the_classes(noise):
    marks = np.eye(3)[SHUFFLED] + noise * RNG.random((N, 3))
    own = OwnFile(MultiView({"a": RNG.normal(size=(N, 2)), "b": marks}), SHUFFLED, FileLayout({}))
    (leak,) = surely(own)
    assert leak.relation == "is one-hot of the label"
    assert leak.leave_out == ("b",)
    # the same columns inside a view
    leaks = surely(own_file(np.eye(3)[SHUFFLED], SHUFFLED))
    assert [leak.leave_out for leak in leaks] == [("c2",), ("c3",), ("c4",)]
    assert all("marks classes" in leak.relation for leak in leaks)
    # one mark of three tells one class only
    assert not surely(own_file(np.eye(3)[SHUFFLED][:, 0], SHUFFLED))


def test_sparse_views_and_missing_rows():
    values = np.where(RNG.random((N, 50)) < 0.1, RNG.random((N, 50)), 0.0)
    values[:, 7] = SHUFFLED
    (leak,) = surely(
        OwnFile(MultiView({"a": csr_array(values)}), SHUFFLED, FileLayout({"a": ("a",)}))
    )
    assert leak.subject == "column 7 of view 'a'"
    values[:20] = np.nan
    views = MultiView({"a": values, "b": RNG.normal(size=(N, 1))})
    (leak,) = surely(OwnFile(views, SHUFFLED, FileLayout({"a": ("a",), "b": ("b",)})))
    assert leak.subject == "column 7 of view 'a'"


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("text", np.array(["no", "yes", "perhaps"])[SHUFFLED]),
        ("category", pd.Categorical(np.array(["no", "yes", "perhaps"])[SHUFFLED])),
        ("number", np.where(RNG.random(N) < 0.2, np.nan, SHUFFLED)),
        ("date", pd.to_datetime("2026-01-01") + pd.to_timedelta(SHUFFLED, unit="D")),
    ],
)
def test_columns_of_any_type(name, column):
    frame = pd.DataFrame(
        {"x": RNG.normal(size=N), "word": RNG.choice(list("abc"), N), name: column}
    )
    own = OwnFile(MultiView({"a": RawTable(frame)}), SHUFFLED, FileLayout({"a": tuple(frame)}))
    (leak,) = surely(own)
    assert leak.leave_out == (name,)


def test_gaps_dates_and_truth_values_of_raw_tables():
    labels = np.repeat([0, 1], 45)[RNG.permutation(90)]
    frame = pd.DataFrame({"x": RNG.normal(size=90), "cause": np.where(labels, "flu", None)})
    own = OwnFile(MultiView({"a": RawTable(frame)}), labels, FileLayout({"a": ("x", "cause")}))
    assert {leak.leave_out for leak in surely(own)} == {("cause",)}
    frame = pd.DataFrame({"when": pd.date_range("2026-01-01", periods=N), "flag": SORTED > 0})
    own = OwnFile(MultiView({"a": RawTable(frame)}), SORTED, FileLayout({"a": ("when", "flag")}))
    assert [leak.leave_out for leak in surely(own)] == [("when",)]
    names = pd.DataFrame({"name": [f"p{place:03}" for place in range(N)], "x": RNG.normal(size=N)})
    own = OwnFile(MultiView({"a": RawTable(names)}), SORTED, FileLayout({"a": ("name", "x")}))
    assert not find_leaks(own)


def scored(values, scores):
    return own_file(values, scores, task="regression")


def test_leaks_of_scores():
    scores = RNG.normal(size=N)
    (leak,) = surely(scored(2 - 3 * scores, scores))
    assert "correlation above 0.9999" in leak.relation
    assert surely(scored(np.exp(scores), scores))  # by its ranks
    assert not find_leaks(scored(scores + RNG.normal(size=N), scores))
    (leak,) = find_leaks(scored(scores + 0.05 * RNG.normal(size=N), scores))
    assert not leak.sure
    levels = np.sort(RNG.integers(0, 4, N)).astype(float)
    (leak,) = surely(scored(np.arange(N), levels))
    assert "score order" in leak.relation
    assert not surely(scored(np.arange(N), RNG.permutation(levels)))
    few = np.array([1.0, 2.0, 3.0, 4.0])
    assert not find_leaks(scored(few, few))


def test_every_column_of_a_wide_view_is_looked_at():
    values = RNG.normal(size=(N, 9000))
    values[:, [0, 4321, 8999]] = SHUFFLED[:, None]
    assert [leak.leave_out for leak in surely(own_file(values, SHUFFLED))] == [
        ("c2",),
        ("c4323",),
        ("c9001",),
    ]


def test_known_sets_have_no_leak(need_data):
    for name in ("digits", "HandWritten", "Scene15", "LandUse21"):
        data = load_dataset(name, data_dir=need_data(name), download=False)
        layout = FileLayout({view: (view,) for view in data.views.names})
        assert not find_leaks(OwnFile(data.views, data.target, layout))


# the stop, and the ways out


def write(folder, **columns):
    frame = pd.DataFrame({f"a__{place}": RNG.normal(size=N) for place in range(2)})
    frame["b__0"] = RNG.normal(size=N)
    frame.assign(**columns).to_csv(folder / "f.csv", index=False)
    return str(folder / "f.csv")


def test_loading_stops_and_both_ways_out_go_on(tmp_path):
    path = write(tmp_path, b__copy=SHUFFLED, b__more=5 - SHUFFLED, y=SHUFFLED)
    for load in (load_dataset, lambda name: load_labelled(name, FileOptions())):
        with pytest.raises(
            DataError, match=r"'b__copy' is in one-to-one .* and 1 other does"
        ) as caught:
            load(path)
        assert "--leave-out b__copy,b__more" in str(caught.value)
        assert "--accept-leak" in str(caught.value)
        assert len(str(caught.value)) <= 300
    data = load_dataset(path, options=FileOptions(leave_out="b__copy,b__more"))
    assert dict(zip(data.views.names, data.views.widths, strict=True)) == {"a": 2, "b": 1}
    assert not any("accept-leak" in note for note in data.notes)
    data = load_dataset(path, options=FileOptions(accept_leak=True))
    assert any("b__copy" in note and "read all the same" in note for note in data.notes)
    own, _ = load_labelled(path, FileOptions(), stop_at_leaks=False)
    (warning,) = [finding for finding in check_file(own) if "one-to-one" in finding.what]
    assert warning.level == "warning"
    assert "--leave-out b__copy,b__more" in warning.consequence


def test_many_leaks_make_one_short_sentence():
    own = own_file(np.tile(SHUFFLED[:, None], 200), SHUFFLED)
    with pytest.raises(DataError, match="199 others do the like") as caught:
        refuse_leaks(own, name="x" * 200)
    assert len(str(caught.value)) <= 300


@pytest.mark.parametrize(
    ("leave_out", "views"),
    [
        ("a__0", {"a": ("a__1",), "b": ("b__0",)}),
        ("a", {"b": ("b__0",)}),
        ("b__0", {"a": ("a__0", "a__1")}),
        ("a__0, b", {"a": ("a__1",)}),
        ("label", {"a": ("a__0", "a__1"), "b": ("b__0",)}),
    ],
)
def test_leave_out_of_a_table(leave_out, views):
    columns = ["label", "a__0", "a__1", "b__0", "y"]
    target = "y" if leave_out == "label" else "label"
    if target == "label":
        columns.remove("y")
    layout = table_layout(columns, FileOptions(leave_out=leave_out))
    assert (layout.views, layout.target) == (views, target)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"leave_out": "a__9"}, "a__9.*no column or view; did you mean .*a__0"),
        ({"leave_out": "a,b"}, "leaves no view"),
        ({"leave_out": "a__0,a__1,b__0"}, "leaves no view"),
        ({"leave_out": "y", "target": "y"}, "'y', which is --target"),
        ({"leave_out": "id", "id": "id"}, "'id', which is --id"),
    ],
)
def test_mistakes_in_leave_out(options, words):
    with pytest.raises(OptionError, match=words):
        table_layout(["id", "a__0", "a__1", "b__0", "y"], FileOptions(**options))


def test_leave_out_beside_views_and_in_folders(tmp_path):
    options = FileOptions(views="u=x1:x3,v=z", leave_out="x2,v")
    assert table_layout(["x1", "x2", "x3", "z", "y"], options).views == {"u": ("x1", "x3")}
    columns = {"face": ["id", "f0", "f1"], "voice": ["id", "v0"], "who": ["id", "y", "w0"]}
    for leave_out, views in (
        ("f0", {"face": ("f1",), "voice": ("v0",), "who": ("w0",)}),
        ("voice", {"face": ("f0", "f1"), "who": ("w0",)}),
        ("who", {"face": ("f0", "f1"), "voice": ("v0",)}),
    ):
        layout, owner = folder_layout(tmp_path, columns, FileOptions(leave_out=leave_out))
        assert (layout.views, owner) == (views, "who")
    with pytest.raises(OptionError, match="did you mean voice"):
        folder_layout(tmp_path, columns, FileOptions(leave_out="vioce"))


@pytest.mark.parametrize("name", ["truth", "gnd", "truelabel", "Label", "GT_train", "target_names"])
def test_usual_names_of_targets(name, tmp_path):
    own = (
        read_own_file(tmp_path / "f.csv", FileOptions())
        if write(tmp_path, **{name: SHUFFLED})
        else None
    )
    assert own.layout.target == name
    assert own.notes == (
        f"target: column {name!r} (by its name)",
        "views: a, b (columns called view__column)",
    )


def test_the_target_of_two_usual_names_is_told():
    from rcml_misa.datasets.files.guesses import guess_notes

    options = FileOptions(views="a=x,b=truth")
    layout = table_layout(["x", "truth", "label", "id"], options)
    assert guess_notes(layout, options, "column") == (
        "target: column 'label' (by its name; 'truth', of a usual name too, is read as data)",
        "id: column 'id' (by its name)",
    )


# raw tables in the check


def test_every_oddity_of_a_raw_table_is_told_at_once():
    rows = 40
    frame = pd.DataFrame(
        {
            "age": np.where(np.arange(rows) < 10, np.nan, RNG.normal(size=rows)),
            "dose": np.where(np.arange(rows) == 3, np.inf, 1.5),
            "same": 7.0,
            "sex": RNG.choice(["f", "m"], rows),
            "name": [f"n{place}" for place in range(rows)],
            "day": ["2026-01-02"] * rows,
            "ok": RNG.random(rows) < 0.5,
            "mixed": ["?" if place < 4 else str(place) for place in range(rows)],
            "void": None,
        }
    )
    views = MultiView({"a": RawTable(frame), "b": RNG.normal(size=(rows, 2))})
    layout = FileLayout({"a": tuple(frame), "b": ("b0", "b1")})
    labels = RNG.permutation(np.arange(rows) % 2)
    found = {one.what: one for one in check_file(OwnFile(views, labels, layout))}

    def seen(words):
        return next(one for what, one in found.items() if words in what)

    assert "view a: 9 columns of any type: 3 of numbers" in seen("of any type").what
    assert "at most 25 % ('age')" in seen("gaps").what
    assert "median of train rows and an indicator" in seen("gaps").consequence
    assert "'same', 'day'" in seen("of one value").what
    assert "('dose')" in seen("infinite numbers").what
    assert "One-hot" in seen("categories or texts ('sex')").consequence
    assert "Set aside" in seen("differ in nearly every row ('name')").consequence
    assert "numbers of days" in seen("of dates ('day')").consequence
    assert "Set aside" in seen("without any value ('void')").consequence
    assert seen("numbers and words mixed ('mixed')").level == "warning"
    assert seen("truth values ('ok')")
