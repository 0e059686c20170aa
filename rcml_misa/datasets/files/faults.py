"""What libraries say of a damaged file, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rcml_misa.exceptions import DataError, RcmlMisaError, shortened

__all__ = ["readable"]


@contextmanager
def readable(path: Path, *, table: bool = False) -> Iterator[None]:
    """Turn what a library says of a damaged file into one sentence."""
    try:
        yield
    except RcmlMisaError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not text in UTF-8 ({error.reason}) but perhaps in an older code such as "
            "Latin-1; save it as UTF-8, in Excel as 'CSV UTF-8'."
        ) from error
    except Exception as error:  # a damaged file makes these libraries fail in many ways
        cause = shortened(error, 160) or type(error).__name__
        if isinstance(error, OSError) and error.strerror:
            cause = error.strerror
        if "allow_pickle" in cause:
            cause = "it holds objects, which could execute code; save plain arrays"
        wrong = table and isinstance(error, ValueError | IndexError)
        problem = "is no whole table" if wrong else "can't be read"
        raise DataError(f"{path} {problem} ({cause}); check the file.") from error
