"""The command `export`: a model file as a graph of another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, echo_json, file_size, listed, refuse_same

if TYPE_CHECKING:
    from rcml_misa.export import InputType

__all__ = ["export"]


@click.command()
@click.argument("model", type=opt.PATH)
@click.option("--to", "form", type=click.Choice(["onnx"]), required=True, help="Form of the graph.")
@opt.value("--out", "FILE", "File of the graph.", opt.PATH, required=True)
@click.option(
    "--input-type",
    type=click.Choice(["float64", "float32"]),
    default="float64",
    show_default=True,
    help="Type of the inputs and outputs.",
)
@opt.json_option
def export(model: Path, form: str, out: Path, input_type: InputType, as_json: bool) -> None:  # noqa: ARG001
    """Write the model file MODEL as a graph that answers without this package.

    MODEL must keep no train rows (`fit --no-landmarks`, or a method that is a network) and read
    tables alone. The graph is checked, and compared with the model on a few drawn rows.
    """
    from rcml_misa.export import export_onnx

    refuse_same(out, model)
    facts = export_onnx(model, out, input_type=input_type)
    for note in facts["notes"]:
        echo(f"note: {note}", err=True)
    if as_json:
        echo_json(facts)
        return
    click.echo(f"written: {out} ({file_size(facts['bytes'])}, ONNX operators {facts['opset']})")
    for kind in ("inputs", "outputs"):
        shapes = {name: " x ".join(map(str, shape)) for name, shape in facts[kind].items()}
        echo(f"{kind}: {listed(shapes)}")
    if facts["largest_difference"] is None:
        echo("not compared with the model: onnxruntime is not installed")
    else:
        echo(f"largest difference from the model: {facts['largest_difference']:.1e} on drawn rows")
