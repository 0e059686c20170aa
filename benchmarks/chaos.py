"""Kills of an experiment's command, its workers and its group, at every moment and on every engine.

After each the same command is given again until it ends by itself. Bars: its table and page are
those of an undisturbed command (seconds aside), every record is too, no run that had a record is
made again, nothing half written and no work folder is left, exit statuses are those of the signal,
stderr says how the command goes on and shows no traceback, no process is left after 5 s (ray's
agents end later by themselves), nothing hangs. Every fault is printed; then the exit status is 1.
What SIGKILL of the whole group leaves in shared memory, of joblib's own, is no fault: who would
clear it away is dead too. Jobs of SLURM make the run that each has, whatever becomes of the
command.
Writing a record takes 50 ms longer here, so that kills meet it. It needs Linux.

    python benchmarks/chaos.py [--kills 200] [--seed 0] [--engines local,dask,ray,slurm]
        [--where DIR] [--minutes M]
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from sessions import Command, Server, contents, server, until

__all__: list[str] = []

MODULES = {"dask": ["dask", "distributed"], "ray": ["ray.util.joblib"], "slurm": ["submitit"]}
WEIGHTS = {"local": 6, "dask": 2, "ray": 2, "slurm": 1}  # of the kills
LAST = 300.0  # seconds that a command may take to its end
STOP = 15.0  # seconds that it may take after a signal; its own patience is 10
GONE = 5.0  # seconds after which no process may be left
PLAN = """
title = "Chaos"
datasets = ["digits"]
runs = 3
methods = [
    "majority",
    "lda",
    "logistic-regression-per-view",
    { method = "rcml", set = { epochs = 3 } },
]
"""
RUNS = 12
SLOW = """
import os, time

_replace = os.replace

def replace(source, target, **options):
    if os.path.basename(source).startswith(".writing-"):
        time.sleep(0.05)
    return _replace(source, target, **options)

os.replace = replace
"""


@dataclass(frozen=True)
class Attack:
    """Who gets which signal, when."""

    engine: str
    target: str  # parent, worker, group
    moment: str  # start, middle, writing
    number: signal.Signals
    twice: bool

    def __str__(self) -> str:
        name = self.number.name.removeprefix("SIG")
        return f"{self.engine} {self.target} {self.moment} {name}{' twice' if self.twice else ''}"


@dataclass
class Tally:
    """Outcomes of attacks."""

    attacks: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    endings: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    resumed: list[int] = field(default_factory=list)
    caught: int = 0  # unfinished files that a kill left behind
    faults: list[str] = field(default_factory=list)


def plan_attacks(count: int, engines: Sequence[str], rng: random.Random) -> list[Attack]:
    """Draw attacks, those of an engine evenly over targets and moments."""
    weights = {engine: WEIGHTS[engine] for engine in engines}
    attacks = []
    for engine in engines:
        share = round(count * weights[engine] / sum(weights.values()))
        cells = [
            (target, moment)
            for target in ("parent", "worker", "group")
            for moment in ("start", "middle", "writing")
        ]
        for place in range(share):
            if place % len(cells) == 0:
                rng.shuffle(cells)
            target, moment = cells[place % len(cells)]
            names = ("KILL", "KILL", "TERM") if target == "worker" else ("KILL", *SOFT, *SOFT)
            number = signal.Signals[f"SIG{rng.choice(names)}"]
            twice = rng.random() < 0.3
            attacks.append(Attack(engine, target, moment, number, twice))
    rng.shuffle(attacks)
    return attacks


SOFT = ("TERM", "INT", "HUP")


class Arena:
    """One plan, the undisturbed outcome, and the checks against it."""

    def __init__(self, place: Path, temporary: Path, commands: Server, tally: Tally) -> None:
        self.place, self.temporary, self.commands, self.tally = place, temporary, commands, tally
        self.plan = place / "plan.toml"
        self.plan.write_text(PLAN)
        calm = commands.call(*self.words(place / "calm", "local", jobs=1))
        if calm.poll():
            raise SystemExit(f"the undisturbed command fails: {calm.err}")
        self.records = contents(place / "calm" / "records")
        self.texts = self.outcome(place / "calm")

    def words(self, out: Path, engine: str, jobs: int = 2) -> list[str]:
        """Words of the command."""
        words = ["experiment", str(self.plan), "--out", str(out), "--jobs", str(jobs)]
        words += ["--engine", engine]
        return [*words, "--address", "local"] if engine == "slurm" else words

    @staticmethod
    def outcome(out: Path) -> tuple[str, str]:
        """Page and table, without seconds."""
        rows = list(csv.DictReader((out / "plan.csv").read_text().splitlines()))
        for row in rows:
            del row["seconds"]
        return (out / "plan.md").read_text(), str(rows)

    def attack(self, attack: Attack, rng: random.Random) -> list[str]:
        """Carry out one attack, resume, and list the faults."""
        out = self.place / "out"
        shutil.rmtree(out, ignore_errors=True)
        records = out / "records"
        words = self.words(out, attack.engine)
        command = self.commands.start(*words)
        self._wait(command, records, attack.moment, rng)
        early = command.poll() is not None
        working = bool(command.workers())
        self._strike(command, attack, rng)
        struck = time.monotonic()
        faults = []
        status = command.wait(LAST if attack.target == "worker" else STOP)
        took = time.monotonic() - struck
        if status is None:
            there = [process.command[:60] for process in command.processes()]
            faults.append(f"HANG: still there {took:.0f} s after the signal: {there}")
            command.clear()
            until(lambda: command.poll() is not None, 10)
        faults += self._check_end(command, attack, early=early)
        left = command.left(GONE)
        if attack.engine == "slurm":
            left = []  # jobs are SLURM's, and make the run that each has
        if left and status is not None:
            names = [process.command[:80] for process in left]
            faults.append(f"left after {GONE:.0f} s: {names}")
        command.clear()
        done = self._stamps(records)
        stopped = attack.target != "worker" and not early and status not in (0, None)
        self.tally.caught += len(list(out.rglob(".writing-*")))
        if stopped and attack.number != signal.SIGKILL:
            key = f"{attack.engine} {attack.number.name}"
            self.tally.seconds[key].append(took)
            said = f"{len(done)} of {RUNS} runs are kept"
            if working and said not in command.err:
                faults.append(f"{said}, but it says {command.err[-200:]!r}")
        self.tally.endings[f"{status}"] += 1
        self.tally.resumed.append(len(done))
        killed = attack.target == "group" and attack.number == signal.SIGKILL
        return faults + self._resume(words, out, done, killed=killed)

    def _wait(self, command: Command, records: Path, moment: str, rng: random.Random) -> None:
        """Wait for the moment to strike."""

        def ended() -> bool:
            return command.poll() is not None

        if moment == "start":
            if rng.random() < 0.25:
                time.sleep(rng.uniform(0, 0.5))
            else:
                until(lambda: ended() or command.workers(), LAST, 0.002)
                time.sleep(rng.choice([0, rng.uniform(0, 0.5), rng.uniform(0, 6)]))
        else:
            number = rng.randrange(1, RUNS + 1 if moment == "middle" else RUNS)
            until(lambda: ended() or len(self._stamps(records)) >= number, LAST, 0.005)
            if moment == "middle":
                time.sleep(rng.uniform(0, 0.3))
            else:
                until(lambda: ended() or any(records.glob(".writing-*.json")), LAST, 0.001)

    @staticmethod
    def _strike(command: Command, attack: Attack, rng: random.Random) -> None:
        for _ in range(1 + attack.twice):
            if attack.target == "worker":
                workers = command.workers()
                if workers:
                    victim = rng.choice(workers).pid
                    with suppress(ProcessLookupError):
                        os.kill(victim, attack.number)
            else:
                command.send(attack.number, group=attack.target == "group")
            if attack.twice:
                time.sleep(rng.choice([0, 0.01, 0.1, 0.5]))

    @staticmethod
    def _check_end(command: Command, attack: Attack, *, early: bool) -> list[str]:
        """Check exit status and stderr."""
        status, err = command.poll(), command.err
        faults = ["traceback: " + err[-600:]] if "Traceback" in err else []
        expected = {0}
        if attack.target != "worker" and not early:
            soft = attack.number != signal.SIGKILL
            expected |= {128 + attack.number if soft else -attack.number}
            if soft and status not in (0, None) and "interrupted" not in err:
                faults.append(f"it does not say that it was interrupted: {err[-200:]!r}")
        if status is not None and status not in expected:
            faults.append(f"exit status {status}, not {sorted(expected)}: {err[-300:]!r}")
        return faults

    @staticmethod
    def _stamps(records: Path) -> dict[str, tuple[int, int]]:
        """Inode and time of each record."""
        stamps = {}
        for path in records.glob("*-seed*.json"):
            about = path.stat()
            stamps[path.name] = (about.st_ino, about.st_mtime_ns)
        return stamps

    def _resume(
        self, words: list[str], out: Path, done: dict[str, tuple[int, int]], *, killed: bool
    ) -> list[str]:
        """Give the command again, and compare everything with the undisturbed one."""
        faults = []
        records = out / "records"
        if records.exists():
            earlier = contents(records)
            faults += [
                f"the record {name} differs before resuming"
                for name in earlier
                if earlier[name] != self.records.get(name)
            ]
        command = self.commands.start(*words)
        if command.wait(LAST) is None:
            faults.append(f"HANG: the resumed command has no end: {command.err[-200:]!r}")
        elif command.poll() != 0:
            faults.append(f"the resumed command ends with {command.poll()}: {command.err[-300:]!r}")
        else:
            if "Traceback" in command.err:
                faults.append(f"traceback of the resumed command: {command.err[-600:]}")
            if self.outcome(out) != self.texts:
                faults.append("the table or the page differs")
            now = contents(records)
            if now != self.records:
                odd = [
                    name
                    for name in {**now, **self.records}
                    if now.get(name) != self.records.get(name)
                ]
                faults.append(f"records differ after resuming: {odd}")
            stamps = self._stamps(records)
            again = [name for name in done if stamps.get(name) != done[name]]
            if again:
                faults.append(f"made again: {again}")
            hidden = [path.name for path in out.rglob(".*") if path.name != ".lock"]
            if hidden:
                faults.append(f"left in the folder: {hidden}")
        left = command.left(GONE)
        if left:
            faults.append(f"left of the resumed command: {[each.command[:80] for each in left]}")
        command.clear()
        names = [path.name for path in self.temporary.iterdir() if "rcml-misa" in path.name]
        if names:
            faults.append(f"left among temporary files: {names}")
        shared = self._clear_shared()
        if shared and not killed:
            faults.append(f"left in shared memory: {shared}")
        return faults

    def _clear_shared(self) -> list[str]:
        """Remove semaphores and folders of joblib of all commands so far, and list them."""
        numbers = {str(command.pid) for command in self.commands.commands}
        names = []
        for path in Path("/dev/shm").iterdir():  # noqa: S108
            if numbers & set(re.split("[-_]", path.name)):
                names.append(path.name)
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
        return names


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engines", default="local,dask,ray,slurm")
    parser.add_argument("--where", type=Path, help="folder to work in; a temporary one by default")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no kill later")
    options = parser.parse_args()
    rng = random.Random(options.seed)  # noqa: S311
    engines = options.engines.split(",")
    attacks = plan_attacks(options.kills, engines, rng)
    tally = Tally()
    start = time.monotonic()
    if options.where is not None:
        options.where.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="chaos-", dir=options.where) as name:
        place = Path(name).resolve()
        for folder in ("slow", "tmp"):
            (place / folder).mkdir()
        (place / "slow" / "sitecustomize.py").write_text(SLOW)
        path = os.pathsep.join([str(place / "slow"), os.environ.get("PYTHONPATH", "")])
        os.environ["PYTHONPATH"] = path.rstrip(os.pathsep)
        modules = [module for engine in engines for module in MODULES.get(engine, ())]
        temporary = place / "tmp"
        with server(place, *modules, TMPDIR=str(temporary), RAY_TMPDIR="/tmp") as commands:  # noqa: S108
            arena = Arena(place, temporary, commands, tally)
            print(f"undisturbed: {time.monotonic() - start:.0f} s", flush=True)
            for number, attack in enumerate(attacks):
                if time.monotonic() - start > 60 * options.minutes:
                    print(f"out of time after {number} kills")
                    break
                own = random.Random(f"{options.seed}-{number}")  # noqa: S311
                faults = arena.attack(attack, own)
                tally.attacks[attack.engine, attack.target, attack.moment] += 1
                tally.faults += [f"#{number} {attack}: {fault}" for fault in faults]
                kept = tally.resumed[-1]
                print(f"#{number} {attack}: {kept} kept, {faults or 'ok'}", flush=True)
    report(tally, time.monotonic() - start)
    return int(bool(tally.faults))


def report(tally: Tally, seconds: float) -> None:
    """Print the outcomes."""
    kills = sum(tally.attacks.values())
    print(f"\n{kills} kills in {seconds / 60:.0f} min; exit statuses {dict(tally.endings)}")
    print(f"records when killed: {sorted(tally.resumed)}")
    print(f"unfinished files caught: {tally.caught}")
    print(f"{'engine':8} {'target':8} {'moment':8} kills")
    for (engine, target, moment), count in sorted(tally.attacks.items()):
        print(f"{engine:8} {target:8} {moment:8} {count}")
    for name, values in sorted(tally.seconds.items()):
        middle = statistics.median(values)
        print(f"end after {name}: median {middle:.1f} s, largest {max(values):.1f} s")
    print(f"{len(tally.faults)} faults")
    for fault in tally.faults:
        print(fault)


if __name__ == "__main__":
    sys.exit(main())
