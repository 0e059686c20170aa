"""Containers of other libraries at every door: frames, columns and tensors; tables left raw."""

from __future__ import annotations

import datetime
import time
from decimal import Decimal

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from rcml_misa.estimators import (
    ControlClassifier,
    KernelExpertClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
)
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import MultiView, RawTable, Sequences, Texts, as_multiview, holds_views

NAMES = ["a__0", "a__1", "a__2", "b__0", "b__1"]
rng = np.random.default_rng(0)
TABLE = rng.normal(size=(36, 5))
LABELS = (TABLE[:, 0] + TABLE[:, 3] > 0).astype(int)


def pandas_frame(table: np.ndarray = TABLE) -> pd.DataFrame:
    return pd.DataFrame(table, columns=NAMES)


def polars_frame(table: np.ndarray = TABLE) -> pl.DataFrame:
    return pl.DataFrame({name: table[:, place] for place, name in enumerate(NAMES)})


FRAMES = {
    "pandas": pandas_frame,
    "nullable": lambda: pandas_frame().astype("Float64"),
    "pyarrow-backed": lambda: pandas_frame().astype("float64[pyarrow]"),
    "polars": polars_frame,
    "pyarrow": lambda: polars_frame().to_arrow(),
    "narwhals": lambda: nw.from_native(polars_frame()),
    "narwhals of pandas": lambda: nw.from_native(pandas_frame()),
}
BY_NAME = {"a": NAMES[:3], "b": NAMES[3:]}


@pytest.mark.parametrize("kind", FRAMES)
@pytest.mark.parametrize("views", ["__", BY_NAME, {"a": slice(0, 3), "b": [3, 4]}], ids=str)
def test_one_frame_of_any_library_is_cut_by_names(kind, views) -> None:
    cut = as_multiview(FRAMES[kind](), views)
    assert cut.names == ("a", "b")
    np.testing.assert_array_equal(cut.to_array(), TABLE)
    assert cut.column_names == (tuple(NAMES[:3]), tuple(NAMES[3:]))


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_any_library_in_a_dict_and_a_list(kind) -> None:
    frame = FRAMES[kind]()
    for X in ({"a": frame, "b": TABLE}, [frame, TABLE], [TABLE, frame]):
        assert holds_views(X)
        views = as_multiview(X)
        assert views.widths == (5, 5)
        np.testing.assert_array_equal(views.to_array(), np.hstack([TABLE, TABLE]))


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "pyarrow-backed"])
@pytest.mark.parametrize(
    "estimator",
    [KernelExpertClassifier(random_state=0), ControlClassifier(model="lda")],
    ids=lambda estimator: type(estimator).__name__,
)
def test_estimators_read_them_as_they_read_arrays(kind, estimator) -> None:
    by_array = estimator.set_params(views=[3, 2]).fit(TABLE, LABELS).predict_proba(TABLE)
    fitted = estimator.set_params(views="__").fit(FRAMES[kind](), pl.Series(LABELS))
    assert fitted.feature_names_in_.tolist() == NAMES
    np.testing.assert_allclose(fitted.predict_proba(FRAMES[kind]()), by_array, rtol=1e-5)


def test_a_pipeline_may_hand_over_polars() -> None:
    scaler = make_column_transformer((StandardScaler(), NAMES), verbose_feature_names_out=False)
    scaler.set_output(transform="polars")
    model = make_pipeline(scaler, RCMLMISAClassifier(views="__", epochs=1, random_state=0))
    assert model.fit(polars_frame(), LABELS)[-1].view_names_ == ("a", "b")


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, pd.DataFrame])
def test_missing_values_become_nan(make) -> None:
    frame = make({"x": [1.5, None, 3.0], "y": [True, None, False], "z": [1, None, 3]})
    values = MultiView({"a": frame})["a"]
    np.testing.assert_array_equal(values, [[1.5, 1, 1], [np.nan] * 3, [3, 0, 3]])
    numbers = make({"x": [1.5, None, 3.0], "z": [1, None, 3]})
    np.testing.assert_array_equal(MultiView([numbers]).arrays[0], values[:, [0, 2]])
    with pytest.raises(DataError, match=r"in 1 of 2 rows .*TablePreparer"):
        MultiView({"a": make({"x": [1.5, None], "y": [1, 2]})})


def test_decimals_and_a_column_of_nothing() -> None:
    frame = pl.DataFrame({"d": [Decimal("1.5"), Decimal("2.5")]})
    assert MultiView({"a": frame})["a"].tolist() == [[1.5], [2.5]]
    gone = pl.DataFrame({"d": [None, None]})
    assert not MultiView({"a": frame, "b": gone}).present[:, 1].any()


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, pd.DataFrame])
def test_what_is_no_number_is_named(make) -> None:
    frame = make({"x": [1.0, 2.0], "colour": ["red", "blue"]})
    with pytest.raises(
        DataError, match=r"view 'a' is not numeric .*colour.*TablePreparer"
    ) as caught:
        MultiView({"a": frame})
    assert isinstance(caught.value, TypeError)
    with pytest.raises(DataError, match="0 sample"):
        MultiView({"a": make({"x": np.empty(0)})})


def test_two_columns_of_one_name() -> None:
    with pytest.raises(DataError, match=r"view 'a' has columns of one name .*'x' 2 times"):
        MultiView({"a": pa.table([[1, 2], [3, 4]], names=["x", "x"])})
    assert MultiView({"a": pd.DataFrame([[1, 2]], columns=["x", "x"])}).widths == (2,)


def test_a_wide_frame_is_read_column_by_column_once() -> None:
    wide = pl.DataFrame({f"c{place}": [1.0, 2.0] for place in range(20_000)})
    start = time.perf_counter()
    assert as_multiview(wide).widths == (20_000,)
    assert time.perf_counter() - start < 5


def test_a_lazy_frame_is_to_be_collected() -> None:
    for X in ({"a": polars_frame().lazy()}, [polars_frame().lazy(), TABLE]):
        with pytest.raises(DataError, match=r"view .* is a LazyFrame.*collect"):
            as_multiview(X)
    with pytest.raises(DataError, match=r"X is a LazyFrame.*collect"):
        KernelExpertClassifier(views="__").fit(polars_frame().lazy(), LABELS)


WORDS = ["good", "bad", "so so", ""]
COLUMNS = {
    "pandas str": pd.Series(WORDS),
    "pandas object": pd.Series(WORDS, dtype=object, index=list("pqrs")),
    "pandas string": pd.Series(WORDS, dtype="string"),
    "pandas pyarrow": pd.Series(WORDS, dtype="string[pyarrow]"),
    "pandas category": pd.Series(WORDS, dtype="category"),
    "polars": pl.Series(WORDS),
    "polars categorical": pl.Series(WORDS, dtype=pl.Categorical),
    "chunked": pa.chunked_array([WORDS[:2], WORDS[2:]]),
    "arrow array": pa.array(WORDS),
    "object array": np.array(WORDS, dtype=object),
    "string array": np.array(WORDS, dtype=np.dtypes.StringDType()),
    "tuple": tuple(WORDS),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_texts_is_a_text_view(kind) -> None:
    column = COLUMNS[kind]
    forms = [{"t": column, "n": np.ones((4, 2))}, [np.ones((4, 2)), column]]
    forms += [] if kind == "tuple" else [[column]]
    for X in forms:
        views = as_multiview(X)
        (texts,) = (array for array in views.arrays if isinstance(array, Texts))
        assert texts.values == tuple(WORDS)
    assert Texts(column).values == tuple(WORDS)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("make", [list, lambda v: np.array(v, dtype=object), pd.Series])
def test_a_missing_text_is_named_by_its_row(missing, make) -> None:
    with pytest.raises(DataError, match="view 't': text 2 is missing; give an empty str"):
        MultiView({"t": make(["a", "b", missing, "c"])})
    with pytest.raises(DataError, match="text 0 is missing"):
        MultiView({"t": pl.Series([None, "b"])})
    with pytest.raises(DataError, match="text 1 is int"):
        MultiView({"t": ["a", 1]})


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_one_column_by_its_name_is_a_text_view(make) -> None:
    frame = make({"x": [1.0, 2.0], "review": ["good", "bad"]})
    views = as_multiview(frame, {"n": ["x"], "t": "review"})
    assert views.kinds == ("dense", "text")
    assert as_multiview(frame, {"n": "x"})["n"].tolist() == [[1.0], [2.0]]
    with pytest.raises(DataError, match="not numeric"):
        as_multiview(frame, {"t": ["review"]})  # a list of columns is a table


TENSORS = {
    "float32": (torch.ones(4, 3), "dense"),
    "bfloat16": (torch.ones(4, 3).bfloat16(), "dense"),
    "half": (torch.ones(4, 3).half(), "dense"),
    "integers": (torch.ones(4, 3, dtype=torch.int64), "dense"),
    "truth": (torch.ones(4, 3, dtype=torch.bool), "dense"),
    "gradient": (torch.ones(4, 3, requires_grad=True), "dense"),
    "bfloat16 gradient": (torch.ones(4, 3).bfloat16().requires_grad_(), "dense"),
    "transposed": (torch.ones(3, 4).T, "dense"),
    "negated view": (torch._neg_view(-torch.ones(4, 3)), "dense"),
    "sparse": (torch.ones(4, 3).to_sparse(), "dense"),
    "sequence": (torch.ones(4, 5, 3), "sequence"),
    "bfloat16 sequence": (torch.ones(4, 5, 3).bfloat16(), "sequence"),
}


@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_of_any_dtype_and_shape(kind) -> None:
    tensor, form = TENSORS[kind]
    for X in ({"v": tensor}, [tensor]):
        views = as_multiview(X)
        assert views.kinds == (form,)
        array = views.arrays[0]
        assert (array.values if isinstance(array, Sequences) else array).min() == 1.0
    if tensor.ndim == 2:
        assert as_multiview(tensor, [1, 2]).widths == (1, 2)
    else:
        with pytest.raises(DataError, match="3-D"):
            as_multiview(tensor)


def test_lists_of_tensors_and_of_frames_are_sequences() -> None:
    steps = [torch.ones(2, 3), torch.ones(5, 3, requires_grad=True)]
    assert MultiView({"v": steps})["v"].lengths.tolist() == [2, 5]
    frames = [pl.DataFrame(np.ones((k, 3))) for k in (2, 5)]
    assert MultiView({"v": frames})["v"].lengths.tolist() == [2, 5]
    assert Sequences(steps[1][None], torch.tensor([4])).lengths.tolist() == [4]
    tables = np.empty(2, dtype=object)
    tables[:] = [np.ones((2, 3)), np.ones((5, 3))]
    assert MultiView({"v": tables})["v"].lengths.tolist() == [2, 5]


def test_tensors_that_are_no_numbers() -> None:
    with pytest.raises(DataError, match="Complex data not supported"):
        MultiView({"v": torch.ones(4, 3, dtype=torch.complex64)})
    with pytest.raises(DataError, match="is a tensor that NumPy can't take"):
        MultiView({"v": torch.ones(4, 3, device="meta")})


class Elsewhere:
    """A tensor on another device, whose values come only after `detach` and `cpu`."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.calls = values, values.shape, []

    def detach(self) -> Elsewhere:
        self.calls.append("detach")
        return self

    def cpu(self) -> Elsewhere:
        self.calls.append("cpu")
        return self

    def numpy(self) -> np.ndarray:
        if self.calls != ["detach", "cpu"]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.values

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


def test_a_tensor_on_another_device_is_copied() -> None:
    assert MultiView([Elsewhere(np.ones((4, 5, 3)))]).kinds == ("sequence",)
    assert as_multiview(Elsewhere(np.ones((4, 3))), [1, 2]).widths == (1, 2)


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor(LABELS),
        pl.Series(LABELS),
        pl.DataFrame({"y": LABELS})["y"],
        pa.chunked_array([LABELS]),
        pd.Series(LABELS, dtype="Int64"),
        pd.Series(LABELS, dtype="int64[pyarrow]"),
    ],
    ids=lambda labels: (
        f"{type(labels).__module__} {labels.dtype if hasattr(labels, 'dtype') else ''}"
    ),
)
def test_labels_keep_their_type(labels) -> None:
    model = KernelExpertClassifier().fit([TABLE], labels)
    assert model.classes_.dtype.kind == "i"
    assert model.score([TABLE], labels) == model.score([TABLE], LABELS)
    weights = torch.ones(36)
    assert KernelExpertClassifier().fit([TABLE], labels, sample_weight=weights).classes_.tolist()


def test_a_regressor_takes_them_too() -> None:
    X = {"a": polars_frame(), "s": torch.ones(36, 2, 3), "t": pl.Series(["a", "b"] * 18)}
    model = RCMLMISARegressor(epochs=1, text_encoder="words", device="cpu", random_state=0)
    model.fit(X, torch.tensor(TABLE[:, 0], requires_grad=True))
    assert model.kinds_ == ("dense", "sequence", "text")
    assert np.isfinite(model.predict(X)).all()


@pytest.mark.parametrize("keys", [(0, 1), (np.int64(3), np.int64(7))])
def test_numbered_views_get_the_way_out(keys) -> None:
    X = dict(zip(keys, (TABLE, TABLE), strict=True))
    with pytest.raises(OptionError, match=r"name the views.*\{f'view\{k\}': x for k, x in X"):
        KernelExpertClassifier().fit(X, LABELS)
    named = {f"view{k}": x for k, x in X.items()}
    model = KernelExpertClassifier().fit(named, LABELS)
    with pytest.raises(OptionError, match="name the views"):
        model.predict(X)


# tables left raw

DAYS = [datetime.date(2020, 1, 1), datetime.date(2020, 2, 1)]
RAW = {
    "texts": pd.DataFrame({"x": [1, 2], "c": ["u", "v"]}),
    "category": pd.DataFrame({"c": pd.Categorical(["u", "v"])}),
    "date": pd.DataFrame({"d": pd.to_datetime(DAYS)}),
    "a gap": np.array([[1.0, np.nan], [2.0, 3.0]]),
    "infinity": np.array([[1.0, np.inf], [2.0, 3.0]]),
    "objects": np.array([["u", 1.0], ["v", None]], dtype=object),
    "strings": np.array([["u", "1"], ["v", "2"]]),
    "list": [["u", 1.0], ["v", 2.0]],
    "pyarrow-backed": pd.DataFrame({"c": pd.Series(["u", None], dtype="string[pyarrow]")}),
    "nullable gap": pd.DataFrame({"x": pd.array([1, None], dtype="Int64"), "y": [1.0, 2.0]}),
    "polars": pl.DataFrame({"x": [1, 2], "c": ["u", None], "d": DAYS, "b": [True, None]}),
    "polars category": pl.DataFrame({"c": pl.Series(["u", "v"], dtype=pl.Categorical)}),
    "pyarrow": pa.table({"x": [1, None], "c": ["u", "v"]}),
}


@pytest.mark.parametrize("kind", RAW)
def test_what_is_not_numbers_without_gaps_stays_raw(kind) -> None:
    table = RAW[kind]
    for X in (table, {"a": table}, [table, np.ones((2, 1))]):
        view = as_multiview(X, raw=True).arrays[0]
        assert isinstance(view, RawTable)
        assert view.shape == np.shape(table)
        with pytest.raises(DataError, match="TablePreparer"):
            as_multiview(X)
    with pytest.raises(DataError, match=r"raw table.*TablePreparer"):
        KernelExpertClassifier().fit(as_multiview({"a": table}, raw=True), [0, 1])


def test_columns_keep_their_types_in_a_raw_table() -> None:
    frame = as_multiview(RAW["polars"], raw=True).arrays[0].frame
    assert [dtype.kind for dtype in frame.dtypes][:1] == ["i"]
    assert frame["c"].isna().tolist() == [False, True]
    assert frame["d"].dtype.kind == "M"
    assert as_multiview(RAW["list"], raw=True).arrays[0].frame[1].tolist() == [1.0, 2.0]
    assert isinstance(
        as_multiview(RAW["polars category"], raw=True).arrays[0].frame["c"].dtype,
        pd.CategoricalDtype,
    )


@pytest.mark.parametrize("kind", FRAMES)
def test_numbers_stay_numbers_where_raw_is_allowed(kind) -> None:
    views = as_multiview(FRAMES[kind](), "__", raw=True)
    assert views.kinds == ("dense", "dense")
    np.testing.assert_array_equal(views.to_array(), TABLE)
    gone = np.where(np.arange(2)[:, None] == 0, np.nan, np.ones((2, 3)))
    assert as_multiview([gone], raw=True).present.tolist() == [[False], [True]]
    mixed = as_multiview(pd.DataFrame({"a__x": [1, 2], "b__c": ["u", "v"]}), "__", raw=True)
    assert mixed.kinds == ("dense", "raw")
    other = as_multiview({"s": np.ones((2, 3, 1)), "t": ["u", "v"]}, raw=True)
    assert other.kinds == ("sequence", "text")
