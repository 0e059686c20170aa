"""The command `inspect`: what a model file holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["inspect"]


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(model: Path, as_json: bool) -> None:
    """Show what the model file MODEL was fitted on, with which options, and what it keeps."""
    from rcml_misa.cli.fit import landmark_note, megabytes
    from rcml_misa.estimators.files import load_with_header
    from rcml_misa.persistence import describe

    fitted, header = load_with_header(model, device="cpu")
    facts = describe(fitted, header, model)
    if as_json:
        click.echo(json.dumps(facts, allow_nan=False))
        return
    about = facts["about"] if isinstance(facts["about"], dict) else {}
    target = "none, scores are predicted"
    if facts["classes"] is not None:
        classes = [str(label) for label in facts["classes"]]
        more = ", ..." if classes[12:] else ""
        target = f"{len(classes)}: {', '.join(classes[:12])}{more}"
    shown = {
        "file": f"{model} ({megabytes(facts['bytes'])}, format version {facts['format_version']})",
        "method": f"{about.get('method', facts['method'])} ({facts['method']})",
        "views": ", ".join(f"{name} {width}" for name, width in facts["views"].items()),
        "classes": target,
        "data": f"{about.get('dataset', 'unnamed')}, {facts['train_rows']} rows, sha256 of rows "
        f"{facts['data_sha256']}",
        "options": ", ".join(f"{name}={value}" for name, value in facts["options"].items()),
        "network": f"{facts['network_parameters']} parameters",
        "versions": ", ".join(f"{name} {one}" for name, one in (facts["versions"] or {}).items()),
    }
    for name, text in shown.items():
        click.echo(f"{name:<11}{text}")
    key, _, note = landmark_note(facts["landmark_rows"], facts["train_rows"]).partition(": ")
    click.echo(f"{key:<11}{note}")
