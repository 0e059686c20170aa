"""The restricted reader gives what the standard library wrote, in every protocol."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import fuzz_pickles, save
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rcml_misa.datasets.foreign import FloatList, read_pickle
from rcml_misa.datasets.foreign import source as source_module

RNG = np.random.default_rng(0)
WRITERS = [(protocol, False) for protocol in range(6)] + [(protocol, True) for protocol in range(3)]


def same(wanted: Any, found: Any) -> bool:
    """Equal in value, element type and bytes; a list of floats may come compact."""
    if isinstance(wanted, np.ndarray) and wanted.dtype != object:
        return (
            isinstance(found, np.ndarray)
            and (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
            and found.tobytes() == wanted.tobytes()
        )
    if isinstance(wanted, dict):
        return list(wanted) == list(found) and all(same(wanted[k], found[k]) for k in wanted)
    if isinstance(wanted, (list, tuple, np.ndarray)):
        kinds = (type(wanted), FloatList) if isinstance(wanted, list) else type(wanted)
        pairs = zip(wanted, found, strict=True)
        return isinstance(found, kinds) and all(same(one, two) for one, two in pairs)
    return type(wanted) is type(found) and wanted == found


@pytest.fixture
def trip(tmp_path):
    def there_and_back(value: Any, protocol: int, python2: bool = False) -> Any:
        path = save(tmp_path / "features.pkl", value, protocol=protocol, python2=python2)
        return read_pickle(path)

    return there_and_back


ARRAYS = [
    RNG.normal(size=(50, 7)),
    RNG.normal(size=(3, 4, 5)).astype(np.float32),
    RNG.normal(size=(6, 2)).astype(">f4"),
    np.asfortranarray(RNG.normal(size=(5, 4))),
    np.arange(5000, dtype=np.int16),
    np.arange(4, dtype=np.uint64).reshape(2, 2),
    np.array(3.5),
    np.zeros((0, 3)),
    np.array([True, False]),
    np.array(["x", "héllo"]),
    np.array([b"a", b"bc"]),
    np.array([0.0, -np.inf, np.nan, np.inf]),
    np.array(["q", {"z": [1]}, None], dtype=object),
    RNG.normal(size=(8, 8))[::2, ::3],
]


@pytest.mark.parametrize(("protocol", "python2"), WRITERS)
def test_arrays_come_back_bitwise(trip, protocol, python2) -> None:
    found = trip({"arrays": ARRAYS, "again": ARRAYS[0]}, protocol, python2)
    assert all(same(wanted, one) for wanted, one in zip(ARRAYS, found["arrays"], strict=True))
    assert found["again"] is found["arrays"][0]
    assert not any(one.flags.writeable for one in found["arrays"] if one.dtype != object)


@pytest.mark.parametrize(("protocol", "python2"), WRITERS)
def test_plain_values_come_back(trip, protocol, python2) -> None:
    shared = [0.0] * 3
    value = {
        "numbers": [1, 300, 70_000, 2**70, -(2**31), 2.5, True, False, None],
        "numpy": [np.float32(1.5), np.int64(7), np.str_("w"), np.bool_(True)],
        "text": ["", "a", "é∂𝄞", 'it\'s "quoted"\n\\x41', "\\u0041", "x" * 300],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, (2, 3, 4, 5))],
        "dict": {1: 2, "a": {}, 2.5: [], None: {"b": 1}},
        "sets": [{1, "a"}, frozenset({2})],
        "ordered": OrderedDict(a=1, b=[2.0]),
        "floats": [float(x) for x in RNG.random(2500)],
        "first a float": [0.5, "x", None],
        "then text": [0.25] * 1500 + ["x"],
        "shared": [[shared, shared], [[1.5, 2.5]]],
    }
    assert same(value, trip(value, protocol, python2))


@pytest.mark.parametrize("protocol", range(6))
def test_bytes_come_back(trip, protocol) -> None:
    value = [b"", b"\x00\xff", bytes(range(256)) * 20]
    assert same(value, trip(value, protocol))
    assert trip(bytearray(b"xyz"), protocol) == b"xyz"


def test_python2_text_that_is_no_utf8_is_latin1(tmp_path) -> None:
    path = tmp_path / "old.pkl"
    path.write_bytes(b"\x80\x02U\x04caf\xe9.")
    assert read_pickle(path) == "café"


@pytest.mark.parametrize(("protocol", "python2"), [(0, False), (2, False), (0, True)])
def test_text_that_holds_an_array_is_decoded_in_parts(trip, monkeypatch, protocol, python2) -> None:
    # every way of cutting escapes and characters at a chunk's end
    rng = np.random.default_rng(1)
    hard = np.frombuffer(b"\\\n\x00\xff'\"A\\\\x41\r\x1a\xc3\xa9" * 40, dtype=np.uint8)
    for chunk in range(11, 40):
        monkeypatch.setattr(source_module, "CHUNK", chunk)
        array = rng.permutation(hard)
        assert same([array, hard], trip([array, hard], protocol, python2))


def test_arrays_share_the_file(tmp_path) -> None:
    array = RNG.normal(size=(200, 100))
    found = read_pickle(save(tmp_path / "features.pkl", array, protocol=4))
    assert not found.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found[0, 0] = 1.0


def test_a_list_of_floats_is_compact_and_an_array_to_numpy(trip) -> None:
    rows = [[float(x) for x in row] for row in RNG.normal(size=(20, 81))]
    found = trip(rows, 4)
    assert {type(row) for row in found} == {FloatList}
    np.testing.assert_array_equal(np.asarray(found), np.asarray(rows))
    assert np.asarray(found[0]).dtype == np.float64
    assert np.shares_memory(np.asarray(found[0]), np.asarray(found[0]))
    assert found[0] == rows[0]
    assert repr(found[0]) == repr(rows[0])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=40),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(value=plain, protocol=st.integers(0, 5))
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_plain_value_comes_back(tmp_path: Path, value: Any, protocol: int) -> None:
    path = tmp_path / "any.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    assert same(value, read_pickle(path))


def test_mutated_files_are_read_or_refused() -> None:
    report = fuzz_pickles.fuzz(600, seed=7)
    assert set(report.outcomes) == {"read", "refused"}
    assert report.slowest < 1.0
    assert report.imported == set()
