"""The checksum of model files: every changed bit is refused, before anything is rebuilt."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from commands import call, done
from safetensors.numpy import save_file

import rcml_misa
from rcml_misa.estimators import KernelExpertClassifier, TMCClassifier
from rcml_misa.estimators.registry import load_with_header
from rcml_misa.exceptions import DataError
from rcml_misa.persistence import FORMAT_VERSION, describe
from rcml_misa.persistence.container import MOST_PARTS, read_file, read_header, write_file

RNG = np.random.default_rng(0)
LABELS = np.repeat(["ant", "bee"], 12)
VIEWS = {"front": RNG.normal(size=(24, 3)), "side": RNG.normal(size=(24, 2))}


def fitted():
    return TMCClassifier(epochs=1, random_state=0, device="cpu").fit(VIEWS, LABELS)


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "small.rcml"
    fitted().save(path)
    return path.read_bytes()


@pytest.fixture
def saved(content, tmp_path):
    path = tmp_path / "model.rcml"
    path.write_bytes(content)
    return path


def header_end(content):
    return 8 + int.from_bytes(content[:8], "little")


def flipped(content, place, bit):
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def refused(path, content, read=read_file):
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 300
    return str(caught.value)


def test_every_byte_of_the_header_counts(content, tmp_path):
    rng = np.random.default_rng(0)
    for place in range(header_end(content)):
        refused(tmp_path / "m", flipped(content, place, int(rng.integers(8))))


def test_every_bit_of_the_length_and_the_first_facts_counts(content, tmp_path):
    start = content.index(b"format_version") + len(b'format_version\\":')
    for place in (*range(8), *range(start, start + 4), *range(header_end(content) - 3, start - 1)):
        for bit in range(8):
            refused(tmp_path / "m", flipped(content, place, bit))


def test_random_bits_anywhere_are_refused_by_load_and_inspect(content, saved):
    rng = np.random.default_rng(1)
    for _ in range(150):
        changed = content
        for _ in range(rng.choice([1, 1, 2, 5])):
            changed = flipped(changed, int(rng.integers(len(content))), int(rng.integers(8)))
        if changed != content:
            refused(saved, changed, rcml_misa.load)
    result = call("inspect", saved)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_every_bit_of_a_weight_counts(content, saved):
    for place in range(header_end(content), len(content), 7):
        text = refused(saved, flipped(content, place, place % 8), rcml_misa.load)
        assert "does not have the sha256 that its header states" in text


def test_a_mismatch_is_refused_before_anything_is_rebuilt(content, saved, monkeypatch):
    def rebuilt(*_):
        raise AssertionError("the header was used")

    monkeypatch.setattr("rcml_misa.persistence.models.check_facts", rebuilt)
    monkeypatch.setattr("safetensors.numpy.load", rebuilt)
    refused(saved, flipped(content, len(content) - 1, 0), rcml_misa.load)


def test_the_checksum_is_the_sha256_of_the_file_with_zeros_in_its_place(content, saved):
    stated = read_header(saved)["sha256"]
    zeroed = content.replace(stated.encode(), b"0" * 64)
    assert content.count(stated.encode()) == 1
    assert hashlib.sha256(zeroed).hexdigest() == stated
    assert describe(*load_with_header(saved), saved)["sha256"] == stated
    assert f"sha256 {stated}" in " ".join(done("inspect", saved).stdout.split())
    assert json.loads(done("inspect", "--json", saved).stdout)["sha256"] == stated


def test_equal_fits_are_equal_bytes_in_this_process_and_another(content, tmp_path):
    fitted().save(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == content
    program = "import sys, test_model_checksum as t; t.fitted().save(sys.argv[1])"
    folders = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", program, tmp_path / "other"],
        check=True,
        env={**os.environ, "PYTHONPATH": folders, "PYTHONHASHSEED": "7"},
    )
    assert (tmp_path / "other").read_bytes() == content


def older(path, version, **more):
    """Write the file again as a version that had no checksum."""
    header, tensors = read_file(path)
    del header["sha256"]
    text = json.dumps({**header, "format_version": version, **more})
    save_file(tensors, path, metadata={"rcml-misa": text})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_files_of_older_versions_are_read_without_one(version, saved):
    before = rcml_misa.load(saved).predict_proba(VIEWS)
    older(saved, version)
    np.testing.assert_array_equal(rcml_misa.load(saved).predict_proba(VIEWS), before)
    shown = " ".join(done("inspect", saved).stdout.split())
    assert "checksum none, as in all files before format version 4" in shown
    assert json.loads(done("inspect", "--json", saved).stdout)["sha256"] is None


@pytest.mark.parametrize(
    ("version", "more", "problem"),
    [
        (FORMAT_VERSION, {}, "has no checksum"),
        (FORMAT_VERSION, {"sha256": "0" * 64}, "does not have the sha256"),
        (FORMAT_VERSION, {"sha256": None}, "has no checksum"),
        (FORMAT_VERSION, {"sha256": "A" * 64}, "has no checksum"),
        (3, {"sha256": "0" * 64}, "does not have the sha256"),
        (1, {"sha256": 3}, "has no checksum"),
    ],
    ids=str,
)
def test_a_checksum_that_is_missing_or_wrong(version, more, problem, saved):
    older(saved, version, **more)
    with pytest.raises(DataError, match=problem):
        rcml_misa.load(saved)


@pytest.mark.parametrize(
    "text",
    [
        "[" + "[]," * MOST_PARTS + "1]",
        '{"a":' + "[" * 3_000_000,
        '{"a": NaN}',
        '{"a": -Infinity}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=lambda text: text[:12],
)
def test_headers_that_would_take_memory_or_hold_no_numbers(text, tmp_path):
    path = tmp_path / "m"
    save_file({"a": np.zeros(2)}, path, metadata={"rcml-misa": text})
    with pytest.raises(DataError, match="is not a whole model file") as caught:
        rcml_misa.load(path)
    assert len(str(caught.value)) <= 300


def test_what_can_not_be_read_is_not_written(tmp_path):
    for header, problem in (
        ({"a": "\udc80"}, "no Unicode text"),
        ({"a": [[]] * (MOST_PARTS + 1)}, "use fewer columns"),
    ):
        with pytest.raises(DataError, match=problem):
            write_file(tmp_path / "m", header, {})
    model = KernelExpertClassifier(random_state=0).fit(VIEWS, np.repeat(["a", "\ud800"], 12))
    with pytest.raises(DataError, match="no Unicode text; rename it"):
        model.save(tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(DataError, match="it is no regular file"):
            rcml_misa.load(path)


def test_paths_that_can_not_be(tmp_path):
    for path in ("x\0y", tmp_path / ("n" * 5000)):
        with pytest.raises(DataError, match="can't be read") as caught:
            rcml_misa.load(path)
        assert len(str(caught.value)) <= 300


def test_types_of_tensors_that_numpy_lacks(content, saved):
    for name in (b"F8_E4M3", b"BF16", b"C64"):
        older(saved, 3)
        raw = saved.read_bytes()
        end = header_end(raw)
        head = raw[8:end].replace(b'"F32"', b'"' + name + b'"', 1)
        head += b" " * (-len(head) % 8)
        saved.write_bytes(len(head).to_bytes(8, "little") + head + raw[end:])
        with pytest.raises(DataError, match=f"has a tensor of type {name.decode()}"):
            rcml_misa.load(saved)
        saved.write_bytes(content)
