"""Carry out command lines one after the other in one process, as ``python -m rcml_misa`` would."""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Read a list of argv and file names from stdin; write each command's output to its file."""
    for plan in json.load(sys.stdin):
        sys.argv = ["rcml-misa", *plan["argv"]]
        with (
            Path(plan["stdout"]).open("w", encoding="utf-8") as stream,
            contextlib.redirect_stdout(stream),
        ):
            try:
                runpy.run_module("rcml_misa", run_name="__main__", alter_sys=True)
                status = 0
            except SystemExit as end:
                status = end.code or 0
        Path(plan["stdout"] + ".status").write_text(str(status), encoding="utf-8")


if __name__ == "__main__":
    main()
