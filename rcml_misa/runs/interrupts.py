"""Signals that end a command as Ctrl-C does, and pieces of work that they may not cut."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

__all__ = [
    "Interrupted",
    "exit_status",
    "group_spared",
    "handlers_left",
    "interrupts_deferred",
    "one_command",
    "signals_interrupt",
]

PATIENCE = 10.0  # seconds that a command has to end after the first signal
DEFERRED = 5.0  # seconds that a signal is held back at most
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP

_process = {"one command": False}


class Interrupted(KeyboardInterrupt):
    """An interruption by a signal.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_status(stop: KeyboardInterrupt) -> int:
    """Tell the exit status of an interrupted command: 128 and the number of the signal.

    Examples
    --------
    >>> exit_status(Interrupted(15)), exit_status(KeyboardInterrupt())
    (143, 130)
    """
    return 128 + getattr(stop, "number", signal.SIGINT)


def _numbers() -> list[signal.Signals]:
    """List the signals; those that whoever started the process ignores stay ignored."""
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [each for each in numbers if signal.getsignal(each) != signal.SIG_IGN]


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Raise `Interrupted` at the first of SIGINT, SIGTERM and SIGHUP; further ones change nothing.

    The process ends at the latest `PATIENCE` seconds after the first, whatever hangs. Both hold
    after the context too, while Python ends, where the process is `one_command`.
    """
    if not _in_main_thread():
        yield
        return
    seen: list[int] = []
    over = threading.Event()

    def handle(number: int, _: Any) -> None:
        if seen:
            return
        seen.append(number)
        threading.Thread(target=_end, args=(128 + number, over), daemon=True).start()
        raise Interrupted(number)

    previous = {number: signal.signal(number, handle) for number in _numbers()}
    try:
        yield
    finally:
        if seen and _process["one command"]:
            # Python gives handlers up some time before it has ended, but not what is ignored
            _restore(dict.fromkeys(previous, signal.SIG_IGN))
        else:
            over.set()
            _restore(previous)


def one_command() -> None:
    """Say that this process ends with the command that it now carries out."""
    _process["one command"] = True


@contextmanager
def handlers_left() -> Iterator[None]:
    """Leave the signals' handlers as they were, whatever a library sets."""
    previous = {number: signal.getsignal(number) for number in _numbers()}
    try:
        yield
    finally:
        if _in_main_thread():
            _restore(previous)


@contextmanager
def group_spared() -> Iterator[None]:
    """Block the signals for children that start meanwhile, which the command ends itself.

    ``timeout`` and a terminal send them to its whole group; ray ends a command at once whose
    servers are gone.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _numbers())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _end(status: int, over: threading.Event) -> None:
    if not over.wait(PATIENCE):
        os._exit(status)


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Hold the signals back until the end, and block some for children that start meanwhile.

    One is held for `DEFERRED` seconds at most, lest a start that hangs can't be ended.
    Ctrl-C and a hang-up go to all processes of a terminal, and it is the command that ends its
    workers; joblib's tracker of resources would be ended by a hang-up, and then miss what it knew.
    It works in the main thread; no signal is handled elsewhere.
    """
    if not _in_main_thread():
        yield
        return
    caught: list[int] = []
    first, over, late = threading.Event(), threading.Event(), threading.Event()

    def watch() -> None:  # in a thread that is told of what the main one blocks
        first.wait()
        if not over.wait(DEFERRED):
            late.set()
            os.kill(os.getpid(), signal.SIGTERM)  # which is not blocked

    def hold(number: int, frame: Any) -> None:
        if not caught:
            caught.append(number)
            first.set()
        elif late.is_set() and callable(handler := previous[signal.Signals(caught[0])]):
            handler(caught[0], frame)

    masks = hasattr(signal, "pthread_sigmask")  # Windows has none
    if masks:
        threading.Thread(target=watch, daemon=True).start()
    previous = {number: signal.signal(number, hold) for number in _numbers()}
    mask = None
    if masks:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _restore(previous)
        over.set()
        first.set()
        if caught and not late.is_set():
            signal.raise_signal(caught[0])
