"""Commands carried out in this process, for tests of the command line."""

from click.testing import CliRunner

from rcml_misa.cli import main


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def done(*words):
    result = call(*words)
    assert result.exit_code == 0, result.stderr
    return result
