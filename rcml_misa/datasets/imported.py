"""Data sets that a user brought as other projects' files: imported once, then found by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from rcml_misa.datasets.catalogue import (
    CatalogueEntry,
    imported_entry,
    imported_file,
    list_catalogue,
    list_own,
    write_imported,
)
from rcml_misa.datasets.dataset import Dataset
from rcml_misa.datasets.foreign.layout import FOLDS, read_words, words, write_npz
from rcml_misa.datasets.foreign.readers import read_mmsa, read_urfunny
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.storage import file_sha256, files_sha256
from rcml_misa.views import MultiView, Sequences, Texts, TokenTexts

__all__ = ["ImportReport", "TextForm", "import_dataset", "load_imported"]

TextForm = Literal["states", "tokens", "raw"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: sha256 of the published files -> their names.
PUBLISHED = {
    "78e0f8b5ef8ff71558e7307848fc1fa929ecb078203f565ab22b9daab2e02524": "MOSI/unaligned_50.pkl",
    "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9": "MOSI/aligned_50.pkl",
    "ad8b23d50557045e7d47959ce6c5b955d8d983f2979c7d9b7b9226f6dd6fec1f": "MOSEI/unaligned_50.pkl",
    "45eccfb748a87c80ecab9bfac29582e7b1466bf6605ff29d3b338a75120bf791": "MOSEI/aligned_50.pkl",
    "c9e20c13ec0454d98bb9c1e520e490c75146bfa2dfeeea78d84de047dbdd442f": "SIMS/unaligned_39.pkl",
}


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Outcome of an import: the record of the new set, its npz, and what was read.

    `rows` counts the samples of each fold, `steps` the most steps of a sample by sequence view,
    `mended` the values of each view that were NaN or infinite and are 0 now. `published` names the
    published file that the source is, if it is one; `source_sha256` is the hash of a file, or of
    the lines "file sha256" of a folder's files; `notes` tell oddities.
    """

    entry: CatalogueEntry
    path: Path
    rows: Mapping[str, int]
    steps: Mapping[str, int]
    source_sha256: str
    published: str
    mended: Mapping[str, int]
    notes: tuple[str, ...]


def import_dataset(
    path: Path,
    name: str,
    *,
    text: TextForm = "states",
    context: bool = False,
    leave_out_incomplete: bool = False,
    replace: bool = False,
) -> ImportReport:
    """Read MMSA's pickle or UR_FUNNY's folder, and keep it as npz under a name of its own.

    The text view has the stored vectors of each word ("states"), the token numbers of the file for
    a pretrained encoder ("tokens"), or the words ("raw"). `context` and `leave_out_incomplete` are
    UR_FUNNY's, see `read_urfunny`; with `replace` an earlier import of that name is replaced. A
    name that is taken or no name, and a text that is not there, are an OptionError; a file that
    can't be read or is of another layout is a DataError.
    """
    if not NAME.fullmatch(name):
        raise OptionError(
            f"{name!r} is no name for a data set; use letters, digits, '.', '-', '_'."
        )
    if name in {entry.name for entry in list_catalogue()} | list_own().keys():
        raise OptionError(f"there is a data set {name} already; import it under another name.")
    if text not in get_args(TextForm):
        raise OptionError(f"text={text!r} does not exist; {nearest(text, get_args(TextForm))}")
    if imported_entry(name) is not None and not replace:
        raise OptionError(f"{name} was imported before; choose another name or add --replace.")
    if not path.exists():
        raise DataError(f"{path} does not exist; give MMSA's pickle or UR_FUNNY's folder.")
    if path.is_dir():
        content = read_urfunny(path, context=context, leave_out_incomplete=leave_out_incomplete)
        source = files_sha256(sorted(path.glob("*.pkl")))
    else:
        content = read_mmsa(path)
        source = file_sha256(path)
    if text == "tokens" and "tokens" not in content.others:
        raise OptionError(f"{path} has no token numbers (text_bert); use --text states or raw.")
    if text == "raw" and not any(content.texts):
        raise OptionError(f"{path} has no words; use --text states.")
    about = {
        "layout": content.layout,
        "text": text,
        "views": list(content.views),
        "classes": content.classes,
        "limit": content.limit,
        "rows": dict(content.rows),
        "source": str(path),
        "source_sha256": source,
    }
    file = imported_file(name)
    counts = write_npz(file, {**content.members(), "about": words([json.dumps(about)])})
    folds = ", ".join(f"{content.rows[fold]} {fold}" for fold in FOLDS)
    table = {
        "format": "imported",
        "views": dict(content.views) if text == "states" else {**content.views, "text": 1},
        "samples": len(content.ids),
        "classes": len(content.classes),
        "licence": "see source",
        "citation": content.citation,
        "note": f"{content.title}, imported; {folds}",
        "sha256": file_sha256(file),
        "file": f"{file.parent.name}/{file.name}",
    }
    return ImportReport(
        entry=write_imported(name, table),
        path=file,
        rows=content.rows,
        steps={view: int(lengths.max()) for view, lengths in content.lengths.items()},
        source_sha256=source,
        published=PUBLISHED.get(source, ""),
        mended={key.partition(".")[2]: count for key, count in counts.items() if count},
        notes=content.notes,
    )


def load_imported(entry: CatalogueEntry, path: Path) -> Dataset:
    """Load the npz of an imported set; one that no import wrote is a DataError."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(read_words(arrays["about"])[0])
            views = {name: _view(name, arrays, about) for name in about["views"]}
            fold, target = arrays["fold"], arrays["target"]
            ids = np.array(read_words(arrays["ids"]))
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(f"{path} is no imported data set ({error}); import it again.") from error
    regression = not about["classes"]
    target = target.astype(np.float64) if regression else target
    return Dataset(
        entry.name,
        MultiView(views),
        target,
        tuple(about["classes"]),
        entry.sha256,
        str(path),
        task="regression" if regression else "classification",
        groups=np.array([name.partition("$_$")[0] for name in ids]) if regression else None,
        folds={name: np.flatnonzero(fold == number) for number, name in enumerate(FOLDS)},
        scores=target.copy() if regression else None,
        score_limit=float(about["limit"]),
        ids=ids,
    )


def _view(name: str, arrays: Any, about: Mapping[str, Any]) -> Any:
    if name == "text" and about["text"] != "states":
        texts = read_words(arrays["texts"])
        if about["text"] == "raw":
            return Texts(texts)
        ids, mask = arrays["tokens"][:, 0], arrays["tokens"][:, 1]
        return TokenTexts(texts, [row[used > 0] for row, used in zip(ids, mask, strict=True)])
    steps, lengths = arrays[f"steps.{name}"], arrays[f"lengths.{name}"]
    if steps.ndim == 3:
        return Sequences(steps, lengths)
    if steps.ndim == 1:  # numbers of words
        steps = arrays["vectors"][steps]
    # the steps of all samples lie under each other
    inside = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros((*inside.shape, steps.shape[1]), dtype=steps.dtype)
    padded[inside] = steps
    return Sequences(padded, lengths)
