"""What networks read of views of any kind: scaled columns, padded sequences, token numbers."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.exceptions import DataError
from rcml_misa.nn.encoders import (
    Padded,
    SequenceEncoderKind,
    TableEncoder,
    ViewEncoder,
    ViewInput,
    WordEncoder,
    sequence_encoder,
)
from rcml_misa.nn.pretrained import (
    Precision,
    PretrainedText,
    half_precision,
    load_tokenizer,
    split_frozen,
)
from rcml_misa.reading.features import FeatureMap, Features, Scaling
from rcml_misa.views import MultiView, Sequences, Texts, TokenTexts, ViewArray, dense

__all__ = ["InputOptions", "PreparedViews", "ViewReaders"]

CLIP = 5.0  # standard deviations of a step's column
LONGEST = 256  # tokens of a text; more are cut off
KEPT = 500_000  # tokens whose frozen states are kept; more are worked out batch by batch
EMBEDDING = 64  # width of a trained word embedding
RARE = 2  # words seen less often on train rows share one number
WORD = re.compile(r"\w+(?:'\w+)?")


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """How views are read; the estimators' parameters of the same names say more."""

    scaling: Scaling
    features: Features
    sequence_encoder: SequenceEncoderKind
    sequence_hidden: int
    text_encoder: str
    text_layers: int | None
    precision: Precision


class _Reader(ABC):
    """Turns one view's rows into what its encoder reads; fitted on train rows."""

    @abstractmethod
    def read(self, view: Any) -> _Rows:
        """Prepare the rows of a view."""

    @abstractmethod
    def encoder(self) -> ViewEncoder:
        """Make a new encoder for such rows."""


class _Rows:
    """Prepared rows: columns (n, d), or padded values with lengths."""

    def __init__(self, values: Tensor, lengths: Tensor | None = None) -> None:
        self.values = values
        self.lengths = lengths

    def batch(self, rows: NDArray[np.int64]) -> ViewInput:
        if self.lengths is None:
            return self.values[rows]
        lengths = self.lengths[rows]
        return Padded(self.values[rows, : int(lengths.max())], lengths)


class _TableReader(_Reader):
    def __init__(self, view: ViewArray, how: InputOptions) -> None:
        self.map = FeatureMap.fit(view, scaling=how.scaling, features=how.features)
        self.width = self.map.transform(dense(view, slice(0, 1))).shape[1]

    def read(self, view: ViewArray) -> _Rows:
        return _Rows(torch.from_numpy(self.map.transform(dense(view)).astype(np.float32)))

    def encoder(self) -> ViewEncoder:
        return TableEncoder(self.width)


class _SequenceReader(_Reader):
    """Columns standardised over all steps of the train rows."""

    def __init__(self, view: Sequences, how: InputOptions) -> None:
        self.how = how
        steps = view.values[_inside(view)]
        self.mean = steps.mean(axis=0)
        spread = steps.std(axis=0)
        self.spread = np.where(spread > 1e-9 * np.abs(steps).max(axis=0), spread, 1.0)

    def read(self, view: Sequences) -> _Rows:
        scaled = np.clip((view.values - self.mean) / self.spread, -CLIP, CLIP)
        scaled[~_inside(view)] = 0.0
        return _Rows(torch.from_numpy(scaled.astype(np.float32)), torch.tensor(view.lengths))

    def encoder(self) -> ViewEncoder:
        return sequence_encoder(
            self.how.sequence_encoder, len(self.mean), hidden=self.how.sequence_hidden
        )


def _inside(view: Sequences) -> NDArray[np.bool_]:
    return np.asarray(np.arange(view.values.shape[1]) < view.lengths[:, None])


def _padded(tokens: Sequence[Sequence[int]]) -> _Rows:
    lengths = [min(len(row), LONGEST) for row in tokens]
    values = torch.zeros(len(tokens), max(lengths), dtype=torch.long)
    for row, (length, numbers) in enumerate(zip(lengths, tokens, strict=True)):
        values[row, :length] = torch.tensor(numbers[:length])
    return _Rows(values, torch.tensor(lengths))


class _WordReader(_Reader):
    """Words of the train rows by number; 0 is padding, 1 whatever is rare or unknown."""

    def __init__(self, view: Texts, how: InputOptions) -> None:
        self.how = how
        counts = Counter(word for text in view for word in self._words(text))
        kept = sorted(word for word, count in counts.items() if count >= RARE)
        self.numbers = {word: number for number, word in enumerate(kept, start=2)}

    @staticmethod
    def _words(text: str) -> list[str]:
        return WORD.findall(text.lower()) or [""]

    def read(self, view: Texts) -> _Rows:
        return _padded([[self.numbers.get(w, 1) for w in self._words(text)] for text in view])

    def encoder(self) -> ViewEncoder:
        return WordEncoder(
            len(self.numbers) + 2,
            width=EMBEDDING,
            hidden=self.how.sequence_hidden,
            kind=self.how.sequence_encoder,
        )


class _FrozenRows(_Rows):
    """Token numbers of texts, given out as the states of a model's frozen lower layers."""

    def __init__(self, tokens: _Rows, lower: PretrainedText, device: torch.device) -> None:
        super().__init__(tokens.values, tokens.lengths)
        self.lower = lower
        self.device = device
        self.cache: list[Tensor] | None = None
        assert tokens.lengths is not None  # noqa: S101
        if int(tokens.lengths.sum()) <= KEPT:
            self.cache = [torch.empty(0)] * len(tokens.lengths)
            for block in _blocks(tokens.lengths.numpy()):
                states = self._states(block)
                for place, row in enumerate(block):
                    self.cache[row] = states.values[place, : int(states.lengths[place])].clone()

    @torch.no_grad()
    def _states(self, rows: NDArray[np.int64]) -> Padded:
        numbers = super().batch(rows)
        assert isinstance(numbers, Padded)  # noqa: S101
        return Padded(self.lower.states(_to_padded(numbers, self.device)).cpu(), numbers.lengths)

    def batch(self, rows: NDArray[np.int64]) -> ViewInput:
        if self.cache is None:
            return self._states(rows)
        assert self.lengths is not None  # noqa: S101
        padded = nn.utils.rnn.pad_sequence([self.cache[row] for row in rows], batch_first=True)
        return Padded(padded, self.lengths[rows])


class _PretrainedReader(_Reader):
    """Tokens of a pretrained model, run through its frozen layers once.

    Where nothing of the model is trained, its vectors are all that is left.
    """

    def __init__(self, how: InputOptions, device: torch.device) -> None:
        self.name = how.text_encoder
        self.device = device
        self.tokenise = load_tokenizer(how.text_encoder)
        self.model = PretrainedText(
            how.text_encoder,
            trained_layers=how.text_layers,
            half=half_precision(how.precision, device),
        ).to(device)
        self.frozen = how.text_layers == 0
        self.lower = None if self.frozen else split_frozen(self.model)

    def _numbers(self, view: Texts) -> Sequence[Sequence[int]]:
        """Token numbers, those that the view brings where it brings some."""
        if not isinstance(view, TokenTexts):
            found: list[list[int]] = self.tokenise(
                list(view.values), truncation=True, max_length=LONGEST
            )["input_ids"]
            return found
        largest, known = max(int(row.max()) for row in view.tokens), len(self.tokenise)
        if largest >= known:
            raise DataError(
                f"the text view has token number {largest} but text_encoder="
                f"{self.name!r} knows {known} tokens; give the encoder that the "
                "numbers belong to, or import the words with --text raw."
            )
        return [row.tolist() for row in view.tokens]

    def read(self, view: Texts) -> _Rows:
        rows = _padded(self._numbers(view))
        if self.lower is not None:
            return _FrozenRows(rows, self.lower, self.device)
        if not self.frozen:
            return rows
        assert rows.lengths is not None  # noqa: S101
        vectors = torch.empty(len(view), self.model.outputs)
        self.model.eval()
        with torch.no_grad():
            for block in _blocks(rows.lengths.numpy()):
                vectors[block] = self.model(_to(rows.batch(block), self.device)).cpu()
        return _Rows(vectors)

    def encoder(self) -> ViewEncoder:
        return TableEncoder(self.model.outputs) if self.frozen else self.model


def _blocks(lengths: NDArray[np.int64], size: int = 64) -> list[NDArray[np.int64]]:
    """All rows in blocks of like length."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


def _to_padded(view: Padded, device: torch.device) -> Padded:
    return Padded(view.values.to(device), view.lengths.to(device))


def _to(view: ViewInput, device: torch.device) -> ViewInput:
    return _to_padded(view, device) if isinstance(view, Padded) else view.to(device)


@dataclass(frozen=True)
class PreparedViews:
    """Rows ready to be drawn in batches.

    Attributes
    ----------
    views : tuple
        Prepared rows of each view.
    lengths : ndarray of int of shape (n,)
        Steps of each row's longest sequence or text; 1 where there is none.
    device : torch.device
    """

    views: tuple[_Rows, ...]
    lengths: NDArray[np.int64]
    device: torch.device

    def __call__(self, rows: NDArray[np.int64]) -> list[ViewInput]:
        """Inputs of some rows, padded to the longest of them."""
        return [_to(view.batch(rows), self.device) for view in self.views]

    def blocks(self, size: int = 256) -> list[NDArray[np.int64]]:
        """All rows in blocks of like length, for prediction."""
        return _blocks(self.lengths, size)


class ViewReaders:
    """The readers of all views; fit them on train rows with `fit`."""

    def __init__(self, readers: Sequence[_Reader], device: torch.device) -> None:
        self.readers = tuple(readers)
        self.device = device

    @classmethod
    def fit(cls, views: MultiView, how: InputOptions, *, device: torch.device) -> Self:
        """Learn statistics and vocabularies of train rows."""

        def reader(view: ViewArray) -> _Reader:
            if isinstance(view, Sequences):
                return _SequenceReader(view, how)
            if isinstance(view, Texts):
                words = how.text_encoder == "words"
                return _WordReader(view, how) if words else _PretrainedReader(how, device)
            return _TableReader(view, how)

        return cls([reader(view) for view in views.arrays], device)

    def read(self, views: MultiView) -> PreparedViews:
        """Prepare rows with what `fit` learned."""
        rows = tuple(
            reader.read(view) for reader, view in zip(self.readers, views.arrays, strict=True)
        )
        lengths = np.ones(views.n_samples, dtype=np.int64)
        for view in rows:
            if view.lengths is not None:
                lengths = np.maximum(lengths, view.lengths.numpy())
        return PreparedViews(rows, lengths, self.device)

    def encoders(self) -> list[ViewEncoder]:
        """Make new encoders, in the order of the views; drawn from torch's current state."""
        return [reader.encoder() for reader in self.readers]
