"""Figures: each from kept runs, in each format, in one look; what is missing is told."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner, Result

from rcml_misa.cli import main
from rcml_misa.cli.run import WHAT
from rcml_misa.exceptions import DataError, OptionError, RecordWarning
from rcml_misa.opinions import degree_of_conflict
from rcml_misa.reporting import figures
from rcml_misa.reporting.figures import _pairwise
from rcml_misa.reporting.panels import (
    Codes,
    attention_figure,
    conflict_figure,
    embed,
    loss_figure,
    uncertainty_figure,
)
from rcml_misa.reporting.style import PALETTE, view_colours
from rcml_misa.results import RunRecord, RunStore
from rcml_misa.runs.tasks import kept_path

VIEWS = ("intensity", "lbp", "gabor")
CONFIG = {"sim_weight": 0.8, "diff_weight": 0.3, "recon_weight": 0.8}


@pytest.fixture(autouse=True)
def few_points(monkeypatch) -> None:
    monkeypatch.setattr("rcml_misa.reporting.panels.POINTS", 240)


def record(seed: int, **changes) -> RunRecord:
    rng = np.random.default_rng(seed)
    falling = np.linspace(2, 1, 6) + 0.1 * rng.random(6)
    bins = {
        "count": [0.0, 10.0, 40.0],
        "confidence": [0.0, 5.5, 36.0],
        "correct": [0.0, 6.0, 37.0],
    }
    fields = {
        "dataset": "PIE",
        "method": "rcml-misa",
        "variant": "separate",
        "default": True,
        "run": seed,
        "seed": seed,
        "config": CONFIG,
        "versions": {},
        "data_sha256": "",
        "train_rows": 100,
        "test_rows": 50,
        "metrics": {"clean": {"accuracy": 0.9}, "conflict": {"accuracy": 0.8}},
        "bins": {"clean": bins, "conflict": bins},
        "timing": {},
        "history": {
            f"{part} {term}": (falling + shift).tolist()
            for part, shift in (("train", 0.0), ("valid", 0.1))
            for term in ("sim", "diff", "recon")
        },
    }
    return RunRecord(**(fields | changes))


def arrays(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    attention = rng.random((1, 6, 6))
    attention[0, 0, 1] = 0
    found = {
        "private": rng.random((50, 3, 8)).astype(np.float32),
        "shared": rng.random((50, 3, 8)).astype(np.float32),
        "attention": attention / attention.sum(axis=2, keepdims=True),
        "replaced": np.arange(50) < 20,
        "meta": np.frombuffer(json.dumps({"views": VIEWS}).encode(), dtype=np.uint8),
    }
    for part, shift in (("clean", 0.0), ("conflict", 0.3)):
        found |= {
            f"{part}.uncertainty": np.clip(rng.normal(0.3 + shift, 0.1, 50), 0, 1),
            f"{part}.right": rng.random(50) > 0.2,
            f"{part}.views": rng.gamma(1.0, 3.0, (50, 3, 4)).astype(np.float32),
        }
    return found


@pytest.fixture
def folder(tmp_path):
    for seed in range(3):
        path = RunStore(tmp_path / "runs").write(record(seed))
        np.savez(kept_path(path), **arrays(seed))
    return tmp_path / "runs"


def call(*words: object) -> Result:
    return CliRunner().invoke(main, ["plot", *map(str, words)])


@pytest.mark.parametrize("what", WHAT)
def test_every_figure_in_every_format_and_again_the_same(
    folder, tmp_path, monkeypatch, what
) -> None:
    monkeypatch.setattr(
        "rcml_misa.reporting.panels.embed",
        lambda codes: Codes(codes.private[..., :2], codes.shared[..., :2]),
    )
    before = dict(mpl.rcParams)
    for kind, head in (("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")):
        out = tmp_path / f"figure.{kind}"
        result = call(folder, "--what", what, "--out", out)
        assert result.exit_code == 0, result.stderr
        assert result.stdout == f"written: {out}\n"
        first = out.read_bytes()
        assert first.startswith(head)
        assert call(folder, "--what", what, "--out", out).exit_code == 0
        assert out.read_bytes() == first
    ET.parse(tmp_path / "figure.svg")  # noqa: S314
    assert dict(mpl.rcParams) == before


def test_the_commands_figures_are_the_rooms() -> None:
    assert tuple(figures.FIGURES) == WHAT


def axes_of(figure):
    return [one for one in figure.axes if one.get_label() != "<colorbar>"]


def test_losses_show_mean_and_deviation_over_runs_of_different_lengths(folder) -> None:
    histories = [{"train sim": [3.0, 2.0, 1.0], "valid sim": [4.0]}, {"train sim": [1.0, 2.0]}]
    with figures.in_style():
        (axes,) = axes_of(loss_figure(histories))
    train, valid = axes.lines
    assert train.get_ydata().tolist() == [2.0, 2.0, 1.0]
    assert valid.get_ydata().tolist() == [4.0]
    assert [line.get_label() for line in axes.lines] == ["train", "validation"]
    edges = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (edges.min(), edges.max()) == (1.0, 3.0)  # the mean 2 minus and plus the deviation 1


def test_losses_of_training_serve_where_no_others_were_kept(folder) -> None:
    with figures.in_style():
        (axes,) = axes_of(loss_figure([{"sim": [2.0, 1.0]}]))
    assert axes.lines[0].get_ydata().tolist() == [2.0, 1.0]
    with pytest.raises(DataError, match="no similarity, difference or reconstruction"):
        loss_figure([{"loss": [1.0]}])


def test_attention_is_labelled_and_shows_what_is_closed(folder) -> None:
    attention = np.full((4, 4), 0.25)
    attention[0] = [0.5, 0.0, 0.5, 0.0]
    with figures.in_style():
        (axes,) = axes_of(attention_figure(attention, ["a", "b"]))
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels == ["a, private", "b, private", "a, shared", "b, shared"]
    words = [text.get_text() for text in axes.texts]
    assert words.count("0.25") == 12
    assert words.count("0.50") == 2
    assert words.count("·") == 2


def test_conflict_is_the_mean_degree_of_each_pair(folder) -> None:
    import torch

    (runs,) = [figures.find_runs(folder)]
    kept = runs.contents()[0]
    for part in ("clean", "conflict"):
        evidence = torch.from_numpy(kept.arrays[f"{part}.views"]).double()
        rows = kept.arrays["replaced"] if part == "conflict" else slice(None)
        wanted = degree_of_conflict(evidence[:, 0], evidence[:, 2])[rows].mean().item()
        found = _pairwise(kept, part)
        assert [found[0, 2], found[2, 0]] == pytest.approx([wanted, wanted])
    with figures.in_style():
        axes = axes_of(conflict_figure({"clean": found, "conflict": found}, VIEWS))
    assert [one.get_title() for one in axes] == ["clean rows", "one view replaced"]


def test_uncertainty_shows_shares_and_the_area(folder) -> None:
    runs = [(np.full(10, 0.1), np.full(10, 0.9))] * 2
    with figures.in_style():
        figure = uncertainty_figure(runs)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["clean rows", "one view replaced (AUROC 1.00)"]


def test_codes_are_laid_out_by_tsne_and_cut_to_a_readable_number() -> None:
    rng = np.random.default_rng(0)
    codes = Codes(rng.random((900, 2, 4)), 5 + rng.random((900, 2, 4)))
    placed = embed(codes)
    assert placed.private.shape == placed.shared.shape == (60, 2, 2)
    apart = np.linalg.norm(placed.private.mean((0, 1)) - placed.shared.mean((0, 1)))
    assert apart > placed.private.std()


def test_with_and_without_regularisers_stand_side_by_side(folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rcml_misa.reporting.panels.POINTS", 60)
    plain = tmp_path / "plain"
    path = RunStore(plain).write(record(0, config=dict.fromkeys(CONFIG, 0.0)))
    np.savez(kept_path(path), **arrays(9))
    runs = [figures.find_runs(one) for one in (plain, folder)]
    with figures.in_style():
        figure = figures.draw("subspaces", runs)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["without regularisers", "with regularisers"]
    out = tmp_path / "two.svg"
    result = call(folder, "--what", "subspaces", "--against", plain, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert call(folder, "--what", "losses", "--against", plain, "--out", out).exit_code == 2


def test_a_view_keeps_its_colour_whatever_is_shown() -> None:
    assert view_colours(["gabor"], VIEWS)["gabor"] == view_colours(VIEWS)["gabor"] == PALETTE[2]
    colours = view_colours([f"v{number}" for number in range(7)])
    assert len(set(colours.values())) == 7


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_colours_are_dark_enough_for_lines_on_white_and_text_is_readable() -> None:
    contrast = [1.05 / (luminance(colour) + 0.05) for colour in PALETTE]
    assert min(contrast) > 2.1
    with figures.in_style():
        assert (
            min(value for name, value in mpl.rcParams.items() if name.endswith("tick.labelsize"))
            >= 7
        )
        assert mpl.rcParams["axes.labelsize"] >= 7


def test_one_record_alone_and_one_variant_of_several(folder, tmp_path) -> None:
    (path, *_) = sorted(folder.glob("*.json"))
    assert len(figures.find_runs(path).records) == 1
    RunStore(folder).write(record(0, variant="tied", default=False))
    RunStore(folder).write(record(0, method="rcml", variant="mean"))
    with pytest.raises(OptionError, match="choose with --variant"):
        figures.find_runs(folder)
    assert figures.find_runs(folder, variant="tied").label == "rcml-misa tied"
    assert len(figures.find_runs(folder, variant="separate").records) == 3
    with pytest.raises(OptionError, match="did you mean"):
        figures.find_runs(folder, variant="tide")


def test_the_records_of_a_run_are_found_below_its_folder(folder, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    folder.rename(out / "records")
    runs = figures.find_runs(out)
    assert [record.seed for record in runs.records] == [0, 1, 2]
    assert len(runs.contents()) == 3
    (out / "records" / "notes-seed0.json").write_text("[]")
    with pytest.warns(RecordWarning, match="notes-seed0.json"):
        assert len(figures.find_runs(out).records) == 3


def test_several_settings_of_one_variant_and_seed_ask_for_a_record(folder) -> None:
    path = RunStore(folder).write(record(1, config={**CONFIG, "dropout": 0.5}))
    with pytest.raises(OptionError, match="with seed 1 in several settings; give one record"):
        figures.find_runs(folder)
    assert len(figures.find_runs(path).records) == 1


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--what", "losses", "--out", "x.jpg"), ("x.jpg", ".svg, .pdf, .png")),
        (("--what", "losses", "--out", "nowhere/x.svg"), ("nowhere/x.svg can't be written",)),
        (("--what", "loses"), ("loses",)),
        ((), ("--what",)),
    ],
)
def test_mistakes_get_one_sentence(folder, words, parts) -> None:
    result = call(folder, *words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts)


def test_what_was_not_kept_is_told(folder, tmp_path) -> None:
    for path in folder.glob("*-kept.npz"):
        with np.load(path) as content:
            few = {name: content[name] for name in ("meta", "attention")}
        np.savez(path, **few)
    for what, word in (("subspaces", "codes"), ("conflict", "opinions"), ("uncertainty", "opin")):
        result = call(folder, "--what", what, "--out", tmp_path / "x.svg")
        assert result.exit_code == 2
        assert word in result.stderr
    # reliability stands in the records; risk and coverage need what was kept
    assert call(folder, "--what", "calibration", "--out", tmp_path / "x.svg").exit_code == 0
    for path in folder.glob("*-kept.npz"):
        path.unlink()
    assert "--keep all" in call(folder, "--what", "attention").stderr
    assert call(folder, "--what", "losses", "--out", tmp_path / "x.svg").exit_code == 0
    assert "no record" in call(tmp_path / "empty", "--what", "losses").stderr
    broken = tmp_path / "a-seed0.json"
    broken.write_text("{")
    assert "can't be read as a record" in call(broken, "--what", "losses").stderr


def test_a_regression_has_no_calibration_and_three_tokens_no_attention(folder, tmp_path) -> None:
    path = RunStore(tmp_path / "other").write(replace(record(0), bins={}))
    np.savez(kept_path(path), **(arrays(0) | {"attention": np.full((1, 3, 3), 1 / 3)}))
    runs = [figures.find_runs(tmp_path / "other")]
    with figures.in_style():
        with pytest.raises(DataError, match="predicted scores"):
            figures.draw("calibration", runs)
        with pytest.raises(DataError, match="3 tokens of 3 views"):
            figures.draw("attention", runs)
        with pytest.raises(OptionError, match="no figure 'x'"):
            figures.draw("x", runs)


def test_without_matplotlib_the_extra_is_named(monkeypatch, folder) -> None:
    monkeypatch.setattr("rcml_misa.reporting.style.find_spec", lambda name: None)
    result = call(folder, "--what", "losses")
    assert result.exit_code == 2
    assert "pip install 'rcml-misa[plot]'" in result.stderr
