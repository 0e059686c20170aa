"""Objects that a foreign pickle may name: arrays, their types and plain containers, built here.

A name in the file is looked up in a table and never imported; what it would have called is done
by a method of this module, on bytes whose number is known.
"""

from __future__ import annotations

import math
import re
from array import array
from collections import OrderedDict, UserList
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.foreign.source import ENTRY, Bytes, Global, RefusedError, Span, as_data

__all__ = ["ArgumentTuple", "ArrayDraft", "Builder", "ElementType", "FloatList"]

HASH_BITS = 61  # bits of an int up to which few have the same hash
MOST_ALIKE = 100  # longer ints whose hash another one has


class FloatList(UserList[Any]):
    """A list whose items are floats, at eight bytes each; NumPy turns it into an array.

    It takes other items too and is then as large as any list.

    Examples
    --------
    >>> row = FloatList()
    >>> row.extend([0.5, 1.5])
    >>> len(row), row[1], np.asarray(row).tolist()
    (2, 1.5, [0.5, 1.5])
    """

    data: Any

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self.data = array("d")
        self.extend(items)

    def append(self, item: Any) -> None:
        """Add one item."""
        self.extend([item])

    def extend(self, other: Iterable[Any]) -> None:
        """Add several items."""
        items = list(other)
        if type(self.data) is array and {type(item) for item in items} - {float}:
            self.data = list(self.data)
        self.data.extend(items)

    def extend_raw(self, values: NDArray[np.float64]) -> None:
        """Add an array of floats."""
        if type(self.data) is array:
            self.data.frombytes(values.tobytes())
        else:
            self.data.extend(values.tolist())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if type(self.data) is not array or not self.data:
            return np.array(list(self.data), dtype=dtype)
        return np.array(np.frombuffer(self.data, dtype=np.float64), dtype=dtype, copy=copy)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.data)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, FloatList)) else NotImplemented

    __hash__ = None

    def __repr__(self) -> str:
        return repr(list(self.data))


class ArgumentTuple(tuple[Any, ...]):
    """A tuple that holds something only a call understands."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class ArrayDraft:
    """An array that was announced and whose content comes next; `slots` are its memo entries."""

    slots: list[int] = field(default_factory=list)


class ElementType:
    """A NumPy element type, whose byte order the file sets after it was made."""

    __slots__ = ("dtype",)

    def __init__(self, words: Any) -> None:
        text = _word(words)
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[248]|[SU][1-9]\d{0,5}|O8?)", text):
            raise RefusedError(f"has an array of type {text[:40]!a}")
        self.dtype = np.dtype("O" if text.endswith(("O", "O8")) else text)

    def set_state(self, state: Any) -> None:
        """Set the byte order; the rest of NumPy's state is the default or refused."""
        if not isinstance(state, tuple) or len(state) < 8:
            raise RefusedError("has an array type without its state")
        order, inner = _word(state[1]), state[2:5]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in inner):
            raise RefusedError("has an array type made of several fields")
        if order in "<>":
            self.dtype = self.dtype.newbyteorder("<" if order == "<" else ">")


class Builder:
    """Does what a pickler meant by calling a name of the table.

    `spend` takes the number of bytes that a call is about to need.
    """

    def __init__(self, spend: Callable[[int], None]) -> None:
        self.spend = spend
        self.firsts: dict[int, int] = {}  # by hash
        self.alike = 0

    def call(self, function: Global, arguments: Any) -> Any:
        """Return the result of a call; arrays come as drafts, element types as such."""
        if not isinstance(arguments, tuple) or function.does == "ndarray":
            raise RefusedError(f"calls {function.words} in a way that no pickler does")
        try:
            return getattr(self, f"_{function.does}")(*arguments)
        except (TypeError, ValueError, OverflowError):
            raise RefusedError(
                f"calls {function.words} with arguments that it does not take"
            ) from None

    def finish(self, state: Any) -> NDArray[Any]:
        """Return the array of NumPy's state: (version,) shape, type, Fortran order, content."""
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise RefusedError("has an array without its content")
        shape, kind, fortran, content = state[-4:]
        return self._array(content, kind, shape, "F" if fortran else "C")

    def key(self, key: Any) -> Any:
        """Return a dict's key or a set's item: a word or a number, never something nested."""
        if not isinstance(key, (str, int, float, bytes, np.generic, type(None))):
            raise RefusedError(f"has a {type(key).__name__} where a name or a number belongs")
        if isinstance(key, int) and key.bit_length() > HASH_BITS:
            # any number of these may share one hash: each would be compared with all before it
            self.spend(ENTRY)
            self.alike += self.firsts.setdefault(hash(key), key) != key
            if self.alike > MOST_ALIKE:
                raise RefusedError(f"has more than {MOST_ALIKE} keys of one hash")
        return key

    def _reconstruct(self, kind: Any, *_: Any) -> ArrayDraft:
        if not isinstance(kind, Global) or kind.does != "ndarray":
            raise RefusedError("has an array of another class than numpy.ndarray")
        return ArrayDraft()

    def _dtype(self, words: Any, *_: Any) -> ElementType:
        return ElementType(words)

    def _scalar(self, kind: Any, content: Any) -> Any:
        if isinstance(kind, ElementType) and kind.dtype.kind == "O":
            raise RefusedError("has a number that is an object")
        return self._array(content, kind, (1,), "C")[0]

    def _frombuffer(self, content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
        return self._array(content, kind, shape, "F" if _word(order) == "F" else "C")

    def _array(self, content: Any, kind: Any, shape: Any, order: Any) -> NDArray[Any]:
        """Lay an array over bytes of the file, as many as its shape asks for."""
        if not isinstance(kind, ElementType):
            raise RefusedError("has an array without a type")
        shape = (shape,) if isinstance(shape, int) else shape
        if not isinstance(shape, tuple) or len(shape) > 8:
            raise RefusedError("has an array without a shape")
        if not all(type(n) is int and 0 <= n < 2**40 for n in shape):
            raise RefusedError("has an array of an impossible shape")
        count, dtype = math.prod(shape), kind.dtype
        if dtype.kind == "O":
            return self._objects(content, count).reshape(shape, order=order)
        data = as_data(content)
        if len(data) != count * dtype.itemsize:
            raise RefusedError(
                f"has an array of shape {shape} and type {dtype} with {len(data)} bytes"
            )
        if dtype.kind in "bU":
            self.spend(len(data))
            data = _checked(data, dtype)
        values = (data.view(dtype) if count else np.empty(0, dtype)).reshape(shape, order=order)
        values.flags.writeable = False
        return values

    def _objects(self, content: Any, count: int) -> NDArray[Any]:
        if not isinstance(content, (list, FloatList)) or len(content) != count:
            raise RefusedError("has an array of objects without its objects")
        self.spend(8 * count)
        objects = np.empty(count, dtype=object)
        for place, item in enumerate(content):
            if isinstance(item, np.ndarray) and item.dtype.kind == "O":
                raise RefusedError("has an array of objects inside another")
            objects[place] = item
        return objects

    def _encode(self, text: Any, coding: Any = "latin-1") -> Any:
        word = _word(coding)
        if word.lower().replace("_", "-") not in ("latin1", "latin-1"):
            raise RefusedError(f"encodes text as {word[:40]!a}")
        if isinstance(text, Span):
            return text.encoded()
        if not isinstance(text, str):
            raise RefusedError(f"encodes a {type(text).__name__}")
        return text.encode("latin-1")

    def _bytes(self, content: Any = b"", coding: Any = "latin-1") -> bytes:
        if isinstance(content, (str, Span)):
            content = self._encode(content, coding)
        return as_data(content).tobytes()

    def _bytearray(self, *content: Any) -> bytearray:
        return bytearray(self._bytes(*content))

    def _ordered(self, pairs: Any = ()) -> OrderedDict[Any, Any]:
        self.spend(8 * len(pairs))
        return OrderedDict((self.key(key), value) for key, value in pairs)

    def _set(self, items: Any = ()) -> set[Any]:
        self.spend(8 * len(items))
        return set(map(self.key, items))

    def _frozenset(self, items: Any = ()) -> frozenset[Any]:
        return frozenset(self._set(items))


def _word(value: Any) -> str:
    word = value.plain() if isinstance(value, Span) else value
    if isinstance(word, bytes):
        word = word.decode("latin-1")
    if not isinstance(word, str):
        raise RefusedError(f"has a {type(value).__name__} where a word belongs")
    return word


def _checked(data: Bytes, dtype: np.dtype[Any]) -> Bytes:
    """Refuse content of which some bit pattern is no value."""
    if dtype.kind == "b":
        return np.not_equal(data, 0).view(np.uint8)
    if len(data) and int(data.view(dtype.byteorder + "u4").max()) > 0x10FFFF:
        raise RefusedError("has an array of text that is no text")
    return data
