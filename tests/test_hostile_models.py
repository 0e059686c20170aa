"""Model files with a right checksum, or of a version without, whose content is not right."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from commands import call, done
from safetensors.numpy import save as packed

import rcml_misa
from rcml_misa import TablePreparer, ViewPipeline
from rcml_misa.estimators import (
    KernelExpertClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    SoftmaxClassifier,
)
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.persistence.codec import CLASSES
from rcml_misa.persistence.container import read_file
from rcml_misa.persistence.facts import FITTED, check_state

QUICK = {"epochs": 1, "random_state": 0, "device": "cpu"}
RNG = np.random.default_rng(0)
CODES = np.arange(40) % 2
VIEWS = {name: RNG.normal(size=(40, 3)) + CODES[:, None] for name in ("front", "side")}
LABELS = np.array(["ant", "bee"])[CODES]
NAN, INFINITE = {"float": "nan"}, {"float": "inf"}
SMALL = {"hidden": 8, "feedforward": 8}
MODELS = {
    "network": lambda: RCMLClassifier(**QUICK, hidden=(4,)).fit(VIEWS, LABELS),
    "kernel": lambda: KernelExpertClassifier(random_state=0, landmarks=10).fit(VIEWS, LABELS),
    "pooled": lambda: RCMLMISAClassifier(**QUICK, **SMALL, networks=1).fit(VIEWS, LABELS),
    "scores": lambda: RCMLMISARegressor(**QUICK, **SMALL).fit(VIEWS, VIEWS["front"][:, 0]),
    "laplace": lambda: SoftmaxClassifier(**QUICK, hidden=(4,), posterior="laplace").fit(
        VIEWS, LABELS
    ),
    "prepared": lambda: ViewPipeline(
        [("prepare", TablePreparer()), ("model", KernelExpertClassifier(random_state=0))]
    ).fit({"front": pd.DataFrame({"a": CODES, "b": [*"uvwx"] * 10})}, LABELS),
}


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for name, make in MODELS.items():
        make().save(folder / name)
    return {name: read_file(folder / name) for name in MODELS}


def write(path, header, tensors, *, sealed):
    """Write a file anew, with its right checksum or as the last version that had none."""
    facts = {name: value for name, value in header.items() if name != "sha256"}
    facts |= {"sha256": "0" * 64} if sealed else {"format_version": 3}
    arrays = {name: np.ascontiguousarray(values) for name, values in tensors.items()}
    content = packed(arrays, metadata={"rcml-misa": json.dumps(facts)})
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(content.replace(b"0" * 64, digest, 1) if sealed else content)


def at(value, path):
    for key in path:
        value = value[key]
    return value


def put(*path_and_value):
    *path, last, value = path_and_value

    def change(header, tensors):
        at(header, path)[last] = value

    return change


def leave_out(*path):
    def change(header, tensors):
        del at(header, path[:-1])[path[-1]]

    return change


def tensor(part, change):
    def changed(header, tensors):
        name = next(name for name in tensors if part in name)
        tensors[name] = change(tensors[name].copy())

    return changed


def first(value):
    def change(values):
        values.flat[0] = value
        return values

    return change


EXPERT = ("attributes", "experts_", "state", "joint_", "state")
CASES = {
    # facts
    "versions a text": ("network", put("versions", "x")),
    "versions a number": ("network", put("versions", 1e308)),
    "versions a list": ("network", put("versions", [1])),
    "a version that is no text": ("network", put("versions", "torch", 2)),
    "about a number": ("network", put("about", 10**6)),
    "needs a list": ("network", put("needs", [])),
    "a long name of an estimator": ("network", put("estimator", "y" * 5000)),
    "an unknown fact": ("network", put("pickle", "gASV")),
    "a last step alone": ("network", put("last_step", "model")),
    "steps alone": ("prepared", leave_out("last_step")),
    "no parameters": ("network", leave_out("params")),
    # fitted attributes
    "train rows negative": ("network", put("attributes", "train_rows_", -1)),
    "train rows an object": (
        "network",
        put("attributes", "train_rows_", {"object": "KernelExpert", "state": {}}),
    ),
    "train rows true": ("kernel", put("attributes", "train_rows_", True)),
    "train rows a text": ("kernel", put("attributes", "train_rows_", "60")),
    "sha256 of rows a list": ("network", put("attributes", "data_sha256_", [])),
    "sha256 of rows a short text": ("network", put("attributes", "data_sha256_", "ab")),
    "experts a number": ("pooled", put("attributes", "experts_", INFINITE)),
    "share above 1": ("pooled", put("attributes", "share_", 1.5)),
    "share not a number": ("pooled", put("attributes", "share_", NAN)),
    "networks huge": ("pooled", put("attributes", "networks_", 10**12)),
    "networks a float": ("pooled", put("attributes", "networks_", 1e308)),
    "limits swapped for a text": ("pooled", put("attributes", "suspect_limits_", "ab")),
    "limits not numbers": ("pooled", put("attributes", "suspect_limits_", {"tuple": [NAN, 1]})),
    "history a list": ("network", put("attributes", "history_", [1])),
    "names of columns a number": ("network", put("attributes", "feature_names_in_", False)),
    "columns of views a text": ("network", put("attributes", "view_columns_", "ab")),
    "set aside a list": ("network", put("attributes", "set_aside_", [])),
    "a module": ("kernel", put("attributes", "module_", 3)),
    "a device": ("network", put("attributes", "device_", "cpu")),
    "scale of the target 0": ("scores", put("attributes", "target_scale_", 0)),
    "mean of the target infinite": ("scores", put("attributes", "target_mean_", INFINITE)),
    "texts for numbers": (
        "pooled",
        put("attributes", "worth_", {"labels": ["a", "b"], "object": False}),
    ),
    # objects and parameters
    "offset not a number": ("pooled", put("attributes", "calibrator_", "state", "offset", NAN)),
    "slope a text": ("pooled", put("attributes", "calibrator_", "state", "slope", "1")),
    "temperature 0": ("kernel", put(*EXPERT, "temperature_", 0.0)),
    "kernel unknown": ("kernel", put(*EXPERT, "kernel_", "y" * 5000)),
    "layout a number": ("kernel", put(*EXPERT, "layout_", 5)),
    "a tensor of a long name": (
        "kernel",
        put(*EXPERT, "weights_", {"tensor": "y" * 5000, "dtype": "float64", "shape": [1]}),
    ),
    "a long shape": ("kernel", put(*EXPERT, "weights_", "shape", ["y" * 5000])),
    "swapped tensors": (
        "kernel",
        lambda header, tensors: at(header, EXPERT).update(
            weights_=at(header, EXPERT)["intercept_"],
            intercept_=at(header, EXPERT)["weights_"],
        ),
    ),
    "an object for a choice": (
        "network",
        put("params", "early_stopping", {"object": "KernelExpert", "state": {}}),
    ),
    "a long text for a number": ("network", put("params", "dropout", "y" * 5000)),
    "hidden layers without end": ("network", put("params", "hidden", {"tuple": [1] * 10**5})),
    "deep encoders": ("pooled", put("params", "encoder_depth", 10**7)),
    "many layers": ("pooled", put("params", "layers", 10**6)),
    "a preparer without columns": (
        "prepared",
        put("steps", 0, 1, "state", "columns_", {"dict": []}),
    ),
    "columns matched of another view": (
        "prepared",
        put("steps", 0, 1, "state", "matched_", {"dict": [["y" * 5000, {"tuple": ["a"]}]]}),
    ),
    # tensors
    "a weight not a number": ("network", tensor("module_", first(np.nan))),
    "a weight infinite": ("laplace", tensor("module_", first(-np.inf))),
    "landmarks not numbers": ("kernel", tensor("landmark_values_", first(np.nan))),
    "statistics infinite": ("pooled", tensor("median", first(np.inf))),
    "medians not numbers": ("prepared", tensor("medians", first(np.nan))),
    "no rows of weights": ("kernel", tensor("weights_", lambda values: values[:0])),
}


@pytest.mark.parametrize("sealed", [True, False], ids=["sealed", "older"])
@pytest.mark.parametrize("name", CASES)
def test_each_is_refused_in_one_sentence(name, sealed, contents, tmp_path):
    model, change = CASES[name]
    header, tensors = json.loads(json.dumps(contents[model][0])), dict(contents[model][1])
    change(header, tensors)
    path = tmp_path / "m"
    write(path, header, tensors, sealed=sealed)
    with pytest.raises((DataError, OptionError)) as caught:
        rcml_misa.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
    assert "sha256 that" not in str(caught.value)  # or the change was not looked at
    result = call("inspect", path)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) <= 300 + len("error: \n")


@pytest.mark.parametrize("name", MODELS)
def test_untouched_files_written_anew_are_read(name, contents, tmp_path):
    for sealed in (True, False):
        write(tmp_path / "m", *contents[name], sealed=sealed)
        rcml_misa.load(tmp_path / "m")
        done("inspect", tmp_path / "m")


def test_names_that_a_terminal_would_heed_are_shown_without_effect(contents, tmp_path):
    header, tensors = json.loads(json.dumps(contents["network"][0])), contents["network"][1]
    names = {"tuple": ["\x1b[31mred", "side\x07"]}
    header["attributes"]["view_names_"] = names
    header["about"] = {"method": "\x1b]0;title\x07" + "y" * 5000, "dataset": [1]}
    write(tmp_path / "m", header, tensors, sealed=True)
    shown = done("inspect", tmp_path / "m").stdout
    assert all(letter.isprintable() or letter == "\n" for letter in shown)
    assert "[31mred 3" in " ".join(shown.split())
    assert "y" * 81 not in shown
    assert set(json.loads(done("inspect", "--json", tmp_path / "m").stdout)["views"]) == set(
        names["tuple"]
    )


@pytest.mark.parametrize("value", [NAN, INFINITE, {"slice": [0, 10**9, 1]}], ids=str)
def test_options_that_json_lacks_are_shown_all_the_same(value, contents, tmp_path):
    header, tensors = json.loads(json.dumps(contents["network"][0])), contents["network"][1]
    header["params"]["class_weight"] = value
    write(tmp_path / "m", header, tensors, sealed=True)
    options = json.loads(done("inspect", "--json", tmp_path / "m").stdout)["options"]
    assert options["class_weight"] in ("nan", "inf", "slice(0, 1000000000, 1)")


def test_every_attribute_of_every_kind_of_model_has_a_type(contents):
    """A new fitted attribute belongs into the table of types."""

    def names(value):
        if isinstance(value, dict):
            if set(value) == {"object", "state"}:
                fields = getattr(CLASSES[value["object"]], "__dataclass_fields__", {})
                yield from (name for name in value["state"] if name not in fields)
            for part in value.values():
                yield from names(part)
        elif isinstance(value, list):
            for part in value:
                yield from names(part)

    for header, _ in contents.values():
        stored = {*header["attributes"], *names(header["attributes"])}
        stored |= {*names(header.get("steps", []))}
        assert {name for name in stored if name.endswith("_")} - set(FITTED) <= {"aside_"}


def test_numbers_that_may_be_infinite_or_missing_pass():
    class Model:
        pass

    check_state(Model, {"bound_": float("inf"), "interval_factor_": float("nan")})
    check_state(Model, {"history_": {"loss": [1.0, float("nan")]}})
    with pytest.raises(DataError, match="has power_=-1, where there should be greater than"):
        check_state(Model, {"power_": -1})
