"""Models as ONNX files: their answers in onnxruntime, metadata, checks, and the command."""

from __future__ import annotations

import json
import math
import re
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import call, done
from torch import nn
from torch.nn import functional as F  # noqa: N812

from rcml_misa import RCMLClassifier, RCMLMISAClassifier, RCMLMISARegressor, export_onnx, load
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.export import writing
from rcml_misa.export.operators import OPSET, translations

CLOSE = 1e-5


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def told(opened):
    properties = opened.get_modelmeta().custom_metadata_map
    return {name: json.loads(text) for name, text in properties.items()}


def toy(rows=160, classes=3, widths=(5, 4)):
    rng = np.random.default_rng(8)
    codes = np.arange(rows) % classes
    centres = [1.5 * rng.normal(size=(classes, width)) for width in widths]

    def tables():
        return {
            name: centre[codes] + rng.normal(size=(rows, centre.shape[1]))
            for name, centre in zip(("evidence", "Größe 2"), centres, strict=True)
        }

    train, test = tables(), tables()
    train["Größe 2"][::7] = np.nan
    test["evidence"][3:9] = np.nan
    test["Größe 2"][8:20] = np.nan
    test["evidence"][20] *= 50
    test["Größe 2"][21] *= 1e20
    return SimpleNamespace(train=train, test=test, codes=codes)


def compare(opened, model, tables):
    """Largest difference of a graph's answers from the model's opinions, relative above 1."""
    names = told(opened)["inputs"]
    dtype = np.float32 if opened.get_inputs()[0].type == "tensor(float)" else np.float64
    given = {name: np.asarray(table, dtype=dtype) for name, table in tables.items()}
    outputs = [output.name for output in opened.get_outputs()]
    feed = {names[view]: table for view, table in given.items()}
    answers = dict(zip(outputs, opened.run(None, feed), strict=True))
    opinion = model.predict_opinion(given)
    own = list(opinion.views.values())
    differences = {}
    for name, values in answers.items():
        if name.startswith("view_"):
            expected = np.stack([getattr(view, name[5:-1]) for view in own], axis=1)
        elif name == "views":
            expected = np.stack(own, axis=1)
        else:
            expected = getattr(opinion, name)
        assert values.dtype == dtype
        assert values.shape == expected.shape
        apart = np.abs(values - expected) / np.maximum(np.abs(expected), 1)
        differences[name] = float(apart.max())
    return differences


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """A pool of ridge members and a network, that names suspects, as a file of both kinds."""
    folder, toys = tmp_path_factory.mktemp("pool"), toy()
    labels = np.array([-1, 5, 2**40])[toys.codes]
    model = RCMLMISAClassifier(
        expert="ridge",
        networks=1,
        epochs=2,
        encoder_width=16,
        encoder_depth=1,
        hidden=8,
        random_state=0,
    )
    model.fit(toys.train, labels)
    model.share_ = 0.4  # as if the network had been worth it
    model.save(folder / "pool.rcml")
    facts = export_onnx(folder / "pool.rcml", folder / "pool.onnx")
    return SimpleNamespace(model=model, toys=toys, folder=folder, facts=facts)


def test_a_pool_answers_alike(pool):
    opened = session(pool.folder / "pool.onnx")
    assert [value.name for value in opened.get_inputs()] == ["evidence view", "Größe 2"]
    assert [value.shape for value in opened.get_inputs()] == [["rows", 5], ["rows", 4]]
    assert [(value.name, value.shape) for value in opened.get_outputs()] == [
        ("probability", ["rows", 3]),
        ("evidence", ["rows", 3]),
        ("uncertainty", ["rows"]),
        ("conflict", ["rows"]),
        ("views", ["rows", 2, 3]),
    ]
    differences = compare(opened, pool.model, pool.toys.test)
    assert max(differences.values()) < CLOSE, differences
    assert pool.facts["largest_difference"] < CLOSE
    for row in (0, 3, 8, 9, 21):  # whole, without one view, without any, without the other, far
        some = {name: table[row : row + 1] for name, table in pool.toys.test.items()}
        assert max(compare(opened, pool.model, some).values()) < CLOSE, row
    many = {name: np.tile(table, (30, 1)) for name, table in pool.toys.test.items()}
    assert max(compare(opened, pool.model, many).values()) < CLOSE
    gap = {name: table[:1].copy() for name, table in pool.toys.test.items()}
    missing = {name: table.copy() for name, table in gap.items()}
    gap["Größe 2"][0, 1] = np.inf
    missing["Größe 2"][0] = np.nan
    names = told(opened)["inputs"]
    for values, others in zip(
        *(opened.run(None, {names[k]: v for k, v in rows.items()}) for rows in (gap, missing)),
        strict=True,
    ):
        np.testing.assert_array_equal(values, others)


def test_metadata_tell_what_the_graph_is(pool):
    facts = told(session(pool.folder / "pool.onnx"))
    assert facts["classes"] == [-1, 5, 2**40]
    assert facts["views"] == ["evidence", "Größe 2"]
    assert facts["inputs"] == {"evidence": "evidence view", "Größe 2": "Größe 2"}
    assert facts["columns"] == {"evidence": None, "Größe 2": None}
    assert facts["method"] == "RCMLMISAClassifier"
    assert re.fullmatch("[0-9a-f]{64}", facts["model_sha256"])
    shown = json.loads(done("inspect", pool.folder / "pool.rcml", "--json").stdout)
    assert facts["model_sha256"] == shown["sha256"]
    assert facts["data_sha256"] == shown["data_sha256"]
    np.testing.assert_allclose(facts["class_shares"], pool.model.class_shares_)


def test_the_file_is_valid_and_tells_nothing_of_this_machine(pool):
    proto = onnx.load(pool.folder / "pool.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert [(each.domain, each.version) for each in proto.opset_import] == [("", OPSET)]
    assert not proto.functions
    content = proto.SerializeToString()
    assert b"rcml_misa/" not in content
    assert b".py" not in content


class _Operators(nn.Module):
    def forward(self, *views):
        (x,) = views
        return (
            torch.log1p(x.abs()),
            torch.expm1(x),
            F.softplus(x),
            (x + 1e-12).log(),
            x.clamp(1e-9, 1 - 1e-9),
            x * 0.1,
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operators_lose_nothing_of_small_numbers(dtype, tmp_path):
    graph = SimpleNamespace(graph=_Operators().eval(), widths=[3])
    with writing._quiet():
        model = writing._traced(graph, dtype)
    (tmp_path / "operators.onnx").write_bytes(writing._checked(model).SerializeToString())
    opened = session(tmp_path / "operators.onnx")
    x = torch.tensor([0.0, 1e-300, 1e-30, 1e-15, 1e-9, 1e-5, 0.3, 1.0, 20.0, 40.0], dtype=dtype)
    x = torch.cat([x, -x[:8], -x[9:], torch.tensor([700.0, -800.0, 2.0], dtype=dtype)])
    x = x[: len(x) // 3 * 3].view(-1, 3)
    x = x if dtype == torch.float64 else x.clamp(-80, 80)
    results = opened.run(None, {opened.get_inputs()[0].name: x.numpy()})
    for values, expected in zip(results, _Operators()(x), strict=True):
        assert values.dtype == expected.numpy().dtype
        np.testing.assert_allclose(values, expected.numpy(), rtol=20 * torch.finfo(dtype).eps)
    assert len(translations()) == 7


def test_command_writes_a_graph_of_a_fitted_file(tmp_path):
    rng = np.random.default_rng(9)
    rows = [
        f"{rng.normal(k):.3f},{rng.normal(-k):.3f},{rng.normal(k):.3f},class {k}"
        for k in np.arange(60) % 2
    ]
    rows[7] = ",," + rows[7].split(",", 2)[2]  # lacks a view
    rows[9] = "," + rows[9].split(",", 1)[1]  # lacks a number
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["a__x,a__y,b__z,label", *rows]) + "\n")
    model, out = tmp_path / "model.rcml", tmp_path / "model.onnx"
    done("fit", "--dataset", table, "--method", "rcml", "--epochs", "3", "--out", model)
    shown = done("export", model, "--to", "onnx", "--out", out)
    assert re.search(r"inputs: a rows x 2, b rows x 1", shown.stdout)
    assert re.search(r"largest difference from the model: \d\.\de-\d\d", shown.stdout)
    opened = session(out)
    facts = told(opened)
    assert facts["columns"] == {"a": ["a__x", "a__y"], "b": ["b__z"]}
    assert facts["classes"] == ["class 0", "class 1"]
    values = np.genfromtxt(table, delimiter=",", skip_header=1)[:, :3]
    probability = opened.run(["probability"], {"a": values[:, :2], "b": values[:, 2:]})[0]
    answers = tmp_path / "answers.csv"
    done("predict", model, table, "--out", answers)
    stated = np.genfromtxt(answers, delimiter=",", names=True)["probability"]
    np.testing.assert_allclose(probability.max(axis=1), stated, atol=CLOSE)
    record = json.loads(
        done(
            "export", model, "--to", "onnx", "--out", out, "--input-type", "float32", "--json"
        ).stdout
    )
    assert record["bytes"] == out.stat().st_size
    assert record["inputs"] == {"a": ["rows", 2], "b": ["rows", 1]}
    assert session(out).get_inputs()[0].type == "tensor(float)"
    before = model.read_bytes()
    result = call("export", model, "--to", "onnx", "--out", model)
    assert result.exit_code == 2
    assert "would replace" in result.stderr
    assert model.read_bytes() == before
    result = call("export", model, "--to", "onnx", "--out", tmp_path / "none" / "model.onnx")
    assert result.exit_code == 2
    assert "can't be written" in result.stderr


def test_scores_are_exported_with_what_intervals_need(tmp_path):
    toys = toy(rows=90)
    target = 3 + 5 * np.nan_to_num(toys.train["evidence"][:, 0])
    model = RCMLMISARegressor(epochs=2, hidden=8, feedforward=8, random_state=0)
    model.fit(toys.train, target)
    export_onnx(model, tmp_path / "scores.onnx")
    opened = session(tmp_path / "scores.onnx")
    assert max(compare(opened, model, toys.test).values()) < CLOSE
    facts = told(opened)
    assert math.isclose(facts["interval_factor"], model.interval_factor_)
    assert facts["model_sha256"] is None
    assert "classes" not in facts


@pytest.fixture
def small():
    return RCMLClassifier(epochs=1, random_state=0).fit(toy().train, toy().codes)


def test_a_graph_that_differs_is_not_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(
        writing.Exportable,
        "answers",
        lambda self, tables: {"probability": np.full((len(tables[0]), 3), 0.9)},
    )
    out = tmp_path / "model.onnx"
    out.write_text("an older file")
    with pytest.raises(DataError, match=r"probability is .* away from the model's"):
        export_onnx(small, out)
    assert out.read_text() == "an older file"
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_without_the_extra_there_is_one_sentence(small, tmp_path, monkeypatch):
    find = writing.importlib.util.find_spec
    monkeypatch.setattr(
        writing.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    with pytest.raises(OptionError, match=r"pip install 'rcml-misa\[onnx\]'"):
        export_onnx(small, tmp_path / "model.onnx")
    with pytest.raises(OptionError, match="input_type='float16'"):
        export_onnx(small, tmp_path / "model.onnx", input_type="float16")
    small.save(tmp_path / "model.rcml")
    with pytest.raises(OptionError, match="is the model itself"):
        export_onnx(tmp_path / "model.rcml", tmp_path / "model.rcml")
    assert load(tmp_path / "model.rcml").classes_.tolist() == [0, 1, 2]
