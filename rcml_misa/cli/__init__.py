"""The command line: parse, call, show. Heavy imports live inside the commands."""

from __future__ import annotations

import click

from rcml_misa import __version__
from rcml_misa.cli.ablate import ablate
from rcml_misa.cli.audit import audit
from rcml_misa.cli.compare import compare
from rcml_misa.cli.console import FriendlyGroup
from rcml_misa.cli.datasets import datasets
from rcml_misa.cli.experiment import experiment
from rcml_misa.cli.export import export
from rcml_misa.cli.fit import fit, inspect
from rcml_misa.cli.predict import predict
from rcml_misa.cli.run import plot, run
from rcml_misa.cli.tune import tune

__all__ = ["main"]


@click.group(cls=FriendlyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rcml-misa")
def main() -> None:
    """Evidential classification from several views of the same samples.

    Start with `rcml-misa run`: it needs no file and no network.
    """


for _command in (
    run,
    tune,
    ablate,
    compare,
    audit,
    experiment,
    datasets,
    fit,
    predict,
    inspect,
    export,
    plot,
):
    main.add_command(_command)
