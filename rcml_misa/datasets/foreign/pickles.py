"""Reading a pickle that somebody else wrote, without running anything of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rcml_misa.datasets.foreign.machine import Machine
from rcml_misa.datasets.foreign.operations import survey
from rcml_misa.datasets.foreign.source import RefusedError, Source
from rcml_misa.datasets.foreign.steps import run
from rcml_misa.exceptions import DataError

__all__ = ["read_pickle"]

# files that are sometimes taken for pickles, by how they begin
OTHERS = {
    b"PK\x03\x04": "a zip archive, such as PyTorch's and npz files are",
    b"\x1f\x8b": "compressed by gzip",
    b"\x89HDF": "an HDF5 file",
}


def read_pickle(path: Path) -> Any:
    """Read a pickle of NumPy arrays and plain containers; refuse any other.

    Nothing is imported or called by the file's wish: the operations of protocols 0 to 5 are
    carried out by a machine of this package, which knows NumPy's arrays, numbers and element
    types, None, bool, int, float, str, bytes, list, tuple, dict, OrderedDict, set and frozenset,
    as Python 2 and 3 write them. Arrays share the file's bytes where these stand there as they
    are; a list of floats comes as a `FloatList`, at eight bytes a float. What is built takes at
    most one and a half times the file's size, or 256 MiB.

    Parameters
    ----------
    path : Path

    Returns
    -------
    object
        Text of Python 2 is taken for UTF-8 where it is, else for Latin-1. Arrays can't be
        written to; do not change the file while they are used.

    Raises
    ------
    DataError
        If the file can't be opened, is damaged, holds anything else, contains itself, or needs
        more memory than that.

    Examples
    --------
    >>> import pickle, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "features.pkl"
    ...     _ = path.write_bytes(pickle.dumps({"id": ["a$_$1"], "label": 0.5}))
    ...     read_pickle(path)
    {'id': ['a$_$1'], 'label': 0.5}
    """
    try:
        if not path.is_file() or not path.stat().st_size:
            raise DataError(f"{path} is no file with content; give a pickle of features.")
        source = Source(path)
    except OSError as error:
        raise DataError(f"{path} can't be read ({error.strerror}); check its rights.") from error
    try:
        for head, words in OTHERS.items():
            if source.map[: len(head)] == head:
                raise RefusedError(f"is {words}")
        return run(Machine(source, wanted=survey(source)))
    except RefusedError as error:
        reason = str(error)
    except MemoryError:
        reason = "needs more memory than there is"
    except (ValueError, TypeError, OverflowError):
        reason = "is damaged: a value does not fit its place"
    raise DataError(
        f"{path} is not read because it {reason}; such a file may hold NumPy arrays and plain "
        "containers only, so check where it comes from or fetch it again."
    )
