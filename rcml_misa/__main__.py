"""Run the command line by `python -m rcml_misa`."""

from rcml_misa.cli import main

if __name__ == "__main__":
    main()
