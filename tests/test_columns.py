"""Columns that a network and the ridge members read: readings, variances, principal components."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.decomposition import PCA

from rcml_misa.exceptions import OptionError
from rcml_misa.reading import columns as module
from rcml_misa.reading.columns import READINGS, WIDEST, ColumnMap
from rcml_misa.reading.features import FeatureMap

SINGLE = ("root-layernorm", "root", "plain", "quantile")


def table(rows=50, width=4, seed=0):
    """Skewed columns of very different scales, of rank `width`."""
    rng = np.random.default_rng(seed)
    return rng.gamma(2.0, size=(rows, width)) * 10 ** rng.uniform(-2, 2, size=width)


def oracle(train, asked, kinds, scaling="minmax"):
    """Readings side by side, each divided by the root of its mean column variance on train rows."""
    parts = []
    for kind in kinds:
        mapping = FeatureMap.fit(train, scaling=scaling, features=kind)
        spread = np.sqrt(np.mean([column.var() for column in mapping.transform(train).T]))
        parts.append(mapping.transform(asked) / spread)
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("readings", ["both", *SINGLE])
@pytest.mark.parametrize("scaling", ["minmax", "standard", "none"])
def test_each_reading_has_mean_column_variance_one(readings, scaling):
    train, new = table(), 3 * table(seed=1)
    columns = ColumnMap.fit(train, scaling=scaling, readings=readings)
    kinds = READINGS if readings == "both" else (readings,)
    mapped = columns.transform(train)
    edges = np.cumsum([mapping.width for mapping in columns.maps])
    assert [mapping.features for mapping in columns.maps] == list(kinds)
    for part in np.split(mapped, edges[:-1], axis=1):
        assert part.var(axis=0).mean() == pytest.approx(1)
    assert columns.width == mapped.shape[1] == edges[-1]
    np.testing.assert_allclose(mapped, oracle(train, train, kinds, scaling))
    np.testing.assert_allclose(columns.transform(new), oracle(train, new, kinds, scaling))


@given(rows=st.integers(2, 30), width=st.integers(1, 6), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=25, derandomize=True)
def test_two_readings_are_single_ones_side_by_side(rows, width, seed):
    train, new = table(rows, width, seed), table(7, width, seed + 1)
    both = ColumnMap.fit(train).transform(new)
    parts = [ColumnMap.fit(train, readings=kind).transform(new) for kind in READINGS]
    np.testing.assert_array_equal(both, np.concatenate(parts, axis=1))
    assert both.shape == (7, 3 * width)


def test_statistics_come_from_train_rows_alone():
    train, new = table(), table(20, seed=1)
    columns = ColumnMap.fit(train)
    alone = columns.transform(new[:1])
    garbage = np.concatenate([new[:1], 1e6 * new[1:]])
    np.testing.assert_array_equal(columns.transform(garbage)[:1], alone)
    # and other train rows change what a row becomes
    assert not np.allclose(ColumnMap.fit(train[:25]).transform(new[:1]), alone)


@pytest.mark.parametrize("rows", [40, 400])
@pytest.mark.parametrize("readings", ["both", "plain"])
def test_wide_columns_become_their_principal_components(rows, readings):
    width = 130 if readings == "both" else 300
    train, new = table(rows, width), table(11, width, seed=1)
    columns = ColumnMap.fit(train, readings=readings)
    kinds = READINGS if readings == "both" else (readings,)
    wide, asked = oracle(train, train, kinds), oracle(train, new, kinds)
    assert wide.shape[1] > WIDEST
    count = min(rows, WIDEST)
    pca = PCA(count, svd_solver="full").fit(wide)
    assert columns.width == count
    mapped, wanted = columns.transform(new), pca.transform(asked)
    assert mapped.shape == (11, count)
    # components are free in their sign, and the last one of few rows has no variance at all
    sure = count - 1 if rows <= WIDEST else count
    assert (np.diff(pca.explained_variance_[:sure]) < 0).all()
    np.testing.assert_allclose(np.abs(mapped[:, :sure]), np.abs(wanted[:, :sure]), atol=1e-6)
    own = columns.transform(train)
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(own.var(axis=0, ddof=1), pca.explained_variance_, atol=1e-6)


def test_as_many_columns_as_allowed_are_not_reduced():
    columns = ColumnMap.fit(table(20, WIDEST), readings="plain")
    assert columns.width == WIDEST
    assert not columns.components.size
    assert ColumnMap.fit(table(20, WIDEST + 1), readings="plain").width == 20


@pytest.mark.parametrize("width", [4, 130])
def test_rows_without_the_view_become_zeros_and_are_not_learnt_from(width):
    train, new = table(width=width), table(6, width, seed=1)
    gaps = np.insert(train, [0, 20, 50], np.nan, axis=0)
    columns, wanted = ColumnMap.fit(gaps), ColumnMap.fit(train)
    np.testing.assert_array_equal(columns.transform(new), wanted.transform(new))
    some = new.copy()
    some[[1, 4]] = np.nan
    for dtype in (np.float64, np.float32):
        mapped = columns.transform(some, dtype)
        assert (mapped[[1, 4]] == 0).all()
        present = [0, 2, 3, 5]
        np.testing.assert_allclose(
            mapped[present], columns.transform(new, dtype)[present], rtol=1e-4, atol=1e-4
        )
        assert np.abs(mapped[present]).max(axis=1).min() > 0


@pytest.mark.parametrize("width", [4, 130])
@pytest.mark.parametrize("readings", ["both", "plain"])
def test_float32_is_float64_rounded(width, readings):
    train, new = table(width=width), table(9, width, seed=1)
    columns = ColumnMap.fit(train, readings=readings)
    wide, narrow = columns.transform(new), columns.transform(new, np.float32)
    assert (wide.dtype, narrow.dtype) == (np.float64, np.float32)
    np.testing.assert_allclose(narrow, wide, rtol=1e-4, atol=1e-4)


def test_columns_that_say_nothing_stay_finite():
    columns = ColumnMap.fit(np.ones((5, 3)))
    assert columns.factors == (1.0, 1.0)
    assert np.isfinite(columns.transform(np.full((2, 3), 7.0))).all()


def test_sparse_tables_are_read_as_dense_ones():
    train, new = table() * (table(seed=2) > 1), table(6, seed=1)
    sparse = ColumnMap.fit(csr_array(train))
    np.testing.assert_array_equal(sparse.transform(new), ColumnMap.fit(train).transform(new))


def test_many_rows_are_measured_on_evenly_spaced_ones(monkeypatch):
    train = table(200, 130)
    monkeypatch.setattr(module, "SAMPLE", 50)
    columns = ColumnMap.fit(train)
    some = np.linspace(0, 199, 50).round().astype(int)
    parts = [mapping.transform(train[some]) for mapping in columns.maps]  # these know all rows
    spreads = [np.sqrt(part.var(axis=0).mean()) for part in parts]
    np.testing.assert_allclose(columns.factors, 1 / np.array(spreads))
    joined = np.concatenate([part / s for part, s in zip(parts, spreads, strict=True)], axis=1)
    np.testing.assert_allclose(columns.centre, joined.mean(axis=0))
    assert columns.width == 50


@pytest.mark.parametrize("option", [{"scaling": "max"}, {"readings": "log"}], ids=str)
def test_what_does_not_exist_is_refused(option):
    with pytest.raises(OptionError, match=next(iter(option.values()))):
        ColumnMap.fit(table(), **option)
