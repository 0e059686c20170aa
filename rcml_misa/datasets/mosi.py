"""CMU-MOSI at utterance level, assembled from three public sources and kept as one npz."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.resources import files
from io import StringIO
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from rcml_misa.datasets.dataset import Dataset
from rcml_misa.datasets.files.hdf5 import opened_hdf5
from rcml_misa.exceptions import DataError, OptionError, nearest
from rcml_misa.storage import whole_file
from rcml_misa.views import MultiView, Sequences, Texts

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from rcml_misa.datasets.catalogue import CatalogueEntry

__all__ = ["assemble", "load_mosi"]

SPLITS = {"MOSI": "poria", "MOSI-words": "standard"}
SLACK = 0.05  # seconds by which a word may cross its segment's ends
FOLDS = ("train", "valid", "test")
FORMAT = 2  # raised when the assembly changes, so that an old npz is not taken
LEAK = (
    "MOSI's text and video columns are activations of networks that were trained on the labels of "
    "the Poria train videos, most of which are test videos of the standard split (a linear probe "
    "gets 0.98 there and 0.74 on unseen videos); use the split poria, or the data set MOSI-words, "
    "whose views do not leak."
)

# the transcripts are in capitals without apostrophes; these words can be nothing else
CONTRACTIONS = {
    word.replace("'", ""): word
    for word in """ain't aren't can't couldn't couldn't've didn't doesn't don't hadn't hasn't
    haven't he's i'm i've isn't it'll let's she's should've shouldn't that's there's they'll
    they're they've wasn't we've weren't what's won't would've wouldn't you'll you're
    you've""".upper().split()
}

Arrays = dict[str, NDArray[Any]]


def load_mosi(
    entry: CatalogueEntry, paths: Mapping[str, Path], *, split: str | None, folder: Path
) -> Dataset:
    """Read CMU-MOSI with its sentiment as the target of a regression; `as_task` cuts classes.

    The source files are given by role, and the assembled npz is kept in `folder`. No such split, or
    one that would leak labels, is an OptionError.
    """
    chosen = split or SPLITS[entry.name]
    if chosen not in SPLITS.values():
        way_out = nearest(chosen, SPLITS.values())
        raise OptionError(f"{entry.name} has no split {chosen!r}; {way_out}")
    leaky = entry.name == "MOSI"
    if leaky and chosen == "standard":
        raise OptionError(f"split 'standard' is refused: {LEAK}")
    arrays = _assembled(folder / f"mosi-{FORMAT}-{entry.sha256[:16]}.npz", paths)
    views: dict[str, Any] = {view: arrays[view] for view in entry.views}
    if not leaky:
        views["words"] = Texts(arrays["words"])
        views["timing"] = Sequences(arrays["timing"], arrays["lengths"])
    parts = arrays[chosen]
    return Dataset(
        entry.name,
        MultiView(views),
        arrays["scores"],
        (),
        entry.sha256,
        str(next(iter(paths.values())).parent),
        task="regression",
        groups=arrays["groups"],
        folds={name: np.flatnonzero(parts == name) for name in FOLDS if name in parts},
        valid_from="test" if leaky else "train",
        scores=arrays["scores"],
        ids=arrays["ids"],
    )


def _assembled(path: Path, paths: Mapping[str, Path]) -> Arrays:
    """Read the assembled arrays from the cache, or assemble them; a cache may be read-only."""
    damaged = (OSError, ValueError, EOFError, KeyError, BadZipFile)
    with suppress(*damaged), np.load(path, allow_pickle=False) as content:
        return dict(content.items())
    arrays = assemble(paths)
    with suppress(DataError), whole_file(path, make_folder=True) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    return arrays


def assemble(paths: Mapping[str, Path]) -> Arrays:
    """Join the sources by utterance, ``<video>_<segment>``, in the order of the feature files.

    The arrays are ``ids``, ``groups`` (videos), ``scores``, ``poria`` and ``standard`` (each row's
    fold), ``text``, ``audio``, ``video``, ``words``, ``timing`` (n, T, 4) and ``lengths``. Sources
    that are damaged or do not describe the same utterances are a DataError.
    """
    try:
        return _assemble(paths)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise DataError(
            f"the sources of MOSI do not fit together ({type(error).__name__}: {error}); fetch "
            "them again with `rcml-misa datasets fetch MOSI`."
        ) from error


def _assemble(paths: Mapping[str, Path]) -> Arrays:
    listed = list(csv.reader(StringIO(paths["transcripts"].read_text("latin-1"))))
    rows: list[list[str]] = []
    poria: list[str] = []
    columns = {}
    for part in ("train", "test"):
        index = csv.reader(StringIO(paths[f"text_{part}_index"].read_text("utf-8")))
        rows += [listed[int(row[0])] for row in index]
        poria += [part] * (len(rows) - len(poria))
    for view in ("text", "audio", "video"):
        halves = (paths[f"{view}_train"], paths[f"{view}_test"])
        tables = [np.loadtxt(path, delimiter=",", quotechar='"') for path in halves]
        columns[view] = np.concatenate(tables)
    ids = [row[0] for row in rows]
    spoken = _sentiment([paths[f"sentiment_{part}"] for part in ("train", "test", "ref")])
    if len(set(ids)) != len(ids) or set(ids) != set(spoken):
        raise DataError("the utterances of MOSI's features and of its sentiment file differ.")
    scores = np.array([spoken[key][1] for key in ids])
    labels = [np.array([int(row[3]) for row in rows]), *(t[:, -1] for t in columns.values())]
    if any((column != (scores >= 0)).any() for column in labels):
        raise DataError("the labels of MOSI's features and of its sentiment file differ.")
    split = files("rcml_misa.datasets").joinpath("mosi_standard_split.csv")
    folds = {row["video_id"]: row["part"] for row in _records(split)}
    videos = [key.rpartition("_")[0] for key in ids]
    timing = _timing(paths["words"], _segments(paths["segments"]), ids)
    padded = Sequences.from_list(timing)
    return {
        "ids": np.array(ids),
        "groups": np.array(videos),
        "scores": scores,
        "poria": np.array(poria),
        "standard": np.array([folds[video] for video in videos]),
        **{view: table[:, :-1] for view, table in columns.items()},
        "words": np.array([spoken[key][0] for key in ids]),
        "timing": padded.values,
        "lengths": padded.lengths,
    }


def _records(path: Path | Traversable) -> Iterator[dict[str, str]]:
    return csv.DictReader(StringIO(path.read_text("utf-8")))


def _sentiment(paths: Sequence[Path]) -> dict[str, tuple[str, float]]:
    """Read transcripts, with single spaces and apostrophes, and sentiment by utterance."""
    spoken = {}
    for row in chain.from_iterable(map(_records, paths)):
        words = (CONTRACTIONS.get(word, word) for word in row["utterance"].split())
        key = f"{row['video_id']}_{int(float(row['utterance_idx']))}"
        spoken[key] = " ".join(words), float(row["sentiment"])
    return spoken


def _segments(path: Path) -> dict[str, tuple[float, float]]:
    """Read start and end in seconds by utterance; the published file has an empty second line."""
    return {
        f"{row['video_id']}_{row['segment']}": (
            round(float(row["start"]), 6),
            round(float(row["end"]), 6),
        )
        for row in _records(path)
        if row["segment"]
    }


def _timing(
    path: Path, segments: Mapping[str, tuple[float, float]], ids: Sequence[str]
) -> list[NDArray[np.float64]]:
    """Describe each utterance's words by rows of duration, pause before, pause after and pace.

    Seconds, but for the pace, which is seconds per letter. A pause is whatever lies between two
    words, or between a word and its segment's end.
    """
    with opened_hdf5(path) as (store, _):
        videos = store["CMU_MOSI_ModifiedTimestampedWords/data"]

        @cache
        def spoken(video: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
            tokens = np.char.decode(videos[video]["features"][:, 0], "utf-8")
            times = np.asarray(videos[video]["intervals"], dtype=np.float64)
            real = tokens != "sp"
            return tokens[real], times[real]

        timing = []
        for key in ids:
            tokens, times = spoken(key.rpartition("_")[0])
            start, end = segments[key]
            inside = (times[:, 0] >= start - SLACK) & (times[:, 1] <= end + SLACK)
            if not inside.any():
                raise DataError(f"segment {key} of MOSI holds no word.")
            begins, ends = times[inside].T
            before = begins - np.concatenate([[start], ends[:-1]])
            after = np.concatenate([begins[1:], [end]]) - ends
            length = ends - begins
            pace = length / np.char.str_len(tokens[inside])
            timing.append(np.stack([length, before.clip(0), after.clip(0), pace], axis=1))
    return timing
