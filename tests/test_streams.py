"""Networks on tables that are too large to be held mapped: pools, batches, steps, memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcml_misa.estimators import RCMLMISAClassifier
from rcml_misa.estimators.blocks import Blocks
from rcml_misa.estimators.pools import RUN, BatchStream, row_pools
from rcml_misa.reading import rows as reading_rows
from rcml_misa.reading.columns import ColumnMap
from rcml_misa.reading.rows import InputTable

CPU = torch.device("cpu")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def problem(rows: int, *, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Two views of three classes, the rows sorted by class."""
    draws = rng(seed)
    labels = np.sort(draws.integers(3, size=rows))
    views = {
        name: draws.normal(size=(3, 5))[labels] + draws.normal(size=(rows, 5)) for name in "ab"
    }
    return views, labels


@pytest.fixture
def small_tables(monkeypatch):
    """Tables of more than 600 rows are streamed, in pools of as many."""
    monkeypatch.setattr(reading_rows, "KEPT", 600)
    monkeypatch.setattr("rcml_misa.estimators.pools.KEPT", 600)
    monkeypatch.setattr("rcml_misa.estimators.pools.FEWEST", 64)


@pytest.mark.parametrize("rows", [1, 31, 1000, 4096])
def test_every_row_is_in_one_pool_before_any_is_in_two(rows):
    pools, seen = row_pools(rows, 512, rng()), np.zeros(rows, dtype=int)
    while seen.sum() < rows:
        pool = next(pools)
        assert len(pool) <= 512
        assert (np.diff(pool) > 0).all()
        seen[pool] += 1
    assert (seen == 1).all()


def test_a_pool_of_a_sorted_table_mixes_places_in_short_runs():
    pool = next(row_pools(2**20, 2**12, rng()))
    breaks = np.flatnonzero(np.diff(pool) != 1)
    assert len(breaks) > 100  # runs, of 128
    assert (np.diff(breaks) % RUN == 0).all()
    assert np.bincount(pool * 8 // 2**20, minlength=8).min() > 100  # every eighth of the table


def stream(rows: int, withheld: list[np.ndarray], batch: int) -> BatchStream:
    table, _ = problem(rows)
    table["a"][:, 0] = np.arange(rows)
    arrays = [table["a"], table["b"]]
    maps = [ColumnMap.fit(array, scaling="none", readings="plain") for array in arrays]
    return BatchStream(InputTable(maps, arrays, device=CPU), withheld, batch, rng())


def test_batches_hold_their_rows_columns_and_no_row_that_a_network_is_kept_from(small_tables):
    withheld = [np.arange(0, 1500, 7), np.arange(3, 1500, 11)]
    turns = stream(1500, withheld, 50).take(60)
    assert len(turns) == 120
    factor = None
    for place, (network, rows, inputs) in enumerate(turns):
        assert network == place % 2
        assert len(rows) == 50
        assert not np.isin(rows, withheld[network]).any()
        assert inputs is not None
        ratio = inputs[rows > 0, 0].numpy() / rows[rows > 0]
        factor = ratio[0] if factor is None else factor
        np.testing.assert_allclose(ratio, factor, rtol=1e-5)
    assert place == 119


def test_rows_are_seen_equally_often(small_tables):
    counts = np.zeros((2, 1500), dtype=int)
    withheld = [np.arange(0, 100), np.arange(100, 150)]
    for network, rows, _ in stream(1500, withheld, 10).take(3000):
        np.add.at(counts[network], rows, 1)
    for network, apart in enumerate(withheld):
        own = np.delete(counts[network], apart)
        assert not counts[network, apart].any()
        # all but the last few rows of a pool are in a batch: no row is a neglected one
        assert own.min() >= 0.75 * own.mean()
        assert own.max() <= 1.25 * own.mean()


def test_batches_are_drawn_when_they_are_asked_for(small_tables):
    source = stream(1500, [np.empty(0, dtype=int)], 10)
    mapped: list[int] = []
    whole = source.table._map
    source.table._map = lambda rows: mapped.append(len(rows)) or whole(rows)  # type: ignore
    turns = iter(source.take(10**12))
    next(turns)
    assert len(mapped) == 1
    for _ in range(30):
        next(turns)
    assert len(mapped) == 1  # a pool is mapped once
    assert max(mapped) <= 600


def test_blocks_among_looked_rows_are_those_of_all_rows():
    looked = np.arange(0, 1000, 10)
    drawn = Blocks.draw(np.arange(100) % 4, 0.2, None, rng(), usual=3)
    blocks = drawn.among(looked, 1000)
    assert blocks.rows == 1000
    assert np.array_equal(blocks.apart, looked[drawn.apart])
    for part, withheld in zip(blocks.parts, blocks.withheld, strict=True):
        assert sorted([*part, *withheld]) == list(range(1000))
        assert np.isin(withheld, looked).all()


@pytest.mark.parametrize("options", [{}, {"mixup": 0.4}, {"early_stopping": True}])
def test_a_streamed_network_learns_a_table_sorted_by_class(small_tables, options, monkeypatch):
    monkeypatch.setattr("rcml_misa.estimators.rcml_misa.ENOUGH_STEPS", 50)
    views, labels = problem(1300)
    views["b"][::9] = np.nan  # a missing view
    model = RCMLMISAClassifier(
        expert="none", networks=2, batch_size=64, encoder_width=16, random_state=0, **options
    )
    model.fit(views, labels, sample_weight=rng().uniform(0.5, 2, size=len(labels)))
    assert len(model.history_["loss"]) == 10
    new, target = problem(1300, seed=0)
    assert model.score(new, target) > 0.8


def test_the_epochs_of_a_streamed_table_are_passes_where_they_are_asked_for(small_tables):
    views, labels = problem(1000)
    told: list[tuple[int, int]] = []
    model = RCMLMISAClassifier(
        expert="none", networks=1, epochs=3, batch_size=50, encoder_width=8, random_state=0
    )
    model.fit(views, labels, callback=lambda at: told.append((at.epoch, at.epochs)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_steps_grow_with_a_power_of_the_rows_beyond_ten_passes_of_thirty():
    length = RCMLMISAClassifier(expert="kernel")._length
    assert length(5) == {"epochs": 30}
    assert length(12) == {"epochs": 25}
    assert length(30) == {"epochs": 10}
    steps = [length(30 * 4**power).get("steps", 300) for power in range(5)]
    assert steps[0] == 300
    assert np.ptp(np.diff(np.log(steps))) < 0.01  # a straight line in logarithms
    assert np.log(steps[-1] / steps[0]) / np.log(4**4) < 1
    assert RCMLMISAClassifier(epochs=7)._length(1000) == {"epochs": 7}


def test_columns_and_classes_are_those_of_the_table_held_whole(small_tables):
    views, labels = problem(700)
    arrays = list(views.values())
    maps = [ColumnMap.fit(array) for array in arrays]
    streamed = InputTable(maps, arrays, labels, classes=3, device=CPU)
    assert streamed.whole is None
    rows = rng().permutation(700)[:100]
    expected = [
        *(m.transform(a[rows], np.float32) for m, a in zip(maps, arrays, strict=True)),
        np.eye(3, dtype=np.float32)[labels[rows]],
    ]
    np.testing.assert_allclose(streamed(rows), np.concatenate(expected, axis=1), rtol=1e-6)
    parts = [array[:600] for array in arrays]
    whole = InputTable(maps, parts, labels[:600], classes=3, device=CPU)
    assert whole.whole is not None
    some = rows[rows < 600]
    np.testing.assert_allclose(whole(some), streamed(some), rtol=1e-6)
    np.testing.assert_allclose(whole(slice(3, 9)), streamed(slice(3, 9)), rtol=1e-6)
