"""A stack machine for pickles that builds arrays and plain containers and calls nothing else."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

from rcml_misa.datasets.foreign.objects import (
    ArgumentTuple,
    ArrayDraft,
    Builder,
    ElementType,
    FloatList,
    Global,
    find_global,
    scalar_key,
)
from rcml_misa.datasets.foreign.operations import two_words
from rcml_misa.datasets.foreign.source import Coding, RefusedError, Source, Span

__all__ = ["Machine"]

SHORT = 1024  # bytes up to which a string is decoded at once
INTERNAL = frozenset({Span, Global, ElementType, ArrayDraft, ArgumentTuple})
CONTAINERS = (list, FloatList, dict, OrderedDict, set)
SLOT, ENTRY, SMALL = 8, 100, 257  # bytes of a reference and a dict's entry; ints that are shared


class Machine:
    """Runs a surveyed pickle.

    A container may change only until it is put into another or read from the memo: so nothing can
    contain itself. What only a call understands (names, element types, announced arrays) may
    stand in a call's arguments and nowhere else.

    Parameters
    ----------
    source : Source
    wanted : frozenset of int
        Memo entries to keep.
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

    def result(self) -> Any:
        """The value that was built, at the end of the file."""
        if len(self.stack) != 1 or self.marks or self.drafts:
            raise RefusedError("is damaged: parts of it are left over at its end")
        return self.settle(self.stack)[0]

    # the stack

    def push(self, value: Any, cost: int = 0) -> None:
        """Put a value on the stack and count its bytes."""
        self.spend(SLOT + cost)
        self.stack.append(value)

    def push_new(self, value: Any) -> None:
        """Put a new object on the stack; a container is open until something takes it."""
        self.push(value, sys.getsizeof(value))
        if isinstance(value, CONTAINERS):
            self.open.add(id(value))

    def pop(self) -> Any:
        """Take the top value, which must lie above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise RefusedError("is damaged: it takes more than it has")
        return self.stack.pop()

    def pop_mark(self) -> list[Any]:
        """Take everything above the last mark."""
        if not self.marks:
            raise RefusedError("is damaged: it takes more than it has")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def settle(self, items: list[Any]) -> list[Any]:
        """Items as they are put away: closed, and free of what only a call understands."""
        self.open.difference_update(map(id, items))
        if INTERNAL.isdisjoint(map(type, items)):
            return items
        return [self._plain(item) for item in items]

    def _plain(self, item: Any) -> Any:
        if type(item) is Span:
            found = item.plain()
            self.spend(sys.getsizeof(found))
            return found
        if type(item) in INTERNAL:
            kind = item.words if isinstance(item, Global) else "a part of an array"
            raise RefusedError(f"holds {kind} where data belongs")
        return item

    def target(self, *kinds: type) -> Any:
        """The open container on the top of the stack."""
        found = self.pop()
        self.stack.append(found)
        if not isinstance(found, kinds) or id(found) not in self.open:
            raise RefusedError("changes something after it was used, as what contains itself does")
        return found

    def tuple_of(self, items: list[Any]) -> None:
        """Push a tuple, for data or for a call."""
        self.open.difference_update(map(id, items))
        inside = not INTERNAL.isdisjoint(map(type, items))
        self.push_new(ArgumentTuple(items) if inside else tuple(items))

    # strings and numbers

    def text(self, start: int, stop: int, coding: Coding, *, as_bytes: bool = False) -> None:
        """Push a string, in the file's place where it is long or may be bytes."""
        span = Span(self.source, start, stop, coding, as_bytes=as_bytes)
        later = stop - start > SHORT or coding.startswith("python2")
        self.push_new(span if later else span.plain())

    def quoted(self, start: int, stop: int) -> None:
        """Push Python 2's quoted string."""
        ends = self.source.map[start : start + 1], self.source.map[stop - 1 : stop]
        if stop - start < 2 or ends[0] != ends[1] or ends[0] not in (b"'", b'"'):
            raise RefusedError(f"is damaged: the string at byte {start} has no quotes")
        self.text(start + 1, stop - 1, "python2-escaped")

    def word(self, start: int, stop: int) -> bytes:
        """A number's text, which is short."""
        if stop - start > 64:
            raise RefusedError(f"has a number of {stop - start} digits")
        return self.source.map[start:stop]

    def whole(self, value: int) -> None:
        """Push an int; small ones are shared."""
        self.push(value, 0 if -5 <= value < SMALL else 28)

    def decimal(self, start: int, stop: int) -> None:
        """Push an int, or in old files a bool, written in decimal digits."""
        word = self.word(start, stop)
        if word in (b"00", b"01"):
            self.push(word == b"01")
        else:
            self.whole(int(word.rstrip(b"L")))

    def long(self, start: int, stop: int) -> None:
        """Push an int of a few bytes."""
        if stop - start > 32:
            raise RefusedError(f"has a number of {stop - start} bytes")
        self.whole(int.from_bytes(self.source.map[start:stop], "little", signed=True))

    # containers

    def mark(self) -> None:
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

    def new_list(self) -> None:
        """Push an empty list, a compact one if a float comes first."""
        self.push_new(FloatList() if self._float_follows() else [])

    def _float_follows(self) -> bool:
        head = self.source.map[self.position : self.position + 24]
        put = {b"q": 2, b"r": 5, b"\x94": 1, b"p": head.find(b"\n") + 1}.get(head[:1], 0)
        return head[put:].lstrip(b"(")[:1] in (b"G", b"F")

    def append(self, items: list[Any]) -> None:
        """Add items to the list below them."""
        found = self.target(list, FloatList)
        self.spend(SLOT * len(items))
        found.extend(self.settle(items))

    def set_items(self, items: list[Any]) -> None:
        """Add keys and values to the dict below them."""
        found = self.target(dict, OrderedDict)
        if len(items) % 2:
            raise RefusedError("is damaged: a key has no value")
        self.spend(ENTRY * (len(items) // 2))
        items = self.settle(items)
        for key, value in zip(items[::2], items[1::2], strict=True):
            found[scalar_key(key)] = value

    def add_items(self, items: list[Any]) -> None:
        """Add items to the set below them."""
        found = self.target(set)
        self.spend(ENTRY * len(items))
        found.update(map(scalar_key, self.settle(items)))

    def new_dict(self, items: list[Any]) -> None:
        """Push a dict of keys and values."""
        self.push_new({})
        self.set_items(items)

    def listed(self, items: list[Any]) -> None:
        """Push a list of items."""
        if not items:
            self.new_list()
            return
        self.push_new([])
        self.append(items)

    def drop(self, items: list[Any]) -> None:
        """Forget items."""
        self.open.difference_update(map(id, items))

    def drop_one(self) -> None:
        """Forget the top value, or the mark that lies there."""
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.drop([self.pop()])

    # the memo

    def memoise(self) -> None:
        """Keep the top of the stack under the next number."""
        self.put(self.memoised)
        self.memoised += 1

    def put(self, index: int) -> None:
        """Keep the top of the stack under a number, if it is read again."""
        top = self.pop()
        self.stack.append(top)
        if index in self.wanted:
            self.spend(ENTRY)
            self.memo[index] = top
            if type(top) is ArrayDraft:
                top.slots.append(index)

    def again(self, found: Any) -> None:
        """Push an object once more, after which it can't change."""
        if type(found) is ArrayDraft:
            raise RefusedError("has an array that contains itself")
        self.open.discard(id(found))
        self.push(found)

    def get(self, index: int) -> None:
        """Push a kept object."""
        if index not in self.memo:
            raise RefusedError(f"is damaged: it reads memo entry {index} before it is there")
        self.again(self.memo[index])

    def duplicate(self) -> None:
        """Push the top of the stack once more."""
        found = self.pop()
        self.stack.append(found)
        self.again(found)

    # calls

    def named(self, start: int, stop: int) -> None:
        """Push a name of the table."""
        self.push(find_global(*two_words(self.source, start, stop)), ENTRY)

    def named_on_stack(self) -> None:
        """Push a name whose words are on the stack."""
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise RefusedError("asks for a name that is no text")
        self.push(find_global(module, name), ENTRY)

    def reduce(self) -> None:
        """Call a name of the table."""
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Global):
            raise RefusedError(f"calls a {type(function).__name__}")
        found = self.builder.call(function, arguments)
        self.drafts += type(found) is ArrayDraft
        self.push_new(found)

    def build(self) -> None:
        """Give an announced array its content, or an element type its byte order."""
        state, what = self.pop(), self.pop()
        if isinstance(what, ElementType):
            what.set_state(state)
            self.push(what)
            return
        if not isinstance(what, ArrayDraft):
            raise RefusedError(f"sets the state of a {type(what).__name__}")
        found = self.builder.finish(state)
        self.drafts -= 1
        for index in what.slots:
            self.memo[index] = found
        self.push_new(found)
