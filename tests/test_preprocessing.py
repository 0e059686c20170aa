"""Column and row scalings against scikit-learn, SciPy and the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, rankdata
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from rcml_misa.exceptions import OptionError
from rcml_misa.reading.features import FeatureMap

SCALERS = {"minmax": MinMaxScaler, "standard": StandardScaler}


def table(rows=50, width=4, seed=0):
    """Columns of different scale, the last one constant."""
    rng = np.random.default_rng(seed)
    values = rng.gamma(2.0, size=(rows, width)) * 10.0 ** np.arange(-2, width - 2)
    values[:, -1] = 3.0
    return values


def layer_norm(rows):
    """Plain loops over rows."""
    result = np.zeros_like(rows)
    for number, row in enumerate(rows):
        if row.std() > 1e-12:
            result[number] = (row - row.mean()) / row.std()
    return result


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_plain_features_are_scikit_learns_scalers(scaling):
    train, test = table(), 2 * table(seed=1)
    found = FeatureMap.fit(train, scaling=scaling, features="plain")
    scaler = SCALERS[scaling]().fit(train)
    np.testing.assert_allclose(found.transform(train), scaler.transform(train), atol=1e-12)
    np.testing.assert_allclose(found.transform(test), scaler.transform(test), atol=1e-12)


def test_plain_features_without_scaling_are_the_values():
    values = table()
    found = FeatureMap.fit(values, scaling="none", features="plain")
    np.testing.assert_array_equal(found.transform(values), values)


@pytest.mark.parametrize("scaling", ["minmax", "standard"])
def test_root_is_the_standardised_signed_root(scaling):
    train, test = table(), table(seed=1)
    found = FeatureMap.fit(train, scaling=scaling, features="root")
    scaler = SCALERS[scaling]().fit(train)

    def root(values):
        scaled = scaler.transform(values)
        return np.sign(scaled) * np.sqrt(np.abs(scaled))

    second = StandardScaler().fit(root(train))
    wanted = np.clip(second.transform(root(test)), -5, 5)
    # scikit-learn and the map agree but for the constant column, where only rounding is left
    np.testing.assert_allclose(found.transform(test)[:, :-1], wanted[:, :-1], atol=1e-9)
    assert np.isfinite(found.transform(test)).all()


def test_root_layer_norm_appends_each_rows_profile():
    train, test = table(), table(seed=1)
    found = FeatureMap.fit(train)  # the default: minmax, root-layernorm
    scaler = MinMaxScaler().fit(train)

    def expanded(values):
        root = np.sign(scaler.transform(values)) * np.sqrt(np.abs(scaler.transform(values)))
        return np.concatenate([root, layer_norm(root)], axis=1)

    second = StandardScaler().fit(expanded(train))
    for values in (train, test):
        wanted = np.clip(second.transform(expanded(values)), -5, 5)
        np.testing.assert_allclose(found.transform(values), wanted, atol=1e-9)


def test_row_layer_norm_forgets_level_and_scale_of_a_row():
    # without scaling, the profile of 4x is that of x, and rows without spread have none
    train = np.random.default_rng(0).gamma(2.0, size=(30, 5))
    found = FeatureMap.fit(train, scaling="none")
    np.testing.assert_allclose(
        found.transform(4 * train[:3])[:, 5:], found.transform(train[:3])[:, 5:], atol=1e-9
    )
    flat = found.transform(np.full((2, 5), 7.0))[:, 5:]
    wanted = np.clip(-found.mean[5:] / found.spread[5:], -5, 5)
    np.testing.assert_allclose(flat, np.tile(wanted, (2, 1)), atol=1e-12)


@pytest.mark.parametrize("features", ["root-layernorm", "root", "plain", "quantile"])
@pytest.mark.parametrize("scaling", ["minmax", "standard", "none"])
def test_degenerate_tables_stay_finite(scaling, features):
    rows = np.array([[0.1, 0.1], [0.1, 0.1], [0.1, 0.1]])
    for values in (rows, np.zeros((4, 3)), rows[:, :1], np.array([[1e100, -1.0], [0.0, 1e-100]])):
        found = FeatureMap.fit(values, scaling=scaling, features=features)
        assert np.isfinite(found.transform(values)).all()
        assert np.isfinite(found.transform(values + 1)).all()
    assert (
        FeatureMap.fit(rows, scaling="minmax", features=features).transform(rows) == 0
    ).all() or features == "plain"


def test_far_rows_are_clipped():
    train = table()
    for features in ("root", "root-layernorm"):
        found = FeatureMap.fit(train, features=features).transform(1e9 * train)
        assert np.abs(found).max() <= 5


@pytest.mark.parametrize("rows", [1, 7, 200])
def test_quantiles_are_normal_scores_of_mid_ranks(rows):
    values = np.random.default_rng(0).integers(0, 20, size=(rows, 3)).astype(float)
    found = FeatureMap.fit(values, features="quantile").transform(values)
    ranks = np.apply_along_axis(rankdata, 0, values)
    np.testing.assert_allclose(found, norm.ppf((ranks - 0.5) / rows), atol=1e-9)


def test_quantiles_of_many_rows_come_from_2000_order_statistics():
    values = np.random.default_rng(0).normal(size=(5000, 1))
    found = FeatureMap.fit(values, features="quantile")
    assert found.order.shape == (2000, 1)
    share = norm.cdf(found.transform(values)[:, 0])
    np.testing.assert_allclose(share, (rankdata(values[:, 0]) - 0.5) / 5000, atol=1e-3)


@given(seed=st.integers(0, 999), power=st.floats(0.2, 3.0))
@settings(deadline=None, max_examples=30, derandomize=True)
def test_quantiles_survive_any_increasing_map_and_outliers(seed, power):
    rng = np.random.default_rng(seed)
    train, test = rng.gamma(2.0, size=(40, 2)), rng.gamma(2.0, size=(10, 2))
    plain = FeatureMap.fit(train, features="quantile").transform(test)
    bent = FeatureMap.fit(train**power, features="quantile").transform(test**power)
    np.testing.assert_allclose(bent, plain, atol=1e-12)
    low, high = FeatureMap.fit(train, features="quantile").transform(
        np.array([[-9e9] * 2, [9e9] * 2])
    )
    np.testing.assert_allclose(high, norm.ppf(1 - 0.5 / 40))
    np.testing.assert_allclose(low, -high)


@pytest.mark.parametrize("features", ["root-layernorm", "root", "plain", "quantile"])
def test_statistics_come_from_train_rows_only(features):
    found = FeatureMap.fit(table(), features=features)
    rows = table(seed=2)
    alone = found.transform(rows[:5])
    np.testing.assert_array_equal(found.transform(np.concatenate([rows[:5], 99 * rows]))[:5], alone)


def test_unknown_names_are_refused():
    with pytest.raises(
        OptionError, match="scaling='max' is not one of minmax, standard, quantile, none"
    ):
        FeatureMap.fit(table(), scaling="max")
    with pytest.raises(OptionError, match="features='log' is not one of root-layernorm"):
        FeatureMap.fit(table(), features="log")
