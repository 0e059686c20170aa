"""What the machine does at each operation of a pickle."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from rcml_misa.datasets.foreign.machine import Machine
from rcml_misa.datasets.foreign.objects import scalar_key
from rcml_misa.datasets.foreign.operations import GETS, PUTS, memo_index, operation
from rcml_misa.datasets.foreign.source import Coding, RefusedError, Source

__all__ = ["run"]

Step = Callable[[Machine, int, int], None]


def run(machine: Machine) -> Any:
    """Carry out a surveyed pickle from its beginning to its end; what it built."""
    name, source = "", machine.source
    while name != "STOP":
        source.passed(machine.position)
        name, start, stop, machine.position = operation(source, machine.position)
        _STEPS[name](machine, start, stop)
    return machine.result()


def _number(source: Source, kind: str, start: int) -> Any:
    return struct.unpack_from(kind, source.map, start)[0]


def _text_step(coding: Coding, *, as_bytes: bool = False) -> Step:
    return lambda m, start, stop: m.text(start, stop, coding, as_bytes=as_bytes)


def _whole_step(kind: str) -> Step:
    return lambda m, start, _: m.whole(_number(m.source, kind, start))


def _put_step(name: str) -> Step:
    return lambda m, start, stop: m.put(memo_index(m.source, name, start, stop))


def _get_step(name: str) -> Step:
    return lambda m, start, stop: m.get(memo_index(m.source, name, start, stop))


def _tuple_step(size: int) -> Step:
    return lambda m, *_: m.tuple_of([m.pop() for _ in range(size)][::-1])


def _protocol(m: Machine, start: int, _: int) -> None:
    if m.source.map[start] > 5:
        raise RefusedError(f"is of protocol {m.source.map[start]}")


def _nothing(*_: Any) -> None:
    """Frames and the end need no work."""


_STEPS: dict[str, Step] = {
    "PROTO": _protocol,
    **dict.fromkeys(("FRAME", "STOP"), _nothing),
    "NONE": lambda m, *_: m.push(None),
    "NEWTRUE": lambda m, *_: m.push(True),
    "NEWFALSE": lambda m, *_: m.push(False),
    "INT": Machine.decimal,
    "LONG": Machine.decimal,
    "BININT": _whole_step("<i"),
    "BININT1": _whole_step("<B"),
    "BININT2": _whole_step("<H"),
    "LONG1": Machine.long,
    "LONG4": Machine.long,
    "FLOAT": lambda m, start, stop: m.push(float(m.word(start, stop)), 24),
    "BINFLOAT": lambda m, start, _: m.push(_number(m.source, ">d", start), 24),
    "STRING": Machine.quoted,
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _text_step("python2")),
    **dict.fromkeys(
        ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _text_step("raw", as_bytes=True)
    ),
    "UNICODE": _text_step("escaped"),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text_step("utf-8")),
    "MARK": lambda m, *_: m.mark(),
    "POP": lambda m, *_: m.drop_one(),
    "POP_MARK": lambda m, *_: m.drop(m.pop_mark()),
    "EMPTY_LIST": lambda m, *_: m.new_list(),
    "LIST": lambda m, *_: m.listed(m.pop_mark()),
    "APPEND": lambda m, *_: m.append([m.pop()]),
    "APPENDS": lambda m, *_: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, *_: m.push_new({}),
    "DICT": lambda m, *_: m.new_dict(m.pop_mark()),
    "SETITEM": lambda m, *_: m.set_items([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, *_: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m, *_: m.push_new(set()),
    "ADDITEMS": lambda m, *_: m.add_items(m.pop_mark()),
    "FROZENSET": lambda m, *_: m.push_new(frozenset(map(scalar_key, m.settle(m.pop_mark())))),
    "EMPTY_TUPLE": lambda m, *_: m.push(()),
    "TUPLE": lambda m, *_: m.tuple_of(m.pop_mark()),
    "TUPLE1": _tuple_step(1),
    "TUPLE2": _tuple_step(2),
    "TUPLE3": _tuple_step(3),
    "DUP": lambda m, *_: m.duplicate(),
    "MEMOIZE": lambda m, *_: m.memoise(),
    **{name: _put_step(name) for name in PUTS},
    **{name: _get_step(name) for name in GETS},
    "GLOBAL": Machine.named,
    "STACK_GLOBAL": lambda m, *_: m.named_on_stack(),
    "REDUCE": lambda m, *_: m.reduce(),
    "BUILD": lambda m, *_: m.build(),
}
