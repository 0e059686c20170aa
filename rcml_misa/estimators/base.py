"""Bases of all estimators: checks of rows, columns, targets and weights; opinions in blocks."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data
from torch import Tensor

from rcml_misa.calibration import Calibrator, choose_calibrator
from rcml_misa.callbacks import CallbackSupport
from rcml_misa.exceptions import DataError, PresenceWarning, shortened
from rcml_misa.options import check_options
from rcml_misa.persistence import save
from rcml_misa.reading.rows import LABELS, class_codes, hold_out, row_weights
from rcml_misa.views import (
    ColumnNames,
    MultiView,
    ViewMeans,
    as_multiview,
    constant_views,
    data_sha256,
    holds_views,
    judge_presence,
    match_columns,
    match_target,
    opened,
    refuse_huge,
    refuse_raw,
    refuse_sequences,
    row_index,
    with_absent_views,
)
from rcml_misa.views.sequences import LARGEST

__all__ = [
    "ClassWeight",
    "MultiViewClassifier",
    "MultiViewEstimator",
    "MultiViewRegressor",
    "TrainRows",
]

Array = NDArray[np.float64]
ClassWeight = Literal["balanced"] | Mapping[Any, float] | None
BLOCK, ENTRIES = 4096, 2**24  # rows, and entries, whose opinions are computed at once
APART = (1 << 30,)  # place of the draw of calibration rows among a seed's, which fits number from 0


class TrainRows(NamedTuple):
    """Checked train rows: views, class numbers, and weights of mean 1 or None."""

    views: MultiView
    codes: NDArray[np.int64]
    weights: Array | None

    def take(self, rows: NDArray[np.int64]) -> TrainRows:
        """Select some of the rows."""
        weights = None if self.weights is None else self.weights[rows]
        return TrainRows(self.views.take(rows), self.codes[rows], weights)

    def looked(self, rows: NDArray[np.int64]) -> TrainRows:
        """Select rows by sorted numbers, without a copy where these are all."""
        return self if len(rows) == len(self.codes) else self.take(rows)


class MultiViewEstimator(CallbackSupport, BaseEstimator):  # type: ignore[misc]
    """Base of all multi-view estimators, which check their options and rows alike.

    Parameters that several estimators have mean the same in each of them. Every `fit` raises a
    DataError or an OptionError if the data or an option can't be used, whose sentence says which
    and why.

    Parameters
    ----------
    views : list, dict, str or None
        Column groups of a 2-D X; see `rcml_misa.views.as_multiview`.
    scaling : {"minmax", "standard", "quantile", "none"}
        Column scaling of tables, fitted on train rows; see
        `rcml_misa.reading.features.FeatureMap`.
    features : {"root-layernorm", "root", "plain", "quantile"}
        Features computed of a table's scaled columns; see `FeatureMap`.
    sequence_encoder : {"lstm", "gru", "transformer", "mean", "max", "attention"}
        Encoder of sequence views, and of texts with ``text_encoder="words"``.
    sequence_hidden : int
        Units of it, per direction for the recurrent ones, whose output is four times as wide.
    text_encoder : str
        Encoder of text views: ``"minilm"`` (packaged; extra `text`), ``"words"`` (a trained
        embedding, no extra), the name of a model on the Hugging Face hub, or a folder with one.
    text_layers : int or None
        Upper layers of a pretrained text encoder that are fine-tuned; 0 freezes it (its vectors
        are then computed once), None trains all of it.
    precision : {"auto", "float32", "bfloat16"}
        Precision of the pretrained text encoder; ``"auto"`` is bfloat16 where the processor
        has it.
    hidden, heads, feedforward, layers : int
        Width H of the tokens, and the Transformer's heads, feed-forward width and layers.
    epochs : int
        Passes over the train rows, the most of them with early stopping.
    batch_size : int
        Rows of a batch.
    learning_rate, text_learning_rate, weight_decay : float
        Learning rate, that of a pretrained text encoder, and weight decay of matrices.
    class_weight : {"balanced"}, dict or None
        Weights of the classes' rows; see `rcml_misa.reading.rows.row_weights`.
    suspect : {"report", "exclude"}
        Whether a view that does not seem to belong to its row is only named, or also left out of
        the answer where it is clearly the suspect; see `MultiViewOpinion.without_suspect`.
    early_stopping : bool
        Whether training ends once the loss on validation rows has not fallen for `patience`
        epochs; the best epoch is then kept instead of the last.
    validation_fraction : float
        Share of the train rows held out for it, in (0, 1), from kernel experts too.
    calibration_fraction : float
        Share of the train rows, in [0, 1), that the model is not fitted on and no epoch is chosen
        on, so that its probabilities, or its scales, are calibrated on what it says of them. 0
        leaves a method as it was published.
    patience : int or None
        Epochs without a lower validation loss before training ends; None, where it is taken,
        never ends it.
    device : {"auto", "cpu", "cuda"}
        Device of the network; ``"auto"`` is CUDA where there is one.
    random_state : int, optional
        Seed of every draw; a new one each time by default.

    Attributes
    ----------
    view_names_ : tuple of str
        Views in their order.
    widths_ : tuple of int
        Columns of each view.
    kinds_ : tuple of str
        Kind of each view: dense, sparse, sequence or text.
    view_columns_ : tuple of (tuple of str or int, or None), or None
        Names of each view's columns, where X held tables with such; new ones are matched by them.
    n_features_in_ : int
        Columns of a 2-D X, else of all views together.
    feature_names_in_ : ndarray of str
        Names of the columns, only where X was a DataFrame.
    train_rows_ : int
        Number of rows given to `fit`.
    data_sha256_ : str
        Hash of the train rows; see `rcml_misa.views.data_sha256`.
    set_aside_ : tuple of str
        Views whose presence tells the class (`rcml_misa.views.judge_presence`), read as a
        constant in every row, and without an opinion; of classifiers alone.
    module_ : torch.nn.Module
        Trained network, where there is one, on `device_`.
    readers_ : ViewReaders
        Readers of the views, where each has an encoder.
    history_ : dict of str to list of float
        Mean of each loss term per epoch; with ``valid`` before its name on validation rows.
    suspect_limits_ : tuple of float
        See `suspect_limits`, of methods that give opinions of single views.
    calibrator_ : Calibrator or None
        Calibration of a classifier's `predict_proba`, only with a `calibration_fraction`; None
        where it would not better what the method states, or has fewer than 5 rows. See
        `rcml_misa.calibration.choose_calibrator`.
    """

    views: Any = None
    random_state: int | None = None
    calibration_fraction: float | None = 0.0
    device_: torch.device
    view_columns_: tuple[ColumnNames, ...] | None = None  # not in older model files
    set_aside_: tuple[str, ...] = ()  # older model files, regressors and most data have none
    _reads_sequences: ClassVar[bool] = False
    _streams: ClassVar[bool] = False  # whether `fit` reads memory maps block by block
    _savable: ClassVar[bool] = True  # by `save`, whose files `rcml_misa.load` reads
    _needed: ClassVar[tuple[str, ...]] = ()  # fitted names that files of older versions lack
    # whether a missing view's opinion is left out; other methods get train means in its place
    _leaves_out_missing: ClassVar[bool] = False

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _read_views(self, X: Any) -> MultiView:
        """Validate options and the views to train on."""
        check_options(self)
        views = as_multiview(X, views=self.views)
        refuse_raw(views)
        if not self._reads_sequences:
            refuse_sequences(views, type(self).__name__)
        return views

    def _remember(self, X: Any, views: MultiView, target: NDArray[Any]) -> None:
        """Set the fitted attributes that identify the train rows."""
        check_presence(views)
        for name, array in zip(views.names, views.arrays, strict=True):
            refuse_huge(name, array)
        for name in ("view_columns_", "feature_names_in_"):  # of an earlier fit
            self.__dict__.pop(name, None)
        if holds_views(X):
            if any(columns is not None for columns in views.column_names):
                self.view_columns_ = views.column_names
            self.n_features_in_ = sum(views.widths)
        else:
            validate_data(self, X, skip_check_array=True)
        self.view_names_, self.widths_, self.kinds_ = views.names, views.widths, views.kinds
        self.train_rows_, self.data_sha256_ = views.n_samples, data_sha256(views, target)

    def _fill(self, views: MultiView) -> MultiView:
        """Fill missing views of train rows with means, for methods that can't leave them out."""
        if self._leaves_out_missing:
            return views
        self.view_means_ = ViewMeans.fit(views)
        return self.view_means_.fill(views)

    def _draw_apart(
        self, target: NDArray[Any], *, each_class: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw rows to calibrate on, from a seed of their own: the others' numbers, and theirs."""
        fraction = self.calibration_fraction or 0.0
        rows, apart = hold_out(
            target,
            fraction,
            np.random.default_rng(np.random.SeedSequence(self.random_state, spawn_key=APART)),
            each_class=each_class,
            asked=f"calibration_fraction={fraction} sets rows apart",
        )
        if not len(rows):
            raise DataError(
                f"X has {len(target)} sample(s), which leave none to fit on beside those set "
                "apart; give more rows, or calibration_fraction=0."
            )
        return rows, apart

    def _check_rows(self, X: Any) -> MultiView:
        """Validate rows to predict against what `fit` saw, and fill missing views with means."""
        views = self._given_rows(X)
        return views if self._leaves_out_missing else self.view_means_.fill(views)

    def _given_rows(self, X: Any) -> MultiView:
        """Validate rows to predict against what `fit` saw; views stay missing."""
        check_is_fitted(self)
        nameless = isinstance(X, MultiView)  # its columns may have lost their names on the way
        if self.views is None:
            X = with_absent_views(X, names=self.view_names_, widths=self.widths_)
        views = as_multiview(X, views=self.views)
        refuse_raw(views)
        if not holds_views(X):
            try:
                validate_data(self, X, reset=False, skip_check_array=True)
            except ValueError as error:
                raise DataError(str(error)) from error
        if views.names != self.view_names_:
            raise DataError(
                f"X has the views {', '.join(views.names)} but fit saw "
                f"{', '.join(self.view_names_)}; give the same ones, for instance as a dict."
            )
        views = match_columns(views, self.view_columns_, warn=not nameless)
        for name, width, seen in zip(views.names, views.widths, self.widths_, strict=True):
            if width != seen:
                raise DataError(
                    f"view {name!r} has {width} columns but fit saw {seen}; give the same columns."
                )
        for name, kind, seen_kind in zip(views.names, views.kinds, self.kinds_, strict=True):
            if kind != seen_kind and {kind, seen_kind} & {"sequence", "text"}:
                raise DataError(
                    f"view {name!r} is of kind {kind} but fit saw the kind {seen_kind}."
                )
        return constant_views(views, self.set_aside_)

    def _per_row(self, X: Any, values: Any, what: str = "y") -> Any:
        """Match one value per row, such as a target, with the rows of X by their index."""
        one_table = X.one_table if isinstance(X, MultiView) else not holds_views(X)
        return opened(what, match_target(row_index(X), values, what, one_table=one_table))

    def _heard(self, views: MultiView) -> NDArray[np.bool_]:
        """Mask of the views that each checked row has and that are not set aside, (n, N)."""
        aside = np.isin(self.view_names_, self.set_aside_)
        return np.asarray(views.present & ~aside)

    def save(self, path: str | Path) -> None:
        """Write the fitted model into one file, which `rcml_misa.load` reads.

        The file is of the safetensors format with a JSON header; nothing in it can be executed.
        Kernel experts keep rows of the train data in it. The frozen part of a pretrained text
        encoder stays outside: the file has its name and sha256.

        Raises
        ------
        DataError
            If the file can't be written, or the model holds what such a file can't.
        """
        save(self, path)


class MultiViewClassifier(ClassifierMixin, MultiViewEstimator):  # type: ignore[misc]
    """Base of the multi-view classifiers; see `MultiViewEstimator` for the other attributes.

    Attributes
    ----------
    classes_ : ndarray of shape (K,)
        Labels in order.
    class_shares_ : ndarray of shape (K,)
        Shares of the classes among the train rows, by their weights.
    """

    class_weight: ClassWeight = None
    early_stopping: bool = False
    validation_fraction: float = 0.1
    patience: int | None = 10

    def _check_train(
        self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> TrainRows:
        """Validate options and train rows, and set the fitted attributes; rows of weight > 0."""
        views = self._read_views(X)
        if y is None:
            raise DataError(
                "y is missing: this classifier requires y to be passed, but the target y is None; "
                "give one class label per row."
            )
        labels = class_labels(self._per_row(X, y))
        if len(labels) != views.n_samples:
            raise DataError(
                f"y has {len(labels)} labels but X has {views.n_samples} rows; give one per row."
            )
        sample_weight = self._per_row(X, sample_weight, "sample_weight")
        weights = row_weights(labels, sample_weight, self.class_weight)
        if weights is not None and not weights.all():
            weighed = np.flatnonzero(weights)
            views, labels = views.take(weighed), labels[weighed]
            weights = row_weights(labels, weights[weighed], None)
        self.classes_, codes = class_codes(labels)
        if len(self.classes_) < 2:
            raise DataError(
                f"y holds one class only ({self.classes_[0]}); a classifier needs two or more."
            )
        counts = np.bincount(codes, weights=weights)
        self.class_shares_ = counts / counts.sum()
        self._remember(X, views, labels)
        return self._set_aside(TrainRows(views, codes, weights))

    def _set_aside(self, rows: TrainRows) -> TrainRows:
        """Set views aside whose presence tells the class; rows without any other are left out."""
        self.__dict__.pop("set_aside_", None)  # of an earlier fit
        verdicts = judge_presence(rows.views, rows.codes)
        for verdict in verdicts:
            message = f"{verdict.describe(self.classes_)}. {verdict.consequence}"
            warnings.warn(message, PresenceWarning, stacklevel=4)
        aside = tuple(verdict.view for verdict in verdicts if verdict.verdict == "set aside")
        if not aside:
            return rows
        self.set_aside_ = aside
        rows = rows._replace(views=constant_views(rows.views, aside))
        left = np.flatnonzero(rows.views.present.any(axis=1))
        if len(left) == len(rows.codes):
            return rows
        rows = rows.take(left)
        return rows._replace(weights=row_weights(rows.codes, rows.weights, None))

    def _set_apart(self, given: TrainRows) -> tuple[TrainRows, TrainRows | None]:
        """Part train rows into those to fit on and those to calibrate on, and fill their views."""
        self.__dict__.pop("calibrator_", None)  # of an earlier fit
        if not self.calibration_fraction:
            return given._replace(views=self._fill(given.views)), None
        rows, apart = self._draw_apart(given.codes, each_class=True)
        train, new = given.take(rows), given.take(apart)
        check_presence(train.views)
        train = train._replace(views=self._fill(train.views))
        if not self._leaves_out_missing:
            new = new._replace(views=self.view_means_.fill(new.views))
        return train, new

    def _calibrate(self, apart: TrainRows | None) -> None:
        """Fit the calibrator to what the fitted model says of rows set apart, if there are any."""
        if apart is not None:
            stated = self._stated(apart.views)
            self.calibrator_: Calibrator | None = choose_calibrator(
                stated, apart.codes, apart.weights, stated=self._projected(stated)
            )

    def _hold_out(
        self, given: TrainRows, rng: np.random.Generator
    ) -> tuple[TrainRows, TrainRows | None]:
        """Part train rows into those to train on and those for early stopping, if it is asked."""
        if not self.early_stopping:
            return given, None
        rows, held = hold_out(given.codes, self.validation_fraction, rng)
        train = given.take(rows)
        check_presence(train.views)
        return train, given.take(held)

    @abstractmethod
    def _stated(self, views: MultiView) -> Array:
        """What the model states of checked rows, (n, K): evidence, or else probabilities."""

    def _projected(self, stated: Array) -> Array:
        """Probabilities (n, K) of what the model states, before calibration."""
        return stated

    def predict_proba(self, X: Any) -> Array:
        """Compute class probabilities of shape (n, K), calibrated where rows were set apart."""
        stated = self._stated(self._check_rows(X))
        calibrate = getattr(self, "calibrator_", None)
        return self._projected(stated) if calibrate is None else np.asarray(calibrate(stated))

    def predict(self, X: Any) -> NDArray[Any]:
        """Predict the most probable class of each row."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy on X, whose rows y and `sample_weight` are matched with."""
        weight = self._per_row(X, sample_weight, "sample_weight")
        return float(super().score(X, self._per_row(X, y), weight))


class MultiViewRegressor(RegressorMixin, MultiViewEstimator):  # type: ignore[misc]
    """Base of the multi-view regressors; see `MultiViewEstimator` for the other attributes.

    Attributes
    ----------
    target_mean_, target_scale_ : float
        Mean and standard deviation of the train rows' target, in its unit.
    """

    def _check_train(self, X: Any, y: ArrayLike) -> tuple[MultiView, Array]:
        """Validate options and training data, and set the attributes; views and target."""
        views = self._read_views(X)
        if y is None:
            raise DataError(
                "y is missing: this regressor requires y to be passed, but the target y is None; "
                "give one number per row."
            )
        target = target_numbers(self._per_row(X, y))
        if len(target) != views.n_samples:
            raise DataError(
                f"y has {len(target)} numbers but X has {views.n_samples} rows; give one number "
                "for each."
            )
        self._remember(X, views, target)
        return views, target

    def score(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute R squared on X, whose rows y and `sample_weight` are matched with."""
        weight = self._per_row(X, sample_weight, "sample_weight")
        return float(super().score(X, self._per_row(X, y), weight))

    def _standardise(self, target: Array) -> None:
        """Set the unit in which the network learns the target."""
        self.target_mean_, self.target_scale_ = float(target.mean()), float(target.std()) or 1.0

    def _target(self, y: ArrayLike) -> Tensor:
        """Standardise checked targets."""
        scaled = (target_numbers(y) - self.target_mean_) / self.target_scale_
        return torch.from_numpy(scaled.astype(np.float32))


def class_labels(y: ArrayLike) -> NDArray[Any]:
    """Check a classifier's target: one label per row, of shape (n,)."""
    try:
        labels = column_or_1d(y, warn=True)
        if missing := _missing(labels):
            raise DataError(missing)
        with warnings.catch_warnings():
            if len(labels) > LABELS:  # part by part a class may be rare
                warnings.filterwarnings("ignore", "The number of unique classes")
            for start in range(0, len(labels), LABELS):
                check_classification_targets(labels[start : start + LABELS])
    except DataError:
        raise
    except (TypeError, ValueError) as error:
        advice = "give one text or whole number per row"
        if np.ndim(y) == 2:
            advice = "give one label per row, such as y.argmax(axis=1) of one-hot rows"
        cause = " ".join(str(error).split("Maybe you")[0].split())
        raise DataError(f"{shortened(cause, 180).rstrip('.')}; {advice}.") from error
    return np.asarray(labels)


def _missing(labels: NDArray[Any]) -> str:
    """Say which rows have no label, None or NaN; nothing where all have one."""
    gaps = np.flatnonzero(pd.isna(labels))
    if not len(gaps):
        return ""
    return (
        f"y contains NaN or None: {len(gaps)} of {len(labels)} rows have no label (the first is "
        f"row {gaps[0]}); fill these in, or leave these rows out."
    )


def target_numbers(y: ArrayLike) -> Array:
    """Convert a regression's target to finite float64 of shape (n,)."""
    try:
        numbers = np.asarray(column_or_1d(y, warn=True), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the target of a regression must be numbers ({error}).") from error
    if not np.isfinite(numbers).all():
        raise DataError("the target has NaN or infinity; leave these rows out.")
    if (huge := np.abs(numbers) > LARGEST).any():
        raise DataError(
            f"the target has the value {numbers[huge][0]:.6g}, above {LARGEST:g} in size; correct "
            "it or leave its row out."
        )
    return numbers


def row_blocks(views: MultiView, classes: int = 1) -> Iterator[MultiView]:
    """Cut rows into blocks, in order, of at most 4096 each or 2^24 entries of all views' opinions.

    These are of so many `classes`.
    """
    rows, size = views.n_samples, max(1, min(BLOCK, ENTRIES // (len(views) * classes)))
    for start in range(0, rows, size):
        yield views if rows <= size else views.take(slice(start, start + size))


def check_presence(views: MultiView) -> None:
    """Refuse train rows without any view, and views without any row."""
    if views.complete:
        return
    present = views.present
    for name, rows in zip(views.names, present.sum(axis=0), strict=True):
        if not rows:
            raise DataError(f"view {name!r} is NaN in every row; leave it out of X.")
    if empty := int((~present.any(axis=1)).sum()):
        raise DataError(f"{empty} rows have no view at all, only NaN; leave them out of X and y.")
