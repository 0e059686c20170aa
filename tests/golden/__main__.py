"""Compute all golden values anew: ``python -m tests.golden --reason "what moved them"``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from . import kept
from .cases import fit_cases, model_cases, write_models
from .commands import COMMANDS, has_real_files, run_commands


def moved(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Cases whose hashes are others or that are gone; cases that are new do not count."""
    return [
        f"{kind}/{name}"
        for kind in ("estimators", "commands")
        for name, value in before.get(kind, {}).items()
        if after[kind].get(name, {}).get("sha256") != value["sha256"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--reason", help="why bits moved; goes to CHANGES.md")
    reason = parser.parse_args().reason
    if not all(has_real_files(one.real) for one in COMMANDS.values()):
        sys.exit("set RCML_MISA_DATA to the folder with the real data sets: some cases need them.")
    before = kept.read_values() if kept.VALUES.exists() else {}
    for name in write_models():
        sys.stdout.write(f"model file written: {name}\n")
    found = {name: case() for name, case in (fit_cases() | model_cases()).items()}
    with tempfile.TemporaryDirectory() as folder:
        written = run_commands(Path(folder))
    after = {
        "fingerprint": kept.fingerprint(),
        "estimators": found,
        "commands": {name: kept.command_value(one) for name, one in written.items()},
    }
    changed = moved(before, after)
    if changed and not reason:
        sys.exit("these moved; say why with --reason:\n" + "\n".join(changed))
    kept.VALUES.write_text(kept.rendered(after) + "\n", encoding="utf-8")
    kept.RECORDS.mkdir(exist_ok=True)
    for path in kept.RECORDS.glob("*.json"):
        path.unlink()
    for name, one in written.items():
        path = kept.RECORDS / f"{name}.json"
        path.write_text(kept.rendered(one) + "\n", encoding="utf-8")
    if changed:
        with kept.CHANGES.open("a", encoding="utf-8") as stream:
            stream.write(f"\n## {reason}\n\n" + "".join(f"- {one}\n" for one in changed))
    sys.stdout.write(f"{len(found) + len(written)} cases, {len(changed)} moved\n")


if __name__ == "__main__":
    main()
