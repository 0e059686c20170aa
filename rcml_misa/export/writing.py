"""Graphs of fitted estimators written as ONNX files, checked and compared with the estimators."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from rcml_misa.estimators.registry import load_with_header
from rcml_misa.exceptions import DataError, OptionError, shortened
from rcml_misa.export.models import Exportable
from rcml_misa.export.operators import OPSET, translations
from rcml_misa.storage import check_writable, whole_file

if TYPE_CHECKING:
    import onnx_ir

__all__ = ["InputType", "export_onnx"]

InputType = Literal["float64", "float32"]
TOLERANCE = 1e-3  # of a graph that can be trusted at all
PLACEHOLDER_ROWS = 3  # of the inputs by which a graph is traced
AXIS = "rows"
LOGGERS = ("torch.onnx", "torch.export", "torch.__trace", "onnx_ir", "onnxscript")


def export_onnx(
    model: Any, path: str | Path, *, input_type: InputType = "float64"
) -> dict[str, Any]:
    """Write a fitted model as an ONNX graph, which answers as the model does without this package.

    The graph has an input (rows, columns) per view, under the view's name, with any number of
    rows; NaN in a view's row stands for a missing view. A classifier has the outputs
    ``probability`` (rows, classes), as `predict_proba` gives them, ``evidence`` (rows, classes),
    ``uncertainty`` (rows,), ``conflict`` (rows,) and, where the method states them, the views' own
    evidence ``views`` (rows, views, classes). A regressor has ``score`` and ``scale``, (rows,), and
    ``view_scores`` and ``view_scales``, (rows, views). The metadata hold views, columns, classes in
    their order and the model's sha256 as JSON.

    Parameters
    ----------
    model : estimator, Pipeline, str or Path
        A fitted model without stored train rows, on tables, or the file of one: RCML-MISA with
        ``expert="ridge"`` or ``"none"``, `RidgeExpertClassifier`, `RCMLMISARegressor`, RCML, TMC,
        ETMC, CCML, EDL and its relatives. Gaps that a `TablePreparer` fills are filled in the
        graph; behind any other step the graph begins with the prepared columns.
    path : str or Path
        An existing file is replaced.
    input_type : {"float64", "float32"}
        Type of inputs and outputs. Of values that are no float32 numbers, a graph of float32 reads
        the nearest ones.

    Returns
    -------
    dict
        ``file``, ``bytes``, ``opset``, ``inputs`` and ``outputs`` (names and shapes), ``notes``,
        and ``largest_difference`` from the model on a few drawn rows, relative where a value is
        above 1, or None where onnxruntime is not installed; and what the metadata hold.

    Raises
    ------
    OptionError
        If the model can't be exported, or the extra ``onnx`` is not installed.
    DataError
        If the model or the file can't be read or written, or the graph differs from the model.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from rcml_misa import KernelExpertClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> export_onnx(KernelExpertClassifier(views=[2, 2]).fit(X, y), "iris.onnx")
    Traceback (most recent call last):
    rcml_misa.exceptions.OptionError: the KernelExpertClassifier has kernel experts, which keep ...
    """
    if input_type not in get_args(InputType):
        choices = ", ".join(get_args(InputType))
        raise OptionError(f"input_type={input_type!r} does not exist; choose from {choices}.")
    out, sha256 = Path(path), None
    if isinstance(model, str | Path):
        if out.resolve() == Path(model).resolve():
            raise OptionError(f"{shortened(out, 140)} is the model itself; give another file.")
        model, header = load_with_header(model, device="cpu")
        sha256 = header.get("sha256")
    exportable = Exportable.of(model)
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript")):
        raise OptionError(
            "an export needs onnx, which is not installed: pip install 'rcml-misa[onnx]'."
        )
    check_writable(out)
    facts = {**exportable.facts(), "model_sha256": sha256}
    dtype = {"float64": torch.float64, "float32": torch.float32}[input_type]
    with _quiet():
        graph = _traced(exportable, dtype)
        inputs, outputs = _named(graph, exportable, facts)
        proto = _checked(graph)
    content = proto.SerializeToString()
    difference = _difference(content, exportable, inputs, dtype)
    with whole_file(out) as temporary:
        temporary.write_bytes(content)
    return {
        "file": str(out),
        "bytes": len(content),
        "opset": OPSET,
        "input_type": input_type,
        "inputs": inputs,
        "outputs": outputs,
        "largest_difference": difference,
        **facts,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's own messages from the user, whom they do not concern."""
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _traced(exportable: Exportable, dtype: torch.dtype) -> onnx_ir.Model:
    """Trace the graph, and fold what is constant or there twice.

    The exporter's own optimisation takes constants below 1e-8 for 0, such as those that keep
    logarithms finite, and is left out.
    """
    from onnx_ir.passes import common as library
    from onnxscript.optimizer import fold_constants

    graph = exportable.graph
    rows = torch.export.Dim(AXIS)
    tables = tuple(torch.zeros(PLACEHOLDER_ROWS, width, dtype=dtype) for width in exportable.widths)
    shapes = (tuple({0: rows} for _ in tables),)
    program = torch.export.export(graph, tables, dynamic_shapes=shapes)
    program.graph_module.graph.eliminate_dead_code()
    exported = torch.onnx.export(
        program,
        dynamo=True,
        dynamic_shapes=shapes,
        opset_version=OPSET,
        custom_translation_table=dict(translations()),
        optimize=False,
        verbose=False,
    )
    if exported is None:  # of other signatures of `export` alone
        raise AssertionError
    model: onnx_ir.Model = exported.model
    fold_constants(model)
    common: Any = library
    passes = (
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.RemoveUnusedFunctionsPass(),
        common.RemoveUnusedOpsetsPass(),
        common.ClearMetadataAndDocStringPass(),  # they hold paths of this machine
    )
    for each in passes:
        each(model)
    return model


def _named(
    model: onnx_ir.Model, exportable: Exportable, facts: Mapping[str, Any]
) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """Name inputs and outputs, tell the facts, and return the names with their shapes."""
    outputs = exportable.graph.answers.outputs
    views = exportable.estimator.view_names_
    names: list[str] = []
    for view in views:  # one of an output's name gets another one
        name = str(view)
        while name in outputs or (name != view and name in (*views, *names)):
            name += " view"
        names.append(name)
    public = [*names, *outputs]
    mark = "_"
    while any(name.startswith(mark) for name in public):
        mark += "_"
    graph = model.graph
    inner = [value for node in graph for value in node.outputs]
    for value in [*graph.initializers.values(), *inner, *graph.inputs, *graph.outputs]:
        if value.name:
            value.name = f"{mark}{value.name}"
    for value, name in zip([*graph.inputs, *graph.outputs], public, strict=True):
        value.name = name
    graph.name = model.producer_name = "rcml-misa"
    model.producer_version = facts["version"]
    told = {**facts, "inputs": dict(zip(views, names, strict=True))}
    for key, value in told.items():
        model.metadata_props[key] = json.dumps(value, allow_nan=False)
    return tuple(  # type: ignore[return-value]
        {str(value.name): [_size(size) for size in value.shape or ()] for value in values}
        for values in (graph.inputs, graph.outputs)
    )


def _size(size: Any) -> int | str:
    return size if isinstance(size, int) else str(getattr(size, "value", size))


def _checked(model: onnx_ir.Model) -> Any:
    """Turn the graph into a message of protobuf, once it is a valid one."""
    import onnx
    import onnx_ir

    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def _difference(
    content: bytes, exportable: Exportable, inputs: Iterable[str], dtype: torch.dtype
) -> float | None:
    """Compare the graph's answers with the model's on drawn rows; None without onnxruntime."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    tables = exportable.trial_rows(dtype)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feed = {name: table.numpy() for name, table in zip(inputs, tables, strict=True)}
    answers = dict(zip(exportable.graph.answers.outputs, session.run(None, feed), strict=True))
    largest = 0.0
    for name, own in exportable.answers(tables).items():
        apart = np.abs(answers[name] - own) / np.maximum(np.abs(own), 1)
        largest = max(largest, float(apart.max(initial=0.0)))
        if not np.isfinite(apart).all() or largest > TOLERANCE:
            raise DataError(
                f"the graph's {name} is {apart.max():.3g} away from the model's, so that nothing "
                "is written; report this with the model's options."
            )
    return largest
