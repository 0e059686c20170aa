"""The command `audit`: whether methods' uncertainty is what critics of evidential learning ask."""

from __future__ import annotations

import json
from typing import Any

import click

from rcml_misa.cli import options as opt
from rcml_misa.cli.console import echo, echo_json, write_texts
from rcml_misa.cli.run import protocol_text
from rcml_misa.cli.session import run_session
from rcml_misa.exceptions import OptionError

__all__ = ["audit"]

DEFAULTS = ("rcml-misa", "rcml", "kernel-expert", "deep-ensemble", "softmax")
_METHODS = f"Methods to audit.  [default: {','.join(DEFAULTS)}]"
_PARTS = "all, or of detection, rows, entropy, sensitivity, selection, conformal."


@click.command()
@opt.dataset_option
@opt.data_options("file", "task", "split", "folder")
@opt.value("--methods", "NAME[,NAME]", _METHODS)
@opt.method_options
@opt.repeats_options
@opt.workers_options
@opt.value("--parts", "A[,B]", _PARTS, default="all")
@opt.keeping_options("Write tables and figures here, and a record per run.")
@opt.json_option
@click.pass_context
def audit(
    ctx: click.Context,
    name: str,
    data: opt.DataOptions,
    methods: str | None,
    settings: opt.MethodOptions,
    repeats: opt.Repeats,
    workers: opt.Workers,
    parts: str,
    keeping: opt.Keeping,
    as_json: bool,
) -> None:
    """Ask what critics of evidential learning ask, of every method on R splits.

    Does uncertainty find errors, conflict, far rows and classes never seen? Does it fall with
    train rows, say more than the entropy of the probabilities, and stay where the weights of the
    loss change? What do rows that are kept gain, and do 90 % sets hold where a view lies or is
    missing? Up to nine fits for each method and run: --parts leaves some out.
    """
    from rcml_misa.protocols import Protocol
    from rcml_misa.reporting import render, terminal_width
    from rcml_misa.reporting.audit import audit_json, audit_tables
    from rcml_misa.reporting.figures import draw_audit
    from rcml_misa.runs.audit import HELD_BACK, parse_parts

    asked = parse_parts(parts)
    if data.task == "regression":
        raise OptionError("an audit asks about classes; give --task 2, 3 or 7, not regression.")
    recipes = settings.recommended(",".join(DEFAULTS) if methods is None else methods)
    dataset = data.load(name)
    if dataset.task != "classification":
        raise OptionError(f"an audit asks about classes and {name} has scores; give --task 3.")
    protocol = Protocol(valid_share=HELD_BACK)
    session = run_session(
        [dataset],
        recipes,
        repeats,
        workers=workers,
        keeping=keeping,
        protocol=protocol,
        parts=asked,
    )
    if session.records and not session.interrupted:
        tables = audit_tables(session.records)
        count = max(record.run for record in session.records) + 1
        seeds = f"1 run, seed {repeats.seed}"
        if count > 1:
            seeds = f"{count} runs, seeds {repeats.seed} to {repeats.seed + count - 1}"
        how = f"{seeds}, {protocol_text(dataset, protocol)}"
        facts: dict[str, Any] = {"dataset": dataset.name, "seed": repeats.seed, "runs": count}
        record = audit_json(session.records, **facts, parts=list(asked), how=how)
        heading = f"{dataset.name}: {how}"
        files = "not kept; add --out DIR to keep tables, figures and a JSON per run"
        if (out := keeping.out) is not None:
            texts = {f"audit-{key}.csv": render([table], "csv") for key, table in tables.items()}
            texts["audit.md"] = f"{heading}\n\n{render(list(tables.values()), 'markdown')}"
            texts["audit.json"] = json.dumps(record, allow_nan=False)
            write_texts(out, texts)
            names = [*texts, *(path.name for path in draw_audit(session.records, out))]
            files = f"{out} ({', '.join(names)}; a JSON per run in {keeping.folder})"
        elif keeping.folder is not None:
            files = f"{keeping.folder} (a JSON per run)"
        if as_json:
            echo_json(record)
        else:
            echo(heading)
            shown = render(list(tables.values()), "text", width=terminal_width())
            click.echo(f"\n{shown}\n")
            echo(f"records: {files}")
    ctx.exit(session.status)
