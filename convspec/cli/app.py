"""The ``convspec`` command.

Exit status 0: nothing unexpected; 1: something unexpected; 2: the request itself is wrong, or a file or the output
cannot be read or written; 130: interrupted; 141: the reader of the output has closed it.
"""

from __future__ import annotations

import atexit
import os
from typing import Annotated

import typer

from convspec.cli import (
    adapters,
    check,
    diagnose,
    explain,
    fuzz,
    gate,
    judge,
    layer,
    models,
    replay,
    report,
    tool_server,
    vectors,
    verify,
)
from convspec.cli.console import print_text, report_errors
from convspec.cli.streams import standard_streams

app = typer.Typer(
    name="convspec",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Explain convolution layers, port them between frameworks, and check that all compute the same numbers.",
)


def main() -> None:
    """Run the command, and end the process: what frameworks do at an interpreter's end takes seconds, and has hung."""
    status: list[int] = []
    atexit.register(_end, status)  # before any framework's, so that it is the last
    try:
        run()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            status.append((ended.code or 0) & 0xFF)
        raise


def _end(status: list[int]) -> None:
    if status:
        os._exit(status[0])


def run() -> None:
    """Run the command; the oracle's linear algebra uses one thread per process."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported; workers get their own value
    with standard_streams():
        app()


app.command(epilog=check.EXAMPLES)(report_errors(check.check))
app.command(epilog=replay.EXAMPLES)(report_errors(replay.replay))
app.command(epilog=fuzz.EXAMPLES)(report_errors(fuzz.fuzz))
app.command()(report_errors(adapters.adapters))
app.command(epilog=layer.SOURCE_EXAMPLES)(report_errors(layer.source))
app.command(epilog=layer.SHOW_EXAMPLES)(report_errors(layer.show))
app.command(epilog=diagnose.EXAMPLES)(report_errors(diagnose.diagnose))
app.command(epilog=explain.EXAMPLES)(report_errors(explain.explain))
app.command(epilog=models.COMPARE_EXAMPLES)(report_errors(models.compare))
app.command(epilog=models.PORT_EXAMPLES)(report_errors(models.port))
app.command(epilog=models.WEIGHTS_EXAMPLES)(report_errors(models.weights))
app.command(epilog=judge.EXAMPLES)(report_errors(judge.judge))
app.command(epilog=verify.EXAMPLES)(report_errors(verify.verify))
app.command(epilog=tool_server.EXAMPLES)(report_errors(tool_server.mcp))
app.command(epilog=gate.EXAMPLES)(report_errors(gate.gate))
app.add_typer(vectors.app)
app.add_typer(report.app)


@app.callback(invoke_without_command=True)
def _options(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        import convspec

        print_text(f"convspec {convspec.__version__}")
        raise typer.Exit
