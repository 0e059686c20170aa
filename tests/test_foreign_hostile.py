"""Pickles that try to run, reach, crash or fill something: each is refused in one sentence."""

from __future__ import annotations

import os
import pickle
import struct
import sys
import time

import numpy as np
import pytest
from foreign_files import fuzz_pickles

from rcml_misa.datasets.foreign import read_pickle, source
from rcml_misa.exceptions import DataError

CANARY = "RCML_MISA_CANARY"
SHELL = f"__import__('os').environ.setdefault('{CANARY}', 'dead')"


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments, state=None) -> None:
        self.found = (function, arguments) if state is None else (function, arguments, state)

    def __reduce__(self):
        return self.found


def text(word: str) -> bytes:
    raw = word.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def named(module: str, name: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93"


def dtype(words: str) -> bytes:
    return b"cnumpy\ndtype\n(" + text(words) + b"I0\nI1\ntR"


def draft(kind: bytes = b"ndarray") -> bytes:
    return b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\n" + kind + b"\n(K\x00tU\x01btR"


def array(shape: bytes, kind: str, content: bytes) -> bytes:
    return draft() + b"(K\x01" + shape + dtype(kind) + b"\x89" + content + b"tb"


def shell(protocol: int) -> bytes:
    return pickle.dumps(Calls(os.putenv, CANARY, "dead"), protocol)


LISTS = 40_000
UTF8 = b"X" + struct.pack("<I", 400_000) + b"a" * 400_000

RUNNING = {
    "os.system": b"cos\nsystem\n(S'true'\ntR.",
    "posix.system": b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.",
    "putenv, protocol 0": shell(0),
    "putenv, protocol 4": shell(4),
    "builtins.eval": pickle.dumps(Calls(eval, SHELL), 2),
    "eval as Python 2 named it": b"c__builtin__\neval\n(S'1'\ntR.",
    "builtins.exec": pickle.dumps(Calls(exec, SHELL), 5),
    "builtins.__import__": pickle.dumps(Calls(__import__, "os"), 4),
    "importlib": named("importlib", "import_module") + text("os") + b"\x85R.",
    "subprocess": named("subprocess", "Popen") + text("true") + b"\x85R.",
    "a getattr chain": named("builtins", "getattr")
    + named("numpy", "ndarray")
    + text("tofile")
    + b"\x86R.",
    "operator.attrgetter": named("operator", "attrgetter") + text("os") + b"\x85R.",
    "functools.partial": named("functools", "partial") + b")R.",
    "an attribute of an allowed name": named("numpy", "ndarray.tofile") + b".",
    "another name of an allowed module": named("numpy", "load") + text("x") + b"\x85R.",
    "numpy's own reader": b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
    "a number that is a pickle": b"cnumpy.core.multiarray\nscalar\n("
    + dtype("O8")
    + text("cos\nsystem\n(S'true'\ntR.")
    + b"tR.",
    "what a call gave is called": b"c__builtin__\nset\n)R(S'true'\ntR.",
    "a call nested in a call": b"c__builtin__\nset\n(cos\nsystem\n(S'true'\ntRtR.",
    "a class in place": b"(S'true'\nios\nsystem\n.",
    "an object of a class": b"(cos\nsystem\nS'true'\no.",
    "a new object": b"\x80\x02c__builtin__\nset\n)\x81.",
    "a new object with keywords": b"\x80\x04c__builtin__\nset\n)}\x92.",
    "copyreg's extensions": b"\x80\x02\x82\x01.",
    "copyreg._reconstructor": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nNtR.",
    "an object elsewhere": b"Pfile://x\n.",
    "an object elsewhere, by value": b"S'x'\nQ.",
    "a buffer elsewhere": b"\x80\x05\x97.",
    "a state set": b"c__builtin__\nset\n)R}S'__class__'\nNsb.",
    "a state set on a list": b"]}b.",
    "a name through the memo": b"\x80\x04"
    + text("os")
    + b"\x94"
    + text("system")
    + b"\x940h\x00h\x01\x93.",
    "a name made of bytes": b"\x80\x04C\x02osC\x06system\x93.",
    "a codec that is none": b"c_codecs\nencode\n(" + text("x") + text("hex") + b"tR.",
    "torch": named("torch._utils", "_rebuild_tensor_v2") + b")R.",
    "pandas": named("pandas.core.frame", "DataFrame") + b")R.",
    "a defaultdict": b"ccollections\ndefaultdict\n(c__builtin__\nlist\ntR.",
}
# numbers of one hash, each of which a dict or a set compares with all before it
ONE_HASH = [b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") for n in range(1, 3001)]
FILLING = {
    "keys of one hash": b"}(" + b"".join(key + b"N" for key in ONE_HASH) + b"u.",
    "items of one hash": b"\x80\x04\x8f(" + b"".join(ONE_HASH) + b"\x90.",
    "a frozen set of one hash": b"\x80\x04(" + b"".join(ONE_HASH) + b"\x91.",
    "a called set of one hash": b"c__builtin__\nset\n((" + b"".join(ONE_HASH) + b"ltR.",
    "bytes of any length": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "text of any length": b"\x80\x04\x8d" + struct.pack("<Q", 2**63 - 1) + b"x.",
    "a negative length": b"T" + struct.pack("<i", -5) + b"x.",
    "an array larger than its bytes": array(b"J\xff\xff\xff\x7f\x85", "f8", b"C\x08" + b"x" * 8)
    + b".",
    "an array of any shape": array(b"\x8a\x09" + b"\xff" * 8 + b"\x00\x85", "f8", b"C\x00") + b".",
    "an array without bytes": array(b"K\x00\x8a\x07" + b"\xff" * 6 + b"\x00\x86", "f8", b"N")
    + b".",
    "an array of no width": array(b"J\xff\xff\xff\x7f\x85", "U0", b"C\x00") + b".",
    "an array of records": array(b"K\x01\x85", "V8", b"C\x08" + b"x" * 8) + b".",
    "millions of lists": b"(" + b"]" * LISTS + b"l.",
    "millions of marks": b"N" + b"(" * 3 * LISTS + b"1" * 3 * LISTS + b".",
    "millions of references": b"]2" + b"2" * 8 * LISTS + b".",
    "one text decoded again and again": b"("
    + UTF8
    + b"q\x000"
    + b"c_codecs\nencode\n(h\x00tR"
    + (b"0" + array(b"J\x80\x1a\x06\x00\x85", "u1", b"c_codecs\nencode\n(h\x00tR")) * 400
    + b".",
    "a number of a megabyte": b"\x8b" + struct.pack("<i", 2**20) + b"\xff" * 2**20 + b".",
    "a number of many digits": b"I" + b"9" * 2**20 + b"\n.",
}
BROKEN = {
    "cut off in a string": pickle.dumps("x" * 50)[:30],
    "cut off in an array": pickle.dumps(np.zeros(500))[:-900],
    "cut off before its end": pickle.dumps([1, 2])[:-1],
    "cut off in a line": b"S'abc",
    "two files in one": pickle.dumps(1) + pickle.dumps(2),
    "nothing left": b"0.",
    "a mark too many": b"(N.",
    "two values": b"NN.",
    "no mark": b"Nl.",
    "an unknown operation": b"\xff.",
    "an unknown protocol": b"\x80\x09N.",
    "a list in itself": b"]q\x00h\x00a.",
    "a dict in itself": b"}q\x00U\x01ah\x00s.",
    "a tuple in itself": b"(]q\x00(h\x00tq\x01a0h\x01.",
    "two lists in each other": b"]q\x00]q\x01ah\x01h\x00a0.",
    "an array in itself": array(b"K\x01\x85", "O8", b"]q\x00h\x00a") + b".",
    "an array announced only": draft() + b".",
    "a subclass of arrays": draft(b"dtype") + b".",
    "an array of another length": array(b"K\x03\x85", "f8", b"C\x08" + b"x" * 8) + b".",
    "a name where data belongs": b"]cnumpy\ndtype\na.",
    "a type where data belongs": b"]" + dtype("f8") + b"a.",
    "a list for a key": b"}]Ns.",
    "a memo entry that is not there": b"h\x07.",
    "a key without a value": b"}(Nu.",
    "a number that is none": b"Ix\n.",
    "text that is none": b"X\x02\x00\x00\x00\xff\xfe.",
    "text of an array that is none": array(b"K\x01\x85", "U1", b"C\x04\xff\xff\xff\xff") + b".",
    "torch's zip file": b"PK\x03\x04" + b"\x00" * 60,
    "an npz file": b"PK\x03\x04\x14\x00\x00\x00\x08\x00arr_0.npy",
    "a text file": b"id,label\n1,2\n",
}
HOSTILE = RUNNING | FILLING | BROKEN


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_file_is_refused_in_one_sentence(tmp_path, monkeypatch, name) -> None:
    monkeypatch.delenv(CANARY, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source, "LEAST", 1 << 20)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(HOSTILE[name])
    loaded, imported = set(sys.modules), set()

    def trap(*given: object) -> None:
        raise AssertionError(f"executed with {given}")

    started = time.perf_counter()
    with monkeypatch.context() as patch:
        for module, function in ((os, "system"), (os, "putenv"), (pickle, "load")):
            patch.setattr(module, function, trap)
        with fuzz_pickles.watched_imports(imported), pytest.raises(DataError) as caught:
            read_pickle(path)
    assert time.perf_counter() - started < 5
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} is not read because it ")
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 250
    assert imported == set()
    assert set(sys.modules) - loaded <= {"encodings.raw_unicode_escape", "numpy._core._dtype"}
    assert CANARY not in os.environ
    assert os.listdir(tmp_path) == ["hostile.pkl"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("os.system", "asks for os.system;"),
        ("a number that is a pickle", "has a number that is an object"),
        ("an array larger than its bytes", "shape (2147483647,) and type float64 with 8 bytes"),
        ("an array of another length", "shape (3,) and type float64 with 8 bytes"),
        ("bytes of any length", "is cut off"),
        ("keys of one hash", "keys of one hash"),
        ("millions of lists", "needs more memory than a feature file of its size"),
        ("one text decoded again and again", "needs more memory than a feature file of its size"),
        ("a list in itself", "what contains itself"),
        ("two files in one", "goes on for 5 bytes after its end"),
        ("an npz file", "is a zip archive"),
    ],
)
def test_the_sentence_says_why(tmp_path, monkeypatch, name, reason) -> None:
    monkeypatch.setattr(source, "LEAST", 1 << 20)
    path = tmp_path / "hostile.pkl"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(DataError) as caught:
        read_pickle(path)
    assert reason in str(caught.value)


def test_there_are_enough_of_them_and_a_canary_would_sing(monkeypatch) -> None:
    assert len(HOSTILE) >= 60
    monkeypatch.delenv(CANARY, raising=False)
    pickle.loads(RUNNING["builtins.exec"])  # noqa: S301
    assert os.environ.pop(CANARY) == "dead"
