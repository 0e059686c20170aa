"""MOSI: joined from its sources, leak refused, tasks, cache, and damaged sources."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from rcml_misa.datasets import as_task, fetch_dataset, find_entry, find_file, load_dataset, mosi
from rcml_misa.datasets.catalogue import parse_entry
from rcml_misa.exceptions import DataError, OptionError


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.getbasetemp() / "mosi-cache"
    monkeypatch.setattr("rcml_misa.datasets.lookup.cache_folder", lambda: folder)
    return folder


@pytest.fixture
def folder(need_data, tmp_path):
    """A copy of the sources that can be damaged."""
    target = tmp_path / "data"
    shutil.copytree(need_data() / "mosi", target / "mosi")
    for path in (target / "mosi").iterdir():
        path.chmod(0o644)
    (target / "mosi").chmod(0o755)
    return target


def test_mosi(need_data) -> None:
    data = load_dataset("MOSI", data_dir=need_data("MOSI"))
    assert data.views.widths == (100, 73, 100)
    assert {name: len(rows) for name, rows in data.folds.items()} == {"train": 1447, "test": 752}
    assert data.valid_from == "test"
    assert data.task == "regression"
    videos = [set(data.groups[rows]) for rows in data.folds.values()]
    assert not videos[0] & videos[1]
    assert (len(videos[0]), len(videos[1])) == (62, 31)
    assert data.scores.min() == -3
    assert data.scores.max() == 3


def test_mosi_words(need_data) -> None:
    data = load_dataset("MOSI-words", data_dir=need_data("MOSI-words"))
    assert data.views.kinds == ("text", "sequence", "dense")
    sizes = {name: len(rows) for name, rows in data.folds.items()}
    assert sizes == {"train": 1284, "valid": 229, "test": 686}
    row = int(np.flatnonzero(data.ids == "03bSnISJMiM_11")[0])
    assert data.views["words"].values[row] == "A LOT OF SAD PARTS"
    timing = data.views["timing"]
    assert timing.lengths[row] == 5
    duration, before, after, pace = timing.values[row, :5].T
    assert (duration > 0).all()
    np.testing.assert_allclose(before[1:], after[:-1])
    np.testing.assert_allclose(pace, duration / [1, 3, 2, 3, 5])
    assert any("DON'T" in text.split() for text in data.views["words"])
    assert not any("DONT" in text.split() for text in data.views["words"])


def test_the_leak_is_refused_with_the_reason(need_data) -> None:
    with pytest.raises(OptionError, match=r"standard.*refused.*trained on the labels"):
        load_dataset("MOSI", data_dir=need_data("MOSI"), split="standard")
    with pytest.raises(OptionError, match="no split 'porja'; did you mean poria"):
        load_dataset("MOSI", data_dir=need_data("MOSI"), split="porja")
    with pytest.raises(OptionError, match="digits has no given split"):
        load_dataset("digits", split="standard")
    assert "valid" not in load_dataset("MOSI-words", data_dir=need_data(), split="poria").folds


def test_tasks(need_data) -> None:
    data = load_dataset("MOSI", data_dir=need_data("MOSI"))
    assert np.bincount(as_task(data, "2").target).tolist() == [1023, 1176]
    three = as_task(data, "3")
    assert np.bincount(three.target).tolist() == [1023, 96, 1080]
    assert three.classes[int(three.target[0])] == "positive"
    seven = as_task(three, "7")
    assert (np.array(seven.class_values)[seven.target] == np.round(data.scores)).all()
    assert as_task(seven, "regression").target.dtype == np.float64
    with pytest.raises(OptionError, match="task '4' does not exist"):
        as_task(data, "4")
    with pytest.raises(OptionError, match="digits has classes of its own"):
        as_task(load_dataset("digits"), "3")


def test_assembled_once(need_data, own_cache, monkeypatch) -> None:
    first = load_dataset("MOSI-words", data_dir=need_data("MOSI-words"))
    monkeypatch.setattr(mosi, "assemble", lambda paths: pytest.fail("assembled again"))
    second = load_dataset("MOSI-words", data_dir=need_data("MOSI-words"))
    np.testing.assert_array_equal(first.views["timing"].values, second.views["timing"].values)
    assert first.views["words"].values == second.views["words"].values
    (kept,) = own_cache.glob("mosi-*.npz")
    with np.load(kept, allow_pickle=False) as content:
        assert {"ids", "scores", "words", "timing"} <= set(content.files)


def test_a_damaged_cache_is_made_again(need_data, own_cache) -> None:
    load_dataset("MOSI", data_dir=need_data("MOSI"))
    (kept,) = own_cache.glob("mosi-*.npz")
    kept.write_bytes(b"PK damaged")
    assert load_dataset("MOSI", data_dir=need_data("MOSI")).views.n_samples == 2199


def test_sources_are_found_checked_and_told(folder, monkeypatch) -> None:
    monkeypatch.delenv("RCML_MISA_DATA")
    entry = find_entry("MOSI")
    assert find_file(entry, data_dir=folder) == folder / "mosi"
    assert fetch_dataset("MOSI", data_dir=folder) == folder / "mosi"
    assert entry.url == ""
    source = entry.sources["segments"]
    assert "/509c4735a4b7bffb6f764f2b8ca30a028dd0977b/" in source.url
    (folder / "mosi" / "audio_test0.csv").write_text("1,2,3\n")
    with pytest.raises(DataError, match=r"audio_test0\.csv is not the file of MOSI"):
        load_dataset("MOSI", data_dir=folder)
    (folder / "mosi" / "audio_test0.csv").unlink()
    assert find_file(entry, data_dir=folder) is None
    with pytest.raises(DataError, match=r"mosi/audio_test0\.csv of MOSI is not on this machine"):
        load_dataset("MOSI", data_dir=folder, download=False)


def _paths(folder):
    entry = find_entry("MOSI")
    return {
        role: folder
        / next(name for name in (source.file, *source.also) if (folder / name).is_file())
        for role, source in entry.sources.items()
    }


@pytest.mark.parametrize(
    ("role", "change"),
    [
        ("sentiment_train", lambda text: text.replace("3.0", "-3.0")),
        ("sentiment_ref", lambda text: "\n".join(text.splitlines()[:-1])),
        ("transcripts", lambda text: text[:1000]),
        ("segments", lambda text: "\n".join(text.splitlines()[:5])),
        ("audio_train", lambda text: text[:5000]),
        ("words", lambda text: "no HDF5"),
    ],
)
def test_sources_that_do_not_fit_are_refused(folder, role, change) -> None:
    path = _paths(folder)[role]
    path.write_text(change(path.read_text(encoding="latin-1")), encoding="latin-1")
    with pytest.raises(DataError, match=r"MOSI"):
        mosi.assemble(_paths(folder))


def test_published_segments_serve_as_well(folder) -> None:
    """The file at the pinned address has one column more, an empty row and more digits."""
    paths = _paths(folder)
    lines = paths["segments"].read_text().splitlines()
    longer = [f"{lines[0]},p2fa", ",,,,v", *[f"{line[:-1]}{line[-1]}3,x" for line in lines[1:]]]
    before = mosi.assemble(paths)
    paths["segments"].write_text("\n".join(longer) + "\n")
    after = mosi.assemble(paths)
    np.testing.assert_allclose(after["timing"], before["timing"], atol=2e-6)


def test_an_unknown_source_is_refused() -> None:
    table = {
        "format": "mosi", "views": {"a": 1}, "samples": 1, "classes": 0, "licence": "",
        "citation": "", "note": "", "sha256": "", "sources": ["nowhere"],
    }  # fmt: skip
    with pytest.raises(DataError, match="unknown source 'nowhere'"):
        parse_entry("Mine", table)
