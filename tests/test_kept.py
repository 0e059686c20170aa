"""What runs keep for figures, and that keeping changes no result."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result
from foreign_files import mmsa, save

from rcml_misa.cli import main
from rcml_misa.datasets.imported import import_dataset
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.opinions import Opinion
from rcml_misa.results import RunStore
from rcml_misa.runs.tasks import KEEPABLE, kept_path, parse_keep, read_kept
from rcml_misa.runs.watching import loss_recorder

FEW = ("--runs", 1, "--jobs", 1, "--epochs", 2)
SMALL = ("--collectors", "separate", "--set", "landmarks=40", "--set", "hidden=16")


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["run", *map(str, words)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("kept")
    assert call(*FEW, *SMALL, "--keep", "all", "--out", out).exit_code == 0
    return out / "records"


def test_names_of_what_is_kept() -> None:
    assert parse_keep("all") == tuple(KEEPABLE)
    assert parse_keep(" codes, attention,codes") == ("codes", "attention")
    with pytest.raises(OptionError, match="did you mean codes"):
        parse_keep("cods")


def test_everything_that_figures_need_is_kept(folder) -> None:
    (record,) = RunStore(folder).read()
    (path,) = folder.glob("*-seed0-*.json")
    kept = read_kept(kept_path(path))
    views, rows = len(kept.views), record.test_rows
    arrays = kept.arrays
    assert arrays["private"].shape == arrays["shared"].shape == (rows, views, 16)
    assert arrays["attention"].shape == (1, 2 * views, 2 * views)
    for part in ("clean", "conflict"):
        assert arrays[f"{part}.probability"].shape == arrays[f"{part}.evidence"].shape
        assert arrays[f"{part}.views"].shape == (rows, views, 10)
        accuracy = record.metrics[part]["accuracy"]
        assert arrays[f"{part}.right"].mean() == pytest.approx(accuracy)
        import torch

        found = Opinion(torch.from_numpy(arrays[f"{part}.evidence"])).uncertainty
        np.testing.assert_allclose(found.numpy(), arrays[f"{part}.uncertainty"], rtol=1e-4)
    assert arrays["replaced"].sum() == int(0.4 * rows)
    for part in ("train", "test"):
        for term in ("sim", "diff", "recon"):
            assert len(record.history[f"{part} {term}"]) == 2


def test_keeping_changes_no_result(folder, tmp_path) -> None:
    assert call(*FEW, *SMALL, "--out", tmp_path).exit_code == 0
    (with_it,), (without,) = RunStore(folder).read(), RunStore(tmp_path / "records").read()
    assert with_it.metrics == without.metrics
    assert {name: with_it.history[name] for name in without.history} == without.history
    assert not list(tmp_path.rglob("*.npz"))


@pytest.mark.parametrize("method", ["misa", "rcml-misa"])
def test_a_regressions_codes_and_validation_losses_are_kept(tmp_path, monkeypatch, method) -> None:
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache")
    import_dataset(save(tmp_path / "x.pkl", mmsa()), "mine")
    words = ("--dataset", "mine", "--task", "regression", "--method", method)
    collectors = ("--collectors", "tied-mean") if method == "rcml-misa" else ()
    out = tmp_path / "out"
    result = call(*words, *collectors, *FEW, "--keep", "all", "--out", out)
    assert result.exit_code == 0, result.stderr
    (record,) = RunStore(out / "records").read()
    assert {"train sim", "valid sim", "valid diff", "valid recon"} <= set(record.history)
    (path,) = out.glob("records/*-seed0-*.json")
    assert {"private", "shared", "attention"} <= set(read_kept(kept_path(path)).arrays)


def test_what_a_method_lacks_is_refused_before_training(tmp_path) -> None:
    for method, what in (("rcml", "codes"), ("lda", "attention"), ("kernel-expert", "history")):
        result = call("--method", method, *FEW[:4], "--keep", what, "--out", tmp_path)
        assert result.exit_code == 2
        assert f"has no {what} to keep" in result.stderr
        assert result.stderr.count("\n") == 1
    assert "add --out" in call("--keep", "codes").stderr


def test_controls_keep_their_answers(tmp_path) -> None:
    result = call("--method", "lda", *FEW[:4], "--keep", "opinions", "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    (path,) = tmp_path.glob("records/*-seed0-*.json")
    arrays = read_kept(kept_path(path)).arrays
    assert "clean.right" in arrays
    assert "clean.views" not in arrays


def test_missing_and_damaged_files(tmp_path) -> None:
    with pytest.raises(DataError, match="--keep all"):
        read_kept(tmp_path / "x-kept.npz")
    (tmp_path / "x-kept.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(DataError, match="damaged"):
        read_kept(tmp_path / "x-kept.npz")


def test_recorder_takes_as_many_rows_of_each_part() -> None:
    from rcml_misa.views import MultiView

    asked = []

    class Model:
        class module_:  # noqa: N801
            training = True
            eval = train = staticmethod(lambda *_: None)

        def loss_terms(self, views, target):
            asked.append((views.n_samples, len(target)))
            return {"sim": float(views["a"].mean())}

    views = MultiView({"a": np.arange(40.0)[:, None]})
    parts = {"train": np.arange(30), "valid": np.arange(30, 40)}
    history: dict[str, list[float]] = {}
    record = loss_recorder(Model(), views, np.zeros(40), parts, history)
    record(None)
    record(None)
    assert asked == [(10, 10)] * 4
    assert history["valid sim"] == [34.5, 34.5]
    assert history["train sim"][0] == history["train sim"][1] < 30


def test_records_stay_strict_json(folder) -> None:
    (path,) = folder.glob("*-seed0-*.json")
    json.loads(path.read_text(), parse_constant=pytest.fail)


def test_a_method_given_by_its_path_finds_what_it_kept(tmp_path) -> None:
    method = ("--method", "sklearn.naive_bayes:GaussianNB", "--keep", "opinions")
    result = call("--dataset", "digits", *method, "--runs", 1, "--jobs", 1, "--out", tmp_path)
    assert result.exit_code == 0, result.stderr
    (record,) = tmp_path.glob("records/*-seed0-*.json")
    assert "clean.right" in read_kept(kept_path(record)).arrays
