"""The record of a run: its content, its key, and the checks of one that is read."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NoReturn, Self

import numpy as np

from rcml_misa.exceptions import DataError, shortened, validated

__all__ = ["AFTER_SCALING", "LEAKS", "RunRecord", "plain", "run_key", "variant_label"]

SCHEMA = 2
LARGEST = sys.float_info.max
SEAL = "content_sha256"  # key of a record's JSON beside the fields: the sha256 of all of them
SUMS = {"count", "confidence", "correct"}  # of each bin of confidence
#: Fields of numbers, whose nulls are NaN.
NUMBERS = ("metrics", "timing", "bins", "history", "scores", "curves", "checkpoints")
#: Fields that say what a run is; its key is their hash. Versions and times are not among them.
IDENTITY = ("dataset", "method", "variant", "config", "data_sha256", "run", "seed", "protocol")
LEAKS = "†"  # marks what test rows had a say in
AFTER_SCALING = " after scaling"  # ends a test set's name where its bins are of scaled answers


def variant_label(method: str, variant: str, *, leaky: bool) -> str:
    """Name a variant in a table: the method, its variant if it has some, a mark if it leaks.

    Examples
    --------
    >>> variant_label("rcml", "mean", leaky=False), variant_label("lda", "-", leaky=True)
    ('rcml mean', 'lda †')
    """
    words = [method, *([variant] if variant != "-" else []), *([LEAKS] if leaky else [])]
    return " ".join(words)


def run_key(**identity: Any) -> str:
    """Hash what a run is: its data set, method, options, data, seed and protocol.

    Parameters
    ----------
    **identity : Any
        The fields `dataset`, `method`, `variant`, `config`, `data_sha256`, `run`, `seed` and
        `protocol` of a `RunRecord`.

    Returns
    -------
    str
        Hexadecimal sha256, the same for a run that is planned and for the record that it wrote.
    """
    content = {name: identity[name] for name in IDENTITY}
    return _canonical_sha256(plain(content))


def _canonical_sha256(content: Any) -> str:
    """Hash plain values, whatever the order of their names."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training of one variant, and its scores.

    Every record has every field. Where scores are predicted, the fields about classes (`bins`,
    `correct`, `scores`, `curves`) are empty, and ``"valid"`` stands among the test sets of
    `metrics` for the rows held back.

    Attributes
    ----------
    dataset, method, variant : str
    default : bool
        Whether this variant is the method's recommended one.
    run, seed : int
        Number from 0, and the seed of split, corruption and model.
    config, versions : dict
        The estimator's full parameters; versions of the package, Python and its libraries.
    data_sha256 : str
        Checksum of the data file.
    train_rows, test_rows : int
    metrics : dict
        Test set to measure to value; accuracy is a fraction.
    timing, history : dict
        ``fit_seconds`` and ``predict_seconds``; loss terms per epoch.
    bins : dict
        Test set to ``count``, ``confidence`` and ``correct``, sums over equal bins of confidence;
        with `AFTER_SCALING` behind its name those after temperature scaling on rows held back.
    protocol : dict
        The whole protocol, its split settled for the data set.
    rows : list of int
        Numbers of the test rows.
    correct : dict of str to str
        Test set to one digit per test row, 1 where the answer is right.
    scores : dict
        Test set to the rows to be told apart (``errors``, ``altered``, ``held_out``), to
        uncertainty score, to ``auroc``, ``aupr`` and ``fpr95``.
    curves : dict
        Test set to the risk at each of `rcml_misa.metrics.answers.COVERAGES`.
    checkpoints : dict
        Epoch to test set to accuracy.
    chosen : dict
        ``valid``, or test sets for ``best-test-epoch``, to the epoch that counts.
    failures : dict
        Test set to the sentence that says why there is no answer.
    outputs : dict
        What the run left beside its scores (``per_epoch``, ``samples``, ``features``, and what
        was kept for figures) to the sha256 of the file beside the record, or to "" if it stands
        in `history`.
    """

    dataset: str
    method: str
    variant: str
    default: bool
    run: int
    seed: int
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    data_sha256: str
    train_rows: int
    test_rows: int
    metrics: Mapping[str, Mapping[str, float]]
    timing: Mapping[str, float]
    bins: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)
    history: Mapping[str, Sequence[float]] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[int] = field(default_factory=list)
    correct: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = field(
        default_factory=dict
    )
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    checkpoints: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """Method, variant where there are several, and a mark if test rows decided anything."""
        return variant_label(self.method, self.variant, leaky=self.leaky)

    @property
    def key(self) -> str:
        """Hexadecimal sha256 of what the run is; see `run_key`."""
        return run_key(**{name: getattr(self, name) for name in IDENTITY})

    @property
    def leaky(self) -> bool:
        """Whether test rows decided anything, by scaling or by selection."""
        chosen = self.protocol.get("selection") == "best-test-epoch"
        return bool(self.config.get("leaky")) or chosen

    def to_json(self) -> str:
        """Write strict JSON with the sha256 of its content; NaN becomes null."""
        fields = plain(asdict(self))
        sealed = {SEAL: _canonical_sha256(fields), **fields}
        return json.dumps(sealed, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, sealed: bool = False) -> Self:
        """Read what `to_json` wrote; null numbers become NaN.

        Parameters
        ----------
        text : str
        sealed : bool
            Whether to refuse a record without the sha256 of its content, as 0.1 wrote them.

        Raises
        ------
        DataError
            If the text is no record of this schema, a value is out of its range, or its content
            is not that of its sha256.
        """
        try:
            fields = json.loads(text, parse_constant=_refuse_constant)
            if not isinstance(fields, dict):
                raise DataError(f"it is no table but {shortened(repr(fields), 60)}")
            seal = fields.pop(SEAL, None)
            if fields.get("schema") != SCHEMA:
                schema = shortened(repr(fields.get("schema")), 40)
                raise DataError(f"its schema is {schema}, not {SCHEMA}: another version wrote it")
            if seal != _canonical_sha256(fields) and (sealed or seal is not None):
                raise DataError("its content does not have the checksum that it states")
            fields |= {name: _with_nan(fields[name]) for name in NUMBERS if name in fields}
            checked = fields
            if "\\ud" in text:  # half a character, of a file's name, is no text of strict JSON
                whole = json.dumps(fields, ensure_ascii=False).encode(errors="replace")
                checked = json.loads(whole)
            validated(cls, checked, where="it")
            record = cls(**fields)
            record._check()
        # json names no kind of its own for depth, huge numbers and NaN
        except (ValueError, RecursionError, OverflowError) as error:
            raise DataError(
                f"this is not a run's record: {shortened(str(error).rstrip('.'), 140)}; give "
                "another file, or run it again."
            ) from error
        return record

    def _check(self) -> None:
        """Refuse with `DataError` values that no run has; their types are checked."""
        for name in ("run", "seed", "train_rows", "test_rows"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is below 0")
        if not self.metrics:
            raise DataError("it has no measures")
        if self.rows and len(self.rows) != self.test_rows:
            raise DataError(f"it has {len(self.rows)} rows and test_rows={self.test_rows}")
        for name, digits in self.correct.items():
            if len(digits) != self.test_rows or set(digits) - {"0", "1"}:
                raise DataError(f"correct.{name} is not one digit 0 or 1 per test row")
        for name, sums in self.bins.items():
            if set(sums) != SUMS or len(set(map(len, sums.values()))) > 1:
                raise DataError(f"bins.{name} is not {', '.join(sorted(SUMS))} of equal length")
        for name in NUMBERS:
            for path, number in _leaves(getattr(self, name), (name,)):
                low, high = _limits(path)
                if not (math.isnan(number) or low <= number <= high):
                    raise DataError(f"{'.'.join(path)}={number:g} is not in [{low:g}, {high:g}]")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _leaves(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Iterate over the numbers of nested tables and lists, with the keys that lead to them."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    elif isinstance(value, Sequence):
        for part in value:
            yield from _leaves(part, path)
    else:
        yield path, float(value)


def _limits(path: Sequence[str]) -> tuple[float, float]:
    """Least and largest value of a number of a record."""
    name = path[-1]
    accuracy = name.startswith("acc") and name != "accuracy_change"  # acc2, accuracy_copied, ...
    if path[0] in ("curves", "checkpoints") or accuracy or name in ("auroc", "aupr", "fpr95"):
        return 0.0, 1.0
    return (0.0 if path[0] in ("timing", "bins") else -LARGEST), LARGEST


def _with_nan(value: Any) -> Any:
    """Turn the nulls of nested tables and lists into NaN again."""
    if isinstance(value, dict):
        return {name: _with_nan(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_with_nan(part) for part in value]
    return math.nan if value is None else value


def plain(value: Any) -> Any:
    """Make a value that strict JSON can hold: NaN becomes None, tuples lists, objects text.

    Examples
    --------
    >>> plain({"a": (1, float("nan"))})
    {'a': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
