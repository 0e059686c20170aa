"""Commands in sessions of their own, to be killed and watched; for Linux, since it reads ``/proc``.

``benchmarks/chaos.py`` and the tests of engines share it. A server that has loaded the package
forks each command, so that it starts at once; the workers of a command start as ever. A command can
be a fresh process of Python too.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

__all__ = ["Command", "Process", "Server", "contents", "server", "until"]

# environment variables by which the processes of a command, and of all of a server, are known
TAG, SERVER = "RCML_MISA_SESSION", "RCML_MISA_SERVER"
ENDING = ("SIGINT", "SIGTERM", "SIGHUP")
LATER = ("ray::DashboardA", "ray::RuntimeEnv")  # agents of ray, which end by themselves in a while
WORKERS = (
    *("popen_loky_posix", "spawn_main", "submitit.core._submit"),
    *("default_worker.py", "ray::IDLE", "ray::PoolActor"),
)


@dataclass(frozen=True)
class Process:
    """A process as ``/proc`` shows it."""

    pid: int
    parent: int
    command: str

    @property
    def works(self) -> bool:
        """Whether it carries out runs, or starts to."""
        if "raylet_socket_name" in self.command:  # which names how it starts them
            return False
        return any(word in self.command for word in WORKERS)

    @property
    def lingers(self) -> bool:
        """Whether it is one of ray's agents, which end by themselves."""
        return self.command.startswith(LATER)


def until(holds: Callable[[], Any], seconds: float, pause: float = 0.01) -> Any:
    """Wait until something holds, and return it; after so many seconds, what it is then."""
    limit = time.monotonic() + seconds
    while not (value := holds()) and time.monotonic() < limit:
        time.sleep(pause)
    return value


@dataclass(frozen=True)
class Command:
    """A command that a `Server` has started.

    Attributes
    ----------
    pid : int
        Of the process, its group and its session.
    folder : Path
        Of what it prints, ``out`` and ``err``, and its exit status.
    """

    pid: int
    folder: Path

    def poll(self) -> int | None:
        """Tell the exit status, as `subprocess` does; None while it runs."""
        path = self.folder / "status"
        return int(path.read_text()) if path.exists() else None

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most so many seconds."""
        until(lambda: self.poll() is not None, seconds)
        return self.poll()

    @property
    def out(self) -> str:
        """What it has printed."""
        return (self.folder / "out").read_text()

    @property
    def err(self) -> str:
        """What it has said on stderr, its lines joined."""
        return " ".join((self.folder / "err").read_text().split())

    def processes(self) -> list[Process]:
        """List what still runs of it: its session, and all that it has started, in order."""
        tag = f"{TAG}={self.folder}\0".encode()
        family = f"{SERVER}={self.folder.parent}\0".encode()
        living = []
        for place in Path("/proc").iterdir():
            with suppress(OSError, ValueError):
                number = int(place.name)
                state, parent, _, session = (
                    (place / "stat").read_text().rpartition(")")[2].split()[:4]
                )
                if state == "Z":
                    continue
                environment = (place / "environ").read_bytes()
                line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                # numbers are given again: a session of this number may be anybody's by now; ray
                # writes its titles over the environment
                own = family in environment or line.startswith("ray::")
                if tag in environment or (int(session) == self.pid and own):
                    living.append(Process(number, int(parent), line))
        return sorted(living, key=lambda process: process.pid)

    def workers(self) -> list[Process]:
        """List the processes that carry out its runs, or start to."""
        return [process for process in self.processes() if process.works]

    def left(self, seconds: float) -> list[Process]:
        """Wait for the end of all of its processes, and list what is left after so many seconds."""

        def remaining() -> list[Process]:
            return [process for process in self.processes() if not process.lingers]

        until(lambda: not remaining(), seconds, 0.1)
        return remaining()

    def send(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process alone, or to its group as a terminal does."""
        if self.poll() is not None:
            return
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(self.pid, number)

    def clear(self) -> None:
        """End all that is left of it."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


class Server:
    """A process that forks commands; see `server`."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self.process = folder, process
        self.commands: list[Command] = []

    def start(
        self,
        *words: object,
        fresh: bool = False,
        cwd: Path | None = None,
        ignored: Sequence[str] = (),
        **environment: str,
    ) -> Command:
        """Start ``rcml-misa`` with these words.

        Parameters
        ----------
        *words : object
        fresh : bool
            Whether as a new process of Python, rather than from the server.
        cwd : Path, optional
        ignored : sequence of str
            Names of signals that it is to ignore from the start, as after ``nohup``. Those of
            `ENDING` that the server ignores are not ignored otherwise.
        **environment : str
        """
        folder = self.folder / uuid4().hex[:12]
        folder.mkdir()
        for name in ("out", "err"):
            (folder / name).touch()
        request = {
            "words": [str(word) for word in words],
            "fresh": fresh,
            "cwd": str(cwd or self.folder),
            "ignored": list(ignored),
            "folder": str(folder),
            "environment": {**environment, TAG: str(folder)},
        }
        assert self.process.stdin is not None  # noqa: S101
        assert self.process.stdout is not None  # noqa: S101
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        command = Command(int(self.process.stdout.readline()), folder)
        self.commands.append(command)
        return command

    def call(self, *words: object, seconds: float = 300, **options: Any) -> Command:
        """Start a command and wait for its end; a `TimeoutError` if it has none."""
        command = self.start(*words, **options)
        if command.wait(seconds) is None:
            raise TimeoutError(f"no end after {seconds} s: {words}")
        return command


@contextmanager
def server(folder: Path, *modules: str, **environment: str) -> Iterator[Server]:
    """Start a server that has loaded the package and `modules`; at the end nothing is left of it.

    `environment` is that of all its commands.
    """
    root = Path(__file__).parents[1]
    path = os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "COLUMNS": "200",
        SERVER: str(folder),
    }
    # a script would be run again by each worker, as multiprocessing does with the main module
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", "from benchmarks.sessions import _serve; _serve()", *modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, **settings, **environment},
    )
    commands = Server(folder, process)
    try:
        assert process.stdout is not None  # noqa: S101
        process.stdout.readline()  # it has loaded the package
        yield commands
    finally:
        for command in commands.commands:
            command.clear()
        process.kill()
        process.wait()


def contents(folder: Path) -> dict[str, str]:
    """Read records by name, without timing and the seal that covers it; other files' sha256."""
    from rcml_misa.storage import file_sha256

    texts = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix == ".json":
            fields = json.loads(path.read_bytes())
            del fields["timing"], fields["content_sha256"]
            texts[path.name] = json.dumps(fields)
        else:
            texts[path.name] = file_sha256(path)
    return texts


def _serve() -> None:
    """Fork a command for each line of stdin, and leave its exit status in its folder."""
    from importlib import import_module

    for name in ("rcml_misa.cli", "rcml_misa.runs.engine", "rcml_misa.reporting", *sys.argv[1:]):
        import_module(name)
    print("ready", flush=True)
    running: dict[int, Path] = {}
    while True:
        if select.select([sys.stdin], [], [], 0.01)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            request = json.loads(line)
            number = os.fork()
            if number == 0:
                _become(request)
            running[number] = Path(request["folder"])
            print(number, flush=True)
        while running:
            number, status = os.waitpid(-1, os.WNOHANG)
            if number == 0:
                break
            path = running.pop(number) / "status"
            part = path.with_suffix(".part")
            part.write_text(str(os.waitstatus_to_exitcode(status)))
            part.replace(path)


def _become(request: dict[str, Any]) -> None:
    """Turn this process into a command; it ends as Python does."""
    os.setsid()
    for name in ENDING:
        handling = signal.SIG_IGN if name in request["ignored"] else signal.SIG_DFL
        signal.signal(getattr(signal, name), handling)
    os.environ.update(request["environment"])
    os.chdir(request["cwd"])
    folder = Path(request["folder"])
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for place, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(folder / name, os.O_WRONLY), place)
    words = request["words"]
    if request["fresh"]:
        os.execv(sys.executable, [sys.executable, "-m", "rcml_misa", *words])  # noqa: S606
    if "SIGINT" not in request["ignored"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = ["rcml-misa", *words]
    from rcml_misa.__main__ import start

    start()
