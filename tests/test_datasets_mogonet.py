"""ROSMAP, and MOGONET's layout: rows in order, the given split, checked files, misfits."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from rcml_misa.cli import main
from rcml_misa.datasets import (
    CatalogueEntry,
    fetch_dataset,
    find_entry,
    find_file,
    load_dataset,
    locate,
)
from rcml_misa.datasets.catalogue import parse_entry
from rcml_misa.datasets.mogonet import load_mogonet
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.protocols import Protocol, partition_rows

TRAIN, TEST = 245, 106


@pytest.fixture
def folder(need_data, tmp_path, monkeypatch) -> Path:
    """A copy of the files that can be damaged, with no other folder to look in."""
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")
    target = tmp_path / "data"
    shutil.copytree(need_data("ROSMAP") / "ROSMAP", target / "ROSMAP")
    for path in (target / "ROSMAP", *(target / "ROSMAP").iterdir()):
        path.chmod(0o755)
    monkeypatch.delenv("RCML_MISA_DATA")
    return target


def partition(data, protocol: Protocol, seed: int = 0):
    return partition_rows(
        data.target,
        protocol=protocol.for_dataset(data),
        seed=seed,
        groups=data.groups,
        folds=data.folds,
        valid_from=data.valid_from,
    )


def test_rosmap_has_train_rows_first(need_data) -> None:
    place = need_data("ROSMAP")
    data, entry = load_dataset("ROSMAP", data_dir=place, download=False), find_entry("ROSMAP")
    assert dict(zip(data.views.names, data.views.widths, strict=True)) == dict(entry.views)
    assert data.views.n_samples == entry.samples == TRAIN + TEST
    assert data.classes == ("0", "1")
    assert data.sha256 == entry.sha256
    assert data.source == str(place / "ROSMAP")
    assert np.bincount(data.target[:TRAIN]).tolist() == [118, 127]
    assert np.bincount(data.target[TRAIN:]).tolist() == [51, 55]
    for number, view in enumerate(data.views.arrays, start=1):
        for part, rows in (("tr", slice(TRAIN)), ("te", slice(TRAIN, None))):
            lines = (place / "ROSMAP" / f"{number}_{part}.csv").read_text().split()
            expected = [[float(word) for word in line.split(",")] for line in lines]
            np.testing.assert_array_equal(view[rows], expected)


def test_the_given_split_is_used_where_it_is_asked_for(need_data) -> None:
    place = need_data("ROSMAP")
    data = load_dataset("ROSMAP", data_dir=place, download=False)
    assert data.folds["train"].tolist() == list(range(TRAIN))
    assert data.folds["test"].tolist() == list(range(TRAIN, TRAIN + TEST))
    drawn = [partition(data, Protocol(split="random"), seed).test.tolist() for seed in (0, 1)]
    assert drawn[0] != drawn[1]
    assert len(drawn[0]) == 71  # a fifth, rounded up
    named = load_dataset("ROSMAP", data_dir=place, download=False, split="official")
    for asked, rules in ((data, Protocol()), (named, Protocol(split="given"))):
        for seed in (0, 1):
            part = partition(asked, rules, seed)
            assert part.train.tolist() == list(range(TRAIN))
            assert part.test.tolist() == list(range(TRAIN, TRAIN + TEST))
            assert not len(part.valid)
    assert Protocol(folds=5).for_dataset(named).split == "random"
    with pytest.raises(OptionError, match="ROSMAP has no split 'ofical'; did you mean official"):
        load_dataset("ROSMAP", data_dir=place, split="ofical")


def test_validation_rows_of_the_given_split_are_train_rows_held_back(need_data) -> None:
    data = load_dataset("ROSMAP", data_dir=need_data("ROSMAP"), download=False)
    rules = Protocol(split="given", valid_share=0.2, selection="best-valid")
    part = partition(data, rules)
    assert len(part.valid) == 24 + 25  # of 118 and 127 rows
    assert sorted([*part.train, *part.valid]) == list(range(TRAIN))
    assert part.test.tolist() == list(range(TRAIN, TRAIN + TEST))
    with pytest.raises(DataError, match="no validation rows to select on; give a valid_share"):
        partition(data, Protocol(split="given", selection="best-valid"))


@pytest.mark.parametrize(
    ("options", "heading", "counts"),
    [
        (("--split", "random"), "random 80/20 splits", (280, 71)),
        ((), "given split (245 train, 106 test rows)", (TRAIN, TEST)),
        (("--given-split", "official"), "given split (245 train, 106 test rows)", (TRAIN, TEST)),
    ],
)
def test_runs_of_several_seeds(need_data, tmp_path, options, heading, counts) -> None:
    words = ["run", "--dataset", "ROSMAP", "--data-dir", str(need_data("ROSMAP")), *options]
    words += ["--method", "lda", "--runs", "2", "--jobs", "1", "--out", str(tmp_path)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert heading in " ".join(result.stdout.split())
    texts = [path.read_text() for path in tmp_path.glob("records/*lda*.json")]
    assert len(texts) == 2
    for text in texts:
        assert f'"train_rows": {counts[0]}' in text
        assert f'"test_rows": {counts[1]}' in text


def test_columns_were_chosen_on_the_labels_of_the_official_train_rows(need_data) -> None:
    """The catalogue's note: no random rows reach the least F statistic of the official ones."""
    from sklearn.feature_selection import f_classif

    data = load_dataset("ROSMAP", data_dir=need_data("ROSMAP"), download=False)
    assert "chosen by their F statistic" in find_entry("ROSMAP").note
    chance = np.random.default_rng(0)
    draws = [np.arange(TRAIN), *(chance.permutation(TRAIN + TEST)[:TRAIN] for _ in range(50))]
    for view in data.views.arrays:
        least = [f_classif(view[rows], data.target[rows])[0].min() for rows in draws]
        assert least[0] > max(least[1:])


def test_files_are_found_in_their_folder_and_checked(folder) -> None:
    entry = find_entry("ROSMAP")
    assert locate("ROSMAP", folder) == "here"
    assert find_file(entry, data_dir=folder) == folder / "ROSMAP"
    assert fetch_dataset("ROSMAP", data_dir=folder) == folder / "ROSMAP"
    path = folder / "ROSMAP" / "2_te.csv"
    text = path.read_text()
    path.write_text(text.replace("1", "2", 1))
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    expected = entry.sources["ROSMAP_methylation_test"].sha256
    with pytest.raises(DataError) as caught:
        load_dataset("ROSMAP", data_dir=folder)
    for word in (
        str(path),
        "is not the file of ROSMAP",
        actual[:12],
        expected[:12],
        "delete or rename",
    ):
        assert word in str(caught.value)


@pytest.mark.parametrize("download", [True, False])
def test_a_missing_file_says_what_to_do(folder, download) -> None:
    (folder / "ROSMAP" / "labels_te.csv").unlink()
    assert find_file(find_entry("ROSMAP"), data_dir=folder) is None
    assert locate("ROSMAP", folder) == "fetchable"
    with pytest.raises(DataError, match=r"ROSMAP/labels_te\.csv of ROSMAP") as caught:
        load_dataset("ROSMAP", data_dir=folder, download=download)
    sentence = str(caught.value)
    assert "`rcml-misa datasets fetch ROSMAP`" in sentence
    assert ("no network in tests" in sentence) == download
    assert ("is not on this machine" in sentence) != download


def test_missing_files_are_fetched_from_pinned_addresses(folder, tmp_path, monkeypatch) -> None:
    addresses = []

    def retrieve(url, *, known_hash, fname, path):
        addresses.append(url)
        Path(path).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "ROSMAP" / fname, Path(path) / fname)
        return str(Path(path) / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert load_dataset("ROSMAP").source == str(tmp_path / "cache" / "ROSMAP")
    assert load_dataset("ROSMAP").views.n_samples == TRAIN + TEST
    pinned = (
        "https://raw.githubusercontent.com/txWang/MOGONET/32d9066b7fe289b3f7cdb496a5668834079c274c"
    )
    stems = ("1", "2", "3", "labels")
    assert addresses == [
        f"{pinned}/ROSMAP/{stem}_{end}.csv" for stem in stems for end in ("tr", "te")
    ]


# the layout, on files that are made up


@pytest.fixture
def toy(tmp_path) -> tuple[CatalogueEntry, dict[str, Path]]:
    """Two views of 4 train and 3 test rows; each value tells view, row and column."""
    table = {
        "format": "mogonet", "views": {"a": 2, "b": 1}, "samples": 7, "classes": 3, "licence": "",
        "citation": "", "note": "", "sha256": "0" * 64, "sources": [],
    }  # fmt: skip
    content = {
        "a_train": "10,11\n12,13\n14,15\n16,17\n",
        "a_test": "18,19\n20,21\n22,23\n",
        "b_train": "0.5\n1.5\n2.5\n3.5\n",
        "b_test": "4.5\n5.5\n6.5\n",
        "labels_train": "7\n2.0\n2\n9\n",
        "labels_test": "9\n9\n2\n",
    }
    paths = {}
    for name, text in content.items():
        paths[f"Toy_{name}"] = path = tmp_path / f"{name}.csv"
        path.write_text(text)
    return parse_entry("Toy", table), paths


def test_rows_and_labels_lie_in_order(toy) -> None:
    data = load_mogonet(*toy)
    assert data.views["a"].tolist() == [[10 + 2 * row, 11 + 2 * row] for row in range(7)]
    assert data.views["b"].ravel().tolist() == [0.5 + row for row in range(7)]
    assert data.target.tolist() == [1, 0, 0, 2, 2, 2, 0]
    assert data.classes == ("2", "7", "9")
    assert {name: rows.tolist() for name, rows in data.folds.items()} == {
        "train": [0, 1, 2, 3],
        "test": [4, 5, 6],
    }


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"b_train": "1\n2\n3\n4\n5\n", "b_test": "1\n2\n"},
            r"'b' of Toy has .* of shapes \[\(5, 1\), \(2, 1\)\]",
        ),
        ({"a_test": "1,2\n3\n5,6\n"}, "a_test.csv of Toy is no table of numbers"),
        ({"a_train": "one,two\n" * 4}, "a_train.csv of Toy is no table of numbers"),
        (
            {"b_train": "1,1\n" * 4, "b_test": "1,1\n" * 3},
            r"'b' of Toy .* they are \[\(4, 1\), \(3, 1\)\]",
        ),
        ({"labels_test": "9\n9\n2.5\n"}, "'labels' must hold whole numbers, but row 6 is 2.5"),
        ({"labels_test": "9\n9\n3\n"}, "4 classes but the catalogue says 3"),
        ({"a_test": "1,2\n1,2\n1,inf\n"}, "inf"),
        ({"a_test": "1\n1\n1\n"}, r"'a' of Toy .*\(3, 1\).* they are .*\(3, 2\)"),
        ({"labels_test": "9,9\n9,9\n2,2\n"}, "'labels' of Toy"),
        (
            {"labels_train": "7\n2\n2\n9\n9\n", "a_train": "1,2\n" * 5, "b_train": "1\n" * 5},
            "8 samples but the catalogue says 7",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused(toy, changes, words) -> None:
    entry, paths = toy
    for name, text in changes.items():
        paths[f"Toy_{name}"].write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        load_mogonet(entry, paths)
    assert len(str(caught.value)) <= 400


def test_a_table_of_this_format_needs_sources() -> None:
    table = {
        "format": "mogonet", "views": {"a": 1}, "samples": 1, "classes": 2, "licence": "",
        "citation": "", "note": "", "sha256": "",
    }  # fmt: skip
    with pytest.raises(DataError, match="'Toy' lacks the key sources"):
        parse_entry("Toy", table)
