"""Run the command line by `python -m rcml_misa`, without modules of the current folder."""

import os
import sys

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        _HERE = sys.path.pop(0)  # Python puts it first, where its files would stand in for others
        if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) == os.getcwd():
            sys.path.append(_HERE)  # the package itself is read from there
    from rcml_misa.cli import main

    main()
