"""Blocks of a file that are read in a thread while those before them are worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

from rcml_misa.datasets.files.delimited import strict_parser

__all__ = ["reading_ahead"]

Block = TypeVar("Block")
WAIT = 0.1  # seconds between two looks at whether blocks are still wanted


@contextmanager
def reading_ahead(blocks: Iterator[Block]) -> Iterator[Iterator[Block]]:
    """Give the same blocks, each read while the one before it is worked on.

    Three blocks are in memory at most. What reading raises is raised where its block is asked for;
    at the end the file is closed, also where not all blocks were asked for.

    Examples
    --------
    >>> with reading_ahead(iter([1, 2])) as ahead:
    ...     list(ahead)
    [1, 2]
    """
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=1)
    ended = threading.Event()

    def put(what: str, value: Any) -> None:
        while not ended.is_set():
            try:
                waiting.put((what, value), timeout=WAIT)
            except queue.Full:
                continue
            return

    def read() -> None:
        try:
            for block in blocks:
                put("block", block)
                if ended.is_set():
                    break
            put("end", None)
        except BaseException as error:
            put("error", error)
        finally:
            if isinstance(blocks, Generator):
                blocks.close()

    def ahead() -> Iterator[Block]:
        while True:
            what, value = waiting.get()
            if what == "error":
                raise value
            if what == "end":
                return
            yield value

    with strict_parser():
        thread = threading.Thread(target=copy_context().run, args=(read,), daemon=True)
        thread.start()
        try:
            yield ahead()
        finally:
            ended.set()
            thread.join()
