"""Memory maps as views: the values of memory, read block by block, whose pages are let go of."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from rcml_misa.estimators.base import class_labels
from rcml_misa.exceptions import DataError
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.rows import class_codes, spare_rows
from rcml_misa.views import (
    MappedRows,
    MultiView,
    ViewMeans,
    as_multiview,
    data_sha256,
    dense,
    is_mapped,
    mapped,
    multiview,
    refuse_huge,
)

ROWS = 20_000  # several blocks


def stored(folder: Path, name: str, values: np.ndarray) -> np.memmap:
    """Write values into a file and map it."""
    np.save(folder / f"{name}.npy", values)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    """Two tables, of float64 with missing rows and of float32."""
    rng = np.random.default_rng(0)
    face = rng.normal(size=(ROWS, 5))
    face[rng.random(ROWS) < 0.1] = np.nan
    return {"face": face, "voice": rng.normal(size=(ROWS, 3)).astype(np.float32)}


@pytest.fixture
def maps(arrays, tmp_path) -> dict[str, np.memmap]:
    return {name: stored(tmp_path, name, values) for name, values in arrays.items()}


def test_a_map_is_kept_and_says_what_memory_says(arrays, maps):
    memory, views = MultiView(arrays), MultiView(maps)
    for array, table in zip(views.arrays, maps.values(), strict=True):
        assert is_mapped(array)
        assert array.dtype == table.dtype
        assert np.shares_memory(array, table)
        assert not array.flags.writeable
    labels = np.arange(ROWS) % 7
    assert data_sha256(views, labels) == data_sha256(memory, labels)
    np.testing.assert_array_equal(views.present, memory.present)
    assert not views.complete
    assert views.kinds == ("dense", "dense")
    for name in arrays:
        np.testing.assert_array_equal(dense(views[name]), memory[name])
    for own, theirs in zip(ViewMeans.fit(views).means, ViewMeans.fit(memory).means, strict=True):
        np.testing.assert_array_equal(own, theirs)
    for own, theirs in zip(views.arrays, memory.arrays, strict=True):
        one, other = ColumnMap.fit(own), ColumnMap.fit(theirs)
        for left, right in zip(one.maps, other.maps, strict=True):
            np.testing.assert_array_equal(left.shift, right.shift)
            np.testing.assert_array_equal(left.scale, right.scale)
            np.testing.assert_array_equal(left.mean, right.mean)


@pytest.mark.parametrize(
    "rows",
    [
        slice(3, 9000),
        slice(None, None, 3),
        np.arange(100, 700),
        np.arange(300, 100, -1),
        np.arange(0),
        np.random.default_rng(1).permutation(ROWS)[:900],
        np.array([-1, 0, 0]),
        np.arange(ROWS) % 4 == 0,
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_read_of_a_map_are_those_of_memory(arrays, maps, rows, dtype):
    for name, values in arrays.items():
        read = dense(MultiView(maps)[name], rows, dtype)
        assert read.dtype == dtype
        assert not is_mapped(read)
        assert read.flags.owndata
        np.testing.assert_array_equal(read, values[rows].astype(dtype))


@pytest.mark.parametrize("copied", [10, ROWS])
def test_rows_taken_of_a_map(arrays, maps, copied, monkeypatch):
    monkeypatch.setattr(multiview, "COPIED", copied)
    memory, views = MultiView(arrays), MultiView(maps)
    views.present  # noqa: B018 - its rows are taken along
    order = np.random.default_rng(2).permutation(ROWS)[: ROWS // 2]
    some = views.take(slice(5, 15_000)).take(order[order < 14_000])
    expected = memory.take(slice(5, 15_000)).take(order[order < 14_000])
    assert isinstance(some.arrays[0], MappedRows) == (copied == 10)
    for again in (some, pickle.loads(pickle.dumps(some))):  # noqa: S301
        np.testing.assert_array_equal(again.present, expected.present)
        for name in arrays:
            np.testing.assert_array_equal(dense(again[name]), expected[name])
            np.testing.assert_array_equal(
                dense(again[name][2:40], slice(1, 9)), expected[name][3:11]
            )
    lazily, at_once = ViewMeans.fit(some).fill(some), ViewMeans.fit(expected).fill(expected)
    assert lazily.complete
    np.testing.assert_allclose(dense(lazily["face"]), at_once["face"], rtol=1e-12)
    last = some.take([-1])
    np.testing.assert_array_equal(dense(last["voice"]), expected["voice"][-1:])


def test_views_cut_from_one_map_by_columns(tmp_path):
    values = np.random.default_rng(3).normal(size=(ROWS, 6)).astype(np.float32)
    views = as_multiview(stored(tmp_path, "table", values), views={"a": 2, "b": 4})
    assert all(map(is_mapped, views.arrays))
    again = pickle.loads(pickle.dumps(views.take(slice(7, None))))  # noqa: S301
    assert all(map(is_mapped, again.arrays))
    np.testing.assert_array_equal(again.to_array(), values[7:])


def test_what_is_no_row_wise_map_of_floats_is_read_into_memory(tmp_path):
    whole = np.arange(12).reshape(4, 3)
    for name, values in (
        ("integers", whole),
        ("columns", np.asfortranarray(whole * 1.0)),
        ("swapped", whole.astype(">f8")),
    ):
        table = stored(tmp_path, name, values)
        assert not is_mapped(table)
        np.testing.assert_array_equal(MultiView([table])["view1"], whole)
    private = np.load(tmp_path / "integers.npy").astype(np.float64)
    np.save(tmp_path / "private.npy", private)
    table = np.load(tmp_path / "private.npy", mmap_mode="c")
    table[0] = 7.0
    assert not is_mapped(table)
    np.testing.assert_array_equal(dense(MultiView([table])["view1"])[0], 7.0)


def test_rows_that_a_map_lacks_are_refused(maps):
    for rows in (np.array([0, ROWS]), np.array([-ROWS - 1]), np.ones(3, dtype=bool)):
        with pytest.raises(IndexError):
            dense(MultiView(maps)["voice"], rows)


def test_flaws_of_a_map_are_named_by_their_row(arrays, maps, tmp_path):
    flawed = arrays["voice"].copy()
    flawed[9000, 1], flawed[17_000] = np.inf, np.nan
    with pytest.raises(DataError, match=r"NaN or infinity in 1 of 20000 rows .* row 9000"):
        MultiView({"voice": stored(tmp_path, "flawed", flawed)})
    huge = np.zeros((ROWS, 2))
    huge[12_345, 1] = 1e200
    views = MultiView({"huge": stored(tmp_path, "huge", huge)})
    with pytest.raises(DataError, match="1e\\+200 in train row 12345"):
        refuse_huge("huge", views["huge"])
    refuse_huge("voice", MultiView(maps)["voice"])


def test_a_pickled_map_is_the_name_of_its_file(maps, arrays, tmp_path):
    views = MultiView(maps)
    content = pickle.dumps(views)
    assert len(content) < 4000
    again = pickle.loads(content)  # noqa: S301
    assert all(map(is_mapped, again.arrays))
    np.testing.assert_array_equal(again.to_array(), MultiView(arrays).to_array())
    (tmp_path / "face.npy").unlink()
    with pytest.raises(DataError, match=r"face\.npy can't be opened"):
        pickle.loads(content)  # noqa: S301


def test_no_step_asks_for_more_rows_than_a_block(maps, monkeypatch):
    asked = []
    inner = mapped.read

    def read(view, rows, dtype=np.float64):
        values = inner(view, rows, dtype)
        asked.append(len(values))
        return values

    for module in ("arrays", "multiview", "mapped"):
        monkeypatch.setattr(f"rcml_misa.views.{module}.read", read)
    views = MultiView(maps)
    data_sha256(views, np.arange(ROWS))
    ViewMeans.fit(views).fill(views)
    for name, array in views.items():
        refuse_huge(name, array)
    assert max(asked) == 8192
    assert sum(asked) > 5 * ROWS


def test_presence_is_looked_up_once_and_takes_no_memory_without_gaps(arrays, monkeypatch):
    views = MultiView(arrays)
    assert views.present is views.present
    with pytest.raises(ValueError, match="read-only"):
        views.present[0, 0] = False
    full = MultiView({"a": np.ones((9, 2)), "b": np.ones((9, 1))})
    assert full.complete
    assert full.present.strides == (0, 0)
    monkeypatch.setattr(multiview, "present_rows", None)  # not asked again
    np.testing.assert_array_equal(views.take([3, 5]).present, views.present[[3, 5]])
    assert full.take(slice(2, 4)).present.tolist() == [[True, True]] * 2


def test_classes_of_many_labels_are_those_of_unique():
    rng = np.random.default_rng(4)
    for labels in (
        rng.integers(0, 2000, 140_000),
        rng.choice(np.array(["no", "yes", "perhaps"]), 70_000),
        rng.choice(np.array(["no", "yes"], dtype=object), 70_000),
        rng.random(70_000) < 0.5,
    ):
        expected = np.unique(labels, return_inverse=True)
        for own, theirs in zip(class_codes(labels), expected, strict=True):
            np.testing.assert_array_equal(own, theirs)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(class_labels(labels), labels)
    measured = np.zeros(140_000)
    measured[-1] = 0.5
    with pytest.raises(DataError, match="continuous"):
        class_labels(measured)


def test_spare_rows_are_all_but_the_first_of_each_class():
    rng = np.random.default_rng(5)
    target, order = rng.integers(0, 6, 500), rng.permutation(500)
    target[target == 3] = 4  # a number without a row
    _, first = np.unique(target[order], return_index=True)
    np.testing.assert_array_equal(spare_rows(target, order), np.delete(order, first))


BIG = """
import sys, resource
import numpy as np
from rcml_misa.estimators.rcml_misa import RCMLMISAClassifier
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.features import FeatureMap
from rcml_misa.views import MultiView, data_sha256, dense, judge_presence, refuse_huge, row_slices

path, rows, width = sys.argv[1], 1_000_000, 100
rng = np.random.default_rng(0)
block = rng.normal(size=(10_000, width)).astype(np.float32)
with open(path, "wb") as stream:
    for _ in range(rows // len(block)):
        stream.write(block.tobytes())
codes = np.arange(rows) % 5


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


start = peak()
table = np.memmap(path, np.float32, mode="r", shape=(rows, width))
views = MultiView({"a": table[:, :60], "b": table[:, 60:]})
for name, array in views.items():
    refuse_huge(name, array)
assert views.complete
judge_presence(views, codes)
data_sha256(views, codes)
FeatureMap.fit(views["a"], features="plain")
for name in views:
    for rows_ in row_slices(rows, width):
        dense(views[name], rows_)
for _ in range(20):
    dense(views["b"], rng.integers(0, rows, 2048))
model = RCMLMISAClassifier(early_stopping=True, random_state=0)
given = model._check_train(views, codes)
train, held = model._hold_out(given, rng)
ColumnMap.fit(train.views["a"])
assert (len(train.views.arrays[0]), len(held.views.arrays[0])) == (900_000, 100_000)
print(peak() - start)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages are let go of by madvise, as on Linux")
def test_memory_does_not_grow_with_rows(tmp_path):
    path = tmp_path / "table"
    done = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", BIG, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    path.unlink()
    assert float(done.stdout) < 120  # MB, of a table of 400
