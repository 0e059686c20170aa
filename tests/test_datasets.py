"""The catalogue, where files are looked for, and the real files."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rcml_misa.datasets import (
    CatalogueEntry,
    fetch_dataset,
    find_entry,
    list_datasets,
    load_dataset,
    locate,
)
from rcml_misa.datasets.catalogue import parse_entry
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.views import check_target

FILES = [entry.name for entry in list_datasets() if entry.file]
CONTENT = b"not a MATLAB file, but the right bytes"


def fact_table(**changes: object) -> dict[str, object]:
    facts: dict[str, object] = {
        "format": "matlab",
        "file": "mine.mat",
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "repository": "someone/something",
        "commit": "0" * 40,
        "path": "data/mine.mat",
        "licence": "MIT",
        "keys": {"views": "X", "target": "Y"},
        "orientation": "samples-by-features",
        "views": {"a": 2, "b": 1},
        "samples": 4,
        "classes": 2,
        "citation": "Nobody",
        "note": "made up",
    }
    return facts | changes


@pytest.fixture
def entry(monkeypatch: pytest.MonkeyPatch) -> CatalogueEntry:
    """Return an entry that the catalogue appears to hold."""
    made = parse_entry("Mine", fact_table())
    monkeypatch.setattr("rcml_misa.datasets.lookup.find_entry", lambda name: made)
    return made


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Give every place that is looked in its own empty folder."""
    places = {name: tmp_path / name for name in ("given", "environment", "cache")}
    for place in places.values():
        place.mkdir()
    monkeypatch.setattr("pooch.os_cache", lambda project: places["cache"])
    return places


def test_catalogue_is_whole() -> None:
    entries = list_datasets()
    assert len({entry.name for entry in entries}) == len(entries)
    for entry in entries:
        assert len(entry.sha256) == 64
        assert entry.samples >= 2 * entry.classes
        assert entry.citation
        assert entry.licence
        if entry.sources:
            lines = [f"{source.file} {source.sha256}" for source in entry.sources.values()]
            assert entry.sha256 == hashlib.sha256("\n".join(lines).encode()).hexdigest()
        files = entry.sources.values() or ([] if entry.built_in else [entry])
        for one in files:
            assert len(one.sha256) == 64
            assert len(one.commit) == 40
            assert one.commit in one.url
            assert one.url.startswith("https://raw.githubusercontent.com/")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": "csv"}, "format='csv'; choose from digits, imported, matlab"),
        ({"orientation": "sideways"}, "orientation='sideways'"),
        ({"keys": {"X": "views"}}, "two keys, views and target"),
        ({"licens": "MIT"}, "unknown key 'licens'; did you mean licence"),
    ],
)
def test_catalogue_tables_are_checked(changes, words) -> None:
    with pytest.raises(DataError, match=words):
        parse_entry("Mine", fact_table(**changes))
    lacking = fact_table()
    del lacking["sha256"], lacking["keys"]
    with pytest.raises(DataError, match="'Mine' lacks the key keys, sha256"):
        parse_entry("Mine", lacking)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"samples": True}, "has samples=True; give a whole number."),
        ({"samples": 4.0}, "has samples=4.0; give a whole number."),
        ({"views": {"a": "x" * 1000}}, "has views.a='xxxx"),
        ({"x" * 1000: 1}, "has an unknown key 'xxxx"),
        ({"note": ["two\nlines"] * 99}, "give a text in quotes."),
        ({"views": {"y" * 1000: None}}, "views.yyyy"),
        ({"format": "m\natlab"}, "did you mean matlab?"),
        ({"sources": ["nowhere" * 99]}, "unknown source"),
        ({"sources": 3}, "unknown source '3'"),
    ],
)
def test_a_wrong_value_gets_one_short_sentence(changes, words) -> None:
    with pytest.raises(DataError) as caught:
        parse_entry("Mine", fact_table(**changes))
    sentence = str(caught.value)
    assert sentence.startswith("catalogue table 'Mine' has ")
    assert words in sentence
    assert "\n" not in sentence
    assert len(sentence) <= 300


def test_unknown_name_names_its_neighbours() -> None:
    for ask in (load_dataset, locate, fetch_dataset, find_entry):
        with pytest.raises(OptionError, match="no data set 'pie'; did you mean PIE"):
            ask("pie")


def test_import_is_light() -> None:
    heavy = {"numpy", "scipy", "sklearn", "pandas", "torch", "pooch", "rich"}
    code = (
        "import sys, rcml_misa.datasets as d, rcml_misa.cli.datasets; d.list_datasets(); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", FILES)
def test_real_files(name, need_data) -> None:
    entry, data = find_entry(name), load_dataset(name, data_dir=need_data(name), download=False)
    assert dict(zip(data.views.names, data.views.widths, strict=True)) == dict(entry.views)
    assert data.views.n_samples == len(data.target) == entry.samples
    assert data.target.dtype == np.int64
    assert np.unique(data.target).tolist() == list(range(entry.classes))
    first = 0 if name == "HandWritten" else 1
    assert data.classes == tuple(str(first + k) for k in range(entry.classes))
    assert data.sha256 == entry.sha256
    assert data.source.endswith(entry.file)
    check_target(data.target, data.classes)
    with pytest.raises(ValueError, match="read-only"):
        data.target[0] = 1


@pytest.mark.parametrize("name", FILES)
def test_real_labels_belong_to_their_rows(name, need_data) -> None:
    """One's nearest neighbour in a view shares one's class far more often than by chance."""
    data = load_dataset(name, data_dir=need_data(name), download=False)
    for x in data.views.arrays:
        centred = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-9)
        some = np.linspace(0, len(x) - 1, 200).astype(int)
        distance = (centred**2).sum(axis=1) - 2 * centred[some] @ centred.T
        distance[np.arange(200), some] = np.inf
        hits = data.target[distance.argmin(axis=1)] == data.target[some]
        assert hits.mean() > 3 / len(data.classes)


def test_known_duplicates(need_data) -> None:
    data = load_dataset("Scene15", data_dir=need_data("Scene15"), download=False)
    rows = data.views.to_array()
    assert np.array_equal(rows[1493], rows[2872])
    assert data.target[1493] != data.target[2872]


def test_places_are_looked_in_in_order(entry, folders, monkeypatch) -> None:
    monkeypatch.setenv("RCML_MISA_DATA", str(folders["environment"]))
    assert locate("Mine") == "fetchable"
    for place in ("cache", "environment", "given"):
        (folders[place] / "mine.mat").write_bytes(CONTENT)
        assert locate("Mine", folders["given"]) == "here"
        assert fetch_dataset("Mine") == folders["environment" if place != "cache" else "cache"] / (
            "mine.mat"
        )
    with pytest.raises(DataError, match=r"given.mine.mat is not a whole MATLAB file"):
        load_dataset(entry.name, data_dir=folders["given"])


def test_missing_folder_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        locate("PIE", tmp_path / "nowhere")


@pytest.mark.parametrize("download", [True, False])
def test_missing_file_says_what_to_do(entry, folders, monkeypatch, download) -> None:
    monkeypatch.setenv("RCML_MISA_DATA", str(folders["environment"]))
    with pytest.raises(DataError) as caught:
        load_dataset(entry.name, data_dir=folders["given"], download=download)
    sentence = str(caught.value)
    assert str(folders["given"])[:30] in sentence
    assert len(sentence) < 300
    assert "`rcml-misa datasets fetch Mine`" in sentence
    assert "digits, which needs no file" in sentence
    assert ("no network in tests" in sentence) == download


@pytest.mark.parametrize("place", ["given", "environment", "cache"])
def test_a_changed_file_is_refused_everywhere(entry, folders, monkeypatch, place) -> None:
    monkeypatch.setenv("RCML_MISA_DATA", str(folders["environment"]))
    (folders[place] / "mine.mat").write_bytes(CONTENT + b"!")
    found = hashlib.sha256(CONTENT + b"!").hexdigest()
    with pytest.raises(DataError) as caught:
        load_dataset(entry.name, data_dir=folders["given"])
    place = str(folders[place] / "mine.mat")
    for word in (place, found[:12], entry.sha256[:12], "delete or rename"):
        assert word in str(caught.value)


def test_download_goes_to_the_cache_and_is_checked(entry, folders, monkeypatch) -> None:
    calls = []

    def retrieve(url, *, known_hash, fname, path):
        calls.append((url, known_hash))
        target = Path(path) / fname
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(CONTENT)
        return str(target)

    monkeypatch.delenv("RCML_MISA_DATA", raising=False)
    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert fetch_dataset("Mine") == folders["cache"] / "mine.mat"
    assert fetch_dataset("Mine") == folders["cache"] / "mine.mat"
    assert calls == [(entry.url, f"sha256:{entry.sha256}")]
    new = folders["given"] / "new"
    assert fetch_dataset("Mine", data_dir=new) == new / "mine.mat"
    assert fetch_dataset("Mine", data_dir=new) == new / "mine.mat"
    assert len(calls) == 2


def test_a_download_of_other_content_is_refused(entry, folders, monkeypatch) -> None:
    def retrieve(url, **options):
        raise ValueError("SHA256 hash of downloaded file does not match")

    monkeypatch.setattr("pooch.retrieve", retrieve)
    with pytest.raises(DataError, match=r"could not be fetched \(SHA256 hash"):
        fetch_dataset("Mine", data_dir=folders["given"])
