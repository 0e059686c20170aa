"""The command line in a process of its own: `rcml-misa`, or `python -m rcml_misa`."""

import os
import sys

__all__ = ["start"]


def start() -> None:
    """Carry out one command and end the process."""
    from rcml_misa.cli import main
    from rcml_misa.runs.interrupts import one_command

    one_command()
    main()


if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        _HERE = sys.path.pop(0)  # Python puts it first, where its files would stand in for others
        if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) == os.getcwd():
            sys.path.append(_HERE)  # the package itself is read from there
    start()
