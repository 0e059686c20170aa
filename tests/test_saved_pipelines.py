"""Pipelines in model files: what comes back, what can't be held, and what hostile files try."""

import io
import json
import os
import subprocess
import sys
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from raw_toys import raw
from safetensors.numpy import save_file
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import RandomTreesEmbedding
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.feature_selection import SelectKBest, f_regression
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    StandardScaler,
)

import rcml_misa
from rcml_misa import TablePreparer
from rcml_misa.cli import main
from rcml_misa.estimators import KernelExpertClassifier, RCMLMISARegressor, ViewPipeline
from rcml_misa.estimators.registry import load_with_header
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.persistence import FORMAT_VERSION, describe, save
from rcml_misa.persistence.container import read_file, read_header
from rcml_misa.persistence.transformers import LARGEST, read_transformer, write_transformer


def model(**options):
    return KernelExpertClassifier(random_state=0, **options)


def prepared(kind=ViewPipeline):
    return kind([("prepare", TablePreparer(views="__")), ("expert", model())])


def array(rows=60):
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    return rng.normal(size=(rows, 6)) + y[:, None], np.array(["no", "yes"])[y]


def same(again, fitted, X):
    found, wanted = again.predict_opinion(X), fitted.predict_opinion(X)
    np.testing.assert_array_equal(found.evidence, wanted.evidence)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.rcml"
    prepared().fit(*raw()).save(path)
    return path


def test_a_pipeline_comes_back_bit_for_bit_with_its_names(tmp_path):
    frame, y = raw()
    for kind, write in ((ViewPipeline, ViewPipeline.save), (Pipeline, save)):
        fitted = prepared(kind).fit(frame, y)
        write(fitted, tmp_path / "m")
        again = rcml_misa.load(tmp_path / "m")
        assert type(again) is ViewPipeline
        assert [name for name, _ in again.steps] == ["prepare", "expert"]
        ours = ViewPipeline(fitted.steps)
        same(again, ours, frame)
        same(again, ours, raw(30, seed=1)[0].assign(a__town="rom"))
        assert again[0].describe() == fitted[0].describe()
        assert (
            again[0].get_feature_names_out().tolist() == fitted[0].get_feature_names_out().tolist()
        )
        assert {**again.get_params(), "steps": 0}.keys() == fitted.get_params().keys()
        assert again.set_params(prepare__levels=3).fit(frame, y).predict(frame).shape == y.shape


def test_scores_come_back(tmp_path):
    frame, _ = raw()
    last = RCMLMISARegressor(epochs=1, hidden=8, random_state=0, device="cpu")
    fitted = ViewPipeline([("prepare", TablePreparer(views="__")), ("model", last)])
    fitted.fit(frame, frame["b__z"]).save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    for found, wanted in zip(
        again.predict_interval(frame), fitted.predict_interval(frame), strict=True
    ):
        np.testing.assert_array_equal(found, wanted)


def pandas_columns():
    return ColumnTransformer(
        [
            ("a", make_pipeline(SimpleImputer(), StandardScaler()), ["a__x", "b__z"]),
            ("c", OneHotEncoder(sparse_output=False), make_column_selector("a__town")),
            ("d", OrdinalEncoder(), ["a__town"]),
        ]
    ).set_output(transform="pandas")


TRANSFORMERS = {
    "scaler": StandardScaler,
    "imputer": lambda: SimpleImputer(add_indicator=True),
    "neighbours": KNNImputer,
    "pca": lambda: PCA(4, random_state=0),
    "svd": lambda: TruncatedSVD(4, random_state=0),
    "quantiles": lambda: QuantileTransformer(n_quantiles=20, random_state=0),
    "powers": PowerTransformer,
    "bins": lambda: KBinsDiscretizer(3, encode="onehot-dense", random_state=0),
    "best": lambda: SelectKBest(k=4),
    "best of scores": lambda: SelectKBest(f_regression, k=3),
    "logarithm": lambda: FunctionTransformer(np.log1p),
    "identity": FunctionTransformer,
    "norms": Normalizer,
    "means": lambda: KMeans(3, random_state=0, n_init=1),
    "pipeline": lambda: make_pipeline(StandardScaler(), PCA(4, random_state=0)),
    "union": lambda: FeatureUnion([("p", PCA(2, random_state=0)), ("s", StandardScaler())]),
    "random state": lambda: PCA(4, random_state=np.random.RandomState(0)),
}


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_scikit_learns_transformers_come_back(name, tmp_path):
    X, y = array()
    X = np.abs(X)
    labels = np.arange(60) % 2 if "best" in name else y
    first = TRANSFORMERS[name]()
    width = first.fit_transform(X, labels).shape[1]
    views = [width // 2, width - width // 2]
    fitted = ViewPipeline([("first", first), ("model", model(views=views))]).fit(X, labels)
    fitted.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    same(again, fitted, X)
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "m").read_bytes()


def test_a_column_transformer_comes_back_with_its_frames(tmp_path):
    frame, y = raw()
    fitted = ViewPipeline([("columns", pandas_columns()), ("model", model(views="__"))])
    fitted.fit(frame, y).save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    same(again, fitted, frame)
    assert list(again.predict_opinion(frame).views) == ["a", "c", "d"]
    facts = describe(*load_with_header(tmp_path / "m"), tmp_path / "m")
    assert facts["steps"] == {"columns": "ColumnTransformer"}
    assert facts["prepared"] == []


def test_transformers_of_texts_come_back():
    words = TfidfVectorizer().fit(["a good day", "a bad one"])
    again = read_transformer(write_transformer(words, "x"))
    assert again.vocabulary_ == words.vocabulary_
    np.testing.assert_array_equal(again.idf_, words.idf_)


SCRIPT = """
import sys, numpy as np
sys.path.insert(0, sys.argv[1])
from test_saved_pipelines import *
frame, y = raw()
steps = [("columns", pandas_columns()), ("prepare", TablePreparer(views="__")), ("model", model())]
fitted = ViewPipeline(steps).fit(frame, y)
fitted[0].names_ = {"ant", "bee", "cat", "dog", "elk"}  # ordered by hashes
fitted.save(sys.argv[2])
"""


def test_equal_fits_are_equal_bytes_in_two_processes(tmp_path):
    folder = str(Path(__file__).parent)
    for number in (1, 2):
        subprocess.run(  # noqa: S603
            [sys.executable, "-c", SCRIPT, folder, str(tmp_path / str(number))],
            env={**os.environ, "PYTHONHASHSEED": str(number)},
            check=True,
        )
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_steps_that_do_nothing_and_a_pipeline_of_one_step(tmp_path):
    frame, y = raw()
    steps = [("same", "passthrough"), ("prepare", TablePreparer(views="__")), ("no", None)]
    fitted = ViewPipeline([*steps, ("model", model())]).fit(frame, y)
    fitted.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    assert [name for name, _ in again.steps] == ["same", "prepare", "no", "model"]
    assert again.steps[0][1] == "passthrough"
    assert again.steps[2][1] is None
    same(again, fitted, frame)
    X, y = array()
    fitted = ViewPipeline([("only", model(views=[3, 3]))]).fit(X, y)
    fitted.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    assert isinstance(again, ViewPipeline)
    same(again, fitted, X)


def test_a_memory_is_not_kept(tmp_path):
    frame, y = raw()
    cache = joblib.Memory(tmp_path / "cache", verbose=0)
    within = Pipeline([("columns", pandas_columns()), ("same", "passthrough")], memory=cache)
    fitted = ViewPipeline([("within", within), ("model", model(views="__"))], memory=cache)
    fitted.fit(frame, y).save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    assert again.memory is None
    assert again[0].memory is None
    assert fitted[0].memory.location == cache.location
    same(again, fitted, frame)
    assert b"cache" not in (tmp_path / "m").read_bytes()


# what can't be held


class Mine(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


class Scaler(StandardScaler):
    """A class of one's own that calls itself scikit-learn's."""

    __module__ = "sklearn.preprocessing._data"


def own(X):
    return X


def nested():
    return Pipeline([("prepare", TablePreparer(views=[3, 3]))])


REFUSED = {
    "lambda": (lambda: FunctionTransformer(lambda X: X), r"<lambda>, which no file holds"),
    "own function": (lambda: FunctionTransformer(own), r"own, which no file holds safely"),
    "system": (lambda: FunctionTransformer(os.system, validate=False), r"system, which no file"),
    "within": (
        lambda: make_pipeline(StandardScaler(), FunctionTransformer(own)),
        "own, which no file holds safely",
    ),
    "in a union": (lambda: FeatureUnion([("mine", Mine())]), "Mine, which no file holds safely"),
    "own class": (Mine, "is a Mine, which a file can't hold: it holds TablePreparer and"),
    "disguised": (Scaler, "Scaler.*can't be saved"),
    "nested": (nested, "is a Pipeline with steps of this package.*put its steps there, one by"),
    "trees": (
        lambda: RandomTreesEmbedding(3, sparse_output=False, random_state=0),
        "Tree, which no file holds safely",
    ),
    "long name": (type("M" * 300, (Mine,), {}), "which a file can't hold"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_steps_that_a_file_cannot_hold_are_refused_in_one_sentence(name, tmp_path):
    make, message = REFUSED[name]
    X, y = array()
    step = make()
    if name == "system":
        step.func = None
    options = {} if name == "nested" else {"views": [3, 3]}
    if name == "trees":
        options = {"views": [3, step.fit_transform(X).shape[1] - 3]}
    title = "s" * 200 if name == "long name" else "the step"
    fitted = ViewPipeline([(title, step), ("model", model(**options))]).fit(X, y)
    if name == "system":
        step.func = os.system
    (tmp_path / "m").write_bytes(b"before")
    with pytest.raises(DataError, match=message) as caught:
        fitted.save(tmp_path / "m")
    text = str(caught.value)
    assert len(text) <= 300
    assert "\n" not in text
    assert text.startswith(f"step '{'s' * 36 if name == 'long name' else 'the step'}")
    assert "joblib" in text or "one by one" in text
    assert (tmp_path / "m").read_bytes() == b"before"
    assert len(list(tmp_path.iterdir())) == 1


def test_last_steps_that_a_file_cannot_hold(tmp_path):
    X, y = array()
    inner = Pipeline([("scale", StandardScaler()), ("model", model(views=[3, 3]))])
    lasts = {
        "put its steps into the outer Pipeline": inner,
        "which predicts nothing": "passthrough",
        "LogisticRegression can't be saved": LogisticRegression(),
    }
    for message, last in lasts.items():
        fitted = ViewPipeline([("same", StandardScaler()), ("last", last)]).fit(X, y)
        with pytest.raises(DataError, match=message) as caught:
            save(fitted, tmp_path / "m")
        assert len(str(caught.value)) <= 300
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_fitted_is_not_saved(tmp_path):
    frame, y = raw()
    with pytest.raises(NotFittedError):
        prepared().save(tmp_path / "m")
    fitted = prepared().fit(frame, y)
    with pytest.raises(NotFittedError):
        ViewPipeline([("prepare", TablePreparer()), fitted.steps[-1]]).save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_preparer_that_a_file_cannot_hold(tmp_path):
    frame, y = raw()
    fitted = prepared().fit(frame, y)
    fitted[0].views = {"a": own}
    with pytest.raises(
        DataError, match=r"step 'prepare'\.views.*is a function, which a model file"
    ):
        fitted.save(tmp_path / "m")


# hostile files


def rewrite(path, change):
    """Write the file again with a change, as a version without checksum."""
    header, tensors = read_file(path)
    del header["sha256"]
    change(header, tensors)
    text = json.dumps({**header, "format_version": 3})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, path, metadata={"rcml-misa": text})


def unpacked(content):
    with zipfile.ZipFile(io.BytesIO(content)) as members:
        return {name: members.read(name) for name in members.namelist()}


def packed(files):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as members:
        for name, value in files.items():
            members.writestr(name, value)
    return stream.getvalue()


def changed(content, change):
    files = unpacked(content)
    schema = json.loads(files["schema.json"])
    change(schema, files)
    return packed({**files, "schema.json": json.dumps(schema)})


def scaler_bytes():
    return write_transformer(StandardScaler().fit(np.ones((3, 2))), "x").tobytes()


def attribute(value):
    """Put a node among the attributes of a scaler."""

    def change(schema, files):
        schema["content"]["content"]["extra"] = value

    return change


def node(loader, module, name, **more):
    return {"__class__": name, "__module__": module, "__loader__": loader, **more}


JSON = node("JsonNode", "builtins", "str", content='"touch hacked"', is_json=True)
ARGUMENTS = node("TupleNode", "builtins", "tuple", content=[JSON])
EMPTY = node("DictNode", "builtins", "dict", content={})
EMPTY["key_types"] = node("ListNode", "builtins", "list", content=[])


def renamed(module, name):
    def change(schema, files):
        schema["__module__"], schema["__class__"] = module, name

    return change


def partial(module, name):
    content = {
        "func": node("FunctionNode", module, name),
        **{"args": ARGUMENTS, "kwds": EMPTY, "namespace": EMPTY},
    }
    return attribute(node("PartialNode", "functools", "partial", content=content))


def npy(shape, dtype="<f8", body=b""):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + body


def bogus_array(content, times=1):
    def change(schema, files):
        files["x.npy"] = content
        nodes = [node("NdArrayNode", "numpy", "ndarray", type="numpy", file="x.npy")] * times
        attribute(node("ListNode", "builtins", "list", content=nodes))(schema, files)

    return change


def byte_array(schema, files):
    """A value that skops trusts, and unpacks to eight times its size."""
    files["x.npy"] = npy((2,), body=bytes(16))
    attribute(node("BytearrayNode", "builtins", "bytearray", file="x.npy"))(schema, files)


def memory(schema, files):
    schema["content"]["content"]["memory"] = JSON


def other_protocol(schema, files):
    schema["protocol"] = 99


HOSTILE = {
    "system": renamed("os", "system"),
    "eval": renamed("builtins", "eval"),
    "popen": renamed("subprocess", "Popen"),
    "function": attribute(node("FunctionNode", "os", "system")),
    "type": attribute(node("TypeNode", "builtins", "exec")),
    "partial": partial("os", "system"),
    "method": attribute(
        node("MethodNode", "os", "system", content={"obj": node("TypeNode", "os", "system")})
    ),
    "reduce": attribute(
        node("ConstructorFromReduceNode", "subprocess", "Popen", content=ARGUMENTS)
    ),
    "trusted constructor": attribute(
        node(
            *("ConstructorFromReduceNode", "sklearn.preprocessing._data", "StandardScaler"),
            content=ARGUMENTS,
        )
    ),
    "operator": attribute(node("OperatorFuncNode", "operator", "methodcaller", attrs=ARGUMENTS)),
    "tree": attribute(node("TreeNode", "sklearn.tree._tree", "Tree")),
    "loader of no text": attribute(node(3, "os", "system")),
    "this package": renamed("rcml_misa.storage", "whole_file"),
    "no class": lambda schema, files: schema.pop("__class__"),
    "missing member": lambda schema, files: files.clear(),
    "a container as a plain value": attribute({**JSON, "content": " [[1]]"}),
    "array larger than its bytes": bogus_array(npy((10**12,))),
    "array of nothing": bogus_array(npy((10**15,), "|S0")),
    "array of objects": bogus_array(npy((1,), "|O", b"cos\nsystem\n.")),
    "one array a thousand times": bogus_array(npy((2**20,), body=bytes(2**23)), times=1000),
    "sparse": attribute(
        node("SparseMatrixNode", "scipy.sparse", "csr_matrix", type="scipy", file="x.npz")
    ),
    "memory": memory,
    "byte array": byte_array,
    "protocol": other_protocol,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_transformers_are_refused_and_nothing_is_executed(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = np.frombuffer(changed(scaler_bytes(), HOSTILE[name]), dtype=np.uint8)
    tracemalloc.start()
    with pytest.raises(DataError, match="its transformers can't be read") as caught:
        read_transformer(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
    assert len(str(caught.value)) <= 300
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_hostile_transformers_is_refused_in_one_sentence(tmp_path):
    X, y = array()
    path = tmp_path / "m"
    steps = [("scale", StandardScaler()), ("model", model(views=[3, 3]))]
    ViewPipeline(steps).fit(X, y).save(path)
    whole = path.read_bytes()

    def replace(content):
        def change(header, tensors):
            array = np.frombuffer(content, dtype=np.uint8)
            tensors["steps.scale"] = array
            header["steps"][0][1]["skops"]["shape"] = [len(array)]

        return change

    good = scaler_bytes()
    for content in (
        changed(good, HOSTILE["eval"]),
        good[: len(good) // 2],
        b"",
        b"PK" + bytes(100),
        packed({"schema.json": "[]"}),
        packed({"schema.json": "[" * 100_000}),
        changed(good, lambda schema, files: schema.pop("content")),
        changed(good, lambda schema, files: schema["content"]["content"].pop("with_mean")),
        write_transformer(LogisticRegression().fit(X, y), "x").tobytes(),
        write_transformer(StandardScaler(), "x").tobytes(),
        packed({"schema.json": "no json"}),
        packed({}),
    ):
        path.write_bytes(whole)
        rewrite(path, replace(content))
        with pytest.raises(DataError, match="is not a usable model file") as caught:
            rcml_misa.load(path)
        assert len(str(caught.value)) <= 300
        assert "\n" not in str(caught.value)


def test_bombs_take_no_memory():
    bombs = {
        "member": {"schema.json": b"{}", "x.npy": bytes(LARGEST + 1)},
        "schema": {"schema.json": b" " * (33 * 2**20)},
    }
    for files in bombs.values():
        content = np.frombuffer(packed(files), dtype=np.uint8)
        assert len(content) < 2**20
        tracemalloc.start()
        with pytest.raises(DataError, match="bytes"):
            read_transformer(content)
        assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
        tracemalloc.stop()


def test_a_member_that_lies_about_its_size_is_refused():
    files = unpacked(scaler_bytes())
    name = next(name for name in files if name.endswith(".npy"))
    content = packed({**files, name: npy((10**6,), body=bytes(8 * 10**6))})
    size = (8 * 10**6 + 128).to_bytes(4, "little")
    assert content.count(size) == 2
    lying = content.replace(size, len(files[name]).to_bytes(4, "little"))
    with pytest.raises(DataError, match="its transformers can't be read"):
        read_transformer(np.frombuffer(lying, dtype=np.uint8))


def put(value, *path):
    def change(header, tensors):
        target = header
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


def expert(header, tensors):
    header["steps"] = [["x", header["attributes"]["experts_"]]]


def twice(header, tensors):
    header["steps"].append(["again", header["steps"][0][1]])


def state(header):
    return header["steps"][0][1]["state"]


def without(*names):
    def change(header, tensors):
        for name in names:
            del state(header)[name]

    return change


def other_medians(header, tensors):
    """Give a view's columns a scaler in place of medians."""
    content = np.frombuffer(scaler_bytes(), dtype=np.uint8)
    tensors["x"] = content
    reference = {"tensor": "x", "dtype": "uint8", "shape": [len(content)]}
    columns = state(header)["columns_"]["dict"][0][1]["state"]
    columns["medians"] = {"skops": reference}


def no_median(header, tensors):
    medians = state(header)["columns_"]["dict"][0][1]["state"]["medians"]
    tensors[medians["tensor"]] = np.full_like(tensors[medians["tensor"]], np.nan)


def fewer_columns(header, tensors):
    columns = state(header)["columns_"]["dict"]
    columns[0][1], columns[1][1] = columns[1][1], columns[0][1]


STEPS = {
    "no list": put("os.system", "steps"),
    "a number": put(3, "steps"),
    "none": put(None, "steps"),
    "no pairs": put([["a"]], "steps"),
    "names of no text": put([[1, None]], "steps"),
    "empty name": put([["", None]], "steps"),
    "name with a path": put([["a__b", None]], "steps"),
    "a text": put([["a", "os.system"]], "steps"),
    "an unknown object": put([["a", {"object": "Popen", "state": {}}]], "steps"),
    "an object that transforms nothing": expert,
    "a name twice": put([["a", None], ["a", None]], "steps"),
    "the same tensors twice": twice,
    "name of the last step": put("prepare", "last_step"),
    "no last step": put(None, "last_step"),
    "an empty preparer": put({}, "steps", 0, 1, "state"),
    "no columns": without("columns_"),
    "no option": without("views"),
    "an option of a wrong type": put(0, "steps", 0, 1, "state", "levels"),
    "columns of another kind": other_medians,
    "gaps that stay": no_median,
    "columns of another view": fewer_columns,
    "other views": put({"tuple": ["b", "a"]}, "steps", 0, 1, "state", "view_names_"),
    "columns a number": put(3, "steps", 0, 1, "state", "columns_"),
}


@pytest.mark.parametrize("name", STEPS)
def test_hostile_steps_are_refused_in_one_sentence(name, saved):
    rewrite(saved, STEPS[name])
    with pytest.raises((DataError, OptionError)) as caught:
        rcml_misa.load(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_an_untouched_rewrite_is_read(saved):
    before = rcml_misa.load(saved)
    rewrite(saved, lambda header, tensors: None)
    same(rcml_misa.load(saved), before, raw()[0])


def test_random_damage_is_refused_or_harmless(saved):
    header, tensors = read_file(saved)
    header = {**header, "format_version": 3}
    del header["sha256"]
    name = next(name for name in tensors if name.endswith("encoder"))
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = tensors[name].copy()
        damaged[rng.integers(len(damaged), size=3)] ^= np.uint8(1 + rng.integers(255))
        rewrite_with = {**tensors, name: damaged}
        save_file(rewrite_with, saved, metadata={"rcml-misa": json.dumps(header)})
        with suppress(DataError, OptionError):
            rcml_misa.load(saved)


# what commands say


def test_what_inspect_says(saved):
    assert read_header(saved)["format_version"] == FORMAT_VERSION
    facts = describe(*load_with_header(saved), saved)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["steps"] == {"prepare": "TablePreparer"}
    assert any("medians of train rows" in text for text in facts["prepared"])
    assert facts["views"] == {"a": 5, "b": 2}
    shown = CliRunner().invoke(main, ["inspect", str(saved)])
    assert shown.exit_code == 0
    assert "prepare TablePreparer" in shown.stdout
    assert "filled with the medians" in " ".join(shown.stdout.split())


def test_predict_says_that_other_steps_take_no_file(tmp_path):
    X, y = array()
    frame = pd.DataFrame(X, columns=[f"{view}__{n}" for view in "ab" for n in range(3)])
    frame.to_csv(tmp_path / "new.csv", index=False)
    scaler = StandardScaler().set_output(transform="pandas")
    ViewPipeline([("scale", scaler), ("model", model(views="__"))]).fit(frame, y).save(
        tmp_path / "m"
    )
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "m"), str(tmp_path / "new.csv")])
    assert result.exit_code == 2
    assert "steps of a Pipeline before it (StandardScaler)" in " ".join(result.stderr.split())
