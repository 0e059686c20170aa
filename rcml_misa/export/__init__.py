"""Fitted models as graphs of other runtimes: readings, members, networks and fusion in torch."""

from rcml_misa.export.writing import InputType, export_onnx

__all__ = ["InputType", "export_onnx"]
