"""A stack machine for pickles that builds arrays and plain containers and calls nothing else.

The standard library's `Unpickler`, even with a `find_class` of its own, would not do: it counts no
bytes, builds objects that contain themselves, ignores values that are left over, takes four times
a file's size for its lists of floats, and not every platform can bound a process that runs it.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rcml_misa.datasets.foreign.objects import (
    ArgumentTuple,
    ArrayDraft,
    Builder,
    ElementType,
    FloatList,
)
from rcml_misa.datasets.foreign.source import (
    ENTRY,
    GETS,
    PUTS,
    Coding,
    Global,
    RefusedError,
    Source,
    Span,
    find_global,
)
from rcml_misa.exceptions import DataError

__all__ = ["read_pickle"]

SHORT = 1024  # bytes up to which a string is decoded at once
INTERNAL = frozenset({Span, Global, ElementType, ArrayDraft, ArgumentTuple})
CONTAINERS = (list, FloatList, dict, OrderedDict, set)
SLOT, SMALL = 8, 257  # bytes of a reference; ints that are shared
# files that are sometimes taken for pickles, by how they begin
OTHERS = {
    b"PK\x03\x04": "a zip archive, such as PyTorch's and npz files are",
    b"\x1f\x8b": "compressed by gzip",
    b"\x89HDF": "an HDF5 file",
}


def read_pickle(path: Path) -> Any:
    """Read a pickle of NumPy arrays and plain containers; refuse any other.

    Nothing is imported or called by the file's wish: the operations of protocols 0 to 5 are
    carried out by a machine of this package, which knows NumPy's arrays, numbers and element
    types, None, bool, int, float, str, bytes, list, tuple, dict, OrderedDict, set and frozenset,
    as Python 2 and 3 write them. Arrays share the file's bytes where these stand there as they
    are; a list of floats comes as a `FloatList`, at eight bytes a float. What is built takes at
    most one and a half times the file's size, or 256 MiB.

    Text of Python 2 is taken for UTF-8 where it is, else for Latin-1. Arrays can't be written to;
    do not change the file while they are used. A file that can't be opened, is damaged, holds
    anything else, contains itself, or needs more memory than that, is a DataError.

    Examples
    --------
    >>> import pickle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "features.pkl"
    ...     _ = path.write_bytes(pickle.dumps({"id": ["a$_$1"], "label": 0.5}))
    ...     read_pickle(path)
    {'id': ['a$_$1'], 'label': 0.5}
    """
    try:
        if not path.is_file() or not path.stat().st_size:
            raise DataError(f"{path} is no file with content; give a pickle of features.")
        source = Source(path)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its rights.") from error
    try:
        for head, words in OTHERS.items():
            if source.map[: len(head)] == head:
                raise RefusedError(f"is {words}")
        return Machine(source, wanted=source.survey()).run()
    except RefusedError as error:
        reason = str(error)
    except MemoryError:
        reason = "needs more memory than there is"
    except (ValueError, TypeError, OverflowError):
        reason = "is damaged: a value does not fit its place"
    raise DataError(
        f"{path} is not read because it {reason}; such a file may hold NumPy arrays and plain "
        "containers only; check where it is from."
    )


class Machine:
    """Runs a surveyed pickle.

    A container may change only until it is put into another or read from the memo: so nothing can
    contain itself. What only a call understands (names, element types, announced arrays) may
    stand in a call's arguments and nowhere else. The memo keeps the `wanted` entries only.
    """

    def __init__(self, source: Source, *, wanted: frozenset[int]) -> None:
        self.source = source
        self.spend = source.spend
        self.builder = Builder(source.spend)
        self.wanted = wanted
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.memoised = 0
        self.open: set[int] = set()  # ids of containers that may still change
        self.drafts = 0  # announced arrays whose content has not come
        self.position = 0

    def run(self) -> Any:
        """Carry out the pickle from its beginning to its end; return what it built."""
        name, source = "", self.source
        while name != "STOP":
            source.passed(self.position)
            name, start, stop, self.position = source.operation(self.position)
            _STEPS[name](self, start, stop)
        if len(self.stack) != 1 or self.marks or self.drafts:
            raise RefusedError("is damaged: parts of it are left over at its end")
        return self.settle(self.stack)[0]

    def push(self, value: Any, cost: int = 0) -> None:
        """Put a value on the stack and count its bytes."""
        self.spend(SLOT + cost)
        self.stack.append(value)

    def push_new(self, value: Any) -> None:
        """Put a new object on the stack; a container is open until something takes it."""
        self.push(value, sys.getsizeof(value))
        if isinstance(value, CONTAINERS):
            self.open.add(id(value))

    def top(self, count: int = 1) -> Any:
        """Return the top value; it and the next ones must lie above the last mark."""
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise RefusedError("is damaged: it takes more than it has")
        return self.stack[-1]

    def pop(self, count: int = 1) -> list[Any]:
        """Take the top values, the deepest first."""
        self.top(count)
        items = self.stack[-count:]
        del self.stack[-count:]
        return items

    def pop_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        if not self.marks:
            raise RefusedError("is damaged: it takes more than it has")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def settle(self, items: list[Any]) -> list[Any]:
        """Return items as they are put away: closed, and free of what only a call understands."""
        self.open.difference_update(map(id, items))
        if INTERNAL.isdisjoint(map(type, items)):
            return items
        return [self._plain(item) for item in items]

    def _plain(self, item: Any) -> Any:
        if type(item) is Span:
            string = item.plain()
            self.spend(sys.getsizeof(string))
            return string
        if type(item) in INTERNAL:
            kind = item.words if isinstance(item, Global) else "a part of an array"
            raise RefusedError(f"holds {kind} where data belongs")
        return item

    def target(self, *kinds: type) -> Any:
        """Return the open container on the top of the stack."""
        container = self.top()
        if not isinstance(container, kinds) or id(container) not in self.open:
            raise RefusedError("changes something after it was used, as what contains itself does")
        return container

    def text(self, start: int, stop: int, coding: Coding, *, as_bytes: bool = False) -> None:
        """Push a string, in the file's place where it is long or may be bytes."""
        span = Span(self.source, start, stop, coding, as_bytes=as_bytes)
        later = stop - start > SHORT or coding.startswith("python2")
        self.push_new(span if later else span.plain())

    def quoted(self, start: int, stop: int) -> None:
        """Push Python 2's quoted string."""
        first, last = self.source.map[start : start + 1], self.source.map[stop - 1 : stop]
        if stop - start < 2 or first != last or first not in (b"'", b'"'):
            raise RefusedError(f"is damaged: the string at byte {start} has no quotes")
        self.text(start + 1, stop - 1, "python2-escaped")

    def word(self, start: int, stop: int) -> bytes:
        """Return a number's text, which is short."""
        if stop - start > 64:
            raise RefusedError(f"has a number of {stop - start} digits")
        return self.source.map[start:stop]

    def whole(self, value: int) -> None:
        """Push an int; small ones are shared."""
        self.push(value, 0 if -5 <= value < SMALL else 28)

    def decimal(self, start: int, stop: int) -> None:
        """Push an int, or in old files a bool, written in decimal digits."""
        if (word := self.word(start, stop)) in (b"00", b"01"):
            self.push(word == b"01")
        else:
            self.whole(int(word.rstrip(b"L")))

    def protocol(self, start: int, _: int) -> None:
        """Refuse a protocol that is not known."""
        if self.source.map[start] > 5:
            raise RefusedError(f"is of protocol {self.source.map[start]}")

    def long(self, start: int, stop: int) -> None:
        """Push an int of a few bytes."""
        if stop - start > 32:
            raise RefusedError(f"has a number of {stop - start} bytes")
        self.whole(int.from_bytes(self.source.map[start:stop], "little", signed=True))

    def mark(self, *_: int) -> None:
        """Remember where a container's items begin; take a run of floats at once."""
        self.spend(4 * SLOT)
        self.marks.append(len(self.stack))
        top = self.stack[-1] if self.stack else None
        if type(top) is FloatList and id(top) in self.open:
            count = self.source.float_run(self.position)
            after = self.position + 9 * count
            if count and self.source.map[after : after + 1] == b"e":
                self.spend(SLOT * count)
                top.extend_raw(self.source.floats(self.position, count))
                self.position = after  # where the append adds nothing more

    def new_dict(self, items: list[Any]) -> None:
        """Push a dict of keys and values."""
        self.push_new({})
        self.set_items(items)

    def listed(self, items: list[Any]) -> None:
        """Push a list, an empty one as a compact one if a float comes first."""
        if items:
            self.push_new([])
            self.append(items)
            return
        head = self.source.map[self.position : self.position + 24]
        put = {b"q": 2, b"r": 5, b"\x94": 1, b"p": head.find(b"\n") + 1}.get(head[:1], 0)
        compact = head[put:].lstrip(b"(")[:1] in (b"G", b"F")
        self.push_new(FloatList() if compact else [])

    def append(self, items: list[Any]) -> None:
        """Add items to the list below them."""
        container = self.target(list, FloatList)
        self.spend(SLOT * len(items))
        container.extend(self.settle(items))

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values to the dict below them."""
        container = self.target(dict, OrderedDict)
        if len(items) % 2:
            raise RefusedError("is damaged: a key has no value")
        self.spend(ENTRY * (len(items) // 2))
        items = self.settle(items)
        for key, value in zip(items[::2], items[1::2], strict=True):
            container[self.builder.key(key)] = value

    def add_items(self, items: list[Any]) -> None:
        """Add items to the set below them."""
        container = self.target(set)
        self.spend(ENTRY * len(items))
        container.update(map(self.builder.key, self.settle(items)))

    def tuple_of(self, items: list[Any]) -> None:
        """Push a tuple, for data or for a call."""
        self.open.difference_update(map(id, items))
        inside = not INTERNAL.isdisjoint(map(type, items))
        self.push_new(ArgumentTuple(items) if inside else tuple(items))

    def drop(self, *_: int) -> None:
        """Forget the top value, or the mark that lies there."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.open.difference_update(map(id, self.pop()))

    def memoise(self, *_: int) -> None:
        """Keep the top of the stack under the next number."""
        self.put(self.memoised)
        self.memoised += 1

    def put(self, index: int) -> None:
        """Keep the top of the stack under a number, if it is read again."""
        top = self.top()
        if index in self.wanted:
            self.spend(ENTRY)
            self.memo[index] = top
            if type(top) is ArrayDraft:
                top.slots.append(index)

    def get(self, index: int) -> None:
        """Push a kept object."""
        if index not in self.memo:
            raise RefusedError(f"is damaged: it reads memo entry {index} before it is there")
        self.again(self.memo[index])

    def again(self, value: Any) -> None:
        """Push an object once more, after which it can't change."""
        if type(value) is ArrayDraft:
            raise RefusedError("has an array that contains itself")
        self.open.discard(id(value))
        self.push(value)

    def named(self, module: Any, name: Any) -> None:
        """Push a name of the table."""
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedError("asks for a name that is no text")
        self.push(find_global(module, name), ENTRY)

    def reduce(self, *_: int) -> None:
        """Call a name of the table."""
        function, arguments = self.pop(2)
        if not isinstance(function, Global):
            raise RefusedError(f"calls a {type(function).__name__}")
        result = self.builder.call(function, arguments)
        self.drafts += type(result) is ArrayDraft
        self.push_new(result)

    def build(self, *_: int) -> None:
        """Give an announced array its content, or an element type its byte order."""
        subject, state = self.pop(2)
        if isinstance(subject, ElementType):
            subject.set_state(state)
            self.push(subject)
            return
        if not isinstance(subject, ArrayDraft):
            raise RefusedError(f"sets the state of a {type(subject).__name__}")
        array = self.builder.finish(state)
        self.drafts -= 1
        for index in subject.slots:
            self.memo[index] = array
        self.push_new(array)


Step = Callable[[Machine, int, int], None]


def _text(coding: Coding, *, as_bytes: bool = False) -> Step:
    return lambda m, start, stop: m.text(start, stop, coding, as_bytes=as_bytes)


def _whole(kind: str) -> Step:
    return lambda m, start, _: m.whole(m.source.number(start, kind))


def _memo(method: Callable[[Machine, int], None], name: str) -> Step:
    return lambda m, start, stop: method(m, m.source.memo_index(name, start, stop))


_STEPS: dict[str, Step] = {
    "PROTO": Machine.protocol,
    **dict.fromkeys(("FRAME", "STOP"), lambda *_: None),
    "NONE": lambda m, *_: m.push(None),
    "NEWTRUE": lambda m, *_: m.push(True),
    "NEWFALSE": lambda m, *_: m.push(False),
    **dict.fromkeys(("INT", "LONG"), Machine.decimal),
    "BININT": _whole("<i"),
    "BININT1": _whole("<B"),
    "BININT2": _whole("<H"),
    **dict.fromkeys(("LONG1", "LONG4"), Machine.long),
    "FLOAT": lambda m, start, stop: m.push(float(m.word(start, stop)), 24),
    "BINFLOAT": lambda m, start, _: m.push(m.source.number(start, ">d"), 24),
    "STRING": Machine.quoted,
    **dict.fromkeys(("BINSTRING", "SHORT_BINSTRING"), _text("python2")),
    **dict.fromkeys(
        ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"), _text("raw", as_bytes=True)
    ),
    "UNICODE": _text("escaped"),
    **dict.fromkeys(("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"), _text("utf-8")),
    "MARK": Machine.mark,
    "POP": Machine.drop,
    "POP_MARK": lambda m, *_: m.open.difference_update(map(id, m.pop_mark())),
    "EMPTY_LIST": lambda m, *_: m.listed([]),
    "LIST": lambda m, *_: m.listed(m.pop_mark()),
    "APPEND": lambda m, *_: m.append(m.pop()),
    "APPENDS": lambda m, *_: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m, *_: m.push_new({}),
    "DICT": lambda m, *_: m.new_dict(m.pop_mark()),
    "SETITEM": lambda m, *_: m.set_items(m.pop(2)),
    "SETITEMS": lambda m, *_: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m, *_: m.push_new(set()),
    "ADDITEMS": lambda m, *_: m.add_items(m.pop_mark()),
    "FROZENSET": lambda m, *_: m.push_new(frozenset(map(m.builder.key, m.settle(m.pop_mark())))),
    "EMPTY_TUPLE": lambda m, *_: m.push(()),
    "TUPLE": lambda m, *_: m.tuple_of(m.pop_mark()),
    "TUPLE1": lambda m, *_: m.tuple_of(m.pop(1)),
    "TUPLE2": lambda m, *_: m.tuple_of(m.pop(2)),
    "TUPLE3": lambda m, *_: m.tuple_of(m.pop(3)),
    "DUP": lambda m, *_: m.again(m.top()),
    "MEMOIZE": Machine.memoise,
    **{name: _memo(Machine.put, name) for name in PUTS},
    **{name: _memo(Machine.get, name) for name in GETS},
    "GLOBAL": lambda m, start, stop: m.named(*m.source.two_words(start, stop)),
    "STACK_GLOBAL": lambda m, *_: m.named(*m.pop(2)),
    "REDUCE": Machine.reduce,
    "BUILD": Machine.build,
}
