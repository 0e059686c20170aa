"""Records of runs, written whole or not at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np

from rcml_misa.exceptions import DataError
from rcml_misa.storage import write_text

__all__ = ["LEAKS", "RunRecord", "RunStore", "label", "plain", "record_stem"]

SCHEMA = 2
LEAKS = "†"  # marks what test rows had a say in


def label(method: str, variant: str, *, leaky: bool) -> str:
    """Name a variant in a table.

    Examples
    --------
    >>> label("rcml", "mean", leaky=False), label("lda", "-", leaky=True)
    ('rcml mean', 'lda †')
    """
    words = [method, *([variant] if variant != "-" else []), *([LEAKS] if leaky else [])]
    return " ".join(words)


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
    config : dict
        The estimator's full parameters.
    versions : dict
        Versions of the package, Python and its libraries.
    data_sha256 : str
        Checksum of the data file.
    train_rows, test_rows : int
    metrics : dict
        Test set to measure to value; accuracy is a fraction.
    bins : dict
        Test set to ``count``, ``confidence`` and ``correct``, sums over equal bins of confidence.
    timing : dict
        ``fit_seconds`` and ``predict_seconds``.
    history : dict
        Loss terms per epoch.
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
    schema: int = SCHEMA

    @property
    def label(self) -> str:
        """Method and variant, the latter where there are several, and a mark if it leaks."""
        return label(self.method, self.variant, leaky=self.leaky)

    @property
    def leaky(self) -> bool:
        """Whether test rows decided anything, by scaling or by selection."""
        chosen = self.protocol.get("selection") == "best-test-epoch"
        return bool(self.config.get("leaky")) or chosen

    def to_json(self) -> str:
        """Write strict JSON; NaN becomes null."""
        return json.dumps(plain(asdict(self)), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote; null metrics become NaN.

        Raises
        ------
        DataError
            If the text is no record of this schema.
        """
        try:
            fields = json.loads(text)
            if fields["schema"] != SCHEMA:
                raise DataError(
                    f"a run's record has schema {fields['schema']}, not {SCHEMA}: another version "
                    "wrote it; give another folder of records."
                )
            for name in ("metrics", "scores"):
                fields[name] = _with_nan(fields[name])
            return cls(**fields)
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise DataError(f"this is not a run's record: {error}.") from error


def _with_nan(value: Any) -> Any:
    """Turn the nulls of nested mappings into NaN again."""
    if isinstance(value, Mapping):
        return {name: _with_nan(part) for name, part in value.items()}
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
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)


def record_stem(dataset: str, method: str, variant: str, seed: int) -> str:
    """Name a run's files, without their endings.

    Examples
    --------
    >>> record_stem("PIE", "my.module:Mine", "-", 0)
    'PIE-my.module_Mine---seed0'
    """
    return re.sub(r"[/:]", "_", f"{dataset}-{method}-{variant}-seed{seed}")


class RunStore:
    """A folder of run records, one JSON file each.

    Parameters
    ----------
    folder : Path
        Made if it does not exist.

    Raises
    ------
    DataError
        If the folder can't be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".probe"
            probe.write_text("x", encoding="utf-8")
            probe.unlink()
        except OSError as error:
            reason = error.strerror or str(error)
            raise DataError(
                f"the output folder {folder} can't be written to ({reason}); give another --out."
            ) from error

    def write(self, record: RunRecord) -> Path:
        """Write one record; an earlier one of the same run is replaced."""
        name = record_stem(record.dataset, record.method, record.variant, record.seed)
        path = self.folder / f"{name}.json"
        write_text(path, record.to_json(), remedy="free some space or give another --out folder")
        return path

    def read(self) -> list[RunRecord]:
        """Read all records of the folder, by file name."""
        paths = sorted(self.folder.glob("*-seed*.json"))
        return [RunRecord.from_json(path.read_text(encoding="utf-8")) for path in paths]
