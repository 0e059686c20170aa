"""A short form of ``benchmarks/fuzz_models.py``."""

from __future__ import annotations

import sys

import pytest

if sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)

from foreign_files import load_script

load_script("fuzzing")
fuzz_models = load_script("fuzz_models")


def test_mutated_files_are_refused_or_answer_within_their_bounds():
    methods = {name: fuzz_models.METHODS[name] for name in ("rcml", "kernel-expert")}
    counts, failures = fuzz_models.fuzz(25, 3, methods=methods)
    assert failures == []
    assert counts["refused"] > 10
    assert counts["accepted"] > 1  # or nothing was asked for answers


def test_what_must_not_happen_is_noticed(tmp_path, monkeypatch):
    new, (model,) = fuzz_models.write_models(tmp_path, {"rcml": ("--epochs", "1")})
    content = model.read_bytes()
    assert fuzz_models.checksum_is_right(content)
    assert not fuzz_models.checksum_is_right(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(AssertionError, match="a damaged file was accepted"):
        fuzz_models.use(model, new, damaged=True)
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr("rcml_misa.persistence.container._check_sum", lambda *_: None)
    with pytest.raises(AssertionError, match="a wrong checksum was accepted"):
        fuzz_models.use(model, new, damaged=False)


def test_mutations_are_the_same_for_the_same_seed(tmp_path):
    _, (model,) = fuzz_models.write_models(tmp_path, {"rcml": ("--epochs", "1")})
    streams = [fuzz_models.Mutations([model.read_bytes()], seed) for seed in (5, 5, 6)]
    first, again, other = ([stream() for _ in range(20)] for stream in streams)
    assert first == again != other
    assert {blind for _, _, blind in first} == {True, False}
